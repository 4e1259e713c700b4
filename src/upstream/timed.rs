//! An answer's body that must be over at a certain time. Whoever reads it may not ask for more before that, as a client that takes nothing
//! makes nobody ask: so it is taken away, with its connection and its place among those under way.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    task::{AbortHandle, spawn_local},
    time::{Instant, sleep_until},
};

use super::{body::Reading, fault::UpstreamFault};

/// A body, until its time is over.
pub(super) struct Timed<B> {
    shared: Rc<Shared<B>>,
    timer: AbortHandle,
}

struct Shared<B> {
    reading: RefCell<Box<Reading<B>>>,
    is_over: Cell<bool>,
    reader: Cell<Option<Waker>>,
}

impl<B: 'static> Timed<B> {
    pub(super) fn until(ends: Instant, reading: Box<Reading<B>>) -> Self {
        let (is_over, reader) = (Cell::new(false), Cell::default());
        let shared = Rc::new(Shared { reading: RefCell::new(reading), is_over, reader });
        let timed = Rc::clone(&shared);
        let timer = spawn_local(async move {
            sleep_until(ends).await;
            timed.is_over.set(timed.reading.borrow_mut().give_up());
            if let Some(reader) = timed.reader.take() {
                reader.wake();
            }
        });
        Self { shared, timer: timer.abort_handle() }
    }

    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>> {
        if self.shared.is_over.get() {
            return Poll::Ready(Some(Err(UpstreamFault::Deadline)));
        }
        let polled = self.shared.reading.borrow_mut().poll_frame(cx);
        if polled.is_pending() {
            self.shared.reader.set(Some(cx.waker().clone()));
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.shared.reading.borrow().is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.shared.reading.borrow().size_hint()
    }
}

impl<B> Drop for Timed<B> {
    fn drop(&mut self) {
        self.timer.abort();
    }
}
