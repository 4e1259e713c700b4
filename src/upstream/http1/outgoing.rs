//! A request on its way to the socket: its head, and its body as the client sends it.

use std::{
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING},
    request::Parts,
};
use http_body::Body;

use super::io::Io;
use crate::upstream::{fault::BoxError, upload::Upload};

/// Parts of a body up to this are copied together, and so sent together; of more, copying costs more than it saves.
const TOGETHER_BYTES: usize = 4 * 1024;
/// Room that is kept for the next head.
const KEPT_BYTES: usize = 16 * 1024;

/// A request on its way.
pub(super) struct Outgoing<B> {
    /// What is to be written: heads, and small parts of bodies.
    text: Vec<u8>,
    written: usize,
    /// What comes after it: a large part of a body, and what stands behind that.
    data: Bytes,
    tail: &'static [u8],
    /// The rest of the body; `None` when all of it was taken.
    body: Option<Upload<B>>,
    framing: Framing,
    is_flushed: bool,
    /// Whether the service took something since that was last asked.
    has_moved: bool,
}

/// How the head says that the body ends.
enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With a last chunk, and these trailers at most: those that the head announces.
    Chunked(Box<[HeaderName]>),
}

/// Why no more of a request is sent.
#[derive(Debug)]
pub(super) enum Unsendable {
    /// Its body broke off, or was not what its head says.
    Body,
    /// The service takes no more.
    Service(io::Error),
}

impl<B> Outgoing<B> {
    pub(super) const fn new() -> Self {
        Self {
            text: Vec::new(),
            written: 0,
            data: Bytes::new(),
            tail: b"",
            body: None,
            framing: Framing::Length(0),
            is_flushed: true,
            has_moved: false,
        }
    }

    /// Whether nothing is left to be sent.
    pub(super) const fn is_over(&self) -> bool {
        self.body.is_none() && self.is_flushed
    }

    /// Whether the service took something since this was last asked.
    pub(super) const fn take_moved(&mut self) -> bool {
        std::mem::replace(&mut self.has_moved, false)
    }

    /// Sends no more.
    pub(super) fn give_up(&mut self) {
        *self = Self::new();
    }

    /// Lets go of what a large head took.
    pub(super) fn shrink(&mut self) {
        if self.text.capacity() > KEPT_BYTES {
            self.text = Vec::new();
        }
    }
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Begins with a request whose head says how its body ends (see [`frame`](crate::upstream::framing::frame)).
    pub(super) fn begin(&mut self, head: &Parts, body: Upload<B>) {
        self.is_flushed = false;
        let text = &mut self.text;
        text.extend_from_slice(head.method.as_str().as_bytes());
        text.push(b' ');
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        if !target.starts_with('/') && target != "*" {
            text.push(b'/'); // `http` takes `?x=1` for a target, where a path may be left out
        }
        text.extend_from_slice(target.as_bytes());
        text.extend_from_slice(b" HTTP/1.1\r\n");
        // What is counted is what is written, whatever else is known of the body: without either field there is none (RFC 9112 §6.3), and
        // anything behind the head would be read as the next request.
        let (mut length, mut is_chunked) = (None, false);
        for (name, value) in &head.headers {
            if *name == CONTENT_LENGTH {
                length = value.to_str().ok().and_then(|length| length.parse().ok());
            } else if *name == TRANSFER_ENCODING {
                is_chunked = true;
            } else {
                write_field(text, name, value);
            }
        }
        match length {
            _ if is_chunked => text.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Some(length) => {
                let _ = write!(text, "content-length: {length}\r\n"); // memory takes it
            }
            None => {}
        }
        text.extend_from_slice(b"\r\n");
        let length: u64 = length.unwrap_or(0);
        self.framing = if is_chunked { Framing::Chunked(announced(&head.headers)) } else { Framing::Length(length) };
        self.body = (is_chunked || length > 0).then_some(body);
    }

    /// Sends what there is, until all is with the peer.
    pub(super) fn poll_send(&mut self, io: &mut dyn Io, cx: &mut Context<'_>) -> Poll<Result<(), Unsendable>> {
        loop {
            let waits = self.gather(cx)?;
            ready!(self.poll_write(io, cx)).map_err(Unsendable::Service)?;
            if waits || self.body.is_none() {
                if !self.is_flushed {
                    ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(Unsendable::Service)?;
                    self.is_flushed = true;
                }
                return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
        }
    }

    /// Takes of the body what may be sent together. Whether there will be more of it later.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, Unsendable> {
        while self.has_room()
            && let Some(body) = &mut self.body
        {
            // A length that is reached is the end, whether the client has said so or not.
            if matches!(self.framing, Framing::Length(0)) {
                self.body = None;
                break;
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Err(_))) => return Err(Unsendable::Body),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let is_last = body.is_end_stream();
                        self.put(data)?;
                        if is_last && self.data.is_empty() {
                            self.end(None)?;
                        }
                    }
                    Err(frame) => self.end(frame.trailers_ref())?,
                },
            }
        }
        Ok(false)
    }

    /// Whether more may be put behind what is there: nothing may while a large part is, as it would be written before that.
    const fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.text.len() < TOGETHER_BYTES
    }

    /// A part of the body.
    fn put(&mut self, data: Bytes) -> Result<(), Unsendable> {
        if data.is_empty() {
            return Ok(()); // as a chunk it would be the last
        }
        let is_chunk = match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Unsendable::Body)?;
                false
            }
            Framing::Chunked(_) => true,
        };
        if is_chunk {
            write!(self.text, "{:x}\r\n", data.len()).map_err(Unsendable::Service)?;
        }
        let behind: &[u8] = if is_chunk { b"\r\n" } else { b"" };
        if data.len() <= TOGETHER_BYTES {
            self.text.extend_from_slice(&data);
            self.text.extend_from_slice(behind);
        } else {
            (self.data, self.tail) = (data, behind);
        }
        self.is_flushed = false;
        Ok(())
    }

    /// The end of the body.
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Unsendable> {
        self.body = None;
        match &self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err(Unsendable::Body),
            Framing::Chunked(announced) => {
                self.text.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if announced.contains(name) {
                        write_field(&mut self.text, name, value);
                    }
                }
                self.text.extend_from_slice(b"\r\n");
                self.is_flushed = false;
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, io: &mut dyn Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let text = self.text.get(self.written..).unwrap_or_default();
            let polled = if self.data.is_empty() && self.tail.is_empty() {
                if text.is_empty() {
                    self.text.clear();
                    self.written = 0;
                    return Poll::Ready(Ok(()));
                }
                Pin::new(&mut *io).poll_write(cx, text)
            } else {
                let slices = [IoSlice::new(text), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                Pin::new(&mut *io).poll_write_vectored(cx, &slices)
            };
            let count = ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_moved = true;
            let of_text = count.min(text.len());
            self.written = self.written.saturating_add(of_text);
            let of_data = count.saturating_sub(of_text).min(self.data.len());
            self.data.advance(of_data);
            let of_tail = count.saturating_sub(of_text).saturating_sub(of_data);
            self.tail = self.tail.get(of_tail..).unwrap_or_default();
        }
    }
}

/// The trailers that a head announces (RFC 9110 §6.6.2).
fn announced(headers: &HeaderMap) -> Box<[HeaderName]> {
    let lists = headers.get_all(TRAILER).into_iter();
    let names = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

fn write_field(text: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    text.extend_from_slice(name.as_str().as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value.as_bytes());
    text.extend_from_slice(b"\r\n");
}
