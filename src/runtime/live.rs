//! The snapshot in force. Workers read it without a lock; a reload swaps it for all of them at once.

use std::{
    rc::Rc,
    sync::{Arc, Weak},
};

use arc_swap::{ArcSwap, Cache};

use super::Snapshot;

/// The snapshot in force.
#[derive(Debug, Clone)]
pub struct Live(Arc<ArcSwap<Snapshot>>);

/// The same for who looks after it, and keeps nothing of it alive.
#[derive(Debug, Clone)]
pub struct WeakLive(Weak<ArcSwap<Snapshot>>);

/// Something that all workers have, with its holders on one worker counted there: a count that all of them share would
/// cost each request a line of the others' cache.
pub type OnWorker<T> = Rc<Arc<T>>;

/// One worker's view of it, refreshed by a comparison.
#[derive(Debug)]
pub struct LiveView {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    held: OnWorker<Snapshot>,
}

impl Live {
    /// Puts the first snapshot in force.
    pub fn new(snapshot: Snapshot) -> Self {
        snapshot.look_after_upstreams();
        snapshot.carry_out();
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The snapshot in force.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another one in force; requests under way keep theirs.
    pub fn swap(&self, snapshot: Snapshot) {
        snapshot.put_in_force();
        self.0.store(Arc::new(snapshot));
    }

    /// For who keeps nothing of it alive.
    pub fn downgrade(&self) -> WeakLive {
        WeakLive(Arc::downgrade(&self.0))
    }

    /// A view for one worker.
    pub fn view(&self) -> LiveView {
        LiveView { cache: Cache::new(self.0.clone()), held: Rc::new(self.load()) }
    }
}

impl WeakLive {
    /// The snapshot in force, for as long as somebody has it.
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.0.upgrade().map(|live| live.load_full())
    }
}

impl LiveView {
    /// The snapshot in force.
    pub fn load(&mut self) -> OnWorker<Snapshot> {
        let current = self.cache.load();
        if !Arc::ptr_eq(current, &self.held) {
            self.held = Rc::new(current.clone());
        }
        self.held.clone()
    }
}
