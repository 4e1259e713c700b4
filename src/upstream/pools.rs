//! One worker's connections to all services: choose a target, get a connection, exchange, and try again where nothing
//! can have been done twice.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    future::poll_fn,
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
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
    choose::{Probing, Tried},
    connect::{Purpose, Wanted},
    dues::Dues,
    fault::{BoxError, UpstreamFault},
    framing::frame,
    health::Admission,
    http1::Early,
    lease::Lease,
    line::{Answered, Held, Line, Lost, Turn},
    observer::{Repetition, ServiceObserver, UpstreamObserver},
    pool::{Opening, TargetPool},
    replay::Replay,
    sending::Sending,
    service::Service,
    target::Target,
    upload::Upload,
};
use crate::clock::Now;

/// How often a request may be sent: on an idle connection, and twice on fresh ones.
const ATTEMPTS: u8 = 3;

/// How often more where a connection took no further requests: each time there is another one, and the next may be as short.
pub(super) const TURNED_AWAY: u8 = 64;

/// One worker's connections to all services. Cloning it gives another handle to the same.
///
/// It lives on one thread, inside of a `LocalRuntime` or a `LocalSet`.
pub struct Pools<B>(Rc<Worker<B>>);

struct Worker<B> {
    services: RefCell<Ids<Rc<ServicePool<B>>>>,
    targets: RefCell<Ids<Rc<TargetPool<B>>>>,
    observer: Box<dyn UpstreamObserver>,
}

/// What one worker keeps for one service.
pub(super) struct ServicePool<B> {
    pub(super) service: Arc<Service>,
    view: RefCell<Rc<View<B>>>,
    /// How often something was drawn, from a first number of its own.
    pub(super) draws: Cell<u64>,
    pub(super) observer: Rc<dyn ServiceObserver>,
}

/// The targets of a service as a worker last saw them.
pub(super) struct View<B> {
    generation: u64,
    pub(super) targets: Box<[Rc<TargetPool<B>>]>,
    pub(super) weights: Box<[u16]>,
    pub(super) priorities: Box<[u16]>,
    /// Whether there are some that come after others.
    pub(super) has_spares: bool,
    /// What each is owed where they take turns.
    pub(super) credits: Box<[Cell<i64>]>,
}

/// A connection and where it came from.
pub(super) struct Chosen<B> {
    pub(super) line: Line<B>,
    pub(super) pool: Rc<TargetPool<B>>,
    /// Whether nothing was waited for.
    pub(super) is_at_once: bool,
}

impl<B> Chosen<B> {
    /// When a request begins that looked for a connection at `now`. The clock is read again only where that took its time.
    pub(super) fn started(&self, now: Instant) -> Instant {
        if self.is_at_once { now } else { Instant::now() }
    }
}

/// What there is not for the usual case.
enum Missing {
    /// A connection to the only target.
    Connection,
    /// A target that need not be chosen with care.
    Choice,
}

/// Where a connection may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    PoolOrNetwork,
    Network,
}

/// A request that was sent, and where it came from.
pub(super) struct Sent<B> {
    pub(super) turn: Turn<B>,
    pub(super) pool: Rc<TargetPool<B>>,
    /// Whether it may be sent once more.
    may_repeat: bool,
    /// For that, the head of one whose line does not keep it.
    replay: Option<Box<Replay>>,
}

/// What a service answered. Boxed, as it goes a long way: each layer's future has room for it.
pub type Answer<B> = Box<Response<UpstreamBody<B>>>;

/// An answer that is being waited for.
type Outcome<B> = Pin<Box<dyn Future<Output = Result<Answer<B>, UpstreamFault>>>>;

/// What has been done for a request at once.
enum Begun<B> {
    /// Nothing yet: more is asked for than to send it.
    Careful(Outcome<B>),
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
    /// A request is sent again only if it certainly was not looked at, or if it is a GET, HEAD or OPTIONS without a body
    /// and a connection that had served before broke without a whole head of an answer (RFC 9112 §9.3.1). Others, guarded deletions
    /// above all, are sent at most once.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn send(
        &self,
        service: &Arc<Service>,
        request: Request<B>,
        sending: &Sending,
    ) -> impl Future<Output = Result<Answer<B>, UpstreamFault>> + use<B> {
        let pool = self.0.service(service);
        let now = Instant::from_std(sending.now.instant);
        let mut request = request.map(|body| Upload::new(body, now));
        frame(&mut request);
        // Begun here, so that the future has no room for a request: it is a part of one that is moved about.
        let begun = if pool.is_plain_for(sending) {
            match pool.take_idle(now) {
                Ok(chosen) => Begun::Sent(pool.begin(chosen, request, now)),
                Err(Missing::Connection) => Begun::Not(Box::new(request)),
                Err(Missing::Choice) => Begun::Careful(pool.carefully(request, sending)),
            }
        } else if pool.has_nobody_yet() {
            Begun::Careful(self.once_found(service, request, sending))
        } else {
            Begun::Careful(pool.carefully(request, sending))
        };
        async move {
            let answer = pool.exchange(begun, now).await;
            if let Err(fault) = &answer {
                pool.observer.fault(fault.kind());
            }
            answer
        }
    }
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request when it is known where to: the first ones wait for a name server.
    fn once_found(&self, service: &Arc<Service>, request: Request<Upload<B>>, sending: &Sending) -> Outcome<B> {
        let (pools, service, sending) = (self.clone(), Arc::clone(service), *sending);
        Box::pin(async move {
            service.look(Instant::now() + service.connect_timeout()).await;
            let pool = pools.0.service(&service);
            pool.carefully(request, &sending).await
        })
    }
}

