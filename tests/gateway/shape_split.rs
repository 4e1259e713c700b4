//! Copies of requests for another service, and services that get a share of them.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Gateway, Recorder, Request, World, eventually, get,
    h2::{self, H2},
    post,
};

struct Split {
    world: World,
    other: Recorder,
    gateway: Gateway,
}

fn start(other: Recorder, routes: &str) -> Split {
    let world = World::new();
    world.write("other.key", "the-mirrors-own-key");
    let yaml = format!(
        "upstreams:
  api: {{targets: [http://127.0.0.1:<upstream>], credential: {{header: {{name: x-legacy-key, value: {{file: other.key}}}}}}}}
  other: {{targets: [http://127.0.0.1:{}], credential: {{header: {{name: x-own, value: {{file: other.key}}}}}}}}
routes:
{routes}",
        other.port
    );
    let gateway = world.start(&yaml);
    Split { world, other, gateway }
}

fn mirrored(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric("stepgate_mirrored_requests_total", &["upstream=\"other\"", &format!("outcome=\"{outcome}\"")])
}

const MIRROR: &str = "  - {path: /**, upstream: api, auth: [main], mirror: {upstream: other, body_bytes: 1KiB}}\n";

#[test]
fn a_copy_has_the_request_and_none_of_the_clients_credentials() {
    let Split { world, other, gateway } = start(Recorder::new(), MIRROR);
    let request = post("/orders?x=1", "hello")
        .bearer(&world.token(json!({})))
        .header("Cookie", "session=1")
        .header("X-Api-Key", "client-key")
        .header("x_legacy_key", "forged")
        .header("X-Kept", "yes");
    request.send(&gateway).expect(200);
    let copy = other.wait_for(1).remove(0);
    assert_eq!((copy.line(), copy.body.as_slice()), ("POST /orders?x=1 HTTP/1.1", &b"hello"[..]));
    assert_eq!(
        (copy.header("x-kept"), copy.header("x-own"), copy.header("x-auth-subject")),
        ("yes", "the-mirrors-own-key", "alice")
    );
    for gone in ["authorization", "cookie", "x-api-key", "x-legacy-key"] {
        assert!(!copy.has(gone), "{gone}: {}", copy.head);
    }
    let seen = world.upstream.last();
    assert_eq!((seen.header("cookie"), seen.header("x-request-id")), ("session=1", copy.header("x-request-id")));
    eventually("the copy's answer", || (mirrored(&gateway, "answered") == 1.0).then_some(()));
}

#[test]
fn guarded_operations_and_refused_requests_are_never_copied() {
    let Split { world, other, gateway } = start(Recorder::new(), MIRROR);
    get("/x").send(&gateway).expect(401);
    Request::new("DELETE", "/items/1").bearer(&world.fresh(5)).send(&gateway).expect(200);
    Request::new("DELETE", "/items/1").bearer(&world.token(json!({}))).send(&gateway).expect(401);
    // What comes after them is the first that is copied.
    get("/after").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    assert_eq!(other.wait_for(1).remove(0).target(), "/after");
    assert_eq!(other.count(), 1);
}

#[test]
fn a_body_that_is_too_long_is_not_copied_and_arrives_all_the_same() {
    let Split { world, other, gateway } = start(Recorder::new(), MIRROR);
    let token = world.token(json!({}));
    post("/big", &"x".repeat(1025)).bearer(&token).send(&gateway).expect(200);
    assert_eq!(world.upstream.last().body.len(), 1025);
    eventually("a copy that is not made", || (mirrored(&gateway, "too_long") == 1.0).then_some(()));
    post("/small", &"x".repeat(1024)).bearer(&token).send(&gateway).expect(200);
    assert_eq!(other.wait_for(1).remove(0).body.len(), 1024);
}

#[test]
fn a_client_that_says_no_end_behind_the_length_is_copied_all_the_same() {
    let route = "  - {path: /**, upstream: api, auth: none, mirror: {upstream: other, body_bytes: 1KiB}}\n";
    let Split { world, other, gateway } = start(Recorder::new(), route);
    let mut h2 = H2::over(gateway.connect());
    let mut fields = h2::get("/x");
    fields[0] = (":method", "POST");
    fields[1] = (":scheme", "http");
    fields.push(("content-length", "5"));
    h2.frame(h2::HEADERS, h2::END_HEADERS, 1, &h2::block(&fields));
    h2.frame(h2::DATA, 0, 1, b"hello");
    assert_eq!(h2.status(1), h2::Ending::Status(200));
    assert_eq!(other.wait_for(1).remove(0).body, b"hello");
    assert_eq!(world.upstream.last().body, b"hello");
    // Nor behind a length of nothing.
    let mut h2 = H2::over(gateway.connect());
    fields[4] = ("content-length", "0");
    h2.frame(h2::HEADERS, h2::END_HEADERS, 1, &h2::block(&fields));
    assert_eq!(h2.status(1), h2::Ending::Status(200));
    h2.frame(h2::DATA, h2::END_STREAM, 1, b"");
    assert_eq!(other.wait_for(2).remove(1).header("content-length"), "0");
}

#[test]
fn a_mirror_that_hangs_or_is_gone_delays_nobody() {
    let hangs = Recorder::with(|_, _| {
        std::thread::sleep(Duration::from_secs(60));
        false
    });
    let Split { world, gateway, .. } = start(hangs, MIRROR);
    let token = world.token(json!({}));
    // More than one worker has places for.
    for _ in 0..80 {
        get("/x").bearer(&token).send(&gateway).expect(200);
    }
    assert_eq!(world.upstream.count(), 80);
    eventually("copies that found no place", || (mirrored(&gateway, "busy") == 16.0).then_some(()));
    let world = World::new();
    let gone = crate::harness::lease_port();
    let gateway = world.start(&format!(
        "upstreams:\n  api: {{targets: [http://127.0.0.1:<upstream>]}}\n  other: {{targets: [http://127.0.0.1:{gone}]}}\nroutes:\n  - {{path: /**, upstream: api, auth: none, mirror: {{upstream: other}}}}\n"
    ));
    get("/x").send(&gateway).expect(200);
    eventually("a copy that fails", || (mirrored(&gateway, "failed") == 1.0).then_some(()));
}

#[test]
fn a_canary_gets_its_share_and_a_caller_stays_on_one_side() {
    let routes = "  - {path: /**, upstream: api, auth: [main], canary: {upstream: other, percent: 50}}\n";
    let Split { world, other, gateway } = start(Recorder::new(), routes);
    let mut sides = Vec::new();
    for caller in 0..40 {
        let token = world.token(json!({"sub": format!("user-{caller}")}));
        let before = other.count();
        for _ in 0..3 {
            get("/x").bearer(&token).send(&gateway).expect(200);
        }
        sides.push(other.count() - before);
    }
    assert!(sides.iter().all(|of_three| [0, 3].contains(of_three)), "{sides:?}");
    let canaries = sides.iter().filter(|of_three| **of_three == 3).count();
    assert!((8..=32).contains(&canaries), "{sides:?}");
    // The same after a restart.
    drop(gateway);
    let gateway = world.restart().ready();
    for (caller, side) in sides.iter().enumerate() {
        let before = other.count();
        get("/x").bearer(&world.token(json!({"sub": format!("user-{caller}")}))).send(&gateway).expect(200);
        assert_eq!((other.count() - before) * 3, *side, "user-{caller}");
    }
    let record = gateway.access(|record| record["upstream"] == "other");
    assert_eq!(record["status"], 200);
    let counted = |upstream: &str| {
        gateway.metric("stepgate_upstream_duration_seconds_count", &[&format!("upstream=\"{upstream}\"")])
    };
    assert_eq!((counted("other"), counted("api")), (canaries as f64, (40 - canaries) as f64));
}

#[test]
fn a_canary_has_its_own_credential_and_none_or_all_is_exact() {
    let routes = "  - {path: /all, upstream: api, auth: none, canary: {upstream: other, percent: 100, by: request}}
  - {path: /none, upstream: api, auth: none, canary: {upstream: other, percent: 0, by: request}}
  - {path: /cookie, upstream: api, auth: none, canary: {upstream: other, percent: 100, by: 'cookie:sid'}}
  - {path: /header, upstream: api, auth: none, canary: {upstream: other, percent: 100, by: 'header:x-tenant'}}
";
    let Split { world, other, gateway } = start(Recorder::new(), routes);
    for _ in 0..20 {
        get("/all").header("X-Own", "forged").send(&gateway).expect(200);
        get("/none").send(&gateway).expect(200);
    }
    assert_eq!((world.upstream.count(), other.count()), (20, 20));
    assert_eq!(other.last().header("x-own"), "the-mirrors-own-key");
    assert!(!other.last().has("x-legacy-key") && !world.upstream.last().has("x-own"));
    // What lacks the cookie or the field stays.
    get("/cookie").send(&gateway).expect(200);
    get("/header").send(&gateway).expect(200);
    assert_eq!((world.upstream.count(), other.count()), (22, 20));
    get("/cookie").header("Cookie", "a=1; sid=2").send(&gateway).expect(200);
    get("/header").header("X-Tenant", "t").send(&gateway).expect(200);
    assert_eq!((world.upstream.count(), other.count()), (22, 22));
}

#[test]
fn the_audit_log_says_which_service_got_a_guarded_operation() {
    let routes = "  - {path: /**, upstream: api, auth: [main], canary: {upstream: other, percent: 100}}\n";
    let Split { world, other, gateway } = start(Recorder::new(), routes);
    Request::new("DELETE", "/items/1").bearer(&world.fresh(5)).send(&gateway).expect(200);
    assert_eq!(other.count(), 1);
    let intent = gateway.audit().into_iter().find(|record| record["op"]["method"] == "DELETE").unwrap();
    assert_eq!(intent["op"]["upstream"], "other", "{intent}");
}

#[test]
fn a_route_is_judged_by_every_service_that_its_requests_may_reach() {
    // A lax server takes `/Admin` for `/admin`, whichever of the two it is.
    let routes = "  - {path: '/{name}', upstream: api, auth: none, canary: {upstream: other, percent: 0}}
  - {path: /admin, upstream: other, auth: [main]}
";
    let Split { world, other, gateway } = start(Recorder::new(), routes);
    get("/Admin").send(&gateway).expect(401);
    get("/items").send(&gateway).expect(200);
    assert_eq!((world.upstream.count(), other.count()), (1, 0));
}

#[test]
fn explain_says_what_a_route_does_besides() {
    let world = World::new();
    world.configure(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>]}
  next: {targets: [http://127.0.0.1:9]}
  shadow: {targets: [http://127.0.0.1:10]}
routes:
  - path: /x
    upstream: api
    auth: none
    canary: {upstream: next, percent: 2.5, by: ip}
    mirror: {upstream: shadow, percent: 10}
    cors: {origins: ['https://app.example']}
    body_bytes: 5MiB
    timeouts: {response: 3s}
    request_headers: {set: {x-a: b}}
  - {path: /old/**, auth: none, redirect: {to: 'https://new.example/{rest}'}}
",
    );
    let said = crate::harness::stepgate(world.folder(), &["explain", "GET", "/x", "-c", "gateway.yaml"]).stdout;
    for line in [
        "canary     2.5 % of requests go to next, by ip",
        "mirror     10 % of requests are copied to shadow",
        "limit      3s for the head of the answer",
        "limit      5242880 bytes of body",
        "request    gets x-a",
        "cors       pages of https://app.example may ask",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let said = crate::harness::stepgate(world.folder(), &["explain", "GET", "/old/a", "-c", "gateway.yaml"]).stdout;
    assert!(said.contains("redirect 308 to https://new.example/{rest}"), "{said}");
    assert!(said.contains("allowed: the client would be sent elsewhere"), "{said}");
}
