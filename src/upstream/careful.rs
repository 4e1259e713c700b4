//! A request that more is to be done for than to send it to the next target on an idle connection: it has an end, waits for its place,
//! may be sent again, or a target must be chosen with care. Boxed as a whole, so that a plain request's future has no room for it.
//!
//! ```text
//! a place (gate) ─ a target (choose) ─ exchange ─┬─> answer ─ until its end: place, count of requests, time (dues)
//!                        ^                       │
//!                        └── again ──────────────┘  stale: never reached it, or harmless and the connection had served before
//!                                                   reset, status: harmless, asked for, attempts left, budget left
//! ```

use std::{future::poll_fn, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    choose::{Pick, Tried},
    connect::Purpose,
    dues::{Dues, UnderWay},
    fault::{BoxError, UpstreamFault},
    gate::{Entry, Place},
    line::Lost,
    observer::Repetition,
    pools::{Answer, From, ServicePool, TURNED_AWAY},
    replay::Replay,
    sending::Sending,
    service::LONGEST_TIMEOUT,
    target::Target,
    upload::Upload,
};
use crate::config::{Balance, Balancing};

/// How often a connection that is found closed is replaced: an idle one by another, and that once more.
const STALE: u8 = 2;

/// An answer, or why there is none.
type Outcome<B> = Result<Answer<B>, UpstreamFault>;

/// A request on its way, with all that is asked for.
pub(super) type Journey<B> = Pin<Box<dyn Future<Output = Outcome<B>>>>;

/// What may still be done for a request.
struct Left {
    stale: u8,
    turned_away: u8,
    repetitions: u8,
}

