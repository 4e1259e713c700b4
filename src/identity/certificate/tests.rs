//! Real certificates and lists, made for each test, before real sources.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{path::Path, sync::Arc, time::Duration};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::*;
use crate::{
    config::{CredentialKind, CrlDepth},
    identity::{
        Kinds,
        testing::{MadeUp, now, services},
    },
    policy::{Kind, Principal},
};

const DAY: u64 = 24 * 60 * 60;

macro_rules! at {
    ($secs:expr) => {
        date_time_ymd(1970, 1, 1) + Duration::from_secs($secs)
    };
}

/// An authority.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a test says of a certificate; the rest is good.
struct Leaf {
    dn: Vec<(DnType, &'static str)>,
    san: Vec<SanType>,
    serial: u64,
    purpose: Vec<ExtendedKeyUsagePurpose>,
    from: u64,
    to: u64,
    points: &'static [&'static str],
}

impl Default for Leaf {
    fn default() -> Self {
        let now = now().unix_secs();
        Self {
            dn: vec![(DnType::OrganizationName, "Example"), (DnType::CommonName, "press-1")],
            san: Vec::new(),
            serial: 7,
            purpose: vec![ExtendedKeyUsagePurpose::ClientAuth],
            from: now - DAY,
            to: now + 10 * DAY,
            points: &[],
        }
    }
}

fn dn(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}

