//! Rows of typed values, sealed before they reach the engine.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Batch, Engine, MAX_KEY, MAX_PAGE, MAX_WRITES, PURGE_STEP, Row, SealingKeys, StoreFault, Table, Write,
    batch::Draft,
    plain::{Plain, wipe},
    seal::{self, Place},
};
use crate::clock::{Now, SettledClock};

/// The key of the row that has the key that names are hidden with.
const INDEX_ROW: &str = "index";
/// Steps of one purge: two million rows.
const PURGE_STEPS: usize = 4096;
/// A new row's version has this many random bits, and so has never been that of a row that stood there before. Later ones
/// count up from it, and a number that JSON and Lua can still count exactly is left of them.
const VERSION_BITS: u32 = 52;

/// A value with the version of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The row's key.
    pub key: String,
    /// The row's version, for replacing it. It says nothing else: the first one is drawn at random.
    pub version: u64,
    /// From when on it is as if it were not there.
    pub expires_at: Option<u64>,
    /// The value.
    pub value: T,
}

/// What can be read of a page. One row that cannot, as its disk or its key was damaged, is no reason for the others to be as if
/// they were not there.
#[derive(Debug)]
pub struct Readable<T> {
    /// The rows that can be read, in the order of their keys.
    pub rows: Vec<Versioned<T>>,
    /// The keys of those that cannot.
    pub unreadable: Vec<String>,
    /// After which key the next page begins; `None`: this was the last one.
    pub next: Option<String>,
}

/// The store.
pub struct Store {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) keys: SealingKeys,
    index: hmac::Key,
    settled: Mutex<SettledClock>,
    /// The tables of which it was said that rows cannot be read: once, not each time they are met.
    damaged: Mutex<Vec<Table>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("engine", &self.engine).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The row of [`Table::Meta`] that an empty store gets first.
#[derive(Serialize, Deserialize)]
struct Meta {
    /// The key that names are hidden with, in base64.
    index_key: String,
}

impl Drop for Meta {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.index_key).into_bytes();
        wipe(&mut text);
    }
}

impl Store {
    /// Opens a store: reads the key that names are hidden with, or makes one where there is nothing yet.
    ///
    /// # Errors
    /// [`StoreFault::Unreadable`] when none of the keys opens it, or it is missing though there are rows: all that is there
    /// would be as if it were not.
    pub async fn open(engine: Arc<dyn Engine>, keys: SealingKeys, now: Now) -> Result<Self, StoreFault> {
        // Nothing is indexed before the real key is known.
        let none = hmac::Key::new(hmac::HMAC_SHA256, &[]);
        let mut store = Self { engine, keys, index: none, settled: Mutex::default(), damaged: Mutex::default() };
        let meta = match store.meta(now).await? {
            Some(meta) => meta,
            None => store.begin(now).await?,
        };
        let mut bytes = STANDARD
            .decode(&meta.index_key)
            .map_err(|_| StoreFault::Unreadable("in meta: its index key is no base64".to_owned()))?;
        store.index = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        wipe(&mut bytes);
        Ok(store)
    }

    async fn meta(&self, now: Now) -> Result<Option<Meta>, StoreFault> {
        Ok(self.get::<Meta>(Table::Meta, INDEX_ROW, now).await?.map(|row| row.value))
    }

    /// Makes the first row of an empty store, unless somebody else is making it just now.
    async fn begin(&self, now: Now) -> Result<Meta, StoreFault> {
        let mut used = false;
        for table in Table::ALL {
            used |= !self.engine.page(table, String::new(), None, 1, now.unix_secs()).await?.is_empty();
        }
        if !used {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| no_randomness())?;
            let meta = Meta { index_key: STANDARD.encode(bytes) };
            wipe(&mut bytes);
            match self.commit(Batch::new().insert(Table::Meta, INDEX_ROW, &meta, None), now).await {
                Ok(()) => return Ok(meta),
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.meta(now).await?.ok_or_else(|| {
            let why = "in meta: the index key is missing, though there are rows that were made with it";
            StoreFault::Unreadable(why.to_owned())
        })
    }

    /// Reads a value.
    ///
    /// # Errors
    /// What the engine says; [`StoreFault::Unreadable`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
        now: Now,
    ) -> Result<Option<Versioned<T>>, StoreFault> {
        let row = self.engine.read(table, key.to_owned(), now.unix_secs()).await?;
        match row {
            // An engine that gives another row than was asked for is not believed.
            Some(row) if row.key != key => Err(StoreFault::Unreadable(format!("in {}: another row", table.name()))),
            Some(row) => self.unseal(table, row).map(Some),
            None => Ok(None),
        }
    }

