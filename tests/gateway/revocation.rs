//! Revocation: by the admin API, by the command line with and without a running gateway, and by what the provider reports;
//! over caches, reloads, restarts and crashes.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Finished, Gateway, Request, Wire, World, eventually, get, idp::Idp, lease_port, post, remember_secret,
    stepgate, tools::curl, unix_now,
};

const TOKEN: &str = "an-admin-token-of-the-tests";
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const CLIENT: &str = "gateway-client";

const YAML: &str = "admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
issuers:
  main:
    issuer: https://idp.example/
    audience: [https://api.example]
    keys: {jwks_file: jwks.json}
    algorithms: [ES256]
    events: {path: /_events/main, audience: [gateway-client]}
  other:
    issuer: https://other.example/
    audience: [https://api.example]
    keys: {jwks_file: jwks.json}
    algorithms: [ES256]
routes:
  - {path: /public/**, upstream: api, auth: none}
  - {path: /**, upstream: api}
";

fn world() -> World {
    let world = World::new();
    remember_secret(TOKEN);
    world.write("admin.token", TOKEN);
    world
}

fn admin(request: Request, gateway: &Gateway) -> Answer {
    request.header("Authorization", &format!("Bearer {TOKEN}")).send_to(gateway.admin)
}

fn revoke(gateway: &Gateway, what: &Value) -> Value {
    admin(post("/revocations", &what.to_string()), gateway).expect(201).json()
}

fn ask(gateway: &Gateway, token: &str) -> u16 {
    get("/x").bearer(token).send(gateway).status
}

#[track_caller]
fn assert_revoked(gateway: &Gateway, token: &str) {
    let answer = get("/x").bearer(token).send(gateway);
    assert_eq!(answer.problem(401), "invalid-token", "which check failed is nobody's business");
    assert!(answer.header("www-authenticate").contains("invalid_token"));
}

fn cli(world: &World, arguments: &[&str]) -> Finished {
    stepgate(world.folder(), arguments)
}

#[test]
fn what_is_revoked_is_refused_at_once_and_the_rest_goes_on() {
    let world = world();
    let gateway = world.start(YAML);
    let now = unix_now();
    let alice = world.token(json!({"jti": "a-1", "sid": "s-1"}));
    let again = world.token(json!({"jti": "a-2", "sid": "s-2"}));
    let bob = world.token(json!({"sub": "bob", "jti": "b-1"}));
    let elsewhere = world.token(json!({"iss": "https://other.example/"}));
    let undated = world.token(json!({"iat": null, "sub": "carol"}));
    let all = [&alice, &again, &bob, &elsewhere, &undated];
    for (what, refused) in [
        (json!({"issuer": "main", "jti": "a-1"}), vec![&alice]),
        (json!({"issuer": "main", "session": "s-2", "reason": "lost phone"}), vec![&again]),
        (json!({"issuer": "main", "subject": "alice"}), vec![&alice, &again]),
        (json!({"issuer": "*", "subject": "alice"}), vec![&alice, &again, &elsewhere]),
        (json!({"issuer": "main", "subject": "alice", "issued_before": now - 100}), vec![]),
        (json!({"issuer": "main", "subject": "alice", "issued_before": "now"}), vec![&alice, &again]),
        (json!({"issuer": "main", "subject": "carol", "issued_before": now - 100}), vec![&undated]),
        (json!({"issuer": "main", "key": "main-1"}), vec![&alice, &again, &bob, &undated]),
        (json!({"issuer": "other", "all": true}), vec![&elsewhere]),
        (json!({"issuer": "main", "all": true, "issued_before": "2020-01-01T00:00:00Z"}), vec![&undated]),
    ] {
        // In the cache of verified tokens, all of them.
        assert!(all.iter().all(|token| ask(&gateway, token) == 200), "{what}");
        let id = revoke(&gateway, &what)["id"].as_u64().unwrap();
        for token in all {
            if refused.contains(&token) {
                assert_revoked(&gateway, token);
            } else {
                assert_eq!(ask(&gateway, token), 200, "{what}");
            }
        }
        admin(Request::new("DELETE", &format!("/revocations/{id}")), &gateway).expect(200);
    }
    assert_eq!(get("/public/x").bearer(&alice).send(&gateway).status, 200);
    assert!(gateway.metric("stepgate_decisions_total", &["token_revoked"]) > 0.0);
    gateway.access(|record| record["reason"] == "token_revoked");
}

#[test]
fn the_admin_api_says_what_is_wrong_and_asks_for_its_token() {
    let world = world();
    let gateway = world.start(YAML);
    post("/revocations", "{}").send_to(gateway.admin).expect(401);
    for (body, said) in [
        ("", "EOF"),
        ("{}", "issuer"),
        (r#"{"issuer":"main"}"#, "exactly one of"),
        (r#"{"issuer":"main","subject":"a","jti":"b"}"#, "exactly one of"),
        (r#"{"issuer":"main","subject":"a","all":true}"#, "exactly one of"),
        (r#"{"issuer":"main","subject":""}"#, "empty"),
        (r#"{"issuer":"nobody","subject":"a"}"#, "no source"),
        (r#"{"issuer":"main","subject":"a","issued-before":5}"#, "unknown field"),
        (r#"{"issuer":"main","subject":"a","issued_before":"tomorrow"}"#, "no moment"),
        (r#"{"issuer":"main","subject":"a","expires":5}"#, "has passed"),
        (r#"{"issuer":"main","jti":"a","issued_before":5}"#, "jti"),
    ] {
        let answer = admin(post("/revocations", body), &gateway).expect(400).json();
        assert!(answer["detail"].as_str().unwrap().contains(said), "{body}: {answer}");
    }
    for target in ["/revocations?kind=x", "/revocations?limit=x", "/revocations?subject=x"] {
        admin(get(target), &gateway).expect(400);
    }
    for target in ["/revocations/7", "/revocations/x", "/revocationsx", "/revocations/"] {
        admin(get(target), &gateway).expect(404);
    }
    let entry = revoke(&gateway, &json!({"issuer": "main", "subject": "a", "by": "ops", "reason": "why"}));
    assert_eq!((entry["by"].as_str(), entry["reason"].as_str()), (Some("admin (ops)"), Some("why")));
    let again = json!({"issuer": "main", "subject": "a", "expires": unix_now() + 60});
    assert_eq!(admin(post("/revocations", &again.to_string()), &gateway).expect(200).json(), entry);
    let list = admin(get("/revocations?issuer=main&kind=subject&value=a"), &gateway).expect(200).json();
    assert_eq!(list, json!({"revocations": [entry], "next": null, "total": 1}));
    assert_eq!(admin(get(&format!("/revocations/{}", entry["id"])), &gateway).expect(200).json(), entry);
    assert_eq!(gateway.metric("stepgate_revocations", &["subject"]), 1.0);
    assert!(!gateway.stderr().contains("\"a\""), "the log names no subject");
}

#[test]
fn revocations_survive_a_crash_a_restart_and_a_reload() {
    let world = world();
    let mut gateway = world.start(YAML);
    let alice = world.token(json!({}));
    let bob = world.token(json!({"sub": "bob"}));
    revoke(&gateway, &json!({"issuer": "main", "subject": "alice"}));
    gateway.kill();
    // What a crash in the middle of the next one leaves.
    let file = world.folder().join("state/revocations.jsonl");
    let mut torn = fs::read(&file).unwrap();
    torn.extend_from_slice(b"{\"add\":{\"id\":2,\"at\":17");
    fs::write(&file, torn).unwrap();
    drop(gateway);
    let gateway = world.restart().ready();
    assert_revoked(&gateway, &alice);
    assert_eq!(ask(&gateway, &bob), 200);
    gateway.signal("HUP");
    eventually("the reload", || (gateway.metric("stepgate_config_generation", &[]) == 2.0).then_some(()));
    assert_revoked(&gateway, &alice);
    assert_eq!(revoke(&gateway, &json!({"issuer": "main", "subject": "bob"}))["id"], 2);
    assert_revoked(&gateway, &bob);
}

#[test]
fn a_list_that_is_not_whole_stops_the_start() {
    let world = world();
    world.configure(YAML);
    world.write("state/revocations.jsonl", "{\"revocations\":1,\"next\":1}\nnot a line of ours\n");
    for command in [&["run", "gateway.yaml"][..], &["revocations", "list"], &["explain", "GET", "/x"]] {
        let finished = cli(&world, command);
        assert_eq!(finished.code, 74, "{finished:?}");
        assert!(finished.stderr.contains("revocations.jsonl:2: "), "{finished:?}");
    }
    let finished = cli(&world, &["check", "gateway.yaml"]);
    assert!(finished.code == 78 && finished.stderr.contains("revocations.jsonl:2: "), "{finished:?}");
}

#[test]
fn the_command_line_changes_the_list_of_a_gateway_that_runs_or_of_the_next_one() {
    let world = world();
    world.configure(YAML);
    let alice = world.token(json!({}));
    let bob = world.token(json!({"sub": "bob"}));
    let finished = cli(&world, &["revoke", "--issuer", "main", "--subject", "alice", "--reason", "left", "--by", "me"]);
    assert_eq!(finished.code, 0, "{finished:?}");
    let entry: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((entry["subject"].as_str(), entry["by"].as_str()), (Some("alice"), Some("admin (me)")));
    let gateway = world.restart().ready();
    assert_revoked(&gateway, &alice);
    assert_eq!(ask(&gateway, &bob), 200);
    let finished = cli(&world, &["revoke", "-i", "main", "--subject", "bob", "--issued-before", "now"]);
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_revoked(&gateway, &bob);
    let finished = cli(&world, &["revoke", "-i", "main", "--subject", "bob", "--issued-before", "1000"]);
    assert!(finished.code == 0 && finished.stdout.starts_with("revoked already:"), "{finished:?}");
    let finished = cli(&world, &["revocations", "list"]);
    assert_eq!(finished.stdout.lines().count(), 2, "{finished:?}");
    let finished = cli(&world, &["revocations", "list", "--value", "bob", "--kind", "subject", "--issuer", "main"]);
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    assert_eq!(cli(&world, &["revocations", "remove", "1"]).code, 0);
    assert_eq!(ask(&gateway, &alice), 200);
    for (arguments, code) in [
        (&["revocations", "remove", "1"][..], 1),
        (&["revoke", "-i", "nobody", "--subject", "x"], 1),
        (&["revoke", "-i", "main", "--subject", "x", "--expires", "soon"], 1),
        (&["revoke", "-i", "main"], 2),
        (&["revoke", "-i", "main", "--subject", "x", "--jti", "y"], 2),
        (&["revoke", "--subject", "x"], 2),
        (&["revoke", "-c", "nowhere.yaml", "-i", "main", "--all"], 78),
    ] {
        let finished = cli(&world, arguments);
        assert_eq!(finished.code, code, "{arguments:?} {finished:?}");
        assert!(!finished.stderr.contains(TOKEN) && !finished.stderr.is_empty());
    }
    let finished = cli(&world, &["explain", "GET", "/x", "--token", &bob]);
    assert!(finished.code == 1 && finished.stdout.contains("token_revoked"), "{finished:?}");
    world.write("other.yaml", world.yaml(&YAML.replace("{file: admin.token}", "another-token-than-the-gateways")));
    let finished = cli(&world, &["revocations", "list", "--config", "other.yaml"]);
    assert!(finished.code == 1 && finished.stderr.contains("another admin token"), "{finished:?}");
}

#[test]
fn without_an_admin_api_a_running_gateway_is_left_alone_with_a_word() {
    let world = World::new();
    let _gateway = world.start("routes: [{path: /**, upstream: api}]\n");
    let finished = cli(&world, &["revoke", "-i", "main", "--all"]);
    assert!(finished.code == 69 && finished.stderr.contains("admin.token"), "{finished:?}");
}

fn logout_claims(changes: Value) -> Value {
    let now = unix_now();
    let mut claims = json!({"iss": "https://idp.example/", "aud": CLIENT, "iat": now, "exp": now + 120, "jti": "l-1",
        "sub": "alice", "events": {LOGOUT: {}}});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn typed(world: &World, typ: &str, claims: &Value) -> String {
    world.signer().sign(&world.signer().head(json!({ "typ": typ })), claims)
}

fn log_out(gateway: &Gateway, token: &str) -> Answer {
    post("/_events/main", &format!("logout_token={token}"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .send(gateway)
}

fn push(gateway: &Gateway, token: &str) -> Answer {
    post("/_events/main", token).header("Content-Type", "application/secevent+jwt").send(gateway)
}

#[test]
fn a_log_out_at_the_provider_ends_what_the_subject_got_before() {
    let world = world();
    let gateway = world.start(YAML);
    let (alice, bob) = (world.token(json!({})), world.token(json!({"sub": "bob"})));
    let later = world.token(json!({"iat": unix_now() + 20}));
    assert_eq!((ask(&gateway, &alice), ask(&gateway, &bob), ask(&gateway, &later)), (200, 200, 200));
    let token = typed(&world, "logout+jwt", &logout_claims(json!({})));
    let answer = log_out(&gateway, &token).expect(200);
    assert_eq!((answer.header("cache-control"), answer.body.len()), ("no-store", 0));
    assert_revoked(&gateway, &alice);
    assert_eq!((ask(&gateway, &bob), ask(&gateway, &later)), (200, 200));
    log_out(&gateway, &token).expect(200);
    let count = |outcome: &str| gateway.metric("stepgate_security_events_total", &["issuer=\"main\"", outcome]);
    assert_eq!((count("applied"), count("repeated"), count("refused")), (1.0, 1.0, 0.0));
    let list = admin(get("/revocations"), &gateway).json();
    assert_eq!((&list["total"], &list["revocations"][0]["by"]), (&json!(1), &json!("events of main")));
    assert!(world.upstream.requests().iter().all(|request| !request.target().contains("_events")));
}

#[test]
fn a_security_event_by_push_is_answered_as_rfc_8935_has_it() {
    let world = world();
    let gateway = world.start(YAML);
    let alice = world.token(json!({"sid": "s-9"}));
    let set = |changes: Value| {
        let mut claims = json!({"iss": "https://idp.example/", "aud": [CLIENT], "iat": unix_now(), "jti": "e-1",
            "sub_id": {"format": "complex", "user": {"format": "iss_sub", "iss": "https://idp.example/", "sub": "alice"},
                "session": {"format": "opaque", "id": "s-9"}},
            "events": {REVOKED: {"event_timestamp": unix_now(), "reason_admin": {"en": "policy"}}}});
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        typed(&world, "secevent+jwt", &claims)
    };
    assert_eq!(ask(&gateway, &alice), 200);
    for (token, code) in [
        (set(json!({"aud": "another"})), "invalid_audience"),
        (set(json!({"iss": "https://other.example/"})), "invalid_issuer"),
        (set(json!({"events": {}})), "invalid_request"),
        (typed(&world, "at+jwt", &logout_claims(json!({}))), "invalid_request"),
        ("nonsense".to_owned(), "invalid_request"),
        (set(json!({})) + "A", "authentication_failed"),
    ] {
        let answer = push(&gateway, &token).expect(400);
        assert_eq!((answer.header("content-type"), answer.header("content-language")), ("application/json", "en"));
        assert_eq!(answer.json()["err"], code, "RFC 8935 section 2.4");
        assert!(answer.json()["description"].is_string());
    }
    assert_eq!(ask(&gateway, &alice), 200);
    let answer = push(&gateway, &set(json!({}))).expect(202);
    assert_eq!(answer.body.len(), 0, "RFC 8935 section 2.2");
    assert_revoked(&gateway, &alice);
    let unknown =
        json!({"events": {"https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "x"}}});
    push(&gateway, &set(unknown)).expect(202);
    let count = |event: &str, outcome: &str| gateway.metric("stepgate_security_events_total", &[event, outcome]);
    assert_eq!((count("session_revoked", "applied"), count("verification", "ignored")), (1.0, 1.0));
}

#[test]
fn the_endpoint_takes_one_method_a_bounded_body_and_so_many_of_an_address() {
    let world = world();
    let gateway = world.start(&YAML.replace("audience: [gateway-client]}", "audience: [gateway-client], rate: 20/h}"));
    let refused = get("/_events/main").send(&gateway);
    assert_eq!((refused.problem(405).as_str(), refused.header("allow")), ("method-not-allowed", "POST"));
    for _ in 0..20 {
        log_out(&gateway, "x").expect(400);
    }
    let refused = log_out(&gateway, "x");
    assert_eq!(refused.problem(429), "quota-exceeded");
    assert!(refused.has("retry-after"));
    let large = post("/_events/main", &"x".repeat(70_000)).from("127.0.0.2").send(&gateway);
    assert_eq!(large.problem(413), "body-too-large");
    // A path that only looks like it is a route's.
    for path in ["/_events/main/", "/_EVENTS/main", "/_events/main/x"] {
        assert_eq!(post(path, "x").from("127.0.0.3").send(&gateway).problem(401), "token-required", "{path}");
    }
    let finished = cli(&world, &["explain", "POST", "/_events/main"]);
    assert!(finished.stdout.contains("the provider of main"), "{finished:?}");
}

#[test]
fn no_report_is_a_callers_token_and_no_callers_token_is_a_report() {
    let world = world();
    let gateway = world.start(YAML);
    let api =
        json!({"aud": ["https://api.example", CLIENT], "sub": "alice", "client_id": "app", "scope": "items:read"});
    for typ in ["logout+jwt", "secevent+jwt", "at+jwt", "JWT"] {
        let report = typed(&world, typ, &logout_claims(api.clone()));
        get("/x").bearer(&report).send(&gateway).problem(401);
    }
    let caller = world.token(json!({"aud": ["https://api.example", CLIENT], "jti": "x"}));
    assert_eq!(ask(&gateway, &caller), 200);
    log_out(&gateway, &caller).expect(400);
    push(&gateway, &caller).expect(400);
    assert_eq!(admin(get("/revocations"), &gateway).json()["total"], 0);
    assert_eq!(gateway.metric("stepgate_security_events_total", &["refused"]), 2.0);
}

#[test]
fn who_uses_curl_revokes_in_a_line() {
    let world = world();
    let gateway = world.start(YAML);
    let alice = world.token(json!({}));
    assert_eq!(ask(&gateway, &alice), 200);
    let header = format!("Authorization: Bearer {TOKEN}");
    let url = format!("http://127.0.0.1:{}/revocations", gateway.admin);
    let body = r#"{"issuer":"main","subject":"alice","issued_before":"now","reason":"laptop stolen"}"#;
    let said = curl(&["-H", &header, "--json", body, &url]);
    assert!(said.stdout.contains(r#""subject":"alice""#), "{said:?}");
    assert_revoked(&gateway, &alice);
}

#[test]
fn whatever_was_acknowledged_survives_kill_9_in_the_middle_of_more() {
    let world = world();
    let mut gateway = world.start(YAML);
    let mut acknowledged = 0_u64;
    for round in 0..3_u64 {
        let port = gateway.admin;
        let writer = std::thread::spawn(move || {
            let mut wire = Wire::connect(port);
            (0_u64..).find(|number| {
                let body = json!({"issuer": "main", "jti": format!("{round}-{number}")}).to_string();
                let request = post("/revocations", &body).header("Authorization", &format!("Bearer {TOKEN}"));
                wire.try_send(&request.bytes()).is_err() || wire.try_answer(false).is_err()
            })
        });
        eventually("some revocations", || {
            (gateway.metric("stepgate_revocations", &["jti"]) > (acknowledged + 20) as f64).then_some(())
        });
        gateway.kill();
        let told = writer.join().unwrap().unwrap();
        drop(gateway);
        gateway = world.restart().ready();
        for number in 0..told {
            let found = admin(get(&format!("/revocations?kind=jti&value={round}-{number}")), &gateway).json();
            assert_eq!(found["revocations"].as_array().unwrap().len(), 1, "{round}-{number} of {told}");
        }
        acknowledged = gateway.metric("stepgate_revocations", &["jti"]) as u64;
    }
}

#[test]
fn a_log_out_at_a_real_provider_ends_the_access_token() {
    let world = world();
    let uri = format!("http://127.0.0.1:{}/_events/idp", world.port);
    let idp = Idp::start_telling(lease_port(), &uri);
    let yaml = YAML.replace(
        "  other:\n    issuer: https://other.example/",
        &format!(
            "  idp:
    issuer: {}
    audience: [https://api.example]
    keys: {{discovery: true}}
    algorithms: [RS256]
    types: [at+jwt]
    events: {{path: /_events/idp, audience: [browser]}}
  other:
    issuer: https://other.example/",
            idp.issuer()
        ),
    );
    let gateway = world.start(&yaml);
    let (token, browser) = idp.person_with_session();
    let machine = idp.machine_token("plain");
    assert_eq!((ask(&gateway, &token), ask(&gateway, &machine)), (200, 200));
    browser.log_out();
    eventually("the log-out to be told", || {
        (gateway.metric("stepgate_security_events_total", &["issuer=\"idp\"", "applied"]) == 1.0).then_some(())
    });
    assert_revoked(&gateway, &token);
    assert_eq!(ask(&gateway, &machine), 200);
    let kinds = admin(get("/revocations"), &gateway).json();
    let named = |kind: &str| kinds["revocations"].as_array().unwrap().iter().any(|entry| entry[kind].is_string());
    assert!(named("subject") && named("session"), "{kinds}");
}
