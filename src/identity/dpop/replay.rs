//! The proofs that were used, each for as long as it could be used again (RFC 9449 §11.1): exact, bounded, one for all
//! workers. What does not fit is not forgotten to make room, since that is what somebody would flood it for: it is
//! refused until something has expired.
//!
//! A proof is known by its key and `jti` alone. Whose it is only says whose room it takes: what a token says of its subject
//! is as its issuer and the configuration of the moment have it, and may change while the proof lasts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::digest;

use crate::clock::{Now, SettledClock};

/// How many proofs are remembered at most: 23,000 a second with the defaults, in about 200 MB. Nothing is taken before it
/// is needed.
pub(super) const PROOFS: usize = 1 << 21;
/// The part of it that one caller may fill: 1,400 requests a second with the defaults.
const SHARE: usize = 16;
/// So many callers at once that workers seldom wait for each other.
const SHARDS: usize = 64;

/// 128 bits of a digest: two proofs are not mistaken for each other by chance, and whoever searched for two could only
/// refuse himself.
type ProofId = [u8; 16];
type CallerId = [u8; 16];

/// Whether a proof was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recall {
    /// It was not, and is remembered from now on.
    New,
    /// It was.
    Known,
    /// There is no room to remember it: in all, or for this caller.
    Full,
}

/// The proofs that were used.
#[derive(Debug)]
pub(super) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    /// How many are each caller's. Locked last, and alone.
    callers: Box<[Mutex<HashMap<CallerId, usize>>]>,
    count: AtomicUsize,
    most: usize,
}

#[derive(Debug, Default)]
struct Shard {
    used: HashSet<ProofId>,
    clock: SettledClock,
    /// What expires when, in seconds since the epoch: by the clock that proofs are judged by, so that nothing is forgotten
    /// that would still be taken, not even if the clock leaps ahead and back.
    expiry: BTreeMap<u64, Vec<(ProofId, CallerId)>>,
}

impl Memory {
    /// For at most so many proofs.
    pub(super) fn new(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let callers = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, callers, count: AtomicUsize::new(0), most }
    }

    /// Notes a proof that can be used until some second, by its key and `jti`.
    pub(super) fn note(&self, key: &[u8; 32], jti: &str, caller: &[u8; 32], until: u64, now: Now) -> Recall {
        let (id, caller) = (proof_id(key, jti), first_half(caller));
        let Some(shard) = part_of(&self.shards, &id) else { return Recall::Full };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_in(&mut shard, now);
        if shard.used.contains(&id) {
            return Recall::Known;
        }
        if !self.take_a_place(&caller, now) {
            return Recall::Full;
        }
        shard.used.insert(id);
        shard.expiry.entry(until).or_default().push((id, caller));
        Recall::New
    }

    /// How many are remembered, counting those that have expired and were not met since.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn take_a_place(&self, caller: &CallerId, now: Now) -> bool {
        if self.count_one(caller) {
            return true;
        }
        // What expired in other shards was not met there yet. A shard that is in use is not waited for: its user holds it
        // and may be waiting here for ours.
        for mut other in self.shards.iter().filter_map(|shard| shard.try_lock().ok()) {
            self.forget_in(&mut other, now);
        }
        self.count_one(caller)
    }

    /// Counts one more, in all and of this caller; or neither.
    fn count_one(&self, caller: &CallerId) -> bool {
        let Some(callers) = part_of(&self.callers, caller) else { return false };
        let mut callers = callers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_caller = callers.get(caller).copied().unwrap_or(0);
        let next = |count: usize| (count < self.most).then_some(count + 1);
        let is_counted = of_caller < (self.most / SHARE).max(1)
            && self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok();
        if is_counted {
            callers.insert(*caller, of_caller + 1);
        }
        is_counted
    }

    fn uncount_one(&self, caller: &CallerId) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        let Some(callers) = part_of(&self.callers, caller) else { return };
        let mut callers = callers.lock().unwrap_or_else(PoisonError::into_inner);
        match callers.get_mut(caller) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(callers.remove(caller)),
        }
    }

    fn forget_in(&self, shard: &mut Shard, now: Now) {
        shard.forget(now, |caller| self.uncount_one(caller));
    }
}

