//! Compact JWS (RFC 7515 §7.1): taken apart without belief, then verified by one key for one algorithm.
//! Every bound is checked before anything is decoded, and what is not canonical is refused rather than repaired.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Algorithm, Algorithms, TokenFault, VerifyingKey, json};

/// A token whose shape is right and of which nothing is believed yet.
#[derive(Debug, Clone)]
pub struct UnverifiedJws<'t> {
    compact: Compact<'t>,
    claims: Map<String, Value>,
}

impl UnverifiedJws<'_> {
    /// The header's `alg`; `None` is one that is not served here, `none` among them.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.compact.algorithm
    }

    /// The header's `typ`.
    pub fn typ(&self) -> Option<&str> {
        self.compact.typ.as_deref()
    }

    /// The header's `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.compact.kid.as_deref()
    }

    /// The claims, unverified: good for refusing early and for nothing else.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The token's `iss`, unverified: good for choosing whose keys to try and for nothing else.
    pub fn issuer(&self) -> Result<Option<&str>, TokenFault> {
        match self.claims.get("iss") {
            None => Ok(None),
            Some(Value::String(issuer)) => Ok(Some(issuer)),
            Some(_) => Err(TokenFault::Claim("iss")),
        }
    }

    /// Whether the token reports security events (RFC 8417 §2.2), log-outs included, whatever its type says. A claim of
    /// that name with members of another kind is somebody's own.
    pub fn is_event(&self) -> bool {
        const KINDS: [&str; 3] =
            ["http://schemas.openid.net/event/", "https://schemas.openid.net/secevent/", "urn:ietf:params:event:"];
        let is_kind = |name: &String| KINDS.iter().any(|kind| name.starts_with(kind));
        self.claims.get("events").and_then(Value::as_object).is_some_and(|events| events.keys().any(is_kind))
    }
}

/// A token whose signature was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedJws {
    claims: Map<String, Value>,
}

impl VerifiedJws {
    /// The claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The claims, by value.
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }
}

/// Takes a token of at most `max_bytes` bytes apart. Total: any text whatever gives an answer.
pub fn inspect(token: &str, max_bytes: usize) -> Result<UnverifiedJws<'_>, TokenFault> {
    open(Compact::parse(token, max_bytes)?)
}

/// Reads the claims of a token, still without believing them.
pub(super) fn open(compact: Compact<'_>) -> Result<UnverifiedJws<'_>, TokenFault> {
    let payload = decode(compact.payload).ok_or(TokenFault::Malformed("the payload is not base64url"))?;
    let claims = json::object(&payload)
        .ok_or(TokenFault::Malformed("the payload is not a JSON object, or a name stands in it twice"))?;
    Ok(UnverifiedJws { compact, claims })
}

/// Verifies a token by a key, for an algorithm that both the list and the key allow (RFC 8725 §3.1).
pub fn verify(jws: UnverifiedJws<'_>, key: &VerifyingKey, allowed: Algorithms) -> Result<VerifiedJws, TokenFault> {
    verify_any(jws, [key], allowed).map(|(verified, _)| verified)
}

/// Verifies a token by the first of several keys that can, and says which one it was. Without any key the fault is
/// [`TokenFault::KeyMismatch`]; otherwise it is the last key's.
pub fn verify_any<'k>(
    jws: UnverifiedJws<'_>,
    keys: impl IntoIterator<Item = &'k VerifyingKey>,
    allowed: Algorithms,
) -> Result<(VerifiedJws, usize), TokenFault> {
    let mut fault = TokenFault::KeyMismatch;
    for (index, key) in keys.into_iter().enumerate() {
        match jws.compact.verify(key, allowed) {
            Ok(()) => return Ok((VerifiedJws { claims: jws.claims }, index)),
            Err(other) => fault = other,
        }
    }
    Err(fault)
}

/// The three parts and the header.
#[derive(Debug, Clone)]
pub(super) struct Compact<'t> {
    algorithm: Option<Algorithm>,
    typ: Option<String>,
    kid: Option<String>,
    /// `header.payload`, what is signed.
    signed: &'t str,
    payload: &'t str,
    signature: &'t str,
}

