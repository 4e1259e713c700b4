//! How many requests are in flight, over all workers, and who holds them.
//!
//! One rule bounds all: a holder may have as many as are still free (Choudhury and Hahne's dynamic threshold). One client alone
//! comes to half of the bound, two to a third each, and some are always free for who has none. A route and an upstream may have four
//! times as many as are free, so four fifths alone: they are many clients' at once. What is less urgent finds the bound lower.
//!
//! What a request costs without pressure, which is while no more than half of the bound is in flight: when it comes and when it goes one
//! atomic addition, on a count of its client's own, and a load and a store on lines of its worker's own for each of the other three
//! ([`Tally`]). Nothing that all workers write is written, nothing is looked at but the total, and the hash of the client is a dozen
//! multiplications and shifts. With pressure all is counted exactly before anybody is refused.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use super::tally::Tally;
use crate::{config::Priority, spread::mix, subscriber::Subscriber};

/// Counts for clients. Clients that share one by chance share what one may hold; with a thousand clients at once that is one in
/// sixteen, and which ones nobody outside can tell.
const CLIENTS: usize = 16 * 1024;

/// How many times of what is free a route or an upstream may hold.
const SERVICE_FACTOR: u32 = 4;

/// What nobody is refused for: so few are no danger to anybody.
const ALWAYS: u32 = 2;

/// Why a request finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many as there may be, for what has its priority.
    Requests,
    /// Its client has as many as it may.
    Client,
    /// Its route has.
    Route,
    /// Its upstream has.
    Upstream,
}

impl Full {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Client, Self::Route, Self::Upstream];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Client => "client",
            Self::Route => "route",
            Self::Upstream => "upstream",
        }
    }
}

/// The requests that one route, or one upstream, has in flight.
#[derive(Debug, Default)]
pub struct Holder {
    count: Tally,
    /// Whether there are others beside it that could be kept from their share.
    contended: AtomicBool,
}

/// The two holders of a request besides its client; they outlive configurations.
#[derive(Debug, Clone)]
pub struct Holders {
    /// The route.
    pub route: Arc<Holder>,
    /// The upstream.
    pub upstream: Arc<Holder>,
}

/// One request in flight; given back to [`InFlight::leave`], by who holds it.
#[derive(Debug)]
#[must_use = "a place that is not given back is lost"]
pub struct InFlightPlace(u16);

/// The requests in flight.
#[derive(Debug)]
pub struct InFlight {
    total: Tally,
    most: AtomicU32,
    clients: Box<[AtomicU32]>,
    /// What nobody outside knows.
    keys: [u64; 2],
    routes: Mutex<HashMap<Arc<str>, Arc<Holder>>>,
    upstreams: Mutex<HashMap<Arc<str>, Arc<Holder>>>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            total: Tally::default(),
            most: AtomicU32::new(u32::MAX),
            clients: (0..CLIENTS).map(|_| AtomicU32::new(0)).collect(),
            keys: [RandomState::new().hash_one(0), RandomState::new().hash_one(1)],
            routes: Mutex::default(),
            upstreams: Mutex::default(),
        }
    }
}

impl InFlight {
    /// Bounds requests from now on.
    pub fn set_most(&self, most: u32) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many are in flight.
    pub fn total(&self) -> u32 {
        self.total.in_use()
    }

    /// The holders of a route's requests; the same for the same names, whatever is reloaded. Those that are there already stay as
    /// they are.
    pub fn holders(&self, route: &Arc<str>, upstream: &Arc<str>) -> Holders {
        Holders { route: holder(&self.routes, route), upstream: holder(&self.upstreams, upstream) }
    }

    /// Lets a request in, or says what is full.
    ///
    /// # Errors
    /// What is full; then nothing is held.
    pub fn enter(&self, client: IpAddr, holders: &Holders, priority: Priority) -> Result<InFlightPlace, Full> {
        let place = InFlightPlace(self.bucket(client));
        let most = self.most.load(Ordering::Relaxed);
        let of_client = self.count(&place).map_or(0, |count| count.fetch_add(1, Ordering::Relaxed));
        holders.route.count.add();
        holders.upstream.count.add();
        // While half is free nobody can have too many, of whatever priority.
        if self.total.add() < most / 2 {
            return Ok(place);
        }
        match self.full(most, of_client, holders, priority) {
            None => Ok(place),
            Some(full) => {
                self.leave(place, holders);
                Err(full)
            }
        }
    }

