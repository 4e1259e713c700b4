//! Stores for tests: real ones, in a folder that goes with them, and one that can be broken.
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{Engine, KeyId, MasterKey, Pending, Row, SealingKeys, Sqlite, Store, StoreFault, Table, Write};
use crate::clock::Now;

/// A moment of tests.
pub(crate) fn at(secs: u64) -> Now {
    Now { unix_ms: secs * 1000, instant: Instant::now() }
}

/// A key that is the same for the same number.
pub(crate) fn key(number: u8) -> MasterKey {
    let bytes: Vec<u8> = (0..32).map(|at| number.wrapping_add(at)).collect();
    MasterKey::new(&bytes).expect("32 bytes")
}

/// Runs a future to its end, from wherever, also from within a runtime.
pub(crate) fn wait<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future);
        scope.spawn(run).join().expect("no panic")
    })
}

/// An engine over another one that can be broken, and with a folder that is kept for it.
#[derive(Debug)]
struct Breakable {
    engine: Sqlite,
    _folder: tempfile::TempDir,
    broken: Breaker,
}

/// Breaks a store and mends it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    broken: Arc<AtomicBool>,
    /// How many commits are done until it breaks, and one more; 0: it does not.
    left: Arc<AtomicUsize>,
}

impl Breaker {
    /// From now on nothing can be read or written.
    pub(crate) fn break_it(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// It breaks when so many more commits were done: the next one is not, nor is anything read afterwards.
    pub(crate) fn break_after(&self, commits: usize) {
        self.left.store(commits + 1, Ordering::SeqCst);
    }

    /// From now on everything is as before.
    pub(crate) fn mend(&self) {
        self.left.store(0, Ordering::SeqCst);
        self.broken.store(false, Ordering::SeqCst);
    }

    fn guard<T: Send + 'static>(&self, answer: impl FnOnce() -> Pending<T>) -> Pending<T> {
        if self.broken.load(Ordering::SeqCst) {
            let fault = StoreFault::Unavailable("a test broke it".to_owned());
            return Box::pin(std::future::ready(Err(fault)));
        }
        answer()
    }
}

impl Engine for Breakable {
    fn read(&self, table: Table, key: String, now: u64) -> Pending<Option<Row>> {
        self.broken.guard(|| self.engine.read(table, key, now))
    }

    fn page(&self, table: Table, prefix: String, after: Option<String>, limit: usize, now: u64) -> Pending<Vec<Row>> {
        self.broken.guard(|| self.engine.page(table, prefix, after, limit, now))
    }

    fn commit(&self, writes: Vec<Write>, now: u64) -> Pending<()> {
        let left = |left: usize| (left > 0).then(|| (left - 1).max(1));
        if self.broken.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left) == Ok(1) {
            self.broken.break_it();
        }
        self.broken.guard(|| self.engine.commit(writes, now))
    }

    fn purge(&self, now: u64) -> Pending<usize> {
        self.broken.guard(|| self.engine.purge(now))
    }
}

impl Store {
    /// An empty store in a folder that goes with it.
    pub(crate) fn for_tests() -> Self {
        Self::breakable_for_tests().0
    }

    /// The same with a switch that breaks it.
    pub(crate) fn breakable_for_tests() -> (Self, Breaker) {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Sqlite::open(&folder.path().join("stepgate.db")).expect("a new file");
        let broken = Breaker::default();
        let engine = Breakable { engine, _folder: folder, broken: broken.clone() };
        let keys = SealingKeys::new(key(1), vec![]);
        let store = wait(Self::open(Arc::new(engine), keys, at(0))).expect("an empty store opens");
        (store, broken)
    }

    /// What it stands on, and what seals it.
    pub(crate) fn parts_for_tests(&self) -> (Arc<dyn Engine>, KeyId) {
        (self.engine.clone(), self.keys.current())
    }

    /// Every row, of every table, expired or not: the table, the key, and the value as it was before it was sealed.
    pub(crate) async fn everything(&self) -> Vec<(Table, String, serde_json::Value)> {
        let mut all = Vec::new();
        for table in Table::ALL {
            let mut after: Option<String> = None;
            loop {
                let page =
                    self.page::<serde_json::Value>(table, "", after.as_deref(), 500, at(0)).await.expect("a page");
                after = page.last().map(|row| row.key.clone());
                all.extend(page.into_iter().map(|row| (table, row.key, row.value)));
                if after.is_none() {
                    break;
                }
            }
        }
        all
    }

    /// The store in a file, as another process or a later start would open it.
    pub(crate) fn in_file(path: &Path, keys: SealingKeys) -> Result<Self, StoreFault> {
        wait(Self::open(Arc::new(Sqlite::open(path)?), keys, at(0)))
    }
}
