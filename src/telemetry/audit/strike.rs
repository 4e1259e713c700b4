//! Striking people out of the running log, once everything else of them is gone.
//!
//! ```text
//!   find ──> say in the chain of which records what is struck out ──> strike out ──> find on, to the end
//! ```
//! Whoever asks while a pass is under way waits for the next one, which is for all of them: ten thousand deletions that end at
//! midnight do not read the file ten thousand times. After a crash it is asked for again, and what is left is found again.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    io, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use tokio::sync::oneshot;

use super::{
    AuditFault,
    erase::{Disclosed, Found, Outline, Pass, strike_all, strike_out},
    file::Identity,
    writer::Shared,
};
use crate::telemetry::time;

/// How fast the file is read: a gigabyte in half a minute.
const BYTES_PER_SEC: u64 = 32 << 20;

/// Somebody who is struck out.
#[derive(Clone, PartialEq, Eq)]
pub struct Struck {
    /// The number of their deletion: its records are about them.
    pub id: Box<str>,
    /// Who vouches for them: the issuer's identifier.
    pub issuer_url: Box<str>,
    /// The subjects of their tokens, as far as they are known.
    pub subjects: Vec<Box<str>>,
    /// The `X-Request-Id`s of requests for their deletion: what these name is theirs, whoever sent them.
    pub request_ids: Vec<Box<str>>,
    /// The path that is theirs, `/accounts/42`: whoever was recorded there, or below, it names this person.
    pub under: Option<Box<str>>,
    /// When all of theirs had been seen to be gone, in seconds since the epoch: what was recorded later is of whoever has their name now.
    /// `None`: all of it is theirs.
    pub until: Option<u64>,
}

/// Names are not for logs.
impl fmt::Debug for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Struck").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Strikes people out of a file that no gateway writes; how many values. The chain says nothing of it.
pub fn forget(path: &Path, whose: &[Struck]) -> io::Result<u64> {
    let people = People::new(whose);
    strike_all(path, &|outline, disclosed| people.judge(outline, disclosed))
}

/// Whom records are searched for.
#[derive(Default)]
pub(super) struct People<'a> {
    erasures: HashSet<&'a str>,
    /// Each with the last moment that is theirs: texts of one form, which sort as the moments do.
    named: HashMap<(&'a str, &'a str), String>,
    requests: HashSet<&'a str>,
    under: HashMap<&'a str, String>,
}

/// Takes the later of two moments.
fn later<K: Eq + Hash>(map: &mut HashMap<K, String>, key: K, until: &str) {
    let known = map.entry(key).or_default();
    if known.as_str() < until {
        until.clone_into(known);
    }
}

impl<'a> People<'a> {
    pub(super) fn new(whose: impl IntoIterator<Item = &'a Struck>) -> Self {
        let mut people = Self::default();
        for one in whose {
            people.erasures.insert(&one.id);
            people.requests.extend(one.request_ids.iter().map(|id| &**id));
            let until = time::rfc3339(one.until.map_or(u64::MAX, |secs| secs.saturating_mul(1000).saturating_add(999)));
            for subject in &one.subjects {
                later(&mut people.named, (&*one.issuer_url, &**subject), &until);
            }
            // The root is everybody's.
            if let Some(path) =
                one.under.as_deref().map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty())
            {
                later(&mut people.under, path, &until);
            }
        }
        people
    }

    /// What of a record names one of them.
    ///
    /// Of records about them: all but who else had a part in it. Of other people's: the path, where it is theirs.
    pub(super) fn judge(&self, outline: &Outline, disclosed: &[Disclosed<'_>]) -> Vec<bool> {
        let value = |name: &str| disclosed.iter().find(|one| one.name == name).map(|one| one.value.as_str());
        let is_theirs = |until: Option<&String>| until.is_some_and(|until| outline.time <= *until);
        let is_person =
            |issuer_url: &str, name| value(name).is_some_and(|value| is_theirs(self.named.get(&(issuer_url, value))));
        let own = is_person(&outline.who.issuer_url, "subject");
        let acted = is_person(&outline.by.issuer_url, "caller");
        let told = outline.erasure.as_deref().is_some_and(|id| self.erasures.contains(id));
        let theirs = outline.request_id.as_deref().is_some_and(|id| self.requests.contains(id))
            || value("path").is_some_and(|path| self.is_under(path, &outline.time));
        let judge = |one: &Disclosed<'_>| match one.name.as_str() {
            "subject" | "reason" => own || told,
            "client" | "address" => own,
            "caller" => acted,
            "path" => own || theirs,
            name => name.starts_with("path_params.") && (own || theirs),
        };
        disclosed.iter().map(judge).collect()
    }

    /// Whether a path is one of theirs, or below.
    fn is_under(&self, path: &str, time: &str) -> bool {
        let is_theirs = |path: &str| self.under.get(path).is_some_and(|until| time <= until.as_str());
        !self.under.is_empty()
            && (is_theirs(path) || path.match_indices('/').any(|(at, _)| path.get(..at).is_some_and(is_theirs)))
    }
}

