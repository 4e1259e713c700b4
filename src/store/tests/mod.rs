//! The store as its users see it, on the real engine.

mod crash;
mod faults;
mod model;
mod rekey;
mod threads;

use serde::{Deserialize, Serialize};

use super::{Batch, Row, SealingKeys, Sqlite, Store, StoreFault, Table, Versioned, testing::*};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    text: String,
}

fn note(text: &str) -> Note {
    Note { text: text.to_owned() }
}

fn keys() -> SealingKeys {
    SealingKeys::new(key(1), vec![])
}

fn read(store: &Store, key: &str, secs: u64) -> Option<Versioned<Note>> {
    wait(store.get(Table::Factors, key, at(secs))).unwrap()
}

fn commit(store: &Store, batch: Batch, secs: u64) -> Result<(), StoreFault> {
    wait(store.commit(batch, at(secs)))
}

#[test]
fn a_row_is_replaced_only_by_who_knows_its_version() {
    let store = Store::for_tests();
    let insert = |text: &str| Batch::new().insert(Table::Factors, "k", &note(text), None);
    commit(&store, insert("one"), 1).unwrap();
    assert_eq!(commit(&store, insert("two"), 1), Err(StoreFault::Conflict));
    let first = read(&store, "k", 1).unwrap();
    assert_eq!((first.value, first.expires_at), (note("one"), None));
    let update = |version| Batch::new().update(Table::Factors, "k", version, &note("three"), Some(9));
    assert_eq!(commit(&store, update(first.version + 1), 1), Err(StoreFault::Conflict));
    commit(&store, update(first.version), 1).unwrap();
    assert_eq!(commit(&store, update(first.version), 1), Err(StoreFault::Conflict));
    let second = read(&store, "k", 1).unwrap();
    assert_eq!((second.value, second.expires_at), (note("three"), Some(9)));
    assert_eq!(commit(&store, Batch::new().delete(Table::Factors, "k", first.version), 1), Err(StoreFault::Conflict));
    commit(&store, Batch::new().delete(Table::Factors, "k", second.version), 1).unwrap();
    assert_eq!(read(&store, "k", 1), None);
    assert_eq!(commit(&store, update(second.version), 1), Err(StoreFault::Conflict));
    commit(&store, Batch::new().forget(Table::Factors, "k").forget(Table::Factors, "never"), 1).unwrap();
    commit(&store, Batch::new(), 1).unwrap();
}

#[test]
fn a_row_that_is_put_anew_is_not_taken_for_the_one_that_was_there() {
    let store = Store::for_tests();
    let insert = |secs| commit(&store, Batch::new().insert(Table::Guesses, "k", &1, Some(10)), secs);
    insert(1).unwrap();
    let version = || wait(store.get::<u32>(Table::Guesses, "k", at(19))).unwrap().unwrap().version;
    let old = wait(store.get::<u32>(Table::Guesses, "k", at(1))).unwrap().unwrap().version;
    commit(&store, Batch::new().insert(Table::Guesses, "k", &1, Some(20)), 15).unwrap();
    assert_ne!(version(), old, "in the place of one that had expired");
    let update = |before| commit(&store, Batch::new().update(Table::Guesses, "k", before, &2, Some(20)), 15);
    assert_eq!(update(old), Err(StoreFault::Conflict));
    let second = version();
    commit(&store, Batch::new().forget(Table::Guesses, "k"), 15).unwrap();
    commit(&store, Batch::new().insert(Table::Guesses, "k", &1, Some(20)), 15).unwrap();
    assert_eq!(update(second), Err(StoreFault::Conflict));
    update(version()).unwrap();
}

#[test]
fn a_commit_says_which_versions_it_put() {
    let store = Store::for_tests();
    let batch = Batch::new().insert(Table::Factors, "a", &note("a"), None).forget(Table::Factors, "x").insert(
        Table::Factors,
        "b",
        &note("b"),
        None,
    );
    let versions = wait(store.commit_versions(batch, at(1))).unwrap();
    assert_eq!(["a", "b"].map(|key| read(&store, key, 1).unwrap().version), versions[..]);
    let update = Batch::new().update(Table::Factors, "b", versions[1], &note("c"), None);
    assert_eq!(wait(store.commit_versions(update, at(1))).unwrap(), [versions[1] + 1]);
    assert_eq!(wait(store.commit_versions(Batch::new(), at(1))), Ok(vec![]));
}

