//! Faults that were found and mended, each with its story.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    deletion::overriding,
    harness::{Recorder, Request, Wire, World, delete, eventually, get, post, remember_secret},
};

/// The interpreter lists the variables that `all` and `exists` bind beside those that an expression needs. They were taken
/// for unknown ones, so that `stepgate check` was content with such a condition and `stepgate run` refused to start.
#[test]
fn a_condition_may_loop_over_a_claim() {
    let world = World::new();
    let yaml =
        "routes:\n  - {path: /**, upstream: api, auth: [main], when: 'claims.roles.exists(role, role == \"admin\")'}\n";
    assert_eq!(world.check(yaml).code, 0);
    let gateway = world.start(yaml);
    get("/x").bearer(&world.token(json!({"roles": ["user", "admin"]}))).send(&gateway).expect(200);
    get("/x").bearer(&world.token(json!({"roles": ["user"]}))).send(&gateway).problem(403);
    let unknown = yaml.replace("claims.roles", "user.roles");
    assert_eq!(world.check(&unknown).code, 78, "check and run judge alike");
}

/// A client's `x_api_key` went on beside the gateway's own `X-Api-Key`, and a service that folds names read the client's.
#[test]
fn another_spelling_of_the_upstreams_credential_does_not_pass() {
    let world = World::new();
    world.write("key", "the-key-of-the-upstream");
    let gateway = world.start(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>], credential: {header: {name: X-Api-Key, value: {file: key}}}}
