//! One connection and one exchange on it, driven by whoever waits for what comes over it. The timer of the response timeout belongs
//! to the connection and is only ever moved when it fires or would fire too late, where a timer per request would cost the timer wheel
//! twice.

use std::{
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, request::Parts};
use http_body::{Body, Frame};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    answers::{Answers, is_interim},
    outgoing::{Outgoing, Unsendable},
};
use crate::upstream::{
    fault::{BoxError, InvalidAnswer, UpstreamFault},
    line::{Answered, Lost},
    upload::{Progress, Upload},
};

/// Bytes both ways.
pub(in crate::upstream) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Io for S {}

/// A connection without its protocol.
pub(in crate::upstream) struct Bare {
    pub(in crate::upstream) io: Box<dyn Io>,
    /// What was read and belongs to what comes after HTTP.
    pub(in crate::upstream) unread: Bytes,
}

/// A connection to a target.
pub(in crate::upstream) struct Connection<B> {
    io: Box<dyn Io>,
    outgoing: Outgoing<B>,
    answers: Answers,
    /// The head of the request that waits for its answer.
    asked: Option<Parts>,
    method: Method,
    /// Whether both sides keep it after this answer.
    keeps: bool,
    /// Why the service takes no more of the request. It may say so in an answer.
    deaf: Option<io::Error>,
    /// Whether the client broke off while the answer came already.
    is_broken_off: bool,
    /// Who reads the answer while somebody else sends the request.
    reader: Option<Waker>,
    timer: Pin<Box<Sleep>>,
    /// When its last request began: the clock is read once a request, and counting idle time from the beginning rather
    /// than the end errs towards a fresh connection.
    pub(in crate::upstream) used_at: Instant,
    /// Whether it served a request before.
    pub(in crate::upstream) reused: bool,
}

/// A request on its way, and the connection that it is sent on.
pub(in crate::upstream) struct Exchange<B> {
    pub(in crate::upstream) connection: Box<Connection<B>>,
    progress: Option<Rc<Progress>>,
    started: Instant,
}

impl<B> Connection<B> {
    /// Takes charge of a new connection.
    pub(in crate::upstream) fn new(io: Box<dyn Io>, now: Instant) -> Self {
        Self {
            io,
            outgoing: Outgoing::new(),
            answers: Answers::new(),
            asked: None,
            method: Method::GET,
            keeps: true,
            deaf: None,
            is_broken_off: false,
            reader: None,
            timer: Box::pin(sleep_until(now)),
            used_at: now,
            reused: false,
        }
    }

    /// Whether it can take another request, as far as is known without asking the socket.
    pub(in crate::upstream) fn may_be_kept(&self) -> bool {
        self.keeps
            && self.deaf.is_none()
            && self.asked.is_none()
            && self.outgoing.is_over()
            && self.answers.coding().is_over()
            && !self.answers.has_more()
    }

    /// Whether the service has neither closed it nor said anything since it was put away: that would be no answer to anything.
    pub(in crate::upstream) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        // By what tokio lets a task do at a time, a socket that has something would seem quiet.
        let reading =
            pin!(unconstrained(std::future::poll_fn(|cx| Pin::new(&mut *self.io).poll_read(cx, &mut buffer))));
        reading.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Makes little of itself until it is used again.
    pub(in crate::upstream) fn rest(&mut self) {
        self.answers.rest();
        self.outgoing.rest();
    }

