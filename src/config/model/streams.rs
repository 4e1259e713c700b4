//! What a route says of streams.

use std::time::Duration;

/// How a route switches connections to WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrades {
    /// How long nothing may move, either way.
    pub idle: Duration,
    /// Whether a stream ends when the credential does that opened it.
    pub close_on_expiry: bool,
}

impl Upgrades {
    /// `stream_idle`, where nothing is said: longer than the pings of servers and libraries are apart (20 to 60 seconds), and
    /// than a laptop's nap; short enough that peers which are gone are let go of within minutes.
    pub const IDLE: Duration = Duration::from_secs(300);
}
