//! HTTP/3 on real sockets: with another's client (h3), and with bare streams of our own where a client has to misbehave.

use std::{future::poll_fn, path::Path};

use bytes::{Buf, BufMut, BytesMut};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, TransportConfig, VarInt,
    crypto::rustls::QuicClientConfig,
};

use super::{
    tls::{client_config, listener, write_pair},
    *,
};
use crate::config::{ClientAuth, File, Http3, ListenerTls, Span};

const NO_ERROR: u64 = 0x100;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_REJECTED: u64 = 0x10b;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;
const DECOMPRESSION_FAILED: u64 = 0x200;

type Outcome<T> = Result<T, u64>;

struct Http3Test {
    running: Running,
    roots: String,
    _dir: tempfile::TempDir,
}

fn http3_plan(tls: ListenerTls, limits: ServerLimits) -> ServerPlan {
    let mut plan = plan(&[PlanMode::Tls(tls)], limits);
    plan.listeners.iter_mut().for_each(|listener| listener.http3 = Some(Http3 { port: None }));
    plan
}

impl Http3Test {
    fn start(limits: ServerLimits) -> Self {
        Self::start_with(limits, |_, tls| tls)
    }

    fn start_with(limits: ServerLimits, change: impl FnOnce(&Path, ListenerTls) -> ListenerTls) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = write_pair(dir.path(), "first", &["a.example"]);
        let tls = change(dir.path(), listener(dir.path(), &["first"]));
        Self { running: Running::start(&http3_plan(tls, limits)), roots, _dir: dir }
    }

    fn endpoint(&self, identity: Option<(&str, &str)>) -> Endpoint {
        self.endpoint_with(identity, TransportConfig::default())
    }

    fn endpoint_with(&self, identity: Option<(&str, &str)>, transport: TransportConfig) -> Endpoint {
        let tls = client_config(&[&self.roots], &[b"h3"], identity);
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport));
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(config);
        endpoint
    }

    async fn try_connect(&self, identity: Option<(&str, &str)>) -> Result<Connection, ConnectionError> {
        let endpoint = self.endpoint(identity);
        endpoint.connect(self.running.address(), "a.example").unwrap().await
    }

    async fn connect(&self) -> Connection {
        self.try_connect(None).await.unwrap()
    }

    async fn request(&self, method: &str, path: &str) -> Outcome<(u16, String)> {
        exchange(&self.connect().await, &head(method, path, &[]), b"").await
    }
}

/// Runs a client. Nothing here waits for ever.
fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(20 * SECOND, client).await.unwrap() })
}

/// A frame: its type and length in one byte each, or the length in four.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.put_u32(0x8000_0000 | u32::try_from(payload.len()).unwrap());
    frame.extend_from_slice(payload);
    frame
}

/// A field section in literals, as any client could write it.
fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    let number = |section: &mut Vec<u8>, flags: u8, most: usize, value: usize| {
        if value < most {
            return section.push(flags | u8::try_from(value).unwrap());
        }
        section.push(flags | u8::try_from(most).unwrap());
        let mut left = value - most;
        while left >= 128 {
            section.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        section.push(u8::try_from(left).unwrap());
    };
    for (name, value) in fields {
        number(&mut section, 0x20, 7, name.len());
        section.extend_from_slice(name.as_bytes());
        number(&mut section, 0, 127, value.len());
        section.extend_from_slice(value.as_bytes());
    }
    section
}

fn fields<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "https"), (":authority", "a.example"), (":path", path)]
}

/// A HEADERS frame.
fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    frame(1, &section(&[&fields(method, path)[..], more].concat()))
}

fn code(error: &ConnectionError) -> u64 {
    let ConnectionError::ApplicationClosed(closed) = error else { panic!("the connection ended otherwise: {error}") };
    closed.error_code.into_inner()
}

