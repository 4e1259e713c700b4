//! Sealing anew: nothing is lost, whoever writes meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::store::{Engine, Pending, Rekeyed, Write};

fn fill(store: &Store, rows: usize) {
    for n in 0..rows {
        let table = if n % 2 == 0 { Table::Factors } else { Table::Accounts };
        let expires_at = (n % 3 == 0).then_some(1000);
        commit(store, Batch::new().insert(table, &format!("{n:04}"), &note(&n.to_string()), expires_at), 1).unwrap();
    }
}

fn rekey(store: &Store) -> Rekeyed {
    wait(store.rekey(at(1), |_| {})).unwrap()
}

#[test]
fn after_a_rekey_the_old_key_can_go_and_everything_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let store = Store::in_file(&path, keys()).unwrap();
    fill(&store, 300);
    let index = store.index("owner", &[b"ann"]);
    let before = read(&store, "0042", 1);
    drop(store);
    let store = Store::in_file(&path, SealingKeys::new(key(2), vec![key(1)])).unwrap();
    let found = wait(store.check_keys(at(1))).unwrap();
    assert_eq!(found.rows.into_iter().collect::<Vec<_>>(), [(key(1).id(), 301)]);
    let mut told = Vec::new();
    let done = wait(store.rekey(at(1), |so_far| told.push(*so_far))).unwrap();
    assert_eq!(done, Rekeyed { pass: 2, seen: 301, resealed: 301, complete: true, ..Rekeyed::default() });
    assert!(told.len() > 4 && told.last() == Some(&done) && told.iter().any(|so_far| so_far.resealed < 301));
    assert_eq!(rekey(&store), Rekeyed { pass: 1, seen: 301, complete: true, ..Rekeyed::default() });
    drop(store);
    let store = Store::in_file(&path, SealingKeys::new(key(2), vec![])).unwrap();
    assert_eq!(store.index("owner", &[b"ann"]), index);
    assert_eq!(read(&store, "0042", 1), before, "its version as well: who read it before can still write");
    assert!(wait(store.check_keys(at(1))).is_ok());
}

#[test]
fn a_key_that_is_taken_out_too_early_is_told_of_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let store = Store::in_file(&path, keys()).unwrap();
    fill(&store, 3);
    // As if the rekey had been cut off after its first row.
    let both = Store::in_file(&path, SealingKeys::new(key(2), vec![key(1)])).unwrap();
    let meta = wait(both.engine.read(Table::Meta, "index".to_owned(), 1)).unwrap().unwrap();
    let place = crate::store::seal::Place::of(Table::Meta, &meta);
    let plain = crate::store::seal::open(&both.keys, place, &meta.value).unwrap();
    let again = both.sealed(Table::Meta, meta.version, meta.clone(), &plain).unwrap();
    wait(both.engine.commit(vec![again], 1)).unwrap();
    let one = Store::in_file(&path, SealingKeys::new(key(2), vec![])).unwrap();
    let fault = wait(one.check_keys(at(1))).unwrap_err().to_string();
    assert!(fault.contains(&format!("3 with key {}", key(1).id())) && fault.contains("stepgate rekey"), "{fault}");
    let done = rekey(&one);
    assert_eq!((done.unreadable, done.resealed, done.complete), (3, 0, false));
    assert_eq!(rekey(&both).resealed, 3);
    assert!(wait(one.check_keys(at(1))).is_ok());
}

/// An engine that lets others in before each commit of more than one row.
#[derive(Debug)]
struct Meddled {
    engine: Arc<dyn Engine>,
    meddle: Box<dyn Meddle>,
}

trait Meddle: Fn() + Send + Sync {}
impl<F: Fn() + Send + Sync> Meddle for F {}
impl std::fmt::Debug for dyn Meddle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddle")
    }
}

impl Engine for Meddled {
    fn read(&self, table: Table, key: String, now: u64) -> Pending<Option<Row>> {
        self.engine.read(table, key, now)
    }
    fn page(&self, table: Table, prefix: String, after: Option<String>, limit: usize, now: u64) -> Pending<Vec<Row>> {
        self.engine.page(table, prefix, after, limit, now)
    }
    fn commit(&self, writes: Vec<Write>, now: u64) -> Pending<()> {
        (self.meddle)();
        self.engine.commit(writes, now)
    }
    fn purge(&self, now: u64) -> Pending<usize> {
        self.engine.purge(now)
    }
}

