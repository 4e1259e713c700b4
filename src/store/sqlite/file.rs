//! The file itself: how it is made, and whether it is still the one that was opened.
//!
//! A file of SQLite's must never be opened by anything else in the process that has it open: closing it again would drop
//! SQLite's locks (POSIX, fcntl). So it is looked at by name only, once it is there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{Options, connection::Trouble};
use crate::{files, store::StoreFault};

/// Which file a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self { device: found.dev(), inode: found.ino() })
    }
}

/// Where the rows are.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) options: Options,
    /// The file that was found when the store was opened. Another one in its place is not taken for it: spent grants and
    /// used codes that only the first one knows would count again.
    file: Identity,
}

impl Place {
    pub(super) fn of(path: &Path, options: Options) -> io::Result<Self> {
        let file = Identity::at(path)?;
        // Where the name is a link, SQLite keeps the journal beside what it leads to.
        let journal = files::beside(&fs::canonicalize(path)?, "-wal");
        Ok(Self { path: path.to_owned(), journal, options, file })
    }

    /// Whether the names still lead to the file, and to the journal that a connection has.
    pub(super) fn check(&self, journal: Identity) -> Result<(), Trouble> {
        self.check_file()?;
        let found = Identity::at(&self.journal);
        if found.is_ok_and(|found| found == journal) { Ok(()) } else { Err(Trouble::JournalMoved) }
    }

    pub(super) fn check_file(&self) -> Result<(), Trouble> {
        let found = Identity::at(&self.path);
        if found.is_ok_and(|found| found == self.file) { Ok(()) } else { Err(Trouble::Moved) }
    }

    /// What the store's users are told.
    pub(super) fn fault(&self, trouble: Trouble) -> StoreFault {
        trouble.fault(&self.path)
    }
}

/// Makes the folder, for its owner alone.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => DirBuilder::new().recursive(true).mode(0o700).create(folder),
        None => Ok(()),
    }
}

/// Makes the file, for its owner alone, if there is none; whether it did. SQLite gives the files beside it the same mode.
pub(super) fn make(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all()?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::metadata(path)?;
            if found.is_file() {
                Ok(false)
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"))
            }
        }
        Err(error) => Err(error),
    }
}
