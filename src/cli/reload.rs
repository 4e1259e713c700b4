//! Reloading, all or nothing, and what the admin listener says and does.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    answers::sources,
    authority, erasures, load,
    named_files::{Holds, named_files},
    rekey, revocations,
};
use crate::{
    acme::{self, Acme},
    config::{
        ApiKeys, Config, CredentialKind, ListenerAddress, ListenerMode, MailProtection, Materials, Problem,
        RouteDeletion,
    },
    files::Look,
    identity::SourceReadiness,
    runtime::{Live, Services, Snapshot, tell_erasures},
    server::{AdminAnswer, AdminApi, AdminServer, AdminVisit, Server, ServerPlan, check_tls, make_self_signed},
    telemetry::metrics::Names,
};

/// How often the configuration and the files it names are looked at.
pub(crate) const POLL_PERIOD: Duration = Duration::from_secs(2);

/// What the admin listener and the reloader share.
pub(crate) struct Control {
    services: Arc<Services>,
    live: Live,
    asked: Notify,
    draining: AtomicBool,
}

impl Control {
    /// Control over a gateway.
    pub(crate) fn new(services: Arc<Services>, live: Live) -> Arc<Self> {
        Arc::new(Self { services, live, asked: Notify::new(), draining: AtomicBool::new(false) })
    }

    /// Resolves when somebody asks for a reload.
    pub(crate) async fn reload_asked(&self) {
        self.asked.notified().await;
    }

    /// Says that no more traffic should come.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Writes down what is kept in memory alone.
    pub(crate) fn write_down(&self) {
        self.live.load().authenticator.write_down();
    }

    /// Writes out what is left of the access log.
    pub(crate) fn close_access_log(&self) {
        self.live.load().access_log.close();
    }

    /// The state for `GET /status` and `/readyz`: no secrets, no addresses of clients.
    fn state(&self) -> (bool, Value) {
        let snapshot = self.live.load();
        let now = self.services.clock.now();
        let issuers = snapshot.authenticator.readiness(now);
        let audit = self.services.audit.is_writable();
        let draining = self.draining.load(Ordering::Relaxed);
        // An issuer whose keys have never been read makes this instance useless for its tokens; one that was lost since
        // is the same for every instance, and taking all of them away would take the other routes away as well. The same
        // holds for a full disk: only guarded operations need it.
        let has_had_keys = |issuer: &SourceReadiness| issuer.ready || issuer.age.is_some();
        let ready = !draining && issuers.iter().all(has_had_keys);
        let issuers: Vec<Value> = issuers
            .iter()
            .map(|issuer| {
                json!({"name": &*issuer.name, "ready": issuer.ready, "detail": issuer.detail, "keys": issuer.keys,
                    "age_secs": issuer.age.map(|age| age.as_secs()), "failures": issuer.failures})
            })
            .collect();
        let state = json!({
            "ready": ready,
            "draining": draining,
            "audit_writable": audit,
            "generation": snapshot.generation,
            "issuers": issuers,
        });
        (ready, state)
    }
}

impl AdminApi for Control {
    fn ready(&self) -> (bool, Value) {
        self.state()
    }

