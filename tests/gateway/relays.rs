//! What stands between clients and listeners: relays that speak the PROXY protocol (Debian's HAProxy and nginx), and Unix
//! sockets.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::Command,
    time::Duration,
};

use crate::harness::{Authority, Gateway, Process, Wire, World, eventually, get, lease_port};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

/// The address of a client, 127.0.0.`n`.
fn client(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

/// HAProxy in front of servers: each frontend is a port and what follows `server s`.
struct HaProxy {
    _process: Process,
    ports: Vec<u16>,
}

impl HaProxy {
    fn start(folder: &Path, servers: &[String]) -> Self {
        let mut text =
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n".to_owned();
        let ports: Vec<u16> = servers.iter().map(|_| lease_port()).collect();
        for (n, (port, server)) in ports.iter().zip(servers).enumerate() {
            text.push_str(&format!(
                "frontend f{n}\n  bind 127.0.0.1:{port}\n  default_backend b{n}\nbackend b{n}\n  server s {server}\n"
            ));
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).env("PATH", path_with_sbin());
        let process = Process::spawn(&mut command);
        // Its own socket is looked at, since a connection would be passed on.
        eventually("haproxy", || ports.iter().all(|port| is_listening(*port)).then_some(()));
        Self { _process: process, ports }
    }
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Whether somebody listens on a port, without connecting to it.
fn is_listening(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_err()
}

fn relayed(world: &World, from: &str, more: &str) -> Gateway {
    world.start(&format!(
        "listeners:\n  - {{address: 127.0.0.1:<port>, cleartext: true, proxy_protocol: {{from: [{from}]}}}}\n{more}{OPEN}"
    ))
}

/// Sends bytes to a port from a client's address, and reads all that comes until it is closed.
fn say(from: IpAddr, port: u16, bytes: &[u8]) -> String {
    let mut wire = Wire::connect_from(from, port);
    wire.send(bytes);
    String::from_utf8_lossy(&wire.rest()).into_owned()
}

fn client_of(gateway: &Gateway, path: &str) -> String {
    let record = gateway.access(|record| record["path"] == path);
    record["client.address"].as_str().unwrap().to_owned()
}

#[test]
fn haproxy_tells_for_whom_it_connects_in_both_versions_with_checksums_and_health_checks() {
    let world = World::new();
    let gateway = relayed(&world, "127.0.0.1", "");
    let to = format!("127.0.0.1:{}", world.port);
    let front = HaProxy::start(
        world.folder(),
        &[
            format!("{to} send-proxy"),
            format!("{to} send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"),
            format!("{to} send-proxy-v2 check check-send-proxy inter 100ms"),
        ],
    );
    for (n, port) in (2..).zip(&front.ports) {
        let path = format!("/by-haproxy-{n}");
        let mut wire = Wire::connect_from(client(n), *port);
        assert_eq!(wire.send(get(&path).bytes()).answer().status, 200);
        assert_eq!(client_of(&gateway, &path), format!("127.0.0.{n}"));
        let told = world.upstream.wait_for(usize::from(n) - 1);
        assert_eq!(told.last().unwrap().header("x-forwarded-for"), format!("127.0.0.{n}"));
    }
    // Its health checks connect for itself, and are no fault.
    eventually("health checks", || {
        (gateway.metric("stepgate_connections_total", &["listener=\"127"]) > 6.0).then_some(())
    });
    assert_eq!(gateway.metric("stepgate_connections_refused_total", &[]), 0.0);
}

#[test]
fn nginx_tells_for_whom_it_connects_and_tls_goes_through_it() {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let gateway = world.start(&format!(
        "listeners:\n  - address: 127.0.0.1:<tls>\n    proxy_protocol: {{from: [127.0.0.1]}}\n    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}\n{OPEN}"
    ));
    let port = lease_port();
    let folder = world.folder().display();
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{}; proxy_protocol on; }} }}\n",
        world.tls
    );
    world.write("nginx.conf", text);
    let mut command = Command::new("nginx");
    command.env("PATH", path_with_sbin()).args(["-p", &folder.to_string(), "-c", &format!("{folder}/nginx.conf")]);
    let _nginx = Process::spawn(&mut command);
    eventually("nginx", || is_listening(port).then_some(()));
    for protocol in ["h2", "http/1.1"] {
        let mut wire = Wire::tls(port, "one.example", &authority.client(&[protocol])).unwrap();
        if protocol == "http/1.1" {
            assert_eq!(wire.send(get("/by-nginx").bytes()).answer().status, 200);
        }
    }
    assert_eq!(client_of(&gateway, "/by-nginx"), "127.0.0.1");
    let record = gateway.access(|record| record["path"] == "/by-nginx");
    assert_eq!(record["tls.version"], "TLSv1.3", "{record}");
}

