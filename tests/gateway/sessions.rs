//! TLS sessions that are resumed, as openssl sees it; and secrets that lie open.

use std::{path::Path, process::Command, time::Duration};

use crate::harness::{Authority, Gateway, World, eventually, let_pass, run, unix_now};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

fn start(world: &World, workers: u8, more: &str) -> Gateway {
    world.start(&format!(
        "server: {{workers: {workers}}}\nlisteners:\n  - address: 127.0.0.1:<tls>\n    tls:\n      certificates: [{{cert: one.pem, key: one.key}}]\n{more}{OPEN}"
    ))
}

/// A handshake by openssl: whether it was resumed; `None`: it failed. A request goes with it, since tickets of TLS 1.3 come after the handshake.
fn handshake(world: &World, version: &str, arguments: &[&str]) -> Option<bool> {
    let mut command = Command::new("openssl");
    let to = format!("127.0.0.1:{}", world.tls);
    command.args(["s_client", "-connect", &to, "-servername", "one.example", "-ign_eof", version]).args(arguments);
    let request = "GET /x HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n";
    let finished = run(command.current_dir(world.folder()), request);
    let answered = finished.stdout.contains("HTTP/1.1 200");
    answered.then(|| finished.stdout.lines().any(|line| line.starts_with("Reused, ")))
}

#[test]
fn openssl_resumes_sessions_across_workers_and_certificate_changes() {
    let world = World::new();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["one.example"]);
    let gateway = start(&world, 2, "");
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(handshake(&world, version, &["-sess_out", "session"]), Some(false));
        // Whichever worker it comes to.
        for _ in 0..6 {
            assert_eq!(handshake(&world, version, &["-sess_in", "session"]), Some(true), "{version}");
        }
    }
    authority.server(world.folder(), "one", &["one.example", "more.example"]);
    eventually("the new certificate", || gateway.stderr().contains("certificates reloaded").then_some(()));
    assert_eq!(handshake(&world, "-tls1_3", &["-sess_in", "session"]), Some(true));
}

#[test]
fn without_tickets_every_handshake_is_whole() {
    let world = World::new();
    Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    let _gateway = start(&world, 1, "      session_tickets: false\n");
    for version in ["-tls1_2", "-tls1_3"] {
        let _ = std::fs::remove_file(world.folder().join("session"));
        assert_eq!(handshake(&world, version, &["-sess_out", "session"]), Some(false));
        if world.folder().join("session").exists() {
            assert_eq!(handshake(&world, version, &["-sess_in", "session"]), Some(false), "{version}");
        }
    }
}

#[test]
fn a_client_whose_certificate_has_ended_does_not_resume() {
    let world = World::new();
    Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    let clients = Authority::new("clients");
    world.write("clients.pem", &clients.pem);
    let (cert, key) = clients.client_leaf(7, unix_now() + 6, |_| {});
    world.write("client.pem", cert);
    world.write("client.key", key);
    let _gateway = start(&world, 1, "      client_ca: clients.pem\n      client_auth: required\n");
    let shown = ["-cert", "client.pem", "-key", "client.key"];
    assert_eq!(handshake(&world, "-tls1_3", &[&shown[..], &["-sess_out", "session"]].concat()), Some(false));
    assert_eq!(handshake(&world, "-tls1_3", &[&shown[..], &["-sess_in", "session"]].concat()), Some(true));
    // Its end is what is waited for.
    let_pass(Duration::from_secs(8));
    assert_eq!(handshake(&world, "-tls1_3", &[&shown[..], &["-sess_in", "session"]].concat()), None);
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_that_everybody_can_read_is_told_by_check() {
    let world = World::new();
    Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    let says = format!(
        "listeners:\n  - address: 127.0.0.1:<tls>\n    tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}\n{OPEN}"
    );
    let key = world.folder().join("one.key");
    for (mode, told) in [(0o644, true), (0o600, false)] {
        chmod(&key, mode);
        let finished = world.check(&says);
        assert_eq!(finished.code, 0, "{finished:?}");
        let all = finished.stdout + &finished.stderr;
        assert_eq!(all.contains("one.key holds a secret, and everybody on this machine can read it"), told, "{all}");
    }
}

/// The parts of testssl.sh that take seconds: versions, kinds of suites, forward secrecy, and what was ever wrong with handshakes.
#[test]
fn testssl_finds_nothing_wrong() {
    let world = World::new();
    Authority::new("servers").server(world.folder(), "one", &["one.example"]);
    let _gateway = start(&world, 1, "");
    let mut command = Command::new("testssl");
    let asked = [
        "--protocols",
        "--std",
        "--pfs",
        "--heartbleed",
        "--ccs-injection",
        "--ticketbleed",
        "--robot",
        "--renegotiation",
    ];
    command.args(["--quiet", "--warnings", "off", "--color", "0"]).args(asked).args([
        "--crime",
        "--jsonfile",
        "found.json",
    ]);
    let finished = run(command.arg(format!("127.0.0.1:{}", world.tls)).current_dir(world.folder()), "");
    let text = std::fs::read_to_string(world.folder().join("found.json")).unwrap_or_else(|_| panic!("{finished:?}"));
    let found: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let of = |id: &str| found.iter().any(|finding| finding["id"] == id && finding["severity"] == "OK");
    assert!(of("TLS1_3") && of("heartbleed") && of("ROBOT"), "{text}");
    let wrong = |finding: &&serde_json::Value| {
        ["LOW", "MEDIUM", "HIGH", "CRITICAL"].iter().any(|severity| finding["severity"] == *severity)
    };
    let wrong: Vec<_> = found.iter().filter(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
