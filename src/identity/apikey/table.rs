//! All keys of a source, found by their hash: one flat entry each, their texts in one piece, and what many of them share
//! (scopes, networks, limits) only once. A million keys fit into some 130 MB.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, ErrorKind, Read},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ipnet::IpNet;

use super::record::{Checked, Record, Text, parse_network};
use crate::files;

/// The largest file that is read: some four million keys.
const LONGEST_FILE: u64 = 1 << 30;
/// The longest line.
const LONGEST_LINE: u64 = 64 << 10;
/// No right line is shorter, so a file never holds more keys than this lets one expect.
const SHORTEST_LINE: u64 = 120;
/// After so many bad lines, one more helps nobody.
const MOST_FAULTS: usize = 100;
/// Stands for "none" among times.
const NONE: u32 = u32::MAX;

/// Why a file of keys is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// It cannot be read: a phrase.
    #[error("{0}")]
    Unreadable(String),
    /// Lines of it are wrong.
    #[error("{}", told(.lines, *.more))]
    Lines {
        /// The first of them.
        lines: Vec<LineFault>,
        /// How many more there are.
        more: usize,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong, a phrase that quotes nothing secret.
    pub what: String,
}

fn told(lines: &[LineFault], more: usize) -> String {
    let first = lines.first().map(|fault| format!("line {}: {}", fault.line, fault.what)).unwrap_or_default();
    match lines.len() + more {
        0 | 1 => first,
        all => format!("{first}, and {} more lines", all - 1),
    }
}

/// The keys of a source.
#[derive(Debug, Default)]
pub struct KeyTable {
    entries: Vec<Entry>,
    /// Places in `entries`, from 1, by the first bytes of the hash; 0 is free. At most half of it is taken.
    slots: Box<[u32]>,
    /// Id, owner and note of each entry, one after the other.
    texts: String,
    grants: Vec<Grant>,
    imported: bool,
}

/// A key.
#[derive(Debug)]
pub(super) struct Entry {
    hash: [u8; 32],
    text: u32,
    grant: u32,
    created: u32,
    expires: u32,
    revoked: u32,
    last_used: AtomicU32,
    owner_len: u16,
    note_len: u16,
    id_len: u8,
}

/// What keys may do, which most of them share with others.
#[derive(Debug, Default)]
pub(super) struct Grant {
    pub(super) scopes: Box<[Arc<str>]>,
    pub(super) limits: Box<[Arc<str>]>,
    networks: Box<[IpNet]>,
}

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'t> {
    entry: &'t Entry,
    pub(super) id: &'t str,
    pub(super) owner: &'t str,
    pub(super) note: &'t str,
    pub(super) grant: &'t Grant,
}

impl Found<'_> {
    /// Seconds since the epoch.
    pub(super) fn created(&self) -> u32 {
        self.entry.created
    }

    pub(super) fn expires(&self) -> Option<u32> {
        Some(self.entry.expires).filter(|time| *time != NONE)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.entry.revoked != NONE
    }

    /// Whether the key may be used from an address.
    pub(super) fn is_allowed_from(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.grant.networks.is_empty() || self.grant.networks.iter().any(|network| network.contains(&address))
    }

    /// Notes that the key was used; says whether that is news, to the second.
    pub(super) fn used(&self, seconds: u32) -> bool {
        // Most uses of a busy key are in a second that is noted already, and write nothing.
        self.entry.last_used.load(Ordering::Relaxed) < seconds
            && self.entry.last_used.fetch_max(seconds, Ordering::Relaxed) < seconds
    }
}

impl KeyTable {
    /// Reads a file whole; limits are known by name.
    pub fn load(path: &Path, limits: &HashSet<Arc<str>>) -> Result<Self, FileFault> {
        let unreadable = |error: std::io::Error| FileFault::Unreadable(phrase(&error));
        let file = files::open(path).map_err(unreadable)?;
        // Of what was opened: the name may lead elsewhere by now.
        let found = file.metadata().map_err(unreadable)?;
        if found.mode() & 0o002 != 0 {
            return Err(FileFault::Unreadable("everybody on this machine may write it, and so make keys".to_owned()));
        }
        if found.len() > LONGEST_FILE {
            return Err(FileFault::Unreadable("it is longer than 1 GiB".to_owned()));
        }
        Self::read(BufReader::with_capacity(256 << 10, file.take(LONGEST_FILE)), found.len(), limits)
    }

    /// Reads keys, one a line. `bytes` is about how long that is.
    pub fn read(mut from: impl BufRead, bytes: u64, limits: &HashSet<Arc<str>>) -> Result<Self, FileFault> {
        let mut reading = Reading::new(bytes, limits);
        let (mut line, mut number) = (Vec::new(), 0_u32);
        loop {
            line.clear();
            let read = (&mut from).take(LONGEST_LINE + 1).read_until(b'\n', &mut line);
            if read.map_err(|error| FileFault::Unreadable(phrase(&error)))? == 0 {
                return reading.finish();
            }
            number += 1;
            if line.len() as u64 > LONGEST_LINE {
                // What comes next is the rest of this line, so nothing after it can be counted on.
                reading.fault(number, "it is longer than 64 KiB, and nothing after it is read".to_owned());
                return reading.finish();
            }
            if !line.trim_ascii().is_empty() {
                reading.line(number, line.trim_ascii());
            }
        }
    }

