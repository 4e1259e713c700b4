//! The edge: TLS versions, names, certificates that change, ALPN, client certificates, the redirecting listener, and the
//! limits that hold against slow, huge and many.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig,
    version::{TLS12, TLS13},
};

use crate::harness::{
    Authority, Gateway, Recorder, Wire, World, eventually, get,
    h2::{Ending, H2},
    let_pass, post,
};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

struct Edge {
    world: World,
    gateway: Gateway,
    authority: Authority,
}

/// A gateway with one TLS listener; `tls` are further lines of its `tls` section.
fn edge(tls: &str) -> Edge {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example", "gateway.example"]);
    authority.server(world.folder(), "two", &["two.example", "*.wild.example"]);
    world.write("clients.pem", CLIENTS.with(|clients| clients.pem.clone()));
    let gateway = world.start(&format!(
        "listeners:\n  - address: 127.0.0.1:<tls>\n    tls:\n      certificates: [{{cert: one.pem, key: one.key}}, {{cert: two.pem, key: two.key}}]\n{tls}{OPEN}"
    ));
    Edge { world, gateway, authority }
}

thread_local! {
    static CLIENTS: Authority = Authority::new("clients");
}

impl Edge {
    fn connect(&self, name: &str, config: &Arc<ClientConfig>) -> io::Result<Wire> {
        Wire::tls(self.gateway.tls, name, config)
    }

    fn http1(&self) -> Wire {
        self.connect("one.example", &self.authority.client(&["http/1.1"])).unwrap()
    }

    /// Whether a client can get an answer at all. With TLS 1.3 it may learn only when it reads that it was refused.
    fn serves(&self, config: &Arc<ClientConfig>) -> bool {
        self.connect("one.example", config).and_then(|mut wire| wire.send(get("/x").bytes()).try_answer(false)).is_ok()
    }
}

// -- TLS

#[test]
fn tls_1_2_and_1_3_are_spoken_by_default() {
    let edge = edge("");
    assert!(edge.serves(&edge.authority.client_speaking(&TLS12)));
    assert!(edge.serves(&edge.authority.client_speaking(&TLS13)));
}

#[test]
fn a_minimum_of_1_3_refuses_1_2() {
    let edge = edge("      min_version: \"1.3\"\n");
    assert!(!edge.serves(&edge.authority.client_speaking(&TLS12)));
    assert!(edge.serves(&edge.authority.client_speaking(&TLS13)));
    edge.world.upstream.wait_for(1);
    assert_eq!(edge.world.upstream.count(), 1);
}

