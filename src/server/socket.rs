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
use crate::{
    body::ConnectionWatch,
    gather::{SMALL_WRITE_BYTES, gather_small},
};

/// A client's connection that reports to its watch.
#[derive(Debug)]
pub(super) struct Socket {
    stream: ClientStream,
    watch: Rc<ConnectionWatch>,
}

impl Socket {
    pub(super) fn new(stream: ClientStream, watch: Rc<ConnectionWatch>) -> Self {
        Self { stream, watch }
    }

    pub(super) fn bare(&self) -> &ClientStream {
        &self.stream
    }

    fn note_write(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Pending => self.watch.on_write_blocked(),
            Poll::Ready(Ok(count)) => self.watch.on_written(*count),
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
        self.note_write(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // For what fits in a packet, copying costs less than what the kernel does for a vector.
        let mut small = [0u8; SMALL_WRITE_BYTES];
        let wrote = match gather_small(slices, &mut small) {
            Some(bytes) => Pin::new(&mut self.stream).poll_write(cx, bytes),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        };
        self.note_write(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
