//! `assertions`: how the gateway signs what it tells upstreams of callers.

use std::time::Duration;

use http::HeaderName;

use super::{Prefix, SecretText};
use crate::config::{
    AssertionAlgorithm,
    decode::{At, section, words},
    text::{FilePath, IssuerUrl},
};

section! {
    /// How the gateway signs what it tells upstreams of callers, where an upstream has `assertion`. The public keys are at
    /// `jwks_path` on every listener and at `/jwks.json` on the admin listener.
    "assertions" Assertions {
        /// The gateway's identifier: `iss`.
        issuer: At<IssuerUrl>,
        /// The signature algorithm.
        algorithm: At<AssertionAlgorithm> = "ES256",
        /// The private key (PKCS#8 PEM). Without it the gateway makes its own, in the state directory, and rotates them.
        key: Option<SecretText>,
        /// JWK Sets of further public keys to publish, beside a `key` of yours: the next and the one before.
        publish: Vec<At<FilePath>> = "[]",
        /// How often a key of the gateway's own making is followed by another. It is published ten minutes before it signs and an
        /// hour after.
        rotate: At<Duration> = "30d",
        /// Where the public keys are served.
        jwks_path: At<Prefix> = "/.well-known/stepgate/jwks.json",
    }
}

section! {
    /// A signed token about the caller, for one upstream: a JWT of the type `stepgate-assertion+jwt`.
    "assertion" Assertion {
        /// Whom it is for: `aud`.
        audience: At<String>,
        /// How long it lives.
        ttl: At<Duration> = "60s",
        /// The header that carries it. In `authorization` it is a bearer token. A client's field of that name never goes through.
        header: At<HeaderName> = "x-auth-assertion",
    }
}

words! { AssertionAlgorithm, "an algorithm for assertions":
    "ES256" => Self::ES256, "ECDSA on P-256 with SHA-256";
    "EdDSA" => Self::EdDSA, "Ed25519";
}
