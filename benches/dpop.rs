//! What proof of possession costs: `cargo bench --bench dpop`.
//!
//! The unit is one verification of an ES256 signature, measured in the same run, so the figures say how many of them a
//! request has: one with a token that was seen before, two with a new one. Every proof is used once, as it must be.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use stepgate::{
    clock::{Clock, SystemClock},
    config::{self, Input},
    identity::{Accepted, Authenticator, Field, Presented, SourceServices, Unobserved},
    policy::Credential,
    runtime::DiskMaterials,
};

/// The allocator of the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS: usize = 4_000;
const ROUNDS: usize = 5;

type Fault = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Fault::from).and_then(|runtime| runtime.block_on(measure())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Result<Self, Fault> {
        Ok(Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?))
    }

    fn jwk(&self) -> Value {
        let (_, point) = self.0.public_key().as_ref().split_at(1);
        let (x, y) = point.split_at(point.len() / 2);
        json!({"crv": "P-256", "kty": "EC", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    fn sign(&self, head: &Value, claims: &Value) -> Result<String, Fault> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

struct Bench {
    issuer: Signer,
    client: Signer,
    authenticator: Authenticator,
    accepted: Accepted,
    number: u64,
}

impl Bench {
    fn new() -> Result<Self, Fault> {
        let issuer = Signer::new()?;
        let text = format!(
            "issuers:
  main: {{issuer: https://idp.example/, audience: [a], keys: {{public_key: '{}'}}, algorithms: [ES256], dpop: {{}}}}
upstreams: {{api: {{targets: [http://127.0.0.1:9]}}}}
routes: [{{path: /, upstream: api}}]
",
            issuer.jwk()
        );
        let input = Input { file: Path::new("bench.yaml"), text: &text, base: Path::new("."), env: &|_| None };
        let loaded = config::load(&input).map_err(|problems| problems.to_string())?;
        let services = SourceServices {
            handle: tokio::runtime::Handle::current(),
            roots: stepgate::client::MachineRoots::default(),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Unobserved),
            revocations: Arc::default(),
            authority_keys: Default::default(),
        };
        let authenticator = Authenticator::compile(&loaded.config, &DiskMaterials, &services, None)
            .map_err(|_| "the configuration does not compile")?;
        let accepted = authenticator.accepted(&[]);
        Ok(Self { issuer, client: Signer::new()?, authenticator, accepted, number: 0 })
    }

    /// A token that was never seen before, bound to the client's key or to none.
    fn token(&mut self, bound: Bound) -> Result<String, Fault> {
        self.number += 1;
        let now = seconds();
        let mut claims = json!({
            "iss": "https://idp.example/", "aud": "a", "sub": "alice", "iat": now, "exp": now + 600, "jti": self.number,
        });
        if bound == Bound::Yes {
            let thumbprint = digest(&SHA256, self.client.jwk().to_string().as_bytes());
            let members = claims.as_object_mut().ok_or("no object")?;
            members.insert("cnf".into(), json!({"jkt": URL_SAFE_NO_PAD.encode(thumbprint)}));
        }
        self.issuer.sign(&json!({"alg": "ES256", "typ": "at+jwt"}), &claims)
    }

    fn proof(&mut self, token: &str) -> Result<String, Fault> {
        self.number += 1;
        let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
        let claims = json!({
            "jti": format!("proof-{}", self.number), "htm": "GET", "htu": "https://api.example/items/7",
            "iat": seconds(), "ath": ath,
        });
        self.client.sign(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.client.jwk()}), &claims)
    }

    /// Nanoseconds for each of these requests, all of which must be let in.
    async fn time(&self, requests: &[(String, Option<String>)]) -> Result<f64, Fault> {
        let now = SystemClock.now();
        let start = Instant::now();
        for (authorization, proof) in requests {
            let presented = Presented {
                authorization: Field::One(authorization.as_bytes()),
                keys: &[],
                confidential: true,
                proof: proof.as_ref().map_or(Field::Absent, |proof| Field::One(proof.as_bytes())),
                query: None,
                method: &http::Method::GET,
                scheme: "https",
                authority: "api.example",
                path: "/items/7",
                certificate: None,
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            };
            let evidence = self.authenticator.authenticate(&presented, &self.accepted, now).await;
            if !matches!(black_box(evidence).credential, Credential::Valid(_)) {
                return Err("a request was not let in".into());
            }
        }
        Ok(each(start.elapsed(), requests.len()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Yes,
    No,
}

async fn measure() -> Result<(), Fault> {
    let mut bench = Bench::new()?;
    let (plain, bound) = (bench.token(Bound::No)?, bench.token(Bound::Yes)?);
    let mut rows = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        let bearer: Vec<_> = (0..REQUESTS).map(|_| (format!("Bearer {plain}"), None)).collect();
        let mut cold_bearer = Vec::with_capacity(REQUESTS);
        let mut cached = Vec::with_capacity(REQUESTS);
        let mut cold = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            cold_bearer.push((format!("Bearer {}", bench.token(Bound::No)?), None));
            cached.push((format!("DPoP {bound}"), Some(bench.proof(&bound)?)));
            let token = bench.token(Bound::Yes)?;
            let proof = bench.proof(&token)?;
            cold.push((format!("DPoP {token}"), Some(proof)));
        }
        let figures = [
            signature_checks(&bench.client)?,
            bench.time(&bearer).await?,
            bench.time(&cold_bearer).await?,
            bench.time(&cached).await?,
            bench.time(&cold).await?,
        ];
        for (row, figure) in rows.iter_mut().zip(figures) {
            row.push(figure);
        }
    }
    let names = [
        "one ES256 signature check",
        "bearer, token seen before",
        "bearer, new token",
        "DPoP, token seen before",
        "DPoP, new token",
    ];
    let unit = rows.first_mut().map(|row| median(row)).unwrap_or_default();
    println!("{:28} {:>10} {:>18}", "", "µs", "signature checks");
    for (name, row) in names.iter().zip(&mut rows) {
        let figure = median(row);
        println!("{name:28} {:10.2} {:18.2}", figure / 1000.0, figure / unit);
    }
    println!("{} proofs are remembered", bench.authenticator.remembered_proofs());
    Ok(())
}

/// What the library itself takes for one signature, its key read anew as from a proof.
fn signature_checks(signer: &Signer) -> Result<f64, Fault> {
    let message = [7; 300];
    let signature = signer.0.sign(&SystemRandom::new(), &message)?;
    let start = Instant::now();
    for _ in 0..REQUESTS {
        let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, signer.0.public_key());
        black_box(key.verify(&message, signature.as_ref()))?;
    }
    Ok(each(start.elapsed(), REQUESTS))
}

fn each(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count as f64
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