impl Ca {
    fn new(name: &str) -> Self {
        let params = Self::params(name, vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn params(name: &str, usages: Vec<KeyUsagePurpose>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = dn(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = usages;
        params
    }

    /// An authority that this one has issued.
    fn below(&self, name: &str, serial: u64) -> Self {
        let mut params = Self::params(name, vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap().to_vec()
    }

    fn leaf(&self, leaf: Leaf) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = dn(&leaf.dn);
        params.subject_alt_names = leaf.san;
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        params.extended_key_usages = leaf.purpose;
        (params.not_before, params.not_after) = (at!(leaf.from), at!(leaf.to));
        let point = |uri: &&str| CrlDistributionPoint { uris: vec![(*uri).to_owned()] };
        params.crl_distribution_points = leaf.points.iter().map(point).collect();
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().to_vec()
    }

    /// A list of these serial numbers, made a number of days ago and good for so many from then.
    fn list(&self, serials: &[u64], ago: u64, days: u64) -> rcgen::CertificateRevocationList {
        self.scoped_list(serials, ago, days, None)
    }

    /// The same for a part of its certificates.
    fn scoped_list(
        &self,
        serials: &[u64],
        ago: u64,
        days: u64,
        issuing_distribution_point: Option<CrlIssuingDistributionPoint>,
    ) -> rcgen::CertificateRevocationList {
        let made = now().unix_secs() - ago * DAY;
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at!(made),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at!(made),
            next_update: at!(made + days * DAY),
            crl_number: SerialNumber::from(made),
            issuing_distribution_point,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }
}

fn file(name: &str) -> File {
    File { span: Span { key: name.into(), ..Span::default() }, path: name.into() }
}

fn definition() -> ClientCertificates {
    ClientCertificates {
        ca: file("ca"),
        subject: CertificateSubject::SubjectDn,
        allow: Vec::new(),
        crl: Vec::new(),
        crl_depth: CrlDepth::Chain,
        danger_expired_crl: false,
        scopes: vec!["items:read".into()],
        person: false,
    }
}

fn source(name: &str, definition: ClientCertificates) -> Arc<CredentialSource> {
    let kind = CredentialKind::ClientCertificates(definition);
    Arc::new(CredentialSource { span: Span::default(), name: name.into(), kind })
}

fn files(all: &[(&str, Vec<u8>)]) -> MadeUp {
    let mut made = MadeUp::default();
    made.files.extend(all.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())));
    made
}

fn shown(chain: &[&[u8]]) -> ClientCertificate {
    ClientCertificate::new(chain.iter().copied()).unwrap()
}

/// What one source says of a chain, without waiting for anything.
fn say(
    definition: &ClientCertificates,
    made: &MadeUp,
    shown: &ClientCertificate,
    secs: u64,
) -> Result<Arc<Principal>, Reason> {
    let trust = read(definition, made).unwrap_or_else(|problem| panic!("{problem:?}"));
    outcome(judge(&Rules::new(&"devices".into(), definition), &trust, shown, secs).verdict)
}

fn outcome(verdict: Verdict) -> Result<Arc<Principal>, Reason> {
    match verdict {
        Verdict::Valid(principal) => Ok(principal),
        Verdict::Invalid(reason) | Verdict::Unknown(reason) => Err(reason),
        Verdict::Unavailable => Err(Reason::RevocationUnavailable),
    }
}

fn today() -> u64 {
    now().unix_secs()
}

/// The subject that a good certificate has by this rule.
fn subject(place: CertificateSubject, leaf: Leaf) -> Result<String, Reason> {
    let ca = Ca::new("ca");
    let definition = ClientCertificates { subject: place, ..definition() };
    let made = files(&[("ca", ca.pem.clone().into_bytes())]);
    say(&definition, &made, &shown(&[&ca.leaf(leaf)]), today()).map(|principal| principal.subject.to_string())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

// -- whom a certificate names

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

#[test]
fn a_certificate_becomes_a_machine_with_all_that_is_known_of_it() {
    let ca = Ca::new("Devices CA");
    let leaf = Leaf { san: vec![dns("Press-1.example"), SanType::IpAddress([192, 0, 2, 1].into())], ..Leaf::default() };
    let (from, to) = (leaf.from, leaf.to);
    let shown = shown(&[&ca.leaf(leaf)]);
    let made = files(&[("ca", ca.pem.clone().into_bytes())]);
    let principal = say(&definition(), &made, &shown, today()).unwrap();
    assert_eq!((&*principal.issuer, &*principal.issuer_url), ("devices", "urn:stepgate:credentials:devices"));
    assert_eq!((&*principal.subject, principal.kind), ("CN=press-1,O=Example", Kind::Machine));
    assert_eq!(principal.marks.id.as_deref(), Some("07"));
    assert_eq!(principal.marks.fingerprint, Some(digest_of(shown.leaf())));
    assert_eq!((principal.marks.issued_at, principal.expires_at), (Some(from as f64), Some(to as f64)));
    assert_eq!(principal.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["items:read"]);
    assert!(principal.binding.is_none() && principal.assurance.amr.is_empty());
    let claims = &principal.claims;
    assert_eq!(claims["issuer_dn"], "CN=Devices CA");
    assert_eq!(claims["san"]["dns"][0], "press-1.example");
    assert_eq!(claims["san"]["ip"][0], "192.0.2.1");
    assert_eq!(claims["common_name"][0], "press-1");
    assert_eq!(claims["x5t#S256"].as_str().unwrap().len(), 43);
    let person = ClientCertificates { person: true, ..definition() };
    assert_eq!(say(&person, &made, &shown, today()).unwrap().kind, Kind::Person);
}

#[test]
fn a_distinguished_name_is_written_as_rfc_4514_has_it() {
    let dn = vec![
        (DnType::CountryName, "FR"),
        (DnType::OrganizationName, "a, O=b+c"),
        (DnType::OrganizationalUnitName, "#1 \\ \"x\" <y>; "),
        (DnType::from_oid(&[1, 2, 3, 4]), "z"),
        (DnType::CommonName, " Zoë"),
    ];
    assert_eq!(
        subject(CertificateSubject::SubjectDn, Leaf { dn, ..Leaf::default() }).unwrap(),
        "CN=\\ Zoë,1.2.3.4=#0c017a,OU=\\#1 \\\\ \\\"x\\\" \\<y\\>\\;\\ ,O=a\\, O=b\\+c,C=FR"
    );
}

#[test]
fn the_subject_is_the_one_name_of_its_kind_or_nobody() {
    let with = |san: Vec<SanType>| Leaf { san, ..Leaf::default() };
    let unknown = Err(Reason::CertificateUnknown);
    assert_eq!(subject(CertificateSubject::CommonName, Leaf::default()).unwrap(), "press-1");
    assert_eq!(subject(CertificateSubject::SanDns, with(vec![dns("A.example"), uri("x:y")])).unwrap(), "a.example");
    assert_eq!(subject(CertificateSubject::SanUri, with(vec![uri("spiffe://x/A")])).unwrap(), "spiffe://x/A");
    let email = SanType::Rfc822Name("A@b.example".try_into().unwrap());
    assert_eq!(subject(CertificateSubject::SanEmail, with(vec![email])).unwrap(), "A@b.example");
    assert_eq!(subject(CertificateSubject::SanDns, with(vec![dns("a.example"), dns("b.example")])), unknown);
    assert_eq!(subject(CertificateSubject::SanDns, with(vec![dns("*.example")])), unknown);
    assert_eq!(subject(CertificateSubject::SanUri, with(vec![dns("a.example")])), unknown);
    let no_name = Leaf { dn: Vec::new(), ..Leaf::default() };
    assert_eq!(subject(CertificateSubject::SubjectDn, no_name), unknown);
    let no_name = Leaf { dn: vec![(DnType::OrganizationName, "x")], ..Leaf::default() };
    assert_eq!(subject(CertificateSubject::CommonName, no_name), unknown);
}

#[test]
fn a_name_with_a_control_character_is_nobodys() {
    for name in ["press\0-1", "press\n1", "press\u{9b}1"] {
        let ca = Ca::new("ca");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
        let der = params.signed_by(&KeyPair::generate().unwrap(), &ca.issuer).unwrap().der().to_vec();
        assert_eq!(CertificateNames::read(&der), None, "{name:?}");
    }
    let leaf = Leaf { san: vec![dns("a\0.example"), uri("spiffe://x")], ..Leaf::default() };
    assert_eq!(subject(CertificateSubject::SanUri, leaf), Err(Reason::CertificateUnknown));
}

#[test]
fn only_allowed_subjects_are_taken() {
    let ca = Ca::new("ca");
    let made = files(&[("ca", ca.pem.clone().into_bytes())]);
    let certificate = shown(&[&ca.leaf(Leaf { san: vec![dns("press-1.eu.example")], ..Leaf::default() })]);
    let with = |subject, allow: &[&str]| {
        let allow = allow.iter().map(|pattern| Arc::from(*pattern)).collect();
        say(&ClientCertificates { subject, allow, ..definition() }, &made, &certificate, today()).is_ok()
    };
    assert!(with(CertificateSubject::SanDns, &["other", "*.EU.example"]));
    assert!(!with(CertificateSubject::SanDns, &["*.example"]));
    assert!(with(CertificateSubject::SubjectDn, &["CN=press-*,O=Example"]));
    assert!(!with(CertificateSubject::SubjectDn, &["CN=press-*"]));
    assert!(!with(CertificateSubject::CommonName, &["press"]));
}

/// An authority that checks the organisation and leaves the common name to the caller.
#[test]
fn a_common_name_cannot_be_written_so_that_it_is_taken_for_a_unit() {
    let ca = Ca::new("ca");
    let made = files(&[("ca", ca.pem.clone().into_bytes())]);
    let dn = vec![(DnType::OrganizationName, "Example"), (DnType::CommonName, "mallory,OU=admins")];
    let certificate = shown(&[&ca.leaf(Leaf { dn, ..Leaf::default() })]);
    let with = |allow: &str| {
        let allow = vec![Arc::from(allow)];
        let definition = ClientCertificates { subject: CertificateSubject::SubjectDn, allow, ..definition() };
        say(&definition, &made, &certificate, today()).map(|principal| principal.subject.to_string())
    };
    assert_eq!(with("CN=*,OU=admins,O=Example"), Err(Reason::CertificateUnknown));
    assert_eq!(with("CN=*,O=Example").as_deref(), Ok(r"CN=mallory\,OU=admins,O=Example"));
}

// -- the path to an authority

#[test]
fn only_certificates_of_the_sources_own_authority_for_clients_count() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let made = files(&[("ca", ca.pem.clone().into_bytes())]);
    let judge = |der: &[u8]| say(&definition(), &made, &shown(&[der]), today()).map(drop);
    assert_eq!(judge(&ca.leaf(Leaf::default())), Ok(()));
    assert_eq!(judge(&other.leaf(Leaf::default())), Err(Reason::CertificateUnknown));
    // Of the same name, and another key.
    assert_eq!(judge(&Ca::new("ca").leaf(Leaf::default())), Err(Reason::CertificateUnknown));
    let purpose = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert_eq!(judge(&ca.leaf(Leaf { purpose, ..Leaf::default() })), Err(Reason::CertificateUnknown));
    // No purpose named is any purpose (RFC 5280 §4.2.1.12).
    assert_eq!(judge(&ca.leaf(Leaf { purpose: Vec::new(), ..Leaf::default() })), Ok(()));
    assert_eq!(judge(&ca.der()), Err(Reason::CertificateUnknown));
    assert_eq!(judge(b"\x30\x03\x02\x01\x01"), Err(Reason::CertificateUnknown));
    let good = ca.leaf(Leaf::default());
    assert_eq!(
        say(&definition(), &made, &shown(&[&good, b"junk"]), today()).map(drop),
        Err(Reason::CertificateUnknown)
    );
}

#[test]
fn a_certificate_counts_while_it_is_valid() {
    let ca = Ca::new("ca");
    let made = files(&[("ca", ca.pem.clone().into_bytes())]);
    let leaf = Leaf::default();
    let (from, to) = (leaf.from, leaf.to);
    let certificate = shown(&[&ca.leaf(leaf)]);
    let at = |secs| say(&definition(), &made, &certificate, secs).map(drop);
    assert_eq!(at(from - 1), Err(Reason::CertificateExpired));
    assert_eq!((at(from), at(to)), (Ok(()), Ok(())));
    assert_eq!(at(to + 1), Err(Reason::CertificateExpired));
}

#[test]
fn a_path_may_lead_through_authorities_that_the_client_or_the_file_has() {
    let root = Ca::new("root");
    let middle = root.below("middle", 3);
    let leaf = middle.leaf(Leaf::default());
    let by_root = files(&[("ca", root.pem.clone().into_bytes())]);
    assert!(say(&definition(), &by_root, &shown(&[&leaf, &middle.der()]), today()).is_ok());
    assert!(say(&definition(), &by_root, &shown(&[&leaf]), today()).is_err());
    let by_both = files(&[("ca", (middle.pem.clone() + &root.pem).into_bytes())]);
    assert!(say(&definition(), &by_both, &shown(&[&leaf]), today()).is_ok());
    let by_middle = files(&[("ca", middle.pem.clone().into_bytes())]);
    assert!(say(&definition(), &by_middle, &shown(&[&leaf]), today()).is_ok());
    assert!(say(&definition(), &by_middle, &shown(&[&root.leaf(Leaf::default())]), today()).is_err());
}

// -- revocation

fn with_lists(count: usize) -> ClientCertificates {
    let names = ["crl0", "crl1", "crl2"];
    ClientCertificates { crl: names.iter().take(count).map(|name| file(name)).collect(), ..definition() }
}

#[test]
fn what_a_list_names_is_revoked_and_what_it_does_not_name_is_not() {
    let ca = Ca::new("ca");
    for list in [ca.list(&[6, 7], 0, 7).pem().unwrap().into_bytes(), ca.list(&[6, 7], 0, 7).der().to_vec()] {
        let made = files(&[("ca", ca.pem.clone().into_bytes()), ("crl0", list)]);
        let judge = |serial| {
            let certificate = shown(&[&ca.leaf(Leaf { serial, ..Leaf::default() })]);
            say(&with_lists(1), &made, &certificate, today()).map(drop)
        };
        assert_eq!(judge(7), Err(Reason::CertificateRevoked));
        assert_eq!(judge(8), Ok(()));
    }
}

#[test]
fn a_list_that_has_ended_refuses_what_it_is_asked_about() {
    let ca = Ca::new("ca");
    let made = files(&[("ca", ca.pem.clone().into_bytes()), ("crl0", ca.list(&[6], 8, 7).der().to_vec())]);
    let certificate = shown(&[&ca.leaf(Leaf::default())]);
    let definition = with_lists(1);
    assert_eq!(say(&definition, &made, &certificate, today()).map(drop), Err(Reason::RevocationUnavailable));
    let trust = read(&definition, &made).unwrap();
    let remarks: Vec<Problem> =
        trust.remarks(today()).into_iter().map(|(place, why)| remark(&definition, place, why)).collect();
    assert_eq!(remarks.len(), 1);
    assert!(remarks[0].message.starts_with("crl0: a list of revoked certificates ended on 20"), "{remarks:?}");
    assert_eq!(&*remarks[0].span.key, "crl0");
    let danger = ClientCertificates { danger_expired_crl: true, ..with_lists(1) };
    assert_eq!(say(&danger, &made, &certificate, today()).map(drop), Ok(()));
    // Danger or not, what an old list names is revoked.
    let revoked = shown(&[&ca.leaf(Leaf { serial: 6, ..Leaf::default() })]);
    assert_eq!(say(&danger, &made, &revoked, today()).map(drop), Err(Reason::CertificateRevoked));
}

#[test]
fn an_old_list_beside_a_new_one_hides_nothing() {
    let ca = Ca::new("ca");
    let (old, new) = (ca.list(&[], 3, 30).der().to_vec(), ca.list(&[7], 1, 30).der().to_vec());
    let certificate = shown(&[&ca.leaf(Leaf::default())]);
    for lists in [[&old, &new], [&new, &old]] {
        let made =
            files(&[("ca", ca.pem.clone().into_bytes()), ("crl0", lists[0].clone()), ("crl1", lists[1].clone())]);
        assert_eq!(say(&with_lists(2), &made, &certificate, today()).map(drop), Err(Reason::CertificateRevoked));
    }
}

#[test]
fn every_certificate_below_the_authority_needs_a_list_unless_the_leaf_alone_does() {
    let root = Ca::new("root");
    let middle = root.below("middle", 3);
    let ca = (root.pem.clone() + &middle.pem).into_bytes();
    let leaf = middle.leaf(Leaf::default());
    let certificate = shown(&[&leaf, &middle.der()]);
    let (of_root, of_middle) = (root.list(&[], 0, 7).der().to_vec(), middle.list(&[], 0, 7).der().to_vec());
    let both = files(&[("ca", ca.clone()), ("crl0", of_root), ("crl1", of_middle.clone())]);
    assert_eq!(say(&with_lists(2), &both, &certificate, today()).map(drop), Ok(()));
    let one = files(&[("ca", ca.clone()), ("crl0", of_middle.clone())]);
    assert_eq!(say(&with_lists(1), &one, &certificate, today()).map(drop), Err(Reason::RevocationUnavailable));
    let leaf_alone = ClientCertificates { crl_depth: CrlDepth::Leaf, ..with_lists(1) };
    assert_eq!(say(&leaf_alone, &one, &certificate, today()).map(drop), Ok(()));
    // An authority in the middle that was revoked takes all below it along.
    let revoked = root.list(&[3], 0, 7).der().to_vec();
    let made = files(&[("ca", ca), ("crl0", revoked), ("crl1", of_middle)]);
    assert_eq!(say(&with_lists(2), &made, &certificate, today()).map(drop), Err(Reason::CertificateRevoked));
}

#[test]
fn a_list_for_a_part_of_the_certificates_is_asked_about_those_alone() {
    let ca = Ca::new("ca");
    let part = |uri: &str, scope| CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint { uris: vec![uri.to_owned()] },
        scope,
    };
    let one = ca.scoped_list(&[7], 0, 7, Some(part("http://x/1", Some(CrlScope::UserCertsOnly)))).der().to_vec();
    let two = ca.scoped_list(&[8], 1, 7, Some(part("http://x/2", None))).der().to_vec();
    let of_authorities =
        ca.scoped_list(&[], 0, 9, Some(part("http://x/1", Some(CrlScope::CaCertsOnly)))).der().to_vec();
    let ask = |lists: &[&Vec<u8>], serial, points| {
        let mut made = files(&[("ca", ca.pem.clone().into_bytes())]);
        let names = (0..).map(|at| format!("crl{at}"));
        made.files.extend(names.zip(lists.iter().map(|list| (*list).clone())));
        let certificate = shown(&[&ca.leaf(Leaf { serial, points, ..Leaf::default() })]);
        say(&with_lists(lists.len()), &made, &certificate, today()).map(drop)
    };
    let both = [&one, &two];
    assert_eq!(ask(&both, 7, &["http://x/1"]), Err(Reason::CertificateRevoked));
    assert_eq!(ask(&both, 8, &["http://x/1"]), Ok(()));
    assert_eq!(ask(&both, 8, &["http://y", "http://x/2"]), Err(Reason::CertificateRevoked));
    assert_eq!(ask(&both, 9, &["http://y"]), Err(Reason::RevocationUnavailable));
    // Who names no point is in the scope of any.
    assert_eq!(ask(&both, 7, &[]), Err(Reason::CertificateRevoked));
    assert_eq!(ask(&[&of_authorities], 9, &["http://x/1"]), Err(Reason::RevocationUnavailable));
    assert_eq!(ask(&[&of_authorities, &one], 7, &["http://x/1"]), Err(Reason::CertificateRevoked));
}

