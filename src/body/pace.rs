//! How fast a client gives or takes, measured over the time that it is really its turn.
//! Pure arithmetic on durations and byte counts: nothing here reads a clock.

use std::time::Duration;

/// The time of waiting over which a rate is averaged (the contract's `body_min_rate`).
const WINDOW: Duration = Duration::from_secs(20);

/// What is asked of a client while it is its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaceBounds {
    /// The longest silence.
    pub(crate) idle: Duration,
    /// Bytes per second, averaged over [`WINDOW`].
    pub(crate) min_rate: u64,
}

/// Why a client is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooSlow {
    /// Not one byte for as long as is allowed.
    Silent,
    /// Bytes, but too few of them.
    BelowRate,
}

/// The measure of one direction of one exchange. It only ever counts waiting that its owner vouches for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// Whether it was the client's turn when last looked: since when before that, nobody knows, so it is not counted.
    waiting: bool,
    silent: Duration,
    waited: Duration,
    bytes_at_window: u64,
    bytes_last: u64,
}

impl Pace {
    /// Adds `elapsed` of waiting, at the end of which `bytes` had moved in all.
    pub(crate) fn wait(&mut self, elapsed: Duration, bytes: u64, bounds: PaceBounds) -> Option<TooSlow> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.bytes_last = bytes;
            return None;
        }
        if bytes == self.bytes_last {
            self.silent += elapsed;
        } else {
            self.silent = Duration::ZERO;
            self.bytes_last = bytes;
        }
        self.waited += elapsed;
        if self.silent >= bounds.idle {
            return Some(TooSlow::Silent);
        }
        if self.waited < WINDOW {
            return None;
        }
        let moved = bytes.saturating_sub(self.bytes_at_window);
        let wanted = bounds.min_rate.saturating_mul(self.waited.as_secs());
        self.waited = Duration::ZERO;
        self.bytes_at_window = bytes;
        (moved < wanted).then_some(TooSlow::BelowRate)
    }

    /// Notes that it was not the client's turn: silence starts again, the average goes on.
    pub(crate) fn rest(&mut self, bytes: u64) {
        self.waiting = false;
        self.silent = Duration::ZERO;
        self.bytes_last = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BOUNDS: PaceBounds = PaceBounds { idle: Duration::from_secs(10), min_rate: 1024 };

    #[test]
    fn silence_for_the_whole_idle_time_is_too_slow() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            assert_eq!(pace.wait(SECOND, 0, BOUNDS), None);
        }
        assert_eq!(pace.wait(SECOND, 0, BOUNDS), Some(TooSlow::Silent));
    }

    #[test]
    fn a_byte_every_few_seconds_falls_below_the_rate_after_the_window() {
        let mut pace = Pace::default();
        let mut verdicts = (1..=21).map(|second| pace.wait(SECOND, second, BOUNDS));
        assert!(verdicts.by_ref().take(20).all(|verdict| verdict.is_none()));
        assert_eq!(verdicts.next(), Some(Some(TooSlow::BelowRate)));
    }

    #[test]
    fn a_client_at_the_rate_goes_on_for_ever() {
        let mut pace = Pace::default();
        for second in 1..=200 {
            assert_eq!(pace.wait(SECOND, second * 1024, BOUNDS), None);
        }
    }

    #[test]
    fn silence_that_is_not_the_clients_turn_does_not_count() {
        let mut pace = Pace::default();
        for _ in 0..50 {
            assert_eq!(pace.wait(Duration::from_millis(300), 5000, BOUNDS), None);
            pace.rest(5000);
        }
    }
}
