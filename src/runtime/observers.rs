//! What the adapters report, turned into metrics and events.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::{
    clock::Clock,
    identity::{
        CacheLookup, IdentityObserver, IntrospectionOutcome, PasswordOutcome, RefreshOutcome,
        events::{EventKind, EventOutcome},
    },
    policy::Reason,
    telemetry::{Metrics, metrics::IssuerMetrics, metrics::UpstreamMetrics},
    upstream::{FaultKind, Repetition, ServiceObserver, UpstreamObserver},
};

/// Counts what happens to issuers' keys and tokens.
pub struct IssuerObserver {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    issuers: RwLock<HashMap<Box<str>, Arc<IssuerMetrics>>>,
}

impl IssuerObserver {
    /// An observer that counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { metrics, clock, issuers: RwLock::default() }
    }

    fn issuer(&self, name: &str) -> Arc<IssuerMetrics> {
        if let Some(known) = self.issuers.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return known.clone();
        }
        let mut issuers = self.issuers.write().unwrap_or_else(PoisonError::into_inner);
        issuers.entry(name.into()).or_insert_with(|| Arc::new(self.metrics.issuer(name))).clone()
    }
}

impl IdentityObserver for IssuerObserver {
    fn refresh(&self, issuer: &str, outcome: RefreshOutcome) {
        match outcome {
            RefreshOutcome::Refreshed { keys, left_aside } => {
                tracing::debug!(issuer, keys, left_aside, "issuer keys refreshed");
                self.issuer(issuer).refreshed();
                self.metrics.keys_fetched(issuer, self.clock.now());
            }
            RefreshOutcome::Failed => self.issuer(issuer).refresh_failed(),
        }
    }

    fn verification(&self, issuer: Option<&str>, result: Result<(), Reason>) {
        self.issuer(issuer.unwrap_or_default()).verified(result.err().unwrap_or(Reason::Allowed));
    }

    fn cache(&self, lookup: CacheLookup) {
        match lookup {
            CacheLookup::Hit => self.metrics.token_cache_hit(),
            CacheLookup::Miss => self.metrics.token_cache_miss(),
        }
    }

    fn introspection(&self, issuer: &str, outcome: IntrospectionOutcome, took: Option<Duration>) {
        let result = match outcome {
            IntrospectionOutcome::Active => "active",
            IntrospectionOutcome::Refused => "refused",
            IntrospectionOutcome::Remembered => "remembered",
            IntrospectionOutcome::Failed => "failed",
            IntrospectionOutcome::Busy => "busy",
        };
        self.metrics.introspected(issuer, result, took);
    }

    fn event(&self, issuer: &str, kind: EventKind, outcome: EventOutcome) {
        let (event, result) = (kind.name(), outcome.name());
        match outcome {
            // The provider itself says so, and somebody thinks that it took effect.
            EventOutcome::Unmatched => {
                tracing::warn!(issuer, event, "a security event names nobody that is known here")
            }
            EventOutcome::Applied
            | EventOutcome::Repeated
            | EventOutcome::Outdated
            | EventOutcome::Ignored
            | EventOutcome::Refused
            | EventOutcome::Unavailable => tracing::debug!(issuer, event, result, "security event"),
        }
        self.metrics.security_event(issuer, event, result);
    }

    fn password(&self, source: &str, outcome: PasswordOutcome) {
        let outcome = match outcome {
            PasswordOutcome::Right => "right",
            PasswordOutcome::Wrong => "wrong",
            PasswordOutcome::Busy => "busy",
        };
        self.metrics.password(source, outcome);
    }

    fn api_keys(&self, source: &str, read: Result<usize, ()>) {
        self.metrics.api_keys_read(source, read.ok());
    }

    fn revocation_lists(&self, source: &str, next_update: Option<u64>) {
        self.metrics.crl_next_update(source, next_update);
    }

    fn authorities_read(&self, source: &str, good: bool) {
        self.metrics.authorities_read(source, good);
    }
}

/// Counts what happens to one worker's connections to upstreams.
#[derive(Debug, Clone)]
pub struct WorkerObserver(pub Arc<Metrics>);

struct OneService {
    name: Box<str>,
    metrics: UpstreamMetrics,
}

impl UpstreamObserver for WorkerObserver {
    fn service(&self, name: &str) -> Rc<dyn ServiceObserver> {
        Rc::new(OneService { name: name.into(), metrics: self.0.upstream(name) })
    }
}

impl ServiceObserver for OneService {
    fn opened(&self) {
        self.metrics.opened();
    }

    fn reused(&self) {
        self.metrics.reused();
    }

    fn retried(&self, why: Repetition) {
        tracing::debug!(upstream = &*self.name, why = why.name(), "request sent again");
        self.metrics.repeated(why.name());
    }

    fn fault(&self, kind: FaultKind) {
        self.metrics.failed(kind.name());
    }

    fn ejected(&self, target: &str) {
        tracing::warn!(upstream = &*self.name, target, "target ejected: too many failures in a row");
        self.metrics.ejected();
    }

    fn readmitted(&self, target: &str) {
        tracing::info!(upstream = &*self.name, target, "target readmitted");
    }
}
