//! A password that was forgotten: a code to the account's address, and where there are factors one of them as well, give another
//! one. Factors stay as they are; those that are enrolled soon afterwards delete nothing for a while.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Accounts,
    mail::{CODE_SECS, LOOKS, Told},
    name,
    register::conflict_is,
    rows::{self, Account},
    second::{Aim, SecondStep, Ticket},
    session,
    sign_in::Step,
};
use crate::{
    authority::{Change, Fault, Owner, Way, caller::actor, random},
    clock::Now,
    policy::Factor,
    store::{Batch, StoreFault, Table, Versioned},
};

/// How often another password is tried to be set where others write to the account at the same moment.
const TRIES: u32 = 8;

/// A recovery that was asked for: a row of `Table::Ceremonies`. Without an account it is there all the same.
#[derive(Serialize, Deserialize)]
struct Asked {
    account: Option<String>,
    code: String,
    looks: u32,
}

impl Accounts {
    /// Mails a code to the owner of an address, if there is an account. Its number, whoever asks.
    pub(super) async fn ask_recovery(&self, mail: &str, now: Now) -> Result<Value, Fault> {
        if !name::is_mail(mail) {
            return Err(Fault::Call("`email` is no mail address"));
        }
        let account = rows::by_name(self.store(), mail, now).await?;
        // By the address, not by a name that looks like one.
        let account = account.filter(|account| {
            account.value.mail.as_deref().is_some_and(|known| name::folded(known) == name::folded(mail))
        });
        let may_send = self.may_send(&name::folded(mail), now).await?;
        if may_send {
            // Also where there is nobody to mail to: no room is no room for anybody.
            self.has_room_for(mail, now)?;
        }
        let (id, code) = (random::id()?, Self::mail_code()?);
        let asked = Asked {
            account: account.as_ref().map(|account| account.value.id.clone()),
            code: self.code_digest(&id, &code),
            looks: 0,
        };
        let until = now.unix_secs().saturating_add(CODE_SECS);
        let batch = Batch::new().insert(Table::Ceremonies, &self.asked_key(&id), &asked, Some(until));
        let to = account.as_ref().and_then(|account| account.value.mail.as_deref()).filter(|_| may_send);
        let batch = match to {
            Some(to) => self.mail_a_code(batch, to, &code, "a new password", now)?,
            None => batch,
        };
        self.store().commit(batch, now).await?;
        self.means.outbox.poke();
        Ok(json!({"recovery": id, "expires_at": until}))
    }

    /// Sets another password by the code; first a factor is to be shown where there is one.
    pub(super) async fn recover_by(
        &self,
        second: &impl SecondStep,
        (id, code, password): (&str, &str, &str),
        way: Way<'_>,
        now: Now,
    ) -> Result<Step, Fault> {
        let key = self.asked_key(id);
        let row: Versioned<Asked> = self.store().get(Table::Ceremonies, &key, now).await?.ok_or(Fault::SignIn)?;
        let asked = Asked { looks: row.value.looks.saturating_add(1), ..row.value };
        if asked.looks > LOOKS {
            return Err(Fault::SignIn);
        }
        let counted = Batch::new().update(Table::Ceremonies, &key, row.version, &asked, row.expires_at);
        self.store().commit(counted, now).await.map_err(conflict_is(Fault::SignIn))?;
        let given = self.code_digest(id, code);
        let right = verify_slices_are_equal(given.as_bytes(), asked.code.as_bytes()).is_ok();
        let account = match asked.account.filter(|_| right) {
            Some(account) => rows::by_id(self.store(), &account, now).await?,
            None => None,
        };
        let account = account.ok_or(Fault::SignIn)?;
        // The code is right: from here on its holder may be told what is wrong with the password, and try another.
        self.rules.check(password, &account.value.own_words()).map_err(Fault::Call)?;
        let hash = self.hashing.fresh(password).await?;
        let used = Batch::new().delete(Table::Ceremonies, &key, row.version.saturating_add(1));
        self.store().commit(used, now).await.map_err(conflict_is(Fault::SignIn))?;
        if second.has_factors(&self.newcomer(&account.value, ""), now).await? {
            let challenge = self.challenge(second, &account.value, Aim::Recover { hash }, way, now).await?;
            return Ok(Step::Challenge(challenge));
        }
        self.set_recovered(None, account, hash, way, now).await.map(Step::Done)
    }

