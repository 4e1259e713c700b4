//! Sockets in, sockets out: listeners, TLS, workers, limits, drain and reload. What a request means is not known here;
//! that is the [`crate::body::Serve`] that each worker drives.
//!
//! ```text
//!   Server::start ── binds, loads TLS, starts a thread for each worker
//!        │              worker: accept ─ TLS ─ HTTP ─ Serve        (one thread, its own sockets, its own connections)
//!        ├─ prepare ─ binds and loads for a new plan; a fault changes nothing
//!        ├─ apply ─── every worker takes the new listeners and limits; connections stay
//!        └─ drain ─── stops accepting, finishes, cuts at the deadline
//! ```

mod accept;
mod admin;
mod admission;
mod bind;
mod certificates;
mod check;
mod client_stream;
mod connection;
mod date;
mod frames;
mod hand_over;
mod http2;
mod http3;
mod inherited;
mod lock;
mod observer;
mod operators;
mod plan;
mod proxy_header;
mod redirect;
mod self_signed;
mod settings;
mod socket;
mod switched;
#[cfg(test)]
mod tests;
mod tickets;
mod tls;
mod wire;
mod worker;

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::LocalOptions,
    sync::{Notify, mpsc, oneshot},
};

pub use admin::{AdminAnswer, AdminApi, AdminServer};
pub use check::check_tls;
pub use hand_over::{CallOff, HandOverDoor, HandOverFault, Predecessor, Visitor};
pub use http3::{http3_frames, http3_head, http3_section, http3_trailers};
pub use inherited::{HandedSocket, Inherited, SocketKind, SocketName};
pub use lock::{LockError, StateLock};
pub use observer::{EdgeObserver, Handshake, Refused};
pub use operators::{AdminFrame, AdminVisit};
pub use plan::{ListenerPlan, PlanMode, ServerPlan};
pub use proxy_header::{ProxyHeader, ProxyHeaderFault, missing as proxy_header_missing, parse as parse_proxy_header};
pub use self_signed::make_self_signed;
pub use tls::TlsError;

use self::{
    admission::Admission,
    bind::{Listener, SocketFile},
    http3::UdpPort,
    tls::ListenerTlsState,
    worker::{Http3Order, ListenerKey, ListenerOrder, Order},
};
use crate::{acme::Challenges, body::Serve, config::ListenerAddress, limit::connections_within_open_files};

/// The server of clients, as its threads and its sockets are named.
const CLIENTS: &str = "worker";

/// How often certificate files are looked at.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(2);

/// How long after its deadline a drain believes that a worker will still end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Why a server cannot be started, or cannot take a new plan.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A listener's address cannot be bound.
    #[error("{key}: listening on {address}")]
    Bind {
        /// The key in the configuration.
        key: String,
        /// The address.
        address: ListenerAddress,
        /// What the system says.
        source: io::Error,
    },
    /// A listener's TLS cannot be set up.
    #[error("{key}: TLS on {address}")]
    Tls {
        /// The key in the configuration.
        key: String,
        /// The address.
        address: ListenerAddress,
        /// What is wrong.
        source: Box<TlsError>,
    },
    /// A worker's thread cannot be started.
    #[error("starting a worker")]
    Worker(#[source] io::Error),
}

/// A listener that is in force, or is about to be.
struct Active {
    key: ListenerKey,
    plan: ListenerPlan,
    local: ListenerAddress,
    tls: Option<Arc<ListenerTlsState>>,
    /// Removes the file of a Unix socket when the listener is no more.
    file: Option<Arc<SocketFile>>,
    /// The sockets once more, for who takes over.
    kept: Arc<[Listener]>,
}

/// A plan whose sockets are bound and whose certificates are loaded; nothing has changed yet.
pub struct Prepared {
    plan: ServerPlan,
    active: Vec<Active>,
    /// For each new listener, the sockets of each worker.
    sockets: HashMap<ListenerKey, Vec<Vec<Listener>>>,
    /// The same for those that serve HTTP/3 from now on.
    datagrams: HashMap<ListenerKey, UdpPort>,
}

