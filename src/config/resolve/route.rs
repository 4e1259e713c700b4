//! Routes: every name resolved, nothing contradictory, and a word where something will surprise.

use std::sync::Arc;

use http::Method;

use super::{Context, guard, limit, name, shaping, streams, table::Table, tie};
use crate::{
    config::{
        Auth, CredentialSource, DeletionGuard, Destination, Issuer, Limit, LimitKey, Rewrite, Route, RouteDeletion,
        Server, Span, Upstream, When,
        decode::{At, Cx},
        document::{self, AssuranceText, AuthText, Bind, Document, Prefix},
        text::Name,
    },
    policy::{IssuerName, Requirement},
    route::{PathPattern, Segment, overlap},
};

/// What routes refer to.
pub(super) struct Shared<'a> {
    pub(super) document: &'a Document,
    pub(super) server: &'a Server,
    /// `None` when the guard could not be resolved.
    pub(super) guard: &'a Option<DeletionGuard>,
    pub(super) levels: Table<Requirement>,
    pub(super) limits: Table<Limit>,
    pub(super) issuers: Table<Issuer>,
    pub(super) credentials: Table<CredentialSource>,
    pub(super) upstreams: Table<Upstream>,
}

impl Shared<'_> {
    fn use_all_sources(&self) {
        self.issuers.use_all();
        self.credentials.use_all();
    }

    /// Warns of names that nothing uses.
    pub(super) fn report_unused(&self, cx: &mut Cx) {
        self.levels.report_unused(cx);
        self.limits.report_unused(cx);
        self.issuers.report_unused(cx);
        self.credentials.report_unused(cx);
        self.upstreams.report_unused(cx);
    }
}

pub(super) fn routes(shared: &Shared<'_>, to: &mut Context<'_>) -> Vec<Route> {
    let written = &shared.document.routes.0;
    let names = name::names(written, to);
    tie::report(written, shared, to);
    let routes: Vec<Route> =
        written.iter().zip(names).filter_map(|(route, name)| resolve(route, name, shared, to)).collect();
    report_unprovable(&routes, shared, to);
    routes
}

fn resolve(written: &document::Route, name: Arc<str>, shared: &Shared<'_>, to: &mut Context<'_>) -> Option<Route> {
    let destination = shaping::destination(written, shared, to);
    let auth = auth(written, shared, to);
    let limits = limits(written, shared, to);
    let assurance = written.assurance.as_ref().map(|at| limit::assurance(&at.value, &shared.levels, to));
    let methods = methods(written, shared, to);
    let upgrades = streams::upgrades(written, methods.as_deref(), to);
    let translates_grpc_web = streams::translates_grpc_web(written, methods.as_deref(), to);
    let rewrite = written.rewrite.as_ref().map(|section| rewrite(section, &written.path.value, to));
    let upstream = match &destination {
        Some(Destination::Upstream(upstream)) => Some(upstream),
        Some(Destination::Redirect(_)) | None => None,
    };
    let shaping = shaping::shaping(written, upstream, auth.as_ref(), shared, to);
    if written.auth.as_ref().is_some_and(|auth| matches!(auth.value, AuthText::None)) {
        report_needless(written, to);
    }
    let own = match &assurance {
        Some(level) => level.as_deref(),
        None => None,
    };
    let reach = Reach::of(written, methods.as_deref(), upstream.map(|upstream| &**upstream), shared);
    let deletion = deletion(written, &name, own, &reach, shared, to);
    report_limits(written, &limits, auth.as_ref(), to);
    Some(Route {
        span: written.span.clone(),
        name,
        path: written.path.value.clone(),
        hosts: written.hosts.iter().map(|host| host.value.clone()).collect(),
        methods,
        to: destination?,
        auth: auth?,
        scopes: written.scopes.value.iter().map(|scope| scope.0.as_str().into()).collect(),
        when: written.when.as_ref().map(|when| When {
            span: when.expr.span.clone(),
            source: when.expr.value.0.as_str().into(),
            zone: when.zone.0.as_str().into(),
        }),
        assurance: match assurance {
            None => None,
            Some(level) => Some(Requirement::clone(&*level?)),
        },
        limits,
        priority: written.priority,
        rewrite: match rewrite {
            None => None,
            Some(rewrite) => Some(rewrite?),
        },
        deletion: deletion?,
        shaping: shaping?,
        upgrades,
        translates_grpc_web,
    })
}

