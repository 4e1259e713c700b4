//! Registering. With `registration: open` whoever reads the mail of an address gets an account; the answer is one, and the work
//! is, whether the address has an account already or not: its owner is told by mail. Only who has confirmed an address learns
//! that a name is taken. With `registration: invitation` the code of an operator's takes the mail's place.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Accounts,
    mail::{CODE_SECS, LOOKS, Told},
    name,
    rows::{self, Account},
};
use crate::{
    authority::{Actor, Change, Fault, Invitation, Way, caller::actor, random},
    clock::Now,
    config::Registration,
    policy::Factor,
    store::{Batch, StoreFault, Table, Versioned},
};

/// An invitation to register: a row of `Table::Invitations`.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccountInvitation {
    /// The operator who made it.
    pub by: String,
    /// The mail address that it was sent to, which then needs no confirmation.
    pub mail: Option<String>,
}

/// Somebody who has still to show that they read the mail of their address: a row of `Table::Ceremonies`.
#[derive(Serialize, Deserialize)]
struct Pending {
    name: String,
    mail: String,
    hash: String,
    /// The digest of the code; of one that nobody was sent, where the address has an account.
    code: String,
    looks: u32,
}

/// What somebody registers with.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) mail: Option<&'a str>,
    pub(super) password: &'a str,
}

const NAME_FORM: &str = "`name` has up to 64 letters, digits and `. _ -`, and begins with a letter or digit";
const MAIL_FORM: &str = "`email` is no mail address";
const NAME_TAKEN: &str = "`name` is taken: confirm again with another one";

impl Accounts {
    /// Begins to register by mail. Its number, whoever asks.
    pub(super) async fn register(&self, wanted: Wanted<'_>, now: Now) -> Result<Value, Fault> {
        if self.config.registration != Registration::Open {
            return Err(Fault::Enrolment);
        }
        let mail = wanted.mail.filter(|mail| name::is_mail(mail)).ok_or(Fault::Call(MAIL_FORM))?;
        let name = wanted.name.unwrap_or(mail);
        self.check_name(name, Some(mail))?;
        self.rules.check(wanted.password, &[name, mail]).map_err(Fault::Call)?;
        // From here on all is done alike, whoever it is.
        let hash = self.hashing.fresh(wanted.password).await?;
        let known = rows::by_name(self.store(), mail, now).await?.is_some();
        let may_send = self.may_send(&name::folded(mail), now).await?;
        let (id, code) = (random::id()?, Self::mail_code()?);
        let kept = if known { Self::mail_code()? } else { code.clone() };
        let pending = Pending {
            name: name.to_owned(),
            mail: mail.to_owned(),
            hash,
            code: self.code_digest(&id, &kept),
            looks: 0,
        };
        let until = now.unix_secs().saturating_add(CODE_SECS);
        let batch = Batch::new().insert(Table::Ceremonies, &self.pending_key(&id), &pending, Some(until));
        let batch = match (may_send, known) {
            // As silent as it is limited: whoever asks too often learns nothing by it.
            (false, _) => batch,
            (true, true) => self.mail_that_known(batch, mail, now)?,
            (true, false) => self.mail_a_code(batch, mail, &code, "a new account", now)?,
        };
        self.store().commit(batch, now).await?;
        self.means.outbox.poke();
        Ok(json!({"registration": id, "expires_at": until}))
    }

