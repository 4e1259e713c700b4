//! Answers, read off bytes as they come.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CONNECTION, InvalidHeaderName, InvalidHeaderValue},
};
use http_body::Frame;
use hyper::ext::ReasonPhrase;

use super::decoder::Decoder;
use crate::upstream::{answer::Checked, fault::InvalidAnswer};

/// The largest head of an answer: eight times what common servers send at most.
const HEAD_BYTES: usize = 64 * 1024;
/// More than any answer has. It bounds what is made of a head.
const FIELDS: usize = 100;
/// What is read at once before it is known that there is more: as much as heads and small answers need.
const READ_BYTES: usize = 8 * 1024;
/// What is read at once of long answers: a connection holds no more that a client has not taken.
const MOST_READ_BYTES: usize = 128 * 1024;

/// How an answer breaks RFC 9112.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// The head can't be taken apart.
    #[error("its head")]
    Head(#[from] httparse::Error),
    /// The head is larger than 64 KiB.
    #[error("its head is larger than {HEAD_BYTES} bytes")]
    HeadSize,
    /// A status that is none (RFC 9110 §15).
    #[error("its status")]
    Status,
    /// More than a hundred answers of which none was the last (RFC 9110 §15.2).
    #[error("too many interim ones before it")]
    Interim,
    /// A field that can't be passed on.
    #[error("a field of its head or trailers")]
    Field,
    /// A chunk without a size, with too many extensions, or longer than its size.
    #[error("a chunk of its body")]
    Chunk,
    /// A trailer section that can't be taken apart, or is too large.
    #[error("its trailers")]
    Trailers,
}

/// Reads answers, one after the other.
#[derive(Debug)]
pub(super) struct Answers {
    buffer: BytesMut,
    /// What is read at once.
    read_bytes: usize,
    /// How far the end of the head was searched for.
    searched: usize,
    /// When a head without an end is taken apart again, to see whether it can still become one.
    next_try: usize,
    /// Where a head's fields are: room that is used again.
    places: Vec<Place>,
    decoder: Decoder,
}

/// A field's name and value within a head: where each begins, and how long it is.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: (usize, usize),
    value: (usize, usize),
}

/// A head as it was read.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) answer: Response<()>,
    /// Whether the service says that it keeps the connection, as it does if it says nothing.
    pub(super) keeps: bool,
}

impl Answers {
    pub(super) fn new() -> Self {
        let buffer = BytesMut::new();
        Self { buffer, read_bytes: READ_BYTES, searched: 0, next_try: 0, places: Vec::new(), decoder: Decoder::Over }
    }

    /// Another request: nothing is known of its answer.
    pub(super) const fn begin(&mut self) {
        self.read_bytes = READ_BYTES;
        (self.searched, self.next_try) = (0, 0);
    }

