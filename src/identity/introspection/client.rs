//! Who asks: the gateway as a client of its issuer, and how it proves that (RFC 6749 §2.3, RFC 7523 §2.2, RFC 8705 §2).

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::{
    client::Identity,
    clock::Now,
    config::{CertificateFiles, ClientAuthentication, File, Introspection, Materials, Problem, SecretMethod},
    jose::SigningKey,
    secret::Secret,
};

/// How long an assertion is good for: one question, and clocks that differ a little.
const ASSERTION_SECS: u64 = 60;

/// What proves who asks, as it was read. Equal proofs ask alike, so a reload keeps what it has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Proof {
    Secret { secret: Secret, method: SecretMethod },
    PrivateKey { pem: Secret, key_id: Option<Box<str>> },
    Certificate { chain: Vec<CertificateDer<'static>>, key: Secret },
}

/// The client, ready to ask.
pub(super) enum Client {
    Basic(HeaderValue),
    Post(Secret),
    Assertion(SigningKey),
    /// The handshake says it.
    Certificate,
}

impl Proof {
    /// Reads what the configuration names, and tries it.
    pub(super) fn read(settings: &Introspection, materials: &dyn Materials) -> Result<Self, Problem> {
        match &settings.client {
            ClientAuthentication::Secret { secret: source, method } => {
                let secret = materials.secret(source)?;
                if std::str::from_utf8(secret.expose()).is_err() {
                    return Err(Problem::error(source.span(), "the secret is not UTF-8"));
                }
                Ok(Self::Secret { secret, method: *method })
            }
            ClientAuthentication::PrivateKey { key: source, key_id } => {
                let pem = materials.secret(source)?;
                SigningKey::from_any_pem(pem.expose())
                    .map_err(|fault| Problem::error(source.span(), format!("the key {fault}")))?;
                Ok(Self::PrivateKey { pem, key_id: key_id.as_deref().map(Box::from) })
            }
            ClientAuthentication::Certificate(pair) => certificate(pair, materials),
        }
    }

    /// The certificate for handshakes, where there is one.
    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            Self::Secret { .. } | Self::PrivateKey { .. } => None,
            Self::Certificate { chain, key } => {
                PrivateKeyDer::from_pem_slice(key.expose()).ok().map(|key| (chain.clone(), key))
            }
        }
    }

    /// The client that has this proof.
    pub(super) fn client(&self, id: &str) -> Option<Client> {
        Some(match self {
            Self::Secret { secret, method: SecretMethod::Basic } => Client::Basic(basic(id, secret)?),
            Self::Secret { secret, method: SecretMethod::Post } => Client::Post(secret.clone()),
            Self::PrivateKey { pem, key_id } => {
                let key = SigningKey::from_any_pem(pem.expose()).ok()?;
                Client::Assertion(key_id.iter().fold(key, |key, kid| key.with_kid(kid)))
            }
            Self::Certificate { .. } => Client::Certificate,
        })
    }
}

impl Client {
    /// The `Authorization` field, where this client has one.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        match self {
            Self::Basic(value) => Some(value.clone()),
            Self::Post(_) | Self::Assertion(_) | Self::Certificate => None,
        }
    }

    /// The form that asks about a token (RFC 7662 §2.1); `None` only if the system gives no randomness.
    pub(super) fn form(&self, id: &str, audience: &str, token: &str, now: Now) -> Option<String> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token).append_pair("token_type_hint", "access_token");
        match self {
            // RFC 6749 §2.3: one way a request, so the field alone names the client.
            Self::Basic(_) => {}
            Self::Post(secret) => {
                form.append_pair("client_id", id);
                form.append_pair("client_secret", std::str::from_utf8(secret.expose()).ok()?);
            }
            Self::Assertion(key) => {
                form.append_pair("client_id", id);
                form.append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                form.append_pair("client_assertion", &key.sign("JWT", &assertion(id, audience, now)?)?);
            }
            // RFC 8705 §2: the certificate does not name the client.
            Self::Certificate => {
                form.append_pair("client_id", id);
            }
        }
        Some(form.finish())
    }
}

