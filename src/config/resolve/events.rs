//! Endpoints for what providers report: each on a path of its own, with types that no caller's token has.

use std::sync::Arc;

use http::Method;

use super::{Context, limit, route::Shared};
use crate::config::{
    Events, KeySource, Limit, LimitKey, Route,
    document::{self, TypeText},
};

/// The types of log-out tokens (OpenID Connect Back-Channel Logout 1.0 §2.4) and security events (RFC 8417 §2.3).
const EVENT_TYPES: [&str; 2] = ["logout+jwt", "secevent+jwt"];

/// Whether tokens of this type are events, and so never a caller's.
pub(super) fn is_event_type(name: &str) -> bool {
    EVENT_TYPES.contains(&name)
}

pub(super) fn events(issuer: &Arc<str>, written: &document::Events, to: &mut Context<'_>) -> Option<Events> {
    let (mut types, mut type_absent) = (Vec::<Arc<str>>::new(), false);
    for item in &written.types.0 {
        match &item.value {
            TypeText::Absent => type_absent = true,
            TypeText::Type(name) if is_event_type(name) || **name == *"jwt" => {
                if !types.contains(name) {
                    types.push(name.clone());
                }
            }
            TypeText::Type(_) => {
                let message = format!("`{}` is no type of events", item.shown);
                to.error_with_help(&item.span, message, "there are `logout+jwt`, `secevent+jwt`, `JWT` and `absent`");
            }
        }
    }
    let name = format!("events {issuer}");
    let rate = limit::plain_rate(written.rate.value);
    let limit = Limit { span: written.rate.span.clone(), name: name.into(), key: LimitKey::Ip, rate };
    Some(Events {
        span: written.path.span.clone(),
        path: written.path.value.0.as_str().into(),
        audience: written.audience.value.0.iter().map(|audience| audience.as_str().into()).collect(),
        types,
        type_absent,
        sign_out: written.sign_out,
        keep: written.keep,
        limit: Arc::new(limit),
    })
}

/// An endpoint comes before the routes, so that none may be meant for its path, and it can be posted to.
pub(super) fn report_conflicts(shared: &Shared<'_>, routes: &[Route], to: &mut Context<'_>) {
    let all = shared.issuers.values();
    for issuer in all.iter().filter(|issuer| issuer.keys == KeySource::Absent) {
        if let Some(events) = &issuer.events {
            let message = "events are signed, and this issuer has no `keys` to verify them by";
            to.error_with_help(
                &events.span,
                message,
                "add `keys`; tokens that are opaque are introspected all the same",
            );
        }
    }
    let all: Vec<&Events> = all.iter().filter_map(|issuer| issuer.events.as_ref()).collect();
    for (at, events) in all.iter().enumerate() {
        if let Some(twin) = all.iter().take(at).find(|other| other.path == events.path) {
            let message = format!("the events of the issuer on line {} have this path already", twin.span.line);
            to.error_with_help(&events.span, message, "each issuer's keys are tried for what comes on its own path");
        }
        if let Some(route) = routes.iter().find(|route| names(route, &events.path)) {
            let message = format!("the route on line {} is for this path, or what is below it, too", route.span.line);
            to.error_with_help(&events.span, message, "give one of them another path");
        }
        if !shared.server.methods.contains(&Method::POST) {
            to.error(&events.span, "events come by POST, which is not among `server.methods`");
        }
    }
}

/// Whether a route is for this very path, or for paths that begin with it.
fn names(route: &Route, path: &str) -> bool {
    let pattern = route.path.as_str();
    pattern.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
