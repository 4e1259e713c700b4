//! One client's connection, from its first byte to its last: hyper speaks HTTP/1.1, `http2` the other, the watch's verdicts are
//! carried out.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use super::{
    http2,
    settings::HttpSettings,
    switched::Rest,
    wire::{self, Transport, Wire},
};
use crate::{
    acme::Challenges,
    body::{
        ConnectionInfo, ConnectionWatch, Exchange, Protocol, Received, RequestBody, ResponseBody, Serve, Tail, Verdict,
        Watched, with_scratch,
    },
};

/// The start of every HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
    /// What rests is left alone until it says something: nobody waits for its end.
    patient: Cell<bool>,
    /// Answers over HTTP/1.1 are the last of their connections: for connections to come. Those that are there are told by their watch.
    last_answers: Cell<bool>,
    /// Connections that have had no request yet get a moment to send the one that may be on its way.
    strict: Cell<bool>,
}

impl Draining {
    pub(super) fn begin(&self) {
        self.begun.set(true);
        self.last_answers.set(true);
    }

    /// Begins where others serve already: a client's request and our end of a connection that rests never meet then.
    pub(super) fn begin_patiently(&self) {
        self.patient.set(true);
        self.begin();
    }

    pub(super) fn soften(&self) {
        self.last_answers.set(true);
    }

    pub(super) fn is_soft(&self) -> bool {
        self.last_answers.get()
    }

    pub(super) fn be_strict(&self) {
        self.strict.set(true);
    }

    pub(super) fn applies_to(&self, watch: &ConnectionWatch) -> bool {
        // HTTP/2 has GOAWAY for it, and loses nothing by that (RFC 9113 §6.8).
        let rests = self.patient.get() && watch.protocol() == Protocol::Http1 && watch.in_flight() == 0;
        self.begun.get() && !rests && (watch.exchanges() > 0 || self.strict.get())
    }
}

/// What a connection is served with.
pub(super) struct Serving<S> {
    pub(super) service: Rc<S>,
    pub(super) info: Rc<ConnectionInfo>,
    pub(super) settings: Rc<HttpSettings>,
    pub(super) draining: Rc<Draining>,
    /// What a certificate authority may ask for, where it may.
    pub(super) challenges: Option<Arc<Challenges>>,
}

/// Serves `transport` to its end; gives the verdict, if there was one. Without a protocol, it is told by the first bytes.
pub(super) async fn serve<S: Serve>(
    serving: Serving<S>,
    protocol: Option<Protocol>,
    transport: Transport,
) -> Option<Verdict> {
    let watch = Rc::clone(&serving.info.watch);
    let transport = Rc::new(RefCell::new(transport));
    watch.serve(protocol.unwrap_or(Protocol::Http1));
    // Boxed, so that a connection takes the room of its own protocol only, and while it says nothing, of none.
    let ended = match first_bytes(protocol, &transport, &serving).await {
        Err(ended) => ended,
        Ok((Protocol::Http1, first)) => Box::pin(http1(serving, &transport, first)).await,
        Ok((Protocol::Http2, first)) => {
            watch.serve(Protocol::Http2);
            Box::pin(http2::serve(serving, Wire::new(&transport, &watch, Protocol::Http2, first))).await
        }
        // Never on a byte stream.
        Ok((Protocol::Http3, _)) => Ended::Quiet(None),
    };
    match ended {
        Ended::Cut(verdict) => Some(verdict),
        Ended::Quiet(verdict) => {
            let shutdown = poll_fn(|cx| transport.borrow_mut().stream().poll_shutdown(cx));
            // Whether the client learns of it or not, the connection ends here.
            let _ = until_verdict(&watch, shutdown).await;
            verdict
        }
        Ended::Finished { client_may_send, verdict } => {
            if client_may_send {
                // After an error hyper has not closed our side, and the client should not wait for that: it may be in
                // the middle of an answer of which nothing more will come.
                let shutdown = poll_fn(|cx| transport.borrow_mut().stream().poll_shutdown(cx));
                let _ = until_verdict(&watch, shutdown).await;
            }
            linger(&transport, &watch, client_may_send || watch.input_abandoned()).await;
            verdict
        }
    }
}