#[test]
fn authorities_of_one_name_have_lists_of_their_own() {
    let (old, new) = (Ca::new("ca"), Ca::new("ca"));
    let ca = (old.pem.clone() + &new.pem).into_bytes();
    let of_old = old.list(&[7], 2, 7).der().to_vec();
    let made = files(&[("ca", ca.clone()), ("crl0", of_old.clone())]);
    let ask =
        |by: &Ca, definition, made| say(&definition, made, &shown(&[&by.leaf(Leaf::default())]), today()).map(drop);
    assert_eq!(ask(&old, with_lists(1), &made), Err(Reason::CertificateRevoked));
    assert_eq!(ask(&new, with_lists(1), &made), Err(Reason::RevocationUnavailable));
    let made = files(&[("ca", ca), ("crl0", of_old), ("crl1", new.list(&[], 0, 7).der().to_vec())]);
    assert_eq!(ask(&old, with_lists(2), &made), Err(Reason::CertificateRevoked));
    assert_eq!(ask(&new, with_lists(2), &made), Ok(()));
}

#[test]
fn broken_authorities_and_lists_are_said_at_load_with_their_place() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let good = ca.pem.clone().into_bytes();
    let list = ca.list(&[7], 0, 7);
    let mut cut = list.der().to_vec();
    cut.truncate(60);
    let mut forged = list.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mute = {
        let params = Ca::params("mute", vec![KeyUsagePurpose::KeyCertSign]);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        // The list is made by one who may, with the same key and name.
        let may = Ca::params("mute", vec![KeyUsagePurpose::CrlSign]);
        Ca { issuer: Issuer::new(may, key), pem }
    };
    let circle = {
        let first = Ca::new("b").below("a", 1);
        let second = first.below("b", 2);
        first.pem + &second.pem
    };
    let cases: Vec<(Vec<u8>, Vec<u8>, &str, &str)> = vec![
        (b"nothing".to_vec(), list.der().to_vec(), "ca", "no PEM file of certificates"),
        (
            b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_vec(),
            list.der().to_vec(),
            "ca",
            "certificate 1 is none",
        ),
        (circle.into_bytes(), list.der().to_vec(), "ca", "no authority with which a path could end"),
        (good.clone(), b"nothing".to_vec(), "crl0", "no list of revoked certificates"),
        (good.clone(), Vec::new(), "crl0", "no list of revoked certificates"),
        (good.clone(), cut, "crl0", "a list that cannot be used"),
        (good.clone(), other.list(&[], 0, 7).der().to_vec(), "crl0", "the list of CN=other is of no authority"),
        (good.clone(), Ca::new("ca").list(&[], 0, 7).der().to_vec(), "crl0", "the list of CN=ca is not signed by"),
        (good, forged, "crl0", "the list of CN=ca is not signed by"),
        (mute.pem.clone().into_bytes(), mute.list(&[], 0, 7).der().to_vec(), "crl0", "CN=mute may not sign lists"),
    ];
    for (authorities, list, place, message) in cases {
        let problem = read(&with_lists(1), &files(&[("ca", authorities), ("crl0", list)])).unwrap_err();
        assert_eq!(&*problem.span.key, place, "{problem:?}");
        assert!(problem.message.contains(message), "{problem:?}");
    }
    let problem = read(&definition(), &MadeUp::default()).unwrap_err();
    assert!(problem.message.starts_with("cannot read ca:"), "{problem:?}");
}

