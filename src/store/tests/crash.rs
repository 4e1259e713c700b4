//! Killed at any instant: what was acknowledged is there, what is once is once, and nothing is half done.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;

/// Says to the test's second self where to write; the first has it killed.
const CHILD: &str = "STEPGATE_STORE_TEST_CHILD";
/// How long all rounds may take.
const LONG: Duration = Duration::from_secs(10);

/// What the second self does: spends grants for ever, eight at once, each with a count in two rows; and says of each which it
/// was once it is acknowledged.
fn write_until_killed(path: &Path, round: usize) {
    let store = Store::in_file(path, keys()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0.. {
                    let id = format!("{round}/{writer}/{n}");
                    let mut batch = Batch::new().insert(Table::Spent, &id, &n, None);
                    for half in ["left", "right"] {
                        let key = format!("{writer}/{half}");
                        let there = wait(store.get::<u64>(Table::Guesses, &key, at(1))).unwrap();
                        batch = match there {
                            Some(row) => batch.update(Table::Guesses, &key, row.version, &(row.value + 1), None),
                            None => batch.insert(Table::Guesses, &key, &1_u64, None),
                        };
                    }
                    commit(store, batch, 1).unwrap();
                    if n % 16 == 15 {
                        wait(store.purge(at(1))).unwrap();
                    }
                    let mut out = std::io::stdout().lock();
                    // In one write, so that a kill cuts it off before or after.
                    out.write_all(format!("\ndone {id}\n").as_bytes()).unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
}

fn child(path: &Path, round: usize) -> Child {
    let name = "store::tests::crash::a_kill_at_any_instant_loses_nothing_and_revives_nothing";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]).env(CHILD, format!("{round}:{}", path.display()));
    child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_kill_at_any_instant_loses_nothing_and_revives_nothing() {
    if let Ok(told) = std::env::var(CHILD) {
        let (round, path) = told.split_once(':').unwrap();
        return write_until_killed(Path::new(path), round.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let (started, mut rounds, mut acknowledged) = (Instant::now(), 0, Vec::new());
    while rounds < 25 && started.elapsed() < LONG {
        let mut child = child(&path, rounds);
        let output = BufReader::new(child.stdout.take().unwrap());
        let (killed_after, mut said) = (1 + rounds * 7 % 60, 0);
        for line in output.lines().map_while(Result::ok) {
            if let Some(id) = line.strip_prefix("done ") {
                acknowledged.push(id.to_owned());
                said += 1;
            }
            if said == killed_after {
                // What it still says before the signal is there is read as well.
                let _ = child.kill();
            }
        }
        child.wait().unwrap();
        assert!(said >= killed_after, "round {rounds}: the child ended by itself");
        rounds += 1;
        check(&path, &acknowledged);
    }
    assert!(rounds >= 3, "{rounds} rounds");
}

/// Opens what is left, as a new start would.
fn check(path: &Path, acknowledged: &[String]) {
    let store = Store::in_file(path, keys()).unwrap();
    let mut spent = BTreeMap::<String, u64>::new();
    let mut after: Option<String> = None;
    loop {
        let page = wait(store.page::<u64>(Table::Spent, "", after.as_deref(), 1000, at(1))).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        for row in page {
            let writer = row.key.split('/').nth(1).unwrap().to_owned();
            *spent.entry(writer).or_default() += 1;
            spent.insert(row.key, 1);
        }
    }
    for id in acknowledged {
        assert!(spent.contains_key(id), "{id} was acknowledged");
    }
    for id in acknowledged.iter().rev().take(50) {
        let again = Batch::new().insert(Table::Spent, id, &0, None);
        assert_eq!(commit(&store, again, 1), Err(StoreFault::Conflict), "{id} is spent");
    }
    for writer in 0..8 {
        let count = |half: &str| {
            let row = wait(store.get::<u64>(Table::Guesses, &format!("{writer}/{half}"), at(1))).unwrap();
            row.map_or(0, |row| row.value)
        };
        let grants = spent.get(&writer.to_string()).copied().unwrap_or(0);
        assert_eq!((count("left"), count("right")), (grants, grants), "each commit whole");
    }
}

/// Copies without opening in this process: SQLite's locks would be lost.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_journal_whose_end_did_not_reach_the_disk_gives_whole_commits_and_no_gaps() {
    const COMMITS: u64 = 24;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let store = Store::in_file(&path, keys()).unwrap();
    for n in 0..COMMITS {
        let put = |batch: Batch, half: &str| match wait(store.get::<u64>(Table::Guesses, half, at(1))).unwrap() {
            Some(row) => batch.update(Table::Guesses, half, row.version, &(row.value + 1), None),
            None => batch.insert(Table::Guesses, half, &1_u64, None),
        };
        let batch = ["left", "right"].into_iter().fold(Batch::new(), put);
        commit(&store, batch.insert(Table::Spent, &format!("{n:04}"), &"x".repeat(900), None), 1).unwrap();
    }
    let journal = folder.path().join("stepgate.db-wal");
    let length = std::fs::metadata(&journal).unwrap().len();
    let mut counts = std::collections::BTreeSet::new();
    // Cut within frames and between them; with each step another part of a frame is the last.
    for kept in (0..=length).rev().step_by(usize::try_from(length / 150).unwrap() | 1) {
        // Another name each time: the threads of the one before may still have it open.
        let cut = folder.path().join(format!("{kept}.db"));
        for (suffix, from) in [("", &path), ("-wal", &journal)] {
            copy(from, &crate::files::beside(&cut, suffix));
        }
        let file = std::fs::File::options().write(true).open(crate::files::beside(&cut, "-wal")).unwrap();
        file.set_len(kept).unwrap();
        drop(file);
        let found = Store::in_file(&cut, keys()).unwrap_or_else(|fault| panic!("cut at {kept} of {length}: {fault}"));
        let count =
            |half: &str| wait(found.get::<u64>(Table::Guesses, half, at(1))).unwrap().map_or(0, |row| row.value);
        let spent = wait(found.page::<String>(Table::Spent, "", None, 1000, at(1))).unwrap();
        assert_eq!((count("left"), count("right")), (spent.len() as u64, spent.len() as u64), "{kept}");
        assert!(spent.iter().zip(0..).all(|(row, n)| row.key == format!("{n:04}")), "a gap at {kept}");
        counts.insert(spent.len());
    }
    assert!(counts.contains(&usize::try_from(COMMITS).unwrap()) && counts.len() > 10, "{counts:?}");
}
