//! Tokens that were verified, so that a token costs its cryptography once: facts, never decisions, and never a failure,
//! so that nobody can push a good token out with bad ones.
//!
//! Two halves: what is new goes into the young one; when that is full, or old, it becomes the old one and what was old
//! goes. A token that is used moves over, so what is in use stays, and no entry costs any bookkeeping while it is read.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use dashmap::DashMap;
use foldhash::{SharedSeed, quality::SeedableRandomState};

use super::keys::LiveKey;
use crate::{clock::Now, jose::TimeClaims, policy::Principal, secret::Secret};

/// How many tokens are kept at most: the callers of a busy gateway in one token's life, in about 300 MB at worst.
pub(super) const TOKENS: usize = 65_536;
/// How many bytes they may have: the tokens themselves, and what they, or the issuers' answers, were written in; what is made of that
/// is about as large again.
const TOKEN_BYTES: usize = 128 << 20;
/// How long a token is kept before it is verified again.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// A token to be looked up: it is found by a fast hash of all of it, and then compared byte by byte. Whoever could aim at
/// a hash would need tokens that verify, and win that his own push each other out.
#[derive(Clone, Copy)]
pub(super) struct TokenId<'a> {
    hash: u64,
    token: &'a [u8],
}

/// What names a token where the token itself is not kept: a digest of all of it, under a key of this process, so that nobody can aim
/// at a bucket.
pub(super) type TokenDigest = [u8; 32];

/// What is known of a token.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) principal: Arc<Principal>,
    pub(super) times: TimeClaims,
    /// The key that verified it, or the issuer's answer about it; the entry falls with it. `None`: the issuer answered
    /// without a signature.
    pub(super) key: Option<Arc<LiveKey>>,
    /// The definition of the issuer that it was judged by; the entry falls with it.
    pub(super) verifier: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    token: Arc<Secret>,
    known: Arc<Known>,
    until: Instant,
    bytes: usize,
}

impl Entry {
    /// Whether it is this token's. Not in constant time: that would help only somebody who hits the hash.
    fn is_of(&self, id: &TokenId<'_>) -> bool {
        self.token.expose() == id.token
    }
}

/// By the token's hash. Of two tokens that share one, the later is kept.
type Map = DashMap<u64, Entry, BuildHasherDefault<IdHasher>>;

#[derive(Debug)]
struct Half {
    entries: Map,
    count: AtomicUsize,
    bytes: AtomicUsize,
    since: Instant,
}

impl Half {
    fn new(since: Instant) -> Arc<Self> {
        Arc::new(Self { entries: Map::default(), count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), since })
    }
}

#[derive(Debug)]
struct Halves {
    young: Arc<Half>,
    old: Arc<Half>,
}

/// The cache.
#[derive(Debug)]
pub(super) struct TokenCache {
    key: [u8; 32],
    hashing: SeedableRandomState,
    halves: ArcSwap<Halves>,
    turning: Mutex<()>,
    tokens: usize,
}

impl TokenCache {
    /// A cache of at most so many tokens.
    pub(super) fn new(tokens: usize, now: Now) -> Self {
        let mut key = [0; 32];
        // Without randomness the key is zero: buckets can be aimed at then, but no token can be taken for another.
        if aws_lc_rs::rand::fill(&mut key).is_err() {
            tracing::warn!("the system gave no randomness for the token cache");
        }
        let seed = key.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let hashing = SeedableRandomState::with_seed(seed, SharedSeed::global_random());
        let halves = Halves { young: Half::new(now.instant), old: Half::new(now.instant) };
        Self { key, hashing, halves: ArcSwap::from_pointee(halves), turning: Mutex::new(()), tokens }
    }

