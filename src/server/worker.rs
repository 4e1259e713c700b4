//! A worker: one thread, one single-threaded runtime, its own listening sockets, its own connections. A request crosses
//! no thread. Two things run beside the connections: the accept loops ([`super::accept`]), and the sweep over all watches.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    task::spawn_local,
    time::{sleep, sleep_until},
};

use super::{
    Alarm, EdgeObserver, Refused,
    accept::{accept_all, empty},
    admission::{Admission, Permit},
    bind::Listener,
    client_stream::Queue,
    connection::Draining,
    http3::{self, Quic, UdpPort},
    plan::PlanMode,
    settings::HttpSettings,
    tls::ListenerTlsState,
};
use crate::{
    acme::Challenges,
    body::{Aside, ConnectionWatch, Serve, Verdict},
    config::{ListenerAddress, Peers, ServerLimits},
    cork,
    telemetry::OVER_UDP,
};

/// How long a drain waits for the first request of a connection that has just been accepted.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// How long streams have for their good-bye once a drain's deadline has passed: a round trip, and less than the server's patience
/// with its workers.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long what is cut has to be gone.
const CUTTING: Duration = Duration::from_millis(50);

/// Tells listeners with the same address apart (port 0 may be given twice).
pub(super) type ListenerKey = (ListenerAddress, usize);

/// What a listener is to be, as sent to a worker.
pub(super) struct ListenerOrder {
    pub(super) key: ListenerKey,
    pub(super) name: Arc<str>,
    pub(super) index: usize,
    pub(super) mode: PlanMode,
    pub(super) proxy_protocol: Peers,
    pub(super) tls: Option<Arc<ListenerTlsState>>,
    /// There when the listener is new.
    pub(super) sockets: Vec<Listener>,
    /// There where it serves HTTP/3 as well.
    pub(super) http3: Option<Http3Order>,
}

/// How a listener serves HTTP/3.
pub(super) struct Http3Order {
    /// The port that clients are told.
    pub(super) port: u16,
    /// There when this is new.
    pub(super) udp: Option<UdpPort>,
}

/// What a worker is told.
pub(super) enum Order {
    /// To listen on these, and on nothing else.
    Listen(Vec<ListenerOrder>, ServerLimits),
    /// To make answers over HTTP/1.1 the last ones of their connections.
    Soften,
    /// To stop accepting and leave the queues as they are; what is sent along is let go of then.
    Pause(mpsc::UnboundedSender<()>),
    /// To accept again.
    Resume,
    /// To stop accepting, finish what is under way, cut what is left at the deadline, and end. The queues of these listeners are
    /// others' by now.
    Drain(Instant, Vec<ListenerKey>),
}

/// What all connections of a worker share.
pub(super) struct Shared<S> {
    pub(super) service: Rc<S>,
    pub(super) redirects: RefCell<HashMap<u16, Rc<Aside>>>,
    pub(super) observer: Arc<dyn EdgeObserver>,
    pub(super) admission: Arc<Admission>,
    pub(super) challenges: Arc<Challenges>,
    connections: RefCell<Vec<Option<Entry>>>,
    free: RefCell<Vec<usize>>,
    /// Connections and accept loops that have yet to end.
    open: Cell<usize>,
    all_closed: Notify,
}

/// Something that a drain has to wait for.
pub(super) struct Open<S>(Rc<Shared<S>>);

impl<S> Open<S> {
    fn new(shared: &Rc<Shared<S>>) -> Self {
        shared.open.set(shared.open.get() + 1);
        Self(Rc::clone(shared))
    }

    pub(super) fn shared(&self) -> &Rc<Shared<S>> {
        &self.0
    }
}

impl<S> Drop for Open<S> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        if self.0.open.get() == 0 {
            self.0.all_closed.notify_one();
        }
    }
}

struct Entry {
    watch: Rc<ConnectionWatch>,
    draining: Rc<Draining>,
}

/// A listener of this worker. Its settings can change under it; connections keep those they began with.
pub(super) struct Listening {
    pub(super) settings: RefCell<Rc<Settings>>,
    draining: RefCell<Rc<Draining>>,
    pub(super) accepts: Cell<Accepts>,
    pub(super) turned: Notify,
    /// Accept loops that have yet to end.
    pub(super) loops: Cell<usize>,
    /// The sockets of a listener that pauses.
    pub(super) paused: RefCell<Vec<Queue>>,
    pub(super) http3: RefCell<Option<Rc<Quic>>>,
}

