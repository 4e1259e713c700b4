//! Connections that requests share: HTTP/2 (RFC 9113).
//!
//! A connection has a task of its own, as hyper wants it; each request on it is a stream. There are as many connections
//! to a target as its `MAX_CONCURRENT_STREAMS` makes necessary, and never two where one would do:
//!
//! ```text
//! take ─┬─ one with room ───────────────────────────────> Slot ── Call (call.rs) ── answer's body
//!       └─ none: obtain ─┬─ somebody is connecting: wait ──┘
//!                        └─ connect
//! ```
//! A peer that says GOAWAY gets no new streams; what it refused to look at goes to another connection.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::{Rc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    task::{AbortHandle, spawn_local},
    time::{Instant, timeout_at},
};

use super::{
    ahead::Ahead,
    call::Carried,
    fault::{BoxError, ConnectFault, UpstreamFault},
    goaway::{Farewell, Followed},
};

/// Streams on one connection, whatever more the peer allows: as servers commonly do, and it bounds what one connection
/// holds to this many windows.
const STREAMS: usize = 100;
/// Connections of one worker to one target. With [`STREAMS`] on each it is more than all requests that are usually in flight, and with
/// few on each still so many that one client's streams, which may last, keep nobody waiting; beyond, requests wait their turn on the
/// least loaded one.
const CONNECTIONS: usize = 1024;
/// Streams of a connection that may be given up, beyond those that were answered, before it gets no new ones. Each is a reset to
/// the peer, and peers take a number of them for an attack (CVE-2023-44487) and close the connection, with the streams of all others: 20
/// is the lowest number known, of h2's servers.
const GIVEN_UP: u32 = 16;
/// What of a request's body is held for a peer whose window is open but whose socket is not.
const SEND_BUFFER: usize = 128 * 1024;
/// The largest head of an answer, as in HTTP/1.1.
const HEAD_BYTES: u32 = 64 * 1024;
/// While streams are open, silence for so long is answered by a PING, so that a peer that does nothing any more is found out even while
/// nothing is to be sent; one that vanished, TCP finds earlier. More than 5 minutes, as gRPC's servers close a connection on
/// which they are asked more often while they are silent (gRFC A8), with all streams on it.
const PING_AFTER: Duration = Duration::from_secs(310);
/// A peer that is alive answers a PING at once; a busy one within this time.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// As for HTTP/1.1: below the idle timeouts that servers commonly have.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// What hyper sends requests through.
pub(super) type Sender<B> = http2::SendRequest<Carried<B>>;

/// One worker's shared connections to one target.
pub(super) struct Shares<B> {
    connections: RefCell<Vec<Rc<Shared<B>>>>,
    connecting: RefCell<Option<Rc<Connecting>>>,
    /// How many streams the peer last allowed, so that a new connection does not begin with more.
    usual: Rc<Cell<usize>>,
}

/// A connection that requests share.
pub(super) struct Shared<B> {
    sender: RefCell<Sender<B>>,
    /// How many streams are open, as far as we know.
    streams: Cell<usize>,
    /// How many there may be: what the peer says, in as far as it is less than we would have.
    limit: Rc<Cell<usize>>,
    /// Whether the peer has said how many.
    has_settings: Rc<Cell<bool>>,
    /// Where others learn it.
    usual: Rc<RefCell<Option<Rc<Cell<usize>>>>>,
    /// Whether it gets no new streams.
    is_retired: Cell<bool>,
    /// How many streams were given up, beyond those that were answered.
    given_up: Cell<u32>,
    used_at: Cell<Instant>,
    ahead: Ahead,
    farewell: Farewell,
    task: OnThisThread,
}

/// The right to one stream of a connection. Whoever holds a part of the stream holds it.
pub(super) struct Slot<B> {
    pub(super) connection: Rc<Shared<B>>,
    /// Whether the connection served a request before.
    pub(super) is_reused: bool,
}

/// Somebody is connecting, and others wait for how it ends.
#[derive(Default)]
struct Connecting {
    ended: Notify,
    /// Why it failed, for those who waited: there is one fault, and many to tell.
    failed: RefCell<Option<(String, io::ErrorKind, String)>>,
}

impl<B> Default for Shares<B> {
    fn default() -> Self {
        Self { connections: RefCell::default(), connecting: RefCell::default(), usual: Rc::new(Cell::new(STREAMS)) }
    }
}

