//! Unix sockets, introductions and client certificates.

use super::*;
use crate::config::{ProxyVersion, Reach};

#[test]
fn a_socket_in_the_file_system_is_a_target() {
    worker(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(String::from_utf8(head).unwrap().contains("host: localhost\r\n"));
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        let mut target = target(false, "localhost", 80);
        target.reach = Reach::Unix(path.clone());
        let service = service(config::Upstream { host: UpstreamHost::Target, ..config_of(vec![target]) });
        assert_eq!(service.targets()[0].authority(), format!("unix:{}", path.display()));
        assert_eq!(Client::new().text(&service).await.unwrap(), "ok");
    });
}

#[test]
fn a_socket_that_is_not_there_is_an_unreachable_target() {
    worker(async {
        let mut target = target(false, "localhost", 80);
        target.reach = Reach::Unix("/nowhere/api.sock".into());
        let fault = Client::new().fault(&service(config_of(vec![target])), request(Method::GET, "/")).await;
        let UpstreamFault::Unreachable { target, .. } = fault else { panic!("{fault:?}") };
        assert_eq!(target, "unix:/nowhere/api.sock");
    });
}

#[test]
fn each_request_has_a_connection_of_its_own_that_says_for_whom_it_is() {
    worker(async {
        let address = upstream(|mut wire, _| async move {
            let line = wire.until("\r\n").await.unwrap();
            wire.head().await.unwrap();
            let body = line.trim_end();
            wire.say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
            wire.closed().await;
        })
        .await;
        let targets = vec![target(false, "127.0.0.1", address.port())];
        let service = service(config::Upstream { proxy_protocol: Some(ProxyVersion::V1), ..config_of(targets) });
        let client = Client::new();
        for number in 1..4 {
            let introduced = Introduced {
                client: format!("192.0.2.{number}:{number}").parse().unwrap(),
                local: "198.51.100.1:443".parse().unwrap(),
            };
            let sending = Sending { introduced: Some(introduced), ..Sending::plain(SystemClock.now()) };
            let answer = client.pools.send(&service, request(Method::GET, "/"), &sending).await.unwrap();
            let expected = format!("PROXY TCP4 192.0.2.{number} 198.51.100.1 {number} 443");
            assert_eq!(read(answer).await.unwrap().0, expected);
        }
        assert_eq!((client.told.opened.get(), client.told.reused.get()), (3, 0));
    });
}
