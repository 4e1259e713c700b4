//! Deletions that a plan takes over, by the real binary, in front of three ordinary upstreams that know nothing of it: from the
//! click to the proof, whose data it is, other spellings of the same, and what becomes of the person's tokens.

use std::{
    collections::BTreeSet,
    io::Write,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::harness::{
    Answer, Gateway, People, Recorder, Request, World, delete, eventually, get, h2, post, run, stepgate, unix_now,
};

/// A service with accounts in it: what is there is answered with 200, what is not with 404, and DELETE takes it away.
struct Legacy {
    recorder: Recorder,
    there: Arc<Mutex<BTreeSet<String>>>,
}

impl Legacy {
    fn with(names: &[&str]) -> Self {
        let there = Arc::new(Mutex::new(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>()));
        let kept = Arc::clone(&there);
        let recorder = Recorder::with(move |request, stream: &mut TcpStream| {
            let (method, name) =
                (request.line().split(' ').next().unwrap(), request.target().rsplit('/').next().unwrap());
            let mut there = kept.lock().unwrap();
            let status = match (method, there.contains(name)) {
                ("DELETE", true) => {
                    there.remove(name);
                    "204 No Content\r\n"
                }
                (_, true) => "200 OK\r\nContent-Length: 2\r\n",
                (_, false) => "404 Not Found\r\nContent-Length: 2\r\n",
            };
            let body = if status.contains("Length") && method != "HEAD" { "ok" } else { "" };
            write!(stream, "HTTP/1.1 {status}\r\n{body}").is_ok()
        });
        Self { recorder, there }
    }

    fn has(&self, name: &str) -> bool {
        self.there.lock().unwrap().contains(name)
    }

    /// The deletions that reached it.
    fn deletions(&self) -> Vec<String> {
        let all = self.recorder.requests();
        all.iter().filter(|request| request.line().starts_with("DELETE ")).map(|r| r.target().to_owned()).collect()
    }
}

/// The gateway's surroundings: an API, its search index and its mail list.
pub(crate) struct Scene {
    pub(crate) world: World,
    api: Legacy,
    search: Legacy,
    list: Legacy,
}

/// What a test says of its plan besides what all have.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Further lines of the plan.
    pub(crate) lines: &'static str,
    /// Further sections of the file.
    pub(crate) sections: &'static str,
    /// Further routes.
    pub(crate) routes: &'static str,
}

pub(crate) const PLAIN: Plan = Plan { lines: "        grace: 30d\n", sections: "", routes: "" };

impl Scene {
    pub(crate) fn new() -> Self {
        let people = ["alice", "bob", "Carol", "42"];
        let (api, search, list) = (Legacy::with(&people), Legacy::with(&people), Legacy::with(&people));
        Self { world: World::new(), api, search, list }
    }

