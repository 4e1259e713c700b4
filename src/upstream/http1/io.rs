//! What lies beneath HTTP: bytes both ways.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes both ways.
pub(in crate::upstream) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Io for S {}

/// A connection without its protocol.
pub(in crate::upstream) struct Bare {
    pub(in crate::upstream) io: Box<dyn Io>,
    /// What was read and belongs to what comes after HTTP.
    pub(in crate::upstream) unread: Bytes,
}

impl Bare {
    /// Gives what HTTP had read, and then reads.
    pub(in crate::upstream) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
