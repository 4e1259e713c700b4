//! Real parts for this room's tests: keys that sign, an identity provider on a real socket whose answers a test can
//! change, and ears that count what is said.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::{
    hmac, rand,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    runtime::Handle,
    sync::watch,
};

use super::{
    CacheLookup, IdentityObserver, RefreshOutcome, SourceServices,
    cache::Known,
    key_place::KeyPlace,
    keys::{Bounds, KeyStore},
    tokens::Tokens,
};
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{AuthTimeFormat, Bound, ClaimLayout, ClaimPath, Issuer, KeySource, Materials, Problem, Source, Span},
    jose::{Algorithm, Algorithms, TimeClaims, VerifyingKey},
    policy::{self, Assurance, Marks, Principal, Reason},
    secret::Secret,
};

pub(super) const ISSUER: &str = "https://idp.example/";
pub(super) const AUDIENCE: &str = "https://api.example";

/// An issuer with the defaults of the configuration.
pub(super) fn issuer(name: &str, keys: KeySource) -> Issuer {
    let claim = |name: &str| ClaimPath::Name(name.into());
    Issuer {
        span: Span::default(),
        name: name.into(),
        url: ISSUER.into(),
        audience: vec![AUDIENCE.into()],
        keys,
        introspection: None,
        algorithms: Algorithms::of(&[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]),
        leeway: Duration::from_secs(30),
        types: vec!["at+jwt".into(), "jwt".into()],
        type_absent: true,
        required: ["iss", "aud", "exp", "sub"].map(Arc::from).to_vec(),
        token_bytes: 8 << 10,
        jwks_cooldown: Duration::from_secs(10),
        jwks_max_stale: Duration::from_secs(24 * 60 * 60),
        ca: None,
        dpop: None,
        claims: ClaimLayout {
            audience: claim("aud"),
            subject: claim("sub"),
            scopes: claim("scope"),
            acr: claim("acr"),
            amr: claim("amr"),
            auth_time: claim("auth_time"),
            client: None,
        },
        auth_time_format: AuthTimeFormat::Number,
        expect: Vec::new(),
        machine: Vec::new(),
        events: None,
        bound: Bound::None,
    }
}

/// A source that stands in the configuration.
pub(super) fn inline(value: impl Into<Vec<u8>>) -> Source {
    Source::Inline { span: Span::default(), value: Secret::new(value) }
}

/// What a cache entry of somebody holds.
pub(super) fn known(subject: &str) -> Arc<Known> {
    let key = VerifyingKey::from_secret(&[1; 32], Algorithm::HS256.into()).unwrap();
    let now = SystemClock.now();
    let store = KeyStore::fixed(KeyPlace::Fixed(key.clone()), vec![key], now);
    let bounds = Bounds { cooldown: Duration::ZERO, max_stale: Duration::ZERO };
    let find = store.find(None, Algorithm::HS256, bounds, now);
    let keys = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(find).unwrap();
    Arc::new(Known {
        principal: Arc::new(Principal {
            issuer: "main".into(),
            issuer_url: ISSUER.into(),
            subject: subject.into(),
            client: None,
            scopes: Box::default(),
            assurance: Assurance::default(),
            expires_at: None,
            leeway_secs: 0.0,
            claims: Value::Null,
            kind: policy::Kind::Person,
            marks: Marks::default(),
            binding: None,
            limits: Box::default(),
            told: crate::policy::Told::default(),
        }),
        times: TimeClaims::default(),
        key: Some(Arc::clone(&keys[0])),
        verifier: 0,
    })
}

/// The time on the system's clock.
pub(super) fn now() -> Now {
    SystemClock.now()
}

/// Claims that are good for five minutes.
pub(super) fn claims(now: Now) -> Value {
    let secs = now.unix_secs();
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": secs + 300, "iat": secs})
}

enum Kind {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Hmac(Vec<u8>),
}

/// A key that signs tokens.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    kind: Kind,
}

impl Signer {
    pub(super) fn new(algorithm: Algorithm, kid: &str) -> Self {
        let kind = match algorithm {
            Algorithm::EdDSA => Kind::Ed(Ed25519KeyPair::generate().unwrap()),
            Algorithm::ES256 => Kind::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Algorithm::ES384 => Kind::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            _ if Algorithms::RSA.contains(algorithm) => {
                Kind::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
            }
            _ => Kind::Hmac(vec![7; 64]),
        };
        Self { algorithm, kid: Some(kid.to_owned()), kind }
    }

    pub(super) fn ed(kid: &str) -> Self {
        Self::new(Algorithm::EdDSA, kid)
    }

