//! What all sources of credentials need of the process, and how each says that it stands.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{IdentityObserver, revocation::Revocations};
use crate::{client::MachineRoots, clock::Clock, jose::PublishedKeys, policy::IssuerName};

/// What sources need of the running gateway.
#[derive(Clone)]
pub struct SourceServices {
    /// The runtime of background work: on it keys are refreshed, files watched and passwords hashed.
    pub handle: Handle,
    /// The certificate authorities for issuers that name none of their own; they are read when one needs them.
    pub roots: MachineRoots,
    /// Tells the tasks when they read what they read.
    pub clock: Arc<dyn Clock>,
    /// Who listens.
    pub observer: Arc<dyn IdentityObserver>,
    /// The credentials that are refused although they verify.
    pub revocations: Arc<Revocations>,
    /// The keys of the gateway's own authority, for the issuer that it is.
    pub authority_keys: PublishedKeys,
}

/// How a source stands: an issuer's keys, or the authorities and lists of client certificates; for readiness and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReadiness {
    /// The source's name.
    pub name: IssuerName,
    /// Whether what it vouches for can be judged now.
    pub ready: bool,
    /// A phrase for an operator; names no address and no secret.
    pub detail: String,
    /// How many keys, or authorities, are in use.
    pub keys: usize,
    /// How old they are: how long ago keys were last read, or since the oldest list was made; `None` before the first time, and
    /// for what never grows old.
    pub age: Option<Duration>,
    /// How many attempts to read them have failed since the last that did not.
    pub failures: u32,
}