    fn configure(&self, plan: Plan) {
        let Plan { lines, sections, routes } = plan;
        let (api, search, list) = (self.api.recorder.port, self.search.recorder.port, self.list.recorder.port);
        self.world.seal();
        let limit = if lines.contains("limit:") { "" } else { "      limit: 1000/10m\n" };
        let lines = lines.replace("        ", "      ");
        self.world.configure(&format!(
            "sealing: {{key: {{file: seal.key}}}}
upstreams:
  api: {{targets: ['http://127.0.0.1:{api}'], method_override: [header, query]}}
  search: {{targets: ['http://127.0.0.1:{search}']}}
  list: {{targets: ['http://127.0.0.1:{list}']}}
deletions:
  url: https://api.example
  limit: 10000/minute
  plans:
    account:
      operations: ['DELETE /accounts/{{id}}']
      subject: path.id
      issuer: main
      others: [admin:accounts]
{limit}{lines}      scope:
        summary: Your account
        erased: [profile, search entry, newsletter]
        kept: [{{what: invoices, why: tax law, how_long: 10 years}}]
      steps:
        - {{name: account, upstream: api, request: 'DELETE /accounts/{{subject}}'}}
        - {{name: search, upstream: search, request: 'DELETE /index/{{subject}}'}}
        - {{name: list, upstream: list, request: 'DELETE /members/{{subject}}', after: [account]}}
      verify:
        probes: [{{name: account-gone, upstream: api, request: 'GET /accounts/{{subject}}'}}]
        after: [0s, 1s]
{sections}
routes:
  - {{path: /accounts/**, upstream: api, auth: [main]}}
  - {{path: /items/**, upstream: api, auth: [main]}}
  - {{path: /open/**, upstream: api, auth: none}}
  - {{path: /v1/**, upstream: api, auth: [main], rewrite: {{strip_prefix: /v1}}}}
{routes}"
        ));
    }

    pub(crate) fn start(&self, plan: Plan) -> Gateway {
        self.configure(plan);
        self.world.restart().ready()
    }

    /// A token of somebody who has just shown a second factor.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.world.fresh_for(subject, 1)
    }

    /// The same with further claims.
    pub(crate) fn token_with(&self, changes: Value) -> String {
        let mut claims = json!({"amr": ["pwd", "otp", "mfa"], "acr": "urn:example:acr:mfa", "auth_time": unix_now()});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.world.token(claims)
    }

    /// A token that was issued as long ago, and is fresh all the same.
    fn older(&self, subject: &str, secs: u64) -> String {
        self.token_with(json!({"sub": subject, "iat": unix_now() - secs}))
    }

    fn untouched(&self) {
        for service in [&self.api, &self.search, &self.list] {
            service.recorder.assert_untouched();
        }
    }
}

pub(crate) fn ask(gateway: &Gateway, subject: &str, token: &str) -> Answer {
    delete(&format!("/accounts/{subject}")).bearer(token).send(gateway)
}

/// The path of a URL that the gateway told.
fn path(url: &Value) -> String {
    url.as_str().unwrap().strip_prefix("https://api.example").expect("the public origin").to_owned()
}

pub(crate) fn see(gateway: &Gateway, asked: &Value, token: &str) -> Answer {
    get(&path(&asked["status_url"])).bearer(token).send(gateway)
}

#[test]
fn a_deletion_is_asked_for_held_carried_out_verified_and_evidenced() {
    let scene = Scene::new();
    let gateway = scene.start(Plan { lines: "        grace: 2s\n        may: {see: [admin:accounts]}\n", ..PLAIN });
    let (token, admin) = (scene.token("alice"), scene.token_with(json!({"sub": "root", "scope": "admin:accounts"})));
    let answer = ask(&gateway, "alice", &token).expect(202);
    let asked = answer.json();
    assert_eq!((answer.header("location"), &asked["state"]), (asked["status_url"].as_str().unwrap(), &json!("held")));
    assert_eq!(asked["scope"]["summary"], "Your account");
    assert_eq!(asked["scope"]["kept"][0]["why"], "tax law");
    assert_eq!(asked["repeated"], false);
    assert!(asked["held_until"].as_u64().unwrap() >= unix_now(), "{asked}");
    assert!(answer.has("ratelimit"), "the plan's quota is told");
    scene.untouched();
    assert_eq!(see(&gateway, &asked, &token).expect(200).json()["state"], "held");
    let done = eventually("the end", || {
        // The person's own token is refused from the beginning on: whoever else may see it asks.
        let seen = ask_about(&gateway, &asked, &admin);
        (seen["state"] == "erased").then_some(seen)
    });
    assert!(done["erased_at"].as_u64().is_some(), "{done}");
    assert_eq!((scene.api.has("alice"), scene.search.has("alice"), scene.list.has("alice")), (false, false, false));
    assert!(scene.api.has("bob") && scene.search.has("bob") && scene.list.has("bob"));
    for service in [&scene.api, &scene.search, &scene.list] {
        assert_eq!(service.deletions().len(), 1, "once each: {:?}", service.deletions());
        for request in service.recorder.requests() {
            assert!(!request.has("authorization"), "nobody's token goes along: {}", request.head);
        }
    }
    let keys: BTreeSet<String> = [&scene.api, &scene.search, &scene.list]
        .iter()
        .flat_map(|service| service.recorder.requests())
        .filter(|request| request.line().starts_with("DELETE "))
        .map(|request| request.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(keys.len(), 3, "each step has a key of its own: {keys:?}");
}

/// What somebody who may see everybody's deletions sees.
pub(crate) fn ask_about(gateway: &Gateway, asked: &Value, token: &str) -> Value {
    let answer = see(gateway, asked, token);
    if answer.status == 200 { answer.json() } else { json!({"state": answer.status}) }
}

#[test]
fn nobody_erases_somebody_elses_account() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    let token = scene.token("alice");
    for other in ["bob", "Alice", "ALICE", "alic", "alicee", "alice%20bob", "al%C4%B1ce", "*", "%2A", "me", "0"] {
        let answer = ask(&gateway, other, &token);
        assert_eq!(answer.problem(403), "not-the-owner", "{other}");
    }
    for other in [
        "alice;x",
        "alice%3Bx",
        "alice.",
        "alice%20",
        "%2561lice",
        "alice/",
        "bob;alice",
        "alice%2Fbob",
        "..%2Fbob",
        "%2e%2e",
        "alice%00",
    ] {
        let answer = ask(&gateway, other, &token);
        assert_eq!(answer.status, 400, "{other}: {}", answer.text());
    }
    // Nor by what is said besides.
    for target in ["/accounts/bob?id=alice", "/accounts/bob?subject=alice&id=bob"] {
        assert_eq!(delete(target).bearer(&token).send(&gateway).problem(403), "not-the-owner", "{target}");
    }
    let other_header =
        delete("/accounts/bob").bearer(&token).header("X-User-Id", "alice").header("X-Original-Url", "/accounts/alice");
    assert_eq!(other_header.send(&gateway).problem(403), "not-the-owner");
    let with_body = Request::new("DELETE", "/accounts/bob").bearer(&token).header("Content-Type", "application/json");
    assert_eq!(with_body.body(r#"{"id": "alice"}"#).send(&gateway).problem(403), "not-the-owner");
    // A scope that only looks like the one.
    for scope in ["admin", "admin:accounts:read", "ADMIN:ACCOUNTS", "xadmin:accounts"] {
        let token = scene.token_with(json!({"scope": scope}));
        assert_eq!(ask(&gateway, "bob", &token).problem(403), "not-the-owner", "{scope}");
    }
    scene.untouched();
    eventually("each attempt in the audit log", || {
        let refused = gateway.audit().iter().filter(|record| record["reason"] == "deletion_not_owner").count();
        (refused >= 19).then_some(())
    });
    // Its own is.
    ask(&gateway, "alice", &token).expect(202);
    // And with the scope, somebody else's, in whatever case their name has.
    let admin = scene.token_with(json!({"sub": "root", "scope": "items:read admin:accounts"}));
    ask(&gateway, "Carol", &admin).expect(202);
    scene.untouched();
}

#[test]
fn a_deletion_needs_a_fresh_second_factor_and_says_how_to_show_one() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    assert_eq!(delete("/accounts/alice").send(&gateway).problem(401), "token-required");
    let weak = scene.world.token(json!({}));
    assert_eq!(ask(&gateway, "alice", &weak).problem(401), "insufficient-user-authentication");
    // Whose it is is not said to whoever has not proved enough.
    assert_eq!(ask(&gateway, "bob", &weak).problem(401), "insufficient-user-authentication");
    let stale = scene.world.fresh_for("alice", 4000);
    assert_eq!(ask(&gateway, "alice", &stale).problem(401), "insufficient-user-authentication");
    scene.untouched();
}

#[test]
fn what_could_pass_for_the_operation_is_neither_taken_over_nor_forwarded() {
    let scene = Scene::new();
    let gateway = scene.start(Plan {
        routes: "  - {path: /members/**, upstream: api, auth: [main], rewrite: {replace_prefix: {from: /members, to: /accounts}}}\n",
        ..PLAIN
    });
    let token = scene.token("alice");
    for target in [
        "/Accounts/alice",
        "/ACCOUNTS/alice",
        "/accounts;v=1/alice",
        "/accounts/alice;v=1",
        "/accounts./alice",
        "/accounts/alice/",
        "/%61ccounts%20/alice",
        "/v1/accounts/alice",
        "/v1/Accounts/alice",
        "/members/alice",
    ] {
        let answer = delete(target).bearer(&token).send(&gateway);
        assert!([400, 404].contains(&answer.status), "{target}: {} {}", answer.status, answer.text());
        if answer.status == 400 {
            assert!(["ambiguous-deletion", "ambiguous-path"].contains(&answer.problem(400).as_str()), "{target}");
        }
    }
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        for method in ["POST", "GET", "PUT", "PATCH"] {
            let disguised = Request::new(method, "/accounts/alice").bearer(&token).header(name, "DELETE");
            assert_eq!(disguised.send(&gateway).problem(400), "ambiguous-deletion", "{method} {name}");
        }
        let undone = delete("/accounts/alice").bearer(&token).header(name, "GET").send(&gateway);
        assert_eq!(undone.problem(400), "ambiguous-deletion", "{name}");
    }
    for target in ["/accounts/alice?_method=DELETE", "/accounts/alice?_method=delete"] {
        let disguised = post(target, "").bearer(&token).send(&gateway);
        assert_eq!(disguised.problem(400), "ambiguous-deletion", "{target}");
    }
    scene.untouched();
    // What is no deletion passes as ever.
    get("/accounts/alice").bearer(&token).send(&gateway).expect(200);
    // An escape that every server decodes alike is the same spelling.
    delete("/%61ccounts/%61lice").bearer(&token).send(&gateway).expect(202);
}

#[test]
fn a_value_of_the_request_that_a_step_uses_must_be_bound_to_the_caller_even_for_an_administrator() {
    let scene = Scene::new();
    scene.world.seal();
    let api = scene.api.recorder.port;
    let gateway = scene.world.start(&format!(
        "sealing: {{key: {{file: seal.key}}}}
upstreams: {{api: {{targets: ['http://127.0.0.1:{api}']}}}}
deletions:
  url: https://api.example
  plans:
    member:
      operations: ['DELETE /tenants/{{tenant}}/members']
      subject: query.id
      bind: {{path.tenant: /tenant}}
      issuer: main
      others: [admin]
      limit: 1000/10m
      grace: 1h
      scope: {{summary: Membership, erased: [membership]}}
      steps: [{{name: member, upstream: api, request: 'DELETE /tenants/{{path.tenant}}/members/{{subject}}'}}]
routes: [{{path: /tenants/**, upstream: api, auth: [main]}}]
"
    ));
    let alice = scene.token_with(json!({"tenant": "acme"}));
    let admin = scene.token_with(json!({"sub": "root", "tenant": "acme", "scope": "admin"}));
    let homeless = scene.token_with(json!({"scope": "admin"}));
    let ask = |target: &str, token: &str| delete(target).bearer(token).send(&gateway);
    for (target, token) in [
        ("/tenants/other/members?id=alice", &alice),
        ("/tenants/other/members?id=alice", &admin),
        ("/tenants/ACME/members?id=alice", &alice),
        ("/tenants/acme/members?id=bob", &alice),
        ("/tenants/acme/members?id=alice", &homeless),
    ] {
        assert_eq!(ask(target, token).problem(403), "not-the-owner", "{target}");
    }
    for target in [
        "/tenants/acme/members",
        "/tenants/acme/members?id=",
        "/tenants/acme/members?id=alice&id=bob",
        "/tenants/acme/members?id=alice&id=alice",
        "/tenants/acme/members?ID=alice",
        "/tenants/acme/members?id=.",
        "/tenants/acme/members?id=..",
        "/tenants/acme/members?id[]=alice",
        "/tenants/acme/members?id=alice%00",
        "/tenants/acme/members?id=%FF",
    ] {
        assert_eq!(ask(target, &alice).problem(400), "ambiguous-deletion", "{target}");
    }
    ask("/tenants/acme/members?id=alice", &alice).expect(202);
    ask("/tenants/acme/members?%69d=bob&x=1", &admin).expect(202);
    scene.untouched();
}

#[test]
fn whose_data_it_is_may_stand_in_the_body_once_and_plainly() {
    let scene = Scene::new();
    scene.world.seal();
    let api = scene.api.recorder.port;
    let gateway = scene.world.start(&format!(
        "sealing: {{key: {{file: seal.key}}}}
upstreams: {{api: {{targets: ['http://127.0.0.1:{api}']}}}}
deletions:
  url: https://api.example
  plans:
    account:
      operations: ['POST /account/close']
      subject: body.id
      issuer: main
      limit: 1000/10m
      grace: 1h
      scope: {{summary: Account, erased: [profile]}}
      steps: [{{name: account, upstream: api, request: 'DELETE /accounts/{{subject}}'}}]
routes: [{{path: /account/**, upstream: api, auth: [main]}}]
"
    ));
    let token = scene.token("alice");
    let send = |kind: &str, body: &str| {
        post("/account/close", body).bearer(&token).header("Content-Type", kind).send(&gateway)
    };
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    for (kind, body) in [
        (json, r#"{"id": "alice", "id": "bob"}"#),
        (json, r#"{"id": "bob", "\u0069d": "alice"}"#),
        (json, r#"{"id": "alice", "id": "alice"}"#),
        (json, r#"{"id": ["alice"]}"#),
        (json, r#"{"id": {"id": "alice"}}"#),
        (json, r#"{"user": {"id": "alice"}}"#),
        (json, r#"[{"id": "alice"}]"#),
        (json, r#"{"id": "alice"} {"id": "bob"}"#),
        (json, r#"{"id": null}"#),
        (json, r#"{"id": 1e0}"#),
        (json, r#"{"id": "alice""#),
        (json, ""),
        (json, "id=alice"),
        (form, "id=alice&id=bob"),
        (form, "ID=alice"),
        (form, r#"{"id": "alice"}"#),
        ("text/plain", r#"{"id": "alice"}"#),
        ("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=id\r\n\r\nalice\r\n--x--\r\n"),
    ] {
        assert_eq!(send(kind, body).problem(400), "ambiguous-deletion", "{kind} {body}");
    }
    let twice = post("/account/close", r#"{"id": "alice"}"#).bearer(&token).header("Content-Type", json);
    assert_eq!(twice.header("Content-Type", form).send(&gateway).status, 400);
    let coded = post("/account/close", r#"{"id": "alice"}"#).bearer(&token).header("Content-Type", json);
    assert_eq!(coded.header("Content-Encoding", "gzip").send(&gateway).problem(400), "ambiguous-deletion");
    assert_eq!(send(json, r#"{"id": "bob"}"#).problem(403), "not-the-owner");
    assert_eq!(
        send(json, &format!(r#"{{"id": "alice", "x": "{}"}}"#, "x".repeat(70 << 10))).problem(413),
        "body-too-large"
    );
    scene.untouched();
    let first = send(json, r#"{"id": "alice", "why": "I left"}"#).expect(202).json();
    let again = send("application/x-www-form-urlencoded;charset=utf-8", "why=&id=alice").expect(202).json();
    assert_eq!((&first["id"], &again["repeated"]), (&again["id"], &json!(true)));
    scene.untouched();
}

#[test]
fn a_request_that_is_repeated_or_sent_many_times_at_once_makes_one_deletion() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    let token = scene.token("alice");
    let ids: BTreeSet<String> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..16).map(|_| scope.spawn(|| ask(&gateway, "alice", &token).expect(202).json())).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()["id"].as_str().unwrap().to_owned()).collect()
    });
    assert_eq!(ids.len(), 1, "{ids:?}");
    let again = ask(&gateway, "alice", &token).expect(202).json();
    assert_eq!((again["repeated"].as_bool(), ids.contains(again["id"].as_str().unwrap())), (Some(true), true));
    // By somebody else who may, it is the same one.
    let admin = scene.token_with(json!({"sub": "root", "scope": "admin:accounts"}));
    assert_eq!(ask(&gateway, "alice", &admin).expect(202).json()["id"], again["id"]);
    let listed = get("/deletions").bearer(&token).send(&gateway).expect(200).json();
    assert_eq!(listed["deletions"].as_array().unwrap().len(), 1, "{listed}");
    // And after a restart.
    drop(gateway);
    let gateway = scene.world.restart().ready();
    assert_eq!(ask(&gateway, "alice", &token).expect(202).json()["id"], again["id"]);
    scene.untouched();
}

#[test]
fn while_it_is_held_the_persons_tokens_are_refused_and_told_how_to_have_the_account_back() {
    for (lines, status) in
        [("        grace: 1h\n", 403), ("        grace: 1h\n        while_held: {block: 410}\n", 410)]
    {
        let scene = Scene::new();
        let gateway = scene.start(Plan { lines, ..PLAIN });
        let (token, bob) = (scene.token_with(json!({"scope": "admin:accounts"})), scene.token("bob"));
        get("/items/1").bearer(&token).send(&gateway).expect(404);
        let asked = ask(&gateway, "alice", &token).expect(202).json();
        let another = scene.world.token(json!({"jti": "another", "iat": unix_now() + 5}));
        for token in [&token, &another] {
            let refused = get("/items/1").bearer(token).send(&gateway);
            assert_eq!(refused.problem(status), "account-held");
            assert_eq!(refused.json()["status_url"], asked["status_url"]);
            assert!(!refused.has("www-authenticate"), "another token would not help");
        }
        // Asked for once more it is the same one; and that is all that can be asked for.
        assert_eq!(ask(&gateway, "alice", &token).expect(202).json()["id"], asked["id"]);
        assert_eq!(ask(&gateway, "bob", &token).problem(status), "account-held");
        // Nor is anything told of others, whom a scope would entitle to ask for.
        let bobs = get("/deletions/preview?target=/accounts/bob").bearer(&token).send(&gateway);
        assert_eq!(bobs.problem(403), "account-held");
        get("/deletions/preview?target=/accounts/alice").bearer(&token).send(&gateway).expect(200);
        assert_eq!(delete("/Accounts/alice").bearer(&token).send(&gateway).status, 404);
        // What looks at no credential is there for everybody; so are others.
        get("/open/1").bearer(&token).send(&gateway).expect(404);
        get("/items/1").bearer(&bob).send(&gateway).expect(404);
        // Somebody of the same name at another issuer would be somebody else; here the same name in another case is.
        get("/items/1").bearer(&scene.token("Alice")).send(&gateway).expect(404);
        let cancelled = post(&path(&asked["cancel_url"]), "").bearer(&token).send(&gateway).expect(200).json();
        assert_eq!(cancelled["state"], "cancelled");
        get("/items/1").bearer(&token).send(&gateway).expect(404);
    }
}

#[test]
fn while_held_allow_lets_the_person_go_on() {
    let scene = Scene::new();
    let gateway = scene.start(Plan { lines: "        grace: 1h\n        while_held: allow\n", ..PLAIN });
    let token = scene.token("alice");
    ask(&gateway, "alice", &token).expect(202);
    get("/accounts/alice").bearer(&token).send(&gateway).expect(200);
}

#[test]
fn cancelling_needs_a_step_up_and_a_deletion_that_is_not_ones_own_is_none() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    let (token, weak) = (scene.token("alice"), scene.world.token(json!({"jti": "weak"})));
    let asked = ask(&gateway, "alice", &token).expect(202).json();
    let (status, cancel) = (path(&asked["status_url"]), path(&asked["cancel_url"]));
    // Whoever may not see it is told what whoever names none is told.
    let none = status.replace(asked["id"].as_str().unwrap(), &"0".repeat(32));
    let bob = scene.token("bob");
    let face = |answer: Answer| {
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        (answer.status, body, answer.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())
    };
    let strangers = [
        ("GET", status.clone(), none.clone()),
        ("POST", cancel.clone(), format!("{none}/cancel")),
        ("POST", format!("{status}/approve"), format!("{none}/approve")),
    ];
    for (method, its, nobodys) in strangers {
        let send = |path: &str| Request::new(method, path).bearer(&bob).body("").send(&gateway);
        let (theirs, missing) = (send(&its), send(&nobodys));
        assert_eq!(theirs.problem(404), "not-found");
        assert_eq!(face(theirs), face(missing), "{method} {its}");
    }
    assert_eq!(get(&status).send(&gateway).problem(401), "token-required");
    // Its owner sees it with any token, and cancels it with a fresh one.
    get(&status).bearer(&weak).send(&gateway).expect(200);
    assert_eq!(post(&cancel, "").send(&gateway).problem(401), "token-required");
    let refused = post(&cancel, "").bearer(&weak).send(&gateway);
    assert_eq!(refused.problem(401), "insufficient-user-authentication");
    assert!(refused.header("www-authenticate").contains("insufficient_user_authentication"), "RFC 9470 section 3");
    assert_eq!(get(&status).bearer(&weak).send(&gateway).json()["state"], "held");
    let cancelled = post(&cancel, "").bearer(&token).send(&gateway).expect(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    // Once more says so, and does nothing.
    assert_eq!(post(&cancel, "").bearer(&token).send(&gateway).expect(200).json()["state"], "cancelled");
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        assert_eq!(Request::new(method, &cancel).bearer(&token).send(&gateway).status, 405, "{method}");
    }
    // It can be asked for again, and is another one.
    assert_ne!(ask(&gateway, "alice", &token).expect(202).json()["id"], asked["id"]);
    scene.untouched();
}

#[test]
fn after_it_began_it_is_too_late_to_cancel_and_no_token_of_before_is_worth_anything() {
    let scene = Scene::new();
    let gateway = scene.start(Plan {
        lines: "        may: {see: [admin:accounts], cancel: [admin:accounts]}\n",
        sections: AUTHORITY,
        ..PLAIN
    });
    let token = scene.token("alice");
    let admin = scene.token_with(json!({"sub": "root", "scope": "admin:accounts"}));
    let asked = ask(&gateway, "alice", &token).expect(202).json();
    let seen = eventually("the end", || {
        let seen = ask_about(&gateway, &asked, &admin);
        (seen["state"] == "erased").then_some(seen)
    });
    let late = post(&path(&asked["cancel_url"]), "").bearer(&admin).send(&gateway);
    assert_eq!(late.problem(409), "deletion-too-late", "{seen}");
    for old in [token, scene.older("alice", 300), scene.token_with(json!({"iat": null}))] {
        for target in ["/items/1", "/accounts/alice", "/deletions"] {
            let refused = get(target).bearer(&old).send(&gateway);
            assert_eq!(refused.problem(401), "invalid-token", "{target}");
            assert!(refused.header("www-authenticate").contains("invalid_token"));
        }
    }
    // Nor at the authority, where whoever is only held is served.
    let old = scene.older("alice", 300);
    let refused = get("/second/api/v1/me").host("gate.example").bearer(&old).send(&gateway);
    assert_eq!(refused.problem(401), "invalid-token");
    // The name is used again: its new tokens pass, and whose was no part of it are as ever.
    eventually("a token that was issued after it", || {
        // Newer by more than the issuer's clock may be wrong.
        let newer = scene.token_with(json!({"sub": "alice", "jti": "newer", "iat": unix_now() + 29}));
        (get("/items/1").bearer(&newer).send(&gateway).status == 404).then_some(())
    });
    get("/items/1").bearer(&admin).send(&gateway).expect(404);
}

#[test]
fn the_plans_quota_counts_each_request_and_each_person_has_their_own() {
    let scene = Scene::new();
    let gateway = scene.start(Plan { lines: "        grace: 1h\n        limit: 3/10m\n", ..PLAIN });
    let (token, bob) = (scene.token("alice"), scene.token("bob"));
    // What is not one's own counts for nothing.
    assert_eq!(ask(&gateway, "bob", &token).problem(403), "not-the-owner");
    for _ in 0..3 {
        ask(&gateway, "alice", &token).expect(202);
    }
    let refused = ask(&gateway, "alice", &token);
    assert_eq!(refused.problem(429), "quota-exceeded");
    assert!(refused.has("retry-after"));
    ask(&gateway, "bob", &bob).expect(202);
    scene.untouched();
}

#[test]
fn by_http_2_with_a_body_and_with_an_expectation_it_is_the_same() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    let token = scene.token("alice");
    crate::harness::remember_secret(&token);
    let mut h2 = h2::H2::over(gateway.connect());
    let bearer = format!("Bearer {token}");
    let fields = [
        (":method", "DELETE"),
        (":scheme", "http"),
        (":path", "/accounts/alice"),
        (":authority", "gateway.example"),
        ("authorization", &bearer),
    ];
    h2.request(1, &fields);
    assert!(matches!(h2.status(1), h2::Ending::Status(202)), "by HTTP/2");
    // HEAD asks for what GET does, and nothing else.
    Request::new("HEAD", "/accounts/alice").bearer(&scene.token("bob")).send(&gateway).expect(200);
    let with_body =
        Request::new("DELETE", "/accounts/42").bearer(&scene.token("42")).header("Content-Type", "text/plain");
    with_body.clone().body("because I want to").send(&gateway).expect(202);
    let expecting =
        Request::new("DELETE", "/accounts/bob").bearer(&scene.token("bob")).header("Expect", "100-continue");
    expecting.body("because").send(&gateway).expect(202);
    assert!(scene.api.deletions().is_empty());
}

#[test]
fn a_preview_says_what_would_happen_and_does_nothing() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    let (token, weak) = (scene.token("alice"), scene.world.token(json!({"jti": "weak"})));
    let look = |target: &str, token: &str| {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("method", "DELETE")
            .append_pair("target", target)
            .finish();
        get(&format!("/deletions/preview?{query}")).bearer(token).send(&gateway)
    };
    let seen = look("/accounts/alice", &token).expect(200).json();
    assert_eq!((&seen["plan"], &seen["proof"]["held"]), (&json!("account"), &json!(true)), "{seen}");
    assert_eq!(seen["scope"]["erased"][0], "profile");
    let calls: Vec<&str> =
        seen["calls"].as_array().unwrap().iter().map(|call| call["upstream"].as_str().unwrap()).collect();
    assert!(calls.contains(&"search") && calls.contains(&"list"), "{seen}");
    let weakly = look("/accounts/alice", &weak).expect(200).json();
    assert_eq!(weakly["proof"]["held"], false, "{weakly}");
    assert_eq!(look("/accounts/bob", &token).problem(403), "not-the-owner");
    assert_eq!(look("/accounts/alice;v=1", &token).problem(400), "ambiguous-deletion");
    assert_eq!(look("/items/1", &token).problem(404), "not-found");
    assert_eq!(
        get("/deletions/preview?method=DELETE&target=/accounts/alice").send(&gateway).problem(401),
        "token-required"
    );
    scene.untouched();
    assert_eq!(get("/deletions").bearer(&token).send(&gateway).expect(200).json()["deletions"], json!([]));
}

const AUTHORITY: &str = "authority:
  url: https://gate.example
  path: /second
  danger_cleartext: true
";

#[test]
fn a_code_stands_for_a_fresh_login_in_asking_and_in_cancelling_and_the_authority_serves_whoever_is_held() {
    let scene = Scene::new();
    scene.configure(Plan { lines: "        grace: 1h\n", sections: AUTHORITY, ..PLAIN });
    let weak = scene.world.token(json!({"amr": ["pwd"]}));
    let codes = People::of(&scene.world).enrol(&weak).recovery;
    let gateway = scene.world.restart().ready();
    let refused = ask(&gateway, "alice", &weak);
    assert_eq!(refused.problem(401), "insufficient-user-authentication");
    assert_eq!(refused.json()["step_up"]["otp_header"], "Stepgate-OTP");
    let with_code = |request: Request, code: &str| request.bearer(&weak).header("Stepgate-OTP", code).send(&gateway);
    // A code is used by being looked at, and nothing is asked for by it that is not one's own.
    let others = with_code(delete("/accounts/bob"), &codes[0]);
    assert_eq!(others.problem(403), "not-the-owner");
    let asked = with_code(delete("/accounts/alice"), &codes[1]).expect(202).json();
    assert_eq!(get("/items/1").bearer(&weak).send(&gateway).problem(403), "account-held");
    let me = get("/second/api/v1/me").host("gate.example").bearer(&weak).send(&gateway).expect(200).json();
    assert_eq!(me["factors"].as_array().unwrap().len(), 1, "what cancelling needs can still be shown: {me}");
    let cancel = path(&asked["cancel_url"]);
    let refused = with_code(post(&cancel, ""), "000000");
    assert_eq!(refused.problem(403), "invalid-proof");
    let challenged = post(&cancel, "").bearer(&weak).send(&gateway);
    assert_eq!(challenged.problem(401), "insufficient-user-authentication");
    assert_eq!(challenged.json()["step_up"]["otp_header"], "Stepgate-OTP");
    assert_eq!(with_code(post(&cancel, ""), &codes[2]).expect(200).json()["state"], "cancelled");
    get("/items/1").bearer(&weak).send(&gateway).expect(404);
    assert!(scene.api.deletions().is_empty());
}

#[test]
fn a_plan_that_is_bound_takes_a_grant_for_this_very_request_alone() {
    let scene = Scene::new();
    scene.configure(Plan {
        lines: "        grace: 1h\n        assurance: {amr: [mfa], bind: request}\n        cancel: {assurance: {amr: [mfa]}}\n",
        sections: AUTHORITY,
        ..PLAIN
    });
    let weak = scene.world.token(json!({"amr": ["pwd"]}));
    let people = People::of(&scene.world);
    let codes = people.enrol(&weak).recovery;
    // Whichever level it asks for, as a client is told.
    let level = {
        let gateway = scene.world.restart().ready();
        let refused = ask(&gateway, "alice", &weak).expect(401).json();
        assert_eq!((&refused["step_up"]["bind"], &refused["step_up"]["grant"]), (&json!(true), &json!(true)));
        refused["step_up"]["level"].as_str().unwrap().to_owned()
    };
    let grant = |code: &str, method: &str, target: &str| {
        people.grant(&weak, &level, code, Some((method, &format!("https://gateway.example{target}"), "")))
    };
    let other = grant(&codes[0], "DELETE", "/accounts/bob");
    let right = grant(&codes[1], "DELETE", "/accounts/alice");
    drop(people);
    let gateway = scene.world.restart().ready();
    let send = |grant: &str| delete("/accounts/alice").bearer(&weak).header("Stepgate-Grant", grant).send(&gateway);
    assert_eq!(send(&other).problem(403), "invalid-proof");
    let by_code = delete("/accounts/alice").bearer(&weak).header("Stepgate-OTP", &codes[2]).send(&gateway);
    assert_eq!(by_code.problem(401), "insufficient-user-authentication");
    send(&right).expect(202);
    assert_eq!(send(&right).problem(403), "invalid-proof", "it is spent");
    scene.untouched();
}

#[test]
fn a_second_person_approves_with_the_proof_that_asking_needs_and_nobody_approves_their_own() {
    let scene = Scene::new();
    let lines = "        four_eyes: true\n        may: {see: [looks], approve: [approves]}\n";
    let gateway = scene.start(Plan { lines, ..PLAIN });
    let token = scene.token_with(json!({"scope": "looks approves"}));
    let asked = ask(&gateway, "alice", &token).expect(202).json();
    let approve = format!("{}/approve", path(&asked["status_url"]));
    assert_eq!(see(&gateway, &asked, &token).json()["holds"], json!(["approval"]));
    assert_eq!(post(&approve, "").bearer(&token).send(&gateway).problem(403), "second-person-required");
    let looker = scene.token_with(json!({"sub": "lou", "scope": "looks"}));
    see(&gateway, &asked, &looker).expect(200);
    assert_eq!(post(&approve, "").bearer(&looker).send(&gateway).problem(404), "not-found");
    let stale = scene.token_with(json!({"sub": "ann", "scope": "looks approves", "auth_time": unix_now() - 4000}));
    assert_eq!(post(&approve, "").bearer(&stale).send(&gateway).problem(401), "insufficient-user-authentication");
    scene.untouched();
    let second = scene.token_with(json!({"sub": "ann", "scope": "looks approves"}));
    let approved = post(&approve, "").bearer(&second).send(&gateway).expect(200).json();
    assert_eq!(approved["holds"], json!([]), "{approved}");
    eventually("the end", || (!scene.api.has("alice") && !scene.list.has("alice")).then_some(()));
}

#[test]
fn the_description_of_the_deletions_is_an_openapi_document_for_somebody_elses_validator() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    let document = get("/deletions/openapi.json").send(&gateway).expect(200);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "openapi-spec-validator is not installed: run `./test setup`");
    let checked = run(Command::new(python).arg(folder.join("validate.py")), &document.text());
    assert_eq!((checked.code, checked.stdout.trim()), (0, ""), "{}", checked.stderr);
    let document = document.json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let target = format!("/deletions{}", path.replace("{id}", "x"));
            let answer = Request::new(&method.to_uppercase(), &target).send(&gateway);
            assert!(![404, 405].contains(&answer.status), "{method} {target}: {}", answer.status);
        }
    }
    // And what it describes is what is told.
    let token = scene.token("alice");
    let asked = ask(&gateway, "alice", &token).expect(202).json();
    let told = see(&gateway, &asked, &token).expect(200).json();
    let required = document["components"]["schemas"]["Deletion"]["required"].as_array().unwrap();
    assert!(required.iter().all(|name| told.get(name.as_str().unwrap()).is_some()), "{told}");
}

#[test]
fn no_answer_record_or_event_names_the_person_but_to_themselves() {
    let scene = Scene::new();
    let gateway = scene.start(Plan { lines: "        grace: 1h\n", ..PLAIN });
    let admin = scene.token_with(json!({"sub": "root", "scope": "admin:accounts"}));
    let asked = ask(&gateway, "Carol", &admin).expect(202);
    let seen = see(&gateway, &asked.json(), &admin).expect(200);
    for text in [asked.text(), seen.text(), gateway.metrics(), gateway.stderr()] {
        assert!(!text.contains("Carol"), "{text}");
    }
}

#[test]
fn after_somebody_said_that_it_was_not_them_no_deletion_of_the_account_is_taken() {
    let scene = Scene::new();
    let hook = Recorder::new();
    scene.world.write("hook.secret", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let sections = format!(
        "notify: {{webhooks: {{crm: {{url: 'http://127.0.0.1:{}/', secret: {{file: hook.secret}}}}}}}}",
        hook.port
    );
    let lines = "        grace: 1h\n        notify: [{webhook: crm}]\n";
    let gateway = scene.start(Plan { lines, sections: sections.leak(), ..PLAIN });
    let token = scene.token("alice");
    let asked = ask(&gateway, "alice", &token).expect(202).json();
    let notice = hook.wait_for(1).remove(0);
    let notice: Value = serde_json::from_slice(&notice.body).unwrap();
    let link = path(&notice["data"]["link"]);
    // Whoever only looks, as programs that read mail do, changes nothing.
    for method in ["GET", "HEAD"] {
        Request::new(method, &link).host("api.example").send(&gateway).expect(200);
    }
    assert_eq!(see(&gateway, &asked, &token).json()["state"], "held");
    let press =
        |link: &str| post(link, "").host("api.example").header("Content-Type", "application/x-www-form-urlencoded");
    let wrong = link.split_once("token=").unwrap().0.to_owned() + "token=" + &"0".repeat(64);
    assert_eq!(press(&wrong).send(&gateway).status, 404);
    press(&link).header("Origin", "https://api.example").send(&gateway).expect(200);
    assert_eq!(see(&gateway, &asked, &token).json()["state"], "cancelled");
    assert_eq!(ask(&gateway, "alice", &token).problem(409), "deletions-frozen");
    get("/items/1").bearer(&token).send(&gateway).expect(404);
    ask(&gateway, "bob", &scene.token("bob")).expect(202);
    // The link's secret is in no record.
    let secret = link.split_once("token=").unwrap().1.to_owned();
    assert!(!gateway.stdout().contains(&secret) && !gateway.stderr().contains(&secret));
    let records = gateway.audit();
    assert!(!records.iter().any(|record| record.to_string().contains(&secret)));
}

#[test]
fn explain_says_which_plan_takes_a_request_over_and_what_it_needs() {
    let scene = Scene::new();
    scene.configure(PLAIN);
    let (fresh, weak) = (scene.token("alice"), scene.world.token(json!({})));
    let explain = |target: &str, token: &str| {
        let url = format!("https://gateway.example{target}");
        stepgate(scene.world.folder(), &["explain", "DELETE", &url, "--token", token])
    };
    let said = explain("/accounts/alice", &fresh);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("taken over by plan account as `DELETE /accounts/{id}`"), "{said:?}");
    assert!(said.stdout.contains("plan account would take the deletion over"), "{said:?}");
    let said = explain("/accounts/alice", &weak);
    assert!(said.code == 1 && said.stdout.contains("insufficient-user-authentication"), "{said:?}");
    let said = explain("/accounts/alice;v=1", &fresh);
    assert!(said.code == 1 && said.stdout.contains("deletion_ambiguous"), "{said:?}");
}

#[test]
fn explain_refuses_what_could_pass_for_a_deletion_before_it_asks_for_a_credential() {
    let scene = Scene::new();
    let gateway = scene.start(PLAIN);
    assert_eq!(delete("/accounts/alice;v=1").send(&gateway).problem(400), "ambiguous-deletion");
    let said = stepgate(scene.world.folder(), &["explain", "DELETE", "https://gateway.example/accounts/alice;v=1"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("not in the exact form that is taken over by plan account"), "{said:?}");
    assert!(said.stdout.contains("refused: 400 ambiguous-deletion — deletion_ambiguous"), "{said:?}");
    assert!(!said.stdout.contains("token_missing"), "{said:?}");
}

#[test]
fn a_file_without_deletions_is_refused_while_the_store_has_any_and_one_without_plans_carries_them_out() {
    let scene = Scene::new();
    let gateway = scene.start(Plan { lines: "        grace: 6s\n", ..PLAIN });
    let token = scene.token("alice");
    ask(&gateway, "alice", &token).expect(202);
    let api = scene.api.recorder.port;
    let without = format!(
        "sealing: {{key: {{file: seal.key}}}}
upstreams: {{api: {{targets: ['http://127.0.0.1:{api}']}}, search: {{targets: ['http://127.0.0.1:{}']}}, list: {{targets: ['http://127.0.0.1:{}']}}}}
routes: [{{path: /items/**, upstream: api, auth: [main]}}]
",
        scene.search.recorder.port, scene.list.recorder.port
    );
    scene.world.configure(&without);
    gateway.signal("HUP");
    eventually("the refusal", || gateway.stderr().contains("there is no section `deletions`").then_some(()));
    drop(gateway);
    let refused = stepgate(scene.world.folder(), &["run", "gateway.yaml"]);
    assert_eq!(refused.code, 78);
    assert!(refused.stderr.contains("plans: {}"), "{}", refused.stderr);
    let kept = format!("{without}deletions: {{url: 'https://api.example', plans: {{}}}}\n");
    let gateway = scene.world.start(&kept);
    eventually("the end", || (!scene.api.has("alice") && !scene.list.has("alice")).then_some(()));
    drop(gateway);
}
