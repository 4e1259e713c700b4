//! What a request is sent on: a connection of its own (HTTP/1.1), or a stream of a shared one (HTTP/2). What is rare is
//! boxed, so that the future of a plain request is as small as with one protocol.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, uri::Scheme};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    call::{Call, Stakes, Stream},
    fault::{BoxError, UpstreamFault},
    http1::{Connection, Early, Exchange},
    shared::Slot,
    target::Target,
    upload::Upload,
};

/// What a request can be sent on at once.
pub(super) enum Line<B> {
    /// A connection, for this request alone until its answer is over.
    Own(Box<Connection<B>>),
    /// The right to a stream.
    Shared(Slot<B>),
}

/// A request on its way.
pub(super) enum Turn<B> {
    /// On a connection of its own.
    Own(Exchange<B>),
    /// On a stream.
    Shared(Box<Call<B>>),
}

/// What has to be held until an answer is over.
pub(super) enum Held<B> {
    /// The connection.
    Own(Box<Connection<B>>),
    /// The connection, while the request is still being sent.
    Early(Early<B>),
    /// The stream.
    Shared(Box<Stream<B>>),
}

/// The head of an answer.
pub(super) struct Answered {
    pub(super) answer: Response<()>,
    /// The body of one that comes on a stream.
    pub(super) incoming: Option<Incoming>,
}

/// An exchange that brought no answer.
#[derive(Debug)]
pub(super) struct Lost<B> {
    pub(super) fault: UpstreamFault,
    /// The request, if the target certainly did nothing with it.
    pub(super) unsent: Option<Request<Upload<B>>>,
    /// The request as it was, if it could be sent once more: whether it may is for others to say.
    pub(super) again: Option<Request<Upload<B>>>,
    /// Whether it is unsent because the connection takes no more requests, which is nobody's trouble.
    pub(super) is_turned_away: bool,
}

impl<B> Lost<B> {
    /// A request that is gone.
    pub(super) const fn of(fault: UpstreamFault) -> Self {
        Self { fault, unsent: None, again: None, is_turned_away: false }
    }
}

impl<B> Line<B> {
    /// Whether a request was sent on it before.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Own(connection) => connection.reused,
            Self::Shared(slot) => slot.is_reused,
        }
    }
}

impl<B> Turn<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Begins to send a request, framed for HTTP/1.1 and with its `Host`.
    pub(super) fn begin(
        line: Line<B>,
        request: Request<Upload<B>>,
        target: &Target,
        (started, is_guarded): (Instant, bool),
    ) -> Self {
        match line {
            Line::Own(connection) => Self::Own(Exchange::begin(connection, request, started)),
            Line::Shared(slot) => {
                let scheme = if target.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
                let stakes = Stakes::of(&request, is_guarded);
                Self::Shared(Box::new(Call::begin(slot, request, scheme, (started, stakes))))
            }
        }
    }

    /// Sends the request and waits for the head of its answer.
    ///
    /// The upstream may make us wait for `patience` at a time: for the head once the request is sent, or for room to
    /// send more of it. Waiting for the client's bytes does not count; the listener has limits for that.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<Result<Answered, Lost<B>>> {
        match self {
            Self::Own(exchange) => exchange.poll_answer(cx, patience),
            Self::Shared(call) => call.poll_answer(cx, patience),
        }
    }

    /// What it was sent on, once the answer's head is there.
    pub(super) fn into_held(self) -> Held<B> {
        match self {
            Self::Own(exchange) => Held::Own(exchange.into_connection()),
            Self::Shared(call) => Held::Shared(Box::new(call.into_stream())),
        }
    }
}
