//! What the owner of an account does with it: see and end sessions, change the password and the mail address. A stolen access
//! token changes neither: the password is asked for again, and a factor where there is one.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Accounts,
    mail::{CODE_SECS, LOOKS, Told},
    name,
    register::conflict_is,
    rows::{self, Account},
    second::SecondStep,
    session,
};
use crate::{
    authority::{Call, Change, Fault, Way, caller::actor, random},
    policy::Principal,
    store::{Batch, Table, Versioned},
};

/// A change of address that waits for the code: a row of `Table::Ceremonies`.
#[derive(Serialize, Deserialize)]
struct NewMail {
    account: String,
    mail: String,
    code: String,
    looks: u32,
}

/// Whoever called, by an access token of ours.
pub(super) struct Mine<'a> {
    principal: &'a Principal,
    pub(super) account: Versioned<Account>,
    sid: &'a str,
}

impl Accounts {
    /// The account and session behind a call.
    pub(super) async fn mine<'a>(&self, call: &Call<'a>) -> Result<Mine<'a>, Fault> {
        let principal = call.principal.ok_or(Fault::Anonymous)?;
        if *principal.issuer != *self.config.issuer {
            return Err(Fault::NotFound);
        }
        let sid = principal.marks.session.as_deref().ok_or(Fault::SignIn)?;
        let account = rows::by_id(self.store(), &principal.subject, call.now).await?.ok_or(Fault::SignIn)?;
        // The session must still be there: its end may be known to the store before it is to this gateway.
        let session = session::by_sid(self.store(), sid, call.now).await?;
        let lives =
            session.is_some_and(|row| row.value.account == account.value.id && row.value.epoch == account.value.epoch);
        if lives { Ok(Mine { principal, account, sid }) } else { Err(Fault::SignIn) }
    }

    /// Ends the session of a call.
    pub(super) async fn sign_out(&self, call: &Call<'_>) -> Result<(), Fault> {
        let mine = self.mine(call).await?;
        self.end_sessions(Batch::new(), vec![mine.sid.to_owned()], call.now).await?;
        self.changed(&mine, Change::SessionsEnded, "this", call);
        Ok(())
    }

    /// The account, and its sessions.
    pub(super) async fn account(&self, call: &Call<'_>) -> Result<Value, Fault> {
        let mine = self.mine(call).await?;
        let account = &mine.account.value;
        Ok(json!({
            "subject": account.id, "name": account.name, "email": account.mail,
            "created_at": account.created_at, "password_changed_at": account.password_at,
        }))
    }

    /// The sessions of an account, newest first.
    pub(super) async fn sessions(&self, call: &Call<'_>) -> Result<Value, Fault> {
        let mine = self.mine(call).await?;
        let mut sessions = session::of(self.store(), &mine.account.value.id, call.now).await?;
        sessions.sort_by_key(|row| std::cmp::Reverse(row.value.created_at));
        let shown: Vec<Value> = sessions
            .iter()
            .map(|row| {
                let session = &row.value;
                json!({
                    "id": session.sid, "current": session.sid == mine.sid, "client": session.client,
                    "created_at": session.created_at, "renewed_at": session.renewed_at,
                    "expires_at": session.expires_at(self.lives()), "factors": session.proof.factors,
                })
            })
            .collect();
        Ok(json!({ "sessions": shown }))
    }

    /// Ends one of the owner's sessions.
    pub(super) async fn end_one(&self, call: &Call<'_>, sid: &str) -> Result<(), Fault> {
        let mine = self.mine(call).await?;
        let row = session::by_sid(self.store(), sid, call.now).await?;
        row.filter(|row| row.value.account == mine.account.value.id).ok_or(Fault::NotFound)?;
        self.end_sessions(Batch::new(), vec![sid.to_owned()], call.now).await?;
        self.changed(&mine, Change::SessionsEnded, "one", call);
        Ok(())
    }

    /// Ends all of the owner's sessions but this one.
    pub(super) async fn end_others(&self, call: &Call<'_>) -> Result<(), Fault> {
        let mine = self.mine(call).await?;
        let sessions = session::of(self.store(), &mine.account.value.id, call.now).await?;
        let sids = sessions.into_iter().map(|row| row.value.sid).filter(|sid| sid != mine.sid).collect();
        self.end_sessions(Batch::new(), sids, call.now).await?;
        self.changed(&mine, Change::SessionsEnded, "others", call);
        Ok(())
    }

    /// Changes the password: by the one that is, and a proof where there are factors.
    pub(super) async fn change_password(
        &self,
        second: &impl SecondStep,
        call: &Call<'_>,
        (current, new, proof): (&str, &str, Option<&str>),
    ) -> Result<(), Fault> {
        let mine = self.mine(call).await?;
        let account = self.prove_again(second, &mine, current, proof, call).await?;
        self.rules.check(new, &account.value.own_words()).map_err(Fault::Call)?;
        let hash = self.hashing.fresh(new).await?;
        let here = self.network(call.client);
        let told = (Told::PasswordChanged, Some(mine.sid), here.as_str());
        self.set_password(None, account, hash, told, call.now).await?;
        self.changed(&mine, Change::PasswordChanged, "", call);
        Ok(())
    }

    /// Mails a code to another address; the answer is one, whether another account has that address or not.
    pub(super) async fn ask_new_mail(
        &self,
        second: &impl SecondStep,
        call: &Call<'_>,
        (mail, current, proof): (&str, &str, Option<&str>),
    ) -> Result<Value, Fault> {
        let now = call.now;
        if !name::is_mail(mail) {
            return Err(Fault::Call("`email` is no mail address"));
        }
        let mine = self.mine(call).await?;
        let account = self.prove_again(second, &mine, current, proof, call).await?;
        let taken =
            rows::by_name(self.store(), mail, now).await?.is_some_and(|other| other.value.id != account.value.id);
        let may_send = self.may_send(&name::folded(mail), now).await?;
        let (id, code) = (random::id()?, Self::mail_code()?);
        let kept =
            NewMail { account: account.value.id, mail: mail.to_owned(), code: self.code_digest(&id, &code), looks: 0 };
        let until = now.unix_secs().saturating_add(CODE_SECS);
        let batch = Batch::new().insert(Table::Ceremonies, &self.new_mail_key(&id), &kept, Some(until));
        let batch = match (may_send, taken) {
            (false, _) => batch,
            (true, true) => self.mail_that_known(batch, mail, now)?,
            (true, false) => self.mail_a_code(batch, mail, &code, "your new mail address", now)?,
        };
        self.store().commit(batch, now).await?;
        self.means.outbox.poke();
        Ok(json!({"change": id, "expires_at": until}))
    }

    /// Puts the new address in place, by the code; the old one is told.
    pub(super) async fn confirm_new_mail(&self, call: &Call<'_>, (id, code): (&str, &str)) -> Result<(), Fault> {
        let now = call.now;
        let mine = self.mine(call).await?;
        let key = self.new_mail_key(id);
        let row: Versioned<NewMail> = self.store().get(Table::Ceremonies, &key, now).await?.ok_or(Fault::SignIn)?;
        let kept = NewMail { looks: row.value.looks.saturating_add(1), ..row.value };
        if kept.looks > LOOKS || kept.account != mine.account.value.id {
            return Err(Fault::SignIn);
        }
        let counted = Batch::new().update(Table::Ceremonies, &key, row.version, &kept, row.expires_at);
        self.store().commit(counted, now).await.map_err(conflict_is(Fault::SignIn))?;
        let given = self.code_digest(id, code);
        if verify_slices_are_equal(given.as_bytes(), kept.code.as_bytes()).is_err() {
            return Err(Fault::SignIn);
        }
        let before = &mine.account.value;
        // A name that was the address stays one.
        let name =
            if before.mail.as_deref() == Some(before.name.as_str()) { kept.mail.clone() } else { before.name.clone() };
        let changed = Account { mail: Some(kept.mail), name, ..before.clone() };
        let batch = Batch::new().delete(Table::Ceremonies, &key, row.version.saturating_add(1));
        let batch = rows::update(self.store(), batch, &mine.account, &changed);
        let batch = self.tell(batch, before, Told::MailChanged, now)?;
        self.store().commit(batch, now).await.map_err(conflict_is(Fault::SignIn))?;
        self.means.outbox.poke();
        self.changed(&mine, Change::AddressChanged, "", call);
        Ok(())
    }

    fn changed(&self, mine: &Mine<'_>, change: Change, detail: &'static str, call: &Call<'_>) {
        let owner = self.owner(&mine.account.value.id);
        self.means.observer.change(actor(&owner, Way::of(call)), change, None, detail, call.now);
    }

    /// The owner once more: by the password, counted like any other attempt, and by a proof where there are factors.
    async fn prove_again(
        &self,
        second: &impl SecondStep,
        mine: &Mine<'_>,
        current: &str,
        proof: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Versioned<Account>, Fault> {
        let account = self.prove_password(&mine.account.value.name, current, Way::of(call), call.now).await?;
        if account.value.id != mine.account.value.id {
            return Err(Fault::SignIn);
        }
        let caller = second.caller(mine.principal).ok_or(Fault::SignIn)?;
        if second.has_factors(&caller, call.now).await? {
            let proof =
                proof.ok_or(Fault::Call("`proof` is wanted: the number of a challenge for `manage` that was met"))?;
            second.redeem(&caller, proof, call.now).await?;
        }
        Ok(account)
    }

    fn new_mail_key(&self, id: &str) -> String {
        format!("c:{}", self.store().index("new mail", &[id.as_bytes()]))
    }
}
