//! What operators do: invite, look, reset, unlock. Each change is audited; invitations and resets are told to the person.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Actor, Authority, Change, Fault, Owner, ceremony::contended, guessing, random, records::FactorRecord, recovery,
    told::Notice,
};
use crate::{
    clock::Now,
    store::{Batch, Store, Table},
};

/// How long a reset waits for a second operator, in seconds.
const RESET_SECS: u64 = 86_400;

/// A person with factors, for lists: a row of `Table::Subjects`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) enrolled_at: u64,
}

/// An invitation as it is kept, by the person's key: there is one at most.
#[derive(Serialize, Deserialize)]
pub(super) struct InvitationRow {
    tag: String,
    by: String,
    pub(super) after_reset: bool,
}

impl InvitationRow {
    /// Whether this is the HMAC of its code.
    pub(super) fn is(&self, tag: &str) -> bool {
        verify_slices_are_equal(self.tag.as_bytes(), tag.as_bytes()).is_ok()
    }
}

/// The HMAC of an invitation's code, however it was typed; `None`: it is no such code, by its length alone.
pub(super) fn invitation_tag(store: &Store, owner_key: &str, code: &str) -> Option<String> {
    let plain = recovery::typed_plain(code, 24)?;
    Some(store.index("invitation", &[owner_key.as_bytes(), plain.as_bytes()]))
}

/// A reset that waits for a second operator.
#[derive(Serialize, Deserialize)]
struct ResetRow {
    issuer: String,
    subject: String,
    by: String,
}

/// An invitation that was made: the code is shown this once.
#[derive(Clone, Serialize)]
pub struct Invitation {
    /// The code.
    pub code: String,
    /// When it ends, in seconds since the epoch.
    pub expires_at: u64,
}

/// A person in the operators' list.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The issuer's identifier.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
    /// When the first factor was enrolled.
    pub enrolled_at: u64,
    /// How many factors there are, by name.
    pub factors: Vec<String>,
}

/// What became of a reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ResetState {
    /// It was done: so many factors were taken away.
    Done {
        /// How many.
        factors: usize,
    },
    /// Another operator must approve it, by this number.
    Waits {
        /// The number.
        id: String,
        /// When it ends, in seconds since the epoch.
        expires_at: u64,
    },
}

impl Authority {
    /// Invites somebody to enrol a factor; an earlier invitation of theirs is good for nothing any more.
    pub async fn invite(&self, owner: &Owner, by: &str, ttl: Option<Duration>, now: Now) -> Result<Invitation, Fault> {
        // 120 bits, in six groups of four.
        let code = recovery::grouped(&random::bytes::<15>()?);
        let holdings = self.holdings_of(owner, now).await?;
        let tag = invitation_tag(self.store(), &holdings.key, &code).ok_or(Fault::NotFound)?;
        let row = InvitationRow { tag, by: by.to_owned(), after_reset: holdings.person.is_some() };
        let expires_at = now.unix_secs().saturating_add(ttl.unwrap_or(self.config().invitation_ttl).as_secs().max(1));
        let batch = Batch::new().forget(Table::Invitations, &holdings.key).insert(
            Table::Invitations,
            &holdings.key,
            &row,
            Some(expires_at),
        );
        let notice = Notice {
            kind: "invited",
            subject: "You are invited to add a second factor",
            what: "An operator has made an invitation for you to add a second factor. They will give you its code."
                .to_owned(),
            data: json!({"by": by, "expires_at": expires_at}),
            way: None,
        };
        let mail = holdings.person.as_ref().and_then(|person| person.value.mail.as_deref());
        let batch = self.notices(batch, owner, mail, &notice, now)?;
        self.commit_told(batch, now).await.map_err(contended)?;
        self.core.observer.change(operator(owner, by), Change::Invited, None, "", now);
        Ok(Invitation { code, expires_at })
    }