// -- a connection that lives

async fn compiled(sources: &[Arc<CredentialSource>], made: &MadeUp, previous: Option<&Certificates>) -> Certificates {
    let (services, _) = services();
    Certificates::compile(sources, made, &services, previous).unwrap()
}

fn taken(certificates: &Certificates, shown: &ClientCertificate, names: &[&str], now: Now) -> Result<String, Reason> {
    let names: Box<[IssuerName]> = names.iter().map(|name| IssuerName::from(*name)).collect();
    match certificates.authenticate(shown, &Accepted::new(names, Kinds::CERTIFICATE), now) {
        Credential::Valid(principal) => Ok(principal.issuer.to_string()),
        Credential::Invalid(reason) => Err(reason),
        Credential::Unavailable { reason, .. } => Err(reason),
        Credential::Absent => panic!("a certificate was shown"),
    }
}

#[tokio::test]
async fn a_connection_that_outlives_its_certificate_or_the_list_is_refused() {
    let ca = Ca::new("ca");
    let made = files(&[("ca", ca.pem.clone().into_bytes()), ("crl0", ca.list(&[], 0, 5).der().to_vec())]);
    let certificates = compiled(&[source("one", with_lists(1)), source("two", definition())], &made, None).await;
    let shown = shown(&[&ca.leaf(Leaf::default())]);
    let now = now();
    let days = |days| now.after(Duration::from_secs(days * DAY));
    // Twice: a clock that was set back judges anew.
    for _ in 0..2 {
        assert_eq!(taken(&certificates, &shown, &["one"], now), Ok("one".into()));
        assert_eq!(taken(&certificates, &shown, &["two"], now), Ok("two".into()));
        assert_eq!(taken(&certificates, &shown, &["one"], days(4)), Ok("one".into()));
        assert_eq!(taken(&certificates, &shown, &["one"], days(5)), Err(Reason::RevocationUnavailable));
        assert_eq!(taken(&certificates, &shown, &["two"], days(6)), Ok("two".into()));
        assert_eq!(taken(&certificates, &shown, &["two"], days(11)), Err(Reason::CertificateExpired));
    }
}

