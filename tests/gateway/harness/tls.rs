//! Certificates: an authority of the test's own, leaves for servers and clients, and client configurations that trust it.

use std::{path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    /// A fresh one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a server's certificate for these names, and its key, as `NAME.pem` and `NAME.key`.
    pub fn server(&self, folder: &Path, file: &str, names: &[&str]) {
        let (pem, key) = self.leaf(names, ExtendedKeyUsagePurpose::ServerAuth);
        write_pair(folder, file, &pem, &key);
    }

    /// A certificate and key, both PEM.
    pub fn leaf(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A client that trusts this authority and offers these protocols.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        self.client_of(&[&TLS12, &TLS13], alpn, None)
    }

    /// A client that speaks one version of TLS.
    pub fn client_speaking(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        self.client_of(&[version], &["http/1.1"], None)
    }

    /// A client that shows a certificate of another authority, or of this one.
    pub fn client_showing(&self, shown: &Authority) -> Arc<ClientConfig> {
        let pair = shown.leaf(&["client.example"], ExtendedKeyUsagePurpose::ClientAuth);
        self.client_of(&[&TLS12, &TLS13], &["http/1.1"], Some(pair))
    }

    fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&str],
        shown: Option<(String, String)>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((pem, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn write_pair(folder: &Path, file: &str, pem: &str, key: &str) {
    std::fs::write(folder.join(format!("{file}.key")), key).unwrap();
    std::fs::write(folder.join(format!("{file}.pem")), pem).unwrap();
}
