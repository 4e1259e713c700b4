//! Certificates that are ordered: from Debian's pebble, the test authority of Let's Encrypt's makers, with its own test DNS.
//! What is served is judged by openssl and curl.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::harness::{Authority, Finished, Gateway, Process, World, eventually, get, lease_port, let_pass, run};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

/// An order takes a dozen requests, and what failed is tried again after ten seconds.
const ORDER_PATIENCE: Duration = Duration::from_secs(100);

/// Asks `probe` again and again, as [`eventually`] does, for as long as orders may take.
fn in_the_end<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < ORDER_PATIENCE, "waited {ORDER_PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// The authority.
struct Pebble {
    _process: Process,
    _dns: Process,
    port: u16,
    management: u16,
}

/// What is particular of it.
#[derive(Default)]
struct Says<'a> {
    /// How long certificates are good for, in seconds.
    validity: Option<u64>,
    /// Of a hundred good nonces, how many it refuses.
    rejects: u8,
    /// The external account that it wants, with its key in base64url.
    external: Option<(&'a str, &'a str)>,
    /// The port, by its name, that it shall not find: that of the other challenge.
    blind: Option<&'a str>,
    /// Where all names lead.
    names_lead_to: Option<&'a str>,
}

/// The ports of an authority that may come later.
struct Place {
    port: u16,
    management: u16,
}

impl Place {
    /// Writes the authority that vouches for its own TLS as `pebble.pem` into the folder.
    fn new(world: &World) -> Self {
        let authority = Authority::new("pebble");
        authority.server(world.folder(), "pebble-server", &["localhost", "127.0.0.1"]);
        world.write("pebble.pem", &authority.pem);
        Self { port: lease_port(), management: lease_port() }
    }

    fn start(&self, world: &World, says: &Says<'_>) -> Pebble {
        let (dns, dns_management) = (lease_port(), lease_port());
        let mut command = Command::new("pebble-challtestsrv");
        for off in ["-http01", "-https01", "-tlsalpn01", "-defaultIPv6"] {
            command.args([off, ""]);
        }
        command.args(["-defaultIPv4", says.names_lead_to.unwrap_or("127.0.0.1")]);
        command.args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{dns_management}")]);
        let names = Process::spawn(&mut command);
        eventually("pebble's DNS", || std::net::TcpStream::connect(("127.0.0.1", dns_management)).ok());
        let folder = world.folder().display();
        let mut config = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": format!("{folder}/pebble-server.pem"),
            "privateKey": format!("{folder}/pebble-server.key"),
            "httpPort": world.port,
            "tlsPort": world.tls,
        });
        if let Some(port) = says.blind {
            config[port] = 1.into();
        }
        if let Some(seconds) = says.validity {
            config["certificateValidityPeriod"] = seconds.into();
        }
        if let Some((id, key)) = says.external {
            config["externalAccountBindingRequired"] = true.into();
            config["externalAccountMACKeys"] = serde_json::json!({ id: key });
        }
        world.write("pebble.json", serde_json::json!({"pebble": config}).to_string());
        let mut command = Command::new("pebble");
        command.arg("-config").arg(world.folder().join("pebble.json"));
        command.args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", says.rejects.to_string());
        command.env("PEBBLE_AUTHZREUSE", "0");
        let process = Process::spawn(&mut command);
        let pebble = Pebble { _process: process, _dns: names, port: self.port, management: self.management };
        eventually("pebble", || std::net::TcpStream::connect(("127.0.0.1", pebble.port)).ok());
        world.write("root.pem", pebble.root());
        pebble
    }
}

impl Pebble {
    /// With its own certificate in the folder, and its root as `root.pem`.
    fn start(world: &World, says: &Says<'_>) -> Self {
        Place::new(world).start(world, says)
    }

    fn root(&self) -> String {
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        eventually("pebble's root", || {
            let finished = run(Command::new("curl").args(["--silent", "--insecure", "--fail", &url]), "");
            (finished.code == 0).then_some(finished.stdout)
        })
    }
}

/// A configuration: a redirecting listener, one with TLS, and who orders. `entries` are its certificates.
fn yaml(port: u16, challenge: &str, entries: &str, more: &str) -> String {
    format!(
        "listeners:
  - {{address: 127.0.0.1:<port>, redirect_to_https: 443}}
  - address: 127.0.0.1:<tls>
    tls:
      certificates: [{entries}]
{more}acme:
  directory: https://127.0.0.1:{port}/dir
  ca: pebble.pem
  contact: [ops@example.com]
  terms_of_service_agreed: true
  challenge: {challenge}
{OPEN}"
    )
}