/// Sends `first` and `rest` on a stream, ends it, and gives status and body, or the code that stream or connection ended with.
async fn exchange(connection: &Connection, first: &[u8], rest: &[u8]) -> Outcome<(u16, String)> {
    let (mut send, recv) = connection.open_bi().await.map_err(|error| code(&error))?;
    let sent = async {
        send.write_all(first).await.ok();
        send.write_all(rest).await.ok();
        send.finish().ok();
    };
    tokio::join!(sent, answer_of(recv)).1
}

async fn answer_of(mut recv: quinn::RecvStream) -> Outcome<(u16, String)> {
    let mut bytes = BytesMut::new();
    loop {
        match recv.read_chunk(1 << 20, true).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            Ok(None) => break,
            Err(ReadError::Reset(code)) => return Err(code.into_inner()),
            Err(ReadError::ConnectionLost(error)) => return Err(code(&error)),
            Err(other) => panic!("{other}"),
        }
    }
    let (mut status, mut body) = (0, Vec::new());
    while bytes.has_remaining() {
        let (kind, length) = (integer(&mut bytes), integer(&mut bytes));
        let payload = bytes.split_to(usize::try_from(length).unwrap());
        match kind {
            0 => body.extend_from_slice(&payload),
            1 if status < 200 => status = status_of(&payload),
            _ => {}
        }
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn integer(bytes: &mut BytesMut) -> u64 {
    let first = bytes.get_u8();
    (1..1_u32 << (first >> 6)).fold(u64::from(first & 0x3f), |value, _| value << 8 | u64::from(bytes.get_u8()))
}

/// The status stands first: in the static table, or after a reference to its name there.
fn status_of(section: &[u8]) -> u16 {
    const INDEXED: [(u8, u16); 7] = [(25, 200), (27, 404), (64, 204), (67, 400), (71, 500), (63, 100), (28, 503)];
    match section.get(2..) {
        Some([0xff, more, ..]) => {
            INDEXED.iter().find(|(index, _)| *index == more + 63).map_or(0, |(_, status)| *status)
        }
        Some([index, ..]) if index & 0xc0 == 0xc0 => {
            INDEXED.iter().find(|(known, _)| known == &(index & 0x3f)).map_or(0, |(_, status)| *status)
        }
        Some([0x5f, 9, 3, digits @ ..]) => String::from_utf8_lossy(digits.get(..3).unwrap()).parse().unwrap(),
        other => panic!("no status: {other:?}"),
    }
}

#[test]
fn a_request_is_answered_and_the_connection_says_what_was_agreed() {
    let test = Http3Test::start(limits());
    let answer = run(test.request("GET", "/info"));
    assert_eq!(answer, Ok((200, "HTTP/3.0 sni=a.example from=127.0.0.1".into())));
}

#[test]
fn anothers_client_is_served() {
    let test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
        let driving = tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        let post = Request::post("https://a.example/read").body(()).unwrap();
        let mut stream = requests.send_request(post).await.unwrap();
        for _ in 0..8 {
            stream.send_data(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
        }
        stream.finish().await.unwrap();
        let answer = stream.recv_response().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.headers().contains_key("date"));
        let body = stream.recv_data().await.unwrap().map(|mut data| data.copy_to_bytes(data.remaining()));
        assert_eq!(body.as_deref(), Some(&b"read 800000"[..]));

        let big = Request::get("https://a.example/big").body(()).unwrap();
        let mut stream = requests.send_request(big).await.unwrap();
        stream.finish().await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().headers()["content-length"], "33554432");
        let mut count = 0;
        while let Some(data) = stream.recv_data().await.unwrap() {
            count += data.remaining();
        }
        assert_eq!(count, 32 << 20);
        drop(requests);
        driving.abort();
    });
}

