//! One deletion in hand: a lease, whatever is due now, in parallel where it may be, and the lease given back.
//!
//! ```text
//!   take the lease ─> work(record, terms, now) ─> ask, send, strike …  each: noted in the row before and after
//!                        ▲        │ nothing                  │
//!                        └────────┼──────────────────────────┘     meanwhile the lease is renewed; lost: all is dropped
//!                                 └─> give the lease back
//! ```

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    Carrier,
    call::{Answered, CallFault, Key},
    pauses::{chance, pause},
    values::Known as Named,
};
use crate::{
    config::Call,
    erasure::{
        fault::Fault,
        life::{self, Answer, Command, NotNow, Work},
        record::{Erasure, Known, Lease, Why},
        scrub,
    },
    store::StoreFault,
};

/// How long leases last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// In seconds: so long a crash delays what was in hand.
    pub(super) lease_secs: u64,
    /// How often it is renewed; a store that is slow for a moment must not make it run out.
    pub(super) renew: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { lease_secs: 15, renew: Duration::from_secs(4) }
    }
}

/// How many calls of one deletion are under way at once.
const MOST: usize = 4;
/// How soon it is tried again to note what was answered.
const AGAIN: Duration = Duration::from_millis(250);

/// Why a turn ended before its work was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Something that is no service's fault: it is taken up again after a pause.
    Later,
    /// The store could not be used.
    Store(StoreFault),
}

impl From<StoreFault> for Ended {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(fault) => Self::Store(fault),
            Fault::NotFound
            | Fault::NotNow(_)
            | Fault::Frozen
            | Fault::AnotherOpen
            | Fault::Absent
            | Fault::Lookup
            | Fault::Untold => Self::Later,
        }
    }
}

impl Carrier {
    /// Does what is due for a deletion.
    pub(super) async fn carry(self: &Arc<Self>, id: &str) -> Result<(), Ended> {
        if self.ledger.get(id, self.now()).await?.is_some_and(|known| self.waits_in_vain(&known)) {
            return Err(Ended::Later);
        }
        let known = match self.change(id, Command::TakeLease(self.lease())).await {
            Ok(known) => known,
            // Somebody else works on it, or it is at its end: what is known of it in memory was old.
            Err(Fault::NotNow(_) | Fault::NotFound) => return Ok(self.ledger.refresh(id, self.now()).await?),
            Err(fault) => return Err(fault.into()),
        };
        let done = self.work(known).await;
        match self.change(id, Command::EndLease(self.holder)).await {
            Ok(_) | Err(Fault::NotNow(_)) => done,
            // It runs out by itself.
            Err(fault) => done.and(Err(fault.into())),
        }
    }

    /// Whether all that is due is for services that answer nobody at present.
    fn waits_in_vain(&self, known: &Known) -> bool {
        let Known { erasure, terms, .. } = known;
        let is_jammed = |work: &Work| {
            let call = match work {
                Work::Probe(place) => terms.probes.get(*place).map(|probe| &probe.call),
                Work::Send(place) => terms.steps.get(*place).map(|step| &step.call),
                Work::Remind | Work::Begin | Work::OwnData | Work::Scrub => None,
            };
            call.is_some_and(|call| self.calls.is_jammed(&call.upstream))
        };
        let works = life::work(erasure, terms, self.now().unix_secs());
        !works.is_empty() && works.iter().all(is_jammed) && erasure.unplaced().next().is_none()
    }

    fn lease(&self) -> Lease {
        Lease { holder: self.holder, until: self.now().unix_secs().saturating_add(self.pace.lease_secs) }
    }

    async fn change(&self, id: &str, command: Command) -> Result<Known, Fault> {
        self.ledger.change(id, command, self.now()).await
    }

