//! One client's connection, from its first byte to its last: hyper speaks, the watch's verdicts are carried out.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::{body::Incoming, rt::Executor, service::service_fn};

use super::{
    settings::HttpSettings,
    wire::{Transport, Wire},
};
use crate::body::{ConnectionInfo, ConnectionWatch, Exchange, Protocol, ResponseBody, Serve, StreamCut, Verdict};

/// The most that is read off a client after our side has closed.
const LINGER_BYTES: usize = 1 << 20;

/// Frames of a refused body that are read off before others get their turn.
const DISCARD_BURST: usize = 32;

/// Waits for `future` as long as the watch passes no verdict.
pub(super) async fn until_verdict<F: Future>(watch: &ConnectionWatch, future: F) -> Result<F::Output, Verdict> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        watch.register(cx.waker());
        if let Some(verdict) = watch.verdict() {
            return Poll::Ready(Err(verdict));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Tells the connections of a listener to end when their exchanges have.
#[derive(Debug, Default)]
pub(super) struct Draining {
    begun: Cell<bool>,
    /// Connections that have had no request yet get a moment to send the one that may be on its way.
    strict: Cell<bool>,
}

impl Draining {
    pub(super) fn begin(&self) {
        self.begun.set(true);
    }

    pub(super) fn be_strict(&self) {
        self.strict.set(true);
    }

    fn applies_to(&self, watch: &ConnectionWatch) -> bool {
        self.begun.get() && (watch.exchanges() > 0 || self.strict.get())
    }
}

/// What a connection is served with.
pub(super) struct Serving<S> {
    pub(super) service: Rc<S>,
    pub(super) info: Rc<ConnectionInfo>,
    pub(super) settings: Rc<HttpSettings>,
    pub(super) draining: Rc<Draining>,
}

/// Serves `transport` to its end; gives the verdict, if there was one.
pub(super) async fn serve<S: Serve>(
    serving: Serving<S>,
    protocol: Protocol,
    transport: Transport,
    first: Vec<u8>,
) -> Option<Verdict> {
    let watch = Rc::clone(&serving.info.watch);
    let transport = Rc::new(RefCell::new(transport));
    let wire = Wire::new(&transport, &watch, protocol, first);
    // Boxed, so that a connection takes the room of its own protocol only.
    let ended = match protocol {
        Protocol::Http1 => Box::pin(http1(serving, wire)).await,
        Protocol::Http2 => Box::pin(http2(serving, wire)).await,
    };
    match ended {
        Ended::Cut(verdict) => Some(verdict),
        Ended::Finished { client_may_send, verdict } => {
            linger(&transport, &watch, client_may_send || watch.input_abandoned()).await;
            verdict
        }
    }
}

enum Ended {
    /// There is nothing more to be said to the client.
    Cut(Verdict),
    /// hyper is done, and has closed our side.
    Finished { client_may_send: bool, verdict: Option<Verdict> },
}

async fn http1<S: Serve>(serving: Serving<S>, wire: Wire) -> Ended {
    let Serving { service, info, settings, draining } = serving;
    let watch = Rc::clone(&info.watch);
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, info) = (Rc::clone(&service), Rc::clone(&info));
        let exchange = info.watch.begin();
        let expects_continue = request.headers().contains_key(header::EXPECT);
        async move {
            let watch = Rc::clone(&info.watch);
            let mut response = answer(&*service, info, request, exchange).await;
            // The client may be waiting for a 100 (Continue) that never comes. Whether it will still send the body is
            // open (RFC 9110 §10.1.1), so that what follows could be a body or a request: nothing may follow.
            if expects_continue && watch.take_leftover().is_some() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(settings.http1.serve_connection(wire, service));
    let (mut told, mut verdict) = (false, None);
    poll_fn(|cx| {
        watch.register(cx.waker());
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(Ended::Finished { client_may_send: result.is_err(), verdict });
            }
            match watch.verdict() {
                Some(Verdict::Idle) => {
                    verdict = watch.take_verdict();
                    watch.closing();
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                Some(verdict) => return Poll::Ready(Ended::Cut(verdict)),
                None => {}
            }
            if !told && draining.applies_to(&watch) {
                told = true;
                watch.closing();
                connection.as_mut().graceful_shutdown();
                continue;
            }
            if !discard(&watch, cx) {
                return Poll::Pending;
            }
        }
    })
    .await
}

