//! One request, from wire to answer. Read this first.
//!
//! ```text
//! Gateway::serve   outer: cannot fail; one snapshot, one now; one access record, one set of metrics
//!   ├ Gateway::pass  inner: seven steps, each with `?`
//!   │  1 Inbound::parse       wire → a head that can be judged           400 413 414 431
//!   │    └ preflight          CORS: a browser's question, answered from the file         429
//!   │  2 Matched::find        head → route, and what it could pass for   404 405 501
//!   │  3 before_proof         is there a place, by priority?             503
//!   │    └ charge_early       quotas by address, before any crypto       429
//!   │    └ upgrade::asked     what is to be switched, and `grpc-timeout` 400 426
//!   │  4 evidence::gather     credentials → facts; refuses nothing
//!   │  5 decide               policy + facts → permit                    401 403 503
//!   │    └ prove              only assurance is missing: what else came? 5 again, once   413
//!   │    └ refuse_covered     another way to what a deletion plan takes over              403 413
//!   │    └ whose              a deletion plan takes it over: whose data is it?           400 403
//!   │  6 enforce              permit → clearance: quotas, grant, audit   403 429 503
//!   │  7 prepare              the head that the upstream gets, and which; a redirect; a copy for a mirror
//!   └ Gateway::forward  8 takes the clearance by value; a deletion that a plan takes over is made durable in its place   502 504
//!     └ upgrade::shaken   after a 101 both sides are joined, until the token ends
//! ```

mod affinity;
mod authority;
mod census;
pub mod covered;
mod enforce;
mod erasure;
mod erasure_api;
mod events;
mod evidence;
mod faults;
mod forms;
pub mod forwarded;
mod grpc;
mod hygiene;
mod ids;
mod inbound;
pub mod key_fields;
mod let_go;
mod matched;
mod metadata;
mod method_override;
mod outbound;
mod overload;
pub mod own;
mod page_cookie;
mod parameter;
mod prepare;
mod record;
mod refusal;
mod shaping;
mod site;
mod step_up;
#[cfg(test)]
mod tests;
mod upgrade;

use std::{
    cell::RefCell,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};

use self::{
    enforce::Proofs,
    faults::{body_refusal, framing_refusal, upstream_refusal},
    forms::{Forms, HeldForm},
    ids::RequestIds,
    overload::SharedPressure,
    shaping::{AnswerOf, Shaped, mirror::Mirrors},
    step_up::{Case, Judged, UsedGrant},
    upgrade::{Handshake, OpenStreams},
};
pub use self::{
    enforce::{Clearance, Enforcement},
    evidence::{Gathered, gather},
    forwarded::Origin,
    hygiene::is_spoofable,
    ids::RequestId,
    inbound::{Inbound, SoleField},
    matched::{Matched, Planned, form_to_read, known_method},
    method_override::{Form, FormKind, overridden},
    outbound::{Outbound, clean_response},
    record::Record,
    refusal::{DpopOffer, HeldAccount, METADATA_PATH, Problem, Refusal, RefusalContext},
    site::Site,
    upgrade::Wish,
};
use crate::{
    body::{ConnectionInfo, Received, RequestBody, ResponseBody, Serve, check_framing},
    clock::Now,
    config::Priority,
    identity::Accepted,
    limit::RateHeaders,
    policy::{Credential, Evidence, Principal, Reason},
    runtime::{Backend, CompiledShaping, Live, LiveView, OnWorker, Services, Snapshot},
    upstream::{Answer, Introduced, Pools, Sending, UpstreamBody, UpstreamObserver},
};

/// One worker's gateway.
pub struct Gateway {
    services: OnWorker<Services>,
    view: RefCell<LiveView>,
    pools: Pools<RequestBody>,
    ids: RequestIds,
    mirrors: Mirrors,
    forms: Forms,
    streams: Rc<OpenStreams>,
    pressure: SharedPressure,
}

/// How far a request has come without its answer.
enum Passed<'s> {
    /// It is to be forwarded.
    Cleared(Cleared<'s>),
    /// The gateway answers it; with why, for the records.
    Answered(Response<Bytes>, Reason),
}

/// A request that is to be forwarded.
struct Cleared<'s> {
    clearance: Clearance,
    outbound: Outbound,
    backend: &'s Backend,
    held: Held<'s>,
}

