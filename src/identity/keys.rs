//! The keys of one issuer: a set that requests read without a lock, a task that keeps it fresh, and the rule for what a
//! request may ask of that task.
//!
//! ```text
//!   no keys yet ──first answer──> fresh ──lifetime over, no new answer──> stale ──max_stale over──> too old
//!        │                          ▲                                        │                        │
//!   503, or waits for the           └───────────── any good answer ──────────┴────────────────────────┘
//!   first attempt to end
//! ```
//! Fresh and stale keys serve. A key that a new answer does not have any more is dead from that moment, for tokens that
//! were verified before, too.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use smallvec::SmallVec;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::key_place::KeyPlace;
use crate::{
    clock::Now,
    jose::{Algorithm, VerifyingKey},
};

/// How many keys are tried for one token: a set with more that could be meant costs a stranger too little to abuse.
const TRIES: usize = 4;
/// How long a request waits for the task.
const WAIT: Duration = Duration::from_secs(3);
/// How many requests wait at once; a flood of invented `kid`s must not pile up requests without end.
const WAITING: usize = 1024;

/// A key in use. It dies when it leaves its set.
#[derive(Debug)]
pub(super) struct LiveKey {
    key: VerifyingKey,
    alive: AtomicBool,
}

impl LiveKey {
    fn new(key: VerifyingKey) -> Arc<Self> {
        Arc::new(Self { key, alive: AtomicBool::new(true) })
    }

    pub(super) fn key(&self) -> &VerifyingKey {
        &self.key
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }
}

/// The keys that could have signed a token.
pub(super) type Candidates = SmallVec<[Arc<LiveKey>; TRIES]>;

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// That cannot be said now.
    Unavailable { retry_after_secs: u32 },
}

/// How an issuer's configuration bounds the use of its keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) cooldown: Duration,
    pub(super) max_stale: Duration,
}

/// A set of keys as it was read at one moment.
#[derive(Debug)]
struct KeySet {
    keys: Vec<Arc<LiveKey>>,
    read_at: Instant,
    /// `None`: these keys never grow old.
    fresh_until: Option<Instant>,
    /// Whether a key without a name serves a token that names one: so for the single key of a configuration, which has
    /// no name to give, and not in a set, where a name that is not there must be able to mean "a new key".
    nameless_serves_any: bool,
}

impl KeySet {
    fn is_usable(&self, now: Now, max_stale: Duration) -> bool {
        self.fresh_until
            .is_none_or(|fresh_until| fresh_until.checked_add(max_stale).is_none_or(|end| now.instant < end))
    }

    fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Candidates {
        let named = |key: &VerifyingKey| match (kid, key.kid()) {
            (Some(wanted), Some(kid)) => wanted == kid,
            (Some(_), None) => self.nameless_serves_any,
            (None, _) => true,
        };
        let fits = |live: &&Arc<LiveKey>| live.key.algorithms().contains(algorithm) && named(&live.key);
        let found: Candidates = self.keys.iter().filter(fits).take(TRIES + 1).cloned().collect();
        // OpenID Connect Core §10.1: a provider with several keys names the one it used; too many to try is unknown.
        if found.len() > TRIES { Candidates::new() } else { found }
    }
}

/// What is known of the attempts to read the keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    /// How many came to an end.
    pub(super) finished: u64,
    /// How many of the last failed in a row.
    pub(super) failures: u32,
    /// What the last failure was.
    pub(super) fault: Option<Arc<str>>,
    /// When the next one is due.
    pub(super) next_at: Option<Instant>,
}

/// What requests want of the task.
#[derive(Debug, Default)]
struct Demand {
    /// The number of the last attempt that began.
    begun: u64,
    /// The attempt that requests wait for, until it has come to an end.
    wanted: Option<u64>,
    /// When one was last asked for.
    asked_at: Option<Instant>,
}

/// What requests and the task share.
#[derive(Debug)]
pub(super) struct Shelf {
    set: ArcSwapOption<KeySet>,
    attempts: watch::Sender<Attempts>,
    demand: Mutex<Demand>,
    called: Notify,
    waiting: AtomicUsize,
    upkeep: Upkeep,
}

