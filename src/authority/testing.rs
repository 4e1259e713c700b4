//! An authority for tests: compiled from a real configuration, over a real store in a folder that goes with it, with an ear
//! that notes what is said.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{
    Actor, Answer, Answered, Authority, AuthorityMeans, AuthorityObserver, Call, Caller, Change, Enrolled,
    GrantBinding, Occasion, Outcome, Right, Wanted, Way, totp,
};
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{self, Config, Materials},
    policy::{Assurance, Factor, Kind, Marks, Principal, Reason},
    state::{self, State, StateMeans},
    store::{Store, Table, testing::Breaker},
};

/// A moment of tests.
pub(crate) const START: u64 = 1_800_000_000;

/// The configuration of most tests.
pub(crate) const YAML: &str = r"
listeners: [{address: 127.0.0.1:0, cleartext: true}]
sealing: {key: {env: SEALING_KEY}}
authority:
  url: https://api.example
  issuers: [main]
  acr:
    urn:example:acr:mfa: {categories: 2}
    urn:example:acr:phr: {phishing_resistant: true}
  factors:
    passkey: {}
    totp: {label: Example}
    webhook: {webhook: sms}
    push: {webhook: sms}
    recovery: {}
  return_to: [https://app.example]
  notices: {webhook: sms}
notify:
  webhooks:
    sms: {url: 'http://127.0.0.1:9/hook', secret: {env: HOOK_SECRET}}
issuers:
  main: {issuer: https://idp.example/, audience: [https://api.example], keys: {discovery: true}, algorithms: [ES256]}
assurance:
  mfa: {acr: [urn:example:acr:mfa], max_age: 5m}
  phr: {acr: [urn:example:acr:phr], max_age: 5m}
upstreams: {api: {targets: [http://127.0.0.1:9100]}}
routes:
  - {path: /mfa/**, upstream: api, auth: [main], assurance: mfa}
  - {path: /phr/**, upstream: api, auth: [main], assurance: phr}
";

struct Given;

impl Materials for Given {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is no such file".to_owned())
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "SEALING_KEY" => Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            "SECOND_KEY" => Some("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=".to_owned()),
            "HOOK_SECRET" => Some("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            _ => None,
        }
    }
}

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    pub(crate) ceremonies: Mutex<Vec<(Occasion, Outcome, Option<Factor>)>>,
    pub(crate) changes: Mutex<Vec<Change>>,
    /// Of whom it was said that they were forgotten.
    pub(crate) forgotten: Mutex<String>,
}

impl AuthorityObserver for Ear {
    fn ceremony(&self, _: Actor<'_>, factor: Option<Factor>, occasion: Occasion, outcome: Outcome, _: Now) {
        self.ceremonies.lock().unwrap().push((occasion, outcome, factor));
    }

    fn change(&self, actor: Actor<'_>, change: Change, _: Option<Factor>, _: &'static str, _: Now) {
        if change == Change::Forgotten {
            self.forgotten.lock().unwrap().push_str(&format!("{actor:?}"));
        }
        self.changes.lock().unwrap().push(change);
    }
}

/// An authority, and what a test needs of it.
pub(crate) struct Bench {
    pub(crate) state: Arc<State>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) folder: Arc<TempDir>,
    config: Config,
}

/// A configuration's text, loaded.
pub(crate) fn load(yaml: &str) -> Config {
    let env = |name: &str| Given.env(name);
    let input = config::Input { file: Path::new("gateway.yaml"), text: yaml, base: Path::new("."), env: &env };
    match config::load(&input) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{:#?}", problems.list),
    }
}

pub(crate) fn at(secs: u64) -> Now {
    Now { unix_ms: secs * 1000, instant: Instant::now() }
}

pub(crate) fn way(last: u8) -> Way<'static> {
    Way { client: IpAddr::from([192, 0, 2, last]), request_id: "test" }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::of(YAML)
    }

    pub(crate) fn of(yaml: &str) -> Self {
        Self::over(yaml, Arc::new(tempfile::tempdir().unwrap()), None)
    }

    /// One whose store can be broken.
    pub(crate) fn breakable() -> (Self, Breaker) {
        Self::breakable_of(YAML)
    }

    pub(crate) fn breakable_of(yaml: &str) -> (Self, Breaker) {
        let bench = Self::of(yaml);
        let (store, breaker) = Store::breakable_for_tests();
        let Self { authority, ear, folder, config, .. } = bench;
        let made = Arc::into_inner(authority).unwrap();
        let core = made.core.over(store);
        let state = core.state.clone();
        (Self { state, authority: Arc::new(Authority { core, ..made }), ear, folder, config }, breaker)
    }

    /// The same folder, as a start after this one would find it.
    pub(crate) fn again(&self) -> Self {
        Self::over_config(self.config.clone(), self.folder.clone(), None)
    }

    pub(crate) fn over(yaml: &str, folder: Arc<TempDir>, previous: Option<&Self>) -> Self {
        Self::over_config(load(yaml), folder, previous)
    }

    /// Lets what it shares with the one before go on as it says.
    pub(crate) fn put_in_force(&self) {
        self.state.put_in_force();
        self.authority.put_in_force();
    }

    fn over_config(config: Config, folder: Arc<TempDir>, previous: Option<&Self>) -> Self {
        let ear = Arc::new(Ear::default());
        let observer: Arc<dyn AuthorityObserver> = ear.clone();
        let deliveries: Arc<dyn crate::notify::NotifyObserver> = Arc::new(crate::notify::Unobserved);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let roots = crate::client::MachineRoots::nobody();
        let means = StateMeans {
            handle: &Handle::current(),
            clock: &clock,
            state_dir: folder.path(),
            roots: &roots,
            observer: &(Arc::new(state::Unobserved) as _),
            deliveries: &deliveries,
        };
        let state = State::open(&config, &Given, &means, previous.map(|previous| &*previous.state)).unwrap().unwrap();
        let means = AuthorityMeans {
            handle: &Handle::current(),
            clock: &clock,
            state: &state,
            observer: &observer,
            ends: &(Arc::new(super::accounts::NoEnds) as _),
            published: &crate::jose::PublishedKeys::default(),
        };
        let before = previous.map(|previous| &*previous.authority);
        let authority = Authority::compile(&config, &Given, &means, before).unwrap().unwrap();
        Self { state, authority: Arc::new(authority), ear, folder, config }
    }

    pub(crate) fn caller(&self, subject: &str, token: &str) -> Caller {
        self.authority.caller(&principal(subject, token)).unwrap()
    }

    /// Enrols an app by an invitation: its secret, and what came of it.
    pub(crate) async fn enrol_app(&self, caller: &Caller, secs: u64) -> (crate::secret::Secret, Enrolled) {
        let invitation = self.authority.invite(&caller.owner(), "op", None, at(secs)).await.unwrap();
        self.enrol_app_by(caller, Right::Invitation(&invitation.code), secs).await
    }

    pub(crate) async fn enrol_app_by(
        &self,
        caller: &Caller,
        right: Right<'_>,
        secs: u64,
    ) -> (crate::secret::Secret, Enrolled) {
        let wanted = Wanted { factor: Factor::Totp, label: "phone".into(), address: None };
        let begun = self.authority.begin_enrolment(caller, wanted, right, way(1), at(secs)).await.unwrap();
        let secret = from_base32(&begun.secret.unwrap());
        let code = code(&secret, secs);
        let answered = Answered::Code(&code);
        let enrolled = self.authority.finish_enrolment(caller, &begun.id, answered, way(1), at(secs)).await.unwrap();
        (secret, enrolled)
    }

    /// The messages that wait to be delivered.
    pub(crate) async fn messages(&self, kind: &str) -> Vec<Value> {
        let rows = self.authority.store().page::<Value>(Table::Outbox, "", None, 1000, at(START)).await.unwrap();
        let mut messages: Vec<Value> = rows.into_iter().map(|row| row.value["message"].clone()).collect();
        messages.retain(|message| message["kind"] == kind);
        messages
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Value,
        who: Option<&Principal>,
        secs: u64,
    ) -> Got {
        self.call_as(method, path, "application/json", body.to_string(), who, secs).await
    }

    pub(crate) async fn call_as(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: String,
        who: Option<&Principal>,
        secs: u64,
    ) -> Got {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        headers.insert(header::ORIGIN, "https://app.example".parse().unwrap());
        let (body, who) = (Bytes::from(body), who.cloned().map(Arc::new));
        let call = Call {
            method: &method,
            path,
            query,
            authority: "api.example",
            headers: &headers,
            body: &body,
            principal: who.as_ref(),
            client: IpAddr::from([192, 0, 2, 1]),
            confidential: true,
            request_id: "test",
            now: at(secs),
        };
        let Answer { response, reason, refusal } = self.authority.answer(call).await;
        let json = serde_json::from_slice(response.body()).unwrap_or_default();
        Got { status: response.status(), headers: response.headers().clone(), json, reason, refused: refusal.is_some() }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
    pub(crate) reason: Reason,
    pub(crate) refused: bool,
}

/// Whoever this token is of.
pub(crate) fn principal(subject: &str, token: &str) -> Principal {
    Principal {
        issuer: "main".into(),
        issuer_url: "https://idp.example/".into(),
        subject: subject.into(),
        client: Some("app".into()),
        scopes: Box::default(),
        assurance: Assurance::default(),
        expires_at: None,
        leeway_secs: 30.0,
        claims: serde_json::json!({"sub": subject}),
        kind: Kind::Person,
        marks: Marks { fingerprint: Some(GrantBinding::digest(token.as_bytes())), ..Marks::default() },
        binding: None,
        limits: Box::default(),
        told: crate::policy::Told::default(),
    }
}

/// The code of an app at a moment.
pub(crate) fn code(secret: &crate::secret::Secret, secs: u64) -> String {
    totp::code_for_tests(secret, secs)
}

/// The secret that was shown for typing.
pub(crate) fn from_base32(text: &str) -> crate::secret::Secret {
    let value = |c: char| "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).unwrap();
    let bits: Vec<usize> = text.chars().flat_map(|c| (0..5).rev().map(move |bit| value(c) >> bit & 1)).collect();
    let bytes = bits.chunks_exact(8).map(|bits| bits.iter().fold(0_u8, |byte, bit| byte << 1 | *bit as u8));
    crate::secret::Secret::new(bytes.collect::<Vec<_>>())
}
