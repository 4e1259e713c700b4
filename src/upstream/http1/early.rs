//! An answer that comes before its request is whole. The rest of the request must not have to wait until the client takes more of the
//! answer, as it may take nothing before it has sent all: a task goes on with it, while whoever wants the answer reads.
//!
//! The connection is not used again: a service that answered without a look at the body may take what is left of it for the next request.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use tokio::{
    task::{AbortHandle, spawn_local},
    time::{Sleep, sleep_until},
};

use super::connection::Connection;
use crate::upstream::{dues::Dues, fault::BoxError};

/// A connection that is read from here, and written to by a task. Dropped, both end with it: nobody wants the rest of the answer, nor
/// shall more of the request be sent.
pub(in crate::upstream) struct Early<B> {
    both: Rc<Both<B>>,
    sending: Sending,
}

struct Both<B> {
    connection: RefCell<Box<Connection<B>>>,
    /// Whom to tell that the answer is over.
    sender: Cell<Option<Waker>>,
    /// `None` until it is.
    answered: RefCell<Option<Answered>>,
}

/// What the rest of a request still owes, and how long it has.
struct Answered {
    ends: Option<Pin<Box<Sleep>>>,
    _dues: Option<Box<Dues>>,
}

/// The task.
struct Sending(Option<AbortHandle>);

impl<B> Early<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Goes on with the request. If the answer is over before that is, the service has to take some of it every so often (`patience`).
    /// Until then it may well wait for who reads, who may wait for the client.
    pub(in crate::upstream) fn new(connection: Box<Connection<B>>, patience: Duration) -> Self {
        let (sender, answered) = (Cell::default(), RefCell::default());
        let both = Rc::new(Both { connection: RefCell::new(connection), sender, answered });
        let shared = Rc::clone(&both);
        let sending = spawn_local(poll_fn(move |cx| {
            let (mut connection, mut answered) = (shared.connection.borrow_mut(), shared.answered.borrow_mut());
            // A service that closes behind its answer, or says more, wants nothing more.
            if let Some(answered) = &mut *answered
                && (answered.is_overdue(cx) || connection.poll_enough(cx).is_ready())
            {
                return Poll::Ready(());
            }
            shared.sender.set(Some(cx.waker().clone()));
            connection.poll_send_rest(cx, answered.is_some().then_some(patience))
        }));
        Self { both, sending: Sending(Some(sending.abort_handle())) }
    }
}

impl<B> Early<B> {
    /// The connection, for who reads.
    pub(in crate::upstream) fn with<T>(&self, act: impl FnOnce(&mut Connection<B>) -> T) -> T {
        act(&mut self.both.connection.borrow_mut())
    }

    /// The answer is over: what is owed is paid when the request is as well.
    pub(in crate::upstream) fn end(self, dues: Option<Box<Dues>>) {
        let Self { both, mut sending } = self;
        sending.0 = None;
        let ends = dues.as_ref().and_then(|dues| dues.ends()).map(|ends| Box::pin(sleep_until(ends)));
        both.answered.replace(Some(Answered { ends, _dues: dues }));
        if let Some(sender) = both.sender.take() {
            sender.wake();
        }
    }
}

impl Answered {
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
