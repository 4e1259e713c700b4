//! All calls of the process: how many at once, in all and to one service. Ten thousand deletions that are due at midnight are no
//! reason for a service to see more than a few requests at a time.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    call::{Answered, CallFault, Key, prepare},
    fill::Values,
    upstreams::Upstreams,
};
use crate::config::Call;

/// How many calls of steps and probes are under way at once: as many as a small service has connections to its database.
const MOST: usize = 32;
/// How many to one service.
const MOST_TO_ONE: usize = 8;
/// How many lookups are under way at once, in all: each keeps a request waiting.
const MOST_LOOKUPS: usize = 64;

/// How long nothing may move at a service that has as many calls as it may before it is said to be jammed: nobody waits for such a one,
/// as who waits takes the place of those that another service would answer.
const JAMMED: Duration = Duration::from_secs(1);

/// The calls of a process, by the services that are in force.
pub(in crate::erasure) struct Calls {
    upstreams: ArcSwap<Upstreams>,
    all: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    gates: Mutex<HashMap<Box<str>, Arc<Gate>>>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}

/// A right to one call; there are so many and no more.
pub(super) struct Turn {
    gate: Arc<Gate>,
    _to_one: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gate.moves();
    }
}

/// The way to one service.
struct Gate {
    permits: Arc<Semaphore>,
    /// When a call began or ended last.
    moved: Mutex<Instant>,
}

impl Gate {
    fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MOST_TO_ONE)), moved: Mutex::new(Instant::now()) }
    }

    fn moves(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_jammed(&self) -> bool {
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        self.permits.available_permits() == 0 && moved.elapsed() >= JAMMED
    }
}

impl Calls {
    pub(super) fn new(upstreams: Arc<Upstreams>) -> Self {
        let semaphore = |most| Arc::new(Semaphore::new(most));
        let (all, lookups) = (semaphore(MOST), semaphore(MOST_LOOKUPS));
        Self { upstreams: ArcSwap::new(upstreams), all, lookups, gates: Mutex::default() }
    }

    /// Calls go to these from now on.
    pub(in crate::erasure) fn replace(&self, upstreams: Arc<Upstreams>) {
        self.upstreams.store(upstreams);
    }

    /// What calls go to.
    #[cfg(test)]
    pub(super) fn upstreams(&self) -> Arc<Upstreams> {
        self.upstreams.load_full()
    }

    /// Waits until a service may be called; `None`: it answers nobody at present. Nothing is to be noted as sent before.
    pub(super) async fn turn(&self, upstream: &str) -> Option<Turn> {
        let gate = self.gate(upstream);
        // In this order: who waits for a service that is slow keeps nobody from another one.
        let mut permit = pin!(gate.permits.clone().acquire_owned());
        let to_one = loop {
            match timeout(JAMMED, &mut permit).await {
                Ok(permit) => break permit.ok()?,
                Err(_) if gate.is_jammed() => return None,
                Err(_) => {}
            }
        };
        gate.moves();
        let in_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Turn { gate, _to_one: to_one, _in_all: in_all })
    }

    /// Whether a service has as many calls as it may, and answers none of them.
    pub(super) fn is_jammed(&self, upstream: &str) -> bool {
        self.gate(upstream).is_jammed()
    }

    fn gate(&self, upstream: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        // A name that is in no configuration any more is called by nobody; there is no end of names only if there is none of reloads.
        if !gates.contains_key(upstream) && gates.len() > 1000 {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        gates.entry(upstream.into()).or_insert_with(|| Arc::new(Gate::new())).clone()
    }

    /// Sends a request for a step or a probe, once.
    pub(super) async fn send(
        &self,
        _turn: Turn,
        call: &Call,
        values: &impl Values,
        key: Key<'_>,
    ) -> Result<Answered, CallFault> {
        let upstreams = self.upstreams.load_full();
        prepare(call, &upstreams, values, key)?.send().await
    }

    /// Sends a request that somebody waits for: if there are too many of them, not at all.
    pub(super) async fn look_up(&self, call: &Call, values: &impl Values, key: Key<'_>) -> Result<Answered, CallFault> {
        let upstreams = self.upstreams.load_full();
        let prepared = prepare(call, &upstreams, values, key)?;
        let within = Duration::from_secs(call.timeout_secs);
        let turn = timeout(within, self.lookups.clone().acquire_owned()).await;
        let _turn = turn.map_err(|_| CallFault::Timeout)?.map_err(|_| CallFault::Timeout)?;
        prepared.send().await
    }
}
