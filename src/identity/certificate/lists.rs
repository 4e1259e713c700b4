//! Lists of revoked certificates (RFC 5280 §5). Whose a list is, is verified once, when it is read: hashing a list of
//! megabytes for every connection would be a way to keep the gateway busy. From then on it is only asked.

use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject};
use webpki::{Cert, CertRevocationList, Error, OwnedCertRevocationList, VerifiedPath};
use x509_parser::{
    asn1_rs::Any,
    certificate::X509Certificate,
    extensions::{CRLDistributionPoint, DistributionPointName, GeneralName, ParsedExtension},
    prelude::FromDer,
    revocation_list::CertificateRevocationList,
};

use super::{
    judge::algorithms,
    trust::{TrustFault, seconds},
};
use crate::config::CrlDepth;

/// A list, verified.
#[derive(Debug)]
pub(super) struct List {
    /// Which file it stands in.
    pub(super) place: usize,
    pub(super) this_update: u64,
    pub(super) next_update: u64,
    list: CertRevocationList<'static>,
    /// The key that signed it: the contents of a SubjectPublicKeyInfo.
    key: Box<[u8]>,
    scope: Scope,
}

/// Which certificates of its issuer a list is about (RFC 5280 §5.2.5).
#[derive(Debug, Default)]
struct Scope {
    clients_only: bool,
    authorities_only: bool,
    /// The addresses of its distribution point; empty: it is about those of any.
    points: Vec<String>,
}

/// Where a certificate stands in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Authority,
}

impl List {
    /// Reads the lists of a file, PEM or DER. Each must be signed by one of these authorities.
    pub(super) fn read(
        bytes: &[u8],
        place: usize,
        authorities: &[X509Certificate<'_>],
    ) -> Result<Vec<Self>, TrustFault> {
        // A DER list is a SEQUENCE; PEM is text.
        if bytes.first() == Some(&0x30) {
            return Ok(vec![Self::verify(bytes, place, authorities)?]);
        }
        let mut lists = Vec::new();
        for list in CertificateRevocationListDer::pem_slice_iter(bytes) {
            let list = list.map_err(|_| TrustFault::NoList)?;
            lists.push(Self::verify(&list, place, authorities)?);
        }
        if lists.is_empty() { Err(TrustFault::NoList) } else { Ok(lists) }
    }

    fn verify(der: &[u8], place: usize, authorities: &[X509Certificate<'_>]) -> Result<Self, TrustFault> {
        let bad = |error: &dyn std::fmt::Display| TrustFault::BadList(error.to_string());
        // It refuses what would be half understood: deltas, indirect lists, lists of some reasons, critical extensions.
        let owned = OwnedCertRevocationList::from_der(der).map_err(|error| bad(&error))?;
        let (_, parsed) = CertificateRevocationList::from_der(der).map_err(|error| bad(&error))?;
        let issuer = parsed.issuer().as_raw();
        let name = parsed.issuer().to_string();
        let mut named = authorities.iter().filter(|one| one.subject().as_raw() == issuer).peekable();
        if named.peek().is_none() {
            return Err(TrustFault::Stranger(name));
        }
        let signed = named.find_map(|one| Some((one, signing_key(der, one.public_key().raw)?)));
        let Some((signer, key)) = signed else { return Err(TrustFault::Signature(name)) };
        // RFC 5280 §4.2.1.3: without the extension a key may do anything.
        match signer.key_usage() {
            Ok(None) => {}
            Ok(Some(usage)) if usage.value.crl_sign() => {}
            Ok(Some(_)) | Err(_) => return Err(TrustFault::Usage(name)),
        }
        Ok(Self {
            place,
            this_update: seconds(parsed.last_update().timestamp()),
            next_update: parsed.next_update().map_or(0, |time| seconds(time.timestamp())),
            list: owned.into(),
            key: key.into(),
            scope: scope(&parsed).ok_or_else(|| bad(&"its issuing distribution point is not understood"))?,
        })
    }

    /// Whether this is the list to ask about a certificate that was issued with this key.
    fn is_about(&self, certificate: &Cert<'_>, issuer_key: &[u8], role: Role) -> bool {
        let excluded = match role {
            Role::Client => self.scope.authorities_only,
            Role::Authority => self.scope.clients_only,
        };
        !excluded
            && self.list.issuer() == certificate.issuer()
            && *self.key == *issuer_key
            && (self.scope.points.is_empty() || names_point(certificate, &self.scope.points))
    }
}

/// Asks the lists, those made last first, about each certificate of a path that is otherwise good. What no list is about, or
/// one that has ended and is not believed for that, is as bad as what is revoked.
pub(super) fn ask(
    lists: &[List],
    path: &VerifiedPath<'_>,
    depth: CrlDepth,
    believe: impl Fn(&List) -> bool,
) -> Result<(), Error> {
    let mut role = Role::Client;
    let mut certificate: &Cert<'_> = path.end_entity();
    let mut above = path.intermediate_certificates();
    loop {
        let next = above.next();
        let wrapped = next.map(Cert::subject_public_key_info);
        let key = match &wrapped {
            Some(wrapped) => contents(wrapped).ok_or(Error::BadDer)?,
            None => path.anchor().subject_public_key_info.as_ref(),
        };
        let list = lists.iter().find(|list| list.is_about(certificate, key, role));
        let list = list.filter(|list| believe(list)).ok_or(Error::UnknownRevocationStatus)?;
        if list.list.find_serial(certificate.serial())?.is_some() {
            return Err(Error::CertRevoked);
        }
        match (next, depth) {
            (Some(next), CrlDepth::Chain) => (certificate, role) = (next, Role::Authority),
            (Some(_), CrlDepth::Leaf) | (None, _) => return Ok(()),
        }
    }
}

/// The key, as the contents of a SubjectPublicKeyInfo, if the signed object is by it.
fn signing_key<'k>(der: &[u8], key: &'k [u8]) -> Option<&'k [u8]> {
    let outer = contents(der)?;
    let (rest, _) = Any::from_der(outer).ok()?;
    let signed = outer.get(..outer.len() - rest.len())?;
    let (rest, algorithm) = Any::from_der(rest).ok()?;
    let (_, signature) = Any::from_der(rest).ok()?;
    let key = contents(key)?;
    let (rest, key_algorithm) = Any::from_der(key).ok()?;
    let (_, key_bits) = Any::from_der(rest).ok()?;
    // BIT STRINGs of whole bytes.
    let (signature, key_bits) = (signature.data.strip_prefix(&[0])?, key_bits.data.strip_prefix(&[0])?);
    let fits = algorithms().iter().find(|one| {
        one.signature_alg_id().as_ref() == algorithm.data
            && one.public_key_alg_id().as_ref() == key_algorithm.data
            && one.verify_signature(key_bits, signed, signature).is_ok()
    });
    fits.map(|_| key)
}

