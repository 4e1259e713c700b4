//! An HTTP answer as it stood on the wire. Whoever makes one checks its header names against the list below, so that a
//! header that nobody meant to send fails the test that sees it first.

use serde_json::Value;

/// Header names that the gateway may send of its own accord, and those that the suites' upstreams send through it.
const ALLOWED: &[&str] = &[
    // the gateway's
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "allow",
    "alt-svc",
    "cache-control",
    "connection",
    "content-language",
    "content-length",
    "content-type",
    "date",
    "dpop-nonce",
    "grpc-message",
    "grpc-retry-pushback-ms",
    "grpc-status",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "sec-websocket-version",
    "strict-transport-security",
    "stepgate-problem",
    "upgrade",
    "trailer",
    "transfer-encoding",
    "vary",
    "via",
    "www-authenticate",
    "x-content-type-options",
    "x-request-id",
    // the authority's, for browsers
    "content-security-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "referrer-policy",
    "x-frame-options",
    // the upstreams' (nginx and the recorder)
    "accept-ranges",
    "content-range",
    "etag",
    "last-modified",
    "server",
    "set-cookie",
    "x-upstream",
    // what routes add in the suites
    "x-shaped",
];

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The statuses of the interim answers before it.
    pub interim: Vec<u16>,
}

impl Answer {
    /// Checks the header names.
    pub fn checked(self) -> Self {
        for (name, _) in &self.headers {
            assert!(ALLOWED.contains(&name.to_ascii_lowercase().as_str()), "an unexpected header `{name}` in {self:?}");
        }
        self
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The one value of a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "`{name}` should be there once: {self:?}");
        all[0]
    }

    /// Whether a header is there.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// Checks the status, and hands the answer on.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.headers);
        self
    }

    /// Checks that this is a refusal as RFC 9457 has it, with that status, and gives the last part of its `type`.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.headers);
        assert_eq!(self.header("content-type"), "application/problem+json", "RFC 9457 section 3");
        let problem = self.json();
        assert_eq!(problem["status"], status, "RFC 9457 section 3.1.2: the same as the HTTP status");
        let request_id = problem["request_id"].as_str().expect("a problem names its request");
        assert_eq!(self.header("x-request-id"), request_id);
        assert!(problem["title"].is_string(), "RFC 9457 section 3.1.3");
        let kind = problem["type"].as_str().expect("RFC 9457 section 3.1.1");
        let lower = self.text().to_ascii_lowercase();
        for internal in ["127.0.0.1", "panick", ".rs:", "src/", "/tmp/", "os error", "hyper", "rustls"] {
            assert!(!lower.contains(internal), "a refusal tells of our insides ({internal}): {lower}");
        }
        kind.rsplit(':').next().unwrap().to_owned()
    }
}