    fn metrics(&self) -> String {
        let snapshot = self.live.load();
        for (name, count) in snapshot.limiter.live_keys() {
            self.services.metrics.quota_live_keys(name, count);
        }
        for (kind, count) in self.services.revocations.counts() {
            self.services.metrics.revocations(kind.name(), count);
        }
        let sets: Vec<_> = snapshot.upstreams.services().map(|service| (service.name(), service.targets())).collect();
        let targets = sets.iter().flat_map(|(name, set)| set.iter().map(|one| (*name, one.authority(), !one.is_out())));
        self.services.metrics.targets_healthy(targets);
        for service in snapshot.upstreams.services() {
            self.services.metrics.upstream_load(service.name(), service.load());
            self.services.metrics.upstream_names_failing(service.name(), service.names_failing());
        }
        for (source, count) in snapshot.authenticator.locked_users(self.services.clock.now()) {
            self.services.metrics.locked_users(source, count);
        }
        if let Some(erasures) = &snapshot.erasures {
            let tally = erasures.counts(self.services.clock.now().unix_secs());
            tell_erasures(&self.services.metrics.erasure(), &tally, &erasures.breaker());
        }
        self.services.metrics.overload().in_flight(self.services.in_flight.total());
        self.services.metrics.dpop_proofs(snapshot.authenticator.remembered_proofs());
        self.services.metrics.render(self.services.clock.now()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written out");
            String::new()
        })
    }

    fn jwks(&self) -> Option<String> {
        Some(self.live.load().assertions.as_ref()?.jwks(self.services.clock.now()))
    }

    fn call(&self, method: &Method, path: &str, query: Option<&str>, body: Bytes) -> Option<AdminAnswer> {
        match (method.as_str(), path) {
            ("GET", "/status") => Some(AdminAnswer { status: StatusCode::OK, body: self.state().1 }),
            ("GET", "/routes") => Some(AdminAnswer { status: StatusCode::OK, body: routes(&self.live.load()) }),
            ("POST", "/reload") => {
                self.asked.notify_one();
                let body = json!({"status": "asked", "generation": self.live.load().generation});
                Some(AdminAnswer { status: StatusCode::ACCEPTED, body })
            }
            _ => {
                let (snapshot, now) = (self.live.load(), self.services.clock.now());
                let (config, call) = (&snapshot.config, (method, path, query));
                let handle = &self.services.issuers.handle;
                let (authority, erasures) = (snapshot.authority.as_ref(), snapshot.erasures.as_ref());
                let audit = &self.services.audit;
                revocations::api::call(&self.services.revocations, config, now, call, &body)
                    .or_else(|| authority::api::Operators { authority, config, handle, now }.call(call, &body))
                    .or_else(|| rekey::call(snapshot.state.as_ref(), (handle, now), call))
                    .or_else(|| erasures::api::Operators { erasures, config, audit, handle, now }.call(call, &body))
            }
        }
    }

    fn page(&self, visit: &AdminVisit<'_>) -> Option<Response<Bytes>> {
        page(self, visit)
    }
}

/// What the pages ask of the API is asked as a call would be.
fn page(control: &Control, visit: &AdminVisit<'_>) -> Option<Response<Bytes>> {
    let snapshot = control.live.load();
    snapshot.config.deletions.as_ref()?;
    let issuers: Vec<String> = sources(&snapshot.config).map(|(name, _)| name.to_string()).collect();
    let api = |method: &Method, path: &str, query: &str, body: &Value| {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        control.call(method, path, Some(query), body)
    };
    erasures::pages::page(visit, &issuers, &api)
}

fn routes(snapshot: &Snapshot) -> Value {
    let one = |route: &crate::runtime::CompiledRoute| {
        json!({"name": &*route.name, "path": route.pattern.as_str(), "upstream": route.backend(crate::runtime::Side::Own).map(|backend| &*backend.upstream.name),
            "auth": route.policy.issuers.iter().map(|issuer| &**issuer).collect::<Vec<_>>(),
            "guarded": route.policy.deletion.is_some()})
    };
    json!({"generation": snapshot.generation, "routes": snapshot.routes.iter().map(one).collect::<Vec<_>>()})
}

/// Takes new configurations, whole or not at all.
pub(crate) struct Reloader {
    file: PathBuf,
    materials: Arc<dyn Materials + Send + Sync>,
    services: Arc<Services>,
    live: Live,
    server: Arc<Server>,
    acme: Acme,
    control: Arc<Control>,
    seen: Vec<Seen>,
    refused: Option<Refused>,
}

/// A configuration that was not taken: tried again, since what was wrong may have been the moment, such as files that could
/// not be opened while too many were open.
#[derive(Debug)]
struct Refused {
    /// What was told.
    problems: String,
    again: Instant,
    pause: Duration,
}

/// The longest pause between two attempts at a configuration that was refused.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a file looked like before it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen(PathBuf, Look);

impl Seen {
    /// Looks at a file.
    pub(crate) fn look(path: PathBuf) -> Self {
        let look = Look::at(&path);
        Self(path, look)
    }

    /// Looks at the files that a configuration names, besides its own, which was looked at before it was read. Listeners' certificates
    /// and key sets are watched by those who use them.
    pub(crate) fn with_secrets(self, config: &Config) -> Vec<Self> {
        let named = named_files(config).into_iter().filter(|named| named.holds != Holds::ListenerKey);
        [self].into_iter().chain(named.map(|named| Self::look(named.path))).collect()
    }
}

