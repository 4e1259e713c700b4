//! The configuration: YAML text → document as written → [`Config`], valid and with every name resolved.
//! All problems are found together and none of this reads a file, the environment or a clock.

mod materials;
mod model;
mod problem;

pub use materials::Materials;
pub use model::*;
pub use problem::{Problem, Problems, Severity, Span};
