//! The accounts that the authority keeps.

use std::time::Duration;

use super::at_most;
use crate::config::{
    Accounts, Registration,
    document::{self, Document},
    resolve::{Context, limit, route::Shared},
};

/// Keys that follow each other faster would be forgotten before they are known.
const FASTEST: Duration = Duration::from_secs(2 * 60 * 60);
/// An access token that lives longer outlives what was decided meanwhile.
const LONGEST_TOKEN: Duration = Duration::from_secs(3_600);
/// A session that lives longer is one that somebody forgot.
const LONGEST_SESSION: Duration = Duration::from_secs(366 * 86_400);

pub(super) fn accounts(
    written: &document::Accounts,
    document: &Document,
    shared: &Shared<'_>,
    to: &mut Context<'_>,
) -> Option<Accounts> {
    let taken = document
        .issuers
        .entries
        .iter()
        .map(|entry| &entry.name)
        .chain(document.credentials.entries.iter().map(|entry| &entry.name))
        .any(|name| **name == *written.issuer.value.0);
    if taken {
        let span = if written.issuer.span.line > 0 { &written.issuer.span } else { &written.span };
        let message = format!("something under `issuers` or `credentials` is named `{}`, too", written.issuer.value.0);
        to.error_with_help(span, message, "give the authority's issuer another name: `accounts: {issuer: …}`");
    }
    if written.rotate.value < FASTEST {
        let message = "keys cannot be rotated more often than every 2h: verifiers keep what they know";
        to.error(&written.rotate.span, message);
    }
    at_most(&written.access_ttl, LONGEST_TOKEN, "an access token lives 1h at most", to);
    let refresh = &written.refresh;
    at_most(&refresh.ttl, LONGEST_SESSION, "a session lives a year at most", to);
    if refresh.idle.value > refresh.ttl.value {
        let span = if refresh.idle.span.line > 0 { &refresh.idle.span } else { &refresh.ttl.span };
        to.error(span, "a session cannot be idle for longer than it lives");
    }
    let assurance = match &refresh.assurance {
        None => None,
        Some(text) => Some(limit::assurance(text, &shared.levels, to)?),
    };
    if written.registration.value == Registration::Open {
        super::needs_mail(&written.registration.span, document, to);
    }
    Some(Accounts {
        issuer: written.issuer.value.0.as_str().into(),
        audience: written.audience.value.as_str().into(),
        algorithm: written.algorithm,
        rotate: written.rotate.value,
        registration: written.registration.value,
        access_ttl: written.access_ttl.value,
        refresh_idle: refresh.idle.value,
        refresh_ttl: refresh.ttl.value,
        refresh_assurance: assurance.map(|level| (*level).clone()),
        scopes: written.scopes.iter().map(|scope| scope.0.as_str().into()).collect(),
        password_chars: written.password.min_length.value.get(),
        refused_passwords: written.password.refused.as_ref().map(|file| to.file(file)),
    })
}
