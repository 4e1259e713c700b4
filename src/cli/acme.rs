//! Ordering certificates, as part of a gateway that runs.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    acme::{Acme, AcmeObserver, Prepared},
    runtime::Services,
    server::Server,
    telemetry::metrics::AcmeMetrics,
};

/// Counts what becomes of orders.
struct Counted(AcmeMetrics);

impl AcmeObserver for Counted {
    fn ordered(&self, name: &str) {
        self.0.ordered(name, true);
    }

    fn failed(&self, name: &str) {
        self.0.ordered(name, false);
    }

    fn known(&self, names: &[&str]) {
        self.0.known(names);
    }
}

/// Begins to order certificates; the server's listeners show the challenges.
pub(super) fn start(handle: &Handle, prepared: Prepared, server: &Server, services: &Services) -> Acme {
    let observer = Arc::new(Counted(services.metrics.acme().clone()));
    Acme::start(handle, prepared, server.challenges(), services.clock.clone(), observer)
}