/// Who keeps the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upkeep {
    /// Nobody: they never change.
    Fixed,
    /// A task, which reads them again.
    Task,
}

impl Shelf {
    fn new(upkeep: Upkeep) -> Self {
        Self {
            set: ArcSwapOption::empty(),
            attempts: watch::Sender::new(Attempts::default()),
            demand: Mutex::default(),
            called: Notify::new(),
            waiting: AtomicUsize::new(0),
            upkeep,
        }
    }

    /// Puts a new answer in the old one's place: keys that are in both live on, keys that are not there any more die.
    pub(super) fn publish(&self, keys: Vec<VerifyingKey>, read_at: Instant, lifetime: Option<Duration>) {
        let old = self.set.load_full();
        let old_keys = old.as_ref().map_or(&[][..], |set| &set.keys);
        let mut fresh: Vec<Arc<LiveKey>> = Vec::with_capacity(keys.len());
        for key in keys {
            if !fresh.iter().any(|live| live.key == key) {
                fresh.push(old_keys.iter().find(|live| live.key == key).cloned().unwrap_or_else(|| LiveKey::new(key)));
            }
        }
        let dead: Vec<_> = old_keys.iter().filter(|old| !fresh.iter().any(|live| Arc::ptr_eq(live, old))).collect();
        self.set.store(Some(Arc::new(KeySet {
            keys: fresh,
            read_at,
            fresh_until: lifetime.and_then(|lifetime| read_at.checked_add(lifetime)),
            nameless_serves_any: self.upkeep == Upkeep::Fixed,
        })));
        for live in dead {
            live.alive.store(false, Ordering::Release);
        }
    }

    /// Says that an attempt begins.
    pub(super) fn begin(&self) {
        self.demand().begun += 1;
    }

    /// Says that the attempt came to an end, and wakes who waits for it.
    pub(super) fn end(&self, fault: Option<Arc<str>>, next_at: Option<Instant>) {
        let mut demand = self.demand();
        let finished = demand.begun;
        if demand.wanted.is_some_and(|wanted| wanted <= finished) {
            demand.wanted = None;
        }
        drop(demand);
        self.attempts.send_modify(|attempts| {
            attempts.finished = finished;
            attempts.failures = if fault.is_some() { attempts.failures.saturating_add(1) } else { 0 };
            attempts.fault = fault;
            attempts.next_at = next_at;
        });
    }

    /// Completes when a request wants an attempt.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }

    fn demand(&self) -> std::sync::MutexGuard<'_, Demand> {
        // Nothing in here can be left half done, so a poisoned lock is as good as any.
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the attempt to wait for, or `None` while the last one that was asked for is too recent.
    fn ask(&self, now: Now, cooldown: Duration) -> Option<u64> {
        let mut demand = self.demand();
        if let Some(wanted) = demand.wanted {
            return Some(wanted);
        }
        if demand.asked_at.is_some_and(|at| now.instant.saturating_duration_since(at) < cooldown) {
            return None;
        }
        let wanted = demand.begun + 1;
        demand.wanted = Some(wanted);
        demand.asked_at = Some(now.instant);
        self.called.notify_one();
        Some(wanted)
    }

    /// Waits for an attempt to end; `false` if that takes too long or too many wait already.
    async fn wait(&self, attempt: u64) -> bool {
        struct Place<'s>(&'s AtomicUsize);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if before >= WAITING {
            return false;
        }
        let mut attempts = self.attempts.subscribe();
        let ended = attempts.wait_for(|attempts| attempts.finished >= attempt);
        matches!(tokio::time::timeout(WAIT, ended).await, Ok(Ok(_)))
    }

    fn unavailable(&self, now: Now) -> NoKey {
        // After a failure the next attempt is near; after a success only this request had to wait too long.
        let attempts = self.attempts.borrow();
        let next_at = attempts.next_at.filter(|_| attempts.failures > 0);
        let wait = next_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now.instant));
        NoKey::Unavailable { retry_after_secs: u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX) }
    }
}

