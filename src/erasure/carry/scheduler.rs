//! When each deletion goes on: those that are due are taken up, so many at once, and the rest of the time nothing is done. A fault of
//! one, a panic even, is no reason for the others to wait; one of the store is a reason for all.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    task::{Id, JoinSet},
    time::sleep,
};

use super::{
    Carrier,
    pauses::{chance, pause},
    turn::Ended,
};
use crate::{clock::Now, store::StoreFault};

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

/// What is left alone for a while.
#[derive(Debug, Default)]
struct Penalties {
    by_id: HashMap<Box<str>, (u32, Instant)>,
}

impl Penalties {
    /// One more failure.
    fn add(&mut self, id: Box<str>, now: Instant) {
        let (failures, until) = self.by_id.entry(id).or_insert((0, now));
        *failures = failures.saturating_add(1);
        *until = now + pause(*failures, None, chance()).min(LONGEST_PAUSE);
    }

    fn lift(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    fn is_on(&self, id: &str, now: Instant) -> bool {
        self.by_id.get(id).is_some_and(|(_, until)| *until > now)
    }

    fn next(&self, now: Instant) -> Option<Duration> {
        let lefts = self.by_id.values().map(|(_, until)| until.saturating_duration_since(now));
        lefts.filter(|left| !left.is_zero()).min()
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
    /// Carries out what is due, for ever: to be spawned on the runtime of background work, once.
    pub(in crate::erasure) async fn run(self: Arc<Self>) {
        let mut hands = Hands::default();
        let mut rescan = self.now().instant + RESCAN;
        loop {
            let now = self.now();
            let in_doubt = hands.may_use_store(now.instant) && self.ledger.kept.in_doubt.swap(false, Ordering::AcqRel);
            if now.instant >= rescan || in_doubt {
                let done = self.ledger.rescan(now).await;
                hands.heed(done.as_ref().err(), now.instant);
                rescan = now.instant + if done.is_ok() { RESCAN } else { LONGEST_PAUSE };
            }
            hands.begin(&self, now);
            let wait = hands.wait(&self, now).min(rescan.saturating_duration_since(now.instant));
            tokio::select! {
                () = self.ledger.kept.wake.notified() => {}
                Some(done) = hands.tasks.join_next_with_id() => hands.end(done, self.now().instant),
                () = sleep(wait.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)) => {}
            }
        }
    }

    /// The time by the settled clock: what it carries out cannot be taken back.
    pub(super) fn now(&self) -> Now {
        let real = self.clock.now();
        let secs = self.settled.lock().unwrap_or_else(PoisonError::into_inner).unix_secs(real);
        // The part of a second is the real clock's, where both agree on the second.
        let ms = if secs == real.unix_secs() { real.unix_ms } else { secs.saturating_mul(1000) };
        Now { unix_ms: ms, ..real }
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
        // Those that are in hand or left alone may stand before the others.
        let beside = self.tasks.len().saturating_add(self.penalties.by_id.len());
        let due = carrier.ledger.due(now.unix_secs(), room.saturating_add(beside));
        let unplaced = carrier.ledger.unplaced(MOST_UNPLACED.saturating_add(beside));
        let is_free = |hands: &Self, id: &str| {
            !hands.ids.values().any(|taken| &**taken == id) && !hands.penalties.is_on(id, now.instant)
        };
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
        let lifted = self.penalties.next(now.instant);
        next.into_iter().chain(lifted).min().unwrap_or(LONGEST_SLEEP)
    }

    /// Notes how a turn ended.
    fn end(&mut self, done: Result<(Id, Result<(), Ended>), tokio::task::JoinError>, now: Instant) {
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
            Ok((_, Err(Ended::Later))) => self.penalties.add(id, now),
            Ok((_, Err(Ended::Store(fault)))) => {
                self.heed(Some(&fault), now);
                self.penalties.add(id, now);
            }
            Err(error) => {
                tracing::error!(
                    deletion = &*id,
                    panicked = error.is_panic(),
                    "a turn of a deletion broke off: it is taken up again"
                );
                self.penalties.add(id, now);
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
