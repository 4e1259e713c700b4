//! HTTP/3 (RFC 9114) over QUIC (RFC 9000), beside TLS on the same port. quinn speaks QUIC; what HTTP/3 puts on its streams is
//! read and written here, strictly: a request that two readers could read in two ways is one that nobody reads.
//!
//! ```text
//!   endpoint     packets ─> who is let in ─> handshake
//!     └ connection   streams ─> tasks; GOAWAY, verdicts, the end
//!         ├ control      what clients say of the connection: checked, and forgotten
//!         └ exchange     one request ─> Serve ─> its answer
//!             └ incoming     frames ─> head (fields <- qpack <- huffman), body, trailers
//! ```
//!
//! It meets the rest of the gateway where HTTP/2 does: at [`crate::body::Serve`], under the same watch, with the same bounds.

mod bare;
mod codes;
mod connection;
mod control;
mod endpoint;
mod exchange;
mod fields;
mod frames;
mod huffman;
mod incoming;
mod port;
mod qpack;
mod reader;
mod static_table;
mod varint;

pub use bare::{http3_frames, http3_head, http3_section, http3_trailers};
pub(super) use endpoint::{Quic, accept_all};
pub(super) use port::UdpPort;
