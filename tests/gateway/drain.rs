//! How it ends: readiness turns first, answers say that they are the last, and who is told twice hurries.

use std::io::Write;

use crate::harness::{
    Recorder, World, eventually, get,
    h2::{self, H2},
};

const OPEN: &str = "routes:\n  - {path: /**, upstream: api, auth: none}\n";

/// An upstream that never answers.
fn silent() -> Recorder {
    Recorder::with(|_, _| {
        std::thread::park();
        false
    })
}

#[test]
fn readiness_turns_before_accepting_ends_and_every_answer_until_then_is_its_connections_last() {
    let world = World::new();
    let mut gateway = world.start(&format!("server: {{workers: 1, drain_delay: 1h}}\n{OPEN}"));
    let mut before = gateway.connect();
    let answer = get("/x").send_on(&mut before).expect(200);
    assert!(!answer.has("connection"));
    gateway.signal("TERM");
    eventually("not to be ready", || (gateway.readiness().status == 503).then_some(()));
    let mut after = eventually("an answer that is the last", || {
        let mut wire = gateway.connect();
        let answer = get("/x").send_on(&mut wire).expect(200);
        (answer.all("connection") == ["close"]).then_some(wire)
    });
    assert!(after.is_closed());
    let answer = get("/x").send_on(&mut before).expect(200);
    assert_eq!(answer.header("connection"), "close", "a connection of before");
    assert!(before.is_closed());
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0, "told again, it does not wait any longer");
}

#[test]
fn a_second_signal_cuts_what_is_left() {
    let world = World::with(silent());
    let mut gateway = world.start(&format!("server: {{workers: 2, drain_timeout: 1h}}\n{OPEN}"));
    let mut busy = gateway.connect();
    busy.send(get("/x").bytes());
    world.upstream.wait_for(1);
    gateway.signal("TERM");
    eventually("the drain", || gateway.stderr().contains("draining").then_some(()));
    assert!(gateway.runs());
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    assert!(busy.is_closed());
    let record = gateway.access(|record| record["path"] == "/x");
    assert_eq!((&record["status"], &record["reason"]), (&499.into(), &"drained".into()), "{record}");
}

#[test]
fn an_answer_that_is_cut_by_the_drain_is_not_told_as_its_clients_doing() {
    let world = World::with(Recorder::with(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
        std::thread::park();
        false
    }));
    let mut gateway = world.start(&format!("server: {{workers: 1, drain_timeout: 100ms}}\n{OPEN}"));
    let mut wire = gateway.connect();
    wire.send(get("/one").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    let mut h2 = H2::over(gateway.connect());
    let mut fields = h2::get("/two");
    fields[1] = (":scheme", "http");
    assert_eq!(h2.request(1, &fields).status(1), h2::Ending::Status(200));
    // One that leaves by itself.
    let mut gone = gateway.connect();
    gone.send(get("/three").bytes());
    assert_eq!(gone.head().unwrap().0, 200);
    drop(gone);
    gateway.access(|record| record["path"] == "/three");
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    for (path, reason) in [("/one", "drained"), ("/two", "drained"), ("/three", "client_gone")] {
        let record = gateway.access(|record| record["path"] == path);
        assert_eq!((&record["status"], &record["reason"]), (&200.into(), &reason.into()), "{record}");
    }
}

#[test]
fn a_download_goes_on_through_the_drain_and_ends_whole() {
    let (go, come) = std::sync::mpsc::channel::<()>();
    let come = std::sync::Mutex::new(come);
    let world = World::with(Recorder::with(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
        come.lock().unwrap().recv().unwrap();
        stream.write_all(b"half").is_ok()
    }));
    let mut gateway = world.start(OPEN);
    let mut wire = gateway.connect();
    wire.send(get("/x").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    gateway.signal("TERM");
    eventually("the drain", || gateway.stderr().contains("draining").then_some(()));
    go.send(()).unwrap();
    assert_eq!(wire.read_exactly(8).unwrap(), b"halfhalf");
    assert_eq!(gateway.wait(), 0);
}
