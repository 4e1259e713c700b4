//! A connection to a service after the service has switched its protocol (101): bytes both ways. It still counts as one exchange, and
//! is never used for another.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{fault::UpstreamFault, lease::Lease};

/// A connection whose protocol was switched.
pub struct SwitchedService<B> {
    io: TokioIo<Upgraded>,
    /// What is in use until this ends.
    _lease: Lease<B>,
}

impl<B: 'static> SwitchedService<B> {
    /// Takes the connection over once everything of HTTP is done on it.
    pub(super) async fn take_over(upgrade: OnUpgrade, mut lease: Lease<B>) -> Result<Self, UpstreamFault> {
        let mut upgrade = pin!(upgrade);
        let upgraded = poll_fn(|cx| {
            loop {
                if let Poll::Ready(upgraded) = upgrade.as_mut().poll(cx) {
                    return Poll::Ready(upgraded);
                }
                if !lease.drive_or_listen(cx) {
                    return Poll::Pending;
                }
            }
        });
        match upgraded.await {
            Ok(upgraded) => Ok(Self { io: TokioIo::new(upgraded), _lease: lease }),
            Err(error) => Err(lease.failed(UpstreamFault::from_hyper(error))),
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
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<B: Unpin> AsyncWrite for SwitchedService<B> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