    /// The public key as a JWK.
    pub(super) fn jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.kind {
            Kind::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())}),
            Kind::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y)})
            }
            Kind::Rsa(pair) => {
                let key = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": b64(key.modulus().big_endian_without_leading_zero()),
                    "e": b64(key.exponent().big_endian_without_leading_zero()),
                })
            }
            Kind::Hmac(secret) => json!({"kty": "oct", "k": b64(secret)}),
        };
        if let Some(kid) = &self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// A token of these claims, with the header that a provider would write.
    pub(super) fn token(&self, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm.name(), "typ": "at+jwt"});
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.token_with(&header, claims)
    }

    /// A token with any header at all.
    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.kind {
            Kind::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Kind::Ec(pair) => pair.sign(&rand::SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &'static dyn signature::RsaEncoding = match self.algorithm {
                    Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                pair.sign(padding, &rand::SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Kind::Hmac(secret) => {
                let hash = match self.algorithm {
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    Algorithm::HS512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
        }
    }
}

/// A JWK Set of these keys.
pub(super) fn set_of(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// What the provider does with a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// 200 with further header lines and a body.
    Ok(&'static str, String),
    /// These bytes, then close.
    Raw(String),
    /// Nothing, for ever.
    Silence,
    /// A head, then a byte now and then.
    Drip,
    /// A body without an end.
    Flood,
}

/// An identity provider on a real socket.
pub(super) struct Provider {
    pub(super) base: String,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    hits: Arc<AtomicUsize>,
    task: tokio::task::AbortHandle,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    pub(super) async fn start() -> Self {
        Self::serve("http", None).await
    }

    /// The same behind TLS.
    pub(super) async fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::serve("https", Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(scheme: &str, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (replies, hits) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(AtomicUsize::new(0)));
        let (table, counter) = (Arc::clone(&replies), Arc::clone(&hits));
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (table, counter, tls) = (Arc::clone(&table), Arc::clone(&counter), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(socket, &table, &counter).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(stream) => answer(stream, &table, &counter).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { base, replies, hits, task: task.abort_handle() }
    }

    pub(super) fn set(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    /// Serves these keys at `/jwks`, for an hour.
    pub(super) fn publish(&self, signers: &[&Signer]) {
        self.set("/jwks", Reply::Ok("cache-control: max-age=3600\r\n", set_of(signers)));
    }

    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub(super) fn jwks(&self) -> KeySource {
        KeySource::JwksUrl(format!("{}/jwks", self.base).parse().unwrap())
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    replies: &Mutex<HashMap<String, Reply>>,
    hits: &AtomicUsize,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    hits.fetch_add(1, Ordering::SeqCst);
    let path = String::from_utf8(head).ok()?.split(' ').nth(1)?.to_owned();
    let reply = replies.lock().unwrap().get(&path).cloned();
    match reply {
        None => stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.ok()?,
        Some(Reply::Ok(fields, body)) => {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.ok()?;
        }
        Some(Reply::Raw(bytes)) => stream.write_all(bytes.as_bytes()).await.ok()?,
        Some(Reply::Silence) => std::future::pending().await,
        Some(Reply::Drip) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b" ").await.ok()?;
                stream.flush().await.ok()?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Some(Reply::Flood) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(&[b' '; 4096]).await.ok()?;
            }
        }
    }
    stream.shutdown().await.ok()
}

/// What was said of a token: the issuer's name, and how it was judged.
type Verification = (Option<String>, Result<(), Reason>);

/// Counts what is said, and lets a test wait for it.
#[derive(Default)]
pub(super) struct Ears {
    refreshes: watch::Sender<Vec<RefreshOutcome>>,
    pub(super) verifications: Mutex<Vec<Verification>>,
    pub(super) hits: AtomicUsize,
}

impl IdentityObserver for Ears {
    fn refresh(&self, _: &str, outcome: RefreshOutcome) {
        self.refreshes.send_modify(|list| list.push(outcome));
    }

    fn verification(&self, issuer: Option<&str>, result: Result<(), Reason>) {
        self.verifications.lock().unwrap().push((issuer.map(str::to_owned), result));
    }

    fn cache(&self, lookup: CacheLookup) {
        if lookup == CacheLookup::Hit {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Ears {
    /// Waits until so many attempts ended, and gives all of them.
    pub(super) async fn refreshed(&self, count: usize) -> Vec<RefreshOutcome> {
        let mut receiver = self.refreshes.subscribe();
        let wait = receiver.wait_for(|list| list.len() >= count);
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap().clone()
    }

    /// Waits until an attempt ended so.
    pub(super) async fn refreshed_as(&self, keys: usize, left_aside: usize) {
        let mut receiver = self.refreshes.subscribe();
        let wait = receiver.wait_for(|list| list.contains(&RefreshOutcome::Refreshed { keys, left_aside }));
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
    }

    pub(super) fn count(&self) -> usize {
        self.refreshes.borrow().len()
    }
}

/// Files and variables made up by a test; a file that is not made up is read from the disk.
#[derive(Default)]
pub(super) struct MadeUp {
    pub(super) files: HashMap<String, Vec<u8>>,
    pub(super) env: HashMap<String, String>,
}

impl Materials for MadeUp {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        match self.files.get(&*path.to_string_lossy()) {
            Some(bytes) => Ok(bytes.clone()),
            None => std::fs::read(path).map_err(|error| error.kind().to_string()),
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}

/// Services on the test's own runtime.
pub(super) fn services() -> (SourceServices, Arc<Ears>) {
    let ears = Arc::new(Ears::default());
    let services = SourceServices {
        handle: Handle::current(),
        roots: crate::client::MachineRoots::nobody(),
        clock: Arc::new(SystemClock),
        observer: Arc::clone(&ears) as Arc<dyn IdentityObserver>,
        revocations: Arc::default(),
        authority_keys: Default::default(),
    };
    (services, ears)
}

/// An authenticator for these issuers, and its ears.
pub(super) fn start(issuers: &[Issuer]) -> (Tokens, Arc<Ears>) {
    let (services, ears) = services();
    (compile(issuers, &services, None).unwrap(), ears)
}

/// Compiles issuers with nothing made up.
pub(super) fn compile(
    issuers: &[Issuer],
    services: &SourceServices,
    previous: Option<&Tokens>,
) -> Result<Tokens, Vec<Problem>> {
    let issuers: Vec<_> = issuers.iter().cloned().map(Arc::new).collect();
    Tokens::compile(&issuers, &MadeUp::default(), services, previous)
}