/// RFC 7523 §3. The audience is the issuer's identifier and nothing else, so that no other issuer can use it.
fn assertion(id: &str, audience: &str, now: Now) -> Option<Map<String, Value>> {
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).ok()?;
    let mut claims = Map::new();
    claims.insert("iss".into(), id.into());
    claims.insert("sub".into(), id.into());
    claims.insert("aud".into(), audience.into());
    claims.insert("jti".into(), URL_SAFE_NO_PAD.encode(nonce).into());
    claims.insert("iat".into(), now.unix_secs().into());
    claims.insert("exp".into(), (now.unix_secs() + ASSERTION_SECS).into());
    Some(claims)
}

/// RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
fn basic(id: &str, secret: &Secret) -> Option<HeaderValue> {
    let encode = |text: &[u8]| form_urlencoded::byte_serialize(text).collect::<String>();
    let pair = format!("{}:{}", encode(id.as_bytes()), encode(secret.expose()));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn certificate(pair: &CertificateFiles, materials: &dyn Materials) -> Result<Proof, Problem> {
    let read = |file: &File| {
        let fault = |error| Problem::error(&file.span, format!("cannot read {}: {error}", file.path.display()));
        materials.read_file(&file.path).map_err(fault)
    };
    let not = |file: &File, what: &str| Problem::error(&file.span, format!("{} {what}", file.path.display()));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&pair.cert)?)
        .collect::<Result<_, _>>()
        .map_err(|_| not(&pair.cert, "is not PEM"))?;
    let Some(leaf) = chain.first() else { return Err(not(&pair.cert, "has no certificate")) };
    let key = Secret::new(read(&pair.key)?);
    let der = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| not(&pair.key, "has no private key in PEM"))?;
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)
        .map_err(|_| not(&pair.key, "is of a kind that TLS does not sign with"))?;
    let certified = rustls::sign::CertifiedKey::new(vec![leaf.clone()], signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(not(&pair.key, "is not the key of the certificate")),
    }
    Ok(Proof::Certificate { chain, key })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock, SystemClock},
        jose,
    };

    fn fields(form: &str) -> Vec<(String, String)> {
        form_urlencoded::parse(form.as_bytes()).into_owned().collect()
    }

    fn form(proof: &Proof) -> (Option<HeaderValue>, Vec<(String, String)>) {
        let client = proof.client("gate/way").unwrap();
        let form = client.form("gate/way", "https://idp.example/", "t+o&k=en", SystemClock.now()).unwrap();
        (client.authorization(), fields(&form))
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_secret_is_sent_in_one_place_alone_and_encoded_twice_in_the_field() {
        let secret = Secret::new("p:ä &");
        let (field, fields) = form(&Proof::Secret { secret: secret.clone(), method: SecretMethod::Basic });
        let field = field.unwrap();
        assert!(field.is_sensitive());
        let decoded = STANDARD.decode(field.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "gate%2Fway:p%3A%C3%A4+%26");
        assert_eq!(fields, [pair("token", "t+o&k=en"), pair("token_type_hint", "access_token")]);

        let (field, fields) = form(&Proof::Secret { secret, method: SecretMethod::Post });
        assert!(field.is_none());
        assert!(fields.contains(&pair("client_id", "gate/way")) && fields.contains(&pair("client_secret", "p:ä &")));
    }

    #[test]
    fn an_assertion_is_for_this_issuer_alone_and_used_once() {
        let pem = Secret::new(rcgen::KeyPair::generate().unwrap().serialize_pem());
        let proof = Proof::PrivateKey { pem, key_id: Some("k1".into()) };
        let read = || {
            let (field, fields) = form(&proof);
            assert!(field.is_none() && fields.iter().all(|(name, _)| name != "client_secret"));
            let Some((_, token)) = fields.iter().find(|(name, _)| name == "client_assertion") else { panic!("none") };
            let jws = jose::inspect(token, 4096).unwrap();
            assert_eq!((jws.kid(), jws.issuer()), (Some("k1"), Ok(Some("gate/way"))));
            let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            serde_json::from_slice::<Value>(&payload).unwrap()
        };
        let (one, other) = (read(), read());
        assert_eq!((&one["sub"], &one["aud"]), (&"gate/way".into(), &"https://idp.example/".into()));
        assert!(one["exp"].as_u64().unwrap() - one["iat"].as_u64().unwrap() <= 60);
        assert_ne!(one["jti"], other["jti"]);
    }
}
