//! `stepgate run`: starts everything in order. How it lives and ends: [`super::life`].

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use thiserror::Error;

use super::{
    Exit,
    check::material_problems,
    complain,
    life::{Retired, Signals},
    load::{self, LoadFault},
    observers::EdgeMetrics,
    reload::{Control, Reloader, Seen},
    systemd,
};
use crate::{
    acme,
    clock::{Clock, SystemClock},
    config::{Loaded, Materials, Severity},
    gateway::Gateway,
    identity::revocation::{RevocationFault, Revocations},
    limit::{connections_within_open_files, raise_open_files},
    runtime::{DiskMaterials, Live, Services, Snapshot, WeakLive, WorkerObserver},
    server::{
        AdminServer, HandOverDoor, HandOverFault, Inherited, LockError, Predecessor, Server, ServerError, ServerPlan,
        StateLock, make_self_signed,
    },
    telemetry::{
        EventFormat, Metrics,
        audit::{AuditFault, AuditFiles, AuditLog},
        init_tracing,
        metrics::MetricsFault,
    },
};

/// How often idle connections, used-up quotas and expired revocations are looked through.
const SWEEP_PERIOD: Duration = Duration::from_secs(10);
/// How often memory that is free goes back to the system.
const GIVE_BACK_PERIOD: Duration = Duration::from_millis(250);
/// A block that no part of the allocator's keeps for the next one: it is asked from what the whole process has, and goes back there.
const GIVE_BACK_BYTES: usize = 2 << 20;