    /// What is too full for a request that is counted already.
    fn full(&self, most: u32, of_client: u32, holders: &Holders, priority: Priority) -> Option<Full> {
        let besides = |count: &Tally| count.in_use().saturating_sub(1);
        let total = besides(&self.total);
        let free = most.saturating_sub(total);
        let shared = free.saturating_mul(SERVICE_FACTOR).max(ALWAYS);
        if total >= bound(most, priority) {
            Some(Full::Requests)
        } else if of_client >= free.max(ALWAYS) {
            Some(Full::Client)
        } else if holders.route.is_contended() && besides(&holders.route.count) >= shared {
            Some(Full::Route)
        } else if holders.upstream.is_contended() && besides(&holders.upstream.count) >= shared {
            Some(Full::Upstream)
        } else {
            None
        }
    }

    /// A request is over.
    pub fn leave(&self, place: InFlightPlace, holders: &Holders) {
        self.total.subtract();
        if let Some(count) = self.count(&place) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        holders.route.count.subtract();
        holders.upstream.count.subtract();
    }

    fn count(&self, place: &InFlightPlace) -> Option<&AtomicU32> {
        self.clients.get(usize::from(place.0))
    }

    fn bucket(&self, client: IpAddr) -> u16 {
        let [one, other] = self.keys;
        let hash = mix(mix(Subscriber::of(client).number() ^ one) ^ other);
        u16::try_from(hash % CLIENTS as u64).unwrap_or_default()
    }
}

/// Streams that last: by the same rule, and apart from requests, which come and go. As many in all as there may be connections, and as
/// there are files for: each has a connection of its own to its service, while one of a client's may hold many.
#[derive(Debug)]
pub struct StreamsOpen {
    all: InFlight,
    holders: Holders,
}

/// One stream that lasts. Dropped, it gives its place back.
#[derive(Debug)]
pub struct StreamPlace {
    among: Arc<StreamsOpen>,
    place: Option<InFlightPlace>,
}

impl Default for StreamsOpen {
    fn default() -> Self {
        let all = InFlight::default();
        let everybody = Arc::from("");
        let holders = all.holders(&everybody, &everybody);
        Self { all, holders }
    }
}

impl StreamsOpen {
    /// Lets a stream in where there are to be no more than `most`.
    ///
    /// # Errors
    /// What is full.
    pub fn enter(self: &Arc<Self>, client: IpAddr, most: u32) -> Result<StreamPlace, Full> {
        self.all.set_most(most);
        let place = self.all.enter(client, &self.holders, Priority::Critical)?;
        Ok(StreamPlace { among: Arc::clone(self), place: Some(place) })
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.among.all.leave(place, &self.among.holders);
        }
    }
}

/// What of the bound there is for a priority: a quarter is kept from `low`, an eighth from `normal`.
fn bound(most: u32, priority: Priority) -> u32 {
    match priority {
        Priority::Critical => most,
        Priority::Normal => most - most / 8,
        Priority::Low => most - most / 4,
    }
}

fn holder(known: &Mutex<HashMap<Arc<str>, Arc<Holder>>>, name: &Arc<str>) -> Arc<Holder> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    // Names that no configuration has any more.
    known.retain(|other, holder| other == name || Arc::strong_count(holder) > 1);
    known.entry(name.clone()).or_default().clone()
}

impl Holders {
    /// Says whether there are other routes, and other upstreams, that could be kept from their share.
    pub fn put_in_force(&self, (routes, upstreams): (bool, bool)) {
        self.route.contended.store(routes, Ordering::Relaxed);
        self.upstream.contended.store(upstreams, Ordering::Relaxed);
    }
}

