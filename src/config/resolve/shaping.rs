//! What routes do besides passing requests on: exactly one destination, rules that touch nothing of the gateway's, and services that
//! may stand for each other.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{Context, route::Shared};
use crate::{
    config::{
        Auth, Canary, Cors, CorsOrigins, Destination, HeaderRules, MethodOverride, Mirror, Redirect, RouteText,
        RouteValue, RuleKind, RuleValue, SecurityHeaders, Shaping, Span, Upstream,
        decode::At,
        document::{self, OriginText, Switch},
        folded, not_for_request_rules, not_for_response_rules,
    },
    route::{NormalPath, PathPattern, Segment},
};

/// What pages may always read: by it the gateway says why it refused, and what to do (RFC 9470, RFC 9449, RateLimit, gRPC-Web).
const EXPOSED: [&str; 8] = [
    "www-authenticate",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "x-request-id",
    "dpop-nonce",
    "grpc-status",
    "grpc-message",
];
/// What browsers ask of a host that they are to ship with (<https://hstspreload.org>).
const PRELOAD_AGE: Duration = Duration::from_secs(365 * 86_400);

/// Where requests go: to an upstream, or elsewhere by a redirect.
pub(super) fn destination(written: &document::Route, shared: &Shared<'_>, to: &mut Context<'_>) -> Option<Destination> {
    match (&written.upstream, &written.redirect) {
        (Some(name), None) => shared.upstreams.find(name, to).map(Destination::Upstream),
        (None, Some(section)) => {
            report_unforwarded(written, to);
            redirect(section, &written.path.value, to).map(|redirect| Destination::Redirect(Box::new(redirect)))
        }
        (Some(name), Some(section)) => {
            shared.upstreams.find(name, to);
            to.error(&section.span, "a route goes to an `upstream` or is a `redirect`, not both");
            None
        }
        (None, None) => {
            if !written.broken {
                let help = "name an upstream, or write {to: /elsewhere}";
                to.error_with_help(&written.span, "a route needs an `upstream` or a `redirect`", help);
            }
            None
        }
    }
}

fn redirect(section: &document::Redirect, path: &PathPattern, to: &mut Context<'_>) -> Option<Redirect> {
    let (target, span) = (&section.to.value, &section.to.span);
    report_unknown_values(&target.path, span, path, to)?;
    if let Some(query) = &target.query {
        report_unknown_values(query, span, path, to)?;
    }
    let itself = target.origin.is_none()
        && target
            .path
            .fixed()
            .and_then(|fixed| NormalPath::parse(fixed).ok())
            .is_some_and(|fixed| path.matches_folded(&fixed));
    if itself {
        to.warn(
            span,
            "this redirect leads to its own route",
            "clients that follow it would come here again, until they give up",
        );
    }
    Some(Redirect {
        origin: target.origin.as_deref().map(Into::into),
        path: target.path.clone(),
        query: target.query.clone(),
        fragment: target.fragment.as_deref().map(Into::into),
        status: section.status.0,
    })
}

