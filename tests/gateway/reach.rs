//! How services are reached: HTTP/2, mutual TLS, sockets in the file system, the PROXY protocol, and names that Debian's dnsmasq
//! answers for a second at a time. The services are Debian's nginx.

use rcgen::ExtendedKeyUsagePurpose::ClientAuth;

use crate::harness::{
    Authority, Gateway, World, eventually, get, post,
    tools::{NameServer, Nginx, h2load},
};

/// A gateway whose one upstream is what the test says.
fn gateway(world: &World, upstream: &str) -> Gateway {
    gateway_with(world, upstream, "")
}

fn gateway_with(world: &World, upstream: &str, more: &str) -> Gateway {
    world
        .start(&format!("{more}upstreams:\n  api: {upstream}\nroutes:\n  - {{path: /**, upstream: api, auth: none}}\n"))
}

const ECHO: &str =
    "location / { return 200 '$server_protocol $http_host $request_method $request_uri $content_length'; }
    location /files/ { root <folder>; }";

fn without_tls() -> Nginx {
    Nginx::serving(&format!("server {{ listen 127.0.0.1:<port> http2; keepalive_requests 10000; {ECHO} }}"), &[])
}

#[test]
fn http2_is_spoken_with_prior_knowledge() {
    let (world, nginx) = (World::new(), without_tls());
    let gateway = gateway(&world, &format!("{{targets: [http://127.0.0.1:{}], protocol: http2}}", nginx.port));
    let answer = get("/a%20b?x=%2F").send(&gateway).expect(200);
    assert_eq!(answer.text(), "HTTP/2.0 gateway.example GET /a%20b?x=%2F ");
    let answer = post("/form", &"x".repeat(200_000)).send(&gateway).expect(200);
    assert!(answer.text().ends_with("POST /form 200000"), "{}", answer.text());
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
    nginx.file("big", &big);
    assert!(get("/files/big").send(&gateway).expect(200).body == big);
    assert_eq!(gateway.metric("stepgate_upstream_connections_opened_total", &["upstream=\"api\""]), 1.0);
}

