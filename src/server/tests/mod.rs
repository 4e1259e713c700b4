//! What the tests of this room share: a small service, a server on real sockets, and a blocking client.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails should say where")]

mod http1;
mod http2;
mod http3;
mod life;
mod limits;
mod tls;

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc as std_mpsc,
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use rustls::{crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer, sign::CertifiedKey};

use super::*;
use crate::{
    body::{
        BodyFault, Bounds, ConnectionInfo, HowEnded, Received, RequestBody, ResponseBody, StreamEnd, Switch, Tail,
        Verdict, check_framing,
    },
    config::ServerLimits,
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn bounds() -> Bounds {
    Bounds {
        tls_handshake_timeout: 10 * SECOND,
        header_timeout: 10 * SECOND,
        keepalive_idle: 15 * SECOND,
        body_idle_timeout: 10 * SECOND,
        body_min_rate: 1024,
        write_stall_timeout: 25 * SECOND,
        refused_body_timeout: 20 * SECOND,
        refused_body_bytes: 1 << 20,
    }
}

/// Bounds that no test meets but on purpose.
pub(super) fn limits() -> ServerLimits {
    ServerLimits {
        header_timeout: 30 * SECOND,
        tls_handshake_timeout: 30 * SECOND,
        body_idle_timeout: 30 * SECOND,
        body_min_rate: 1024,
        keepalive_idle: 30 * SECOND,
        write_stall_timeout: 30 * SECOND,
        refused_body_timeout: 30 * SECOND,
        header_bytes: 64 * 1024,
        headers: 200,
        uri_bytes: 16 * 1024,
        body_bytes: 10 << 20,
        connections: 1000,
        connections_per_ip: 1000,
    }
}

pub(super) fn certified_key(names: &[&str]) -> CertifiedKey {
    let (cert, key) = pem_pair(names);
    let cert = rustls::pki_types::pem::PemObject::from_pem_slice(cert.as_bytes()).unwrap();
    let key: PrivateKeyDer<'static> = rustls::pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap();
    CertifiedKey::from_der(vec![cert], key, &default_provider()).unwrap()
}

/// A self-signed certificate and its key.
pub(super) fn pem_pair(names: &[&str]) -> (String, String) {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// What a test learns of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Began(String),
    Body(Result<usize, BodyFault>),
    Abandoned,
    Ended(StreamEnd),
    Closed(Option<Verdict>),
    Refused(Refused),
    Handshake(Handshake),
    Certificate(std::path::PathBuf),
    Reloaded(bool),
}

#[derive(Debug, Clone)]
struct Log(std_mpsc::Sender<Event>);

impl Log {
    fn say(&self, event: Event) {
        let _ = self.0.send(event);
    }
}

impl Tail for Log {
    fn end(self, end: StreamEnd) {
        self.say(Event::Ended(end));
    }
}

struct Observer(Mutex<Log>);

impl Observer {
    fn say(&self, event: Event) {
        self.0.lock().unwrap().say(event);
    }
}

impl EdgeObserver for Observer {
    fn handshake(&self, _: &str, outcome: Handshake) {
        self.say(Event::Handshake(outcome));
    }
    fn connection_opened(&self, _: &str) {}
    fn connection_closed(&self, _: &str, verdict: Option<Verdict>) {
        self.say(Event::Closed(verdict));
    }
    fn connection_refused(&self, _: &str, why: Refused) {
        self.say(Event::Refused(why));
    }
    fn certificate(&self, _: &str, file: &std::path::Path, _: std::time::SystemTime) {
        self.say(Event::Certificate(file.to_owned()));
    }
    fn certificates_reloaded(&self, _: &str, result: Result<(), &TlsError>) {
        self.say(Event::Reloaded(result.is_ok()));
    }
}

/// Answers by path: `/read` reads the body whole, `/refuse` does not look at it, `/big` is long, `/never` hangs, `/switch` reads what
/// comes over a switched stream.
struct Sample {
    log: Log,
}

struct OnDrop(Log);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.say(Event::Abandoned);
    }
}

impl Serve for Sample {
    type Tail = Log;