impl Shard {
    /// Forgets what could be used until before now; tells whose each was.
    fn forget(&mut self, now: Now, gone: impl Fn(&CallerId)) {
        let second = self.clock.unix_secs(now);
        while let Some(first) = self.expiry.first_entry().filter(|first| *first.key() < second) {
            for (id, caller) in first.remove() {
                self.used.remove(&id);
                gone(&caller);
            }
        }
    }
}

/// The part that a digest belongs to.
fn part_of<'p, T>(parts: &'p [T], digest: &[u8; 16]) -> Option<&'p T> {
    let [first, ..] = digest;
    parts.get(usize::from(*first) % SHARDS)
}

fn proof_id(key: &[u8; 32], jti: &str) -> ProofId {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(key);
    context.update(jti.as_bytes());
    let mut whole = [0; 32];
    whole.copy_from_slice(context.finish().as_ref());
    first_half(&whole)
}

fn first_half(digest: &[u8; 32]) -> [u8; 16] {
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::LazyLock,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const NOW: u64 = 1_800_000_000;

    /// A second on both clocks.
    fn at(secs: u64) -> Now {
        static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
        Now { unix_ms: secs * 1000, instant: *FIRST + Duration::from_secs(secs) }
    }

    #[test]
    fn a_clock_that_leaps_ahead_and_back_makes_no_proof_good_again() {
        let memory = Memory::new(1000);
        let note = |jti: &str, until, now| memory.note(&KEY, jti, &caller(1), until, now);
        assert_eq!(note("one", NOW + 60, at(NOW)), Recall::New);
        let leaped = Now { unix_ms: (NOW + 100_000) * 1000, ..at(NOW + 1) };
        assert_eq!(note("two", NOW + 100_060, leaped), Recall::New);
        assert_eq!(note("one", NOW + 60, at(NOW + 2)), Recall::Known);
    }

    fn caller(number: u8) -> [u8; 32] {
        [number; 32]
    }

    #[test]
    fn a_proof_is_known_until_it_could_not_be_used_any_more() {
        let memory = Memory::new(1000);
        let note = |secs| memory.note(&KEY, "jti", &caller(1), NOW + 60, at(secs));
        assert_eq!(note(NOW), Recall::New);
        for later in [NOW, NOW + 1, NOW + 59, NOW + 60] {
            assert_eq!(note(later), Recall::Known, "{later}");
        }
        assert_eq!(note(NOW + 61), Recall::New);
    }

    #[test]
    fn a_jti_is_the_keys_own() {
        let memory = Memory::new(1000);
        assert_eq!(memory.note(&KEY, "jti", &caller(1), NOW + 60, at(NOW)), Recall::New);
        assert_eq!(memory.note(&[8; 32], "jti", &caller(1), NOW + 60, at(NOW)), Recall::New);
        assert_eq!(memory.note(&KEY, "jti2", &caller(1), NOW + 60, at(NOW)), Recall::New);
        assert_eq!(memory.note(&KEY, "jti", &caller(1), NOW + 60, at(NOW)), Recall::Known);
    }

    #[test]
    fn a_proof_is_known_whoever_its_token_is_said_to_be_now() {
        let memory = Memory::new(1000);
        assert_eq!(memory.note(&KEY, "jti", &caller(1), NOW + 60, at(NOW)), Recall::New);
        for who in 0..=255 {
            assert_eq!(memory.note(&KEY, "jti", &caller(who), NOW + 60, at(NOW)), Recall::Known, "{who}");
        }
    }

    #[test]
    fn a_caller_has_its_share_again_when_its_proofs_have_expired() {
        let memory = Memory::new(1600);
        let note = |number: u64, secs| memory.note(&KEY, &number.to_string(), &caller(1), secs + 60, at(secs));
        assert!((0..100).all(|number| note(number, NOW) == Recall::New));
        assert_eq!(note(100, NOW + 60), Recall::Full);
        assert!((100..200).all(|number| note(number, NOW + 61) == Recall::New));
        assert_eq!((note(200, NOW + 61), memory.len()), (Recall::Full, 100));
    }

    #[test]
    fn one_caller_cannot_fill_it_for_the_others() {
        let memory = Memory::new(1600);
        let note = |who, number: usize| memory.note(&KEY, &format!("{who} {number}"), &caller(who), NOW + 60, at(NOW));
        for number in 0..100 {
            assert_eq!(note(1, number), Recall::New, "{number}");
        }
        assert_eq!(note(1, 100), Recall::Full);
        assert_eq!(note(1, 5), Recall::Known, "what was used is known all the same");
        // Counted beside it, another caller.
        assert_eq!(note(65, 0), Recall::New);
        assert_eq!(note(2, 0), Recall::New);
    }

    #[test]
    fn full_is_full_until_something_expires_and_nothing_is_forgotten_early() {
        let memory = Memory::new(160);
        for who in 0..16 {
            for number in 0..10 {
                let recall = memory.note(&KEY, &format!("{who} {number}"), &caller(who), NOW + 60, at(NOW));
                assert_eq!(recall, Recall::New);
            }
        }
        assert_eq!(memory.note(&KEY, "more", &caller(20), NOW + 60, at(NOW + 60)), Recall::Full);
        assert_eq!(memory.note(&KEY, "0 0", &caller(0), NOW + 60, at(NOW + 60)), Recall::Known);
        // Expired in shards that nobody asks any more.
        for number in 0..10 {
            let recall = memory.note(&KEY, &format!("more {number}"), &caller(20), NOW + 120, at(NOW + 61));
            assert_eq!(recall, Recall::New);
        }
        // Whoever asks for more than a share has all looked through.
        assert_eq!(memory.note(&KEY, "too many", &caller(20), NOW + 120, at(NOW + 61)), Recall::Full);
        assert_eq!(memory.len(), 10);
    }

    #[test]
    fn of_many_hands_with_one_proof_one_succeeds() {
        let memory = Memory::new(100_000);
        let wins = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..2000 {
                        let jti = number.to_string();
                        if memory.note(&KEY, &jti, &caller((number % 7) as u8), NOW + 60, at(NOW)) == Recall::New {
                            wins.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!((wins.into_inner(), memory.len()), (2000, 2000));
    }

    #[test]
    fn a_shard_that_is_full_waits_for_no_other() {
        // Two that are full at once and each look for room in the other's shard.
        let memory = Memory::new(2);
        std::thread::scope(|scope| {
            for who in 0..8u8 {
                let memory = &memory;
                scope.spawn(move || {
                    for number in 0..500 {
                        memory.note(&KEY, &format!("{who} {number}"), &caller(who), NOW + 1, at(NOW + number / 50));
                    }
                });
            }
        });
        assert!(memory.len() <= 2);
    }

    proptest! {
        /// Against a list of everything that was ever let in.
        #[test]
        fn nothing_is_let_in_twice_while_it_could_be_used(
            steps in prop::collection::vec((0u64..3, 0u8..3, 0u8..4, 1u64..6), 1..200),
        ) {
            let memory = Memory::new(1 << 10);
            let (mut now, mut let_in) = (NOW, Vec::new());
            for (passes, who, jti, good_for) in steps {
                now += passes;
                let until = now + good_for;
                let known = let_in.iter().any(|(w, j, u): &(u8, u8, u64)| (*w, *j) == (who, jti) && now <= *u);
                let recall = memory.note(&[who; 32], &jti.to_string(), &caller(who), until, at(now));
                prop_assert_eq!(recall, if known { Recall::Known } else { Recall::New });
                if !known {
                    let_in.push((who, jti, until));
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_nothing() {
        let memory = Memory::new(1000);
        assert_eq!(memory.note(&KEY, "jti", &caller(1), NOW + 60, at(NOW)), Recall::New);
        let earlier = at(NOW - 3600).after(Duration::ZERO);
        assert_eq!(memory.note(&KEY, "jti", &caller(1), NOW - 3540, earlier), Recall::Known);
    }
}
