//! What a request owes until it and its answer are over: places that others wait for, and an end.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

use super::{gate::Place, target::Target};

/// What a request owes until it and its answer are over (over HTTP/2, its answer alone); dropping it pays.
#[derive(Debug)]
pub(super) struct Dues {
    _place: Option<Place>,
    _under_way: Option<UnderWay>,
    ends: Option<Instant>,
}

/// Counts among the requests that are under way to a target.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Target>);

impl Dues {
    /// `None` if nothing is owed.
    pub(super) fn new(place: Option<Place>, under_way: Option<UnderWay>, ends: Option<Instant>) -> Option<Box<Self>> {
        if place.is_none() && under_way.is_none() && ends.is_none() {
            return None;
        }
        Some(Box::new(Self { _place: place, _under_way: under_way, ends }))
    }

    /// When it must be over, whoever still waits.
    pub(super) const fn ends(&self) -> Option<Instant> {
        self.ends
    }
}

impl UnderWay {
    pub(super) fn to(target: &Arc<Target>) -> Self {
        target.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(target))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
