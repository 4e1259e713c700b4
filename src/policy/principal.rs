//! Who is calling, and how well that was proved: facts that were verified, never decisions.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use http::{HeaderName, HeaderValue};
use serde_json::Value;
use smallvec::SmallVec;

use super::{Factors, Reason, SecondFactor};
use crate::jose::Algorithm;

/// The name of who vouches for a caller in the configuration: a key under `issuers` or `credentials`.
pub type IssuerName = Arc<str>;

/// How, and when, the person behind a token authenticated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assurance {
    /// Authentication context class (OpenID Connect Core §2 `acr`).
    pub acr: Option<Arc<str>>,
    /// Further classes that hold as well, where a provider names several.
    pub further_acr: Box<[Arc<str>]>,
    /// Authentication methods (RFC 8176), case-sensitive.
    pub amr: Box<[Arc<str>]>,
    /// When the user authenticated, in seconds since the epoch (OpenID Connect Core §2 `auth_time`).
    pub auth_time: Option<f64>,
    /// The factors that were shown to the gateway's own authority, where that vouches for it; none for any other issuer.
    pub factors: Factors,
    /// Whether that authority says, in a token of its own, that the factor is too new to delete anything.
    pub on_probation: bool,
}

impl Assurance {
    /// Every context class that holds.
    pub fn classes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.acr.iter().chain(&self.further_acr)
    }
}

/// Whether a person stands behind a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Somebody who can be asked to authenticate again; whatever is not known to be a machine.
    #[default]
    Person,
    /// A program on its own: an API key, a client certificate, a token of the client credentials grant.
    Machine,
}

/// What tells one credential from others of the same caller: what a revocation may name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Marks {
    /// The credential's identifier: a token's `jti`, an API key's id, a certificate's serial number.
    pub id: Option<Arc<str>>,
    /// When it was made, in seconds since the epoch: a token's `iat`, the day an API key was added.
    pub issued_at: Option<f64>,
    /// The provider's session (`sid`, OpenID Connect Back-Channel Logout 1.0 §2.1).
    pub session: Option<Arc<str>>,
    /// The key that vouches for it: the `kid` of a token's header.
    pub key: Option<Arc<str>>,
    /// The SHA-256 of the credential itself: whose a second factor is that was shown for it. `None`: it can hold none.
    pub fingerprint: Option<[u8; 32]>,
}

/// The key that a credential is bound to (`cnf`, RFC 7800 §3.1): it is good only beside a proof that the caller holds it.
/// Where both are named, both are to be proved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// SHA-256 of the client certificate (RFC 8705 §3.1, `x5t#S256`).
    pub certificate: Option<[u8; 32]>,
    /// The JWK thumbprint of the DPoP key (RFC 9449 §6.1, `jkt`).
    pub dpop: Option<[u8; 32]>,
}

/// A caller whose credential was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// Who vouches for the caller, by the name in the configuration.
    pub issuer: IssuerName,
    /// The issuer's identifier, the token's `iss`; for other sources `urn:stepgate:credentials:` and the name.
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
    /// All claims of the token, for conditions and quotas; of another credential, what is known of it as an object.
    pub claims: Value,
    /// Whether a person stands behind it.
    pub kind: Kind,
    /// What a revocation may name.
    pub marks: Marks,
    /// The key that the credential is bound to. On a principal that was let in, its possession was proved.
    pub binding: Option<Box<Binding>>,
    /// Named quotas that this credential has of its own, besides the route's.
    pub limits: Box<[Arc<str>]>,
    /// What was worked out of all that.
    pub told: Told,
}

/// What is worked out of a principal's facts when it is first needed, for a token is used many times: the fields that tell a service who
/// is calling, and what quotas by subject count by. It says nothing of its own, so a copy of a principal, which may be about to change,
/// has to work it out again. Whoever makes a principal by hand gives it an empty one.
#[derive(Default)]
pub struct Told {
    fields: OnceLock<Box<[(HeaderName, HeaderValue)]>>,
    subject_key: OnceLock<[u64; 2]>,
}

impl Told {
    /// The fields, made if they are not there.
    pub fn get_or_make(&self, make: impl FnOnce() -> Box<[(HeaderName, HeaderValue)]>) -> &[(HeaderName, HeaderValue)] {
        self.fields.get_or_init(make)
    }

    /// The caller's key in quotas by subject, made if it is not there.
    pub fn subject_key(&self, make: impl FnOnce() -> [u64; 2]) -> [u64; 2] {
        *self.subject_key.get_or_init(make)
    }
}

impl Clone for Told {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Told {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told(…)")
    }
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

/// What the credentials of a request are worth, and what else it proved.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What became of its credentials.
    pub credential: Credential,
    /// The key that the caller proved to hold in this very request or on this very connection.
    pub possession: Option<Possession>,
    /// A nonce for the caller's next proofs (RFC 9449 §8.2), where one is due.
    pub fresh_nonce: Option<Box<str>>,
    /// Second factors that the caller has shown to the gateway's own authority, and that may count for this request.
    pub second_factors: SecondFactors,
}

/// Second factors of one request: nearly always none or one.
pub type SecondFactors = SmallVec<[Arc<SecondFactor>; 1]>;

/// A proof that the caller holds the private key that its credential is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Possession {
    /// A client certificate, in the TLS handshake.
    Certificate,
    /// A DPoP proof (RFC 9449), by a key of this algorithm.
    Dpop(Algorithm),
    /// Both, for a credential that is bound to both.
    CertificateAndDpop(Algorithm),
}

impl Possession {
    /// Whether a client certificate is part of it.
    pub const fn has_certificate(self) -> bool {
        match self {
            Self::Certificate | Self::CertificateAndDpop(_) => true,
            Self::Dpop(_) => false,
        }
    }

    /// The algorithm of the DPoP proof that is part of it.
    pub const fn dpop(self) -> Option<Algorithm> {
        match self {
            Self::Dpop(algorithm) | Self::CertificateAndDpop(algorithm) => Some(algorithm),
            Self::Certificate => None,
        }
    }
}

impl fmt::Display for Possession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate => f.write_str("certificate"),
            Self::Dpop(algorithm) => write!(f, "dpop:{}", algorithm.name()),
            Self::CertificateAndDpop(algorithm) => write!(f, "certificate dpop:{}", algorithm.name()),
        }
    }
}

impl From<Credential> for Evidence {
    fn from(credential: Credential) -> Self {
        Self { credential, possession: None, fresh_nonce: None, second_factors: SecondFactors::new() }
    }
}
