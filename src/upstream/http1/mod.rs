//! HTTP/1.1 with services (RFC 9112): one connection, one exchange at a time, and neither a task nor a channel between the socket and the
//! request that waits on it.
//!
//! ```text
//! begin ── Outgoing: head, body ──> socket ── Answers: head ── answer::check ── Decoder: body, trailers ──> end: kept, or closed
//!             (outgoing)                         (answers)                         (decoder)
//! ```
//! What is read is read strictly. Heads are taken apart by httparse, as hyper does it; the end of a body is told by one of four
//! rules and never guessed; what breaks a rule ends the connection, and what follows an answer that nobody asked for is never read as
//! another. `Answers` and `Decoder` know no sockets, so that tests and fuzzing can give
//! them anything, in any pieces (`whole`). An answer that comes before its request is whole is the one case with a task (`early`).

mod answers;
mod connection;
mod decoder;
mod early;
mod io;
mod outgoing;
mod whole;

#[cfg(test)]
mod tests;

pub(super) use connection::{Connection, Exchange};
pub(super) use early::Early;
pub(super) use io::{Bare, Io};

pub use answers::BadAnswer;
pub use connection::CutOff;
pub use whole::{WholeAnswer, read_answer};
