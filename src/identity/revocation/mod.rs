//! Credentials that are refused although they verify: by identifier, subject, session, key or source, until a time or for
//! good. Checked after authentication for every kind of credential, cached or not; a change is in force in all workers
//! as soon as it is durable, and is told of only then. What is revoked stays so over a reload, a restart and a crash.
//!
//! ```text
//!   admin API · command line · security events ──> Revocations::revoke ── covered already? ── file, fsync ── list ──> told
//!                                                                                                              │
//!   a verified credential ──> Revocations::names ── empty? one load ── else a few look-ups <────────────────────┘
//! ```

mod entry;
mod file;
mod list;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::{
    entry::{ANY_SOURCE, Entry, EntryFault, Revocation, TargetKind, target},
    file::FILE_NAME,
};
use self::{
    file::{Change, Content, Journal},
    list::{List, shelf_name},
};
use crate::{
    clock::{Now, SettledClock},
    policy::Principal,
};

/// How many entries there may be: some 300 MB, and more than any incident that is not better met by a new key.
pub const MAX_ENTRIES: usize = 1_000_000;

/// Who removes an entry in whose place another stands.
const REPLACED: &str = "replaced";

/// Why the list cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RevocationFault {
    /// The file cannot be read or written.
    #[error("the list of revocations {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not say what it must, so what it was to keep out is not known.
    #[error("{path}:{line}: {why}; the list of revocations is not whole: restore it from a copy, or mend the line")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// There is no room for more.
    #[error("the list of revocations is full")]
    Full,
    /// An entry is none.
    #[error(transparent)]
    Entry(#[from] EntryFault),
    /// The list was opened for reading alone.
    #[error("the list of revocations is not open for changes")]
    ReadOnly,
}

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// It is in the list now.
    Added(Arc<Entry>),
    /// This entry refuses all of it already.
    Covered(Arc<Entry>),
}

impl Revoked {
    /// The entry that holds.
    pub fn entry(&self) -> &Arc<Entry> {
        match self {
            Self::Added(entry) | Self::Covered(entry) => entry,
        }
    }
}

/// Which entries to show.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    /// Only those of this source, or of any.
    pub source: Option<&'a str>,
    /// Only those of this kind.
    pub kind: Option<TargetKind>,
    /// Only those with this name.
    pub value: Option<&'a str>,
    /// Only those after this number.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
}

/// Some entries, by number.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Arc<Entry>>,
    /// Whether there are more.
    pub more: bool,
    /// How many there are in the whole list.
    pub total: usize,
}

/// The list of revocations of one gateway.
#[derive(Debug, Default)]
pub struct Revocations {
    list: List,
    ledger: Mutex<Ledger>,
}

/// The list as it is changed: one change at a time.
#[derive(Debug, Default)]
struct Ledger {
    /// `None`: the list cannot be changed.
    journal: Option<Journal>,
    entries: BTreeMap<u64, Arc<Entry>>,
    /// When entries expire, with their numbers.
    expiring: BTreeSet<(u64, u64)>,
    next: u64,
    /// When they really have.
    clock: SettledClock,
}

impl Revocations {
    /// Opens the list in a state folder whose lock the caller holds; a list that is not there is made.
    ///
    /// # Errors
    /// When the file cannot be used, or not all of it can be read.
    pub fn open(state_dir: &Path, now: Now) -> Result<Self, RevocationFault> {
        let (journal, content) = Journal::open(&state_dir.join(FILE_NAME))?;
        Ok(Self::with(Some(journal), content, now))
    }

    /// Reads the list in a state folder, without a lock and without the means to change it.
    ///
    /// # Errors
    /// When not all of it can be read.
    pub fn read(state_dir: &Path, now: Now) -> Result<Self, RevocationFault> {
        Ok(Self::with(None, file::read(&state_dir.join(FILE_NAME))?, now))
    }

