//! A request's body on its way to the upstream. It notes who is waiting for whom, so that the response timeout counts
//! only what the upstream makes us wait, and it keeps the body's own error, which hyper would hide among its own.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::fault::BoxError;

/// A request's body, wrapped for the upstream. Boxed: most requests have none, and each is moved about.
#[derive(Debug)]
pub struct Upload<B>(Option<Box<Watched<B>>>);

/// A body that is more than empty.
#[derive(Debug)]
struct Watched<B> {
    /// What comes before the rest: it was sent before, and not looked at. The next is last.
    again: Vec<Bytes>,
    body: B,
    progress: Rc<Progress>,
}

/// How far an upload has come.
#[derive(Debug)]
pub(super) struct Progress {
    last: Cell<Instant>,
    waits_for_client: Cell<bool>,
    error: RefCell<Option<BoxError>>,
}

impl<B: Body> Upload<B> {
    /// Wraps a body. An empty one is dropped at once: there is nothing to watch, and it can be sent again.
    pub(super) fn new(body: B, now: Instant) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        let progress = Progress { last: Cell::new(now), waits_for_client: Cell::new(false), error: RefCell::new(None) };
        Self(Some(Box::new(Watched { again: Vec::new(), body, progress: Rc::new(progress) })))
    }
}

impl<B> Upload<B> {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    /// Puts before what is left what has been taken from it already.
    pub(super) fn preceded_by(mut self, mut sent: Vec<Bytes>) -> Self {
        if let Some(watched) = &mut self.0 {
            sent.reverse();
            // What was to be sent again and is not yet sent stays behind it.
            watched.again.append(&mut sent);
        }
        self
    }

    /// How far it has come; `None` when there is nothing to send.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        self.0.as_ref().map(|watched| Rc::clone(&watched.progress))
    }
}

impl Progress {
    /// Since when the upstream has made us wait; `now` while it is the client who does.
    pub(super) fn upstream_stalls_since(&self, now: Instant) -> Instant {
        if self.waits_for_client.get() { now } else { self.last.get() }
    }

    /// The upstream took some of what it was given.
    pub(super) fn moved(&self) {
        self.last.set(Instant::now());
    }

    /// When something of the body moved last.
    pub(super) const fn last(&self) -> Instant {
        self.last.get()
    }

    /// The error with which the client's side broke off, if it did.
    pub(super) fn take_error(&self) -> Option<BoxError> {
        self.error.borrow_mut().take()
    }

    fn note(&self, waits_for_client: bool) {
        self.last.set(Instant::now());
        self.waits_for_client.set(waits_for_client);
    }
}

/// Stands in for an error that is kept in [`Progress`].
#[derive(Debug, thiserror::Error)]
#[error("the client's side broke off")]
pub struct BrokenOff;

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(Watched { again, body, progress }) = self.0.as_deref_mut() else { return Poll::Ready(None) };
        if let Some(data) = again.pop() {
            progress.note(false);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = Pin::new(body).poll_frame(cx);
        progress.note(polled.is_pending());
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map_err(|error| {
                    *progress.error.borrow_mut() = Some(error.into());
                    BrokenOff
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|watched| watched.again.is_empty() && watched.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(watched) = &self.0 else { return SizeHint::with_exact(0) };
        let rest = watched.body.size_hint();
        let again = watched.again.iter().fold(0, |sum, data| data.len() as u64 + sum);
        match rest.exact() {
            Some(rest) if again > 0 => SizeHint::with_exact(rest.saturating_add(again)),
            Some(_) | None => rest,
        }
    }
}
