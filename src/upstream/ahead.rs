//! How much of answers is read before clients take it, where connections are shared (HTTP/2).
//!
//! A client that reads slowly, or not at all, leaves its answer here: as much as the stream's window is. The connection's window is
//! that of all its streams together, since otherwise those who read slowly would keep the others on it waiting. So what bounds
//! memory is the window of a stream. It is a wide one on a target's first connection, which is all that most ever need, and as long as
//! the worker has promised less than [`WORKER_BYTES`] in all; beyond, it is a narrow one:
//!
//! ```text
//! a worker holds at most   250 MiB  +  32 KiB × streams on further connections
//! ```

use std::cell::Cell;

/// 200 Mbit/s at 10 ms, for one stream.
const WIDE: u32 = 256 * 1024;
/// 25 Mbit/s at 10 ms, for each of hundreds. With all the requests in flight that there may be by default (20,000), and no answer read,
/// 625 MiB in all, and half of that for one client.
const NARROW: u32 = 32 * 1024;
/// What a worker's connections with wide windows may come to: ten targets' first ones, where each has a hundred streams.
const WORKER_BYTES: usize = 10 * WIDE as usize * 100;

thread_local! {
    /// What of [`WORKER_BYTES`] is free on this worker.
    static FREE: Cell<usize> = const { Cell::new(WORKER_BYTES) };
}

/// What is read ahead on a connection. Dropped with it, it is free for another.
#[derive(Debug)]
pub(super) struct Ahead {
    window: u32,
    promised: usize,
}

impl Ahead {
    /// Wide windows for so many streams, where there is room for them.
    pub(super) fn wide(streams: usize) -> Self {
        let promised = streams.saturating_mul(WIDE as usize);
        match FREE.get().checked_sub(promised) {
            Some(rest) => {
                FREE.set(rest);
                Self { window: WIDE, promised }
            }
            None => Self::narrow(),
        }
    }

    /// Narrow windows.
    pub(super) const fn narrow() -> Self {
        Self { window: NARROW, promised: 0 }
    }

    /// What is read ahead of one stream, in bytes.
    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// Whether its windows are wide.
    pub(super) const fn is_wide(&self) -> bool {
        self.promised > 0
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // A connection may outlive its thread's store, when the worker ends.
        let _ = FREE.try_with(|free| free.set(free.get().saturating_add(self.promised)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_wide_until_the_worker_has_promised_enough_and_again_when_connections_end() {
        let mut wide: Vec<Ahead> = (0..10).map(|_| Ahead::wide(100)).collect();
        assert!(wide.iter().all(Ahead::is_wide));
        let narrow = Ahead::wide(1);
        assert_eq!((narrow.is_wide(), narrow.window()), (false, NARROW));
        wide.pop();
        assert_eq!(Ahead::wide(100).window(), WIDE);
        drop((narrow, wide));
        assert_eq!(FREE.get(), WORKER_BYTES);
    }
}
