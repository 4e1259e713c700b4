//! What clients can find out by themselves: the keys, and where the endpoints are (RFC 8414). OpenID Connect is not claimed: there
//! are no ID tokens.

use serde_json::{Value, json};

use super::Accounts;
use crate::clock::Now;

/// RFC 8414 §3: between the host and the path of the issuer's identifier.
pub const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

impl Accounts {
    /// The public keys, a JWK Set.
    pub fn jwks(&self, now: Now) -> Value {
        self.means.keys.jwks(now)
    }

    /// The path of the metadata, from the origin on.
    pub fn metadata_path(&self) -> String {
        format!("{WELL_KNOWN}{}", self.authority.path)
    }

    /// The metadata (RFC 8414 §2). There is no authorization endpoint: people sign in by the API, at the pages, or not at all.
    pub fn metadata(&self) -> Value {
        let issuer = &*self.issuer;
        let scopes: Vec<&str> = self.config.scopes.iter().map(|scope| &**scope).collect();
        json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks.json"),
            "response_types_supported": [],
            "grant_types_supported": ["refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": scopes,
        })
    }
}
