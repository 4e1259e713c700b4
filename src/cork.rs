//! Small writes of one turn of a worker go to their sockets together, at its end.
//!
//! A turn is what a worker does between two looks at its sockets: it reads from those that have something, and writes to others. Each
//! write has the kernel wake whoever reads at the other end, which may then be given this processor at once. Written one after
//! the other, one wake-up serves for many, and the worker has had its turn:
//!
//! ```text
//! write ── held ──> end of the turn ─┬─> sent                            most of the time
//!                                    ├─> a task sends the rest           the peer takes no more; writes and flushes wait for it
//!                                    └─> a fault, told by what is next
//! ```
//! What does not fit with what is held is written at once, after that, and so is all that is for a peer that is behind. Nothing is
//! held where nobody runs [`uncork`] on the thread.

use std::{
    cell::RefCell,
    fmt,
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{AbortHandle, spawn_local, unconstrained},
};

/// The most that is held for one socket: answers and heads as they usually are. Of more, copying costs more than waking does.
const HELD_BYTES: usize = 4096;
/// Corks that are kept for others, in each worker.
const SPARE: usize = 64;
/// The most sockets that wait for the end of a turn: in a long one, the first to be served are not to wait for the last.
const QUEUED: usize = 64;

/// A stream whose small writes wait for the end of the turn.
pub(crate) struct Corked<S>(Rc<RefCell<Socket<S>>>);

/// Shared with the queue.
struct Socket<S> {
    stream: S,
    /// There while something is held.
    cork: Option<Box<Cork>>,
    /// Who wrote last, and wants to know when it can again, or never will.
    owner: Option<Waker>,
    /// Whether it is in the queue.
    queued: bool,
    /// Whether it took less than it was given the last time.
    behind: bool,
    /// What went wrong at the end of a turn, until somebody is told.
    fault: Option<io::Error>,
}

/// What a socket holds.
#[derive(Default)]
struct Cork {
    bytes: Vec<u8>,
    /// Sends, as the peer takes it.
    rest: Option<AbortHandle>,
}

/// Those who have something to send at the end of this thread's turn.
struct Turn {
    /// Who sends it. `None`: nobody, so that nothing may be held.
    sender: RefCell<Option<Waker>>,
    queue: RefCell<Vec<Rc<dyn Uncork>>>,
    #[expect(clippy::vec_box, reason = "a socket takes the box as it is")]
    spare: RefCell<Vec<Box<Cork>>>,
}

thread_local! {
    static TURN: Turn = const {
        Turn { sender: RefCell::new(None), queue: RefCell::new(Vec::new()), spare: RefCell::new(Vec::new()) }
    };
}

/// A socket of whatever kind.
trait Uncork {
    fn uncork(self: Rc<Self>, turn: &Turn);
}

/// Sends what the tasks of this thread hold, after all that are ready have had their turn. Dropped, it sends what is left, and
/// nothing is held any more.
///
/// It must be a task of the same runtime as they are, or it would not come after them.
pub(crate) async fn uncork() {
    let _uncorking = Uncorking;
    let mut sending = Vec::new();
    poll_fn(|cx| {
        TURN.with(|turn| {
            if !turn.sender.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                turn.sender.replace(Some(cx.waker().clone()));
            }
            std::mem::swap(&mut *turn.queue.borrow_mut(), &mut sending);
            turn.send(&mut sending);
        });
        Poll::Pending
    })
    .await
}

struct Uncorking;

impl Drop for Uncorking {
    fn drop(&mut self) {
        // A thread that is past its locals has nothing queued either.
        let _ = TURN.try_with(|turn| {
            turn.sender.take();
            turn.send(&mut turn.queue.take());
        });
    }
}

impl Turn {
    /// Has `socket` uncorked at the end of this turn.
    fn enqueue(&self, socket: Rc<dyn Uncork>) {
        let queued = self.queue.borrow().len();
        if queued == 0
            && let Some(sender) = &*self.sender.borrow()
        {
            sender.wake_by_ref();
        }
        if queued >= QUEUED {
            // Not `socket`, which its writer has borrowed.
            let mut sending = self.queue.take();
            self.send(&mut sending);
            self.queue.replace(sending);
        }
        self.queue.borrow_mut().push(socket);
    }

    /// Sends what these hold. It is not the task's that happens to run: by what tokio lets one do at a time, sockets would seem blocked.
    fn send(&self, sockets: &mut Vec<Rc<dyn Uncork>>) {
        let sends = pin!(unconstrained(async { sockets.drain(..).for_each(|socket| socket.uncork(self)) }));
        let _ = sends.poll(&mut Context::from_waker(Waker::noop()));
    }

    fn put_away(&self, mut cork: Box<Cork>) {
        cork.bytes.clear();
        cork.rest = None;
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(cork);
        }
    }
}

