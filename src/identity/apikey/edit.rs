//! Changing a file of keys: one writer at a time, whole or not at all. The next file is written beside the old one, made
//! durable and put in its place; a gateway that reads meanwhile sees the one or the other.

use std::{
    collections::HashSet,
    fs,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    record::{Record, Text},
    table::{FileFault, KeyTable},
};
use crate::files::{self, Lock};

/// Why a file of keys could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditFault {
    /// What is there already cannot be read, or is wrong.
    #[error("{path}: {fault}", path = .0.display(), fault = .1)]
    File(PathBuf, FileFault),
    /// The new record is wrong.
    #[error("{0}")]
    Record(String),
    /// The key is there already.
    #[error("this key is there already")]
    Known,
    /// The system says no.
    #[error("writing {path}", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// A file of keys, for whoever manages them.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    limits: HashSet<Arc<str>>,
}

/// The right to change a file; given up when dropped, or when the process ends, however it ends.
#[derive(Debug)]
pub struct Locked<'f> {
    file: &'f KeyFile,
    table: KeyTable,
    lock: Lock,
}

impl KeyFile {
    /// The file at a path, which may not be there yet; limits are known by name.
    pub fn new(path: &Path, limits: HashSet<Arc<str>>) -> Self {
        // A link stays one: what it leads to is what changes.
        Self { path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), limits }
    }

    /// Gives each record to `each`, in the order of the file. What is wrong with the file is told before the first.
    pub fn each(&self, mut each: impl FnMut(&Record<'_>)) -> Result<(), EditFault> {
        self.table()?;
        self.lines(|line| {
            if let Ok(record) = Record::parse(line) {
                each(&record);
            }
            Ok(())
        })
    }

    /// Waits until nobody else changes the file.
    pub fn lock(&self) -> Result<Locked<'_>, EditFault> {
        let lock = Lock::on(&self.path).map_err(|error| EditFault::Io(files::beside(&self.path, ".lock"), error))?;
        Ok(Locked { file: self, table: self.table()?, lock })
    }

    fn table(&self) -> Result<KeyTable, EditFault> {
        if !self.path.exists() {
            return Ok(KeyTable::default());
        }
        KeyTable::load(&self.path, &self.limits).map_err(|fault| EditFault::File(self.path.clone(), fault))
    }

    fn lines(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), EditFault> {
        let io = |error| EditFault::Io(self.path.clone(), error);
        if !self.path.exists() {
            return Ok(());
        }
        let mut reader = BufReader::with_capacity(256 << 10, files::open(&self.path).map_err(io)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(io)? > 0 {
            let text = line.trim_ascii();
            if !text.is_empty() {
                each(text).map_err(io)?;
            }
            line.clear();
        }
        Ok(())
    }
}

impl Locked<'_> {
    /// Whether a key with this hash is there.
    pub fn has(&self, hash: &[u8; 32]) -> bool {
        self.table.has(hash)
    }

    /// Adds a record at the end.
    pub fn append(self, record: &Record<'_>) -> Result<(), EditFault> {
        let checked = record.check(&self.file.limits).map_err(EditFault::Record)?;
        if self.has(&checked.hash) {
            return Err(EditFault::Known);
        }
        let line = record.line().map_err(|error| EditFault::Record(error.to_string()))?;
        self.rewrite(|out| {
            self.file.lines(|old| out.write_all(old).and_then(|()| out.write_all(b"\n")))?;
            out.write_all(&line).map_err(|error| EditFault::Io(self.file.path.clone(), error))
        })
    }

    /// Marks a key as revoked, by its id; gives its record as it is then, if there is such a key. One that was revoked before
    /// stays as it is.
    pub fn revoke(self, id: &str, when: &str) -> Result<Option<Record<'static>>, EditFault> {
        let mut known = None;
        self.file.lines(|line| {
            if let Ok(record) = Record::parse(line)
                && record.id == id
            {
                known = Some(owned(&record));
            }
            Ok(())
        })?;
        let Some(mut record) = known else { return Ok(None) };
        if record.revoked.is_some() {
            return Ok(Some(record));
        }
        record.revoked = Some(when.to_owned().into());
        let line = record.line().map_err(|error| EditFault::Record(error.to_string()))?;
        self.rewrite(|out| {
            self.file.lines(|old| {
                let is_it = Record::parse(old).is_ok_and(|record| record.id == id);
                if is_it { out.write_all(&line) } else { out.write_all(old).and_then(|()| out.write_all(b"\n")) }
            })
        })?;
        Ok(Some(record))
    }

    /// Puts another file in the place of this one, with its owner and its mode.
    fn rewrite(&self, fill: impl FnOnce(&mut dyn Write) -> Result<(), EditFault>) -> Result<(), EditFault> {
        let written = self.lock.replace(|file| {
            let mut out = BufWriter::with_capacity(256 << 10, file);
            fill(&mut out)?;
            Ok::<_, Written>(out.flush()?)
        });
        written.map_err(|fault| match fault {
            Written::Edit(fault) => fault,
            Written::Io(error) => EditFault::Io(self.file.path.clone(), error),
        })
    }
}

/// What went wrong while the next file was written.
#[derive(Debug, thiserror::Error)]
enum Written {
    #[error(transparent)]
    Edit(#[from] EditFault),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn owned(record: &Record<'_>) -> Record<'static> {
    let text = |text: &Text<'_>| Text::from(text.0.clone().into_owned());
    let list = |list: &[Text<'_>]| list.iter().map(text).collect();
    Record {
        id: record.id.clone().into_owned().into(),
        hash: record.hash.clone().into_owned().into(),
        owner: record.owner.clone().into_owned().into(),
        scopes: list(&record.scopes),
        expires: record.expires.as_ref().map(text),
        networks: list(&record.networks),
        limits: list(&record.limits),
        created: record.created.clone().into_owned().into(),
        revoked: record.revoked.as_ref().map(text),
        note: record.note.as_ref().map(text),
        imported: record.imported,
    }
}