pub(super) enum Ended {
    /// There is nothing more to be said to the client.
    Cut(Verdict),
    /// Nothing was under way; our side has yet to be closed.
    Quiet(Option<Verdict>),
    /// The protocol is done, and has closed our side, unless an error has ended it.
    Finished { client_may_send: bool, verdict: Option<Verdict> },
}

/// Waits for a client that has nothing under way to say something. Until it does, its connection has no hyper, and
/// none of hyper's buffers: they are most of what an idle connection would take.
async fn rest<S>(transport: &RefCell<Transport>, serving: &Serving<S>) -> Result<Vec<u8>, Ended> {
    let watch = &serving.info.watch;
    poll_fn(|cx| {
        watch.register(cx.waker());
        match wire::poll_bytes(&mut transport.borrow_mut(), cx) {
            Poll::Ready(Ok(bytes)) if !bytes.is_empty() => return Poll::Ready(Ok(bytes)),
            Poll::Ready(_) => return Poll::Ready(Err(Ended::Quiet(None))),
            Poll::Pending => {}
        }
        match watch.verdict() {
            Some(Verdict::Idle) => {
                watch.closing();
                Poll::Ready(Err(Ended::Quiet(watch.take_verdict())))
            }
            Some(verdict) => Poll::Ready(Err(Ended::Cut(verdict))),
            None if serving.draining.applies_to(watch) => Poll::Ready(Err(Ended::Quiet(None))),
            None => Poll::Pending,
        }
    })
    .await
}

/// Waits for the first bytes, and as many of them as it takes to tell HTTP/2 by prior knowledge (RFC 9113 §3.3).
async fn first_bytes<S>(
    protocol: Option<Protocol>,
    transport: &RefCell<Transport>,
    serving: &Serving<S>,
) -> Result<(Protocol, Vec<u8>), Ended> {
    let mut first = rest(transport, serving).await?;
    if let Some(protocol) = protocol {
        return Ok((protocol, first));
    }
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        first.extend(rest(transport, serving).await?);
    }
    let protocol = if first.starts_with(PREFACE) { Protocol::Http2 } else { Protocol::Http1 };
    Ok((protocol, first))
}

async fn http1<S: Serve>(serving: Serving<S>, transport: &Rc<RefCell<Transport>>, mut first: Vec<u8>) -> Ended {
    let watch = &serving.info.watch;
    let (service, info) = (Rc::clone(&serving.service), Rc::clone(&serving.info));
    let challenges = serving.challenges.clone();
    let mut service = service_fn(move |request: Request<Incoming>| {
        let (service, info) = (Rc::clone(&service), Rc::clone(&info));
        let exchange = info.watch.begin();
        if request.extensions().get::<OnUpgrade>().is_some() {
            info.watch.offer_switch();
        }
        // Without a body, nobody waits for a 100 (Continue).
        // Whatever it expects, and however it says so: it may have been understood otherwise on the way here.
        let waits = !request.body().is_end_stream() && request.headers().contains_key(header::EXPECT);
        answer(service, info, request.map(Received::from), exchange, (waits, challenges.as_deref()))
    });
    let (mut told, mut verdict) = (false, None);
    loop {
        let wire = Wire::new(transport, watch, Protocol::Http1, first);
        let mut connection = serving.settings.http1.serve_connection(TokioIo::new(wire), service);
        let ended = poll_fn(|cx| {
            watch.register(cx.waker());
            loop {
                if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                    return Poll::Ready(Some(Ended::Finished { client_may_send: result.is_err(), verdict }));
                }
                match watch.verdict() {
                    Some(Verdict::Idle) => {
                        verdict = watch.take_verdict();
                        watch.closing();
                        Pin::new(&mut connection).graceful_shutdown();
                        continue;
                    }
                    Some(verdict) => return Poll::Ready(Some(Ended::Cut(verdict))),
                    None => {}
                }
                if !told && serving.draining.applies_to(watch) {
                    told = true;
                    watch.closing();
                    Pin::new(&mut connection).graceful_shutdown();
                    continue;
                }
                if !discard(watch, cx) {
                    return if watch.may_rest() { Poll::Ready(None) } else { Poll::Pending };
                }
            }
        })
        .await;
        if let Some(ended) = ended {
            let Some((switch, exchange)) = watch.take_switch() else {
                if watch.was_offered_switch() {
                    // hyper has kept it open for an upgrade that did not come.
                    let shutdown = poll_fn(|cx| transport.borrow_mut().stream().poll_shutdown(cx));
                    let _ = until_verdict(watch, shutdown).await;
                }
                return ended;
            };
            if let Ended::Finished { client_may_send: false, .. } = ended {
                let parts = connection.into_parts();
                let mut unread = parts.read_buf.to_vec();
                unread.extend(parts.io.into_inner().into_unread());
                let stream = Watched::new(Rest::new(unread, transport), exchange);
                return match until_verdict(watch, switch.go_on(Box::pin(stream))).await {
                    // The client may be in the middle of something that nobody will read.
                    Ok(()) => Ended::Finished { client_may_send: true, verdict: None },
                    Err(verdict) => Ended::Cut(verdict),
                };
            }
            // The 101 never went out.
            return ended;
        }
        let parts = connection.into_parts();
        service = parts.service;
        // Copied where there is any, so that the buffer itself goes.
        let unread = parts.read_buf.to_vec();
        drop((parts.io, parts.read_buf));
        first = match unread.is_empty() {
            false => unread,
            true => match rest(transport, &serving).await {
                Ok(bytes) => bytes,
                Err(ended) => return ended,
            },
        };
    }
}

