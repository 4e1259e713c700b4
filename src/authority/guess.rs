//! What wrong codes lead to: two pure state machines, no clock and no lock in them. Times are seconds since the epoch, as
//! the states outlive the process.
//!
//! **Near**: one person, one address (IPv6: its /64), one credential.
//!
//! ```text
//!            fewer than `failures`                            right
//!              ┌────────────┐              ┌──────────────────────────────────────┐
//!              ▼            │              ▼                                      │
//!          ┌────────────────┴─┐  wrong   ┌──────────────────┐  time is up   ┌─────┴────────┐
//!   ──────>│ open: failures   ├─────────>│ locked: nothing  ├──────────────>│ trial: one   │
//!          │ to go            │          │ is looked at     │               │ code         │
//!          └──────────────────┘          └──────────────────┘<──────────────┴─────┬────────┘
//!              ▲                                              wrong: twice as long │
//!              └─────────────── nothing for as long as the longest lock ───────────┘
//! ```
//!
//! **Lane**: one person, over all addresses. Each code is a point; a point is forgiven every [`FORGIVEN_SECS`].
//!
//! ```text
//!   points:  0 ........ free ................................ hard
//!            at once    one code a second, two, four … longest    none is looked at until a point is forgiven
//! ```
//!
//! Each person has two lanes: one for addresses from which they were right before, one for all others. Strangers at other
//! addresses fill the second, and the owner at home never meets them. Whoever is right gets back the points that were
//! theirs at this address and with this credential, and no others: being right makes no room for strangers.
//!
//! A code counts as wrong before it is looked at, and is taken back once it is known to be right: guessing in parallel, or
//! going away before the answer, or a crash, gains nothing. Codes that are too long to be guessed (recovery codes) meet the
//! first machine alone, and passkeys neither: whoever locks the lanes locks nobody out who has one of them.

use serde::{Deserialize, Serialize};

use crate::config::Guessing;

/// How long it takes until a point is forgiven. With [`Guessing::hard`] at 100 that makes 1195 codes a year over all
/// addresses, whoever asks and from wherever: see `the_chance_of_strangers_in_a_year_is_below_one_percent`.
pub(super) const FORGIVEN_SECS: u64 = 8 * 3600;

/// How strict the locks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Wrong codes until the first lock of one address and credential.
    pub(super) failures: u32,
    /// How long it lasts, in seconds.
    pub(super) first: u64,
    /// How long any lasts, and the longest between two codes over all addresses.
    pub(super) longest: u64,
    /// Points over all addresses at which nothing is looked at.
    pub(super) hard: u32,
}

impl From<&Guessing> for Rules {
    fn from(config: &Guessing) -> Self {
        Self {
            failures: config.failures.max(1),
            first: config.first.as_secs().max(1),
            longest: config.longest.as_secs().max(1),
            hard: config.hard.max(1),
        }
    }
}

/// The state of one person at one address with one credential. The default is: nothing has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Near {
    /// Codes since the last lock or right code.
    failures: u32,
    /// How many locks there were since the last right code.
    locks: u32,
    /// Until when nothing is looked at.
    until: u64,
    /// When the last code came.
    last: u64,
    /// Points in the lane that are this one's.
    pub(super) points: u32,
    /// Codes that were not looked at: for the operator, and so that refusing costs what looking costs.
    turned_away: u32,
}

/// Whether a code is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is.
    Taken {
        /// Whether it led to a lock that holds from now on, should it be wrong.
        locks: bool,
    },
    /// It is not.
    TurnedAway,
}

impl Near {
    /// Takes a code to be looked at, if one more may be wrong.
    pub(super) fn take(&mut self, rules: &Rules, now: u64) -> Look {
        if self.is_forgotten(rules, now) {
            *self = Self { points: self.points, ..Self::default() };
        }
        // Of a lock that was made by a clock that was ahead nothing is known but that it is there: it ends, and the next code
        // is the trial.
        if self.last <= now && now < self.until {
            self.turned_away = self.turned_away.saturating_add(1);
            return Look::TurnedAway;
        }
        self.last = now;
        self.failures = self.failures.saturating_add(1);
        let locks = self.locks > 0 || self.failures >= rules.failures;
        if locks {
            self.until = now.saturating_add(lock_of(rules, self.locks));
            self.locks = self.locks.saturating_add(1);
            self.failures = 0;
        }
        Look::Taken { locks }
    }