    async fn work(self: &Arc<Self>, mut known: Known) -> Result<(), Ended> {
        let id = known.erasure.id.clone();
        let mut renewal = interval(self.pace.renew);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        renewal.tick().await;
        // Dropped with this future, whose end is the end of them all.
        let mut tasks = JoinSet::new();
        let (mut in_hand, mut stuck) = (HashSet::new(), None);
        loop {
            if stuck.is_none() && known.erasure.unplaced().next().is_some() {
                // What is not in the audit chain is not followed by anything: without evidence nothing is deleted.
                match self.place_of(&known).await {
                    Ok(()) => known = self.reread(&id).await?,
                    Err(ended) => stuck = Some(ended),
                }
            }
            let now = self.now().unix_secs();
            let works = if stuck.is_none() && !self.rests() {
                life::work(&known.erasure, &known.terms, now)
            } else {
                Vec::new()
            };
            for work in works {
                if in_hand.len() < MOST && in_hand.insert(work) {
                    let (carrier, known) = (self.clone(), known.clone());
                    tasks.spawn(async move { (work, carrier.one(&known, work).await) });
                }
            }
            if tasks.is_empty() {
                return stuck.map_or(Ok(()), Err);
            }
            tokio::select! {
                Some(done) = tasks.join_next() => {
                    // A panic of one thing ends the turn: the next one begins with what is in the row.
                    let Ok((work, done)) = done else { return Err(Ended::Later) };
                    match done {
                        Ok(()) => drop(in_hand.remove(&work)),
                        // What else is under way is done to its end, but nothing new is begun.
                        Err(ended) => stuck = Some(ended),
                    }
                    known = self.reread(&id).await?;
                }
                _ = renewal.tick() => match self.change(&id, Command::RenewLease(self.lease())).await {
                    Ok(next) => known = next,
                    // There is time until it runs out.
                    Err(Fault::Store(_)) => {}
                    Err(fault) => return Err(fault.into()),
                }
            }
        }
    }

    async fn reread(&self, id: &str) -> Result<Known, Ended> {
        self.ledger.get(id, self.now()).await?.ok_or(Ended::Later)
    }

    /// Does one thing.
    async fn one(&self, known: &Known, work: Work) -> Result<(), Ended> {
        let (id, holder) = (&*known.erasure.id, self.holder);
        match work {
            Work::Remind => self.note(id, Command::Remind(holder)).await,
            Work::Begin => self.note(id, Command::Begin(holder)).await,
            Work::Probe(place) => self.probe(known, place).await,
            Work::Send(place) => self.send(known, place).await,
            Work::OwnData => self.forget(known).await,
            Work::Scrub => self.scrub(known).await,
        }
    }

