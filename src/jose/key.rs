//! A key that verifies signatures. A value that exists is fit for use: its size, its curve and its point were checked
//! when it was made, and it knows which algorithms it may serve (RFC 8725 §3.1, §3.5).

use std::{fmt, sync::Arc};

use aws_lc_rs::{digest, signature};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;

use super::{Algorithm, Algorithms, TokenFault};

/// Why key material is not fit for verifying tokens. The texts complete "the key …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The text is not a key in any format that is read here.
    #[error("is neither a PEM public key (SPKI or PKCS#1) nor a JWK")]
    Format,
    /// A private key was given where a public one belongs.
    #[error("is private: only the public key belongs here")]
    Private,
    /// A shared secret stands where only public keys may.
    #[error("is a shared secret, which does not belong among public keys")]
    Symmetric,
    /// The type or the curve is not one that is served.
    #[error("has a type or a curve that is not served (RSA, P-256, P-384 and Ed25519 are)")]
    Kind,
    /// The members of the key are missing, malformed, or not a point on the curve.
    #[error("has members that are missing or malformed")]
    Members,
    /// An RSA modulus is too small (RFC 7518 §3.3) or too large to be verified at a fair price.
    #[error("has an RSA modulus outside 2048 to 8192 bits")]
    RsaSize,
    /// A shared secret is shorter than the hash of its algorithm (RFC 7518 §3.2).
    #[error("is shorter than {0} bytes, which its algorithm asks for")]
    SecretTooShort(usize),
    /// `use`, `key_ops` or `alg` say that it is for something else.
    #[error("is not meant for verifying signatures")]
    Purpose,
    /// None of the algorithms that are asked for can be served by it.
    #[error("serves none of the algorithms")]
    Algorithm,
}

/// A key that verifies signatures. Two are equal when their thumbprints, names and algorithms are.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<Arc<str>>,
    algorithms: Algorithms,
    thumbprint: [u8; 32],
    material: DecodingKey,
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.thumbprint == other.thumbprint && self.kid == other.kid && self.algorithms == other.algorithms
    }
}

impl Eq for VerifyingKey {}

