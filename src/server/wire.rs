//! A client's connection as hyper reads and writes it: over TLS or not, with the bytes that were read to find out what
//! is spoken, and with a look at the frames where that is HTTP/2.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::{frames::FrameScanner, socket::Socket};
use crate::body::{ConnectionWatch, Protocol, Verdict, with_scratch};

/// The transport of a connection.
#[derive(Debug)]
pub(super) enum Transport {
    /// Nothing but TCP.
    Plain(Socket),
    /// TLS, after its handshake.
    Tls(Box<TlsStream<Socket>>),
}

/// A stream of bytes, both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Transport {
    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(super) fn stream(&mut self) -> Pin<&mut dyn Stream> {
        match self {
            Self::Plain(socket) => Pin::new(socket),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

/// What hyper reads from and writes to.
#[derive(Debug)]
pub(super) struct Wire {
    /// Shared with the connection's driver, which has the socket to itself when hyper is done with it.
    transport: Rc<RefCell<Transport>>,
    watch: Rc<ConnectionWatch>,
    /// Bytes that were read to find out what is spoken.
    first: Vec<u8>,
    frames: Option<Box<FrameScanner>>,
}

impl Wire {
    /// Speaks `protocol` over `transport`, of which `first` has been read already.
    pub(super) fn new(
        transport: &Rc<RefCell<Transport>>,
        watch: &Rc<ConnectionWatch>,
        protocol: Protocol,
        first: Vec<u8>,
    ) -> Self {
        let frames = match protocol {
            Protocol::Http1 | Protocol::Http3 => None,
            Protocol::Http2 => Some(Box::default()),
        };
        Self { transport: Rc::clone(transport), watch: Rc::clone(watch), first, frames }
    }

    /// What hyper has not asked for of the bytes that were read to find out what is spoken.
    pub(super) fn into_unread(self) -> Vec<u8> {
        self.first
    }

    /// Gives `bytes` to hyper, after a look at the frames in them.
    fn deliver(&mut self, bytes: &[u8], mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if let Some(frames) = &mut self.frames
            && frames.scan(bytes, &self.watch).is_err()
        {
            self.watch.condemn(Verdict::Flood);
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        cursor.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl Read for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let rest = this.first.split_off(this.first.len().min(cursor.remaining()));
            let bytes = std::mem::replace(&mut this.first, rest);
            return this.deliver(&bytes, cursor);
        }
        with_scratch(|scratch| {
            let room = scratch.len().min(cursor.remaining());
            let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
            let read = this.transport.borrow_mut().stream().poll_read(cx, &mut buffer);
            match read {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => this.deliver(buffer.filled(), cursor),
                Poll::Ready(read) if is_eof(&read) && this.watch.defers_eof() => Poll::Pending,
                Poll::Ready(read) => Poll::Ready(read),
            }
        })
    }
}

/// Reads what there is; nothing at the end.
pub(super) fn poll_bytes(transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
    with_scratch(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        transport.stream().poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().to_vec())
    })
}

/// Whether a read that gave nothing says that the client sends no more: with or without TLS's own word for it.
fn is_eof(read: &io::Result<()>) -> bool {
    read.as_ref().map_or_else(|error| error.kind() == io::ErrorKind::UnexpectedEof, |()| true)
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.transport.borrow_mut().stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.transport.borrow_mut().stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.borrow_mut().stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.borrow_mut().stream().poll_shutdown(cx)
    }
}
