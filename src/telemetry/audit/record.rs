//! One line of the audit file: how it is written, and how it is taken apart again.
//!
//! ```text
//! {"v":1,"seq":7,…,"prev":"<hash of line 6>","hash":"<hash>","disclosures":["…","…"]}
//! └──────────────── body: what the hash covers ──────────┘
//! ```
//! The hash is SHA-256 over the bytes of the body as they stand in the file, so nothing has to be brought into a
//! canonical form first, and no two readings of a line can differ. What follows the body has one form only.

use std::{fmt::Write as _, net::IpAddr, str, sync::Arc};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    ceremony::AuthorityRecord,
    disclosure::{Commitments, NoSalt},
    erasure::ErasureRecord,
};
use crate::{
    policy::{Factor, Possession, Principal, Reason, SecondFactor, SecondFactors},
    telemetry::{json::Object, time},
};

/// A line is never longer.
pub(super) const LINE_BYTES: usize = 1 << 20;
/// What the strings of an attempt may weigh together: eight times that, escaped and encoded, still fits a line.
pub(super) const ATTEMPT_BYTES: usize = 96 << 10;
/// What `prev` is in the first record.
pub(super) const GENESIS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Where the body ends. A quotation mark inside a string is escaped, so this cannot stand in one.
const HASH: &[u8] = b",\"hash\":\"";
/// What follows on the hash, where the record has disclosures.
const DISCLOSURES: &[u8] = b"\",\"disclosures\":[";
/// The length of a SHA-256 in base64url.
const HASH_CHARS: usize = 43;

/// An attempt at a guarded operation by a caller whose credential was verified.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When the request came, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The caller, with the proof of how well that is known.
    pub principal: Arc<Principal>,
    /// The key that the caller proved to hold.
    pub possession: Option<Possession>,
    /// The second factors that it rests on; for a refusal those that were there.
    pub second_factors: SecondFactors,
    /// The number of the grant that came with the request.
    pub grant: Option<Arc<str>>,
    /// The client's address.
    pub address: IpAddr,
    /// The method that was judged.
    pub method: Arc<str>,
    /// The route's name.
    pub route: Arc<str>,
    /// The upstream that gets it, where the route has more than one; `None` for a refusal.
    pub upstream: Option<Arc<str>>,
    /// The guarded operation that matched, as the configuration writes it.
    pub operation: Arc<str>,
    /// The path in normal form.
    pub path: Arc<str>,
    /// The path's parameters.
    pub path_params: Vec<(Arc<str>, Arc<str>)>,
    /// `X-Request-Id`.
    pub request_id: Arc<str>,
    /// `Allowed` for an intent, else why it was refused.
    pub reason: Reason,
}

impl Attempt {
    /// The bytes of all its strings.
    pub(super) fn weight(&self) -> usize {
        let principal = &*self.principal;
        let named = [&self.method, &self.route, &self.operation, &self.path, &self.request_id];
        let known = [&principal.issuer, &principal.issuer_url, &principal.subject];
        let optional = [&principal.client, &principal.assurance.acr].into_iter().flatten();
        let pairs = self.path_params.iter().flat_map(|(name, value)| [name, value]);
        let strings = named.into_iter().chain(known).chain(optional).chain(pairs).chain(&principal.assurance.amr);
        let shown = self.second_factors.iter().flat_map(|second| {
            let level = second.covers.level().into_iter();
            level.chain(&second.assurance.acr).chain(&second.assurance.amr)
        });
        strings.chain(shown).chain(&self.grant).chain(&self.upstream).map(|text| text.len()).sum()
    }
}

/// What became of an operation that was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream answered with this status.
    Answered {
        /// The status.
        status: u16,
    },
    /// It did not, or something after the intent refused the request.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// Nobody knows: the gateway stopped, or lost sight of the request, before the answer.
    Unknown,
}

/// What a record says.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// An operation was allowed, and is about to be forwarded.
    Intent(Attempt),
    /// What became of it.
    Outcome { intent: u64, unix_ms: u64, outcome: Outcome },
    /// An operation was refused.
    Refusal(Attempt),
    /// Attempts without a valid principal, counted.
    Attempts { from_ms: u64, until_ms: u64, counts: Vec<(Reason, Arc<str>, u64)> },
    /// The authority did something.
    Authority(AuthorityRecord),
    /// Something happened in the life of an account deletion.
    Erasure(ErasureRecord),
    /// Disclosures are about to be struck out, in the records of these numbers.
    Struck(StruckRecord),
    /// The file was brought in order when it was opened, or can be written again.
    Recovered(Recovered),
}

/// Which records disclosures are struck out of: a chain that says so tells what was forgotten by right from what somebody hid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StruckRecord {
    pub(super) unix_ms: u64,
    /// How many disclosures.
    pub(super) values: u64,
    /// The numbers of their records: `3,7-9`.
    pub(super) records: String,
}

