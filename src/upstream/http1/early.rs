//! An answer that comes before its request is whole. The rest of the request must not have to wait until the client takes more of the
//! answer, as it may take nothing before it has sent all: a task goes on with it, while whoever wants the answer reads.

use std::{cell::RefCell, future::poll_fn, rc::Rc};

use bytes::Bytes;
use http_body::Body;
use tokio::task::{AbortHandle, spawn_local};

use super::connection::Connection;
use crate::upstream::fault::BoxError;

/// A connection that is read from here, and written to by a task.
pub(in crate::upstream) struct Early<B> {
    connection: Rc<RefCell<Box<Connection<B>>>>,
    sending: AbortHandle,
}

impl<B> Early<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Goes on with the request. If the answer is over before that is, `last` has the connection.
    pub(in crate::upstream) fn new(
        connection: Box<Connection<B>>,
        last: impl FnOnce(Box<Connection<B>>) + 'static,
    ) -> Self {
        let connection = Rc::new(RefCell::new(connection));
        let shared = Rc::clone(&connection);
        let sending = spawn_local(async move {
            poll_fn(|cx| shared.borrow_mut().poll_rest(cx)).await;
            if let Ok(connection) = Rc::try_unwrap(shared) {
                last(connection.into_inner());
            }
        });
        Self { connection, sending: sending.abort_handle() }
    }
}

impl<B> Early<B> {
    /// The connection, for who reads.
    pub(in crate::upstream) fn with<T>(&self, act: impl FnOnce(&mut Connection<B>) -> T) -> T {
        act(&mut self.connection.borrow_mut())
    }

    /// The answer is over. The connection, if the request is as well.
    pub(in crate::upstream) fn end(self) -> Option<Box<Connection<B>>> {
        Rc::try_unwrap(self.connection).ok().map(RefCell::into_inner)
    }

    /// Nobody wants the rest of the answer, nor shall more of the request be sent.
    pub(in crate::upstream) fn cut(self) {
        self.sending.abort();
    }
}
