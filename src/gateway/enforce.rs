//! Step 6: from a permit to a clearance. Charges the quotas, uses up the grant that the permit rests on, then makes the intent
//! of a guarded operation durable. Only what holds a [`Clearance`] is forwarded, and a clearance is made nowhere else.

use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

use super::{
    Refusal,
    inbound::Inbound,
    matched::Matched,
    shaping,
    step_up::{self, UsedGrant},
};
use crate::{
    clock::Now,
    limit::{Combined, KeyFacts, Outcome as QuotaOutcome, Quota, QuotaKey, RateHeaders, RateLimiter, check_all},
    policy::{ConditionInput, Evidence, Facts, Permit, Possession, Principal, Reason, SecondFactor},
    route::NormalPath,
    runtime::CompiledRoute,
    telemetry::{
        Metrics,
        audit::{Attempt, AuditFault, AuditLog, IntentId, Outcome},
    },
};

/// The right to be forwarded, once everything that it obliges us to has been done.
#[derive(Debug)]
#[must_use = "a clearance that is dropped is an operation of unknown outcome"]
pub struct Clearance {
    principal: Option<Arc<Principal>>,
    ticket: Option<AuditTicket>,
}

/// A guarded operation that was allowed and whose outcome is still to be told. Dropped, it tells that nobody knows.
#[derive(Debug)]
pub struct AuditTicket {
    audit: Arc<AuditLog>,
    intent: Option<IntentId>,
}

/// The right to send a copy of what was cleared to a mirror; made from a clearance alone.
#[derive(Debug)]
pub struct CopyRight(());

impl Clearance {
    /// The right to a copy; `None` for what is not copied: a guarded operation, or what may be taken for one or for another way to it.
    pub fn copy_right(&self, matched: &Matched<'_>) -> Option<CopyRight> {
        let is_plain = self.ticket.is_none() && !matched.guarded() && matched.covered.is_empty();
        is_plain.then_some(CopyRight(()))
    }

    /// Whoever was verified.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// Gives up the clearance where nothing was forwarded.
    pub fn give_up(self, reason: Reason) {
        if let Some(ticket) = self.ticket {
            ticket.failed(reason);
        }
    }

    /// Gives up the clearance for what is left to do after forwarding.
    pub fn into_ticket(self) -> Option<AuditTicket> {
        self.ticket
    }
}

impl AuditTicket {
    /// The upstream answered.
    pub fn answered(mut self, status: u16) {
        self.tell(Outcome::Answered { status });
    }

    /// It did not.
    pub fn failed(mut self, reason: Reason) {
        self.tell(Outcome::Failed { reason });
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(intent) = self.intent.take() {
            self.audit.outcome(intent, outcome);
        }
    }
}

impl Drop for AuditTicket {
    fn drop(&mut self) {
        self.tell(Outcome::Unknown);
    }
}

/// What enforcement needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Enforcement<'a> {
    /// The head.
    pub inbound: &'a Inbound,
    /// Its path.
    pub path: &'a NormalPath<'a>,
    /// The routes.
    pub matched: &'a Matched<'a>,
    /// The request's one moment.
    pub now: Now,
}

impl Enforcement<'_> {
    /// Gives the facts of the request, taken in one of its ways, to whoever judges it.
    pub fn facts<T>(
        &self,
        route: &CompiledRoute,
        method: &Method,
        evidence: &Evidence,
        judge: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let Self { inbound, path, matched, now } = *self;
        let params = if route.policy.when.is_some() { route.pattern.parameters(path) } else { Vec::new() };
        judge(&Facts {
            credential: &evidence.credential,
            possession: evidence.possession,
            second_factors: &evidence.second_factors,
            guarded: matched.guarded(),
            planned: matched.planned_requirement(route),
            input: ConditionInput {
                method: method.as_str(),
                path: path.as_str(),
                path_params: &params,
                query: inbound.query(),
                headers: &inbound.headers,
                client_ip: inbound.origin.client,
                principal: None,
                now,
            },
        })
    }
}

/// Charges quotas by address: before any cryptography, and whatever becomes of the request.
pub(super) fn charge_early(
    enforcement: &Enforcement<'_>,
    metrics: &Metrics,
) -> (Option<RateHeaders>, Result<(), Refusal>) {
    let quotas = enforcement.matched.all().flat_map(|route| charged(route, &route.early_quotas));
    charge(quotas, enforcement, None, metrics)
}

