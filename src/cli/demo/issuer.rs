//! An issuer for trying things out: discovery, one key, and a token for whoever asks; and an authenticator app for whoever has
//! no phone at hand. For this machine alone.

use std::{collections::HashMap, io, rc::Rc, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{answer, app::AuthenticatorApp};
use crate::{
    body::{ConnectionInfo, Received, ResponseBody, Serve},
    clock::{Clock, SystemClock},
};

/// How long a token is good for, in seconds.
const LIFETIME_SECS: u64 = 3600;

/// The issuer: its name and its key, made anew at every start.
pub(super) struct DevelopmentIssuer {
    url: String,
    audience: String,
    key: EcdsaKeyPair,
    app: AuthenticatorApp,
}

/// The issuer on one worker.
pub(super) struct Endpoint(pub(super) Arc<DevelopmentIssuer>);

impl Serve for Endpoint {
    type Tail = ();

    async fn serve(&self, _info: Rc<ConnectionInfo>, request: Request<Received>) -> Response<ResponseBody<()>> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        match path {
            "/app" => self.0.code(query).await,
            _ => self.0.handle(path, query),
        }
    }
}

impl DevelopmentIssuer {
    /// An issuer with a key of its own.
    pub(super) fn new(url: &str, audience: &str) -> io::Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| io::Error::other("making the issuer's key"))?;
        Ok(Self { url: url.to_owned(), audience: audience.to_owned(), key, app: AuthenticatorApp::default() })
    }

    /// The code of the authenticator app, whose secret is in the query.
    async fn code(&self, query: &str) -> Response<ResponseBody<()>> {
        let secret = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "secret");
        match self.app.code(&secret.map(|(_, secret)| secret.into_owned()).unwrap_or_default()).await {
            Some(code) => answer(StatusCode::OK, "text/plain", code),
            None => answer(StatusCode::BAD_REQUEST, "text/plain", "this is no secret of an app\n"),
        }
    }

    fn handle(&self, path: &str, query: &str) -> Response<ResponseBody<()>> {
        let json = |body: Value| answer(StatusCode::OK, "application/json", format!("{body}\n"));
        match path {
            "/.well-known/openid-configuration" => json(json!({
                "issuer": self.url,
                "jwks_uri": format!("{}/jwks.json", self.url),
                "token_endpoint": format!("{}/token", self.url),
            })),
            "/jwks.json" => json(json!({"keys": [self.jwk()]})),
            "/token" => match self.token(query) {
                Some(token) => answer(StatusCode::OK, "text/plain", token),
                None => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "signing failed\n"),
            },
            _ => answer(StatusCode::NOT_FOUND, "text/plain", "not found\n"),
        }
    }

    /// The public key (RFC 7518 §6.2.1): an uncompressed point is 4, x, y.
    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "demo",
            "x": coordinate(1..33), "y": coordinate(33..65)})
    }

    /// A token with the claims that the query names; `age` is how long ago the user authenticated, in seconds.
    fn token(&self, query: &str) -> Option<String> {
        let asked: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let now = SystemClock.now().unix_secs();
        let age = asked.get("age").and_then(|age| age.parse().ok()).unwrap_or(0);
        let mut claims = Map::from_iter([
            ("iss".to_owned(), json!(self.url)),
            ("aud".to_owned(), json!(self.audience)),
            ("sub".to_owned(), json!("alice")),
            ("iat".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now + LIFETIME_SECS)),
            ("auth_time".to_owned(), json!(now.saturating_sub(age))),
        ]);
        for (name, value) in &asked {
            match name.as_str() {
                "amr" => drop(claims.insert("amr".into(), value.split(' ').collect())),
                "sub" | "acr" | "scope" | "department" | "client_id" => {
                    claims.insert(name.clone(), json!(value));
                }
                _ => {}
            }
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "demo"});
        let message = format!("{}.{}", encode(&header), encode(&Value::Object(claims)));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).ok()?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
