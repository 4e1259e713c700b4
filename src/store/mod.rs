//! Durable rows: a table, a key, a version, a sealed value, an expiry. A write says which version it replaces, and several
//! writes are one commit, all or none, durable before it is answered. That is what SQLite, PostgreSQL and Redis can all do:
//! an [`Engine`] needs no more, and knows no subject.
//!
//! Above the engine each value is sealed, and keys that would name somebody are made by [`Store::index`], so that a copy of
//! the file tells nothing. docs/store.md says what an operator does with it.

mod batch;
mod command;
mod engine;
mod fault;
mod keys;
mod plain;
mod rekey;
mod seal;
mod sealed;
pub mod sqlite;
mod table;
#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test that cannot begin should say why")]
pub(crate) mod testing;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails should say where"
)]
mod tests;
mod watched;

pub use batch::Batch;
pub use engine::{Engine, Pending, Row, Write};
pub use fault::StoreFault;
pub use keys::{KeyId, MasterKey, SealingKeys};
pub use rekey::{KeyUse, Rekeyed};
pub use sealed::{Readable, Store, Versioned};
pub use sqlite::Sqlite;
pub use table::Table;
pub use watched::{CommitListener, Watched};

/// The longest key of a row, in bytes.
pub const MAX_KEY: usize = 512;
/// The most writes of one commit.
pub const MAX_WRITES: usize = 256;
/// The most rows of one page.
pub const MAX_PAGE: usize = 1000;
/// The most rows that one step of a purge takes away, so that no commit waits long behind it.
pub const PURGE_STEP: usize = 500;