impl<'t> Compact<'t> {
    pub(super) fn parse(token: &'t str, max_bytes: usize) -> Result<Self, TokenFault> {
        Self::with_header(token, max_bytes).map(|(compact, _)| compact)
    }

    /// The same with the whole header.
    pub(super) fn with_header(token: &'t str, max_bytes: usize) -> Result<(Self, Map<String, Value>), TokenFault> {
        if token.len() > max_bytes {
            return Err(TokenFault::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed("there are not three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(TokenFault::Malformed("there are not three parts"))?;
        if payload.contains('.') {
            return Err(TokenFault::Malformed("there are not three parts"));
        }
        let header = decode(header).ok_or(TokenFault::Malformed("the header is not base64url"))?;
        let header = json::object(&header)
            .ok_or(TokenFault::Malformed("the header is not a JSON object, or a name stands in it twice"))?;
        // RFC 7515 §4.1.11: extensions that are not understood must be refused, and none is. `b64` (RFC 7797) would
        // change what is signed even where it is not listed; `enc` and `zip` belong to encryption (RFC 7516).
        for name in ["crit", "b64", "enc", "zip"] {
            if header.contains_key(name) {
                return Err(TokenFault::Malformed("the header asks for an extension that is not understood"));
            }
        }
        let name = text(&header, "alg")?.ok_or(TokenFault::Malformed("the header has no `alg`"))?;
        let compact = Self {
            algorithm: Algorithm::from_name(&name),
            typ: text(&header, "typ")?,
            kid: text(&header, "kid")?,
            signed,
            payload,
            signature,
        };
        Ok((compact, header))
    }

    pub(super) fn verify(&self, key: &VerifyingKey, allowed: Algorithms) -> Result<(), TokenFault> {
        let algorithm = self.algorithm.filter(|algorithm| allowed.contains(*algorithm)).ok_or(TokenFault::Algorithm)?;
        key.verify(algorithm, self.signed.as_bytes(), self.signature)
    }
}

/// A header parameter that must be a string if it is there.
fn text(header: &Map<String, Value>, name: &str) -> Result<Option<String>, TokenFault> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(value)) => Ok(Some(value.clone())),
        Some(_) => Err(TokenFault::Malformed("a header parameter is not a string")),
    }
}

