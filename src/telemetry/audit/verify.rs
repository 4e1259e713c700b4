//! Whether an audit file is what was written: finds edits, insertions, removals, reordering and truncation.
//!
//! The chain shows every change but two: a new chain made from some record on, and a missing end. A signed head shows
//! those as well, up to its count. Missing disclosures are erasures and no fault; altered ones are.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    io::{self, BufRead, Read},
};

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};
use thiserror::Error;

use super::{
    disclosure,
    head::{Head, PublicKey},
    record::{GENESIS, LINE_BYTES, Line},
    trail::{Sought, Strikes, Told, Trail},
};

/// Findings that are listed; a file that was changed throughout has no use for more.
const FINDINGS: usize = 1000;

/// What is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// It does not have the form of a record.
    #[error("this is not an audit record")]
    Form,
    /// The body is not JSON, has a member twice, or lacks one.
    #[error("this is not an audit record: {0}")]
    Content(String),
    /// The hash is not that of the body.
    #[error("the record was edited: its content does not have the hash that it bears")]
    Edited,
    /// It does not follow on the record before it.
    #[error("the record does not follow on the one before it: something was edited, removed, inserted or moved here")]
    Chain,
    /// Its number is not the next one.
    #[error("record {found} stands where {expected} is due")]
    Sequence {
        /// The number that is due.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// A disclosure that the record did not commit to, or out of order.
    #[error("a disclosure was altered, added or moved: the record did not commit to it")]
    Disclosure,
    /// An outcome of an intent that is not there.
    #[error("the outcome of intent {0}, which is not there or has one already")]
    Outcome(u64),
    /// An event of a deletion that was told before, and otherwise.
    #[error("event {number} of deletion {erasure:?} was told before, and otherwise")]
    Event {
        /// The deletion.
        erasure: String,
        /// The event's number.
        number: u32,
    },
    /// The last line is not whole.
    #[error("the last line is not whole")]
    Torn,
    /// The file cannot be read.
    #[error("reading the file: {0}")]
    Read(String),
    /// The head's signature does not verify, or its key is another one.
    #[error("the head is not signed by the key that is expected")]
    HeadSignature,
    /// Records are missing at the end.
    #[error("the file was truncated: the head speaks of {head} records, and there are {records}")]
    Truncated {
        /// The head's count.
        head: u64,
        /// The records that are there.
        records: u64,
    },
    /// The record that the head names has another hash.
    #[error("the records up to here were replaced: the head bears another hash")]
    Head,
}

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line, from 1; one behind the last for what is missing at the end.
    pub line: u64,
    /// Where the line starts, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {}): {}", self.line, self.offset, self.fault)
    }
}

/// What a file without a fault holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many records.
    pub records: u64,
    /// The hash of the last one; without records, 32 zero bytes.
    pub hash: String,
    /// How many of them a signed head vouches for.
    pub vouched: u64,
    /// Commitments whose disclosure was erased.
    pub erased: u64,
    /// How many of them no record of the chain accounts for: by hand, or by somebody who hid something.
    pub erased_unnamed: u64,
    /// Values that the chain says are struck out, and that are there: a crash in between, or an older copy of the file.
    pub unerased: u64,
    /// Intents without an outcome: still under way, or left by a crash that no start has followed yet.
    pub open_intents: u64,
}

/// Reads a whole audit file and checks every record, and the head if there is one.
///
/// `pinned` is the public key that the head must be signed by; without it, any key that the head names will do, and
/// whoever made the file may have made the head.
pub fn verify(file: impl BufRead, head: Option<&Head>, pinned: Option<&PublicKey>) -> Result<Report, Vec<Finding>> {
    verify_and_seek(file, head, pinned, None)
}

/// The same, and notes whatever of a certificate's records it comes by.
pub fn verify_and_seek<'a, 'b>(
    mut file: impl BufRead,
    head: Option<&Head>,
    pinned: Option<&PublicKey>,
    sought: Option<&'a mut Sought<'b>>,
) -> Result<Report, Vec<Finding>> {
    let mut check = Check { sought, ..Check::default() };
    if head.is_some_and(|head| !head.is_signed_by(pinned)) {
        check.find(Fault::HeadSignature);
    }
    let mut line = Vec::new();
    loop {
        check.offset += line.len() as u64;
        match read_line(&mut file, &mut line) {
            Ok(false) => break,
            Ok(true) => {
                check.line += 1;
                check.line(&line, head);
            }
            Err(error) => {
                check.line += 1;
                check.find(Fault::Read(error.to_string()));
                break;
            }
        }
    }
    check.finish(head)
}

/// Reads one line with its newline, if it has one; what is longer than any record counts as a line of its own.
fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(file.take(LINE_BYTES as u64).read_until(b'\n', line)? > 0)
}

/// The members of a record that are checked here.
#[derive(Debug, Deserialize)]
struct Body {
    v: u64,
    seq: u64,
    time: String,
    kind: String,
    prev: String,
    #[serde(default)]
    intent: Option<u64>,
    #[serde(default)]
    erasure: Option<String>,
    #[serde(default)]
    plan: Option<String>,
    #[serde(default)]
    number: Option<u32>,
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    records: Option<String>,
    #[serde(default, rename = "_sd_alg")]
    algorithm: Option<String>,
    #[serde(default, rename = "_sd")]
    digests: Vec<String>,
}

/// Where the check stands.
#[derive(Debug)]
struct Check<'a, 'b> {
    line: u64,
    offset: u64,
    records: u64,
    seq: u64,
    hash: String,
    erased: u64,
    strikes: Strikes,
    open: BTreeSet<u64>,
    trail: Trail,
    sought: Option<&'a mut Sought<'b>>,
    findings: Vec<Finding>,
}