/// What stands in a DER value.
fn contents(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, value)| value.data)
}

/// `None`: what the extension says cannot be read.
fn scope(list: &CertificateRevocationList<'_>) -> Option<Scope> {
    // RFC 5280 §5.2.5: id-ce-issuingDistributionPoint.
    let mut found = list.extensions().iter().filter(|extension| extension.oid.to_id_string() == "2.5.29.28");
    let Some(extension) = found.next() else { return Some(Scope::default()) };
    let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension() else { return None };
    let points = match &point.distribution_point {
        None => Vec::new(),
        Some(name) => Some(uris(name)).filter(|points| !points.is_empty())?,
    };
    let (clients_only, authorities_only) = (point.only_contains_user_certs, point.only_contains_ca_certs);
    found.next().is_none().then_some(Scope { clients_only, authorities_only, points })
}

/// RFC 5280 §6.3.3 (b)(2)(i): a certificate that names no distribution point is in the scope of any.
fn names_point(certificate: &Cert<'_>, points: &[String]) -> bool {
    let der = certificate.der();
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return false };
    let mut named = certificate.extensions().iter().filter(|one| one.oid.to_id_string() == "2.5.29.31").peekable();
    if named.peek().is_none() {
        return true;
    }
    let is_ours = |point: &CRLDistributionPoint<'_>| {
        let whole = point.reasons.is_none() && point.crl_issuer.is_none();
        whole && point.distribution_point.as_ref().is_some_and(|name| uris(name).iter().any(|uri| points.contains(uri)))
    };
    named.any(|extension| {
        let parsed = extension.parsed_extension();
        if let ParsedExtension::CRLDistributionPoints(all) = parsed { all.iter().any(is_ours) } else { false }
    })
}

fn uris(name: &DistributionPointName<'_>) -> Vec<String> {
    let uri = |name: &GeneralName<'_>| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None };
    match name {
        DistributionPointName::FullName(names) => names.iter().filter_map(uri).collect(),
        DistributionPointName::NameRelativeToCRLIssuer(_) => Vec::new(),
    }
}
