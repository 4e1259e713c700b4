//! A configuration, compiled: everything that a request needs, resolved and ready. Immutable; a request keeps the one
//! that it began with.

use std::{collections::HashMap, sync::Arc, time::Instant};

use http::Method;

use super::{AuthorityTeller, Backend, CompiledShaping, Erasing, Goal, RevokedSessions, Side, erasing::Own};
use crate::{
    assertion::Assertions,
    authority::{Authority, AuthorityMeans, AuthorityObserver, accounts::SessionEnds},
    config::{
        self, Auth, Config, DeletionPlan, Limit, LimitKey, Materials, Priority, Problem, Rewrite, RouteDeletion,
        Upgrades,
    },
    erasure::{ErasureMeans, Erasures, OwnData, none_left},
    identity::{Accepted, Authenticator, SourceServices},
    limit::{Holders, InFlight, Quota, RateLimiter},
    notify::NotifyObserver,
    policy::{AccessPolicy, Condition, IssuerName, Requirement},
    route::{Entry, NormalPath, PathPattern, RouteTable, overlap::overlaps},
    state::{State, StateMeans, StateObserver},
    store::StoreFault,
    telemetry::{AccessLog, Metrics, RouteMetrics, access::AccessSink},
    upstream::Upstreams,
};

/// Everything that requests need.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts configurations, from 1.
    pub generation: u64,
    /// What it was compiled from.
    pub config: Config,
    /// Which route a request is for; the numbers are places in `routes`.
    pub table: RouteTable,
    /// The routes.
    pub routes: Vec<CompiledRoute>,
    /// The operations under the deletion guard; empty where it is off.
    pub guarded: Vec<GuardedOperation>,
    /// Account deletions; `None` where there is no plan, and where a configuration is only looked at.
    pub erasures: Option<Arc<Erasures>>,
    /// The deletion plans.
    pub plans: Vec<CompiledPlan>,
    /// Where deletions are seen, cancelled and approved.
    pub erasure_endpoint: Option<ErasureEndpoint>,
    /// Where providers report what ended.
    pub events: Vec<EventEndpoint>,
    /// Who may vouch for a caller.
    pub authenticator: Arc<Authenticator>,
    /// What is durable; `None` where nothing is kept, and where a configuration is only looked at.
    pub state: Option<Arc<State>>,
    /// The second-factor authority; `None` where there is none, and where a configuration is only looked at.
    pub authority: Option<Arc<Authority>>,
    /// Where deletions find what the gateway itself has of people.
    own: Option<Arc<Own>>,
    /// Where its endpoints are.
    pub authority_endpoint: Option<AuthorityEndpoint>,
    /// How upstreams are told of callers in a way that they can verify.
    pub assertions: Option<Arc<Assertions>>,
    /// All quotas.
    pub limiter: Arc<RateLimiter>,
    /// The services behind.
    pub upstreams: Arc<Upstreams>,
    /// The runtime of background work.
    background: tokio::runtime::Handle,
    /// The issuers' identifiers, for challenges and metadata.
    pub authorization_servers: Vec<Arc<str>>,
    /// All scopes that routes ask for, for the metadata.
    pub scopes: Vec<Arc<str>>,
    /// Fields that no client sends in trailers, folded: a service that reads them as headers would take them for the gateway's word.
    pub withheld_trailers: Arc<Vec<Arc<str>>>,
    /// Whether any service honours a method override.
    pub honours_overrides: bool,
    /// Whether pages of other origins may ask on any route.
    pub has_cors: bool,
    /// The requests in flight, whatever configuration they began with.
    pub in_flight: Arc<InFlight>,
    /// Who holds those of them that are for the gateway itself.
    pub own_holders: Holders,
    /// Where requests are recorded.
    pub access_log: Arc<AccessLog>,
}

/// Where a provider reports what ended, compiled.
#[derive(Debug)]
pub struct EventEndpoint {
    /// Its path, in normal form.
    pub path: Arc<str>,
    /// The issuer that it is for.
    pub issuer: IssuerName,
    /// How many an address may send.
    pub quota: Arc<Quota>,
}

