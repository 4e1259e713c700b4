//! Answers that go on: server-sent events without buffering, silence that is nobody's fault, large bodies both ways, parts of files;
//! and events and WebSocket in a browser.

use std::{
    fmt::Write as _,
    io::Write,
    sync::{Arc, Condvar, Mutex, mpsc},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::harness::{
    Authority, PATIENCE, Recorder, World, get,
    h2::{self, Ending, H2},
    let_pass,
    tools::{Nginx, browse},
    websocket,
};

const YAML: &str = "routes:
  - {path: /**, upstream: api, auth: none}
";

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A service that sends an event each time it is told to.
fn told() -> (Recorder, mpsc::Sender<&'static str>) {
    let (say, said) = mpsc::channel::<&'static str>();
    let said = Mutex::new(said);
    let recorder = Recorder::with(move |_, stream| {
        stream.write_all(EVENTS.as_bytes()).unwrap();
        while let Ok(event) = said.lock().unwrap().recv_timeout(PATIENCE) {
            if stream.write_all(chunk(event).as_bytes()).is_err() {
                break;
            }
        }
        false
    });
    (recorder, say)
}

#[test]
fn each_event_is_there_before_the_next_one_is_made() {
    let (recorder, say) = told();
    let world = World::with(recorder);
    let gateway = world.start(YAML);
    let mut wire = gateway.connect();
    wire.send(get("/events").header("Accept", "text/event-stream").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    for event in ["data: 1\n\n", ": comment\n\n", "data: 2\n\n"] {
        say.send(event).unwrap();
        assert_eq!(wire.chunk().unwrap(), event.as_bytes());
    }
}

#[test]
fn over_http2_as_well() {
    let (recorder, say) = told();
    let world = World::with(recorder);
    let gateway = world.start(YAML);
    let mut h2 = H2::over(gateway.connect());
    h2.request(1, &h2::get("/events"));
    assert_eq!(h2.status(1), Ending::Status(200));
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        say.send(event).unwrap();
        let frame = loop {
            let frame = h2.next().unwrap();
            if frame.kind == h2::DATA {
                break frame;
            }
        };
        assert_eq!(frame.payload, event.as_bytes());
    }
}

#[test]
fn a_service_that_is_silent_for_long_is_no_reason_to_end_an_answer() {
    let (recorder, say) = told();
    let world = World::with(recorder);
    let limits = "{body_idle_timeout: 500ms, keepalive_idle: 500ms, write_stall_timeout: 500ms, header_timeout: 500ms}";
    let yaml = format!(
        "{YAML}server: {{workers: 1, limits: {limits}}}\nupstreams:\n  api: {{targets: ['http://127.0.0.1:<upstream>'], timeouts: {{response: 500ms}}}}\n"
    );
    let gateway = world.start(&yaml);
    let mut wire = gateway.connect();
    wire.send(get("/events").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    let_pass(Duration::from_secs(3));
    say.send("data: late\n\n").unwrap();
    assert_eq!(wire.chunk().unwrap(), b"data: late\n\n");
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn large_files_go_down_whole_and_in_parts() {
    let nginx = Nginx::start();
    let content = noise(40 << 20);
    nginx.file("large", &content);
    let mut world = World::new();
    world.upstream.port = nginx.port;
    let gateway = world.start(YAML);
    let whole = get("/files/large").send(&gateway).expect(200);
    assert_eq!(hash(&whole.body), hash(&content));
    for (range, part, says) in [
        ("bytes=0-99", &content[..100], "bytes 0-99/41943040"),
        ("bytes=1048576-3145727", &content[1 << 20..3 << 20], "bytes 1048576-3145727/41943040"),
        ("bytes=-10", &content[content.len() - 10..], "bytes 41943030-41943039/41943040"),
    ] {
        let answer = get("/files/large").header("Range", range).send(&gateway).expect(206);
        assert_eq!(answer.header("content-range"), says);
        assert_eq!(hash(&answer.body), hash(part), "{range}");
    }
    get("/files/large").header("Range", "bytes=41943040-").send(&gateway).expect(416);
    let resumed = get("/files/large").header("Range", "bytes=5-").header("If-Range", whole.header("etag"));
    assert_eq!(hash(&resumed.send(&gateway).expect(206).body), hash(&content[5..]));
}

#[test]
fn large_bodies_go_up_whole_with_a_length_and_in_chunks() {
    let world = World::new();
    let gateway = world.start(&format!("{YAML}server: {{workers: 1, limits: {{body_bytes: 64MiB}}}}\n"));
    let content = noise(40 << 20);
    let mut wire = gateway.connect();
    wire.send(format!("POST /up HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: {}\r\n\r\n", content.len()));
    wire.send(&content);
    assert_eq!(wire.answer().status, 200);
    wire.send("POST /up HTTP/1.1\r\nHost: gateway.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in content.chunks(100_000) {
        wire.send(format!("{:x}\r\n", part.len())).send(part).send("\r\n");
    }
    wire.send("0\r\n\r\n");
    assert_eq!(wire.answer().status, 200);
    let seen = world.upstream.requests();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| hash(&seen.body) == hash(&content)));
}

/// A service with a page, events that wait to be seen, and WebSocket.
fn site() -> Recorder {
    let seen = Arc::new((Mutex::new(0), Condvar::new()));
    Recorder::with(move |request, stream| {
        let ok = |kind: &str, text: &str| {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        };
        match request.target().split('?').next().unwrap() {
            "/events" => {
                stream.write_all(EVENTS.as_bytes()).unwrap();
                *seen.0.lock().unwrap() = 0;
                for number in 0..5 {
                    stream.write_all(chunk(&format!("data: event {number}\n\n")).as_bytes()).unwrap();
                    let count = seen.0.lock().unwrap();
                    let _ = seen.1.wait_timeout_while(count, PATIENCE, |count| *count <= number).unwrap();
                }
                false
            }
            "/seen" => {
                *seen.0.lock().unwrap() += 1;
                seen.1.notify_all();
                stream.write_all(ok("text/plain", "").as_bytes()).is_ok()
            }
            "/talk" | "/brief" => {
                websocket::serve(request, stream);
                false
            }
            _ => stream.write_all(ok("text/html", "<!doctype html><title>streams</title>").as_bytes()).is_ok(),
        }
    })
}

fn in_a_browser(alpn: &str, spoken: &str) {
    let world = World::with(site());
    let authority = Authority::new("the streams' authority");
    authority.server(world.folder(), "server", &["localhost"]);
    world.write("ca.pem", &authority.pem);
    let gateway = world.start(&format!(
        "listeners:
  - {{address: 127.0.0.1:<tls>, tls: {{certificates: [{{cert: server.pem, key: server.key}}], alpn: {alpn}}}}}
routes:
  - {{path: /talk, upstream: api, auth: none, upgrade: [websocket]}}
  - {{path: /brief, upstream: api, auth: none, upgrade: [websocket], stream_idle: 1s}}
  - {{path: /closed, upstream: api, upgrade: [websocket]}}
  - {{path: /**, upstream: api, auth: none}}
"
    ));
    browse(&world, "streams", json!({"path": "", "spoken": spoken}));
    let protocol = if spoken == "h2" { "HTTP/2.0" } else { "HTTP/1.1" };
    gateway.access(|record| record["path"] == "/talk" && record["protocol"] == protocol);
    gateway.access(|record| record["stream.end"] == "idle" && record["protocol"] == protocol);
}

#[test]
fn a_browser_has_its_events_and_websockets_over_http1() {
    in_a_browser("[http/1.1]", "http/1.1");
}

#[test]
fn a_browser_has_its_events_and_websockets_over_http2() {
    in_a_browser("[h2, http/1.1]", "h2");
}
