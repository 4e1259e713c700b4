//! Ceremonies: a challenge that was given to one holder, kept on the server, for five minutes, used once.
//!
//! ```text
//!   begin ──> asked ── wrong, fewer than LOOKS ──> asked
//!               │ ── wrong for the last time, or five minutes ──> gone
//!               └── right ──> gone, and what it was for is done in the same commit
//!                         └─> proved (grant, manage): to be used once, by the same holder, until it expires
//! ```
//!
//! The key of a ceremony's row is made of its holder and its number: whoever knows the number alone finds nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Authority, Caller, Fault, Proof, Way, records::EnrolledBy};
use crate::{clock::Now, policy::Factor};

/// How long a ceremony lives, in seconds.
pub const LIFETIME_SECS: u64 = 300;
/// How often a ceremony may be answered wrongly.
pub const LOOKS: u32 = 5;
/// How many ceremonies of one holder may be under way; a further one takes the place of the oldest.
pub const MOST_PENDING: usize = 10;

/// What a proof is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "purpose")]
pub enum Purpose {
    /// A level of proof for the holder's credential.
    StepUp {
        /// Its name.
        level: String,
    },
    /// A grant, which is then asked for at the token endpoint.
    Grant {
        /// The name of the level.
        level: String,
    },
    /// A change of factors.
    Manage,
    /// An account that signs in or renews its session.
    SignIn,
}

/// What a client shows.
#[derive(Debug, Clone, Copy)]
pub enum Answered<'a> {
    /// A code.
    Code(&'a str),
    /// A passkey's response, JSON.
    Credential(&'a [u8]),
    /// Nothing: it asks whether the approval on the other device has come.
    Approval,
}

/// A ceremony that was begun.
#[derive(Debug, Clone, Serialize)]
pub struct Begun {
    /// Its number.
    pub id: String,
    /// When it ends, in seconds since the epoch.
    pub expires_at: u64,
    /// The factors that will do for what it is for, of those that the person has.
    #[serde(serialize_with = "names")]
    pub factors: Vec<Factor>,
    /// WebAuthn's options for `navigator.credentials.get`, where a passkey will do.
    pub passkey: Option<Value>,
    /// Where a code was sent, shortened.
    pub sent_to: Option<String>,
    /// The number to choose on the other device.
    pub number: Option<String>,
}

fn names<S: serde::Serializer>(factors: &[Factor], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(factors.iter().map(|factor| factor.name()))
}

/// What is to be done with a proof, in the commit that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The holder's credential is elevated.
    Elevate,
    /// A code is made that the holder must present: at the end of a page.
    Handover,
    /// The ceremony is kept as proved, to be used once, by its number.
    Keep,
    /// Nothing: whoever asked goes on with the proof.
    Nothing,
}

/// What became of a ceremony.
#[derive(Debug, Clone)]
pub enum Finished {
    /// The other device has not answered yet.
    Pending,
    /// It was proved.
    Proved {
        /// What was shown.
        proof: Proof,
        /// Until when the credential is elevated, in seconds since the epoch, where that was the end.
        elevated_until: Option<u64>,
        /// The code that the holder is to present, where that was the end.
        handover: Option<String>,
    },
}

impl Authority {
    /// Begins a ceremony. `factor` says which one the person wants to show; without it whatever needs nothing to be sent.
    ///
    /// Somebody without factors gets a ceremony like anybody else: that there are none is not told by it.
    pub async fn begin(
        &self,
        caller: &Caller,
        purpose: Purpose,
        factor: Option<Factor>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Begun, Fault> {
        let _ = (caller, purpose, factor, way, now);
        Err(Fault::Proof)
    }

    /// Looks at what is shown in a ceremony of this caller's.
    pub async fn finish(
        &self,
        caller: &Caller,
        id: &str,
        answered: Answered<'_>,
        end: End,
        way: Way<'_>,
        now: Now,
    ) -> Result<Finished, Fault> {
        let _ = (caller, id, answered, end, way, now);
        Err(Fault::Proof)
    }

    /// Uses up a ceremony that was kept as proved.
    pub async fn redeem(&self, caller: &Caller, id: &str, purpose: &Purpose, now: Now) -> Result<Proof, Fault> {
        let _ = (caller, id, purpose, now);
        Err(Fault::Proof)
    }
}

/// The row of a ceremony.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ceremony {
    pub(super) made_at: u64,
    pub(super) looks: u32,
    pub(super) what: What,
}

/// What a ceremony is about.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// A factor is to be shown.
    Asked { purpose: Purpose, factor: Option<String>, state: Value },
    /// It was shown, and waits to be used.
    Proved { purpose: Purpose, proof: Proof },
    /// A factor is being enrolled.
    Enrolling { label: String, by: EnrolledBy, invitation: Option<String>, state: Value },
}
