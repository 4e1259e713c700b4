//! Published test vectors: what the specifications say a token is, must verify, and anything else must not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::{
    Algorithm, Algorithms, KeyFault, TokenFault, VerifyingKey, inspect,
    jws::{Compact, decode},
};

/// RFC 7515 A.2.1, `n`.
pub(super) const RSA_N: &str = "\
    ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR\
    T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXB\
    dQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia\
    GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
/// RFC 7515 A.3.1, `x`.
pub(super) const EC_X: &str = "\
    f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
/// RFC 7515 A.3.1, `y`.
pub(super) const EC_Y: &str = "\
    x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
/// RFC 8037 A.2, `x`.
pub(super) const ED_X: &str = "\
    11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// RFC 7515 A.1.1, `k`.
const HMAC_K: &str = "\
    AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
/// RFC 7515 A.1, HS256.
const A1: &str = "\
    eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9\
    leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// RFC 7515 A.2, RS256.
const A2: &str = "\
    eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19\
    yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt\
    _O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb\
    1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI\
    8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
/// RFC 7515 A.3, ES256.
const A3: &str = "\
    eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19\
    yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU\
    1Q";
/// RFC 8037 A.4, Ed25519 over a payload that is not JSON.
const A4: &str = "\
    eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6\
    dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
/// RFC 7520 §3.3, `n`.
const COOKBOOK_N: &str = "\
    n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRB\
    SFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD\
    1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_\
    qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw";
/// RFC 7520 §3.5, `k`.
const COOKBOOK_K: &str = "\
    hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg";
/// RFC 7520 §4.1.
const COOKBOOK_RS256: &str = "\
    eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ\
    1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24\
    ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4.MRj\
    dkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wn\
    B-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadn\
    HXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ\
    41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg";
/// RFC 7520 §4.2.
const COOKBOOK_PS384: &str = "\
    eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ\
    1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24\
    ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4.cu2\
    2eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo\
    6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTr\
    xUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTO\
    cbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw";
/// RFC 7520 §4.4.
const COOKBOOK_HS256: &str = "\
    eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9.SXTigJlzIGEgZGFuZ2V\
    yb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHl\
    vdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB\
    0by4.s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0";
/// RFC 7638 §3.1, `n`.
const THUMBPRINT_N: &str = "\
    0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB\
    ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8\
    KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_\
    xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
/// The key of RFC 7515 A.2 as SPKI.
const RSA_SPKI: &str = "\
    -----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj\n\
    NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz\n\
    P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo\n\
    9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB\n\
    EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX\n\
    FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp\n\
    oQIDAQAB\n\
    -----END PUBLIC KEY-----\n";
/// The key of RFC 7515 A.2 as PKCS#1.
const RSA_PKCS1: &str = "\
    -----BEGIN RSA PUBLIC KEY-----\n\
    MIIBCgKCAQEAofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd/wWJcyQoTbji9k0l8W2\n\
    6mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMs\n\
    D1W/YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5\n\
    z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxv\n\
    b3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxXFvUK+DWNmoudF8NAco9/h9iaGNj8q2et\n\
    hFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQIDAQAB\n\
    -----END RSA PUBLIC KEY-----\n";
/// The key of RFC 7515 A.3 as SPKI.
const EC_SPKI: &str = "\
    -----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n\
    6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n\
    -----END PUBLIC KEY-----\n";
/// The key of RFC 8037 A.2 as SPKI.
const ED_SPKI: &str = "\
    -----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
    -----END PUBLIC KEY-----\n";

fn everything() -> Algorithms {
    Algorithm::ALL.into_iter().collect()
}

fn rsa(n: &str) -> VerifyingKey {
    VerifyingKey::from_rsa(&decode(n).unwrap(), &[1, 0, 1]).unwrap()
}

fn ec() -> VerifyingKey {
    VerifyingKey::from_ec(&decode(EC_X).unwrap(), &decode(EC_Y).unwrap()).unwrap()
}

fn ed() -> VerifyingKey {
    VerifyingKey::from_ed25519(&decode(ED_X).unwrap()).unwrap()
}

fn secret(k: &str, algorithm: Algorithm) -> VerifyingKey {
    VerifyingKey::from_secret(&decode(k).unwrap(), algorithm.into()).unwrap()
}

fn check(token: &str, key: &VerifyingKey) -> Result<(), TokenFault> {
    Compact::parse(token, 8192).unwrap().verify(key, everything())
}

fn vectors() -> Vec<(&'static str, &'static str, VerifyingKey)> {
    vec![
        ("RFC 7515 A.1", A1, secret(HMAC_K, Algorithm::HS256)),
        ("RFC 7515 A.2", A2, rsa(RSA_N)),
        ("RFC 7515 A.3", A3, ec()),
        ("RFC 8037 A.4", A4, ed()),
        ("RFC 7520 4.1", COOKBOOK_RS256, rsa(COOKBOOK_N)),
        ("RFC 7520 4.2", COOKBOOK_PS384, rsa(COOKBOOK_N)),
        ("RFC 7520 4.4", COOKBOOK_HS256, secret(COOKBOOK_K, Algorithm::HS256)),
    ]
}

