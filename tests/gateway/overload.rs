//! More than it can do: what has its place is answered, the rest is refused at once, and nobody takes all places.

use std::sync::{Arc, Condvar, Mutex};

use crate::harness::{Gateway, Recorder, Wire, World, eventually, get};

/// A gate that requests wait at: what a slow service is.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn wait(&self) {
        let (open, opened) = &*self.0;
        let _open = opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap();
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// An upstream that holds what is asked of `/slow` until the gate opens.
fn gated() -> (Recorder, Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Recorder::with(move |request, stream| {
        use std::io::Write;
        if request.target().contains("slow") {
            held.wait();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    (upstream, gate)
}

/// Sends requests until so many are held upstream and one more is refused; the connections that wait.
fn fill(gateway: &Gateway, upstream: &Recorder, source: &str, target: &str, places: usize) -> Vec<Wire> {
    let before = upstream.count();
    let mut held = Vec::new();
    for place in 1..=places {
        let mut wire = Wire::connect_from(source.parse().unwrap(), gateway.port);
        wire.send(get(target).bytes());
        upstream.wait_for(before + place);
        held.push(wire);
    }
    let refused = get(target).from(source).send(gateway);
    assert_eq!(refused.problem(503), "temporarily-unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    held
}

#[test]
fn one_client_takes_half_of_the_places_and_others_are_served() {
    let (upstream, gate) = gated();
    let world = World::with(upstream);
    let gateway = world
        .start("server: {workers: 2, overload: {requests: 16}}\nroutes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut first = fill(&gateway, &world.upstream, "127.0.0.1", "/slow", 8);
    get("/x").from("127.0.0.2").send(&gateway).expect(200);
    let mut second = fill(&gateway, &world.upstream, "127.0.0.2", "/slow", 4);
    get("/x").from("127.0.0.3").send(&gateway).expect(200);
    assert_eq!(gateway.metric("stepgate_requests_in_flight", &[]), 12.0);
    assert_eq!(gateway.metric("stepgate_overload_refused_total", &["why=\"client\"", "priority=\"normal\""]), 2.0);
    assert_eq!(gateway.metric("stepgate_decisions_total", &["reason=\"overloaded\""]), 2.0);
    gate.open();
    for wire in first.iter_mut().chain(&mut second) {
        wire.answer().expect(200);
    }
    eventually("the places to be free", || (gateway.metric("stepgate_requests_in_flight", &[]) == 0.0).then_some(()));
    get("/slow").send(&gateway).expect(200);
}

#[test]
fn what_is_asked_of_the_gateway_itself_needs_a_place_too() {
    let (upstream, gate) = gated();
    let world = World::with(upstream);
    let gateway =
        world.start("server: {workers: 1, overload: {requests: 16}}\nroutes: [{path: /**, upstream: api, auth: [main]}, {path: /slow, upstream: api, auth: none}]\n");
    let metadata = "/.well-known/oauth-protected-resource";
    get(metadata).send(&gateway).expect(200);
    let mut held = fill(&gateway, &world.upstream, "127.0.0.1", "/slow", 8);
    get(metadata).send(&gateway).problem(503);
    get(metadata).from("127.0.0.2").send(&gateway).expect(200);
    assert_eq!(gateway.metric("stepgate_requests_in_flight", &[]), 8.0, "what was answered has given its place back");
    gate.open();
    held.iter_mut().for_each(|wire| drop(wire.answer().expect(200)));
    get(metadata).send(&gateway).expect(200);
}

#[test]
fn one_route_or_upstream_leaves_places_to_the_others() {
    let (upstream, gate) = gated();
    let world = World::with(upstream);
    let gateway = world.start(
        "server: {workers: 1, overload: {requests: 20}}
upstreams:
  api: {targets: [http://127.0.0.1:<upstream>]}
  other: {targets: [http://127.0.0.1:<upstream>]}
routes:
  - {path: /a/**, upstream: api, auth: none, priority: critical}
  - {path: /b/**, upstream: other, auth: none}
",
    );
    let mut held = Vec::new();
    let mut source = 0;
    // Each from a client of its own, so that it is the route whose share is full.
    let refused = loop {
        source += 1;
        let mut wire = Wire::connect_from(format!("127.0.1.{source}").parse().unwrap(), gateway.port);
        wire.send(get("/a/slow").bytes());
        let came = eventually("either", || {
            let refused = gateway.metric("stepgate_overload_refused_total", &[]) > 0.0;
            (refused || world.upstream.count() > held.len()).then_some(!refused)
        });
        if !came {
            break wire;
        }
        held.push(wire);
    };
    assert_eq!(held.len(), 16, "four fifths of twenty");
    drop(refused);
    assert_eq!(gateway.metric("stepgate_overload_refused_total", &["why=\"route\""]), 1.0);
    get("/b/x").from("127.0.2.1").send(&gateway).expect(200);
    gate.open();
    held.iter_mut().for_each(|wire| drop(wire.answer().expect(200)));
}

/// Many routes of one service: none of them has too much, and the service has.
#[test]
fn an_upstream_leaves_places_to_the_others_however_many_routes_it_has() {
    let (upstream, gate) = gated();
    let world = World::with(upstream);
    let routes: String =
        (0..20).map(|n| format!("  - {{path: /a{n}/**, upstream: api, auth: none, priority: critical}}\n")).collect();
    let gateway = world.start(&format!(
        "server: {{workers: 2, overload: {{requests: 20}}}}
upstreams:
  api: {{targets: [http://127.0.0.1:<upstream>]}}
  other: {{targets: [http://127.0.0.1:<upstream>]}}
routes:
{routes}  - {{path: /b/**, upstream: other, auth: none}}
"
    ));
    let mut held = Vec::new();
    for n in 0..16 {
        let mut wire = Wire::connect_from(format!("127.0.1.{}", n + 1).parse().unwrap(), gateway.port);
        wire.send(get(&format!("/a{n}/slow")).bytes());
        world.upstream.wait_for(n + 1);
        held.push(wire);
    }
    let refused = get("/a17/x").from("127.0.2.1").send(&gateway);
    assert_eq!(refused.problem(503), "temporarily-unavailable");
    assert_eq!(gateway.metric("stepgate_overload_refused_total", &["why=\"upstream\""]), 1.0);
    get("/b/x").from("127.0.2.1").send(&gateway).expect(200);
    gate.open();
    held.iter_mut().for_each(|wire| drop(wire.answer().expect(200)));
    get("/a17/x").from("127.0.2.1").send(&gateway).expect(200);
}

#[test]
fn what_is_low_finds_no_place_where_what_is_critical_still_does() {
    let (upstream, gate) = gated();
    let world = World::with(upstream);
    let gateway = world.start(
        "server: {workers: 1, overload: {requests: 16}}
routes:
  - {path: /low/**, upstream: api, auth: none, priority: low}
  - {path: /critical/**, upstream: api, auth: none, priority: critical}
",
    );
    let mut held = Vec::new();
    for place in 0..12 {
        let mut wire = Wire::connect_from(format!("127.0.1.{}", place + 1).parse().unwrap(), gateway.port);
        wire.send(get("/critical/slow").bytes());
        world.upstream.wait_for(place + 1);
        held.push(wire);
    }
    get("/low/x").from("127.0.2.1").send(&gateway).problem(503);
    get("/critical/x").from("127.0.2.1").send(&gateway).expect(200);
    assert_eq!(gateway.metric("stepgate_overload_refused_total", &["why=\"requests\"", "priority=\"low\""]), 1.0);
    gate.open();
    held.iter_mut().for_each(|wire| drop(wire.answer().expect(200)));
    get("/low/x").send(&gateway).expect(200);
}

#[test]
fn a_refusal_comes_before_any_credential_is_looked_at() {
    let (upstream, gate) = gated();
    let world = World::with(upstream);
    let gateway = world.start(
        "server: {workers: 1, overload: {requests: 16}}
routes:
  - {path: /open/**, upstream: api, auth: none}
  - {path: /x, upstream: api, auth: [main]}
",
    );
    let mut held = fill(&gateway, &world.upstream, "127.0.0.1", "/open/slow", 8);
    let before = gateway.metric("stepgate_token_verifications_total", &[]);
    get("/x").bearer(&world.token(serde_json::json!({}))).send(&gateway).problem(503);
    assert_eq!(gateway.metric("stepgate_token_verifications_total", &[]), before);
    gate.open();
    held.iter_mut().for_each(|wire| drop(wire.answer().expect(200)));
}

#[test]
fn a_worker_whose_queue_does_not_drain_refuses_the_low_first_and_serves_all_again_afterwards() {
    let world = World::new();
    // Of much less a timer alone is late, which is exact to a millisecond or two.
    let gateway = world.start(
        "server: {workers: 1, overload: {queue_target: 5ms}}
routes:
  - {path: /low, upstream: api, auth: none, priority: low}
  - {path: /critical, upstream: api, auth: none, priority: critical}
",
    );
    let level = || gateway.metric("stepgate_overload_level", &[]);
    let (low, critical) = (get("/low").bytes(), get("/critical").bytes());
    // Pipelined requests of many connections are a queue that does not drain.
    let mut wires: Vec<_> = (0..64).map(|_| gateway.connect()).collect();
    let flood: Vec<u8> = low.repeat(50);
    let done = &std::sync::atomic::AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        for wire in &mut wires {
            let flood = &flood;
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    wire.send(flood);
                    for _ in 0..50 {
                        if wire.try_answer(false).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        let refused = eventually("pressure", || {
            let refused = gateway.metric("stepgate_overload_refused_total", &["why=\"queue\"", "priority=\"low\""]);
            (refused > 0.0).then_some(refused)
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        refused
    });
    assert!(refused > 0.0);
    eventually("the pressure to pass", || {
        let mut wire = gateway.connect();
        wire.send(&critical);
        wire.answer();
        (level() == 0.0).then_some(())
    });
    get("/low").send(&gateway).expect(200);
    assert!(gateway.stderr().contains("requests wait too long for their turn"), "{}", gateway.stderr());
}
