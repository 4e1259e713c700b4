//! The file itself: found in whatever state a crash left it, and only ever appended to in whole, durable lines.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    AuditFault,
    head::{Head, beside, sync_folder},
    record::{GENESIS, LINE_BYTES, Line, strike_disclosures},
};

/// Where the chain stands: what the next record follows on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tip {
    /// How many records there are.
    pub(super) count: u64,
    /// The hash of the last one.
    pub(super) hash: String,
}

/// The audit file, locked against every other process.
#[derive(Debug)]
pub(super) struct ChainFile {
    path: PathBuf,
    file: File,
    /// Where the last durable record ends. There is nothing behind it.
    end: u64,
}

/// What was found in the file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tip: Tip,
    /// The bytes behind the last whole record, and the name of the file that they were moved to.
    pub(super) torn: Option<(u64, String)>,
    /// Intents that have no outcome.
    pub(super) open: BTreeSet<u64>,
    /// Whether the records bear out the head that was given.
    pub(super) head_holds: bool,
}

/// Which file it is, whatever its name: the device's number and the file's, where there are such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(Option<(u64, u64)>);

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        return Self(
            Some(std::os::unix::fs::MetadataExt::dev(metadata))
                .zip(Some(std::os::unix::fs::MetadataExt::ino(metadata))),
        );
        #[cfg(not(unix))]
        return Self(Some(metadata).and(None));
    }

    /// Whether this is the same file.
    pub(super) fn check(self, metadata: &fs::Metadata) -> io::Result<()> {
        if Self::of(metadata) == self {
            Ok(())
        } else {
            Err(io::Error::other("it was moved away; it must stay while the gateway runs"))
        }
    }
}

/// The parts of a record that matter when the file is opened.
#[derive(Debug, Deserialize)]
struct Outline {
    seq: u64,
    kind: String,
    #[serde(default)]
    intent: Option<u64>,
}

