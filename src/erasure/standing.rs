//! Whether a caller's account is held or erased: looked up in memory for each request, at no cost while nobody's is. All rows are read
//! before the first request is served, and each change of a row is seen here at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::{
    record::Selector,
    subject::{SubjectRow, key_of, short},
    target::claim_of,
};
use crate::{policy::Principal, store::Store};

/// What is to be said to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Good,
    /// The account is held: by this deletion.
    Held {
        /// The status to answer with.
        status: u16,
        /// The deletion's number.
        id: u128,
    },
    /// The account is erased, or is being erased: the credential is worth nothing.
    Erased,
}

/// In how many parts the map is, each with a lock of its own.
const SHARDS: usize = 16;

/// What is kept of a row, in 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The open deletion, in two halves, so that nothing is aligned to sixteen bytes; 0: none.
    open: [u64; 2],
    /// 0: none.
    erased_before: u64,
    /// 0: none.
    block: u16,
    refused: bool,
}

impl Entry {
    /// What a row says; `None`: nothing.
    fn of(row: &SubjectRow) -> Option<Self> {
        row.says_something().then(|| Self {
            open: row.open.as_deref().and_then(short).map_or([0, 0], halves),
            erased_before: row.erased_before.unwrap_or(0),
            block: row.block.unwrap_or(0),
            refused: row.refused,
        })
    }
}

/// Everybody of whom something is to be said.
pub(super) struct Standings {
    shards: [RwLock<HashMap<[u64; 2], Entry>>; SHARDS],
    count: AtomicUsize,
    /// The claims by which people are known, of plans in force and of older ones.
    selectors: ArcSwap<Vec<Selector>>,
}

impl Default for Standings {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| RwLock::default());
        Self { shards, count: AtomicUsize::new(0), selectors: ArcSwap::from_pointee(Vec::new()) }
    }
}

fn halves(number: u128) -> [u64; 2] {
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
    [u64::try_from(number >> 64).unwrap_or(0), low]
}

fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

impl Standings {
    fn shard(&self, key: [u64; 2]) -> &RwLock<HashMap<[u64; 2], Entry>> {
        let [_, low] = key;
        let place = usize::try_from(low).unwrap_or(0) % SHARDS;
        self.shards.get(place).unwrap_or(&self.shards[0])
    }

    /// Whether a row says what is known already.
    pub(super) fn agrees(&self, key: &str, row: &SubjectRow) -> bool {
        let Some(key) = short(key).map(halves) else { return true };
        let known = self.shard(key).read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        known == Entry::of(row)
    }

    /// Takes a row as it is now.
    pub(super) fn note(&self, key: &str, row: &SubjectRow) {
        let Some(key) = short(key).map(halves) else { return };
        let mut shard = self.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        let before = shard.len();
        match Entry::of(row) {
            Some(entry) => drop(shard.insert(key, entry)),
            None => drop(shard.remove(&key)),
        }
        match shard.len().cmp(&before) {
            std::cmp::Ordering::Greater => drop(self.count.fetch_add(1, Ordering::AcqRel)),
            std::cmp::Ordering::Less => drop(self.count.fetch_sub(1, Ordering::AcqRel)),
            std::cmp::Ordering::Equal => {}
        }
    }

    /// Takes claims by which people are known.
    pub(super) fn know(&self, selectors: impl IntoIterator<Item = Selector>) {
        for selector in selectors {
            self.selectors.rcu(|known| {
                let mut known = Vec::clone(known);
                if !known.contains(&selector) {
                    known.push(selector.clone());
                }
                known
            });
        }
    }

    /// The claims by which people are known.
    pub(super) fn selectors(&self) -> Arc<Vec<Selector>> {
        self.selectors.load_full()
    }

    /// Of how many people something is to be said.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// What is to be said to a caller.
    pub(super) fn of(&self, store: &Store, principal: &Principal) -> Standing {
        if self.len() == 0 {
            return Standing::Good;
        }
        let mut worst = Standing::Good;
        for selector in self.selectors.load().iter() {
            let Some(value) = claim_of(principal, selector) else { continue };
            let key = key_of(store, &principal.issuer_url, selector, &value);
            match self.by_key(&key, principal) {
                Standing::Erased => return Standing::Erased,
                held @ Standing::Held { .. } => worst = held,
                Standing::Good => {}
            }
        }
        worst
    }

    fn by_key(&self, key: &str, principal: &Principal) -> Standing {
        let Some(key) = short(key).map(halves) else { return Standing::Good };
        let entry = self.shard(key).read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let Some(entry) = entry else { return Standing::Good };
        if entry.refused {
            return Standing::Erased;
        }
        // What was issued by a clock that may be ahead of ours was issued before, too.
        let until = entry.erased_before as f64 + principal.leeway_secs.max(0.0);
        let is_older = principal.marks.issued_at.is_none_or(|issued| !issued.is_finite() || issued <= until);
        if entry.erased_before != 0 && is_older {
            return Standing::Erased;
        }
        if entry.block != 0 {
            return Standing::Held { status: entry.block, id: whole(entry.open) };
        }
        Standing::Good
    }
}
