//! HTTP/1.1 with services (RFC 9112): one connection, one exchange at a time, no task and no channel between the socket and the
//! request that waits on it.
//!
//! ```text
//! begin ── Outgoing: head, body ──> socket ── Answers: head ── answer::check ── Coding: body, trailers ──> end: kept, or closed
//!             (outgoing)                         (answers)                        (coding)
//! ```
//! What is read is read strictly. Heads are taken apart by httparse, as hyper does it; the end of a body is told by one of four
//! rules and never guessed; what breaks a rule ends the connection, and what follows an answer that nobody asked for is never read as
//! another. [`Answers`] and [`Coding`] know no sockets, so that tests and fuzzing can give them anything, in any pieces.

mod answers;
mod coding;
mod connection;
mod early;
mod outgoing;

#[cfg(test)]
mod tests;

pub(super) use connection::{Bare, Connection, Exchange, Io};
pub(super) use early::Early;

pub use answers::{BadAnswer, WholeAnswer, read_answer};