/// The keys of one issuer, and the task that keeps them fresh, which ends with them.
#[derive(Debug)]
pub(super) struct KeyStore {
    place: KeyPlace,
    shelf: Arc<Shelf>,
    task: Option<AbortHandle>,
}

impl Drop for KeyStore {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What an operator wants to know of an issuer's keys.
#[derive(Debug, Clone)]
pub(super) struct KeyStatus {
    pub(super) usable: bool,
    pub(super) keys: usize,
    pub(super) age: Option<Duration>,
    pub(super) attempts: Attempts,
}

impl KeyStore {
    /// Keys that stand in the configuration and never change.
    pub(super) fn fixed(place: KeyPlace, keys: Vec<VerifyingKey>, now: Now) -> Self {
        let shelf = Shelf::new(Upkeep::Fixed);
        shelf.publish(keys, now.instant, None);
        Self { place, shelf: Arc::new(shelf), task: None }
    }

    /// Keys that a task keeps fresh, with those that are known already.
    pub(super) fn refreshed(
        place: KeyPlace,
        keys: Vec<VerifyingKey>,
        now: Now,
        spawn: impl FnOnce(Arc<Shelf>) -> AbortHandle,
    ) -> Self {
        let shelf = Arc::new(Shelf::new(Upkeep::Task));
        if !keys.is_empty() {
            shelf.publish(keys, now.instant, Some(Duration::ZERO));
        }
        let task = spawn(Arc::clone(&shelf));
        Self { place, shelf, task: Some(task) }
    }

    /// Where the keys come from.
    pub(super) fn place(&self) -> &KeyPlace {
        &self.place
    }

    /// Whether there are keys that may serve.
    pub(super) fn is_usable(&self, now: Now, max_stale: Duration) -> bool {
        self.shelf.set.load().as_ref().is_some_and(|set| set.is_usable(now, max_stale))
    }

    /// Finds the keys that could have signed a token. With fresh keys and a known name this never waits.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        bounds: Bounds,
        now: Now,
    ) -> Result<Candidates, NoKey> {
        let shelf = &*self.shelf;
        // Just after a start the first answer is often a moment away.
        if shelf.upkeep == Upkeep::Task && shelf.set.load().is_none() && shelf.attempts.borrow().finished == 0 {
            shelf.wait(1).await;
        }
        let found = self.look(kid, algorithm, bounds, now)?;
        if !found.is_empty() {
            return Ok(found);
        }
        if shelf.upkeep == Upkeep::Fixed {
            return Err(NoKey::Unknown);
        }
        if let Some(attempt) = shelf.ask(now, bounds.cooldown)
            && !shelf.wait(attempt).await
        {
            return Err(shelf.unavailable(now));
        }
        let found = self.look(kid, algorithm, bounds, now)?;
        if !found.is_empty() {
            return Ok(found);
        }
        // With the endpoint down nobody can say that the key does not exist.
        if shelf.attempts.borrow().failures > 0 { Err(shelf.unavailable(now)) } else { Err(NoKey::Unknown) }
    }

    fn look(&self, kid: Option<&str>, algorithm: Algorithm, bounds: Bounds, now: Now) -> Result<Candidates, NoKey> {
        match &*self.shelf.set.load() {
            Some(set) if set.is_usable(now, bounds.max_stale) => Ok(set.candidates(kid, algorithm)),
            Some(_) | None => Err(self.shelf.unavailable(now)),
        }
    }

    /// What an operator wants to know.
    pub(super) fn status(&self, now: Now, max_stale: Duration) -> KeyStatus {
        let set = self.shelf.set.load();
        KeyStatus {
            usable: set.as_ref().is_some_and(|set| set.is_usable(now, max_stale)),
            keys: set.as_ref().map_or(0, |set| set.keys.len()),
            age: set
                .as_ref()
                .filter(|set| set.fresh_until.is_some())
                .map(|set| now.instant.saturating_duration_since(set.read_at)),
            attempts: self.shelf.attempts.borrow().clone(),
        }
    }
}
