//! The thread that reads, on a connection of its own: it sees what was committed, and waits for no commit.

use std::sync::{Arc, mpsc::Receiver};

use tokio::sync::oneshot;

use super::{
    connection::{Connection, Trouble, connect},
    file::Place,
    rows::{Page, Reading},
};
use crate::store::{Row, StoreFault, Table};

/// What the thread is asked for.
pub(super) enum Job {
    /// One row.
    Read { table: Table, key: String, now: u64, answer: oneshot::Sender<Result<Option<Row>, StoreFault>> },
    /// Several, in the order of their keys.
    Page { page: Page, answer: oneshot::Sender<Result<Vec<Row>, StoreFault>> },
}

impl Job {
    fn refuse(self, fault: StoreFault) {
        match self {
            Self::Read { answer, .. } => drop(answer.send(Err(fault))),
            Self::Page { answer, .. } => drop(answer.send(Err(fault))),
        }
    }

    /// Reads; a job that cannot be done comes back.
    fn work(self, reading: &mut Reading<'_>) -> Result<(), (Self, Trouble)> {
        match self {
            Self::Read { table, key, now, answer } => match reading.one(table, &key, now) {
                Ok(row) => drop(answer.send(Ok(row))),
                Err(error) => return Err((Self::Read { table, key, now, answer }, error.into())),
            },
            Self::Page { page, answer } => match reading.page(&page) {
                Ok(rows) => drop(answer.send(Ok(rows))),
                Err(error) => return Err((Self::Page { page, answer }, error.into())),
            },
        }
        Ok(())
    }

    /// Whether somebody still waits for the answer.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Read { answer, .. } => !answer.is_closed(),
            Self::Page { answer, .. } => !answer.is_closed(),
        }
    }
}

/// The thread's state.
pub(super) struct Reader {
    place: Arc<Place>,
    jobs: Receiver<Job>,
}

impl Reader {
    pub(super) fn new(place: Arc<Place>, jobs: Receiver<Job>) -> Self {
        Self { place, jobs }
    }

    /// Works until nobody can ask for anything any more.
    pub(super) fn run(self, connection: Connection) {
        let mut connected = Some(connection);
        while let Ok(job) = self.jobs.recv() {
            match connected.take().map_or_else(|| connect(&self.place, false), Ok) {
                Ok(connection) => {
                    // Dropped when it failed: the next job connects anew.
                    self.work(&connection, job);
                }
                Err(fault) => job.refuse(fault),
            }
        }
    }

    /// Does one job after the other, until one fails for which another connection might not.
    fn work(&self, connection: &Connection, first: Job) {
        let mut reading = match Reading::prepare(&connection.sqlite) {
            Ok(reading) => reading,
            Err(error) => return first.refuse(self.place.fault(error.into())),
        };
        let mut next = Some(first);
        while let Some(job) = next {
            if job.is_awaited() {
                // A file that is not where the next start looks for it would be read as if nothing had happened.
                let done = match self.place.check(connection.journal) {
                    Ok(()) => job.work(&mut reading),
                    Err(trouble) => Err((job, trouble)),
                };
                if let Err((job, trouble)) = done {
                    let reconnect = trouble.calls_for_another_connection();
                    job.refuse(self.place.fault(trouble));
                    if reconnect {
                        return;
                    }
                }
            }
            next = self.jobs.recv().ok();
        }
    }
}
