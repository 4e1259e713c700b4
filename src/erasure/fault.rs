//! Why something was not done for a deletion. What would tell somebody of a deletion that is not theirs is one answer.

use thiserror::Error;

use super::life::NotNow;
use crate::store::StoreFault;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// There is no such deletion, or it is not the caller's to see: one answer for both.
    #[error("there is no such deletion")]
    NotFound,
    /// It cannot be done in the state that the deletion is in.
    #[error("not now: {0}")]
    NotNow(NotNow),
    /// Deletions of this account were frozen, as somebody said that it was not them; until an operator lifts it.
    #[error("deletions of this account are frozen")]
    Frozen,
    /// Another deletion of the same person is open, under another plan or about another tenant's data.
    #[error("another deletion of the same person is open")]
    AnotherOpen,
    /// What is to be erased is not there: a lookup said so.
    #[error("a lookup found nothing")]
    Absent,
    /// A lookup gave no answer that could be used.
    #[error("a lookup failed")]
    Lookup,
    /// There is no room among the notices for what would have to be told of it: nothing was done. The store itself can be used.
    #[error("there is no room for the notices of it")]
    Untold,
    /// The store cannot be used. Nothing was done, as far as is known.
    #[error("the store: {0}")]
    Store(StoreFault),
}

impl From<StoreFault> for Fault {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl From<NotNow> for Fault {
    fn from(fault: NotNow) -> Self {
        Self::NotNow(fault)
    }
}
