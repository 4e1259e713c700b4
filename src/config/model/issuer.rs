//! Issuers of tokens: how their tokens are verified, and where the facts stand in them.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{DpopRules, Events, File, Introspection, Source, Span};
use crate::{jose::Algorithms, policy::IssuerName};

/// Who may vouch for a caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name in the configuration.
    pub name: IssuerName,
    /// Its identifier: the exact `iss` of its tokens.
    pub url: Arc<str>,
    /// The audiences of which a token's `aud` must hold one; empty: `aud` is not checked.
    pub audience: Vec<Arc<str>>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The only signature algorithms accepted; empty only without keys.
    pub algorithms: Algorithms,
    /// How it is asked about tokens that are not verified by its keys.
    pub introspection: Option<Introspection>,
    /// For `exp`, `nbf`, `iat` and `auth_time`.
    pub leeway: Duration,
    /// The accepted values of `typ`, lower case and without `application/`.
    pub types: Vec<Arc<str>>,
    /// Whether a token without `typ` is accepted.
    pub type_absent: bool,
    /// The claims that must be there.
    pub required: Vec<Arc<str>>,
    /// The longest token that is looked at.
    pub token_bytes: usize,
    /// Between refetches for an unknown `kid`.
    pub jwks_cooldown: Duration,
    /// How long the last good keys serve while the endpoint is down.
    pub jwks_max_stale: Duration,
    /// Certificates that vouch for the issuer's https endpoints, instead of the machine's.
    pub ca: Option<File>,
    /// What proofs of possession beside its tokens must be; `None`: the defaults, which clients are not told of.
    pub dpop: Option<DpopRules>,
    /// Where the facts stand in a token.
    pub claims: ClaimLayout,
    /// How the provider writes `auth_time`.
    pub auth_time_format: AuthTimeFormat,
    /// What a token's claims must say besides, all of it: tells access tokens from the provider's other tokens.
    pub expect: Vec<ClaimRule>,
    /// What makes a caller a machine, any of it, besides a `sub` that is the client's own.
    pub machine: Vec<ClaimRule>,
    /// Where the provider reports what ended.
    pub events: Option<Events>,
    /// The key that its tokens must be bound to.
    pub bound: Bound,
}

/// What a claim must be, or have among its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRule {
    /// Where it stands.
    pub claim: ClaimPath,
    /// The values of which one is enough; never empty.
    pub values: Box<[Arc<str>]>,
}

/// The key that an issuer's tokens must be bound to. What a token says of itself holds besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bound {
    /// None: a token that is not bound is taken.
    #[default]
    None,
    /// That of a client certificate (RFC 8705 §3).
    Certificate,
    /// That of a DPoP proof (RFC 9449).
    Dpop,
    /// Either.
    Any,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// There are none: each of its tokens is introspected.
    Absent,
    /// The gateway's own authority publishes them, in this process.
    Authority,
    /// `{issuer}/.well-known/openid-configuration`, then its `jwks_uri` (OpenID Connect Discovery 1.0 §4).
    Discovery,
    /// A JWK Set (RFC 7517 §5) over https.
    JwksUrl(Url),
    /// A JWK Set in a file, read again when it changes.
    JwksFile(File),
    /// One public key: PEM (SPKI or PKCS#1) or a JWK.
    PublicKey(Source),
    /// A shared secret for HMAC.
    Secret {
        /// Where it is.
        source: Source,
        /// How its bytes are written there.
        encoding: SecretEncoding,
    },
}

/// How the bytes of a shared secret are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretEncoding {
    /// As they are; one final newline is dropped.
    Raw,
    /// RFC 4648 §4, padded or not.
    Base64,
    /// RFC 4648 §5, padded or not.
    Base64Url,
    /// RFC 4648 §8, either case.
    Hex,
}

/// Where the facts stand in a token's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the place of the fact that it is named after")]
pub struct ClaimLayout {
    pub audience: ClaimPath,
    pub subject: ClaimPath,
    pub scopes: ClaimPath,
    pub acr: ClaimPath,
    pub amr: ClaimPath,
    pub auth_time: ClaimPath,
    /// Where the client stands; `None` is `azp`, else `client_id`.
    pub client: Option<ClaimPath>,
}

/// The place of a claim: a name, or a JSON pointer (RFC 6901) when it starts with `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimPath {
    /// A member of the claims object, taken literally (`https://example/roles` is one).
    Name(Arc<str>),
    /// A JSON pointer into the claims object.
    Pointer(Arc<str>),
}

/// How a provider writes `auth_time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthTimeFormat {
    /// A JSON number, as OpenID Connect Core §2 has it; a string is not believed.
    Number,
    /// A JSON number, or a string of decimal digits.
    NumberOrString,
}