impl VerifyingKey {
    /// An RSA key of 2048 to 8192 bits; both numbers big-endian.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyFault> {
        // Some providers write a leading zero octet, which RFC 7518 §6.3.1.1 rules out; the number is the same.
        let modulus = without_leading_zeros(modulus);
        let exponent = without_leading_zeros(exponent);
        let (Some(first), Some(last)) = (modulus.first(), modulus.last()) else { return Err(KeyFault::Members) };
        let bits = modulus.len() * 8 - first.leading_zeros() as usize;
        if !(2048..=8192).contains(&bits) {
            return Err(KeyFault::RsaSize);
        }
        // An even modulus or exponent is no RSA key, 1 makes any signature valid, and a huge exponent makes verifying
        // slow: 32 bits hold every exponent in use.
        let odd_exponent = exponent.last().is_some_and(|last| last % 2 == 1);
        if last % 2 == 0 || !odd_exponent || exponent == [1] || exponent.len() > 4 {
            return Err(KeyFault::Members);
        }
        signature::RsaPublicKeyComponents { n: modulus, e: exponent }
            .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| KeyFault::Members)?;
        let (e, n) = (URL_SAFE_NO_PAD.encode(exponent), URL_SAFE_NO_PAD.encode(modulus));
        Ok(Self {
            kid: None,
            algorithms: Algorithms::RSA,
            thumbprint: sha256(&format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)),
            material: DecodingKey::from_rsa_raw_components(modulus, exponent),
        })
    }

    /// A key on P-256 or P-384, which its coordinates' length tells apart (RFC 7518 §6.2.1.2: full size octets).
    pub fn from_ec(x: &[u8], y: &[u8]) -> Result<Self, KeyFault> {
        let (curve, algorithm, parser) = match (x.len(), y.len()) {
            (32, 32) => ("P-256", Algorithm::ES256, &signature::ECDSA_P256_SHA256_FIXED),
            (48, 48) => ("P-384", Algorithm::ES384, &signature::ECDSA_P384_SHA384_FIXED),
            _ => return Err(KeyFault::Members),
        };
        let point = [&[4], x, y].concat();
        // Refuses a point that is not on the curve.
        signature::ParsedPublicKey::new(parser, &point).map_err(|_| KeyFault::Members)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Ok(Self {
            kid: None,
            algorithms: algorithm.into(),
            thumbprint: sha256(&format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#)),
            material: DecodingKey::from_ec_der(&point),
        })
    }

    /// An Ed25519 key (RFC 8037 §2).
    pub fn from_ed25519(x: &[u8]) -> Result<Self, KeyFault> {
        if x.len() != 32 {
            return Err(KeyFault::Members);
        }
        signature::ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| KeyFault::Members)?;
        let text = URL_SAFE_NO_PAD.encode(x);
        Ok(Self {
            kid: None,
            algorithms: Algorithm::EdDSA.into(),
            thumbprint: sha256(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{text}"}}"#)),
            material: DecodingKey::from_ed_der(x),
        })
    }

    /// A shared secret for those HMAC algorithms of a list; it must be long enough for each (RFC 7518 §3.2).
    pub fn from_secret(secret: &[u8], algorithms: Algorithms) -> Result<Self, KeyFault> {
        let algorithms = algorithms.and(Algorithms::HMAC);
        if algorithms.is_empty() {
            return Err(KeyFault::Algorithm);
        }
        if let Some(needed) =
            algorithms.iter().filter_map(Algorithm::secret_bytes).find(|needed| secret.len() < *needed)
        {
            return Err(KeyFault::SecretTooShort(needed));
        }
        let text = URL_SAFE_NO_PAD.encode(secret);
        Ok(Self {
            kid: None,
            algorithms,
            thumbprint: sha256(&format!(r#"{{"k":"{text}","kty":"oct"}}"#)),
            material: DecodingKey::from_secret(secret),
        })
    }

    /// The same key under a name.
    #[must_use]
    pub fn with_kid(mut self, kid: &str) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The same key for fewer algorithms; none left is a fault.
    pub fn limited_to(mut self, algorithms: Algorithms) -> Result<Self, KeyFault> {
        self.algorithms = self.algorithms.and(algorithms);
        if self.algorithms.is_empty() { Err(KeyFault::Algorithm) } else { Ok(self) }
    }

    /// The key's `kid`, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithms that it may serve, never empty.
    pub fn algorithms(&self) -> Algorithms {
        self.algorithms
    }

    /// What the key is, whatever its name: the SHA-256 of RFC 7638 §3. Not to be shown for a shared secret.
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// Verifies a base64url signature over the bytes that were signed.
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &str) -> Result<(), TokenFault> {
        if !self.algorithms.contains(algorithm) {
            return Err(TokenFault::KeyMismatch);
        }
        match jsonwebtoken::crypto::verify(signature, signed, &self.material, algorithm.wire()) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(TokenFault::Signature),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

fn without_leading_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn sha256(text: &str) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    output
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::jose::jws::decode;

    #[test]
    fn a_secret_must_be_as_long_as_the_hash_of_every_algorithm_it_is_for() {
        let all = Algorithms::HMAC;
        assert_eq!(VerifyingKey::from_secret(&[1; 31], Algorithm::HS256.into()), Err(KeyFault::SecretTooShort(32)));
        assert!(VerifyingKey::from_secret(&[1; 32], Algorithm::HS256.into()).is_ok());
        assert_eq!(VerifyingKey::from_secret(&[1; 63], all), Err(KeyFault::SecretTooShort(64)));
        assert_eq!(VerifyingKey::from_secret(&[1; 64], all).unwrap().algorithms(), all);
        assert_eq!(VerifyingKey::from_secret(&[1; 64], Algorithms::RSA), Err(KeyFault::Algorithm));
    }

    #[test]
    fn an_rsa_key_that_is_small_huge_even_or_trivial_is_refused() {
        let odd = |len: usize| vec![0xff; len];
        assert_eq!(VerifyingKey::from_rsa(&odd(128), &[1, 0, 1]), Err(KeyFault::RsaSize));
        assert_eq!(VerifyingKey::from_rsa(&odd(255), &[1, 0, 1]), Err(KeyFault::RsaSize));
        assert_eq!(VerifyingKey::from_rsa(&odd(1025), &[1, 0, 1]), Err(KeyFault::RsaSize));
        assert_eq!(VerifyingKey::from_rsa(&[], &[1, 0, 1]), Err(KeyFault::Members));
        let mut even = odd(256);
        even[255] = 0xfe;
        assert_eq!(VerifyingKey::from_rsa(&even, &[1, 0, 1]), Err(KeyFault::Members));
        for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[0, 1], &[1, 1, 1, 1, 1]] {
            assert_eq!(VerifyingKey::from_rsa(&odd(256), exponent), Err(KeyFault::Members), "{exponent:?}");
        }
    }

    #[test]
    fn a_leading_zero_in_an_rsa_modulus_changes_nothing() {
        let plain = VerifyingKey::from_rsa(&[0xff; 256], &[1, 0, 1]).unwrap();
        let padded = VerifyingKey::from_rsa(&[&[0][..], &[0xff; 256]].concat(), &[0, 1, 0, 1]).unwrap();
        assert_eq!(plain, padded);
    }

    #[test]
    fn a_point_that_is_not_on_its_curve_is_refused() {
        let x = decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU").unwrap();
        let mut y = decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0").unwrap();
        assert_eq!(VerifyingKey::from_ec(&x, &y).unwrap().algorithms(), Algorithm::ES256.into());
        y[31] ^= 1;
        assert_eq!(VerifyingKey::from_ec(&x, &y), Err(KeyFault::Members));
        assert_eq!(VerifyingKey::from_ec(&x, &y[1..]), Err(KeyFault::Members));
        assert_eq!(VerifyingKey::from_ec(&[0; 66], &[0; 66]), Err(KeyFault::Members));
    }

    #[test]
    fn nothing_that_is_shown_of_a_key_holds_its_secret() {
        let key = VerifyingKey::from_secret(b"correct horse battery staple 123", Algorithm::HS256.into()).unwrap();
        assert_eq!(format!("{key:?}"), r#"VerifyingKey { kid: None, algorithms: {"HS256"}, .. }"#);
    }
}