    /// Makes the account, by the code that was mailed. `name`: another one than was asked for at first.
    pub(super) async fn confirm(
        &self,
        id: &str,
        code: &str,
        name: Option<&str>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Value, Fault> {
        let key = self.pending_key(id);
        let row: Versioned<Pending> = self.store().get(Table::Ceremonies, &key, now).await?.ok_or(Fault::SignIn)?;
        let pending = Pending { looks: row.value.looks.saturating_add(1), ..row.value };
        if pending.looks > LOOKS {
            return Err(Fault::SignIn);
        }
        // Counted before it is looked at, once for each commit.
        let counted = Batch::new().update(Table::Ceremonies, &key, row.version, &pending, row.expires_at);
        self.store().commit(counted, now).await.map_err(conflict_is(Fault::SignIn))?;
        let given = self.code_digest(id, code);
        if aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), pending.code.as_bytes()).is_err() {
            return Err(Fault::SignIn);
        }
        let name = name.unwrap_or(&pending.name);
        self.check_name(name, Some(&pending.mail))?;
        let account = Account::new(name, Some(&pending.mail), pending.hash, now)?;
        if *name != *pending.mail && rows::by_name(self.store(), name, now).await?.is_some() {
            return Err(Fault::Call(NAME_TAKEN));
        }
        let batch = Batch::new().delete(Table::Ceremonies, &key, row.version.saturating_add(1));
        self.add(batch, &account, way, now).await
    }

    /// Makes an account by an operator's invitation.
    pub(super) async fn accept(
        &self,
        invitation: &str,
        wanted: Wanted<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Value, Fault> {
        if self.config.registration == Registration::Closed {
            return Err(Fault::Enrolment);
        }
        let key = self.invitation_key(invitation);
        let row: Versioned<AccountInvitation> =
            self.store().get(Table::Invitations, &key, now).await?.ok_or(Fault::Enrolment)?;
        // Only the invitation's own address is one whose mail they are known to read; another is confirmed by changing it.
        let mail = row.value.mail.as_deref();
        let name = wanted.name.or(mail).ok_or(Fault::Call(NAME_FORM))?;
        self.check_name(name, mail)?;
        let words: Vec<&str> = [Some(name), mail, wanted.mail].into_iter().flatten().collect();
        self.rules.check(wanted.password, &words).map_err(Fault::Call)?;
        if rows::by_name(self.store(), name, now).await?.is_some() {
            return Err(Fault::Call("`name` is taken: choose another one"));
        }
        let account = Account::new(name, mail, self.hashing.fresh(wanted.password).await?, now)?;
        self.add(Batch::new().delete(Table::Invitations, &key, row.version), &account, way, now).await
    }

    /// Invites somebody to register: the code is told this once. For operators.
    pub async fn invite_account(
        &self,
        by: &str,
        mail: Option<&str>,
        ttl: Option<Duration>,
        now: Now,
    ) -> Result<Invitation, Fault> {
        if mail.is_some_and(|mail| !name::is_mail(mail)) {
            return Err(Fault::Call(MAIL_FORM));
        }
        let code = random::token()?;
        let ttl = ttl.unwrap_or(self.authority.invitation_ttl);
        let expires_at = now.unix_secs().saturating_add(ttl.as_secs());
        let invitation = AccountInvitation { by: by.to_owned(), mail: mail.map(str::to_owned) };
        let batch = Batch::new().insert(Table::Invitations, &self.invitation_key(&code), &invitation, Some(expires_at));
        self.store().commit(batch, now).await?;
        // Nobody's yet: the issuer alone is known.
        let actor = Actor { owner: &self.owner(""), operator: Some(by), client: None, request_id: None };
        self.means.observer.change(actor, Change::Invited, None, "account", now);
        Ok(Invitation { code, expires_at })
    }

    async fn add(&self, batch: Batch, account: &Account, way: Way<'_>, now: Now) -> Result<Value, Fault> {
        let batch = rows::insert(self.store(), batch, account);
        let batch = self.tell(batch, account, Told::Registered, now)?;
        // The address or the name was taken meanwhile, or the code used.
        self.store().commit(batch, now).await.map_err(conflict_is(Fault::SignIn))?;
        self.means.outbox.poke();
        let owner = self.owner(&account.id);
        self.means.observer.change(actor(&owner, way), Change::Registered, Some(Factor::Password), "", now);
        Ok(json!({"subject": account.id, "name": account.name}))
    }

    /// A name is plain, or the account's own address: no other's.
    fn check_name(&self, name: &str, mail: Option<&str>) -> Result<(), Fault> {
        if name::is_name(name) || mail == Some(name) { Ok(()) } else { Err(Fault::Call(NAME_FORM)) }
    }

    fn pending_key(&self, id: &str) -> String {
        format!("r:{}", self.store().index("registration", &[id.as_bytes()]))
    }

    fn invitation_key(&self, code: &str) -> String {
        format!("r:{}", self.store().index("invitation to register", &[code.as_bytes()]))
    }
}

/// What a conflict means, where it can mean one thing alone.
pub(super) fn conflict_is(meant: Fault) -> impl FnOnce(StoreFault) -> Fault {
    move |fault| if fault == StoreFault::Conflict { meant } else { fault.into() }
}
