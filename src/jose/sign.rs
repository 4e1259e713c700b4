//! A key that signs tokens of our own, for algorithms whose public half anybody may have.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value, json};

use super::{Algorithm, VerifyingKey};
use crate::secret::Secret;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Why a text is no key that signs. The texts complete "the key …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningFault {
    /// It is not one unencrypted private key in PEM.
    #[error("is not one private key in PKCS#8 PEM (`BEGIN PRIVATE KEY`), without a passphrase")]
    Format,
    /// It is for another algorithm, or not fit for it.
    #[error("does not fit the algorithm {0}")]
    Algorithm(&'static str),
    /// It is for none of the algorithms that are served for signing.
    #[error("is not one that signs here: P-256, P-384, Ed25519, and RSA of 2048 to 8192 bits are")]
    Kind,
    /// The algorithm signs with a shared secret, or is not served.
    #[error("cannot sign: {0} is not served for signing")]
    Unserved(&'static str),
    /// The system gave no randomness, or no memory.
    #[error("cannot be made")]
    Generation,
}

/// A private key, fit for one algorithm.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
    pkcs8: Secret,
    public: Map<String, Value>,
    kid: String,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a new key for ES256, ES384 or EdDSA.
    pub fn generate(algorithm: Algorithm) -> Result<Self, SigningFault> {
        let random = SystemRandom::new();
        let document = match curve(algorithm) {
            Some((signing, _)) => EcdsaKeyPair::generate_pkcs8(signing, &random),
            None if algorithm == Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8(&random),
            None => return Err(SigningFault::Unserved(algorithm.name())),
        };
        Self::from_pkcs8(algorithm, document.map_err(|_| SigningFault::Generation)?.as_ref())
    }

    /// Reads a key in PKCS#8 PEM, for ES256, ES384, EdDSA or RS256.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, SigningFault> {
        let text = std::str::from_utf8(pem).map_err(|_| SigningFault::Format)?.trim();
        let body = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or(SigningFault::Format)?;
        let body: String = body.split_ascii_whitespace().collect();
        Self::from_pkcs8(algorithm, &STANDARD.decode(body).map_err(|_| SigningFault::Format)?)
    }

    /// Reads a key in PKCS#8, for ES256, ES384, EdDSA or RS256.
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, SigningFault> {
        let unfit = SigningFault::Algorithm(algorithm.name());
        let (pair, public) = match curve(algorithm) {
            Some((signing, name)) => {
                let pair = EcdsaKeyPair::from_pkcs8(signing, der).map_err(|_| unfit)?;
                let public = ec(name, pair.public_key().as_ref()).ok_or(unfit)?;
                (Pair::Ec(pair), public)
            }
            None if algorithm == Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| unfit)?;
                let public = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
                (Pair::Ed(pair), public)
            }
            None if algorithm == Algorithm::RS256 => {
                let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| unfit)?;
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                let public = json!({"kty": "RSA",
                    "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero())});
                (Pair::Rsa(pair), public)
            }
            None => return Err(SigningFault::Unserved(algorithm.name())),
        };
        // What would be refused of others is not published as ours: too small a modulus, a point that is none.
        let verifying = VerifyingKey::from_jwk(public.to_string().as_bytes()).map_err(|_| unfit)?;
        let kid = encode(verifying.thumbprint());
        let Value::Object(mut public) = public else { return Err(unfit) };
        for (name, value) in [("kid", &*kid), ("alg", algorithm.name()), ("use", "sig")] {
            public.insert(name.to_owned(), value.into());
        }
        Ok(Self { algorithm, pair, pkcs8: Secret::new(der.to_vec()), public, kid })
    }

    /// Reads a key in PKCS#8 PEM for the first algorithm that it fits: ES256, ES384, EdDSA or RS256.
    pub fn from_any_pem(pem: &[u8]) -> Result<Self, SigningFault> {
        let all = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256];
        let mut fault = SigningFault::Format;
        for algorithm in all {
            match Self::from_pem(algorithm, pem) {
                Ok(key) => return Ok(key),
                Err(SigningFault::Algorithm(_)) => fault = SigningFault::Kind,
                Err(other) => return Err(other),
            }
        }
        Err(fault)
    }

    /// The same key under another name than its thumbprint.
    #[must_use]
    pub fn with_kid(mut self, kid: &str) -> Self {
        kid.clone_into(&mut self.kid);
        self.public.insert("kid".to_owned(), kid.into());
        self
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half as a JWK with `kid`, `alg` and `use`. The `kid` is the thumbprint (RFC 7638).
    pub fn public_jwk(&self) -> &Map<String, Value> {
        &self.public
    }

    /// The `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The private key, PKCS#8.
    pub fn pkcs8(&self) -> &Secret {
        &self.pkcs8
    }

    /// A token of this type over these claims: a compact JWS (RFC 7515 §7.1). `None` where the system gave no
    /// randomness.
    pub fn sign(&self, typ: &str, claims: &impl serde::Serialize) -> Option<String> {
        let header = json!({"alg": self.algorithm.name(), "typ": typ, "kid": self.kid});
        let mut token = encode(header.to_string().as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).ok()?, &mut token);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Pair::Ed(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

fn curve(algorithm: Algorithm) -> Option<(&'static EcdsaSigningAlgorithm, &'static str)> {
    match algorithm {
        Algorithm::ES256 => Some((&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")),
        Algorithm::ES384 => Some((&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384")),
        Algorithm::EdDSA
        | Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512
        | Algorithm::HS256
        | Algorithm::HS384
        | Algorithm::HS512 => None,
    }
}

/// An uncompressed point (RFC 5480 §2.2) as a JWK.
fn ec(curve: &str, point: &[u8]) -> Option<Value> {
    let (form, coordinates) = point.split_first()?;
    let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
    (*form == 4).then(|| json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)}))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::jose::{inspect, verify};

    fn is_verified(key: &SigningKey) -> bool {
        let token = key.sign("made-up+jwt", &json!({"sub": "ann"})).unwrap();
        let jwk = Value::Object(key.public_jwk().clone()).to_string();
        let public = VerifyingKey::from_jwk(jwk.as_bytes()).unwrap();
        let jws = inspect(&token, 4096).unwrap();
        assert_eq!((jws.typ(), jws.kid()), (Some("made-up+jwt"), Some(key.kid())));
        verify(jws, &public, key.algorithm().into()).is_ok_and(|verified| verified.claims().get("sub").is_some())
    }

    #[test]
    fn what_a_key_signs_its_public_half_verifies() {
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            let key = SigningKey::generate(algorithm).unwrap();
            assert!(is_verified(&key), "{}", algorithm.name());
            let again = SigningKey::from_pkcs8(algorithm, key.pkcs8().expose()).unwrap();
            assert_eq!(again.kid(), key.kid());
            let pem = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(key.pkcs8().expose()));
            assert_eq!(SigningKey::from_pem(algorithm, pem.as_bytes()).unwrap().kid(), key.kid());
        }
    }

    #[test]
    fn a_key_signs_for_its_own_algorithm_alone() {
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        for other in [Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256] {
            assert!(SigningKey::from_pkcs8(other, key.pkcs8().expose()).is_err(), "{}", other.name());
        }
        for unserved in [Algorithm::HS256, Algorithm::RS256, Algorithm::PS512] {
            assert!(SigningKey::generate(unserved).is_err());
        }
    }

    #[test]
    fn a_key_of_any_kind_finds_its_own_algorithm_and_may_have_a_name() {
        let pem = |key: &SigningKey| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(key.pkcs8().expose()));
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            let key = SigningKey::generate(algorithm).unwrap();
            let read = SigningKey::from_any_pem(pem(&key).as_bytes()).unwrap();
            assert_eq!((read.algorithm(), read.kid()), (algorithm, key.kid()));
            let named = read.with_kid("gateway-1");
            assert_eq!(named.public_jwk().get("kid"), Some(&json!("gateway-1")));
            assert!(is_verified(&named));
        }
        // Ed25519 as openssl writes it: without the public half (RFC 8410 §7).
        let openssl = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        assert_eq!(SigningKey::from_any_pem(openssl.as_bytes()).unwrap().algorithm(), Algorithm::EdDSA);
        assert_eq!(SigningKey::from_any_pem(b"nonsense").unwrap_err(), SigningFault::Format);
        let other = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode([0x30, 0]));
        assert_eq!(SigningKey::from_any_pem(other.as_bytes()).unwrap_err(), SigningFault::Kind);
    }

    #[test]
    fn what_is_no_private_key_is_refused_without_showing_it() {
        for bad in ["", "nonsense", BEGIN, "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----"] {
            let fault = SigningKey::from_pem(Algorithm::ES256, bad.as_bytes()).unwrap_err();
            assert_eq!(fault, SigningFault::Format, "{bad}");
        }
        let key = SigningKey::generate(Algorithm::EdDSA).unwrap();
        assert!(!format!("{key:?}").contains(&STANDARD.encode(key.pkcs8().expose())));
    }
}
