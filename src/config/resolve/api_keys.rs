//! `credentials.*.api_keys`: a place for keys that is theirs alone, and what is taken away from requests because of it.

use std::sync::Arc;

use super::Context;
use crate::config::{
    ApiKeys, CredentialKind, CredentialSource, Limit, LimitKey, Server,
    document::{self, KeyPrefix, ParameterName},
};

/// Headers that have another meaning: a key in one of them would not be seen, or what they mean would be taken away.
const OTHER_MEANING: [&str; 18] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
];

pub(super) fn api_keys(written: &document::ApiKeys, to: &mut Context<'_>) -> ApiKeys {
    let header = written.header.value.as_str();
    if OTHER_MEANING.contains(&folded(header).as_str()) {
        let help = match header {
            "authorization" => "`basic_username: true` takes keys as the user name of Basic credentials",
            _ => "use a header of its own, such as `X-Api-Key`",
        };
        to.error_with_help(&written.header.span, format!("`{}` has another meaning", written.header.shown), help);
    }
    if let Some(parameter) = &written.danger_query {
        let message = "keys in queries are kept where secrets are not: histories, logs of proxies, `Referer`";
        to.warn(&parameter.span, message, "take keys in a header alone as soon as callers can");
    }
    if written.danger_cleartext.value {
        let message = "keys are taken over connections without TLS: whoever is on the way can use them";
        to.warn(&written.danger_cleartext.span, message, "let a listener terminate TLS");
    }
    let KeyPrefix(prefix) = &written.prefix;
    ApiKeys {
        file: to.file(&written.file),
        header: folded(header).into(),
        basic_username: written.basic_username,
        danger_query: written.danger_query.as_ref().map(|name| parameter(&name.value)),
        danger_cleartext: written.danger_cleartext.value,
        prefix: prefix.as_str().into(),
    }
}

/// Notes what is taken away from every request, and warns of quotas that count by it.
pub(super) fn take_away(
    sources: &[Arc<CredentialSource>],
    limits: &[Arc<Limit>],
    server: &mut Server,
    to: &mut Context<'_>,
) {
    for source in sources {
        let CredentialKind::ApiKeys(keys) = &source.kind else { continue };
        if !server.key_headers.contains(&keys.header) {
            server.key_headers.push(keys.header.clone());
        }
        if let Some(parameter) = keys.danger_query.as_ref().filter(|name| !server.key_parameters.contains(name)) {
            server.key_parameters.push(parameter.clone());
        }
        if keys.header == folded(&server.client_ip_header).into() {
            to.error(&source.span, "this header names the client's address (`server.client_ip_header`)");
        }
    }
    for limit in limits {
        if let LimitKey::Header(name) = &limit.key
            && server.key_headers.iter().any(|header| **header == *folded(name.as_str()))
        {
            let message = format!("`{name}` carries API keys and is taken away: all callers would share one count");
            to.warn(&limit.span, message, "count by `claim:key_id`, or by `subject` for all keys of an owner");
        }
    }
}

fn parameter(ParameterName(name): &ParameterName) -> Arc<str> {
    name.as_str().into()
}

/// A header's name as the gateway compares it.
fn folded(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase()
}
