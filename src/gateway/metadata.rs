//! The protected resource's metadata (RFC 9728): where clients learn who issues tokens for what is behind us.

use http::Method;
use serde_json::{Value, json};

use super::{Refusal, refusal::METADATA_PATH};
use crate::{route::NormalPath, runtime::Snapshot};

/// The resource whose metadata a path asks for: the whole origin, or a path below it (RFC 9728 §3.1). `None` where it asks
/// for something else, or where a route of the configuration names that path itself.
pub fn resource_path<'p>(snapshot: &Snapshot, host: &str, path: &'p NormalPath<'_>) -> Option<&'p str> {
    let resource = path.as_str().strip_prefix(METADATA_PATH)?;
    let at = snapshot.table.routes_at(host, path);
    let mut routes = at.routes().filter_map(|number| snapshot.routes.get(number));
    let is_named = routes.any(|route| route.pattern.as_str().starts_with(METADATA_PATH));
    (!is_named && (resource.is_empty() || resource.starts_with('/'))).then_some(resource)
}

/// Whether a method may be used on the metadata: it is there to be read.
pub fn check_method(method: &Method) -> Result<(), Refusal> {
    if [Method::GET, Method::HEAD].contains(method) {
        Ok(())
    } else {
        Err(Refusal::method_not_allowed(vec![Method::GET, Method::HEAD]))
    }
}

/// The metadata of the resource at an origin and path.
pub(super) fn document(snapshot: &Snapshot, scheme: &str, authority: &str, path: &str) -> Vec<u8> {
    let servers: Vec<&str> = snapshot.authorization_servers.iter().map(|server| &**server).collect();
    let scopes: Vec<&str> = snapshot.scopes.iter().map(|scope| &**scope).collect();
    let mut document = json!({
        "resource": format!("{scheme}://{authority}{path}"),
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
    });
    if let (Value::Object(members), false) = (&mut document, scopes.is_empty()) {
        members.insert("scopes_supported".into(), json!(scopes));
    }
    let mut text = document.to_string();
    text.push('\n');
    text.into_bytes()
}
