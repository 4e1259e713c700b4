//! Passive health of one target, shared by all workers: learnt from connections that real requests needed, never from
//! requests of our own.
//!
//! ```text
//!            3 failures in a row                    the pause is over
//!  healthy ─────────────────────> ejected (5 s) ───────────────────────> probing: one caller is admitted
//!     ^                              ^   pause doubles, at most 60 s          │            │
//!     │                              └───────────── it fails ────────────────┘            │
//!     └────────────────────────────────────────────── it connects ────────────────────────┘
//! ```
//! A probe that nobody finishes (its client went away) gives its turn to another after [`PROBE_LEASE`].

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Fewer would eject on a single lost SYN and its retries; more would cost users more failures.
const FAILURES_TO_EJECT: u32 = 3;
/// About as long as a service takes to restart.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// A target that comes back is found within a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longer than a connection may usually take.
const PROBE_LEASE: Duration = Duration::from_secs(5);

/// Whether a target may be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is believed to be well.
    Healthy,
    /// It was ejected, its pause is over, and this caller is the one who finds out.
    Probe,
    /// It is left out for now.
    Ejected,
}

/// The health of one target.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Connection failures in a row.
    failures: AtomicU32,
    /// Ejections in a row; decides how long the pause is.
    ejections: AtomicU32,
    /// Milliseconds after `epoch` at which a probe may go; 0 when healthy.
    retry_at_ms: AtomicU64,
    /// The first moment that mattered.
    epoch: OnceLock<Instant>,
}

impl Health {
    /// Asks whether the target may be tried; `Probe` must be followed by `failed` or `succeeded`.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        let retry_at = self.retry_at_ms.load(Relaxed);
        if retry_at == 0 {
            return Admission::Healthy;
        }
        let now_ms = self.millis(now);
        let lease = now_ms.saturating_add(millis(PROBE_LEASE));
        if now_ms >= retry_at && self.retry_at_ms.compare_exchange(retry_at, lease, Relaxed, Relaxed).is_ok() {
            Admission::Probe
        } else {
            Admission::Ejected
        }
    }

    /// Whether the target is left out at the moment.
    pub(super) fn is_ejected(&self) -> bool {
        self.retry_at_ms.load(Relaxed) != 0
    }

    /// Notes a failed connection; `true` when this one ejects a target that was healthy.
    pub(super) fn failed(&self, admission: Admission, now: Instant) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        match admission {
            // Tried for want of anything better: tells nothing new.
            Admission::Ejected => false,
            Admission::Probe => {
                self.eject(now);
                false
            }
            // A burst of failures that began together ejects once.
            Admission::Healthy if failures >= FAILURES_TO_EJECT && !self.is_ejected() => {
                self.eject(now);
                true
            }
            Admission::Healthy => false,
        }
    }

    /// Notes a connection that was made; `true` when it readmits a target that was ejected.
    pub(super) fn succeeded(&self) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if !self.is_ejected() {
            return false;
        }
        self.ejections.store(0, Relaxed);
        self.retry_at_ms.swap(0, Relaxed) != 0
    }

    fn eject(&self, now: Instant) {
        let before = self.ejections.fetch_add(1, Relaxed);
        let pause = FIRST_PAUSE.saturating_mul(1 << before.min(8)).min(LONGEST_PAUSE);
        self.retry_at_ms.store(self.millis(now).saturating_add(millis(pause)).max(1), Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(*self.epoch.get_or_init(|| now)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ejected(at: Instant) -> Health {
        let health = Health::default();
        for _ in 0..FAILURES_TO_EJECT {
            health.failed(Admission::Healthy, at);
        }
        health
    }

    #[test]
    fn three_failures_in_a_row_eject_and_two_do_not() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.failed(Admission::Healthy, now));
        assert!(!health.failed(Admission::Healthy, now));
        assert_eq!(health.admit(now), Admission::Healthy);
        assert!(health.failed(Admission::Healthy, now));
        assert_eq!(health.admit(now), Admission::Ejected);
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            health.failed(Admission::Healthy, now);
            health.failed(Admission::Healthy, now);
            health.succeeded();
        }
        assert_eq!(health.admit(now), Admission::Healthy);
    }

    #[test]
    fn after_the_pause_exactly_one_caller_probes() {
        let start = Instant::now();
        let health = ejected(start);
        let later = start + FIRST_PAUSE;
        assert_eq!(health.admit(later), Admission::Probe);
        assert_eq!(health.admit(later), Admission::Ejected);
    }

    #[test]
    fn a_probe_that_nobody_finishes_gives_its_turn_away() {
        let start = Instant::now();
        let health = ejected(start);
        let later = start + FIRST_PAUSE;
        assert_eq!(health.admit(later), Admission::Probe);
        assert_eq!(health.admit(later + PROBE_LEASE), Admission::Probe);
    }

    #[test]
    fn the_pause_doubles_up_to_a_minute() {
        let mut now = Instant::now();
        let health = ejected(now);
        for pause in [5, 10, 20, 40, 60, 60, 60] {
            assert_eq!(health.admit(now + Duration::from_millis(pause * 1000 - 1)), Admission::Ejected);
            now += Duration::from_secs(pause);
            assert_eq!(health.admit(now), Admission::Probe);
            assert!(!health.failed(Admission::Probe, now));
        }
    }

    #[test]
    fn a_burst_of_failures_ejects_once_and_for_the_first_pause() {
        let now = Instant::now();
        let health = Health::default();
        let ejections = (0..64).filter(|_| health.failed(Admission::Healthy, now)).count();
        assert_eq!(ejections, 1);
        assert_eq!(health.admit(now + FIRST_PAUSE), Admission::Probe);
    }

    #[test]
    fn a_probe_that_connects_readmits() {
        let start = Instant::now();
        let health = ejected(start);
        assert_eq!(health.admit(start + FIRST_PAUSE), Admission::Probe);
        assert!(health.succeeded());
        assert_eq!(health.admit(start + FIRST_PAUSE), Admission::Healthy);
        assert!(!health.failed(Admission::Healthy, start + FIRST_PAUSE), "the count starts at nought");
    }
}
