//! One connection and one exchange on it. The timer of the response timeout belongs to the connection and is only ever
//! moved when it fires or would fire too late, where a timer per request would cost the timer wheel twice.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    drive::{Bare, Driven, Driver},
    fault::{BoxError, UpstreamFault},
    upload::{Progress, Upload},
};

/// What hyper sends requests through.
pub(super) type Sender<B> = http1::SendRequest<Upload<B>>;

/// A connection to a target.
pub(super) struct Connection<B> {
    sender: Sender<B>,
    driver: Driver,
    timer: Pin<Box<Sleep>>,
    /// When its last request began: the clock is read once a request, and counting idle time from the beginning rather
    /// than the end errs towards a fresh connection.
    pub(super) used_at: Instant,
    /// Whether it served a request before.
    pub(super) reused: bool,
}

/// What hyper gives for a request. Boxed: it has room for the request, in case it must be given back, and would make the
/// future of every request larger by that.
type Sending<B> = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload<B>>>>>>>;

/// A request on its way, and the connection that it is sent on.
pub(super) struct Exchange<B> {
    pub(super) connection: Box<Connection<B>>,
    sending: Sending<B>,
    progress: Option<Rc<Progress>>,
    started: Instant,
}

/// The head of an answer, and how the request stands.
pub(super) struct Answered {
    pub(super) answer: Response<Incoming>,
    /// Whether there is still something to be sent of the request.
    pub(super) is_early: bool,
}

/// An exchange that brought no answer.
#[derive(Debug)]
pub(super) struct Lost<B> {
    pub(super) fault: UpstreamFault,
    /// The request, if the target certainly did nothing with it.
    pub(super) unsent: Option<Request<Upload<B>>>,
    /// Whether that is so because the connection takes no more requests, which is nobody's trouble.
    pub(super) is_turned_away: bool,
}

impl<B> Connection<B> {
    /// Takes charge of a new connection.
    pub(super) fn new(sender: Sender<B>, driven: Driven, now: Instant) -> Self {
        let timer = Box::pin(sleep_until(now));
        Self { sender, driver: Driver::new(driven), timer, used_at: now, reused: false }
    }

    /// Whether it can take a request at once. If something was heard of it since it was last asked, that is seen to.
    pub(super) fn is_ready(&mut self) -> bool {
        self.driver.drive();
        !self.driver.is_over() && self.sender.is_ready()
    }

    /// Whether it is of no more use; like [`Connection::is_ready`].
    pub(super) fn is_closed(&mut self) -> bool {
        self.driver.drive();
        self.driver.is_over()
    }

    /// Whether the upstream has made us wait for too long; if not, this connection is driven when that may be.
    fn is_overdue(&mut self, progress: Option<&Progress>, started: Instant, patience: Duration) -> bool {
        if self.timer.deadline() > started + patience {
            self.timer.as_mut().reset(started + patience);
        }
        while self.timer.as_mut().poll(&mut Context::from_waker(self.driver.waker())).is_ready() {
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

    /// Takes what has been received, which hyper hears, as there is room for more. If it has read the answer to its end
    /// already, that is no news for it.
    pub(super) fn taking<T>(&self, take: impl FnOnce() -> T) -> T {
        if self.sender.is_ready() { self.driver.unheard(take) } else { take() }
    }

    /// Waits until it can take another request, or no more.
    pub(super) fn poll_done(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.is_ready() || self.driver.is_over() {
            return Poll::Ready(());
        }
        self.driver.listen(cx.waker());
        Poll::Pending
    }

    /// Lets it do what it can. `false` if there was nothing to do; then this task is woken when there is.
    pub(super) fn drive_or_listen(&mut self, cx: &Context<'_>) -> bool {
        let driven = self.driver.drive();
        if !driven {
            self.driver.listen(cx.waker());
        }
        driven
    }

    /// Waits until HTTP is done with it, and gives what lies beneath; `None` if it broke.
    pub(super) fn poll_bare(&mut self, cx: &Context<'_>) -> Poll<Option<Bare>> {
        while !self.driver.is_over() {
            if !self.drive_or_listen(cx) {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.driver.take_bare())
    }

    /// Says good-bye, where there is a way to: closing is the rest.
    pub(super) fn close(self) {
        let Self { sender, mut driver, .. } = self;
        drop(sender);
        driver.ring();
        driver.drive();
    }
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Gives a request to a connection.
    pub(super) fn begin(mut connection: Box<Connection<B>>, request: Request<Upload<B>>, started: Instant) -> Self {
        let progress = request.body().progress();
        connection.used_at = started;
        // The answer is handed over while the connection is driven and at no other time, so nobody need be woken for
        // it; nor may it be held back until this task has had a pause, as nothing would wake it afterwards.
        let sending = Box::pin(unconstrained(connection.sender.try_send_request(request)));
        connection.driver.ring();
        Self { connection, sending, progress, started }
    }

    /// Sends the request and waits for the head of its answer.
    ///
    /// The upstream may make us wait for `patience` at a time: for the head once the request is sent, or for room to
    /// send more of it. Waiting for the client's bytes does not count; the listener has limits for that.
    pub(super) fn poll_answer(&mut self, cx: &Context<'_>, patience: Duration) -> Poll<Result<Answered, Lost<B>>> {
        let Self { connection, sending, progress, started } = self;
        if connection.driver.drive()
            && let Poll::Ready(answer) = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            return Poll::Ready(match answer {
                // hyper lets go of a body when it has all of it.
                Ok(answer) => {
                    Ok(Answered { answer, is_early: progress.as_ref().is_some_and(|it| Rc::strong_count(it) > 1) })
                }
                Err(lost) => Err(told_apart(lost, progress.as_deref())),
            });
        }
        if connection.is_overdue(progress.as_deref(), *started, patience) {
            return Poll::Ready(Err(Lost { fault: UpstreamFault::Timeout, unsent: None, is_turned_away: false }));
        }
        connection.driver.listen(cx.waker());
        Poll::Pending
    }
}

fn told_apart<B>(mut lost: TrySendError<Request<Upload<B>>>, progress: Option<&Progress>) -> Lost<B> {
    let unsent = lost.take_message();
    let fault = match progress.and_then(Progress::take_error) {
        Some(error) => UpstreamFault::RequestBody(error),
        None => UpstreamFault::from_hyper(lost.into_error()),
    };
    Lost { fault, unsent, is_turned_away: false }
}
