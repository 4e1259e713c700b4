//! An answer's body on its way to the client: streamed, counted, and reported once when it ends, however it ends.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{request::BodyFault, switch::Switch, watch::Exchange};

/// An error that a body can end with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The most that is handed over at once: as much as is written behind.
const SLICE: usize = 128 * 1024;

/// The same in HTTP/2 and HTTP/3, where others wait for the same connection. In HTTP/3, what was handed over waits for the client's window
/// out of our sight besides, so that it has to be little for the client's pace to be seen.
const STREAM_SLICE: usize = 32 * 1024;

/// What is told, once, when an answer's body has ended.
pub trait Tail: Unpin + 'static {
    /// Takes note of why there are no more bytes, where the upstream broke off; the end follows.
    fn broke(&mut self, _: &(dyn Error + 'static)) {}

    /// Takes note of the end.
    fn end(self, end: StreamEnd);
}

/// A tail for answers whose end interests nobody.
impl Tail for () {
    fn end(self, _: StreamEnd) {}
}

/// Takes from a trailer section what would have meant something as a header (RFC 9110 §6.5.1), and fields of these names besides, folded.
pub type TrailerFilter = fn(&mut HeaderMap, &[Arc<str>]);

/// Applies a filter to the trailer section, if a frame is one.
pub(super) fn clean(frame: Frame<Bytes>, filter: TrailerFilter, withheld: &[Arc<str>]) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            filter(&mut trailers, withheld);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// How an answer's body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Bytes of the body that were handed to the client's connection.
    pub bytes: u64,
    /// Why there are no more.
    pub how: HowEnded,
}

/// Why an answer's body has no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HowEnded {
    /// All of it was handed over.
    Complete,
    /// The client went away, or reset the stream.
    ClientGone,
    /// The client took too little for too long.
    TimedOut,
    /// The upstream broke off; why was told before ([`Tail::broke`]).
    UpstreamFault,
}

/// An answer's body.
pub struct ResponseBody<T: Tail> {
    source: Source,
    trailers: TrailerFilter,
    /// What is left of a frame that was too long to be handed over at once.
    rest: Bytes,
    slice: usize,
    bytes: u64,
    /// The answer has no body on the wire whatever this is: to HEAD, and by status (RFC 9110 §6.4.1).
    unsent: bool,
    tail: Option<T>,
    exchange: Option<Exchange>,
}

enum Source {
    Ended,
    Full(Bytes),
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>),
    /// There is no body: the protocol is switched, and this goes on.
    Switch(Switch),
}

impl<T: Tail> ResponseBody<T> {
    /// A body of no bytes.
    pub fn empty(tail: T) -> Self {
        Self::new(Source::Ended, tail)
    }

    /// A body that is there as a whole.
    pub fn full(bytes: impl Into<Bytes>, tail: T) -> Self {
        let bytes = bytes.into();
        Self::new(if bytes.is_empty() { Source::Ended } else { Source::Full(bytes) }, tail)
    }

