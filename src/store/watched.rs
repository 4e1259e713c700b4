//! An engine whose commits are timed: how long each took to be durable is the first sign of a disk that fails.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Engine, Pending, Row, StoreFault, Table, Write};
use crate::clock::Clock;

/// Who is told how long each commit took.
pub type CommitListener = Arc<dyn Fn(Duration) + Send + Sync>;

/// Another engine, whose commits are timed.
pub struct Watched<E> {
    inner: E,
    closed: AtomicBool,
    clock: Arc<dyn Clock>,
    listener: CommitListener,
}

impl<E> Watched<E> {
    /// Tells `listener` of each commit of `inner` that was answered, done or not.
    pub fn new(inner: E, clock: Arc<dyn Clock>, listener: CommitListener) -> Self {
        Self { inner, closed: AtomicBool::new(false), clock, listener }
    }
}

impl<E: fmt::Debug> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<E> Watched<E> {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

fn closed<T: Send + 'static>() -> Pending<T> {
    Box::pin(std::future::ready(Err(StoreFault::Unavailable("another process has it now".to_owned()))))
}

impl<E: Engine> Engine for Watched<E> {
    fn read(&self, table: Table, key: String, now: u64) -> Pending<Option<Row>> {
        if self.is_closed() {
            return closed();
        }
        self.inner.read(table, key, now)
    }

    fn page(&self, table: Table, prefix: String, after: Option<String>, limit: usize, now: u64) -> Pending<Vec<Row>> {
        if self.is_closed() {
            return closed();
        }
        self.inner.page(table, prefix, after, limit, now)
    }

    fn commit(&self, writes: Vec<Write>, now: u64) -> Pending<()> {
        if self.is_closed() {
            return closed();
        }
        let begun = self.clock.now().instant;
        let (pending, clock, listener) = (self.inner.commit(writes, now), self.clock.clone(), self.listener.clone());
        Box::pin(async move {
            let done = pending.await;
            listener(clock.now().instant.saturating_duration_since(begun));
            done
        })
    }

    fn purge(&self, now: u64) -> Pending<usize> {
        if self.is_closed() {
            return closed();
        }
        self.inner.purge(now)
    }

    fn close(&self) -> Pending<()> {
        self.closed.store(true, Ordering::Release);
        self.inner.close()
    }
}
