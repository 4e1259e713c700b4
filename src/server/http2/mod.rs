//! HTTP/2 with clients (RFC 9113). h2 speaks the protocol; here its streams are given to the service, one task each.
//!
//! ```text
//!   connection   handshake ─> streams ─> tasks; GOAWAY, verdicts, the end
//!     └ exchange     one request ─> Serve ─> its answer
//!         ├ incoming     the request's body, and the 100 (Continue) that its client may be waiting for
//!         └ tunnel       a stream that was switched to another protocol (RFC 8441)
//! ```
//!
//! Under it, [`super::wire`] looks at what clients send, frame by frame.

mod connection;
mod exchange;
mod incoming;
mod tunnel;

pub(super) use connection::serve;
