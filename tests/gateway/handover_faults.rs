//! Hand-overs that come to nothing, or to something else than was meant: whoever asks and fails does so alone, and what was let go of is
//! taken back whole.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    process::Command,
    sync::{Mutex, mpsc},
};

use serde_json::json;

use crate::{
    handover::YAML,
    harness::{
        Gateway, PATIENCE, Recorder, Wire, World, delete, eventually, get, lease_port, stepgate,
        websocket::{Socket, bearer, service},
    },
};

/// What takes over, and does not: it says what the test says, and reads.
struct Stranger {
    line: UnixStream,
    heard: Vec<u8>,
}

impl Stranger {
    fn at(world: &World) -> Self {
        let line = UnixStream::connect(world.folder().join("state/hand-over.sock")).unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { line, heard: Vec::new() }
    }

    fn say(&mut self, word: &str) -> &mut Self {
        let length = u32::try_from(word.len()).unwrap().to_be_bytes();
        self.line.write_all(&[&length[..], word.as_bytes()].concat()).unwrap();
        self
    }

    fn ask(&mut self) -> &mut Self {
        self.say(r#"{"ask":{"protocol":1,"version":"0","pid":1}}"#).hear("offer")
    }

    fn ready(&mut self) -> &mut Self {
        self.say("\"ready\"").hear("released")
    }

    fn hear(&mut self, word: &str) -> &mut Self {
        let mut buffer = [0; 4096];
        while !self.heard.windows(word.len()).any(|bytes| bytes == word.as_bytes()) {
            let count = self.line.read(&mut buffer).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&self.heard));
            self.heard.extend_from_slice(&buffer[..count]);
        }
        self
    }

    fn hears_the_end(&mut self) -> bool {
        let mut rest = Vec::new();
        self.line.read_to_end(&mut rest).is_ok()
    }
}

/// What systemd would hear.
struct Systemd(UnixDatagram);

