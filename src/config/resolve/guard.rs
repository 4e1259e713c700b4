//! The deletion guard, and what it asks for where a route has an assurance of its own.

use std::{sync::Arc, time::Duration};

use super::{Context, level_name, limit, table::Table};
use crate::{
    config::{
        DeletionGuard, GuardedOperation, Limit, Server, Span, document::Document, nearest::nearest,
        text::is_standard_method,
    },
    policy::{FactorRule, Factors, Requirement},
};

/// `None` when its assurance could not be resolved, which was reported; an operation whose quota could not be stays, so
/// that the routes are judged by it.
pub(super) fn guard(
    document: &Document,
    server: &Server,
    levels: &Table<Requirement>,
    limits: &Table<Limit>,
    to: &mut Context<'_>,
) -> Option<DeletionGuard> {
    let written = &document.deletion_guard;
    let enabled = !written.danger_disabled.value;
    if !enabled {
        let message = "the deletion guard is off: deletions need no proof of a second factor on any route";
        to.warn(&written.danger_disabled.span, message, "take single routes out by `danger_unguarded_deletion: true`");
    }
    let mut operations: Vec<GuardedOperation> = Vec::with_capacity(written.operations.value.len());
    for operation in &written.operations.value {
        let matched = &operation.matched;
        if operations.iter().any(|other| other.text.as_ref() == matched.value.text) {
            to.error(&matched.span, format!("`{}` is listed twice", matched.shown));
            continue;
        }
        if let Some(method) = &matched.value.method
            && !document.server.broken
            && !server.methods.contains(method)
            && !is_standard_method(method.as_str())
        {
            let message = format!("`{method}` is not among `server.methods`: this guards nothing");
            let help = match nearest(method.as_str(), server.methods.iter().map(http::Method::as_str)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "add it there".to_owned(),
            };
            to.error_with_help(&matched.span, message, help);
        }
        let limit = operation.limit.as_ref().and_then(|text| limit::guarded(text, &matched.value.text, limits, to));
        operations.push(GuardedOperation {
            span: matched.span.clone(),
            text: matched.value.text.as_str().into(),
            method: matched.value.method.clone(),
            path: matched.value.path.clone(),
            limit,
        });
    }
    let deletes = |operation: &GuardedOperation| operation.method.as_ref().is_none_or(|m| *m == http::Method::DELETE);
    if enabled && !written.broken && !operations.iter().any(deletes) {
        let message = "these operations replace the default, and none of them is a DELETE: deletions are not guarded";
        to.warn(&written.operations.span, message, "add `DELETE /**`");
    }
    let assurance = limit::assurance(&written.assurance, levels, to)?;
    if enabled {
        report_ageless(&assurance, &assurance_span(written), to);
    }
    Some(DeletionGuard { enabled, operations, assurance: Requirement::clone(&assurance) })
}

fn assurance_span(written: &crate::config::document::DeletionGuard) -> Span {
    match &written.assurance {
        crate::config::document::AssuranceText::Name(name) => name.span.clone(),
        crate::config::document::AssuranceText::Inline(level) => level.span.clone(),
    }
}

/// Warns of a proof that is only recent.
pub(super) fn report_ageless(requirement: &Requirement, span: &Span, to: &mut Context<'_>) {
    if requirement.acr.is_none() && requirement.amr.is_none() && requirement.factors.is_none() {
        let message = "this asks for a recent login and not for a second factor: a stolen password is enough to delete";
        to.warn(span, message, "add `amr: [mfa]`, or the `acr` of your provider's second factor");
    }
}

/// Two requirements at once: lists intersect, the smaller age wins. A list that comes out empty can never be satisfied.
///
/// For `amr` this is stricter than need be (a token with a value of each list would satisfy both); it stays a single
/// list that a challenge can name, and errs on the safe side. A machine's proof must be one that both take, and so must factors.
pub(super) fn both(one: &Requirement, other: &Requirement) -> Requirement {
    Requirement {
        acr: intersection(one.acr.as_deref(), other.acr.as_deref()),
        amr: intersection(one.amr.as_deref(), other.amr.as_deref()),
        max_age: smaller(one.max_age, other.max_age),
        factors: match (&one.factors, &other.factors) {
            // What no factor could meet is kept as a list of none, which is reported.
            (Some(one), Some(other)) => Some(one.and(other).unwrap_or_else(|| none_of(one, other))),
            (rule, other) => rule.or(*other),
        },
        level: level_name::both(one.level.as_ref(), other.level.as_ref()),
        bind: one.bind || other.bind,
        machines: match (&one.machines, &other.machines) {
            (Some(one), Some(other)) => one.and(other),
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        },
    }
}

fn none_of(one: &FactorRule, other: &FactorRule) -> FactorRule {
    FactorRule {
        any_of: Some(Factors::NONE),
        phishing_resistant: one.phishing_resistant || other.phishing_resistant,
        categories: one.categories.max(other.categories),
    }
}

fn intersection(one: Option<&[Arc<str>]>, other: Option<&[Arc<str>]>) -> Option<Box<[Arc<str>]>> {
    match (one, other) {
        (None, None) => None,
        (Some(list), None) | (None, Some(list)) => Some(list.into()),
        (Some(one), Some(other)) => Some(one.iter().filter(|value| other.contains(value)).cloned().collect()),
    }
}

fn smaller(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Which list of a requirement can never be satisfied.
pub(super) fn empty_list(requirement: &Requirement) -> Option<&'static str> {
    let empty = |list: &Option<Box<[Arc<str>]>>| list.as_ref().is_some_and(|list| list.is_empty());
    if empty(&requirement.acr) {
        return Some("acr");
    }
    if requirement.factors.is_some_and(|rule| rule.any_of.is_some_and(Factors::is_empty)) {
        return Some("factors");
    }
    empty(&requirement.amr).then_some("amr")
}