impl<B> Worker<B> {
    fn service(&self, service: &Arc<Service>) -> Rc<ServicePool<B>> {
        if let Some(pool) = self.services.borrow().get(&service.id) {
            pool.refresh(self);
            return Rc::clone(pool);
        }
        let pool = Rc::new(ServicePool {
            view: RefCell::new(Rc::new(self.look(service))),
            service: Arc::clone(service),
            draws: Cell::new(RandomState::new().hash_one(service.id)),
            observer: self.observer.service(service.name()),
        });
        self.services.borrow_mut().insert(service.id, Rc::clone(&pool));
        pool
    }

    fn look(&self, service: &Service) -> View<B> {
        let set = service.targets();
        let mut targets = self.targets.borrow_mut();
        let first = set.iter().map(|member| member.priority).next();
        View {
            has_spares: set.iter().any(|member| Some(member.priority) != first),
            generation: set.generation,
            targets: set.iter().map(|member| target_pool(&mut targets, &member.target)).collect(),
            weights: set.iter().map(|member| member.weight).collect(),
            priorities: set.iter().map(|member| member.priority).collect(),
            credits: set.iter().map(|_| Cell::new(0)).collect(),
        }
    }
}

impl<B> ServicePool<B> {
    /// The targets as last seen.
    pub(super) fn view(&self) -> Rc<View<B>> {
        Rc::clone(&self.view.borrow())
    }

    /// Whether a request needs nothing but a connection to the only target, or to the next.
    fn is_plain_for(&self, sending: &Sending) -> bool {
        self.service.is_plain() && sending.is_plain() && !self.view.borrow().targets.is_empty()
    }

    /// Whether it had no targets when it was last looked: their names may still be asked for, or have been answered since.
    fn has_nobody_yet(&self) -> bool {
        self.view.borrow().targets.is_empty()
    }

