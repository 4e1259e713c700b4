//! Second factors of the gateway's own authority on the request's line: elevations, codes and grants that come with a request,
//! what each is good for, and that nothing of them reaches a service.

use std::thread;

use serde_json::{Value, json};

use crate::harness::{Gateway, People, Recorder, Request, World, delete, eventually, get, post, stepgate};

const ROUTES: &str = "sealing: {key: {file: seal.key}}
authority:
  url: https://gate.example
  path: /second
  acr: {urn:example:acr:mfa: {categories: 2}}
  enrolment: open
  danger_cleartext: true
assurance:
  strong: {acr: [urn:example:acr:mfa], max_age: 5m}
  keys: {factors: [passkey]}
  other: {amr: [mfa]}
deletion_guard:
  assurance: {amr: [mfa], max_age: 5m}
limits:
  few: {key: subject, rate: 1/10m}
routes:
  - {path: /public, upstream: api, auth: none}
  - {path: /plain, upstream: api, auth: [main]}
  - {path: /strong/**, upstream: api, auth: [main], assurance: strong}
  - {path: /other, upstream: api, auth: [main], assurance: other}
  - {path: /keys, upstream: api, auth: [main], assurance: keys}
  - {path: /scoped, upstream: api, auth: [main], assurance: strong, scopes: [nobody:has]}
  - {path: /items/**, upstream: api, auth: [main]}
  - {path: /bound/**, upstream: api, auth: [main], deletion: {bind: request, assurance: other}}
  - {path: /by-the-way/**, upstream: api, auth: [main], rewrite: {strip_prefix: /by-the-way}}
  - {path: /few/**, upstream: api, auth: [main], limits: [few], deletion: {bind: request, assurance: other}}
";

fn world() -> World {
    let world = World::new();
    world.seal();
    world.configure(ROUTES);
    world
}

/// A token of a password alone, of somebody of that name.
fn weak(world: &World, subject: &str) -> String {
    world.token(json!({"sub": subject, "acr": "urn:example:acr:pwd", "amr": ["pwd"], "jti": format!("{subject}-1")}))
}

fn reason_of(gateway: &Gateway, id: &str) -> Value {
    gateway.access(|record| record["request.id"] == id)
}

/// Sends a request that is refused with this problem, for this reason.
#[track_caller]
fn refused(gateway: &Gateway, request: &Request, status: u16, problem: &str, reason: &str) -> Value {
    let answer = request.send(gateway);
    assert_eq!(answer.problem(status), problem);
    let record = reason_of(gateway, answer.header("x-request-id"));
    assert_eq!(record["reason"], reason, "{record}");
    answer.json()
}

const STEP_UP: &str = "insufficient-user-authentication";

#[test]
fn explain_knows_that_the_authority_brings_methods_of_its_own() {
    let world = World::new();
    world.seal();
    world.configure(&format!("server: {{workers: 1, methods: [GET, POST]}}\n{ROUTES}"));
    let gateway = world.restart().ready();
    for (path, code) in [("/second/api/v1/factors/x", 0), ("/plain", 1)] {
        let status = delete(path).send(&gateway).status;
        let finished = stepgate(world.folder(), &["explain", "DELETE", path]);
        assert_eq!((status == 405, finished.code), (code == 1, code), "{finished:?}");
        assert_eq!(finished.stdout.contains("refused: 405"), code == 1, "{finished:?}");
    }
}

#[test]
fn an_elevated_token_passes_where_it_was_refused_and_no_other_token_does() {
    let world = world();
    let (token, other) = (weak(&world, "alice"), world.token(json!({"sub": "alice", "jti": "alice-2"})));
    let people = People::of(&world);
    let codes = people.enrol(&token);
    people.elevate(&token, "strong", &codes.recovery[0]);
    drop(people);
    let gateway = world.restart().ready();
    let answer = get("/strong/x").bearer(&token).send(&gateway).expect(200);
    assert_eq!(reason_of(&gateway, answer.header("x-request-id"))["step_up"], "elevation");
    get("/plain").bearer(&other).send(&gateway).expect(200);
    let body = refused(&gateway, &get("/strong/x").bearer(&other), 401, STEP_UP, "acr_insufficient");
    assert_eq!(body["step_up"]["level"], "strong");
    assert_eq!(body["step_up"]["challenge"], "https://gate.example/second/api/v1/challenges");
    // Another level, and one that asks for another factor, are not covered.
    refused(&gateway, &get("/other").bearer(&token), 401, STEP_UP, "amr_insufficient");
    refused(&gateway, &get("/keys").bearer(&token), 401, STEP_UP, "factor_insufficient");
    refused(&gateway, &get("/scoped").bearer(&token), 403, "insufficient-scope", "scope_missing");
    // The deletion guard asks for more than an elevation, also where the level is the same.
    refused(&gateway, &delete("/items/1").bearer(&token), 401, STEP_UP, "amr_insufficient");
    let body = refused(&gateway, &delete("/strong/1").bearer(&token), 401, STEP_UP, "acr_insufficient");
    assert_eq!((&body["step_up"]["grant"], &body["step_up"]["bind"]), (&json!(true), &json!(false)));
}

#[test]
fn a_code_in_the_request_is_good_for_that_request_and_once() {
    let world = world();
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    drop(people);
    let gateway = world.restart().ready();
    let with = |request: Request, code: &str| request.bearer(&token).header("Stepgate-OTP", code);
    // Not looked at where it is not needed, so not used.
    with(get("/plain"), &codes.app).send(&gateway).expect(200);
    with(get("/public"), &codes.app).send(&gateway).expect(200);
    refused(&gateway, &with(get("/scoped"), &codes.app), 403, "insufficient-scope", "scope_missing");
    let answer = with(get("/strong/x"), &codes.app).send(&gateway).expect(200);
    assert_eq!(reason_of(&gateway, answer.header("x-request-id"))["step_up"], "code");
    assert!(world.upstream.requests().iter().all(|request| !request.has("stepgate-otp")));
    refused(&gateway, &with(get("/strong/x"), &codes.app), 403, "invalid-proof", "code_refused");
    refused(&gateway, &get("/strong/x").bearer(&token), 401, STEP_UP, "acr_insufficient");
    // It deletes, and the audit trail says by what.
    with(delete("/items/1"), &codes.recovery[0]).send(&gateway).expect(200);
    let intent = gateway.audit().into_iter().find(|record| record["kind"] == "intent").unwrap();
    let second = &intent["proof"]["second_factors"][0];
    assert_eq!((&second["way"], &second["factors"]), (&json!("code"), &json!(["recovery"])), "{intent}");
    // Wrong, twice, and nothing at all.
    let face = refused(&gateway, &with(get("/strong/x"), "000000"), 403, "invalid-proof", "code_refused");
    let twice = with(get("/strong/x"), &codes.recovery[1]).header("stepgate-otp", &codes.recovery[2]);
    let same = refused(&gateway, &twice, 403, "invalid-proof", "code_refused");
    assert_eq!(face["detail"], same["detail"]);
    refused(&gateway, &with(get("/strong/x"), ""), 403, "invalid-proof", "code_refused");
    let stranger = weak(&world, "mallory");
    let asked = get("/strong/x").bearer(&stranger).header("Stepgate-OTP", &codes.recovery[1]);
    refused(&gateway, &asked, 403, "invalid-proof", "code_refused");
    // What came in no form that is read was not used.
    with(get("/strong/x"), &codes.recovery[1]).send(&gateway).expect(200);
}

#[test]
fn a_code_is_not_used_up_where_the_request_may_also_be_one_that_no_code_is_for() {
    let world = world();
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    drop(people);
    let gateway = world.restart().ready();
    let with = |request: Request| request.bearer(&token).header("Stepgate-OTP", &codes.recovery[0]);
    // The first way wants the guard's level, which a code gives; the service may take it for one that wants a bound grant.
    let asked = refused(&gateway, &with(delete("/by-the-way/bound/1")), 401, STEP_UP, "amr_insufficient");
    assert_eq!(asked["step_up"]["bind"], true, "{asked}");
    world.upstream.assert_untouched();
    with(delete("/by-the-way/items/1")).send(&gateway).expect(200);
}

#[test]
fn a_code_is_not_looked_at_where_another_route_that_is_asked_too_lacks_something_else() {
    let world = world();
    let rewritten =
        "  - {path: /v1/**, upstream: api, auth: [main], assurance: strong, rewrite: {strip_prefix: /v1}}\n";
    world.configure(&format!("{ROUTES}{rewritten}"));
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    drop(people);
    let gateway = world.restart().ready();
    let with = |request: Request| request.bearer(&token).header("Stepgate-OTP", &codes.app);
    refused(&gateway, &with(get("/v1/scoped")), 403, "insufficient-scope", "scope_missing");
    with(get("/v1/plain")).send(&gateway).expect(200);
}

#[test]
fn two_who_use_one_code_at_once_are_one_and_a_refusal() {
    let world = world();
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    drop(people);
    let gateway = world.restart().ready();
    for code in [&codes.app, &codes.recovery[0]] {
        let request = get("/strong/x").bearer(&token).header("Stepgate-OTP", code);
        let statuses = thread::scope(|scope| {
            let sent: Vec<_> = (0..2).map(|_| scope.spawn(|| request.send(&gateway).status)).collect();
            let mut statuses: Vec<u16> = sent.into_iter().map(|one| one.join().unwrap()).collect();
            statuses.sort_unstable();
            statuses
        });
        assert_eq!(statuses, [200, 403]);
    }
}

#[test]
fn a_factor_without_another_one_behind_it_deletes_nothing_yet() {
    let world = world();
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol_openly(&token);
    drop(people);
    let gateway = world.restart().ready();
    let with = |request: Request, code: &str| request.bearer(&token).header("Stepgate-OTP", code);
    let body = refused(&gateway, &with(delete("/items/1"), &codes.recovery[0]), 401, STEP_UP, "factor_too_new");
    assert!(body["detail"].as_str().unwrap().contains("too lately"), "{body}");
    with(get("/strong/x"), &codes.recovery[1]).send(&gateway).expect(200);
    world.upstream.requests().iter().for_each(|request| assert!(request.line().starts_with("GET")));
}

/// What an override makes of a request is within the body or the query that a grant is bound to; a header is in neither.
#[test]
fn a_bound_grant_is_for_the_method_that_an_override_makes_of_a_post() {
    let world = World::new();
    world.seal();
    let lenient = "{targets: [http://127.0.0.1:<upstream>], method_override: [header, query, form]}";
    world.configure(&format!(
        "upstreams:\n  api: {{targets: [http://127.0.0.1:<upstream>]}}\n  lenient: {lenient}\n{ROUTES}  \
         - {{path: /lenient/**, upstream: lenient, auth: [main], deletion: {{bind: request, assurance: other}}}}
  - {{path: /read/**, upstream: lenient, auth: [main], assurance: other}}\n"
    ));
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    let mut fresh = codes.recovery.iter();
    let mut make = |method: &str, target: &str, body: &str| {
        people.grant(&token, "other", fresh.next().unwrap(), Some((method, target, body)))
    };
    let form = make("DELETE", "/lenient/1", "_method=delete&a=b");
    let (query, header) = (make("DELETE", "/lenient/2?_method=DELETE", ""), make("DELETE", "/lenient/3", ""));
    let (posted, read) = (make("POST", "/lenient/4", "_method=delete"), make("GET", "/read/5", ""));
    drop(people);
    let gateway = world.restart().ready();
    let with = |request: Request, grant: &str| request.bearer(&token).header("Stepgate-Grant", grant);
    let urlencoded =
        |target: &str, body: &str| post(target, body).header("Content-Type", "application/x-www-form-urlencoded");
    let overridden = |name: &str| post("/lenient/3", "").header(name, "DELETE");
    for request in [
        with(urlencoded("/lenient/1", "_method=delete&a=c"), &form),
        with(get("/lenient/2?_method=DELETE"), &query),
        with(overridden("X-HTTP-Method"), &header),
        with(overridden("X-HTTP-Method-Override").header("X-HTTP-Method-Override", "DELETE"), &header),
        with(urlencoded("/lenient/4", "_method=delete"), &posted),
        // Services leave this one alone by rule, and carry the POST out.
        with(post("/read/5", "").header("X-HTTP-Method-Override", "GET"), &read),
    ] {
        refused(&gateway, &request, 403, "invalid-proof", "grant_invalid");
    }
    world.upstream.assert_untouched();
    with(urlencoded("/lenient/1", "_method=delete&a=b"), &form).send(&gateway).expect(200);
    with(post("/lenient/2?_method=DELETE", ""), &query).send(&gateway).expect(200);
    with(overridden("X-HTTP-Method-Override"), &header).send(&gateway).expect(200);
}

#[test]
fn a_bound_grant_is_good_for_its_own_request_and_once() {
    let world = world();
    let token = weak(&world, "alice");
    let other = world.token(json!({"sub": "alice", "jti": "alice-2"}));
    let people = People::of(&world);
    let codes = people.enrol(&token);
    let mut fresh = codes.recovery.iter();
    let mut make =
        |target: &str, body: &str| people.grant(&token, "other", fresh.next().unwrap(), Some(("DELETE", target, body)));
    let (grant, empty, spoilt) =
        (make("/bound/1?x=1", r#"{"why":"old"}"#), make("/bound/2", ""), make("/bound/3", "a"));
    let unbound = people.grant(&token, "other", &codes.recovery[8], None);
    drop(people);
    let gateway = world.restart().ready();
    let request = |target: &str, body: &str, token: &str, grant: &str| {
        Request::new("DELETE", target).body(body).bearer(token).header("Stepgate-Grant", grant)
    };
    let body = r#"{"why":"old"}"#;
    // Without one, with one that is not bound, and with a code in its place.
    let asked = refused(&gateway, &delete("/bound/1?x=1").bearer(&token), 401, STEP_UP, "amr_insufficient");
    assert_eq!((&asked["step_up"]["bind"], &asked["step_up"]["otp_header"]), (&json!(true), &Value::Null));
    refused(&gateway, &request("/bound/1?x=1", body, &token, &unbound), 401, STEP_UP, "grant_missing");
    let code = delete("/bound/1?x=1").bearer(&token).header("Stepgate-OTP", &codes.recovery[9]);
    refused(&gateway, &code, 401, STEP_UP, "amr_insufficient");
    let mfa = delete("/bound/1?x=1").bearer(&world.fresh(5));
    refused(&gateway, &mfa, 401, STEP_UP, "grant_missing");
    // Anything else than what it was made for.
    for request in [
        request("/bound/1?x=1", r#"{"why":"olD"}"#, &token, &grant),
        request("/bound/1?x=1", "", &token, &grant),
        request("/bound/1?x=2", body, &token, &grant),
        request("/bound/1", body, &token, &grant),
        request("/bound/10?x=1", body, &token, &grant),
        request("/bound/1?x=1", body, &token, &format!("{grant}x")),
        request("/bound/1?x=1", body, &token, &token),
        request("/bound/1?x=1", body, &token, ""),
        request("/bound/1?x=1", body, &other, &grant),
        request("/bound/1?x=1", body, &token, &grant).header("stepgate-grant", &grant),
        request("/bound/1?x=1", body, &token, &grant).host("other.example"),
    ] {
        refused(&gateway, &request, 403, "invalid-proof", "grant_invalid");
    }
    world.upstream.assert_untouched();
    let answer = request("/bound/1?x=1", body, &token, &grant).send(&gateway).expect(200);
    assert_eq!(reason_of(&gateway, answer.header("x-request-id"))["step_up"], "bound_grant");
    let sent = world.upstream.last();
    assert!(sent.line().starts_with("DELETE /bound/1?x=1 ") && !sent.has("stepgate-grant"), "{}", sent.line());
    assert_eq!(sent.body, body.as_bytes(), "byte for byte");
    let intent = gateway.audit().into_iter().find(|record| record["kind"] == "intent").unwrap();
    assert!(intent["proof"]["grant"].as_str().is_some_and(|id| !id.is_empty()), "{intent}");
    assert_eq!(intent["proof"]["second_factors"][0]["way"], "bound_grant");
    refused(&gateway, &request("/bound/1?x=1", body, &token, &grant), 403, "invalid-proof", "grant_spent");
    // One without a body, and one that is spent in a race.
    request("/bound/2", "", &token, &empty).send(&gateway).expect(200);
    let race = request("/bound/3", "a", &token, &spoilt);
    let mut statuses: Vec<u16> = thread::scope(|scope| {
        let sent: Vec<_> = (0..4).map(|_| scope.spawn(|| race.send(&gateway).status)).collect();
        sent.into_iter().map(|one| one.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403, 403, 403]);
    assert_eq!(world.upstream.count(), 3);
}

#[test]
fn a_spent_grant_stays_spent_over_a_restart_and_one_that_a_quota_refused_is_not() {
    let world = world();
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    let grants: Vec<String> = (0..2)
        .map(|number| {
            let target = format!("/few/{number}");
            people.grant(&token, "other", &codes.recovery[number], Some(("DELETE", &target, "")))
        })
        .collect();
    drop(people);
    let request =
        |number: usize| delete(&format!("/few/{number}")).bearer(&token).header("Stepgate-Grant", &grants[number]);
    let gateway = world.restart().ready();
    request(0).send(&gateway).expect(200);
    refused(&gateway, &request(1), 429, "quota-exceeded", "quota_exceeded");
    drop(gateway);
    // Quotas begin anew with the process; what was used does not.
    let gateway = world.restart().ready();
    request(1).send(&gateway).expect(200);
    drop(gateway);
    let gateway = world.restart().ready();
    refused(&gateway, &request(0), 403, "invalid-proof", "grant_spent");
}

#[test]
fn a_grant_that_is_not_bound_covers_its_level_also_where_something_is_deleted() {
    let world = world();
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    let level = "strong";
    let grant = people.grant(&token, level, &codes.recovery[0], None);
    drop(people);
    let gateway = world.restart().ready();
    let with = |request: Request| request.bearer(&token).header("Stepgate-Grant", &grant);
    // Made for one level, it is not for another, and is not used up by being looked at.
    refused(&gateway, &with(get("/other")), 401, STEP_UP, "amr_insufficient");
    refused(&gateway, &with(delete("/items/1")), 401, STEP_UP, "amr_insufficient");
    with(get("/plain")).send(&gateway).expect(200);
    with(post("/strong/x", "a=1")).send(&gateway).expect(200);
    assert_eq!(world.upstream.last().body, b"a=1");
    refused(&gateway, &with(get("/strong/x")), 403, "invalid-proof", "grant_spent");
    // Never a bearer token.
    let bearer = get("/plain").bearer(&grant).send(&gateway);
    assert_eq!(bearer.problem(401), "invalid-token");
}

#[test]
fn no_service_sees_a_code_or_a_grant_with_an_authority_or_without_in_any_spelling() {
    const SPELLINGS: [&str; 5] = ["Stepgate-OTP", "stepgate_otp", "Stepgate.Otp", "Stepgate-Grant", "STEPGATE_GRANT"];
    let without =
        "routes:\n  - {path: /public, upstream: api, auth: none}\n  - {path: /plain, upstream: api, auth: [main]}\n";
    for says in [ROUTES, without] {
        let world = World::with(Recorder::new());
        world.seal();
        let gateway = world.start(says);
        let token = weak(&world, "alice");
        for path in ["/public", "/plain"] {
            let mut request = get(path).bearer(&token).header("connection", "stepgate-otp");
            for name in SPELLINGS {
                request = request.header(name, "123456").header(name, "654321");
            }
            request.send(&gateway).expect(200);
        }
        assert_eq!(world.upstream.count(), 2);
        for request in world.upstream.requests() {
            for name in SPELLINGS {
                assert!(!request.has(name), "{name} of {}", request.line());
            }
        }
        // In the trailers of a chunked body.
        let chunked = "POST /public HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                       1\r\na\r\n0\r\nstepgate-otp: 123456\r\nstepgate_grant: x\r\nx-sum: 1\r\n\r\n";
        gateway.connect().send(chunked).answer().expect(200);
        let bytes = String::from_utf8_lossy(&world.upstream.bytes()).to_ascii_lowercase();
        assert!(!bytes.contains("stepgate-otp") && !bytes.contains("stepgate_grant"), "{bytes}");
    }
}

#[test]
fn the_authoritys_endpoints_are_there_for_every_host_and_refuse_a_credential_that_is_wrong() {
    let world = world();
    let gateway = world.restart().ready();
    let answer = get("/second/nothing-of-that-name").host("whatever.example").send(&gateway);
    assert_eq!(answer.problem(404), "not-found");
    let answer = get("/second/api/v1/me").bearer("not.a.token").send(&gateway);
    assert_eq!(answer.problem(401), "invalid-token");
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    // Not the service's, however it is written.
    for path in ["/second", "/second/", "/second/%61pi/x"] {
        assert_ne!(get(path).send(&gateway).status, 200, "{path}");
    }
    let large = post("/second/api/v1/challenges", &"x".repeat(70_000)).send(&gateway);
    assert_eq!(large.problem(413), "body-too-large");
    world.upstream.assert_untouched();
    let statuses: Vec<u16> = (0..80).map(|_| get("/second/api/v1/me").send(&gateway).status).collect();
    assert!(statuses.contains(&429), "an address has a quota: {statuses:?}");
}

#[test]
fn explain_says_what_would_do_in_the_tokens_place_beside_a_gateway_that_runs() {
    let world = world();
    let token = weak(&world, "alice");
    let _gateway = world.restart().ready();
    let explain = |method: &str, path: &str| {
        let finished =
            stepgate(world.folder(), &["explain", method, path, "--token", &token, "-H", "Stepgate-OTP: 123456"]);
        assert_eq!(finished.code, 1, "{finished:?}");
        finished.stdout
    };
    let plain = explain("GET", "/strong/x");
    assert!(plain.contains("second     an elevation of level strong, a code with the request"), "{plain}");
    assert!(plain.contains("by totp, recovery") || plain.contains("by passkey, totp, recovery"), "{plain}");
    assert!(plain.contains("is not looked at here"), "{plain}");
    let guarded = explain("DELETE", "/strong/x");
    assert!(guarded.contains("+strong; no elevation"), "{guarded}");
    let bound = explain("DELETE", "/bound/1");
    assert!(bound.contains("of level other that is bound to the request"), "{bound}");
    assert!(explain("GET", "/keys").contains("factors    MISSING: factor_insufficient"));
}

#[test]
fn an_elevation_outlives_a_reload_and_a_restart() {
    let world = world();
    let token = weak(&world, "alice");
    let people = People::of(&world);
    let codes = people.enrol(&token);
    people.elevate(&token, "strong", &codes.recovery[0]);
    drop(people);
    let gateway = world.restart().ready();
    get("/strong/x").bearer(&token).send(&gateway).expect(200);
    world.configure(&ROUTES.replace("/plain,", "/plain-no-more,"));
    gateway.signal("HUP");
    eventually("the reload", || (get("/plain").bearer(&token).send(&gateway).status == 404).then_some(()));
    get("/strong/x").bearer(&token).send(&gateway).expect(200);
    drop(gateway);
    let gateway = world.restart().ready();
    get("/strong/x").bearer(&token).send(&gateway).expect(200);
}
