//! A message.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A number for a message: 128 random bits. `None`: the machine has no randomness to give.
pub fn new_id() -> Option<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(format!("msg_{:032x}", u128::from_be_bytes(bytes)))
}

/// The longest line of a text that others choose, in characters.
const MOST_CHARS: usize = 300;

/// A name as a line of a text may have it: whoever chose it makes no further line of it, nor turns round what follows, nor can it
/// not be sent for the characters that are in it. What is the provider's to choose is no reason to
/// refuse a change.
pub fn line(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
    };
    text.chars().map(|c| if hidden(c) { ' ' } else { c }).take(MOST_CHARS).collect()
}

/// Where a message goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// To an address, by the configured mail server.
    Mail {
        /// The address.
        to: String,
    },
    /// To a configured webhook.
    Webhook {
        /// Its name under `notify.webhooks`.
        name: String,
    },
}

/// An address of mail is never shown.
impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mail { .. } => f.debug_struct("Mail").finish_non_exhaustive(),
            Self::Webhook { name } => f.debug_struct("Webhook").field("name", name).finish(),
        }
    }
}

/// A message. It may hold a code: it is sealed in the outbox, and never logged.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// A number of its own, so that a receiver can tell a repetition; see [`new_id`]. It is the key of the row that waits.
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

/// A message as it waits.
#[derive(Serialize, Deserialize)]
pub(super) struct Waiting {
    /// When it was enqueued, in seconds since the epoch.
    pub(super) at: u64,
    pub(super) message: Message,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}
