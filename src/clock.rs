//! Time as an argument: one request reads the clock once and carries the `Now` it got.
//! Only `SystemClock` ever asks the system; everything below takes `Now` and can be tested at any hour.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, on the wall and on the monotonic clock, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch: for token times, records and conditions.
    pub unix_ms: u64,
    /// The monotonic instant: for quotas, latencies and time-outs.
    pub instant: Instant,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    pub fn unix_secs(self) -> u64 {
        self.unix_ms / 1000
    }

    /// Seconds since the Unix epoch with their fraction, as a JWT NumericDate has them.
    pub fn numeric_date(self) -> f64 {
        self.unix_ms as f64 / 1000.0
    }

    /// The moment `by` later, on both clocks.
    pub fn after(self, by: Duration) -> Self {
        Self {
            unix_ms: self.unix_ms.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)),
            instant: self.instant.checked_add(by).unwrap_or(self.instant),
        }
    }
}

/// How long the wall clock must stay ahead before that is believed.
pub const LEAP_DOUBT: Duration = Duration::from_secs(15 * 60);
/// By how much it may go ahead of the monotonic clock without any doubt, in seconds: it is set right now and then.
const DRIFT_SECS: u64 = 5;

/// The wall clock for what is forgotten for good once its time has passed. A leap forward that is taken back within a
/// quarter of an hour, by a wrong answer of a time server or a slip of a hand, has then made nothing be forgotten that counts
/// again afterwards.
#[derive(Debug, Default)]
pub struct SettledClock {
    last: Option<(u64, Instant)>,
    ahead_since: Option<Instant>,
}

impl SettledClock {
    /// Seconds since the Unix epoch that have passed without doubt; to be asked now and then.
    pub fn unix_secs(&mut self, now: Now) -> u64 {
        let wall = now.unix_secs();
        let Some((last, at)) = self.last else {
            self.last = Some((wall, now.instant));
            return wall;
        };
        let elapsed = now.instant.saturating_duration_since(at);
        let expected = last.saturating_add(elapsed.as_secs());
        if wall <= expected.saturating_add(DRIFT_SECS) {
            self.ahead_since = None;
        } else {
            let since = *self.ahead_since.get_or_insert(now.instant);
            if now.instant.saturating_duration_since(since) < LEAP_DOUBT {
                // Not kept: what is left of a second counts towards the next time.
                return expected;
            }
            self.ahead_since = None;
        }
        self.last = Some((wall, now.instant));
        wall
    }
}

/// A source of `Now`.
pub trait Clock: Send + Sync + 'static {
    /// Reads the time.
    fn now(&self) -> Now;

    /// Reads the monotonic clock alone, for how long something took.
    fn instant(&self) -> Instant {
        self.now().instant
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), instant: Instant::now() }
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_forward_is_believed_only_once_it_has_lasted() {
        let start = Now { unix_ms: 1_000_000_000, instant: Instant::now() };
        let after = |secs: u64| start.after(Duration::from_secs(secs));
        let leap = |secs: u64| Now { unix_ms: after(secs).unix_ms + 1_000_000_000, ..after(secs) };
        let mut clock = SettledClock::default();
        assert_eq!(clock.unix_secs(start), 1_000_000);
        assert_eq!(clock.unix_secs(after(3600)), 1_003_600, "time that passed");
        assert_eq!(clock.unix_secs(leap(3610)), 1_003_610);
        assert_eq!(clock.unix_secs(leap(3610 + 899)), 1_003_610 + 899);
        assert_eq!(clock.unix_secs(after(4600)), 1_004_600, "taken back");
        assert_eq!(clock.unix_secs(leap(4610)), 1_004_610, "doubted anew");
        assert_eq!(clock.unix_secs(leap(4610 + 900)), 2_004_610 + 900);
        assert_eq!(clock.unix_secs(after(5600)), 1_005_600, "a step back is believed at once");
    }
}