impl<B> Shares<B> {
    /// A stream on a connection that has room; `None` if there is none.
    pub(super) fn take(&self, now: Instant) -> Option<Slot<B>> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.is_over());
        // The fullest that has room, so that under a lighter load the others become idle and go; and rather one with wide windows.
        let with_room = connections.iter().filter(|it| it.streams.get() < it.limit.get());
        let chosen = match with_room.max_by_key(|it| (it.ahead.is_wide(), it.streams.get())) {
            Some(connection) => connection,
            None if connections.len() < CONNECTIONS => return None,
            None => connections.iter().min_by_key(|it| it.streams.get())?,
        };
        chosen.used_at.set(now);
        Some(Slot::new(Rc::clone(chosen), true))
    }

    /// How much may be read ahead on another connection.
    pub(super) fn ahead(&self) -> Ahead {
        let has_wide = self.connections.borrow().iter().any(|it| it.ahead.is_wide() && !it.is_over());
        if has_wide { Ahead::narrow() } else { Ahead::wide(STREAMS) }
    }

    /// Adds a connection.
    pub(super) fn add(&self, connection: Shared<B>) -> Slot<B> {
        if !connection.has_settings.get() {
            connection.limit.set(self.usual.get());
        }
        *connection.usual.borrow_mut() = Some(Rc::clone(&self.usual));
        let connection = Rc::new(connection);
        self.connections.borrow_mut().push(Rc::clone(&connection));
        Slot::new(connection, false)
    }

    /// Lets one at a time connect. `Ok(None)`: this caller is to do it, and says how it ended through the guard;
    /// `Ok(Some)`: somebody did, and there is something to take now.
    pub(super) async fn wait_for_turn(
        self: &Rc<Self>,
        target: &str,
        deadline: Instant,
    ) -> Result<Turn<B>, UpstreamFault> {
        let Some(connecting) = self.connecting.borrow().clone() else {
            let connecting = Rc::new(Connecting::default());
            *self.connecting.borrow_mut() = Some(Rc::clone(&connecting));
            return Ok(Turn::Connect(Guard { shares: Rc::downgrade(self), connecting }));
        };
        let unreachable = |target: String, source| UpstreamFault::Unreachable { target, source };
        if timeout_at(deadline, connecting.ended.notified()).await.is_err() {
            return Err(unreachable(target.to_owned(), ConnectFault::Timeout));
        }
        match &*connecting.failed.borrow() {
            Some((target, kind, why)) => {
                Err(unreachable(target.clone(), ConnectFault::Io(io::Error::new(*kind, why.clone()))))
            }
            None => Ok(Turn::Look),
        }
    }

    /// Closes what has been idle for long.
    pub(super) fn sweep(&self, now: Instant) {
        self.connections.borrow_mut().retain(|connection| {
            let is_idle =
                connection.streams.get() == 0 && now.saturating_duration_since(connection.used_at.get()) >= IDLE_TIME;
            !connection.is_over() && !is_idle
        });
    }
}

/// What is to be done by who needs a connection.
pub(super) enum Turn<B> {
    /// Connect, and tell the guard.
    Connect(Guard<B>),
    /// Look again: somebody connected, or gave it up.
    Look,
}

/// Held by who connects. Dropped, it lets the next one try.
pub(super) struct Guard<B> {
    shares: Weak<Shares<B>>,
    connecting: Rc<Connecting>,
}

impl<B> Guard<B> {
    /// Tells those who wait that there is no connection to be had.
    pub(super) fn failed(self, fault: &UpstreamFault) {
        let (target, kind, why) = match fault {
            UpstreamFault::Unreachable { target, source: ConnectFault::Io(error) } => {
                (target.clone(), error.kind(), error.to_string())
            }
            UpstreamFault::Unreachable { target, source } => (target.clone(), io::ErrorKind::Other, source.to_string()),
            UpstreamFault::Tls { target, source } => (target.clone(), source.kind(), format!("TLS: {source}")),
            // Nothing that the others would meet, too: they try for themselves.
            UpstreamFault::Reset(_)
            | UpstreamFault::Invalid(_)
            | UpstreamFault::Timeout
            | UpstreamFault::Deadline
            | UpstreamFault::Busy
            | UpstreamFault::RequestBody(_) => return,
        };
        *self.connecting.failed.borrow_mut() = Some((target, kind, why));
    }
}

