//! Client certificates: a source that somebody can satisfy, and a word about what it leaves open.

use super::Context;
use crate::config::{
    Bound, ClientAuth, ClientCertificates, CrlDepth, Listener, ListenerMode, Span,
    document::{self, Document},
};

pub(super) fn certificates(written: &document::ClientCertificates, to: &mut Context<'_>) -> ClientCertificates {
    let crl = written.crl.as_ref().map(|files| files.0.as_slice()).unwrap_or_default();
    if crl.is_empty() && !written.broken {
        if written.danger_expired_crl.value {
            let message = "`danger_expired_crl` is given, and no `crl` that could expire";
            to.error_with_help(&written.danger_expired_crl.span, message, "add `crl: [path]`, or leave it out");
        }
        if written.crl_depth.value == CrlDepth::Leaf {
            to.error_with_help(&written.crl_depth.span, "`crl_depth` is for `crl` alone", "add `crl: [path]`");
        }
    }
    if written.danger_expired_crl.value {
        let message = "`danger_expired_crl`: a certificate that was revoked after the list's `nextUpdate` is taken";
        to.warn(&written.danger_expired_crl.span, message, "publish a new list in time, and leave this out");
    }
    ClientCertificates {
        ca: to.file(&written.ca),
        subject: written.subject,
        allow: written.allow.iter().flat_map(|list| &list.0).map(|at| at.value.0.as_str().into()).collect(),
        crl: crl.iter().map(|file| to.file(file)).collect(),
        crl_depth: written.crl_depth.value,
        danger_expired_crl: written.danger_expired_crl.value,
        scopes: written.scopes.iter().map(|scope| scope.0.as_str().into()).collect(),
        person: written.person,
    }
}

/// What asks for a client certificate can be satisfied only where a listener asks clients for theirs.
pub(super) fn report_unasked(document: &Document, listeners: &[Listener], to: &mut Context<'_>) {
    let asks = |listener: &Listener| match &listener.mode {
        ListenerMode::Tls(tls) => tls.client_auth != ClientAuth::Off,
        ListenerMode::RedirectToHttps(_) | ListenerMode::Cleartext => false,
    };
    if to.cx.failed() || listeners.iter().any(asks) {
        return;
    }
    let sources = document.credentials.entries.iter().filter_map(|entry| entry.value.as_ref());
    let sources = sources.filter_map(|source| source.client_certificates.as_ref()).map(|written| &written.span);
    let issuers = document.issuers.entries.iter().filter_map(|entry| entry.value.as_ref());
    let issuers = issuers.filter(|issuer| issuer.bound.value == Bound::Certificate).map(|issuer| &issuer.bound.span);
    let spans: Vec<Span> = sources.chain(issuers).cloned().collect();
    for span in spans {
        let message = "no listener asks clients for a certificate, so that nobody can show one";
        to.error_with_help(&span, message, "add `client_ca: path` and `client_auth: optional` to a listener's `tls`");
    }
}
