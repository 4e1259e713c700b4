//! What wrong passwords for one user from one address lead to: a pure state machine, no clock and no lock in it.
//!
//! ```text
//!            wrong, fewer than `failures`                    right
//!              ┌────────────┐              ┌──────────────────────────────────────┐
//!              ▼            │              ▼                                      │
//!          ┌────────────────┴─┐  wrong   ┌──────────────────┐  time is up   ┌─────┴────────┐
//!   ──────>│ open: failures   ├─────────>│ locked: nothing  ├──────────────>│ trial: one   │
//!          │ to go            │          │ is looked at     │               │ password     │
//!          └──────────────────┘          └──────────────────┘<──────────────┴─────┬────────┘
//!              ▲                                              wrong: twice as long │
//!              └─────────────── nothing for as long as the longest lock ───────────┘
//! ```
//!
//! A password counts as wrong from when it is taken until it is known to be right: what is being looked at at the same time
//! is never more than what could be wrong, so guessing in parallel, or going away before the answer, gains nothing.

use std::time::{Duration, Instant};

/// How strict the lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LockRules {
    /// Wrong passwords until the first lock.
    pub(super) failures: u32,
    /// How long it lasts.
    pub(super) first: Duration,
    /// How long any lasts.
    pub(super) longest: Duration,
}

/// The state of one user at one address. The default is: nothing has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SoftLock {
    /// Wrong passwords since the last lock or right password.
    failures: u32,
    /// Passwords that are being looked at.
    pending: u32,
    /// How many locks there were since the last right password.
    locks: u32,
    /// Until when nothing is looked at.
    until: Option<Instant>,
    /// From when on all this is forgotten.
    forgotten: Option<Instant>,
}

impl SoftLock {
    /// Whether nothing is looked at now.
    pub(super) fn is_locked(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether this is as good as the default.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.pending == 0 && self.forgotten.is_none_or(|forgotten| forgotten <= now)
    }

    /// Takes a password to be looked at, if one more may be wrong.
    #[must_use]
    pub(super) fn take(&mut self, rules: &LockRules, now: Instant) -> bool {
        if self.is_idle(now) {
            *self = Self::default();
        }
        let may_be_wrong = if self.locks == 0 { rules.failures.saturating_sub(self.failures) } else { 1 };
        let taken = !self.is_locked(now) && self.pending < may_be_wrong;
        if taken {
            self.pending += 1;
        }
        taken
    }