#[test]
fn whatever_others_write_between_a_rekeys_reading_and_its_writing_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let old = Arc::new(Store::in_file(&path, keys()).unwrap());
    fill(&old, 10);
    let seen_before = read(&old, "0008", 1).unwrap();
    let (other, done) = (Arc::clone(&old), AtomicBool::new(false));
    let meddle = move || {
        if done.swap(true, Ordering::SeqCst) {
            return;
        }
        let version = |key: &str| read(&other, key, 1).unwrap().version;
        let batch = Batch::new()
            .update(Table::Factors, "0002", version("0002"), &note("changed"), None)
            .delete(Table::Factors, "0004", version("0004"))
            .forget(Table::Factors, "0006")
            .insert(Table::Factors, "new", &note("new"), None);
        commit(&other, batch, 1).unwrap();
        let again = Batch::new().forget(Table::Accounts, "0001").insert(Table::Accounts, "0001", &note("again"), None);
        commit(&other, again, 1).unwrap();
    };
    // The meddler comes in at the first commit, which is of the meta row; the pages after it are read later. So the index
    // row is sealed anew first.
    let both = || SealingKeys::new(key(2), vec![key(1)]);
    let engine = Meddled { engine: Arc::clone(&old.engine), meddle: Box::new(meddle) };
    let meta_only = Store::in_file(&path, both()).unwrap();
    let meta = wait(meta_only.engine.read(Table::Meta, "index".to_owned(), 1)).unwrap().unwrap();
    let plain =
        crate::store::seal::open(&meta_only.keys, crate::store::seal::Place::of(Table::Meta, &meta), &meta.value)
            .unwrap();
    let write = meta_only.sealed(Table::Meta, meta.version, meta.clone(), &plain).unwrap();
    wait(meta_only.engine.commit(vec![write], 1)).unwrap();
    let store = wait(Store::open(Arc::new(engine), both(), at(1))).unwrap();
    let done = rekey(&store);
    assert!(done.complete, "{done:?}");
    let text = |key: &str| read(&store, key, 1).map(|row| row.value.text);
    assert_eq!(
        [text("0002"), text("0004"), text("0006"), text("new")],
        [Some("changed".into()), None, None, Some("new".into())]
    );
    let again = wait(store.get::<Note>(Table::Accounts, "0001", at(1))).unwrap().unwrap();
    assert_eq!(again.value, note("again"));
    // Whoever read a row before the rekey writes it after.
    let late = Batch::new().update(Table::Factors, "0008", seen_before.version, &note("late"), None);
    commit(&store, late, 1).unwrap();
}

#[test]
fn a_gateway_that_runs_on_loses_no_count_to_a_rekey() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let first = Store::in_file(&path, keys()).unwrap();
    fill(&first, 200);
    for n in 0..4 {
        commit(&first, Batch::new().insert(Table::Guesses, &n.to_string(), &0_u32, None), 1).unwrap();
    }
    drop(first);
    let both = || SealingKeys::new(key(2), vec![key(1)]);
    let (gateway, operator) = (Store::in_file(&path, both()).unwrap(), Store::in_file(&path, both()).unwrap());
    let running = AtomicBool::new(true);
    let counted = std::thread::scope(|scope| {
        let counters: Vec<_> = (0..4)
            .map(|n| {
                let (gateway, running, key) = (&gateway, &running, n.to_string());
                scope.spawn(move || {
                    let mut counted = 0_u32;
                    while running.load(Ordering::SeqCst) {
                        let row = wait(gateway.get::<u32>(Table::Guesses, &key, at(1))).unwrap().unwrap();
                        assert_eq!(row.value, counted);
                        let next = Batch::new().update(Table::Guesses, &key, row.version, &(counted + 1), None);
                        commit(gateway, next, 1).expect("a rekey makes nobody's write conflict");
                        counted += 1;
                    }
                    counted
                })
            })
            .collect();
        let done = rekey(&operator);
        running.store(false, Ordering::SeqCst);
        assert!(done.complete, "{done:?}");
        counters.into_iter().map(|counter| counter.join().unwrap()).collect::<Vec<_>>()
    });
    for (n, counted) in counted.into_iter().enumerate() {
        let row = wait(gateway.get::<u32>(Table::Guesses, &n.to_string(), at(1))).unwrap().unwrap();
        assert_eq!(row.value, counted);
    }
    assert_eq!(wait(gateway.check_keys(at(1))).unwrap().rows.len(), 1);
}
