//! The certificate of a deletion: what was asked, by what proof, what was done, seen and decided, and where each event stands in the
//! audit chain. It names nobody whose data it was.
//!
//! It is a JWS (RFC 7515 §7.1, EdDSA), so that any library verifies it, by the key that signs the log's heads. What is signed is the
//! text itself, and the header's one form says what the signature is for: one made for a head is none here, nor the other way round.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::head::{PublicKey, Signer};
use crate::telemetry::time;

/// The version of the form.
const VERSION: u64 = 1;
/// The `typ` of the header (RFC 7515 §4.1.9).
const TYPE: &str = "stepgate-erasure-certificate";
/// A certificate is never longer, signed and as text.
pub const MAX_CERTIFICATE: usize = 4 << 20;

/// What a certificate says. Times are RFC 3339, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The version of this form, 1.
    pub v: u64,
    /// Whether the deletion has ended.
    #[serde(rename = "type")]
    pub kind: CertificateKind,
    /// The deletion's number.
    pub id: String,
    /// Its plan.
    pub plan: String,
    /// The operation that asked for it, as the plan writes it.
    pub operation: String,
    /// Where it is: `erased`, `cancelled`, or a state on the way.
    pub state: String,
    /// The result, in a sentence.
    pub result: String,
    /// Whose data it was.
    pub subject: CertifiedSubject,
    /// Who asked for it.
    pub requested_by: CertifiedParty,
    /// What they had proved.
    pub proof: CertifiedProof,
    /// When: `requested`, `held_until`, `begun`, `done`, `gone`, `ended`, as far as it has come; and `issued`, when this was signed.
    pub times: BTreeMap<String, String>,
    /// What was told to go, and to stay.
    pub scope: CertifiedScope,
    /// The SHA-256 of the terms that it was made under, hexadecimal.
    pub terms: String,
    /// What people decided about it, in order: approvals, holds and their release, cancelling, disputes, retries.
    pub decisions: Vec<CertifiedDecision>,
    /// The steps, in the order of the plan.
    pub calls: Vec<CertifiedCall>,
    /// What became of the gateway's own data of the person; absent where the plan leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_data: Option<CertifiedOwnData>,
    /// How it was verified.
    pub probes: Vec<CertifiedProbe>,
    /// Where its events stand in the audit chain, from the first, without a gap.
    pub records: Vec<CertifiedRecord>,
    /// How many events the chain does not have yet; none once it has ended.
    pub unrecorded: u64,
    /// The public key that signs this, base64url.
    pub key: String,
}

/// Whether a deletion has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateKind {
    /// It has: nothing will ever change in it.
    Certificate,
    /// It is under way: this is how far it has come.
    Report,
}

/// Whose data it was, naming nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedSubject {
    /// Who vouched for them.
    pub issuer_url: String,
    /// The claim that they were known by: `subject`, a name, or a JSON pointer.
    pub claim: String,
    /// The keyed hash of both and the claim's value, which the gateway alone can make.
    pub hash: String,
}

/// Who did something. The data's subject has no name here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedParty {
    /// `owner` (the data's subject), `caller`, `operator`, `link` (whoever held a notice's link) or `gateway`.
    pub party: String,
    /// Who vouches for a caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_url: Option<String>,
    /// A caller's subject, or an operator's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What whoever asked had proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedProof {
    /// The authentication context class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Methods (RFC 8176).
    pub amr: Vec<String>,
    /// Factors that were shown to the gateway.
    pub factors: Vec<String>,
    /// How old the authentication was, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_secs: Option<u64>,
    /// The number of the grant that was used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The `X-Request-Id` of the request: the intent in the audit chain has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What was told to go, and to stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedScope {
    /// In words.
    pub summary: String,
    /// What goes.
    pub erased: Vec<String>,
    /// What stays.
    pub kept: Vec<CertifiedKept>,
}

/// What stays, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedKept {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// For how long.
    pub how_long: String,
}

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedDecision {
    /// The event's name.
    pub event: String,
    /// A word more: which hold, which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Who.
    pub by: CertifiedParty,
    /// When.
    pub at: String,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedCall {
    /// Its name.
    pub name: String,
    /// The upstream's name.
    pub upstream: String,
    /// The method.
    pub method: String,
    /// The target, a template.
    pub target: String,
    /// `done`, `accepted` (by a person), `waiting`, `sent` or `parked`.
    pub outcome: String,
    /// The last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How often it was sent.
    pub attempts: u32,
    /// When that was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// The gateway's own data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedOwnData {
    /// As of a step.
    pub outcome: String,
    /// When that was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// A probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedProbe {
    /// Its name.
    pub name: String,
    /// The upstream's name.
    pub upstream: String,
    /// The method.
    pub method: String,
    /// The target, a template.
    pub target: String,
    /// Whether it counts: it does where it saw the data before the first step.
    pub counts: bool,
    /// What it saw before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CertifiedSight>,
    /// What it saw afterwards.
    pub looks: Vec<CertifiedLook>,
}

/// What a probe saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedSight {
    /// The answer.
    pub status: u16,
    /// Whether that means that the data is there.
    pub there: bool,
    /// When.
    pub at: String,
}

/// A look at what should be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedLook {
    /// When it was due.
    pub due: String,
    /// What it saw, if it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<CertifiedSight>,
}

/// Where an event stands in the audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedRecord {
    /// The event's number within the deletion, from 0.
    pub number: u32,
    /// Its name.
    pub event: String,
    /// The record's number.
    pub seq: u64,
    /// The record's hash.
    pub hash: String,
}

/// A moment as certificates have it; from seconds since the Unix epoch.
pub fn moment(unix_secs: u64) -> String {
    time::rfc3339(unix_secs.saturating_mul(1000))
}

