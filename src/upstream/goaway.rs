//! Which stream a peer says is the last that it looks at (RFC 9113 §6.8): read off the frames as they come, nine bytes each, since
//! hyper and h2 keep it to themselves. It decides whether what waited for a stream may be sent elsewhere: h2 goes on to open such
//! streams after a notice that names none.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HEAD_BYTES: usize = 9;
const GOAWAY: u8 = 0x7;
/// A GOAWAY as far as it says which stream is the last.
const SAID_BYTES: usize = HEAD_BYTES + 4;
/// What a notice says in the place of a stream: whatever comes may still be looked at.
const NOTICE: u32 = 0x7fff_ffff;

/// What a peer's first GOAWAY said.
#[derive(Debug, Clone, Default)]
pub(super) struct Farewell(Rc<Cell<Option<u32>>>);

/// A stream whose peer's frames are followed.
pub(super) struct Followed<S> {
    stream: S,
    frames: Frames,
    farewell: Farewell,
}

/// Follows the frames of a peer.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes to pass over.
    skip: usize,
    head: [u8; SAID_BYTES],
    filled: usize,
}

impl Farewell {
    /// Whether the peer said which streams it looks at before it had seen any other: what was waiting then it never sees. The first
    /// word counts; what waits after a notice may be opened before the next one comes.
    pub(super) fn names_a_stream(&self) -> bool {
        self.0.get().is_some_and(|last| last < NOTICE)
    }

    fn note(&self, last: u32) {
        if self.0.get().is_none() {
            self.0.set(Some(last));
        }
    }
}

impl<S> Followed<S> {
    pub(super) fn new(stream: S) -> (Self, Farewell) {
        let farewell = Farewell::default();
        (Self { stream, frames: Frames::default(), farewell: farewell.clone() }, farewell)
    }
}

impl Frames {
    /// Goes over what came.
    fn follow(&mut self, mut bytes: &[u8], farewell: &Farewell) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = bytes.split_first() else { break };
            if let Some(slot) = self.head.get_mut(self.filled) {
                *slot = *byte;
            }
            self.filled += 1;
            bytes = rest;
            if self.filled == HEAD_BYTES || self.filled == SAID_BYTES {
                self.look(farewell);
            }
        }
    }

    /// Looks at a head that is whole, or at what stands behind that of a GOAWAY.
    fn look(&mut self, farewell: &Farewell) {
        let [high, middle, low, kind, _, _, _, _, _, last @ ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if self.filled == HEAD_BYTES && kind == GOAWAY && length >= last.len() {
            return;
        }
        let read = self.filled.saturating_sub(HEAD_BYTES);
        if read > 0 {
            // The first bit is reserved.
            farewell.note(u32::from_be_bytes(last) & NOTICE);
        }
        self.skip = length.saturating_sub(read);
        self.filled = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, frames, farewell } = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buffer))?;
        frames.follow(buffer.filled().get(before..).unwrap_or_default(), farewell);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    fn goaway(last: u32) -> Vec<u8> {
        frame(GOAWAY, &[last.to_be_bytes(), [0; 4]].concat())
    }

    fn names(frames: &[Vec<u8>]) -> bool {
        let bytes = frames.concat();
        let of = |size: usize| {
            let (farewell, mut frames) = (Farewell::default(), Frames::default());
            bytes.chunks(size).for_each(|part| frames.follow(part, &farewell));
            farewell.names_a_stream()
        };
        let found = of(bytes.len().max(1));
        assert!([1, 2, 3, 5, 9, 13, 17].iter().all(|size| of(*size) == found), "however it is cut");
        found
    }

    #[test]
    fn the_first_goaway_counts_wherever_it_stands() {
        let data = || frame(0, &[GOAWAY; 300]);
        assert!(names(&[data(), goaway(7), data()]));
        assert!(names(&[goaway(0)]));
        assert!(names(&[goaway(1 << 31 | 7)]), "the first bit is reserved");
        assert!(!names(&[data(), frame(4, &[]), data()]));
        assert!(!names(&[goaway(NOTICE)]));
        assert!(!names(&[goaway(NOTICE), data(), goaway(7)]));
        assert!(!names(&[frame(GOAWAY, &[0, 0])]), "cut short, as h2 finds");
    }
}
