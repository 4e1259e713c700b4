//! Where a body ends (RFC 9112 §6.3), and what it says until then.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{
    HeaderMap, Method, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::Frame;

use super::answers::{BadAnswer, fields};
use crate::upstream::{answer::Checked, fault::InvalidAnswer};

/// Sixteen hexadecimal digits are all that 64 bits hold.
const SIZE_DIGITS: usize = 16;
/// Of one chunk's line. Extensions are there for nobody, and not passed on.
const LINE_BYTES: usize = 4 * 1024;
/// Of the extensions in a whole body: they are work for whoever reads them, and nothing for who waits for the body.
const EXTENSION_BYTES: usize = 16 * 1024;
/// The largest trailer section.
const TRAILER_BYTES: usize = 16 * 1024;

/// What of a body is yet to come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// Nothing.
    Over,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked {
        /// What comes next.
        next: Part,
        /// What the extensions were in all.
        extensions: usize,
    },
    /// All that comes until the connection is closed.
    UntilClose,
}

/// A part of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line's end behind a chunk.
    DataEnd,
    /// The trailer section, of which so much was searched for its end.
    Trailers(usize),
}

impl Decoder {
    /// How the body of an answer ends (RFC 9112 §6.3) whose head was checked. CONNECT is never asked for.
    pub(super) fn of<T>(answer: &Response<T>, _: &Checked, asked: &Method) -> Result<Self, InvalidAnswer> {
        let status = answer.status();
        let has_none = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_none || *asked == Method::HEAD {
            return Ok(Self::Over);
        }
        if answer.headers().contains_key(TRANSFER_ENCODING) {
            return Ok(Self::Chunked { next: Part::Size, extensions: 0 });
        }
        let Some(length) = answer.headers().get(CONTENT_LENGTH) else { return Ok(Self::UntilClose) };
        match length.to_str().ok().and_then(|length| length.parse().ok()) {
            Some(0) => Ok(Self::Over),
            Some(length) => Ok(Self::Length(length)),
            None => Err(InvalidAnswer::ContentLength),
        }
    }

    /// Whether all of the body was taken.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// How many bytes are left, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Over => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked { .. } | Self::UntilClose => None,
        }
    }

    /// Takes the whole of a body whose length is known, if it is here.
    pub(super) fn take_whole(&mut self, buffer: &mut BytesMut) -> Option<Bytes> {
        let left = usize::try_from(self.left()?).ok().filter(|left| *left <= buffer.len())?;
        *self = Self::Over;
        Some(if left == 0 { Bytes::new() } else { buffer.split_to(left).freeze() })
    }

    /// Takes what is here; `None` if that is nothing to be passed on.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, BadAnswer> {
        if buffer.is_empty() {
            return Ok(None);
        }
        let (data, is_last) = match self {
            Self::Over => return Ok(None),
            Self::Length(left) => {
                let data = some_of(buffer, left);
                (data, *left == 0)
            }
            Self::UntilClose => (buffer.split().freeze(), false),
            Self::Chunked { next, extensions } => {
                let Some(taken) = chunked(next, extensions, buffer)? else { return Ok(None) };
                if let Taken::Data(data) = taken {
                    return Ok(Some(Frame::data(data)));
                }
                *self = Self::Over;
                let Taken::End(trailers) = taken else { return Ok(None) };
                return Ok(trailers.map(Frame::trailers));
            }
        };
        if is_last {
            *self = Self::Over;
        }
        Ok(Some(Frame::data(data)))
    }

    /// The connection has ended in good order. `false` if something of the body is missing.
    pub(super) fn at_eof(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Over;
        }
        self.is_over()
    }
}

/// What is taken of a chunked body.
enum Taken {
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// At most `left` of what is here.
fn some_of(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left = left.saturating_sub(count as u64);
    buffer.split_to(count).freeze()
}

fn chunked(next: &mut Part, extensions: &mut usize, buffer: &mut BytesMut) -> Result<Option<Taken>, BadAnswer> {
    loop {
        match next {
            Part::Size => {
                let Some(line) = line(buffer)? else { return Ok(None) };
                let (size, extension) = size(&line)?;
                *extensions = extensions.saturating_add(extension);
                if *extensions > EXTENSION_BYTES {
                    return Err(BadAnswer::Chunk);
                }
                *next = if size == 0 { Part::Trailers(0) } else { Part::Data(size) };
            }
            Part::Data(left) => {
                if buffer.is_empty() {
                    return Ok(None);
                }
                let data = some_of(buffer, left);
                if *left == 0 {
                    *next = Part::DataEnd;
                }
                return Ok(Some(Taken::Data(data)));
            }
            Part::DataEnd => {
                match &**buffer {
                    [b'\r', b'\n', ..] => buffer.advance(2),
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(BadAnswer::Chunk),
                }
                *next = Part::Size;
            }
            Part::Trailers(searched) => return Ok(trailers(searched, buffer)?.map(Taken::End)),
        }
    }
}

/// Takes a line without its end, if it is whole.
fn line(buffer: &mut BytesMut) -> Result<Option<BytesMut>, BadAnswer> {
    let Some(end) = buffer.iter().take(LINE_BYTES).position(|byte| *byte == b'\n') else {
        return if buffer.len() < LINE_BYTES { Ok(None) } else { Err(BadAnswer::Chunk) };
    };
    let mut line = buffer.split_to(end);
    buffer.advance(1);
    // Whoever takes a bare line feed for an end reads something else than who does not (RFC 9112 §2.2, and what became of it).
    if line.last() != Some(&b'\r') {
        return Err(BadAnswer::Chunk);
    }
    line.truncate(end.saturating_sub(1));
    Ok(Some(line))
}

/// The size of a chunk, and how much besides stands on its line.
fn size(line: &[u8]) -> Result<(u64, usize), BadAnswer> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at_checked(digits).ok_or(BadAnswer::Chunk)?;
    if digits == 0 || digits > SIZE_DIGITS {
        return Err(BadAnswer::Chunk);
    }
    let size = str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok()).ok_or(BadAnswer::Chunk)?;
    // Some servers pad the size with spaces.
    let mut after = rest.trim_ascii_start().iter();
    let is_extension = matches!(after.next(), None | Some(b';'));
    if is_extension && rest.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..)) {
        Ok((size, rest.len()))
    } else {
        Err(BadAnswer::Chunk)
    }
}

/// Takes the trailer section, if it is whole.
#[expect(clippy::option_option, reason = "not whole yet, whole without a field, whole")]
fn trailers(searched: &mut usize, buffer: &mut BytesMut) -> Result<Option<Option<HeaderMap>>, BadAnswer> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Some(None));
    }
    let rest = buffer.get(*searched..).unwrap_or_default();
    let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|end| end.saturating_add(*searched))
    else {
        *searched = buffer.len().saturating_sub(3);
        return if buffer.len() < TRAILER_BYTES { Ok(None) } else { Err(BadAnswer::Trailers) };
    };
    if end >= TRAILER_BYTES {
        return Err(BadAnswer::Trailers);
    }
    let section = buffer.split_to(end.saturating_add(4)).freeze();
    let mut before = None;
    for byte in &section {
        if *byte == b'\n' && before != Some(b'\r') {
            return Err(BadAnswer::Trailers);
        }
        before = Some(*byte);
    }
    let mut trailers = HeaderMap::new();
    fields(&section, &mut trailers)?;
    Ok(Some(Some(trailers)))
}