    /// Any other body.
    pub fn stream<B>(body: B, tail: T) -> Self
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        Self::new(Source::Stream(Box::pin(body.map_err(Into::into))), tail)
    }

    /// No body, as the protocol is switched: `switch` goes on, and tells of the end by itself.
    pub fn switched(switch: Switch) -> Self {
        Self::make(Source::Switch(switch), None)
    }

    /// Takes out what goes on where the protocol is switched.
    pub(crate) fn take_switch(&mut self) -> Option<Switch> {
        if !matches!(self.source, Source::Switch(_)) {
            return None;
        }
        match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Switch(switch) => Some(switch),
            Source::Ended | Source::Full(_) | Source::Stream(_) => None,
        }
    }

    /// The same with the exchange that it is attached to.
    pub(crate) fn take_switched(&mut self) -> Option<(Switch, Exchange)> {
        let switch = self.take_switch()?;
        Some((switch, self.exchange.take()?))
    }

    /// A body that is there as a whole, of whose end nobody is told.
    pub fn untold(bytes: impl Into<Bytes>) -> Self {
        Self::make(Source::Full(bytes.into()), None)
    }

    fn new(source: Source, tail: T) -> Self {
        Self::make(source, Some(tail))
    }

    fn make(source: Source, tail: Option<T>) -> Self {
        Self {
            source,
            rest: Bytes::new(),
            slice: SLICE,
            bytes: 0,
            unsent: false,
            tail,
            exchange: None,
            trailers: |_, _| {},
        }
    }

    /// Takes from the trailer section what may not go on.
    #[must_use]
    pub fn with_trailers(mut self, clean: TrailerFilter) -> Self {
        self.trailers = clean;
        self
    }

    /// Takes the bytes away from an answer to HEAD, where there is nothing but a head to be sent; how many they were.
    pub(crate) fn leave_out(&mut self) -> Option<u64> {
        let Source::Full(bytes) = &self.source else { return None };
        let length = bytes.len() as u64;
        self.source = Source::Ended;
        Some(length)
    }

    /// Ties the body to its exchange, which lasts as long as it does.
    pub(crate) fn attach(&mut self, exchange: Exchange, unsent: bool) {
        exchange.answered();
        if exchange.wait().is_some() {
            self.slice = STREAM_SLICE;
        }
        self.unsent = unsent;
        self.exchange = Some(exchange);
    }

    /// Whether the answer has no body on the wire, whatever this is.
    pub(crate) const fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// HTTP/2 and HTTP/3: the client has room for so many bytes of what was handed over.
    pub(crate) fn taken(&self, count: usize) {
        if let Some(exchange) = &self.exchange {
            exchange.moved(count as u64);
        }
    }

    /// What was handed over and the client had no room for, when there is nobody any more to send it to.
    pub(crate) fn take_back(&mut self, unsent: Bytes) {
        self.bytes = self.bytes.saturating_sub(unsent.len() as u64);
        self.rest = unsent;
    }

    /// All of it was sent, trailers and all, and nobody will ask whether there is more.
    pub(crate) fn complete(&mut self) {
        self.end(HowEnded::Complete);
    }

    fn end(&mut self, how: HowEnded) {
        self.source = Source::Ended;
        self.rest = Bytes::new();
        if let Some(tail) = self.tail.take() {
            tail.end(StreamEnd { bytes: self.bytes, how });
        }
    }

    fn hand_over(&mut self, mut data: Bytes) -> Frame<Bytes> {
        if data.len() > self.slice {
            self.rest = data.split_off(self.slice);
        }
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        if let Some(wait) = self.exchange.as_ref().and_then(Exchange::wait) {
            // Until this is asked for more, the client has not taken what it has.
            wait.pause(None);
        }
        Frame::data(data)
    }
}

impl<T: Tail> Body for ResponseBody<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(wait) = this.exchange.as_ref().and_then(Exchange::wait) {
            wait.resume();
        }
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.hand_over(rest))));
        }
        let frame = match &mut this.source {
            Source::Ended | Source::Switch(_) => None,
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Ended;
                Some(Ok(Frame::data(bytes)))
            }
            Source::Stream(stream) => ready!(stream.as_mut().poll_frame(cx)),
        };
        match frame {
            None => {
                this.end(HowEnded::Complete);
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                let how = how_broken(&*error);
                if let Some(tail) = this.tail.as_mut().filter(|_| how == HowEnded::UpstreamFault) {
                    tail.broke(&*error);
                }
                this.end(how);
                Poll::Ready(Some(Err(error)))
            }
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => this.hand_over(data),
                Err(frame) => clean(frame, this.trailers, &[]),
            }))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match &self.source {
                Source::Ended | Source::Switch(_) => true,
                Source::Full(_) => false,
                Source::Stream(stream) => stream.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let hint = match &self.source {
            Source::Ended | Source::Switch(_) => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream(stream) => stream.size_hint(),
        };
        let rest = self.rest.len() as u64;
        let mut with_rest = SizeHint::new();
        if let Some(upper) = hint.upper() {
            with_rest.set_upper(upper.saturating_add(rest));
        }
        with_rest.set_lower(hint.lower().saturating_add(rest));
        with_rest
    }
}

impl<T: Tail> Drop for ResponseBody<T> {
    fn drop(&mut self) {
        let how = if self.unsent || self.is_end_stream() {
            HowEnded::Complete
        } else if self.exchange.as_ref().is_some_and(Exchange::timed_out) {
            HowEnded::TimedOut
        } else {
            HowEnded::ClientGone
        };
        self.end(how);
    }
}

/// Whose fault it is that a body broke off: of the client, where it is its request that did.
fn how_broken(error: &(dyn Error + 'static)) -> HowEnded {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(BodyFault::TimedOut) => return HowEnded::TimedOut,
            Some(BodyFault::ClientGone | BodyFault::Malformed | BodyFault::TooLarge) => return HowEnded::ClientGone,
            None => cause = error.source(),
        }
    }
    HowEnded::UpstreamFault
}
