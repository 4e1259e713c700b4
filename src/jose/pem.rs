//! Public keys as PEM (RFC 7468): `PUBLIC KEY` is SPKI (RFC 5280 §4.1.2.7), `RSA PUBLIC KEY` is PKCS#1 (RFC 8017 A.1.1).

use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
    },
    pem::{Pem, parse_x509_pem},
    prelude::FromDer,
    public_key::RSAPublicKey,
    x509::SubjectPublicKeyInfo,
};

use super::{KeyFault, VerifyingKey};

impl VerifyingKey {
    /// Reads one public key: PEM, or a JWK if the text starts with `{`.
    pub fn from_public(text: &[u8]) -> Result<Self, KeyFault> {
        if text.trim_ascii_start().starts_with(b"{") { Self::from_jwk(text) } else { from_pem(text) }
    }
}

fn from_pem(text: &[u8]) -> Result<VerifyingKey, KeyFault> {
    let (rest, pem) = parse_x509_pem(text).map_err(|_| KeyFault::Format)?;
    // A second key would be one that is silently not used.
    if !rest.trim_ascii().is_empty() {
        return Err(KeyFault::Format);
    }
    let Pem { label, contents } = pem;
    match label.as_str() {
        "PUBLIC KEY" => from_spki(&contents),
        "RSA PUBLIC KEY" => from_pkcs1(&contents),
        _ if label.ends_with("PRIVATE KEY") => Err(KeyFault::Private),
        _ => Err(KeyFault::Format),
    }
}

fn from_spki(der: &[u8]) -> Result<VerifyingKey, KeyFault> {
    let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyFault::Format)?;
    if !rest.is_empty() || spki.subject_public_key.unused_bits != 0 {
        return Err(KeyFault::Format);
    }
    let bits: &[u8] = &spki.subject_public_key.data;
    let kind = &spki.algorithm.algorithm;
    if *kind == OID_PKCS1_RSAENCRYPTION {
        return from_pkcs1(bits);
    }
    if *kind == OID_SIG_ED25519 {
        return VerifyingKey::from_ed25519(bits);
    }
    if *kind != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(KeyFault::Kind);
    }
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let size = match curve {
        Some(oid) if oid == OID_EC_P256 => 32,
        Some(oid) if oid == OID_NIST_EC_P384 => 48,
        Some(_) | None => return Err(KeyFault::Kind),
    };
    // RFC 5480 §2.2: 04, then both coordinates; a compressed point is not read.
    match bits.split_first() {
        Some((4, point)) if point.len() == 2 * size => {
            let (x, y) = point.split_at(size);
            VerifyingKey::from_ec(x, y)
        }
        Some(_) | None => Err(KeyFault::Members),
    }
}

fn from_pkcs1(der: &[u8]) -> Result<VerifyingKey, KeyFault> {
    let (rest, key) = RSAPublicKey::from_der(der).map_err(|_| KeyFault::Members)?;
    if rest.is_empty() { VerifyingKey::from_rsa(key.modulus, key.exponent) } else { Err(KeyFault::Members) }
}
