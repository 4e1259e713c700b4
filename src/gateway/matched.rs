//! Step 2: which routes a request is for. Usually one; more where the upstream could take the request for another than
//! its bytes say (a method override, a path that lax servers fold). Then each of them is judged and the strictest wins.

use http::Method;
use smallvec::SmallVec;

use super::{Refusal, method_override::Override, outbound::rewritten};
use crate::{
    policy::Reason,
    route::{Found, NormalPath},
    runtime::{CompiledRoute, GuardedOperation, Snapshot},
};

/// What a request is for.
#[derive(Debug)]
pub struct Matched<'s> {
    /// The route that the request takes.
    pub route: &'s CompiledRoute,
    /// Other routes to the same service that it may be taken for.
    pub aliases: Vec<&'s CompiledRoute>,
    /// The method that the upstream will see.
    pub method: Method,
    /// The method of the request line, where the upstream may take the request for that instead: conditions are to hold
    /// for both.
    pub said: Option<Method>,
    /// The path that the upstream gets.
    pub target_path: String,
    /// The guarded operations that it is, or may be taken for.
    pub operations: Vec<&'s GuardedOperation>,
}

/// Refuses methods that the configuration does not list.
pub fn known_method(method: &Method, known: &[Method]) -> Result<(), Refusal> {
    const STANDARD: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    if known.contains(method) {
        Ok(())
    } else if STANDARD.contains(method) {
        Err(Refusal::method_not_allowed(known.to_vec()))
    } else {
        Err(Refusal::of(Reason::MethodUnknown))
    }
}

impl<'s> Matched<'s> {
    /// Finds the routes for a request. `said` is the method of the request line, `seen` what an override makes of it.
    pub fn find(
        snapshot: &'s Snapshot,
        host: &str,
        path: &NormalPath<'_>,
        said: &Method,
        seen: Option<&Override>,
    ) -> Result<Self, Refusal> {
        let method = seen.map_or(said, |seen| &seen.method);
        // What only some services honour may stay what the request line says, so it must be allowed as that, too.
        let doubtful = seen.is_some_and(|seen| !seen.certain && seen.method != *said);
        let at = snapshot.table.routes_at(host, path);
        let route = route_of(snapshot, chosen(at.choose(method))?)?;
        let mut aliases: Vec<&CompiledRoute> = Vec::new();
        if method != said {
            match at.choose(said) {
                Found::Route(number) => {
                    let alias = route_of(snapshot, number)?;
                    if alias.upstream.name != route.upstream.name {
                        return Err(Refusal::of(Reason::ConflictingOverride));
                    }
                    aliases.push(alias);
                }
                Found::MethodNotAllowed(allow) if doubtful => return Err(Refusal::method_not_allowed(allow)),
                Found::MethodNotAllowed(_) | Found::Nothing => {}
            }
        }
        if let Some(folded) = snapshot.table.routes_at_folded(host, path) {
            let numbers: SmallVec<[usize; 4]> = folded.routes().collect();
            let concerns = |number: &usize| snapshot.routes.get(*number).is_some_and(|other| other.is_beside(route));
            let is_ours = numbers.contains(&route.number);
            if !is_ours && numbers.iter().any(concerns) {
                aliases.push(route_of(snapshot, chosen(folded.choose(method))?)?);
                if doubtful {
                    aliases.push(route_of(snapshot, chosen(folded.choose(said))?)?);
                }
            }
        }
        let target_path = rewritten(path.as_str(), route.rewrite.as_ref())?;
        if target_path != path.as_str() {
            aliases.extend(routes_of_target(snapshot, host, &target_path, method, route)?);
            if doubtful {
                aliases.extend(routes_of_target(snapshot, host, &target_path, said, route)?);
            }
        }
        aliases.retain(|alias| alias.number != route.number);
        let operations = guarded_operations(snapshot, path, &target_path, [said, method])?;
        let said = doubtful.then(|| said.clone());
        Ok(Self { route, aliases, method: method.clone(), said, target_path, operations })
    }

    /// The route, then its aliases.
    pub fn all(&self) -> impl Iterator<Item = &'s CompiledRoute> {
        [self.route].into_iter().chain(self.aliases.iter().copied())
    }

    /// Whether the operation is under the deletion guard.
    pub fn guarded(&self) -> bool {
        !self.operations.is_empty()
    }
}

/// The routes of the same service that a rewritten path is for. A rewrite is declared, but what it makes of a request may
/// be something that the service is protected from by another route, and then that one is asked too.
fn routes_of_target<'s>(
    snapshot: &'s Snapshot,
    host: &str,
    target_path: &str,
    method: &Method,
    route: &CompiledRoute,
) -> Result<SmallVec<[&'s CompiledRoute; 2]>, Refusal> {
    let target = NormalPath::parse(target_path).map_err(|_| Refusal::of(Reason::AmbiguousPath))?;
    let exact = snapshot.table.routes_at(host, &target).choose(method);
    let folded = snapshot.table.routes_at_folded(host, &target).map(|folded| folded.choose(method));
    let mut found = SmallVec::new();
    for candidate in [Some(exact), folded].into_iter().flatten() {
        // Another route's methods are no law for this one.
        if let Found::Route(number) = candidate {
            let other = route_of(snapshot, number)?;
            if other.is_beside(route) {
                found.push(other);
            }
        }
    }
    Ok(found)
}

fn route_of(snapshot: &Snapshot, number: usize) -> Result<&CompiledRoute, Refusal> {
    snapshot.route(number).ok_or_else(|| Refusal::of(Reason::RouteNotFound))
}

fn chosen(found: Found) -> Result<usize, Refusal> {
    match found {
        Found::Route(number) => Ok(number),
        Found::MethodNotAllowed(allow) => Err(Refusal::method_not_allowed(allow)),
        Found::Nothing => Err(Refusal::of(Reason::RouteNotFound)),
    }
}

/// The guarded operations that a request is by its own path or by the one that the upstream gets.
fn guarded_operations<'s>(
    snapshot: &'s Snapshot,
    path: &NormalPath<'_>,
    target_path: &str,
    methods: [&Method; 2],
) -> Result<Vec<&'s GuardedOperation>, Refusal> {
    let target = if target_path == path.as_str() {
        None
    } else {
        Some(NormalPath::parse(target_path).map_err(|_| Refusal::of(Reason::AmbiguousPath))?)
    };
    let mut found = Vec::new();
    for operation in &snapshot.guarded {
        if operation.covers(methods)
            && (operation.path.matches_folded(path)
                || target.as_ref().is_some_and(|target| operation.path.matches_folded(target)))
        {
            found.push(operation);
        }
    }
    Ok(found)
}
