//! What a request owes until its answer is over: places that others wait for, and an end.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Context,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{gate::Place, target::Target};

/// What a request owes until its answer is over; dropping it pays.
#[derive(Debug)]
pub(super) struct Dues {
    _place: Option<Place>,
    _under_way: Option<UnderWay>,
    ends: Option<Pin<Box<Sleep>>>,
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
        let ends = ends.map(|ends| Box::pin(sleep_until(ends)));
        Some(Box::new(Self { _place: place, _under_way: under_way, ends }))
    }

    /// Whether the time is over; if not, this task is woken when it is.
    pub(super) fn are_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready())
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
