//! What time it is without doubt: a deletion that was begun by a clock that was wrong for a moment cannot be brought back. While the
//! gateway runs, a leap ahead counts once it has lasted; over a restart a row says what time it was last, and a clock that is far ahead
//! of that has to stay there for as long.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::clock::{LEAP_DOUBT, Now, SettledClock};

/// The row of the time.
pub(super) const CLOCK: &str = "clock";
/// By how much a restart may take the clock ahead without any doubt, in seconds.
const PLAUSIBLE_SECS: u64 = 86_400;

/// What time it was, in the store.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) at: u64,
}

/// The clock of deletions: one for all that is done to them, by people and by time.
#[derive(Debug, Default)]
pub(super) struct Settled {
    clock: Mutex<SettledClock>,
    doubt: Mutex<Option<Doubt>>,
}

/// That the clock may have leapt while nothing ran.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    last: u64,
    until: Instant,
}

impl Settled {
    /// The time, without leaps.
    pub(super) fn now(&self, real: Now) -> Now {
        let secs = self.clock.lock().unwrap_or_else(PoisonError::into_inner).unix_secs(real);
        // The part of a second is the real clock's, where both agree on the second.
        let ms = if secs == real.unix_secs() { real.unix_ms } else { secs.saturating_mul(1000) };
        Now { unix_ms: ms, ..real }
    }

    fn doubt(&self) -> MutexGuard<'_, Option<Doubt>> {
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what time it was last; whether that leaves the clock in doubt. One that is behind is in none: by it nothing is due too soon,
    /// and should it be set right, that is a leap as any other.
    pub(super) fn begin(&self, last: u64, now: Now) -> bool {
        let is_ahead = is_implausible(last, now);
        *self.doubt() = is_ahead.then(|| Doubt { last, until: now.after(LEAP_DOUBT).instant });
        is_ahead
    }

    /// Whether the clock is in doubt since the start: nothing is carried out until it has stayed so, or was set right.
    pub(super) fn is_in_doubt(&self, now: Now) -> bool {
        let mut doubt = self.doubt();
        if doubt.is_some_and(|doubt| now.instant >= doubt.until || !is_implausible(doubt.last, now)) {
            *doubt = None;
        }
        doubt.is_some()
    }
}

fn is_implausible(last: u64, now: Now) -> bool {
    now.unix_secs() > last.saturating_add(PLAUSIBLE_SECS)
}

/// How often it is kept what time it is, while anything is open.
pub(super) const KEEP: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_start_a_clock_far_ahead_of_the_last_known_time_is_doubted_for_a_quarter_of_an_hour() {
        let start = Now { unix_ms: 2_000_000_000, instant: Instant::now() };
        let settled = Settled::default();
        assert!(!settled.begin(2_000_000 - PLAUSIBLE_SECS, start), "off for a day");
        assert!(!settled.begin(2_000_000 + 500, start), "behind");
        assert!(settled.begin(2_000_000 - PLAUSIBLE_SECS - 1, start));
        assert!(settled.is_in_doubt(start.after(LEAP_DOUBT - Duration::from_secs(1))));
        assert!(!settled.is_in_doubt(start.after(LEAP_DOUBT)), "it stayed there");
        assert!(settled.begin(1_000_000, start));
        let set_right = Now { unix_ms: 1_000_500_000, ..start.after(Duration::from_secs(10)) };
        assert!(!settled.is_in_doubt(set_right), "it was set right");
        assert!(
            !settled.is_in_doubt(start.after(Duration::from_secs(20))),
            "which the running clock judges from then on"
        );
    }
}
