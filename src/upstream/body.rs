//! An answer's body on its way to the client. When its end has been read, the connection goes back to the pool; when it
//! is dropped before, the connection is closed, which is how an upstream learns that the client is gone.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{connection::Connection, fault::UpstreamFault, pool::TargetPool, pools::ServicePool};

/// The body of an upstream's answer.
#[derive(Debug)]
pub struct UpstreamBody<B> {
    incoming: Incoming,
    lease: Lease<B>,
}

/// Where a connection goes after its answer.
#[derive(Debug)]
pub(super) struct Lease<B> {
    /// `None` when it has gone back, or must not.
    pub(super) connection: Option<Connection<B>>,
    pub(super) pool: Rc<TargetPool<B>>,
    pub(super) service: Rc<ServicePool<B>>,
}

impl<B> Lease<B> {
    fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}

impl<B> UpstreamBody<B> {
    pub(super) fn new(incoming: Incoming, lease: Lease<B>) -> Self {
        let mut body = Self { incoming, lease };
        if body.incoming.is_end_stream() {
            body.lease.end();
        }
        body
    }
}

impl<B> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                // A body of known length ends with its last byte: nobody needs to ask again.
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.lease.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.lease.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease.connection = None;
                let fault = UpstreamFault::from_hyper(error);
                self.lease.service.observer.fault(fault.kind());
                Poll::Ready(Some(Err(fault)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
