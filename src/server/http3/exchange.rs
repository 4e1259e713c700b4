//! One request and its answer, on a stream of its own.

use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use quinn::{RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::time::timeout;

use super::{
    codes,
    connection::{Conversation, OpenStream},
    fields, frames,
    incoming::{IncomingBody, IncomingRequest, RequestFault},
};
use crate::{
    body::{Received, ReceivedStream, ResponseBody, Serve, StreamCut, Tail},
    server::connection::{answer, waits_for_continue},
};

/// How often it is looked how much of an answer the client has taken, once all of it is with QUIC.
const LOOK: Duration = Duration::from_millis(100);

/// Why an exchange ends before its answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The client takes nothing.
    Cut,
    /// The client does not want the answer, or is gone.
    Gone,
    /// The answer could not be had to its end.
    Broken,
}

impl From<WriteError> for Over {
    fn from(_: WriteError) -> Self {
        Self::Gone
    }
}

/// Reads a request, has it answered, and sends the answer.
pub(super) async fn run<S: Serve>(conversation: OpenStream<S>, send: SendStream, recv: RecvStream) {
    let mut reply = Reply { stream: send, open: true };
    let (request, body) = match read(&conversation, recv).await {
        Ok(read) => read,
        Err(fault) => return refuse(&conversation, fault, &mut reply).await,
    };
    let mut stopped = pin!(reply.stream.stopped());
    let over = match respond(&conversation, request, body, &mut reply, stopped.as_mut()).await {
        Ok(()) => settle(&conversation, stopped).await,
        Err(over) => Err(over),
    };
    match over {
        Ok(()) => {}
        Err(Over::Cut) => reply.reset(codes::REQUEST_CANCELLED),
        Err(Over::Broken) => reply.reset(codes::INTERNAL_ERROR),
        Err(Over::Gone) => {
            conversation.count_in_vain();
            reply.reset(codes::REQUEST_CANCELLED);
        }
    }
}

/// Ends a stream on which there was no request. Whose fault it is, the client's: each counts as if the client had reset it.
async fn refuse<S: Serve>(conversation: &Conversation<S>, fault: RequestFault, reply: &mut Reply) {
    conversation.count_in_vain();
    match fault {
        RequestFault::Connection(_) => {}
        RequestFault::Malformed => reply.reset(codes::MESSAGE_ERROR),
        RequestFault::Incomplete => reply.reset(codes::REQUEST_INCOMPLETE),
        RequestFault::TimedOut | RequestFault::Crowded => reply.reset(codes::REQUEST_REJECTED),
        RequestFault::Gone => reply.reset(codes::REQUEST_CANCELLED),
        // RFC 9114 §4.2.2
        RequestFault::TooLarge => {
            let mut fields = HeaderMap::new();
            conversation.serving.settings.complete(&mut fields, None);
            if reply.head(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &fields).await.is_ok() {
                reply.finish();
            }
        }
    }
}

/// Waits until the client has all of an answer: a connection that is closed takes along what is on its way. Meanwhile it is busy,
/// however little is left to be done here, and a client that takes too little of it is cut as one that is slow before.
async fn settle<S: Serve>(
    conversation: &Conversation<S>,
    mut stopped: Pin<&mut impl Future<Output = Stopped>>,
) -> Result<(), Over> {
    let exchange = conversation.serving.info.watch.on_its_way();
    let cut = exchange.stream_cut();
    let sent = || conversation.connection.stats().udp_tx.bytes;
    let mut before = sent();
    loop {
        let taken = unless_over(cut.as_ref(), pin!(pending()), timeout(LOOK, stopped.as_mut())).await?;
        if taken.is_ok() {
            return Ok(());
        }
        // What is sent is sent because the client makes room for it; what it is asked for a sign of life is far below the least rate.
        let now = sent();
        exchange.moved(now.saturating_sub(before));
        before = now;
    }
}

/// Reads a request as far as its body.
async fn read<S: Serve>(
    conversation: &Conversation<S>,
    recv: RecvStream,
) -> Result<(Request<()>, IncomingBody), RequestFault> {
    let (info, settings) = (&conversation.serving.info, &conversation.serving.settings);
    let most = u64::from(settings.header_list_bytes());
    let mut incoming =
        IncomingRequest::new(recv, most, (&info.watch, &conversation.unfinished), &conversation.connection);
    let head = timeout(settings.bounds.header_timeout, poll_fn(|cx| incoming.poll_head(cx))).await;
    match head.unwrap_or(Err(RequestFault::TimedOut)) {
        Ok(request) => {
            let mut incoming = Some(incoming);
            let body = poll_fn(|cx| match incoming.take() {
                Some(incoming) => Poll::Ready(IncomingBody::of(incoming, cx)),
                // Ready the first time.
                None => Poll::Ready(Err(RequestFault::Gone)),
            });
            Ok((request, body.await?))
        }
        Err(fault) => {
            incoming.give_up(fault);
            Err(fault)
        }
    }
}