/// A permit whose quotas have been charged.
pub(super) struct Charged(Permit);

/// Charges the other quotas, all or none. While the audit log cannot be written a guarded operation is refused before: what was
/// refused does not count, and its grant stays good. Only what was on its way to the log when that failed stays charged.
pub(super) fn charge_late(
    permit: Permit,
    enforcement: &Enforcement<'_>,
    limiter: &RateLimiter,
    audit: &AuditLog,
    metrics: &Metrics,
) -> (Option<RateHeaders>, Result<Charged, Refusal>) {
    let Enforcement { matched, .. } = *enforcement;
    if permit.guarded()
        && let Err(fault) = audit.ready()
    {
        return (None, Err(unaudited(&fault)));
    }
    let principal = permit.principal().map(|principal| &**principal);
    let own = match own_quotas(principal, limiter) {
        Ok(own) => own,
        Err(refusal) => return (None, Err(refusal)),
    };
    let deletion = permit.guarded().then(|| matched.deletion_quotas()).into_iter().flatten();
    // These are no route's: one that counts by route counts on each that the request may be taken for.
    let others = deletion.chain(&own).flat_map(|quota| matched.all().map(move |route| (&*route.name, quota)));
    // One that counts by address may stand among the others as well, and has been charged.
    let is_charged = |quota: &Arc<Quota>| {
        matched.all().any(|route| route.early_quotas.iter().any(|early| Arc::ptr_eq(early, quota)))
    };
    let quotas = matched.all().flat_map(|route| charged(route, &route.late_quotas)).chain(others);
    let quotas = quotas.filter(|(_, quota)| !is_charged(quota));
    let (rates, charged) = charge(quotas, enforcement, principal, metrics);
    (rates, charged.map(|()| Charged(permit)))
}

/// Gives the clearance; the grant that it rests on is used up then, and the intent of a guarded operation durable.
pub(super) async fn clear(
    Charged(permit): Charged,
    enforcement: &Enforcement<'_>,
    used: Option<&UsedGrant<'_>>,
    audit: &Arc<AuditLog>,
) -> Result<Clearance, Refusal> {
    // After all that could refuse the request and leave the grant as it was. Boxed, as the next: few requests need it.
    if let Some(used) = used.filter(|used| used.is_rested_on(&permit)) {
        Box::pin(used.spend(enforcement.now)).await?;
    }
    let principal = permit.principal().cloned();
    let ticket = if permit.guarded() {
        let proofs = Proofs {
            possession: permit.possession(),
            second_factors: permit.second_factors(),
            grant: used.map(|used| &used.grant.id),
        };
        Some(Box::pin(intent(enforcement, principal.as_ref(), proofs, audit)).await?)
    } else {
        None
    };
    Ok(Clearance { principal, ticket })
}

/// What was proved besides the credential, for the audit trail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proofs<'a> {
    pub(super) possession: Option<Possession>,
    pub(super) second_factors: &'a [Arc<SecondFactor>],
    pub(super) grant: Option<&'a Arc<str>>,
}

impl UsedGrant<'_> {
    pub(super) fn is_rested_on(&self, permit: &Permit) -> bool {
        permit.second_factors().iter().any(|second| Arc::ptr_eq(second, &self.grant.proof))
    }

    /// Uses the grant up: whoever does so first is the only one.
    pub(super) async fn spend(&self, now: Now) -> Result<(), Refusal> {
        self.authority.spend(&self.grant, now).await.map_err(step_up::refusal)
    }
}

/// The quotas that a credential has of its own. They are names of this very configuration; one that is none would be no
/// bound at all, so nothing is forwarded then.
fn own_quotas(principal: Option<&Principal>, limiter: &RateLimiter) -> Result<SmallVec<[Arc<Quota>; 2]>, Refusal> {
    let names = principal.into_iter().flat_map(|principal| &principal.limits);
    let found: Option<_> = names.map(|name| limiter.quota(name)).collect();
    found.ok_or_else(|| Refusal::of(Reason::InternalFault).because("a credential names a limit that is not there"))
}

/// Quotas with the route that they are charged for: an alias is charged as itself.
fn charged<'a>(route: &'a CompiledRoute, quotas: &'a [Arc<Quota>]) -> impl Iterator<Item = (&'a str, &'a Arc<Quota>)> {
    quotas.iter().map(|quota| (&*route.name, quota))
}