    /// Makes ready to look for a token.
    pub(super) fn identify<'a>(&self, token: &'a [u8]) -> TokenId<'a> {
        TokenId { hash: self.hashing.hash_one(token), token }
    }

    /// Names a token.
    pub(super) fn digest(&self, token: &[u8]) -> TokenDigest {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.key);
        context.update(token);
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        id
    }

    /// What is known of a token. Whether it still holds is the caller's question.
    pub(super) fn look(&self, id: &TokenId<'_>, now: Now) -> Option<Arc<Known>> {
        let halves = self.halves.load();
        let current = |entry: &Entry| now.instant < entry.until;
        let young = halves.young.entries.get(&id.hash).filter(|entry| entry.is_of(id));
        if let Some(known) = young.map(|entry| current(&entry).then(|| Arc::clone(&entry.known))) {
            if known.is_none() {
                self.forget(id);
            }
            return known;
        }
        let found = halves.old.entries.get(&id.hash).filter(|entry| entry.is_of(id));
        let entry = found.map(|entry| entry.clone()).filter(current)?;
        drop(halves);
        let known = Arc::clone(&entry.known);
        self.put(id.hash, entry, now);
        Some(known)
    }

    /// Keeps what is known of a token of so many bytes.
    pub(super) fn keep(&self, id: TokenId<'_>, known: Arc<Known>, bytes: usize, now: Now) {
        self.keep_for(LONGEST, id, known, bytes, now);
    }

    /// The same for as long as its issuer allows.
    pub(super) fn keep_for(&self, longest: Duration, id: TokenId<'_>, known: Arc<Known>, bytes: usize, now: Now) {
        if let Some(until) = now.instant.checked_add(longest) {
            let token = Arc::new(Secret::new(id.token));
            let bytes = bytes.saturating_add(id.token.len());
            self.put(id.hash, Entry { token, known, until, bytes }, now);
        }
    }

    /// Forgets a token.
    pub(super) fn forget(&self, id: &TokenId<'_>) {
        let halves = self.halves.load();
        // What is taken out leaves its place counted, which only makes a half turn earlier.
        halves.young.entries.remove_if(&id.hash, |_, entry| entry.is_of(id));
        halves.old.entries.remove_if(&id.hash, |_, entry| entry.is_of(id));
    }

    fn put(&self, hash: u64, entry: Entry, now: Now) {
        let halves = self.halves.load();
        let half = &halves.young;
        let bytes = entry.bytes;
        let (one, more) = match half.entries.insert(hash, entry) {
            None => (1, bytes),
            Some(before) => (0, bytes.saturating_sub(before.bytes)),
        };
        let count = half.count.fetch_add(one, Ordering::Relaxed) + one;
        let bytes = half.bytes.fetch_add(more, Ordering::Relaxed) + more;
        let is_old = now.instant.saturating_duration_since(half.since) > LONGEST;
        if count >= self.tokens / 2 || bytes >= TOKEN_BYTES / 2 || is_old {
            self.turn(half, now);
        }
    }

    /// Lets go of tokens that nobody has shown for long: where no new ones come, nothing else does.
    pub(super) fn sweep(&self, now: Now) {
        let halves = self.halves.load_full();
        let is_old = now.instant.saturating_duration_since(halves.young.since) > LONGEST;
        if is_old && !(halves.young.entries.is_empty() && halves.old.entries.is_empty()) {
            self.turn(&halves.young, now);
        }
    }

    /// Makes the young half the old one, unless somebody else just did.
    fn turn(&self, full: &Arc<Half>, now: Now) {
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let halves = self.halves.load();
        if Arc::ptr_eq(&halves.young, full) {
            self.halves.store(Arc::new(Halves { young: Half::new(now.instant), old: Arc::clone(full) }));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let halves = self.halves.load();
        halves.young.entries.len() + halves.old.entries.len()
    }
}