#[test]
fn a_commit_is_all_or_nothing() {
    let store = Store::for_tests();
    commit(&store, Batch::new().insert(Table::Spent, "there", &(), None), 1).unwrap();
    let batch = Batch::new().insert(Table::Factors, "k", &note("x"), None).forget(Table::Spent, "there").insert(
        Table::Factors,
        "k",
        &note("again"),
        None,
    );
    assert_eq!(commit(&store, batch, 1), Err(StoreFault::Conflict));
    assert_eq!(read(&store, "k", 1), None);
    assert!(wait(store.get::<()>(Table::Spent, "there", at(1))).unwrap().is_some());
}

#[test]
fn what_has_expired_is_not_there_and_is_purged() {
    let store = Store::for_tests();
    for (key, expires_at) in [("a", Some(10)), ("b", Some(11)), ("c", None)] {
        commit(&store, Batch::new().insert(Table::Factors, key, &note(key), expires_at), 1).unwrap();
    }
    let page = |secs| {
        let page = wait(store.page::<Note>(Table::Factors, "", None, 9, at(secs))).unwrap();
        page.into_iter().map(|row| row.key).collect::<String>()
    };
    assert_eq!((page(9), page(10), page(11)), ("abc".into(), "bc".into(), "c".into()));
    let version = read(&store, "a", 9).unwrap().version;
    for batch in [
        Batch::new().delete(Table::Factors, "a", version),
        Batch::new().update(Table::Factors, "a", version, &note("x"), None),
    ] {
        assert_eq!(commit(&store, batch, 10), Err(StoreFault::Conflict));
    }
    assert_eq!(wait(store.purge(at(9))).unwrap(), 0);
    assert_eq!(wait(store.purge(at(11))).unwrap(), 2);
    assert_eq!(page(1), "c", "gone, whatever the time");
}

#[test]
fn a_leap_of_the_clock_that_is_taken_back_revives_nothing() {
    let store = Store::for_tests();
    commit(&store, Batch::new().insert(Table::Spent, "grant", &(), Some(1000)), 1).unwrap();
    wait(store.purge(at(2))).unwrap();
    assert_eq!(wait(store.purge(at(1_000_000))).unwrap(), 0, "not believed yet");
    let again = Batch::new().insert(Table::Spent, "grant", &(), Some(1000));
    assert_eq!(commit(&store, again, 3), Err(StoreFault::Conflict));
}

#[test]
fn pages_follow_one_another_in_the_order_of_the_keys() {
    let store = Store::for_tests();
    let mut batch = Batch::new();
    for key in ["a", "a/", "a/1", "a/2", "a/\u{10ffff}", "a0", "b", ""] {
        batch = batch.insert(Table::Factors, key, &note(key), None);
    }
    commit(&store, batch, 1).unwrap();
    let page = |prefix: &str, after: Option<&str>, limit: usize| {
        let rows = wait(store.page::<Note>(Table::Factors, prefix, after, limit, at(1))).unwrap();
        rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
    };
    assert_eq!(page("a/", None, 9), ["a/", "a/1", "a/2", "a/\u{10ffff}"]);
    assert_eq!(page("a/", Some("a/1"), 1), ["a/2"]);
    assert_eq!(page("a/", Some("a"), 2), ["a/", "a/1"]);
    assert_eq!(page("a/", Some("a0"), 2), [""; 0]);
    assert_eq!(page("", None, 3), ["", "a", "a/"]);
    assert_eq!(page("", None, 0), [""; 0]);
    assert_eq!(page("c", None, usize::MAX), [""; 0]);
}

