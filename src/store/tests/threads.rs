//! Many at once: races, the queue's bound, a lock of another process's, and the end of the threads.

use std::{
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::store::{Engine, Write};

fn put(key: &str, version: u64) -> Write {
    let row = Row { key: key.to_owned(), version, value: vec![1; 100], expires_at: None };
    Write::Put { table: Table::Spent, before: version - 1, row }
}

#[test]
fn of_many_who_insert_one_row_exactly_one_has_done_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    // Two engines on one file, as of two processes.
    let engines = [Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap()];
    let start = Barrier::new(16);
    for round in 0..20 {
        let race = |racer: usize| {
            let engine = &engines[racer % 2];
            start.wait();
            let writes = vec![put(&format!("mine-{round}-{racer}"), 1), put(&format!("grant-{round}"), 1)];
            wait(engine.commit(writes, 1))
        };
        let answers = thread::scope(|scope| {
            let racers: Vec<_> = (0..16).map(|racer| scope.spawn(move || race(racer))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| **answer == Err(StoreFault::Conflict)).count(), 15);
        let left = wait(engines[0].page(Table::Spent, format!("mine-{round}-"), None, 99, 1)).unwrap();
        assert_eq!(left.len(), 1, "what came with a commit that failed is not there");
    }
}

#[test]
fn of_many_who_replace_one_version_each_counts_once() {
    let store = Arc::new(Store::for_tests());
    commit(&store, Batch::new().insert(Table::Guesses, "k", &0_u32, None), 1).unwrap();
    let count = |store: &Store| {
        for _ in 0..20 {
            loop {
                let row = wait(store.get::<u32>(Table::Guesses, "k", at(1))).unwrap().unwrap();
                let next = Batch::new().update(Table::Guesses, "k", row.version, &(row.value + 1), None);
                match commit(store, next, 1) {
                    Ok(()) => break,
                    Err(fault) => assert_eq!(fault, StoreFault::Conflict),
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| count(&store));
        }
    });
    assert_eq!(wait(store.get::<u32>(Table::Guesses, "k", at(1))).unwrap().unwrap().value, 80);
}

#[test]
fn while_another_process_writes_reads_go_on_and_the_queue_has_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let options = crate::store::sqlite::Options { patience: Duration::from_secs(120), ..Default::default() };
    let engine = Sqlite::open_with(&path, options).unwrap();
    wait(engine.commit(vec![put("there", 1)], 1)).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut asked: Vec<_> = (0..3000).map(|n| engine.commit(vec![put(&format!("k{n}"), 1)], 1)).collect();
    let started = Instant::now();
    assert!(wait(engine.read(Table::Spent, "there".to_owned(), 1)).unwrap().is_some());
    assert!(started.elapsed() < Duration::from_secs(30), "a read waits for no commit");
    assert_eq!(wait(asked.pop().unwrap()), Err(StoreFault::Busy), "too many wait");
    other.execute_batch("ROLLBACK").unwrap();
    let done = asked.into_iter().map(wait).filter(Result::is_ok).count();
    assert!((1024..=1024 + 256).contains(&done), "{done}");
    wait(engine.commit(vec![put("after", 1)], 1)).unwrap();
}

#[test]
fn another_process_that_does_not_give_up_its_lock_is_busy_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let options = crate::store::sqlite::Options { patience: Duration::from_millis(50), ..Default::default() };
    let engine = Sqlite::open_with(&path, options).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(wait(engine.commit(vec![put("k", 1)], 1)), Err(StoreFault::Busy));
    other.execute_batch("ROLLBACK").unwrap();
    wait(engine.commit(vec![put("k", 1)], 1)).unwrap();
}

#[test]
fn values_that_wait_have_a_bound_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    // Filling the queue may take long on a busy machine: nothing in it gives up before that.
    let options = crate::store::sqlite::Options { patience: Duration::from_secs(120), ..Default::default() };
    let engine = Sqlite::open_with(&path, options).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let big = |n: usize| {
        let row = Row { key: n.to_string(), version: 1, value: vec![0; 256 << 10], expires_at: None };
        engine.commit(vec![Write::Put { table: Table::Spent, before: 0, row }], 1)
    };
    // The writer takes a group out while it is filled, at any moment: so much may wait twice, and no more.
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for mut answer in (0..600).map(big) {
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                assert_eq!(answer, Err(StoreFault::Busy));
                refused += 1;
            }
            Poll::Pending => waiting.push(answer),
        }
    }
    assert!((200..=520).contains(&waiting.len()) && refused >= 80, "{} and {refused}", waiting.len());
    other.execute_batch("ROLLBACK").unwrap();
    for answer in waiting {
        wait(answer).unwrap();
    }
    wait(big(9999)).unwrap();
}

#[test]
fn what_was_queued_is_done_when_the_engine_goes_and_its_threads_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let engine = Sqlite::open(&path).unwrap();
    let asked: Vec<_> = (0..500).map(|n| engine.commit(vec![put(&format!("k{n}"), 1)], 1)).collect();
    // An answer that nobody waits for changes nothing.
    drop(engine.commit(vec![put("unheard", 1)], 1));
    drop(engine);
    assert!(asked.into_iter().all(|answer| wait(answer).is_ok()));
    // The last connection that is closed takes the journal away.
    let (journal, started) = (folder.path().join("stepgate.db-wal"), Instant::now());
    while journal.exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "the threads did not end");
        thread::yield_now();
    }
    let engine = Sqlite::open(&path).unwrap();
    assert!(wait(engine.read(Table::Spent, "unheard".to_owned(), 1)).unwrap().is_some());
    assert_eq!(wait(engine.page(Table::Spent, "k".to_owned(), None, 1000, 1)).unwrap().len(), 500);
}
