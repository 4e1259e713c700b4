//! The endpoints of deletions: every path below `deletions.path`, on every listener and for every host. Each address has a quota,
//! before anything is looked at. A credential is verified, and a wrong one is refused; that of a person whose account is held is
//! taken, or nobody could have it back, and that of somebody who is erased is not.
//!
//! ```text
//!   pages    no credential: whoever has the link                                          erasure's
//!   seeing   a credential ── whose is it? ─> the deletion, or the 404 that there is for none
//!   doing    a credential ── may they? ── enough proof? else a challenge (RFC 9470) ─> cancelled, approved
//!   preview  a credential ── the request as it would be judged ─> what would happen; nothing does
//! ```

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, request::Parts};
use url::form_urlencoded;

use super::{
    Enforcement, Exchange, Gateway, Inbound, Matched, Passed, Planned, Refusal,
    erasure::{self, refusal, unavailable},
    evidence, known_method, own,
    step_up::{self, Case, Judged},
};
use crate::{
    authority::{GrantBinding, Target},
    body::{ConnectionInfo, RequestBody},
    clock::Now,
    endpoint::{Answer, Call},
    erasure::{
        Erasures, May, RequestBody as Readable, Standing, Viewer,
        api::{self, Kind, Previewed},
    },
    policy::{
        AccessPolicy, Challenge, Credential, Decision, Evidence, Facts, Held, Permit, Principal, Reason, Requirement,
        decide, explain,
    },
    route::NormalPath,
    runtime::{CompiledPlan, ErasureEndpoint, Snapshot},
};

/// The longest body that is read: a form of a page, or nothing.
const MAX_BYTES: usize = 64 << 10;
/// The longest target that is previewed.
const MAX_TARGET: usize = 8 << 10;

/// The methods that endpoints have, whatever `server.methods` says: that is for the services behind.
pub(super) const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

/// The deletions' endpoints, where a path is one of them, and the path below.
pub(super) fn endpoint<'a>(snapshot: &'a Snapshot, path: &'a NormalPath<'_>) -> Option<(&'a ErasureEndpoint, &'a str)> {
    let endpoint = snapshot.erasure_endpoint.as_ref()?;
    match path.as_str().strip_prefix(&*endpoint.path)? {
        "" => Some((endpoint, "/")),
        rest => rest.starts_with('/').then_some((endpoint, rest)),
    }
}

/// A call that does something to a deletion, as it is judged.
struct Doing<'a> {
    inbound: &'a Inbound,
    path: &'a NormalPath<'a>,
    policy: &'a AccessPolicy,
    /// The proof that it needs as the request for the deletion did; `None`: what the policy asks of a call that is not guarded.
    guarded: Option<&'a Requirement>,
    now: Now,
}

impl Doing<'_> {
    fn decide(&self, evidence: &Evidence) -> Decision {
        let facts = own::facts(self.inbound, self.path.as_str(), evidence, self.now);
        decide(self.policy, &Facts { planned: self.guarded, ..facts })
    }
}

impl Case for Doing<'_> {
    fn inbound(&self) -> &Inbound {
        self.inbound
    }

    fn now(&self) -> Now {
        self.now
    }

    fn judge(&self, evidence: &Evidence) -> Result<Permit, Refusal> {
        match self.decide(evidence) {
            Decision::Allow(permit) => Ok(permit),
            Decision::Deny(denial) => Err(denial.into()),
        }
    }

    fn beyond_codes(&self, evidence: &Evidence) -> Option<Refusal> {
        self.judge(evidence).err().filter(Refusal::is_beyond_codes)
    }

    fn binding(&self, body: &[u8]) -> Result<GrantBinding, Refusal> {
        Ok(GrantBinding {
            method: self.inbound.method.clone(),
            target: Target::new(&self.inbound.site.authority, self.path, self.inbound.query()),
            body: GrantBinding::digest(body),
        })
    }
}

/// What a call of these endpoints is made with.
struct Caller<'a> {
    inbound: &'a Inbound,
    info: &'a ConnectionInfo,
    path: &'a NormalPath<'a>,
    now: Now,
}

