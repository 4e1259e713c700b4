//! Counting guesses in the store: a guess counts, durably, before its code is looked at. How much is too much says
//! [`guess`](super::guess), which is pure.
//!
//! Whether a code is looked at or turned away, the same rows are read and written: neither the answer nor its time tells.

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Authority, Change, Fault, Owner, Way,
    caller::actor,
    guess::{Lane, Look, Near, Pass, Rules, Which, count},
};
use crate::{
    clock::Now,
    store::{Batch, Store, StoreFault, Table, Versioned},
    subscriber::Subscriber,
};

/// How many rows of locks are lifted in one commit.
const LOCKS: usize = 100;
/// How often a guess is tried to be counted while others are being counted for the same person.
const TRIES: usize = 16;
/// How many addresses are remembered from which somebody was right.
const HOMES: usize = 8;
/// For how long, in seconds.
const HOME_SECS: u64 = 90 * 86_400;
/// An address is written down anew only this long after the last time.
const HOME_AGAIN_SECS: u64 = 86_400;

/// A guess that was counted.
#[derive(Debug)]
pub(super) struct Guess {
    near: String,
    lane: String,
    homes: String,
    home: String,
    /// Whether its code may be looked at.
    pub(super) taken: bool,
}

/// Addresses from which somebody was right, hidden, and when last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Homes(Vec<(String, u64)>);

impl Homes {
    fn has(&self, home: &str, now: u64) -> bool {
        self.0.iter().any(|(known, last)| known == home && now.saturating_sub(*last) < HOME_SECS)
    }
}

/// Takes guesses away: as many as a stranger can make, as each costs one that was counted.
pub(super) async fn forget(store: &Store, prefix: &str, now: Now) -> Result<(), StoreFault> {
    loop {
        // What they say does not matter, nor whether that can be read: where it cannot, all codes are refused.
        let page = store.readable::<IgnoredAny>(Table::Guesses, prefix, None, LOCKS, now).await?;
        let keys = page.rows.iter().map(|row| &row.key).chain(&page.unreadable);
        store.commit(keys.fold(Batch::new(), |batch, key| batch.forget(Table::Guesses, key)), now).await?;
        if page.next.is_none() {
            return Ok(());
        }
    }
}

/// What somebody's rows begin with.
pub(super) fn prefixes(owner_key: &str) -> [String; 3] {
    [format!("near/{owner_key}/"), format!("lane/{owner_key}/"), format!("homes/{owner_key}")]
}

impl Authority {
    fn rules(&self) -> Rules {
        Rules::from(&self.config().guessing)
    }

    async fn guessed<T: serde::de::DeserializeOwned + Default>(&self, key: &str, now: Now) -> Result<(u64, T), Fault> {
        let row: Option<Versioned<T>> = self.store().get(Table::Guesses, key, now).await?;
        Ok(row.map_or_else(|| (0, T::default()), |row| (row.version, row.value)))
    }

    /// Counts a guess. `long`: the code is too long to be guessed, and counts for this address and credential alone.
    pub(super) async fn count_guess(
        &self,
        owner: &Owner,
        credential: &[u8; 32],
        long: bool,
        way: Way<'_>,
        now: Now,
    ) -> Result<Guess, Fault> {
        let (store, owner_key) = (self.store(), owner.key(self.store()));
        let home = store.index("address", &[owner_key.as_bytes(), &Subscriber::of(way.client).bytes()]);
        let near = store.index("near", &[owner_key.as_bytes(), home.as_bytes(), credential]);
        let [near_prefix, lane_prefix, homes] = prefixes(&owner_key);
        let mut guess = Guess { near: near_prefix + &near, lane: String::new(), homes, home, taken: false };
        let (rules, secs) = (self.rules(), now.unix_secs());
        for _ in 0..TRIES {
            let (_, homes) = self.guessed::<Homes>(&guess.homes, now).await?;
            guess.lane = lane_prefix.clone() + Which::of(homes.has(&guess.home, secs)).name();
            let (near_version, mut near) = self.guessed::<Near>(&guess.near, now).await?;
            let (lane_version, mut lane) = self.guessed::<Lane>(&guess.lane, now).await?;
            let (look, pass) = count(&mut near, &mut lane, long, &rules, secs);
            let taken = matches!(pass, Pass::Taken { .. });
            let batch = Batch::new()
                .update(Table::Guesses, &guess.near, near_version, &near, Some(near.expires_at(&rules).max(secs + 1)))
                .update(Table::Guesses, &guess.lane, lane_version, &lane, Some(lane.expires_at().max(secs + 1)));
            match store.commit(batch, now).await {
                Ok(()) => {}
                Err(StoreFault::Conflict) => continue,
                Err(fault) => return Err(fault.into()),
            }
            guess.taken = taken;
            if matches!(look, Look::Taken { locks: true }) {
                self.core.observer.change(actor(owner, way), Change::Locked, None, "", now);
            }
            if matches!(pass, Pass::Taken { hard: true }) {
                self.core.observer.change(actor(owner, way), Change::HardLocked, None, "", now);
            }
            return Ok(guess);
        }
        // As many at once for one person are not the person.
        Ok(guess)
    }

