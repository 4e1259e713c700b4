//! Deletions in the store of a gateway that does not run. What is done to them is noted; carrying out is the next one's.

use std::sync::Arc;

use http::Method;

use super::api::Operators;
use crate::{
    cli::{
        opened::Opened,
        place::{self, Fault},
    },
    clock::Now,
    config::{Config, Loaded},
    erasure::{Answering, ErasureMeans, ErasureObserver, Erasures, EvidenceLog, OwnData},
    runtime::{AuditEvidence, DiskMaterials, ErasureTeller},
    server::AdminAnswer,
    store::StoreFault,
};

/// Deletions, under the lock.
pub(super) struct Kept {
    erasures: Arc<Erasures>,
    opened: Opened,
}

impl place::Kept for Kept {
    fn missing(config: &Config) -> Option<&'static str> {
        config.deletions.is_none().then_some("deletions")
    }

    fn open(loaded: &Loaded) -> Result<Self, Fault> {
        let opened = Opened::open(loaded)?;
        let teller = ErasureTeller::new(opened.metrics.erasure(), opened.metrics.authority());
        let means = ErasureMeans {
            handle: &opened.background.handle,
            clock: &opened.clock,
            store: opened.state.store(),
            outbox: opened.state.outbox(),
            roots: &crate::client::MachineRoots::default(),
            observer: &(Arc::new(teller) as Arc<dyn ErasureObserver>),
            evidence: &(Arc::new(AuditEvidence(opened.audit.clone())) as Arc<dyn EvidenceLog>),
            own_data: &(Arc::new(Untouched) as Arc<dyn OwnData>),
        };
        let erasures = Erasures::compile(&loaded.config, &DiskMaterials, &means, None);
        let erasures = erasures.map_err(|problems| Fault::config(loaded, problems))?;
        Ok(Self { erasures: Arc::new(erasures.ok_or(Fault::Config)?), opened })
    }

    fn call(&self, config: &Config, now: Now, call: (&Method, &str, Option<&str>), body: &[u8]) -> Option<AdminAnswer> {
        let Opened { audit, background, .. } = &self.opened;
        Operators { erasures: Some(&self.erasures), config, audit, handle: &background.handle, now }.call(call, body)
    }
}

/// The gateway's own data of people, which nobody takes away while no gateway runs.
struct Untouched;

impl OwnData for Untouched {
    fn forget<'a>(&'a self, _: &'a str, _: &'a str, _: Now) -> Answering<'a, Result<(), StoreFault>> {
        Box::pin(async { Err(StoreFault::Unavailable("no gateway runs".to_owned())) })
    }
}
