//! What is kept of a person: one row with all factors, so that using a factor once, and having one factor at least, are each
//! a single versioned write. Its values are sealed; `Debug` shows none of them.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value;

use crate::{policy::Factor, secret::Secret};

/// The most factors that somebody may have.
pub(super) const MOST_FACTORS: usize = 20;
/// The most authenticator apps among them: each makes a guess worth as much more.
pub(super) const MOST_APPS: usize = 2;
/// The longest label, in characters.
pub(super) const MOST_LABEL: usize = 60;

/// A person with factors: a row of `Table::Factors`.
#[derive(Clone, Serialize, Deserialize, PartialEq)]
pub struct Person {
    /// The issuer's identifier.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
    /// When the first factor was enrolled, in seconds since the epoch.
    pub enrolled_at: u64,
    /// The factors, oldest first.
    pub factors: Vec<FactorRecord>,
    /// Where changes are told, as a verified credential last said.
    pub mail: Option<String>,
    /// Until when no factor that is enrolled counts as old enough to delete something: after a reset.
    #[serde(default)]
    pub probation_until: u64,
    /// How often all factors were taken away: what was proved before is worth nothing after.
    #[serde(default)]
    pub era: u32,
}

/// The address of mail is nobody's to see.
impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Person");
        shown.field("issuer", &self.issuer).field("subject", &self.subject).field("factors", &self.factors);
        shown.finish_non_exhaustive()
    }
}

/// A factor that was enrolled.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct FactorRecord {
    /// Its identifier.
    pub id: String,
    /// What its owner calls it.
    pub label: String,
    /// When it was enrolled, in seconds since the epoch.
    pub created_at: u64,
    /// What gave the right to.
    pub enrolled_by: EnrolledBy,
    /// From when on it may delete something; `None`: from the beginning.
    pub may_delete_from: Option<u64>,
    /// When it was last shown.
    pub last_used: Option<u64>,
    /// Whether its signature counter went back once: it may have been copied, and is not taken any more.
    #[serde(default)]
    pub suspect: bool,
    /// What it takes to verify it.
    pub data: FactorData,
}

/// What gave the right to enrol a factor.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum EnrolledBy {
    /// An invitation of an operator's.
    Invitation,
    /// Nobody was asked: trust on first use.
    Open,
    /// A recovery code.
    Recovery,
    /// An invitation after a reset.
    Reset,
    /// A factor that was there, by its identifier.
    Factor(String),
}

impl EnrolledBy {
    /// Whether a factor that was enrolled so must wait before it deletes anything.
    pub fn is_on_probation(&self) -> bool {
        match self {
            Self::Open | Self::Recovery | Self::Reset => true,
            Self::Invitation | Self::Factor(_) => false,
        }
    }

    /// A word for records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::Open => "open",
            Self::Recovery => "recovery",
            Self::Reset => "reset",
            Self::Factor(_) => "factor",
        }
    }
}

/// What it takes to verify a factor.
#[derive(Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FactorData {
    /// An authenticator app.
    Totp {
        /// The shared secret.
        secret: Bytes,
        /// How many digits a code has.
        digits: u32,
        /// The last step whose code was taken; none up to it is again.
        last_step: u64,
    },
    /// A passkey or security key; the content is the passkeys' own.
    Passkey {
        /// What the WebAuthn library keeps, its signature counter included.
        credential: Value,
    },
    /// An address that codes are mailed to.
    Email {
        /// The address.
        address: String,
    },
    /// An address that codes are sent to through a webhook.
    Webhook {
        /// The address: what the receiver of the webhook understands.
        address: String,
    },
    /// A device that approves.
    Push {
        /// The device: what the receiver of the webhook understands.
        device: String,
    },
}

impl FactorData {
    /// The factor.
    pub fn kind(&self) -> Factor {
        match self {
            Self::Totp { .. } => Factor::Totp,
            Self::Passkey { .. } => Factor::Passkey,
            Self::Email { .. } => Factor::Email,
            Self::Webhook { .. } => Factor::Webhook,
            Self::Push { .. } => Factor::Push,
        }
    }
}

impl fmt::Debug for FactorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())
    }
}

impl FactorRecord {
    /// The factor.
    pub fn kind(&self) -> Factor {
        self.data.kind()
    }

    /// Whether it is old enough to delete something.
    pub fn may_delete(&self, now: u64) -> bool {
        self.may_delete_from.is_none_or(|from| from <= now)
    }
}

impl Person {
    /// The factor of an identifier.
    pub fn factor(&self, id: &str) -> Option<&FactorRecord> {
        self.factors.iter().find(|factor| factor.id == id)
    }

    /// Whether what was proved by a factor in an era still counts: the factor is there, and not suspect, and was there all the
    /// while. A recovery code is gone by being shown; what it proved counts for as long as there are factors.
    pub fn stands_by(&self, factor_id: &str, era: u32) -> bool {
        self.era == era
            && match factor_id {
                "" => !self.factors.is_empty(),
                id => self.factor(id).is_some_and(|factor| !factor.suspect),
            }
    }

    /// The factors of a kind that may be shown.
    pub fn of(&self, kind: Factor) -> impl Iterator<Item = &FactorRecord> {
        self.factors.iter().filter(move |factor| factor.kind() == kind && !factor.suspect)
    }

    /// Who it is.
    pub fn owner(&self) -> super::Owner {
        super::Owner { issuer: self.issuer.as_str().into(), subject: self.subject.as_str().into() }
    }
}

/// Secret bytes that a row holds: base64 there, wiped when dropped, never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Secret);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(self.0.expose()))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| D::Error::custom("no base64"))?;
        Ok(Self(Secret::new(bytes)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_read_as_it_was_written_and_shows_no_secret() {
        let record = FactorRecord {
            id: "f1".into(),
            label: "phone".into(),
            created_at: 5,
            enrolled_by: EnrolledBy::Factor("f0".into()),
            may_delete_from: None,
            last_used: None,
            suspect: false,
            data: FactorData::Totp { secret: Bytes(Secret::new(*b"12345678901234567890")), digits: 6, last_step: 9 },
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<FactorRecord>(&text).unwrap(), record);
        assert!(text.contains(r#""kind":"totp""#), "{text}");
        let shown = format!("{record:?}");
        assert!(!shown.contains("MTIz") && !shown.contains("1234"), "{shown}");
    }
}
