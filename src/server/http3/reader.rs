//! The bytes of one stream of the client's, as frames.

use std::{
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, VarInt};

use super::frames::{Frames, Piece};

/// The most that is taken at once.
const CHUNK: usize = 64 * 1024;

/// Reads frames from a stream.
#[derive(Debug)]
pub(super) struct Reader {
    stream: RecvStream,
    bytes: Bytes,
    frames: Frames,
    ended: bool,
}

impl Reader {
    pub(super) fn new(stream: RecvStream, bytes: Bytes) -> Self {
        Self { stream, bytes, frames: Frames::default(), ended: false }
    }

    /// The next piece of a frame; `None`: the client has ended the stream.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, ReadError>> {
        loop {
            if let Some(piece) = self.frames.next(&mut self.bytes) {
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            match ready!(poll_bytes(&mut self.stream, cx))? {
                Some(bytes) => self.bytes = bytes,
                None => self.ended = true,
            }
        }
    }

    /// How many bytes of the frame's payload are still to come.
    pub(super) fn left(&self) -> u64 {
        self.frames.left()
    }

    /// Whether the stream may end here.
    pub(super) fn is_between(&self) -> bool {
        self.frames.is_between()
    }

    /// Whether the client has ended the stream.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Asks the client to send no more.
    pub(super) fn stop(&mut self, code: VarInt) {
        // It may have ended already.
        let _ = self.stream.stop(code);
    }
}

/// The next bytes of a stream; `None`: the client has ended it.
pub(super) fn poll_bytes(stream: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
    // The future holds nothing but the stream: what it waits for is kept there.
    let chunk = pin!(stream.read_chunk(CHUNK, true));
    chunk.poll(cx).map_ok(|chunk| chunk.map(|chunk| chunk.bytes))
}