fn auth(written: &document::Route, shared: &Shared<'_>, to: &mut Context<'_>) -> Option<Auth> {
    match written.auth.as_ref().map(|at| &at.value) {
        Some(AuthText::None) => Some(Auth::None),
        Some(AuthText::Issuers(names)) => {
            let mut issuers: Vec<IssuerName> = Vec::with_capacity(names.len());
            for name in names {
                if issuers.iter().any(|known| known.as_ref() == name.value.0) {
                    to.error(&name.span, format!("`{}` is listed twice", name.shown));
                    continue;
                }
                issuers.extend(source(name, shared, to));
            }
            (!issuers.is_empty()).then_some(Auth::Issuers(issuers))
        }
        None => {
            // Tokens alone: a source of passwords or keys opens no route that does not name it.
            shared.issuers.use_all();
            let all: Vec<IssuerName> = shared.issuers.names().cloned().collect();
            if all.is_empty() {
                if shared.issuers.complete() && shared.credentials.complete() && !written.broken {
                    let (message, help) = if shared.credentials.is_empty() {
                        let message = "this route needs a token, and no issuer is configured that could vouch for one";
                        (message, "say `auth: none`, or configure an issuer".to_owned())
                    } else {
                        let names: Vec<&str> = shared.credentials.names().map(|name| &**name).collect();
                        let message =
                            "without `auth` a route takes tokens, and no issuer is configured that could vouch for one";
                        (message, format!("name the sources that it takes: `auth: [{}]`", names.join(", ")))
                    };
                    to.error_with_help(&written.span, message, help);
                }
                return None;
            }
            Some(Auth::Issuers(all))
        }
    }
}

/// An issuer or another source by its name.
pub(super) fn source(name: &At<Name>, shared: &Shared<'_>, to: &mut Context<'_>) -> Option<IssuerName> {
    if shared.credentials.names().any(|known| **known == *name.value.0) {
        return shared.credentials.find(name, to).map(|source| source.name.clone());
    }
    let others: Vec<&str> = shared.credentials.names().map(|name| &**name).collect();
    shared.issuers.find_or(name, &others, to).map(|issuer| issuer.name.clone())
}

/// What asks for facts of a token has no place on a route that takes none.
fn report_needless(written: &document::Route, to: &mut Context<'_>) {
    let help = "name the issuers in `auth`, or leave it out";
    if !written.scopes.value.is_empty() {
        to.error_with_help(&written.scopes.span, "`scopes` on a route with `auth: none` could never be had", help);
    }
    if let Some(assurance) = &written.assurance {
        to.error_with_help(&assurance.span, "`assurance` on a route with `auth: none` could never be had", help);
    }
}

fn methods(written: &document::Route, shared: &Shared<'_>, to: &mut Context<'_>) -> Option<Vec<Method>> {
    let mut methods: Vec<Method> = Vec::new();
    for method in &written.methods.as_ref()?.value.0 {
        if methods.contains(&method.value) {
            to.error(&method.span, format!("`{}` is listed twice", method.shown));
            continue;
        }
        if !shared.document.server.broken && !shared.server.methods.contains(&method.value) {
            let message = format!("`{}` is not among `server.methods`: no request with it is served", method.shown);
            to.error_with_help(&method.span, message, "add it there");
        }
        methods.push(method.value.clone());
    }
    Some(methods)
}

fn limits(written: &document::Route, shared: &Shared<'_>, to: &mut Context<'_>) -> Vec<Arc<Limit>> {
    let mut limits: Vec<Arc<Limit>> = Vec::with_capacity(written.limits.len());
    for name in &written.limits {
        let Some(limit) = shared.limits.find(name, to) else { continue };
        if limits.iter().any(|known| known.name == limit.name) {
            to.error(&name.span, format!("`{}` is listed twice", name.shown));
        } else {
            limits.push(limit);
        }
    }
    limits
}

