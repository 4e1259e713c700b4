//! Deletions in the store: each change is one commit, of the record with the version that it replaces, of the person's row, and of the
//! notices that tell of it. An index in memory knows when each open one is due.
//!
//! ```text
//!   a command ─> read the record ─> life::apply ─> record + person's row + notices ─ commit ─> the index, the standing, the observer
//!                    ▲                                                             │
//!                    └───────── somebody else was first: once more ────────────────┘
//! ```
//! A change is done on the runtime of background work, so that it is done to its end, and seen here, whoever waits for it.

use std::{
    collections::HashSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use serde_json::value::RawValue;
use tokio::{
    runtime::Handle,
    sync::{Mutex, Notify},
};

use super::{
    breaker::{ASKED, Asked, Breaker, RESET, Reset, Said, TRIPPED, Tripped, window},
    fault::Fault,
    index::{Index, Sought, Tally},
    life::{self, Command, NotNow, Told},
    means::ErasureObserver,
    record::{Erasure, FORM, Known, Personal, Selector, State, What, hash_of_json},
    settled::{CLOCK, Last, Settled},
    standing::Standings,
    subject::{Frozen, SubjectRow, short},
    told::{Tale, Teller},
    view::link_token,
};
use crate::{
    clock::Now,
    config::{self, Terms},
    notify::Outbox,
    store::{Batch, MAX_WRITES, Readable, Store, StoreFault, Table, Versioned},
};

/// What the keys of deletions begin with that something is left to do for.
pub(super) const OPEN: &str = "open/";
/// What the keys of all others begin with: they are read one by one, or in pages, and never all at once.
const DONE: &str = "done/";
/// The row of the claims by which people are known.
const SELECTORS: &str = "selectors";
/// How often a change is tried that others were before with.
const TRIES: usize = 16;
/// How many rows are read at once.
const PAGE: usize = 500;
/// How many changes of people's rows go on at once.
const LANES: usize = 64;

/// What there is in memory; it outlives a store that is sealed by other keys.
pub(super) struct Kept {
    pub(super) standings: Standings,
    pub(super) breaker: Breaker,
    pub(super) index: RwLock<Index>,
    /// What time it is.
    pub(super) settled: Settled,
    /// The configuration that is in force.
    pub(super) config: ArcSwapOption<config::Deletions>,
    /// Somebody should look what is due.
    pub(super) wake: Notify,
    /// What is in memory may not be what is in the store.
    pub(super) in_doubt: AtomicBool,
    terms: DashMap<Box<str>, Arc<Terms>>,
    lanes: [Mutex<()>; LANES],
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            standings: Standings::default(),
            breaker: Breaker::default(),
            index: RwLock::default(),
            settled: Settled::default(),
            config: ArcSwapOption::empty(),
            wake: Notify::new(),
            in_doubt: AtomicBool::new(false),
            terms: DashMap::new(),
            lanes: std::array::from_fn(|_| Mutex::new(())),
        }
    }
}

/// That a change may have been done though nobody was told so: its answer was lost, or it broke off, by a panic even.
struct Doubt {
    kept: Arc<Kept>,
    observer: Arc<dyn ErasureObserver>,
    is_due: bool,
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if self.is_due {
            self.observer.store_fault();
            self.kept.in_doubt.store(true, Ordering::Release);
            self.kept.wake.notify_one();
        }
    }
}

/// Deletions in the store.
pub(super) struct Ledger {
    pub(super) store: Arc<Store>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) observer: Arc<dyn ErasureObserver>,
    pub(super) kept: Arc<Kept>,
    pub(super) handle: Handle,
}

/// A deletion that somebody wants.
pub(super) struct Wanted {
    /// The record as far as it is known: [`life::begin_with`] does the rest.
    pub(super) erasure: Erasure,
    pub(super) terms: Arc<Terms>,
}

/// What came of a request.
pub(super) struct Opened {
    pub(super) known: Known,
    pub(super) repeated: bool,
}

/// Some of those that nothing is left to do for.
pub(super) struct Done {
    pub(super) found: Vec<Known>,
    /// The numbers of those that cannot be read.
    pub(super) unreadable: Vec<Box<str>>,
    /// The last one that was looked at, if there may be more.
    pub(super) next: Option<Box<str>>,
}

