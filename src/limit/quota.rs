//! One named quota, and how a request is charged against one or several.
//!
//! Several quotas are charged together or not at all: their places are locked in one fixed order, all are asked, and
//! only if none refuses are they charged. So what was refused does not count anywhere, under any concurrency.

use std::{
    cmp::Reverse,
    iter,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use http::HeaderValue;
use smallvec::SmallVec;

use super::{KeyFacts, QuotaKey, Reading, gcra::Gcra, headers, table::Places, table::Table, window::Window};
use crate::config::{Limit, LimitKey, Rate};

/// Keys that a quota holds before new ones share the overflow: some 350 MB, more than any honest population.
pub(super) const LIVE_KEYS: usize = 4_000_000;

/// A named quota with the state of all its keys.
#[derive(Debug)]
pub struct Quota {
    name: Box<str>,
    by: LimitKey,
    rate: Rate,
    /// Its place in the order in which locks are taken.
    ordinal: u64,
    /// The instant that its times are counted from: the first one it ever saw.
    origin: OnceLock<Instant>,
    tables: Tables,
    /// Its item in `RateLimit-Policy`, the same on every answer.
    policy: HeaderValue,
    /// Its name as both header fields quote it.
    quoted_name: Box<str>,
}

#[derive(Debug)]
enum Tables {
    PerSecond(Table<Gcra>),
    PerPeriod(Table<Window>),
}

/// Whether a quota lets a request pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Admit,
    /// It does not, and nothing was charged.
    Refuse,
}

/// What a quota said of a request; of the bucket that binds it the most, where it falls in several.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// The quota.
    pub quota: &'a Quota,
    /// Whether it lets the request pass.
    pub outcome: Outcome,
    /// How many more requests it would admit now.
    pub remaining: u32,
    /// Seconds until one more would be admitted, rounded up; 0 if nothing is used.
    pub reset_secs: u64,
    /// Seconds until a request may be tried again, rounded up, at least 1; 0 if it was admitted.
    pub retry_after_secs: u64,
}

/// What all quotas of a request said together.
#[derive(Debug)]
pub struct Combined<'a> {
    /// Whether the request may pass: not if a single quota refuses.
    pub outcome: Outcome,
    /// Each quota's verdict, the most binding first.
    pub verdicts: SmallVec<[Verdict<'a>; 4]>,
}

impl Quota {
    pub(super) fn new(limit: &Limit, cap: usize) -> Self {
        static ORDINALS: AtomicU64 = AtomicU64::new(0);
        let tables = match limit.rate {
            Rate::PerSecond { count, burst } => Tables::PerSecond(Table::new(Gcra::new(count, burst), cap)),
            Rate::PerPeriod { count, period } => Tables::PerPeriod(Table::new(Window::new(count, period), cap)),
        };
        let quoted_name = headers::quoted(&limit.name);
        Self {
            name: (&*limit.name).into(),
            by: limit.key.clone(),
            rate: limit.rate,
            ordinal: ORDINALS.fetch_add(1, Ordering::Relaxed),
            origin: OnceLock::new(),
            tables,
            // All of it is printable ASCII.
            policy: HeaderValue::try_from(headers::policy_item(&quoted_name, limit.rate))
                .unwrap_or(HeaderValue::from_static("")),
            quoted_name: quoted_name.into(),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it counts by.
    pub fn key(&self) -> &LimitKey {
        &self.by
    }

    /// What it admits.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The bucket of a request.
    pub fn key_of(&self, facts: &KeyFacts<'_>) -> QuotaKey {
        QuotaKey::of(&self.by, facts)
    }

    /// Charges a request that arrived at `now`, or refuses it and charges nothing.
    pub fn check(&self, key: QuotaKey, now: Instant) -> Verdict<'_> {
        self.verdict(self.lock(iter::once(key), now).charge())
    }

    /// How many keys have a state of their own.
    pub fn live_keys(&self) -> usize {
        match &self.tables {
            Tables::PerSecond(table) => table.live(),
            Tables::PerPeriod(table) => table.live(),
        }
    }

    /// Forgets the keys that are back to full. Holds no lock for longer than a shard takes.
    pub fn sweep(&self, now: Instant) {
        let now_ns = self.since_origin_ns(now);
        match &self.tables {
            Tables::PerSecond(table) => table.sweep(now_ns),
            Tables::PerPeriod(table) => table.sweep(now_ns),
        }
    }

    pub(super) fn policy(&self) -> &HeaderValue {
        &self.policy
    }

    pub(super) fn quoted_name(&self) -> &str {
        &self.quoted_name
    }

    /// Whether the counters of a quota are still right for `limit`.
    pub(super) fn serves(&self, limit: &Limit) -> bool {
        *self.name == *limit.name && self.by == limit.key && self.rate == limit.rate
    }

    /// Nanoseconds since the origin. A worker may come with an instant from just before it: that is the origin, too.
    fn since_origin_ns(&self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_init(|| now);
        u64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self, keys: impl Iterator<Item = QuotaKey> + Clone, now: Instant) -> Locked<'_> {
        let now_ns = self.since_origin_ns(now);
        match &self.tables {
            Tables::PerSecond(table) => Locked::PerSecond(table.lock(keys, now_ns), now_ns),
            Tables::PerPeriod(table) => Locked::PerPeriod(table.lock(keys, now_ns), now_ns),
        }
    }

