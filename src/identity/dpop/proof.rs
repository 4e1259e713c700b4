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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{sync::LazyLock, time::Duration};

    use aws_lc_rs::digest::{SHA256, digest};
    use proptest::prelude::*;

    use super::*;

    /// RFC 9449 §7.1, figure 12: the token, and the proof without its line breaks; §6.1: the thumbprint.
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    const IAT: f64 = 1_562_262_618.0;

    fn expected() -> Expected<'static> {
        static KEY: LazyLock<[u8; 32]> =
            LazyLock::new(|| URL_SAFE_NO_PAD.decode(THUMBPRINT).unwrap().try_into().unwrap());
        static DIGEST: LazyLock<[u8; 32]> =
            LazyLock::new(|| digest(&SHA256, TOKEN.as_bytes()).as_ref().try_into().unwrap());
        static RULES: LazyLock<DpopRules> = LazyLock::new(DpopRules::default);
        Expected {
            bound_to: &KEY,
            method: "GET",
            place: Place { scheme: "https", authority: "resource.example.org", path: "/protectedresource" },
            token_digest: &DIGEST,
            rules: &RULES,
            leeway_secs: 30.0,
            now: IAT,
        }
    }

    #[test]
    fn the_request_of_rfc_9449_passes() {
        let proof = check(PROOF, &expected()).unwrap();
        assert_eq!((proof.jti.as_str(), proof.nonce, proof.algorithm), ("e1j3V_bKic8-LAEB", None, Algorithm::ES256));
    }

    #[test]
    fn it_is_a_proof_for_that_request_alone() {
        let other = [7; 32];
        let refused = |expected: Expected<'_>| check(PROOF, &expected).unwrap_err();
        assert_eq!(refused(Expected { bound_to: &other, ..expected() }), Reason::BindingMismatch);
        assert_eq!(refused(Expected { token_digest: &other, ..expected() }), Reason::DpopInvalid);
        for method in ["get", "POST", ""] {
            assert_eq!(refused(Expected { method, ..expected() }), Reason::DpopInvalid);
        }
        let place = expected().place;
        for place in [Place { path: "/", ..place }, Place { scheme: "http", ..place }, Place { authority: "", ..place }]
        {
            assert_eq!(refused(Expected { place, ..expected() }), Reason::DpopInvalid);
        }
        let rules = DpopRules { algorithms: Algorithm::RS256.into(), ..DpopRules::default() };
        assert_eq!(refused(Expected { rules: &rules, ..expected() }), Reason::DpopInvalid);
    }

    #[test]
    fn its_time_is_max_age_and_the_leeway_at_both_ends() {
        let at =
            |seconds: f64| check(PROOF, &Expected { now: IAT + seconds, ..expected() }).map(|proof| proof.good_until);
        for good in [-30.0, 0.0, 60.0, 90.0] {
            assert_eq!(at(good), Ok(1_562_262_618 + 90), "{good}");
        }
        for bad in [-30.1, 90.1, 1e6, -1e6] {
            assert_eq!(at(bad), Err(Reason::DpopInvalid), "{bad}");
        }
        let rules = DpopRules { max_age: Duration::from_millis(1500), ..DpopRules::default() };
        let proof = check(PROOF, &Expected { rules: &rules, leeway_secs: 0.0, ..expected() });
        assert_eq!(proof.unwrap().good_until, 1_562_262_618 + 2, "a second that has begun is kept whole");
    }

    #[test]
    fn nothing_longer_than_the_bound_is_looked_at() {
        let long = format!("{}{PROOF}", "e".repeat(PROOF_BYTES));
        assert_eq!(check(&long, &expected()).unwrap_err(), Reason::DpopInvalid);
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "[a-zA-Z0-9_.=-]{0,200}") {
            prop_assert!(check(&text, &expected()).is_err(), "{}", text);
        }

        #[test]
        fn no_changed_proof_passes(at in 0..PROOF.len(), to in "[a-zA-Z0-9_.-]") {
            let mut changed = PROOF.to_owned();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(check(&changed, &expected()).is_ok(), changed == PROOF);
        }
    }
}
