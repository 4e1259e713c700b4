//! How long what is ready waits for its turn, and what of the work is refused where that is too long: CoDel's measure (RFC 8289), the
//! least wait of an interval, as a burst makes some wait and only a queue that does not drain makes all. One of each worker.
//!
//! ```text
//!   a timer's lateness ──> least of 100 ms ──> above the target? level up : level down ──> refuses a share of
//!                                                                    low 1–8, then normal 9–16, then critical 17–24
//! ```
//! Without pressure a request costs a comparison. Nothing here reads a clock.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::config::Priority;

/// How long a wait must have been too long at its least: RFC 8289 §4.2's interval, for the same reason, a round trip of most clients.
const INTERVAL: Duration = Duration::from_millis(100);

/// How many steps a priority is refused in: an eighth of its requests more with each.
const STEPS: u8 = 8;

/// Everything is refused.
const HIGHEST: u8 = 3 * STEPS;

/// How often the wait is measured while there are requests, and while there are none.
const BUSY: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_millis(250);

/// What a worker knows of its queue.
#[derive(Debug)]
pub struct Pressure {
    level: Cell<u8>,
    least: Cell<Duration>,
    samples: Cell<u32>,
    since: Cell<Option<Instant>>,
    /// For each priority, eighths of a request that are owed to be refused: the share is exact, whatever comes.
    owed: [Cell<u8>; 3],
    asked: Cell<bool>,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            level: Cell::new(0),
            least: Cell::new(Duration::MAX),
            samples: Cell::new(0),
            since: Cell::new(None),
            owed: Default::default(),
            asked: Cell::new(false),
        }
    }
}

impl Pressure {
    /// Whether a request of this priority is to be refused.
    pub fn refuses(&self, priority: Priority) -> bool {
        self.asked.set(true);
        let level = self.level.get();
        level > 0 && self.refuses_at(level, priority)
    }

    fn refuses_at(&self, level: u8, priority: Priority) -> bool {
        let (place, spared) = match priority {
            Priority::Low => (0, 0),
            Priority::Normal => (1, STEPS),
            Priority::Critical => (2, 2 * STEPS),
        };
        let share = level.saturating_sub(spared).min(STEPS);
        let Some(owed) = self.owed.get(place) else { return false };
        let sum = owed.get() + share;
        owed.set(sum % STEPS);
        sum >= STEPS
    }

    /// The level, of 24.
    pub fn level(&self) -> u8 {
        self.level.get()
    }

    /// How long until the wait should be measured again.
    pub fn period(&self) -> Duration {
        if self.asked.replace(false) || self.level.get() > 0 { BUSY } else { QUIET }
    }

    /// Something that was ready waited so long for its turn, which it got at `now`.
    pub fn measured(&self, waited: Duration, target: Duration, now: Instant) {
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        self.least.set(self.least.get().min(waited));
        self.samples.set(self.samples.get() + 1);
        // One alone may have met a burst.
        if self.samples.get() < 2 || now.saturating_duration_since(since) < INTERVAL {
            return;
        }
        let least = self.least.replace(Duration::MAX);
        self.since.set(Some(now));
        self.samples.set(0);
        let level = self.level.get();
        self.level.set(if least <= target {
            level.saturating_sub(if least <= target / 2 { 2 } else { 1 })
        } else {
            // The longer the queue, the more at once: it has to be gone before clients give up.
            let times = u8::try_from(least.as_nanos() / target.as_nanos().max(1)).unwrap_or(u8::MAX);
            level.saturating_add(times.clamp(1, STEPS)).min(HIGHEST)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    struct Worker {
        pressure: Pressure,
        now: Instant,
    }

    impl Worker {
        fn new() -> Self {
            Self { pressure: Pressure::default(), now: Instant::now() }
        }

        /// Lets intervals pass in which each measure is one of these, in turn.
        fn pass(&mut self, intervals: u32, waits_ms: &[u64]) -> u8 {
            let waits = waits_ms.iter().cycle().take(intervals as usize * 5);
            for wait in waits {
                self.now += Duration::from_millis(21);
                self.pressure.measured(Duration::from_millis(*wait), TARGET, self.now);
            }
            self.pressure.level()
        }

        fn refused(&self, priority: Priority) -> usize {
            (0..800).filter(|_| self.pressure.refuses(priority)).count()
        }
    }

    #[test]
    fn bursts_are_no_pressure_however_long_some_wait() {
        let mut worker = Worker::new();
        assert_eq!(worker.pass(100, &[400, 1, 300, 200, 100]), 0);
        assert_eq!(worker.refused(Priority::Low), 0);
    }

    #[test]
    fn a_queue_that_does_not_drain_refuses_the_low_first_and_the_critical_last() {
        let mut worker = Worker::new();
        let mut order = Vec::new();
        for _ in 0..40 {
            worker.pass(1, &[60]);
            for priority in [Priority::Low, Priority::Normal, Priority::Critical] {
                if worker.refused(priority) == 800 && !order.contains(&priority) {
                    order.push(priority);
                    let next = match priority {
                        Priority::Low => Some(Priority::Normal),
                        Priority::Normal => Some(Priority::Critical),
                        Priority::Critical => None,
                    };
                    assert!(next.is_none_or(|next| worker.refused(next) == 0), "{priority:?}");
                }
            }
        }
        assert_eq!(order, [Priority::Low, Priority::Normal, Priority::Critical]);
    }

    #[test]
    fn the_share_that_is_refused_is_exact_and_grows_by_eighths() {
        let mut worker = Worker::new();
        worker.pass(2, &[60]);
        let level = usize::from(worker.pressure.level());
        assert!((1..8).contains(&level));
        assert_eq!(worker.refused(Priority::Low), level * 100);
        assert_eq!(worker.refused(Priority::Normal), 0);
    }

    #[test]
    fn a_long_queue_is_met_at_once_and_what_has_drained_is_forgotten_soon() {
        let mut worker = Worker::new();
        assert!(worker.pass(2, &[500]) >= 8);
        assert_eq!(worker.pass(20, &[1]), 0);
        assert_eq!(worker.refused(Priority::Low), 0);
    }

    #[test]
    fn it_is_measured_often_only_while_there_is_something_to_measure() {
        let worker = Worker::new();
        assert_eq!(worker.pressure.period(), QUIET);
        worker.pressure.refuses(Priority::Normal);
        assert_eq!(worker.pressure.period(), BUSY);
        assert_eq!(worker.pressure.period(), QUIET);
    }
}