impl<B> ServicePool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request with all that is asked for.
    pub(super) fn carefully(self: &Rc<Self>, request: Request<Upload<B>>, sending: &Sending) -> Journey<B> {
        let (pool, sending) = (Rc::clone(self), *sending);
        Box::pin(async move {
            let ends = pool.ends(&sending);
            let attempts = pool.attempts(request, &sending, ends);
            match ends {
                None => attempts.await,
                Some(ends) => timeout_at(ends, attempts).await.unwrap_or(Err(UpstreamFault::Deadline)),
            }
        })
    }

    /// When its answer must be over.
    fn ends(&self, sending: &Sending) -> Option<Instant> {
        let time = sending.request.or(self.service.config().request_timeout);
        let by_rule = time.map(|time| Instant::from_std(sending.now.instant) + time.min(LONGEST_TIMEOUT));
        let by_client = sending.deadline.map(Instant::from_std);
        by_rule.into_iter().chain(by_client).min()
    }

    async fn attempts(
        self: &Rc<Self>,
        mut request: Request<Upload<B>>,
        sending: &Sending,
        ends: Option<Instant>,
    ) -> Outcome<B> {
        let rules = &self.service.config().balancing;
        let mut now = Instant::from_std(sending.now.instant);
        let mut place = self.enter(sending, &mut now).await?;
        if let Some(share) = rules.retries.budget {
            self.service.shared().retry_budget.earn(share);
        }
        let patience = sending.patience.map_or(self.service.response_timeout(), |time| time.min(LONGEST_TIMEOUT));
        let view = self.view();
        let aims = (sending.hash, Purpose::of(sending));
        let mut tried = Tried::default();
        let mut left = Left { stale: STALE, turned_away: TURNED_AWAY, repetitions: rules.retries.attempts };
        let mut from = From::PoolOrNetwork;
        loop {
            let (chosen, pick, _probing) = self.choose(&view, (&mut tried, from), aims, now).await?;
            let (target, reused) = (Arc::clone(&chosen.pool.target), chosen.line.is_reused());
            let under_way = matches!(rules.balance, Balance::LeastRequests).then(|| UnderWay::to(&target));
            let may_repeat = !sending.once && (reused || asks_for_more(rules));
            let replay = if may_repeat { Replay::of(&request) } else { None };
            let started = chosen.started(now);
            let mut sent = self.begin_with(chosen, request, (started, sending.once));
            let answered = poll_fn(|cx| sent.turn.poll_answer(cx, patience)).await;
            let replay = replay.and_then(Replay::request);
            match answered {
                Ok(answered) => {
                    let status = answered.answer.status().as_u16();
                    self.judge(&target, pick, !matches!(status, 502..=504));
                    let replay = replay.filter(|_| rules.retries.statuses.contains(&status));
                    let Some(again) = replay.filter(|_| self.may_repeat(&mut left, Repetition::Status)) else {
                        let dues = Dues::new(place.take(), under_way, ends);
                        return self.accept(
                            answered,
                            sent.turn.into_held(),
                            sent.pool,
                            (dues, sending.upgrade),
                            patience,
                        );
                    };
                    // Read if it is here as a whole, so that its connection is kept.
                    let answer = self.accept(answered, sent.turn.into_held(), sent.pool, (None, false), patience);
                    drop(answer.map(|mut answer| answer.body_mut().take_whole()));
                    (request, from, now) = (again, From::PoolOrNetwork, Instant::now());
                    tried.disappointing.push(pick.at);
                }
                Err(Lost { fault: fault @ UpstreamFault::Reset(_), unsent, is_turned_away, again: _ }) => {
                    let is_certain = unsent.is_some();
                    let Some(again) = unsent.or(replay) else {
                        self.judge_loss(&target, pick, reused);
                        return Err(fault);
                    };
                    let is_turned_away = is_turned_away && left.turned_away > 0;
                    if is_turned_away || (is_certain || reused) && left.stale > 0 {
                        match is_turned_away {
                            true => left.turned_away -= 1,
                            false => left.stale -= 1,
                        }
                        self.observer.retried(Repetition::Stale);
                        // Where one idle connection was closed the others probably are, too.
                        (request, from, now) = (again, From::Network, Instant::now());
                        continue;
                    }
                    self.judge_loss(&target, pick, reused);
                    if !(rules.retries.reset && self.may_repeat(&mut left, Repetition::Reset)) {
                        return Err(fault);
                    }
                    (request, from, now) = (again, From::PoolOrNetwork, Instant::now());
                    tried.disappointing.push(pick.at);
                }
                Err(Lost { fault, .. }) => {
                    if matches!(fault, UpstreamFault::Timeout) {
                        self.judge(&target, pick, false);
                    }
                    return Err(fault);
                }
            }
        }
    }

    /// Takes a place among those under way, where there is a bound. It is another moment if that had to be waited for.
    async fn enter(&self, sending: &Sending, now: &mut Instant) -> Result<Option<Place>, UpstreamFault> {
        let Some(bound) = &self.service.config().balancing.concurrency else { return Ok(None) };
        match self.service.shared().gate.enter(sending.client) {
            Entry::Entered(place) => Ok(Some(place)),
            Entry::Waits(turn) => {
                let place = timeout(bound.queue_timeout.min(LONGEST_TIMEOUT), turn).await;
                *now = Instant::now();
                place.map(Some).map_err(|_| UpstreamFault::Busy)
            }
            Entry::Full => Err(UpstreamFault::Busy),
        }
    }

    /// Notes that a connection broke: one that had served before may have been closed for being idle.
    fn judge_loss(&self, target: &Target, pick: Pick, reused: bool) {
        if !reused {
            self.judge(target, pick, false);
        }
    }

    /// Notes what became of a request, where that says something of its target; the clock is read where it does.
    fn judge(&self, target: &Target, pick: Pick, is_good: bool) {
        let rules = &self.service.config().balancing.ejection;
        if !rules.answers {
            return;
        }
        let now = std::time::Instant::now();
        if is_good {
            if target.health.succeeded(pick.admission, now) {
                self.observer.readmitted(target.authority());
            }
        } else if target.health.failed(pick.admission, rules, now) {
            self.observer.ejected(target.authority());
        }
    }

    /// Whether a request may be repeated once more; if so, it counts.
    fn may_repeat(&self, left: &mut Left, why: Repetition) -> bool {
        let Some(fewer) = left.repetitions.checked_sub(1) else { return false };
        let is_bounded = self.service.config().balancing.retries.budget.is_some();
        let is_paid = !is_bounded || self.service.shared().retry_budget.take(std::time::Instant::now());
        self.observer.retried(if is_paid { why } else { Repetition::Denied });
        left.repetitions = fewer;
        is_paid
    }
}

/// Whether more is repeated than what was sent on a connection that was found closed.
fn asks_for_more(rules: &Balancing) -> bool {
    rules.retries.attempts > 0 && (rules.retries.reset || !rules.retries.statuses.is_empty())
}

/// Whether a service needs none of this for a request of which there is nothing to be said.
pub(super) fn is_plain(request_timeout: Option<Duration>, rules: &Balancing) -> bool {
    let Balancing { balance: _, health: _, ejection, slow_start: _, concurrency, retries } = rules;
    // How a target is chosen matters only where there are several.
    request_timeout.is_none()
        && !ejection.answers
        && concurrency.is_none()
        && retries.budget.is_none()
        && !asks_for_more(rules)
}