    /// Reads up to `limit` values whose keys begin with `prefix` and come after `after`, in the order of the keys' bytes. At
    /// most [`MAX_PAGE`] come at once.
    ///
    /// # Errors
    /// What the engine says; [`StoreFault::Unreadable`].
    pub async fn page<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Now,
    ) -> Result<Vec<Versioned<T>>, StoreFault> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let rows = self.engine.page(table, prefix, after, limit.min(MAX_PAGE), now.unix_secs()).await?;
        rows.into_iter().map(|row| self.unseal(table, row)).collect()
    }

    /// The same, without those that cannot be read: for whoever goes through rows that have nothing to do with one another, and
    /// to whom a row that is missing lets nobody in.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn readable<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Now,
    ) -> Result<Readable<T>, StoreFault> {
        let (limit, after) = (limit.min(MAX_PAGE), after.map(str::to_owned));
        let found = self.engine.page(table, prefix.to_owned(), after, limit, now.unix_secs()).await?;
        let next = found.last().filter(|_| found.len() >= limit).map(|row| row.key.clone());
        let mut page = Readable { rows: Vec::with_capacity(found.len()), unreadable: Vec::new(), next };
        for row in found {
            let key = row.key.clone();
            match self.unseal(table, row) {
                Ok(row) => page.rows.push(row),
                Err(StoreFault::Unreadable(_)) => page.unreadable.push(key),
                Err(fault @ (StoreFault::Conflict | StoreFault::Busy | StoreFault::Unavailable(_))) => {
                    return Err(fault);
                }
            }
        }
        if !page.unreadable.is_empty() {
            self.tell_damage(table, page.unreadable.len());
        }
        Ok(page)
    }

    fn tell_damage(&self, table: Table, rows: usize) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if !damaged.contains(&table) {
            damaged.push(table);
            let table = table.name();
            tracing::error!(table, rows, "rows of the store cannot be read, and are passed over");
        }
    }

    fn unseal<T: DeserializeOwned>(&self, table: Table, row: Row) -> Result<Versioned<T>, StoreFault> {
        let plain = seal::open(&self.keys, Place::of(table, &row), &row.value)?;
        let value = serde_json::from_slice(plain.bytes())
            // What serde says may quote the value.
            .map_err(|_| StoreFault::Unreadable(format!("in {}: it has another form than expected", table.name())))?;
        Ok(Versioned { key: row.key, version: row.version, expires_at: row.expires_at, value })
    }

    /// Does all writes or none; durable when it returns. It is done, or not, also when nobody waits for it any more.
    ///
    /// # Errors
    /// [`StoreFault::Conflict`] when a row is not as the batch says: nothing was written. What the engine says.
    pub async fn commit(&self, batch: Batch, now: Now) -> Result<(), StoreFault> {
        self.commit_versions(batch, now).await.map(drop)
    }

    /// The same, and says which versions the rows have that were put, in the order of the batch: for whoever replaces one
    /// later without reading it first.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit).
    pub async fn commit_versions(&self, batch: Batch, now: Now) -> Result<Vec<u64>, StoreFault> {
        if batch.writes.len() > MAX_WRITES {
            return Err(StoreFault::Unavailable("a commit has too many writes".to_owned()));
        }
        let writes = batch.writes.into_iter().map(|draft| self.write(draft)).collect::<Result<Vec<_>, _>>()?;
        let version = |write: &Write| match write {
            Write::Put { row, .. } => Some(row.version),
            Write::Delete(..) | Write::Forget(..) => None,
        };
        let versions = writes.iter().filter_map(version).collect();
        if !writes.is_empty() {
            self.engine.commit(writes, now.unix_secs()).await?;
        }
        Ok(versions)
    }

    fn write(&self, draft: Draft) -> Result<Write, StoreFault> {
        match draft {
            Draft::Put { table, key, before, value, expires_at } => {
                if key.len() > MAX_KEY {
                    return Err(StoreFault::Unavailable(format!("a key of {} is too long", table.name())));
                }
                let version = if before == 0 { first_version()? } else { before.saturating_add(1) };
                self.sealed(table, before, Row { key, version, value: Vec::new(), expires_at }, &value?)
            }
            Draft::Delete { table, key, version } => Ok(Write::Delete(table, key, version)),
            Draft::Forget { table, key } => Ok(Write::Forget(table, key)),
        }
    }

    /// A row's write, with the value sealed for it.
    pub(super) fn sealed(&self, table: Table, before: u64, mut row: Row, plain: &Plain) -> Result<Write, StoreFault> {
        row.value = seal::seal(&self.keys, Place::of(table, &row), plain)?;
        Ok(Write::Put { table, before, row })
    }

    /// Takes away what has expired, in steps between which others' commits are done; how many rows. To be called now and
    /// then. A leap of the clock that is taken back makes nothing be forgotten that counts again afterwards.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn purge(&self, now: Now) -> Result<usize, StoreFault> {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner).unix_secs(now);
        let mut purged = 0;
        for _ in 0..PURGE_STEPS {
            let step = self.engine.purge(settled).await?;
            purged += step;
            if step < PURGE_STEP {
                break;
            }
        }
        Ok(purged)
    }

    /// A key that tells nothing of what it is made of: HMAC-SHA-256 in hex, by a key of the store's own that survives
    /// `rekey`. The parts are parted so that no two lists give the same.
    pub fn index(&self, purpose: &str, parts: &[&[u8]]) -> String {
        let mut hash = hmac::Context::with_key(&self.index);
        for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        hash.sign().as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

fn first_version() -> Result<u64, StoreFault> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| no_randomness())?;
    Ok((u64::from_be_bytes(bytes) >> (u64::BITS - VERSION_BITS)).max(1))
}

fn no_randomness() -> StoreFault {
    StoreFault::Unavailable("the system gives no random bytes".to_owned())
}
