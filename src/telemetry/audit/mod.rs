//! The audit trail of guarded operations: an append-only file of JSON lines, each chained by hash to the one before.
//!
//! An operation that is allowed writes an intent, durable before anything is forwarded, and later its outcome. One that
//! is refused writes a refusal. Attempts without a valid principal are counted by reason and written once a minute, so
//! a stranger cannot fill the disk. What the authority does (ceremonies, changes of factors) is recorded beside them. A crash loses no intent that was acknowledged; it may lose refusals and outcomes of
//! the last moment, and the counts of the last minute.
//!
//! The file is never rotated while the gateway runs: moved away, or changed by anybody else, it makes every intent fail.
//! Identifying values enter the chain as salted commitments; [`AuditLog::strike`] and [`erase()`] strike their disclosures out later.
//!
//! What happens in the life of an account deletion is recorded there, too, each event durable with its place. A [`Certificate`] of the
//! deletion names those places, and is signed with the key that signs heads.

mod ceremony;
mod certificate;
mod disclosure;
mod erase;
mod erasure;
mod file;
mod head;
mod record;
mod strike;
mod trail;
mod verify;
mod writer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use thiserror::Error;

pub use self::{
    ceremony::{AuthorityRecord, Happening},
    certificate::{
        Certificate, CertificateFault, CertificateKind, CertifiedCall, CertifiedDecision, CertifiedKept, CertifiedLook,
        CertifiedOwnData, CertifiedParty, CertifiedProbe, CertifiedProof, CertifiedRecord, CertifiedScope,
        CertifiedSight, CertifiedSubject, MAX_CERTIFICATE, SignedCertificate, moment,
    },
    erase::erase,
    erasure::{ErasureCall, ErasureParty, ErasureRecord, Place},
    head::{Head, PublicKey},
    record::{Attempt, Outcome},
    strike::{Struck, forget},
    trail::{Mismatch, Sought},
    verify::{Fault, Finding, Report, verify, verify_and_seek},
};
use self::{
    file::{ChainFile, Found, move_aside},
    head::{Signer, beside, replace},
    record::{Entry, Recovered},
    strike::Striker,
    writer::{Shared, UnderWay, Writer},
};
use crate::{clock::Clock, policy::Reason, telemetry::metrics::AuditMetrics};

/// How long a close waits for the disk.
const CLOSE: Duration = Duration::from_secs(10);