impl Reloader {
    /// A reloader of the configuration in force, whose files looked like this before they were read: what has changed since
    /// is read again.
    pub(crate) fn new(
        file: PathBuf,
        materials: Arc<dyn Materials + Send + Sync>,
        services: Arc<Services>,
        live: Live,
        (server, acme): (Arc<Server>, Acme),
        control: Arc<Control>,
        seen: Vec<Seen>,
    ) -> Self {
        let reloader = Self { file, materials, services, live, server, acme, control, seen, refused: None };
        reloader.tell_loaded();
        let snapshot = reloader.live.load();
        reloader.services.metrics.loaded(snapshot.generation, reloader.services.clock.now());
        reloader
    }

    /// The listeners and the addresses that they really have.
    pub(crate) fn listeners(&self) -> Vec<(Arc<str>, ListenerAddress)> {
        let names = self
            .live
            .load()
            .config
            .listeners
            .iter()
            .map(|listener| listener.address.to_string().into())
            .collect::<Vec<Arc<str>>>();
        names.into_iter().zip(self.server.local_addresses()).collect()
    }

    /// What the admin listener shares.
    pub(crate) fn control(&self) -> Arc<Control> {
        self.control.clone()
    }

    /// Notified when a worker has failed.
    pub(crate) fn server_failed(&self) -> Arc<Notify> {
        self.server.failed()
    }

    /// How long a drain may take by the configuration in force.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.live.load().config.server.drain_timeout
    }

    /// The server.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Who orders certificates.
    pub(crate) fn acme(&self) -> &Acme {
        &self.acme
    }

    /// The configuration in force.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.live.load()
    }

    /// Gives up the server, for draining it.
    pub(crate) fn into_server(self) -> Option<Server> {
        Arc::into_inner(self.server)
    }

    /// Reloads if the configuration, or a secret that it names, has changed.
    pub(crate) fn reload_if_changed(&mut self, admin: &AdminServer) {
        if self.look() != self.seen {
            self.reload(admin);
        } else if self.refused.as_ref().is_some_and(|refused| refused.again <= self.services.clock.instant()) {
            self.attempt(admin);
        }
    }

    /// Reloads now.
    pub(crate) fn reload(&mut self, admin: &AdminServer) {
        self.server.refresh_certificates();
        self.live.load().access_log.reopen();
        self.refused = None;
        self.attempt(admin);
    }

    /// Tries to take what the files say; a fault that was told is not told again.
    fn attempt(&mut self, admin: &AdminServer) {
        // Looked at before it is read: what changes meanwhile is read again next time.
        self.seen = self.look();
        match self.take(admin) {
            Ok((generation, seen)) => {
                self.seen = seen;
                self.refused = None;
                self.tell_loaded();
                self.services.metrics.reloaded(generation, self.services.clock.now());
                tracing::info!(generation, "configuration reloaded");
            }
            Err(problems) => {
                let before = self.refused.take();
                if before.as_ref().is_none_or(|before| before.problems != problems) {
                    self.services.metrics.reload_refused();
                    tracing::error!(problems, "configuration not reloaded: the old one stays in force");
                }
                let pause = before.map_or(POLL_PERIOD, |before| before.pause.saturating_mul(2).min(LONGEST_PAUSE));
                self.refused = Some(Refused { problems, again: self.services.clock.instant() + pause, pause });
            }
        }
    }

    fn take(&self, admin: &AdminServer) -> Result<(u64, Vec<Seen>), String> {
        let seen = Seen::look(self.file.clone());
        let loaded = load::load(&self.file, &*self.materials).map_err(|fault| match fault {
            load::LoadFault::Unreadable(file, why) => format!("reading {}: {why}", file.display()),
            load::LoadFault::Refused(problems) => problems.to_string(),
        })?;
        // All that it names is read from here on.
        let seen = seen.with_secrets(&loaded.config);
        let report = |found: Vec<Problem>| loaded.report(found).to_string();
        let before = self.live.load();
        let fixed = needs_restart(&before.config, &loaded.config);
        if !fixed.is_empty() {
            return Err(report(fixed));
        }
        make_self_signed(&loaded.config).map_err(|error| format!("making a self-signed certificate: {error}"))?;
        let tls = check_tls(&loaded.config);
        if !tls.is_empty() {
            return Err(report(tls));
        }
        let token = loaded.config.admin.token.as_ref().map(|source| self.materials.secret(source)).transpose();
        let token = token.map_err(|problem| report(vec![problem]))?;
        let plan = ServerPlan::new(&loaded.config);
        let snapshot =
            Snapshot::compile(loaded.config.clone(), &*self.materials, &self.services.means(), Some(&before))
                .map_err(report)?;
        let prepared = self.server.prepare(&plan).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        })?;
        let acme = acme::prepare(loaded.config.acme.as_ref(), &*self.materials, &self.services.issuers.roots);
        let acme = acme.map_err(report)?;
        // From here on nothing can fail.
        let generation = snapshot.generation;
        self.live.swap(snapshot);
        self.server.apply(prepared);
        self.acme.apply(acme);
        admin.set_token(token);
        Ok((generation, seen))
    }

    /// Makes the metrics speak of what is configured, and of nothing else.
    fn tell_loaded(&self) {
        let snapshot = self.live.load();
        let config = &snapshot.config;
        for plan in config.deletions.iter().flat_map(|deletions| &deletions.plans) {
            self.services.metrics.erasure().known(&plan.name);
        }
        let addresses: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        let admin = config.admin.address.to_string();
        self.services.metrics.retain(&Names {
            routes: snapshot.routes.iter().map(|route| &*route.name).collect(),
            upstreams: config.upstreams.iter().map(|upstream| &*upstream.name).collect(),
            issuers: config.issuers.iter().map(|issuer| &*issuer.name).chain([""]).collect(),
            sources: config.credentials.iter().map(|source| &*source.name).collect(),
            limits: snapshot.limiter.live_keys().map(|(name, _)| name).collect(),
            channels: config
                .notify
                .iter()
                .flat_map(|it| it.webhooks.iter().map(|hook| &*hook.name).chain(["mail"]))
                .collect(),
            listeners: addresses.iter().map(String::as_str).chain([&*admin]).collect(),
            dangers: dangers(config),
        });
    }

    /// The configuration and the secrets that it names.
    fn look(&self) -> Vec<Seen> {
        Seen::look(self.file.clone()).with_secrets(&self.live.load().config)
    }
}

