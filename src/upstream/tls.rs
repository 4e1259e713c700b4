//! TLS towards upstreams: whom we believe, and what we offer.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::config::{File, Materials, Problem, Span};

/// The certificates that vouch for a set of targets, and the TLS configuration made of them.
#[derive(Debug)]
pub(super) struct Trust {
    /// As read: equal certificates after a reload keep the configuration, and with it the sessions that can be resumed.
    certificates: Vec<CertificateDer<'static>>,
    /// Ready for use by every worker.
    pub(super) client: Arc<ClientConfig>,
}

impl Trust {
    /// Believes the certificates of a PEM file.
    pub(super) fn in_file(file: &File, materials: &dyn Materials, known: &[Arc<Self>]) -> Result<Arc<Self>, Problem> {
        let pem = materials.read_file(&file.path).map_err(|fault| Problem::error(&file.span, fault))?;
        let certificates = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|fault| Problem::error(&file.span, format!("not a PEM file of certificates: {fault}")))?;
        if certificates.is_empty() {
            return Err(Problem::error(&file.span, "the file holds no certificate"));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            // Every one must be usable: whoever names a file means all that is in it.
            roots
                .add(certificate.clone())
                .map_err(|fault| Problem::error(&file.span, format!("a certificate can't be used: {fault}")))?;
        }
        Self::shared(certificates, roots, &file.span, known)
    }

    /// Believes what the machine believes.
    pub(super) fn of_machine(at: &Span, known: &[Arc<Self>]) -> Result<Arc<Self>, Problem> {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        // Machines carry certificates that no strict reader takes; they are simply not believed.
        let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if usable == 0 {
            return Err(Problem::error(at, "this machine has no certificates to verify an https target with")
                .with_help("install ca-certificates, or name a file as `ca`"));
        }
        Self::shared(certificates, roots, at, known)
    }

    fn shared(
        certificates: Vec<CertificateDer<'static>>,
        roots: RootCertStore,
        at: &Span,
        known: &[Arc<Self>],
    ) -> Result<Arc<Self>, Problem> {
        if let Some(same) = known.iter().find(|trust| trust.certificates == certificates) {
            return Ok(Arc::clone(same));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| Problem::error(at, format!("TLS can't be set up: {fault}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // RFC 7301: says what is spoken, so that a server that prefers h2 does not guess.
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(Self { certificates, client: Arc::new(client) }))
    }
}
