//! How upstreams are reached: what fits together.

use super::Context;
use crate::config::{
    CertificateFiles, Dns, UpstreamProtocol, UpstreamTarget, UpstreamTls,
    document::{Document, Upstream},
};

pub(super) fn tls(written: &Upstream, targets: &[UpstreamTarget], to: &mut Context<'_>) -> UpstreamTls {
    let has_https = targets.is_empty() || targets.iter().any(|target| target.address.tls);
    if let (Some(section), false) = (&written.tls, has_https) {
        to.warn(&section.span, "`tls` has no effect: no target is https", "leave it out, or use https");
    }
    let Some(section) = &written.tls else { return UpstreamTls::default() };
    if section.server_name.is_none() && section.certificate.is_none() && !section.broken {
        to.warn(&section.span, "`tls` says nothing", "add `server_name` or `certificate`, or leave it out");
    }
    UpstreamTls {
        server_name: section.server_name.as_ref().map(|name| name.value.0.as_str().into()),
        certificate: section
            .certificate
            .as_ref()
            .map(|files| CertificateFiles { cert: to.file(&files.cert), key: to.file(&files.key) }),
    }
}

pub(super) fn protocol(written: &Upstream, targets: &[UpstreamTarget], to: &mut Context<'_>) -> UpstreamProtocol {
    let protocol = &written.protocol;
    let has_https = targets.is_empty() || targets.iter().any(|target| target.address.tls);
    if protocol.value == UpstreamProtocol::Auto && !has_https {
        let help = "use https, or say `http2` if the targets speak it without TLS";
        to.warn(&protocol.span, "`auto` is HTTP/1.1 here: no target is https, so nothing is agreed", help);
    }
    protocol.value
}

pub(super) fn dns(document: &Document, to: &mut Context<'_>) -> Dns {
    let mut servers = Vec::new();
    for server in document.dns.servers.iter().flat_map(|servers| &servers.0) {
        if servers.contains(&server.value.0) {
            to.error(&server.span, format!("`{}` is listed twice", server.shown));
        } else if servers.len() >= 3 {
            // As many as the system's resolver takes (resolv.conf(5)).
            to.error(&server.span, "more than three name servers are never asked");
        } else {
            servers.push(server.value.0);
        }
    }
    Dns { servers }
}