impl Cork {
    /// Whether a task of its own sends it.
    const fn is_being_sent(&self) -> bool {
        self.rest.is_some()
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Sends what is held, as far as the socket takes it; `cx` is told when it takes more.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(cork) = &mut self.cork else { return Poll::Ready(Ok(())) };
        let mut sent = 0;
        let outcome = loop {
            let rest = cork.bytes.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(fault)) => break Poll::Ready(Err(fault)),
                Poll::Pending => break Poll::Pending,
            }
        };
        cork.bytes.drain(..sent);
        if outcome.is_ready()
            && let Some(cork) = self.cork.take()
        {
            TURN.with(|turn| turn.put_away(cork));
        }
        outcome
    }

    /// Writes at once, after what is held.
    fn poll_now(
        &mut self,
        cx: &mut Context<'_>,
        count: usize,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_free(cx))?;
        let wrote = write(Pin::new(&mut self.stream), cx);
        self.behind = !matches!(wrote, Poll::Ready(Ok(taken)) if taken == count);
        wrote
    }

    /// Waits until nothing is held, or for good if that went wrong.
    fn poll_free(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Err(fault));
        }
        if let Some(cork) = &self.cork {
            let is_being_sent = cork.is_being_sent();
            self.note_owner(cx);
            if is_being_sent {
                return Poll::Pending;
            }
        }
        self.poll_held(cx)
    }

    /// Remembers who is to be woken.
    fn note_owner(&mut self, cx: &Context<'_>) {
        if !self.owner.as_ref().is_some_and(|owner| owner.will_wake(cx.waker())) {
            self.owner = Some(cx.waker().clone());
        }
    }

    /// Whether `count` more bytes may wait for the end of the turn.
    fn has_room(&self, count: usize) -> bool {
        let held = match &self.cork {
            Some(cork) if cork.is_being_sent() => return false,
            Some(cork) => cork.bytes.len(),
            None => 0,
        };
        self.fault.is_none() && !self.behind && held.saturating_add(count) <= HELD_BYTES
    }
}

impl<S: AsyncWrite + Unpin + 'static> Uncork for RefCell<Socket<S>> {
    fn uncork(self: Rc<Self>, turn: &Turn) {
        let mut socket = self.borrow_mut();
        socket.queued = false;
        match socket.poll_held(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => return,
            Poll::Ready(Err(fault)) => socket.fault = Some(fault),
            // Nobody will send it.
            Poll::Pending if turn.sender.borrow().is_none() => {
                (socket.cork, socket.fault) = (None, Some(io::ErrorKind::BrokenPipe.into()));
            }
            // What its owner has let go of, and the peer does not take, is gone with the connection.
            Poll::Pending if Rc::strong_count(&self) == 1 => return,
            Poll::Pending => {
                let shared = Rc::clone(&self);
                let rest = spawn_local(poll_fn(move |cx| {
                    let mut socket = shared.borrow_mut();
                    if let Err(fault) = ready!(socket.poll_held(cx)) {
                        socket.fault = Some(fault);
                    }
                    let owner = socket.owner.take();
                    drop(socket);
                    if let Some(owner) = owner {
                        owner.wake();
                    }
                    Poll::Ready(())
                }));
                if let Some(cork) = &mut socket.cork {
                    cork.rest = Some(rest.abort_handle());
                }
            }
        }
        // So that it knows: of the fault, or that it has to wait for a flush again.
        let owner = socket.owner.take();
        drop(socket);
        if let Some(owner) = owner {
            owner.wake();
        }
    }
}

impl<S> Corked<S> {
    pub(crate) fn new(stream: S) -> Self {
        let socket = Socket { stream, cork: None, owner: None, queued: false, behind: false, fault: None };
        Self(Rc::new(RefCell::new(socket)))
    }

    /// The stream itself, to be asked and to be read from.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&S) -> T) -> T {
        ask(&self.0.borrow().stream)
    }
}

impl<S: AsyncWrite + Unpin + 'static> Corked<S> {
    /// Holds what `copy` adds, `count` bytes, if that may be.
    fn hold(&self, socket: &mut Socket<S>, cx: &Context<'_>, count: usize, copy: impl FnOnce(&mut Vec<u8>)) -> bool {
        if !socket.has_room(count) {
            return false;
        }
        TURN.with(|turn| {
            if turn.sender.borrow().is_none() {
                return false;
            }
            let cork = socket.cork.get_or_insert_with(|| turn.spare.borrow_mut().pop().unwrap_or_default());
            copy(&mut cork.bytes);
            socket.note_owner(cx);
            if !socket.queued {
                socket.queued = true;
                turn.enqueue(Rc::clone(&self.0) as Rc<dyn Uncork>);
            }
            true
        })
    }
}

/// What waits for a peer that takes nothing ends with the connection.
impl<S> Drop for Corked<S> {
    fn drop(&mut self) {
        if let Some(rest) = self.0.borrow().cork.as_ref().and_then(|cork| cork.rest.as_ref()) {
            rest.abort();
        }
    }
}

impl<S> fmt::Debug for Corked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Corked")
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.borrow_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut socket.stream).poll_read(cx, buffer);
        let ended = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        // The kernel tells once how a connection was cut, be it to who writes; to who reads it looks like an orderly end then. What the
        // peer had sent before is read first.
        match socket.fault.take_if(|fault| ended && fault.kind() != io::ErrorKind::BrokenPipe) {
            Some(fault) => Poll::Ready(Err(fault)),
            None => read,
        }
    }
}

impl<S: AsyncWrite + Unpin + 'static> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = self.0.borrow_mut();
        if self.hold(&mut socket, cx, bytes.len(), |held| held.extend_from_slice(bytes)) {
            return Poll::Ready(Ok(bytes.len()));
        }
        socket.poll_now(cx, bytes.len(), |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = slices.iter().fold(0, |count: usize, slice| count.saturating_add(slice.len()));
        let mut socket = self.0.borrow_mut();
        if self.hold(&mut socket, cx, count, |held| slices.iter().for_each(|slice| held.extend_from_slice(slice))) {
            return Poll::Ready(Ok(count));
        }
        socket.poll_now(cx, count, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().stream.is_write_vectored()
    }

    /// Nothing is waited for that the end of the turn will send; what a peer does not take is.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.borrow_mut();
        if socket.queued && socket.fault.is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(socket.poll_free(cx))?;
        Pin::new(&mut socket.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.0.borrow_mut();
        ready!(socket.poll_free(cx))?;
        Pin::new(&mut socket.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
