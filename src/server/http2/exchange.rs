//! One request and its answer, on a stream of its own.

use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, ext::Protocol, server::SendResponse};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Body;

use super::{
    incoming::{IncomingBody, ReadingOff, Rest},
    tunnel::Tunnel,
};
use crate::{
    body::{BoxError, ConnectionWatch, Received, ReceivedStream, ResponseBody, Serve, StreamCut, Tail, Watched},
    server::{
        connection::{Serving, answer, waits_for_continue},
        settings::{HttpSettings, is_of_connection},
    },
};

/// Why a stream ends before its answer does. Dropping its halves resets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The client takes nothing, does not want the answer, or is gone.
    Gone,
    /// The answer could not be had to its end.
    Broken(Reason),
}

impl From<h2::Error> for Over {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

/// Has a request answered, and sends the answer.
pub(super) fn run<S: Serve>(
    serving: &Serving<S>,
    request: Request<RecvStream>,
    reply: SendResponse<Bytes>,
) -> impl Future<Output = ()> + Unpin + use<S> {
    let exchange = serving.info.watch.begin();
    let cut = exchange.stream_cut();
    let Taken { request, switchable, asked, rest } = take(request);
    let answer = answer(Rc::clone(&serving.service), Rc::clone(&serving.info), request, exchange, (false, None));
    let settings = Rc::clone(&serving.settings);
    let answering = Answering { answer: Box::pin(answer), reply, settings, switchable, asked };
    let leftover = rest.map(|rest| Leftover { rest, reading: None, watch: Rc::clone(&serving.info.watch) });
    StreamTask { stage: Stage::Answering(answering), cut, leftover }
}

/// What becomes of a stream. Not an `async fn`, which would have room for a thing in each place that it comes through.
struct StreamTask<F, T: Tail> {
    stage: Stage<F, T>,
    cut: Option<StreamCut>,
    leftover: Option<Leftover>,
}

enum Stage<F, T: Tail> {
    Answering(Answering<F>),
    Sending(Sending<T>),
    /// All is said, and the client may still be sending.
    Answered,
    /// It goes on as another protocol's, and ends by that.
    Switched(Pin<Box<dyn Future<Output = ()>>>),
}

impl<F, T> Future for StreamTask<F, T>
where
    F: Future<Output = Result<Response<ResponseBody<T>>, Infallible>>,
    T: Tail,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { stage, cut, leftover } = self.get_mut();
        loop {
            let is_switched = matches!(stage, Stage::Switched(_));
            if !is_switched && cut.as_ref().is_some_and(|cut| cut.poll(cx.waker())) {
                return Poll::Ready(());
            }
            let is_read = leftover.as_mut().is_none_or(|leftover| leftover.poll(cx).is_ready());
            *stage = match stage {
                Stage::Answering(answering) => match ready!(answering.poll(cx)) {
                    Ok(response) => match answering.begin(response) {
                        Some(stage) => stage,
                        None => Stage::Answered,
                    },
                    Err(_) => return Poll::Ready(()),
                },
                Stage::Sending(sending) => match ready!(sending.poll(cx)) {
                    Ok(()) => Stage::Answered,
                    Err(over) => {
                        if let Over::Broken(reason) = over {
                            sending.stream.send_reset(reason);
                        }
                        return Poll::Ready(());
                    }
                },
                Stage::Answered if is_read => return Poll::Ready(()),
                Stage::Answered => return Poll::Pending,
                Stage::Switched(stream) => return stream.as_mut().poll(cx),
            };
        }
    }
}

/// What is left of a body that nobody wants, if it comes to that.
struct Leftover {
    rest: Rest,
    reading: Option<ReadingOff>,
    watch: Rc<ConnectionWatch>,
}

impl Leftover {
    /// Reads off what there is. Ready when there is nothing, or no more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = self.rest.borrow_mut().take() {
            self.reading = Some(ReadingOff::begin(rest, &self.watch));
        }
        if let Some(reading) = &mut self.reading {
            ready!(reading.poll(cx));
            self.reading = None;
        }
        Poll::Ready(())
    }
}

/// What a stream is as it comes.
struct Taken {
    request: Request<Received>,
    /// What an extended CONNECT goes on with, if that is agreed to: it has no body.
    switchable: Option<RecvStream>,
    /// Where its client may be waiting for a 100 (Continue).
    asked: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Where what is left of its body will be.
    rest: Option<Rest>,
}

fn take(request: Request<RecvStream>) -> Taken {
    let (head, stream) = request.into_parts();
    if head.method == Method::CONNECT {
        let switchable = head.extensions.get::<Protocol>().is_some().then_some(stream);
        return Taken { request: Request::from_parts(head, Received::Nothing), switchable, asked: None, rest: None };
    }
    if stream.is_end_stream() {
        let request = Request::from_parts(head, Received::Nothing);
        return Taken { request, switchable: None, asked: None, rest: None };
    }
    let mut body = IncomingBody::new(stream, &head.headers);
    let mut asked: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
    if waits_for_continue(&head.headers) {
        let body_asked = body.tell_when_asked();
        asked = Some(Box::pin(async move { body_asked.notified().await }));
    }
    let rest = Some(body.rest());
    let body: ReceivedStream = Box::pin(body);
    Taken { request: Request::from_parts(head, Received::from(body)), switchable: None, asked, rest }
}

