//! Step 2: which routes a request is for. Usually one; more where the upstream could take the request for another than
//! its bytes say (a method override, a path that lax servers fold). Then each of them is judged and the strictest wins.

use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

use super::{
    Refusal,
    covered::{self, Covers},
    inbound::Inbound,
    method_override::{self, ConflictingOverride, Form, FormKind, Ways},
    outbound::rewritten,
};
use crate::{
    config::PlannedOperation,
    limit::Quota,
    policy::{Reason, Requirement},
    route::{Found, NormalPath},
    runtime::{CompiledPlan, CompiledRoute, GuardedOperation, Snapshot},
};

/// What a request is for.
#[derive(Debug)]
pub struct Matched<'s> {
    /// The route that the request takes.
    pub route: &'s CompiledRoute,
    /// Other routes to the same service that it may be taken for.
    pub aliases: Vec<&'s CompiledRoute>,
    /// The effective method: an override's, or else the request line's.
    pub method: Method,
    /// The method of the request line where an override says another. The upstream may leave that alone, so both are judged.
    pub said: Option<Method>,
    /// Whether an override in a header, which no grant is bound to, leaves no doubt.
    pub is_usual: bool,
    /// The path that the upstream gets, where a rewrite makes another of the request's.
    pub target_path: Option<String>,
    /// The guarded operations that it is, or may be taken for.
    pub operations: Vec<&'s GuardedOperation>,
    /// The operation of a deletion plan that it is, or may be taken for.
    pub planned: Option<Planned<'s>>,
    /// The operations that deletion plans cover and that it is, or may be taken for.
    pub covered: Covers<'s>,
}

/// The operation of a deletion plan that a request is, or may be taken for.
#[derive(Debug, Clone, Copy)]
pub struct Planned<'s> {
    /// The plan.
    pub plan: &'s CompiledPlan,
    /// The operation.
    pub operation: &'s PlannedOperation,
    /// Whether the request is the operation in its own form, and no other. Else it is refused: never taken over, as it is not said
    /// plainly what it is, and never forwarded, as the service may take it for the operation.
    pub is_exact: bool,
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

/// The body that must be read before a request's routes can be found, because a service looks for the method in it, and
/// how much of it at most. `None` where nothing must.
pub fn form_to_read(
    snapshot: &Snapshot,
    inbound: &Inbound,
    path: &NormalPath<'_>,
) -> Result<Option<(FormKind, usize)>, Refusal> {
    if !snapshot.honours_overrides {
        return Ok(None);
    }
    let honoured = honoured(snapshot, inbound, path);
    let kind = method_override::form_kind(&inbound.method, &inbound.headers, inbound.query(), &honoured);
    let Some(kind) = kind.map_err(conflicting)? else { return Ok(None) };
    // There is one wherever a body is looked into; without one nothing may be read.
    let max = snapshot.form_bytes(snapshot.table.routes_at(&inbound.site.host, path).routes());
    Ok(Some((kind, max.unwrap_or_default())))
}

/// The ways in which any service at this path honours overrides.
fn honoured(snapshot: &Snapshot, inbound: &Inbound, path: &NormalPath<'_>) -> Ways {
    let at = snapshot.table.routes_at(&inbound.site.host, path);
    let services = at.routes().filter_map(|number| snapshot.routes.get(number)).flat_map(CompiledRoute::backends);
    let mut honoured = Ways::new();
    for way in services.flat_map(|backend| backend.upstream.method_override.iter()) {
        if !honoured.contains(way) {
            honoured.push(*way);
        }
    }
    honoured
}

/// The method that a service that honours overrides may see in place of the request line's.
fn seen_method(
    snapshot: &Snapshot,
    inbound: &Inbound,
    path: &NormalPath<'_>,
    form: Option<&Form<'_>>,
) -> Result<Option<Method>, Refusal> {
    let honoured = honoured(snapshot, inbound, path);
    let overrides = &inbound.overrides;
    let seen = method_override::resolve(&honoured, overrides, inbound.query(), form);
    let seen = seen.map_err(conflicting)?;
    if let Some(seen) = &seen {
        known_method(seen, &snapshot.config.server.methods)?;
    }
    Ok(seen)
}

fn conflicting(fault: ConflictingOverride) -> Refusal {
    Refusal::of(Reason::ConflictingOverride).because(fault.to_string())
}

