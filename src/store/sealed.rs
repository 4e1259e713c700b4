//! Rows of typed values, sealed before they reach the engine.

use serde::de::DeserializeOwned;

use super::{Batch, StoreFault, Table};
use crate::clock::Now;

/// A value with the version of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The row's key.
    pub key: String,
    /// The row's version, for replacing it.
    pub version: u64,
    /// From when on it is as if it were not there.
    pub expires_at: Option<u64>,
    /// The value.
    pub value: T,
}

/// The store.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Reads a value.
    pub async fn get<T: DeserializeOwned>(
        &self,
        _table: Table,
        _key: &str,
        _now: Now,
    ) -> Result<Option<Versioned<T>>, StoreFault> {
        Err(StoreFault::Busy)
    }

    /// Reads up to `limit` values whose keys begin with `prefix` and come after `after`, in the order of the keys.
    pub async fn page<T: DeserializeOwned>(
        &self,
        _table: Table,
        _prefix: &str,
        _after: Option<&str>,
        _limit: usize,
        _now: Now,
    ) -> Result<Vec<Versioned<T>>, StoreFault> {
        Err(StoreFault::Busy)
    }

    /// Does all writes or none; durable when it returns.
    pub async fn commit(&self, _batch: Batch, _now: Now) -> Result<(), StoreFault> {
        Err(StoreFault::Busy)
    }

    /// A key that tells nothing of what it is made of: HMAC-SHA-256 in hex, by a key of the store's own that survives
    /// `rekey`. The parts are parted so that no two lists give the same.
    pub fn index(&self, _purpose: &str, _parts: &[&[u8]]) -> String {
        String::new()
    }
}