    /// People with factors, up to `limit` after a key; and after which key there are more.
    pub async fn people(
        &self,
        after: Option<&str>,
        limit: usize,
        now: Now,
    ) -> Result<(Vec<Listed>, Option<String>), Fault> {
        let page = self.store().readable::<Subject>(Table::Subjects, "", after, limit.clamp(1, 500), now).await?;
        let mut listed = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            let Subject { issuer, subject, enrolled_at } = row.value;
            let owner = Owner { issuer: issuer.as_str().into(), subject: subject.as_str().into() };
            let factors = self.factors_of(&owner, now).await?;
            let factors = factors.iter().map(|factor| factor.kind().name().to_owned()).collect();
            listed.push(Listed { issuer, subject, enrolled_at, factors });
        }
        Ok((listed, page.next))
    }

    /// Somebody's factors.
    pub async fn factors_of(&self, owner: &Owner, now: Now) -> Result<Vec<FactorRecord>, Fault> {
        Ok(self.holdings_of(owner, now).await?.person.map(|row| row.value.factors).unwrap_or_default())
    }

    /// Takes all factors of somebody's away, or asks another operator to.
    pub async fn reset(&self, owner: &Owner, by: &str, now: Now) -> Result<ResetState, Fault> {
        if !self.config().four_eyes {
            return self.reset_now(Batch::new(), owner, by, now).await;
        }
        if by.trim().is_empty() {
            return Err(Fault::Call("a reset says who asks for it"));
        }
        let id = random::id()?;
        let row = ResetRow { issuer: owner.issuer.to_string(), subject: owner.subject.to_string(), by: by.to_owned() };
        let expires_at = now.unix_secs() + RESET_SECS;
        let key = self.store().index("reset", &[id.as_bytes()]);
        self.store().commit(Batch::new().insert(Table::Resets, &key, &row, Some(expires_at)), now).await?;
        self.core.observer.change(operator(owner, by), Change::ResetAsked, None, "", now);
        Ok(ResetState::Waits { id, expires_at })
    }

    /// Approves a reset that another operator asked for.
    pub async fn approve_reset(&self, id: &str, by: &str, now: Now) -> Result<ResetState, Fault> {
        let key = self.store().index("reset", &[id.get(..64).unwrap_or(id).as_bytes()]);
        let row = self.store().get::<ResetRow>(Table::Resets, &key, now).await?.ok_or(Fault::NotFound)?;
        if by.trim().is_empty() || by.trim().eq_ignore_ascii_case(row.value.by.trim()) {
            return Err(Fault::Call("a reset is approved by another operator than asked for it"));
        }
        let owner = Owner { issuer: row.value.issuer.as_str().into(), subject: row.value.subject.as_str().into() };
        self.reset_now(Batch::new().delete(Table::Resets, &key, row.version), &owner, by, now).await
    }

    async fn reset_now(&self, batch: Batch, owner: &Owner, by: &str, now: Now) -> Result<ResetState, Fault> {
        let holdings = self.holdings_of(owner, now).await?;
        let Some(person) = &holdings.person else { return Err(Fault::NotFound) };
        let factors = person.value.factors.len();
        let until = now.unix_secs().saturating_add(self.config().probation.as_secs());
        // The row stays: that somebody had factors is why they need an invitation now.
        let batch = holdings.update(batch, |person| {
            person.factors.clear();
            person.probation_until = until;
            person.era = person.era.saturating_add(1);
        });
        let batch = batch
            .forget(Table::RecoveryCodes, &holdings.key)
            .forget(Table::Subjects, &holdings.key)
            .forget(Table::Invitations, &holdings.key);
        let batch = self.end_elevations(batch, &holdings.key, now).await?;
        let notice = Notice {
            kind: "factors_reset",
            subject: "Your second factors were taken away by an operator",
            what: "An operator has taken all second factors and recovery codes of your account away.".to_owned(),
            data: json!({"by": by, "factors": factors}),
            way: None,
        };
        let batch = self.notices(batch, owner, person.value.mail.as_deref(), &notice, now)?;
        self.commit_told(batch, now).await.map_err(contended)?;
        self.elevations_ended(&holdings.key);
        self.core.observer.change(operator(owner, by), Change::Reset, None, "", now);
        Ok(ResetState::Done { factors })
    }

    /// Lifts the locks on guessing for somebody: on codes, and on the password of an account.
    pub async fn unlock(&self, owner: &Owner, by: &str, now: Now) -> Result<(), Fault> {
        let store = self.store();
        for prefix in guessing::prefixes(&owner.key(store)).into_iter().take(2) {
            guessing::forget(store, &prefix, now).await.map_err(contended)?;
        }
        if let Some(accounts) = self.accounts() {
            accounts.unlock(owner, now).await?;
        }
        self.core.observer.change(operator(owner, by), Change::Unlocked, None, "", now);
        Ok(())
    }
}

fn operator<'a>(owner: &'a Owner, by: &'a str) -> Actor<'a> {
    Actor { owner, operator: Some(by), client: None, request_id: None }
}
