//! What a request costs whose token was elevated, beside one whose token is enough. `cargo bench --bench elevation`.
//!
//! Both go over real sockets through the gateway's own binary to a service that answers at once. Rounds alternate, so that what
//! disturbs the machine disturbs both. What counts is the time on a processor of the gateway's own threads (Linux tells it to the
//! nanosecond), as a ratio that must not be above 1.1; the round trip, where sockets and the other side stand in, is told besides.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use stepgate::{
    authority::{Answered, Authority, AuthorityMeans, Caller, End, Finished, Purpose, Right, Unobserved, Wanted, Way},
    clock::{Clock, SystemClock},
    config::{self, Input},
    identity::{self, Authenticator, Field, Presented, SourceServices},
    notify,
    policy::{Credential, Factor},
    runtime::{DiskMaterials, RevokedSessions},
    state::{self, State, StateMeans},
};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const SEALING: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How many callers are elevated: the map is looked into among that many.
const CALLERS: usize = 50;
const ROUNDS: usize = 41;
const REQUESTS: usize = 2_000;

fn main() -> ExitCode {
    match measure() {
        Some(ratio) if ratio <= 1.1 => ExitCode::SUCCESS,
        Some(ratio) => {
            eprintln!("an elevated request costs {ratio:.2} times a plain one");
            ExitCode::FAILURE
        }
        None => ExitCode::FAILURE,
    }
}

/// A gateway that ends with the run.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure() -> Option<f64> {
    let folder = tempfile::tempdir().ok()?;
    let (port, admin) = (free_port()?, free_port()?);
    let yaml = yaml(port, admin, service()?);
    std::fs::write(folder.path().join("gateway.yaml"), &yaml).ok()?;
    let tokens: Vec<String> = (0..CALLERS).map(token).collect();
    prepare(folder.path(), &yaml, &tokens)?;
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_stepgate"));
    gateway
        .args(["run", "gateway.yaml"])
        .current_dir(folder.path())
        .env("SECRET", text(SECRET))
        .env("SEALING", SEALING);
    let gateway = Gateway(gateway.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?);
    let process = gateway.0.id();
    let mut client = connect(port)?;
    let cases = [("a token that is enough", "/plain"), ("a token that was elevated", "/strong")];
    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..ROUNDS {
        for ((_, path), figures) in cases.iter().zip(&mut figures) {
            let (begun, busy) = (Instant::now(), on_processor(process)?);
            requests(&mut client, path, &tokens)?;
            let (took, busy) = (begun.elapsed().as_nanos() as f64, (on_processor(process)? - busy) as f64);
            // The first round fills the cache of tokens.
            if round > 0 {
                figures.busy.push(busy / REQUESTS as f64);
                figures.took.push(took / REQUESTS as f64);
            }
        }
    }
    let [plain, elevated] = figures.map(Figures::medians);
    let ((plain_busy, plain_took), (busy, took)) = (plain?, elevated?);
    println!("{:28} {:>9} {:>7} {:>11} {:>7}", "a request with", "CPU ns", "ratio", "round trip", "ratio");
    let [(first, _), (second, _)] = cases;
    println!("{first:28} {plain_busy:9.0} {:7.3} {plain_took:11.0} {:7.3}", 1.0, 1.0);
    println!("{second:28} {busy:9.0} {:7.3} {took:11.0} {:7.3}", busy / plain_busy, took / plain_took);
    Some(busy / plain_busy)
}

/// What was measured, in nanoseconds a request, of each round.
#[derive(Default)]
struct Figures {
    busy: Vec<f64>,
    took: Vec<f64>,
}

impl Figures {
    fn medians(mut self) -> Option<(f64, f64)> {
        Some((median(&mut self.busy)?, median(&mut self.took)?))
    }
}

/// How long the threads of a process have been on a processor, in nanoseconds: the first figure of their `schedstat`.
fn on_processor(process: u32) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let one = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(threads.flatten().filter_map(one).sum())
}

