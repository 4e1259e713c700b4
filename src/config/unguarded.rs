//! What `check` lists besides: operations that look destructive and that nothing guards.

use http::Method;

use super::{Config, Problem, Route, RouteDeletion};
use crate::route::{Segment, overlap};

/// Words that name a destructive operation when a path segment is, or is made of, one of them.
const DESTRUCTIVE: [&str; 22] = [
    "delete",
    "deletes",
    "deleted",
    "deletion",
    "deletions",
    "remove",
    "removal",
    "destroy",
    "destruction",
    "erase",
    "erasure",
    "purge",
    "drop",
    "wipe",
    "deactivate",
    "deactivation",
    "terminate",
    "termination",
    "unsubscribe",
    "del",
    "anonymize",
    "forget",
];
/// The same of two words, in order.
const DESTRUCTIVE_PAIRS: [(&str, &str); 3] = [("close", "account"), ("cancel", "account"), ("account", "closure")];

/// Every operation that looks destructive and is not guarded, as warnings.
pub fn unguarded(config: &Config) -> Vec<Problem> {
    config.routes.iter().flat_map(|route| of_route(route, config)).collect()
}

fn of_route(route: &Route, config: &Config) -> Vec<Problem> {
    let telling = telling_segment(route);
    let accepted = route.methods.as_deref().unwrap_or(&config.server.methods);
    let mut open: Vec<&Method> = Vec::new();
    for method in accepted {
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        let destructive = *method == Method::DELETE || (!safe && telling.is_some());
        if destructive && !is_guarded(route, method, config) {
            open.push(method);
        }
    }
    if open.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = open.iter().map(|method| method.as_str()).collect();
    let mut message = format!("{} {} looks destructive and is not guarded", names.join(", "), route.path);
    if let (Some(segment), false) = (&telling, names == ["DELETE"]) {
        message.push_str(&format!(" (`{segment}`)"));
    }
    let help = match (&route.deletion, config.deletion_guard.enabled) {
        (_, false) => "the deletion guard is off: leave out `danger_disabled`".to_owned(),
        (RouteDeletion::Unguarded, true) => "leave out this route's `danger_unguarded_deletion`".to_owned(),
        (RouteDeletion::Guarded { .. }, true) => {
            let method = if names.len() == 1 { names.concat() } else { "*".to_owned() };
            format!("add \"{method} {}\" to `deletion_guard.operations`", route.path)
        }
    };
    vec![Problem::warning(&route.span, message).with_help(help)]
}

fn is_guarded(route: &Route, method: &Method, config: &Config) -> bool {
    match route.deletion {
        RouteDeletion::Unguarded => false,
        RouteDeletion::Guarded { .. } => config.deletion_guard.operations.iter().any(|operation| {
            operation.method.as_ref().is_none_or(|guarded| guarded == method)
                && overlap::covers(&operation.path, &route.path)
        }),
    }
}

/// The first literal segment that names a destructive operation.
pub(super) fn telling_segment(route: &Route) -> Option<String> {
    route.path.segments().iter().find_map(|segment| match segment {
        Segment::Literal(literal) => is_telling(literal).then(|| literal.to_string()),
        Segment::Parameter(_) | Segment::Any | Segment::Rest => None,
    })
}

pub(super) fn is_telling(segment: &str) -> bool {
    let words = words(segment);
    words.iter().any(|word| DESTRUCTIVE.contains(&word.as_str()))
        || words.windows(2).any(|pair| match pair {
            [one, other] => DESTRUCTIVE_PAIRS.contains(&(one.as_str(), other.as_str())),
            _ => false,
        })
}

/// The words of `delete-account`, `deleteUser`, `bulk_delete` and `users:purge`.
fn words(segment: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in segment.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphabetic(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telling_words_are_found_in_compound_segments() {
        for telling in [
            "delete",
            "DELETE",
            "delete-account",
            "deleteUser",
            "bulk_delete",
            "users:purge",
            "close-account",
            "closeAccount",
        ] {
            assert!(is_telling(telling), "{telling}");
        }
        for innocent in ["items", "undeletable", "dropdown", "airdrops", "close", "account", "eraser", "", "terminals"]
        {
            assert!(!is_telling(innocent), "{innocent}");
        }
    }
}
