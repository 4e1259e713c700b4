//! Services for tests: real ones, that keep what reaches them and answer as a test says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Carrier, turn::Pace, upstreams::Upstreams};
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{self, Call, Materials, Source, Span, Terms, UpstreamCredential, UpstreamHost},
    erasure::{
        fault::Fault,
        ledger::{Kept, Ledger, Wanted},
        life::Command,
        means::{Answering, ErasureMeans, ErasureObserver, EvidenceFault, EvidenceLog, OwnData},
        record::{Erasure, Personal, Selector},
        subject::key_of,
        testing,
    },
    notify::{Channels, Outbox},
    store::{
        SealingKeys, Sqlite, Store, StoreFault,
        sqlite::Options,
        testing::{Breaker, at, key, wait},
    },
    telemetry::audit::{Certificate, ErasureRecord, Place, SignedCertificate, Struck},
};

/// How long anything that is expected to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request that reached a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Got {
    pub(crate) line: String,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// A service.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Service {
    /// Answers each request as the function says: with nothing but the end of the connection for an empty text.
    pub(crate) fn start(answer: impl Fn(&Got) -> String + Send + Sync + 'static) -> Self {
        Self::at(0, answer)
    }

    /// The same at a port.
    pub(crate) fn at(port: u16, answer: impl Fn(&Got) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let service = Self { port: listener.local_addr().unwrap().port(), got: Arc::default() };
        let (got, answer) = (service.got.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (got, answer) = (got.clone(), answer.clone());
                std::thread::spawn(move || serve(&stream.unwrap(), &got, &*answer));
            }
        });
        service
    }

    /// Everything that reached it.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until so many requests have reached it.
    pub(crate) async fn until(&self, count: usize) {
        let start = std::time::Instant::now();
        while self.got().len() < count {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {count} requests");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Its upstream.
    pub(crate) fn upstream(&self, name: &str) -> config::Upstream {
        upstream(name, &[self.port])
    }
}

fn serve(stream: &TcpStream, got: &Mutex<Vec<Got>>, answer: &(impl Fn(&Got) -> String + ?Sized)) {
    let (mut reader, mut request) = (BufReader::new(stream), Got::default());
    if reader.read_line(&mut request.line).unwrap_or(0) == 0 {
        return;
    }
    request.line = request.line.trim_end().to_owned();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = request.fields.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    got.lock().unwrap().push(request.clone());
    let _ = (&*stream).write_all(answer(&request).as_bytes());
}

/// An answer with a status and a body.
pub(crate) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An upstream at these ports of this machine.
pub(crate) fn upstream(name: &str, ports: &[u16]) -> config::Upstream {
    config::Upstream {
        span: Span::default(),
        name: name.into(),
        targets: ports
            .iter()
            .map(|port| config::UpstreamTarget {
                address: config::Target { tls: false, host: "127.0.0.1".into(), port: *port },
                weight: 1,
                reach: config::Reach::Host,
            })
            .collect(),
        request_timeout: None,
        balancing: config::Balancing::default(),
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        identity_headers: false,
        forward_authorization: false,
        credential: None,
        assertion: None,
        method_override: Vec::new(),
        form_bytes: 0,
        host: UpstreamHost::Target,
        ca: None,
        protocol: config::UpstreamProtocol::Http1,
        proxy_protocol: None,
        tls: config::UpstreamTls::default(),
    }
}

/// The upstreams of a configuration with nothing else.
pub(crate) fn upstreams(upstreams: Vec<config::Upstream>) -> Upstreams {
    Upstreams::of(&upstreams.into_iter().map(Arc::new).collect::<Vec<_>>(), &Nothing, &roots()).unwrap()
}

/// No roots.
pub(crate) fn roots() -> crate::client::MachineRoots {
    crate::client::MachineRoots::nobody()
}

/// A header as a credential.
pub(crate) fn credential(name: &'static str, value: &str) -> Option<UpstreamCredential> {
    let value = Source::Inline { span: Span::default(), value: crate::secret::Secret::new(value) };
    Some(UpstreamCredential::Header { name: http::HeaderName::from_static(name), value })
}

/// No material.
pub(crate) struct Nothing;

impl Materials for Nothing {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is none".to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// A call: `DELETE /accounts/{subject}`.
pub(crate) fn call(name: &str, upstream: &str, request: &str) -> Call {
    let (method, target) = request.split_once(' ').unwrap();
    Call {
        name: name.into(),
        upstream: upstream.into(),
        method: method.into(),
        target: target.into(),
        headers: Vec::new(),
        body: None,
        capture: BTreeMap::new(),
        timeout_secs: 5,
    }
}

/// Whoever's own data makes the gateway panic.
pub(crate) const PANICS: &str = "panic";

/// The machine's time, and what a test lets pass besides.
#[derive(Default)]
pub(crate) struct PassingClock(Mutex<Duration>);

impl PassingClock {
    pub(crate) fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for PassingClock {
    fn now(&self) -> Now {
        SystemClock.now().after(*self.0.lock().unwrap())
    }
}

/// What deletions leave behind here.
#[derive(Default)]
struct Left {
    records: Mutex<Vec<(Arc<str>, u32, &'static str)>>,
    struck: Mutex<usize>,
    fails: AtomicBool,
    /// How often it did.
    failed: std::sync::atomic::AtomicUsize,
    forgotten: Mutex<Vec<String>>,
    panics: Arc<AtomicBool>,
}

impl EvidenceLog for Left {
    fn record(&self, record: ErasureRecord) -> Answering<'_, Result<Place, EvidenceFault>> {
        Box::pin(async move {
            if self.fails.load(Ordering::SeqCst) {
                self.failed.fetch_add(1, Ordering::SeqCst);
                return Err(EvidenceFault::Unavailable("a test".to_owned()));
            }
            let mut records = self.records.lock().unwrap();
            records.push((record.id, record.number, record.event));
            Ok(Place { seq: records.len() as u64, hash: "h".into() })
        })
    }

    fn certify(&self, _: Certificate) -> Result<SignedCertificate, EvidenceFault> {
        Err(EvidenceFault::Unavailable("nobody asks for one here".to_owned()))
    }

    fn strike(&self, whose: Vec<Struck>) -> Answering<'_, Result<(), EvidenceFault>> {
        *self.struck.lock().unwrap() += whose.len();
        Box::pin(async { Ok(()) })
    }
}

impl OwnData for Left {
    fn forget<'a>(&'a self, _: &'a str, subject: &'a str, _: Now) -> Answering<'a, Result<(), StoreFault>> {
        assert!(subject != PANICS || !self.panics.load(Ordering::SeqCst), "a test wants it");
        self.forgotten.lock().unwrap().push(subject.to_owned());
        Box::pin(async { Ok(()) })
    }
}

