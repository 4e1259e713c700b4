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
