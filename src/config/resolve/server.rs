//! `admin`, `server`, `audit` and `access_log`.

use super::Context;
use crate::config::{
    AccessLog, Admin, Audit, File, Listener, Overload, Server, ServerLimits,
    document::{self, AccessLogWord, PeerText},
    text::{is_loopback_address, same_socket},
};

/// Headers without which a request is not what it was: they cannot be dropped on the way in.
const NEEDED_HEADERS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "authorization", "content-type"];

pub(super) fn admin(admin: &document::Admin, listeners: &[Listener], to: &mut Context<'_>) -> Admin {
    let address = &admin.address;
    if let Some(other) =
        listeners.iter().find(|other| other.address.socket().is_some_and(|other| same_socket(&other, &address.value)))
    {
        // A default that clashes is shown at the listener, which stands in the file.
        let (span, message) = if address.span.line > 0 {
            (&address.span, format!("the listener on line {} has this address already", other.span.line))
        } else {
            (&other.span, format!("the admin listener has this address ({}) by default", address.value))
        };
        to.error_with_help(
            span,
            message,
            "operations never share a socket with clients: give `admin.address` a port of its own",
        );
    }
    if !is_loopback_address(&address.value) {
        let message =
            "the admin listener can be reached from other machines: metrics are open there, and it has no TLS";
        to.warn(&address.span, message, "bind it to 127.0.0.1, or to an address that only operators reach");
    }
    Admin { address: address.value, token: admin.token.as_ref().and_then(|token| to.secret(token)) }
}

pub(super) fn server(server: &document::Server, to: &mut Context<'_>) -> Server {
    for peer in &server.trusted_proxies {
        if let PeerText::Network(network) = peer.value
            && network.0.prefix_len() == 0
        {
            let message = "every address is a trusted proxy: any client can claim to be any other";
            to.warn(&peer.span, message, "list the networks of the proxies in front alone");
        }
    }
    for header in &server.drop_headers {
        if NEEDED_HEADERS.contains(&header.value.as_str()) {
            to.error(&header.span, format!("`{}` cannot be dropped: the gateway needs it", header.shown));
        }
    }
    let client_ip_header = &server.client_ip_header;
    if NEEDED_HEADERS.contains(&client_ip_header.value.as_str()) {
        to.error(&client_ip_header.span, format!("`{}` never names a client's address", client_ip_header.shown));
    }
    let mut methods = Vec::new();
    for method in &server.methods.0 {
        if methods.contains(&method.value) {
            to.error(&method.span, format!("`{}` is listed twice", method.shown));
        } else {
            methods.push(method.value.clone());
        }
    }
    // The gateway compares names with `-` for anything but letters and digits.
    let fold = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase();
    let mut drop_headers: Vec<std::sync::Arc<str>> =
        server.drop_headers.iter().map(|header| fold(header.value.as_str()).into()).collect();
    // Whatever names the client to us is ours to say; the standard ones are dropped anyway.
    let client_header = fold(client_ip_header.value.as_str());
    if client_header != "forwarded" && !client_header.starts_with("x-forwarded-") {
        drop_headers.push(client_header.into());
    }
    Server {
        workers: server.workers.0,
        trusted_proxies: super::listener::peers(&server.trusted_proxies),
        client_ip_header: client_ip_header.value.as_str().into(),
        state_dir: to.base.join(&server.state_dir.0),
        methods,
        drop_headers,
        key_headers: Vec::new(),
        key_parameters: Vec::new(),
        drain_timeout: server.drain_timeout,
        drain_delay: server.drain_delay.0,
        handover_timeout: server.handover_timeout,
        overload: Overload {
            queue_target: server.overload.queue_target,
            requests: u32::try_from(server.overload.requests.get()).unwrap_or(u32::MAX),
        },
        limits: limits(&server.limits),
    }
}

fn limits(limits: &document::ServerLimits) -> ServerLimits {
    ServerLimits {
        header_timeout: limits.header_timeout,
        tls_handshake_timeout: limits.tls_handshake_timeout,
        body_idle_timeout: limits.body_idle_timeout,
        body_min_rate: limits.body_min_rate.0,
        keepalive_idle: limits.keepalive_idle,
        write_stall_timeout: limits.write_stall_timeout,
        refused_body_timeout: limits.refused_body_timeout,
        header_bytes: limits.header_bytes.bytes(),
        headers: limits.headers.get(),
        uri_bytes: limits.uri_bytes.bytes(),
        body_bytes: limits.body_bytes.0,
        connections: limits.connections.get(),
        connections_per_ip: limits.connections_per_ip.get(),
    }
}

pub(super) fn audit(audit: &document::Audit, server: &Server, to: &mut Context<'_>) -> Audit {
    let file = match &audit.file {
        Some(file) => to.file(file),
        None => File { span: Default::default(), path: server.state_dir.join("audit.jsonl") },
    };
    Audit { file, head_interval: audit.head_interval }
}

pub(super) fn access_log(word: AccessLogWord) -> AccessLog {
    match word {
        AccessLogWord::Stdout => AccessLog::Stdout,
        AccessLogWord::Off => AccessLog::Off,
    }
}
