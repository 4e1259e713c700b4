//! Quotas: what the header fields say (draft-ietf-httpapi-ratelimit-headers-11), whom a bucket belongs to, and that no
//! interval ever admits more than it may.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Answer, Gateway, Jwks, Request, World, delete, get, let_pass};

/// One route `/x` with these quotas; `definitions` are the lines under `limits:`.
fn limited(definitions: &str, names: &str) -> (World, Gateway) {
    let world = World::new();
    let gateway = world.start(&format!(
        "limits:\n{definitions}routes:\n  - {{path: /x, upstream: api, auth: [main], limits: [{names}]}}\n  - {{path: /open, upstream: api, auth: none, limits: [{names}]}}\n"
    ));
    (world, gateway)
}

/// Sends the same request `count` times and gives the statuses.
fn statuses(request: &Request, gateway: &Gateway, count: usize) -> Vec<u16> {
    (0..count).map(|_| request.send(gateway).status).collect()
}

fn admitted(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status == 200).count()
}

/// The parameters of one item of a structured field list: `"name";q=5;w=60`.
fn item(value: &str, parameter: &str) -> u64 {
    let found = value.split(';').find_map(|part| part.trim().strip_prefix(&format!("{parameter}=")));
    found.unwrap_or_else(|| panic!("no {parameter} in {value}")).trim().parse().unwrap()
}

#[test]
fn answers_say_what_the_quota_is_and_what_is_left() {
    let (world, gateway) = limited("  per-user: {key: subject, rate: 5/minute}\n", "per-user");
    let request = get("/x").bearer(&world.token(json!({})));
    for left in (0..5).rev() {
        let answer = request.send(&gateway).expect(200);
        let policy = answer.header("ratelimit-policy");
        assert!(policy.starts_with("\"per-user\";"), "{policy}");
        assert_eq!((item(policy, "q"), item(policy, "w")), (5, 60));
        let limit = answer.header("ratelimit");
        assert!(limit.starts_with("\"per-user\";"), "{limit}");
        assert_eq!(item(limit, "r"), left);
        assert!(!answer.has("retry-after"));
    }
    let refused = request.send(&gateway);
    assert_eq!(refused.problem(429), "quota-exceeded");
    assert_eq!(item(refused.header("ratelimit"), "r"), 0);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!(wait >= item(refused.header("ratelimit"), "t"), "Retry-After is never before t");
    assert!(wait <= 61);
    assert_eq!(refused.json()["limit"], "per-user");
}

