//! Demonstrating proof of possession (RFC 9449): whether a request holds a proof that its sender has the private key
//! that its token is bound to. The proof is made for this method, this URL, this token and this minute, and is good once.
//!
//! ```text
//!   DPoP field ── one? ── shape, jwk ── jkt = cnf.jkt? ── typ, alg ── htm, htu, ath, iat ── signature ── nonce ── jti new?
//!                 no: invalid              no: mismatch        no: invalid                 no: invalid    no: nonce   no: replayed
//! ```
//!
//! The cheap checks come first. What was used is remembered only of proofs that are right in everything else, so nobody
//! can use up another's `jti`, and a stranger leaves nothing behind.

mod nonce;
pub mod proof;
mod replay;
pub mod target;

use aws_lc_rs::digest;

use self::{
    nonce::{Freshness, Nonces},
    replay::{Memory, Recall},
    target::Place,
};
use super::presented::{Field, Presented};
use crate::{
    clock::Now,
    config::{DpopNonce, DpopRules},
    jose::Algorithm,
    policy::{Credential, Principal, Reason},
};

/// How soon a client whose proof could not be remembered may come back: by then some have been forgotten.
const RETRY_SECS: u32 = 1;

/// What is kept of proofs between requests, for all issuers and all configurations of a process.
#[derive(Debug)]
pub(super) struct Dpop {
    used: Memory,
    nonces: Nonces,
}

/// A proof that holds.
#[derive(Debug)]
pub(super) struct Proved {
    /// What it is signed with.
    pub(super) algorithm: Algorithm,
    /// A nonce for the next one, where this one's is about to expire.
    pub(super) fresh_nonce: Option<Box<str>>,
}

/// Why there is no proof that holds.
#[derive(Debug)]
pub(super) struct Unproved {
    /// What becomes of the credential.
    pub(super) credential: Credential,
    /// The nonce that was missing.
    pub(super) fresh_nonce: Option<Box<str>>,
}

impl From<Reason> for Unproved {
    fn from(reason: Reason) -> Self {
        Self { credential: Credential::Invalid(reason), fresh_nonce: None }
    }
}

impl Dpop {
    /// `None` where the system gives no randomness.
    pub(super) fn new() -> Option<Self> {
        Some(Self { used: Memory::new(replay::PROOFS), nonces: Nonces::new()? })
    }

    /// Checks the proof beside a verified token that is bound to the key with this thumbprint.
    pub(super) fn prove(
        &self,
        presented: &Presented<'_>,
        token: &str,
        principal: &Principal,
        bound_to: &[u8; 32],
        rules: &DpopRules,
        now: Now,
    ) -> Result<Proved, Unproved> {
        let text = match presented.proof {
            Field::Absent => return Err(Reason::BindingMissing.into()),
            // RFC 9449 §4.3, 1: not more than one.
            Field::Several => return Err(Reason::DpopInvalid.into()),
            Field::One(value) => std::str::from_utf8(value).map_err(|_| Reason::DpopInvalid)?,
        };
        let expected = proof::Expected {
            bound_to,
            method: presented.method.as_str(),
            place: Place { scheme: presented.scheme, authority: presented.authority, path: presented.path },
            token_digest: &sha256(token),
            rules,
            leeway_secs: principal.leeway_secs,
            now: now.numeric_date(),
        };
        let proof = proof::check(text, &expected)?;
        let fresh_nonce = match rules.nonce {
            DpopNonce::Off => None,
            DpopNonce::Required => match self.nonces.judge(proof.nonce.as_deref(), now) {
                Freshness::Current => None,
                Freshness::Previous => Some(self.nonces.current(now)),
                Freshness::Unknown => {
                    let credential = Credential::Invalid(Reason::DpopNonce);
                    return Err(Unproved { credential, fresh_nonce: Some(self.nonces.current(now)) });
                }
            },
        };
        match self.used.note(bound_to, &proof.jti, &caller(principal, bound_to), proof.good_until, now) {
            Recall::New => Ok(Proved { algorithm: proof.algorithm, fresh_nonce }),
            Recall::Known => Err(Reason::DpopReplayed.into()),
            // What cannot be remembered could be used again.
            Recall::Full => Err(Unproved {
                credential: Credential::Unavailable { reason: Reason::Overloaded, retry_after_secs: RETRY_SECS },
                fresh_nonce: None,
            }),
        }
    }

    /// How many proofs are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.used.len()
    }
}

/// Who fills the memory: the subject, who could make new keys as it likes; without one, the key.
fn caller(principal: &Principal, bound_to: &[u8; 32]) -> [u8; 32] {
    if principal.subject.is_empty() {
        return *bound_to;
    }
    // The issuer's name first: it holds no such byte.
    sha256(&format!("{}\0{}", principal.issuer, principal.subject))
}

fn sha256(text: &str) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    output
}
