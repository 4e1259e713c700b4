//! Prometheus: the page of metrics as promtool and a real Prometheus read it, and what the numbers mean.

use serde_json::json;

use crate::harness::{
    Gateway, Request, World, delete, eventually, get,
    tools::{Prometheus, promtool_check_metrics},
};

const YAML: &str = "limits:
  q: {key: subject, rate: 2/minute}
routes:
  - {path: /open/**, upstream: api, auth: none}
  - {path: /x, upstream: api, auth: [main], limits: [q]}
";

/// A gateway that has seen something of everything.
fn busy() -> (World, Gateway) {
    let world = World::new();
    let gateway = world.start(YAML);
    get("/open/1").send(&gateway).expect(200);
    get("/nowhere").send(&gateway).expect(404);
    get("/x").send(&gateway).expect(401);
    let request = get("/x").bearer(&world.token(json!({})));
    for status in [200, 200, 429] {
        request.send(&gateway).expect(status);
    }
    delete("/open/1").bearer(&world.fresh(5)).send(&gateway).expect(200);
    (world, gateway)
}

#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let (_world, gateway) = busy();
    let finished = promtool_check_metrics(&gateway.metrics());
    assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (0, "", ""));
}

#[test]
fn a_real_prometheus_scrapes_and_answers() {
    let (_world, gateway) = busy();
    let prometheus = Prometheus::scraping(gateway.admin);
    let value = prometheus.query("sum(stepgate_requests_total{route=\"/x\"})");
    assert!(value >= 4.0, "{value}");
    assert!((prometheus.query("up{job=\"stepgate\"}") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn requests_are_counted_by_route_method_and_status_class() {
    let (_world, gateway) = busy();
    let count = |labels: &[&str]| gateway.metric("stepgate_requests_total", labels);
    assert_eq!(count(&["route=\"/x\"", "status=\"2xx\""]), 2.0);
    assert_eq!(count(&["route=\"/x\"", "status=\"4xx\""]), 2.0);
    assert_eq!(count(&["route=\"/open/**\"", "method=\"DELETE\"", "status=\"2xx\""]), 1.0);
    assert_eq!(gateway.metric("stepgate_request_duration_seconds_count", &["route=\"/x\""]), 4.0);
    assert!(gateway.metric("stepgate_upstream_duration_seconds_count", &["upstream=\"api\""]) >= 4.0);
}

#[test]
fn decisions_are_counted_by_reason() {
    let (_world, gateway) = busy();
    let count = |reason: &str| gateway.metric("stepgate_decisions_total", &[&format!("reason=\"{reason}\"")]);
    assert_eq!(
        [count("allowed"), count("token_missing"), count("quota_exceeded"), count("route_not_found")],
        [4.0, 1.0, 1.0, 1.0]
    );
}

#[test]
fn labels_never_come_from_a_request() {
    let (world, gateway) = busy();
    for n in 0..50 {
        get(&format!("/unknown-{n}")).host(&format!("host-{n}.example")).send(&gateway).expect(404);
        Request::new(&format!("M{n}"), "/open/1").send(&gateway);
        get("/x")
            .bearer(&world.token(json!({"sub": format!("subject-{n}"), "client_id": format!("client-{n}")})))
            .send(&gateway);
    }
    let metrics = gateway.metrics();
    for value in ["unknown-", "host-1", "subject-", "client-", "M1", "alice"] {
        assert!(!metrics.contains(value), "{value} in {metrics}");
    }
    assert!(metrics.lines().count() < 2000, "{} lines", metrics.lines().count());
}

#[test]
fn connections_and_the_process_are_told() {
    let (_world, gateway) = busy();
    let mut wires: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    for wire in &mut wires {
        get("/open/1").send_on(wire).expect(200);
    }
    eventually("three connections", || (gateway.metric("stepgate_connections", &[]) >= 3.0).then_some(()));
    assert_eq!(gateway.metric("stepgate_build_info", &[&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(gateway.metric("stepgate_config_last_reload_success_timestamp_seconds", &[]) > 1e9);
}

#[test]
fn the_age_of_keys_and_the_end_of_certificates_are_told() {
    let world = World::new();
    crate::harness::Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    let jwks = crate::harness::Jwks::new(world.signer().jwks());
    let gateway = world.start(&format!(
        "listeners:\n  - address: 127.0.0.1:<tls>\n    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}
issuers:\n  main: {{issuer: https://idp.example/, audience: [https://api.example], keys: {{jwks_url: \"{}\"}}, algorithms: [ES256]}}
routes:\n  - {{path: /x, upstream: api, auth: [main]}}\n",
        jwks.url()
    ));
    assert!(gateway.metric("stepgate_tls_certificate_not_after_timestamp_seconds", &[]) > 1.7e9);
    let age = gateway.metric("stepgate_jwks_age_seconds", &["issuer=\"main\""]);
    assert!((0.0..60.0).contains(&age), "{age}");
    assert!(gateway.metric("stepgate_jwks_refreshes_total", &["issuer=\"main\""]) >= 1.0);
}
