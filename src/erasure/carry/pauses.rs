//! When what failed is tried again: after pauses that double, half of each left to chance, so that ten thousand deletions that met
//! the same outage do not come back together.

use std::time::Duration;

/// The first pause and the longest: a restart is over in seconds, and an hour later somebody has noticed an outage.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How long to wait after so many attempts that failed; `chance` is random, and `wish` is what the service asked for.
pub(super) fn pause(attempts: u32, wish: Option<Duration>, chance: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(12)).min(LONGEST);
    let half = doubled / 2;
    let jitter = half.mul_f64(f64::from(chance) / f64::from(u32::MAX));
    // A wish is waited for in full, and a little longer, for the same reason.
    (half + jitter).max(wish.map_or(Duration::ZERO, |wish| wish.min(LONGEST) + jitter.min(wish / 4)))
}

/// A random number; without randomness all come at once, which is worse but no harm.
pub(super) fn chance() -> u32 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_second_to_an_hour_and_half_of_each_is_chance() {
        let secs = |attempts, chance| pause(attempts, None, chance).as_secs_f64();
        for (attempts, longest) in [(0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (8, 128.0), (13, 3600.0), (1000, 3600.0)] {
            assert!((secs(attempts, u32::MAX) - longest).abs() < 1e-6, "{attempts}");
            assert!((secs(attempts, 0) - longest / 2.0).abs() < 1e-6, "{attempts}");
        }
        for _ in 0..100 {
            let one = pause(5, None, chance());
            assert!((Duration::from_secs(8)..=Duration::from_secs(16)).contains(&one));
        }
    }

    #[test]
    fn a_service_is_not_asked_before_it_wants_to_be_but_within_an_hour_or_so() {
        let wish = |secs| Some(Duration::from_secs(secs));
        assert!(pause(1, wish(120), 0) >= Duration::from_secs(120));
        assert!(pause(1, wish(0), 0) >= Duration::from_millis(500));
        assert!(pause(1, wish(u64::MAX), u32::MAX) <= Duration::from_secs(2 * 3600));
    }
}
