//! Which proof meets a requirement: the caller's own token, or a second factor that was shown here in its place.
//!
//! ```text
//!   requirement ── the token ──────────── meets all of it? ──> passes, as it always did
//!                └ each second factor ─── covers it? meets all of it? ──> passes in the token's place
//!                └ none does ──> the fault of whichever came furthest; what the token lacks is what is asked for
//! ```
//! Every proof is weighed whole: never the level of one and the freshness of another. What the token says stands beside a second
//! factor for as long as it is itself fresh enough for the requirement: an old passkey is not made new by a code.

use std::sync::Arc;

use super::{Assurance, Categories, Category, Covers, Factors, Principal, Reason, Requirement, SecondFactor, StepUp};
use crate::clock::Now;

/// The parts of a requirement, in the order of the precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// `acr` and `amr`.
    Level,
    /// `max_age`.
    Freshness,
    /// `factors`, and for a guarded operation how a factor came to be there.
    Factors,
    /// `bind`.
    Grant,
}

impl Part {
    /// The precedence, written once.
    pub(super) const ALL: [Self; 4] = [Self::Level, Self::Freshness, Self::Factors, Self::Grant];

    /// Its name in `explain`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Freshness => "freshness",
            Self::Factors => "factors",
            Self::Grant => "grant",
        }
    }

    /// Whether a requirement says anything of it.
    pub(super) fn is_asked(self, wanted: &Requirement) -> bool {
        match self {
            Self::Level => wanted.acr.is_some() || wanted.amr.is_some(),
            Self::Freshness => wanted.max_age.is_some(),
            Self::Factors => wanted.factors.is_some(),
            Self::Grant => wanted.bind,
        }
    }
}

/// What a proof is weighed by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The requirement.
    pub(super) requirement: &'a Requirement,
    /// Whether the deletion guard asks.
    pub(super) guarded: bool,
    /// The request's moment.
    pub(super) now: Now,
}

/// A proof: the token's own, or a second factor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof<'a> {
    assurance: &'a Assurance,
    factors: Factors,
    categories: Categories,
    leeway_secs: f64,
    /// Beside a second factor: what the token proves, where that is fresh enough.
    first: Option<&'a Assurance>,
    /// The second factor that it is.
    pub(super) second: Option<&'a Arc<SecondFactor>>,
}

impl<'a> Wanted<'a> {
    /// The proof that meets the requirement; or where none does, the one that comes furthest, and its first fault. Of two that
    /// are as good, the token's own.
    pub(super) fn weigh(
        &self,
        token: Proof<'a>,
        second_factors: &'a [Arc<SecondFactor>],
    ) -> (Proof<'a>, Option<(Part, Reason)>) {
        let Some(mut fault) = self.first_fault(&token) else { return (token, None) };
        let is_fresh = self.fault(&token, Part::Freshness).is_none();
        // Nor does it lend a guarded operation what may not delete yet.
        let is_lent = is_fresh && !(self.guarded && token.is_too_new());
        let first = Some(token.assurance).filter(|_| is_lent);
        let mut best = token;
        for second in second_factors.iter().filter(|second| self.is_covered_by(second)) {
            let proof = Proof::of_second(second, first);
            let Some(other) = self.first_fault(&proof) else { return (proof, None) };
            if other.0 > fault.0 {
                (best, fault) = (proof, other);
            }
        }
        (best, Some(fault))
    }

    /// Whether a second factor is good for this at all: one that was shown for another level is not, however strong, and an
    /// elevation never is for a guarded operation.
    fn is_covered_by(&self, second: &SecondFactor) -> bool {
        let wanted = self.requirement.level.as_ref();
        match &second.covers {
            Covers::Level(level) => !self.guarded && wanted == Some(level),
            Covers::Request => true,
            Covers::Grant { level, .. } => wanted == Some(level),
        }
    }

    fn first_fault(&self, proof: &Proof<'_>) -> Option<(Part, Reason)> {
        Part::ALL.into_iter().find_map(|part| Some((part, self.fault(proof, part)?)))
    }

    /// What is wrong with one part of a proof.
    pub(super) fn fault(&self, proof: &Proof<'_>, part: Part) -> Option<Reason> {
        let wanted = self.requirement;
        match part {
            Part::Level => wanted.level_fault_beside(proof.assurance, proof.first),
            Part::Freshness => wanted.freshness_fault(proof.assurance, proof.leeway_secs, self.now),
            Part::Factors => {
                let fault = wanted.factors_fault_beside(proof.factors, proof.categories, proof.first);
                fault.or((self.guarded && proof.is_too_new()).then_some(Reason::FactorTooNew))
            }
            Part::Grant => (wanted.bind && !proof.is_bound()).then_some(Reason::GrantMissing),
        }
    }

    /// What to ask for where a part does not hold: what the token lacks, for whoever gets another one, and what the authority
    /// would have to be shown.
    pub(super) fn step_up(&self, token: &Proof<'_>) -> StepUp {
        let step_up = self.requirement.step_up(token.assurance, token.leeway_secs, self.now);
        StepUp { guarded: self.guarded, ..step_up }
    }
}

impl<'a> Proof<'a> {
    /// What the caller's own token proves. Its factors are those that were shown to our own authority; nobody else's token has any.
    pub(super) fn of_token(principal: &'a Principal) -> Self {
        let assurance = &principal.assurance;
        let own: Categories = assurance.factors.iter().map(super::Factor::category).collect();
        // A passkey that verified the person is two; the authority says so in `amr`, and only its own word counts.
        let vouched = !assurance.factors.is_empty() && assurance.amr.iter().any(|amr| **amr == *"mfa");
        let categories = if vouched && own.count() < 2 { own.with(Category::Inherence) } else { own };
        Self {
            assurance,
            factors: assurance.factors,
            categories,
            leeway_secs: principal.leeway_secs,
            first: None,
            second: None,
        }
    }

    /// What nobody proves.
    pub(super) fn of_nobody(nothing: &'a Assurance) -> Self {
        Self {
            assurance: nothing,
            factors: Factors::NONE,
            categories: Categories::NONE,
            leeway_secs: 0.0,
            first: None,
            second: None,
        }
    }

    fn of_second(second: &'a Arc<SecondFactor>, first: Option<&'a Assurance>) -> Self {
        Self {
            assurance: &second.assurance,
            factors: second.factors,
            categories: second.categories,
            // Our own clock said when.
            leeway_secs: 0.0,
            first,
            second: Some(second),
        }
    }

    /// Whether its factor may not delete anything yet.
    fn is_too_new(&self) -> bool {
        self.second.map_or(self.assurance.on_probation, |second| !second.may_delete)
    }

    fn is_bound(&self) -> bool {
        self.second.is_some_and(|second| matches!(second.covers, Covers::Grant { bound: true, .. }))
    }
}