struct Thread {
    orders: mpsc::UnboundedSender<Order>,
    ended: oneshot::Receiver<()>,
    handle: JoinHandle<()>,
    /// Grows for as long as the worker does its work.
    beat: Arc<AtomicU64>,
}

/// Listens and serves until it is drained.
pub struct Server {
    name: &'static str,
    threads: Vec<Thread>,
    admission: Arc<Admission>,
    observer: Arc<dyn EdgeObserver>,
    active: Arc<Mutex<Vec<Active>>>,
    challenges: Arc<Challenges>,
    failed: Arc<Notify>,
    inherited: Arc<Inherited>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name).field("workers", &self.threads.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the plan's listeners, loads their certificates, and starts a thread for each worker. Each makes its own
    /// service by `factory`, which is given the worker's number and runs in the worker's runtime.
    ///
    /// # Errors
    /// When a listener cannot be bound, or its TLS not be set up; then nothing listens.
    pub fn start<S, F>(plan: &ServerPlan, factory: F, observer: Arc<dyn EdgeObserver>) -> Result<Self, ServerError>
    where
        S: Serve,
        F: Fn(usize) -> Rc<S> + Send + Sync + 'static,
    {
        let inherited = Arc::default();
        Self::start_prepared(Self::bind(plan, &inherited, &*observer)?, &inherited, factory, observer)
    }

    /// Binds the plan's listeners, but those that somebody else has opened, and loads their certificates.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn bind(
        plan: &ServerPlan,
        inherited: &Inherited,
        observer: &dyn EdgeObserver,
    ) -> Result<Prepared, ServerError> {
        prepare((CLIENTS, inherited), plan, plan.workers, &[], observer)
    }

    /// Starts a thread for each worker, over what was prepared.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start_prepared<S, F>(
        prepared: Prepared,
        inherited: &Arc<Inherited>,
        factory: F,
        observer: Arc<dyn EdgeObserver>,
    ) -> Result<Self, ServerError>
    where
        S: Serve,
        F: Fn(usize) -> Rc<S> + Send + Sync + 'static,
    {
        Self::start_named(CLIENTS, prepared, inherited, factory, observer)
    }

    fn start_named<S, F>(
        name: &'static str,
        prepared: Prepared,
        inherited: &Arc<Inherited>,
        factory: F,
        observer: Arc<dyn EdgeObserver>,
    ) -> Result<Self, ServerError>
    where
        S: Serve,
        F: Fn(usize) -> Rc<S> + Send + Sync + 'static,
    {
        let plan = &prepared.plan;
        let admission =
            Admission::new(connections_within_open_files(plan.limits.connections), plan.limits.connections_per_ip);
        let factory = Arc::new(factory);
        let challenges = Arc::<Challenges>::default();
        let failed = Arc::new(Notify::new());
        let threads = (0..plan.workers).map(|index| {
            let (factory, observer) = (Arc::clone(&factory), Arc::clone(&observer));
            let shared = (Arc::clone(&admission), Arc::clone(&challenges));
            start_thread(&format!("{name}-{index}"), observer, shared, Arc::clone(&failed), move || factory(index))
        });
        let threads = threads.collect::<io::Result<Vec<_>>>().map_err(ServerError::Worker)?;
        let server = Self {
            name,
            threads,
            admission,
            observer,
            active: Arc::default(),
            challenges,
            failed,
            inherited: Arc::clone(inherited),
        };
        server.apply(prepared);
        Ok(server)
    }

    /// The challenges that the listeners show to certificate authorities.
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
    }

    /// Notified when a worker has lost a part that it cannot do without, which is a fault of the program: it serves
    /// fewer clients than it seems to, or without their limits. What is left should be drained, and started anew.
    pub fn failed(&self) -> Arc<Notify> {
        Arc::clone(&self.failed)
    }

    /// The addresses that are really listened on, in the order of the plan.
    pub fn local_addresses(&self) -> Vec<ListenerAddress> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|active| active.local.clone()).collect()
    }

    /// Binds and loads what is new in `plan`. The number of workers stays what it was at the start.
    ///
    /// # Errors
    /// As [`Server::start`]; then nothing has changed.
    pub fn prepare(&self, plan: &ServerPlan) -> Result<Prepared, ServerError> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        prepare((self.name, &self.inherited), plan, self.threads.len(), &active, &*self.observer)
    }

    /// Puts a prepared plan into force. Listeners that are in both plans keep their sockets, and their connections unless
    /// they ask for something else now; changed limits are for connections to come; those of removed listeners drain. Certificate files that
    /// both plans name are looked at again.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { plan, active, mut sockets, datagrams } = prepared;
        self.admission
            .set_bounds(connections_within_open_files(plan.limits.connections), plan.limits.connections_per_ip);
        for thread in &self.threads {
            let orders = active.iter().enumerate().map(|(index, active)| ListenerOrder {
                key: active.key.clone(),
                name: Arc::clone(&active.plan.name),
                index,
                mode: active.plan.mode.clone(),
                proxy_protocol: active.plan.proxy_protocol.clone(),
                tls: active.tls.clone(),
                sockets: sockets.get_mut(&active.key).and_then(Vec::pop).unwrap_or_default(),
                http3: active.plan.http3.map(|http3| Http3Order {
                    port: http3.port.or(active.local.socket().map(|local| local.port())).unwrap_or_default(),
                    udp: datagrams.get(&active.key).cloned(),
                }),
            });
            // A worker that is gone has been drained.
            let _ = thread.orders.send(Order::Listen(orders.collect(), plan.limits.clone()));
        }
        for active in &active {
            if let Some(file) = &active.file {
                file.set_mode(active.plan.unix_mode);
            }
        }
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = active;
        self.refresh_certificates();
    }

    /// The files of the Unix sockets that were taken over are this server's from now on. Until then it may fail, and who
    /// has handed them over go on with them.
    pub fn adopt(&self) {
        for active in self.active.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(file) = &active.file {
                file.adopt(active.plan.unix_mode);
            }
        }
    }

    /// Looks at the certificate files now, and takes those that have changed and are whole.
    pub fn refresh_certificates(&self) {
        refresh(&self.active, &*self.observer);
    }

    /// Looks at the certificate files every two seconds; to be run beside the workers, on a runtime that may block a
    /// little. Ends when the server is gone.
    pub fn watch_certificates(&self) -> impl Future<Output = ()> + Send + 'static {
        let (active, observer) = (Arc::downgrade(&self.active), Arc::clone(&self.observer));
        async move {
            loop {
                tokio::time::sleep(CERTIFICATE_PERIOD).await;
                let Some(active) = active.upgrade() else { return };
                refresh(&active, &*observer);
            }
        }
    }

    /// The listening sockets, for another process.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn sockets(&self) -> io::Result<Vec<HandedSocket>> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let each = active.iter().flat_map(|active| active.kept.iter().map(move |socket| (active, socket)));
        let handed = each.map(|(active, socket)| {
            let name = SocketName::of(self.name, &active.key);
            Ok(HandedSocket { name, kind: socket.kind(), socket: socket.as_fd().try_clone_to_owned()? })
        });
        handed.collect()
    }

    /// What others have opened for this process.
    pub fn inherited(&self) -> &Inherited {
        &self.inherited
    }

    /// From now on answers over HTTP/1.1 are the last ones of their connections: a drain is near.
    pub fn soften(&self) {
        self.order(|| Order::Soften);
    }

    /// Stops accepting; what waits in the queues stays there, for who takes the sockets over. Ends when all workers have stopped.
    pub async fn pause(&self) {
        let (done, mut all_done) = mpsc::unbounded_channel::<()>();
        self.order(|| Order::Pause(done.clone()));
        drop(done);
        // Each worker lets go of its end when it has.
        let _ = all_done.recv().await;
    }

    /// Goes on accepting after a pause.
    pub fn resume(&self) {
        self.order(|| Order::Resume);
    }

    /// How far each worker has come: one that stands still between two looks a second apart does nothing any more.
    pub fn beats(&self) -> Vec<u64> {
        self.threads.iter().map(|thread| thread.beat.load(Ordering::Relaxed)).collect()
    }

    /// Stops accepting, once the queues are empty, and lets the connections finish; what is left at `deadline` is cut.
    pub fn drain(self, deadline: Instant) -> Drain {
        self.drain_but(deadline, &[])
    }

    /// The same where others have taken some sockets over: their queues are left alone, and connections that rest get one more
    /// request before they end, as nobody is waited for.
    pub fn drain_but(self, deadline: Instant, taken: &[SocketName]) -> Drain {
        let mut left = Vec::new();
        for active in self.active.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if taken.contains(&SocketName::of(self.name, &active.key)) {
                left.push(active.key.clone());
                if let Some(file) = &active.file {
                    file.give_away(true);
                }
            }
        }
        self.order(|| Order::Drain(deadline, left.clone()));
        Drain { threads: self.threads, deadline: deadline + LAST_PATIENCE }
    }

    fn order(&self, order: impl Fn() -> Order) {
        for thread in &self.threads {
            // A worker that is gone has nothing left to do.
            let _ = thread.orders.send(order());
        }
    }
}

