//! How an issuer is asked about tokens that cannot be read here.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{CertificateFiles, Source, Span};

/// How an issuer is asked about tokens (RFC 7662).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// Where it stands in the file.
    pub span: Span,
    /// The endpoint; `None`: the one that the issuer's metadata names.
    pub url: Option<Url>,
    /// The gateway's own client identifier.
    pub client_id: Arc<str>,
    /// How the gateway proves to be that client.
    pub client: ClientAuthentication,
    /// How long one question may take.
    pub timeout: Duration,
    /// How long an active token is believed; zero: not at all.
    pub cache: Duration,
    /// How long a token that is not active is refused without asking; zero: not at all.
    pub negative_cache: Duration,
    /// Whether answers are signed.
    pub signed: SignedAnswers,
    /// How many questions may be under way at once.
    pub concurrent: usize,
    /// The members that an answer must have.
    pub required: Vec<Arc<str>>,
    /// What the issuer's opaque tokens begin with.
    pub prefix: Option<Arc<str>>,
}

/// How the gateway proves to an issuer that it is its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// By a secret.
    Secret {
        /// The secret.
        secret: Source,
        /// How it is sent.
        method: SecretMethod,
    },
    /// By a signed assertion (RFC 7523 §2.2).
    PrivateKey {
        /// The key, PEM.
        key: Source,
        /// Its name at the issuer.
        key_id: Option<Arc<str>>,
    },
    /// By a certificate in the TLS handshake (RFC 8705 §2).
    Certificate(CertificateFiles),
}

/// How a client's secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretMethod {
    /// As `Authorization: Basic` (RFC 6749 §2.3.1).
    Basic,
    /// In the form.
    Post,
}

/// Whether answers are JWTs that the issuer signed (RFC 9701).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedAnswers {
    /// They are plain JSON.
    Off,
    /// Asked for; plain JSON is believed, too.
    Preferred,
    /// Asked for, and nothing else is believed.
    Required,
}
