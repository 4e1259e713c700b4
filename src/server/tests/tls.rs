//! TLS on real sockets: names, ALPN, client certificates, certificates that change under open connections.

use std::{fs, path::Path};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::*;
use crate::config::{Alpn, CertificateFiles, ClientAuth, File, ListenerCertificate, ListenerTls, Span, TlsVersion};

const GET: &str = "GET /info HTTP/1.1\r\nhost: a\r\n\r\n";

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

pub(super) fn file(dir: &Path, name: &str) -> File {
    File { span: Span::default(), path: dir.join(name) }
}

pub(super) fn write_pair(dir: &Path, name: &str, names: &[&str]) -> String {
    let (cert, key) = pem_pair(names);
    fs::write(dir.join(format!("{name}.pem")), &cert).unwrap();
    fs::write(dir.join(format!("{name}.key")), key).unwrap();
    cert
}

pub(super) fn listener(dir: &Path, pairs: &[&str]) -> ListenerTls {
    let certificates = pairs.iter().map(|name| ListenerCertificate {
        files: CertificateFiles { cert: file(dir, &format!("{name}.pem")), key: file(dir, &format!("{name}.key")) },
        ordered: Vec::new(),
    });
    ListenerTls {
        session_tickets: true,
        self_signed: false,
        certificates: certificates.collect(),
        min_version: TlsVersion::V1_2,
        alpn: vec![Alpn::H2, Alpn::Http1],
        client_ca: None,
        client_crl: Vec::new(),
        client_auth: ClientAuth::Off,
    }
}

pub(super) fn client_config(trusted: &[&str], alpn: &[&[u8]], identity: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pem in trusted {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

pub(super) fn connect(running: &Running, config: &Arc<ClientConfig>, name: &'static str) -> TlsClient {
    let name = ServerName::try_from(name).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), running.connect())
}

fn ask(client: &mut TlsClient) -> io::Result<String> {
    client.write_all(GET.as_bytes())?;
    client.flush()?;
    let mut byte = [0];
    if client.read(&mut byte)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer(&mut byte.as_slice().chain(client)).1)
}

#[test]
fn the_certificate_is_chosen_by_name_and_the_connection_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let first = write_pair(dir.path(), "first", &["a.example"]);
    let second = write_pair(dir.path(), "second", &["*.b.example"]);
    let running = Running::start(&plan(&[PlanMode::Tls(listener(dir.path(), &["first", "second"]))], limits()));
    for (trusted, name) in [(&first, "a.example"), (&second, "x.b.example")] {
        let mut client = connect(&running, &client_config(&[trusted], &[b"http/1.1"], None), name);
        assert_eq!(ask(&mut client).unwrap(), format!("HTTP/1.1 sni={name} from=127.0.0.1"));
        assert_eq!(ask(&mut client).unwrap(), format!("HTTP/1.1 sni={name} from=127.0.0.1"));
    }
    let mut client = connect(&running, &client_config(&[&first], &[], None), "x.b.example");
    assert!(ask(&mut client).is_err());
}

#[test]
fn what_alpn_chose_is_what_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let cert = write_pair(dir.path(), "first", &["a.example"]);
    let running = Running::start(&plan(&[PlanMode::Tls(listener(dir.path(), &["first"]))], limits()));
    let mut client = connect(&running, &client_config(&[&cert], &[b"h2", b"http/1.1"], None), "a.example");
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head.get(3), Some(&4), "the first frame is SETTINGS");
    // HTTP/1.1 where HTTP/2 was chosen is not answered as HTTP/1.1, nor the other way round.
    let mut client = connect(&running, &client_config(&[&cert], &[b"h2"], None), "a.example");
    client.write_all(GET.as_bytes()).unwrap();
    assert!(!read_to_close(&mut client).contains("HTTP/1.1 200"));
    let mut client = connect(&running, &client_config(&[&cert], &[b"http/1.1"], None), "a.example");
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert!(!read_to_close(&mut client).contains("hello"));
    let mut client = connect(&running, &client_config(&[&cert], &[b"acme-tls/1"], None), "a.example");
    assert!(ask(&mut client).is_err());
}