    fn with(journal: Option<Journal>, content: Content, now: Now) -> Self {
        let (entries, next) = (content.entries, content.next);
        let list = List::default();
        for entry in entries.values() {
            list.add(Arc::clone(entry));
        }
        let expires = |entry: &Arc<Entry>| Some((entry.revocation.expires?, entry.id));
        let expiring = entries.values().filter_map(expires).collect();
        let revocations = Self {
            list,
            ledger: Mutex::new(Ledger { journal, entries, expiring, next, clock: SettledClock::default() }),
        };
        revocations.sweep(now);
        revocations
    }

    /// Whether a verified caller's credential is revoked.
    pub fn names(&self, principal: &Principal, now: Now) -> bool {
        self.list.names(principal, now.unix_secs())
    }

    /// Revokes, durably and at once; all of these or none. What an entry refuses already is not added again, and what a
    /// new one refuses as well leaves the list. Blocks until the disk has it.
    ///
    /// # Errors
    /// When there is no room, or it cannot be made durable: then nothing has changed.
    pub fn revoke(&self, wanted: &[Revocation], now: Now) -> Result<Vec<Revoked>, RevocationFault> {
        for revocation in wanted {
            revocation.check()?;
        }
        let mut ledger = self.ledger();
        self.drop_expired(&mut ledger, now);
        let mut results = Vec::with_capacity(wanted.len());
        let (mut fresh, mut replaced) = (Vec::<Arc<Entry>>::new(), Vec::<Arc<Entry>>::new());
        for revocation in wanted {
            let entry = Arc::new(Entry {
                id: ledger.next.saturating_add(fresh.len() as u64),
                at: now.unix_secs(),
                revocation: revocation.clone(),
            });
            let beside = self.list.beside(revocation.kind, &shelf_name(&entry));
            let known = beside.iter().chain(&fresh).find(|other| other.revocation.covers(revocation));
            if let Some(known) = known {
                results.push(Revoked::Covered(Arc::clone(known)));
                continue;
            }
            let covered = beside.into_iter().filter(|other| revocation.covers(&other.revocation));
            replaced
                .extend(covered.filter(|other| !replaced.iter().any(|gone| gone.id == other.id)).collect::<Vec<_>>());
            fresh.push(Arc::clone(&entry));
            results.push(Revoked::Added(entry));
        }
        if fresh.is_empty() {
            return Ok(results);
        }
        if (ledger.entries.len() + fresh.len()).saturating_sub(replaced.len()) > MAX_ENTRIES {
            return Err(RevocationFault::Full);
        }
        let removed = replaced.iter().map(|entry| Change::remove(entry.id, now.unix_secs(), REPLACED));
        let changes: Vec<_> = fresh.iter().map(|entry| Change::add(entry)).chain(removed).collect();
        ledger.append(&changes, 2 * replaced.len())?;
        drop(changes);
        // The new ones first: at no moment is anything let through that both refuse.
        for entry in fresh {
            ledger.keep(&entry);
            self.list.add(entry);
        }
        for entry in &replaced {
            ledger.forget(entry);
            self.list.take(entry);
        }
        ledger.tidy();
        Ok(results)
    }

    /// Takes an entry out of the list; `None` where there is none of this number. Blocks until the disk has it.
    ///
    /// # Errors
    /// When it cannot be made durable: then nothing has changed.
    pub fn remove(&self, id: u64, by: &str, now: Now) -> Result<Option<Arc<Entry>>, RevocationFault> {
        let mut ledger = self.ledger();
        let Some(entry) = ledger.entries.get(&id).cloned() else { return Ok(None) };
        ledger.append(&[Change::remove(id, now.unix_secs(), by)], 2)?;
        ledger.forget(&entry);
        self.list.take(&entry);
        ledger.tidy();
        Ok(Some(entry))
    }

    /// An entry by its number.
    pub fn entry(&self, id: u64) -> Option<Arc<Entry>> {
        self.ledger().entries.get(&id).cloned()
    }

