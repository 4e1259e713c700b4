//! The breaker: where more deletions are asked for than people would, each further one is held until an operator has looked: all of
//! them, or those of the one principal who asked for too many. What was asked for lately is in rows of its own that expire, so a
//! restart forgets none of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::config::DeletionBreaker;

/// The row that says that it is tripped for all.
pub(super) const FOR_ALL: &str = "tripped/all";
/// What the rows begin with that say that it is tripped.
pub(super) const TRIPPED: &str = "tripped/";
/// What the rows of deletions that were asked for begin with.
pub(super) const ASKED: &str = "asked/";

/// The row that says when it was reset: what was asked for before does not count.
pub(super) const RESET: &str = "reset";

/// When the breaker was reset, in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reset {
    pub(super) at: u64,
}

/// That it is tripped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tripped {
    /// Since when.
    pub at: u64,
    /// The keyed hash of the principal whose deletions are held; `None`: everybody's are.
    pub by: Option<Box<str>>,
}

impl Tripped {
    /// The key of its row.
    pub(super) fn row(&self) -> String {
        self.by.as_ref().map_or_else(|| FOR_ALL.to_owned(), |by| format!("{TRIPPED}by/{by}"))
    }
}

/// A deletion that was asked for, in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) at: u64,
    pub(super) by: Box<str>,
}

/// What it knows.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    tripped: Vec<Tripped>,
    /// When it was reset.
    reset_at: u64,
    /// What was asked for, by when and which: by whom.
    asked: BTreeMap<(u64, u128), u128>,
    by: HashMap<u128, u32>,
}

/// For how long what was asked for counts, in seconds.
pub(super) fn window(config: &DeletionBreaker) -> u64 {
    config.total.1.as_secs().max(config.by_principal.1.as_secs()).max(1)
}

impl Lately {
    fn insert(&mut self, at: u64, by: u128, id: u128) {
        if at > self.reset_at && self.asked.insert((at, id), by).is_none() {
            *self.by.entry(by).or_default() += 1;
        }
    }

    fn remove(&mut self, key: (u64, u128)) {
        let Some(by) = self.asked.remove(&key) else { return };
        if let Some(count) = self.by.get_mut(&by) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by.remove(&by);
            }
        }
    }

    fn forget(&mut self, before: u64) {
        while let Some((&key, _)) = self.asked.first_key_value()
            && key.0 < before
        {
            self.remove(key);
        }
    }

    fn holds(&self, by: &str) -> bool {
        self.tripped.iter().any(|tripped| tripped.by.as_deref().is_none_or(|held| held == by))
    }
}

/// What the breaker says of one more deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether it is held.
    pub(super) is_held: bool,
    /// That the breaker is tripped by it.
    pub(super) trips: Option<Tripped>,
    /// Whether it counts: what is held as its principal asked for too many does not, or they could stop everybody's by going on.
    pub(super) counts: bool,
}

impl Breaker {
    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one that was asked for, as the store says. Each counts once.
    pub(super) fn note(&self, at: u64, by: u128, id: u128) {
        self.lately().insert(at, by, id);
    }

    /// Takes one that is about to be asked for, so that no two at once are both the last; and says what becomes of it.
    pub(super) fn reserve(&self, at: u64, (key, by): (&str, u128), id: u128, config: &DeletionBreaker) -> Said {
        let mut lately = self.lately();
        let longest = window(config);
        lately.forget(at.saturating_sub(longest));
        let (most, period) = config.total;
        let since = |period: u64| (at.saturating_sub(period), 0);
        let total = match period.as_secs() {
            secs if secs == longest => lately.asked.len(),
            secs => lately.asked.range(since(secs)..).count(),
        };
        let (most_by, period) = config.by_principal;
        let mut by_one = lately.by.get(&by).map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX));
        if reaches(by_one, most_by.get()) && period.as_secs() != longest {
            by_one = lately.asked.range(since(period.as_secs())..).filter(|(_, other)| **other == by).count();
        }
        let is_for_one = reaches(by_one, most_by.get());
        if !is_for_one {
            lately.insert(at, by, id);
        }
        let was_held = lately.holds(key);
        let is_for_all = reaches(total, most.get());
        if !is_for_all && !is_for_one {
            return Said { is_held: was_held, trips: None, counts: true };
        }
        let tripped = Tripped { at, by: (!is_for_all).then(|| key.into()) };
        let is_news = !lately.tripped.iter().any(|known| known.by == tripped.by);
        Said { is_held: true, trips: is_news.then_some(tripped), counts: !is_for_one }
    }

    /// Takes back what was not asked for after all.
    pub(super) fn take_back(&self, at: u64, id: u128) {
        self.lately().remove((at, id));
    }

    /// Takes what the store says, where `before` was known when it began to be read: what has been tripped here since may be later.
    pub(super) fn set(&self, before: &[Tripped], mut tripped: Vec<Tripped>) {
        let mut lately = self.lately();
        // One that was taken away by a reset meanwhile.
        tripped.retain(|read| read.at >= lately.reset_at);
        let since = |known: &&Tripped| !before.contains(known) && !tripped.iter().any(|read| read.by == known.by);
        let since: Vec<Tripped> = lately.tripped.iter().filter(since).cloned().collect();
        tripped.extend(since);
        lately.tripped = tripped;
    }

    /// Takes that it was tripped.
    pub(super) fn trip(&self, tripped: Tripped) {
        let mut lately = self.lately();
        if !lately.tripped.iter().any(|known| known.by == tripped.by) {
            lately.tripped.push(tripped);
        }
    }

    /// Forgets that it was tripped, and what tripped it: else the next one would trip it again.
    pub(super) fn reset(&self, at: u64) {
        let mut lately = self.lately();
        lately.tripped.clear();
        lately.reset_at = at;
        // A clock that was ahead has asked for some later than now.
        lately.asked.clear();
        lately.by.clear();
    }

    /// Takes when it was reset, as the store says; to be said first.
    pub(super) fn reset_before(&self, at: u64) {
        let mut lately = self.lately();
        if at > lately.reset_at {
            lately.reset_at = at;
            lately.forget(at.saturating_add(1));
        }
    }

    /// For whom it is tripped.
    pub(super) fn tripped(&self) -> Vec<Tripped> {
        self.lately().tripped.clone()
    }
}

fn reaches(count: usize, most: u32) -> bool {
    count >= usize::try_from(most).unwrap_or(usize::MAX)
}