/// A handshake by openssl that trusts pebble's root alone, for this name.
fn handshake(world: &World, name: &str) -> Finished {
    let to = format!("127.0.0.1:{}", world.tls);
    let arguments = ["s_client", "-connect", &to, "-servername", name, "-verify_hostname", name];
    let mut command = Command::new("openssl");
    command.args(arguments).args(["-CAfile", "root.pem", "-verify_return_error"]).current_dir(world.folder());
    run(&mut command, "")
}

/// The serial number of what is served for a name, if it verifies.
fn serial(world: &World, name: &str) -> Option<String> {
    let seen = handshake(world, name);
    if seen.code != 0 {
        return None;
    }
    let finished = run(Command::new("openssl").args(["x509", "-noout", "-serial"]), &seen.stdout);
    Some(finished.stdout.trim().to_owned()).filter(|serial| serial.starts_with("serial="))
}

fn served(world: &World, name: &str) -> String {
    in_the_end(&format!("a certificate for {name}"), || serial(world, name))
}

fn orders(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("stepgate_acme_orders_total", &[&format!("result=\"{result}\"")])
}

/// The files of the store, with their modes.
fn stored(folder: &Path) -> Vec<(String, u32)> {
    let files = std::fs::read_dir(folder.join("state/acme")).into_iter().flatten().map(Result::unwrap);
    let mut files: Vec<_> = files
        .map(|file| {
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            (file.file_name().into_string().unwrap(), mode)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_certificate_is_ordered_by_either_challenge_and_its_chain_verifies() {
    for (challenge, rejects, blind) in [("tls-alpn-01", 0, "httpPort"), ("http-01", 15, "tlsPort")] {
        let world = World::new();
        let pebble = Pebble::start(&world, &Says { rejects, blind: Some(blind), ..Says::default() });
        let names = "{acme: [api.example.com, www.example.com]}";
        let gateway = world.start(&yaml(pebble.port, challenge, names, ""));
        for name in ["api.example.com", "www.example.com"] {
            served(&world, name);
        }
        assert_eq!(orders(&gateway, "ok"), 1.0);
        let mut command = Command::new("curl");
        let resolve = format!("api.example.com:{}:127.0.0.1", world.tls);
        let url = format!("https://api.example.com:{}/by-curl", world.tls);
        command.args(["--silent", "--show-error", "--fail", "--cacert", "root.pem", "--resolve", &resolve, &url]);
        let finished = run(command.current_dir(world.folder()), "");
        assert_eq!(finished.code, 0, "{finished:?}");
        let files = stored(world.folder());
        assert_eq!(files.len(), 2, "{files:?}");
        assert!(files.iter().all(|(_, mode)| *mode == 0o600), "{files:?}");
        // What the listener shows to the authority, it shows for as long as it is asked to.
        let answer = get("/.well-known/acme-challenge/none").send_to(world.port);
        assert_eq!(answer.status, 308, "{answer:?}");
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", world.tls), "-servername", "api.example.com"]);
        let finished = run(command.args(["-alpn", "acme-tls/1"]), "");
        assert_ne!(finished.code, 0, "{finished:?}");
    }
}

#[test]
fn a_certificate_is_renewed_in_time_and_no_handshake_fails_meanwhile() {
    let world = World::new();
    let pebble = Pebble::start(&world, &Says { validity: Some(20), ..Says::default() });
    let gateway = world.start(&yaml(pebble.port, "tls-alpn-01", "{acme: [api.example.com]}", ""));
    let first = served(&world, "api.example.com");
    let second = in_the_end("another certificate", || {
        let serial = serial(&world, "api.example.com").expect("a certificate that is good");
        (serial != first).then_some(serial)
    });
    assert_ne!(first, second);
    assert!(orders(&gateway, "ok") >= 2.0);
    assert_eq!(gateway.metric("stepgate_acme_failing", &[]), 0.0);
}

#[test]
fn where_the_clock_is_ahead_of_every_new_certificate_they_are_not_ordered_one_after_the_other() {
    let world = World::new();
    // By this machine's clock it has ended when it comes.
    let pebble = Pebble::start(&world, &Says { validity: Some(1), ..Says::default() });
    let gateway = world.start(&yaml(pebble.port, "tls-alpn-01", "{acme: [api.example.com]}", ""));
    in_the_end("a certificate", || (orders(&gateway, "ok") >= 1.0).then_some(()));
    // An order takes one second; the pause is ten at least.
    let_pass(Duration::from_secs(8));
    assert_eq!((orders(&gateway, "ok"), orders(&gateway, "failed")), (1.0, 0.0));
}

#[test]
fn what_is_stored_is_served_after_a_restart_without_asking_anybody() {
    let world = World::new();
    let pebble = Pebble::start(&world, &Says::default());
    let says = yaml(pebble.port, "tls-alpn-01", "{acme: [api.example.com]}", "");
    let mut gateway = world.start(&says);
    let before = served(&world, "api.example.com");
    gateway.kill();
    drop(gateway);
    drop(pebble);
    let gateway = world.restart();
    assert_eq!(serial(&world, "api.example.com"), Some(before));
    assert_eq!((orders(&gateway, "ok"), orders(&gateway, "failed")), (0.0, 0.0));
}

#[test]
fn without_the_authority_everything_else_works_and_the_certificate_comes_with_it() {
    let world = World::new();
    let place = Place::new(&world);
    Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    world.write("root.pem", "");
    let says = yaml(place.port, "http-01", "{acme: [api.example.com]}", "");
    let gateway = world.start(&says);
    assert_eq!(get("/x").send_to(world.port).status, 308);
    assert_ne!(handshake(&world, "api.example.com").code, 0);
    eventually("the failure to be told", || {
        (gateway.metric("stepgate_acme_failing", &["certificate=\"api.example.com\""]) == 1.0).then_some(())
    });
    eventually("the log", || gateway.stderr().contains("a certificate was not ordered").then_some(()));
    let _pebble = place.start(&world, &Says::default());
    served(&world, "api.example.com");
    eventually("all to be well", || (gateway.metric("stepgate_acme_failing", &[]) == 0.0).then_some(()));
}

#[test]
fn a_name_that_is_not_ours_is_not_ordered_and_the_listeners_first_certificate_is_served() {
    let world = World::new();
    // Nobody listens there.
    let pebble = Pebble::start(&world, &Says { names_lead_to: Some("127.0.0.99"), ..Says::default() });
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let entries = "{cert: one.pem, key: one.key}, {acme: [api.example.com]}";
    let gateway = world.start(&yaml(pebble.port, "tls-alpn-01", entries, ""));
    in_the_end("the failure", || (orders(&gateway, "failed") >= 1.0).then_some(()));
    eventually("the log", || gateway.stderr().contains("Failed to connect to 127.0.0.99").then_some(()));
    world.write("root.pem", &authority.pem);
    assert_eq!(handshake(&world, "one.example").code, 0);
    assert_ne!(handshake(&world, "api.example.com").code, 0);
    assert_eq!(stored(world.folder()).len(), 1, "the account alone");
}

#[test]
fn an_authority_without_a_client_certificate_sees_the_challenge_where_clients_need_one() {
    let world = World::new();
    let pebble = Pebble::start(&world, &Says::default());
    world.write("clients.pem", Authority::new("clients").pem);
    let more = "      client_ca: clients.pem\n      client_auth: required\n      min_version: \"1.3\"\n";
    let gateway = world.start(&yaml(pebble.port, "tls-alpn-01", "{acme: [api.example.com]}", more));
    in_the_end("the order", || (orders(&gateway, "ok") == 1.0).then_some(()));
    // Everybody else still needs one.
    let mut command = Command::new("curl");
    let url = format!("https://127.0.0.1:{}/x", world.tls);
    let finished = run(command.args(["--silent", "--insecure", &url]), "");
    assert_ne!(finished.code, 0, "{finished:?}");
    world.upstream.assert_untouched();
}

#[test]
fn a_reload_adds_names_and_an_external_account_is_named() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    crate::harness::remember_secret(key);
    let world = World::new();
    let pebble = Pebble::start(&world, &Says { external: Some(("kid-1", key)), ..Says::default() });
    world.write("eab.key", format!("{key}\n"));
    let says = |entries: &str| {
        let account = "  external_account: {key_id: kid-1, hmac_key: {file: eab.key}}\nroutes:";
        yaml(pebble.port, "tls-alpn-01", entries, "").replace("routes:", account)
    };
    let gateway = world.start(&says("{acme: [api.example.com]}"));
    let first = served(&world, "api.example.com");
    world.configure(&says("{acme: [api.example.com]}, {acme: [late.example.com]}"));
    gateway.signal("HUP");
    served(&world, "late.example.com");
    assert_eq!(serial(&world, "api.example.com"), Some(first), "it was not ordered again");
    assert_eq!(stored(world.folder()).len(), 3, "one account");
}

#[test]
fn an_account_that_the_authority_forgot_is_made_anew() {
    let world = World::new();
    let place = Place::new(&world);
    let says = Says { validity: Some(20), ..Says::default() };
    let pebble = place.start(&world, &says);
    let gateway = world.start(&yaml(place.port, "tls-alpn-01", "{acme: [api.example.com]}", ""));
    served(&world, "api.example.com");
    drop(pebble);
    // Another root, and nobody is known there.
    let _pebble = place.start(&world, &says);
    served(&world, "api.example.com");
    assert!(orders(&gateway, "failed") >= 1.0);
}
