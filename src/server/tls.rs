//! TLS on a listener: rustls on aws-lc-rs, certificates read again when their files change.
//!
//! Certificates are replaced under the same `ServerConfig`, so that sessions go on being resumed. Authorities of client
//! certificates and what they have revoked are part of it: when they change, sessions that were verified by the old ones must not be resumed, so
//! the whole `ServerConfig` is replaced. rustls keeps a client's certificate with the session and judges it no more, so a session
//! that is resumed has its certificate judged here, by what is in force then. No 0-RTT, ever: its requests can be replayed (RFC 8446 §8).

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage, ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{
    EdgeObserver,
    certificates::{Certificate, CertificateSet, Resolver},
    tickets::{self, TicketKeys},
};
use crate::{
    config::{Alpn, CertificateFiles, ClientAuth, ListenerTls, TlsVersion},
    files,
};

/// The longest list of revoked certificates: rustls verifies its signature in every handshake that asks it.
const CLIENT_CRL_BYTES: usize = 1 << 20;

/// Sessions kept for clients of TLS 1.2 that take no tickets.
const SESSIONS: usize = 4096;

/// Why a listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file holds no certificate, or a broken one.
    #[error("{path} holds no usable certificate")]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no private key, or a broken one.
    #[error("{path} holds no usable private key")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// A key is not the one of its certificate, or of a kind that cannot sign.
    #[error("the key in {key} does not go with the certificate in {cert}")]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The authorities of client certificates cannot be used.
    #[error("{path} holds no usable authority for client certificates")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: Option<VerifierBuilderError>,
    },
    /// A list of revoked client certificates cannot be used.
    #[error("{path} holds no usable list of revoked certificates")]
    ClientCrl {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: Option<webpki::Error>,
    },
    /// A list that every handshake would hash.
    #[error("{path} is longer than 1 MiB: give it to the source of client certificates as `crl`")]
    ClientCrlTooLong {
        /// The file.
        path: PathBuf,
    },
    /// Client certificates are asked for, but no authority is named for them.
    #[error("client certificates are asked for without client_ca")]
    NoClientCa,
    /// rustls does not take what was asked for.
    #[error("setting up TLS")]
    Setup(#[from] rustls::Error),
}

/// The files of a listener, as read at one time.
struct Files {
    /// `None`: one that is ordered and not there yet.
    pairs: Vec<Option<(Vec<u8>, Vec<u8>)>>,
    client_ca: Option<Vec<u8>>,
    client_crl: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Digests {
    pairs: Vec<u8>,
    /// Of the authorities of client certificates, and of what they have revoked.
    clients: Vec<u8>,
}

impl Files {
    fn read(plan: &ListenerTls) -> Result<Self, TlsError> {
        let pairs = plan.certificates.iter().map(|certificate| {
            let CertificateFiles { cert, key } = &certificate.files;
            match (read(&cert.path), read(&key.path)) {
                (Ok(cert), Ok(key)) => Ok(Some((cert, key))),
                _ if !certificate.ordered.is_empty() => Ok(None),
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        });
        Ok(Self {
            pairs: pairs.collect::<Result<_, TlsError>>()?,
            client_ca: plan.client_ca.as_ref().map(|file| read(&file.path)).transpose()?,
            client_crl: plan.client_crl.iter().map(|file| read(&file.path)).collect::<Result<_, _>>()?,
        })
    }

    /// Tells changes without keeping keys around.
    fn digests(&self) -> Digests {
        let of = |parts: &mut dyn Iterator<Item = &[u8]>| {
            let mut digest = Context::new(&SHA256);
            for part in parts {
                digest.update(&part.len().to_be_bytes());
                digest.update(part);
            }
            digest.finish().as_ref().to_vec()
        };
        Digests {
            pairs: of(&mut self.pairs.iter().flat_map(|pair| match pair {
                Some((cert, key)) => [cert.as_slice(), key.as_slice()],
                None => [&[][..], &[]],
            })),
            clients: of(&mut self.client_ca.iter().chain(&self.client_crl).map(Vec::as_slice)),
        }
    }
}

/// The longest file of certificates: more than all authorities of the world.
const FILE_BYTES: u64 = 16 << 20;

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    files::read(path, FILE_BYTES).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// TLS on one listener. Handshakes take what is in force when they begin.
#[derive(Debug)]
pub(super) struct ListenerTlsState {
    name: Arc<str>,
    plan: ListenerTls,
    resolver: Arc<Resolver>,
    config: ArcSwap<ServerConfig>,
    /// What judges the certificates of clients.
    verifier: ArcSwap<Judge>,
    /// What is in force, and what was last tried.
    digests: Mutex<(Digests, Digests)>,
}

impl ListenerTlsState {
    /// Reads the files of `plan`.
    pub(super) fn load(name: &Arc<str>, plan: &ListenerTls, observer: &dyn EdgeObserver) -> Result<Self, TlsError> {
        let files = Files::read(plan)?;
        let digests = files.digests();
        let resolver = Arc::new(Resolver::new(certificate_set(plan, &files)?));
        let (config, verifier) = server_config(plan, &files, &resolver)?;
        let state = Self {
            name: Arc::clone(name),
            plan: plan.clone(),
            resolver,
            config: ArcSwap::from_pointee(config),
            verifier: ArcSwap::from_pointee(verifier),
            digests: Mutex::new((digests.clone(), digests)),
        };
        state.report(observer);
        Ok(state)
    }

