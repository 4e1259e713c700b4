//! A connection that is being used, and where it goes afterwards: back to the pool, when the request was written to its
//! last byte before its answer was seen and the answer read to its own, and the service keeps it. Dropped before, it is closed.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use super::{
    dues::Dues,
    fault::UpstreamFault,
    http1::{Bare, Connection},
    line::Held,
    pool::TargetPool,
    pools::ServicePool,
};

/// A connection in use.
pub(super) struct Lease<B> {
    /// `None` when it has gone.
    connection: Option<Held<B>>,
    /// Whether the answer has been read to its end.
    has_ended: bool,
    afterwards: Afterwards,
    pool: Rc<TargetPool<B>>,
    service: Rc<ServicePool<B>>,
    /// `None` when it has been paid, or when there is nothing to pay.
    dues: Option<Box<Dues>>,
}

/// What may be done with a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// It can take another request.
    Reuse,
    /// It must not: the sender's framing is not to be trusted (RFC 9112 §6.3), or it speaks HTTP/1.0, in which the next
    /// request could have no body of unknown length.
    Close,
}

impl<B: 'static> Lease<B> {
    pub(super) const fn new(
        connection: Held<B>,
        afterwards: Afterwards,
        pool: Rc<TargetPool<B>>,
        service: Rc<ServicePool<B>>,
        dues: Option<Box<Dues>>,
    ) -> Self {
        Self { connection: Some(connection), has_ended: false, afterwards, pool, service, dues }
    }

    /// Takes the answer's body, if it came whole with its head.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        self.of_own(Connection::take_whole)?
    }

    /// Reads on in the answer's body, where the connection is this request's own. At its end the connection goes where it may.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>> {
        let polled = match self.of_own(|connection| (connection.poll_body(cx), connection.is_answered())) {
            Some((polled, is_answered)) => ready!(polled).map(|frame| (frame, is_answered)),
            // What has failed goes on failing.
            None if self.has_ended => return Poll::Ready(None),
            None => return Poll::Ready(Some(Err(UpstreamFault::Reset(None)))),
        };
        Poll::Ready(match polled {
            // A body of known length ends with its last byte: nobody needs to ask again.
            Some((Ok(frame), is_answered)) => {
                if is_answered {
                    self.end();
                }
                Some(Ok(frame))
            }
            Some((Err(fault), _)) => Some(Err(self.failed(fault))),
            None => {
                self.end();
                None
            }
        })
    }

    /// How much is left of an answer's body, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.connection {
            Some(Held::Own(connection)) => connection.left(),
            Some(Held::Early(early)) => early.with(|connection| connection.left()),
            Some(Held::Shared(_)) | None => None,
        }
    }

    /// What lies beneath when HTTP is done with the connection; `None` if there is nothing.
    pub(super) fn take_bare(&mut self) -> Option<Bare> {
        match self.connection.take() {
            Some(Held::Own(connection)) => connection.into_bare(),
            Some(Held::Early(_) | Held::Shared(_)) | None => None,
        }
    }

    /// Whether the answer has been read to its end.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn of_own<T>(&mut self, act: impl FnOnce(&mut Connection<B>) -> T) -> Option<T> {
        match &mut self.connection {
            Some(Held::Own(connection)) => Some(act(connection)),
            Some(Held::Early(early)) => Some(early.with(act)),
            Some(Held::Shared(_)) | None => None,
        }
    }

    /// When the whole request must be over, if it must.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.dues.as_ref()?.ends()
    }

    /// Whether the answer is neither over nor given up.
    pub(super) const fn is_in_use(&self) -> bool {
        self.connection.is_some()
    }

    /// The answer has been read to its end.
    pub(super) fn end(&mut self) {
        let dues = self.dues.take();
        self.has_ended |= self.connection.is_some();
        match self.connection.take() {
            Some(Held::Own(connection)) if self.afterwards == Afterwards::Reuse && connection.may_be_kept() => {
                self.pool.put(connection);
            }
            Some(Held::Early(early)) => early.end(dues),
            Some(Held::Shared(stream)) => stream.end(),
            Some(Held::Own(_)) | None => {}
        }
    }

    /// The answer's body broke off.
    pub(super) fn failed(&mut self, fault: UpstreamFault) -> UpstreamFault {
        self.cut();
        self.dues = None;
        self.service.observer.fault(fault.kind());
        fault
    }
}

impl<B> Lease<B> {
    /// Nobody wants the rest: the service learns it, by the end of the connection or of the stream.
    fn cut(&mut self) {
        match self.connection.take() {
            Some(Held::Shared(stream)) => stream.cut(),
            Some(Held::Own(_) | Held::Early(_)) | None => {}
        }
    }
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        self.cut();
    }
}