    /// Some of the entries.
    pub fn page(&self, filter: &Filter<'_>) -> Page {
        let ledger = self.ledger();
        let wanted = |entry: &&Arc<Entry>| {
            let revocation = &entry.revocation;
            filter.source.is_none_or(|source| revocation.is_about(source))
                && filter.kind.is_none_or(|kind| revocation.kind == kind)
                && filter.value.is_none_or(|value| *revocation.value == *value)
        };
        let after = filter.after.saturating_add(1);
        let mut found = ledger.entries.range(after..).map(|(_, entry)| entry).filter(wanted).cloned();
        let entries: Vec<_> = found.by_ref().take(filter.limit).collect();
        Page { entries, more: found.next().is_some(), total: ledger.entries.len() }
    }

    /// How many entries there are of each kind.
    pub fn counts(&self) -> [(TargetKind, usize); TargetKind::ALL.len()] {
        self.list.counts()
    }

    /// Lets go of what has expired, without a doubt of the clock, and of what the file no longer needs; to be called now and then.
    pub fn sweep(&self, now: Now) {
        let mut ledger = self.ledger();
        self.drop_expired(&mut ledger, now);
        ledger.tidy();
    }

    /// Lets the file go, for another process to change; what it says from then on is learnt by [`Self::follow`].
    pub fn let_go(&self) {
        self.ledger().journal = None;
    }

    /// Learns what another process has changed in the file since. What cannot be read changes nothing.
    ///
    /// # Errors
    /// The file cannot be read whole.
    pub fn follow(&self, state_dir: &Path) -> Result<(), RevocationFault> {
        let content = file::read(&state_dir.join(FILE_NAME))?;
        let mut ledger = self.ledger();
        // The new ones first: at no moment is anything let through that both refuse.
        for (id, entry) in &content.entries {
            if !ledger.entries.contains_key(id) {
                ledger.keep(entry);
                self.list.add(Arc::clone(entry));
            }
        }
        let gone: Vec<_> =
            ledger.entries.values().filter(|entry| !content.entries.contains_key(&entry.id)).cloned().collect();
        for entry in &gone {
            ledger.forget(entry);
            self.list.take(entry);
        }
        Ok(())
    }

    fn drop_expired(&self, ledger: &mut Ledger, now: Now) {
        let (mut count, second) = (0, ledger.clock.unix_secs(now));
        while let Some((_, id)) = ledger.expiring.first().copied().filter(|(expires, _)| *expires <= second) {
            ledger.expiring.pop_first();
            if let Some(entry) = ledger.entries.remove(&id) {
                self.list.take(&entry);
                count += 1;
            }
        }
        if let Some(journal) = &mut ledger.journal {
            journal.expired(count);
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Each change is whole in itself, so what a panic left is no half.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn append(&mut self, changes: &[Change<'_>], useless: usize) -> Result<(), RevocationFault> {
        let journal = self.journal.as_mut().ok_or(RevocationFault::ReadOnly)?;
        match journal.append(changes, useless) {
            Err(RevocationFault::Full) => {
                journal.compact(&self.entries, self.next)?;
                journal.append(changes, useless)
            }
            other => other,
        }
    }

    fn keep(&mut self, entry: &Arc<Entry>) {
        self.next = self.next.max(entry.id.saturating_add(1));
        self.expiring.extend(entry.revocation.expires.map(|expires| (expires, entry.id)));
        self.entries.insert(entry.id, Arc::clone(entry));
    }

    fn forget(&mut self, entry: &Entry) {
        self.entries.remove(&entry.id);
        if let Some(expires) = entry.revocation.expires {
            self.expiring.remove(&(expires, entry.id));
        }
    }

    /// Writes the file anew once most of it is useless. What was acknowledged is durable either way.
    fn tidy(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if !journal.is_wasteful(self.entries.len()) {
            return;
        }
        match journal.compact(&self.entries, self.next) {
            Ok(()) => tracing::info!(entries = self.entries.len(), "list of revocations written anew"),
            Err(fault) => {
                let cause = std::error::Error::source(&fault).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%fault, cause, "list of revocations not written anew");
            }
        }
    }
}
