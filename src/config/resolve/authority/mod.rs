//! The authority: an origin that browsers can know, a path of its own, factors that can be had, and a word on each setting
//! that is weaker than the default.

mod accounts;
mod factors;
mod level;
mod weak;

pub(super) use level::{Ways, rule};

use std::{sync::Arc, time::Duration};

use super::{Context, limit, listener, route::Shared};
use crate::{
    config::{
        Authority, Guessing, Limit, LimitKey, Listener, Notices, Route, Span,
        decode::At,
        document::{self, Document, Mode},
        text::Name,
    },
    policy::IssuerName,
};

/// An invitation that is good for longer is found by somebody else.
const LONGEST_INVITATION: Duration = Duration::from_secs(90 * 86_400);
/// A day's elevation is a log-in, not a step-up.
const LONGEST_ELEVATION: Duration = Duration::from_secs(86_400);
/// A grant is for a request that is about to be made.
const LONGEST_GRANT: Duration = Duration::from_secs(600);
/// A code that was sent lies in somebody's inbox.
const LONGEST_CODE: Duration = Duration::from_secs(1_800);
/// A longer lock would be one by strangers.
const LONGEST_LOCK: Duration = Duration::from_secs(86_400);

/// What the paths of the authority must not meet.
pub(super) struct Neighbours<'a> {
    pub(super) listeners: &'a [Listener],
    pub(super) routes: &'a [Route],
    /// Where the keys of assertions are served.
    pub(super) jwks_path: Option<&'a str>,
}

pub(super) fn authority(
    document: &Document,
    shared: &Shared<'_>,
    neighbours: &Neighbours<'_>,
    to: &mut Context<'_>,
) -> Option<Arc<Authority>> {
    let written = document.authority.as_ref()?;
    report_path(written, shared, neighbours, to);
    // Codes are taken where nobody can read them on the way.
    listener::report_cleartext(
        neighbours.listeners,
        (&written.span, &written.danger_cleartext),
        &listener::Without {
            danger: "codes and the pages' cookies can be read on the way",
            some: "the authority refuses codes, tokens and pages here",
            none: "codes are refused without: nobody could use the authority",
        },
        to,
    );
    let issuers = issuers(written, shared, to);
    let accounts = match (written.mode.value, &written.accounts) {
        (Mode::SecondFactor, None) => Some(None),
        (Mode::Accounts, Some(accounts)) => accounts::accounts(accounts, document, shared, to).map(Some),
        (Mode::Accounts, None) => {
            if !written.broken {
                let help = "add `accounts: {audience: https://…}`";
                to.error_with_help(&written.mode.span, "`mode: accounts` needs the section `accounts`", help);
            }
            None
        }
        (Mode::SecondFactor, Some(accounts)) => {
            let help = "say `mode: accounts`, or leave the section out";
            to.error_with_help(&accounts.span, "`accounts` has no effect with `mode: second_factor`", help);
            None
        }
    };
    at_most(&written.invitation_ttl, LONGEST_INVITATION, "an invitation is good for 90d at most", to);
    at_most(&written.elevation_ttl, LONGEST_ELEVATION, "an elevation is good for 24h at most", to);
    at_most(&written.grants.ttl, LONGEST_GRANT, "a grant is good for 10m at most", to);
    let guessing = guessing(&written.guessing, to);
    let notices = Notices {
        email_claim: written.notices.email_claim.as_ref().map(|claim| claim.value.clone()),
        webhook: written.notices.webhook.as_ref().map(|name| webhook(name, document, to)),
    };
    if let Some(claim) = &written.notices.email_claim {
        needs_mail(&claim.span, document, to);
    }
    let factors = factors::factors(written, document, to);
    let acr = acr(written, to);
    weak::report(written, to);
    let (count, period) = (written.send_limit.value.count, written.send_limit.value.period);
    let rate = limit::rate(&written.limit.rate, written.limit.burst.as_ref(), to);
    // The name is none that a limit of the file can have.
    let limit =
        Limit { span: written.limit.span.clone(), name: "authority calls".into(), key: LimitKey::Ip, rate: rate? };
    Some(Arc::new(Authority {
        span: written.span.clone(),
        accounts: accounts?,
        url: written.url.value.0.clone(),
        path: written.path.value.0.as_str().into(),
        issuers,
        first_factor: written.first_factor.value,
        acr,
        passkey: factors.passkey,
        totp: factors.totp,
        email: factors.email,
        webhook: factors.webhook,
        push: factors.push,
        recovery: factors.recovery,
        enrolment: written.enrolment.value,
        invitation_ttl: written.invitation_ttl.value,
        probation: written.probation.value.0,
        elevation: written.elevation.value,
        elevation_by: written.elevation_by.value,
        elevation_ttl: written.elevation_ttl.value,
        grant_ttl: written.grants.ttl.value,
        grant_body_bytes: written.grants.body_bytes.bytes(),
        return_to: origins(&written.return_to, to),
        guessing,
        send_limit: (count, period),
        limit: Arc::new(limit),
        four_eyes: written.four_eyes,
        notices,
        danger_cleartext: written.danger_cleartext.value,
    }))
}

