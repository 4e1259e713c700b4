//! A connection to a service after the service has switched its protocol (101): bytes both ways. It still counts as one exchange, and
//! is never used for another.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{fault::UpstreamFault, http1::Bare, lease::Lease};

/// A connection whose protocol was switched.
pub struct SwitchedService<B> {
    bare: Bare,
    /// What is in use until this ends.
    _lease: Lease<B>,
}

impl<B: 'static> SwitchedService<B> {
    /// Takes the connection over, as HTTP is done on it.
    pub(super) fn take_over(mut lease: Lease<B>) -> Result<Self, UpstreamFault> {
        match lease.take_bare() {
            Some(bare) => Ok(Self { bare, _lease: lease }),
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
        self.bare.poll_read(cx, buffer)
    }
}

impl<B: Unpin> AsyncWrite for SwitchedService<B> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bare.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bare.io).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bare.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bare.io).poll_shutdown(cx)
    }
}
