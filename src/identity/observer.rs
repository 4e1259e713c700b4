//! What this room has to tell, said to whoever listens. The labels are the names of the configuration and closed enums.

use crate::policy::Reason;

/// Listens to what happens to tokens and keys. Called on the request's path, so implementations count and return.
pub trait KeyObserver: Send + Sync {
    /// An attempt to read an issuer's keys came to an end. A file that is read again unchanged is not an event.
    fn refresh(&self, issuer: &str, outcome: RefreshOutcome);

    /// A token was looked at in full (a hit in the cache is not counted here). `issuer` is `None` where the token names
    /// no issuer of the configuration.
    fn verification(&self, issuer: Option<&str>, result: Result<(), Reason>);

    /// The cache of verified tokens was asked.
    fn cache(&self, lookup: CacheLookup);

    /// A source's lists of revoked certificates are in force, the first of which ends then, in seconds since the epoch;
    /// `None`: it has none.
    fn revocation_lists(&self, _source: &str, _next_update: Option<u64>) {}

    /// The files of a source of client certificates have changed: they are in force now, or cannot be used.
    fn authorities_read(&self, _source: &str, _good: bool) {}
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

/// Nobody listens: for `check` and `explain`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl KeyObserver for Unobserved {
    fn refresh(&self, _: &str, _: RefreshOutcome) {}
    fn verification(&self, _: Option<&str>, _: Result<(), Reason>) {}
    fn cache(&self, _: CacheLookup) {}
}
