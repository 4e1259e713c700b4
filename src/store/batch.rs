//! Several writes that are one commit.

use serde::Serialize;

use super::{StoreFault, Table, plain::Plain};

/// Several writes that are one commit: all are done or none.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) writes: Vec<Draft>,
}

/// A write before its value is sealed.
#[derive(Debug)]
pub(super) enum Draft {
    Put { table: Table, key: String, before: u64, value: Result<Plain, StoreFault>, expires_at: Option<u64> },
    Delete { table: Table, key: String, version: u64 },
    Forget { table: Table, key: String },
}

impl Batch {
    /// No writes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a row where none must stand: whoever's commit does it is the first.
    #[must_use]
    pub fn insert(self, table: Table, key: &str, value: &impl Serialize, expires_at: Option<u64>) -> Self {
        self.update(table, key, 0, value, expires_at)
    }

    /// Puts a row in the place of the one with this version.
    #[must_use]
    pub fn update(
        mut self,
        table: Table,
        key: &str,
        before: u64,
        value: &impl Serialize,
        expires_at: Option<u64>,
    ) -> Self {
        // A value that is not taken makes the commit fail, where there is somebody to tell.
        let value = Plain::of(value);
        // As far as every engine can count.
        let expires_at = expires_at.map(|at| at.min(i64::MAX.unsigned_abs()));
        self.writes.push(Draft::Put { table, key: key.to_owned(), before, value, expires_at });
        self
    }

    /// Takes away the row with this version: whoever's commit does it is the only one.
    #[must_use]
    pub fn delete(mut self, table: Table, key: &str, version: u64) -> Self {
        self.writes.push(Draft::Delete { table, key: key.to_owned(), version });
        self
    }

    /// The writes of another one, too.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.writes.extend(other.writes);
        self
    }

    /// Takes a row away, if there is one.
    #[must_use]
    pub fn forget(mut self, table: Table, key: &str) -> Self {
        self.writes.push(Draft::Forget { table, key: key.to_owned() });
        self
    }
}
