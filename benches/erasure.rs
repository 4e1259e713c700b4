//! What 100,000 deletions that are held cost. `cargo bench --bench erasure`; with `-- --short` 2,000, for a look.
//!
//! Two gateways, the own binary each, over real stores: one where nobody is held, one where so many are. Rounds of requests of people who
//! are not held alternate between them, so that what disturbs the machine disturbs both. What counts is the time on a processor of the
//! gateway's own threads, as a ratio that must not be above 1.1; and that so many take less than 100 MB of memory.

mod wire;

use std::{
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use stepgate::{
    clock::{Clock, Now, SystemClock},
    config::{self, Input},
    erasure::{self, Answering, Ask, ErasureMeans, Erasures, OwnData, RequestValues, Shown, Standing},
    notify,
    policy::{Assurance, Kind, Marks, Principal},
    runtime::AuditEvidence,
    state::{self, State, StateMeans},
    store::StoreFault,
    telemetry::{
        Metrics,
        audit::{AuditFiles, AuditLog},
    },
};
use tokio::task::JoinSet;
use wire::{
    Environment, Figures, Gateway, REQUESTS, SEALING, SECRET, connect, free_port, on_processor, requests, service,
    text, token,
};

const HELD: usize = 100_000;
const SHORT: usize = 2_000;
/// How many are asked for at once.
const AT_ONCE: usize = 256;
const CALLERS: usize = 50;
const ROUNDS: usize = 41;
const MOST_BYTES: u64 = 100_000_000;
const LOOKS: u32 = 200_000;

fn main() -> ExitCode {
    let held = if std::env::args().any(|argument| argument == "--short") { SHORT } else { HELD };
    match measure(held) {
        Some(true) => ExitCode::SUCCESS,
        Some(false) | None => ExitCode::FAILURE,
    }
}

/// A gateway that serves, and what it took until then.
struct Running {
    gateway: Gateway,
    port: u16,
    started: Duration,
    folder: tempfile::TempDir,
    standing: f64,
}

fn measure(held: usize) -> Option<bool> {
    let tokens: Vec<String> = (0..CALLERS).map(token).collect();
    let both = [start(0)?, start(held)?];
    // Not before: while the second one was prepared, the first would have closed a connection on which nothing comes.
    let [none, many] = &both;
    let mut clients = [connect(none.port)?, connect(many.port)?];
    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..ROUNDS {
        for ((running, client), figures) in both.iter().zip(&mut clients).zip(&mut figures) {
            let process = running.gateway.0.id();
            let (begun, busy) = (Instant::now(), on_processor(process)?);
            requests(client, "/plain", &tokens)?;
            let (took, busy) = (begun.elapsed().as_nanos() as f64, (on_processor(process)? - busy) as f64);
            // The first round fills the cache of tokens.
            if round > 0 {
                figures.busy.push(busy / REQUESTS as f64);
                figures.took.push(took / REQUESTS as f64);
            }
        }
    }
    let [none, many] = figures.map(Figures::medians);
    let ((none_busy, none_took), (busy, took)) = (none?, many?);
    let [empty, full] = &both;
    let memory = [empty, full].map(|running| memory(running.gateway.0.id()));
    let disk = [empty, full].map(|running| size(&running.folder.path().join("state"), "stepgate.db"));
    let evidence = size(&full.folder.path().join("state"), "audit.jsonl");
    let [memory, disk] = [memory, disk].map(|[empty, full]| full.saturating_sub(empty));
    println!(
        "{:24} {:>9} {:>7} {:>11} {:>7} {:>11} {:>11}",
        "held", "CPU ns", "ratio", "round trip", "ratio", "standing", "start"
    );
    let line = |name: &str, (busy, took): (f64, f64), running: &Running| {
        let (start, standing) = (running.started.as_secs_f64(), running.standing);
        let (first, second) = (busy / none_busy, took / none_took);
        println!("{name:24} {busy:9.0} {first:7.3} {took:11.0} {second:7.3} {standing:8.0} ns {start:9.2} s");
    };
    line("nobody", (none_busy, none_took), empty);
    line(&format!("{held} people"), (busy, took), full);
    println!(
        "in memory {:.1} MB, in the store's file {:.1} MB, as evidence {:.1} MB",
        megabytes(memory),
        megabytes(disk),
        megabytes(evidence)
    );
    let ratio = busy / none_busy;
    if ratio > 1.1 {
        eprintln!("a request costs {ratio:.2} times as much where {held} are held");
    }
    if memory > MOST_BYTES {
        eprintln!("{held} that are held take more than {} MB of memory", megabytes(MOST_BYTES));
    }
    Some(ratio <= 1.1 && memory <= MOST_BYTES)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A gateway where so many deletions are held.
fn start(held: usize) -> Option<Running> {
    let folder = tempfile::tempdir().ok()?;
    let (port, admin) = (free_port()?, free_port()?);
    let yaml = yaml(port, admin, service()?);
    std::fs::write(folder.path().join("gateway.yaml"), &yaml).ok()?;
    let standing = prepare(folder.path(), &yaml, held)?;
    let begun = Instant::now();
    let gateway = Gateway::start(folder.path())?;
    // It listens when all is read that requests are judged by.
    drop(connect(port)?);
    Some(Running { gateway, port, started: begun.elapsed(), folder, standing })
}

/// The memory that a process has to itself, in bytes.
fn memory(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(u64::MAX / 1024) * 1024
}

/// The bytes of the files whose names begin so.
fn size(folder: &Path, name: &str) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = files.filter(|file| file.file_name().to_string_lossy().starts_with(name));
    of.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

fn yaml(port: u16, admin: u16, service: u16) -> String {
    format!(
        "listeners: [{{address: '127.0.0.1:{port}', cleartext: true}}]
admin: {{address: '127.0.0.1:{admin}'}}
server: {{workers: 1, state_dir: state}}
access_log: off
audit: {{file: state/audit.jsonl}}
issuers:
  main: {{issuer: https://idp.example/, audience: [api], keys: {{secret: '${{SECRET}}'}}, algorithms: [HS256]}}
sealing: {{key: {{env: SEALING}}}}
deletion_guard: {{assurance: {{amr: [mfa], max_age: 1h}}}}
deletions:
  url: https://gate.example
  danger_cleartext: true
  breaker: {{total: 1000000/1h, by_principal: 1000000/1h}}
  plans:
    account:
      operations: ['DELETE /accounts/{{id}}']
      subject: path.id
      grace: 30d
      scope: {{summary: Your account, erased: [Profile, orders]}}
      steps: [{{name: account, upstream: api, request: 'DELETE /accounts/{{subject}}'}}]
      verify: {{probes: [{{name: still, upstream: api, request: 'GET /accounts/{{subject}}'}}], after: [0s, 1d]}}
upstreams: {{api: {{targets: ['http://127.0.0.1:{service}']}}}}
routes:
  - {{path: /plain, upstream: api, auth: [main]}}
  - {{path: /accounts/**, upstream: api, auth: [main]}}
"
    )
}

/// Nothing is carried out here.
struct Nothing;

impl OwnData for Nothing {
    fn forget<'a>(&'a self, _: &'a str, _: &'a str, _: Now) -> Answering<'a, Result<(), StoreFault>> {
        Box::pin(async { Ok(()) })
    }
}

/// Asks for so many deletions, in the state that the gateway will find; what a look costs at whether somebody is held, in nanoseconds.
fn prepare(folder: &Path, yaml: &str, held: usize) -> Option<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let env = |name: &str| Some(if name == "SECRET" { text(SECRET) } else { SEALING.to_owned() });
    let input = Input { file: Path::new("gateway.yaml"), text: yaml, base: folder, env: &env };
    let config = config::load(&input).map_err(|problems| eprintln!("{problems}")).ok()?.config;
    let state_dir = &config.server.state_dir;
    std::fs::create_dir_all(state_dir).ok()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let roots = stepgate::client::MachineRoots::nobody();
    let means = StateMeans {
        handle: runtime.handle(),
        clock: &clock,
        state_dir,
        roots: &roots,
        observer: &(Arc::new(state::Unobserved) as _),
        deliveries: &(Arc::new(notify::Unobserved) as _),
    };
    let refused = |problems: Vec<config::Problem>| eprintln!("{problems:?}");
    let state = State::open(&config, &Environment, &means, None).map_err(refused).ok()??;
    let files = AuditFiles {
        file: config.audit.file.path.clone(),
        key: state_dir.join("audit.key"),
        head_interval: config.audit.head_interval,
    };
    let audit =
        AuditLog::open(&files, clock.clone(), Metrics::new().ok()?.audit()).map_err(|fault| eprintln!("{fault}"));
    let audit = Arc::new(audit.ok()?);
    let means = ErasureMeans {
        handle: runtime.handle(),
        clock: &clock,
        store: state.store(),
        outbox: state.outbox(),
        roots: &roots,
        observer: &(Arc::new(erasure::Unobserved) as _),
        evidence: &(Arc::new(AuditEvidence(audit.clone())) as _),
        own_data: &(Arc::new(Nothing) as _),
    };
    let erasures = Erasures::compile(&config, &Environment, &means, None).map_err(refused).ok()??;
    let erasures = Arc::new(erasures);
    // Its events are written to the audit log by whatever carries it out.
    erasures.put_in_force();
    runtime.block_on(ask(&erasures, held))?;
    runtime.block_on(evidenced(&erasures));
    let standing = look(&erasures)?;
    audit.close();
    Some(standing)
}

/// Asks for deletions, each of another person's.
async fn ask(erasures: &Arc<Erasures>, held: usize) -> Option<()> {
    let mut asking = JoinSet::new();
    for number in 0..held {
        if asking.len() >= AT_ONCE {
            asking.join_next().await?.ok()??;
        }
        let erasures = erasures.clone();
        asking.spawn(async move {
            let name = format!("held-{number}");
            let (principal, now) = (principal(&name), SystemClock.now());
            let plan = erasures.plan("account")?.clone();
            let whole = format!("/accounts/{name}");
            let path = [("id", name.as_str().into())];
            let values = RequestValues { whole: &whole, path: &path, query: None, body: None };
            let target = erasures.target(&plan, &principal, &values).ok()?;
            let proof = Shown { amr: vec!["mfa".into()], age_secs: Some(5), ..Shown::default() };
            let ask =
                Ask { plan: &plan, operation: "DELETE /accounts/{id}", target, principal: &principal, proof, now };
            erasures.request(ask).await.map_err(|fault| eprintln!("{fault}")).ok().map(drop)
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.ok()??;
    }
    Some(())
}

/// Waits until all that happened is in the audit log.
async fn evidenced(erasures: &Erasures) {
    while erasures.counts(SystemClock.now().unix_secs()).unplaced > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a look costs at whether somebody is held who is not.
fn look(erasures: &Erasures) -> Option<f64> {
    let somebody = principal("user-1");
    let begun = Instant::now();
    for _ in 0..LOOKS {
        if std::hint::black_box(erasures.standing(std::hint::black_box(&somebody))) != Standing::Good {
            return None;
        }
    }
    Some(begun.elapsed().as_nanos() as f64 / f64::from(LOOKS))
}

fn principal(subject: &str) -> Principal {
    Principal {
        issuer: "main".into(),
        issuer_url: "https://idp.example/".into(),
        subject: subject.into(),
        client: None,
        scopes: Box::default(),
        assurance: Assurance::default(),
        expires_at: None,
        leeway_secs: 30.0,
        claims: serde_json::json!({"sub": subject}),
        kind: Kind::Person,
        marks: Marks { issued_at: Some(SystemClock.now().unix_secs() as f64), ..Marks::default() },
        binding: None,
        limits: Box::default(),
    }
}