/// Whether an open deletion is about what a request names, as far as both name it.
fn is_about(erasure: &Erasure, asked: &Personal) -> bool {
    let is_named = |name: &str| ["path.", "query.", "body."].iter().any(|from| name.starts_with(from));
    erasure.personal.as_ref().is_some_and(|open| {
        let mut named = asked.values.iter().filter(|(name, _)| is_named(name));
        named.all(|(name, value)| open.values.get(name).is_none_or(|known| known == value))
    })
}

/// Whether this can be the number of a deletion.
pub(super) fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("store", &self.store).finish_non_exhaustive()
    }
}

fn damaged(what: &str) -> StoreFault {
    StoreFault::Unreadable(format!("in erasures: {what}"))
}

impl Ledger {
    fn index(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.kept.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.kept.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, key: &str) -> &Mutex<()> {
        let place = short(key).and_then(|number| usize::try_from(number % (LANES as u128)).ok()).unwrap_or(0);
        self.kept.lanes.get(place).unwrap_or(&self.kept.lanes[0])
    }

    // ── reading ──

    /// The terms with a hash.
    pub(super) async fn terms(&self, hash: &str, now: Now) -> Result<Arc<Terms>, StoreFault> {
        if let Some(terms) = self.kept.terms.get(hash) {
            return Ok(terms.clone());
        }
        let row = self.store.get::<Box<RawValue>>(Table::ErasurePlans, hash, now).await?;
        let json = row.ok_or_else(|| damaged("the terms of a deletion are missing"))?.value;
        // What it was made under is what it is carried out by. The text is compared, not what this version would write.
        if *hash_of_json(json.get()) != *hash {
            return Err(damaged("the terms of a deletion are not what they were"));
        }
        let terms = serde_json::from_str::<Terms>(json.get());
        // What serde says may quote a value.
        let terms = Arc::new(terms.map_err(|_| damaged("the terms of a deletion have another form than expected"))?);
        self.kept.terms.insert(hash.into(), terms.clone());
        Ok(terms)
    }

    /// A deletion, and the key of its row.
    async fn find(&self, id: &str, now: Now) -> Result<Option<(Known, String)>, StoreFault> {
        if !is_id(id) {
            return Ok(None);
        }
        // In this order: a row moves from the one to the other, and never back.
        for folder in [OPEN, DONE] {
            let key = format!("{folder}{id}");
            if let Some(row) = self.store.get::<Erasure>(Table::Erasures, &key, now).await? {
                let terms = self.terms(&row.value.terms, now).await?;
                return Ok(Some((known(row, terms)?, key)));
            }
        }
        Ok(None)
    }

    /// A deletion.
    pub(super) async fn get(&self, id: &str, now: Now) -> Result<Option<Known>, StoreFault> {
        Ok(self.find(id, now).await?.map(|(known, _)| known))
    }

    /// A person's row.
    pub(super) async fn subject(&self, key: &str, now: Now) -> Result<Option<Versioned<SubjectRow>>, StoreFault> {
        self.store.get(Table::ErasureSubjects, key, now).await
    }

    /// Deletions that nothing is left to do for, after a number, in the order of the numbers.
    pub(super) async fn done(&self, after: Option<&str>, limit: usize, now: Now) -> Result<Done, StoreFault> {
        let after = after.map(|id| format!("{DONE}{id}"));
        let page = self.store.readable::<Erasure>(Table::Erasures, DONE, after.as_deref(), limit, now).await?;
        let mut found = Vec::with_capacity(page.rows.len());
        let number = |key: &str| key.strip_prefix(DONE).map(Box::<str>::from);
        let mut unreadable: Vec<Box<str>> = page.unreadable.iter().filter_map(|key| number(key)).collect();
        for row in page.rows {
            let id = row.value.id.clone();
            match self.terms(&row.value.terms, now).await.and_then(|terms| known(row, terms)) {
                Ok(known) => found.push(known),
                Err(StoreFault::Unreadable(_)) => unreadable.push(id),
                Err(fault) => return Err(fault),
            }
        }
        Ok(Done { found, unreadable, next: page.next.as_deref().and_then(number) })
    }

    /// Open deletions that are sought, after a number.
    pub(super) fn page(&self, sought: Sought<'_>, after: Option<&str>, most: usize) -> Vec<Box<str>> {
        self.index_read().page(sought, after, most)
    }