/// A carrier with all that it needs: a real store, and services.
pub(crate) struct Bench {
    pub(crate) clock: Arc<PassingClock>,
    pub(crate) carrier: Arc<Carrier>,
    pub(crate) breaker: Breaker,
    /// Whether the own data of [`PANICS`] makes a panic.
    pub(crate) panics: Arc<AtomicBool>,
    store: Arc<Store>,
    left: Arc<Left>,
    folder: Option<Arc<tempfile::TempDir>>,
    running: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.running.get_mut().unwrap().iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Bench {
    pub(crate) fn new(services: Vec<config::Upstream>) -> Self {
        let (store, breaker) = Store::breakable_for_tests();
        Self::over(Arc::new(store), breaker, Arc::default(), Arc::default(), None, services)
    }

    /// With a file that can grow to this size alone.
    pub(crate) fn of_size(services: Vec<config::Upstream>, max_bytes: u64) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let store = sized(&folder, max_bytes);
        Self::over(store, Breaker::default(), Arc::default(), Arc::default(), Some(folder), services)
    }

    /// The same file, as after another start, with another size.
    pub(crate) fn reopened(&self, max_bytes: u64) -> Self {
        self.running.lock().unwrap().drain(..).for_each(|task| task.abort());
        let folder = self.folder.clone().unwrap();
        let store = sized(&folder, max_bytes);
        let (clock, left) = (self.clock.clone(), self.left.clone());
        let other = Self::over(store, Breaker::default(), clock, left, Some(folder), Vec::new());
        other.carrier.calls.replace(self.carrier.calls.upstreams());
        wait(other.carrier.ledger.load(other.now())).unwrap();
        other
    }

    fn over(
        store: Arc<Store>,
        breaker: Breaker,
        clock: Arc<PassingClock>,
        left: Arc<Left>,
        folder: Option<Arc<tempfile::TempDir>>,
        services: Vec<config::Upstream>,
    ) -> Self {
        let carrier = carrier(&store, &clock, &left);
        carrier.calls.replace(Arc::new(upstreams(services)));
        left.panics.store(true, Ordering::SeqCst);
        let panics = left.panics.clone();
        Self { clock, carrier, breaker, panics, store, left, folder, running: Mutex::default() }
    }

    /// With shorter leases.
    pub(crate) fn with_pace(mut self, lease_secs: u64, renew: Duration) -> Self {
        Arc::get_mut(&mut self.carrier).unwrap().pace = Pace { lease_secs, renew };
        self
    }