/// A request that the service has yet to answer.
struct Answering<F> {
    /// Boxed: it is large, a task is moved six times before it begins, and while the body is sent there is no need for it.
    answer: Pin<Box<F>>,
    reply: SendResponse<Bytes>,
    settings: Rc<HttpSettings>,
    switchable: Option<RecvStream>,
    /// Ready when a client that may be waiting for a 100 (Continue) is to be told.
    asked: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<F> Answering<F> {
    /// Waits for the answer as long as the client wants it.
    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Over>>
    where
        F: Future<Output = Result<T, Infallible>>,
    {
        if let Poll::Ready(Ok(response)) = self.answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(response));
        }
        if self.reply.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Over::Gone));
        }
        if self.asked.as_mut().is_some_and(|asked| asked.as_mut().poll(cx).is_ready()) {
            self.asked = None;
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            self.reply.send_informational(head)?;
        }
        Poll::Pending
    }

    /// Sends the head; gives how the stream goes on, if it does.
    fn begin<T: Tail>(&mut self, response: Response<ResponseBody<T>>) -> Option<Stage<F, T>> {
        let (mut head, mut body) = response.into_parts();
        drop_fields_of_connection(&mut head.headers);
        if let Some((switch, exchange)) = body.take_switched() {
            self.settings.complete(&mut head.headers, None);
            let recv = self.switchable.take()?;
            let send = self.reply.send_response(Response::from_parts(head, ()), false).ok()?;
            return Some(Stage::Switched(switch.go_on(Box::pin(Watched::new(Tunnel::new(send, recv), exchange)))));
        }
        let ends = body.is_unsent() || body.is_end_stream();
        self.settings.complete(&mut head.headers, if ends { None } else { body.size_hint().exact() });
        match self.reply.send_response(Response::from_parts(head, ()), ends) {
            Ok(stream) => (!ends).then(|| Stage::Sending(Sending { stream, body, held: None })),
            Err(_) => {
                // It cannot be said in HTTP/2, or nobody is there.
                self.reply.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }
}

/// There are none in HTTP/2 (RFC 9113 §8.2.2), and h2 refuses an answer that has one.
fn drop_fields_of_connection(fields: &mut HeaderMap) {
    if fields.keys().any(is_of_connection) {
        let names: Vec<HeaderName> = fields.keys().filter(|name| is_of_connection(name)).cloned().collect();
        for name in names {
            fields.remove(name);
        }
    }
}

/// The most of a body that is asked room for at once: a frame.
const PART: usize = 16 * 1024;

/// An answer's body on its way.
struct Sending<T: Tail> {
    stream: SendStream<Bytes>,
    body: ResponseBody<T>,
    /// What waits for room in the client's windows, and whether it is the last.
    held: Option<(Bytes, bool)>,
}

impl<T: Tail> Sending<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Over::Gone));
        }
        loop {
            if let Some((data, is_last)) = &mut self.held {
                // As much as there is room for, so that what the client takes is seen, however little it is at a time.
                let room = ready!(poll_room(&mut self.stream, data.len(), cx))?;
                let part = data.split_to(room.min(data.len()));
                self.body.taken(part.len());
                let ends = *is_last && data.is_empty();
                if data.is_empty() {
                    self.held = None;
                }
                self.stream.send_data(part, ends)?;
                if ends {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(Ok(self.stream.send_data(Bytes::new(), true)?));
            };
            match frame.map_err(|error| Over::Broken(reason_of(&error)))?.into_data() {
                // The room is asked for now, and not before: what one stream keeps others go without.
                Ok(data) => {
                    let is_last = self.body.is_end_stream();
                    self.held = (is_last || !data.is_empty()).then_some((data, is_last));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        if self.stream.send_trailers(trailers).is_err() {
                            return Poll::Ready(Err(Over::Broken(Reason::INTERNAL_ERROR)));
                        }
                        self.body.complete();
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

/// What was not sent is no part of what the client got.
impl<T: Tail> Drop for Sending<T> {
    fn drop(&mut self) {
        if let Some((unsent, _)) = self.held.take() {
            self.body.take_back(unsent);
        }
    }
}

/// Waits until the client's windows have room for some of `wanted` bytes; gives for how many.
fn poll_room(stream: &mut SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Over>> {
    if wanted == 0 {
        return Poll::Ready(Ok(0));
    }
    stream.reserve_capacity(wanted.min(PART));
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Over::Gone)),
        }
    }
    Poll::Ready(Ok(stream.capacity()))
}

/// What the client is told of a body that broke off. Most of what a service of HTTP/2 says is between it and us, and some of it would
/// have the client send the request again (RFC 9113 §8.7), which was looked at.
fn reason_of(error: &BoxError) -> Reason {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) == Some(Reason::CANCEL) {
            return Reason::CANCEL;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_answer_has_no_field_of_a_connection() {
        let mut fields = HeaderMap::new();
        for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "server"] {
            fields.insert(name, HeaderValue::from_static("x"));
        }
        drop_fields_of_connection(&mut fields);
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["server"]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("what stands above it")]
    struct Above(#[source] BoxError);

    #[test]
    fn a_client_is_told_of_a_reset_by_the_service_only_what_has_it_not_ask_again() {
        let told = |reason: Reason| {
            let beneath: BoxError = h2::Error::from(reason).into();
            (reason_of(&beneath), reason_of(&Above(beneath).into()))
        };
        assert_eq!(told(Reason::CANCEL), (Reason::CANCEL, Reason::CANCEL));
        for reason in [Reason::REFUSED_STREAM, Reason::HTTP_1_1_REQUIRED, Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM] {
            assert_eq!(told(reason), (Reason::INTERNAL_ERROR, Reason::INTERNAL_ERROR), "{reason:?}");
        }
        assert_eq!(reason_of(&"the service broke off".into()), Reason::INTERNAL_ERROR);
    }
}
