//! Several targets, some of them down.

use super::*;

async fn named(name: &'static str) -> SocketAddr {
    let answer: &'static str = match name {
        "a" => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb",
    };
    upstream(move |wire, _| wire.answer_all(answer)).await
}

#[test]
fn healthy_targets_take_turns() {
    worker(async {
        let service = service_of(&[named("a").await, named("b").await]);
        let client = Client::new();
        let mut answers = String::new();
        for _ in 0..6 {
            answers += &client.text(&service).await.unwrap();
        }
        assert_eq!(answers, "ababab");
        assert_eq!(client.told.opened.get(), 2);
    });
}

#[test]
fn a_target_that_is_down_costs_no_request_and_is_soon_left_alone() {
    worker(async {
        let (down, _socket) = nobody();
        let service = service_of(&[down, named("a").await]);
        let client = Client::new();
        for _ in 0..20 {
            assert_eq!(client.text(&service).await.unwrap(), "a");
        }
        assert_eq!(*client.told.ejected.borrow(), [down.to_string()]);
        assert!(service.targets()[0].is_out() && !service.targets()[1].is_out());
        assert_eq!(*client.told.faults.borrow(), []);
    });
}

#[test]
fn requests_are_tried_even_when_every_target_was_left_out() {
    worker(async {
        let (address, socket) = nobody();
        let (other, _socket) = nobody();
        let service = service_of(&[address, other]);
        let client = Client::new();
        for _ in 0..6 {
            let fault = client.fault(&service, request(Method::GET, "/")).await;
            assert_eq!(fault.kind(), FaultKind::Unreachable);
        }
        assert!(service.targets().iter().all(|target| target.is_out()));

        somebody(socket);
        assert_eq!(client.text(&service).await.unwrap(), "ok");
        assert_eq!(*client.told.readmitted.borrow(), [address.to_string()]);
    });
}

#[test]
fn a_target_that_comes_back_is_found_by_one_probe() {
    worker(async {
        let (address, socket) = nobody();
        let service = service_of(&[address, named("a").await]);
        let client = Client::new();
        for _ in 0..8 {
            assert_eq!(client.text(&service).await.unwrap(), "a");
        }
        somebody(socket);
        let later = now_plus(Duration::from_secs(6));
        let mut answers = String::new();
        for _ in 0..4 {
            let answer = client.send_at(&service, request(Method::GET, "/"), later).await.unwrap();
            answers += &read(answer).await.unwrap().0;
        }
        assert_eq!(answers.matches("ok").count(), 2, "{answers}");
        assert!(!service.targets()[0].is_out());
    });
}

#[test]
fn health_is_kept_over_a_reload() {
    worker(async {
        let (down, _socket) = nobody();
        let up = named("a").await;
        let config = |host| {
            let mut config =
                config_of(vec![target(false, "127.0.0.1", down.port()), target(false, "127.0.0.1", up.port())]);
            config.host = host;
            Arc::new(config)
        };
        let client = Client::new();
        let files = Files::default();
        let before = Upstreams::compile(&[config(UpstreamHost::Preserve)], &files, None).unwrap();
        for _ in 0..8 {
            client.text(&before.get("api").unwrap()).await.unwrap();
        }
        let after = Upstreams::compile(&[config(UpstreamHost::Target)], &files, Some(&before)).unwrap();
        let service = after.get("api").unwrap();
        assert_eq!(service.config().host, UpstreamHost::Target);
        assert!(service.targets()[0].is_out());
    });
}

#[test]
fn localhost_is_found_whichever_family_serves_it() {
    worker(async {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else { continue }; // a machine without IPv6
            let port = listener.local_addr().unwrap().port();
            spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    spawn_local(Wire(stream).answer_all(OK));
                }
            });
            let service = service(config_of(vec![target(false, "localhost", port)]));
            // A machine may know `localhost` by one family only.
            let known = tokio::net::lookup_host(("localhost", port)).await.unwrap();
            let served = known.into_iter().any(|at| at.is_ipv6() == address.starts_with('['));
            assert!(Client::new().text(&service).await.is_ok() || !served, "{address}");
        }
    });
}

#[test]
fn an_address_of_version_6_is_written_in_brackets() {
    worker(async {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let port = listener.local_addr().unwrap().port();
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            Wire(stream).answer_all(OK).await;
        });
        let service = service(config_of(vec![target(false, "[::1]", port)]));
        assert_eq!(Client::new().text(&service).await.unwrap(), "ok");
        assert_eq!(service.targets()[0].authority(), format!("[::1]:{port}"));
    });
}

#[test]
fn targets_that_are_published_are_used_and_those_that_stay_keep_their_connections() {
    worker(async {
        let service = service_of(&[named("a").await]);
        let other = service_of(&[named("b").await]);
        let client = Client::new();
        assert_eq!(client.text(&service).await.unwrap(), "a");

        let both = [&service, &other].map(|service| service.targets()[0].clone());
        service.publish(both.to_vec());
        let mut answers = String::new();
        for _ in 0..4 {
            answers += &client.text(&service).await.unwrap();
        }
        assert_eq!(answers, "abab");
        assert_eq!(client.told.opened.get(), 2);

        service.publish(vec![both[1].clone()]);
        assert_eq!(client.text(&service).await.unwrap(), "b");
        assert_eq!((service.targets().generation, client.told.opened.get()), (3, 2));
    });
}
