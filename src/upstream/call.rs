//! One request and its answer on a stream of a shared connection (RFC 9113 §8).
//!
//! What a peer has not looked at may be sent again, whatever the method: a stream that it refused, or that is above the
//! last one of its GOAWAY (RFC 9113 §8.7). For that the head is written down, and of the body what has been sent, up to
//! a bound.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderName, Request, Response, Uri, Version,
    header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    fault::{BoxError, UpstreamFault},
    line::{Answered, Lost},
    replay::Replay,
    shared::Slot,
    upload::{BrokenOff, Progress, Upload},
};

/// Of a body that was sent, what is kept until the answer comes: what most calls have in all, and what one window of a
/// peer with default settings takes before it says anything (RFC 9113 §6.9.2).
const KEPT_BYTES: usize = 64 * 1024;

/// What hyper gives for a request.
type Sending<B> = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Carried<B>>>>>>>;

/// A request on its way on a shared connection.
pub(super) struct Call<B> {
    /// `None` if it is no request that HTTP/2 has a form for.
    sending: Option<Sending<B>>,
    /// The request's head as it was given, to be sent again.
    head: Option<Replay>,
    /// Whether it may be sent again where it is all but certain that it was not sent.
    stakes: Stakes,
    stream: Stream<B>,
    unanswered: Unanswered<B>,
    progress: Option<Rc<Progress>>,
    started: Instant,
    /// Made when the answer is not there at once.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What would come of it if a request arrived twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stakes {
    /// Nothing: what is all but certain is good enough.
    Low,
    /// Harm.
    High,
}

impl Stakes {
    /// What is at stake with a request.
    pub(super) fn of<B: Body>(request: &Request<B>, is_guarded: bool) -> Self {
        if !is_guarded && Replay::is_harmless(request) { Self::Low } else { Self::High }
    }
}

/// Tells the connection of a stream that is given up before it was answered.
struct Unanswered<B>(Option<Rc<Slot<B>>>);

/// The stream of a request, from its head to the end of both bodies. Dropped before, it is reset.
pub(super) struct Stream<B> {
    body: Carried<B>,
    slot: Rc<Slot<B>>,
}

/// A request's body, as hyper has it; we keep the other end.
pub(super) struct Carried<B>(Rc<RefCell<Carriage<B>>>);

struct Carriage<B> {
    /// `None` once it was taken back: what hyper still asks of it is not answered.
    upload: Option<Upload<B>>,
    /// What was sent of it; `None` if that is too much to be kept.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    /// Whom to wake when it is taken back.
    waiting: Option<Waker>,
    /// The stream is open as long as this has something to send.
    slot: Option<Rc<Slot<B>>>,
}

impl<B> Call<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Gives a request to a connection. It is in origin-form, with `Host`, framed as for HTTP/1.1.
    pub(super) fn begin(
        slot: Slot<B>,
        request: Request<Upload<B>>,
        scheme: Scheme,
        (started, stakes): (Instant, Stakes),
    ) -> Self {
        let progress = request.body().progress();
        let head = Replay::head(&request);
        let slot = Rc::new(slot);
        let (parts, upload) = request.into_parts();
        let body = Carried::new(upload, &slot);
        let mut request = Request::from_parts(parts, body.clone());
        let sending: Option<Sending<B>> = put_into_form(&mut request, scheme)
            .then(|| Box::pin(slot.connection.sender().try_send_request(request)) as Sending<B>);
        let unanswered = Unanswered(sending.is_some().then(|| Rc::clone(&slot)));
        let stream = Stream { body, slot };
        Self { sending, head: Some(head), stakes, stream, unanswered, progress, started, timer: None }
    }

    /// Waits for the head of the answer; see [`Exchange::poll_answer`](super::http1::Exchange::poll_answer).
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<Result<Answered, Lost<B>>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Err(Lost::of(UpstreamFault::Reset(None))));
        };
        if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
            self.unanswered.0 = None;
            return Poll::Ready(match answer {
                // The rest of the request is sent by a task of hyper's.
                Ok(answer) => {
                    let (head, incoming) = answer.into_parts();
                    Ok(Answered { answer: Response::from_parts(head, ()), incoming: Some(incoming) })
                }
                Err(lost) => Err(self.told_apart(lost)),
            });
        }
        if self.is_overdue(cx, patience) {
            return Poll::Ready(Err(Lost::of(UpstreamFault::Timeout)));
        }
        Poll::Pending
    }

    /// The stream, for who reads the answer's body.
    pub(super) fn into_stream(self) -> Stream<B> {
        self.stream
    }

    fn is_overdue(&mut self, cx: &mut Context<'_>, patience: Duration) -> bool {
        let Self { timer, progress, started, .. } = self;
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(*started + patience)));
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let stalled_since = progress.as_deref().map_or(*started, |progress| progress.upstream_stalls_since(now));
            let deadline = stalled_since + patience;
            if deadline <= now {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }

    fn told_apart(&mut self, mut lost: TrySendError<Request<Carried<B>>>) -> Lost<B> {
        let was_given_back = lost.take_message().is_some();
        let error = lost.into_error();
        // hyper lets go of a request without a word ("dispatch gone", the one error of this kind that there can be here) if the
        // connection ends before hyper's task has seen that its stream was opened: hardly ever has anything been sent of it. But the
        // connection may write the head, and fail at what it writes next, before that task has its turn. And after a GOAWAY that names
        // no stream h2 opens it all the same as soon as another ends. It certainly was not looked at only if it is behind the last one
        // that the peer looks at.
        let is_certain = self.stakes == Stakes::Low || self.stream.slot.connection.looks_at_no_more();
        let was_let_go = !was_given_back && error.is_user() && is_certain;
        let refusal = refusal(&error);
        if refusal == Some(Refused::Stream) {
            self.stream.slot.connection.was_refused();
        }
        let fault = match self.progress.as_ref().and_then(|progress| progress.take_error()) {
            Some(error) => {
                return Lost::of(UpstreamFault::RequestBody(error));
            }
            None => UpstreamFault::from_hyper(error),
        };
        let may_be_sent_again = was_given_back || was_let_go || refusal.is_some();
        let unsent = may_be_sent_again.then(|| self.request_again()).flatten();
        let is_turned_away = unsent.is_some() && refusal != Some(Refused::Stream);
        Lost { unsent, is_turned_away, ..Lost::of(fault) }
    }

    fn request_again(&mut self) -> Option<Request<Upload<B>>> {
        let upload = self.stream.body.take_back()?;
        self.head.take()?.request_with(upload)
    }
}

