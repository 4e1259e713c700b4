//! Whether a target is well, shared by all workers: learnt from what became of real requests, and from health checks where
//! there are any. It may be used only if both say so.
//!
//! ```text
//!            failures in a row                       the pause is over
//!  healthy ─────────────────────> ejected (base) ──────────────────────> probing: one caller is admitted
//!     ^                              ^   the pause doubles, up to `max`       │            │
//!     │                              └───────────── it fails ────────────────┘            │
//!     └────────────────────────────────────────────── it succeeds ────────────────────────┘
//! ```
//! A request that was admitted while it was healthy and ends well after the ejection brings nothing back. One that was sent to an ejected
//! target for want of others does.
//!
//! A probe that nobody finishes (its client went away, or was not willing to wait) gives its turn to the next at once, and one that
//! lasts after [`PROBE_LEASE`]: else whoever asks often and leaves keeps a target away that is well. Doublings are forgiven one by
//! one: each for as much time without an ejection as the last pause took.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config::Ejection;

/// Longer than a connection may usually take.
const PROBE_LEASE: Duration = Duration::from_secs(5);
/// What a target begins with where it comes back slowly, in percent: enough to find out whether it serves.
const FIRST_SHARE: u32 = 10;
/// A target's whole share.
pub(super) const WHOLE_SHARE: u32 = 100;

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

/// What is believed of a target, without a claim to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is believed to be well.
    Healthy,
    /// It was ejected, its pause is over, and nobody is finding out yet.
    ProbeDue,
    /// It is left out for now.
    Out,
}

/// The health of one target.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures in a row.
    failures: AtomicU32,
    /// Ejections that are not forgiven; decides how long the pause is.
    ejections: AtomicU32,
    /// Milliseconds after `epoch` at which a probe may go; 0 when healthy.
    retry_at_ms: AtomicU64,
    /// What `retry_at_ms` is while the last probe has its time.
    lease_ms: AtomicU64,
    /// Milliseconds after `epoch` at which it came back; 0 if it was never away.
    back_at_ms: AtomicU64,
    /// Whether health checks say that it is unwell.
    checked_out: AtomicBool,
    /// Whether there was a health check at all.
    was_asked: AtomicBool,
    /// Answers to health checks in a row that say other than is believed.
    contrary: AtomicU32,
    /// The first moment that mattered.
    epoch: OnceLock<Instant>,
}