/// Strikes out of one log, for whoever asks.
pub(super) struct Striker {
    path: PathBuf,
    /// The file that is written: another one under its name has nothing of what is to be struck out.
    file: Identity,
    shared: Arc<Shared>,
    asked: Mutex<Asked>,
}

/// How many values; the fault is everybody's who shared a pass.
type Outcome = Result<u64, Arc<AuditFault>>;

#[derive(Default)]
struct Asked {
    waiting: Vec<(Vec<Struck>, oneshot::Sender<Outcome>)>,
    running: bool,
}

impl Striker {
    pub(super) fn new(path: PathBuf, file: Identity, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { path, file, shared, asked: Mutex::default() })
    }

    /// Has people struck out; how many values in the pass that they were in, once that is durable.
    pub(super) async fn strike(self: &Arc<Self>, whose: Vec<Struck>) -> Outcome {
        let (answer, answered) = oneshot::channel();
        if self.ask(whose, answer) {
            let striker = Arc::clone(self);
            tokio::task::spawn_blocking(move || striker.run());
        }
        answered.await.unwrap_or_else(|_| Err(Arc::new(AuditFault::Unwritable)))
    }

    /// Puts somebody on the list; whether nobody is at work on it.
    fn ask(&self, whose: Vec<Struck>, answer: oneshot::Sender<Outcome>) -> bool {
        let mut asked = self.asked();
        asked.waiting.push((whose, answer));
        !mem::replace(&mut asked.running, true)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes for as long as anybody asks.
    fn run(&self) {
        let running = Running(self);
        loop {
            let mut asked = self.asked();
            let waiting = mem::take(&mut asked.waiting);
            if waiting.is_empty() {
                asked.running = false;
                mem::forget(running);
                return;
            }
            drop(asked);
            let struck = self.pass(&People::new(waiting.iter().flat_map(|(whose, _)| whose))).map_err(Arc::new);
            for (_, answer) in waiting {
                // Whoever asked may have gone away.
                let _ = answer.send(struck.clone());
            }
        }
    }

    /// One pass over all that is durable.
    fn pass(&self, people: &People<'_>) -> Result<u64, AuditFault> {
        let fault = |source| AuditFault::Strike { path: self.path.clone(), source };
        let until = self.shared.durable.load(Ordering::Acquire);
        let judge = |outline: &Outline, disclosed: &[Disclosed<'_>]| people.judge(outline, disclosed);
        let mut pass = Pass::over(&self.path, until, Some(BYTES_PER_SEC)).map_err(fault)?;
        pass.reads(self.file).map_err(fault)?;
        let mut struck = 0;
        loop {
            let found = pass.next(&judge).map_err(fault)?;
            if found.is_empty() {
                return Ok(struck);
            }
            let values = found.iter().map(|found| u64::from(found.mask.count_ones())).sum();
            let told = self.shared.strike(values, listed(&found))?;
            told.blocking_recv().map_err(|_| AuditFault::Unwritable)??;
            struck += strike_out(&self.path, &found).map_err(fault)?;
        }
    }
}

/// However a pass ends, the next to ask begins another one, and nobody waits for this one any longer.
struct Running<'a>(&'a Striker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut asked = self.0.asked();
        asked.running = false;
        asked.waiting.clear();
    }
}

/// `7:1f,9:18`: the records' numbers, and which of their commitments, in hexadecimal digits.
fn listed(found: &[Found]) -> String {
    let mut list = String::with_capacity(found.len() * 12);
    for one in found {
        let comma = if list.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut list, format_args!("{comma}{}:{:x}", one.seq, one.mask));
    }
    list
}

/// Reads what [`listed`] writes.
pub(super) fn read_list(list: &str) -> Option<Vec<(u64, u64)>> {
    let one = |item: &str| {
        let (seq, mask) = item.split_once(':')?;
        Some((seq.parse().ok()?, u64::from_str_radix(mask, 16).ok()?))
    };
    list.split(',').map(one).collect()
}
