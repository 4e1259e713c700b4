//! HTTPS to services: whom we believe, and whom not.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn trusted(&self, host: &str, port: u16) -> Arc<Service> {
        let mut config = config_of(vec![target(true, host, port)]);
        config.ca = Some(config::File { span: Span::default(), path: "ca.pem".into() });
        let mut files = Files::default();
        files.files.insert("ca.pem".into(), self.pem.clone().into_bytes());
        compile(config, &files).unwrap()
    }
}

/// Serves over TLS, saying which protocol ALPN chose.
async fn serving(config: Arc<ServerConfig>) -> u16 {
    let acceptor = TlsAcceptor::from(config);
    upstream(move |wire, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(wire.0).await else { return };
            let chosen = String::from_utf8(stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec()).unwrap();
            let mut seen = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                seen.push(byte);
                if seen.ends_with(b"\r\n\r\n") {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{chosen}", chosen.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        }
    })
    .await
    .port()
}

#[test]
fn a_private_authority_vouches_for_names_and_addresses() {
    worker(async {
        let authority = Authority::new();
        let port = serving(authority.server(|_| {})).await;
        for host in ["localhost", "127.0.0.1"] {
            let (client, service) = (Client::new(), authority.trusted(host, port));
            for _ in 0..3 {
                assert_eq!(client.text(&service).await.unwrap(), "http/1.1");
            }
            assert_eq!(client.told.opened.get(), 1);
        }
    });
}

async fn assert_refused(service: &Arc<Service>) {
    let client = Client::new();
    let fault = client.fault(service, request(Method::GET, "/")).await;
    assert!(matches!(fault, UpstreamFault::Tls { .. }), "{fault:?}");
    assert_eq!(*client.told.faults.borrow(), [FaultKind::Tls]);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    worker(async {
        let authority = Authority::new();
        let others = |params: &mut CertificateParams| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
        };
        assert_refused(&authority.trusted("localhost", serving(authority.server(others)).await)).await;
    });
}

#[test]
fn a_certificate_that_has_expired_or_is_not_yet_valid_is_refused() {
    worker(async {
        let authority = Authority::new();
        for (from, to) in [(1999, 2001), (3000, 3001)] {
            let config = authority.server(|params| {
                params.not_before = date_time_ymd(from, 1, 1);
                params.not_after = date_time_ymd(to, 1, 1);
            });
            assert_refused(&authority.trusted("localhost", serving(config).await)).await;
        }
    });
}

#[test]
fn a_certificate_of_an_authority_that_is_not_named_is_refused() {
    worker(async {
        let (named, other) = (Authority::new(), Authority::new());
        assert_refused(&named.trusted("localhost", serving(other.server(|_| {})).await)).await;
    });
}

#[test]
fn a_service_that_does_not_speak_tls_is_refused() {
    worker(async {
        let authority = Authority::new();
        let plain = upstream(|mut wire, _| async move {
            wire.say("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            wire.closed().await;
        })
        .await;
        assert_refused(&authority.trusted("localhost", plain.port())).await;
        let closing = upstream(|wire, _| async move { drop(wire) }).await;
        assert_refused(&authority.trusted("localhost", closing.port())).await;
    });
}

#[test]
fn a_connection_whose_service_says_more_or_good_bye_is_not_used_again() {
    worker(async {
        let authority = Authority::new();
        let acceptor = TlsAcceptor::from(authority.server(|_| {}));
        let port = upstream(move |wire, nth| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(wire.0).await.unwrap();
                let mut request = [0; 512];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(OK.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::time::sleep(BRIEF / 2).await;
                if nth == 0 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await.unwrap();
                    stream.flush().await.unwrap();
                    std::future::pending::<()>().await;
                }
                stream.shutdown().await.unwrap();
            }
        })
        .await
        .port();
        let (client, service) = (Client::new(), authority.trusted("localhost", port));
        for _ in 0..3 {
            assert_eq!(client.text(&service).await.unwrap(), "ok");
            tokio::time::sleep(BRIEF).await;
        }
        assert_eq!((client.told.opened.get(), client.told.retried.get()), (3, 0));
    });
}

#[test]
fn a_long_upload_over_tls_arrives_whole() {
    worker(async {
        let authority = Authority::new();
        let acceptor = TlsAcceptor::from(authority.server(|_| {}));
        let port = upstream(move |wire, _| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(wire.0).await.unwrap();
                let mut left = 3_000_000;
                let mut buffer = vec![0; 65_536];
                let mut head = true;
                while left > 0 {
                    let mut count = stream.read(&mut buffer).await.unwrap();
                    if std::mem::take(&mut head) {
                        count -= buffer[..count].windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                    }
                    left -= count;
                }
                stream.write_all(OK.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                stream.read(&mut buffer).await.unwrap_or_default();
            }
        })
        .await
        .port();
        let upload = with_body(Method::POST, "/", vec![b'x'; 3_000_000]);
        let answer = Client::new().send(&authority.trusted("localhost", port), upload).await.unwrap();
        assert_eq!(read(answer).await.unwrap().0, "ok");
    });
}