async fn http2<S: Serve>(serving: Serving<S>, wire: Wire) -> Ended {
    let Serving { service, info, settings, draining } = serving;
    let watch = Rc::clone(&info.watch);
    let executor = StreamExecutor::default();
    let next = Rc::clone(&executor.next);
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, info) = (Rc::clone(&service), Rc::clone(&info));
        let exchange = info.watch.begin();
        next.set(exchange.stream_cut());
        async move { Ok::<_, Infallible>(answer(&*service, info, request, exchange).await) }
    });
    let mut connection = pin!(settings.http2(executor).serve_connection(wire, service));
    let (mut told, mut verdict) = (false, None);
    poll_fn(|cx| {
        watch.register(cx.waker());
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(match watch.verdict() {
                    Some(verdict) => Ended::Cut(verdict),
                    None => Ended::Finished { client_may_send: false, verdict },
                });
            }
            match watch.verdict() {
                Some(Verdict::Idle) => verdict = watch.take_verdict(),
                Some(verdict) => return Poll::Ready(Ended::Cut(verdict)),
                None if !told && draining.applies_to(&watch) => {}
                None => return Poll::Pending,
            }
            told = true;
            watch.closing();
            connection.as_mut().graceful_shutdown();
        }
    })
    .await
}

/// Lets the service answer, and ties the answer's body to the exchange.
async fn answer<S: Serve>(
    service: &S,
    info: Rc<ConnectionInfo>,
    request: Request<Incoming>,
    exchange: Exchange,
) -> Response<ResponseBody<S::Tail>> {
    let is_head = request.method() == Method::HEAD;
    let mut response = service.serve(info, request).await;
    let unsent = is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    response.body_mut().attach(exchange, unsent);
    response
}

/// Reads off some of a refused request's body. Gives `true` when hyper should look again, because that has ended.
fn discard(watch: &ConnectionWatch, cx: &mut Context<'_>) -> bool {
    for _ in 0..DISCARD_BURST {
        let Some(mut body) = watch.take_leftover() else { return false };
        match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending => {
                watch.put_back_leftover(body, 0);
                return false;
            }
            Poll::Ready(Some(Ok(frame))) => {
                let count = frame.data_ref().map_or(0, bytes::Bytes::len);
                if !watch.put_back_leftover(body, count as u64) {
                    return true;
                }
            }
            Poll::Ready(Some(Err(_)) | None) => return true,
        }
    }
    cx.waker().wake_by_ref();
    false
}

/// Reads off what the client still sends, so that it gets to see the last answer: closing a socket with unread bytes
/// resets the connection, and a reset takes away what the client has not read (RFC 9112 §9.6).
async fn linger(transport: &RefCell<Transport>, watch: &ConnectionWatch, wait: bool) {
    let mut sink = [0; 2048];
    let mut left = LINGER_BYTES;
    watch.lingering();
    while left > 0 {
        let read = transport.borrow().socket().tcp().try_read(&mut sink);
        match read {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && wait => {
                let readable = poll_fn(|cx| transport.borrow().socket().tcp().poll_read_ready(cx));
                if !matches!(until_verdict(watch, readable).await, Ok(Ok(()))) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Runs the streams of one HTTP/2 connection, each until it ends or its client takes nothing.
#[derive(Clone, Default)]
pub(super) struct StreamExecutor {
    /// Set by the service just before hyper hands over the stream that it belongs to.
    next: Rc<Cell<Option<StreamCut>>>,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let cut = self.next.take();
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            // Dropping the stream's future resets the stream.
            poll_fn(|cx| match &cut {
                Some(cut) if cut.poll(cx.waker()) => Poll::Ready(()),
                _ => stream.as_mut().poll(cx),
            })
            .await;
        });
    }
}