/// What concerns an upstream has no place where there is none.
fn report_unforwarded(written: &document::Route, to: &mut Context<'_>) {
    let keys = [
        ("rewrite", written.rewrite.as_ref().map(|section| &section.span)),
        ("request_headers", written.request_headers.as_ref().map(|section| &section.span)),
        ("timeouts", written.timeouts.as_ref().map(|section| &section.span)),
        ("mirror", written.mirror.as_ref().map(|section| &section.span)),
        ("canary", written.canary.as_ref().map(|section| &section.span)),
        ("upgrade", written.upgrade.first().map(|at| &at.span)),
        ("grpc_web", written.grpc_web.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in keys {
        if let Some(span) = span {
            to.error(span, format!("`{key}` on a redirect has no effect: nothing is forwarded"));
        }
    }
}

/// Values that no path of the route has.
pub(super) fn report_unknown_values(
    text: &RouteText,
    span: &Span,
    path: &PathPattern,
    to: &mut Context<'_>,
) -> Option<()> {
    let mut all_known = Some(());
    for value in text.values() {
        let known = match value {
            RouteValue::Path(name) => {
                path.segments().iter().any(|segment| matches!(segment, Segment::Parameter(is) if is == name))
            }
            RouteValue::Rest => path.segments().last() == Some(&Segment::Rest),
            RouteValue::RequestId | RouteValue::ClientIp | RouteValue::Subject | RouteValue::Query => true,
        };
        if !known {
            let message = format!("the route's path `{path}` has nothing that `{{{value}}}` could stand for");
            to.error(span, message);
            all_known = None;
        }
    }
    all_known
}

/// What a route does besides passing requests on; `Some(None)` where it does nothing.
pub(super) fn shaping(
    written: &document::Route,
    upstream: Option<&Arc<Upstream>>,
    auth: Option<&Auth>,
    shared: &Shared<'_>,
    to: &mut Context<'_>,
) -> Option<Option<Arc<Shaping>>> {
    let canary = written.canary.as_ref().map(|section| canary(section, upstream, shared, to));
    let mirror = written.mirror.as_ref().map(|section| mirror(section, upstream, shared, to));
    let (canary, mirror) = (canary.flatten(), mirror.flatten());
    let others = canary.iter().map(|canary| &canary.upstream).chain(mirror.iter().map(|mirror| &mirror.upstream));
    let told: Vec<(HeaderName, Arc<str>)> =
        upstream.into_iter().chain(others).flat_map(|upstream| told_by(upstream)).collect();
    let has_subject = auth != Some(&Auth::None);
    let path = &written.path.value;
    let request_headers = written.request_headers.as_ref().map(|section| {
        let forbidden = |name: &HeaderName, kind: RuleKind| {
            let name_folded = folded(name.as_str());
            let own = told.iter().find(|(own, _)| folded(own.as_str()) == name_folded);
            own.map(|(_, what)| what.to_string())
                .or_else(|| not_for_request_rules(&name_folded, kind, shared.server).map(str::to_owned))
        };
        rules(section, path, has_subject, &forbidden, to)
    });
    let response_headers = written.response_headers.as_ref().map(|section| {
        let forbidden =
            |name: &HeaderName, kind: RuleKind| not_for_response_rules(&folded(name.as_str()), kind).map(str::to_owned);
        rules(section, path, has_subject, &forbidden, to)
    });
    let security_headers = match &written.security_headers {
        Switch::Off => None,
        Switch::On => document::SecurityHeaders::defaults().and_then(|section| security_headers(&section, to)),
        Switch::Only(section) => security_headers(section, to),
    };
    let cors = match &written.cors {
        Some(section) => Some(cors(section, to)?),
        None => None,
    };
    if !written.broken
        && written
            .timeouts
            .as_ref()
            .is_some_and(|times| !times.broken && times.response.is_none() && times.request.is_none())
        && let Some(section) = &written.timeouts
    {
        to.error_with_help(
            &section.span,
            "it is not said which time this limits",
            "write {response: 30s} or {request: 5m}",
        );
    }
    let timeouts = written.timeouts.as_ref();
    let any = written.request_headers.is_some()
        || written.response_headers.is_some()
        || security_headers.is_some()
        || cors.is_some()
        || written.body_bytes.is_some()
        || timeouts.is_some()
        || mirror.is_some()
        || canary.is_some();
    Some(any.then(|| {
        Arc::new(Shaping {
            request_headers: request_headers.unwrap_or_default(),
            response_headers: response_headers.unwrap_or_default(),
            security_headers,
            cors,
            body_bytes: written.body_bytes.map(|size| size.0),
            response_timeout: timeouts.and_then(|times| times.response),
            request_timeout: timeouts.and_then(|times| times.request),
            mirror,
            canary,
        })
    }))
}

/// The fields in which an upstream is told what the gateway says itself.
fn told_by(upstream: &Upstream) -> impl Iterator<Item = (HeaderName, Arc<str>)> {
    let why = |what: &str| Arc::from(format!("the upstream `{}` has {what} there", upstream.name));
    let credential = upstream.credential_field().map(|name| (name, why("its credential")));
    credential.into_iter().chain(upstream.assertion_field().map(|name| (name, why("its assertion"))))
}

fn rules(
    section: &document::HeaderRules,
    path: &PathPattern,
    has_subject: bool,
    forbidden: &dyn Fn(&HeaderName, RuleKind) -> Option<String>,
    to: &mut Context<'_>,
) -> HeaderRules {
    let mut seen: Vec<HeaderName> = Vec::new();
    let check = |name: &At<HeaderName>, kind: RuleKind, to: &mut Context<'_>| {
        if let Some(why) = forbidden(&name.value, kind) {
            to.error(&name.span, format!("the header `{}` is not for rules: {why}", name.shown));
            return None;
        }
        Some(name.value.clone())
    };
    let mut put =
        |fields: &document::HeaderFields, once: bool, to: &mut Context<'_>| -> Box<[(HeaderName, RuleValue)]> {
            let mut found = Vec::with_capacity(fields.0.len());
            for (name, text) in &fields.0 {
                let Some(checked) = check(name, RuleKind::Put, to) else { continue };
                let is_twice = seen.iter().any(|known| folded(known.as_str()) == folded(checked.as_str()));
                if once && is_twice {
                    to.error(&name.span, format!("`{}` is set twice", name.shown));
                    continue;
                }
                if once {
                    seen.push(checked.clone());
                }
                report_unknown_values(&text.value.0, &text.span, path, to);
                if !has_subject && text.value.0.values().any(|value| *value == RouteValue::Subject) {
                    let message = "`{subject}` on a route with `auth: none` is never known";
                    to.error(&text.span, message);
                }
                let fixed = text.value.0.fixed().and_then(|fixed| HeaderValue::from_str(fixed).ok());
                found.push((checked, fixed.map_or_else(|| RuleValue::Text(text.value.0.clone()), RuleValue::Fixed)));
            }
            found.into()
        };
    let set = put(&section.set, true, to);
    let add = put(&section.add, false, to);
    let mut remove = Vec::with_capacity(section.remove.len());
    for name in &section.remove {
        let Some(checked) = check(name, RuleKind::Remove, to) else { continue };
        if set.iter().any(|(set, _)| folded(set.as_str()) == folded(checked.as_str())) {
            to.error(
                &name.span,
                format!("`{}` is removed and set: what is set stands in the place of all others", name.shown),
            );
            continue;
        }
        remove.push(checked);
    }
    if set.is_empty() && add.is_empty() && remove.is_empty() && !section.broken && section.is_bare() {
        to.warn(
            &section.span,
            "these rules change nothing",
            "write {set: {x-name: value}}, {add: …} or {remove: [x-name]}",
        );
    }
    HeaderRules { remove: remove.into(), set, add }
}

