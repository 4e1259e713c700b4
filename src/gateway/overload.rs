//! Whether there is room for a request: right after its route is found, one of our own too, and before anything is spent on it.

use std::{
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Gateway, Record, Refusal};
use crate::{
    config::Priority,
    limit::{Holders, Pressure, StreamPlace, streams_within_open_files},
    policy::Reason,
    runtime::{CompiledRoute, Snapshot},
};

/// When a refused client should come back: a queue that grows has drained by then, or more is refused.
const RETRY_SECS: u64 = 1;

impl Gateway {
    /// Takes a place for a request, of its route's or of the gateway's own; its record holds it to the end of the answer.
    pub(super) fn admit(
        &self,
        snapshot: &Snapshot,
        (holders, priority): (&Holders, Priority),
        record: &mut Record,
    ) -> Result<(), Refusal> {
        let why = if self.pressure.refuses(priority) {
            "queue"
        } else {
            match snapshot.in_flight.enter(record.client, holders, priority) {
                Ok(place) => {
                    record.place = Some(place);
                    return Ok(());
                }
                Err(full) => full.name(),
            }
        };
        self.services.metrics.overload().refused(why, priority.name());
        let mut refusal = Refusal::of(Reason::Overloaded).because(why);
        refusal.retry_after = Some(RETRY_SECS);
        Err(refusal)
    }

    /// Takes a place for a stream that is to last: its handshake holds it, and then the stream.
    pub(super) fn admit_stream(
        &self,
        snapshot: &Snapshot,
        route: &CompiledRoute,
        client: IpAddr,
    ) -> Result<StreamPlace, Refusal> {
        let wanted = snapshot.config.server.limits.connections;
        let most = u32::try_from(streams_within_open_files(wanted, wanted)).unwrap_or(u32::MAX);
        self.services.streams_open.enter(client, most).map_err(|full| {
            self.services.metrics.overload().refused(full.name(), route.priority.name());
            let mut refusal = Refusal::of(Reason::Overloaded).because("there are too many streams");
            refusal.retry_after = Some(RETRY_SECS);
            refusal
        })
    }

    /// Measures how long what is ready waits for its turn on this worker, for as long as the gateway is there.
    pub fn watch_pressure(self: &Rc<Self>, worker: usize) -> impl Future<Output = ()> + use<> {
        let (pressure, gateway) = (Rc::clone(&self.pressure), Rc::downgrade(self));
        async move {
            let mut told = 0;
            loop {
                let due = Instant::now() + pressure.period();
                tokio::time::sleep_until(due.into()).await;
                let Some(gateway) = gateway.upgrade() else { return };
                let now = gateway.services.clock.instant();
                let target = gateway.view.borrow_mut().load().config.server.overload.queue_target;
                pressure.measured(now.saturating_duration_since(due), target, now);
                let level = pressure.level();
                if level != told {
                    gateway.tell_pressure(worker, (told, level), target);
                    told = level;
                }
            }
        }
    }

    fn tell_pressure(&self, worker: usize, (before, level): (u8, u8), target: Duration) {
        self.services.metrics.overload().level(worker, level);
        let target_ms = u64::try_from(target.as_millis()).unwrap_or(u64::MAX);
        match (before, level) {
            (0, _) => tracing::warn!(worker, target_ms, "requests wait too long for their turn: some are refused"),
            (_, 0) => tracing::info!(worker, "no request waits too long any more"),
            _ => {}
        }
    }
}

/// A worker's pressure, shared with who measures it.
pub(super) type SharedPressure = Rc<Pressure>;
