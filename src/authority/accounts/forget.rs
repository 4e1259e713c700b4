//! Forgetting an account: its names, its sessions, and what was begun for it.

use serde_json::Value;

use super::{Accounts, lock, mail, name, rows, session};
use crate::{
    authority::{
        Fault, Owner,
        forget::{Broom, tells_of_it},
    },
    clock::Now,
    store::{Batch, MAX_PAGE, Store, StoreFault, Table},
};

/// Whether an account of this number is kept.
pub(in crate::authority) async fn is_kept(store: &Store, id: &str, now: Now) -> Result<bool, StoreFault> {
    Ok(rows::by_id(store, id, now).await?.is_some())
}

impl Accounts {
    /// Takes away an account and all that is of it; how many rows. Nothing, where another vouches for the person.
    pub(in crate::authority) async fn forget(&self, owner: &Owner, now: Now) -> Result<usize, StoreFault> {
        if owner.issuer != self.issuer {
            return Ok(0);
        }
        let (store, id) = (self.store(), &*owner.subject);
        let broom = Broom::new(store, now);
        let account = rows::by_id(store, id, now).await?;
        let names = account.as_ref().map_or_else(Vec::new, |account| account.value.names());
        // What is found by the names goes while they are known, and once more when nobody can sign in any more.
        let mut gone = self.forget_names(broom, &names).await?;
        if let Some(account) = account {
            store.commit(rows::remove(store, Batch::new(), &account), now).await?;
            gone += 1 + self.forget_names(broom, &names).await?;
        }
        for begun in ["c:", "f:", "s:", "t:"] {
            let is_theirs = |row: &Value| row.get("account").and_then(Value::as_str) == Some(id);
            gone += broom.those(Table::Ceremonies, begun, is_theirs).await?;
        }
        gone += self.forget_sessions(broom, id, now).await?;
        Ok(gone)
    }

    /// Wrong passwords, mails that were sent, registrations and invitations under a name or an address.
    async fn forget_names(&self, broom: Broom<'_>, names: &[String]) -> Result<usize, StoreFault> {
        let (store, mut gone) = (self.store(), 0);
        for folded in names {
            gone += broom.below(Table::Guesses, &lock::prefix(store, folded)).await?;
            gone += broom.below(Table::Sent, &mail::count_key(store, folded)).await?;
        }
        if !names.is_empty() {
            let text = |row: &Value, part: &str| row.get(part).and_then(Value::as_str).map(name::folded);
            let is_theirs = |row: &Value| {
                [text(row, "mail"), text(row, "name")].into_iter().flatten().any(|name| names.contains(&name))
            };
            gone += broom.those(Table::Ceremonies, "r:", is_theirs).await?;
            gone += broom.those(Table::Invitations, "r:", is_theirs).await?;
            let to = |row: &Value| Some(name::folded(row.pointer("/message/channel/mail/to")?.as_str()?));
            let is_letter = |row: &Value| !tells_of_it(row) && to(row).is_some_and(|to| names.contains(&to));
            gone += broom.those(Table::Outbox, "", is_letter).await?;
        }
        Ok(gone)
    }

    /// Ends the sessions, so that their access tokens are refused; then nothing has to remember which they were.
    async fn forget_sessions(&self, broom: Broom<'_>, id: &str, now: Now) -> Result<usize, StoreFault> {
        let mut gone = 0;
        loop {
            let sids: Vec<String> =
                session::of(self.store(), id, now).await?.into_iter().map(|row| row.value.sid).collect();
            if sids.is_empty() {
                break;
            }
            gone += sids.len();
            self.end_sessions(Batch::new(), sids, now).await.map_err(|fault| {
                if let Fault::Store(fault) = fault { fault } else { StoreFault::Unavailable(fault.to_string()) }
            })?;
        }
        let [sessions, ended] = session::prefixes(self.store(), id);
        // What ended when this was cut off before, or earlier, may not be refused yet.
        let notes = self.store().readable::<session::Ended>(Table::Sessions, &ended, None, MAX_PAGE, now).await?;
        let until = notes.rows.iter().map(|row| row.value.until).max();
        let sids: Vec<String> = notes.rows.into_iter().map(|row| row.value.sid).collect();
        if let Some(until) = until {
            self.means.ends.end(&self.config.issuer, sids, until, now).await?;
        }
        gone += broom.below(Table::Sessions, &ended).await?;
        gone += broom.below(Table::Sessions, &sessions).await?;
        Ok(gone)
    }
}