/// Changes that cannot be made while running.
fn needs_restart(before: &Config, after: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut fixed = |same: bool, key: &str| {
        if !same {
            let span = crate::config::Span { key: key.into(), ..Default::default() };
            found.push(
                Problem::error(&span, format!("`{key}` cannot change while the gateway runs")).with_help("restart it"),
            );
        }
    };
    fixed(before.server.workers == after.server.workers, "server.workers");
    fixed(before.server.state_dir == after.server.state_dir, "server.state_dir");
    fixed(before.audit.file.path == after.audit.file.path, "audit.file");
    fixed(before.audit.head_interval == after.audit.head_interval, "audit.head_interval");
    fixed(before.admin.address == after.admin.address, "admin.address");
    found
}

/// The `danger_` keys that are set.
fn dangers(config: &Config) -> std::collections::HashSet<&'static str> {
    let unguarded = config
        .routes
        .iter()
        .any(|route| matches!(route.deletion, RouteDeletion::Unguarded) && config.deletion_guard.enabled);
    let self_signed = config.listeners.iter().any(|listener| match &listener.mode {
        ListenerMode::Tls(tls) => tls.self_signed,
        ListenerMode::RedirectToHttps(_) | ListenerMode::Cleartext => false,
    });
    let kinds = || config.credentials.iter().map(|source| &source.kind);
    let passwords_cleartext = kinds().filter_map(CredentialKind::basic).any(|basic| basic.danger_cleartext);
    let authority_cleartext = config.authority.as_ref().is_some_and(|authority| authority.danger_cleartext);
    let keys = |is_set: fn(&ApiKeys) -> bool| kinds().filter_map(CredentialKind::api_keys).any(is_set);
    let mail = config.notify.iter().filter_map(|notify| notify.mail.as_ref());
    let mail_cleartext = mail.map(|mail| mail.server.protection).any(|it| it == MailProtection::Cleartext);
    let deletions_cleartext = config.deletions.as_ref().is_some_and(|deletions| deletions.danger_cleartext);
    let in_clear = authority_cleartext || passwords_cleartext || mail_cleartext || deletions_cleartext;
    let expired_crl = kinds().filter_map(CredentialKind::client_certificates).any(|source| source.danger_expired_crl);
    let set = [
        (in_clear || keys(|keys| keys.danger_cleartext), "danger_cleartext"),
        (self_signed, "danger_self_signed"),
        (keys(|keys| keys.danger_query.is_some()), "danger_query"),
        (!config.deletion_guard.enabled, "danger_disabled"),
        (unguarded, "danger_unguarded_deletion"),
        (expired_crl, "danger_expired_crl"),
    ];
    set.into_iter().filter_map(|(is_set, key)| is_set.then_some(key)).collect()
}
