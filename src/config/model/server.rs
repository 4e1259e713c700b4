//! What holds for the whole process: limits, the operator's listener, records.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::{File, Overload, Peers, Source};

/// The operator's listener: metrics, health and the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address that it listens on, loopback by default.
    pub address: SocketAddr,
    /// What the admin API asks for; without it the admin API is off.
    pub token: Option<Source>,
}

/// What holds for all listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How many worker threads; `None` is one for each core.
    pub workers: Option<usize>,
    /// Those whose forwarding headers are believed.
    pub trusted_proxies: Peers,
    /// The one header of theirs that names the client, lower case.
    pub client_ip_header: Arc<str>,
    /// Where durable state lives.
    pub state_dir: PathBuf,
    /// The methods that are known, case-sensitive.
    pub methods: Vec<http::Method>,
    /// Request headers dropped on every route besides the built-in list, folded (lower case, `-` for `_`).
    pub drop_headers: Vec<Arc<str>>,
    /// Headers that carry API keys, folded likewise: taken away from every request.
    pub key_headers: Vec<Arc<str>>,
    /// Parameters of the query that carry API keys: taken away likewise.
    pub key_parameters: Vec<Arc<str>>,
    /// How long a drain may take before what is left is cut.
    pub drain_timeout: Duration,
    /// How long a drain waits before it stops accepting.
    pub drain_delay: Duration,
    /// How long a hand-over waits for what needs the store and the audit log.
    pub handover_timeout: Duration,
    /// When requests are refused so that the rest is answered.
    pub overload: Overload,
    /// The bounds on what a client may do.
    pub limits: ServerLimits,
}

/// The bounds on what a client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the configuration reference documents each key under the same name")]
pub struct ServerLimits {
    pub header_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    pub body_idle_timeout: Duration,
    /// Bytes per second, averaged over 20 seconds of waiting for the client.
    pub body_min_rate: u64,
    pub keepalive_idle: Duration,
    pub write_stall_timeout: Duration,
    pub refused_body_timeout: Duration,
    pub header_bytes: usize,
    pub headers: usize,
    pub uri_bytes: usize,
    pub body_bytes: u64,
    pub connections: usize,
    pub connections_per_ip: usize,
}

/// Where attempts at guarded operations are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The JSONL file; its head, key and public key stand beside it.
    pub file: File,
    /// How often the signed head is written.
    pub head_interval: Duration,
}

/// Where requests are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// One JSON object a line on standard output.
    Stdout,
    /// The same, appended to a file (opened again on SIGHUP).
    File(File),
    /// Not at all.
    Off,
}
