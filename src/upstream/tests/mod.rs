//! Real sockets: services that behave, and services that misbehave in each way there is.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should panic")]

mod balancing;
mod careful;
mod compiling;
mod exchanges;
mod faults;
mod http2;
mod reach;
mod reuse;
mod tls;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::LocalOptions,
    sync::mpsc,
    task::spawn_local,
};

use super::*;
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{self, Materials, Span, UpstreamHost},
};

/// Long enough that no test reaches it unless something hangs.
const AMPLE: Duration = Duration::from_secs(20);
/// Short enough to wait for.
const BRIEF: Duration = Duration::from_millis(80);

/// Runs a test as a worker runs, on one thread.
fn worker<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        spawn_local(crate::cork::uncork());
        tokio::time::timeout(AMPLE * 2, test).await.unwrap_or_else(|_| panic!("the test hangs"))
    })
}

/// A request's body that a test feeds.
struct Fed(mpsc::UnboundedReceiver<Result<Frame<Bytes>, std::io::Error>>);
type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;

/// The request body of these tests: nothing, bytes, or what is fed.
enum TestBody {
    Whole(http_body_util::Full<Bytes>),
    Fed(Fed),
    /// What is fed, though it said that it would be so many bytes.
    Promised(Fed, u64),
    /// What is fed, and how often it was asked for.
    Counted(Fed, Rc<Cell<u32>>),
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Fed(Fed(frames)) | Self::Promised(Fed(frames), _) => frames.poll_recv(cx),
            Self::Counted(Fed(frames), asked) => {
                asked.set(asked.get() + 1);
                frames.poll_recv(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Fed(_) | Self::Promised(..) | Self::Counted(..) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Fed(_) | Self::Counted(..) => http_body::SizeHint::default(),
            Self::Promised(_, length) => http_body::SizeHint::with_exact(*length),
        }
    }
}

fn request(method: Method, path: &'static str) -> Request<TestBody> {
    with_body(method, path, "")
}

fn with_body(method: Method, path: &'static str, body: impl Into<Bytes>) -> Request<TestBody> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.example")
        .body(TestBody::Whole(http_body_util::Full::new(body.into())))
        .unwrap()
}

fn fed(method: Method, path: &'static str) -> (Feed, Request<TestBody>) {
    let (feed, frames) = mpsc::unbounded_channel();
    let request =
        Request::builder().method(method).uri(path).header("host", "api.example").body(TestBody::Fed(Fed(frames)));
    (feed, request.unwrap())
}

/// A request whose body is said to be so long.
fn promised(request: Request<TestBody>, length: u64) -> Request<TestBody> {
    request.map(|body| match body {
        TestBody::Fed(fed) => TestBody::Promised(fed, length),
        other @ (TestBody::Whole(_) | TestBody::Promised(..) | TestBody::Counted(..)) => other,
    })
}

/// A request whose body counts how often it is asked for.
fn counted(request: Request<TestBody>) -> (Rc<Cell<u32>>, Request<TestBody>) {
    let asked = Rc::new(Cell::new(0));
    let request = request.map(|body| match body {
        TestBody::Fed(fed) => TestBody::Counted(fed, Rc::clone(&asked)),
        other @ (TestBody::Whole(_) | TestBody::Promised(..) | TestBody::Counted(..)) => other,
    });
    (asked, request)
}

fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::data(bytes.into()))
}

/// A worker's pools, and what they told.
#[derive(Clone)]
struct Client {
    pools: Pools<TestBody>,
    told: Rc<Told>,
}

#[derive(Default)]
struct Told {
    opened: Cell<u32>,
    reused: Cell<u32>,
    retried: Cell<u32>,
    faults: RefCell<Vec<FaultKind>>,
    ejected: RefCell<Vec<String>>,
    readmitted: RefCell<Vec<String>>,
}

struct Observer(Rc<Told>);

impl UpstreamObserver for Observer {
    fn service(&self, _: &str) -> Rc<dyn ServiceObserver> {
        Rc::clone(&self.0) as Rc<dyn ServiceObserver>
    }
}

impl ServiceObserver for Told {
    fn opened(&self) {
        self.opened.set(self.opened.get() + 1);
    }
    fn reused(&self) {
        self.reused.set(self.reused.get() + 1);
    }
    fn retried(&self, _: Repetition) {
        self.retried.set(self.retried.get() + 1);
    }
    fn fault(&self, kind: FaultKind) {
        self.faults.borrow_mut().push(kind);
    }
    fn ejected(&self, target: &str) {
        self.ejected.borrow_mut().push(target.to_owned());
    }
    fn readmitted(&self, target: &str) {
        self.readmitted.borrow_mut().push(target.to_owned());
    }
}

impl Client {
    fn new() -> Self {
        let told = Rc::new(Told::default());
        Self { pools: Pools::new(Observer(Rc::clone(&told))), told }
    }

    async fn send(
        &self,
        service: &Arc<Service>,
        request: Request<TestBody>,
    ) -> Result<Answer<TestBody>, UpstreamFault> {
        self.send_at(service, request, SystemClock.now()).await
    }

    async fn send_at(
        &self,
        service: &Arc<Service>,
        request: Request<TestBody>,
        now: Now,
    ) -> Result<Answer<TestBody>, UpstreamFault> {
        self.pools.send(service, request, &Sending::plain(now)).await
    }

