//! What a source trusts: its authorities, and the lists of what they have revoked. Read as a whole; a list that none of the
//! authorities has signed is a fault, since it would revoke nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::{CertificateDer, TrustAnchor, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::lists::List;

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
    /// All of them.
    #[error("no authority with which a path could end: each is issued by another of the file")]
    NoRoot,
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
    /// The lists, those made last first: of two of one authority the newer is asked.
    pub(super) lists: Box<[List]>,
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
            authorities.push(parsed);
        }
        let (mut anchors, mut intermediates) = (Vec::new(), Vec::new());
        for (at, (der, parsed)) in ders.iter().zip(&authorities).enumerate() {
            let (subject, issuer) = (parsed.subject().as_raw(), parsed.issuer().as_raw());
            let issued_here = authorities.iter().any(|other| other.subject().as_raw() == issuer);
            if issuer != subject && issued_here {
                intermediates.push(der.clone());
                continue;
            }
            let anchor = webpki::anchor_from_trusted_cert(der);
            anchors.push(anchor.map_err(|_| broken(TrustFault::BadAuthority(at + 1)))?.to_owned());
        }
        if anchors.is_empty() {
            return Err(broken(TrustFault::NoRoot));
        }
        let mut lists = Vec::new();
        for (place, bytes) in files.lists.iter().enumerate() {
            lists.extend(List::read(bytes, place, &authorities).map_err(|fault| (Place::List(place), fault))?);
        }
        lists.sort_by_key(|list| std::cmp::Reverse((list.this_update, list.next_update)));
        let validity = |one: &X509Certificate<'_>| {
            let validity = one.validity();
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
