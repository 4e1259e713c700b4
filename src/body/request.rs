//! A request's body on its way from the client: counted, bounded, and timed only while it is the client's turn.

use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::{
    ConnectionWatch, Received,
    copy::{CopyReceiver, Copying},
    framing::has_padding,
    response::{TrailerFilter, clean},
    wait::Wait,
};

/// Why a request's body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyFault {
    /// Longer than is allowed.
    #[error("request body over the limit")]
    TooLarge,
    /// The client stopped sending, or sent too slowly.
    #[error("client stopped sending the request body")]
    TimedOut,
    /// The client went away.
    #[error("client closed the connection within the request body")]
    ClientGone,
    /// Not framed as its protocol says (RFC 9112 §7, RFC 9113 §8.1.1).
    #[error("malformed request body")]
    Malformed,
}

/// Why a body was not read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread<E> {
    /// It could not be.
    Fault(BodyFault),
    /// There is no room for it.
    Refused(E),
}

/// A request's body.
#[derive(Debug)]
pub struct RequestBody {
    source: Source,
    limit: u64,
    /// `None` for a body that was empty from the start, as most are: there is nothing to count, and nothing fails.
    told: Option<Told>,
    trailers: TrailerFilter,
    /// What is made of its bytes on the way.
    change: Option<Box<dyn BodyChange>>,
}

/// What is made of the bytes of a request's body on their way.
pub trait BodyChange: fmt::Debug {
    /// Makes of what came what goes on; nothing yet, perhaps. `None`: it is not in its form.
    fn change(&mut self, bytes: &[u8]) -> Option<Bytes>;

    /// Whether it may end here.
    fn may_end(&self) -> bool;
}

/// What stays readable after the body has been given away.
#[derive(Debug)]
struct Told {
    counter: Rc<Cell<u64>>,
    outcome: Rc<Cell<Option<BodyFault>>>,
    /// Boxed, and rarely there.
    copying: Option<Box<Copying>>,
    /// Names of fields, folded, that do not go on in trailers.
    withheld: Option<Arc<Vec<Arc<str>>>>,
}

#[derive(Debug)]
enum Source {
    /// Nothing, or nothing more.
    Ended,
    Buffered(Bytes),
    Wire {
        incoming: Received,
        wait: Rc<Wait>,
        watch: Rc<ConnectionWatch>,
    },
}

impl RequestBody {
    /// Reads `incoming` as far as `limit` bytes.
    pub fn new(incoming: impl Into<Received>, watch: &Rc<ConnectionWatch>, limit: u64) -> Self {
        let incoming = incoming.into();
        if incoming.is_end_stream() {
            return Self { source: Source::Ended, limit, told: None, trailers: |_, _| {}, change: None };
        }
        let wait = watch.enrol_request_body();
        let told = Told { counter: Rc::clone(wait.bytes()), outcome: Rc::default(), copying: None, withheld: None };
        Self {
            source: Source::Wire { incoming, wait, watch: Rc::clone(watch) },
            limit,
            told: Some(told),
            trailers: |_, _| {},
            change: None,
        }
    }

    /// Has its bytes changed on their way. How many come out is not known before.
    pub fn change(&mut self, change: Box<dyn BodyChange>) {
        self.change = Some(change);
    }

    /// Lets the client send nothing for a while, as one does that speaks when it has something to say, and not in one piece.
    pub fn be_patient(&self, patience: Duration) {
        if let Source::Wire { wait, .. } = &self.source {
            wait.be_patient(patience);
        }
    }

    /// Takes from the trailer section what may not go on; `withheld` are names besides, folded.
    #[must_use]
    pub fn with_trailers(mut self, clean: TrailerFilter, withheld: &Arc<Vec<Arc<str>>>) -> Self {
        self.trailers = clean;
        if let Some(told) = self.told.as_mut().filter(|_| !withheld.is_empty()) {
            told.withheld = Some(Arc::clone(withheld));
        }
        self
    }

    /// A body that has been read already.
    pub fn buffered(bytes: Bytes) -> Self {
        let counter = Rc::new(Cell::new(bytes.len() as u64));
        let told = Told { counter, outcome: Rc::default(), copying: None, withheld: None };
        let source = if bytes.is_empty() { Source::Ended } else { Source::Buffered(bytes) };
        Self { source, limit: u64::MAX, told: Some(told), trailers: |_, _| {}, change: None }
    }

    /// The number of bytes read so far; stays readable after the body has been given away. `None`: it was empty.
    pub fn counter(&self) -> Option<Rc<Cell<u64>>> {
        self.told.as_ref().map(|told| Rc::clone(&told.counter))
    }

    /// Why reading failed, if it did; stays readable after the body has been given away. `None`: there was nothing to
    /// read.
    pub fn outcome(&self) -> Option<Rc<Cell<Option<BodyFault>>>> {
        self.told.as_ref().map(|told| Rc::clone(&told.outcome))
    }

