//! Who is calling, and how well that was proved: facts that were verified, never decisions.

use std::sync::Arc;

use serde_json::Value;

use super::Reason;

/// The name of an issuer in the configuration: the key under `issuers`.
pub type IssuerName = Arc<str>;

/// How, and when, the person behind a token authenticated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assurance {
    /// Authentication context class (OpenID Connect Core §2 `acr`).
    pub acr: Option<Arc<str>>,
    /// Authentication methods (RFC 8176), case-sensitive.
    pub amr: Box<[Arc<str>]>,
    /// When the user authenticated, in seconds since the epoch (OpenID Connect Core §2 `auth_time`).
    pub auth_time: Option<f64>,
}

/// A caller whose credential was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// Which issuer of the configuration vouches for the caller.
    pub issuer: IssuerName,
    /// The issuer's identifier, the token's `iss`.
    pub issuer_url: Arc<str>,
    /// The subject, as the issuer's `claims.subject` finds it; empty if the issuer does not require one.
    pub subject: Arc<str>,
    /// The OAuth client: `azp`, else `client_id`.
    pub client: Option<Arc<str>>,
    /// The scopes that were granted.
    pub scopes: Box<[Arc<str>]>,
    /// What is known of the authentication.
    pub assurance: Assurance,
    /// When the credential expires, in seconds since the epoch; `None` if the issuer does not require `exp`.
    pub expires_at: Option<f64>,
    /// The leeway of the issuer in seconds, for every comparison of times that comes later.
    pub leeway_secs: f64,
    /// All claims of the token, for conditions and quotas.
    pub claims: Value,
}

/// What became of the credentials that a request carried. A bad one is never treated as none.
#[derive(Debug, Clone)]
pub enum Credential {
    /// None was sent.
    Absent,
    /// One was sent and is not to be believed; the reason is one of the `Token*` reasons or `InvalidCredentials`.
    Invalid(Reason),
    /// One was sent and verified.
    Valid(Arc<Principal>),
    /// One was sent and cannot be verified now; try again in this many seconds.
    Unavailable {
        /// What is missing.
        reason: Reason,
        /// When to try again, for Retry-After.
        retry_after_secs: u32,
    },
}
