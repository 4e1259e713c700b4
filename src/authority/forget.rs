//! Forgetting somebody whose account was erased: every row that is theirs goes, in commits of a bounded size. What a crash cuts off is
//! done by saying it once more.
//!
//! ```text
//!   first what gives the right to act:    account ─ sessions ─ pages ─ ceremonies ─ handovers ─ invitations ─ resets ─ approvals
//!   then what is left of them:            factors ─ recovery codes ─ elevations ─ guesses ─ what was sent ─ who they are ─ messages
//!   and once more from the beginning, until nothing was found
//! ```
//!
//! Somebody may be enrolling a factor at this moment. That ends in a commit that takes a ceremony away, and the ceremonies go before the
//! factors: so either it is done by then, and what it made is found, or it cannot be done any more. Of what begins afterwards, by a request
//! that was let in before its token was refused, a ceremony may be left, which nobody can finish and which is gone after five minutes.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    Actor, Authority, Change, Owner,
    accounts::{self, Accounts},
    elevation::of_person,
    guessing,
    sent::{APPROVALS, count_key},
};
use crate::{
    clock::Now,
    store::{Batch, Store, StoreFault, Table},
};

/// How many rows go in one commit.
const AT_ONCE: usize = 100;
/// How often it is begun again where something was found: more than that is somebody who makes rows as fast as they go.
const PASSES: usize = 8;
/// What the kinds of messages begin with that tell of the deletion itself.
const OF_THE_DELETION: &str = "deletion_";

/// Takes rows away.
#[derive(Clone, Copy)]
pub(super) struct Broom<'a> {
    store: &'a Store,
    now: Now,
}

impl<'a> Broom<'a> {
    pub(super) fn new(store: &'a Store, now: Now) -> Self {
        Self { store, now }
    }

    /// The time for reading: rows that have expired are in the file until they are purged.
    fn before_all(&self) -> Now {
        Now { unix_ms: 0, ..self.now }
    }

    /// Takes away what has a key that begins so, whether it can be read or not; how many rows.
    pub(super) async fn below(&self, table: Table, prefix: &str) -> Result<usize, StoreFault> {
        let mut gone = 0;
        loop {
            let page = self.store.readable::<IgnoredAny>(table, prefix, None, AT_ONCE, self.before_all()).await?;
            let keys: Vec<String> = page.rows.into_iter().map(|row| row.key).chain(page.unreadable).collect();
            gone += self.take(table, &keys).await?;
            if page.next.is_none() {
                return Ok(gone);
            }
        }
    }

    /// Takes away those of the rows below a key that are somebody's by what they say; how many. One that cannot be read says nothing,
    /// and nothing is done with it before it expires.
    pub(super) async fn those(
        &self,
        table: Table,
        prefix: &str,
        is_theirs: impl Fn(&Value) -> bool,
    ) -> Result<usize, StoreFault> {
        let (mut gone, mut after) = (0, None::<String>);
        loop {
            let page =
                self.store.readable::<Value>(table, prefix, after.as_deref(), AT_ONCE, self.before_all()).await?;
            let theirs = page.rows.into_iter().filter(|row| is_theirs(&row.value));
            gone += self.take(table, &theirs.map(|row| row.key).collect::<Vec<_>>()).await?;
            after = page.next;
            if after.is_none() {
                return Ok(gone);
            }
        }
    }

    async fn take(&self, table: Table, keys: &[String]) -> Result<usize, StoreFault> {
        let batch = keys.iter().fold(Batch::new(), |batch, key| batch.forget(table, key));
        self.store.commit(batch, self.now).await?;
        Ok(keys.len())
    }
}

/// Whether a value names this person.
fn names(value: Option<&Value>, owner: &Owner) -> bool {
    let text = |name: &str| value.and_then(|value| value.get(name)).and_then(Value::as_str);
    text("issuer") == Some(&*owner.issuer) && text("subject") == Some(&*owner.subject)
}

/// Whether a message that waits tells of the deletion: it is to arrive.
pub(super) fn tells_of_it(row: &Value) -> bool {
    row.pointer("/message/kind").and_then(Value::as_str).is_some_and(|kind| kind.starts_with(OF_THE_DELETION))
}

