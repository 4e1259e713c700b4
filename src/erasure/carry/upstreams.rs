//! The services that calls go to, by the names that the configuration in force has for them: addresses, certificates and the
//! gateway's own credential are always today's, whenever the deletion was asked for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use rustls::RootCertStore;
use url::Url;

use crate::{
    client::{self, Fetcher},
    config::{Config, Materials, Problem},
};

/// Every service of a configuration, ready to be called.
#[derive(Debug, Default)]
pub struct Upstreams {
    by_name: HashMap<Arc<str>, Arc<Upstream>>,
}

/// A service, ready to be called.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Where it answers, in the order of the configuration.
    pub(super) targets: Vec<Url>,
    pub(super) credential: Option<(HeaderName, HeaderValue)>,
    /// How long a connection to one of its addresses may take.
    pub(super) connect_timeout: Duration,
    pub(super) fetcher: Fetcher,
}

impl Upstreams {
    /// Makes ready what the configuration says, with its secrets and certificates; `roots` vouch where it names none.
    pub fn compile(
        config: &Config,
        materials: &dyn Materials,
        roots: &Arc<RootCertStore>,
    ) -> Result<Self, Vec<Problem>> {
        Self::of(&config.upstreams, materials, roots)
    }

    pub(super) fn of(
        upstreams: &[Arc<crate::config::Upstream>],
        materials: &dyn Materials,
        roots: &Arc<RootCertStore>,
    ) -> Result<Self, Vec<Problem>> {
        let (mut made, mut problems) = (Self::default(), Vec::new());
        for upstream in upstreams {
            match Upstream::compile(upstream, materials, roots) {
                Ok(ready) => drop(made.by_name.insert(upstream.name.clone(), Arc::new(ready))),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(made) } else { Err(problems) }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name)
    }
}

impl Upstream {
    fn compile(
        upstream: &crate::config::Upstream,
        materials: &dyn Materials,
        roots: &Arc<RootCertStore>,
    ) -> Result<Self, Problem> {
        let ca = client::authorities(upstream.ca.as_ref(), materials)?;
        let roots = ca.as_deref().map_or_else(|| roots.clone(), client::roots);
        let fault = |why: String| Problem::error(&upstream.span, why);
        let url = |target: &crate::config::UpstreamTarget| {
            let target = &target.address;
            let scheme = if target.tls { "https" } else { "http" };
            let text = format!("{scheme}://{}:{}/", target.host, target.port);
            Url::parse(&text).map_err(|_| fault(format!("{}:{} can't be used as a target", target.host, target.port)))
        };
        Ok(Self {
            targets: upstream.targets.iter().map(url).collect::<Result<_, _>>()?,
            credential: client::credential(upstream, materials)?,
            connect_timeout: upstream.connect_timeout,
            fetcher: Fetcher::new(roots).map_err(|error| fault(format!("TLS to the upstream: {error}")))?,
        })
    }
}
