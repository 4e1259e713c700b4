//! How many requests are under way to a service at once, and who comes next: one exact state for all workers.
//!
//! Those who find no room wait, each in the line of its client, and lines take turns: a client with a hundred waiting delays
//! another's one by one place, not by a hundred. No line is longer than what is free of the queue: one client
//! takes half of it, and leaves room for others. What ends gives its place on to who comes next, so that nobody overtakes. All is found by
//! its number, so that who comes, looks or leaves costs little more with a hundred thousand waiting than with ten.
//!
//! Turns alone would not do: who has places may keep them, by streams that last or by reading slowly. So a client has no more than four
//! times what is free, four fifths alone, and never the last place beside others; what is beyond waits though there is room.
//!
//! A client is an address, of version 6 a /64; there are never more lines than waiting requests, and counts than those under way.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{config::Concurrency, subscriber::Subscriber};

/// How many times of what is free one client may have under way: much, as one address may be many people's, or one service's that has
/// the upstream nearly to itself.
const SHARE: usize = 4;
/// What nobody waits for while there is room: of less there are no shares.
const ALWAYS: usize = 2;

/// The door to a service.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many may be under way, and wait.
    limits: Limits,
    under_way: usize,
    /// Of those, how many each client has; none has none.
    held: HashMap<u64, usize>,
    waiting: usize,
    /// Who waits, by client; no line is empty.
    lines: HashMap<u64, Line>,
    /// How many lines are of clients with fewer than [`ALWAYS`] under way. The last free place is for these alone.
    modest: usize,
    /// Whose turn it is: each line once, by the number of its turn.
    turns: BTreeMap<u64, u64>,
    /// The number of the next who waits, or of the next turn.
    next: u64,
    /// Those who were given a place and have not seen it yet.
    given: HashSet<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    requests: usize,
    queue: usize,
}

/// Those of one client who wait, by their numbers, and so in the order in which they came.
#[derive(Debug)]
struct Line {
    turn: u64,
    waiting: BTreeMap<u64, Option<Waker>>,
}

/// A place among those under way. Dropped, it goes to who comes next.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    client: u64,
}

/// A place in a line. Dropped, it is left.
#[derive(Debug)]
pub(super) struct InLine {
    gate: Arc<Gate>,
    client: u64,
    number: u64,
    is_over: bool,
}

/// What becomes of a request at the door.
#[derive(Debug)]
pub(super) enum Entry {
    /// It is under way.
    Entered(Place),
    /// It waits.
    Waits(InLine),
    /// Too many wait.
    Full,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: usize::MAX, queue: 0 }
    }
}

impl Gate {
    /// How many may be under way and wait from now on; `None`: there is no bound. Who waits already may go on waiting.
    pub(super) fn set(&self, limits: Option<&Concurrency>) {
        let mut state = self.state();
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        state.limits = limits.map_or_else(Limits::default, |limits| Limits {
            requests: count(limits.requests),
            queue: count(limits.queue),
        });
        let wakers = state.fill();
        drop(state);
        wake(wakers);
    }

    /// Asks for a place.
    pub(super) fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Entry {
        // What has no address is nobody in particular, and shares a line.
        let client = client.map_or(u64::MAX, |client| Subscriber::of(client).number());
        let mut state = self.state();
        if state.has_share(client) {
            state.take(client);
            return Entry::Entered(Place { gate: Arc::clone(self), client });
        }
        let free = state.limits.queue.saturating_sub(state.waiting);
        if state.lines.get(&client).map_or(0, |line| line.waiting.len()) >= free {
            return Entry::Full;
        }
        let (number, turn) = (state.number(), state.number());
        state.waiting += 1;
        let State { lines, turns, .. } = &mut *state;
        let is_new = !lines.contains_key(&client);
        let line = lines.entry(client).or_insert_with(|| {
            turns.insert(turn, client);
            Line { turn, waiting: BTreeMap::new() }
        });
        line.waiting.insert(number, None);
        if is_new && state.is_modest(client) {
            state.modest += 1;
        }
        Entry::Waits(InLine { gate: Arc::clone(self), client, number, is_over: false })
    }

