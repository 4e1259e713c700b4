//! Sources that vouch for callers without tokens: API keys, users, client certificates.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{File, Span};
use crate::policy::IssuerName;

/// A source of callers that is no issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSource {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name in the configuration.
    pub name: IssuerName,
    /// What its credentials are.
    pub kind: CredentialKind,
}

/// What the credentials of a source are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialKind {
    /// API keys.
    ApiKeys(ApiKeys),
    /// User names and passwords.
    Basic(Basic),
    /// Client certificates.
    ClientCertificates(ClientCertificates),
}

impl CredentialKind {
    /// The keys, if it is a source of API keys.
    pub fn api_keys(&self) -> Option<&ApiKeys> {
        if let Self::ApiKeys(keys) = self { Some(keys) } else { None }
    }

    /// The users, if it is a source of user names and passwords.
    pub fn basic(&self) -> Option<&Basic> {
        if let Self::Basic(basic) = self { Some(basic) } else { None }
    }

    /// The authorities, if it is a source of client certificates.
    pub fn client_certificates(&self) -> Option<&ClientCertificates> {
        if let Self::ClientCertificates(certificates) = self { Some(certificates) } else { None }
    }
}

/// API keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// Where they are kept, as hashes.
    pub file: File,
    /// The header that carries one, folded (lower case, `-` for `_`).
    pub header: Arc<str>,
    /// Whether one may be the user name of Basic credentials without a password.
    pub basic_username: bool,
    /// The parameter of the query that may carry one.
    pub danger_query: Option<Arc<str>>,
    /// Whether they are taken over connections without TLS.
    pub danger_cleartext: bool,
    /// What they begin with, before an underscore.
    pub prefix: Arc<str>,
}

/// User names and passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    /// Where the users are kept, with hashes of their passwords.
    pub file: File,
    /// What a client is told that the password is for.
    pub realm: Arc<str>,
    /// Scopes of every user.
    pub scopes: Vec<Arc<str>>,
    /// How many passwords are hashed at once.
    pub concurrent: usize,
    /// How many may wait for it.
    pub queue: usize,
    /// How long a right password is known; zero: not at all.
    pub cache: Duration,
    /// What guessing leads to.
    pub lockout: Lockout,
    /// `danger_cleartext: true`.
    pub danger_cleartext: bool,
}

/// What guessing passwords leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockout {
    /// Wrong passwords for a user from an address until the first lock.
    pub failures: u32,
    /// How long the first lock lasts; each further one twice as long.
    pub first: Duration,
    /// The longest lock.
    pub longest: Duration,
    /// Wrong passwords for a user, wherever they come from, in a period.
    pub per_user: (NonZeroU32, Duration),
    /// Wrong passwords from an address, whomever they are for, in a period.
    pub per_address: (NonZeroU32, Duration),
    /// Networks in which every user is familiar.
    pub familiar: Vec<IpNet>,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities whose certificates this source takes.
    pub ca: File,
    /// Where a certificate names its subject.
    pub subject: CertificateSubject,
    /// Patterns of which one must match the subject; empty: any subject.
    pub allow: Vec<Arc<str>>,
    /// Lists of revoked certificates; empty: revocation is not checked.
    pub crl: Vec<File>,
    /// Which certificates must not be revoked.
    pub crl_depth: CrlDepth,
    /// Whether a list is believed after its `nextUpdate`.
    pub danger_expired_crl: bool,
    /// The scopes of its callers.
    pub scopes: Vec<Arc<str>>,
    /// Whether persons stand behind the certificates.
    pub person: bool,
}

/// Where a certificate names its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateSubject {
    /// The whole subject, in the form of RFC 4514.
    SubjectDn,
    /// The subject's one common name.
    CommonName,
    /// The one DNS name among the subject's alternative names, lower case.
    SanDns,
    /// The one URI among them.
    SanUri,
    /// The one e-mail address among them.
    SanEmail,
}

/// Which certificates of a chain must not be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlDepth {
    /// All below the authority: each needs a list of its issuer.
    Chain,
    /// The client's own alone.
    Leaf,
}