impl Health {
    /// What is believed of it.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let now_ms = self.millis(now);
        if self.checked_out.load(Relaxed) {
            return Standing::Out;
        }
        match self.retry_at_ms.load(Relaxed) {
            0 => Standing::Healthy,
            retry_at if now_ms >= retry_at => Standing::ProbeDue,
            _ => Standing::Out,
        }
    }

    /// Asks whether the target may be tried; `Probe` must be followed by `failed`, `succeeded` or `give_back`.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        if self.checked_out.load(Relaxed) {
            return Admission::Ejected;
        }
        let retry_at = self.retry_at_ms.load(Relaxed);
        if retry_at == 0 {
            return Admission::Healthy;
        }
        let now_ms = self.millis(now);
        let lease = now_ms.saturating_add(millis(PROBE_LEASE));
        if now_ms >= retry_at && self.retry_at_ms.compare_exchange(retry_at, lease, Relaxed, Relaxed).is_ok() {
            self.lease_ms.store(lease, Relaxed);
            Admission::Probe
        } else {
            Admission::Ejected
        }
    }

    /// A probe has ended, with a verdict or without: then another may find out at once.
    pub(super) fn give_back(&self) {
        let lease = self.lease_ms.load(Relaxed);
        if lease != 0 {
            // Whatever was found out has put something else there.
            let _ = self.retry_at_ms.compare_exchange(lease, 1, Relaxed, Relaxed);
        }
    }

    /// Whether the target is left out at the moment.
    pub(super) fn is_out(&self) -> bool {
        self.retry_at_ms.load(Relaxed) != 0 || self.checked_out.load(Relaxed)
    }

    /// Notes a failure; `true` when this one ejects a target that was healthy.
    pub(super) fn failed(&self, admission: Admission, rules: &Ejection, now: Instant) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        match admission {
            // Tried for want of anything better: tells nothing new.
            Admission::Ejected => false,
            Admission::Probe => {
                self.eject(rules, now);
                false
            }
            // A burst of failures that began together ejects once.
            Admission::Healthy if failures >= rules.failures && self.retry_at_ms.load(Relaxed) == 0 => {
                self.forgive(rules, now);
                self.eject(rules, now);
                true
            }
            Admission::Healthy => false,
        }
    }

    /// Notes a success; `true` when it readmits a target that was ejected. What was admitted before the ejection says nothing of how
    /// the target is since.
    pub(super) fn succeeded(&self, admission: Admission, now: Instant) -> bool {
        let is_out = self.retry_at_ms.load(Relaxed) != 0;
        if is_out && admission == Admission::Healthy {
            return false;
        }
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if !is_out {
            return false;
        }
        self.come_back(now);
        self.retry_at_ms.swap(0, Relaxed) != 0
    }

    /// Notes the answer to a health check; `true` when it turns what is believed. It takes so many in a row to be believed well or
    /// unwell, and one where nothing was known. To be called by one at a time.
    pub(super) fn asked(&self, is_well: bool, (healthy, unhealthy): (u32, u32), now: Instant) -> bool {
        let is_first = !self.was_asked.swap(true, Relaxed);
        if is_well != self.is_checked_out() {
            self.contrary.store(0, Relaxed);
            return false;
        }
        let contrary = self.contrary.fetch_add(1, Relaxed).saturating_add(1);
        if !is_first && contrary < if is_well { healthy } else { unhealthy } {
            return false;
        }
        self.contrary.store(0, Relaxed);
        self.checked_out.store(!is_well, Relaxed);
        if is_well {
            self.come_back(now);
        }
        true
    }

    /// Forgets what health checks said: there are none any more.
    pub(super) fn unasked(&self) {
        self.was_asked.store(false, Relaxed);
        self.contrary.store(0, Relaxed);
        self.checked_out.store(false, Relaxed);
    }

    /// Whether health checks say that it is unwell.
    pub(super) fn is_checked_out(&self) -> bool {
        self.checked_out.load(Relaxed)
    }

    /// How much of its share it gets, in percent: it takes `slow_start` from the first to the whole.
    pub(super) fn share(&self, slow_start: Duration, now: Instant) -> u32 {
        let (since, whole) =
            (self.millis(now).saturating_sub(self.back_at_ms.load(Relaxed)), millis(slow_start).max(1));
        if since >= whole {
            return WHOLE_SHARE;
        }
        let percent = u32::try_from(u128::from(since) * u128::from(WHOLE_SHARE) / u128::from(whole));
        percent.unwrap_or(WHOLE_SHARE).clamp(FIRST_SHARE, WHOLE_SHARE)
    }

    fn come_back(&self, now: Instant) {
        self.back_at_ms.store(self.millis(now).max(1), Relaxed);
    }

    /// Forgets ejections that were long ago.
    fn forgive(&self, rules: &Ejection, now: Instant) {
        let ejections = self.ejections.load(Relaxed);
        let Some(last) = ejections.checked_sub(1) else { return };
        let well_ms = self.millis(now).saturating_sub(self.back_at_ms.load(Relaxed));
        let forgiven = well_ms.checked_div(millis(pause(rules, last))).unwrap_or(u64::MAX);
        self.ejections.store(ejections.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)), Relaxed);
    }

    fn eject(&self, rules: &Ejection, now: Instant) {
        let before = self.ejections.fetch_add(1, Relaxed);
        let until = self.millis(now).saturating_add(millis(pause(rules, before)));
        self.retry_at_ms.store(until.max(1), Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(*self.epoch.get_or_init(|| now)))
    }
}

