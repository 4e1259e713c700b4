//! The audit log's thread: takes what has gathered, writes it as one batch, makes that durable, then answers.
//!
//! ```text
//!            ┌──────────── append fails ───────────┐
//!            │                                     v
//!        writable                               failed   intents are refused at once,
//!            ^                                     │     other records wait (up to a bound)
//!            └── repaired and appended, each second┘
//! ```

use std::{
    collections::{HashMap, VecDeque},
    mem,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    AuditFault, AuthorityRecord, IntentId, Place,
    erasure::ErasureRecord,
    file::{ChainFile, Tip},
    head::{Signer, replace},
    record::{ATTEMPT_BYTES, Attempt, Entry, Outcome, Recovered, StruckRecord},
};
use crate::{
    clock::{Clock, Now},
    policy::Reason,
    telemetry::{metrics::AuditMetrics, time},
};

/// Intents that may wait for the disk; more than a disk makes durable in a second.
const INTENTS: usize = 1024;
/// The same for events of deletions, which must not be kept waiting by requests, nor they by these.
const EVENTS: usize = 1024;
/// Refusals, and records of what the authority did, that may wait; beyond it they are lost and counted, for one caller must not fill the memory.
const REFUSALS: usize = 8192;
/// Between attempts to get out of the failed state.
const RETRY: Duration = Duration::from_secs(1);
/// Attempts without a principal are written down this often.
const TALLY: Duration = Duration::from_secs(60);

/// What the log's users and its thread share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    failed: AtomicBool,
    /// Operations that were allowed and are not over.
    open: Arc<AtomicUsize>,
    /// Where the last durable record ends, in bytes: nothing before it is ever taken back.
    pub(super) durable: AtomicU64,
    pub(super) metrics: AuditMetrics,
    pub(super) clock: Arc<dyn Clock>,
}

/// What waits to be written.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    intents: usize,
    events: usize,
    refusals: usize,
    tally: HashMap<(Reason, Arc<str>), u64>,
    /// When the first attempt of the tally was counted.
    tally_since: Option<Now>,
    closing: bool,
    done: bool,
}

/// A record on its way, and who waits for it to be durable.
struct Waiting {
    entry: Entry,
    asker: Option<Asker>,
}

/// Who waits for a record to be durable.
enum Asker {
    /// A request, with its operation.
    Intent(oneshot::Sender<Answer<IntentId>>, UnderWay),
    /// Whoever tells of a deletion, or strikes somebody out.
    Event(oneshot::Sender<Answer<Place>>),
}

/// What a record is to who waited for it, once it is durable.
pub(super) type Answer<T> = Result<T, AuditFault>;

impl From<Entry> for Waiting {
    fn from(entry: Entry) -> Self {
        Self { entry, asker: None }
    }
}

/// An operation, counted as under way until this is dropped: by then its outcome is queued.
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(open))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Asker {
    /// Says where the record stands.
    fn tell(self, place: Place, shared: &Arc<Shared>) {
        // Who asked may have gone away, or may go before the answer is looked at: an intent is dropped then, here or there, and
        // concludes itself.
        match self {
            Self::Intent(answer, under_way) => {
                let _ = answer.send(Ok(IntentId::written(place.seq, Arc::clone(shared), under_way)));
            }
            Self::Event(answer) => {
                let _ = answer.send(Ok(place));
            }
        }
    }

    /// Says that the record cannot be made durable.
    fn refuse(self) {
        match self {
            Self::Intent(answer, under_way) => {
                // By the time that this is heard.
                drop(under_way);
                let _ = answer.send(Err(AuditFault::Unwritable));
            }
            Self::Event(answer) => {
                let _ = answer.send(Err(AuditFault::Unwritable));
            }
        }
    }
}

