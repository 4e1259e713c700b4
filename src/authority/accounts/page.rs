//! What the pages of accounts do: the same steps as the API's, by the same functions. They end in a session of the pages, or in a
//! code that the app which opened them redeems for tokens.
//!
//! ```text
//!   app ── /sign-in?return_to&code_challenge ── password ── factor? ── code (2 minutes, once) ── back to the app
//!                                                                        └── redeem, by the verifier ──> tokens
//! ```
//!
//! The challenge (RFC 7636, S256) binds the code to whoever opened the page: one that is found in a log or a history is good for
//! nothing, and an app that is sent a code that it did not ask for cannot redeem it.

use std::time::Instant;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Accounts,
    mail::Told,
    register::{Wanted, conflict_is},
    rows::{self, Account},
    second::{Aim, SecondStep, Ticket},
    session,
    sign_in::{Claimed, First, Fresh, Step},
};
use crate::{
    authority::{Answered, Begun, Caller, Change, Fault, Finished, Proof, Way, caller::actor, random},
    clock::Now,
    config::Registration,
    policy::Factor,
    store::{Batch, Table, Versioned},
};

/// How long a code for the app is good for, in seconds.
const ENTRY_SECS: u64 = 120;

/// A factor that is to be shown first.
pub(in crate::authority) struct Asked {
    /// Whoever has it has shown the password, or the code that was mailed.
    pub(in crate::authority) ticket: String,
    /// What is to be shown.
    pub(in crate::authority) begun: Begun,
}

/// Somebody who has shown all that there is to show.
pub(in crate::authority) struct Entrance {
    pub(in crate::authority) account: Account,
    /// The factor that was shown; `None`: the password alone.
    pub(in crate::authority) factor: Option<Proof>,
    proof: Proof,
    scopes: Vec<String>,
    network: String,
    ticket: Option<Versioned<Ticket>>,
}

/// Where a step at the page leads.
pub(in crate::authority) enum Entry {
    /// In.
    In(Box<Entrance>),
    /// To a factor.
    Asked(Asked),
    /// The other device has not answered yet.
    Pending,
    /// A new password is set.
    Recovered,
}

/// A session, for the owner's list.
pub(in crate::authority) struct SessionShown {
    pub(in crate::authority) sid: String,
    pub(in crate::authority) client: String,
    pub(in crate::authority) created_at: u64,
    pub(in crate::authority) renewed_at: u64,
    pub(in crate::authority) expires_at: u64,
}

/// A code for the app: a row of `Table::Ceremonies`.
#[derive(Serialize, Deserialize)]
struct Kept {
    account: String,
    epoch: u64,
    proof: Proof,
    scopes: Vec<String>,
    network: String,
    challenge: String,
}

impl Accounts {
    /// Who may make an account.
    pub(in crate::authority) fn registration(&self) -> Registration {
        self.config.registration
    }

    /// The least length of a password.
    pub(in crate::authority) fn password_chars(&self) -> usize {
        self.config.password_chars
    }

    /// Looks at a name and a password.
    pub(in crate::authority) async fn enter(
        &self,
        second: &impl SecondStep,
        (name, password, scope): (&str, &str, Option<&str>),
        client: &str,
        way: Way<'_>,
        now: Now,
    ) -> Result<Entry, Fault> {
        let began = Instant::now();
        let claimed = Claimed { name, password, scope, client };
        let first = self.first_step(second, claimed, way, now).await;
        if matches!(first, Err(Fault::SignIn)) {
            self.hashing.pace(began).await;
        }
        Ok(match first? {
            First::Challenge(asked) => Entry::Asked(Asked { ticket: asked.ticket, begun: asked.begun }),
            First::In { account, scopes, network } => Entry::In(Box::new(Entrance {
                account: account.value,
                factor: None,
                proof: Self::password_proof(now),
                scopes,
                network,
                ticket: None,
            })),
        })
    }

