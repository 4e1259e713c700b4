//! A rate per longer period, exactly: a sliding log. No interval of the period's length admits more than N.
//!
//! GCRA would admit up to twice N in one interval: a burst, and what flows back while it lasts. So each key keeps when
//! its requests were admitted. Up to 4,096 of them are kept one by one; above that, requests within 1/4,096 of the
//! period share an entry that bears the time of the latest, so that rounding only ever delays.
//! Times are kept in whole microseconds, rounded up when stored and down when compared, which errs the same way.

use std::{num::NonZeroU32, time::Duration};

use super::{Meter, Reading};

/// Entries that a key keeps at most (but for counts that overflow one): 8 bytes each, so 32 KiB a key.
const ENTRIES: u64 = 4096;

/// N per period.
#[derive(Debug)]
pub(super) struct Window {
    count: u32,
    period_us: u64,
    /// Requests within one such step share an entry.
    step_us: u64,
}

impl Window {
    pub(super) fn new(count: NonZeroU32, period: Duration) -> Self {
        let period_us = u64::try_from(period.as_nanos().div_ceil(1000)).unwrap_or(MAX_US).clamp(1, MAX_US);
        let merged = u64::from(count.get()) > ENTRIES;
        Self { count: count.get(), period_us, step_us: if merged { (period_us / ENTRIES).max(1) } else { 1 } }
    }

    fn reading(&self, log: &Log, now_ns: u64) -> Reading {
        let used = log.total();
        let reset_ns = log.first().map_or(0, |first| {
            let free_at_us = first.at_us().saturating_add(self.period_us);
            free_at_us.saturating_mul(1000).saturating_sub(now_ns)
        });
        let wait_ns = (used >= self.count).then_some(reset_ns);
        Reading { wait_ns, remaining: self.count.saturating_sub(used), reset_ns }
    }
}

impl Meter for Window {
    type State = Log;

    fn look(&self, log: &mut Log, now_ns: u64) -> Reading {
        log.drop_before(now_ns / 1000, self.period_us);
        self.reading(log, now_ns)
    }

    fn charge(&self, log: &mut Log, now_ns: u64) -> Reading {
        let before = self.look(log, now_ns);
        if before.wait_ns.is_some() {
            return before;
        }
        // Workers read their clocks before they get here, so instants may come out of order: a log never goes back.
        let last_us = log.last().map_or(0, Entry::at_us);
        let at_us = now_ns.div_ceil(1000).min(MAX_US).max(last_us);
        match log.last().and_then(|last| last.joined(at_us, self.step_us)) {
            Some(joined) => log.replace_last(joined),
            None => log.push(Entry::new(at_us), self.count),
        }
        Reading { wait_ns: None, ..self.reading(log, now_ns) }
    }

    fn full_at_ns(&self, log: &Log) -> u64 {
        log.last().map_or(0, |last| last.at_us().saturating_add(self.period_us).saturating_mul(1000))
    }
}

/// The latest time an entry can bear, almost nine years after the start. Then nothing expires any more: closed.
const MAX_US: u64 = (1 << 48) - 1;

/// A time in microseconds in the upper 48 bits, and how many requests bear it in the lower 16; 0 is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u64);

impl Entry {
    const NONE: Self = Self(0);

    fn new(at_us: u64) -> Self {
        Self(at_us << 16 | 1)
    }

    fn at_us(self) -> u64 {
        self.0 >> 16
    }

    fn count(self) -> u32 {
        u32::try_from(self.0 & 0xffff).unwrap_or(0)
    }

    /// This entry with one more request at `at_us`, if that lies within the same step and the count has room.
    fn joined(self, at_us: u64, step_us: u64) -> Option<Self> {
        let same = self.at_us() / step_us == at_us / step_us;
        (same && self.0 & 0xffff != 0xffff).then_some(Self((at_us << 16 | (self.0 & 0xffff)) + 1))
    }
}

/// The requests of one key that were admitted within the last period, oldest first.
#[derive(Debug, Clone)]
pub(super) enum Log {
    /// Most keys: without an allocation.
    Few([Entry; 2]),
    /// The others.
    Many(Box<Ring>),
}

/// A log with room: what lies before `head` is gone, and is cleared away when it makes up half of the entries.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    entries: Vec<Entry>,
    head: usize,
    total: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self::Few([Entry::NONE; 2])
    }
}

