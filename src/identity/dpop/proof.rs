//! One proof against one request: the checks of RFC 9449 §4.3 that need no memory. Pure.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::target::Place;
use crate::{
    config::DpopRules,
    jose::{self, Algorithm, TimeClaims},
    policy::Reason,
};

/// The longest proof that is looked at: one by an RSA key of 8192 bits has 4 KiB.
const PROOF_BYTES: usize = 8 * 1024;
/// The longest `jti`: RFC 9449 §4.2 thinks of 128 bits or a UUID.
const JTI_BYTES: usize = 512;

/// What a proof must be a proof of.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The thumbprint of the key that the token is bound to.
    pub bound_to: &'a [u8; 32],
    /// The method of the request line.
    pub method: &'a str,
    /// Where the request went.
    pub place: Place<'a>,
    /// SHA-256 of the token.
    pub token_digest: &'a [u8; 32],
    /// What the issuer asks of proofs.
    pub rules: &'a DpopRules,
    /// The issuer's leeway.
    pub leeway_secs: f64,
    /// Seconds since the epoch.
    pub now: f64,
}

/// A proof that is right for its request, and may have been used before.
#[derive(Debug)]
pub struct Proof {
    /// Its identifier, unique for its key.
    pub jti: String,
    /// The nonce that it holds.
    pub nonce: Option<String>,
    /// What it is signed with.
    pub algorithm: Algorithm,
    /// The last second in which it could be used.
    pub good_until: u64,
}

/// Checks the text of a `DPoP` field. The numbers are those of RFC 9449 §4.3; 1 is for who reads the field, 10 (the nonce)
/// for who made it, 12 in part for who knows the token.
pub fn check(text: &str, expected: &Expected<'_>) -> Result<Proof, Reason> {
    let invalid = Reason::DpopInvalid;
    // 2: one well-formed JWT; 7 in part: a public key.
    let (jws, key) = jose::inspect_proof(text, PROOF_BYTES).map_err(|_| invalid)?;
    // 12, before any signature: another's key cannot make work here.
    if key.thumbprint() != expected.bound_to {
        return Err(Reason::BindingMismatch);
    }
    // 4 and 5.
    if jws.typ() != Some("dpop+jwt") {
        return Err(invalid);
    }
    let allowed = expected.rules.algorithms;
    let algorithm = jws.algorithm().filter(|algorithm| allowed.contains(*algorithm)).ok_or(invalid)?;
    let (jti, good_until) = check_claims(jws.claims(), expected).ok_or(invalid)?;
    // 6.
    let claims = jose::verify(jws, &key, allowed).map_err(|_| invalid)?.into_claims();
    let nonce = match claims.get("nonce") {
        None => None,
        Some(Value::String(nonce)) => Some(nonce.clone()),
        Some(_) => return Err(invalid),
    };
    Ok(Proof { jti, nonce, algorithm, good_until })
}

/// 3, 8, 9, 11, and the token of 12. Says the `jti`, and the last second in which all this holds.
fn check_claims(claims: &Map<String, Value>, expected: &Expected<'_>) -> Option<(String, u64)> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let jti = text("jti").filter(|jti| !jti.is_empty() && jti.len() <= JTI_BYTES)?;
    // Case-sensitive (RFC 9110 §9.1).
    text("htm").filter(|htm| *htm == expected.method)?;
    text("htu").filter(|htu| expected.place.is_named_by(htu, &expected.rules.origins))?;
    let digest: [u8; 32] = URL_SAFE_NO_PAD.decode(text("ath")?).ok()?.try_into().ok()?;
    if digest != *expected.token_digest {
        return None;
    }
    // An `exp` or `nbf` is not asked for, and believed where it is there.
    let times = TimeClaims::read(claims).ok()?;
    times.check(expected.now, expected.leeway_secs).ok()?;
    let last = times.iat? + expected.rules.max_age.as_secs_f64() + expected.leeway_secs;
    if expected.now > last {
        return None;
    }
    // Within minutes of now: it fits.
    Some((jti.to_owned(), last.ceil() as u64))
}
