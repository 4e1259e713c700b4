//! What wrong passwords lead to: the machines of [`guess`](crate::authority::guess), with rows of their own. They are by the name
//! that was typed, whether an account has it or not, so that a lock tells nobody which names there are.
//!
//! An attempt is written down before anything is looked at. Guessing in parallel meets the row's version: one commit counts, the
//! others read again.

use super::{Accounts, name, rows};
use crate::{
    authority::{
        Fault, Owner,
        guess::{Lane, Look, Near, Pass, Rules},
        guessing::forget,
    },
    clock::Now,
    store::{Batch, Store, StoreFault, Table, Versioned},
    subscriber::Subscriber,
};

/// How often an attempt is written down again that others were in the way of: so many at one name at one moment are no people.
const TRIES: u32 = 16;

/// An attempt that was taken to be looked at.
#[derive(Debug)]
pub(super) struct Attempt {
    near: String,
    lane: String,
}

impl Accounts {
    /// Takes an attempt at a name from an address; `None`: nothing is looked at now. `familiar`: the account was signed in from
    /// there before, so that strangers' attempts elsewhere do not count here.
    pub(super) async fn take_attempt(
        &self,
        folded: &str,
        network: &str,
        familiar: bool,
        now: Now,
    ) -> Result<Option<Attempt>, Fault> {
        let store = self.store();
        let lane = if familiar { "known" } else { "others" };
        let prefix = prefix(store, folded);
        let attempt = Attempt {
            near: prefix.clone() + &store.index("network of guesses", &[network.as_bytes()]),
            lane: prefix + lane,
        };
        let (rules, secs) = (Rules::from(&self.authority.guessing), now.unix_secs());
        for _ in 0..TRIES {
            let (near_row, mut near) = read::<Near>(store, &attempt.near, now).await?;
            let (lane_row, mut lane) = read::<Lane>(store, &attempt.lane, now).await?;
            if near.take(&rules, secs) == Look::TurnedAway || lane.take(&rules, secs) == Pass::TurnedAway {
                return Ok(None);
            }
            near.points = near.points.saturating_add(1);
            let batch = Batch::new()
                .update(Table::Guesses, &attempt.near, near_row, &near, Some(near.expires_at(&rules)))
                .update(Table::Guesses, &attempt.lane, lane_row, &lane, Some(lane.expires_at()));
            match store.commit(batch, now).await {
                Ok(()) => return Ok(Some(attempt)),
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(Fault::Store(StoreFault::Busy))
    }

    /// The password was right: what was counted at this address is taken back.
    pub(super) async fn was_right(&self, attempt: &Attempt, now: Now) -> Result<(), Fault> {
        let store = self.store();
        for _ in 0..TRIES {
            let (near_row, near) = read::<Near>(store, &attempt.near, now).await?;
            let (lane_row, mut lane) = read::<Lane>(store, &attempt.lane, now).await?;
            lane.give_back(near.points, now.unix_secs());
            let batch = Batch::new().update(Table::Guesses, &attempt.lane, lane_row, &lane, Some(lane.expires_at()));
            let batch = if near_row == 0 { batch } else { batch.delete(Table::Guesses, &attempt.near, near_row) };
            match store.commit(batch, now).await {
                Err(StoreFault::Conflict) => {}
                result => return Ok(result?),
            }
        }
        Ok(())
    }

    /// Lifts what wrong passwords have led to for an account, by whichever of its names.
    pub(in crate::authority) async fn unlock(&self, owner: &Owner, now: Now) -> Result<(), Fault> {
        if *owner.issuer != *self.issuer {
            return Ok(());
        }
        let Some(account) = rows::by_id(self.store(), &owner.subject, now).await? else { return Ok(()) };
        let names = [Some(account.value.name), account.value.mail];
        for name in names.iter().flatten() {
            forget(self.store(), &prefix(self.store(), &name::folded(name)), now).await?;
        }
        Ok(())
    }

    /// A network, by a digest.
    pub(super) fn network(&self, client: std::net::IpAddr) -> String {
        self.store().index("network", &[&Subscriber::of(client).bytes()])
    }
}

/// What the keys of a name's rows begin with.
pub(super) fn prefix(store: &Store, folded: &str) -> String {
    format!("p:{}:", store.index("password guesses", &[folded.as_bytes()]))
}

async fn read<T: Default + serde::de::DeserializeOwned>(
    store: &Store,
    key: &str,
    now: Now,
) -> Result<(u64, T), StoreFault> {
    let row: Option<Versioned<T>> = store.get(Table::Guesses, key, now).await?;
    Ok(row.map_or_else(|| (0, T::default()), |row| (row.version, row.value)))
}
