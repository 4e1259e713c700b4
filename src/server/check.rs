//! Whether the TLS material of a configuration is usable, without opening a socket: for `check` and before a start.

use std::sync::Arc;

use super::{
    plan::{PlanMode, ServerPlan},
    tls::{ListenerTlsState, TlsError},
};
use crate::{
    config::{Config, Problem, Span},
    telemetry::with_causes,
};

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
            problems.push(Problem::error(&place(&listener.span, &error, tls), with_causes(&error)));
        }
    }
    problems
}

/// The place of the file that the error names, else the listener's.
fn place(listener: &Span, error: &TlsError, tls: &crate::config::ListenerTls) -> Span {
    let text = with_causes(error);
    let files = tls
        .certificates
        .iter()
        .flat_map(|certificate| [&certificate.files.cert, &certificate.files.key])
        .chain(tls.client_ca.as_ref())
        .chain(&tls.client_crl);
    let named = files.into_iter().find(|file| text.contains(&*file.path.to_string_lossy()));
    named.map_or_else(|| listener.clone(), |file| file.span.clone())
}