#[test]
fn an_answer_over_tcp_says_where_http3_is_until_it_is_no_more() {
    let test = Http3Test::start(limits());
    let port = test.running.address().port();
    let tls = client_config(&[&test.roots], &[b"http/1.1"], None);
    let mut client = super::tls::connect(&test.running, &tls, "a.example");
    let mut said = || {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
        let (text, _) = super::head(&mut client);
        let mut body = [0; 5];
        client.read_exact(&mut body).unwrap();
        text.lines().find_map(|line| line.strip_prefix("alt-svc: ").map(str::to_owned))
    };
    assert_eq!(said(), Some(format!("h3=\":{port}\"; ma=86400")));
    let server = test.running.server();
    let mut plan = http3_plan(listener(test._dir.path(), &["first"]), limits());
    plan.listeners.iter_mut().for_each(|listener| listener.http3 = Some(Http3 { port: Some(443) }));
    server.apply(server.prepare(&plan).unwrap());
    test.running.wait_for(|event| matches!(event, Event::Began(_)));
    let mut told = said();
    for _ in 0..100 {
        if told.as_deref() == Some("h3=\":443\"; ma=86400") {
            break;
        }
        told = said();
    }
    assert_eq!(told.as_deref(), Some("h3=\":443\"; ma=86400"));
    plan.listeners.iter_mut().for_each(|listener| listener.http3 = None);
    // The connections over QUIC end in good order, and no new one is let in; those over TCP go on.
    run(async {
        let connection = test.connect().await;
        assert!(exchange(&connection, &head("GET", "/", &[]), b"").await.is_ok());
        server.apply(server.prepare(&plan).unwrap());
        assert_eq!(code(&connection.closed().await), NO_ERROR);
        assert!(test.try_connect(None).await.is_err());
    });
    assert_eq!(said(), None);
}

#[test]
fn http3_can_be_added_to_a_listener_whose_connections_stay() {
    let dir = tempfile::tempdir().unwrap();
    let roots = write_pair(dir.path(), "first", &["a.example"]);
    let mut before = http3_plan(listener(dir.path(), &["first"]), limits());
    before.listeners.iter_mut().for_each(|listener| listener.http3 = None);
    let test = Http3Test { running: Running::start(&before), roots, _dir: dir };
    let server = test.running.server();
    server.apply(server.prepare(&http3_plan(listener(test._dir.path(), &["first"]), limits())).unwrap());
    assert_eq!(run(test.request("GET", "/")), Ok((200, "hello".into())));
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let (cert, key) = pem_pair(&["client.example"]);
    let (trusted, other) = (cert.clone(), pem_pair(&["other.example"]));
    let test = Http3Test::start_with(limits(), |dir, mut tls| {
        std::fs::write(dir.join("ca.pem"), trusted).unwrap();
        tls.client_ca = Some(File { span: Span::default(), path: dir.join("ca.pem") });
        tls.client_auth = ClientAuth::Required;
        tls
    });
    run(async {
        let connection = test.try_connect(Some((&cert, &key))).await.unwrap();
        assert_eq!(exchange(&connection, &head("GET", "/certificate", &[]), b"").await, Ok((200, "shown".into())));
        for identity in [None, Some((&*other.0, &*other.1))] {
            // The client may believe in the handshake before the server has seen its certificate (RFC 9001 §4.1).
            let ended = match test.try_connect(identity).await {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            };
            assert!(
                matches!(ended, ConnectionError::ConnectionClosed(_)),
                "refused by TLS, and by the server: {ended}"
            );
        }
    });
    test.running.wait_for(|event| *event == Event::Handshake(Handshake::Failed));
}

#[test]
fn a_head_answer_has_no_body_and_says_its_length() {
    let test = Http3Test::start(limits());
    assert_eq!(run(test.request("HEAD", "/")), Ok((200, String::new())));
}