    /// How many keys there are, revoked and expired ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether any was not made by us, so that its form says nothing.
    pub fn has_imported(&self) -> bool {
        self.imported
    }

    /// Whether a key with this hash is there, revoked and expired ones included.
    pub fn has(&self, hash: &[u8; 32]) -> bool {
        self.find(hash).is_some()
    }

    /// Finds a key.
    pub(super) fn find(&self, hash: &[u8; 32]) -> Option<Found<'_>> {
        let entry = probe(&self.slots, first_bytes(hash))
            .map_while(|slot| self.entry(*slot))
            .find(|entry| aws_lc_rs::constant_time::verify_slices_are_equal(&entry.hash, hash).is_ok())?;
        self.found(entry)
    }

    /// The entry of a slot; none for a free one.
    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(slot.checked_sub(1)?).ok()?)
    }

    fn found<'t>(&'t self, entry: &'t Entry) -> Option<Found<'t>> {
        let texts = self.texts.get(usize::try_from(entry.text).ok()?..)?;
        let (id, texts) = texts.split_at_checked(usize::from(entry.id_len))?;
        let (owner, texts) = texts.split_at_checked(usize::from(entry.owner_len))?;
        let (note, _) = texts.split_at_checked(usize::from(entry.note_len))?;
        let grant = self.grants.get(usize::try_from(entry.grant).ok()?)?;
        Some(Found { entry, id, owner, note, grant })
    }

    fn hash(&self, at: usize) -> Option<&[u8; 32]> {
        self.entries.get(at).map(|entry| &entry.hash)
    }

    fn id(&self, at: usize) -> Option<&str> {
        self.found(self.entries.get(at)?).map(|found| found.id)
    }

    /// When keys were last used, by id.
    pub(super) fn last_uses(&self) -> impl Iterator<Item = (&str, u32)> {
        let used = self.entries.iter().filter_map(|entry| {
            let seconds = entry.last_used.load(Ordering::Relaxed);
            (seconds > 0).then_some((entry, seconds))
        });
        used.filter_map(|(entry, seconds)| Some((self.found(entry)?.id, seconds)))
    }

    /// Takes over when keys were last used, from the table before.
    pub(super) fn remember(&self, before: &Self) {
        for old in &before.entries {
            let seconds = old.last_used.load(Ordering::Relaxed);
            if seconds > 0
                && let Some(found) = self.find(&old.hash)
            {
                found.used(seconds);
            }
        }
    }

    /// Takes over when keys were last used, from what was written down.
    pub(super) fn recall(&self, last_uses: &HashMap<Box<str>, u32>) {
        if last_uses.is_empty() {
            return;
        }
        for found in self.entries.iter().filter_map(|entry| self.found(entry)) {
            if let Some(seconds) = last_uses.get(found.id) {
                found.used(*seconds);
            }
        }
    }
}

/// A table under construction.
struct Reading<'l> {
    table: KeyTable,
    limits: &'l HashSet<Arc<str>>,
    /// Numbers of grants by their texts.
    grants: HashMap<Box<str>, u32>,
    /// Scopes and names of limits, each once.
    words: HashSet<Arc<str>>,
    grant_text: String,
    /// The line of each entry.
    lines: Vec<u32>,
    faults: Vec<LineFault>,
    more: usize,
}

impl<'l> Reading<'l> {
    fn new(bytes: u64, limits: &'l HashSet<Arc<str>>) -> Self {
        // Memory that is not used is never touched, and so costs nothing; growing would copy everything, again and again.
        let expected = usize::try_from(bytes.min(LONGEST_FILE) / SHORTEST_LINE).unwrap_or(0);
        let (mut table, mut lines) = (KeyTable::default(), Vec::new());
        // Where there is not so much room, they grow.
        let _ = (table.entries.try_reserve_exact(expected), lines.try_reserve_exact(expected));
        Self {
            table,
            limits,
            grants: HashMap::new(),
            words: HashSet::new(),
            grant_text: String::new(),
            lines,
            faults: Vec::new(),
            more: 0,
        }
    }