impl Default for Check<'_, '_> {
    fn default() -> Self {
        Self {
            line: 0,
            offset: 0,
            records: 0,
            seq: 0,
            hash: GENESIS.to_owned(),
            erased: 0,
            strikes: Strikes::default(),
            open: BTreeSet::new(),
            trail: Trail::default(),
            sought: None,
            findings: Vec::new(),
        }
    }
}

impl Check<'_, '_> {
    fn find(&mut self, fault: Fault) {
        if self.findings.len() < FINDINGS {
            self.findings.push(Finding { line: self.line, offset: self.offset, fault });
        }
    }

    fn line(&mut self, line: &[u8], head: Option<&Head>) {
        let Some(line) = line.strip_suffix(b"\n") else { return self.find(Fault::Torn) };
        let Some(line) = Line::split(line) else { return self.find(Fault::Form) };
        let object = line.object();
        if let Err(error) = members_once(&object) {
            return self.find(Fault::Content(error.to_string()));
        }
        let body: Body = match serde_json::from_slice(&object) {
            Ok(body) => body,
            Err(error) => return self.find(Fault::Content(error.to_string())),
        };
        if body.v != 1 || body.time.is_empty() || body.algorithm.as_deref().is_some_and(|name| name != "sha-256") {
            return self.find(Fault::Content("a version that is not known here".to_owned()));
        }
        if !line.is_sound() {
            self.find(Fault::Edited);
        }
        let expected = self.seq.saturating_add(1);
        if body.seq != expected {
            self.find(Fault::Sequence { expected, found: body.seq });
        } else if body.prev != self.hash {
            // A gap in the numbers has broken the chain already: one finding for one fault.
            self.find(Fault::Chain);
        }
        self.disclosures(&line.disclosures, &body);
        self.kinds(&body, &line);
        if head.is_some_and(|head| head.count == body.seq && head.hash != line.hash) {
            self.find(Fault::Head);
        }
        // From here on as if this record were right, so that one fault is not reported again at every line.
        self.records += 1;
        self.seq = body.seq;
        line.hash.clone_into(&mut self.hash);
    }

    /// What is there must be what was committed to, in its order; what is missing was erased.
    fn disclosures(&mut self, disclosures: &[&str], body: &Body) {
        let mut committed = body.digests.iter().enumerate();
        let mut there = BTreeSet::new();
        let told = || disclosures.iter().filter(|disclosure| !disclosure::is_struck_out(disclosure));
        let held = told().all(|disclosure| {
            let digest = disclosure::digest_of(disclosure);
            let place = committed.find(|(_, committed)| **committed == digest);
            place.is_some_and(|(place, _)| there.insert(place)) && disclosure::read(disclosure).is_some()
        });
        if !held || disclosures.len() > body.digests.len() {
            self.find(Fault::Disclosure);
        }
        for gone in (0..body.digests.len()).filter(|place| !there.contains(place)) {
            self.strikes.gone(body.seq, gone);
            self.erased += 1;
        }
    }

    fn kinds(&mut self, body: &Body, line: &Line<'_>) {
        match (body.kind.as_str(), body.intent) {
            ("intent", None) => {
                self.open.insert(body.seq);
            }
            ("outcome", Some(intent)) => {
                if !self.open.remove(&intent) {
                    self.find(Fault::Outcome(intent));
                }
            }
            ("refusal" | "attempts" | "recovered" | "ceremony" | "change", None) => {}
            ("erasure", None) => self.erasure(body, line),
            ("struck", None) => {
                if !body.records.as_ref().is_some_and(|list| self.strikes.named(body.seq, list)) {
                    self.find(Fault::Content("it does not say what was struck out before it".to_owned()));
                }
            }
            (kind, _) => self.find(Fault::Content(format!("a kind that is not known here: {kind:?}"))),
        }
    }

    fn erasure(&mut self, body: &Body, line: &Line<'_>) {
        let (Some(erasure), Some(plan), Some(number), Some(event)) =
            (&body.erasure, &body.plan, body.number, &body.event)
        else {
            return self.find(Fault::Content("an event of a deletion that lacks a member".to_owned()));
        };
        let told = Told { erasure, plan, number, event, seq: body.seq, hash: line.hash, body: line.body };
        if !self.trail.follow(&told) {
            self.find(Fault::Event { erasure: erasure.clone(), number });
        }
        if let Some(sought) = &mut self.sought {
            sought.see(&told);
        }
    }

    fn finish(mut self, head: Option<&Head>) -> Result<Report, Vec<Finding>> {
        let records = self.seq;
        if let Some(head) = head.filter(|head| head.count > records) {
            self.line += 1;
            self.find(Fault::Truncated { head: head.count, records });
        }
        if self.findings.is_empty() {
            let (vouched, open_intents) = (head.map_or(0, |head| head.count), self.open.len() as u64);
            let (erased, erased_unnamed, unerased) = (self.erased, self.strikes.unnamed(), self.strikes.left());
            Ok(Report {
                records: self.records,
                hash: self.hash,
                vouched,
                erased,
                erased_unnamed,
                unerased,
                open_intents,
            })
        } else {
            Err(self.findings)
        }
    }
}

/// Fails if an object, at any depth, has a member twice: two readers could then read two different records.
pub(super) fn members_once(json: &[u8]) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    MembersOnce.deserialize(&mut reader)?;
    reader.end()
}

#[derive(Debug, Clone, Copy)]
struct MembersOnce;

impl<'de> DeserializeSeed<'de> for MembersOnce {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MembersOnce {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if names.contains(&name) {
                return Err(de::Error::custom(format_args!("the member {name:?} stands there twice")));
            }
            names.insert(name);
            map.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
