//! Credentials that were elevated: durable rows, and a map in the process that requests look into. The rows are the truth;
//! the map is read from them at start, and whoever writes one writes the other, the row first.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Authority, Caller, Change, Fault, Holder, Occasion, Outcome, Person, Proof, Way, caller::actor, random};
use crate::{
    clock::Now,
    config,
    policy::{Covers, LevelName, SecondFactor},
    store::{Batch, Store, StoreFault, Table},
};

/// How long the code at the end of a page is good for, in seconds.
const HANDOVER_SECS: u64 = 120;
/// How many rows are read at once.
const PAGE: usize = 500;
/// How many elevations end in one commit, beside what else is in it.
const END_AT_ONCE: usize = 100;

/// An elevation, as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ElevationShown {
    /// The level.
    pub level: String,
    /// The factors that were shown, by name.
    pub factors: Vec<String>,
    /// When, in seconds since the epoch.
    pub since: u64,
    /// Until when.
    pub until: u64,
}

/// A row of `Table::Elevations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Elevation {
    holder: [u8; 32],
    /// The key of the person's rows: when their factors are reset, this ends.
    owner_key: String,
    level: String,
    proof: Proof,
    until: u64,
}

/// A row of `Table::Handovers`.
#[derive(Serialize, Deserialize)]
struct Handover {
    level: String,
    proof: Proof,
}

#[derive(Debug, Clone)]
struct Elevated {
    row: Arc<Elevation>,
    factor: Arc<SecondFactor>,
}

/// The map that requests look into.
#[derive(Debug, Default)]
pub(super) struct Elevations {
    map: DashMap<Holder, SmallVec<[Elevated; 1]>>,
    /// How many elevations there are; never fewer than in the map.
    count: AtomicUsize,
}

