//! Certificates: an authority of the test's own, leaves for servers and clients, and client configurations that trust it.

use std::{path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, date_time_ymd,
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

    /// A client's certificate with a serial number and an end, in seconds since the epoch, as the test changes it.
    pub fn client_leaf(
        &self,
        serial: u64,
        until: u64,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "press-1");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial.into());
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A list of revoked certificates that ends so many seconds from now, PEM.
    pub fn revocation_list(&self, serials: &[u64], seconds: u64) -> String {
        let epoch = date_time_ymd(1970, 1, 1);
        let now = super::unix_now();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: epoch + Duration::from_secs(now),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: epoch + Duration::from_secs(now - 60),
            next_update: epoch + Duration::from_secs(now + seconds),
            crl_number: now.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A client that shows this certificate and trusts this authority.
    pub fn client_with(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&str],
        pair: (String, String),
    ) -> Arc<ClientConfig> {
        self.client_of(versions, alpn, Some(pair))
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
