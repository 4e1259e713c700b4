//! One address of a service, as all workers share it. A target that did not change keeps its identity over a reload,
//! and with it its health, its idle connections and its TLS sessions.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use http::HeaderValue;
use rustls::pki_types::ServerName;
use tokio::runtime::Handle;

use super::{
    health::Health,
    names::{Name, Question},
    resolver::Resolver,
    tls::Trust,
};
use crate::{
    config::{self, Problem, ProxyVersion, Reach, Span, UpstreamProtocol},
    spread::Spread,
};

/// One address of a service.
#[derive(Debug)]
pub struct Target {
    /// Tells targets apart in the workers' pools; never used twice in a process.
    pub(super) id: u64,
    /// As configured.
    pub(super) config: config::UpstreamTarget,
    /// How it is spoken with.
    pub(super) link: Link,
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
#[derive(Debug, Clone)]
pub(super) struct TargetTls {
    /// Whom we believe.
    pub(super) trust: Arc<Trust>,
    /// Whose certificate we want to see.
    pub(super) name: ServerName<'static>,
}

/// How a target is spoken with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The protocol.
    pub(super) protocol: UpstreamProtocol,
    /// How connections are introduced; they then serve one request each.
    pub(super) introduction: Option<ProxyVersion>,
    /// Whose certificate we want to see, in place of the target's name.
    pub(super) server_name: Option<Arc<str>>,
}

/// Where a target answers.
#[derive(Debug)]
pub(super) enum Place {
    /// At an address.
    Address(SocketAddr),
    /// At the addresses of a name.
    Name(Arc<Name>, u16),
    /// At a socket in the file system.
    Unix(PathBuf),
}

impl Target {
    /// Makes a target ready, in its first and unsullied health.
    pub(super) fn compile(
        target: &config::UpstreamTarget,
        link: &Link,
        trust: Option<&Arc<Trust>>,
        at: &Span,
    ) -> Result<Self, Problem> {
        let config = &target.address;
        let bare = config.host.trim_start_matches('[').trim_end_matches(']');
        let authority = format!("{}:{}", config.host, config.port);
        let default_port = if config.tls { 443 } else { 80 };
        let host = if config.port == default_port { &*config.host } else { &authority };
        let shown = match &target.reach {
            Reach::Unix(path) => format!("unix:{}", path.display()),
            Reach::Host | Reach::EachAddress | Reach::Services(_) => authority.clone(),
        };
        let unusable = |_| Problem::error(at, format!("{authority} can't be used as a target"));
        Ok(Self {
            id: next_id(),
            tls: trust
                .map(|trust| {
                    let name = link.server_name.as_deref().unwrap_or(bare).to_owned();
                    let name = ServerName::try_from(name).map_err(|_| unusable(()))?;
                    Ok(TargetTls { trust: Arc::clone(trust), name })
                })
                .transpose()?,
            place: match (&target.reach, bare.parse::<IpAddr>()) {
                (Reach::Unix(path), _) => Place::Unix(path.clone()),
                (_, Ok(address)) => Place::Address(SocketAddr::new(address, config.port)),
                (_, Err(_)) => Place::Name(Name::new(Question::Addresses(bare.into())), config.port),
            },
            host: HeaderValue::from_str(host).map_err(|_| unusable(()))?,
            health: Health::default(),
            under_way: AtomicU32::new(0),
            seed: seed(&shown),
            config: target.clone(),
            link: link.clone(),
            authority: shown.into_boxed_str(),
        })
    }

    /// A target like this one at an address of its own, in its first health.
    pub(super) fn at(&self, address: SocketAddr) -> Self {
        let authority = address.to_string();
        Self {
            id: next_id(),
            config: self.config.clone(),
            link: self.link.clone(),
            tls: self.tls.clone(),
            place: Place::Address(address),
            host: self.host.clone(),
            health: Health::default(),
            under_way: AtomicU32::new(0),
            seed: seed(&authority),
            authority: authority.into_boxed_str(),
        }
    }

    /// Whether it differs from another in its place at most.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.is_same(&other.config, &other.link, other.tls.as_ref().map(|tls| &tls.trust))
    }

    /// Whether this is its one address.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        matches!(self.place, Place::Address(at) if at == address)
    }

    /// Has its name asked for, if it has one.
    pub(super) fn keep_name(&self, background: &Handle, resolver: &Arc<Resolver>) {
        if let Place::Name(name, _) = &self.place {
            name.keep(background, resolver);
        }
    }

    /// Whether its name was last asked for in vain.
    pub(super) fn is_name_failing(&self) -> bool {
        matches!(&self.place, Place::Name(name, _) if name.is_failing())
    }

    /// Whether the target would be the same if it were made again of these.
    pub(super) fn is_same(&self, target: &config::UpstreamTarget, link: &Link, trust: Option<&Arc<Trust>>) -> bool {
        let same_trust = match (&self.tls, trust) {
            (None, None) => true,
            (Some(mine), Some(other)) => Arc::ptr_eq(&mine.trust, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        // Its share is the set's affair.
        let same_place = self.config.address == target.address && self.config.reach == target.reach;
        same_trust && same_place && self.link == *link
    }

    /// Whether its connections carry the requests of many at once.
    pub(super) fn may_share(&self) -> bool {
        self.link.introduction.is_none() && self.link.protocol != UpstreamProtocol::Http1
    }

    /// Whether a connection may serve a second request.
    pub(super) fn may_reuse(&self) -> bool {
        self.link.introduction.is_none()
    }

    /// `host:port`, or the path of its socket, for logs and labels.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is left out at the moment, for what became of requests or of health checks.
    pub fn is_out(&self) -> bool {
        self.health.is_out()
    }
}

fn seed(authority: &str) -> u64 {
    Spread::new().with(authority.as_bytes()).finish()
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
