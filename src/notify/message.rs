//! A message.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// To an address, by the configured mail server.
    Mail {
        /// The address.
        to: String,
    },
    /// To a configured webhook.
    Webhook {
        /// Its name in the configuration: `notify` (changes), `code` (codes to be sent on) or `push` (approvals).
        name: String,
    },
}

/// A message. It may hold a code: it is sealed in the outbox, and never logged.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// A number of its own, so that a receiver can tell a repetition.
    pub id: String,
    /// Where it goes.
    pub channel: Channel,
    /// What it is, for receivers and metrics: `code`, `push`, `factor_enrolled`, …
    pub kind: String,
    /// The subject line, for mail.
    pub subject: String,
    /// The text, for mail.
    pub text: String,
    /// The content, for webhooks.
    pub data: Value,
    /// From when on it is of no use any more, in seconds since the epoch.
    pub expires_at: u64,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}