impl<'s> Matched<'s> {
    /// Finds the routes for a request. `form` is its body, where [`form_to_read`] said that it must be read.
    pub fn find(
        snapshot: &'s Snapshot,
        inbound: &Inbound,
        path: &NormalPath<'_>,
        form: Option<&Form<'_>>,
    ) -> Result<Self, Refusal> {
        let host = &*inbound.site.host;
        let seen = if snapshot.honours_overrides { seen_method(snapshot, inbound, path, form)? } else { None };
        let method = seen.as_ref().unwrap_or(&inbound.method);
        let at = snapshot.table.routes_at(host, path);
        let route = route_of(snapshot, chosen(at.choose(method))?)?;
        let mut aliases: Vec<&CompiledRoute> = Vec::new();
        // A service may leave an override alone for reasons of its own.
        let said = Some(&inbound.method).filter(|said| *said != method);
        if let Some(said) = said {
            let other = chosen(at.choose(said)).map_err(|refusal| {
                refusal.because(format!(
                    "an override makes it {method}; the path's routes must take {said}, the request line's, too"
                ))
            })?;
            let alias = route_of(snapshot, other)?;
            if !alias.goes_where(route) {
                let why = format!("an override makes it {method}, which goes to another service than {said}");
                return Err(Refusal::of(Reason::ConflictingOverride).because(why));
            }
            aliases.push(alias);
        }
        let methods = || [Some(method), said].into_iter().flatten();
        if let Some(folded) = snapshot.table.routes_at_folded(host, path) {
            let numbers: SmallVec<[usize; 4]> = folded.routes().collect();
            let concerns = |number: &usize| snapshot.routes.get(*number).is_some_and(|other| other.is_beside(route));
            let is_ours = numbers.contains(&route.number);
            if !is_ours && numbers.iter().any(concerns) {
                for method in methods() {
                    chosen(folded.choose(method))?;
                    for number in folded.taking(method) {
                        aliases.push(route_of(snapshot, number)?);
                    }
                }
            }
        }
        let target_path = rewritten(path, &route.pattern, route.rewrite.as_ref())?;
        let target = target_path.as_deref().map(NormalPath::parse).transpose();
        let target = target.map_err(|_| Refusal::of(Reason::AmbiguousPath))?;
        if let Some(target) = &target {
            for method in methods() {
                aliases.extend(routes_of_target(snapshot, host, target, method, route)?);
            }
        }
        aliases.retain(|alias| alias.number != route.number);
        // What it is by its own path, or by the one that the upstream gets.
        let both;
        let paths = match &target {
            Some(target) => {
                both = [path, target];
                &both[..]
            }
            None => &[path][..],
        };
        let either = [&inbound.method, method];
        let operations = guarded_operations(snapshot, paths, either);
        let planned = planned(snapshot, paths, either);
        let covered = match &snapshot.config.deletions {
            Some(deletions) => covered::find(deletions, paths, either),
            None => Covers::new(),
        };
        let (method, said) = (method.clone(), said.cloned());
        let is_usual = method_override::is_usual(&inbound.overrides);
        Ok(Self { route, aliases, method, said, is_usual, target_path, operations, planned, covered })
    }

    /// What is for one route, and is no operation: a preflight.
    pub(super) fn alone(route: &'s CompiledRoute, method: Method) -> Self {
        Self {
            route,
            aliases: Vec::new(),
            method,
            said: None,
            is_usual: true,
            target_path: None,
            operations: Vec::new(),
            planned: None,
            covered: Covers::new(),
        }
    }