/// Why a gateway does not start.
#[derive(Debug, Error)]
pub(crate) enum StartFault {
    /// The configuration is refused; what is wrong has been printed.
    #[error("the configuration is refused")]
    Config,
    /// Metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsFault),
    /// Another process has the state directory, or it cannot be made.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The audit trail cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditFault),
    /// The list of revocations cannot be read whole, so what it would keep out is not known.
    #[error(transparent)]
    Revocations(#[from] RevocationFault),
    /// Nothing can be taken over from the process that runs.
    #[error("taking over")]
    HandOver(#[from] HandOverFault),
    /// A listener cannot be opened.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A certificate of our own making cannot be written.
    #[error("making a self-signed certificate")]
    SelfSigned(#[source] std::io::Error),
    /// The demo's issuer cannot be made.
    #[error("starting the demo")]
    Demo(#[source] std::io::Error),
    /// A worker panicked outside of any request.
    #[error("a worker has failed; the rest was drained")]
    Worker,
    /// The runtime or its signals cannot be set up.
    #[error("starting the service runtime")]
    Runtime(#[source] std::io::Error),
}

impl StartFault {
    /// The exit code that it ends with.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Config | Self::Server(ServerError::Tls { .. }) => Exit::Config,
            Self::Worker => Exit::Software,
            Self::Lock(LockError::Held { .. }) | Self::Server(_) | Self::HandOver(_) => Exit::Unavailable,
            Self::Metrics(_)
            | Self::Lock(LockError::Io { .. })
            | Self::Audit(_)
            | Self::Revocations(_)
            | Self::SelfSigned(_)
            | Self::Demo(_)
            | Self::Runtime(_) => Exit::Io,
        }
    }
}

/// How a gateway comes to its sockets and its state folder.
#[derive(Default)]
pub(crate) struct Origin {
    /// Sockets that are open already.
    pub(crate) inherited: Inherited,
    /// The process that has them now, and the state folder.
    pub(crate) before: Option<Predecessor>,
    /// Metrics that go on.
    pub(super) metrics: Option<Arc<Metrics>>,
}

/// Runs the gateway of a configuration file until it is told to stop; `take_over`: in the place of the one that runs.
pub(crate) fn run(file: &Path, take_over: bool) -> Exit {
    // Before there are threads: what systemd says is in the environment, and taken out of it.
    let inherited = Inherited::from_environment();
    // Last to be dropped, so that the last words are written, too.
    let _events = init_tracing(EventFormat::Json).inspect_err(|fault| complain(fault));
    let seen = Seen::look(file.to_owned());
    let loaded = match load::load(file, &DiskMaterials) {
        Ok(loaded) => loaded,
        Err(fault) => {
            load::print_fault(&fault);
            return match fault {
                LoadFault::Unreadable(..) | LoadFault::Refused(_) => Exit::Config,
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            complain(&StartFault::Runtime(source));
            return Exit::Io;
        }
    };
    let end = runtime.block_on(async {
        let (before, sockets) = match take_over {
            true => {
                Predecessor::ask(&loaded.config.server.state_dir).map(|(before, sockets)| (Some(before), sockets))?
            }
            false => (None, Vec::new()),
        };
        let origin = Origin { inherited: inherited.with(sockets), before, ..Origin::default() };
        let running = Running::start((file, seen), loaded, Arc::new(DiskMaterials), origin)?;
        running.until_told_to_stop().await
    });
    // Not dropped: that would wait for a resolver that does not answer, and the drain has its deadline.
    runtime.shutdown_background();
    match end {
        Ok(()) => Exit::Success,
        Err(fault) => {
            if !matches!(fault, StartFault::Config) {
                complain(&fault);
            }
            fault.exit()
        }
    }
}

/// A gateway that runs.
pub(crate) struct Running {
    pub(super) signals: Signals,
    pub(super) services: Arc<Services>,
    pub(super) reloader: Reloader,
    pub(super) admin: AdminServer,
    /// There until another process may have it.
    pub(super) lock: Option<StateLock>,
    /// Where the next process asks; `None` where there can be no such place.
    pub(super) door: Option<HandOverDoor>,
    pub(super) file: PathBuf,
    pub(super) materials: Arc<dyn Materials + Send + Sync>,
    /// Connections of those that were in this process before, which end beside it.
    pub(super) retired: Vec<Retired>,
}

impl Running {
    /// Starts a gateway on the current runtime: all of it, or nothing. The file was looked at before it was loaded.
    pub(crate) fn start(
        (file, seen): (&Path, Seen),
        loaded: Loaded,
        materials: Arc<dyn Materials + Send + Sync>,
        origin: Origin,
    ) -> Result<Self, StartFault> {
        let Origin { inherited, mut before, metrics } = origin;
        let inherited = Arc::new(inherited);
        // First of all: until then a SIGHUP would end the process, and a SIGTERM end it without a drain.
        let signals = Signals::listen().map_err(StartFault::Runtime)?;
        let seen = seen.with_secrets(&loaded.config);
        let handle = tokio::runtime::Handle::current();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = match metrics {
            Some(metrics) => metrics,
            None => Arc::new(Metrics::new()?),
        };
        // Before anything is opened or written: a configuration with a problem changes nothing.
        let found = material_problems(&loaded, &*materials);
        if found.iter().any(|problem| problem.severity == Severity::Error) {
            load::print_problems(&loaded.report(found));
            return Err(StartFault::Config);
        }
        let admin_token = admin_token(&loaded, &*materials)?;
        let config = &loaded.config;
        let state_dir = &config.server.state_dir;
        let lock = if before.is_none() { Some(StateLock::acquire(state_dir)?) } else { None };
        make_self_signed(config).map_err(StartFault::SelfSigned)?;
        let observer = Arc::new(EdgeMetrics::new(metrics.clone()));
        raise_open_files();
        let plan = ServerPlan::new(config);
        let prepared = Server::bind(&plan, &inherited, &*observer)?;
        let admin = AdminServer::bind(config.admin.address, &plan.limits, &inherited, &*observer)?;
        // All that can fail without the lock has not.
        let lock = match &mut before {
            Some(before) => {
                before.ready(config.server.handover_timeout)?;
                StateLock::acquire(state_dir)?
            }
            None => lock.map_or_else(|| StateLock::acquire(state_dir), Ok)?,
        };
        let audit = AuditLog::open(
            &AuditFiles {
                file: config.audit.file.path.clone(),
                key: state_dir.join("audit.key"),
                head_interval: config.audit.head_interval,
            },
            clock.clone(),
            metrics.audit(),
        )?;
        let revocations = Arc::new(Revocations::open(&config.server.state_dir, clock.now())?);
        let services = Services::new(clock, metrics.clone(), Arc::new(audit), revocations, handle.clone());
        let snapshot = Snapshot::compile(config.clone(), &*materials, &services.means(), None).map_err(|found| {
            load::print_problems(&loaded.report(found));
            StartFault::Config
        })?;
        let acme = acme::prepare(config.acme.as_ref(), &*materials, &services.issuers.roots).map_err(|found| {
            load::print_problems(&loaded.report(found));
            StartFault::Config
        })?;
        for warning in loaded.warnings.iter().chain(&found) {
            tracing::warn!(line = warning.span.line, key = &*warning.span.key, "{}", warning.message);
        }
        let (connections, wanted) = (connections_within_open_files(plan.limits.connections), plan.limits.connections);
        if connections < wanted {
            tracing::warn!(
                connections,
                wanted,
                "the limit on open files leaves room for fewer connections than configured"
            );
        }
        let live = Live::new(snapshot);
        let door = HandOverDoor::open(state_dir)
            .inspect_err(|error| tracing::warn!(%error, "no other process can take over from this one"))
            .ok();
        let factory = worker_factory(&services, &live);
        let server = Arc::new(Server::start_prepared(prepared, &inherited, factory, observer.clone())?);
        let acme = super::acme::start(&handle, acme, &server, &services);
        handle.spawn(server.watch_certificates());
        handle.spawn(sweep(live.downgrade(), Arc::downgrade(&services)));
        handle.spawn(give_back(live.downgrade()));
        let control = Control::new(services.clone(), live.clone());
        let (file, parts) = (file.to_owned(), (server.clone(), acme));
        // Before anybody can ask for the metrics: it puts all that is configured in.
        let reloader =
            Reloader::new(file.clone(), materials.clone(), services.clone(), live, parts, control.clone(), seen);
        let admin = AdminServer::start(admin, admin_token, control, observer, &inherited)?;
        server.adopt();
        if let Some(before) = before {
            // Should it be gone, it serves no more, which is what it was to be told for.
            let _ = before.serving(&inherited.taken());
        }
        for (listener, address) in reloader.listeners() {
            tracing::info!(listener = &*listener, address = %address, "listening");
        }
        let listening: Vec<String> = reloader.listeners().iter().map(|(_, address)| address.to_string()).collect();
        systemd::ready(&listening.join(", "));
        let version = env!("CARGO_PKG_VERSION");
        let admin_address = admin.local_address().map(tracing::field::display);
        tracing::info!(version, workers = plan.workers, admin = admin_address, "stepgate is ready");
        Ok(Self { signals, services, reloader, admin, lock: Some(lock), door, file, materials, retired: Vec::new() })
    }
}

fn admin_token(loaded: &Loaded, materials: &dyn Materials) -> Result<Option<crate::secret::Secret>, StartFault> {
    let token = loaded.config.admin.token.as_ref().map(|source| materials.secret(source)).transpose();
    token.map_err(|problem| {
        load::print_problems(&loaded.report(vec![problem]));
        StartFault::Config
    })
}

/// Makes one gateway for each worker, in the worker's own runtime.
fn worker_factory(services: &Arc<Services>, live: &Live) -> impl Fn(usize) -> Rc<Gateway> + Send + Sync + use<> {
    let (services, live) = (services.clone(), live.clone());
    move |worker| {
        let observer = WorkerObserver(services.metrics.clone());
        let gateway = Rc::new(Gateway::new(services.clone(), &live, observer));
        tokio::task::spawn_local(gateway.watch_pressure(worker));
        let weak = Rc::downgrade(&gateway);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP_PERIOD).await;
                let Some(gateway) = weak.upgrade() else { return };
                gateway.sweep();
            }
        });
        gateway
    }
}

