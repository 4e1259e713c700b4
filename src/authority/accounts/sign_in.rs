//! Signing in: name and password, then a second factor where there is one, then a session. A name that nobody has, a wrong
//! password, and a lock are one answer, at one time.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    Accounts,
    hashing::is_outdated,
    mail::Told,
    name,
    rows::{self, Account},
    second::{Aim, Challenge, SecondStep, Ticket},
    session::{self, Session},
};
use crate::{
    authority::{Answered, Change, Fault, Finished, Occasion, Outcome, Proof, Way, caller::actor},
    clock::Now,
    policy::Factor,
    store::{Batch, StoreFault, Versioned},
};

/// How often a session's commit is tried where others sign in to the same account at the same moment.
const TRIES: u32 = 8;

/// Who wants in.
#[derive(Clone, Copy)]
pub(super) struct Claimed<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
    pub(super) scope: Option<&'a str>,
    /// What the client says it is.
    pub(super) client: &'a str,
}

/// A session that is to begin.
pub(super) struct Fresh<'a> {
    pub(super) proof: Proof,
    pub(super) scopes: Vec<String>,
    pub(super) client: &'a str,
    pub(super) network: &'a str,
}

/// What a right password leads to.
pub(super) enum First {
    /// In.
    In { account: Versioned<Account>, scopes: Vec<String>, network: String },
    /// A second factor is needed first.
    Challenge(Challenge),
}

/// What became of a step.
pub(super) enum Step {
    /// Tokens, or whatever it was for.
    Done(Value),
    /// A second factor is needed first.
    Challenge(Challenge),
    /// The other device has not answered yet.
    Pending,
}