impl Holder {
    fn is_contended(&self) -> bool {
        self.contended.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn names(in_flight: &InFlight, route: &str, upstream: &str) -> Holders {
        let holders = in_flight.holders(&route.into(), &upstream.into());
        holders.put_in_force((true, true));
        holders
    }

    fn fill(in_flight: &InFlight, client: IpAddr, holders: &Holders, priority: Priority) -> (Vec<InFlightPlace>, Full) {
        let mut held = Vec::new();
        loop {
            match in_flight.enter(client, holders, priority) {
                Ok(place) => held.push(place),
                Err(full) => return (held, full),
            }
        }
    }

    #[test]
    fn one_client_takes_half_and_the_next_a_third_and_there_is_always_room_for_another() {
        let in_flight = InFlight::default();
        in_flight.set_most(96);
        let alone = in_flight.holders(&"r".into(), &"u".into());
        let (first, full) = fill(&in_flight, client(1), &alone, Priority::Critical);
        assert_eq!((first.len(), full), (48, Full::Client));
        let (second, _) = fill(&in_flight, client(2), &alone, Priority::Critical);
        assert_eq!(second.len(), 24, "half of what the first has left");
        let _third = in_flight.enter(client(3), &alone, Priority::Critical).unwrap();
        for place in first {
            in_flight.leave(place, &alone);
        }
        let (more, _) = fill(&in_flight, client(2), &alone, Priority::Critical);
        assert!(second.len() + more.len() >= 46, "what was given back is there again: {}", more.len());
    }

    #[test]
    fn a_route_and_an_upstream_leave_a_fifth_to_the_others() {
        for (other, why) in [(("q", "u"), Full::Upstream), (("r", "v"), Full::Route)] {
            let in_flight = InFlight::default();
            in_flight.set_most(100);
            let (busy, beside) = (names(&in_flight, "r", "u"), names(&in_flight, other.0, other.1));
            let held = (0..200).filter(|n| in_flight.enter(client(*n), &busy, Priority::Critical).is_ok()).count();
            assert_eq!(held, 80);
            assert_eq!(in_flight.enter(client(201), &beside, Priority::Critical).unwrap_err(), why, "shared");
            assert!(in_flight.enter(client(202), &names(&in_flight, "a", "b"), Priority::Critical).is_ok());
        }
    }

    #[test]
    fn a_configuration_that_is_compiled_and_not_put_in_force_changes_nothing() {
        let in_flight = InFlight::default();
        let alone = in_flight.holders(&"r".into(), &"u".into());
        let others = names(&in_flight, "q", "v");
        let refused = in_flight.holders(&"r".into(), &"u".into());
        let _ = in_flight.holders(&"q".into(), &"v".into());
        assert!(!alone.route.is_contended() && !alone.upstream.is_contended());
        assert!(others.route.is_contended() && others.upstream.is_contended());
        refused.put_in_force((true, false));
        assert!(alone.route.is_contended() && !alone.upstream.is_contended(), "it is the same holder");
    }

    #[test]
    fn what_is_less_urgent_finds_the_bound_lower() {
        let in_flight = InFlight::default();
        in_flight.set_most(64);
        let alone = in_flight.holders(&"r".into(), &"u".into());
        let held = |priority| (0..=250).filter(|n| in_flight.enter(client(*n), &alone, priority).is_ok()).count();
        assert_eq!(held(Priority::Low), 48);
        assert_eq!(held(Priority::Low), 0);
        assert_eq!(held(Priority::Normal), 8);
        assert_eq!(held(Priority::Critical), 8);
        assert_eq!(in_flight.total(), 64);
    }

    #[test]
    fn one_client_cannot_hold_all_streams_and_what_ends_is_given_back() {
        let streams = Arc::new(StreamsOpen::default());
        let mut held = Vec::new();
        let full = loop {
            match streams.enter(client(1), 100) {
                Ok(place) => held.push(place),
                Err(full) => break full,
            }
        };
        assert_eq!((held.len(), full), (50, Full::Client));
        assert!(streams.enter(client(2), 100).is_ok());
        drop(held);
        assert_eq!(streams.all.total(), 0);
    }

    #[test]
    fn what_is_given_back_by_many_threads_is_all_given_back() {
        let in_flight = InFlight::default();
        in_flight.set_most(40);
        let holders = names(&in_flight, "r", "u");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (in_flight, holders) = (&in_flight, &holders);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        if let Ok(place) = in_flight.enter(client(number), holders, Priority::Normal) {
                            in_flight.leave(place, holders);
                        }
                    }
                });
            }
        });
        assert_eq!(in_flight.total(), 0);
        assert_eq!((holders.route.count.in_use(), holders.upstream.count.in_use()), (0, 0));
        assert!(in_flight.clients.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn a_bound_that_shrinks_below_what_workers_have_in_their_lanes_refuses_nobody_for_it() {
        let in_flight = InFlight::default();
        let alone = in_flight.holders(&"r".into(), &"u".into());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (all, held) = (&in_flight, &alone);
                let places: Vec<_> = (0..200).filter_map(|n| all.enter(client(n), held, Priority::Low).ok()).collect();
                places.into_iter().for_each(|place| all.leave(place, held));
            });
        });
        in_flight.set_most(16);
        let (first, full) = fill(&in_flight, client(1), &alone, Priority::Critical);
        assert_eq!((first.len(), full), (8, Full::Client));
    }

    #[test]
    fn a_route_keeps_its_count_over_reloads_and_leaves_when_no_configuration_has_it() {
        let in_flight = InFlight::default();
        let before = names(&in_flight, "r", "u");
        let after = names(&in_flight, "r", "u");
        assert!(Arc::ptr_eq(&before.route, &after.route));
        drop((before, after));
        let _other = names(&in_flight, "q", "v");
        assert_eq!(in_flight.routes.lock().unwrap().len(), 1);
    }
}
