//! An engine in memory whose answers come late, whose commits fail before or after they are done, and whose rows can be looked at in
//! peace: what a disk, a network and a crash can do to a store, many thousand times a second.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::model::Chance;
use crate::store::{Engine, Pending, Row, StoreFault, Table, Write};

/// The rows.
pub(super) struct Shelf {
    rows: Mutex<BTreeMap<(Table, String), Row>>,
    chance: Mutex<Chance>,
    calm: AtomicBool,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

impl Shelf {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let calm = AtomicBool::new(true);
        Arc::new(Self { rows: Mutex::default(), chance: Mutex::new(Chance::new(seed)), calm })
    }

    /// Whether nothing goes wrong.
    pub(super) fn be_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::SeqCst);
    }

    fn is_unlucky(&self, one_in: usize) -> bool {
        !self.calm.load(Ordering::SeqCst) && self.chance.lock().unwrap().one_in(one_in)
    }

    /// An answer that comes when others have had their turn.
    fn late<T: Send + 'static>(&self, answer: Result<T, StoreFault>) -> Pending<T> {
        let turns = if self.calm.load(Ordering::SeqCst) { 0 } else { self.chance.lock().unwrap().below(4) };
        Box::pin(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            answer
        })
    }

    fn lost<T>() -> Result<T, StoreFault> {
        Err(StoreFault::Unavailable("a test".to_owned()))
    }

    fn write(&self, writes: Vec<Write>, now: u64) -> Result<(), StoreFault> {
        let mut rows = self.rows.lock().unwrap();
        let is_live = |row: &&Row| row.expires_at.is_none_or(|at| at > now);
        for write in &writes {
            let fits = match write {
                Write::Put { table, before, row } => {
                    let there = rows.get(&(*table, row.key.clone())).filter(is_live);
                    there.map_or(0, |row| row.version) == *before
                }
                Write::Delete(table, key, version) => {
                    rows.get(&(*table, key.clone())).filter(is_live).is_some_and(|row| row.version == *version)
                }
                Write::Forget(..) => true,
            };
            if !fits {
                return Err(StoreFault::Conflict);
            }
        }
        for write in writes {
            match write {
                Write::Put { table, row, .. } => drop(rows.insert((table, row.key.clone()), row)),
                Write::Delete(table, key, _) | Write::Forget(table, key) => drop(rows.remove(&(table, key))),
            }
        }
        Ok(())
    }
}

/// The shelf as an engine.
#[derive(Debug, Clone)]
pub(super) struct OnShelf(pub(super) Arc<Shelf>);

impl Engine for OnShelf {
    fn read(&self, table: Table, key: String, now: u64) -> Pending<Option<Row>> {
        if self.0.is_unlucky(200) {
            return self.0.late(Shelf::lost());
        }
        let row = self.0.rows.lock().unwrap().get(&(table, key)).cloned();
        self.0.late(Ok(row.filter(|row| row.expires_at.is_none_or(|at| at > now))))
    }

    fn page(&self, table: Table, prefix: String, after: Option<String>, limit: usize, now: u64) -> Pending<Vec<Row>> {
        if self.0.is_unlucky(200) {
            return self.0.late(Shelf::lost());
        }
        let rows = self.0.rows.lock().unwrap();
        let found =
            rows.range((table, prefix.clone())..).take_while(|((of, key), _)| *of == table && key.starts_with(&prefix));
        let found = found.map(|(_, row)| row).filter(|row| after.as_ref().is_none_or(|after| row.key > *after));
        let found = found.filter(|row| row.expires_at.is_none_or(|at| at > now)).take(limit).cloned().collect();
        drop(rows);
        self.0.late(Ok(found))
    }

    fn commit(&self, writes: Vec<Write>, now: u64) -> Pending<()> {
        if self.0.is_unlucky(60) {
            return self.0.late(Shelf::lost());
        }
        let done = self.0.write(writes, now);
        // Done, and nobody hears of it.
        if self.0.is_unlucky(60) {
            return self.0.late(Shelf::lost());
        }
        self.0.late(done)
    }

    fn purge(&self, _: u64) -> Pending<usize> {
        self.0.late(Ok(0))
    }
}

/// The same rows, where nothing goes wrong.
#[derive(Debug, Clone)]
pub(super) struct Calm(pub(super) Arc<Shelf>);

impl Engine for Calm {
    fn read(&self, table: Table, key: String, now: u64) -> Pending<Option<Row>> {
        let row = self.0.rows.lock().unwrap().get(&(table, key)).cloned();
        Box::pin(std::future::ready(Ok(row.filter(|row| row.expires_at.is_none_or(|at| at > now)))))
    }

    fn page(&self, table: Table, prefix: String, after: Option<String>, limit: usize, now: u64) -> Pending<Vec<Row>> {
        let was = self.0.calm.swap(true, Ordering::SeqCst);
        let page = OnShelf(self.0.clone()).page(table, prefix, after, limit, now);
        self.0.calm.store(was, Ordering::SeqCst);
        page
    }

    fn commit(&self, writes: Vec<Write>, now: u64) -> Pending<()> {
        Box::pin(std::future::ready(self.0.write(writes, now)))
    }

    fn purge(&self, _: u64) -> Pending<usize> {
        Box::pin(std::future::ready(Ok(0)))
    }
}