impl Gateway {
    /// Serves a call of the deletions' endpoints.
    pub(super) async fn serve_erasure(
        &self,
        snapshot: &Snapshot,
        (endpoint, rest): (&ErasureEndpoint, &str),
        exchange: &mut Exchange,
        (inbound, info, path): (&Inbound, &ConnectionInfo, &NormalPath<'_>),
        body: &mut RequestBody,
        now: Now,
    ) -> Result<Passed<'static>, Refusal> {
        let erasures = snapshot.erasures.as_deref().ok_or_else(unavailable)?;
        // What the pages load is the same for all, and does not count.
        if let Some(Answer { response, reason, .. }) = Erasures::asset(&inbound.method, rest) {
            let _permit = own::judge(&AccessPolicy::default(), inbound, &endpoint.path, &own::stranger(), now)?;
            return Ok(Passed::Answered(response, reason));
        }
        self.charge_call(&endpoint.quota, &endpoint.path, inbound, now)?;
        let caller = Caller { inbound, info, path, now };
        let (operation, id) = match api::find(&inbound.method, rest) {
            Some(Ok(found)) => found,
            Some(Err(methods)) => return Err(Refusal::method_not_allowed(methods)),
            None => return self.serve_page(erasures, rest, exchange, caller, body).await,
        };
        let evidence = self.authenticated(snapshot, endpoint, exchange, &caller).await;
        // The description is for everybody; a credential that comes with it is not to be wrong all the same.
        let public = AccessPolicy::default();
        let is_public = operation.kind == Kind::OpenApi && matches!(evidence.credential, Credential::Absent);
        let policy = if is_public { &public } else { &endpoint.policy };
        let permit = own::judge(policy, inbound, &endpoint.path, &evidence, now)?;
        exchange.record.principal = permit.principal().cloned();
        let answer = match (operation.kind, permit.principal()) {
            (Kind::OpenApi, _) => Ok(erasures.described()),
            (Kind::List, Some(principal)) => erasures.listed(principal, now).await,
            (Kind::Show, Some(principal)) => erasures.seen(id, principal, now).await,
            (Kind::Preview, Some(principal)) => {
                return self.preview(snapshot, erasures, (principal, &evidence), caller).await;
            }
            (Kind::Cancel, Some(principal)) => {
                return self
                    .act((snapshot, endpoint), (May::Cancel, id), principal.clone(), (evidence, caller), body)
                    .await;
            }
            (Kind::Approve, Some(principal)) => {
                return self
                    .act((snapshot, endpoint), (May::Approve, id), principal.clone(), (evidence, caller), body)
                    .await;
            }
            (Kind::List | Kind::Show | Kind::Preview | Kind::Cancel | Kind::Approve, None) => return Err(anonymous()),
        };
        answer.map(passed).map_err(|fault| refusal(&fault))
    }

    /// What the credentials of a call are worth. A held account's are worth what they are; an erased one's are worth nothing.
    async fn authenticated(
        &self,
        snapshot: &Snapshot,
        endpoint: &ErasureEndpoint,
        exchange: &mut Exchange,
        caller: &Caller<'_>,
    ) -> Evidence {
        let presented = evidence::presented(caller.inbound, caller.info);
        let mut evidence = snapshot.authenticator.authenticate(&presented, &endpoint.accepted, caller.now).await;
        exchange.fresh_nonce = evidence.fresh_nonce.take();
        evidence::refuse_erased(snapshot, &mut evidence);
        evidence
    }

