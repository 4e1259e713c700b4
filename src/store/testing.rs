//! Stores for tests: real ones, in a folder that goes with them, and one that can be broken.
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
pub(crate) struct Breaker(Arc<AtomicBool>);

impl Breaker {
    /// From now on nothing can be read or written.
    pub(crate) fn break_it(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// From now on everything is as before.
    pub(crate) fn mend(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    fn guard<T: Send + 'static>(&self, answer: impl FnOnce() -> Pending<T>) -> Pending<T> {
        if self.0.load(Ordering::SeqCst) {
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

    /// The store in a file, as another process or a later start would open it.
    pub(crate) fn in_file(path: &Path, keys: SealingKeys) -> Result<Self, StoreFault> {
        wait(Self::open(Arc::new(Sqlite::open(path)?), keys, at(0)))
    }
}
