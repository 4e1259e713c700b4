//! The statements. A row that has expired is as if it were not there, in each of them.

use rusqlite::{Connection, Result, Statement, named_params};

use crate::store::{PURGE_STEP, Row, Table, Write};

/// Rows whose keys begin with a prefix and come after one.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) table: Table,
    pub(super) prefix: String,
    pub(super) after: Option<String>,
    pub(super) limit: usize,
    pub(super) now: u64,
}

/// A number as SQLite has them. What goes in was checked before; a time beyond all times is the last one.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The statements that read.
pub(super) struct Reading<'c> {
    one: Statement<'c>,
    from: Statement<'c>,
    after: Statement<'c>,
}

impl<'c> Reading<'c> {
    pub(super) fn prepare(sqlite: &'c Connection) -> Result<Self> {
        Ok(Self {
            one: sqlite.prepare(
                "SELECT key, version, value, expires_at FROM rows WHERE tbl = :tbl AND key = :key
                    AND (expires_at IS NULL OR expires_at > :now)",
            )?,
            from: sqlite.prepare(
                "SELECT key, version, value, expires_at FROM rows WHERE tbl = :tbl AND key >= :key ORDER BY key",
            )?,
            after: sqlite.prepare(
                "SELECT key, version, value, expires_at FROM rows WHERE tbl = :tbl AND key > :key ORDER BY key",
            )?,
        })
    }

    pub(super) fn one(&mut self, table: Table, key: &str, now: u64) -> Result<Option<Row>> {
        let mut rows = self.one.query(named_params! {":tbl": table.name(), ":key": key, ":now": number(now)})?;
        rows.next()?.map(row).transpose()
    }

    pub(super) fn page(&mut self, page: &Page) -> Result<Vec<Row>> {
        // Keys that begin alike stand together, in the order of their bytes, and the prefix itself is the first of them.
        let (statement, start) = match &page.after {
            Some(after) if after.as_bytes() >= page.prefix.as_bytes() => (&mut self.after, after),
            Some(_) | None => (&mut self.from, &page.prefix),
        };
        let mut rows = statement.query(named_params! {":tbl": page.table.name(), ":key": start})?;
        let mut found = Vec::new();
        while found.len() < page.limit {
            let Some(next) = rows.next()? else { break };
            if !next.get_ref(0)?.as_bytes()?.starts_with(page.prefix.as_bytes()) {
                break;
            }
            let row = row(next)?;
            if row.expires_at.is_none_or(|at| at > page.now) {
                found.push(row);
            }
        }
        Ok(found)
    }
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row> {
    // One below zero was never written: as 0 no version fits it, and it has long expired.
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let expires_at = row.get::<_, Option<i64>>(3)?.map(number);
    Ok(Row { key: row.get(0)?, version: number(row.get(1)?), value: row.get(2)?, expires_at })
}

/// The statements that write.
pub(super) struct Writing<'c> {
    insert: Statement<'c>,
    update: Statement<'c>,
    delete: Statement<'c>,
    forget: Statement<'c>,
    purge: Statement<'c>,
}

impl<'c> Writing<'c> {
    pub(super) fn prepare(sqlite: &'c Connection) -> Result<Self> {
        Ok(Self {
            insert: sqlite.prepare(
                "INSERT INTO rows (tbl, key, version, value, expires_at) VALUES (:tbl, :key, :version, :value, :expires_at)
                    ON CONFLICT (tbl, key) DO UPDATE
                        SET version = excluded.version, value = excluded.value, expires_at = excluded.expires_at
                        WHERE rows.expires_at <= :now",
            )?,
            update: sqlite.prepare(
                "UPDATE rows SET version = :version, value = :value, expires_at = :expires_at
                    WHERE tbl = :tbl AND key = :key AND version = :before
                    AND (rows.expires_at IS NULL OR rows.expires_at > :now)",
            )?,
            delete: sqlite.prepare(
                "DELETE FROM rows WHERE tbl = :tbl AND key = :key AND version = :version
                    AND (expires_at IS NULL OR expires_at > :now)",
            )?,
            forget: sqlite.prepare("DELETE FROM rows WHERE tbl = :tbl AND key = :key")?,
            purge: sqlite.prepare(
                "DELETE FROM rows WHERE (tbl, key) IN (SELECT tbl, key FROM rows WHERE expires_at <= :now LIMIT :most)",
            )?,
        })
    }

    /// Does a write; `false` when the row is not as the writer believed.
    pub(super) fn write(&mut self, write: &Write, now: u64) -> Result<bool> {
        match write {
            Write::Put { table, before, row } => self.put(*table, *before, row, now),
            Write::Delete(table, key, version) => {
                let at = named_params! {
                    ":tbl": table.name(), ":key": key, ":version": number(*version), ":now": number(now)
                };
                Ok(self.delete.execute(at)? == 1)
            }
            Write::Forget(table, key) => {
                self.forget.execute(named_params! {":tbl": table.name(), ":key": key})?;
                Ok(true)
            }
        }
    }

    fn put(&mut self, table: Table, before: u64, row: &Row, now: u64) -> Result<bool> {
        let (version, now, expires_at) = (number(row.version), number(now), row.expires_at.map(number));
        let written = if before == 0 {
            self.insert.execute(named_params! {
                ":tbl": table.name(), ":key": row.key, ":version": version, ":value": row.value,
                ":expires_at": expires_at, ":now": now,
            })?
        } else {
            self.update.execute(named_params! {
                ":tbl": table.name(), ":key": row.key, ":version": version, ":value": row.value,
                ":expires_at": expires_at, ":now": now, ":before": number(before),
            })?
        };
        Ok(written == 1)
    }

    /// Takes away rows that have expired; how many.
    pub(super) fn purge(&mut self, now: u64) -> Result<usize> {
        self.purge.execute(named_params! {":now": number(now), ":most": PURGE_STEP as i64})
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    /// What SQLite does for a statement.
    fn plan(sqlite: &Connection, statement: &Statement<'_>) -> String {
        let text = statement.expanded_sql().unwrap();
        let mut plan = sqlite.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let lines = plan.query_map([], |row| row.get::<_, String>(3)).unwrap().map(Result::unwrap);
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn no_statement_looks_at_all_rows_or_sorts_them() {
        let sqlite = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&sqlite).unwrap();
        let reading = Reading::prepare(&sqlite).unwrap();
        let writing = Writing::prepare(&sqlite).unwrap();
        let read = [&reading.one, &reading.from, &reading.after];
        let written = [&writing.update, &writing.delete, &writing.forget, &writing.purge];
        for statement in read.into_iter().chain(written) {
            let plan = plan(&sqlite, statement);
            assert!(plan.contains("SEARCH rows USING") && !plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
        }
        assert!(plan(&sqlite, &writing.purge).contains("rows_by_expiry"));
    }
}