impl Accounts {
    /// Looks at a name and a password.
    pub(super) async fn sign_in(
        &self,
        second: &impl SecondStep,
        claimed: Claimed<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Step, Fault> {
        let began = Instant::now();
        let result = self.password_step(second, claimed, way, now).await;
        if matches!(result, Err(Fault::SignIn)) {
            self.hashing.pace(began).await;
        }
        result
    }

    async fn password_step(
        &self,
        second: &impl SecondStep,
        claimed: Claimed<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Step, Fault> {
        match self.first_step(second, claimed, way, now).await? {
            First::Challenge(challenge) => Ok(Step::Challenge(challenge)),
            First::In { account, scopes, network } => {
                let fresh =
                    Fresh { proof: Self::password_proof(now), scopes, client: claimed.client, network: &network };
                self.begin_session(second, account, fresh, None, now).await.map(Step::Done)
            }
        }
    }

    /// Looks at a name and a password, and whether a factor is to be shown as well.
    pub(super) async fn first_step(
        &self,
        second: &impl SecondStep,
        claimed: Claimed<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<First, Fault> {
        let scopes: Vec<String> = self.config.scopes.iter().map(|scope| scope.as_ref().to_owned()).collect();
        let scopes =
            Self::scopes(&scopes, claimed.scope).ok_or(Fault::Call("`scope` names one that nobody here has"))?;
        let found = self.prove_password(claimed.name, claimed.password, way, now).await?;
        let (account, network) = (found, self.network(way.client));
        let newcomer = self.newcomer(&account.value, "");
        if second.has_factors(&newcomer, now).await? {
            let aim = Aim::SignIn { scopes, client: claimed.client.to_owned(), network };
            let challenge = self.challenge(second, &account.value, aim, way, now).await?;
            return Ok(First::Challenge(challenge));
        }
        Ok(First::In { account, scopes, network })
    }

    /// The account of a name, if the password is its own. Everything that is wrong is [`Fault::SignIn`].
    pub(super) async fn prove_password(
        &self,
        typed: &str,
        password: &str,
        way: Way<'_>,
        now: Now,
    ) -> Result<Versioned<Account>, Fault> {
        let (folded, network) = (name::folded(typed), self.network(way.client));
        let found = rows::by_name(self.store(), typed, now).await?;
        let owner = self.owner(found.as_ref().map_or("", |account| &account.value.id));
        let tell = |outcome| {
            self.means.observer.ceremony(actor(&owner, way), Some(Factor::Password), Occasion::SignIn, outcome, now)
        };
        let familiar = found.as_ref().is_some_and(|account| account.value.is_familiar(&network, now.unix_secs()));
        let Some(attempt) = self.take_attempt(&folded, &network, familiar, now).await? else {
            tell(Outcome::Locked);
            return Err(Fault::SignIn);
        };
        let stored = found.as_ref().map(|account| account.value.hash.as_str());
        let (right, cost) = self.hashing.verify(stored, password).await?;
        let Some(account) = found.filter(|_| right) else {
            tell(Outcome::Refused);
            return Err(Fault::SignIn);
        };
        self.was_right(&attempt, now).await?;
        tell(Outcome::Proved);
        if cost.is_some_and(is_outdated) { self.rehash(account, password, now).await } else { Ok(account) }
    }

    /// Stores a password anew that was stored by weaker means. Whoever is in the way has stored it, or another one.
    async fn rehash(&self, account: Versioned<Account>, password: &str, now: Now) -> Result<Versioned<Account>, Fault> {
        let stronger = Account { hash: self.hashing.fresh(password).await?, ..account.value.clone() };
        match self.store().commit(rows::update(self.store(), Batch::new(), &account, &stronger), now).await {
            Ok(()) | Err(StoreFault::Conflict) => {}
            Err(fault) => return Err(fault.into()),
        }
        rows::by_id(self.store(), &account.value.id, now).await?.ok_or(Fault::SignIn)
    }

    /// Looks at a second factor, and does what the ticket is for.
    pub(super) async fn second_step(
        &self,
        second: &impl SecondStep,
        ticket: &str,
        (id, shown): (&str, Answered<'_>),
        refresh_token: Option<&str>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Step, Fault> {
        let (row, account) = self.ticket(ticket, now).await?;
        let newcomer = self.newcomer(&account.value, ticket);
        let proof = match second.finish(&newcomer, id, shown, way, now).await? {
            Finished::Pending => return Ok(Step::Pending),
            Finished::Proved { proof, .. } => proof,
        };
        match row.value.aim.clone() {
            Aim::SignIn { scopes, client, network } => {
                let fresh = Fresh { proof, scopes, client: &client, network: &network };
                self.begin_session(second, account, fresh, Some((ticket, row)), now).await.map(Step::Done)
            }
            Aim::Renew { sid, scopes } => {
                let token = refresh_token.ok_or(Fault::Call("`refresh_token` is to come again with the proof"))?;
                self.renew_stronger(second, &row, (&sid, token), proof, &scopes, now).await.map(Step::Done)
            }
            Aim::Recover { hash } => self.set_recovered(Some(&row), account, hash, way, now).await.map(Step::Done),
        }
    }

    /// Begins a session, and says what its client gets. A ticket is used up in the same commit.
    pub(super) async fn begin_session(
        &self,
        second: &impl SecondStep,
        mut account: Versioned<Account>,
        fresh: Fresh<'_>,
        mut ticket: Option<(&str, Versioned<Ticket>)>,
        now: Now,
    ) -> Result<Value, Fault> {
        self.make_room(&account.value.id, now).await?;
        let of = (account.value.id.as_str(), account.value.epoch);
        let (session, refresh) = Session::begin(self.store(), of, fresh.proof, fresh.scopes, fresh.client, now)?;
        let tokens = self.tokens(second, &session, &refresh, &session.scopes, now)?;
        for _ in 0..TRIES {
            let mut noted = account.value.clone();
            noted.note_network(fresh.network, now.unix_secs());
            // The account's row is in the commit either way: a password that is changed at this moment ends this session, too.
            let batch =
                rows::update(self.store(), session::insert(Batch::new(), &session, self.lives()), &account, &noted);
            let batch = match &ticket {
                Some((_, row)) => Self::spend(batch, row),
                None => batch,
            };
            match self.store().commit(batch, now).await {
                Ok(()) => return Ok(tokens),
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
            // Somebody else signed in at the same moment; or the ticket was used, or the password changed.
            if let Some((text, row)) = &mut ticket {
                *row = self.ticket(text, now).await?.0;
            }
            let again = rows::by_id(self.store(), &session.account, now).await?;
            account = again.filter(|again| again.value.epoch == session.epoch).ok_or(Fault::SignIn)?;
        }
        Err(Fault::Store(StoreFault::Busy))
    }

    /// Ends the sessions that were renewed the longest ago, where there are too many.
    async fn make_room(&self, account: &str, now: Now) -> Result<(), Fault> {
        let mut sessions = session::of(self.store(), account, now).await?;
        let over = (sessions.len() + 1).saturating_sub(session::MOST);
        if over == 0 {
            return Ok(());
        }
        sessions.sort_by_key(|session| session.value.renewed_at);
        let sids = sessions.into_iter().take(over).map(|session| session.value.sid).collect();
        self.end_sessions(Batch::new(), sids, now).await
    }

    /// A session whose old refresh token came back: it ends, and its owner is told.
    pub(super) async fn end_reused(&self, session: &Session, way: Way<'_>, now: Now) -> Result<(), Fault> {
        let owner = self.owner(&session.account);
        self.means.observer.ceremony(actor(&owner, way), None, Occasion::SignIn, Outcome::Refused, now);
        self.means.observer.change(actor(&owner, way), Change::TokenReused, None, "", now);
        let mut batch = Batch::new();
        if let Some(account) = rows::by_id(self.store(), &session.account, now).await? {
            // Without room for the notice the session ends all the same: that is what protects.
            batch = self.tell(batch, &account.value, Told::TokenReused, now).unwrap_or_default();
        }
        self.end_sessions(batch, vec![session.sid.clone()], now).await?;
        self.means.outbox.poke();
        Ok(())
    }

    /// What the holder of a ticket is told.
    pub(super) fn shown(challenge: &Challenge) -> Value {
        json!({"status": "second_factor", "ticket": challenge.ticket, "challenge": challenge.begun})
    }
}
