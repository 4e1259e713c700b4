//! What an engine must be able to do. It sees sealed values alone.

use std::{fmt, future::Future, pin::Pin};

use super::{StoreFault, Table};

/// An answer that is still to come.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreFault>> + Send>>;

/// A row as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key within the table.
    pub key: String,
    /// Another one after each change; never 0, and below 2^63. One that is put anew after it was taken away begins with another
    /// number, so that whoever remembers the old row cannot take the new one for it.
    pub version: u64,
    /// Its sealed value.
    pub value: Vec<u8>,
    /// From when on it is as if it were not there, in seconds since the epoch; `None`: never.
    pub expires_at: Option<u64>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("version", &self.version).field("bytes", &self.value.len()).finish_non_exhaustive()
    }
}

/// One write of a commit.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts a row in place of the one that has the version `before`; 0: none stands there, or one that has expired.
    Put {
        /// Which table.
        table: Table,
        /// The version that the row there must have; 0: there must be none.
        before: u64,
        /// The row.
        row: Row,
    },
    /// Takes a row away, if it still has this version.
    Delete(Table, String, u64),
    /// Takes a row away, whatever it is, and if there is none.
    Forget(Table, String),
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { table, before, row } => f.debug_tuple("Put").field(table).field(before).field(row).finish(),
            Self::Delete(table, _, version) => f.debug_tuple("Delete").field(table).field(version).finish(),
            Self::Forget(table, _) => f.debug_tuple("Forget").field(table).finish(),
        }
    }
}

/// What keeps the rows. `now` is in seconds since the epoch: an engine has no clock of its own. A row whose `expires_at` is
/// not after `now` is as if it were not there, in every operation.
///
/// What is asked for is begun when the method is called; an answer that nobody waits for changes nothing of it.
/// docs/store.md has the contract in full.
pub trait Engine: fmt::Debug + Send + Sync {
    /// Reads a row that has not expired.
    fn read(&self, table: Table, key: String, now: u64) -> Pending<Option<Row>>;

    /// Reads up to `limit` rows whose keys begin with `prefix` and come after `after`, in the order of the keys.
    fn page(&self, table: Table, prefix: String, after: Option<String>, limit: usize, now: u64) -> Pending<Vec<Row>>;

    /// Does all of the writes or none. It is durable when it is answered; [`StoreFault::Conflict`]: none was done.
    fn commit(&self, writes: Vec<Write>, now: u64) -> Pending<()>;

    /// Takes away rows that have expired, at most [`PURGE_STEP`](super::PURGE_STEP) of them; how many.
    fn purge(&self, now: u64) -> Pending<usize>;

    /// Comes back once all that was asked for before is done, for who lets others have the rows.
    fn close(&self) -> Pending<()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