    /// A page, for whoever has its link: no credential is looked at.
    async fn serve_page(
        &self,
        erasures: &Erasures,
        rest: &str,
        exchange: &mut Exchange,
        Caller { inbound, info, now, .. }: Caller<'_>,
        body: &mut RequestBody,
    ) -> Result<Passed<'static>, Refusal> {
        let _permit = own::judge(&AccessPolicy::default(), inbound, inbound.uri.path(), &own::stranger(), now)?;
        let held = self.forms.read(body, inbound.origin.client, MAX_BYTES).await?;
        let call = Call {
            method: &inbound.method,
            path: rest,
            query: inbound.query(),
            authority: &inbound.site.authority,
            headers: &inbound.headers,
            body: held.content(),
            principal: None,
            client: inbound.origin.client,
            confidential: evidence::is_confidential(info) || erasures.config().danger_cleartext,
            request_id: exchange.record.request_id.as_str(),
            now,
        };
        let page = erasures.page(&call).await.ok_or_else(|| Refusal::of(Reason::DeletionNotFound))?;
        exchange.called(page)
    }

    /// Cancels or approves a deletion, for whoever may and has proved enough.
    async fn act(
        &self,
        (snapshot, endpoint): (&Snapshot, &ErasureEndpoint),
        (may, id): (May, &str),
        principal: Arc<Principal>,
        (mut evidence, Caller { inbound, info, path, now }): (Evidence, Caller<'_>),
        body: &mut RequestBody,
    ) -> Result<Passed<'static>, Refusal> {
        let erasures = snapshot.erasures.as_deref().ok_or_else(unavailable)?;
        // Whoever may not is told of none, before anything is said of a proof.
        let view =
            erasures.for_caller(id, Viewer::Caller(&principal), may, now).await.map_err(|fault| refusal(&fault))?;
        let plan = snapshot.plans.iter().find(|plan| *plan.plan.name == *view.known.erasure.plan);
        let asked = asked(endpoint, plan, may);
        if let Some(authority) = &snapshot.authority {
            evidence.second_factors = authority.elevations(&principal, now);
        }
        let guarded = (may == May::Approve).then_some(asked.assurance.as_ref()).flatten();
        let doing = Doing { inbound, path, policy: asked, guarded, now };
        let judged = match doing.judge(&evidence).map(Judged::from) {
            Err(refusal) if step_up::may_help(snapshot, inbound, &refusal) => {
                let mut form = None;
                self.prove(snapshot, refusal, &doing, info, &mut evidence, (body, &mut form)).await
            }
            judged => judged,
        };
        let Judged { permit, used } = judged?;
        if let Some(used) = used.filter(|used| used.is_rested_on(&permit)) {
            used.spend(now).await?;
        }
        erasures.done(may, &view.known, &principal, now).await.map(passed).map_err(|fault| refusal(&fault))
    }

    /// What would become of a request for a deletion. It is judged as it would be, but for its quota: what would refuse it refuses
    /// this, and only of a proof that is not enough it is said that it is not.
    async fn preview(
        &self,
        snapshot: &Snapshot,
        erasures: &Erasures,
        (principal, evidence): (&Principal, &Evidence),
        caller: Caller<'_>,
    ) -> Result<Passed<'static>, Refusal> {
        let Caller { inbound, info, now, .. } = caller;
        let wanted = Wanted::read(inbound.query().unwrap_or_default())?;
        let mut parts = wanted.head(inbound)?;
        let uri = parts.uri.clone();
        let server = &snapshot.config.server;
        let imagined = Inbound::parse(&mut parts, info, server, inbound.request_id.clone())?;
        known_method(&imagined.method, &server.methods)?;
        let path = NormalPath::parse(uri.path())
            .map_err(|fault| Refusal::of(Reason::AmbiguousPath).because(fault.to_string()))?;
        let matched = Matched::find(snapshot, &imagined, &path, None)?;
        matched.refuse_doubtful()?;
        let planned = matched.planned.ok_or_else(|| Refusal {
            said: Some("No deletion plan takes such a request over."),
            ..Refusal::of(Reason::DeletionNotFound)
        })?;
        let enforcement = Enforcement { inbound: &imagined, path: &path, matched: &matched, now };
        let lacks = lacks(&enforcement, evidence)?;
        let body = wanted.body.as_deref().map(|body| Readable::Json(body.as_bytes()));
        let target = erasure::target(erasures, planned, principal, (&path, imagined.query()), body)?;
        if !target.own && matches!(erasures.standing(principal), Standing::Held { .. }) {
            return Err(Refusal::of(Reason::SubjectHeld));
        }
        let Planned { plan: CompiledPlan { plan, .. }, operation, .. } = planned;
        let preview = erasures.preview(plan, &target, now).await.map_err(|fault| refusal(&fault))?;
        let previewed = Previewed { preview: &preview, plan, operation: &operation.text, own: target.own, lacks };
        Ok(passed(previewed.answer(erasures)))
    }
}