#[test]
fn what_a_relay_says_is_believed_like_a_peers_own_address() {
    let world = World::new();
    let gateway = relayed(&world, "127.0.0.1", "server: {workers: 1, trusted_proxies: [192.0.2.0/24]}\n");
    for (source, path, expected) in
        [("192.0.2.7", "/through", "203.0.113.5"), ("198.51.100.7", "/direct", "198.51.100.7")]
    {
        let request = get(path).header("x-forwarded-for", "203.0.113.5").header("connection", "close").bytes();
        let head = format!("PROXY TCP4 {source} 192.0.2.1 4711 80\r\n");
        let answer = say(client(1), world.port, &[head.as_bytes(), &request].concat());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(client_of(&gateway, path), expected);
    }
    // For whom nobody knows, nothing is believed, and nobody's address is told to the upstream.
    let request = get("/nobody").header("x-forwarded-for", "203.0.113.5").header("connection", "close").bytes();
    say(client(1), world.port, &[b"PROXY UNKNOWN\r\n", &request[..]].concat());
    assert_eq!(client_of(&gateway, "/nobody"), "::");
    let told = world.upstream.wait_for(3);
    assert!(!told.last().unwrap().has("x-forwarded-for"));
}

#[test]
fn a_relay_that_does_not_say_for_whom_is_closed_without_a_word_and_counted() {
    let world = World::new();
    let gateway = relayed(&world, "127.0.0.1", "server: {workers: 1, limits: {tls_handshake_timeout: 1s}}\n");
    let hostile: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\nGET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.4\r\nGET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02\x03\0\x04\x01\x02\x03\x04",
        // Never goes on: the time of a handshake ends it.
        b"PROXY TCP4 1.2.3.4 ",
    ];
    for (n, bytes) in hostile.iter().enumerate() {
        assert_eq!(say(client(1), world.port, bytes), "", "{n}");
        let refused = || gateway.metric("stepgate_connections_refused_total", &["reason=\"proxy_header\""]);
        eventually("it to be counted", || (refused() == (n + 1) as f64).then_some(()));
    }
    assert_eq!(world.upstream.count(), 0);
}

