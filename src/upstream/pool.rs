//! One worker's idle connections to one target. The one used last is used next (LIFO), so that under a lighter load the
//! others grow old and go.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;

use super::{
    ahead::Ahead,
    connect::{Addresses, Opened, Wanted, connect},
    fault::{BoxError, UpstreamFault},
    http1::Connection,
    line::Line,
    shared::{Shares, Turn},
    target::Target,
};

/// As many as ten clients with a hundred streams each keep busy in bursts: with fewer, what one burst closes the next one opens again.
/// What is not needed goes by its age.
const IDLE_CONNECTIONS: usize = 1024;
/// Of the files that this process may open, one in so many at most is for what one worker keeps for one target.
const SHARE_OF_FILES: u64 = 16;
/// Below the idle timeouts that servers commonly have (60 to 75 seconds), so that it is mostly us who close.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// What one worker keeps for one target.
pub(super) struct TargetPool<B> {
    pub(super) target: Arc<Target>,
    pub(super) addresses: Addresses,
    /// The next to be used is last.
    idle: RefCell<VecDeque<Box<Connection<B>>>>,
    /// Those that requests share, where the target may speak HTTP/2.
    shares: Option<Rc<Shares<B>>>,
    /// Whether it last chose HTTP/1.1 where it had the choice.
    prefers_http1: Cell<bool>,
}

/// How a new connection was come by.
pub(super) enum Opening<B> {
    /// It was made.
    Made(Line<B>),
    /// Somebody else made it meanwhile.
    Joined(Line<B>),
    /// It could not be made.
    Failed(UpstreamFault),
    /// Somebody else could not make it, and has said so.
    FailedElsewhere(UpstreamFault),
}

impl<B> TargetPool<B> {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self {
            addresses: Addresses::default(),
            idle: RefCell::new(VecDeque::new()),
            shares: target.may_share().then(Rc::default),
            prefers_http1: Cell::new(false),
            target,
        }
    }

    /// Takes what a request can be sent on at once. A connection that the other side has closed, or on which it said
    /// anything, since it was put here, is not used.
    pub(super) fn take(&self, now: Instant) -> Option<Line<B>> {
        self.take_shared(now).or_else(|| self.take_own(now))
    }

    /// The same of those alone that requests share.
    pub(super) fn take_shared(&self, now: Instant) -> Option<Line<B>> {
        self.shares.as_ref()?.take(now).map(Line::Shared)
    }

    /// The same of those alone that requests do not share.
    pub(super) fn take_own(&self, now: Instant) -> Option<Line<B>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop_back() {
            if is_old(&connection, now) {
                connection.close();
            } else if connection.is_quiet() {
                return Some(Line::Own(connection));
            }
        }
        None
    }

    /// Puts back a connection that can be used at once.
    pub(super) fn put(&self, mut connection: Box<Connection<B>>) {
        if !self.target.may_reuse() {
            return connection.close();
        }
        connection.reused = true;
        connection.shrink();
        let mut idle = self.idle.borrow_mut();
        while idle.len() >= idle_connections() || idle.front().is_some_and(|oldest| is_old(oldest, connection.used_at))
        {
            if let Some(oldest) = idle.pop_front() {
                oldest.close();
            }
        }
        idle.push_back(connection);
    }

    /// Closes what is of no more use.
    pub(super) fn sweep(&self, now: Instant) {
        if let Some(shares) = &self.shares {
            shares.sweep(now);
        }
        let mut idle = self.idle.borrow_mut();
        for mut connection in std::mem::take(&mut *idle) {
            if is_old(&connection, now) {
                connection.close();
            } else if connection.is_quiet() {
                idle.push_back(connection);
            }
        }
    }
}

impl<B> TargetPool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Makes a connection. Where requests share them, one is made at a time, and those who would make another meanwhile
    /// wait for it.
    pub(super) async fn open(&self, wanted: Wanted, now: Instant) -> Opening<B> {
        let Some(shares) = self.shares.as_ref().filter(|_| !wanted.purpose.upgrade) else {
            return self.connect(wanted, now).await;
        };
        loop {
            if self.prefers_http1.get() {
                return self.connect(wanted, now).await;
            }
            match shares.wait_for_turn(self.target.authority(), wanted.deadline).await {
                Ok(Turn::Connect(guard)) => {
                    let opening = self.connect(wanted, now).await;
                    if let Opening::Failed(fault) = &opening {
                        guard.failed(fault);
                    }
                    return opening;
                }
                Ok(Turn::Look) => {
                    if let Some(slot) = shares.take(now) {
                        return Opening::Joined(Line::Shared(slot));
                    }
                }
                Err(fault) => return Opening::FailedElsewhere(fault),
            }
        }
    }

    async fn connect(&self, wanted: Wanted, now: Instant) -> Opening<B> {
        // Without others to share it with it is for one request.
        let ahead = self.shares.as_ref().map_or_else(|| Ahead::wide(1), |shares| shares.ahead());
        match connect(&self.target, &self.addresses, wanted, ahead).await {
            Ok(Opened::Own(stream)) => {
                if !wanted.purpose.upgrade {
                    self.prefers_http1.set(true);
                }
                Opening::Made(Line::Own(Box::new(Connection::new(stream, now))))
            }
            Ok(Opened::Shared(connection)) => {
                self.prefers_http1.set(false);
                match &self.shares {
                    Some(shares) => Opening::Made(Line::Shared(shares.add(connection))),
                    // For one request alone.
                    None => Opening::Made(Line::Shared(connection.for_one())),
                }
            }
            Err(fault) => Opening::Failed(fault),
        }
    }
}

/// How many idle connections are kept.
pub(super) fn idle_connections() -> usize {
    static BOUND: LazyLock<usize> = LazyLock::new(|| {
        let share = getrlimit(Resource::Nofile).current.map_or(u64::MAX, |files| files / SHARE_OF_FILES);
        usize::try_from(share).unwrap_or(usize::MAX).clamp(1, IDLE_CONNECTIONS)
    });
    *BOUND
}

fn is_old<B>(connection: &Connection<B>, now: Instant) -> bool {
    now.saturating_duration_since(connection.used_at) >= IDLE_TIME
}
