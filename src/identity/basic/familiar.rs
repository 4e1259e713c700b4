//! Where each user has shown the right password before. A user is not slowed there by what strangers do elsewhere.
//!
//! Only a right password makes an entry, so there are at most a few for each user of the file, and nobody can make more.

use std::time::{Duration, Instant};

use dashmap::DashMap;
use smallvec::SmallVec;

use super::table::Id;

/// How many addresses of a user are remembered: those used last.
const ADDRESSES: usize = 8;
/// For how long.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

type Seen = SmallVec<[(Id, Instant); 1]>;

/// Who was where.
#[derive(Debug, Default)]
pub(super) struct Familiar(DashMap<Id, Seen>);

impl Familiar {
    /// Whether a user is familiar at an address.
    pub(super) fn has(&self, user: &Id, address: &Id, now: Instant) -> bool {
        let is_there = |seen: &(Id, Instant)| seen.0 == *address && now.saturating_duration_since(seen.1) < LONGEST;
        self.0.get(user).is_some_and(|seen| seen.iter().any(is_there))
    }

    /// Notes that a user showed the right password there.
    pub(super) fn note(&self, user: Id, address: Id, now: Instant) {
        let mut seen = self.0.entry(user).or_default();
        seen.retain(|(known, _)| *known != address);
        if seen.len() >= ADDRESSES {
            let longest_ago = seen.iter().enumerate().min_by_key(|(_, (_, at))| *at).map(|(index, _)| index);
            longest_ago.map(|index| seen.swap_remove(index));
        }
        seen.push((address, now));
    }

    /// Forgets everybody but these.
    pub(super) fn retain(&self, is_user: impl Fn(&Id) -> bool) {
        self.0.retain(|user, _| is_user(user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_that_were_used_last_are_familiar_for_thirty_days() {
        let now = Instant::now();
        let familiar = Familiar::default();
        let (alice, bob) = ([1; 16], [2; 16]);
        let at = |number: u8| [number; 16];
        for number in 0..9 {
            familiar.note(alice, at(number), now + Duration::from_secs(number.into()));
        }
        let later = now + Duration::from_secs(10);
        assert!(!familiar.has(&alice, &at(0), later), "the ninth took the place of the one used longest ago");
        assert!((1..9).all(|number| familiar.has(&alice, &at(number), later)));
        assert!(!familiar.has(&bob, &at(1), later));
        assert!(!familiar.has(&alice, &at(8), later + LONGEST));
        familiar.retain(|user| *user == bob);
        assert!(!familiar.has(&alice, &at(1), later));
    }
}
