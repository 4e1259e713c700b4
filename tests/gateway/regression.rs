//! Faults that were found and mended, each with its story.

use serde_json::json;

use crate::harness::{Wire, World, get};

/// The interpreter lists the variables that `all` and `exists` bind beside those that an expression needs. They were taken
/// for unknown ones, so that `stepgate check` was content with such a condition and `stepgate run` refused to start.
#[test]
fn a_condition_may_loop_over_a_claim() {
    let world = World::new();
    let yaml =
        "routes:\n  - {path: /**, upstream: api, auth: [main], when: 'claims.roles.exists(role, role == \"admin\")'}\n";
    assert_eq!(world.check(yaml).code, 0);
    let gateway = world.start(yaml);
    get("/x").bearer(&world.token(json!({"roles": ["user", "admin"]}))).send(&gateway).expect(200);
    get("/x").bearer(&world.token(json!({"roles": ["user"]}))).send(&gateway).problem(403);
    let unknown = yaml.replace("claims.roles", "user.roles");
    assert_eq!(world.check(&unknown).code, 78, "check and run judge alike");
}

/// A client's `x_api_key` went on beside the gateway's own `X-Api-Key`, and a service that folds names read the client's.
#[test]
fn another_spelling_of_the_upstreams_credential_does_not_pass() {
    let world = World::new();
    world.write("key", "the-key-of-the-upstream");
    let gateway = world.start(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>], credential: {header: {name: X-Api-Key, value: {file: key}}}}
routes:
  - {path: /**, upstream: api, auth: none}
",
    );
    for name in ["x_api_key", "X-Api_Key", "X_API_KEY", "x-api-key"] {
        get("/x").header(name, "the client's").send(&gateway).expect(200);
        assert!(!world.upstream.last().head.contains("the client's"), "{name}");
    }
}

/// A public route with a rewrite led to paths that another route of the same service protects.
#[test]
fn a_rewrite_does_not_lead_around_another_route() {
    let world = World::new();
    let gateway = world.start(
        "routes:
  - {path: /v1/**, upstream: api, auth: none, rewrite: {strip_prefix: /v1}}
  - {path: /private/**, upstream: api, auth: [main], methods: [GET]}
",
    );
    get("/v1/private/x").send(&gateway).problem(401);
    get("/v1/private/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    get("/v1/open").send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 2);
}

/// `ftp://host/path` as a request target was served like `http://host/path`.
#[test]
fn a_target_of_another_scheme_is_refused() {
    let world = World::new();
    let gateway = world.start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut wire = Wire::connect(gateway.port);
    wire.send("GET ftp://gateway.example/x HTTP/1.1\r\nHost: gateway.example\r\n\r\n");
    assert_eq!(wire.answer().problem(400), "invalid-host");
    world.upstream.assert_untouched();
}
