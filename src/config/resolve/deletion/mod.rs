//! Account deletions: each plan takes over operations of its own, and none lets a caller delete what is not theirs.

mod calls;
mod cover;
mod operation;
mod plan;
mod recipient;
mod whose;

use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use super::{Context, authority, limit, listener, planned, route::Shared, table::Table};
use crate::{
    config::{
        DeletionBreaker, DeletionGuard, DeletionPlan, Deletions, GuardedOperation, Limit, LimitKey, Listener, Route,
        document::{self, Document},
        quantity::RateText,
    },
    route::overlap,
};

/// More plans than kinds of accounts are a slip.
const MAX_PLANS: usize = 64;

/// What the paths of deletions must not meet.
pub(super) struct Neighbours<'a> {
    pub(super) listeners: &'a [Listener],
    pub(super) routes: &'a [Route],
    /// Where the keys of assertions are served.
    pub(super) jwks_path: Option<&'a str>,
}

/// The plans' quotas, in the order of the file; `None` was reported.
pub(super) struct Quotas(Vec<Option<Arc<Limit>>>);

/// Puts each operation of a plan under the guard; its quota is the plan's, besides those that the guard has. Routes are resolved after
/// this, so that they are judged by it.
pub(super) fn guard(
    document: &Document,
    guard: Option<&mut DeletionGuard>,
    limits: &Table<Limit>,
    to: &mut Context<'_>,
) -> Quotas {
    let Some(written) = &document.deletions else { return Quotas(Vec::new()) };
    let mut quotas = Vec::with_capacity(written.plans.entries.len());
    let mut operations = Vec::new();
    for entry in &written.plans.entries {
        let Some(plan) = &entry.value else {
            quotas.push(None);
            continue;
        };
        let quota = limit::guarded(&plan.limit, &format!("deletions {}", entry.name), limits, to);
        for operation in &plan.operations.0 {
            operations.push(GuardedOperation {
                span: operation.span.clone(),
                text: operation.value.text.as_str().into(),
                method: operation.value.method.clone(),
                path: operation.value.path.clone(),
                limit: None,
            });
        }
        quotas.push(quota);
    }
    if let Some(guard) = guard {
        for operation in operations {
            if !guard.operations.iter().any(|known| known.text == operation.text) {
                guard.operations.push(operation);
            }
        }
    }
    Quotas(quotas)
}

pub(super) fn deletions(
    document: &Document,
    quotas: &Quotas,
    shared: &Shared<'_>,
    neighbours: &Neighbours<'_>,
    to: &mut Context<'_>,
) -> Option<Arc<Deletions>> {
    let written = document.deletions.as_ref()?;
    report_path(written, document, shared, neighbours, to);
    listener::report_cleartext(
        neighbours.listeners,
        (&written.span, &written.danger_cleartext),
        &listener::Without {
            danger: "tokens and the links in notices can be read on the way",
            some: "deletions are neither shown nor cancelled here",
            none: "nobody could see or cancel a deletion",
        },
        to,
    );
    if written.plans.entries.is_empty() && written.plans.complete {
        // What was asked for under plans of before is carried out all the same, and whoever is erased stays so.
        let help = "add a plan; `deletions` can be left out once the store has no deletion, and nobody who is erased";
        to.warn(&written.span, "there is no plan: nothing is taken over", help);
    }
    if written.plans.entries.len() > MAX_PLANS {
        to.error(&written.span, format!("there are more than {MAX_PLANS} plans"));
    }
    if shared.guard.as_ref().is_some_and(|guard| !guard.enabled) {
        let message = "the deletion guard is off, and plans stand on it: nothing would ask for a proof";
        to.error_with_help(&written.span, message, "leave `deletion_guard.danger_disabled` out");
    }
    let operators = recipient::operators(&written.operators, document, to);
    if written.operators.is_empty() {
        let message =
            "no operator is told of what waits for a person: steps that failed for good, disputes, the breaker";
        to.warn(&written.span, message, "add `operators: [{mail: …}]` or a webhook, and watch the metrics");
    }
    let mut plans = Vec::with_capacity(written.plans.entries.len());
    for (entry, quota) in written.plans.entries.iter().zip(&quotas.0) {
        let Some(section) = &entry.value else { continue };
        let context = plan::Surroundings { document, shared, routes: neighbours.routes };
        plans.push(plan::plan(entry, section, quota.as_ref(), &context, to).map(Arc::new));
    }
    report_overlaps(written, to);
    let rate = limit::plain_rate(written.limit.value);
    // The name is none that a limit of the file can have.
    let limit = Limit { span: written.limit.span.clone(), name: "deletion calls".into(), key: LimitKey::Ip, rate };
    let plans = plans.into_iter().collect::<Option<Vec<Arc<DeletionPlan>>>>()?;
    let requirements = planned::requirements(&plans, neighbours.routes, to);
    Some(Arc::new(Deletions {
        span: written.span.clone(),
        url: written.url.value.0.clone(),
        path: written.path.value.0.as_str().into(),
        breaker: DeletionBreaker {
            total: breaker(written.breaker.total.value),
            by_principal: breaker(written.breaker.by_principal.value),
        },
        operators,
        evidence_for: written.evidence_for.as_ref().map(|at| at.value),
        limit: Arc::new(limit),
        danger_cleartext: written.danger_cleartext.value,
        plans,
        requirements,
    }))
}