    /// Another process over the same store.
    pub(crate) fn another(&self) -> Arc<Carrier> {
        let other = carrier(&self.store, &self.clock, &self.left);
        other.calls.replace(self.carrier.calls.upstreams());
        wait(other.ledger.load(self.now())).unwrap();
        other
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn now_secs(&self) -> u64 {
        self.now().unix_secs()
    }

    /// Carries out from now on.
    pub(crate) fn run(&self) {
        self.running.lock().unwrap().push(tokio::spawn(self.carrier.clone().run()));
    }

    pub(crate) fn wake(&self) {
        self.carrier.ledger.kept.wake.notify_one();
    }

    pub(crate) fn replace(&self, services: Vec<config::Upstream>) {
        self.carrier.calls.replace(Arc::new(upstreams(services)));
    }

    pub(crate) async fn ask(&self, subject: &str, terms: &Terms) -> Box<str> {
        self.try_ask(subject, terms).await.unwrap()
    }

    pub(crate) async fn try_ask(&self, subject: &str, terms: &Terms) -> Result<Box<str>, Fault> {
        let mut erasure = testing::erasure(terms, false, 0).erasure;
        (erasure.events, erasure.holds) = (Vec::new(), Vec::new());
        let key = key_of(&self.store, testing::ISSUER, &Selector::Subject, subject);
        // As good as random, and the same each time.
        erasure.id = key.get(..32).unwrap().into();
        erasure.whose.key = key.into();
        erasure.personal = Some(Personal {
            subject: subject.into(),
            values: BTreeMap::new(),
            token_subject: Some(subject.into()),
            under: None,
        });
        let wanted = Wanted { erasure, terms: Arc::new(terms.clone()) };
        Ok(self.carrier.ledger.ask(wanted, self.now()).await?.known.erasure.id)
    }

    pub(crate) async fn change(&self, id: &str, command: Command) {
        self.carrier.ledger.change(id, command, self.now()).await.unwrap();
    }

    pub(crate) async fn get(&self, id: &str) -> Erasure {
        self.carrier.ledger.get(id, self.now()).await.unwrap().unwrap().erasure
    }

    /// Waits until a deletion is so.
    pub(crate) async fn until(&self, id: &str, is_so: impl Fn(&Erasure) -> bool) -> Erasure {
        let start = std::time::Instant::now();
        loop {
            let erasure = self.get(id).await;
            if is_so(&erasure) {
                return erasure;
            }
            let (state, steps, probes) = (erasure.state, &erasure.steps, &erasure.probes);
            assert!(start.elapsed() < PATIENCE, "waited in vain: {state:?} {steps:?} {probes:?} {:?}", erasure.events);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets time pass in which nothing is to happen: whether it does is what is tested.
    pub(crate) async fn quiet(&self) {
        tokio::time::sleep(Duration::from_millis(400)).await;
    }

    /// Waits until evidence could not be written.
    pub(crate) async fn until_evidence_failed(&self) {
        let start = std::time::Instant::now();
        while self.left.failed.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < PATIENCE, "waited in vain");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn evidence_fails(&self, fails: bool) {
        self.left.fails.store(fails, Ordering::SeqCst);
    }

    /// What was recorded, each event once, in the order of the records.
    pub(crate) fn evidence(&self) -> Vec<&'static str> {
        let mut seen = std::collections::HashSet::new();
        let records = self.left.records.lock().unwrap();
        records
            .iter()
            .filter(|(id, number, _)| seen.insert((id.clone(), *number)))
            .map(|(_, _, event)| *event)
            .collect()
    }

    pub(crate) fn struck(&self) -> usize {
        *self.left.struck.lock().unwrap()
    }

    pub(crate) fn forgotten(&self) -> Vec<String> {
        self.left.forgotten.lock().unwrap().clone()
    }
}

fn sized(folder: &tempfile::TempDir, max_bytes: u64) -> Arc<Store> {
    let options = Options { max_bytes, ..Options::default() };
    let engine = Sqlite::open_with(&folder.path().join("stepgate.db"), options).unwrap();
    let keys = SealingKeys::new(key(1), vec![]);
    Arc::new(wait(Store::open(Arc::new(engine), keys, at(0))).unwrap())
}

fn carrier(store: &Arc<Store>, clock: &Arc<PassingClock>, left: &Arc<Left>) -> Arc<Carrier> {
    let clock: Arc<dyn Clock> = clock.clone();
    let outbox = Outbox::new(store.clone(), Channels::default(), clock.clone(), Arc::new(crate::notify::Unobserved));
    let observer: Arc<dyn ErasureObserver> = Arc::new(crate::erasure::Unobserved);
    let handle = tokio::runtime::Handle::current();
    let ledger = Arc::new(Ledger {
        store: store.clone(),
        outbox: outbox.clone(),
        observer: observer.clone(),
        kept: Arc::new(Kept::default()),
        handle: handle.clone(),
    });
    let (evidence, own_data): (Arc<dyn EvidenceLog>, Arc<dyn OwnData>) = (left.clone(), left.clone());
    let means = ErasureMeans {
        handle: &handle,
        clock: &clock,
        store,
        outbox: &outbox,
        roots: &roots(),
        observer: &observer,
        evidence: &evidence,
        own_data: &own_data,
    };
    Arc::new(Carrier::new(&ledger, &means).unwrap())
}
