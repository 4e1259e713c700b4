//! A client's connection once hyper is done with it, because its protocol was switched: what was read too far comes first, then the
//! transport itself. Its watch sees every byte as before.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Transport;

/// What is left of an HTTP/1.1 connection after 101.
pub(super) struct Rest {
    /// What the client sent before it could know of the 101.
    unread: Vec<u8>,
    transport: Rc<RefCell<Transport>>,
}

impl Rest {
    pub(super) fn new(unread: Vec<u8>, transport: &Rc<RefCell<Transport>>) -> Self {
        Self { unread, transport: Rc::clone(transport) }
    }
}

impl AsyncRead for Rest {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let room = buffer.remaining().min(self.unread.len());
            let rest = self.unread.split_off(room);
            buffer.put_slice(&self.unread);
            self.unread = rest;
            return Poll::Ready(Ok(()));
        }
        self.transport.borrow_mut().stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Rest {
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.borrow_mut().stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.borrow_mut().stream().poll_shutdown(cx)
    }
}
