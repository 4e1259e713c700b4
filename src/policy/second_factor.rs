//! A second factor that was shown to the gateway's own authority: facts that were verified, for `decide` to weigh where a
//! token's own facts fall short.

use std::sync::Arc;

use super::{Assurance, Categories, FactorRule, Factors, Strength};

/// The name of a level of proof: its name in the configuration, or for one that is written out a text of its own. Two
/// requirements of one name ask for the same, their age apart.
pub type LevelName = Arc<str>;

/// A second factor that was shown here.
#[derive(Debug, Clone, PartialEq)]
pub struct SecondFactor {
    /// What it is worth, together with the caller's own token: `acr`, `amr`, and the moment of the proof.
    pub assurance: Assurance,
    /// What was shown.
    pub factors: Factors,
    /// The categories of all that was shown, the first factor included.
    pub categories: Categories,
    /// What it is good for.
    pub covers: Covers,
    /// Whether a factor that was enrolled without another one is old enough to delete something.
    pub may_delete: bool,
}

/// What a second factor is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covers {
    /// One level of proof, until it is too old for it; never a guarded operation.
    Level(LevelName),
    /// The request that it came with.
    Request,
    /// The request that it came with, by a grant. `bound`: made for this very method, target and body.
    Grant {
        /// The level that it was made for.
        level: LevelName,
        /// Whether it is good for this one request only.
        bound: bool,
    },
}

impl Covers {
    /// The level that it was shown for; `None`: for whichever the request needs.
    pub const fn level(&self) -> Option<&LevelName> {
        match self {
            Self::Level(level) | Self::Grant { level, .. } => Some(level),
            Self::Request => None,
        }
    }

    /// By which way it came, for the records.
    pub const fn way(&self) -> &'static str {
        match self {
            Self::Level(_) => "elevation",
            Self::Request => "code",
            Self::Grant { bound: false, .. } => "grant",
            Self::Grant { bound: true, .. } => "bound_grant",
        }
    }
}

impl FactorRule {
    /// Whether these factors will do.
    pub fn is_met(&self, factors: Factors, categories: Categories) -> bool {
        self.any_of.is_none_or(|any_of| !any_of.and(factors).is_empty())
            && (!self.phishing_resistant
                || factors.iter().any(|factor| factor.strength() == Strength::PhishingResistant))
            && categories.count() >= u32::from(self.categories)
    }

    /// One rule for two that must both hold; `None`: no factor could ever be one of those that both take.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let any_of = match (self.any_of, other.any_of) {
            (Some(one), Some(other)) => Some(one.and(other)).filter(|both| !both.is_empty()).map(Some)?,
            (one, other) => one.or(other),
        };
        Some(Self {
            any_of,
            phishing_resistant: self.phishing_resistant || other.phishing_resistant,
            categories: self.categories.max(other.categories),
        })
    }
}
