//! The services behind, compiled: what all workers share, and what stays warm when the configuration is read again.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    careful::is_plain,
    check::{self, Checking},
    discovery::{self, Named, Source},
    fault::{ConnectFault, UpstreamFault},
    gate::Gate,
    resolver::Resolver,
    retry_budget::RetryBudget,
    target::{Link, Target},
    target_set::{Member, Published, TargetSet},
    tls::Trust,
};
use crate::{
    client,
    config::{self, Dns, Materials, Problem, Reach, UpstreamHost},
};

/// What is longer than a year is for ever, and can be added to any instant.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Every service of a configuration.
#[derive(Debug, Default)]
pub struct Upstreams {
    services: HashMap<Arc<str>, Arc<Service>>,
    /// Who is asked for names; kept over reloads, and with it what is being asked.
    resolver: Arc<Mutex<Option<Arc<Resolver>>>>,
}

/// A service behind the gateway.
#[derive(Debug)]
pub struct Service {
    /// Tells services apart in the workers' pools; never used twice in a process.
    pub(super) id: u64,
    config: Arc<config::Upstream>,
    targets: Published,
    /// Where they come from.
    sources: Vec<Source>,
    /// Whether all names of its targets have been asked for.
    looked: watch::Sender<bool>,
    /// What stands for the first target where a name is needed before one is chosen.
    default_host: Box<str>,
    credential: Option<(HeaderName, HeaderValue)>,
    shared: Arc<Shared>,
    is_plain: bool,
}

/// What all workers share of a service and what stays over reloads, by the service's name.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How many requests are under way.
    pub(super) gate: Arc<Gate>,
    /// How many may be sent again.
    pub(super) retry_budget: RetryBudget,
    /// Who asks targets whether they are well.
    pub(super) checking: Mutex<Option<Checking>>,
}

impl Upstreams {
    /// Makes the services ready. Targets that did not change are taken over from `previous`, with their health and all
    /// that the workers keep for them.
    ///
    /// # Errors
    /// Every problem that was found: unreadable files, unusable certificates, credentials that fit into no header.
    pub fn compile(
        upstreams: &[Arc<config::Upstream>],
        materials: &dyn Materials,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let mut trusts: Vec<Arc<Trust>> = previous
            .into_iter()
            .flat_map(Self::targets)
            .filter_map(|target| target.tls.as_ref().map(|tls| Arc::clone(&tls.trust)))
            .collect();
        let mut services = HashMap::with_capacity(upstreams.len());
        let mut problems = Vec::new();
        for upstream in upstreams {
            let before = previous.and_then(|previous| previous.get(&upstream.name));
            match Service::compile(upstream, materials, before.as_deref(), &mut trusts) {
                Ok(service) => {
                    services.insert(Arc::clone(&upstream.name), Arc::new(service));
                }
                Err(found) => problems.extend(found),
            }
        }
        let resolver = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.resolver));
        if problems.is_empty() { Ok(Self { services, resolver }) } else { Err(problems) }
    }

    /// Has the rules of this configuration hold, names resolved, and targets asked whether they are well, on the runtime of
    /// background work.
    pub fn put_in_force(&self, background: &Handle, dns: &Dns) {
        let resolver = self.resolver(dns);
        for service in self.services.values() {
            discovery::put_in_force(service, background, &resolver);
            service.shared.gate.set(service.config.balancing.concurrency.as_ref());
            check::put_in_force(service, background);
        }
    }

    fn resolver(&self, dns: &Dns) -> Arc<Resolver> {
        let mut resolver = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        match &*resolver {
            Some(same) if same.asks(dns) => Arc::clone(same),
            Some(_) | None => Arc::clone(resolver.insert(Resolver::new(dns))),
        }
    }

    /// The service of this name. Looked up when routes are compiled, not when requests come.
    pub fn get(&self, name: &str) -> Option<Arc<Service>> {
        self.services.get(name).cloned()
    }

    /// Every service, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    fn targets(&self) -> impl Iterator<Item = Arc<Target>> {
        self.services
            .values()
            .flat_map(|service| service.targets().iter().map(|member| Arc::clone(&member.target)).collect::<Vec<_>>())
    }
}

impl Shared {
    fn first(upstream: &config::Upstream) -> Arc<Self> {
        let shared = Self::default();
        shared.gate.set(upstream.balancing.concurrency.as_ref());
        Arc::new(shared)
    }
}

