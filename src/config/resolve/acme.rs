//! `acme`, and the certificates of listeners that are ordered by it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::Context;
use crate::config::{
    Acme, AcmeChallenge, CertificateFiles, CertificateOrder, ExternalAccount, File, Listener, ListenerCertificate,
    ListenerMode,
    decode::At,
    document::{self, Document, OrderedName},
};

/// As many names as the largest authority puts into one certificate.
const NAMES: usize = 100;

/// The folder in `server.state_dir`.
pub(super) fn folder(document: &Document, base: &Path) -> PathBuf {
    base.join(&document.server.state_dir.0).join("acme")
}

/// The certificate of an entry `{acme: […]}`. Its chain and its key are one file, so that they change as one.
pub(super) fn ordered(
    names: &[At<OrderedName>],
    document: &Document,
    to: &mut Context<'_>,
) -> Option<ListenerCertificate> {
    let first = names.first()?;
    let Some(acme) = &document.acme else {
        if !document.broken {
            let message = "this certificate is to be ordered, and there is no section `acme` that says where";
            to.error_with_help(
                &first.span,
                message,
                "add `acme: {terms_of_service_agreed: true, contact: [you@example.com]}`",
            );
        }
        return None;
    };
    if names.len() > NAMES {
        to.error(&first.span, format!("a certificate has at most {NAMES} names"));
    }
    let mut listed: Vec<Arc<str>> = Vec::new();
    for name in names {
        if listed.iter().any(|known| **known == *name.value.0) {
            to.error(&name.span, format!("`{}` is listed twice", name.shown));
        }
        listed.push(name.value.0.as_str().into());
    }
    let mut sorted = listed.clone();
    sorted.sort();
    // Another authority or another set of names is another certificate.
    let mut identity = acme.directory.value.0.as_str().to_owned();
    for name in &sorted {
        identity.push('\n');
        identity.push_str(name);
    }
    let hash: String =
        digest(&SHA256, identity.as_bytes()).as_ref().iter().take(6).map(|b| format!("{b:02x}")).collect();
    let path = folder(document, to.base).join(format!("{}-{hash}.pem", first.value.0));
    let file = File { span: first.span.clone(), path };
    Some(ListenerCertificate { files: CertificateFiles { cert: file.clone(), key: file }, ordered: listed })
}

/// Who orders certificates; said of listeners that were read.
pub(super) fn acme(document: &Document, listeners: &[Listener], to: &mut Context<'_>) -> Option<Arc<Acme>> {
    let written = document.acme.as_ref()?;
    let mut orders: Vec<CertificateOrder> = Vec::new();
    for listener in listeners {
        let ListenerMode::Tls(tls) = &listener.mode else { continue };
        for certificate in tls.certificates.iter().filter(|certificate| !certificate.ordered.is_empty()) {
            let order =
                CertificateOrder { names: certificate.ordered.clone(), file: certificate.files.cert.path.clone() };
            if !orders.iter().any(|known| known.file == order.file) {
                orders.push(order);
            }
        }
    }
    if orders.is_empty() && !to.cx.failed() {
        let help = "name the certificates at a listener: `certificates: [{acme: [api.example.com]}]`";
        to.warn(&written.span, "`acme` has no effect, as no listener has a certificate that is ordered", help);
    }
    let challenge = written.challenge.value;
    let plain = |listener: &Listener| !matches!(listener.mode, ListenerMode::Tls(_));
    if challenge == AcmeChallenge::Http && !orders.is_empty() && !listeners.iter().any(plain) && !to.cx.failed() {
        let message = "`http-01` is answered by listeners without TLS, and there is none";
        to.error_with_help(&written.challenge.span, message, "add `{address: 0.0.0.0:80, redirect_to_https: 443}`");
    }
    let agreed = &written.terms_of_service_agreed;
    if !agreed.value && !written.broken {
        let span = if agreed.span.line > 0 { &agreed.span } else { &written.span };
        let message = "nothing is ordered before the authority's terms are agreed to";
        to.error_with_help(span, message, "read them, and write `terms_of_service_agreed: true`");
    }
    let external_account = written.external_account.as_ref().and_then(|account| {
        let hmac_key = to.secret(&account.hmac_key)?;
        Some(ExternalAccount { key_id: account.key_id.as_str().into(), hmac_key })
    });
    Some(Arc::new(Acme {
        span: written.span.clone(),
        directory: written.directory.value.0.clone(),
        contact: written.contact.iter().map(|contact| contact.value.0.email.as_ref()).map(Arc::<str>::from).collect(),
        challenge,
        ca: written.ca.as_ref().map(|ca| to.file(ca)),
        external_account,
        folder: folder(document, to.base),
        orders,
    }))
}

/// Files that are named, both of them.
pub(super) fn files(pair: &document::ListenerCertificate, to: &mut Context<'_>) -> Option<ListenerCertificate> {
    match (&pair.cert, &pair.key) {
        (Some(cert), Some(key)) => Some(ListenerCertificate {
            files: CertificateFiles { cert: to.file(cert), key: to.file(key) },
            ordered: Vec::new(),
        }),
        _ => {
            if !pair.broken {
                let message = "a certificate is `cert` and `key`, or names in `acme`";
                to.error_with_help(
                    &pair.span,
                    message,
                    "write `{cert: server.pem, key: server.key}` or `{acme: [api.example.com]}`",
                );
            }
            None
        }
    }
}
