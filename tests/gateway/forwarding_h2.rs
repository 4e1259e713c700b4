//! What crosses the gateway from a client of HTTP/2 to a service of HTTP/1.1: bodies as they come, trailers, answers that come
//! early, and streams whose client is gone while its connection, and the others on it, go on.

use std::{
    future::{Future, poll_fn},
    io::{Read, Write},
    net::TcpStream,
    sync::{Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::runtime::Runtime;

use crate::harness::{
    Gateway, PATIENCE, Recorder, World, eventually,
    h2::{H2, get},
    tools::{curl, nghttp},
};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

fn start(upstream: Recorder) -> (World, Gateway) {
    let world = World::with(upstream);
    let gateway = world.start(OPEN);
    (world, gateway)
}

/// curl throws an answer away for a reset that comes right behind it; most refusals of requests with a body never got there.
#[test]
fn curl_sees_why_a_request_with_a_body_was_refused() {
    let world = World::new();
    let gateway = world.start("routes:\n  - {path: /private/**, upstream: api, auth: [main]}\n");
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", gateway.port);
    let big = world.folder().join("big");
    std::fs::write(&big, vec![b'x'; 4 << 20]).unwrap();
    let big = format!("@{}", big.display());
    let body: [&str; 3] = ["amount=100", &"x".repeat(60_000), &big];
    for (path, status) in [("/private/x", "401"), ("/nothing", "404")] {
        for (at, body) in (0..20).flat_map(|at| body.map(|body| (at, body))) {
            let finished = curl(&[
                "--http2-prior-knowledge",
                "--data-binary",
                body,
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                &url(path),
            ]);
            assert_eq!((finished.code, &*finished.stdout), (0, status), "{at}, {} bytes: {finished:?}", body.len());
        }
    }
    world.upstream.assert_untouched();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A client by prior knowledge. A thread of its own drives its one connection.
struct Client {
    requests: SendRequest<Bytes>,
    runtime: Runtime,
}

impl Client {
    fn connect(gateway: &Gateway) -> Self {
        let (told, connected) = mpsc::channel();
        let port = gateway.port;
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (requests, connection) = h2::client::handshake(stream).await.unwrap();
                told.send(requests).unwrap();
                // It ends with the last of its handles, or by the gateway's doing, which the requests tell.
                let _ = connection.await;
            });
        });
        Self { requests: connected.recv_timeout(PATIENCE).unwrap(), runtime: runtime() }
    }

    /// Waits for something.
    #[track_caller]
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("waited in vain")
    }

    /// Sends a head, and leaves its body open.
    fn begin(
        &self,
        method: Method,
        path: &str,
        fields: &[(&'static str, &'static str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::builder().method(method).uri(format!("http://gateway.example{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut requests = self.wait(self.requests.clone().ready()).unwrap();
        requests.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// Sends a request without a body.
    fn ask(&self, path: &str) -> ResponseFuture {
        let (answer, mut body) = self.begin(Method::GET, path, &[]);
        body.send_data(Bytes::new(), true).unwrap();
        answer
    }

    fn answer(&self, answer: ResponseFuture) -> Response<RecvStream> {
        self.wait(answer).unwrap()
    }

    /// The next piece of a body; `None` at its end.
    fn piece(&self, body: &mut RecvStream) -> Option<Bytes> {
        let piece = self.wait(body.data())?.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        Some(piece)
    }

    /// The rest of a body and its trailers.
    fn rest(&self, mut body: RecvStream) -> (String, HeaderMap) {
        let mut text = Vec::new();
        while let Some(piece) = self.piece(&mut body) {
            text.extend_from_slice(&piece);
        }
        let trailers = self.wait(body.trailers()).unwrap().unwrap_or_default();
        (String::from_utf8(text).unwrap(), trailers)
    }
}

/// Reads a head from a socket, and gives its target.
fn target(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().split(' ').nth(1).map(str::to_owned)
}

#[test]
fn bodies_are_passed_on_as_they_come_both_ways() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let recorder = Recorder::with(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").is_ok()
    });
    let (world, gateway) = start(recorder);
    let client = Client::connect(&gateway);
    let (answer, mut body) = client.begin(Method::POST, "/x", &[]);
    body.send_data("first".into(), false).unwrap();
    eventually("the first half", || String::from_utf8_lossy(&world.upstream.bytes()).contains("first").then_some(()));
    body.send_data("second".into(), true).unwrap();
    let mut answer = client.answer(answer).into_body();
    assert_eq!(world.upstream.last().body, b"firstsecond");
    assert_eq!(client.piece(&mut answer).as_deref(), Some(&b"first"[..]), "before the service says the rest");
    go.send(()).unwrap();
    assert_eq!(client.rest(answer).0, "second");
}

#[test]
fn trailers_cross_in_both_directions_and_carry_nothing_that_is_the_gateways_to_say() {
    let (world, gateway) = start(Recorder::answering(
        "HTTP/1.1 200 OK\r\nTrailer: X-Upstream\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\nX-Upstream: late\r\nConnection: close\r\n\r\n",
    ));
    let client = Client::connect(&gateway);
    let (answer, mut body) = client.begin(Method::POST, "/x", &[("te", "trailers"), ("trailer", "x-sum")]);
    body.send_data("hello".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    for (name, value) in [("x-sum", "42"), ("authorization", "Bearer evil"), ("x-auth-subject", "evil")] {
        trailers.insert(name, HeaderValue::from_static(value));
    }
    body.send_trailers(trailers).unwrap();
    let answer = client.answer(answer);
    let seen = world.upstream.last();
    assert_eq!(seen.body, b"hello");
    assert_eq!(seen.trailers.to_lowercase(), "x-sum: 42\n");
    assert!(!seen.has("x-sum"), "trailers never become headers: {}", seen.head);
    for name in ["transfer-encoding", "connection"] {
        assert!(!answer.headers().contains_key(name), "RFC 9113 section 8.2.2: {answer:?}");
    }
    let (text, trailers) = client.rest(answer.into_body());
    assert_eq!(text, "abc");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(trailers["x-upstream"], "late");
    let record = gateway.access(|record| record["path"] == "/x");
    assert_eq!(record["reason"], "allowed", "all of it was sent: {record}");
}

#[test]
fn who_waits_before_it_sends_is_refused_at_once_or_told_to_go_on() {
    let world = World::new();
    let gateway = world.start(
        "routes:\n  - {path: /open, upstream: api, auth: none}\n  - {path: /closed, upstream: api, auth: [main]}\n",
    );
    let client = Client::connect(&gateway);
    let fields = [("expect", "100-continue"), ("content-length", "5")];
    let (refused, _never_sent) = client.begin(Method::POST, "/closed", &fields);
    assert_eq!(client.answer(refused).status(), 401);
    world.upstream.assert_untouched();
    let (mut answer, mut body) = client.begin(Method::POST, "/open", &fields);
    let told = client.wait(poll_fn(|cx| answer.poll_informational(cx))).unwrap().unwrap();
    assert_eq!(told.status(), 100);
    body.send_data("hello".into(), true).unwrap();
    assert_eq!(client.answer(answer).status(), 200);
    assert_eq!(world.upstream.last().body, b"hello");
}

#[test]
fn nghttp_waits_for_a_100_before_it_sends_and_its_body_arrives() {
    let world = World::new();
    let gateway = world.start(OPEN);
    let file = world.folder().join("upload");
    std::fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let url = format!("http://127.0.0.1:{}/upload", gateway.port);
    let said = nghttp(&["--verbose", "--expect-continue", "--data", file.to_str().unwrap(), &url]);
    // Without a 100 it waits for a second, and sends all the same.
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("{what}: {said}"));
    assert!(at(":status: 100") < at("send DATA frame") && at("send DATA frame") < at(":status: 200"), "{said}");
    assert_eq!(world.upstream.last().body.len(), 200_000);
}

#[test]
fn an_early_answer_ends_the_clients_sending_without_an_error_and_the_connection_goes_on() {
    let recorder = Recorder::raw(|mut stream, _| {
        if target(&mut stream).is_some() {
            stream.write_all(b"HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly").unwrap();
            let mut rest = [0; 4096];
            while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
        }
    });
    let (_world, gateway) = start(recorder);
    let client = Client::connect(&gateway);
    for _ in 0..2 {
        let (answer, mut body) = client.begin(Method::POST, "/x", &[("content-length", "1000000")]);
        body.send_data("only this much".into(), false).unwrap();
        let answer = client.answer(answer);
        assert_eq!(answer.status(), 409);
        assert_eq!(client.rest(answer.into_body()).0, "early");
        let end = client.wait(poll_fn(|cx| body.poll_reset(cx))).unwrap();
        assert_eq!(end, Reason::NO_ERROR, "RFC 9113 section 8.1");
    }
}

#[test]
fn a_stream_that_its_client_resets_takes_its_upstream_request_along_and_no_other() {
    let ((told, gone), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    let (told, wait) = (Mutex::new(told), Mutex::new(wait));
    let (began, begun) = mpsc::channel();
    let began = Mutex::new(began);
    let recorder = Recorder::raw(move |mut stream, _| {
        let Some(target) = target(&mut stream) else { return };
        began.lock().unwrap().send(()).unwrap();
        if target == "/given-up" {
            // The end of the gateway's connection: it dropped the request.
            let end = stream.read(&mut [0; 16]).unwrap_or(0);
            let _ = told.lock().unwrap().send(end);
        } else {
            wait.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept").unwrap();
        }
    });
    let (_world, gateway) = start(recorder);
    let client = Client::connect(&gateway);
    let kept = client.ask("/kept");
    let (_no_answer, mut given_up) = client.begin(Method::POST, "/given-up", &[]);
    for _ in 0..2 {
        begun.recv_timeout(PATIENCE).expect("both requests reach their service");
    }
    given_up.send_reset(Reason::CANCEL);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(0));
    go.send(()).unwrap();
    let kept = client.answer(kept);
    assert_eq!(client.rest(kept.into_body()).0, "kept");
    let record = gateway.access(|record| record["path"] == "/given-up");
    assert_eq!((&record["reason"], &record["protocol"]), (&"client_gone".into(), &"HTTP/2.0".into()), "{record}");
}

#[test]
fn a_connection_that_is_gone_takes_the_requests_of_all_its_streams_along() {
    let ((told, gone), (began, begun)) = (mpsc::channel(), mpsc::channel());
    let (told, began) = (Mutex::new(told), Mutex::new(began));
    let recorder = Recorder::raw(move |mut stream, _| {
        if target(&mut stream).is_some() {
            began.lock().unwrap().send(()).unwrap();
            stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(5))).unwrap();
            let _ = told.lock().unwrap().send(stream.read(&mut [0; 16]).unwrap_or(0));
        }
    });
    let (_world, gateway) = start(recorder);
    let mut h2 = H2::over(gateway.connect());
    for stream in [1, 3, 5] {
        h2.request(stream, &get("/x"));
    }
    for _ in 0..3 {
        begun.recv_timeout(PATIENCE).expect("each request reaches its service");
    }
    drop(h2);
    for _ in 0..3 {
        assert_eq!(gone.recv_timeout(PATIENCE), Ok(0));
    }
    eventually("a record of each", || {
        let gone = gateway.access_now().iter().filter(|record| record["reason"] == "client_gone").count();
        (gone == 3).then_some(())
    });
}