impl Shared {
    pub(super) fn new(durable: u64, metrics: AuditMetrics, clock: Arc<dyn Clock>) -> Self {
        let (durable, failed, open) = (AtomicU64::new(durable), AtomicBool::new(false), Arc::default());
        Self { open, queue: Mutex::default(), wake: Condvar::new(), failed, durable, metrics, clock }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an intent; the answer comes when it is durable, or cannot be made so. Its operation is under way from here on.
    pub(super) fn intend(&self, attempt: Attempt) -> Result<oneshot::Receiver<Answer<IntentId>>, AuditFault> {
        let weight = attempt.weight();
        let asker = |answer| Asker::Intent(answer, UnderWay::begin(&self.open));
        self.queue_answered((Entry::Intent(attempt), weight), asker, |queue| (&mut queue.intents, INTENTS))
    }

    /// Queues an event of a deletion; the answer comes when it is durable, or cannot be made so.
    pub(super) fn tell(&self, record: ErasureRecord) -> Result<oneshot::Receiver<Answer<Place>>, AuditFault> {
        let weight = record.weight();
        self.queue_answered((Entry::Erasure(record), weight), Asker::Event, |queue| (&mut queue.events, EVENTS))
    }

    /// Queues what is about to be struck out; the answer comes when it is durable, or cannot be made so.
    pub(super) fn strike(&self, values: u64, records: String) -> Result<oneshot::Receiver<Answer<Place>>, AuditFault> {
        let weight = records.len();
        let unix_ms = self.clock.now().unix_ms;
        let entry = Entry::Struck(StruckRecord { unix_ms, values, records });
        self.queue_answered((entry, weight), Asker::Event, |queue| (&mut queue.events, EVENTS))
    }

    fn queue_answered<T>(
        &self,
        (entry, weight): (Entry, usize),
        asker: impl FnOnce(oneshot::Sender<Answer<T>>) -> Asker,
        counted: impl FnOnce(&mut Queue) -> (&mut usize, usize),
    ) -> Result<oneshot::Receiver<Answer<T>>, AuditFault> {
        let fault = if self.failed.load(Ordering::Acquire) {
            AuditFault::Unwritable
        } else if weight > ATTEMPT_BYTES {
            AuditFault::TooLarge
        } else {
            let mut queue = self.queue();
            let closing = queue.closing;
            let (count, most) = counted(&mut queue);
            if !closing && *count < most {
                let (answer, answered) = oneshot::channel();
                *count += 1;
                queue.waiting.push_back(Waiting { entry, asker: Some(asker(answer)) });
                drop(queue);
                self.wake.notify_all();
                return Ok(answered);
            }
            AuditFault::Busy
        };
        self.metrics.failed(1);
        Err(fault)
    }

    /// Queues an outcome. There are never more than intents were answered, so they need no bound of their own.
    pub(super) fn conclude(&self, intent: u64, outcome: Outcome) {
        let unix_ms = self.clock.now().unix_ms;
        let mut queue = self.queue();
        let is_taken = !queue.closing;
        if is_taken {
            queue.waiting.push_back(Entry::Outcome { intent, unix_ms, outcome }.into());
        }
        drop(queue);
        if is_taken {
            self.wake.notify_all();
        } else {
            // The next start says of the intent that nobody knows.
            self.metrics.failed(1);
        }
    }

    /// Queues a refusal, or counts it as lost.
    pub(super) fn refuse(&self, attempt: Attempt) {
        let weight = attempt.weight();
        self.queue_unanswered(Entry::Refusal(attempt), weight);
    }

    /// Queues what the authority did, or counts it as lost.
    pub(super) fn note(&self, record: AuthorityRecord) {
        let weight = record.weight();
        self.queue_unanswered(Entry::Authority(record), weight);
    }

    fn queue_unanswered(&self, entry: Entry, weight: usize) {
        let mut queue = self.queue();
        if weight > ATTEMPT_BYTES || queue.closing || queue.refusals >= REFUSALS {
            drop(queue);
            self.metrics.failed(1);
            return;
        }
        queue.refusals += 1;
        queue.waiting.push_back(entry.into());
        drop(queue);
        self.wake.notify_all();
    }

    /// Counts an attempt without a principal.
    pub(super) fn count(&self, reason: Reason, route: &Arc<str>) {
        self.metrics.unauthenticated(reason);
        let mut queue = self.queue();
        *queue.tally.entry((reason, Arc::clone(route))).or_default() += 1;
        if queue.tally_since.is_none() {
            queue.tally_since = Some(self.clock.now());
            drop(queue);
            self.wake.notify_all();
        }
    }

    /// How many operations are under way whose outcome is still to come.
    pub(super) fn under_way(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Has everything written, and waits for it; `false` if the disk takes longer than that.
    pub(super) fn close(&self, patience: Duration) -> bool {
        let mut queue = self.queue();
        queue.closing = true;
        self.wake.notify_all();
        let waited = self.wake.wait_timeout_while(queue, patience, |queue| !queue.done);
        waited.unwrap_or_else(PoisonError::into_inner).0.done
    }

    /// Whether intents can be written.
    pub(super) fn is_writable(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Release);
        self.metrics.set_writable(!failed);
    }
}

/// The thread's own part.
pub(super) struct Writer {
    shared: Arc<Shared>,
    file: ChainFile,
    tip: Tip,
    signer: Arc<Signer>,
    head_path: PathBuf,
    head_interval: Duration,
    /// The count of the last head that was written, and when.
    head: (u64, Option<Instant>),
    /// Records that an error left unwritten.
    unwritten: VecDeque<Entry>,
    retry_at: Option<Instant>,
    /// When the failed state began.
    failed_ms: u64,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        file: ChainFile,
        tip: Tip,
        signer: Arc<Signer>,
        head_path: PathBuf,
        head_interval: Duration,
    ) -> Self {
        let (head, unwritten) = ((0, None), VecDeque::new());
        Self { shared, file, tip, signer, head_path, head_interval, head, unwritten, retry_at: None, failed_ms: 0 }
    }

