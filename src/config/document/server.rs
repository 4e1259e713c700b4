//! `admin`, `server`, `audit` and `access_log`.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderName, Method};

use super::{SecretText, address::PeerText, overload::Overload};
use crate::config::{
    decode::{At, Cx, Decode, FromText, NonEmpty, Refusal, section, words},
    quantity::{ANY, ByteRate, Count, Leeway, Size},
    shape::Shape,
    text::FilePath,
    yaml::{Node, Value},
};

section! {
    /// The operator's listener: `/metrics`, `/livez`, `/readyz`, `/jwks.json` and the admin API.
    "admin" Admin {
        /// The address and port that it listens on; never a public one.
        address: At<SocketAddr> = "127.0.0.1:9090",
        /// What everything here but `/metrics`, `/livez`, `/readyz` and `/jwks.json` (public keys) asks for; without it the admin API is off.
        token: Option<SecretText>,
    }
}

section! {
    /// What holds for all listeners.
    "server" Server {
        /// How many worker threads, each with its own runtime and connections; `auto` is one for each core.
        workers: Workers = "auto",
        /// Networks of the proxies in front, or single addresses, and `unix` for whoever connects to a Unix socket; without them
        /// every forwarding header is dropped.
        trusted_proxies: Vec<At<PeerText>> = "[]",
        /// The one header that is believed from them: the client is its rightmost address that is not a trusted proxy;
        /// malformed = the peer. The other forwarding headers are dropped.
        client_ip_header: At<HeaderName> = "x-forwarded-for",
        /// Where durable state lives: audit, revocations, the embedded store. A lock file in it refuses a second process.
        state_dir: FilePath = "state",
        /// The methods that are known, case-sensitive; any other is refused with 405 and `Allow`, or 501.
        methods: NonEmpty<At<Method>> = "[GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS]",
        /// Request headers that are dropped on every route, in any case and with `_` for `-`, besides the built-in list: every
        /// `X-Auth-*`, `Remote-User`, `X-Remote-User`, `X-Forwarded-User`, `X-Authenticated-User`, method overrides and URL
        /// overrides.
        drop_headers: Vec<At<HeaderName>> = "[]",
        /// How long a drain may take before what is left is cut.
        drain_timeout: Duration = "30s",
        /// How long a drain waits, with `/readyz` saying so already, before it stops accepting: as long as a balancer in front
        /// takes to look.
        drain_delay: Leeway = "0s",
        /// How long a hand-over waits for what needs the store and the audit log.
        handover_timeout: Duration = "5s",
        /// When requests are refused so that the rest is answered.
        overload: Overload = "{}",
        /// The bounds on what a client may do.
        limits: ServerLimits = "{}",
    }
}

section! {
    /// The bounds on what a client may do. The body's time-outs count only while the gateway waits for the client.
    "server.limits" ServerLimits {
        /// How long a request's head may take.
        header_timeout: Duration = "10s",
        /// How long a TLS handshake may take.
        tls_handshake_timeout: Duration = "10s",
        /// How long a client may send nothing of a body, or take nothing of an answer that is ready.
        body_idle_timeout: Duration = "10s",
        /// How fast a client must send or take bytes, averaged over 20s of waiting for it.
        body_min_rate: ByteRate = "1KiB/s",
        /// How long a connection may stay open between requests, HTTP/1.1 and HTTP/2 alike.
        keepalive_idle: Duration = "15s",
        /// How long a client may take nothing at all (no window, no ACK).
        write_stall_timeout: Duration = "25s",
        /// How long the rest of a refused request is read before the connection closes; over HTTP/2, before its stream is reset. Over HTTP/3 the client is told at once to stop.
        refused_body_timeout: Duration = "20s",
        /// The largest head.
        header_bytes: Size<8192, 16_777_216> = "64KiB",
        /// The most fields in a head.
        headers: Count<1, 10_000> = "200",
        /// The longest request target.
        uri_bytes: Size<64, 65_534> = "16KiB",
        /// The largest body.
        body_bytes: Size<0, ANY> = "10MiB",
        /// The most connections at a time.
        connections: Count<1, 10_000_000> = "20000",
        /// The most connections of one address at a time, IPv6 by /64.
        connections_per_ip: Count<1, 10_000_000> = "1000",
    }
}

section! {
    /// Where attempts at guarded operations are recorded.
    "audit" Audit {
        /// The append-only JSONL file; by default `audit.jsonl` in `server.state_dir`. Guarded operations are refused while it
        /// cannot be written.
        file: Option<At<FilePath>>,
        /// How often the signed head of the record is written.
        head_interval: Duration = "60s",
    }
}

/// How many workers; `None` is one for each core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Workers(pub(in crate::config) Option<usize>);

impl FromText for Workers {
    const WHAT: &'static str = "`auto` or a number of threads";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text == "auto" {
            return Ok(Self(None));
        }
        Count::<1, 1024>::from_text(text).map(|count| Self(Some(count.get())))
    }

    fn shape() -> Shape {
        Shape::Either(vec![Shape::Words(vec![("auto", "one for each core")]), Shape::Integer { min: 1, max: 1024 }])
    }
}

/// Where requests are recorded.
#[derive(Debug, Clone)]
pub(in crate::config) enum AccessLogText {
    Word(AccessLogWord),
    File(AccessLogFile),
}

/// Where requests are recorded, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum AccessLogWord {
    Stdout,
    Off,
}

words! { AccessLogWord, "a place for the access log":
    "stdout" => Self::Stdout, "one JSON object a line on standard output";
    "off" => Self::Off, "not at all";
}

section! {
    /// An access log of its own.
    "access_log" AccessLogFile {
        /// The file, appended to; it is opened again on SIGHUP.
        file: At<FilePath>,
    }
}

impl Decode for AccessLogText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => AccessLogFile::decode(node, cx).map(Self::File),
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => {
                AccessLogWord::decode(node, cx).map(Self::Word)
            }
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<AccessLogWord as Decode>::shape(), AccessLogFile::shape()])
    }
}
