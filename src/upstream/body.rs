//! An answer's body on its way to the client. Whoever reads it drives the connection that it comes over. When its end has
//! been read, the connection goes back to the pool; when it is dropped before, the connection is closed, which is how an
//! upstream learns that the client is gone.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    fault::{InvalidAnswer, UpstreamFault},
    lease::Lease,
    switched::SwitchedService,
};

type Received = Result<Frame<Bytes>, hyper::Error>;

/// The body of an upstream's answer. What is usual is small, as an answer passes many hands.
pub struct UpstreamBody<B>(Source<B>);

/// Where the body comes from.
enum Source<B> {
    /// All of it was here with the head, and its connection is given back.
    Whole(Bytes),
    /// The connection.
    Line(Box<Reading<B>>),
}

/// A body that is being read.
struct Reading<B> {
    /// What came together with the head.
    first: Option<Received>,
    incoming: Incoming,
    lease: Lease<B>,
    /// Whether it is the body of a 101.
    is_switching: bool,
}

impl<B: 'static> UpstreamBody<B> {
    pub(super) fn new(mut incoming: Incoming, mut lease: Lease<B>) -> Self {
        let mut first = None;
        if incoming.is_end_stream() {
            lease.end();
            return Self(Source::Whole(Bytes::new()));
        }
        if lease.drives()
            // Most answers are whole by now, and then their connection need not wait for the client. That nobody is
            // woken is right: there will be another poll.
            && let Poll::Ready(Some(received)) =
                lease.taking(|| Pin::new(&mut incoming).poll_frame(&mut Context::from_waker(Waker::noop())))
        {
            let is_whole = incoming.is_end_stream();
            if received.is_ok() && is_whole {
                lease.end();
            }
            first = Some(match received.map(Frame::into_data) {
                Ok(Ok(data)) if is_whole => return Self(Source::Whole(data)),
                Ok(Ok(data)) => Ok(Frame::data(data)),
                Ok(Err(frame)) => Ok(frame),
                Err(error) => Err(error),
            });
        }
        Self(Source::Line(Box::new(Reading { first, incoming, lease, is_switching: false })))
    }

    /// The body of a 101, which is none: its connection goes on with what it was switched to.
    pub(super) fn switching(incoming: Incoming, lease: Lease<B>) -> Self {
        Self(Source::Line(Box::new(Reading { first: None, incoming, lease, is_switching: true })))
    }

    /// Goes on with the connection of a 101.
    ///
    /// # Errors
    /// When the connection broke, or the answer was no 101 that had been asked for.
    pub fn take_over(self) -> impl Future<Output = Result<SwitchedService<B>, UpstreamFault>> + use<B> {
        let lease = match self.0 {
            Source::Line(reading) if reading.is_switching => Some(reading.lease),
            Source::Line(_) | Source::Whole(_) => None,
        };
        async move {
            match lease {
                Some(lease) => SwitchedService::take_over(lease).await,
                None => Err(UpstreamFault::Invalid(InvalidAnswer::Upgrade)),
            }
        }
    }

    /// Takes the body if all of it is here already; nothing more will come then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Source::Whole(bytes) => Some(std::mem::take(bytes)),
            Source::Line(_) => None,
        }
    }
}

impl<B: 'static> Reading<B> {
    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if !self.lease.drives() {
            return Pin::new(&mut self.incoming).poll_frame(cx);
        }
        loop {
            // What comes is handed over while the connection is driven, so nobody need be woken for it.
            let Self { incoming, lease, .. } = self;
            let polled = lease.taking(|| Pin::new(incoming).poll_frame(&mut Context::from_waker(Waker::noop())));
            if polled.is_ready() || !lease.drive_or_listen(cx) {
                return polled;
            }
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>> {
        if self.lease.is_overdue(cx) {
            return Poll::Ready(Some(Err(self.lease.failed(UpstreamFault::Deadline))));
        }
        let received = ready!(self.poll_received(cx));
        Poll::Ready(match received {
            Some(Ok(frame)) => {
                // A body of known length ends with its last byte: nobody needs to ask again.
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.lease.end();
                }
                Some(Ok(frame))
            }
            None if self.lease.ends_in_word() && !self.incoming.is_end_stream() => {
                Some(Err(self.lease.failed(UpstreamFault::Reset(None))))
            }
            None => {
                self.lease.end();
                None
            }
            Some(Err(error)) => Some(Err(self.lease.failed(UpstreamFault::from_hyper(error)))),
        })
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        let Some(Ok(first)) = &self.first else { return rest };
        let here = first.data_ref().map_or(0, Bytes::len) as u64;
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest.saturating_add(here)),
            None => rest,
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Line(reading) => reading.first.is_none() && reading.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Line(reading) => reading.size_hint(),
        }
    }
}

impl<B> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Whole(bytes) => f.debug_tuple("UpstreamBody").field(bytes).finish(),
            Source::Line(reading) => f
                .debug_struct("UpstreamBody")
                .field("first", &reading.first)
                .field("incoming", &reading.incoming)
                .finish(),
        }
    }
}
