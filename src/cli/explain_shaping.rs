//! What `stepgate explain` says of what a route does besides passing requests on.

use http::{Method, header};

use super::print_line;
use crate::{
    config::{Cors, CorsOrigins, HeaderRules, OriginPattern, Shaping},
    gateway::Inbound,
    runtime::CompiledRoute,
};

/// Prints what applies, a line each.
pub(super) fn print(inbound: &Inbound, route: &CompiledRoute, rules: &Shaping) {
    if let Some(canary) = &rules.canary {
        print_line(&format!(
            "canary     {} of requests go to {}, by {}",
            canary.share, canary.upstream.name, canary.by
        ));
    }
    if let Some(mirror) = &rules.mirror {
        let cookies = if mirror.cookies { "cookies go along" } else { "without cookies" };
        print_line(&format!(
            "mirror     {} of requests are copied to {}, bodies up to {} bytes, {cookies}; guarded operations never",
            mirror.share, mirror.upstream.name, mirror.body_bytes
        ));
    }
    let times = [("the head of the answer", rules.response_timeout), ("the whole exchange", rules.request_timeout)];
    for (what, time) in times {
        if let Some(time) = time {
            print_line(&format!("limit      {time:?} for {what}"));
        }
    }
    if let Some(bytes) = rules.body_bytes {
        print_line(&format!("limit      {bytes} bytes of body"));
    }
    print_rules("request", &rules.request_headers);
    print_rules("answer", &rules.response_headers);
    if let Some(security) = &rules.security_headers {
        let names = security.fields.iter().map(|(name, _)| name.as_str());
        let hsts = security.hsts.as_ref().map(|_| header::STRICT_TRANSPORT_SECURITY.as_str());
        print_line(&format!("answer     says {}", names.chain(hsts).collect::<Vec<_>>().join(", ")));
    }
    if let Some(cors) = &rules.cors {
        print_cors(cors, inbound, route);
    }
}

fn print_rules(of: &str, rules: &HeaderRules) {
    let list = |names: Vec<&str>| names.join(", ");
    let name = |(name, _): &'_ (http::HeaderName, _)| name.clone();
    let (set, add): (Vec<_>, Vec<_>) = (rules.set.iter().map(name).collect(), rules.add.iter().map(name).collect());
    let removed: Vec<&str> = rules.remove.iter().map(http::HeaderName::as_str).collect();
    for (what, names) in [
        ("loses", removed),
        ("gets", set.iter().map(http::HeaderName::as_str).collect()),
        ("gets besides", add.iter().map(http::HeaderName::as_str).collect()),
    ] {
        if !names.is_empty() {
            print_line(&format!("{of:<11}{what} {}", list(names)));
        }
    }
}

fn print_cors(cors: &Cors, inbound: &Inbound, route: &CompiledRoute) {
    let shown = |pattern: &OriginPattern| match pattern {
        OriginPattern::Exact(origin) => origin.to_string(),
        OriginPattern::Below(scheme, host) => format!("{scheme}*{host}"),
    };
    let origins = match &cors.origins {
        CorsOrigins::Any => "every origin".to_owned(),
        CorsOrigins::Listed(patterns) => patterns.iter().map(shown).collect::<Vec<_>>().join(", "),
    };
    let methods = match &cors.methods {
        Some(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
        None => format!("whatever {} takes", route.name),
    };
    let credentials = if cors.credentials { ", with cookies" } else { "" };
    print_line(&format!("cors       pages of {origins} may ask: {methods}{credentials}"));
    if inbound.method == Method::OPTIONS {
        print_line("           a preflight has Origin and Access-Control-Request-Method (-H), and no credential:");
        print_line("           that is answered by the gateway, from the route of the method that it asks for");
    }
}
