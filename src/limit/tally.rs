//! A count that every request changes on every worker, without one waiting for another's cache line.
//!
//! ```text
//! taken ── in batches of 64 ──> a worker's lane ── one by one ──> its requests
//! in use  =  taken  −  what lies in the lanes
//! ```
//! A lane is written by one thread alone, so that to take and to give back is a load and a store on a line of the worker's own. What is
//! shared changes once in 64 times at most, and not at all while a worker's requests come and go evenly. The price: `taken` says too
//! much, by what lies in the lanes, so whoever would refuse by it looks at all of them first. Threads beyond the lanes there are
//! count on what is shared.

use std::{
    cell::Cell,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// How many are taken at once: enough that the shared line rests, and few beside the bounds there are.
const BATCH: u32 = 64;
/// A lane is a cache line, and each count has this many at most.
const MOST_LANES: usize = 64;

/// A count.
#[derive(Debug)]
pub(super) struct Tally {
    taken: AtomicU32,
    lanes: Box<[Lane]>,
}

/// What one thread has taken and does not use.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane(AtomicU32);

impl Default for Tally {
    fn default() -> Self {
        Self { taken: AtomicU32::new(0), lanes: (0..lanes()).map(|_| Lane::default()).collect() }
    }
}

impl Tally {
    /// Counts one more, and says how many there were at most.
    pub(super) fn add(&self) -> u32 {
        let Some(Lane(spare)) = self.lane() else { return self.taken.fetch_add(1, Relaxed) };
        match spare.load(Relaxed) {
            0 => {
                spare.store(BATCH, Relaxed);
                self.taken.fetch_add(BATCH + 1, Relaxed)
            }
            left => {
                spare.store(left - 1, Relaxed);
                self.taken.load(Relaxed).saturating_sub(left)
            }
        }
    }

    /// Counts one less.
    pub(super) fn subtract(&self) {
        let Some(Lane(spare)) = self.lane() else {
            self.taken.fetch_sub(1, Relaxed);
            return;
        };
        let left = spare.load(Relaxed) + 1;
        if left > 2 * BATCH {
            spare.store(left - BATCH, Relaxed);
            self.taken.fetch_sub(BATCH, Relaxed);
        } else {
            spare.store(left, Relaxed);
        }
    }

    /// How many there are. It is the moment's business what changes while this looks.
    pub(super) fn in_use(&self) -> u32 {
        let spare: u32 = self.lanes.iter().map(|Lane(spare)| spare.load(Relaxed)).sum();
        self.taken.load(Relaxed).saturating_sub(spare)
    }

    fn lane(&self) -> Option<&Lane> {
        LANE.try_with(|number| self.lanes.get(number.0.get())).ok().flatten()
    }
}

/// How many lanes a count has: as many as there are threads that can run at once.
fn lanes() -> usize {
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(MOST_LANES))
}

/// A thread's lane, which no other has while it runs.
struct Number(Cell<usize>);

/// The lanes that were given back, and the first that nobody has had.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

thread_local! {
    static LANE: Number = Number::new();
}

impl Number {
    fn new() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let (back, next) = &mut *free;
        Self(Cell::new(back.pop().unwrap_or_else(|| {
            *next += 1;
            *next - 1
        })))
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).0.push(self.0.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_be_there_is_never_less_than_what_is() {
        let tally = Tally::default();
        for count in 0..1000 {
            assert!((count..=count + BATCH).contains(&tally.add()));
            assert_eq!(tally.in_use(), count + 1);
        }
        for count in (0..1000).rev() {
            tally.subtract();
            assert_eq!(tally.in_use(), count);
        }
        assert!(tally.taken.load(Relaxed) <= 2 * BATCH, "what is not used goes back");
    }

    #[test]
    fn what_many_threads_add_and_others_subtract_comes_to_nought() {
        let tally = Tally::default();
        for _ in 0..4 {
            std::thread::scope(|scope| {
                for _ in 0..2 * lanes() {
                    scope.spawn(|| {
                        for _ in 0..5000 {
                            tally.add();
                        }
                    });
                }
            });
            assert_eq!(tally.in_use() as usize, 2 * lanes() * 5000);
            std::thread::scope(|scope| {
                for _ in 0..2 * lanes() {
                    scope.spawn(|| (0..5000).for_each(|_| tally.subtract()));
                }
            });
            assert_eq!(tally.in_use(), 0);
        }
    }
}