#[test]
fn changed_certificates_are_taken_without_closing_a_connection_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let old = write_pair(dir.path(), "first", &["a.example"]);
    let running = Running::start(&plan(&[PlanMode::Tls(listener(dir.path(), &["first"]))], limits()));
    let trusts_old = client_config(&[&old], &[], None);
    let mut open = connect(&running, &trusts_old, "a.example");
    ask(&mut open).unwrap();
    fs::write(dir.path().join("first.pem"), pem_pair(&["a.example"]).0).unwrap();
    running.server().refresh_certificates();
    running.wait_for(|event| *event == Event::Reloaded(false));
    ask(&mut connect(&running, &trusts_old, "a.example")).unwrap();
    let new = write_pair(dir.path(), "first", &["a.example"]);
    running.server().refresh_certificates();
    running.wait_for(|event| *event == Event::Reloaded(true));
    ask(&mut open).unwrap();
    ask(&mut connect(&running, &client_config(&[&new], &[], None), "a.example")).unwrap();
    assert!(ask(&mut connect(&running, &client_config(&[&old], &[], None), "a.example")).is_err());
    // Sessions go on being resumed.
    ask(&mut connect(&running, &trusts_old, "a.example")).unwrap();
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let cert = write_pair(dir.path(), "first", &["a.example"]);
    let (client_cert, client_key) = pem_pair(&["client.example"]);
    let (stranger_cert, stranger_key) = pem_pair(&["stranger.example"]);
    fs::write(dir.path().join("ca.pem"), &client_cert).unwrap();
    for (auth, anonymous_passes) in [(ClientAuth::Optional, true), (ClientAuth::Required, false)] {
        let tls = ListenerTls {
            client_ca: Some(file(dir.path(), "ca.pem")),
            client_auth: auth,
            ..listener(dir.path(), &["first"])
        };
        let running = Running::start(&plan(&[PlanMode::Tls(tls)], limits()));
        let with = |identity| ask(&mut connect(&running, &client_config(&[&cert], &[], identity), "a.example"));
        assert_eq!(with(None).is_ok(), anonymous_passes);
        assert!(with(Some((&client_cert, &client_key))).is_ok());
        assert!(with(Some((&stranger_cert, &stranger_key))).is_err());
    }
}

#[test]
fn a_handshake_that_stops_or_is_none_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "first", &["a.example"]);
    let short = Duration::from_millis(300);
    let limits = ServerLimits { tls_handshake_timeout: short, ..limits() };
    let running = Running::start(&plan(&[PlanMode::Tls(listener(dir.path(), &["first"]))], limits));
    for start in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut client = running.connect();
        client.write_all(start).unwrap();
        let (took, _) = timed(|| read_to_close(&mut client));
        assert!(took >= short - Duration::from_millis(20) && took < 2 * SECOND, "{took:?}");
        assert_eq!(running.wait_closed(), Some(Verdict::HandshakeTimeout));
    }
    let mut client = running.connect();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(!read_to_close(&mut client).contains("HTTP"));
    running.wait_for(|event| *event == Event::Handshake(Handshake::Failed));
}

#[test]
fn a_listener_whose_files_do_not_go_together_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "first", &["a.example"]);
    fs::write(dir.path().join("first.key"), pem_pair(&["a.example"]).1).unwrap();
    let plan = plan(&[PlanMode::Tls(listener(dir.path(), &["first"]))], limits());
    let factory = |_| -> Rc<Sample> { panic!("no worker is started") };
    let error = Server::start(&plan, factory, Arc::new(())).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().starts_with("listeners[0]: TLS on 127.0.0.1:"), "{error}");
    assert!(cause.starts_with("the key in ") && cause.contains("first.key does not go with"), "{cause}");
}