impl Service {
    fn compile(
        upstream: &Arc<config::Upstream>,
        materials: &dyn Materials,
        before: Option<&Self>,
        trusts: &mut Vec<Arc<Trust>>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let credential = client::credential(upstream, materials).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let trust = trust(upstream, materials, trusts).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        // Of this service alone: what another asks of the same target is the other's affair.
        let sources_before = before.map_or(&[][..], |before| &before.sources);
        let known = before.map(Self::targets);
        let known = known.as_deref().map_or(&[][..], |set| &set.targets);
        let link = Link {
            protocol: upstream.protocol,
            introduction: upstream.proxy_protocol,
            server_name: upstream.tls.server_name.clone(),
        };
        let mut sources = Vec::with_capacity(upstream.targets.len());
        for config in &upstream.targets {
            let trust = trust.as_ref().filter(|_| config.address.tls);
            if config.address.tls && trust.is_none() {
                continue; // said already; and without trust there is no TLS, and without TLS no such target
            }
            if matches!(config.reach, Reach::EachAddress | Reach::Services(_)) {
                match Target::compile(config, &link, trust, &upstream.span) {
                    Ok(prototype) => {
                        let named = Named::new(prototype, config.weight, sources_before);
                        sources.push(Source::Named(Arc::new(named)));
                    }
                    Err(problem) => problems.push(problem),
                }
                continue;
            }
            let target = match known.iter().find(|target| target.is_same(config, &link, trust)) {
                Some(member) => Ok(Arc::clone(&member.target)),
                None => Target::compile(config, &link, trust, &upstream.span).map(Arc::new),
            };
            match target {
                Ok(target) => sources.push(Source::Fixed(Member { target, weight: config.weight, priority: 0 })),
                Err(problem) => problems.push(problem),
            }
        }
        if sources.is_empty() && problems.is_empty() {
            problems.push(Problem::error(&upstream.span, "the upstream has no targets"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let targets = discovery::members(&sources, known);
        let looked = sources.iter().filter_map(Source::named).all(|named| named.is_known());
        let default_host = upstream.targets.first().map_or_else(String::new, |first| {
            let config::Target { host, port, .. } = &first.address;
            format!("{host}:{port}")
        });
        Ok(Self {
            id: next_id(),
            config: Arc::clone(upstream),
            targets: Published::new(targets),
            sources,
            looked: watch::Sender::new(looked),
            default_host: default_host.into(),
            credential,
            shared: before.map_or_else(|| Shared::first(upstream), |before| Arc::clone(&before.shared)),
            is_plain: is_plain(upstream.request_timeout, &upstream.balancing),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What the configuration says of it.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// The header that carries the gateway's own credential, to be put in the place of the caller's.
    pub fn credential(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.credential.as_ref()
    }

    /// Its targets at the moment.
    pub fn targets(&self) -> Arc<TargetSet> {
        self.targets.load()
    }

    /// What stays over reloads.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// How many requests are under way, and how many wait; `None` where there is no bound.
    pub fn load(&self) -> Option<(usize, usize)> {
        self.config.balancing.concurrency.as_ref().map(|_| self.shared.gate.load())
    }

    /// Whether to a single target a request is just sent.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The number of the set of targets in force.
    pub(super) fn generation(&self) -> u64 {
        self.targets.generation()
    }

    /// Puts other targets in the place of those before, for all workers. What is under way ends where it began.
    pub(super) fn publish(&self, targets: Vec<Member>) {
        self.targets.replace(targets);
        if self.sources.iter().filter_map(Source::named).all(|named| named.is_known()) {
            self.looked.send_replace(true);
        }
    }

    /// Where its targets come from.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Whether all names of its targets have been asked for; until then there may be targets that are not known.
    pub(super) fn has_looked(&self) -> bool {
        *self.looked.borrow()
    }

    /// Waits until all names of its targets have been asked for.
    pub(super) async fn look(&self, deadline: Instant) {
        // Nobody is there to say more only where the service itself is gone.
        drop(timeout_at(deadline, self.looked.subscribe().wait_for(|looked| *looked)).await);
    }

    /// How many names of its targets were last asked for in vain.
    pub fn names_failing(&self) -> usize {
        let failing = |source: &&Source| match source {
            Source::Named(named) => named.is_failing(),
            Source::Fixed(member) => member.target.is_name_failing(),
        };
        self.sources.iter().filter(failing).count()
    }

    /// That there is nowhere to send a request to.
    pub(super) fn nowhere(&self) -> UpstreamFault {
        let why = io::Error::new(io::ErrorKind::NotFound, "the names of its targets have no address");
        UpstreamFault::Unreachable { target: self.default_host.to_string(), source: ConnectFault::Resolve(why) }
    }

    /// What stands for its `Host` where neither the client nor the configuration says one.
    pub fn default_host(&self) -> &str {
        &self.default_host
    }

    /// How long the head of an answer may take.
    pub(super) fn response_timeout(&self) -> Duration {
        self.config.response_timeout.min(LONGEST_TIMEOUT)
    }

    /// How long a connection may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.config.connect_timeout.min(LONGEST_TIMEOUT)
    }

    /// Whether connections to it say for whom they are, and so serve one request each.
    pub fn introduces(&self) -> bool {
        self.config.proxy_protocol.is_some()
    }

    /// Whether targets are told their own name as `Host`.
    pub(super) fn names_target_as_host(&self) -> bool {
        self.config.host == UpstreamHost::Target
    }
}

/// The certificates that vouch for a service's https targets, if it has any.
fn trust(
    upstream: &config::Upstream,
    materials: &dyn Materials,
    trusts: &mut Vec<Arc<Trust>>,
) -> Result<Option<Arc<Trust>>, Problem> {
    let (ca, own) = (upstream.ca.as_ref(), upstream.tls.certificate.as_ref());
    // Read even where no target needs it: a file that is named must be right.
    if ca.is_none() && own.is_none() && !upstream.targets.iter().any(|target| target.address.tls) {
        return Ok(None);
    }
    let trust = Trust::new(ca, own, &upstream.span, materials, trusts)?;
    trusts.push(Arc::clone(&trust));
    Ok(Some(trust))
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
