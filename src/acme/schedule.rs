//! When a certificate is ordered: pure, with the time and chance as arguments.

use std::time::Duration;

/// The first pause after an attempt that did not reach the authority, or that it did not mean; and the longest.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// The same after the authority has refused: they count failed challenges, Let's Encrypt to five an hour for a name.
const REFUSED_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// Of a certificate's life, how much is left at the latest when it is renewed, whatever the authority proposes: one part in …
const LEAST_LEFT: u64 = 10;

/// How long an authority is left alone once it has given a certificate, at most. However soon that one looks due again, by a clock that
/// is wrong or by what the authority proposes: who orders without end is refused for days, with all other names.
const LONGEST_REST: Duration = Duration::from_secs(6 * 60 * 60);

/// Renewals are spread over one part in so many of a life, so that certificates that were ordered together do not stay so.
const SPREAD: u64 = 30;

/// How long a certificate is good for, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Life {
    /// When it is renewed: after two thirds of its life, and a little later by `chance`, which is from 0 to 1; or within the
    /// window that the authority proposes (RFC 9773 §4.2), and never when hardly any of it is left.
    pub(super) fn renewal(self, proposed: Option<Self>, chance: f64) -> u64 {
        let length = self.to.saturating_sub(self.from);
        let last = self.to.saturating_sub(length / LEAST_LEFT);
        let window = proposed.unwrap_or_else(|| {
            let from = self.to.saturating_sub(length / 3);
            Self { from, to: from.saturating_add(length / SPREAD) }
        });
        window.from.saturating_add(share(window.to.saturating_sub(window.from), chance)).min(last)
    }
}

impl Life {
    /// How long to wait after this was ordered, whatever is said of its renewal: a tenth of its life, within bounds.
    pub(super) fn rest(self) -> Duration {
        Duration::from_secs(self.to.saturating_sub(self.from) / LEAST_LEFT).clamp(PAUSE, LONGEST_REST)
    }
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The authority could not be reached, or made no sense.
    Passing,
    /// It refused.
    Refused,
}

/// How long to wait after so many attempts that failed, one at least; a fifth of it is left to chance, from 0 to 1.
pub(super) fn pause(failure: Failure, failures: u32, chance: f64) -> Duration {
    let (first, longest) = match failure {
        Failure::Passing => (PAUSE, LONGEST_PAUSE),
        Failure::Refused => (REFUSED_PAUSE, LONGEST_REFUSED_PAUSE),
    };
    let whole = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    whole.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}

fn share(of: u64, chance: f64) -> u64 {
    (of as f64 * chance.clamp(0.0, 1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life_and_a_little_later_by_chance() {
        let life = Life { from: 0, to: 90 * DAY };
        assert_eq!((life.renewal(None, 0.0), life.renewal(None, 1.0)), (60 * DAY, 63 * DAY));
        let short = Life { from: 1000, to: 1030 };
        assert_eq!((short.renewal(None, 0.0), short.renewal(None, 1.0)), (1020, 1021));
        assert_eq!(Life { from: 9, to: 9 }.renewal(None, 1.0), 9);
    }

    #[test]
    fn the_authoritys_window_is_kept_to_unless_it_is_too_late() {
        let life = Life { from: 0, to: 90 * DAY };
        let window = |from, to| Some(Life { from: from * DAY, to: to * DAY });
        assert_eq!(life.renewal(window(10, 12), 0.5), 11 * DAY);
        assert_eq!(life.renewal(window(0, 0), 0.5), 0, "it was revoked");
        assert_eq!(life.renewal(window(89, 95), 0.5), 81 * DAY);
        assert_eq!(life.renewal(window(12, 10), 1.0), 12 * DAY);
    }

    #[test]
    fn an_authority_is_left_alone_after_an_order_whatever_the_clock_says() {
        let rest = |length| Life { from: 7, to: 7 + length }.rest().as_secs();
        assert_eq!([0, 60, 6000, 90 * DAY].map(rest), [10, 10, 600, 21_600]);
        assert_eq!(Life { from: 9, to: 7 }.rest().as_secs(), 10);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_are_longer_where_the_authority_refused() {
        let middle = |failure, failures| pause(failure, failures, 0.5).as_secs();
        let passing: Vec<_> = [1, 2, 3, 4, 40].map(|n| middle(Failure::Passing, n)).into();
        assert_eq!(passing, [10, 20, 40, 80, 600]);
        let refused: Vec<_> = [1, 2, 40].map(|n| middle(Failure::Refused, n)).into();
        assert_eq!(refused, [300, 600, 21_600]);
        assert_eq!((pause(Failure::Passing, 1, 0.0).as_secs(), pause(Failure::Passing, 1, 1.0).as_secs()), (9, 11));
    }
}