/// What tells that the client has stopped the stream, or is gone.
type Stopped = Result<Option<VarInt>, StoppedError>;

async fn respond<S: Serve>(
    conversation: &Conversation<S>,
    request: Request<()>,
    mut body: IncomingBody,
    reply: &mut Reply,
    mut stopped: Pin<&mut impl Future<Output = Stopped>>,
) -> Result<(), Over> {
    let serving = &conversation.serving;
    let exchange = serving.info.watch.begin();
    let cut = exchange.stream_cut();
    let waits = !body.is_end_stream() && waits_for_continue(request.headers());
    let asked = waits.then(|| body.tell_when_asked());
    let body: ReceivedStream = Box::pin(body);
    let request = request.map(|()| Received::from(body));
    let mut answering =
        pin!(answer(Rc::clone(&serving.service), Rc::clone(&serving.info), request, exchange, (false, None)));
    if let Some(asked) = asked {
        let mut asked = pin!(asked.notified());
        let first = poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
            Poll::Pending => asked.as_mut().poll(cx).map(|()| None),
        });
        match unless_over(cut.as_ref(), stopped.as_mut(), first).await? {
            Some(response) => return send(conversation, response, reply, cut.as_ref(), stopped).await,
            None => reply.head(StatusCode::CONTINUE, &HeaderMap::new()).await?,
        }
    }
    let Ok(response) = unless_over(cut.as_ref(), stopped.as_mut(), answering).await?;
    send(conversation, response, reply, cut.as_ref(), stopped).await
}

/// Sends an answer.
async fn send<S: Serve>(
    conversation: &Conversation<S>,
    response: Response<ResponseBody<S::Tail>>,
    reply: &mut Reply,
    cut: Option<&StreamCut>,
    mut stopped: Pin<&mut impl Future<Output = Stopped>>,
) -> Result<(), Over> {
    let (parts, body) = response.into_parts();
    let unsent = body.is_unsent();
    let mut headers = parts.headers;
    conversation.serving.settings.complete(&mut headers, if unsent { None } else { body.size_hint().exact() });
    unless_over(cut, stopped.as_mut(), reply.head(parts.status, &headers)).await??;
    drop(headers);
    if !unsent {
        unless_over(cut, stopped, reply.body(body)).await??;
    }
    reply.finish();
    Ok(())
}

/// Waits for `future` as long as the client takes what it is sent, and wants it.
async fn unless_over<F: Future>(
    cut: Option<&StreamCut>,
    mut stopped: Pin<&mut impl Future<Output = Stopped>>,
    future: F,
) -> Result<F::Output, Over> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if cut.is_some_and(|cut| cut.poll(cx.waker())) {
            return Poll::Ready(Err(Over::Cut));
        }
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        stopped.as_mut().poll(cx).map(|_| Err(Over::Gone))
    })
    .await
}

/// The answer's side of the stream. Dropped unfinished, it is reset: quinn would end it as if it were whole.
struct Reply {
    stream: SendStream,
    open: bool,
}

impl Reply {
    async fn head(&mut self, status: StatusCode, fields: &HeaderMap) -> Result<(), Over> {
        Ok(self.stream.write_chunk(framed(fields::write_head(status, fields))).await?)
    }

    async fn body<T: Tail>(&mut self, body: ResponseBody<T>) -> Result<(), Over> {
        let mut body = pin!(body);
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let frame = frame.map_err(|_| Over::Broken)?;
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    body.taken(data.len());
                    let mut head = BytesMut::with_capacity(9);
                    frames::write_head(&mut head, frames::DATA, data.len());
                    self.stream.write_all_chunks(&mut [head.freeze(), data]).await?;
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.write_chunk(framed(fields::write_trailers(&trailers))).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.open = false;
        // The client may have stopped it.
        let _ = self.stream.finish();
    }

    fn reset(&mut self, code: VarInt) {
        self.open = false;
        let _ = self.stream.reset(code);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.open {
            self.reset(codes::REQUEST_CANCELLED);
        }
    }
}

/// A HEADERS frame with this field section.
fn framed(section: BytesMut) -> Bytes {
    let mut frame = BytesMut::with_capacity(section.len() + 9);
    frames::write_head(&mut frame, frames::HEADERS, section.len());
    frame.extend_from_slice(&section);
    frame.freeze()
}
