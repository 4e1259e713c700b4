//! Routes that could tie: the same hosts, the same shape of path, a method in common. Which one is meant cannot be
//! known, so it is an error; linear in the number of routes.

use std::collections::{HashMap, HashSet};

use http::Method;

use super::{Context, route::Shared};
use crate::{
    config::document::Route,
    route::{HostPattern, PathPattern, Segment},
};

/// Reports each route that ties with an earlier one.
pub(super) fn report(routes: &[Route], shared: &Shared<'_>, to: &mut Context<'_>) {
    let mut seen: HashMap<(String, String), HashMap<Method, usize>> = HashMap::new();
    for (at, route) in routes.iter().enumerate() {
        let shape = shape(&route.path.value);
        let mut tied = HashSet::new();
        for host in hosts(route) {
            let methods = seen.entry((host, shape.clone())).or_default();
            for method in accepted(route, shared) {
                let first = *methods.entry(method.clone()).or_insert(at);
                if first != at && tied.insert(first) {
                    let line = routes.get(first).map_or(0, |other| other.span.line);
                    let message = format!(
                        "this route ties with the one on line {line}: a {method} request could be meant for either"
                    );
                    let help = "give them different `methods`, `hosts` or paths; the names of parameters do not tell them apart";
                    to.error_with_help(&route.path.span, message, help);
                }
            }
        }
    }
}

/// What two paths have in common when no request can tell them apart.
fn shape(path: &PathPattern) -> String {
    let mut shape = String::new();
    for segment in path.segments() {
        shape.push('/');
        match segment {
            // `{` and `*` cannot stand in a literal.
            Segment::Literal(literal) => shape.push_str(literal),
            Segment::Parameter(_) => shape.push_str("{}"),
            Segment::Any => shape.push('*'),
            Segment::Rest => shape.push_str("**"),
        }
    }
    shape
}

fn hosts(route: &Route) -> Vec<String> {
    if route.hosts.is_empty() {
        return vec![String::new()];
    }
    let key = |host: &HostPattern| match host {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
    };
    route.hosts.iter().map(|host| key(&host.value)).collect()
}

/// The methods of a route; GET includes HEAD.
fn accepted(route: &Route, shared: &Shared<'_>) -> Vec<Method> {
    let mut methods: Vec<Method> = match &route.methods {
        Some(methods) => methods.value.0.iter().map(|method| method.value.clone()).collect(),
        None => shared.server.methods.clone(),
    };
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        methods.push(Method::HEAD);
    }
    methods
}