#[test]
fn malformed_requests_are_reset_and_nobody_sees_them() {
    let test = Http3Test::start(limits());
    let get = fields("GET", "/");
    let without = |name: &str| get.iter().copied().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    let with = |more: &[(&'static str, &'static str)]| [&get[..], more].concat();
    let malformed = [
        with(&[(":path", "/other")]),
        with(&[(":authority", "b.example")]),
        with(&[("x-a", "1"), (":method", "GET")]),
        with(&[(":status", "200")]),
        with(&[(":protocol", "websocket")]),
        without(":path"),
        without(":method"),
        without(":scheme"),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("te", "gzip")]),
        with(&[("X-Upper", "1")]),
        with(&[("x-a", "1\r\nx-b: 2")]),
        with(&[("content-length", "1")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("content-length", "x")]),
    ];
    run(async {
        let connection = test.connect().await;
        for fields in &malformed {
            let outcome = exchange(&connection, &frame(1, &section(fields)), b"").await;
            assert_eq!(outcome, Err(MESSAGE_ERROR), "{fields:?}");
        }
        assert_eq!(exchange(&connection, &head("GET", "/", &[]), b"").await, Ok((200, "hello".into())));
    });
    assert_eq!(test.running.wait_for(|event| matches!(event, Event::Began(_))), Event::Began("/".into()));
}

#[test]
fn a_body_is_as_long_as_its_head_says_or_the_request_fails() {
    let test = Http3Test::start(limits());
    let post = |length: &str| head("POST", "/read", &[("content-length", length)]);
    run(async {
        let connection = test.connect().await;
        let data = frame(0, b"hello");
        assert_eq!(exchange(&connection, &post("5"), &data).await, Ok((200, "read 5".into())));
        // Both in one, or in several frames, or with frames that mean nothing in between.
        let parts = [frame(0, b"he"), frame(0x21, b"x"), frame(0, b""), frame(0, b"llo")].concat();
        assert_eq!(exchange(&connection, &post("5"), &parts).await, Ok((200, "read 5".into())));
        assert_eq!(exchange(&connection, &head("POST", "/read", &[]), &parts).await, Ok((200, "read 5".into())));
        for length in ["4", "6", "0"] {
            let outcome = exchange(&connection, &post(length), &data).await;
            assert!(matches!(outcome, Err(MESSAGE_ERROR) | Ok((400, _))), "{length}: {outcome:?}");
        }
        let trailers = frame(1, &section(&[("x-sum", "1")]));
        let whole = [data.clone(), trailers.clone()].concat();
        assert_eq!(exchange(&connection, &post("5"), &whole).await, Ok((200, "read 5".into())));
        let outcome = exchange(&connection, &post("6"), &whole).await;
        assert!(matches!(outcome, Err(MESSAGE_ERROR) | Ok((400, _))), "{outcome:?}");
        let pseudo = [data, frame(1, &section(&[(":path", "/")]))].concat();
        let outcome = exchange(&connection, &post("5"), &pseudo).await;
        assert!(matches!(outcome, Err(MESSAGE_ERROR) | Ok((400 | 200, _))), "{outcome:?}");
    });
}

#[test]
fn frames_where_they_may_not_be_and_frames_cut_off_end_the_connection() {
    let test = Http3Test::start(limits());
    let get = head("GET", "/", &[]);
    let post = head("POST", "/read", &[]);
    let trailers = frame(1, &section(&[("x-sum", "1")]));
    let cases: [(Vec<u8>, u64); 10] = [
        (frame(0, b"data first"), FRAME_UNEXPECTED),
        (frame(4, b""), FRAME_UNEXPECTED),
        (frame(7, b"\x00"), FRAME_UNEXPECTED),
        (frame(2, b""), FRAME_UNEXPECTED),
        ([post.clone(), frame(9, b"")].concat(), FRAME_UNEXPECTED),
        ([post.clone(), trailers.clone(), frame(0, b"more")].concat(), FRAME_UNEXPECTED),
        ([post.clone(), trailers.clone(), trailers.clone()].concat(), FRAME_UNEXPECTED),
        (get.split_last().unwrap().1.to_vec(), FRAME_ERROR),
        ([post, vec![0, 5, b'h']].concat(), FRAME_ERROR),
        (frame(1, &[0, 0, 0x80]), DECOMPRESSION_FAILED),
    ];
    run(async {
        for (bytes, expected) in &cases {
            let connection = test.connect().await;
            let outcome = exchange(&connection, bytes, b"").await;
            assert!(outcome.is_err() || expected != &DECOMPRESSION_FAILED, "{outcome:?}");
            assert_eq!(code(&connection.closed().await), *expected, "{bytes:?}");
        }
        let connection = test.connect().await;
        assert_eq!(exchange(&connection, &frame(0x21, b"x"), b"").await, Err(REQUEST_INCOMPLETE));
    });
}

