//! What erasure needs of others: floors above implement these, over the audit log, the authority and the metrics.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::runtime::Handle;

use crate::{
    client::MachineRoots,
    clock::{Clock, Now},
    notify::Outbox,
    store::{Store, StoreFault},
    telemetry::audit::{Certificate, ErasureRecord, Place, SignedCertificate, Struck},
};

/// An answer that is still to come.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why evidence was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceFault {
    /// It cannot be written now.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(String),
    /// A record there is not what was written.
    #[error("the audit log is not what was written: {0}")]
    Damaged(String),
}

/// Where evidence goes.
pub trait EvidenceLog: Send + Sync {
    /// Writes an event of a deletion to the audit chain; durable when it returns. Written twice, as after a crash, it is known by the
    /// deletion's number and the event's.
    fn record(&self, record: ErasureRecord) -> Answering<'_, Result<Place, EvidenceFault>>;

    /// Signs what a deletion came to, with the audit's key.
    fn certify(&self, certificate: Certificate) -> Result<SignedCertificate, EvidenceFault>;

    /// Strikes people out of the audit log; durable when it returns. Many who ask at once are struck out together.
    fn strike(&self, whose: Vec<Struck>) -> Answering<'_, Result<(), EvidenceFault>>;
}

/// The gateway's own data of people.
pub trait OwnData: Send + Sync {
    /// Takes all of a person's away; may be repeated.
    fn forget<'a>(&'a self, issuer_url: &'a str, subject: &'a str, now: Now) -> Answering<'a, Result<(), StoreFault>>;
}

/// Who hears of deletions. Nothing in it names a person; each word is of a closed list, or a name of the configuration. How many there
/// are is to be asked: [`Erasures::counts`](super::Erasures::counts).
pub trait ErasureObserver: Send + Sync {
    /// Something happened to a deletion of a plan.
    fn happened(&self, _plan: &str, _event: &'static str) {}
    /// A step or a probe was answered by an upstream.
    fn step(&self, _upstream: &str, _outcome: &'static str) {}
    /// A look at what should be gone: `gone`, `there`.
    fn looked(&self, _plan: &str, _seen: &'static str) {}
    /// The breaker was tripped, or reset.
    fn breaker(&self, _tripped: bool) {}
    /// A notice has nowhere to go.
    fn untold(&self) {}
    /// The store could not be used.
    fn store_fault(&self) {}
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl ErasureObserver for Unobserved {}

/// What compiling needs besides the configuration.
#[derive(Clone, Copy)]
pub struct ErasureMeans<'a> {
    /// The runtime of background work.
    pub handle: &'a Handle,
    /// The clock.
    pub clock: &'a Arc<dyn Clock>,
    /// The store.
    pub store: &'a Arc<Store>,
    /// Messages that wait to be delivered.
    pub outbox: &'a Arc<Outbox>,
    /// The machine's roots, for upstreams.
    pub roots: &'a MachineRoots,
    /// Who hears of it.
    pub observer: &'a Arc<dyn ErasureObserver>,
    /// Where evidence goes.
    pub evidence: &'a Arc<dyn EvidenceLog>,
    /// The gateway's own data.
    pub own_data: &'a Arc<dyn OwnData>,
}
