//! Other ways to the same deletion.

use crate::{
    config::{
        Covered, CoveredOperation,
        document::{CoveredText, DeletionPlan},
        resolve::Context,
    },
    route::overlap,
};

use super::plan::Surroundings;

/// The most of them.
const MAX_COVERS: usize = 64;

pub(super) fn covers(written: &DeletionPlan, around: &Surroundings<'_>, to: &mut Context<'_>) -> Vec<CoveredOperation> {
    if let Some(one) = written.covers.get(MAX_COVERS) {
        to.error(&one.matched.span, format!("at most {MAX_COVERS} operations are covered"));
    }
    let mut covers: Vec<CoveredOperation> = Vec::with_capacity(written.covers.len());
    for cover in &written.covers {
        let Some(what) = what(cover, to) else { continue };
        let matched = &cover.matched;
        let twin = |known: &&CoveredOperation| *known.text == *matched.value.text && same_kind(&known.what, &what);
        if covers.iter().any(|known| twin(&known)) {
            to.error(&matched.span, format!("`{}` is listed twice", matched.shown));
            continue;
        }
        let reached = around.routes.iter().any(|route| overlap::overlaps(&route.path, &matched.value.path));
        if !reached && !around.document.broken {
            let message = format!("no route reaches `{}`: there is nothing to refuse", matched.shown);
            to.warn(&matched.span, message, "covered operations are matched by the path that clients ask for");
        }
        covers.push(CoveredOperation {
            span: matched.span.clone(),
            text: matched.value.text.as_str().into(),
            method: matched.value.method.clone(),
            path: matched.value.path.clone(),
            what,
        });
    }
    covers
}

fn same_kind(one: &Covered, other: &Covered) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// What of it is refused; `None` was reported.
fn what(cover: &CoveredText, to: &mut Context<'_>) -> Option<Covered> {
    let batch = cover.batch.as_ref().filter(|batch| batch.value);
    match (&cover.mutations, batch) {
        (None, None) => Some(Covered::Whole),
        (None, Some(_)) => Some(Covered::Batch),
        (Some(list), None) => {
            let mut fields: Vec<std::sync::Arc<str>> = Vec::with_capacity(list.value.0.len());
            for field in &list.value.0 {
                if fields.iter().any(|known| **known == *field.value.0) {
                    to.error(&field.span, format!("`{}` is listed twice", field.shown));
                } else {
                    fields.push(field.value.0.as_str().into());
                }
            }
            if let Some(method) = cover.matched.value.method.as_ref() {
                let message =
                    format!("only {method} is looked at here: many servers take GraphQL by other methods, too");
                let path = &cover.matched.value.path;
                to.warn(
                    &cover.matched.span,
                    message,
                    format!("write `match: \"* {path}\"`, or let the route take {method} alone"),
                );
            }
            Some(Covered::Mutations(fields))
        }
        (Some(list), Some(_)) => {
            to.error_with_help(&list.span, "an endpoint is either GraphQL or a batch", "list it twice, once for each");
            None
        }
    }
}
