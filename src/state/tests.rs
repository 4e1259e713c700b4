//! What is opened once stays open, and of two that could deliver the one in force alone does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{Background, State, StateMeans, Task, Unobserved};
use crate::{
    clock::{Clock, SystemClock},
    config::{self, Config, Materials, Problem},
    notify::NotifyObserver,
    store::{Batch, Table, testing::at},
};

const AUTHORITY: &str = "authority: {url: https://api.example, danger_cleartext: true}\n";
const REST: &str = "
listeners: [{address: 127.0.0.1:0, cleartext: true}]
issuers: {main: {issuer: https://idp.example/, audience: [api], keys: {discovery: true}, algorithms: [ES256]}}
upstreams: {api: {targets: [http://127.0.0.1:9100]}}
routes: [{path: /**, upstream: api, auth: [main]}]
";

struct Given;

impl Materials for Given {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is no such file".to_owned())
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "KEY" => Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            "SECOND" => Some("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=".to_owned()),
            _ => None,
        }
    }
}

fn load(first: &str) -> Config {
    let text = format!("{first}{REST}");
    let env = |name: &str| Given.env(name);
    let input = config::Input { file: Path::new("gateway.yaml"), text: &text, base: Path::new("."), env: &env };
    match config::load(&input) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{:#?}", problems.list),
    }
}

fn open(first: &str, folder: &TempDir, previous: Option<&State>) -> Result<Option<Arc<State>>, Vec<Problem>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let deliveries: Arc<dyn NotifyObserver> = Arc::new(crate::notify::Unobserved);
    let means = StateMeans {
        handle: &Handle::current(),
        clock: &clock,
        state_dir: folder.path(),
        roots: &crate::client::MachineRoots::nobody(),
        observer: &(Arc::new(Unobserved) as _),
        deliveries: &deliveries,
    };
    State::open(&load(first), &Given, &means, previous)
}

fn with_key(sealing: &str) -> String {
    format!("sealing: {sealing}\n{AUTHORITY}")
}

#[tokio::test]
async fn nothing_is_opened_where_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    assert!(open("", &folder, None).unwrap().is_none());
    assert!(open("sealing: {key: {env: KEY}}\n", &folder, None).unwrap().is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_store_is_opened_once_and_kept_over_reloads() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_key("{key: {env: KEY}}");
    let first = open(&yaml, &folder, None).unwrap().unwrap();
    assert!(first.is_running(), "nothing was before it");
    let second = open(&yaml, &folder, Some(&first)).unwrap().unwrap();
    assert!(Arc::ptr_eq(first.store(), second.store()) && Arc::ptr_eq(first.outbox(), second.outbox()));
    drop(first);
    assert!(second.is_running());
}

#[tokio::test]
async fn another_key_seals_after_a_reload_and_one_outbox_alone_delivers() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&with_key("{key: {env: KEY}}"), &folder, None).unwrap().unwrap();
    first.store().commit(Batch::new().insert(Table::Sent, "a", &1, None), at(1)).await.unwrap();
    let both = with_key("{key: {env: SECOND}, previous: [{env: KEY}]}");
    drop(open(&both, &folder, Some(&first)).unwrap());
    assert!(first.is_running(), "a configuration that was refused after all has changed nothing");
    let second = open(&both, &folder, Some(&first)).unwrap().unwrap();
    assert!(!Arc::ptr_eq(first.store(), second.store()) && second.has_file_of(&first));
    assert!(first.is_running() && !second.is_running(), "it may be refused yet");
    for _ in 0..2 {
        second.put_in_force();
        assert!(second.is_running() && !first.is_running());
    }
    first.put_in_force();
    assert!(!first.is_running(), "whoever still has the one before does not start it again");
    assert_eq!(second.store().get::<u8>(Table::Sent, "a", at(2)).await.unwrap().unwrap().value, 1);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_a_problem_of_check_and_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = with_key("{key: {env: ABSENT}}");
    assert!(State::check(&load(&yaml), &Given).is_some());
    assert!(State::check(&load(&with_key("{key: {env: KEY}}")), &Given).is_none());
    let problems = open(&yaml, &folder, None).unwrap_err();
    assert!(problems.iter().any(|problem| problem.span.key.starts_with("sealing")), "{problems:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A task that counts how many run, and says how many it saw at most.
fn counted(running: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>) -> Task {
    struct Leaves(Arc<AtomicUsize>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let (running, most) = (running.clone(), most.clone());
    Box::pin(async move {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _leaves = Leaves(running);
        std::future::pending::<()>().await;
    })
}

#[tokio::test]
async fn what_takes_over_begins_when_what_ran_before_has_ended_and_ends_with_its_owner() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut last = Background::after(&Handle::current(), None);
    for _ in 0..20 {
        last.start(vec![counted(&running, &most)]);
        while running.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let next = Background::after(&Handle::current(), Some(&last));
        next.start(vec![counted(&running, &most)]);
        last = next;
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
    drop(last);
    while running.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}
