//! Sessions of accounts, and the refresh tokens that renew them.
//!
//! ```text
//!   refresh token = sgr_ sid . family . secret      (128 bits more or less public, 256 that stay, 256 that change)
//!
//!   family wrong ─────────────> refused: somebody knows the number of a session, which its access tokens say
//!   family right, secret now's > renewed: another secret takes its place
//!   family right, secret old ──> the token was taken: the whole session ends (RFC 9700 §4.14.2)
//! ```
//!
//! There is no grace for an answer that was lost: whoever repeats a renewal cannot be told from whoever stole the token, and
//! signing in again is what the owner can do and a thief cannot. Both secrets are kept as SHA-256: 256 random bits need no slow
//! hash. The row expires with the session, so that a session which nobody renews is gone.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    authority::{Fault, Proof, random},
    clock::Now,
    secret::Secret,
    store::{Batch, Readable, Store, StoreFault, Table, Versioned},
};

const PREFIX: &str = "sgr_";
/// How many sessions an account has; a further one takes the place of the one that was renewed the longest ago.
pub(super) const MOST: usize = 50;
/// The longest label of a client, in characters.
const LABEL_CHARS: usize = 120;

/// A session: a row of `Table::Sessions`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    /// Its number: the `sid` of its access tokens.
    pub(super) sid: String,
    /// Whose it is.
    pub(super) account: String,
    /// The account's count when it began.
    pub(super) epoch: u64,
    /// When it began, in seconds since the epoch.
    pub(super) created_at: u64,
    /// When it was last renewed.
    pub(super) renewed_at: u64,
    /// What was shown for it, and when: `auth_time` does not advance by a renewal (RFC 9068 §2.2.1).
    pub(super) proof: Proof,
    /// The scopes that it was granted.
    pub(super) scopes: Vec<String>,
    /// What the client says it is, for the owner's list.
    pub(super) client: String,
    family: String,
    current: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("sid", &self.sid).finish_non_exhaustive()
    }
}

/// What became of a refresh token.
pub(super) enum Presented {
    /// It is the session's.
    Current(Versioned<Session>),
    /// It was the session's once.
    Old(Versioned<Session>),
    /// It is nobody's, or not any more.
    Unknown,
}

/// A refresh token, taken apart.
struct Parts<'a> {
    sid: &'a str,
    family: &'a str,
    secret: &'a str,
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.split('.');
        let (sid, family, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let is = |text: &str, letters: usize| {
            text.len() == letters && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        (parts.next().is_none() && is(sid, 44) && is(family, 43) && is(secret, 43)).then_some(Self {
            sid,
            family,
            secret,
        })
    }
}

/// Times of a session, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lives {
    /// Without being renewed.
    pub(super) idle: u64,
    /// In all.
    pub(super) ttl: u64,
}

impl Session {
    /// A new session, with its refresh token.
    pub(super) fn begin(
        store: &Store,
        (account, epoch): (&str, u64),
        proof: Proof,
        scopes: Vec<String>,
        client: &str,
        now: Now,
    ) -> Result<(Self, Secret), Fault> {
        // The first half is the same for all sessions of an account, so that they are found together; it names nobody.
        let sid = format!("{}{}", owner_part(store, account), random::id()?);
        let (family, secret) = (random::token()?, random::token()?);
        let session = Self {
            account: account.to_owned(),
            epoch,
            created_at: now.unix_secs(),
            renewed_at: now.unix_secs(),
            proof,
            scopes,
            client: client.chars().filter(|c| !c.is_control()).take(LABEL_CHARS).collect(),
            family: hashed(&family),
            current: hashed(&secret),
            sid,
        };
        let token = session.token(&family, &secret);
        Ok((session, token))
    }

    /// The session with another secret, and the refresh token for it.
    pub(super) fn renewed(&self, presented: &str, now: Now) -> Result<(Self, Secret), Fault> {
        let parts = Parts::parse(presented).ok_or(Fault::SignIn)?;
        let secret = random::token()?;
        let session = Self { renewed_at: now.unix_secs(), current: hashed(&secret), ..self.clone() };
        let token = session.token(parts.family, &secret);
        Ok((session, token))
    }

    fn token(&self, family: &str, secret: &str) -> Secret {
        Secret::new(format!("{PREFIX}{}.{family}.{secret}", self.sid))
    }

