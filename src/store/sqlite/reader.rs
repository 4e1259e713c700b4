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
            if job.is_awaited() && !self.answer(connection, &mut reading, job) {
                return;
            }
            next = self.jobs.recv().ok();
        }
    }

    /// Does a job; `false` when another connection is called for.
    fn answer(&self, connection: &Connection, reading: &mut Reading<'_>, job: Job) -> bool {
        // A file that is not where the next start looks for it would be read as if nothing had happened.
        let found = self.place.check(connection.journal);
        match job {
            Job::Read { table, key, now, answer } => {
                self.tell(answer, found.and_then(|()| Ok(reading.one(table, &key, now)?)))
            }
            Job::Page { page, answer } => self.tell(answer, found.and_then(|()| Ok(reading.page(&page)?))),
        }
    }

    fn tell<T>(&self, answer: oneshot::Sender<Result<T, StoreFault>>, read: Result<T, Trouble>) -> bool {
        let reconnect = read.as_ref().is_err_and(Trouble::calls_for_another_connection);
        drop(answer.send(read.map_err(|trouble| self.place.fault(trouble))));
        !reconnect
    }
}
