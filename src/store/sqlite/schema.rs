//! The form of the file, by steps: each is one transaction, and the number of the last one stands in the file.

use rusqlite::Connection;

use super::connection::Trouble;

/// Says in the file's head that it is ours: "Step".
const APPLICATION: i64 = 0x5374_6570;

/// The steps. One that was released never changes.
pub(super) const STEPS: &[&str] = &[
    // 1: the rows. Those that never expire are not in the index.
    "CREATE TABLE rows (
        tbl TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        value BLOB NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (tbl, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX rows_by_expiry ON rows (expires_at) WHERE expires_at IS NOT NULL;",
];

/// Checks that the file is ours, is whole, and was not written by a later version. It reads all of it.
pub(super) fn check(sqlite: &Connection) -> Result<(), Trouble> {
    let application: i64 = sqlite.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found: i64 = sqlite.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && (application != 0 || found > 0) {
        return Err(Trouble::Foreign);
    }
    let version = version(sqlite)?;
    if usize::try_from(version).is_ok_and(|version| version > STEPS.len()) {
        return Err(Trouble::Newer(version));
    }
    let verdict: String = sqlite.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    // What it says names pages and no values, but may be long.
    if verdict == "ok" { Ok(()) } else { Err(Trouble::Damaged(verdict.chars().take(200).collect())) }
}

/// Does the steps that are still to be done.
pub(super) fn migrate(sqlite: &Connection) -> Result<(), Trouble> {
    migrate_by(sqlite, STEPS)
}

fn migrate_by(sqlite: &Connection, steps: &[&str]) -> Result<(), Trouble> {
    loop {
        sqlite.execute_batch("BEGIN IMMEDIATE")?;
        // Read within the transaction: another process may have done it meanwhile.
        let done = step(sqlite, steps);
        let ended = match done {
            Ok(_) => sqlite.execute_batch("COMMIT").map_err(Trouble::from),
            Err(_) => Ok(()),
        };
        if !sqlite.is_autocommit() {
            sqlite.execute_batch("ROLLBACK")?;
        }
        ended?;
        if !done? {
            return Ok(());
        }
    }
}

/// Does the next step; `false` when there is none.
fn step(sqlite: &Connection, steps: &[&str]) -> Result<bool, Trouble> {
    let version = version(sqlite)?;
    let Some(step) = usize::try_from(version).ok().and_then(|done| steps.get(done)) else { return Ok(false) };
    sqlite.execute_batch(step)?;
    sqlite.pragma_update(None, "application_id", APPLICATION)?;
    sqlite.pragma_update(None, "user_version", version.saturating_add(1))?;
    Ok(true)
}

fn version(sqlite: &Connection) -> Result<i64, Trouble> {
    Ok(sqlite.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn objects(sqlite: &Connection) -> Vec<String> {
        let mut names = sqlite.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
        names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn step_1_makes_the_rows_and_their_index() {
        let sqlite = Connection::open_in_memory().unwrap();
        check(&sqlite).unwrap();
        migrate_by(&sqlite, &STEPS[..1]).unwrap();
        assert_eq!(objects(&sqlite), ["rows", "rows_by_expiry"]);
        assert_eq!(version(&sqlite).unwrap(), 1);
        check(&sqlite).unwrap();
        let row = "INSERT INTO rows VALUES ('meta', 'k', 1, x'00', NULL)";
        sqlite.execute(row, []).unwrap();
        assert!(sqlite.execute(row, []).is_err(), "one row a key");
        assert!(sqlite.execute("INSERT INTO rows VALUES ('meta', 'l', 'one', x'00', NULL)", []).is_err(), "strict");
    }

    #[test]
    fn each_step_is_done_once_and_whole_or_not_at_all() {
        let sqlite = Connection::open_in_memory().unwrap();
        let second = "CREATE TABLE more (x); INSERT INTO more VALUES (1);";
        let steps = [STEPS[0], second];
        migrate_by(&sqlite, &steps[..1]).unwrap();
        migrate_by(&sqlite, &steps).unwrap();
        migrate_by(&sqlite, &steps).unwrap();
        let rows: i64 = sqlite.query_row("SELECT count(*) FROM more", [], |row| row.get(0)).unwrap();
        assert_eq!((rows, version(&sqlite).unwrap()), (1, 2));
        let broken = [STEPS[0], second, "CREATE TABLE third (x); INSERT INTO nothing VALUES (1);"];
        assert!(migrate_by(&sqlite, &broken).is_err());
        assert_eq!(objects(&sqlite), ["more", "rows", "rows_by_expiry"]);
        assert!(sqlite.is_autocommit() && version(&sqlite).unwrap() == 2);
        assert!(matches!(check(&sqlite), Err(Trouble::Newer(2))));
    }

    #[test]
    fn another_programs_database_is_left_alone() {
        let sqlite = Connection::open_in_memory().unwrap();
        sqlite.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(check(&sqlite), Err(Trouble::Foreign)));
        let sqlite = Connection::open_in_memory().unwrap();
        sqlite.pragma_update(None, "application_id", 7).unwrap();
        assert!(matches!(check(&sqlite), Err(Trouble::Foreign)));
    }
}
