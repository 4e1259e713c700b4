//! Metrics in Prometheus' format. Every label value is a name from the configuration or a member of a closed list:
//! never a subject, never a path, nothing that a client sent.

mod acme;
mod authority;
mod catalogue;
mod erasure;
mod mirror;
mod overload;
mod process;
mod route;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
    core::{Collector, MetricVec, MetricVecBuilder},
};
use thiserror::Error;

use self::catalogue::Family;
pub use self::{
    acme::AcmeMetrics,
    authority::AuthorityMetrics,
    erasure::{ErasureCounts, ErasureMetrics},
    mirror::MirrorMetrics,
    overload::OverloadMetrics,
    route::RouteMetrics,
};
use crate::{clock::Now, policy::Reason};

/// What a listener's name ends in where it counts what comes over QUIC.
pub const OVER_UDP: &str = "/udp";

/// The `route` label of requests that no route matched.
pub const NO_ROUTE: &str = "(none)";

/// From half a millisecond, which is what a gateway itself takes, to the longest that a client waits.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Why the metrics cannot be set up or written out.
#[derive(Debug, Error)]
#[error("metrics: {0}")]
pub struct MetricsFault(#[from] prometheus::Error);

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    decisions: Vec<(Reason, IntCounter)>,
    upstream_duration: HistogramVec,
    upstream_errors: IntCounterVec,
    upstream_opened: IntCounterVec,
    upstream_reused: IntCounterVec,
    upstream_repeated: IntCounterVec,
    upstream_ejections: IntCounterVec,
    upstream_target_healthy: IntGaugeVec,
    upstream_under_way: IntGaugeVec,
    upstream_waiting: IntGaugeVec,
    upstream_names_failing: IntGaugeVec,
    token_verifications: IntCounterVec,
    token_cache_hits: IntCounter,
    token_cache_misses: IntCounter,
    introspections: IntCounterVec,
    introspection_duration: HistogramVec,
    passwords: IntCounterVec,
    locked_users: IntGaugeVec,
    jwks_age: IntGaugeVec,
    jwks_refreshes: IntCounterVec,
    api_keys: IntGaugeVec,
    api_key_reads: IntCounterVec,
    crl_next_update: IntGaugeVec,
    authority_reloads: IntCounterVec,
    quota_rejections: IntCounterVec,
    quota_live_keys: IntGaugeVec,
    dpop_proofs: IntGauge,
    tls_handshakes: IntCounterVec,
    tls_not_after: IntGaugeVec,
    connections: IntGaugeVec,
    connections_accepted: IntCounterVec,
    connections_refused: IntCounterVec,
    streams: IntGauge,
    streams_ended: IntCounterVec,
    config_reloads: IntCounterVec,
    config_last_ok: IntGauge,
    config_last_success: IntGauge,
    config_generation: IntGauge,
    audit: AuditMetrics,
    authority: AuthorityMetrics,
    erasure: ErasureMetrics,
    mirror: MirrorMetrics,
    overload: OverloadMetrics,
    acme: AcmeMetrics,
    access_log_dropped: IntCounter,
    revocations: IntGaugeVec,
    security_events: IntCounterVec,
    danger: IntGaugeVec,
    routes: Mutex<HashMap<Box<str>, Arc<RouteMetrics>>>,
    keys_fetched_ms: Mutex<HashMap<Box<str>, u64>>,
}

/// What the audit log counts.
#[derive(Debug, Clone)]
pub struct AuditMetrics {
    records: IntCounterVec,
    failures: IntCounter,
    unauthenticated: IntCounterVec,
    writable: IntGauge,
}

/// The metrics of one upstream, resolved when it is compiled.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    name: Arc<str>,
    duration: Histogram,
    opened: IntCounter,
    reused: IntCounter,
    repeated: IntCounterVec,
    ejections: IntCounter,
    errors: IntCounterVec,
}

/// The metrics of one listener, resolved when it is opened.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    name: Arc<str>,
    open: IntGauge,
    accepted: IntCounter,
    refused: IntCounterVec,
    handshakes: IntCounterVec,
    not_after: IntGaugeVec,
}

/// The metrics of one issuer, resolved when it is compiled.
#[derive(Debug)]
pub struct IssuerMetrics {
    name: Box<str>,
    verifications: IntCounterVec,
    results: [OnceLock<IntCounter>; Reason::ALL.len()],
    refreshes: IntCounterVec,
}