    fn verdict(&self, reading: Reading) -> Verdict<'_> {
        let reset_secs = reading.reset_ns.div_ceil(1_000_000_000);
        let (outcome, retry_after_secs) = match reading.wait_ns {
            None => (Outcome::Admit, 0),
            Some(wait_ns) => (Outcome::Refuse, wait_ns.div_ceil(1_000_000_000).max(reset_secs).max(1)),
        };
        Verdict { quota: self, outcome, remaining: reading.remaining, reset_secs, retry_after_secs }
    }
}

/// The places of a request's keys under their locks, with the quota's own time.
enum Locked<'a> {
    PerSecond(Places<'a, Gcra>, u64),
    PerPeriod(Places<'a, Window>, u64),
}

impl Locked<'_> {
    fn look(&mut self) -> Reading {
        match self {
            Self::PerSecond(places, now_ns) => places.look(*now_ns),
            Self::PerPeriod(places, now_ns) => places.look(*now_ns),
        }
    }

    fn charge(&mut self) -> Reading {
        match self {
            Self::PerSecond(places, now_ns) => places.charge(*now_ns),
            Self::PerPeriod(places, now_ns) => places.charge(*now_ns),
        }
    }
}

/// Charges a request against all of these quotas, or against none if one of them refuses.
///
/// A quota that is named twice with one key counts once. With several keys it counts in the bucket of each, all or none, and gives one
/// verdict: a request that may be taken for either of two routes counts on both.
pub fn check_all<'a>(charges: &[(&'a Quota, QuotaKey)], now: Instant) -> Combined<'a> {
    let mut ordered: SmallVec<[(&'a Quota, QuotaKey); 4]> = SmallVec::from_slice(charges);
    // Everybody locks the quotas in this order, and the keys of each in the order of its table, so nobody waits in a circle.
    ordered.sort_unstable_by_key(|(quota, key)| (quota.ordinal, key.halves()));
    ordered.dedup_by_key(|(quota, key)| (quota.ordinal, *key));
    let each = ordered.chunk_by(|(one, _), (other, _)| one.ordinal == other.ordinal);
    let mut locked: SmallVec<[(&'a Quota, Locked<'a>); 4]> = each
        .filter_map(|charges| {
            let &(quota, _) = charges.first()?;
            Some((quota, quota.lock(charges.iter().map(|&(_, key)| key), now)))
        })
        .collect();
    let mut verdicts: SmallVec<[Verdict<'a>; 4]> =
        locked.iter_mut().map(|(quota, places)| quota.verdict(places.look())).collect();
    let refused = verdicts.iter().any(|verdict| verdict.outcome == Outcome::Refuse);
    if !refused {
        verdicts = locked.iter_mut().map(|(quota, places)| quota.verdict(places.charge())).collect();
    }
    drop(locked);
    verdicts.sort_by_key(|verdict| (Reverse(verdict.retry_after_secs), verdict.remaining, Reverse(verdict.reset_secs)));
    Combined { outcome: if refused { Outcome::Refuse } else { Outcome::Admit }, verdicts }
}

impl Combined<'_> {
    /// The quotas that refuse the request.
    pub fn refusing(&self) -> impl Iterator<Item = &Verdict<'_>> {
        self.verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Refuse)
    }

    /// Seconds until a request may be tried again; 0 if it was admitted.
    pub fn retry_after_secs(&self) -> u64 {
        self.verdicts.iter().map(|verdict| verdict.retry_after_secs).max().unwrap_or(0)
    }
}
