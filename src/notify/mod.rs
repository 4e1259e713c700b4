//! What people and systems are told: mail by SMTP, and webhooks that are signed. Messages wait in an outbox that survives a
//! crash; whoever sends one never waits for its delivery.

mod message;

pub use message::{Channel, Message};
