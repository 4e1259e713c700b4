//! Enrolling, renaming and removing factors: who may, and what is told of it. A stolen token gives no right to any of it.

use serde::Serialize;
use serde_json::Value;

use super::{Answered, Authority, Caller, Fault, Proof, Way, records::Person};
use crate::{clock::Now, policy::Factor};

/// What somebody brings for the right to enrol a factor.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    /// An operator's invitation.
    Invitation(&'a str),
    /// A recovery code.
    Recovery(&'a str),
    /// A fresh proof by a factor that is there: one that was redeemed, or that a page's session has.
    Proof(&'a Proof),
    /// Nothing: will do where the configuration says `enrolment: open`, for who never had a factor.
    Nothing,
}

/// A factor that somebody wants to enrol.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its kind.
    pub factor: Factor,
    /// What its owner will call it.
    pub label: String,
    /// Where codes are to be sent, for factors that send, where the configuration names no claim.
    pub address: Option<String>,
}

/// An enrolment that was begun: what its owner needs for the confirmation.
#[derive(Clone, Serialize)]
pub struct EnrolmentBegun {
    /// The number of the ceremony that confirms it.
    pub id: String,
    /// When it ends, in seconds since the epoch.
    pub expires_at: u64,
    /// For authenticator apps: the URL that the QR code holds.
    pub otpauth: Option<String>,
    /// The same secret, for typing.
    pub secret: Option<String>,
    /// The QR code, SVG.
    pub qr_svg: Option<String>,
    /// The QR code for a terminal.
    pub qr_text: Option<String>,
    /// For passkeys: WebAuthn's options for `navigator.credentials.create`.
    pub passkey: Option<Value>,
    /// For codes that are sent: where to, shortened.
    pub sent_to: Option<String>,
    /// For approvals: the number to choose on the device.
    pub number: Option<String>,
}

/// A factor that was enrolled.
#[derive(Clone, Serialize)]
pub struct Enrolled {
    /// Its identifier.
    pub id: String,
    /// From when on it may delete something, in seconds since the epoch; `None`: at once.
    pub may_delete_from: Option<u64>,
    /// The recovery codes that were made with the first factor, shown this once.
    pub recovery_codes: Vec<String>,
}

impl Authority {
    /// Begins to enrol a factor.
    pub async fn begin_enrolment(
        &self,
        caller: &Caller,
        wanted: Wanted,
        right: Right<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<EnrolmentBegun, Fault> {
        let _ = (caller, wanted, right, way, now);
        Err(Fault::Enrolment)
    }

    /// Confirms it, by the factor itself.
    pub async fn finish_enrolment(
        &self,
        caller: &Caller,
        id: &str,
        answered: Answered<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Enrolled, Fault> {
        let _ = (caller, id, answered, way, now);
        Err(Fault::Enrolment)
    }

    /// The person behind a caller, if they ever had a factor.
    pub async fn person(&self, caller: &Caller, now: Now) -> Result<Option<Person>, Fault> {
        let _ = (caller, now);
        Ok(None)
    }

    /// Gives a factor another label.
    pub async fn rename(
        &self,
        caller: &Caller,
        factor_id: &str,
        label: &str,
        proof: &Proof,
        way: Way<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let _ = (caller, factor_id, label, proof, way, now);
        Err(Fault::Enrolment)
    }

    /// Removes a factor; how many are left. Without any only an invitation enrols one again.
    pub async fn remove(
        &self,
        caller: &Caller,
        factor_id: &str,
        proof: &Proof,
        way: Way<'_>,
        now: Now,
    ) -> Result<usize, Fault> {
        let _ = (caller, factor_id, proof, way, now);
        Err(Fault::Enrolment)
    }

    /// Makes a new set of recovery codes; the old ones are good for nothing any more.
    pub async fn new_recovery_codes(
        &self,
        caller: &Caller,
        proof: &Proof,
        way: Way<'_>,
        now: Now,
    ) -> Result<Vec<String>, Fault> {
        let _ = (caller, proof, way, now);
        Err(Fault::Enrolment)
    }

    /// How many recovery codes are left.
    pub async fn recovery_codes_left(&self, caller: &Caller, now: Now) -> Result<usize, Fault> {
        let _ = (caller, now);
        Ok(0)
    }
}