/// Ends with the gateway: one that was started in the place of another one in this process has a sweep of its own.
async fn sweep(live: WeakLive, services: Weak<Services>) {
    loop {
        tokio::time::sleep(SWEEP_PERIOD).await;
        let (Some(snapshot), Some(services)) = (live.load(), services.upgrade()) else { return };
        let now = services.clock.now();
        // Millions of keys take a while; the runtime of background work has other things to do.
        let sweep = move || {
            snapshot.limiter.sweep(now.instant);
            snapshot.authenticator.sweep(now);
            services.revocations.sweep(now);
        };
        let _ = tokio::task::spawn_blocking(sweep).await;
    }
}

/// Has the allocator give free memory back. It looks for what it may give back when pages of its own come and go, and not by the clock, so
/// that a gateway which has become idle would keep most of what its last burst took. The block is not written to, so it is no memory.
/// Ends with the gateway.
async fn give_back(live: WeakLive) {
    while live.load().is_some() {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(GIVE_BACK_BYTES)));
        tokio::time::sleep(GIVE_BACK_PERIOD).await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::{
        fs,
        path::PathBuf,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::*;

    /// Files of which one changes as soon as it was read.
    #[derive(Default)]
    struct Restless {
        file: PathBuf,
        moves: AtomicBool,
        /// What was read of it.
        read: Mutex<Vec<Vec<u8>>>,
    }

    impl Restless {
        fn is_up_to_date(&self) -> bool {
            self.read.lock().unwrap().last() == Some(&fs::read(&self.file).unwrap())
        }
    }

    impl Materials for Restless {
        fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
            let bytes = DiskMaterials.read_file(path)?;
            if path == self.file {
                let mut read = self.read.lock().unwrap();
                read.push(bytes.clone());
                if self.moves.load(Ordering::Relaxed) {
                    fs::write(path, format!("a token of the tests, {}", read.len())).unwrap();
                }
            }
            Ok(bytes)
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }

    #[tokio::test]
    async fn what_changes_while_it_is_loaded_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("gateway.yaml"), folder.path().join("admin.token"));
        let text = "listeners: [{address: 127.0.0.1:0, cleartext: true}]
