//! Asking an issuer on a real socket: active, not active, slow, down, lying and signed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::{
    super::{
        Accepted, SourceServices,
        testing::{self, ISSUER, MadeUp, Signer, claims, inline, now, services},
        tokens::Tokens,
    },
    is_broken_jws,
};
use crate::{
    clock::Now,
    config::{
        CertificateFiles, ClientAuthentication, File, Introspection, Issuer, KeySource, SecretMethod, SignedAnswers,
        Span,
    },
    jose::Algorithms,
    policy::{Credential, Principal, Reason},
};

/// What the endpoint says of a token.
#[derive(Clone)]
enum Says {
    Json(Value),
    Typed(&'static str, String),
    Raw(String),
    Silence,
    Drip,
    Flood,
}

/// The head and the form of a question.
type Question = (String, HashMap<String, String>);

/// An introspection endpoint on a real socket. What it is not told of is not active.
struct Endpoint {
    base: String,
    says: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<Mutex<Vec<Question>>>,
    /// While it is closed nobody is answered.
    gate: watch::Sender<bool>,
    task: tokio::task::AbortHandle,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    async fn start() -> Self {
        Self::serve(None).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (says, asked, gate) = (Arc::default(), Arc::default(), watch::Sender::new(true));
        let (table, log, opened) = (Arc::clone(&says), Arc::clone(&asked), gate.subscribe());
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (table, log, opened, tls) = (Arc::clone(&table), Arc::clone(&log), opened.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(socket, &table, &log, opened).await,
                        Some(tls) => answer(tls.accept(socket).await.ok()?, &table, &log, opened).await,
                    }
                });
            }
        });
        Self { base, says, asked, gate, task: task.abort_handle() }
    }

    fn say(&self, token: &str, says: Says) {
        self.says.lock().unwrap().insert(token.to_owned(), says);
    }

    /// Knows a token as alice's.
    fn know(&self, token: &str) {
        self.say(token, Says::Json(active(&json!({}))));
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn last(&self) -> Question {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    async fn asked_about(&self, count: usize) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while self.asked() < count {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    /// An issuer that is asked here about everything.
    fn issuer(&self) -> Issuer {
        let mut issuer = testing::issuer("main", KeySource::Absent);
        issuer.algorithms = Algorithms::NONE;
        issuer.introspection = Some(self.introspection());
        issuer
    }

    fn introspection(&self) -> Introspection {
        Introspection {
            span: Span::default(),
            url: Some(format!("{}/introspect", self.base).parse().unwrap()),
            client_id: "gateway".into(),
            client: ClientAuthentication::Secret { secret: inline("secret"), method: SecretMethod::Basic },
            timeout: Duration::from_secs(3),
            cache: Duration::from_secs(60),
            negative_cache: Duration::from_secs(5),
            signed: SignedAnswers::Off,
            concurrent: 64,
            required: vec!["aud".into(), "exp".into()],
            prefix: None,
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    says: &Mutex<HashMap<String, Says>>,
    asked: &Mutex<Vec<Question>>,
    mut opened: watch::Receiver<bool>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    if head.starts_with("GET ") {
        let path = head.split(' ').nth(1)?;
        let reply = says.lock().unwrap().get(path).cloned();
        return write(stream, reply.unwrap_or(Says::Raw("HTTP/1.1 404 Not Found\r\n\r\n".into()))).await;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let form: HashMap<_, _> = url::form_urlencoded::parse(&body).into_owned().collect();
    let reply = says.lock().unwrap().get(&form["token"]).cloned();
    asked.lock().unwrap().push((head, form));
    opened.wait_for(|open| *open).await.ok()?;
    write(stream, reply.unwrap_or(Says::Json(json!({"active": false})))).await
}

async fn write<S: AsyncWrite + Unpin>(mut stream: S, says: Says) -> Option<()> {
    let typed = |typ: &str, body: String| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: {typ}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    match says {
        Says::Json(value) => {
            stream.write_all(typed("application/json", value.to_string()).as_bytes()).await.ok()?;
        }
        Says::Typed(typ, body) => stream.write_all(typed(typ, body).as_bytes()).await.ok()?,
        Says::Raw(bytes) => stream.write_all(bytes.as_bytes()).await.ok()?,
        Says::Silence => std::future::pending().await,
        Says::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b" ").await.ok()?;
                stream.flush().await.ok()?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Says::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"active\":true,\"x\":\"").await.ok()?;
            loop {
                stream.write_all(&[b'x'; 4096]).await.ok()?;
            }
        }
    }
    stream.shutdown().await.ok()
}

/// An answer for an active token of alice.
fn active(extra: &Value) -> Value {
    let mut answer = claims(now());
    answer["active"] = json!(true);
    for (name, value) in extra.as_object().unwrap() {
        answer[name] = value.clone();
    }
    answer
}

fn compile(issuers: &[Issuer], services: &SourceServices, previous: Option<&Tokens>) -> Tokens {
    testing::compile(issuers, services, previous).unwrap()
}

fn start(issuers: &[Issuer]) -> Tokens {
    compile(issuers, &services().0, None)
}

async fn judge(tokens: &Tokens, token: &str, now: Now) -> Result<Arc<Principal>, Reason> {
    judge_for(tokens, token, &Accepted::default(), now).await
}

async fn judge_for(tokens: &Tokens, token: &str, accepted: &Accepted, now: Now) -> Result<Arc<Principal>, Reason> {
    match tokens.authenticate(token.as_bytes(), accepted, now).await {
        Credential::Valid(principal) => Ok(principal),
        Credential::Invalid(reason) => Err(reason),
        Credential::Unavailable { reason, retry_after_secs } => {
            assert!((1..=60).contains(&retry_after_secs), "{retry_after_secs}");
            Err(reason)
        }
        Credential::Absent => panic!("a token was sent"),
    }
}

fn taking(names: &[&str]) -> Accepted {
    Accepted::new(names.iter().map(|name| Arc::from(*name)).collect(), super::super::Kinds::TOKEN)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

// -- what was meant to be a token of which kind

#[test]
fn what_was_meant_to_be_a_jws_is_no_opaque_token() {
    for token in [
        "eyJhbGciOiJSUzI1NiJ9.x.y",
        "eyJhbGciOiJSUzI1NiJ9=.e30.AA",
        "eyJhbGciOiJSUzI1NiJ.e30.AA",
        "IHsiYWxnIjoiUlMyNTYifQ.e30.AA",
        "eyJ4IjoiPz8/In0=.e30.AA",
        "e30x.e30.",
    ] {
        assert!(is_broken_jws(token), "{token}");
    }
    // Five parts are encrypted (RFC 7516 §7.1), and only their issuer can read them.
    for token in
        ["", "opaque", "a.b.c", "..", "v4.local.abc", "eyJhbGciOiJkaXIifQ..a.b.c", "eyJhbGciOiJSUzI1NiJ9", "ory_at_x.y"]
    {
        assert!(!is_broken_jws(token), "{token}");
    }
}

// -- asking, and not asking again

#[tokio::test]
async fn an_active_token_passes_and_is_asked_about_once() {
    let endpoint = Endpoint::start().await;
    endpoint.say("good", Says::Json(active(&json!({"acr": "urn:mfa", "scope": "read", "username": "al"}))));
    let (tokens, now) = (start(&[endpoint.issuer()]), now());
    for _ in 0..3 {
        let principal = judge(&tokens, "good", now).await.unwrap();
        assert_eq!((&*principal.subject, &*principal.issuer), ("alice", "main"));
        assert_eq!(principal.assurance.acr.as_deref(), Some("urn:mfa"));
        let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"good");
        assert_eq!(principal.marks.fingerprint.unwrap(), fingerprint.as_ref());
    }
    assert_eq!(endpoint.asked(), 1);
    let (head, form) = endpoint.last();
    assert!(
        head.starts_with("POST /introspect HTTP/1.1\r\n") && head.contains("accept: application/json\r\n"),
        "{head}"
    );
    assert!(head.contains("authorization: Basic Z2F0ZXdheTpzZWNyZXQ=\r\n"), "{head}");
    assert_eq!(form["token_type_hint"], "access_token");
}

#[tokio::test]
async fn an_answer_is_kept_for_its_age_and_never_past_exp() {
    let endpoint = Endpoint::start().await;
    let now = now();
    endpoint.know("long");
    endpoint.say("short", Says::Json(active(&json!({"exp": now.unix_secs() + 20}))));
    endpoint.say("endless", Says::Json(active(&json!({"exp": 1e300}))));
    // Within the leeway, so that it passes, but nothing to keep.
    endpoint.say("over", Says::Json(active(&json!({"exp": now.unix_secs() - 5}))));
    let tokens = start(&[endpoint.issuer()]);
    for (token, kept, gone) in [("long", 59, 61), ("short", 18, 21), ("endless", 59, 61)] {
        let before = endpoint.asked();
        for (after, asked) in [(0, 1), (kept, 1), (gone, 2)] {
            let _ = judge(&tokens, token, now.after(seconds(after))).await;
            assert_eq!(endpoint.asked() - before, asked, "{token} after {after}s");
        }
    }
    for count in 1..3 {
        let before = endpoint.asked();
        assert!(judge(&tokens, "over", now).await.is_ok());
        assert_eq!(endpoint.asked() - before, 1, "{count}");
    }
}

#[tokio::test]
async fn without_a_cache_every_request_asks() {
    let endpoint = Endpoint::start().await;
    endpoint.know("good");
    let mut issuer = endpoint.issuer();
    let settings = issuer.introspection.as_mut().unwrap();
    (settings.cache, settings.negative_cache) = (Duration::ZERO, Duration::ZERO);
    let (tokens, now) = (start(&[issuer]), now());
    for _ in 0..3 {
        assert!(judge(&tokens, "good", now).await.is_ok());
        assert_eq!(judge(&tokens, "bad", now).await, Err(Reason::TokenInactive));
    }
    assert_eq!(endpoint.asked(), 6);
}

#[tokio::test]
async fn a_refusal_is_remembered_briefly_and_then_asked_about_again() {
    let endpoint = Endpoint::start().await;
    endpoint.say("elsewhere", Says::Json(active(&json!({"aud": "https://other.example"}))));
    let (tokens, now) = (start(&[endpoint.issuer()]), now());
    for (token, reason) in [("stranger", Reason::TokenInactive), ("elsewhere", Reason::TokenAudience)] {
        let before = endpoint.asked();
        for (after, asked) in [(0, 1), (4, 1), (6, 2)] {
            assert_eq!(judge(&tokens, token, now.after(seconds(after))).await, Err(reason));
            assert_eq!(endpoint.asked() - before, asked, "{token} after {after}s");
        }
    }
    // A token that becomes active is not shut out for longer.
    endpoint.know("stranger");
    assert!(judge(&tokens, "stranger", now.after(seconds(12))).await.is_ok());
}

#[tokio::test]
async fn many_requests_at_once_are_one_question() {
    let endpoint = Endpoint::start().await;
    endpoint.know("good");
    endpoint.gate.send_replace(false);
    let mut issuer = endpoint.issuer();
    issuer.introspection.as_mut().unwrap().cache = Duration::ZERO;
    let (tokens, now) = (Arc::new(start(&[issuer])), now());
    let ask = |_| {
        let tokens = Arc::clone(&tokens);
        tokio::spawn(async move { judge(&tokens, "good", now).await.is_ok() })
    };
    let requests: Vec<_> = (0..100).map(ask).collect();
    endpoint.asked_about(1).await;
    endpoint.gate.send_replace(true);
    for request in requests {
        assert!(request.await.unwrap());
    }
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test]
async fn who_goes_away_does_not_take_the_answer_along() {
    let endpoint = Endpoint::start().await;
    endpoint.know("good");
    endpoint.gate.send_replace(false);
    let (tokens, now) = (Arc::new(start(&[endpoint.issuer()])), now());
    let first = {
        let tokens = Arc::clone(&tokens);
        tokio::spawn(async move { judge(&tokens, "good", now).await.is_ok() })
    };
    endpoint.asked_about(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    endpoint.gate.send_replace(true);
    assert!(judge(&tokens, "good", now).await.is_ok());
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_may_be() {
    let endpoint = Endpoint::start().await;
    endpoint.know("good");
    let mut issuer = endpoint.issuer();
    issuer.introspection.as_mut().unwrap().concurrent = 2;
    let (tokens, now) = (Arc::new(start(&[issuer])), now());
    assert!(judge(&tokens, "good", now).await.is_ok());
    endpoint.gate.send_replace(false);
    let invented: Vec<_> = (0..2)
        .map(|number| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move { judge(&tokens, &format!("invented-{number}"), now).await })
        })
        .collect();
    endpoint.asked_about(3).await;
    for number in 2..50 {
        let token = format!("invented-{number}");
        assert_eq!(judge(&tokens, &token, now).await, Err(Reason::IntrospectionUnavailable));
    }
    assert_eq!(endpoint.asked(), 3, "a flood reached the provider");
    assert!(judge(&tokens, "good", now).await.is_ok(), "what is known passes in a flood");
    endpoint.gate.send_replace(true);
    for request in invented {
        assert_eq!(request.await.unwrap(), Err(Reason::TokenInactive));
    }
    assert_eq!(judge(&tokens, "invented-2", now).await, Err(Reason::TokenInactive), "there is room again");
}

// -- a provider on its bad days

#[tokio::test]
async fn whatever_is_not_an_answer_is_a_503_and_never_a_pass() {
    let endpoint = Endpoint::start().await;
    let status = |line: &str| {
        let body = r#"{"active":true}"#;
        Says::Raw(format!("HTTP/1.1 {line}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    let bad = [
        status("500 Oops"),
        status("401 Unauthorized"),
        status("403 Forbidden"),
        status("302 Found\r\nlocation: /other"),
        status("204 No Content"),
        Says::Raw("not http at all".into()),
        Says::Raw(String::new()),
        Says::Raw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"active\":true".into()),
        Says::Typed("text/html", "<html>busy</html>".into()),
        Says::Json(json!({"active": "true"})),
        Says::Json(json!({"sub": "alice"})),
        Says::Json(json!([{"active": true}])),
        Says::Typed("application/json", r#"{"active":false,"active":true}"#.into()),
        Says::Typed("application/json", format!(r#"{{"active":true,"x":"{}"}}"#, "x".repeat(70_000))),
        Says::Silence,
        Says::Drip,
        Says::Flood,
    ];
    let mut issuer = endpoint.issuer();
    issuer.introspection.as_mut().unwrap().timeout = Duration::from_millis(300);
    let (tokens, now) = (start(&[issuer]), now());
    for (number, says) in bad.into_iter().enumerate() {
        let token = format!("token-{number}");
        endpoint.say(&token, says);
        assert_eq!(judge(&tokens, &token, now).await, Err(Reason::IntrospectionUnavailable), "{number}");
        // A fault is never kept: the next request asks again.
        endpoint.know(&token);
        assert!(judge(&tokens, &token, now).await.is_ok(), "{number}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_a_503_until_it_is_back() {
    let endpoint = Endpoint::start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut issuer = endpoint.issuer();
    issuer.introspection.as_mut().unwrap().url = Some(format!("http://{gone}/").parse().unwrap());
    let (tokens, now) = (start(&[issuer]), now());
    assert_eq!(judge(&tokens, "good", now).await, Err(Reason::IntrospectionUnavailable));
    let readiness = tokens.readiness(now);
    assert!(readiness[0].ready && readiness[0].detail.contains("introspection fails: asking: connecting"));
}

// -- whom a token is shown to

#[tokio::test]
async fn a_token_is_shown_only_to_an_issuer_that_it_can_be_of() {
    let (own, other) = (Endpoint::start().await, Endpoint::start().await);
    let signer = Signer::ed("k");
    let mut keyed = testing::issuer("keyed", KeySource::PublicKey(inline(signer.jwk().to_string())));
    keyed.url = "https://keyed.example/".into();
    keyed.introspection = Some(other.introspection());
    let (tokens, now) = (start(&[own.issuer(), keyed]), now());
    let of = |url: &str| {
        let mut claims = claims(now);
        claims["iss"] = json!(url);
        signer.token(&claims)
    };
    assert!(judge(&tokens, &of("https://keyed.example/"), now).await.is_ok(), "verified here");
    assert_eq!(judge(&tokens, &of("https://foreign.example/"), now).await, Err(Reason::TokenIssuerUnknown));
    assert_eq!(judge(&tokens, &signer.token(&json!({"sub": "x"})), now).await, Err(Reason::TokenIssuerUnknown));
    let broken = format!("{}x.y.z", of("https://foreign.example/").split('.').next().unwrap());
    assert_eq!(judge(&tokens, &broken, now).await, Err(Reason::TokenMalformed));
    assert_eq!((own.asked(), other.asked()), (0, 0));
    // A JWS of the issuer without keys is shown to it alone.
    let ours = of(ISSUER);
    own.know(&ours);
    assert!(judge(&tokens, &ours, now).await.is_ok());
    assert_eq!(judge_for(&tokens, &of(ISSUER), &taking(&["keyed"]), now).await, Err(Reason::TokenIssuerNotAccepted));
    assert_eq!((own.asked(), other.asked()), (1, 0));
}

#[tokio::test]
async fn opaque_tokens_go_round_the_routes_issuers_until_one_knows_them() {
    let (one, two, down) = (Endpoint::start().await, Endpoint::start().await, Endpoint::start().await);
    let named = |endpoint: &Endpoint, name: &str| {
        let mut issuer = endpoint.issuer();
        (issuer.name, issuer.url) = (name.into(), format!("https://{name}.example/").into());
        issuer
    };
    let of_two = active(&json!({"iss": "https://two.example/"}));
    let tokens = start(&[named(&one, "one"), named(&two, "two"), named(&down, "down")]);
    let now = now();
    two.say("good", Says::Json(of_two.clone()));
    down.say("stranger", Says::Raw("HTTP/1.1 500 Oops\r\n\r\n".into()));
    let judge = |token: &'static str, names: &'static [&'static str]| {
        let tokens = &tokens;
        async move { judge_for(tokens, token, &taking(names), now).await.map(|who| who.issuer.to_string()) }
    };
    assert_eq!(judge("good", &["two", "one"]).await, Ok("two".into()));
    assert_eq!((one.asked(), two.asked()), (0, 1));
    assert_eq!(judge("good", &["one"]).await, Err(Reason::TokenIssuerNotAccepted), "it is known as another's");
    two.say("late", Says::Json(of_two.clone()));
    assert_eq!(judge("late", &["one", "two", "one"]).await, Ok("two".into()));
    assert_eq!((one.asked(), two.asked()), (1, 2));
    assert_eq!(judge("stranger", &["one", "two"]).await, Err(Reason::TokenInactive));
    for order in [&["down", "one"][..], &["one", "down"]] {
        let reason = judge_for(&tokens, "stranger", &taking(order), now).await.unwrap_err();
        assert_eq!(reason, Reason::IntrospectionUnavailable, "the one that was not asked might know it");
    }
    // A hub that knows another's token does not speak for it.
    one.say("hub", Says::Json(of_two.clone()));
    two.say("hub", Says::Json(of_two));
    assert_eq!(judge("hub", &["one", "two"]).await, Ok("two".into()));
    two.say("hub2", Says::Json(json!({"active": false})));
    one.say("hub2", Says::Json(active(&json!({"iss": "https://third.example/"}))));
    assert_eq!(judge("hub2", &["one"]).await, Err(Reason::TokenIssuerUnknown));
    assert_eq!(judge("opaque", &["nobody"]).await, Err(Reason::TokenMalformed));
}

#[tokio::test]
async fn a_token_that_is_too_long_or_begins_otherwise_is_shown_to_nobody() {
    let endpoint = Endpoint::start().await;
    let mut issuer = endpoint.issuer();
    issuer.introspection.as_mut().unwrap().prefix = Some("ory_at_".into());
    issuer.token_bytes = 100;
    let (tokens, now) = (start(&[issuer]), now());
    endpoint.know("ory_at_1");
    assert!(judge(&tokens, "ory_at_1", now).await.is_ok());
    assert_eq!(judge(&tokens, "glpat-1", now).await, Err(Reason::TokenMalformed));
    assert_eq!(judge(&tokens, &format!("ory_at_{}", "x".repeat(100)), now).await, Err(Reason::TokenTooLarge));
    assert_eq!(endpoint.asked(), 1);
}

// -- signed answers

struct Signed {
    endpoint: Endpoint,
    signer: Signer,
    tokens: Tokens,
}

async fn signed(choice: SignedAnswers) -> Signed {
    let (endpoint, signer) = (Endpoint::start().await, Signer::ed("k"));
    let mut issuer = testing::issuer("main", KeySource::PublicKey(inline(signer.jwk().to_string())));
    issuer.introspection = Some(Introspection { signed: choice, ..endpoint.introspection() });
    Signed { tokens: start(&[issuer]), endpoint, signer }
}

const SIGNED: &str = "application/token-introspection+jwt";

fn envelope(extra: &Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "gateway", "iat": now().unix_secs(),
        "token_introspection": active(&json!({}))});
    for (name, value) in extra.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn typed(signer: &Signer, typ: &str, claims: &Value) -> String {
    signer.token_with(&json!({"alg": "EdDSA", "typ": typ, "kid": "k"}), claims)
}

#[tokio::test]
async fn a_signed_answer_is_believed_and_an_unsigned_one_only_where_that_may_be() {
    for choice in [SignedAnswers::Preferred, SignedAnswers::Required] {
        let room = signed(choice).await;
        let jwt = typed(&room.signer, "token-introspection+jwt", &envelope(&json!({})));
        room.endpoint.say("signed", Says::Typed("Application/Token-Introspection+JWT; charset=utf-8", jwt));
        room.endpoint.know("plain");
        let now = now();
        let principal = judge(&room.tokens, "signed", now).await.unwrap();
        assert_eq!((&*principal.subject, principal.marks.key.as_deref()), ("alice", Some("k")));
        assert!(room.endpoint.last().0.contains(&format!("accept: {SIGNED}\r\n")));
        let plain = judge(&room.tokens, "plain", now).await.map(|_| ());
        let wanted = match choice {
            SignedAnswers::Required => Err(Reason::IntrospectionUnavailable),
            SignedAnswers::Off | SignedAnswers::Preferred => Ok(()),
        };
        assert_eq!(plain, wanted);
        let jwt = typed(
            &room.signer,
            "token-introspection+jwt",
            &envelope(&json!({"token_introspection": {"active": false}})),
        );
        room.endpoint.say("inactive", Says::Typed(SIGNED, jwt));
        assert_eq!(judge(&room.tokens, "inactive", now).await, Err(Reason::TokenInactive));
    }
}

#[tokio::test]
async fn a_signed_answer_with_anything_wrong_is_none() {
    let room = signed(SignedAnswers::Preferred).await;
    let good = envelope(&json!({}));
    let with = |extra: Value| typed(&room.signer, "token-introspection+jwt", &envelope(&extra));
    let mut tampered = with(json!({}));
    tampered.replace_range(tampered.len() - 4.., "AAAA");
    let bad = [
        typed(&Signer::ed("k"), "token-introspection+jwt", &good),
        typed(&room.signer, "JWT", &good),
        typed(&room.signer, "at+jwt", &good),
        room.signer.token_with(&json!({"alg": "EdDSA", "kid": "k"}), &good),
        room.signer.token_with(&json!({"alg": "none", "typ": "token-introspection+jwt"}), &good),
        with(json!({"aud": "another-client"})),
        with(json!({"iss": "https://other.example/"})),
        with(json!({"iat": now().unix_secs() - 3600})),
        with(json!({"token_introspection": null, "active": true, "sub": "alice"})),
        tampered,
        good.to_string(),
        String::new(),
    ];
    for (number, jwt) in bad.into_iter().enumerate() {
        let token = format!("token-{number}");
        room.endpoint.say(&token, Says::Typed(SIGNED, jwt));
        assert_eq!(judge(&room.tokens, &token, now()).await, Err(Reason::IntrospectionUnavailable), "{number}");
    }
    // An answer is no token, even where it is signed by the same key.
    let mut answer = claims(now());
    answer["token_introspection"] = active(&json!({}));
    let answer = typed(&room.signer, "token-introspection+jwt", &answer);
    assert_eq!(judge(&room.tokens, &answer, now()).await, Err(Reason::TokenType));
}

// -- the endpoint, and the proof of who asks

#[tokio::test]
async fn the_endpoint_is_discovered_when_it_is_first_needed() {
    let endpoint = Endpoint::start().await;
    let mut issuer = endpoint.issuer();
    issuer.url = endpoint.base.as_str().into();
    issuer.introspection.as_mut().unwrap().url = None;
    let (tokens, now) = (start(&[issuer]), now());
    endpoint.say("good", Says::Json(active(&json!({"iss": endpoint.base}))));
    assert_eq!(judge(&tokens, "good", now).await, Err(Reason::IntrospectionUnavailable), "there is no metadata yet");
    let metadata = json!({"issuer": endpoint.base, "introspection_endpoint": format!("{}/asked/here", endpoint.base)});
    endpoint.say("/.well-known/openid-configuration", Says::Json(metadata));
    assert!(judge(&tokens, "good", now).await.is_ok());
    assert!(endpoint.last().0.starts_with("POST /asked/here HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_certificate_proves_who_asks() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let authority = params.self_signed(&key).unwrap();
    let der: rustls::pki_types::PrivateKeyDer<'static> =
        rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(vec![authority.der().clone()], der)
        .unwrap();
    let endpoint = Endpoint::serve(Some(TlsAcceptor::from(Arc::new(config)))).await;
    endpoint.know("good");

    let file = |name: &str| File { span: Span::default(), path: name.into() };
    let stranger = rcgen::KeyPair::generate().unwrap();
    let mut made_up = MadeUp::default();
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("client.pem", authority.pem()),
        ("client.key", key.serialize_pem()),
        ("stranger.key", stranger.serialize_pem()),
    ] {
        made_up.files.insert(name.to_owned(), text.into_bytes());
    }
    let mut issuer = endpoint.issuer();
    issuer.ca = Some(file("ca.pem"));
    let settings = issuer.introspection.as_mut().unwrap();
    settings.client =
        ClientAuthentication::Certificate(CertificateFiles { cert: file("client.pem"), key: file("client.key") });
    let (services, _) = services();
    let compile = |issuer: &Issuer| Tokens::compile(&[Arc::new(issuer.clone())], &made_up, &services, None);
    let tokens = compile(&issuer).unwrap();
    assert!(judge(&tokens, "good", now()).await.is_ok());
    let (head, form) = endpoint.last();
    assert_eq!(form["client_id"], "gateway");
    assert!(!head.contains("authorization"), "{head}");

    let mut without = issuer.clone();
    without.introspection.as_mut().unwrap().client =
        ClientAuthentication::Secret { secret: inline("secret"), method: SecretMethod::Post };
    let tokens = compile(&without).unwrap();
    assert_eq!(judge(&tokens, "good", now()).await, Err(Reason::IntrospectionUnavailable));

    let mut mixed = issuer;
    mixed.introspection.as_mut().unwrap().client =
        ClientAuthentication::Certificate(CertificateFiles { cert: file("client.pem"), key: file("stranger.key") });
    let problems = compile(&mixed).unwrap_err();
    assert_eq!(problems[0].message, "stranger.key is not the key of the certificate");
}

#[test]
fn what_proves_nothing_is_said_before_anything_starts() {
    let issuer = |client| {
        let mut issuer = testing::issuer("main", KeySource::Absent);
        issuer.introspection = Some(Introspection {
            span: Span::default(),
            url: None,
            client_id: "gateway".into(),
            client,
            timeout: seconds(3),
            cache: seconds(60),
            negative_cache: seconds(5),
            signed: SignedAnswers::Off,
            concurrent: 1,
            required: Vec::new(),
            prefix: None,
        });
        Arc::new(issuer)
    };
    let said = |client| Tokens::check(&[issuer(client)], &MadeUp::default()).remove(0).message;
    let key = |text: &str| ClientAuthentication::PrivateKey { key: inline(text), key_id: None };
    assert!(said(key("hunter2")).starts_with("the key is not one private key in PKCS#8 PEM"));
    let empty = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----";
    assert!(said(key(empty)).starts_with("the key is not one that signs here"));
    let file = |name: &str| File { span: Span::default(), path: name.into() };
    let absent = CertificateFiles { cert: file("/nowhere/c.pem"), key: file("/nowhere/c.key") };
    assert!(said(ClientAuthentication::Certificate(absent)).starts_with("cannot read /nowhere/c.pem"));
    assert!(Path::new("/nowhere").metadata().is_err());
}

// -- reloads

#[tokio::test]
async fn a_reload_keeps_what_was_learnt_from_the_same_definition_and_nothing_else() {
    let endpoint = Endpoint::start().await;
    endpoint.know("good");
    let (services, _) = services();
    let (issuer, now) = (endpoint.issuer(), now());
    let first = compile(std::slice::from_ref(&issuer), &services, None);
    assert!(judge(&first, "good", now).await.is_ok());
    assert_eq!(judge(&first, "bad", now).await, Err(Reason::TokenInactive));

    let mut moved = issuer.clone();
    moved.introspection.as_mut().unwrap().span.line = 99;
    let second = compile(&[moved], &services, Some(&first));
    assert!(judge(&second, "good", now).await.is_ok());
    assert_eq!(judge(&second, "bad", now).await, Err(Reason::TokenInactive));
    assert_eq!(endpoint.asked(), 2);

    let mut stricter = issuer.clone();
    stricter.introspection.as_mut().unwrap().required.push("username".into());
    let third = compile(&[stricter], &services, Some(&second));
    assert_eq!(judge(&third, "good", now).await, Err(Reason::TokenClaims));

    let mut other_secret = issuer;
    other_secret.introspection.as_mut().unwrap().client =
        ClientAuthentication::Secret { secret: inline("other"), method: SecretMethod::Basic };
    let fourth = compile(&[other_secret], &services, Some(&third));
    assert!(judge(&fourth, "good", now).await.is_ok());
    assert_eq!(endpoint.asked(), 4);
}