/// Its path comes before the routes, so that none may be meant for it, and nothing else of the gateway's may be below it.
fn report_path(written: &document::Authority, shared: &Shared<'_>, neighbours: &Neighbours<'_>, to: &mut Context<'_>) {
    let (span, path) = (&written.path.span, written.path.value.0.as_str());
    // A default that clashes is shown at the section, which stands in the file.
    let span = if span.line > 0 { span } else { &written.span };
    let help = "give one of them another path; the authority's is `authority.path`";
    if let Some(route) = neighbours.routes.iter().find(|route| below(route.path.as_str(), path)) {
        let message = format!("the route on line {} is for `{path}`, or what is below it, too", route.span.line);
        to.error_with_help(span, message, help);
    }
    let issuers = shared.issuers.values();
    let events = issuers.iter().filter_map(|issuer| issuer.events.as_ref());
    for events in events.filter(|events| below(&events.path, path) || below(path, &events.path)) {
        let message = format!("the events on line {} have this path, or one that holds it", events.span.line);
        to.error_with_help(span, message, help);
    }
    if neighbours.jwks_path.is_some_and(|jwks| below(jwks, path)) {
        to.error_with_help(span, "the keys of `assertions` are served below this path", help);
    }
    for method in [http::Method::GET, http::Method::POST] {
        if !shared.server.methods.contains(&method) {
            let message = format!("the authority is called by {method}, which is not among `server.methods`");
            to.error_with_help(&written.span, message, "add it there");
        }
    }
}

/// Whether a path or pattern is this path, or goes on from it.
pub(super) fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn issuers(written: &document::Authority, shared: &Shared<'_>, to: &mut Context<'_>) -> Vec<IssuerName> {
    let mut issuers: Vec<IssuerName> = Vec::with_capacity(written.issuers.len());
    for name in &written.issuers {
        if issuers.iter().any(|known| **known == *name.value.0) {
            to.error(&name.span, format!("`{}` is listed twice", name.shown));
            continue;
        }
        let own = written.accounts.as_ref().is_some_and(|accounts| accounts.issuer.value == name.value);
        if own {
            issuers.push(name.value.0.as_str().into());
        } else {
            issuers.extend(super::route::source(name, shared, to));
        }
    }
    // Whoever has an account here has a second factor here: without the first there would be no use for the second.
    if let Some(accounts) = written.accounts.as_ref().filter(|_| !issuers.is_empty()) {
        let own = &accounts.issuer.value.0;
        if !issuers.iter().any(|known| **known == **own) {
            issuers.push(own.as_str().into());
        }
    }
    issuers
}

fn acr(written: &document::Authority, to: &mut Context<'_>) -> Vec<(Arc<str>, crate::policy::FactorRule)> {
    let mut acr: Vec<(Arc<str>, crate::policy::FactorRule)> = Vec::with_capacity(written.acr.0.len());
    for (value, text) in &written.acr.0 {
        let Some(text) = text else { continue };
        let parts = (text.factors.as_ref(), text.phishing_resistant.as_ref(), text.categories.as_ref());
        if let Some(rule) = level::parts(parts, to) {
            acr.push((value.value.0.as_str().into(), rule.unwrap_or_default()));
        }
    }
    acr
}

fn guessing(written: &document::Guessing, to: &mut Context<'_>) -> Guessing {
    let (first, longest) = (&written.first, &written.longest);
    if first.value > longest.value {
        to.error(&first.span, "the first lock is longer than the longest");
    }
    at_most(longest, LONGEST_LOCK, "a lock lasts 24h at most: a stranger could keep the owner out", to);
    if written.hard.value.0 < written.failures.value.0 {
        to.error(&written.hard.span, "the hard lock comes before the first one");
    }
    Guessing {
        failures: u32::try_from(written.failures.value.0).unwrap_or(u32::MAX),
        first: first.value,
        longest: longest.value,
        hard: u32::try_from(written.hard.value.0).unwrap_or(u32::MAX),
    }
}

fn origins(written: &[At<document::WebOrigin>], to: &mut Context<'_>) -> Vec<url::Url> {
    let mut origins: Vec<url::Url> = Vec::with_capacity(written.len());
    for origin in written {
        if origins.contains(&origin.value.0) {
            to.error(&origin.span, format!("`{}` is listed twice", origin.shown));
        } else {
            origins.push(origin.value.0.clone());
        }
    }
    origins
}

pub(super) fn at_most(value: &At<Duration>, longest: Duration, message: &str, to: &mut Context<'_>) {
    if value.value > longest {
        to.error(&value.span, message);
    }
}

/// The name of a webhook under `notify.webhooks`.
fn webhook(name: &At<Name>, document: &Document, to: &mut Context<'_>) -> Arc<str> {
    super::notify::report_unknown(name, document, to);
    name.value.0.as_str().into()
}

/// What is sent by mail needs a server that takes it.
pub(super) fn needs_mail(span: &Span, document: &Document, to: &mut Context<'_>) {
    let Some(notify) = &document.notify else {
        to.error_with_help(span, "mail needs a server that takes it", "write `notify: {mail: …}`");
        return;
    };
    if notify.mail.is_none() && !notify.broken {
        to.error_with_help(span, "mail needs a server that takes it", "write `notify: {mail: …}`");
    }
}