#[test]
fn an_index_is_the_same_after_a_restart_and_parts_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/stepgate.db");
    let store = Store::in_file(&path, keys()).unwrap();
    let index = store.index("owner", &[b"issuer", b"subject"]);
    assert_eq!(index.len(), 64);
    assert!(index.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
    drop(store);
    let store = Store::in_file(&path, keys()).unwrap();
    assert_eq!(store.index("owner", &[b"issuer", b"subject"]), index);
    let others: [(&str, &[&[u8]]); 6] = [
        ("owner", &[b"issuers", b"ubject"]),
        ("owner", &[b"issuersubject"]),
        ("owner", &[b"issuer", b"subject", b""]),
        ("owner", &[b"subject", b"issuer"]),
        ("", &[b"owner", b"issuer", b"subject"]),
        ("code", &[b"issuer", b"subject"]),
    ];
    for (purpose, parts) in others {
        assert_ne!(store.index(purpose, parts), index);
    }
    assert_ne!(Store::for_tests().index("owner", &[b"issuer", b"subject"]), index, "another store's");
}

#[test]
fn the_file_tells_neither_values_nor_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let store = Store::in_file(&path, keys()).unwrap();
    let key = store.index("owner", &[b"ann@example.com"]);
    commit(&store, Batch::new().insert(Table::Factors, &key, &note("JBSWY3DPEHPK3PXP"), None), 1).unwrap();
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        // A copy, as a backup is: the file itself is only SQLite's to open.
        let (from, to) = (entry.unwrap().path(), folder.path().join("copy"));
        let copied = std::process::Command::new("cp").arg(&from).arg(&to).status();
        assert!(copied.unwrap().success());
        seen.extend(std::fs::read(&to).unwrap());
        std::fs::remove_file(&to).unwrap();
    }
    let holds = |text: &str| seen.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&key), "the test looks at the right files");
    assert!(!holds("JBSWY3DPEHPK3PXP") && !holds("ann@"));
    assert!(!format!("{store:?}").contains("[0,"));
}

#[test]
fn a_store_whose_key_is_not_there_does_not_open_and_says_which_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    drop(Store::in_file(&path, keys()).unwrap());
    let fault = Store::in_file(&path, SealingKeys::new(key(2), vec![key(3)])).unwrap_err();
    let StoreFault::Unreadable(why) = &fault else { panic!("{fault}") };
    assert!(why.contains(&format!("sealed with key {}, which is not", key(1).id())), "{why}");
    assert!(why.contains(&key(3).id().to_string()), "{why}");
    drop(Store::in_file(&path, SealingKeys::new(key(2), vec![key(1)])).unwrap());
}

#[test]
fn a_store_that_lost_its_index_key_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let store = Store::in_file(&path, keys()).unwrap();
    commit(&store, Batch::new().insert(Table::Outbox, "k", &1, None), 1).unwrap();
    commit(&store, Batch::new().forget(Table::Meta, "index"), 1).unwrap();
    let fault = Store::in_file(&path, keys()).unwrap_err();
    assert!(matches!(&fault, StoreFault::Unreadable(why) if why.contains("index key is missing")), "{fault}");
}

