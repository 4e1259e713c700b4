//! What operators do with second factors: by the admin API, and by the command line with and without a running gateway.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Finished, Gateway, Request, World, delete, eventually, get, post, remember_secret, stepgate, unix_now,
};

const TOKEN: &str = "an-admin-token-of-the-tests";

const YAML: &str = "admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
sealing: {key: {file: seal.key}}
authority:
  url: http://localhost:<port>
routes:
  - {path: /**, upstream: api}
";

/// 32 bytes that are the same for the same number, in base64.
fn sealing_key(number: u8) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode((0..32).map(|at| number.wrapping_mul(31).wrapping_add(at)).collect::<Vec<u8>>())
}

fn world() -> World {
    let world = World::new();
    remember_secret(TOKEN);
    world.write("admin.token", TOKEN);
    world.write("seal.key", sealing_key(1));
    remember_secret(&sealing_key(1));
    world
}

fn admin(request: Request, gateway: &Gateway) -> Answer {
    request.header("Authorization", &format!("Bearer {TOKEN}")).send_to(gateway.admin)
}

fn cli(world: &World, arguments: &[&str]) -> Finished {
    stepgate(world.folder(), arguments)
}

fn invite(world: &World, arguments: &[&str]) -> Finished {
    cli(world, &[&["invite", "--issuer", "main", "--subject", "alice"], arguments].concat())
}

fn printed(finished: &Finished) -> Value {
    assert_eq!(finished.code, 0, "{finished:?}");
    let value: Value = serde_json::from_str(finished.stdout.trim()).unwrap();
    if let Some(code) = value["code"].as_str() {
        remember_secret(code);
    }
    value
}

/// The audit records of a change, with whom they disclose.
fn changes(world: &World) -> Vec<(String, Vec<(String, String)>)> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = fs::read_to_string(world.folder().join("state/audit.jsonl")).unwrap_or_default();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let read = |disclosure: &Value| {
        let parts: Vec<String> =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(disclosure.as_str().unwrap()).unwrap()).unwrap();
        (parts[1].clone(), parts[2].clone())
    };
    records
        .filter(|record| record["kind"] == "change")
        .map(|record| {
            let disclosures = record["disclosures"].as_array().unwrap().iter().map(read).collect();
            (record["change"].as_str().unwrap().to_owned(), disclosures)
        })
        .collect()
}

/// A record is written in its time: nobody waits for it.
fn wait_for_changes(world: &World, count: usize) {
    // The last line may be half written.
    let text = || fs::read_to_string(world.folder().join("state/audit.jsonl")).unwrap_or_default();
    eventually("the audit records", || {
        let text = text();
        (text.ends_with('\n') && text.matches(r#""kind":"change""#).count() == count).then_some(())
    });
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn an_invitation_is_made_by_the_admin_api_and_its_code_is_told_once() {
    let world = world();
    let gateway = world.start(YAML);
    let asked = json!({"issuer": "main", "subject": "alice", "ttl": "2h", "by": "olga"});
    let made = admin(post("/invitations", &asked.to_string()), &gateway).expect(201).json();
    let code = made["code"].as_str().unwrap();
    remember_secret(code);
    assert!(code.len() >= 24, "{code}");
    let in_two_hours = made["expires_at"].as_u64().unwrap() - unix_now();
    assert!((7_100..=7_200).contains(&in_two_hours), "{in_two_hours}");
    let people = admin(get("/subjects"), &gateway).expect(200).json();
    assert_eq!(people, json!({"subjects": [], "next": null}), "who is invited has no factor yet");
    let none = admin(get("/subjects/factors?issuer=main&subject=alice"), &gateway).expect(200).json();
    assert_eq!(none, json!({"factors": []}));
    assert_eq!(gateway.metric("stepgate_authority_changes_total", &["change=\"invited\""]), 1.0);
    wait_for_changes(&world, 1);
    drop(gateway);
    assert_eq!(changes(&world), [("invited".to_owned(), vec![pair("subject", "alice"), pair("operator", "olga")])]);
    let verified = cli(&world, &["audit", "verify", "state/audit.jsonl"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn what_operators_ask_wrongly_is_told_and_changes_nothing() {
    let world = world();
    let gateway = world.start(YAML);
    let alice = "issuer=main&subject=alice";
    for (request, status, word) in [
        (post("/invitations", r#"{"issuer": "mian", "subject": "alice"}"#), 400, "mian"),
        (post("/invitations", r#"{"issuer": "main", "subject": ""}"#), 400, "empty"),
        (post("/invitations", r#"{"issuer": "main", "subject": "alice", "ttl": "soon"}"#), 400, "ttl"),
        (post("/invitations", r#"{"issuer": "main", "subject": "alice", "tttl": "1h"}"#), 400, "tttl"),
        (post("/invitations", "{"), 400, "EOF"),
        (get("/subjects?limit=many"), 400, "limit"),
        (get("/subjects?subject=alice"), 400, "after"),
        (get("/subjects/factors?issuer=main"), 400, "subject"),
        (delete(&format!("/subjects/factors?{alice}")), 404, "no such person"),
        (post("/resets", r#"{"issuer": "main", "subject": "alice"}"#), 404, "no such person"),
        (post("/resets/none/approve", r#"{"by": "otto"}"#), 404, "no such"),
        (post("/unlock", r#"{"issuer": "main"}"#), 400, "subject"),
    ] {
        let answer = admin(request, &gateway).expect(status);
        assert!(answer.text().contains(word), "{word}: {}", answer.text());
    }
    assert_eq!(post("/invitations", "{}").send_to(gateway.admin).status, 401, "nobody asks without the token");
    assert_eq!(admin(post("/resets//approve", "{}"), &gateway).status, 404);
    drop(gateway);
    assert_eq!(changes(&world), []);
}

#[test]
fn the_command_line_asks_the_gateway_that_runs_and_works_on_the_store_where_none_does() {
    let world = world();
    world.configure(YAML);
    let offline = printed(&invite(&world, &["--ttl", "1h", "--by", "olga"]));
    assert!(offline["code"].is_string());
    {
        let gateway = world.restart().ready();
        let online = printed(&invite(&world, &[]));
        assert_ne!(online["code"], offline["code"]);
        assert_eq!(gateway.metric("stepgate_authority_changes_total", &["change=\"invited\""]), 1.0);
        let list = cli(&world, &["factors", "list"]);
        assert_eq!((list.code, list.stdout.as_str()), (0, ""));
        let unlocked = printed(&cli(&world, &["factors", "unlock", "--issuer", "main", "--subject", "alice"]));
        assert_eq!(unlocked, json!({"state": "unlocked"}));
        let wrong = cli(&world, &["invite", "--issuer", "mian", "--subject", "alice"]);
        assert_eq!(wrong.code, 1, "{wrong:?}");
        let nobody = cli(&world, &["factors", "reset", "--issuer", "main", "--subject", "bob"]);
        assert!(nobody.code == 1 && nobody.stderr.contains("no such person"), "{nobody:?}");
        wait_for_changes(&world, 3);
    }
    let told: Vec<String> = changes(&world).into_iter().map(|(change, _)| change).collect();
    assert_eq!(told, ["invited", "invited", "unlocked"], "what is done without a gateway is audited, too");
    let verified = cli(&world, &["audit", "verify", "state/audit.jsonl"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn commands_without_an_authority_or_an_admin_api_say_so() {
    let world = world();
    world.configure("routes:\n  - {path: /**, upstream: api}\n");
    let none = invite(&world, &[]);
    assert!(none.code == 78 && none.stderr.contains("no `authority`"), "{none:?}");
    let _gateway = world.start(&YAML.replace(", token: {file: admin.token}", ""));
    let off = invite(&world, &[]);
    assert!(off.code == 69 && off.stderr.contains("admin API is off"), "{off:?}");
}

#[test]
fn everything_is_sealed_anew_while_the_gateway_serves_and_without_one() {
    let world = world();
    world.write("next.key", sealing_key(2));
    world.write("third.key", sealing_key(3));
    let sealed_by = |keys: &str| world.configure(&YAML.replace("{key: {file: seal.key}}", keys));
    sealed_by("{key: {file: seal.key}}");
    let first = printed(&invite(&world, &[]));
    // With a gateway: its configuration is loaded again, then everything is sealed with the new key.
    let gateway = world.restart().ready();
    sealed_by("{key: {file: next.key}, previous: [{file: seal.key}]}");
    admin(post("/reload", ""), &gateway).expect(202);
    eventually("the next generation", || {
        let state = admin(get("/status"), &gateway).expect(200).json();
        (state["generation"].as_u64() >= Some(2)).then_some(())
    });
    let done = cli(&world, &["rekey"]);
    assert!(done.code == 0 && done.stdout.contains("current key"), "{done:?}");
    let told: Value = serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap();
    assert!(told["complete"] == true && told["resealed"].as_u64() >= Some(1), "{told}");
    drop(gateway);
    // Without one, and the key of before is not needed any more.
    sealed_by("{key: {file: third.key}, previous: [{file: next.key}]}");
    let done = cli(&world, &["rekey"]);
    assert_eq!(done.code, 0, "{done:?}");
    sealed_by("{key: {file: third.key}}");
    assert_ne!(printed(&invite(&world, &[]))["code"], first["code"], "it can be read and written");
    // A key that does not open the store starts nothing.
    sealed_by("{key: {file: seal.key}}");
    let locked_out = invite(&world, &[]);
    assert_eq!(locked_out.code, 78, "{locked_out:?}");
}

/// The code of an app, `steps` of thirty seconds from now.
fn app_code(secret: &str, steps: i64) -> String {
    let at = i64::try_from(unix_now()).unwrap() + steps * 30;
    let out = std::process::Command::new("oathtool")
        .args(["--totp", "--base32", "--now", &format!("@{at}"), secret])
        .output()
        .expect("oathtool does not run: ./test setup installs it");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Enrols an authenticator app for alice by an invitation; its secret.
fn enrol(world: &World, gateway: &Gateway) -> String {
    let code = printed(&invite(world, &[]))["code"].as_str().unwrap().to_owned();
    let token = world.token(json!({}));
    let send = |path: &str, body: Value| {
        post(&format!("/stepgate/api/v1{path}"), &body.to_string())
            .header("Content-Type", "application/json")
            .bearer(&token)
            .send(gateway)
    };
    let begun = send("/factors", json!({"kind": "totp", "right": {"invitation": code}})).expect(201).json();
    let (id, secret) = (begun["id"].as_str().unwrap(), begun["secret"].as_str().unwrap());
    remember_secret(secret);
    let enrolled = send(&format!("/factors/{id}/confirm"), json!({"code": app_code(secret, 0)})).expect(201).json();
    for code in enrolled["recovery_codes"].as_array().unwrap() {
        remember_secret(code.as_str().unwrap());
    }
    secret.to_owned()
}

#[test]
fn a_reset_by_four_eyes_waits_for_another_operator_and_leaves_nothing() {
    let world = world();
    let gateway = world.start(&YAML.replace("routes:", "  four_eyes: true\nroutes:"));
    enrol(&world, &gateway);
    let person = ["--issuer", "main", "--subject", "alice"];
    let factors = |arguments: &[&str]| cli(&world, &[&["factors"], arguments].concat());
    let people = printed(&factors(&["list"]));
    assert_eq!(
        (&people["issuer"], &people["subject"], &people["factors"]),
        (&json!("main"), &json!("alice"), &json!(["totp"]))
    );
    let factor = printed(&factors(&[&["list"][..], &person].concat()));
    assert_eq!(
        (&factor["factor"], &factor["enrolled_by"], &factor["may_delete"]),
        (&json!("totp"), &json!("invitation"), &json!(true))
    );
    assert!(factor.get("secret").is_none() && factor.get("data").is_none(), "{factor}");

    let unnamed = factors(&[&["reset"][..], &person].concat());
    assert!(unnamed.code == 1 && unnamed.stderr.contains("two operators"), "{unnamed:?}");
    let waits = printed(&factors(&[&["reset"][..], &person, &["--by", "olga"]].concat()));
    assert_eq!(waits["state"], "waits");
    let id = waits["id"].as_str().unwrap();
    let approve = |by: &str| factors(&["approve", id, "--by", by]);
    for same in ["olga", " OLGA"] {
        let refused = approve(same);
        assert!(refused.code == 1 && refused.stderr.contains("another operator"), "{refused:?}");
    }
    assert_eq!(printed(&factors(&["list"]))["factors"], json!(["totp"]), "nothing has happened yet");
    assert_eq!(printed(&approve("otto")), json!({"state": "done", "factors": 1}));
    assert_eq!(approve("otto").code, 1, "once");
    assert_eq!(factors(&["list"]).stdout, "");
    let me = get("/stepgate/api/v1/me").bearer(&world.token(json!({}))).send(&gateway).expect(200).json();
    assert_eq!((&me["factors"], &me["recovery_codes_left"]), (&json!([]), &json!(0)));
    eventually("the reset's record", || {
        let text = fs::read_to_string(world.folder().join("state/audit.jsonl")).unwrap();
        (text.ends_with('\n') && text.contains(r#""change":"reset""#)).then_some(())
    });
    let told: Vec<(String, Vec<(String, String)>)> = changes(&world);
    let by = |change: &str| told.iter().find(|(known, _)| known == change).unwrap().1.clone();
    assert_eq!(by("reset_asked"), [pair("subject", "alice"), pair("operator", "olga")]);
    assert_eq!(by("reset"), [pair("subject", "alice"), pair("operator", "otto")]);
}