fn report_limits(written: &document::Route, limits: &[Arc<Limit>], auth: Option<&Auth>, to: &mut Context<'_>) {
    let by_address = limits.iter().any(|limit| limit.key == LimitKey::Ip);
    for limit in limits {
        let named = |at: &&At<_>| at.value == crate::config::text::Name(limit.name.as_ref().into());
        let span = written.limits.iter().find(named).map_or(&written.span, |at| &at.span).clone();
        match &limit.key {
            LimitKey::Header(_) if !by_address => {
                let message = format!(
                    "the limit `{}` counts by a header that nobody verified: a new value is a new quota",
                    limit.name
                );
                to.warn(&span, message, "let a limit with `key: ip` stand beside it");
            }
            LimitKey::Subject | LimitKey::Issuer | LimitKey::Client | LimitKey::Claim(_)
                if auth == Some(&Auth::None) =>
            {
                let message = format!(
                    "the limit `{}` counts by what a token says, and this route takes none: all callers share one bucket",
                    limit.name
                );
                to.warn(&span, message, "use a limit with `key: ip`, or `global` if that is meant");
            }
            LimitKey::Header(_)
            | LimitKey::Subject
            | LimitKey::Issuer
            | LimitKey::Client
            | LimitKey::Claim(_)
            | LimitKey::Ip
            | LimitKey::Route
            | LimitKey::Global => {}
        }
    }
}

fn rewrite(section: &document::Rewrite, path: &PathPattern, to: &mut Context<'_>) -> Option<Rewrite> {
    match (&section.strip_prefix, &section.replace_prefix, &section.path) {
        (Some(prefix), None, None) => {
            leads(prefix, path, to)?;
            Some(Rewrite::StripPrefix(prefix.value.normal.clone()))
        }
        (None, Some(replace), None) => {
            leads(&replace.from, path, to)?;
            Some(Rewrite::ReplacePrefix(replace.from.value.normal.clone(), replace.to.value.normal.clone()))
        }
        (None, None, Some(text)) => {
            shaping::report_unknown_values(&text.value.0, &text.span, path, to)?;
            Some(Rewrite::Path(text.value.0.clone()))
        }
        (None, None, None) => {
            if !section.broken {
                let help = "write {strip_prefix: /x}, {replace_prefix: {from: /x, to: /y}} or {path: /y}";
                to.error_with_help(&section.span, "it is not said what this rewrite does", help);
            }
            None
        }
        _ => {
            to.error(&section.span, "a rewrite is one of `strip_prefix`, `replace_prefix` and `path`, not several");
            None
        }
    }
}

/// A prefix must be there in every path of the route, or the rewrite would not be what it says.
fn leads(prefix: &At<Prefix>, path: &PathPattern, to: &mut Context<'_>) -> Option<()> {
    let wanted = &prefix.value.segments;
    let literal = |segment: &Segment, wanted: &Arc<str>| matches!(segment, Segment::Literal(is) if is == wanted);
    let segments = path.segments();
    let fits = wanted.len() <= segments.len() && segments.iter().zip(wanted).all(|(is, wanted)| literal(is, wanted));
    if wanted.is_empty() && prefix.span.key.ends_with("strip_prefix") {
        to.error(&prefix.span, "there is nothing to strip");
        return None;
    }
    if !fits {
        let message = format!("`{}` is not how the paths of this route begin", prefix.shown);
        to.error_with_help(
            &prefix.span,
            message,
            format!("the route's path is `{path}`; only its literal segments can go"),
        );
        return None;
    }
    Some(())
}

/// Which guarded operations a route can be asked for.
struct Reach {
    guarded: bool,
}

impl Reach {
    fn of(
        written: &document::Route,
        methods: Option<&[Method]>,
        upstream: Option<&Upstream>,
        shared: &Shared<'_>,
    ) -> Self {
        let Some(guard) = shared.guard else { return Self { guarded: false } };
        // Where the upstream honours overrides, any method may turn out to be the one that is judged.
        let overridden = upstream.is_some_and(|upstream| !upstream.method_override.is_empty());
        let accepted = match methods {
            Some(methods) if !overridden => methods,
            Some(_) | None => &shared.server.methods,
        };
        let guarded = guard.operations.iter().any(|operation| {
            operation.method.as_ref().is_none_or(|method| accepted.contains(method))
                && overlap::overlaps(&operation.path, &written.path.value)
        });
        Self { guarded }
    }
}

