//! Two sides of a switched connection, joined on the worker: what one sends the other gets, as fast as that takes it and no faster.
//!
//! ```text
//!   client ──read──> at most 16 KiB ──write──> service         up
//!   client <──write── at most 16 KiB <──read── service         down
//! ```
//!
//! A direction at rest holds no memory: bytes are read into a buffer that the worker has once, and only what the other side does not
//! take at once is kept. When one side ends, the other is told, and has a while to end as well. An end of our own making waits for the
//! frame that is under way, says good-bye by a Close frame both ways, and closes.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use aws_lc_rs::rand;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    frames::{self, Frames},
    open::{End, Open},
};
use crate::body::with_scratch;

/// Reads of one direction before others on the worker have their turn.
const BURST: usize = 16;
/// How long the other side may go on when one has closed: it may have an answer to give (a Close frame above all).
const HALF_CLOSED: Duration = Duration::from_secs(10);
/// How long an end of our own making may take: for the frame under way, the Close frames, and for the peers to have read them.
const PARTING: Duration = Duration::from_secs(1);

/// What one direction is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Copying,
    /// The reading end has ended; what is kept is written, and then the writing end is closed.
    Finishing,
    Done,
}

/// Which end of a direction broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Reading,
    /// With whether it was for taking nothing for too long.
    Writing {
        stalled: bool,
    },
}

/// One direction.
struct Half {
    frames: Frames,
    kept: Vec<u8>,
    written: usize,
    stage: Stage,
    /// What is to be said at the next boundary, before it closes.
    farewell: Option<Vec<u8>>,
    bytes: u64,
}

impl Half {
    fn new() -> Self {
        Self {
            frames: Frames::default(),
            kept: Vec::new(),
            written: 0,
            stage: Stage::Copying,
            farewell: None,
            bytes: 0,
        }
    }

    /// Closes at the next boundary with a Close frame, unless one went by already.
    fn part(&mut self, status: u16, reason: &str, mask: Option<[u8; 4]>) {
        if self.stage != Stage::Copying {
            return;
        }
        let said = self.frames.is_closed();
        self.farewell = Some(if said { Vec::new() } else { frames::close(status, reason, mask) });
    }

    /// Does what can be done; the task is woken when there is more.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        open: &Open,
    ) -> Result<(), Broken>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        let mut burst = BURST;
        loop {
            if !self.write_kept(cx, to.as_mut())? {
                return Ok(());
            }
            match self.stage {
                Stage::Done => return Ok(()),
                Stage::Finishing => {
                    // Whether the other side learns of it or not, nothing more goes this way.
                    if to.as_mut().poll_shutdown(cx).is_ready() {
                        self.stage = Stage::Done;
                    }
                    return Ok(());
                }
                Stage::Copying => {}
            }
            if self.frames.at_boundary()
                && let Some(farewell) = self.farewell.take()
            {
                self.keep(&farewell);
                self.stage = Stage::Finishing;
                continue;
            }
            if burst == 0 {
                cx.waker().wake_by_ref();
                return flush(cx, to);
            }
            burst -= 1;
            let read = with_scratch(|scratch| self.read(cx, scratch, from.as_mut(), to.as_mut(), open));
            match read? {
                Poll::Pending => return flush(cx, to),
                Poll::Ready(0) => self.stage = Stage::Finishing,
                Poll::Ready(_) => {}
            }
        }
    }

    /// Reads once, and writes what the other side takes at once.
    fn read<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        from: Pin<&mut R>,
        to: Pin<&mut W>,
        open: &Open,
    ) -> Result<Poll<usize>, Broken>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        let mut buffer = ReadBuf::new(scratch);
        match from.poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(Poll::Pending),
            // TLS without its own word for the end is an end all the same.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Poll::Ready(0)),
            Poll::Ready(Err(_)) => return Err(Broken::Reading),
            Poll::Ready(Ok(())) => {}
        }
        let mut bytes = buffer.filled();
        let count = bytes.len();
        if count == 0 {
            return Ok(Poll::Ready(0));
        }
        open.moved(count);
        if self.farewell.is_some() {
            // What is beyond the frame under way goes nowhere.
            let end = self.frames.step(bytes);
            bytes = bytes.get(..end).unwrap_or(bytes);
        } else {
            self.frames.follow(bytes);
        }
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        match to.poll_write(cx, bytes) {
            Poll::Pending => self.keep(bytes),
            Poll::Ready(Ok(taken)) if taken > 0 => {
                self.keep(bytes.get(taken..).unwrap_or_default());
            }
            Poll::Ready(wrote) => return Err(broken(wrote)),
        }
        Ok(Poll::Ready(count))
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Writes what is kept; `false` while the other side does not take it.
    fn write_kept<W: AsyncWrite + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        mut to: Pin<&mut W>,
    ) -> Result<bool, Broken> {
        while let Some(rest) = self.kept.get(self.written..).filter(|rest| !rest.is_empty()) {
            match to.as_mut().poll_write(cx, rest) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(taken)) if taken > 0 => {
                    self.written += taken;
                }
                Poll::Ready(wrote) => return Err(broken(wrote)),
            }
        }
        if self.written > 0 {
            (self.kept, self.written) = (Vec::new(), 0);
        }
        Ok(true)
    }
}

