//! One question for one token: whoever comes while it is under way waits for the same answer. And no more questions at
//! once than the issuer is to be burdened with, so that invented tokens cannot drown it.

use std::{hash::BuildHasherDefault, sync::Arc};

use dashmap::{DashMap, Entry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    super::cache::{IdHasher, TokenDigest},
    Verdict,
};

/// Where an answer will be.
type Landing = watch::Receiver<Option<Verdict>>;

/// The questions that are under way.
#[derive(Debug)]
pub(super) struct Flights {
    calls: DashMap<TokenDigest, Landing, BuildHasherDefault<IdHasher>>,
    room: Arc<Semaphore>,
}

/// How somebody came to a question.
pub(super) enum Boarding {
    /// As the first: whoever holds the ticket is to find the answer.
    First(Ticket, Flight),
    /// Somebody else asks already.
    Under(Flight),
    /// There is no room for another question.
    Full,
}

/// An answer to wait for.
pub(super) struct Flight(Landing);

impl Flight {
    /// Waits; `None` if whoever asked gave up without an answer.
    pub(super) async fn land(mut self) -> Option<Verdict> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The duty to find an answer. When it is dropped the question is over, answered or not.
pub(super) struct Ticket {
    flights: Arc<Flights>,
    id: TokenDigest,
    answer: watch::Sender<Option<Verdict>>,
    _room: OwnedSemaphorePermit,
}

impl Ticket {
    /// The token that is asked about.
    pub(super) fn id(&self) -> TokenDigest {
        self.id
    }

    /// Tells everybody who waits.
    pub(super) fn land(self, verdict: Verdict) {
        self.answer.send_replace(Some(verdict));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flights.calls.remove(&self.id);
    }
}

impl Flights {
    pub(super) fn new(concurrent: usize) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(concurrent.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { calls: DashMap::default(), room })
    }

    /// Joins the question about a token, or begins it.
    pub(super) fn board(self: &Arc<Self>, id: TokenDigest) -> Boarding {
        match self.calls.entry(id) {
            Entry::Occupied(entry) => Boarding::Under(Flight(entry.get().clone())),
            Entry::Vacant(entry) => {
                let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return Boarding::Full };
                let (answer, landing) = watch::channel(None);
                entry.insert(landing.clone());
                Boarding::First(Ticket { flights: Arc::clone(self), id, answer, _room: room }, Flight(landing))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::policy::Reason;

    #[tokio::test]
    async fn the_second_waits_for_the_answer_of_the_first() {
        let flights = Flights::new(1);
        let Boarding::First(ticket, first) = flights.board([1; 32]) else { panic!("not the first") };
        let Boarding::Under(second) = flights.board([1; 32]) else { panic!("asked twice") };
        assert!(matches!(flights.board([2; 32]), Boarding::Full));
        ticket.land(Verdict::Refuse(Reason::TokenInactive));
        for flight in [first, second] {
            assert!(matches!(flight.land().await, Some(Verdict::Refuse(Reason::TokenInactive))));
        }
        assert!(matches!(flights.board([2; 32]), Boarding::First(..)));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_no_trace_and_nobody_waiting() {
        let flights = Flights::new(1);
        let Boarding::First(ticket, _) = flights.board([1; 32]) else { panic!("not the first") };
        let Boarding::Under(second) = flights.board([1; 32]) else { panic!("asked twice") };
        drop(ticket);
        assert!(second.land().await.is_none());
        assert!(flights.calls.is_empty());
        assert!(matches!(flights.board([1; 32]), Boarding::First(..)));
    }
}
