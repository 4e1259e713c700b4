//! The services behind.

use std::{sync::Arc, time::Duration};

use super::{Assertion, Balancing, File, ProxyVersion, Reach, Source, Span, UpstreamProtocol, UpstreamTls};

/// A service behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name.
    pub name: Arc<str>,
    /// Where it answers: scheme, host and port, without a path; never empty.
    pub targets: Vec<UpstreamTarget>,
    /// What is spoken with it.
    pub protocol: UpstreamProtocol,
    /// Whether connections are introduced, and how.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How long a connection (TCP and TLS) may take.
    pub connect_timeout: Duration,
    /// How long the head of the answer may take once the request was sent.
    pub response_timeout: Duration,
    /// How long a request may take, all attempts together, until the end of its answer.
    pub request_timeout: Option<Duration>,
    /// How requests are spread over the targets, and what bounds them.
    pub balancing: Balancing,
    /// Whether the identity headers are added.
    pub identity_headers: bool,
    /// Whether the caller's `Authorization` goes through.
    pub forward_authorization: bool,
    /// A credential of the gateway's own, put in the caller's place.
    pub credential: Option<UpstreamCredential>,
    /// A signed token about the caller; only where there are [`Config::assertions`](super::Config::assertions).
    pub assertion: Option<Assertion>,
    /// Which method overrides the service honours; empty: none.
    pub method_override: Vec<MethodOverride>,
    /// The longest body that is read before the decision, where `method_override` has `form` or `json`.
    pub form_bytes: usize,
    /// What it is told as `Host`.
    pub host: UpstreamHost,
    /// Certificates that vouch for https targets, instead of the machine's.
    pub ca: Option<File>,
    /// How TLS is spoken besides.
    pub tls: UpstreamTls,
}

impl Upstream {
    /// The field of the gateway's own credential.
    pub fn credential_field(&self) -> Option<http::HeaderName> {
        self.credential.as_ref().map(|credential| match credential {
            UpstreamCredential::Basic { .. } => http::header::AUTHORIZATION,
            UpstreamCredential::Header { name, .. } => name.clone(),
        })
    }

    /// The field of the signed token about the caller.
    pub fn assertion_field(&self) -> Option<http::HeaderName> {
        self.assertion.as_ref().map(|assertion| assertion.header.clone())
    }
}

/// A target of a service, and its share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTarget {
    /// Where it answers.
    pub address: Target,
    /// Its share of the requests, in relation to the others'; from 1.
    pub weight: u16,
    /// How its places are found.
    pub reach: Reach,
}

impl UpstreamTarget {
    /// Whether both may lead to one place, where their addresses are the same.
    pub fn is_beside(&self, other: &Self) -> bool {
        match (&self.reach, &other.reach) {
            (Reach::Unix(one), Reach::Unix(two)) => one == two,
            (Reach::Unix(_), _) | (_, Reach::Unix(_)) => false,
            // However they are found, it is the name's places.
            (Reach::Host | Reach::EachAddress | Reach::Services(_), _) => true,
        }
    }
}

/// One address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name or an address, as a URL's host has it (IPv6 in brackets).
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// What an upstream is told as `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client said.
    Preserve,
    /// The target's own host and port.
    Target,
}

/// A credential of the gateway's own for an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamCredential {
    /// RFC 7617.
    Basic {
        /// The user name.
        username: Arc<str>,
        /// The password.
        password: Source,
    },
    /// A header with a secret value.
    Header {
        /// Its name.
        name: http::HeaderName,
        /// Its value.
        value: Source,
    },
}

/// A way to say another method than the request line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodOverride {
    /// `X-HTTP-Method-Override`, `X-HTTP-Method` or `X-Method-Override`.
    Header,
    /// `_method` in the query, or ASP.NET's name.
    Query,
    /// The same in a form body.
    Form,
    /// The same in a JSON body.
    Json,
}

impl MethodOverride {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Header, Self::Query, Self::Form, Self::Json];

    /// Whether it is said in the body.
    pub const fn is_in_body(self) -> bool {
        matches!(self, Self::Form | Self::Json)
    }
}
