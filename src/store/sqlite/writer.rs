//! The thread that writes: takes the commits that have gathered, makes them one transaction, and answers when the disk has it.
//!
//! ```text
//!                ┌──────────── SQLite fails ────────────┐
//!                │                                      v
//!            connected                             disconnected   each group tries to connect anew;
//!                ^                                      │          till then it is told why not
//!                └──────────── connected ───────────────┘
//! ```
//! A full disk, a lock of another process or a file that was moved away fails a group and no more.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    connection::{Connection, Trouble, connect},
    file::Place,
    rows::Writing,
};
use crate::store::{PURGE_STEP, StoreFault, Write};

/// Commits that become one transaction: enough to share the wait for the disk, few enough that none waits long for others.
const GROUP: usize = 256;
/// Pages that a purge gives back to the disk.
const VACUUM: &str = "PRAGMA incremental_vacuum(256)";

/// What the thread is asked for.
pub(super) enum Job {
    /// Several writes, all or none.
    Commit { writes: Vec<Write>, now: u64, bytes: usize, answer: oneshot::Sender<Result<(), StoreFault>> },
    /// Taking away what has expired.
    Purge { now: u64, answer: oneshot::Sender<Result<usize, StoreFault>> },
}

impl Job {
    /// Tells whoever waits; if nobody does, it is done all the same.
    fn answer(self, verdict: Result<usize, StoreFault>) {
        match self {
            Self::Commit { answer, .. } => drop(answer.send(verdict.map(|_| ()))),
            Self::Purge { answer, .. } => drop(answer.send(verdict)),
        }
    }
}

/// The thread's state.
pub(super) struct Writer {
    place: Arc<Place>,
    jobs: Receiver<Job>,
    queued_bytes: Arc<AtomicUsize>,
    /// Whether the operator was told that it fails: once, not for each commit.
    failing: Cell<bool>,
}

/// Why a connection is no longer used.
enum Ended {
    /// Nobody can ask for anything any more.
    Closed,
    /// It failed.
    Failed,
}

impl Writer {
    pub(super) fn new(place: Arc<Place>, jobs: Receiver<Job>, queued_bytes: Arc<AtomicUsize>) -> Self {
        Self { place, jobs, queued_bytes, failing: Cell::new(false) }
    }

    /// Works until nobody can ask for anything any more.
    pub(super) fn run(self, connection: Connection) {
        let mut connected = Some(connection);
        while let Some(group) = self.gather() {
            let connection = match connected.take().map_or_else(|| connect(&self.place, true), Ok) {
                Ok(connection) => connection,
                Err(fault) => {
                    self.refuse(group, &fault);
                    continue;
                }
            };
            match self.work(&connection, group) {
                Ended::Closed => return tidy(&connection),
                // Closing it brings the journal into the file, as far as that can be done.
                Ended::Failed => drop(connection),
            }
        }
    }

    /// Waits for a commit, and takes those that wait with it.
    fn gather(&self) -> Option<Vec<Job>> {
        let first = self.jobs.recv().ok()?;
        let mut group = vec![first];
        group.extend(self.jobs.try_iter().take(GROUP - 1));
        let bytes = |job: &Job| match job {
            Job::Commit { bytes, .. } => *bytes,
            Job::Purge { .. } => 0,
        };
        self.queued_bytes.fetch_sub(group.iter().map(bytes).sum(), Ordering::AcqRel);
        Some(group)
    }

    /// Does one group after the other.
    fn work(&self, connection: &Connection, first: Vec<Job>) -> Ended {
        let mut writing = match Writing::prepare(&connection.sqlite) {
            Ok(writing) => writing,
            Err(error) => {
                self.refuse(first, &self.place.fault(error.into()));
                return Ended::Failed;
            }
        };
        let mut next = Some(first);
        while let Some(group) = next {
            if !self.group(connection, &mut writing, group) {
                return Ended::Failed;
            }
            next = self.gather();
        }
        Ended::Closed
    }

    /// Does a group; `false` when another connection is called for.
    fn group(&self, connection: &Connection, writing: &mut Writing<'_>, group: Vec<Job>) -> bool {
        match self.transaction(connection, writing, &group) {
            Ok(verdicts) => {
                if self.failing.replace(false) {
                    tracing::info!("the store can be written again");
                }
                let mut purged_all = false;
                for (job, verdict) in group.into_iter().zip(verdicts) {
                    purged_all |= matches!((&job, &verdict), (Job::Purge { .. }, Ok(rows)) if *rows < PURGE_STEP);
                    job.answer(verdict);
                }
                if purged_all {
                    let _ = connection.sqlite.execute_batch(VACUUM);
                    tidy(connection);
                }
                true
            }
            Err(trouble) => {
                if !connection.sqlite.is_autocommit() {
                    let _ = connection.sqlite.execute_batch("ROLLBACK");
                }
                if matches!(trouble, Trouble::JournalMoved) {
                    // This connection alone still has the journal: what it holds is brought to where a new start finds it.
                    tidy(connection);
                }
                let reconnect = trouble.calls_for_another_connection();
                let fault = self.place.fault(trouble);
                self.refuse(group, &fault);
                !reconnect
            }
        }
    }

    fn refuse(&self, group: Vec<Job>, fault: &StoreFault) {
        if !self.failing.replace(true) {
            tracing::error!(error = %fault, "the store cannot be written");
        }
        for job in group {
            job.answer(Err(fault.clone()));
        }
    }

    /// One transaction; what became of each job. An error: of none.
    fn transaction(
        &self,
        connection: &Connection,
        writing: &mut Writing<'_>,
        group: &[Job],
    ) -> Result<Vec<Result<usize, StoreFault>>, Trouble> {
        self.place.check(connection.journal)?;
        connection.sqlite.execute_batch("BEGIN IMMEDIATE")?;
        let verdicts = group.iter().map(|job| one(&connection.sqlite, writing, job)).collect::<Result<_, _>>()?;
        connection.sqlite.execute_batch("COMMIT")?;
        // Only what is where the next start looks for it is durable.
        self.place.check(connection.journal)?;
        Ok(verdicts)
    }
}

/// Does one job within the transaction; a conflict undoes what this one did.
fn one(
    sqlite: &rusqlite::Connection,
    writing: &mut Writing<'_>,
    job: &Job,
) -> Result<Result<usize, StoreFault>, rusqlite::Error> {
    match job {
        Job::Purge { now, .. } => writing.purge(*now).map(Ok),
        // One statement is all or none by itself.
        Job::Commit { writes, now, .. } if writes.len() == 1 => all(writing, writes, *now),
        Job::Commit { writes, now, .. } => {
            sqlite.execute_batch("SAVEPOINT one")?;
            let verdict = all(writing, writes, *now)?;
            let end = if verdict.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
            sqlite.execute_batch(end)?;
            Ok(verdict)
        }
    }
}

fn all(writing: &mut Writing<'_>, writes: &[Write], now: u64) -> Result<Result<usize, StoreFault>, rusqlite::Error> {
    for write in writes {
        if !writing.write(write, now)? {
            return Ok(Err(StoreFault::Conflict));
        }
    }
    Ok(Ok(writes.len()))
}

/// Brings the journal into the file and empties it, as far as nobody reads in it just now: waiting for them would make
/// commits wait.
fn tidy(connection: &Connection) {
    let patience = connection.sqlite.query_row("PRAGMA busy_timeout", [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    let _ = connection.sqlite.busy_timeout(Duration::ZERO);
    let _ = connection.sqlite.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    let _ = connection.sqlite.busy_timeout(Duration::from_millis(u64::try_from(patience).unwrap_or(0)));
}
