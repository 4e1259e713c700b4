//! The second step: what the rest of the authority does for whoever has shown a password and is nobody yet. The holder of its
//! ceremonies is a ticket: a secret of 256 bits that only whoever showed the password was given.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::{
    Accounts,
    rows::{self, Account},
};
use crate::{
    authority::{Answered, Authority, Begun, Caller, End, Fault, Finished, Proof, Purpose, Shown, Way, random},
    clock::Now,
    policy::{Assurance, Factor, Principal},
    store::{Batch, Table, Versioned},
};

/// How long a ticket lives, in seconds: as long as a ceremony.
const TICKET_SECS: u64 = 300;

/// What accounts ask of the rest of the authority. A trait, so that what is tested here needs no ceremonies.
pub(crate) trait SecondStep {
    /// Whether somebody has a factor.
    async fn has_factors(&self, caller: &Caller, now: Now) -> Result<bool, Fault>;
    /// Begins a ceremony.
    async fn begin(&self, caller: &Caller, factor: Option<Factor>, way: Way<'_>, now: Now) -> Result<Begun, Fault>;
    /// Looks at what is shown in it.
    async fn finish(
        &self,
        caller: &Caller,
        id: &str,
        shown: Answered<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Finished, Fault>;
    /// Uses up a proof that was made for a change.
    async fn redeem(&self, caller: &Caller, id: &str, now: Now) -> Result<Proof, Fault>;
    /// Who asks, by an access token.
    fn caller(&self, principal: &Principal) -> Option<Caller>;
    /// What a proof is worth.
    fn assurance(&self, proof: &Proof) -> Assurance;
}

impl SecondStep for Authority {
    async fn has_factors(&self, caller: &Caller, now: Now) -> Result<bool, Fault> {
        Ok(self.person(caller, now).await?.is_some_and(|person| !person.factors.is_empty()))
    }

    async fn begin(&self, caller: &Caller, factor: Option<Factor>, way: Way<'_>, now: Now) -> Result<Begun, Fault> {
        Self::begin(self, caller, Purpose::SignIn, factor, way, now).await
    }

    async fn finish(
        &self,
        caller: &Caller,
        id: &str,
        shown: Answered<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Finished, Fault> {
        Self::finish(self, caller, id, shown, End::Nothing, way, now).await
    }

    async fn redeem(&self, caller: &Caller, id: &str, now: Now) -> Result<Proof, Fault> {
        Self::redeem(self, caller, id, &Purpose::Manage, now).await
    }

    fn caller(&self, principal: &Principal) -> Option<Caller> {
        Self::caller(self, principal)
    }

    fn assurance(&self, proof: &Proof) -> Assurance {
        self.worth(proof, crate::policy::Covers::Request).assurance
    }
}

/// What goes on once the second step is done: a row of `Table::Ceremonies`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) account: String,
    /// The account's count when the password was shown: a change of password meanwhile ends it.
    pub(super) epoch: u64,
    pub(super) aim: Aim,
}

/// What somebody wants who has still to show a second factor.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Aim {
    /// A session.
    SignIn { scopes: Vec<String>, client: String, network: String },
    /// The next tokens of a session.
    Renew { sid: String, scopes: Vec<String> },
    /// Another password in the place of the one that was forgotten.
    Recover { hash: String },
}

/// A ticket, and what its holder is told.
pub(super) struct Challenge {
    pub(super) ticket: String,
    pub(super) begun: Begun,
}

impl Accounts {
    /// Asks for a second factor before anything else is done.
    pub(super) async fn challenge(
        &self,
        second: &impl SecondStep,
        account: &Account,
        aim: Aim,
        way: Way<'_>,
        now: Now,
    ) -> Result<Challenge, Fault> {
        let ticket = random::token()?;
        let kept = Ticket { account: account.id.clone(), epoch: account.epoch, aim };
        let until = now.unix_secs().saturating_add(TICKET_SECS);
        self.store()
            .commit(Batch::new().insert(Table::Ceremonies, &self.ticket_key(&ticket), &kept, Some(until)), now)
            .await?;
        let begun = second.begin(&self.newcomer(account, &ticket), None, way, now).await?;
        Ok(Challenge { ticket, begun })
    }

    /// Begins another ceremony for the same ticket: the person wants to show another factor.
    pub(super) async fn challenge_again(
        &self,
        second: &impl SecondStep,
        ticket: &str,
        factor: Option<Factor>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Begun, Fault> {
        let (_, account) = self.ticket(ticket, now).await?;
        second.begin(&self.newcomer(&account.value, ticket), factor, way, now).await
    }

    /// A ticket that is still good, and its account.
    pub(super) async fn ticket(
        &self,
        ticket: &str,
        now: Now,
    ) -> Result<(Versioned<Ticket>, Versioned<Account>), Fault> {
        let row: Option<Versioned<Ticket>> = self.store().get(Table::Ceremonies, &self.ticket_key(ticket), now).await?;
        let row = row.ok_or(Fault::SignIn)?;
        let account = rows::by_id(self.store(), &row.value.account, now).await?;
        let account = account.filter(|account| account.value.epoch == row.value.epoch).ok_or(Fault::SignIn)?;
        Ok((row, account))
    }

    /// Uses a ticket up, in the commit of what it was for.
    pub(super) fn spend(batch: Batch, ticket: &Versioned<Ticket>) -> Batch {
        batch.delete(Table::Ceremonies, &ticket.key, ticket.version)
    }

    fn ticket_key(&self, ticket: &str) -> String {
        format!("t:{}", self.store().index("ticket", &[ticket.as_bytes()]))
    }

    /// Somebody who has shown a password and has no token yet.
    pub(super) fn newcomer(&self, account: &Account, ticket: &str) -> Caller {
        let holder = sha256(&[b"stepgate:sign-in", ticket.as_bytes()]);
        let pwd = Factor::Password;
        Caller {
            issuer: self.issuer.as_ref().to_owned(),
            subject: account.id.clone(),
            holder,
            // Guesses are counted by account and address: another ticket is no other credential.
            credential: sha256(&[b"stepgate:account", account.id.as_bytes()]),
            first: Shown {
                categories: vec![pwd.category().name().to_owned()],
                amr: pwd.amr().into_iter().map(str::to_owned).collect(),
                factors: vec![pwd.name().to_owned()],
                at: None,
                is_now: true,
            },
            mail: account.mail.clone(),
            addresses: Vec::new(),
        }
    }

    /// What a password alone proves.
    pub(super) fn password_proof(now: Now) -> Proof {
        let pwd = Factor::Password;
        Proof {
            factors: vec![pwd.name().to_owned()],
            categories: vec![pwd.category().name().to_owned()],
            amr: pwd.amr().into_iter().map(str::to_owned).collect(),
            factor_id: String::new(),
            at_ms: now.unix_ms,
            // There is no second factor that could have come too lately.
            may_delete: true,
            era: 0,
        }
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
