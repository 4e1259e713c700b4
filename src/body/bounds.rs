//! The bounds on what a client may do on its connection, and the verdicts when it exceeds them.

use std::time::Duration;

use super::pace::PaceBounds;

/// The bounds on what a client may do on its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the configuration's limit of the same name")]
pub struct Bounds {
    pub tls_handshake_timeout: Duration,
    pub header_timeout: Duration,
    pub keepalive_idle: Duration,
    pub body_idle_timeout: Duration,
    pub body_min_rate: u64,
    pub write_stall_timeout: Duration,
    pub refused_body_timeout: Duration,
    /// How many bytes of a refused request's body are read off before the connection is given up.
    pub refused_body_bytes: u64,
}

impl Bounds {
    /// No bounds: for a connection that is only imagined.
    pub fn unlimited() -> Self {
        let ever = Duration::MAX;
        Self {
            tls_handshake_timeout: ever,
            header_timeout: ever,
            keepalive_idle: ever,
            body_idle_timeout: ever,
            body_min_rate: 0,
            write_stall_timeout: ever,
            refused_body_timeout: ever,
            refused_body_bytes: u64::MAX,
        }
    }

    pub(super) fn pace(&self) -> PaceBounds {
        PaceBounds { idle: self.body_idle_timeout, min_rate: self.body_min_rate }
    }

    /// How often connections have to be looked at for these bounds to hold closely.
    pub fn sweep_period(&self) -> Duration {
        let shortest = [
            self.tls_handshake_timeout,
            self.header_timeout,
            self.keepalive_idle,
            self.body_idle_timeout,
            self.write_stall_timeout,
            self.refused_body_timeout,
        ]
        .into_iter()
        .min()
        .unwrap_or_default();
        (shortest / 8).clamp(Duration::from_millis(10), Duration::from_millis(250))
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 9112.
    Http1,
    /// RFC 9113.
    Http2,
    /// RFC 9114.
    Http3,
}

/// Why a connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// The head of a request took too long.
    HeaderTimeout,
    /// No request for too long: ends in good order.
    Idle,
    /// It was told to end, and did not.
    CloseTimeout,
    /// It took nothing of what was ready for it, or too little.
    SlowReader,
    /// Its frames cost more than they carry.
    Flood,
    /// The drain's deadline has passed.
    Drain,
}
