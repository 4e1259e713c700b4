//! The page of a link and the notices that lead to it, over a real store and a real outbox.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test states what it expects in the plainest way"
)]

use std::{
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::super::{
    Ask, ErasureMeans, ErasureObserver, Erasures, EvidenceLog, Fault, HoldKind, Known, OwnData, Party, RequestValues,
    Shown, State, life::NotNow, testing::Nowhere,
};
use crate::{
    clock::{Clock, Now, SystemClock},
    config::{self, Config, Materials},
    endpoint::Call,
    notify::{self, Channels, Outbox},
    policy::{Assurance, Kind, Marks, Principal, Reason},
    store::{Store, Table, testing::Breaker},
};

const START: u64 = 1_790_000_000;
const DAY: u64 = 86_400;
const ADDRESS: &str = "anna.private@example.com";

const YAML: &str = "
issuers:
  main: {issuer: https://idp.example/, audience: [a], keys: {discovery: true}, algorithms: [ES256]}
upstreams:
  api: {targets: [http://127.0.0.1:9100], credential: {header: {name: X-Key, value: {env: KEY}}}}
notify:
  mail: {server: 'smtps://mail.example', from: gateway@example.com}
  webhooks:
    crm: {url: 'http://127.0.0.1:9/crm', secret: {env: HOOK_SECRET}}
    ops: {url: 'http://127.0.0.1:9/ops', secret: {env: HOOK_SECRET}}
deletion_guard: {assurance: {acr: [gold], max_age: 5m}}
sealing: {key: {env: SEALING_KEY}}
authority: {url: http://localhost:8080, acr: {gold: {}}, notices: {webhook: ops}}
deletions:
  url: https://api.example
  operators: [{mail: dpo@example.com}, {webhook: ops}]
  breaker: {total: 3/1h}
  plans:
    account:
      operations: ['DELETE /accounts/{id}']
      subject: path.id
      GRACE
      scope:
        summary: Your account & everything in it
        erased: ['Profile, <b>orders</b>']
        kept: [{what: Invoices, why: tax law, how_long: ten years}]
      steps: [{name: account, upstream: api, request: 'DELETE /accounts/{subject}'}]
      verify: {probes: [{name: still, upstream: api, request: 'GET /accounts/{subject}'}]}
      notify: [{mail: '{claims./email}'}, {webhook: crm}, {mail: office@example.com}]
routes:
  - {path: /accounts/**, upstream: api, auth: [main]}
";

struct Given;

impl Materials for Given {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is no such file".to_owned())
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "SEALING_KEY" => Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            "HOOK_SECRET" => Some("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            "KEY" => Some("k".to_owned()),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Ear(AtomicUsize, Mutex<Vec<&'static str>>);

impl ErasureObserver for Ear {
    fn untold(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn happened(&self, _: &str, event: &'static str) {
        self.1.lock().unwrap().push(event);
    }
}

struct Bench {
    erasures: Erasures,
    config: Config,
    store: Arc<Store>,
    breaker: Breaker,
    ear: Arc<Ear>,
}

fn at(secs: u64) -> Now {
    Now { unix_ms: secs * 1000, instant: Instant::now() }
}

fn load(yaml: &str) -> Config {
    let env = |name: &str| Given.env(name);
    let input = config::Input { file: Path::new("gateway.yaml"), text: yaml, base: Path::new("."), env: &env };
    config::load(&input).unwrap_or_else(|problems| panic!("{}", problems.render(config::Color::Never))).config
}

impl Bench {
    fn new() -> Self {
        Self::with("grace: 30d")
    }

    fn with(grace: &str) -> Self {
        let config = load(&YAML.replace("GRACE", grace));
        let (store, breaker) = Store::breakable_for_tests();
        let store = Arc::new(store);
        let roots = crate::client::MachineRoots::nobody();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let channels = Channels::compile(config.notify.as_deref(), &Given, &roots).unwrap();
        let outbox = Outbox::new(store.clone(), channels, clock.clone(), Arc::new(notify::Unobserved));
        let ear = Arc::new(Ear::default());
        let observer: Arc<dyn ErasureObserver> = ear.clone();
        let (evidence, own_data): (Arc<dyn EvidenceLog>, Arc<dyn OwnData>) = (Arc::new(Nowhere), Arc::new(Nowhere));
        let means = ErasureMeans {
            handle: &Handle::current(),
            clock: &clock,
            store: &store,
            outbox: &outbox,
            roots: &roots,
            observer: &observer,
            evidence: &evidence,
            own_data: &own_data,
        };
        let erasures = Erasures::compile(&config, &Given, &means, None).unwrap().unwrap();
        Self { erasures, config, store, breaker, ear }
    }

    /// A deletion that somebody has asked for.
    async fn ask(&self, subject: &str, email: Option<&str>) -> Known {
        let plan = &self.config.deletions.as_ref().unwrap().plans[0];
        let principal = principal(subject);
        let path = [("id", subject.into())];
        let values = RequestValues { path: &path, ..RequestValues::default() };
        let mut target = self.erasures.target(plan, &principal, &values).unwrap();
        target.personal.values.extend(email.map(|email| ("claims./email".into(), email.into())));
        let operation = &plan.operations[0].text;
        let proof = Shown::default();
        let ask = Ask { plan, operation, target, principal: &principal, proof, now: at(START) };
        self.erasures.request(ask).await.unwrap().known
    }

    /// What waits to be delivered: to whom, and the message.
    async fn messages(&self, kind: &str) -> Vec<(String, Value)> {
        let rows = self.store.page::<Value>(Table::Outbox, "", None, 1000, at(START)).await.unwrap();
        let messages = rows.into_iter().map(|row| row.value["message"].clone());
        let to = |message: &Value| {
            let channel = &message["channel"];
            let to = channel["mail"]["to"].as_str().or(channel["webhook"]["name"].as_str());
            to.unwrap().to_owned()
        };
        let mut messages: Vec<_> =
            messages.filter(|message| message["kind"] == kind).map(|message| (to(&message), message)).collect();
        messages.sort_by(|one, other| one.0.cmp(&other.0));
        messages
    }

    async fn call(&self, method: &Method, path: &str, headers: &[(&'static str, &str)]) -> Got {
        self.call_at(method, path, headers, START + 60).await
    }

    async fn call_at(&self, method: &Method, path: &str, headers: &[(&'static str, &str)], secs: u64) -> Got {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut sent = HeaderMap::new();
        for (name, value) in headers {
            sent.insert(*name, value.parse().unwrap());
        }
        let call = Call {
            method,
            path,
            query,
            authority: "api.example",
            headers: &sent,
            body: &Bytes::new(),
            principal: None,
            client: IpAddr::from([192, 0, 2, 1]),
            confidential: true,
            request_id: "r-1",
            now: at(secs),
        };
        let answer = self.erasures.page(&call).await.unwrap();
        let text = String::from_utf8(answer.response.body().to_vec()).unwrap();
        Got {
            status: answer.response.status(),
            headers: answer.response.headers().clone(),
            text,
            reason: answer.reason,
        }
    }

    async fn is_held(&self, known: &Known) -> bool {
        let token = self.erasures.link_token(&known.erasure.id);
        let now = self.erasures.by_link(&known.erasure.id, &token, at(START + 60)).await.unwrap();
        matches!(now.erasure.state, State::Held { .. })
    }

    fn link(&self, known: &Known) -> String {
        format!("/link/{}?token={}", known.erasure.id, self.erasures.link_token(&known.erasure.id))
    }
}

#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    reason: Reason,
}

fn principal(subject: &str) -> Principal {
    Principal {
        issuer: "main".into(),
        issuer_url: "https://idp.example/".into(),
        subject: subject.into(),
        client: None,
        scopes: Box::default(),
        assurance: Assurance::default(),
        expires_at: None,
        leeway_secs: 30.0,
        claims: json!({"sub": subject}),
        kind: Kind::Person,
        marks: Marks::default(),
        binding: None,
        limits: Box::default(),
        told: crate::policy::Told::default(),
    }
}

const OURS: &[(&str, &str)] = &[("sec-fetch-site", "same-origin"), ("origin", "null")];

#[tokio::test]
async fn whoever_is_asked_about_is_told_by_mail_what_goes_when_and_how_to_stop_it() {
    let bench = Bench::new();
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let told = bench.messages("deletion_requested").await;
    let to: Vec<&str> = told.iter().map(|(to, _)| &**to).collect();
    assert_eq!(to, [ADDRESS, "crm", "office@example.com"], "operators have nothing to do with it");

    let mail = told[0].1["text"].as_str().unwrap();
    assert!(mail.contains("asked for on 21 September 2026, 14:13 UTC"), "{mail}");
    assert!(
        mail.contains("Nothing is deleted before 21 October 2026, 14:13 UTC; until then it can be stopped."),
        "{mail}"
    );
    assert!(
        mail.contains("What goes:\n- Profile, <b>orders</b>\n\nWhat stays:\n- Invoices: tax law, ten years\n"),
        "{mail}"
    );
    let link = format!("https://api.example/deletions{}\n", bench.link(&known));
    assert!(mail.contains(&link) && mail.contains("Opening it changes nothing"), "{mail}");
    assert!(!mail.contains("anna"), "the subject is not in a mail: {mail}");

    // Those whose work it is get its number, and neither the right to stop it nor whom it is about.
    let office = &told[2].1;
    let said = office.to_string();
    assert!(said.contains(&*known.erasure.id) && !said.contains("/link/") && !said.contains("anna"), "{said}");
}

#[tokio::test]
async fn a_plans_webhook_is_told_whom_and_operators_are_not() {
    let bench = Bench::new();
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let told = bench.messages("deletion_requested").await;
    let link = format!("https://api.example/deletions{}", bench.link(&known));
    assert_eq!(
        told[1].1["data"],
        json!({
            "deletion": &*known.erasure.id, "plan": "account", "state": "held", "at": START, "requested_at": START,
            "held_until": START + 30 * DAY, "erased_by": known.erasure.erased_by(&known.terms), "by": "owner",
            "issuer": "https://idp.example/", "subject": "anna", "link": link,
        })
    );
    assert!(!told[1].1.to_string().contains(ADDRESS));

    bench
        .erasures
        .hold(&known.erasure.id, Party::Operator { name: "Olga".into() }, "court order 7", at(START + 1))
        .await
        .unwrap();
    let held = bench.messages("deletion_held").await;
    assert_eq!(
        held.iter().map(|(to, _)| &**to).collect::<Vec<_>>(),
        ["dpo@example.com", "ops"],
        "the person is not told"
    );
    for (_, message) in held {
        let said = message.to_string();
        assert!(said.contains(&*known.erasure.id) && said.contains("legal"), "{said}");
        for secret in ["anna", ADDRESS, "court order", "Olga", "/link/"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_none_or_a_channel_that_is_gone_stops_nothing_and_is_counted() {
    let bench = Bench::new();
    for (number, email) in
        [None, Some("anna@example.com\r\nBcc: eve@example.com"), Some("anna@example.com, eve@example.com"), Some("eve")]
            .into_iter()
            .enumerate()
    {
        let known = bench.ask(&format!("anna{number}"), email).await;
        assert!(bench.is_held(&known).await);
        assert_eq!(bench.ear.0.load(Ordering::Relaxed), number + 1, "{email:?}");
    }
    assert!(bench.messages("deletion_requested").await.iter().all(|(to, _)| !to.contains("eve")));
}

#[tokio::test]
async fn the_end_is_told_to_the_person_before_their_address_is_gone() {
    use super::super::{
        life::Told,
        told::{Tale, Teller},
    };
    let bench = Bench::new();
    let mut known = bench.ask("anna", Some(ADDRESS)).await;
    known.erasure.state = State::Erased;
    let tale = Tale { erasure: &known.erasure, terms: &known.terms, told: &[Told::Erased], token: "t" };
    let config = bench.config.deletions.as_deref().unwrap();
    let teller = Teller { config, outbox: &bench.erasures.core.ledger.outbox };
    let (batch, untold) = teller.add(crate::store::Batch::new(), &tale, at(START)).unwrap();
    assert_eq!(untold, 0);
    bench.store.commit(batch, at(START)).await.unwrap();
    let told = bench.messages("deletion_erased").await;
    assert_eq!(told[0].0, ADDRESS);
    let mail = told[0].1["text"].as_str().unwrap();
    assert!(mail.contains("it was verified that the data is gone") && !mail.contains("/link/"), "{mail}");
}

#[tokio::test]
async fn what_others_choose_makes_no_line_of_a_mail_nor_a_header() {
    let bench = Bench::new();
    let mut known = bench.ask("anna", Some(ADDRESS)).await;
    let mut terms = (*known.terms).clone();
    terms.scope.summary = "Yours\r\nBcc: eve@example.com\u{202e}\r\n\r\n.\r\nMAIL FROM:<eve@example.com>".into();
    terms.plan = "a\r\nX: y".into();
    known.erasure.plan = terms.plan.clone();
    let tale = super::super::told::Tale {
        erasure: &known.erasure,
        terms: &terms,
        told: &[super::super::life::Told::Requested, super::super::life::Told::Parked],
        token: "t",
    };
    let config = bench.config.deletions.as_deref().unwrap();
    let outbox = &bench.erasures.core.ledger.outbox;
    let teller = super::super::told::Teller { config, outbox };
    let (batch, untold) = teller.add(crate::store::Batch::new(), &tale, at(START)).unwrap();
    assert_eq!(untold, 0);
    bench.store.commit(batch, at(START)).await.unwrap();
    for (_, message) in bench.messages("deletion_requested").await {
        let text = message["text"].as_str().unwrap();
        assert!(!text.lines().any(|line| line.starts_with("Bcc") || line == "." || line.starts_with("MAIL")), "{text}");
        assert!(!text.contains('\r') && !text.contains('\u{202e}'), "{text}");
    }
}

#[tokio::test]
async fn looking_at_a_link_changes_nothing_whatever_looks() {
    let bench = Bench::new();
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let link = bench.link(&known);
    for (method, headers) in [
        (Method::GET, &[][..]),
        (Method::HEAD, &[][..]),
        (Method::GET, &[("sec-purpose", "prefetch"), ("sec-fetch-site", "same-origin")][..]),
        (Method::GET, &[("user-agent", "Mail scanner"), ("origin", "https://api.example")][..]),
    ] {
        let got = bench.call(&method, &link, headers).await;
        assert_eq!((got.status, got.reason), (StatusCode::OK, Reason::Allowed));
        assert!(bench.is_held(&known).await);
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        assert_eq!(bench.call(&method, &link, OURS).await.reason, Reason::MethodNotAllowed);
    }
    assert!(bench.is_held(&known).await);
    let page = bench.call(&Method::GET, &link, &[]).await;
    assert!(
        page.text.contains("Your account &#38; everything in it") && !page.text.contains("<b>orders"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("anna"), "the page names nobody");
    assert_eq!(page.headers[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let csp = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(csp.starts_with("default-src 'none'; style-src 'self';") && !csp.contains("script"), "{csp}");
    assert!(!page.text.contains("<script") && !page.text.contains("http://") && !page.text.contains("https://"));
}

#[tokio::test]
async fn the_button_cancels_freezes_and_tells_operators_and_may_be_pressed_twice() {
    let bench = Bench::new();
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let link = bench.link(&known);
    for _ in 0..2 {
        let got = bench.call(&Method::POST, &link, OURS).await;
        assert_eq!(got.status, StatusCode::OK);
        assert!(got.text.contains("It was stopped") && got.text.contains("Nothing was deleted."), "{}", got.text);
        assert!(!got.text.contains("<form"), "there is nothing left to press");
    }
    assert!(!bench.is_held(&known).await);
    let plan = &bench.config.deletions.as_ref().unwrap().plans[0];
    let principal = principal("anna");
    let path = [("id", "anna".into())];
    let target =
        bench.erasures.target(plan, &principal, &RequestValues { path: &path, ..RequestValues::default() }).unwrap();
    let (operation, proof) = (&*plan.operations[0].text, Shown::default());
    let again = bench
        .erasures
        .request(Ask { plan, operation, target, principal: &principal, proof, now: at(START + 90) })
        .await;
    assert_eq!(again.unwrap_err(), Fault::Frozen);

    let told = bench.messages("deletion_disputed").await;
    let to: Vec<&str> = told.iter().map(|(to, _)| &**to).collect();
    assert_eq!(to, [ADDRESS, "crm", "dpo@example.com", "office@example.com", "ops"], "once each");
    assert!(bench.messages("deletion_cancelled").await.is_empty(), "that is said already");
    assert!(told[0].1["text"].as_str().unwrap().contains("cancelled, and nothing was deleted"));
    // A further look at an old link shows what became of it.
    let page = bench.call(&Method::GET, &link, &[]).await;
    assert!(page.text.contains("This deletion was cancelled"), "{}", page.text);
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let bench = Bench::new();
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let link = bench.link(&known);
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site"), ("origin", "null")][..],
        &[("sec-fetch-site", "same-site"), ("origin", "https://app.api.example")][..],
        &[("sec-fetch-site", "none")][..],
        &[("origin", "https://evil.example")][..],
        &[("origin", "http://api.example")][..],
        &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")][..],
    ] {
        let got = bench.call(&Method::POST, &link, headers).await;
        assert_eq!((got.status, got.reason), (StatusCode::BAD_REQUEST, Reason::CallRefused), "{headers:?}");
        assert!(bench.is_held(&known).await, "{headers:?}");
    }
    // A browser of old says no more than that the origin is hidden.
    assert!(bench.call(&Method::POST, &link, &[("origin", "null")]).await.text.contains("It was stopped"));
}

#[tokio::test]
async fn a_wrong_link_is_one_page_whatever_is_wrong_with_it() {
    let bench = Bench::new();
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let other = bench.ask("ben", None).await;
    let (id, token) = (&known.erasure.id, bench.erasures.link_token(&known.erasure.id));
    let nobody = "0".repeat(32);
    let mut pages = Vec::new();
    for path in [
        format!("/link/{id}"),
        format!("/link/{id}?token="),
        format!("/link/{id}?token={}", bench.erasures.link_token(&other.erasure.id)),
        format!("/link/{id}?token={token}0"),
        format!("/link/{id}?token={}", token.to_uppercase()),
        format!("/link/{id}?token={token}&token={token}"),
        format!("/link/{nobody}?token={}", bench.erasures.link_token(&nobody)),
        format!("/link/{}?token={token}", id.to_uppercase()),
        "/link/".to_owned(),
        format!("/link/x/{id}?token={token}"),
        format!("/link/open%2F{id}?token={token}"),
    ] {
        for method in [Method::GET, Method::POST] {
            let got = bench.call(&method, &path, OURS).await;
            assert_eq!((got.status, got.reason), (StatusCode::NOT_FOUND, Reason::RouteNotFound), "{path}");
            pages.push(got.text);
        }
    }
    pages.dedup();
    assert_eq!(pages.len(), 1, "nothing tells one from another");
    assert!(bench.is_held(&known).await);
}

#[tokio::test]
async fn what_has_begun_is_stopped_where_it_is_and_the_page_says_so() {
    use super::super::{
        life::{Answer, Command},
        record::Lease,
    };
    let bench = Bench::with("grace: none");
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let mail = &bench.messages("deletion_requested").await[0].1;
    assert!(mail["text"].as_str().unwrap().contains("It begins at once."), "{mail}");
    let ledger = &bench.erasures.core.ledger;
    let id = &known.erasure.id;
    ledger.change(id, Command::TakeLease(Lease { holder: 7, until: START + 600 }), at(START + 1)).await.unwrap();
    ledger.change(id, Command::Begin(7), at(START + 1)).await.unwrap();
    ledger.change(id, Command::Probed(7, 0, Answer::Status(200, 0)), at(START + 1)).await.unwrap();
    ledger.change(id, Command::Send(7, 0), at(START + 1)).await.unwrap();
    let link = bench.link(&known);
    let page = bench.call(&Method::GET, &link, &[]).await;
    assert!(
        page.text.contains("This deletion has begun") && page.text.contains("stops whatever is left"),
        "{}",
        page.text
    );
    let got = bench.call(&Method::POST, &link, OURS).await;
    assert!(got.text.contains("It was stopped") && got.text.contains("cannot be brought back here"), "{}", got.text);
    let now = bench.erasures.by_link(id, &bench.erasures.link_token(id), at(START + 90)).await.unwrap();
    assert!(now.erasure.is_held_by(HoldKind::Dispute));
    let sent = ledger.change(id, Command::Send(7, 0), at(START + 90)).await;
    assert_eq!(sent.unwrap_err(), Fault::NotNow(NotNow::OnHold), "no further step");
    let told = bench.messages("deletion_disputed").await;
    assert!(told.iter().any(|(to, _)| to == "dpo@example.com"));
    assert!(told[0].1["text"].as_str().unwrap().contains("It had begun"));
}

#[tokio::test]
async fn operators_are_told_of_the_breaker_once_and_not_for_each_that_it_holds() {
    let bench = Bench::new();
    for number in 0..8 {
        bench.ask(&format!("person{number}"), None).await;
    }
    let told = bench.messages("deletion_breaker").await;
    assert_eq!(told.iter().map(|(to, _)| &**to).collect::<Vec<_>>(), ["dpo@example.com", "ops"]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_a_page_that_says_so() {
    let bench = Bench::new();
    let known = bench.ask("anna", Some(ADDRESS)).await;
    let link = bench.link(&known);
    bench.breaker.break_it();
    for method in [Method::GET, Method::POST] {
        let got = bench.call(&method, &link, OURS).await;
        assert_eq!(
            (got.status, got.headers[header::RETRY_AFTER].to_str().unwrap()),
            (StatusCode::SERVICE_UNAVAILABLE, "1")
        );
        assert!(got.text.contains("Nothing was changed.") && got.text.contains("r-1"), "{}", got.text);
    }
    bench.breaker.mend();
    assert!(bench.is_held(&known).await);
}
