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

impl Bare {
    /// Gives what HTTP had read, and then reads.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Taken, as even what is empty holds the block that HTTP read to.
        let mut unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        buffer.put_slice(&unread.split_to(unread.len().min(buffer.remaining())));
        if !unread.is_empty() {
            self.unread = unread;
        }
        Poll::Ready(Ok(()))
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use bytes::{BufMut as _, BytesMut};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Reading(Bare);

    impl AsyncRead for Reading {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.0.poll_read(cx, buffer)
        }
    }

    #[tokio::test]
    async fn what_http_had_read_comes_first_and_its_block_is_let_go_of() {
        let mut block = BytesMut::with_capacity(8192);
        block.put_slice(b"head, then more");
        let mut unread = block.freeze();
        let head = unread.split_to(10);
        let (mut peer, ours) = tokio::io::duplex(64);
        peer.write_all(b" and more").await.unwrap();
        drop(peer);
        let mut reading = Reading(Bare { io: Box::new(ours), unread });
        let mut buffer = [0; 3];
        assert_eq!(reading.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(&buffer, b" mo");
        let mut all = String::new();
        reading.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "re and more");
        assert!(head.is_unique(), "the block is held");
    }
}