/// The names that a configuration gives labels; what it no longer names leaves the metrics.
#[derive(Debug, Default)]
pub struct Names<'a> {
    /// Routes.
    pub routes: HashSet<&'a str>,
    /// Upstreams.
    pub upstreams: HashSet<&'a str>,
    /// Issuers.
    pub issuers: HashSet<&'a str>,
    /// Sources of credentials that are no issuers.
    pub sources: HashSet<&'a str>,
    /// Quotas.
    pub limits: HashSet<&'a str>,
    /// Channels of messages: `mail`, and webhooks by name.
    pub channels: HashSet<&'a str>,
    /// Listeners, by address.
    pub listeners: HashSet<&'a str>,
    /// The `danger_` keys that are set.
    pub dangers: HashSet<&'a str>,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Result<Self, MetricsFault> {
        let registry = Registry::new();
        let r = &registry;
        let decisions = counters(r, &catalogue::DECISIONS)?;
        let token_cache = counters(r, &catalogue::TOKEN_CACHE)?;
        let writable = gauge(r, &catalogue::AUDIT_WRITABLE)?;
        writable.set(1);
        gauges(r, &catalogue::BUILD_INFO)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        r.register(Box::new(process::Process::new()?))?;
        Ok(Self {
            requests: counters(r, &catalogue::REQUESTS)?,
            request_duration: histograms(r, &catalogue::REQUEST_DURATION)?,
            decisions: Reason::ALL.map(|reason| (reason, decisions.with_label_values(&[reason.name()]))).into(),
            upstream_duration: histograms(r, &catalogue::UPSTREAM_DURATION)?,
            upstream_errors: counters(r, &catalogue::UPSTREAM_ERRORS)?,
            upstream_opened: counters(r, &catalogue::UPSTREAM_OPENED)?,
            upstream_reused: counters(r, &catalogue::UPSTREAM_REUSED)?,
            upstream_repeated: counters(r, &catalogue::UPSTREAM_REPEATED)?,
            upstream_ejections: counters(r, &catalogue::UPSTREAM_EJECTIONS)?,
            upstream_target_healthy: gauges(r, &catalogue::UPSTREAM_TARGET_HEALTHY)?,
            upstream_under_way: gauges(r, &catalogue::UPSTREAM_UNDER_WAY)?,
            upstream_waiting: gauges(r, &catalogue::UPSTREAM_WAITING)?,
            upstream_names_failing: gauges(r, &catalogue::UPSTREAM_NAMES_FAILING)?,
            token_verifications: counters(r, &catalogue::TOKEN_VERIFICATIONS)?,
            token_cache_hits: token_cache.with_label_values(&["hit"]),
            token_cache_misses: token_cache.with_label_values(&["miss"]),
            introspections: counters(r, &catalogue::INTROSPECTIONS)?,
            introspection_duration: histograms(r, &catalogue::INTROSPECTION_DURATION)?,
            passwords: counters(r, &catalogue::PASSWORDS)?,
            locked_users: gauges(r, &catalogue::LOCKED_USERS)?,
            jwks_age: gauges(r, &catalogue::JWKS_AGE)?,
            jwks_refreshes: counters(r, &catalogue::JWKS_REFRESHES)?,
            api_keys: gauges(r, &catalogue::API_KEYS)?,
            api_key_reads: counters(r, &catalogue::API_KEY_READS)?,
            crl_next_update: gauges(r, &catalogue::CRL_NEXT_UPDATE)?,
            authority_reloads: counters(r, &catalogue::AUTHORITY_RELOADS)?,
            quota_rejections: counters(r, &catalogue::QUOTA_REJECTIONS)?,
            quota_live_keys: gauges(r, &catalogue::QUOTA_LIVE_KEYS)?,
            dpop_proofs: gauge(r, &catalogue::DPOP_PROOFS)?,
            tls_handshakes: counters(r, &catalogue::TLS_HANDSHAKES)?,
            tls_not_after: gauges(r, &catalogue::TLS_NOT_AFTER)?,
            connections: gauges(r, &catalogue::CONNECTIONS)?,
            connections_accepted: counters(r, &catalogue::CONNECTIONS_ACCEPTED)?,
            connections_refused: counters(r, &catalogue::CONNECTIONS_REFUSED)?,
            streams: gauge(r, &catalogue::STREAMS_OPEN)?,
            streams_ended: counters(r, &catalogue::STREAMS_ENDED)?,
            config_reloads: counters(r, &catalogue::CONFIG_RELOADS)?,
            config_last_ok: gauge(r, &catalogue::CONFIG_LAST_OK)?,
            config_last_success: gauge(r, &catalogue::CONFIG_LAST_SUCCESS)?,
            config_generation: gauge(r, &catalogue::CONFIG_GENERATION)?,
            audit: AuditMetrics {
                records: counters(r, &catalogue::AUDIT_RECORDS)?,
                failures: counter(r, &catalogue::AUDIT_FAILURES)?,
                unauthenticated: counters(r, &catalogue::AUDIT_UNAUTHENTICATED)?,
                writable,
            },
            authority: AuthorityMetrics::new(r)?,
            erasure: ErasureMetrics::new(r)?,
            mirror: MirrorMetrics::new(r)?,
            overload: OverloadMetrics::new(r)?,
            acme: AcmeMetrics::new(r)?,
            access_log_dropped: counter(r, &catalogue::ACCESS_LOG_DROPPED)?,
            revocations: gauges(r, &catalogue::REVOCATIONS)?,
            security_events: counters(r, &catalogue::SECURITY_EVENTS)?,
            danger: gauges(r, &catalogue::DANGER)?,
            routes: Mutex::default(),
            keys_fetched_ms: Mutex::default(),
            registry,
        })
    }

    /// The metrics of a route; the same ones for as long as the name stays in the configuration.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = locked(&self.routes);
        let fresh = || Arc::new(RouteMetrics::new(name, self.requests.clone(), self.request_duration.clone()));
        routes.entry(name.into()).or_insert_with(fresh).clone()
    }

    /// Counts how a request ended.
    pub fn decided(&self, reason: Reason) {
        // `ALL` is in the order of declaration; the look-up below does not depend on it, only its speed does.
        let at = self.decisions.get(reason as usize).filter(|(known, _)| *known == reason);
        if let Some((_, counter)) = at.or_else(|| self.decisions.iter().find(|(known, _)| *known == reason)) {
            counter.inc();
        }
    }

    /// The metrics of an upstream.
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            name: name.into(),
            duration: self.upstream_duration.with_label_values(&[name]),
            opened: self.upstream_opened.with_label_values(&[name]),
            reused: self.upstream_reused.with_label_values(&[name]),
            repeated: self.upstream_repeated.clone(),
            ejections: self.upstream_ejections.with_label_values(&[name]),
            errors: self.upstream_errors.clone(),
        }
    }

    /// Says which targets of all upstreams are used; to be called when the metrics are asked for.
    pub fn targets_healthy<'a>(&self, targets: impl Iterator<Item = (&'a str, &'a str, bool)>) {
        // Targets come and go as name servers say.
        self.upstream_target_healthy.reset();
        for (upstream, target, healthy) in targets {
            self.upstream_target_healthy.with_label_values(&[upstream, target]).set(i64::from(healthy));
        }
    }

    /// Says how many requests are under way to an upstream, and wait; `None`: it has no bound. To be called when the metrics are
    /// asked for.
    pub fn upstream_load(&self, upstream: &str, load: Option<(usize, usize)>) {
        match load {
            Some((under_way, waiting)) => {
                self.upstream_under_way.with_label_values(&[upstream]).set(clamped(under_way));
                self.upstream_waiting.with_label_values(&[upstream]).set(clamped(waiting));
            }
            // It fails only if there is no such series.
            None => {
                drop(self.upstream_under_way.remove_label_values(&[upstream]));
                drop(self.upstream_waiting.remove_label_values(&[upstream]));
            }
        }
    }

    /// Says how many names of an upstream's targets are asked for in vain; to be called when the metrics are asked for.
    pub fn upstream_names_failing(&self, upstream: &str, failing: usize) {
        self.upstream_names_failing.with_label_values(&[upstream]).set(clamped(failing));
    }

    /// The metrics of a listener, by its address.
    pub fn listener(&self, address: &str) -> ListenerMetrics {
        ListenerMetrics {
            name: address.into(),
            open: self.connections.with_label_values(&[address]),
            accepted: self.connections_accepted.with_label_values(&[address]),
            refused: self.connections_refused.clone(),
            handshakes: self.tls_handshakes.clone(),
            not_after: self.tls_not_after.clone(),
        }
    }

    /// The metrics of an issuer; with an empty name, of tokens that no issuer of the configuration claims.
    pub fn issuer(&self, name: &str) -> IssuerMetrics {
        IssuerMetrics {
            name: name.into(),
            verifications: self.token_verifications.clone(),
            results: std::array::from_fn(|_| OnceLock::new()),
            refreshes: self.jwks_refreshes.clone(),
        }
    }

    /// Notes that a source's API keys were read, and how many there are; or that they could not be.
    pub fn api_keys_read(&self, source: &str, keys: Option<usize>) {
        let result = if keys.is_some() { "ok" } else { "failed" };
        self.api_key_reads.with_label_values(&[source, result]).inc();
        if let Some(keys) = keys {
            self.api_keys.with_label_values(&[source]).set(clamped(keys));
        }
    }

    /// Says when the first of a source's lists of revoked certificates ends; `None`: it has none.
    pub fn crl_next_update(&self, source: &str, secs: Option<u64>) {
        match secs {
            Some(secs) => self.crl_next_update.with_label_values(&[source]).set(clamped(secs)),
            // It fails only if there is no such series.
            None => drop(self.crl_next_update.remove_label_values(&[source])),
        }
    }

    /// Counts a change of a source's authorities and lists.
    pub fn authorities_read(&self, source: &str, good: bool) {
        self.authority_reloads.with_label_values(&[source, if good { "ok" } else { "failed" }]).inc();
    }

    /// The counter of what a quota refuses.
    pub fn quota_rejections(&self, limit: &str) -> IntCounter {
        self.quota_rejections.with_label_values(&[limit])
    }

    /// Says how many keys a quota holds; to be called when the metrics are asked for.
    pub fn quota_live_keys(&self, limit: &str, keys: usize) {
        self.quota_live_keys.with_label_values(&[limit]).set(clamped(keys));
    }

    /// Says how many entries of a kind the list of revocations has; to be called when the metrics are asked for.
    pub fn revocations(&self, kind: &'static str, entries: usize) {
        self.revocations.with_label_values(&[kind]).set(clamped(entries));
    }

    /// Counts what a provider reported; `event` and `outcome` name members of closed lists.
    pub fn security_event(&self, issuer: &str, event: &'static str, outcome: &'static str) {
        self.security_events.with_label_values(&[issuer, event, outcome]).inc();
    }

    /// Tells how many DPoP proofs are remembered.
    pub fn dpop_proofs(&self, proofs: usize) {
        self.dpop_proofs.set(clamped(proofs));
    }

    /// Counts a look-up in the cache of verified tokens.
    pub fn token_cache_hit(&self) {
        self.token_cache_hits.inc();
    }

    /// Counts a look-up that found nothing.
    pub fn token_cache_miss(&self) {
        self.token_cache_misses.inc();
    }

    /// Counts a token that was to be introspected, and how long the issuer took where it was asked.
    pub fn introspected(&self, issuer: &str, result: &'static str, took: Option<Duration>) {
        self.introspections.with_label_values(&[issuer, result]).inc();
        if let Some(took) = took {
            self.introspection_duration.with_label_values(&[issuer]).observe(took.as_secs_f64());
        }
    }

    /// Counts an upgraded stream that was opened.
    pub fn stream_opened(&self) {
        self.streams.inc();
    }

    /// Counts the end of one; `end` is a member of a closed list.
    pub fn stream_ended(&self, end: &'static str) {
        self.streams.dec();
        self.streams_ended.with_label_values(&[end]).inc();
    }

    /// Counts a password that had to be hashed.
    pub fn password(&self, source: &str, result: &'static str) {
        self.passwords.with_label_values(&[source, result]).inc();
    }

    /// Says how many users are locked; to be called when the metrics are asked for.
    pub fn locked_users(&self, source: &str, users: usize) {
        self.locked_users.with_label_values(&[source]).set(clamped(users));
    }

    /// Notes that an issuer's keys were fetched: their age counts from here.
    pub fn keys_fetched(&self, issuer: &str, now: Now) {
        locked(&self.keys_fetched_ms).insert(issuer.into(), now.unix_ms);
    }

    /// Counts a reload that took effect.
    pub fn reloaded(&self, generation: u64, now: Now) {
        self.config_reloads.with_label_values(&["ok"]).inc();
        self.loaded(generation, now);
    }

    /// Says which configuration is in force, since when.
    pub fn loaded(&self, generation: u64, now: Now) {
        self.config_last_ok.set(1);
        self.config_last_success.set(clamped(now.unix_secs()));
        self.config_generation.set(clamped(generation));
    }

    /// Counts a reload that was refused.
    pub fn reload_refused(&self) {
        self.config_reloads.with_label_values(&["refused"]).inc();
        self.config_last_ok.set(0);
    }

    /// What the audit log counts.
    pub fn audit(&self) -> AuditMetrics {
        self.audit.clone()
    }

    /// What the authority, its store and the outbox count.
    pub fn authority(&self) -> AuthorityMetrics {
        self.authority.clone()
    }

    /// What account deletions count.
    pub fn erasure(&self) -> ErasureMetrics {
        self.erasure.clone()
    }

    /// The counter of access records that were dropped.
    pub fn access_log_dropped(&self) -> IntCounter {
        self.access_log_dropped.clone()
    }

    /// What is told of mirrors.
    pub fn mirror(&self) -> &MirrorMetrics {
        &self.mirror
    }

    /// The metrics of certificates that are ordered.
    pub fn acme(&self) -> &AcmeMetrics {
        &self.acme
    }

    /// What is told of overload.
    pub fn overload(&self) -> &OverloadMetrics {
        &self.overload
    }

    /// Takes what a new configuration no longer names out of the metrics, and puts its dangers in.
    pub fn retain(&self, names: &Names<'_>) {
        locked(&self.routes).retain(|route, metrics| {
            let kept = names.routes.contains(&**route) || &**route == NO_ROUTE;
            if !kept {
                metrics.retire();
            }
            kept
        });
        let keep = |label: &'static str, names: &HashSet<&str>| {
            let names: HashSet<String> = names.iter().map(|&name| name.to_owned()).collect();
            move |key: &str, value: &str| {
                let name = value.strip_suffix(OVER_UDP).unwrap_or(value);
                key != label || value == NO_ROUTE || value.is_empty() || names.contains(name) || names.contains(value)
            }
        };
        let route = keep("route", &names.routes);
        forget(&self.requests, &route);
        forget(&self.request_duration, &route);
        let upstream = keep("upstream", &names.upstreams);
        forget(&self.upstream_duration, &upstream);
        forget(&self.upstream_names_failing, &upstream);
        forget(&self.upstream_errors, &upstream);
        forget(&self.upstream_opened, &upstream);
        forget(&self.upstream_reused, &upstream);
        forget(&self.upstream_repeated, &upstream);
        forget(&self.upstream_ejections, &upstream);
        forget(&self.upstream_target_healthy, &upstream);
        forget(&self.upstream_under_way, &upstream);
        forget(&self.upstream_waiting, &upstream);
        forget(&self.erasure.steps, &upstream);
        forget(&self.mirror.requests, &upstream);
        let issuer = keep("issuer", &names.issuers);
        locked(&self.keys_fetched_ms).retain(|name, _| names.issuers.contains(&**name));
        forget(&self.token_verifications, &issuer);
        forget(&self.introspections, &issuer);
        forget(&self.introspection_duration, &issuer);
        forget(&self.jwks_age, &issuer);
        forget(&self.jwks_refreshes, &issuer);
        forget(&self.security_events, &issuer);
        let source = keep("source", &names.sources);
        forget(&self.passwords, &source);
        forget(&self.locked_users, &source);
        forget(&self.api_keys, &source);
        forget(&self.api_key_reads, &source);
        forget(&self.crl_next_update, &source);
        forget(&self.authority_reloads, &source);
        let limit = keep("limit", &names.limits);
        forget(&self.quota_rejections, &limit);
        forget(&self.quota_live_keys, &limit);
        let listener = keep("listener", &names.listeners);
        forget(&self.tls_handshakes, &listener);
        forget(&self.tls_not_after, &listener);
        forget(&self.connections, &listener);
        forget(&self.connections_accepted, &listener);
        forget(&self.connections_refused, &listener);
        let channel = keep("channel", &names.channels);
        forget(&self.authority.messages, &channel);
        forget(&self.authority.messages_waiting, &channel);
        forget(&self.danger, keep("key", &names.dangers));
        for danger in &names.dangers {
            self.danger.with_label_values(&[danger]).set(1);
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self, now: Now) -> Result<String, MetricsFault> {
        for (issuer, fetched_ms) in locked(&self.keys_fetched_ms).iter() {
            let age_secs = now.unix_ms.saturating_sub(*fetched_ms) / 1000;
            self.jwks_age.with_label_values(&[&**issuer]).set(clamped(age_secs));
        }
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// The reference of all metrics, as docs/metrics.md has it.
    pub fn reference() -> String {
        catalogue::reference()
    }
}

