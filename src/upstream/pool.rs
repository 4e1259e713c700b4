//! One worker's idle connections to one target. The one used last is used next (LIFO), so that under a lighter load the
//! others grow old and go.

use std::{cell::RefCell, collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{connect::Addresses, connection::Connection, target::Target};

/// More idle connections than a worker can keep busy would only be held open.
const IDLE_CONNECTIONS: usize = 256;
/// Below the idle timeouts that servers commonly have (60 to 75 seconds), so that it is mostly us who close.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// What one worker keeps for one target.
#[derive(Debug)]
pub(super) struct TargetPool<B> {
    pub(super) target: Arc<Target>,
    pub(super) addresses: Addresses,
    /// The next to be used is last.
    idle: RefCell<VecDeque<Connection<B>>>,
}

impl<B> TargetPool<B> {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, addresses: Addresses::default(), idle: RefCell::new(VecDeque::new()) }
    }

    /// Takes out a connection that can be used at once.
    pub(super) fn take(&self, now: Instant) -> Option<Connection<B>> {
        let mut idle = self.idle.borrow_mut();
        let mut found = None;
        let mut busy = VecDeque::new(); // allocates only when there is one
        while let Some(connection) = idle.pop_back() {
            if connection.is_closed() || is_old(&connection, now) {
                continue;
            }
            if connection.is_ready() {
                found = Some(connection);
                break;
            }
            busy.push_front(connection);
        }
        idle.append(&mut busy);
        found
    }

    /// Puts back a connection whose answer has been read to its end.
    pub(super) fn put(&self, mut connection: Connection<B>) {
        if connection.is_closed() {
            return;
        }
        connection.reused = true;
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(|oldest| oldest.is_closed() || is_old(oldest, connection.used_at)) {
            idle.pop_front();
        }
        if idle.len() >= IDLE_CONNECTIONS {
            idle.pop_front();
        }
        if connection.is_ready() {
            idle.push_back(connection);
        } else {
            // Its answer came early and the request is still being sent: out of the way until that is done.
            idle.push_front(connection);
        }
    }

    /// Closes what is of no more use.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|connection| !connection.is_closed() && !is_old(connection, now));
    }
}

fn is_old<B>(connection: &Connection<B>, now: Instant) -> bool {
    now.saturating_duration_since(connection.used_at) >= IDLE_TIME
}