    /// How many are under way, and wait.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.under_way, state.waiting)
    }

    fn leave(&self, client: u64) {
        let mut state = self.state();
        state.give_back(client);
        let wakers = state.fill();
        drop(state);
        wake(wakers);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is done under the lock is complete at each point at which it could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is a place for a client.
    fn has_share(&self, client: u64) -> bool {
        let free = self.limits.requests.saturating_sub(self.under_way);
        let held = self.held_by(client);
        free > 0 && (held < ALWAYS || free > 1 && held < free.saturating_mul(SHARE))
    }

    fn held_by(&self, client: u64) -> usize {
        self.held.get(&client).copied().unwrap_or(0)
    }

    fn is_modest(&self, client: u64) -> bool {
        self.held_by(client) < ALWAYS
    }

    fn take(&mut self, client: u64) {
        let was_modest = self.is_modest(client);
        self.under_way += 1;
        *self.held.entry(client).or_default() += 1;
        if was_modest && !self.is_modest(client) && self.lines.contains_key(&client) {
            self.modest -= 1;
        }
    }

    fn give_back(&mut self, client: u64) {
        let was_modest = self.is_modest(client);
        self.under_way = self.under_way.saturating_sub(1);
        match self.held.get_mut(&client) {
            Some(held) if *held > 1 => *held -= 1,
            Some(_) | None => drop(self.held.remove(&client)),
        }
        if !was_modest && self.is_modest(client) && self.lines.contains_key(&client) {
            self.modest += 1;
        }
    }

    /// A line that is empty now.
    fn end_line(&mut self, client: u64) {
        if self.is_modest(client) {
            self.modest -= 1;
        }
        self.lines.remove(&client);
    }

    /// Gives free places to those whose turn it is. Who has its share is passed over, and keeps its turn.
    fn fill(&mut self) -> Vec<Waker> {
        let (mut wakers, mut after) = (Vec::new(), 0);
        while self.under_way < self.limits.requests {
            let is_last = self.limits.requests - self.under_way == 1;
            if is_last && self.modest == 0 {
                break;
            }
            let Some((&turn, &client)) = self.turns.range(after..).next() else { break };
            // Nobody's share grows by what others are given.
            if !self.has_share(client) {
                after = turn + 1;
                continue;
            }
            self.turns.remove(&turn);
            let turn = self.number();
            let Some(line) = self.lines.get_mut(&client) else { continue };
            let next = line.waiting.pop_first();
            if line.waiting.is_empty() {
                self.end_line(client);
            } else {
                line.turn = turn;
                self.turns.insert(turn, client);
            }
            if let Some((number, waker)) = next {
                self.waiting -= 1;
                self.take(client);
                self.given.insert(number);
                wakers.extend(waker);
            }
        }
        wakers
    }

    /// Takes who gave up out of its line.
    fn remove(&mut self, client: u64, number: u64) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        if line.waiting.remove(&number).is_none() {
            return;
        }
        let (turn, is_over) = (line.turn, line.waiting.is_empty());
        self.waiting -= 1;
        if is_over {
            self.turns.remove(&turn);
            self.end_line(client);
        }
    }

    /// A number that nobody has had.
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

impl Future for InLine {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Place> {
        let Self { gate, client, number, .. } = &*self;
        let mut state = gate.state();
        if state.given.remove(number) {
            drop(state);
            let place = Place { gate: Arc::clone(gate), client: *client };
            self.is_over = true;
            return Poll::Ready(place);
        }
        if let Some(waker) = state.lines.get_mut(client).and_then(|line| line.waiting.get_mut(number)) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.gate.state();
        if state.given.remove(&self.number) {
            // Nobody is there any more to take it.
            drop(state);
            self.gate.leave(self.client);
        } else {
            state.remove(self.client, self.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.leave(self.client);
    }
}

/// Outside of the lock: whoever is woken may ask for it at once.
fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails should panic")]

    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use super::*;

    fn gate(requests: u32, queue: u32) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        gate.set(Some(&Concurrency { requests, queue, queue_timeout: Duration::from_secs(1) }));
        gate
    }

    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    fn entered(gate: &Arc<Gate>) -> Place {
        match gate.enter(client(0)) {
            Entry::Entered(place) => place,
            Entry::Waits(_) | Entry::Full => panic!("there is room"),
        }
    }

    fn waits(gate: &Arc<Gate>, of: u8) -> InLine {
        match gate.enter(client(of)) {
            Entry::Waits(turn) => turn,
            Entry::Entered(_) | Entry::Full => panic!("there is no room, but a queue"),
        }
    }