impl Systemd {
    /// Starts a gateway that is to say each half second that it lives.
    fn start(world: &World) -> (Self, Gateway) {
        let path = world.folder().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new("env");
        command.arg(format!("NOTIFY_SOCKET={}", path.display())).arg("WATCHDOG_USEC=1000000");
        let gateway = Gateway::start_by(command, world.folder(), world.port, world.tls, world.admin).ready();
        (Self(socket), gateway)
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let count = self.0.recv(&mut buffer).expect("systemd waits in vain");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    fn hear_of(&self, what: &str) {
        while !self.hear().lines().any(|line| line == what) {}
    }

    /// Forgets what it has heard so far.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }

    /// All that was said and has not been heard yet.
    fn rest(&self) -> String {
        self.0.set_nonblocking(true).unwrap();
        let mut all = String::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = self.0.recv(&mut buffer) {
            all.push_str(&String::from_utf8_lossy(&buffer[..count]));
            all.push('\n');
        }
        all
    }
}

#[test]
fn a_visitor_that_falls_silent_keeps_nobody_from_anything() {
    // Before it has asked, once it was offered the sockets, and once all was let go of: the last holds up reloads alone.
    for silent_at in 0..3 {
        let world = World::new();
        world.configure(YAML);
        let (systemd, mut gateway) = Systemd::start(&world);
        let mut stranger = Stranger::at(&world);
        if silent_at > 0 {
            stranger.ask();
        }
        if silent_at > 1 {
            stranger.ready();
        } else {
            get("/open/x").send(&gateway).expect(200);
        }
        systemd.forget();
        for _ in 0..3 {
            systemd.hear_of("WATCHDOG=1");
        }
        if silent_at < 2 {
            gateway.signal("HUP");
            systemd.hear_of("RELOADING=1");
            systemd.hear_of("READY=1");
        }
        gateway.signal("TERM");
        assert_eq!(gateway.wait(), 0, "{silent_at}");
        assert!(stranger.hears_the_end());
        let verified = stepgate(world.folder(), &["audit", "verify", "state/audit.jsonl"]);
        assert_eq!(verified.code, 0, "{verified:?}");
    }
}

#[test]
fn the_next_one_takes_over_although_another_visitor_says_nothing() {
    let world = World::new();
    let mut first = world.start(YAML);
    let _silent = Stranger::at(&world);
    let next = first.succeed();
    assert_eq!(first.wait(), 0);
    get("/open/x").send(&next).expect(200);
}

#[test]
fn a_process_that_dies_after_all_was_let_go_of_has_it_taken_back() {
    let world = World::new();
    let mut first = world.start(YAML);
    Stranger::at(&world).ask().ready();
    get("/open/x").send(&first).expect(200);
    delete("/account/1").bearer(&world.fresh(5)).send(&first).expect(200);
    assert!(first.stderr().contains("taken back"), "{}", first.stderr());
    let mut next = first.succeed();
    get("/open/x").send(&next).expect(200);
    assert_eq!(first.wait(), 0);
    next.signal("TERM");
    assert_eq!(next.wait(), 0);
    let verified = stepgate(world.folder(), &["audit", "verify", "state/audit.jsonl"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn what_was_taken_back_is_revoked_on_connections_of_before_too_and_their_downloads_end_with_the_process() {
    let (go, come) = mpsc::channel::<()>();
    let come = Mutex::new(come);
    let world = World::with(Recorder::with(move |request, stream| {
        if request.target() == "/open/slow" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
            come.lock().unwrap().recv().unwrap();
            return stream.write_all(b"half").is_ok();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    }));
    world.write("admin.token", "a token of the tests");
    let mut gateway =
        world.start(&format!("admin: {{address: 127.0.0.1:<admin>, token: {{file: admin.token}}}}\n{YAML}"));
    let mut download = gateway.connect();
    download.send(get("/open/slow").bytes());
    assert_eq!(download.head().unwrap().0, 200);
    let token = world.token(json!({"sub": "mallory"}));
    let ask = |wire: &mut Wire| get("/x").bearer(&token).send_on(wire).status;
    let mut kept: Vec<_> = (0..200)
        .map(|_| {
            let mut wire = gateway.connect();
            assert_eq!(ask(&mut wire), 200);
            wire
        })
        .collect();
    Stranger::at(&world).ask().ready();
    get("/x").bearer(&token).send(&gateway).expect(200);
    let revoked =
        stepgate(world.folder(), &["revoke", "--issuer", "main", "--subject", "mallory", "--config", "gateway.yaml"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    get("/x").bearer(&token).send(&gateway).problem(401);
    eventually("the connections of before to be refused it", || {
        let mut wire = kept.pop().expect("they never learnt of it");
        (ask(&mut wire) == 401).then_some(())
    });
    drop(kept);
    gateway.signal("TERM");
    eventually("the drain", || gateway.stderr().contains("draining").then_some(()));
    go.send(()).unwrap();
    assert_eq!(download.read_exactly(8).unwrap(), b"halfhalf");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn where_nothing_can_be_taken_back_what_is_under_way_still_ends_whole() {
    let (go, come) = mpsc::channel::<()>();
    let come = Mutex::new(come);
    let world = World::with(Recorder::with(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
        come.lock().unwrap().recv().unwrap();
        stream.write_all(b"half").is_ok()
    }));
    let mut gateway = world.start(YAML);
    let mut wire = gateway.connect();
    wire.send(get("/open/slow").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    let mut stranger = Stranger::at(&world);
    stranger.ask().ready();
    // What it leaves behind cannot be read.
    world.write("state/revocations.jsonl", "what is this?\n".repeat(100));
    drop(stranger);
    eventually("it to be told", || gateway.stderr().contains("nothing could be taken back").then_some(()));
    eventually("the drain", || gateway.stderr().contains("draining").then_some(()));
    go.send(()).unwrap();
    assert_eq!(wire.read_exactly(8).unwrap(), b"halfhalf");
    assert_eq!(gateway.wait(), 74);
}

#[test]
fn a_stop_is_heard_and_the_watchdog_told_while_nothing_can_be_taken_back_yet() {
    let world = World::new();
    world.configure(YAML);
    let (systemd, mut gateway) = Systemd::start(&world);
    let mut stranger = Stranger::at(&world);
    stranger.ask().ready();
    // It has the folder, and speaks no more.
    let lock = std::fs::File::open(world.folder().join("state/stepgate.lock")).unwrap();
    lock.lock().unwrap();
    drop(stranger);
    eventually("it to be told", || gateway.stderr().contains("all is taken back").then_some(()));
    systemd.forget();
    for _ in 0..3 {
        systemd.hear_of("WATCHDOG=1");
    }
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    assert!(!gateway.stderr().contains("taken back: this process serves on"));
}

#[test]
fn a_process_that_takes_no_socket_is_not_taken_for_a_stop() {
    let world = World::with(service());
    world.write("admin.token", "a token of the tests");
    let yaml = |port: u16, admin: u16| {
        format!(
            "listeners: [{{address: '127.0.0.1:{port}', cleartext: true}}]
admin: {{address: '127.0.0.1:{admin}', token: {{file: admin.token}}}}
server: {{workers: 1}}
routes:
  - {{path: /chat, upstream: api, auth: [main], upgrade: [websocket]}}
"
        )
    };
    world.configure(&yaml(world.port, world.admin));
    let (systemd, mut first) = Systemd::start(&world);
    let token = world.token(json!({"sub": "mallory"}));
    let mut chat = Socket::open(first.connect(), "/chat", &bearer(&token));
    chat.talk("before");
    let (port, admin) = (lease_port(), lease_port());
    world.configure(&yaml(port, admin));
    systemd.forget();
    let next = first.succeed();
    chat.talk("and after");
    assert_eq!(get("/readyz").send_to(admin).status, 200);
    let revoked =
        stepgate(world.folder(), &["revoke", "--issuer", "main", "--subject", "mallory", "--config", "gateway.yaml"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    assert_eq!(chat.closed(), (1008, "credential revoked".to_owned()));
    assert_eq!(first.wait(), 0);
    assert!(!systemd.rest().contains("STOPPING=1"), "systemd would end its unit");
    drop(next);
}
