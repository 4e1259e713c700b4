//! The authority's JSON API by the real binary: enrolling, stepping up, grants, what survives a crash, and that no answer
//! helps somebody guess. The codes are made by oathtool, which has nothing of ours in it.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Request, World, delete, get, post, remember_secret, run, unix_now};

const ROUTES: &str = "sealing: {key: {file: seal.key}}
authority:
  url: https://gate.example
  path: /second
  acr: {urn:example:acr:mfa: {categories: 2}}
  enrolment: open
  return_to: [https://app.example]
  danger_cleartext: true
assurance:
  strong: {acr: [urn:example:acr:mfa], max_age: 5m}
  bound: {acr: [urn:example:acr:mfa]}
routes:
  - {path: /strong/**, upstream: api, auth: [main], assurance: strong}
  - {path: /bound/**, upstream: api, auth: [main], deletion: {bind: request, assurance: bound}}
";

fn world() -> World {
    let world = World::new();
    world.seal();
    world.configure(ROUTES);
    world
}

fn weak(world: &World, subject: &str) -> String {
    world.token(json!({"sub": subject, "acr": "urn:example:acr:pwd", "amr": ["pwd"], "jti": format!("{subject}-1")}))
}

fn call(gateway: &Gateway, method: &str, path: &str, body: &Value, token: &str) -> Answer {
    let request = Request::new(method, &format!("/second{path}")).host("gate.example").bearer(token);
    request.header("Content-Type", "application/json").body(&body.to_string()).send(gateway)
}

/// The code of an app, so many steps from now.
fn code(secret: &str, steps: i64) -> String {
    let at = format!("@{}", unix_now().checked_add_signed(steps * 30).unwrap());
    let made = Command::new("oathtool").args(["--totp", "--base32", "--now", &at, secret]).output();
    let code = String::from_utf8(made.expect("oathtool runs: ./test setup installs it").stdout).unwrap();
    code.trim().to_owned()
}

/// Enrols an app: its secret, and the recovery codes. The code of the step before is used by it.
fn enrol(gateway: &Gateway, token: &str) -> (String, Vec<String>) {
    let begun = call(gateway, "POST", "/api/v1/factors", &json!({"kind": "totp", "label": "phone"}), token).expect(201);
    let (secret, id) = (begun.json()["secret"].as_str().unwrap().to_owned(), begun.json()["id"].clone());
    remember_secret(&secret);
    let path = format!("/api/v1/factors/{}/confirm", id.as_str().unwrap());
    let enrolled = call(gateway, "POST", &path, &json!({"code": code(&secret, -1)}), token).expect(201).json();
    let codes = enrolled["recovery_codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned());
    (secret, codes.inspect(|code| remember_secret(code)).collect())
}

#[test]
fn a_client_that_only_retries_passes_after_it_stepped_up() {
    let world = world();
    let (token, gateway) = (weak(&world, "alice"), world.restart().ready());
    let (secret, _) = enrol(&gateway, &token);
    let refused = get("/strong/x").bearer(&token).send(&gateway).expect(401).json();
    let level = &refused["step_up"]["level"];
    let challenge =
        refused["step_up"]["challenge"].as_str().unwrap().strip_prefix("https://gate.example/second").unwrap();
    let begun = call(&gateway, "POST", challenge, &json!({"level": level}), &token).expect(201).json();
    assert_eq!(begun["factors"], json!(["totp", "recovery"]));
    let verify = format!("{challenge}/{}/verify", begun["id"].as_str().unwrap());
    let wrong = call(&gateway, "POST", &verify, &json!({"code": "000000"}), &token);
    assert_eq!(wrong.problem(403), "invalid-proof");
    let code = code(&secret, 0);
    let proved = call(&gateway, "POST", &verify, &json!({"code": code}), &token).expect(200).json();
    assert!(proved["elevated_until"].as_u64().unwrap() > unix_now());
    get("/strong/x").bearer(&token).send(&gateway).expect(200);
    call(&gateway, "DELETE", "/api/v1/elevations", &json!({}), &token).expect(204);
    get("/strong/x").bearer(&token).send(&gateway).expect(401);
    // The code is used; by whatever way it is shown again.
    let again = get("/strong/x").bearer(&token).header("Stepgate-OTP", &code).send(&gateway);
    assert_eq!(again.problem(403), "invalid-proof");
}

#[test]
fn a_grant_from_token_exchange_deletes_what_it_was_made_for() {
    let world = world();
    let (token, gateway) = (weak(&world, "alice"), world.restart().ready());
    let (_, codes) = enrol(&gateway, &token);
    let level = delete("/bound/1").bearer(&token).send(&gateway).expect(401).json()["step_up"]["level"].clone();
    let exchange = |code: &str, more: &[(&str, &str)]| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
        form.append_pair("requested_token_type", "urn:stepgate:params:oauth:token-type:grant");
        form.append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:access_token");
        form.append_pair("subject_token", &token);
        form.append_pair("otp", code).append_pair("level", level.as_str().unwrap()).extend_pairs(more);
        let request = post("/second/token", &form.finish()).host("gate.example").bearer(&token);
        request.header("Content-Type", "application/x-www-form-urlencoded").send(&gateway)
    };
    let unbound = exchange(&codes[0], &[]).expect(400).json();
    assert_eq!(unbound["error"], "invalid_request", "what the level has no use for uses no code up");
    let bound = [("method", "DELETE"), ("target", "https://gate.example/bound/1")];
    let granted = exchange(&codes[0], &bound).expect(200).json();
    assert_eq!(granted["token_type"], "N_A");
    let grant = granted["access_token"].as_str().unwrap();
    remember_secret(grant);
    assert_eq!(get("/strong/x").bearer(grant).send(&gateway).status, 401, "it is no bearer token");
    assert_eq!(exchange(&codes[0], &bound).expect(400).json()["error"], "invalid_grant", "the code is used");
    // Enrolled by trust on first use, a minute ago: it deletes nothing yet, though the grant is good.
    let with = delete("/bound/1").host("gate.example").bearer(&token).header("Stepgate-Grant", grant).send(&gateway);
    assert_eq!(with.problem(401), "insufficient-user-authentication");
    assert!(with.json()["detail"].as_str().unwrap().contains("too lately"), "{:?}", with.json());
    world.upstream.assert_untouched();
}

#[test]
fn a_kill_after_an_answer_loses_no_factor_and_revives_no_code() {
    let world = world();
    let (token, mut gateway) = (weak(&world, "alice"), world.restart().ready());
    let (_, codes) = enrol(&gateway, &token);
    for pair in codes.chunks_exact(2) {
        get("/strong/x").bearer(&token).header("Stepgate-OTP", &pair[0]).send(&gateway).expect(200);
        gateway.kill();
        drop(gateway);
        gateway = world.restart().ready();
        let again = get("/strong/x").bearer(&token).header("Stepgate-OTP", &pair[0]).send(&gateway);
        assert_eq!(again.problem(403), "invalid-proof", "revived");
        get("/strong/x").bearer(&token).header("Stepgate-OTP", &pair[1]).send(&gateway).expect(200);
    }
    let me = call(&gateway, "GET", "/api/v1/me", &Value::Null, &token).expect(200).json();
    assert_eq!((me["factors"].as_array().unwrap().len(), &me["recovery_codes_left"]), (1, &json!(0)));
}

#[test]
fn nobody_is_told_whether_a_code_was_wrong_used_locked_or_nobodys() {
    let world = world();
    let (token, nobody, gateway) = (weak(&world, "alice"), weak(&world, "nobody"), world.restart().ready());
    let (_, codes) = enrol(&gateway, &token);
    let with = |token: &str, code: &str| get("/strong/x").bearer(token).header("Stepgate-OTP", code).send(&gateway);
    let face = |answer: Answer| {
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        body.as_object_mut().unwrap().remove("instance");
        let names: Vec<String> = answer.headers.iter().map(|(name, _)| name.clone()).collect();
        (answer.status, body, names)
    };
    with(&token, &codes[0]).expect(200);
    let used = face(with(&token, &codes[0]));
    assert_eq!(face(with(&token, "000000")), used, "wrong");
    assert_eq!(face(with(&nobody, "000000")), used, "no factor");
    assert_eq!(face(with(&nobody, &codes[1])), used, "somebody else's");
    for _ in 0..6 {
        let _ = with(&token, "000000");
    }
    assert_eq!(face(with(&token, &codes[1])), used, "right, and locked");
}

#[test]
fn pages_of_configured_origins_read_answers_and_refusals_and_no_others_do() {
    let world = world();
    let (token, gateway) = (weak(&world, "alice"), world.restart().ready());
    for (origin, may_read) in [("https://app.example", true), ("https://evil.example", false), ("null", false)] {
        let ask = |method: &str, token: Option<&str>| {
            let request = Request::new(method, "/second/api/v1/me").host("gate.example").header("Origin", origin);
            let request = request.header("Access-Control-Request-Method", "GET");
            token.map_or(request.clone(), |token| request.bearer(token)).send(&gateway)
        };
        for (answer, status) in [(ask("GET", Some(&token)), 200), (ask("GET", None), 401), (ask("OPTIONS", None), 204)]
        {
            assert_eq!(answer.status, status, "{origin}");
            assert_eq!(answer.has("access-control-allow-origin"), may_read, "{origin} {status}");
            assert!(!answer.has("access-control-allow-credentials"));
        }
    }
}

#[test]
fn the_description_is_an_openapi_document_for_somebody_elses_validator() {
    let world = world();
    let gateway = world.restart().ready();
    let document = get("/second/openapi.json").host("gate.example").send(&gateway).expect(200);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "openapi-spec-validator is not installed: run `./test setup`");
    let checked = run(Command::new(python).arg(folder.join("validate.py")), &document.text());
    assert_eq!((checked.code, checked.stdout.trim()), (0, ""), "{}", checked.stderr);
    // Every operation of it is there: without a credential it says so, and never that there is no such path.
    let document = document.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let target = format!("/second{}", path.replace("{id}", "x"));
            let answer = Request::new(&method.to_uppercase(), &target).host("gate.example").send(&gateway);
            assert_ne!(answer.status, 404, "{method} {target}");
            assert_ne!(answer.status, 405, "{method} {target}");
        }
    }
}

#[test]
fn what_lets_whoever_knows_it_approve_is_in_no_log() {
    let world = world();
    let gateway = world.restart().ready();
    let token = "bm90LWluLWFueS1sb2ctdGhhdC1pcy1rZXB0LWhlcmUtcGw";
    remember_secret(token);
    let to = |path: &str, body: &Value| post(path, &body.to_string()).header("content-type", "application/json");
    let shown = to("/second/api/v1/push/details", &json!({"token": token})).send(&gateway);
    assert_eq!(shown.problem(403), "invalid-proof");
    let decided = to("/second/api/v1/push", &json!({"token": token, "approve": false})).send(&gateway);
    assert_eq!(decided.problem(403), "invalid-proof");
    let record = gateway.access(|record| record["path"] == "/second/api/v1/push");
    assert_eq!(record["method"], "POST");
    assert!(!gateway.stdout().contains(token) && !gateway.stderr().contains(token));
}