impl AuditMetrics {
    /// Counts records that were written.
    pub(super) fn written(&self, kind: &'static str) {
        self.records.with_label_values(&[kind]).inc();
    }

    /// Counts records that were not.
    pub(super) fn failed(&self, records: usize) {
        self.failures.inc_by(u64::try_from(records).unwrap_or(u64::MAX));
    }

    /// Counts an attempt without a valid principal.
    pub(super) fn unauthenticated(&self, reason: Reason) {
        self.unauthenticated.with_label_values(&[reason.name()]).inc();
    }

    /// Says whether the file can be written.
    pub(super) fn set_writable(&self, writable: bool) {
        self.writable.set(i64::from(writable));
    }
}

impl UpstreamMetrics {
    /// Counts an answer's head.
    pub fn answered(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a connection that was opened.
    pub fn opened(&self) {
        self.opened.inc();
    }

    /// Counts a request on a connection that was open already.
    pub fn reused(&self) {
        self.reused.inc();
    }

    /// Counts a request that is sent again; `reason` names a member of a closed list.
    pub fn repeated(&self, reason: &'static str) {
        self.repeated.with_label_values(&[&*self.name, reason]).inc();
    }

    /// Counts a target that is left out.
    pub fn ejected(&self) {
        self.ejections.inc();
    }

    /// Counts a request without a proper answer; `kind` names a member of a closed list.
    pub fn failed(&self, kind: &'static str) {
        self.errors.with_label_values(&[&*self.name, kind]).inc();
    }
}

impl ListenerMetrics {
    /// Counts a connection that was accepted.
    pub fn accepted(&self) {
        self.accepted.inc();
        self.open.inc();
    }