/// A drain under way.
pub struct Drain {
    threads: Vec<Thread>,
    /// When a worker that has not ended is given up.
    deadline: Instant,
}

impl Drain {
    /// Brings the deadline nearer.
    pub fn hurry(&mut self, deadline: Instant) {
        for thread in &self.threads {
            let _ = thread.orders.send(Order::Drain(deadline, Vec::new()));
        }
        self.deadline = self.deadline.min(deadline + LAST_PATIENCE);
    }

    /// Ends when all workers have, and soon after the deadline whatever they do.
    pub async fn done(mut self) {
        self.ended().await;
    }

    /// The same; can be asked again where it was not waited for to the end.
    pub async fn ended(&mut self) {
        while let Some(thread) = self.threads.last_mut() {
            // Dropped without a word by a worker that panicked: it has ended, too.
            let ended = tokio::time::timeout_at(self.deadline.into(), &mut thread.ended).await;
            if let (Ok(_), Some(thread)) = (ended, self.threads.pop()) {
                let _ = thread.handle.join();
            }
        }
    }

    /// Blocks as long as [`Drain::done`] would take.
    pub fn wait(self) {
        for thread in self.threads {
            while !thread.handle.is_finished() && Instant::now() < self.deadline {
                thread::sleep(Duration::from_millis(2));
            }
            if thread.handle.is_finished() {
                let _ = thread.handle.join();
            }
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("workers", &self.threads.len()).finish()
    }
}

fn refresh(active: &Mutex<Vec<Active>>, observer: &dyn EdgeObserver) {
    let states: Vec<_> = {
        let active = active.lock().unwrap_or_else(PoisonError::into_inner);
        active.iter().filter_map(|active| active.tls.clone()).collect()
    };
    for state in states {
        state.refresh(observer);
    }
}

fn start_thread<S: Serve>(
    name: &str,
    observer: Arc<dyn EdgeObserver>,
    shared: (Arc<Admission>, Arc<Challenges>),
    failed: Arc<Notify>,
    factory: impl FnOnce() -> Rc<S> + Send + 'static,
) -> io::Result<Thread> {
    let (orders, receiver) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    let beat = Arc::new(AtomicU64::new(0));
    let own_beat = Arc::clone(&beat);
    let (begin, begun) = std::sync::mpsc::sync_channel(1);
    let handle = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Made here, as it stays on its thread. Its tasks are its own, where a `LocalSet` would be a second scheduler within it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(why) => return drop(begin.send(Err(why))),
        };
        drop(begin.send(Ok(())));
        let alarm = Alarm(failed);
        runtime.block_on(worker::run(factory, (observer, own_beat), shared, &alarm, receiver));
        // Dropping it would wait for the resolver's answers, however long they take.
        runtime.shutdown_background();
        let _ = end.send(());
    })?;
    // Nothing was said by a thread that has panicked.
    begun.recv().map_err(io::Error::other)??;
    Ok(Thread { orders, ended, handle, beat })
}

