//! Who may pass, and why: a pure function from a route's policy and the facts of a request to a decision.
//! It never looks at a clock, a socket or a file.

mod condition;
mod decide;
mod factor;
mod machine;
mod names;
mod principal;
mod proof;
mod reason;
mod requirement;
mod second_factor;

pub use condition::{Condition, ConditionFault, ConditionInput, ConditionOutcome, VARIABLES};
pub use decide::{AccessPolicy, Challenge, Check, Decision, Denial, Facts, Held, Permit, decide, explain};
pub use factor::{Categories, Category, Factor, FactorRule, Factors, Strength};
pub use machine::{CertificateProof, MachineProof};
pub use principal::{
    Assurance, Binding, Credential, Evidence, IssuerName, Kind, Marks, Possession, Principal, SecondFactors, Told,
};
pub use reason::Reason;
pub use requirement::{Requirement, StepUp};
pub use second_factor::{Covers, LevelName, SecondFactor};