    /// Says good-bye, where there is a way to: closing is the rest.
    pub(in crate::upstream) fn close(mut self) {
        let closing = pin!(unconstrained(std::future::poll_fn(|cx| Pin::new(&mut *self.io).poll_shutdown(cx))));
        let _ = closing.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// What lies beneath, when HTTP is done with it; `None` if it is not.
    pub(in crate::upstream) fn into_bare(self) -> Option<Bare> {
        let is_done = self.outgoing.is_over() && self.deaf.is_none();
        is_done.then(|| Bare { io: self.io, unread: self.answers.into_rest() })
    }

    /// Goes on with the body of an answer whose head was found good.
    pub(in crate::upstream) fn begin_body<T>(&mut self, answer: &Response<T>) -> Result<(), InvalidAnswer> {
        self.answers.begin_body(answer, &self.method)
    }

    /// Whether the answer's body was read to its end.
    pub(in crate::upstream) const fn is_answered(&self) -> bool {
        self.answers.coding().is_over()
    }

    /// How much of the answer's body is left, where that is known.
    pub(in crate::upstream) const fn left(&self) -> Option<u64> {
        self.answers.coding().left()
    }

    /// Takes the answer's body, if all of it is here and its length is known.
    pub(in crate::upstream) fn take_whole(&mut self) -> Option<Bytes> {
        self.answers.take_whole()
    }

    /// Reads on in the answer's body.
    pub(in crate::upstream) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamFault>>> {
        loop {
            // Not after an end that was read.
            if self.answers.coding().is_over() {
                return Poll::Ready(None);
            }
            if self.is_broken_off {
                return Poll::Ready(Some(Err(UpstreamFault::Reset(None))));
            }
            match self.answers.take() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault.into()))),
            }
            if self.answers.coding().is_over() {
                return Poll::Ready(None);
            }
            let Poll::Ready(read) = self.poll_read(cx) else {
                if !self.outgoing.is_over() {
                    self.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            match read {
                Ok(0) => {
                    self.keeps = false;
                    if !self.answers.end() {
                        return Poll::Ready(Some(Err(UpstreamFault::Reset(None))));
                    }
                }
                Ok(_) => {}
                Err(fault) => return Poll::Ready(Some(Err(UpstreamFault::Reset(Some(fault.into()))))),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = ready!(pin!(self.io.read_buf(self.answers.room())).poll(cx))?;
        self.answers.came();
        Poll::Ready(Ok(count))
    }

    /// Waits for the head of the answer. What the request's head was is gone then: its map holds the answer's fields.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, UpstreamFault>> {
        let mut without = HeaderMap::new();
        loop {
            if self.answers.has_more() {
                let map = self.asked.as_mut().map_or(&mut without, |asked| &mut asked.headers);
                if let Some(head) = self.answers.head(map, false)? {
                    self.keeps &= head.keeps;
                    if is_interim(head.answer.status()) {
                        continue;
                    }
                    self.asked = None;
                    return Poll::Ready(Ok(head.answer));
                }
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => {
                    self.answers.head(&mut without, true)?;
                    return Poll::Ready(Err(UpstreamFault::Reset(self.deaf.take().map(Into::into))));
                }
                Ok(_) => {}
                Err(fault) => return Poll::Ready(Err(UpstreamFault::Reset(Some(fault.into())))),
            }
        }
    }

    /// Whether the upstream has made us wait for too long; if not, this task is woken when that may be.
    fn is_overdue(
        &mut self,
        cx: &mut Context<'_>,
        progress: Option<&Progress>,
        started: Instant,
        patience: Duration,
    ) -> bool {
        if self.timer.deadline() > started + patience {
            self.timer.as_mut().reset(started + patience);
        }
        // Whatever this task has done: who says more and more, and no answer, would never be found to be late.
        while pin!(unconstrained(self.timer.as_mut())).poll(cx).is_ready() {
            let now = Instant::now();
            let stalled_since = progress.map_or(started, |progress| progress.upstream_stalls_since(now));
            let deadline = stalled_since + patience;
            if deadline <= now {
                return true;
            }
            self.timer.as_mut().reset(deadline);
        }
        false
    }
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Sends what is left of the request. Ready when there is nothing more to be done for it, be it that it broke off.
    pub(in crate::upstream) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.outgoing.poll_send(&mut *self.io, cx)) {
            Ok(()) => {}
            Err(Unsendable::Service(fault)) => self.hear_no_more(fault),
            Err(Unsendable::Body) => {
                self.outgoing.give_up();
                (self.is_broken_off, self.keeps) = (true, false);
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
            }
        }
        Poll::Ready(())
    }

    fn hear_no_more(&mut self, fault: io::Error) {
        self.outgoing.give_up();
        self.deaf = Some(fault);
    }
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Gives a request to a connection.
    pub(in crate::upstream) fn begin(
        mut connection: Box<Connection<B>>,
        request: Request<Upload<B>>,
        started: Instant,
    ) -> Self {
        let (head, body) = request.into_parts();
        let progress = body.progress();
        connection.used_at = started;
        connection.answers.begin();
        connection.outgoing.begin(&head, body);
        connection.method.clone_from(&head.method);
        connection.asked = Some(head);
        Self { connection, progress, started }
    }

    /// Sends the request and waits for the head of its answer.
    ///
    /// The upstream may make us wait for `patience` at a time: for the head once the request is sent, or for room to
    /// send more of it. Waiting for the client's bytes does not count; the listener has limits for that.
    pub(in crate::upstream) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        patience: Duration,
    ) -> Poll<Result<Answered, Lost<B>>> {
        let Self { connection, progress, started } = self;
        if !connection.outgoing.is_over() {
            match connection.outgoing.poll_send(&mut *connection.io, cx) {
                Poll::Ready(Err(Unsendable::Service(fault))) => connection.hear_no_more(fault),
                Poll::Ready(Err(Unsendable::Body)) => {
                    let error = progress.as_deref().and_then(Progress::take_error);
                    let error = error.unwrap_or_else(|| "it is not what its head says".into());
                    return Poll::Ready(Err(Lost::of(UpstreamFault::RequestBody(error))));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        match connection.poll_head(cx) {
            Poll::Ready(Ok(answer)) => {
                let is_early = !connection.outgoing.is_over();
                Poll::Ready(Ok(Answered { answer, is_early, incoming: None }))
            }
            Poll::Ready(Err(fault)) => {
                let is_whole = progress.is_none() && matches!(fault, UpstreamFault::Reset(_));
                let again = connection.asked.take().filter(|_| is_whole);
                let again = again.map(|head| Request::from_parts(head, Upload::empty()));
                Poll::Ready(Err(Lost { again, ..Lost::of(fault) }))
            }
            Poll::Pending if connection.is_overdue(cx, progress.as_deref(), *started, patience) => {
                Poll::Ready(Err(Lost::of(UpstreamFault::Timeout)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