impl<B> Drop for Unanswered<B> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.connection.gave_up();
        }
    }
}

impl<B> Stream<B> {
    /// The answer has been read to its end. What is left of the request goes on being sent.
    pub(super) fn end(self) {
        self.slot.connection.went_well();
    }

    /// Nobody wants the rest of the answer, nor shall more of the request be sent.
    pub(super) fn cut(self) {
        let Self { body, slot } = self;
        slot.connection.gave_up();
        if body.cut() {
            // The peer may neither read the rest nor reset the stream; hyper would wait for that for ever.
            slot.connection.retire();
        }
    }
}

impl<B> Clone for Carried<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<B> Carried<B> {
    /// Drops what is left to be sent; `true` if there was something, and nobody waits for it who could be told.
    fn cut(&self) -> bool {
        let (upload, slot, waiting) = {
            let mut carriage = self.0.borrow_mut();
            (carriage.upload.take(), carriage.slot.take(), carriage.waiting.take())
        };
        drop(upload);
        match waiting {
            // Finds that there is nothing more, and resets the stream.
            Some(waiting) => {
                waiting.wake();
                false
            }
            None => slot.is_some(),
        }
    }
}

impl<B> Carried<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn new(upload: Upload<B>, slot: &Rc<Slot<B>>) -> Self {
        let slot = (!upload.is_end_stream()).then(|| Rc::clone(slot));
        let carriage = Carriage { upload: Some(upload), kept: Some(Vec::new()), kept_bytes: 0, waiting: None, slot };
        Self(Rc::new(RefCell::new(carriage)))
    }

    /// The body as it was in the beginning, if all that was sent of it has been kept.
    fn take_back(&self) -> Option<Upload<B>> {
        let mut carriage = self.0.borrow_mut();
        let sent = carriage.kept.take()?;
        let upload = carriage.upload.take()?;
        carriage.slot = None;
        Some(upload.preceded_by(sent))
    }
}

impl<B> Body for Carried<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let mut carriage = self.0.borrow_mut();
        let carriage = &mut *carriage;
        // An end would say that this was all.
        let Some(upload) = &mut carriage.upload else { return Poll::Ready(Some(Err(GivenUp::new()))) };
        let polled = Pin::new(&mut *upload).poll_frame(cx);
        let is_over = upload.is_end_stream();
        carriage.waiting = polled.is_pending().then(|| cx.waker().clone());
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            carriage.keep(frame);
        }
        if is_over || !matches!(polled, Poll::Pending | Poll::Ready(Some(Ok(_)))) {
            carriage.slot = None;
        }
        polled.map_err(|BrokenOff| GivenUp::new())
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().upload.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().upload.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B> Carriage<B> {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        match frame.data_ref() {
            Some(data) if self.kept_bytes.saturating_add(data.len()) <= KEPT_BYTES => {
                self.kept_bytes = self.kept_bytes.saturating_add(data.len());
                kept.push(data.clone());
            }
            // Trailers are rare in requests, and come last.
            _ => self.kept = None,
        }
    }
}

/// The request is over before its body is. hyper resets the stream for the reason that it finds in here (RFC 9113 §7).
#[derive(Debug, thiserror::Error)]
#[error("the request was given up")]
pub(super) struct GivenUp(#[source] h2::Error);

impl GivenUp {
    fn new() -> Self {
        Self(h2::Reason::CANCEL.into())
    }
}

/// How a peer said that it has not looked at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// The stream (RFC 9113 §7, REFUSED_STREAM).
    Stream,
    /// Every stream above one (RFC 9113 §6.8): h2 gives this error to no others.
    Later,
}

fn refusal(error: &hyper::Error) -> Option<Refused> {
    let error = super::fault::h2_error(error)?;
    if !error.is_remote() {
        return None;
    }
    if error.is_go_away() {
        return Some(Refused::Later);
    }
    (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Refused::Stream)
}

/// Makes an HTTP/2 request of an HTTP/1.1 one (RFC 9113 §8.2.2, §8.3.1): the path byte for byte. `false` if its `Host` can
/// be no authority.
fn put_into_form<T>(request: &mut Request<T>, scheme: Scheme) -> bool {
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let says_trailers = headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
        headers.remove(TE);
        if says_trailers {
            headers.insert(TE, http::HeaderValue::from_static("trailers"));
        }
    }
    let authority = headers.remove(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let Some(authority) = authority else { return false };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = request.uri().path_and_query().cloned();
    match Uri::from_parts(parts) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            true
        }
        Err(_) => false,
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
