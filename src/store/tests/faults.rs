//! Files that are not right: each is a fault that says so, none a panic or an empty store.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use super::*;
use crate::store::{Engine, Write, sqlite::Options};

fn put(key: &str, bytes: usize) -> Write {
    let row = Row { key: key.to_owned(), version: 1, value: vec![7; bytes], expires_at: Some(50) };
    Write::Put { table: Table::Spent, before: 0, row }
}

fn fault(opened: Result<Sqlite, StoreFault>) -> String {
    match opened {
        Err(StoreFault::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn is_there(engine: &Sqlite, key: &str) -> Result<bool, StoreFault> {
    wait(engine.read(Table::Spent, key.to_owned(), 1)).map(|row| row.is_some())
}

/// Copies without opening in this process: SQLite's locks would be lost.
fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn the_file_and_its_folder_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/stepgate.db");
    let engine = Sqlite::open(&path).unwrap();
    assert!(engine.is_new());
    wait(engine.commit(vec![put("k", 1)], 1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for name in ["stepgate.db", "stepgate.db-wal", "stepgate.db-shm"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    assert!(!Sqlite::open(&path).unwrap().is_new());
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("text"), "not a database, but long enough to be looked at ".repeat(40)).unwrap();
    let why = fault(Sqlite::open(&at("text")));
    assert!(why.contains("no database"), "{why}");
    assert!(fs::read_to_string(at("text")).unwrap().starts_with("not a database"));
    fs::create_dir(at("folder")).unwrap();
    assert!(fault(Sqlite::open(&at("folder"))).contains("it is not a file"));
    rusqlite::Connection::open(at("theirs")).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(fault(Sqlite::open(&at("theirs"))).contains("another program's database"));
    fs::write(at("below"), "").unwrap();
    assert!(!fault(Sqlite::open(&at("below/stepgate.db"))).is_empty());
    drop(Sqlite::open(&at("newer")).unwrap());
    rusqlite::Connection::open(at("newer")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let why = fault(Sqlite::open(&at("newer")));
    assert!(why.contains("a newer version of Stepgate wrote it (its form is 99, this version knows 1)"), "{why}");
}

#[test]
fn a_damaged_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (path, damaged) = (folder.path().join("stepgate.db"), folder.path().join("damaged.db"));
    let engine = Sqlite::open(&path).unwrap();
    for n in 0..200 {
        wait(engine.commit(vec![put(&n.to_string(), 500)], 1)).unwrap();
    }
    wait(engine.purge(1)).unwrap();
    copy(&path, &damaged);
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 2000].fill(0xa5);
    fs::write(&damaged, bytes).unwrap();
    let why = fault(Sqlite::open(&damaged));
    assert!(why.contains("damaged") && why.contains("backup"), "{why}");
    copy(&path, &damaged);
    let half = fs::metadata(&damaged).unwrap().len() / 2;
    fs::File::options().write(true).open(&damaged).unwrap().set_len(half).unwrap();
    assert!(fault(Sqlite::open(&damaged)).contains("damaged"));
}

#[test]
fn a_file_that_goes_while_it_is_used_is_never_followed_by_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, aside) = (folder.path().join("stepgate.db"), folder.path().join("aside.db"));
    let engine = Sqlite::open(&path).unwrap();
    wait(engine.commit(vec![put("before", 1)], 1)).unwrap();
    let refused = |engine: &Sqlite, key: &str| {
        let moved = |fault: StoreFault| matches!(fault, StoreFault::Unavailable(why) if why.contains("moved, removed or replaced"));
        assert!(moved(wait(engine.commit(vec![put(key, 1)], 1)).unwrap_err()));
        assert!(moved(is_there(engine, "before").unwrap_err()));
    };
    fs::rename(&path, &aside).unwrap();
    refused(&engine, "lost");
    assert!(!path.exists());
    fs::write(&path, "").unwrap();
    refused(&engine, "lost");
    fs::rename(&aside, &path).unwrap();
    wait(engine.commit(vec![put("after", 1)], 1)).unwrap();
    assert_eq!(
        [is_there(&engine, "before"), is_there(&engine, "lost"), is_there(&engine, "after")],
        [Ok(true), Ok(false), Ok(true)]
    );
}

#[test]
fn a_journal_that_is_taken_away_stops_everything_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let engine = Sqlite::open(&path).unwrap();
    wait(engine.commit(vec![put("before", 1)], 1)).unwrap();
    fs::remove_file(folder.path().join("stepgate.db-wal")).unwrap();
    for _ in 0..2 {
        let fault = wait(engine.commit(vec![put("after", 1)], 1)).unwrap_err();
        assert!(matches!(&fault, StoreFault::Unavailable(why) if why.contains("journal")), "{fault}");
        assert!(is_there(&engine, "before").is_err());
    }
    // As after a kill: what stands in the file now.
    let copied = folder.path().join("copy.db");
    copy(&path, &copied);
    let found = Sqlite::open(&copied).unwrap();
    assert_eq!([is_there(&found, "before"), is_there(&found, "after")], [Ok(true), Ok(false)]);
}