#[test]
fn http2_over_tls_is_agreed_on_and_nothing_else_is_taken_for_it() {
    let (world, authority) = (World::new(), Authority::new("private"));
    authority.server(world.folder(), "service", &["localhost"]);
    world.write("ca.pem", &authority.pem);
    let read = |name: &str| std::fs::read_to_string(world.folder().join(name)).unwrap();
    let files = [("s.pem", read("service.pem")), ("s.key", read("service.key"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
    let tls = "ssl_certificate <folder>/s.pem; ssl_certificate_key <folder>/s.key;";
    let both = Nginx::serving(&format!("server {{ listen 127.0.0.1:<port> ssl http2; {tls} {ECHO} }}"), &files);
    let old = Nginx::serving(&format!("server {{ listen 127.0.0.1:<port> ssl; {tls} {ECHO} }}"), &files);
    for (nginx, protocol, expected) in [
        (&both, "http2", Some("HTTP/2.0")),
        (&both, "auto", Some("HTTP/2.0")),
        (&both, "http1", Some("HTTP/1.1")),
        (&old, "auto", Some("HTTP/1.1")),
        (&old, "http2", None),
    ] {
        let targets = format!("[https://localhost:{}]", nginx.port);
        let world = World::new();
        world.write("ca.pem", &authority.pem);
        let gateway = gateway(&world, &format!("{{targets: {targets}, protocol: {protocol}, ca: ca.pem}}"));
        match expected {
            Some(version) => {
                for _ in 0..3 {
                    let answer = get("/x").send(&gateway).expect(200);
                    assert!(answer.text().starts_with(version), "{protocol}: {}", answer.text());
                }
                let opened = gateway.metric("stepgate_upstream_connections_opened_total", &["upstream=\"api\""]);
                assert_eq!(opened, 1.0, "{protocol}");
            }
            None => {
                get("/x").send(&gateway).expect(502);
                // Events are written beside requests.
                eventually("the reason", || gateway.stderr().contains("upstream_tls").then_some(()));
            }
        }
    }
}

#[test]
fn no_request_is_lost_to_a_service_that_closes_its_http2_connections_all_the_time() {
    let world = World::new();
    let nginx = Nginx::serving(
        &format!(
            "server {{ listen 127.0.0.1:<port> http2; keepalive_requests 7; http2_max_concurrent_streams 3; access_log <folder>/access.log; {ECHO} }}"
        ),
        &[],
    );
    let gateway = gateway(&world, &format!("{{targets: [http://127.0.0.1:{}], protocol: http2}}", nginx.port));
    let url = format!("http://127.0.0.1:{}/x", gateway.port);
    let load = h2load(&["--h1", "-n", "2000", "-c", "16", &url]);
    assert_eq!((load.succeeded, load.failed, load.ok), (2000, 0, 2000), "{}", load.text);
    world.write("form", "a=b");
    let form = world.folder().join("form").display().to_string();
    let load = h2load(&["--h1", "-n", "1000", "-c", "16", "-d", &form, &url]);
    assert_eq!((load.succeeded, load.failed, load.ok), (1000, 0, 1000), "{}", load.text);
    // Each once: nginx writes down what it has looked at.
    assert_eq!(nginx.log().matches("POST /x").count(), 1000);
    assert!(gateway.metric("stepgate_upstream_connections_opened_total", &["upstream=\"api\""]) > 100.0);
}

#[test]
fn a_service_sees_the_gateways_certificate_and_the_name_that_it_is_asked_for_and_a_new_one_without_a_restart() {
    let (world, servers, clients) = (World::new(), Authority::new("servers"), Authority::new("clients"));
    servers.server(world.folder(), "service", &["api.internal"]);
    world.write("ca.pem", &servers.pem);
    let show = |serial| {
        let (cert, key) = clients.client_leaf(serial, 4_000_000_000, |_| {});
        world.write("mine.key", key);
        world.write("mine.pem", cert);
    };
    show(7);
    let read = |name: &str| std::fs::read_to_string(world.folder().join(name)).unwrap();
    let nginx = Nginx::serving(
        "server { listen 127.0.0.1:<port> ssl http2; ssl_certificate <folder>/s.pem; ssl_certificate_key <folder>/s.key;
            ssl_client_certificate <folder>/clients.pem; ssl_verify_client on;
            location / { return 200 '$ssl_client_verify $ssl_client_serial $ssl_server_name'; } }",
        &[("s.pem", &read("service.pem")), ("s.key", &read("service.key")), ("clients.pem", &clients.pem)],
    );
    let upstream = |certificate: &str| {
        format!(
            "{{targets: [https://127.0.0.1:{}], ca: ca.pem, tls: {{server_name: api.internal{certificate}}}}}",
            nginx.port
        )
    };
    let shown = ", certificate: {cert: mine.pem, key: mine.key}";
    let gateway = gateway(&world, &upstream(shown));
    assert_eq!(get("/").send(&gateway).expect(200).text(), "SUCCESS 07 api.internal");
    show(8);
    eventually("the new certificate", || {
        let text = get("/").send(&gateway).expect(200).text();
        (text == "SUCCESS 08 api.internal").then_some(())
    });
    drop(gateway);
    let nobody = World::new();
    nobody.write("ca.pem", &servers.pem);
    let gateway = gateway_with(&nobody, &upstream(""), "");
    get("/").send(&gateway).expect(400);
    let refused = World::new();
    refused.write("ca.pem", &servers.pem);
    let (cert, _) = clients.leaf(&["x"], ClientAuth);
    let (_, key) = clients.leaf(&["y"], ClientAuth);
    refused.write("mine.pem", cert);
    refused.write("mine.key", key);
    let checked = refused.check(&format!(
        "upstreams:\n  api: {}\nroutes:\n  - {{path: /**, upstream: api, auth: none}}\n",
        upstream(shown)
    ));
    assert!(checked.stderr.contains("the key doesn't go with the certificate"), "{}", checked.stderr);
}

#[test]
fn a_service_may_listen_on_a_socket_in_the_file_system() {
    let world = World::new();
    let nginx = Nginx::serving(
        &format!(
            "server {{ listen 127.0.0.1:<port>; listen unix:<folder>/api.sock; {ECHO} }}
             server {{ listen unix:<folder>/h2.sock http2; {ECHO} }}"
        ),
        &[],
    );
    for (socket, protocol, version) in [("api.sock", "http1", "HTTP/1.1"), ("h2.sock", "http2", "HTTP/2.0")] {
        let world = World::new();
        let path = nginx.folder().join(socket).display().to_string();
        let targets = format!("[\"unix:{path}\"]");
        let gateway = gateway(&world, &format!("{{targets: {targets}, protocol: {protocol}, host: target}}"));
        let answer = get("/x").send(&gateway).expect(200);
        assert_eq!(answer.text(), format!("{version} localhost GET /x "));
    }
    drop(world);
}

#[test]
fn a_service_behind_the_proxy_protocol_is_told_the_client_and_no_connection_is_anybody_elses() {
    let nginx = Nginx::serving(
        "server { listen 127.0.0.1:<port> proxy_protocol; location / { return 200 '$proxy_protocol_addr $proxy_protocol_server_port'; } }
         server { listen unix:<folder>/h2.sock http2 proxy_protocol; location / { return 200 '$server_protocol $proxy_protocol_addr'; } }",
        &[],
    );
    for version in ["v1", "v2"] {
        let world = World::new();
        let upstream = format!("{{targets: [http://127.0.0.1:{}], proxy_protocol: {version}}}", nginx.port);
        let gateway = gateway_with(&world, &upstream, "server: {workers: 1, trusted_proxies: [127.0.0.9]}\n");
        for source in ["127.0.0.5", "127.0.0.6", "127.0.0.5"] {
            let answer = get("/").from(source).send(&gateway).expect(200);
            assert_eq!(answer.text(), format!("{source} {}", gateway.port));
        }
        // Whom the gateway believes to be the client, not whoever is connected.
        let answer = get("/").from("127.0.0.9").header("X-Forwarded-For", "192.0.2.44").send(&gateway).expect(200);
        assert_eq!(answer.text(), format!("192.0.2.44 {}", gateway.port));
        assert_eq!(gateway.metric("stepgate_upstream_connections_opened_total", &["upstream=\"api\""]), 4.0);
        let socket = nginx.folder().join("h2.sock").display().to_string();
        let world = World::new();
        let upstream = format!("{{targets: [\"unix:{socket}\"], protocol: http2, proxy_protocol: {version}}}");
        let gateway = gateway_with(&world, &upstream, "");
        for source in ["127.0.0.5", "127.0.0.6"] {
            assert_eq!(get("/").from(source).send(&gateway).expect(200).text(), format!("HTTP/2.0 {source}"));
        }
    }
}

/// A service at several addresses of this machine that says which one it was.
fn at_addresses() -> Nginx {
    Nginx::serving(
        "server { listen 127.0.0.2:<port>; listen 127.0.0.3:<port>; location / { return 200 '$server_addr'; } }",
        &[],
    )
}

fn dns(server: &NameServer) -> String {
    format!("dns: {{servers: [\"127.0.0.1:{}\"]}}\nserver: {{workers: 1}}\n", server.port)
}

/// Asks until every one of these answered, and no other has for a while; no request may fail.
fn until_only(gateway: &Gateway, expected: &[&str]) {
    eventually(&format!("answers of {expected:?} alone"), || {
        let seen: std::collections::HashSet<String> =
            (0..20).map(|_| get("/").send(gateway).expect(200).text()).collect();
        (seen == expected.iter().map(|text| (*text).to_owned()).collect()).then_some(())
    });
}

#[test]
fn traffic_follows_a_name_when_its_address_changes_and_no_request_is_lost() {
    let (world, nginx) = (World::new(), at_addresses());
    let mut names = NameServer::start("127.0.0.2 api.internal\n", &[]);
    let upstream = format!("{{targets: [{{url: \"http://api.internal:{}\", expand: true}}]}}", nginx.port);
    let gateway = gateway_with(&world, &upstream, &dns(&names));
    assert_eq!(get("/").send(&gateway).expect(200).text(), "127.0.0.2", "the first request waits for the name");
    for (hosts, expected) in [
        ("127.0.0.3 api.internal\n", &["127.0.0.3"][..]),
        ("127.0.0.2 api.internal\n127.0.0.3 api.internal\n", &["127.0.0.2", "127.0.0.3"]),
        ("127.0.0.2 api.internal\n", &["127.0.0.2"]),
    ] {
        names.change(hosts);
        until_only(&gateway, expected);
    }
    // The last good answer serves while there is no name server, and it is said that there is none.
    names.stop();
    eventually("the gauge", || {
        get("/").send(&gateway).expect(200);
        (gateway.metric("stepgate_upstream_names_failing", &["upstream=\"api\""]) == 1.0).then_some(())
    });
    assert_eq!(get("/").send(&gateway).expect(200).text(), "127.0.0.2");
}

#[test]
fn a_name_of_one_target_is_resolved_and_one_that_nobody_knows_is_a_502() {
    let (world, nginx) = (World::new(), at_addresses());
    let mut names = NameServer::start("127.0.0.9 other.internal\n", &[]);
    let upstream = format!("{{targets: [http://api.internal:{}], timeouts: {{connect: 1s}}}}", nginx.port);
    let gateway = gateway_with(&world, &upstream, &dns(&names));
    get("/").send(&gateway).expect(502);
    names.change("127.0.0.3 api.internal\n");
    eventually("the name", || (get("/").send(&gateway).status == 200).then_some(()));
    assert_eq!(get("/").send(&gateway).expect(200).text(), "127.0.0.3");
}

#[test]
fn services_are_found_by_their_records_with_ports_weights_and_priorities() {
    let world = World::new();
    let server = "server { listen 127.0.0.1:<port>; location / { return 200 '$server_port'; } }";
    let [first, second, spare] = [(); 3].map(|()| Nginx::serving(server, &[]));
    let record = |port: u16, priority: u16, weight: u16| {
        format!("--srv-host=_http._tcp.api.internal,one.internal,{port},{priority},{weight}")
    };
    let all = [record(first.port, 10, 3), record(second.port, 10, 1), record(spare.port, 20, 1)];
    let mut names = NameServer::start("127.0.0.1 one.internal\n", &all);
    let upstream = "{targets: [{srv: _http._tcp.api.internal, scheme: http}]}";
    let gateway = gateway_with(&world, upstream, &dns(&names));
    let (one, two, other) = (first.port.to_string(), second.port.to_string(), spare.port.to_string());
    let mut seen: Vec<String> = (0..40).map(|_| get("/").send(&gateway).expect(200).text()).collect();
    seen.sort();
    let of = |port: &String| seen.iter().filter(|seen| *seen == port).count();
    assert_eq!((of(&one), of(&two), of(&other)), (30, 10, 0));
    // Nobody of the first priority answers any more: the next one does.
    drop((first, second));
    until_only(&gateway, &[&other]);
    names.change_options(&[record(spare.port, 5, 0)]);
    until_only(&gateway, &[&other]);
}