/// Why a text is no certificate that can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateFault {
    /// It is no certificate.
    #[error("this is not a certificate")]
    Form,
    /// Its signature does not verify: it was altered, or never was one.
    #[error("the signature of the certificate does not verify")]
    Signature,
    /// It is signed with another key than was expected.
    #[error("the certificate is signed with the key {0}, which is not the one that is expected")]
    Key(String),
    /// The part for reading does not say what was signed.
    #[error("the readable part of the certificate is not what was signed")]
    Readable,
    /// What was signed is not in a form that is known here.
    #[error("the certificate's content is not known here: {0}")]
    Content(String),
    /// Its records cannot be those of one deletion.
    #[error("the records that the certificate names are not one after the other, from the first")]
    Records,
    /// It cannot be made.
    #[error("the certificate is larger than {MAX_CERTIFICATE} bytes")]
    TooLarge,
}

/// A certificate and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCertificate {
    certificate: Certificate,
    jws: String,
}

/// The form of a file: what is signed, and the same for reading.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Both {
    certificate: serde_json::Value,
    jws: String,
}

impl SignedCertificate {
    /// Signs a certificate; its version and key are filled in.
    pub(super) fn sign(mut certificate: Certificate, signer: &Signer) -> Result<Self, CertificateFault> {
        certificate.v = VERSION;
        certificate.key = signer.public_key().to_text();
        let payload = serde_json::to_vec(&certificate).map_err(|error| CertificateFault::Content(error.to_string()))?;
        let mut jws = URL_SAFE_NO_PAD.encode(header(&certificate.key));
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut jws);
        let signature = signer.signature(jws.as_bytes());
        jws.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
        let signed = Self { certificate, jws };
        if signed.to_json().len() > MAX_CERTIFICATE {
            return Err(CertificateFault::TooLarge);
        }
        Ok(signed)
    }

    /// Reads a certificate, as a JWS or in the form of [`Self::to_json`], and verifies its signature.
    ///
    /// `pinned` is the key that must have signed it. Without it, any key that it names will do, and whoever made it may have made the
    /// key.
    pub fn read(text: &str, pinned: Option<&PublicKey>) -> Result<Self, CertificateFault> {
        let text = text.trim();
        if text.len() > MAX_CERTIFICATE {
            return Err(CertificateFault::TooLarge);
        }
        if !text.starts_with('{') {
            return Self::read_jws(text, pinned);
        }
        super::verify::members_once(text.as_bytes()).map_err(|_| CertificateFault::Form)?;
        let both: Both = serde_json::from_str(text).map_err(|_| CertificateFault::Form)?;
        let signed = Self::read_jws(&both.jws, pinned)?;
        let is_same = serde_json::to_value(&signed.certificate).is_ok_and(|value| value == both.certificate);
        is_same.then_some(signed).ok_or(CertificateFault::Readable)
    }

    fn read_jws(jws: &str, pinned: Option<&PublicKey>) -> Result<Self, CertificateFault> {
        let (message, signature) = jws.rsplit_once('.').ok_or(CertificateFault::Form)?;
        let (protected, payload) = message.split_once('.').ok_or(CertificateFault::Form)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| CertificateFault::Form);
        let (protected, payload, signature) = (decoded(protected)?, decoded(payload)?, decoded(signature)?);
        // The header is compared and not interpreted: no algorithm, key or extension can be talked into.
        let key = key_of(&protected).ok_or(CertificateFault::Form)?;
        if pinned.is_some_and(|pinned| *pinned != key) {
            return Err(CertificateFault::Key(key.to_text()));
        }
        if !key.has_signed(message.as_bytes(), &signature) {
            return Err(CertificateFault::Signature);
        }
        let content = |error: serde_json::Error| CertificateFault::Content(error.to_string());
        super::verify::members_once(&payload).map_err(content)?;
        let certificate: Certificate = serde_json::from_slice(&payload).map_err(content)?;
        if certificate.v != VERSION {
            return Err(CertificateFault::Content(format!("version {}", certificate.v)));
        }
        if certificate.key != key.to_text() {
            return Err(CertificateFault::Content("it names another key than signed it".to_owned()));
        }
        let is_whole = certificate.kind == CertificateKind::Report || certificate.unrecorded == 0;
        let numbered = (0..).zip(&certificate.records).all(|(number, record)| record.number == number);
        if !(is_whole && numbered) || certificate.records.is_empty() && certificate.unrecorded == 0 {
            return Err(CertificateFault::Records);
        }
        Ok(Self { certificate, jws: jws.to_owned() })
    }

    /// What it says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The signed text: a compact JWS.
    pub fn jws(&self) -> &str {
        &self.jws
    }

    /// The signed text, and the same for reading, as a JSON object.
    pub fn to_json(&self) -> String {
        let certificate = serde_json::to_value(&self.certificate).unwrap_or_default();
        let both = Both { certificate, jws: self.jws.clone() };
        // Strings and numbers can always be written.
        serde_json::to_string_pretty(&both).unwrap_or_default()
    }
}

/// The one form of the header.
fn header(key: &str) -> String {
    format!(r#"{{"alg":"EdDSA","typ":"{TYPE}","kid":"{key}"}}"#)
}

/// The key that a header names, if it has the one form.
fn key_of(protected: &[u8]) -> Option<PublicKey> {
    let rest = protected.strip_suffix(b"\"}")?;
    let key = PublicKey::parse(std::str::from_utf8(rest.get(rest.len().checked_sub(43)?..)?).ok()?)?;
    (header(&key.to_text()).as_bytes() == protected).then_some(key)
}
