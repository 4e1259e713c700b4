//! Prometheus: the page of metrics as promtool and a real Prometheus read it, and what the numbers mean.

use serde_json::json;

use crate::harness::{
    Authority, Gateway, Jwks, Mood, Request, Wire, World, delete, eventually, get,
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
    Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    let jwks = Jwks::new(world.signer().jwks());
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

/// An issuer whose keys come from there.
fn fetched(jwks: &Jwks, more: &str) -> String {
    format!(
        "issuers:\n  main: {{issuer: https://idp.example/, audience: [https://api.example], keys: {{jwks_url: \"{}\"}}, algorithms: [ES256]{more}}}
routes:\n  - {{path: /x, upstream: api, auth: [main]}}\n",
        jwks.url()
    )
}

#[test]
fn a_fetch_of_keys_that_fails_is_counted_and_leaves_their_age_as_it_is() {
    let world = World::new();
    let jwks = Jwks::new(json!(null));
    jwks.set(Mood::KeysFor(world.signer().jwks(), 1));
    let gateway = world.start(&fetched(&jwks, ", jwks_cooldown: 1s"));
    let fetches = |result: &str| {
        gateway.metric("stepgate_jwks_refreshes_total", &["issuer=\"main\"", &format!("result=\"{result}\"")])
    };
    let age = || gateway.metric("stepgate_jwks_age_seconds", &["issuer=\"main\""]);
    assert!(fetches("ok") >= 1.0);
    assert_eq!(fetches("failed"), 0.0);
    jwks.set(Mood::Says("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()));
    eventually("fetches to fail", || (fetches("failed") >= 2.0).then_some(()));
    let (fetched, before) = (fetches("ok"), age());
    let failed = fetches("failed");
    eventually("a further one to fail", || (fetches("failed") > failed).then_some(()));
    assert!(age() >= before && fetches("ok") == fetched, "the keys are those of the last fetch that went well");
    jwks.set(Mood::Keys(world.signer().jwks()));
    eventually("a fetch to go well", || (fetches("ok") > fetched).then_some(()));
}

#[test]
fn handshakes_are_counted_by_how_they_ended() {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let gateway = world.start(
        "server: {workers: 1, limits: {tls_handshake_timeout: 1s}}
listeners:\n  - address: 127.0.0.1:<tls>\n    tls: {certificates: [{cert: one.pem, key: one.key}]}
routes:\n  - {path: /**, upstream: api, auth: none}\n",
    );
    let listener = format!("listener=\"127.0.0.1:{}\"", world.tls);
    let ended =
        |result: &str| gateway.metric("stepgate_tls_handshakes_total", &[&listener, &format!("result=\"{result}\"")]);
    let all = || ["ok", "failed", "timeout"].map(&ended);
    let mut wire = Wire::tls(world.tls, "one.example", &authority.client(&["http/1.1"])).unwrap();
    get("/x").send_on(&mut wire).expect(200);
    assert_eq!(all(), [1.0, 0.0, 0.0]);
    // Somebody who does not trust our certificate, and somebody who does not speak TLS.
    assert!(Wire::tls(world.tls, "one.example", &Authority::new("others").client(&["http/1.1"])).is_err());
    eventually("a handshake that failed", || (ended("failed") >= 1.0).then_some(()));
    Wire::connect(world.tls).send(get("/x").bytes()).rest();
    eventually("another", || (ended("failed") >= 2.0).then_some(()));
    // And somebody who begins, and never goes on.
    let mut begun = Wire::connect(world.tls);
    begun.send([0x16, 3, 1, 2, 0, 1]);
    eventually("a handshake that took too long", || (ended("timeout") >= 1.0).then_some(()));
    assert_eq!(all(), [1.0, 2.0, 1.0]);
}

#[test]
fn a_refused_reload_is_told_until_one_takes_effect() {
    let world = World::new();
    let gateway = world.start(YAML);
    let told = || {
        ["reload_successful", "reload_success_timestamp_seconds"]
            .map(|name| gateway.metric(&format!("stepgate_config_last_{name}"), &[]))
    };
    let count = |result: &str| gateway.metric("stepgate_config_reloads_total", &[&format!("result=\"{result}\"")]);
    let [successful, loaded] = told();
    assert_eq!((successful, gateway.metric("stepgate_config_generation", &[])), (1.0, 1.0));
    world.write("gateway.yaml", world.yaml("routes: ["));
    gateway.signal("HUP");
    eventually("the refusal", || (count("refused") >= 1.0).then_some(()));
    eventually("the bad news", || (told()[0] == 0.0).then_some(()));
    assert_eq!(told(), [0.0, loaded], "what is in force was loaded when it was");
    assert_eq!((count("ok"), gateway.metric("stepgate_config_generation", &[])), (0.0, 1.0));
    world.configure(&YAML.replace("2/minute", "3/minute"));
    gateway.signal("HUP");
    eventually("the reload", || (count("ok") >= 1.0).then_some(()));
    eventually("the good news", || (told()[0] == 1.0).then_some(()));
    assert!(told()[1] >= loaded);
    assert!(gateway.metric("stepgate_config_generation", &[]) >= 2.0);
}

#[test]
fn lines_that_the_access_log_could_not_take_are_counted() {
    let world = World::new();
    world.configure(&format!("access_log: {{file: access.jsonl}}\n{YAML}"));
    let gateway = world.start_on_a_small_disk();
    let dropped = || gateway.metric("stepgate_access_log_dropped_total", &[]);
    let lines = || {
        let text = std::fs::read_to_string(world.folder().join("access.jsonl")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<serde_json::Value>>()
    };
    assert_eq!(dropped(), 0.0);
    let mut sent = 0;
    eventually("lines to be dropped", || {
        get("/open/1").send(&gateway).expect(200);
        sent += 1;
        (dropped() >= 3.0).then_some(())
    });
    eventually("each request to be written or counted", || {
        (lines().len() as f64 + dropped() >= f64::from(sent)).then_some(())
    });
    assert!(dropped() <= f64::from(sent), "{} of {sent}", dropped());
    if !gateway.give_back_the_disk() {
        return;
    }
    let before = dropped();
    get("/open/last").send(&gateway).expect(200);
    eventually("a whole line", || lines().iter().any(|line| line["path"] == "/open/last").then_some(()));
    assert_eq!(dropped(), before);
}

#[test]
fn audit_records_are_counted_by_kind_and_attempts_of_strangers_by_reason() {
    let world = World::new();
    let gateway = world.start(YAML);
    let records = |kind: &str| gateway.metric("stepgate_audit_records_total", &[&format!("kind=\"{kind}\"")]);
    assert_eq!(gateway.metric("stepgate_audit_writable", &[]), 1.0);
    assert_eq!(gateway.metric("stepgate_audit_failures_total", &[]), 0.0);
    for _ in 0..2 {
        delete("/open/1").bearer(&world.fresh(5)).send(&gateway).expect(200);
    }
    for _ in 0..3 {
        delete("/open/1").bearer(&world.token(json!({}))).send(&gateway).expect(401);
    }
    delete("/open/1").send(&gateway).expect(401);
    eventually("the records to be written", || {
        (["intent", "outcome", "refusal"].map(records) == [2.0, 2.0, 3.0]).then_some(())
    });
    let attempts = |labels: &[&str]| gateway.metric("stepgate_audit_unauthenticated_attempts_total", labels);
    assert_eq!(attempts(&["reason=\"token_missing\""]), 1.0);
    assert_eq!(attempts(&[]), 1.0, "and for no other reason");
}
