//! How much of all requests may be repetitions. Where many fail, repeating each of them would be the load that keeps the service
//! from coming back: so repetitions are paid for by requests, a share each, beside a few a second for services with few requests.
//! One exact state for all workers.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// What a repetition costs, so that a request's share is a whole number: percents.
const PRICE: u64 = 100;
/// A hundred repetitions: a service that restarts may need as many within a moment; the savings of a whole good day would be a storm.
const MOST: u64 = 100 * PRICE;
/// Between two that nobody pays for: three a second.
const FREE_EVERY_MS: u64 = 333;
/// How many of these may come at once.
const FREE_AT_ONCE: u64 = 3;

/// How many repetitions there may be.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    saved: AtomicU64,
    /// When the next one that nobody pays for would be due if each came at its time (GCRA), in milliseconds after `epoch`.
    due_ms: AtomicU64,
    epoch: OnceLock<Instant>,
}

impl RetryBudget {
    /// Notes a request, which pays `share` percent of a repetition.
    pub(super) fn earn(&self, share: u8) {
        // Adding twice at the bound exceeds it by no more than one share for each worker.
        if self.saved.load(Relaxed) < MOST {
            self.saved.fetch_add(u64::from(share), Relaxed);
        }
    }

    /// Takes a repetition, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let paid = self.saved.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(PRICE)).is_ok();
        paid || self.take_free(now)
    }

    fn take_free(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(*self.epoch.get_or_init(|| now)).as_millis();
        // One span later, so that nought is long ago.
        let now_ms = u64::try_from(since).unwrap_or(u64::MAX).saturating_add(FREE_EVERY_MS * FREE_AT_ONCE);
        let next = |due: u64| {
            let due = due.max(now_ms.saturating_sub(FREE_EVERY_MS * (FREE_AT_ONCE - 1)));
            (due <= now_ms).then_some(due + FREE_EVERY_MS)
        };
        self.due_ms.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(budget: &RetryBudget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.take(now)).count()
    }

    #[test]
    fn few_repetitions_a_second_are_free() {
        let (budget, start) = (RetryBudget::default(), Instant::now());
        assert_eq!(taken(&budget, start), 3);
        assert_eq!(taken(&budget, start + Duration::from_millis(332)), 0);
        assert_eq!(taken(&budget, start + Duration::from_millis(333)), 1);
        assert_eq!(taken(&budget, start + Duration::from_secs(3600)), 3);
        let mut all = 0;
        for ms in 0..10_000 {
            all += taken(&budget, start + Duration::from_secs(7200) + Duration::from_millis(ms));
        }
        assert!((30..=33).contains(&all), "{all} in ten seconds");
    }

    #[test]
    fn others_are_a_share_of_all_requests() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        taken(&budget, now);
        (0..100).for_each(|_| budget.earn(20));
        assert_eq!(taken(&budget, now), 20);
        (0..4).for_each(|_| budget.earn(20));
        assert_eq!(taken(&budget, now), 0);
        budget.earn(20);
        assert_eq!(taken(&budget, now), 1);
    }

    #[test]
    fn savings_have_a_bound() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        taken(&budget, now);
        (0..1_000_000).for_each(|_| budget.earn(20));
        assert_eq!(taken(&budget, now), 100);
    }
}
