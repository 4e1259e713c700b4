//! `issuers`: who may vouch for a caller.

use std::{sync::Arc, time::Duration};

use super::{Dpop, Events, Introspection, SecretText, SharedSecret};
use crate::{
    config::{
        AuthTimeFormat, Bound, ClaimPath, SecretEncoding,
        decode::{At, FromText, NonEmpty, Refusal, section, unknown_word, words},
        preset::Preset,
        quantity::{Leeway, Size},
        shape::{Shape, TextShape},
        text::{FilePath, IssuerUrl, ProviderUrl},
    },
    jose::Algorithm,
};

section! {
    /// Who may vouch for a caller.
    "an issuer" Issuer {
        /// Its identifier: the exact `iss` of its tokens; https, except on loopback.
        issuer: At<IssuerUrl>,
        /// A provider whose tokens' layout is known: the default of `types`, `required`, `claims`, `auth_time_format`, `expect`
        /// and `machine`. See docs/credentials/presets.md.
        preset: Preset = "standard",
        /// The audiences of which a token's `aud` must hold one. Without this key `aud` is not checked, which is a warning.
        audience: At<Vec<String>> = "[]",
        /// Where its keys come from: exactly one of the keys of this section. Needed, unless there is `introspection`:
        /// then all of its tokens are introspected.
        keys: Option<Keys>,
        /// The only signature algorithms that are accepted, whatever a token's header says. Needed with `keys`.
        algorithms: Option<NonEmpty<At<AlgorithmText>>>,
        /// How it is asked about tokens that cannot be read here. With `keys`, its JWTs are verified here and only opaque
        /// tokens are asked about.
        introspection: Option<Introspection>,
        /// For `exp`, `nbf`, `iat` and `auth_time` alike.
        leeway: At<Leeway> = "30s",
        /// The accepted values of `typ`, in any case, `application/` ignored; `absent` is a keyword, never a value. By default
        /// the preset's; without one `[at+jwt, JWT, absent]`.
        types: Option<NonEmpty<At<TypeText>>>,
        /// The claims that must be there: `sub` a non-empty text. An `iat` in the future is refused anyhow. By default the
        /// preset's; without one `[iss, aud, exp, sub]`.
        required: Option<At<Vec<ClaimName>>>,
        /// The longest token that is looked at.
        token_bytes: Size<64, 1_048_576> = "8KiB",
        /// Between refetches for an unknown `kid`; the `max-age` of the answer is obeyed.
        jwks_cooldown: Duration = "10s",
        /// How long the last good keys serve while the endpoint is down.
        jwks_max_stale: Duration = "24h",
        /// Certificates (PEM) that vouch for the issuer's https endpoints, instead of the machine's.
        ca: Option<At<FilePath>>,
        /// Proofs of possession beside its tokens (RFC 9449).
        dpop: Option<Dpop>,
        /// Where the facts stand in a token.
        claims: Claims = "{}",
        /// How the provider writes `auth_time`. By default the preset's; without one `number`.
        auth_time_format: Option<AuthTimeFormat>,
        /// What claims must say besides, all of it: tells access tokens from the provider's other tokens. By default the preset's.
        expect: Option<Vec<ClaimRule>>,
        /// What makes a caller a machine, any of it. A token whose `sub` is its client's own is a machine's anyhow (RFC 9068
        /// §2.2). By default the preset's.
        machine: Option<Vec<ClaimRule>>,
        /// Where the provider reports sessions and accounts that have ended. Without this key nothing is taken from it.
        events: Option<Events>,
        /// The key that its tokens must be bound to (`cnf`). A token that is bound needs the proof in any case.
        bound: At<Bound> = "none",
    }
}

section! {
    /// What a claim must be, or have among its values.
    "a rule for a claim" ClaimRule {
        /// The claim's name, or a JSON pointer when it starts with `/`.
        claim: ClaimPath,
        /// The values of which one is enough, case-sensitive; numbers and booleans as JSON writes them.
        values: NonEmpty<String>,
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
        /// Whom the token is for; without this key `aud`, or the preset's.
        audience: Option<ClaimPath>,
        /// The subject; without this key `sub`, or the preset's.
        subject: Option<ClaimPath>,
        /// The scopes: a text with spaces, or a list; without this key `scope`, or the preset's.
        scopes: Option<ClaimPath>,
        /// The authentication context class: a text, or a list; without this key `acr`, or the preset's.
        acr: Option<ClaimPath>,
        /// The authentication methods; without this key `amr`, or the preset's.
        amr: Option<ClaimPath>,
        /// When the user authenticated; without this key `auth_time`, or the preset's.
        auth_time: Option<ClaimPath>,
        /// The OAuth client; without this key the preset's, or `azp`, else `client_id`.
        client: Option<ClaimPath>,
    }
}

words! { Preset, "a provider":
    "standard" => Self::Standard, "RFC 9068 and OpenID Connect, as they are written";
    "keycloak" => Self::Keycloak, "Keycloak";
    "auth0" => Self::Auth0, "Auth0";
    "entra" => Self::Entra, "Microsoft Entra ID, tokens of version 2.0";
    "okta" => Self::Okta, "Okta, a custom authorization server";
    "cognito" => Self::Cognito, "Amazon Cognito user pools";
    "google" => Self::Google, "Google's identity tokens";
}

words! { Bound, "a key that tokens are bound to":
    "none" => Self::None, "none: a token that is not bound is taken";
    "certificate" => Self::Certificate, "that of the client certificate on the connection (RFC 8705)";
    "dpop" => Self::Dpop, "that of the DPoP proof (RFC 9449)";
    "any" => Self::Any, "either of the two";
}

words! { AuthTimeFormat, "a form of `auth_time`":
    "number" => Self::Number, "a JSON number, as OpenID Connect has it; a text is not believed";
    "number_or_string" => Self::NumberOrString, "a JSON number, or a text of decimal digits";
}

/// A signature algorithm. `none` has its own refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct AlgorithmText(pub(in crate::config) Algorithm);

const ALGORITHMS: [(&str, Algorithm, &str); 12] = [
    ("RS256", Algorithm::RS256, "RSA PKCS#1 v1.5 with SHA-256"),
    ("RS384", Algorithm::RS384, "RSA PKCS#1 v1.5 with SHA-384"),
    ("RS512", Algorithm::RS512, "RSA PKCS#1 v1.5 with SHA-512"),
    ("PS256", Algorithm::PS256, "RSA PSS with SHA-256"),
    ("PS384", Algorithm::PS384, "RSA PSS with SHA-384"),
    ("PS512", Algorithm::PS512, "RSA PSS with SHA-512"),
    ("ES256", Algorithm::ES256, "ECDSA on P-256 with SHA-256"),
    ("ES384", Algorithm::ES384, "ECDSA on P-384 with SHA-384"),
    ("EdDSA", Algorithm::EdDSA, "Ed25519"),
    ("HS256", Algorithm::HS256, "HMAC with SHA-256, only with a shared secret"),
    ("HS384", Algorithm::HS384, "HMAC with SHA-384, only with a shared secret"),
    ("HS512", Algorithm::HS512, "HMAC with SHA-512, only with a shared secret"),
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
