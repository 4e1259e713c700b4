//! One connection and one exchange on it. The timer of the response timeout belongs to the connection and is only ever
//! moved further away, which costs an atomic store, where a timer per request would cost the timer wheel twice.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    connect::Sender,
    fault::{BoxError, UpstreamFault},
    upload::{Progress, Upload},
};

/// A connection to a target.
#[derive(Debug)]
pub(super) struct Connection<B> {
    sender: Sender<B>,
    timer: Pin<Box<Sleep>>,
    /// When its last request began: the clock is read once a request, and counting idle time from the beginning rather
    /// than the end errs towards a fresh connection.
    pub(super) used_at: Instant,
    /// Whether it served a request before.
    pub(super) reused: bool,
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
    pub(super) fn new(sender: Sender<B>, now: Instant) -> Self {
        Self { sender, timer: Box::pin(sleep_until(now)), used_at: now, reused: false }
    }

    /// Whether it can take a request at once.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it is of no more use.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
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
    ) -> Result<Response<Incoming>, Lost<B>> {
        let progress = request.body().progress();
        self.used_at = started;
        self.timer.as_mut().reset(started + patience);
        let timer = &mut self.timer;
        let mut answer = pin!(self.sender.try_send_request(request));
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                let stalled_since = progress.as_ref().map_or(started, |progress| progress.upstream_stalls_since(now));
                let deadline = stalled_since + patience;
                if deadline <= now {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await;
        match outcome {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(mut lost)) => {
                let unsent = lost.take_message();
                Err(Lost { fault: told_apart(lost.into_error(), progress.as_deref()), unsent })
            }
            None => Err(Lost { fault: UpstreamFault::Timeout, unsent: None }),
        }
    }
}

fn told_apart(error: hyper::Error, progress: Option<&Progress>) -> UpstreamFault {
    match progress.and_then(Progress::take_error) {
        Some(error) => UpstreamFault::RequestBody(error),
        None => UpstreamFault::from_hyper(error),
    }
}
