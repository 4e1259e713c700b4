//! From a valid configuration to one in force: compile it, swap it in, and keep warm what did not change.

mod authority;
mod backend;
mod erasing;
mod erasure;
mod erasure_teller;
mod live;
mod materials;
mod observers;
mod services;
mod session_ends;
mod snapshot;

pub use authority::AuthorityTeller;
pub use backend::{Backend, CompiledShaping, Goal, Side};
pub use erasing::Erasing;
pub use erasure::AuditEvidence;
pub use erasure_teller::{ErasureTeller, tell_erasures};
pub use live::{Live, LiveView, OnWorker, WeakLive};
pub use materials::DiskMaterials;
pub use observers::{IssuerObserver, WorkerObserver};
pub use services::Services;
pub use session_ends::RevokedSessions;
pub use snapshot::{
    AuthorityEndpoint, CompiledPlan, CompiledRoute, ErasureEndpoint, EventEndpoint, GuardedOperation, Means, Snapshot,
};
