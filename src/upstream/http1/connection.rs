//! One connection and one exchange on it, driven by whoever waits for what comes over it. The timer of the response timeout belongs
//! to the connection and is only ever moved when it fires or would fire too late, where a timer per request would cost the timer wheel
//! twice.

use std::{
    future::poll_fn,
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
    io::{AsyncReadExt as _, ReadBuf},
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    answers::{Answers, BadAnswer, is_interim},
    io::{Bare, Io},
    outgoing::{Outgoing, Unsendable},
};
use crate::upstream::{
    answer::Checked,
    fault::{BoxError, InvalidAnswer, UpstreamFault},
    line::{Answered, Lost},
    upload::{Progress, Upload},
};

/// How often a service may say that it is still at it (102), or what the answer may need (103), before it answers.
const INTERIM_ANSWERS: u8 = 100;

/// A connection to a target.
pub(in crate::upstream) struct Connection<B> {
    io: Box<dyn Io>,
    outgoing: Outgoing<B>,
    answers: Answers,
    /// The head of the request that waits for its answer.
    asked: Option<Parts>,
    /// Its method, which is needed for longer.
    method: Method,
    /// How far its body has come; `None` when it has none.
    progress: Option<Rc<Progress>>,
    /// When it began.
    started: Instant,
    /// How many answers came that were not the last.
    interim: u8,
    /// Whether the service keeps the connection after this answer.
    keeps: bool,
    /// Why the service takes no more of the request. It may say so in an answer.
    refused: Option<io::Error>,
    /// Why there is no more of the request, where that was found while the answer came already.
    broken_off: Option<BoxError>,
    /// Who reads, while somebody else sends.
    reader: Option<Waker>,
    timer: Pin<Box<Sleep>>,
    /// Since when the service has made this request wait, as far as the timer knows.
    timed_since: Instant,
    /// When its last request began: the clock is read once a request, and counting idle time from the beginning rather
    /// than the end errs towards a fresh connection.
    pub(in crate::upstream) used_at: Instant,
    /// Whether it served a request before.
    pub(in crate::upstream) reused: bool,
}

/// A request on its way, and the connection that it is sent on.
pub(in crate::upstream) struct Exchange<B> {
    connection: Box<Connection<B>>,
}

