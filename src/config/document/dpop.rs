//! `issuers.NAME.dpop`: proofs of possession beside an issuer's tokens.

use std::time::Duration;

use crate::config::{
    DpopNonce, Target,
    decode::{At, FromText, NonEmpty, Refusal, section, unknown_word, words},
    shape::{Shape, TextShape},
};
use crate::jose::{Algorithm, PROOF_ALGORITHMS};

section! {
    /// Proofs of possession (RFC 9449) beside this issuer's tokens. A token that is bound to a key (`cnf.jkt`) needs its proof
    /// with or without this section, which also tells clients of it in challenges.
    "DPoP" Dpop {
        /// Whether a proof must hold a nonce of ours: no proof can then be made long before it is used.
        nonce: DpopNonce = "off",
        /// How old a proof may be, by its `iat`; the issuer's `leeway` is added at both ends. At most 10m: each proof is
        /// remembered for as long, so that none is used twice.
        max_age: At<Duration> = "60s",
        /// What a proof may be signed with.
        algorithms: NonEmpty<At<ProofAlgorithm>> = "[ES256, ES384, EdDSA, PS256, RS256]",
        /// The origins under which clients know this gateway, where they reach it through something that ends TLS or
        /// changes `Host`: a proof's `htu` must begin with one. Without them: the scheme and `Host` that we are asked by.
        origins: Vec<At<Origin>> = "[]",
    }
}

words! { DpopNonce, "a rule for nonces":
    "off" => Self::Off, "a proof needs no nonce";
    "required" => Self::Required, "a proof needs a nonce of the last two to four minutes; a client without one is given one";
}

/// A scheme, a host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Origin(pub(in crate::config) Target);

impl FromText for Origin {
    const WHAT: &'static str = "an origin";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let help = "write `https://HOST` or `https://HOST:PORT`, without a path";
        Target::from_text(text).map(Self).map_err(|_| Refusal::advice(help))
    }

    fn shape() -> Shape {
        let about = "`https://HOST` or `https://HOST:PORT`, without a path";
        Shape::Text(TextShape { name: "origin", about, pattern: Some("https?://[^/]+/?") })
    }
}

/// A signature algorithm of proofs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct ProofAlgorithm(pub(in crate::config) Algorithm);

impl FromText for ProofAlgorithm {
    const WHAT: &'static str = "a signature algorithm of proofs";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match Algorithm::from_name(text) {
            Some(algorithm) if PROOF_ALGORITHMS.contains(algorithm) => Ok(Self(algorithm)),
            Some(algorithm) if algorithm.secret_bytes().is_some() => {
                Err(Refusal::because("a shared secret proves nothing of who holds it (RFC 9449 §4.2)"))
            }
            Some(_) | None => {
                let known: Vec<&'static str> = PROOF_ALGORITHMS.iter().map(Algorithm::name).collect();
                Err(unknown_word(text, &known))
            }
        }
    }

    fn shape() -> Shape {
        let about = |algorithm: Algorithm| match algorithm {
            Algorithm::ES256 => "ECDSA on P-256 with SHA-256",
            Algorithm::ES384 => "ECDSA on P-384 with SHA-384",
            Algorithm::EdDSA => "Ed25519",
            Algorithm::PS256 => "RSA PSS with SHA-256, 2048 bits or more",
            Algorithm::RS256 => "RSA PKCS#1 v1.5 with SHA-256, 2048 bits or more",
            Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS384
            | Algorithm::PS512
            | Algorithm::HS256
            | Algorithm::HS384
            | Algorithm::HS512 => "not taken",
        };
        Shape::Words(PROOF_ALGORITHMS.iter().map(|algorithm| (algorithm.name(), about(algorithm))).collect())
    }
}
