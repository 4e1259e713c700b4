//! The engine against a naive model, over random histories.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Row, Sqlite, StoreFault, Table, wait};
use crate::store::{Engine, PURGE_STEP, Write};

/// What happens.
#[derive(Debug, Clone)]
enum Event {
    Commit(Vec<Step>),
    /// Several commits that are asked for at once.
    Together(Vec<Vec<Step>>),
    Pass(u64),
    Purge,
    Reopen,
    Page(String, Option<String>, usize),
}

/// A write, by what is there: the model knows the versions.
#[derive(Debug, Clone)]
enum Step {
    Put { key: String, right: bool, insert: bool, value: u8, ttl: Option<u64> },
    Delete { key: String, right: bool },
    Forget { key: String },
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "a/", "a/b", "a/é", "b", "c"]).prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Step> {
    let right = || prop::bool::weighted(0.8);
    let put = (key(), right(), any::<bool>(), any::<u8>(), prop::option::of(0_u64..6));
    prop_oneof![
        4 => put.prop_map(|(key, right, insert, value, ttl)| Step::Put { key, right, insert, value, ttl }),
        1 => (key(), right()).prop_map(|(key, right)| Step::Delete { key, right }),
        1 => key().prop_map(|key| Step::Forget { key }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let steps = || prop::collection::vec(step(), 1..4);
    prop_oneof![
        8 => steps().prop_map(Event::Commit),
        3 => prop::collection::vec(steps(), 2..5).prop_map(Event::Together),
        2 => (1_u64..4).prop_map(Event::Pass),
        1 => Just(Event::Purge),
        1 => Just(Event::Reopen),
        2 => (key(), prop::option::of(key()), 0_usize..5).prop_map(|(prefix, after, limit)| Event::Page(prefix, after, limit)),
    ]
}

/// The naive store.
#[derive(Default)]
struct Model {
    rows: BTreeMap<String, Row>,
    now: u64,
    drawn: u64,
}

impl Model {
    fn live(&self, key: &str) -> Option<&Row> {
        self.rows.get(key).filter(|row| row.expires_at.is_none_or(|at| at > self.now))
    }

    fn apply(&mut self, steps: &[Step]) -> (Vec<Write>, Result<(), StoreFault>) {
        let before = self.rows.clone();
        let mut writes = Vec::new();
        let mut verdict = Ok(());
        for step in steps {
            let (write, fits) = self.one(step);
            writes.push(write);
            if !fits {
                verdict = Err(StoreFault::Conflict);
            }
        }
        if verdict.is_err() {
            self.rows = before;
        }
        (writes, verdict)
    }

    fn one(&mut self, step: &Step) -> (Write, bool) {
        let table = Table::Factors;
        let version = |model: &Self, key: &str, right: bool| {
            model.live(key).map_or(0, |row| row.version).saturating_add(u64::from(!right))
        };
        match step {
            Step::Put { key, right, insert, value, ttl } => {
                let there = self.live(key).is_some();
                let before = if *insert { 0 } else { version(self, key, *right) };
                let fits = if before == 0 { !there } else { there && *right };
                self.drawn += 1000;
                let next = if before == 0 { self.drawn } else { before + 1 };
                let expires_at = ttl.map(|ttl| self.now + ttl);
                let row = Row { key: key.clone(), version: next, value: vec![*value], expires_at };
                if fits {
                    self.rows.insert(key.clone(), row.clone());
                }
                (Write::Put { table, before, row }, fits)
            }
            Step::Delete { key, right } => {
                let version = version(self, key, *right);
                let fits = self.live(key).is_some() && *right;
                if fits {
                    self.rows.remove(key);
                }
                (Write::Delete(table, key.clone(), version), fits)
            }
            Step::Forget { key } => {
                self.rows.remove(key);
                (Write::Forget(table, key.clone()), true)
            }
        }
    }

    fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Row> {
        let live = self.rows.values().filter(|row| self.live(&row.key).is_some());
        let fits = |row: &&Row| row.key.starts_with(prefix) && after.is_none_or(|after| row.key.as_str() > after);
        live.filter(fits).take(limit).cloned().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_engine_does_what_a_naive_map_does(events in prop::collection::vec(event(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stepgate.db");
        let mut engine = Sqlite::open(&path).unwrap();
        let mut model = Model { now: 100, ..Model::default() };
        for event in events {
            match event {
                Event::Commit(steps) => {
                    let (writes, expected) = model.apply(&steps);
                    prop_assert_eq!(wait(engine.commit(writes, model.now)), expected);
                }
                Event::Together(commits) => {
                    let mut asked = Vec::new();
                    for steps in commits {
                        let (writes, expected) = model.apply(&steps);
                        asked.push((engine.commit(writes, model.now), expected));
                    }
                    for (answer, expected) in asked {
                        prop_assert_eq!(wait(answer), expected);
                    }
                }
                Event::Pass(secs) => model.now += secs,
                Event::Purge => {
                    let now = model.now;
                    let before = model.rows.len();
                    model.rows.retain(|_, row| row.expires_at.is_none_or(|at| at > now));
                    prop_assert!(before < PURGE_STEP);
                    prop_assert_eq!(wait(engine.purge(now)), Ok(before - model.rows.len()));
                }
                Event::Reopen => engine = Sqlite::open(&path).unwrap(),
                Event::Page(prefix, after, limit) => {
                    let expected = model.page(&prefix, after.as_deref(), limit);
                    let page = engine.page(Table::Factors, prefix, after, limit, model.now);
                    prop_assert_eq!(wait(page), Ok(expected));
                }
            }
            for key in ["", "a", "a/", "a/b", "a/é", "b", "c"] {
                let read = wait(engine.read(Table::Factors, key.to_owned(), model.now));
                prop_assert_eq!(read, Ok(model.live(key).cloned()));
            }
        }
        let other = wait(engine.page(Table::Sessions, String::new(), None, 9, model.now));
        prop_assert_eq!(other, Ok(Vec::new()), "no other table has anything of it");
    }
}
