//! Changes while it runs: reloads that are all or nothing and close no connection, and drains that lose no request.

use std::{
    io::Write,
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Gateway, Recorder, Wire, World, eventually, get, let_pass, stepgate};

const BEFORE: &str = "limits:\n  q: {key: subject, rate: 3/hour}\nroutes:\n  - {path: /old, upstream: api, auth: none}\n  - {path: /q, upstream: api, auth: [main], limits: [q]}\n";
const AFTER: &str = "limits:\n  q: {key: subject, rate: 3/hour}\nroutes:\n  - {path: /new, upstream: api, auth: none}\n  - {path: /q, upstream: api, auth: [main], limits: [q]}\n";

fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("stepgate_config_reloads_total", &[&format!("result=\"{result}\"")])
}

/// Changes the file and waits until the gateway has taken it.
fn change(world: &World, gateway: &Gateway, yaml: &str) {
    let before = reloads(gateway, "ok");
    world.configure(yaml);
    gateway.signal("HUP");
    eventually("the reload", || (reloads(gateway, "ok") > before).then_some(()));
}

#[test]
fn a_hangup_loads_the_file_again_and_closes_no_connection() {
    let world = World::new();
    let gateway = world.start(BEFORE);
    let mut wire = gateway.connect();
    get("/old").send_on(&mut wire).expect(200);
    change(&world, &gateway, AFTER);
    get("/new").send_on(&mut wire).expect(200);
    get("/old").send_on(&mut wire).problem(404);
}

#[test]
fn a_file_that_changes_is_loaded_without_a_signal() {
    let world = World::new();
    let gateway = world.start(BEFORE);
    world.configure(AFTER);
    eventually("the new route", || (get("/new").send(&gateway).status == 200).then_some(()));
}

#[test]
fn a_file_that_is_replaced_by_a_rename_is_loaded_too() {
    let world = World::new();
    let gateway = world.start(BEFORE);
    world.write("next.yaml", world.yaml(AFTER));
    std::fs::rename(world.folder().join("next.yaml"), world.folder().join("gateway.yaml")).unwrap();
    eventually("the new route", || (get("/new").send(&gateway).status == 200).then_some(()));
}

#[test]
fn a_file_with_a_mistake_changes_nothing() {
    let world = World::new();
    let gateway = world.start(BEFORE);
    let mut wire = gateway.connect();
    get("/old").send_on(&mut wire).expect(200);
    for bad in [
        "routes: [",
        &AFTER.replace("upstream: api", "upstream: apl"),
        &AFTER.replace("auth: none", "auth: nobody"),
        "",
    ] {
        let before = reloads(&gateway, "refused");
        world.write("gateway.yaml", world.yaml(bad));
        gateway.signal("HUP");
        eventually("the refusal", || (reloads(&gateway, "refused") > before).then_some(()));
        get("/old").send_on(&mut wire).expect(200);
        get("/new").send(&gateway).problem(404);
    }
    assert!(gateway.stderr().contains("gateway.yaml"), "the operator is told: {}", gateway.stderr());
}

#[test]
fn a_reload_is_refused_when_a_file_or_an_address_is_not_to_be_had() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = world.start(BEFORE);
    let port = taken.local_addr().unwrap().port();
    for bad in [
        format!("listeners:\n  - {{address: 127.0.0.1:<port>, cleartext: true}}\n  - {{address: 127.0.0.1:{port}, cleartext: true}}\n{AFTER}"),
        AFTER.replace("limits:", "issuers:\n  main: {issuer: https://idp.example/, audience: [x], keys: {jwks_file: not-there.json}, algorithms: [ES256]}\nlimits:"),
    ] {
        let before = reloads(&gateway, "refused");
        world.write("gateway.yaml", world.yaml(&bad));
        gateway.signal("HUP");
        eventually("the refusal", || (reloads(&gateway, "refused") > before).then_some(()));
        get("/old").send(&gateway).expect(200);
        get("/new").send(&gateway).problem(404);
    }
}

#[test]
fn counters_and_keys_stay_warm_over_a_reload() {
    let world = World::new();
    let gateway = world.start(BEFORE);
    let request = get("/q").bearer(&world.token(json!({})));
    for _ in 0..3 {
        request.send(&gateway).expect(200);
    }
    request.send(&gateway).expect(429);
    change(&world, &gateway, AFTER);
    request.send(&gateway).expect(429);
    get("/q").bearer(&world.token(json!({"sub": "bob"}))).send(&gateway).expect(200);
}

#[test]
fn keys_fetched_before_a_reload_serve_after_it_with_the_provider_down() {
    let world = World::new();
    let jwks = crate::harness::Jwks::new(world.signer().jwks());
    let issuers = format!(
        "issuers:\n  main: {{issuer: https://idp.example/, audience: [https://api.example], keys: {{jwks_url: \"{}\"}}, algorithms: [ES256]}}\n",
        jwks.url()
    );
    let gateway = world.start(&format!("{issuers}{BEFORE}"));
    get("/q").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    jwks.go_down();
    change(&world, &gateway, &format!("{issuers}{AFTER}"));
    get("/q").bearer(&world.token(json!({"jti": "2"}))).send(&gateway).expect(200);
}

