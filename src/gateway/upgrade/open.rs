//! The streams that are open on a worker, and what ends them although both sides would go on: nothing moves, the credential expires or
//! is revoked, the account is held or erased, the worker is about to stop. One look at all of them, twice a second, and only while
//! there are any: a stream costs no timer.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use crate::{
    clock::Now,
    config::Upgrades,
    erasure::{Erasures, Standing},
    policy::Principal,
    runtime::{Live, OnWorker, Services, Snapshot},
};

/// How often all streams are looked at: what is revoked ends within this time, and whoever waits for it does not notice half a second.
const PERIOD: Duration = Duration::from_millis(500);

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// The client closed first.
    ClientClosed,
    /// The service closed first.
    UpstreamClosed,
    /// The client's connection broke.
    ClientGone,
    /// The service's connection broke.
    UpstreamGone,
    /// The client took nothing of what was ready for it.
    ClientStalled,
    /// Nothing moved for as long as the route allows.
    Idle,
    /// The credential expired.
    Expired,
    /// The credential was revoked, or its account is held or erased.
    Revoked,
    /// The gateway stops.
    Drained,
}

impl End {
    /// The name in metrics and records.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::UpstreamClosed => "upstream_closed",
            Self::ClientGone => "client_gone",
            Self::UpstreamGone => "upstream_gone",
            Self::ClientStalled => "client_stalled",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
        }
    }

    /// What both sides are told of an end of our own making (RFC 6455 §7.4.1): 1008, as the policy says so, or 1001, as we go away.
    pub(super) const fn farewell(self) -> (u16, &'static str) {
        match self {
            Self::Expired => (1008, "credential expired"),
            Self::Revoked => (1008, "credential revoked"),
            Self::Idle => (1001, "idle"),
            Self::Drained
            | Self::ClientClosed
            | Self::UpstreamClosed
            | Self::ClientGone
            | Self::UpstreamGone
            | Self::ClientStalled => (1001, "going away"),
        }
    }
}

/// One open stream.
#[derive(Debug)]
pub(super) struct Open {
    principal: Option<Arc<Principal>>,
    /// Seconds since the epoch.
    expires_at: Option<f64>,
    idle: Duration,
    /// Bytes that moved, either way.
    moved: Cell<u64>,
    seen: Cell<(u64, Instant)>,
    end: Cell<Option<End>>,
    waker: RefCell<Option<Waker>>,
}

impl Open {
    pub(super) fn moved(&self, count: usize) {
        self.moved.set(self.moved.get().wrapping_add(count as u64));
    }

    /// Why it has to end, if it has to; wakes `waker` when that changes.
    pub(super) fn end(&self, waker: &Waker) -> Option<End> {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        self.end.get()
    }

    fn have_ended(&self, end: End) {
        if self.end.get().is_none() {
            self.end.set(Some(end));
            if let Some(waker) = self.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let (moved, since) = self.seen.get();
        if moved != self.moved.get() {
            self.seen.set((self.moved.get(), now));
            return false;
        }
        now.saturating_duration_since(since) >= self.idle
    }

    /// What ends it now.
    fn judge(&self, snapshot: &Snapshot, services: &Services, now: Now) -> Option<End> {
        if let Some(principal) = &self.principal {
            let stands = |erasures: &Arc<Erasures>| erasures.standing(principal) == Standing::Good;
            if services.revocations.names(principal, now) || !snapshot.erasures.as_ref().is_none_or(stands) {
                return Some(End::Revoked);
            }
        }
        if self.expires_at.is_some_and(|at| now.numeric_date() >= at) {
            return Some(End::Expired);
        }
        self.is_idle(now.instant).then_some(End::Idle)
    }
}

/// All open streams of a worker.
pub(in crate::gateway) struct OpenStreams {
    services: OnWorker<Services>,
    live: Live,
    list: RefCell<Vec<Rc<Open>>>,
    is_watched: Cell<bool>,
    is_closing: Cell<bool>,
}

/// A stream's place among those that are open.
pub(super) struct Place {
    pub(super) open: Rc<Open>,
    among: Rc<OpenStreams>,
}

impl OpenStreams {
    pub(in crate::gateway) fn new(services: OnWorker<Services>, live: &Live) -> Rc<Self> {
        Rc::new(Self {
            services,
            live: live.clone(),
            list: RefCell::default(),
            is_watched: Cell::new(false),
            is_closing: Cell::new(false),
        })
    }

    /// Has every stream say good-bye, as the worker is about to stop. Gives whether there are any.
    pub(in crate::gateway) fn close(&self) -> bool {
        self.is_closing.set(true);
        for open in self.list.borrow().iter() {
            open.have_ended(End::Drained);
        }
        !self.list.borrow().is_empty()
    }

    /// Takes a stream in. `ends_with` is the caller whose credential it stands and falls with.
    pub(super) fn add(self: &Rc<Self>, ends_with: Option<Arc<Principal>>, rules: Upgrades) -> Place {
        let expiry = |principal: &Arc<Principal>| Some(principal.expires_at? + principal.leeway_secs);
        let open = Rc::new(Open {
            expires_at: ends_with.as_ref().filter(|_| rules.close_on_expiry).and_then(expiry),
            principal: ends_with,
            idle: rules.idle,
            moved: Cell::new(0),
            seen: Cell::new((0, self.services.clock.now().instant)),
            end: Cell::new(self.is_closing.get().then_some(End::Drained)),
            waker: RefCell::default(),
        });
        self.list.borrow_mut().push(Rc::clone(&open));
        self.services.metrics.stream_opened();
        if !self.is_watched.replace(true) {
            tokio::task::spawn_local(watch(Rc::downgrade(self)));
        }
        Place { open, among: Rc::clone(self) }
    }

    fn look(&self) {
        let (now, snapshot) = (self.services.clock.now(), self.live.load());
        for open in self.list.borrow().iter().filter(|open| open.end.get().is_none()) {
            if let Some(end) = open.judge(&snapshot, &self.services, now) {
                open.have_ended(end);
            }
        }
    }
}

/// Looks at all streams until there are none.
async fn watch(streams: Weak<OpenStreams>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(streams) = streams.upgrade() else { return };
        if streams.list.borrow().is_empty() {
            streams.is_watched.set(false);
            return;
        }
        streams.look();
    }
}

impl Place {
    /// Counts how it ended.
    pub(super) fn ended(&self, end: End) {
        self.among.services.metrics.stream_ended(end.name());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut list = self.among.list.borrow_mut();
        if let Some(at) = list.iter().position(|open| Rc::ptr_eq(open, &self.open)) {
            list.swap_remove(at);
        }
    }
}
