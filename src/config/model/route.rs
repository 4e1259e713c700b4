//! Routes, and the deletion guard over them.

use std::sync::Arc;

use super::{Destination, Limit, Priority, Shaping, Span, Upgrades, Upstream};
use crate::{
    config::route_text::RouteText,
    policy::{IssuerName, Requirement},
    route::{HostPattern, PathPattern},
};

/// What protects deletions.
#[derive(Debug, Clone)]
pub struct DeletionGuard {
    /// `false` only by `danger_disabled: true`.
    pub enabled: bool,
    /// The operations that are guarded.
    pub operations: Vec<GuardedOperation>,
    /// The proof they need.
    pub assurance: Requirement,
}

/// An operation under the deletion guard.
#[derive(Debug, Clone)]
pub struct GuardedOperation {
    /// Where it stands in the file.
    pub span: Span,
    /// As written: `DELETE /**`.
    pub text: Arc<str>,
    /// The method, or `None` for any.
    pub method: Option<http::Method>,
    /// The path, matched folded.
    pub path: PathPattern,
    /// Its own quota, by issuer and subject.
    pub limit: Option<Arc<Limit>>,
}

/// Which requests go where, and what they need.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name in metrics, logs and `explain`: the `name` key, else its path (with method or host where that is not unique).
    pub name: Arc<str>,
    /// The path.
    pub path: PathPattern,
    /// The hosts; empty: any.
    pub hosts: Vec<HostPattern>,
    /// The methods; `None`: any of `server.methods`. GET includes HEAD.
    pub methods: Option<Vec<http::Method>>,
    /// Where it goes.
    pub to: Destination,
    /// Whose credentials it takes.
    pub auth: Auth,
    /// Scopes that a token must have, all of them.
    pub scopes: Vec<Arc<str>>,
    /// A condition in CEL.
    pub when: Option<When>,
    /// The proof it needs.
    pub assurance: Option<Requirement>,
    /// Its quotas, in order.
    pub limits: Vec<Arc<Limit>>,
    /// Who is refused first under overload.
    pub priority: Priority,
    /// What changes in the path.
    pub rewrite: Option<Rewrite>,
    /// What the deletion guard does here.
    pub deletion: RouteDeletion,
    /// How it switches connections to WebSocket; `None`: it does not.
    pub upgrades: Option<Upgrades>,
    /// Whether gRPC-Web becomes gRPC on its way.
    pub translates_grpc_web: bool,
    /// What it does besides passing requests on; `None` for most.
    pub shaping: Option<Arc<Shaping>>,
}

impl Route {
    /// Its own upstream; `None` where it redirects.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match &self.to {
            Destination::Upstream(upstream) => Some(upstream),
            Destination::Redirect(_) => None,
        }
    }

    /// Every upstream that its requests, or copies of them, may reach.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        let shaping = || self.shaping.iter();
        let canary = shaping().filter_map(|shaping| shaping.canary.as_ref()).map(|canary| &canary.upstream);
        let mirror = shaping().filter_map(|shaping| shaping.mirror.as_ref()).map(|mirror| &mirror.upstream);
        self.upstream().into_iter().chain(canary).chain(mirror)
    }
}

/// Whose credentials a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// No credential is asked for, and none is looked at.
    None,
    /// One of these issuers or other sources, never empty.
    Issuers(Vec<IssuerName>),
}

/// A condition in CEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// Where it stands in the file.
    pub span: Span,
    /// The expression.
    pub source: Arc<str>,
    /// The zone of `time.hour` and `time.weekday`, an IANA name; UTC by default.
    pub zone: Arc<str>,
}

/// A declared change of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// Takes these leading segments away (`/reports` in normal form); what is left starts with `/`.
    StripPrefix(Arc<str>),
    /// Takes the first away and puts the second before the rest; the second is empty for the root.
    ReplacePrefix(Arc<str>, Arc<str>),
    /// Puts another path in its place, made of parts of the one that was asked for.
    Path(RouteText),
}

/// What the deletion guard does on a route.
#[derive(Debug, Clone)]
pub enum RouteDeletion {
    /// What `deletion_guard` says.
    Guarded {
        /// The effective requirement where the guard and the route's own assurance both hold: `acr` lists intersected,
        /// the smaller `max_age`; validation refuses an empty intersection.
        requirement: Requirement,
        /// The route's own quota for guarded operations, instead of the operation's.
        limit: Option<Arc<Limit>>,
    },
    /// `danger_unguarded_deletion: true`, or the guard is off altogether.
    Unguarded,
}
