//! Sources of credentials: each of exactly one kind, with a name that no issuer has.

use std::sync::Arc;

use super::{Context, api_keys::api_keys, basic::basic, certificate, table::Table};
use crate::config::{
    CredentialKind, CredentialSource, Issuer, Span,
    document::{self, Document},
};

pub(super) fn credentials(
    document: &Document,
    issuers: &Table<Issuer>,
    listens_with_tls: bool,
    to: &mut Context<'_>,
) -> Table<CredentialSource> {
    Table::new("source of credentials", "credentials", &document.credentials, |entry, written| {
        if issuers.names().any(|name| *name == entry.name) {
            // `auth` names both.
            to.error(&entry.span, format!("an issuer is named `{}`, too", entry.name));
        }
        source(entry.name.clone(), &entry.span, written, listens_with_tls, to)
    })
}

fn source(
    name: Arc<str>,
    span: &Span,
    written: &document::CredentialSource,
    listens_with_tls: bool,
    to: &mut Context<'_>,
) -> Option<CredentialSource> {
    let kind = match (&written.api_keys, &written.basic, &written.client_certificates) {
        (Some(keys), None, None) => CredentialKind::ApiKeys(api_keys(keys, to)),
        (None, Some(users), None) => CredentialKind::Basic(basic(&name, users, listens_with_tls, to)),
        (None, None, Some(certificates)) => {
            CredentialKind::ClientCertificates(certificate::certificates(certificates, to))
        }
        (None, None, None) => {
            if !written.broken {
                let help = "write {api_keys: …}, {basic: …} or {client_certificates: …}";
                to.error_with_help(span, "it is not said what this source's credentials are", help);
            }
            return None;
        }
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            let help = "a route can take several sources: `auth: [one, other]`";
            to.error_with_help(span, "a source has credentials of one kind", help);
            return None;
        }
    };
    Some(CredentialSource { span: span.clone(), name, kind })
}
