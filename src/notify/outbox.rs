//! Messages that wait to be delivered: rows of the store, written in the same commit as the change that they tell of, and
//! taken away once they were delivered, or never can be. So a change is never made without its notice, nor told of if it was
//! not made; and a crash at any instant loses none. Between a delivery and the end of its row a crash makes a repetition,
//! which has the same number.
//!
//! What is bounded is what waits for each channel. A message beyond is refused, and with it the change: whoever could make a
//! notice be dropped, by asking for codes until the outbox is full, could change something unnoticed. Hence codes have a
//! bound of their own, and changes another.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use super::{
    Channel, Channels, Delivery, EnqueueFault, Loss, Message, NotifyObserver,
    channels::lane,
    check::check,
    message::Waiting,
    schedule::{Key, Outline, Schedule, Turn},
};
use crate::{
    clock::{Clock, Now, SettledClock},
    store::{Batch, Store, StoreFault, Table},
};

/// What is of use for no longer than this is a code, or something like it, that somebody waits for.
const PASSING: u64 = 60 * 60;
/// The longest that a row outlives its message, so that its loss is told by a gateway that was down meanwhile.
const LONGEST_AFTERLIFE: u64 = 24 * 60 * 60;
/// How often all rows are looked at: for those that no commit of this process announced.
const SWEEP: Duration = Duration::from_secs(60);
/// How soon again, if they could not be read.
const SWEEP_AGAIN: Duration = Duration::from_secs(5);
/// How many rows are read at once.
const PAGE: usize = 100;

/// Messages that wait to be delivered.
pub struct Outbox {
    store: Arc<Store>,
    channels: ArcSwap<Channels>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn NotifyObserver>,
    schedule: Mutex<Schedule>,
    wake: Notify,
    /// Why the rows could not be read, if they could not.
    unread: Mutex<Option<StoreFault>>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// The outbox of a store; nothing is delivered until [`run`](Self::run).
    pub fn new(
        store: Arc<Store>,
        channels: impl Into<Arc<Channels>>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn NotifyObserver>,
    ) -> Arc<Self> {
        let (channels, schedule) = (ArcSwap::new(channels.into()), Mutex::default());
        Arc::new(Self { store, channels, clock, observer, schedule, wake: Notify::new(), unread: Mutex::default() })
    }

    /// Delivers by these channels from now on, and tries at once what waits.
    pub fn replace(&self, channels: impl Into<Arc<Channels>>) {
        self.channels.store(channels.into());
        self.schedule().hurry(self.clock.instant());
        self.wake.notify_one();
    }

    /// Whether messages can be sent there.
    pub fn has(&self, channel: &Channel) -> bool {
        self.channels.load().has(channel)
    }

    /// Whether this message would be taken now.
    pub fn check(&self, message: &Message, now: Now) -> Result<(), EnqueueFault> {
        check(message, now.unix_secs())?;
        if !self.has(&message.channel) {
            return Err(EnqueueFault::Unconfigured);
        }
        if self.schedule().has_room(&outline(message, now.unix_secs())) { Ok(()) } else { Err(EnqueueFault::Full) }
    }

    /// Adds a message to a commit. Once that is done, [`poke`](Self::poke) says so; a commit that fails takes the message
    /// with it. A fault is a reason not to commit: the caller is told to try again later.
    pub fn enqueue(&self, batch: Batch, message: Message, now: Now) -> Result<Batch, EnqueueFault> {
        self.check(&message, now)?;
        let at = now.unix_secs();
        let outline = outline(&message, at);
        let afterlife = message.expires_at.saturating_sub(at).min(LONGEST_AFTERLIFE);
        let (key, until) = (Key::from(message.id.as_str()), message.expires_at.saturating_add(afterlife));
        let batch = batch.insert(Table::Outbox, &key, &Waiting { at, message }, Some(until));
        let mut schedule = self.schedule();
        // Looked at once more: between the check and here others may have taken the last place.
        if !schedule.has_room(&outline) {
            return Err(EnqueueFault::Full);
        }
        schedule.hope(key, outline, now.instant);
        drop(schedule);
        self.wake.notify_one();
        Ok(batch)
    }

    /// Says that a commit with messages is done: they are delivered without delay.
    pub fn poke(&self) {
        self.schedule().poke(self.clock.instant());
        self.wake.notify_one();
    }