/// What was wrong with the log, and is no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) unix_ms: u64,
    /// The bytes of an unfinished last line, and the name of the file they were moved to.
    pub(super) torn: Option<(u64, String)>,
    /// The count of a signed head that these records do not bear out, and the name of the file it was moved to.
    pub(super) head: Option<(u64, String)>,
    /// Since when nothing could be written.
    pub(super) outage_from_ms: Option<u64>,
}

impl Recovered {
    /// Nothing could be written for a while.
    pub(super) fn outage(unix_ms: u64, from_ms: u64) -> Self {
        Self { unix_ms, outage_from_ms: Some(from_ms), ..Self::default() }
    }
}

impl Entry {
    /// Its kind, in the record and in the metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Intent(_) => "intent",
            Self::Outcome { .. } => "outcome",
            Self::Refusal(_) => "refusal",
            Self::Attempts { .. } => "attempts",
            Self::Authority(record) => record.kind(),
            Self::Erasure(_) => "erasure",
            Self::Struck(_) => "struck",
            Self::Recovered(_) => "recovered",
        }
    }

    fn unix_ms(&self) -> u64 {
        match self {
            Self::Intent(attempt) | Self::Refusal(attempt) => attempt.unix_ms,
            Self::Outcome { unix_ms, .. } => *unix_ms,
            Self::Attempts { until_ms, .. } => *until_ms,
            Self::Authority(record) => record.unix_ms,
            Self::Erasure(record) => record.unix_ms,
            Self::Struck(record) => record.unix_ms,
            Self::Recovered(recovered) => recovered.unix_ms,
        }
    }

    /// Appends the record as a line, and gives its hash.
    pub(super) fn push_line(&self, text: &mut String, seq: u64, prev: &str) -> Result<String, NoSalt> {
        let start = text.len();
        let mut commitments = Commitments::default();
        let mut line = Object::open(text);
        line.number("v", 1);
        line.number("seq", seq);
        line.string("time", &time::rfc3339(self.unix_ms()));
        line.string("kind", self.kind());
        match self {
            Self::Intent(attempt) => push_attempt(&mut line, attempt, "allowed", &mut commitments)?,
            Self::Refusal(attempt) => push_attempt(&mut line, attempt, "refused", &mut commitments)?,
            Self::Outcome { intent, outcome, .. } => push_outcome(&mut line, *intent, *outcome),
            Self::Attempts { from_ms, counts, .. } => push_counts(&mut line, *from_ms, counts),
            Self::Authority(record) => record.push(&mut line, &mut commitments)?,
            Self::Erasure(record) => record.push(&mut line, &mut commitments)?,
            Self::Struck(record) => {
                line.number("values", record.values);
                line.string("records", &record.records);
            }
            Self::Recovered(recovered) => push_recovered(&mut line, recovered),
        }
        if !commitments.digests.is_empty() {
            line.string("_sd_alg", "sha-256");
            line.strings("_sd", &commitments.digests);
        }
        line.string("prev", prev);
        // The body ends here, and the object goes on.
        let _open = line;
        let hash = hash_of(text.get(start..).unwrap_or_default().as_bytes());
        // Writing to a string cannot fail.
        let _ = write!(text, ",\"hash\":\"{hash}\"");
        for (at, disclosure) in commitments.disclosures.iter().enumerate() {
            let _ = write!(text, "{}\"{disclosure}\"", if at == 0 { ",\"disclosures\":[" } else { "," });
        }
        text.push_str(if commitments.disclosures.is_empty() { "}\n" } else { "]}\n" });
        Ok(hash)
    }
}

fn push_attempt(
    line: &mut Object<'_>,
    attempt: &Attempt,
    decision: &str,
    commitments: &mut Commitments,
) -> Result<(), NoSalt> {
    line.string("decision", decision);
    line.string("reason", attempt.reason.name());
    line.string("request_id", &attempt.request_id);
    let mut operation = Object::open(line.member("op"));
    operation.string("method", &attempt.method);
    operation.string("route", &attempt.route);
    operation.maybe("upstream", attempt.upstream.as_deref());
    operation.string("guard", &attempt.operation);
    operation.close();
    let principal = &*attempt.principal;
    let mut who = Object::open(line.member("who"));
    who.string("issuer", &principal.issuer);
    who.string("issuer_url", &principal.issuer_url);
    who.close();
    let mut proof = Object::open(line.member("proof"));
    proof.maybe("acr", principal.assurance.acr.as_deref());
    proof.strings("amr", &principal.assurance.amr);
    proof.maybe("possession", attempt.possession.map(|possession| possession.to_string()).as_deref());
    if let Some(auth_time) = principal.assurance.auth_time.filter(|time| time.is_finite()) {
        let _ = write!(proof.member("auth_time"), "{auth_time}");
        let age_secs = (attempt.unix_ms as f64 / 1000.0 - auth_time).floor();
        let _ = write!(proof.member("age_secs"), "{age_secs}");
    }
    if !attempt.second_factors.is_empty() {
        push_second_factors(proof.member("second_factors"), attempt);
    }
    proof.maybe("grant", attempt.grant.as_deref());
    proof.close();
    commitments.commit("subject", &principal.subject)?;
    if let Some(client) = &principal.client {
        commitments.commit("client", client)?;
    }
    commitments.commit("address", &attempt.address.to_string())?;
    commitments.commit("path", &attempt.path)?;
    for (name, value) in &attempt.path_params {
        commitments.commit(&format!("path_params.{name}"), value)?;
    }
    Ok(())
}

