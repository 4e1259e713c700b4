//! Quotas.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{ClaimPath, Span};

/// A named quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name; for a guarded operation's own quota, a name made from the operation.
    pub name: Arc<str>,
    /// What is counted.
    pub key: LimitKey,
    /// How much is admitted.
    pub rate: Rate,
}

/// How much a quota admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// N per second: GCRA with a burst.
    PerSecond {
        /// N.
        count: NonZeroU32,
        /// How many at once.
        burst: NonZeroU32,
    },
    /// N per longer period: no interval of that length admits more.
    PerPeriod {
        /// N.
        count: NonZeroU32,
        /// The period, more than a second.
        period: Duration,
    },
}

/// What a quota counts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// Issuer and subject.
    Subject,
    /// The issuer's name.
    Issuer,
    /// Issuer and client (`azp`, else `client_id`).
    Client,
    /// Issuer and a claim.
    Claim(ClaimPath),
    /// The client's address, IPv6 by /64.
    Ip,
    /// A request header, lower case: unverified.
    Header(http::HeaderName),
    /// The route.
    Route,
    /// One bucket for all.
    Global,
}