    /// When it ends if it is not renewed.
    pub(super) fn expires_at(&self, lives: Lives) -> u64 {
        self.renewed_at.saturating_add(lives.idle).min(self.created_at.saturating_add(lives.ttl))
    }
}

/// What a refresh token is worth.
pub(super) async fn present(store: &Store, token: &str, now: Now) -> Result<Presented, StoreFault> {
    let Some(parts) = Parts::parse(token) else { return Ok(Presented::Unknown) };
    let Some(row) = store.get::<Session>(Table::Sessions, &key(parts.sid), now).await? else {
        return Ok(Presented::Unknown);
    };
    let is = |kept: &str, shown: &str| verify_slices_are_equal(kept.as_bytes(), hashed(shown).as_bytes()).is_ok();
    let (family, current) = (is(&row.value.family, parts.family), is(&row.value.current, parts.secret));
    Ok(match (family, current) {
        (true, true) => Presented::Current(row),
        (true, false) => Presented::Old(row),
        (false, _) => Presented::Unknown,
    })
}

/// A session by its number.
pub(super) async fn by_sid(store: &Store, sid: &str, now: Now) -> Result<Option<Versioned<Session>>, StoreFault> {
    store.get(Table::Sessions, &key(sid), now).await
}

/// The sessions of an account. More than [`MOST`] may come where several began at once.
pub(super) async fn of(store: &Store, account: &str, now: Now) -> Result<Vec<Versioned<Session>>, StoreFault> {
    let prefix = key(&owner_part(store, account));
    // One that cannot be read renews nothing, and must not keep its owner from the others.
    let mut found: Vec<Versioned<Session>> = store.readable(Table::Sessions, &prefix, None, 4 * MOST, now).await?.rows;
    found.retain(|session| session.value.account == account);
    Ok(found)
}

/// Adds a session to a commit.
pub(super) fn insert(batch: Batch, session: &Session, lives: Lives) -> Batch {
    batch.insert(Table::Sessions, &key(&session.sid), session, Some(session.expires_at(lives)))
}

/// Puts a session in the place of what it was.
pub(super) fn update(batch: Batch, before: &Versioned<Session>, session: &Session, lives: Lives) -> Batch {
    batch.update(Table::Sessions, &before.key, before.version, session, Some(session.expires_at(lives)))
}

/// Takes a session away, and notes that its access tokens are good for nothing any more, so that a start finds it if the process
/// ends before they are revoked.
pub(super) fn end(batch: Batch, sid: &str, until: u64) -> Result<Batch, Fault> {
    // A row of its own, so that two who end one session at once are not in each other's way.
    let note = format!("{ENDED}{sid}.{}", random::id()?);
    let ended = Ended { sid: sid.to_owned(), until };
    Ok(batch.forget(Table::Sessions, &key(sid)).insert(Table::Sessions, &note, &ended, Some(until)))
}

/// A session that has ended while its access tokens had not.
#[derive(Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) sid: String,
    pub(super) until: u64,
}

/// Sessions that have ended while their access tokens had not, up to a page of them after a key.
pub(super) async fn ended(store: &Store, after: Option<&str>, now: Now) -> Result<Readable<Ended>, StoreFault> {
    store.readable(Table::Sessions, ENDED, after, 200, now).await
}

/// The number of a session that has ended, by the key of a row that cannot be read.
pub(super) fn sid_of(key: &str) -> Option<String> {
    Some(key.strip_prefix(ENDED)?.split_once('.')?.0.to_owned())
}

/// What the keys of all rows begin with that are of an account's sessions, ended or not.
pub(super) fn prefixes(store: &Store, account: &str) -> [String; 2] {
    let own = owner_part(store, account);
    [key(&own), ENDED.to_owned() + &own]
}

const ENDED: &str = "e:";

fn key(sid: &str) -> String {
    format!("s:{sid}")
}

fn owner_part(store: &Store, account: &str) -> String {
    let index = store.index("sessions of", &[account.as_bytes()]);
    let digest = digest::digest(&digest::SHA256, index.as_bytes());
    let half: Vec<u8> = digest.as_ref().iter().take(16).copied().collect();
    URL_SAFE_NO_PAD.encode(half)
}

fn hashed(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes()))
}