#[test]
fn a_full_disk_fails_what_does_not_fit_and_room_makes_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 400_000, ..Options::default() };
    let engine = Sqlite::open_with(&folder.path().join("stepgate.db"), options).unwrap();
    let insert = |n: usize| wait(engine.commit(vec![put(&format!("{n:04}"), 20_000)], 1));
    let full = (0..1000).find(|&n| insert(n).is_err()).unwrap();
    assert!((10..30).contains(&full), "{full}");
    let again = insert(full).unwrap_err();
    assert!(matches!(&again, StoreFault::Unavailable(why) if why.contains("full")), "{again}");
    let rows = wait(engine.page(Table::Spent, String::new(), None, 1000, 1)).unwrap();
    assert_eq!(rows.len(), full, "what was acknowledged and no more");
    assert_eq!(wait(engine.purge(50)), Ok(full));
    insert(full).unwrap();
}

#[test]
fn a_file_that_may_not_be_written_is_said_so() {
    // Whoever may do everything is not kept from it.
    if rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    drop(Sqlite::open(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(fault(Sqlite::open(&path)).contains("may not be written"));
}

#[test]
fn the_files_stay_bounded_while_rows_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let engine = Sqlite::open(&path).unwrap();
    let size = |name: &str| fs::metadata(folder.path().join(name)).map_or(0, |found| found.len());
    let mut after_first = 0;
    for round in 0..6 {
        let asked: Vec<_> = (0..800).map(|n| engine.commit(vec![put(&format!("{round}/{n}"), 2000)], 1)).collect();
        assert!(asked.into_iter().all(|answer| wait(answer).is_ok()));
        while wait(engine.purge(50)).unwrap() > 0 {}
        let grown = size("stepgate.db");
        after_first = if round == 0 { grown } else { after_first };
        assert!(grown <= after_first + 400_000, "round {round}: {grown} after {after_first}");
        assert!(size("stepgate.db-wal") < 9 << 20);
    }
}

#[test]
fn after_a_failure_it_connects_anew_until_all_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let engine = Sqlite::open(&path).unwrap();
    wait(engine.commit(vec![put("before", 1)], 1)).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("ALTER TABLE rows RENAME TO hidden").unwrap();
    for _ in 0..3 {
        let fault = wait(engine.commit(vec![put("lost", 1)], 1)).unwrap_err();
        assert!(matches!(&fault, StoreFault::Unavailable(why) if !why.contains("rows")), "{fault}");
        assert!(is_there(&engine, "before").is_err());
    }
    other.execute_batch("ALTER TABLE hidden RENAME TO rows").unwrap();
    wait(engine.commit(vec![put("after", 1)], 1)).unwrap();
    assert_eq!(["before", "lost", "after"].map(|key| is_there(&engine, key)), [Ok(true), Ok(false), Ok(true)]);
}

#[test]
fn a_backup_made_while_it_is_written_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("stepgate.db"), folder.path().join("backup.db"));
    let store = Store::in_file(&path, keys()).unwrap();
    commit(&store, Batch::new().insert(Table::Factors, "k", &note("kept"), None), 1).unwrap();
    let others = rusqlite::Connection::open(&path).unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for n in 0..200 {
                commit(&store, Batch::new().insert(Table::Spent, &n.to_string(), &n, None), 1).unwrap();
            }
        });
        others.execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
        writing.join().unwrap();
    });
    let restored = Store::in_file(&backup, keys()).unwrap();
    assert_eq!(read(&restored, "k", 1).unwrap().value, note("kept"));
    assert_eq!(restored.index("a", &[]), store.index("a", &[]));
}

#[test]
fn a_link_in_the_files_place_leads_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (link, elsewhere) = (folder.path().join("stepgate.db"), folder.path().join("disk"));
    fs::create_dir(&elsewhere).unwrap();
    drop(Sqlite::open(&elsewhere.join("rows.db")).unwrap());
    std::os::unix::fs::symlink(elsewhere.join("rows.db"), &link).unwrap();
    let engine = Sqlite::open(&link).unwrap();
    wait(engine.commit(vec![put("k", 1)], 1)).unwrap();
    assert_eq!(is_there(&engine, "k"), Ok(true));
    let dangling = folder.path().join("dangling.db");
    std::os::unix::fs::symlink(folder.path().join("none"), &dangling).unwrap();
    assert!(!fault(Sqlite::open(&dangling)).is_empty() && !folder.path().join("none").exists());
}
