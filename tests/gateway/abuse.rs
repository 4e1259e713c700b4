//! Clients that mean harm: while they do it others are served, and what the process holds in memory stays within a bound.
//! Some are ours, some are Python's h2 in hands that mean harm (tests/abuse), some are Debian's slowhttptest.
//! STEPGATE_ABUSE_TIMES makes each attack as many times as long; one is what CI has time for.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::harness::{Gateway, Process, Recorder, Wire, World, eventually, get, h2, run, tools::Nginx, websocket};

/// What an attack may add for each worker: far below what any of them would hold if nothing bounded it.
const GROWTH_KIB: u64 = 96 * 1024;

const PRIORITY: u8 = 2;

fn times() -> usize {
    std::env::var("STEPGATE_ABUSE_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn resident_kib(pid: u32) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

struct Scene {
    _world: World,
    gateway: Gateway,
    before: u64,
    workers: u64,
}

impl Scene {
    fn new() -> Self {
        Self::with(Recorder::new())
    }

    fn with(upstream: Recorder) -> Self {
        Self::bounded(upstream, "")
    }

    /// With further limits.
    fn bounded(upstream: Recorder, limits: &str) -> Self {
        Self::by(
            World::with(upstream),
            &format!(
                "server: {{workers: 1, limits: {{connections: 3000, connections_per_ip: 2000{limits}}}}}\nroutes:\n  - {{path: /**, upstream: api, auth: none}}\n"
            ),
        )
    }

    fn by(world: World, says: &str) -> Self {
        let gateway = world.start(says);
        for _ in 0..50 {
            get("/warm").send(&gateway).expect(200);
        }
        let before = resident_kib(gateway.pid());
        let workers = if says.contains("workers: 2") { 2 } else { 1 };
        Self { _world: world, gateway, before, workers }
    }

    /// Others are served, and memory is within its bound.
    fn holds(&self) {
        get("/other").from("127.0.0.9").send(&self.gateway).expect(200);
        let now = resident_kib(self.gateway.pid());
        assert!(now <= self.before + GROWTH_KIB * self.workers, "{} KiB grew to {now} KiB", self.before);
    }

    fn h2(&self) -> h2::H2 {
        h2::H2::over(self.gateway.connect())
    }

    /// Sends what `frames` gives on several connections, in turn, for as long as they are open; then looks.
    fn flood(&self, connections: usize, rounds: usize, mut frames: impl FnMut(usize) -> Vec<u8>) {
        for _ in 0..times() {
            let mut open: Vec<_> = (0..connections).map(|_| self.h2()).collect();
            for round in 0..rounds {
                let bytes = frames(round);
                // A connection that was closed has been dealt with.
                open.retain_mut(|client| {
                    client.wire.socket().set_nonblocking(true).unwrap();
                    let _ = client.wire.try_send(&bytes);
                    let alive = !matches!(client.wire.read(&mut [0; 65_536]), Ok(0));
                    client.wire.socket().set_nonblocking(false).unwrap();
                    alive
                });
                if round % 16 == 0 {
                    self.holds();
                }
            }
            self.holds();
        }
    }
}

fn stream_of(round: usize, place: usize, each: usize) -> u32 {
    u32::try_from(2 * (round * each + place) + 1).unwrap()
}

#[test]
fn streams_that_are_opened_to_be_reset_hold_nothing() {
    Scene::new().flood(20, 60, |round| {
        (0..100)
            .flat_map(|place| {
                let stream = stream_of(round, place, 100);
                let head =
                    h2::encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, &h2::block(&h2::get("/x")));
                [head, h2::encode_frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            })
            .collect()
    });
}

#[test]
fn header_blocks_without_end_hold_nothing() {
    let piece = h2::encode_frame(h2::CONTINUATION, 0, 1, &[b'x'; 16_000]);
    Scene::new().flood(50, 100, |round| match round {
        0 => h2::encode_frame(h2::HEADERS, 0, 1, &h2::block(&[("a", "b")])),
        _ => piece.clone(),
    });
}

#[test]
fn floods_of_settings_pings_priorities_and_empty_data_hold_nothing() {
    for frame in [
        h2::encode_frame(h2::SETTINGS, 0, 0, &[]),
        h2::encode_frame(h2::PING, 0, 0, &[7; 8]),
        h2::encode_frame(PRIORITY, 0, 5, &[0, 0, 0, 3, 9]),
        h2::encode_frame(h2::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        h2::encode_frame(h2::SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]),
        h2::encode_frame(h2::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]),
    ] {
        let many = frame.repeat(500);
        Scene::new().flood(10, 40, |_| many.clone());
    }
    let empty = h2::encode_frame(h2::DATA, 0, 1, &[]).repeat(500);
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "gateway.example")];
    let head = h2::encode_frame(h2::HEADERS, h2::END_HEADERS, 1, &h2::block(&fields));
    Scene::new().flood(10, 40, |round| if round == 0 { head.clone() } else { empty.clone() });
}

