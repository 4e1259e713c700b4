//! What this room has to tell, said to whoever listens. The labels are the names of the configuration and closed enums.

use std::time::Duration;

use super::events::{EventKind, EventOutcome};
use crate::policy::Reason;

/// Listens to what happens to credentials, and to what they are judged by. Called on the request's path, so implementations count and return.
pub trait IdentityObserver: Send + Sync {
    /// An attempt to read an issuer's keys came to an end. A file that is read again unchanged is not an event.
    fn refresh(&self, issuer: &str, outcome: RefreshOutcome);

    /// A token was looked at in full (a hit in the cache is not counted here). `issuer` is `None` where the token names
    /// no issuer of the configuration.
    fn verification(&self, issuer: Option<&str>, result: Result<(), Reason>);

    /// The cache of verified tokens was asked.
    fn cache(&self, lookup: CacheLookup);

    /// A token was to be introspected. `took` is how long the issuer took, where it was asked.
    fn introspection(&self, issuer: &str, outcome: IntrospectionOutcome, took: Option<Duration>) {
        let _ = (issuer, outcome, took);
    }

    /// A provider reported something.
    fn event(&self, _issuer: &str, _kind: EventKind, _outcome: EventOutcome) {}

    /// A password was hashed, or could not be.
    fn password(&self, _source: &str, _outcome: PasswordOutcome) {}

    /// A source's API keys were read: how many there are, or that they could not be.
    fn api_keys(&self, _source: &str, _read: Result<usize, ()>) {}

    /// A source's lists of revoked certificates are in force, the first of which ends then, in seconds since the epoch;
    /// `None`: it has none.
    fn revocation_lists(&self, _source: &str, _next_update: Option<u64>) {}

    /// The files of a source of client certificates have changed: they are in force now, or cannot be used.
    fn authorities_read(&self, _source: &str, _good: bool) {}
}

/// What became of a token that was to be introspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntrospectionOutcome {
    /// It is active, and what the answer says of it holds.
    Active,
    /// It is not active, or not good here.
    Refused,
    /// It was refused a moment ago, so the issuer was not asked again.
    Remembered,
    /// There was no usable answer.
    Failed,
    /// As many questions are under way as may be.
    Busy,
}

/// How an attempt to read an issuer's keys ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// There are keys.
    Refreshed {
        /// How many are used.
        keys: usize,
        /// How many of the set are not for verifying signatures.
        left_aside: usize,
    },
    /// There was no usable answer; the last good keys stay.
    Failed,
}

/// What the cache of verified tokens had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheLookup {
    /// It knew the token, and what it knew still holds.
    Hit,
    /// It did not.
    Miss,
}

/// What became of a password that had to be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordOutcome {
    /// It was the user's.
    Right,
    /// It was not, or no user has that name.
    Wrong,
    /// Too many waited: it was not hashed.
    Busy,
}

/// Nobody listens: for `check` and `explain`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl IdentityObserver for Unobserved {
    fn refresh(&self, _: &str, _: RefreshOutcome) {}
    fn verification(&self, _: Option<&str>, _: Result<(), Reason>) {}
    fn cache(&self, _: CacheLookup) {}
}
