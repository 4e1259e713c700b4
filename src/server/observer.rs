//! What the sockets have to tell, for whoever counts it. Labels are listeners as configured and closed enums alone.

use std::{path::Path, time::SystemTime};

use super::TlsError;
use crate::body::Verdict;

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handshake {
    /// Both sides agreed.
    Done,
    /// The client broke off, or nothing could be agreed.
    Failed,
    /// It took too long.
    TimedOut,
}

/// Why a connection was closed before anything was spoken on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// `connections` are open already.
    TooMany,
    /// `connections_per_ip` are open from its address already.
    TooManyFromAddress,
    /// A relay that must say for whom it connects did not.
    ProxyHeader,
}

/// Told of what happens at the sockets, on the workers' own threads: implementations must not block.
pub trait EdgeObserver: Send + Sync + 'static {
    /// A TLS handshake ended.
    fn handshake(&self, listener: &str, outcome: Handshake);
    /// A connection was accepted and admitted.
    fn connection_opened(&self, listener: &str);
    /// An admitted connection is gone; with the bound that it exceeded, if it did.
    fn connection_closed(&self, listener: &str, verdict: Option<Verdict>);
    /// A connection was closed at once.
    fn connection_refused(&self, listener: &str, why: Refused);
    /// A certificate is in use until `not_after`; told at start and whenever it changes.
    fn certificate(&self, listener: &str, file: &Path, not_after: SystemTime);
    /// Certificate files had changed and were read again; with a fault, those before stay in use.
    fn certificates_reloaded(&self, listener: &str, result: Result<(), &TlsError>);
}

/// An observer that looks away.
impl EdgeObserver for () {
    fn handshake(&self, _: &str, _: Handshake) {}
    fn connection_opened(&self, _: &str) {}
    fn connection_closed(&self, _: &str, _: Option<Verdict>) {}
    fn connection_refused(&self, _: &str, _: Refused) {}
    fn certificate(&self, _: &str, _: &Path, _: SystemTime) {}
    fn certificates_reloaded(&self, _: &str, _: Result<(), &TlsError>) {}
}
