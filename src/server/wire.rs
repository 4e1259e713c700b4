//! A client's connection as HTTP/1.1 and HTTP/2 read and write it: over TLS or not, with the bytes that were read to find out what
//! is spoken, and with a look at the frames where that is HTTP/2.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

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

/// What hyper and h2 read from and write to.
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

    /// What nobody has asked for of the bytes that were read to find out what is spoken.
    pub(super) fn into_unread(self) -> Vec<u8> {
        self.first
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { transport, watch, first, frames } = self.get_mut();
        if !first.is_empty() {
            let rest = first.split_off(first.len().min(buffer.remaining()));
            let bytes = std::mem::replace(first, rest);
            look(frames, &bytes, watch)?;
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = transport.borrow_mut().stream().poll_read(cx, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) if !new.is_empty() => Poll::Ready(look(frames, new, watch)),
            Poll::Ready(read) if is_eof(&read) && watch.defers_eof() => Poll::Pending,
            Poll::Ready(read) => Poll::Ready(read),
        }
    }
}

/// Looks at the frames in what was read; a flood ends the connection.
fn look(frames: &mut Option<Box<FrameScanner>>, bytes: &[u8], watch: &ConnectionWatch) -> io::Result<()> {
    if let Some(frames) = frames
        && frames.scan(bytes, watch).is_err()
    {
        watch.condemn(Verdict::Flood);
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(())
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

impl AsyncWrite for Wire {
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