    /// A code that the first machine took was turned away by the second: it was not looked at.
    pub(super) fn turned_away(&mut self) {
        self.turned_away = self.turned_away.saturating_add(1);
    }

    /// When this may be forgotten: it is as good as the default then, but for points that are forgiven by then as well.
    pub(super) fn expires_at(&self, rules: &Rules) -> u64 {
        let quiet = self.until.max(self.last).saturating_add(rules.longest);
        quiet.max(self.last.saturating_add(u64::from(self.points).saturating_mul(FORGIVEN_SECS)))
    }

    fn is_forgotten(&self, rules: &Rules, now: u64) -> bool {
        self.until.max(self.last).saturating_add(rules.longest) <= now
    }
}

/// The first lock and each after it twice as long, up to the longest.
fn lock_of(rules: &Rules, before: u32) -> u64 {
    doubled(rules.first, before).min(rules.longest)
}

fn doubled(first: u64, times: u32) -> u64 {
    first.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX))
}

/// The state of one person over many addresses. The default is: nothing has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// Codes that count.
    points: u32,
    /// Since when the next point is being forgiven.
    since: u64,
    /// When the last code was taken.
    last: u64,
}

/// Which lane of a person's a code is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// That of addresses from which they were right before.
    Home,
    /// That of all others.
    Others,
}

impl Which {
    /// The lane of an address from which the person was right before, or not.
    pub(super) fn of(is_home: bool) -> Self {
        if is_home { Self::Home } else { Self::Others }
    }

    /// What its row is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Others => "others",
        }
    }
}

/// Counts a code: whether it is looked at, and what that makes of the states. `long`: it is too long to be guessed, and
/// counts for this address and credential alone. Turned away by either machine, it counts in neither.
pub(super) fn count(near: &mut Near, lane: &mut Lane, long: bool, rules: &Rules, now: u64) -> (Look, Pass) {
    let (mut looked, mut passed) = (*near, *lane);
    let look = looked.take(rules, now);
    let pass = match look {
        Look::Taken { .. } if !long => passed.take(rules, now),
        Look::Taken { .. } => Pass::Taken { hard: false },
        Look::TurnedAway => Pass::TurnedAway,
    };
    match pass {
        Pass::Taken { .. } => {
            looked.points = looked.points.saturating_add(u32::from(!long));
            (*near, *lane) = (looked, passed);
        }
        Pass::TurnedAway => near.turned_away(),
    }
    (look, pass)
}

/// What a lane says of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It may be looked at.
    Taken {
        /// Whether it was the last one for a long while.
        hard: bool,
    },
    /// It came too soon, or the lane is locked.
    TurnedAway,
}

impl Lane {
    /// Takes a code to be looked at.
    pub(super) fn take(&mut self, rules: &Rules, now: u64) -> Pass {
        self.forgive(now);
        if self.points >= rules.hard || now < self.next_at(rules, now) {
            return Pass::TurnedAway;
        }
        if self.points == 0 {
            self.since = now;
        }
        self.points = self.points.saturating_add(1);
        self.last = now;
        Pass::Taken { hard: self.points >= rules.hard }
    }

    /// Gives points back to whoever was right.
    pub(super) fn give_back(&mut self, points: u32, now: u64) {
        self.forgive(now);
        self.points = self.points.saturating_sub(points);
    }

    /// When this may be forgotten.
    pub(super) fn expires_at(&self) -> u64 {
        self.since.saturating_add(u64::from(self.points).saturating_add(1).saturating_mul(FORGIVEN_SECS))
    }

