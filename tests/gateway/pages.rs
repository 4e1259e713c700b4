//! The authority's pages in a real browser: headless Chromium with its virtual authenticator, driven by tests/browser. Every page
//! on the way is scanned for what people with disabilities need, in light and dark; what breaks the content security policy is a
//! failure.

use std::{path::PathBuf, process::Command};

use serde_json::json;

use crate::harness::{Authority, Gateway, World, encode, lease_port, post, run, tools::browse};

const ADMIN_TOKEN: &str = "an-admin-token-of-the-pages";

const YAML: &str = "listeners:
  - {address: 127.0.0.1:<tls>, tls: {certificates: [{cert: server.pem, key: server.key}]}}
admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
sealing: {key: {file: sealing.key}}
authority:
  url: https://localhost:<tls>
  issuers: [main]
  factors:
    passkey: {rp_id: localhost, rp_name: Example Bank}
    totp: {}
    recovery: {}
  return_to: ['http://127.0.0.1:<upstream>']
assurance:
  strong: {categories: 2, max_age: 5m}
routes:
  - {path: /strong, upstream: api, auth: [main], assurance: strong}
";

/// Accounts, and a mail server that the scenario is.
const ACCOUNTS: &str = "listeners:
  - {address: 127.0.0.1:<tls>, tls: {certificates: [{cert: server.pem, key: server.key}]}}
admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
notify: {mail: {server: 'smtp://127.0.0.1:MAIL', danger_cleartext: true, from: gate@example.org}}
sealing: {key: {file: sealing.key}}
authority:
  url: https://localhost:<tls>
  mode: accounts
  enrolment: open
  factors:
    passkey: {rp_id: localhost, rp_name: Example Bank}
    totp: {}
    recovery: {}
  return_to: ['http://127.0.0.1:<upstream>']
  accounts: {audience: https://api.example, registration: open}
routes:
  - {path: /plain, upstream: api, auth: [authority]}
";

/// Codes that are sent, and approvals: the scenario is the mail server, the webhook, and the other device.
const SENT: &str = "listeners:
  - {address: 127.0.0.1:<tls>, tls: {certificates: [{cert: server.pem, key: server.key}]}}
admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
notify:
  mail: {server: 'smtp://127.0.0.1:MAIL', danger_cleartext: true, from: gate@example.org}
  webhooks:
    sms: {url: 'http://127.0.0.1:HOOK/', secret: {file: hook.secret}}
sealing: {key: {file: sealing.key}}
authority:
  url: https://localhost:<tls>
  issuers: [main]
  elevation: by_page
  send_limit: 30/10m
  factors:
    passkey: {rp_id: localhost, rp_name: Example Bank}
    totp: {}
    email: {}
    webhook: {webhook: sms}
    push: {webhook: sms}
    recovery: {}
  return_to: ['http://127.0.0.1:<upstream>']
assurance:
  strong: {categories: 2, max_age: 5m}
routes:
  - {path: /strong, upstream: api, auth: [main], assurance: strong}
  - {path: /once/**, upstream: api, auth: [main], assurance: strong, deletion: {assurance: strong}}
";

fn start() -> (World, Gateway, Authority) {
    start_as(YAML)
}

fn start_as(yaml: &str) -> (World, Gateway, Authority) {
    let world = World::new();
    let authority = Authority::new("the pages' authority");
    authority.server(world.folder(), "server", &["localhost"]);
    world.write("ca.pem", &authority.pem);
    world.write("admin.token", ADMIN_TOKEN);
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).unwrap();
    world.write("sealing.key", encode(&key));
    world.write("hook.secret", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let gateway = world.start(yaml);
    (world, gateway, authority)
}

/// An invitation of an operator's.
fn invite(gateway: &Gateway, subject: &str) -> String {
    let asked = json!({"issuer": "main", "subject": subject, "by": "help desk"}).to_string();
    let request = post("/invitations", &asked).header("Authorization", &format!("Bearer {ADMIN_TOKEN}"));
    request.send_to(gateway.admin).expect(201).json()["code"].as_str().unwrap().to_owned()
}

/// Runs a scenario of tests/browser.
fn play(scenario: &str, shots: Option<&str>) {
    play_in(scenario, YAML, shots);
}

fn play_in(scenario: &str, yaml: &str, shots: Option<&str>) {
    let (mail, hook) = (lease_port(), lease_port());
    let yaml = yaml.replace("MAIL", &mail.to_string()).replace("HOOK", &hook.to_string());
    let (world, gateway, _authority) = start_as(&yaml);
    let says = json!({
        "path": "/stepgate",
        "app": format!("http://127.0.0.1:{}", world.upstream.port),
        "admin_token": ADMIN_TOKEN,
        "shots": shots,
        "mail": mail,
        "hook": hook,
        "store": world.folder().join("state/stepgate.db"),
        "tokens": {
            "alice": world.token(json!({"jti": "alice-1"})),
            "alice2": world.token(json!({"jti": "alice-2"})),
            "bob": world.token(json!({"sub": "bob"})),
        },
    });
    browse(&world, scenario, says);
    drop(gateway);
}

#[test]
fn accounts_are_made_signed_in_and_recovered_and_apps_get_codes_that_are_bound_to_them() {
    let shots = std::env::var("STEPGATE_SHOTS").ok();
    play_in("accounts", ACCOUNTS, shots.as_deref());
}

#[test]
fn codes_that_are_sent_and_approvals_elevate_make_grants_and_give_a_right_to_more() {
    play_in("sent", SENT, std::env::var("STEPGATE_SHOTS").ok().as_deref());
}

#[test]
fn a_passkey_is_enrolled_shown_handed_over_looked_after_and_removed_in_a_browser() {
    let shots = std::env::var("STEPGATE_SHOTS").ok();
    play("journey", shots.as_deref());
}

#[test]
fn an_authenticator_app_and_recovery_codes_need_no_script_and_no_mouse() {
    play("no-script", None);
}

#[test]
fn other_sites_other_people_and_old_numbers_get_nowhere() {
    play("abuse", None);
}

#[test]
fn yubicos_library_enrols_a_passkey_and_steps_up_by_the_json_api() {
    let (world, gateway, _authority) = start();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/webauthn");
    let python = folder.join(".venv/bin/python");
    assert!(python.is_file(), "fido2 is not installed: run `./test setup`");
    let says = json!({
        "base": format!("https://localhost:{}", world.tls),
        "path": "/stepgate",
        "ca": world.folder().join("ca.pem"),
        "token": world.token(json!({})),
        "invitation": invite(&gateway, "alice"),
        "route": "/strong",
        "level": "strong",
    });
    let finished = run(Command::new(python).arg(folder.join("client.py")).arg(says.to_string()), "");
    assert!(finished.code == 0 && finished.stdout.ends_with("ok\n"), "{}{}", finished.stdout, finished.stderr);
}
