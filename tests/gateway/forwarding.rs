//! What crosses the gateway and how: heads, bodies both ways, trailers, interim answers, people who leave, and what the
//! upstream is told of the client.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{
    Authority, Gateway, Recorder, Request, World, eventually, get, let_pass, post, remember_secret, tools::TlsUpstream,
};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

fn start(upstream: Recorder) -> (World, Gateway) {
    start_with(upstream, OPEN)
}

fn start_with(upstream: Recorder, yaml: &str) -> (World, Gateway) {
    let world = World::with(upstream);
    let gateway = world.start(yaml);
    (world, gateway)
}

/// Reads a head from a socket: everything up to the empty line.
fn read_head(stream: &mut TcpStream, kept: &Mutex<Vec<u8>>) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|read| read > 0) {
            return false;
        }
        head.push(byte[0]);
    }
    kept.lock().unwrap().extend(head);
    true
}

#[test]
fn a_request_arrives_with_its_method_target_headers_and_body() {
    let (world, gateway) = start(Recorder::new());
    let request =
        Request::new("PATCH", "/a/b%20c?x=1&y=%2F&z").header("X-Custom", "v1").header("X-Custom", "v2").body("hello");
    let answer = request.send(&gateway).expect(200);
    assert_eq!((answer.text().as_str(), answer.header("x-upstream")), ("ok", "recorder"));
    let seen = world.upstream.last();
    assert_eq!(seen.line(), "PATCH /a/b%20c?x=1&y=%2F&z HTTP/1.1");
    assert_eq!(seen.all("x-custom"), ["v1", "v2"]);
    assert_eq!(seen.header("host"), "gateway.example");
    assert_eq!(seen.body, b"hello");
}

#[test]
fn the_path_that_was_judged_is_the_path_that_is_forwarded() {
    let (world, gateway) = start(Recorder::new());
    for (sent, forwarded) in [
        ("/a%2db", "/a-b"),
        ("/%41", "/A"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/a;p=1", "/a;p=1"),
        ("/a/", "/a/"),
        ("/a+b", "/a+b"),
        ("/a%20", "/a%20"),
    ] {
        get(sent).send(&gateway).expect(200);
        assert_eq!(world.upstream.last().target(), forwarded, "{sent}: RFC 3986 section 6.2.2");
    }
}

#[test]
fn the_host_is_kept_or_replaced_as_configured() {
    let world = World::new();
    let gateway = world.start("upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], host: target}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n");
    get("/x").send(&gateway).expect(200);
    assert_eq!(world.upstream.last().header("host"), format!("127.0.0.1:{}", world.upstream.port));
}

#[test]
fn a_chunked_body_arrives_whole_with_its_trailers() {
    let (world, gateway) = start(Recorder::new());
    let mut wire = gateway.connect();
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    wire.send("5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Sum: 42\r\nAuthorization: Bearer evil\r\nX-Auth-Subject: evil\r\nContent-Length: 3\r\n\r\n");
    wire.answer().expect(200);
    let seen = world.upstream.last();
    assert_eq!(seen.body, b"hello world");
    assert!(
        !seen.trailers.contains("evil") && !seen.trailers.to_lowercase().contains("content-length"),
        "{}",
        seen.trailers
    );
    assert!(!seen.has("X-Sum"), "trailers never become headers");
}

#[test]
fn answers_keep_their_status_headers_and_trailers() {
    let answer = "HTTP/1.1 418 Teapot\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTrailer: X-Upstream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Upstream: late\r\n\r\n";
    let (_world, gateway) = start(Recorder::answering(answer));
    let answer = get("/x").header("TE", "trailers").send(&gateway).expect(418);
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.text(), "abc");
    assert_eq!(answer.trailers, [("x-upstream".to_owned(), "late".to_owned())]);
}

#[test]
fn hop_by_hop_fields_of_an_answer_stop_here() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nProxy-Connection: close\r\nContent-Length: 2\r\n\r\nok";
    let (_world, gateway) = start(Recorder::answering(answer));
    let answer = get("/x").send(&gateway).expect(200);
    for name in ["x-secret", "keep-alive", "proxy-authenticate", "upgrade", "proxy-connection"] {
        assert!(!answer.has(name), "{name}: {answer:?}");
    }
}

