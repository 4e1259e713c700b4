//! A request's body as it comes (RFC 9113 §8.1).

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Sleep, sleep},
};

use crate::body::{BodyFault, ConnectionWatch};

/// Where the rest of a body is left that nobody wants.
pub(super) type Rest = Rc<RefCell<Option<RecvStream>>>;

/// A request's body. Dropped before its end, it leaves the rest to the stream's task.
#[derive(Debug)]
pub(super) struct IncomingBody {
    /// There until it is dropped.
    stream: Option<RecvStream>,
    rest: Rest,
    /// Of what was declared, what has yet to come. That it is as much is seen to by h2.
    left: Option<u64>,
    /// After it there may be trailers.
    data_ended: bool,
    asked: Option<Rc<Notify>>,
}

impl IncomingBody {
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self { stream: Some(stream), rest: Rest::default(), left: declared(headers), data_ended: false, asked: None }
    }

    /// Where the rest of it will be.
    pub(super) fn rest(&self) -> Rest {
        Rc::clone(&self.rest)
    }

    /// Tells when the body is asked for and has not come, so that a client that waits for that can be told (RFC 9110 §10.1.1).
    pub(super) fn tell_when_asked(&mut self) -> Rc<Notify> {
        Rc::clone(self.asked.get_or_insert_default())
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(None)) };
        if !self.data_ended {
            if let Some(data) = ready!(stream.poll_data(cx)).transpose()? {
                // From here on its room is counted elsewhere. It fails only for more than has come.
                let _ = stream.flow_control().release_capacity(data.len());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
            self.data_ended = true;
        }
        Poll::Ready(Ok(ready!(stream.poll_trailers(cx))?.map(Frame::trailers)))
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        let part = this.poll_part(cx);
        if let Some(asked) = this.asked.take()
            && part.is_pending()
        {
            asked.notify_one();
        }
        part.map(|part| part.map_err(|error| fault(&error)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        *self.rest.borrow_mut() = self.stream.take().filter(|stream| !stream.is_end_stream());
    }
}

/// Reads off the rest of a body, so that its client gets to see the answer: curl and others throw that away for a reset that
/// comes right behind it, though they must not (RFC 9113 §8.1).
pub(super) struct ReadingOff {
    stream: RecvStream,
    bytes: u64,
    until: Pin<Box<Sleep>>,
}

impl ReadingOff {
    /// Begins, within the connection's bounds.
    pub(super) fn begin(stream: RecvStream, watch: &ConnectionWatch) -> Self {
        let (bytes, time) = watch.refused_body_bounds();
        Self { stream, bytes, until: Box::pin(sleep(time)) }
    }

    /// Ready when there is no more of it, or it was enough. Dropped then, it asks the client to send no more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.until.as_mut().poll(cx).is_pending() {
            let Some(Ok(data)) = ready!(self.stream.poll_data(cx)) else { break };
            let _ = self.stream.flow_control().release_capacity(data.len());
            match self.bytes.checked_sub(data.len() as u64) {
                Some(left) => self.bytes = left,
                None => break,
            }
        }
        Poll::Ready(())
    }
}

/// What is said of the length. h2 has refused what is no number, and two that differ.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A stream that its client resets has not ended, whatever reason it gives: what came of the body is not the whole.
fn fault(error: &h2::Error) -> BodyFault {
    // What h2 has refused by itself broke the protocol.
    if error.is_library() { BodyFault::Malformed } else { BodyFault::ClientGone }
}
