//! What a token costs that was seen before: a JWT, and an opaque one that was introspected. `cargo bench --bench introspection`.
//!
//! Both go through the one door that requests go through. Rounds alternate, so that what disturbs the machine disturbs
//! both; the figure that counts is the ratio.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Instant,
};

use aws_lc_rs::hmac;
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

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const ISSUER: &str = "https://jwt.example/";
/// As many callers as `compare/` has.
const TOKENS: usize = 100;
const ROUNDS: usize = 41;
const CALLS: usize = 50_000;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.ok().and_then(|runtime| runtime.block_on(measure())) {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

async fn measure() -> Option<()> {
    let authenticator = authenticator(endpoint()?)?;
    let expires = SystemClock.now().unix_secs() + 3600;
    let jwts: Vec<String> = (0..TOKENS).map(|number| jwt(number, expires)).collect();
    let opaque = |length: usize| (0..TOKENS).map(|number| format!("{number:0>length$}")).collect::<Vec<String>>();
    let length = jwts.first()?.len();
    let cases = [
        (format!("JWT of {length} bytes"), jwts),
        ("opaque, 43 bytes".to_owned(), opaque(43)),
        (format!("opaque, {length} bytes"), opaque(length)),
    ];
    let accepted = authenticator.accepted(&[]);
    let mut times = vec![Vec::new(); cases.len()];
    for round in 0..ROUNDS {
        for ((_, tokens), times) in cases.iter().zip(&mut times) {
            let took = call(&authenticator, &accepted, tokens).await?;
            // The first round fills the cache.
            if round > 0 {
                times.push(took);
            }
        }
    }
    let medians: Vec<f64> = times.iter_mut().filter_map(|times| median(times)).collect();
    let base = *medians.first()?;
    println!("{:28} {:>9} {:>7}", "a token seen before", "ns", "ratio");
    for ((name, _), took) in cases.iter().zip(&medians) {
        println!("{name:28} {took:9.0} {:7.2}", took / base);
    }
    Some(())
}

/// Nanoseconds for each call.
async fn call(authenticator: &Authenticator, accepted: &Accepted, tokens: &[String]) -> Option<f64> {
    let fields: Vec<String> = tokens.iter().map(|token| format!("Bearer {token}")).collect();
    let now = SystemClock.now();
    let begun = Instant::now();
    for field in fields.iter().cycle().take(CALLS) {
        let presented = Presented {
            keys: &[],
            confidential: true,
            proof: Field::Absent,
            authorization: Field::One(field.as_bytes()),
            query: None,
            method: &http::Method::GET,
            scheme: "https",
            authority: "api.example",
            path: "/",
            certificate: None,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        match authenticator.authenticate(&presented, accepted, now).await.credential {
            Credential::Valid(_) => {}
            other @ (Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. }) => {
                eprintln!("a token was not taken: {other:?}");
                return None;
            }
        }
    }
    Some(begun.elapsed().as_nanos() as f64 / CALLS as f64)
}

fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

fn authenticator(port: u16) -> Option<Authenticator> {
    let text = format!(
        "issuers:
  jwt: {{issuer: {ISSUER}, audience: [api], keys: {{secret: '${{SECRET}}'}}, algorithms: [HS256]}}
  opaque:
    issuer: https://opaque.example/
    audience: [api]
    introspection: {{url: 'http://127.0.0.1:{port}/', client_id: gateway, client_secret: '${{SECRET}}', cache: 1h}}
upstreams: {{api: {{targets: [http://127.0.0.1:1]}}}}
routes: [{{path: /**, upstream: api, auth: [jwt, opaque]}}]
"
    );
    let env = |_: &str| String::from_utf8(SECRET.to_vec()).ok();
    let input = Input { file: Path::new("bench.yaml"), text: &text, base: Path::new("."), env: &env };
    let loaded = config::load(&input).map_err(|problems| eprintln!("{problems}")).ok()?;
    let services = SourceServices {
        handle: tokio::runtime::Handle::current(),
        roots: stepgate::client::MachineRoots::nobody(),
        clock: Arc::new(SystemClock),
        observer: Arc::new(Unobserved),
        revocations: Arc::default(),
        authority_keys: Default::default(),
    };
    Authenticator::compile(&loaded.config, &DiskMaterials, &services, None)
        .map_err(|problems| eprintln!("{problems:?}"))
        .ok()
}

fn claims(number: usize, expires: u64) -> Value {
    json!({"aud": "api", "sub": format!("user-{number}"), "exp": expires, "iat": expires - 3600, "client_id": "app",
        "scope": "items:read items:write", "acr": "urn:example:acr:mfa", "amr": ["pwd", "otp"], "jti": format!("{number:032}")})
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    if let Some(members) = claims.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    claims
}

fn jwt(number: usize, expires: u64) -> String {
    let payload = with(claims(number, expires), "iss", json!(ISSUER));
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "HS256", "typ": "at+jwt"})), part(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// An endpoint that knows every token.
fn endpoint() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            answer(stream, number);
        }
    });
    Some(port)
}

fn answer(mut stream: TcpStream, number: usize) -> Option<()> {
    let mut question = Vec::new();
    let mut buffer = [0; 4096];
    // The form ends with the hint.
    while !question.ends_with(b"access_token") {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        question.extend_from_slice(buffer.get(..read)?);
    }
    let said = with(claims(number, SystemClock.now().unix_secs() + 3600), "active", json!(true));
    let body = said.to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).ok()
}