#[test]
fn an_answer_without_a_length_ends_with_the_upstreams_connection() {
    let recorder = Recorder::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").unwrap();
        false
    });
    let (_world, gateway) = start(recorder);
    assert_eq!(get("/x").send(&gateway).expect(200).text(), "until the end");
}

#[test]
fn a_head_request_has_the_length_and_no_body() {
    let (world, gateway) = start(Recorder::new());
    let mut wire = gateway.connect();
    for _ in 0..2 {
        let answer = Request::new("HEAD", "/x").send_on(&mut wire).expect(200);
        assert_eq!((answer.header("content-length"), answer.body.len()), ("2", 0));
    }
    get("/x").send_on(&mut wire).expect(200);
    assert_eq!(world.upstream.count(), 3);
}

#[test]
fn statuses_without_a_body_have_none() {
    for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
        let (_world, gateway) = start(Recorder::answering(&format!("HTTP/1.1 {line}\r\nETag: \"a\"\r\n\r\n")));
        let mut wire = gateway.connect();
        for _ in 0..2 {
            let answer = get("/x").send_on(&mut wire).expect(status);
            assert!(answer.body.is_empty());
        }
    }
}

// -- streams

#[test]
fn an_answer_is_passed_on_as_it_comes() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let recorder = Recorder::with(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").is_ok()
    });
    let (_world, gateway) = start(recorder);
    let mut wire = gateway.connect();
    wire.send(get("/x").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    assert_eq!(wire.chunk().unwrap(), b"first", "before the upstream says the rest");
    go.send(()).unwrap();
    assert_eq!(wire.chunk().unwrap(), b"second");
}

#[test]
fn a_request_body_is_passed_on_as_it_comes() {
    let (world, gateway) = start(Recorder::new());
    let mut wire = gateway.connect();
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nfirst");
    eventually("the first half", || world.upstream.bytes().ends_with(b"first").then_some(()));
    wire.send("second");
    wire.answer().expect(200);
    assert_eq!(world.upstream.last().body, b"firstsecond");
}

/// Resident memory of a process in KiB, where the system tells.
fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

#[test]
fn an_upstream_that_reads_nothing_holds_the_client_back() {
    let (done, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let recorder = Recorder::raw(move |mut stream, kept| {
        read_head(&mut stream, &kept);
        let _ = wait.lock().unwrap().recv();
    });
    let (_world, gateway) =
        start_with(recorder, &format!("server: {{workers: 1, limits: {{body_bytes: 1GiB}}}}\n{OPEN}"));
    let before = resident_kib(gateway.pid());
    let mut wire = gateway.connect();
    wire.socket().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 500000000\r\n\r\n");
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    while sent < 100 && wire.try_send(&chunk).is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "{sent} MiB were taken though nobody reads them");
    if let (Some(before), Some(after)) = (before, resident_kib(gateway.pid())) {
        assert!(after < before + 8 * 1024, "{before} KiB before, {after} after");
    }
    let _ = done.send(());
}

#[test]
fn a_client_that_reads_nothing_holds_the_upstream_back() {
    let written = Arc::new(Mutex::new(0_u64));
    let counter = Arc::clone(&written);
    let recorder = Recorder::with(move |_, stream| {
        stream.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n").unwrap();
        let chunk = vec![7; 1 << 16];
        while *counter.lock().unwrap() < 100 << 20 && stream.write_all(&chunk).is_ok() {
            *counter.lock().unwrap() += 1 << 16;
        }
        false
    });
    let (_world, gateway) = start(recorder);
    let before = resident_kib(gateway.pid());
    let mut wire = gateway.connect();
    wire.send(get("/x").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    let mut last = 0;
    eventually("the upstream to be held back", || {
        let_pass(Duration::from_millis(300));
        let now = *written.lock().unwrap();
        (std::mem::replace(&mut last, now) == now && now > 0).then_some(())
    });
    assert!(last < 64 << 20, "{last} bytes were taken though nobody reads them");
    if let (Some(before), Some(after)) = (before, resident_kib(gateway.pid())) {
        assert!(after < before + 8 * 1024, "{before} KiB before, {after} after");
    }
}

#[test]
fn a_large_body_makes_the_round_trip() {
    let recorder = Recorder::with(|request, stream| {
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).as_bytes())
            .unwrap();
        stream.write_all(&request.body).is_ok()
    });
    let (_world, gateway) = start(recorder);
    let body: String = (0..8_000_000_u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let answer = post("/x", &body).send(&gateway).expect(200);
    assert!(answer.text() == body);
}

