//! A request as it comes: its head, its body, its trailers (RFC 9114 §4.1).

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use quinn::{ReadError, RecvStream, VarInt};
use tokio::sync::Notify;

use super::{
    codes, fields,
    frames::{self, Piece},
    qpack::SectionFault,
    reader::Reader,
};
use crate::{
    body::{BodyFault, ConnectionWatch},
    server::frames::CONTROL_FRAMES,
};

/// Why a request cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestFault {
    /// The client has broken the protocol, and the connection ends with this code.
    Connection(VarInt),
    /// The request is malformed.
    Malformed,
    /// The stream ended before the request was one.
    Incomplete,
    /// Its fields are more than is allowed.
    TooLarge,
    /// It took too long.
    TimedOut,
    /// Too much is held already of what has not ended.
    Crowded,
    /// The client has reset the stream, or is gone.
    Gone,
}

impl From<ReadError> for RequestFault {
    fn from(_: ReadError) -> Self {
        Self::Gone
    }
}

impl From<SectionFault> for RequestFault {
    fn from(fault: SectionFault) -> Self {
        match fault {
            SectionFault::Compression => Self::Connection(codes::DECOMPRESSION_FAILED),
            SectionFault::TooLarge => Self::TooLarge,
            SectionFault::Malformed => Self::Malformed,
        }
    }
}

/// Of how many field sections as long as one may be the bytes are held that have come while the rest has not, on all streams of a
/// connection together. In HTTP/2 it is one: a section that has begun ends before anything else is sent.
const UNFINISHED_SECTIONS: u64 = 4;

/// Bytes of field sections that have yet to end, on all streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Cell<u64>);

/// What a stream has of a field section.
#[derive(Debug)]
struct Section {
    bytes: BytesMut,
    unfinished: Rc<Unfinished>,
}

impl Section {
    fn extend(&mut self, bytes: &[u8], most: u64) -> Result<(), RequestFault> {
        let all = self.unfinished.0.get().saturating_add(bytes.len() as u64);
        if all > most.saturating_mul(UNFINISHED_SECTIONS) {
            return Err(RequestFault::Crowded);
        }
        self.unfinished.0.set(all);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self) -> Bytes {
        self.unfinished.0.set(self.unfinished.0.get().saturating_sub(self.bytes.len() as u64));
        std::mem::take(&mut self.bytes).freeze()
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        self.take();
    }
}

/// Where a request's stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    /// After the trailers: there is nothing to come.
    Trailers,
}

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    Data,
    Section,
    /// Of a frame that is not known, and so means nothing (RFC 9114 §9).
    Unknown,
}

enum Part {
    Section(Bytes),
    Data(Bytes),
    End,
}

/// A request's stream, as it is read.
#[derive(Debug)]
pub(super) struct IncomingRequest {
    reader: Reader,
    stage: Stage,
    payload: Payload,
    section: Section,
    /// The bound on a field section, as it is counted and as it is sent.
    most: u64,
    declared: Option<u64>,
    /// Of the body, counted by the frames that have begun.
    announced: u64,
    watch: Rc<ConnectionWatch>,
    connection: quinn::Connection,
}

impl IncomingRequest {
    pub(super) fn new(
        stream: RecvStream,
        most: u64,
        (watch, unfinished): (&Rc<ConnectionWatch>, &Rc<Unfinished>),
        connection: &quinn::Connection,
    ) -> Self {
        Self {
            reader: Reader::new(stream, Bytes::new()),
            stage: Stage::Head,
            payload: Payload::Unknown,
            section: Section { bytes: BytesMut::new(), unfinished: Rc::clone(unfinished) },
            most,
            declared: None,
            announced: 0,
            watch: Rc::clone(watch),
            connection: connection.clone(),
        }
    }