    /// Bounds the body otherwise than was said when it was made: its route is known by now.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Has a copy made of what is read from now on, of at most `max` bytes. `None`: there is nothing to read.
    pub fn copy(&mut self, max: usize) -> Option<CopyReceiver> {
        // Whoever knows that nothing will come asks for nothing.
        if self.size_hint().exact() == Some(0) {
            return None;
        }
        let told = self.told.as_mut()?;
        let (copying, receiver) = Copying::new(max);
        told.copying = Some(Box::new(copying));
        Some(receiver)
    }

    fn copying(&mut self) -> Option<&mut Copying> {
        self.told.as_mut()?.copying.as_deref_mut()
    }

    /// Whether the declared length alone is over the limit: then nothing of it need be asked for.
    pub fn is_declared_too_large(&self) -> bool {
        self.size_hint().lower() > self.limit
    }

    /// Reads the whole body, at most `max` bytes of it. Trailers are dropped.
    ///
    /// # Errors
    /// Any fault of reading it, and `TooLarge` over `max`.
    pub async fn read_whole(self, max: u64) -> Result<Bytes, BodyFault> {
        self.read_gradually(max, |_| Ok(())).await.map_err(|why: Unread<std::convert::Infallible>| match why {
            Unread::Fault(fault) => fault,
            Unread::Refused(never) => match never {},
        })
    }

    /// The same, asking `grow` for room for each part before it is kept.
    ///
    /// # Errors
    /// Those of [`RequestBody::read_whole`], and what `grow` says.
    pub async fn read_gradually<E>(
        mut self,
        max: u64,
        mut grow: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Bytes, Unread<E>> {
        self.limit = self.limit.min(max);
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            let Ok(data) = frame.map_err(Unread::Fault)?.into_data() else { continue };
            grow(data.len()).map_err(Unread::Refused)?;
            if whole.is_empty() && first.is_empty() {
                first = data;
                continue;
            }
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    }

    /// Ends the body with a fault. What the client has yet to send after too much is read off by the connection.
    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(told) = &self.told {
            told.outcome.set(Some(fault));
        }
        self.release(fault == BodyFault::TooLarge);
        Poll::Ready(Some(Err(fault)))
    }

    fn release(&mut self, leave_over: bool) {
        if let Source::Wire { incoming, wait, watch } = std::mem::replace(&mut self.source, Source::Ended) {
            watch.dismiss_request_body(&wait);
            if incoming.is_end_stream() {
                return;
            }
            if leave_over {
                watch.leave_over(incoming);
            } else {
                watch.abandon_input();
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if this.is_declared_too_large() {
            return this.fail(BodyFault::TooLarge);
        }
        let (incoming, wait) = match &mut this.source {
            Source::Ended => return Poll::Ready(None),
            Source::Buffered(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Ended;
                if let Some(copying) = this.copying() {
                    copying.data(&bytes);
                    copying.end();
                }
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Source::Wire { incoming, wait, .. } => (incoming, wait),
        };
        loop {
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending if wait.is_expired() => return this.fail(BodyFault::TimedOut),
                Poll::Pending => {
                    wait.pause(Some(cx.waker()));
                    return Poll::Pending;
                }
                Poll::Ready(None) if this.change.as_ref().is_some_and(|change| !change.may_end()) => {
                    return this.fail(BodyFault::Malformed);
                }
                Poll::Ready(None) => {
                    if let Some(copying) = this.copying() {
                        copying.end();
                    }
                    this.release(false);
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(fault))) => return this.fail(fault),
                Poll::Ready(Some(Ok(frame))) => {
                    // As in a head, where it refuses the request (RFC 9113 §8.2.1); HTTP/1.1 has none such.
                    if frame.trailers_ref().is_some_and(has_padding) {
                        return this.fail(BodyFault::Malformed);
                    }
                    wait.resume();
                    wait.moved(frame.data_ref().map_or(0, |data| data.len() as u64));
                    if this.told.as_ref().is_some_and(|told| told.counter.get() > this.limit) {
                        return this.fail(BodyFault::TooLarge);
                    }
                    if let Some(copying) = this.told.as_mut().and_then(|told| told.copying.as_deref_mut()) {
                        copying.data(frame.data_ref().map_or(&[], |data| data));
                        // Whoever knows that this was all does not ask again: by its end, or by the length that was said.
                        let is_all = incoming.is_end_stream() || incoming.size_hint().exact() == Some(0);
                        if frame.is_trailers() || is_all {
                            copying.end();
                        }
                    }
                    if let (Some(change), Some(bytes)) = (&mut this.change, frame.data_ref()) {
                        match change.change(bytes) {
                            Some(changed) if changed.is_empty() => continue,
                            Some(changed) => return Poll::Ready(Some(Ok(Frame::data(changed)))),
                            None => return this.fail(BodyFault::Malformed),
                        }
                    }
                    let withheld = this.told.as_ref().and_then(|told| told.withheld.as_deref());
                    return Poll::Ready(Some(Ok(clean(frame, this.trailers, withheld.map_or(&[], |names| names)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ended => true,
            Source::Buffered(_) => false,
            // What was changed is whole when its end was looked at.
            Source::Wire { incoming, .. } => self.change.is_none() && incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ended => SizeHint::with_exact(0),
            Source::Buffered(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Wire { .. } if self.change.is_some() => SizeHint::default(),
            Source::Wire { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.release(true);
    }
}
