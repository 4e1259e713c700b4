//! The client's unidirectional streams (RFC 9114 §6.2, RFC 9204 §4.2): what they say is held against the protocol, and
//! nothing of it is kept.

use std::{cell::Cell, future::poll_fn, rc::Rc};

use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, VarInt};

use super::{
    codes,
    connection::Conversation,
    frames::{self, Piece},
    reader::{Reader, poll_bytes},
    varint,
};
use crate::{body::Verdict, server::frames::CONTROL_FRAMES};

/// The control stream.
pub(super) const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;

/// The longest payload of a frame that is looked into: settings have a few bytes each, and there are a handful.
const LONGEST: u64 = 1024;

/// Which of the streams that there is one of have come.
#[derive(Debug, Default)]
pub(super) struct Seen {
    control: Cell<bool>,
    encoder: Cell<bool>,
    decoder: Cell<bool>,
}

/// Why the connection has to end.
struct Broken(VarInt);

/// Reads a stream to its end.
pub(super) async fn read<S>(conversation: Rc<Conversation<S>>, mut stream: RecvStream) {
    let mut bytes = Bytes::new();
    // RFC 9114 §6.2: a stream may end before it has said what it is.
    let Some(kind) = kind(&mut stream, &mut bytes).await else { return conversation.count_in_vain() };
    let seen = &conversation.control;
    let result = match kind {
        CONTROL if !seen.control.replace(true) => follow(&conversation, stream, bytes).await,
        ENCODER if !seen.encoder.replace(true) => instructions(&mut stream, bytes, encoder).await,
        DECODER if !seen.decoder.replace(true) => {
            let mut decoder = Decoder::default();
            instructions(&mut stream, bytes, |byte| decoder.take(byte)).await
        }
        // There is one of each, and clients push nothing.
        CONTROL | ENCODER | DECODER | PUSH => Err(Broken(codes::STREAM_CREATION_ERROR)),
        _ => {
            // RFC 9114 §6.2: not known, so of no meaning.
            let _ = stream.stop(codes::STREAM_CREATION_ERROR);
            conversation.count_frame();
            Ok(())
        }
    };
    if let Err(Broken(code)) = result {
        conversation.connection.close(code, b"");
    }
}

impl<S> Conversation<S> {
    /// Counts what carries nothing; too much of it is a flood.
    fn count_frame(&self) {
        let watch = &self.serving.info.watch;
        if watch.on_control_frame() > CONTROL_FRAMES {
            watch.condemn(Verdict::Flood);
        }
    }
}

async fn kind(stream: &mut RecvStream, bytes: &mut Bytes) -> Option<u64> {
    let mut reading = varint::Reading::default();
    loop {
        while let Some(byte) = bytes.first().copied() {
            bytes.advance(1);
            if let Some(kind) = reading.take(byte) {
                return Some(kind);
            }
        }
        *bytes = poll_fn(|cx| poll_bytes(stream, cx)).await.ok()??;
    }
}

/// Follows the control stream, which lasts as long as the connection.
async fn follow<S>(conversation: &Conversation<S>, stream: RecvStream, bytes: Bytes) -> Result<(), Broken> {
    let mut reader = Reader::new(stream, bytes);
    let mut frames = ControlFrames::default();
    let (mut current, mut payload) = (None, BytesMut::new());
    loop {
        let piece = poll_fn(|cx| reader.poll_piece(cx)).await;
        let Ok(Some(piece)) = piece else {
            // A connection that is gone cannot be closed again.
            return Err(Broken(codes::CLOSED_CRITICAL_STREAM));
        };
        match piece {
            Piece::Head { kind, length } => {
                conversation.count_frame();
                let looked_into = frames.begin(kind)?;
                if looked_into && length > LONGEST {
                    return Err(Broken(codes::EXCESSIVE_LOAD));
                }
                current = looked_into.then_some(kind);
            }
            Piece::Payload(part) if current.is_some() => payload.extend_from_slice(&part),
            Piece::Payload(_) => {}
        }
        if reader.left() == 0
            && let Some(kind) = current.take()
        {
            frames.take(kind, payload.split().freeze())?;
        }
    }
}

/// What has been said on a control stream.
#[derive(Debug, Default)]
struct ControlFrames {
    settled: bool,
    most_pushes: Option<u64>,
    going: Option<u64>,
}

