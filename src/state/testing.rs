//! States for tests: over stores of their own, with nothing that runs in the background.

use std::sync::Arc;

use super::{Background, Kept, State, Unobserved};
use crate::{
    clock::Clock,
    config::{Sealing, SealingKey},
    notify::{self, Channels, Outbox},
    store::Store,
};

impl State {
    /// One over a store, with these channels. Nothing is delivered, swept or purged.
    pub(crate) fn over(store: Store, channels: Channels, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (engine, sealed_by) = store.parts_for_tests();
        let (store, channels) = (Arc::new(store), Arc::new(channels));
        let outbox = Outbox::new(store.clone(), channels.clone(), clock.clone(), Arc::new(notify::Unobserved));
        let sealing = Sealing {
            key: SealingKey::Command { span: crate::config::Span::default(), argv: Vec::new() },
            previous: Vec::new(),
        };
        let kept = Kept {
            store,
            outbox,
            engine,
            sealed_by,
            sealing,
            path: std::path::PathBuf::new(),
            clock,
            observer: Arc::new(Unobserved),
            background: Background::none(),
        };
        Arc::new(Self { channels, kept: Arc::new(kept) })
    }

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
