//! What is to be known of a request besides its head, to choose a target for it and to bound its time.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::introduction::Introduced;
use crate::clock::Now;

/// What is to be known of a request besides its head.
#[derive(Debug, Clone, Copy)]
pub struct Sending {
    /// The present moment: what is counted from the sending counts from it.
    pub now: Now,
    /// On whose behalf, for fairness among those who wait. Requests without one share one place.
    pub client: Option<IpAddr>,
    /// What keeps requests together, hashed; see [`Spread`](crate::spread::Spread). `None`: turns are taken.
    pub hash: Option<u64>,
    /// Whether it is never to be done twice, whatever its method says, as a guarded operation is: it is sent again only if the target
    /// certainly has nothing of it.
    pub once: bool,
    /// When its answer must be over because the client said so; the earlier of this and `request` counts.
    pub deadline: Option<Instant>,
    /// How long it may take until its answer is over, in the place of the upstream's `timeouts.request`.
    pub request: Option<Duration>,
    /// How long the head of its answer may take, in the place of the upstream's `timeouts.response`.
    pub patience: Option<Duration>,
    /// Whether its answer may switch protocols.
    pub upgrade: bool,
    /// For whom the connection is, where the service is told: see [`Service::introduces`](super::Service::introduces).
    pub introduced: Option<Introduced>,
}

impl Sending {
    /// Whether there is nothing to be said but when and for whom.
    pub(super) const fn is_plain(&self) -> bool {
        !self.once
            && !self.upgrade
            && self.introduced.is_none()
            && self.deadline.is_none()
            && self.request.is_none()
            && self.patience.is_none()
    }

    /// A request of which there is nothing to be said.
    pub const fn plain(now: Now) -> Self {
        Self {
            now,
            client: None,
            hash: None,
            once: false,
            deadline: None,
            request: None,
            patience: None,
            upgrade: false,
            introduced: None,
        }
    }
}
