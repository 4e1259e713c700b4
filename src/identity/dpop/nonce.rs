//! Nonces that nobody keeps (RFC 9449 §8, §9): a slot of time and a keyed digest of it. Whoever has one was given it in
//! this slot or the one before, by this process; a proof that was made long ago, or before a restart, has none.

use aws_lc_rs::{hmac, rand::SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::clock::Now;

/// A nonce is new for one slot and good for another: long enough that a client seldom has to ask again, short enough that
/// a proof made in advance is soon worth nothing.
const SLOT_SECS: u64 = 120;
/// Half of the digest: 128 bits cannot be guessed in a slot, and the field stays short.
const DIGEST_BYTES: usize = 16;
/// The slot's number and the digest.
const BYTES: usize = 8 + DIGEST_BYTES;

/// Makes and knows nonces.
#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
}

/// What a proof's nonce is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It is the one that is given out now.
    Current,
    /// It is the one before.
    Previous,
    /// It is none of ours, too old, or missing.
    Unknown,
}

impl Nonces {
    /// Under a key of their own; `None` where the system gives no randomness.
    pub(super) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(|key| Self { key })
    }

    /// The nonce that is given out now.
    pub(super) fn current(&self, now: Now) -> Box<str> {
        let slot = slot(now).to_be_bytes();
        let mut bytes = [0; BYTES];
        let (number, digest) = bytes.split_at_mut(slot.len());
        number.copy_from_slice(&slot);
        for (to, from) in digest.iter_mut().zip(hmac::sign(&self.key, &slot).as_ref()) {
            *to = *from;
        }
        URL_SAFE_NO_PAD.encode(bytes).into()
    }

    /// Judges the nonce of a proof.
    pub(super) fn judge(&self, nonce: Option<&str>, now: Now) -> Freshness {
        let Some(number) = nonce.and_then(|nonce| self.slot_of(nonce)) else { return Freshness::Unknown };
        match slot(now).checked_sub(number) {
            Some(0) => Freshness::Current,
            Some(1) => Freshness::Previous,
            // A clock that was set back: what was given out before is not known to be recent.
            Some(_) | None => Freshness::Unknown,
        }
    }

    /// The slot of a nonce of ours.
    fn slot_of(&self, nonce: &str) -> Option<u64> {
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let (number, digest) = bytes.split_first_chunk::<8>()?;
        let ours = hmac::sign(&self.key, number);
        let same = ours.as_ref().get(..DIGEST_BYTES)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(same, digest).ok()?;
        Some(u64::from_be_bytes(*number))
    }
}

fn slot(now: Now) -> u64 {
    now.unix_secs() / SLOT_SECS
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Now {
        Now { unix_ms: secs * 1000, instant: Instant::now() }
    }

    #[test]
    fn a_nonce_is_good_for_its_slot_and_the_next_one() {
        let nonces = Nonces::new().unwrap();
        let start = at(SLOT_SECS * 1000);
        let nonce = nonces.current(start);
        let after = |secs| nonces.judge(Some(&nonce), start.after(Duration::from_secs(secs)));
        assert_eq!(after(0), Freshness::Current);
        assert_eq!(after(SLOT_SECS - 1), Freshness::Current);
        assert_eq!(after(SLOT_SECS), Freshness::Previous);
        assert_eq!(after(2 * SLOT_SECS - 1), Freshness::Previous);
        assert_eq!(after(2 * SLOT_SECS), Freshness::Unknown);
        assert_eq!(nonces.judge(Some(&nonce), at(SLOT_SECS * 999)), Freshness::Unknown, "from the future");
        assert_eq!(nonces.judge(None, start), Freshness::Unknown);
    }

    #[test]
    fn a_nonce_is_of_the_characters_that_the_standard_allows() {
        // RFC 9449 §8.1: NQCHAR.
        let nonce = Nonces::new().unwrap().current(at(1_800_000_000));
        assert_eq!(nonce.len(), 32);
        assert!(nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn another_processes_nonce_is_none_of_ours() {
        let now = at(1_800_000_000);
        let theirs = Nonces::new().unwrap().current(now);
        assert_eq!(Nonces::new().unwrap().judge(Some(&theirs), now), Freshness::Unknown);
    }

    proptest! {
        #[test]
        fn no_changed_nonce_is_believed(at_byte in 0..BYTES, bit in 0..8u8) {
            let (nonces, now) = (Nonces::new().unwrap(), at(1_800_000_000));
            let mut bytes = URL_SAFE_NO_PAD.decode(nonces.current(now).as_bytes()).unwrap();
            bytes.get_mut(at_byte).into_iter().for_each(|byte| *byte ^= 1 << bit);
            prop_assert_eq!(nonces.judge(Some(&URL_SAFE_NO_PAD.encode(bytes)), now), Freshness::Unknown);
        }

        #[test]
        fn any_text_gets_an_answer(text in ".{0,64}") {
            prop_assert_eq!(Nonces::new().unwrap().judge(Some(&text), at(1_800_000_000)), Freshness::Unknown);
        }
    }
}
