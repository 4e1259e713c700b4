//! The frames of HTTP/3 (RFC 9114 §7) on one stream, taken apart as their bytes come; nothing is kept but an unfinished
//! head of a frame.

use bytes::{Buf, Bytes, BytesMut};

use super::varint;

/// RFC 9114 §7.2.1
pub(super) const DATA: u64 = 0x0;
/// RFC 9114 §7.2.2
pub(super) const HEADERS: u64 = 0x1;
/// RFC 9114 §7.2.3
pub(super) const CANCEL_PUSH: u64 = 0x3;
/// RFC 9114 §7.2.4
pub(super) const SETTINGS: u64 = 0x4;
/// RFC 9114 §7.2.5
pub(super) const PUSH_PROMISE: u64 = 0x5;
/// RFC 9114 §7.2.6
pub(super) const GOAWAY: u64 = 0x7;
/// RFC 9114 §7.2.7
pub(super) const MAX_PUSH_ID: u64 = 0xd;

/// Whether a frame is HTTP/2's and must not be sent (RFC 9114 §7.2.8).
pub(super) fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// A part of a stream of frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A frame begins.
    Head {
        /// What it is.
        kind: u64,
        /// How many bytes its payload has.
        length: u64,
    },
    /// Some of its payload.
    Payload(Bytes),
}

/// Takes frames apart.
#[derive(Debug, Default)]
pub(super) struct Frames {
    kind: Option<u64>,
    reading: varint::Reading,
    /// Of the payload, still to come.
    left: u64,
}

impl Frames {
    /// Takes the next piece off `bytes`; `None`: they are used up.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> Option<Piece> {
        if self.left > 0 {
            if bytes.is_empty() {
                return None;
            }
            let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= count as u64;
            return Some(Piece::Payload(bytes.split_to(count)));
        }
        loop {
            let byte = bytes.first().copied()?;
            bytes.advance(1);
            let Some(number) = self.reading.take(byte) else { continue };
            match self.kind.take() {
                None => self.kind = Some(number),
                Some(kind) => {
                    self.left = number;
                    return Some(Piece::Head { kind, length: number });
                }
            }
        }
    }

    /// How many bytes of the frame's payload are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Whether the stream may end here (RFC 9114 §7.1).
    pub(super) fn is_between(&self) -> bool {
        self.left == 0 && self.kind.is_none() && !self.reading.is_open()
    }
}

/// The head of a frame.
pub(super) fn write_head(into: &mut BytesMut, kind: u64, length: usize) {
    varint::write(into, kind);
    varint::write(into, length as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(frames: &mut Frames, bytes: &'static [u8]) -> Vec<Piece> {
        let mut bytes = Bytes::from_static(bytes);
        std::iter::from_fn(|| frames.next(&mut bytes)).collect()
    }

    #[test]
    fn frames_come_apart_wherever_their_bytes_are_parted() {
        let mut frames = Frames::default();
        assert_eq!(pieces(&mut frames, &[0x01]), []);
        assert!(!frames.is_between());
        assert_eq!(pieces(&mut frames, &[0x40]), []);
        assert_eq!(
            pieces(&mut frames, &[0x02, b'a']),
            [Piece::Head { kind: HEADERS, length: 2 }, Piece::Payload(Bytes::from_static(b"a"))]
        );
        assert!(!frames.is_between());
        assert_eq!(
            pieces(&mut frames, &[b'b', 0x00, 0x00, 0x21, 0x01]),
            [
                Piece::Payload(Bytes::from_static(b"b")),
                Piece::Head { kind: DATA, length: 0 },
                Piece::Head { kind: 0x21, length: 1 },
            ]
        );
        assert_eq!(frames.left(), 1);
        assert_eq!(pieces(&mut frames, b"x"), [Piece::Payload(Bytes::from_static(b"x"))]);
        assert!(frames.is_between());
    }

    proptest::proptest! {
        #[test]
        fn where_bytes_are_parted_changes_nothing(bytes: Vec<u8>, at in 0_usize..64) {
            let taken_apart = |parts: &[&[u8]]| {
                let mut frames = Frames::default();
                let (mut heads, mut payload) = (Vec::new(), Vec::new());
                for part in parts {
                    let mut part = Bytes::copy_from_slice(part);
                    while let Some(piece) = frames.next(&mut part) {
                        match piece {
                            Piece::Head { kind, length } => heads.push((kind, length, payload.len())),
                            Piece::Payload(bytes) => payload.extend_from_slice(&bytes),
                        }
                    }
                }
                (heads, payload, frames.left(), frames.is_between())
            };
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            proptest::prop_assert_eq!(taken_apart(&[&bytes]), taken_apart(&[first, second]));
        }
    }
}