    fn next_at(&self, rules: &Rules, now: u64) -> u64 {
        let free = rules.failures.saturating_mul(2).min(rules.hard);
        let Some(over) = self.points.checked_sub(free) else { return 0 };
        let wait = doubled(1, over).min(rules.longest);
        // Of a clock that was ahead nothing is known but the points, which hold.
        if self.last > now { 0 } else { self.last.saturating_add(wait) }
    }

    fn forgive(&mut self, now: u64) {
        // Of a clock that went back nothing is forgiven, and nothing later because of it.
        self.since = self.since.min(now);
        let forgiven = (now - self.since) / FORGIVEN_SECS;
        self.since += forgiven * FORGIVEN_SECS;
        self.points = self.points.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { failures: 5, first: 30, longest: 900, hard: 100 };
    const START: u64 = 1_700_000_000;
    const DAY: u64 = 86_400;

    /// What a row says: seconds since the first, whether it was looked at, and for how many seconds it locks.
    #[test]
    fn the_truth_table_of_one_address() {
        let mut near = Near::default();
        for (at, looked_at, locked_for) in [
            (0, true, 0),
            (1, true, 0),
            (2, true, 0),
            (3, true, 0),
            (4, true, 30),
            (5, false, 0),
            (33, false, 0),
            (34, true, 60),
            (93, false, 0),
            (94, true, 120),
            (214, true, 240),
            (454, true, 480),
            (934, true, 900),
            (1834, true, 900),
            (2733, false, 0),
            // The lock ended at 2734; a quarter of an hour later all is forgotten.
            (3634, true, 0),
            (3635, true, 0),
        ] {
            let now = START + at;
            let look = near.take(&RULES, now);
            let locked_for_now = if matches!(look, Look::Taken { locks: true }) { near.until - now } else { 0 };
            assert_eq!((look != Look::TurnedAway, locked_for_now), (looked_at, locked_for), "at {at}s");
        }
    }

    #[test]
    fn the_truth_table_over_all_addresses() {
        let mut lane = Lane::default();
        for _ in 0..10 {
            assert_eq!(lane.take(&RULES, START), Pass::Taken { hard: false }, "the first ones wait for nothing");
        }
        let mut now = START;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(lane.take(&RULES, now + wait - 1), Pass::TurnedAway);
            now += wait;
            assert_eq!(lane.take(&RULES, now), Pass::Taken { hard: false }, "after {wait}s");
        }
        for _ in 0..500 {
            now += 900;
            let _ = lane.take(&RULES, now);
        }
        assert_eq!(lane.points, 100);
        assert_eq!(lane.take(&RULES, now), Pass::TurnedAway);
        let forgiven = lane.since + FORGIVEN_SECS;
        assert_eq!(lane.take(&RULES, forgiven - 1), Pass::TurnedAway);
        assert_eq!(lane.take(&RULES, forgiven), Pass::Taken { hard: true });
        assert_eq!(lane.take(&RULES, forgiven), Pass::TurnedAway);
    }

    #[test]
    fn who_is_right_gets_back_their_own_points_and_no_others() {
        let mut lane = Lane::default();
        for _ in 0..10 {
            let _ = lane.take(&RULES, START);
        }
        lane.give_back(3, START);
        assert_eq!(lane.points, 7);
        lane.give_back(100, START);
        assert_eq!(lane.points, 0);
    }

    #[test]
    fn a_clock_that_was_ahead_locks_nobody_for_ever() {
        let mut near = Near::default();
        let mut lane = Lane::default();
        for _ in 0..5 {
            let _ = near.take(&RULES, START + 1000 * DAY);
        }
        for _ in 0..30 {
            let _ = lane.take(&RULES, START + 1000 * DAY);
        }
        assert_eq!(near.take(&RULES, START), Look::Taken { locks: true }, "one, and it locks again");
        assert_eq!(near.take(&RULES, START), Look::TurnedAway);
        assert!(matches!(lane.take(&RULES, START + 900), Pass::Taken { .. }));
        assert_eq!(lane.take(&RULES, START + 900), Pass::TurnedAway);
    }