    /// The route, then its aliases.
    pub fn all(&self) -> impl Iterator<Item = &'s CompiledRoute> {
        [self.route].into_iter().chain(self.aliases.iter().copied())
    }

    /// Every way in which the upstream may take the request, each a route and a method: all of them are judged.
    pub fn ways(&self) -> impl Iterator<Item = (&'s CompiledRoute, &Method)> {
        let methods = [Some(&self.method), self.said.as_ref()];
        self.all().flat_map(move |route| methods.into_iter().flatten().map(move |method| (route, method)))
    }

    /// The method that a grant for this request alone is made for, if there is one: an override's within the query or the body, which
    /// the grant is bound to, or in a header that leaves no doubt. Nobody lets a POST become a GET in earnest.
    pub fn bindable_method(&self) -> Option<&Method> {
        let is_override = |said: &Method| {
            *said == Method::POST
                && [Method::PUT, Method::PATCH, Method::DELETE].contains(&self.method)
                && self.is_usual
        };
        self.said.as_ref().is_none_or(is_override).then_some(&self.method)
    }

    /// Whether the operation is under the deletion guard, as those of a deletion plan always are.
    pub fn guarded(&self) -> bool {
        !self.operations.is_empty() || self.planned.is_some()
    }

    /// The proof that the request needs on a route, where a deletion plan takes it over.
    pub fn planned_requirement(&self, route: &CompiledRoute) -> Option<&'s Requirement> {
        self.planned.as_ref()?.plan.requirements.get(&route.number)
    }

    /// The quotas of a guarded operation: the route's own takes the place of the operations', and none takes that of a plan's.
    pub fn deletion_quotas(&self) -> impl Iterator<Item = &'s Arc<Quota>> {
        let all_have_own = self.all().all(|route| route.deletion_quota.is_some());
        let operations = if all_have_own { &[] } else { self.operations.as_slice() };
        let own = self.all().filter_map(|route| route.deletion_quota.as_ref());
        let plan = self.planned.iter().map(|planned| &planned.plan.quota);
        operations.iter().filter_map(|operation| operation.quota.as_ref()).chain(own).chain(plan)
    }
}

/// The routes of the same service that a rewritten path is for. A rewrite is declared, but what it makes of a request may
/// be something that the service is protected from by another route, and then that one is asked too.
fn routes_of_target<'s>(
    snapshot: &'s Snapshot,
    host: &str,
    target: &NormalPath<'_>,
    method: &Method,
    route: &CompiledRoute,
) -> Result<SmallVec<[&'s CompiledRoute; 2]>, Refusal> {
    let exact = snapshot.table.routes_at(host, target).choose(method);
    let folded = snapshot.table.routes_at_folded(host, target).map(|folded| folded.choose(method));
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

/// The guarded operations that a request is by any of its paths.
fn guarded_operations<'s>(
    snapshot: &'s Snapshot,
    paths: &[&NormalPath<'_>],
    methods: [&Method; 2],
) -> Vec<&'s GuardedOperation> {
    let is_path = |operation: &&GuardedOperation| paths.iter().any(|path| operation.path.matches_folded(path));
    snapshot.guarded.iter().filter(|operation| operation.covers(methods)).filter(is_path).collect()
}