    /// Where to read to.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        if self.buffer.capacity().saturating_sub(self.buffer.len()) < self.read_bytes / 8 {
            self.buffer.reserve(self.read_bytes);
        }
        &mut self.buffer
    }

    /// Something was read. Where it was all that there was room for, there is more.
    pub(super) fn grow(&mut self) {
        if self.buffer.capacity() == self.buffer.len() {
            self.read_bytes = self.read_bytes.saturating_mul(4).min(MOST_READ_BYTES);
        }
    }

    /// Whether something came that was not taken.
    pub(super) fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether that is more than line ends, which are taken here.
    pub(super) fn has_more_than_blank_lines(&mut self) -> bool {
        self.skip_blank_lines();
        !matches!(*self.buffer, [] | [b'\r'])
    }

    /// What was read and belongs to nothing here.
    pub(super) fn into_unread(self) -> Bytes {
        self.buffer.freeze()
    }

    /// Lets go of room that a long answer took: of its last block no more may be seen than what is left of it.
    pub(super) fn shrink(&mut self) {
        if self.read_bytes > READ_BYTES || self.buffer.capacity() > 2 * READ_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Takes a head, if it is whole. The fields of one that is final go to `map`, which is emptied. `is_all`: no more will come.
    pub(super) fn head(&mut self, map: &mut HeaderMap, is_all: bool) -> Result<Option<Head>, BadAnswer> {
        self.skip_blank_lines();
        // Taken apart from its beginning each time, a head that comes byte by byte would cost its length squared.
        let is_due = is_all || self.buffer.len() >= self.next_try;
        if !is_due && !has_blank_line(&self.buffer, &mut self.searched) {
            return Ok(None);
        }
        let mut parsed = [const { MaybeUninit::uninit() }; FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsing = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            &self.buffer,
            &mut parsed,
        )?;
        let httparse::Status::Complete(length) = parsing else {
            if self.buffer.len() > HEAD_BYTES {
                return Err(BadAnswer::HeadSize);
            }
            self.next_try = self.buffer.len().saturating_mul(2).min(HEAD_BYTES);
            has_blank_line(&self.buffer, &mut self.searched);
            return Ok(None);
        };
        if length > HEAD_BYTES {
            return Err(BadAnswer::HeadSize);
        }
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(BadAnswer::Status)?;
        let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let reason = response.reason.filter(|reason| status.canonical_reason() != Some(reason));
        let reason = reason.map(|reason| Bytes::copy_from_slice(reason.as_bytes()));
        self.places.clear();
        let start = self.buffer.as_ptr().addr();
        let place = |bytes: &[u8]| match bytes {
            [] => (0, 0),
            bytes => (bytes.as_ptr().addr().saturating_sub(start), bytes.len()),
        };
        for field in response.headers.iter() {
            self.places.push(Place { name: place(field.name.as_bytes()), value: place(field.value) });
        }
        (self.searched, self.next_try) = (0, 0);
        let head = self.buffer.split_to(length).freeze();
        let mut of_interim = HeaderMap::new();
        let map = if is_interim(status) { &mut of_interim } else { map };
        map.clear();
        let mut keeps = true;
        for Place { name, value } in &self.places {
            let name = HeaderName::from_bytes(within(&head, *name)?)?;
            let value = HeaderValue::from_maybe_shared(head.slice_ref(within(&head, *value)?))?;
            keeps &= name != CONNECTION || !says_close(&value);
            map.append(name, value);
        }
        let mut answer = Response::new(());
        (*answer.status_mut(), *answer.version_mut()) = (status, version);
        *answer.headers_mut() = std::mem::take(map);
        if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
            answer.extensions_mut().insert(reason);
        }
        Ok(Some(Head { answer, keeps }))
    }

    /// Some end a body with a line end too many. Of a head that has not begun nothing need be kept.
    fn skip_blank_lines(&mut self) {
        let mut blank: usize = 0;
        while let Some(line) = self.buffer.get(blank..) {
            match line {
                [b'\n', ..] => blank = blank.saturating_add(1),
                [b'\r', b'\n', ..] => blank = blank.saturating_add(2),
                _ => break,
            }
        }
        if blank > 0 {
            self.buffer.advance(blank);
            (self.searched, self.next_try) = (0, 0);
        }
    }

    /// Goes on with the body of an answer whose head was found good.
    pub(super) fn begin_body<T>(
        &mut self,
        answer: &Response<T>,
        checked: &Checked,
        asked: &Method,
    ) -> Result<(), InvalidAnswer> {
        self.decoder = Decoder::of(answer, checked, asked)?;
        Ok(())
    }

    /// What of the body is yet to come.
    pub(super) const fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Takes the whole of a body whose length is known, if it is here.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        self.decoder.take_whole(&mut self.buffer)
    }

    /// Takes what is here of a body; `None` if that is nothing.
    pub(super) fn take(&mut self) -> Result<Option<Frame<Bytes>>, BadAnswer> {
        self.decoder.take(&mut self.buffer)
    }

    /// The connection has ended in good order. `false` if something of the body is missing.
    pub(super) fn at_eof(&mut self) -> bool {
        self.decoder.at_eof()
    }
}

/// What lies at a place of a head.
fn within(head: &Bytes, (start, length): (usize, usize)) -> Result<&[u8], BadAnswer> {
    head.get(start..).and_then(|rest| rest.get(..length)).ok_or(BadAnswer::Field)
}

/// Appends the fields of a section that ends with an empty line.
pub(super) fn fields(section: &Bytes, map: &mut HeaderMap) -> Result<(), BadAnswer> {
    let mut parsed = [httparse::EMPTY_HEADER; FIELDS];
    let httparse::Status::Complete((length, parsed)) =
        httparse::parse_headers(section, &mut parsed).map_err(|_| BadAnswer::Trailers)?
    else {
        return Err(BadAnswer::Trailers);
    };
    if length != section.len() {
        return Err(BadAnswer::Trailers);
    }
    for field in parsed {
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value))?;
        map.append(HeaderName::from_bytes(field.name.as_bytes())?, value);
    }
    Ok(())
}

/// Whether a line is followed by an empty one, and so a head may end, from `searched` on. `searched` is moved to where to go on.
fn has_blank_line(bytes: &[u8], searched: &mut usize) -> bool {
    while let Some(line) = bytes.get(*searched..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        let end = searched.saturating_add(line);
        *searched = end.saturating_add(1);
        match bytes.get(*searched..).unwrap_or_default() {
            [b'\n', ..] | [b'\r', b'\n', ..] => return true,
            [] | [b'\r'] => {
                *searched = end;
                return false;
            }
            _ => {}
        }
    }
    *searched = bytes.len();
    false
}

/// Whether a `Connection` field says that this was the last answer (RFC 9112 §9.6).
fn says_close(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

impl From<InvalidHeaderName> for BadAnswer {
    fn from(_: InvalidHeaderName) -> Self {
        Self::Field
    }
}

impl From<InvalidHeaderValue> for BadAnswer {
    fn from(_: InvalidHeaderValue) -> Self {
        Self::Field
    }
}

/// Whether another answer follows to the same request (RFC 9110 §15.2).
pub(super) fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
