//! `client_certificates`: callers who are known by the certificate of their TLS connection.

use crate::config::{
    CertificateSubject, CrlDepth,
    decode::{At, FromText, NonEmpty, Refusal, section, words},
    shape::{Shape, TextShape},
    text::{FilePath, Scope},
};

section! {
    /// Client certificates, for callers who send no other credential.
    "client certificates" ClientCertificates {
        /// The authorities (PEM) whose certificates this source takes, each also among a listener's `client_ca`. Those that
        /// another of them has issued only lead to it. Read again when the file changes.
        ca: At<FilePath>,
        /// Where a certificate names its subject. Of several names of the kind none is chosen: the certificate is refused.
        subject: CertificateSubject = "subject_dn",
        /// Patterns of which one must match the whole subject; without this key any subject is taken. `*` stands for one or more
        /// characters within a part of the name, `**` for any characters at all.
        allow: Option<NonEmpty<At<SubjectPattern>>>,
        /// Lists of revoked certificates (RFC 5280), PEM or DER, signed by authorities of `ca`. Read again when they change. A
        /// list after its `nextUpdate`, or none for a certificate, refuses it. Without this key revocation is not checked.
        crl: Option<NonEmpty<At<FilePath>>>,
        /// Which certificates must not be revoked.
        crl_depth: At<CrlDepth> = "chain",
        /// Believes a list after its `nextUpdate`: what was revoked since is taken.
        danger_expired_crl: At<bool> = "false",
        /// The scopes of its callers.
        scopes: Vec<Scope> = "[]",
        /// Whether persons stand behind the certificates, who can be asked to authenticate again.
        person: bool = "false",
    }
}

words! { CertificateSubject, "a place of the subject":
    "subject_dn" => Self::SubjectDn, "the whole subject in the form of RFC 4514: `CN=press-1,O=Example`";
    "common_name" => Self::CommonName, "its one common name";
    "san_dns" => Self::SanDns, "the one DNS name among its alternative names, in lower case";
    "san_uri" => Self::SanUri, "the one URI among them, as SPIFFE has it";
    "san_email" => Self::SanEmail, "the one e-mail address among them";
}

words! { CrlDepth, "a depth of revocation":
    "chain" => Self::Chain, "each certificate below the authority needs a list of its issuer";
    "leaf" => Self::Leaf, "the client's own certificate alone";
}

/// A pattern of subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct SubjectPattern(pub(in crate::config) String);

/// Matching takes time by the product of both lengths.
const LONGEST_PATTERN: usize = 256;

impl FromText for SubjectPattern {
    const WHAT: &'static str = "a pattern of subjects";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > LONGEST_PATTERN || text.chars().any(char::is_control) {
            return Err(Refusal::because("it must have 1 to 256 bytes and no control characters"));
        }
        if text.contains("***") {
            return Err(Refusal::advice("write `*` within a part of the name, `**` for any characters"));
        }
        Ok(Self(text.to_owned()))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "subject pattern",
            about: "a subject; `*` and `**` stand for characters",
            pattern: None,
        })
    }
}
