//! A state for tests: over a store of its own, with nothing that runs in the background.

use std::sync::Arc;

use super::{Background, Kept, State};
use crate::store::Store;

impl State {
    /// The same state over another store.
    pub(crate) fn with(&self, store: Store) -> Arc<Self> {
        let (engine, sealed_by) = store.parts_for_tests();
        let kept = Kept {
            store: Arc::new(store),
            outbox: self.kept.outbox.clone(),
            engine,
            sealed_by,
            sealing: self.kept.sealing.clone(),
            path: self.kept.path.clone(),
            clock: self.kept.clock.clone(),
            observer: self.kept.observer.clone(),
            background: Background::none(),
        };
        Arc::new(Self { channels: self.channels.clone(), kept: Arc::new(kept) })
    }

    /// Whether it delivers.
    pub(crate) fn is_running(&self) -> bool {
        self.kept.background.is_running()
    }
}
