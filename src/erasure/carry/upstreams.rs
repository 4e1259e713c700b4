//! The services that calls go to, by the names that the configuration in force has for them: addresses, certificates and the
//! gateway's own credential are always today's, whenever the deletion was asked for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use url::Url;

use crate::{
    client::{self, Fetcher, Identity, MachineRoots},
    config::{Config, Materials, Problem, Reach},
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
    pub fn compile(config: &Config, materials: &dyn Materials, roots: &MachineRoots) -> Result<Self, Vec<Problem>> {
        Self::of(&config.upstreams, materials, roots)
    }

    pub(super) fn of(
        upstreams: &[Arc<crate::config::Upstream>],
        materials: &dyn Materials,
        roots: &MachineRoots,
    ) -> Result<Self, Vec<Problem>> {
        let (mut made, mut problems) = (Self::default(), Vec::new());
        for upstream in upstreams {
            if !upstream.targets.iter().all(|target| matches!(target.reach, Reach::Host | Reach::EachAddress)) {
                // No plan calls it: that is an error of the configuration.
                continue;
            }
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
        roots: &MachineRoots,
    ) -> Result<Self, Problem> {
        let ca = client::authorities(upstream.ca.as_ref(), materials)?;
        let secured = upstream.targets.iter().any(|target| target.address.tls);
        let roots = if secured { roots.unless(ca.as_deref()) } else { MachineRoots::nobody().unless(None) };
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
            fetcher: Fetcher::with(roots, identity(upstream, materials)?)
                .map_err(|error| fault(format!("TLS to the upstream: {error}")))?,
        })
    }
}

/// The certificate that targets are shown which ask for one.
fn identity(upstream: &crate::config::Upstream, materials: &dyn Materials) -> Result<Option<Identity>, Problem> {
    let Some(files) = &upstream.tls.certificate else { return Ok(None) };
    let read =
        |file: &crate::config::File| materials.read_file(&file.path).map_err(|fault| Problem::error(&file.span, fault));
    let chain = CertificateDer::pem_slice_iter(&read(&files.cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| Problem::error(&files.cert.span, "not a PEM file of certificates"))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|_| Problem::error(&files.key.span, "the file holds no private key (PEM)"))?;
    Ok(Some((chain, key)))
}
