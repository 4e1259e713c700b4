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
        token: &[u8],
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
    sha256(format!("{}\0{}", principal.issuer, principal.subject).as_bytes())
}

fn sha256(text: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    output
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        time::{Duration, Instant},
    };

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        identity::testing::{self, Signer},
        jose::VerifyingKey,
    };

    const TOKEN: &str = "header.payload.signature";
    const START: u64 = 1_800_000_000;

    struct Client {
        signer: Signer,
        jwk: Value,
        thumbprint: [u8; 32],
    }

    impl Client {
        fn new() -> Self {
            let signer = Signer::new(Algorithm::ES256, "client");
            let jwk = signer.jwk();
            let thumbprint = *VerifyingKey::from_jwk(jwk.to_string().as_bytes()).unwrap().thumbprint();
            Self { signer, jwk, thumbprint }
        }

        fn proof(&self, jti: &str, nonce: Option<&str>, now: Now) -> String {
            let ath = URL_SAFE_NO_PAD.encode(sha256(TOKEN.as_bytes()));
            let mut claims = json!({
                "jti": jti, "htm": "GET", "htu": "https://api.example/", "iat": now.unix_secs(), "ath": ath,
            });
            if let Some(nonce) = nonce {
                claims.as_object_mut().unwrap().insert("nonce".into(), json!(nonce));
            }
            self.signer.token_with(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk}), &claims)
        }

        fn prove(&self, dpop: &Dpop, proof: &str, now: Now) -> Result<Proved, Unproved> {
            let presented = Presented {
                authorization: Field::Absent,
                keys: &[],
                confidential: true,
                proof: Field::One(proof.as_bytes()),
                query: None,
                method: &http::Method::GET,
                scheme: "https",
                authority: "api.example",
                path: "/",
                certificate: None,
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            };
            let rules = DpopRules { nonce: DpopNonce::Required, ..DpopRules::default() };
            let principal = &testing::known("alice").principal;
            dpop.prove(&presented, TOKEN.as_bytes(), principal, &self.thumbprint, &rules, now)
        }
    }

    fn reason(unproved: &Unproved) -> Option<Reason> {
        match &unproved.credential {
            Credential::Invalid(reason) | Credential::Unavailable { reason, .. } => Some(*reason),
            Credential::Absent | Credential::Valid(_) => None,
        }
    }

    #[test]
    fn a_client_that_follows_the_nonces_is_refused_once_and_never_again() {
        let (dpop, client) = (Dpop::new().unwrap(), Client::new());
        let mut now = Now { unix_ms: START * 1000, instant: Instant::now() };
        let refused = client.prove(&dpop, &client.proof("first", None, now), now).unwrap_err();
        assert_eq!(reason(&refused), Some(Reason::DpopNonce));
        let mut nonce = refused.fresh_nonce.unwrap();
        let mut renewed = 0;
        for number in 0..60 {
            now = now.after(Duration::from_secs(20));
            let proof = client.proof(&number.to_string(), Some(&nonce), now);
            if let Some(fresh) = client.prove(&dpop, &proof, now).unwrap().fresh_nonce {
                assert_ne!(fresh, nonce);
                (nonce, renewed) = (fresh, renewed + 1);
            }
        }
        assert_eq!(renewed, 10, "once in each slot of two minutes");
        // A proof that was made in advance, for when the key is out of reach again.
        let later = now.after(Duration::from_secs(600));
        let refused = client.prove(&dpop, &client.proof("advance", Some(&nonce), later), later).unwrap_err();
        assert_eq!(reason(&refused), Some(Reason::DpopNonce));
    }

    #[test]
    fn what_is_wrong_leaves_nothing_behind_and_uses_nothing_up() {
        let (dpop, client, stranger) = (Dpop::new().unwrap(), Client::new(), Client::new());
        let now = Now { unix_ms: START * 1000, instant: Instant::now() };
        let nonce = dpop.nonces.current(now);
        for wrong in [
            client.proof("jti", None, now),
            client.proof("jti", Some("nonce"), now),
            client.proof("jti", Some(&nonce), now.after(Duration::from_secs(600))),
            stranger.proof("jti", Some(&nonce), now),
            format!("{}A", client.proof("jti", Some(&nonce), now)),
        ] {
            assert!(client.prove(&dpop, &wrong, now).is_err());
        }
        assert_eq!(dpop.remembered(), 0);
        let proof = client.proof("jti", Some(&nonce), now);
        assert_eq!(client.prove(&dpop, &proof, now).unwrap().algorithm, Algorithm::ES256);
        assert_eq!(reason(&client.prove(&dpop, &proof, now).unwrap_err()), Some(Reason::DpopReplayed));
        assert_eq!(dpop.remembered(), 1);
    }

    #[test]
    fn a_proof_that_cannot_be_remembered_is_for_later() {
        let client = Client::new();
        let dpop = Dpop { used: Memory::new(0), nonces: Nonces::new().unwrap() };
        let now = Now { unix_ms: START * 1000, instant: Instant::now() };
        let proof = client.proof("jti", Some(&dpop.nonces.current(now)), now);
        let refused = client.prove(&dpop, &proof, now).unwrap_err();
        assert!(matches!(
            refused.credential,
            Credential::Unavailable { reason: Reason::Overloaded, retry_after_secs: RETRY_SECS }
        ));
    }
}