/// What a request that is to be forwarded has besides its head.
struct Held<'s> {
    /// When its answer has to be over, as the client says.
    deadline: Option<Instant>,
    /// Whether the service may take it for another method than the request line's, which alone does no harm twice.
    overridden: bool,
    /// The protocol is to be switched.
    handshake: Option<Box<Handshake>>,
    /// A body that was read before is in memory until the upstream answers.
    form: Option<Box<HeldForm<'s>>>,
}

/// What is known of a request while it passes, for its answer and its record.
struct Exchange {
    record: Box<Record>,
    rates: Option<RateHeaders>,
    site: Option<Rc<Site>>,
    /// Whether the token came by the DPoP scheme.
    by_dpop: bool,
    /// A nonce for the client's next proofs.
    fresh_nonce: Option<Box<str>>,
    /// Which gRPC it speaks.
    grpc: Option<grpc::Dialect>,
    /// Whether it is translated from gRPC-Web on its way, and back.
    is_translated: bool,
    /// What a route of our own says besides in a refusal.
    own_headers: Option<Box<HeaderMap>>,
    /// The deletion that holds the caller's account.
    held: Option<Box<HeldAccount>>,
    /// What the route does to the answer, whoever gives it.
    shaped: Option<Box<Shaped>>,
}

impl Serve for Gateway {
    /// Boxed, as it goes a long way without being looked at: through each layer that an answer passes.
    type Tail = Box<Record>;

    // Not an `async fn`: that would hold what it is given twice, and each request's future is moved several times.
    fn serve(
        &self,
        info: Rc<ConnectionInfo>,
        request: Request<Received>,
    ) -> impl Future<Output = Response<ResponseBody<Box<Record>>>> {
        let now = self.services.clock.now();
        let snapshot = self.view.borrow_mut().load();
        let (mut parts, incoming) = request.into_parts();
        let head = (&parts.method, parts.version, parts.uri.path());
        let record = Record::begin(self.services.clone(), snapshot.clone(), info.clone(), head, self.ids.next(), now);
        let mut exchange = Exchange {
            record: Box::new(record),
            rates: None,
            site: None,
            by_dpop: false,
            fresh_nonce: None,
            grpc: grpc::Dialect::of(&parts),
            is_translated: false,
            own_headers: None,
            held: None,
            shaped: None,
        };
        let limit = snapshot.config.server.limits.body_bytes;
        let mut body = RequestBody::new(incoming, &info.watch, limit)
            .with_trailers(hygiene::clean_trailers, &snapshot.withheld_trailers);
        exchange.record.bytes_in = body.counter();
        async move {
            let mut waited = false;
            let passed = {
                let mut pass = pin!(self.pass(&snapshot, &mut exchange, &info, &mut parts, &mut body, now));
                poll_fn(|cx| {
                    let polled = pass.as_mut().poll(cx);
                    waited |= polled.is_pending();
                    polled
                })
                .await
            };
            let mut cleared = match passed {
                Ok(Passed::Cleared(cleared)) => cleared,
                Ok(Passed::Answered(answer, reason)) => return exchange.own(answer, reason),
                Err(refusal) => return exchange.refused(refusal, &snapshot, site::scheme(&info)),
            };
            // The upstream's time begins with the request to it. Where nothing was waited for, that is now.
            let sent = if waited { self.services.clock.now() } else { now };
            let handshake = cleared.held.handshake.take();
            match self.forward(cleared, body, (&mut exchange.record, &info), sent, handshake.is_some()).await {
                Ok(answer) => match handshake {
                    None => exchange.forwarded(*answer),
                    Some(handshake) => match exchange.shaken(*answer, *handshake, &self.streams) {
                        Ok(answer) => answer,
                        Err(refused) => {
                            let (exchange, refusal) = *refused;
                            exchange.refused(refusal, &snapshot, site::scheme(&info))
                        }
                    },
                },
                Err(refusal) => exchange.refused(refusal, &snapshot, site::scheme(&info)),
            }
        }
    }

    fn close_streams(&self) -> bool {
        self.streams.close()
    }
}

impl Gateway {
    /// A gateway for one worker.
    pub fn new(services: Arc<Services>, live: &Live, observer: impl UpstreamObserver + 'static) -> Self {
        let services = Rc::new(services);
        Self {
            streams: OpenStreams::new(services.clone(), live),
            services,
            view: RefCell::new(live.view()),
            pools: Pools::new(observer),
            ids: RequestIds::new(),
            mirrors: Mirrors::default(),
            forms: Forms::default(),
            pressure: SharedPressure::default(),
        }
    }

