//! What HTTP/3 makes of bytes without a connection around them, for fuzzing: the very readers and writers that streams have.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};

use super::{
    fields,
    frames::{Frames, Piece},
};

/// The frames of a stream whose bytes come `step` at a time, as their types and as much of their payloads as there is; whether the
/// stream may end there.
pub fn http3_frames(bytes: &Bytes, step: usize) -> (Vec<(u64, BytesMut)>, bool) {
    let (mut frames, mut found, mut rest) = (Frames::default(), Vec::new(), bytes.clone());
    while !rest.is_empty() {
        let mut part = rest.split_to(step.clamp(1, rest.len()));
        while let Some(piece) = frames.next(&mut part) {
            match (piece, found.last_mut()) {
                (Piece::Head { kind, .. }, _) => found.push((kind, BytesMut::new())),
                (Piece::Payload(bytes), Some((_, payload))) => payload.extend_from_slice(&bytes),
                // There is no payload before a head.
                (Piece::Payload(_), None) => {}
            }
        }
    }
    (found, frames.is_between())
}

/// A request's head of at most `most` bytes, and what it says of the length of its body; `None`: it is malformed.
pub fn http3_head(section: Bytes, most: u64) -> Option<(Request<()>, Option<u64>)> {
    fields::read_head(section, most).ok()
}

/// A trailer section of at most `most` bytes; `None`: it is malformed.
pub fn http3_trailers(section: Bytes, most: u64) -> Option<HeaderMap> {
    fields::read_trailers(section, most).ok()
}

/// A trailer section with these fields.
pub fn http3_section(fields: &HeaderMap) -> Bytes {
    fields::write_trailers(fields).freeze()
}