/// RFC 7541 §7.3: one field of four kilobytes in the table, and then a byte for each time that it is meant.
#[test]
fn a_header_block_that_unpacks_to_megabytes_is_refused_and_holds_nothing() {
    let scene = Scene::new();
    let mut block = h2::block(&h2::get("/x"));
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'a'; 0x7f + 0x21 + (0x1e << 7)]);
    block.extend(vec![0xbe; 11_000]);
    let bomb = h2::encode_frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &block);
    for _ in 0..20 * times() {
        let mut client = scene.h2();
        client.wire.send(&bomb);
        assert!(client.status(1).is_refusal());
    }
    scene.holds();
}

#[test]
fn many_different_field_names_are_refused_and_hold_nothing() {
    let scene = Scene::new();
    for turn in 0..50 * times() {
        let fields: String = (0..150).map(|n| format!("x-{turn}-{n}: y\r\n")).collect();
        let mut wire = scene.gateway.connect();
        wire.send(format!("GET /x HTTP/1.1\r\nHost: gateway.example\r\n{fields}{fields}\r\n"));
        assert_eq!(wire.answer().status, 431);
    }
    scene.holds();
}

/// Answers that wait for a window of nothing, or of one byte, on every stream of many connections: each may be held up to a bound.
#[test]
fn answers_for_windows_of_no_byte_or_of_one_are_held_within_a_bound() {
    for window in [0_u8, 1] {
        let scene = Scene::with(Recorder::with(|request, stream| {
            let length = if request.target() == "/large" { 1 << 20 } else { 2 };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&vec![b'x'; length]).is_ok()
        }));
        let mut open = Vec::new();
        for _ in 0..4 {
            let mut client = scene.h2();
            client.frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, window]);
            for place in 0..100 {
                client.request(stream_of(0, place, 100), &h2::get("/large"));
            }
            open.push(client);
        }
        for client in &mut open {
            // Until the first answers are there: others are served in between.
            client.status(1);
            scene.holds();
        }
        for _ in 0..50 * times() {
            for client in &mut open {
                for place in 0..100 {
                    let increment =
                        h2::encode_frame(h2::WINDOW_UPDATE, 0, stream_of(0, place, 100), &1_u32.to_be_bytes());
                    let _ = client.wire.try_send(&increment);
                }
            }
        }
        scene.holds();
    }
}