/// The operation of a deletion plan that a request is, or may be taken for, by any of its paths; the first is its own.
fn planned<'s>(snapshot: &'s Snapshot, paths: &[&NormalPath<'_>], [said, method]: [&Method; 2]) -> Option<Planned<'s>> {
    let mut found: Option<Planned<'s>> = None;
    for plan in &snapshot.plans {
        for operation in &plan.plan.operations {
            let is_method =
                |seen: &Method| *seen == operation.method || (operation.method == Method::GET && *seen == Method::HEAD);
            let is_path = paths.iter().any(|path| operation.path.matches_folded(path));
            if !is_path || !(is_method(said) || is_method(method)) {
                continue;
            }
            let is_method = *said == operation.method && *method == operation.method;
            let is_exact = is_method && paths.first().is_some_and(|path| operation.path.matches_exactly(path));
            found = Some(match found {
                // What may be for either of two plans is for neither.
                Some(other) => Planned { is_exact: false, ..other },
                None => Planned { plan, operation, is_exact },
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::path::Path;

    use http::Request;

    use super::*;
    use crate::{
        clock::SystemClock,
        config::{self, Input},
        gateway::{RequestId, tests::connection},
        identity::{SourceServices, Unobserved},
        runtime::{DiskMaterials, Means},
        telemetry::Metrics,
    };

    const POLICY: &str = "
access_log: off
issuers:
  main: {issuer: https://idp.example/, audience: [a], keys: {secret: '${KEY}'}, algorithms: [HS256]}
limits:
  few: {key: subject, rate: 3/10m}
upstreams:
  plain: {targets: [http://127.0.0.1:9]}
  lenient: {targets: [http://127.0.0.1:9], method_override: [header, query, form]}
deletion_guard:
  operations: ['DELETE /**', {match: 'POST /account/remove', limit: 3/10m}]
  assurance: {amr: [mfa]}
routes:
  - {path: /plain/**, upstream: plain, auth: none}
  - {path: /admin/**, upstream: plain, auth: none}
  - {path: /account/**, upstream: plain, auth: none}
  - {path: /v1/**, upstream: plain, auth: none, rewrite: {strip_prefix: /v1}}
  - {path: /own/**, upstream: plain, auth: none, deletion: {limit: few}}
  - {path: /lenient/**, upstream: lenient, auth: none, methods: [POST, GET]}
  - {path: /lenient/**, upstream: lenient, auth: none, methods: [DELETE, PUT]}
  - {path: /**, upstream: plain, auth: none}
";

    async fn snapshot() -> Snapshot {
        compiled(POLICY).await
    }

    async fn compiled(policy: &str) -> Snapshot {
        let env = |_: &str| Some("0123456789abcdef0123456789abcdef".to_owned());
        let input = Input { file: Path::new("p.yaml"), text: policy, base: Path::new("/"), env: &env };
        let config = config::load(&input).unwrap().config;
        let metrics = Metrics::new().unwrap();
        let issuers = SourceServices {
            handle: tokio::runtime::Handle::current(),
            roots: crate::client::MachineRoots::nobody(),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Unobserved),
            revocations: Arc::default(),
            authority_keys: Default::default(),
        };
        let means = Means { issuers: &issuers, metrics: &metrics, in_flight: &Default::default(), keeping: None };
        Snapshot::compile(config, &DiskMaterials, &means, None).unwrap()
    }

    /// What a request is matched to.
    fn matched<T>(
        snapshot: &Snapshot,
        line: &str,
        fields: &[(&str, &str)],
        form: Option<&str>,
        judge: impl FnOnce(&Matched<'_>) -> T,
    ) -> Result<T, Reason> {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target).header("host", "h");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let uri = parts.uri.clone();
        let id = RequestId::Given("id".into());
        let inbound = Inbound::parse(&mut parts, &connection(), &snapshot.config.server, id).unwrap();
        let path = NormalPath::parse(uri.path()).unwrap();
        let kind = form_to_read(snapshot, &inbound, &path).map_err(|refusal| refusal.reason)?;
        let form = kind.zip(form).map(|((kind, _), body)| Form { kind, body: body.as_bytes() });
        let matched = Matched::find(snapshot, &inbound, &path, form.as_ref()).map_err(|refusal| refusal.reason)?;
        Ok(judge(&matched))
    }

    fn find(snapshot: &Snapshot, line: &str, fields: &[(&str, &str)], form: Option<&str>) -> Result<String, Reason> {
        matched(snapshot, line, fields, form, told)
    }

    fn with_matched<T>(
        snapshot: &Snapshot,
        line: &str,
        fields: &[(&str, &str)],
        judge: impl FnOnce(&Matched<'_>) -> T,
    ) -> Result<T, Reason> {
        matched(snapshot, line, fields, None, judge)
    }

    /// Route, other routes, method, the number of guarded operations and of their quotas.
    fn told(matched: &Matched<'_>) -> String {
        let others: String = matched.aliases.iter().map(|route| format!(" or {}", route.pattern)).collect();
        format!(
            "{} {}{others} guarded {} quotas {}",
            matched.method,
            matched.route.pattern,
            matched.operations.len(),
            matched.deletion_quotas().count()
        )
    }

    #[tokio::test]
    async fn a_request_is_guarded_by_its_own_path_or_by_the_one_that_the_upstream_gets() {
        let snapshot = snapshot().await;
        for (line, expected) in [
            ("GET /plain/x", "GET /plain/** guarded 0 quotas 0"),
            ("DELETE /plain/x", "DELETE /plain/** guarded 1 quotas 0"),
            ("POST /account/remove", "POST /account/** guarded 1 quotas 1"),
            ("POST /account/Remove;v=1/", "POST /account/** guarded 1 quotas 1"),
            ("POST /v1/account/remove", "POST /v1/** or /account/** guarded 1 quotas 1"),
            ("DELETE /own/x", "DELETE /own/** guarded 1 quotas 1"),
        ] {
            assert_eq!(find(&snapshot, line, &[], None).as_deref(), Ok(expected), "{line}");
        }
    }

    #[tokio::test]
    async fn a_path_that_a_lax_server_takes_for_another_routes_is_judged_by_both() {
        let snapshot = snapshot().await;
        for line in ["GET /ADMIN/x", "GET /admin;v/x", "GET /Admin./x"] {
            let expected = "GET /** or /admin/** guarded 0 quotas 0";
            assert_eq!(find(&snapshot, line, &[], None).as_deref(), Ok(expected), "{line}");
        }
        assert_eq!(find(&snapshot, "GET /admin/X", &[], None).unwrap(), "GET /admin/** guarded 0 quotas 0");
    }

    #[tokio::test]
    async fn the_method_that_a_service_will_see_is_the_one_that_is_matched() {
        let snapshot = snapshot().await;
        let header = [("x-http-method-override", "delete")];
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let deletion = "DELETE /lenient/** or /lenient/** guarded 1 quotas 0";
        let of = |line: &str, fields: &[(&str, &str)], body| find(&snapshot, line, fields, body);
        assert_eq!(of("POST /lenient/x", &[], None).unwrap(), "POST /lenient/** guarded 0 quotas 0");
        assert_eq!(of("POST /lenient/x", &header, None).unwrap(), deletion);
        assert_eq!(of("GET /lenient/x?_method=DELETE", &[], None).unwrap(), deletion);
        assert_eq!(of("POST /lenient/x", &form, Some("a=1&_method=DELETE")).unwrap(), deletion);
        assert_eq!(of("POST /lenient/x?_method=PUT", &header, None), Err(Reason::ConflictingOverride));
        assert_eq!(of("POST /lenient/x?_method=TRACE", &[], None), Err(Reason::MethodNotAllowed));
        assert_eq!(of("POST /lenient/x?_method=BREW", &[], None), Err(Reason::MethodUnknown));
        // Where no service honours them they say nothing, and are dropped.
        assert_eq!(of("POST /plain/x?_method=DELETE", &header, None).unwrap(), "POST /plain/** guarded 0 quotas 0");
    }

    const PLAN: &str = "
access_log: off
sealing: {key: {env: KEY}}
issuers:
  main: {issuer: https://idp.example/, audience: [a], keys: {secret: '${KEY}'}, algorithms: [HS256]}
upstreams:
  plain: {targets: [http://127.0.0.1:9], method_override: [header]}
deletions:
  url: https://api.example
  plans:
    account:
      operations: ['DELETE /account/{id}']
      subject: path.id
      issuer: main
      scope: {summary: Account, erased: [profile]}
      steps: [{name: account, upstream: plain, request: 'DELETE /account/{subject}'}]
routes:
  - {path: /account/**, upstream: plain, auth: [main]}
  - {path: /v1/**, upstream: plain, auth: [main], rewrite: {strip_prefix: /v1}}
  - {path: /**, upstream: plain, auth: [main]}
";

    #[tokio::test]
    async fn an_operation_of_a_plan_is_taken_over_in_its_exact_form_and_known_in_any_other() {
        let snapshot = compiled(PLAN).await;
        let planned = |line: &str, fields: &[(&str, &str)]| {
            with_matched(&snapshot, line, fields, |matched| matched.planned.map(|planned| planned.is_exact))
        };
        assert_eq!(planned("DELETE /account/7", &[]), Ok(Some(true)));
        assert_eq!(planned("DELETE /%61ccount/A%20b", &[]), Ok(Some(true)));
        for line in [
            "DELETE /account/7;v",
            "DELETE /account/7.",
            "DELETE /account/7/",
            "DELETE /Account/7",
            "DELETE /v1/account/7",
        ] {
            assert_eq!(planned(line, &[]), Ok(Some(false)), "{line}");
        }
        let header = [("x-http-method-override", "DELETE")];
        assert_eq!(planned("POST /account/7", &header), Ok(Some(false)));
        assert_eq!(planned("DELETE /account/7", &[("x-http-method-override", "GET")]), Ok(Some(false)));
        for line in ["GET /account/7", "DELETE /account", "DELETE /account/7/x", "POST /account/7"] {
            assert_eq!(planned(line, &[]), Ok(None), "{line}");
        }
        // Its quota is counted beside what others say, and what it needs is known for the route.
        let found = with_matched(&snapshot, "DELETE /account/7", &[], |matched| {
            (matched.deletion_quotas().count(), matched.planned_requirement(matched.route).is_some())
        });
        assert_eq!(found, Ok((1, true)));
    }
}
