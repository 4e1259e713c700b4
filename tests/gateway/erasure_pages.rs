//! Notices of deletions and the pages that people and operators have of them: the real binary, a real mail server, webhooks that the
//! library of Standard Webhooks verifies, and a real browser.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use stepgate::{
    clock::{Clock as _, SystemClock},
    store::{MasterKey, SealingKeys, Sqlite, Store, Table},
};

use crate::harness::{
    Authority, Gateway, Recorder, Request, World, delete, encode, eventually, get, post, remember_secret, stepgate,
    tools::{MailServer, browse, curl, verify_webhook},
};

const ADMIN_TOKEN: &str = "an-admin-token-of-deletions";
const HOOK_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const YAML: &str = "listeners:
  - {address: 127.0.0.1:<port>, cleartext: true}
  - {address: 127.0.0.1:<tls>, tls: {certificates: [{cert: server.pem, key: server.key}]}}
admin: {address: 127.0.0.1:<admin>, token: {file: admin.token}}
sealing: {key: {file: sealing.key}}
notify:
  mail: {server: 'smtp://127.0.0.1:MAIL', danger_cleartext: true, from: gate@example.org}
  webhooks:
    crm: {url: 'http://127.0.0.1:HOOK/crm', secret: {file: hook.secret}}
    ops: {url: 'http://127.0.0.1:HOOK/ops', secret: {file: hook.secret}}
upstreams:
  api: {targets: ['http://127.0.0.1:<upstream>'], credential: {header: {name: X-Key, value: {file: api.key}}}}
deletions:
  url: https://localhost:<tls>
  limit: 1000/minute
  breaker: {by_principal: 2/1h}
  operators: [{mail: dpo@example.com}, {webhook: ops}]
  plans:
    account:
      operations: ['DELETE /accounts/{id}']
      subject: path.id
      issuer: main
      others: [admin:accounts]
      grace: 30d
      scope:
        summary: Your account and everything in it
        erased: ['Profile and settings', 'Orders and messages']
        kept: [{what: Invoices, why: tax law, how_long: ten years}]
      lookups: [{name: contact, upstream: api, request: 'GET /accounts/{subject}', capture: {email: /email}}]
      steps: [{name: account, upstream: api, request: 'DELETE /accounts/{subject}'}]
      verify: {probes: [{name: still, upstream: api, request: 'GET /accounts/{subject}'}], after: [0s]}
      notify: [{mail: '{captured.email}'}, {webhook: crm}]
    now:
      operations: ['DELETE /now/{id}']
      subject: path.id
      issuer: main
      grace: none
      four_eyes: true
      scope: {summary: Your short-lived account, erased: [Everything]}
      steps: [{name: account, upstream: api, request: 'DELETE /now/{subject}'}]
      verify: {probes: [{name: still, upstream: api, request: 'GET /now/{subject}'}], after: [0s]}