/// Base64url without padding (RFC 7515 §2); refuses padding, line breaks, other alphabets and trailing bits that are
/// not zero, so that no two texts are the same token.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 8192;

    fn b64(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.{}", b64(header), b64(payload), b64("signature"))
    }

    fn fault(token: &str) -> TokenFault {
        inspect(token, MAX).unwrap_err()
    }

    fn assert_malformed(token: &str) {
        assert!(matches!(fault(token), TokenFault::Malformed(_)), "{token}");
    }

    #[test]
    fn a_token_shows_its_header_and_its_issuer() {
        let text = token(r#"{"alg":"RS256","typ":"at+jwt","kid":"k1"}"#, r#"{"iss":"https://idp.example/"}"#);
        let jws = inspect(&text, MAX).unwrap();
        assert_eq!(jws.algorithm(), Some(Algorithm::RS256));
        assert_eq!((jws.typ(), jws.kid()), (Some("at+jwt"), Some("k1")));
        assert_eq!(jws.issuer(), Ok(Some("https://idp.example/")));
    }

    #[test]
    fn a_token_that_is_too_long_is_refused_before_it_is_decoded() {
        let text = token(r#"{"alg":"RS256"}"#, "{}");
        assert!(inspect(&text, text.len()).is_ok());
        assert_eq!(inspect(&text, text.len() - 1).unwrap_err(), TokenFault::TooLarge);
        assert_eq!(fault(&"\u{1F480}".repeat(MAX)), TokenFault::TooLarge);
    }

    #[test]
    fn only_three_parts_are_a_token() {
        for text in ["", ".", "..", "...", "a", "a.b", "a.b.c.d", "....."] {
            assert_malformed(text);
        }
        let text = token(r#"{"alg":"RS256"}"#, "{}");
        assert_malformed(&format!("{text}."));
        assert_malformed(&format!(".{text}"));
        assert_malformed(&format!("{text}.x"));
    }

    #[test]
    fn padding_other_alphabets_and_trailing_bits_are_refused() {
        let payload = b64("{}");
        for header in [
            "eyJhbGciOiJSUzI1NiJ9=",
            "eyJhbGciOiJSUzI1NiJ9\n",
            " eyJhbGciOiJSUzI1NiJ9",
            "eyJhbGciOiJSUzI1NiJ+",
            "eyJhbGciOiJSUzI1NiJ/",
        ] {
            assert_malformed(&format!("{header}.{payload}.AA"));
        }
        // `{}` is `e30`; `e31` decodes to the same bytes with a trailing bit set.
        assert_malformed("eyJhbGciOiJSUzI1NiJ9.e31.AA");
    }

    #[test]
    fn the_header_must_be_an_object_with_a_string_for_alg() {
        for header in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"alg":1}"#,
            r#"{"alg":null}"#,
            r#"{"alg":"RS256","kid":7}"#,
            r#"{"alg":"RS256","typ":["JWT"]}"#,
        ] {
            assert_malformed(&token(header, "{}"));
        }
    }

    #[test]
    fn a_name_twice_is_refused_in_the_header_and_in_the_payload() {
        assert_malformed(&token(r#"{"alg":"RS256","alg":"none"}"#, "{}"));
        assert_malformed(&token(r#"{"alg":"RS256"}"#, r#"{"sub":"a","sub":"b"}"#));
        assert_malformed(&token(r#"{"alg":"RS256"}"#, r#"{"realm":{"roles":[],"roles":["admin"]}}"#));
    }

    #[test]
    fn critical_extensions_and_encryption_are_refused() {
        for extension in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""crit":["b64"],"b64":false"#,
            r#""b64":true"#,
            r#""zip":"DEF""#,
            r#""enc":"A128GCM""#,
        ] {
            assert_malformed(&token(&format!(r#"{{"alg":"RS256",{extension}}}"#), "{}"));
        }
    }

    #[test]
    fn keys_that_a_token_brings_along_change_nothing() {
        let header = r#"{"alg":"RS256","jku":"https://evil.example/jwks","x5u":"https://evil.example/c","jwk":{"kty":"oct","k":"AA"},"x5c":["AA"]}"#;
        let text = token(header, "{}");
        let jws = inspect(&text, MAX).unwrap();
        assert_eq!((jws.kid(), jws.algorithm()), (None, Some(Algorithm::RS256)));
    }

    #[test]
    fn none_is_an_algorithm_that_nothing_allows() {
        let everything: Algorithms = Algorithm::ALL.into_iter().collect();
        let key = VerifyingKey::from_secret(&[7; 64], Algorithms::HMAC).unwrap();
        for name in ["none", "None", "NONE", "nOnE", "", "hs256"] {
            for signature in ["", "AA"] {
                let text = format!("{}.{}.{signature}", b64(&format!(r#"{{"alg":"{name}"}}"#)), b64("{}"));
                let jws = inspect(&text, MAX).unwrap();
                assert_eq!(verify(jws, &key, everything).unwrap_err(), TokenFault::Algorithm, "{name}");
            }
        }
    }

    #[test]
    fn an_issuer_that_is_not_a_string_is_a_fault() {
        let text = token(r#"{"alg":"RS256"}"#, r#"{"iss":["https://idp.example/"]}"#);
        assert_eq!(inspect(&text, MAX).unwrap().issuer(), Err(TokenFault::Claim("iss")));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in ".{0,200}") {
            let _ = inspect(&text, MAX);
        }

        #[test]
        fn any_three_parts_give_an_answer(header in "\\PC{0,60}", payload in "\\PC{0,60}") {
            let _ = inspect(&token(&header, &payload), MAX);
        }
    }
}