#[test]
fn fields_beyond_the_bound_are_refused_before_they_are_held() {
    let test = Http3Test::start(ServerLimits { header_bytes: 4096, ..limits() });
    run(async {
        let connection = test.connect().await;
        let long = "v".repeat(5000);
        let too_large = head("GET", "/", &[("x-long", &long)]);
        assert_eq!(exchange(&connection, &too_large, b"").await, Ok((431, String::new())));
        let many: Vec<_> = (0..200).map(|_| ("a", "")).collect();
        assert_eq!(exchange(&connection, &head("GET", "/", &many), b"").await, Ok((431, String::new())));
        // The length alone is enough: of a gigabyte nothing is waited for.
        let mut announced = vec![1];
        announced.put_u32(0x8000_0000 | 1 << 29);
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&announced).await.unwrap();
        assert_eq!(answer_of(recv).await, Ok((431, String::new())));
        assert_eq!(send.stopped().await.unwrap(), Some(VarInt::from_u32(0x100)));
    });
}

#[test]
fn a_client_that_wants_no_answer_any_more_ends_the_request() {
    let test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&head("GET", "/never", &[])).await.unwrap();
        send.finish().unwrap();
        test.running.hear(|event| matches!(event, Event::Began(_))).await;
        recv.stop(VarInt::from_u32(0x10c)).unwrap();
        connection.stable_id();
        tokio::task::yield_now().await;
        // Another request shows that the first one's end has come through.
        assert!(exchange(&connection, &head("GET", "/", &[]), b"").await.is_ok());
        test.running.hear(|event| *event == Event::Abandoned).await;
    });
}

#[test]
fn an_answer_may_come_before_the_request_has_ended() {
    let test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&[head("POST", "/refuse", &[]), frame(0, b"some")].concat()).await.unwrap();
        assert_eq!(answer_of(recv).await, Ok((401, "refused".into())));
        assert_eq!(send.stopped().await.unwrap(), Some(VarInt::from_u32(0x100)));
    });
}

#[test]
fn a_client_that_waits_for_it_is_told_to_continue() {
    let test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&head("POST", "/read", &[("expect", "100-continue")])).await.unwrap();
        let chunk = recv.read_chunk(4, true).await.unwrap().unwrap();
        assert_eq!(chunk.bytes.first(), Some(&1), "a HEADERS frame comes first");
        send.write_all(&frame(0, b"hello")).await.unwrap();
        send.finish().unwrap();
        let rest = recv.read_to_end(1 << 16).await.unwrap();
        assert!(String::from_utf8_lossy(&rest).ends_with("read 5"));
    });
}

