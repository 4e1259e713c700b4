//! A client's connection, or one stream of it, after its protocol was switched (101, or 2xx to an extended CONNECT): bytes both
//! ways, still under the connection's watch. What they mean is not known here.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watch::Exchange;

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + 'static {}
impl<T: AsyncRead + AsyncWrite + 'static> Duplex for T {}

/// A client after its protocol was switched.
pub type SwitchedStream = Pin<Box<dyn Duplex>>;

/// What has begun to go on.
type Going = Pin<Box<dyn Future<Output = ()>>>;

/// What goes on when the answer that switches the protocol was sent. Dropped before that, nothing was switched.
pub struct Switch(Box<dyn FnOnce(SwitchedStream) -> Going>);

impl Switch {
    /// Goes on with what `go_on` makes of the client's side: the whole connection, or one `stream` of it.
    pub fn new<F>(go_on: impl FnOnce(SwitchedStream) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self(Box::new(|side| Box::pin(go_on(side))))
    }

    /// Goes on with `stream` until both sides are done.
    pub(crate) fn go_on(self, stream: SwitchedStream) -> Pin<Box<dyn Future<Output = ()>>> {
        (self.0)(stream)
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switch")
    }
}

/// A switched stream that lasts as long as its exchange: the connection is busy meanwhile, and where the protocol has streams of its
/// own (HTTP/2) a client that takes nothing of this one is found out here. In HTTP/1.1 the socket says so.
pub(crate) struct Watched<S> {
    stream: S,
    exchange: Exchange,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, exchange: Exchange) -> Self {
        exchange.answered();
        Self { stream, exchange }
    }

    /// Notes whether the client takes what is ready for it.
    fn note<T>(
        &self,
        cx: &Context<'_>,
        wrote: Poll<io::Result<T>>,
        count: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let Some(wait) = self.exchange.wait() else { return wrote };
        match &wrote {
            Poll::Pending if wait.is_expired() => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => wait.pause(Some(cx.waker())),
            Poll::Ready(Ok(taken)) => {
                wait.resume();
                wait.moved(count(taken) as u64);
            }
            Poll::Ready(Err(_)) => {}
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(cx, wrote, |count| *count)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(cx, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note(cx, shut, |()| 0)
    }
}
