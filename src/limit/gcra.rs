//! A rate per second: the generic cell rate algorithm, by governor, over a state that our own table keeps.
//!
//! Governor decides and computes the next state; the table holds it under the lock of its shard, which is what makes
//! it possible to charge several quotas together or none of them.

use std::{cell::Cell, num::NonZeroU32};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

use super::{Meter, Reading};

/// N per second with a burst.
#[derive(Debug)]
pub(super) struct Gcra {
    quota: Quota,
    /// The time that one request weighs.
    cell_ns: u64,
    /// The time that a whole burst weighs.
    burst_ns: u64,
}

/// The theoretical arrival time in nanoseconds; 0 for a key that never did anything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrival(u64);

impl Gcra {
    pub(super) fn new(count: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(count).allow_burst(burst);
        // Governor's own rounding: a rate above one per nanosecond weighs one nanosecond.
        let cell_ns = u64::try_from(quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { quota, cell_ns, burst_ns: cell_ns.saturating_mul(u64::from(burst.get())) }
    }

    /// What is left when the theoretical arrival time is `arrival`.
    fn left(&self, arrival: Arrival, now_ns: u64) -> (u32, u64) {
        let debt = arrival.0.saturating_sub(now_ns);
        let remaining = self.burst_ns.saturating_sub(debt) / self.cell_ns;
        let used = (self.burst_ns / self.cell_ns).saturating_sub(remaining);
        // One more request fits when the debt has shrunk to one cell less than what is used now.
        let reset = debt.saturating_sub(used.saturating_sub(1).saturating_mul(self.cell_ns));
        (u32::try_from(remaining).unwrap_or(u32::MAX), reset)
    }

    /// Asks governor; the new state, or how long to wait.
    fn step(&self, arrival: Arrival, now_ns: u64) -> Result<Arrival, u64> {
        let clock = At(Cell::new(0));
        // The limiter takes its origin from the clock when it is made, so the clock says 0 first and `now` afterwards.
        let limiter: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> =
            RateLimiter::new(self.quota, One(Cell::new(arrival.0)), &clock);
        clock.0.set(now_ns);
        match limiter.check() {
            Ok(()) => Ok(Arrival(limiter.into_state_store().0.get())),
            Err(until) => Err(until.earliest_possible().as_u64().saturating_sub(now_ns)),
        }
    }
}

impl Meter for Gcra {
    type State = Arrival;

    fn look(&self, state: &mut Arrival, now_ns: u64) -> Reading {
        let wait_ns = self.step(*state, now_ns).err();
        let (remaining, reset_ns) = self.left(*state, now_ns);
        // Rounding may leave a remainder that is no whole request: governor's word is the one that counts.
        let remaining = if wait_ns.is_some() { 0 } else { remaining.max(1) };
        Reading { wait_ns, remaining, reset_ns: wait_ns.unwrap_or(reset_ns) }
    }

    fn charge(&self, state: &mut Arrival, now_ns: u64) -> Reading {
        match self.step(*state, now_ns) {
            Ok(next) => {
                *state = next;
                let (remaining, reset_ns) = self.left(next, now_ns);
                Reading { wait_ns: None, remaining, reset_ns }
            }
            Err(wait) => Reading { wait_ns: Some(wait), remaining: 0, reset_ns: wait },
        }
    }

    fn full_at_ns(&self, state: &Arrival) -> u64 {
        state.0
    }
}

/// A clock that says what it was told.
#[derive(Debug)]
struct At(Cell<u64>);

impl Clock for &At {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.get())
    }
}

/// The state of one key, for as long as one question takes.
#[derive(Debug)]
struct One(Cell<u64>);

impl StateStore for One {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let before = Some(self.0.get()).filter(|&arrival| arrival > 0).map(Nanos::new);
        let (answer, next) = f(before)?;
        self.0.set(next.as_u64());
        Ok(answer)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn gcra(count: u32, burst: u32) -> Gcra {
        Gcra::new(NonZeroU32::new(count).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let gcra = gcra(10, 3);
        let mut state = Arrival::default();
        let left: Vec<u32> = (0..3).map(|_| gcra.charge(&mut state, SECOND).remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = gcra.look(&mut state, SECOND);
        assert_eq!(refused.wait_ns, Some(SECOND / 10));
        assert_eq!(gcra.look(&mut state, SECOND + SECOND / 10).wait_ns, None);
        assert_eq!(gcra.look(&mut state, SECOND + SECOND / 10 - 1).wait_ns, Some(1));
    }

    #[test]
    fn looking_charges_nothing() {
        let gcra = gcra(1, 1);
        let mut state = Arrival::default();
        for _ in 0..3 {
            assert_eq!(gcra.look(&mut state, 5).wait_ns, None);
        }
        assert_eq!(gcra.look(&mut state, 5).remaining, 1);
    }

    #[test]
    fn the_reset_is_when_one_more_request_fits() {
        let gcra = gcra(2, 4);
        let mut state = Arrival::default();
        assert_eq!(gcra.look(&mut state, 0).reset_ns, 0);
        gcra.charge(&mut state, 0);
        let second = gcra.charge(&mut state, 0);
        assert_eq!((second.remaining, second.reset_ns), (2, SECOND / 2));
        let later = gcra.look(&mut state, SECOND / 4);
        assert_eq!((later.remaining, later.reset_ns), (2, SECOND / 4));
    }

    #[test]
    fn rates_at_both_ends_of_the_scale_are_counted() {
        let fast = gcra(u32::MAX, u32::MAX);
        let mut state = Arrival::default();
        assert_eq!(fast.charge(&mut state, 1).remaining, u32::MAX - 1);
        let slow = gcra(1, u32::MAX);
        let mut state = Arrival::default();
        assert_eq!(slow.charge(&mut state, 1).remaining, u32::MAX - 1);
    }
}
