//! The services behind, compiled: what all workers share, and what stays warm when the configuration is read again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use tokio::runtime::Handle;

use super::{
    careful::is_plain,
    check::{self, Checking},
    gate::Gate,
    retry_budget::RetryBudget,
    target::{Link, Target},
    target_set::{Member, Published, TargetSet},
    tls::Trust,
};
use crate::{
    client,
    config::{self, Materials, Problem, UpstreamHost},
};

/// What is longer than a year is for ever, and can be added to any instant.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Every service of a configuration.
#[derive(Debug, Default)]
pub struct Upstreams {
    services: HashMap<Arc<str>, Arc<Service>>,
}

/// A service behind the gateway.
#[derive(Debug)]
pub struct Service {
    /// Tells services apart in the workers' pools; never used twice in a process.
    pub(super) id: u64,
    config: Arc<config::Upstream>,
    targets: Published,
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
        if problems.is_empty() { Ok(Self { services }) } else { Err(problems) }
    }

    /// Has the rules of this configuration hold, and targets asked whether they are well, on the runtime of background work.
    pub fn put_in_force(&self, background: &Handle) {
        for service in self.services.values() {
            service.shared.gate.set(service.config.balancing.concurrency.as_ref());
            check::put_in_force(service, background);
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
        let known = before.map(Self::targets);
        let known = known.as_deref().map_or(&[][..], |set| &set.targets);
        let link = Link {
            protocol: upstream.protocol,
            introduction: upstream.proxy_protocol,
            server_name: upstream.tls.server_name.clone(),
        };
        let mut targets = Vec::with_capacity(upstream.targets.len());
        for config in &upstream.targets {
            let trust = trust.as_ref().filter(|_| config.address.tls);
            if config.address.tls && trust.is_none() {
                continue; // said already; and without trust there is no TLS, and without TLS no such target
            }
            let target = match known.iter().find(|target| target.is_same(config, &link, trust)) {
                Some(member) => Ok(Arc::clone(&member.target)),
                None => Target::compile(config, &link, trust, &upstream.span).map(Arc::new),
            };
            match target {
                Ok(target) => targets.push(Member { target, weight: config.weight }),
                Err(problem) => problems.push(problem),
            }
        }
        if targets.is_empty() && problems.is_empty() {
            problems.push(Problem::error(&upstream.span, "the upstream has no targets"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let default_host = targets.first().map_or("", |target| target.authority()).into();
        Ok(Self {
            id: next_id(),
            config: Arc::clone(upstream),
            targets: Published::new(targets),
            default_host,
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
    #[cfg_attr(not(test), expect(dead_code, reason = "what a name server says is published"))]
    pub(super) fn publish(&self, targets: Vec<Member>) {
        self.targets.replace(targets);
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
