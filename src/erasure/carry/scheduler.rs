//! When each deletion goes on: those that are due are taken up, so many at once, and the rest of the time nothing is done. A fault of
//! one, a panic even, is no reason for the others to wait; one of the store is a reason for all.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::sleep,
};

use super::{
    Carrier,
    pauses::{chance, pause},
    turn::Ended,
};
use crate::{
    clock::Now,
    erasure::{ledger::Ledger, settled::KEEP},
    store::StoreFault,
};

/// How many deletions are in hand at once. Most wait for a service, of which each has few calls at a time.
const MOST: usize = 128;
/// How many events are written to the audit chain in one go, before it is looked again what is due.
const MOST_UNPLACED: usize = 64;
/// How often all rows are looked at: for what another process did, and for what became of a commit whose answer was lost.
const RESCAN: Duration = Duration::from_secs(10 * 60);
/// The longest sleep: the clock may be set right, and the settled one then believes it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The shortest: the time of what is due is in whole seconds, and a round that found nothing to do is not made again at once.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);
/// The longest pause after a fault that is not a service's.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often in a row each failed, for no fault of a service; each failure leaves it alone for longer.
#[derive(Debug, Default)]
struct Penalties {
    failures: HashMap<Box<str>, u32>,
}

impl Penalties {
    /// One more failure: until when it is left alone.
    fn add(&mut self, id: &str, now: Instant) -> Instant {
        let failures = self.failures.entry(id.into()).or_default();
        *failures = failures.saturating_add(1);
        now + pause(*failures, None, chance()).min(LONGEST_PAUSE)
    }

    fn lift(&mut self, id: &str) {
        self.failures.remove(id);
    }

    /// Forgets those for which nothing is left to do: nobody takes them up again, and lifts it.
    fn forget_others(&mut self, is_open: impl Fn(&str) -> bool) {
        self.failures.retain(|id, _| is_open(id));
    }
}

/// What is in hand.
#[derive(Default)]
struct Hands {
    tasks: JoinSet<Result<(), Ended>>,
    ids: HashMap<Id, Box<str>>,
    penalties: Penalties,
    /// How often in a row the store could not be used, and until when nothing is begun.
    store: (u32, Option<Instant>),
}

impl Carrier {
    /// Carries out what is due, until it is to rest: to be spawned on the runtime of background work, once.
    pub(in crate::erasure) async fn run(self: Arc<Self>) {
        let mut hands = Hands::default();
        let mut rescan = self.now().instant + RESCAN;
        let mut keep_clock = self.now().instant;
        loop {
            let now = self.now();
            let in_doubt = hands.may_use_store(now.instant) && self.ledger.kept.in_doubt.swap(false, Ordering::AcqRel);
            if now.instant >= rescan || in_doubt {
                let done = self.ledger.rescan(now).await;
                hands.heed(done.as_ref().err(), now.instant);
                hands.penalties.forget_others(|id| self.ledger.is_open(id));
                rescan = now.instant + if done.is_ok() { RESCAN } else { LONGEST_PAUSE };
            }
            // One in doubt is not kept: it would be believed after the next start.
            let keeps = now.instant >= keep_clock && self.ledger.is_any_open() && hands.may_use_store(now.instant);
            if keeps && !self.ledger.kept.settled.is_in_doubt(now) {
                let done = self.ledger.keep_clock(now).await;
                hands.heed(done.as_ref().err(), now.instant);
                keep_clock = now.instant + KEEP;
            }
            if self.rests() {
                while let Some(done) = hands.tasks.join_next_with_id().await {
                    hands.end(&self.ledger, done, self.now().instant);
                }
                return;
            }
            hands.begin(&self, now);
            let wait = hands.wait(&self, now).min(rescan.saturating_duration_since(now.instant));
            tokio::select! {
                () = self.ledger.kept.wake.notified() => {}
                Some(done) = hands.tasks.join_next_with_id() => hands.end(&self.ledger, done, self.now().instant),
                () = sleep(wait.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)) => {}
            }
        }
    }

    /// The time by the settled clock: what it carries out cannot be taken back.
    pub(super) fn now(&self) -> Now {
        self.ledger.kept.settled.now(self.clock.now())
    }
}