    /// Reads the head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Request<()>, RequestFault>> {
        match ready!(self.poll_part(cx))? {
            Part::Section(section) => {
                let (request, declared) = fields::read_head(section, self.most)?;
                self.declared = declared;
                Poll::Ready(Ok(request))
            }
            // There is no data before the head; `poll_part` says so.
            Part::Data(_) | Part::End => Poll::Ready(Err(RequestFault::Incomplete)),
        }
    }

    /// Carries out what a fault means for what is still to come.
    pub(super) fn give_up(&mut self, fault: RequestFault) {
        match fault {
            RequestFault::Connection(code) => self.connection.close(code, b""),
            RequestFault::Malformed => self.reader.stop(codes::MESSAGE_ERROR),
            RequestFault::TooLarge => self.reader.stop(codes::NO_ERROR),
            RequestFault::TimedOut | RequestFault::Crowded => self.reader.stop(codes::REQUEST_REJECTED),
            RequestFault::Incomplete | RequestFault::Gone => {}
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, RequestFault>> {
        loop {
            match ready!(self.reader.poll_piece(cx))? {
                // RFC 9114 §7.1: nothing is cut off.
                None if !self.reader.is_between() => return fault(RequestFault::Connection(codes::FRAME_ERROR)),
                None if self.declared.is_some_and(|declared| declared != self.announced) => {
                    return fault(RequestFault::Malformed);
                }
                None => return Poll::Ready(Ok(Part::End)),
                Some(Piece::Head { kind, length }) => {
                    self.payload = self.begin(kind, length)?;
                    if self.payload == Payload::Section && length == 0 {
                        return Poll::Ready(Ok(Part::Section(Bytes::new())));
                    }
                }
                Some(Piece::Payload(bytes)) => match self.payload {
                    Payload::Data => return Poll::Ready(Ok(Part::Data(bytes))),
                    Payload::Section => {
                        // Most come in one piece; copied, since values hold on to what they are a part of, which is packets here.
                        if self.reader.left() == 0 && self.section.bytes.is_empty() {
                            return Poll::Ready(Ok(Part::Section(Bytes::copy_from_slice(&bytes))));
                        }
                        self.section.extend(&bytes, self.most)?;
                        if self.reader.left() == 0 {
                            return Poll::Ready(Ok(Part::Section(self.section.take())));
                        }
                    }
                    Payload::Unknown => {}
                },
            }
        }
    }

    /// What the payload of a frame is, if the frame may stand here (RFC 9114 §4.1, §7.2).
    fn begin(&mut self, kind: u64, length: u64) -> Result<Payload, RequestFault> {
        let unexpected = Err(RequestFault::Connection(codes::FRAME_UNEXPECTED));
        match (kind, self.stage) {
            (frames::DATA, Stage::Body) => {
                self.announced = self.announced.saturating_add(length);
                // RFC 9114 §4.1.2: before a byte of it goes on.
                if self.declared.is_some_and(|declared| declared < self.announced) {
                    return Err(RequestFault::Malformed);
                }
                if length == 0 {
                    self.count()?;
                }
                Ok(Payload::Data)
            }
            (frames::HEADERS, Stage::Head | Stage::Body) => {
                self.stage = if self.stage == Stage::Head { Stage::Body } else { Stage::Trailers };
                if length > self.most {
                    return Err(RequestFault::TooLarge);
                }
                Ok(Payload::Section)
            }
            (frames::DATA | frames::HEADERS, _) => unexpected,
            (
                frames::CANCEL_PUSH | frames::SETTINGS | frames::PUSH_PROMISE | frames::GOAWAY | frames::MAX_PUSH_ID,
                _,
            ) => unexpected,
            (kind, _) if frames::is_of_http2(kind) => unexpected,
            (_, _) => {
                self.count()?;
                Ok(Payload::Unknown)
            }
        }
    }

    /// Counts a frame that carries nothing.
    fn count(&self) -> Result<(), RequestFault> {
        if self.watch.on_control_frame() > CONTROL_FRAMES {
            return Err(RequestFault::Connection(codes::EXCESSIVE_LOAD));
        }
        Ok(())
    }
}

fn fault<T>(fault: RequestFault) -> Poll<Result<T, RequestFault>> {
    Poll::Ready(Err(fault))
}

/// A request's body. Dropped before its end, it asks the client to send no more.
#[derive(Debug)]
pub(super) struct IncomingBody {
    request: IncomingRequest,
    /// What came with the head.
    first: Option<Bytes>,
    given: u64,
    ended: bool,
    asked: Option<Rc<Notify>>,
}

impl IncomingBody {
    /// The body of a request whose head has been read.
    pub(super) fn of(request: IncomingRequest, cx: &mut Context<'_>) -> Result<Self, RequestFault> {
        let mut body = Self { request, first: None, given: 0, ended: false, asked: None };
        // Most requests end with their head, and whoever gets the body is told at once.
        let begun = match body.request.poll_part(cx) {
            Poll::Ready(Ok(Part::Data(bytes))) => {
                body.first = Some(bytes);
                Ok(())
            }
            // Trailers without a body: there is nothing to be forwarded, but something to be checked.
            Poll::Ready(Ok(part)) => body.part(part).map(|_| ()),
            Poll::Ready(Err(fault)) => Err(fault),
            Poll::Pending => Ok(()),
        };
        match begun {
            Ok(()) => Ok(body),
            Err(fault) => {
                body.fail(fault);
                Err(fault)
            }
        }
    }

    /// Tells when the body is asked for, so that a client that waits for that can be told (RFC 9110 §10.1.1).
    pub(super) fn tell_when_asked(&mut self) -> Rc<Notify> {
        Rc::clone(self.asked.get_or_insert_default())
    }

    fn part(&mut self, part: Part) -> Result<Option<Frame<Bytes>>, RequestFault> {
        match part {
            Part::Data(bytes) => {
                self.given = self.given.saturating_add(bytes.len() as u64);
                Ok(Some(Frame::data(bytes)))
            }
            Part::Section(section) => {
                let trailers = fields::read_trailers(section, self.request.most)?;
                match self.request.declared {
                    Some(declared) if declared != self.given => Err(RequestFault::Malformed),
                    Some(_) | None => Ok(Some(Frame::trailers(trailers))),
                }
            }
            Part::End => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    /// Carries a fault out, and says what it means for the body.
    fn fail(&mut self, fault: RequestFault) -> BodyFault {
        self.ended = true;
        self.request.give_up(fault);
        match fault {
            RequestFault::Connection(_)
            | RequestFault::Malformed
            | RequestFault::Incomplete
            | RequestFault::Crowded
            | RequestFault::TooLarge => BodyFault::Malformed,
            RequestFault::TimedOut => BodyFault::TimedOut,
            RequestFault::Gone => BodyFault::ClientGone,
        }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(asked) = this.asked.take() {
            asked.notify_one();
        }
        let part = match this.first.take() {
            Some(bytes) => Ok(Part::Data(bytes)),
            None => ready!(this.request.poll_part(cx)),
        };
        match part.and_then(|part| this.part(part)) {
            Ok(frame) => Poll::Ready(frame.map(Ok)),
            Err(fault) => Poll::Ready(Some(Err(this.fail(fault)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match self.request.declared {
            Some(declared) => SizeHint::with_exact(declared.saturating_sub(self.given)),
            None if self.ended => SizeHint::with_exact(0),
            None => SizeHint::new(),
        }
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        // Whoever has read as much as was announced does not look for the end, which came with it.
        let is_whole = self.request.declared == Some(self.given)
            && matches!(self.request.poll_part(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(Part::End)));
        if !is_whole && !self.request.reader.has_ended() {
            // RFC 9114 §4.1: the answer stands whatever is left of the request.
            self.request.reader.stop(codes::NO_ERROR);
        }
    }
}
