//! States by key, bounded in memory however many users and addresses somebody invents.
//!
//! A state that says something is never pushed out. When there is no more room, new keys share one of a fixed number of
//! states, chosen by a part of the key: who comes then is judged together with strangers, which locks too much and never
//! too little.

use std::{
    hash::BuildHasherDefault,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;

use crate::identity::cache::IdHasher;

/// How many states new keys share when there is no more room.
const SHARED: usize = 4096;
/// How long a full table waits before it is looked through again.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// A state whose default means that nothing has happened.
pub(super) trait State: Default + Copy + Send + Sync {
    /// Whether it is as good as the default.
    fn is_idle(&self, now: Instant) -> bool;
}

/// A digest under a key of this process, so that nobody can aim at a bucket.
pub(super) type Id = [u8; 16];

/// What a state is kept by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Its own.
    pub(super) id: Id,
    /// Whose it shares when there is no more room.
    pub(super) group: Id,
}

/// Where a state is kept: what was taken from it is to be given back there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Under its own key.
    Own(Id),
    /// Among those that are shared.
    Shared(usize),
}

/// The states.
#[derive(Debug)]
pub(super) struct Table<S> {
    own: DashMap<Id, S, BuildHasherDefault<IdHasher>>,
    count: AtomicUsize,
    room: usize,
    shared: Box<[Mutex<S>]>,
    swept: Mutex<Option<Instant>>,
}

impl<S: State> Table<S> {
    /// A table of so many states at most.
    pub(super) fn new(room: usize) -> Self {
        let shared = (0..SHARED).map(|_| Mutex::default()).collect();
        Self { own: DashMap::default(), count: AtomicUsize::new(0), room, shared, swept: Mutex::default() }
    }

    /// What is known by a key, without making room for it.
    pub(super) fn look(&self, key: &Key) -> S {
        // Where nothing is wrong there is nothing to look up.
        if self.count.load(Ordering::Relaxed) == 0 {
            return S::default();
        }
        match self.own.get(&key.id) {
            Some(state) => *state,
            None if self.is_full() => self.at(Place::Shared(shared_by(key)), |state| *state).unwrap_or_default(),
            None => S::default(),
        }
    }

    /// Does something with the state of a key, and says where that is.
    pub(super) fn with<R>(&self, key: &Key, now: Instant, act: impl FnOnce(&mut S) -> R) -> (R, Place) {
        if let Some(mut state) = self.own.get_mut(&key.id) {
            return (act(&mut state), Place::Own(key.id));
        }
        if self.is_full() {
            self.sweep_if_due(now);
        }
        if self.is_full() {
            let at = shared_by(key);
            if let Some(state) = self.shared.get(at) {
                return (act(&mut state.lock().unwrap_or_else(PoisonError::into_inner)), Place::Shared(at));
            }
        }
        let mut state = self.own.entry(key.id).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            S::default()
        });
        (act(&mut state), Place::Own(key.id))
    }

    /// Does something with the state at a place; `None`: it is idle and gone.
    pub(super) fn at<R>(&self, place: Place, act: impl FnOnce(&mut S) -> R) -> Option<R> {
        match place {
            Place::Own(id) => self.own.get_mut(&id).map(|mut state| act(&mut state)),
            Place::Shared(at) => {
                self.shared.get(at).map(|state| act(&mut state.lock().unwrap_or_else(PoisonError::into_inner)))
            }
        }
    }

    /// Lets go of what says nothing any more.
    pub(super) fn sweep(&self, now: Instant) {
        self.own.retain(|_, state| {
            let kept = !state.is_idle(now);
            if !kept {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            kept
        });
    }

    /// How many states there are of a kind.
    pub(super) fn count_of(&self, is_one: impl Fn(&S) -> bool) -> usize {
        let shared = self.shared.iter().filter(|state| is_one(&state.lock().unwrap_or_else(PoisonError::into_inner)));
        self.own.iter().filter(|state| is_one(state)).count() + shared.count()
    }

    fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.room
    }

    fn sweep_if_due(&self, now: Instant) {
        let Ok(mut swept) = self.swept.try_lock() else { return };
        if swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_PAUSE) {
            *swept = Some(now);
            self.sweep(now);
        }
    }
}

fn shared_by(key: &Key) -> usize {
    let [a, b, ..] = key.group;
    usize::from(u16::from_be_bytes([a, b])) % SHARED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Clone, Copy, PartialEq)]
    struct Until(Option<Instant>);

    impl State for Until {
        fn is_idle(&self, now: Instant) -> bool {
            self.0.is_none_or(|until| until <= now)
        }
    }

    fn key(number: u8, group: u8) -> Key {
        Key { id: [number; 16], group: [group; 16] }
    }

    #[test]
    fn what_says_something_is_never_pushed_out_and_newcomers_share() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let table = Table::<Until>::new(3);
        for number in 0..3 {
            let ((), place) = table.with(&key(number, 0), now, |state| state.0 = Some(later));
            assert_eq!(place, Place::Own([number; 16]));
        }
        let ((), place) = table.with(&key(9, 7), now, |state| state.0 = Some(later));
        assert!(matches!(place, Place::Shared(_)));
        let (seen, again) = table.with(&key(10, 7), now, |state| *state);
        assert_eq!((seen.0, again), (Some(later), place), "who has the same group is judged together");
        assert_eq!(table.look(&key(11, 7)).0, Some(later));
        assert_eq!(table.look(&key(11, 8)).0, None);
        for number in 0..3 {
            assert_eq!(table.look(&key(number, 0)).0, Some(later));
        }
        assert_eq!(table.count_of(|state| !state.is_idle(now)), 4);
    }

    #[test]
    fn what_says_nothing_any_more_makes_room() {
        let now = Instant::now();
        let table = Table::<Until>::new(2);
        for number in 0..2 {
            table.with(&key(number, 0), now, |state| state.0 = Some(now + Duration::from_secs(1)));
        }
        let later = now + Duration::from_secs(2);
        let ((), place) = table.with(&key(5, 0), later, |state| state.0 = Some(later + Duration::from_secs(1)));
        assert_eq!(place, Place::Own([5; 16]));
        assert_eq!(table.at(Place::Own([0; 16]), |_| ()), None);
        table.sweep(later + Duration::from_secs(1));
        assert_eq!(table.look(&key(5, 0)), Until(None));
    }
}
