//! What proof a route or an operation asks for.

use std::{sync::Arc, time::Duration};

/// A level of proof. Every part that is given must hold; within a list any one value is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The `acr` values that would do, in order of preference.
    pub acr: Option<Box<[Arc<str>]>>,
    /// The `amr` values of which one must be there.
    pub amr: Option<Box<[Arc<str>]>>,
    /// How long ago the user may have authenticated.
    pub max_age: Option<Duration>,
}
