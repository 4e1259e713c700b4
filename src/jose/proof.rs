//! A token that carries its own key, as a DPoP proof does (RFC 9449 §4.2): it proves that whoever made it holds the
//! private half, and nothing else. The only place where a key is taken out of a token; what such a key is worth is for the
//! caller to know from elsewhere, by its thumbprint.

use serde_json::Value;

use super::{
    Algorithm, Algorithms, TokenFault, UnverifiedJws, VerifyingKey,
    jwk::from_members,
    jws::{self, Compact},
};

/// What a proof may be signed with: key pairs alone, each algorithm with one hash (RFC 9449 §4.2; RFC 8725 §3.1, §3.2).
pub const PROOF_ALGORITHMS: Algorithms =
    Algorithms::of(&[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256, Algorithm::PS256]);

/// Members that only a private key or a shared secret has (RFC 7518 §6.3.2, §6.4; RFC 8037 §2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Takes a proof of at most `max_bytes` bytes apart, with the key that its header shows. Nothing of it is believed yet.
pub fn inspect_proof(token: &str, max_bytes: usize) -> Result<(UnverifiedJws<'_>, VerifyingKey), TokenFault> {
    let (compact, header) = Compact::with_header(token, max_bytes)?;
    let Some(Value::Object(jwk)) = header.get("jwk") else {
        return Err(TokenFault::Malformed("the header shows no key"));
    };
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err(TokenFault::Malformed("the header shows a private key"));
    }
    let key = from_members(jwk).map_err(|_| TokenFault::Malformed("the key in the header cannot be used"))?;
    Ok((jws::open(compact)?, key))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;
    use crate::jose::{
        self,
        vectors::{EC_X, EC_Y, ED_X, RSA_N},
    };

    const MAX: usize = 8192;

    /// RFC 9449 §4.1, figure 1, without its line breaks; the key of the RFC's examples has this thumbprint (§6.1).
    const RFC_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    const RFC_THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    fn with_jwk(jwk: Value) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.AA", part(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk})), part(json!({"jti": "1"})))
    }

    #[test]
    fn the_proof_of_rfc_9449_verifies_with_the_key_that_it_shows() {
        let (jws, key) = inspect_proof(RFC_PROOF, MAX).unwrap();
        assert_eq!((jws.typ(), jws.algorithm()), (Some("dpop+jwt"), Some(Algorithm::ES256)));
        assert_eq!(URL_SAFE_NO_PAD.encode(key.thumbprint()), RFC_THUMBPRINT);
        let claims = jose::verify(jws, &key, PROOF_ALGORITHMS).unwrap().into_claims();
        assert_eq!(claims.get("htu").unwrap(), "https://server.example.com/token");
        let changed = RFC_PROOF.replace("2-GxA6T8", "2-GxA6T9");
        let (jws, key) = inspect_proof(&changed, MAX).unwrap();
        assert_eq!(jose::verify(jws, &key, PROOF_ALGORITHMS).unwrap_err(), TokenFault::Signature);
    }

    #[test]
    fn only_a_usable_public_key_may_be_shown() {
        let ec = json!({"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_Y});
        for good in [
            ec.clone(),
            json!({"kty": "OKP", "crv": "Ed25519", "x": ED_X}),
            json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"}),
        ] {
            assert!(inspect_proof(&with_jwk(good.clone()), MAX).is_ok(), "{good}");
        }
        let mut bad = vec![
            json!(null),
            json!("key"),
            json!([ec]),
            json!({}),
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_X}),
            json!({"kty": "EC", "crv": "secp256k1", "x": EC_X, "y": EC_Y}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        ];
        for name in PRIVATE {
            let mut private = ec.clone();
            private.as_object_mut().unwrap().insert(name.into(), json!("AA"));
            bad.push(private);
        }
        for jwk in bad {
            assert!(matches!(inspect_proof(&with_jwk(jwk.clone()), MAX), Err(TokenFault::Malformed(_))), "{jwk}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_in_the_key_is_refused() {
        let header = format!(
            r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{{"kty":"EC","crv":"P-256","x":"{EC_X}","y":"{EC_Y}","x":"{EC_Y}"}}}}"#
        );
        let token = format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
        assert!(matches!(inspect_proof(&token, MAX), Err(TokenFault::Malformed(_))));
    }
}
