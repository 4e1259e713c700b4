//! The targets of an upstream.

use super::Context;
use crate::config::{
    UpstreamTarget,
    document::{TargetText, Upstream},
};

pub(super) fn targets(written: &Upstream, to: &mut Context<'_>) -> Vec<UpstreamTarget> {
    let mut targets: Vec<UpstreamTarget> = Vec::with_capacity(written.targets.0.len());
    for text in &written.targets.0 {
        let (address, weight) = match text {
            TargetText::Address(address) => (address, 1),
            TargetText::Section(section) => (&section.url, section.weight.get()),
        };
        if targets.iter().any(|known| known.address == address.value) {
            to.error(&address.span, format!("`{}` is listed twice", address.shown));
        } else {
            // The document holds it within its bounds.
            let weight = u16::try_from(weight).unwrap_or(u16::MAX);
            targets.push(UpstreamTarget { address: address.value.clone(), weight });
        }
    }
    if let Some(ca) = &written.ca
        && !targets.is_empty()
        && targets.iter().all(|target| !target.address.tls)
    {
        to.warn(&ca.span, "`ca` has no effect: no target is https", "leave it out, or use https");
    }
    targets
}
