//! What proof a route or an operation asks for, and whether a principal's authentication gives it.

use std::{sync::Arc, time::Duration};

use super::{Assurance, Categories, FactorRule, Factors, LevelName, MachineProof, Reason};
use crate::clock::Now;

/// A level of proof. Every part that is given must hold; within a list any one value is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The `acr` values that would do, in order of preference.
    pub acr: Option<Box<[Arc<str>]>>,
    /// The `amr` values of which one must be there.
    pub amr: Option<Box<[Arc<str>]>>,
    /// How long ago the user may have authenticated.
    pub max_age: Option<Duration>,
    /// The factors of the gateway's own authority that will do; `None`: whichever gives the rest.
    pub factors: Option<FactorRule>,
    /// What the level is called where an elevation names it; `None`: no elevation covers it.
    pub level: Option<LevelName>,
    /// Whether a grant that is bound to the request is needed, whatever else was proved.
    pub bind: bool,
    /// What a machine may prove in place of all of it; `None`: it is asked for the same as a person.
    pub machines: Option<MachineProof>,
}

/// What a requirement still asks of a caller: the content of a step-up challenge (RFC 9470 §3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepUp {
    /// The `acr` values that would do; empty where `acr` is not what falls short.
    pub acr_values: Box<[Arc<str>]>,
    /// The `amr` values that would do; empty where `amr` is not what falls short. RFC 9470 has no parameter for them, so
    /// they are told in the problem document alone.
    pub amr_values: Box<[Arc<str>]>,
    /// How fresh the authentication must be, where it is too old.
    pub max_age: Option<Duration>,
    /// What the level is called where the authority is asked to elevate; `None`: it elevates nobody for this.
    pub level: Option<LevelName>,
    /// The factors of the authority that would do; `None`: whichever gives the rest.
    pub factors: Option<FactorRule>,
    /// Whether a grant that is bound to the request is needed.
    pub grant: bool,
    /// Whether the deletion guard asks: an elevation does not satisfy it.
    pub guarded: bool,
}

impl Requirement {
    /// Whether the level part (`acr`, `amr`) holds.
    pub fn level_fault(&self, assurance: &Assurance) -> Option<Reason> {
        if let Some(wanted) = &self.acr
            && !assurance.classes().any(|acr| wanted.contains(acr))
        {
            return Some(Reason::AcrInsufficient);
        }
        if let Some(wanted) = &self.amr
            && !assurance.amr.iter().any(|amr| wanted.contains(amr))
        {
            return Some(Reason::AmrInsufficient);
        }
        None
    }

    /// The same of a proof that stands beside what was shown before it, where that is fresh enough to count: its methods do.
    pub fn level_fault_beside(&self, proof: &Assurance, first: Option<&Assurance>) -> Option<Reason> {
        let fault = self.level_fault(proof)?;
        let has = |wanted: &[Arc<str>]| first.is_some_and(|first| first.amr.iter().any(|amr| wanted.contains(amr)));
        (fault != Reason::AmrInsufficient || !self.amr.as_deref().is_some_and(has)).then_some(fault)
    }

    /// Whether the factors part holds, for a proof that stands beside what was shown before it, where that is fresh enough to
    /// count: its factors do. The categories are those of both, whenever the first was shown.
    pub fn factors_fault_beside(
        &self,
        factors: Factors,
        categories: Categories,
        first: Option<&Assurance>,
    ) -> Option<Reason> {
        let factors = first.map_or(factors, |first| factors.or(first.factors));
        self.factors.is_some_and(|rule| !rule.is_met(factors, categories)).then_some(Reason::FactorInsufficient)
    }

    /// Whether the authentication is fresh enough. An `auth_time` in the future beyond the leeway proves nothing.
    pub fn freshness_fault(&self, assurance: &Assurance, leeway_secs: f64, now: Now) -> Option<Reason> {
        let max_age = self.max_age?.as_secs_f64();
        let Some(auth_time) = assurance.auth_time.filter(|time| time.is_finite()) else {
            return Some(Reason::AuthTimeMissing);
        };
        let age = now.numeric_date() - auth_time;
        if age < -leeway_secs {
            return Some(Reason::AuthTimeInFuture);
        }
        (age > max_age + leeway_secs).then_some(Reason::AuthenticationTooOld)
    }

    /// What an issuer would have to vouch for in another token: each part of level and freshness that this one falls short of,
    /// so that one journey to the provider is enough.
    pub fn step_up(&self, assurance: &Assurance, leeway_secs: f64, now: Now) -> StepUp {
        let values = |short: bool, list: &Option<Box<[Arc<str>]>>| {
            if short { list.clone().unwrap_or_default() } else { Box::default() }
        };
        let amr_short = self.amr.as_ref().is_some_and(|wanted| !assurance.amr.iter().any(|amr| wanted.contains(amr)));
        StepUp {
            acr_values: values(self.level_fault(assurance) == Some(Reason::AcrInsufficient), &self.acr),
            amr_values: values(amr_short, &self.amr),
            max_age: self.freshness_fault(assurance, leeway_secs, now).and(self.max_age),
            level: self.level.clone(),
            factors: self.factors,
            grant: self.bind,
            guarded: false,
        }
    }
}
