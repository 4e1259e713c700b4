//! A connection that is being used, and where it goes afterwards: back to the pool, when the request was written to its
//! last byte and the answer read to its own, and both sides keep it. Dropped before, it is closed.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::task::spawn_local;

use super::{
    connection::Connection, drive::Bare, dues::Dues, fault::UpstreamFault, line::Held, pool::TargetPool,
    pools::ServicePool,
};

/// A connection in use.
pub(super) struct Lease<B> {
    /// `None` when it has gone, or when a task drives it.
    connection: Option<Held<B>>,
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
        Self { connection: Some(connection), afterwards, pool, service, dues }
    }

    /// Whether the connection has to be driven from here.
    pub(super) const fn drives(&self) -> bool {
        matches!(self.connection, Some(Held::Own(_)))
    }

    /// Whether a body that just stops is one that was cut off: hyper takes a stream that was reset without a reason for
    /// one that has ended.
    pub(super) const fn ends_in_word(&self) -> bool {
        matches!(self.connection, Some(Held::Shared(_)))
    }

    /// Lets the connection do what it can. `false` if there was nothing to do; then this task is woken when there is.
    pub(super) fn drive_or_listen(&mut self, cx: &Context<'_>) -> bool {
        match &mut self.connection {
            Some(Held::Own(connection)) => connection.drive_or_listen(cx),
            Some(Held::Shared(_)) | None => false,
        }
    }

    /// Waits until HTTP is done with the connection, and gives what lies beneath; `None` if there is nothing.
    pub(super) fn poll_bare(&mut self, cx: &Context<'_>) -> Poll<Option<Bare>> {
        match &mut self.connection {
            Some(Held::Own(connection)) => connection.poll_bare(cx),
            Some(Held::Shared(_)) | None => Poll::Ready(None),
        }
    }

    /// Takes what has been received.
    pub(super) fn taking<T>(&self, take: impl FnOnce() -> T) -> T {
        match &self.connection {
            Some(Held::Own(connection)) => connection.taking(take),
            Some(Held::Shared(_)) | None => take(),
        }
    }

    /// Whether the time of the whole request is over.
    pub(super) fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.dues.as_mut().is_some_and(|dues| dues.are_overdue(cx))
    }

    /// The answer has been read to its end.
    pub(super) fn end(&mut self) {
        self.dues = None;
        let mut connection = match self.connection.take() {
            Some(Held::Own(connection)) => connection,
            Some(Held::Shared(stream)) => return stream.end(),
            None => return,
        };
        if self.afterwards == Afterwards::Close {
            return;
        }
        if connection.is_ready() {
            self.pool.put(connection);
        } else if !connection.is_closed() {
            see_off(connection, self.afterwards, &self.pool);
        }
    }

    /// The answer came before the whole request was sent. The rest must not have to wait until the client takes more of
    /// the answer, as it may take nothing before it has sent all: a task goes on with it.
    pub(super) fn go_on_sending(&mut self) {
        // On a stream hyper's tasks go on anyhow.
        if self.drives()
            && let Some(Held::Own(connection)) = self.connection.take()
        {
            see_off(connection, self.afterwards, &self.pool);
        }
    }

    /// The answer's body broke off.
    pub(super) fn failed(&mut self, fault: UpstreamFault) -> UpstreamFault {
        if let Some(Held::Shared(stream)) = self.connection.take() {
            stream.cut();
        }
        self.dues = None;
        self.service.observer.fault(fault.kind());
        fault
    }
}

impl<B> Drop for Lease<B> {
    fn drop(&mut self) {
        if let Some(Held::Shared(stream)) = self.connection.take() {
            stream.cut();
        }
    }
}

/// Drives a connection until its exchange is over, in a task of its own.
fn see_off<B: 'static>(mut connection: Box<Connection<B>>, afterwards: Afterwards, pool: &Rc<TargetPool<B>>) {
    let pool = Rc::clone(pool);
    spawn_local(async move {
        poll_fn(|cx| connection.poll_done(cx)).await;
        if afterwards == Afterwards::Reuse && connection.is_ready() {
            pool.put(connection);
        }
    });
}