    fn fault(&mut self, line: u32, what: String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(LineFault { line, what });
        } else {
            self.more += 1;
        }
    }

    fn line(&mut self, number: u32, line: &[u8]) {
        let added = Record::parse(line).and_then(|record| {
            let checked = record.check(self.limits)?;
            self.add(&record, &checked).ok_or_else(|| "there is no room for more keys".to_owned())
        });
        match added {
            Ok(()) => self.lines.push(number),
            Err(what) => self.fault(number, what),
        }
    }

    /// `None` where a number would not fit, which the bounds on the file rule out.
    fn add(&mut self, record: &Record<'_>, checked: &Checked) -> Option<()> {
        let grant = self.grant(record)?;
        let table = &mut self.table;
        let text = u32::try_from(table.texts.len()).ok()?;
        let note = record.note.as_ref().map_or("", |Text(note)| note);
        let entry = Entry {
            hash: checked.hash,
            text,
            grant,
            created: checked.created,
            expires: checked.expires.unwrap_or(NONE),
            revoked: checked.revoked.unwrap_or(NONE),
            last_used: AtomicU32::new(0),
            owner_len: u16::try_from(record.owner.len()).ok()?,
            note_len: u16::try_from(note.len()).ok()?,
            id_len: u8::try_from(record.id.len()).ok()?,
        };
        table.entries.push(entry);
        table.texts.extend([&*record.id, &*record.owner, note]);
        table.imported |= record.imported;
        Some(())
    }

    /// The number of what a key may do, made where no key before may do just that.
    fn grant(&mut self, record: &Record<'_>) -> Option<u32> {
        self.grant_text.clear();
        for list in [&record.scopes, &record.limits, &record.networks] {
            for Text(item) in list {
                // None of them can hold either of these.
                self.grant_text.extend([item, "\n"]);
            }
            self.grant_text.push('\t');
        }
        if let Some(number) = self.grants.get(&*self.grant_text) {
            return Some(*number);
        }
        let mut words = |list: &[Text<'_>]| list.iter().map(|Text(item)| word(&mut self.words, item)).collect();
        let (scopes, limits) = (words(&record.scopes), words(&record.limits));
        let networks = record.networks.iter().filter_map(|Text(network)| parse_network(network)).collect();
        let number = u32::try_from(self.table.grants.len()).ok()?;
        self.table.grants.push(Grant { scopes, limits, networks });
        self.grants.insert(self.grant_text.as_str().into(), number);
        Some(number)
    }

    fn finish(mut self) -> Result<KeyTable, FileFault> {
        self.table.texts.shrink_to_fit();
        let (table, state) = (&self.table, RandomState::new());
        let (slots, same_key) = index(
            table.entries.len(),
            |at| table.hash(at).map(first_bytes),
            |one, other| table.hash(one) == table.hash(other),
        );
        let (_, same_id) = index(
            table.entries.len(),
            |at| table.id(at).map(|id| state.hash_one(id)),
            |one, other| table.id(one) == table.id(other),
        );
        self.table.slots = slots;
        self.twins(same_key, "this key");
        self.twins(same_id, "this id");
        if self.faults.is_empty() {
            return Ok(self.table);
        }
        self.faults.sort_by_key(|fault| fault.line);
        Err(FileFault::Lines { lines: self.faults, more: self.more })
    }

    fn twins(&mut self, twins: Vec<(usize, usize)>, what: &str) {
        for (first, second) in twins {
            let lines = (self.lines.get(first).copied(), self.lines.get(second).copied());
            if let (Some(first), Some(second)) = lines {
                self.fault(second, format!("{what} is on line {first} already"));
            }
        }
    }
}

/// Places all entries by a hash, and finds those that are the same as an earlier one.
fn index(
    entries: usize,
    hash: impl Fn(usize) -> Option<u64>,
    same: impl Fn(usize, usize) -> bool,
) -> (Box<[u32]>, Vec<(usize, usize)>) {
    let mut twins = Vec::new();
    let mut slots = vec![0_u32; (entries * 2).next_power_of_two().max(2)].into_boxed_slice();
    for at in 0..entries {
        let (Some(hash), Ok(number)) = (hash(at), u32::try_from(at + 1)) else { continue };
        let mask = slots.len() - 1;
        let mut place = usize::try_from(hash).unwrap_or(usize::MAX) & mask;
        while let Some(slot) = slots.get_mut(place) {
            if *slot == 0 {
                *slot = number;
                break;
            }
            let other = usize::try_from(*slot - 1).unwrap_or(usize::MAX);
            if same(other, at) {
                twins.push((other, at));
                break;
            }
            place = (place + 1) & mask;
        }
    }
    (slots, twins)
}

/// The slots where a hash may be, the likeliest first; the first free one ends the search.
fn probe(slots: &[u32], hash: u64) -> impl Iterator<Item = &u32> {
    let mask = slots.len().saturating_sub(1);
    let start = usize::try_from(hash).unwrap_or(usize::MAX) & mask;
    let (before, after) = slots.split_at_checked(start).unwrap_or((&[], slots));
    after.iter().chain(before)
}

fn first_bytes(hash: &[u8; 32]) -> u64 {
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn word(words: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = words.get(text) {
        return known.clone();
    }
    let new: Arc<str> = text.into();
    words.insert(new.clone());
    new
}

/// What is wrong with a file, as an operator says it.
pub(super) fn phrase(error: &std::io::Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the list is the system's; only these have a phrase of ours")]
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
