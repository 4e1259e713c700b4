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

/// The body of an upstream's answer.
pub struct UpstreamBody<B> {
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
        } else if lease.drives()
            // Most answers are whole by now, and then their connection need not wait for the client. That nobody is
            // woken is right: there will be another poll.
            && let Poll::Ready(Some(received)) =
                lease.taking(|| Pin::new(&mut incoming).poll_frame(&mut Context::from_waker(Waker::noop())))
        {
            if received.is_ok() && incoming.is_end_stream() {
                lease.end();
            }
            first = Some(received);
        }
        Self { first, incoming, lease, is_switching: false }
    }

    /// The body of a 101, which is none: its connection goes on with what it was switched to.
    pub(super) const fn switching(incoming: Incoming, lease: Lease<B>) -> Self {
        Self { first: None, incoming, lease, is_switching: true }
    }

    /// Goes on with the connection of a 101.
    ///
    /// # Errors
    /// When the connection broke, or the answer was no 101 that had been asked for.
    pub fn take_over(self) -> impl Future<Output = Result<SwitchedService<B>, UpstreamFault>> + use<B> {
        let Self { lease, is_switching, .. } = self;
        async move {
            match is_switching {
                true => SwitchedService::take_over(lease).await,
                false => Err(UpstreamFault::Invalid(InvalidAnswer::Upgrade)),
            }
        }
    }

    /// Takes the body if all of it is here already; nothing more will come then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        if !self.incoming.is_end_stream() {
            return None;
        }
        match self.first.take() {
            None => Some(Bytes::new()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Some(data),
                Err(frame) => {
                    self.first = Some(Ok(frame));
                    None
                }
            },
            first @ Some(Err(_)) => {
                self.first = first;
                None
            }
        }
    }

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
}

impl<B: 'static> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
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

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.is_end_stream()
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

impl<B> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").field("first", &self.first).field("incoming", &self.incoming).finish()
    }
}