impl<B> Drop for Guard<B> {
    fn drop(&mut self) {
        if let Some(shares) = self.shares.upgrade() {
            *shares.connecting.borrow_mut() = None;
        }
        self.connecting.ended.notify_waiters();
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Starts HTTP/2 on a stream.
    pub(super) async fn speak<S>(stream: S, ahead: Ahead) -> Result<Self, UpstreamFault>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let task = OnThisThread::default();
        let (stream, farewell) = Followed::new(stream);
        let (sender, mut connection) = http2::Builder::new(task.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(ahead.window())
            // So much for every stream, or one client that reads slowly would keep the others on the connection waiting.
            .initial_connection_window_size(ahead.window().saturating_mul(STREAMS as u32))
            .initial_max_send_streams(STREAMS)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEAD_BYTES)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(UpstreamFault::from_hyper)?;
        let limit = Rc::new(Cell::new(STREAMS));
        let (has_settings, usual) = (Rc::new(Cell::new(false)), Rc::<RefCell<Option<Rc<Cell<usize>>>>>::default());
        let (told, settled, learns) = (Rc::clone(&limit), Rc::clone(&has_settings), Rc::clone(&usual));
        spawn_local(async move {
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                if polled.is_pending() {
                    // A peer that allows none at the moment gets one request, which waits.
                    let allowed = connection.current_max_send_streams().clamp(1, STREAMS);
                    // Until the peer's settings are there, it is what we began with.
                    if allowed != STREAMS || settled.get() {
                        settled.set(true);
                        told.set(allowed);
                        if let Some(usual) = &*learns.borrow() {
                            usual.set(allowed);
                        }
                    }
                }
                polled
            });
            // What goes wrong here the streams are told as well; on an idle connection it is nothing.
            if let Err(error) = ended.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self {
            sender: RefCell::new(sender),
            streams: Cell::new(0),
            limit,
            has_settings,
            usual,
            is_retired: Cell::new(false),
            given_up: Cell::new(0),
            used_at: Cell::new(Instant::now()),
            ahead,
            farewell,
            task,
        })
    }
}

impl<B> Shared<B> {
    /// The one stream of a connection that nobody else uses.
    pub(super) fn for_one(self) -> Slot<B> {
        Slot::new(Rc::new(self), false)
    }

    /// Whether it takes no more streams.
    fn is_over(&self) -> bool {
        self.is_retired.get() || self.sender.borrow().is_closed()
    }

    /// Gives it no more streams; it is closed when the last one has ended.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
    }

    /// A stream was given up before it was over.
    pub(super) fn gave_up(&self) {
        self.given_up.set(self.given_up.get().saturating_add(1));
        if self.given_up.get() >= GIVEN_UP {
            self.retire();
        }
    }

    /// A stream went to its end.
    pub(super) fn went_well(&self) {
        self.given_up.set(self.given_up.get().saturating_sub(1));
    }

    /// The peer has refused a stream: for now there may be no more than there are besides.
    pub(super) fn was_refused(&self) {
        self.limit.set(self.streams.get().saturating_sub(1).clamp(1, STREAMS));
    }

    /// Whether what waits for a stream is none that the peer looks at: it has said which is the last one.
    pub(super) fn looks_at_no_more(&self) -> bool {
        self.farewell.names_a_stream()
    }

    /// What requests are sent through.
    pub(super) fn sender(&self) -> std::cell::RefMut<'_, Sender<B>> {
        self.sender.borrow_mut()
    }
}

impl<B> Slot<B> {
    fn new(connection: Rc<Shared<B>>, is_reused: bool) -> Self {
        connection.streams.set(connection.streams.get().saturating_add(1));
        Self { connection, is_reused }
    }
}

impl<B> Drop for Slot<B> {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get().saturating_sub(1));
    }
}

impl<B> Drop for Shared<B> {
    fn drop(&mut self) {
        // A connection that was given up may have a stream that the peer neither reads nor resets, and would never end.
        if self.is_retired.get()
            && let Some(task) = self.task.first.take()
        {
            task.abort();
        }
    }
}

/// Runs hyper's tasks on the worker's thread.
#[derive(Clone, Default)]
pub(super) struct OnThisThread {
    /// The one that hyper starts first is the connection's.
    first: Rc<Cell<Option<AbortHandle>>>,
    has_first: Rc<Cell<bool>>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        let task = spawn_local(task);
        if !self.has_first.replace(true) {
            self.first.set(Some(task.abort_handle()));
        }
    }
}