#[test]
fn the_published_vectors_verify() {
    for (name, token, key) in vectors() {
        assert_eq!(check(token, &key), Ok(()), "{name}");
    }
}

#[test]
fn a_vector_with_any_other_key_does_not_verify() {
    let keys: Vec<_> = vectors();
    for (name, token, own) in &keys {
        for (other_name, _, other) in keys.iter().filter(|(_, _, key)| key != own) {
            let fault = check(token, other).unwrap_err();
            assert!(matches!(fault, TokenFault::KeyMismatch | TokenFault::Signature), "{name} with {other_name}");
        }
    }
}

#[test]
fn a_vector_with_any_one_bit_of_its_signature_changed_does_not_verify() {
    for (name, token, key) in vectors() {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let original = decode(signature).unwrap();
        for bit in (0..original.len() * 8).step_by(37) {
            let mut changed = original.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let token = format!("{signed}.{}", encode(&changed));
            assert_eq!(check(&token, &key), Err(TokenFault::Signature), "{name}, bit {bit}");
        }
        for signature in ["", "AA", &encode(&vec![0; original.len()]), &encode(&original[1..])] {
            assert_eq!(check(&format!("{signed}.{signature}"), &key), Err(TokenFault::Signature), "{name}");
        }
    }
}

#[test]
fn an_algorithm_that_the_list_does_not_have_is_refused_whatever_the_signature() {
    for (name, token, key) in vectors() {
        let compact = Compact::parse(token, 8192).unwrap();
        let others: Algorithms = everything().iter().filter(|one| !key.algorithms().contains(*one)).collect();
        assert_eq!(compact.verify(&key, others), Err(TokenFault::Algorithm), "{name}");
        assert_eq!(compact.verify(&key, Algorithms::default()), Err(TokenFault::Algorithm), "{name}");
    }
}

#[test]
fn a_public_key_never_serves_as_a_shared_secret() {
    // The attack of RFC 8725 §2.1: HS256 keyed with the text, or the DER, of the issuer's public key.
    for material in [RSA_SPKI.as_bytes(), RSA_PKCS1.as_bytes(), &decode(RSA_N).unwrap()] {
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(br#"{"iss":"joe"}"#));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, material);
        let token = format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref()));
        assert_eq!(check(&token, &rsa(RSA_N)), Err(TokenFault::KeyMismatch));
    }
}

#[test]
fn the_payload_of_a_bearer_token_is_an_object() {
    assert!(inspect(A1, 8192).is_ok() && inspect(A2, 8192).is_ok() && inspect(A3, 8192).is_ok());
    for token in [A4, COOKBOOK_RS256, COOKBOOK_PS384, COOKBOOK_HS256] {
        assert!(matches!(inspect(token, 8192), Err(TokenFault::Malformed(_))));
    }
}

#[test]
fn thumbprints_are_those_of_the_specifications() {
    assert_eq!(encode(rsa(THUMBPRINT_N).thumbprint()), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(encode(ed().thumbprint()), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn pem_and_jwk_give_the_same_keys() {
    let ec_jwk = format!(r#" {{"kty":"EC","crv":"P-256","x":"{EC_X}","y":"{EC_Y}"}}"#);
    for (text, key) in
        [(RSA_SPKI, rsa(RSA_N)), (RSA_PKCS1, rsa(RSA_N)), (EC_SPKI, ec()), (ED_SPKI, ed()), (ec_jwk.as_str(), ec())]
    {
        assert_eq!(VerifyingKey::from_public(text.as_bytes()), Ok(key), "{text}");
    }
}

#[test]
fn what_is_not_exactly_one_public_key_is_refused() {
    let private = RSA_PKCS1.replace("PUBLIC", "PRIVATE");
    assert_eq!(VerifyingKey::from_public(private.as_bytes()), Err(KeyFault::Private));
    let two = format!("{RSA_SPKI}{EC_SPKI}");
    let certificate = RSA_SPKI.replace("PUBLIC KEY", "CERTIFICATE");
    for text in ["", "RSA", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", &two, &certificate, "{}", "{"] {
        assert_eq!(VerifyingKey::from_public(text.as_bytes()), Err(KeyFault::Format), "{text}");
    }
    // Every cut before the end mark is refused, and none of them panics.
    for len in 0..RSA_SPKI.find("-----END").unwrap() {
        assert!(VerifyingKey::from_public(&RSA_SPKI.as_bytes()[..len]).is_err(), "{len}");
    }
}

fn encode(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}
