//! Several targets, with nginx as each of them: killed, restarted, unwell; who gets what, who waits, and what is never sent twice.

use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
};

use crate::harness::{Recorder, World, eventually, get, lease_port, post, tools::Nginx};

/// A policy with an upstream of these targets and keys.
fn policy(targets: &[u16], keys: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    format!(
        "upstreams:\n  api:\n    targets: [{}]\n{keys}routes:\n  - {{path: /**, upstream: api, auth: none, methods: [GET, POST]}}\n",
        targets.join(", ")
    )
}

/// How often each target of a request stands in the logs of what it could have reached.
fn arrivals(logs: &[String], method: &str) -> HashMap<String, usize> {
    let mut arrivals = HashMap::new();
    for line in logs.iter().flat_map(|log| log.lines()) {
        let mut words = line.split(' ');
        if words.next() == Some(method) {
            *arrivals.entry(words.next().unwrap().to_owned()).or_default() += 1;
        }
    }
    arrivals
}

#[test]
fn no_get_is_lost_and_no_post_is_sent_twice_while_a_target_is_killed_again_and_again() {
    let steady = Nginx::start();
    let port = lease_port();
    let keys = "    retries: {attempts: 3, on: [connect, reset], budget: 100%}\n    ejection: {failures: 3, base: 50ms, max: 200ms, panic: 0%}\n";
    let world = World::new();
    let gateway = world.start(&policy(&[steady.port, port], keys));
    let (stop, done, numbers) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (lost, logs) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (gateway, stop, done, numbers, lost) = (&gateway, &stop, &done, &numbers, &lost);
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    let number = numbers.fetch_add(1, SeqCst);
                    // A POST may fail; it may not arrive twice.
                    if client == 0 {
                        let _ = post(&format!("/post/{number}"), "once").send(gateway);
                    } else {
                        let answer = get(&format!("/get/{number}")).send(gateway);
                        if answer.status != 200 {
                            lost.lock().unwrap().push((number, answer.status, answer.text()));
                        }
                    }
                    done.fetch_add(1, SeqCst);
                }
            });
        }
        for _ in 0..8 {
            let shaky = Nginx::start_on(port);
            eventually("requests at the target that came back", || (shaky.log().lines().count() > 20).then_some(()));
            logs.lock().unwrap().push(shaky.log());
            drop(shaky);
            let before = done.load(SeqCst);
            eventually("requests while it is gone", || (done.load(SeqCst) > before + 20).then_some(()));
        }
        stop.store(true, SeqCst);
    });
    assert!(lost.lock().unwrap().is_empty(), "{lost:?}");
    let mut logs = logs.into_inner().unwrap();
    logs.push(steady.log());
    let posts = arrivals(&logs, "POST");
    assert!(posts.len() > 10 && posts.values().all(|count| *count == 1), "{posts:?}");
    assert!(gateway.metric("stepgate_upstream_ejections_total", &["upstream=\"api\""]) > 0.0);
}

#[test]
fn a_target_that_says_that_it_is_unwell_gets_nothing_until_it_is_well_again() {
    let (one, other) = (Nginx::start(), Nginx::start());
    one.file("healthz", b"ok");
    other.file("healthz", b"ok");
    let keys = "    health: {path: /files/healthz, interval: 100ms, timeout: 100ms, healthy: 1, unhealthy: 2}\n";
    let world = World::new();
    let gateway = world.start(&policy(&[one.port, other.port], keys));
    let label = format!("target=\"127.0.0.1:{}\"", one.port);
    let healthy = || gateway.metric("stepgate_upstream_target_healthy", &[&label]);
    let asked = |nginx: &Nginx| nginx.log().lines().filter(|line| line.starts_with("GET /asked ")).count();
    for _ in 0..10 {
        get("/asked").send(&gateway).expect(200);
    }
    assert!(asked(&one) > 0 && asked(&other) > 0);

    one.remove("healthz");
    eventually("the health check to fail", || (healthy() == 0.0).then_some(()));
    let before = asked(&one);
    for _ in 0..20 {
        get("/asked").send(&gateway).expect(200);
    }
    assert_eq!(asked(&one), before);

    one.file("healthz", b"ok");
    eventually("the health check to succeed", || (healthy() == 1.0).then_some(()));
    for _ in 0..20 {
        get("/asked").send(&gateway).expect(200);
    }
    assert!(asked(&one) > before);
}

