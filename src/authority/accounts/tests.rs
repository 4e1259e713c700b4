//! The room as a whole, on a real store: what a caller gets, what an attacker does not, and that each thing happens once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod forget;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{second::SecondStep, *};
use crate::{
    authority::{
        Answer, Answered, Begun, Call, Caller, Change, Finished, Holder, Proof, Unobserved, Way, testing::Ear,
    },
    clock::SystemClock,
    config::{Input, Materials},
    jose::{self, JwkSet},
    notify::{self, Channels, Outbox},
    policy::{Assurance, Factor, Principal, Reason},
    store::Table,
};

const PASSWORD: &str = "ein kleines grünes Pferd";
const OTHER: &str = "zwei große blaue Kühe";
const CODE: &str = "246810";

/// A second step whose people have a factor or not, and whose code is always the same.
#[derive(Debug, Default)]
struct Steps {
    enrolled: Mutex<bool>,
    used: Mutex<Vec<String>>,
    on_probation: Mutex<bool>,
}

impl SecondStep for Steps {
    async fn has_factors(&self, _: &Caller, _: Now) -> Result<bool, Fault> {
        Ok(*self.enrolled.lock().unwrap())
    }

    async fn begin(&self, caller: &Caller, _: Option<Factor>, _: Way<'_>, now: Now) -> Result<Begun, Fault> {
        Ok(Begun {
            id: URL_SAFE_NO_PAD.encode(caller.holder),
            expires_at: now.unix_secs() + 300,
            factors: vec![Factor::Totp],
            passkey: None,
            sent_to: None,
            number: None,
        })
    }

    async fn finish(
        &self,
        caller: &Caller,
        id: &str,
        shown: Answered<'_>,
        _: Way<'_>,
        now: Now,
    ) -> Result<Finished, Fault> {
        let mine = id == URL_SAFE_NO_PAD.encode(caller.holder);
        match shown {
            Answered::Code(CODE) if mine => {
                let proof = Proof { may_delete: !*self.on_probation.lock().unwrap(), ..strong(now) };
                Ok(Finished::Proved { proof, elevated_until: None, handover: None })
            }
            _ => Err(Fault::Proof),
        }
    }

    async fn redeem(&self, _: &Caller, id: &str, now: Now) -> Result<Proof, Fault> {
        let mut used = self.used.lock().unwrap();
        if id != "proved" || used.iter().any(|known| known == id) {
            return Err(Fault::Proof);
        }
        used.push(id.to_owned());
        Ok(strong(now))
    }

    fn caller(&self, principal: &Principal) -> Option<Caller> {
        Some(Caller {
            issuer: principal.issuer_url.as_ref().into(),
            subject: principal.subject.as_ref().into(),
            holder: Holder([1; 32]).0,
            credential: [1; 32],
            first: crate::authority::Shown::default(),
            mail: None,
            addresses: Vec::new(),
        })
    }

    fn assurance(&self, proof: &Proof) -> Assurance {
        Assurance {
            acr: proof.amr.iter().any(|method| method == "mfa").then(|| "gold".into()),
            further_acr: Box::default(),
            amr: proof.amr.iter().map(|method| Arc::from(method.as_str())).collect(),
            auth_time: Some(proof.at_ms as f64 / 1000.0),
            factors: proof.factors(),
            on_probation: false,
        }
    }
}

fn strong(now: Now) -> Proof {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Proof {
        factors: list(&["password", "totp"]),
        categories: list(&["knowledge", "possession"]),
        amr: list(&["pwd", "otp", "mfa"]),
        factor_id: "f".to_owned(),
        at_ms: now.unix_ms,
        may_delete: true,
        era: 0,
    }
}

/// Remembers which sessions were refused.
#[derive(Debug, Default)]
struct Refused(Mutex<Vec<String>>);

impl SessionEnds for Refused {
    fn end(&self, _: &str, sids: Vec<String>, _: u64, _: Now) -> Pending<()> {
        self.0.lock().unwrap().extend(sids);
        Box::pin(async { Ok(()) })
    }
}

struct NoFiles;

impl Materials for NoFiles {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(b"hasenbraten mit klo\xc3\x9fen\n".to_vec())
    }

    fn env(&self, _: &str) -> Option<String> {
        Some("0123456789abcdef0123456789abcdef".to_owned())
    }
}

struct Scene {
    accounts: Accounts,
    second: Steps,
    refused: Arc<Refused>,
    ear: Arc<Ear>,
    now: Now,
    client: &'static str,
}

const YAML: &str = "
sealing: {key: {env: KEY}}
authority:
  url: http://localhost:8080
  mode: accounts
  accounts:
    audience: https://api.example
    registration: REGISTRATION
    scopes: ['items:read', 'items:write']
    password: {min_length: 12, refused: refused.txt}
    refresh: {REFRESH}
notify:
  mail: {server: 'smtps://mail.example:465', from: 'gateway@example.org'}