/// Whether a message that waits is about this person, and not of the deletion.
fn is_message_of(row: &Value, owner: &Owner) -> bool {
    let part = |pointer: &str| row.pointer(pointer);
    !tells_of_it(row) && (names(part("/message/data"), owner) || names(part("/message/data/details"), owner))
}

/// Takes away all rows of a person's that can be found by who they are; how many.
async fn pass(broom: Broom<'_>, owner: &Owner, accounts: Option<&Accounts>) -> Result<usize, StoreFault> {
    let (key, now) = (owner.key(broom.store), broom.now);
    let own = of_person(&key);
    let mut gone = match accounts {
        Some(accounts) => accounts.forget(owner, now).await?,
        None => 0,
    };
    gone += broom.those(Table::PageSessions, "", |row| names(row.get("caller"), owner)).await?;
    gone += broom.below(Table::Ceremonies, &own).await?;
    gone += broom.below(Table::Handovers, &own).await?;
    gone += broom.below(Table::Invitations, &key).await?;
    gone += broom.those(Table::Resets, "", |row| names(Some(row), owner)).await?;
    gone += broom.those(Table::Sent, APPROVALS, |row| names(row.get("details"), owner)).await?;

    gone += broom.below(Table::Factors, &key).await?;
    gone += broom.below(Table::RecoveryCodes, &key).await?;
    gone += broom.below(Table::Elevations, &own).await?;
    for prefix in guessing::prefixes(&key) {
        gone += broom.below(Table::Guesses, &prefix).await?;
    }
    gone += broom.below(Table::Sent, &count_key(&key)).await?;
    gone += broom.below(Table::Subjects, &key).await?;
    gone += broom.those(Table::Outbox, "", |row| is_message_of(row, owner)).await?;
    Ok(gone)
}

/// Repeats it until nothing is left; how many rows there were.
async fn all(
    broom: Broom<'_>,
    owner: &Owner,
    accounts: Option<&Accounts>,
    after_each: impl Fn(),
) -> Result<usize, StoreFault> {
    let mut all = 0;
    for _ in 0..PASSES {
        let gone = pass(broom, owner, accounts).await?;
        after_each();
        all += gone;
        if gone == 0 {
            // Without accounts nobody says who vouches for those that are kept from before: it might be they.
            let is_kept = accounts.is_none() && accounts::is_kept(broom.store, &owner.subject, broom.now).await?;
            let why = "an account of this number is kept, and no accounts are configured";
            return if is_kept { Err(StoreFault::Unavailable(why.to_owned())) } else { Ok(all) };
        }
    }
    Err(StoreFault::Busy)
}

/// Forgets somebody where no authority is in force: what was kept of them, when there was one, goes all the same.
///
/// # Errors
/// What the store says: it is to be repeated.
pub async fn forget_rows(store: &Store, issuer_url: &str, subject: &str, now: Now) -> Result<(), StoreFault> {
    let owner = Owner { issuer: issuer_url.into(), subject: subject.into() };
    all(Broom::new(store, now), &owner, None, || {}).await.map(drop)
}

impl Authority {
    /// Takes away all that is kept of a person: factors, elevations, what they are in the middle of, an account with its sessions. May be
    /// repeated. Whoever calls sees to it that tokens of theirs are refused from then on.
    ///
    /// # Errors
    /// What the store says: it is to be repeated.
    pub async fn forget(&self, issuer_url: &str, subject: &str, now: Now) -> Result<(), StoreFault> {
        let store = self.store();
        let owner = Owner { issuer: issuer_url.into(), subject: subject.into() };
        let key = owner.key(store);
        // What requests see ends with the rows.
        let elevations_end = || self.elevations_ended(&key);
        let gone = all(Broom::new(store, now), &owner, self.accounts(), elevations_end).await?;
        if gone > 0 {
            // By the keyed hash alone: what was kept of them is not to be known from a record of its end.
            let nobody = Owner { issuer: owner.issuer, subject: key.into() };
            let actor = Actor { owner: &nobody, operator: None, client: None, request_id: None };
            self.core.observer.change(actor, Change::Forgotten, None, "", now);
        }
        Ok(())
    }
}
