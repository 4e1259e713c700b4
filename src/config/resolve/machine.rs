//! What a machine may prove in place of a level: sources that exist, and at least one proof.

use super::{Context, dpop};
use crate::{
    config::{
        Problem,
        document::{Machines, Switch},
        nearest,
    },
    jose::{Algorithms, PROOF_ALGORITHMS},
    policy::{CertificateProof, IssuerName, MachineProof},
};

/// `None` was reported.
pub(super) fn proof(written: &Machines, to: &mut Context<'_>) -> Option<MachineProof> {
    let certificate = match &written.certificate {
        Switch::Off => CertificateProof::Refused,
        Switch::On => CertificateProof::Any,
        Switch::Only(section) => {
            let mut names: Vec<IssuerName> = Vec::with_capacity(section.sources.0.len());
            for name in &section.sources.0 {
                if names.iter().any(|known| **known == *name.value.0) {
                    to.error(&name.span, format!("`{}` is listed twice", name.shown));
                    continue;
                }
                names.extend(source(name, to));
            }
            CertificateProof::Of(names.into())
        }
    };
    let dpop = match &written.dpop {
        Switch::Off => Algorithms::NONE,
        Switch::On => PROOF_ALGORITHMS,
        Switch::Only(section) => dpop::algorithms(&section.algorithms, to),
    };
    let proof = MachineProof { certificate, dpop };
    if !proof.allows_any() {
        if !written.broken {
            let help = "write {dpop: true} or {certificate: true}, or leave `machines` out";
            to.error_with_help(&written.span, "`machines` allows no proof", help);
        }
        return None;
    }
    Some(proof)
}

/// An issuer or another source by its name.
fn source(name: &crate::config::decode::At<crate::config::text::Name>, to: &mut Context<'_>) -> Option<IssuerName> {
    let known = to.sources.iter().find(|known| ***known == *name.value.0).cloned();
    if known.is_none() && to.sources_complete {
        let help = nearest::advice(&name.value.0, to.sources.iter().map(|name| &**name));
        let message = format!("no issuer or source of credentials is named `{}`", name.shown);
        let problem = Problem::error(&name.span, message);
        to.cx.report(Problem { help, ..problem });
    }
    known
}