    /// A password that was taken was not looked at.
    pub(super) fn give_back(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// A password that was taken was right.
    pub(super) fn right(&mut self) {
        *self = Self { pending: self.pending.saturating_sub(1), ..Self::default() };
    }

    /// A password that was taken was wrong. How long the lock is that it led to, if it did.
    pub(super) fn wrong(&mut self, rules: &LockRules, now: Instant) -> Option<Duration> {
        self.pending = self.pending.saturating_sub(1);
        self.failures = self.failures.saturating_add(1);
        let locks = self.locks > 0 || self.failures >= rules.failures;
        let lock = locks.then(|| lock_of(rules, self.locks));
        if let Some(lock) = lock {
            // Never shorter than one that holds already.
            self.until = now.checked_add(lock).max(self.until);
            self.locks = self.locks.saturating_add(1);
            self.failures = 0;
        }
        let quiet_from = self.until.unwrap_or(now).max(now);
        self.forgotten = quiet_from.checked_add(rules.longest).max(self.forgotten);
        lock
    }
}

/// The first lock and each after it twice as long, up to the longest.
fn lock_of(rules: &LockRules, before: u32) -> Duration {
    let times = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
    rules.first.saturating_mul(times).min(rules.longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: LockRules =
        LockRules { failures: 5, first: Duration::from_secs(60), longest: Duration::from_secs(3600) };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// A wrong password at a moment: whether it was looked at, and the lock that it led to.
    fn guess(lock: &mut SoftLock, now: Instant) -> (bool, Option<Duration>) {
        if lock.take(&RULES, now) { (true, lock.wrong(&RULES, now)) } else { (false, None) }
    }

    /// What a row says: seconds since the first, whether it was looked at, and for how many seconds it locks.
    #[test]
    fn the_truth_table_of_guessing() {
        let start = Instant::now();
        let mut lock = SoftLock::default();
        for (at, looked_at, locked_for) in [
            (0, true, None),
            (1, true, None),
            (2, true, None),
            (3, true, None),
            (4, true, Some(60)),
            (5, false, None),
            (63, false, None),
            (64, true, Some(120)),
            (65, false, None),
            (183, false, None),
            (184, true, Some(240)),
            (424, true, Some(480)),
            (904, true, Some(960)),
            (1864, true, Some(1920)),
            (3784, true, Some(3600)),
            (7384, true, Some(3600)),
            (10983, false, None),
            // The lock ended at 10984; an hour later all is forgotten.
            (14584, true, None),
            (14585, true, None),
        ] {
            let said = guess(&mut lock, start + secs(at));
            assert_eq!(said, (looked_at, locked_for.map(secs)), "at {at}s");
        }
    }

    #[test]
    fn a_right_password_resets_everything() {
        let now = Instant::now();
        let mut lock = SoftLock::default();
        for _ in 0..4 {
            assert_eq!(guess(&mut lock, now), (true, None));
        }
        assert!(lock.take(&RULES, now));
        lock.right();
        assert!(lock.is_idle(now));
        for _ in 0..4 {
            assert_eq!(guess(&mut lock, now), (true, None));
        }
        assert_eq!(guess(&mut lock, now), (true, Some(secs(60))));
        let trial = now + secs(60);
        assert!(lock.take(&RULES, trial));
        assert!(!lock.take(&RULES, trial), "one password at a time after a lock");
        lock.right();
        assert_eq!(guess(&mut lock, trial), (true, None));
    }

    #[test]
    fn what_is_looked_at_at_once_is_never_more_than_may_be_wrong() {
        let now = Instant::now();
        let mut lock = SoftLock::default();
        for _ in 0..5 {
            assert!(lock.take(&RULES, now));
        }
        assert!(!lock.take(&RULES, now));
        lock.give_back();
        assert!(lock.take(&RULES, now), "what was not looked at does not count");
        for _ in 0..5 {
            let _ = lock.wrong(&RULES, now);
        }
        assert!(lock.is_locked(now + secs(59)) && !lock.is_locked(now + secs(60)));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take,
        Right,
        Wrong,
        GiveBack,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Take),
            1 => Just(Step::Right),
            4 => Just(Step::Wrong),
            1 => Just(Step::GiveBack),
            2 => (0_u64..5000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: nothing is taken while locked, never more at once than may be wrong, and
        /// between two right passwords (or the time in which all is forgotten) the guesses are bounded by the time.
        #[test]
        fn guesses_are_bounded_whatever_happens(steps in prop::collection::vec(step(), 0..200)) {
            let mut now = Instant::now();
            let (mut lock, mut open, mut wrong_in_a_row) = (SoftLock::default(), 0_u32, 0_u32);
            for step in steps {
                match step {
                    Step::Take => {
                        let (locked, idle) = (lock.is_locked(now), lock.is_idle(now));
                        if lock.take(&RULES, now) {
                            prop_assert!(!locked);
                            if idle { wrong_in_a_row = 0; }
                            open += 1;
                            prop_assert!(open <= RULES.failures);
                        }
                    }
                    Step::Right if open > 0 => { lock.right(); open -= 1; wrong_in_a_row = 0; }
                    Step::Wrong if open > 0 => {
                        let led_to = lock.wrong(&RULES, now);
                        open -= 1;
                        wrong_in_a_row += 1;
                        prop_assert_eq!(led_to.is_some(), lock.is_locked(now) && led_to.is_some());
                        if wrong_in_a_row >= RULES.failures { prop_assert!(lock.is_locked(now)); }
                        if let Some(led_to) = led_to {
                            prop_assert!(led_to >= RULES.first && led_to <= RULES.longest);
                        }
                    }
                    Step::GiveBack if open > 0 => { lock.give_back(); open -= 1; }
                    Step::Wait(secs) => now += Duration::from_secs(secs),
                    Step::Right | Step::Wrong | Step::GiveBack => {}
                }
            }
        }
    }
}