#[test]
fn a_drain_lets_requests_end_and_refuses_what_comes_after() {
    let mut test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        let mut control = connection.accept_uni().await.unwrap();
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&head("GET", "/slow", &[])).await.unwrap();
        send.finish().unwrap();
        test.running.hear(|event| matches!(event, Event::Began(_))).await;
        let drain = test.running.server.take().unwrap().drain(Instant::now() + 10 * SECOND);
        assert_eq!(answer_of(recv).await, Ok((200, "slow".into())));
        assert_eq!(code(&connection.closed().await), NO_ERROR);
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = control.read_chunk(1 << 16, true).await {
            said.extend_from_slice(&chunk.bytes);
        }
        // GOAWAY: first for no request at all, then for the next one.
        let all = [&[0x07, 0x08][..], &[0xff; 7], &[0xfc]].concat();
        assert!(said.windows(all.len()).any(|window| window == all), "{said:02x?}");
        assert!(said.ends_with(&[0x07, 0x01, 0x04]), "{said:02x?}");
        drain.done().await;
    });
}

#[test]
fn streams_opened_to_be_reset_are_a_flood() {
    let test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        let ended = async {
            loop {
                let Ok((mut send, mut recv)) = connection.open_bi().await else { return };
                let _ = send.write_all(&head("GET", "/never", &[])).await;
                let _ = send.reset(VarInt::from_u32(0x10c));
                let _ = recv.stop(VarInt::from_u32(0x10c));
            }
        };
        ended.await;
        assert_eq!(code(&connection.closed().await), EXCESSIVE_LOAD);
    });
    assert_eq!(test.running.wait_closed(), Some(Verdict::Flood));
}

#[test]
fn frames_that_mean_nothing_are_a_flood_wherever_they_are() {
    let test = Http3Test::start(limits());
    let nothing = frame(0x21, b"").repeat(5000);
    run(async {
        let connection = test.connect().await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let _ = send.write_all(&nothing).await;
        assert_eq!(code(&connection.closed().await), EXCESSIVE_LOAD);
        let connection = test.connect().await;
        let mut control = connection.open_uni().await.unwrap();
        let _ = control.write_all(&[&[0][..], &frame(4, b""), &nothing].concat()).await;
        assert_eq!(code(&connection.closed().await), EXCESSIVE_LOAD);
    });
}

#[test]
fn no_more_streams_are_open_at_once_than_in_http2() {
    let test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        let mut open = Vec::new();
        for _ in 0..128 {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&head("GET", "/never", &[])).await.unwrap();
            send.finish().unwrap();
            open.push(recv);
        }
        let more = tokio::time::timeout(Duration::from_millis(200), connection.open_bi()).await;
        assert!(more.is_err(), "a 129th stream was let in");
        let mut own = Vec::new();
        for _ in 0..8 {
            own.push(connection.open_uni().await.unwrap());
        }
        assert!(tokio::time::timeout(Duration::from_millis(200), connection.open_uni()).await.is_err());
    });
}

#[test]
fn a_head_that_does_not_end_is_given_up_and_the_connection_goes_on() {
    let test = Http3Test::start(ServerLimits { header_timeout: Duration::from_millis(300), ..limits() });
    run(async {
        let connection = test.connect().await;
        assert!(exchange(&connection, &head("GET", "/", &[]), b"").await.is_ok());
        let get = head("GET", "/", &[]);
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(get.get(..10).unwrap()).await.unwrap();
        assert_eq!(answer_of(recv).await, Err(REQUEST_REJECTED));
        assert!(exchange(&connection, &get, b"").await.is_ok());
    });
}

