//! Ways round a plan, as an attacker would write them, and harmless requests that must pass.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use super::*;
use crate::config::{Input, load};

const CONFIG: &str = r#"
listeners: [{address: 127.0.0.1:8080, cleartext: true}]
issuers:
  main: {issuer: https://idp.example/, audience: [a], keys: {discovery: true}, algorithms: [RS256]}
upstreams: {api: {targets: [http://127.0.0.1:9100]}}
sealing: {key: {file: sealing.key}}
deletions:
  url: https://api.example
  plans:
    account:
      operations: ["DELETE /accounts/{id}"]
      covers:
        - "POST /v1/account/delete"
        - "GET /account/remove"
        - {match: "* /graphql", mutations: [deleteAccount, eraseMe]}
        - {match: POST /api/batch, batch: true}
      subject: path.id
      scope: {summary: Your account, erased: [Everything]}
      steps: [{name: account, upstream: api, request: "DELETE /accounts/{subject}"}]
routes: [{path: /**, upstream: api, auth: [main]}]
"#;

pub(super) fn deletions() -> std::sync::Arc<Deletions> {
    let input = Input { file: Path::new("gateway.yaml"), text: CONFIG, base: Path::new("/etc"), env: &|_| None };
    load(&input).unwrap().config.deletions.unwrap()
}

/// What becomes of a request: `Ok` passes.
fn judged(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(), Fault> {
    let deletions = deletions();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = NormalPath::parse(path).unwrap();
    let method: Method = method.parse().unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let covers = find(&deletions, &[&path], [&method, &method]);
    judge(&deletions, &covers, &Seen { method: &method, path: path.as_str(), query, headers: &map, body })
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn json(body: &str) -> Result<(), Fault> {
    judged("POST", "/graphql", &[JSON], body.as_bytes())
}

/// A document as the whole of a JSON request.
fn document(text: &str) -> Result<(), Fault> {
    json(&serde_json::json!({ "query": text }).to_string())
}

fn batch(body: &str) -> Result<(), Fault> {
    judged("POST", "/api/batch", &[JSON], body.as_bytes())
}

fn unreadable(result: Result<(), Fault>) -> bool {
    matches!(result, Err(Fault::Unreadable(_)))
}

#[test]
fn whole_operations_are_refused_in_every_spelling_of_them() {
    for target in [
        "/v1/account/delete",
        "/V1/Account/DELETE",
        "/v1/account/delete/",
        "/v1/account/delete;x=1",
        "/v1/account/delete?x",
    ] {
        assert_eq!(judged("POST", target, &[], b""), Err(Fault::Whole), "{target}");
    }
    assert_eq!(judged("HEAD", "/account/remove", &[], b""), Err(Fault::Whole), "a HEAD is answered as a GET is");
    assert_eq!(judged("GET", "/v1/account/delete", &[], b""), Ok(()));
    assert_eq!(judged("POST", "/v1/account", &[], b""), Ok(()));
}

#[test]
fn a_mutation_is_found_however_it_is_named_and_nested() {
    for text in [
        "mutation { deleteAccount(id: 1) { ok } }",
        "mutation{deleteAccount}",
        "mutation Harmless { me: deleteAccount(id: 1) }",
        "mutation($a: In = {x: {y: [1]}}) @dir(a: {b: 1}) { touch, deleteAccount(in: $a) }",
        "query Q { me { id } } mutation M { eraseMe }",
        "{ me } mutation { deleteAccount }",
        "mutation { ...A } fragment A on Mutation { ...B } fragment B on Mutation { x: deleteAccount }",
        "fragment A on Mutation { deleteAccount } mutation { ... on Mutation { ...A } }",
        "mutation { ... { ... @include(if: true) { eraseMe } } }",
        "mutation { ...A } fragment A on Mutation { ok } fragment A on Mutation { deleteAccount }",
        "mutation { ...A } fragment A on Mutation { ...B ok } fragment B on Mutation { ...A deleteAccount }",
        "mutation # a comment \r{ deleteAccount }",
        "\u{feff}mutation { deleteAccount }",
        "mutation\n,,,\t{,,deleteAccount,,}",
        "mutation { deleteAccount: touch, x: deleteAccount }",
        "mutation { deleteAccount @skip(if: true) }",
    ] {
        assert_eq!(document(text), Err(Fault::Mutation), "{text}");
    }
}

#[test]
fn what_only_looks_like_it_passes() {
    for text in [
        "{ me { id } }",
        "query deleteAccountStatus { status }",
        "mutation deleteAccount { updateAccount }",
        "mutation { deleteAccount: updateAccount }",
        "mutation { updateAccount { deleteAccount } }",
        "query { deleteAccount }",
        "mutation { update(reason: deleteAccount) }",
        "mutation { deleteAccountLater undeleteAccount deleteAccount_2 }",
        "mutation { ...A } fragment A on Mutation { ok ...A }",
        "mutation { ok } fragment Unused on Mutation { deleteAccount }",
        "not GraphQL at all",
    ] {
        assert_eq!(document(text), Ok(()), "{text}");
    }
}

#[test]
fn a_name_where_readers_could_disagree_is_refused() {
    for text in [
        "mutation { update(note: \"deleteAccount\") }",
        "mutation { ok } # deleteAccount",
        "mutation { ok # \u{2028} deleteAccount \n }",
        "mutation { f(a: \"\"\" \" deleteAccount \" \"\"\") }",
        "mutation { deleteAccount",
        "mutation { deleteAccount(\u{0} } }",
        "type Mutation { deleteAccount: Int }",
        "extend type Query { deleteAccount: Int } mutation { x }",
        "mutation { d\u{200b}eleteAccount deleteAccount }",
        "mutaton { deleteAccount }",
    ] {
        assert!(unreadable(document(text)) || document(text) == Err(Fault::Mutation), "{text}: {:?}", document(text));
    }
    let deep = format!("mutation {}x{} {{ deleteAccount }}", "{ a ".repeat(10_000), "}".repeat(10_000));
    assert!(unreadable(document(&deep)));
    let objects = format!("mutation {{ a(x: {}1{}) deleteAccount }}", "{a:".repeat(10_000), "}".repeat(10_000));
    assert!(unreadable(document(&objects)));
    let long = format!("mutation {{ {} deleteAccount }}", "a ".repeat(100_000));
    assert!(unreadable(document(&long)));
}

#[test]
fn every_text_of_a_request_is_judged() {
    for body in [
        r#"{"query": "mutation { \u0064eleteAccount }"}"#,
        r#"{"\u0071uery": "mutation { deleteAccount }"}"#,
        r#"{"query": "{ me }", "query": "mutation { deleteAccount }"}"#,
        r#"{"query": "mutation { deleteAccount }", "query": "{ me }"}"#,
        r#"{"Query": "mutation { deleteAccount }", "query": "{ me }"}"#,
        r#"[{"query": "{ me }"}, {"query": "mutation { deleteAccount }"}]"#,
        r#"{"query": "query A { me } mutation B { deleteAccount }", "operationName": "A"}"#,
        "\u{feff}{\"query\": \"mutation { deleteAccount }\"}",
    ] {
        assert_eq!(json(body), Err(Fault::Mutation), "{body}");
    }
    assert_eq!(
        json(r#"{"query": "{ me }", "variables": {"a": [1, null]}, "operationName": null, "extensions": {}}"#),
        Ok(())
    );
    assert_eq!(json(r#"[{"query": "{ a }"}, {"query": "mutation { b }"}]"#), Ok(()));
    // Automatic persisted queries send the text beside its hash, which the service compares.
    let hash = r#"{"query": "{ me }", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}"#;
    assert_eq!(json(hash), Ok(()));
}

#[test]
fn a_request_without_a_text_that_can_be_read_is_refused() {
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "\"mutation { deleteAccount }\"",
        r#"{"query": null}"#,
        r#"{"query": ["mutation { deleteAccount }"]}"#,
        r#"{"query": {"text": "mutation { deleteAccount }"}}"#,
        r#"{"id": "abc"}"#,
        r#"{"documentId": "abc", "query": "{ me }"}"#,
        r#"{"doc_id": "7", "query": "{ me }"}"#,
        r#"{"extensions": {"persistedQuery": {"sha256Hash": "ab"}}}"#,
        r#"[{"query": "{ me }"}, {"id": "abc"}]"#,
        r#"[{"query": "{ me }"}, [{"query": "mutation { deleteAccount }"}]]"#,
        r#"{"query": "{ me }"} {"query": "mutation { deleteAccount }"}"#,
        r#"{"query": "{ me }", }"#,
        r#"{'query': 'mutation { deleteAccount }'}"#,
        r#"{"query": "\ud800"}"#,
        "/* */ {\"query\": \"{ me }\"}",
    ] {
        assert!(unreadable(json(body)), "{body}: {:?}", json(body));
    }
    let many = format!("[{}]", vec![r#"{"query":"{a}"}"#; 101].join(","));
    assert!(unreadable(json(&many)));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(unreadable(json(&deep)));
}

#[test]
fn the_type_of_a_body_hides_nothing() {
    let attack = |kind: &[(&str, &str)], body: &[u8]| judged("POST", "/graphql", kind, body);
    let with = |kind: &'static str| [("content-type", kind)];
    let mutation = br#"{"query": "mutation { deleteAccount }"}"#;
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "application/graphql",
        "application/graphql+json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "",
        "APPLICATION/JSON",
        "x/y",
    ] {
        assert!(attack(&with(kind), mutation).is_err(), "{kind}");
    }
    assert!(attack(&[], mutation).is_err());
    // Escaped in JSON, under the type of the text itself.
    assert!(attack(&with("application/graphql"), br#"{"query": "mutation { \u0064eleteAccount }"}"#).is_err());
    assert!(
        attack(&with("application/x-www-form-urlencoded"), br#"{"query": "mutation { \u0064eleteAccount }"}"#).is_err()
    );
    let raw = b"mutation { deleteAccount }";
    assert_eq!(attack(&with("application/graphql"), raw), Err(Fault::Mutation));
    assert_eq!(attack(&with("application/graphql; charset=utf-8"), b"{ me }"), Ok(()));
    for form in [
        &b"query=mutation%20%7B%20deleteAccount%20%7D"[..],
        b"query=mutation+%7B+%64eleteAccount+%7D",
        b"a=1&query=%7Bme%7D&query=mutation{deleteAccount}",
        b"a=1;query=mutation{deleteAccount}",
        b"query[]=mutation{deleteAccount}",
        b"QUERY=mutation{deleteAccount}",
        b"%71uery=mutation{deleteAccount}",
    ] {
        assert_eq!(attack(&with("application/x-www-form-urlencoded"), form), Err(Fault::Mutation), "{form:?}");
    }
    assert_eq!(attack(&with("application/x-www-form-urlencoded"), b"query=%7Bme%7D&variables=%7B%7D"), Ok(()));
    assert!(unreadable(attack(&with("application/x-www-form-urlencoded"), b"query=%u0064eleteAccount")));

    let harmless = br#"{"query": "{ me }"}"#;
    for headers in [
        &[JSON, ("content-encoding", "gzip")][..],
        &[JSON, ("content_encoding", "gzip")],
        &[JSON, JSON],
        &[("content-type", "application/json; charset=utf-16")],
        &[("content-type", "application/json; charset=utf-7")],
        &[("content-type", "application/json; charset=\"ibm037\"")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", "multipart/mixed; boundary=x")],
    ] {
        assert!(unreadable(attack(headers, harmless)), "{headers:?}");
    }
    assert!(unreadable(attack(&[JSON], b"{\"query\": \"\xff\"}")));
    let wide: Vec<u8> =
        "{\"query\": \"mutation { deleteAccount }\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(unreadable(attack(&[JSON], &wide)));
}

#[test]
fn the_query_of_the_url_is_judged_beside_the_body() {
    for target in [
        "/graphql?query=mutation%7BdeleteAccount%7D",
        "/graphql?query=mutation{deleteAccount}",
        "/graphql?a;query=mutation{deleteAccount}",
        "/GraphQL/?%71uery=mutation{deleteAccount}",
    ] {
        assert_eq!(judged("GET", target, &[], b""), Err(Fault::Mutation), "{target}");
        assert_eq!(judged("POST", target, &[JSON], br#"{"query": "{ me }"}"#), Err(Fault::Mutation), "{target}");
    }
    for target in ["/graphql?id=abc", "/graphql?extensions=%7B%7D", "/graphql?documentId=7&query={me}", "/graphql?x"] {
        assert!(unreadable(judged("GET", target, &[], b"")), "{target}");
    }
    assert_eq!(judged("GET", "/graphql?query={me}&variables={}", &[], b""), Ok(()));
    assert_eq!(judged("POST", "/graphql?op=Me", &[JSON], br#"{"query": "{ me }"}"#), Ok(()));
    // A preflight, and a page to explore with.
    assert_eq!(judged("OPTIONS", "/graphql", &[], b""), Ok(()));
    assert_eq!(judged("GET", "/graphql", &[("accept", "text/html")], b""), Ok(()));
    assert!(unreadable(judged("POST", "/graphql", &[], b"")));
    assert!(judged("PUT", "/graphql", &[JSON], br#"{"query": "mutation { deleteAccount }"}"#).is_err());
}

#[test]
fn a_deletion_within_a_batch_is_found() {
    for body in [
        r#"[{"method": "DELETE", "path": "/accounts/42"}]"#,
        r#"{"requests": [{"id": "1", "method": "GET", "url": "/orders"}, {"id": "2", "method": "DELETE", "url": "/accounts/42"}]}"#,
        r#"[{"verb": "delete", "uri": "https://api.example/accounts/42?x=1#y"}]"#,
        r#"[{"method": "DELETE", "relative_url": "accounts/42"}]"#,
        r#"[{"httpMethod": "DELETE", "relativeUrl": "v9/internal/Accounts/42/"}]"#,
        r#"[{"METHOD": "DELETE", "Path": "//accounts//42"}]"#,
        r#"[{"op": "remove", "href": "/accounts/42"}]"#,
        r#"[{"method": "DELETE", "path": "/%61ccounts/42;v=1"}]"#,
        r#"[{"method": "GET", "method": "DELETE", "path": "/accounts/42"}]"#,
        r#"[{"method": "DELETE", "path": "/orders", "path": "/accounts/42"}]"#,
        r#"[{"\u006dethod": "DELETE", "p\u0061th": "\/acc\u006funts\/42"}]"#,
        r#"[{"path": "/accounts/42"}]"#,
        r#"[{"method": "x-unknown", "path": "/accounts/42"}]"#,
        r#"[{"method": "POST", "path": "/v1/account/delete"}]"#,
        r#"[{"method": "POST", "path": "/graphql", "body": {"query": "{ me }"}}]"#,
        r#"[{"method": "POST", "path": "/api/batch", "body": []}]"#,
        r#"[{"method": "POST", "path": "batch"}]"#,
        r#"{"a": {"b": {"c": [{"method": "DELETE", "path": "/accounts/42"}]}}}"#,
        r#"[["DELETE", "/accounts/42"]]"#,
        r#"["GET /orders", "DELETE /accounts/42 HTTP/1.1"]"#,
        r#"{"DELETE /accounts/42": {}, "GET /orders": {}}"#,
        r#"[{"method": "HEAD", "path": "/account/remove"}]"#,
    ] {
        assert_eq!(batch(body), Err(Fault::Batched), "{body}");
    }
}

#[test]
fn a_batch_that_cannot_be_read_is_refused() {
    for body in [
        "",
        "{}",
        "[]",
        "[1, 2]",
        "DELETE /accounts/42",
        r#"[{"method": "DELETE"}]"#,
        r#"[{"method": "GET", "path": "/orders"}, {"op": "remove", "ref": {"type": "accounts", "id": "42"}}]"#,
        r#"[{"method": "GET", "path": "/orders/../accounts/42"}]"#,
        r#"[{"method": "GET", "path": "/orders/%2e%2e/accounts/42"}]"#,
        r#"[{"method": "DELETE", "path": "/%2561ccounts/42"}]"#,
        r#"[{"method": "DELETE", "path": "/a%2fccounts/42"}]"#,
        r#"[{"method": "DELETE", "path": "\\accounts\\42"}]"#,
        r#"[{"method": "DELETE", "path": "/{result=x:$.kind}/42"}]"#,
        r#"[{"method": "DELETE", "path": "/accounts/\u0000"}]"#,
        r#"[{"method": "DELETE", "path": ["accounts", "42"]}]"#,
        r#"[{"method": "DELETE", "url": {"raw": "/accounts/42"}}]"#,
    ] {
        assert!(unreadable(batch(body)) || batch(body) == Err(Fault::Batched), "{body}: {:?}", batch(body));
    }
    let long = format!(r#"[{{"method": "GET", "path": "{}"}}]"#, "/a".repeat(40));
    assert!(unreadable(batch(&long)));
    let harmless = br#"[{"method": "GET", "path": "/orders"}]"#;
    for kind in ["multipart/mixed; boundary=x", "application/x-www-form-urlencoded"] {
        assert!(unreadable(judged("POST", "/api/batch", &[("content-type", kind)], harmless)), "{kind}");
    }
    assert!(unreadable(judged("POST", "/api/batch", &[JSON, ("content-encoding", "br")], harmless)));
}

#[test]
fn a_batch_in_which_a_request_overrides_its_method_is_refused() {
    for body in [
        r#"[{"method": "POST", "path": "/accounts/42", "headers": {"X-HTTP-Method-Override": "DELETE"}}]"#,
        r#"[{"method": "POST", "path": "/accounts/42", "headers": [{"name": "x-http-method", "value": "DELETE"}]}]"#,
        r#"[{"method": "POST", "path": "/accounts/42", "headers": ["X-Method-Override: DELETE"]}]"#,
        r#"[{"method": "POST", "path": "/accounts/42", "headers": {"X_HTTP_METHOD_OVERRIDE": "DELETE"}}]"#,
        r#"[{"method": "POST", "path": "/accounts/42?_method=DELETE"}]"#,
        r#"[{"method": "POST", "path": "/accounts/42?%5Fmethod=DELETE"}]"#,
        r#"[{"method": "POST", "path": "/accounts/42", "body": "a=1&_METHOD=delete"}]"#,
        r#"[{"method": "POST", "path": "/accounts/42", "body": {"_method": "DELETE"}}]"#,
    ] {
        assert!(unreadable(batch(body)), "{body}: {:?}", batch(body));
    }
}

#[test]
fn other_batches_pass() {
    for body in [
        r#"[{"method": "GET", "path": "/accounts/42"}, {"method": "PATCH", "path": "/accounts/42", "body": {"note": "x"}}]"#,
        r#"[{"method": "DELETE", "path": "/orders/7", "body": {"reason": "DELETE it /please"}}]"#,
        r#"{"requests": [{"method": "GET", "url": "https://api.example/accounts/42"}]}"#,
        r#"[{"method": "DELETE", "path": "/accounts/42/orders/7"}]"#,
    ] {
        assert_eq!(batch(body), Ok(()), "{body}");
    }
}

#[test]
fn a_body_is_only_read_where_it_tells() {
    let deletions = deletions();
    let post = Method::POST;
    let found = |path: &str| find(&deletions, &[&NormalPath::parse(path).unwrap()], [&post, &post]);
    assert!(!needs_body(&found("/v1/account/delete")) && !needs_body(&found("/orders")));
    assert!(needs_body(&found("/graphql")) && needs_body(&found("/api/batch")));
}