/// The same where the service speaks HTTP/2, which would send as much as it is let.
#[test]
fn answers_by_http2_for_windows_of_no_byte_are_held_within_a_bound() {
    for workers in [1, 2] {
        let nginx = Nginx::serving(
            "server { listen 127.0.0.1:<port> http2; keepalive_requests 100000; location / { root <folder>/files; } }",
            &[("warm", "ok"), ("other", "ok")],
        );
        nginx.file("large", &[b'x'; 1 << 20]);
        nginx.file("warm", b"ok");
        nginx.file("other", b"ok");
        let scene = Scene::by(
            World::new(),
            &format!(
                "server: {{workers: {workers}, limits: {{connections: 3000, connections_per_ip: 2000}}}}
upstreams:
  api: {{targets: [http://127.0.0.1:{}], protocol: http2}}
routes:
  - {{path: /**, upstream: api, auth: none}}
",
                nginx.port
            ),
        );
        let mut open = Vec::new();
        for _ in 0..4 * workers {
            let mut client = scene.h2();
            client.frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
            for place in 0..100 {
                client.request(stream_of(0, place, 100), &h2::get("/large"));
            }
            open.push(client);
        }
        for client in &mut open {
            // Until every answer is there, as far as it may come.
            for _ in 0..100 {
                while client.next().unwrap().kind != h2::HEADERS {}
            }
            scene.holds();
        }
    }
}

#[test]
fn a_thousand_connections_that_say_nothing_half_a_head_or_half_a_body_keep_nobody_out() {
    let scene = Scene::new();
    let says: [&[u8]; 4] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: gateway.exam",
        b"POST /x HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: 100000\r\n\r\nab",
        b"GET /warm HTTP/1.1\r\nHost: gateway.example\r\n\r\n",
    ];
    let mut open: Vec<TcpStream> = Vec::new();
    for number in 0..1200 {
        let mut stream = TcpStream::connect(("127.0.0.1", scene.gateway.port)).unwrap();
        let _ = stream.write_all(says[number % says.len()]);
        open.push(stream);
        if number % 200 == 0 {
            scene.holds();
        }
    }
    for _ in 0..5 {
        for stream in &mut open {
            let _ = stream.write_all(b"x");
        }
        scene.holds();
    }
    drop(open);
    eventually("the connections to be over", || {
        (scene.gateway.metric("stepgate_connections", &[]) < 20.0).then_some(())
    });
    scene.holds();
}

/// TLS that begins and does not go on, and what is no TLS at all.
#[test]
fn handshakes_that_never_end_keep_nobody_out() {
    let world = World::new();
    let authority = crate::harness::Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let gateway = world.start("server: {workers: 1}\nlisteners:\n  - address: 127.0.0.1:<tls>\n    tls: {certificates: [{cert: one.pem, key: one.key}]}\n  - {address: 127.0.0.1:<port>, cleartext: true}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n");
    let before = resident_kib(gateway.pid());
    // A ClientHello's record that promises more than comes.
    let starts: [&[u8]; 3] = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x01", b""];
    let open: Vec<_> = (0..600)
        .map(|number: usize| {
            let mut stream = TcpStream::connect(("127.0.0.1", gateway.tls)).unwrap();
            let _ = stream.write_all(starts[number % starts.len()]);
            stream
        })
        .collect();
    let config = authority.client(&["http/1.1"]);
    let mut wire = crate::harness::Wire::tls(gateway.tls, "one.example", &config).unwrap();
    get("/x").send_on(&mut wire).expect(200);
    let now = resident_kib(gateway.pid());
    assert!(now <= before + GROWTH_KIB, "{before} KiB grew to {now} KiB");
    drop(open);
}

/// Answers `/large` with a mebibyte, `/never` not at all, and all else at once.
fn slow_and_large() -> Recorder {
    Recorder::with(|request, stream| {
        if request.target() == "/never" {
            // Until the gateway gives it up.
            let _ = stream.read(&mut [0; 1]);
            return false;
        }
        let length = if request.target() == "/large" { 1 << 20 } else { 2 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let body = if request.line().starts_with("HEAD ") { 0 } else { length };
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&vec![b'x'; body]).is_ok()
    })
}

/// Has Python's h2 do one thing `most` times, or until its connection is ended, and gives what it says became of it.
fn attack(scene: &Scene, name: &str, most: usize) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abuse");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "Python's h2 is not installed: run `./test setup`");
    let mut command = Command::new(python);
    command.arg(folder.join("client.py")).args(["127.0.0.1", &scene.gateway.port.to_string(), name]);
    let finished = run(command.arg(most.to_string()), "");
    assert_eq!(finished.code, 0, "{name}: {finished:?}");
    scene.holds();
    serde_json::from_str(finished.stdout.trim()).unwrap_or_else(|error| panic!("{name}: {error}: {finished:?}"))
}

#[test]
fn pythons_h2_floods_until_its_connection_is_ended() {
    let scene = Scene::with(slow_and_large());
    for (name, most) in [
        ("rapid_reset", 5000),
        ("reset_after_trailers", 20_000),
        ("continuations", 50_000),
        ("empty_continuations", 2000),
        ("settings", 2000),
        ("pings", 2000),
        ("answers_to_no_ping", 2000),
        ("priorities", 2000),
        ("unknown_frames", 2000),
        ("empty_data", 2000),
        ("no_increment", 5000),
        ("too_much_window", 5000),
        ("data_after_the_end", 5000),
    ] {
        for _ in 0..times() {
            let said = attack(&scene, name, most);
            assert!(!said["ended"].is_null() && said["times"].as_u64() < Some(most as u64), "{name}: {said}");
        }
    }
    // No stranger writes the operator's log.
    let events = scene.gateway.stderr();
    assert!(events.lines().count() < 20, "{}", events.lines().take(30).collect::<Vec<_>>().join("\n"));
}

#[test]
fn pythons_h2_gets_nowhere_by_what_is_no_flood() {
    let scene = Scene::bounded(slow_and_large(), ", body_idle_timeout: 2s");
    for _ in 0..times() {
        let said = attack(&scene, "shut_windows", 100);
        assert_eq!(said["statuses"]["200"], 100, "{said}");
        let reset: u64 = said["resets"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert!(reset == 100 || !said["ended"].is_null(), "{said}");
        let said = attack(&scene, "crumbs", 20);
        assert!(said["statuses"]["200"].is_null(), "{said}");
        attack(&scene, "padding", 500);
        attack(&scene, "own_dependency", 200);
    }
}

/// Heads, bodies and answers that come, or are taken, a few bytes at a time; ranges without number.
#[test]
fn slowhttptest_keeps_nobody_out_and_all_its_connections_are_ended() {
    let scene = Scene::bounded(
        slow_and_large(),
        ", header_timeout: 2s, body_idle_timeout: 2s, write_stall_timeout: 2s, refused_body_timeout: 2s, keepalive_idle: 2s",
    );
    let listener = format!(r#"listener="127.0.0.1:{}""#, scene.gateway.port);
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", scene.gateway.port);
    for (mode, path, connections) in [
        (&["-H", "-i", "1", "-x", "24", "-t", "GET"][..], "/x", "400"),
        (&["-B", "-i", "5", "-s", "8192", "-x", "10", "-t", "POST"], "/x", "400"),
        (&["-R", "-a", "1", "-b", "3000"], "/large", "200"),
        // Each holds a third of a mebibyte of its answer, as long as it is let.
        (&["-X", "-n", "5", "-z", "32", "-w", "256", "-y", "512", "-k", "3"], "/large", "150"),
    ] {
        // Far longer than the bounds, so that it is they that end it, however busy the machine.
        let length = (120 * times()).to_string();
        let mut command = Command::new("slowhttptest");
        command.args(mode).args(["-c", connections, "-r", "150", "-p", "10", "-l", &length, "-u", &url(path)]);
        // The admin's listener counts its own.
        let accepted = || scene.gateway.metric("stepgate_connections_total", &[&listener]);
        let (before, connections): (f64, f64) = (accepted(), connections.parse().unwrap());
        let mut process = Process::spawn(&mut command);
        let mut others = 0.0;
        let ended = loop {
            scene.holds();
            others += 1.0;
            if process.exit_code().is_some() {
                break false;
            }
            let open = scene.gateway.metric("stepgate_connections", &[&listener]);
            if open < 10.0 && accepted() - before - others >= connections {
                break true;
            }
        };
        // If it has ended by itself, what it said last may still be on its way.
        process.kill();
        let came = accepted() - before - others;
        let said = process.stdout.lock().unwrap().clone();
        let last = |what: &str| said.lines().rev().find(|line| line.contains(what)).unwrap_or_default().to_owned();
        assert!(came >= connections, "{mode:?}: {came} connections: {said}");
        // Who reads nothing does not see that it was ended, and says nothing before its time is over.
        if !ended {
            assert!(last("service available").contains("YES"), "{mode:?}: {said}");
            assert!(last("Exit status").contains("No open connections left"), "{mode:?}: {said}");
        }
    }
}

/// Each stream that lasts takes two open files, one of them out of those that clients do not have: where there are few, there are few
/// such streams, and everybody else is served.
#[test]
fn streams_that_last_leave_open_files_to_the_others() {
    let world = World::with(websocket::service());
    world.configure("server: {workers: 1}\nroutes:\n  - {path: /ws, upstream: api, auth: none, upgrade: [websocket]}\n  - {path: /**, upstream: api, auth: none}\n");
    let gateway = world.start_in("ulimit -n 512").ready();
    let mut open = Vec::new();
    for client in 2..8 {
        loop {
            let mut wire = Wire::connect_from(Ipv4Addr::new(127, 0, 0, client).into(), gateway.port);
            wire.send(websocket::handshake("/ws", ""));
            let (status, _) = wire.head().unwrap_or_else(|error| panic!("{client} after {}: {error}", open.len()));
            if status != 101 {
                assert_eq!(status, 503);
                break;
            }
            open.push(wire);
        }
    }
    // 384 connections of clients; of the 128 others 64 are kept, and half of what is left is for streams.
    assert!((16..=32).contains(&open.len()), "{} streams", open.len());
    for _ in 0..20 {
        get("/other").from("127.0.0.9").send(&gateway).expect(200);
    }
    drop(open);
    eventually("room again", || {
        let mut wire = gateway.connect();
        wire.send(websocket::handshake("/ws", ""));
        wire.head().ok().filter(|(status, _)| *status == 101)
    });
}