listeners: [{address: '127.0.0.1:8080', cleartext: true}]
upstreams: {api: {targets: ['http://127.0.0.1:1']}}
assurance: {strong: {amr: [mfa], max_age: 1h}}
routes: [{path: /**, upstream: api, auth: [authority]}]
";

fn config(registration: &str, refresh: &str) -> config::Config {
    let text = YAML.replace("REGISTRATION", registration).replace("REFRESH", refresh);
    let env = |_: &str| Some("0123456789abcdef0123456789abcdef".to_owned());
    let input = Input { file: Path::new("t.yaml"), text: &text, base: Path::new("/"), env: &env };
    config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn means(store: &Arc<Store>, config: &config::Config, ends: Arc<dyn SessionEnds>) -> AccountsMeans {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let roots = crate::client::MachineRoots::nobody();
    let channels = Channels::compile(config.notify.as_deref(), &NoFiles, &roots).unwrap_or_default();
    AccountsMeans {
        store: store.clone(),
        outbox: Outbox::new(store.clone(), channels, clock.clone(), Arc::new(notify::Unobserved)),
        observer: Arc::new(Unobserved),
        ends,
        keys: Arc::new(
            crate::store::testing::wait(Keys::open(
                store,
                jose::Algorithm::ES256,
                Duration::from_secs(86_400),
                clock.now(),
            ))
            .unwrap(),
        ),
        published: PublishedKeys::default(),
        handle: Handle::current(),
        clock,
    }
}

impl Scene {
    async fn with(registration: &str, refresh: &str) -> Self {
        let config = config(registration, refresh);
        let refused = Arc::new(Refused::default());
        let ear = Arc::new(Ear::default());
        let means = means(&Arc::new(Store::for_tests()), &config, refused.clone());
        let means = AccountsMeans { observer: ear.clone(), ..means };
        let accounts = Accounts::compile(config.authority.as_ref().unwrap(), &NoFiles, means, None).unwrap().unwrap();
        let now = SystemClock.now();
        Self { accounts, second: Steps::default(), refused, ear, now, client: "192.0.2.1" }
    }

    async fn open() -> Self {
        Self::with("open", "").await
    }

    /// One with an account for alice, imported with a password that bcrypt made of "".
    async fn with_alice() -> Self {
        let scene = Self::open().await;
        scene.add("alice", Some("alice@example.org"), PASSWORD).await;
        scene
    }

    async fn add(&self, name: &str, mail: Option<&str>, password: &str) -> String {
        let hash = crate::password::StoredHash::fresh(password.as_bytes()).unwrap();
        let account = rows::Account::new(name, mail, hash, self.now).unwrap();
        let store = self.accounts.store();
        store.commit(rows::insert(store, Batch::new(), &account), self.now).await.unwrap();
        account.id
    }

    fn later(&mut self, secs: u64) {
        self.now = self.now.after(Duration::from_secs(secs));
    }

    async fn call(&self, method: Method, path: &str, body: Value, token: Option<&str>) -> (StatusCode, Value, Reason) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("test/1"));
        let principal = token.map(|token| Arc::new(self.principal(token)));
        let body = Bytes::from(if body.is_null() { String::new() } else { body.to_string() });
        let path = format!("/api/v1/accounts{path}");
        let call = self.a_call(&method, &path, &headers, &body, principal.as_ref());
        shown(self.accounts.answer(&self.second, &call).await.unwrap())
    }

    fn a_call<'a>(
        &self,
        method: &'a Method,
        path: &'a str,
        headers: &'a HeaderMap,
        body: &'a Bytes,
        principal: Option<&'a Arc<Principal>>,
    ) -> Call<'a> {
        Call {
            method,
            path,
            query: None,
            authority: "localhost:8080",
            headers,
            body,
            principal,
            client: self.client.parse().unwrap(),
            confidential: true,
            request_id: "r",
            now: self.now,
        }
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value, Reason) {
        self.call(Method::POST, path, body, None).await
    }

    async fn sign_in(&self, name: &str, password: &str) -> (StatusCode, Value, Reason) {
        self.post("/sign-in", json!({"name": name, "password": password})).await
    }

    async fn signed_in(&self) -> Value {
        let (status, tokens, _) = self.sign_in("alice", PASSWORD).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens
    }

    async fn refresh(&self, token: &Value) -> (StatusCode, Value) {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap())];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let call = self.a_call(&Method::POST, "/token", &headers, &body, None);
        let (status, value, _) = shown(self.accounts.refresh(&self.second, &form, &call).await);
        (status, value)
    }

    /// What the gateway makes of an access token of ours.
    fn principal(&self, token: &str) -> Principal {
        let claims = claims(token);
        let text = |name: &str| claims[name].as_str().map(Arc::from);
        Principal {
            issuer: "authority".into(),
            issuer_url: text("iss").unwrap(),
            subject: text("sub").unwrap(),
            client: text("client_id"),
            scopes: Box::default(),
            assurance: Assurance::default(),
            expires_at: None,
            leeway_secs: 0.0,
            kind: crate::policy::Kind::Person,
            marks: crate::policy::Marks { session: text("sid"), ..Default::default() },
            binding: None,
            limits: Box::default(),
            told: crate::policy::Told::default(),
            claims,
        }
    }

    /// The mails that wait, oldest first.
    async fn mails(&self) -> Vec<(String, String)> {
        let rows = self.accounts.store().page::<Value>(Table::Outbox, "", None, 100, self.now).await.unwrap();
        let mut rows: Vec<Value> = rows.into_iter().map(|row| row.value).collect();
        rows.sort_by_key(|row| row["at"].as_u64());
        let text = |row: &Value, name: &str| row["message"][name].as_str().unwrap_or_default().to_owned();
        rows.iter()
            .map(|row| (row["message"]["channel"]["mail"]["to"].as_str().unwrap().to_owned(), text(row, "text")))
            .collect()
    }

    async fn code_for(&self, address: &str) -> String {
        let mails = self.mails().await;
        let found = mails.iter().filter(|(to, text)| to == address && text.starts_with("Your code is "));
        { found }.next_back().unwrap().1["Your code is ".len()..].split_whitespace().next().unwrap().to_owned()
    }

    async fn sessions(&self) -> usize {
        self.accounts.store().page::<Value>(Table::Sessions, "s:", None, 500, self.now).await.unwrap().len()
    }
}

fn shown(answer: Answer) -> (StatusCode, Value, Reason) {
    let status = if answer.refusal.is_some() { StatusCode::IM_A_TEAPOT } else { answer.response.status() };
    (status, serde_json::from_slice(answer.response.body()).unwrap_or_default(), answer.reason)
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

// -- registering

#[tokio::test]
async fn whoever_reads_the_mail_of_an_address_gets_an_account_and_signs_in_by_name_or_address() {
    let scene = Scene::open().await;
    let wanted = json!({"name": "Alice", "email": "alice@example.org", "password": PASSWORD});
    let (status, asked, _) = scene.post("/registrations", wanted).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::SignInRefused, "not before the address is confirmed");
    let code = scene.code_for("alice@example.org").await;
    let confirm = json!({"registration": asked["registration"], "code": code.to_lowercase()});
    let (status, made, _) = scene.post("/registrations/confirm", confirm.clone()).await;
    assert_eq!((status, &made["name"]), (StatusCode::CREATED, &json!("Alice")));
    assert_eq!(scene.post("/registrations/confirm", confirm).await.2, Reason::SignInRefused, "once");
    for name in ["Alice", "ALICE", "alice@example.org", "Alice@Example.org"] {
        let (status, tokens, _) = scene.sign_in(name, PASSWORD).await;
        assert_eq!(status, StatusCode::OK, "{name}");
        assert_eq!(claims(text(&tokens["access_token"]))["sub"], made["subject"]);
    }
}

#[tokio::test]
async fn whether_an_address_has_an_account_shows_in_no_answer_and_in_no_work_but_its_owner_hears_of_it() {
    let scene = Scene::with_alice().await;
    let mut answers = Vec::new();
    for address in ["alice@example.org", "nobody@example.org"] {
        let before = (scene.accounts.hashing.computed(), scene.mails().await.len());
        let wanted = json!({"name": "somebody", "email": address, "password": OTHER});
        let (status, answer, reason) = scene.post("/registrations", wanted).await;
        let work = (scene.accounts.hashing.computed() - before.0, scene.mails().await.len() - before.1);
        let confirm = json!({"registration": answer["registration"], "code": "00000-00000"});
        let (confirmed, _, refused) = scene.post("/registrations/confirm", confirm).await;
        let members: Vec<String> = answer.as_object().unwrap().keys().cloned().collect();
        answers.push((status, members, reason, work, confirmed, refused));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].3, (1, 1), "one hash and one mail, either way");
    let mails = scene.mails().await;
    let told = |address: &str| mails.iter().find(|(to, _)| to == address).unwrap().1.clone();
    assert!(told("alice@example.org").contains("has one already"));
    assert!(!told("alice@example.org").contains("Your code is"));
}

#[tokio::test]
async fn a_code_is_looked_at_five_times_and_a_taken_name_is_told_to_who_has_it_alone() {
    let scene = Scene::with_alice().await;
    let wanted = json!({"name": "alice", "email": "b@example.org", "password": OTHER});
    let (status, asked, _) = scene.post("/registrations", wanted.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "a name that is taken is no reason here");
    let code = scene.code_for("b@example.org").await;
    let (_, _, reason) =
        scene.post("/registrations/confirm", json!({"registration": asked["registration"], "code": code})).await;
    assert_eq!(reason, Reason::CallRefused, "told to who has the code");
    let again = json!({"registration": asked["registration"], "code": code, "name": "berta"});
    assert_eq!(scene.post("/registrations/confirm", again).await.0, StatusCode::CREATED);

    let wanted = json!({"email": "c@example.org", "password": OTHER});
    let (_, asked, _) = scene.post("/registrations", wanted).await;
    let code = scene.code_for("c@example.org").await;
    for _ in 0..5 {
        let wrong = json!({"registration": asked["registration"], "code": "ZZZZZ-ZZZZZ"});
        assert_eq!(scene.post("/registrations/confirm", wrong).await.2, Reason::SignInRefused);
    }
    let right = json!({"registration": asked["registration"], "code": code});
    assert_eq!(scene.post("/registrations/confirm", right).await.2, Reason::SignInRefused, "too late");
}

#[tokio::test]
async fn an_address_gets_only_so_many_mails_and_whoever_asks_sees_no_difference() {
    let scene = Scene::open().await;
    for _ in 0..5 {
        let wanted = json!({"email": "a@example.org", "password": PASSWORD});
        assert_eq!(scene.post("/registrations", wanted).await.0, StatusCode::ACCEPTED);
    }
    assert_eq!(scene.mails().await.len(), 3);
}

#[tokio::test]
async fn an_invitation_makes_one_account_and_closed_is_closed() {
    let scene = Scene::with("invitation", "").await;
    let wanted = json!({"email": "a@example.org", "password": PASSWORD});
    assert_eq!(scene.post("/registrations", wanted).await.2, Reason::EnrolmentRefused);
    let invitation = scene.accounts.invite_account("op", Some("a@example.org"), None, scene.now).await.unwrap();
    let wanted = |name: &str| json!({"name": name, "password": PASSWORD, "invitation": invitation.code});
    let (one, two) =
        tokio::join!(scene.post("/registrations", wanted("alice")), scene.post("/registrations", wanted("berta")));
    let made = [&one, &two].iter().filter(|answer| answer.0 == StatusCode::CREATED).count();
    assert_eq!(made, 1, "{one:?} {two:?}");
    assert_eq!(scene.sign_in("a@example.org", PASSWORD).await.0, StatusCode::OK);

    let scene = Scene::with("closed", "").await;
    let invitation = scene.accounts.invite_account("op", None, None, scene.now).await.unwrap();
    let wanted = json!({"name": "alice", "password": PASSWORD, "invitation": invitation.code});
    assert_eq!(scene.post("/registrations", wanted).await.2, Reason::EnrolmentRefused);
}

#[tokio::test]
async fn weak_passwords_are_refused_with_the_reason() {
    let scene = Scene::open().await;
    for weak in
        ["zu kurz", "hasenbraten mit kloßen", "aaaaaaaaaaaaaaaa", "carol@example.org1", "correcthorsebatterystaple"]
    {
        let wanted = json!({"email": "carol@example.org", "password": weak});
        assert_eq!(scene.post("/registrations", wanted).await.2, Reason::CallRefused, "{weak}");
    }
    assert!(scene.mails().await.is_empty());
}

// -- signing in

#[tokio::test]
async fn unknown_wrong_and_locked_are_one_answer_and_an_unknown_name_costs_the_same_hash() {
    let scene = Scene::with_alice().await;
    let mut answers = Vec::new();
    for (name, password) in [("nobody", PASSWORD), ("alice", OTHER)] {
        let before = scene.accounts.hashing.computed();
        answers.push(scene.sign_in(name, password).await);
        assert_eq!(scene.accounts.hashing.computed() - before, 1, "{name}");
    }
    for name in ["alice", "nobody"] {
        for _ in 0..6 {
            answers.push(scene.sign_in(name, OTHER).await);
        }
        let before = scene.accounts.hashing.computed();
        answers.push(scene.sign_in(name, PASSWORD).await);
        assert_eq!(scene.accounts.hashing.computed(), before, "nothing is looked at while {name} is locked");
    }
    answers.dedup();
    assert_eq!(answers, [(StatusCode::IM_A_TEAPOT, Value::Null, Reason::SignInRefused)]);
}

#[tokio::test]
async fn a_lock_is_at_one_address_and_ends_and_a_restart_keeps_it() {
    let mut scene = Scene::with_alice().await;
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK);
    for _ in 0..5 {
        scene.sign_in("alice", OTHER).await;
    }
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::SignInRefused);
    scene.client = "192.0.2.7";
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK, "another address is not locked");
    scene.client = "192.0.2.1";
    // Another process on the same store.
    let config = config("open", "");
    let again = means(&scene.accounts.means.store, &config, scene.refused.clone());
    scene.accounts = Accounts::compile(config.authority.as_ref().unwrap(), &NoFiles, again, None).unwrap().unwrap();
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::SignInRefused, "still locked");
    scene.later(31);
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_operator_lifts_the_locks_of_an_account_by_all_its_names_and_of_no_other() {
    let scene = Scene::with_alice().await;
    scene.add("berta", None, PASSWORD).await;
    for name in ["alice", "alice@example.org", "berta"] {
        for _ in 0..5 {
            scene.sign_in(name, OTHER).await;
        }
        assert_eq!(scene.sign_in(name, PASSWORD).await.2, Reason::SignInRefused);
    }
    let account = super::rows::by_name(scene.accounts.store(), "alice", scene.now).await.unwrap().unwrap();
    scene.accounts.unlock(&scene.accounts.owner(&account.value.id), scene.now).await.unwrap();
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK);
    assert_eq!(scene.sign_in("alice@example.org", PASSWORD).await.0, StatusCode::OK);
    assert_eq!(scene.sign_in("berta", PASSWORD).await.2, Reason::SignInRefused);
}

#[tokio::test]
async fn guessing_in_parallel_gains_nothing() {
    let scene = Scene::with_alice().await;
    let before = scene.accounts.hashing.computed();
    let guesses = (0..20).map(|_| scene.sign_in("alice", OTHER));
    for answer in futures_all(guesses).await {
        assert!(matches!(answer.2, Reason::SignInRefused | Reason::AuthorityUnavailable), "{answer:?}");
    }
    assert!(scene.accounts.hashing.computed() - before <= 5);
}

/// All of them, at the same time.
async fn futures_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waits = false;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => waits = true,
                }
            }
        }
        if waits { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn with_a_factor_there_is_no_token_before_it_is_shown_and_a_ticket_is_good_once() {
    let scene = Scene::with_alice().await;
    *scene.second.enrolled.lock().unwrap() = true;
    let (status, asked, _) = scene.sign_in("alice", PASSWORD).await;
    assert_eq!((status, &asked["status"]), (StatusCode::OK, &json!("second_factor")));
    assert!(asked.get("access_token").is_none() && scene.sessions().await == 0);
    let verify = |code: &str| json!({"ticket": asked["ticket"], "id": asked["challenge"]["id"], "code": code});
    assert_eq!(scene.post("/sign-in/verify", verify("000000")).await.2, Reason::ProofRefused);
    let (status, tokens, _) = scene.post("/sign-in/verify", verify(CODE)).await;
    assert_eq!(status, StatusCode::OK);
    let claims = claims(text(&tokens["access_token"]));
    assert_eq!(claims["amr"], json!(["pwd", "otp", "mfa"]));
    assert_eq!(
        (&claims["factors"], &claims["acr"], &claims["acrs"]),
        (&json!(["password", "totp"]), &json!("gold"), &json!(["gold"]))
    );
    assert_eq!(scene.post("/sign-in/verify", verify(CODE)).await.2, Reason::SignInRefused, "the ticket is used");
    assert_eq!(scene.sessions().await, 1);

    // A ticket of one sign-in is no good for the challenge of another.
    let (_, one, _) = scene.sign_in("alice", PASSWORD).await;
    let (_, two, _) = scene.sign_in("alice", PASSWORD).await;
    let mixed = json!({"ticket": one["ticket"], "id": two["challenge"]["id"], "code": CODE});
    assert_eq!(scene.post("/sign-in/verify", mixed).await.2, Reason::ProofRefused);
}

#[tokio::test]
async fn two_who_use_one_ticket_at_once_get_one_session() {
    let scene = Scene::with_alice().await;
    *scene.second.enrolled.lock().unwrap() = true;
    let (_, asked, _) = scene.sign_in("alice", PASSWORD).await;
    let verify = json!({"ticket": asked["ticket"], "id": asked["challenge"]["id"], "code": CODE});
    let both = futures_all((0..4).map(|_| scene.post("/sign-in/verify", verify.clone()))).await;
    assert_eq!(both.iter().filter(|answer| answer.0 == StatusCode::OK).count(), 1, "{both:?}");
    assert_eq!(scene.sessions().await, 1);
}

#[tokio::test]
async fn sign_ins_at_the_same_moment_all_succeed() {
    let scene = Scene::with_alice().await;
    let all = futures_all((0..4).map(|_| scene.sign_in("alice", PASSWORD))).await;
    assert!(all.iter().all(|answer| answer.0 == StatusCode::OK), "{all:?}");
    assert_eq!(scene.sessions().await, 4);
}

#[tokio::test]
async fn an_access_token_is_one_of_rfc_9068() {
    let scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    let token = text(&tokens["access_token"]);
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    let set = JwkSet::parse(scene.accounts.jwks(scene.now).to_string().as_bytes()).unwrap();
    let algorithms = [jose::Algorithm::ES256].into_iter().collect();
    let inspected = jose::inspect(token, 8192).unwrap();
    assert!(jose::verify_any(inspected, set.keys.iter(), algorithms).is_ok(), "by the published keys");
    let claims = claims(token);
    let secs = scene.now.unix_secs();
    assert_eq!(claims["iss"], "http://localhost:8080/stepgate");
    assert_eq!((&claims["aud"], &claims["client_id"]), (&json!("https://api.example"), &json!("stepgate-accounts")));
    assert_eq!(
        (&claims["iat"], &claims["exp"], &claims["auth_time"]),
        (&json!(secs), &json!(secs + 300), &json!(secs))
    );
    assert_eq!((&claims["amr"], &claims["factors"]), (&json!(["pwd"]), &json!(["password"])));
    assert_eq!(claims["scope"], "items:read items:write");
    assert!(text(&claims["jti"]).len() == 22 && text(&claims["sid"]).len() == 44);
    let sub = text(&claims["sub"]);
    assert!(sub.len() == 22 && !sub.contains("alice"), "opaque: {sub}");
    assert_eq!(tokens["token_type"], "Bearer");

    let metadata = scene.accounts.metadata();
    assert_eq!(scene.accounts.metadata_path(), "/.well-known/oauth-authorization-server/stepgate");
    assert_eq!(metadata["issuer"], claims["iss"]);
    assert_eq!(metadata["jwks_uri"], "http://localhost:8080/stepgate/jwks.json");
}

#[tokio::test]
async fn scopes_can_be_fewer_and_never_more() {
    let scene = Scene::with_alice().await;
    let wanted = |scope: &str| json!({"name": "alice", "password": PASSWORD, "scope": scope});
    let (_, tokens, _) = scene.post("/sign-in", wanted("items:read")).await;
    assert_eq!(claims(text(&tokens["access_token"]))["scope"], "items:read");
    assert_eq!(scene.post("/sign-in", wanted("admin")).await.2, Reason::CallRefused);
    let token = text(&tokens["refresh_token"]).to_owned();
    let form = [("refresh_token", token.as_str()), ("scope", "items:read items:write")]
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
    let (headers, body) = (HeaderMap::new(), Bytes::new());
    let call = scene.a_call(&Method::POST, "/token", &headers, &body, None);
    let (status, answer, _) = shown(scene.accounts.refresh(&scene.second, &form, &call).await);
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_scope")));
}

#[tokio::test]
async fn in_the_clear_nothing_is_answered() {
    let scene = Scene::with_alice().await;
    let (method, headers) = (Method::POST, HeaderMap::new());
    let body = Bytes::from(json!({"name": "alice", "password": PASSWORD}).to_string());
    let call = scene.a_call(&method, "/api/v1/accounts/sign-in", &headers, &body, None);
    let (_, _, reason) =
        shown(scene.accounts.answer(&scene.second, &Call { confidential: false, ..call }).await.unwrap());
    assert_eq!(reason, Reason::CallRefused);
    let (_, _, reason) = shown(scene.accounts.answer(&scene.second, &call).await.unwrap());
    assert_eq!(reason, Reason::CallRefused, "and nothing that a form of another origin could send");
}

// -- renewing

#[tokio::test]
async fn a_renewal_rotates_keeps_auth_time_and_ends_the_session_when_an_old_token_comes_again() {
    let mut scene = Scene::with_alice().await;
    let first = scene.signed_in().await;
    scene.later(100);
    let (status, second) = scene.refresh(&first["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let (one, two) = (claims(text(&first["access_token"])), claims(text(&second["access_token"])));
    assert_eq!((&one["auth_time"], &one["sid"]), (&two["auth_time"], &two["sid"]));
    assert_eq!(two["iat"].as_u64().unwrap() - one["iat"].as_u64().unwrap(), 100);

    let (status, answer) = scene.refresh(&first["refresh_token"]).await;
    assert_eq!((status, &answer), (StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"})));
    assert_eq!(*scene.refused.0.lock().unwrap(), [text(&one["sid"])], "its access tokens are refused from now on");
    assert_eq!(scene.refresh(&second["refresh_token"]).await.0, StatusCode::BAD_REQUEST, "and the newest is dead, too");
    assert!(scene.mails().await.iter().any(|(to, text)| to == "alice@example.org" && text.contains("used twice")));
}

#[tokio::test]
async fn of_two_who_renew_at_once_one_gets_tokens_and_the_session_ends() {
    let scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    let answers = futures_all((0..4).map(|_| scene.refresh(&tokens["refresh_token"]))).await;
    let good: Vec<_> = answers.iter().filter(|(status, _)| *status == StatusCode::OK).collect();
    assert_eq!(good.len(), 1, "{answers:?}");
    assert_eq!(scene.refresh(&good[0].1["refresh_token"]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(scene.sessions().await, 0);
}

#[tokio::test]
async fn whoever_knows_only_a_sessions_number_neither_renews_nor_ends_it() {
    let scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    let token = text(&tokens["refresh_token"]).to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    let zeros = "A".repeat(43);
    for forged in [
        format!("{}.{zeros}.{zeros}", parts[0]),
        format!("{}.{zeros}.{}", parts[0], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        "sgr_".to_owned(),
        String::new(),
    ] {
        assert_eq!(scene.refresh(&json!(forged)).await.0, StatusCode::BAD_REQUEST, "{forged}");
    }
    assert!(scene.refused.0.lock().unwrap().is_empty());
    assert_eq!(scene.refresh(&tokens["refresh_token"]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_when_its_time_is_up() {
    let mut scene = Scene::with("open", "idle: 1h, ttl: 2h").await;
    scene.add("alice", None, PASSWORD).await;
    let tokens = scene.signed_in().await;
    scene.later(3601);
    assert_eq!(scene.refresh(&tokens["refresh_token"]).await.0, StatusCode::BAD_REQUEST, "idle");
    let mut tokens = scene.signed_in().await;
    for _ in 0..2 {
        scene.later(3500);
        let (status, next) = scene.refresh(&tokens["refresh_token"]).await;
        assert_eq!(status, StatusCode::OK);
        tokens = next;
    }
    // Its last access token goes with it.
    let last = claims(text(&tokens["access_token"]));
    assert_eq!((&tokens["expires_in"], &last["exp"]), (&json!(200), &json!(scene.now.unix_secs() + 200)));
    scene.later(201);
    assert_eq!(scene.refresh(&tokens["refresh_token"]).await.0, StatusCode::BAD_REQUEST, "in all");
}

#[tokio::test]
async fn a_renewal_that_needs_a_second_factor_asks_for_it_and_moves_auth_time_by_it_alone() {
    let mut scene = Scene::with("open", "assurance: strong").await;
    scene.add("alice", None, PASSWORD).await;
    *scene.second.enrolled.lock().unwrap() = true;
    let (_, asked, _) = scene.sign_in("alice", PASSWORD).await;
    let verify = json!({"ticket": asked["ticket"], "id": asked["challenge"]["id"], "code": CODE});
    let (_, first, _) = scene.post("/sign-in/verify", verify).await;
    scene.later(1800);
    let (status, second) = scene.refresh(&first["refresh_token"]).await;
    assert_eq!(status, StatusCode::OK, "fresh enough still");
    let old = claims(text(&second["access_token"]))["auth_time"].clone();
    scene.later(1900);
    let (status, answer) = scene.refresh(&second["refresh_token"]).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("insufficient_user_authentication")));
    assert_eq!(answer["max_age"], 3600);
    assert!(answer.get("access_token").is_none());
    let verify = |token: Value| json!({"ticket": answer["ticket"], "id": answer["challenge"]["id"], "code": CODE, "refresh_token": token});
    let without = json!({"ticket": answer["ticket"], "id": answer["challenge"]["id"], "code": CODE});
    assert_eq!(scene.post("/sign-in/verify", without).await.2, Reason::CallRefused);
    assert_eq!(scene.post("/sign-in/verify", verify(first["refresh_token"].clone())).await.2, Reason::SignInRefused);
    let (status, third, _) = scene.post("/sign-in/verify", verify(second["refresh_token"].clone())).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(claims(text(&third["access_token"]))["auth_time"], scene.now.unix_secs());
    assert_ne!(claims(text(&third["access_token"]))["auth_time"], old);
    assert_eq!(scene.refresh(&third["refresh_token"]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_token_says_so_where_the_factor_of_its_session_may_not_delete_yet() {
    let mut scene = Scene::with("open", "assurance: strong").await;
    scene.add("alice", None, PASSWORD).await;
    let (_, by_password, _) = scene.sign_in("alice", PASSWORD).await;
    assert!(claims(text(&by_password["access_token"])).get("probation").is_none(), "there is no factor");
    *scene.second.enrolled.lock().unwrap() = true;
    for on_probation in [true, false] {
        *scene.second.on_probation.lock().unwrap() = on_probation;
        let (_, asked, _) = scene.sign_in("alice", PASSWORD).await;
        let verify = json!({"ticket": asked["ticket"], "id": asked["challenge"]["id"], "code": CODE});
        let (_, first, _) = scene.post("/sign-in/verify", verify).await;
        scene.later(100);
        let (_, second) = scene.refresh(&first["refresh_token"]).await;
        for tokens in [first, second] {
            let said = claims(text(&tokens["access_token"])).get("probation").cloned();
            assert_eq!(said, on_probation.then_some(json!(true)));
        }
    }
}

// -- the owner's own

#[tokio::test]
async fn signing_out_ends_this_session_and_the_others_are_listed_and_ended() {
    let scene = Scene::with_alice().await;
    let (one, two, three) = (scene.signed_in().await, scene.signed_in().await, scene.signed_in().await);
    let access = text(&one["access_token"]);
    let (_, listed, _) = scene.call(Method::GET, "/sessions", Value::Null, Some(access)).await;
    let listed = listed["sessions"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed.iter().filter(|session| session["current"] == true).count(), 1);
    assert_eq!(listed[0]["client"], "test/1");
    let sid = text(&claims(text(&two["access_token"]))["sid"]).to_owned();
    assert_eq!(
        scene.call(Method::DELETE, &format!("/sessions/{sid}"), Value::Null, Some(access)).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(scene.refresh(&two["refresh_token"]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(scene.call(Method::DELETE, "/sessions", Value::Null, Some(access)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(scene.refresh(&three["refresh_token"]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(scene.call(Method::DELETE, "/session", Value::Null, Some(access)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(scene.call(Method::GET, "/me", Value::Null, Some(access)).await.2, Reason::SignInRefused);
    assert_eq!(scene.refused.0.lock().unwrap().len(), 3);

    scene.add("mallory", None, OTHER).await;
    let victim = scene.signed_in().await;
    let (_, thief, _) = scene.sign_in("mallory", OTHER).await;
    let sid = text(&claims(text(&victim["access_token"]))["sid"]).to_owned();
    let (_, _, reason) =
        scene.call(Method::DELETE, &format!("/sessions/{sid}"), Value::Null, Some(text(&thief["access_token"]))).await;
    assert_eq!(reason, Reason::RouteNotFound, "another's session is not there");
}

#[tokio::test]
async fn a_password_is_changed_by_the_one_before_and_a_factor_and_ends_the_other_sessions() {
    let scene = Scene::with_alice().await;
    let (mine, other) = (scene.signed_in().await, scene.signed_in().await);
    let access = text(&mine["access_token"]);
    let change = |current: &str, proof: Option<&str>| json!({"current": current, "new": OTHER, "proof": proof});
    assert_eq!(scene.call(Method::POST, "/password", change(OTHER, None), Some(access)).await.2, Reason::SignInRefused);
    *scene.second.enrolled.lock().unwrap() = true;
    assert_eq!(
        scene.call(Method::POST, "/password", change(PASSWORD, None), Some(access)).await.2,
        Reason::CallRefused
    );
    assert_eq!(
        scene.call(Method::POST, "/password", change(PASSWORD, Some("x")), Some(access)).await.2,
        Reason::ProofRefused
    );
    assert_eq!(
        scene.call(Method::POST, "/password", change(PASSWORD, Some("proved")), Some(access)).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(scene.refresh(&other["refresh_token"]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(scene.refresh(&mine["refresh_token"]).await.0, StatusCode::OK, "this one stays");
    *scene.second.enrolled.lock().unwrap() = false;
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::SignInRefused);
    assert_eq!(scene.sign_in("alice", OTHER).await.0, StatusCode::OK);
    assert!(scene.mails().await.iter().any(|(_, text)| text.contains("password of your account was changed")));
    assert!(scene.ear.changes.lock().unwrap().contains(&Change::PasswordChanged), "the audit trail heard of nothing");
}

#[tokio::test]
async fn a_forgotten_password_needs_the_mail_and_a_factor_and_ends_every_session() {
    let scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    let (status, unknown, _) = scene.post("/recovery", json!({"email": "nobody@example.org"})).await;
    let (known_status, asked, _) = scene.post("/recovery", json!({"email": "alice@example.org"})).await;
    assert_eq!(status, known_status);
    assert_eq!(unknown.as_object().unwrap().len(), asked.as_object().unwrap().len());
    let code = scene.code_for("alice@example.org").await;
    let confirm = |id: &Value, code: &str, password: &str| json!({"recovery": id, "code": code, "password": password});
    let (_, _, reason) = scene.post("/recovery/confirm", confirm(&unknown["recovery"], &code, OTHER)).await;
    assert_eq!(reason, Reason::SignInRefused, "a code is for its own recovery");
    let (_, _, reason) = scene.post("/recovery/confirm", confirm(&asked["recovery"], &code, "kurz")).await;
    assert_eq!(reason, Reason::CallRefused, "a weak password uses the code not up");
    *scene.second.enrolled.lock().unwrap() = true;
    let (status, challenge, _) = scene.post("/recovery/confirm", confirm(&asked["recovery"], &code, OTHER)).await;
    assert_eq!((status, &challenge["status"]), (StatusCode::OK, &json!("second_factor")));
    assert_eq!(
        scene.post("/recovery/confirm", confirm(&asked["recovery"], &code, OTHER)).await.2,
        Reason::SignInRefused
    );
    assert_eq!(scene.refresh(&tokens["refresh_token"]).await.0, StatusCode::OK, "nothing has changed yet");
    let verify = json!({"ticket": challenge["ticket"], "id": challenge["challenge"]["id"], "code": CODE});
    let (status, done, _) = scene.post("/sign-in/verify", verify).await;
    assert_eq!((status, &done), (StatusCode::OK, &json!({"status": "recovered"})), "it signs nobody in");
    assert_eq!(scene.sessions().await, 0);
    *scene.second.enrolled.lock().unwrap() = false;
    assert_eq!(scene.sign_in("alice", OTHER).await.0, StatusCode::OK);
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::SignInRefused);
    assert!(scene.mails().await.iter().any(|(_, text)| text.contains("new password was set")));
    assert!(scene.ear.changes.lock().unwrap().contains(&Change::Recovered));
}

#[tokio::test]
async fn another_mail_address_is_confirmed_and_the_old_one_is_told() {
    let scene = Scene::with_alice().await;
    scene.add("berta", Some("b@example.org"), PASSWORD).await;
    let tokens = scene.signed_in().await;
    let access = text(&tokens["access_token"]);
    let wanted = |mail: &str| json!({"email": mail, "password": PASSWORD});
    let (taken_status, taken, _) = scene.call(Method::POST, "/email", wanted("b@example.org"), Some(access)).await;
    let (status, asked, _) = scene.call(Method::POST, "/email", wanted("new@example.org"), Some(access)).await;
    assert_eq!((taken_status, taken.as_object().unwrap().len()), (status, asked.as_object().unwrap().len()));
    let code = scene.code_for("new@example.org").await;
    let confirm = json!({"change": asked["change"], "code": code});
    assert_eq!(scene.call(Method::POST, "/email/confirm", confirm, Some(access)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(scene.sign_in("new@example.org", PASSWORD).await.0, StatusCode::OK);
    assert_eq!(scene.sign_in("alice@example.org", PASSWORD).await.2, Reason::SignInRefused);
    assert!(
        scene
            .mails()
            .await
            .iter()
            .any(|(to, text)| to == "alice@example.org" && text.contains("mail address of your account"))
    );
}

// -- crashes, imports

#[tokio::test]
async fn sessions_that_had_ended_when_the_process_did_are_refused_by_the_next_one() {
    let scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    let sid = text(&claims(text(&tokens["access_token"]))["sid"]).to_owned();
    // Ended in the store, and the process gone before anybody was told.
    let until = scene.now.unix_secs() + 300;
    scene.accounts.store().commit(session::end(Batch::new(), &sid, until).unwrap(), scene.now).await.unwrap();
    assert!(scene.refused.0.lock().unwrap().is_empty());
    let again = |refused: Arc<dyn SessionEnds>, previous: Option<&Accounts>| {
        let means = AccountsMeans { ends: refused, ..scene.accounts.means.clone() };
        Accounts::compile(&scene.accounts.authority, &NoFiles, means, previous).map(drop)
    };
    // By the time that there are accounts, and with them requests, it is done.
    let refused = Arc::new(Refused::default());
    again(refused.clone(), None).unwrap();
    assert_eq!(*refused.0.lock().unwrap(), [sid]);
    // A process that cannot do so does not begin; one that goes on has done so.
    assert!(again(Arc::new(Unable), None).is_err());
    again(Arc::new(Unable), Some(&scene.accounts)).unwrap();
}

#[tokio::test]
async fn no_password_is_hashed_on_a_thread_that_serves_requests() {
    let scene = Scene::with_alice().await;
    let hashed = |count: u64, what: &str| {
        let hashing = &scene.accounts.hashing;
        assert_eq!(hashing.computed(), count, "{what}");
        // This thread is the whole runtime: it serves, and it waits.
        let here = std::thread::current().id();
        assert!(hashing.hashed_on().iter().all(|thread| *thread != here), "{what}");
    };
    scene.sign_in("alice", PASSWORD).await;
    hashed(1, "a right password");
    scene.sign_in("alice", OTHER).await;
    hashed(2, "a wrong one");
    scene.sign_in("nobody", OTHER).await;
    hashed(3, "nobody's");
    scene.post("/registrations", json!({"email": "new@example.org", "password": OTHER})).await;
    hashed(4, "registering");
    let (_, asked, _) = scene.post("/recovery", json!({"email": "alice@example.org"})).await;
    let code = scene.code_for("alice@example.org").await;
    let body = json!({"recovery": asked["recovery"], "code": code, "password": OTHER});
    assert_eq!(scene.post("/recovery/confirm", body).await.0, StatusCode::OK);
    hashed(5, "another one");
}

/// Cannot refuse anybody's tokens.
struct Unable;

impl SessionEnds for Unable {
    fn end(&self, _: &str, _: Vec<String>, _: u64, _: Now) -> Pending<()> {
        Box::pin(async { Err(StoreFault::Unavailable("no list".to_owned())) })
    }
}

#[tokio::test]
async fn a_password_is_set_whoever_signs_in_meanwhile_but_not_over_one_that_was_set_meanwhile() {
    let scene = Scene::with_alice().await;
    let read = async || rows::by_name(scene.accounts.store(), "alice", scene.now).await.unwrap().unwrap();
    let hash = |password: &str| crate::password::StoredHash::fresh(password.as_bytes()).unwrap();
    let before = read().await;
    scene.signed_in().await;
    assert_ne!(read().await.version, before.version, "the sign-in was noted");
    let way = Way { client: "192.0.2.1".parse().unwrap(), request_id: "r" };
    scene.accounts.set_recovered(None, before, hash(OTHER), way, scene.now).await.unwrap();
    assert_eq!(scene.sessions().await, 0, "that of the sign-in as well");
    assert_eq!(scene.sign_in("alice", OTHER).await.0, StatusCode::OK);
    let before = read().await;
    scene.accounts.set_recovered(None, before.clone(), hash(PASSWORD), way, scene.now).await.unwrap();
    let late = scene.accounts.set_recovered(None, before, hash(OTHER), way, scene.now).await;
    assert_eq!(late.map(drop), Err(Fault::SignIn));
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK);
}

#[tokio::test]
async fn after_a_recovery_the_first_factor_that_there_ever_was_waits_as_well() {
    use crate::authority::{
        Right, Wanted,
        testing::{self, START},
    };
    let yaml = YAML.replace("env: KEY", "env: SEALING_KEY").replace("REGISTRATION", "closed").replace("REFRESH", "");
    let yaml =
        yaml.replace(", refused: refused.txt", "").replace("mode: accounts\n", "mode: accounts\n  enrolment: open\n");
    let bench = testing::Bench::of(&yaml);
    let (authority, start) = (&bench.authority, testing::at(START));
    let accounts = authority.accounts().unwrap();
    let probation = authority.config().probation.as_secs();
    let new = async |name: &str| {
        let account = rows::Account::new(name, None, String::new(), start).unwrap();
        authority.store().commit(rows::insert(authority.store(), Batch::new(), &account), start).await.unwrap();
        rows::by_id(authority.store(), &account.id, start).await.unwrap().unwrap()
    };
    let (known, recovered, later) = (new("known").await, new("recovered").await, new("later").await);
    for account in [&recovered, &later] {
        accounts.set_recovered(None, account.clone(), String::new(), testing::way(1), start).await.unwrap();
    }
    let enrol = async |account: &rows::Account, secs: u64| {
        bench.enrol_app(&accounts.newcomer(account, "t"), secs).await.1.may_delete_from
    };
    assert_eq!(enrol(&known.value, START).await, None, "an operator's word, and nothing was recovered");
    assert_eq!(enrol(&recovered.value, START + 60).await, Some(START + probation));
    assert_eq!(enrol(&recovered.value, START + 120).await, Some(START + 120 + probation), "as after a reset");
    assert_eq!(enrol(&later.value, START + probation).await, None);
    // And it is as good as one who never had factors: the first who comes may enrol where that is enough.
    let open = new("open").await;
    accounts.set_recovered(None, open.clone(), String::new(), testing::way(1), start).await.unwrap();
    let wanted = Wanted { factor: Factor::Totp, label: "phone".into(), address: None };
    let caller = accounts.newcomer(&open.value, "t");
    authority.begin_enrolment(&caller, wanted, Right::Nothing, testing::way(1), start).await.unwrap();
}

#[tokio::test]
async fn an_import_is_all_or_nothing_and_the_same_again_and_bcrypt_becomes_argon2id() {
    let scene = Scene::with("closed", "").await;
    // jBCrypt's test vector for this password.
    let bcrypt = "$2a$10$fVH8e28OQRj9tqiDXs1e1uxpsjN0c7II7YPKXua2NAKYvM6iQk7dq";
    let text = format!("alice,alice@example.org,{bcrypt}\nberta,,{bcrypt}\nbad line\n");
    let (lines, faults) = read_import(&text);
    let nothing = scene.accounts.import(&lines, faults.clone(), false, scene.now).await.unwrap();
    assert_eq!((nothing.made, nothing.faults.len()), (0, 1));
    let some = scene.accounts.import(&lines, faults.clone(), true, scene.now).await.unwrap();
    assert_eq!((some.made, some.there, some.faults.len()), (2, 0, 1));
    let again = scene.accounts.import(&lines, faults, true, scene.now).await.unwrap();
    assert_eq!((again.made, again.there), (0, 2));
    let (lines, faults) = read_import(&format!("carla,Alice@example.org,{bcrypt}\n"));
    let taken = scene.accounts.import(&lines, faults, false, scene.now).await.unwrap();
    assert_eq!(taken.faults, [LineFault { line: 1, what: What::Taken }]);

    let stored =
        || async { rows::by_name(scene.accounts.store(), "alice", scene.now).await.unwrap().unwrap().value.hash };
    assert_eq!(stored().await, bcrypt);
    assert_eq!(scene.sign_in("alice", "abcdefghijklmnopqrstuvwxyz").await.0, StatusCode::OK);
    assert!(stored().await.starts_with("$argon2id$"));
    assert_eq!(scene.sign_in("alice", "abcdefghijklmnopqrstuvwxyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn without_the_store_nothing_is_answered_but_that() {
    let config = config("open", "");
    let (store, breaker) = Store::breakable_for_tests();
    let refused = Arc::new(Refused::default());
    let means = means(&Arc::new(store), &config, refused.clone());
    let accounts = Accounts::compile(config.authority.as_ref().unwrap(), &NoFiles, means, None).unwrap().unwrap();
    let now = SystemClock.now();
    let scene = Scene { accounts, second: Steps::default(), refused, ear: Arc::default(), now, client: "192.0.2.1" };
    scene.add("alice", None, PASSWORD).await;
    let tokens = scene.signed_in().await;
    breaker.break_it();
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::AuthorityUnavailable);
    assert_eq!(scene.refresh(&tokens["refresh_token"]).await.0, StatusCode::IM_A_TEAPOT);
    breaker.mend();
    assert_eq!(scene.refresh(&tokens["refresh_token"]).await.0, StatusCode::OK, "and nothing was used up meanwhile");
}

#[tokio::test]
async fn a_session_that_cannot_be_read_keeps_its_owner_from_nothing() {
    let scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    let store = scene.accounts.store();
    let rows = store.page::<Value>(Table::Sessions, "s:", None, 10, scene.now).await.unwrap();
    let (first, last) = (format!("{}!", &rows[0].key[..24]), format!("{}~", &rows[0].key[..24]));
    let batch = Batch::new().insert(Table::Sessions, &first, &"no session", None);
    let batch = batch.insert(Table::Sessions, &last, &"no session", None).insert(Table::Sessions, "e:!", &"none", None);
    store.commit(batch, scene.now).await.unwrap();
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK);
    let token = tokens["access_token"].as_str();
    let body = json!({"current": PASSWORD, "new": OTHER});
    assert_eq!(scene.call(Method::POST, "/password", body, token).await.0, StatusCode::NO_CONTENT);
    scene.refused.0.lock().unwrap().clear();
    super::recover(&scene.accounts.means, &scene.accounts.config, scene.now).await.unwrap();
    assert_eq!(scene.refused.0.lock().unwrap().len(), 1, "the one that the change of password has ended");
}

/// Refuses sessions only from the second time on.
#[derive(Debug, Default)]
struct Failing(Mutex<u32>, Refused);

impl SessionEnds for Failing {
    fn end(&self, issuer: &str, sids: Vec<String>, until: u64, now: Now) -> Pending<()> {
        let mut times = self.0.lock().unwrap();
        *times += 1;
        if *times == 1 {
            return Box::pin(async { Err(StoreFault::Unavailable("a test says so".to_owned())) });
        }
        self.1.end(issuer, sids, until, now)
    }
}

async fn eventually(mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain");
}

#[tokio::test]
async fn a_session_ends_to_the_last_token_though_whoever_ends_it_goes_away() {
    let scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    let sid = text(&claims(text(&tokens["access_token"]))["sid"]).to_owned();
    // The connection is gone as soon as the end has begun to be written.
    let mut ending = Box::pin(scene.accounts.end_sessions(Batch::new(), vec![sid.clone()], scene.now));
    let looked = std::future::poll_fn(|cx| std::task::Poll::Ready(ending.as_mut().poll(cx))).await;
    assert!(looked.is_pending());
    drop(ending);
    eventually(|| scene.refused.0.lock().unwrap().contains(&sid)).await;
    assert_eq!(scene.sessions().await, 0);
}

#[tokio::test]
async fn a_session_whose_end_could_not_be_revoked_is_revoked_later_without_a_restart() {
    let config = config("open", "");
    let ends = Arc::new(Failing::default());
    let means = means(&Arc::new(Store::for_tests()), &config, ends.clone());
    let accounts = Accounts::compile(config.authority.as_ref().unwrap(), &NoFiles, means, None).unwrap().unwrap();
    let now = SystemClock.now();
    let (refused, ear) = (Arc::default(), Arc::default());
    let scene = Scene { accounts, second: Steps::default(), refused, ear, now, client: "192.0.2.1" };
    scene.add("alice", Some("alice@example.org"), PASSWORD).await;
    let tokens = scene.signed_in().await;
    let (.., reason) = scene.call(Method::DELETE, "/session", Value::Null, tokens["access_token"].as_str()).await;
    assert_eq!(reason, Reason::AuthorityUnavailable);
    assert_eq!(scene.sessions().await, 0);
    eventually(|| ends.1.0.lock().unwrap().len() == 1).await;
}

#[tokio::test]
async fn with_an_outbox_that_is_full_an_address_with_an_account_and_one_without_are_one_answer() {
    let scene = Scene::with_alice().await;
    let outbox = &scene.accounts.means.outbox;
    for _ in 0..5_000 {
        let message = notify::Message {
            id: notify::new_id().unwrap(),
            channel: notify::Channel::Mail { to: "x@example.org".into() },
            kind: "code".into(),
            subject: "x".into(),
            text: "x".into(),
            data: Value::Null,
            expires_at: scene.now.unix_secs() + 600,
        };
        outbox.enqueue(Batch::new(), message, scene.now).unwrap();
    }
    let known = scene.post("/recovery", json!({"email": "alice@example.org"})).await;
    let unknown = scene.post("/recovery", json!({"email": "nobody@example.org"})).await;
    assert_eq!((known.0, known.2), (unknown.0, unknown.2));
    assert_eq!(known.2, Reason::AuthorityUnavailable);
}

#[tokio::test]
async fn strangers_who_filled_the_lane_keep_nobody_out_who_has_just_recovered_or_changed_the_password() {
    let mut scene = Scene::with_alice().await;
    let tokens = scene.signed_in().await;
    for stranger in 0..40_u8 {
        scene.client = Box::leak(format!("198.51.100.{stranger}").into_boxed_str());
        scene.sign_in("alice", OTHER).await;
    }
    scene.client = "203.0.113.7";
    assert_eq!(scene.sign_in("alice", PASSWORD).await.2, Reason::SignInRefused, "a new address meets the strangers");
    scene.client = "192.0.2.1";
    let body = json!({"current": PASSWORD, "new": OTHER});
    let (status, ..) = scene.call(Method::POST, "/password", body, tokens["access_token"].as_str()).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(scene.sign_in("alice", OTHER).await.0, StatusCode::OK, "where it was changed, it is known");
    scene.client = "203.0.113.7";
    let (_, asked, _) = scene.post("/recovery", json!({"email": "alice@example.org"})).await;
    let code = scene.code_for("alice@example.org").await;
    let body = json!({"recovery": asked["recovery"], "code": code, "password": PASSWORD});
    assert_eq!(scene.post("/recovery/confirm", body).await.0, StatusCode::OK);
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK, "and where it was recovered");
}

#[tokio::test]
async fn nobody_signs_in_by_an_accounts_number() {
    let scene = Scene::open().await;
    let hash = crate::password::StoredHash::fresh(PASSWORD.as_bytes()).unwrap();
    let account = rows::Account::new("alice", None, hash, scene.now).unwrap();
    let account = rows::Account { id: "abcdefghijklmnopqrstuv".into(), ..account };
    let store = scene.accounts.store();
    store.commit(rows::insert(store, Batch::new(), &account), scene.now).await.unwrap();
    assert_eq!(scene.sign_in(&account.id, PASSWORD).await.2, Reason::SignInRefused);
    assert_eq!(scene.sign_in("alice", PASSWORD).await.0, StatusCode::OK);
}
