//! What is left of a deletion at its end: a certificate that an auditor verifies offline, with our command and with somebody else's
//! library, an audit log that is whole, and nothing of the person in either.

use std::{fs, path::PathBuf, process::Command};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    erasure::{PLAIN, Plan, Scene, ask, ask_about},
    harness::{Finished, Gateway, eventually, remember_secret, run, stepgate},
};

/// A deletion that begins at once, and one that is held.
const AT_ONCE: &str = "        grace: none\n        may: {see: [admin:accounts]}\n";
const LATER: &str = "        grace: 30d\n        may: {see: [admin:accounts]}\n";
const TOKEN: &str = "an-admin-token-of-the-tests";
const AUDIT: &str = "state/audit.jsonl";
const KEY: &str = "state/audit.jsonl.pub";

/// Plans that go to their end at once, and an admin listener.
fn start(scene: &Scene, lines: &'static str) -> Gateway {
    remember_secret(TOKEN);
    scene.world.write("admin.token", TOKEN);
    scene.start(Plan { lines, sections: "admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}\n", ..PLAIN })
}

/// Has somebody's data erased by whoever has the token, and waits for the end; the deletion's number.
fn erased(scene: &Scene, gateway: &Gateway, subject: &str, token: &str) -> String {
    let asked = ask(gateway, subject, token).expect(202).json();
    let admin = scene.token_with(json!({"sub": "root", "scope": "admin:accounts"}));
    eventually("the end", || (ask_about(gateway, &asked, &admin)["state"] == "erased").then_some(()));
    asked["id"].as_str().unwrap().to_owned()
}

/// The certificate, once it is one: the last event is in the chain a moment after the end.
fn certificate(scene: &Scene, id: &str) -> String {
    eventually("the certificate", || {
        let printed = stepgate(scene.world.folder(), &["erasures", "report", id]);
        assert_eq!(printed.code, 0, "{printed:?}");
        (payload(&printed.stdout)["type"] == "certificate").then_some(printed.stdout)
    })
}

