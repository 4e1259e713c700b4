//! TCP and TLS connections to others, and the certificate authorities that they are believed by.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::Host;

use crate::config::{File, Materials, Problem};

/// How long one address of several may take to answer.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);

/// What proves in a TLS handshake who the client is.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Begins TLS on connections, with the roots that it believes.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector that offers this protocol, if any, and shows a certificate to servers that ask for one.
    pub fn new(
        roots: Arc<RootCertStore>,
        identity: Option<Identity>,
        protocol: Option<&str>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        };
        config.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Begins TLS with the server of this name.
    pub async fn secure(&self, host: Host<&str>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the name is not one that TLS can check"))?,
            Host::Ipv4(ip) => ServerName::IpAddress(ip.into()),
            Host::Ipv6(ip) => ServerName::IpAddress(ip.into()),
        };
        self.0.connect(name, stream).await
    }
}

/// Connects. A name's addresses are tried one by one, each for a moment, so that one that is silent does not use up the
/// attempt.
pub async fn open(host: Host<&str>, port: u16) -> io::Result<TcpStream> {
    match host {
        Host::Domain(name) => open_name(name, port).await,
        Host::Ipv4(ip) => TcpStream::connect((ip, port)).await,
        Host::Ipv6(ip) => TcpStream::connect((ip, port)).await,
    }
}

async fn open_name(name: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((name, port)).await? {
        match timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// The certificates of a file that the configuration names; `None` where it names none.
pub fn authorities(
    ca: Option<&File>,
    materials: &dyn Materials,
) -> Result<Option<Vec<CertificateDer<'static>>>, Problem> {
    let Some(file) = ca else { return Ok(None) };
    let bytes = materials
        .read_file(&file.path)
        .map_err(|error| Problem::error(&file.span, format!("cannot read {}: {error}", file.path.display())))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| Problem::error(&file.span, format!("{} is not PEM", file.path.display())))?;
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(Problem::error(&file.span, format!("{} has no certificate", file.path.display())));
    }
    Ok(Some(certificates))
}

/// The roots that these certificates are.
pub fn roots(certificates: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    Arc::new(roots)
}

/// The machine's certificate authorities, read when the first client is made that believes them: to read some 140 certificates
/// takes longer than the rest of a start.
#[derive(Debug, Clone, Default)]
pub struct MachineRoots(Arc<OnceLock<Arc<RootCertStore>>>);

impl MachineRoots {
    /// In the place of a machine's: nobody is believed, and nothing read.
    pub fn nobody() -> Self {
        Self(Arc::new(OnceLock::from(Arc::new(RootCertStore::empty()))))
    }

    /// Whom a client believes: the certificates that it has of its own, or else the machine's.
    pub fn unless(&self, own: Option<&[CertificateDer<'static>]>) -> Arc<RootCertStore> {
        own.map_or_else(|| self.read(), roots)
    }

    fn read(&self) -> Arc<RootCertStore> {
        if let Some(known) = self.0.get() {
            return Arc::clone(known);
        }
        let (read, is_whole) = native_roots();
        let read = Arc::new(read);
        // Where some could not be read, or there are none, for want of descriptors perhaps, the next client looks again.
        if read.is_empty() || !is_whole { read } else { Arc::clone(self.0.get_or_init(|| read)) }
    }
}

/// What cannot be read is left out and said in the log. And whether that was nothing.
fn native_roots() -> (RootCertStore, bool) {
    let found = rustls_native_certs::load_native_certs();
    let is_whole = found.errors.is_empty();
    for error in found.errors {
        tracing::warn!(%error, "reading the machine's certificate authorities");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    (roots, is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_roots_are_not_read_for_who_has_its_own() {
        let machine = MachineRoots::default();
        assert!(machine.unless(Some(&[])).is_empty());
        assert!(machine.0.get().is_none());
        assert!(MachineRoots::nobody().unless(None).is_empty());
    }
}
