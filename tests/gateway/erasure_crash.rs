//! Deletions under `kill -9`: the real process, its real store, three services that know nothing of gateways, and clients that ask and
//! cancel while the gateway is killed at random instants and started again. Afterwards everything is counted.
//!
//! The short form is among the tests. The long one, some hundred kills:
//!
//! ```text
//! STEPGATE_KILLS=300 cargo test --test gateway erasure_crash:: -- --nocapture
//! ```
//! `STEPGATE_SEED` repeats the choices of a run; the instants are the machine's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Write as _,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Gateway, Recorder, Signer, World, get, let_pass, stepgate, unix_now};

/// What operators show.
const ADMIN: &str = "an-admin-token-of-the-tests";
/// Each certificate is verified against all of the log: not thousands of them.
const MOST_CERTIFICATES: usize = 50;

/// Two plans: one whose deletions are held for a second, one whose begin at once.
fn yaml(search: u16, mail: u16, verify: &str) -> String {
    let plan = |name: &str, path: &str, grace: &str| {
        format!(
            "    {name}:
      operations: [\"DELETE {path}\"]
      subject: path.id
      grace: {grace}
      may: {{see: [auditor]}}
      scope: {{summary: all of it, erased: [everything]}}
      lookups:
        - {{name: contact, upstream: api, request: \"GET /accounts/{{subject}}\", capture: {{email: /email}}}}
      steps:
        - {{name: primary, upstream: api, request: \"DELETE /accounts/{{subject}}\"}}
        - {{name: documents, upstream: search, request: \"DELETE /documents?owner={{subject}}\"}}
        - {{name: list, upstream: mail, request: \"POST /unsubscribe/{{subject}}\", body: {{email: \"{{captured.email}}\"}}, after: []}}
      verify:
        probes:
          - {{name: account, upstream: api, request: \"GET /accounts/{{subject}}\"}}
          - {{name: index, upstream: search, request: \"GET /documents?owner={{subject}}\"}}
        after: {verify}
"
        )
    };
    format!(
        "sealing: {{key: {{file: seal.key}}}}
admin: {{address: 127.0.0.1:<admin>, token: {{file: admin.token}}}}
upstreams:
  api: {{targets: [http://127.0.0.1:<upstream>]}}
  search: {{targets: [http://127.0.0.1:{search}]}}
  mail: {{targets: [http://127.0.0.1:{mail}]}}
routes:
  - {{path: /**, upstream: api, auth: [main]}}
deletions:
  url: http://127.0.0.1:<port>
  breaker: {{total: 1000000/1h, by_principal: 1000/1h}}
  limit: 1000000/1m
  plans:
{}{}",
        plan("account", "/accounts/{id}", "1s"),
        plan("profile", "/profiles/{id}", "none"),
    )
}

/// Choices of a test; the same seed gives the same ones.
struct Chance(Mutex<u64>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Mutex::new(seed.max(1)))
    }

    /// A number below `bound`.
    fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % bound
    }
}

/// A request that would change something, as a service saw it.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    key: String,
    /// Method and what it is about.
    what: String,
    /// The status of the answer; 0: there was none.
    status: u16,
}

/// A service that keeps something of everybody until it is told to delete it, and that fails now and then.
struct Service {
    recorder: Recorder,
    seen: Arc<Mutex<Vec<Seen>>>,
    gone: Arc<Mutex<HashSet<String>>>,
}

impl Service {
    fn start(chance: &Arc<Chance>) -> Self {
        let (seen, gone) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(HashSet::new())));
        let (log, away, chance) = (seen.clone(), gone.clone(), chance.clone());
        let recorder = Recorder::with(move |request, stream| {
            let whose = request.target().rsplit(['/', '=']).next().unwrap().to_owned();
            if request.line().starts_with("GET ") {
                let status = if away.lock().unwrap().contains(&whose) { 404 } else { 200 };
                let body = json!({"email": format!("{whose}@example.com")}).to_string();
                return answer(stream, status, &body);
            }
            let at = Instant::now();
            let (mood, wait) = (chance.below(100), chance.below(120));
            let done = mood >= 6;
            let was_gone = done && !away.lock().unwrap().insert(whose);
            if mood >= 80 {
                std::thread::park_timeout(Duration::from_millis(wait));
            }
            let status = match mood {
                0..6 => 503,
                // Done, and nobody hears of it.
                6..10 => 0,
                _ if was_gone => 404,
                _ => 204,
            };
            let what = request.line().trim_end_matches(" HTTP/1.1").to_owned();
            let key = request.header("idempotency-key").to_owned();
            log.lock().unwrap().push(Seen { at, key, what, status });
            status != 0 && answer(stream, status, "")
        });
        Self { recorder, seen, gone }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(stream: &mut TcpStream, status: u16, body: &str) -> bool {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).is_ok()
}

/// Sends a request to a gateway that may be killed meanwhile; `None`: nobody knows what became of it.
fn attempt(port: u16, method: &str, target: &str, token: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: gateway.example\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    // A connection that breaks off is no answer.
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    if length != Some(body.len()) {
        return None;
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// What clients were told.
#[derive(Default)]
struct Told {
    /// Numbers of deletions by their subject, of which a 202 came.
    accepted: BTreeMap<String, String>,
    /// Numbers of which a 200 to the cancelling came.
    cancelled: BTreeSet<String>,
}

/// Asks for deletions, and cancels some, until it is over.
fn client(
    (port, signer): (u16, &Signer),
    told: &Mutex<Told>,
    (next, over): (&AtomicU64, &AtomicBool),
    chance: &Chance,
) {
    while !over.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (subject, path) = (format!("person-{number}"), if number % 3 == 0 { "profiles" } else { "accounts" });
        let proof = json!({"acr": "urn:example:acr:mfa", "amr": ["pwd", "otp", "mfa"], "auth_time": unix_now()});
        let mut claims = json!({"sub": subject});
        claims.as_object_mut().unwrap().extend(proof.as_object().unwrap().clone());
        let token = signer.token(claims);
        // Whoever has no answer asks again, as people do: that is the same deletion.
        let mut id = None;
        for _ in 0..200 {
            if over.load(Ordering::Relaxed) {
                return;
            }
            match attempt(port, "DELETE", &format!("/{path}/{subject}"), &token) {
                Some((202, body)) => {
                    id = Some(body["id"].as_str().unwrap().to_owned());
                    break;
                }
                // It was carried out before anybody heard of it.
                Some((401 | 404, _)) => break,
                // A service was not there for the lookup.
                Some((502 | 503, _)) | None => let_pass(Duration::from_millis(20)),
                Some((status, body)) => panic!("{status}: {body}"),
            }
        }
        let Some(id) = id else { continue };
        told.lock().unwrap().accepted.insert(subject.clone(), id.clone());
        if path == "accounts" && chance.below(3) == 0 {
            let_pass(Duration::from_millis(chance.below(1200)));
            for _ in 0..200 {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                match attempt(port, "POST", &format!("/deletions/{id}/cancel"), &token) {
                    Some((200, _)) => {
                        told.lock().unwrap().cancelled.insert(id.clone());
                        break;
                    }
                    // Begun, or cancelled by the attempt before, or erased meanwhile.
                    Some((409 | 401, _)) => break,
                    Some((502 | 503, _)) | None => let_pass(Duration::from_millis(20)),
                    Some((status, body)) => panic!("{status}: {body}"),
                }
            }
        }
        let_pass(Duration::from_millis(chance.below(15)));
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_is_lost_and_nothing_cancelled_is_done_however_often_the_gateway_is_killed() {
    let (kills, seed) = (number("STEPGATE_KILLS", 15), number("STEPGATE_SEED", u64::from(std::process::id())));
    println!("{kills} kills, seed {seed}");
    let chance = Arc::new(Chance::new(seed));
    let services: Vec<Service> = (0..3).map(|_| Service::start(&chance)).collect();
    let [api, search, mail] = &services[..] else { unreachable!() };
    let world = World::with(Recorder::new());
    world.seal();
    world.write("admin.token", ADMIN);
    let text = yaml(search.recorder.port, mail.recorder.port, "[0s, 1s]");
    let text = text.replace("<upstream>", &api.recorder.port.to_string());
    world.configure(&text);
    let (told, mut killed) = (Mutex::<Told>::default(), Vec::new());
    let mut gateway = world.restart().ready();
    let (port, signer) = (world.port, world.signer());
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..3).map(|_| scope.spawn(|| client((port, signer), &told, (&next, &over), &chance))).collect();
        for _ in 0..kills {
            let_pass(Duration::from_millis(30 + chance.below(900)));
            let from = Instant::now();
            gateway.kill();
            assert!(!gateway.stderr().contains("panicked at"), "{}", gateway.stderr());
            // The audit log, which all of them write, is looked through for secrets once, at the end.
            std::mem::forget(std::mem::replace(&mut gateway, world.restart()));
            killed.push((from, Instant::now()));
        }
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    let gateway = gateway.ready();
    let told = told.into_inner().unwrap();
    let ended = wait_until_all_is_done(&world, &told);
    count(&services, &told, &ended, &killed);
    certificates(&world, &gateway, &told);
}

/// The state that each deletion ends in.
fn wait_until_all_is_done(world: &World, told: &Told) -> HashMap<String, String> {
    let mut ended = HashMap::new();
    let start = Instant::now();
    while ended.len() < told.accepted.len() {
        assert!(start.elapsed() < Duration::from_secs(120), "{} of {}", ended.len(), told.accepted.len());
        let auditor = world.token(json!({"sub": "auditor", "scope": "auditor"}));
        let mut open = BTreeMap::<String, usize>::new();
        for id in told.accepted.values().filter(|id| !ended.contains_key(*id)).cloned().collect::<Vec<_>>() {
            let (status, body) = attempt(world.port, "GET", &format!("/deletions/{id}"), &auditor).expect("an answer");
            assert_eq!(status, 200, "a deletion that was answered with 202 is lost: {body}");
            match body["state"].as_str().unwrap() {
                state @ ("erased" | "cancelled") => drop(ended.insert(id, state.to_owned())),
                state => *open.entry(state.to_owned()).or_default() += 1,
            }
        }
        if !open.is_empty() {
            println!("{:?}: {open:?}", start.elapsed());
            let_pass(Duration::from_secs(1));
        }
    }
    ended
}

/// What the services saw must be what clients were told.
fn count(services: &[Service], told: &Told, ended: &HashMap<String, String>, killed: &[(Instant, Instant)]) {
    let (mut sent, mut repeated) = (0, 0);
    let mut keys = HashMap::<(usize, String), HashSet<String>>::new();
    for (number, service) in services.iter().enumerate() {
        let mut by_key = BTreeMap::<String, Vec<Seen>>::new();
        for seen in service.seen() {
            keys.entry((number, seen.what.clone())).or_default().insert(seen.key.clone());
            by_key.entry(seen.key.clone()).or_default().push(seen);
            sent += 1;
        }
        for (key, all) in &by_key {
            for (before, after) in all.iter().zip(all.iter().skip(1)) {
                repeated += 1;
                let says_done = matches!(before.status, 204 | 404);
                let around_a_kill = killed.iter().any(|(from, _)| before.at <= *from && *from <= after.at);
                assert!(
                    !says_done || around_a_kill,
                    "{key} was done, and sent again without a crash: {before:?} {after:?}"
                );
            }
        }
        for (subject, id) in &told.accepted {
            let touched = by_key.keys().any(|key| key.trim_start_matches('"').starts_with(&**id));
            let gone = service.gone.lock().unwrap().contains(subject);
            match &*ended[id] {
                "cancelled" => assert!(!touched && !gone, "{id} was cancelled, and something was done"),
                _ => assert!(touched && gone, "{id} is erased, and service {number} was never told"),
            }
        }
    }
    for ((_, what), keys) in &keys {
        assert_eq!(keys.len(), 1, "{what} was sent under different keys: {keys:?}");
    }
    for id in &told.cancelled {
        assert_eq!(ended[id], "cancelled", "{id}: the 200 to its cancelling was not true");
    }
    let mut line = format!("{} accepted, {} cancelled", told.accepted.len(), told.cancelled.len());
    let _ = write!(line, ", {sent} requests to services, {repeated} of them repetitions, {} kills", killed.len());
    println!("{line}");
    assert!(told.accepted.len() >= killed.len(), "hardly anything was asked for: {line}");
}

/// Each has its certificate, and the audit log bears it out.
fn certificates(world: &World, gateway: &Gateway, told: &Told) {
    let every = told.accepted.len().div_ceil(MOST_CERTIFICATES).max(1);
    for id in told.accepted.values().step_by(every) {
        let asked = get(&format!("/erasures/{id}/report")).header("Authorization", &format!("Bearer {ADMIN}"));
        let report: Value = serde_json::from_str(&asked.send_to(gateway.admin).expect(200).text()).unwrap();
        world.write("certificate", report["certificate"].as_str().unwrap());
        let verified =
            stepgate(world.folder(), &["audit", "verify", "--certificate", "certificate", "state/audit.jsonl"]);
        assert_eq!(verified.code, 0, "{id}: {}{}", verified.stdout, verified.stderr);
    }
}
