//! The issuer that the authority itself is, where it keeps accounts: what its access tokens must be (RFC 9068 §4).

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{AuthTimeFormat, Authority, Bound, ClaimLayout, ClaimPath, Issuer, KeySource, Span};
use crate::{jose::Algorithm, policy::IssuerName};

/// Nodes that share a store have clocks of their own.
const LEEWAY: Duration = Duration::from_secs(5);
/// Ours are far shorter.
const TOKEN_BYTES: usize = 8 << 10;

/// The identifier of an authority at an origin and a path.
pub(in crate::config) fn issuer_url(url: &Url, path: &str) -> Arc<str> {
    format!("{}{path}", url.origin().ascii_serialization()).into()
}

impl Authority {
    /// Its identifier, the `iss` of its tokens: the origin and the path (RFC 8414 §2).
    pub fn issuer_url(&self) -> Arc<str> {
        issuer_url(&self.url, &self.path)
    }
}

impl Issuer {
    /// The authority as an issuer, of this name, at this identifier, for this audience.
    pub(in crate::config) fn own(span: &Span, name: IssuerName, url: Arc<str>, audience: Arc<str>) -> Self {
        let claim = |name: &str| ClaimPath::Name(name.into());
        Self {
            span: span.clone(),
            name,
            url,
            audience: vec![audience],
            keys: KeySource::Authority,
            // Both that it can sign with: tokens outlive a change of `algorithm` by minutes.
            algorithms: [Algorithm::ES256, Algorithm::EdDSA].into_iter().collect(),
            introspection: None,
            leeway: LEEWAY,
            types: vec!["at+jwt".into()],
            type_absent: false,
            required: ["iss", "exp", "aud", "sub", "client_id", "iat", "jti", "sid"].map(Arc::from).to_vec(),
            token_bytes: TOKEN_BYTES,
            jwks_cooldown: Duration::from_secs(1),
            jwks_max_stale: Duration::from_secs(60 * 60),
            ca: None,
            dpop: None,
            claims: ClaimLayout {
                audience: claim("aud"),
                subject: claim("sub"),
                scopes: claim("scope"),
                // `acr` is the first of them, as RFC 9068 has one.
                acr: claim("acrs"),
                amr: claim("amr"),
                auth_time: claim("auth_time"),
                client: None,
            },
            auth_time_format: AuthTimeFormat::Number,
            expect: Vec::new(),
            machine: Vec::new(),
            events: None,
            bound: Bound::None,
        }
    }
}