fn breaker(rate: RateText) -> (NonZeroU32, Duration) {
    (rate.count, rate.period)
}

/// The path comes before the routes, so that none may be meant for it, and nothing else of the gateway's may be below it, nor it
/// below something else.
fn report_path(
    written: &document::Deletions,
    document: &Document,
    shared: &Shared<'_>,
    neighbours: &Neighbours<'_>,
    to: &mut Context<'_>,
) {
    let (span, path) = (&written.path.span, written.path.value.0.as_str());
    // A default that clashes is shown at the section, which stands in the file.
    let span = if span.line > 0 { span } else { &written.span };
    let help = "give one of them another path; that of deletions is `deletions.path`";
    let meets = |other: &str| authority::below(other, path) || authority::below(path, other);
    if let Some(route) = neighbours.routes.iter().find(|route| authority::below(route.path.as_str(), path)) {
        let message = format!("the route on line {} is for `{path}`, or what is below it, too", route.span.line);
        to.error_with_help(span, message, help);
    }
    let issuers = shared.issuers.values();
    for events in issuers.iter().filter_map(|issuer| issuer.events.as_ref()).filter(|events| meets(&events.path)) {
        let message = format!("the events on line {} have this path, or one that holds it", events.span.line);
        to.error_with_help(span, message, help);
    }
    if let Some(authority) = document.authority.as_ref().filter(|authority| meets(authority.path.value.0.as_str())) {
        let message = format!("the authority on line {} has this path, or one that holds it", authority.span.line);
        to.error_with_help(span, message, help);
    }
    if neighbours.jwks_path.is_some_and(meets) {
        to.error_with_help(span, "the keys of `assertions` are served below this path", help);
    }
    for method in [http::Method::GET, http::Method::POST] {
        if !shared.server.methods.contains(&method) {
            let message = format!("deletions are seen and cancelled by {method}, which is not among `server.methods`");
            to.error_with_help(&written.span, message, "add it there");
        }
    }
}

/// A request is one plan's, or none's; and what is covered is refused, so it cannot be taken over.
fn report_overlaps(written: &document::Deletions, to: &mut Context<'_>) {
    let plans = || written.plans.entries.iter().filter_map(|entry| Some((entry, entry.value.as_ref()?)));
    let all: Vec<_> = plans().flat_map(|(entry, plan)| plan.operations.0.iter().map(move |at| (entry, at))).collect();
    let meet = |one: &crate::config::text::OperationText, other: &crate::config::text::OperationText| {
        let methods = one.method.is_none() || other.method.is_none() || one.method == other.method;
        methods && overlap::overlaps(&one.path, &other.path)
    };
    for (place, (_, at)) in all.iter().enumerate() {
        if let Some((entry, other)) = all.iter().take(place).find(|(_, other)| meet(&at.value, &other.value)) {
            let message = match at.value.text == other.value.text {
                true => format!("`{}` is an operation of the plan `{}` already", at.shown, entry.name),
                false => format!("`{}` could be `{}` of the plan `{}`, too", at.shown, other.shown, entry.name),
            };
            to.error_with_help(&at.span, message, "a request is taken over by one operation of one plan");
        }
    }
    let mut seen = HashSet::new();
    for (_, plan) in plans() {
        for cover in plan.covers.iter().filter(|cover| cover.mutations.is_none() && cover.batch.is_none()) {
            let (matched, operation) =
                (&cover.matched, all.iter().find(|(_, at)| meet(&at.value, &cover.matched.value)));
            if let Some((entry, operation)) = operation
                && seen.insert(&matched.value.text)
            {
                let message = format!(
                    "`{}` is refused, and could be the operation `{}` of the plan `{}`",
                    matched.shown, operation.shown, entry.name
                );
                to.error_with_help(
                    &matched.span,
                    message,
                    "cover what is not an operation: a narrower path, or another method",
                );
            }
        }
    }
}
