//! An answer's body on its way to the client. Whoever reads it drives the connection that it comes over. When its end has
//! been read, the connection goes back to the pool; when it is dropped before, the connection is closed, which is how an
//! upstream learns that the client is gone.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    fault::{InvalidAnswer, UpstreamFault},
    lease::Lease,
    switched::SwitchedService,
    timed::Timed,
};

/// The body of an upstream's answer. What is usual is small, as an answer passes many hands.
pub struct UpstreamBody<B>(Source<B>);

/// Where the body comes from.
enum Source<B> {
    /// All of it was here with the head, and its connection is given back.
    Whole(Bytes),
    /// The connection.
    Line(Box<Reading<B>>),
    /// The connection, which somebody takes away when the time is over.
    Timed(Timed<B>),
}

/// A body that is being read.
pub(super) struct Reading<B> {
    lease: Lease<B>,
    /// Where it comes from, if that is a stream.
    incoming: Option<Incoming>,
    /// Whether it was read to its end.
    is_whole: bool,
    /// Whether it is the body of a 101.
    is_switching: bool,
}

impl<B: 'static> UpstreamBody<B> {
    pub(super) fn new(incoming: Option<Incoming>, mut lease: Lease<B>) -> Self {
        // Most answers are whole by now, and then their connection need not wait for the client.
        let whole = match &incoming {
            Some(incoming) => incoming.is_end_stream().then(Bytes::new),
            None => lease.take_whole(),
        };
        if let Some(whole) = whole {
            lease.end();
            return Self(Source::Whole(whole));
        }
        let ends = lease.ends();
        let reading = Box::new(Reading { lease, incoming, is_whole: false, is_switching: false });
        Self(match ends {
            Some(ends) => Source::Timed(Timed::until(ends, reading)),
            None => Source::Line(reading),
        })
    }

    /// The body of a 101, which is none: its connection goes on with what it was switched to.
    pub(super) fn switching(lease: Lease<B>) -> Self {
        Self(Source::Line(Box::new(Reading { lease, incoming: None, is_whole: false, is_switching: true })))
    }

    /// Goes on with the connection of a 101.
    ///
    /// # Errors
    /// When the connection broke, or the answer was no 101 that had been asked for.
    pub fn take_over(self) -> impl Future<Output = Result<SwitchedService<B>, UpstreamFault>> + use<B> {
        let lease = match self.0 {
            Source::Line(reading) if reading.is_switching => Some(reading.lease),
            Source::Line(_) | Source::Timed(_) | Source::Whole(_) => None,
        };
        async move {
            match lease {
                Some(lease) => SwitchedService::take_over(lease),
                None => Err(UpstreamFault::Invalid(InvalidAnswer::Upgrade)),
            }
        }
    }

    /// Takes the body if all of it is here already; nothing more will come then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Source::Whole(bytes) => Some(std::mem::take(bytes)),
            Source::Line(_) | Source::Timed(_) => None,
        }
    }
}

impl<B: 'static> Reading<B> {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>> {
        let Self { lease, incoming, is_whole, is_switching: _ } = self;
        let Some(incoming) = incoming else {
            let polled = ready!(lease.poll_body(cx));
            *is_whole |= matches!(polled, None | Some(Ok(_))) && lease.has_ended();
            return Poll::Ready(polled);
        };
        Poll::Ready(match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if frame.is_trailers() || incoming.is_end_stream() {
                    lease.end();
                }
                Some(Ok(frame))
            }
            // hyper takes a stream that was reset without a reason for one that has ended.
            None if !incoming.is_end_stream() => Some(Err(lease.failed(UpstreamFault::Reset(None)))),
            None => {
                lease.end();
                None
            }
            Some(Err(error)) => Some(Err(lease.failed(UpstreamFault::from_hyper(error)))),
        })
    }

    /// Gives it up for its time; `false` if it was over before.
    pub(super) fn give_up(&mut self) -> bool {
        let is_in_use = self.lease.is_in_use();
        if is_in_use {
            // First of all: what is left of a stream is reset when this goes, and its place on the connection is free only then.
            self.incoming = None;
            self.lease.failed(UpstreamFault::Deadline);
        }
        is_in_use
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().map_or(self.is_whole, Body::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None if self.is_whole => SizeHint::with_exact(0),
            None => self.lease.left().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl<B: 'static> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Source::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Line(reading) => reading.poll_frame(cx),
            Source::Timed(timed) => timed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Line(reading) => reading.is_end_stream(),
            Source::Timed(timed) => timed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Line(reading) => reading.size_hint(),
            Source::Timed(timed) => timed.size_hint(),
        }
    }
}

impl<B> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Whole(bytes) => f.debug_tuple("UpstreamBody").field(bytes).finish(),
            Source::Line(reading) => f.debug_struct("UpstreamBody").field("incoming", &reading.incoming).finish(),
            Source::Timed(_) => f.write_str("UpstreamBody"),
        }
    }
}
