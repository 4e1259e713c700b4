//! What the sockets need of a configuration, and nothing else of it.

use std::{net::SocketAddr, sync::Arc, thread};

use crate::{
    body::Bounds,
    config::{Config, Http3, ListenerAddress, ListenerMode, ListenerTls, Peers, ServerLimits},
};

/// What a server is to listen on, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPlan {
    /// How many worker threads, at least one.
    pub workers: usize,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<ListenerPlan>,
    /// The bounds on what a client may do.
    pub limits: ServerLimits,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerPlan {
    /// The address as configured: its name in metrics and faults.
    pub name: Arc<str>,
    /// Where to listen.
    pub address: ListenerAddress,
    /// The mode of the file, where that is a Unix socket.
    pub unix_mode: u32,
    /// Who must say by the PROXY protocol for whom they connect.
    pub proxy_protocol: Peers,
    /// What it does with a connection.
    pub mode: PlanMode,
    /// Whether it serves HTTP/3 as well, on the same port over UDP.
    pub http3: Option<Http3>,
}

/// What a listener does with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanMode {
    /// Terminates TLS; HTTP/2 and HTTP/1.1 as ALPN chooses.
    Tls(ListenerTls),
    /// Redirects to `https` on this port.
    Redirect(u16),
    /// HTTP/1.1, and HTTP/2 by prior knowledge (RFC 9113 §3.3).
    Cleartext,
    /// HTTP/1.1 alone.
    Http1,
}

impl ListenerPlan {
    /// One on an address and a port, for whoever connects.
    pub fn plain(name: Arc<str>, address: SocketAddr, mode: PlanMode) -> Self {
        Self { name, address: address.into(), unix_mode: 0, proxy_protocol: Peers::default(), mode, http3: None }
    }
}

impl ServerPlan {
    /// What `config` asks for.
    pub fn new(config: &Config) -> Self {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let listeners = config.listeners.iter().map(|listener| ListenerPlan {
            name: listener.address.to_string().into(),
            address: listener.address.clone(),
            unix_mode: listener.unix_mode,
            proxy_protocol: listener.proxy_protocol.clone(),
            mode: match &listener.mode {
                ListenerMode::Tls(tls) => PlanMode::Tls(tls.clone()),
                ListenerMode::RedirectToHttps(port) => PlanMode::Redirect(*port),
                ListenerMode::Cleartext => PlanMode::Cleartext,
            },
            http3: listener.http3,
        });
        Self {
            workers: config.server.workers.unwrap_or_else(cores).max(1),
            listeners: listeners.collect(),
            limits: config.server.limits.clone(),
        }
    }
}

/// The bounds on one connection.
pub(super) fn bounds(limits: &ServerLimits) -> Bounds {
    Bounds {
        tls_handshake_timeout: limits.tls_handshake_timeout,
        header_timeout: limits.header_timeout,
        keepalive_idle: limits.keepalive_idle,
        body_idle_timeout: limits.body_idle_timeout,
        body_min_rate: limits.body_min_rate,
        write_stall_timeout: limits.write_stall_timeout,
        refused_body_timeout: limits.refused_body_timeout,
        // What would have been read of an accepted request is read of a refused one.
        refused_body_bytes: limits.body_bytes,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use std::path::Path;

    use super::*;

    /// Whatever is equal to what is in force stays: sockets, and with TLS the keys of its sessions.
    #[test]
    fn lines_that_move_change_no_plan_and_no_order() {
        let text = "listeners:
  - address: 127.0.0.1:443
    tls:
      certificates: [{cert: a.pem, key: a.key}, {acme: [a.example]}]
      client_ca: ca.pem
      client_crl: [ca.crl]
      client_auth: required
acme: {terms_of_service_agreed: true, ca: pebble.pem, external_account: {key_id: a, hmac_key: {file: eab.key}}}
sealing: {key: {env: KEY}}
access_log: {file: access.jsonl}
upstreams: {api: {targets: ['http://127.0.0.1:1']}}
routes: [{path: /**, upstream: api, auth: none}]
";
        let env = |_: &str| Some("0123456789abcdef0123456789abcdef".to_owned());
        let load = |text: &str| {
            let input =
                crate::config::Input { file: Path::new("gateway.yaml"), text, base: Path::new("/etc"), env: &env };
            crate::config::load(&input).ok().unwrap().config
        };
        let (before, after) = (load(text), load(&format!("# A remark.\n\n{text}")));
        assert_ne!(before.acme.as_ref().unwrap().span, after.acme.as_ref().unwrap().span);
        assert_eq!(ServerPlan::new(&before), ServerPlan::new(&after));
        assert_eq!((&before.access_log, &before.sealing), (&after.access_log, &after.sealing));
        let other = load(&text.replace("ca.pem", "cb.pem"));
        assert_ne!(ServerPlan::new(&before), ServerPlan::new(&other));
    }
}
