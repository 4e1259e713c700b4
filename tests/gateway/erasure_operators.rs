//! What operators do with account deletions: by the admin API, and by the command line with and without a running gateway.

use std::{
    collections::BTreeMap,
    io::Write,
    net::TcpStream,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::harness::{
    Answer, Finished, Gateway, Recorder, Request, World, delete, eventually, get, post, remember_secret, stepgate,
    unix_now,
};

const TOKEN: &str = "an-admin-token-of-the-tests";

/// A service that holds an account for everybody until it is deleted, and may be told to refuse.
struct Legacy {
    recorder: Recorder,
    /// What deletions are answered with, and whether reading says that nothing is there.
    mood: Arc<Mutex<(u16, bool)>>,
}

impl Legacy {
    fn new() -> Self {
        let mood = Arc::new(Mutex::new((204, false)));
        let (told, gone) = (mood.clone(), Mutex::new(BTreeMap::new()));
        let recorder = Recorder::with(move |request, stream: &mut TcpStream| {
            let (status, is_empty) = *told.lock().unwrap();
            let (method, path) = (request.line().split(' ').next().unwrap().to_owned(), request.target().to_owned());
            let mut gone = gone.lock().unwrap();
            let status = match method.as_str() {
                "DELETE" => {
                    gone.insert(path, status < 300);
                    status
                }
                _ if is_empty || gone.get(&path) == Some(&true) => 404,
                _ => 200,
            };
            write!(stream, "HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n").is_ok()
        });
        Self { recorder, mood }
    }

    fn answers_deletions_with(&self, status: u16) {
        self.mood.lock().unwrap().0 = status;
    }

    fn is_empty(&self, is_empty: bool) {
        self.mood.lock().unwrap().1 = is_empty;
    }

    fn deletions(&self) -> usize {
        self.recorder.requests().iter().filter(|request| request.line().starts_with("DELETE ")).count()
    }
}

/// A gateway's surroundings, with a plan over one service.
struct Scene {
    world: World,
    api: Legacy,
}

impl Scene {
    /// With these lines in the plan.
    fn new(lines: &str) -> Self {
        let scene = Self { world: World::new(), api: Legacy::new() };
        remember_secret(TOKEN);
        scene.world.write("admin.token", TOKEN);
        scene.world.seal();
        scene.configure(lines);
        scene
    }

    fn configure(&self, lines: &str) {
        let api = self.api.recorder.port;
        self.world.configure(&format!(
            "admin: {{address: 127.0.0.1:<admin>, token: {{file: admin.token}}}}
sealing: {{key: {{file: seal.key}}}}
upstreams:
  api: {{targets: ['http://127.0.0.1:{api}']}}
routes:
  - {{path: /accounts/**, upstream: api, auth: [main]}}
deletions:
  url: https://api.example
  breaker: {{total: 3/1h, by_principal: 100/1h}}
  plans:
    account:
      operations: ['DELETE /accounts/{{id}}']
      subject: path.id
      limit: 1000/10m
      scope: {{summary: Your account, erased: [profile]}}
{lines}
      steps:
        - {{name: account, upstream: api, request: 'DELETE /accounts/{{subject}}'}}
      verify:
        probes: [{{name: account-gone, upstream: api, request: 'GET /accounts/{{subject}}'}}]
        after: [0s]
"
        ));
    }

    fn start(&self) -> Gateway {
        self.world.restart().ready()
    }

    fn cli(&self, arguments: &[&str]) -> Finished {
        stepgate(self.world.folder(), &[&["erasures"], arguments].concat())
    }

    /// What a command prints as JSON, an object a line.
    fn printed(&self, arguments: &[&str]) -> Vec<Value> {
        let finished = self.cli(&[arguments, &["--json"]].concat());
        assert_eq!(finished.code, 0, "{finished:?}");
        finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Has somebody ask for the deletion of their account; its number.
    fn ask(&self, who: &str, gateway: &Gateway) -> String {
        let asked = delete(&format!("/accounts/{who}")).bearer(&self.world.fresh_for(who, 0)).send(gateway);
        asked.expect(202).json()["id"].as_str().unwrap().to_owned()
    }

    fn state(&self, id: &str) -> Value {
        self.printed(&["show", id]).remove(0)
    }

    fn wait_for(&self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || Some(self.state(id)).filter(|state| is_so(state)))
    }
}

fn admin(request: Request, gateway: &Gateway) -> Answer {
    request.header("Authorization", &format!("Bearer {TOKEN}")).send_to(gateway.admin)
}

fn say(target: &str, body: &Value, gateway: &Gateway) -> Answer {
    admin(post(target, &body.to_string()), gateway)
}

/// Waits until the grace of a deletion is over, and a second longer.
fn wait_until_over(held: &Value) {
    let over: jiff::Timestamp = held["held_until"].as_str().unwrap().parse().unwrap();
    let over = u64::try_from(over.as_second()).unwrap() + 1;
    eventually("the end of the grace", || (unix_now() > over).then_some(()));
}

#[test]
fn a_legal_hold_stops_a_deletion_until_it_is_released_and_the_certificate_says_so() {
    let scene = Scene::new("      grace: 6s");
    let gateway = scene.start();
    let id = scene.ask("alice", &gateway);
    let held = scene.printed(&["hold", &id, "--reason", "case 7", "--by", "olga"]).remove(0);
    assert_eq!((&held["state"], &held["holds"]), (&json!("held"), &json!(["legal"])), "{held}");
    let listed = scene.printed(&["list", "--hold", "legal"]);
    assert_eq!((listed.len(), &listed[0]["subject"], &listed[0]["issuer"]), (1, &json!("alice"), &json!("main")));
    assert_eq!(scene.printed(&["list", "--hold", "dispute"]), Vec::<Value>::new());
    assert_eq!(gateway.metric("stepgate_erasure_holds", &["hold=\"legal\""]), 1.0);
    wait_until_over(&held);
    assert_eq!(scene.api.deletions(), 0, "the grace is over, and nothing goes on");
    let shown = scene.cli(&["show", &id]);
    assert!(shown.stdout.contains("by operator olga  case 7"), "{shown:?}");

    scene.printed(&["release", &id, "--by", "olga"]);
    scene.wait_for(&id, "the end", |one| one["state"] == "erased");
    assert_eq!(scene.api.deletions(), 1);
    let over = scene.cli(&["hold", &id, "--reason", "too late"]);
    assert_eq!(over.code, 1, "{over:?}");
    let certificate = eventually("the certificate", || Some(scene.cli(&["report", &id])).filter(|it| it.code == 0));
    scene.world.write("certificate.jws", &certificate.stdout);
    let arguments = ["audit", "verify", "state/audit.jsonl", "--certificate", "certificate.jws"];
    let verified = stepgate(scene.world.folder(), &arguments);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(!certificate.stdout.contains("alice") && certificate.stdout.len() > 200, "{certificate:?}");
}

#[test]
fn what_is_parked_is_listed_counted_and_done_again_or_accepted() {
    let scene = Scene::new("      grace: none");
    scene.api.answers_deletions_with(403);
    let gateway = scene.start();
    let (one, other) = (scene.ask("alice", &gateway), scene.ask("bob", &gateway));
    for id in [&one, &other] {
        let parked = scene.wait_for(id, "a parked step", |one| one["parked"] == true);
        let step = &parked["steps"][0];
        assert_eq!((&step["state"], &step["why"], &step["status"]), (&json!("parked"), &json!("refused"), &json!(403)));
    }
    assert_eq!(scene.printed(&["list", "--parked"]).len(), 2);
    assert_eq!(gateway.metric("stepgate_erasures_parked", &[]), 2.0);
    assert_eq!(gateway.metric("stepgate_erasure_steps_total", &["upstream=\"api\"", "outcome=\"refused\""]), 2.0);
    let text = scene.cli(&["list", "--parked"]).stdout;
    assert!(text.lines().any(|line| line.contains(&*one) && line.contains("(parked)")), "{text}");

    scene.api.answers_deletions_with(204);
    let again = scene.cli(&["retry", &one, "--by", "olga"]);
    assert_eq!(again.code, 0, "{again:?}");
    scene.wait_for(&one, "the end", |one| one["state"] == "erased");
    // Somebody else did that one by hand.
    scene.api.is_empty(true);
    let nothing = scene.cli(&["retry", &other, "no-such-step", "--accept"]);
    assert_eq!(nothing.code, 1, "{nothing:?}");
    scene.printed(&["retry", &other, "account", "--accept", "--by", "otto"]);
    let done = scene.wait_for(&other, "the end", |one| one["state"] == "erased");
    let events: Vec<&str> = done["events"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert!(events.contains(&"step_accepted"), "{events:?}");
    assert_eq!(done["subject"], Value::Null, "the person has left: {done}");
    assert_eq!(gateway.metric("stepgate_erasures_parked", &[]), 0.0);
}

#[test]
fn a_second_person_approves_by_name() {
    let scene = Scene::new("      grace: none\n      four_eyes: true");
    let gateway = scene.start();
    let id = scene.ask("alice", &gateway);
    let waits = scene.state(&id);
    assert_eq!((&waits["state"], &waits["holds"][0]["hold"]), (&json!("held"), &json!("approval")));
    assert_eq!(scene.printed(&["list", "--hold", "approval"]).len(), 1);
    let nameless = scene.cli(&["approve", &id]);
    assert!(nameless.code == 1 && nameless.stderr.contains("`by`"), "{nameless:?}");
    let released = scene.cli(&["release", &id, "--hold", "approval", "--by", "olga"]);
    assert!(released.code == 1 && released.stderr.contains("approved, not released"), "{released:?}");
    assert_eq!(scene.api.deletions(), 0);
    scene.printed(&["approve", &id, "--by", "olga"]);
    scene.wait_for(&id, "the end", |one| one["state"] == "erased");
    assert_eq!(scene.api.deletions(), 1);
}

#[test]
fn the_breaker_holds_every_further_deletion_until_it_is_reset_and_they_are_released() {
    let scene = Scene::new("      grace: 30d");
    let gateway = scene.start();
    let ids: Vec<String> = (0..5).map(|n| scene.ask(&format!("person-{n}"), &gateway)).collect();
    let held = scene.printed(&["list", "--hold", "breaker"]);
    assert_eq!(held.len(), 2, "three in an hour, and further ones are held: {held:?}");
    assert_eq!(gateway.metric("stepgate_erasure_breaker_tripped", &[]), 1.0);
    let breaker = scene.cli(&["breaker"]);
    assert!(breaker.stdout.starts_with("tripped since 20") && breaker.stdout.contains("2 deletions"), "{breaker:?}");
    let reset = scene.printed(&["breaker", "--reset", "--by", "olga"]).remove(0);
    assert_eq!((&reset["tripped_at"], &reset["held"]), (&Value::Null, &json!(2)), "resetting releases nothing");
    assert_eq!(gateway.metric("stepgate_erasure_breaker_tripped", &[]), 0.0);
    let sixth = scene.ask("person-6", &gateway);
    assert_eq!(scene.state(&sixth)["holds"], json!([]));
    let release = ["release", &ids[3], &ids[4], "--hold", "breaker", "--by", "olga"];
    assert_eq!(scene.printed(&release).len(), 2);
    assert_eq!(scene.printed(&["list", "--hold", "breaker"]).len(), 0);
    assert_eq!(scene.printed(&["list", "--state", "held", "--plan", "account"]).len(), 6);
    let log = std::fs::read_to_string(scene.world.folder().join("state/audit.jsonl")).unwrap();
    assert!(log.contains(r#""change":"breaker_reset""#), "who reset it is on record: {log}");
}

#[test]
fn an_erased_person_is_readmitted_by_an_operator_once_and_who_is_not_frozen_is_not_unfrozen() {
    let scene = Scene::new("      grace: none");
    let gateway = scene.start();
    let old = scene.world.fresh_for("alice", 0);
    let id = scene.ask("alice", &gateway);
    scene.wait_for(&id, "the end", |one| one["state"] == "erased");
    get("/accounts/alice").bearer(&old).send(&gateway).expect(401);
    let alice = ["--issuer", "main", "--subject", "alice"];
    assert_eq!(scene.cli(&[&["unfreeze"], &alice[..]].concat()).code, 1, "she is not frozen");
    let readmitted = scene.cli(&[&["readmit"], &alice[..], &["--by", "olga"]].concat());
    assert_eq!((readmitted.code, readmitted.stdout.trim()), (0, "readmitted"), "{readmitted:?}");
    get("/accounts/alice").bearer(&old).send(&gateway).expect(404);
    assert_eq!(scene.cli(&[&["readmit"], &alice[..]].concat()).code, 1, "there is nothing more to take back");
}

#[test]
fn without_a_gateway_the_store_is_worked_on_and_nothing_is_carried_out() {
    let scene = Scene::new("      grace: 6s");
    let (one, other) = {
        let gateway = scene.start();
        let ids = (scene.ask("alice", &gateway), scene.ask("bob", &gateway));
        let all = scene.printed(&["list"]);
        assert_eq!(all.len(), 2);
        scene.printed(&["hold", &ids.0, &ids.1, "--reason", "not while it is down"]);
        drop(gateway);
        ids
    };
    let released = scene.printed(&["release", &one]).remove(0);
    scene.printed(&["cancel", &other, "--by", "olga"]);
    wait_until_over(&released);
    let listed = scene.printed(&["list", "--issuer", "main", "--subject", "alice"]);
    assert_eq!((listed.len(), &listed[0]["state"]), (1, &json!("held")), "it is due, and nobody carries it out");
    assert_eq!(scene.api.deletions(), 0);
    let late = scene.cli(&["hold", &other, "--reason", "too late"]);
    assert_eq!(late.code, 1, "{late:?}");
    let gateway = scene.start();
    scene.wait_for(&one, "the end", |one| one["state"] == "erased");
    assert_eq!(scene.state(&other)["state"], "cancelled");
    assert_eq!(scene.api.deletions(), 1);
    drop(gateway);
}

#[test]
fn what_is_kept_of_deletions_is_sealed_anew_and_an_erased_person_stays_erased() {
    let scene = Scene::new("      grace: none");
    let old = {
        let gateway = scene.start();
        let id = scene.ask("alice", &gateway);
        scene.wait_for(&id, "the end", |one| one["state"] == "erased");
        scene.world.fresh_for("alice", 0)
    };
    scene.world.write("next.key", "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100");
    let policy = std::fs::read_to_string(scene.world.folder().join("gateway.yaml")).unwrap();
    let sealing = "{key: {file: next.key}, previous: [{file: seal.key}]}";
    scene.world.write("gateway.yaml", policy.replace("{key: {file: seal.key}}", sealing));
    let rekeyed = stepgate(scene.world.folder(), &["rekey"]);
    assert!(rekeyed.code == 0 && rekeyed.stdout.contains(r#""complete":true"#), "{rekeyed:?}");
    scene.world.write("gateway.yaml", policy.replace("seal.key", "next.key"));
    let gateway = scene.start();
    get("/accounts/alice").bearer(&old).send(&gateway).expect(401);
    assert_eq!(scene.printed(&["list", "--state", "erased"]).len(), 1);
}

#[test]
fn what_operators_ask_wrongly_of_deletions_is_told_and_changes_nothing() {
    let scene = Scene::new("      grace: 30d");
    let gateway = scene.start();
    let id = scene.ask("alice", &gateway);
    let of = |verb: &str| format!("/erasures/{id}/{verb}");
    for (target, body, status, word) in [
        (of("hold"), json!({}), 400, "reason"),
        (of("hold"), json!({"reason": " "}), 400, "reason"),
        (of("hold"), json!({"reason": "x", "hold": "legal"}), 400, "hold"),
        (of("hold"), json!({"reason": "x", "by": ""}), 400, "by"),
        (of("hold"), json!({"raeson": "x"}), 400, "raeson"),
        (of("release"), json!({"hold": "illegal"}), 400, "legal"),
        (of("release"), json!({}), 409, "not now"),
        (of("retry"), json!({}), 409, "parked"),
        (of("retry"), json!({"accept": true}), 400, "item"),
        (of("approve"), json!({}), 400, "by"),
        ("/erasures/unfreeze".to_owned(), json!({"issuer": "mian", "subject": "alice"}), 400, "mian"),
        ("/erasures/unfreeze".to_owned(), json!({"issuer": "main", "subject": ""}), 400, "empty"),
        ("/erasures/readmit".to_owned(), json!({"issuer": "main", "subject": "alice"}), 404, "nothing"),
        (format!("/erasures/{}/cancel", "0".repeat(32)), json!({}), 404, "no such"),
        ("/erasures/none/cancel".to_owned(), json!({}), 404, "no such"),
    ] {
        let answer = say(&target, &body, &gateway).expect(status);
        assert!(answer.text().contains(word), "{target} {body}: {}", answer.text());
    }
    for (target, status, word) in [
        ("/erasures?state=gone", 400, "carrying_out"),
        ("/erasures?limit=many", 400, "limit"),
        ("/erasures?subject=alice", 400, "issuer"),
        ("/erasures?colour=red", 400, "parked"),
        ("/erasures/none", 404, "no such"),
        (&*of("report"), 200, r#""type":"report""#),
    ] {
        let answer = admin(get(target), &gateway).expect(status);
        assert!(answer.text().contains(word), "{target}: {}", answer.text());
    }
    say(&of("delete"), &json!({}), &gateway).expect(404);
    get("/erasures").send_to(gateway.admin).expect(401);
    post(&of("cancel"), "{}").send_to(gateway.admin).expect(401);
    assert_eq!(scene.state(&id)["events"].as_array().unwrap().len(), 1, "nothing came of all that");
    let long = scene.cli(&["show", &"f".repeat(5000)]);
    assert_eq!(long.code, 1, "{long:?}");
}

#[test]
fn a_configuration_without_deletions_has_none_to_work_with() {
    let world = World::new();
    world.configure("routes:\n  - {path: /**, upstream: api}\n");
    let finished = stepgate(world.folder(), &["erasures", "list"]);
    assert!(finished.code == 78 && finished.stderr.contains("`deletions`"), "{finished:?}");
}