/// Whether a client is to be told by a 100 (Continue) that its body is wanted (RFC 9110 §10.1.1). Over HTTP/1.1 hyper tells it.
pub(super) fn waits_for_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Lets the service answer, and ties the answer's body to the exchange. A client that `waits` may be waiting for a 100
/// (Continue) before it sends its body.
///
/// Not an `async fn`: that would hold what it is given twice, and each request's future is moved several times.
pub(super) fn answer<S: Serve>(
    service: Rc<S>,
    info: Rc<ConnectionInfo>,
    request: Request<Received>,
    exchange: Exchange,
    (waits, challenges): (bool, Option<&Challenges>),
) -> impl Future<Output = Result<Response<ResponseBody<S::Tail>>, Infallible>> + use<S> {
    let is_head = request.method() == Method::HEAD;
    let kept = (waits || info.alternative.is_some()).then(|| Rc::clone(&info));
    let challenge = challenges.and_then(|challenges| challenge(challenges, &request)).map(Box::new);
    async move {
        let mut response = match challenge {
            None => service.serve(info, request).await,
            Some(response) => {
                // Dropped unread, its body is read off by the connection within its bounds.
                drop(RequestBody::new(request.into_body(), &info.watch, 0));
                *response
            }
        };
        if exchange.is_last() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let unsent = is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // What GET would have had is said all the same (RFC 9110 §8.6).
        if is_head && let Some(length) = response.body_mut().leave_out() {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // HTTP/1.1: in place of the protocol. A stream of HTTP/2 is switched by whoever has it.
        if exchange.is_all_there_is()
            && let Some(switch) = response.body_mut().take_switch()
        {
            exchange.switch(switch);
            return Ok(response);
        }
        response.body_mut().attach(exchange, unsent);
        let Some(info) = kept else { return Ok(response) };
        if let Some(field) = info.alternative.as_ref().and_then(|alternative| alternative.field())
            && !info.watch.is_closing()
        {
            response.headers_mut().insert(header::ALT_SVC, field);
        }
        // The 100 may never come. Whether the client will still send the body is open (RFC 9110 §10.1.1), so that what
        // follows could be a body or a request: nothing may follow.
        if waits && info.watch.take_leftover().is_some() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// The answer to a certificate authority that looks whether a name is ours (RFC 8555 §8.3): before everything else, and to
/// a request for exactly this alone.
fn challenge<T: Tail>(challenges: &Challenges, request: &Request<Received>) -> Option<Response<ResponseBody<T>>> {
    let authorization = challenges.answer(request.uri().path())?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = Response::new(ResponseBody::untold(authorization.as_bytes().to_vec()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Some(response)
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
    let mut left = LINGER_BYTES;
    watch.lingering();
    while left > 0 {
        // Not into a buffer of its own: every connection would have the room for it as long as it lasts.
        let read = with_scratch(|sink| transport.borrow().socket().try_read(sink));
        match read {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && wait => {
                let readable = poll_fn(|cx| transport.borrow().socket().poll_read_ready(cx));
                if !matches!(until_verdict(watch, readable).await, Ok(Ok(()))) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