    /// Looks at a factor that was shown for a ticket.
    pub(in crate::authority) async fn enter_by_factor(
        &self,
        second: &impl SecondStep,
        ticket: &str,
        (id, shown): (&str, Answered<'_>),
        way: Way<'_>,
        now: Now,
    ) -> Result<Entry, Fault> {
        let (row, account) = self.ticket(ticket, now).await?;
        let aim = row.value.aim.clone();
        if let Aim::Renew { .. } = aim {
            return Err(Fault::SignIn);
        }
        let proof = match second.finish(&self.newcomer(&account.value, ticket), id, shown, way, now).await? {
            Finished::Pending => return Ok(Entry::Pending),
            Finished::Proved { proof, .. } => proof,
        };
        match aim {
            Aim::SignIn { scopes, network, .. } => Ok(Entry::In(Box::new(Entrance {
                account: account.value,
                factor: Some(proof.clone()),
                proof,
                scopes,
                network,
                ticket: Some(row),
            }))),
            Aim::Recover { hash } => {
                self.set_recovered(Some(&row), account, hash, way, now).await?;
                Ok(Entry::Recovered)
            }
            Aim::Renew { .. } => Err(Fault::SignIn),
        }
    }

    /// Another ceremony for a ticket.
    pub(in crate::authority) async fn ask_again(
        &self,
        second: &impl SecondStep,
        ticket: &str,
        factor: Option<Factor>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Begun, Fault> {
        self.challenge_again(second, ticket, factor, way, now).await
    }

    /// Who somebody is at the pages, once they are in.
    pub(in crate::authority) fn page_caller(&self, account: &Account) -> Result<Caller, Fault> {
        Ok(self.newcomer(account, &random::token()?))
    }

    /// Uses up what let somebody in, in a commit with what it lets them in to.
    pub(in crate::authority) async fn let_in(&self, entrance: &Entrance, batch: Batch, now: Now) -> Result<(), Fault> {
        let batch = match &entrance.ticket {
            Some(ticket) => Self::spend(batch, ticket),
            None => batch,
        };
        self.store().commit(batch, now).await.map_err(conflict_is(Fault::SignIn))?;
        // Others' guessing locks nobody out here from now on; were this not written, it would at the worst.
        if let Some(account) = rows::by_id(self.store(), &entrance.account.id, now).await? {
            let mut noted = account.value.clone();
            noted.note_network(&entrance.network, now.unix_secs());
            let _ = self.store().commit(rows::update(self.store(), Batch::new(), &account, &noted), now).await;
        }
        Ok(())
    }

    /// A code for the app that opened the page, bound to its challenge.
    pub(in crate::authority) async fn entry_code(
        &self,
        entrance: &Entrance,
        challenge: &str,
        now: Now,
    ) -> Result<String, Fault> {
        let code = random::token()?;
        let kept = Kept {
            account: entrance.account.id.clone(),
            epoch: entrance.account.epoch,
            proof: entrance.proof.clone(),
            scopes: entrance.scopes.clone(),
            network: entrance.network.clone(),
            challenge: challenge.to_owned(),
        };
        let until = now.unix_secs().saturating_add(ENTRY_SECS);
        let batch = Batch::new().insert(Table::Ceremonies, &self.entry_key(&code), &kept, Some(until));
        self.let_in(entrance, batch, now).await?;
        Ok(code)
    }

    /// Redeems a code for tokens. Whatever comes of it the code is used up: who shows a wrong verifier did not ask for it.
    pub(super) async fn redeem_entry(
        &self,
        second: &impl SecondStep,
        (code, verifier): (&str, &str),
        client: &str,
        now: Now,
    ) -> Result<Value, Fault> {
        let key = self.entry_key(code.get(..64).unwrap_or(code));
        let row: Versioned<Kept> = self.store().get(Table::Ceremonies, &key, now).await?.ok_or(Fault::SignIn)?;
        let used = Batch::new().delete(Table::Ceremonies, &key, row.version);
        self.store().commit(used, now).await.map_err(conflict_is(Fault::SignIn))?;
        let kept = row.value;
        let challenge = challenge_of(verifier).ok_or(Fault::SignIn)?;
        verify_slices_are_equal(challenge.as_bytes(), kept.challenge.as_bytes()).map_err(|_| Fault::SignIn)?;
        let account = rows::by_id(self.store(), &kept.account, now).await?;
        let account = account.filter(|account| account.value.epoch == kept.epoch).ok_or(Fault::SignIn)?;
        let fresh = Fresh { proof: kept.proof, scopes: kept.scopes, client, network: &kept.network };
        self.begin_session(second, account, fresh, None, now).await
    }

    /// Whether an account is as it was: a new password ends what was let in before it.
    pub(in crate::authority) async fn is_current(&self, id: &str, epoch: u64, now: Now) -> Result<bool, Fault> {
        Ok(rows::by_id(self.store(), id, now).await?.is_some_and(|account| account.value.epoch == epoch))
    }

    /// Begins to register by mail: the number that the code is for.
    pub(in crate::authority) async fn begin_registration(
        &self,
        (mail, password): (&str, &str),
        now: Now,
    ) -> Result<String, Fault> {
        let begun = self.register(Wanted { name: None, mail: Some(mail), password }, now).await?;
        Ok(number(&begun, "registration"))
    }

    /// Makes the account of a registration.
    pub(in crate::authority) async fn finish_registration(
        &self,
        (id, code): (&str, &str),
        way: Way<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        self.confirm(id, code, None, way, now).await.map(drop)
    }

    /// Makes an account by an invitation.
    pub(in crate::authority) async fn register_invited(
        &self,
        invitation: &str,
        (name, password): (Option<&str>, &str),
        way: Way<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        self.accept(invitation, Wanted { name, mail: None, password }, way, now).await.map(drop)
    }

    /// Has a code mailed for a new password: the number that it is for.
    pub(in crate::authority) async fn begin_recovery(&self, mail: &str, now: Now) -> Result<String, Fault> {
        Ok(number(&self.ask_recovery(mail, now).await?, "recovery"))
    }

    /// Sets a new password by the code.
    pub(in crate::authority) async fn finish_recovery(
        &self,
        second: &impl SecondStep,
        by: (&str, &str, &str),
        way: Way<'_>,
        now: Now,
    ) -> Result<Entry, Fault> {
        Ok(match self.recover_by(second, by, way, now).await? {
            Step::Done(_) => Entry::Recovered,
            Step::Pending => Entry::Pending,
            Step::Challenge(asked) => Entry::Asked(Asked { ticket: asked.ticket, begun: asked.begun }),
        })
    }

    /// The sessions of an account, newest first.
    pub(in crate::authority) async fn sessions_of(
        &self,
        id: &str,
        epoch: u64,
        now: Now,
    ) -> Result<Vec<SessionShown>, Fault> {
        let mut rows = session::of(self.store(), id, now).await?;
        rows.retain(|row| row.value.epoch == epoch);
        rows.sort_by_key(|row| std::cmp::Reverse(row.value.created_at));
        let shown = rows.into_iter().map(|row| SessionShown {
            expires_at: row.value.expires_at(self.lives()),
            created_at: row.value.created_at,
            renewed_at: row.value.renewed_at,
            client: row.value.client,
            sid: row.value.sid,
        });
        Ok(shown.collect())
    }

    /// Ends one of an account's sessions, or all.
    pub(in crate::authority) async fn end_sessions_of(
        &self,
        id: &str,
        sid: Option<&str>,
        now: Now,
    ) -> Result<(), Fault> {
        let rows = session::of(self.store(), id, now).await?;
        let sids = rows.into_iter().map(|row| row.value.sid).filter(|known| sid.is_none_or(|sid| sid == known));
        self.end_sessions(Batch::new(), sids.collect(), now).await
    }

    /// Changes the password by the one that is; the account's new count. Every session ends.
    pub(in crate::authority) async fn new_password(
        &self,
        id: &str,
        (current, new): (&str, &str),
        way: Way<'_>,
        now: Now,
    ) -> Result<u64, Fault> {
        let account = rows::by_id(self.store(), id, now).await?.ok_or(Fault::SignIn)?;
        let proved = self.prove_password(&account.value.name, current, way, now).await?;
        if proved.value.id != account.value.id {
            return Err(Fault::SignIn);
        }
        self.rules.check(new, &proved.value.own_words()).map_err(Fault::Call)?;
        let hash = self.hashing.fresh(new).await?;
        let here = self.network(way.client);
        let epoch = proved.value.epoch.saturating_add(1);
        self.set_password(None, proved, hash, (Told::PasswordChanged, None, &here), now).await?;
        let owner = self.owner(id);
        self.means.observer.change(actor(&owner, way), Change::PasswordChanged, None, "", now);
        Ok(epoch)
    }

    fn entry_key(&self, code: &str) -> String {
        format!("s:{}", self.store().index("sign-in at the page", &[code.as_bytes()]))
    }
}

fn number(begun: &Value, name: &str) -> String {
    begun.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Whether a text can be a challenge: SHA-256 in base64url (RFC 7636 §4.2).
pub(in crate::authority) fn is_challenge(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The challenge of a verifier; `None`: it is none (RFC 7636 §4.1).
fn challenge_of(verifier: &str) -> Option<String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let is_verifier = (43..=128).contains(&verifier.len()) && verifier.bytes().all(is_letter);
    is_verifier.then(|| BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_turned_into_its_challenge_as_the_rfc_has_it() {
        // RFC 7636, appendix B.
        let challenge = challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge.as_deref(), Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"));
        assert!(challenge.is_some_and(|challenge| is_challenge(&challenge)));
        for wrong in ["", "short", &"x".repeat(129), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjX k"] {
            assert_eq!(challenge_of(wrong), None, "{wrong}");
        }
    }
}