fn yaml(port: u16, admin: u16, service: u16) -> String {
    format!(
        "listeners: [{{address: '127.0.0.1:{port}', cleartext: true}}]
admin: {{address: '127.0.0.1:{admin}'}}
server: {{workers: 1, state_dir: state}}
access_log: off
issuers:
  main: {{issuer: https://idp.example/, audience: [api], keys: {{secret: '${{SECRET}}'}}, algorithms: [HS256]}}
sealing: {{key: {{env: SEALING}}}}
authority:
  url: https://gate.example
  enrolment: open
  danger_cleartext: true
assurance: {{strong: {{amr: [mfa], max_age: 1h}}}}
upstreams: {{api: {{targets: ['http://127.0.0.1:{service}']}}}}
routes:
  - {{path: /plain, upstream: api, auth: [main]}}
  - {{path: /strong, upstream: api, auth: [main], assurance: strong}}
"
    )
}

/// Enrols and elevates the holders of the tokens, in the state that the gateway will find.
fn prepare(folder: &Path, yaml: &str, tokens: &[String]) -> Option<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let env = |name: &str| Some(if name == "SECRET" { text(SECRET) } else { SEALING.to_owned() });
    let input = Input { file: Path::new("gateway.yaml"), text: yaml, base: folder, env: &env };
    let config = config::load(&input).map_err(|problems| eprintln!("{problems}")).ok()?.config;
    std::fs::create_dir_all(&config.server.state_dir).ok()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let roots = Arc::new(rustls::RootCertStore::empty());
    let services = SourceServices {
        handle: runtime.handle().clone(),
        roots: roots.clone(),
        clock: clock.clone(),
        observer: Arc::new(identity::Unobserved),
        revocations: Arc::default(),
        authority_keys: Default::default(),
    };
    let materials = Environment;
    let authenticator = Authenticator::compile(&config, &materials, &services, None).ok()?;
    let means = StateMeans {
        handle: runtime.handle(),
        clock: &clock,
        state_dir: &config.server.state_dir,
        roots: &roots,
        observer: &(Arc::new(state::Unobserved) as _),
        deliveries: &(Arc::new(notify::Unobserved) as _),
    };
    let state = State::open(&config, &materials, &means, None).map_err(|problems| eprintln!("{problems:?}")).ok()??;
    let means = AuthorityMeans {
        handle: runtime.handle(),
        clock: &clock,
        state: &state,
        observer: &(Arc::new(Unobserved) as _),
        ends: &(Arc::new(RevokedSessions::new(services.revocations.clone(), runtime.handle().clone())) as _),
        published: &services.authority_keys,
    };
    let authority =
        Authority::compile(&config, &materials, &means, None).map_err(|problems| eprintln!("{problems:?}")).ok()??;
    runtime.block_on(async {
        for token in tokens {
            let caller = caller(&authenticator, &authority, token).await?;
            elevate(&authority, &caller).await?;
        }
        Some(())
    })
}

/// The environment of the gateway that is to be.
struct Environment;

impl config::Materials for Environment {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        DiskMaterials.read_file(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        Some(if name == "SECRET" { text(SECRET) } else { SEALING.to_owned() })
    }
}

async fn caller(authenticator: &Authenticator, authority: &Authority, token: &str) -> Option<Caller> {
    let field = format!("Bearer {token}");
    let presented = Presented {
        keys: &[],
        confidential: true,
        proof: Field::Absent,
        authorization: Field::One(field.as_bytes()),
        query: None,
        method: &http::Method::GET,
        scheme: "https",
        authority: "gate.example",
        path: "/",
        certificate: None,
        address: Ipv4Addr::LOCALHOST.into(),
    };
    let evidence = authenticator.authenticate(&presented, &authenticator.accepted(&[]), SystemClock.now()).await;
    match evidence.credential {
        Credential::Valid(principal) => authority.caller(&principal),
        Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. } => None,
    }
}

async fn elevate(authority: &Authority, caller: &Caller) -> Option<()> {
    let (now, way) = (SystemClock.now(), Way { client: Ipv4Addr::LOCALHOST.into(), request_id: "bench" });
    let wanted = Wanted { factor: Factor::Totp, label: "bench".to_owned(), address: None };
    let begun = authority.begin_enrolment(caller, wanted, Right::Nothing, way, now).await.ok()?;
    let code = totp(&base32(&begun.secret?), now.unix_secs() / 30);
    let enrolled = authority.finish_enrolment(caller, &begun.id, Answered::Code(&code), way, now).await.ok()?;
    let purpose = Purpose::StepUp { level: "strong".to_owned() };
    let begun = authority.begin(caller, purpose, None, way, now).await.ok()?;
    let code = Answered::Code(enrolled.recovery_codes.first()?);
    match authority.finish(caller, &begun.id, code, End::Elevate, way, now).await.ok()? {
        Finished::Proved { elevated_until: Some(_), .. } => Some(()),
        Finished::Proved { .. } | Finished::Pending => None,
    }
}

/// Sends a round of requests, one after the other.
fn requests(client: &mut TcpStream, path: &str, tokens: &[String]) -> Option<()> {
    let heads: Vec<String> = tokens
        .iter()
        .map(|token| format!("GET {path} HTTP/1.1\r\nhost: gate.example\r\nauthorization: Bearer {token}\r\n\r\n"))
        .collect();
    let mut buffer = [0; 4096];
    for head in heads.iter().cycle().take(REQUESTS) {
        client.write_all(head.as_bytes()).ok()?;
        let mut length = 0;
        while !buffer.get(..length)?.ends_with(b"\r\n\r\nok") {
            let read = client.read(buffer.get_mut(length..)?).ok().filter(|read| *read > 0)?;
            length += read;
            if length >= 12 && !buffer.starts_with(b"HTTP/1.1 200") {
                eprintln!("{path}: {}", String::from_utf8_lossy(buffer.get(..length)?));
                return None;
            }
        }
    }
    Some(())
}

/// Waits until the gateway takes connections and serves.
fn connect(port: u16) -> Option<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.set_nodelay(true).ok()?;
            return Some(stream);
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// A service that answers every request at once.
fn service() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Some(port)
}

fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = [0; 8192];
    let mut length = 0;
    loop {
        let read = stream.read(buffer.get_mut(length..)?).ok().filter(|read| *read > 0)?;
        length += read;
        if buffer.get(..length)?.ends_with(b"\r\n\r\n") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()?;
            length = 0;
        }
    }
}

fn free_port() -> Option<u16> {
    Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?.local_addr().ok()?.port())
}

fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn token(number: usize) -> String {
    let now = SystemClock.now().unix_secs();
    let claims = json!({"iss": "https://idp.example/", "aud": "api", "sub": format!("user-{number}"), "exp": now + 3600,
        "iat": now, "client_id": "app", "scope": "items:read items:write", "amr": ["pwd"], "jti": format!("{number:032}")});
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "HS256", "typ": "at+jwt"})), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// RFC 6238 §4, as authenticator apps do it.
fn totp(secret: &[u8], step: u64) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret), &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag.last().copied().unwrap_or_default() & 15);
    let four = tag.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

fn base32(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes().filter(u8::is_ascii_alphanumeric) {
        let value = if letter.is_ascii_digit() { letter - b'2' + 26 } else { letter.to_ascii_uppercase() - b'A' };
        (bits, count) = (bits << 5 | u32::from(value), count + 5);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
