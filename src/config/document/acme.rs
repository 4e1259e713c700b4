//! `acme`: who orders certificates, and how.

use super::SecretText;
use crate::config::{
    AcmeChallenge,
    decode::{At, FromText, NonEmpty, Refusal, section, words},
    shape::{Shape, TextShape},
    text::{FilePath, ProviderUrl, Sender},
};

section! {
    /// Where certificates are ordered that listeners name by `{acme: […]}` (RFC 8555). Account and certificates are kept in
    /// `acme` in `server.state_dir`; each is renewed after two thirds of its life, or when the authority asks for it (RFC 9773).
    "acme" Acme {
        /// The authority's directory.
        directory: At<ProviderUrl> = "https://acme-v02.api.letsencrypt.org/directory",
        /// Addresses that the authority may write to.
        contact: Vec<At<Sender>> = "[]",
        /// Whether you have read the authority's terms and agree: nothing is ordered without.
        terms_of_service_agreed: At<bool> = "false",
        /// How it is shown that the names are yours: `tls-alpn-01` on port 443, by the listener that has the certificate, or
        /// `http-01` on port 80, by any listener without TLS.
        challenge: At<AcmeChallenge> = "tls-alpn-01",
        /// Certificates (PEM) that vouch for the directory, instead of the machine's.
        ca: Option<At<FilePath>>,
        /// The account with the authority that the orders are for, where it asks for one (RFC 8555 §7.3.4).
        external_account: Option<ExternalAccount>,
    }
}

section! {
    /// An account that somebody has with a certificate authority already.
    "an external account" ExternalAccount {
        /// Its identifier.
        key_id: String,
        /// Its key, base64url.
        hmac_key: SecretText,
    }
}

section! {
    /// A certificate of a listener: two files, both PEM, or names that `acme` orders one for.
    "a listener's certificate" ListenerCertificate {
        /// The chain, leaf first.
        cert: Option<At<FilePath>>,
        /// The private key.
        key: Option<At<FilePath>>,
        /// The names that one certificate is ordered for. Until it is there, clients that ask for them get the listener's first.
        acme: Option<NonEmpty<At<OrderedName>>>,
    }
}

words! { AcmeChallenge, "a challenge":
    "tls-alpn-01" => Self::TlsAlpn, "RFC 8737";
    "http-01" => Self::Http, "RFC 8555 §8.3";
}

/// A name that a certificate is ordered for, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) struct OrderedName(pub(in crate::config) String);

impl FromText for OrderedName {
    const WHAT: &'static str = "a name that a certificate can be ordered for";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.starts_with("*.") {
            let why = "what stands for many names is proved by DNS alone (RFC 8555 §8.4), which is not spoken here";
            return Err(Refusal::because(why).help("list the names"));
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let whole = text.len() <= 253 && text.contains('.') && text.split('.').all(is_label);
        if !whole || text.rsplit('.').next().is_some_and(is_number) {
            return Err(Refusal::advice("write a whole name in ASCII: `api.example.com`"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "DNS name",
            about: "a whole name, in ASCII: `api.example.com`",
            pattern: Some("[A-Za-z0-9.-]+"),
        })
    }
}