    /// A guess was right: what was counted for it, and before it from here, is given back, and from here its owner is known.
    /// A fault leaves it counted, which is safe.
    pub(super) async fn guessed_right(&self, guess: &Guess, now: Now) {
        for _ in 0..TRIES {
            match self.give_back(guess, now).await {
                Ok(()) => return,
                Err(Fault::Store(StoreFault::Conflict)) => {}
                Err(fault) => {
                    tracing::warn!(%fault, "a right code stays counted among the wrong ones");
                    return;
                }
            }
        }
    }

    async fn give_back(&self, guess: &Guess, now: Now) -> Result<(), Fault> {
        let secs = now.unix_secs();
        let (near_version, near) = self.guessed::<Near>(&guess.near, now).await?;
        let (lane_version, mut lane) = self.guessed::<Lane>(&guess.lane, now).await?;
        let mut batch = Batch::new();
        if near_version != 0 {
            batch = batch.delete(Table::Guesses, &guess.near, near_version);
        }
        if lane_version != 0 && near.points > 0 {
            lane.give_back(near.points, secs);
            let expires_at = Some(lane.expires_at().max(secs + 1));
            batch = batch.update(Table::Guesses, &guess.lane, lane_version, &lane, expires_at);
        }
        let batch = self.at_home(batch, &guess.homes, &guess.home, now).await?;
        Ok(self.store().commit(batch, now).await?)
    }

    /// Adds to a commit that somebody was right at an address, where that is not known already.
    async fn at_home(&self, batch: Batch, key: &str, home: &str, now: Now) -> Result<Batch, Fault> {
        let secs = now.unix_secs();
        let (version, mut homes) = self.guessed::<Homes>(key, now).await?;
        let last = homes.0.iter().find(|(known, _)| known == home).map(|(_, last)| *last);
        if last.is_some_and(|last| secs.saturating_sub(last) < HOME_AGAIN_SECS) {
            return Ok(batch);
        }
        homes.0.retain(|(known, last)| known != home && secs.saturating_sub(*last) < HOME_SECS);
        homes.0.push((home.to_owned(), secs));
        // The latest come last.
        let over = homes.0.len().saturating_sub(HOMES);
        homes.0.drain(..over);
        Ok(batch.update(Table::Guesses, key, version, &homes, Some(secs + HOME_SECS)))
    }

    /// Somebody showed what cannot be guessed, a passkey say: from here its owner is known.
    pub(super) async fn is_at_home(&self, owner: &Owner, way: Way<'_>, now: Now) {
        let owner_key = owner.key(self.store());
        let home = self.store().index("address", &[owner_key.as_bytes(), &Subscriber::of(way.client).bytes()]);
        let [_, _, key] = prefixes(&owner_key);
        // Whoever is first writes it down; another who writes at the same time will do so the next time.
        if let Ok(batch) = self.at_home(Batch::new(), &key, &home, now).await {
            let _ = self.store().commit(batch, now).await;
        }
    }
}
