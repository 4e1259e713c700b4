//! The deletion guard: on every route by default, however the deletion is spelt; its quota; and the audit that every
//! attempt leaves behind.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Answer, Finished, Gateway, Recorder, Request, World, delete, eventually, get, post, stepgate};

const YAML: &str = "assurance:
  recent-mfa: {acr: [urn:example:acr:mfa], max_age: 5m}
deletion_guard:
  operations:
    - \"DELETE /**\"
    - {match: \"* /account/delete/**\", limit: 3/10m}
  assurance: recent-mfa
routes:
  - {path: /public/**, upstream: api, auth: none}
  - {path: /account/**, upstream: api, auth: [main]}
  - {path: /loose/**, upstream: api, auth: none, danger_unguarded_deletion: true}
  - {path: /own/**, upstream: api, auth: [main], deletion: {assurance: {amr: [mfa]}, limit: 2/10m}}
";

fn start() -> (World, Gateway) {
    let world = World::new();
    let gateway = world.start(YAML);
    (world, gateway)
}

#[test]
fn a_delete_needs_a_token_and_a_recent_second_factor_on_every_route() {
    let (world, gateway) = start();
    for path in ["/public/x", "/account/x"] {
        assert_eq!(delete(path).send(&gateway).problem(401), "token-required");
        let stepped = delete(path).bearer(&world.token(json!({}))).send(&gateway);
        assert_eq!(stepped.problem(401), "insufficient-user-authentication");
        delete(path).bearer(&world.fresh(400)).send(&gateway).problem(401);
    }
    world.upstream.assert_untouched();
    delete("/public/x").bearer(&world.fresh(5)).send(&gateway).expect(200);
    delete("/account/x").bearer(&world.fresh(5)).send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 2);
}

#[test]
fn without_a_word_about_it_the_guard_is_on() {
    let world = World::new();
    let gateway = world.start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    get("/x").send(&gateway).expect(200);
    delete("/x").send(&gateway).problem(401);
    delete("/x")
        .bearer(&world.token(json!({"amr": ["pwd"], "auth_time": crate::harness::unix_now()})))
        .send(&gateway)
        .problem(401);
    assert_eq!(world.upstream.count(), 1);
    delete("/x").bearer(&world.fresh(5)).send(&gateway).expect(200);
}

#[test]
fn a_listed_operation_is_guarded_whatever_its_method() {
    let (world, gateway) = start();
    let token = world.token(json!({}));
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] {
        let answer = Request::new(method, "/account/delete").bearer(&token).send(&gateway);
        assert_eq!(answer.status, 401, "{method}");
    }
    world.upstream.assert_untouched();
    post("/account/other", "x").bearer(&token).send(&gateway).expect(200);
}

#[test]
fn a_listed_operation_is_recognised_however_it_is_spelt() {
    let (world, gateway) = start();
    let token = world.token(json!({}));
    for path in [
        "/account/delete",
        "/account/delete/",
        "/account/delete/now",
        "/account/DELETE",
        "/account/Delete/now",
        "/account/delete;x=1",
        "/account/delete;x/now",
        "/account/delete.",
        "/account/delete%20",
        "/account/%64elete",
        "/account/d%65l%65t%65/now",
        "/account/delete%2e",
        "/account/delete;",
        "/account/delete.%20",
        "/account/delete%2520",
    ] {
        let answer = post(path, "x").bearer(&token).send(&gateway);
        assert!([400, 401].contains(&answer.status), "{path}: {}", answer.status);
    }
    world.upstream.assert_untouched();
}

#[test]
fn a_rewrite_cannot_turn_a_request_into_a_guarded_operation() {
    let world = World::new();
    let gateway = world.start(
        "deletion_guard:
  operations: [\"DELETE /**\", \"* /account/delete/**\"]
routes:
  - {path: /v1/**, upstream: api, auth: [main], rewrite: {strip_prefix: /v1}}
",
    );
    let token = world.token(json!({}));
    post("/v1/account/delete", "x").bearer(&token).send(&gateway).problem(401);
    world.upstream.assert_untouched();
    post("/v1/account/delete", "x").bearer(&world.fresh(5)).send(&gateway).expect(200);
    assert_eq!(world.upstream.last().target(), "/account/delete");
}

#[test]
fn a_route_leaves_the_guard_only_by_the_word_danger() {
    let (world, gateway) = start();
    delete("/loose/x").send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 1);
    eventually("a word at the start", || gateway.stderr().contains("danger_unguarded_deletion").then_some(()));
    assert!(gateway.metric("stepgate_danger", &["danger_unguarded_deletion"]) >= 1.0);
}

#[test]
fn the_whole_guard_leaves_only_by_the_word_danger() {
    let world = World::new();
    let gateway =
        world.start("deletion_guard: {danger_disabled: true}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n");
    delete("/x").send(&gateway).expect(200);
    assert!(gateway.stderr().contains("danger_disabled"), "{}", gateway.stderr());
    assert!(gateway.metric("stepgate_danger", &["danger_disabled"]) >= 1.0);
}

#[test]
fn a_route_may_set_its_own_proof_and_quota() {
    let (world, gateway) = start();
    // Its own assurance asks for no recent login and no acr.
    let token = world.token(json!({"amr": ["mfa"]}));
    delete("/own/x").bearer(&world.token(json!({"amr": ["pwd"]}))).send(&gateway).problem(401);
    for _ in 0..2 {
        delete("/own/x").bearer(&token).send(&gateway).expect(200);
    }
    assert_eq!(delete("/own/x").bearer(&token).send(&gateway).problem(429), "quota-exceeded");
    assert_eq!(world.upstream.count(), 2);
}

#[test]
fn a_route_with_an_assurance_of_its_own_needs_both() {
    let world = World::new();
    let gateway = world.start(
        "deletion_guard: {assurance: {acr: [a, b], max_age: 10m}}
routes:
  - {path: /x, upstream: api, auth: [main], assurance: {acr: [b, c], max_age: 5m}}
",
    );
    let with = |acr: &str, age: u64| world.token(json!({"acr": acr, "auth_time": crate::harness::unix_now() - age}));
    get("/x").bearer(&with("c", 5)).send(&gateway).expect(200);
    for (acr, age) in [("a", 5), ("c", 5), ("b", 400)] {
        delete("/x").bearer(&with(acr, age)).send(&gateway).problem(401);
    }
    delete("/x").bearer(&with("b", 5)).send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 2);
}

#[test]
fn assurances_that_exclude_each_other_are_an_error_at_load() {
    let finished = World::new().check(
        "deletion_guard: {assurance: {acr: [a]}}\nroutes:\n  - {path: /x, upstream: api, auth: [main], assurance: {acr: [b]}}\n",
    );
    assert_eq!(finished.code, 78, "{finished:?}");
}

#[test]
fn an_account_is_deleted_at_most_three_times_in_ten_minutes() {
    let (world, gateway) = start();
    let alice = world.fresh(5);
    // What is refused does not count.
    for _ in 0..4 {
        post("/account/delete/1", "x").bearer(&world.token(json!({}))).send(&gateway).problem(401);
    }
    for path in ["/account/delete/1", "/account/DELETE/2;a", "/account/delete"] {
        post(path, "x").bearer(&alice).send(&gateway).expect(200);
    }
    let answer = post("/account/delete/1", "x").bearer(&world.fresh(6)).send(&gateway);
    assert_eq!(answer.problem(429), "quota-exceeded");
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((500..=601).contains(&wait), "{wait}");
    post("/account/delete/1", "x").bearer(&world.fresh_for("bob", 5)).send(&gateway).expect(200);
    // Other deletions are not under that operation's quota.
    delete("/account/x").bearer(&alice).send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 5);
}

#[test]
fn a_burst_of_deletions_admits_exactly_three() {
    let (world, gateway) = start();
    let token = world.fresh(5);
    let admitted: usize = std::thread::scope(|scope| {
        let ask = || usize::from(post("/account/delete/1", "x").bearer(&token).send(&gateway).status == 200);
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(move || (0..4).map(|_| ask()).sum::<usize>())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 3);
    assert_eq!(world.upstream.count(), 3);
}

// -- method overrides

/// An API that honours overrides in these ways, open to everybody.
pub fn overriding(ways: &str) -> (World, Gateway) {
    let world = World::new();
    let gateway = world.start(&format!(
        "upstreams:
  api: {{targets: [http://127.0.0.1:<upstream>], method_override: [{ways}]}}
routes:
  - {{path: /public/**, upstream: api, auth: none}}
"
    ));
    (world, gateway)
}

#[test]
fn override_headers_are_dropped_where_the_upstream_is_not_said_to_honour_them() {
    let (world, gateway) = start();
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x_http_method_override",
        "X-Http_Method-Override",
    ] {
        post("/public/x", "x").header(name, "DELETE").send(&gateway).expect(200);
        let seen = world.upstream.last();
        assert!(seen.line().starts_with("POST ") && !seen.has(name), "{}", seen.head);
    }
}

#[test]
fn an_override_header_that_is_honoured_is_judged() {
    let (world, gateway) = overriding("header");
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        for value in ["DELETE", "delete", " Delete "] {
            post("/public/x", "x").header(name, value).send(&gateway).problem(401);
        }
    }
    world.upstream.assert_untouched();
    post("/public/x", "x").header("X-HTTP-Method-Override", "PUT").send(&gateway).expect(200);
    post("/public/x", "x")
        .header("X-HTTP-Method-Override", "DELETE")
        .bearer(&world.fresh(5))
        .send(&gateway)
        .expect(200);
    assert_eq!(world.upstream.last().header("x-http-method-override"), "DELETE");
}

#[test]
fn two_overrides_that_differ_are_a_bad_request() {
    let (world, gateway) = overriding("header, query");
    post("/public/x", "x")
        .header("X-HTTP-Method-Override", "PUT")
        .header("X-HTTP-Method-Override", "DELETE")
        .send(&gateway)
        .problem(400);
    post("/public/x", "x")
        .header("X-HTTP-Method-Override", "PUT")
        .header("X-Method-Override", "DELETE")
        .send(&gateway)
        .problem(400);
    post("/public/x?_method=DELETE", "x").header("X-HTTP-Method-Override", "PUT").send(&gateway).problem(400);
    world.upstream.assert_untouched();
}

#[test]
fn an_override_in_the_query_that_is_honoured_is_judged() {
    let (world, gateway) = overriding("query");
    for query in [
        "_method=DELETE",
        "a=b&_method=delete",
        "_METHOD=DELETE",
        "%5fmethod=DELETE",
        "_method=%44ELETE",
        "_method[]=DELETE",
        "a=b;_method=DELETE",
    ] {
        post(&format!("/public/x?{query}"), "x").send(&gateway).problem(401);
    }
    world.upstream.assert_untouched();
    post("/public/x?_method=PUT", "x").send(&gateway).expect(200);
}

#[test]
fn an_override_in_a_form_that_is_honoured_is_judged() {
    let (world, gateway) = overriding("form");
    let form = |body: &str, kind: &str| post("/public/x", body).header("Content-Type", kind).send(&gateway);
    let urlencoded = "application/x-www-form-urlencoded";
    for body in ["_method=DELETE", "a=b&_method=delete&c=d", "%5Fmethod=DELETE"] {
        form(body, urlencoded).problem(401);
    }
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--x--\r\n";
    form(multipart, "multipart/form-data; boundary=x").problem(401);
    world.upstream.assert_untouched();
    form("a=b", urlencoded).expect(200);
    assert_eq!(world.upstream.last().body, b"a=b", "what was read for the decision goes on");
    form("_method=PUT&a=b", urlencoded).expect(200);
    post("/public/x", "_method=DELETE").header("Content-Type", "text/plain").send(&gateway).expect(200);
}

#[test]
fn a_form_too_large_to_be_judged_is_refused() {
    let (world, gateway) = overriding("form");
    let body = format!("a={}&_method=DELETE", "x".repeat(2 * 1024 * 1024));
    let answer = post("/public/x", &body).header("Content-Type", "application/x-www-form-urlencoded").send(&gateway);
    assert_eq!(answer.problem(413), "body-too-large");
    world.upstream.assert_untouched();
}

// -- what check says

#[test]
fn check_refuses_a_guarded_operation_whose_method_nobody_can_ask_for() {
    let finished = World::new().check(
        "deletion_guard: {operations: [\"DELETE /**\", \"POSST /accounts/purge\"]}
routes:
  - {path: /accounts/**, upstream: api, auth: [main]}
",
    );
    assert_eq!(finished.code, 78, "{finished:?}");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(said.contains("`POSST` is not among `server.methods`: this guards nothing"), "{said}");
    assert!(said.contains("did you mean `POST`?"), "{said}");
}

#[test]
fn check_lists_every_destructive_looking_operation_that_is_not_guarded() {
    let finished = World::new().check(
        "routes:
  - {path: /users/purge, upstream: api, auth: [main], methods: [POST]}
  - {path: /loose/**, upstream: api, auth: [main], danger_unguarded_deletion: true}
  - {path: /fine/**, upstream: api, auth: [main], methods: [GET]}
",
    );
    assert_eq!(finished.code, 0, "{finished:?}");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(said.contains("/users/purge") && said.contains("/loose/**"), "{said}");
    assert!(!said.contains("/fine/**"), "{said}");
}

// -- the audit

fn verify(world: &World, file: &str, more: &[&str]) -> Finished {
    stepgate(world.folder(), &[&["audit", "verify", file], more].concat())
}

/// A record with what its disclosures say: each is base64url of `[salt, name, value]` (RFC 9901 section 4.2.1).
fn disclosed(record: &Value) -> String {
    let disclosures = record["disclosures"].as_array().into_iter().flatten();
    let decode = |text: &Value| URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap();
    let values: Vec<String> = disclosures.map(|text| String::from_utf8(decode(text)).unwrap()).collect();
    format!("{record} {}", values.join(" "))
}

fn records(gateway: &Gateway, kind: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} records of kind {kind}"), || {
        let found: Vec<Value> = gateway.audit().into_iter().filter(|record| record["kind"] == kind).collect();
        (found.len() >= count).then_some(found)
    })
}

#[test]
fn an_allowed_deletion_leaves_an_intent_and_its_outcome() {
    let (world, gateway) = start();
    delete("/account/7").bearer(&world.fresh(5)).send(&gateway).expect(200);
    let intent = &records(&gateway, "intent", 1)[0];
    let outcome = &records(&gateway, "outcome", 1)[0];
    assert!(intent["seq"].as_u64() < outcome["seq"].as_u64());
    let text = disclosed(intent);
    for part in ["alice", "main", "app", "127.0.0.1", "/account/7", "urn:example:acr:mfa", "DELETE"] {
        assert!(text.contains(part), "when, who, from where, what, with which proof: {part} in {text}");
    }
    assert!(outcome.to_string().contains("200"), "the upstream's answer: {outcome}");
}

#[test]
fn the_intent_is_durable_before_the_upstream_hears_of_it() {
    let world = World::with(Recorder::raw(|stream, bytes| {
        // Reads the request and never answers.
        let mut buffer = [0; 4096];
        while std::io::Read::read(&mut &stream, &mut buffer).is_ok_and(|read| {
            bytes.lock().unwrap().extend_from_slice(&buffer[..read]);
            read > 0
        }) {}
    }));
    let mut gateway = world.start(YAML);
    let mut wire = gateway.connect();
    wire.send(delete("/account/7").bearer(&world.fresh(5)).bytes());
    eventually("the request to reach the upstream", || (!world.upstream.bytes().is_empty()).then_some(()));
    gateway.kill();
    let kinds: Vec<Value> = gateway.audit().into_iter().map(|record| record["kind"].clone()).collect();
    assert!(kinds.contains(&json!("intent")), "kill -9 loses no intent: {kinds:?}");
    // The next start tells that its outcome is not known, and the chain still holds.
    let gateway = world.restart().ready();
    eventually("the outcome", || gateway.audit().iter().any(|record| record["kind"] == "outcome").then_some(()));
    assert_eq!(verify(&world, "state/audit.jsonl", &[]).code, 0);
}

#[test]
fn a_refused_attempt_of_a_known_caller_is_recorded_with_its_reason() {
    let (world, gateway) = start();
    delete("/account/7").bearer(&world.token(json!({}))).send(&gateway).problem(401);
    let found =
        eventually("the refusal", || gateway.audit().into_iter().find(|record| disclosed(record).contains("alice")));
    assert!(found.to_string().contains("acr_insufficient"), "{found}");
}

#[test]
fn strangers_are_counted_and_cannot_fill_the_disk() {
    let (world, mut gateway) = start();
    for n in 0..60 {
        delete(&format!("/account/{n}")).send(&gateway).problem(401);
        delete(&format!("/account/{n}")).header("Authorization", "Bearer nonsense").send(&gateway).problem(401);
    }
    assert!(gateway.metric("stepgate_audit_unauthenticated_attempts_total", &[]) >= 120.0);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    let records = gateway.audit();
    assert!(records.len() <= 6, "120 attempts in {} records", records.len());
    assert!(records.iter().any(|record| record.to_string().contains("token_missing")), "{records:?}");
    assert!(!records.iter().any(|record| record.to_string().contains("/account/1\"")));
    drop(world);
}

/// Makes a log with several records, ends the gateway, and gives the file's text.
fn logged(world: &World) -> String {
    let mut gateway = world.start(YAML);
    for n in 0..4 {
        delete(&format!("/account/{n}")).bearer(&world.fresh(5)).send(&gateway).expect(200);
    }
    delete("/account/9").bearer(&world.token(json!({}))).send(&gateway).problem(401);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    std::fs::read_to_string(gateway.audit_file()).unwrap()
}

#[test]
fn an_untouched_log_verifies_with_its_signed_head() {
    let world = World::new();
    let text = logged(&world);
    assert!(text.lines().count() >= 9, "{text}");
    assert_eq!(verify(&world, "state/audit.jsonl", &[]).code, 0);
    let head = verify(&world, "state/audit.jsonl", &["--head", "state/audit.jsonl.head"]);
    assert_eq!(head.code, 0, "{head:?}");
}

#[test]
fn a_person_is_struck_out_of_the_log_and_the_log_still_verifies() {
    let world = World::new();
    let text = logged(&world);
    let all = |text: &str| -> String {
        text.lines().map(|line| disclosed(&serde_json::from_str(line).unwrap_or_default())).collect()
    };
    assert!(all(&text).contains("alice"));
    let erase = |value: &str| stepgate(world.folder(), &["audit", "erase", "state/audit.jsonl", "subject", value]);
    assert_eq!(erase("nobody").code, 1, "there is nothing of that name");
    let finished = erase("alice");
    assert_eq!(finished.code, 0, "{finished:?}");
    let after = std::fs::read_to_string(world.folder().join("state/audit.jsonl")).unwrap();
    let left: String = after
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
        .filter_map(|word| String::from_utf8(URL_SAFE_NO_PAD.decode(word).ok()?).ok())
        .collect();
    assert!(!left.contains("alice") && left.contains("/account/"), "only what was named: {left}");
    let verified = verify(&world, "state/audit.jsonl", &["--head", "state/audit.jsonl.head"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(verified.stdout.contains("erased"), "{verified:?}");
}

#[test]
fn any_tampering_with_the_log_is_found() {
    let world = World::new();
    let text = logged(&world);
    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| format!("{}\n", lines.join("\n"));
    let mut tampered: Vec<(&str, String)> = Vec::new();
    let mut without = lines.clone();
    without.remove(2);
    tampered.push(("a record removed", joined(&without)));
    tampered.push(("the first record removed", joined(&lines[1..])));
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    tampered.push(("two records swapped", joined(&swapped)));
    let mut twice = lines.clone();
    twice.insert(2, lines[2]);
    tampered.push(("a record repeated", joined(&twice)));
    // One character inside a salt: still base64url, and no longer what was committed to.
    let salt = text.find("\"disclosures\":[\"").unwrap() + 24;
    let other = if &text[salt..=salt] == "A" { "B" } else { "A" };
    tampered.push(("another disclosure", format!("{}{other}{}", &text[..salt], &text[salt + 1..])));
    tampered.push(("another method", text.replacen("DELETE", "PATCHE", 1)));
    let at = text.find("\"time\"").unwrap() + 12;
    let digit = text[at..].find(|c: char| c.is_ascii_digit()).unwrap() + at;
    let other = if &text[digit..=digit] == "1" { "2" } else { "1" };
    tampered.push(("another time", format!("{}{other}{}", &text[..digit], &text[digit + 1..])));
    for (what, content) in &tampered {
        assert_ne!(content, &text, "{what}");
        world.write("tampered.jsonl", content);
        let finished = verify(&world, "tampered.jsonl", &[]);
        assert_eq!(finished.code, 1, "{what}: {finished:?}");
        assert!(!finished.stderr.contains("panicked"), "{what}");
    }
    world.write("truncated.jsonl", joined(&lines[..lines.len() - 1]));
    let finished = verify(&world, "truncated.jsonl", &["--head", "state/audit.jsonl.head"]);
    assert_eq!(finished.code, 1, "the head tells of the end that is missing: {finished:?}");
}

#[test]
fn a_chain_forged_from_the_start_does_not_fit_the_signed_head() {
    let world = World::new();
    let text = logged(&world);
    let other = World::new();
    logged(&other);
    let forged = std::fs::read(other.folder().join("state/audit.jsonl")).unwrap();
    world.write("forged.jsonl", forged);
    assert_eq!(verify(&world, "forged.jsonl", &[]).code, 0, "a chain of its own");
    assert_eq!(verify(&world, "forged.jsonl", &["--head", "state/audit.jsonl.head"]).code, 1);
    drop(text);
}

#[test]
fn values_that_identify_can_be_erased_without_breaking_the_chain() {
    let world = World::new();
    let text = logged(&world);
    let erased: String = text
        .lines()
        .map(|line| {
            // To the letter: the hash covers the bytes before them.
            let (body, _) = line.split_once(",\"disclosures\":").unwrap_or((line.strip_suffix('}').unwrap(), ""));
            format!("{body}}}\n")
        })
        .collect();
    let tell =
        |text: &str| -> String { text.lines().map(|line| disclosed(&serde_json::from_str(line).unwrap())).collect() };
    for value in ["alice", "/account/0", "127.0.0.1"] {
        assert!(tell(&text).contains(value) && !tell(&erased).contains(value), "{value}: {erased}");
    }
    world.write("erased.jsonl", &erased);
    let finished = verify(&world, "erased.jsonl", &[]);
    assert_eq!(finished.code, 0, "{finished:?}");
}

#[test]
fn the_log_grows_over_restarts_in_one_chain() {
    let world = World::new();
    logged(&world);
    let first = std::fs::read_to_string(world.folder().join("state/audit.jsonl")).unwrap();
    let both = logged(&world);
    assert!(both.starts_with(&first) && both.len() > first.len());
    assert_eq!(verify(&world, "state/audit.jsonl", &["--head", "state/audit.jsonl.head"]).code, 0);
}

#[test]
fn while_the_audit_cannot_be_written_guarded_operations_alone_are_refused() {
    let world = World::new();
    world.configure(YAML);
    // No file may grow beyond two blocks, and who tries is told so rather than killed: a disk that fills up.
    let mut gateway = world.start_in("trap '' XFSZ; ulimit -f 2").ready();
    let deletion = delete("/public/x").bearer(&world.fresh(5));
    let mut allowed = 0;
    let refused = loop {
        let answer: Answer = deletion.send(&gateway);
        if answer.status != 200 || allowed > 50 {
            break answer;
        }
        allowed += 1;
    };
    refused.problem(503);
    assert_eq!(world.upstream.count(), allowed, "the deletion that could not be written down was not forwarded");
    get("/public/x").send(&gateway).expect(200);
    assert!(gateway.metric("stepgate_audit_failures_total", &[]) >= 1.0);
    gateway.kill();
    assert_eq!(verify(&world, "state/audit.jsonl", &[]).code, 0, "no torn line is left behind");
}

/// Three refusals for a full disk used up a quota of three, so nothing could be deleted for ten minutes after it.
#[test]
fn a_deletion_that_is_refused_while_the_audit_cannot_be_written_does_not_count() {
    let world = World::new();
    world.configure(YAML);
    let gateway = world.start_on_a_small_disk();
    let token = world.fresh(5);
    let fill = delete("/public/x").bearer(&token);
    eventually("the disk to be full", || (fill.send(&gateway).status == 503).then_some(()));
    let deletion = delete("/own/x").bearer(&token);
    for _ in 0..3 {
        let refused = deletion.send(&gateway);
        assert_eq!(refused.problem(503), "temporarily-unavailable");
        assert_eq!(refused.header("retry-after"), "5");
        assert!(!refused.has("ratelimit"), "no quota was charged");
    }
    assert!(gateway.metric("stepgate_audit_failures_total", &[]) >= 4.0, "each counts as a record that is not there");
    if !gateway.give_back_the_disk() {
        return;
    }
    eventually("the trail to be written again", || {
        (gateway.metric("stepgate_audit_writable", &[]) == 1.0).then_some(())
    });
    for _ in 0..2 {
        deletion.send(&gateway).expect(200);
    }
    assert_eq!(deletion.send(&gateway).problem(429), "quota-exceeded");
}

#[test]
fn an_attempt_at_a_public_route_is_audited_with_its_caller() {
    let (world, gateway) = start();
    delete("/public/x").bearer(&world.fresh(5)).send(&gateway).expect(200);
    assert!(disclosed(&records(&gateway, "intent", 1)[0]).contains("alice"));
}
