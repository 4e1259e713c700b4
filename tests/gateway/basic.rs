//! User names and passwords as credentials: who gets in, what everybody else sees, and what guessing leads to.

use std::{os::unix::fs::PermissionsExt, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::harness::{
    Answer, Authority, Finished, Gateway, Request, Wire, World, delete, eventually, get, remember_secret, run,
};

/// jBCrypt's test vector: the cheapest that is taken, since the tests hash often.
const HASH: &str = "$2a$10$fVH8e28OQRj9tqiDXs1e1uxpsjN0c7II7YPKXua2NAKYvM6iQk7dq";
const PASSWORD: &str = "abcdefghijklmnopqrstuvwxyz";
const OTHER: &str = "correct horse battery staple";

const ROUTES: &str = "routes:
  - {path: /people, upstream: api, auth: [people]}
  - {path: /both, upstream: api, auth: [main, people]}
  - {path: /main, upstream: api, auth: [main]}
  - {path: /write, upstream: api, auth: [people], scopes: [\"items:write\"]}
  - {path: /read, upstream: api, auth: [people], scopes: [\"items:read\"]}
  - {path: /recent, upstream: api, auth: [people], assurance: {max_age: 1h}}
  - {path: /pwd, upstream: api, methods: [GET], auth: [people], assurance: {amr: [pwd]}}
  - {path: /public, upstream: api, auth: none}
";

fn world() -> World {
    remember_secret(PASSWORD);
    remember_secret(&STANDARD.encode(format!("alice:{PASSWORD}")));
    let world = World::new();
    world.write("users.txt", format!("# partners\nalice:{HASH}:items:read\nbob:{HASH}\n"));
    world
}

/// Over plain HTTP, as behind a proxy that ends TLS: there a test can come from several addresses.
fn plain(says: &str) -> String {
    format!(
        "credentials:\n  people: {{basic: {{file: users.txt, realm: Partners, danger_cleartext: true{says}}}}}\n{ROUTES}"
    )
}

trait Basic {
    fn basic(self, user: &str, password: &str) -> Self;
}

impl Basic for Request {
    fn basic(self, user: &str, password: &str) -> Self {
        self.header("Authorization", &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }
}

fn reason(gateway: &Gateway, name: &str) -> f64 {
    gateway.metric("stepgate_decisions_total", &[&format!("reason=\"{name}\"")])
}

/// An answer without what differs from request to request.
fn face(answer: &Answer) -> (u16, Vec<(String, String)>, serde_json::Value) {
    let headers = answer.headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let mut body = answer.json();
    body["request_id"] = json!(null);
    (answer.status, headers.cloned().collect(), body)
}

#[test]
fn over_tls_a_user_is_let_in_by_name_and_the_password_stays_here() {
    let world = world();
    let authority = Authority::new("servers");
    authority.server(world.folder(), "one", &["gateway.example"]);
    let gateway = world.start(&format!(
        "listeners:\n  - {{address: 127.0.0.1:<port>, cleartext: true}}\n  - {{address: 127.0.0.1:<tls>, tls: {{certificates: [{{cert: one.pem, key: one.key}}]}}}}\n\
         credentials:\n  people: {{basic: {{file: users.txt}}}}\n{ROUTES}"
    ));
    let tls = |request: Request| {
        let mut wire = Wire::tls(gateway.tls, "gateway.example", &authority.client(&["http/1.1"])).unwrap();
        request.send_on(&mut wire)
    };
    tls(get("/people").basic("alice", PASSWORD)).expect(200);
    let seen = world.upstream.last();
    assert!(!seen.has("authorization"), "{seen:?}");
    assert_eq!(seen.header("x-auth-subject"), "alice");
    assert_eq!(seen.header("x-auth-issuer"), "urn:stepgate:credentials:people");
    assert_eq!(seen.header("x-auth-scopes"), "items:read");
    let record = gateway.access(|record| record["status"] == 200);
    assert!(record.to_string().contains("alice"), "{record}");
    let challenge = tls(get("/people"));
    challenge.problem(401);
    assert_eq!(challenge.all("www-authenticate"), ["Basic realm=\"people\", charset=\"UTF-8\""]);

    let refused = get("/people").basic("alice", PASSWORD).send(&gateway);
    assert_eq!(refused.problem(401), "invalid-credentials");
    assert!(!refused.header("www-authenticate").contains("Basic"), "nobody is asked for a password without TLS");
    assert_eq!(reason(&gateway, "password_cleartext"), 1.0);
}

#[test]
fn whoever_is_refused_sees_the_same() {
    let world = world();
    let gateway = world.start(&plain(""));
    let ask = |user: &str, password: &str| get("/people").basic(user, password).send(&gateway);
    let wrong = ask("alice", "wrong");
    assert_eq!(wrong.problem(401), "invalid-credentials");
    assert_eq!(wrong.all("www-authenticate"), ["Basic realm=\"Partners\", charset=\"UTF-8\""]);
    let mut faces = vec![ask("nobody", "wrong"), ask("alice", ""), ask("", "x"), ask("alice", "\u{7}")];
    faces.extend((0..5).map(|_| ask("bob", "wrong")));
    faces.push(ask("bob", PASSWORD));
    faces.push(get("/people").header("Authorization", "Basic ???").send(&gateway));
    for other in &faces {
        assert_eq!(face(other), face(&wrong));
    }
    for (name, count) in
        [("password_wrong", 6.0), ("user_unknown", 1.0), ("password_malformed", 4.0), ("locked_out", 1.0)]
    {
        assert_eq!(reason(&gateway, name), count, "{name}");
    }
    assert_eq!(gateway.metric("stepgate_passwords_total", &["result=\"wrong\""]), 7.0);
    assert_eq!(gateway.metric("stepgate_locked_users", &["source=\"people\""]), 1.0);
    world.upstream.assert_untouched();
}

#[test]
fn a_route_may_take_passwords_beside_tokens_and_never_both_at_once() {
    let world = world();
    let gateway = world.start(&plain(""));
    let token = world.token(json!({}));
    get("/both").bearer(&token).send(&gateway).expect(200);
    get("/both").basic("alice", PASSWORD).send(&gateway).expect(200);
    let challenges = get("/both").send(&gateway);
    assert_eq!(challenges.problem(401), "token-required");
    let challenges = challenges.all("www-authenticate").into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert!(challenges[0].starts_with("Bearer resource_metadata="), "{challenges:?}");
    assert_eq!(challenges[1], "Basic realm=\"Partners\", charset=\"UTF-8\"");
    let wrong = get("/both").basic("alice", "wrong").send(&gateway);
    assert!(!wrong.all("www-authenticate")[0].contains("error"), "it was no token that was wrong: {wrong:?}");
    let wrong = get("/both").bearer("no.token.at.all").send(&gateway);
    assert!(wrong.all("www-authenticate")[0].contains("invalid_token"));

    let two = get("/both").bearer(&token).basic("alice", PASSWORD);
    assert_eq!(two.send(&gateway).problem(400), "invalid-request");
    let two = get(&format!("/both?access_token={token}")).basic("alice", PASSWORD);
    assert_eq!(two.send(&gateway).problem(400), "invalid-request");

    // Where no source takes passwords, none was sent: the token is what is missing.
    let elsewhere = get("/main").basic("alice", PASSWORD).send(&gateway);
    assert_eq!(elsewhere.problem(401), "token-required");
    assert!(elsewhere.header("www-authenticate").starts_with("Bearer "));
    assert_eq!(get("/people").bearer(&token).send(&gateway).problem(401), "credentials-required");
    get("/public").basic("alice", "wrong").send(&gateway).expect(200);
}

#[test]
fn a_password_gives_the_scopes_of_the_file_and_proves_pwd_alone() {
    let world = world();
    let gateway = world.start(&plain(""));
    let alice = |request: Request| request.basic("alice", PASSWORD).send(&gateway);
    alice(get("/read")).expect(200);
    assert_eq!(alice(get("/write")).problem(403), "insufficient-scope");
    alice(get("/pwd")).expect(200);
    assert_eq!(alice(get("/recent")).problem(401), "insufficient-user-authentication");
    assert_eq!(alice(delete("/people")).problem(401), "insufficient-user-authentication");
    assert_eq!(reason(&gateway, "auth_time_missing"), 1.0);
}

#[test]
fn guessing_locks_the_guesser_out_and_not_the_owner() {
    let world = world();
    let gateway = world.start(&plain(", lockout: {first: 1s, longest: 2s, per_user: 8/day}"));
    let ask = |from: &str, password: &str| get("/people").basic("alice", password).from(from).send(&gateway).status;
    assert_eq!(ask("127.0.0.9", PASSWORD), 200);
    for _ in 0..5 {
        assert_eq!(ask("127.0.0.2", "wrong"), 401);
    }
    assert_eq!(ask("127.0.0.2", PASSWORD), 401, "locked at that address, even for the right one");
    assert_eq!(ask("127.0.0.3", PASSWORD), 200, "and nowhere else");
    // Other addresses share what is left for strangers.
    for _ in 0..3 {
        assert_eq!(ask("127.0.0.4", "wrong"), 401);
    }
    assert_eq!(gateway.metric("stepgate_passwords_total", &["result=\"wrong\""]), 8.0);
    assert_eq!(ask("127.0.0.5", "wrong"), 401);
    assert_eq!(gateway.metric("stepgate_passwords_total", &["result=\"wrong\""]), 8.0, "not even looked at");
    assert_eq!(ask("127.0.0.9", PASSWORD), 200, "the owner, where the owner was before");
    assert_eq!(reason(&gateway, "locked_out"), 2.0);
    eventually("the lock to end", || {
        (gateway.metric("stepgate_locked_users", &["source=\"people\""]) == 0.0).then_some(())
    });
}

#[test]
fn the_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
    let world = world();
    let gateway = world.start(&plain(""));
    let ask = |user: &str, password: &str| get("/people").basic(user, password).send(&gateway).status;
    assert_eq!((ask("alice", PASSWORD), ask("bob", PASSWORD)), (200, 200));
    for _ in 0..5 {
        assert_eq!(ask("bob", "wrong"), 401);
    }
    let added = users(&world, &["add", "people", "alice", "--scope", "items:write"], OTHER);
    assert_eq!((added.code, added.stdout.as_str()), (0, "people: alice changed\n"), "{added:?}");
    eventually("the new password", || (ask("alice", OTHER) == 200).then_some(()));
    assert_eq!(ask("alice", PASSWORD), 401);
    assert_eq!(ask("bob", PASSWORD), 401, "what was locked stays locked");
    get("/write").basic("alice", OTHER).send(&gateway).expect(200);

    let refused = gateway.metric("stepgate_config_reloads_total", &["result=\"refused\""]);
    world.write("users.txt", format!("alice:{HASH}\nsecret-in-the-wrong-place\n"));
    remember_secret("secret-in-the-wrong-place");
    eventually("the refusal", || {
        (gateway.metric("stepgate_config_reloads_total", &["result=\"refused\""]) > refused).then_some(())
    });
    assert!(gateway.stderr().contains("users.txt:2: "), "{}", gateway.stderr());
    assert_eq!(ask("alice", OTHER), 200);
}

#[test]
fn many_wrong_passwords_at_once_leave_everybody_else_alone() {
    let world = world();
    let gateway = world.start(&plain(", queue: 20, lockout: {per_address: 1000000/hour}"));
    let token = world.token(json!({}));
    get("/people").basic("alice", PASSWORD).send(&gateway).expect(200);
    let (port, tokens) = (gateway.port, 100);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let guess = |number| get("/people").basic(&format!("user {number}"), "wrong").send_to(port);
        let flood: Vec<_> = (0..200).map(|number| scope.spawn(move || guess(number))).collect();
        // Meanwhile tokens, and passwords that were right a moment ago, are judged as ever.
        let mut wire = gateway.connect();
        for _ in 0..tokens {
            get("/main").bearer(&token).send_on(&mut wire).expect(200);
            get("/people").basic("alice", PASSWORD).send_on(&mut wire).expect(200);
        }
        flood.into_iter().map(|answer| answer.join().unwrap()).inspect(check_busy).map(|answer| answer.status).collect()
    });
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!(count(401) + count(503), 200, "{statuses:?}");
    assert!(count(401) >= 22, "as many as there was room for are judged");
    let hashed = gateway.metric("stepgate_passwords_total", &["result=\"wrong\""]);
    assert_eq!(hashed, count(401) as f64, "each that was judged was hashed, and no other");
    assert_eq!(gateway.metric("stepgate_passwords_total", &["result=\"busy\""]), count(503) as f64);
}

fn check_busy(answer: &Answer) {
    if answer.status == 503 {
        assert_eq!(answer.problem(503), "temporarily-unavailable");
        assert_eq!(answer.header("retry-after"), "2");
    }
}

#[test]
fn a_client_that_goes_away_while_its_password_waits_costs_no_hash() {
    let world = world();
    let gateway = world.start(&plain(", concurrent: 1, queue: 40, lockout: {per_address: 1000000/hour}"));
    let wires: Vec<Wire> = (0..40)
        .map(|number| {
            let mut wire = gateway.connect();
            wire.send(get("/people").basic(&format!("user {number}"), "wrong").bytes());
            wire
        })
        .collect();
    eventually("the first hash", || {
        (gateway.metric("stepgate_passwords_total", &["result=\"wrong\""]) >= 1.0).then_some(())
    });
    drop(wires);
    eventually("all to be gone", || (reason(&gateway, "client_gone") >= 1.0).then_some(()));
    get("/people").basic("alice", PASSWORD).send(&gateway).expect(200);
    let hashed = gateway.metric("stepgate_passwords_total", &["result=\"wrong\""]);
    assert!(hashed < 40.0, "{hashed} were hashed, and nobody was there to hear of most");
}

#[test]
fn explain_judges_a_password_as_the_gateway_does() {
    let world = world();
    world.configure(&plain(""));
    let explain = |password: &str| {
        let field = format!("Authorization: Basic {}", STANDARD.encode(format!("alice:{password}")));
        stepgate(&world, &["explain", "GET", "https://gateway.example/people", "-H", &field], "")
    };
    assert_eq!(explain(PASSWORD).code, 0, "{:?}", explain(PASSWORD));
    let wrong = explain("wrong");
    assert_eq!(wrong.code, 1);
    assert!(wrong.stdout.contains("password_wrong"), "{wrong:?}");
}

#[test]
fn check_tells_each_line_that_is_wrong_and_shows_no_secret() {
    let world = world();
    world.write("users.txt", format!("alice:{HASH}\nbob:hunter2hunter2\ncarol:$2b$04${}\nalice:{HASH}\n", &HASH[7..]));
    let finished = world.check(&plain(""));
    assert_eq!(finished.code, 78);
    for said in ["users.txt:2: ", "users.txt:3: ", "users.txt:4: the user stands on line 1 already"] {
        assert!(finished.stderr.contains(said), "{said}: {}", finished.stderr);
    }
    assert!(!finished.stderr.contains("hunter2") && !finished.stderr.contains("fVH8e"), "{}", finished.stderr);
    std::fs::remove_file(world.folder().join("users.txt")).unwrap();
    let finished = world.check(&plain(""));
    assert!(finished.code == 78 && finished.stderr.contains("there is no such file"), "{finished:?}");
}

fn stepgate(world: &World, arguments: &[&str], input: &str) -> Finished {
    run(Command::new(env!("CARGO_BIN_EXE_stepgate")).args(arguments).current_dir(world.folder()), input)
}

fn users(world: &World, arguments: &[&str], input: &str) -> Finished {
    stepgate(world, &[&["users"], arguments].concat(), input)
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let world = World::new();
    world.configure(&plain("").replace("users.txt", "new.txt"));
    let files = std::fs::read_dir(world.folder()).unwrap().count();
    let added = users(&world, &["add", "people", "alice", "--scope", "a:b", "--scope", "c"], &format!("{OTHER}\n"));
    assert_eq!((added.code, added.stdout.as_str()), (0, "people: alice added\n"), "{added:?}");
    let path = world.folder().join("new.txt");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(users(&world, &["add", "people", "bob"], OTHER).code == 0);
    let listed = users(&world, &["list", "people"], "");
    assert_eq!(listed.stdout, "alice\targon2id m=19456,t=2,p=1\ta:b c\nbob\targon2id m=19456,t=2,p=1\t-\n");

    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# a remark\n{text}")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(users(&world, &["add", "people", "bob", "--scope", "x"], OTHER).stdout, "people: bob changed\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "who may read it stays so");
    assert_eq!(users(&world, &["remove", "people", "alice"], "").stdout, "people: alice removed\n");
    assert_eq!(users(&world, &["remove", "people", "alice"], "").code, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# a remark\nbob:$argon2id$v=19$m=19456,t=2,p=1$") && text.ends_with(":x\n"), "{text}");
    assert_eq!(std::fs::read_dir(world.folder()).unwrap().count(), files + 2, "nothing but its lock is left beside it");
}

#[test]
fn a_hash_is_printed_for_files_that_are_made_elsewhere() {
    let world = world();
    let hashed = users(&world, &["hash"], &format!("{OTHER}\r\nmore\n"));
    assert_eq!(hashed.code, 0, "{hashed:?}");
    world.write("users.txt", format!("alice:{}", hashed.stdout));
    let gateway = world.start(&plain(""));
    get("/people").basic("alice", OTHER).send(&gateway).expect(200);
}

#[test]
fn what_cannot_be_a_user_or_a_password_is_refused() {
    let world = World::new();
    world.configure(&plain(""));
    for (name, password, code) in [
        ("alice", "too short", 2),
        ("alice", "", 2),
        ("alice", "a control character \u{1}", 2),
        ("a:b", OTHER, 2),
        ("#alice", OTHER, 2),
        ("", OTHER, 2),
    ] {
        let refused = users(&world, &["add", "people", name], password);
        assert_eq!(refused.code, code, "{name} {password}: {refused:?}");
    }
    let long = "x".repeat(1025);
    assert_eq!(users(&world, &["add", "people", "alice"], &long).code, 2);
    assert_eq!(users(&world, &["add", "people", "alice", "--scope", "a b"], OTHER).code, 2);
    assert!(!world.folder().join("users.txt").exists());
    world.write("users.txt", "broken\n");
    let refused = users(&world, &["add", "people", "alice"], OTHER);
    assert!(refused.code == 78 && refused.stderr.contains("users.txt: line 1: "), "{refused:?}");
    assert_eq!(std::fs::read_to_string(world.folder().join("users.txt")).unwrap(), "broken\n");
}

#[test]
fn the_time_that_a_hash_takes_is_not_counted_as_the_upstreams() {
    let world = world();
    let gateway = world.start(&plain(""));
    get("/people").basic("alice", PASSWORD).send(&gateway).expect(200);
    let all = gateway.metric("stepgate_request_duration_seconds_sum", &["route=\"/people\""]);
    let upstream = gateway.metric("stepgate_upstream_duration_seconds_sum", &["upstream=\"api\""]);
    assert!(upstream > 0.0 && all - upstream > 0.005, "{upstream} of {all} seconds");
}
