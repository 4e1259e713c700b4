//! Upstreams: targets, and what they are told about the caller.

use http::HeaderName;

use super::{Context, assertion, balancing, reach, table::Table, target};
use crate::config::{
    Reach, Span, Upstream, UpstreamCredential, UpstreamProtocol,
    document::{self, Document},
    nearest,
};

pub(super) fn upstreams(document: &Document, to: &mut Context<'_>) -> Table<Upstream> {
    Table::new("upstream", "upstreams", &document.upstreams, |entry, written| {
        let credential = match &written.credential {
            None => None,
            Some(section) => Some(credential(section, to)?),
        };
        if let (Some(section), true) = (&written.credential, written.forward_authorization.value) {
            let message =
                "`forward_authorization: true` and `credential` exclude each other: one of them would be lost";
            to.error_with_help(
                &section.span,
                message,
                "forward the caller's token, or put the gateway's credential in its place",
            );
        }
        let targets = target::targets(written, to);
        Some(Upstream {
            span: entry.span.clone(),
            name: entry.name.clone(),
            protocol: reach::protocol(written, &targets, to),
            proxy_protocol: written.proxy_protocol,
            tls: reach::tls(written, &targets, to),
            targets,
            connect_timeout: written.timeouts.connect,
            response_timeout: written.timeouts.response,
            request_timeout: written.timeouts.request,
            balancing: balancing::balancing(written, to),
            identity_headers: written.identity_headers,
            forward_authorization: written.forward_authorization.value,
            credential,
            assertion: assertion::assertion(written, document, to),
            method_override: method_overrides(written, to),
            form_bytes: written.form_bytes.bytes(),
            host: written.host,
            ca: written.ca.as_ref().map(|ca| to.file(ca)),
        })
    })
}

fn method_overrides(written: &document::Upstream, to: &mut Context<'_>) -> Vec<crate::config::MethodOverride> {
    let mut ways = Vec::new();
    for way in &written.method_override {
        if ways.contains(&way.value) {
            to.error(&way.span, format!("`{}` is listed twice", way.shown));
        } else {
            ways.push(way.value);
        }
    }
    ways
}

fn credential(section: &document::Credential, to: &mut Context<'_>) -> Option<UpstreamCredential> {
    match (&section.basic, &section.header) {
        (Some(basic), None) => {
            // RFC 7617 §2: the first colon ends the user name.
            if basic.username.value.contains(':') {
                to.error(&basic.username.span, "a user name cannot hold a colon (RFC 7617 §2)");
            }
            let password = to.secret(&basic.password)?;
            Some(UpstreamCredential::Basic { username: basic.username.value.as_str().into(), password })
        }
        (None, Some(header)) => {
            report_reserved(&header.name.value, &header.name.span, to);
            let value = to.secret(&header.value)?;
            Some(UpstreamCredential::Header { name: header.name.value.clone(), value })
        }
        (Some(_), Some(_)) => {
            to.error(&section.span, "a credential is either `basic` or a `header`, not both");
            None
        }
        (None, None) => {
            if !section.broken {
                let help = "write {basic: {username: …, password: …}} or {header: {name: …, value: …}}";
                to.error_with_help(&section.span, "it is not said what this credential is", help);
            }
            None
        }
    }
}

/// Why requests of the gateway's own cannot go to an upstream, if that is so: they are sent by a plain client, over HTTP/1.1 to
/// one URL after the other.
pub(super) fn not_called(upstream: &Upstream) -> Option<&'static str> {
    if !upstream.targets.iter().all(|target| matches!(target.reach, Reach::Host | Reach::EachAddress)) {
        return Some("it has targets without a URL");
    }
    if upstream.proxy_protocol.is_some() {
        return Some("its connections begin with a PROXY header");
    }
    if upstream.tls.server_name.is_some() {
        return Some("its certificate is for another name than its targets'");
    }
    let cleartext = upstream.targets.iter().any(|target| !target.address.tls);
    (upstream.protocol == UpstreamProtocol::Http2 && cleartext).then_some("it speaks HTTP/2 without TLS")
}

/// Whether a header, lower case and with `-`, frames messages or concerns this connection alone.
pub(super) fn belongs_to_connection(folded: &str) -> bool {
    const CONNECTION: [&str; 11] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "proxy-authenticate",
        "expect",
    ];
    CONNECTION.contains(&folded)
}

/// Reports a header that requests of the gateway's own cannot be given: it belongs to the connection, or is written already; a
/// credential has a place where it is secret.
pub(super) fn report_not_for_calls(name: &HeaderName, span: &Span, to: &mut Context<'_>) {
    const WRITTEN: [&str; 6] =
        ["idempotency-key", "x-request-id", "user-agent", "accept", "content-encoding", "accept-encoding"];
    const CREDENTIALS: [&str; 6] = ["authorization", "cookie", "x-api-key", "api-key", "x-auth-token", "dpop"];
    let (folded, shown) = (name.as_str().replace('_', "-"), nearest::short(name.as_str()));
    if belongs_to_connection(&folded) {
        to.error(span, format!("`{shown}` belongs to the connection (RFC 9110 §7.6.1)"));
    } else if WRITTEN.contains(&folded.as_str()) {
        to.error(span, format!("`{shown}` is the gateway's to write"));
    } else if CREDENTIALS.contains(&folded.as_str()) {
        let message = format!("`{shown}` is a credential: a plan is kept with each deletion, and shown");
        to.error_with_help(span, message, "write it as the upstream's `credential`, a secret in a file");
    }
}

/// Headers that the connection or the gateway itself writes: a credential there would be dropped or overwrite a fact.
fn report_reserved(name: &HeaderName, span: &Span, to: &mut Context<'_>) {
    const FACTS: [&str; 11] = [
        "remote-user",
        "x-remote-user",
        "x-forwarded-user",
        "x-authenticated-user",
        "forwarded",
        "via",
        "x-real-ip",
        "x-request-id",
        "traceparent",
        "tracestate",
        "x-original-url",
    ];
    let folded = name.as_str().replace('_', "-");
    let why = if belongs_to_connection(&folded) {
        "it belongs to the connection (RFC 9110 §7.6.1)"
    } else if folded.starts_with("x-auth-") || folded.starts_with("x-forwarded-") || FACTS.contains(&folded.as_str()) {
        "the gateway itself says who calls there"
    } else {
        return;
    };
    to.error(span, format!("the header `{}` cannot carry a credential: {why}", nearest::short(name.as_str())));
}