fn payload(jws: &str) -> Value {
    let payload = jws.trim().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn verify(scene: &Scene, files: &[&str]) -> Finished {
    stepgate(scene.world.folder(), &[&["audit", "verify", "--key", KEY, "--certificate", "cert"], files].concat())
}

/// A text with all that is encoded in it.
fn readable(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    let decoded = words.filter_map(|word| String::from_utf8(URL_SAFE_NO_PAD.decode(word).ok()?).ok());
    std::iter::once(text.to_owned()).chain(decoded).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_auditor_verifies_offline_who_was_erased_by_whom_and_how_and_learns_no_name() {
    let scene = Scene::new();
    let gateway = start(&scene, AT_ONCE);
    let admin = scene.token_with(json!({"sub": "root", "scope": "admin:accounts"}));
    // Somebody else asks for the one, and the other one for themselves, after an attempt that was refused.
    ask(&gateway, "alice", &scene.world.token(json!({"sub": "alice"}))).problem(401);
    let alice = erased(&scene, &gateway, "alice", &scene.token("alice"));
    let carol = erased(&scene, &gateway, "Carol", &admin);
    let read = || fs::read_to_string(scene.world.folder().join(AUDIT)).unwrap();
    for (id, party) in [(&alice, json!({"party": "owner"})), (&carol, json!("root"))] {
        let printed = certificate(&scene, id);
        let told = payload(&printed);
        assert_eq!((&told["state"], &told["id"]), (&json!("erased"), &json!(id)));
        assert!(told["requested_by"] == party || told["requested_by"]["name"] == party, "{told}");
        assert_eq!(told["scope"]["summary"], "Your account");
        assert_eq!(told["calls"].as_array().unwrap().len(), 3);
        assert!(told["calls"].as_array().unwrap().iter().all(|call| call["status"] == 204), "{told}");
        assert_eq!(told["probes"][0]["before"]["there"], true, "{told}");
        assert!(told["probes"][0]["looks"].as_array().unwrap().iter().all(|look| look["seen"]["there"] == false));
        assert_eq!(told["proof"]["acr"], "urn:example:acr:mfa", "{told}");
        scene.world.write("cert", &printed);
        let good = verify(&scene, &[AUDIT]);
        assert_eq!(good.code, 0, "{good:?}");
        assert!(good.stdout.contains("of its records are in the chain"), "{good:?}");
        assert_eq!(verify(&scene, &[]).code, 0, "the signature alone");
        for name in ["alice", "Carol"] {
            assert!(!readable(&printed).contains(name), "{name} is in the certificate");
        }
        somebody_elses_library_verifies(&scene, printed.trim());
    }
    let log = readable(&read());
    for name in ["alice", "Carol"] {
        assert!(!log.contains(name), "{name} is in the audit log: {log}");
    }
    assert!(log.contains("root"), "who asked for another's stays");
    let whole = stepgate(scene.world.folder(), &["audit", "verify", AUDIT, "--key", KEY]);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(whole.stdout.contains("erased") && !whole.stdout.contains("by no deletion"), "{whole:?}");
    drop(gateway);
    let offline = certificate(&scene, &alice);
    scene.world.write("cert", &offline);
    assert_eq!(verify(&scene, &[AUDIT]).code, 0, "and without a gateway that runs");
}

fn somebody_elses_library_verifies(scene: &Scene, jws: &str) {
    let key = fs::read_to_string(scene.world.folder().join(KEY)).unwrap();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/idp");
    assert!(folder.join("node_modules").is_dir(), "jose is not installed: run `./test setup`");
    let script = "import {compactVerify, importJWK} from 'jose';
        const {jws, x} = JSON.parse(process.argv[1]);
        const key = await importJWK({kty: 'OKP', crv: 'Ed25519', x}, 'EdDSA');
        const {payload, protectedHeader} = await compactVerify(jws, key, {algorithms: ['EdDSA']});
        console.log(JSON.stringify({payload: JSON.parse(new TextDecoder().decode(payload)), protectedHeader}));";
    let ask = |jws: &str| {
        let given = json!({"jws": jws, "x": key.trim()}).to_string();
        run(Command::new("node").current_dir(&folder).args(["--input-type=module", "-e", script, &given]), "")
    };
    let good = ask(jws);
    assert_eq!(good.code, 0, "{}", good.stderr);
    let told: Value = serde_json::from_str(&good.stdout).unwrap();
    assert_eq!(
        (&told["payload"], &told["protectedHeader"]["typ"]),
        (&payload(jws), &json!("stepgate-erasure-certificate"))
    );
    let (head, rest) = jws.split_once('.').unwrap();
    assert_ne!(ask(&format!("{head}.A{rest}")).code, 0, "another text");
}

#[test]
fn a_forged_certificate_another_ones_and_a_log_that_was_touched_are_found() {
    let scene = Scene::new();
    let mut gateway = start(&scene, AT_ONCE);
    let alice = erased(&scene, &gateway, "alice", &scene.token("alice"));
    let bob = erased(&scene, &gateway, "bob", &scene.token("bob"));
    let (alice, bob) = (certificate(&scene, &alice), certificate(&scene, &bob));
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), 0);
    let log = fs::read_to_string(scene.world.folder().join(AUDIT)).unwrap();
    let refused = |cert: &str, log: &str, what: &str| {
        scene.world.write("cert", cert);
        scene.world.write("log", log);
        let finished = verify(&scene, &["log"]);
        assert_eq!(finished.code, 1, "{what}: {finished:?}");
        assert!(!finished.stderr.contains("panicked"), "{what}");
    };
    // A certificate of the one with the other's name on it: nobody but the key's owner can make it.
    let (head, rest) = alice.trim().split_once('.').unwrap();
    let (_, theirs) = bob.trim().split_once('.').unwrap();
    let (payload, signature) = (rest.split_once('.').unwrap().0, theirs.split_once('.').unwrap().1);
    refused(&format!("{head}.{payload}.{signature}"), &log, "grafted");
    refused("nonsense", &log, "nonsense");
    let without = |event: &str| -> String {
        let found = log.lines().position(|line| line.contains(event)).unwrap();
        log.lines().enumerate().filter(|(at, _)| *at != found).map(|(_, line)| format!("{line}\n")).collect()
    };
    refused(&alice, &without("\"event\":\"step_done\""), "a step's record is gone");
    refused(&alice, &log.replacen("\"status\":204", "\"status\":404", 1), "a status was changed");
    let half: String = log.lines().take(6).map(|line| format!("{line}\n")).collect();
    refused(&alice, &half, "truncated");
    refused(&alice, "", "no log at all");
    scene.world.write("cert", &alice);
    assert_eq!(verify(&scene, &["log", AUDIT]).code, 0, "beside the right one");
    let other = Scene::new();
    let second = start(&other, AT_ONCE);
    let theirs = erased(&other, &second, "alice", &other.token("alice"));
    let theirs = certificate(&other, &theirs);
    refused(&theirs, &log, "another gateway's, by its own key");
}

#[test]
fn what_is_under_way_and_what_was_cancelled_have_their_reports() {
    let scene = Scene::new();
    let gateway = start(&scene, LATER);
    let token = scene.token("alice");
    let asked = ask(&gateway, "alice", &token).expect(202).json();
    let id = asked["id"].as_str().unwrap();
    let report = || {
        let printed = stepgate(scene.world.folder(), &["erasures", "report", id]);
        assert_eq!(printed.code, 0, "{printed:?}");
        scene.world.write("cert", &printed.stdout);
        payload(&printed.stdout)
    };
    let told = report();
    assert_eq!((&told["type"], &told["state"]), (&json!("report"), &json!("held")), "{told}");
    assert_eq!(verify(&scene, &[AUDIT]).code, 0);
    let cancelled = stepgate(scene.world.folder(), &["erasures", "cancel", id, "--by", "olga"]);
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let told = eventually("the certificate", || Some(report()).filter(|told| told["type"] == "certificate"));
    assert_eq!((&told["state"], &told["decisions"][0]["by"]["name"]), (&json!("cancelled"), &json!("olga")), "{told}");
    let good = verify(&scene, &[AUDIT]);
    assert_eq!(good.code, 0, "{good:?}");
    assert_eq!(stepgate(scene.world.folder(), &["erasures", "report", "0123456789abcdef0123456789abcdef"]).code, 1);
}
