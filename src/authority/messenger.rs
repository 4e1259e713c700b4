//! Who carries messages: an outbox that is written in the same commit as what it tells of.

use crate::{
    notify::Message,
    store::{Batch, StoreFault},
};

/// Who carries messages. The runtime's is the durable outbox of `notify`; tests read what would be sent.
pub trait Messenger: Send + Sync {
    /// Adds a message to a commit.
    ///
    /// # Errors
    /// [`StoreFault::Busy`]: too many wait already.
    fn enqueue(&self, batch: Batch, message: &Message) -> Result<Batch, StoreFault>;

    /// The commit was done: there is something to deliver.
    fn poke(&self);
}
