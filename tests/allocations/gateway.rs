//! The gateway within this process, put together from the parts that `stepgate run` takes, with one worker whose allocations are
//! counted by its own thread: what the client, the service behind and the background do is not in the figures.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use alloc_tracker::Session;
use stepgate::{
    clock::{Clock, SystemClock},
    config::{self, Input},
    gateway::Gateway,
    identity::revocation::Revocations,
    runtime::{DiskMaterials, Live, Services, Snapshot, WorkerObserver},
    server::{Server, ServerPlan},
    telemetry::{
        Metrics,
        audit::{AuditFiles, AuditLog},
    },
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::yield_now,
};

/// How often the worker's other tasks get their turn before a count begins or ends: what the last answer left to do is done by then.
const TURNS: usize = 64;

/// What a stretch of requests allocated on the worker's thread. A block that grows counts as a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allocated {
    pub blocks: u64,
    pub bytes: u64,
}

/// The worker is asked to begin and to end by turns, and says when it has.
type Turn = oneshot::Sender<Allocated>;

/// A gateway that runs.
pub struct Running {
    turns: mpsc::UnboundedSender<Turn>,
    address: SocketAddr,
    server: Option<Server>,
    /// Of the background, which none of the cases needs.
    _runtime: Runtime,
}

impl Running {
    /// Starts one on a configuration, in a folder of its own.
    pub fn start(folder: &Path, yaml: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let env = |_: &str| None;
        let input = Input { file: &folder.join("gateway.yaml"), text: yaml, base: folder, env: &env };
        let config = config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new().unwrap());
        let files = AuditFiles {
            file: folder.join("audit.jsonl"),
            key: folder.join("audit.key"),
            head_interval: config.audit.head_interval,
        };
        let audit = Arc::new(AuditLog::open(&files, clock.clone(), metrics.audit()).unwrap());
        let revocations = Arc::new(Revocations::open(folder, clock.now()).unwrap());
        let services = Services::new(clock, metrics, audit, revocations, runtime.handle().clone());
        let plan = ServerPlan::new(&config);
        let snapshot = Snapshot::compile(config, &DiskMaterials, &services.means(), None).unwrap();
        let (turns, asked) = mpsc::unbounded_channel();
        let server = Server::start(&plan, factory(services, Live::new(snapshot), asked), Arc::new(())).unwrap();
        let port = server.local_addresses()[0].socket().unwrap().port();
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Self { turns, address, server: Some(server), _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the worker allocates while `work` goes on.
    pub fn count(&self, work: impl FnOnce()) -> Allocated {
        self.turn();
        work();
        self.turn()
    }

    fn turn(&self) -> Allocated {
        let (turn, done) = oneshot::channel();
        self.turns.send(turn).unwrap();
        done.blocking_recv().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.drain(std::time::Instant::now()).wait();
        }
    }
}

/// Makes the worker's gateway, and beside it the task that counts. What watches for overload is left out: on a busy machine it may
/// find some, and refuse what is to be counted.
fn factory(
    services: Arc<Services>,
    live: Live,
    turns: mpsc::UnboundedReceiver<Turn>,
) -> impl Fn(usize) -> Rc<Gateway> + Send + Sync {
    let turns = std::sync::Mutex::new(Some(turns));
    move |_| {
        let turns = turns.lock().unwrap().take().expect("one worker");
        tokio::task::spawn_local(count(turns));
        Rc::new(Gateway::new(services.clone(), &live, WorkerObserver(services.metrics.clone())))
    }
}

async fn count(mut turns: mpsc::UnboundedReceiver<Turn>) {
    loop {
        let session = Session::new();
        let operation = session.operation("requests");
        let Some(begin) = turns.recv().await else { return };
        rest().await;
        let span = operation.measure_thread();
        let _ = begin.send(Allocated { blocks: 0, bytes: 0 });
        let Some(end) = turns.recv().await else { return };
        rest().await;
        drop(span);
        let report = session.to_report();
        let (_, counted) = report.operations().next().expect("one operation");
        let _ =
            end.send(Allocated { blocks: counted.total_allocations_count(), bytes: counted.total_bytes_allocated() });
    }
}

async fn rest() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}
