//! A stream that was switched to another protocol (RFC 8441 §4): bytes both ways, in DATA frames, as the windows let them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's side of a stream. Dropped before it was shut down, it is reset.
#[derive(Debug)]
pub(super) struct Tunnel {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Of a frame, what has not been read.
    unread: Bytes,
    shut: bool,
}

impl Tunnel {
    pub(super) fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv, unread: Bytes::new(), shut: false }
    }

    /// Whether the client has reset the stream. Whatever reason it gives, it is what TCP calls a reset (RFC 8441 §5).
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        match self.send.poll_reset(cx) {
            Poll::Ready(reset) if !self.shut => Some(reset.map_or_else(io_error, |reason| io_error(reason.into()))),
            Poll::Ready(_) | Poll::Pending => None,
        }
    }
}

fn io_error(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(Reason::STREAM_CLOSED) => io::Error::new(io::ErrorKind::BrokenPipe, error),
        _ => io::Error::other(error),
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) => self.unread = data,
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(self.unread.get(..count).unwrap_or_default());
        self.unread.advance(count);
        // It fails only for more than has come.
        let _ = self.recv.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Some(reset) = self.poll_reset(cx) {
            return Poll::Ready(Err(reset));
        }
        // As much of the windows as is there to be sent, and none before: what is kept by one stream others go without.
        self.send.reserve_capacity(bytes.len());
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let part = bytes.get(..self.send.capacity()).unwrap_or(bytes);
        self.send.send_data(Bytes::copy_from_slice(part), false).map_err(io_error)?;
        Poll::Ready(Ok(part.len()))
    }

    /// The connection sends by itself. Who flushes before it waits is woken by a client that resets the stream, although it may have
    /// sent its end before.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_reset(cx) {
            Some(reset) => Poll::Ready(Err(reset)),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        self.shut = true;
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(io_error))
    }
}
