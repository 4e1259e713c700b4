//! What strangers send to the second-factor authority: whole calls, to a real one over a real store. Nobody has a factor there and
//! no token's holder an invitation, so that nothing that is sent may change, prove or give anything.

use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use stepgate::{
    authority::{
        Authority, AuthorityMeans, AuthorityObserver, Target, Unobserved, Way,
        accounts::{NoEnds, SessionEnds, read_import},
        passkey::{EnrolmentState, Passkeys, Person},
    },
    clock::{Clock, Now, SystemClock},
    config::{self, Input, Materials},
    endpoint::Call,
    jose::PublishedKeys,
    notify::{self, NotifyObserver},
    policy::{Assurance, Kind, Marks, Principal, Reason},
    route::NormalPath,
    state::{self, State, StateMeans},
};
use tokio::runtime::{Builder, Runtime};

const SECOND_FACTOR: &str = "
  issuers: [main]
  factors:
    passkey: {}
    totp: {label: Example}
    webhook: {webhook: sms}
    push: {webhook: sms}
    recovery: {}
  return_to: [https://app.example]
";
const ACCOUNTS: &str = "
  mode: accounts
  accounts: {audience: https://api.example, registration: open, scopes: [read]}
";
const REST: &str = "
notify:
  mail: {server: 'smtps://mail.example:465', from: gateway@example.org}
  webhooks: {sms: {url: 'http://127.0.0.1:9/hook', secret: {env: SECRET}}}
issuers: {main: {issuer: https://idp.example/, audience: [api], keys: {discovery: true}, algorithms: [ES256]}}
assurance: {mfa: {acr: [urn:example:acr:mfa], max_age: 5m}}
upstreams: {api: {targets: [http://127.0.0.1:1]}}
routes: [{path: /mfa/**, upstream: api, auth: [main], assurance: mfa}]
";
/// The credential that the callers have.
const TOKEN: &[u8] = b"the-token";

struct Given;

impl Materials for Given {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is no such file".to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned())
    }
}

/// An authority, the runtime that it works on, and the folder that its store is in.
struct Bench {
    runtime: Runtime,
    authority: Authority,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn of(section: &str) -> Mutex<Self> {
        let text = format!(
            "sealing: {{key: {{env: KEY}}}}
authority:
  url: https://api.example
  acr: {{urn:example:acr:mfa: {{categories: 2}}}}{section}{REST}"
        );
        let env = |name: &str| Given.env(name);
        let input = Input { file: Path::new("gateway.yaml"), text: &text, base: Path::new("/"), env: &env };
        let config = config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config;
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let observer: Arc<dyn AuthorityObserver> = Arc::new(Unobserved);
        let deliveries: Arc<dyn NotifyObserver> = Arc::new(notify::Unobserved);
        let ends: Arc<dyn SessionEnds> = Arc::new(NoEnds);
        let means = StateMeans {
            handle: runtime.handle(),
            clock: &clock,
            state_dir: folder.path(),
            roots: &stepgate::client::MachineRoots::nobody(),
            observer: &(Arc::new(state::Unobserved) as _),
            deliveries: &deliveries,
        };
        let state = State::open(&config, &Given, &means, None).expect("a good configuration").expect("a section");
        let means = AuthorityMeans {
            handle: runtime.handle(),
            clock: &clock,
            state: &state,
            observer: &observer,
            ends: &ends,
            published: &PublishedKeys::default(),
        };
        let authority = Authority::compile(&config, &Given, &means, None).expect("a good configuration");
        Mutex::new(Self { authority: authority.expect("a section"), runtime, _folder: folder })
    }
}

static SECOND: LazyLock<Mutex<Bench>> = LazyLock::new(|| Bench::of(SECOND_FACTOR));
static KEPT: LazyLock<Mutex<Bench>> = LazyLock::new(|| Bench::of(ACCOUNTS));

fn now() -> Now {
    Now { unix_ms: 1_800_000_000_000, instant: Instant::now() }
}

fn caller() -> Arc<Principal> {
    Arc::new(Principal {
        issuer: "main".into(),
        issuer_url: "https://idp.example/".into(),
        subject: "ann".into(),
        client: None,
        scopes: Box::default(),
        assurance: Assurance::default(),
        expires_at: Some(f64::NAN),
        leeway_secs: 0.0,
        claims: serde_json::Value::Null,
        kind: Kind::Person,
        marks: Marks { fingerprint: Some(stepgate::authority::GrantBinding::digest(TOKEN)), ..Marks::default() },
        binding: None,
        limits: Box::default(),
        told: stepgate::policy::Told::default(),
    })
}

/// A call as text: the request line, header fields, an empty line, the body. `X-Stranger` comes without a credential.
fn answer(bench: &Mutex<Bench>, data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let body = Bytes::copy_from_slice(body.get(2..).unwrap_or_default());
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let (Ok(method), Ok(path)) = (Method::from_bytes(method.as_bytes()), NormalPath::parse(path)) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.trim())) {
            headers.append(name, value);
        }
    }
    let principal = (!headers.contains_key("x-stranger")).then(caller);
    let call = Call {
        method: &method,
        path: path.as_str(),
        query,
        authority: "api.example",
        headers: &headers,
        body: &body,
        principal: principal.as_ref(),
        client: IpAddr::from([192, 0, 2, 1]),
        confidential: true,
        request_id: "fuzz",
        now: now(),
    };
    let bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = bench.runtime.block_on(bench.authority.answer(call));
    let said = String::from_utf8_lossy(answer.response.body());
    assert!(!answer.response.status().is_server_error(), "{}: {said}", answer.response.status());
    assert_ne!(answer.reason, Reason::AuthorityUnavailable, "what a stranger sends is no fault of the store's");
    // Nobody holds anything here that any of this could be got for. The description names what there is.
    if path.as_str() != "/openapi.json" {
        for word in ["\"access_token\":", "\"recovery_codes\":", "\"refresh_token\":", "\"proof\":"] {
            assert!(!said.contains(word), "{word} in {said}");
        }
    }
    if let Some(to) = answer.response.headers().get(header::LOCATION) {
        let to = to.to_str().unwrap_or_default();
        let own = to.starts_with('/') && !to.starts_with("//") && !to.contains('\\');
        assert!(own || to.starts_with("https://api.example/"), "a browser is sent to {to}");
    }
    let people = bench.runtime.block_on(bench.authority.people(None, 1, now())).expect("the store answers");
    assert!(people.0.is_empty(), "somebody has a factor now");
}

/// A call to an authority whose callers' provider stays.
pub fn authority_call(data: &[u8]) {
    answer(&SECOND, data);
}

/// A call to one that keeps accounts.
pub fn accounts_call(data: &[u8]) {
    answer(&KEPT, data);
}

/// What comes with the request itself: no text is a code of somebody who has no factor, nor a grant that we signed; and a target
/// that is taken is one line that is read back as it was.
pub fn request_proof(data: &[u8]) {
    let bench = SECOND.lock().unwrap_or_else(PoisonError::into_inner);
    let (authority, principal) = (&bench.authority, caller());
    let way = Way { client: IpAddr::from([192, 0, 2, 2]), request_id: "fuzz" };
    let code = bench.runtime.block_on(authority.prove_in_request(&principal, way, data, now()));
    assert_eq!(code.err(), Some(Reason::CodeRefused));
    assert_eq!(authority.read_grant(data, &principal, now()).err(), Some(Reason::GrantInvalid));
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(target) = Target::parse(text, "api.example") {
        let kept = target.as_str();
        assert!(kept.bytes().all(|b| b.is_ascii_graphic() && b != b'#') && kept.contains('/'), "{kept:?}");
        assert!(Target::read(kept) == target);
    }
}

/// A browser's response: whatever it is, it enrols nothing that answers no challenge of ours.
pub fn passkey_response(data: &[u8]) {
    static PARTY: LazyLock<(Passkeys, EnrolmentState)> = LazyLock::new(|| {
        let origin = "https://api.example".parse().expect("an origin");
        let party = Passkeys::new("api.example", "Example", &[origin], true).expect("a relying party");
        let person = Person { handle: [7; 16], name: "ann" };
        let state = party.begin_enrolment(person, &[]).expect("a ceremony").1;
        (party, state)
    });
    assert!(PARTY.0.finish_enrolment(&PARTY.1, data).is_err());
}

/// A file of accounts: each line is one or a fault, once, and no fault quotes what it is about.
pub fn accounts_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (lines, faults) = read_import(text);
    let count = text.lines().count();
    let mut numbers: Vec<usize> =
        lines.iter().map(|line| line.number).chain(faults.iter().map(|fault| fault.line)).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().all(|number| (1..=count).contains(number)) && numbers.is_sorted_by(|a, b| a < b));
    for line in &lines {
        assert!(line.name.bytes().all(|b| b.is_ascii_graphic()) && line.name.len() <= 254, "{:?}", line.name);
        assert!(line.hash.starts_with('$'), "a stored password is no plain one");
    }
    for fault in &faults {
        let said = fault.to_string();
        let line = text.lines().nth(fault.line - 1).unwrap_or_default();
        assert!(line.split(',').all(|field| field.len() < 24 || !said.contains(field)), "{said}");
    }
}
