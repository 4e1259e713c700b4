//! WebSocket through the gateway: over HTTP/1.1 and HTTP/2, judged as the GET that it is, and ended when its credential is.

use std::{
    io::{Read, Write},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{
    Gateway, PATIENCE, Recorder, Wire, World, eventually, get,
    h2::{self, END_HEADERS, END_STREAM, Ending, H2},
    let_pass, post, remember_secret, unix_now,
    websocket::{
        CLOSE, KEY, PING, PONG, Peer, Socket, TEXT, accept, bearer, closing, frame, handshake, service, service_saying,
        switch, unmasked, websockets_client, ws_client,
    },
};

const ADMIN: &str = "an-admin-token-of-the-streams";

const YAML: &str = "admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
routes:
  - {path: /plain, upstream: api}
  - {path: /open, upstream: api, auth: none, upgrade: [websocket]}
  - {path: /brief, upstream: api, auth: none, upgrade: [websocket], stream_idle: 1s}
  - {path: /stays, upstream: api, upgrade: [websocket], close_on_expiry: false}
  - {path: /**, upstream: api, upgrade: [websocket]}
";

fn world_with(upstream: Recorder) -> World {
    let world = World::with(upstream);
    remember_secret(ADMIN);
    world.write("admin.token", ADMIN);
    world
}

fn world() -> World {
    world_with(service())
}

fn revoke(gateway: &Gateway, what: serde_json::Value) {
    let request = post("/revocations", &what.to_string()).header("Authorization", &format!("Bearer {ADMIN}"));
    request.send_to(gateway.admin).expect(201);
}

fn open(gateway: &Gateway, path: &str, token: &str) -> Socket {
    Socket::open(gateway.connect(), path, &bearer(token))
}

#[track_caller]
fn ended(gateway: &Gateway, how: &str) -> serde_json::Value {
    gateway.access(|record| record["stream.end"] == how)
}

#[test]
fn two_libraries_say_all_there_is_to_say_through_the_gateway() {
    for (client, mut peer) in [
        (ws_client as fn(&str, &str, bool) -> _, Peer::websockets()),
        (websockets_client as fn(&str, &str, bool) -> _, Peer::ws()),
    ] {
        let mut world = world();
        world.upstream.port = peer.port;
        let gateway = world.start(YAML);
        let url = format!("ws://127.0.0.1:{}/chat", gateway.port);
        for compressed in [true, false] {
            let finished: crate::harness::Finished = client(&url, &world.token(json!({})), compressed);
            assert_eq!(finished.stdout.trim(), "ok", "{} {}", finished.stdout, finished.stderr);
            peer.closed("4001 enough");
        }
        // Which of the two closes its connection first is theirs to settle.
        let record = gateway.access(|record| record["stream.end"].is_string());
        assert!(["client_closed", "upstream_closed"].contains(&record["stream.end"].as_str().unwrap()), "{record}");
        assert!(
            record["bytes.in"].as_u64() > Some(10 << 20) && record["bytes.out"].as_u64() > Some(10 << 20),
            "{record}"
        );
        assert_eq!(
            (&record["status"], &record["method"], &record["reason"]),
            (&json!(101), &json!("GET"), &json!("allowed"))
        );
    }
}

/// What a route does to answers it does to this one, too: nobody expects a field to be gone everywhere but here.
#[test]
fn an_answer_that_switches_is_an_answer_like_any_other() {
    let upstream = Recorder::with(|request, stream| {
        switch(stream, request.header("sec-websocket-key"), "Server: legacy/1\r\nX-Internal: host-7\r\n");
        false
    });
    let world = world_with(upstream);
    let gateway = world.start(
        "routes:
  - path: /chat
    upstream: api
    auth: none
    upgrade: [websocket]
    response_headers: {remove: [server, x-internal], set: {x-shaped: '{client_ip}'}}
",
    );
    let mut wire = gateway.connect();
    wire.send(handshake("/chat", ""));
    let (status, fields) = wire.head().unwrap();
    let of = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((status, of("x-shaped")), (101, Some("127.0.0.1")));
    assert_eq!((of("server"), of("x-internal")), (None, None), "{fields:?}");
    assert_eq!((of("upgrade"), of("sec-websocket-accept")), (Some("websocket"), Some(&*accept(KEY))));
}

#[test]
fn where_a_route_does_not_upgrade_the_request_goes_on_as_a_plain_one() {
    let world = world();
    let gateway = world.start(YAML);
    let mut wire = gateway.connect();
    wire.send(handshake("/plain", &bearer(&world.token(json!({})))));
    assert_eq!(wire.answer().status, 200);
    let seen = world.upstream.requests().first().unwrap().clone();
    assert!(!seen.has("upgrade") && !seen.has("connection"), "{}", seen.head);
}

#[test]
fn other_protocols_are_never_forwarded() {
    let world = world();
    let gateway = world.start(YAML);
    for protocols in ["h2c", "h2c, TLS/1.3", "websocket2", "foo"] {
        let mut wire = gateway.connect();
        let head = format!(
            "GET /open HTTP/1.1\r\nHost: gateway.example\r\nUpgrade: {protocols}\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        wire.send(head);
        assert_eq!(wire.answer().status, 200, "{protocols}");
    }
    for seen in world.upstream.requests() {
        assert!(!seen.has("upgrade") && !seen.has("http2-settings") && !seen.has("connection"), "{}", seen.head);
    }
}

#[test]
fn nothing_reaches_the_service_before_the_permit() {
    let world = world();
    let gateway = world.start(YAML);
    let expired = world.token(json!({"exp": unix_now() - 3600}));
    for (more, status) in [(String::new(), 401), (bearer(&expired), 401), (bearer("nonsense"), 401)] {
        let mut wire = gateway.connect();
        // With what a client may not send before the 101, too.
        wire.send(handshake("/chat", &more)).send(frame(TEXT, b"already here"));
        assert_eq!(wire.answer().status, status);
    }
    assert_eq!(world.upstream.requests().len(), 0);
    assert_eq!(gateway.metric("stepgate_streams", &[]), 0.0);
}

#[test]
fn an_upgrade_counts_against_quotas_and_is_asked_for_proof_as_the_get_that_it_is() {
    let world = world();
    let gateway = world.start(
        "limits: {few: {key: subject, rate: 1/10m}}
assurance: {mfa: {acr: ['urn:example:acr:mfa']}}
routes:
  - {path: /few, upstream: api, upgrade: [websocket], limits: [few]}
  - {path: /strong, upstream: api, upgrade: [websocket], assurance: mfa}
  - {path: /posts, upstream: api, upgrade: [websocket], when: 'request.method == \"GET\"'}
",
    );
    let token = world.token(json!({}));
    open(&gateway, "/few", &token).talk("one");
    open(&gateway, "/posts", &token).talk("judged as a GET");
    for (path, status) in [("/few", 429), ("/strong", 401)] {
        let mut wire = gateway.connect();
        wire.send(handshake(path, &bearer(&token)));
        assert_eq!(wire.answer().status, status);
    }
    open(&gateway, "/strong", &world.fresh(1)).talk("proved");
}

#[test]
fn a_handshake_that_is_not_one_is_refused() {
    let world = world();
    let gateway = world.start(YAML);
    let good = handshake("/open", "");
    let ask = |head: &str| {
        let mut wire = gateway.connect();
        wire.send(head);
        wire.answer()
    };
    for (from, to) in [
        ("GET ", "POST "),
        ("Connection: keep-alive, Upgrade\r\n", "Connection: keep-alive\r\n"),
        ("Connection: keep-alive, Upgrade\r\n", ""),
        (KEY, "c2hvcnQ="),
        (KEY, "not base64"),
        ("Sec-WebSocket-Key", "X-Key"),
        ("\r\n\r\n", &format!("\r\nSec-WebSocket-Key: {KEY}\r\n\r\n")),
        ("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"),
        ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        let answer = ask(&good.replacen(from, to, 1));
        assert_eq!(answer.problem(400), "malformed-upgrade", "{from:?} -> {to:?}");
    }
    for version in ["8", "14", "13, 8"] {
        let answer = ask(&good.replace("Version: 13", &format!("Version: {version}")));
        assert_eq!(answer.problem(426), "upgrade-version");
        assert_eq!(answer.header("sec-websocket-version"), "13");
    }
    // RFC 9110 §7.8: in HTTP/1.0 it is no upgrade at all.
    assert_eq!(ask(&good.replace("HTTP/1.1", "HTTP/1.0")).status, 200);
    assert!(world.upstream.requests().iter().all(|seen| !seen.has("upgrade")));
}

#[test]
fn a_service_that_does_not_switch_has_answered_a_request() {
    for status in ["401 Unauthorized", "403 Forbidden", "302 Found", "426 Upgrade Required", "200 OK"] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: 5\r\n\r\nno ws");
        let world = world_with(Recorder::answering(&answer));
        let gateway = world.start(YAML);
        let mut wire = gateway.connect();
        wire.send(handshake("/open", ""));
        let answer = wire.answer();
        assert_eq!((answer.status.to_string().as_str(), answer.text().as_str()), (&status[..3], "no ws"));
        assert_eq!(world.upstream.requests().first().unwrap().clone().header("upgrade"), "websocket");
        // The connection is a client's as before.
        wire.send(get("/open").bytes());
        assert_eq!(wire.answer().text(), "no ws");
    }
}

#[test]
fn a_101_that_does_not_answer_the_handshake_is_a_502_and_its_connection_is_closed() {
    let upgrade = "Upgrade: websocket\r\n";
    let connection = "Connection: Upgrade\r\n";
    let key = format!("Sec-WebSocket-Accept: {}\r\n", accept(KEY));
    for head in [
        format!("{upgrade}{connection}"),
        format!("{upgrade}{key}"),
        format!("{connection}{key}"),
        format!("Upgrade: h2c\r\n{connection}{key}"),
        format!("{upgrade}{connection}Sec-WebSocket-Accept: {}\r\n", accept("other")),
        format!("{upgrade}{connection}{key}Sec-WebSocket-Protocol: mqtt\r\n"),
        format!("{upgrade}{connection}{key}Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    ] {
        let (closed, is_closed) = mpsc::channel();
        let closed = Mutex::new(closed);
        let text = format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n");
        let world = world_with(Recorder::with(move |_, stream| {
            stream.write_all(text.as_bytes()).unwrap();
            let _ = closed.lock().unwrap().send(stream.read(&mut [0; 64]).unwrap_or(0));
            false
        }));
        let gateway = world.start(YAML);
        let mut wire = gateway.connect();
        wire.send(handshake("/open", "")).send(frame(TEXT, b"for whom?"));
        assert_eq!(wire.answer().problem(502), "bad-gateway", "{head}");
        assert_eq!(is_closed.recv_timeout(PATIENCE), Ok(0), "nothing but the handshake reached it: {head}");
    }
}

#[test]
fn what_follows_a_handshake_that_is_refused_is_judged_and_never_a_request_of_the_services() {
    // The service does not switch, and would take whatever comes over the same connection for a request of its own.
    let world = world_with(Recorder::answering("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"));
    let gateway = world.start(YAML);
    let smuggled = "GET /plain HTTP/1.1\r\nHost: gateway.example\r\nX-Smuggled: 1\r\n\r\n";
    for version in ["13", "777"] {
        let mut wire = gateway.connect();
        wire.send(handshake("/open", "").replace("Version: 13", &format!("Version: {version}")) + smuggled);
        assert_eq!(wire.answer().status, 426);
        // It is a request like any other: it has no token.
        assert_eq!(wire.answer().problem(401), "token-required");
    }
    assert!(world.upstream.requests().iter().all(|seen| seen.target() == "/open" && !seen.has("x-smuggled")));
    assert_eq!(world.upstream.requests().len(), 1, "a version that we do not know is not forwarded");
}

#[test]
fn the_service_gets_nothing_before_its_101_and_the_client_nothing_but_it() {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let early = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&early);
    let world = world_with(Recorder::with(move |request, stream| {
        // Whatever the client has sent too soon would be here by now.
        may_go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut buffer = [0; 64];
        let read = stream.read(&mut buffer).unwrap_or(0);
        seen.lock().unwrap().extend_from_slice(&buffer[..read]);
        stream.set_nonblocking(false).unwrap();
        switch(stream, request.header("sec-websocket-key"), "");
        let mut first = vec![0; frame(TEXT, b"too soon").len()];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, frame(TEXT, b"too soon"));
        let _ = stream.write_all(&unmasked(TEXT, b"seen"));
        false
    }));
    let gateway = world.start(YAML);
    let mut wire = gateway.connect();
    wire.send(handshake("/open", "")).send(frame(TEXT, b"too soon"));
    eventually("the handshake", || (world.upstream.requests().len() == 1).then_some(()));
    go.send(()).unwrap();
    assert_eq!(wire.head().unwrap().0, 101);
    let mut socket = Socket(wire);
    assert_eq!(socket.read().unwrap(), (TEXT, b"seen".to_vec()));
    assert_eq!(*early.lock().unwrap(), b"");
}

#[test]
fn what_comes_right_behind_the_101_is_the_clients_and_so_is_the_end_behind_that() {
    // More than one read of the relay's.
    let long = vec![b'l'; 40_000];
    let sent = long.clone();
    let world = world_with(Recorder::with(move |request, stream| {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept(request.header("sec-websocket-key"))
        );
        let _ = stream.write_all(&[head.as_bytes(), &unmasked(TEXT, b"first"), &unmasked(TEXT, &sent)].concat());
        false
    }));
    let gateway = world.start(YAML);
    for _ in 0..3 {
        let mut socket = Socket::open(gateway.connect(), "/open", "");
        assert_eq!(socket.read().unwrap(), (TEXT, b"first".to_vec()));
        assert_eq!(socket.read().unwrap(), (TEXT, long.clone()));
        assert!(socket.read().is_err(), "the service has gone");
    }
}

#[test]
fn the_service_is_told_who_calls_and_never_the_token() {
    let world = world();
    let gateway = world.start(YAML);
    open(&gateway, "/chat?room=1", &world.token(json!({}))).talk("hello");
    let seen = world.upstream.requests().first().unwrap().clone();
    assert_eq!((seen.target(), seen.header("x-auth-subject")), ("/chat?room=1", "alice"));
    assert_eq!((seen.header("connection"), seen.header("sec-websocket-key")), ("Upgrade", KEY));
    assert!(!seen.has("authorization"), "{}", seen.head);
}

#[test]
fn a_stream_ends_with_1008_when_its_token_does_and_not_where_the_route_says_otherwise() {
    let (told, closings) = mpsc::channel();
    let told = Mutex::new(told);
    let world = world_with(service_saying(move |close| {
        let _ = told.lock().unwrap().send(close);
    }));
    let gateway = world.start(YAML);
    // The leeway of the issuer (30s) is over almost at once.
    let token = world.token(json!({"exp": unix_now() - 27, "iat": unix_now() - 600}));
    let mut stays = open(&gateway, "/stays", &token);
    let mut socket = open(&gateway, "/chat", &token);
    socket.talk("while it lasts");
    assert_eq!(socket.closed(), (1008, "credential expired".to_owned()));
    let to_service = closings.recv_timeout(PATIENCE).unwrap();
    assert_eq!(closing(to_service), (1008, "credential expired".to_owned()), "the service is told, too");
    stays.talk("and on");
    let record = ended(&gateway, "expired");
    assert_eq!((&record["principal.subject"], &record["path"]), (&json!("alice"), &json!("/chat")));
    assert_eq!(gateway.metric("stepgate_streams_ended_total", &["end=\"expired\""]), 1.0);
    assert_eq!(gateway.metric("stepgate_streams", &[]), 1.0);
}

#[test]
fn a_stream_ends_with_1008_when_its_subject_session_or_token_is_revoked() {
    let world = world();
    let gateway = world.start(YAML);
    for what in [
        json!({"issuer": "main", "jti": "t-1"}),
        json!({"issuer": "main", "session": "s-1"}),
        json!({"issuer": "main", "subject": "carol"}),
        json!({"issuer": "main", "all": true}),
    ] {
        let token = world.token(json!({"sub": "carol", "jti": "t-1", "sid": "s-1", "iat": unix_now() - 5}));
        let other = world.token(json!({"sub": "bob", "jti": "t-2", "sid": "s-2", "iat": unix_now() - 5}));
        let mut undisturbed = what["all"].is_null().then(|| open(&gateway, "/chat", &other));
        let mut socket = open(&gateway, "/stays", &token);
        socket.talk("hello");
        let mut what = what;
        what["issued_before"] = json!("now");
        if what["jti"].is_string() {
            what.as_object_mut().unwrap().remove("issued_before");
        }
        let began = Instant::now();
        revoke(&gateway, what.clone());
        assert_eq!(socket.closed(), (1008, "credential revoked".to_owned()), "{what}");
        assert!(began.elapsed() < PATIENCE);
        if let Some(other) = &mut undisturbed {
            other.talk("undisturbed");
        }
        let id = {
            let list = get("/revocations").header("Authorization", &format!("Bearer {ADMIN}")).send_to(gateway.admin);
            list.expect(200).json()["revocations"][0]["id"].as_u64()
        };
        if let Some(id) = id {
            let request = crate::harness::Request::new("DELETE", &format!("/revocations/{id}"));
            request.header("Authorization", &format!("Bearer {ADMIN}")).send_to(gateway.admin).expect(200);
        }
    }
}

#[test]
fn an_end_of_our_own_waits_for_the_frame_that_is_under_way() {
    let world = world_with(Recorder::with(|request, stream| {
        switch(stream, request.header("sec-websocket-key"), "");
        let whole = unmasked(TEXT, &[b'x'; 5000]);
        stream.write_all(&whole[..1000]).unwrap();
        // Its own side gets to know at once, as nothing is under way there.
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 2);
        // The end of the frame, and the beginning of another that goes nowhere.
        let _ = stream.write_all(&[&whole[1000..], &unmasked(TEXT, b"never")].concat());
        let _ = stream.read(&mut [0; 64]);
        false
    }));
    let gateway = world.start(YAML);
    let mut socket = open(&gateway, "/chat", &world.token(json!({"iat": unix_now() - 5})));
    assert_eq!(socket.0.read_exactly(1000).unwrap()[0], 0x81);
    revoke(&gateway, json!({"issuer": "main", "subject": "alice"}));
    assert_eq!(socket.0.read_exactly(4004).unwrap(), [b'x'; 4004]);
    assert_eq!(socket.closed(), (1008, "credential revoked".to_owned()));
}

#[test]
fn a_stream_on_which_nothing_moves_is_closed_and_pings_count() {
    let world = world();
    let gateway = world.start(YAML);
    let mut socket = Socket::open(gateway.connect(), "/brief", "");
    let begun = Instant::now();
    for _ in 0..4 {
        let_pass(Duration::from_millis(400));
        socket.send(PING, b"");
        assert_eq!(socket.read().unwrap(), (PONG, Vec::new()), "after {:?}", begun.elapsed());
    }
    assert_eq!(socket.closed(), (1001, "idle".to_owned()));
    ended(&gateway, "idle");
}

#[test]
fn a_side_that_closes_is_followed_by_the_other_and_a_half_that_is_open_still_serves() {
    // A service that has something to say when its client has sent its last byte.
    let world = world_with(Recorder::with(|request, stream| {
        switch(stream, request.header("sec-websocket-key"), "");
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(&unmasked(TEXT, format!("{} bytes", all.len()).as_bytes()));
        false
    }));
    let gateway = world.start(YAML);
    let mut socket = Socket::open(gateway.connect(), "/open", "");
    socket.send(TEXT, b"last words").0.finish_sending();
    assert_eq!(socket.read().unwrap(), (TEXT, b"16 bytes".to_vec()));
    assert!(socket.0.is_closed());
    ended(&gateway, "client_closed");
}

#[test]
fn a_service_that_goes_away_takes_its_stream_along() {
    let world = world_with(Recorder::with(|request, stream| {
        switch(stream, request.header("sec-websocket-key"), "");
        false
    }));
    let gateway = world.start(YAML);
    let mut socket = Socket::open(gateway.connect(), "/open", "");
    assert!(socket.0.is_closed());
    ended(&gateway, "upstream_closed");
}

#[test]
fn what_a_side_does_not_take_is_not_taken_from_the_other() {
    let written = Arc::new(Mutex::new(0));
    let count = Arc::clone(&written);
    let world = world_with(Recorder::with(move |request, stream| {
        switch(stream, request.header("sec-websocket-key"), "");
        let part = unmasked(2, &[0; 60_000]);
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        while stream.write_all(&part).is_ok() {
            *count.lock().unwrap() += part.len();
        }
        false
    }));
    let gateway = world
        .start(&format!("{YAML}server: {{workers: 1, limits: {{write_stall_timeout: 4s, body_idle_timeout: 4s}}}}\n"));
    let socket = Socket::open(gateway.connect(), "/open", "");
    // The client reads nothing: the service is held up, and then the client is cut.
    ended(&gateway, "client_stalled");
    let written = *written.lock().unwrap();
    assert!(written < 16 << 20, "{written} bytes for a client that takes none: more than the sockets hold");
    drop(socket);
}

#[test]
fn a_reload_leaves_streams_alone_and_a_drain_says_good_bye() {
    let world = world();
    let mut gateway = world.start(&format!("{YAML}server: {{workers: 1, drain_timeout: 1s}}\n"));
    let mut socket = open(&gateway, "/chat", &world.token(json!({})));
    socket.talk("before");
    let generation = gateway.metric("stepgate_config_generation", &[]);
    world.configure(&format!("{}server: {{workers: 1, drain_timeout: 1s}}\n", YAML.replace("/plain", "/other")));
    gateway.signal("HUP");
    eventually("the reload", || (gateway.metric("stepgate_config_generation", &[]) > generation).then_some(()));
    socket.talk("after");
    gateway.signal("TERM");
    assert_eq!(socket.closed(), (1001, "going away".to_owned()));
    assert_eq!(gateway.wait(), 0);
    assert!(gateway.access_now().iter().any(|record| record["stream.end"] == "drained"));
}

fn connect_fields<'a>(path: &'a str, protocol: &'a str, token: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway.example"),
        ("sec-websocket-version", "13"),
        ("authorization", token),
    ]
}

/// Frames of DATA on a stream, put together until there is as much as is wanted.
fn data(h2: &mut H2, stream: u32, pending: &mut Vec<u8>, count: usize) -> Vec<u8> {
    while pending.len() < count {
        let frame = h2.next().unwrap();
        if frame.kind == h2::DATA && frame.stream == stream {
            pending.extend(frame.payload);
        }
    }
    pending.drain(..count).collect()
}

#[test]
fn over_http2_an_extended_connect_is_the_same_get() {
    let world = world();
    let gateway = world.start(YAML);
    let token = format!("Bearer {}", world.token(json!({"iat": unix_now() - 5})));
    let mut h2 = H2::over(gateway.connect());
    let offer = h2.next().unwrap();
    assert_eq!(offer.kind, h2::SETTINGS);
    assert!(
        offer.payload.chunks(6).any(|one| one == [0, 8, 0, 0, 0, 1]),
        "SETTINGS_ENABLE_CONNECT_PROTOCOL: {offer:?}"
    );
    let fields = connect_fields("/chat?room=2", "websocket", &token);
    h2.frame(h2::HEADERS, END_HEADERS, 1, &h2::block(&fields));
    assert_eq!(h2.status(1), Ending::Status(200));
    let seen = world.upstream.requests().first().unwrap().clone();
    assert_eq!((seen.line(), seen.header("upgrade")), ("GET /chat?room=2 HTTP/1.1", "websocket"));
    assert_eq!(seen.header("x-auth-subject"), "alice");
    let mut pending = Vec::new();
    h2.frame(h2::DATA, 0, 1, &frame(TEXT, b"over a stream"));
    assert_eq!(data(&mut h2, 1, &mut pending, 15), unmasked(TEXT, b"over a stream"));
    // Others on the same connection go on meanwhile.
    let plain = [("authorization", token.as_str())];
    h2.request(3, &[&h2::get("/plain")[..], &plain].concat());
    assert_eq!(h2.status(3), Ending::Status(200));
    revoke(&gateway, json!({"issuer": "main", "subject": "alice"}));
    let close = data(&mut h2, 1, &mut pending, 22);
    assert_eq!(close, unmasked(CLOSE, &[&1008u16.to_be_bytes()[..], b"credential revoked"].concat()));
    let record = ended(&gateway, "revoked");
    assert_eq!(
        (&record["protocol"], &record["method"], &record["status"]),
        (&json!("HTTP/2.0"), &json!("GET"), &json!(200))
    );
}

#[test]
fn over_http2_nothing_else_is_connected_to() {
    let world = world();
    let gateway = world.start(YAML);
    let token = format!("Bearer {}", world.token(json!({})));
    let ask = |fields: &[(&str, &str)]| {
        let mut h2 = H2::over(gateway.connect());
        h2.frame(h2::HEADERS, END_HEADERS, 1, &h2::block(fields));
        h2.status(1)
    };
    assert_eq!(ask(&connect_fields("/plain", "websocket", &token)), Ending::Status(501));
    for protocol in ["connect-udp", "webtransport", "WEBSOCKET", "h2c"] {
        assert_eq!(ask(&connect_fields("/chat", protocol, &token)), Ending::Status(501), "{protocol}");
    }
    assert_eq!(ask(&connect_fields("/chat", "websocket", "Bearer nonsense")), Ending::Status(401));
    let mut old = connect_fields("/chat", "websocket", &token);
    old[5] = ("sec-websocket-version", "8");
    assert_eq!(ask(&old), Ending::Status(426));
    assert_eq!(ask(&[(":method", "CONNECT"), (":authority", "gateway.example:443")]), Ending::Status(405));
    let mut misplaced = h2::get("/chat");
    misplaced.push((":protocol", "websocket"));
    assert!(ask(&misplaced).is_refusal());
    assert_eq!(ask(&connect_fields("/.well-known/oauth-protected-resource", "websocket", &token)), Ending::Status(501));
    assert_eq!(world.upstream.requests().len(), 0);
}

#[test]
fn over_http2_a_service_that_does_not_switch_opens_no_stream() {
    for (answer, status) in [("200 OK", 502), ("204 No Content", 502), ("403 Forbidden", 403), ("302 Found", 302)] {
        let world = world_with(Recorder::answering(&format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n")));
        let gateway = world.start(YAML);
        let token = format!("Bearer {}", world.token(json!({})));
        let mut h2 = H2::over(gateway.connect());
        h2.frame(h2::HEADERS, END_HEADERS, 1, &h2::block(&connect_fields("/chat", "websocket", &token)));
        assert_eq!(h2.status(1), Ending::Status(status), "{answer}");
    }
    let _ = (END_STREAM, Wire::connect);
}
