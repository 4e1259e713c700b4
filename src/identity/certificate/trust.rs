//! What a source trusts: its authorities, and the lists of what they have revoked. Read as a whole; a list that none of the
//! authorities has signed is a fault, since it would revoke nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, pem::PemObject};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::{asn1_rs::Any, certificate::X509Certificate, prelude::FromDer, revocation_list};

use super::judge::algorithms;

/// The files of a source, as read at one time.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) ca: Vec<u8>,
    pub(super) lists: Vec<Vec<u8>>,
}

impl Files {
    fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for file in [&self.ca].into_iter().chain(&self.lists) {
            context.update(&file.len().to_be_bytes());
            context.update(file);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

/// Which of the files something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The authorities.
    Ca,
    /// A list, by its place in the configuration.
    List(usize),
}

/// Why the files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TrustFault {
    /// The authorities' file.
    #[error("no PEM file of certificates")]
    NoAuthority,
    /// One of them.
    #[error("certificate {0} is none that could be an authority")]
    BadAuthority(usize),
    /// A list's file.
    #[error("no list of revoked certificates, in PEM or DER")]
    NoList,
    /// A list that is broken, or of a kind that is not understood: a delta, an indirect one.
    #[error("a list that cannot be used: {0}")]
    BadList(String),
    /// A list of somebody else.
    #[error("the list of {0} is of no authority in `ca`")]
    Stranger(String),
    /// A list in somebody's name that is not theirs.
    #[error("the list of {0} is not signed by the authority of that name in `ca`")]
    Signature(String),
    /// A list of an authority whose certificate does not let it sign lists (RFC 5280 §4.2.1.3, `cRLSign`).
    #[error("the authority {0} may not sign lists by the key usage of its certificate")]
    Usage(String),
}

/// A list of revoked certificates.
#[derive(Debug)]
struct List {
    place: usize,
    list: CertRevocationList<'static>,
    this_update: u64,
    next_update: u64,
}

/// An authority's certificate, as far as it matters here.
struct Authority<'a> {
    der: &'a CertificateDer<'static>,
    parsed: X509Certificate<'a>,
}

/// What a source trusts. Its number is never used again.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) number: u64,
    /// SHA-256 of the files, each with its length.
    pub(super) digest: [u8; 32],
    /// Where paths end: authorities that no other of the file has issued.
    pub(super) anchors: Box<[TrustAnchor<'static>]>,
    /// The other authorities of the file, through which paths may lead.
    pub(super) intermediates: Box<[CertificateDer<'static>]>,
    /// When something about the authorities or the lists changes, in seconds since the epoch.
    pub(super) turns: Box<[u64]>,
    lists: Box<[List]>,
    /// Until when each authority is valid, by its place in the file.
    ends: Box<[u64]>,
}

impl Trust {
    /// Reads the files.
    pub(super) fn read(files: &Files) -> Result<Self, (Place, TrustFault)> {
        let broken = |fault| (Place::Ca, fault);
        let ders: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&files.ca)
            .collect::<Result<_, _>>()
            .map_err(|_| broken(TrustFault::NoAuthority))?;
        if ders.is_empty() {
            return Err(broken(TrustFault::NoAuthority));
        }
        let mut authorities = Vec::with_capacity(ders.len());
        for (at, der) in ders.iter().enumerate() {
            let (_, parsed) = X509Certificate::from_der(der).map_err(|_| broken(TrustFault::BadAuthority(at + 1)))?;
            authorities.push(Authority { der, parsed });
        }
        let (mut anchors, mut intermediates) = (Vec::new(), Vec::new());
        for (at, authority) in authorities.iter().enumerate() {
            let (subject, issuer) = (authority.parsed.subject().as_raw(), authority.parsed.issuer().as_raw());
            let issued_here = authorities.iter().any(|other| other.parsed.subject().as_raw() == issuer);
            if issuer != subject && issued_here {
                intermediates.push(authority.der.clone());
                continue;
            }
            let anchor = webpki::anchor_from_trusted_cert(authority.der);
            anchors.push(anchor.map_err(|_| broken(TrustFault::BadAuthority(at + 1)))?.to_owned());
        }
        let mut lists = Vec::new();
        for (place, bytes) in files.lists.iter().enumerate() {
            read_lists(bytes, place, &authorities, &mut lists).map_err(|fault| (Place::List(place), fault))?;
        }
        // The first list of an issuer is the one that is asked: an old one beside it must hide nothing.
        lists.sort_by_key(|list| std::cmp::Reverse((list.this_update, list.next_update)));
        let validity = |one: &Authority<'_>| {
            let validity = one.parsed.validity();
            (seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp()))
        };
        let spans: Vec<(u64, u64)> = authorities.iter().map(validity).collect();
        let turns = spans.iter().flat_map(|(from, to)| [*from, to.saturating_add(1)]);
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            digest: files.digest(),
            anchors: anchors.into(),
            intermediates: intermediates.into(),
            turns: turns.chain(lists.iter().map(|list| list.next_update)).collect(),
            lists: lists.into(),
            ends: spans.into_iter().map(|(_, to)| to).collect(),
        })
    }

    /// The lists, those made last first.
    pub(super) fn lists(&self) -> Vec<&CertRevocationList<'static>> {
        self.lists.iter().map(|list| &list.list).collect()
    }

    /// How many authorities there are.
    pub(super) fn authorities(&self) -> usize {
        self.ends.len()
    }

    /// When the list was made that is the oldest; `None` without any.
    pub(super) fn oldest_list(&self) -> Option<u64> {
        self.lists.iter().map(|list| list.this_update).min()
    }

    /// When the first of the lists ends; `None` without any.
    pub(super) fn next_update(&self) -> Option<u64> {
        self.lists.iter().map(|list| list.next_update).min()
    }

    /// The earliest `nextUpdate` of each file of lists.
    fn next_updates(&self) -> Vec<(usize, u64)> {
        let mut found: Vec<(usize, u64)> = self.lists.iter().map(|list| (list.place, list.next_update)).collect();
        found.sort_unstable();
        found.dedup_by_key(|(place, _)| *place);
        found
    }

    /// What is no longer good, for the operator.
    pub(super) fn remarks(&self, now_secs: u64) -> Vec<(Place, String)> {
        let lists = self.next_updates().into_iter().filter(|(_, next)| *next <= now_secs).map(|(place, next)| {
            let message = format!("a list of revoked certificates ended on {}", date(next));
            (Place::List(place), message)
        });
        let ends = self
            .ends
            .iter()
            .enumerate()
            .filter(|(_, end)| **end < now_secs)
            .map(|(at, end)| (Place::Ca, format!("certificate {} expired on {}", at + 1, date(*end))));
        lists.chain(ends).collect()
    }
}

