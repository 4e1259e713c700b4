//! What we publish of ourselves: the protected resource's metadata (RFC 9728), by which clients learn who issues tokens for
//! what is behind us, and the keys by which upstreams verify what we tell them.

use serde_json::{Value, json};

use super::{Inbound, refusal::METADATA_PATH};
use crate::{
    assertion::Assertions,
    authority::accounts::{Accounts, WELL_KNOWN},
    clock::Now,
    config::{Bound, ClientAuth, ListenerMode},
    jose::Algorithm,
    route::NormalPath,
    runtime::Snapshot,
};

/// A document of our own.
#[derive(Debug)]
pub enum Document<'a> {
    /// The metadata of the resource at an origin and path; the whole origin, where the path is empty (RFC 9728 §3.1).
    Resource {
        /// Where it is looked up.
        snapshot: &'a Snapshot,
        /// `https` or `http`.
        scheme: &'a str,
        /// The host, port included.
        authority: &'a str,
        /// The resource's path.
        path: &'a str,
    },
    /// The public keys of assertions (RFC 7517 §5).
    Keys(&'a Assertions),
    /// Where the accounts' tokens come from (RFC 8414).
    Accounts(&'a Accounts),
}

/// The document that a request is for. `None` where it asks for something else, or where a route of the configuration names
/// that path itself.
pub(super) fn find<'a>(snapshot: &'a Snapshot, inbound: &'a Inbound, path: &'a NormalPath<'_>) -> Option<Document<'a>> {
    let of_ours = path.as_str().strip_prefix(METADATA_PATH).filter(|path| path.is_empty() || path.starts_with('/'));
    let document = match (of_ours, snapshot.assertions.as_deref()) {
        (Some(resource), _) => {
            Document::Resource { snapshot, scheme: inbound.scheme, authority: &inbound.site.authority, path: resource }
        }
        (None, Some(assertions)) if assertions.jwks_path() == path.as_str() => Document::Keys(assertions),
        (None, _) => {
            let accounts = snapshot.authority.as_deref()?.accounts()?;
            Document::Accounts((accounts.metadata_path() == path.as_str()).then_some(accounts)?)
        }
    };
    let prefix = document.prefix();
    let at = snapshot.table.routes_at(&inbound.site.host, path);
    let mut routes = at.routes().filter_map(|number| snapshot.routes.get(number));
    let is_named = routes.any(|route| route.pattern.as_str().starts_with(prefix));
    (!is_named).then_some(document)
}

impl Document<'_> {
    /// A phrase for `explain`.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Resource { .. } => "the metadata that tells callers where to get a token (RFC 9728)",
            Self::Accounts(_) => "where the authority's accounts get their tokens (RFC 8414)",
            Self::Keys(_) => "the public keys by which upstreams verify what the gateway tells them (RFC 7517)",
        }
    }

    fn prefix(&self) -> &str {
        match self {
            Self::Resource { .. } => METADATA_PATH,
            Self::Keys(assertions) => assertions.jwks_path(),
            Self::Accounts(_) => WELL_KNOWN,
        }
    }

    /// Its media type and its text.
    pub(super) fn render(&self, now: Now) -> (&'static str, String) {
        match self {
            Self::Resource { snapshot, scheme, authority, path } => {
                ("application/json", resource(snapshot, &format!("{scheme}://{authority}{path}")))
            }
            Self::Keys(assertions) => ("application/jwk-set+json", assertions.jwks(now)),
            Self::Accounts(accounts) => ("application/json", format!("{}\n", accounts.metadata())),
        }
    }
}

fn resource(snapshot: &Snapshot, identifier: &str) -> String {
    let servers: Vec<&str> = snapshot.authorization_servers.iter().map(|server| &**server).collect();
    let scopes: Vec<&str> = snapshot.scopes.iter().map(|scope| &**scope).collect();
    let mut document = json!({
        "resource": identifier,
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
    });
    if let (Value::Object(members), false) = (&mut document, scopes.is_empty()) {
        members.insert("scopes_supported".into(), json!(scopes));
    }
    let dpop = snapshot.authenticator.accepted(&[]).dpop();
    if let (Value::Object(members), false) = (&mut document, dpop.is_empty()) {
        let names: Vec<&str> = dpop.iter().map(Algorithm::name).collect();
        members.insert("dpop_signing_alg_values_supported".into(), json!(names));
        let mut issuers = snapshot.config.issuers.iter();
        // RFC 9728 §2: required, if every token that is taken anywhere must be so bound.
        if issuers.all(|issuer| issuer.bound == Bound::Dpop) {
            members.insert("dpop_bound_access_tokens_required".into(), json!(true));
        }
    }
    if let (Value::Object(members), true) = (&mut document, asks_for_certificates(snapshot)) {
        // RFC 8705 §3.4 and RFC 9728 §2: supported, whether an issuer must use it or not.
        members.insert("tls_client_certificate_bound_access_tokens".into(), json!(true));
    }
    format!("{document}\n")
}

/// Whether a client can show a certificate that a token could be bound to.
fn asks_for_certificates(snapshot: &Snapshot) -> bool {
    snapshot.config.listeners.iter().any(|listener| match &listener.mode {
        ListenerMode::Tls(tls) => tls.client_auth != ClientAuth::Off,
        ListenerMode::RedirectToHttps(_) | ListenerMode::Cleartext => false,
    })
}
