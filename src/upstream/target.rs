//! One address of a service, as all workers share it. A target that did not change keeps its identity over a reload,
//! and with it its health, its idle connections and its TLS sessions.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use http::HeaderValue;
use rustls::pki_types::ServerName;

use super::{affinity::affinity_of, health::Health, tls::Trust};
use crate::config::{self, Problem, Span};

/// One address of a service.
#[derive(Debug)]
pub struct Target {
    /// Tells targets apart in the workers' pools; never used twice in a process.
    pub(super) id: u64,
    /// As configured.
    pub(super) config: config::Target,
    /// How TLS is spoken, if it is.
    pub(super) tls: Option<TargetTls>,
    /// Where it answers.
    pub(super) place: Place,
    /// What it is told as `Host` when the upstream wants its own: the default port is left out (RFC 9110 §7.2).
    pub(super) host: HeaderValue,
    /// Whether it answers.
    pub(super) health: Health,
    /// How many requests are under way to it, where that is counted.
    pub(super) under_way: AtomicU32,
    /// Tells it apart from others where keys are given their targets: the same in every process.
    pub(super) seed: u64,
    authority: Box<str>,
}

/// How TLS is spoken with a target.
#[derive(Debug)]
pub(super) struct TargetTls {
    /// Whom we believe.
    pub(super) trust: Arc<Trust>,
    /// Whose certificate we want to see.
    pub(super) name: ServerName<'static>,
}

/// Where a target answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At an address.
    Address(SocketAddr),
    /// At the addresses of a name.
    Name(Box<str>, u16),
}

impl Target {
    /// Makes a target ready, in its first and unsullied health.
    pub(super) fn compile(config: &config::Target, trust: Option<&Arc<Trust>>, at: &Span) -> Result<Self, Problem> {
        let bare = config.host.trim_start_matches('[').trim_end_matches(']');
        let authority = format!("{}:{}", config.host, config.port);
        let default_port = if config.tls { 443 } else { 80 };
        let host = if config.port == default_port { &*config.host } else { &authority };
        let unusable = |_| Problem::error(at, format!("{authority} can't be used as a target"));
        Ok(Self {
            id: next_id(),
            tls: trust
                .map(|trust| {
                    let name = ServerName::try_from(bare.to_owned()).map_err(|_| unusable(()))?;
                    Ok(TargetTls { trust: Arc::clone(trust), name })
                })
                .transpose()?,
            place: match bare.parse::<IpAddr>() {
                Ok(address) => Place::Address(SocketAddr::new(address, config.port)),
                Err(_) => Place::Name(bare.into(), config.port),
            },
            host: HeaderValue::from_str(host).map_err(|_| unusable(()))?,
            health: Health::default(),
            under_way: AtomicU32::new(0),
            seed: affinity_of(&[authority.as_bytes()]),
            config: config.clone(),
            authority: authority.into_boxed_str(),
        })
    }

    /// Whether the target would be the same if it were made again of these.
    pub(super) fn is_same(&self, config: &config::Target, trust: Option<&Arc<Trust>>) -> bool {
        let same_trust = match (&self.tls, trust) {
            (None, None) => true,
            (Some(mine), Some(other)) => Arc::ptr_eq(&mine.trust, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_trust && self.config == *config
    }

    /// `host:port`, for logs and labels.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is left out at the moment, for what became of requests or of health checks.
    pub fn is_out(&self) -> bool {
        self.health.is_out()
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