    /// Runs until the log is closed.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut queue = shared.queue();
            if queue.waiting.is_empty() && !queue.closing {
                queue = match self.next_duty(&queue, shared.clock.now().instant) {
                    None => shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                    Some(wait) => shared.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0,
                };
            }
            let now = shared.clock.now();
            let closing = queue.closing;
            let batch = take_batch(&mut queue, now, closing);
            drop(queue);
            self.turn(batch, now, closing);
            if closing {
                return;
            }
        }
    }

    /// How long until there is something to do without being asked; `None` if there is nothing.
    fn next_duty(&self, queue: &Queue, now: Instant) -> Option<Duration> {
        let tally = queue.tally_since.map(|since| since.instant + TALLY);
        let head = self.head_due(now);
        [tally, head, self.retry_at].into_iter().flatten().min().map(|due| due.saturating_duration_since(now))
    }

    fn head_due(&self, now: Instant) -> Option<Instant> {
        let (count, at) = self.head;
        (count != self.tip.count).then(|| at.map_or(now, |at| at + self.head_interval))
    }

    /// Writes a batch. Intents are answered when it is durable, and refused if it cannot be.
    fn turn(&mut self, batch: Vec<Waiting>, now: Now, closing: bool) {
        if self.retry_at.is_some_and(|at| now.instant < at) && !closing {
            return self.put_off(batch);
        }
        if self.retry_at.is_some()
            && let Err(error) = self.file.repair()
        {
            self.fail(&error.to_string(), now);
            return self.put_off(batch);
        }
        // That the log was down belongs in it; and it is the write that shows whether it is up again.
        let outage = self.retry_at.is_some().then(|| Recovered::outage(now.unix_ms, self.failed_ms));
        let outage = outage.map(|recovered| Entry::Recovered(recovered).into());
        let unwritten = mem::take(&mut self.unwritten).into_iter().map(Waiting::from);
        let batch: Vec<Waiting> = outage.into_iter().chain(unwritten).chain(batch).collect();
        if !batch.is_empty() {
            match self.write(&batch) {
                Ok(hashes) => self.written(batch, hashes),
                Err(cause) => {
                    self.fail(&cause, now);
                    return self.put_off(batch);
                }
            }
        }
        if self.retry_at.take().is_some() {
            self.shared.set_failed(false);
            tracing::info!("the audit log can be written again");
        }
        self.write_head(now, closing);
    }

    /// Writes all of a batch or nothing; the hashes of its records.
    fn write(&mut self, batch: &[Waiting]) -> Result<Vec<String>, String> {
        let mut hashes: Vec<String> = Vec::with_capacity(batch.len());
        let mut lines = String::with_capacity(batch.len() * 1024);
        for (waiting, seq) in batch.iter().zip(self.tip.count + 1..) {
            let prev = hashes.last().unwrap_or(&self.tip.hash);
            let hash = waiting.entry.push_line(&mut lines, seq, prev);
            hashes.push(hash.map_err(|_| "no random bytes for a salt".to_owned())?);
        }
        self.file.append(&lines).map_err(|error| error.to_string())?;
        self.shared.durable.store(self.file.end(), Ordering::Release);
        Ok(hashes)
    }

    /// Answers what is durable now.
    fn written(&mut self, batch: Vec<Waiting>, hashes: Vec<String>) {
        for (waiting, hash) in batch.into_iter().zip(hashes) {
            self.tip.count += 1;
            let seq = self.tip.count;
            self.shared.metrics.written(waiting.entry.kind());
            if let Some(asker) = waiting.asker {
                asker.tell(Place { seq, hash: (*hash).into() }, &self.shared);
            }
            self.tip.hash = hash;
        }
    }

    /// Enters the failed state, or stays in it for another second.
    fn fail(&mut self, cause: &str, now: Now) {
        if self.retry_at.is_none() {
            tracing::error!(error = cause, "the audit log cannot be written: guarded operations are refused");
            self.failed_ms = now.unix_ms;
        }
        self.retry_at = Some(now.instant + RETRY);
        self.shared.set_failed(true);
    }

    /// Refuses the intents of a batch and keeps the rest for later, as much as there is room for.
    fn put_off(&mut self, batch: Vec<Waiting>) {
        for waiting in batch {
            match (waiting.asker, waiting.entry) {
                (Some(asker), _) => {
                    self.shared.metrics.failed(1);
                    asker.refuse();
                }
                // It is made anew, with the time of the next attempt.
                (None, Entry::Recovered(_)) => {}
                (None, entry) if self.unwritten.len() < REFUSALS => self.unwritten.push_back(entry),
                (None, _) => self.shared.metrics.failed(1),
            }
        }
    }

    /// Signs where the chain stands, if it is time to.
    fn write_head(&mut self, now: Now, closing: bool) {
        let (count, at) = self.head;
        let due = at.is_none_or(|at| now.instant >= at + self.head_interval);
        if count == self.tip.count || !(due || closing) {
            return;
        }
        let head = self.signer.sign(self.tip.count, &self.tip.hash, time::rfc3339(now.unix_ms));
        let written =
            serde_json::to_string(&head).map_err(Into::into).and_then(|text| replace(&self.head_path, &(text + "\n")));
        match written {
            Ok(()) => self.head = (self.tip.count, Some(now.instant)),
            Err(error) => {
                // The records are safe; only the proof that none is missing gets older.
                tracing::error!(%error, path = %self.head_path.display(), "the audit log's head cannot be written");
                self.shared.metrics.failed(1);
                self.head = (count, Some(now.instant));
            }
        }
    }
}

/// However the thread ends, nobody waits for it any longer: an intent that it did not answer is refused.
impl Drop for Writer {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.closing = true;
        let lost = mem::take(&mut queue.waiting).len() + self.unwritten.len();
        self.shared.metrics.failed(lost);
        // Whoever waits for the end may open the file again at once.
        self.file.unlock();
        queue.done = true;
        drop(queue);
        self.shared.wake.notify_all();
    }
}

fn take_batch(queue: &mut Queue, now: Now, closing: bool) -> Vec<Waiting> {
    queue.intents = 0;
    queue.events = 0;
    queue.refusals = 0;
    let mut batch: Vec<Waiting> = mem::take(&mut queue.waiting).into();
    if let Some(since) = queue.tally_since.filter(|since| closing || now.instant >= since.instant + TALLY) {
        queue.tally_since = None;
        let tally = mem::take(&mut queue.tally).into_iter();
        let mut counts: Vec<_> = tally.map(|((reason, route), count)| (reason, route, count)).collect();
        counts.sort_unstable();
        let entry = Entry::Attempts { from_ms: since.unix_ms, until_ms: now.unix_ms, counts };
        batch.push(entry.into());
    }
    batch
}
