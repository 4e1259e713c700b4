//! A client's socket, as seen by its watch: what it gives, what it takes, and when it takes no more.
//! Below TLS, so that what counts is what the client really sent and acknowledged.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client_stream::ClientStream;
use crate::{body::ConnectionWatch, cork::Corked};

/// A client's connection that reports to its watch.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Corked<ClientStream>,
    watch: Rc<ConnectionWatch>,
}

impl Socket {
    pub(super) fn new(stream: ClientStream, watch: Rc<ConnectionWatch>) -> Self {
        Self { stream: Corked::new(stream), watch }
    }

    /// Reads what is there, whatever is spoken.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.with(|stream| stream.try_read(buffer))
    }

    /// Waits until there may be something to read.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.with(|stream| stream.poll_read_ready(cx))
    }

    /// Tells the watch whether the client takes what there is for it.
    fn note<T>(&self, wrote: Poll<io::Result<T>>, count: impl Fn(&T) -> usize) -> Poll<io::Result<T>> {
        match &wrote {
            Poll::Pending => self.watch.on_write_blocked(),
            Poll::Ready(Ok(taken)) => self.watch.on_written(count(taken)),
            Poll::Ready(Err(_)) => {}
        }
        wrote
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len().saturating_sub(before);
        if count > 0 {
            self.watch.on_read(count);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(wrote, |count| *count)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(wrote, |count| *count)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note(shut, |()| 0)
    }
}
