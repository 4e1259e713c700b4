//! What this room has to tell, said to whoever listens.

use std::time::Duration;

/// Listens. Called on the request's path, so implementations count and return.
pub trait StateObserver: Send + Sync {
    /// A commit of the store took so long to be answered.
    fn committed(&self, _took: Duration) {}

    /// Not all of the store could be read.
    fn store_fault(&self) {}
}

/// Nobody listens: for tools and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl StateObserver for Unobserved {}
