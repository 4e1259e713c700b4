//! The states of one quota's keys, in shards under a lock each.
//!
//! A key is forgotten only when it is back to full, so a flood of new keys resets nobody. At `cap` live keys a new one
//! shares the overflow bucket with all others that are new; one that later gets a place of its own starts with what the
//! overflow had used, as if it had made all of those requests itself. That errs on the closed side only.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{Meter, QuotaKey, Reading};

/// Enough that a sweep holds each lock for a fraction of a millisecond even at `cap` keys. No power of two: tables double,
/// and with 160 a million keys fill theirs to three quarters, where with 128 or 256 they would fill just under a half.
const SHARDS: u64 = 160;

/// The keys of one shard.
type Shard<S> = HashMap<QuotaKey, S, BuildHasherDefault<Taken>>;

/// The states of one quota's keys.
#[derive(Debug)]
pub(super) struct Table<M: Meter> {
    meter: M,
    shards: Box<[Mutex<Shard<M::State>>]>,
    live: AtomicUsize,
    cap: usize,
    overflow: Mutex<M::State>,
    /// When the overflow is back to full: new keys start with its state until then.
    overflow_until_ns: AtomicU64,
}

impl<M: Meter> Table<M> {
    pub(super) fn new(meter: M, cap: usize) -> Self {
        Self {
            meter,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            live: AtomicUsize::new(0),
            cap,
            overflow: Mutex::default(),
            overflow_until_ns: AtomicU64::new(0),
        }
    }

    /// How many keys have a place of their own.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Locks the key's place until the answer is dropped. Whoever locks in several tables does so in one fixed order.
    pub(super) fn lock(&self, key: QuotaKey, now_ns: u64) -> Place<'_, M> {
        let [shard, _] = key.halves();
        let shard = usize::try_from(shard % SHARDS).ok().and_then(|at| self.shards.get(at)).map(locked);
        let held = match &shard {
            Some(shard) if shard.contains_key(&key) => Held::Known,
            Some(_) if self.live() < self.cap => {
                // An overflow that this key used before was charged under this very shard's lock.
                if now_ns < self.overflow_until_ns.load(Ordering::Acquire) {
                    Held::New(locked(&self.overflow).clone())
                } else {
                    Held::New(M::State::default())
                }
            }
            Some(_) | None => Held::Overflow(locked(&self.overflow)),
        };
        Place { table: self, key, shard, held }
    }

    /// Forgets the keys that are back to full, one shard after the other.
    pub(super) fn sweep(&self, now_ns: u64) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            let before = shard.len();
            shard.retain(|_, state| self.meter.full_at_ns(state) > now_ns);
            self.live.fetch_sub(before - shard.len(), Ordering::Relaxed);
            if shard.capacity() > 64 && shard.capacity() / 8 > shard.len() {
                let room = shard.len() * 2;
                shard.shrink_to(room);
            }
        }
    }
}

/// A lock whose holder panicked guards plain numbers that are valid at every moment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key's state under its lock: asked first, charged afterwards.
#[derive(Debug)]
pub(super) struct Place<'a, M: Meter> {
    table: &'a Table<M>,
    key: QuotaKey,
    shard: Option<MutexGuard<'a, Shard<M::State>>>,
    held: Held<'a, M::State>,
}

#[derive(Debug)]
enum Held<'a, S> {
    /// It has a place in the shard.
    Known,
    /// It gets one when it is charged.
    New(S),
    /// It shares the overflow.
    Overflow(MutexGuard<'a, S>),
}

impl<M: Meter> Place<'_, M> {
    fn state(&mut self) -> Option<&mut M::State> {
        match &mut self.held {
            Held::Known => self.shard.as_mut()?.get_mut(&self.key),
            Held::New(state) => Some(state),
            Held::Overflow(state) => Some(state),
        }
    }

    /// Says what would become of a request.
    pub(super) fn look(&mut self, now_ns: u64) -> Reading {
        let meter = &self.table.meter;
        match self.state() {
            Some(state) => meter.look(state, now_ns),
            None => REFUSED,
        }
    }

    /// Charges a request that `look` would admit.
    pub(super) fn charge(&mut self, now_ns: u64) -> Reading {
        let table = self.table;
        let Some(state) = self.state() else { return REFUSED };
        let reading = table.meter.charge(state, now_ns);
        if reading.wait_ns.is_none() {
            let until_ns = table.meter.full_at_ns(state);
            self.keep(until_ns);
        }
        reading
    }

    fn keep(&mut self, until_ns: u64) {
        match &mut self.held {
            Held::Known => {}
            Held::Overflow(_) => {
                self.table.overflow_until_ns.fetch_max(until_ns, Ordering::Release);
            }
            Held::New(state) => {
                let state = std::mem::take(state);
                if let Some(shard) = &mut self.shard
                    && let hash_map::Entry::Vacant(place) = shard.entry(self.key)
                {
                    place.insert(state);
                    self.table.live.fetch_add(1, Ordering::Relaxed);
                    self.held = Held::Known;
                }
            }
        }
    }
}

/// What cannot be counted is refused.
const REFUSED: Reading = Reading { wait_ns: Some(1_000_000_000), remaining: 0, reset_ns: 1_000_000_000 };

/// Takes the hash that a key already is: it was made under a secret, so it needs no second one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}
