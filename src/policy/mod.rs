//! Who may pass, and why: a pure function from a route's policy and the facts of a request to a decision.
//! It never looks at a clock, a socket or a file.

mod principal;
mod reason;
mod requirement;

pub use principal::{Assurance, Credential, IssuerName, Principal};
pub use reason::Reason;
pub use requirement::Requirement;
