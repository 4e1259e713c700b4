//! What a certificate says of its subject. Names are taken as they are written or not at all: one with a control character,
//! or of a form that nobody can read, makes the whole certificate unreadable.

use std::net::IpAddr;

use x509_parser::{
    asn1_rs::{Any, Tag, ToDer},
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::config::CertificateSubject;

/// Longer names are nobody's: they go into header fields and records.
const LONGEST_NAME: usize = 1024;

/// The attribute types that have a short name (RFC 4514 §3, and those that OpenSSL writes so).
const SHORT: [(&str, &str); 12] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// What a certificate says of its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateNames {
    /// The subject, in the form of RFC 4514; empty where it has none.
    pub subject_dn: String,
    /// The issuer, in the same form.
    pub issuer_dn: String,
    /// The common names; `None` for one that is no text.
    pub common: Vec<Option<String>>,
    /// The DNS names among the alternative names, lower case.
    pub dns: Vec<String>,
    /// The URIs among them.
    pub uri: Vec<String>,
    /// The e-mail addresses among them.
    pub email: Vec<String>,
    /// The addresses among them.
    pub ip: Vec<IpAddr>,
    /// The serial number in hexadecimal digits.
    pub serial: String,
    /// From when it is valid, in seconds since the epoch.
    pub not_before: i64,
    /// Until when it is valid, in seconds since the epoch.
    pub not_after: i64,
    /// The certificate policies (RFC 5280 §4.2.1.4), dotted.
    pub policies: Vec<String>,
}

impl CertificateNames {
    /// Reads a certificate, DER; `None` where a name cannot be read without doubt.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let validity = certificate.validity();
        let mut names = Self {
            subject_dn: distinguished(certificate.subject())?,
            issuer_dn: distinguished(certificate.issuer())?,
            common: certificate.subject().iter_common_name().map(|one| text(one.attr_value())).collect(),
            dns: Vec::new(),
            uri: Vec::new(),
            email: Vec::new(),
            ip: Vec::new(),
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            policies: policies(&certificate),
        };
        if let Some(extension) = certificate.subject_alternative_name().ok()? {
            for name in &extension.value.general_names {
                names.note(name)?;
            }
        }
        Some(names)
    }

    fn note(&mut self, name: &GeneralName<'_>) -> Option<()> {
        match name {
            GeneralName::DNSName(name) => self.dns.push(clean(name)?.to_ascii_lowercase()),
            GeneralName::URI(name) => self.uri.push(clean(name)?),
            GeneralName::RFC822Name(name) => self.email.push(clean(name)?),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                self.ip.push(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()?);
            }
            GeneralName::Invalid(..) => return None,
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => {}
        }
        Some(())
    }

    /// The subject, if the certificate names exactly one.
    pub fn subject(&self, place: CertificateSubject) -> Option<&str> {
        let subject = match place {
            CertificateSubject::SubjectDn => &self.subject_dn,
            CertificateSubject::CommonName => only(&self.common)?.as_ref()?,
            // A wildcard names a set, not somebody.
            CertificateSubject::SanDns => only(&self.dns).filter(|name| !name.contains('*'))?,
            CertificateSubject::SanUri => only(&self.uri)?,
            CertificateSubject::SanEmail => only(&self.email)?,
        };
        (!subject.is_empty() && subject.len() <= LONGEST_NAME).then_some(subject)
    }
}

fn only<T>(names: &[T]) -> Option<&T> {
    match names {
        [one] => Some(one),
        [] | [_, _, ..] => None,
    }
}

/// An alternative name is an IA5String (RFC 5280 §4.2.1.6).
fn clean(name: &str) -> Option<String> {
    let legal = name.is_ascii() && !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_control());
    legal.then(|| name.to_owned())
}

fn policies(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::CertificatePolicies(all) = extension.parsed_extension() {
            found.extend(all.iter().map(|one| one.policy_id.to_id_string()));
        }
    }
    found
}

/// RFC 4514 §2: the last first, `,` between, `+` within.
fn distinguished(name: &X509Name<'_>) -> Option<String> {
    let mut all = Vec::new();
    for relative in name.iter_rdn() {
        let attributes = relative.iter().map(attribute).collect::<Option<Vec<_>>>()?;
        all.push(attributes.join("+"));
    }
    all.reverse();
    Some(all.join(","))
}

/// §2.3 and §2.4: a type with a short name and its text, or the number and the value's DER.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let id = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == id).map(|(_, short)| *short);
    match (short, string(attribute.attr_value())) {
        (Some(_), Some(value)) if value.chars().any(char::is_control) => None,
        (Some(short), Some(value)) => Some(format!("{short}={}", escape(&value))),
        (short, _) => {
            let der = attribute.attr_value().to_der_vec().ok()?;
            let hex: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{}=#{hex}", short.unwrap_or(&id)))
        }
    }
}

/// The text of an attribute without control characters.
fn text(value: &Any<'_>) -> Option<String> {
    string(value).filter(|text| !text.chars().any(char::is_control))
}

/// The string types of RFC 5280 §4.1.2.4. A TeletexString is read as far as it is ASCII, on which all agree.
fn string(value: &Any<'_>) -> Option<String> {
    let tag = value.tag();
    if tag == Tag::Utf8String {
        return std::str::from_utf8(value.data).ok().map(str::to_owned);
    }
    if [Tag::PrintableString, Tag::Ia5String, Tag::T61String, Tag::VisibleString, Tag::NumericString].contains(&tag) {
        return std::str::from_utf8(value.data).ok().filter(|text| text.is_ascii()).map(str::to_owned);
    }
    if tag == Tag::BmpString {
        let (pairs, rest) = value.data.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        return String::from_utf16(&units).ok().filter(|_| rest.is_empty());
    }
    None
}

/// §2.4.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        let last = at + c.len_utf8() == value.len();
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (at == 0 && matches!(c, ' ' | '#'))
            || (last && c == ' ');
        if special {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
