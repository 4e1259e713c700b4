//! Answers, read off bytes as they come.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CONNECTION, InvalidHeaderName, InvalidHeaderValue},
};
use http_body::Frame;
use hyper::ext::ReasonPhrase;

use super::coding::Coding;
use crate::upstream::{
    answer,
    fault::{InvalidAnswer, UpstreamFault},
};

/// The largest head of an answer: eight times what common servers send at most.
const HEAD_BYTES: usize = 64 * 1024;
/// More than any answer has. It bounds what is made of a head.
const FIELDS: usize = 100;
/// What is read at once before it is known that there is more: as much as heads and small answers need.
const READ_BYTES: usize = 8 * 1024;
/// What is read ahead of the client, per connection, when it reads slower than the upstream writes.
const AHEAD_BYTES: usize = 128 * 1024;

/// How an answer breaks RFC 9112.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// The head can't be taken apart.
    #[error("its head: {0}")]
    Head(#[from] httparse::Error),
    /// The head is larger than 64 KiB.
    #[error("its head is larger than {HEAD_BYTES} bytes")]
    HeadSize,
    /// A status that is none (RFC 9110 §15).
    #[error("its status")]
    Status,
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
    /// How far the end of the head was looked for.
    looked: usize,
    /// When a head without an end is taken apart again, to see whether it can still become one.
    next_try: usize,
    /// Where a head's fields are: room that is used again.
    places: Vec<Place>,
    coding: Coding,
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
        Self { buffer, read_bytes: READ_BYTES, looked: 0, next_try: 0, places: Vec::new(), coding: Coding::Over }
    }

    /// Another request: nothing is known of its answer.
    pub(super) const fn begin(&mut self) {
        self.read_bytes = READ_BYTES;
        (self.looked, self.next_try) = (0, 0);
    }

    /// Where to read to.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        if self.buffer.capacity().saturating_sub(self.buffer.len()) < self.read_bytes / 8 {
            self.buffer.reserve(self.read_bytes);
        }
        &mut self.buffer
    }

    /// Something came. Where it was all that there was room for, there is more.
    pub(super) fn came(&mut self) {
        if self.buffer.capacity() == self.buffer.len() {
            self.read_bytes = self.read_bytes.saturating_mul(4).min(AHEAD_BYTES);
        }
    }

    /// Whether something came that was not taken.
    pub(super) fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// What was read and belongs to nothing here.
    pub(super) fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }

    /// Lets go of room that long answers took.
    pub(super) fn rest(&mut self) {
        if self.buffer.capacity() > 2 * READ_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Takes a head, if it is whole. The fields of one that is final go to `map`, which is emptied. `is_all`: no more will come.
    pub(super) fn head(&mut self, map: &mut HeaderMap, is_all: bool) -> Result<Option<Head>, BadAnswer> {
        // Taken apart from its beginning each time, a head that comes byte by byte would cost its length squared.
        let is_due = is_all || self.buffer.len() >= self.next_try;
        if !is_due && !has_blank_line(&self.buffer, &mut self.looked) {
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
            has_blank_line(&self.buffer, &mut self.looked);
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
        (self.looked, self.next_try) = (0, 0);
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

    /// Goes on with the body of an answer whose head was found good.
    pub(super) fn begin_body<T>(&mut self, answer: &Response<T>, asked: &Method) -> Result<(), InvalidAnswer> {
        self.coding = Coding::of(answer, asked)?;
        Ok(())
    }

    /// What of the body is yet to come.
    pub(super) const fn coding(&self) -> &Coding {
        &self.coding
    }

    /// Takes the whole of a body whose length is known, if it is here.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        self.coding.take_whole(&mut self.buffer)
    }

    /// Takes what is here of a body; `None` if that is nothing.
    pub(super) fn take(&mut self) -> Result<Option<Frame<Bytes>>, BadAnswer> {
        self.coding.take(&mut self.buffer)
    }

    /// The connection has ended in good order. `false` if something of the body is missing.
    pub(super) fn end(&mut self) -> bool {
        self.coding.end()
    }
}

/// What lies at a place of a head.
fn within(head: &Bytes, (start, length): (usize, usize)) -> Result<&[u8], BadAnswer> {
    head.get(start..).and_then(|rest| rest.get(..length)).ok_or(BadAnswer::Field)
}

/// Appends the fields of a section that ends with an empty line.
pub(super) fn fields(section: &Bytes, map: &mut HeaderMap) -> Result<(), BadAnswer> {
    let mut parsed = [httparse::EMPTY_HEADER; FIELDS];
    let httparse::Status::Complete((length, parsed)) = httparse::parse_headers(section, &mut parsed)? else {
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

/// Whether a line is followed by an empty one, and so a head may end, from `looked` on. `looked` is moved to where to go on.
fn has_blank_line(bytes: &[u8], looked: &mut usize) -> bool {
    while let Some(line) = bytes.get(*looked..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        let end = looked.saturating_add(line);
        *looked = end.saturating_add(1);
        match bytes.get(*looked..).unwrap_or_default() {
            [b'\n', ..] | [b'\r', b'\n', ..] => return true,
            [] | [b'\r'] => {
                *looked = end;
                return false;
            }
            _ => {}
        }
    }
    *looked = bytes.len();
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

/// An answer that was read to its end, with what came behind it.
#[derive(Debug)]
pub struct WholeAnswer {
    /// Its head.
    pub head: Response<()>,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
    /// What came behind it, which is no answer to anything.
    pub rest: Bytes,
}

/// Reads the answer to a request from a connection of which `pieces` come, one at a time, and which then ends.
///
/// # Errors
/// Why it is none that may be passed on, or not whole.
pub fn read_answer<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    asked: &Method,
) -> Result<WholeAnswer, UpstreamFault> {
    let (mut pieces, mut answers) = (pieces.into_iter(), Answers::new());
    let mut more = |answers: &mut Answers| {
        pieces.next().map(|piece| {
            answers.room().extend_from_slice(piece);
            answers.came();
        })
    };
    let mut head = loop {
        match answers.head(&mut HeaderMap::new(), false)? {
            Some(head) if is_interim(head.answer.status()) => {}
            Some(head) => break head.answer,
            None if more(&mut answers).is_some() => {}
            None => {
                answers.head(&mut HeaderMap::new(), true)?;
                return Err(UpstreamFault::Reset(None));
            }
        }
    };
    answer::check(&mut head, false)?;
    answers.begin_body(&head, asked)?;
    let (mut body, mut trailers) = (Vec::new(), None);
    while !answers.coding().is_over() {
        match answers.take()?.map(Frame::into_data) {
            Some(Ok(data)) => body.extend_from_slice(&data),
            Some(Err(frame)) => trailers = frame.into_trailers().ok(),
            None if answers.coding().is_over() => {}
            None => {
                if more(&mut answers).is_none() && !answers.end() {
                    return Err(UpstreamFault::Reset(None));
                }
            }
        }
    }
    Ok(WholeAnswer { head, body, trailers, rest: answers.into_rest() })
}

/// Whether another answer follows to the same request (RFC 9110 §15.2).
pub(super) fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
