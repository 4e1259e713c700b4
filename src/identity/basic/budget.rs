//! How many wrong passwords there may be in a period: for a user from all strangers' addresses, or from an address for
//! all users. GCRA in one instant: it never fills up at once, so whoever empties it is slowed, and nobody is locked.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// How many.
    pub(super) count: NonZeroU32,
    /// In how long.
    pub(super) period: Duration,
}

impl Rate {
    fn interval(&self) -> Duration {
        self.period / self.count.get()
    }
}

/// What of a rate is used up: until when it is not whole again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Budget(Option<Instant>);

impl Budget {
    /// Whether this is as good as the default.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.0.is_none_or(|whole| whole <= now)
    }

    /// Takes one, if one is left.
    #[must_use]
    pub(super) fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        let whole = self.0.map_or(now, |whole| whole.max(now)).checked_add(rate.interval());
        let taken = whole.is_some_and(|whole| whole.saturating_duration_since(now) <= rate.period);
        if taken {
            self.0 = whole;
        }
        taken
    }

    /// Gives one back.
    pub(super) fn give_back(&mut self, rate: &Rate) {
        self.0 = self.0.and_then(|whole| whole.checked_sub(rate.interval()));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_at_once_and_comes_back_one_by_one() {
        let now = Instant::now();
        let rate = Rate { count: NonZeroU32::new(10).unwrap(), period: Duration::from_secs(100) };
        let mut budget = Budget::default();
        let spend = |budget: &mut Budget, at| (0..100).filter(|_| budget.take(&rate, at)).count();
        assert_eq!(spend(&mut budget, now), 10);
        assert_eq!(spend(&mut budget, now + Duration::from_secs(9)), 0);
        assert_eq!(spend(&mut budget, now + Duration::from_secs(10)), 1);
        budget.give_back(&rate);
        assert_eq!(spend(&mut budget, now + Duration::from_secs(10)), 1);
        assert!(!budget.is_idle(now + Duration::from_secs(109)));
        assert!(budget.is_idle(now + Duration::from_secs(110)));
        assert_eq!(spend(&mut budget, now + Duration::from_secs(10_000)), 10);
    }
}