impl ChainFile {
    /// Opens the file, or makes it; moves an unfinished end aside.
    pub(super) fn open(path: &Path, head: Option<&Head>, unix_secs: u64) -> Result<(Self, Found), AuditFault> {
        let fault = |source| AuditFault::Open { path: path.to_owned(), source };
        create_folder(path).map_err(fault)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(fault)?;
        if !file.metadata().map_err(fault)?.is_file() {
            return Err(fault(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => AuditFault::Locked { path: path.to_owned() },
            TryLockError::Error(source) => fault(source),
        })?;
        sync_folder(path).map_err(fault)?;
        let (end, mut found) = scan(&file, head).map_err(fault)?;
        let mut chain = Self { path: path.to_owned(), file, end };
        let length = chain.length().map_err(fault)?;
        if length > end {
            if end == 0 && !chain.begins_like_a_record().map_err(fault)? {
                return Err(AuditFault::Foreign { path: path.to_owned() });
            }
            let name = chain.move_end_aside(unix_secs).map_err(fault)?;
            found.torn = Some((length - end, name));
        }
        Ok((chain, found))
    }

    /// Appends whole lines and makes them durable. After an error nothing of them is in the file, as far as can be told.
    pub(super) fn append(&mut self, lines: &str) -> io::Result<()> {
        let appended = self.check().and_then(|()| {
            self.file.write_all(lines.as_bytes())?;
            self.file.sync_data()
        });
        match appended {
            Ok(()) => {
                self.end += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was not made durable must not be there later. If this fails as well, `repair` does it.
                let _ = self.repair();
                Err(error)
            }
        }
    }

    /// Where the last durable record ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Brings the file back to its last durable record after an error.
    pub(super) fn repair(&mut self) -> io::Result<()> {
        if self.length()? > self.end {
            self.file.set_len(self.end)?;
        }
        self.file.sync_data()?;
        self.check()
    }

    /// Lets other processes have the file.
    pub(super) fn unlock(&self) {
        // A lock that cannot be given back goes with the file.
        let _ = self.file.unlock();
    }

    /// Whether the file is still the one under this name, and as long as we left it.
    fn check(&self) -> io::Result<()> {
        let length = self.length()?;
        if length != self.end {
            return Err(io::Error::other(format!("it is {length} bytes long, not {} as it was left", self.end)));
        }
        Identity::of(&self.file.metadata()?).check(&fs::metadata(&self.path)?)
    }

    /// Which file it is, whatever its name.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::of(&self.file.metadata()?))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether a file without one whole record can be the torn beginning of an audit file, and not somebody else's.
    fn begins_like_a_record(&self) -> io::Result<bool> {
        const FIRST: &[u8] = b"{\"v\":1,\"seq\":1,";
        let mut start = Vec::new();
        (&self.file).seek(SeekFrom::Start(0))?;
        (&self.file).take(FIRST.len() as u64).read_to_end(&mut start)?;
        // A crash of the machine may leave zeros where data was never written.
        Ok(FIRST.starts_with(&start) || start.iter().all(|&byte| byte == 0))
    }

    /// Moves what lies behind the last whole record to a file of its own, without its disclosures; the name of that file.
    fn move_end_aside(&mut self, unix_secs: u64) -> io::Result<String> {
        let (mut aside, path) = create_new(&self.path, &format!(".torn-{unix_secs}"))?;
        (&self.file).seek(SeekFrom::Start(self.end))?;
        let mut torn = BufReader::with_capacity(1 << 16, &self.file);
        let mut line = Vec::new();
        // What is moved aside is searched by nobody when people are struck out: it names nobody from the beginning.
        while torn.by_ref().take(2 * LINE_BYTES as u64).read_until(b'\n', &mut line)? > 0 {
            strike_disclosures(&mut line);
            aside.write_all(&line)?;
            line.clear();
        }
        aside.sync_all()?;
        sync_folder(&path)?;
        self.file.set_len(self.end)?;
        self.file.sync_all()?;
        Ok(name_of(&path))
    }
}

/// Makes the folder of a file, for its owner alone, if it is missing.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Moves a file aside under a name that is free; that name.
pub(super) fn move_aside(path: &Path, end: &str) -> io::Result<String> {
    let (_, aside) = create_new(path, end)?;
    fs::rename(path, &aside)?;
    sync_folder(&aside)?;
    Ok(name_of(&aside))
}

/// Makes a file beside another under a name that is free.
fn create_new(path: &Path, end: &str) -> io::Result<(File, PathBuf)> {
    for attempt in 0..1000 {
        let aside = beside(path, &if attempt == 0 { end.to_owned() } else { format!("{end}-{attempt}") });
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&aside) {
            Ok(file) => return Ok((file, aside)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads the file once: where the last sound record ends, where the chain stands, which intents are open.
///
/// Whether the chain is whole is not asked here but by `verify`: a gateway that refused to start over an old edit would
/// make the edit a way to stop it.
fn scan(file: &File, head: Option<&Head>) -> io::Result<(u64, Found)> {
    let mut found = Found {
        tip: Tip { count: 0, hash: GENESIS.to_owned() },
        torn: None,
        open: BTreeSet::new(),
        head_holds: head.is_none_or(|head| head.count == 0),
    };
    let (mut offset, mut end, mut line) = (0, 0, Vec::new());
    (&*file).seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok((end, found));
        }
        offset += read as u64;
        let Some(sound) = line.strip_suffix(b"\n").and_then(Line::split).filter(Line::is_sound) else { continue };
        let Ok(outline) = serde_json::from_slice::<Outline>(&sound.object()) else { continue };
        match (outline.kind.as_str(), outline.intent) {
            ("intent", _) => {
                found.open.insert(outline.seq);
            }
            ("outcome", Some(intent)) => {
                found.open.remove(&intent);
            }
            _ => {}
        }
        found.head_holds |= head.is_some_and(|head| head.count == outline.seq && head.hash == sound.hash);
        found.tip = Tip { count: outline.seq, hash: sound.hash.to_owned() };
        end = offset;
    }
}
