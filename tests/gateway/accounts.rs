//! Accounts that the authority keeps: from registering by mail to a token that ends at once when its session does, by the real
//! gateway; what its tokens are is judged by a library that nobody here wrote.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::harness::{
    Answer, Gateway, People, Request, World, app_code, delete, eventually, get, post, remember_secret, run, stepgate,
};

const PASSWORD: &str = "ein kleines grünes Pferd";
const ROUTES: &str = "sealing: {key: {file: seal.key}}
authority:
  url: https://gate.example
  path: /second
  mode: accounts
  enrolment: open
  danger_cleartext: true
  accounts:
    audience: https://api.example
    registration: REGISTRATION
    scopes: ['items:read']
assurance:
  strong: {factors: [totp], max_age: 1h}
routes:
  - {path: /plain, upstream: api, auth: [authority], scopes: ['items:read']}
  - {path: /strong, upstream: api, auth: [authority], assurance: strong}
";

/// A mail server that takes whatever comes, and shows it.
struct Mailbox {
    port: u16,
    letters: Arc<Mutex<Vec<String>>>,
}

impl Mailbox {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let letters = Arc::new(Mutex::new(Vec::new()));
        let kept = letters.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = kept.clone();
                thread::spawn(move || drop(converse(&stream.unwrap(), &kept)));
            }
        });
        Self { port, letters }
    }

    /// The code of the last letter to an address.
    fn code_for(&self, address: &str) -> String {
        eventually("a letter with a code", || {
            let letters = self.letters.lock().unwrap();
            let letter =
                letters.iter().rev().find(|letter| letter.contains(address) && letter.contains("Your code is "))?;
            Some(letter.split("Your code is ").nth(1)?.split_whitespace().next()?.to_owned())
        })
    }
}

fn converse(stream: &std::net::TcpStream, kept: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut lines, mut to) = (BufReader::new(stream).lines(), stream);
    to.write_all(b"220 mail\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "DATA" => {
                to.write_all(b"354 go on\r\n")?;
                let mut letter = String::new();
                for line in lines.by_ref() {
                    let line = line?;
                    if line == "." {
                        break;
                    }
                    letter.push_str(&line);
                    letter.push('\n');
                }
                kept.lock().unwrap().push(letter);
                to.write_all(b"250 kept\r\n")?;
            }
            "QUIT" => return to.write_all(b"221 bye\r\n"),
            _ => to.write_all(b"250 mail\r\n")?,
        }
    }
    Ok(())
}

fn world(registration: &str, more: &str) -> World {
    let world = World::new();
    world.seal();
    world.configure(&format!("{}{more}", ROUTES.replace("REGISTRATION", registration)));
    world
}

/// One with an account of alice's, by an invitation.
fn with_alice() -> (World, Gateway) {
    with_alice_by("ES256")
}

/// The same with tokens that are signed so.
fn with_alice_by(algorithm: &str) -> (World, Gateway) {
    let world = world(&format!("invitation\n    algorithm: {algorithm}"), "");
    let people = People::of(&world);
    let invitation = people.invite_account();
    drop(people);
    let gateway = world.restart().ready();
    let wanted = json!({"name": "alice", "password": PASSWORD, "invitation": invitation});
    call(&gateway, "/registrations", &wanted).expect(201);
    (world, gateway)
}

fn call(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    json_to(&format!("/second/api/v1/accounts{path}"), body).send(gateway)
}

fn json_to(path: &str, body: &Value) -> Request {
    post(path, &body.to_string()).header("Content-Type", "application/json")
}

fn sign_in(gateway: &Gateway, name: &str, password: &str) -> Answer {
    call(gateway, "/sign-in", &json!({"name": name, "password": password}))
}

/// Tokens, none of which a log may hold.
fn tokens(answer: Answer) -> (String, String) {
    let body = answer.expect(200).json();
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    let (access, refresh) = (text("access_token"), text("refresh_token"));
    [&access, &refresh].into_iter().for_each(|token| remember_secret(token));
    (access, refresh)
}

