//! One body in progress, either way: whether it is the client's turn, and whether that has lasted too long.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
    time::Duration,
};

use super::pace::{Pace, PaceBounds};

/// Whose move a body is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Ours,
    Client,
}

/// One body in progress, as far as the client is concerned.
#[derive(Debug)]
pub(super) struct Wait {
    turn: Cell<Turn>,
    /// Set by each poll that found nothing; a request body's wait counts only while this keeps being confirmed, so that
    /// an upstream that takes nothing is not held against the client.
    confirmed: Cell<bool>,
    needs_confirmation: bool,
    expired: Cell<bool>,
    bytes: Rc<Cell<u64>>,
    pace: Cell<Pace>,
    /// How long nothing may come, where that is longer than the usual and says nothing of a client that is slow.
    patience: Cell<Option<Duration>>,
    waker: RefCell<Option<Waker>>,
}

impl Wait {
    pub(super) fn new(needs_confirmation: bool) -> Rc<Self> {
        Rc::new(Self {
            turn: Cell::new(Turn::Ours),
            confirmed: Cell::new(false),
            needs_confirmation,
            expired: Cell::new(false),
            bytes: Rc::default(),
            pace: Cell::default(),
            patience: Cell::new(None),
            waker: RefCell::default(),
        })
    }

    /// Waits for so long, and asks for no rate.
    pub(super) fn be_patient(&self, patience: Duration) {
        self.patience.set(Some(patience));
    }

    /// It is the client's turn now.
    pub(super) fn pause(&self, waker: Option<&Waker>) {
        self.turn.set(Turn::Client);
        self.confirmed.set(true);
        if let Some(waker) = waker {
            register(&self.waker, waker);
        }
    }

    /// The client did its part.
    pub(super) fn resume(&self) {
        self.turn.set(Turn::Ours);
        self.expired.set(false);
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    pub(super) fn bytes(&self) -> &Rc<Cell<u64>> {
        &self.bytes
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expired.get()
    }

    /// Adds `elapsed` to the time of waiting, where it was the client's turn; wakes whoever has to look.
    pub(super) fn sweep(&self, elapsed: Duration, bounds: PaceBounds) {
        let mut pace = self.pace.get();
        let bounds = self.patience.get().map_or(bounds, |idle| PaceBounds { idle, min_rate: 0 });
        let counts = match self.turn.get() {
            Turn::Ours => false,
            Turn::Client => !self.needs_confirmation || self.confirmed.replace(false),
        };
        if counts {
            if pace.wait(elapsed, self.bytes.get(), bounds).is_some() {
                self.expired.set(true);
            }
        } else {
            pace.rest(self.bytes.get());
        }
        self.pace.set(pace);
        let wake = self.expired.get() || (self.needs_confirmation && self.turn.get() == Turn::Client);
        if wake && let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// Tells the task of one stream of HTTP/2 or HTTP/3 that its client takes nothing.
#[derive(Debug)]
pub(crate) struct StreamCut(Rc<Wait>);

impl StreamCut {
    pub(super) fn new(wait: Rc<Wait>) -> Self {
        Self(wait)
    }

    /// Whether the stream is to be reset; wakes `waker` when that changes.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        register(&self.0.waker, waker);
        self.0.is_expired()
    }
}

/// Keeps the waker of the task that is to be woken.
pub(super) fn register(slot: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut slot = slot.borrow_mut();
    if !slot.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}
