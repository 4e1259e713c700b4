//! API keys, as their owners and an operator meet them: made and revoked on the command line, taken at the gateway, and
//! never seen again by anybody.

use std::{os::unix::fs::PermissionsExt, process::Command};

use serde_json::{Value, json};

use super::harness::*;

/// Two sources: `scripts` takes keys in a header, `loose` in every way.
const SOURCES: &str = "
credentials:
  scripts: {api_keys: {file: keys/scripts.jsonl}}
  loose: {api_keys: {file: keys/loose.jsonl, header: X-Loose-Key, basic_username: true, danger_query: api_key}}
limits:
  per-key: {key: 'claim:key_id', rate: 2/1h}
routes:
  - {path: /scripts/**, upstream: api, auth: [scripts]}
  - {path: /loose/**, upstream: api, auth: [loose]}
  - {path: /scoped/**, upstream: api, auth: [scripts], scopes: [read]}
  - {path: /said/**, upstream: api, auth: [scripts], when: 'claims.owner == \"acme\" && claims.note == \"nightly\"'}
  - {path: /both/**, upstream: api, auth: [main, scripts]}
  - {path: /tokens/**, upstream: api, auth: [main]}
  - {path: /public/**, upstream: api, auth: none}
";

fn world() -> World {
    let world = World::new();
    world.write("keys/scripts.jsonl", "");
    world.write("keys/loose.jsonl", "");
    world.configure(SOURCES);
    world
}

/// Makes a key with the command line, and remembers it as a secret.
fn add(world: &World, source: &str, more: &[&str]) -> String {
    let made = stepgate(world.folder(), &[&["keys", "add", source, "--owner", "acme"], more].concat());
    assert_eq!(made.code, 0, "{}", made.stderr);
    let key = made.stdout.trim().to_owned();
    remember_secret(&key);
    key
}

/// The keys of a source, as `keys list --json` shows them.
fn list(world: &World, source: &str) -> Vec<Value> {
    let listed = stepgate(world.folder(), &["keys", "list", source, "--json"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_key(path: &str, key: &str) -> Request {
    get(path).header("X-Api-Key", key)
}

#[track_caller]
fn refused(gateway: &Gateway, request: &Request, status: u16, reason: &str) -> Answer {
    let label = format!("reason=\"{reason}\"");
    let count = || gateway.metric("stepgate_decisions_total", &[&label]);
    let before = count();
    let answer = request.send(gateway).expect(status);
    eventually(reason, || (count() > before).then_some(()));
    answer
}

#[test]
fn who_has_no_key_is_not_sent_for_a_token() {
    let world = world();
    let gateway = world.restart().ready();
    let answer = get("/scripts/x").send(&gateway);
    assert_eq!(answer.problem(401), "credentials-required");
    assert_eq!(answer.header("www-authenticate"), "ApiKey realm=\"stepgate\"");
    assert_eq!(answer.json()["detail"], "Send an API key.");
    let both = get("/both/x").send(&gateway);
    assert_eq!(both.problem(401), "token-required");
    assert!(both.header("www-authenticate").starts_with("Bearer "));
    let revoked = add(&world, "scripts", &[]);
    let id = list(&world, "scripts")[0]["id"].as_str().unwrap().to_owned();
    eventually("the key counts", || (with_key("/scripts/x", &revoked).send(&gateway).status == 200).then_some(()));
    assert_eq!(stepgate(world.folder(), &["keys", "revoke", "scripts", &id]).code, 0);
    eventually("the key falls", || (with_key("/scripts/x", &revoked).send(&gateway).status == 401).then_some(()));
    // The same face for a key that was revoked and for one that never was.
    let strip = |answer: Answer| (answer.json()["type"].clone(), answer.header("www-authenticate").to_owned());
    let unknown = strip(with_key("/scripts/x", "sgk_unknown").send(&gateway));
    assert_eq!(strip(with_key("/scripts/x", &revoked).send(&gateway)), unknown);
}

#[test]
fn a_key_is_made_once_shown_once_and_taken_at_the_gateway() {
    let world = world();
    let key = add(&world, "scripts", &["--scope", "read", "--note", "nightly"]);
    let file = std::fs::read_to_string(world.folder().join("keys/scripts.jsonl")).unwrap();
    assert!(!file.contains(&key) && file.contains("\"hash\":\"sha256:"), "{file}");
    let listed = &list(&world, "scripts")[0];
    assert_eq!(
        (&listed["owner"], &listed["state"], &listed["last_used"]),
        (&json!("acme"), &json!("active"), &Value::Null)
    );
    assert!(listed.get("hash").is_none() && listed.get("key").is_none());

    let gateway = world.restart().ready();
    with_key("/scripts/x?a=1", &key).send(&gateway).expect(200);
    let seen = world.upstream.last();
    assert!(!seen.has("x-api-key") && seen.target() == "/scripts/x?a=1");
    assert_eq!(seen.header("x-auth-subject"), "acme");
    assert_eq!(seen.header("x-auth-issuer"), "urn:stepgate:credentials:scripts");
    assert_eq!(seen.header("x-auth-scopes"), "read");
    for path in ["/scoped/x", "/said/x", "/both/x"] {
        with_key(path, &key).send(&gateway).expect(200);
    }
    let access = gateway.access(|record| record["path"] == "/scripts/x");
    assert_eq!((&access["principal.issuer"], &access["principal.subject"]), (&json!("scripts"), &json!("acme")));
    let bare = add(&world, "scripts", &[]);
    eventually("the new key", || (with_key("/scripts/x", &bare).send(&gateway).status == 200).then_some(()));
    refused(&gateway, &with_key("/scoped/x", &bare), 403, "scope_missing");
    refused(&gateway, &with_key("/said/x", &bare), 403, "condition_error");
}

#[test]
fn what_is_wrong_is_told_to_the_operator_and_not_to_the_caller() {
    let world = world();
    let good = add(&world, "scripts", &[]);
    let elsewhere = add(&world, "scripts", &["--network", "192.0.2.0/24"]);
    let other = add(&world, "loose", &[]);
    let gateway = world.restart().ready();
    refused(&gateway, &get("/scripts/x"), 401, "token_missing");
    let faces: Vec<Value> = [
        (&*other, "api_key_unknown"),
        (&good[..52], "api_key_malformed"),
        ("secret", "api_key_malformed"),
        ("", "api_key_malformed"),
        (&*elsewhere, "api_key_network"),
    ]
    .iter()
    .map(|(key, reason)| {
        let mut face = refused(&gateway, &with_key("/scripts/x", key), 401, reason).json();
        assert_eq!(face["type"], "urn:stepgate:problem:invalid-credentials");
        face.as_object_mut().unwrap().remove("request_id");
        face
    })
    .collect();
    assert!(faces.iter().all(|face| *face == faces[0]), "{faces:?}");
    world.upstream.assert_untouched();
}

#[test]
fn a_key_never_reaches_a_service_on_any_route_in_any_spelling() {
    let world = world();
    let key = add(&world, "loose", &[]);
    let gateway = world.restart().ready();
    for header in ["X-Api-Key", "x_api_key", "X.Api.Key", "X-Loose-Key", "x_loose_key"] {
        get("/public/x").header(header, &key).header("X-Kept", "1").send(&gateway).expect(200);
        let seen = world.upstream.last();
        assert!(!seen.head.contains(&key) && seen.has("x-kept"), "{header}: {}", seen.head);
    }
    for (query, rest) in [
        (format!("api_key={key}"), ""),
        (format!("a=%7e&api_key={key}&b"), "?a=%7e&b"),
        (format!("API-Key={key}&a"), "?a"),
        (format!("api%5Fkey[]={key}&a"), "?a"),
        (format!("a;api_key={key};b=1"), "?a;b=1"),
    ] {
        get(&format!("/public/x?{query}")).send(&gateway).expect(200);
        assert_eq!(world.upstream.last().target(), format!("/public/x{rest}"), "{query}");
    }
    get(&format!("/loose/x?a=1&api_key={key}")).send(&gateway).expect(200);
    assert_eq!(world.upstream.last().target(), "/loose/x?a=1");
    let user = format!("Basic {}", base64(&format!("{key}:")));
    get("/loose/x").header("Authorization", &user).send(&gateway).expect(200);
    assert!(!world.upstream.last().has("authorization"));
    assert_eq!(gateway.metric("stepgate_danger", &["danger_query"]), 1.0);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn one_request_has_one_credential() {
    let world = world();
    let key = add(&world, "scripts", &[]);
    let loose = add(&world, "loose", &[]);
    let gateway = world.restart().ready();
    let token = world.token(json!({}));
    for request in [
        with_key("/scripts/x", &key).header("X-Api-Key", &key),
        with_key("/scripts/x", &key).header("x_api_key", &key),
        with_key("/both/x", &key).bearer(&token),
        with_key("/both/x", "wrong").bearer(&token),
        with_key("/both/x", &key).header("Authorization", "Bearer"),
        with_key("/both/x", &key).header("Authorization", &format!("Bearer\t{token}")),
        with_key("/both/x", "wrong").bearer(&token).header("Connection", "X-Api-Key"),
        with_key("/both/x", &key).header("Authorization", "Bearer a.b.c").header("Connection", "authorization"),
        with_key(&format!("/both/x?access_token={token}"), &key),
        get(&format!("/loose/x?%5Bapi_key%5D={loose}")).header("X-Loose-Key", &loose),
        get(&format!("/loose/x?api_key={loose}")).header("X-Loose-Key", &loose),
        get(&format!("/loose/x?api_key={loose}&api_key={loose}")),
        get("/loose/x").header("X-Loose-Key", &loose).header("Authorization", &format!("Basic {}", base64("key:"))),
    ] {
        refused(&gateway, &request, 400, "invalid_credentials");
    }
    world.upstream.assert_untouched();
    get("/both/x").bearer(&token).send(&gateway).expect(200);
    with_key("/both/x", &key).send(&gateway).expect(200);
    with_key("/both/x", &key).header("Connection", "X-Api-Key").send(&gateway).expect(200);
    assert!(!world.upstream.last().has("x-api-key"));
    // What a route does not take is nothing to it, and does not go on.
    with_key("/tokens/x", &key).bearer(&token).send(&gateway).expect(200);
    assert!(!world.upstream.last().has("x-api-key"));
    with_key("/scripts/x", &key).bearer(&token).send(&gateway).expect(200);
    // One that is wrong is never taken for none.
    refused(&gateway, &with_key("/both/x", "wrong"), 401, "api_key_malformed");
}

#[test]
fn keys_come_and_go_while_the_gateway_runs() {
    let world = world();
    let gateway = world.restart().ready();
    let key = add(&world, "scripts", &[]);
    eventually("the key to work", || (with_key("/scripts/x", &key).send(&gateway).status == 200).then_some(()));
    let id = list(&world, "scripts")[0]["id"].as_str().unwrap().to_owned();
    let revoked = stepgate(world.folder(), &["keys", "revoke", "scripts", &id]);
    assert!(revoked.code == 0 && revoked.stdout.contains("revoked="), "{revoked:?}");
    eventually("the key to end", || (with_key("/scripts/x", &key).send(&gateway).status == 401).then_some(()));
    refused(&gateway, &with_key("/scripts/x", &key), 401, "api_key_revoked");
    assert_eq!(gateway.metric("stepgate_api_keys", &["source=\"scripts\""]), 1.0);
    assert_eq!(gateway.metric("stepgate_config_reloads_total", &[]), 0.0, "the configuration is another matter");

    let short = add(&world, "scripts", &["--expires", "2100-01-01T00:00:00Z"]);
    eventually("the next key", || (with_key("/scripts/x", &short).send(&gateway).status == 200).then_some(()));
    let file = std::fs::read_to_string(world.folder().join("keys/scripts.jsonl")).unwrap();
    world.write("keys/scripts.jsonl", file.replace("2100-01-01", "2020-01-01"));
    eventually("the key to expire", || (with_key("/scripts/x", &short).send(&gateway).status == 401).then_some(()));
    refused(&gateway, &with_key("/scripts/x", &short), 401, "api_key_expired");
}

#[test]
fn a_bad_file_is_refused_at_the_start_and_changes_nothing_later() {
    let world = world();
    let key = add(&world, "scripts", &[]);
    let good = std::fs::read_to_string(world.folder().join("keys/scripts.jsonl")).unwrap();
    let bad = format!("{good}{{\"id\":\"x\"}}\n{}", good.replace("\"id\":\"", "\"id\":\"x"));
    world.write("keys/scripts.jsonl", &bad);
    for command in ["check", "run"] {
        let said = stepgate(world.folder(), &[command, "gateway.yaml"]);
        assert_eq!(said.code, 78, "{said:?}");
        for fault in
            ["scripts.jsonl:2: column 10: missing field `hash`", "scripts.jsonl:3: this key is on line 1 already"]
        {
            assert!(said.stderr.contains(fault), "{fault}: {}", said.stderr);
        }
    }
    let said = stepgate(world.folder(), &["keys", "list", "scripts"]);
    assert!(said.code == 78 && said.stderr.contains("line 2: column 10: missing field"), "{said:?}");

    world.write("keys/scripts.jsonl", &good);
    let gateway = world.restart().ready();
    world.write("keys/scripts.jsonl", &bad);
    eventually("the fault to be told", || {
        let failed = gateway.metric("stepgate_api_key_file_reads_total", &["scripts", "failed"]);
        (failed > 0.0 && gateway.stderr().contains("API keys not read")).then_some(())
    });
    with_key("/scripts/x", &key).send(&gateway).expect(200);
    world.write("keys/scripts.jsonl", "");
    eventually("the keys to go", || (with_key("/scripts/x", &key).send(&gateway).status == 401).then_some(()));
}

#[test]
fn a_key_has_limits_of_its_own_which_must_be_there() {
    let world = world();
    let [key, other] = [(); 2].map(|()| add(&world, "scripts", &["--limit", "per-key"]));
    let free = add(&world, "scripts", &[]);
    let unknown = stepgate(world.folder(), &["keys", "add", "scripts", "--owner", "acme", "--limit", "per-kex"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("not the name of a limit"), "{unknown:?}");
    let gateway = world.restart().ready();
    for _ in 0..2 {
        with_key("/scripts/x", &key).send(&gateway).expect(200);
    }
    let refused = refused(&gateway, &with_key("/scripts/x", &key), 429, "quota_exceeded");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    with_key("/scripts/x", &other).send(&gateway).expect(200);
    for _ in 0..4 {
        with_key("/scripts/x", &free).send(&gateway).expect(200);
    }
    // A configuration without that limit does not fit the keys.
    world.configure(&SOURCES.replace("per-key:", "per-kex:"));
    gateway.signal("HUP");
    eventually("the reload to be refused", || {
        (gateway.metric("stepgate_config_reloads_total", &["refused"]) > 0.0).then_some(())
    });
    eventually("the fault", || gateway.stderr().contains("scripts.jsonl:1: `limits[0]`").then_some(()));
    with_key("/scripts/x", &other).send(&gateway).expect(200);
}

#[test]
fn a_key_alone_deletes_nothing_that_is_guarded() {
    let world = world();
    let key = add(&world, "scripts", &[]);
    let gateway = world.restart().ready();
    refused(&gateway, &delete("/scripts/x").header("X-Api-Key", &key), 401, "amr_insufficient");
    world.upstream.assert_untouched();
}

#[test]
fn last_uses_are_written_at_a_drain_and_shown() {
    let world = world();
    let key = add(&world, "scripts", &[]);
    add(&world, "scripts", &[]);
    let mut gateway = world.restart().ready();
    with_key("/scripts/x", &key).send(&gateway).expect(200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    let used: Vec<bool> = list(&world, "scripts").iter().map(|key| key["last_used"].is_string()).collect();
    assert_eq!(used, [true, false]);
    // The next process goes on from there.
    let mut gateway = world.restart().ready();
    gateway.signal("TERM");
    gateway.wait();
    assert!(list(&world, "scripts")[0]["last_used"].is_string());
    let table = stepgate(world.folder(), &["keys", "list", "scripts"]).stdout;
    assert!(table.contains("never used") && table.lines().count() == 2, "{table}");
}

#[test]
fn keys_of_elsewhere_are_imported_from_standard_input() {
    let world = world();
    let import = |key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        let command = command.args(["keys", "add", "scripts", "--owner", "partner", "--import"]);
        run(command.current_dir(world.folder()), &format!("{key}\n"))
    };
    let theirs = "8f14e45fceea167a5a36dedd4bea2543";
    remember_secret(theirs);
    let imported = import(theirs);
    assert!(imported.code == 0 && imported.stdout.is_empty() && !imported.stderr.contains("warning"), "{imported:?}");
    assert_eq!(list(&world, "scripts")[0]["imported"], true);
    assert!(import("legacy-key-12").stderr.contains("warning: this key is short"));
    let key = add(&world, "scripts", &[]);
    for (key, code, says) in [
        (theirs, 1, "there already"),
        (&*key, 1, "there already"),
        ("short", 2, "can be guessed"),
        ("two words of it", 2, "blanks"),
        (&key[..50], 2, "checksum"),
    ] {
        let said = import(key);
        assert!(said.code == code && said.stderr.contains(says), "{says}: {said:?}");
    }
    let gateway = world.restart().ready();
    with_key("/scripts/x", theirs).send(&gateway).expect(200);
    assert_eq!(world.upstream.last().header("x-auth-subject"), "partner");
    // Where keys were imported, any text could be one.
    refused(&gateway, &with_key("/scripts/x", "8f14e45fceea167a5a36dedd4bea2544"), 401, "api_key_unknown");
}

#[test]
fn the_command_line_says_what_is_wrong_and_keeps_files_to_their_owner() {
    let world = World::new();
    world.configure(SOURCES);
    for (arguments, code, says) in [
        (&["keys", "add", "nobody", "--owner", "a"][..], 2, "there is loose, scripts"),
        (&["keys", "revoke", "scripts", "nobody"], 1, "no key of `scripts` has the id `nobody`"),
        (&["keys", "add", "scripts", "--owner", "a", "--expires", "2020-01-01T00:00:00Z"], 2, "this time is over"),
        (&["keys", "add", "scripts", "--owner", "a", "--expires", "soon"], 2, "`90d`"),
        (&["keys", "add", "scripts", "--owner", "a", "--network", "10.0.0.1/8"], 2, "`networks[0]`"),
        (&["keys", "add", "scripts", "--owner", "a", "--scope", "a b"], 2, "`scopes`"),
        (&["keys", "add", "scripts", "--owner", ""], 2, "`owner`"),
        (&["keys", "list", "scripts", "--config", "none.yaml"], 78, "there is no such file"),
    ] {
        std::fs::create_dir_all(world.folder().join("keys")).unwrap();
        let said = stepgate(world.folder(), arguments);
        assert!(said.code == code && said.stderr.contains(says) && said.stdout.is_empty(), "{arguments:?}: {said:?}");
    }
    let missing = stepgate(world.folder(), &["check", "gateway.yaml"]);
    assert!(missing.code == 78 && missing.stderr.contains("`stepgate keys add scripts` makes it"), "{missing:?}");
    let made = stepgate(world.folder(), &["keys", "add", "scripts", "--owner", "acme", "--expires", "90d", "--json"]);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    assert!(made["key"].as_str().unwrap().starts_with("sgk_") && made["expires"].is_string(), "{made}");
    let mode = |name: &str| world.folder().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keys/scripts.jsonl"), mode("keys/scripts.jsonl.lock")), (0o600, 0o600));
}

#[test]
fn explain_says_what_becomes_of_a_key() {
    let world = world();
    let key = add(&world, "scripts", &["--scope", "read", "--limit", "per-key"]);
    let header = format!("X-Api-Key: {key}");
    let said = stepgate(world.folder(), &["explain", "GET", "/scoped/x", "-H", &header]);
    assert!(said.code == 0 && said.stdout.contains("acme of scripts"), "{said:?}");
    assert!(said.stdout.contains("quotas     per-key") && !said.stdout.contains(&key), "{}", said.stdout);
    let said = stepgate(world.folder(), &["explain", "GET", "/scoped/x", "-H", "X-Api-Key: sgk_x"]);
    assert!(said.code == 1 && said.stdout.contains("api_key_malformed"), "{said:?}");
}

#[test]
fn a_key_over_a_cleartext_connection_from_elsewhere_is_refused() {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpStream, UdpSocket},
    };
    // Nothing is sent: this finds the address by which this machine would speak to others.
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Ok(outward) = outward else { return eprintln!("this machine has no address but loopback") };
    let world = world();
    let key = add(&world, "scripts", &[]);
    let ask = |key: &str| {
        let mut stream = TcpStream::connect((outward.ip(), world.port)).unwrap();
        let head = format!(
            "GET /scripts/x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Api-Key: {key}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let listen = "listeners: [{address: 0.0.0.0:<port>, cleartext: true}]\n";
    let mut gateway = world.start(&format!("{listen}{SOURCES}"));
    for key in [&*key, "wrong"] {
        assert!(ask(key).starts_with("HTTP/1.1 401"), "{}", ask(key));
    }
    gateway.access(|record| record["reason"] == "password_cleartext");
    with_key("/scripts/x", &key).send(&gateway).expect(200);
    gateway.signal("TERM");
    gateway.wait();
    drop(gateway);

    let danger = SOURCES.replace("scripts.jsonl}", "scripts.jsonl, danger_cleartext: true}");
    let gateway = world.start(&format!("{listen}{danger}"));
    assert!(ask(&key).starts_with("HTTP/1.1 200"));
    assert_eq!(gateway.metric("stepgate_danger", &["danger_cleartext"]), 1.0);
}
