//! Whether the TLS material of a configuration is usable, without opening a socket: for `check` and before a start.

use std::{error::Error, sync::Arc};

use super::{
    plan::{PlanMode, ServerPlan},
    tls::{ListenerTlsState, TlsError},
};
use crate::config::{Config, Problem, Span};

/// Finds listeners whose certificates, keys or authorities cannot be used.
pub fn check_tls(config: &Config) -> Vec<Problem> {
    let plan = ServerPlan::new(config);
    let mut problems = Vec::new();
    for (listener, plan) in config.listeners.iter().zip(&plan.listeners) {
        let PlanMode::Tls(tls) = &plan.mode else { continue };
        // Made at the first start.
        if tls.self_signed && tls.certificates.iter().any(|certificate| !certificate.files.cert.path.exists()) {
            continue;
        }
        if let Err(error) = ListenerTlsState::load(&Arc::clone(&plan.name), tls, &()) {
            problems.push(Problem::error(&place(&listener.span, &error, tls), chain(&error)));
        }
    }
    problems
}

/// The place of the file that the error names, else the listener's.
fn place(listener: &Span, error: &TlsError, tls: &crate::config::ListenerTls) -> Span {
    let text = chain(error);
    let files = tls
        .certificates
        .iter()
        .flat_map(|certificate| [&certificate.files.cert, &certificate.files.key])
        .chain(tls.client_ca.as_ref())
        .chain(&tls.client_crl);
    let named = files.into_iter().find(|file| text.contains(&*file.path.to_string_lossy()));
    named.map_or_else(|| listener.clone(), |file| file.span.clone())
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
