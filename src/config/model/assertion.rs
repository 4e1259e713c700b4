//! What upstreams are told of callers, signed.

use std::{sync::Arc, time::Duration};

use super::{File, Source, Span};

/// A signed token about the caller, for one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Whom it is for.
    pub audience: Arc<str>,
    /// How long it lives, at least a moment.
    pub ttl: Duration,
    /// The header that carries it.
    pub header: http::HeaderName,
}

/// How assertions are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertions {
    /// Where it stands in the file.
    pub span: Span,
    /// The gateway's identifier.
    pub issuer: Arc<str>,
    /// The signature algorithm.
    pub algorithm: AssertionAlgorithm,
    /// The key.
    pub key: AssertionKey,
    /// Where the public keys are served, in normal form.
    pub jwks_path: Arc<str>,
}

/// A signature algorithm for assertions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum AssertionAlgorithm {
    ES256,
    EdDSA,
}

/// The key that signs assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertionKey {
    /// Of our own making, in the state directory.
    Own {
        /// How often another follows.
        rotate: Duration,
    },
    /// The user's.
    Given {
        /// PKCS#8 PEM.
        source: Source,
        /// JWK Sets of other public keys to publish.
        besides: Vec<File>,
    },
}