/// The authority's endpoints, compiled.
#[derive(Debug)]
pub struct AuthorityEndpoint {
    /// The path, in normal form, below which they are.
    pub path: Arc<str>,
    /// How many calls an address may send.
    pub quota: Arc<Quota>,
    /// Whose credentials are looked at.
    pub accepted: Accepted,
    /// What is asked of a call that carries one.
    pub policy: AccessPolicy,
}

/// A route, compiled.
#[derive(Debug)]
pub struct CompiledRoute {
    /// Its place in the list.
    pub number: usize,
    /// Its name in records.
    pub name: Arc<str>,
    /// Its path.
    pub pattern: PathPattern,
    /// What it asks of a request.
    pub policy: AccessPolicy,
    /// Whose credentials it takes.
    pub accepted: Accepted,
    /// Where it goes.
    pub goal: Goal,
    /// What it does besides passing requests on; `None` for most.
    pub shaping: Option<Box<CompiledShaping>>,
    /// How connections are switched to WebSocket; `None`: they are not.
    pub upgrades: Option<Upgrades>,
    /// Whether gRPC-Web becomes gRPC on its way.
    pub translates_grpc_web: bool,
    /// What changes in the path.
    pub rewrite: Option<Rewrite>,
    /// Quotas by address, which come before any cryptography.
    pub early_quotas: Vec<Arc<Quota>>,
    /// The others, which count only what the policy allows.
    pub late_quotas: Vec<Arc<Quota>>,
    /// The quota of guarded operations here, in place of the operations' own.
    pub deletion_quota: Option<Arc<Quota>>,
    /// Who is refused first under overload.
    pub priority: Priority,
    /// Who holds its requests in flight.
    pub holders: Holders,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
}

/// An operation under the deletion guard, compiled.
#[derive(Debug)]
pub struct GuardedOperation {
    /// As written.
    pub text: Arc<str>,
    /// The method; `None`: any.
    pub method: Option<Method>,
    /// The path, matched folded.
    pub path: PathPattern,
    /// Its quota.
    pub quota: Option<Arc<Quota>>,
}

/// A deletion plan, compiled: the requests that it takes over.
#[derive(Debug)]
pub struct CompiledPlan {
    /// What it was compiled from.
    pub plan: Arc<DeletionPlan>,
    /// Its quota.
    pub quota: Arc<Quota>,
    /// The proof that it needs, by the route's number. A route that is not there is none that it can be asked for on.
    pub requirements: HashMap<usize, Requirement>,
    /// What is asked of whoever cancels.
    pub cancelling: AccessPolicy,
    /// What is asked of whoever approves: the same proof as of whoever asks.
    pub approving: AccessPolicy,
}

/// Where deletions are seen, cancelled and approved, compiled.
#[derive(Debug)]
pub struct ErasureEndpoint {
    /// The path, in normal form, below which they are.
    pub path: Arc<str>,
    /// How many calls an address may send.
    pub quota: Arc<Quota>,
    /// Whose credentials are looked at.
    pub accepted: Accepted,
    /// What is asked of a call that carries one.
    pub policy: AccessPolicy,
    /// What is asked of whoever cancels or approves a deletion whose plan is not there any more.
    pub acting: AccessPolicy,
}

impl GuardedOperation {
    /// Whether one of these methods is the operation's. GET includes HEAD.
    pub fn covers(&self, methods: [&Method; 2]) -> bool {
        let Some(own) = &self.method else { return true };
        methods.iter().any(|method| *method == own || (*own == Method::GET && **method == Method::HEAD))
    }
}

impl CompiledRoute {
    /// The service that a request is sent to on one of its sides; `None` where it is redirected.
    pub fn backend(&self, side: Side) -> Option<&Backend> {
        let own = match &self.goal {
            Goal::Backend(backend) => Some(backend),
            Goal::Redirect(_) => None,
        };
        match side {
            Side::Own => own,
            Side::Canary => self.shaping.as_ref().and_then(|shaping| shaping.canary.as_ref()).or(own),
        }
    }

