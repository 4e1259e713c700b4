//! A connection to a service after the service has switched its protocol (101): bytes both ways. It still counts as one exchange, and
//! is never used for another.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{drive::Bare, fault::UpstreamFault, lease::Lease};

/// A connection whose protocol was switched.
pub struct SwitchedService<B> {
    io: Bare,
    /// What is in use until this ends.
    _lease: Lease<B>,
}

impl<B: 'static> SwitchedService<B> {
    /// Takes the connection over once everything of HTTP is done on it.
    pub(super) async fn take_over(mut lease: Lease<B>) -> Result<Self, UpstreamFault> {
        let bare = poll_fn(|cx| {
            loop {
                if let Some(bare) = lease.take_bare() {
                    return Poll::Ready(Some(bare));
                }
                if lease.is_over() {
                    return Poll::Ready(None);
                }
                if !lease.drive_or_listen(cx) {
                    return Poll::Pending;
                }
            }
        });
        match bare.await {
            Some(io) => Ok(Self { io, _lease: lease }),
            None => Err(lease.failed(UpstreamFault::Reset(None))),
        }
    }
}

impl<B> fmt::Debug for SwitchedService<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SwitchedService")
    }
}

impl<B: Unpin> AsyncRead for SwitchedService<B> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let unread = &mut self.io.unread;
        if unread.is_empty() {
            return Pin::new(&mut self.io.stream).poll_read(cx, buffer);
        }
        let count = unread.len().min(buffer.remaining());
        buffer.put_slice(unread.get(..count).unwrap_or_default());
        unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<B: Unpin> AsyncWrite for SwitchedService<B> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io.stream).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io.stream).poll_shutdown(cx)
    }
}
