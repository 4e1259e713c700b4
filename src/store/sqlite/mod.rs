//! Rows in one SQLite file. Writes wait in a queue for one thread, which makes those that have gathered one transaction:
//! one wait for the disk for all of them. Reads have a thread and a connection of their own, so that none waits for it.
//!
//! ```text
//!   commit ──> queue ──> writer   BEGIN · each commit in a SAVEPOINT · COMMIT (the journal is on the disk) ──> answers
//!   read   ──> queue ──> reader   sees what was committed when it looks
//! ```
//!
//! Several processes may have the file open: a command of the operator's beside the gateway. It must be on a disk of this
//! machine, as SQLite's locks are not kept by every network file system.

mod connection;
mod file;
mod reader;
mod rows;
mod schema;
mod writer;

use std::{
    fmt, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use self::{connection::connect, file::Place};
use super::{Engine, MAX_KEY, MAX_PAGE, MAX_WRITES, Pending, Row, StoreFault, Table, Write};
use crate::files;

/// Commits that may wait for the disk; more than a disk makes durable in a second.
const COMMITS: usize = 1024;
/// Bytes of values that may wait for it.
const BYTES: usize = 64 << 20;
/// Reads that may wait.
const READS: usize = 4096;
/// The longest sealed value: the longest that the store seals, and its head and tag.
const MAX_SEALED: usize = (256 << 10) + 128;

/// What can be chosen of the file; the default is what the gateway uses.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How large it may grow, in bytes: a bound on what strangers can fill the disk with. Some ten million factors.
    pub max_bytes: u64,
    /// How long to wait for another process that writes.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 8 << 30, patience: Duration::from_secs(5) }
    }
}

/// Rows in a file.
///
/// When it is dropped its threads do what was queued, bring the journal into the file and end; nobody waits for them.
pub struct Sqlite {
    place: Arc<Place>,
    writes: SyncSender<writer::Job>,
    reads: SyncSender<reader::Job>,
    queued_bytes: Arc<AtomicUsize>,
    is_new: bool,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.place.path).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the file, or makes it, for its owner alone, with its folder; checks that it is whole, and brings it to this
    /// version's form. It reads all of the file: not to be called where others wait.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`]: why it cannot be used. A file that is not right is never replaced by an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreFault> {
        Self::open_with(path, Options::default())
    }

    /// The same with other bounds.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(path: &Path, options: Options) -> Result<Self, StoreFault> {
        let fault = |why: &io::Error| StoreFault::Unavailable(format!("{}: {why}", path.display()));
        file::make_folder(path).map_err(|why| fault(&why))?;
        // One at a time: two that make the file at once would be in each other's way.
        let lock = files::Lock::on(path).map_err(|why| fault(&why))?;
        let is_new = file::make(path).map_err(|why| fault(&why))?;
        let place = Place::of(path, options).map_err(|why| fault(&why))?;
        let writing = connect(&place, true)?;
        schema::check(&writing.sqlite)
            .and_then(|()| schema::migrate(&writing.sqlite))
            .map_err(|why| place.fault(why))?;
        let reading = connect(&place, false)?;
        drop(lock);

        let (place, queued_bytes) = (Arc::new(place), Arc::new(AtomicUsize::new(0)));
        let (writes, to_write) = sync_channel(COMMITS);
        let (reads, to_read) = sync_channel(READS);
        let writer = writer::Writer::new(Arc::clone(&place), to_write, Arc::clone(&queued_bytes));
        let reader = reader::Reader::new(Arc::clone(&place), to_read);
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(|why| fault(&why))
        };
        start("store-write", Box::new(move || writer.run(writing)))?;
        start("store-read", Box::new(move || reader.run(reading)))?;
        if is_new {
            tracing::warn!(path = %path.display(), "there was no store: an empty one was made, and nobody has a second factor yet");
        }
        Ok(Self { place, writes, reads, queued_bytes, is_new })
    }

    /// Whether there was no file before.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreFault>>) -> writer::Job,
    ) -> Pending<T> {
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        if queued.saturating_add(bytes) > BYTES {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return ready(StoreFault::Busy);
        }
        let pending = ask(&self.writes, job);
        if pending.is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        pending.unwrap_or_else(ready)
    }
}

/// Queues a question; the answer is still to come.
fn ask<J, T: Send + 'static>(
    queue: &SyncSender<J>,
    job: impl FnOnce(oneshot::Sender<Result<T, StoreFault>>) -> J,
) -> Result<Pending<T>, StoreFault> {
    let (answer, answered) = oneshot::channel();
    match queue.try_send(job(answer)) {
        Ok(()) => Ok(Box::pin(async { answered.await.unwrap_or_else(|_| Err(ended())) })),
        Err(TrySendError::Full(_)) => Err(StoreFault::Busy),
        Err(TrySendError::Disconnected(_)) => Err(ended()),
    }
}

fn ready<T: Send + 'static>(fault: StoreFault) -> Pending<T> {
    Box::pin(std::future::ready(Err(fault)))
}

fn ended() -> StoreFault {
    StoreFault::Unavailable("its thread has ended".to_owned())
}

/// What the file can hold of a commit; how many bytes wait with it.
fn weigh(writes: &[Write]) -> Result<usize, StoreFault> {
    let too_much = |what: &str| Err(StoreFault::Unavailable(format!("a commit was not taken: {what}")));
    if writes.len() > MAX_WRITES {
        return too_much("it has too many writes");
    }
    let mut bytes = 0_usize;
    for write in writes {
        let (key, value) = match write {
            Write::Put { row, .. } => (&row.key, row.value.len()),
            Write::Delete(_, key, _) | Write::Forget(_, key) => (key, 0),
        };
        if key.len() > MAX_KEY || value > MAX_SEALED {
            return too_much("a key or a value is too long");
        }
        if let Write::Put { before, row, .. } = write {
            let countable = |number: u64| i64::try_from(number).is_ok();
            if row.version == 0 || ![*before, row.version, row.expires_at.unwrap_or(0)].into_iter().all(countable) {
                return too_much("a version or an expiry is out of range");
            }
        }
        bytes = bytes.saturating_add(key.len() + value + 64);
    }
    Ok(bytes)
}

impl Engine for Sqlite {
    fn read(&self, table: Table, key: String, now: u64) -> Pending<Option<Row>> {
        ask(&self.reads, |answer| reader::Job::Read { table, key, now, answer }).unwrap_or_else(ready)
    }

    fn page(&self, table: Table, prefix: String, after: Option<String>, limit: usize, now: u64) -> Pending<Vec<Row>> {
        let limit = limit.min(MAX_PAGE);
        let page = rows::Page { table, prefix, after, limit, now };
        ask(&self.reads, |answer| reader::Job::Page { page, answer }).unwrap_or_else(ready)
    }

    fn commit(&self, writes: Vec<Write>, now: u64) -> Pending<()> {
        match weigh(&writes) {
            Ok(bytes) => self.write(bytes, |answer| writer::Job::Commit { writes, now, bytes, answer }),
            Err(fault) => ready(fault),
        }
    }

    fn purge(&self, now: u64) -> Pending<usize> {
        self.write(0, |answer| writer::Job::Purge { now, answer })
    }

    fn close(&self) -> Pending<()> {
        // Nothing has expired at the beginning of time, and what was queued before is done before.
        let done = self.purge(0);
        Box::pin(async move { done.await.map(drop) })
    }
}
