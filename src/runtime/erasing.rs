//! What account deletions need of the rest of the house: who counts, where evidence goes, and the gateway's own data of people.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;

use super::{AuditEvidence, ErasureTeller};
use crate::{
    authority::{Authority, forget_rows},
    clock::Now,
    erasure::{Answering, ErasureObserver, EvidenceLog, OwnData},
    state::State,
    store::StoreFault,
    telemetry::{Metrics, audit::AuditLog},
};

/// What account deletions need; it outlives every configuration.
#[derive(Clone)]
pub struct Erasing {
    /// Who hears of them.
    pub(super) observer: Arc<dyn ErasureObserver>,
    /// Where evidence goes.
    pub(super) evidence: Arc<dyn EvidenceLog>,
    /// The gateway's own data.
    pub(super) own: Arc<Own>,
}

impl fmt::Debug for Erasing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erasing").finish_non_exhaustive()
    }
}

impl Erasing {
    /// Counts in `metrics`, and writes evidence to `audit`.
    pub fn new(metrics: &Metrics, audit: Arc<AuditLog>) -> Self {
        Self {
            observer: Arc::new(ErasureTeller::new(metrics.erasure(), metrics.authority())),
            evidence: Arc::new(AuditEvidence(audit)),
            own: Arc::default(),
        }
    }
}

/// What the gateway itself has of people, as the configuration in force has it.
#[derive(Debug, Default)]
pub(super) struct Own {
    state: ArcSwapOption<State>,
    authority: ArcSwapOption<Authority>,
}

impl Own {
    /// Takes what a configuration has.
    pub(super) fn replace(&self, state: Option<&Arc<State>>, authority: Option<&Arc<Authority>>) {
        self.state.store(state.cloned());
        self.authority.store(authority.cloned());
    }
}

impl OwnData for Own {
    fn forget<'a>(&'a self, issuer_url: &'a str, subject: &'a str, now: Now) -> Answering<'a, Result<(), StoreFault>> {
        Box::pin(async move {
            if let Some(authority) = self.authority.load_full() {
                return authority.forget(issuer_url, subject, now).await;
            }
            // Where the authority was taken out of the configuration, what it kept is there all the same.
            match self.state.load_full() {
                Some(state) => forget_rows(state.store(), issuer_url, subject, now).await,
                None => Ok(()),
            }
        })
    }
}