    pub(super) fn plan(&self) -> &ListenerTls {
        &self.plan
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files again, and takes what is in them if it has changed and is whole.
    pub(super) fn refresh(&self, observer: &dyn EdgeObserver) {
        let result = Files::read(&self.plan).and_then(|files| self.take(&files));
        match result {
            Ok(false) => {}
            Ok(true) => {
                observer.certificates_reloaded(&self.name, Ok(()));
                self.report(observer);
            }
            Err(error) => observer.certificates_reloaded(&self.name, Err(&error)),
        }
    }

    /// Gives whether anything changed.
    fn take(&self, files: &Files) -> Result<bool, TlsError> {
        let digests = files.digests();
        let mut known = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let (in_force, tried) = &mut *known;
        if digests == *in_force || digests == *tried {
            tried.clone_from(&digests);
            return Ok(false);
        }
        tried.clone_from(&digests);
        let set = certificate_set(&self.plan, files)?;
        if digests.clients == in_force.clients {
            self.resolver.replace(set);
        } else {
            let (config, verifier) = server_config(&self.plan, files, &self.resolver)?;
            self.resolver.replace(set);
            self.config.store(Arc::new(config));
            self.verifier.store(Arc::new(verifier));
        }
        *in_force = digests;
        Ok(true)
    }

    fn report(&self, observer: &dyn EdgeObserver) {
        for certificate in self.resolver.set().certificates() {
            observer.certificate(&self.name, certificate.file(), certificate.not_after());
        }
    }

    /// Whether a client's certificate holds now: asked where a session was resumed, which rustls takes for proof enough.
    pub(super) fn judges_well(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, further)) = chain.split_first() else { return true };
        let verifier = self.verifier.load();
        verifier.0.verify_client_cert(leaf, further, UnixTime::now()).is_ok()
    }
}

/// What judges the certificates of clients.
#[derive(Debug)]
struct Judge(Arc<dyn ClientCertVerifier>);

fn certificate_set(plan: &ListenerTls, files: &Files) -> Result<CertificateSet, TlsError> {
    let pairs = plan.certificates.iter().zip(&files.pairs);
    let certificates = pairs.filter_map(|(planned, pair)| {
        let (cert, key) = pair.as_ref()?;
        match certificate(&planned.files, cert, key) {
            // It is ordered anew.
            Err(_) if !planned.ordered.is_empty() => None,
            read => Some(read),
        }
    });
    Ok(CertificateSet::new(certificates.collect::<Result<_, TlsError>>()?))
}

fn certificate(paths: &CertificateFiles, cert: &[u8], key: &[u8]) -> Result<Certificate, TlsError> {
    let broken = || TlsError::Certificate { path: paths.cert.path.clone() };
    let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>().map_err(|_| broken())?;
    if chain.is_empty() {
        return Err(broken());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key { path: paths.key.path.clone() })?;
    let certified = CertifiedKey::from_der(chain, key, &provider::default_provider())
        .map_err(|source| TlsError::Mismatch { cert: paths.cert.path.clone(), key: paths.key.path.clone(), source })?;
    Certificate::new(certified, &paths.cert.path).ok_or_else(broken)
}

fn server_config(
    plan: &ListenerTls,
    files: &Files,
    resolver: &Arc<Resolver>,
) -> Result<(ServerConfig, Judge), TlsError> {
    let crypto = Arc::new(provider::default_provider());
    let versions = match plan.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12][..],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let verifier = client_verifier(plan, files, &crypto)?;
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_cert_resolver(Arc::clone(resolver) as _);
    config.alpn_protocols = plan
        .alpn
        .iter()
        .map(|protocol| match protocol {
            Alpn::H2 => b"h2".to_vec(),
            Alpn::Http1 => b"http/1.1".to_vec(),
        })
        .collect();
    // Never shared between listeners: a session of one without client certificates would be resumed on one with them.
    if plan.session_tickets {
        config.ticketer = Arc::new(TicketKeys::new(tickets::PERIOD, Instant::now())?);
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    } else {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok((config, Judge(verifier)))
}

fn client_verifier(
    plan: &ListenerTls,
    files: &Files,
    crypto: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let optional = match plan.client_auth {
        ClientAuth::Off => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Optional => true,
        ClientAuth::Required => false,
    };
    let (Some(file), Some(pem)) = (&plan.client_ca, &files.client_ca) else { return Err(TlsError::NoClientCa) };
    let broken = |source| TlsError::ClientCa { path: file.path.clone(), source };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(pem) {
        roots.add(authority.map_err(|_| broken(None))?).map_err(|_| broken(None))?;
    }
    let mut lists = Vec::new();
    for (file, bytes) in plan.client_crl.iter().zip(&files.client_crl) {
        lists.extend(revocation_lists(&file.path, bytes)?);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(crypto));
    // A list after its end says nothing of what was revoked since.
    let builder = builder.with_crls(lists).enforce_revocation_expiration();
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|source| broken(Some(source)))
}

/// The lists of a file, PEM or DER, each of them whole.
fn revocation_lists(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let broken = |source| TlsError::ClientCrl { path: path.to_owned(), source };
    if bytes.len() > CLIENT_CRL_BYTES {
        return Err(TlsError::ClientCrlTooLong { path: path.to_owned() });
    }
    // A DER list is a SEQUENCE; PEM is text.
    let lists = match bytes.first() {
        Some(0x30) => vec![CertificateRevocationListDer::from(bytes.to_vec())],
        Some(_) | None => CertificateRevocationListDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| broken(None))?,
    };
    if lists.is_empty() {
        return Err(broken(None));
    }
    for list in &lists {
        webpki::BorrowedCertRevocationList::from_der(list).map_err(|error| broken(Some(error)))?;
    }
    Ok(lists)
}
