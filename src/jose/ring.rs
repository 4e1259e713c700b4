//! Which of several keys signs now, and which public keys verifiers are told of. Pure: the time is an argument.
//!
//! ```text
//!   made ───────── LEAD ─────────> signs ──────────── the next one signs ── RETIRED ──> forgotten
//!   └ published from here on: verifiers that keep a set for a while know a key before its first token
//! ```

use std::time::Duration;

use super::{Algorithm, SigningKey};

/// How long a key is published before it signs: longer than a verifier keeps a set that it was told to keep five minutes.
const LEAD: Duration = Duration::from_secs(10 * 60);
/// How long a key is published after its last token: longer than any token lives.
const RETIRED: Duration = Duration::from_secs(60 * 60);

/// A key and when it was made, in seconds since the epoch.
#[derive(Debug)]
pub struct Entry {
    /// When it was made.
    pub made: u64,
    /// The key.
    pub key: SigningKey,
}

/// Keys, oldest first.
#[derive(Debug, Default)]
pub struct Ring(Vec<std::sync::Arc<Entry>>);

impl Ring {
    /// These keys.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.made);
        Self(entries.into_iter().map(std::sync::Arc::new).collect())
    }

    /// All keys, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().map(|entry| &**entry)
    }

    /// The key that signs: the newest that was published for long enough; the oldest, where none was.
    pub fn signing(&self, now: u64) -> Option<&SigningKey> {
        let ready = self.0.iter().rev().find(|entry| begins(entry) <= now);
        ready.or(self.0.first()).map(|entry| &entry.key)
    }

    /// The keys that verifiers are told of.
    pub fn published(&self, now: u64) -> impl Iterator<Item = &SigningKey> {
        let next = self.0.iter().skip(1).map(Some).chain([None]);
        let lives = move |next: Option<&std::sync::Arc<Entry>>| {
            next.is_none_or(|next| now < begins(next).saturating_add(RETIRED.as_secs()))
        };
        self.0.iter().zip(next).filter(move |(_, next)| lives(*next)).map(|(entry, _)| &entry.key)
    }

    /// Whether another key should be made.
    pub fn is_due(&self, algorithm: Algorithm, period: Duration, now: u64) -> bool {
        self.0.last().is_none_or(|newest| {
            newest.key.algorithm() != algorithm || newest.made.saturating_add(period.as_secs()) <= now
        })
    }

    /// The same with a new key, and without those that are forgotten.
    pub fn with(&self, entry: Entry, now: u64) -> Self {
        let kept: Vec<&str> = self.published(now).map(SigningKey::kid).collect();
        let kept = self.0.iter().filter(|one| kept.contains(&one.key.kid())).cloned();
        Self(kept.chain([std::sync::Arc::new(entry)]).collect())
    }
}

/// From when on a key signs, where an older one is there.
fn begins(entry: &Entry) -> u64 {
    entry.made.saturating_add(LEAD.as_secs())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn entry(made: u64) -> Entry {
        Entry { made, key: SigningKey::generate(Algorithm::EdDSA).unwrap() }
    }

    fn kids(ring: &Ring, now: u64) -> Vec<String> {
        ring.published(now).map(|key| key.kid().to_owned()).collect()
    }

    #[test]
    fn the_first_key_signs_at_once_and_a_later_one_after_it_was_published_for_a_while() {
        assert!(Ring::default().signing(0).is_none());
        let ring = Ring::new(vec![entry(DAY)]);
        let first = ring.signing(DAY).unwrap().kid().to_owned();
        let ring = ring.with(entry(2 * DAY), 2 * DAY);
        let second = ring.entries().last().unwrap().key.kid().to_owned();
        assert_eq!(ring.signing(2 * DAY).unwrap().kid(), first);
        assert_eq!(kids(&ring, 2 * DAY), [first.clone(), second.clone()]);
        let begins = 2 * DAY + LEAD.as_secs();
        assert_eq!(ring.signing(begins - 1).unwrap().kid(), first);
        assert_eq!(ring.signing(begins).unwrap().kid(), second);
        assert_eq!(kids(&ring, begins + RETIRED.as_secs() - 1).len(), 2);
        assert_eq!(kids(&ring, begins + RETIRED.as_secs()), [second]);
    }

    #[test]
    fn a_key_is_due_by_its_age_and_by_another_algorithm() {
        let ring = Ring::new(vec![entry(DAY)]);
        let period = Duration::from_secs(DAY);
        assert!(!ring.is_due(Algorithm::EdDSA, period, 2 * DAY - 1));
        assert!(ring.is_due(Algorithm::EdDSA, period, 2 * DAY));
        assert!(ring.is_due(Algorithm::ES256, period, DAY));
        assert!(Ring::default().is_due(Algorithm::EdDSA, period, 0));
    }

    #[test]
    fn forgotten_keys_leave_the_ring_and_a_clock_that_went_back_loses_none() {
        let ring = Ring::new(vec![entry(0)]).with(entry(DAY), DAY).with(entry(9 * DAY), 9 * DAY);
        assert_eq!(ring.entries().count(), 2, "the first was superseded eight days ago");
        assert_eq!(kids(&ring, 0).len(), 2);
        assert!(ring.signing(0).is_some());
    }
}
