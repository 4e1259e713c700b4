//! Accounts that the authority keeps itself (`mode: accounts`): names, passwords, sessions and the tokens that they give, for an
//! API that has no identity provider. It is no general one: no other party's clients, no consent, no profile.
//!
//! ```text
//!   name, password ── lock ── hash ── wrong, unknown, locked ──> one answer, one time
//!                                │ right
//!                    factors enrolled? ── yes ──> a challenge; no token before it is met
//!                                │ no               │ met
//!                                └──────────────────┴──> session ──> access token (minutes), refresh token (rotates)
//!
//!   refresh token ── now's ── level of renewal met? ──> the next one      old ──> the whole session ends
//! ```
//!
//! Access tokens are JWTs (RFC 9068) that any API can verify by the published keys; the gateway refuses those of a session that
//! has ended at once, through [`SessionEnds`]. Everything that matters is a row of the store, written before it is answered.

mod api;
mod claims;
mod describe;
mod forget;
mod hashing;
mod import;
mod lock;
mod mail;
mod manage;
mod metadata;
mod name;
mod page;
mod password;
mod recover;
mod register;
mod renew;
mod rows;
mod second;
mod session;
mod sign_in;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

pub(in crate::authority) use self::api::agent;
pub(in crate::authority) use self::describe::described;
pub(in crate::authority) use self::forget::is_kept;
pub(in crate::authority) use self::page::{Entrance, Entry, is_challenge};
pub use self::{
    api::{Kind, Operation, TABLE},
    import::{Imported, Line, LineFault, MOST_BYTES, What, read as read_import},
    metadata::WELL_KNOWN,
    register::AccountInvitation,
};
use self::{hashing::Hashing, password::PasswordRules, session::Lives};
use super::{AuthorityObserver, Fault, Keys, Owner};
use crate::{
    clock::{Clock, Now},
    config::{self, Materials, Problem},
    jose::PublishedKeys,
    notify::Outbox,
    state::wait,
    store::{Batch, Pending, Store, StoreFault},
};

/// How often it is looked whether there are other keys to publish: far sooner than a new one signs.
const LOOK: Duration = Duration::from_secs(60);

/// How long a start waits until the sessions that have ended are refused.
const LONGEST_RECOVERY: Duration = Duration::from_secs(30);

/// How many sessions end in one commit: two writes each, of the 256 that one may have.
const END_AT_ONCE: usize = 60;

/// Refuses the access tokens of sessions that have ended: the runtime puts them on the list of revocations.
pub trait SessionEnds: Send + Sync {
    /// Refuses what is left of these sessions of an issuer, durably, until that second of the epoch.
    fn end(&self, issuer: &str, sids: Vec<String>, until: u64, now: Now) -> Pending<()>;
}

/// What accounts need of the process.
#[derive(Clone)]
pub struct AccountsMeans {
    /// Where rows are.
    pub store: Arc<Store>,
    /// Who carries messages.
    pub outbox: Arc<Outbox>,
    /// Who listens.
    pub observer: Arc<dyn AuthorityObserver>,
    /// Who refuses the access tokens of sessions that have ended.
    pub ends: Arc<dyn SessionEnds>,
    /// The keys that sign access tokens.
    pub keys: Arc<Keys>,
    /// Where the public keys are published for this process.
    pub published: PublishedKeys,
    /// The runtime of background work: on it passwords are hashed and keys made.
    pub handle: Handle,
    /// The clock, for the background work.
    pub clock: Arc<dyn Clock>,
}

/// The accounts of one configuration.
pub struct Accounts {
    authority: Arc<config::Authority>,
    config: config::Accounts,
    issuer: Arc<str>,
    rules: PasswordRules,
    hashing: Arc<Hashing>,
    means: AccountsMeans,
    /// That sessions were left whose access tokens could not be refused.
    left: Arc<Notify>,
    _upkeep: Upkeep,
}

