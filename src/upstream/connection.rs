//! One connection and one exchange on it. The timer of the response timeout belongs to the connection and is only ever
//! moved when it fires or would fire too late, where a timer per request would cost the timer wheel twice.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
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
    drive::{Driven, Driver},
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
    /// The request, if not a byte of it was written.
    pub(super) unsent: Option<Request<Upload<B>>>,
}

impl<B> Connection<B> {
    /// Takes charge of a new connection.
    pub(super) fn new((sender, driven): (Sender<B>, Driven), now: Instant) -> Self {
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

    /// Says good-bye, where there is a way to: closing is the rest.
    pub(super) fn close(self) {
        let Self { sender, mut driver, .. } = self;
        drop(sender);
        driver.ring();
        driver.drive();
    }
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request and waits for the head of its answer.
    ///
    /// The upstream may make us wait for `patience` at a time: for the head once the request is sent, or for room to
    /// send more of it. Waiting for the client's bytes does not count; the listener has limits for that.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Upload<B>>,
        started: Instant,
        patience: Duration,
    ) -> Result<Answered, Lost<B>> {
        let progress = request.body().progress();
        self.used_at = started;
        if self.timer.deadline() > started + patience {
            self.timer.as_mut().reset(started + patience);
        }
        let Self { sender, driver, timer, .. } = self;
        // The answer is handed over while the connection is driven and at no other time, so nobody need be woken for
        // it; nor may it be held back until this task has had a pause, as nothing would wake it afterwards.
        let mut answer = pin!(unconstrained(sender.try_send_request(request)));
        driver.ring();
        let outcome = poll_fn(|cx| {
            if driver.drive()
                && let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                return Poll::Ready(Some(answer));
            }
            while timer.as_mut().poll(&mut Context::from_waker(driver.waker())).is_ready() {
                let now = Instant::now();
                let stalled_since = progress.as_ref().map_or(started, |progress| progress.upstream_stalls_since(now));
                let deadline = stalled_since + patience;
                if deadline <= now {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            driver.listen(cx.waker());
            Poll::Pending
        })
        .await;
        match outcome {
            Some(Ok(answer)) => {
                // hyper lets go of a body when it has all of it.
                let is_early = progress.is_some_and(|progress| Rc::strong_count(&progress) > 1);
                Ok(Answered { answer, is_early })
            }
            Some(Err(lost)) => Err(told_apart(lost, progress.as_deref())),
            None => Err(Lost { fault: UpstreamFault::Timeout, unsent: None }),
        }
    }
}

fn told_apart<B>(mut lost: TrySendError<Request<Upload<B>>>, progress: Option<&Progress>) -> Lost<B> {
    let unsent = lost.take_message();
    let fault = match progress.and_then(Progress::take_error) {
        Some(error) => UpstreamFault::RequestBody(error),
        None => UpstreamFault::from_hyper(lost.into_error()),
    };
    Lost { fault, unsent }
}