impl Elevations {
    /// Reads all that live. What each is worth is worked out by [`Self::weigh`].
    pub(super) async fn load(store: &Store, now: Now) -> Result<Self, StoreFault> {
        let (all, mut after) = (Self::default(), None::<String>);
        loop {
            // Whose elevation cannot be read is not elevated.
            let page = store.readable::<Elevation>(Table::Elevations, "", after.as_deref(), PAGE, now).await?;
            for row in page.rows {
                // One that was written by a version that found them otherwise could not be ended.
                if row.key != row.value.key(store) {
                    continue;
                }
                // One whose factor went before it was seen here, and that nobody could end then.
                if !is_held(store, &row.value, now).await? {
                    continue;
                }
                let nothing = Arc::new(worth_nothing());
                all.put(Elevated { row: Arc::new(row.value), factor: nothing });
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Works out anew what each is worth, as the configuration says now.
    pub(super) fn weigh(&self, config: &config::Authority) {
        for mut list in self.map.iter_mut() {
            for elevated in list.iter_mut() {
                elevated.factor = Arc::new(weighed(config, &elevated.row));
            }
        }
    }

    fn keep(&self, list: &mut SmallVec<[Elevated; 1]>, is_kept: impl Fn(&Elevated) -> bool) {
        let before = list.len();
        list.retain(|elevated| is_kept(elevated));
        self.count.fetch_sub(before - list.len(), Ordering::AcqRel);
    }

    fn put(&self, elevated: Elevated) {
        // Counted first, so that whoever sees the count at zero has missed nothing.
        self.count.fetch_add(1, Ordering::AcqRel);
        let mut list = self.map.entry(Holder(elevated.row.holder)).or_default();
        self.keep(&mut list, |known| known.row.level != elevated.row.level);
        list.push(elevated);
    }

    /// The elevations of a holder that live.
    pub(super) fn of(&self, holder: &Holder, now: u64) -> SmallVec<[Arc<SecondFactor>; 1]> {
        let Some(list) = self.map.get(holder) else { return SmallVec::new() };
        list.iter().filter(|elevated| now < elevated.row.until).map(|elevated| elevated.factor.clone()).collect()
    }

    /// Takes away what has expired.
    pub(super) fn sweep(&self, now: u64) {
        self.map.retain(|_, list| {
            self.keep(list, |elevated| now < elevated.row.until);
            !list.is_empty()
        });
    }

    /// Whether nobody is elevated. It is asked for each request, so it takes no lock.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// How many holders are elevated.
    pub(super) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn rows(&self, holder: &Holder) -> Vec<Arc<Elevation>> {
        self.map.get(holder).map(|list| list.iter().map(|one| one.row.clone()).collect()).unwrap_or_default()
    }

    /// Every elevation of a person's, whichever credential it is of.
    pub(super) fn of_owner(&self, owner_key: &str) -> Vec<Arc<Elevation>> {
        let lists = self.map.iter();
        lists
            .flat_map(|list| list.iter().map(|one| one.row.clone()).collect::<Vec<_>>())
            .filter(|row| row.owner_key == owner_key)
            .collect()
    }

    pub(super) fn remove(&self, row: &Elevation) {
        if let Some(mut list) = self.map.get_mut(&Holder(row.holder)) {
            self.keep(&mut list, |known| known.row.level != row.level);
        }
        self.map.remove_if(&Holder(row.holder), |_, list| list.is_empty());
    }
}

/// Whether the factor behind an elevation is still there. Whose factors cannot be read has none.
async fn is_held(store: &Store, row: &Elevation, now: Now) -> Result<bool, StoreFault> {
    match store.get::<Person>(Table::Factors, &row.owner_key, now).await {
        Ok(person) => Ok(person.is_some_and(|person| person.value.stands_by(&row.proof.factor_id, row.proof.era))),
        Err(StoreFault::Unreadable(_)) => Ok(false),
        Err(fault) => Err(fault),
    }
}

fn weighed(config: &config::Authority, row: &Elevation) -> SecondFactor {
    super::proof::worth(config, &row.proof, Covers::Level(LevelName::from(row.level.as_str())))
}

/// What stands until it is weighed: it covers a level that has no name.
fn worth_nothing() -> SecondFactor {
    SecondFactor {
        assurance: Default::default(),
        factors: Default::default(),
        categories: Default::default(),
        covers: Covers::Level("".into()),
        may_delete: false,
    }
}

/// What the keys of a person's elevations and handovers begin with.
pub(super) fn of_person(owner_key: &str) -> String {
    format!("{owner_key}/")
}

impl Elevation {
    /// The key of its row.
    pub(super) fn key(&self, store: &Store) -> String {
        of_person(&self.owner_key) + &store.index("elevation", &[&self.holder, self.level.as_bytes()])
    }
}

impl Authority {
    /// Adds an elevation to a commit; once that is done, [`Self::elevated_now`] makes it count.
    pub(super) fn elevate(
        &self,
        batch: Batch,
        caller: &Caller,
        level: &str,
        proof: &Proof,
        now: Now,
    ) -> (Batch, Elevation) {
        let store = self.store();
        let lives = self.levels().get(level).and_then(|level| level.max_age).unwrap_or(self.config().elevation_ttl);
        let row = Elevation {
            holder: caller.holder,
            owner_key: caller.owner().key(store),
            level: level.to_owned(),
            proof: proof.clone(),
            until: now.unix_secs().saturating_add(lives.as_secs().max(1)),
        };
        let key = row.key(store);
        // Whatever stood there was of the same holder and level, and is older. Two at once: either will do.
        let batch = batch.forget(Table::Elevations, &key).insert(Table::Elevations, &key, &row, Some(row.until));
        (batch, row)
    }

    /// An elevation is durable: requests may see it. Unless its factor went meanwhile: whoever takes factors away ends the
    /// elevations that can be seen then, and this one may not have been.
    pub(super) async fn elevated_now(
        &self,
        caller: &Caller,
        row: Elevation,
        way: Way<'_>,
        now: Now,
    ) -> Result<u64, Fault> {
        let factor = Arc::new(weighed(self.config(), &row));
        let row = Arc::new(row);
        self.core.elevations.put(Elevated { row: row.clone(), factor });
        let stands = self.holdings(caller, now).await.map(|held| held.stand_by(&row.proof.factor_id, row.proof.era));
        if !matches!(stands, Ok(true)) {
            self.core.elevations.remove(&row);
            self.store().commit(Batch::new().forget(Table::Elevations, &row.key(self.store())), now).await?;
            return Err(stands.err().unwrap_or(Fault::Proof));
        }
        self.core.observer.change(actor(&caller.owner(), way), Change::Elevated, None, "", now);
        Ok(row.until)
    }

    /// Adds the code at the end of a page to a commit.
    pub(super) fn handover(
        &self,
        batch: Batch,
        caller: &Caller,
        level: &str,
        proof: &Proof,
        now: Now,
    ) -> Result<(Batch, String), Fault> {
        let code = random::token()?;
        let key = self.handover_key(caller, &code);
        let row = Handover { level: level.to_owned(), proof: proof.clone() };
        Ok((batch.insert(Table::Handovers, &key, &row, Some(now.unix_secs() + HANDOVER_SECS)), code))
    }

    fn handover_key(&self, caller: &Caller, code: &str) -> String {
        let store = self.store();
        of_person(&caller.owner().key(store)) + &store.index("handover", &[&caller.holder, code.as_bytes()])
    }

    /// Elevates the caller's credential by the code that a page ended in. The code of another holder's page is not found.
    pub async fn hand_over(
        &self,
        caller: &Caller,
        code: &str,
        way: Way<'_>,
        now: Now,
    ) -> Result<ElevationShown, Fault> {
        let result = self.handed_over(caller, code, way, now).await;
        let outcome = match &result {
            Ok(_) => Outcome::Proved,
            Err(Fault::Store(_)) => Outcome::Unavailable,
            Err(_) => Outcome::Refused,
        };
        self.core.observer.ceremony(actor(&caller.owner(), way), None, Occasion::Handover, outcome, now);
        result
    }

    async fn handed_over(&self, caller: &Caller, code: &str, way: Way<'_>, now: Now) -> Result<ElevationShown, Fault> {
        if code.len() > 100 {
            return Err(Fault::Proof);
        }
        let key = self.handover_key(caller, code);
        let row = self.store().get::<Handover>(Table::Handovers, &key, now).await?.ok_or(Fault::Proof)?;
        let Handover { level, proof } = row.value;
        if !self.holdings(caller, now).await?.stand_by(&proof.factor_id, proof.era) {
            return Err(Fault::Proof);
        }
        let batch = Batch::new().delete(Table::Handovers, &key, row.version);
        let (batch, elevation) = self.elevate(batch, caller, &level, &proof, now);
        match self.store().commit(batch, now).await {
            Ok(()) => {}
            Err(StoreFault::Conflict) => return Err(Fault::Proof),
            Err(fault) => return Err(fault.into()),
        }
        let until = self.elevated_now(caller, elevation, way, now).await?;
        Ok(ElevationShown { level, factors: proof.factors.clone(), since: proof.at(), until })
    }

    /// The elevations of the caller's credential.
    pub fn elevated(&self, caller: &Caller, now: Now) -> Vec<ElevationShown> {
        let rows = self.core.elevations.rows(&caller.holder());
        let live = rows.into_iter().filter(|row| now.unix_secs() < row.until);
        live.map(|row| ElevationShown {
            level: row.level.clone(),
            factors: row.proof.factors.clone(),
            since: row.proof.at(),
            until: row.until,
        })
        .collect()
    }

    /// Ends the elevations of the caller's credential.
    pub async fn step_down(&self, caller: &Caller, way: Way<'_>, now: Now) -> Result<(), Fault> {
        let rows = self.core.elevations.rows(&caller.holder());
        let batch = rows.iter().fold(Batch::new(), |batch, row| self.forgotten(batch, row));
        self.store().commit(batch, now).await?;
        for row in &rows {
            self.core.elevations.remove(row);
        }
        self.core.observer.change(actor(&caller.owner(), way), Change::SteppedDown, None, "", now);
        Ok(())
    }

    /// Adds the end of all elevations of a person's to a commit; once that is done, [`Self::elevations_ended`]. A commit has
    /// bounds: what is beyond them ends before it.
    pub(super) async fn end_elevations(&self, mut batch: Batch, owner_key: &str, now: Now) -> Result<Batch, Fault> {
        let rows = self.core.elevations.of_owner(owner_key);
        let forget =
            |batch: Batch, rows: &[Arc<Elevation>]| rows.iter().fold(batch, |batch, row| self.forgotten(batch, row));
        for (number, rows) in rows.chunks(END_AT_ONCE).enumerate() {
            if number == 0 {
                batch = forget(batch, rows);
            } else {
                self.store().commit(forget(Batch::new(), rows), now).await?;
                rows.iter().for_each(|row| self.core.elevations.remove(row));
            }
        }
        Ok(batch)
    }

    /// What was durable by then counts no more, whenever it was seen first.
    pub(super) fn elevations_ended(&self, owner_key: &str) {
        for row in self.core.elevations.of_owner(owner_key) {
            self.core.elevations.remove(&row);
        }
    }

    fn forgotten(&self, batch: Batch, row: &Elevation) -> Batch {
        batch.forget(Table::Elevations, &row.key(self.store()))
    }
}