    /// Delivers, for ever: to be spawned on the runtime of background work, once.
    pub async fn run(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        let mut settled = SettledClock::default();
        let mut sweep = self.clock.instant();
        loop {
            // A clock that leaps ahead, and is set right again, must not make messages pass their time.
            let real = self.clock.now();
            let now = Now { unix_ms: settled.unix_secs(real).saturating_mul(1000), ..real };
            if now.instant >= sweep {
                sweep = now.instant + self.sweep(now).await;
            }
            self.look(now).await;
            let turns = self.schedule().start(self.clock.instant());
            for turn in turns {
                under_way.spawn(Attempt { outbox: Arc::clone(&self), key: turn.key.clone(), now }.make(turn));
            }
            self.tell();
            let next = self.schedule().next().map_or(sweep, |next| next.min(sweep));
            tokio::select! {
                () = self.wake.notified() => {}
                // What became of it is in the schedule.
                Some(_) = under_way.join_next() => while under_way.try_join_next().is_some() {},
                () = sleep(next.saturating_duration_since(self.clock.instant())) => {}
            }
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let channels = self.channels.load();
        let changed = self.schedule().take_news();
        for (lane, count) in changed {
            self.observer.waiting(channels.label(&lane), count);
        }
    }

    /// Finds every row; when to do so again.
    async fn sweep(&self, now: Now) -> Duration {
        let mut after: Option<String> = None;
        loop {
            // One that cannot be read is never delivered; all others are.
            let page = self.store.readable::<Waiting>(Table::Outbox, "", after.as_deref(), PAGE, now).await;
            let page = match page {
                Ok(page) => page,
                Err(fault) => {
                    let mut last = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
                    // Said once, and not every few seconds.
                    if last.as_ref() != Some(&fault) {
                        tracing::error!(%fault, "the outbox cannot be read: what a restart left there is not delivered");
                        *last = Some(fault);
                    }
                    return SWEEP_AGAIN;
                }
            };
            let mut schedule = self.schedule();
            for row in &page.rows {
                schedule.found(row.key.as_str().into(), outline(&row.value.message, row.value.at), now.instant);
            }
            drop(schedule);
            match page.next {
                Some(next) => after = Some(next),
                None => {
                    *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return SWEEP;
                }
            }
        }
    }

    /// Looks for the rows of messages that were enqueued.
    async fn look(&self, now: Now) {
        let keys = self.schedule().to_look_for(now.instant);
        for key in keys {
            let row = self.store.get::<Waiting>(Table::Outbox, &key, now).await;
            let mut schedule = self.schedule();
            match row {
                Ok(Some(row)) => schedule.found(key, outline(&row.value.message, row.value.at), now.instant),
                // A store that cannot be read may have it: the sweep finds it later.
                Ok(None) | Err(_) => schedule.missing(&key, self.clock.instant()),
            }
        }
    }
}

fn outline(message: &Message, at: u64) -> Outline {
    let passing = message.expires_at.saturating_sub(at) <= PASSING;
    Outline { lane: lane(&message.channel), passing, expires_at: message.expires_at }
}

/// One attempt. However it ends, also by a panic, its message does not stay under way.
struct Attempt {
    outbox: Arc<Outbox>,
    key: Key,
    /// When it began.
    now: Now,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut chance = [0_u8; 4];
        // Without randomness all come at once, which is worse but no harm.
        let _ = aws_lc_rs::rand::fill(&mut chance);
        let now: Instant = self.outbox.clock.instant();
        // Finished ones are not under way any more, and nothing happens.
        self.outbox.schedule().later(&self.key, now, self.now.unix_secs(), u32::from_ne_bytes(chance));
        self.outbox.wake.notify_one();
    }
}

impl Attempt {
    async fn make(self, turn: Turn) {
        if !turn.settled {
            let row = self.outbox.store.get::<Waiting>(Table::Outbox, &self.key, self.now).await;
            match row {
                Ok(Some(row)) => {
                    if !self.deliver(&row.value).await {
                        return;
                    }
                }
                // Whoever wrote it took it back, or another gateway delivered it.
                Ok(None) => return self.outbox.schedule().finish(&self.key),
                Err(fault) => return self.report(&fault),
            }
            self.outbox.schedule().settle(&self.key);
        }
        let batch = Batch::new().forget(Table::Outbox, &self.key);
        match self.outbox.store.commit(batch, self.now).await {
            Ok(()) => self.outbox.schedule().finish(&self.key),
            Err(fault) => self.report(&fault),
        }
    }

    fn report(&self, fault: &StoreFault) {
        tracing::error!(id = &*self.key, %fault, "a row of the outbox cannot be used");
    }

    /// Delivers the message; whether its row is to go.
    async fn deliver(&self, waiting: &Waiting) -> bool {
        let message = &waiting.message;
        let lane = lane(&message.channel);
        let channels = self.outbox.channels.load_full();
        let label = channels.label(&lane);
        let (id, kind, observer) = (&*message.id, &*message.kind, &self.outbox.observer);
        if message.expires_at <= self.now.unix_secs() {
            tracing::warn!(channel = &*lane, id, kind, "a message has passed its time and is lost");
            observer.lost(label, Loss::Expired);
            return true;
        }
        let outcome = channels.deliver(waiting, self.outbox.clock.now()).await;
        let news = |failing| self.outbox.schedule().is_news(&lane, failing);
        match outcome {
            Delivery::Delivered => {
                if news(false) {
                    tracing::info!(channel = &*lane, "messages are delivered again");
                }
                tracing::debug!(channel = &*lane, id, kind, "delivered");
                observer.sent(label);
                true
            }
            Delivery::Later(why) => {
                if news(true) {
                    tracing::warn!(channel = &*lane, why, "messages cannot be delivered, and wait");
                }
                tracing::debug!(channel = &*lane, id, kind, why, "not delivered");
                observer.retried(label);
                false
            }
            Delivery::Refused(why) => {
                tracing::warn!(channel = &*lane, id, kind, why, "a message was refused and is lost");
                observer.lost(label, Loss::Refused);
                true
            }
        }
    }
}
