//! Deletions that a plan takes over: what the request asks for and whether its caller may, and what is answered in place of
//! forwarding it. A request that merely could pass for one is refused, and so is every other way to the same.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, header};

use super::{
    Enforcement, Gateway, Passed, Refusal,
    enforce::Clearance,
    forms::HeldForm,
    inbound::Inbound,
    matched::{Matched, Planned},
    step_up::UsedGrant,
};
use crate::{
    body,
    clock::Now,
    config::ValueSource,
    erasure::{Ask, Erasures, Fault, RequestBody, RequestValues, Shown as Proved, Target, TargetFault, life::NotNow},
    policy::{Factors, Permit, Principal, Reason},
    route::NormalPath,
    runtime::{CompiledPlan, Snapshot},
};

/// The longest body that a value is looked for in.
const MAX_BYTES: usize = 64 << 10;
/// Seconds after which the store may be there again.
const RETRY_AFTER_SECS: u64 = 5;

/// A deletion that is to be asked for: by which operation of which plan, whose data it is about, and what was proved.
pub(super) struct Taken<'s> {
    erasures: &'s Erasures,
    planned: Planned<'s>,
    target: Target,
    proof: Proved,
}

impl Matched<'_> {
    /// Refuses what could pass for an operation of a plan, and is not in its exact form.
    pub fn refuse_doubtful(&self) -> Result<(), Refusal> {
        match self.planned {
            Some(Planned { is_exact: false, .. }) => Err(Refusal::of(Reason::DeletionAmbiguous)),
            Some(Planned { is_exact: true, .. }) | None => Ok(()),
        }
    }
}

impl Gateway {
    /// What a request asks for, where a plan takes it over: it is the caller's own data, or the caller may ask for that of others.
    /// The body is read where the plan looks for a value in it, and held in `form`. `is_held`: whether the caller's own account is held
    /// by a deletion; nothing is left to them then but to ask for that once more.
    pub(super) async fn whose<'s>(
        &'s self,
        (snapshot, is_held): (&'s Snapshot, bool),
        planned: Planned<'s>,
        enforcement: &Enforcement<'_>,
        (permit, used): (&Permit, Option<&UsedGrant<'_>>),
        (body, form): (&mut body::RequestBody, &mut Option<Box<HeldForm<'s>>>),
    ) -> Result<Taken<'s>, Refusal> {
        let erasures = snapshot.erasures.as_deref().ok_or_else(unavailable)?;
        // A plan's operations are always guarded, so there is somebody.
        let (Some(principal), true) = (permit.principal(), permit.guarded()) else {
            return Err(Refusal::of(Reason::InternalFault).because("nobody asks for a deletion that a plan takes over"));
        };
        let Enforcement { inbound, path, now, .. } = *enforcement;
        let body = if wants_body(planned.plan) {
            let held = match form {
                Some(held) => held,
                None => form.insert(Box::new(self.forms.read(body, inbound.origin.client, MAX_BYTES).await?)),
            };
            Some(readable(&inbound.headers, held.content())?)
        } else {
            None
        };
        let target = target(erasures, planned, principal, (path, inbound.query()), body)?;
        if is_held && !target.own {
            return Err(Refusal::of(Reason::SubjectHeld));
        }
        Ok(Taken { erasures, planned, target, proof: proof(permit, used, inbound, now) })
    }

    /// Steps 7 and 8 of a deletion that a plan takes over: it is made durable and answered, and nothing is forwarded.
    pub(super) async fn take_over(
        &self,
        taken: Taken<'_>,
        clearance: Clearance,
        now: Now,
    ) -> Result<Passed<'static>, Refusal> {
        let Taken { erasures, planned: Planned { plan, operation, .. }, target, proof } = taken;
        let receipt = match clearance.principal() {
            Some(principal) => {
                let ask = Ask { plan: &plan.plan, operation: &operation.text, target, principal, proof, now };
                erasures.request(ask).await.map_err(|fault| refusal(&fault))
            }
            None => Err(Refusal::of(Reason::InternalFault).because("a clearance for nobody")),
        };
        match receipt {
            Ok(receipt) => {
                let answer = erasures.accepted(&receipt);
                if let Some(ticket) = clearance.into_ticket() {
                    ticket.answered(answer.status().as_u16());
                }
                Ok(Passed::Answered(answer, Reason::Allowed))
            }
            Err(refusal) => {
                clearance.give_up(refusal.reason);
                Err(refusal)
            }
        }
    }
}

/// Whether a plan looks for a value in the body.
fn wants_body(plan: &CompiledPlan) -> bool {
    let is_there = |source: &ValueSource| matches!(source, ValueSource::Body(_));
    is_there(&plan.plan.subject) || plan.plan.bind.iter().any(|(source, _)| is_there(source))
}

