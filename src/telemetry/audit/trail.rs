//! The trail of deletions through a log: whether any event is told twice and differently, and whether what a certificate names is
//! there. And what was struck out, against what the chain says of it.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use aws_lc_rs::digest;
use thiserror::Error;

use super::{
    certificate::{Certificate, CertificateKind},
    erase::bit,
    strike::read_list,
};

/// A record of an event, as it stands in a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) erasure: &'a str,
    pub(super) plan: &'a str,
    pub(super) number: u32,
    pub(super) event: &'a str,
    pub(super) seq: u64,
    pub(super) hash: &'a str,
    /// The body's bytes.
    pub(super) body: &'a [u8],
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Trail(HashMap<([u8; 16], u32), [u8; 16]>);

impl Trail {
    /// Takes an event down; `false` where it was told before, and otherwise.
    pub(super) fn follow(&mut self, told: &Told<'_>) -> bool {
        let content = short_hash(content(told.body));
        match self.0.entry((short_hash(told.erasure.as_bytes()), told.number)) {
            Entry::Vacant(entry) => {
                entry.insert(content);
                true
            }
            Entry::Occupied(entry) => *entry.get() == content,
        }
    }
}

/// What two records of one event have in common: all but the number, the salts' digests and the link to the record before.
fn content(body: &[u8]) -> &[u8] {
    let find = |needle: &[u8]| body.windows(needle.len()).position(|window| window == needle);
    // Neither can stand in a string, where quotation marks are escaped.
    let start = find(b",\"time\":").unwrap_or(0);
    let end = find(b",\"_sd_alg\":").or_else(|| find(b",\"prev\":")).unwrap_or(body.len());
    body.get(start..end).unwrap_or(body)
}

fn short_hash(bytes: &[u8]) -> [u8; 16] {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// What was struck out, and what the chain says was.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    /// The commitments whose disclosure is gone, a bit each, by record.
    gone: BTreeMap<u64, u64>,
    /// Those that the chain says are struck out.
    named: HashMap<u64, u64>,
}

impl Strikes {
    /// Notes that the disclosure of a commitment is gone.
    pub(super) fn gone(&mut self, seq: u64, place: usize) {
        *self.gone.entry(seq).or_default() |= bit(place);
    }

    /// Notes what a record says was struck out; `false` if it says nothing, or speaks of what came after it.
    pub(super) fn named(&mut self, seq: u64, list: &str) -> bool {
        let Some(list) = read_list(list).filter(|list| list.iter().all(|(struck, _)| *struck < seq)) else {
            return false;
        };
        for (struck, mask) in list {
            *self.named.entry(struck).or_default() |= mask;
        }
        true
    }

    /// How many values are gone of which the chain does not say so.
    pub(super) fn unnamed(&self) -> u64 {
        let unnamed = |(seq, gone): (&u64, &u64)| gone & !self.named.get(seq).copied().unwrap_or(0);
        self.gone.iter().map(|one| u64::from(unnamed(one).count_ones())).sum()
    }

    /// How many values are still there, or there again, of which the chain says that they were to go.
    pub(super) fn left(&self) -> u64 {
        let left = |(seq, named): (&u64, &u64)| named & !self.gone.get(seq).copied().unwrap_or(0);
        self.named.iter().map(|one| u64::from(left(one).count_ones())).sum()
    }
}

/// The records that a certificate names, searched for in one log or several.
#[derive(Debug)]
pub struct Sought<'a> {
    certificate: &'a Certificate,
    /// Which log it is.
    log: usize,
    /// The deletion's records by their event's number. A crash may have had one told twice.
    found: BTreeMap<u32, Vec<Found>>,
}

#[derive(Debug)]
struct Found {
    log: usize,
    seq: u64,
    hash: Box<str>,
    event: Box<str>,
}

/// What is wrong with a certificate, as against the log that it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// A record is not in the log.
    #[error("the log has no record of event {number} ({event}), which should be record {seq}")]
    Missing {
        /// The event's number.
        number: u32,
        /// Its name.
        event: String,
        /// The record's number.
        seq: u64,
    },
    /// The log's record is another one.
    #[error(
        "event {number} ({event}) is not the log's: its record there is not number {seq} with the hash that the certificate has"
    )]
    Other {
        /// The event's number.
        number: u32,
        /// Its name.
        event: String,
        /// The number of the record that the certificate names.
        seq: u64,
    },
    /// It stands before an earlier event.
    #[error("event {number} ({event}) stands in the log before one that came before it")]
    Order {
        /// The event's number.
        number: u32,
        /// Its name.
        event: String,
    },
    /// The log tells of more than the certificate of something that has ended.
    #[error(
        "the log has event {number} ({event}) of this deletion; the certificate says that it has ended, and leaves that out"
    )]
    Omitted {
        /// The event's number.
        number: u32,
        /// Its name.
        event: String,
    },
}

impl<'a> Sought<'a> {
    /// The records of a certificate, none found yet.
    pub fn new(certificate: &'a Certificate) -> Self {
        Self { certificate, log: 0, found: BTreeMap::new() }
    }

    /// Goes on with another log: an older one, or another gateway's.
    pub fn next_log(&mut self) {
        self.log += 1;
    }

    pub(super) fn see(&mut self, told: &Told<'_>) {
        if self.certificate.id == told.erasure && self.certificate.plan == told.plan {
            let found = Found { log: self.log, seq: told.seq, hash: told.hash.into(), event: told.event.into() };
            self.found.entry(told.number).or_default().push(found);
        }
    }

    /// What is wrong: nothing, where every record that the certificate names is there, in order, and none is left out.
    pub fn mismatches(&self) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        // The last record in each log.
        let mut last: HashMap<usize, u64> = HashMap::new();
        for named in &self.certificate.records {
            let (number, event, seq) = (named.number, named.event.clone(), named.seq);
            let told = self.found.get(&number);
            let is_it = |found: &&Found| found.seq == seq && *found.hash == named.hash && *found.event == named.event;
            match (told, told.and_then(|told| told.iter().find(is_it))) {
                (None, _) => mismatches.push(Mismatch::Missing { number, event, seq }),
                (Some(_), None) => mismatches.push(Mismatch::Other { number, event, seq }),
                (_, Some(found)) if last.insert(found.log, seq).is_some_and(|last| last >= seq) => {
                    mismatches.push(Mismatch::Order { number, event });
                }
                (_, Some(_)) => {}
            }
        }
        if self.certificate.kind == CertificateKind::Certificate {
            mismatches.extend(self.further().map(|(number, event)| Mismatch::Omitted { number, event }));
        }
        mismatches
    }

    /// Events of the deletion that came after a report of it.
    pub fn further(&self) -> impl Iterator<Item = (u32, String)> {
        let known = self.certificate.records.len();
        let is_further = move |number: &u32| usize::try_from(*number).is_ok_and(|number| number >= known);
        let event = |told: &Vec<Found>| told.first().map(|found| found.event.to_string()).unwrap_or_default();
        self.found
            .iter()
            .filter(move |(number, _)| is_further(number))
            .map(move |(number, told)| (*number, event(told)))
    }
}
