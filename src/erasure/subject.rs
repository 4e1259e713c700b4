//! The people whom deletions are about: a row each, under a keyed hash, with the open deletion, what becomes of their tokens, and
//! since when they are erased. What requests are judged by is in memory, too.

use serde::{Deserialize, Serialize};

use super::{life::Tokens, record::Selector};
use crate::store::Store;

/// The most deletions that a row remembers; older ones are found by their numbers alone.
const MOST_PAST: usize = 16;
/// For how long a row is kept that says nothing but what was cancelled, in seconds.
const PAST_SECS: u64 = 400 * 86_400;

/// A person's row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectRow {
    /// The deletion that is open.
    pub open: Option<Box<str>>,
    /// Its tokens are told that the account is held, with this status.
    pub block: Option<u16>,
    /// All tokens are refused: the data is being taken away.
    pub refused: bool,
    /// Tokens that were issued before are refused.
    pub erased_before: Option<u64>,
    /// Since when deletions of the account are refused, as somebody said that it was not them; and the deletion that it was about.
    pub frozen: Option<Frozen>,
    /// The last deletions, the latest last.
    pub past: Vec<Box<str>>,
}

/// A freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Since when.
    pub at: u64,
    /// Which deletion it was about.
    pub id: Box<str>,
}

impl SubjectRow {
    /// Notes a deletion that was asked for.
    pub(super) fn opened(&mut self, id: &str) {
        self.open = Some(id.into());
        self.past.push(id.into());
        if self.past.len() > MOST_PAST {
            self.past.remove(0);
        }
    }

    /// Notes what becomes of the person's tokens by a deletion; and that it is over, if it is.
    pub(super) fn follow(&mut self, id: &str, tokens: Tokens, is_over: bool) {
        // Of one that is not the open one any more nothing is to be said.
        if self.open.as_deref() != Some(id) {
            return;
        }
        (self.block, self.refused) = match tokens {
            Tokens::Pass | Tokens::Before(_) => (None, false),
            Tokens::Held(status) => (Some(status), false),
            Tokens::Refused => (None, true),
        };
        if let Tokens::Before(at) = tokens {
            self.erased_before = Some(self.erased_before.map_or(at, |before| before.max(at)));
        }
        if is_over {
            self.open = None;
        }
    }

    /// Whether it says anything of tokens.
    pub(super) fn says_something(&self) -> bool {
        self.block.is_some() || self.refused || self.erased_before.is_some()
    }

    /// Until when it is kept; `None`: for good.
    pub(super) fn expires_at(&self, now_secs: u64) -> Option<u64> {
        (!self.stays()).then(|| now_secs.saturating_add(PAST_SECS))
    }

    /// Whether it is kept for good: forgotten, it would be missed.
    pub(super) fn stays(&self) -> bool {
        self.open.is_some() || self.frozen.is_some() || self.says_something()
    }
}

/// The key of a person's row, which names nobody.
pub(super) fn key_of(store: &Store, issuer_url: &str, claim: &Selector, value: &str) -> String {
    let (kind, name) = claim.words();
    let parts = [issuer_url.as_bytes(), kind.as_bytes(), name.as_bytes(), value.as_bytes()];
    store.index("erasure subject", &parts)
}

/// The key of whoever asks, which names nobody.
pub(super) fn requester_key(store: &Store, issuer_url: &str, subject: &str) -> String {
    store.index("erasure requester", &[issuer_url.as_bytes(), subject.as_bytes()])
}

/// The first half of a keyed hash: 128 bits are enough to tell people apart, and half the memory. `None`: it is none.
pub(super) fn short(key: &str) -> Option<u128> {
    u128::from_str_radix(key.get(..32)?, 16).ok()
}