/// The task that publishes keys; ends with it.
#[derive(Debug)]
struct Upkeep(AbortHandle);

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Finds what is wrong with the material, without starting anything: for `check`.
    pub fn check(authority: &config::Authority, materials: &dyn Materials) -> Option<Problem> {
        PasswordRules::compile(authority.accounts.as_ref()?, materials).err()
    }

    /// Prepares the accounts, if there are to be any. Where there were none before, sessions are refused that had ended when a
    /// process before did: no token of theirs may pass, not even for a moment, so without that there are no accounts.
    pub fn compile(
        authority: &Arc<config::Authority>,
        materials: &dyn Materials,
        means: AccountsMeans,
        previous: Option<&Self>,
    ) -> Result<Option<Self>, Problem> {
        let Some(config) = authority.accounts.clone() else { return Ok(None) };
        let rules = PasswordRules::compile(&config, materials)?;
        let hashing = match previous {
            Some(previous) => previous.hashing.clone(),
            None => Arc::new(Hashing::new(means.handle.clone())),
        };
        if previous.is_none() {
            let ended = recover(&means, &config, means.clock.now());
            let known = wait(async { Ok(tokio::time::timeout(LONGEST_RECOVERY, ended).await) });
            let why = match known {
                Ok(Ok(Ok(()))) => None,
                Ok(Ok(Err(fault))) => Some(fault.to_string()),
                Ok(Err(_)) => Some("the store is slow".to_owned()),
                Err(fault) => Some(fault.to_string()),
            };
            if let Some(why) = why {
                let message = format!("sessions that have ended cannot be refused: {why}");
                return Err(Problem::error(&authority.span, message));
            }
        }
        // Now, so that the first request finds them.
        means.published.publish(means.keys.verifying());
        let left = Arc::new(Notify::new());
        let upkeep = means.handle.spawn(upkeep(means.clone(), config.clone(), left.clone()));
        Ok(Some(Self {
            issuer: authority.issuer_url(),
            authority: authority.clone(),
            config,
            rules,
            hashing,
            means,
            left,
            _upkeep: Upkeep(upkeep.abort_handle()),
        }))
    }

    fn store(&self) -> &Store {
        &self.means.store
    }

    fn owner(&self, account: &str) -> Owner {
        Owner { issuer: self.issuer.clone(), subject: account.into() }
    }

    fn lives(&self) -> Lives {
        Lives { idle: self.config.refresh_idle.as_secs(), ttl: self.config.refresh_ttl.as_secs() }
    }

    /// Ends sessions: their refresh tokens by the rows, their access tokens by whoever refuses those. What else belongs to the
    /// commit comes with it.
    async fn end_sessions(&self, batch: Batch, sids: Vec<String>, now: Now) -> Result<(), Fault> {
        // On a task of its own: the end is done to the last token also when whoever asked for it, a thief perhaps whose token
        // came back, is not there any more.
        let ending = end(self.means.clone(), self.config.clone(), self.left.clone(), batch, sids, now);
        let stopped = |_| Fault::Store(StoreFault::Unavailable("the end of sessions was cut off".to_owned()));
        self.means.handle.spawn(ending).await.map_err(stopped)?
    }
}

async fn end(
    means: AccountsMeans,
    config: config::Accounts,
    left: Arc<Notify>,
    batch: Batch,
    sids: Vec<String>,
    now: Now,
) -> Result<(), Fault> {
    let until = end_of(&config, now);
    // What else belongs to the commit comes with the first of them; the store bounds how much one commit has.
    let (first, rest) = sids.split_at(sids.len().min(END_AT_ONCE));
    let end = |batch, sids: &[String]| sids.iter().try_fold(batch, |batch, sid| session::end(batch, sid, until));
    means.store.commit(end(batch, first)?, now).await?;
    for some in rest.chunks(END_AT_ONCE) {
        means.store.commit(end(Batch::new(), some)?, now).await?;
    }
    if !sids.is_empty()
        && let Err(fault) = means.ends.end(&config.issuer, sids, until, now).await
    {
        // The rows say that they have ended: from them it is done as soon as it can be.
        left.notify_one();
        return Err(fault.into());
    }
    Ok(())
}

/// When the last access token of a session that ends now has expired.
fn end_of(config: &config::Accounts, now: Now) -> u64 {
    now.unix_secs().saturating_add(config.access_ttl.as_secs()).saturating_add(60)
}

async fn recover(means: &AccountsMeans, config: &config::Accounts, now: Now) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let page = session::ended(&means.store, after.as_deref(), now).await?;
        // The key of a row that cannot be read still says which session it is of.
        let lost: Vec<String> = page.unreadable.iter().filter_map(|key| session::sid_of(key)).collect();
        let until = page.rows.iter().map(|row| row.value.until).max().unwrap_or_default().max(match lost.is_empty() {
            true => 0,
            false => end_of(config, now),
        });
        let sids: Vec<String> = page.rows.into_iter().map(|row| row.value.sid).chain(lost).collect();
        if !sids.is_empty() {
            means.ends.end(&config.issuer, sids, until, now).await?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn upkeep(means: AccountsMeans, config: config::Accounts, left: Arc<Notify>) {
    let mut recovered = false;
    loop {
        means.published.publish(means.keys.verifying());
        if !recovered {
            match recover(&means, &config, means.clock.now()).await {
                Ok(()) => recovered = true,
                Err(fault) => tracing::error!(%fault, "sessions that have ended could not be refused"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(if recovered { LOOK } else { Duration::from_secs(1) }) => {}
            () = left.notified() => recovered = false,
        }
    }
}

/// Nobody refuses anything: for tests and tools that issue nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEnds;

impl SessionEnds for NoEnds {
    fn end(&self, _: &str, _: Vec<String>, _: u64, _: Now) -> Pending<()> {
        Box::pin(async { Ok::<(), StoreFault>(()) })
    }
}
