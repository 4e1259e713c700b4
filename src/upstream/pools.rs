//! One worker's connections to all services: choose a target, get a connection, exchange, and try again where nothing
//! can have been done twice.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    future::poll_fn,
    hash::{BuildHasherDefault, Hasher},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::HOST};
use http_body::Body;
use tokio::time::Instant;

use super::{
    answer,
    body::UpstreamBody,
    connect::connect,
    connection::{Answered, Connection, Exchange, Lost},
    fault::{BoxError, UpstreamFault},
    framing::frame,
    health::Admission,
    lease::Lease,
    observer::{ServiceObserver, UpstreamObserver},
    pool::TargetPool,
    replay::Replay,
    sending::Sending,
    service::Service,
    target::Target,
    upload::Upload,
};
use crate::clock::Now;

/// How often a request may be sent: on an idle connection, and twice on fresh ones.
const ATTEMPTS: u8 = 3;

/// One worker's connections to all services. Cloning it gives another handle to the same.
///
/// It lives on one thread, inside of a `LocalSet`.
pub struct Pools<B>(Rc<Worker<B>>);

struct Worker<B> {
    services: RefCell<Ids<Rc<ServicePool<B>>>>,
    targets: RefCell<Ids<Rc<TargetPool<B>>>>,
    observer: Box<dyn UpstreamObserver>,
}

/// What one worker keeps for one service.
pub(super) struct ServicePool<B> {
    service: Arc<Service>,
    view: RefCell<Rc<View<B>>>,
    /// Whose turn it is.
    turn: Cell<usize>,
    pub(super) observer: Rc<dyn ServiceObserver>,
}

/// The targets of a service as a worker last saw them.
struct View<B> {
    generation: u64,
    targets: Box<[Rc<TargetPool<B>>]>,
}

/// A connection and where it came from.
struct Chosen<B> {
    connection: Box<Connection<B>>,
    pool: Rc<TargetPool<B>>,
}

/// Where a connection may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    PoolOrNetwork,
    Network,
}

/// A request that was sent, and where it came from.
struct Sent<B> {
    exchange: Exchange<B>,
    pool: Rc<TargetPool<B>>,
    /// Boxed, as it is made for the usual request and needed for the rare one.
    replay: Option<Box<Replay>>,
}

/// What has been done for a request at once.
enum Begun<B> {
    /// It is being sent.
    Sent(Sent<B>),
    /// It has to wait for a connection.
    Not(Box<Request<Upload<B>>>),
}

impl<B> Pools<B> {
    /// An empty set of connections.
    pub fn new(observer: impl UpstreamObserver + 'static) -> Self {
        Self(Rc::new(Worker {
            services: RefCell::default(),
            targets: RefCell::default(),
            observer: Box::new(observer),
        }))
    }

    /// Closes idle connections that are too old, and lets go of services that no configuration names any more. To be
    /// called now and then: a target that gets no requests would otherwise keep its connections.
    pub fn sweep(&self, now: Now) {
        let now = Instant::from_std(now.instant);
        // A pool that alone still holds its service belongs to a configuration that is gone. Requests on their way hold
        // the pool itself and end undisturbed.
        self.0.services.borrow_mut().retain(|_, pool| {
            // Targets that are gone would be held by a service that gets no requests.
            pool.refresh(&self.0);
            Arc::strong_count(&pool.service) > 1
        });
        self.0.targets.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            Arc::strong_count(&pool.target) > 1
        });
    }
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request to a service and waits for the head of its answer.
    ///
    /// The request is in origin-form with its header as the upstream shall see it; the fields that frame the message
    /// are set here, and `Host` where the upstream wants the target's. Dropping the future, or the answer before its end, closes the upstream connection.
    ///
    /// A request is sent again only if hyper hands it back unwritten, or if it is a GET, HEAD or OPTIONS without a body
    /// and a connection that had served before broke without an answer (RFC 9112 §9.3.1). Others, guarded deletions
    /// above all, are sent at most once.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn send(
        &self,
        service: &Arc<Service>,
        request: Request<B>,
        sending: &Sending,
    ) -> impl Future<Output = Result<Response<UpstreamBody<B>>, UpstreamFault>> + use<B> {
        let pool = self.0.service(service);
        let (now, upgrade) = (Instant::from_std(sending.now.instant), sending.upgrade);
        let mut request = request.map(|body| Upload::new(body, now));
        frame(&mut request);
        // Begun here, so that the future has no room for a request: it is a part of one that is moved about.
        let begun = match pool.take_idle(now) {
            Some(chosen) => Begun::Sent(pool.begin(chosen, request, now)),
            None => Begun::Not(Box::new(request)),
        };
        async move {
            let answer = pool.exchange(begun, now, upgrade).await;
            if let Err(fault) = &answer {
                pool.observer.fault(fault.kind());
            }
            answer
        }
    }
}

