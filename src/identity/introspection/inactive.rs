//! Tokens that an issuer refused a moment ago. They have a place of their own, so that however many invented tokens come,
//! none pushes out a good one; and when there is no room, the oldest are asked about again.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::super::cache::{IdHasher, TokenDigest};
use crate::{clock::Now, policy::Reason};

/// How many are remembered in each half: about a megabyte for an issuer.
const HALF: usize = 8_192;

/// What was refused, why, and until when that is believed.
type Half = HashMap<TokenDigest, (Reason, Instant), BuildHasherDefault<IdHasher>>;

/// The refused tokens of one issuer.
#[derive(Debug)]
pub(super) struct Inactive {
    lifetime: Duration,
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    young: Half,
    old: Half,
}

impl Inactive {
    /// With a lifetime of zero nothing is remembered.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, halves: Mutex::default() }
    }

    /// Why a token was refused, as far as that still holds.
    pub(super) fn look(&self, id: &TokenDigest, now: Now) -> Option<Reason> {
        if self.lifetime.is_zero() {
            return None;
        }
        let halves = self.halves();
        let found = halves.young.get(id).or_else(|| halves.old.get(id));
        found.filter(|(_, until)| now.instant < *until).map(|(reason, _)| *reason)
    }

    /// Remembers a refusal.
    pub(super) fn keep(&self, id: TokenDigest, reason: Reason, now: Now) {
        if self.lifetime.is_zero() {
            return;
        }
        let Some(until) = now.instant.checked_add(self.lifetime) else { return };
        let mut halves = self.halves();
        if halves.young.len() >= HALF {
            halves.old = mem::take(&mut halves.young);
        }
        halves.young.insert(id, (reason, until));
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        // Nothing in here can be left half done.
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn id(number: usize) -> TokenDigest {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id
    }

    #[test]
    fn a_refusal_is_remembered_for_its_time_and_not_longer() {
        let (inactive, now) = (Inactive::new(Duration::from_secs(5)), SystemClock.now());
        inactive.keep(id(1), Reason::TokenInactive, now);
        let later = |secs| now.after(Duration::from_secs(secs));
        assert_eq!(inactive.look(&id(1), later(4)), Some(Reason::TokenInactive));
        assert_eq!(inactive.look(&id(1), later(5)), None);
        assert_eq!(inactive.look(&id(2), now), None);
    }

    #[test]
    fn nothing_is_remembered_for_no_time() {
        let (inactive, now) = (Inactive::new(Duration::ZERO), SystemClock.now());
        inactive.keep(id(1), Reason::TokenInactive, now);
        assert_eq!(inactive.look(&id(1), now), None);
    }

    #[test]
    fn a_flood_of_invented_tokens_stays_within_the_bound() {
        let (inactive, now) = (Inactive::new(Duration::from_secs(5)), SystemClock.now());
        for number in 0..10 * HALF {
            inactive.keep(id(number), Reason::TokenInactive, now);
            let halves = inactive.halves();
            assert!(halves.young.len() + halves.old.len() <= 2 * HALF);
        }
        assert_eq!(inactive.look(&id(10 * HALF - 1), now), Some(Reason::TokenInactive));
        assert_eq!(inactive.look(&id(0), now), None);
    }
}