#[tokio::test]
async fn the_first_source_that_knows_a_certificate_decides() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let made = files(&[
        ("ca", ca.pem.clone().into_bytes()),
        ("crl0", ca.list(&[9], 0, 5).der().to_vec()),
        ("other", other.pem.clone().into_bytes()),
    ]);
    let press = ClientCertificates { allow: vec!["CN=press-1,**".into()], ..with_lists(1) };
    let sources = [
        source("press", press),
        source("any", definition()),
        source("other", ClientCertificates { ca: file("other"), ..definition() }),
    ];
    let certificates = compiled(&sources, &made, None).await;
    let all = |der: &[u8], names: &[&str]| taken(&certificates, &shown(&[der]), names, now());
    assert_eq!(all(&ca.leaf(Leaf::default()), &[]), Ok("press".into()));
    assert_eq!(all(&ca.leaf(Leaf::default()), &["any", "press"]), Ok("any".into()));
    assert_eq!(all(&other.leaf(Leaf::default()), &[]), Ok("other".into()));
    let visitor = || Leaf { dn: vec![(DnType::CommonName, "visitor")], ..Leaf::default() };
    assert_eq!(all(&ca.leaf(visitor()), &["press", "any"]), Ok("any".into()));
    assert_eq!(all(&ca.leaf(visitor()), &["press"]), Err(Reason::CertificateUnknown));
    // Revoked by the first that knows it, however the next would have it.
    assert_eq!(all(&ca.leaf(Leaf { serial: 9, ..Leaf::default() }), &[]), Err(Reason::CertificateRevoked));
    let gone = Leaf { to: today() - 1, ..Leaf::default() };
    assert_eq!(all(&ca.leaf(gone), &[]), Err(Reason::CertificateExpired));
}