    /// Puts the new password in place, and ends every session. Whoever did this is signed in by nothing but the new password.
    pub(super) async fn set_recovered(
        &self,
        ticket: Option<&Versioned<Ticket>>,
        account: Versioned<Account>,
        hash: String,
        way: Way<'_>,
        now: Now,
    ) -> Result<Value, Fault> {
        let here = self.network(way.client);
        let owner = self.owner(&account.value.id);
        self.set_password(ticket, account, hash, (Told::Recovered, None, &here), now).await?;
        self.means.observer.change(actor(&owner, way), Change::Recovered, Some(Factor::Password), "", now);
        Ok(json!({"status": "recovered"}))
    }

    /// Another password: the account's count goes on, so that no session of before can be renewed, and each is ended besides but
    /// for the one that may stay. Of the networks that it was signed in from, this one alone stays known: who owns the account is
    /// here, and must not meet what strangers guess elsewhere when they sign in by the new one. Somebody who signs in at the same
    /// moment, or notes something else in the account, is no reason to give up: by then a code was used for it. Another change of
    /// password is.
    pub(super) async fn set_password(
        &self,
        ticket: Option<&Versioned<Ticket>>,
        mut account: Versioned<Account>,
        hash: String,
        (told, stays, here): (Told, Option<&str>, &str),
        now: Now,
    ) -> Result<(), Fault> {
        let (id, before) = (account.value.id.clone(), account.value.epoch);
        for _ in 0..TRIES {
            let batch = ticket.map_or_else(Batch::new, |ticket| Self::spend(Batch::new(), ticket));
            match self.password_set(batch, &account, &hash, (told, stays, here), now).await {
                Err(Fault::Store(StoreFault::Conflict)) => {}
                result => return result,
            }
            let again = rows::by_id(self.store(), &id, now).await?;
            account = again.filter(|again| again.value.epoch == before).ok_or(Fault::SignIn)?;
        }
        Err(Fault::Store(StoreFault::Busy))
    }

    async fn password_set(
        &self,
        batch: Batch,
        account: &Versioned<Account>,
        hash: &str,
        (told, stays, here): (Told, Option<&str>, &str),
        now: Now,
    ) -> Result<(), Fault> {
        let epoch = account.value.epoch.saturating_add(1);
        // After a recovery, factors that are enrolled delete nothing for a while: whoever has somebody's mail must not have
        // that at once, also where there was no factor before.
        let until = match told {
            Told::Recovered => now.unix_secs().saturating_add(self.authority.probation.as_secs()),
            Told::PasswordChanged | Told::MailChanged | Told::Registered | Told::TokenReused => 0,
        };
        let mut changed = Account {
            hash: hash.to_owned(),
            epoch,
            password_at: now.unix_secs(),
            familiar: Vec::new(),
            probation_until: account.value.probation_until.max(until),
            ..account.value.clone()
        };
        changed.note_network(here, now.unix_secs());
        let mut batch = rows::update(self.store(), batch, account, &changed);
        batch = self.tell(batch, &changed, told, now)?;
        let sessions = session::of(self.store(), &account.value.id, now).await?;
        let mut ended = Vec::new();
        for row in sessions {
            if stays == Some(row.value.sid.as_str()) && row.value.epoch == account.value.epoch {
                let mut kept = row.value.clone();
                kept.epoch = epoch;
                batch = session::update(batch, &row, &kept, self.lives());
            } else {
                ended.push(row.value.sid);
            }
        }
        self.end_sessions(batch, ended, now).await?;
        self.means.outbox.poke();
        Ok(())
    }

    /// Until when factors that an account's owner enrols delete nothing; 0 for whoever is no account's owner.
    pub(in crate::authority) async fn probation_until(&self, owner: &Owner, now: Now) -> Result<u64, Fault> {
        if owner.issuer != self.issuer {
            return Ok(0);
        }
        let account = rows::by_id(self.store(), &owner.subject, now).await?;
        Ok(account.map_or(0, |account| account.value.probation_until))
    }

    fn asked_key(&self, id: &str) -> String {
        format!("f:{}", self.store().index("recovery", &[id.as_bytes()]))
    }
}