/// Whose data a request is about.
pub(super) fn target(
    erasures: &Erasures,
    Planned { plan, operation, .. }: Planned<'_>,
    principal: &Principal,
    (path, query): (&NormalPath<'_>, Option<&str>),
    body: Option<RequestBody<'_>>,
) -> Result<Target, Refusal> {
    let parameters = operation.path.parameters(path);
    let whole = path.as_str();
    let path: Vec<(&str, Cow<'_, str>)> =
        parameters.iter().map(|(name, value)| (&**name, Cow::Borrowed(value.as_str()))).collect();
    let values = RequestValues { whole, path: &path, query, body };
    erasures.target(&plan.plan, principal, &values).map_err(|fault| match fault {
        TargetFault::NotOwner => Refusal::of(Reason::DeletionNotOwner),
        TargetFault::Missing(ValueSource::Caller) => Refusal::of(Reason::DeletionNotOwner)
            .because("the caller's credential lacks a claim that the plan's requests need"),
        TargetFault::Missing(ValueSource::Path(_)) => doubtful("The path does not say whose data it is about."),
        TargetFault::Missing(ValueSource::Query(_)) => doubtful("The query does not say whose data it is about."),
        TargetFault::Missing(ValueSource::Body(_)) => doubtful("The body does not say whose data it is about."),
        TargetFault::Ambiguous => {
            doubtful("A value that says whose data it is about is there twice, or is none that could be one.")
        }
    })
}

fn doubtful(said: &'static str) -> Refusal {
    Refusal { said: Some(said), ..Refusal::of(Reason::DeletionAmbiguous) }
}

/// A body as a value is looked for in it: JSON or a form, said once, and as it is.
fn readable<'b>(headers: &HeaderMap, body: &'b Bytes) -> Result<RequestBody<'b>, Refusal> {
    let unreadable =
        || doubtful("The body is application/json or application/x-www-form-urlencoded, without a coding.");
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None, false) = (kinds.next(), kinds.next(), headers.contains_key(header::CONTENT_ENCODING)) else {
        return Err(unreadable());
    };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        Ok(RequestBody::Json(body))
    } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(RequestBody::Form(body))
    } else {
        Err(unreadable())
    }
}

/// What whoever asks has proved: by the credential, and by a second factor beside it.
pub(super) fn proof(permit: &Permit, used: Option<&UsedGrant<'_>>, inbound: &Inbound, now: Now) -> Proved {
    let of_token = permit.principal().map(|principal| &principal.assurance);
    let second = permit.second_factors().first();
    let strongest = second.map(|second| &second.assurance).or(of_token);
    let both = || second.map(|second| &second.assurance).into_iter().chain(of_token);
    let mut amr: Vec<Box<str>> = Vec::new();
    for method in both().flat_map(|assurance| assurance.amr.iter()) {
        if !amr.iter().any(|known| **known == **method) {
            amr.push((&**method).into());
        }
    }
    let mut factors = of_token.map_or(Factors::NONE, |assurance| assurance.factors);
    if let Some(second) = second {
        factors = factors.or(second.factors);
    }
    let at = strongest.and_then(|assurance| assurance.auth_time).filter(|at| at.is_finite());
    Proved {
        acr: both().find_map(|assurance| assurance.acr.as_deref()).map(Into::into),
        amr,
        factors: factors.iter().map(|factor| factor.name().into()).collect(),
        age_secs: at.map(|at| (now.numeric_date() - at).max(0.0) as u64),
        grant: used.map(|used| (&*used.grant.id).into()),
        request_id: Some(inbound.request_id.as_str().into()),
    }
}

/// What could not be done for a deletion, as callers are told.
pub(super) fn refusal(fault: &Fault) -> Refusal {
    match fault {
        Fault::NotFound | Fault::Absent => Refusal::of(Reason::DeletionNotFound),
        Fault::NotNow(NotNow::SamePerson) => Refusal::of(Reason::DeletionOwnApproval),
        Fault::NotNow(why) => Refusal::of(Reason::DeletionTooLate).because(why.to_string()),
        Fault::Frozen => Refusal::of(Reason::DeletionFrozen),
        Fault::AnotherOpen => Refusal::of(Reason::DeletionOpen),
        Fault::Lookup => {
            Refusal::of(Reason::UpstreamInvalid).because("a lookup of the deletion plan had no usable answer")
        }
        Fault::Untold => unavailable().because(fault.to_string()),
        Fault::Store(fault) => unavailable().because(fault.to_string()),
    }
}

/// Nothing can be said of deletions now, so nothing is done.
pub(super) fn unavailable() -> Refusal {
    Refusal { retry_after: Some(RETRY_AFTER_SECS), ..Refusal::of(Reason::ErasureUnavailable) }
}
