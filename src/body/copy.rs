//! A copy of a request's body, made while it is read for somebody else: bounded, and never in the way of who reads.

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

/// Why there is no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCopy {
    /// The body is longer than is copied.
    TooLong,
    /// It was not read to its end.
    Broken,
}

/// Where a copy goes once it is whole.
pub type CopyReceiver = oneshot::Receiver<Result<Bytes, NoCopy>>;

/// A copy in the making.
#[derive(Debug)]
pub(super) struct Copying {
    bytes: BytesMut,
    max: usize,
    /// `None` once it is told.
    to: Option<oneshot::Sender<Result<Bytes, NoCopy>>>,
}

impl Copying {
    pub(super) fn new(max: usize) -> (Self, CopyReceiver) {
        let (to, receiver) = oneshot::channel();
        (Self { bytes: BytesMut::new(), max, to: Some(to) }, receiver)
    }

    /// Takes note of what was read.
    pub(super) fn data(&mut self, data: &[u8]) {
        let Some(to) = &self.to else { return };
        // Whoever waited for it may have given up.
        if to.is_closed() {
            self.to = None;
            self.bytes = BytesMut::new();
        } else if data.len() > self.max.saturating_sub(self.bytes.len()) {
            self.tell(Err(NoCopy::TooLong));
        } else {
            self.bytes.extend_from_slice(data);
        }
    }

    /// All of it was read.
    pub(super) fn end(&mut self) {
        let whole = std::mem::take(&mut self.bytes).freeze();
        self.tell(Ok(whole));
    }

    fn tell(&mut self, copy: Result<Bytes, NoCopy>) {
        self.bytes = BytesMut::new();
        if let Some(to) = self.to.take() {
            // Nobody waits: then nobody is missing it.
            let _ = to.send(copy);
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.tell(Err(NoCopy::Broken));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn a_copy_is_whole_or_there_is_none() {
        let (mut copying, mut copy) = Copying::new(5);
        copying.data(b"ab");
        copying.data(b"cde");
        copying.end();
        drop(copying);
        assert_eq!(copy.try_recv().unwrap(), Ok(Bytes::from_static(b"abcde")));
        let (mut copying, mut copy) = Copying::new(4);
        copying.data(b"ab");
        copying.data(b"cde");
        copying.end();
        assert_eq!(copy.try_recv().unwrap(), Err(NoCopy::TooLong));
        let (mut copying, mut copy) = Copying::new(4);
        copying.data(b"ab");
        drop(copying);
        assert_eq!(copy.try_recv().unwrap(), Err(NoCopy::Broken));
        let (mut copying, copy) = Copying::new(4);
        drop(copy);
        copying.data(b"ab");
        assert!(copying.bytes.is_empty());
    }
}
