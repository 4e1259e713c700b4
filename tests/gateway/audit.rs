//! What the audit trail says of attempts at guarded operations: with which proof, why each was refused, and what became of those that
//! were let through.

use std::io::Read;

use serde_json::{Value, json};

use crate::harness::{Gateway, Jwks, Recorder, Request, World, delete, eventually, get, stepgate};

const YAML: &str = "assurance:
  recent-mfa: {acr: [urn:example:acr:mfa], max_age: 5m}
deletion_guard: {operations: [\"DELETE /**\"], assurance: recent-mfa}
routes:
  - {path: /open/**, upstream: api, auth: none}
  - {path: /account/**, upstream: api, auth: [main]}
  - {path: /few/**, upstream: api, auth: [main], deletion: {limit: 1/10m}}
  - {path: /scoped/**, upstream: api, auth: [main], scopes: [items:delete]}
  - {path: /finance/**, upstream: api, auth: [main], when: 'claims.department == \"finance\"'}
";

/// Waits for a record.
fn record(gateway: &Gateway, what: impl Fn(&Value) -> bool) -> Value {
    eventually("an audit record", || gateway.audit().into_iter().find(&what))
}

/// The record of a request's refusal.
fn refusal(gateway: &Gateway, request: &Request, status: u16) -> Value {
    let answer = request.send(gateway).expect(status);
    let id = answer.header("x-request-id").to_owned();
    let record = record(gateway, |record| record["request_id"] == *id);
    assert_eq!((&record["kind"], &record["decision"]), (&json!("refusal"), &json!("refused")), "{record}");
    record
}

#[test]
fn a_record_says_which_proof_there_was_and_how_old() {
    let world = World::new();
    let gateway = world.start(YAML);
    delete("/account/7").bearer(&world.fresh(40)).send(&gateway).expect(200);
    let intent = record(&gateway, |record| record["kind"] == "intent");
    let proof = &intent["proof"];
    assert_eq!(proof["acr"], "urn:example:acr:mfa");
    assert_eq!(proof["amr"], json!(["pwd", "otp", "mfa"]));
    let at: jiff::Timestamp = intent["time"].as_str().unwrap().parse().unwrap();
    let age = at.as_second() - proof["auth_time"].as_i64().unwrap();
    assert!(age >= 40 && proof["age_secs"] == age, "{intent}");
    // A proof that is not enough is told of as well, and nothing is made up of what the token does not say.
    let weak = world.token(json!({"acr": "urn:example:acr:pwd"}));
    let refused = refusal(&gateway, &delete("/account/7").bearer(&weak), 401);
    assert_eq!(
        (&refused["reason"], &refused["proof"]["acr"]),
        (&json!("acr_insufficient"), &json!("urn:example:acr:pwd"))
    );
    assert!(refused["proof"].get("age_secs").is_none() && refused["proof"].get("auth_time").is_none(), "{refused}");
    let stale = refusal(&gateway, &delete("/account/7").bearer(&world.fresh(400)), 401);
    assert_eq!(stale["reason"], "authentication_too_old");
    assert!(stale["proof"]["age_secs"].as_i64().unwrap() >= 400, "{stale}");
}

#[test]
fn a_refusal_is_recorded_for_whatever_reason_it_was() {
    let world = World::new();
    let gateway = world.start(YAML);
    let token = world.fresh(5);
    delete("/few/1").bearer(&token).send(&gateway).expect(200);
    for (path, status, reason) in
        [("/few/2", 429, "quota_exceeded"), ("/scoped/2", 403, "scope_missing"), ("/finance/2", 403, "condition_error")]
    {
        let refused = refusal(&gateway, &delete(path).bearer(&token), status);
        assert_eq!(refused["reason"], reason, "{refused}");
        assert_eq!(refused["op"]["method"], "DELETE");
        assert_eq!(refused["op"]["route"], path.replace("/2", "/**"));
        assert_eq!(refused["op"]["guard"], "DELETE /**");
        assert_eq!(refused["who"]["issuer"], "main");
        assert_eq!(refused["proof"]["acr"], "urn:example:acr:mfa", "the proof was not what it lacked: {refused}");
    }
    assert_eq!(world.upstream.count(), 1);
    assert_eq!(stepgate(world.folder(), &["audit", "verify", "state/audit.jsonl"]).code, 0);
}

#[test]
fn an_attempt_whose_caller_cannot_be_verified_now_is_counted_by_that_reason() {
    let world = World::new();
    let jwks = Jwks::down(world.signer().jwks());
    let issuer = format!(
        "issuers:\n  main: {{issuer: https://idp.example/, audience: [https://api.example], keys: {{jwks_url: \"{}\"}}, algorithms: [ES256]}}\n",
        jwks.url()
    );
    let mut gateway = world.start_unready(&format!("{issuer}{YAML}"));
    for _ in 0..3 {
        delete("/account/7").bearer(&world.fresh(5)).send(&gateway).problem(503);
    }
    world.upstream.assert_untouched();
    let counted = |reason: &str| {
        gateway.metric("stepgate_audit_unauthenticated_attempts_total", &[&format!("reason=\"{reason}\"")])
    };
    assert_eq!(counted("keys_unavailable"), 3.0);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    let attempts = gateway.audit().into_iter().find(|record| record["kind"] == "attempts").unwrap();
    assert_eq!(attempts["counts"], json!([{"reason": "keys_unavailable", "route": "/account/**", "count": 3}]));
}

#[test]
fn an_attempt_that_is_refused_before_anybody_looks_at_its_caller_is_counted_and_names_nobody() {
    let world = World::new();
    let mut gateway = world.start(
        "limits: {door: {key: ip, rate: 1/10m}}
routes: [{path: /account/**, upstream: api, auth: [main], limits: [door]}]
",
    );
    let deletion = delete("/account/7").bearer(&world.fresh(5));
    deletion.send(&gateway).expect(200);
    for _ in 0..2 {
        assert_eq!(deletion.send(&gateway).problem(429), "quota-exceeded");
    }
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    let records = gateway.audit();
    let kinds: Vec<&str> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["intent", "outcome", "attempts"]);
    assert_eq!(records[2]["counts"], json!([{"reason": "quota_exceeded", "route": "/account/**", "count": 2}]));
    assert!(records[2].get("who").is_none() && records[2].get("disclosures").is_none(), "{}", records[2]);
}

#[test]
fn an_outcome_says_how_the_service_failed() {
    let mute = Recorder::raw(|mut stream, _| while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {});
    let rude = Recorder::with(|_, _| false);
    let world = World::with(Recorder::answering("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"));
    let gateway = world.start(&format!(
        "upstreams:
  api: {{targets: [http://127.0.0.1:<upstream>]}}
  down: {{targets: [http://127.0.0.1:1]}}
  rude: {{targets: [http://127.0.0.1:{}]}}
  mute: {{targets: [http://127.0.0.1:{}], timeouts: {{response: 1s}}}}
routes:
  - {{path: /api, upstream: api, auth: [main]}}
  - {{path: /down, upstream: down, auth: [main]}}
  - {{path: /rude, upstream: rude, auth: [main]}}
  - {{path: /mute, upstream: mute, auth: [main]}}
",
        rude.port, mute.port
    ));
    for (path, status, outcome) in [
        ("/api", 500, json!({"result": "answered", "status": 500})),
        ("/down", 502, json!({"result": "failed", "reason": "upstream_unreachable"})),
        ("/rude", 502, json!({"result": "failed", "reason": "upstream_reset"})),
        ("/mute", 504, json!({"result": "failed", "reason": "upstream_timeout"})),
    ] {
        let answer = delete(path).bearer(&world.fresh(5)).send(&gateway).expect(status);
        let id = answer.header("x-request-id").to_owned();
        let intent = record(&gateway, |record| record["request_id"] == *id);
        assert_eq!((&intent["kind"], &intent["decision"]), (&json!("intent"), &json!("allowed")));
        let told = record(&gateway, |record| record["kind"] == "outcome" && record["intent"] == intent["seq"]);
        for (member, value) in outcome.as_object().unwrap() {
            assert_eq!(&told[member], value, "{path}: {told}");
        }
    }
}

#[test]
fn what_was_refused_while_the_trail_could_not_be_written_is_in_it_once_it_can_be() {
    let world = World::new();
    world.configure(YAML);
    let gateway = world.start_on_a_small_disk();
    assert_eq!(gateway.metric("stepgate_audit_writable", &[]), 1.0);
    let deletion = delete("/account/7").bearer(&world.fresh(5));
    let refused =
        eventually("the disk to be full", || Some(deletion.send(&gateway)).filter(|answer| answer.status != 200));
    assert_eq!(refused.problem(503), "temporarily-unavailable");
    let forwarded = world.upstream.count();
    assert_eq!(gateway.metric("stepgate_audit_writable", &[]), 0.0);
    assert!(gateway.metric("stepgate_audit_failures_total", &[]) >= 1.0);
    get("/open/x").send(&gateway).expect(200);
    if !gateway.give_back_the_disk() {
        return;
    }
    eventually("the trail to be written again", || {
        (gateway.metric("stepgate_audit_writable", &[]) == 1.0).then_some(())
    });
    let recovered = record(&gateway, |record| record["kind"] == "recovered");
    assert!(recovered["unwritable_from"].is_string(), "{recovered}");
    let id = refused.header("x-request-id").to_owned();
    let told = record(&gateway, |record| record["request_id"] == *id);
    assert_eq!((&told["kind"], &told["reason"]), (&json!("refusal"), &json!("audit_unavailable")), "{told}");
    deletion.send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), forwarded + 2, "the one that was open, and the last");
    assert_eq!(stepgate(world.folder(), &["audit", "verify", "state/audit.jsonl"]).code, 0);
}
