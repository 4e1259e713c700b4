//! Sealing every row anew under the current key, while others read and write.
//!
//! A row keeps its version: it still says the same. So a writer who read it before loses nothing and is not sent back, and
//! the write here is one that only takes if the row is still the one that was read; if not, it is read again.

use std::{collections::BTreeMap, mem};

use super::{
    KeyId, MAX_PAGE, Row, Store, StoreFault, Table, Write,
    seal::{self, Place},
};
use crate::clock::Now;

/// Rows that are sealed anew in one commit.
const PAGE: usize = 128;
/// How often a row that changes under our hands is read again. It is others who seal it then, and with their current key.
const TRIES: usize = 8;
/// Passes over all rows: what was written behind our back, by one who still seals with an older key, is met in the next.
const PASSES: u32 = 3;

/// What sealing anew has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// The pass over all rows, from 1.
    pub pass: u32,
    /// Rows looked at in this pass.
    pub seen: u64,
    /// Rows sealed anew, in all passes.
    pub resealed: u64,
    /// Rows that none of the keys opens, or that are damaged, in this pass. They are left as they are.
    pub unreadable: u64,
    /// Rows of this pass that changed too often to be sealed anew.
    pub left: u64,
    /// Whether a whole pass found every row under the current key: older keys can be taken out of the configuration.
    pub complete: bool,
}

/// How many rows are under which key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// Rows by key, whether it is configured or not.
    pub rows: BTreeMap<KeyId, u64>,
    /// Rows whose form is not known.
    pub unknown: u64,
}

/// What became of a row.
enum Fate {
    Current,
    Resealed,
    Gone,
    Unreadable,
    Left,
}

impl Store {
    /// Seals every row anew that is not under the current key, and tells how far it is after each page. It can be cut off at
    /// any point and begun again, and is safe while others read and write; they must have the current key, too. What
    /// [`Store::index`] gives stays the same.
    ///
    /// # Errors
    /// What the engine says; what was sealed anew by then stays so.
    pub async fn rekey(&self, now: Now, mut progress: impl FnMut(&Rekeyed) + Send) -> Result<Rekeyed, StoreFault> {
        let mut done = Rekeyed::default();
        for pass in 1..=PASSES {
            let before = done.resealed;
            done = Rekeyed { pass, resealed: before, ..Rekeyed::default() };
            for table in Table::ALL {
                let mut after = None;
                while let Some(page) = self.rekey_page(table, &mut after, now, &mut done).await? {
                    if page > 0 {
                        progress(&done);
                    }
                }
            }
            if done.resealed == before && done.left == 0 {
                done.complete = done.unreadable == 0;
                break;
            }
        }
        // What was overwritten is still in the journal until that is.
        self.purge(now).await?;
        progress(&done);
        Ok(done)
    }

    /// Seals a page anew; `None` after the last.
    async fn rekey_page(
        &self,
        table: Table,
        after: &mut Option<String>,
        now: Now,
        done: &mut Rekeyed,
    ) -> Result<Option<usize>, StoreFault> {
        let rows = self.engine.page(table, String::new(), after.take(), PAGE, now.unix_secs()).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        *after = Some(last.key.clone());
        let (count, mut stale, mut writes) = (rows.len(), Vec::new(), Vec::new());
        done.seen += count as u64;
        for row in rows {
            if seal::key_of(&row.value) == Some(self.keys.current()) {
                continue;
            }
            match self.resealed(table, &row) {
                Ok(write) => {
                    stale.push(row);
                    writes.push(write);
                }
                Err(StoreFault::Unreadable(_)) => done.unreadable += 1,
                Err(fault) => return Err(fault),
            }
        }
        if writes.is_empty() {
            return Ok(Some(count));
        }
        match self.engine.commit(writes, now.unix_secs()).await {
            Ok(()) => done.resealed += stale.len() as u64,
            // One of them changed; the others must not wait for it.
            Err(StoreFault::Conflict) => {
                for row in stale {
                    match self.rekey_row(table, row, now).await? {
                        Fate::Resealed => done.resealed += 1,
                        Fate::Unreadable => done.unreadable += 1,
                        Fate::Left => done.left += 1,
                        Fate::Current | Fate::Gone => {}
                    }
                }
            }
            Err(fault) => return Err(fault),
        }
        Ok(Some(count))
    }

    async fn rekey_row(&self, table: Table, mut row: Row, now: Now) -> Result<Fate, StoreFault> {
        for _ in 0..TRIES {
            if seal::key_of(&row.value) == Some(self.keys.current()) {
                return Ok(Fate::Current);
            }
            let write = match self.resealed(table, &row) {
                Ok(write) => write,
                Err(StoreFault::Unreadable(_)) => return Ok(Fate::Unreadable),
                Err(fault) => return Err(fault),
            };
            match self.engine.commit(vec![write], now.unix_secs()).await {
                Ok(()) => return Ok(Fate::Resealed),
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault),
            }
            let key = mem::take(&mut row.key);
            match self.engine.read(table, key, now.unix_secs()).await? {
                Some(found) => row = found,
                None => return Ok(Fate::Gone),
            }
        }
        Ok(Fate::Left)
    }

    /// The same row, under the current key.
    fn resealed(&self, table: Table, row: &Row) -> Result<Write, StoreFault> {
        let plain = seal::open(&self.keys, Place::of(table, row), &row.value)?;
        let again = Row { key: row.key.clone(), value: Vec::new(), ..*row };
        self.sealed(table, row.version, again, &plain)
    }

    /// Counts the rows under each key, and so says whether a key is still needed.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn key_use(&self, now: Now) -> Result<KeyUse, StoreFault> {
        let mut found = KeyUse::default();
        for table in Table::ALL {
            let mut after = None;
            loop {
                let rows = self.engine.page(table, String::new(), after, MAX_PAGE, now.unix_secs()).await?;
                for row in &rows {
                    match seal::key_of(&row.value) {
                        Some(id) => *found.rows.entry(id).or_default() += 1,
                        None => found.unknown += 1,
                    }
                }
                let Some(last) = rows.into_iter().last() else { break };
                after = Some(last.key);
            }
        }
        Ok(found)
    }

    /// Checks at start that every row has its key: a key that was taken out too early is told of before anybody is turned away
    /// for it. It reads every row, some hundred thousand in a second.
    ///
    /// # Errors
    /// [`StoreFault::Unreadable`] names the keys that are missing, and how many rows need them.
    pub async fn check_keys(&self, now: Now) -> Result<KeyUse, StoreFault> {
        let found = self.key_use(now).await?;
        let missing = found.rows.iter().filter(|(id, _)| self.keys.find(**id).is_none());
        let missing: Vec<String> = missing.map(|(id, rows)| format!("{rows} with key {id}")).collect();
        if !missing.is_empty() {
            let why = format!(
                "rows are sealed with keys that are not among the configured ones: {}; put them back among `previous` and run `stepgate rekey`",
                missing.join(", ")
            );
            return Err(StoreFault::Unreadable(why));
        }
        if found.unknown > 0 {
            return Err(StoreFault::Unreadable(format!("{} rows have a form that is not known", found.unknown)));
        }
        Ok(found)
    }
}
