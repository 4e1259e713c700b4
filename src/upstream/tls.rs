//! TLS towards upstreams: whom we believe, who we say we are, and what we offer to speak.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::config::{CertificateFiles, File, Materials, Problem, Span};

/// The certificates that vouch for a set of targets, our own, and the TLS configuration made of them.
#[derive(Debug)]
pub(super) struct Trust {
    /// As read: what is equal after a reload keeps the configuration, and with it the sessions that can be resumed.
    material: Material,
    /// By what is offered (RFC 7301). They share the sessions.
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

/// What is offered in a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// Both: the target chooses.
    Either,
}

#[derive(Debug, PartialEq, Eq)]
struct Material {
    authorities: Vec<CertificateDer<'static>>,
    own: Option<Own>,
}

/// The certificate that we show, and its key.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Trust {
    /// Believes the certificates of a file, or else what the machine believes; shows the certificate of `own`.
    pub(super) fn new(
        ca: Option<&File>,
        own: Option<&CertificateFiles>,
        at: &Span,
        materials: &dyn Materials,
        known: &[Arc<Self>],
    ) -> Result<Arc<Self>, Problem> {
        let (authorities, roots) = match ca {
            Some(file) => in_file(file, materials)?,
            None => of_machine(at)?,
        };
        let own_material = own.map(|files| read_own(files, materials)).transpose()?;
        let material = Material { authorities, own: own_material };
        if let Some(same) = known.iter().find(|trust| trust.material == material) {
            return Ok(Arc::clone(same));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| Problem::error(at, format!("TLS can't be set up: {fault}")))?
            .with_root_certificates(roots);
        let client = match (&material.own, own) {
            (Some(shown), Some(files)) => {
                client.with_client_auth_cert(shown.chain.clone(), shown.key.clone_key()).map_err(|fault| {
                    let message =
                        format!("the key doesn't go with the certificate in {}: {fault}", files.cert.path.display());
                    Problem::error(&files.key.span, message)
                })?
            }
            (None, _) | (_, None) => client.with_no_client_auth(),
        };
        Ok(Arc::new(Self {
            material,
            http1: offering(&client, &[b"http/1.1"]),
            http2: offering(&client, &[b"h2"]),
            either: offering(&client, &[b"h2", b"http/1.1"]),
        }))
    }

    /// What a handshake is made with.
    pub(super) fn client(&self, offer: Offer) -> Arc<ClientConfig> {
        Arc::clone(match offer {
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
            Offer::Either => &self.either,
        })
    }
}

fn offering(client: &ClientConfig, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut client = client.clone();
    // Said even where there is one: a server that prefers another must not guess.
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(client)
}

type Authorities = (Vec<CertificateDer<'static>>, RootCertStore);

fn in_file(file: &File, materials: &dyn Materials) -> Result<Authorities, Problem> {
    let certificates = certificates(file, materials)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        // Every one must be usable: whoever names a file means all that is in it.
        roots
            .add(certificate.clone())
            .map_err(|fault| Problem::error(&file.span, format!("a certificate can't be used: {fault}")))?;
    }
    Ok((certificates, roots))
}

fn of_machine(at: &Span) -> Result<Authorities, Problem> {
    let certificates = rustls_native_certs::load_native_certs().certs;
    let mut roots = RootCertStore::empty();
    // Machines carry certificates that no strict reader takes; they are simply not believed.
    let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(Problem::error(at, "this machine has no certificates to verify an https target with")
            .with_help("install ca-certificates, or name a file as `ca`"));
    }
    Ok((certificates, roots))
}

fn read_own(files: &CertificateFiles, materials: &dyn Materials) -> Result<Own, Problem> {
    let chain = certificates(&files.cert, materials)?;
    let pem = materials.read_file(&files.key.path).map_err(|fault| Problem::error(&files.key.span, fault))?;
    // What the reader has to say could quote the file.
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| Problem::error(&files.key.span, "the file holds no private key (PEM)"))?;
    Ok(Own { chain, key })
}

fn certificates(file: &File, materials: &dyn Materials) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let pem = materials.read_file(&file.path).map_err(|fault| Problem::error(&file.span, fault))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|fault| Problem::error(&file.span, format!("not a PEM file of certificates: {fault}")))?;
    if certificates.is_empty() {
        return Err(Problem::error(&file.span, "the file holds no certificate"));
    }
    Ok(certificates)
}