/// What is missing of the proof that a request needs, by any of the ways in which it may be taken; what is wrong besides refuses it.
fn lacks(enforcement: &Enforcement<'_>, evidence: &Evidence) -> Result<Vec<&'static str>, Refusal> {
    let mut lacks = Vec::new();
    for (route, method) in enforcement.matched.ways() {
        for check in enforcement.facts(route, method, evidence, |facts| explain(&route.policy, facts)) {
            match check.held {
                Held::No(denial) if matches!(denial.challenge, Challenge::StepUp(_)) => {
                    if !lacks.contains(&denial.reason.name()) {
                        lacks.push(denial.reason.name());
                    }
                }
                Held::No(denial) => return Err(denial.into()),
                Held::NotAsked | Held::Yes | Held::BySecondFactor | Held::Instead => {}
            }
        }
    }
    Ok(lacks)
}

/// The request that a preview is of.
struct Wanted<'q> {
    method: Option<Cow<'q, str>>,
    target: Cow<'q, str>,
    body: Option<Cow<'q, str>>,
}

impl<'q> Wanted<'q> {
    fn read(query: &'q str) -> Result<Self, Refusal> {
        let (mut method, mut target, mut body) = (None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "method" => &mut method,
                "target" => &mut target,
                "body" => &mut body,
                _ => return Err(bad_call("A preview has `method`, `target` and `body`, and nothing else.")),
            };
            if place.replace(value).is_some() {
                return Err(bad_call("Each of `method`, `target` and `body` is there once."));
            }
        }
        let target = target.filter(|target: &Cow<'_, str>| target.len() <= MAX_TARGET);
        let target = target.ok_or_else(|| bad_call("`target` says what would be deleted: a path, or a URL."))?;
        Ok(Self { method, target, body })
    }

    /// The head that such a request of the caller would have. Credentials were taken out of the caller's.
    fn head(&self, inbound: &Inbound) -> Result<Parts, Refusal> {
        let method = self.method.as_deref().unwrap_or("DELETE");
        let method: Method = method.parse().map_err(|_| bad_call("`method` is none."))?;
        let bad = |_| bad_call("`target` is neither a path nor a URL.");
        if self.target.contains('#') {
            return Err(bad_call("`target` has no fragment."));
        }
        let uri: Uri = self.target.parse().map_err(bad)?;
        let mut headers: HeaderMap = inbound.headers.clone();
        if uri.authority().is_none() {
            if !self.target.starts_with('/') {
                return Err(bad_call("`target` begins with `/`, or is a URL."));
            }
            let host = HeaderValue::from_str(&inbound.site.authority).map_err(|_| bad_call("The call has no host."))?;
            headers.insert(header::HOST, host);
        }
        // What says how the call's own body is framed says nothing of the request's.
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONTENT_TYPE, header::CONTENT_ENCODING]
        {
            headers.remove(name);
        }
        let (mut parts, ()) = Request::new(()).into_parts();
        (parts.method, parts.uri, parts.headers) = (method, uri, headers);
        Ok(parts)
    }
}

fn bad_call(said: &'static str) -> Refusal {
    Refusal { said: Some(said), ..Refusal::of(Reason::CallRefused) }
}

/// The proof that a call needs which does something to a deletion. Where the plan is not there any more, the guard's.
fn asked<'a>(endpoint: &'a ErasureEndpoint, plan: Option<&'a CompiledPlan>, may: May) -> &'a AccessPolicy {
    match (plan, may) {
        (Some(plan), May::Cancel | May::See) => &plan.cancelling,
        (Some(plan), May::Approve) => &plan.approving,
        (None, May::Cancel | May::Approve | May::See) => &endpoint.acting,
    }
}

fn anonymous() -> Refusal {
    Refusal { challenge: Challenge::Token, ..Refusal::of(Reason::TokenMissing) }
}

fn passed(Answer { response, reason, .. }: Answer) -> Passed<'static> {
    Passed::Answered(response, reason)
}