admin: {address: 127.0.0.1:0, token: {file: admin.token}}
upstreams: {api: {targets: [http://127.0.0.1:9]}}
routes: [{path: /**, upstream: api, auth: none}]
access_log: off
";
        fs::write(&file, text).unwrap();
        fs::write(&token, "a token of the tests").unwrap();
        let materials = Arc::new(Restless { file: token, moves: AtomicBool::new(true), ..Restless::default() });
        let seen = Seen::look(file.clone());
        let loaded = load::load(&file, &*materials).unwrap();
        let Running { mut reloader, admin, .. } =
            Running::start((&file, seen), loaded, materials.clone(), Origin::default()).unwrap();
        materials.moves.store(false, Ordering::Relaxed);
        assert!(!materials.is_up_to_date());
        reloader.reload_if_changed(&admin);
        assert!(materials.is_up_to_date(), "what changed during the start");
        materials.moves.store(true, Ordering::Relaxed);
        reloader.reload(&admin);
        materials.moves.store(false, Ordering::Relaxed);
        assert!(!materials.is_up_to_date());
        reloader.reload_if_changed(&admin);
        assert!(materials.is_up_to_date(), "what changed during a reload");
        let reads = materials.read.lock().unwrap().len();
        reloader.reload_if_changed(&admin);
        assert_eq!(materials.read.lock().unwrap().len(), reads, "and no more than that");
    }
}
