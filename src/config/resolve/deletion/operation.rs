//! The operations of a plan: each is one exact operation, on routes that know who asks.

use std::sync::Arc;

use http::Method;

use crate::{
    config::{
        Auth, PlannedOperation, Route, RouteDeletion,
        document::{self},
        resolve::{Context, limit},
    },
    policy::{IssuerName, Requirement},
    route::{PathPattern, Segment, overlap},
};

use super::plan::Surroundings;

/// More operations are no plan for one deletion.
const MAX_OPERATIONS: usize = 32;

/// The operations of a plan, and who can call them.
pub(super) struct Operations {
    pub(super) operations: Vec<PlannedOperation>,
    /// Who may vouch for a caller of every operation, on some route.
    pub(super) issuers: Vec<IssuerName>,
    /// Whether who may call is known: otherwise it was reported.
    pub(super) complete: bool,
    /// The plan's own proof.
    pub(super) own: Option<Requirement>,
}

impl Operations {
    /// The parameters that the paths of all operations have.
    pub(super) fn has_parameter(&self, name: &str) -> bool {
        self.operations.iter().all(|operation| parameters(&operation.path).any(|known| **known == *name))
    }

    /// Every parameter of any operation.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&PlannedOperation, &Arc<str>)> {
        self.operations.iter().flat_map(|operation| parameters(&operation.path).map(move |name| (operation, name)))
    }
}

fn parameters(path: &PathPattern) -> impl Iterator<Item = &Arc<str>> {
    path.segments().iter().filter_map(|segment| match segment {
        Segment::Parameter(name) => Some(name),
        Segment::Literal(_) | Segment::Any | Segment::Rest => None,
    })
}

pub(super) fn operations(
    written: &document::DeletionPlan,
    around: &Surroundings<'_>,
    to: &mut Context<'_>,
) -> Operations {
    let own = proof(written, around, to);
    let mut found =
        Operations { operations: Vec::new(), issuers: Vec::new(), complete: own.is_some(), own: own.clone().flatten() };
    if written.operations.0.len() > MAX_OPERATIONS {
        to.error(&written.span, format!("there are more than {MAX_OPERATIONS} operations"));
    }
    for operation in &written.operations.0 {
        let Some(method) = exact(operation, to) else {
            found.complete = false;
            continue;
        };
        let path = &operation.value.path;
        let ways = ways(&method, path, around);
        if ways.is_empty() && !around.document.broken {
            let message = format!("no route reaches `{}`: there is nothing to take over", operation.shown);
            to.error_with_help(&operation.span, message, format!("add a route for `{path}` that takes {method}"));
        }
        found.complete &= !ways.is_empty();
        for route in ways {
            let line = route.span.line;
            match &route.auth {
                Auth::None => {
                    let message =
                        format!("the route on line {line}, which takes this operation, asks nobody who they are");
                    to.error_with_help(&operation.span, message, "name the issuers in its `auth`");
                    found.complete = false;
                }
                Auth::Issuers(issuers) => {
                    let new: Vec<_> = issuers.iter().filter(|name| !found.issuers.contains(name)).cloned().collect();
                    found.issuers.extend(new);
                }
            }
            // Where the guard is off altogether that is reported once.
            let guarding = around.shared.guard.as_ref().is_some_and(|guard| guard.enabled);
            if guarding && matches!(route.deletion, RouteDeletion::Unguarded) {
                let message =
                    format!("the route on line {line}, which takes this operation, is outside the deletion guard");
                to.error_with_help(&operation.span, message, "leave out its `danger_unguarded_deletion`");
            }
        }
        found.operations.push(PlannedOperation {
            span: operation.span.clone(),
            text: operation.value.text.as_str().into(),
            method,
            path: path.clone(),
        });
    }
    found
}

/// The plan's own proof; the outer `None` was reported.
fn proof(
    written: &document::DeletionPlan,
    around: &Surroundings<'_>,
    to: &mut Context<'_>,
) -> Option<Option<Requirement>> {
    let Some(proof) = &written.assurance else { return Some(None) };
    let mut requirement = match &proof.level {
        Some(level) => Requirement::clone(&*limit::assurance(level, &around.shared.levels, to)?),
        None => Requirement::default(),
    };
    if let Some(bind) = &proof.bind {
        let document::Bind::Request = bind.value;
        if !to.ways.on {
            let message = "grants are made by the authority, and there is no `authority`: nothing could ever be deleted by this plan";
            to.error_with_help(&bind.span, message, "add `authority`, or leave `bind` out");
        }
        requirement.bind = true;
    }
    Some(Some(requirement))
}

/// An operation that is one method on one shape of path; `None` was reported.
fn exact(
    operation: &crate::config::decode::At<crate::config::text::OperationText>,
    to: &mut Context<'_>,
) -> Option<Method> {
    let help =
        "a plan takes over exact operations: `DELETE /accounts/{id}`; what else leads there belongs into `covers`";
    let Some(method) = &operation.value.method else {
        to.error_with_help(
            &operation.span,
            format!("`{}` is no exact operation: `*` is any method", operation.shown),
            help,
        );
        return None;
    };
    if [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method) {
        let message =
            format!("`{method}` is a safe method (RFC 9110 §9.2.1): links and prefetching would ask for deletions");
        to.error_with_help(&operation.span, message, "put it into `covers`, and it is refused");
        return None;
    }
    let loose = operation.value.path.segments().iter().any(|segment| matches!(segment, Segment::Any | Segment::Rest));
    if loose {
        to.error_with_help(
            &operation.span,
            format!("`{}` is no exact operation: its path has `*`", operation.shown),
            help,
        );
        return None;
    }
    Some(method.clone())
}

/// The routes that requests for an operation can take.
fn ways<'a>(method: &Method, path: &PathPattern, around: &Surroundings<'a>) -> Vec<&'a Route> {
    let near: Vec<&Route> = around.routes.iter().filter(|route| overlap::overlaps(&route.path, path)).collect();
    let accepts = |route: &Route| route.methods.as_ref().unwrap_or(&around.shared.server.methods).contains(method);
    // A path is chosen before a method: where another route takes every path of the operation and is more specific, this one is never
    // asked.
    let hidden = |route: &Route| {
        near.iter().any(|other| {
            let closer = overlap::covers(&route.path, &other.path) && !overlap::covers(&other.path, &route.path);
            closer && other.hosts == route.hosts && overlap::covers(&other.path, path)
        })
    };
    near.iter().copied().filter(|route| accepts(route) && !hidden(route)).collect()
}