fn refresh(gateway: &Gateway, token: &str) -> Answer {
    post("/second/token", &format!("grant_type=refresh_token&refresh_token={token}"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .send(gateway)
}

#[test]
fn from_the_mail_to_a_second_factor_to_a_stolen_token_that_ends_it_all() {
    let mail = Mailbox::open();
    let notify = format!(
        "notify: {{mail: {{server: 'smtp://127.0.0.1:{}', danger_cleartext: true, from: gate@example.org}}}}\n",
        mail.port
    );
    let world = world("open", &notify);
    let gateway = world.restart().ready();
    remember_secret(PASSWORD);
    let wanted = json!({"name": "alice", "email": "alice@example.org", "password": PASSWORD});
    let asked = call(&gateway, "/registrations", &wanted).expect(202).json();
    assert_eq!(sign_in(&gateway, "alice", PASSWORD).problem(401), "invalid-sign-in");
    let code = mail.code_for("alice@example.org");
    remember_secret(&code);
    call(&gateway, "/registrations/confirm", &json!({"registration": asked["registration"], "code": code})).expect(201);

    let (access, _) = tokens(sign_in(&gateway, "alice", PASSWORD));
    get("/plain").bearer(&access).send(&gateway).expect(200);
    assert_eq!(get("/strong").bearer(&access).send(&gateway).problem(401), "insufficient-user-authentication");

    // An authenticator app, and from then on no token without it.
    let wanted = json!({"kind": "totp", "label": "phone"});
    let begun = json_to("/second/api/v1/factors", &wanted).bearer(&access).send(&gateway).expect(201).json();
    let secret = begun["secret"].as_str().unwrap();
    let confirm = format!("/second/api/v1/factors/{}/confirm", begun["id"].as_str().unwrap());
    json_to(&confirm, &json!({"code": app_code(secret, 0)})).bearer(&access).send(&gateway).expect(201);
    let asked = sign_in(&gateway, "alice", PASSWORD).expect(200).json();
    assert_eq!(asked["status"], "second_factor");
    assert!(asked.get("access_token").is_none(), "{asked}");
    assert_eq!(asked["challenge"]["factors"].as_array().unwrap()[0], "totp");
    let verify = |code: &str| json!({"ticket": asked["ticket"], "id": asked["challenge"]["id"], "code": code});
    assert_eq!(call(&gateway, "/sign-in/verify", &verify("000000")).problem(403), "invalid-proof");
    let (access, first) = tokens(call(&gateway, "/sign-in/verify", &verify(&app_code(secret, 1))));
    get("/strong").bearer(&access).send(&gateway).expect(200);
    // The token has all that the deletion guard asks for, but by a factor of a moment ago that nobody vouched for.
    let refused = delete("/plain").bearer(&access).send(&gateway);
    assert_eq!(refused.problem(401), "insufficient-user-authentication");
    assert!(refused.json()["detail"].as_str().unwrap().contains("too lately"), "{:?}", refused.json());

    // Renewed, and then the token before comes again.
    let (renewed, second) = tokens(refresh(&gateway, &first));
    get("/strong").bearer(&renewed).send(&gateway).expect(200);
    let refused = refresh(&gateway, &first).expect(400).json();
    assert_eq!(refused["error"], "invalid_grant");
    for token in [&access, &renewed] {
        assert_eq!(get("/plain").bearer(token).send(&gateway).problem(401), "invalid-token", "at once");
    }
    assert_eq!(refresh(&gateway, &second).expect(400).json()["error"], "invalid_grant");
    eventually("a letter about it", || {
        mail.letters.lock().unwrap().iter().any(|letter| letter.contains("was ended")).then_some(())
    });
}

#[test]
fn unknown_wrong_and_locked_are_told_by_one_answer() {
    let (_world, gateway) = with_alice();
    let mut told = Vec::new();
    for (name, password) in [("nobody", PASSWORD), ("alice", "something else"), ("alice", "something else")] {
        told.push(sign_in(&gateway, name, password));
    }
    for _ in 0..4 {
        told.push(sign_in(&gateway, "alice", "something else"));
    }
    told.push(sign_in(&gateway, "alice", PASSWORD));
    let bare = |answer: &Answer| {
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        (answer.status, body, answer.has("retry-after"), answer.all("www-authenticate").join(","))
    };
    let first = bare(&told[0]);
    assert_eq!((first.0, &first.1["title"]), (401, &json!("Invalid sign-in")));
    assert!(told.iter().all(|answer| bare(answer) == first), "{:?}", told.iter().map(bare).collect::<Vec<_>>());
}

#[test]
fn sessions_outlive_a_crash_and_so_does_their_end() {
    let (world, mut gateway) = with_alice();
    let (_, kept) = tokens(sign_in(&gateway, "alice", PASSWORD));
    let (access, ended) = tokens(sign_in(&gateway, "alice", PASSWORD));
    Request::new("DELETE", "/second/api/v1/accounts/session").bearer(&access).send(&gateway).expect(204);
    assert_eq!(get("/plain").bearer(&access).send(&gateway).problem(401), "invalid-token");
    gateway.kill();
    drop(gateway);
    let gateway = world.restart().ready();
    assert_eq!(get("/plain").bearer(&access).send(&gateway).problem(401), "invalid-token");
    assert_eq!(refresh(&gateway, &ended).expect(400).json()["error"], "invalid_grant");
    let (access, _) = tokens(refresh(&gateway, &kept));
    get("/plain").bearer(&access).send(&gateway).expect(200);
    assert_eq!(
        refresh(&gateway, &kept).expect(400).json()["error"],
        "invalid_grant",
        "once, before the crash or after"
    );
}

#[test]
fn a_token_is_verified_by_an_independent_library_that_finds_everything_by_itself() {
    ["ES256", "EdDSA"].into_iter().for_each(is_verified_by_an_independent_library);
}

fn is_verified_by_an_independent_library(algorithm: &str) {
    let (_world, gateway) = with_alice_by(algorithm);
    let (access, _) = tokens(sign_in(&gateway, "alice", PASSWORD));
    get("/plain").bearer(&access).send(&gateway).expect(200);
    let metadata = get("/.well-known/oauth-authorization-server/second").send(&gateway).expect(200).json();
    assert_eq!(metadata["issuer"], "https://gate.example/second");
    assert_eq!(metadata["token_endpoint"], "https://gate.example/second/token");
    assert_eq!(get("/.well-known/oauth-authorization-server").send(&gateway).status, 404);
    assert_eq!(
        get("/second/.well-known/openid-configuration").send(&gateway).status,
        404,
        "OpenID Connect is not claimed"
    );
    let keys = metadata["jwks_uri"].as_str().unwrap().strip_prefix("https://gate.example").unwrap();
    let keys = get(keys).send(&gateway).expect(200);
    assert_eq!(keys.header("access-control-allow-origin"), "*");
    assert!(!keys.text().contains("\"d\""), "public halves alone");

    let script = "import {jwtVerify, createLocalJWKSet} from 'jose';
        const {keys, token, algorithm} = JSON.parse(process.argv[1]);
        const {payload, protectedHeader} = await jwtVerify(token, createLocalJWKSet(keys), {
            issuer: 'https://gate.example/second', audience: 'https://api.example', typ: 'at+jwt', algorithms: [algorithm],
            requiredClaims: ['iss', 'exp', 'aud', 'sub', 'client_id', 'iat', 'jti', 'auth_time'], maxTokenAge: '1m',
        });
        console.log(JSON.stringify({payload, protectedHeader}));";
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/idp");
    assert!(folder.join("node_modules").is_dir(), "jose is not installed: run `./test setup`");
    let given = json!({"keys": keys.json(), "token": access, "algorithm": algorithm}).to_string();
    let finished =
        run(Command::new("node").current_dir(folder).args(["--input-type=module", "-e", script, &given]), "");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(told["payload"]["scope"], "items:read");
    assert_eq!(told["payload"]["amr"], json!(["pwd"]));
    assert_eq!(told["protectedHeader"]["typ"], "at+jwt");
    assert_eq!(told["protectedHeader"]["alg"], algorithm);
}

#[test]
fn the_description_has_the_operations_of_accounts_and_somebody_elses_validator_reads_it() {
    let (_world, gateway) = with_alice();
    let document = get("/second/openapi.json").send(&gateway).expect(200);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "openapi-spec-validator is not installed: run `./test setup`");
    let checked = run(Command::new(python).arg(folder.join("validate.py")), &document.text());
    assert_eq!((checked.code, checked.stdout.trim()), (0, ""), "{}", checked.stderr);
    let document = document.json();
    for (path, method) in [("/api/v1/accounts/sign-in", "post"), ("/api/v1/accounts/sessions/{id}", "delete")] {
        assert!(document["paths"][path][method].is_object(), "{path}");
    }
}

/// bcrypt of "abcdefghijklmnopqrstuvwxyz", from jBCrypt's tests.
const BCRYPT: &str = "$2a$10$fVH8e28OQRj9tqiDXs1e1uxpsjN0c7II7YPKXua2NAKYvM6iQk7dq";

#[test]
fn accounts_are_imported_with_a_gateway_and_without_all_or_none() {
    let world = world("closed", "admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}\n");
    world.write("admin.token", "0123456789abcdef0123456789abcdef");
    world.write("one.csv", format!("name,email,hash\nalice,alice@example.org,{BCRYPT}\nberta,nowhere,{BCRYPT}\n"));
    world.write("two.jsonl", format!("{}\n", json!({"name": "carla", "hash": BCRYPT})));
    let import = |arguments: &[&str]| stepgate(world.folder(), &[&["users", "import"], arguments].concat());
    let refused = import(&["one.csv"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stdout.contains("one.csv:3: this is no mail address"), "{refused:?}");
    let done = import(&["one.csv", "--skip-bad"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("1 accounts made, 0 were there already"), "{done:?}");

    let gateway = world.restart().ready();
    let again = import(&["one.csv", "--skip-bad"]);
    assert!(again.stdout.contains("0 accounts made, 1 were there already"), "{again:?}");
    let done = import(&["two.jsonl"]);
    assert!(done.stdout.contains("1 accounts made"), "{done:?}");
    for name in ["alice", "Alice@example.org", "carla"] {
        let (access, _) = tokens(sign_in(&gateway, name, "abcdefghijklmnopqrstuvwxyz"));
        get("/plain").bearer(&access).send(&gateway).expect(200);
    }
    assert_eq!(call(&gateway, "/registrations", &json!({"email": "d@example.org", "password": PASSWORD})).status, 403);
}
