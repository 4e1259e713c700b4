//! The configuration as the gateway uses it: valid, every name resolved, every default filled in.
//! Nothing here reads a file: secrets and certificates are still [`Source`]s, read when a `Config` is compiled.
//!
//! A section of the file is a module here, by the name that it has in `document/` and `resolve/`.

mod acme;
mod address;
mod assertion;
mod authority;
mod balancing;
mod credential;
mod deletion;
mod dpop;
mod events;
mod introspection;
mod issuer;
mod limit;
mod listener;
mod notify;
mod overload;
mod own_issuer;
mod reach;
mod route;
mod server;
mod shaping;
mod streams;
mod upstream;

use std::{path::PathBuf, sync::Arc};

pub(in crate::config) use self::own_issuer::issuer_url;
pub use self::{
    acme::{Acme, AcmeChallenge, CertificateOrder, ExternalAccount},
    address::{ListenerAddress, Peers},
    assertion::{Assertion, AssertionAlgorithm, AssertionKey, Assertions},
    authority::{
        Accounts, Authority, ElevationBy, ElevationRule, Enrolment, FirstFactor, Guessing, Notices, Passkey,
        Registration, Sealing, SealingKey, SentCode, Totp,
    },
    balancing::{Balance, Balancing, Concurrency, Ejection, HashKey, HealthCheck, Retries},
    credential::{
        ApiKeys, Basic, CertificateSubject, ClientCertificates, CredentialKind, CredentialSource, CrlDepth, Lockout,
    },
    deletion::{
        Call, Covered, CoveredOperation, DeletionBreaker, DeletionPlan, Deletions, Kept, PlannedOperation,
        PlannedRequirement, Probe, Recipient, Scope, Step, TOKEN_SUBJECT, Terms, ValueSource, WhileHeld,
    },
    dpop::{DpopNonce, DpopRules},
    events::{Events, SignOut},
    introspection::{ClientAuthentication, Introspection, SecretMethod, SignedAnswers},
    issuer::{AuthTimeFormat, Bound, ClaimLayout, ClaimPath, ClaimRule, Issuer, KeySource, SecretEncoding},
    limit::{Limit, LimitKey, Rate},
    listener::{
        Alpn, CertificateFiles, ClientAuth, Http3, Listener, ListenerCertificate, ListenerMode, ListenerTls, TlsVersion,
    },
    notify::{Mail, MailLogin, MailProtection, MailServer, Notify, Webhook},
    overload::{Overload, Priority},
    reach::{Dns, ProxyVersion, Reach, UpstreamProtocol, UpstreamTls},
    route::{Auth, DeletionGuard, GuardedOperation, Rewrite, Route, RouteDeletion, When},
    server::{AccessLog, Admin, Audit, Server, ServerLimits},
    shaping::{
        Canary, Cors, CorsOrigins, Destination, HeaderRules, Mirror, OriginPattern, Redirect, RuleValue,
        SecurityHeaders, Shaping, Share, SplitBy,
    },
    streams::Upgrades,
    upstream::{MethodOverride, Target, Upstream, UpstreamCredential, UpstreamHost, UpstreamTarget},
};
use super::Span;

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, as the user named it.
    pub file: PathBuf,
    /// Sockets that clients connect to.
    pub listeners: Vec<Listener>,
    /// Who orders certificates for them.
    pub acme: Option<Arc<Acme>>,
    /// The operator's listener.
    pub admin: Admin,
    /// What holds for all listeners.
    pub server: Server,
    /// Who may vouch for a caller, in the order of the file.
    pub issuers: Vec<Arc<Issuer>>,
    /// Who else may vouch for a caller, in the order of the file; no name is an issuer's.
    pub credentials: Vec<Arc<CredentialSource>>,
    /// Named quotas.
    pub limits: Vec<Arc<Limit>>,
    /// The services behind.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Who is asked for the addresses of upstreams' names.
    pub dns: Dns,
    /// How upstreams are told of callers in a way that they can verify.
    pub assertions: Option<Arc<Assertions>>,
    /// The second-factor authority.
    pub authority: Option<Arc<Authority>>,
    /// What people and systems are told by.
    pub notify: Option<Arc<Notify>>,
    /// What protects deletions.
    pub deletion_guard: DeletionGuard,
    /// What becomes of account deletions; `None`: they are forwarded like other requests.
    pub deletions: Option<Arc<Deletions>>,
    /// What durable rows are sealed with; always there where the authority or deletion plans are.
    pub sealing: Option<Sealing>,
    /// Where attempts at guarded operations are recorded.
    pub audit: Audit,
    /// Where requests are recorded.
    pub access_log: AccessLog,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
}

/// A file that the configuration names, resolved against the configuration's folder. It is the same wherever it is named: a line
/// that moves changes nothing of what is in force.
#[derive(Debug, Clone, Eq)]
pub struct File {
    /// Where it is named.
    pub span: Span,
    /// Its path.
    pub path: PathBuf,
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

/// A secret value's place; the same wherever it is named, as a file is.
#[derive(Debug, Clone, Eq)]
pub enum Source {
    /// In a file.
    File(File),
    /// In the environment.
    Env {
        /// Where it is named.
        span: Span,
        /// The variable.
        name: Arc<str>,
    },
    /// In the configuration itself.
    Inline {
        /// Where it stands.
        span: Span,
        /// The value.
        value: crate::secret::Secret,
    },
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Env { name: one, .. }, Self::Env { name: other, .. }) => one == other,
            (Self::Inline { value: one, .. }, Self::Inline { value: other, .. }) => one == other,
            (Self::File(_) | Self::Env { .. } | Self::Inline { .. }, _) => false,
        }
    }
}

impl Source {
    /// Where it is named.
    pub fn span(&self) -> &Span {
        match self {
            Self::File(file) => &file.span,
            Self::Env { span, .. } | Self::Inline { span, .. } => span,
        }
    }
}