    /// Open deletions that cannot be read.
    pub(super) fn unreadable(&self) -> Vec<Box<str>> {
        self.index_read().unreadable()
    }

    /// How many there are.
    pub(super) fn tally(&self, at: u64) -> Tally {
        self.index_read().tally(at)
    }

    /// Those that are due, the longest first.
    pub(super) fn due(&self, at: u64, most: usize) -> Vec<Box<str>> {
        self.index_read().due(at, most)
    }

    /// When the next one is due.
    pub(super) fn due_after(&self, at: u64) -> Option<u64> {
        self.index_read().due_after(at)
    }

    /// Leaves a deletion alone until then, or until it changes.
    pub(super) fn rest(&self, id: &str, until: Instant) {
        self.index().rest(id, until);
    }

    /// Ends what was left alone for long enough; when the next one is.
    pub(super) fn wake(&self, now: Instant) -> Option<Instant> {
        self.index().wake(now)
    }

    /// Whether something is left to do for any.
    pub(super) fn is_any_open(&self) -> bool {
        self.index_read().is_any()
    }

    /// Whether something is left to do for a deletion.
    pub(super) fn is_open(&self, id: &str) -> bool {
        self.index_read().has(id)
    }

    /// Those of which events are to be written to the audit chain.
    pub(super) fn unplaced(&self, most: usize) -> Vec<Box<str>> {
        self.index_read().unplaced(most)
    }

    // ── starting ──

    /// Reads all that must be known before anything is served.
    pub(super) async fn load(&self, now: Now) -> Result<(), StoreFault> {
        self.load_selectors(now).await?;
        self.load_subjects(now).await?;
        self.load_breaker(now).await?;
        let latest = self.load_open(now).await?;
        self.load_clock(latest, now).await
    }

    /// Takes what time it was when anything was last done or looked at; of no interest where nothing is open.
    async fn load_clock(&self, latest: Option<u64>, now: Now) -> Result<(), StoreFault> {
        let row = self.store.get::<Last>(Table::ErasureBreaker, CLOCK, now).await?;
        let last = row.map(|row| row.value.at).or(latest).filter(|_| latest.is_some());
        if let Some(last) = last.filter(|last| self.kept.settled.begin(*last, now)) {
            let hours = now.unix_secs().saturating_sub(last) / 3600;
            tracing::warn!(
                hours,
                "the clock is far ahead of the last time that is known: nothing is carried out for a quarter of an hour, unless it is set \
                 right before"
            );
        }
        Ok(())
    }

    /// Keeps what time it is, for the next start.
    pub(super) async fn keep_clock(&self, now: Now) -> Result<(), StoreFault> {
        let row = self.store.get::<Last>(Table::ErasureBreaker, CLOCK, now).await?;
        let version = row.map_or(0, |row| row.version);
        let batch = Batch::new().update(Table::ErasureBreaker, CLOCK, version, &Last { at: now.unix_secs() }, None);
        match self.store.commit(batch, now).await {
            // Another gateway has just kept it.
            Ok(()) | Err(StoreFault::Conflict) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn load_selectors(&self, now: Now) -> Result<(), StoreFault> {
        let row = self.store.get::<Vec<Selector>>(Table::ErasurePlans, SELECTORS, now).await?;
        self.kept.standings.know(row.map(|row| row.value).unwrap_or_default());
        Ok(())
    }

    /// Reads everybody of whom something is to be said. A row that cannot be read may be of somebody who is erased: nothing is served
    /// without it.
    async fn load_subjects(&self, now: Now) -> Result<(), StoreFault> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.page::<SubjectRow>(Table::ErasureSubjects, "", after.as_deref(), PAGE, now).await?;
            for row in &page {
                self.kept.standings.note(&row.key, &row.value);
                if row.value.frozen.is_some() {
                    self.index().freeze(&row.key, true);
                }
            }
            match page.last() {
                Some(last) if page.len() >= PAGE => after = Some(last.key.clone()),
                Some(_) | None => return Ok(()),
            }
        }
    }

