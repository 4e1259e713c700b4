//! A connection, set up; and what SQLite says when something is wrong.

use std::path::Path;

use rusqlite::{Connection as Sqlite, ErrorCode, OpenFlags, config::DbConfig};

use super::file::{Identity, Place};
use crate::store::StoreFault;

/// The journal is cut back to this when it starts anew; it is brought into the file from four megabytes on.
const JOURNAL_BYTES: i64 = 8 << 20;
/// As the file is made; it never changes.
const PAGE_BYTES: u64 = 4096;

/// A connection and the journal that it writes.
pub(super) struct Connection {
    pub(super) sqlite: Sqlite,
    pub(super) journal: Identity,
}

/// What went wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The name leads to another file, or to none.
    Moved,
    /// So does the journal's.
    JournalMoved,
    /// A later version wrote it.
    Newer(i64),
    /// Another program wrote it.
    Foreign,
    /// It is not whole.
    Damaged(String),
    /// The journal cannot be what it must be.
    NoJournal(String),
    /// What SQLite says.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    /// Whether another connection might get further. One that lost its file must stay: it alone still knows what it wrote.
    pub(super) fn calls_for_another_connection(&self) -> bool {
        match self {
            Self::Moved | Self::JournalMoved => false,
            Self::Sql(error) => !matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
            ),
            Self::Newer(_) | Self::Foreign | Self::Damaged(_) | Self::NoJournal(_) => true,
        }
    }

    pub(super) fn fault(self, path: &Path) -> StoreFault {
        let why = match self {
            Self::Moved => {
                "it was moved, removed or replaced while it was in use; put it back, or start anew".to_owned()
            }
            Self::JournalMoved => "its journal (-wal) was moved or removed while it was in use; start anew".to_owned(),
            Self::Newer(version) => format!(
                "a newer version of Stepgate wrote it (its form is {version}, this version knows {})",
                super::schema::STEPS.len()
            ),
            Self::Foreign => "it is another program's database".to_owned(),
            Self::Damaged(what) => format!("it is damaged ({what}); put back a backup"),
            Self::NoJournal(mode) => format!("its disk cannot hold a write-ahead journal (SQLite chose `{mode}`)"),
            Self::Sql(error) => match sql(&error) {
                Some(why) => why,
                None => return StoreFault::Busy,
            },
        };
        StoreFault::Unavailable(format!("{}: {why}", path.display()))
    }
}

/// SQLite's errors in words; `None` when another process has it locked. None is quoted: some texts hold statements.
fn sql(error: &rusqlite::Error) -> Option<String> {
    let Some(code) = error.sqlite_error_code() else {
        return Some("a row has not the form that it must have".to_owned());
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the list is SQLite's; the rest needs no advice")]
    let why = match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => return None,
        ErrorCode::DiskFull => "its disk is full, or it is as large as it may be".to_owned(),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => "it may not be written".to_owned(),
        ErrorCode::CannotOpen => "it cannot be opened".to_owned(),
        ErrorCode::DatabaseCorrupt => "it is damaged; put back a backup".to_owned(),
        ErrorCode::NotADatabase => "it is damaged, or no database; put back a backup".to_owned(),
        ErrorCode::SystemIoFailure => format!("its disk fails ({})", extended(error)),
        other => format!("SQLite fails ({other:?}, {})", extended(error)),
    };
    Some(why)
}

fn extended(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |error| error.extended_code)
}

/// Connects to the file, which is there.
pub(super) fn connect(place: &Place, writes: bool) -> Result<Connection, StoreFault> {
    set_up(place, writes).map_err(|trouble| place.fault(trouble))
}

fn set_up(place: &Place, writes: bool) -> Result<Connection, Trouble> {
    place.check_file()?;
    // Not CREATE: a file that has gone must not be followed by an empty one. The connection stays with one thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sqlite = Sqlite::open_with_flags(&place.path, flags)?;
    sqlite.busy_timeout(place.options.patience)?;
    // What the file says of itself is data: no code of its schema is run, and nobody can write past its form.
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    sqlite.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    sqlite.pragma_update(None, "cell_size_check", true)?;
    sqlite.pragma_update(None, "mmap_size", 0)?;
    sqlite.pragma_update(None, "temp_store", "MEMORY")?;
    if writes {
        // Only of effect before anything is written: what is deleted can be given back to the disk.
        sqlite.pragma_update(None, "page_size", i64::try_from(PAGE_BYTES).unwrap_or(4096))?;
        sqlite.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        let mode: String = sqlite.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Trouble::NoJournal(mode));
        }
        // The journal is on the disk before a commit is answered; on macOS, also out of the disk's own memory.
        sqlite.pragma_update(None, "synchronous", "FULL")?;
        sqlite.pragma_update(None, "fullfsync", true)?;
        sqlite.pragma_update(None, "checkpoint_fullfsync", true)?;
        sqlite.pragma_update(None, "secure_delete", true)?;
        sqlite.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
        let pages = i64::try_from(place.options.max_bytes / PAGE_BYTES).unwrap_or(i64::MAX).max(1);
        sqlite.pragma_update(None, "max_page_count", pages)?;
    } else {
        sqlite.pragma_update(None, "query_only", true)?;
    }
    // The first look at the rows opens the journal, so that its name can be looked at. What was opened is what was checked.
    let _: i64 = sqlite.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    place.check_file()?;
    let journal = Identity::at(&place.journal).map_err(|_| Trouble::JournalMoved)?;
    Ok(Connection { sqlite, journal })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::{
        super::{Options, file},
        *,
    };

    #[test]
    fn a_connection_is_as_durable_and_as_careful_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stepgate.db");
        file::make(&path).unwrap();
        let place = Place::of(&path, Options { max_bytes: 1 << 20, ..Options::default() }).unwrap();
        let (writes, reads) = (connect(&place, true).unwrap(), connect(&place, false).unwrap());
        let ask = |connection: &Connection, pragma: &str| {
            connection.sqlite.pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
        };
        for (pragma, expected) in [
            ("synchronous", 2),
            ("secure_delete", 1),
            ("auto_vacuum", 2),
            ("max_page_count", 256),
            ("trusted_schema", 0),
            ("cell_size_check", 1),
            ("wal_autocheckpoint", 1000),
            ("journal_size_limit", JOURNAL_BYTES),
        ] {
            assert_eq!(ask(&writes, pragma), expected.into(), "{pragma}");
        }
        assert_eq!(ask(&writes, "journal_mode"), "wal".to_owned().into());
        assert_eq!(ask(&reads, "query_only"), 1.into());
        assert!(reads.sqlite.execute_batch("CREATE TABLE t (x)").is_err());
        assert!(writes.sqlite.execute_batch("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema").is_err());
    }
}
