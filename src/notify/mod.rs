//! What people and systems are told: mail by SMTP, and webhooks that are signed. Messages wait in an outbox that survives a
//! crash; whoever sends one never waits for its delivery.
//!
//! ```text
//!   whoever changes something ─ enqueue ─> Batch ─ commit ─> a row of the outbox, in the same commit as the change
//!                                                                │ poke
//!                                                                ▼
//!                        run, on the service runtime:  schedule ─ due ─> channels ─> mail/   ─> SMTP server
//!                                                         ▲                └───────> webhook ─> https
//!                                                         └── later ─────────┘  delivered, refused, expired: the row goes
//! ```
//! Addresses, codes and texts are never logged, and no fault quotes what a server said.

mod channels;
mod check;
mod mail;
mod message;
mod observer;
mod outbox;
mod schedule;
#[cfg(test)]
mod tests;
mod webhook;

pub use channels::Channels;
pub use check::{EnqueueFault, is_address};
pub use message::{Channel, Message, line, new_id};
pub use observer::{Loss, NotifyObserver, Unobserved};
pub use outbox::Outbox;

/// What became of one attempt.
#[derive(Debug)]
enum Delivery {
    /// The receiver has it.
    Delivered,
    /// Not this time; why, for the operator.
    Later(String),
    /// Never: this receiver will not have it; why, for the operator.
    Refused(String),
}