impl ControlFrames {
    /// Whether the payload of a frame is to be looked into, if the frame may stand here (RFC 9114 §7.2).
    fn begin(&mut self, kind: u64) -> Result<bool, Broken> {
        match (kind, self.settled) {
            (frames::SETTINGS, false) => {
                self.settled = true;
                Ok(true)
            }
            (_, false) => Err(Broken(codes::MISSING_SETTINGS)),
            (frames::SETTINGS | frames::DATA | frames::HEADERS | frames::PUSH_PROMISE, true) => {
                Err(Broken(codes::FRAME_UNEXPECTED))
            }
            // §7.2.3: of nothing that was promised.
            (frames::CANCEL_PUSH, true) => Err(Broken(codes::ID_ERROR)),
            (frames::GOAWAY | frames::MAX_PUSH_ID, true) => Ok(true),
            (kind, true) if frames::is_of_http2(kind) => Err(Broken(codes::FRAME_UNEXPECTED)),
            (_, true) => Ok(false),
        }
    }

    fn take(&mut self, kind: u64, payload: Bytes) -> Result<(), Broken> {
        let wrong_size = || Broken(codes::FRAME_ERROR);
        let numbers = numbers(&payload).ok_or_else(wrong_size)?;
        match (kind, numbers.as_slice()) {
            (frames::SETTINGS, settings) => check_settings(settings),
            // §7.2.7: it never gets less. §5.2: neither does what is taken back become more.
            (frames::MAX_PUSH_ID, [most]) if self.most_pushes.is_none_or(|before| before <= *most) => {
                self.most_pushes = Some(*most);
                Ok(())
            }
            (frames::GOAWAY, [id]) if self.going.is_none_or(|before| *id <= before) => {
                self.going = Some(*id);
                Ok(())
            }
            (frames::MAX_PUSH_ID | frames::GOAWAY, [_]) => Err(Broken(codes::ID_ERROR)),
            (_, _) => Err(wrong_size()),
        }
    }
}

/// RFC 9114 §7.2.4: pairs, none twice, and none of HTTP/2's. None of them matters to us: we use no dynamic table.
fn check_settings(settings: &[u64]) -> Result<(), Broken> {
    let (pairs, rest) = settings.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Broken(codes::FRAME_ERROR));
    }
    for (at, [name, _]) in pairs.iter().enumerate() {
        let twice = pairs.iter().take(at).any(|[other, _]| other == name);
        if twice || matches!(name, 0x0 | 0x2..=0x5) {
            return Err(Broken(codes::SETTINGS_ERROR));
        }
    }
    Ok(())
}

/// All the integers of a payload; `None`: the last is cut off.
fn numbers(payload: &[u8]) -> Option<Vec<u64>> {
    let mut reading = varint::Reading::default();
    let numbers = payload.iter().filter_map(|byte| reading.take(*byte)).collect();
    (!reading.is_open()).then_some(numbers)
}

/// Follows one of QPACK's streams, byte by byte.
async fn instructions(
    stream: &mut RecvStream,
    mut bytes: Bytes,
    mut take: impl FnMut(u8) -> Result<(), Broken>,
) -> Result<(), Broken> {
    loop {
        bytes.iter().try_for_each(|byte| take(*byte))?;
        bytes = match poll_fn(|cx| poll_bytes(stream, cx)).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(_) => return Err(Broken(codes::CLOSED_CRITICAL_STREAM)),
        };
    }
}

/// RFC 9204 §4.3: of a table of no bytes there is only its capacity to be said, which is none.
fn encoder(byte: u8) -> Result<(), Broken> {
    if byte == 0x20 { Ok(()) } else { Err(Broken(codes::ENCODER_STREAM_ERROR)) }
}

/// RFC 9204 §4.4: that a section was given up may be said (`01`, then a stream's number); there is nothing that could be
/// acknowledged.
#[derive(Debug, Default)]
struct Decoder {
    within: bool,
}