impl Log {
    fn total(&self) -> u32 {
        match self {
            Self::Few([first, second]) => first.count().saturating_add(second.count()),
            Self::Many(ring) => ring.total,
        }
    }

    fn first(&self) -> Option<Entry> {
        match self {
            Self::Few([first, _]) => Some(*first).filter(|&entry| entry != Entry::NONE),
            Self::Many(ring) => ring.entries.get(ring.head).copied(),
        }
    }

    fn last(&self) -> Option<Entry> {
        match self {
            Self::Few([first, second]) => [*second, *first].into_iter().find(|&entry| entry != Entry::NONE),
            Self::Many(ring) => ring.entries.last().copied(),
        }
    }

    /// Drops what no longer counts: a request at `t` counts until just before `t + period`.
    fn drop_before(&mut self, now_us: u64, period_us: u64) {
        let gone = |entry: Entry| entry != Entry::NONE && entry.at_us().saturating_add(period_us) <= now_us;
        match self {
            Self::Few([first, second]) => {
                for _ in 0..2 {
                    if gone(*first) {
                        *first = std::mem::replace(second, Entry::NONE);
                    }
                }
            }
            Self::Many(ring) => {
                ring.drop_while(gone);
                if let &[first, second] = ring.live() {
                    *self = Self::Few([first, second]);
                } else if let &[] | &[_] = ring.live() {
                    *self = Self::Few([ring.live().first().copied().unwrap_or(Entry::NONE), Entry::NONE]);
                }
            }
        }
    }

    fn replace_last(&mut self, entry: Entry) {
        match self {
            Self::Few([first, second]) => {
                let last = if *second == Entry::NONE { first } else { second };
                *last = entry;
            }
            Self::Many(ring) => {
                if let Some(last) = ring.entries.last_mut() {
                    ring.total = ring.total.saturating_sub(last.count()).saturating_add(entry.count());
                    *last = entry;
                }
            }
        }
    }

    /// Adds an entry to a log that will never hold more than `most`.
    fn push(&mut self, entry: Entry, most: u32) {
        match self {
            Self::Few([first, _]) if *first == Entry::NONE => *first = entry,
            Self::Few([_, second]) if *second == Entry::NONE => *second = entry,
            Self::Few([first, second]) => {
                let mut entries = Vec::with_capacity(4.min(usize::try_from(most).unwrap_or(4)).max(3));
                entries.extend([*first, *second, entry]);
                let total = first.count().saturating_add(second.count()).saturating_add(entry.count());
                *self = Self::Many(Box::new(Ring { entries, head: 0, total }));
            }
            Self::Many(ring) => ring.push(entry, most),
        }
    }
}

impl Ring {
    fn live(&self) -> &[Entry] {
        self.entries.get(self.head..).unwrap_or_default()
    }

    fn drop_while(&mut self, gone: impl Fn(Entry) -> bool) {
        while let Some(&entry) = self.entries.get(self.head).filter(|&&entry| gone(entry)) {
            self.head += 1;
            self.total = self.total.saturating_sub(entry.count());
        }
        if self.head * 2 >= self.entries.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        self.entries.drain(..self.head.min(self.entries.len()));
        self.head = 0;
    }