/// What accept loops are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepts {
    Yes,
    /// Nothing, and to leave what is in the queue there.
    Paused,
    /// Only what is in the queue.
    UntilEmpty,
}

impl Listening {
    /// What tells its connections, those to come included, to end.
    pub(super) fn draining(&self) -> Rc<Draining> {
        Rc::clone(&self.draining.borrow())
    }

    fn turn(&self, accepts: Accepts) {
        self.accepts.set(accepts);
        self.turned.notify_waiters();
    }
}

pub(super) struct Settings {
    pub(super) name: Arc<str>,
    /// Its name in metrics for what comes over QUIC.
    pub(super) udp_name: Arc<str>,
    pub(super) index: usize,
    pub(super) mode: PlanMode,
    pub(super) proxy_protocol: Peers,
    pub(super) tls: Option<Arc<ListenerTlsState>>,
    pub(super) http: Rc<HttpSettings>,
}

impl Settings {
    /// Whether all that it admitted with `before` it would admit now, in the same way: with as much TLS, as much shown by the client,
    /// and by the same relays.
    fn admits_what(&self, before: &Self) -> bool {
        let same_mode = match (&self.mode, &before.mode) {
            (PlanMode::Tls(now), PlanMode::Tls(before)) => now.asks_what(before),
            (now, before) => now == before,
        };
        same_mode && self.proxy_protocol == before.proxy_protocol
    }
}

/// Runs a worker until it has drained. The service is made here, on the thread that it stays on.
pub(super) async fn run<S: Serve>(
    factory: impl FnOnce() -> Rc<S>,
    (observer, beat): (Arc<dyn EdgeObserver>, Arc<AtomicU64>),
    (admission, challenges): (Arc<Admission>, Arc<Challenges>),
    alarm: &Alarm,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let shared = Rc::new(Shared {
        service: factory(),
        redirects: RefCell::default(),
        observer,
        admission,
        challenges,
        connections: RefCell::default(),
        free: RefCell::default(),
        open: Cell::new(0),
        all_closed: Notify::new(),
    });
    let period = Rc::new(Cell::new(Duration::from_millis(250)));
    spawn_local(alarm.guard(cork::uncork()));
    spawn_local(alarm.guard(sweep(Rc::clone(&shared), Rc::clone(&period), beat)));
    let mut listening = HashMap::new();
    let mut end = (Instant::now(), Vec::new());
    while let Some(order) = orders.recv().await {
        match order {
            Order::Listen(listeners, limits) => {
                let http = Rc::new(HttpSettings::new(&limits));
                period.set(http.bounds.sweep_period());
                listening = listen(&shared, alarm, listening, listeners, &http);
            }
            Order::Soften => listening.values().for_each(|listener| shared.soften(&listener.draining())),
            Order::Pause(done) => {
                pause(&listening).await;
                drop(done);
            }
            Order::Resume => resume(&shared, alarm, &listening),
            Order::Drain(deadline, left) => {
                end = (deadline, left);
                break;
            }
        }
    }
    drain(&shared, listening, end, &mut orders).await;
}

/// Makes the listeners what `orders` say; those without an order stop accepting and drain.
fn listen<S: Serve>(
    shared: &Rc<Shared<S>>,
    alarm: &Alarm,
    mut before: HashMap<ListenerKey, Rc<Listening>>,
    orders: Vec<ListenerOrder>,
    http: &Rc<HttpSettings>,
) -> HashMap<ListenerKey, Rc<Listening>> {
    let mut after = HashMap::new();
    for ListenerOrder { key, name, index, mode, proxy_protocol, tls, sockets, http3 } in orders {
        let settings = Rc::new(Settings {
            udp_name: format!("{name}{OVER_UDP}").into(),
            name,
            index,
            mode,
            proxy_protocol,
            tls,
            http: Rc::clone(http),
        });
        let listening = match before.remove(&key) {
            Some(listening) => {
                let before = listening.settings.replace(settings);
                if !listening.settings.borrow().admits_what(&before) {
                    begin_anew(shared, &listening);
                }
                listening
            }
            None => {
                let listening = Rc::new(Listening {
                    settings: RefCell::new(settings),
                    draining: RefCell::default(),
                    accepts: Cell::new(Accepts::Yes),
                    turned: Notify::new(),
                    loops: Cell::new(0),
                    paused: RefCell::default(),
                    http3: RefCell::default(),
                });
                accept_on(shared, alarm, &listening, sockets);
                listening
            }
        };
        serve_http3(shared, alarm, &listening, http3);
        after.insert(key, listening);
    }
    for removed in before.into_values() {
        end(shared, &removed);
    }
    after
}