/// A time in words.
pub(super) fn date(secs: u64) -> String {
    i64::try_from(secs)
        .ok()
        .and_then(|secs| jiff::Timestamp::from_second(secs).ok())
        .map_or_else(|| format!("second {secs}"), |time| time.to_string())
}

/// Before the epoch is the epoch.
pub(super) fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn read_lists(
    bytes: &[u8],
    place: usize,
    authorities: &[Authority<'_>],
    lists: &mut Vec<List>,
) -> Result<(), TrustFault> {
    // A DER list is a SEQUENCE; PEM is text.
    if bytes.first() == Some(&0x30) {
        lists.push(read_list(bytes, place, authorities)?);
        return Ok(());
    }
    let before = lists.len();
    for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
        let list = list.map_err(|_| TrustFault::NoList)?;
        lists.push(read_list(&list, place, authorities)?);
    }
    if lists.len() == before { Err(TrustFault::NoList) } else { Ok(()) }
}

fn read_list(der: &[u8], place: usize, authorities: &[Authority<'_>]) -> Result<List, TrustFault> {
    let bad = |error: &dyn std::fmt::Display| TrustFault::BadList(error.to_string());
    let owned = OwnedCertRevocationList::from_der(der).map_err(|error| bad(&error))?;
    let (_, parsed) = revocation_list::CertificateRevocationList::from_der(der).map_err(|error| bad(&error))?;
    let issuer = parsed.issuer().as_raw();
    let name = parsed.issuer().to_string();
    let mut named = authorities.iter().filter(|one| one.parsed.subject().as_raw() == issuer).peekable();
    if named.peek().is_none() {
        return Err(TrustFault::Stranger(name));
    }
    let Some(signer) = named.find(|one| is_signed(der, one.parsed.public_key().raw).unwrap_or(false)) else {
        return Err(TrustFault::Signature(name));
    };
    if let Ok(Some(usage)) = signer.parsed.key_usage()
        && !usage.value.crl_sign()
    {
        return Err(TrustFault::Usage(name));
    }
    Ok(List {
        place,
        list: owned.into(),
        this_update: seconds(parsed.last_update().timestamp()),
        next_update: parsed.next_update().map_or(0, |time| seconds(time.timestamp())),
    })
}

/// Whether a signed object is by the key of this SubjectPublicKeyInfo. Said at load, where it can be explained; the path
/// building checks it again whenever it asks a list.
fn is_signed(der: &[u8], key: &[u8]) -> Option<bool> {
    let (_, outer) = Any::from_der(der).ok()?;
    let (rest, _) = Any::from_der(outer.data).ok()?;
    let signed = outer.data.get(..outer.data.len() - rest.len())?;
    let (rest, algorithm) = Any::from_der(rest).ok()?;
    let (_, signature) = Any::from_der(rest).ok()?;
    let (_, key) = Any::from_der(key).ok()?;
    let (rest, key_algorithm) = Any::from_der(key.data).ok()?;
    let (_, key_bits) = Any::from_der(rest).ok()?;
    // BIT STRINGs of whole bytes.
    let (signature, key_bits) = (signature.data.strip_prefix(&[0])?, key_bits.data.strip_prefix(&[0])?);
    let fits = algorithms().iter().filter(|one| {
        one.signature_alg_id().as_ref() == algorithm.data && one.public_key_alg_id().as_ref() == key_algorithm.data
    });
    Some(fits.into_iter().any(|one| one.verify_signature(key_bits, signed, signature).is_ok()))
}