    fn push(&mut self, entry: Entry, most: u32) {
        if self.entries.len() == self.entries.capacity() {
            // What is gone makes room first; then the room doubles, but never beyond what the quota can fill.
            self.compact();
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let more = self.entries.len().min(most.saturating_sub(self.entries.len())).max(1);
            self.entries.reserve_exact(more);
        }
        self.entries.push(entry);
        self.total = self.total.saturating_add(entry.count());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn window(count: u32, period: Duration) -> Window {
        Window::new(NonZeroU32::new(count).unwrap(), period)
    }

    fn admit(window: &Window, log: &mut Log, now_ns: u64) -> bool {
        window.charge(log, now_ns).wait_ns.is_none()
    }

    #[test]
    fn the_next_request_passes_exactly_a_period_after_the_first() {
        let window = window(5, Duration::from_secs(60));
        let mut log = Log::default();
        let start = 7 * SECOND;
        for left in (0..5).rev() {
            let reading = window.charge(&mut log, start);
            assert_eq!((reading.wait_ns, reading.remaining, reading.reset_ns), (None, left, 60 * SECOND));
        }
        assert_eq!(window.look(&mut log, start).wait_ns, Some(60 * SECOND));
        assert!(!admit(&window, &mut log, start + 60 * SECOND - 1));
        assert!(admit(&window, &mut log, start + 60 * SECOND));
    }

    #[test]
    fn what_was_refused_does_not_count() {
        let window = window(1, Duration::from_secs(2));
        let mut log = Log::default();
        assert!(admit(&window, &mut log, 0));
        for at in 1..2000 {
            assert!(!admit(&window, &mut log, at * SECOND / 1000));
        }
        assert!(admit(&window, &mut log, 2 * SECOND));
    }

    #[test]
    fn a_clock_read_late_does_not_turn_the_log_back() {
        let window = window(2, Duration::from_secs(60));
        let mut log = Log::default();
        assert!(admit(&window, &mut log, 10 * SECOND));
        assert!(admit(&window, &mut log, 9 * SECOND));
        assert!(!admit(&window, &mut log, 69 * SECOND));
        assert!(admit(&window, &mut log, 70 * SECOND));
    }

    #[test]
    fn a_large_quota_keeps_a_bounded_log_and_counts_exactly() {
        let window = window(1_000_000, Duration::from_secs(86_400));
        let mut log = Log::default();
        let step = 86_400 * SECOND / 1_000_000;
        for n in 0..1_000_000 {
            assert!(admit(&window, &mut log, n * step), "{n}");
        }
        assert!(!admit(&window, &mut log, 86_399 * SECOND + SECOND / 2));
        let Log::Many(ring) = &log else { unreachable!() };
        assert!(ring.live().len() <= 4097, "{}", ring.live().len());
        assert_eq!(log.total(), 1_000_000);
    }

    #[test]
    fn more_requests_in_one_step_than_an_entry_counts_take_several_entries() {
        let window = window(200_000, Duration::from_secs(60));
        let mut log = Log::default();
        let admitted = (0..300_000).filter(|_| admit(&window, &mut log, SECOND)).count();
        assert_eq!(admitted, 200_000);
        assert!(admit(&window, &mut log, 61 * SECOND));
        assert_eq!(log.total(), 1);
    }

    #[test]
    fn an_idle_log_gives_its_memory_back() {
        let window = window(100, Duration::from_secs(60));
        let mut log = Log::default();
        for n in 0..100 {
            assert!(admit(&window, &mut log, n * SECOND / 10));
        }
        window.look(&mut log, 200 * SECOND);
        assert!(matches!(log, Log::Few([Entry::NONE, Entry::NONE])));
        assert_eq!(size_of::<Log>(), 24);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_naive_sliding_window(
            count in 1u32..12,
            period_ms in 1_001u64..5_000,
            gaps in prop::collection::vec(prop_oneof![Just(0u64), 0u64..2_000_000, 0u64..900_000_000], 1..300),
        ) {
            let window = window(count, Duration::from_millis(period_ms));
            let (mut log, mut naive, mut now) = (Log::default(), VecDeque::new(), 0u64);
            let period = period_ms * 1_000_000;
            for gap in gaps {
                now += gap;
                while naive.front().is_some_and(|&at| at + period <= now) {
                    naive.pop_front();
                }
                let room = naive.len() < count as usize;
                let admitted = admit(&window, &mut log, now);
                prop_assert!(room || !admitted, "admitted more than {count} in {period_ms} ms");
                if room && !admitted {
                    // Only the rounding to microseconds may delay.
                    let mut later = log.clone();
                    prop_assert!(admit(&window, &mut later, now + 2_000));
                }
                if admitted {
                    naive.push_back(now);
                }
            }
        }

        #[test]
        fn merged_entries_never_admit_more_and_delay_by_one_step_at_most(
            gaps in prop::collection::vec(0u64..3_000_000, 12_000),
        ) {
            let period = 10 * SECOND;
            let window = window(5_000, Duration::from_secs(10));
            let (mut log, mut naive, mut now) = (Log::default(), VecDeque::new(), 0u64);
            for gap in gaps {
                now += gap;
                while naive.front().is_some_and(|&at| at + period <= now) {
                    naive.pop_front();
                }
                let room = naive.len() < 5_000;
                let admitted = admit(&window, &mut log, now);
                prop_assert!(room || !admitted);
                if room && !admitted {
                    let mut later = log.clone();
                    prop_assert!(admit(&window, &mut later, now + period / 4096 + 2_000));
                }
                if admitted {
                    naive.push_back(now);
                }
            }
        }
    }
}
