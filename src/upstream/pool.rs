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
pub(super) struct TargetPool<B> {
    pub(super) target: Arc<Target>,
    pub(super) addresses: Addresses,
    /// The next to be used is last.
    idle: RefCell<VecDeque<Box<Connection<B>>>>,
}

impl<B> TargetPool<B> {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, addresses: Addresses::default(), idle: RefCell::new(VecDeque::new()) }
    }

    /// Takes out a connection that can be used at once. If the other side has closed it, or said anything, since it was
    /// put here, it is not used.
    pub(super) fn take(&self, now: Instant) -> Option<Box<Connection<B>>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop_back() {
            if is_old(&connection, now) {
                connection.close();
            } else if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Puts back a connection that can be used at once.
    pub(super) fn put(&self, mut connection: Box<Connection<B>>) {
        connection.reused = true;
        let mut idle = self.idle.borrow_mut();
        while idle.len() >= IDLE_CONNECTIONS || idle.front().is_some_and(|oldest| is_old(oldest, connection.used_at)) {
            if let Some(oldest) = idle.pop_front() {
                oldest.close();
            }
        }
        idle.push_back(connection);
    }

    /// Closes what is of no more use.
    pub(super) fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        for mut connection in std::mem::take(&mut *idle) {
            if is_old(&connection, now) {
                connection.close();
            } else if connection.is_ready() {
                idle.push_back(connection);
            }
        }
    }
}

fn is_old<B>(connection: &Connection<B>, now: Instant) -> bool {
    now.saturating_duration_since(connection.used_at) >= IDLE_TIME
}
