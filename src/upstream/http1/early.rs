//! An answer that comes before its request is whole. The rest of the request must not have to wait until the client takes more of the
//! answer, as it may take nothing before it has sent all: a task goes on with it, while whoever wants the answer reads.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use tokio::task::{AbortHandle, spawn_local};

use super::connection::Connection;
use crate::upstream::fault::BoxError;

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
    is_answered: Cell<bool>,
}

/// The task.
struct Sending(Option<AbortHandle>);

impl<B> Early<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Goes on with the request. If the answer is over before that is, the service has to take some of it every so often (`patience`), and
    /// `last` has the connection. Until then it may well wait for who reads, who may wait for the client.
    pub(in crate::upstream) fn new(
        connection: Box<Connection<B>>,
        patience: Duration,
        last: impl FnOnce(Box<Connection<B>>) + 'static,
    ) -> Self {
        let (sender, is_answered) = (Cell::default(), Cell::new(false));
        let both = Rc::new(Both { connection: RefCell::new(connection), sender, is_answered });
        let shared = Rc::clone(&both);
        let sending = spawn_local(async move {
            poll_fn(|cx| {
                let mut connection = shared.connection.borrow_mut();
                // A service that closes behind its answer, or says more, wants nothing more.
                if shared.is_answered.get() && connection.poll_unasked(cx).is_ready() {
                    return Poll::Ready(());
                }
                shared.sender.set(Some(cx.waker().clone()));
                connection.poll_send_rest(cx, shared.is_answered.get().then_some(patience))
            })
            .await;
            if let Ok(both) = Rc::try_unwrap(shared) {
                last(both.connection.into_inner());
            }
        });
        Self { both, sending: Sending(Some(sending.abort_handle())) }
    }
}

impl<B> Early<B> {
    /// The connection, for who reads.
    pub(in crate::upstream) fn with<T>(&self, act: impl FnOnce(&mut Connection<B>) -> T) -> T {
        act(&mut self.both.connection.borrow_mut())
    }

    /// The answer is over. The connection, if the request is as well.
    pub(in crate::upstream) fn end(self) -> Option<Box<Connection<B>>> {
        let Self { both, mut sending } = self;
        sending.0 = None;
        both.is_answered.set(true);
        let sender = both.sender.take();
        let connection = Rc::try_unwrap(both).ok().map(|both| both.connection.into_inner());
        if let Some(sender) = sender {
            sender.wake();
        }
        connection
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