/// Why the audit log cannot be used.
#[derive(Debug, Error)]
pub enum AuditFault {
    /// The file cannot be opened, read or brought in order.
    #[error("opening the audit log {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("the audit log {path} is in use by another process")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{path} is not an audit log; nothing was changed in it")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The key that signs heads cannot be read or made.
    #[error("the audit log's key {path}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no thread to write it.
    #[error("starting the audit log's thread")]
    Thread(#[source] io::Error),
    /// Nobody can be struck out of it.
    #[error("striking out in the audit log {path}")]
    Strike {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The last write failed, and none has succeeded since.
    #[error("the audit log cannot be written now")]
    Unwritable,
    /// The strings of the attempt are longer than a record may be.
    #[error("the attempt is too large for an audit record")]
    TooLarge,
    /// More intents wait than the disk can take, or the log is closing.
    #[error("the audit log takes no more records now")]
    Busy,
}

/// The files of an audit log, and how often its head is signed.
#[derive(Debug, Clone)]
pub struct AuditFiles {
    /// The JSONL file. Its head stands in `<file>.head`, the public key in `<file>.pub`.
    pub file: PathBuf,
    /// The key pair, made if it is missing; by custom `<state_dir>/audit.key`.
    pub key: PathBuf,
    /// How often the head is written when there are new records.
    pub head_interval: Duration,
}

/// The audit log.
pub struct AuditLog {
    shared: Arc<Shared>,
    striker: Arc<Striker>,
    signer: Arc<Signer>,
    public_key: PublicKey,
}

/// An intent that is durable: its operation may be forwarded. Dropped without an outcome, it records that nobody knows.
#[must_use = "an intent is to be concluded by its outcome"]
pub struct IntentId {
    seq: u64,
    shared: Option<Arc<Shared>>,
    /// What is recorded when it is dropped.
    dropped: Outcome,
    _under_way: UnderWay,
}

impl AuditLog {
    /// Opens the log, brings it in order after a crash, and starts its thread.
    pub fn open(files: &AuditFiles, clock: Arc<dyn Clock>, metrics: AuditMetrics) -> Result<Self, AuditFault> {
        let path = files.file.as_path();
        let fault = |source| AuditFault::Open { path: path.to_owned(), source };
        let signer = Signer::load_or_create(&files.key)?;
        let public_key = signer.public_key();
        let now = clock.now();
        let head_path = beside(path, ".head");
        let head = old_head(&head_path).map_err(fault)?;
        let (mut file, found) = ChainFile::open(path, head.as_ref(), now.unix_secs())?;
        replace(&beside(path, ".pub"), &format!("{}\n", public_key.to_text())).map_err(fault)?;
        let mut recovered = Recovered { unix_ms: now.unix_ms, torn: found.torn.clone(), ..Recovered::default() };
        if let Some(head) = head.filter(|_| !found.head_holds) {
            // The records that this head speaks of are gone or changed. It is the proof of that, so it is kept.
            tracing::error!(
                head_count = head.count,
                records = found.tip.count,
                "the audit log lacks records of its head"
            );
            let aside = move_aside(&head_path, &format!(".unmatched-{}", now.unix_secs())).map_err(fault)?;
            recovered.head = Some((head.count, aside));
        }
        let Found { mut tip, open, .. } = found;
        let mut lines = String::new();
        let unknown =
            open.into_iter().map(|intent| Entry::Outcome { intent, unix_ms: now.unix_ms, outcome: Outcome::Unknown });
        let noted = (recovered.torn.is_some() || recovered.head.is_some()).then_some(Entry::Recovered(recovered));
        for entry in noted.into_iter().chain(unknown) {
            tip.count += 1;
            let hash = entry.push_line(&mut lines, tip.count, &tip.hash);
            tip.hash = hash.map_err(|_| fault(io::Error::other("no random bytes")))?;
            metrics.written(entry.kind());
        }
        if !lines.is_empty() {
            tracing::warn!(records = lines.lines().count(), "the audit log was brought in order after a crash");
            file.append(&lines).map_err(fault)?;
        }
        let shared = Arc::new(Shared::new(file.end(), metrics, clock));
        let signer = Arc::new(signer);
        let identity = file.identity().map_err(fault)?;
        let writer = Writer::new(Arc::clone(&shared), file, tip, Arc::clone(&signer), head_path, files.head_interval);
        thread::Builder::new().name("audit-log".into()).spawn(move || writer.run()).map_err(AuditFault::Thread)?;
        let striker = Striker::new(path.to_owned(), identity, Arc::clone(&shared));
        Ok(Self { shared, striker, signer, public_key })
    }

    /// Whether an intent could be written now. One that is not asked for because it could not counts as one that could not.
    pub fn ready(&self) -> Result<(), AuditFault> {
        if self.is_writable() {
            return Ok(());
        }
        self.shared.metrics.failed(1);
        Err(AuditFault::Unwritable)
    }

    /// Records that an operation is about to be forwarded; comes back when that is durable, and only then may it be.
    pub async fn intent(&self, attempt: Attempt) -> Result<IntentId, AuditFault> {
        let answered = self.shared.intend(attempt)?;
        let intent = answered.await.map_err(|_| AuditFault::Unwritable)??;
        Ok(intent.taken_over())
    }

    /// Records what happened in the life of a deletion; comes back with its place when that is durable. After a fault it may be in
    /// the chain or not: it is told again then, under the same number.
    pub async fn erasure(&self, record: ErasureRecord) -> Result<Place, AuditFault> {
        let answered = self.shared.tell(record)?;
        answered.await.map_err(|_| AuditFault::Unwritable)?
    }

    /// Records what became of an operation. Never waits.
    pub fn outcome(&self, mut intent: IntentId, outcome: Outcome) {
        intent.shared = None;
        self.shared.conclude(intent.seq, outcome);
    }

    /// Records that an operation was refused. Never waits; if too much waits already, the record is lost and counted.
    pub fn refusal(&self, attempt: Attempt) {
        self.shared.refuse(attempt);
    }

    /// Records what the authority did. Never waits; if too much waits already, the record is lost and counted.
    pub fn authority(&self, record: AuthorityRecord) {
        self.shared.note(record);
    }

    /// Signs what a deletion came to.
    ///
    /// # Errors
    /// It is too large.
    pub fn certify(&self, certificate: Certificate) -> Result<SignedCertificate, CertificateFault> {
        SignedCertificate::sign(certificate, &self.signer)
    }

    /// Strikes people out of the log, once everything else of them is gone; how many values, once that is durable. After a fault it
    /// is asked for again. It takes as long as reading the file does, and keeps no record waiting.
    ///
    /// # Errors
    /// The log cannot be written, or not be read. Some of them may have been struck out.
    pub async fn strike(&self, whose: Vec<Struck>) -> Result<u64, Arc<AuditFault>> {
        self.striker.strike(whose).await
    }

    /// Counts an attempt without a valid principal.
    pub fn anonymous(&self, reason: Reason, route: &Arc<str>) {
        self.shared.count(reason, route);
    }

    /// How many operations are under way whose outcome is still to come, from when their intents are queued.
    pub fn under_way(&self) -> usize {
        self.shared.under_way()
    }

    /// Whether the log can be written now: `false` once a write failed, until one succeeds again.
    pub fn is_writable(&self) -> bool {
        self.shared.is_writable()
    }

    /// The key to pin for verifying heads.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Writes all that waits and the head, and stops; `false` if that could not be done in ten seconds.
    pub fn close(&self) -> bool {
        self.shared.close(CLOSE)
    }
}

impl IntentId {
    /// One that its request has not seen yet. If that has gone away, nothing was forwarded.
    fn written(seq: u64, shared: Arc<Shared>, under_way: UnderWay) -> Self {
        let dropped = Outcome::Failed { reason: Reason::ClientGone };
        Self { seq, shared: Some(shared), dropped, _under_way: under_way }
    }

    /// The same in the hands of its request, which may forward the operation.
    fn taken_over(mut self) -> Self {
        self.dropped = Outcome::Unknown;
        self
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drop for IntentId {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.conclude(self.seq, self.dropped);
        }
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("writable", &self.is_writable()).finish_non_exhaustive()
    }
}

impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntentId").field(&self.seq).finish()
    }
}

/// The head that the last run left. One that cannot be read is no reason not to start: `verify` will say so.
fn old_head(path: &Path) -> io::Result<Option<Head>> {
    match crate::files::read_text(path, 1 << 16) {
        Ok(text) => Ok(Head::parse(&text).filter(|head| head.is_signed_by(None))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod erasure_tests;
#[cfg(test)]
mod tests;
