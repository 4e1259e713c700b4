//! Where the bytes of a request come from: hyper, for HTTP/1.1, or a stream, for HTTP/2 and HTTP/3.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyFault;

/// A request's body as it comes on a stream of its own.
pub type ReceivedStream = Pin<Box<dyn Body<Data = Bytes, Error = BodyFault>>>;

/// A request's body as it comes from the wire.
pub enum Received {
    /// There is none.
    Nothing,
    /// HTTP/1.1's.
    Hyper(Incoming),
    /// HTTP/2's or HTTP/3's. Dropping it tells the client to stop sending (RFC 9113 §8.1, RFC 9114 §4.1).
    Stream(ReceivedStream),
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Hyper(incoming) => f.debug_tuple("Hyper").field(incoming).finish(),
            Self::Stream(_) => f.debug_tuple("Stream").finish_non_exhaustive(),
        }
    }
}

impl From<Incoming> for Received {
    fn from(incoming: Incoming) -> Self {
        Self::Hyper(incoming)
    }
}

impl From<ReceivedStream> for Received {
    fn from(stream: ReceivedStream) -> Self {
        Self::Stream(stream)
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Hyper(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|error| classify(&error)))),
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Hyper(incoming) => incoming.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Hyper(incoming) => incoming.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// hyper gives the decoder's complaint as an `io::Error` of one of these kinds, and anything else is a lost connection.
fn classify(error: &hyper::Error) -> BodyFault {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        {
            return BodyFault::Malformed;
        }
        source = cause.source();
    }
    BodyFault::ClientGone
}