    /// Sends a GET and reads the whole answer.
    async fn text(&self, service: &Arc<Service>) -> Result<String, UpstreamFault> {
        Ok(read(self.send(service, request(Method::GET, "/")).await?).await?.0)
    }

    /// Sends a request and reads the whole answer.
    async fn text_of(&self, service: &Arc<Service>, request: Request<TestBody>) -> Result<String, UpstreamFault> {
        Ok(read(self.send(service, request).await?).await?.0)
    }

    async fn fault(&self, service: &Arc<Service>, request: Request<TestBody>) -> UpstreamFault {
        match self.send(service, request).await {
            Ok(answer) => panic!("an answer: {}", answer.status()),
            Err(fault) => fault,
        }
    }
}

async fn read(answer: Answer<TestBody>) -> Result<(String, Option<HeaderMap>), UpstreamFault> {
    let body = answer.into_body().collect().await?;
    let trailers = body.trailers().cloned();
    Ok((String::from_utf8(body.to_bytes().to_vec()).unwrap(), trailers))
}

/// A service of one target or several, with ample time.
fn service_of(targets: &[SocketAddr]) -> Arc<Service> {
    service(config_of(targets.iter().map(|at| target(false, &at.ip().to_string(), at.port())).collect()))
}

fn service(upstream: config::Upstream) -> Arc<Service> {
    compile(upstream, &Files::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn compile(upstream: config::Upstream, files: &Files) -> Result<Arc<Service>, Vec<config::Problem>> {
    let upstreams = Upstreams::compile(&[Arc::new(upstream)], files, None)?;
    if let Ok(background) = tokio::runtime::Handle::try_current() {
        upstreams.put_in_force(&background, &config::Dns::default());
    }
    Ok(upstreams.get("api").unwrap())
}

fn config_of(targets: Vec<config::UpstreamTarget>) -> config::Upstream {
    config::Upstream {
        span: Span::default(),
        name: "api".into(),
        targets,
        request_timeout: None,
        balancing: config::Balancing::default(),
        connect_timeout: AMPLE,
        response_timeout: AMPLE,
        identity_headers: true,
        forward_authorization: false,
        credential: None,
        assertion: None,
        method_override: vec![],
        form_bytes: 0,
        host: UpstreamHost::Preserve,
        ca: None,
        protocol: config::UpstreamProtocol::Http1,
        proxy_protocol: None,
        tls: config::UpstreamTls::default(),
    }
}

fn impatient(address: SocketAddr) -> Arc<Service> {
    let mut config = config_of(vec![target(false, &address.ip().to_string(), address.port())]);
    config.response_timeout = BRIEF;
    service(config)
}

fn target(tls: bool, host: &str, port: u16) -> config::UpstreamTarget {
    config::UpstreamTarget {
        address: config::Target { tls, host: host.into(), port },
        weight: 1,
        reach: config::Reach::Host,
    }
}

/// Files and variables in memory.
#[derive(Default)]
struct Files {
    files: HashMap<PathBuf, Vec<u8>>,
    variables: HashMap<String, String>,
}

impl Materials for Files {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

/// A service that does with each connection, counted from 0, what the test says.
async fn upstream<F, R>(behave: F) -> SocketAddr
where
    F: Fn(Wire, usize) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        for nth in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            spawn_local(behave(Wire(stream), nth));
        }
    });
    address
}

/// Answers the head of a request, and tells when its connection is closed.
async fn saying_and_waiting(answer: impl Into<String>) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let (answer, (seen, ended)) = (answer.into(), mpsc::unbounded_channel());
    let address = upstream(move |mut wire, _| {
        let (answer, seen) = (answer.clone(), seen.clone());
        async move {
            wire.head().await;
            wire.say(answer).await;
            wire.closed().await;
            let _ = seen.send(());
        }
    })
    .await;
    (address, ended)
}

/// An address where nobody listens, and that nobody else is given while the socket is held.
fn nobody() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

/// Somebody listens at last, and answers on one connection.
fn somebody(socket: TcpSocket) {
    let listener = socket.listen(16).unwrap();
    spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        Wire(stream).answer_all(OK).await;
    });
}

/// The service's end of a connection.
struct Wire(TcpStream);

impl Wire {
    /// Reads a request's head; `None` at the end of the connection.
    async fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n").await
    }

    /// Reads up to and with `mark`.
    async fn until(&mut self, mark: &str) -> Option<String> {
        let mut seen = Vec::new();
        loop {
            match self.0.read_u8().await {
                Ok(byte) => seen.push(byte),
                Err(_) => return None,
            }
            if seen.ends_with(mark.as_bytes()) {
                return Some(String::from_utf8(seen).unwrap());
            }
        }
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// Waits until the other side closes.
    async fn closed(&mut self) {
        let mut rest = [0; 1024];
        while matches!(self.0.read(&mut rest).await, Ok(1..)) {}
    }

    /// Answers every request that has this body.
    async fn answer_all_with(mut self, body: &str, answer: &str) {
        while self.head().await.is_some() && self.until(body).await.is_some() {
            self.say(answer).await;
        }
    }

    /// Answers every request with the same bytes.
    async fn answer_all(mut self, answer: &str) {
        while self.head().await.is_some() {
            self.say(answer).await;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An answer that is too long to come together with its head, so that its connection is used until it has been read.
fn long() -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{}", "x".repeat(20_000))
}

/// Lets every other task run until nothing is left to do but to wait.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// The present moment, later.
fn now_plus(duration: Duration) -> Now {
    SystemClock.now().after(duration)
}
