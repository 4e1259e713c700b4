//! The list on disk: JSON, one change a line, durable before anybody is told that it was made. A line that a crash cut
//! short was never acknowledged and is dropped; anything else that cannot be read stops the start, since a list of which
//! a part is missing would let through what it was to keep out.
//!
//! ```text
//! {"revocations":1,"next":7}                                    the form, and the next number
//! {"add":{"id":7,"at":…,"issuer":"main","subject":"alice",…}}
//! {"remove":7,"at":…,"by":"admin"}
//! ```
//! Whoever holds a [`Journal`] holds the lock on the state folder.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    RevocationFault,
    entry::{Entry, WrittenEntry},
};
use crate::files;

/// The file's name in the state folder.
pub const FILE_NAME: &str = "revocations.jsonl";
/// The longest line: the longest entry with every byte of it escaped.
const LINE_BYTES: u64 = 32 << 10;
/// The largest file.
const FILE_BYTES: u64 = 256 << 20;
/// Fewer useless lines than these are not worth writing the file anew.
const USELESS_LINES: usize = 1024;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    revocations: u32,
    next: u64,
}

/// A line after the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Change<'a> {
    Add(Added<'a>),
    Remove(Removed<'a>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Added<'a> {
    add: WrittenEntry<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removed<'a> {
    remove: u64,
    at: u64,
    by: Cow<'a, str>,
}

impl<'a> Change<'a> {
    pub(super) fn add(entry: &'a Entry) -> Self {
        Self::Add(Added { add: entry.into() })
    }

    pub(super) fn remove(id: u64, at: u64, by: &'a str) -> Self {
        Self::Remove(Removed { remove: id, at, by: by.into() })
    }
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The entries that were not removed, by number.
    pub(super) entries: BTreeMap<u64, Arc<Entry>>,
    /// The next number.
    pub(super) next: u64,
    /// Where the last whole line ends.
    end: u64,
    /// How many lines say nothing that still counts.
    useless: usize,
    /// Whether something lies behind the last whole line.
    torn: bool,
    /// Whether the last line is whole but for its end.
    unended: bool,
    /// Texts that many entries share: sources, reasons, and who gave them.
    texts: HashSet<Arc<str>>,
}

/// The file, open for changes.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Where the last durable line ends. There is nothing behind it.
    end: u64,
    useless: usize,
    /// Whether the folder may not know of the file under this name yet.
    folder_owes: bool,
}

/// Reads a file without changing it; a file that is not there is an empty list.
pub(super) fn read(path: &Path) -> Result<Content, RevocationFault> {
    match files::open(path) {
        Ok(file) => scan(path, &file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::default()),
        Err(source) => Err(RevocationFault::Io { path: path.to_owned(), source }),
    }
}

impl Journal {
    /// Opens the file, or makes it; drops a last line that was never finished.
    pub(super) fn open(path: &Path) -> Result<(Self, Content), RevocationFault> {
        let fault = |source| RevocationFault::Io { path: path.to_owned(), source };
        let file = match options().open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_anew(path, &BTreeMap::new(), 1).map_err(fault)?;
                options().open(path).map_err(fault)?
            }
            Err(error) => return Err(fault(error)),
        };
        let content = scan(path, &file)?;
        let mut journal =
            Self { path: path.to_owned(), file, end: content.end, useless: content.useless, folder_owes: true };
        if content.torn {
            tracing::warn!(file = %path.display(), "a revocation that was being written when the process ended is dropped");
            journal.file.set_len(journal.end).map_err(fault)?;
        }
        if content.unended {
            journal.file.write_all(b"\n").map_err(fault)?;
            journal.end += 1;
        }
        journal.file.sync_all().map_err(fault)?;
        Ok((journal, content))
    }

    /// Appends changes and makes them durable. After an error nothing of them is in the file, as far as can be told.
    pub(super) fn append(&mut self, changes: &[Change<'_>], useless: usize) -> Result<(), RevocationFault> {
        let mut lines = Vec::with_capacity(256 * changes.len());
        for change in changes {
            serde_json::to_writer(&mut lines, change).map_err(|error| self.fault(error.into()))?;
            lines.push(b'\n');
        }
        if self.end.saturating_add(lines.len() as u64) > FILE_BYTES {
            return Err(RevocationFault::Full);
        }
        let appended = self.check().and_then(|()| {
            self.file.write_all(&lines)?;
            self.file.sync_data()
        });
        match appended {
            Ok(()) => {
                self.end += lines.len() as u64;
                self.useless += useless;
                Ok(())
            }
            Err(source) => {
                // What was not acknowledged should not be there later; the next append looks again.
                let _ = self.file.set_len(self.end).and_then(|()| self.file.sync_data());
                Err(self.fault(source))
            }
        }
    }

    /// Notes that entries have expired.
    pub(super) fn expired(&mut self, count: usize) {
        self.useless += count;
    }

    /// Whether most of the file says nothing that still counts.
    pub(super) fn is_wasteful(&self, entries: usize) -> bool {
        self.useless > USELESS_LINES.max(entries)
    }

    /// Writes the file anew with what counts, and puts it in the old one's place.
    pub(super) fn compact(&mut self, entries: &BTreeMap<u64, Arc<Entry>>, next: u64) -> Result<(), RevocationFault> {
        let file = write_anew(&self.path, entries, next).map_err(|source| self.fault(source))?;
        // From here on the new file is the one under the name, whatever becomes of the rest.
        self.folder_owes = true;
        self.useless = 0;
        self.end = file.metadata().map_err(|source| self.fault(source))?.len();
        self.file = file;
        self.settle_folder().map_err(|source| self.fault(source))
    }

    /// Whether the file is still the one under this name, as long as we left it, and known to its folder.
    fn check(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length > self.end {
            self.file.set_len(self.end)?;
        }
        if length < self.end {
            return Err(io::Error::other(format!("it is {length} bytes long, not {} as it was left", self.end)));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let (ours, theirs) = (self.file.metadata()?, fs::metadata(&self.path)?);
            if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
                return Err(io::Error::other("it was moved away; it must stay while the gateway runs"));
            }
        }
        self.settle_folder()
    }

    fn settle_folder(&mut self) -> io::Result<()> {
        if self.folder_owes {
            sync_folder(&self.path)?;
            self.folder_owes = false;
        }
        Ok(())
    }

    fn fault(&self, source: io::Error) -> RevocationFault {
        RevocationFault::Io { path: self.path.clone(), source }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a whole file under another name, durably, then gives it its own: there is never half of one.
fn write_anew(path: &Path, entries: &BTreeMap<u64, Arc<Entry>>, next: u64) -> io::Result<File> {
    let mut name = OsString::from(path);
    name.push(".new");
    let temporary = PathBuf::from(name);
    let file = options().create(true).open(&temporary)?;
    // One that a crash left behind.
    file.set_len(0)?;
    let mut writer = BufWriter::with_capacity(1 << 16, &file);
    serde_json::to_writer(&mut writer, &Form { revocations: 1, next })?;
    writer.write_all(b"\n")?;
    for entry in entries.values() {
        serde_json::to_writer(&mut writer, &Change::add(entry))?;
        writer.write_all(b"\n")?;
    }
    writer.flush()?;
    drop(writer);
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Reads the file once, from its beginning.
fn scan(path: &Path, mut file: &File) -> Result<Content, RevocationFault> {
    let fault = |source| RevocationFault::Io { path: path.to_owned(), source };
    if !file.metadata().map_err(fault)?.is_file() {
        return Err(fault(io::Error::other("it is not a file")));
    }
    let mut content = Content { next: 1, ..Content::default() };
    let mut line = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(fault)?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    for number in 1_u64.. {
        let corrupt = |why: &str| RevocationFault::Corrupt { path: path.to_owned(), line: number, why: why.to_owned() };
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES + 1).read_until(b'\n', &mut line).map_err(fault)?;
        if read == 0 {
            // The file is put in its place with its first line in it.
            return if number == 1 { Err(corrupt("the first line is missing")) } else { Ok(content) };
        }
        let whole = line.strip_suffix(b"\n");
        if whole.is_none() && line.len() as u64 > LINE_BYTES {
            return Err(corrupt("the line is too long"));
        }
        let taken = content.take(number, whole.unwrap_or(&line));
        match (taken, whole) {
            (Ok(()), Some(_)) => {}
            // Nobody but an editor leaves out the end of a line that says something: what it says counts.
            (Ok(()), None) => content.unended = true,
            (Err(_), None) if number > 1 => {
                content.torn = true;
                return Ok(content);
            }
            (Err(why), _) => return Err(corrupt(&why)),
        }
        content.end += read as u64;
    }
    Ok(content)
}

impl Content {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let fresh: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&fresh));
        fresh
    }

    /// Takes a line in, or says why it cannot be meant.
    fn take(&mut self, number: u64, line: &[u8]) -> Result<(), String> {
        if number == 1 {
            let form: Form = serde_json::from_slice(line).map_err(|_| "this is no list of revocations".to_owned())?;
            if form.revocations != 1 {
                return Err(format!("version {} of the list is not known here", form.revocations));
            }
            self.next = form.next;
            return Ok(());
        }
        let change =
            serde_json::from_slice(line).map_err(|_| "this is neither an addition nor a removal".to_owned())?;
        match change {
            Change::Add(Added { add }) => {
                let entry = add.read(|text| self.share(text)).map_err(|fault| fault.to_string())?;
                if self.entries.contains_key(&entry.id) {
                    return Err("an entry of this number is there already".to_owned());
                }
                self.next = self.next.max(entry.id.saturating_add(1));
                self.entries.insert(entry.id, Arc::new(entry));
            }
            Change::Remove(Removed { remove, .. }) => {
                self.entries.remove(&remove).ok_or("there is no entry of this number to remove")?;
                self.useless += 2;
            }
        }
        Ok(())
    }
}
