//! Sessions of pages: what a browser was let in for, kept here, under a number that only its cookie knows.
//!
//! ```text
//!   token's holder ── POST page-links ──> ticket (60 s, once)
//!        browser   ── GET /open?ticket ─> session (15 minutes, never longer than the credential) ── leave ──> gone
//!                                           │ a proof, or a factor that is enrolled
//!                                           └─> the same session under a new number: the old one is gone
//! ```
//!
//! The cookie is `__Host-` (this host, TLS, no other can set it), `HttpOnly`, and `SameSite=Lax`. Not `Strict`: the browser
//! comes here from the app's page, so the first request is another site's, and a strict cookie would be missing on the
//! redirection that follows it. What Lax lets in, navigation by GET, changes nothing here; each form has a token besides.

use serde::{Deserialize, Serialize};

use super::Pages;
use crate::{
    authority::{Caller, Fault, Proof, random},
    clock::Now,
    endpoint::{self, Call},
    store::{Batch, StoreFault, Table},
};

/// How long a session lives.
pub(super) const SESSION_SECS: u64 = 15 * 60;
/// How long a proof gives the right to change factors.
pub(super) const PROOF_SECS: u64 = 5 * 60;
/// The cookie.
pub const COOKIE: &str = "__Host-stepgate";

/// What a browser was let in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "errand")]
pub(in crate::authority) enum Errand {
    /// To show a second factor for a level.
    StepUp {
        /// Its name.
        level: String,
    },
    /// To show one for a grant.
    Grant {
        /// The name of the level.
        level: String,
    },
    /// To enrol a factor.
    Enrol,
    /// To look after the factors.
    Manage,
}

/// A session, or what a ticket will make one of.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    /// Who.
    pub(super) caller: Caller,
    /// What for.
    pub(super) errand: Errand,
    /// Where the browser goes in the end: a page of a configured origin.
    pub(super) return_to: Option<String>,
    /// What the app gets back with it.
    pub(super) state: Option<String>,
    /// The app that asked, as its token says.
    pub(super) client: Option<String>,
    /// An invitation that was typed or came with the link; it is looked at when a factor is enrolled.
    pub(super) invitation: Option<String>,
    /// A factor that was shown in this session.
    pub(super) proof: Option<Proof>,
    /// The account that signed in here; `None`: an app opened the pages for its token's holder.
    #[serde(default)]
    pub(super) account: Option<Mark>,
    /// When it ends, in seconds since the epoch.
    pub(super) until: u64,
}

/// An account that signed in at the pages.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Its identifier.
    pub(super) id: String,
    /// Its count when it did: a new password ends the session.
    pub(super) epoch: u64,
    /// What its owner signs in with.
    pub(super) name: String,
}

/// A session with its number.
pub(super) struct Open {
    pub(super) session: Session,
    id: String,
    version: u64,
}

impl Open {
    /// What each form of the session has in it: made of the number, which no other site knows.
    pub(super) fn token(&self) -> String {
        endpoint::form_token(&self.id)
    }

    /// Whether a form was made for this session.
    pub(super) fn made(&self, token: &str) -> bool {
        endpoint::is_made(&self.id, token)
    }

    /// The `Set-Cookie` that gives the browser the number.
    pub(super) fn cookie(&self, now: Now) -> String {
        cookie(&self.id, self.session.until.saturating_sub(now.unix_secs()))
    }

    /// A proof that is fresh enough to change factors.
    pub(super) fn fresh_proof(&self, now: Now) -> Option<&Proof> {
        self.session.proof.as_ref().filter(|proof| proof.at().saturating_add(PROOF_SECS) > now.unix_secs())
    }
}

/// The `Set-Cookie` that gives the browser a number.
pub(super) fn cookie(id: &str, secs: u64) -> String {
    format!("{COOKIE}={id}; Path=/; Max-Age={secs}; Secure; HttpOnly; SameSite=Lax")
}

/// The `Set-Cookie` that takes it away.
pub(super) fn no_cookie() -> String {
    cookie("", 0)
}