impl Hands {
    fn may_use_store(&self, now: Instant) -> bool {
        self.store.1.is_none_or(|until| until <= now)
    }

    /// Takes up what is due.
    fn begin(&mut self, carrier: &Arc<Carrier>, now: Now) {
        if !self.may_use_store(now.instant) {
            return;
        }
        let room = MOST.saturating_sub(self.tasks.len());
        // Those that are in hand may stand before the others; those that are left alone do not.
        let beside = self.tasks.len();
        carrier.ledger.wake(now.instant);
        let due = match carrier.ledger.kept.settled.is_in_doubt(now) {
            true => Vec::new(),
            false => carrier.ledger.due(now.unix_secs(), room.saturating_add(beside)),
        };
        let unplaced = carrier.ledger.unplaced(MOST_UNPLACED.saturating_add(beside));
        let is_free = |hands: &Self, id: &str| !hands.ids.values().any(|taken| &**taken == id);
        for id in due {
            if self.tasks.len() < MOST && is_free(self, &id) {
                let (carrier, number) = (carrier.clone(), id.clone());
                self.ids.insert(self.tasks.spawn(async move { carrier.carry(&number).await }).id(), id);
            }
        }
        for id in unplaced {
            if self.tasks.len() < MOST + MOST_UNPLACED && is_free(self, &id) {
                let (carrier, number) = (carrier.clone(), id.clone());
                self.ids.insert(self.tasks.spawn(async move { carrier.place(&number).await }).id(), id);
            }
        }
    }

    /// How long nothing is to be done if nothing happens.
    fn wait(&self, carrier: &Carrier, now: Now) -> Duration {
        if let Some(until) = self.store.1.filter(|until| *until > now.instant) {
            return until.saturating_duration_since(now.instant);
        }
        let next = carrier
            .ledger
            .due_after(now.unix_secs())
            .map(|at| Duration::from_millis(at.saturating_mul(1000).saturating_sub(now.unix_ms)));
        let lifted = carrier.ledger.wake(now.instant).map(|until| until.saturating_duration_since(now.instant));
        next.into_iter().chain(lifted).min().unwrap_or(LONGEST_SLEEP)
    }

    /// Notes how a turn ended.
    fn end(&mut self, ledger: &Ledger, done: Result<(Id, Result<(), Ended>), JoinError>, now: Instant) {
        let task = match &done {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some(id) = self.ids.remove(&task) else { return };
        match done {
            Ok((_, Ok(()))) => {
                self.penalties.lift(&id);
                self.heed(None, now);
            }
            Ok((_, Err(Ended::Later))) => ledger.rest(&id, self.penalties.add(&id, now)),
            Ok((_, Err(Ended::Store(fault)))) => {
                self.heed(Some(&fault), now);
                ledger.rest(&id, self.penalties.add(&id, now));
            }
            Err(error) => {
                tracing::error!(
                    deletion = &*id,
                    panicked = error.is_panic(),
                    "a turn of a deletion broke off: it is taken up again"
                );
                ledger.rest(&id, self.penalties.add(&id, now));
            }
        }
    }

    /// Leaves a store alone that cannot be used.
    fn heed(&mut self, fault: Option<&StoreFault>, now: Instant) {
        match fault {
            // A row that cannot be read says nothing of the others.
            None | Some(StoreFault::Unreadable(_) | StoreFault::Conflict) => {
                if self.store.0 > 0 && fault.is_none() {
                    tracing::info!("deletions go on: the store can be used again");
                    self.store = (0, None);
                }
            }
            Some(fault @ (StoreFault::Unavailable(_) | StoreFault::Busy)) => {
                if self.store.0 == 0 {
                    tracing::error!(%fault, "deletions wait: the store cannot be used");
                }
                self.store.0 = self.store.0.saturating_add(1);
                self.store.1 = Some(now + pause(self.store.0, None, chance()).min(LONGEST_PAUSE));
            }
        }
    }
}