/// How long a target is left out that was so `before` times.
fn pause(rules: &Ejection, before: u32) -> Duration {
    // Twenty doublings of a millisecond are longer than any `max` that makes sense.
    rules.base.saturating_mul(1 << before.min(20)).min(rules.max)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Ejection =
        Ejection { failures: 3, base: Duration::from_secs(5), max: Duration::from_secs(60), panic: 0, answers: false };

    fn ejected(at: Instant) -> Health {
        let health = Health::default();
        for _ in 0..RULES.failures {
            health.failed(Admission::Healthy, &RULES, at);
        }
        health
    }

    #[test]
    fn failures_in_a_row_eject_and_fewer_do_not() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.failed(Admission::Healthy, &RULES, now));
        assert!(!health.failed(Admission::Healthy, &RULES, now));
        assert_eq!(health.admit(now), Admission::Healthy);
        assert!(health.failed(Admission::Healthy, &RULES, now));
        assert_eq!((health.admit(now), health.standing(now)), (Admission::Ejected, Standing::Out));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            health.failed(Admission::Healthy, &RULES, now);
            health.failed(Admission::Healthy, &RULES, now);
            health.succeeded(Admission::Healthy, now);
        }
        assert_eq!(health.admit(now), Admission::Healthy);
    }

    #[test]
    fn a_probe_that_finds_out_nothing_gives_its_turn_on_and_changes_no_verdict() {
        let start = Instant::now();
        let health = ejected(start);
        let later = start + RULES.base;
        assert_eq!(health.admit(later), Admission::Probe);
        health.give_back();
        assert_eq!([health.admit(later), health.admit(later)], [Admission::Probe, Admission::Ejected]);
        health.failed(Admission::Probe, &RULES, later);
        health.give_back();
        assert_eq!(health.admit(later + RULES.base), Admission::Ejected, "the pause has doubled");
        assert_eq!(health.admit(later + RULES.base * 2), Admission::Probe);
        health.succeeded(Admission::Probe, later);
        health.give_back();
        assert_eq!(health.admit(later), Admission::Healthy);
        let health = Health::default();
        health.give_back();
        assert_eq!(health.standing(later), Standing::Healthy);
    }

    #[test]
    fn after_the_pause_exactly_one_caller_probes() {
        let start = Instant::now();
        let health = ejected(start);
        let later = start + RULES.base;
        assert_eq!(health.standing(later), Standing::ProbeDue);
        assert_eq!(health.admit(later), Admission::Probe);
        assert_eq!((health.admit(later), health.standing(later)), (Admission::Ejected, Standing::Out));
    }

    #[test]
    fn a_probe_that_nobody_finishes_gives_its_turn_away() {
        let start = Instant::now();
        let health = ejected(start);
        let later = start + RULES.base;
        assert_eq!(health.admit(later), Admission::Probe);
        assert_eq!(health.admit(later + PROBE_LEASE), Admission::Probe);
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let mut now = Instant::now();
        let health = ejected(now);
        for pause in [5, 10, 20, 40, 60, 60, 60] {
            assert_eq!(health.admit(now + Duration::from_millis(pause * 1000 - 1)), Admission::Ejected);
            now += Duration::from_secs(pause);
            assert_eq!(health.admit(now), Admission::Probe);
            assert!(!health.failed(Admission::Probe, &RULES, now));
        }
    }

    #[test]
    fn a_burst_of_failures_ejects_once_and_for_the_first_pause() {
        let now = Instant::now();
        let health = Health::default();
        let ejections = (0..64).filter(|_| health.failed(Admission::Healthy, &RULES, now)).count();
        assert_eq!(ejections, 1);
        assert_eq!(health.admit(now + RULES.base), Admission::Probe);
    }

    #[test]
    fn a_probe_that_succeeds_readmits() {
        let start = Instant::now();
        let health = ejected(start);
        assert_eq!(health.admit(start + RULES.base), Admission::Probe);
        assert!(health.succeeded(Admission::Probe, start + RULES.base));
        assert_eq!(health.admit(start + RULES.base), Admission::Healthy);
        assert!(!health.failed(Admission::Healthy, &RULES, start + RULES.base), "the count starts at nought");
    }

    #[test]
    fn what_began_before_the_ejection_readmits_nobody_and_what_was_tried_all_the_same_does() {
        let start = Instant::now();
        let health = ejected(start);
        assert!(!health.succeeded(Admission::Healthy, start));
        assert_eq!((health.admit(start), health.standing(start)), (Admission::Ejected, Standing::Out));
        assert_eq!(health.admit(start + RULES.base), Admission::Probe);
        assert!(!health.succeeded(Admission::Healthy, start + RULES.base), "nor while somebody finds out");
        assert!(health.succeeded(Admission::Ejected, start + RULES.base));
        assert_eq!(health.standing(start), Standing::Healthy);
    }

    /// Ejects a healthy target at `at`, and says for how many seconds.
    fn pause_of(health: &Health, at: Instant) -> u64 {
        while !health.failed(Admission::Healthy, &RULES, at) {}
        let secs = (1..=60).find(|secs| health.standing(at + Duration::from_secs(*secs)) == Standing::ProbeDue);
        health.retry_at_ms.store(0, Relaxed);
        health.failures.store(0, Relaxed);
        secs.unwrap_or_default()
    }

    #[test]
    fn time_without_an_ejection_forgives_doublings_one_by_one() {
        let mut now = Instant::now();
        let health = Health::default();
        for pause in [5, 10, 20, 40] {
            assert_eq!(pause_of(&health, now), pause);
            health.come_back(now);
        }
        now += Duration::from_secs(79); // not twice the last pause: one doubling is forgiven
        assert_eq!(pause_of(&health, now), 40);
        health.come_back(now);
        now += Duration::from_secs(120); // three times
        assert_eq!(pause_of(&health, now), 10);
        health.come_back(now);
        now += Duration::from_secs(3600);
        assert_eq!(pause_of(&health, now), 5);
    }

    #[test]
    fn a_check_takes_a_target_out_and_brings_it_back_whatever_requests_saw() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.asked(true, (1, 1), now));
        assert!(health.asked(false, (1, 1), now) && !health.asked(false, (1, 1), now));
        assert_eq!(
            (health.admit(now), health.standing(now), health.is_out()),
            (Admission::Ejected, Standing::Out, true)
        );
        assert!(!health.succeeded(Admission::Ejected, now));
        assert!(health.is_out(), "a request that went well all the same does not overrule the check");
        assert!(health.asked(true, (1, 1), now));
        assert_eq!(health.admit(now), Admission::Healthy);
        health.asked(false, (1, 1), now);
        health.unasked();
        assert_eq!(health.admit(now), Admission::Healthy);
    }

    #[test]
    fn it_takes_answers_in_a_row_to_turn_what_is_believed_and_one_to_begin_with() {
        let now = Instant::now();
        let turns = |answers: &str| {
            let health = Health::default();
            let turn = |answer| if health.asked(answer == '+', (2, 3), now) { 'T' } else { '.' };
            answers.chars().map(turn).collect::<String>()
        };
        assert_eq!(turns("+--+---+-++"), "......T...T");
        assert_eq!(turns("-+-++"), "T...T");
    }

    #[test]
    fn the_share_grows_from_a_tenth_to_the_whole() {
        let (health, now) = (Health::default(), Instant::now());
        let slow_start = Duration::from_secs(30);
        let share = |from: Instant, secs| health.share(slow_start, from + Duration::from_secs(secs));
        assert_eq!([0, 3, 15, 24, 30, 3600].map(|secs| share(now, secs)), [10, 10, 50, 80, 100, 100]);
        let later = now + Duration::from_secs(3600);
        health.asked(false, (1, 1), later);
        health.asked(true, (1, 1), later);
        assert_eq!([0, 15, 30].map(|secs| share(later, secs)), [10, 50, 100]);
    }
}
