//! Tokens of every kind, made by hand so that a test can also make the wrong ones: a signer signs any header over any
//! payload.

use aws_lc_rs::{
    encoding::AsDer as _,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{secrets, unix_now};

/// The `iss` of the suites' own issuer.
pub const ISSUER: &str = "https://idp.example/";
/// The `aud` that the gateway of the suites answers to.
pub const AUDIENCE: &str = "https://api.example";

/// Claims of a good token: alice, for us, valid now, with the changes laid over them; a `null` takes a claim out.
pub fn claims(changes: Value) -> Value {
    let now = unix_now();
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600, "client_id": "app", "scope": "items:read",
    });
    let members = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        members.remove(name);
        if !value.is_null() {
            members.insert(name.clone(), value.clone());
        }
    }
    claims
}

enum Key {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
    Hmac(Box<hmac::Key>),
}

/// A key with its name and algorithm.
pub struct Signer {
    pub kid: String,
    pub alg: &'static str,
    key: Key,
    public: Value,
    spki: Vec<u8>,
}

impl Signer {
    /// A fresh key for an algorithm that has a public half.
    pub fn new(alg: &'static str, kid: &str) -> Self {
        match alg {
            "RS256" => Self::rsa(alg, kid, &signature::RSA_PKCS1_SHA256),
            "RS384" => Self::rsa(alg, kid, &signature::RSA_PKCS1_SHA384),
            "RS512" => Self::rsa(alg, kid, &signature::RSA_PKCS1_SHA512),
            "PS256" => Self::rsa(alg, kid, &signature::RSA_PSS_SHA256),
            "PS384" => Self::rsa(alg, kid, &signature::RSA_PSS_SHA384),
            "PS512" => Self::rsa(alg, kid, &signature::RSA_PSS_SHA512),
            "ES256" => Self::ec(alg, kid, "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => Self::ec(alg, kid, "P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => Self::ed25519(kid),
            _ => panic!("no public key for {alg}"),
        }
    }

    fn rsa(alg: &'static str, kid: &str, encoding: &'static dyn RsaEncoding) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let jwk = json!({
            "kty": "RSA",
            "n": encode(public.modulus().big_endian_without_leading_zero()),
            "e": encode(public.exponent().big_endian_without_leading_zero()),
        });
        let spki = public.as_der().unwrap().as_ref().to_vec();
        Self::made(alg, kid, jwk, spki, Key::Rsa(Box::new(pair), encoding))
    }

    fn ec(alg: &'static str, kid: &str, curve: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self::made(alg, kid, jwk, spki, Key::Ec(Box::new(pair)))
    }

    fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self::made("EdDSA", kid, jwk, spki, Key::Ed(Box::new(pair)))
    }

    /// A shared secret.
    pub fn shared(alg: &'static str, secret: &[u8]) -> Self {
        let algorithm = match alg {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => panic!("{alg} has no shared secret"),
        };
        Self::made(alg, "shared", Value::Null, Vec::new(), Key::Hmac(Box::new(hmac::Key::new(algorithm, secret))))
    }

    fn made(alg: &'static str, kid: &str, mut public: Value, spki: Vec<u8>, key: Key) -> Self {
        if let Some(members) = public.as_object_mut() {
            members.extend([
                ("kid".to_owned(), json!(kid)),
                ("alg".to_owned(), json!(alg)),
                ("use".to_owned(), json!("sig")),
            ]);
        }
        Self { kid: kid.to_owned(), alg, key, public, spki }
    }

    /// The public half as a JWK with `kid`, `alg` and `use`.
    pub fn jwk(&self) -> Value {
        self.public.clone()
    }

    /// A JWK Set with only this key.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.jwk()]})
    }

    /// The public half as a PEM of its SubjectPublicKeyInfo.
    pub fn pem(&self) -> String {
        let base64 = STANDARD.encode(&self.spki);
        let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The header of this key's tokens, with changes laid over it; a `null` takes a member out.
    pub fn head(&self, changes: Value) -> Value {
        let mut head = json!({"typ": "at+jwt", "alg": self.alg, "kid": self.kid});
        for (name, value) in changes.as_object().unwrap() {
            let members = head.as_object_mut().unwrap();
            members.remove(name);
            if !value.is_null() {
                members.insert(name.clone(), value.clone());
            }
        }
        head
    }

    /// A token for good claims with changes, see [`claims`].
    pub fn token(&self, changes: Value) -> String {
        self.sign(&self.head(json!({})), &claims(changes))
    }

    /// A token with this header over these claims, whatever they say.
    pub fn sign(&self, head: &Value, payload: &Value) -> String {
        self.sign_text(&head.to_string(), &payload.to_string())
    }

    /// A token with this header and payload, to the letter.
    pub fn sign_text(&self, head: &str, payload: &str) -> String {
        let input = format!("{}.{}", encode(head.as_bytes()), encode(payload.as_bytes()));
        let token = format!("{input}.{}", encode(&self.raw_signature(input.as_bytes())));
        secrets::remember_token(&token);
        token
    }

    fn raw_signature(&self, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, input, &mut signature).unwrap();
                signature
            }
            Key::Ec(pair) => pair.sign(&random, input).unwrap().as_ref().to_vec(),
            Key::Ed(pair) => pair.sign(input).as_ref().to_vec(),
            Key::Hmac(key) => hmac::sign(key, input).as_ref().to_vec(),
        }
    }
}

/// base64url without padding (RFC 7515 section 2).
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