/// In HTTP/2 a connection holds one head that has not ended; here each of its streams could.
#[test]
fn heads_that_do_not_end_hold_no_more_than_a_few_whole_ones_on_all_streams_together() {
    let test = Http3Test::start(ServerLimits { header_bytes: 16_384, ..limits() });
    run(async {
        let connection = test.connect().await;
        assert!(exchange(&connection, &head("GET", "/", &[]), b"").await.is_ok());
        let long = head("GET", "/", &[("x-long", &"v".repeat(16_000))]);
        let mut open = Vec::new();
        let mut rejected = 0;
        for _ in 0..40 {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(long.get(..15_900).unwrap()).await.unwrap();
            open.push((send, recv));
        }
        // Whoever goes on with one that is held is served; the others may be sent again.
        for (mut send, recv) in open {
            let _ = send.write_all(long.get(15_900..).unwrap()).await;
            let _ = send.finish();
            match answer_of(recv).await {
                Ok((status, _)) => assert_eq!(status, 200),
                Err(code) => {
                    assert_eq!(code, REQUEST_REJECTED);
                    rejected += 1;
                }
            }
        }
        assert!((30..40).contains(&rejected), "{rejected} of 40");
        // What was held is given back.
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(long.get(..15_900).unwrap()).await.unwrap();
        assert!(exchange(&connection, &head("GET", "/", &[]), b"").await.is_ok());
        send.write_all(long.get(15_900..).unwrap()).await.unwrap();
        send.finish().unwrap();
        assert!(answer_of(recv).await.is_ok());
    });
}

#[test]
fn a_connection_without_a_request_and_an_idle_one_are_closed() {
    let short = Duration::from_millis(300);
    let test = Http3Test::start(ServerLimits { header_timeout: short, keepalive_idle: short, ..limits() });
    run(async {
        let silent = test.connect().await;
        assert_eq!(code(&silent.closed().await), NO_ERROR);
        test.running.hear(|event| *event == Event::Closed(Some(Verdict::HeaderTimeout))).await;
        let idle = test.connect().await;
        assert!(exchange(&idle, &head("GET", "/", &[]), b"").await.is_ok());
        assert_eq!(code(&idle.closed().await), NO_ERROR);
        test.running.hear(|event| *event == Event::Closed(Some(Verdict::Idle))).await;
    });
}

#[test]
fn a_client_that_takes_nothing_and_one_that_gives_nothing_lose_their_stream_alone() {
    let test = Http3Test::start(ServerLimits { body_idle_timeout: Duration::from_millis(300), ..limits() });
    run(async {
        let connection = test.connect().await;
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&head("GET", "/big", &[])).await.unwrap();
        send.finish().unwrap();
        // Nothing of it is read, so that the window stays closed.
        let Event::Ended(end) = test.running.hear(|event| matches!(event, Event::Ended(_))).await else {
            panic!("ended")
        };
        assert_eq!(end.how, HowEnded::TimedOut);
        drop(recv);
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&head("POST", "/read", &[])).await.unwrap();
        assert_eq!(answer_of(recv).await, Ok((408, "too slow".into())));
        assert!(exchange(&connection, &head("GET", "/", &[]), b"").await.is_ok());
    });
}

#[test]
fn connections_beyond_the_limits_are_refused_and_their_places_come_back() {
    let test = Http3Test::start(ServerLimits { connections_per_ip: 2, ..limits() });
    run(async {
        let (first, _second) = (test.connect().await, test.connect().await);
        // Refused at once, or when its handshake has shown its address.
        if let Ok(third) = test.try_connect(None).await {
            assert_eq!(code(&third.closed().await), EXCESSIVE_LOAD);
        }
        test.running.hear(|event| *event == Event::Refused(Refused::TooManyFromAddress)).await;
        first.close(VarInt::from_u32(0x100), b"");
        test.running.hear(|event| matches!(event, Event::Closed(_))).await;
        assert!(test.try_connect(None).await.is_ok());
    });
}