    async fn serve(&self, info: Rc<ConnectionInfo>, request: Request<Received>) -> Response<ResponseBody<Log>> {
        let (head, body) = request.into_parts();
        self.log.say(Event::Began(head.uri.path().to_owned()));
        let body = RequestBody::new(body, &info.watch, 1 << 20);
        let status = |status, text: String| {
            let mut response = Response::new(ResponseBody::full(text, self.log.clone()));
            *response.status_mut() = status;
            response
        };
        if check_framing(head.version, &head.headers, 200).is_err() {
            let mut response = status(StatusCode::BAD_REQUEST, String::new());
            response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
            return response;
        }
        match head.uri.path() {
            "/read" => {
                let read = body.read_whole(1 << 20).await;
                self.log.say(Event::Body(read.as_ref().map(Bytes::len).map_err(|fault| *fault)));
                match read {
                    Ok(bytes) => status(StatusCode::OK, format!("read {}", bytes.len())),
                    Err(BodyFault::TooLarge) => status(StatusCode::PAYLOAD_TOO_LARGE, "too large".into()),
                    Err(BodyFault::TimedOut) => status(StatusCode::REQUEST_TIMEOUT, "too slow".into()),
                    Err(BodyFault::ClientGone | BodyFault::Malformed) => status(StatusCode::BAD_REQUEST, "bad".into()),
                }
            }
            "/refuse" => status(StatusCode::UNAUTHORIZED, "refused".into()),
            "/big" => Response::new(ResponseBody::full(vec![b'x'; 32 << 20], self.log.clone())),
            "/some" => Response::new(ResponseBody::full(vec![b'x'; 1 << 20], self.log.clone())),
            "/switch" => {
                use tokio::io::AsyncReadExt as _;
                let log = self.log.clone();
                Response::new(ResponseBody::switched(Switch::new(async move |mut client| {
                    let mut read = Vec::new();
                    let end = client.as_mut().read_to_end(&mut read).await;
                    log.say(Event::Body(end.map_err(|_| BodyFault::ClientGone)));
                    // As a service that is silent: only a client that is gone ends it.
                    poll_fn(|cx| match client.as_mut().poll_flush(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(()),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    })
                    .await;
                    log.say(Event::Abandoned);
                })))
            }
            "/never" => {
                let _abandoned = OnDrop(self.log.clone());
                std::future::pending().await
            }
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                status(StatusCode::OK, "slow".into())
            }
            "/certificate" => {
                let shown = info.tls.as_ref().is_some_and(|tls| tls.client_certificate.is_some());
                status(StatusCode::OK, if shown { "shown" } else { "none" }.into())
            }
            "/info" => {
                let tls = info.tls.as_ref();
                let sni = tls.and_then(|tls| tls.sni.as_deref()).unwrap_or("none");
                status(StatusCode::OK, format!("{:?} sni={sni} from={}", head.version, info.peer.ip()))
            }
            _ => status(StatusCode::OK, "hello".into()),
        }
    }
}

/// A server with the sample service, and what it has said.
pub(super) struct Running {
    server: Option<Server>,
    events: std_mpsc::Receiver<Event>,
}

impl Running {
    pub(super) fn start(plan: &ServerPlan) -> Self {
        let (sender, events) = std_mpsc::channel();
        let log = Log(sender);
        let observer = Arc::new(Observer(Mutex::new(log.clone())));
        let log = Mutex::new(log);
        let factory = move |_| Rc::new(Sample { log: log.lock().unwrap().clone() });
        Self { server: Some(Server::start(plan, factory, observer).unwrap()), events }
    }

    /// One worker on one cleartext listener.
    pub(super) fn cleartext(limits: ServerLimits) -> Self {
        Self::start(&plan(&[PlanMode::Cleartext], limits))
    }

    pub(super) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server().local_addresses().first().unwrap().socket().unwrap()
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(10 * SECOND)).unwrap();
        stream
    }

    /// The next event that is wanted, leaving out others.
    pub(super) fn wait_for(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        let deadline = Instant::now() + 10 * SECOND;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if wanted(&event) => return event,
                Ok(_) => {}
                Err(error) => panic!("no such event came: {error}"),
            }
        }
    }

    /// The same without keeping the thread, for a client that runs on it.
    pub(super) async fn hear(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            match self.events.try_recv() {
                Ok(event) if wanted(&event) => return event,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    pub(super) fn wait_closed(&self) -> Option<Verdict> {
        let Event::Closed(verdict) = self.wait_for(|event| matches!(event, Event::Closed(_))) else { return None };
        verdict
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.drain(Instant::now()).wait();
        }
    }
}

pub(super) fn plan(modes: &[PlanMode], limits: ServerLimits) -> ServerPlan {
    let listeners =
        modes.iter().map(|mode| ListenerPlan::plain("test".into(), "127.0.0.1:0".parse().unwrap(), mode.clone()));
    ServerPlan { workers: 1, listeners: listeners.collect(), limits }
}

/// Sends `request` and reads one answer: its status and body.
pub(super) fn exchange(stream: &mut TcpStream, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream)
}

/// Reads one answer with a Content-Length.
pub(super) fn answer(stream: &mut impl Read) -> (u16, String) {
    let (head, rest) = head(stream);
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse::<usize>().unwrap());
    let mut body = rest;
    let mut more = vec![0; length - body.len()];
    stream.read_exact(&mut more).unwrap();
    body.extend_from_slice(&more);
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

/// Reads a byte; nothing from a connection that is closed.
pub(super) fn read_one(stream: &mut impl Read) -> Option<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok().map(|()| byte[0])
}

/// Reads a head; reads no byte beyond it.
pub(super) fn head(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut byte).unwrap();
        assert_eq!(count, 1, "closed within a head: {:?}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&byte);
    }
    (String::from_utf8(head).unwrap(), Vec::new())
}

/// Reads until the other side has closed; a reset counts as that.
pub(super) fn read_to_close(stream: &mut impl Read) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// How long `f` takes.
pub(super) fn timed<T>(f: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = f();
    (start.elapsed(), value)
}
