//! Proofs of possession: rules that can be kept, and origins that a client can mean.

use std::time::Duration;

use super::Context;
use crate::{
    config::{
        DpopRules, Target,
        decode::{At, NonEmpty},
        document::{Dpop, ProofAlgorithm},
    },
    jose::Algorithms,
};

/// Each proof is remembered for as long as it may be used, so a long life is memory; and a proof that is old may be
/// somebody else's.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) fn rules(written: &Dpop, to: &mut Context<'_>) -> DpopRules {
    let max_age = &written.max_age;
    if max_age.value > LONGEST {
        let help = "a proof is made for one request: 60s covers its way";
        to.error_with_help(&max_age.span, "a proof is good for 10m at most", help);
    }
    let mut origins: Vec<Target> = Vec::with_capacity(written.origins.len());
    for origin in &written.origins {
        if origins.contains(&origin.value.0) {
            to.error(&origin.span, format!("`{}` is listed twice", origin.shown));
        } else {
            origins.push(origin.value.0.clone());
        }
    }
    DpopRules { nonce: written.nonce, max_age: max_age.value, algorithms: algorithms(&written.algorithms, to), origins }
}

/// A list of algorithms as a set.
pub(super) fn algorithms(list: &NonEmpty<At<ProofAlgorithm>>, to: &mut Context<'_>) -> Algorithms {
    let mut set = Algorithms::NONE;
    for item in &list.0 {
        if set.contains(item.value.0) {
            to.error(&item.span, format!("`{}` is listed twice", item.shown));
        }
        set = set.or(item.value.0.into());
    }
    set
}
