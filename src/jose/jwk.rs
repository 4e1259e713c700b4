//! JWK and JWK Set (RFC 7517). A key of a set that is not for verifying signatures is left aside with its reason, and
//! one bad key does not spoil the set; a set without any usable key is no answer at all.

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{Algorithm, Algorithms, KeyFault, VerifyingKey, json, jws::decode};

/// The most keys that a set may have; the largest public providers have some dozens.
const MOST_KEYS: usize = 512;

/// The usable keys of a JWK Set.
#[derive(Debug, Clone)]
pub struct JwkSet {
    /// The keys, at least one.
    pub keys: Vec<VerifyingKey>,
    /// What was left aside.
    pub left_aside: Vec<LeftAside>,
}

/// A key of a set that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAside {
    /// Its `kid`, if it could be read.
    pub kid: Option<String>,
    /// Why.
    pub fault: KeyFault,
}

/// Why a document is not a JWK Set that tokens can be verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetFault {
    /// It is not a JSON object with a `keys` array (RFC 7517 §5).
    #[error("the answer is not a JWK Set")]
    Format,
    /// It has no key that is fit for verifying signatures.
    #[error("the JWK Set has no usable key")]
    Empty,
    /// It has more keys than any provider needs, and comparing them would take its time.
    #[error("the JWK Set has more than {MOST_KEYS} keys")]
    TooMany,
}

impl JwkSet {
    /// Reads a set of public keys.
    pub fn parse(bytes: &[u8]) -> Result<Self, SetFault> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|_| SetFault::Format)?;
        if wire.keys.len() > MOST_KEYS {
            return Err(SetFault::TooMany);
        }
        let mut set = Self { keys: Vec::new(), left_aside: Vec::new() };
        for raw in wire.keys {
            let Some(jwk) = json::object(raw.get().as_bytes()) else {
                set.left_aside.push(LeftAside { kid: None, fault: KeyFault::Format });
                continue;
            };
            match from_members(&jwk) {
                Ok(key) => set.keys.push(key),
                Err(fault) => {
                    let kid = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
                    set.left_aside.push(LeftAside { kid, fault });
                }
            }
        }
        if set.keys.is_empty() { Err(SetFault::Empty) } else { Ok(set) }
    }
}

impl VerifyingKey {
    /// Reads one public key as a JWK.
    pub fn from_jwk(bytes: &[u8]) -> Result<Self, KeyFault> {
        from_members(&json::object(bytes).ok_or(KeyFault::Format)?)
    }
}

pub(super) fn from_members(jwk: &Map<String, Value>) -> Result<VerifyingKey, KeyFault> {
    let kind = text(jwk, "kty")?.ok_or(KeyFault::Format)?;
    if kind == "oct" {
        return Err(KeyFault::Symmetric);
    }
    // RFC 7518 §6.2.2, §6.3.2 and RFC 8037 §2: `d` is the private part of all three kinds. Whoever publishes it has
    // lost the key.
    if jwk.contains_key("d") {
        return Err(KeyFault::Private);
    }
    let named = for_verifying(jwk)?;
    let key = match kind {
        "RSA" => VerifyingKey::from_rsa(&bytes(jwk, "n")?, &bytes(jwk, "e")?)?,
        "EC" => match (text(jwk, "crv")?, bytes(jwk, "x"), bytes(jwk, "y")) {
            (Some("P-256"), Ok(x), Ok(y)) if x.len() == 32 => VerifyingKey::from_ec(&x, &y)?,
            (Some("P-384"), Ok(x), Ok(y)) if x.len() == 48 => VerifyingKey::from_ec(&x, &y)?,
            (Some("P-256" | "P-384"), _, _) => return Err(KeyFault::Members),
            _ => return Err(KeyFault::Kind),
        },
        "OKP" if text(jwk, "crv")? == Some("Ed25519") => VerifyingKey::from_ed25519(&bytes(jwk, "x")?)?,
        _ => return Err(KeyFault::Kind),
    };
    let key = match named {
        Some(algorithm) => key.limited_to(algorithm.into()).map_err(|_| KeyFault::Purpose)?,
        None => key,
    };
    Ok(match text(jwk, "kid")? {
        Some(kid) => key.with_kid(kid),
        None => key,
    })
}