fn charge<'a>(
    quotas: impl Iterator<Item = (&'a str, &'a Arc<Quota>)>,
    enforcement: &Enforcement<'_>,
    principal: Option<&Principal>,
    metrics: &Metrics,
) -> (Option<RateHeaders>, Result<(), Refusal>) {
    let facts = |route| KeyFacts {
        principal,
        client: enforcement.inbound.origin.client,
        headers: &enforcement.inbound.headers,
        route,
    };
    let mut quotas = quotas.peekable();
    if quotas.peek().is_none() {
        return (None, Ok(()));
    }
    let charges: SmallVec<[(&Quota, QuotaKey); 4]> =
        quotas.map(|(route, quota)| (&**quota, quota.key_of(&facts(route)))).collect();
    let combined = check_all(&charges, enforcement.now.instant);
    let refusal = refusal(&combined, metrics);
    (RateHeaders::new(&combined), refusal.map_or(Ok(()), Err))
}

fn refusal(combined: &Combined<'_>, metrics: &Metrics) -> Option<Refusal> {
    if combined.outcome == QuotaOutcome::Admit {
        return None;
    }
    let mut first: Option<Arc<str>> = None;
    for verdict in combined.refusing() {
        metrics.quota_rejections(verdict.quota.name()).inc();
        first.get_or_insert_with(|| verdict.quota.name().into());
    }
    Some(Refusal::quota(first.unwrap_or_else(|| "".into()), combined.retry_after_secs()))
}

/// The record of an attempt at a guarded operation by a verified caller.
pub(super) fn attempt(
    enforcement: &Enforcement<'_>,
    principal: &Arc<Principal>,
    proofs: Proofs<'_>,
    reason: Reason,
) -> Attempt {
    let Enforcement { inbound, path, matched, now } = *enforcement;
    let params = matched.route.pattern.parameters(path);
    let covered = || matched.covered.first().map(|cover| &cover.text);
    let operation = matched.operations.first().map(|operation| &operation.text).or_else(covered);
    // Where more than one service may get it, which one does.
    let is_split = matched.route.shaping.as_ref().is_some_and(|shaping| shaping.canary.is_some());
    let backend = || matched.route.backend(shaping::side(matched.route, inbound, Some(principal)));
    let upstream = if is_split && reason == Reason::Allowed { backend() } else { None };
    let upstream = upstream.map(|backend| backend.upstream.name.clone());
    Attempt {
        unix_ms: now.unix_ms,
        principal: principal.clone(),
        possession: proofs.possession,
        second_factors: proofs.second_factors.into(),
        grant: proofs.grant.cloned(),
        address: inbound.origin.client,
        method: matched.method.as_str().into(),
        route: matched.route.name.clone(),
        upstream,
        operation: operation.cloned().unwrap_or_else(|| "".into()),
        path: path.as_str().into(),
        path_params: params.into_iter().map(|(name, value)| (name, value.into())).collect(),
        request_id: inbound.request_id.as_str().into(),
        reason,
    }
}

async fn intent(
    enforcement: &Enforcement<'_>,
    principal: Option<&Arc<Principal>>,
    proofs: Proofs<'_>,
    audit: &Arc<AuditLog>,
) -> Result<AuditTicket, Refusal> {
    // A guarded permit always has a principal; without one nothing may be forwarded.
    let principal =
        principal.ok_or_else(|| Refusal::of(Reason::InternalFault).because("a permit without a principal"))?;
    match audit.intent(attempt(enforcement, principal, proofs, Reason::Allowed)).await {
        Ok(intent) => Ok(AuditTicket { audit: audit.clone(), intent: Some(intent) }),
        Err(fault) => Err(unaudited(&fault)),
    }
}

/// Nothing is done that cannot be written down.
fn unaudited(fault: &AuditFault) -> Refusal {
    let mut refusal = Refusal::of(Reason::AuditUnavailable).because(fault.to_string());
    refusal.retry_after = Some(5);
    refusal
}

/// The rate-limit fields of both charges.
pub(super) fn join_rates(early: Option<RateHeaders>, late: Option<RateHeaders>) -> Option<RateHeaders> {
    match (early, late) {
        (Some(early), Some(late)) => Some(early.and(late)),
        (early, late) => early.or(late),
    }
}