impl Decoder {
    fn take(&mut self, byte: u8) -> Result<(), Broken> {
        if self.within {
            self.within = byte & 0x80 != 0;
            return Ok(());
        }
        if byte & 0xc0 != 0x40 {
            return Err(Broken(codes::DECODER_STREAM_ERROR));
        }
        self.within = byte & 0x3f == 0x3f;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), Broken>) -> Option<VarInt> {
        result.err().map(|Broken(code)| code)
    }

    fn said(frames: &[(u64, &'static [u8])]) -> Option<VarInt> {
        let mut control = ControlFrames::default();
        frames.iter().find_map(|(kind, payload)| {
            let result = control.begin(*kind).and_then(|looked_into| match looked_into {
                true => control.take(*kind, Bytes::from_static(payload)),
                false => Ok(()),
            });
            code(result)
        })
    }

    const NONE: (u64, &[u8]) = (frames::SETTINGS, &[]);

    #[test]
    fn settings_come_first_and_once() {
        assert_eq!(said(&[NONE]), None);
        assert_eq!(said(&[(frames::MAX_PUSH_ID, &[1])]), Some(codes::MISSING_SETTINGS));
        assert_eq!(said(&[(0x21, &[])]), Some(codes::MISSING_SETTINGS));
        assert_eq!(said(&[NONE, NONE]), Some(codes::FRAME_UNEXPECTED));
    }

    #[test]
    fn settings_are_pairs_without_repetition_and_without_those_of_http2() {
        assert_eq!(said(&[(frames::SETTINGS, &[0x06, 0x40, 0xff, 0x01, 0x00, 0x33, 0x01])]), None);
        assert_eq!(said(&[(frames::SETTINGS, &[0x06])]), Some(codes::FRAME_ERROR));
        assert_eq!(said(&[(frames::SETTINGS, &[0x06, 0x40])]), Some(codes::FRAME_ERROR));
        assert_eq!(said(&[(frames::SETTINGS, &[0x06, 1, 0x06, 1])]), Some(codes::SETTINGS_ERROR));
        assert_eq!(said(&[(frames::SETTINGS, &[0x04, 1])]), Some(codes::SETTINGS_ERROR));
    }

    #[test]
    fn requests_and_frames_of_http2_have_no_place_on_a_control_stream() {
        for kind in [frames::DATA, frames::HEADERS, frames::PUSH_PROMISE, 0x2, 0x6, 0x8, 0x9] {
            assert_eq!(said(&[NONE, (kind, &[])]), Some(codes::FRAME_UNEXPECTED), "{kind:#x}");
        }
        assert_eq!(said(&[NONE, (0x21, b"anything"), (0xf0700, b"\x00u=1")]), None);
    }

    #[test]
    fn identifiers_go_one_way_alone() {
        let pushes =
            |ids: [&'static [u8]; 2]| said(&[NONE, (frames::MAX_PUSH_ID, ids[0]), (frames::MAX_PUSH_ID, ids[1])]);
        assert_eq!(pushes([&[1], &[2]]), None);
        assert_eq!(pushes([&[2], &[1]]), Some(codes::ID_ERROR));
        let going = |ids: [&'static [u8]; 2]| said(&[NONE, (frames::GOAWAY, ids[0]), (frames::GOAWAY, ids[1])]);
        assert_eq!(going([&[8], &[4]]), None);
        assert_eq!(going([&[4], &[8]]), Some(codes::ID_ERROR));
        assert_eq!(said(&[NONE, (frames::CANCEL_PUSH, &[0])]), Some(codes::ID_ERROR));
        assert_eq!(said(&[NONE, (frames::GOAWAY, &[1, 1])]), Some(codes::FRAME_ERROR));
        assert_eq!(said(&[NONE, (frames::GOAWAY, &[])]), Some(codes::FRAME_ERROR));
    }

    #[test]
    fn nothing_can_be_put_into_a_table_that_there_is_not() {
        assert_eq!(code(encoder(0x20)), None);
        for byte in [0x21, 0x3f, 0xc1, 0x41, 0x00] {
            assert_eq!(code(encoder(byte)), Some(codes::ENCODER_STREAM_ERROR));
        }
        let said = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            code(bytes.iter().try_for_each(|byte| decoder.take(*byte)))
        };
        assert_eq!(said(&[0x44, 0x7f, 0x85, 0x01, 0x48]), None);
        assert_eq!(said(&[0x84]), Some(codes::DECODER_STREAM_ERROR));
        assert_eq!(said(&[0x01]), Some(codes::DECODER_STREAM_ERROR));
    }
}