#[test]
fn an_issuer_that_is_taken_out_is_no_longer_believed() {
    let world = World::new();
    let gateway = world.start(BEFORE);
    let token = world.token(json!({}));
    get("/q").bearer(&token).send(&gateway).expect(200);
    let other = "issuers:\n  main: {issuer: https://other.example/, audience: [https://api.example], keys: {jwks_file: jwks.json}, algorithms: [ES256]}\n";
    change(&world, &gateway, &format!("{other}{AFTER}"));
    get("/q").bearer(&token).send(&gateway).problem(401);
}

#[test]
fn a_listener_that_comes_is_bound_and_one_that_goes_is_closed() {
    let world = World::new();
    let gateway = world.start(BEFORE);
    let more = "listeners:\n  - {address: 127.0.0.1:<port>, cleartext: true}\n  - {address: 127.0.0.1:<tls>, cleartext: true}\n";
    let mut kept = gateway.connect();
    get("/old").send_on(&mut kept).expect(200);
    change(&world, &gateway, &format!("{more}{AFTER}"));
    get("/new").send_to(gateway.tls).expect(200);
    get("/new").send_on(&mut kept).expect(200);
    change(&world, &gateway, BEFORE);
    eventually("the listener to go", || std::net::TcpStream::connect(("127.0.0.1", gateway.tls)).err());
    get("/old").send_on(&mut kept).expect(200);
}

#[test]
fn an_answer_that_streams_over_a_reload_arrives_whole() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let recorder = Recorder::with(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
        stream.write_all(b"half").is_ok()
    });
    let world = World::with(recorder);
    let gateway = world.start(BEFORE);
    let mut wire = gateway.connect();
    wire.send(get("/old").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    change(&world, &gateway, AFTER);
    go.send(()).unwrap();
    assert_eq!(wire.read_exactly(8).unwrap(), b"halfhalf");
}

// -- drain

fn slow_upstream(time: Duration) -> Recorder {
    Recorder::with(move |_, stream| {
        let_pass(time);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").is_ok()
    })
}

#[test]
fn a_term_finishes_what_is_under_way_and_then_ends_with_0() {
    let world = World::with(slow_upstream(Duration::from_millis(1500)));
    let mut gateway = world.start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut busy = gateway.connect();
    busy.send(get("/x").bytes());
    let mut idle = gateway.connect();
    world.upstream.wait_for(1);
    gateway.signal("TERM");
    assert!(idle.is_closed(), "an idle connection is closed");
    let answer = busy.answer().expect(200);
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("done", "close"));
    assert_eq!(gateway.wait(), 0);
    assert!(std::net::TcpStream::connect(("127.0.0.1", gateway.port)).is_err());
}

#[test]
fn readiness_is_gone_as_soon_as_a_drain_begins() {
    let world = World::with(slow_upstream(Duration::from_secs(2)));
    let gateway = world.start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut busy = gateway.connect();
    busy.send(get("/x").bytes());
    world.upstream.wait_for(1);
    gateway.signal("TERM");
    eventually("not to be ready", || (gateway.readiness().status == 503).then_some(()));
    busy.answer().expect(200);
}

#[test]
fn a_drain_is_bounded() {
    let world = World::with(slow_upstream(Duration::from_secs(60)));
    let mut gateway =
        world.start("server: {workers: 1, drain_timeout: 1s}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut busy = gateway.connect();
    busy.send(get("/x").bytes());
    world.upstream.wait_for(1);
    let start = Instant::now();
    gateway.signal("TERM");
    gateway.wait();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn http_2_is_told_to_go_away_and_its_streams_finish() {
    use crate::harness::{Authority, h2};
    let world = World::with(slow_upstream(Duration::from_millis(1500)));
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let mut gateway = world.start("listeners:\n  - address: 127.0.0.1:<tls>\n    tls: {certificates: [{cert: one.pem, key: one.key}]}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut client = h2::H2::over(Wire::tls(gateway.tls, "one.example", &authority.client(&["h2"])).unwrap());
    client.request(1, &h2::get("/x"));
    world.upstream.wait_for(1);
    gateway.signal("TERM");
    let (mut goaway, mut data) = (false, Vec::new());
    while let Ok(frame) = client.next() {
        goaway |= frame.kind == h2::GOAWAY;
        if frame.kind == h2::DATA {
            data.extend(frame.payload);
        }
    }
    assert!(goaway, "RFC 9113 section 6.8");
    assert_eq!(data, b"done");
    assert_eq!(gateway.wait(), 0);
}

// -- one process at a time

#[test]
fn a_second_process_on_the_same_state_is_refused() {
    let world = World::new();
    let mut gateway = world.start(BEFORE);
    let second = stepgate(world.folder(), &["run", "gateway.yaml"]);
    assert_eq!(second.code, 69, "{second:?}");
    assert!(gateway.runs());
    get("/old").send(&gateway).expect(200);
}

#[test]
fn an_address_that_is_taken_is_an_error_at_start_that_names_it() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    world.configure(&format!("listeners:\n  - {{address: \"{address}\", cleartext: true}}\n{BEFORE}"));
    let finished = stepgate(world.folder(), &["run", "gateway.yaml"]);
    assert_eq!(finished.code, 69, "{finished:?}");
    assert!(finished.stderr.contains(&address), "{finished:?}");
}
