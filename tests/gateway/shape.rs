//! What routes do besides passing requests on: header rules, security headers, redirects, rewrites, CORS and limits of their own.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Answer, Authority, Gateway, Recorder, Request, World, eventually, get, post,
    tools::{Nginx, browse, curl},
};

fn start(yaml: &str) -> (World, Gateway) {
    start_with(Recorder::new(), yaml)
}

fn start_with(upstream: Recorder, yaml: &str) -> (World, Gateway) {
    let world = World::with(upstream);
    let gateway = world.start(yaml);
    (world, gateway)
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.headers.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn header_rules_change_requests_where_no_client_can_undo_them() {
    let (world, gateway) = start(
        "routes:
  - path: /orders/{id}
    upstream: api
    auth: [main]
    request_headers:
      set: {x-tenant: acme, x-caller: '{subject}', x-order: '{path.id}', x-from: '{client_ip}/{request_id}'}
      add: {accept-language: tlh}
      remove: [x-debug, cookie]
",
    );
    let forged = get("/orders/a%20b")
        .bearer(&world.token(json!({"sub": "zoë"})))
        .header("X-Tenant", "evil")
        .header("x_tenant", "evil")
        .header("X.Caller", "root")
        .header("X-Debug", "1")
        .header("x_debug", "1")
        .header("Cookie", "a=1")
        .header("Accept-Language", "en")
        .header("Connection", "x-tenant, x-caller");
    forged.send(&gateway).expect(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-tenant"), "acme");
    assert_eq!(seen.header("x-caller"), "zo%C3%AB");
    assert_eq!(seen.header("x-order"), "a b");
    assert!(seen.header("x-from").starts_with("127.0.0.1/"), "{}", seen.head);
    assert_eq!(seen.all("accept-language"), ["en", "tlh"]);
    for gone in ["x_tenant", "x.caller", "x-debug", "x_debug", "cookie"] {
        assert!(seen.all(gone).is_empty(), "{gone}: {}", seen.head);
    }
}

/// A service that reads trailers as headers is none to blame: RFC 9110 section 6.5.1 has the sender see to it.
#[test]
fn no_client_says_in_trailers_what_rules_and_credentials_say_in_headers() {
    let world = World::new();
    world.write("legacy.key", "the-gateways-own");
    world.write("keys.jsonl", "");
    let gateway = world.start(
        "credentials:
  partners: {api_keys: {file: keys.jsonl, header: X-Partner-Key}}
server: {workers: 1, drop_headers: [x-internal]}
upstreams:
  api:
    targets: [http://127.0.0.1:<upstream>]
    credential: {header: {name: x-legacy-key, value: {file: legacy.key}}}
routes:
  - {path: /own/**, upstream: api, auth: [partners]}
  - {path: /**, upstream: api, auth: none, methods: [POST], request_headers: {set: {x-tenant: acme}, remove: [x-debug]}}
",
    );
    let mut wire = gateway.connect();
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n");
    wire.send("Trailer: X-Sum, X-Tenant, X_Tenant, X-Debug, X-Legacy-Key, X-Internal, X-Partner-Key\r\n\r\n");
    wire.send(
        "5\r\nhello\r\n0\r\nX-Sum: 42\r\nX-Tenant: evil\r\nX_Tenant: evil\r\nX-Debug: evil\r\nX-Legacy-Key: evil\r\n",
    );
    wire.send("X-Internal: evil\r\nX-Partner-Key: evil\r\n\r\n");
    wire.answer().expect(200);
    let seen = world.upstream.last();
    assert!(seen.trailers.to_lowercase().contains("x-sum: 42"), "{}", seen.trailers);
    assert!(!seen.trailers.contains("evil"), "{}", seen.trailers);
}

#[test]
fn header_rules_change_answers_and_leave_refusals_alone() {
    let answer =
        "HTTP/1.1 200 OK\r\nServer: legacy/1\r\nX-Upstream: secret\r\nX-Upstream: other\r\nContent-Length: 2\r\n\r\nok";
    let (world, gateway) = start_with(
        Recorder::answering(answer),
        "routes:
  - path: /x/{id}
    upstream: api
    auth: [main]
    response_headers: {remove: [server, x-upstream], set: {x-shaped: '{subject} {path.id}', cache-control: 'private, max-age=60'}}
",
    );
    let answer = get("/x/7").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    assert_eq!((answer.header("x-shaped"), answer.header("cache-control")), ("alice 7", "private, max-age=60"));
    assert!(!answer.has("server") && !answer.has("x-upstream"), "{answer:?}");
    let refused = get("/x/7").send(&gateway).expect(401);
    assert_eq!(refused.header("cache-control"), "no-store");
    assert!(!refused.has("x-shaped"));
}

#[test]
fn security_headers_are_said_in_answers_and_refusals_and_an_upstreams_own_stay() {
    let answer = "HTTP/1.1 200 OK\r\nX-Frame-Options: SAMEORIGIN\r\nContent-Length: 2\r\n\r\nok";
    let world = World::with(Recorder::answering(answer));
    Authority::new("servers").server(world.folder(), "server", &["localhost"]);
    let gateway = world.start(
        "listeners:
  - {address: 127.0.0.1:<port>, cleartext: true}
  - {address: 127.0.0.1:<tls>, tls: {certificates: [{cert: server.pem, key: server.key}]}}
routes:
  - {path: /plain, upstream: api, auth: none}
  - {path: /safe, upstream: api, auth: none, security_headers: true}
  - {path: /secret, upstream: api, auth: [main], security_headers: {frame: off, hsts: false, content: \"default-src 'none'\"}}
  - {path: /over, upstream: api, auth: none, security_headers: {override: true}}
",
    );
    let answer = get("/safe").send(&gateway).expect(200);
    assert_eq!(answer.all("x-frame-options"), ["SAMEORIGIN"]);
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "strict-origin-when-cross-origin");
    assert!(!answer.has("strict-transport-security"), "RFC 6797 section 7.2: never over cleartext");
    assert_eq!(get("/over").send(&gateway).expect(200).all("x-frame-options"), ["DENY"]);
    assert!(!get("/plain").send(&gateway).expect(200).has("x-content-type-options"));
    let refused = get("/secret").send(&gateway).expect(401);
    assert_eq!(refused.header("content-security-policy"), "default-src 'none'");
    assert!(!refused.has("x-frame-options") && refused.all("x-content-type-options").len() == 1, "{refused:?}");
    let url = format!("https://localhost:{}/safe", gateway.tls);
    let said = curl(&["--insecure", "--include", &url]).stdout.to_lowercase();
    assert!(said.contains("strict-transport-security: max-age=31536000\r\n"), "{said}");
}

#[test]
fn a_redirect_is_judged_as_any_request_and_leads_where_the_file_says() {
    let (world, gateway) = start(
        "routes:
  - {path: '/old/{id}/**', auth: none, redirect: {to: 'https://new.example/v2/{path.id}/{rest}?from=old&{query}'}}
  - {path: /inner/**, auth: [main], redirect: {to: '/{rest}', status: 303}, security_headers: true, response_headers: {set: {x-shaped: sent}}}
  - {path: /items/**, auth: [main], methods: [DELETE], redirect: {to: /gone}}
",
    );
    for (target, location) in [
        ("/old/7/a%20b/?x=1&y", "https://new.example/v2/7/a%20b/?from=old&x=1&y"),
        ("/old/%41", "https://new.example/v2/A/?from=old"),
        ("/old/@evil.example/x", "https://new.example/v2/@evil.example/x?from=old"),
    ] {
        let answer = get(target).send(&gateway).expect(308);
        assert_eq!(answer.header("location"), location, "{target}");
        assert_eq!(answer.text(), "");
    }
    get("/old//evil.example").send(&gateway).expect(400);
    assert!(!get("/inner/x").send(&gateway).expect(401).has("location"), "judged first");
    let answer = get("/inner/a").bearer(&world.token(json!({}))).send(&gateway).expect(303);
    assert_eq!((answer.header("location"), answer.header("x-shaped")), ("/a", "sent"));
    assert_eq!(answer.header("x-frame-options"), "DENY");
    Request::new("DELETE", "/items/1").bearer(&world.token(json!({}))).send(&gateway).expect(401);
    let fresh = world.fresh(10);
    Request::new("DELETE", "/items/1").bearer(&fresh).send(&gateway).expect(308);
    eventually("the outcome", || {
        gateway.audit().into_iter().find(|record| record["outcome"].is_object() || record["status"].is_number())
    });
    world.upstream.assert_untouched();
}

#[test]
fn a_path_made_anew_is_judged_as_what_it_became() {
    let (world, gateway) = start(
        "routes:
  - {path: '/v1/{kind}/{id}/**', upstream: api, auth: none, rewrite: {path: '/v2/{path.kind}/{rest}'}}
  - {path: /v2/admin/**, upstream: api, auth: [main]}
  - {path: /v2/**, upstream: api, auth: none}
",
    );
    get("/v1/books/7/pages/%C3%A9?q=%2F").send(&gateway).expect(200);
    assert_eq!(world.upstream.last().target(), "/v2/books/pages/%C3%A9?q=%2F");
    get("/v1/admin/7/x").send(&gateway).expect(401);
    get("/v1/Admin/7/x").send(&gateway).expect(401);
    get("/v1/%61dmin/7/x").send(&gateway).expect(401);
    let count = world.upstream.count();
    get("/v1/..;/7/x").send(&gateway).expect(400);
    assert_eq!(world.upstream.count(), count);
}

const CORS: &str = "limits:
  few: {key: ip, rate: 20/h}
routes:
  - path: /api/**
    upstream: api
    auth: [main]
    methods: [GET, PUT, POST]
    cors: {origins: ['https://app.example', 'https://*.apps.example'], methods: [GET, PUT], headers: [authorization, x-total], expose: [x-upstream], credentials: true, max_age: 1h}
  - {path: /open/**, upstream: api, auth: none, methods: [GET], cors: {origins: ['*']}}
  - {path: /few, upstream: api, auth: none, limits: [few], cors: {origins: ['*']}}
  - {path: /own/**, upstream: api, auth: none}
";

fn preflight(target: &str, origin: &str, method: &str) -> Request {
    Request::new("OPTIONS", target).header("Origin", origin).header("Access-Control-Request-Method", method)
}

#[test]
fn a_preflight_is_answered_from_the_route_of_the_method_that_it_asks_for() {
    let (world, gateway) = start(CORS);
    let asked = preflight("/api/x", "https://app.example", "PUT")
        .header("Access-Control-Request-Headers", "authorization,x-total");
    let answer = asked.send(&gateway).expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(answer.header("access-control-allow-methods"), "GET, PUT");
    assert_eq!(answer.header("access-control-allow-headers"), "authorization, x-total");
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert_eq!(answer.header("access-control-max-age"), "3600");
    assert!(answer.header("vary").contains("origin"));
    let answer = preflight("/open/x", "https://any.example", "GET").send(&gateway).expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(!answer.has("access-control-allow-credentials"));
    for refused in [
        preflight("/api/x", "https://evil.example", "PUT"),
        preflight("/api/x", "https://app.example.evil.example", "PUT"),
        preflight("/api/x", "null", "PUT"),
        preflight("/api/x", "https://app.example", "POST"),
        preflight("/api/x", "https://app.example", "PUT").header("Access-Control-Request-Headers", "x-other"),
    ] {
        let answer = refused.send(&gateway).expect(403);
        assert_eq!(answer.json()["type"], "urn:stepgate:problem:cors-refused");
        assert!(!answer.has("access-control-allow-methods"), "{answer:?}");
    }
    world.upstream.assert_untouched();
}

#[test]
fn what_is_no_preflight_is_a_request_like_any_other() {
    let (world, gateway) = start(CORS);
    // With a credential, which no browser sends along; without a method; of a method whose route has no `cors`.
    preflight("/api/x", "https://app.example", "PUT").bearer(&world.token(json!({}))).send(&gateway).expect(405);
    Request::new("OPTIONS", "/api/x").header("Origin", "https://app.example").send(&gateway).expect(405);
    preflight("/api/x", "https://app.example", "DELETE").send(&gateway).expect(405);
    world.upstream.assert_untouched();
    preflight("/own/x", "https://app.example", "GET").send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 1);
}

#[test]
fn an_actual_request_is_judged_as_ever_and_its_page_may_read_why_it_was_refused() {
    let answer = "HTTP/1.1 200 OK\r\nX-Upstream: u\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nVary: Accept-Encoding\r\nContent-Length: 2\r\n\r\nok";
    let (world, gateway) = start_with(Recorder::answering(answer), CORS);
    let ask = |origin: &str| get("/api/x").header("Origin", origin);
    let token = world.token(json!({}));
    let answer = ask("https://a.apps.example").bearer(&token).send(&gateway).expect(200);
    assert_eq!(answer.all("access-control-allow-origin"), ["https://a.apps.example"]);
    assert!(answer.header("access-control-expose-headers").ends_with(", x-upstream"));
    assert_eq!(answer.all("vary"), ["Accept-Encoding", "origin"]);
    let refused = ask("https://app.example").send(&gateway).expect(401);
    assert_eq!(refused.all("access-control-allow-origin"), ["https://app.example"]);
    assert!(refused.header("access-control-expose-headers").contains("www-authenticate"));
    // The upstream's own word is taken out, also for those whom the route does not list.
    for origin in ["https://evil.example", "null"] {
        let answer = ask(origin).bearer(&token).send(&gateway).expect(200);
        assert!(!names(&answer).iter().any(|name| name.starts_with("access-control-")), "{answer:?}");
        assert_eq!(answer.all("vary"), ["Accept-Encoding", "origin"]);
    }
    let answer = get("/own/x").header("Origin", "https://app.example").send(&gateway).expect(200);
    assert_eq!(answer.all("access-control-allow-origin"), ["*"], "a route without `cors` lets its upstream speak");
}

#[test]
fn preflights_are_counted_by_the_quota_of_the_address() {
    let (_world, gateway) = start(CORS);
    let statuses: Vec<u16> =
        (0..25).map(|_| preflight("/few", "https://app.example", "GET").send(&gateway).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 20, "{statuses:?}");
    assert!(statuses.ends_with(&[429]), "{statuses:?}");
}

#[test]
fn a_page_of_another_origin_asks_as_its_route_allows_in_a_browser() {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "server", &["localhost"]);
    world.write("ca.pem", &authority.pem);
    let page = crate::harness::lease_port();
    let gateway = world.start(&format!(
        "listeners:
  - {{address: 127.0.0.1:<tls>, tls: {{certificates: [{{cert: server.pem, key: server.key}}]}}}}
routes:
  - {{path: /api/**, upstream: api, auth: [main], cors: {{origins: ['http://localhost:{page}'], methods: [GET, PUT], expose: [x-upstream]}}}}
  - {{path: /closed/**, upstream: api, auth: none, cors: {{origins: ['https://app.example']}}}}
  - {{path: /silent/**, upstream: api, auth: none}}
"
    ));
    let says = json!({"page": page, "token": world.token(json!({})), "path": "", "tokens": {}});
    browse(&world, "cors", says);
    let seen: Vec<String> = world.upstream.requests().iter().map(|request| request.line().to_owned()).collect();
    assert!(!seen.iter().any(|line| line.starts_with("OPTIONS /api")), "{seen:?}");
    assert!(seen.contains(&"PUT /api/x HTTP/1.1".to_owned()), "{seen:?}");
    drop(gateway);
}

#[test]
fn a_route_has_a_longest_body_of_its_own() {
    let (world, gateway) = start(
        "server: {workers: 1, limits: {body_bytes: 1000B}}
routes:
  - {path: /usual, upstream: api, auth: none}
  - {path: /large, upstream: api, auth: none, body_bytes: 5000B}
  - {path: /small, upstream: api, auth: none, body_bytes: 10B}
",
    );
    let (ten, thousand) = ("x".repeat(10), "x".repeat(1001));
    post("/small", &ten).send(&gateway).expect(200);
    post("/small", "12345678901").send(&gateway).expect(413);
    post("/usual", &thousand).send(&gateway).expect(413);
    post("/large", &thousand).send(&gateway).expect(200);
    post("/large", &"x".repeat(5001)).send(&gateway).expect(413);
    let count = world.upstream.count();
    // Of unknown length: it is counted.
    let mut wire = gateway.connect();
    wire.send("POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n");
    wire.answer().expect(413);
    assert!(world.upstream.count() <= count + 1);
}

#[test]
fn a_route_has_limits_of_time_of_its_own() {
    let silent = Recorder::with(|request, _| {
        if request.target() != "/fast" {
            std::thread::sleep(Duration::from_secs(20));
        }
        false
    });
    let (_world, gateway) = start_with(
        silent,
        "routes:
  - {path: /head, upstream: api, auth: none, timeouts: {response: 200ms}}
  - {path: /whole, upstream: api, auth: none, timeouts: {request: 200ms}}
",
    );
    for target in ["/head", "/whole"] {
        let answer = get(target).send(&gateway).expect(504);
        assert_eq!(answer.json()["type"], "urn:stepgate:problem:gateway-timeout", "{target}");
    }
}

#[test]
fn nginx_behind_gets_the_rewritten_path_and_its_server_field_stays_here() {
    let nginx = Nginx::start();
    let world = World::new();
    let gateway = world.start(&format!(
        "upstreams: {{web: {{targets: [http://127.0.0.1:{}]}}}}
routes:
  - {{path: '/shop/{{id}}', upstream: web, auth: none, rewrite: {{path: '/items/{{path.id}}'}}, response_headers: {{remove: [server], set: {{x-shaped: yes}}}}, security_headers: true}}
",
        nginx.port
    ));
    let answer = get("/shop/7").send(&gateway).expect(200);
    assert!(answer.text().contains("uri=/items/7"), "{}", answer.text());
    assert!(!answer.has("server") && answer.header("x-shaped") == "yes" && answer.header("x-frame-options") == "DENY");
}