#[test]
fn from_anybody_else_the_header_is_not_read() {
    let world = World::new();
    let gateway = relayed(&world, "127.0.0.9", "");
    let answer = say(client(1), world.port, b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let mut wire = Wire::connect_from(client(1), world.port);
    assert_eq!(wire.send(get("/plain").bytes()).answer().status, 200);
    assert_eq!(client_of(&gateway, "/plain"), "127.0.0.1");
}

#[test]
fn connections_are_counted_for_the_client_and_not_for_the_relay() {
    let world = World::new();
    let gateway = relayed(&world, "127.0.0.1", "server: {workers: 1, limits: {connections_per_ip: 2}}\n");
    let front = HaProxy::start(world.folder(), &[format!("127.0.0.1:{} send-proxy-v2", world.port)]);
    let port = front.ports[0];
    let mut open: Vec<Wire> = Vec::new();
    for n in [2, 2, 3, 3, 4, 4] {
        let mut wire = Wire::connect_from(client(n), port);
        assert_eq!(wire.send(get("/kept").bytes()).answer().status, 200);
        open.push(wire);
    }
    let mut third = Wire::connect_from(client(2), port);
    assert!(third.send(get("/third").bytes()).try_answer(false).is_err());
    assert_eq!(gateway.metric("stepgate_connections_refused_total", &["reason=\"connections_per_ip\""]), 1.0);
    drop(open);
    eventually("room again", || {
        let mut wire = Wire::connect_from(client(2), port);
        wire.send(get("/again").bytes()).try_answer(false).ok()
    });
}

// -- Unix sockets

/// Asks over a Unix socket; what comes until it is closed.
fn ask_unix(path: &Path, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn closing(path: &str) -> Vec<u8> {
    get(path).header("connection", "close").bytes()
}

#[test]
fn a_unix_socket_serves_all_workers_has_its_mode_and_goes_with_the_gateway() {
    let world = World::new();
    let path = world.folder().join("run/web.sock");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Left by a gateway that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let says = format!(
        "server: {{workers: 2}}\nlisteners:\n  - {{address: \"unix:run/web.sock\", unix_mode: \"0600\", cleartext: true}}\n{OPEN}"
    );
    let mut gateway = world.start(&says);
    for n in 0..8 {
        let answer = ask_unix(&path, &closing(&format!("/{n}"))).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Nobody's address: it is not told, and is in the record as such.
    assert_eq!(client_of(&gateway, "/1"), "::");
    assert!(!world.upstream.wait_for(8)[1].has("x-forwarded-for"));
    let listener = gateway.access(|record| record["path"] == "/1")["listener"].as_str().unwrap().to_owned();
    assert!(listener.starts_with("unix:/") && listener.ends_with("run/web.sock"), "{listener}");
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    assert!(!path.exists());
}

#[test]
fn a_socket_on_which_somebody_answers_is_left_alone() {
    let world = World::new();
    let path = world.folder().join("web.sock");
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    world.configure(&format!("listeners:\n  - {{address: \"unix:web.sock\", cleartext: true}}\n{OPEN}"));
    let finished = crate::harness::stepgate(world.folder(), &["run", "gateway.yaml"]);
    assert_ne!(finished.code, 0);
    assert!(finished.stderr.contains("web.sock") && finished.stderr.contains("listeners[0]"), "{}", finished.stderr);
    assert!(path.exists());
}

#[test]
fn nginx_in_front_of_a_unix_socket_is_believed_by_the_name_unix_alone() {
    let world = World::new();
    let path = world.folder().join("web.sock");
    let says = |trusted: &str| {
        format!(
            "server: {{workers: 1, trusted_proxies: [{trusted}]}}\nlisteners:\n  - {{address: \"unix:web.sock\", cleartext: true}}\n{OPEN}"
        )
    };
    let gateway = world.start(&says("\"::/0\", 0.0.0.0/0"));
    let port = lease_port();
    let folder = world.folder().display();
    world.write(
        "nginx.conf",
        format!(
            "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port};
        location / {{ proxy_pass http://unix:{}; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Host a; }} }}
}}\n",
            path.display()
        ),
    );
    let mut command = Command::new("nginx");
    command.env("PATH", path_with_sbin()).args(["-p", &folder.to_string(), "-c", &format!("{folder}/nginx.conf")]);
    let _nginx = Process::spawn(&mut command);
    eventually("nginx", || is_listening(port).then_some(()));
    let ask = |path: &str| say(client(3), port, &closing(path));
    assert!(ask("/stranger").starts_with("HTTP/1.1 200"));
    assert_eq!(client_of(&gateway, "/stranger"), "::");
    drop(gateway);
    let gateway = world.start(&says("unix"));
    assert!(ask("/trusted").starts_with("HTTP/1.1 200"));
    assert_eq!(client_of(&gateway, "/trusted"), "127.0.0.3");
}

#[test]
fn peers_of_a_unix_socket_share_one_bound_unless_a_relay_tells_them_apart() {
    let world = World::new();
    let limits = "server: {workers: 1, limits: {connections_per_ip: 2}}\n";
    let gateway = world.start(&format!(
        "{limits}listeners:\n  - {{address: \"unix:shared.sock\", cleartext: true}}\n  - {{address: \"unix:told.sock\", cleartext: true, proxy_protocol: {{from: [unix]}}}}\n{OPEN}"
    ));
    let shared = world.folder().join("shared.sock");
    let held: Vec<UnixStream> = (0..2)
        .map(|_| {
            let mut stream = UnixStream::connect(&shared).unwrap();
            stream.write_all(&get("/held").bytes()).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream
        })
        .collect();
    assert_eq!(ask_unix(&shared, &closing("/third")).unwrap_or_default(), "");
    drop(held);
    let told = format!("unix@{} send-proxy-v2", world.folder().join("told.sock").display());
    let front = HaProxy::start(world.folder(), &[told]);
    let mut open = Vec::new();
    for n in [2, 3, 4, 5] {
        let mut wire = Wire::connect_from(client(n), front.ports[0]);
        assert_eq!(wire.send(get(&format!("/told-{n}")).bytes()).answer().status, 200);
        assert_eq!(client_of(&gateway, &format!("/told-{n}")), format!("127.0.0.{n}"));
        open.push(wire);
    }
    assert_eq!(ask_unix(&world.folder().join("told.sock"), &closing("/untold")).unwrap_or_default(), "");
}

#[test]
fn a_listener_on_a_unix_socket_comes_and_goes_by_a_reload() {
    let world = World::new();
    let listener = |more: &str| format!("listeners:\n  - {{address: 127.0.0.1:<port>, cleartext: true}}\n{more}{OPEN}");
    let gateway = world.start(&listener(""));
    let path = world.folder().join("late.sock");
    world.configure(&listener("  - {address: \"unix:late.sock\", cleartext: true}\n"));
    gateway.signal("HUP");
    eventually("the socket", || {
        ask_unix(&path, &closing("/late")).ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    world.configure(&listener(""));
    gateway.signal("HUP");
    eventually("the socket to go", || (!path.exists()).then_some(()));
    assert_eq!(gateway.connect().send(get("/still").bytes()).answer().status, 200);
}