impl<B> Worker<B> {
    fn service(&self, service: &Arc<Service>) -> Rc<ServicePool<B>> {
        if let Some(pool) = self.services.borrow().get(&service.id) {
            pool.refresh(self);
            return Rc::clone(pool);
        }
        let pool = Rc::new(ServicePool {
            view: RefCell::new(Rc::new(self.view(service))),
            service: Arc::clone(service),
            turn: Cell::new(0),
            observer: self.observer.service(service.name()),
        });
        self.services.borrow_mut().insert(service.id, Rc::clone(&pool));
        pool
    }

    fn view(&self, service: &Service) -> View<B> {
        let set = service.targets();
        let mut targets = self.targets.borrow_mut();
        View {
            generation: set.generation,
            targets: set.iter().map(|member| target_pool(&mut targets, &member.target)).collect(),
        }
    }
}

impl<B> ServicePool<B> {
    /// Looks whether the service has other targets now. What is known of those that stay stays; requests under way keep
    /// those that they began with.
    fn refresh(&self, worker: &Worker<B>) {
        if self.view.borrow().generation != self.service.generation() {
            *self.view.borrow_mut() = Rc::new(worker.view(&self.service));
        }
    }
}

fn target_pool<B>(pools: &mut Ids<Rc<TargetPool<B>>>, target: &Arc<Target>) -> Rc<TargetPool<B>> {
    Rc::clone(pools.entry(target.id).or_insert_with(|| Rc::new(TargetPool::new(Arc::clone(target)))))
}