    /// Every service that a request, or a copy of it, may be sent to.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let others = self.shaping.iter().flat_map(|shaping| shaping.canary.iter().chain(&shaping.mirror));
        self.backend(Side::Own).into_iter().chain(others)
    }

    /// Whether both may go to the same service: by the same name, or by two names of one address.
    pub fn is_beside(&self, other: &Self) -> bool {
        let is_same = |one: &config::Upstream, two: &config::Upstream| {
            one.name == two.name
                || one.targets.iter().any(|target| {
                    two.targets.iter().any(|same| same.address == target.address && same.is_beside(target))
                })
        };
        self.backends().any(|one| other.backends().any(|two| is_same(&one.upstream, &two.upstream)))
    }

    /// Whether requests go where those of another route go.
    pub fn goes_where(&self, other: &Self) -> bool {
        let own = |route: &Self| route.backend(Side::Own).map(|backend| backend.upstream.name.clone());
        own(self) == own(other)
    }

    /// Whether a request here needs a token.
    pub fn asks_for_token(&self, guarded: bool) -> bool {
        !self.policy.issuers.is_empty() || (guarded && self.policy.deletion.is_some())
    }
}

/// What compiling needs besides the configuration.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// What issuers need for fetching keys.
    pub issuers: &'a SourceServices,
    /// The metrics that routes count in.
    pub metrics: &'a Metrics,
    /// The requests in flight.
    pub in_flight: &'a Arc<InFlight>,
    /// Who hears what the authority does, and what deletions need; `None` where a configuration is only looked at, beside a gateway
    /// that runs: then no durable state is opened.
    pub keeping: Option<(&'a Arc<AuthorityTeller>, &'a Erasing)>,
}

