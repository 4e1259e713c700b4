//! A plan, as a whole.

use std::sync::Arc;

use super::{calls, cover, operation, recipient, whose};
use crate::{
    config::{
        DeletionPlan, Kept, Limit, Route, Scope, Terms, WhileHeld,
        decode::{At, NamedEntry},
        document::{self, Document, Grace},
        resolve::{Context, limit, route::Shared},
        text,
    },
    policy::Requirement,
};

/// What a plan stands among.
pub(super) struct Surroundings<'a> {
    pub(super) document: &'a Document,
    pub(super) shared: &'a Shared<'a>,
    pub(super) routes: &'a [Route],
}

/// The most items of a scope.
const MAX_ITEMS: usize = 64;

/// `None` was reported.
pub(super) fn plan(
    entry: &NamedEntry<document::DeletionPlan>,
    written: &document::DeletionPlan,
    quota: Option<&Arc<Limit>>,
    around: &Surroundings<'_>,
    to: &mut Context<'_>,
) -> Option<DeletionPlan> {
    let operations = operation::operations(written, around, to);
    whose::report(written, &operations, to);
    let issuer = whose::issuer(written, &operations, around, to);
    let owner = whose::owner(written, to);
    whose::report_own_data(written, to);
    let covers = cover::covers(written, around, to);
    let cancel_assurance = match &written.cancel.assurance {
        Some(text) => limit::assurance(text, &around.shared.levels, to).map(|level| Requirement::clone(&level)),
        None => around.shared.guard.as_ref().map(|guard| guard.assurance.clone()),
    };
    let terms = terms(entry, written, &operations, around, to);
    let openapi = written.openapi.as_ref().map(|file| to.file(file));
    Some(DeletionPlan {
        span: entry.span.clone(),
        name: entry.name.clone(),
        covers,
        openapi,
        subject: written.subject.value.0.clone(),
        owner,
        issuer,
        others: written.others.iter().map(|scope| scope.value.0.as_str().into()).collect(),
        bind: written.bind.0.iter().map(|(source, claim)| (source.value.0.clone(), claim.value.clone())).collect(),
        assurance: operations.own,
        cancel_assurance: Some(cancel_assurance?),
        limit: quota?.clone(),
        terms: Arc::new(terms?),
        operations: operations.operations,
    })
}

fn terms(
    entry: &NamedEntry<document::DeletionPlan>,
    written: &document::DeletionPlan,
    operations: &operation::Operations,
    around: &Surroundings<'_>,
    to: &mut Context<'_>,
) -> Option<Terms> {
    let values = whose::Values::of(written, operations);
    let calls = calls::calls(written, &values, around, to);
    let captured: Vec<&str> = match &calls {
        Some(calls) => calls.captured.iter().map(String::as_str).collect(),
        // What could not be read may have been captured all the same.
        None => written.lookups.iter().flat_map(|one| &one.capture.0).map(|(name, _)| name.value.as_str()).collect(),
    };
    let notify = recipient::told(&written.notify, around.document, &values, &captured.into_iter().collect(), to);
    let grace_secs = grace(written, to);
    let give_up_secs = calls::whole_secs(written.give_up_after.value, &written.give_up_after.span, to);
    let scope = scope(&written.scope, to);
    let scopes = |list: &[At<text::Scope>]| list.iter().map(|scope| scope.value.0.as_str().into()).collect();
    let calls = calls?;
    Some(Terms {
        plan: entry.name.as_ref().into(),
        scope,
        grace_secs: grace_secs?,
        while_held: written.while_held.value.0,
        four_eyes: written.four_eyes,
        may_see: scopes(&written.may.see),
        may_cancel: scopes(&written.may.cancel),
        may_approve: scopes(&written.may.approve),
        lookups: calls.lookups,
        steps: calls.steps,
        probes: calls.probes,
        verify_after_secs: calls.verify_after_secs,
        give_up_secs: give_up_secs?,
        notify,
        own_data: written.own_data,
    })
}

/// How long it is held; the outer `None` was reported.
fn grace(written: &document::DeletionPlan, to: &mut Context<'_>) -> Option<Option<u64>> {
    let held = match &written.grace {
        None => {
            // Whoever writes `none` has thought of it.
            if !written.four_eyes {
                let message = "there is no `grace`: a deletion begins at once, and nobody can take it back";
                to.warn(&written.span, message, "add `grace: 30d`; or `grace: none` if that is meant");
            }
            return Some(None);
        }
        Some(grace) => match grace.value {
            Grace::None => None,
            Grace::For(time) => Some(calls::whole_secs(time, &grace.span, to)?),
        },
    };
    if let (None, WhileHeld::Allow, false) = (held, written.while_held.value.0, written.four_eyes) {
        to.warn(
            &written.while_held.span,
            "`while_held` has no effect: nothing is held",
            "leave it out, or add `grace`",
        );
    }
    Some(held)
}

fn scope(written: &document::Scope, to: &mut Context<'_>) -> Scope {
    if written.erased.0.len() > MAX_ITEMS || written.kept.len() > MAX_ITEMS {
        to.error(&written.span, format!("there are more than {MAX_ITEMS} items"));
    }
    let text = |at: &At<text::Prose>| Box::from(at.value.0.as_str());
    Scope {
        summary: text(&written.summary),
        erased: written.erased.0.iter().map(text).collect(),
        kept: written
            .kept
            .iter()
            .map(|kept| Kept { what: text(&kept.what), why: text(&kept.why), how_long: text(&kept.how_long) })
            .collect(),
    }
}