#[test]
fn openssl_finds_no_version_below_1_2() {
    let edge = edge("");
    for version in ["-tls1", "-tls1_1"] {
        let mut command = std::process::Command::new("openssl");
        command.args([
            "s_client",
            "-cipher",
            "ALL:@SECLEVEL=0",
            version,
            "-connect",
            &format!("127.0.0.1:{}", edge.gateway.tls),
        ]);
        let finished = crate::harness::run(&mut command, "");
        assert!(!finished.stdout.contains("BEGIN CERTIFICATE"), "{version}: {finished:?}");
    }
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_first_is_the_default() {
    let edge = edge("");
    let config = edge.authority.client(&["http/1.1"]);
    // A client checks the name, so a handshake that succeeds has had the right certificate.
    for name in ["one.example", "two.example", "any.wild.example"] {
        edge.connect(name, &config).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let error = edge.connect("unknown.example", &config).err().unwrap();
    assert!(error.to_string().contains("one.example"), "the first certificate is shown: {error}");
}

#[test]
fn what_alpn_chose_is_what_is_spoken() {
    let edge = edge("");
    let mut http1 = edge.connect("one.example", &edge.authority.client(&["http/1.1"])).unwrap();
    http1.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(http1.try_answer(false).is_ok_and(|answer| answer.status >= 400) || http1.is_closed());
    let mut h2 = edge.connect("one.example", &edge.authority.client(&["h2", "http/1.1"])).unwrap();
    h2.send(get("/x").bytes());
    assert!(h2.head().is_err(), "HTTP/1.1 is no answer on a connection that chose h2");
    edge.world.upstream.assert_untouched();
}

#[test]
fn a_client_without_alpn_speaks_http_1_1() {
    let edge = edge("");
    let mut wire = edge.connect("one.example", &edge.authority.client(&[])).unwrap();
    get("/x").send_on(&mut wire).expect(200);
}

#[test]
fn http_2_is_served_over_tls() {
    let edge = edge("");
    let mut h2 = H2::over(edge.connect("one.example", &edge.authority.client(&["h2"])).unwrap());
    h2.request(1, &crate::harness::h2::get("/x"));
    assert_eq!(h2.status(1), Ending::Status(200));
}

#[test]
fn a_listener_without_h2_does_not_choose_it() {
    let edge = edge("      alpn: [http/1.1]\n");
    let wire = edge.connect("one.example", &edge.authority.client(&["h2", "http/1.1"])).unwrap();
    assert_eq!(wire.session().alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn plain_text_on_a_tls_port_is_hung_up_on() {
    let edge = edge("");
    let mut wire = Wire::connect(edge.gateway.tls);
    wire.send(get("/x").bytes());
    assert!(!String::from_utf8_lossy(&wire.rest()).contains("200 OK"));
    edge.world.upstream.assert_untouched();
}

// -- client certificates

fn with_clients(auth: &str) -> Edge {
    edge(&format!("      client_ca: clients.pem\n      client_auth: {auth}\n"))
}

#[test]
fn an_optional_client_certificate_may_be_missing_but_not_false() {
    let edge = with_clients("optional");
    let shown = CLIENTS.with(|clients| edge.authority.client_showing(clients));
    assert!(edge.serves(&edge.authority.client(&["http/1.1"])));
    assert!(edge.serves(&shown));
    assert!(!edge.serves(&edge.authority.client_showing(&Authority::new("strangers"))));
}

#[test]
fn a_required_client_certificate_must_be_there() {
    let edge = with_clients("required");
    let shown = CLIENTS.with(|clients| edge.authority.client_showing(clients));
    assert!(!edge.serves(&edge.authority.client(&["http/1.1"])));
    assert!(!edge.serves(&edge.authority.client_showing(&edge.authority)));
    edge.world.upstream.assert_untouched();
    assert!(edge.serves(&shown));
}

#[test]
fn a_connection_cannot_be_reused_for_a_name_that_asks_for_certificates() {
    // One listener asks for client certificates whatever the name, so a Host that differs from the SNI changes nothing.
    let edge = with_clients("required");
    let shown = CLIENTS.with(|clients| edge.authority.client_showing(clients));
    let mut wire = edge.connect("one.example", &shown).unwrap();
    get("/x").host("two.example").send_on(&mut wire).expect(200);
}

// -- certificates that change

#[test]
fn a_new_certificate_is_shown_without_closing_a_connection() {
    let edge = edge("");
    let config = edge.authority.client(&["http/1.1"]);
    let mut old = edge.http1();
    get("/x").send_on(&mut old).expect(200);
    let before = old.session().peer_certificates().unwrap()[0].clone().into_owned();
    edge.authority.server(edge.world.folder(), "one", &["one.example"]);
    eventually("the new certificate", || {
        let wire = edge.connect("one.example", &config).unwrap();
        (wire.session().peer_certificates().unwrap()[0] != before).then_some(())
    });
    get("/x").send_on(&mut old).expect(200);
}

#[test]
fn a_broken_certificate_leaves_the_old_one() {
    let edge = edge("");
    let before = std::fs::read(edge.world.folder().join("one.pem")).unwrap();
    edge.world.write("one.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n");
    edge.world.write("one.key", "");
    eventually("the operator to be told", || edge.gateway.stderr().contains("one.").then_some(()));
    get("/x").send_on(&mut edge.http1()).expect(200);
    drop(before);
}

#[test]
fn a_certificate_that_does_not_fit_its_key_leaves_the_old_one() {
    let edge = edge("");
    let other = Authority::new("others");
    let key = std::fs::read(edge.world.folder().join("one.key")).unwrap();
    other.server(edge.world.folder(), "one", &["one.example"]);
    edge.world.write("one.key", key);
    let_pass(Duration::from_secs(3)); // longer than files are looked at
    get("/x").send_on(&mut edge.http1()).expect(200);
}

// -- the plain listener that redirects

#[test]
fn a_redirect_goes_to_the_host_that_was_asked_for_and_nowhere_else() {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let gateway = world.start(&format!(
        "listeners:\n  - {{address: 127.0.0.1:<port>, redirect_to_https: 443}}\n  - address: 127.0.0.1:<tls>\n    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}\n{OPEN}"
    ));
    let location = |host: &str| get("/a?b=c").host(host).send(&gateway).expect(308).header("location").to_owned();
    assert_eq!(location("one.example"), "https://one.example/a?b=c");
    assert_eq!(location("one.example:8080"), "https://one.example/a?b=c");
    for host in ["", "one.example/evil", "evil@one.example", "a b", "one.example:x", "one.example\\evil", "[::1"] {
        let answer = get("/a").host(host).send(&gateway);
        assert_eq!(answer.status, 400, "{host:?}: {:?}", answer.headers);
    }
    let mut wire = gateway.connect();
    wire.send("GET /a HTTP/1.1\r\n\r\n");
    wire.answer().expect(400);
    let mut wire = gateway.connect();
    wire.send("GET http://evil.example/a HTTP/1.1\r\nHost: one.example\r\n\r\n");
    let answer = wire.answer();
    assert!(answer.status == 400 || !answer.header("location").contains("evil"), "{answer:?}");
    world.upstream.assert_untouched();
}

// -- limits: slow

/// A plain gateway with these limits.
fn limited(limits: &str) -> (World, Gateway) {
    limited_to(Recorder::new(), limits)
}

fn limited_to(upstream: Recorder, limits: &str) -> (World, Gateway) {
    let world = World::with(upstream);
    let gateway = world.start(&format!("server: {{workers: 1, limits: {{{limits}}}}}\n{OPEN}"));
    (world, gateway)
}

/// How long until the other side hangs up, whatever it says before.
fn until_closed(wire: &mut Wire) -> Duration {
    let start = Instant::now();
    wire.rest();
    start.elapsed()
}

#[track_caller]
fn assert_between(time: Duration, low_ms: u64, high_ms: u64) {
    assert!(time >= Duration::from_millis(low_ms) && time <= Duration::from_millis(high_ms), "{time:?}");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let (_world, gateway) = limited("header_timeout: 1s, keepalive_idle: 2s");
    assert_between(until_closed(&mut gateway.connect()), 700, 4000);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let (world, gateway) = limited("header_timeout: 1s");
    let mut wire = gateway.connect();
    wire.patience(Duration::from_millis(100));
    let start = Instant::now();
    wire.send("GET /x HTTP/1.1\r\nHost: h\r\n");
    // A byte now and then must not buy more time.
    while start.elapsed() < Duration::from_secs(6) {
        let mut byte = [0; 512];
        match wire.read(&mut byte) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) => break,
            Ok(_) => continue,
        }
        wire.send("X-A: b\r\n");
    }
    assert_between(start.elapsed(), 700, 4000);
    world.upstream.assert_untouched();
}

#[test]
fn a_handshake_that_never_ends_is_cut_off() {
    let world = World::new();
    Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    let gateway = world.start(&format!(
        "server: {{workers: 1, limits: {{tls_handshake_timeout: 1s}}}}\nlisteners:\n  - address: 127.0.0.1:<tls>\n    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}\n{OPEN}"
    ));
    let mut silent = Wire::connect(gateway.tls);
    assert_between(until_closed(&mut silent), 700, 4000);
    let mut started = Wire::connect(gateway.tls);
    started.send([0x16, 3, 1, 2, 0, 1]);
    assert_between(until_closed(&mut started), 700, 4000);
}

#[test]
fn an_idle_connection_is_closed_in_both_versions() {
    let (_world, gateway) = limited("keepalive_idle: 1s");
    let mut wire = gateway.connect();
    get("/x").send_on(&mut wire).expect(200);
    assert_between(until_closed(&mut wire), 700, 4000);
}

#[test]
fn an_idle_http_2_connection_is_closed() {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let gateway = world.start(&format!(
        "server: {{workers: 1, limits: {{keepalive_idle: 1s}}}}\nlisteners:\n  - address: 127.0.0.1:<tls>\n    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}\n{OPEN}"
    ));
    let mut h2 = H2::over(Wire::tls(gateway.tls, "one.example", &authority.client(&["h2"])).unwrap());
    h2.request(1, &crate::harness::h2::get("/x"));
    assert_eq!(h2.status(1), Ending::Status(200));
    assert_between(until_closed(&mut h2.wire), 700, 5000);
}

#[test]
fn a_body_that_stops_is_cut_off() {
    let (_world, gateway) = limited("body_idle_timeout: 1s");
    let mut wire = gateway.connect();
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nsome");
    let start = Instant::now();
    if let Ok(answer) = wire.try_answer(false) {
        answer.problem(408);
    }
    assert_between(start.elapsed(), 700, 4000);
}

#[test]
fn a_silent_upstream_never_counts_against_the_client() {
    let recorder = Recorder::with(|_, stream| {
        let_pass(Duration::from_millis(2500));
        io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").is_ok()
    });
    let (_world, gateway) = limited_to(
        recorder,
        "header_timeout: 1s, body_idle_timeout: 1s, keepalive_idle: 1s, write_stall_timeout: 1s, body_min_rate: 1MiB/s",
    );
    assert_eq!(post("/x", "body").send(&gateway).expect(200).text(), "slow");
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let recorder = Recorder::with(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n";
        let chunk = vec![7; 1 << 16];
        io::Write::write_all(stream, head).unwrap();
        while io::Write::write_all(stream, &chunk).is_ok() {}
        false
    });
    let (_world, gateway) = limited_to(recorder, "write_stall_timeout: 1s, body_idle_timeout: 1s");
    let mut wire = gateway.connect();
    wire.send(get("/x").bytes());
    wire.head().unwrap();
    eventually("the gateway to give up", || {
        (gateway.metric("stepgate_connections", &[&gateway.port.to_string()]) < 1.0).then_some(())
    });
}

#[test]
fn the_rest_of_a_refused_request_is_read_for_a_while_so_that_the_answer_arrives() {
    let world = World::new();
    let gateway = world.start("server: {workers: 1, limits: {refused_body_timeout: 2s}}\nroutes:\n  - {path: /**, upstream: api, auth: [main]}\n");
    let body = "x".repeat(3_000_000);
    post("/x", &body).send(&gateway).problem(401);
    let mut wire = gateway.connect();
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nnot all of it");
    wire.answer().problem(401);
    assert_between(until_closed(&mut wire), 0, 6000);
    world.upstream.assert_untouched();
}

// -- limits: huge

#[test]
fn a_body_over_the_limit_is_refused_whether_it_says_so_or_not() {
    let (world, gateway) = limited("body_bytes: 1000B");
    let exact = "x".repeat(1000);
    post("/x", &exact).send(&gateway).expect(200);
    let before = world.upstream.bytes().len();
    assert_eq!(post("/x", &"x".repeat(1001)).send(&gateway).problem(413), "body-too-large");
    assert_eq!(world.upstream.bytes().len(), before, "a length that is too large is refused before anything goes on");
    let mut wire = gateway.connect();
    wire.send(format!(
        "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1001)
    ));
    wire.answer().problem(413);
    assert_eq!(world.upstream.count(), 1, "and one that says nothing never becomes a whole request upstream");
}

#[test]
fn a_target_over_the_limit_is_414() {
    let (world, gateway) = limited("uri_bytes: 1KiB");
    get(&format!("/{}", "x".repeat(1000))).send(&gateway).expect(200);
    assert_eq!(get(&format!("/{}", "x".repeat(1100))).send(&gateway).problem(414), "uri-too-long");
    assert_eq!(get(&format!("/x?{}", "x".repeat(1100))).send(&gateway).problem(414), "uri-too-long");
    assert_eq!(world.upstream.count(), 1);
}

#[test]
fn a_head_over_the_limit_is_431() {
    let (world, gateway) = limited("header_bytes: 16KiB");
    get("/x").header("X-Big", &"x".repeat(12 * 1024)).send(&gateway).expect(200);
    let mut wire = gateway.connect();
    wire.send(get("/x").header("X-Big", &"x".repeat(20 * 1024)).bytes());
    wire.answer().expect(431);
    let mut wire = gateway.connect();
    wire.send(get("/x").header("X-Big", &"x".repeat(2 * 1024 * 1024)).bytes());
    assert!(wire.try_answer(false).map_or(true, |answer| answer.status == 431), "an answer or a closed connection");
    assert_eq!(world.upstream.count(), 1);
}

#[test]
fn too_many_headers_are_431() {
    let (world, gateway) = limited("headers: 50");
    let many = |count: usize| (0..count).fold(get("/x"), |request, n| request.header(&format!("X-{n}"), "v"));
    many(40).send(&gateway).expect(200);
    many(60).send(&gateway).expect(431);
    many(2000).send(&gateway).expect(431);
    assert_eq!(world.upstream.count(), 1);
}

#[test]
fn the_default_limits_take_what_real_clients_send() {
    let world = World::new();
    let gateway = world.start(OPEN);
    let many = (0..180).fold(get("/x"), |request, n| request.header(&format!("X-{n}"), &"v".repeat(300)));
    many.send(&gateway).expect(200);
    get(&format!("/{}", "x".repeat(16_000))).send(&gateway).expect(200);
    get(&format!("/{}", "x".repeat(17_000))).send(&gateway).problem(414);
}

// -- limits: many

#[test]
fn one_address_has_so_many_connections_and_others_are_still_served() {
    let (_world, gateway) = limited("connections_per_ip: 5");
    let mut held: Vec<Wire> = (0..5).map(|_| gateway.connect()).collect();
    for wire in &mut held {
        get("/x").send_on(wire).expect(200);
    }
    let mut sixth = gateway.connect();
    assert!(sixth.send(get("/x").bytes()).try_answer(false).is_err());
    get("/x").from("127.0.0.2").send(&gateway).expect(200);
    assert!(gateway.metric("stepgate_connections_refused_total", &[]) >= 1.0);
    drop(held);
    eventually("a place", || gateway.connect().send(get("/x").bytes()).try_answer(false).ok());
}

#[test]
fn all_together_have_so_many_connections() {
    let (_world, gateway) = limited("connections: 4");
    let mut held: Vec<Wire> =
        (2..6).map(|n| Wire::connect_from(format!("127.0.0.{n}").parse().unwrap(), gateway.port)).collect();
    for wire in &mut held {
        get("/x").send_on(wire).expect(200);
    }
    assert!(gateway.connect().send(get("/x").bytes()).try_answer(false).is_err());
    drop(held);
    eventually("a place", || gateway.connect().send(get("/x").bytes()).try_answer(false).ok());
}

#[test]
fn health_is_told_while_the_public_side_is_full() {
    let (_world, gateway) = limited("connections: 1");
    let mut held = gateway.connect();
    get("/x").send_on(&mut held).expect(200);
    get("/livez").send_to(gateway.admin).expect(200);
    assert!(gateway.metrics().contains("stepgate_connections"));
}

#[test]
fn a_plain_listener_serves_only_where_it_says_cleartext() {
    let finished = World::new().check(&format!("listeners:\n  - {{address: 127.0.0.1:<port>}}\n{OPEN}"));
    assert_eq!(finished.code, 78, "{finished:?}");
}
