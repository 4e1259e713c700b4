//! The targets that a service has at the moment. What the file names does not change while a configuration is in force;
//! what a name server says does, and is published here for all workers at once.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::target::Target;

/// The targets of a service, unchanging.
#[derive(Debug)]
pub struct TargetSet {
    /// Counts the sets of a service, from 1.
    pub generation: u64,
    /// The targets; perhaps none, where a name has no address.
    pub targets: Box<[Member]>,
}

/// A target of a set. What it weighs is the set's affair, so that a target stays itself when its share changes.
#[derive(Debug, Clone)]
pub struct Member {
    /// The target.
    pub target: Arc<Target>,
    /// Its share of the requests, in relation to the others'; from 1.
    pub weight: u16,
    /// It is used while none of a lower number can be; SRV has it (RFC 2782), and others are all 0.
    pub priority: u16,
}

/// Where the set in force is found.
#[derive(Debug)]
pub(super) struct Published {
    /// The one of `set`, so that workers can look whether it changed without counting a holder.
    generation: AtomicU64,
    set: ArcSwap<TargetSet>,
}

impl Deref for TargetSet {
    type Target = [Member];

    fn deref(&self) -> &Self::Target {
        &self.targets
    }
}

impl Deref for Member {
    type Target = Target;

    fn deref(&self) -> &Self::Target {
        &self.target
    }
}

impl Published {
    pub(super) fn new(targets: Vec<Member>) -> Self {
        let set = TargetSet { generation: 1, targets: targets.into() };
        Self { generation: AtomicU64::new(1), set: ArcSwap::from_pointee(set) }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn load(&self) -> Arc<TargetSet> {
        self.set.load_full()
    }

    /// Puts other targets in the place of those before.
    pub(super) fn replace(&self, targets: Vec<Member>) {
        let targets: Box<[Member]> = targets.into();
        let before = self.set.rcu(|before| TargetSet { generation: before.generation + 1, targets: targets.clone() });
        // After the set, so that whoever sees the number finds the set or a later one.
        self.generation.fetch_max(before.generation + 1, Ordering::Release);
    }
}