#[test]
fn a_row_of_another_place_or_an_older_value_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stepgate.db");
    let store = Store::in_file(&path, keys()).unwrap();
    for key in ["ann", "mallory"] {
        commit(&store, Batch::new().insert(Table::Factors, key, &note(key), Some(50)), 1).unwrap();
    }
    let old = read(&store, "ann", 1).unwrap();
    let sqlite = rusqlite::Connection::open(&path).unwrap();
    sqlite.execute_batch("CREATE TEMP TABLE old AS SELECT * FROM rows WHERE tbl = 'factors' AND key = 'ann'").unwrap();
    commit(&store, Batch::new().update(Table::Factors, "ann", old.version, &note("new"), Some(50)), 1).unwrap();
    for forgery in [
        "UPDATE rows SET value = (SELECT value FROM rows WHERE key = 'mallory') WHERE key = 'ann'",
        "UPDATE rows SET value = (SELECT value FROM old) WHERE key = 'ann'",
        "UPDATE rows SET expires_at = 5000 WHERE key = 'ann'",
        "UPDATE rows SET expires_at = NULL WHERE key = 'ann'",
        "UPDATE rows SET version = version - 1 WHERE key = 'ann'",
        "UPDATE rows SET version = -1, expires_at = NULL WHERE key = 'ann'",
        "DELETE FROM rows WHERE key = 'ann'; UPDATE rows SET key = 'ann' WHERE key = 'mallory'",
        "UPDATE rows SET tbl = 'sessions' WHERE key = 'ann'; UPDATE rows SET tbl = 'factors', key = 'ann' WHERE key = 'mallory'",
    ] {
        sqlite.execute_batch(&format!("BEGIN; {forgery}")).unwrap();
        sqlite.execute_batch("COMMIT").unwrap();
        let read = wait(store.get::<Note>(Table::Factors, "ann", at(1)));
        assert!(matches!(&read, Err(StoreFault::Unreadable(_))), "{forgery}: {read:?}");
        let page = wait(store.page::<Note>(Table::Factors, "ann", None, 9, at(1)));
        assert!(matches!(page, Err(StoreFault::Unreadable(_))), "{forgery}");
        sqlite.execute_batch("DELETE FROM rows WHERE tbl <> 'meta'; INSERT INTO rows SELECT * FROM old").unwrap();
        assert_eq!(read_text(&store), "ann", "{forgery}");
        commit(&store, Batch::new().insert(Table::Factors, "mallory", &note("mallory"), Some(50)), 1).unwrap();
        commit(&store, Batch::new().update(Table::Factors, "ann", old.version, &note("new"), Some(50)), 1).unwrap();
    }
}

fn read_text(store: &Store) -> String {
    read(store, "ann", 1).unwrap().value.text
}

#[test]
fn a_value_of_another_form_is_a_fault_that_does_not_quote_it() {
    let store = Store::for_tests();
    commit(&store, Batch::new().insert(Table::Factors, "k", &"a secret text", None), 1).unwrap();
    let fault = wait(store.get::<Note>(Table::Factors, "k", at(1))).unwrap_err().to_string();
    assert!(fault.contains("another form") && !fault.contains("secret"), "{fault}");
}

#[test]
fn there_are_bounds() {
    let store = Store::for_tests();
    let insert = |key: &str, text: &str| commit(&store, Batch::new().insert(Table::Factors, key, &note(text), None), 1);
    insert(&"k".repeat(super::MAX_KEY), "").unwrap();
    assert!(matches!(insert(&"k".repeat(super::MAX_KEY + 1), ""), Err(StoreFault::Unavailable(_))));
    insert("long", &"x".repeat(200_000)).unwrap();
    assert!(matches!(insert("longer", &"x".repeat(300_000)), Err(StoreFault::Unavailable(_))));
    let many = |count: usize| {
        let write = |batch: Batch, at: usize| batch.forget(Table::Spent, &at.to_string());
        commit(&store, (0..count).fold(Batch::new(), write), 1)
    };
    many(super::MAX_WRITES).unwrap();
    assert!(matches!(many(super::MAX_WRITES + 1), Err(StoreFault::Unavailable(_))));
    let never = Batch::new().insert(Table::Factors, "never", &note(""), Some(u64::MAX));
    commit(&store, never, 1).unwrap();
    assert_eq!(read(&store, "never", u64::MAX / 1000).unwrap().expires_at, Some(i64::MAX.unsigned_abs()));
}

#[test]
fn a_broken_store_is_a_fault_and_mended_it_is_as_before() {
    let (store, breaker) = Store::breakable_for_tests();
    commit(&store, Batch::new().insert(Table::Factors, "k", &note("x"), None), 1).unwrap();
    breaker.break_it();
    assert!(matches!(wait(store.get::<Note>(Table::Factors, "k", at(1))), Err(StoreFault::Unavailable(_))));
    assert!(matches!(commit(&store, Batch::new().forget(Table::Factors, "k"), 1), Err(StoreFault::Unavailable(_))));
    breaker.mend();
    let (engine, sealed_by) = store.parts_for_tests();
    assert!(sealed_by == key(1).id() && wait(engine.read(Table::Meta, "index".to_owned(), 1)).unwrap().is_some());
    assert!(read(&store, "k", 1).is_some());
}
