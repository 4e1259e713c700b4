//! What operators do: invite, look, reset, unlock. Each is audited and told to the person.

use std::time::Duration;

use serde::Serialize;

use super::{Authority, Fault, Owner, records::FactorRecord};
use crate::clock::Now;

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
    /// Where the next page begins.
    #[serde(skip)]
    pub key: String,
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
        let _ = (owner, by, ttl, now);
        Err(Fault::NotFound)
    }

    /// People with factors, up to `limit` after a key.
    pub async fn people(&self, after: Option<&str>, limit: usize, now: Now) -> Result<Vec<Listed>, Fault> {
        let _ = (after, limit, now);
        Ok(Vec::new())
    }

    /// Somebody's factors.
    pub async fn factors_of(&self, owner: &Owner, now: Now) -> Result<Vec<FactorRecord>, Fault> {
        let _ = (owner, now);
        Ok(Vec::new())
    }

    /// Takes all factors of somebody's away, or asks another operator to.
    pub async fn reset(&self, owner: &Owner, by: &str, now: Now) -> Result<ResetState, Fault> {
        let _ = (owner, by, now);
        Err(Fault::NotFound)
    }

    /// Approves a reset that another operator asked for.
    pub async fn approve_reset(&self, id: &str, by: &str, now: Now) -> Result<ResetState, Fault> {
        let _ = (id, by, now);
        Err(Fault::NotFound)
    }

    /// Lifts the locks on guessing for somebody.
    pub async fn unlock(&self, owner: &Owner, by: &str, now: Now) -> Result<(), Fault> {
        let _ = (owner, by, now);
        Err(Fault::NotFound)
    }
}
