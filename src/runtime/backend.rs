//! Where the requests of a route go, compiled: the services that may get them, and what happens to them on the way.

use std::sync::Arc;

use crate::{
    config::{self, Destination, Problem, Redirect, Shaping},
    telemetry::{Metrics, metrics::UpstreamMetrics},
    upstream::{Service, Upstreams},
};

/// A service that a route's requests may be sent to.
#[derive(Debug)]
pub struct Backend {
    /// What the configuration says of it.
    pub upstream: Arc<config::Upstream>,
    /// The connections there.
    pub service: Arc<Service>,
    /// Its metrics.
    pub metrics: UpstreamMetrics,
}

/// Where a route's requests go.
#[derive(Debug)]
pub enum Goal {
    /// To a service.
    Backend(Backend),
    /// Elsewhere, by the client itself.
    Redirect(Box<Redirect>),
}

/// Which of a route's services gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// Its own.
    #[default]
    Own,
    /// Its canary.
    Canary,
}

/// What a route does besides passing requests on, compiled.
#[derive(Debug)]
pub struct CompiledShaping {
    /// What the configuration says.
    pub rules: Arc<Shaping>,
    /// Who gets a share of the requests.
    pub canary: Option<Backend>,
    /// Who gets copies.
    pub mirror: Option<Backend>,
}

impl Backend {
    fn compile(upstream: &Arc<config::Upstream>, upstreams: &Upstreams, metrics: &Metrics) -> Result<Self, Problem> {
        let missing = || Problem::error(&upstream.span, "the upstream is not in the configuration");
        let service = upstreams.get(&upstream.name).ok_or_else(missing)?;
        Ok(Self { upstream: upstream.clone(), service, metrics: metrics.upstream(&upstream.name) })
    }
}

impl Goal {
    pub(super) fn compile(to: &Destination, upstreams: &Upstreams, metrics: &Metrics) -> Result<Self, Problem> {
        match to {
            Destination::Upstream(upstream) => Backend::compile(upstream, upstreams, metrics).map(Self::Backend),
            Destination::Redirect(redirect) => Ok(Self::Redirect(redirect.clone())),
        }
    }
}

impl CompiledShaping {
    pub(super) fn compile(rules: &Arc<Shaping>, upstreams: &Upstreams, metrics: &Metrics) -> Result<Self, Problem> {
        let backend = |upstream: &Arc<config::Upstream>| Backend::compile(upstream, upstreams, metrics);
        Ok(Self {
            rules: rules.clone(),
            canary: rules.canary.as_ref().map(|canary| backend(&canary.upstream)).transpose()?,
            mirror: rules.mirror.as_ref().map(|mirror| backend(&mirror.upstream)).transpose()?,
        })
    }
}
