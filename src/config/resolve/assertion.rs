//! Assertions: somebody who signs them, and headers that can carry them.

use std::{sync::Arc, time::Duration};

use http::header::AUTHORIZATION;

use super::{Context, upstream::belongs_to_connection};
use crate::config::{
    Assertion, AssertionKey, Assertions, Span,
    document::{self, Document},
    nearest,
};

/// The longest life of an assertion: keys are published for longer after they have signed for the last time.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// Keys that follow each other faster would be forgotten before they are known.
const FASTEST: Duration = Duration::from_secs(2 * 60 * 60);

/// Fields that say other things of the caller.
const FACTS: [&str; 6] =
    ["x-auth-subject", "x-auth-issuer", "x-auth-scopes", "x-auth-acr", "x-auth-amr", "x-auth-time"];

/// Fields that say where a request came from: an assertion under such a name would take the place of that.
const ORIGIN: [&str; 7] =
    ["forwarded", "traceparent", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];

pub(super) fn assertions(document: &Document, to: &mut Context<'_>) -> Option<Arc<Assertions>> {
    let written = document.assertions.as_ref()?;
    if document.upstreams.entries.iter().all(|entry| entry.value.as_ref().is_some_and(|one| one.assertion.is_none())) {
        to.warn(
            &written.span,
            "no upstream has an `assertion`: nothing is signed",
            "give one an `assertion: {audience: …}`",
        );
    }
    if written.rotate.value < FASTEST {
        to.error(
            &written.rotate.span,
            "keys cannot be rotated more often than every 2h: verifiers keep what they know",
        );
    }
    let key = match &written.key {
        Some(key) => {
            let besides = written.publish.iter().map(|file| to.file(file)).collect();
            AssertionKey::Given { source: to.secret(key)?, besides }
        }
        None => {
            if let Some(first) = written.publish.first() {
                to.error(
                    &first.span,
                    "`publish` is for a `key` of yours; keys of the gateway's own are published anyhow",
                );
            }
            AssertionKey::Own { rotate: written.rotate.value }
        }
    };
    Some(Arc::new(Assertions {
        span: written.span.clone(),
        issuer: written.issuer.value.0.as_str().into(),
        algorithm: written.algorithm.value,
        key,
        jwks_path: written.jwks_path.value.normal.clone(),
    }))
}

/// What one upstream gets.
pub(super) fn assertion(written: &document::Upstream, document: &Document, to: &mut Context<'_>) -> Option<Assertion> {
    let section = written.assertion.as_ref()?;
    if document.assertions.is_none() {
        let help = "write `assertions: {issuer: https://…}`";
        to.error_with_help(&section.span, "nobody signs assertions: there is no `assertions`", help);
    }
    if section.ttl.value > LONGEST || section.ttl.value.is_zero() {
        to.error(&section.ttl.span, "an assertion lives 10m at most, and not nothing");
    }
    let header = &section.header;
    let name = nearest::short(header.value.as_str());
    let folded = header.value.as_str().replace('_', "-");
    let lost = |to: &mut Context<'_>, span: &Span, other: &str| {
        to.error(span, format!("the header `{name}` is the place of {other} already: one of them would be lost"));
    };
    if belongs_to_connection(&folded) {
        to.error(&header.span, format!("the header `{name}` cannot carry an assertion: it belongs to the connection"));
    }
    if FACTS.contains(&folded.as_str()) {
        lost(to, &header.span, "a fact about the caller");
    }
    if ORIGIN.contains(&folded.as_str()) {
        lost(to, &header.span, "a fact about the request");
    }
    if header.value == AUTHORIZATION && written.forward_authorization.value {
        lost(to, &header.span, "the caller's own token (`forward_authorization`)");
    }
    if let Some(credential) = &written.credential {
        let own = credential.header.as_ref().map_or(&AUTHORIZATION, |own| &own.name.value);
        if own.as_str().replace('_', "-") == folded {
            lost(to, &header.span, "the gateway's own `credential`");
        }
    }
    Some(Assertion {
        audience: section.audience.value.as_str().into(),
        ttl: section.ttl.value,
        header: header.value.clone(),
    })
}
