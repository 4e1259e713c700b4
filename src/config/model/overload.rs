//! What is done under overload.

use std::time::Duration;

/// When requests are refused so that the rest is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overload {
    /// How long what is ready may wait for its turn.
    pub queue_target: Duration,
    /// The most requests in flight at a time.
    pub requests: u32,
}

/// Who is refused first under overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Priority {
    /// Last of all.
    Critical,
    /// Once refusing [`Self::Low`] was not enough.
    #[default]
    Normal,
    /// First.
    Low,
}

impl Priority {
    /// Its name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}
