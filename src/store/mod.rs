//! Durable rows: a table, a key, a version, a sealed value, an expiry. A write says which version it replaces, and several
//! writes are one commit, all or none, durable before it is answered. That is what SQLite, PostgreSQL and Redis can all do:
//! an [`Engine`] needs no more, and knows no subject.
//!
//! Above the engine each value is sealed, and keys that would name somebody are made by [`Store::index`], so that a copy of
//! the file tells nothing.

mod batch;
mod engine;
mod fault;
mod sealed;
mod table;

pub use batch::Batch;
pub use engine::{Engine, Pending, Row, Write};
pub use fault::StoreFault;
pub use sealed::{Store, Versioned};
pub use table::Table;