impl Snapshot {
    /// Compiles a configuration; what did not change since `previous` keeps its state.
    pub fn compile(
        config: Config,
        materials: &dyn Materials,
        means: &Means<'_>,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let authenticator = Authenticator::compile(
            &config,
            materials,
            means.issuers,
            previous.map(|previous| &*previous.authenticator),
        )
        .map_err(|found| problems.extend(found));
        let upstreams = Upstreams::compile(&config.upstreams, materials, previous.map(|previous| &*previous.upstreams))
            .map_err(|found| problems.extend(found));
        let limiter = RateLimiter::compile(&all_limits(&config), previous.map(|previous| &*previous.limiter));
        let access_log = access_log(&config, means, previous).map_err(|problem| problems.push(problem));
        let assertions = assertions(&config, materials, means, previous).map_err(|problem| problems.push(problem));
        let kept = kept(&config, materials, means, previous).map_err(|found| problems.extend(found));
        let (Ok(authenticator), Ok(upstreams), Ok(access_log), Ok(assertions), Ok(kept)) =
            (authenticator, upstreams, access_log, assertions, kept)
        else {
            return Err(problems);
        };
        let mut routes = Vec::with_capacity(config.routes.len());
        for (number, route) in config.routes.iter().enumerate() {
            // A redirect holds nothing of an upstream: it counts as one of its own, by a name that no upstream can have.
            let redirect: Arc<str> = "(redirect)".into();
            let upstream = route.upstream().map_or(&redirect, |upstream| &upstream.name);
            let holders = means.in_flight.holders(&route.name, upstream);
            match compile_route((number, route), holders, (&authenticator, &limiter, &upstreams), means.metrics) {
                Ok(route) => routes.push(route),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let entries: Vec<Entry> = config
            .routes
            .iter()
            .map(|route| Entry { path: route.path.clone(), hosts: route.hosts.clone(), methods: route.methods.clone() })
            .collect();
        Ok(Self {
            generation: previous.map_or(1, |previous| previous.generation + 1),
            table: RouteTable::build(&entries),
            routes,
            guarded: guarded(&config, &limiter),
            plans: plans(&config, &limiter)?,
            erasure_endpoint: erasure_endpoint(&config, &limiter, &authenticator)?,
            events: events(&config, &limiter)?,
            authority_endpoint: authority_endpoint(&config, &limiter, &authenticator)?,
            state: kept.state,
            authority: kept.authority,
            erasures: kept.erasures,
            own: kept.own,
            authenticator: Arc::new(authenticator),
            assertions,
            limiter: Arc::new(limiter),
            upstreams: Arc::new(upstreams),
            background: means.issuers.handle.clone(),
            authorization_servers: config.issuers.iter().map(|issuer| issuer.url.clone()).collect(),
            scopes: scopes(&config),
            withheld_trailers: Arc::new(withheld_trailers(&config)),
            in_flight: means.in_flight.clone(),
            // By names that no route and no upstream can have.
            own_holders: means.in_flight.holders(&"(own)".into(), &"(own)".into()),
            access_log,
            has_cors: config.routes.iter().flat_map(|route| &route.shaping).any(|shaping| shaping.cors.is_some()),
            honours_overrides: config.upstreams.iter().any(|upstream| !upstream.method_override.is_empty()),
            config,
        })
    }

    /// Has upstreams bounded and looked after as this one says.
    pub(super) fn look_after_upstreams(&self) {
        self.upstreams.put_in_force(&self.background, &self.config.dns);
    }

    /// Lets what outlives configurations go on as this one says.
    pub(super) fn put_in_force(&self) {
        // First of all, as what is kept goes by its channels.
        if let Some(state) = &self.state {
            state.put_in_force();
        }
        if let Some(authority) = &self.authority {
            authority.put_in_force();
        }
        self.look_after_upstreams();
        self.carry_out();
    }

    /// Has deletions carried out as this one says, and requests bounded.
    pub(super) fn carry_out(&self) {
        self.in_flight.set_most(self.config.server.overload.requests);
        let others = (self.config.routes.len() > 1, self.config.upstreams.len() > 1);
        self.routes.iter().for_each(|route| route.holders.put_in_force(others));
        // What is the gateway's own has services beside it at any time.
        self.own_holders.put_in_force((true, true));
        if let Some(own) = &self.own {
            own.replace(self.state.as_ref(), self.authority.as_ref());
        }
        if let Some(erasures) = &self.erasures {
            erasures.put_in_force();
        }
    }

    /// Lets go of all that is durable, for another process; operations that are under way have until `deadline`.
    ///
    /// # Errors
    /// It cannot be said what of the store was written.
    pub async fn let_go(&self, deadline: Instant) -> Result<(), StoreFault> {
        if let Some(erasures) = &self.erasures {
            erasures.let_go(deadline).await;
        }
        if let Some(authority) = &self.authority {
            authority.let_go();
        }
        if let Some(assertions) = &self.assertions {
            assertions.let_go();
        }
        match &self.state {
            Some(state) => state.let_go().await,
            None => Ok(()),
        }
    }

    /// A route by its number.
    pub fn route(&self, number: usize) -> Option<&CompiledRoute> {
        self.routes.get(number)
    }

    /// The longest body that any route of a path takes, before it is known which one a request is for.
    pub fn body_bytes_at(&self, host: &str, path: &NormalPath<'_>) -> u64 {
        let usual = self.config.server.limits.body_bytes;
        let of_route = |route: &CompiledRoute| route.shaping.as_ref()?.rules.body_bytes;
        let routes = self.table.routes_at(host, path);
        let all = routes.routes().filter_map(|number| self.routes.get(number));
        all.map(|route| of_route(route).unwrap_or(usual)).max().unwrap_or(usual)
    }

    /// Whether a body may have to be read before the decision on any of these routes, and how much of it at most.
    pub fn form_bytes(&self, routes: impl Iterator<Item = usize>) -> Option<usize> {
        routes
            .filter_map(|number| self.routes.get(number))
            .flat_map(CompiledRoute::backends)
            .filter(|backend| backend.upstream.method_override.iter().any(|way| way.is_in_body()))
            .map(|backend| backend.upstream.form_bytes)
            .max()
    }
}

/// Names that a configuration makes the gateway's to say or to take out, wherever: on one route they mean nothing else on another.
fn withheld_trailers(config: &Config) -> Vec<Arc<str>> {
    let rules = config.routes.iter().flat_map(|route| &route.shaping).map(|shaping| &shaping.request_headers);
    let ruled = rules.flat_map(|rules| rules.remove.iter().chain(rules.set.iter().map(|(name, _)| name)));
    let told = config.upstreams.iter().flat_map(|upstream| [upstream.credential_field(), upstream.assertion_field()]);
    let named = ruled.cloned().chain(told.flatten()).map(|name| config::folded(name.as_str()).into());
    let mut names: Vec<Arc<str>> = Vec::new();
    for name in config.server.drop_headers.iter().chain(&config.server.key_headers).cloned().chain(named) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What keeps something: the state, opened once and kept over reloads, and over it the second-factor authority and deletions.
#[derive(Default)]
struct Kept {
    state: Option<Arc<State>>,
    authority: Option<Arc<Authority>>,
    erasures: Option<Arc<Erasures>>,
    own: Option<Arc<Own>>,
}

fn kept(
    config: &Config,
    materials: &dyn Materials,
    means: &Means<'_>,
    previous: Option<&Snapshot>,
) -> Result<Kept, Vec<Problem>> {
    let Some((teller, erasing)) = means.keeping else { return Ok(Kept::default()) };
    let SourceServices { handle, clock, roots, .. } = means.issuers;
    // Before anything is opened or made.
    let problems = Authority::check(config, materials);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (observer, deliveries): (Arc<dyn StateObserver>, Arc<dyn NotifyObserver>) = (teller.clone(), teller.clone());
    let state_dir = &*config.server.state_dir;
    let opening = StateMeans { handle, clock, state_dir, roots, observer: &observer, deliveries: &deliveries };
    let before = previous.and_then(|previous| previous.state.as_deref());
    let state = State::open(config, materials, &opening, before)?;
    if config.deletions.is_none() {
        // Left out of a configuration, deletions would be forgotten.
        match state.as_deref().or(before) {
            Some(state) => none_left(state.store(), clock.now()).map_err(|problem| vec![problem])?,
            None if State::is_there(state_dir) => tracing::warn!(
                state_dir = %state_dir.display(),
                "there is a store, and no `sealing` to open it with: what it has is as if it were not there, deletions that are to be \
                 carried out and people who are erased among it; put `sealing` back, or move the file away"
            ),
            None => {}
        }
    }
    let Some(state) = state else { return Ok(Kept::default()) };
    let authority = authority(config, materials, (means, teller), (&state, previous))?;
    let own_data: Arc<dyn OwnData> = erasing.own.clone();
    let erasing_means = ErasureMeans {
        handle,
        clock,
        store: state.store(),
        outbox: state.outbox(),
        roots,
        observer: &erasing.observer,
        evidence: &erasing.evidence,
        own_data: &own_data,
    };
    let before = previous.and_then(|previous| previous.erasures.as_deref());
    let erasures = Erasures::compile(config, materials, &erasing_means, before)?.map(Arc::new);
    Ok(Kept { state: Some(state), authority, erasures, own: Some(erasing.own.clone()) })
}

fn authority(
    config: &Config,
    materials: &dyn Materials,
    (means, teller): (&Means<'_>, &Arc<AuthorityTeller>),
    (state, previous): (&Arc<State>, Option<&Snapshot>),
) -> Result<Option<Arc<Authority>>, Vec<Problem>> {
    let SourceServices { handle, clock, revocations, authority_keys, .. } = means.issuers;
    let ends: Arc<dyn SessionEnds> = Arc::new(RevokedSessions::new(revocations.clone(), handle.clone()));
    let observer: Arc<dyn AuthorityObserver> = teller.clone();
    let before = previous.and_then(|previous| previous.authority.as_deref());
    let means = AuthorityMeans { handle, clock, state, observer: &observer, ends: &ends, published: authority_keys };
    let made = Authority::compile(config, materials, &means, before)?;
    Ok(made.map(Arc::new))
}

/// Who signs for upstreams.
fn assertions(
    config: &Config,
    materials: &dyn Materials,
    means: &Means<'_>,
    previous: Option<&Snapshot>,
) -> Result<Option<Arc<Assertions>>, Problem> {
    let Some(wanted) = &config.assertions else { return Ok(None) };
    let before = previous.and_then(|previous| previous.assertions.as_deref());
    let background = (&means.issuers.handle, &means.issuers.clock);
    let made = Assertions::compile(wanted, materials, &config.server.state_dir, background, before)?;
    Ok(Some(Arc::new(made)))
}

/// The access log, opened again only where the configuration says another.
fn access_log(config: &Config, means: &Means<'_>, previous: Option<&Snapshot>) -> Result<Arc<AccessLog>, Problem> {
    if let Some(previous) = previous.filter(|previous| previous.config.access_log == config.access_log) {
        return Ok(previous.access_log.clone());
    }
    let (sink, span) = match &config.access_log {
        config::AccessLog::Stdout => (AccessSink::Stdout, config::Span::default()),
        config::AccessLog::Off => (AccessSink::Off, config::Span::default()),
        config::AccessLog::File(file) => (AccessSink::File(file.path.clone()), file.span.clone()),
    };
    AccessLog::start(&sink, means.metrics.access_log_dropped())
        .map(Arc::new)
        .map_err(|fault| Problem::error(&span, fault.to_string()))
}

/// Every quota: the named ones, those of guarded operations and deletion plans, and those of endpoints.
fn all_limits(config: &Config) -> Vec<Arc<Limit>> {
    let operations = config.deletion_guard.operations.iter().filter_map(|operation| operation.limit.clone());
    let routes = config.routes.iter().filter_map(|route| match &route.deletion {
        RouteDeletion::Guarded { limit, .. } => limit.clone(),
        RouteDeletion::Unguarded => None,
    });
    let mut all: Vec<Arc<Limit>> = Vec::new();
    let events = config.issuers.iter().filter_map(|issuer| Some(issuer.events.as_ref()?.limit.clone()));
    let authority = config.authority.iter().map(|authority| authority.limit.clone());
    let deletions = config.deletions.iter();
    let plans = deletions
        .flat_map(|deletions| deletions.plans.iter().map(|plan| plan.limit.clone()).chain([deletions.limit.clone()]));
    let named = config.limits.iter().cloned();
    for limit in named.chain(operations).chain(routes).chain(events).chain(authority).chain(plans) {
        if !all.iter().any(|known| known.name == limit.name) {
            all.push(limit);
        }
    }
    all
}

fn compile_route(
    (number, route): (usize, &config::Route),
    holders: Holders,
    (authenticator, limiter, upstreams): (&Authenticator, &RateLimiter, &Upstreams),
    metrics: &Metrics,
) -> Result<CompiledRoute, Problem> {
    let internal = |what: &str| Problem::error(&route.span, format!("{what} is not in the configuration"));
    let quota = |limit: &Arc<Limit>| limiter.quota(&limit.name).ok_or_else(|| internal("the limit"));
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for limit in &route.limits {
        let list = if limit.key == LimitKey::Ip { &mut early } else { &mut late };
        list.push(quota(limit)?);
    }
    let when = match &route.when {
        Some(when) => {
            let fault = |error| Problem::error(&when.span, format!("{error}"));
            Some(Condition::compile(&when.source, &when.zone).map_err(fault)?)
        }
        None => None,
    };
    let (deletion, deletion_quota) = match &route.deletion {
        RouteDeletion::Guarded { requirement, limit } => {
            (Some(requirement.clone()), limit.as_ref().map(quota).transpose()?)
        }
        RouteDeletion::Unguarded => (None, None),
    };
    let issuers: Box<[_]> = match &route.auth {
        Auth::None => Box::default(),
        Auth::Issuers(names) => names.clone().into_boxed_slice(),
    };
    Ok(CompiledRoute {
        number,
        name: route.name.clone(),
        pattern: route.path.clone(),
        accepted: authenticator.accepted(&issuers),
        policy: AccessPolicy {
            issuers,
            scopes: route.scopes.clone().into_boxed_slice(),
            when,
            assurance: route.assurance.clone(),
            deletion,
        },
        goal: Goal::compile(&route.to, upstreams, metrics)?,
        shaping: match &route.shaping {
            Some(rules) => Some(Box::new(CompiledShaping::compile(rules, upstreams, metrics)?)),
            None => None,
        },
        upgrades: route.upgrades,
        translates_grpc_web: route.translates_grpc_web,
        rewrite: route.rewrite.clone(),
        early_quotas: early,
        late_quotas: late,
        deletion_quota,
        priority: route.priority,
        holders,
        metrics: metrics.route(&route.name),
    })
}

fn guarded(config: &Config, limiter: &RateLimiter) -> Vec<GuardedOperation> {
    if !config.deletion_guard.enabled {
        return Vec::new();
    }
    let compile = |operation: &config::GuardedOperation| GuardedOperation {
        text: operation.text.clone(),
        method: operation.method.clone(),
        path: operation.path.clone(),
        quota: operation.limit.as_ref().and_then(|limit| limiter.quota(&limit.name)),
    };
    config.deletion_guard.operations.iter().map(compile).collect()
}

fn plans(config: &Config, limiter: &RateLimiter) -> Result<Vec<CompiledPlan>, Vec<Problem>> {
    let Some(deletions) = &config.deletions else { return Ok(Vec::new()) };
    let compile = |plan: &Arc<DeletionPlan>| {
        let missing = || vec![Problem::error(&plan.span, "the limit is not in the configuration")];
        let of_plan = deletions.requirements.iter().filter(|asked| asked.plan == plan.name);
        let guard = &config.deletion_guard.assurance;
        let reached =
            deletions.requirements.iter().find(|asked| asked.plan == plan.name && reaches(config, plan, asked.route));
        Ok(CompiledPlan {
            plan: plan.clone(),
            quota: limiter.quota(&plan.limit.name).ok_or_else(missing)?,
            requirements: of_plan.map(|asked| (asked.route, asked.requirement.clone())).collect(),
            cancelling: acting(config, plan.cancel_assurance.as_ref().unwrap_or(guard)),
            approving: acting(config, reached.map_or(guard, |asked| &asked.requirement)),
        })
    };
    deletions.plans.iter().map(compile).collect()
}

/// Whether a route can be asked for an operation of a plan.
fn reaches(config: &Config, plan: &DeletionPlan, route: usize) -> bool {
    let route = config.routes.get(route);
    route.is_some_and(|route| plan.operations.iter().any(|operation| overlaps(&operation.path, &route.path)))
}

/// What is asked of whoever does something to a deletion.
fn acting(config: &Config, assurance: &Requirement) -> AccessPolicy {
    AccessPolicy { issuers: every_source(config), assurance: Some(assurance.clone()), ..AccessPolicy::default() }
}

fn erasure_endpoint(
    config: &Config,
    limiter: &RateLimiter,
    authenticator: &Authenticator,
) -> Result<Option<ErasureEndpoint>, Vec<Problem>> {
    let Some(deletions) = &config.deletions else { return Ok(None) };
    let missing = || vec![Problem::error(&deletions.span, "the limit is not in the configuration")];
    let quota = limiter.quota(&deletions.limit.name).ok_or_else(missing)?;
    let issuers = every_source(config);
    Ok(Some(ErasureEndpoint {
        path: deletions.path.clone(),
        quota,
        accepted: authenticator.accepted(&issuers),
        policy: AccessPolicy { issuers, ..AccessPolicy::default() },
        acting: acting(config, &config.deletion_guard.assurance),
    }))
}

/// Whoever may vouch for a caller anywhere.
fn every_source(config: &Config) -> Box<[IssuerName]> {
    let issuers = config.issuers.iter().map(|issuer| &issuer.name);
    issuers.chain(config.credentials.iter().map(|one| &one.name)).cloned().collect()
}

fn events(config: &Config, limiter: &RateLimiter) -> Result<Vec<EventEndpoint>, Vec<Problem>> {
    let compile = |(issuer, events): (&Arc<config::Issuer>, &config::Events)| {
        let quota = limiter.quota(&events.limit.name);
        let missing = || vec![Problem::error(&events.span, "the limit is not in the configuration")];
        Ok(EventEndpoint { path: events.path.clone(), issuer: issuer.name.clone(), quota: quota.ok_or_else(missing)? })
    };
    config.issuers.iter().filter_map(|issuer| Some((issuer, issuer.events.as_ref()?))).map(compile).collect()
}

fn authority_endpoint(
    config: &Config,
    limiter: &RateLimiter,
    authenticator: &Authenticator,
) -> Result<Option<AuthorityEndpoint>, Vec<Problem>> {
    let Some(authority) = &config.authority else { return Ok(None) };
    let missing = || vec![Problem::error(&authority.span, "the limit is not in the configuration")];
    let quota = limiter.quota(&authority.limit.name).ok_or_else(missing)?;
    // An empty list would ask for nothing.
    let issuers: Box<[IssuerName]> = match &*authority.issuers {
        [] => every_source(config),
        named => named.into(),
    };
    Ok(Some(AuthorityEndpoint {
        path: authority.path.clone(),
        quota,
        accepted: authenticator.accepted(&issuers),
        policy: AccessPolicy { issuers, ..AccessPolicy::default() },
    }))
}

fn scopes(config: &Config) -> Vec<Arc<str>> {
    let mut all: Vec<Arc<str>> = config.routes.iter().flat_map(|route| route.scopes.iter().cloned()).collect();
    all.sort();
    all.dedup();
    all
}