/// Checks `use`, `key_ops` and `alg` (RFC 7517 §4.2 to §4.4); gives the one algorithm that `alg` names.
fn for_verifying(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, KeyFault> {
    if text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err(KeyFault::Purpose);
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
        Some(_) => return Err(KeyFault::Purpose),
    }
    match text(jwk, "alg")? {
        None => Ok(None),
        Some(name) => Algorithm::from_name(name)
            .filter(|algorithm| !Algorithms::HMAC.contains(*algorithm))
            .map(Some)
            .ok_or(KeyFault::Purpose),
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<Option<&'j str>, KeyFault> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => Err(KeyFault::Members),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyFault> {
    text(jwk, name)?.and_then(decode).ok_or(KeyFault::Members)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::vectors::{EC_X, EC_Y, ED_X, RSA_N};

    fn rsa(extra: Value) -> Value {
        with(json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"}), extra)
    }

    fn ec(extra: Value) -> Value {
        with(json!({"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_Y}), extra)
    }

    fn with(mut jwk: Value, extra: Value) -> Value {
        for (name, value) in extra.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    }

    fn read(jwk: &Value) -> Result<VerifyingKey, KeyFault> {
        VerifyingKey::from_jwk(jwk.to_string().as_bytes())
    }

    fn set(keys: Value) -> Result<JwkSet, SetFault> {
        JwkSet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn each_kind_of_key_serves_its_own_algorithms() {
        assert_eq!(read(&rsa(json!({}))).unwrap().algorithms(), Algorithms::RSA);
        assert_eq!(read(&rsa(json!({"alg": "PS256"}))).unwrap().algorithms(), Algorithm::PS256.into());
        assert_eq!(read(&ec(json!({"use": "sig"}))).unwrap().algorithms(), Algorithm::ES256.into());
        let ed = read(&json!({"kty": "OKP", "crv": "Ed25519", "x": ED_X, "key_ops": ["verify"]})).unwrap();
        assert_eq!(ed.algorithms(), Algorithm::EdDSA.into());
    }

    #[test]
    fn a_key_that_is_not_for_verifying_says_why() {
        for (extra, fault) in [
            (json!({"use": "enc"}), KeyFault::Purpose),
            (json!({"key_ops": ["encrypt"]}), KeyFault::Purpose),
            (json!({"key_ops": "verify"}), KeyFault::Purpose),
            (json!({"alg": "RSA-OAEP"}), KeyFault::Purpose),
            (json!({"alg": "HS256"}), KeyFault::Purpose),
            (json!({"alg": "ES256"}), KeyFault::Purpose),
            (json!({"alg": "none"}), KeyFault::Purpose),
            (json!({"d": "AQAB"}), KeyFault::Private),
            (json!({"kid": 7}), KeyFault::Members),
            (json!({"n": "AQAB"}), KeyFault::RsaSize),
            (json!({"n": "not base64url!"}), KeyFault::Members),
            (json!({"e": null}), KeyFault::Members),
            (json!({"kty": "oct", "k": "AAAA"}), KeyFault::Symmetric),
            (json!({"kty": "rsa"}), KeyFault::Kind),
        ] {
            assert_eq!(read(&rsa(extra.clone())), Err(fault), "{extra}");
        }
        for (extra, fault) in [
            (json!({"crv": "P-384"}), KeyFault::Members),
            (json!({"crv": "P-521"}), KeyFault::Kind),
            (json!({"crv": "secp256k1"}), KeyFault::Kind),
            (json!({"y": EC_X}), KeyFault::Members),
        ] {
            assert_eq!(read(&ec(extra.clone())), Err(fault), "{extra}");
        }
        assert_eq!(read(&json!({"kty": "OKP", "crv": "X25519", "x": ED_X})), Err(KeyFault::Kind));
        assert_eq!(read(&json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})), Err(KeyFault::Members));
    }

    #[test]
    fn one_bad_key_does_not_spoil_the_set() {
        let text = format!(
            r#"{{"extra":1,"keys":[null,{{"kty":"RSA","kty":"EC"}},{},{},{}]}}"#,
            json!({"kty": "oct", "kid": "shared", "k": "AAAA"}),
            rsa(json!({"use": "enc", "kid": "for-encryption"})),
            ec(json!({"kid": "good"})),
        );
        let set = JwkSet::parse(text.as_bytes()).unwrap();
        assert_eq!(set.keys.iter().map(VerifyingKey::kid).collect::<Vec<_>>(), [Some("good")]);
        let faults: Vec<_> = set.left_aside.iter().map(|aside| (aside.kid.as_deref(), aside.fault)).collect();
        assert_eq!(
            faults,
            [
                (None, KeyFault::Format),
                (None, KeyFault::Format),
                (Some("shared"), KeyFault::Symmetric),
                (Some("for-encryption"), KeyFault::Purpose),
            ]
        );
    }

    #[test]
    fn garbage_is_no_set_and_neither_is_a_set_without_a_usable_key() {
        for text in
            ["", "<html>busy</html>", "[]", "null", "{}", r#"{"keys":{}}"#, r#"{"keys":[]"#, r#"{"keys":[],"keys":[]}"#]
        {
            assert_eq!(JwkSet::parse(text.as_bytes()).unwrap_err(), SetFault::Format, "{text}");
        }
        assert_eq!(set(json!([])).unwrap_err(), SetFault::Empty);
        assert_eq!(set(json!([{"kty": "oct", "k": "AAAA"}])).unwrap_err(), SetFault::Empty);
        assert_eq!(set(json!(vec![1; MOST_KEYS + 1])).unwrap_err(), SetFault::TooMany);
    }
}
