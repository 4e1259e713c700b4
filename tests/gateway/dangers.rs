//! Each `danger_` key that there is: `check` says what it takes away, and so does the gateway that runs with it, at its start and in
//! its metrics.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Authority, World, eventually, stepgate};

/// Every danger, by the section of the schema that it stands in, with a policy that names it and nothing else of the kind.
const DANGERS: &[(&str, &str)] = &[
    (
        "tls.danger_self_signed",
        "listeners: [{address: 127.0.0.1:<tls>, tls: {danger_self_signed: true}}]
routes: [{path: /**, upstream: api, auth: [main]}]
",
    ),
    (
        "API_keys.danger_query",
        "credentials: {keys: {api_keys: {file: keys.jsonl, danger_query: key}}}
routes: [{path: /**, upstream: api, auth: [keys]}]
",
    ),
    (
        "API_keys.danger_cleartext",
        "credentials: {keys: {api_keys: {file: keys.jsonl, danger_cleartext: true}}}
routes: [{path: /**, upstream: api, auth: [keys]}]
",
    ),
    (
        "users.danger_cleartext",
        "credentials: {people: {basic: {file: users, danger_cleartext: true}}}
routes: [{path: /**, upstream: api, auth: [people]}]
",
    ),
    (
        "client_certificates.danger_expired_crl",
        "listeners:
  - {address: 127.0.0.1:<tls>, tls: {certificates: [{cert: one.pem, key: one.key}], client_ca: ca.pem, client_auth: optional}}
credentials: {devices: {client_certificates: {ca: ca.pem, crl: [ca.crl], danger_expired_crl: true}}}
routes: [{path: /**, upstream: api, auth: [devices]}]
",
    ),
    (
        "mail.danger_cleartext",
        "notify: {mail: {server: \"smtp://127.0.0.1:25\", danger_cleartext: true, from: gateway@example.com}}
routes: [{path: /**, upstream: api, auth: [main]}]
",
    ),
    (
        "authority.danger_cleartext",
        "sealing: {key: {file: seal.key}}
authority: {url: https://gate.example, danger_cleartext: true, acr: {urn:example:acr:mfa: {}}}
routes: [{path: /**, upstream: api, auth: [main]}]
",
    ),
    (
        "deletion_guard.danger_disabled",
        "deletion_guard: {danger_disabled: true}
routes: [{path: /**, upstream: api, auth: [main]}]
",
    ),
    (
        "deletions.danger_cleartext",
        "sealing: {key: {file: seal.key}}
deletions:
  url: https://gate.example
  danger_cleartext: true
  plans:
    me:
      operations: [DELETE /me]
      subject: caller
      scope: {summary: Your profile, erased: [Profile]}
      steps: [{name: profile, upstream: api, request: \"DELETE /profiles/{subject}\"}]
routes: [{path: /**, upstream: api, auth: [main]}]
",
    ),
    (
        "route.danger_unguarded_deletion",
        "routes: [{path: /**, upstream: api, auth: [main], danger_unguarded_deletion: true}]
",
    ),
];

/// The dangers that the schema knows.
fn known() -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(&stepgate(World::new().folder(), &["schema"]).stdout).unwrap();
    let sections = schema["$defs"].as_object().unwrap().iter().map(|(name, section)| (name.as_str(), section));
    let sections = sections.chain([("top", &schema)]);
    let keys = sections.flat_map(|(name, section)| {
        let keys = section["properties"].as_object().into_iter().flat_map(|properties| properties.keys());
        keys.map(move |key| format!("{name}.{key}"))
    });
    keys.filter(|key| key.contains(".danger_")).collect()
}

/// A world with every file that the policies name.
fn world() -> World {
    let world = World::new();
    let authority = Authority::new("all");
    authority.server(world.folder(), "one", &["one.example"]);
    world.write("ca.pem", &authority.pem);
    world.write("ca.crl", authority.revocation_list(&[], 60 * 60));
    world.write("keys.jsonl", "");
    world.write("users", "");
    world.seal();
    world
}

#[test]
fn every_danger_is_told_by_check_at_the_start_and_in_the_metrics() {
    let listed: BTreeSet<String> = DANGERS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(listed, known(), "a danger without a row here, or a row without one");
    for (place, policy) in DANGERS {
        let key = place.rsplit('.').next().unwrap();
        let world = world();
        let checked = world.check(policy);
        assert_eq!(checked.code, 0, "{place}: {checked:?}");
        let warned = checked
            .stderr
            .split("\n\n")
            .any(|said| said.starts_with("warning: ") && said.contains(&format!("{key})\n")));
        assert!(warned, "{place}: {}", checked.stderr);
        let gateway = world.restart();
        eventually("a word at the start", || gateway.stderr().contains(key).then_some(()));
        let told: Vec<String> =
            gateway.metrics().lines().filter(|line| line.starts_with("stepgate_danger{")).map(str::to_owned).collect();
        assert_eq!(told, [format!("stepgate_danger{{key=\"{key}\"}} 1")], "{place}");
    }
}

#[test]
fn a_policy_without_dangers_has_none_in_its_metrics() {
    let gateway = world().start("routes: [{path: /**, upstream: api, auth: [main]}]\n");
    assert!(!gateway.metrics().contains("stepgate_danger{"));
}
