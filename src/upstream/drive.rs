//! hyper's side of a connection, driven by whoever waits for what comes over it, and not by a task of its own.
//!
//! hyper wakes for two reasons: its socket can do something, or the other end of one of its channels did. The second
//! happens within the same call that drives the connection, so waking a task for it would only have everything polled
//! twice. Therefore the connection has a waker of its own, a bell: it is remembered that it rang, and who listens is
//! woken; nobody listens while the connection is being driven.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::fault::BoxError;

/// A connection that has to be driven; hyper's, whatever lies beneath.
pub(super) trait Drive: Future<Output = hyper::Result<()>> + Unpin {
    /// What lies beneath, after HTTP is done with it.
    fn into_bare(self: Box<Self>) -> Bare;
}

pub(super) type Driven = Box<dyn Drive>;

/// Bytes both ways.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Io for S {}

/// A connection without its protocol.
pub(super) struct Bare {
    pub(super) io: Box<dyn Io>,
    /// What was read and belongs to what comes after HTTP.
    pub(super) unread: Bytes,
}

impl<S, B> Drive for http1::Connection<TokioIo<S>, B>
where
    S: Io + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    fn into_bare(self: Box<Self>) -> Bare {
        let parts = self.into_parts();
        Bare { io: Box::new(parts.io.into_inner()), unread: parts.read_buf }
    }
}

/// Drives one connection.
pub(super) struct Driver {
    /// `None` when it is over.
    connection: Option<Driven>,
    /// What is left where hyper ended without a fault of its own: of use after a 101 alone.
    bare: Option<Bare>,
    bell: Arc<Bell>,
    /// The bell as hyper knows it: always the same, so that hyper need not take note of it anew each time.
    waker: Waker,
}

/// What hyper wakes.
#[derive(Default)]
struct Bell {
    rang: AtomicBool,
    listener: Mutex<Option<Waker>>,
}

impl Driver {
    pub(super) fn new(connection: Driven) -> Self {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        Self { connection: Some(connection), bare: None, bell, waker }
    }

    /// Whether hyper is done with the connection.
    pub(super) const fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    /// Has the connection driven even if nothing rang: something was sent.
    pub(super) fn ring(&self) {
        self.bell.rang.store(true, Ordering::Release);
    }

    /// Lets the connection do what it can. `false` if nothing has happened since it last did.
    pub(super) fn drive(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if !self.bell.rang.load(Ordering::Acquire) {
            return false;
        }
        self.bell.rang.store(false, Ordering::Release);
        if let Poll::Ready(ended) = Pin::new(connection).poll(&mut Context::from_waker(&self.waker)) {
            let connection = self.connection.take();
            match ended {
                Ok(()) => self.bare = connection.map(Drive::into_bare),
                // What goes wrong here the request or its answer's body is told as well; on an idle connection it is nothing.
                Err(error) => tracing::debug!(%error, "upstream connection ended"),
            }
        }
        true
    }

    /// What lies beneath, once the connection is over. It is taken by whoever has switched the protocol.
    pub(super) const fn take_bare(&mut self) -> Option<Bare> {
        self.bare.take()
    }

    /// Does something of which the connection need not know.
    pub(super) fn unheard<T>(&self, act: impl FnOnce() -> T) -> T {
        let rang = self.bell.rang.load(Ordering::Acquire);
        let done = act();
        self.bell.rang.store(rang, Ordering::Release);
        done
    }

    /// Has this task woken when there is something to drive.
    pub(super) fn listen(&self, waker: &Waker) {
        let mut listener = self.bell.listener();
        if !listener.as_ref().is_some_and(|listener| listener.will_wake(waker)) {
            *listener = Some(waker.clone());
        }
        drop(listener);
        // It may have rung before anybody listened: hyper does so to let others have their turn.
        if self.bell.rang.load(Ordering::Acquire) {
            waker.wake_by_ref();
        }
    }

    /// The bell, for others that shall have this connection's task woken.
    pub(super) const fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Bell {
    fn listener(&self) -> MutexGuard<'_, Option<Waker>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        let listener = self.listener().take();
        if let Some(listener) = listener {
            listener.wake();
        }
    }
}