    /// Lets go of what is idle; called by the worker every few seconds.
    pub fn sweep(&self) {
        // A worker without traffic would keep an old snapshot alive.
        drop(self.view.borrow_mut().load());
        self.pools.sweep(self.services.clock.now());
    }

    async fn pass<'s>(
        &'s self,
        snapshot: &'s Snapshot,
        exchange: &mut Exchange,
        info: &ConnectionInfo,
        parts: &mut Parts,
        body: &mut RequestBody,
        now: Now,
    ) -> Result<Passed<'s>, Refusal> {
        let server = &snapshot.config.server;
        check_framing(parts.version, &parts.headers, server.limits.headers).map_err(framing_refusal)?;
        let uri = parts.uri.clone();
        let mut inbound = Inbound::parse(parts, info, server, exchange.record.request_id.clone())?;
        exchange.learn(&inbound);
        if let Some(answered) = self.preflight(snapshot, exchange, (&inbound, uri.path()), now) {
            return answered;
        }
        let path = own::path(snapshot, &inbound, uri.path())?;
        if let Some(own) = own::find(snapshot, &inbound, &path) {
            self.refuse_let_go(true)?;
            self.admit(snapshot, (&snapshot.own_holders, Priority::Normal), &mut exchange.record)?;
            if inbound.upgrade.as_ref().is_some_and(|wish| wish.is_connect()) {
                return Err(Refusal::of(Reason::UpgradeNotOffered));
            }
            // Boxed: rare, and large.
            return Box::pin(self.serve_own(snapshot, own, exchange, (&inbound, info, &path), body, now)).await;
        }

        let (matched, mut form) = match form_to_read(snapshot, &inbound, &path)? {
            None => (Matched::find(snapshot, &inbound, &path, None)?, None),
            // Boxed, as it is rare and large.
            Some((kind, max)) => {
                body.set_limit(snapshot.body_bytes_at(&inbound.site.host, &path));
                let held = Box::new(Box::pin(self.forms.read(body, inbound.origin.client, max)).await?);
                let form = Form { kind, body: held.content() };
                (Matched::find(snapshot, &inbound, &path, Some(&form))?, Some(held))
            }
        };
        exchange.record.route = Some(matched.route.number);
        if matched.all().any(|route| route.shaping.is_some()) {
            body.set_limit(shaping::body_limit(&matched, server.limits.body_bytes));
            let shaping = matched.route.shaping.as_deref();
            let begin = |shaping: &CompiledShaping| Shaped::begin(&shaping.rules, &inbound, &matched.method);
            exchange.shaped = shaping.map(begin).map(Box::new);
        }
        let wish = inbound.upgrade.take();
        let enforcement = Enforcement { inbound: &inbound, path: &path, matched: &matched, now };
        // Nobody has been verified yet, so a refusal counts as a stranger's.
        let (deadline, handshake) = self
            .before_proof(snapshot, exchange, &enforcement, wish, body)
            .inspect_err(|refusal| self.audit_refusal(&enforcement, &own::stranger(), None, refusal.reason))?;

        let Gathered { mut evidence, held } = evidence::gather(snapshot, &inbound, info, &matched, now).await;
        if snapshot.state.is_some() || matched.guarded() {
            self.refuse_let_go(let_go::concerns(snapshot, &matched, &evidence))?;
        }
        let is_held = held.is_some();
        exchange.held = held;
        exchange.fresh_nonce = evidence.fresh_nonce.take();
        if let Credential::Valid(principal) = &evidence.credential {
            exchange.record.principal = Some(principal.clone());
        }

        let judged = match enforcement.judge(&evidence).map(Judged::from) {
            Err(refusal) if step_up::may_help(snapshot, &inbound, &refusal) => {
                // Boxed: rare, and large.
                let body_and_form = (&mut *body, &mut form);
                Box::pin(self.prove(snapshot, refusal, &enforcement, info, &mut evidence, body_and_form)).await
            }
            judged => judged,
        };
        let Judged { permit, used } =
            judged.inspect_err(|refusal| self.audit_refusal(&enforcement, &evidence, None, refusal.reason))?;
        if !matched.covered.is_empty() {
            // Boxed: rare, and large.
            Box::pin(self.refuse_covered(snapshot, &enforcement, body, &mut form))
                .await
                .inspect_err(|refusal| self.audit_refusal(&enforcement, &evidence, used.as_ref(), refusal.reason))?;
        }
        // Boxed: few requests are deletions that a plan takes over.
        let taken = match matched.planned {
            Some(planned) => {
                let (proved, body_and_form) = ((&permit, used.as_ref()), (&mut *body, &mut form));
                let taken =
                    Box::pin(self.whose((snapshot, is_held), planned, &enforcement, proved, body_and_form)).await;
                Some(taken.inspect_err(|refusal| {
                    self.audit_refusal(&enforcement, &evidence, used.as_ref(), refusal.reason);
                })?)
            }
            None => None,
        };
        exchange.record.step_up = permit.second_factors().first().map(|second| second.covers.way());

        let Services { audit, metrics, .. } = &**self.services;
        let (rates, charged) = enforce::charge_late(permit, &enforcement, &snapshot.limiter, audit, metrics);
        exchange.rates = enforce::join_rates(exchange.rates.take(), rates);
        let cleared = match charged {
            Ok(charged) => enforce::clear(charged, &enforcement, used.as_ref(), audit).await,
            Err(refusal) => Err(refusal),
        };
        let clearance = cleared
            .inspect_err(|refusal| self.audit_refusal(&enforcement, &evidence, used.as_ref(), refusal.reason))?;

        if let Some(taken) = taken {
            return Box::pin(self.take_over(taken, clearance, now)).await;
        }
        let held = Held { deadline, overridden: matched.said.is_some(), handshake, form };
        self.prepare((snapshot, info), exchange, clearance, (&mut inbound, &path, &matched, now), body, held)
    }

    /// All that can be said of a request before anybody's credential is looked at: whether there is a place for it, what its address
    /// may do, and whether it is what it says. Returns its deadline, where it has one, and what is to be switched.
    fn before_proof(
        &self,
        snapshot: &Snapshot,
        exchange: &mut Exchange,
        enforcement: &Enforcement<'_>,
        wish: Option<Box<Wish>>,
        body: &RequestBody,
    ) -> Result<(Option<Instant>, Option<Box<Handshake>>), Refusal> {
        let Enforcement { inbound, matched, now, .. } = enforcement;
        let route = matched.route;
        self.admit(snapshot, (&route.holders, route.priority), &mut exchange.record)?;
        let charged;
        (exchange.rates, charged) = enforce::charge_early(enforcement, &self.services.metrics);
        charged?;
        matched.refuse_doubtful()?;
        let deadline = match exchange.grpc {
            Some(_) => grpc::deadline(&inbound.headers, now.instant)?,
            None => None,
        };
        let mut handshake = match wish {
            Some(wish) => upgrade::asked(*wish, enforcement, body.counter().is_some())?,
            None => None,
        };
        if let Some(handshake) = &mut handshake {
            handshake.hold(self.admit_stream(snapshot, route, exchange.record.client)?);
        }
        if body.is_declared_too_large() {
            return Err(Refusal::of(Reason::BodyTooLarge));
        }
        Ok((deadline, handshake))
    }

    /// Records a refused attempt at a guarded operation, or at one that a plan covers: one by one for verified callers, counted for others.
    fn audit_refusal(
        &self,
        enforcement: &Enforcement<'_>,
        evidence: &Evidence,
        used: Option<&UsedGrant<'_>>,
        reason: Reason,
    ) {
        let matched = enforcement.matched;
        let guarded = matched.guarded() && matched.all().any(|route| route.policy.deletion.is_some());
        if !guarded && reason != Reason::DeletionCovered {
            return;
        }
        match &evidence.credential {
            Credential::Valid(principal) => {
                let Evidence { possession, second_factors, .. } = evidence;
                let grant = used.map(|used| &used.grant.id);
                let proofs = Proofs { possession: *possession, second_factors, grant };
                self.services.audit.refusal(enforce::attempt(enforcement, principal, proofs, reason));
            }
            Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. } => {
                self.services.audit.anonymous(reason, &matched.route.name);
            }
        }
    }

    /// Step 8. Takes the clearance by value: nothing is sent without one.
    ///
    /// Not an `async fn`, for the same reason as [`Serve::serve`].
    fn forward(
        &self,
        cleared: Cleared<'_>,
        body: RequestBody,
        (record, info): (&mut Record, &ConnectionInfo),
        now: Now,
        upgrade: bool,
    ) -> impl Future<Output = Result<Answer<RequestBody>, Refusal>> {
        let Cleared { clearance, outbound, backend, held: Held { deadline, overridden, form, .. } } = cleared;
        let balance = &backend.upstream.balancing.balance;
        let principal = clearance.principal().map(|principal| &**principal);
        let hash = affinity::of(balance, &outbound.headers, principal, record.client);
        let ticket = clearance.into_ticket();
        let outcome = body.outcome();
        let mut request = Request::new(body);
        *request.method_mut() = outbound.method;
        *request.uri_mut() = outbound.uri;
        *request.headers_mut() = outbound.headers;
        let client = record.client;
        let introduced = introduced(backend, client, info);
        let rules = record.shaping().map(|shaping| &*shaping.rules);
        let sending = Sending {
            client: Some(client),
            hash,
            once: ticket.is_some() || overridden,
            deadline,
            upgrade,
            introduced,
            request: rules.and_then(|rules| rules.request_timeout),
            patience: rules.and_then(|rules| rules.response_timeout),
            ..Sending::plain(now)
        };
        let sending = self.pools.send(&backend.service, request, &sending);
        async move {
            let answer = sending.await;
            drop(form);
            let result = answer.map_err(|fault| match outcome.and_then(|outcome| outcome.get()) {
                Some(fault) => body_refusal(fault),
                None => upstream_refusal(&fault),
            });
            match &result {
                Ok(answer) => {
                    record.upstream_answered(now.instant);
                    if let Some(ticket) = ticket {
                        ticket.answered(answer.status().as_u16());
                    }
                }
                Err(refusal) => {
                    if let Some(ticket) = ticket {
                        ticket.failed(refusal.reason);
                    }
                }
            }
            result
        }
    }
}

