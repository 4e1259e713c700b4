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

use aws_lc_rs::{constant_time, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{Pages, form};
use crate::{
    authority::{Call, Caller, Fault, Proof, random},
    clock::Now,
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
    /// When it ends, in seconds since the epoch.
    pub(super) until: u64,
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
        BASE64_URL_SAFE_NO_PAD.encode(hash("form", &self.id))
    }

    /// Whether a form was made for this session.
    pub(super) fn made(&self, token: &str) -> bool {
        constant_time::verify_slices_are_equal(self.token().as_bytes(), token.as_bytes()).is_ok()
    }

    /// The `Set-Cookie` that gives the browser the number.
    pub(super) fn cookie(&self, now: Now) -> String {
        let secs = self.session.until.saturating_sub(now.unix_secs());
        format!("{COOKIE}={}; Path=/; Max-Age={secs}; Secure; HttpOnly; SameSite=Lax", self.id)
    }

    /// A proof that is fresh enough to change factors.
    pub(super) fn fresh_proof(&self, now: Now) -> Option<&Proof> {
        self.session.proof.as_ref().filter(|proof| proof.at().saturating_add(PROOF_SECS) > now.unix_secs())
    }
}

/// The `Set-Cookie` that takes it away.
pub(super) fn no_cookie() -> String {
    format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")
}

impl Pages<'_> {
    /// The session of a call, if its cookie has the number of one.
    pub(super) async fn session(&self, call: &Call<'_>) -> Result<Option<Open>, Fault> {
        let Some(id) = form::cookie(call.headers, COOKIE).filter(|id| id.len() == 43) else { return Ok(None) };
        let row = self.store.get::<Session>(Table::PageSessions, &session_key(id), call.now).await?;
        let row = row.filter(|row| row.value.until > call.now.unix_secs());
        Ok(row.map(|row| Open { session: row.value, id: id.to_owned(), version: row.version }))
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
        let (session, id) = (row.value, random::token()?);
        let mut batch = Batch::new().delete(Table::PageSessions, &key, row.version).insert(
            Table::PageSessions,
            &session_key(&id),
            &session,
            Some(session.until),
        );
        if let Some(before) = before {
            batch = batch.forget(Table::PageSessions, &session_key(&before.id));
        }
        match self.store.commit(batch, now).await {
            Ok(()) => Ok(Some(Open { session, id, version: 1 })),
            // Somebody else used the ticket at this moment.
            Err(StoreFault::Conflict) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }
}

fn session_key(id: &str) -> String {
    format!("session:{}", hex(&hash("session", id)))
}

fn ticket_key(ticket: &str) -> String {
    format!("ticket:{}", hex(&hash("ticket", ticket)))
}

/// A number of 256 random bits needs no key to be hidden by its hash.
fn hash(purpose: &str, number: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"stepgate page ");
    context.update(purpose.as_bytes());
    context.update(b"\0");
    context.update(number.as_bytes());
    context.finish().as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