#[test]
fn an_early_answer_is_passed_on_while_the_client_still_sends() {
    let recorder = Recorder::raw(|mut stream, kept| {
        read_head(&mut stream, &kept);
        stream.write_all(b"HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly").unwrap();
        let mut rest = [0; 4096];
        while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
    });
    let (_world, gateway) = start(recorder);
    let mut wire = gateway.connect();
    wire.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nonly this much");
    assert_eq!(wire.answer().expect(409).text(), "early");
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_only_when_the_request_may_pass() {
    let world = World::new();
    let gateway = world.start(
        "routes:\n  - {path: /open, upstream: api, auth: none}\n  - {path: /closed, upstream: api, auth: [main]}\n",
    );
    let mut wire = gateway.connect();
    wire.send("POST /open HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(wire.head().unwrap().0, 100);
    wire.send("hello");
    wire.answer().expect(200);
    assert_eq!(world.upstream.last().body, b"hello");
    let mut wire = gateway.connect();
    wire.send("POST /closed HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let refused = wire.answer();
    assert!(refused.interim.is_empty(), "RFC 9110 section 10.1.1");
    refused.problem(401);
}

#[test]
fn a_client_that_leaves_takes_its_upstream_request_along() {
    let (told, gone) = mpsc::channel();
    let told = Mutex::new(told);
    let recorder = Recorder::raw(move |mut stream, kept| {
        read_head(&mut stream, &kept);
        // The end of the gateway's connection: it dropped the request.
        let end = stream.read(&mut [0; 16]).unwrap_or(0);
        let _ = told.lock().unwrap().send(end);
    });
    let (world, gateway) = start(recorder);
    let mut wire = gateway.connect();
    wire.send(get("/x").bytes());
    eventually("the request", || (!world.upstream.bytes().is_empty()).then_some(()));
    drop(wire);
    assert_eq!(gone.recv_timeout(Duration::from_secs(10)), Ok(0));
    let record = gateway.access(|record| record.to_string().contains("client_gone"));
    assert!(record.is_object());
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let (_world, gateway) = start(Recorder::new());
    let mut wire = gateway.connect();
    wire.send(get("/x").bytes());
    wire.finish_sending();
    wire.answer().expect(200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let recorder = Recorder::with(|request, stream| {
        let target = request.target().to_owned();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()).is_ok()
    });
    let (_world, gateway) = start(recorder);
    let mut wire = gateway.connect();
    let all: Vec<u8> = (0..10).flat_map(|n| get(&format!("/{n}")).bytes()).collect();
    wire.send(all);
    for n in 0..10 {
        assert_eq!(wire.answer().expect(200).text(), format!("/{n}"));
    }
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let (world, gateway) = start(Recorder::new());
    let mut wire = gateway.connect();
    wire.send("GET /x HTTP/1.0\r\nHost: h\r\n\r\n");
    let answer = wire.answer().expect(200);
    assert_eq!(answer.text(), "ok");
    assert!(wire.is_closed());
    assert_eq!(world.upstream.last().line(), "GET /x HTTP/1.1");
}

// -- an upstream's bad days

fn upstream_fault(recorder: Recorder, status: u16) -> Gateway {
    let (world, gateway) = start_with(
        recorder,
        "upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], timeouts: {connect: 1s, response: 1s}}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n",
    );
    let start = Instant::now();
    get("/x").send(&gateway).problem(status);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(gateway.metric("stepgate_upstream_errors_total", &["upstream=\"api\""]) >= 1.0);
    drop(world);
    gateway
}

#[test]
fn an_upstream_that_is_down_is_502() {
    let world = World::new();
    let gateway = world.start(
        "upstreams:\n  api: {targets: [http://127.0.0.1:1]}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n",
    );
    assert_eq!(get("/x").send(&gateway).problem(502), "bad-gateway");
    assert!(gateway.metric("stepgate_upstream_errors_total", &[]) >= 1.0);
}

#[test]
fn an_upstream_that_never_answers_is_504() {
    let recorder = Recorder::raw(|mut stream, kept| while read_head(&mut stream, &kept) {});
    upstream_fault(recorder, 504);
}

#[test]
fn an_upstream_that_hangs_up_is_502() {
    upstream_fault(Recorder::with(|_, stream| stream.shutdown(Shutdown::Both).is_err()), 502);
}

#[test]
fn an_upstream_that_talks_nonsense_is_502() {
    for nonsense in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 999999 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        upstream_fault(Recorder::answering(&format!("{nonsense}\r\n\r\n")), 502);
    }
}

#[test]
fn an_upstream_that_switches_protocols_unasked_is_502() {
    upstream_fault(
        Recorder::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        502,
    );
}

#[test]
fn an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    let recorder = Recorder::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
        false
    });
    let (_world, gateway) = start(recorder);
    let mut wire = gateway.connect();
    wire.send(get("/x").bytes());
    assert!(wire.try_answer(false).is_err());
}

