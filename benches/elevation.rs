//! What a request costs whose token was elevated, beside one whose token is enough. `cargo bench --bench elevation`.
//!
//! Both go over real sockets through the gateway's own binary to a service that answers at once. Rounds alternate, so that what
//! disturbs the machine disturbs both. What counts is the time on a processor of the gateway's own threads (Linux tells it to the
//! nanosecond), as a ratio that must not be above 1.1; the round trip, where sockets and the other side stand in, is told besides.

mod wire;

use std::{net::Ipv4Addr, path::Path, process::ExitCode, sync::Arc, time::Instant};

use aws_lc_rs::hmac;
use stepgate::{
    authority::{Answered, Authority, AuthorityMeans, Caller, End, Finished, Purpose, Right, Unobserved, Wanted, Way},
    clock::{Clock, SystemClock},
    config::{self, Input},
    identity::{self, Authenticator, Field, Presented, SourceServices},
    notify,
    policy::{Credential, Factor},
    runtime::RevokedSessions,
    state::{self, State, StateMeans},
};

use wire::{
    Environment, Figures, Gateway, REQUESTS, SEALING, SECRET, connect, free_port, on_processor, requests, service,
    text, token,
};

/// How many callers are elevated: the map is looked into among that many.
const CALLERS: usize = 50;
const ROUNDS: usize = 41;

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

fn measure() -> Option<f64> {
    let folder = tempfile::tempdir().ok()?;
    let (port, admin) = (free_port()?, free_port()?);
    let yaml = yaml(port, admin, service()?);
    std::fs::write(folder.path().join("gateway.yaml"), &yaml).ok()?;
    let tokens: Vec<String> = (0..CALLERS).map(token).collect();
    prepare(folder.path(), &yaml, &tokens)?;
    let gateway = Gateway::start(folder.path())?;
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
    let roots = stepgate::client::MachineRoots::nobody();
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