routes:
  - {path: /accounts/**, upstream: api, auth: [main]}
  - {path: /now/**, upstream: api, auth: [main]}
";

/// A service that knows mail addresses, and does not let everything be deleted at once.
struct Service {
    recorder: Recorder,
    /// How often DELETE is refused, by path.
    stubborn: Stubborn,
}

type Stubborn = Arc<Mutex<BTreeMap<String, usize>>>;

impl Service {
    fn start() -> Self {
        let stubborn = Stubborn::default();
        let gone: Arc<Mutex<Vec<String>>> = Arc::default();
        let refuses = Arc::clone(&stubborn);
        let recorder = Recorder::with(move |request, stream| {
            let path = request.target().to_owned();
            let name = path.rsplit('/').next().unwrap();
            let mut gone = gone.lock().unwrap();
            let status = match request.line().split(' ').next().unwrap() {
                "DELETE" => match refuses.lock().unwrap().get_mut(&path) {
                    Some(times) if *times > 0 => {
                        *times -= 1;
                        403
                    }
                    Some(_) | None => {
                        gone.push(path.clone());
                        200
                    }
                },
                _ if gone.contains(&path) => 404,
                _ => 200,
            };
            let body = json!({"email": format!("{name}@example.com")}).to_string();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .is_ok()
        });
        Self { recorder, stubborn }
    }
}

/// A gateway with everything around it.
struct Scene {
    world: World,
    gateway: Gateway,
    mail: MailServer,
    hooks: Recorder,
    stubborn: Stubborn,
    _authority: Authority,
}

impl Scene {
    fn start() -> Self {
        Self::with("30d")
    }

    /// With this grace.
    fn with(grace: &str) -> Self {
        let Service { recorder, stubborn } = Service::start();
        let world = World::with(recorder);
        let authority = Authority::new("the deletions' authority");
        authority.server(world.folder(), "server", &["localhost"]);
        world.write("ca.pem", &authority.pem);
        world.write("admin.token", ADMIN_TOKEN);
        world.write("hook.secret", HOOK_SECRET);
        world.write("api.key", "a-key-of-the-api");
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).unwrap();
        world.write("sealing.key", encode(&key));
        let mail = MailServer::start(world.folder());
        let hooks = Recorder::answering("HTTP/1.1 204 No Content\r\n\r\n");
        let yaml = YAML.replace("MAIL", &mail.port.to_string()).replace("HOOK", &hooks.port.to_string());
        let yaml = yaml.replace("grace: 30d", &format!("grace: {grace}"));
        let gateway = world.start(&yaml);
        Self { world, gateway, mail, hooks, stubborn, _authority: authority }
    }

    fn token(&self, subject: &str) -> String {
        self.world.fresh_for(subject, 1)
    }

    fn ask(&self, path: &str, token: &str) -> Value {
        delete(path).bearer(token).send(&self.gateway).expect(202).json()
    }

    /// The link in somebody's mail, as what comes after the origin; its token is in no log.
    fn link(&self, to: &str) -> String {
        let letter = self.mail.letter(to, "A deletion of your data was asked for");
        let origin = format!("https://localhost:{}", self.world.tls);
        let link = letter.lines().find_map(|line| line.strip_prefix(&origin)).unwrap_or_else(|| panic!("{letter}"));
        remember_secret(link.split("token=").nth(1).unwrap());
        link.to_owned()
    }

    /// The messages that a webhook got, of a type; each is signed.
    fn told(&self, hook: &str, kind: &str) -> Vec<Value> {
        let calls = self.hooks.requests().into_iter().filter(|call| call.target() == format!("/{hook}"));
        calls
            .filter_map(|call| {
                let message: Value = serde_json::from_slice(&call.body).unwrap();
                assert_eq!(verify_webhook(HOOK_SECRET, &call), "good");
                (message["type"] == kind).then(|| message["data"].clone())
            })
            .collect()
    }

    fn state(&self, id: &str) -> Value {
        let request = get(&format!("/erasures/{id}")).header("Authorization", &format!("Bearer {ADMIN_TOKEN}"));
        request.send_to(self.gateway.admin).expect(200).json()["state"].clone()
    }

    fn browse(&self, scenario: &str, mut says: Value) {
        says["shots"] = std::env::var("STEPGATE_SHOTS").ok().into();
        says["shots_of"] = "erasure".into();
        says["path"] = "/deletions".into();
        says["admin_token"] = ADMIN_TOKEN.into();
        browse(&self.world, scenario, says);
    }
}

/// The status that a program gets which follows links, as scanners of mail do: what a browser says besides, it does not.
fn scanned(scene: &Scene, method: &str, link: &str) -> u16 {
    let url = format!("https://localhost:{}{link}", scene.world.tls);
    let ca = scene.world.folder().join("ca.pem");
    let mut arguments = vec!["--cacert", ca.to_str().unwrap(), "-o", "/dev/null", "-w", "%{http_code}", url.as_str()];
    if method == "HEAD" {
        arguments.push("-I");
    } else {
        arguments.extend(["-X", method]);
    }
    let finished = curl(&arguments);
    finished.stdout.trim().parse().unwrap_or_else(|_| panic!("{finished:?}"))
}

#[test]
fn the_link_of_a_mail_stops_a_deletion_in_a_browser_while_the_account_is_blocked() {
    let scene = Scene::start();
    let token = scene.token("alice");
    let asked = scene.ask("/accounts/alice", &token);
    let id = asked["id"].as_str().unwrap();
    let link = scene.link("alice@example.com");
    let letter = scene.mail.letter("alice@example.com", "A deletion of your data was asked for");
    assert!(letter.contains("From: gate@example.org") && letter.contains("Auto-Submitted: auto-generated"), "{letter}");
    assert!(letter.contains("- Invoices: tax law, ten years"), "{letter}");

    // The plan's system is told whom, with a signature that its library finds good.
    let requested = eventually("the webhook", || scene.told("crm", "deletion_requested").pop());
    assert_eq!((&requested["deletion"], &requested["subject"]), (&json!(id), &json!("alice")));
    assert!(requested["link"].as_str().unwrap().ends_with(&link));

    // The account is blocked, and what reads mail follows links.
    get("/accounts/alice").bearer(&token).send(&scene.gateway).expect(403);
    for method in ["GET", "HEAD", "GET"] {
        assert_eq!(scanned(&scene, method, &link), 200);
    }
    assert_eq!(scanned(&scene, "POST", &link), 400, "a program that sends forms, too");
    for method in ["PUT", "DELETE", "OPTIONS"] {
        assert_eq!(scanned(&scene, method, &link), 405);
    }
    assert_eq!(scene.state(id), "held");

    scene.browse("erasure-link", json!({"link": link, "id": id}));
    assert_eq!(scene.state(id), "cancelled");
    get("/accounts/alice").bearer(&token).send(&scene.gateway).expect(200);
    let again = delete("/accounts/alice").bearer(&token).send(&scene.gateway);
    assert!([403, 409].contains(&again.status), "deletions of the account are frozen: {}", again.text());
    let deletions = scene.world.upstream.requests();
    assert!(deletions.iter().all(|request| !request.line().starts_with("DELETE")), "nothing was deleted");

    let to_operators = eventually("operators", || scene.told("ops", "deletion_disputed").pop());
    assert!(to_operators.get("subject").is_none() && to_operators["state"] == "cancelled", "{to_operators}");
    let subject = "A deletion was stopped: somebody says that it was not them";
    scene.mail.letter("alice@example.com", subject);
    let letter = scene.mail.letter("dpo@example.com", subject);
    assert!(!letter.contains("alice") && letter.contains(id), "{letter}");
}

#[test]
fn operators_look_after_deletions_in_a_browser() {
    let scene = Scene::start();
    scene.stubborn.lock().unwrap().insert("/now/dora".to_owned(), 2);
    let held = scene.ask("/accounts/alice", &scene.token("alice"));
    let other = scene.ask("/accounts/bert", &scene.token("bert"));
    let parked = scene.ask("/now/dora", &scene.token("dora"));
    let admin = scene.world.token(json!({
        "sub": "root", "scope": "admin:accounts", "acr": "urn:example:acr:mfa", "amr": ["pwd", "otp", "mfa"],
        "auth_time": crate::harness::unix_now(),
    }));
    for subject in ["x1", "x2", "x3"] {
        scene.ask(&format!("/accounts/{subject}"), &admin);
    }
    let id = |asked: &Value| asked["id"].as_str().unwrap().to_owned();
    // What a service behind must not get: cookies know no ports.
    let spied = get("/accounts/zoe").bearer(&scene.token("zoe")).header("Cookie", "stepgate-operator=abcdefgh; a=1");
    spied.send(&scene.gateway).expect(200);
    assert_eq!(scene.world.upstream.last().header("cookie"), "a=1");
    // Somebody else's form, and no session.
    for path in ["/pages/deletions", "/pages/", "/pages/deletions/1"] {
        let answer = get(path).send_to(scene.gateway.admin);
        assert_eq!((answer.status, answer.header("location")), (303, "/pages/sign-in"), "{path}");
    }
    let forged = post("/pages/deletions/breaker", "token=x").header("Sec-Fetch-Site", "same-origin");
    let forged = forged.header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(forged.send_to(scene.gateway.admin).status, 400);

    scene.browse(
        "erasure-operators",
        json!({"held": id(&held), "other": id(&other), "parked": id(&parked), "pages": format!("http://127.0.0.1:{}/pages", scene.world.admin)}),
    );
    assert_eq!(scene.state(&id(&held)), "cancelled");
    let events = get(&format!("/erasures/{}", id(&other))).header("Authorization", &format!("Bearer {ADMIN_TOKEN}"));
    let other = events.send_to(scene.gateway.admin).expect(200).json();
    assert!(other["events"].to_string().contains("Olga Operator"), "{other}");
    assert_eq!(scene.state(&id(&parked)), "erased");
}

/// Everything below a folder, by name.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![(path.clone(), fs::read(path).unwrap())],
    };
    entries.flat_map(below).collect()
}

/// Every row of the store of a gateway that has ended, opened with its key.
fn rows(folder: &Path) -> Vec<(Table, String)> {
    let key = MasterKey::from_text(&fs::read(folder.join("sealing.key")).unwrap()).unwrap();
    let engine = Sqlite::open(&folder.join("state/stepgate.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let now = SystemClock.now();
        let store = Store::open(Arc::new(engine), SealingKeys::new(key, Vec::new()), now).await.unwrap();
        let mut found = Vec::new();
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Meta) {
            let page = store.readable::<Value>(table, "", None, 500, now).await.unwrap();
            found.extend(page.rows.into_iter().map(|row| (table, format!("{} {}", row.key, row.value))));
        }
        found
    })
}

#[test]
fn nothing_of_the_person_is_left_in_the_gateways_files_logs_and_metrics() {
    let mut scene = Scene::with("2s");
    let (person, path) = ("zaphod-4711", "/accounts/zaphod-4711");
    // What there is of them before: refusals, reads, and what was stubborn at first.
    delete(path).bearer(&scene.world.token(json!({"sub": person}))).send(&scene.gateway).problem(401);
    delete(path).bearer(&scene.token("bob")).send(&scene.gateway).problem(403);
    scene.stubborn.lock().unwrap().insert(path.to_owned(), 1);
    let token = scene.token(person);
    let asked = scene.ask(path, &token);
    let id = asked["id"].as_str().unwrap();
    let link = scene.link("zaphod-4711@example.com");
    scanned(&scene, "GET", &link);
    get(path).bearer(&token).send(&scene.gateway).expect(403);
    let admin = |request: Request| request.header("Authorization", &format!("Bearer {ADMIN_TOKEN}"));
    eventually("a step that is refused", || (scene.told("ops", "deletion_parked").len() == 1).then_some(()));
    admin(post(&format!("/erasures/{id}/retry"), r#"{"by": "olga", "item": "account"}"#))
        .header("Content-Type", "application/json")
        .send_to(scene.gateway.admin)
        .expect(200);
    eventually("the end", || (scene.state(id) == "erased").then_some(()));
    scene.mail.letter("zaphod-4711@example.com", "Your data was deleted");
    eventually("the last notice", || scene.told("crm", "deletion_erased").pop());
    // And after it.
    delete(path).bearer(&token).send(&scene.gateway).problem(401);
    get(path).bearer(&token).send(&scene.gateway).problem(401);
    scanned(&scene, "GET", &link);
    let folder = scene.world.folder().to_owned();
    let certificate = eventually("the certificate", || {
        let printed = stepgate(&folder, &["erasures", "report", id]);
        (printed.code == 0 && !printed.stdout.is_empty()).then_some(printed.stdout)
    });
    let metrics = scene.gateway.metrics();
    scene.gateway.signal("TERM");
    assert_eq!(scene.gateway.wait(), 0);
    let link_token = link.split("token=").nth(1).unwrap().to_owned();
    let mut texts = vec![
        ("the certificate".to_owned(), certificate),
        ("metrics".to_owned(), metrics),
        ("events".to_owned(), scene.gateway.stderr()),
    ];
    // The access log names whoever asks for what, as everybody's does; but no secret.
    let access = scene.gateway.stdout();
    for secret in [link_token.as_str(), &token, "a-key-of-the-api", "@example.com"] {
        assert!(!access.contains(secret), "{secret} is in the access log");
    }
    // As the gateway left them: whoever opens the store takes its journal away.
    let kept = files(&folder.join("state"));
    let rows = rows(&folder);
    assert!(
        rows.iter().any(|(table, row)| *table == Table::Erasures && row.contains(id)),
        "the record stays: {rows:?}"
    );
    texts.extend(rows.into_iter().map(|(table, row)| (format!("{table:?}"), row)));
    texts.extend(
        kept.into_iter()
            .map(|(path, bytes)| (path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned())),
    );
    for (place, text) in &texts {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        let decoded = words.filter_map(|word| String::from_utf8(URL_SAFE_NO_PAD.decode(word).ok()?).ok());
        for said in decoded.chain([text.clone()]) {
            for value in [person, "4711", &link_token, &token, "a-key-of-the-api"] {
                assert!(!said.contains(value), "{value} is in {place}: {said}");
            }
        }
    }
}