/// Tells when it is dropped by a panic.
pub(super) struct Alarm(Arc<Notify>);

impl Alarm {
    /// Runs what a worker cannot do without; should it panic, that is told. Boxed, so that the runtime has one kind of task for all.
    pub(super) fn guard<'f>(&self, vital: impl Future<Output = ()> + 'f) -> Pin<Box<dyn Future<Output = ()> + 'f>> {
        let alarm = Self(Arc::clone(&self.0));
        Box::pin(async move {
            vital.await;
            drop(alarm);
        })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.notify_one();
        }
    }
}

fn prepare(
    (name, inherited): (&str, &Inherited),
    plan: &ServerPlan,
    workers: usize,
    before: &[Active],
    observer: &dyn EdgeObserver,
) -> Result<Prepared, ServerError> {
    let mut prepared =
        Prepared { plan: plan.clone(), active: Vec::new(), sockets: HashMap::new(), datagrams: HashMap::new() };
    let mut times = HashMap::<ListenerAddress, usize>::new();
    for (index, listener) in plan.listeners.iter().enumerate() {
        let address = &listener.address;
        let nth = times.entry(address.clone()).or_insert(0);
        let key = (address.clone(), *nth);
        *nth += 1;
        let in_configuration = if name == "admin" { "admin".to_owned() } else { format!("listeners[{index}]") };
        let same = before.iter().find(|active| active.key == key);
        let tls = match &listener.mode {
            PlanMode::Tls(tls) => match same.and_then(|active| active.tls.as_ref()).filter(|state| state.plan() == tls)
            {
                Some(state) => Some(Arc::clone(state)),
                None => Some(Arc::new(ListenerTlsState::load(&listener.name, tls, observer).map_err(|source| {
                    ServerError::Tls {
                        key: in_configuration.clone(),
                        address: address.clone(),
                        source: Box::new(source),
                    }
                })?)),
            },
            PlanMode::Redirect(_) | PlanMode::Cleartext | PlanMode::Http1 => None,
        };
        // Where IPv4 has a listener of its own on the port, IPv6 must leave it alone.
        let v6_only = address.socket().is_some_and(|address| {
            let same = |other: SocketAddr| other.is_ipv4() && other.port() == address.port();
            address.is_ipv6() && plan.listeners.iter().any(|other| other.address.socket().is_some_and(same))
        });
        let bind = |source| ServerError::Bind { key: in_configuration.clone(), address: address.clone(), source };
        let mut is_handed_over = false;
        let (local, file, kept) = match same {
            Some(active) => (active.local.clone(), active.file.clone(), Arc::clone(&active.kept)),
            None => {
                let given = inherited.take(name, &key).map_err(bind)?;
                is_handed_over = !given.is_empty();
                let bound = match given.is_empty() {
                    true => bind::listeners(address, workers, v6_only, listener.unix_mode),
                    false => bind::inherited(address, given, listener.unix_mode),
                };
                let bound = bound.map_err(bind)?;
                let kept: io::Result<Vec<_>> = bound.sockets.iter().map(Listener::another).collect();
                let kept = kept.map_err(bind)?.into();
                prepared.sockets.insert(key.clone(), inherited::share_out(bound.sockets, workers).map_err(bind)?);
                (bound.local, bound.file.map(Arc::new), kept)
            }
        };
        let serves_http3 = |plan: &ListenerPlan| plan.http3.is_some();
        if serves_http3(listener) && !same.is_some_and(|active| serves_http3(&active.plan)) {
            // On the port that TCP was given, where the configuration leaves it open. The process before this one keeps
            // its connections, and the port, until they have ended.
            if let Some(local) = local.socket() {
                let port = UdpPort::bind(local, workers, v6_only, is_handed_over).map_err(bind)?;
                prepared.datagrams.insert(key.clone(), port);
            }
        }
        prepared.active.push(Active { key, plan: listener.clone(), local, tls, file, kept });
    }
    Ok(prepared)
}