#[test]
fn a_tenant_stays_at_its_target_and_weights_are_kept() {
    let (one, other) = (Nginx::start(), Nginx::start());
    let world = World::new();
    let gateway = world.start(&policy(&[one.port, other.port], "    balance: {hash: 'header:x-tenant'}\n"));
    for tenant in 0..16 {
        for _ in 0..3 {
            get(&format!("/{tenant}")).header("X-Tenant", &format!("tenant-{tenant}")).send(&gateway).expect(200);
        }
    }
    let (at_one, at_other) = (arrivals(&[one.log()], "GET"), arrivals(&[other.log()], "GET"));
    assert!(at_one.values().chain(at_other.values()).all(|count| *count == 3), "{at_one:?} {at_other:?}");
    assert!(!at_one.is_empty() && !at_other.is_empty() && at_one.len() + at_other.len() == 16);

    let weighted = format!(
        "upstreams:\n  api:\n    targets: [{{url: 'http://127.0.0.1:{}', weight: 3}}, 'http://127.0.0.1:{}']\nroutes:\n  - {{path: /**, upstream: api, auth: none, methods: [GET]}}\n",
        one.port, other.port
    );
    let before = [one.log().lines().count(), other.log().lines().count()];
    let world = World::new();
    let gateway = world.start(&weighted);
    // On one connection, and so by one worker: turns are each worker's own.
    let mut wire = gateway.connect();
    for _ in 0..40 {
        get("/weighed").send_on(&mut wire).expect(200);
    }
    let after = [one.log().lines().count() - before[0], other.log().lines().count() - before[1]];
    assert_eq!(after, [30, 10]);
}

#[test]
fn a_session_and_a_subject_stay_at_their_target_on_every_worker_and_after_a_restart() {
    let (one, other) = (Nginx::start(), Nginx::start());
    let world = World::new();
    let config = |balance: &str, auth: &str| {
        format!(
            "server: {{workers: 2}}\n{}",
            policy(&[one.port, other.port], &format!("    balance: {{hash: {balance}}}\n")).replace("auth: none", auth)
        )
    };
    for (what, yaml) in
        [("cookie", config("\"cookie:sid\"", "auth: none")), ("subject", config("subject", "auth: [main]"))]
    {
        for _ in 0..2 {
            // Each on a connection of its own, and so by either worker.
            let gateway = world.start(&yaml);
            for who in 0..16 {
                for _ in 0..3 {
                    let request = get(&format!("/{what}/{who}"));
                    let request = match what {
                        "cookie" => request.header("Cookie", &format!("theme=dark; sid=session-{who}")),
                        _ => request.bearer(&world.token(serde_json::json!({"sub": format!("user-{who}")}))),
                    };
                    request.send(&gateway).expect(200);
                }
            }
        }
        let of = |nginx: &Nginx| {
            let mut arrivals = arrivals(&[nginx.log()], "GET");
            arrivals.retain(|target, _| target.starts_with(&format!("/{what}/")));
            arrivals
        };
        let (at_one, at_other) = (of(&one), of(&other));
        assert!(at_one.values().chain(at_other.values()).all(|count| *count == 6), "{at_one:?} {at_other:?}");
        assert!(!at_one.is_empty() && !at_other.is_empty() && at_one.len() + at_other.len() == 16);
    }
}