    fn poll(turn: &mut InLine) -> Option<Place> {
        match Pin::new(turn).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn no_more_are_under_way_than_may_be_and_no_more_wait() {
        let gate = gate(2, 1);
        let places = [entered(&gate), entered(&gate)];
        let turn = waits(&gate, 1);
        assert!(matches!(gate.enter(client(2)), Entry::Full));
        assert_eq!(gate.load(), (2, 1));
        drop((places, turn));
        assert_eq!(gate.load(), (0, 0));
    }

    #[test]
    fn clients_take_turns_however_many_each_has_waiting() {
        let gate = gate(1, 512);
        let mut place = Some(entered(&gate));
        let mut greedy: Vec<InLine> = (0..100).map(|_| waits(&gate, 1)).collect();
        let (mut modest, mut other) = (waits(&gate, 2), waits(&gate, 3));
        place = {
            drop(place);
            greedy.iter_mut().find_map(poll)
        };
        assert!(place.is_some() && poll(&mut modest).is_none());
        place = {
            drop(place);
            poll(&mut modest)
        };
        assert!(place.is_some(), "the second place is not the first client's");
        place = {
            drop(place);
            poll(&mut other)
        };
        assert!(place.is_some());
        drop(place);
        assert_eq!(greedy.iter_mut().filter_map(poll).count(), 99, "each gives its place on at once");
    }

    #[test]
    fn one_clients_line_leaves_room_for_others() {
        let gate = gate(1, 100);
        let place = entered(&gate);
        let line = |of: u8| {
            let all = std::iter::from_fn(|| match gate.enter(client(of)) {
                Entry::Waits(turn) => Some(turn),
                Entry::Entered(_) | Entry::Full => None,
            });
            all.collect::<Vec<InLine>>()
        };
        let (first, second) = (line(1), line(2));
        assert_eq!((first.len(), second.len()), (50, 25));
        drop((waits(&gate, 3), first, second));
        drop(place);
        assert_eq!(gate.load(), (0, 0));
    }

    /// By streams that last, say: then no turns would help those who come later.
    #[test]
    fn one_client_never_has_all_places_however_long_it_keeps_them() {
        for (requests, most) in [(2, 2), (3, 2), (4, 3), (10, 8), (1024, 820)] {
            let gate = gate(requests, 100);
            let held = |of: u8| {
                let all = std::iter::from_fn(|| match gate.enter(client(of)) {
                    Entry::Entered(place) => Some(place),
                    Entry::Waits(_) | Entry::Full => None,
                });
                all.collect::<Vec<Place>>()
            };
            let first = held(1);
            assert_eq!(first.len(), most, "of {requests}");
            let mut beyond = waits(&gate, 1);
            let second = held(2);
            assert!(requests < 3 || !second.is_empty(), "of {requests}");
            let third = held(3);
            assert!(poll(&mut beyond).is_none());
            drop(first);
            assert!(poll(&mut beyond).is_some(), "what it gave back is there for it as well");
            drop((beyond, second, third));
            let state = gate.state();
            assert_eq!((state.under_way, state.held.len(), state.lines.len(), state.turns.len()), (0, 0, 0, 0));
            assert_eq!(state.modest, 0);
        }
    }

    #[test]
    fn who_has_its_share_is_passed_over_and_keeps_its_turn() {
        let gate = gate(4, 100);
        let mut places: Vec<Place> = [1, 1, 1, 2]
            .map(|of| match gate.enter(client(of)) {
                Entry::Entered(place) => place,
                Entry::Waits(_) | Entry::Full => panic!("there is room"),
            })
            .into();
        let (mut greedy, mut modest) = (waits(&gate, 1), waits(&gate, 3));
        drop(places.pop());
        assert!(poll(&mut greedy).is_none());
        let modest = poll(&mut modest);
        assert!(modest.is_some());
        places.truncate(2);
        let mut late = waits(&gate, 1);
        assert!(poll(&mut greedy).is_none(), "the last place is for who has fewer");
        drop(modest);
        assert!(poll(&mut greedy).is_some());
        assert!(poll(&mut late).is_some());
    }

    proptest::proptest! {
        #[test]
        fn nobody_waits_for_whom_there_is_a_place_whatever_happened(
            most in 1_u32..12, steps in proptest::collection::vec((0_u8..5, 0_u8..6, proptest::prelude::any::<usize>()), 1..300),
        ) {
            let gate = gate(most, 40);
            let (mut places, mut waiting) = (Vec::new(), Vec::new());
            for (what, of, which) in steps {
                match what {
                    0 | 1 => match gate.enter(client(of)) {
                        Entry::Entered(place) => places.push(place),
                        Entry::Waits(turn) => waiting.push(turn),
                        Entry::Full => {}
                    },
                    2 if !places.is_empty() => drop(places.swap_remove(which % places.len())),
                    3 if !waiting.is_empty() => drop(waiting.swap_remove(which % waiting.len())),
                    _ => places.extend(waiting.extract_if(.., |turn| gate.state().given.contains(&turn.number)).filter_map(|mut turn| poll(&mut turn))),
                }
                let state = gate.state();
                let held: usize = state.held.values().sum();
                proptest::prop_assert_eq!(held, state.under_way);
                proptest::prop_assert!(state.under_way <= usize::try_from(most).unwrap());
                proptest::prop_assert!(!state.turns.values().any(|client| state.has_share(*client)));
                proptest::prop_assert_eq!(state.modest, state.turns.values().filter(|client| state.is_modest(**client)).count());
                proptest::prop_assert_eq!(state.waiting, state.lines.values().map(|line| line.waiting.len()).sum::<usize>());
            }
        }
    }

    #[test]
    fn nobody_overtakes_who_waits() {
        let gate = gate(1, 8);
        let place = entered(&gate);
        let mut turn = waits(&gate, 1);
        drop(place);
        // The place is given, though nobody has looked yet.
        let late = waits(&gate, 2);
        assert!(poll(&mut turn).is_some());
        drop(late);
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let gate = gate(1, 8);
        let place = entered(&gate);
        for _ in 0..10_000 {
            drop(waits(&gate, 1));
        }
        let state = gate.state();
        assert_eq!((state.waiting, state.lines.len(), state.turns.len(), state.given.len()), (0, 0, 0, 0));
        drop(state);
        drop(place);
    }

    /// With a look at the whole line for each of them this would take minutes.
    #[test]
    fn a_queue_of_a_hundred_thousand_costs_each_little() {
        let gate = gate(1, 200_000);
        let place = entered(&gate);
        let one = |number: u32| match gate.enter(Some(IpAddr::from(number.to_be_bytes()))) {
            Entry::Waits(turn) => turn,
            Entry::Entered(_) | Entry::Full => panic!("there is no room, but a queue"),
        };
        let mut line: Vec<InLine> = (0..100_000).map(|number| one(if number < 50_000 { 7 } else { number })).collect();
        assert_eq!(gate.state().turns.len(), 50_001);
        for turn in &mut line {
            assert!(poll(turn).is_none());
        }
        // From the middle outwards: neither end is near.
        while !line.is_empty() {
            drop(line.swap_remove(line.len() / 2));
        }
        drop(place);
        let state = gate.state();
        assert_eq!((state.waiting, state.lines.len(), state.turns.len(), state.given.len()), (0, 0, 0, 0));
    }

    #[test]
    fn a_place_that_was_given_to_who_gave_up_goes_on_to_the_next() {
        let gate = gate(1, 8);
        let place = entered(&gate);
        let (first, mut second) = (waits(&gate, 1), waits(&gate, 2));
        drop(place);
        drop(first);
        assert!(poll(&mut second).is_some());
        assert_eq!(gate.load(), (0, 0));
    }

    #[test]
    fn more_room_lets_in_who_waits_and_less_lets_nobody_in_before_there_is_some() {
        let gate = gate(1, 8);
        let first = entered(&gate);
        let mut turn = waits(&gate, 1);
        gate.set(Some(&Concurrency { requests: 2, queue: 8, queue_timeout: Duration::from_secs(1) }));
        let second = poll(&mut turn).unwrap();
        gate.set(Some(&Concurrency { requests: 1, queue: 8, queue_timeout: Duration::from_secs(1) }));
        drop(first);
        let mut turn = waits(&gate, 1);
        assert!(poll(&mut turn).is_none());
        drop(second);
        assert!(poll(&mut turn).is_some());
        let _place = entered(&gate);
        let turn = waits(&gate, 1);
        gate.set(None);
        assert_eq!(gate.load(), (2, 0));
        drop(turn);
    }

    #[test]
    fn threads_never_exceed_the_bound_and_everybody_gets_in() {
        let gate = gate(3, 4096);
        let seen = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)));
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (gate, seen) = (&gate, &seen);
                scope.spawn(move || {
                    let local = tokio::task::LocalSet::new();
                    for task in 0..200_u8 {
                        let (gate, seen) = (Arc::clone(gate), Arc::clone(seen));
                        local.spawn_local(async move {
                            let (inside, most, served) = &*seen;
                            let place = match gate.enter(client(thread.wrapping_add(task % 7))) {
                                Entry::Entered(place) => place,
                                Entry::Waits(turn) if task % 3 == 0 => {
                                    tokio::task::yield_now().await;
                                    return drop(turn); // every third gives up
                                }
                                Entry::Waits(turn) => turn.await,
                                Entry::Full => panic!("the queue has room for all"),
                            };
                            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, SeqCst);
                            served.fetch_add(1, SeqCst);
                            drop(place);
                        });
                    }
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(local);
                });
            }
        });
        let (_, most, served) = &*seen;
        assert!(most.load(SeqCst) <= 3 && served.load(SeqCst) >= 4 * 133);
        assert_eq!(gate.load(), (0, 0));
        let state = gate.state();
        assert_eq!((state.lines.len(), state.turns.len(), state.given.len()), (0, 0, 0));
        assert_eq!((state.modest, state.held.len()), (0, 0));
    }
}
