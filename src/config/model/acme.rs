//! Certificates that are ordered (RFC 8555).

use std::{path::PathBuf, sync::Arc};

use url::Url;

use super::{File, Source, Span};

/// Who orders certificates, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Where it stands in the file.
    pub span: Span,
    /// The authority's directory.
    pub directory: Url,
    /// Addresses that the authority may write to.
    pub contact: Vec<Arc<str>>,
    /// How it is shown that the names are ours.
    pub challenge: AcmeChallenge,
    /// Who vouches for the directory, instead of the machine's authorities.
    pub ca: Option<File>,
    /// The account with the authority that the orders are for.
    pub external_account: Option<ExternalAccount>,
    /// Where the account and the certificates are kept.
    pub folder: PathBuf,
    /// What is ordered, each once.
    pub orders: Vec<CertificateOrder>,
}

/// An account that somebody has with a certificate authority already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its identifier.
    pub key_id: Arc<str>,
    /// Its key, base64url.
    pub hmac_key: Source,
}

/// How it is shown that names are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a certificate of its own kind, in a handshake (RFC 8737).
    TlsAlpn,
    /// By an answer to a plain request (RFC 8555 §8.3).
    Http,
}

/// A certificate that is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateOrder {
    /// The names, as they were listed.
    pub names: Vec<Arc<str>>,
    /// The file that holds the chain and its key, once there is one.
    pub file: PathBuf,
}