impl Pages<'_> {
    /// The session of a call, if its cookie has the number of one.
    pub(super) async fn session(&self, call: &Call<'_>) -> Result<Option<Open>, Fault> {
        let Some(id) = number(call) else { return Ok(None) };
        let row = self.store.get::<Session>(Table::PageSessions, &session_key(id), call.now).await?;
        let row = row.filter(|row| row.value.until > call.now.unix_secs());
        let Some(row) = row else { return Ok(None) };
        if let Some(mark) = &row.value.account {
            let Some(accounts) = self.authority.accounts() else { return Ok(None) };
            if !accounts.is_current(&mark.id, mark.epoch, call.now).await? {
                return Ok(None);
            }
        }
        Ok(Some(Open { session: row.value, id: id.to_owned(), version: row.version }))
    }

    /// Writes a session that changed, under the same number.
    pub(super) async fn save(&self, open: &mut Open, now: Now) -> Result<(), Fault> {
        let (key, until) = (session_key(&open.id), Some(open.session.until));
        let batch = Batch::new().update(Table::PageSessions, &key, open.version, &open.session, until);
        self.store.commit(batch, now).await?;
        open.version = open.version.saturating_add(1);
        Ok(())
    }

    /// Writes a session under a new number; the old one is good for nothing from then on.
    pub(super) async fn renumber(&self, open: Open, now: Now) -> Result<Open, Fault> {
        let (session, id) = (open.session, random::token()?);
        let batch = Batch::new().delete(Table::PageSessions, &session_key(&open.id), open.version).insert(
            Table::PageSessions,
            &session_key(&id),
            &session,
            Some(session.until),
        );
        self.store.commit(batch, now).await?;
        Ok(Open { session, id, version: 1 })
    }

    /// A new session, and what is to be written for it. One that this browser had before ends by it.
    pub(super) fn begin(&self, session: Session, before: Option<Open>) -> Result<(Open, Batch), Fault> {
        let id = random::token()?;
        let mut batch = Batch::new().insert(Table::PageSessions, &session_key(&id), &session, Some(session.until));
        if let Some(before) = before {
            batch = batch.forget(Table::PageSessions, &session_key(&before.id));
        }
        Ok((Open { session, id, version: 1 }, batch))
    }

    /// Ends a session.
    pub(super) async fn leave(&self, open: &Open, now: Now) -> Result<(), Fault> {
        let batch = Batch::new().forget(Table::PageSessions, &session_key(&open.id));
        Ok(self.store.commit(batch, now).await?)
    }

    /// Makes a ticket that becomes a session.
    pub(super) async fn ticket(&self, session: &Session, until: u64, now: Now) -> Result<String, Fault> {
        let ticket = random::token()?;
        let batch = Batch::new().insert(Table::PageSessions, &ticket_key(&ticket), session, Some(until));
        self.store.commit(batch, now).await?;
        Ok(ticket)
    }

    /// Uses a ticket up; the session that it becomes. One that this browser had before ends by it. `None`: it is no ticket, or was
    /// used, or is too old.
    pub(super) async fn open(&self, ticket: &str, before: Option<Open>, now: Now) -> Result<Option<Open>, Fault> {
        let key = ticket_key(ticket);
        let Some(row) = self.store.get::<Session>(Table::PageSessions, &key, now).await? else { return Ok(None) };
        let (open, batch) = self.begin(row.value, before)?;
        match self.store.commit(batch.delete(Table::PageSessions, &key, row.version), now).await {
            Ok(()) => Ok(Some(open)),
            // Somebody else used the ticket at this moment.
            Err(StoreFault::Conflict) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// The number that a browser has; whether it is one of a session is another question.
pub(super) fn number<'c>(call: &Call<'c>) -> Option<&'c str> {
    endpoint::cookie(call.headers, COOKIE).filter(|id| id.len() == 43)
}

fn session_key(id: &str) -> String {
    format!("session:{}", hex(&endpoint::hidden("session", id)))
}

fn ticket_key(ticket: &str) -> String {
    format!("ticket:{}", hex(&endpoint::hidden("ticket", ticket)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