/// How far a connection got that ended too early.
#[derive(Debug, thiserror::Error)]
pub enum CutOff {
    /// Nothing came.
    #[error("closed without an answer")]
    Unanswered,
    /// It was closed within the head.
    #[error("closed within the head of its answer")]
    Head,
    /// It was closed within the body.
    #[error("closed within the body of its answer")]
    Body,
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
            progress: None,
            started: now,
            interim: 0,
            keeps: true,
            refused: None,
            broken_off: None,
            reader: None,
            timer: Box::pin(sleep_until(now)),
            timed_since: now,
            used_at: now,
            reused: false,
        }
    }

    /// Whether it can take another request, as far as is known without asking the socket: all of the request was written, all of the
    /// answer read and nothing behind it, and the service keeps it.
    pub(in crate::upstream) fn may_be_kept(&self) -> bool {
        self.keeps
            && self.refused.is_none()
            && self.broken_off.is_none()
            && self.asked.is_none()
            && self.outgoing.is_over()
            && self.answers.decoder().is_over()
            && !self.answers.has_more()
    }

    /// Whether the service has neither closed it nor said anything since it was put away: that would be no answer to anything.
    pub(in crate::upstream) fn is_quiet(&mut self) -> bool {
        // By what tokio lets a task do at a time, a socket that has something would seem quiet.
        let listening = pin!(unconstrained(poll_fn(|cx| self.poll_unasked(cx))));
        listening.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Waits until the service says or does anything, though nothing is to come.
    fn poll_unasked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        Pin::new(&mut *self.io).poll_read(cx, &mut ReadBuf::new(&mut byte)).map(drop)
    }

    /// Waits until the service closes the connection or says more, behind an answer whose request is still being sent. Some end a body with
    /// a line end too many, and read on.
    pub(super) fn poll_enough(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.answers.has_more_than_blank_lines() {
            return Poll::Ready(());
        }
        loop {
            match ready!(self.poll_read(cx)) {
                Ok(1..) if !self.answers.has_more_than_blank_lines() => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Makes little of itself until it is used again.
    pub(in crate::upstream) fn shrink(&mut self) {
        self.answers.shrink();
        self.outgoing.shrink();
    }

    /// Says good-bye, where there is a way to: closing is the rest.
    pub(in crate::upstream) fn close(mut self) {
        let closing = pin!(unconstrained(poll_fn(|cx| Pin::new(&mut *self.io).poll_shutdown(cx))));
        let _ = closing.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// What lies beneath, when HTTP is done with it; `None` if it is not.
    pub(in crate::upstream) fn into_bare(self) -> Option<Bare> {
        let is_done = self.outgoing.is_over() && self.refused.is_none();
        is_done.then(|| Bare { io: self.io, unread: self.answers.into_unread() })
    }

    /// Whether there is still something to be sent of the request.
    pub(in crate::upstream) const fn is_sending(&self) -> bool {
        !self.outgoing.is_over()
    }

    /// Goes on with the body of an answer whose head was checked.
    pub(in crate::upstream) fn begin_body<T>(
        &mut self,
        answer: &Response<T>,
        checked: &Checked,
    ) -> Result<(), InvalidAnswer> {
        self.answers.begin_body(answer, checked, &self.method)
    }

    /// Whether the answer's body was read to its end.
    pub(in crate::upstream) const fn is_answered(&self) -> bool {
        self.answers.decoder().is_over()
    }

    /// How much of the answer's body is left, where that is known.
    pub(in crate::upstream) const fn left(&self) -> Option<u64> {
        self.answers.decoder().left()
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
            if self.is_answered() {
                return Poll::Ready(None);
            }
            if let Some(error) = self.broken_off.take() {
                return Poll::Ready(Some(Err(UpstreamFault::RequestBody(error))));
            }
            match self.answers.take() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.is_answered() => return Poll::Ready(None),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault.into()))),
            }
            let Poll::Ready(read) = self.poll_read(cx) else {
                if self.is_sending() {
                    self.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            match read {
                Ok(0) => {
                    self.keeps = false;
                    if !self.answers.at_eof() {
                        return Poll::Ready(Some(Err(CutOff::Body.into())));
                    }
                }
                Ok(_) => {}
                Err(fault) => return Poll::Ready(Some(Err(UpstreamFault::Reset(Some(fault.into()))))),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = ready!(pin!(self.io.read_buf(self.answers.room())).poll(cx))?;
        self.answers.grow();
        Poll::Ready(Ok(count))
    }

    /// Waits for the head of the answer. What the request's head was is gone then: its map holds the answer's fields.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, UpstreamFault>> {
        let Some(mut asked) = self.asked.take() else { return Poll::Ready(Err(CutOff::Unanswered.into())) };
        let polled = self.poll_head_into(&mut asked.headers, cx);
        if !matches!(polled, Poll::Ready(Ok(_))) {
            self.asked = Some(asked);
        }
        polled
    }

    fn poll_head_into(
        &mut self,
        map: &mut HeaderMap,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, UpstreamFault>> {
        loop {
            if self.answers.has_more()
                && let Some(head) = self.answers.head(map, false)?
            {
                self.keeps &= head.keeps;
                if !is_interim(head.answer.status()) {
                    return Poll::Ready(Ok(head.answer));
                }
                self.interim = self.interim.saturating_add(1);
                if self.interim > INTERIM_ANSWERS {
                    return Poll::Ready(Err(BadAnswer::Interim.into()));
                }
                continue;
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(self.cut_off(map)?)),
                Ok(_) => {}
                Err(fault) => return Poll::Ready(Err(UpstreamFault::Reset(Some(fault.into())))),
            }
        }
    }

    /// Why there is no answer on a connection that has ended.
    fn cut_off(&mut self, map: &mut HeaderMap) -> Result<UpstreamFault, BadAnswer> {
        if self.answers.has_more() {
            self.answers.head(map, true)?;
            return Ok(CutOff::Head.into());
        }
        // That the service took no more is the better reason.
        Ok(self
            .refused
            .take()
            .map_or_else(|| CutOff::Unanswered.into(), |fault| UpstreamFault::Reset(Some(fault.into()))))
    }

    /// Whether the upstream has made us wait for too long; if not, this task is woken when that may be.
    pub(super) fn is_overdue(&mut self, cx: &mut Context<'_>, patience: Duration) -> bool {
        // As another request may have left it. Only then: a timer that is set to the past wakes its task, which would set it again.
        if self.timer.deadline() > self.timed_since + patience {
            self.timer.as_mut().reset(self.timed_since + patience);
        }
        // Whatever this task has done: who says more and more, and no answer, would never be found to be late.
        while pin!(unconstrained(self.timer.as_mut())).poll(cx).is_ready() {
            let now = Instant::now();
            let stalled_since = match &self.progress {
                Some(progress) if self.is_sending() => progress.upstream_stalls_since(now),
                Some(progress) => progress.last(),
                None => self.started,
            };
            let deadline = stalled_since + patience;
            if deadline <= now {
                return true;
            }
            self.timed_since = stalled_since;
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
    /// Sends what there is of the request. An error: the request itself broke off. What the service takes no more of is given up, and
    /// its answer may say why.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.outgoing.is_over() {
            return Poll::Ready(Ok(()));
        }
        let sent = self.outgoing.poll_send(&mut *self.io, cx);
        if self.outgoing.take_moved()
            && let Some(progress) = &self.progress
        {
            progress.moved();
        }
        match ready!(sent) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Unsendable::Service(fault)) => {
                self.outgoing.give_up();
                self.refused = Some(fault);
                Poll::Ready(Ok(()))
            }
            Err(Unsendable::Body) => {
                self.outgoing.give_up();
                let error = self.progress.as_deref().and_then(Progress::take_error);
                Poll::Ready(Err(error.unwrap_or_else(|| "it is not what its head says".into())))
            }
        }
    }

    /// Sends what is left of the request while the answer is read elsewhere, or was (`patience`). Ready when there is nothing more to be
    /// done for it.
    pub(super) fn poll_send_rest(&mut self, cx: &mut Context<'_>, patience: Option<Duration>) -> Poll<()> {
        match self.poll_send(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.broken_off = Some(error);
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
            }
            Poll::Pending if patience.is_some_and(|patience| self.is_overdue(cx, patience)) => {
                self.outgoing.give_up();
                self.refused = Some(io::ErrorKind::TimedOut.into());
            }
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
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
        (connection.started, connection.used_at, connection.timed_since) = (started, started, started);
        (connection.interim, connection.reader) = (0, None);
        connection.progress = body.progress();
        connection.answers.begin();
        connection.outgoing.begin(&head, body);
        connection.method.clone_from(&head.method);
        connection.asked = Some(head);
        Self { connection }
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
        let connection = &mut *self.connection;
        if let Poll::Ready(Err(error)) = connection.poll_send(cx) {
            return Poll::Ready(Err(Lost::of(UpstreamFault::RequestBody(error))));
        }
        match connection.poll_head(cx) {
            Poll::Ready(Ok(answer)) => Poll::Ready(Ok(Answered { answer, incoming: None })),
            Poll::Ready(Err(fault)) => {
                let is_whole = connection.progress.is_none() && matches!(fault, UpstreamFault::Reset(_));
                let again = connection.asked.take().filter(|_| is_whole);
                let again = again.map(|head| Request::from_parts(head, Upload::empty()));
                Poll::Ready(Err(Lost { again, ..Lost::of(fault) }))
            }
            Poll::Pending if connection.is_overdue(cx, patience) => Poll::Ready(Err(Lost::of(UpstreamFault::Timeout))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What it was sent on, once the answer's head is there.
    pub(in crate::upstream) fn into_connection(self) -> Box<Connection<B>> {
        self.connection
    }
}

impl From<CutOff> for UpstreamFault {
    fn from(how: CutOff) -> Self {
        Self::Reset(Some(how.into()))
    }
}
