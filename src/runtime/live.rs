//! The snapshot in force. Workers read it without a lock; a reload swaps it for all of them at once.

use std::{rc::Rc, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::Snapshot;

/// The snapshot in force.
#[derive(Debug, Clone)]
pub struct Live(Arc<ArcSwap<Snapshot>>);

/// One worker's view of it, refreshed by a comparison. What it gives counts its holders on the worker alone: a count that
/// all workers share would cost each request a line of the others' cache.
#[derive(Debug)]
pub struct LiveView {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    held: Rc<Arc<Snapshot>>,
}

impl Live {
    /// Puts the first snapshot in force.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The snapshot in force.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another one in force; requests under way keep theirs.
    pub fn swap(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    /// A view for one worker.
    pub fn view(&self) -> LiveView {
        LiveView { cache: Cache::new(self.0.clone()), held: Rc::new(self.load()) }
    }
}

impl LiveView {
    /// The snapshot in force.
    pub fn load(&mut self) -> Rc<Arc<Snapshot>> {
        let current = self.cache.load();
        if !Arc::ptr_eq(current, &self.held) {
            self.held = Rc::new(current.clone());
        }
        self.held.clone()
    }
}
