//! Carrying deletions out: what is asked of services, when, how often, and by whom.
//!
//! ```text
//!   scheduler  what is due is taken up                     turn    one deletion in hand: lease, work, lease back
//!   finish     audit chain, striking out                   calls   so many at once, in all and to one service
//!   call       one request of a template and values        lookups what is asked before a deletion is taken on
//! ```

mod call;
mod calls;
pub mod fill;
mod finish;
mod lookups;
mod pauses;
mod scheduler;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod turn;
mod upstreams;
mod values;

pub use upstreams::Upstreams;
pub use values::Known;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use self::{calls::Calls, lookups::LookupFault, turn::Pace};
use super::{
    fault::Fault,
    ledger::Ledger,
    means::{ErasureMeans, ErasureObserver, EvidenceLog, OwnData},
    record::Personal,
};
use crate::{clock::Clock, config::Terms, store::StoreFault};

/// Carries deletions out; one of a process, that outlives configurations.
pub(super) struct Carrier {
    ledger: Arc<Ledger>,
    pub(super) calls: Arc<Calls>,
    evidence: Arc<dyn EvidenceLog>,
    own_data: Arc<dyn OwnData>,
    observer: Arc<dyn ErasureObserver>,
    clock: Arc<dyn Clock>,
    /// Who it is in leases: drawn at random, so that what another process had in hand, or this one before it was killed, is not taken
    /// for its own.
    holder: u64,
    pace: Pace,
    /// Nothing is begun any more: what is under way is done to its end, and noted.
    resting: AtomicBool,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Carrier {
    /// Over this ledger; it calls nobody before it is told whom.
    pub(super) fn new(ledger: &Arc<Ledger>, means: &ErasureMeans<'_>) -> Result<Self, StoreFault> {
        let mut holder = [0; 8];
        let none = |_| StoreFault::Unavailable("the system gives no randomness".to_owned());
        aws_lc_rs::rand::fill(&mut holder).map_err(none)?;
        Ok(Self {
            ledger: ledger.clone(),
            calls: Arc::new(Calls::new(Arc::default())),
            evidence: means.evidence.clone(),
            own_data: means.own_data.clone(),
            observer: means.observer.clone(),
            clock: means.clock.clone(),
            holder: u64::from_ne_bytes(holder),
            pace: Pace::default(),
            resting: AtomicBool::new(false),
        })
    }

    /// Begins nothing any more; it ends once what is under way has.
    pub(super) fn rest(&self) {
        self.resting.store(true, Ordering::Release);
        self.ledger.kept.wake.notify_one();
    }

    fn rests(&self) -> bool {
        self.resting.load(Ordering::Acquire)
    }

    /// Where evidence goes.
    pub(super) fn evidence(&self) -> &Arc<dyn EvidenceLog> {
        &self.evidence
    }

    /// Asks what the terms want to be asked before a deletion is taken on.
    pub(super) async fn look_up(&self, terms: &Terms, id: &str, personal: &mut Personal) -> Result<(), Fault> {
        let Personal { subject, values, .. } = personal;
        let found = lookups::look_up(&self.calls, terms, (id, subject), values).await;
        found.map_err(|fault| match fault {
            LookupFault::Absent => Fault::Absent,
            LookupFault::Failed => Fault::Lookup,
        })
    }
}
