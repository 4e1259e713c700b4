//! The same password for the same user from the same address, sent many times at once, is hashed once: a script that starts
//! with twenty connections waits for one hash, and is not taken for somebody who guesses.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OnceCell;

use super::{keyed::Proof, table::Id};

type FlightId = (Id, Proof);

/// What is being looked at.
#[derive(Debug)]
pub(super) struct Flights<T>(Mutex<HashMap<FlightId, Arc<OnceCell<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A part in one of them. The first of those who take part does the work; if he goes away, the next does.
#[derive(Debug)]
pub(super) struct Flight<'a, T> {
    flights: &'a Flights<T>,
    id: FlightId,
    cell: Arc<OnceCell<T>>,
}

impl<T> Flights<T> {
    /// Takes part in looking at a password.
    pub(super) fn join(&self, id: FlightId) -> Flight<'_, T> {
        let cell = Arc::clone(self.locked().entry(id).or_default());
        Flight { flights: self, id, cell }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<FlightId, Arc<OnceCell<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Flight<'_, T> {
    /// What comes of it.
    pub(super) fn outcome(&self) -> &OnceCell<T> {
        &self.cell
    }
}

impl<T> Drop for Flight<'_, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.locked();
        // This one and the map's: under the lock nobody can join meanwhile.
        if Arc::strong_count(&self.cell) <= 2 {
            flights.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_does_the_work_and_the_last_takes_it_away() {
        let flights = Flights::default();
        let id = ([1; 16], [2; 32]);
        let (first, second) = (flights.join(id), flights.join(id));
        assert_eq!(*first.outcome().get_or_init(|| async { 1 }).await, 1);
        assert_eq!(*second.outcome().get_or_init(|| async { 2 }).await, 1);
        drop(first);
        assert_eq!(flights.locked().len(), 1);
        drop(second);
        assert!(flights.locked().is_empty());
        assert_eq!(*flights.join(id).outcome().get_or_init(|| async { 3 }).await, 3);
    }
}
