//! Bad weather between the gateway and its service, and between clients and the gateway: what is late, comes in pieces, is held back
//! or cut. Nothing that does something arrives twice, nothing harmless is lost where retries are on, what is cut is seen as cut, and
//! time limits hold.

use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::harness::{Gateway, Recorder, Relay, Weather, Wire, World, delete, eventually, get, h2, post, tools::Nginx};

const ECHO: &str = "log_format plain '$request_method $request_uri $status';
    server { listen 127.0.0.1:<port><http2>; keepalive_requests 1000000; access_log <folder>/access.log plain;
        location /files/ { root <folder>; }
        location ~ ^/(get|post|delete)/ { return 204; }
        location / { return 200 'ok'; } }";

/// nginx, by HTTP/1.1 or HTTP/2 alone.
fn service(protocol: &str) -> Nginx {
    let http2 = if protocol == "http2" { " http2" } else { "" };
    Nginx::serving(&ECHO.replace("<http2>", http2), &[])
}

/// A gateway whose service is behind relays, each of them a target.
fn behind(world: &World, relays: &[&Relay], protocol: &str, keys: &str) -> Gateway {
    let targets: Vec<String> = relays.iter().map(|relay| format!("http://127.0.0.1:{}", relay.port)).collect();
    world.start(&format!(
        "deletion_guard: {{operations: [\"DELETE /**\"], assurance: recent}}
assurance: {{recent: {{acr: [urn:example:acr:mfa], max_age: 5m}}}}
upstreams:
  api: {{targets: [{}], protocol: {protocol}{keys}}}
routes:
  - {{path: /**, upstream: api, auth: none}}
",
        targets.join(", ")
    ))
}

const RETRIES: &str = ", retries: {attempts: 3, on: [connect, reset], budget: 100%}";

#[test]
fn while_connections_to_the_service_are_cut_no_get_is_lost_and_nothing_else_arrives_twice() {
    for protocol in ["http1", "http2"] {
        let nginx = service(protocol);
        // Two ways to it: a connection that is cut as soon as it is made is one that could not be made, and another target is tried.
        let (world, relays) = (World::new(), [Relay::to(nginx.port), Relay::to(nginx.port)]);
        let gateway = behind(&world, &relays.each_ref(), protocol, RETRIES);
        let (stop, done, numbers) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let lost = Mutex::new(Vec::new());
        // Answers are heads alone: one that is cut after its head is seen as cut, and no more to be helped.
        // Each deletion is somebody else's: there is a quota.
        let tokens: Vec<String> = (0..400).map(|number| world.fresh_for(&format!("user-{number}"), 5)).collect();
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (gateway, stop, done, numbers, lost) = (&gateway, &stop, &done, &numbers, &lost);
                let mut tokens = tokens.iter().cycle();
                scope.spawn(move || {
                    while !stop.load(SeqCst) {
                        let number = numbers.fetch_add(1, SeqCst);
                        match client {
                            // These may fail; they may not arrive twice.
                            0 => drop(post(&format!("/post/{number}"), "once").send(gateway)),
                            1 => {
                                drop(delete(&format!("/delete/{number}")).bearer(tokens.next().unwrap()).send(gateway))
                            }
                            _ => {
                                let answer = get(&format!("/get/{number}")).send(gateway);
                                if answer.status != 204 {
                                    lost.lock().unwrap().push((number, answer.status, answer.text()));
                                }
                            }
                        }
                        done.fetch_add(1, SeqCst);
                    }
                });
            }
            for round in 0..40 {
                let pieces = [0, 1, 7, 100][round / 2 % 4];
                let relay = &relays[round % 2];
                relay.set(Weather { pieces, ..Weather::default() });
                let before = done.load(SeqCst);
                eventually("requests between two cuts", || (done.load(SeqCst) > before + 12).then_some(()));
                relay.cut();
            }
            stop.store(true, SeqCst);
        });
        let failed =
            || gateway.access_now().into_iter().filter(|record| record["method"] == "GET" && record["status"] != 204);
        assert!(lost.lock().unwrap().is_empty(), "{protocol}: {lost:?} {:?}", failed().collect::<Vec<_>>());
        let mut arrivals: HashMap<String, usize> = HashMap::new();
        // A head that was cut is a line without a method.
        let does_something = |line: &&str| line.starts_with("POST ") || line.starts_with("DELETE ");
        for line in nginx.log().lines().filter(does_something) {
            *arrivals.entry(line.rsplit_once(' ').unwrap().0.to_owned()).or_default() += 1;
        }
        let of = |method: &str| arrivals.keys().filter(|line| line.starts_with(method)).count();
        assert!(of("POST") > 10 && of("DELETE") > 10, "{protocol}: {arrivals:?}");
        assert!(arrivals.values().all(|count| *count == 1), "{protocol}: {arrivals:?}");
        assert!(relays.iter().all(|relay| relay.connections() > 10), "{protocol}");
    }
}

#[test]
fn an_answer_that_is_cut_on_its_way_is_seen_as_cut() {
    let chunked = Recorder::with(|_, stream| {
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_ok()
            && stream.write_all(chunk.repeat(16).as_bytes()).is_ok()
            && stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let (one, two) = (service("http1"), service("http2"));
    for nginx in [&one, &two] {
        nginx.file("large", &[b'x'; 64 * 1024]);
    }
    for (port, protocol) in [(chunked.port, "http1"), (one.port, "http1"), (two.port, "http2")] {
        let (world, relay) = (World::new(), Relay::to(port));
        let gateway = behind(&world, &[&relay], protocol, RETRIES);
        get("/files/large").send(&gateway).expect(200);
        relay.cut();
        relay.set(Weather { cut_after: Some(30_000), ..Weather::default() });

        let mut wire = gateway.connect();
        wire.send(get("/files/large").bytes());
        // What was cut early may be cut before its head, which is seen as well.
        if let Ok((status, headers)) = wire.head() {
            assert_eq!(status, 200);
            let rest = wire.rest();
            assert!(rest.len() < 40_000, "{protocol}: {}", rest.len());
            let is_chunked = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
            // The end of an answer in chunks is its last chunk; otherwise the length tells.
            assert!(!is_chunked || !rest.ends_with(b"0\r\n\r\n"), "{protocol}");
        }

        relay.cut();
        let mut client = h2::H2::over(gateway.connect());
        client.request(1, &h2::get("/files/large"));
        loop {
            let frame = client.next().unwrap();
            if frame.stream == 1 {
                assert!(frame.kind != h2::HEADERS || frame.flags & h2::END_STREAM == 0, "{protocol}: it seems whole");
                assert!(frame.kind != h2::DATA || frame.flags & h2::END_STREAM == 0, "{protocol}: it seems whole");
                if frame.kind == h2::RST_STREAM {
                    break;
                }
            }
        }
    }
}

#[test]
fn time_limits_hold_while_nothing_passes_and_the_service_is_used_again_afterwards() {
    for protocol in ["http1", "http2"] {
        let nginx = service(protocol);
        nginx.file("large", &[b'x'; 256 * 1024]);
        let (world, relay) = (World::new(), Relay::to(nginx.port));
        let gateway = behind(&world, &[&relay], protocol, ", timeouts: {response: 400ms, request: 2s}");
        get("/x").send(&gateway).expect(200);
        relay.set(Weather { lost: true, ..Weather::default() });
        assert_eq!(get("/lost").send(&gateway).problem(504), "gateway-timeout");
        assert_eq!(post("/lost", "x").send(&gateway).problem(504), "gateway-timeout");
        // Cut, since what was held back would come now.
        relay.cut();
        relay.set(Weather::default());
        eventually("the service to be used again", || (get("/x").send(&gateway).status == 200).then_some(()));

        // In the middle of an answer it is the request's whole time that ends it.
        let mut wire = gateway.connect();
        relay.set(Weather { delay: Duration::from_millis(100), pieces: 2000, ..Weather::default() });
        wire.send(get("/files/large").bytes());
        assert_eq!(wire.head().unwrap().0, 200);
        assert!(wire.rest().len() < 256 * 1024, "{protocol}");
        let deadline = || gateway.metric("stepgate_upstream_errors_total", &["kind=\"deadline\""]);
        assert!(deadline() > 0.0, "{protocol}");
        relay.cut();
        relay.set(Weather::default());
        eventually("the service to be used again", || (get("/x").send(&gateway).status == 200).then_some(()));
        assert_eq!(gateway.metric("stepgate_requests_in_flight", &[]), 0.0);
    }
}

#[test]
fn bytes_that_come_late_and_one_by_one_on_both_sides_change_nothing() {
    let upstream = Recorder::with(|request, stream| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Upstream: {}\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            request.target(),
            request.body.len().max(1),
            String::from_utf8_lossy(if request.body.is_empty() { b"-" } else { &request.body })
        );
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let world = World::with(upstream);
    let relay = Relay::to(world.upstream.port);
    let gateway = behind(&world, &[&relay], "http1", "");
    let before = Relay::to(gateway.port);
    let drizzle = Weather { delay: Duration::from_micros(50), pieces: 1, ..Weather::default() };
    relay.set(drizzle);
    before.set(drizzle);
    let mut wire = Wire::connect(before.port);
    let body: String = (0..2000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    for round in 0..3 {
        let answer = post(&format!("/post/{round}?x=%2F"), &body).send_on(&mut wire).expect(200);
        assert!(answer.text() == body && answer.header("x-upstream") == format!("/post/{round}?x=%2F"));
        assert_eq!(get("/get").send_on(&mut wire).expect(200).text(), "-");
    }
    let mut client = h2::H2::over(Wire::connect(before.port));
    for stream in [1, 3, 5] {
        client.request(stream, &h2::get("/h2"));
        assert_eq!(client.status(stream), h2::Ending::Status(200));
    }
    assert_eq!(world.upstream.count(), 9);
}

#[test]
fn clients_that_are_cut_off_leave_nothing_behind_and_half_a_request_reaches_nobody() {
    let world = World::new();
    let relay = Relay::to(world.upstream.port);
    let gateway = behind(&world, &[&relay], "http1", "");
    let before = Relay::to(gateway.port);
    // Whoever asks is one of them.
    let connections = || gateway.metric("stepgate_connections", &[]);
    let resting = connections();
    for round in 0..30 {
        let mut wire = Wire::connect(before.port);
        match round % 3 {
            0 => wire.send(format!(
                "POST /half-{round} HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: 5000\r\n\r\nabc"
            )),
            1 => wire.send(format!("GET /half-{round} HTTP/1.1\r\nHost: gateway.exam")),
            _ => wire.send(format!(
                "POST /half-{round} HTTP/1.1\r\nHost: gateway.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
            )),
        };
        eventually("the connection to be there", || (connections() > resting).then_some(()));
        before.cut();
    }
    eventually("nothing to be in flight", || (gateway.metric("stepgate_requests_in_flight", &[]) == 0.0).then_some(()));
    eventually("no connection to be left", || (connections() <= resting).then_some(()));
    // A whole request is recorded when its body has ended: none of these has one.
    assert!(world.upstream.requests().is_empty(), "{:?}", world.upstream.requests());
    get("/whole").send(&gateway).expect(200);
}