    /// Notes something; what cannot be noted now was overtaken by somebody.
    pub(super) async fn note(&self, id: &str, command: Command) -> Result<(), Ended> {
        match self.change(id, command).await {
            Ok(_) | Err(Fault::NotNow(NotNow::Already)) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn probe(&self, known: &Known, place: usize) -> Result<(), Ended> {
        let Known { erasure, terms, .. } = known;
        let (Some(probe), Some(state)) = (terms.probes.get(place), erasure.probes.get(place)) else {
            return Err(Ended::Later);
        };
        let answered = self.ask(erasure, &probe.call).await?;
        let answer = self.answer(&probe.call, answered.as_ref(), state.attempts.saturating_add(1));
        let says = |statuses: &[u16]| matches!(answer, Answer::Status(status, _) if statuses.contains(&status));
        let outcome = if says(&probe.gone) || says(&probe.there) { "seen" } else { outcome(answer) };
        self.observer.step(&probe.call.upstream, outcome);
        self.note(&erasure.id, Command::Probed(self.holder, place, answer)).await
    }

    async fn send(&self, known: &Known, place: usize) -> Result<(), Ended> {
        let Known { erasure, terms, .. } = known;
        let Some(step) = terms.steps.get(place) else { return Err(Ended::Later) };
        let Some(turn) = self.calls.turn(&step.call.upstream).await else { return Err(Ended::Later) };
        // Durable before a byte of it is sent; and with the values that earlier steps have captured.
        let sent = self.change(&erasure.id, Command::Send(self.holder, place)).await?.erasure;
        let answered = match named(&sent) {
            Some(values) => {
                self.calls
                    .send(turn, &step.call, &values, Key { again: again(&sent, place), ..key(&sent, &step.call) })
                    .await
            }
            None => return Err(Ended::Later),
        };
        let attempts = sent.steps.get(place).map_or(1, |step| step.attempts);
        let is_done = |answered: &Answered| step.done.contains(&answered.status);
        let answer = match &answered {
            // It is done, but what comes after it cannot be.
            Ok(answered) if is_done(answered) && answered.lacks_values => Answer::Unsendable(Why::NoValue),
            other => self.answer(&step.call, other.as_ref(), attempts),
        };
        let done = answered.as_ref().is_ok_and(is_done);
        self.observer.step(&step.call.upstream, if done { "done" } else { outcome(answer) });
        if let Ok(Answered { captured, .. }) = answered
            && done
            && !captured.is_empty()
        {
            self.note_surely(&erasure.id, Command::Captured(self.holder, place, captured)).await?;
        }
        self.note_surely(&erasure.id, Command::Answered(self.holder, place, answer)).await
    }

    /// Notes what a service has done, for as long as the lease may last: what is not noted is done once more.
    async fn note_surely(&self, id: &str, command: Command) -> Result<(), Ended> {
        let until = Instant::now() + Duration::from_secs(self.pace.lease_secs);
        loop {
            match self.note(id, command.clone()).await {
                Err(Ended::Store(_)) if Instant::now() < until => sleep(AGAIN).await,
                done => return done,
            }
        }
    }

    /// Sends a request that changes nothing.
    async fn ask(&self, erasure: &Erasure, call: &Call) -> Result<Result<Answered, CallFault>, Ended> {
        let turn = self.calls.turn(&call.upstream).await.ok_or(Ended::Later)?;
        let values = named(erasure).ok_or(Ended::Later)?;
        Ok(self.calls.send(turn, call, &values, key(erasure, call)).await)
    }

    /// What an answer, or none, is to the machine.
    fn answer(&self, call: &Call, answered: Result<&Answered, &CallFault>, attempts: u32) -> Answer {
        let again = |wish| {
            let pause = pause(attempts, wish, chance());
            self.now().unix_secs().saturating_add(pause.as_secs_f64().ceil() as u64)
        };
        match answered {
            Ok(answered) => Answer::Status(answered.status, again(answered.retry_after)),
            Err(CallFault::NoUpstream) => Answer::Unsendable(Why::NoUpstream),
            Err(fault) if fault.is_lasting() => Answer::Unsendable(Why::Unsendable),
            Err(fault) => {
                let (upstream, call) = (&*call.upstream, &*call.name);
                tracing::info!(upstream, call, %fault, attempts, "a call of a deletion had no answer, and is made again");
                Answer::None(again(None))
            }
        }
    }

    /// Takes the gateway's own data of the person away.
    async fn forget(&self, known: &Known) -> Result<(), Ended> {
        let erasure = &known.erasure;
        // Those of their tokens, as far as they are known: what another claim says may be somebody else's subject.
        let subjects = scrub::struck(erasure).map(|struck| struck.subjects).unwrap_or_default();
        if subjects.is_empty() {
            return self.note(&erasure.id, Command::OwnDataUnnamed(self.holder)).await;
        }
        for subject in subjects {
            self.own_data.forget(&erasure.whose.issuer_url, &subject, self.now()).await?;
        }
        self.note(&erasure.id, Command::OwnDataGone(self.holder)).await
    }
}

/// What templates may name of a deletion; nothing once the person was taken out of it.
fn named(erasure: &Erasure) -> Option<Named<'_>> {
    let personal = erasure.personal.as_ref()?;
    Some(Named { deletion: &erasure.id, subject: &personal.subject, values: &personal.values })
}

fn key<'a>(erasure: &'a Erasure, call: &'a Call) -> Key<'a> {
    Key { deletion: &erasure.id, name: &call.name, again: 0 }
}

/// How often a person had a step done again.
fn again(erasure: &Erasure, place: usize) -> u32 {
    erasure.steps.get(place).map_or(0, |step| step.again)
}

fn outcome(answer: Answer) -> &'static str {
    match answer {
        Answer::Status(status, _) if life::may_mend(status) => "retried",
        Answer::None(_) => "retried",
        Answer::Status(..) | Answer::Unsendable(_) => "refused",
    }
}