#[tokio::test]
async fn a_source_that_did_not_change_stays_through_a_reload_and_one_that_did_judges_anew() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let made = files(&[("ca", ca.pem.clone().into_bytes()), ("other", other.pem.clone().into_bytes())]);
    let moved = || {
        let mut definition = definition();
        definition.ca.span.line = 9;
        source("one", definition)
    };
    let first = compiled(&[source("one", definition())], &made, None).await;
    let second = compiled(&[moved()], &made, Some(&first)).await;
    assert!(Arc::ptr_eq(&first.sources[0], &second.sources[0]));
    let shown = shown(&[&ca.leaf(Leaf::default())]);
    assert_eq!(taken(&second, &shown, &[], now()), Ok("one".into()));
    let changed = source("one", ClientCertificates { ca: file("other"), ..definition() });
    let third = compiled(&[changed], &made, Some(&second)).await;
    assert_eq!(taken(&third, &shown, &[], now()), Err(Reason::CertificateUnknown));
}

#[tokio::test]
async fn a_list_that_changes_is_taken_while_the_connection_lives_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let at = |name: &str| File { span: Span::default(), path: path(name) };
    let write = |name: &str, bytes: &[u8]| {
        let draft = path("draft");
        std::fs::write(&draft, bytes).unwrap();
        std::fs::rename(draft, path(name)).unwrap();
    };
    let ca = Ca::new("ca");
    write("ca", ca.pem.as_bytes());
    write("crl", ca.list(&[], 1, 7).der());
    let definition = ClientCertificates { ca: at("ca"), crl: vec![at("crl")], ..definition() };
    let certificates = compiled(&[source("one", definition)], &MadeUp::default(), None).await;
    let shown = shown(&[&ca.leaf(Leaf::default())]);
    assert_eq!(taken(&certificates, &shown, &[], now()), Ok("one".into()));
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
    };
    write("crl", b"half a li");
    let failures = || certificates.readiness(now()).next().unwrap().failures;
    until("the broken list", &|| failures() > 0).await;
    assert_eq!(taken(&certificates, &shown, &[], now()), Ok("one".into()));
    write("crl", ca.list(&[7], 0, 7).der());
    until("the new list", &|| taken(&certificates, &shown, &[], now()) == Err(Reason::CertificateRevoked)).await;
    until("no more failures", &|| failures() == 0).await;
    let ready = certificates.readiness(now()).next().unwrap();
    assert!(ready.ready && ready.detail.starts_with("the next list of revoked certificates is due on"), "{ready:?}");
    let later = certificates.readiness(now().after(Duration::from_secs(8 * DAY))).next().unwrap();
    assert!(!later.ready && later.age.is_some() && later.detail.contains("ended on"), "{later:?}");
    assert!(Path::new(&path("crl")).exists());
}

// -- whatever comes

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A certificate that was changed anywhere is refused, whatever it then says.
    #[test]
    fn a_damaged_certificate_is_never_taken(at in 0_usize..2000, bit in 0_u8..8) {
        thread_local! {
            static MADE: (Ca, Vec<u8>) = {
                let ca = Ca::new("ca");
                let leaf = ca.leaf(Leaf::default());
                (ca, leaf)
            };
        }
        MADE.with(|(ca, leaf)| {
            let made = files(&[("ca", ca.pem.clone().into_bytes())]);
            let mut damaged = leaf.clone();
            let at = at % damaged.len();
            damaged[at] ^= 1 << bit;
            let judged = say(&definition(), &made, &shown(&[&damaged]), today());
            prop_assert!(judged.is_err(), "byte {at}, bit {bit}");
            Ok(())
        })?;
    }

    #[test]
    fn any_bytes_are_read_or_not_as_a_certificate(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = CertificateNames::read(&bytes);
        let _ = Trust::read(&Files { ca: bytes.clone(), lists: vec![bytes] });
    }
}