#[test]
fn an_upstream_that_closes_idle_connections_loses_no_request_that_may_be_sent_twice() {
    let recorder = Recorder::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        false // closes without having said so
    });
    let (_world, gateway) = start(recorder);
    let mut wire = gateway.connect();
    for _ in 0..30 {
        get("/x").send_on(&mut wire).expect(200);
        // Written just as the upstream closed, a POST may have been carried out: it is not sent twice (RFC 9110 §9.2.2).
        let status = post("/x", "body").send_on(&mut wire).status;
        assert!(matches!(status, 200 | 502), "{status}");
    }
}

#[test]
fn requests_are_spread_over_the_targets_that_are_up() {
    let (one, two) = (Recorder::new(), Recorder::new());
    let world = World::new();
    let gateway = world.start(&format!(
        "upstreams:\n  api: {{targets: [http://127.0.0.1:{}, http://127.0.0.1:{}, http://127.0.0.1:1]}}\nroutes:\n  - {{path: /**, upstream: api, auth: none}}\n",
        one.port, two.port
    ));
    for _ in 0..20 {
        get("/x").send(&gateway).expect(200);
    }
    assert!(one.count() >= 5 && two.count() >= 5, "{} {}", one.count(), two.count());
    assert_eq!(one.count() + two.count(), 20);
}

// -- what the upstream is told

#[test]
fn hop_by_hop_fields_of_a_request_stop_here() {
    let (world, gateway) = start(Recorder::new());
    let request = get("/x")
        .header("Connection", "X-One, keep-alive")
        .header("connection", "x-two")
        .header("X-One", "1")
        .header("X-Two", "2");
    let request = request
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "Basic eDp5")
        .header("TE", "gzip")
        .header("X-Three", "3");
    request.send(&gateway).expect(200);
    let seen = world.upstream.last();
    for name in ["X-One", "X-Two", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE"] {
        assert!(!seen.has(name), "{name}:\n{}", seen.head);
    }
    assert_eq!(seen.header("x-three"), "3");
}

#[test]
fn every_request_has_an_id_that_all_parties_see() {
    let (world, gateway) = start(Recorder::new());
    let answer = get("/x").header("X-Request-Id", "from-the-client").send(&gateway).expect(200);
    let id = answer.header("x-request-id").to_owned();
    assert_ne!(id, "from-the-client", "an untrusted client does not name our log lines");
    assert_eq!(world.upstream.last().header("x-request-id"), id);
    assert!(gateway.access(|record| record.to_string().contains(&id)).is_object());
    assert_ne!(get("/x").send(&gateway).header("x-request-id"), id);
}

#[test]
fn a_trace_is_continued_or_begun() {
    let (world, gateway) = start(Recorder::new());
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    get("/x").header("traceparent", sent).header("tracestate", "a=1").send(&gateway).expect(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("traceparent").split('-').nth(1), sent.split('-').nth(1));
    assert_eq!(seen.header("tracestate"), "a=1");
    for bad in [
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "nonsense",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        get("/x").header("traceparent", bad).header("tracestate", "a=1").send(&gateway).expect(200);
        let seen = world.upstream.last();
        let parts: Vec<&str> = seen.header("traceparent").split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{bad}");
        assert!(!seen.has("tracestate"), "W3C Trace Context section 3.3");
    }
}

