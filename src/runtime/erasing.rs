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
        let (state, authority) = (self.state.load_full(), self.authority.load_full());
        Box::pin(async move {
            match (authority, state) {
                (Some(authority), _) => authority.forget(issuer_url, subject, now).await,
                // What is left of an authority that was configured once.
                (None, Some(state)) => forget_rows(state.store(), issuer_url, subject, now).await,
                (None, None) => Err(StoreFault::Unavailable("no configuration is in force yet".to_owned())),
            }
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        authority::{
            Owner,
            testing::{Bench, START, at},
        },
        store::Table,
    };

    #[tokio::test]
    async fn what_the_gateway_has_of_a_person_goes_with_an_authority_in_force_and_without_and_is_never_taken_for_gone()
    {
        let (bench, own) = (Bench::new(), Own::default());
        let (issuer, store) = ("https://idp.example/", bench.authority.store());
        let is_there = async |subject: &str| {
            let owner = Owner { issuer: issuer.into(), subject: subject.into() };
            store.get::<serde_json::Value>(Table::Factors, &owner.key(store), at(START)).await.unwrap().is_some()
        };
        for subject in ["ann", "bob"] {
            bench.enrol_app(&bench.caller(subject, "t1"), START).await;
        }
        let nothing = own.forget(issuer, "ann", at(START)).await;
        assert!(matches!(nothing, Err(StoreFault::Unavailable(_))), "nobody could say that nothing is kept");
        own.replace(Some(&bench.state), Some(&bench.authority));
        own.forget(issuer, "ann", at(START)).await.unwrap();
        assert_eq!((is_there("ann").await, is_there("bob").await), (false, true));
        own.replace(Some(&bench.state), None);
        own.forget(issuer, "bob", at(START)).await.unwrap();
        assert!(!is_there("bob").await, "what was kept when there was one");
    }
}
