//! Why the store did not do what was asked.

use thiserror::Error;

/// Why the store did not do what was asked. None quotes a value or a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreFault {
    /// A row is not as the writer believed: somebody else was first. Nothing was written.
    #[error("a row of the store changed meanwhile")]
    Conflict,
    /// The engine cannot be reached, or its disk is full or broken. Nothing is known of what was written.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// A value cannot be opened by any of the keys, or is not what was written.
    #[error("a row of the store cannot be read: {0}")]
    Unreadable(String),
    /// More waits to be written than may.
    #[error("the store is busy")]
    Busy,
}
