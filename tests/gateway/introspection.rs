//! Opaque tokens, end to end: oidc-provider issues them, answers for them and takes them back; the gateway asks it.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Gateway, World, eventually, get, idp::Idp, let_pass, remember_secret, stepgate};

const SECRET: &str = "gateway-secret-0123456789";

/// A gateway whose issuer `idp` is introspected with these settings beside the endpoint, and whatever else it has.
fn yaml(idp: &Idp, settings: &str, more: &str) -> String {
    format!(
        "issuers:
  idp:
    issuer: {}
    audience: [https://opaque.example, https://api.example]
    introspection: {{discovery: true, {settings}}}
{more}assurance:
  mfa: {{acr: [urn:example:acr:mfa], max_age: 5m}}
deletion_guard: {{assurance: mfa}}
routes:
  - {{path: /pay, upstream: api, auth: [idp], assurance: mfa}}
  - {{path: /write, upstream: api, auth: [idp], scopes: ['items:write']}}
  - {{path: /jobs, upstream: api, auth: [idp], when: 'claims.client_id == \"plain\"'}}
  - {{path: /**, upstream: api, auth: [idp]}}
",
        idp.issuer()
    )
}

fn by_secret() -> String {
    remember_secret(SECRET);
    "client_id: gateway, client_secret: {file: client.secret}".to_owned()
}

fn start(settings: &str, more: &str) -> (World, Idp, Gateway) {
    let (world, idp) = (World::new(), Idp::start());
    world.write("client.secret", SECRET);
    world.write("client.key", idp.gateway_key());
    let gateway = world.start(&yaml(&idp, settings, more));
    (world, idp, gateway)
}

fn ask(gateway: &Gateway, path: &str, token: &str) -> Answer {
    get(path).bearer(token).send(gateway)
}

fn introspected(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("stepgate_introspections_total", &["issuer=\"idp\"", &format!("result=\"{result}\"")])
}

#[test]
fn an_opaque_token_passes_and_the_provider_is_asked_once() {
    let (world, idp, gateway) = start(&by_secret(), "");
    let token = idp.opaque_token("plain");
    assert!(!token.contains('.'), "not opaque");
    for _ in 0..5 {
        ask(&gateway, "/items", &token).expect(200);
    }
    assert_eq!(world.upstream.count(), 5);
    assert_eq!(introspected(&gateway, "active"), 1.0);
    assert_eq!(gateway.metric("stepgate_introspection_duration_seconds_count", &["issuer=\"idp\""]), 1.0);
}

#[test]
fn what_the_answer_says_feeds_scopes_conditions_and_step_up() {
    let (_world, idp, gateway) = start(&by_secret(), "");
    let (plain, stepped_up) = (idp.opaque_token("plain"), idp.opaque_token("stepped-up"));
    let refused = ask(&gateway, "/pay", &plain);
    let challenge = refused.header("www-authenticate");
    assert_eq!(refused.status, 401);
    assert!(challenge.contains("error=\"insufficient_user_authentication\""), "{challenge}");
    ask(&gateway, "/pay", &stepped_up).expect(200);
    ask(&gateway, "/write", &plain).expect(403);
    ask(&gateway, "/jobs", &plain).expect(200);
    ask(&gateway, "/jobs", &stepped_up).expect(403);
}

#[test]
fn a_token_that_is_not_active_is_refused_like_any_bad_token() {
    let (world, _idp, gateway) = start(&by_secret(), "");
    for _ in 0..2 {
        let refused = ask(&gateway, "/items", "an-invented-token");
        assert_eq!(refused.problem(401), "invalid-token");
        assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    world.upstream.assert_untouched();
    assert_eq!((introspected(&gateway, "refused"), introspected(&gateway, "remembered")), (1.0, 1.0));
    assert_eq!(gateway.metric("stepgate_decisions_total", &["reason=\"token_inactive\""]), 2.0);
}

#[test]
fn a_revoked_token_falls_when_the_answer_is_too_old() {
    let (_world, idp, gateway) = start(&format!("{}, cache: 1s", by_secret()), "");
    let token = idp.opaque_token("plain");
    ask(&gateway, "/items", &token).expect(200);
    idp.revoke("plain", &token);
    let_pass(Duration::from_millis(1100));
    assert_eq!(ask(&gateway, "/items", &token).problem(401), "invalid-token");
}

#[test]
fn without_a_cache_a_revoked_token_falls_at_once() {
    let (_world, idp, gateway) = start(&format!("{}, cache: 0s", by_secret()), "");
    let token = idp.opaque_token("plain");
    ask(&gateway, "/items", &token).expect(200);
    idp.revoke("plain", &token);
    assert_eq!(ask(&gateway, "/items", &token).problem(401), "invalid-token");
}

#[test]
fn the_gateway_proves_who_it_is_in_each_way() {
    remember_secret("plain-secret");
    for settings in [
        by_secret(),
        "client_id: plain, client_secret: plain-secret, client_secret_method: client_secret_post".to_owned(),
        "client_id: gateway-key, private_key: {file: client.key}, key_id: gateway-key-1".to_owned(),
    ] {
        let (_world, idp, gateway) = start(&format!("{settings}, cache: 0s"), "");
        let token = idp.opaque_token("plain");
        // More than once: an assertion is good for one question.
        for _ in 0..3 {
            ask(&gateway, "/items", &token).expect(200);
        }
    }
}

#[test]
fn a_proof_that_the_provider_does_not_take_is_503_and_said_to_the_operator() {
    let (world, idp, gateway) = start(&by_secret(), "");
    world.write("client.secret", "not-the-secret");
    let token = idp.opaque_token("plain");
    let refused = eventually("the changed secret to be read", || {
        let answer = ask(&gateway, "/items", &token);
        (answer.status != 200).then_some(answer)
    });
    refused.problem(503);
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    let said = gateway.readiness().text();
    assert!(said.contains("proof of who asks: 401"), "{said}");
    world.write("client.secret", SECRET);
    eventually("the secret to be read again", || (ask(&gateway, "/items", &token).status == 200).then_some(()));
}

#[test]
fn signed_answers_are_verified_by_the_issuers_keys() {
    let settings = format!("{}, signed: required", by_secret());
    let keys = |alg: &str| format!("    keys: {{discovery: true}}\n    algorithms: [{alg}]\n");
    let (_world, idp, gateway) = start(&settings, &keys("RS256"));
    let token = idp.opaque_token("plain");
    ask(&gateway, "/items", &token).expect(200);
    assert_eq!(ask(&gateway, "/items", "an-invented-token").problem(401), "invalid-token");
    assert_eq!((introspected(&gateway, "active"), introspected(&gateway, "refused")), (1.0, 1.0));

    // A signature by an algorithm that the issuer is not to use.
    let (_world, idp, gateway) = start(&settings, &keys("ES256"));
    ask(&gateway, "/items", &idp.opaque_token("plain")).problem(503);
    assert_eq!(introspected(&gateway, "failed"), 1.0);
}

#[test]
fn with_keys_jwts_are_verified_here_and_opaque_tokens_are_asked_about() {
    let keys = "    keys: {discovery: true}\n    algorithms: [RS256]\n    types: [at+jwt]\n";
    let (_world, idp, gateway) = start(&by_secret(), keys);
    ask(&gateway, "/items", &idp.machine_token("plain")).expect(200);
    assert_eq!(introspected(&gateway, "active"), 0.0);
    ask(&gateway, "/items", &idp.opaque_token("plain")).expect(200);
    assert_eq!(introspected(&gateway, "active"), 1.0);
}

#[test]
fn a_provider_that_is_down_is_503_and_what_was_known_still_passes() {
    let (world, idp, gateway) = start(&by_secret(), "");
    let (known, unknown) = (idp.opaque_token("plain"), idp.opaque_token("plain"));
    ask(&gateway, "/items", &known).expect(200);
    let port = idp.port;
    drop(idp);
    let refused = ask(&gateway, "/items", &unknown);
    refused.problem(503);
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    ask(&gateway, "/items", &known).expect(200);
    assert_eq!(world.upstream.count(), 2);
    let idp = Idp::start_on(port);
    ask(&gateway, "/items", &idp.opaque_token("plain")).expect(200);
}

#[test]
fn a_foreign_token_is_never_shown_to_the_provider() {
    let (world, _idp, gateway) = start(&by_secret(), "");
    assert_eq!(ask(&gateway, "/items", &world.token(json!({}))).problem(401), "invalid-token");
    for result in ["active", "refused", "failed"] {
        assert_eq!(introspected(&gateway, result), 0.0);
    }
}

#[test]
fn explain_asks_the_provider_as_the_gateway_does() {
    let (world, idp, _gateway) = start(&by_secret(), "");
    let token = idp.opaque_token("plain");
    let explain = |token: &str| {
        stepgate(world.folder(), &["explain", "GET", "http://gateway.example/items", "--token", token]).stdout
    };
    let allowed = explain(&token);
    assert!(allowed.contains("allowed") && allowed.contains("items:read"), "{allowed}");
    let refused = explain("an-invented-token");
    assert!(refused.contains("token_inactive"), "{refused}");
}