/// Which factors were shown, by which way, for what, and when.
fn push_second_factors(list: &mut String, attempt: &Attempt) {
    for (at, second) in attempt.second_factors.iter().enumerate() {
        list.push(if at == 0 { '[' } else { ',' });
        push_second_factor(list, second, attempt.unix_ms);
    }
    list.push(']');
}

fn push_second_factor(list: &mut String, second: &SecondFactor, unix_ms: u64) {
    let mut one = Object::open(list);
    one.string("way", second.covers.way());
    one.maybe("level", second.covers.level().map(|level| &**level));
    let names: Vec<&str> = second.factors.iter().map(Factor::name).collect();
    one.strings("factors", &names);
    one.maybe("acr", second.assurance.acr.as_deref());
    one.strings("amr", &second.assurance.amr);
    if let Some(time) = second.assurance.auth_time.filter(|time| time.is_finite()) {
        let _ = write!(one.member("auth_time"), "{time}");
        let _ = write!(one.member("age_secs"), "{}", (unix_ms as f64 / 1000.0 - time).floor());
    }
    one.close();
}

fn push_outcome(line: &mut Object<'_>, intent: u64, outcome: Outcome) {
    line.number("intent", intent);
    match outcome {
        Outcome::Answered { status } => {
            line.string("result", "answered");
            line.number("status", u64::from(status));
        }
        Outcome::Failed { reason } => {
            line.string("result", "failed");
            line.string("reason", reason.name());
        }
        Outcome::Unknown => line.string("result", "unknown"),
    }
}

fn push_counts(line: &mut Object<'_>, from_ms: u64, counts: &[(Reason, Arc<str>, u64)]) {
    line.string("from", &time::rfc3339(from_ms));
    let text = line.member("counts");
    text.push('[');
    for (at, (reason, route, count)) in counts.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let mut item = Object::open(text);
        item.string("reason", reason.name());
        item.string("route", route);
        item.number("count", *count);
        item.close();
    }
    text.push(']');
}

fn push_recovered(line: &mut Object<'_>, recovered: &Recovered) {
    if let Some((bytes, file)) = &recovered.torn {
        line.number("torn_bytes", *bytes);
        line.string("torn_file", file);
    }
    if let Some((count, file)) = &recovered.head {
        line.number("head_count", *count);
        line.string("head_file", file);
    }
    if let Some(from_ms) = recovered.outage_from_ms {
        line.string("unwritable_from", &time::rfc3339(from_ms));
    }
}

/// The hash of a body.
pub(super) fn hash_of(body: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, body))
}

/// A line taken apart, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// What the hash covers: an object without its closing brace.
    pub(super) body: &'a [u8],
    /// The hash that the line bears.
    pub(super) hash: &'a str,
    /// The disclosures that are still there.
    pub(super) disclosures: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// Takes a line apart; `None` if it does not have the one form that lines have.
    pub(super) fn split(line: &'a [u8]) -> Option<Self> {
        let at = line.windows(HASH.len()).position(|window| window == HASH)?;
        let (body, rest) = line.split_at_checked(at)?;
        let (hash, rest) = rest.get(HASH.len()..)?.split_at_checked(HASH_CHARS)?;
        let disclosures = match rest.strip_prefix(DISCLOSURES) {
            Some(list) => strings(list.strip_suffix(b"]}")?)?,
            None => (rest == b"\"}").then(Vec::new)?,
        };
        Some(Self { body, hash: base64url(hash)?, disclosures })
    }

    /// Whether the line bears the hash of its own body.
    pub(super) fn is_sound(&self) -> bool {
        hash_of(self.body) == self.hash
    }

    /// The body as a whole object.
    pub(super) fn object(&self) -> Vec<u8> {
        [self.body, b"}"].concat()
    }
}

/// Strikes out whatever disclosures a line has, or the beginning of one.
pub(super) fn strike_disclosures(line: &mut [u8]) {
    let Some(at) = line.windows(HASH.len()).position(|window| window == HASH) else { return };
    for byte in line.iter_mut().skip(at + HASH.len() + HASH_CHARS + DISCLOSURES.len()) {
        if byte.is_ascii_alphanumeric() || *byte == b'_' {
            *byte = b'-';
        }
    }
}

/// `"a","b"` where each is base64url; an empty list has no items.
fn strings(list: &[u8]) -> Option<Vec<&str>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    list.split(|&byte| byte == b',').map(|item| base64url(item.strip_prefix(b"\"")?.strip_suffix(b"\"")?)).collect()
}

fn base64url(text: &[u8]) -> Option<&str> {
    let legal =
        !text.is_empty() && text.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    str::from_utf8(text).ok().filter(|_| legal)
}