/// Each time, also after one that had nothing to wait for: what was written may meet its fault, or a peer that takes nothing, at the end of
/// the turn.
fn flush<W: AsyncWrite + ?Sized>(cx: &mut Context<'_>, to: Pin<&mut W>) -> Result<(), Broken> {
    match to.poll_flush(cx) {
        Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
        Poll::Ready(Err(error)) => Err(broken(Err(error))),
    }
}

fn broken(wrote: io::Result<usize>) -> Broken {
    Broken::Writing { stalled: wrote.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) }
}

/// Both directions, until they have ended.
pub(super) struct Relay<C, U> {
    client: C,
    upstream: U,
    up: Half,
    down: Half,
    open: Rc<Open>,
    end: Option<End>,
    /// Whether it was ended by us.
    parting: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// How a relay went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relayed {
    /// Bytes from the client to the service.
    pub(super) up: u64,
    /// Bytes from the service to the client.
    pub(super) down: u64,
    /// How it ended, if it has.
    pub(super) end: Option<End>,
}

impl<C, U> Relay<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(client: C, upstream: U, open: Rc<Open>) -> Self {
        let (up, down) = (Half::new(), Half::new());
        Self { client, upstream, up, down, open, end: None, parting: false, deadline: None }
    }

    /// How it has gone so far.
    pub(super) const fn told(&self) -> Relayed {
        Relayed { up: self.up.bytes, down: self.down.bytes, end: self.end }
    }

    fn note(&mut self, end: End) {
        self.end = self.end.or(Some(end));
    }

    /// Moves bytes until both sides are done; ready once.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.parting
            && let Some(end) = self.open.end(cx.waker())
        {
            self.part(end);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        if self.move_bytes(cx).is_ready() {
            return Poll::Ready(());
        }
        let done = (self.up.stage == Stage::Done, self.down.stage == Stage::Done);
        match done {
            (false, false) => return Poll::Pending,
            (true, true) if self.parting => return self.read_off(cx),
            (true, true) => return Poll::Ready(()),
            (true, false) | (false, true) => {}
        }
        self.limit(HALF_CLOSED, cx)
    }

    fn move_bytes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { client, upstream, up, down, open, .. } = self;
        let went_up = up.poll(cx, Pin::new(client), Pin::new(upstream), open);
        let went_down = down.poll(cx, Pin::new(upstream), Pin::new(client), open);
        if up.stage != Stage::Copying && !self.parting {
            self.note(End::ClientClosed);
        } else if down.stage != Stage::Copying && !self.parting {
            self.note(End::UpstreamClosed);
        }
        match (went_up, went_down) {
            (Err(Broken::Reading), _) | (_, Err(Broken::Writing { stalled: false })) => {
                self.note(End::ClientGone);
                return Poll::Ready(());
            }
            (_, Err(Broken::Writing { stalled: true })) => {
                self.note(End::ClientStalled);
                return Poll::Ready(());
            }
            (_, Err(Broken::Reading)) => {
                self.note(End::UpstreamGone);
                self.down.stage = Stage::Finishing;
                self.up.stage = Stage::Done;
                cx.waker().wake_by_ref();
            }
            (Err(Broken::Writing { .. }), Ok(())) => {
                // It may have said why, and that is still to be read.
                self.note(End::UpstreamGone);
                self.up.stage = Stage::Done;
            }
            (Ok(()), Ok(())) => {}
        }
        Poll::Pending
    }

    /// Ends it for a reason of ours.
    fn part(&mut self, end: End) {
        self.note(end);
        self.parting = true;
        let (status, reason) = end.farewell();
        self.down.part(status, reason, None);
        let mut mask = [0; 4];
        // RFC 6455 §5.3 wants it unpredictable for what a page chose to send; this we say ourselves, so that zeros do no harm.
        let _ = rand::fill(&mut mask);
        self.up.part(status, reason, Some(mask));
        self.deadline = Some(Box::pin(sleep(PARTING)));
    }

    fn limit(&mut self, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline.is_none() {
            self.deadline = Some(Box::pin(sleep(time)));
        }
        self.deadline.as_mut().map_or(Poll::Ready(()), |deadline| deadline.as_mut().poll(cx))
    }

    /// Reads off what both sides still send: a socket that is closed with unread bytes resets its connection, and what we said last
    /// may never be read then.
    fn read_off(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let client = read_to_end(cx, Pin::new(&mut self.client));
        let upstream = read_to_end(cx, Pin::new(&mut self.upstream));
        if client.is_ready() && upstream.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn read_to_end(cx: &mut Context<'_>, mut from: Pin<&mut impl AsyncRead>) -> Poll<()> {
    with_scratch(|scratch| {
        for _ in 0..BURST {
            let mut buffer = ReadBuf::new(scratch);
            match from.as_mut().poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Waker::wake_by_ref(cx.waker());
        Poll::Pending
    })
}