    /// A generator with a seed (xorshift64*), so that a failure can be run again.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
        }
    }

    /// Codes that would be right at any moment: two apps with a step before and after, and one that was sent.
    const RIGHT_OF_A_MILLION: f64 = 7.0;

    /// A year of one owner, who mistypes now and then at home, and of as many strangers with addresses and tokens of their
    /// own as it takes to try whenever the machine would look: what they get, and how long the owner waits because of them.
    fn a_year(seed: u64) -> (u32, u64) {
        let mut random = Random(seed);
        let (mut lanes, mut at_home) = (Lanes::default(), Near::default());
        let (mut looked_at, mut longest_wait) = (0, 0);
        for minute in 0..365 * 24 * 60 {
            let now = START + minute * 60;
            // A thousand fresh addresses and tokens a minute: none has failed before, so only the lane says no.
            for _ in 0..1000 {
                match count(&mut Near::default(), lanes.of(Which::of(false)), false, &RULES, now).1 {
                    Pass::Taken { .. } => looked_at += 1,
                    Pass::TurnedAway => break,
                }
            }
            if minute % (12 * 60) != 0 {
                continue;
            }
            // The owner: up to four wrong codes, then the right one.
            let mut own = now + random.below(60);
            for _ in 0..=random.below(5) {
                let wanted_at = own;
                while count(&mut at_home, lanes.of(Which::of(true)), false, &RULES, own).1 == Pass::TurnedAway {
                    own += 1;
                    // Whoever is locked out for good waits no longer here.
                    if own - wanted_at > 3600 {
                        return (looked_at, own - wanted_at);
                    }
                }
                longest_wait = longest_wait.max(own - wanted_at);
                own += 1;
            }
            lanes.of(Which::of(true)).give_back(at_home.points, own);
            at_home = Near::default();
        }
        (looked_at, longest_wait)
    }

    /// The lanes of one person, by the names of their rows.
    #[derive(Default)]
    struct Lanes(std::collections::BTreeMap<&'static str, Lane>);

    impl Lanes {
        fn of(&mut self, which: Which) -> &mut Lane {
            self.0.entry(which.name()).or_default()
        }
    }

    #[test]
    fn the_chance_of_strangers_in_a_year_is_below_one_percent() {
        for seed in 1..=3 {
            let (looked_at, _) = a_year(seed);
            // Of all codes a year: those up to the hard lock, and one for each that was forgiven.
            let most = RULES.hard + u32::try_from(365 * DAY / FORGIVEN_SECS).unwrap_or(u32::MAX);
            assert!(looked_at <= most && looked_at > most / 2, "{looked_at}");
            let chance = 1.0 - (1.0 - RIGHT_OF_A_MILLION / 1e6).powi(i32::try_from(most).unwrap_or(i32::MAX));
            assert!(chance < 0.01, "{chance}");
        }
    }

    #[test]
    fn the_owner_at_home_never_waits_for_strangers() {
        for seed in 1..=3 {
            assert_eq!(a_year(seed).1, 0);
        }
    }

    proptest! {
        /// Whatever comes whenever: nothing is taken while locked, and in any stretch of time no more than the bound.
        #[test]
        fn what_is_looked_at_is_bounded_whatever_happens(steps in prop::collection::vec((0_u64..4000, any::<bool>()), 0..600)) {
            let (mut now, mut near, mut lane, mut taken) = (START, Near::default(), Lane::default(), 0_u64);
            for (wait, right) in steps {
                now += wait;
                let locked = now < near.until;
                match near.take(&RULES, now) {
                    Look::TurnedAway => prop_assert!(locked),
                    Look::Taken { locks } => {
                        prop_assert!(!locked);
                        if locks { prop_assert!((RULES.first..=RULES.longest).contains(&(near.until - now))); }
                        if right { near = Near::default(); }
                    }
                }
                if let Pass::Taken { .. } = lane.take(&RULES, now) { taken += 1; }
                prop_assert!(lane.points <= RULES.hard);
                prop_assert!(taken <= u64::from(RULES.hard) + (now - START) / FORGIVEN_SECS + 1);
                prop_assert!(lane.expires_at() > now);
            }
        }
    }
}
