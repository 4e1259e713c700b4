//! The certificates of a listener, chosen by the name that a client asks for, and replaced as a whole.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// A certificate with its key, and what it says of itself.
#[derive(Debug)]
pub(super) struct Certificate {
    key: Arc<CertifiedKey>,
    file: PathBuf,
    names: Vec<String>,
    not_after: SystemTime,
}

impl Certificate {
    /// Reads what the leaf says; `None` when it is no certificate.
    pub(super) fn new(key: CertifiedKey, file: &Path) -> Option<Self> {
        let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(key.cert.first()?).ok()?;
        let names = match leaf.subject_alternative_name().ok()? {
            Some(extension) => extension.value.general_names.iter().filter_map(dns_name).collect(),
            None => Vec::new(),
        };
        let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
        let not_after = UNIX_EPOCH + Duration::from_secs(seconds);
        Some(Self { key: Arc::new(key), file: file.to_owned(), names, not_after })
    }

    /// The file that it was read from.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Until when it is valid.
    pub(super) fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None }
}

/// A listener's certificates, by name.
#[derive(Debug)]
pub(super) struct CertificateSet {
    certificates: Vec<Certificate>,
    exact: HashMap<String, Vec<usize>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
}

impl CertificateSet {
    /// The first certificate is the one for clients that ask for no name, or for one that none has. Without any, all
    /// handshakes fail.
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<String, Vec<usize>>::new(), HashMap::<String, Vec<usize>>::new());
        for (index, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_default().push(index),
                    None => exact.entry(name.clone()).or_default().push(index),
                }
            }
        }
        Self { certificates, exact, wildcard }
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The certificates for `name`, exact before wildcard; a wildcard stands for one label (RFC 6125 §6.4.3).
    fn candidates(&self, name: &str) -> &[usize] {
        let exact = self.exact.get(name);
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        exact.or_else(wildcard).map_or(&[], Vec::as_slice)
    }

    fn choose(&self, name: Option<&str>, suits: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let candidates = name.as_deref().map_or(&[][..], |name| self.candidates(name));
        let certificates = || candidates.iter().filter_map(|index| self.certificates.get(*index));
        certificates()
            .find(|certificate| suits(&certificate.key))
            .or_else(|| certificates().next())
            .or_else(|| self.certificates.first())
            .map(|certificate| Arc::clone(&certificate.key))
    }
}

/// Gives rustls the certificate for a handshake, from the set in force.
#[derive(Debug)]
pub(super) struct Resolver(ArcSwap<CertificateSet>);

impl Resolver {
    pub(super) fn new(set: CertificateSet) -> Self {
        Self(ArcSwap::from_pointee(set))
    }

    pub(super) fn replace(&self, set: CertificateSet) {
        self.0.store(Arc::new(set));
    }

    pub(super) fn set(&self) -> Arc<CertificateSet> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Two certificates for one name are an RSA and an ECDSA one: the client says what it can verify.
        let suits = |key: &CertifiedKey| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.load().choose(hello.server_name(), suits)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;
    use crate::server::tests::certified_key;

    fn set(names: &[&[&str]]) -> CertificateSet {
        CertificateSet::new(
            names.iter().map(|names| Certificate::new(certified_key(names), Path::new("test.pem")).unwrap()).collect(),
        )
    }

    fn chosen(set: &CertificateSet, name: Option<&str>) -> usize {
        let key = set.choose(name, |_| true).unwrap();
        set.certificates.iter().position(|certificate| Arc::ptr_eq(&certificate.key, &key)).unwrap()
    }

    #[test]
    fn exact_names_go_before_wildcards_and_unknown_names_get_the_first() {
        let set = set(&[&["a.example"], &["*.b.example"], &["x.b.example"]]);
        assert_eq!(chosen(&set, None), 0);
        assert_eq!(chosen(&set, Some("unknown.example")), 0);
        assert_eq!(chosen(&set, Some("y.b.example")), 1);
        assert_eq!(chosen(&set, Some("X.B.example")), 2);
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let set = set(&[&["a.example"], &["*.b.example"]]);
        assert_eq!(chosen(&set, Some("b.example")), 0);
        assert_eq!(chosen(&set, Some("x.y.b.example")), 0);
    }

    #[test]
    fn a_certificate_that_the_client_cannot_verify_gives_way_to_one_that_it_can() {
        let set = set(&[&["a.example"], &["a.example"]]);
        let second = Arc::clone(&set.certificates.get(1).unwrap().key);
        let key = set.choose(Some("a.example"), |key| std::ptr::eq(key, &*second)).unwrap();
        assert!(Arc::ptr_eq(&key, &second));
    }
}