impl<B> ServicePool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    async fn exchange(
        self: &Rc<Self>,
        begun: Begun<B>,
        now: Instant,
        upgrade: bool,
    ) -> Result<Response<UpstreamBody<B>>, UpstreamFault> {
        let mut sent = match begun {
            Begun::Sent(sent) => sent,
            Begun::Not(request) => self.begin_later(request, From::PoolOrNetwork, now).await?,
        };
        let mut attempts_left = ATTEMPTS;
        loop {
            attempts_left = attempts_left.saturating_sub(1);
            let patience = self.service.response_timeout();
            let request = match poll_fn(|cx| sent.exchange.poll_answer(cx, patience)).await {
                Ok(answered) => return self.accept(answered, sent.exchange.connection, sent.pool, upgrade),
                Err(lost) => Box::new(again(lost, sent.replay.take(), attempts_left)?),
            };
            self.observer.retried();
            // Where one idle connection was closed the others probably are, too.
            sent = self.begin_later(request, From::Network, now).await?;
        }
    }

    /// Waits for a connection and begins. Boxed: less usual, and large enough to make every request's future larger.
    fn begin_later(
        self: &Rc<Self>,
        request: Box<Request<Upload<B>>>,
        from: From,
        now: Instant,
    ) -> Pin<Box<dyn Future<Output = Result<Sent<B>, UpstreamFault>>>> {
        let pool = Rc::clone(self);
        Box::pin(async move {
            let chosen = pool.choose(from, now).await?;
            Ok(pool.begin(chosen, *request, now))
        })
    }

    fn begin(&self, Chosen { connection, pool }: Chosen<B>, mut request: Request<Upload<B>>, now: Instant) -> Sent<B> {
        if self.service.names_target_as_host() {
            request.headers_mut().insert(HOST, pool.target.host.clone());
        }
        let replay = if connection.reused { Replay::of(&request).map(Box::new) } else { None };
        // The clock is read again only where a connection had to be waited for.
        let started = if connection.reused { now } else { Instant::now() };
        Sent { exchange: Exchange::begin(connection, request, started), pool, replay }
    }

    fn accept(
        self: &Rc<Self>,
        Answered { mut answer, is_early }: Answered,
        connection: Box<Connection<B>>,
        pool: Rc<TargetPool<B>>,
        upgrade: bool,
    ) -> Result<Response<UpstreamBody<B>>, UpstreamFault> {
        let afterwards = answer::check(&mut answer, upgrade).map_err(UpstreamFault::Invalid)?;
        let mut lease = Lease::new(connection, afterwards, pool, Rc::clone(self));
        if is_early {
            lease.go_on_sending();
        }
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer.map(|incoming| UpstreamBody::switching(incoming, lease)));
        }
        Ok(answer.map(|incoming| UpstreamBody::new(incoming, lease)))
    }

    /// The usual case, in which nothing has to be chosen or waited for.
    fn take_idle(&self, now: Instant) -> Option<Chosen<B>> {
        let view = self.view.borrow();
        let [only] = &*view.targets else { return None };
        let connection = only.take(now)?;
        self.observer.reused();
        Some(Chosen { connection, pool: Rc::clone(only) })
    }

    /// Gets a connection to a target that is believed to be well, round robin; to any, when none is.
    async fn choose(&self, from: From, now: Instant) -> Result<Chosen<B>, UpstreamFault> {
        let budget = Budget { time: self.service.connect_timeout(), ends: Cell::new(None) };
        let view = Rc::clone(&self.view.borrow());
        if let [only] = &*view.targets {
            return self.obtain(only, Admission::Healthy, from, now, || budget.share(1)).await;
        }
        let count = view.targets.len();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let (after, first) = view.targets.split_at_checked(turn.checked_rem(count).unwrap_or(0)).unwrap_or_default();
        let in_turn = || first.iter().chain(after).zip((1..=count).rev());
        let mut last = None;
        for (pool, left) in in_turn() {
            let admission = pool.target.health.admit(now.into_std());
            if admission == Admission::Ejected {
                continue;
            }
            match self.obtain(pool, admission, from, now, || budget.share(left)).await {
                Ok(chosen) => return Ok(chosen),
                Err(fault) => last = Some(fault),
            }
        }
        if let Some(fault) = last {
            return Err(fault);
        }
        for (pool, left) in in_turn() {
            match self.obtain(pool, Admission::Ejected, from, now, || budget.share(left)).await {
                Ok(chosen) => return Ok(chosen),
                Err(fault) => last = Some(fault),
            }
        }
        Err(last.unwrap_or(UpstreamFault::Reset(None)))
    }

    /// Takes an idle connection to a target, or makes one and notes how that went.
    async fn obtain(
        &self,
        pool: &Rc<TargetPool<B>>,
        admission: Admission,
        from: From,
        now: Instant,
        deadline: impl FnOnce() -> Instant,
    ) -> Result<Chosen<B>, UpstreamFault> {
        // A probe has to find out whether the target takes connections, so it makes one.
        let may_reuse = from == From::PoolOrNetwork && admission != Admission::Probe;
        if let Some(connection) = may_reuse.then(|| pool.take(now)).flatten() {
            self.observer.reused();
            return Ok(Chosen { connection, pool: Rc::clone(pool) });
        }
        let target = &pool.target;
        // Boxed: rare, and large enough to make every request's future larger.
        match Box::pin(connect(target, &pool.addresses, deadline())).await {
            Ok(opened) => {
                self.observer.opened();
                if target.health.succeeded() {
                    self.observer.readmitted(target.authority());
                }
                Ok(Chosen { connection: Box::new(Connection::new(opened, now)), pool: Rc::clone(pool) })
            }
            Err(fault) => {
                if target.health.failed(admission, Instant::now().into_std()) {
                    self.observer.ejected(target.authority());
                }
                Err(fault)
            }
        }
    }
}

/// The request that may be sent again after an exchange was lost, or the fault that ends it.
fn again<B>(
    lost: Lost<B>,
    replay: Option<Box<Replay>>,
    attempts_left: u8,
) -> Result<Request<Upload<B>>, UpstreamFault> {
    if attempts_left == 0 || !matches!(lost.fault, UpstreamFault::Reset(_)) {
        return Err(lost.fault);
    }
    lost.unsent.or_else(|| replay.and_then(|replay| replay.request())).ok_or(lost.fault)
}

/// The time in which one request must have its connection, however many targets are tried for it.
struct Budget {
    time: Duration,
    /// Unknown until it is needed: a request that finds an idle connection reads no clock for it.
    ends: Cell<Option<Instant>>,
}

impl Budget {
    /// When the next of `left` attempts must be done: each has an equal share of what is left, so that a target that
    /// swallows packets does not keep the others from being tried.
    fn share(&self, left: usize) -> Instant {
        let now = Instant::now();
        let ends = self.ends.get().unwrap_or(now + self.time);
        self.ends.set(Some(ends));
        now + ends.saturating_duration_since(now) / u32::try_from(left.max(1)).unwrap_or(u32::MAX)
    }
}

impl<B> Clone for Pools<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<B> fmt::Debug for Pools<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for ServicePool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServicePool").field("service", &self.service.name()).finish_non_exhaustive()
    }
}

/// A map by ids that this process counted itself: nobody chooses them, so they need no keyed hash.
type Ids<T> = HashMap<u64, T, BuildHasherDefault<IdHasher>>;

/// Spreads consecutive numbers over the whole word (Fibonacci hashing).
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