/// Takes eight bytes of a digest as its hash: it is one already.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    // An array announces its length before its bytes.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock, SystemClock},
        identity::testing::known,
    };

    fn cache(tokens: usize) -> (TokenCache, Now) {
        let now = SystemClock.now();
        (TokenCache::new(tokens, now), now)
    }

    #[test]
    fn a_token_is_known_until_it_is_forgotten() {
        let (cache, now) = cache(8);
        let id = cache.identify(b"a.b.c");
        assert!(cache.look(&id, now).is_none());
        cache.keep(id, known("alice"), 5, now);
        assert_eq!(&*cache.look(&id, now).unwrap().principal.subject, "alice");
        assert!(cache.look(&cache.identify(b"a.b.d"), now).is_none());
        cache.forget(&id);
        assert!(cache.look(&id, now).is_none());
    }

    #[test]
    fn of_two_tokens_with_one_hash_neither_is_taken_for_the_other() {
        let (cache, now) = cache(8);
        let (one, other) = (TokenId { hash: 7, token: b"one" }, TokenId { hash: 7, token: b"other" });
        cache.keep(one, known("alice"), 3, now);
        assert!(cache.look(&other, now).is_none());
        cache.forget(&other);
        assert_eq!(&*cache.look(&one, now).unwrap().principal.subject, "alice");
        cache.keep(other, known("bob"), 5, now);
        assert_eq!(&*cache.look(&other, now).unwrap().principal.subject, "bob");
        assert!(cache.look(&one, now).is_none());
    }

    #[test]
    fn what_is_kept_shows_no_token() {
        let (cache, now) = cache(8);
        cache.keep(cache.identify(b"a.secret.token"), known("alice"), 14, now);
        assert!(!format!("{cache:?}").contains("secret.token"));
    }

    #[test]
    fn no_token_is_kept_longer_than_five_minutes_however_often_it_is_used() {
        let (cache, now) = cache(1000);
        let id = cache.identify(b"a.b.c");
        cache.keep(id, known("alice"), 5, now);
        for seconds in 0..300 {
            let later = now.after(Duration::from_secs(seconds));
            assert!(cache.look(&id, later).is_some(), "{seconds}");
            cache.keep(cache.identify(seconds.to_string().as_bytes()), known("other"), 5, later);
        }
        assert!(cache.look(&id, now.after(LONGEST)).is_none());
    }

    #[test]
    fn a_flood_of_tokens_stays_within_the_bound_and_what_is_in_use_stays_known() {
        let (cache, now) = cache(100);
        let used = cache.identify(b"used");
        cache.keep(used, known("alice"), 4, now);
        for number in 0..10_000 {
            cache.keep(cache.identify(number.to_string().as_bytes()), known("other"), 4, now);
            if number % 10 == 0 {
                assert!(cache.look(&used, now).is_some(), "{number}");
            }
            assert!(cache.len() <= 101, "{}", cache.len());
        }
    }

    #[test]
    fn long_tokens_count_by_their_bytes() {
        let (cache, now) = cache(TOKENS);
        for number in 0..1000 {
            cache.keep(cache.identify(number.to_string().as_bytes()), known("other"), 1 << 20, now);
        }
        assert!(cache.len() <= 129, "{}", cache.len());
    }

    #[test]
    fn what_is_kept_of_a_token_counts_with_the_token_itself() {
        let (cache, now) = cache(TOKENS);
        for number in 0..300 {
            let token = format!("{number}{}", "x".repeat(1 << 20));
            cache.keep(cache.identify(token.as_bytes()), known("other"), 1, now);
        }
        assert!(cache.len() <= 129, "{}", cache.len());
    }

    #[test]
    fn a_token_that_is_kept_again_counts_once_and_with_what_it_has_grown_by() {
        let (cache, now) = cache(8);
        for _ in 0..100 {
            cache.keep(cache.identify(b"same"), known("alice"), 4, now);
        }
        let half = Arc::clone(&cache.halves.load().young);
        assert_eq!((half.count.load(Ordering::Relaxed), half.bytes.load(Ordering::Relaxed)), (1, 8));
        cache.keep(cache.identify(b"same"), known("alice"), 10, now);
        assert_eq!(half.bytes.load(Ordering::Relaxed), 14);
    }

    #[test]
    fn tokens_that_nobody_shows_any_more_are_let_go_of() {
        let (cache, now) = cache(1000);
        cache.keep(cache.identify(b"a.b.c"), known("alice"), 5, now);
        let later = |times: u32| now.after((LONGEST + Duration::from_secs(1)) * times);
        cache.sweep(now);
        assert_eq!(cache.len(), 1);
        cache.sweep(later(1));
        cache.sweep(later(2));
        assert_eq!(cache.len(), 0);
        cache.keep(cache.identify(b"a.b.d"), known("alice"), 5, later(2));
        assert!(cache.look(&cache.identify(b"a.b.d"), later(3)).is_none());
        assert_eq!(cache.len(), 0, "an expired one goes when it is shown");
    }

    #[test]
    fn halves_turn_under_many_hands_without_losing_the_bound() {
        let (cache, now) = cache(1000);
        std::thread::scope(|scope| {
            for hand in 0..8 {
                let cache = &cache;
                scope.spawn(move || {
                    for number in 0..5000 {
                        let token = format!("{hand} {number}");
                        let id = cache.identify(token.as_bytes());
                        cache.keep(id, known("other"), 4, now);
                        cache.look(&id, now);
                    }
                });
            }
        });
        assert!(cache.len() <= 1000 + 16, "{}", cache.len());
    }
}
