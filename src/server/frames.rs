//! A look at the frames that a client sends in HTTP/2 (RFC 9113 §4.1), nine bytes each, nothing else kept.
//!
//! The protocol itself is h2's. What it leaves open is seen here: a header block that never ends
//! (§6.2, §6.10), streams that are opened only to be reset (CVE-2023-44487), and frames that carry nothing.

use crate::body::ConnectionWatch;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Frames without content that may stand against a connection before it is a flood; its watch forgives 512 a second.
/// A client that measures its bandwidth by pings, or cancels a page's worth of streams, stays far below.
pub(super) const CONTROL_FRAMES: u32 = 4096;

/// Streams that a client may reset before it matters how many of its streams those are.
pub(super) const RESETS: u32 = 256;

/// A client's frames cost more than they carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flood;

/// Follows a client's frames.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// Bytes to pass over: the preface, or the payload of a frame.
    skip: usize,
    head: [u8; HEAD_BYTES],
    filled: usize,
    opened: u32,
    reset: u32,
}

impl Default for FrameScanner {
    fn default() -> Self {
        Self { skip: PREFACE_BYTES, head: [0; HEAD_BYTES], filled: 0, opened: 0, reset: 0 }
    }
}

impl FrameScanner {
    /// Follows the next `bytes` of the connection.
    pub(super) fn scan(&mut self, mut bytes: &[u8], watch: &ConnectionWatch) -> Result<(), Flood> {
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
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                self.frame(watch)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, watch: &ConnectionWatch) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        let is_control = match kind {
            HEADERS => {
                self.opened = self.opened.saturating_add(1);
                watch.on_header_block(flags & END_HEADERS == 0);
                false
            }
            CONTINUATION => {
                if flags & END_HEADERS != 0 {
                    watch.on_header_block(false);
                }
                length == 0
            }
            DATA => length == 0 && flags & END_STREAM == 0,
            RST_STREAM => {
                self.reset = self.reset.saturating_add(1);
                true
            }
            // As many as there is data to acknowledge, and cheap.
            WINDOW_UPDATE => false,
            // SETTINGS, PING, PRIORITY, GOAWAY, and what is not known and ignored (§4.1).
            _ => true,
        };
        let floods = is_control && watch.on_control_frame() > CONTROL_FRAMES;
        let resets = self.reset > RESETS && self.reset > self.opened / 2;
        if floods || resets { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, time::Instant};

    use super::*;
    use crate::server::tests::bounds;

    fn watch() -> Rc<ConnectionWatch> {
        ConnectionWatch::new(Rc::new(bounds()), Instant::now())
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    fn scanner() -> FrameScanner {
        let mut scanner = FrameScanner::default();
        assert_eq!(scanner.scan(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &watch()), Ok(()));
        scanner
    }

    #[test]
    fn streams_opened_to_be_reset_are_a_flood() {
        let (mut scanner, watch) = (scanner(), watch());
        let pair = [frame(HEADERS, END_HEADERS, b"abc"), frame(RST_STREAM, 0, &[0; 4])].concat();
        let survived = (0..1000).take_while(|_| scanner.scan(&pair, &watch).is_ok()).count();
        assert_eq!(survived, 256);
    }

    #[test]
    fn pings_without_end_are_a_flood_however_they_are_cut() {
        let (mut scanner, watch) = (scanner(), watch());
        let pings = frame(0x6, 0, &[0; 8]).repeat(5000);
        assert_eq!(pings.chunks(7).map(|chunk| scanner.scan(chunk, &watch)).find(Result::is_err), Some(Err(Flood)));
    }

    #[test]
    fn data_and_window_updates_are_no_flood() {
        let (mut scanner, watch) = (scanner(), watch());
        let bytes = [frame(DATA, 0, &[0; 100]), frame(WINDOW_UPDATE, 0, &[0; 4])].concat().repeat(20_000);
        assert_eq!(scanner.scan(&bytes, &watch), Ok(()));
    }
}
