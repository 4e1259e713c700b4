//! What outlives every configuration: the clock, the metrics, the audit trail, the runtime of background work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{AuthorityTeller, Erasing, IssuerObserver, Means};
use crate::{
    client::MachineRoots,
    clock::Clock,
    identity::{SourceServices, revocation::Revocations},
    limit::{InFlight, StreamsOpen},
    telemetry::{Metrics, RouteMetrics, audit::AuditLog, metrics::NO_ROUTE},
};

/// What outlives every configuration.
pub struct Services {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The requests in flight.
    pub in_flight: Arc<InFlight>,
    /// The streams that last.
    pub streams_open: Arc<StreamsOpen>,
    /// The metrics of requests that no route matched.
    pub no_route: Arc<RouteMetrics>,
    /// The audit trail.
    pub audit: Arc<AuditLog>,
    /// What issuers need for fetching keys.
    pub issuers: SourceServices,
    /// The credentials that are refused although they verify.
    pub revocations: Arc<Revocations>,
    /// Who hears what the authority does.
    pub teller: Arc<AuthorityTeller>,
    /// What account deletions need.
    pub erasing: Erasing,
    /// Another process has the store, the audit log and the lock, or is about to.
    let_go: AtomicBool,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    /// Whether what is durable is another process's by now: what needs it is refused.
    pub fn has_let_go(&self) -> bool {
        self.let_go.load(Ordering::Acquire)
    }

    /// Nothing that needs what is durable is begun any more.
    pub fn let_go(&self) {
        self.let_go.store(true, Ordering::Release);
    }

    /// What compiling a configuration needs of them.
    pub fn means(&self) -> Means<'_> {
        let keeping = Some((&self.teller, &self.erasing));
        Means { issuers: &self.issuers, metrics: &self.metrics, in_flight: &self.in_flight, keeping }
    }

    /// Puts the services together; `handle` is the runtime of background work.
    pub fn new(
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        audit: Arc<AuditLog>,
        revocations: Arc<Revocations>,
        handle: tokio::runtime::Handle,
    ) -> Arc<Self> {
        let observer = Arc::new(IssuerObserver::new(metrics.clone(), clock.clone()));
        let teller = Arc::new(AuthorityTeller::new(metrics.authority(), audit.clone()));
        Arc::new(Self {
            let_go: AtomicBool::new(false),
            teller,
            in_flight: Arc::default(),
            streams_open: Arc::default(),
            erasing: Erasing::new(&metrics, audit.clone()),
            no_route: metrics.route(NO_ROUTE),
            issuers: SourceServices {
                handle,
                roots: MachineRoots::default(),
                clock: clock.clone(),
                observer,
                revocations: revocations.clone(),
                authority_keys: Default::default(),
            },
            clock,
            metrics,
            audit,
            revocations,
        })
    }
}