fn security_headers(section: &document::SecurityHeaders, to: &mut Context<'_>) -> Option<SecurityHeaders> {
    let fixed = |name: &'static str, value: Option<&'static str>| {
        Some((HeaderName::from_static(name), HeaderValue::from_static(value?)))
    };
    let frame = section.frame.0.map(|word| if word == "deny" { "DENY" } else { "SAMEORIGIN" });
    let mut fields: Vec<(HeaderName, HeaderValue)> = [
        fixed("x-content-type-options", section.nosniff.then_some("nosniff")),
        fixed("x-frame-options", frame),
        fixed("referrer-policy", section.referrer.0),
        fixed("cross-origin-opener-policy", section.opener.0),
        fixed("cross-origin-resource-policy", section.resource.0),
        fixed("cross-origin-embedder-policy", section.embedder.0),
    ]
    .into_iter()
    .flatten()
    .collect();
    let given = [("permissions-policy", &section.permissions), ("content-security-policy", &section.content)];
    for (name, text) in given {
        let Some(text) = text else { continue };
        match HeaderValue::from_str(&text.value) {
            Ok(value) if text.value.is_ascii() => fields.push((HeaderName::from_static(name), value)),
            Ok(_) | Err(_) => to.error(&text.span, "a header's value is visible ASCII"),
        }
    }
    let hsts = match &section.hsts {
        Switch::Off => None,
        Switch::On => document::Hsts::defaults(),
        Switch::Only(hsts) => Some(hsts.clone()),
    };
    let hsts = hsts.and_then(|hsts| {
        if hsts.preload.value && (!hsts.subdomains || hsts.max_age < PRELOAD_AGE) {
            to.error(&hsts.preload.span, "`preload` needs `subdomains: true` and a `max_age` of a year");
        }
        let subdomains = if hsts.subdomains { "; includeSubDomains" } else { "" };
        let preload = if hsts.preload.value { "; preload" } else { "" };
        HeaderValue::try_from(format!("max-age={}{subdomains}{preload}", hsts.max_age.as_secs())).ok()
    });
    Some(SecurityHeaders { fields: fields.into(), hsts, overrides: section.r#override })
}

fn cors(section: &document::Cors, to: &mut Context<'_>) -> Option<Cors> {
    let mut listed = Vec::new();
    let mut any = None;
    for origin in &section.origins.value.0 {
        if origin.value.is_cleartext() && section.credentials.value {
            let message =
                format!("pages of `{}` can be changed on their way, and may ask with credentials", origin.shown);
            to.warn(&origin.span, message, "use `https://`");
        }
        match &origin.value {
            OriginText::Any => any = Some(&origin.span),
            OriginText::Pattern(pattern) if listed.contains(pattern) => {
                to.error(&origin.span, format!("`{}` is listed twice", origin.shown));
            }
            OriginText::Pattern(pattern) => listed.push(pattern.clone()),
        }
    }
    if let (Some(span), false) = (any, listed.is_empty()) {
        to.error(span, "`*` is every origin: it stands alone");
    }
    if let (Some(span), true) = (any, section.credentials.value) {
        let message = "`*` with `credentials: true` would let every page of the Web act as its visitors";
        to.error_with_help(span, message, "list the origins");
    }
    let credentials = section.credentials.value;
    let exposed = EXPOSED.into_iter().map(str::to_owned);
    let mut expose: Vec<String> = Vec::new();
    for name in exposed.chain(section.expose.iter().map(|name| name.value.as_str().to_owned())) {
        if !expose.contains(&name) {
            expose.push(name);
        }
    }
    Some(Cors {
        origins: if any.is_some() { CorsOrigins::Any } else { CorsOrigins::Listed(listed.into()) },
        methods: section.methods.as_ref().map(|methods| methods.0.iter().map(|method| method.value.clone()).collect()),
        headers: section.headers.iter().map(|name| name.value.clone()).collect(),
        expose: HeaderValue::try_from(expose.join(", ")).ok()?,
        credentials,
        max_age: section.max_age,
    })
}

fn canary(
    section: &document::Canary,
    upstream: Option<&Arc<Upstream>>,
    shared: &Shared<'_>,
    to: &mut Context<'_>,
) -> Option<Canary> {
    let other = other_service("canary", &section.upstream, upstream, shared, to)?;
    Some(Canary { span: section.span.clone(), upstream: other, share: section.percent, by: section.by.clone() })
}

fn mirror(
    section: &document::Mirror,
    upstream: Option<&Arc<Upstream>>,
    shared: &Shared<'_>,
    to: &mut Context<'_>,
) -> Option<Mirror> {
    let other = other_service("mirror", &section.upstream, upstream, shared, to)?;
    if other.forward_authorization {
        let message = format!("a copy has none of the client's credentials, and `{}` forwards them", other.name);
        to.error_with_help(&section.upstream.span, message, "name an upstream without `forward_authorization`");
    }
    Some(Mirror {
        span: section.span.clone(),
        upstream: other,
        share: section.percent,
        body_bytes: section.body_bytes.bytes(),
        cookies: section.cookies,
    })
}

/// A service that may get what is judged for another: whatever is judged by the service must be the same in both.
fn other_service(
    what: &str,
    name: &At<crate::config::text::Name>,
    own: Option<&Arc<Upstream>>,
    shared: &Shared<'_>,
    to: &mut Context<'_>,
) -> Option<Arc<Upstream>> {
    let other = shared.upstreams.find(name, to)?;
    let own = own?;
    if own.name == other.name {
        to.error(&name.span, format!("`{}` is the route's own upstream: a {what} is another", name.shown));
        return None;
    }
    let ways = |upstream: &Upstream| MethodOverride::ALL.map(|way| upstream.method_override.contains(&way));
    let reads_bodies = own.method_override.iter().any(|way| way.is_in_body());
    let is_same_form = !reads_bodies || own.form_bytes == other.form_bytes;
    if ways(own) != ways(&other) || !is_same_form {
        let message = format!(
            "`{}` and `{}` differ in `method_override`: what is judged for one would be another request for the other",
            own.name, other.name
        );
        to.error_with_help(&name.span, message, "give both the same `method_override` and `form_bytes`");
        return None;
    }
    Some(other)
}
