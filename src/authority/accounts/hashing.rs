//! Passwords, hashed in their queue; and the one time after which a sign-in is refused, whatever was the matter.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    authority::Fault,
    password::{Busy, Cost, HashQueue, StoredHash},
    secret::Secret,
    store::StoreFault,
};

/// How many are hashed at once, and how many wait: as many as there are cores, and some seconds of waiting.
const WAITING: usize = 64;
/// What nobody waits for: the longest hash that is taken, several times.
const LONGEST_PACE: Duration = Duration::from_secs(2);

/// Where passwords are hashed.
#[derive(Debug)]
pub(super) struct Hashing {
    queue: HashQueue,
    /// What a sign-in that is refused takes, in microseconds: the longest that one took lately.
    pace: AtomicU64,
    hashed: Hashed,
}

/// Which threads hashed, for tests: none that serves requests may.
#[derive(Debug, Clone, Default)]
struct Hashed(#[cfg(test)] std::sync::Arc<std::sync::Mutex<Vec<std::thread::ThreadId>>>);

impl Hashed {
    /// One more, on this thread.
    fn here(&self) {
        #[cfg(test)]
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(std::thread::current().id());
    }
}

impl Hashing {
    pub(super) fn new(handle: Handle) -> Self {
        let concurrent = std::thread::available_parallelism().map_or(1, usize::from);
        Self { queue: HashQueue::new(concurrent, WAITING, handle), pace: AtomicU64::new(0), hashed: Hashed::default() }
    }

    /// How many hashes were computed since the start.
    #[cfg(test)]
    pub(super) fn computed(&self) -> u64 {
        self.hashed_on().len() as u64
    }

    /// The thread of each.
    #[cfg(test)]
    pub(super) fn hashed_on(&self) -> Vec<std::thread::ThreadId> {
        self.hashed.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Whether a password is the stored one; where none is stored, one is hashed all the same. The cost is told, so that it can
    /// be seen whether the stored one should be made anew.
    pub(super) async fn verify(&self, stored: Option<&str>, password: &str) -> Result<(bool, Option<Cost>), Fault> {
        // A stored text that cannot be read is nobody's password.
        let stored = stored.and_then(|text| StoredHash::parse(text).ok());
        let cost = stored.as_ref().map(StoredHash::cost);
        let stored = stored.unwrap_or_else(|| StoredHash::decoy(None, &[0; 16]));
        let password = Secret::new(password);
        let hashed = self.hashed.clone();
        let job = move || {
            hashed.here();
            stored.verify(password.expose())
        };
        Ok((self.queue.run(job).await.map_err(busy)? && cost.is_some(), cost))
    }

    /// A password as it is to be stored.
    pub(super) async fn fresh(&self, password: &str) -> Result<String, Fault> {
        let password = Secret::new(password);
        let hashed = self.hashed.clone();
        let job = move || {
            hashed.here();
            StoredHash::fresh(password.expose())
        };
        let none = || Fault::Store(StoreFault::Unavailable("a password cannot be hashed".to_owned()));
        self.queue.run(job).await.map_err(busy)?.ok_or_else(none)
    }

    /// Waits until a refusal takes what the slowest one took, so that a name which nobody has, a hash of another kind and a
    /// lock cannot be told apart by the clock.
    pub(super) async fn pace(&self, began: Instant) {
        let took = began.elapsed().min(LONGEST_PACE);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // The longest, but what was slow by chance is forgotten by and by.
        let before = self.pace.load(Ordering::Relaxed);
        let pace = micros.max(before - before / 64);
        self.pace.store(pace, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_micros(pace).saturating_sub(took)).await;
    }
}

/// Whether a stored password is weaker than one that would be stored today.
pub(super) fn is_outdated(cost: Cost) -> bool {
    match cost {
        Cost::Bcrypt(_) => true,
        Cost::Argon2id { .. } => false,
    }
}

fn busy(_: Busy) -> Fault {
    Fault::Store(StoreFault::Busy)
}
