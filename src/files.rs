//! Files that others change while we run. Reading one never waits for anybody: what is no regular file is refused before it
//! is read, and there is a bound. Changing one is whole or not at all, under a lock that ends with its holder.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// What a file looked like: which one it is, how long, and when anything about it last changed, who may read it included.
/// Unlike the time of the last change of its content nobody can set the latter back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look(Option<(u64, u64, u64, i64, i64)>);

impl Look {
    /// Looks at the file that a path leads to; one that is not there looks like nothing.
    pub fn at(path: &Path) -> Self {
        let of = |found: fs::Metadata| (found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec());
        Self(fs::metadata(path).ok().map(of))
    }
}

/// Opens a regular file. A pipe would wait for whoever writes into it, and a device may have no end.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // With O_NONBLOCK the open of a pipe returns at once; for a regular file it means nothing.
    let flags = rustix::fs::OFlags::NONBLOCK.union(rustix::fs::OFlags::NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    Ok(file)
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As for [`open`]; `FileTooLarge` when there is more.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that is just as long.
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it is longer than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// The same for text.
///
/// # Errors
/// As for [`read`]; `InvalidData` when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// The right to change a file; given up when dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _lock: File,
}

impl Lock {
    /// Waits until nobody else changes the file. What is read of it from now on is still there when it is replaced.
    ///
    /// # Errors
    /// When the lock, a file beside it, cannot be made or opened.
    pub fn on(path: &Path) -> io::Result<Self> {
        // A link stays one: what it leads to is what changes.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let lock = options.open(beside(&path, ".lock"))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// Puts another content in the place of the file, with its owner and its mode; a new one is for its owner alone.
    ///
    /// # Errors
    /// What the system says, or `fill`; then the file is as it was.
    pub fn replace<E: From<io::Error>>(&self, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
        replace(&self.path, fill)
    }
}

/// Puts another content in the place of a file that nobody else changes, durably, whole or not at all: it is written beside
/// it under another name first. The owner and the mode stay; a new file is for its owner alone.
///
/// # Errors
/// What the system says, or `fill`; then the file is as it was.
pub fn replace<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let next = beside(path, ".next");
    let written = write(path, &next, fill);
    if written.is_err() {
        // Nothing was put in place; what is left of the attempt helps nobody.
        let _ = fs::remove_file(&next);
    }
    written
}

fn write<E: From<io::Error>>(path: &Path, next: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    // Whatever stands there is left of an attempt that was cut off. It is made anew, so that it is neither a link nor a pipe.
    let _ = fs::remove_file(next);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(next)?;
    if let Ok(old) = fs::metadata(path) {
        let new = file.metadata()?;
        // Who reads it now must still be able to.
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
    }
    fill(&mut file)?;
    file.sync_all()?;
    fs::rename(next, path)?;
    // The name as well, so that what was told is there after a power cut.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File::open(folder)?.sync_all()?)
}

/// A name beside another.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Makes a pipe, as nobody should put in a file's place: for tests.
///
/// # Panics
/// When there is no `mkfifo`.
#[cfg(test)]
pub fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo {}", path.display());
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        make_pipe(&pipe);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        assert_eq!(read(&pipe, 9).unwrap_err().to_string(), "it is not a file");
        assert_eq!(read(&link, 9).unwrap_err().to_string(), "it is not a file");
        assert_eq!(read(folder.path(), 9).unwrap_err().to_string(), "it is a directory");
        assert_eq!(read(&folder.path().join("none"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn there_is_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "123456789").unwrap();
        assert_eq!(read_text(&path, 9).unwrap(), "123456789");
        assert_eq!(read(&path, 8).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_with_the_same_length_and_time_looks_like_another() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("file"), folder.path().join("next"));
        fs::write(&path, "one").unwrap();
        fs::write(&next, "two").unwrap();
        let look = Look::at(&path);
        assert_eq!(look, Look::at(&path));
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        File::options().write(true).open(&next).unwrap().set_modified(time).unwrap();
        fs::rename(&next, &path).unwrap();
        assert_ne!(look, Look::at(&path));
    }

    #[test]
    fn a_file_is_replaced_whole_whatever_is_left_of_an_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        make_pipe(&beside(&path, ".next"));
        let lock = Lock::on(&path).unwrap();
        lock.replace(|file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        lock.replace(|file| file.write_all(b"bad").and(Err(io::Error::other("no")))).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(!beside(&path, ".next").exists());
    }
}
