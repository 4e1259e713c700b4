//! What proof a route or an operation asks for, and whether a principal's authentication gives it.

use std::{sync::Arc, time::Duration};

use super::{Assurance, FactorRule, LevelName, MachineProof, Reason};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepUp {
    /// The `acr` values that would do; empty where `acr` is not what falls short.
    pub acr_values: Box<[Arc<str>]>,
    /// The `amr` values that would do; empty where `amr` is not what falls short. RFC 9470 has no parameter for them, so
    /// they are told in the problem document alone.
    pub amr_values: Box<[Arc<str>]>,
    /// How fresh the authentication must be, where it is too old.
    pub max_age: Option<Duration>,
}

/// A requirement that does not hold: the first part that fails, and all that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Which part fails first, in the fixed order acr, amr, freshness.
    pub reason: Reason,
    /// What to ask for.
    pub step_up: StepUp,
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

    /// What is missing, if anything is.
    pub fn shortfall(&self, assurance: &Assurance, leeway_secs: f64, now: Now) -> Option<Shortfall> {
        let level = self.level_fault(assurance);
        let freshness = self.freshness_fault(assurance, leeway_secs, now);
        let reason = level.or(freshness)?;
        // Both are asked for where both fall short, so that one journey to the provider is enough.
        let amr_short = self.amr.as_ref().is_some_and(|wanted| !assurance.amr.iter().any(|amr| wanted.contains(amr)));
        let values = |short: bool, list: &Option<Box<[Arc<str>]>>| {
            if short { list.clone().unwrap_or_default() } else { Box::default() }
        };
        Some(Shortfall {
            reason,
            step_up: StepUp {
                acr_values: values(level == Some(Reason::AcrInsufficient), &self.acr),
                amr_values: values(amr_short, &self.amr),
                max_age: freshness.and(self.max_age),
            },
        })
    }
}
