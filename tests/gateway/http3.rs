//! HTTP/3 on the real binary, with aioquic and Chromium as clients: the same policies, records and bounds as over TCP, and
//! what clients do that they must not.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, mpsc},
};

use serde_json::{Value, json};

use crate::harness::{Authority, Gateway, Recorder, Wire, World, eventually, get, run, tools::browse};

const FRAME_UNEXPECTED: u64 = 0x105;
const EXCESSIVE_LOAD: u64 = 0x107;
const MESSAGE_ERROR: u64 = 0x10e;
const DECOMPRESSION_FAILED: u64 = 0x200;

const POLICIES: &str = "assurance:
  recent-mfa: {acr: [urn:example:acr:mfa], max_age: 5m}
limits:
  few: {key: ip, rate: 2/10m}
routes:
  - {path: /open/**, upstream: api, auth: none}
  - {path: /items/**, upstream: api, auth: [main], scopes: [items:read]}
  - {path: /admin/**, upstream: api, auth: [main], scopes: [admin]}
  - {path: /mfa/**, upstream: api, auth: [main], assurance: recent-mfa}
  - {path: /few/**, upstream: api, auth: none, limits: [few]}
";

fn listeners(http3: &str) -> String {
    format!(
        "listeners:
  - {{address: 127.0.0.1:<port>, cleartext: true}}
  - {{address: 127.0.0.1:<tls>, tls: {{certificates: [{{cert: server.pem, key: server.key}}]}}{http3}}}
"
    )
}

struct Http3 {
    world: World,
    gateway: Gateway,
    authority: Authority,
}

impl Http3 {
    fn start(policies: &str) -> Self {
        Self::start_with(World::new(), &listeners(", http3: true"), policies)
    }

    fn start_with(world: World, listeners: &str, policies: &str) -> Self {
        let authority = Authority::new("servers");
        authority.server(world.folder(), "server", &["localhost"]);
        world.write("ca.pem", &authority.pem);
        let gateway = world.start(&format!("{listeners}{policies}"));
        Self { world, gateway, authority }
    }

    fn tell(&self, lines: &[Value]) -> Vec<Value> {
        tell(self.world.tls, &self.world.folder().join("ca.pem"), lines)
    }

    fn ask(&self, line: Value) -> Value {
        self.tell(&[line]).pop().unwrap()
    }

    fn over_tcp(&self) -> Wire {
        Wire::tls(self.world.tls, "localhost", &self.authority.client(&["http/1.1"])).unwrap()
    }
}

fn client() -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http3");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "aioquic is not installed: run `./test setup`");
    (python, folder.join("client.py"))
}

/// Has aioquic do what `lines` say, on one connection, and gives its answers.
fn tell(port: u16, ca: &Path, lines: &[Value]) -> Vec<Value> {
    let (python, script) = client();
    let mut command = Command::new(python);
    command.arg(script).args(["127.0.0.1", &port.to_string()]).arg(ca);
    let input = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let finished = run(&mut command, &input);
    let answers: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked = lines.iter().filter(|line| line.get("close").is_none()).count();
    assert_eq!(answers.len(), asked, "{}{}", finished.stdout, finished.stderr);
    answers
}

fn request(method: &str, path: &str, token: Option<&str>) -> Value {
    let authorization = token.map(|token| json!(["authorization", format!("Bearer {token}")]));
    json!({"method": method, "path": path, "headers": authorization.into_iter().collect::<Vec<_>>()})
}

fn header<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    let headers = answer["headers"].as_array()?;
    headers.iter().find(|header| header[0] == name).and_then(|header| header[1].as_str())
}

fn fields(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<Value> {
    let head = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    head.iter().chain(more).map(|(name, value)| json!([name, value])).collect()
}

#[test]
fn the_same_policies_hold_as_over_tcp() {
    let test = Http3::start(POLICIES);
    let (token, fresh) = (test.world.token(json!({})), test.world.fresh(5));
    let cases = [
        (request("GET", "/open/x", None), 200),
        (request("GET", "/items/x", None), 401),
        (request("GET", "/items/x", Some("no.such.token")), 401),
        (request("GET", "/items/x", Some(&token)), 200),
        (request("GET", "/admin/x", Some(&token)), 403),
        (request("GET", "/mfa/x", Some(&token)), 401),
        (request("GET", "/mfa/x", Some(&fresh)), 200),
        (request("DELETE", "/open/x", None), 401),
        (request("DELETE", "/open/x", Some(&token)), 401),
        (request("DELETE", "/open/x", Some(&fresh)), 200),
        (request("GET", "/few/x", None), 200),
        (request("GET", "/few/x", None), 200),
        (request("GET", "/few/x", None), 429),
        (request("GET", "/nowhere", None), 404),
        (request("GET", "/open/%2e%2e/admin/x", None), 400),
        (request("BREW", "/open/x", None), 501),
    ];
    let answers = test.tell(&cases.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>());
    for ((asked, status), answer) in cases.iter().zip(&answers) {
        assert_eq!(answer["status"], *status, "{asked} {answer}");
        assert!(header(answer, "x-request-id").is_some() && header(answer, "connection").is_none(), "{answer}");
    }
    let stepped_up = &answers[5];
    assert!(header(stepped_up, "www-authenticate").unwrap().contains("insufficient_user_authentication"));
    assert!(header(&answers[12], "retry-after").is_some());
    assert_eq!(test.world.upstream.count(), 6);
}

#[test]
fn the_service_and_the_records_see_a_request_as_any_other() {
    let test = Http3::start(POLICIES);
    let token = test.world.token(json!({}));
    let told = [
        ["cookie", "a=1"],
        ["cookie", "b=2"],
        ["x-forwarded-for", "192.0.2.1"],
        ["x-auth-subject", "mallory"],
        ["content-length", "5"],
    ];
    let mut line = request("POST", "/items/x?q=1", Some(&token));
    line["headers"].as_array_mut().unwrap().extend(told.iter().map(|field| json!(field)));
    line["body"] = "hello".into();
    assert_eq!(test.ask(line)["status"], 200);
    let seen = test.world.upstream.last();
    assert_eq!((seen.line(), seen.header("via")), ("POST /items/x?q=1 HTTP/1.1", "3.0 stepgate"));
    assert_eq!((seen.header("cookie"), seen.header("x-forwarded-for")), ("a=1; b=2", "127.0.0.1"));
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("content-length")), ("https", "5"));
    assert_eq!((seen.all("x-auth-subject"), &*seen.body), (vec!["alice"], &b"hello"[..]));
    let record = test.gateway.access(|record| record["path"] == "/items/x");
    assert_eq!((&record["protocol"], &record["tls.version"]), (&json!("HTTP/3.0"), &json!("TLSv1.3")));
    let listener = format!("listener=\"127.0.0.1:{}/udp\"", test.world.tls);
    let counted = |name: &str, label: &str| test.gateway.metric(name, &[&listener, label]);
    eventually("the connection is counted", || {
        (counted("stepgate_connections_total", "") == 1.0 && counted("stepgate_connections", "") == 0.0).then_some(())
    });
    assert_eq!(counted("stepgate_tls_handshakes_total", "result=\"ok\""), 1.0);
}

#[test]
fn large_bodies_and_trailers_go_both_ways() {
    let echo = Recorder::with(|request, stream| {
        let body = &request.body;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        for part in body.chunks(50_000) {
            let _ = stream.write_all(format!("{:x}\r\n", part.len()).as_bytes());
            let _ = stream.write_all(part);
            let _ = stream.write_all(b"\r\n");
        }
        let _ = stream.write_all(b"0\r\nx-sum: done\r\n\r\n");
        true
    });
    let test = Http3::start_with(World::with(echo), &listeners(", http3: true"), POLICIES);
    let body = "0123456789".repeat(200_000);
    let mut line = request("POST", "/open/echo", None);
    line["headers"] = json!([["te", "trailers"]]);
    line["body"] = body.clone().into();
    let answer = test.ask(line);
    assert_eq!((&answer["status"], &answer["trailers"]), (&json!(200), &json!([["x-sum", "done"]])));
    assert!(answer["body"] == body.as_str());
}

#[test]
fn hostile_requests_reach_no_service() {
    let test = Http3::start(POLICIES);
    let twice = |name: &str, value: &str| fields("GET", "/open/hostile", &[(name, value)]);
    let malformed = [
        twice(":path", "/items/other"),
        twice(":authority", "other.example"),
        twice(":method", "DELETE"),
        twice("transfer-encoding", "chunked"),
        twice("connection", "x-a"),
        twice("content-length", "7"),
        twice("x-a", "1\r\nx-b: 2"),
        twice("X-Upper", "1"),
    ];
    let lines: Vec<_> = malformed.iter().map(|fields| json!({ "fields": fields })).collect();
    for (answer, fields) in test.tell(&lines).iter().zip(&malformed) {
        assert_eq!(answer["reset"], MESSAGE_ERROR, "{fields:?} {answer}");
    }
    // Another host in `Host` than in `:authority` is the gateway's to refuse, as in HTTP/2; so is CONNECT.
    let answer = test.ask(json!({"fields": twice("host", "other.example")}));
    assert_eq!(answer["status"], 400, "{answer}");
    let connect = test.ask(json!({"fields": [[":method", "CONNECT"], [":authority", "localhost:1"]]}));
    assert!(connect["status"].as_u64().is_some_and(|status| status >= 400), "{connect}");
    let long = "v".repeat(50_000);
    let fields_of_200_kilobytes = fields("GET", "/open/hostile", &[("x-long", &*long); 4]);
    assert_eq!(test.ask(json!({ "fields": fields_of_200_kilobytes }))["status"], 431);
    for (data, length) in [(&["hello"][..], "6"), (&["hello"], "4"), (&["hel", "lo"], "4")] {
        let fields = fields("POST", "/open/hostile-body", &[("content-length", length)]);
        let answer = test.ask(json!({"fields": fields, "data": data}));
        assert!(answer["reset"] == MESSAGE_ERROR || answer["status"] == 400, "{length}: {answer}");
    }
    for (raw, code) in [
        ("0000", FRAME_UNEXPECTED),
        ("0400", FRAME_UNEXPECTED),
        ("0200", FRAME_UNEXPECTED),
        ("0103000080", DECOMPRESSION_FAILED),
    ] {
        assert_eq!(test.ask(json!({ "raw": raw }))["closed"], code, "{raw}");
    }
    assert_eq!(test.ask(json!({"control": "0400"}))["closed"], FRAME_UNEXPECTED, "settings a second time");
    let whole = test.world.upstream.requests();
    assert!(
        whole.iter().all(|seen| !seen.target().starts_with("/open/hostile")),
        "{:?}",
        whole.first().map(|seen| seen.line().to_owned())
    );
}

#[test]
fn requests_that_are_reset_at_once_end_their_connection_and_no_other() {
    let test = Http3::start(POLICIES);
    let answers = test.tell(&[json!({"flood": true}), json!({"close": true}), request("GET", "/open/x", None)]);
    assert_eq!((&answers[0]["closed"], &answers[1]["status"]), (&json!(EXCESSIVE_LOAD), &json!(200)));
}

#[test]
fn an_answer_that_has_no_body_says_no_length_of_its_own() {
    for (method, head) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    ] {
        let service = World::with(Recorder::answering(head));
        let test = Http3::start_with(service, &listeners(", http3: true"), POLICIES);
        let answer = test.ask(request(method, "/open/x", None));
        assert!(header(&answer, "date").is_some(), "{answer}");
        assert_eq!(header(&answer, "content-length"), None, "RFC 9110 section 8.6: {head} {answer}");
    }
}

#[test]
fn clients_over_tcp_are_told_and_a_services_own_word_on_it_is_dropped() {
    let service = Recorder::answering("HTTP/1.1 200 OK\r\nalt-svc: h3=\":4444\"; ma=1\r\ncontent-length: 2\r\n\r\nok");
    let test = Http3::start_with(World::with(service), &listeners(", http3: true, http3_port: 443"), POLICIES);
    let answer = get("/open/x").host("localhost").send_on(&mut test.over_tcp());
    assert_eq!(answer.all("alt-svc"), ["h3=\":443\"; ma=86400"]);
    let refused = get("/items/x").host("localhost").send_on(&mut test.over_tcp());
    assert_eq!((refused.status, refused.header("alt-svc")), (401, "h3=\":443\"; ma=86400"));
    assert!(!get("/open/x").send(&test.gateway).has("alt-svc"), "in the clear there is no other way");
    assert_eq!(header(&test.ask(request("GET", "/open/x", None)), "alt-svc"), None);
}

#[test]
fn a_reload_adds_and_takes_away_http3_and_changes_certificates() {
    let test = Http3::start_with(World::new(), &listeners(""), POLICIES);
    assert!(!get("/open/x").host("localhost").send_on(&mut test.over_tcp()).has("alt-svc"));
    let mut lasting = test.over_tcp();
    let reload = |http3: &str, wanted: bool| {
        test.world.configure(&format!("{}{POLICIES}", listeners(http3)));
        test.gateway.signal("HUP");
        eventually("the reload is in force", || {
            let told = get("/open/x").host("localhost").send_on(&mut test.over_tcp()).has("alt-svc");
            (told == wanted).then_some(())
        });
    };
    reload(", http3: true", true);
    assert_eq!(test.ask(request("GET", "/open/x", None))["status"], 200);
    let other = Authority::new("others");
    other.server(test.world.folder(), "server", &["localhost"]);
    test.world.write("ca.pem", &other.pem);
    test.gateway.signal("HUP");
    eventually("the other certificate is shown", || {
        let (python, script) = client();
        let mut command = Command::new(python);
        command.arg(script).args(["127.0.0.1", &test.world.tls.to_string()]).arg(test.world.folder().join("ca.pem"));
        let finished = run(&mut command, &format!("{}\n", request("GET", "/open/x", None)));
        finished.stdout.contains("\"status\": 200").then_some(())
    });
    get("/open/x").host("localhost").send_on(&mut lasting).expect(200);
    test.world.configure(&format!("{}{POLICIES}", listeners("")));
    test.gateway.signal("HUP");
    eventually("HTTP/3 is no more", || {
        let mut wire = Wire::tls(test.world.tls, "localhost", &other.client(&["http/1.1"])).unwrap();
        (!get("/open/x").host("localhost").send_on(&mut wire).has("alt-svc")).then_some(())
    });
    get("/open/x").host("localhost").send_on(&mut lasting).expect(200);
}

#[test]
fn a_process_that_takes_over_serves_http3_when_the_port_is_free() {
    let test = Http3::start(POLICIES);
    assert_eq!(test.ask(request("GET", "/open/first", None))["status"], 200);
    let next = test.gateway.succeed();
    eventually("clients over TCP are told again", || {
        get("/open/x").host("localhost").send_on(&mut test.over_tcp()).has("alt-svc").then_some(())
    });
    assert_eq!(test.ask(request("GET", "/open/second", None))["status"], 200);
    assert_eq!(next.access(|record| record["path"] == "/open/second")["protocol"], "HTTP/3.0");
}

#[test]
fn a_browser_speaks_http3_with_the_gateway() {
    let page = Recorder::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 21\r\n\r\n<!doctype html><p>hi\n",
    );
    let test = Http3::start_with(World::with(page), &listeners(", http3: true"), POLICIES);
    let force = format!("--origin-to-force-quic-on=localhost:{}", test.world.tls);
    browse(
        &test.world,
        "http3",
        json!({"path": "/open", "args": [force, "--host-resolver-rules=MAP localhost 127.0.0.1"]}),
    );
    let record = test.gateway.access(|record| record["path"] == "/items/x");
    assert_eq!((&record["protocol"], &record["status"]), (&json!("HTTP/3.0"), &json!(401)));
}

#[test]
fn http3_is_refused_where_it_cannot_be() {
    let world = World::new();
    for (listeners, says) in [
        ("listeners:\n  - {address: 127.0.0.1:<port>, cleartext: true, http3: true}\n", "without `tls`"),
        ("listeners:\n  - {address: 127.0.0.1:<port>, cleartext: true, http3_port: 443}\n", "does not serve HTTP/3"),
    ] {
        let finished = world.check(&format!("{listeners}{POLICIES}"));
        assert!(finished.code != 0 && format!("{}{}", finished.stdout, finished.stderr).contains(says), "{finished:?}");
    }
}

#[test]
fn at_a_hand_over_the_new_process_serves_it_once_the_old_ones_requests_have_ended() {
    let (go, come) = mpsc::channel::<()>();
    let come = Mutex::new(come);
    let slow = Recorder::with(move |request, stream| {
        if request.target() == "/open/slow" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            come.lock().unwrap().recv().unwrap();
            return stream.write_all(b"half").is_ok();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let mut test = Http3::start_with(World::with(slow), &listeners(", http3: true"), POLICIES);
    let over_tcp = |test: &Http3| get("/open/x").host("localhost").send_on(&mut test.over_tcp()).expect(200);
    assert!(over_tcp(&test).has("alt-svc"));
    let (port, ca) = (test.world.tls, test.world.folder().join("ca.pem"));
    let under_way = std::thread::spawn(move || tell(port, &ca, &[request("GET", "/open/slow", None)]).pop().unwrap());
    let is_there = || test.world.upstream.requests().iter().any(|request| request.target() == "/open/slow");
    eventually("the request", || is_there().then_some(()));
    let next = test.gateway.succeed();
    assert!(!over_tcp(&test).has("alt-svc"), "the port is not the new process's yet");
    go.send(()).unwrap();
    let answer = under_way.join().unwrap();
    assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!("halfhalf")));
    assert_eq!(test.gateway.wait(), 0);
    eventually("clients to be told", || over_tcp(&test).has("alt-svc").then_some(()));
    assert_eq!(test.ask(request("GET", "/open/x", None))["status"], 200);
    drop(next);
}
