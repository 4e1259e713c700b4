//! How many connections there may be, in all and from one address, over all workers.

use std::{
    cell::Cell,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};

use super::Refused;
use crate::subscriber::Subscriber;

/// Admits connections within two bounds. Both can change while connections are open.
#[derive(Debug)]
pub(super) struct Admission {
    open: AtomicUsize,
    most: AtomicUsize,
    most_per_address: AtomicUsize,
    /// Connections of relays that have not said yet for whom.
    untold: AtomicUsize,
    by_address: DashMap<Subscriber, usize>,
}

/// Of all connections, one in so many may be a relay's that has not said yet for whom: their clients are counted only
/// then, so that whoever is among the relays' addresses could otherwise hold them all by saying nothing.
const UNTOLD_SHARE: usize = 4;

impl Admission {
    pub(super) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            most_per_address: AtomicUsize::new(most_per_address),
            untold: AtomicUsize::new(0),
            by_address: DashMap::new(),
        })
    }

    /// Changes the bounds for connections to come.
    pub(super) fn set_bounds(&self, most: usize, most_per_address: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_per_address.store(most_per_address, Ordering::Relaxed);
    }

    /// Admits a connection from `address` for as long as the permit is held.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refused> {
        self.enter()?;
        let key = Subscriber::of(address);
        if let Err(why) = self.count(key) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(why);
        }
        Ok(self.permit(Holder::Known(key)))
    }

    /// Admits a handshake over QUIC whose sender has yet to show that the address is its own: it counts for nobody until then, or
    /// whoever can write another's address on a packet could keep that one out. How many there are is for the caller to bound.
    pub(super) fn admit_unproven(self: &Arc<Self>) -> Result<Permit, Refused> {
        self.enter()?;
        Ok(self.permit(Holder::Unproven))
    }

    /// Whether one more from `address` would be admitted, were there nobody else.
    pub(super) fn has_room_for(&self, address: IpAddr) -> bool {
        let most = self.most_per_address.load(Ordering::Relaxed);
        self.by_address.get(&Subscriber::of(address)).is_none_or(|count| *count < most)
    }

    fn permit(self: &Arc<Self>, holder: Holder) -> Permit {
        Permit { admission: Arc::clone(self), holder: Cell::new(holder) }
    }

    /// Admits a connection of a relay that has yet to say for whom.
    pub(super) fn admit_untold(self: &Arc<Self>) -> Result<Permit, Refused> {
        self.enter()?;
        let most = (self.most.load(Ordering::Relaxed) / UNTOLD_SHARE).max(1);
        if self.untold.fetch_add(1, Ordering::Relaxed) >= most {
            self.untold.fetch_sub(1, Ordering::Relaxed);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::TooMany);
        }
        Ok(self.permit(Holder::Untold))
    }

    fn enter(&self) -> Result<(), Refused> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::TooMany);
        }
        Ok(())
    }

    fn count(&self, key: Subscriber) -> Result<(), Refused> {
        let mut count = self.by_address.entry(key).or_insert(0);
        if *count >= self.most_per_address.load(Ordering::Relaxed) {
            drop(count);
            self.discount(key, 0);
            return Err(Refused::TooManyFromAddress);
        }
        *count += 1;
        Ok(())
    }

    fn forget(&self, holder: Holder) {
        match holder {
            Holder::Known(key) => self.discount(key, 1),
            Holder::Untold => {
                self.untold.fetch_sub(1, Ordering::Relaxed);
            }
            Holder::Unproven => {}
        }
    }

    fn discount(&self, key: Subscriber, held: usize) {
        if let Entry::Occupied(mut entry) = self.by_address.entry(key) {
            let left = entry.get().saturating_sub(held);
            if left == 0 {
                entry.remove();
            } else {
                entry.insert(left);
            }
        }
    }
}

/// For whom a connection counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// A relay's client that is not known yet.
    Untold,
    /// Nobody, as the address may be another's.
    Unproven,
    Known(Subscriber),
}

/// One admitted connection.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    holder: Cell<Holder>,
}

impl Permit {
    /// Counts the connection for the client that it turned out to be for.
    pub(super) fn count_for(&self, address: IpAddr) -> Result<(), Refused> {
        let before = self.holder.get();
        if !matches!(before, Holder::Known(_)) {
            let key = Subscriber::of(address);
            self.admission.count(key)?;
            self.admission.forget(before);
            self.holder.set(Holder::Known(key));
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        self.admission.forget(self.holder.get());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_more_than_the_bound_are_open_at_once() {
        let admission = Admission::new(2, 10);
        let first = admission.admit(address("192.0.2.1")).unwrap();
        let _second = admission.admit(address("192.0.2.2")).unwrap();
        assert_eq!(admission.admit(address("192.0.2.3")).unwrap_err(), Refused::TooMany);
        drop(first);
        assert!(admission.admit(address("192.0.2.3")).is_ok());
    }

    #[test]
    fn a_slash_64_is_one_address_and_a_mapped_address_is_the_mapped_one() {
        let admission = Admission::new(10, 1);
        let _six = admission.admit(address("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(address("2001:db8::ffff:0:1")).unwrap_err(), Refused::TooManyFromAddress);
        assert!(admission.admit(address("2001:db8:0:1::1")).is_ok());
        let _four = admission.admit(address("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(address("::ffff:192.0.2.1")).unwrap_err(), Refused::TooManyFromAddress);
    }

    #[test]
    fn a_relays_connection_counts_for_its_client_and_few_may_be_untold() {
        let admission = Admission::new(8, 1);
        let [first, second] = [(); 2].map(|()| admission.admit_untold().unwrap());
        assert_eq!(admission.admit_untold().unwrap_err(), Refused::TooMany);
        first.count_for(address("192.0.2.1")).unwrap();
        assert_eq!(second.count_for(address("192.0.2.1")).unwrap_err(), Refused::TooManyFromAddress);
        second.count_for(address("192.0.2.2")).unwrap();
        assert!(admission.admit(address("192.0.2.2")).is_err() && admission.admit(address("192.0.2.3")).is_ok());
        let third = admission.admit_untold().unwrap();
        drop((first, second, third));
        assert!(admission.by_address.is_empty());
        assert_eq!((admission.open.load(Ordering::Relaxed), admission.untold.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn what_has_not_shown_its_address_counts_for_nobody_and_then_for_that_address() {
        let admission = Admission::new(4, 1);
        let [first, second] = [(); 2].map(|()| admission.admit_unproven().unwrap());
        let direct = admission.admit(address("192.0.2.1")).unwrap();
        assert!(!admission.has_room_for(address("192.0.2.1")) && admission.has_room_for(address("192.0.2.2")));
        assert_eq!(first.count_for(address("192.0.2.1")).unwrap_err(), Refused::TooManyFromAddress);
        second.count_for(address("192.0.2.2")).unwrap();
        assert!(!admission.has_room_for(address("192.0.2.2")));
        let _fourth = admission.admit_unproven().unwrap();
        assert_eq!(admission.admit_unproven().unwrap_err(), Refused::TooMany);
        drop((first, second, direct));
        assert!(admission.by_address.is_empty());
        assert_eq!((admission.open.load(Ordering::Relaxed), admission.untold.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn nothing_is_kept_of_an_address_without_connections() {
        let admission = Admission::new(10, 1);
        let held = admission.admit(address("192.0.2.1")).unwrap();
        assert!(admission.admit(address("192.0.2.1")).is_err());
        drop(held);
        assert!(admission.by_address.is_empty());
        assert_eq!(admission.open.load(Ordering::Relaxed), 0);
    }
}