    /// Counts a connection that was accepted and has closed.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// Counts a connection that was not served; `reason` names a member of a closed list.
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[&*self.name, reason]).inc();
    }

    /// Counts a TLS handshake: `ok`, `failed` or `timeout`.
    pub fn handshake(&self, result: &'static str) {
        self.handshakes.with_label_values(&[&*self.name, result]).inc();
    }

    /// Says when a certificate expires; it is named by its file.
    pub fn certificate_not_after(&self, file: &str, unix_secs: i64) {
        self.not_after.with_label_values(&[&*self.name, file]).set(unix_secs);
    }
}

impl IssuerMetrics {
    /// Counts a token that was judged.
    pub fn verified(&self, result: Reason) {
        let counter = || self.verifications.with_label_values(&[&*self.name, result.name()]);
        match self.results.get(result as usize) {
            Some(known) => known.get_or_init(counter).inc(),
            None => counter().inc(),
        }
    }

    /// Counts a fetch of keys that succeeded.
    pub fn refreshed(&self) {
        self.refreshes.with_label_values(&[&*self.name, "ok"]).inc();
    }

    /// Counts a fetch of keys that failed.
    pub fn refresh_failed(&self) {
        self.refreshes.with_label_values(&[&*self.name, "failed"]).inc();
    }
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn counters(registry: &Registry, family: &Family) -> prometheus::Result<IntCounterVec> {
    let counters = IntCounterVec::new(opts(family), family.labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn counter(registry: &Registry, family: &Family) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::with_opts(opts(family))?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauges(registry: &Registry, family: &Family) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(opts(family), family.labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn gauge(registry: &Registry, family: &Family) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::with_opts(opts(family))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histograms(registry: &Registry, family: &Family) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(family.name, family.help).buckets(BUCKETS.into());
    let histograms = HistogramVec::new(opts, family.labels)?;
    registry.register(Box::new(histograms.clone()))?;
    Ok(histograms)
}

/// Removes the series that have a label which is not kept.
fn forget<B: MetricVecBuilder>(family: &MetricVec<B>, keep: impl Fn(&str, &str) -> bool) {
    for collected in family.collect() {
        for metric in collected.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
            if !labels.iter().all(|(key, value)| keep(key, value)) {
                // It fails only if the series is gone already.
                let _ = family.remove(&labels);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clamped(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::{
        fs,
        io::Write,
        path::Path,
        process::{Command, Stdio},
        time::Instant,
    };

    use http::Method;

    use super::*;

    fn now(unix_ms: u64) -> Now {
        Now { unix_ms, instant: Instant::now() }
    }

    fn busy() -> Metrics {
        let metrics = Metrics::new().unwrap();
        metrics.stream_opened();
        metrics.stream_ended("idle");
        metrics.route("/api/**").answered(&Method::GET, 200, Duration::from_millis(3));
        metrics.route("/api/**").answered(&Method::from_bytes(b"BREW").unwrap(), 999, Duration::ZERO);
        metrics.route(NO_ROUTE).answered(&Method::GET, 404, Duration::ZERO);
        metrics.decided(Reason::ClientGone);
        let upstream = metrics.upstream("api");
        upstream.answered(Duration::from_millis(2));
        upstream.opened();
        upstream.reused();
        upstream.failed("reset");
        upstream.repeated("stale");
        upstream.ejected();
        metrics.targets_healthy([("api", "127.0.0.1:80", true)].into_iter());
        metrics.upstream_load("api", Some((2, 1)));
        metrics.upstream_names_failing("api", 1);
        let issuer = metrics.issuer("main");
        issuer.verified(Reason::TokenExpired);
        issuer.refreshed();
        issuer.refresh_failed();
        metrics.keys_fetched("main", now(1_000));
        metrics.token_cache_hit();
        metrics.introspected("main", "active", Some(Duration::from_millis(3)));
        metrics.introspected("main", "busy", None);
        metrics.revocations("subject", 3);
        metrics.security_event("main", "logout", "applied");
        metrics.api_keys_read("scripts", Some(3));
        metrics.quota_rejections("per-user").inc();
        metrics.quota_live_keys("per-user", 7);
        metrics.crl_next_update("devices", Some(2_000_000_000));
        metrics.authorities_read("devices", true);
        let listener = metrics.listener("127.0.0.1:8443");
        listener.accepted();
        listener.refused("connections");
        listener.handshake("ok");
        listener.certificate_not_after("tls/server.pem", 2_000_000_000);
        metrics.reloaded(2, now(5_000));
        metrics.reload_refused();
        metrics.audit().written("intent");
        metrics.audit().unauthenticated(Reason::TokenMissing);
        let authority = metrics.authority();
        authority.ceremony(Some("totp"), "step_up", "proved");
        authority.ceremony(None, "request", "refused");
        authority.changed("hard_locked");
        authority.code_sent("email", false);
        authority.counts(7, 2);
        authority.store_fault();
        authority.committed(Duration::from_millis(4));
        authority.message("mail", "delivered");
        authority.messages_waiting("mail", 3);
        let erasure = metrics.erasure();
        erasure.known("account");
        erasure.happened("account", "requested");
        erasure.step("api", "retried");
        erasure.looked("account", "gone");
        erasure.untold();
        erasure.counts(&ErasureCounts {
            states: [(("removed", "held"), 1)].into(),
            holds: [("approval", 1)].into(),
            ..ErasureCounts::default()
        });
        erasure.counts(&ErasureCounts {
            states: [(("account", "held"), 5), (("account", "erased"), 2)].into(),
            holds: [("legal", 1)].into(),
            parked: 1,
            overdue: 3,
            unplaced: 4,
            frozen: 6,
            breaker: true,
        });
        metrics.password("people", "wrong");
        metrics.mirror().copied("api", "answered");
        metrics.overload().refused("client", "normal");
        metrics.overload().level(0, 3);
        metrics.overload().in_flight(7);
        metrics.acme().known(&["api.example"]);
        metrics.acme().ordered("api.example", true);
        metrics.locked_users("people", 3);
        let names = Names {
            routes: ["/api/**"].into(),
            upstreams: ["api"].into(),
            issuers: ["main"].into(),
            sources: ["people", "scripts", "devices"].into(),
            limits: ["per-user"].into(),
            channels: ["mail"].into(),
            listeners: ["127.0.0.1:8443"].into(),
            dangers: ["danger_disabled"].into(),
        };
        metrics.retain(&names);
        metrics
    }

    #[test]
    fn what_happened_is_rendered_under_its_labels() {
        let text = busy().render(now(61_000)).unwrap();
        for line in [
            r#"stepgate_requests_total{method="GET",route="/api/**",status="2xx"} 1"#,
            r#"stepgate_requests_total{method="OTHER",route="/api/**",status="5xx"} 1"#,
            r#"stepgate_requests_total{method="GET",route="(none)",status="4xx"} 1"#,
            r#"stepgate_request_duration_seconds_count{route="/api/**"} 2"#,
            r#"stepgate_decisions_total{reason="client_gone"} 1"#,
            r#"stepgate_passwords_total{result="wrong",source="people"} 1"#,
            r#"stepgate_locked_users{source="people"} 3"#,
            r#"stepgate_decisions_total{reason="allowed"} 0"#,
            r#"stepgate_jwks_age_seconds{issuer="main"} 60"#,
            r#"stepgate_token_verifications_total{issuer="main",result="token_expired"} 1"#,
            r#"stepgate_introspections_total{issuer="main",result="busy"} 1"#,
            r#"stepgate_introspection_duration_seconds_count{issuer="main"} 1"#,
            r#"stepgate_danger{key="danger_disabled"} 1"#,
            r#"stepgate_authority_ceremonies_total{factor="none",occasion="request",outcome="refused"} 1"#,
            r#"stepgate_authority_changes_total{change="hard_locked"} 1"#,
            r#"stepgate_authority_codes_total{factor="email",result="limited"} 1"#,
            "stepgate_authority_subjects 7",
            "stepgate_authority_elevations 2",
            "stepgate_store_faults_total 1",
            "stepgate_store_commit_duration_seconds_count 1",
            r#"stepgate_messages_total{channel="mail",result="delivered"} 1"#,
            r#"stepgate_messages_waiting{channel="mail"} 3"#,
            r#"stepgate_erasures{plan="account",state="held"} 5"#,
            r#"stepgate_erasure_holds{hold="legal"} 1"#,
            r#"stepgate_erasure_events_total{event="requested",plan="account"} 1"#,
            r#"stepgate_erasure_events_total{event="disputed",plan="account"} 0"#,
            r#"stepgate_erasure_probes_total{plan="account",seen="there"} 0"#,
            r#"stepgate_erasure_steps_total{outcome="retried",upstream="api"} 1"#,
            r#"stepgate_erasure_probes_total{plan="account",seen="gone"} 1"#,
            "stepgate_erasures_parked 1",
            "stepgate_erasures_overdue 3",
            "stepgate_erasure_evidence_unplaced 4",
            "stepgate_erasure_frozen_subjects 6",
            "stepgate_erasure_breaker_tripped 1",
            "stepgate_erasure_notices_lost_total 1",
            "stepgate_config_generation 2",
            "stepgate_config_last_reload_successful 0",
            "stepgate_audit_writable 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn counts_of_deletions_are_those_of_the_moment() {
        let text = busy().render(now(0)).unwrap();
        assert!(!text.contains("removed") && !text.contains(r#"hold="approval""#), "{text}");
    }

    #[test]
    fn every_metric_of_the_catalogue_appears_and_no_other() {
        let text = busy().render(now(61_000)).unwrap();
        let reference = Metrics::reference();
        let mut told: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut known: Vec<&str> =
            reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        if !cfg!(target_os = "linux") {
            known.retain(|name| !name.starts_with("process_"));
        }
        told.sort_unstable();
        known.sort_unstable();
        assert_eq!(told, known);
    }

    #[test]
    fn what_a_reload_takes_away_leaves_the_metrics_and_does_not_come_back() {
        let metrics = busy();
        let route = metrics.route("/api/**");
        metrics.retain(&Names::default());
        route.answered(&Method::POST, 200, Duration::ZERO);
        let text = metrics.render(now(0)).unwrap();
        for gone in [
            "/api/**",
            "\"api\"",
            "\"main\"",
            "\"people\"",
            "scripts",
            "per-user",
            "\"mail\"",
            "127.0.0.1:8443",
            "danger_disabled",
        ] {
            assert!(!text.contains(gone), "{gone} is still in\n{text}");
        }
        assert!(text.contains(NO_ROUTE));
    }

    #[test]
    fn the_reference_in_docs_is_the_registry() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        if std::env::var_os("STEPGATE_BLESS").is_some() {
            fs::write(&path, Metrics::reference()).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        if written != Metrics::reference() {
            panic!("docs/metrics.md is not what the registry says: run the tests once with STEPGATE_BLESS=1");
        }
    }

    #[test]
    fn names_keep_to_the_conventions_of_prometheus() {
        let text = busy().render(now(0)).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            assert!(!name.ends_with("_count") && !name.ends_with("_sum") && !name.ends_with("_bucket"), "{name}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        }
    }

    #[test]
    fn promtool_has_nothing_to_say_where_there_is_one() {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut promtool = match promtool.spawn() {
            Ok(promtool) => promtool,
            Err(error) => return eprintln!("promtool was not run: {error}"),
        };
        promtool.stdin.take().unwrap().write_all(busy().render(now(61_000)).unwrap().as_bytes()).unwrap();
        let said = promtool.wait_with_output().unwrap();
        let said = [said.stdout, said.stderr].concat();
        assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