routes:
  - {path: /**, upstream: api, auth: none}
",
    );
    for name in ["x_api_key", "X-Api_Key", "X_API_KEY", "x-api-key"] {
        get("/x").header(name, "the client's").send(&gateway).expect(200);
        assert!(!world.upstream.last().head.contains("the client's"), "{name}");
    }
}

/// A public route with a rewrite led to paths that another route of the same service protects.
#[test]
fn a_rewrite_does_not_lead_around_another_route() {
    let world = World::new();
    let gateway = world.start(
        "routes:
  - {path: /v1/**, upstream: api, auth: none, rewrite: {strip_prefix: /v1}}
  - {path: /private/**, upstream: api, auth: [main], methods: [GET]}
",
    );
    get("/v1/private/x").send(&gateway).problem(401);
    get("/v1/private/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    get("/v1/open").send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 2);
}

/// `ftp://host/path` as a request target was served like `http://host/path`.
#[test]
fn a_target_of_another_scheme_is_refused() {
    let world = World::new();
    let gateway = world.start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut wire = Wire::connect(gateway.port);
    wire.send("GET ftp://gateway.example/x HTTP/1.1\r\nHost: gateway.example\r\n\r\n");
    assert_eq!(wire.answer().problem(400), "invalid-host");
    world.upstream.assert_untouched();
}

/// A service that honours overrides was sent a POST that had been judged as the GET that `_method=GET` made of it; most
/// frameworks let a POST become only a PUT, PATCH or DELETE, and would have carried out the POST.
#[test]
fn a_post_that_calls_itself_a_get_is_judged_as_a_post_too() {
    let world = World::new();
    let gateway = world.start(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>], method_override: [header, query, form]}
routes:
  - {path: /shop/**, upstream: api, auth: none, methods: [GET, PUT]}
  - {path: /when/**, upstream: api, auth: none, when: 'request.method == \"GET\" || request.method == \"PUT\"'}
  - {path: /both/**, upstream: api, auth: none, methods: [POST, PUT], when: 'request.method in [\"POST\", \"PUT\"]'}
",
    );
    for path in ["/shop/x?_method=GET", "/shop/x?a;_METHOD=GET", "/shop/x?_method[]=GET"] {
        post(path, "x").send(&gateway).problem(405);
    }
    post("/shop/x", "x").header("X-HTTP-Method-Override", "GET").send(&gateway).problem(405);
    post("/when/x?_method=GET", "x").send(&gateway).problem(403);
    world.upstream.assert_untouched();
    post("/both/x?_method=PUT", "x").send(&gateway).expect(200);
    post("/both/x?_method=PATCH", "x").send(&gateway).problem(405);
}

/// Forms were read by one idea of what a form is; frameworks have several, so a deletion could hide in a form that the
/// service unpacks, decodes or takes apart otherwise.
#[test]
fn a_deletion_cannot_hide_in_a_form_that_the_service_reads_otherwise() {
    let (world, gateway) = overriding("form");
    let urlencoded = "application/x-www-form-urlencoded";
    let hidden = "--x\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--x--\r\n";
    let refused = |request: Request| {
        assert_eq!(request.send(&gateway).problem(400), "conflicting-method-override");
    };
    post("/public/x", "_method=DELETE").send(&gateway).problem(401);
    let blank = post("/public/x", "_method=DELETE").header("Content-Type", &format!("{urlencoded} charset=utf-8"));
    blank.send(&gateway).problem(401);
    refused(post("/public/x", "zipped").header("Content-Type", urlencoded).header("Content-Encoding", "gzip"));
    refused(post("/public/x", "x").header("Content-Type", &format!("{urlencoded}; charset=ibm037")));
    refused(post("/public/x", hidden).header("Content-Type", "multipart/form-data; boundary=x,y"));
    refused(post("/public/x", hidden).header("Content-Type", "multipart/form-data; xboundary=x; boundary=y"));
    let mixed = hidden.replace("\"\r\n\r\n", "\"\n\r\n");
    refused(post("/public/x", &mixed).header("Content-Type", "multipart/form-data; boundary=x"));
    world.upstream.assert_untouched();
    let ordinary = hidden.replace("_method", "comment");
    post("/public/x", &ordinary).header("Content-Type", "multipart/form-data; boundary=x").send(&gateway).expect(200);
}

/// Names of parameters were read more strictly than services read them, and a deletion passed as a POST; JSON was never looked at.
#[test]
fn a_deletion_cannot_hide_behind_a_name_that_the_service_takes_for_the_parameter() {
    let (world, gateway) = overriding("header, query, form, json");
    let (urlencoded, multipart) = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x");
    let names = [
        "%5B_method%5D",
        "_method%5D",
        "%5B%5B_method",
        "%5D_method",
        "_method%00x",
        "%u005fmethod",
        "X-HTTP-Method-Override",
    ];
    for name in names {
        let said = format!("{name}=DELETE");
        post(&format!("/public/7?{said}"), "x").send(&gateway).problem(401);
        post("/public/7", &said).header("Content-Type", urlencoded).send(&gateway).problem(401);
    }
    for (name, status) in [
        ("[_method]", 401),
        ("_method]", 401),
        ("_method.0", 401),
        ("X-HTTP-Method-Override", 401),
        ("_method\0x", 400),
    ] {
        let part = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nDELETE\r\n--x--\r\n");
        post("/public/7", &part).header("Content-Type", multipart).send(&gateway).problem(status);
    }
    let json = |body: &str| post("/public/7", body).header("Content-Type", "application/json").send(&gateway);
    for body in [r#"{"_method":"DELETE"}"#, r#"{"a":[1,{}],"\u005fMethod":"delete"}"#] {
        json(body).problem(401);
    }
    for body in [r#"{"_method":"PUT","_method":"DELETE"}"#, "{'_method':'DELETE'}", r#"{"_method":["DELETE"]}"#] {
        assert_eq!(json(body).problem(400), "conflicting-method-override", "{body}");
    }
    json(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20))).problem(413);
    world.upstream.assert_untouched();
    // A name that only ends like it is another, and a body that was read goes on as it came.
    let part = "--x\r\nContent-Disposition: form-data; name=\"payment_method\"\r\n\r\ncard\r\n--x--\r\n";
    post("/public/7", part).header("Content-Type", multipart).send(&gateway).expect(200);
    post("/public/7", "payment_method=card").header("Content-Type", urlencoded).send(&gateway).expect(200);
    let order = r#"{ "payment_method": "card", "a": {"_method": "DELETE"} }"#;
    json(order).expect(200);
    assert_eq!(world.upstream.last().body, order.as_bytes());
}

/// Overrides in the usual spelling were believed, and the method of the request line was not judged; services leave any of them alone for
/// reasons of their own.
#[test]
fn an_override_that_a_service_may_leave_alone_is_judged_as_what_the_request_line_says_too() {
    let world = World::new();
    let gateway = world.start(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>], method_override: [header, form, json]}
  query: {targets: [http://127.0.0.1:<upstream>], method_override: [query]}
routes:
  - {path: /items/**, upstream: api, auth: none, methods: [GET, PUT]}
  - {path: /when/**, upstream: api, auth: none, when: 'request.method == \"PUT\"'}
  - {path: /both/**, upstream: api, auth: none, methods: [POST, PUT]}
  - {path: /two/**, upstream: query, auth: none, methods: [GET, POST]}
  - {path: /two/**, upstream: api, auth: none, methods: [PUT]}
  - {path: /strict/**, upstream: api, auth: none, methods: [PUT]}
  - {path: /strict/**, upstream: api, auth: [main], methods: [POST]}
",
    );
    let urlencoded = "application/x-www-form-urlencoded";
    let many = format!("{}_method=PUT", "a=b&".repeat(1001));
    for (path, status) in [("/items/1", 405), ("/when/1", 403), ("/both/1", 200)] {
        let answered = |request: Request| {
            let answer = request.send(&gateway).expect(status);
            if status != 200 {
                answer.problem(status);
            }
        };
        let put = |body: &str, kind: &str| answered(post(path, body).header("Content-Type", kind));
        put("_method=PUT", urlencoded);
        put("_method=%20PUT", urlencoded);
        put("_method=PUT&_method[]=PUT", urlencoded);
        put(&many, urlencoded);
        put("_method=PUT", "application/x-urlencoded");
        put("X-HTTP-Method-Override=PUT", urlencoded);
        put(r#"{"_method":"PUT"}"#, "application/json");
        let part = "--x\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nPUT\r\n--x--\r\n";
        put(part, "multipart/form-data; boundary=x");
        for name in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"] {
            answered(post(path, "x").header(name, "PUT"));
        }
    }
    // Honoured by one service on this path, but not by the one that a PUT goes to.
    assert_eq!(post("/two/1?_method=PUT", "x").send(&gateway).problem(400), "conflicting-method-override");
    // A POST by its own route, which asks for more than that for PUT.
    post("/strict/1", "x").header("X-HTTP-Method-Override", "PUT").send(&gateway).problem(401);
    assert!(world.upstream.requests().iter().all(|seen| seen.line().starts_with("POST /both/1 ")));
}

/// The head of a part was read once for each of its lines: one form of 1 MiB stopped a worker for minutes.
#[test]
fn a_form_of_nothing_but_lines_holds_nobody_up() {
    let (world, gateway) = overriding("form");
    let lines = |end: &str| {
        let lines = end.repeat(1_000_000 / end.len());
        format!("--x\r\nContent-Disposition: form-data; name=\"_method\"{lines}DELETE")
    };
    for end in ["\n", "\r\n"] {
        let slow = post("/public/x", &lines(end)).header("Content-Type", "multipart/form-data; boundary=x");
        assert_eq!(slow.send(&gateway).problem(400), "conflicting-method-override");
    }
    world.upstream.assert_untouched();
}

/// ASP.NET reads a form by the character set that this field names, so `_method` could be other bytes.
#[test]
fn a_field_that_names_a_character_set_for_forms_does_not_cross() {
    let world = World::new();
    let gateway = world.start("routes:\n  - {path: /public/**, upstream: api, auth: none}\n");
    for name in ["x-up-devcap-post-charset", "X_UP_Devcap_Post_Charset"] {
        post("/public/x", "x").header(name, "utf-16").send(&gateway).expect(200);
        assert!(!world.upstream.last().has(name));
    }
}

/// A quota of a route's own took the operation's place even where the request could be for another route without one, so
/// that `/account/DELETE` escaped the quota of `/account/delete`.
#[test]
fn another_spelling_does_not_escape_an_operations_quota() {
    let world = World::new();
    let gateway = world.start(
        "deletion_guard:
  operations: [{match: \"* /account/delete/**\", limit: 1/10m}]
routes:
  - {path: \"/account/{id}\", upstream: api, auth: [main], deletion: {limit: 100/m}}
  - {path: /account/delete, upstream: api, auth: [main]}
",
    );
    let token = world.fresh(5);
    delete("/account/delete").bearer(&token).send(&gateway).expect(200);
    for path in ["/account/delete", "/account/DELETE", "/account/delete;x"] {
        delete(path).bearer(&token).send(&gateway).problem(429);
    }
    assert_eq!(world.upstream.count(), 1);
}

/// Two names of one address were taken for two services, so another spelling of a path under one name was not judged
/// by the routes under the other.
#[test]
fn a_service_under_two_names_is_one_service() {
    let world = World::new();
    let gateway = world.start(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>]}
  slow: {targets: [http://127.0.0.1:<upstream>], timeouts: {response: 60s}}
routes:
  - {path: /shop/**, upstream: slow, auth: none}
  - {path: /shop/admin/**, upstream: api, auth: [main]}
",
    );
    for path in ["/shop/admin/x", "/shop/ADMIN/x", "/shop/admin;a/x"] {
        get(path).send(&gateway).problem(401);
    }
    world.upstream.assert_untouched();
    get("/shop/admin/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
}

/// `drop_headers: [x.tenant]` dropped nothing, the header that names the client to us reached the service from
/// strangers, and so did another spelling of the header that carries our own credential.
#[test]
fn headers_that_are_the_gateways_to_say_are_dropped_in_every_spelling() {
    let world = World::new();
    world.write("key", "our-own-credential");
    let gateway = world.start(
        "server: {workers: 1, drop_headers: [x.tenant], client_ip_header: x-edge-client}
upstreams:
  api: {targets: [http://127.0.0.1:<upstream>], credential: {header: {name: X-Legacy-Key, value: {file: key}}}}
routes:
  - {path: /**, upstream: api, auth: none}
",
    );
    let names = ["x.tenant", "X-Tenant", "X-Edge-Client", "X_Legacy_Key", "Client-IP", "Client-Cert", "X-WebAuth-User"];
    names.iter().fold(get("/x"), |request, name| request.header(name, "spoofed")).send(&gateway).expect(200);
    let seen = world.upstream.last();
    assert!(!seen.head.contains("spoofed"), "{}", seen.head);
    assert_eq!(seen.header("x-legacy-key"), "our-own-credential");
}

/// Events were written to standard error by whoever told them. A supervisor that stopped reading the pipe stopped every
/// worker as soon as 64 KiB of it were full, which a stranger could fill by asking for an upstream that was down; and the
/// drain never ended.
#[test]
fn standard_error_that_nobody_reads_stops_neither_traffic_nor_the_drain() {
    let world = World::new();
    world.configure(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>]}
  down: {targets: [http://127.0.0.1:1]}
routes:
  - {path: /public/**, upstream: api, auth: none}
  - {path: /down, upstream: down, auth: none}
",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_stepgate"));
    command.args(["run", "gateway.yaml"]).current_dir(world.folder());
    let mut gateway = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the gateway to listen", || std::net::TcpStream::connect(("127.0.0.1", world.port)).ok());
    let mut wire = Wire::connect(world.port);
    for _ in 0..1000 {
        get("/down").send_on(&mut wire).expect(502);
    }
    get("/public/x").send_to(world.port).expect(200);
    Command::new("kill").arg(gateway.id().to_string()).status().unwrap();
    let ended = eventually("the gateway to end", || gateway.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

/// Each form that was being read took its longest possible length out of what a worker may hold, before anything was
/// known of its sender: 64 connections that sent one byte each kept everybody else's forms out.
#[test]
fn forms_that_are_only_promised_keep_nobody_elses_out() {
    let world = World::new();
    let gateway = world.start(
        "upstreams:
  api: {targets: [http://127.0.0.1:<upstream>], method_override: [form]}
routes:
  - {path: /**, upstream: api, auth: none}
",
    );
    let promise = "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                   Content-Length: 100\r\n\r\na";
    let mut held: Vec<Wire> = (0..100).map(|_| gateway.connect()).collect();
    for wire in &mut held {
        wire.send(promise);
    }
    // Wait until all of them are being read: the gateway has taken as many connections.
    eventually("the promises", || (gateway.metric("stepgate_connections", &["listener"]) > 100.0).then_some(()));
    let form = post("/", "a=b").header("content-type", "application/x-www-form-urlencoded");
    form.send(&gateway).expect(200);
}

/// After an answer that broke off, the client was told so only when the two seconds were over in which the connection
/// waited for what the client might still send.
#[test]
fn an_answer_that_breaks_off_is_seen_to_break_off_at_once() {
    let upstream = Recorder::with(|_, answers| {
        let _ = answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        false
    });
    let world = World::with(upstream);
    let gateway = world.start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    let mut wire = gateway.connect();
    wire.send(get("/").bytes());
    let began = Instant::now();
    wire.rest();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// An upstream's `Content-Length` in a 204 was passed on to a HEAD: a client that believed it would take the next answer
/// for the body.
#[test]
fn an_answer_without_content_has_no_length() {
    let world = World::with(Recorder::answering("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
    let gateway = world.start("routes:\n  - {path: /**, upstream: api, auth: none}\n");
    for method in ["GET", "HEAD"] {
        let mut wire = gateway.connect();
        wire.send(format!("{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
        let answer = String::from_utf8_lossy(&wire.rest()).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 204") && !answer.contains("content-length"), "{method}: {answer}");
    }
}

/// Opening a pipe waits for whoever writes into it: one in the place of a secret stopped the thread that reloads, handles
/// signals and asks introspection endpoints, for good; in the place of keys it took a thread at each look, until none was left.
#[test]
fn a_pipe_in_the_place_of_a_file_holds_up_nothing() {
    let world = World::new();
    let token = "a-token-of-the-tests-of-pipes";
    remember_secret(token);
    let files = ["admin.token", "users.txt", "keys.jsonl", "set.json"];
    world.write("admin.token", token);
    world.write("users.txt", "");
    world.write("keys.jsonl", "");
    world.write("set.json", world.signer().jwks().to_string());
    let mut gateway = world.start(
        "admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
issuers:
  main:
    issuer: https://idp.example/
    audience: [https://api.example]
    keys: {jwks_file: set.json}
    algorithms: [ES256]
credentials:
  people: {basic: {file: users.txt, danger_cleartext: true}}
  scripts: {api_keys: {file: keys.jsonl}}
routes:
  - {path: /**, upstream: api, auth: [main]}
",
    );
    let good = files.map(|name| fs::read(world.folder().join(name)).unwrap());
    for name in files {
        let path = world.folder().join(name);
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    }
    eventually("each file is told of", || {
        let told = gateway.stderr();
        let all = told.contains("configuration not reloaded")
            && told.contains("API keys not read")
            && told.contains("keys could not be read");
        all.then_some(())
    });
    get("/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    for (name, good) in files.iter().zip(good) {
        let path = world.folder().join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, good).unwrap();
    }
    // Nothing is asked to reload: what was refused is tried again.
    eventually("the files are read again", || {
        let told = gateway.stderr();
        (told.contains("configuration reloaded") && told.contains("API keys read")).then_some(())
    });
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
}

/// Two who changed a file of users at once each wrote what they had read before, so that a user who was removed came back;
/// and what a killed one left behind kept everybody out until somebody removed it by hand.
#[test]
fn many_change_a_file_of_users_at_once_and_no_change_is_lost() {
    let world = World::new();
    let folder = world.folder();
    let run = |arguments: &[&str], input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        crate::harness::run(command.args(["users"]).args(arguments).current_dir(folder), input)
    };
    world.configure(
        "credentials: {people: {basic: {file: users.txt, danger_cleartext: true}}}
routes: [{path: /**, upstream: api, auth: [people]}]
",
    );
    world.write("users.txt.next", "left by one that was killed");
    let password = "a password of the tests\n";
    assert_eq!(run(&["add", "people", "mallory"], password).code, 0);
    std::thread::scope(|scope| {
        let run = &run;
        let adding: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| scope.spawn(move || run(&["add", "people", name], password).code))
            .into_iter()
            .collect();
        assert_eq!(run(&["remove", "people", "mallory"], "").code, 0);
        assert!(adding.into_iter().all(|one| one.join().unwrap() == 0));
    });
    let list = run(&["list", "people"], "").stdout;
    let mut names: Vec<_> = list.lines().map(|line| &line[..1]).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c", "d"]);
}