impl Exchange {
    /// Takes over what the head told.
    fn learn(&mut self, inbound: &Inbound) {
        self.record.request_id = inbound.request_id.clone();
        self.record.trace = Some(inbound.trace.clone());
        self.record.client = inbound.origin.client;
        self.site = Some(inbound.site.clone());
        self.by_dpop = inbound.authorization.field().is_by_dpop();
        if inbound.upgrade.is_some() {
            // An extended CONNECT is judged, and recorded, as the GET that it stands for.
            self.record.method = inbound.method.clone();
        }
    }

    fn forwarded(mut self, answer: Response<UpstreamBody<RequestBody>>) -> Response<ResponseBody<Box<Record>>> {
        self.record.status = answer.status().as_u16();
        self.record.reason = Reason::Allowed;
        let (mut parts, mut body) = answer.into_parts();
        self.dress(&mut parts.headers);
        self.shape(&mut parts.headers, AnswerOf::Upstream);
        if parts.status == StatusCode::NO_CONTENT {
            // RFC 9110 §8.6: a client that believed it would take the next answer for the body.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        parts.version = http::Version::HTTP_11;
        parts.extensions.clear();
        let web = match self.grpc {
            Some(dialect) if self.is_translated => {
                grpc::to_web(dialect, &mut parts.headers).map(|said| (dialect, said))
            }
            Some(_) | None => None,
        };
        if let Some((dialect, said)) = web {
            let body = ResponseBody::stream(grpc::WebBody::new(body, dialect, said), self.record);
            return Response::from_parts(parts, body);
        }
        let body = match body.take_whole() {
            Some(bytes) => ResponseBody::full(bytes, self.record),
            None => ResponseBody::stream(body, self.record).with_trailers(hygiene::clean_trailers),
        };
        Response::from_parts(parts, body)
    }

    /// Makes an upstream's head fit for the client.
    fn dress(&mut self, headers: &mut HeaderMap) {
        page_cookie::refuse(headers);
        outbound::clean_response(headers, &self.record.request_id);
        if let Some(rates) = self.rates.take() {
            rates.apply(headers);
        }
        add_nonce(headers, self.fresh_nonce.as_deref());
    }

    /// Changes the head of an answer as the route says.
    fn shape(&self, headers: &mut HeaderMap, of: AnswerOf) {
        if let (Some(shaped), Some(shaping)) = (&self.shaped, self.record.shaping()) {
            shaped.apply(&shaping.rules, headers, of);
        }
    }

    fn own(mut self, answer: Response<Bytes>, reason: Reason) -> Response<ResponseBody<Box<Record>>> {
        self.record.status = answer.status().as_u16();
        self.record.reason = reason;
        let (mut parts, body) = answer.into_parts();
        outbound::clean_response(&mut parts.headers, &self.record.request_id);
        if let Some(rates) = self.rates.take() {
            rates.apply(&mut parts.headers);
        }
        add_nonce(&mut parts.headers, self.fresh_nonce.as_deref());
        self.shape(&mut parts.headers, AnswerOf::Route);
        Response::from_parts(parts, ResponseBody::full(body, self.record))
    }

    fn refused(
        mut self,
        mut refusal: Refusal,
        snapshot: &Snapshot,
        scheme: &'static str,
    ) -> Response<ResponseBody<Box<Record>>> {
        self.record.reason = refusal.reason;
        log_refusal(&refusal, &self.record);
        if let (Some(rates), Some(wait_secs)) = (&mut self.rates, refusal.retry_after) {
            refusal.retry_after = Some(rates.fit(wait_secs));
        }
        let accepted = self.record.route.and_then(|route| snapshot.route(route)).map(|route| &route.accepted);
        let context = RefusalContext {
            request_id: self.record.request_id.as_str(),
            scheme,
            authority: self.site.as_ref().map_or("", |site| &site.authority),
            authorization_servers: servers_for(self.record.principal.as_deref(), &snapshot.authorization_servers),
            accepted,
            second_factor: snapshot.config.authority.as_deref(),
            dpop: DpopOffer { algorithms: accepted.map(Accepted::dpop).unwrap_or_default(), tried: self.by_dpop },
            held: self.held.as_deref(),
        };
        let problem = refusal.problem_at(&context);
        let mut status = problem.status;
        let mut headers = refusal.headers(&context);
        if let Some(own) = self.own_headers.take() {
            // What belongs to the problem document stays its own.
            let kept = headers.clone();
            own.iter().filter(|(name, _)| !kept.contains_key(*name)).for_each(|(name, value)| {
                headers.append(name.clone(), value.clone());
            });
        }
        let mut body = refusal.body(&context);
        if let Some(dialect) = self.grpc {
            let said = (problem.name, &*refusal.detail(&context));
            body = grpc::refused(dialect, said, status, &mut headers);
            status = StatusCode::OK;
        }
        self.record.status = status.as_u16();
        if let Some(value) = self.record.request_id.to_value() {
            headers.insert(ids::X_REQUEST_ID, value);
        }
        if let Some(rates) = self.rates.take() {
            rates.apply(&mut headers);
        }
        add_nonce(&mut headers, self.fresh_nonce.as_deref());
        self.shape(&mut headers, AnswerOf::Refusal);
        if matches!(self.record.version, http::Version::HTTP_2 | http::Version::HTTP_3) {
            headers.remove(header::CONNECTION);
        }
        let mut response = Response::new(ResponseBody::full(body, self.record));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// For whom a connection is, where the service is told: the client as it is believed to be. A port is known of who is connected here
/// itself.
fn introduced(backend: &Backend, client: IpAddr, info: &ConnectionInfo) -> Option<Introduced> {
    backend.service.introduces().then(|| Introduced {
        client: SocketAddr::new(client, if info.peer.ip().to_canonical() == client { info.peer.port() } else { 0 }),
        local: info.local,
    })
}

/// RFC 9449 §8.2: a nonce is new, so an answer that brings one is not to be kept.
fn add_nonce(headers: &mut HeaderMap, nonce: Option<&str>) {
    if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::from_str(nonce).ok()) {
        headers.insert(inbound::DPOP_NONCE, nonce);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Where a caller gets more proof: from whoever vouches for them, if that is an authorization server.
fn servers_for<'a>(principal: Option<&Principal>, all: &'a [Arc<str>]) -> &'a [Arc<str>] {
    let own = principal.and_then(|principal| all.iter().find(|server| **server == principal.issuer_url));
    own.map_or(all, std::slice::from_ref)
}

/// What the operator should know and the caller may not.
fn log_refusal(refusal: &Refusal, record: &Record) {
    let detail = refusal.detail.as_deref().unwrap_or_default();
    if refusal.problem().status.is_server_error() {
        tracing::warn!(
            request.id = record.request_id.as_str(),
            reason = refusal.reason.name(),
            detail,
            "request failed"
        );
    } else {
        tracing::debug!(
            request.id = record.request_id.as_str(),
            reason = refusal.reason.name(),
            detail,
            "request refused"
        );
    }
}
