//! A proof: what was shown, and what it is worth together with what the caller's own credential says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Authority, Caller};
use crate::{
    clock::Now,
    config,
    policy::{Assurance, Categories, Category, Covers, Factor, Factors, Requirement, SecondFactor},
};

/// A second factor that was shown, as it is kept: facts, from which what they are worth is worked out when it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The factors, by name.
    pub factors: Vec<String>,
    /// The categories of all that was shown, the first factor's included, by name.
    pub categories: Vec<String>,
    /// What all of it is called in `amr`.
    pub amr: Vec<String>,
    /// Which of the person's factors it was; empty for a recovery code.
    pub factor_id: String,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Whether the factor is old enough to delete something.
    pub may_delete: bool,
    /// How often the person's factors had been taken away by then.
    #[serde(default)]
    pub era: u32,
}

impl Proof {
    /// What a factor proves, shown by a caller. `amr` and `categories` are the factor's own where they are more than its kind
    /// says. Of what the credential says only the categories come along, and that there were several: everything else in it
    /// is as old as the credential, and is for the policy to weigh beside this.
    pub(super) fn new(caller: &Caller, shown: &FactorShown, era: u32, now: Now) -> Self {
        let first = &caller.first;
        let categories = shown.categories.or(first.categories());
        let (mut factors, mut amr) = match first.is_now {
            true => (first.factors.clone(), first.amr.clone()),
            false => Default::default(),
        };
        let mut add = |method: &str| {
            if !amr.iter().any(|known| known == method) {
                amr.push(method.to_owned());
            }
        };
        shown.amr.iter().for_each(|method| add(method));
        if categories.count() >= 2 || first.amr.iter().any(|method| method == "mfa") {
            add("mfa");
        }
        if !factors.iter().any(|known| known == shown.factor.name()) {
            factors.push(shown.factor.name().to_owned());
        }
        let names = Category::ALL.into_iter().filter(|category| categories.contains(*category));
        Self {
            factors,
            categories: names.map(|category| category.name().to_owned()).collect(),
            amr,
            factor_id: shown.factor_id.clone(),
            at_ms: now.unix_ms,
            may_delete: shown.may_delete,
            era,
        }
    }

    /// The factors.
    pub fn factors(&self) -> Factors {
        self.factors.iter().filter_map(|name| Factor::from_name(name)).collect()
    }

    /// The categories.
    pub fn categories(&self) -> Categories {
        let is_named = |category: &Category| self.categories.iter().any(|name| name == category.name());
        Category::ALL.into_iter().filter(is_named).collect()
    }

    /// When, in seconds since the epoch.
    pub fn at(&self) -> u64 {
        self.at_ms / 1000
    }
}

/// A factor that was shown and found good.
#[derive(Debug, Clone)]
pub(super) struct FactorShown {
    pub(super) factor: Factor,
    pub(super) factor_id: String,
    pub(super) categories: Categories,
    pub(super) amr: Vec<String>,
    pub(super) may_delete: bool,
}

impl FactorShown {
    /// One that is worth what its kind says.
    pub(super) fn of(factor: Factor, factor_id: &str, may_delete: bool) -> Self {
        Self {
            factor,
            factor_id: factor_id.to_owned(),
            categories: Categories::NONE.with(factor.category()),
            amr: factor.amr().into_iter().map(str::to_owned).collect(),
            may_delete,
        }
    }
}

/// What a proof is worth to the policy, as a configuration says.
pub(super) fn worth(config: &config::Authority, proof: &Proof, covers: Covers) -> SecondFactor {
    let (factors, categories) = (proof.factors(), proof.categories());
    let mut classes =
        config.acr.iter().filter(|(_, rule)| rule.is_met(factors, categories)).map(|(acr, _)| acr.clone());
    SecondFactor {
        assurance: Assurance {
            acr: classes.next(),
            further_acr: classes.collect(),
            amr: proof.amr.iter().map(|method| Arc::from(method.as_str())).collect(),
            auth_time: Some(proof.at_ms as f64 / 1000.0),
            factors,
            // Of a second factor `may_delete` says it.
            on_probation: false,
        },
        factors,
        categories,
        covers,
        may_delete: proof.may_delete,
    }
}

impl Authority {
    /// What a proof is worth to the policy.
    pub fn worth(&self, proof: &Proof, covers: Covers) -> SecondFactor {
        worth(self.config(), proof, covers)
    }

    /// Whether a caller's proof is enough for a level, its age apart.
    pub fn reaches(&self, caller: &Caller, proof: &Proof, level: &Requirement, now: Now) -> bool {
        let (worth, first) = (self.worth(proof, Covers::Request), caller.first.assurance());
        let first = Some(&first).filter(|first| level.freshness_fault(first, 0.0, now).is_none());
        level.level_fault_beside(&worth.assurance, first).is_none()
            && level.factors_fault_beside(worth.factors, worth.categories, first).is_none()
    }
}