#[test]
fn without_trusted_proxies_the_peer_is_the_client() {
    let (world, gateway) = start(Recorder::new());
    let request = get("/x")
        .from("127.0.0.7")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("Forwarded", "for=6.6.6.6")
        .header("X-Forwarded-Host", "evil.example")
        .header("X-Forwarded-Proto", "https");
    request.send(&gateway).expect(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.7");
    assert_eq!(seen.header("x-forwarded-proto"), "http");
    assert!(seen.header("forwarded").contains("for=127.0.0.7"), "{}", seen.head);
    assert!(!seen.head.contains("6.6.6.6") && !seen.head.contains("evil.example"), "{}", seen.head);
    let record = gateway.access(|record| record.to_string().contains("127.0.0.7"));
    assert!(!record.to_string().contains("6.6.6.6"));
}

#[test]
fn a_trusted_proxy_is_believed_from_the_right() {
    let (world, gateway) = start_with(
        Recorder::new(),
        &format!("server: {{workers: 1, trusted_proxies: [127.0.0.1/32, 10.0.0.0/8]}}\n{OPEN}"),
    );
    for (sent, client) in [
        ("198.51.100.1", "198.51.100.1"),
        ("6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("6.6.6.6, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("198.51.100.1, garbage", "127.0.0.1"),
        ("10.1.2.3", "127.0.0.1"),
    ] {
        get("/x").header("X-Forwarded-For", sent).header("Forwarded", "for=9.9.9.9").send(&gateway).expect(200);
        let seen = world.upstream.last();
        assert_eq!(seen.header("x-forwarded-for").split(", ").next(), Some(client), "{sent}: {}", seen.head);
        assert!(!seen.head.contains("9.9.9.9") && !seen.head.contains("6.6.6.6"), "{}", seen.head);
    }
    // A peer that is no proxy says nothing.
    get("/x").from("127.0.0.2").header("X-Forwarded-For", "198.51.100.1").send(&gateway).expect(200);
    assert_eq!(world.upstream.last().header("x-forwarded-for"), "127.0.0.2");
}

#[test]
fn quotas_go_by_the_client_that_a_trusted_proxy_names() {
    let world = World::new();
    let gateway = world.start("server: {workers: 1, trusted_proxies: [127.0.0.1]}\nlimits:\n  q: {key: ip, rate: 1/minute}\nroutes:\n  - {path: /**, upstream: api, auth: none, limits: [q]}\n");
    let from = |client: &str| get("/x").header("X-Forwarded-For", client).send(&gateway).status;
    assert_eq!([from("198.51.100.1"), from("198.51.100.2"), from("198.51.100.1")], [200, 200, 429]);
    assert_eq!([from("2001:db8::1"), from("2001:db8::2"), from("2001:db8:0:1::1")], [200, 429, 200], "IPv6 by /64");
}

#[test]
fn identity_headers_are_the_gateways_alone() {
    let (world, gateway) = start_with(
        Recorder::new(),
        "upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], identity_headers: true}\nroutes:\n  - {path: /open, upstream: api, auth: none}\n  - {path: /x, upstream: api, auth: [main]}\n",
    );
    let spoof = |request: Request| {
        request
            .header("X-Auth-Subject", "admin")
            .header("x_auth_subject", "admin")
            .header("X-Auth-Anything", "admin")
            .header("Connection", "X-Auth-Subject, X-Auth-Scopes")
    };
    spoof(get("/open")).send(&gateway).expect(200);
    assert!(!world.upstream.last().head.contains("admin") && !world.upstream.last().has("X-Auth-Subject"));
    spoof(get("/x").bearer(&world.token(json!({"sub": "ali\u{e9}e\u{1}b", "scope": "a b"}))))
        .send(&gateway)
        .expect(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-auth-subject"), "ali%C3%A9e%01b", "control and non-ASCII characters are percent-encoded");
    assert_eq!(seen.header("x-auth-scopes"), "a b");
    assert!(!seen.head.contains("admin"));
}

#[test]
fn the_token_goes_on_only_where_that_is_configured() {
    let world = World::new();
    let gateway = world.start(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>]}
  trusting: {targets: [http://127.0.0.1:<upstream>], forward_authorization: true}
routes:
  - {path: /x, upstream: api, auth: [main]}
  - {path: /y, upstream: trusting, auth: [main]}
  - {path: /open, upstream: api, auth: none}
",
    );
    let token = world.token(json!({}));
    get("/x").bearer(&token).send(&gateway).expect(200);
    assert!(!world.upstream.last().has("authorization"));
    get("/open").bearer(&token).send(&gateway).expect(200);
    assert!(!world.upstream.last().has("authorization"), "{}", world.upstream.last().head);
    get("/y").bearer(&token).send(&gateway).expect(200);
    assert_eq!(world.upstream.last().header("authorization"), format!("Bearer {token}"));
}

#[test]
fn the_upstreams_own_credential_is_put_in_the_tokens_place() {
    let world = World::new();
    world.write("password", "pass:word-of-the-upstream\n");
    remember_secret("pass:word-of-the-upstream");
    world.write("key", "the-key-of-the-upstream");
    remember_secret("the-key-of-the-upstream");
    let gateway = world.start(
        "upstreams:
  basic: {targets: [http://127.0.0.1:<upstream>], credential: {basic: {username: gateway, password: {file: password}}}}
  header: {targets: [http://127.0.0.1:<upstream>], credential: {header: {name: X-Api-Key, value: {file: key}}}}
routes:
  - {path: /basic, upstream: basic, auth: [main]}
  - {path: /header, upstream: header, auth: [main]}
",
    );
    get("/basic").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    assert_eq!(world.upstream.last().header("authorization"), "Basic Z2F0ZXdheTpwYXNzOndvcmQtb2YtdGhlLXVwc3RyZWFt");
    get("/header")
        .bearer(&world.token(json!({})))
        .header("X-Api-Key", "the client's")
        .header("x_api_key", "the client's")
        .send(&gateway)
        .expect(200);
    let seen = world.upstream.last();
    assert_eq!(seen.header("x-api-key"), "the-key-of-the-upstream");
    assert!(!seen.head.contains("the client's") && !seen.has("authorization"), "{}", seen.head);
}

#[test]
fn an_https_upstream_is_verified() {
    let world = World::new();
    let authority = Authority::new("upstreams");
    world.write("ca.pem", &authority.pem);
    let upstream = TlsUpstream::start(&authority, "localhost");
    let stranger = TlsUpstream::start(&Authority::new("strangers"), "localhost");
    let other_name = TlsUpstream::start(&authority, "other.example");
    let gateway = world.start(&format!(
        "upstreams:
  good: {{targets: [https://localhost:{}], ca: ca.pem}}
  stranger: {{targets: [https://localhost:{}], ca: ca.pem}}
  other: {{targets: [https://localhost:{}], ca: ca.pem}}
routes:
  - {{path: /good, upstream: good, auth: none}}
  - {{path: /stranger, upstream: stranger, auth: none}}
  - {{path: /other, upstream: other, auth: none}}
",
        upstream.port, stranger.port, other_name.port
    ));
    assert_eq!(get("/good").send(&gateway).expect(200).text(), "over TLS");
    get("/stranger").send(&gateway).problem(502);
    get("/other").send(&gateway).problem(502);
}

// -- access records

#[test]
fn each_request_leaves_one_access_record_without_its_query() {
    let (_world, gateway) = start(Recorder::new());
    let answer = get("/some/path?secret=do-not-log-me").send(&gateway).expect(200);
    remember_secret("do-not-log-me");
    let id = answer.header("x-request-id");
    let record = gateway.access(|record| record.to_string().contains(id));
    let text = record.to_string();
    for part in ["GET", "/some/path", "200", "allowed", "127.0.0.1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(gateway.access_now().iter().filter(|record| record.to_string().contains(id)).count(), 1);
}

#[test]
fn an_access_log_that_nobody_reads_blocks_no_traffic() {
    if !std::path::Path::new("/dev/full").exists() {
        return; // Linux has a device that is always full; elsewhere there is nothing to fill without harm.
    }
    let (_world, gateway) = start_with(Recorder::new(), &format!("access_log: {{file: /dev/full}}\n{OPEN}"));
    let mut wire = gateway.connect();
    for _ in 0..200 {
        get("/x").send_on(&mut wire).expect(200);
    }
}