/// Starts an accept loop for each socket.
fn accept_on<S: Serve>(shared: &Rc<Shared<S>>, alarm: &Alarm, listening: &Rc<Listening>, sockets: Vec<Listener>) {
    for socket in sockets {
        listening.loops.set(listening.loops.get() + 1);
        spawn_local(alarm.guard(accept_all(Open::new(shared), Rc::clone(listening), socket)));
    }
}

/// Has all accept loops stop, with their queues as they are.
async fn pause(listening: &HashMap<ListenerKey, Rc<Listening>>) {
    for listener in listening.values() {
        listener.turn(Accepts::Paused);
        while listener.loops.get() > 0 {
            listener.turned.notified().await;
        }
    }
}

fn resume<S: Serve>(shared: &Rc<Shared<S>>, alarm: &Alarm, listening: &HashMap<ListenerKey, Rc<Listening>>) {
    for listener in listening.values() {
        listener.accepts.set(Accepts::Yes);
        let paused = listener.paused.take();
        accept_on(shared, alarm, listener, paused.into_iter().map(Queue::into_listener).collect());
    }
}

/// Begins to serve HTTP/3 on a listener, goes on, or ends it.
fn serve_http3<S: Serve>(shared: &Rc<Shared<S>>, alarm: &Alarm, listening: &Rc<Listening>, order: Option<Http3Order>) {
    let before = listening.http3.take();
    let Some(Http3Order { port, udp }) = order else {
        return before.iter().for_each(|quic| end_http3(shared, quic));
    };
    let quic = before.unwrap_or_else(|| {
        let quic = Rc::<Quic>::default();
        if let Some(udp) = udp {
            let serving = http3::accept_all(Open::new(shared), Rc::clone(listening), Rc::clone(&quic), udp);
            spawn_local(alarm.guard(serving));
        }
        quic
    });
    quic.advertise(port);
    *listening.http3.borrow_mut() = Some(quic);
}

/// Lets the connections end in good order that there are: what a listener asks of one to come they were never asked. Streams whose
/// protocol was switched go on, as over a drain.
fn begin_anew<S: 'static>(shared: &Rc<Shared<S>>, listening: &Listening) {
    let over_udp = listening.http3.borrow().as_ref().map(|quic| quic.draining.take());
    for before in over_udp.into_iter().chain([listening.draining.take()]) {
        spawn_local(retire(Rc::clone(shared), before));
    }
}

/// Has a listener accept no more, and lets its connections end in good order.
fn end<S: 'static>(shared: &Rc<Shared<S>>, listening: &Listening) {
    listening.turn(Accepts::UntilEmpty);
    spawn_local(retire(Rc::clone(shared), listening.draining()));
    listening.http3.take().iter().for_each(|quic| end_http3(shared, quic));
}

fn end_http3<S: 'static>(shared: &Rc<Shared<S>>, quic: &Quic) {
    quic.stop();
    spawn_local(retire(Rc::clone(shared), Rc::clone(&quic.draining.borrow())));
}

/// Lets the connections of a listener that is no more end in good order.
async fn retire<S>(shared: Rc<Shared<S>>, draining: Rc<Draining>) {
    draining.begin();
    shared.soften(&draining);
    shared.wake(|entry| Rc::ptr_eq(&entry.draining, &draining));
    sleep(FIRST_REQUEST_GRACE).await;
    draining.be_strict();
    shared.wake(|entry| Rc::ptr_eq(&entry.draining, &draining));
}

