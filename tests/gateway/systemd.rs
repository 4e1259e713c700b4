//! What systemd does for it and hears from it: sockets that are open already, and the words of sd_notify(3).

use std::{os::unix::net::UnixDatagram, process::Command};

use crate::harness::{Gateway, World, get};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

/// A process that is nobody's child here: told to end, whatever else fails.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.to_string()]).status();
    }
}

/// Opens sockets as systemd does and becomes what is left of the arguments (sd_listen_fds(3)).
const ACTIVATE: &str = "
import os, socket, sys
port, command = int(sys.argv[1]), sys.argv[2:]
first = socket.socket(); first.bind(('127.0.0.1', port)); first.listen(64)
os.dup2(first.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='web')
os.execvp(command[0], command)
";

fn activated(world: &World) -> Gateway {
    let mut command = Command::new("python3");
    command.args(["-c", ACTIVATE]).arg(world.port.to_string());
    Gateway::start_by(command, world.folder(), world.port, world.tls, world.admin)
}

#[test]
fn a_socket_that_systemd_has_opened_is_served_by_all_workers_over_reloads_and_by_the_next_process() {
    let world = World::new();
    world.configure(&format!(
        "listeners:\n  - {{address: 'systemd:web', cleartext: true}}\nserver: {{workers: 3}}\n{OPEN}"
    ));
    let mut gateway = activated(&world).ready();
    for _ in 0..30 {
        get("/x").send(&gateway).expect(200);
    }
    gateway.signal("HUP");
    crate::harness::eventually("the reload", || {
        (gateway.metric("stepgate_config_reloads_total", &["result=\"ok\""]) >= 1.0).then_some(())
    });
    get("/x").send(&gateway).expect(200);
    let next = gateway.succeed();
    assert_eq!(gateway.wait(), 0);
    get("/x").send(&next).expect(200);
}

#[test]
fn a_name_that_systemd_does_not_know_is_an_error_at_start_that_says_so() {
    let world = World::new();
    world.configure(&format!("listeners:\n  - {{address: 'systemd:web', cleartext: true}}\n{OPEN}"));
    let finished = crate::harness::stepgate(world.folder(), &["run", "gateway.yaml"]);
    assert_eq!(finished.code, 69, "{finished:?}");
    assert!(finished.stderr.contains("systemd:web"), "{finished:?}");
}

#[test]
fn systemd_hears_of_readiness_reloads_life_and_the_end() {
    let world = World::new();
    world.configure(OPEN);
    let path = world.folder().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let hear = || {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).expect("systemd waits in vain");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let hear_of =
        |what: &str| std::iter::repeat_with(&hear).find(|said| said.lines().any(|line| line == what)).unwrap();
    let mut command = Command::new("env");
    command.arg(format!("NOTIFY_SOCKET={}", path.display())).arg("WATCHDOG_USEC=1000000");
    let mut gateway = Gateway::start_by(command, world.folder(), world.port, world.tls, world.admin);
    let ready = hear_of("READY=1");
    assert!(ready.contains(&format!("MAINPID={}", gateway.pid())) && ready.contains("STATUS=serving on 127.0.0.1"));
    hear_of("WATCHDOG=1");
    gateway.signal("HUP");
    assert!(hear_of("RELOADING=1").contains("MONOTONIC_USEC="));
    hear_of("READY=1");
    gateway.signal("TERM");
    hear_of("STOPPING=1");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn another_binary_takes_over_inside_the_unit_when_the_main_process_is_told_to() {
    let world = World::new();
    world.configure(&format!("server: {{workers: 2}}\n{OPEN}"));
    let path = world.folder().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let hear_of = |what: &str| loop {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).expect("systemd waits in vain");
        let said = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if said.lines().any(|line| line.starts_with(what)) {
            return said;
        }
    };
    // As systemd has it: the watchdog is for the process that it started, whose number it says.
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh", "env"]);
    command.arg(format!("NOTIFY_SOCKET={}", path.display())).arg("WATCHDOG_USEC=1000000");
    let mut first = Gateway::start_by(command, world.folder(), world.port, world.tls, world.admin);
    hear_of("READY=1");
    first.signal("USR2");
    let said = std::iter::repeat_with(|| hear_of("MAINPID="))
        .find(|said| !said.contains(&format!("MAINPID={}", first.pid())))
        .unwrap();
    let next = Orphan(said.lines().find_map(|line| line.strip_prefix("MAINPID=")).unwrap().parse().unwrap());
    assert_eq!(first.wait(), 0, "the one before drains and ends");
    get("/x").send(&first).expect(200);
    hear_of("WATCHDOG=1");
    drop(next);
    hear_of("STOPPING=1");
    crate::harness::eventually("the end of the second process", || {
        std::net::TcpStream::connect(("127.0.0.1", world.port)).is_err().then_some(())
    });
}
