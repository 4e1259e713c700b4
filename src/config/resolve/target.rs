//! The targets of an upstream.

use std::sync::Arc;

use super::Context;
use crate::config::{
    Reach, Span, Target, UpstreamTarget,
    document::{Scheme, TargetSection, TargetText, TargetUrl, Upstream},
};

pub(super) fn targets(written: &Upstream, to: &mut Context<'_>) -> Vec<UpstreamTarget> {
    let mut targets: Vec<UpstreamTarget> = Vec::with_capacity(written.targets.0.len());
    for text in &written.targets.0 {
        let (found, shown, span) = match text {
            TargetText::Address(address) => (Some(of_url(&address.value, to)), &address.shown, &address.span),
            TargetText::Section(section) => {
                let (shown, span) = match (&section.url, &section.srv) {
                    (Some(url), _) => (&url.shown, &url.span),
                    (None, Some(srv)) => (&srv.shown, &srv.span),
                    (None, None) => (&section.weight.shown, &section.span),
                };
                (of_section(section, to), shown, span)
            }
        };
        let Some(target) = found else { continue };
        if targets.iter().any(|known| known.address == target.address && known.reach == target.reach) {
            to.error(span, format!("`{shown}` is listed twice"));
        } else {
            targets.push(target);
        }
    }
    if let Some(ca) = &written.ca
        && !targets.is_empty()
        && targets.iter().all(|target| !target.address.tls)
    {
        to.warn(&ca.span, "`ca` has no effect: no target is https", "leave it out, or use https");
    }
    targets
}

fn of_url(url: &TargetUrl, to: &Context<'_>) -> UpstreamTarget {
    match url {
        TargetUrl::Host(address) => UpstreamTarget { address: address.clone(), weight: 1, reach: Reach::Host },
        TargetUrl::Unix(path) => UpstreamTarget {
            // What it is told as `Host` where nobody says one: sockets have no name of their own.
            address: Target { tls: false, host: "localhost".into(), port: 80 },
            weight: 1,
            reach: Reach::Unix(to.base.join(path)),
        },
    }
}

fn of_section(section: &TargetSection, to: &mut Context<'_>) -> Option<UpstreamTarget> {
    // The document holds it within its bounds.
    let weight = u16::try_from(section.weight.value.get()).unwrap_or(u16::MAX);
    if let (Some(scheme), None, false) = (&section.scheme, &section.srv, section.broken) {
        to.error_with_help(&scheme.span, "`scheme` belongs to `srv`", "a `url` says its scheme itself");
    }
    if let (true, Some(_)) = (section.expand.value, &section.srv) {
        let help = "leave it out: each record's addresses are targets of their own";
        to.error_with_help(&section.expand.span, "`expand` belongs to `url`", help);
    }
    match (&section.url, &section.srv) {
        (Some(url), None) => {
            let mut target = UpstreamTarget { weight, ..of_url(&url.value, to) };
            if section.expand.value {
                target.reach = expanded(&target, &section.expand.span, to)?;
            }
            Some(target)
        }
        (None, Some(srv)) => {
            let Some(scheme) = &section.scheme else {
                if !section.broken {
                    let help = "add `scheme: http` or `scheme: https`: SRV records do not say it";
                    to.error_with_help(&srv.span, "it is not said how these targets are spoken with", help);
                }
                return None;
            };
            if section.weight.span.line != 0 && weight != 1 {
                to.error(&section.weight.span, "the targets of `srv` have the weights of their records");
            }
            // Answers of the DNS are nobody's word: what a certificate must be for is what the file names (RFC 9525 §2).
            let name: Vec<&str> =
                srv.value.0.trim_end_matches('.').split('.').skip_while(|it| it.starts_with('_')).collect();
            let tls = scheme.value == Scheme::Https;
            let address = Target { tls, host: name.join(".").into(), port: if tls { 443 } else { 80 } };
            Some(UpstreamTarget { address, weight, reach: Reach::Services(Arc::from(srv.value.0.as_str())) })
        }
        (Some(_), Some(_)) => {
            to.error(&section.span, "a target is either a `url` or a `srv`, not both");
            None
        }
        (None, None) => {
            if !section.broken {
                let help = "write {url: \"http://HOST:PORT\"} or {srv: _http._tcp.NAME, scheme: http}";
                to.error_with_help(&section.span, "it is not said where this target answers", help);
            }
            None
        }
    }
}

fn expanded(target: &UpstreamTarget, span: &Span, to: &mut Context<'_>) -> Option<Reach> {
    let host = target.address.host.trim_start_matches('[').trim_end_matches(']');
    let is_name = target.reach == Reach::Host && host.parse::<std::net::IpAddr>().is_err();
    if !is_name {
        to.error_with_help(span, "`expand` needs a name: this is one place", "leave it out");
        return None;
    }
    Some(Reach::EachAddress)
}
