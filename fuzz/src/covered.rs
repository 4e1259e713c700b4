//! Other ways to a deletion that a plan takes over.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use http::{HeaderMap, HeaderValue, Method, header};
use stepgate::{
    config::{self, Deletions, Input},
    gateway::covered::{self, Seen},
    route::NormalPath,
};

const CONFIG: &str = r#"
listeners: [{address: 127.0.0.1:8080, cleartext: true}]
issuers: {main: {issuer: "https://idp.example/", audience: [a], keys: {discovery: true}, algorithms: [RS256]}}
sealing: {key: {file: key}}
upstreams: {api: {targets: [http://127.0.0.1:9100]}}
deletions:
  url: https://api.example
  plans:
    account:
      operations: ["DELETE /accounts/{id}"]
      covers: [{match: "* /graphql", mutations: [deleteAccount]}, {match: "* /batch", batch: true}]
      subject: path.id
      scope: {summary: All, erased: [All]}
      steps: [{name: one, upstream: api, request: "DELETE /accounts/{subject}"}]
routes: [{path: /**, upstream: api, auth: [main]}]
"#;

static DELETIONS: LazyLock<Arc<Deletions>> = LazyLock::new(|| {
    let input = Input { file: Path::new("gateway.yaml"), text: CONFIG, base: Path::new("/"), env: &|_| None };
    let loaded = config::load(&input).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.config.deletions.unwrap_or_else(|| panic!("no deletions"))
});

fn passes(path: &str, query: Option<&str>, kind: &'static str, body: &[u8]) -> bool {
    let normal = NormalPath::parse(path).unwrap_or_else(|fault| panic!("{fault}"));
    let covers = covered::find(&DELETIONS, &[&normal], [&Method::POST, &Method::POST]);
    assert!(covered::needs_body(&covers));
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let seen = Seen { method: &Method::POST, path, query, headers: &headers, body };
    covered::judge(&DELETIONS, &covers, &seen).is_ok()
}

/// A request to a GraphQL endpoint and to one for batches: whatever stands before or behind it, beside it or around it, what is covered
/// is found, or the whole is refused.
pub fn covered_request(data: &[u8]) {
    const JSON: &str = "application/json";
    const DELETION: &str = r#"{"method": "DELETE", "path": "/accounts/42"}"#;
    for kind in [JSON, "application/graphql", "application/x-www-form-urlencoded", "text/plain", ""] {
        passes("/graphql", None, kind, data);
    }
    passes("/batch", None, JSON, data);
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(!passes("/graphql", None, JSON, data) && !passes("/batch", None, JSON, data));
        return;
    };
    passes("/graphql", Some(text), JSON, b"");
    let before = format!("{text} mutation Zz {{ deleteAccount }}");
    let behind = format!("mutation Zz {{ deleteAccount }} {text}");
    for document in [before, behind] {
        let body = serde_json::json!({ "query": document }).to_string();
        assert!(!passes("/graphql", None, JSON, body.as_bytes()), "{document:?}");
        assert!(!passes("/graphql", None, "application/graphql", document.as_bytes()), "{document:?}");
    }
    let harmless = format!("[{text}, {{\"query\": \"mutation {{ deleteAccount }}\"}}]");
    assert!(!passes("/graphql", None, JSON, harmless.as_bytes()), "{harmless:?}");
    for batch in [
        format!("[{text}, {DELETION}]"),
        format!("[{DELETION}, {text}]"),
        format!("{{\"a\": {text}, \"b\": [{DELETION}]}}"),
    ] {
        assert!(!passes("/batch", None, JSON, batch.as_bytes()), "{batch:?}");
    }
}