#[test]
fn requests_beyond_the_bound_are_told_to_come_back() {
    let (arrived, arrivals) = mpsc::channel();
    let (leave, leaves) = mpsc::channel::<()>();
    let (arrived, leaves) = (Mutex::new(arrived), Mutex::new(leaves));
    let upstream = Recorder::with(move |_, stream| {
        arrived.lock().unwrap().send(()).unwrap();
        leaves.lock().unwrap().recv().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let world = World::with(upstream);
    let gateway = world.start(
        "upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], concurrency: {requests: 1, queue: 1}}\nroutes:\n  - {path: /**, upstream: api, auth: none, methods: [GET]}\n",
    );
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get("/first").send(&gateway).status);
        arrivals.recv().unwrap();
        let second = scope.spawn(|| get("/second").send(&gateway).status);
        let waiting = || gateway.metric("stepgate_upstream_requests_waiting", &["upstream=\"api\""]);
        eventually("the second request to wait", || (waiting() == 1.0).then_some(()));
        let third = get("/third").send(&gateway);
        assert_eq!(third.problem(503), "temporarily-unavailable");
        assert_eq!(third.header("retry-after"), "1");
        gateway.access(|record| record["reason"] == "upstream_busy");
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (200, 200));
    });
    let under_way = || gateway.metric("stepgate_upstream_requests", &["upstream=\"api\""]);
    eventually("nothing to be under way", || (under_way() == 0.0).then_some(()));
    assert_eq!(world.upstream.count(), 2);
}

/// To the service it is a POST, and what became of the first one nobody knows.
#[test]
fn a_get_that_a_service_may_take_for_a_post_is_not_sent_twice() {
    let upstream = Recorder::with(|request, stream| {
        request.target() == "/warm" && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let world = World::with(upstream);
    for keys in ["", ", retries: {attempts: 2, on: [reset], budget: 100%}"] {
        let gateway = world.start(&format!(
            "upstreams:\n  api: {{targets: [http://127.0.0.1:<upstream>], method_override: [header, query]{keys}}}\nroutes:\n  - {{path: /**, upstream: api, auth: none, methods: [GET, POST, PUT]}}\n",
        ));
        let twice = |request: crate::harness::Request| {
            get("/warm").send(&gateway).expect(200);
            let before = world.upstream.count();
            request.send(&gateway).expect(502);
            world.upstream.count() - before
        };
        assert!(twice(get("/x")) > 1, "a connection that had served before was closed");
        assert_eq!(twice(get("/x?_method=POST")), 1, "{keys}");
        assert_eq!(twice(get("/x").header("X-HTTP-Method-Override", "PUT")), 1, "{keys}");
    }
}

#[test]
fn a_request_that_is_not_over_in_its_time_is_ended() {
    let upstream = Recorder::with(|request, stream| {
        let rest = match request.target() {
            "/streams" => "first\r\n",
            "/is-broken" => "first\r\nno size\r\n",
            "/ends" => "fir",
            _ => return stream.read(&mut [0; 16]).is_err(),
        };
        write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{rest}").unwrap();
        if request.target() == "/ends" {
            return false;
        }
        // Until the gateway has had enough.
        let _ = stream.read(&mut [0; 16]);
        false
    });
    let world = World::with(upstream);
    let gateway = world.start(
        "upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], timeouts: {request: 300ms}}\nroutes:\n  - {path: /**, upstream: api, auth: none, methods: [GET]}\n",
    );
    assert_eq!(get("/silent").send(&gateway).problem(504), "gateway-timeout");
    let mut wire = gateway.connect();
    wire.send(get("/streams").bytes());
    assert_eq!(wire.head().unwrap().0, 200);
    // The end of an answer in chunks is its last chunk, and that must not come.
    let rest = String::from_utf8(wire.rest()).unwrap();
    assert!(rest.contains("first") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
    assert!(gateway.metric("stepgate_upstream_errors_total", &["kind=\"deadline\""]) >= 2.0);
    // The log has the reason, though the status was sent before.
    for (path, reason) in
        [("/streams", "upstream_timeout"), ("/is-broken", "upstream_invalid"), ("/ends", "upstream_reset")]
    {
        if path != "/streams" {
            let mut wire = gateway.connect();
            wire.send(get(path).bytes());
            wire.rest();
        }
        let record = gateway.access(|record| record["path"] == path);
        assert_eq!((&record["status"], &record["reason"]), (&200.into(), &reason.into()), "{record}");
    }
}
