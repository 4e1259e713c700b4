//! What a proof of possession must be.

use std::time::Duration;

use super::Target;
use crate::jose::{Algorithms, PROOF_ALGORITHMS};

/// What proofs of possession beside an issuer's tokens must be (RFC 9449 §4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DpopRules {
    /// Whether they must hold a nonce of ours.
    pub nonce: DpopNonce,
    /// How old they may be, by `iat`; the issuer's leeway comes besides.
    pub max_age: Duration,
    /// What they may be signed with, never empty.
    pub algorithms: Algorithms,
    /// Where clients know us; empty: where we are asked.
    pub origins: Vec<Target>,
}

impl Default for DpopRules {
    /// A minute covers the way of any request; all algorithms that the standard allows and that are safe.
    fn default() -> Self {
        Self {
            nonce: DpopNonce::Off,
            max_age: Duration::from_secs(60),
            algorithms: PROOF_ALGORITHMS,
            origins: Vec::new(),
        }
    }
}

/// Whether proofs of possession must hold a nonce of ours (RFC 9449 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DpopNonce {
    /// No.
    Off,
    /// Yes.
    Required,
}
