//! `issuers`: who may vouch for a caller.

use std::{sync::Arc, time::Duration};

use super::{SecretText, SharedSecret};
use crate::config::{
    AuthTimeFormat, ClaimPath, JwsAlgorithm, SecretEncoding,
    decode::{At, FromText, NonEmpty, Refusal, section, unknown_word, words},
    quantity::{Leeway, Size},
    shape::{Shape, TextShape},
    text::{FilePath, IssuerUrl, ProviderUrl},
};

section! {
    /// Who may vouch for a caller.
    "an issuer" Issuer {
        /// Its identifier: the exact `iss` of its tokens; https, except on loopback.
        issuer: At<IssuerUrl>,
        /// The audiences of which a token's `aud` must hold one. Without this key `aud` is not checked, which is a warning.
        audience: At<Vec<String>> = "[]",
        /// Where its keys come from: exactly one of the keys of this section.
        keys: Keys,
        /// The only signature algorithms that are accepted, whatever a token's header says.
        algorithms: NonEmpty<At<AlgorithmText>>,
        /// For `exp`, `nbf`, `iat` and `auth_time` alike.
        leeway: At<Leeway> = "30s",
        /// The accepted values of `typ`, in any case, `application/` ignored; `absent` is a keyword, never a value.
        types: NonEmpty<At<TypeText>> = "[at+jwt, JWT, absent]",
        /// The claims that must be there: `sub` a non-empty text. An `iat` in the future is refused anyhow.
        required: At<Vec<ClaimName>> = "[iss, aud, exp, sub]",
        /// The longest token that is looked at.
        token_bytes: Size<64, 1_048_576> = "8KiB",
        /// Between refetches for an unknown `kid`; the `max-age` of the answer is obeyed.
        jwks_cooldown: Duration = "10s",
        /// How long the last good keys serve while the endpoint is down.
        jwks_max_stale: Duration = "24h",
        /// Certificates (PEM) that vouch for the issuer's https endpoints, instead of the machine's.
        ca: Option<At<FilePath>>,
        /// Where the facts stand in a token.
        claims: Claims = "{}",
        /// How the provider writes `auth_time`.
        auth_time_format: AuthTimeFormat = "number",
    }
}

section! {
    /// Where an issuer's keys come from: exactly one of these.
    "keys" Keys {
        /// By OpenID Connect Discovery: `{issuer}/.well-known/openid-configuration`, then its `jwks_uri`.
        discovery: Option<At<bool>>,
        /// A JWK Set over https (http to loopback only).
        jwks_url: Option<At<ProviderUrl>>,
        /// A JWK Set in a file, read again when it changes.
        jwks_file: Option<At<FilePath>>,
        /// One public key: PEM or a JWK.
        public_key: Option<At<SecretText>>,
        /// A shared secret, for HS256, HS384 and HS512.
        secret: Option<At<SharedSecret>>,
        /// How the bytes of `secret` are written; may stand with the secret itself.
        encoding: Option<At<SecretEncoding>>,
    }
}

section! {
    /// Where the facts stand in a token: a claim's name, or a JSON pointer when it starts with `/`.
    "claims" Claims {
        /// The subject.
        subject: ClaimPath = "sub",
        /// The scopes: a text with spaces, or a list.
        scopes: ClaimPath = "scope",
        /// The authentication context class.
        acr: ClaimPath = "acr",
        /// The authentication methods.
        amr: ClaimPath = "amr",
        /// When the user authenticated.
        auth_time: ClaimPath = "auth_time",
        /// The OAuth client; without this key `azp`, else `client_id`.
        client: Option<ClaimPath>,
    }
}

words! { AuthTimeFormat, "a form of `auth_time`":
    "number" => Self::Number, "a JSON number, as OpenID Connect has it; a text is not believed";
    "number_or_string" => Self::NumberOrString, "a JSON number, or a text of decimal digits";
}

/// A signature algorithm. `none` has its own refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct AlgorithmText(pub(in crate::config) JwsAlgorithm);

const ALGORITHMS: [(&str, JwsAlgorithm, &str); 12] = [
    ("RS256", JwsAlgorithm::RS256, "RSA PKCS#1 v1.5 with SHA-256"),
    ("RS384", JwsAlgorithm::RS384, "RSA PKCS#1 v1.5 with SHA-384"),
    ("RS512", JwsAlgorithm::RS512, "RSA PKCS#1 v1.5 with SHA-512"),
    ("PS256", JwsAlgorithm::PS256, "RSA PSS with SHA-256"),
    ("PS384", JwsAlgorithm::PS384, "RSA PSS with SHA-384"),
    ("PS512", JwsAlgorithm::PS512, "RSA PSS with SHA-512"),
    ("ES256", JwsAlgorithm::ES256, "ECDSA on P-256 with SHA-256"),
    ("ES384", JwsAlgorithm::ES384, "ECDSA on P-384 with SHA-384"),
    ("EdDSA", JwsAlgorithm::EdDSA, "Ed25519"),
    ("HS256", JwsAlgorithm::HS256, "HMAC with SHA-256, only with a shared secret"),
    ("HS384", JwsAlgorithm::HS384, "HMAC with SHA-384, only with a shared secret"),
    ("HS512", JwsAlgorithm::HS512, "HMAC with SHA-512, only with a shared secret"),
];

impl FromText for AlgorithmText {
    const WHAT: &'static str = "a signature algorithm";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if let Some((_, algorithm, _)) = ALGORITHMS.iter().find(|(name, ..)| *name == text) {
            return Ok(Self(*algorithm));
        }
        if text.eq_ignore_ascii_case("none") {
            return Err(Refusal::because("a token without a signature proves nothing (RFC 8725 §3.2)"));
        }
        Err(unknown_word(text, &ALGORITHMS.map(|(name, ..)| name)))
    }

    fn shape() -> Shape {
        Shape::Words(ALGORITHMS.iter().map(|(name, _, about)| (*name, *about)).collect())
    }
}

/// An accepted `typ`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum TypeText {
    /// None at all.
    Absent,
    /// This media type, lower case and without `application/` (RFC 7515 §4.1.9).
    Type(Arc<str>),
}

impl FromText for TypeText {
    const WHAT: &'static str = "a token type";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text == "absent" {
            return Ok(Self::Absent);
        }
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("application/").unwrap_or(&lower);
        // RFC 6838 §4.2
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&b);
        if name.is_empty() || name == "absent" || !name.bytes().all(allowed) {
            return Err(Refusal::advice("write a media type: `at+jwt`, `JWT`; `absent` accepts a token without one"));
        }
        Ok(Self::Type(name.into()))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "token type",
            about: "a media type: `at+jwt`, `JWT`; or `absent`",
            pattern: Some("[A-Za-z0-9!#$&^_.+/-]+"),
        })
    }
}

/// The name of a claim at the top of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct ClaimName(pub(in crate::config) String);

impl FromText for ClaimName {
    const WHAT: &'static str = "the name of a claim";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match ClaimPath::from_text(text)? {
            ClaimPath::Name(name) => Ok(Self(name.as_ref().into())),
            ClaimPath::Pointer(_) => Err(Refusal::because("a JSON pointer cannot be required, only a claim's name")),
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape { name: "claim name", about: "the name of a claim", pattern: Some("[^/].*") })
    }
}
