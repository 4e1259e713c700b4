//! The states of one quota's keys, in shards under a lock each.
//!
//! A key is forgotten only when it is back to full, so a flood of new keys resets nobody. At `cap` live keys a new one
//! shares the overflow bucket with all others that are new; one that later gets a place of its own starts with what the
//! overflow had used, as if it had made all of those requests itself. That errs on the closed side only.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map},
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use smallvec::SmallVec;

use super::{Meter, QuotaKey, Reading};

/// Enough that a sweep holds each lock for a fraction of a millisecond even at `cap` keys. No power of two: tables double,
/// and with 160 a million keys fill theirs to three quarters, where with 128 or 256 they would fill just under a half.
const SHARDS: u64 = 160;

/// The keys of one shard.
type Shard<S> = HashMap<QuotaKey, S, BuildHasherDefault<Taken>>;

/// Shards that are locked, each with its number.
type Shards<'a, S> = SmallVec<[(usize, MutexGuard<'a, Shard<S>>); 1]>;

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

    /// Locks the places of keys that all differ until the answer is dropped: each shard once and in one order, then the overflow, so
    /// that nobody waits in a circle. Whoever locks in several tables does so in one fixed order, too.
    pub(super) fn lock(&self, keys: impl Iterator<Item = QuotaKey> + Clone, now_ns: u64) -> Places<'_, M> {
        let mut numbers: SmallVec<[usize; 2]> = keys.clone().map(shard_of).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let shards = numbers.into_iter().filter_map(|number| Some((number, locked(self.shards.get(number)?))));
        let mut places = Places { table: self, shards: shards.collect(), overflow: None, held: SmallVec::new() };
        for key in keys {
            places.hold(key, now_ns);
        }
        places
    }

    /// Gives a new key that was charged its place, or notes until when the overflow is used.
    fn keep(&self, held: &mut Held<M::State>, shards: &mut Shards<'_, M::State>, until_ns: u64) {
        match held {
            Held::Known(_) => {}
            Held::Overflow => {
                self.overflow_until_ns.fetch_max(until_ns, Ordering::Release);
            }
            Held::New(key, state) => {
                let (key, state) = (*key, std::mem::take(state));
                if let Some(shard) = shard_for(shards, key)
                    && let hash_map::Entry::Vacant(place) = shard.entry(key)
                {
                    place.insert(state);
                    self.live.fetch_add(1, Ordering::Relaxed);
                    *held = Held::Known(key);
                }
            }
        }
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

/// Which shard a key belongs in.
fn shard_of(key: QuotaKey) -> usize {
    let [shard, _] = key.halves();
    usize::try_from(shard % SHARDS).unwrap_or(0)
}

/// The shard of a key among those that are locked.
fn shard_for<'s, S>(shards: &'s mut Shards<'_, S>, key: QuotaKey) -> Option<&'s mut Shard<S>> {
    let number = shard_of(key);
    shards.iter_mut().find(|(at, _)| *at == number).map(|(_, shard)| &mut **shard)
}

/// The states of a request's keys under their locks: asked first, charged afterwards.
#[derive(Debug)]
pub(super) struct Places<'a, M: Meter> {
    table: &'a Table<M>,
    shards: Shards<'a, M::State>,
    overflow: Option<MutexGuard<'a, M::State>>,
    held: SmallVec<[Held<M::State>; 1]>,
}

#[derive(Debug)]
enum Held<S> {
    /// The key has a place in its shard.
    Known(QuotaKey),
    /// It gets one when it is charged.
    New(QuotaKey, S),
    /// It shares the overflow. However many keys of the request do, that is one bucket, and held once.
    Overflow,
}

impl<S> Held<S> {
    fn state<'s>(
        &'s mut self,
        shards: &'s mut Shards<'_, S>,
        overflow: &'s mut Option<MutexGuard<'_, S>>,
    ) -> Option<&'s mut S> {
        match self {
            Self::Known(key) => {
                let key = *key;
                shard_for(shards, key)?.get_mut(&key)
            }
            Self::New(_, state) => Some(state),
            Self::Overflow => overflow.as_deref_mut(),
        }
    }
}

impl<'a, M: Meter> Places<'a, M> {
    fn hold(&mut self, key: QuotaKey, now_ns: u64) {
        let table: &'a Table<M> = self.table;
        let known = shard_for(&mut self.shards, key).map(|shard| shard.contains_key(&key));
        let held = match known {
            Some(true) => Held::Known(key),
            Some(false) if table.live() < table.cap => {
                // An overflow that this key used before was charged under this very shard's lock.
                if now_ns < table.overflow_until_ns.load(Ordering::Acquire) {
                    Held::New(key, self.overflow().clone())
                } else {
                    Held::New(key, M::State::default())
                }
            }
            Some(false) | None => {
                if self.held.iter().any(|held| matches!(held, Held::Overflow)) {
                    return;
                }
                self.overflow();
                Held::Overflow
            }
        };
        self.held.push(held);
    }

    /// The overflow, locked after the shards and once.
    fn overflow(&mut self) -> &mut M::State {
        let table: &'a Table<M> = self.table;
        self.overflow.get_or_insert_with(|| locked(&table.overflow))
    }

    /// Says what would become of a request.
    pub(super) fn look(&mut self, now_ns: u64) -> Reading {
        let Self { table, shards, overflow, held } = self;
        tightest(held.iter_mut().map(|held| match held.state(shards, overflow) {
            Some(state) => table.meter.look(state, now_ns),
            None => REFUSED,
        }))
    }

    /// Charges a request that `look` would admit: each bucket once.
    pub(super) fn charge(&mut self, now_ns: u64) -> Reading {
        let Self { table, shards, overflow, held } = self;
        tightest(held.iter_mut().map(|held| {
            let Some(state) = held.state(shards, overflow) else { return REFUSED };
            let reading = table.meter.charge(state, now_ns);
            if reading.wait_ns.is_none() {
                let until_ns = table.meter.full_at_ns(state);
                table.keep(held, shards, until_ns);
            }
            reading
        }))
    }
}

/// What binds a request the most, of what each of its buckets says.
fn tightest(readings: impl Iterator<Item = Reading>) -> Reading {
    readings.max_by_key(|reading| (reading.wait_ns, Reverse(reading.remaining), reading.reset_ns)).unwrap_or(REFUSED)
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