    async fn load_breaker(&self, now: Now) -> Result<(), StoreFault> {
        let before = self.kept.breaker.tripped();
        let reset = self.store.get::<Reset>(Table::ErasureBreaker, RESET, now).await?;
        if let Some(reset) = reset {
            self.kept.breaker.reset_before(reset.value.at);
        }
        self.kept.breaker.set(&before, self.all_tripped(now).await?);
        // Told at a start that finds it tripped, and where another gateway tripped or reset it; here that is told when it is done.
        let is_tripped = !self.kept.breaker.tripped().is_empty();
        if is_tripped == before.is_empty() {
            self.observer.breaker(is_tripped);
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.store.page::<Asked>(Table::ErasureBreaker, ASKED, after.as_deref(), PAGE, now).await?;
            for row in &page {
                let id = row.key.strip_prefix(ASKED).and_then(short);
                if let (Some(by), Some(id)) = (short(&row.value.by), id) {
                    self.kept.breaker.note(row.value.at, by, id);
                }
            }
            match page.last() {
                Some(last) if page.len() >= PAGE => after = Some(last.key.clone()),
                Some(_) | None => return Ok(()),
            }
        }
    }

    async fn all_tripped(&self, now: Now) -> Result<Vec<Tripped>, StoreFault> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.store.page::<Tripped>(Table::ErasureBreaker, TRIPPED, after.as_deref(), PAGE, now).await?;
            after = page.last().filter(|_| page.len() >= PAGE).map(|row| row.key.clone());
            all.extend(page.into_iter().map(|row| row.value));
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Reads every open deletion, before anything is changed; when something last happened to any. One that cannot be read is told, and
    /// stays.
    async fn load_open(&self, now: Now) -> Result<Option<u64>, StoreFault> {
        let (mut after, mut latest) = (None::<String>, None);
        loop {
            let page = self.open_page(after.as_deref(), now).await?;
            for row in page.rows {
                // One whose terms cannot be read is as one that cannot be read: told, and left for when they can be.
                let id = row.value.id.clone();
                latest = latest.max(Some(row.value.events.last().map_or(row.value.requested_at, |event| event.at)));
                match self.terms(&row.value.terms, now).await.and_then(|terms| known(row, terms)) {
                    Ok(known) => self.index().note(&known),
                    Err(fault) => {
                        tracing::error!(deletion = &*id, %fault, "a deletion cannot be read, and waits");
                        self.index().note_unreadable(&id);
                    }
                }
            }
            self.note_unreadable(&page.unreadable);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(latest),
            }
        }
    }

    /// Looks at every open deletion again: for what another process did meanwhile, and for what became of a commit whose answer was
    /// lost.
    pub(super) async fn rescan(&self, now: Now) -> Result<(), StoreFault> {
        let (mut seen, mut after) = (HashSet::new(), None::<String>);
        loop {
            let page = self.open_page(after.as_deref(), now).await?;
            for Versioned { value, version, .. } in &page.rows {
                let Some(id) = short(&value.id) else { continue };
                seen.insert(id);
                if self.index_read().version(id) != Some(*version) {
                    self.refresh(&value.id, now).await?;
                }
            }
            self.note_unreadable(&page.unreadable);
            seen.extend(page.unreadable.iter().filter_map(|key| key.strip_prefix(OPEN).and_then(short)));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let gone = self.index_read().others(&seen);
        for id in gone {
            self.refresh(&format!("{id:032x}"), now).await?;
        }
        self.rescan_people(now).await?;
        // What another gateway was asked for counts here, and where it was tripped, or reset, it is here as well.
        self.load_breaker(now).await?;
        self.load_selectors(now).await?;
        self.kept.wake.notify_one();
        Ok(())
    }

    /// Looks at everybody again: a deletion that another process carried out may have come to its end between two looks.
    async fn rescan_people(&self, now: Now) -> Result<(), StoreFault> {
        let mut after: Option<String> = None;
        loop {
            let people = Table::ErasureSubjects;
            let page = self.store.readable::<SubjectRow>(people, "", after.as_deref(), PAGE, now).await?;
            for row in &page.rows {
                if !self.kept.standings.agrees(&row.key, &row.value) {
                    self.renote(&row.key, now).await?;
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn note_unreadable(&self, keys: &[String]) {
        for id in keys.iter().filter_map(|key| key.strip_prefix(OPEN)) {
            self.index().note_unreadable(id);
        }
    }

    async fn open_page(&self, after: Option<&str>, now: Now) -> Result<Readable<Erasure>, StoreFault> {
        self.store.readable(Table::Erasures, OPEN, after, PAGE, now).await
    }

    /// Takes a deletion as it is in the store.
    pub(super) async fn refresh(&self, id: &str, now: Now) -> Result<(), StoreFault> {
        let Some(known) = self.get(id, now).await? else {
            self.index().forget(id);
            return Ok(());
        };
        let key = &*known.erasure.whose.key;
        {
            // Not while somebody changes it, and takes what they made of it.
            let _one_at_a_time = self.lane(key).lock().await;
            if let Some(known) = self.get(id, now).await? {
                self.index().note(&known);
            }
        }
        self.renote(key, now).await
    }

    /// Takes a person's row as it is in the store.
    async fn renote(&self, key: &str, now: Now) -> Result<(), StoreFault> {
        let _one_at_a_time = self.lane(key).lock().await;
        let row = self.subject(key, now).await?;
        let row = row.map(|row| row.value).unwrap_or_default();
        self.note_person(key, &row);
        Ok(())
    }

    // ── changing ──

    /// Does something to a deletion. Whoever waits may go away: it is done all the same, or not at all.
    pub(super) async fn change(self: &Arc<Self>, id: &str, command: Command, now: Now) -> Result<Known, Fault> {
        let (ledger, id) = (self.clone(), id.to_owned());
        self.to_its_end(async move { ledger.change_here(&id, command, now).await }).await
    }

    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let ended = |_| Fault::Store(StoreFault::Unavailable("it broke off".to_owned()));
        let doubt = Doubt { kept: self.kept.clone(), observer: self.observer.clone(), is_due: true };
        // Whoever waits may be gone by then: what is in doubt is noted where it is done.
        let work = async move {
            let mut doubt = doubt;
            let done = work.await;
            doubt.is_due = matches!(done, Err(Fault::Store(StoreFault::Unavailable(_) | StoreFault::Unreadable(_))));
            done
        };
        self.handle.spawn(work).await.map_err(ended)?
    }

    async fn change_here(&self, id: &str, command: Command, now: Now) -> Result<Known, Fault> {
        let whose = self.get(id, now).await?.ok_or(Fault::NotFound)?.erasure.whose.key;
        let _one_at_a_time = self.lane(&whose).lock().await;
        for _ in 0..TRIES {
            let (before, row) = self.find(id, now).await?.ok_or(Fault::NotFound)?;
            let changed = match life::apply(&before.erasure, &before.terms, command.clone(), now.unix_secs()) {
                Ok(changed) => changed,
                // Said once more by whoever has the link, it still counts for what may be asked for later.
                Err(NotNow::Already) if matches!(command, Command::Dispute(_)) => {
                    life::Changed { erasure: before.erasure.clone(), told: Vec::new() }
                }
                Err(not_now) => return Err(not_now.into()),
            };
            let freezes = matches!(command, Command::Dispute(_));
            match self.commit(&before, &row, changed, freezes, now).await {
                Ok(known) => return Ok(known),
                Err(Fault::Store(StoreFault::Conflict)) => {}
                Err(fault) => return Err(fault),
            }
        }
        // Of this row alone, so the others need not wait.
        Err(StoreFault::Conflict.into())
    }

    async fn commit(
        &self,
        before: &Known,
        row: &str,
        changed: life::Changed,
        freezes: bool,
        now: Now,
    ) -> Result<Known, Fault> {
        let Known { terms, version, .. } = before;
        let (erasure, at) = (changed.erasure, now.unix_secs());
        let id = &*before.erasure.id;
        let config = self.kept.config.load_full();
        let mut batch = Batch::new();
        let moves = erasure.is_settled() && row.starts_with(OPEN);
        batch = if moves {
            let expires_at = self.evidence_until(&erasure, config.as_deref());
            batch.delete(Table::Erasures, row, *version).insert(
                Table::Erasures,
                &format!("{DONE}{id}"),
                &erasure,
                expires_at,
            )
        } else {
            let expires_at =
                if row.starts_with(DONE) { self.evidence_until(&erasure, config.as_deref()) } else { None };
            batch.update(Table::Erasures, row, *version, &erasure, expires_at)
        };
        let key = &*before.erasure.whose.key;
        let (subject_version, was) = self.person(key, now).await?;
        let mut person = was.clone();
        person.follow(id, life::tokens(&erasure, terms), erasure.state.is_final());
        if freezes && person.frozen.is_none() && erasure.state != State::Erased {
            person.frozen = Some(Frozen { at, id: id.into() });
        }
        if was != person {
            batch = batch.update(Table::ErasureSubjects, key, subject_version, &person, person.expires_at(at));
        }
        let batch = self.tell(batch, &erasure, before.erasure.personal.as_ref(), terms, &changed.told, now)?;
        let versions = self.store.commit_versions(batch, now).await?;
        self.outbox.poke();
        let known = Known { version: versions.first().copied().unwrap_or(0), terms: terms.clone(), erasure };
        self.note_person(key, &person);
        self.seen(before.erasure.events.len(), &known);
        Ok(known)
    }

    fn evidence_until(&self, erasure: &Erasure, config: Option<&config::Deletions>) -> Option<u64> {
        let kept = config.and_then(|config| config.evidence_for).as_ref().map(Duration::as_secs)?;
        Some(erasure.ended_at?.saturating_add(kept))
    }

    /// Adds the notices of a change to its commit. Addresses are of the person as the record had them before: the last change takes
    /// them out of it.
    fn tell(
        &self,
        batch: Batch,
        erasure: &Erasure,
        personal: Option<&Personal>,
        terms: &Terms,
        told: &[Told],
        now: Now,
    ) -> Result<Batch, Fault> {
        let Some(config) = self.kept.config.load_full() else { return Ok(batch) };
        if told.is_empty() {
            return Ok(batch);
        }
        let erasure = Erasure { personal: personal.cloned(), ..erasure.clone() };
        let teller = Teller { config: &config, outbox: &self.outbox };
        let token = link_token(&self.store, &erasure.id);
        let (batch, untold) = teller.add(batch, &Tale { erasure: &erasure, terms, told, token: &token }, now)?;
        for _ in 0..untold {
            self.observer.untold();
        }
        Ok(batch)
    }

    async fn person(&self, key: &str, now: Now) -> Result<(u64, SubjectRow), StoreFault> {
        let row = self.subject(key, now).await?;
        Ok(row.map_or_else(Default::default, |row| (row.version, row.value)))
    }

    fn note_person(&self, key: &str, row: &SubjectRow) {
        self.kept.standings.note(key, row);
        self.index().freeze(key, row.frozen.is_some());
    }

    /// Takes what was done.
    fn seen(&self, events_before: usize, known: &Known) {
        self.index().note(known);
        let plan = &*known.erasure.plan;
        for event in known.erasure.events.iter().skip(events_before) {
            self.observer.happened(plan, event.what.name());
            if let What::Looked { there, .. } = event.what {
                self.observer.looked(plan, if there { "there" } else { "gone" });
            }
        }
        self.kept.wake.notify_one();
    }

    // ── asking ──

    /// The deletion of a person that is open, or why none may be asked for now.
    pub(super) async fn open_of(
        &self,
        key: &str,
        (plan, asked): (&str, &Personal),
        now: Now,
    ) -> Result<Option<Known>, Fault> {
        let (_, person) = self.person(key, now).await?;
        self.open_in(&person, (plan, asked), now).await
    }

    async fn open_in(
        &self,
        person: &SubjectRow,
        (plan, asked): (&str, &Personal),
        now: Now,
    ) -> Result<Option<Known>, Fault> {
        let open = match &person.open {
            Some(id) => Some(self.get(id, now).await?.ok_or_else(|| damaged("an open deletion is missing"))?),
            None => None,
        };
        match open {
            // Of another tenant's data, or whatever else a request binds, this one says nothing: nobody is told that it will go.
            Some(known) if *known.erasure.plan == *plan && is_about(&known.erasure, asked) => Ok(Some(known)),
            Some(_) => Err(Fault::AnotherOpen),
            None if person.frozen.is_some() => Err(Fault::Frozen),
            None => Ok(None),
        }
    }

    /// Makes a deletion, or finds the one that is open.
    pub(super) async fn ask(self: &Arc<Self>, wanted: Wanted, now: Now) -> Result<Opened, Fault> {
        let ledger = self.clone();
        self.to_its_end(async move { ledger.ask_here(wanted, now).await }).await
    }

    async fn ask_here(&self, wanted: Wanted, now: Now) -> Result<Opened, Fault> {
        let _one_at_a_time = self.lane(&wanted.erasure.whose.key).lock().await;
        let at = now.unix_secs();
        let config = self.kept.config.load_full();
        let (id, by) = (short(&wanted.erasure.id).unwrap_or(0), short(&wanted.erasure.requester_key).unwrap_or(0));
        // Once, however often it is tried: what others ask for meanwhile is after it.
        let mut said: Option<Said> = None;
        let mut ended = Err(StoreFault::Busy.into());
        for _ in 0..TRIES {
            ended = self.try_to_open(&wanted, &mut said, (id, by), config.as_deref(), now).await;
            if !matches!(ended, Err(Fault::Store(StoreFault::Conflict))) {
                break;
            }
        }
        let is_made = ended.as_ref().is_ok_and(|opened| !opened.repeated);
        if !is_made {
            self.kept.breaker.take_back(at, id);
        }
        match ended {
            Err(Fault::Store(StoreFault::Conflict)) => Err(StoreFault::Busy.into()),
            ended => ended,
        }
    }

    async fn try_to_open(
        &self,
        wanted: &Wanted,
        said: &mut Option<Said>,
        (id, by): (u128, u128),
        config: Option<&config::Deletions>,
        now: Now,
    ) -> Result<Opened, Fault> {
        let (version, person) = self.person(&wanted.erasure.whose.key, now).await?;
        let asked = wanted.erasure.personal.as_ref().ok_or_else(|| damaged("a request is about nobody"))?;
        if let Some(known) = self.open_in(&person, (&wanted.erasure.plan, asked), now).await? {
            return Ok(Opened { known, repeated: true });
        }
        if let (None, Some(config)) = (&said, config) {
            let requester = (&*wanted.erasure.requester_key, by);
            *said = Some(self.kept.breaker.reserve(now.unix_secs(), requester, id, &config.breaker));
        }
        let known = self.open(wanted, (version, person), said.as_ref(), config, now).await?;
        Ok(Opened { known, repeated: false })
    }

    async fn open(
        &self,
        wanted: &Wanted,
        (version, mut person): (u64, SubjectRow),
        said: Option<&Said>,
        config: Option<&config::Deletions>,
        now: Now,
    ) -> Result<Known, Fault> {
        let (terms, at) = (&wanted.terms, now.unix_secs());
        let is_held = said.is_some_and(|said| said.is_held);
        // By the later of two clocks that are not at one: the grace is never shorter than was promised.
        let asked_at = at.max(wanted.erasure.requested_at);
        let life::Changed { erasure, told } = life::begin_with(wanted.erasure.clone(), terms, is_held, asked_at);
        let (id, key) = (&*erasure.id, &*erasure.whose.key);
        person.opened(id);
        person.follow(id, life::tokens(&erasure, terms), false);
        let mut batch = Batch::new().insert(Table::Erasures, &format!("{OPEN}{id}"), &erasure, None).update(
            Table::ErasureSubjects,
            key,
            version,
            &person,
            person.expires_at(at),
        );
        if self.store.get::<serde::de::IgnoredAny>(Table::ErasurePlans, &erasure.terms, now).await?.is_none() {
            batch = batch.insert(Table::ErasurePlans, &erasure.terms, &**terms, None);
        }
        batch = self.keep_selector(batch, &erasure.whose.claim, now).await?;
        if let Some(config) = config.filter(|_| said.is_none_or(|said| said.counts)) {
            let asked = Asked { at, by: erasure.requester_key.clone() };
            let until = at.saturating_add(window(&config.breaker)).saturating_add(1);
            batch = batch.insert(Table::ErasureBreaker, &format!("{ASKED}{id}"), &asked, Some(until));
        }
        let trips = said.and_then(|said| said.trips.as_ref());
        if let Some(tripped) = trips {
            let row = self.store.get::<Tripped>(Table::ErasureBreaker, &tripped.row(), now).await?;
            if row.is_none() {
                batch = batch.insert(Table::ErasureBreaker, &tripped.row(), tripped, None);
            }
        }
        // Operators are told when it trips, and not once more for each that is held by it.
        let told: Vec<Told> = told.into_iter().filter(|told| *told != Told::Breaker || trips.is_some()).collect();
        let batch = self.tell(batch, &erasure, erasure.personal.as_ref(), terms, &told, now)?;
        let versions = self.store.commit_versions(batch, now).await?;
        self.outbox.poke();
        self.kept.terms.insert(erasure.terms.clone(), terms.clone());
        self.kept.standings.know([erasure.whose.claim.clone()]);
        self.note_person(key, &person);
        if let Some(tripped) = trips {
            self.kept.breaker.trip(tripped.clone());
            self.observer.breaker(true);
        }
        let version = versions.first().copied().unwrap_or(0);
        let known = Known { terms: terms.clone(), version, erasure };
        self.seen(0, &known);
        Ok(known)
    }

    /// Remembers the claim by which a person is known, for when the plan is there no more.
    async fn keep_selector(&self, batch: Batch, claim: &Selector, now: Now) -> Result<Batch, StoreFault> {
        let row = self.store.get::<Vec<Selector>>(Table::ErasurePlans, SELECTORS, now).await?;
        let (version, mut known) = row.map_or_else(Default::default, |row| (row.version, row.value));
        if known.contains(claim) {
            return Ok(batch);
        }
        known.push(claim.clone());
        Ok(batch.update(Table::ErasurePlans, SELECTORS, version, &known, None))
    }

    // ── operators ──

    /// Changes a person's row; whether there was one that was changed.
    pub(super) async fn change_person(
        self: &Arc<Self>,
        key: &str,
        change: fn(&mut SubjectRow),
        now: Now,
    ) -> Result<bool, Fault> {
        let (ledger, key) = (self.clone(), key.to_owned());
        self.to_its_end(async move { ledger.change_person_here(&key, change, now).await }).await
    }

    async fn change_person_here(&self, key: &str, change: fn(&mut SubjectRow), now: Now) -> Result<bool, Fault> {
        let _one_at_a_time = self.lane(key).lock().await;
        for _ in 0..TRIES {
            let (version, was) = self.person(key, now).await?;
            let mut person = was.clone();
            change(&mut person);
            if version == 0 || person == was {
                return Ok(false);
            }
            let expires_at = person.expires_at(now.unix_secs());
            let batch = Batch::new().update(Table::ErasureSubjects, key, version, &person, expires_at);
            match self.store.commit(batch, now).await {
                Ok(()) => {
                    self.note_person(key, &person);
                    return Ok(true);
                }
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(StoreFault::Busy.into())
    }

    /// Lets deletions go on as before; those that are held stay so until each is released.
    pub(super) async fn reset_breaker(self: &Arc<Self>, now: Now) -> Result<bool, Fault> {
        let ledger = self.clone();
        self.to_its_end(async move { ledger.reset_here(now).await }).await
    }

    async fn reset_here(&self, now: Now) -> Result<bool, Fault> {
        for _ in 0..TRIES {
            match self.try_to_reset(now).await {
                Err(StoreFault::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(StoreFault::Conflict.into())
    }

    async fn try_to_reset(&self, now: Now) -> Result<bool, StoreFault> {
        let at = now.unix_secs();
        let tripped = self.store.page::<Tripped>(Table::ErasureBreaker, TRIPPED, None, PAGE, now).await?;
        let config = self.kept.config.load_full();
        let until = config.map(|config| at.saturating_add(window(&config.breaker)).saturating_add(1));
        let row = self.store.get::<Reset>(Table::ErasureBreaker, RESET, now).await?;
        let version = row.map_or(0, |row| row.version);
        let mut batch = Batch::new().update(Table::ErasureBreaker, RESET, version, &Reset { at }, until);
        for row in tripped.iter().take(MAX_WRITES - 1) {
            batch = batch.forget(Table::ErasureBreaker, &row.key);
        }
        self.store.commit(batch, now).await?;
        self.kept.breaker.reset(at);
        self.observer.breaker(false);
        Ok(!tripped.is_empty())
    }
}

fn known(row: Versioned<Erasure>, terms: Arc<Terms>) -> Result<Known, StoreFault> {
    if row.value.v > FORM {
        return Err(damaged("a deletion was written by a later version"));
    }
    Ok(Known { erasure: row.value, terms, version: row.version })
}