/// Takes an answer of a mebibyte over a line of some 300 kB/s, so in longer than a connection may be idle.
async fn take_slowly(test: &mut Http3Test, meanwhile: impl FnOnce(&mut Http3Test)) -> usize {
    let (outer, inner) = (udp().await, udp().await);
    inner.connect(test.running.address()).await.unwrap();
    let endpoint = test.endpoint(None);
    outer.connect(("127.0.0.1", endpoint.local_addr().unwrap().port())).await.unwrap();
    let line = outer.local_addr().unwrap();
    let (outer, inner) = (Arc::new(outer), Arc::new(inner));
    let up = tokio::spawn(carry(Arc::clone(&outer), Arc::clone(&inner), None));
    let down = tokio::spawn(carry(inner, outer, Some(Duration::from_millis(4))));
    let connection = endpoint.connect(line, "a.example").unwrap().await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&head("GET", "/some", &[])).await.unwrap();
    send.finish().unwrap();
    // All of it is with QUIC, and little of it with the client.
    let Event::Ended(end) = test.running.hear(|event| matches!(event, Event::Ended(_))).await else { return 0 };
    assert_eq!(end.how, HowEnded::Complete);
    meanwhile(test);
    let mut taken = 0;
    while let Some(chunk) = recv.read_chunk(1 << 16, true).await.unwrap_or_else(|error| panic!("{taken}: {error}")) {
        taken += chunk.bytes.len();
    }
    up.abort();
    down.abort();
    taken
}

/// Carries packets one way.
async fn carry(from: Arc<tokio::net::UdpSocket>, to: Arc<tokio::net::UdpSocket>, each: Option<Duration>) {
    let mut packet = vec![0; 65_536];
    while let Ok(length) = from.recv(&mut packet).await {
        let _ = to.send(packet.get(..length).unwrap()).await;
        if let Some(each) = each {
            tokio::time::sleep(each).await;
        }
    }
}

#[test]
fn a_client_that_is_still_taking_its_answer_is_not_idle() {
    let mut test = Http3Test::start(ServerLimits { keepalive_idle: Duration::from_millis(300), ..limits() });
    assert!(run(take_slowly(&mut test, |_| {})) > 1 << 20);
}

#[test]
fn a_drain_waits_for_clients_that_are_still_taking_their_answers() {
    let mut test = Http3Test::start(limits());
    let mut drain = None;
    run(async {
        let begin = |test: &mut Http3Test| {
            drain = test.running.server.take().map(|server| server.drain(Instant::now() + 15 * SECOND));
        };
        assert!(take_slowly(&mut test, begin).await > 1 << 20);
        drain.unwrap().done().await;
    });
}

#[test]
fn streams_without_a_request_are_a_flood_and_so_are_those_that_say_nothing() {
    let test = Http3Test::start(limits());
    run(async {
        let connection = test.connect().await;
        for bytes in [&b""[..], &frame(1, &section(&[(":method", "GET")]))].into_iter().cycle() {
            match exchange(&connection, bytes, b"").await {
                Err(REQUEST_INCOMPLETE | MESSAGE_ERROR) => {}
                ended => {
                    assert_eq!(ended, Err(EXCESSIVE_LOAD));
                    break;
                }
            }
        }
        let connection = test.connect().await;
        while let Ok(mut stream) = connection.open_uni().await {
            let _ = stream.finish();
        }
        assert_eq!(code(&connection.closed().await), EXCESSIVE_LOAD);
    });
}

#[test]
fn packets_with_anothers_address_keep_that_one_from_nothing() {
    let test = Http3Test::start(ServerLimits { connections_per_ip: 1, ..limits() });
    run(async {
        // Lets one packet through each way, as whoever writes another's address on it never sees the answer.
        let (outer, inner) = (udp().await, udp().await);
        inner.connect(test.running.address()).await.unwrap();
        let endpoint = test.endpoint(None);
        let connecting = endpoint.connect(outer.local_addr().unwrap(), "a.example").unwrap();
        let mut packet = vec![0; 2048];
        let length = outer.recv(&mut packet).await.unwrap();
        inner.send(packet.get(..length).unwrap()).await.unwrap();
        inner.recv(&mut packet).await.unwrap();
        let tls = client_config(&[&test.roots], &[b"http/1.1"], None);
        let mut client = super::tls::connect(&test.running, &tls, "a.example");
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
        assert_eq!(answer(&mut client), (200, "hello".into()));
        drop(connecting);
    });
}

async fn udp() -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap()
}