async fn drain<S: Serve>(
    shared: &Rc<Shared<S>>,
    listening: HashMap<ListenerKey, Rc<Listening>>,
    (mut deadline, left): (Instant, Vec<ListenerKey>),
    orders: &mut mpsc::UnboundedReceiver<Order>,
) {
    for (key, listener) in listening {
        let queues = listener.paused.take();
        if left.contains(&key) {
            listener.turn(Accepts::Paused);
            let draining = listener.draining();
            draining.begin_patiently();
            shared.soften(&draining);
            shared.wake(|entry| Rc::ptr_eq(&entry.draining, &draining));
            listener.http3.take().iter().for_each(|quic| end_http3(shared, quic));
            continue;
        }
        queues.iter().for_each(|queue| empty(shared, &listener, queue));
        end(shared, &listener);
    }
    let all_closed = || async {
        while shared.open.get() > 0 {
            shared.all_closed.notified().await;
        }
    };
    let due = async {
        loop {
            tokio::select! {
                () = sleep_until(deadline.into()) => return,
                order = orders.recv() => match order {
                    Some(Order::Drain(sooner, _)) => deadline = deadline.min(sooner),
                    Some(Order::Listen(..) | Order::Soften | Order::Pause(_) | Order::Resume) => {}
                    None => break,
                },
            }
        }
        sleep_until(deadline.into()).await;
    };
    tokio::select! {
        () = all_closed() => {}
        () = due => {
            if shared.service.close_streams() {
                // Whether they have said it or not, what is left is cut.
                let _ = tokio::time::timeout(FAREWELL, all_closed()).await;
            }
            for entry in shared.connections.borrow().iter().flatten() {
                entry.watch.condemn(Verdict::Drain);
            }
            // The verdicts are carried out as soon as the connections' tasks get their turn.
            let _ = tokio::time::timeout(CUTTING, async {
                while shared.open.get() > 0 {
                    shared.all_closed.notified().await;
                }
            })
            .await;
        }
    }
}

/// Looks at every connection a few times a second.
async fn sweep<S>(shared: Rc<Shared<S>>, period: Rc<Cell<Duration>>, beat: Arc<AtomicU64>) {
    loop {
        sleep(period.get()).await;
        beat.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        for entry in shared.connections.borrow().iter().flatten() {
            entry.watch.sweep(now);
        }
    }
}

impl<S> Shared<S> {
    /// Makes the answers of a listener's connections their last ones, now and later.
    fn soften(&self, draining: &Rc<Draining>) {
        draining.soften();
        let connections = self.connections.borrow();
        let of_listener = connections.iter().flatten().filter(|entry| Rc::ptr_eq(&entry.draining, draining));
        of_listener.for_each(|entry| entry.watch.last_answers());
    }

    fn wake(&self, which: impl Fn(&Entry) -> bool) {
        for entry in self.connections.borrow().iter().flatten().filter(|entry| which(entry)) {
            entry.watch.wake();
        }
    }
}

/// What an open connection holds: its permit, and its place among those that are swept.
pub(super) struct Held<S> {
    open: Open<S>,
    listener: Arc<str>,
    place: usize,
    verdict: Cell<Option<Verdict>>,
    permit: Permit,
}

impl<S> Held<S> {
    pub(super) fn new(
        shared: &Rc<Shared<S>>,
        listener: &Arc<str>,
        watch: Rc<ConnectionWatch>,
        draining: Rc<Draining>,
        permit: Permit,
    ) -> Self {
        let mut connections = shared.connections.borrow_mut();
        let entry = Some(Entry { watch, draining });
        let place = shared.free.borrow_mut().pop();
        let place = match place.and_then(|place| connections.get_mut(place).map(|slot| (place, slot))) {
            Some((place, slot)) => {
                *slot = entry;
                place
            }
            None => {
                connections.push(entry);
                connections.len() - 1
            }
        };
        drop(connections);
        shared.observer.connection_opened(listener);
        Self { open: Open::new(shared), listener: Arc::clone(listener), place, verdict: Cell::new(None), permit }
    }

    /// Counts the connection for the client that it turned out to be for.
    pub(super) fn count_for(&self, address: IpAddr) -> Result<(), Refused> {
        self.permit.count_for(address)
    }

    /// The connection is gone; with the bound that it exceeded, if it did.
    pub(super) fn end(self, verdict: Option<Verdict>) {
        self.verdict.set(verdict);
    }
}

impl<S> Drop for Held<S> {
    fn drop(&mut self) {
        let shared = &self.open.0;
        if let Some(slot) = shared.connections.borrow_mut().get_mut(self.place) {
            *slot = None;
            shared.free.borrow_mut().push(self.place);
        }
        shared.observer.connection_closed(&self.listener, self.verdict.get());
    }
}