fn deletion(
    written: &document::Route,
    name: &str,
    own: Option<&Requirement>,
    reach: &Reach,
    shared: &Shared<'_>,
    to: &mut Context<'_>,
) -> Option<RouteDeletion> {
    let out = &written.danger_unguarded_deletion;
    if out.value {
        if let Some(section) = &written.deletion {
            let message = "`deletion` and `danger_unguarded_deletion: true` contradict each other";
            to.error(&section.span, message);
        }
        to.warn(
            &out.span,
            "this route is outside the deletion guard",
            "leave the key out unless the service behind asks for proof itself",
        );
    }
    let guard = shared.guard.as_ref()?;
    let asked = match written.deletion.as_ref().and_then(|section| section.assurance.as_ref()) {
        Some(text) => {
            let level = limit::assurance(text, &shared.levels, to)?;
            guard::report_ageless(&level, &span_of(text), to);
            Requirement::clone(&level)
        }
        None => guard.assurance.clone(),
    };
    let limit = match written.deletion.as_ref().and_then(|section| section.limit.as_ref()) {
        Some(text) => Some(limit::guarded(text, &format!("deletion {name}"), &shared.limits, to)?),
        None => None,
    };
    if out.value || !guard.enabled {
        return Some(RouteDeletion::Unguarded);
    }
    if let (Some(section), false) = (&written.deletion, reach.guarded) {
        let message = "`deletion` has no effect: no guarded operation reaches this route";
        to.warn(&section.span, message, "add the operation to `deletion_guard.operations`");
    }
    let mut requirement = own.map_or_else(|| asked.clone(), |own| guard::both(&asked, own));
    if let Some(bind) = written.deletion.as_ref().and_then(|section| section.bind.as_ref()) {
        let Bind::Request = bind.value;
        if !to.ways.on {
            let message =
                "grants are made by the authority, and there is no `authority`: nothing could ever be deleted here";
            to.error_with_help(&bind.span, message, "add `authority`, or leave `bind` out");
        }
        requirement.bind = true;
    }
    if let (Some(list), true) = (guard::empty_list(&requirement), reach.guarded) {
        let span = written.assurance.as_ref().map_or(&written.span, |at| &at.span);
        let message = format!("no `{list}` value satisfies both this route's assurance and the deletion guard's");
        to.error_with_help(span, message, "give the route a `deletion: {assurance: …}` that shares a value with it");
    }
    Some(RouteDeletion::Guarded { requirement, limit })
}

fn span_of(text: &AssuranceText) -> Span {
    match text {
        AssuranceText::Name(name) => name.span.clone(),
        AssuranceText::Inline(level) => level.span.clone(),
    }
}

/// A guarded operation needs a token of some issuer, on public routes too.
fn report_unprovable(routes: &[Route], shared: &Shared<'_>, to: &mut Context<'_>) {
    let Some(guard) = shared.guard.as_ref().filter(|guard| guard.enabled) else { return };
    let public = routes.iter().find(|route| {
        route.auth == Auth::None
            && matches!(route.deletion, RouteDeletion::Guarded { .. })
            && guard.operations.iter().any(|operation| {
                let accepted = route.methods.as_deref().unwrap_or(&shared.server.methods);
                operation.method.as_ref().is_none_or(|method| accepted.contains(method))
                    && overlap::overlaps(&operation.path, &route.path)
            })
    });
    let Some(route) = public else { return };
    shared.use_all_sources();
    let none = shared.issuers.is_empty() && shared.credentials.is_empty();
    if none && shared.issuers.complete() && shared.credentials.complete() {
        let message = "guarded operations (DELETE and the like) are always refused here: no issuer is configured that could vouch for a caller";
        to.warn(&route.span, message, "configure an issuer, or list the route's `methods`");
    }
}