    /// Looks whether the service has other targets now. What is known of those that stay stays; requests under way keep
    /// those that they began with.
    fn refresh(&self, worker: &Worker<B>) {
        if self.view.borrow().generation != self.service.generation() {
            *self.view.borrow_mut() = Rc::new(worker.look(&self.service));
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
    async fn exchange(self: &Rc<Self>, begun: Begun<B>, now: Instant) -> Result<Answer<B>, UpstreamFault> {
        let mut sent = match begun {
            Begun::Sent(sent) => sent,
            Begun::Careful(answer) => return answer.await,
            Begun::Not(request) => self.begin_later(request, From::PoolOrNetwork, now).await?,
        };
        let (mut attempts_left, mut turns_left) = (ATTEMPTS, TURNED_AWAY);
        loop {
            attempts_left = attempts_left.saturating_sub(1);
            let patience = self.service.response_timeout();
            let request = match poll_fn(|cx| sent.turn.poll_answer(cx, patience)).await {
                Ok(answered) => {
                    return self.accept(answered, sent.turn.into_held(), sent.pool, (None, false), patience);
                }
                Err(lost) => {
                    if lost.is_turned_away && turns_left > 0 {
                        turns_left -= 1;
                        attempts_left = attempts_left.saturating_add(1);
                    }
                    let replay = sent.replay.take();
                    Box::new(again(lost, (sent.may_repeat, replay), attempts_left)?)
                }
            };
            self.observer.retried(Repetition::Stale);
            // Its socket is closed first: connecting may take long.
            drop(sent);
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
            let view = pool.view();
            let chosen = if let [only] = &*view.targets {
                let deadline = || Instant::now() + pool.service.connect_timeout();
                let admission = only.target.health.admit(now.into_std());
                let _probing = Probing::of(&only.target, admission);
                pool.obtain(only, admission, (from, Purpose::default()), now, deadline).await?
            } else {
                pool.choose(&view, (&mut Tried::default(), from), (None, Purpose::default()), now).await?.0
            };
            Ok(pool.begin(chosen, *request, now))
        })
    }

    fn begin(&self, chosen: Chosen<B>, request: Request<Upload<B>>, now: Instant) -> Sent<B> {
        let may_repeat = chosen.line.is_reused() && Replay::is_harmless(&request);
        let replay = match &chosen.line {
            Line::Shared(_) if may_repeat => Some(Box::new(Replay::head(&request))),
            Line::Shared(_) | Line::Own(_) => None,
        };
        let started = chosen.started(now);
        Sent { may_repeat, replay, ..self.begin_with(chosen, request, (started, false)) }
    }

    pub(super) fn begin_with(
        &self,
        Chosen { line, pool, .. }: Chosen<B>,
        mut request: Request<Upload<B>>,
        (started, is_guarded): (Instant, bool),
    ) -> Sent<B> {
        if self.service.names_target_as_host() {
            request.headers_mut().insert(HOST, pool.target.host.clone());
        }
        let turn = Turn::begin(line, request, &pool.target, (started, is_guarded));
        Sent { turn, pool, may_repeat: false, replay: None }
    }

    pub(super) fn accept(
        self: &Rc<Self>,
        Answered { mut answer, incoming }: Answered,
        mut held: Held<B>,
        pool: Rc<TargetPool<B>>,
        (dues, upgrade): (Option<Box<Dues>>, bool),
        patience: Duration,
    ) -> Result<Answer<B>, UpstreamFault> {
        let checked = answer::check(&mut answer, upgrade)?;
        let afterwards = checked.afterwards;
        if let Held::Own(connection) = &mut held {
            connection.begin_body(&answer, &checked)?;
        }
        let is_switching = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let held = match held {
            // A handshake has no body, so that nothing of it is left to be sent.
            Held::Own(connection) if connection.is_sending() && !is_switching => {
                Held::Early(Early::new(connection, patience))
            }
            held @ (Held::Own(_) | Held::Early(_) | Held::Shared(_)) => held,
        };
        let lease = Lease::new(held, afterwards, pool, Rc::clone(self), dues);
        Ok(Box::new(answer.map(|()| match is_switching {
            true => UpstreamBody::switching(lease),
            false => UpstreamBody::new(incoming, lease),
        })))
    }

    /// The usual case, in which nothing has to be chosen or waited for.
    fn take_idle(&self, now: Instant) -> Result<Chosen<B>, Missing> {
        let view = self.view.borrow();
        let [only] = &*view.targets else { return self.take_in_turn(&view, now).ok_or(Missing::Choice) };
        let line = only.take(now).ok_or(Missing::Connection)?;
        self.observer.reused();
        Ok(Chosen { line, pool: Rc::clone(only), is_at_once: true })
    }

    /// Takes an idle connection to a target, or makes one and notes how that went.
    pub(super) async fn obtain(
        &self,
        pool: &Rc<TargetPool<B>>,
        admission: Admission,
        (from, purpose): (From, Purpose),
        now: Instant,
        deadline: impl FnOnce() -> Instant,
    ) -> Result<Chosen<B>, UpstreamFault> {
        // A probe has to find out whether the target takes connections, so it makes one.
        let line = match (admission, from) {
            (Admission::Probe, _) => None,
            _ if purpose.upgrade => pool.take_own(now),
            (Admission::Healthy | Admission::Ejected, From::PoolOrNetwork) => pool.take(now),
            // A shared one that is closed is known to be.
            (Admission::Healthy | Admission::Ejected, From::Network) => pool.take_shared(now),
        };
        if let Some(line) = line {
            self.observer.reused();
            return Ok(Chosen { line, pool: Rc::clone(pool), is_at_once: true });
        }
        let target = &pool.target;
        // Boxed: rare, and large enough to make every request's future larger.
        let wanted = Wanted { deadline: deadline(), purpose };
        match Box::pin(pool.open(wanted, now)).await {
            Opening::Made(line) => {
                self.observer.opened();
                // Where answers count, a connection alone is none.
                let counts = !self.service.config().balancing.ejection.answers;
                if counts && target.health.succeeded(admission, Instant::now().into_std()) {
                    self.observer.readmitted(target.authority());
                }
                Ok(Chosen { line, pool: Rc::clone(pool), is_at_once: false })
            }
            Opening::Joined(line) => {
                self.observer.reused();
                Ok(Chosen { line, pool: Rc::clone(pool), is_at_once: false })
            }
            Opening::FailedElsewhere(fault) => Err(fault),
            Opening::Failed(fault) => {
                let rules = &self.service.config().balancing.ejection;
                if target.health.failed(admission, rules, Instant::now().into_std()) {
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
    (may_repeat, replay): (bool, Option<Box<Replay>>),
    attempts_left: u8,
) -> Result<Request<Upload<B>>, UpstreamFault> {
    if attempts_left == 0 || !matches!(lost.fault, UpstreamFault::Reset(_)) {
        return Err(lost.fault);
    }
    let again = lost.again.filter(|_| may_repeat).or_else(|| replay.and_then(|replay| replay.request()));
    lost.unsent.or(again).ok_or(lost.fault)
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