#[test]
fn a_refusal_for_another_reason_says_no_wait_that_ends_before_t() {
    let world = World::new();
    let jwks = Jwks::down(world.signer().jwks());
    let gateway = world.start_unready(&format!(
        "issuers:
  main: {{issuer: https://idp.example/, audience: [https://api.example], keys: {{jwks_url: \"{}\"}}, algorithms: [ES256]}}
limits:
  door: {{key: ip, rate: 2/10m}}
routes:
  - {{path: /x, upstream: api, auth: [main], limits: [door]}}
",
        jwks.url()
    ));
    let request = get("/x").bearer(&world.token(json!({})));
    let wait = |answer: &Answer| -> u64 { answer.header("retry-after").parse().unwrap() };
    let first = request.send(&gateway);
    assert_eq!(first.problem(503), "temporarily-unavailable");
    assert!(wait(&first) <= 60, "one is left, so nobody need wait until the quota admits one more");
    assert!(!first.has("ratelimit"), "and no `t` says otherwise");
    assert!(first.header("ratelimit-policy").starts_with("\"door\";"));
    let second = request.send(&gateway);
    assert_eq!(second.problem(503), "temporarily-unavailable");
    let limit = second.header("ratelimit");
    assert_eq!(item(limit, "r"), 0);
    assert!(wait(&second) >= item(limit, "t") && item(limit, "t") > 500, "{limit}");
    assert_eq!(second.json()["retry_after"], wait(&second));
    assert_eq!(request.send(&gateway).problem(429), "quota-exceeded");
}

#[test]
fn several_quotas_on_a_route_are_all_named() {
    let (world, gateway) =
        limited("  a: {key: subject, rate: 5/minute}\n  b: {key: subject, rate: 100/hour}\n", "a, b");
    let answer = get("/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    let policies = answer.all("ratelimit-policy").join(", ");
    assert!(policies.contains("\"a\";") && policies.contains("\"b\";"), "{policies}");
}

#[test]
fn no_interval_admits_more_than_its_quota() {
    let (world, gateway) = limited("  q: {key: subject, rate: 4/2s}\n", "q");
    let request = get("/x").bearer(&world.token(json!({})));
    let start = Instant::now();
    let mut passed: Vec<Duration> = Vec::new();
    while start.elapsed() < Duration::from_millis(5500) {
        let before = start.elapsed();
        if request.send(&gateway).status == 200 {
            passed.push(before);
        }
        let_pass(Duration::from_millis(15));
    }
    // The gateway's moment lies after ours, so two that it admitted a period apart may look a little closer here.
    for window in passed.windows(5) {
        let apart = window[4] - window[0];
        assert!(apart > Duration::from_millis(1900), "five within {apart:?}: {passed:?}");
    }
    assert!(passed.len() >= 10, "and no fewer than it should: {passed:?}");
}

#[test]
fn what_was_refused_does_not_count() {
    let (world, gateway) = limited("  q: {key: subject, rate: 2/2s}\n", "q");
    let request = get("/x").bearer(&world.token(json!({})));
    let start = Instant::now();
    assert_eq!(admitted(&statuses(&request, &gateway, 2)), 2);
    while start.elapsed() < Duration::from_millis(1800) {
        assert_eq!(request.send(&gateway).status, 429);
    }
    let_pass(Duration::from_millis(2300) - start.elapsed());
    request.send(&gateway).expect(200);
}

#[test]
fn a_rate_per_second_has_its_burst_and_then_flows() {
    let (world, gateway) = limited("  q: {key: subject, rate: 2/s, burst: 6}\n", "q");
    let request = get("/x").bearer(&world.token(json!({})));
    let start = Instant::now();
    let first = admitted(&statuses(&request, &gateway, 12));
    let earned = (start.elapsed().as_secs_f64() * 2.0) as usize;
    assert!((6..=6 + earned + 1).contains(&first), "{first}");
    let_pass(Duration::from_millis(1600));
    let then = admitted(&statuses(&request, &gateway, 6));
    assert!((2..=4).contains(&then), "{then}");
}

#[test]
fn many_at_once_are_admitted_exactly() {
    let (world, gateway) = limited("  q: {key: subject, rate: 7/minute}\n", "q");
    let request = get("/x").bearer(&world.token(json!({})));
    let all: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| statuses(&request, &gateway, 5))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(admitted(&all), 7);
    assert_eq!(world.upstream.count(), 7);
}

#[test]
fn many_at_once_are_admitted_exactly_by_several_workers() {
    let world = World::new();
    let gateway = world.start(
        "server: {workers: 4}\nlimits:\n  q: {key: subject, rate: 7/minute}\nroutes:\n  - {path: /x, upstream: api, auth: [main], limits: [q]}\n",
    );
    let request = get("/x").bearer(&world.token(json!({})));
    let all: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| statuses(&request, &gateway, 3))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(admitted(&all), 7, "one exact state, not one per worker");
}

#[test]
fn a_subject_is_its_issuers_own() {
    let world = World::new();
    world.write("secret", "0123456789abcdef0123456789abcdef");
    let gateway = world.start(
        "issuers:
  main: {issuer: https://idp.example/, audience: [https://api.example], keys: {jwks_file: jwks.json}, algorithms: [ES256]}
  second: {issuer: https://second.example/, audience: [https://api.example], keys: {secret: {file: secret}}, algorithms: [HS256]}
limits:
  q: {key: subject, rate: 1/minute}
routes:
  - {path: /x, upstream: api, auth: [main, second], limits: [q]}
",
    );
    let second = crate::harness::Signer::shared("HS256", b"0123456789abcdef0123456789abcdef");
    get("/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    get("/x").bearer(&second.token(json!({"iss": "https://second.example/"}))).send(&gateway).expect(200);
    get("/x").bearer(&world.token(json!({"jti": "x"}))).send(&gateway).expect(429);
}

/// Two requests that differ in nothing but the key each have a bucket; the same key again is refused.
#[track_caller]
fn keyed(definition: &str, one: impl Fn(&World) -> Request, other: impl Fn(&World) -> Request) {
    let (world, gateway) =
        limited(&format!("  q: {{key: {definition}, rate: 1/minute}}\n  ip: {{key: ip, rate: 1000/s}}\n"), "ip, q");
    one(&world).send(&gateway).expect(200);
    other(&world).send(&gateway).expect(200);
    one(&world).send(&gateway).expect(429);
    other(&world).send(&gateway).expect(429);
    assert_eq!(world.upstream.count(), 2);
}

#[test]
fn a_quota_by_client() {
    keyed(
        "client",
        |world| get("/x").bearer(&world.token(json!({"client_id": "one"}))),
        |world| get("/x").bearer(&world.token(json!({"azp": "two", "client_id": "one"}))),
    );
}

#[test]
fn a_quota_by_claim() {
    keyed(
        "\"claim:/org/id\"",
        |world| get("/x").bearer(&world.token(json!({"org": {"id": 1}}))),
        |world| get("/x").bearer(&world.token(json!({"org": {"id": 2}, "sub": "bob"}))),
    );
}

#[test]
fn a_quota_by_header() {
    keyed(
        "\"header:x-api-key\"",
        |_| get("/open").header("X-Api-Key", "one"),
        |_| get("/open").header("x-api-key", "two"),
    );
}

#[test]
fn a_quota_by_address() {
    keyed("ip", |_| get("/open").from("127.0.0.2"), |_| get("/open").from("127.0.0.3"));
}

#[test]
fn a_quota_by_route() {
    keyed("route", |world| get("/x").bearer(&world.token(json!({}))), |_| get("/open").from("127.0.0.9"));
}

/// Only the first of a request's buckets was charged, and that was the one of the route that its bytes name: `/ADMIN/x` is `/**`'s,
/// though a lax service takes it for `/admin/x`, and had as many requests again.
#[test]
fn a_quota_by_route_is_not_doubled_by_another_spelling_of_the_path() {
    let world = World::new();
    let gateway = world.start(
        "limits:
  r: {key: route, rate: 5/minute}
routes:
  - {path: /admin/**, upstream: api, auth: none, limits: [r]}
  - {path: /**, upstream: api, auth: none, limits: [r]}
",
    );
    let alias = get("/ADMIN/x").send(&gateway).expect(200);
    assert_eq!(alias.all("ratelimit-policy").join(", ").matches("\"r\"").count(), 1, "a policy is named once");
    assert_eq!(alias.all("ratelimit").join(", ").matches("\"r\"").count(), 1);
    assert_eq!(item(alias.header("ratelimit"), "r"), 4);
    assert_eq!(statuses(&get("/admin/x"), &gateway, 5), [200, 200, 200, 200, 429]);
    for path in ["/ADMIN/x", "/Admin/x", "/admin;a/x"] {
        assert!([400, 429].contains(&get(path).send(&gateway).status), "{path}");
    }
    assert_eq!(get("/ADMIN/x").send(&gateway).problem(429), "quota-exceeded");
    let other = get("/open").send(&gateway).expect(200);
    assert_eq!(item(other.header("ratelimit"), "r"), 3, "one of the alias, and none of what was refused");
    assert_eq!(world.upstream.count(), 6);
}

#[test]
fn nor_is_the_quota_by_route_of_a_guarded_operation() {
    let world = World::new();
    let gateway = world.start(
        "limits:
  r: {key: route, rate: 2/10m}
deletion_guard: {operations: [{match: \"DELETE /**\", limit: r}]}
routes:
  - {path: /admin/**, upstream: api, auth: [main]}
  - {path: /**, upstream: api, auth: [main]}
",
    );
    let token = world.fresh(5);
    assert_eq!(statuses(&delete("/admin/x").bearer(&token), &gateway, 3), [200, 200, 429]);
    assert_eq!(delete("/ADMIN/x").bearer(&token).send(&gateway).problem(429), "quota-exceeded");
    delete("/x").bearer(&token).send(&gateway).expect(200);
}

/// It was charged by its address first, and again as the quota of the deletion; and both were told.
#[test]
fn a_quota_by_address_that_a_deletion_names_as_well_is_charged_and_told_once() {
    let world = World::new();
    let gateway = world.start(
        "limits:
  q: {key: ip, rate: 4/minute}
routes:
  - {path: /x, upstream: api, auth: [main], limits: [q], deletion: {limit: q}}
",
    );
    let answer = delete("/x").bearer(&world.fresh(5)).send(&gateway).expect(200);
    assert_eq!(answer.all("ratelimit-policy").join(", ").matches("\"q\"").count(), 1);
    assert_eq!(answer.all("ratelimit").join(", ").matches("\"q\"").count(), 1);
    assert_eq!(item(answer.header("ratelimit"), "r"), 3);
}

#[test]
fn a_global_quota_is_one_for_all() {
    let (world, gateway) = limited("  q: {key: global, rate: 1/minute}\n", "q");
    get("/open").from("127.0.0.2").send(&gateway).expect(200);
    get("/x").bearer(&world.token(json!({}))).from("127.0.0.3").send(&gateway).expect(429);
}

#[test]
fn a_quota_by_issuer_is_one_for_all_its_subjects() {
    let (world, gateway) = limited("  q: {key: issuer, rate: 1/minute}\n", "q");
    get("/x").bearer(&world.token(json!({"sub": "alice"}))).send(&gateway).expect(200);
    get("/x").bearer(&world.token(json!({"sub": "bob"}))).send(&gateway).expect(429);
}

#[test]
fn requests_without_the_key_share_one_bucket() {
    let (_world, gateway) =
        limited("  q: {key: \"header:x-api-key\", rate: 1/minute}\n  ip: {key: ip, rate: 1000/s}\n", "ip, q");
    get("/open").from("127.0.0.2").send(&gateway).expect(200);
    get("/open").from("127.0.0.3").send(&gateway).expect(429);
    get("/open").header("X-Api-Key", "one").send(&gateway).expect(200);
}

#[test]
fn a_quota_by_address_comes_before_any_cryptography() {
    let (world, gateway) = limited("  q: {key: ip, rate: 3/minute}\n", "q");
    // Only a look at its signature shows that it is forged: this one is of another token.
    let [token, other] = ["one", "other"].map(|subject| world.token(json!({"sub": subject})));
    let (said, signature) = (token.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
    let forged = get("/x").bearer(&format!("{said}.{signature}"));
    let verified = || gateway.metric("stepgate_token_verifications_total", &[]);
    let before = verified();
    assert_eq!(statuses(&forged, &gateway, 3), [401; 3]);
    assert_eq!(verified(), before + 3.0);
    assert_eq!(statuses(&forged, &gateway, 2), [429; 2]);
    assert_eq!(verified(), before + 3.0);
    let refused = gateway.metric("stepgate_quota_rejections_total", &["limit=\"q\""]);
    assert!(refused >= 2.0, "{refused}");
}

#[test]
fn a_quota_by_subject_is_not_spent_by_who_is_refused_before() {
    let (world, gateway) = limited("  q: {key: subject, rate: 1/minute}\n", "q");
    for _ in 0..3 {
        get("/x").send(&gateway).expect(401);
        get("/x").bearer(&world.token(json!({"aud": "other"}))).send(&gateway).expect(401);
    }
    get("/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
}

#[test]
fn a_later_quota_that_refuses_leaves_the_earlier_ones_uncharged() {
    let (world, gateway) =
        limited("  wide: {key: subject, rate: 3/minute}\n  narrow: {key: client, rate: 1/minute}\n", "wide, narrow");
    let as_client = |client: &str| get("/x").bearer(&world.token(json!({"client_id": client})));
    as_client("one").send(&gateway).expect(200);
    for _ in 0..4 {
        as_client("one").send(&gateway).expect(429);
    }
    as_client("two").send(&gateway).expect(200);
    as_client("three").send(&gateway).expect(200);
    as_client("four").send(&gateway).expect(429);
}

#[test]
fn flooding_with_new_keys_resets_nobody() {
    let (_world, gateway) =
        limited("  q: {key: \"header:x-api-key\", rate: 1/hour}\n  ip: {key: ip, rate: 100000/s}\n", "ip, q");
    let victim = get("/open").header("X-Api-Key", "victim");
    victim.send(&gateway).expect(200);
    let mut wire = gateway.connect();
    for n in 0..3000 {
        get("/open").header("X-Api-Key", &format!("flood-{n}")).send_on(&mut wire).expect(200);
    }
    victim.send(&gateway).expect(429);
    let live = gateway.metric("stepgate_quota_live_keys", &["limit=\"q\""]);
    assert!(live >= 3001.0, "{live}");
}

#[test]
fn check_wants_an_address_quota_beside_one_by_an_unverified_header() {
    let alone = World::new().check(
        "limits:\n  q: {key: \"header:x-api-key\", rate: 1/s}\nroutes:\n  - {path: /x, upstream: api, auth: [main], limits: [q]}\n",
    );
    let said = format!("{}{}", alone.stdout, alone.stderr);
    assert!(said.contains("warning: ") && said.contains("header"), "{said}");
    let both = World::new().check(
        "limits:\n  q: {key: \"header:x-api-key\", rate: 1/s}\n  ip: {key: ip, rate: 1/s}\nroutes:\n  - {path: /x, upstream: api, auth: [main], limits: [ip, q]}\n",
    );
    let said = format!("{}{}", both.stdout, both.stderr);
    assert!(!said.contains("warning: "), "{said}");
}

#[test]
fn a_quota_also_counts_a_request_whose_upstream_fails() {
    let (_world, gateway) = {
        let world = World::new();
        let gateway = world.start(
            "upstreams:\n  api: {targets: [http://127.0.0.1:1]}\nlimits:\n  q: {key: ip, rate: 2/minute}\nroutes:\n  - {path: /open, upstream: api, auth: none, limits: [q]}\n",
        );
        (world, gateway)
    };
    assert_eq!(statuses(&get("/open"), &gateway, 3), [502, 502, 429]);
}

#[test]
fn rate_headers_stand_on_refusals_for_other_reasons_only_where_they_are_true() {
    let (world, gateway) = limited("  q: {key: subject, rate: 5/minute}\n", "q");
    let answer: Answer = get("/x").send(&gateway);
    answer.problem(401);
    assert!(!answer.has("ratelimit"), "nobody's quota was looked at");
    let first = get("/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    assert_eq!(item(first.header("ratelimit"), "r"), 4);
}
