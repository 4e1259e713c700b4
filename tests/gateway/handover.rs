//! One process takes over from another: the sockets change hands, nobody is refused, and what is kept has one owner at any moment.

use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use serde_json::json;

use crate::harness::{Gateway, Recorder, Wire, World, delete, eventually, get, stepgate};

pub const YAML: &str = "server: {workers: 2}
deletion_guard: {operations: [{match: 'DELETE /account/**', limit: 1000/m}]}
routes:
  - {path: /open/**, upstream: api, auth: none}
  - {path: /x, upstream: api, auth: [main]}
  - {path: /account/**, upstream: api, auth: [main]}
";

/// A client that keeps its connection for as long as it is let, as HTTP/1.1 has it.
struct Client<'a> {
    gateway: &'a Gateway,
    wire: Option<Wire>,
    keeps: bool,
}

impl Client<'_> {
    fn ask(&mut self, token: &str) {
        if !self.keeps {
            self.wire = None;
        }
        let wire = self.wire.get_or_insert_with(|| self.gateway.connect());
        let answer = get("/x").header("Authorization", &format!("Bearer {token}")).send_on(wire).expect(200);
        if answer.all("connection") == ["close"] {
            self.wire = None;
        }
    }
}

/// Ends the clients when it is dropped.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn twenty_hand_overs_under_load_lose_no_request_and_the_audit_chain_verifies() {
    let world = World::new();
    let first = world.start(YAML);
    let token = world.token(json!({}));
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut all = std::thread::scope(|scope| {
        for client in 0..4 {
            let (gateway, token, done, served) = (&first, &token, &done, &served);
            scope.spawn(move || {
                let mut client = Client { gateway, wire: None, keeps: client % 2 == 0 };
                while !done.load(Ordering::Relaxed) {
                    client.ask(token);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also where something is not as it should be: the clients would go on for ever.
        let _done = Done(&done);
        let mut all: Vec<Gateway> = Vec::new();
        for turn in 0..20 {
            let next = all.last().unwrap_or(&first).succeed();
            delete(&format!("/account/{turn}")).bearer(&world.fresh(5)).send(&next).expect(200);
            // Those of before have their connections to end.
            all.push(next);
            // Something has to have been asked of each.
            let so_far = served.load(Ordering::Relaxed);
            eventually("requests", || (served.load(Ordering::Relaxed) > so_far + 20).then_some(()));
        }
        all
    });
    let mut serving = all.pop().unwrap();
    assert_eq!(serving.readiness().status, 200);
    for gateway in &mut all {
        assert_eq!(gateway.wait(), 0);
    }
    serving.signal("TERM");
    assert_eq!(serving.wait(), 0);
    let verified =
        stepgate(world.folder(), &["audit", "verify", "state/audit.jsonl", "--head", "state/audit.jsonl.head"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let allowed = serving.audit().iter().filter(|record| record.to_string().contains("\"intent\"")).count();
    assert!(allowed >= 20, "{allowed}");
}

#[test]
fn the_old_process_ends_once_its_connections_have_and_a_download_goes_on_meanwhile() {
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
    let mut first = world.start(YAML);
    let mut wire = first.connect();
    wire.send(get("/open/slow").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    let next = first.succeed();
    get("/open/x").send(&next).expect(200);
    assert!(first.runs(), "its download is not over");
    go.send(()).unwrap();
    assert_eq!(wire.read_exactly(8).unwrap(), b"halfhalf");
    assert_eq!(first.wait(), 0);
    get("/open/x").send(&next).expect(200);
    assert!(!first.stderr().contains("cut"));
}

#[test]
fn what_needs_the_records_is_refused_on_a_connection_of_before_and_everything_else_is_served_once_more() {
    let world = World::new();
    let first = world.start(YAML);
    let token = world.token(json!({}));
    let (mut guarded, mut plain) = (first.connect(), first.connect());
    for wire in [&mut guarded, &mut plain] {
        get("/x").bearer(&token).send_on(wire).expect(200);
    }
    let next = first.succeed();
    let refused = delete("/account/1").bearer(&world.fresh(5)).send_on(&mut guarded);
    refused.problem(503);
    assert_eq!((refused.header("connection"), refused.header("retry-after")), ("close", "1"));
    assert!(guarded.is_closed());
    let answer = get("/x").bearer(&token).send_on(&mut plain).expect(200);
    assert_eq!(answer.header("connection"), "close");
    delete("/account/1").bearer(&world.fresh(5)).send(&next).expect(200);
}

#[test]
fn what_is_revoked_at_the_new_process_is_refused_by_the_old_one_too() {
    let world = World::new();
    world.write("admin.token", "a token of the tests");
    let first = world.start(&format!("admin: {{address: 127.0.0.1:<admin>, token: {{file: admin.token}}}}\n{YAML}"));
    let token = world.token(json!({"sub": "mallory"}));
    let ask = |wire: &mut Wire| get("/x").bearer(&token).send_on(wire).status;
    let mut kept: Vec<_> = (0..200)
        .map(|_| {
            let mut wire = first.connect();
            assert_eq!(ask(&mut wire), 200);
            wire
        })
        .collect();
    let next = first.succeed();
    let revoked =
        stepgate(world.folder(), &["revoke", "--issuer", "main", "--subject", "mallory", "--config", "gateway.yaml"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    get("/x").bearer(&token).send(&next).problem(401);
    eventually("the old process to refuse it", || {
        let mut wire = kept.pop().expect("the old process never learnt of it");
        (ask(&mut wire) == 401).then_some(())
    });
}

#[test]
fn a_process_with_a_configuration_that_is_refused_changes_nothing() {
    let world = World::new();
    let mut first = world.start(YAML);
    let mut wire = first.connect();
    get("/open/x").send_on(&mut wire).expect(200);
    world.write("broken.yaml", "routes: [{path: /x, upstream: nobody}]\n");
    assert_eq!(stepgate(world.folder(), &["run", "--hand-over", "broken.yaml"]).code, 78);
    // One whose further address is taken by somebody else.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let further = format!(
        "listeners:\n  - {{address: 127.0.0.1:<port>, cleartext: true}}\n  - {{address: \"{}\", cleartext: true}}\n{YAML}",
        taken.local_addr().unwrap()
    );
    world.write("further.yaml", world.yaml(&further));
    let finished = stepgate(world.folder(), &["run", "--hand-over", "further.yaml"]);
    assert_eq!(finished.code, 69, "{finished:?}");
    let answer = get("/open/x").send_on(&mut wire).expect(200);
    assert!(!answer.has("connection"), "nothing was drained");
    delete("/account/1").bearer(&world.fresh(5)).send(&first).expect(200);
    assert!(first.runs());
    first.succeed();
}

const UNIX: &str = "listeners:
  - {address: 127.0.0.1:<port>, cleartext: true}
  - {address: 'unix:web.sock', unix_mode: '<mode>', cleartext: true}
";

fn over_unix(world: &World) -> String {
    let mut client = UnixStream::connect(world.folder().join("web.sock")).unwrap();
    client.write_all(b"GET /open/x HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn mode_of(world: &World) -> u32 {
    std::fs::metadata(world.folder().join("web.sock")).unwrap().permissions().mode() & 0o777
}

/// The file of a Unix socket is of who serves: a process that does not come to it leaves it alone, and one that does gives it its mode.
#[test]
fn the_file_of_a_unix_socket_stays_with_the_process_that_serves_on_it() {
    let world = World::new();
    let mut first = world.start(&format!("{}{YAML}", UNIX.replace("<mode>", "0660")));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let unix = UNIX.replace("<mode>", "0600");
    for refused in [
        format!("{unix}  - {{address: \"{address}\", cleartext: true}}\n{YAML}"),
        format!("{unix}admin: {{address: \"{address}\"}}\n{YAML}"),
    ] {
        world.write("refused.yaml", world.yaml(&refused));
        let finished = stepgate(world.folder(), &["run", "--hand-over", "refused.yaml"]);
        assert_eq!(finished.code, 69, "{finished:?}");
        assert!(over_unix(&world).starts_with("HTTP/1.1 200"));
        assert_eq!(mode_of(&world), 0o660);
        assert!(first.runs() && !first.stderr().contains("taken back"), "{}", first.stderr());
    }
    world.configure(&format!("{unix}{YAML}"));
    let mut next = first.succeed();
    assert_eq!(first.wait(), 0);
    assert!(over_unix(&world).starts_with("HTTP/1.1 200"));
    assert_eq!(mode_of(&world), 0o600, "what the process that serves says");
    // Somebody takes the file away: the next one makes another.
    std::fs::remove_file(world.folder().join("web.sock")).unwrap();
    let mut last = next.succeed();
    assert_eq!(next.wait(), 0);
    assert!(over_unix(&world).starts_with("HTTP/1.1 200"));
    last.signal("TERM");
    assert_eq!(last.wait(), 0);
    assert!(!world.folder().join("web.sock").exists());
}

/// Asks to take over, is offered the sockets, and gets nothing ready.
fn ask_and_say_no_more(world: &World) -> UnixStream {
    let mut stranger = UnixStream::connect(world.folder().join("state/hand-over.sock")).unwrap();
    let word = r#"{"ask":{"protocol":1,"version":"0","pid":1}}"#;
    let length = u32::try_from(word.len()).unwrap().to_be_bytes();
    stranger.write_all(&[&length[..], word.as_bytes()].concat()).unwrap();
    let mut head = [0; 4];
    stranger.read_exact(&mut head).unwrap();
    stranger
}

#[test]
fn while_another_process_gets_ready_this_one_heeds_its_watchdog_and_its_signals() {
    let world = World::new();
    world.configure(YAML);
    let path = world.folder().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let hear_of = |what: &str| {
        let mut buffer = [0; 4096];
        loop {
            let count = socket.recv(&mut buffer).expect("systemd waits in vain");
            if String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == what) {
                return;
            }
        }
    };
    let mut command = Command::new("env");
    command.arg(format!("NOTIFY_SOCKET={}", path.display())).arg("WATCHDOG_USEC=1000000");
    let mut gateway = Gateway::start_by(command, world.folder(), world.port, world.tls, world.admin).ready();
    let _stranger = ask_and_say_no_more(&world);
    // Those that were under way before.
    while socket.set_nonblocking(true).and_then(|()| socket.recv(&mut [0; 4096])).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    for _ in 0..3 {
        hear_of("WATCHDOG=1");
    }
    get("/open/x").send(&gateway).expect(200);
    gateway.signal("TERM");
    hear_of("STOPPING=1");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn where_nobody_runs_there_is_nothing_to_take_over() {
    let world = World::new();
    world.configure(YAML);
    let finished = stepgate(world.folder(), &["run", "--hand-over", "gateway.yaml"]);
    assert_eq!(finished.code, 69, "{finished:?}");
    assert!(finished.stderr.contains("no stepgate that runs"), "{finished:?}");
}

#[test]
fn a_unix_socket_and_a_changed_number_of_workers_change_hands_too() {
    let world = World::new();
    let listeners = "listeners:\n  - {address: 127.0.0.1:<port>, cleartext: true}\n  - {address: 'unix:web.sock', unix_mode: '0600', cleartext: true}\n";
    let mut serving =
        world.start(&format!("{listeners}server: {{workers: 3}}\n{}", YAML.replace("server: {workers: 2}\n", "")));
    let path = world.folder().join("web.sock");
    for workers in [1, 4, 2] {
        world.configure(&format!(
            "{listeners}server: {{workers: {workers}}}\n{}",
            YAML.replace("server: {workers: 2}\n", "")
        ));
        let next = serving.succeed();
        assert_eq!(serving.wait(), 0);
        serving = next;
        for _ in 0..20 {
            get("/open/x").send(&serving).expect(200);
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"GET /open/x HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    serving.signal("TERM");
    assert_eq!(serving.wait(), 0);
    assert!(!path.exists(), "the last one takes its file away");
}

#[test]
fn nobody_else_can_reach_the_place_where_it_is_asked() {
    let world = World::new();
    let _gateway = world.start(YAML);
    let mode =
        Command::new("stat").args(["-c", "%a"]).arg(world.folder().join("state/hand-over.sock")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&mode.stdout).trim(), "600");
}
