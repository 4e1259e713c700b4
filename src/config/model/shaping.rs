//! What a route does to requests and answers besides passing them on: header rules, CORS, redirects, copies, canaries.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{Span, Upstream};
use crate::config::route_text::RouteText;

/// Where the requests of a route go.
#[derive(Debug, Clone)]
pub enum Destination {
    /// To a service.
    Upstream(Arc<Upstream>),
    /// Elsewhere, by the client itself.
    Redirect(Box<Redirect>),
}

/// Where a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme, host and port, as in the file; `None`: those that the client asked for.
    pub origin: Option<Arc<str>>,
    /// The path, which begins with `/`.
    pub path: RouteText,
    /// The query.
    pub query: Option<RouteText>,
    /// What stands behind `#`.
    pub fragment: Option<Arc<str>>,
    /// One of 301, 302, 303, 307 and 308.
    pub status: StatusCode,
}

/// What a route does besides passing requests on.
#[derive(Debug, Clone, Default)]
pub struct Shaping {
    /// What changes in the fields of requests.
    pub request_headers: HeaderRules,
    /// What changes in the fields of answers.
    pub response_headers: HeaderRules,
    /// Fields that keep browsers from harm.
    pub security_headers: Option<SecurityHeaders>,
    /// Which pages of other origins may ask.
    pub cors: Option<Cors>,
    /// The longest body, in place of the server's.
    pub body_bytes: Option<u64>,
    /// How long the head of an answer may take, in place of the upstream's.
    pub response_timeout: Option<Duration>,
    /// How long a whole exchange may take, in place of the upstream's.
    pub request_timeout: Option<Duration>,
    /// Who gets a copy.
    pub mirror: Option<Mirror>,
    /// Who gets a share of the requests.
    pub canary: Option<Canary>,
}

/// What changes in the fields of a message: what is removed goes first, then comes what is set, then what is added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Fields of which none is left.
    pub remove: Box<[HeaderName]>,
    /// Fields in the place of all of that name.
    pub set: Box<[(HeaderName, RuleValue)]>,
    /// Fields beside those of that name.
    pub add: Box<[(HeaderName, RuleValue)]>,
}

/// What a rule puts into a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleValue {
    /// Always the same.
    Fixed(HeaderValue),
    /// Values of the request are in it.
    Text(RouteText),
}

impl HeaderRules {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Fields that keep browsers from harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityHeaders {
    /// The fields.
    pub fields: Box<[(HeaderName, HeaderValue)]>,
    /// `Strict-Transport-Security`, which is said over TLS alone (RFC 6797 §7.2).
    pub hsts: Option<HeaderValue>,
    /// Whether these stand in the place of what an upstream says.
    pub overrides: bool,
}

/// Which pages of other origins may ask (WHATWG Fetch §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The origins.
    pub origins: CorsOrigins,
    /// The methods; `None`: all that the route takes.
    pub methods: Option<Box<[Method]>>,
    /// The fields of requests that a page may set besides those that it always may.
    pub headers: Box<[HeaderName]>,
    /// `Access-Control-Expose-Headers`: what a page may read besides what it always may.
    pub expose: HeaderValue,
    /// Whether cookies and certificates go along.
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

/// Origins of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Every one, without credentials.
    Any,
    /// These.
    Listed(Box<[OriginPattern]>),
}

/// An origin, or those below a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OriginPattern {
    /// Exactly this, as a browser writes it.
    Exact(Arc<str>),
    /// Every host below one: `https://` and `.example:8443`.
    Below(Arc<str>, Arc<str>),
}

impl OriginPattern {
    /// Whether an origin, as a browser writes it, is one of these.
    pub fn matches(&self, origin: &str) -> bool {
        let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
        match self {
            Self::Exact(exact) => **exact == *origin,
            Self::Below(scheme, suffix) => origin
                .strip_prefix(&**scheme)
                .and_then(|rest| rest.strip_suffix(&**suffix))
                .is_some_and(|front| !front.is_empty() && !front.starts_with('.') && front.bytes().all(is_label)),
        }
    }
}

/// Who gets a copy of requests.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Where it stands in the file.
    pub span: Span,
    /// The service.
    pub upstream: Arc<Upstream>,
    /// Of how many requests.
    pub share: Share,
    /// The longest body that is copied.
    pub body_bytes: usize,
    /// Whether the client's cookies go along.
    pub cookies: bool,
}

/// Who gets a share of the requests in the place of the route's own upstream.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Where it stands in the file.
    pub span: Span,
    /// The service.
    pub upstream: Arc<Upstream>,
    /// Of how many requests.
    pub share: Share,
    /// What stays together.
    pub by: SplitBy,
}

/// A part of all requests, in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(10_000);

    /// So many ten-thousandths; `None` for more than all.
    pub const fn new(of_ten_thousand: u16) -> Option<Self> {
        if of_ten_thousand <= Self::ALL.0 { Some(Self(of_ten_thousand)) } else { None }
    }

    /// Whether a point on the circle of all hashes lies within. What lies within stays there as the share grows.
    pub const fn has(self, hash: u64) -> bool {
        // The multiplication maps all of `u64` evenly onto 0..10000.
        ((hash as u128 * Self::ALL.0 as u128) >> 64) < self.0 as u128
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole} %"),
            rest if rest % 10 == 0 => write!(f, "{whole}.{} %", rest / 10),
            rest => write!(f, "{whole}.{rest:02} %"),
        }
    }
}

/// What stays together when requests are divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitBy {
    /// Nothing: each request is on its own.
    Request,
    /// What one caller asks: by issuer and subject, or by address where there is no caller.
    Subject,
    /// What one address asks (IPv6 by /64).
    Ip,
    /// What has the same value in a field; a request without it stays with the route's own upstream.
    Header(HeaderName),
    /// What has the same cookie; likewise.
    Cookie(Arc<str>),
}

impl std::fmt::Display for SplitBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request => f.write_str("request"),
            Self::Subject => f.write_str("subject"),
            Self::Ip => f.write_str("ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_below_a_host_have_a_name_of_their_own() {
        let below = OriginPattern::Below("https://".into(), ".app.example".into());
        for (origin, fits) in [
            ("https://a.app.example", true),
            ("https://a.b.app.example", true),
            ("https://app.example", false),
            ("https://.app.example", false),
            ("http://a.app.example", false),
            ("https://a.app.example:8443", false),
            ("https://a.app.example.evil.example", false),
            ("https://evil.example/.app.example", false),
            ("https://evil.example:1@a.app.example", false),
            ("https://A.app.example", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(below.matches(origin), fits, "{origin}");
        }
        assert!(OriginPattern::Exact("https://app.example".into()).matches("https://app.example"));
        assert!(!OriginPattern::Exact("https://app.example".into()).matches("https://app.example:443"));
    }

    #[test]
    fn a_share_is_even_and_grows_without_taking_back() {
        let points = || (0..100_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let of = |share: u16| points().filter(|point| Share(share).has(*point)).count();
        assert_eq!((of(0), of(10_000)), (0, 100_000));
        assert!((4_900..5_100).contains(&of(500)), "{}", of(500));
        assert!(points().filter(|point| Share(500).has(*point)).all(|point| Share(501).has(point)));
        assert!(Share::ALL.has(u64::MAX) && !Share(9_999).has(u64::MAX) && Share(1).has(0) && !Share(0).has(0));
        assert_eq!(
            (Share(500).to_string(), Share(1).to_string(), Share(50).to_string()),
            ("5 %".into(), "0.01 %".into(), "0.5 %".into())
        );
        assert_eq!(Share::new(10_001), None);
    }
}
