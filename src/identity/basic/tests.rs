//! The room as a whole: what is hashed, what is not, and that nobody can tell a user from a name that none has.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may")]

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    config::{self, Input},
    identity::{Authenticator, Field, IdentityObserver, PasswordOutcome, RefreshOutcome},
    password::StoredHash,
    policy::{Evidence, Principal},
};

/// Counts hashes by what came of them.
#[derive(Default)]
struct Counts(Mutex<HashMap<&'static str, usize>>);

impl Counts {
    fn of(&self, what: &str) -> usize {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }
}

impl IdentityObserver for Counts {
    fn refresh(&self, _: &str, _: RefreshOutcome) {}
    fn verification(&self, _: Option<&str>, _: Result<(), Reason>) {}
    fn cache(&self, _: crate::identity::CacheLookup) {}

    fn password(&self, _: &str, outcome: PasswordOutcome) {
        let what = match outcome {
            PasswordOutcome::Right => "right",
            PasswordOutcome::Wrong => "wrong",
            PasswordOutcome::Busy => "busy",
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }
}

/// A clock that stands where it is put.
struct Hands(Mutex<Now>);

impl Clock for Hands {
    fn now(&self) -> Now {
        *self.0.lock().unwrap()
    }
}

/// bcrypt with the lowest cost that is taken: the tests hash often.
const ALICE: &str = "$2b$10$fVH8e28OQRj9tqiDXs1e1uxpsjN0c7II7YPKXua2NAKYvM6iQk7dq";
const PASSWORD: &str = "abcdefghijklmnopqrstuvwxyz";

struct Files(Mutex<HashMap<&'static str, String>>);

impl Materials for Files {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        let files = self.0.lock().unwrap();
        let text = files.get(path.file_name().unwrap().to_str().unwrap());
        text.map(|text| text.clone().into_bytes()).ok_or_else(|| "there is no such file".to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

struct Scene {
    authenticator: Authenticator,
    files: Files,
    counts: Arc<Counts>,
    clock: Arc<Hands>,
    services: SourceServices,
    yaml: String,
}

fn config(yaml: &str) -> Config {
    let text = format!(
        "listeners: [{{address: 127.0.0.1:1, tls: {{danger_self_signed: true}}}}]\n{yaml}\n\
         upstreams: {{api: {{targets: [http://127.0.0.1:9]}}}}\nroutes: [{{path: /, upstream: api, auth: none}}]\n"
    );
    let input = Input { file: Path::new("gateway.yaml"), text: &text, base: Path::new("/etc"), env: &|_| None };
    config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config
}

impl Scene {
    fn new(says: &str) -> Self {
        let yaml = format!("credentials: {{people: {{basic: {{file: users, scopes: [all]{says}}}}}}}");
        let users = format!("alice:{ALICE}:read write\nbob:{ALICE}\n");
        let files = Files(Mutex::new(HashMap::from([("users", users)])));
        let counts = Arc::new(Counts::default());
        let clock = Arc::new(Hands(Mutex::new(SystemClock.now())));
        let services = SourceServices {
            handle: tokio::runtime::Handle::current(),
            roots: crate::client::MachineRoots::nobody(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            observer: Arc::clone(&counts) as Arc<dyn IdentityObserver>,
            revocations: Arc::default(),
            authority_keys: Default::default(),
        };
        let authenticator = Authenticator::compile(&config(&yaml), &files, &services, None).unwrap();
        Self { authenticator, files, counts, clock, services, yaml }
    }

    fn reload(&mut self, users: &str) {
        self.files.0.lock().unwrap().insert("users", users.to_owned());
        let before = Some(&self.authenticator);
        self.authenticator = Authenticator::compile(&config(&self.yaml), &self.files, &self.services, before).unwrap();
    }

    fn wait(&self, by: Duration) {
        let mut now = self.clock.0.lock().unwrap();
        *now = now.after(by);
    }

    async fn ask(&self, authorization: &str, scheme: &str, query: Option<&str>, address: &str) -> Evidence {
        let presented = Presented {
            authorization: Field::One(authorization.as_bytes()),
            keys: &[],
            proof: Field::Absent,
            confidential: scheme == "https",
            query,
            method: &http::Method::GET,
            scheme,
            authority: "api.example",
            path: "/",
            certificate: None,
            address: address.parse::<IpAddr>().unwrap(),
        };
        let accepted = self.authenticator.accepted(&[]);
        self.authenticator.authenticate(&presented, &accepted, self.clock.now()).await
    }

    async fn from(&self, address: &str, user: &str, password: &str) -> Result<Arc<Principal>, Reason> {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        match self.ask(&format!("Basic {encoded}"), "https", None, address).await.credential {
            Credential::Valid(principal) => Ok(principal),
            Credential::Invalid(reason) | Credential::Unavailable { reason, .. } => Err(reason),
            Credential::Absent => panic!("treated as absent"),
        }
    }

    async fn login(&self, user: &str, password: &str) -> Result<Arc<Principal>, Reason> {
        self.from("192.0.2.1", user, password).await
    }
}

#[tokio::test]
async fn a_user_is_who_the_file_says_with_its_scopes_and_nothing_more() {
    let scene = Scene::new("");
    let alice = scene.login("alice", PASSWORD).await.unwrap();
    assert_eq!((&*alice.issuer, &*alice.subject), ("people", "alice"));
    assert_eq!(&*alice.issuer_url, "urn:stepgate:credentials:people");
    assert_eq!(alice.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["all", "read", "write"]);
    assert_eq!(alice.assurance.amr.iter().map(|amr| &**amr).collect::<Vec<_>>(), ["pwd"]);
    assert_eq!((alice.assurance.auth_time, alice.assurance.acr.as_deref()), (None, None));
    assert_eq!(alice.claims["sub"], "alice");
    assert_eq!(scene.login("Alice", PASSWORD).await, Err(Reason::UserUnknown), "names are exact");
}

#[tokio::test]
async fn a_right_password_is_hashed_once_a_minute_and_a_wrong_one_each_time() {
    let scene = Scene::new("");
    for _ in 0..10 {
        scene.login("alice", PASSWORD).await.unwrap();
    }
    assert_eq!(scene.counts.of("right"), 1);
    for _ in 0..3 {
        assert_eq!(scene.login("alice", "wrong").await, Err(Reason::PasswordWrong));
    }
    assert_eq!(scene.counts.of("wrong"), 3);
    scene.login("alice", PASSWORD).await.unwrap();
    assert_eq!(scene.counts.of("right"), 1);
    scene.wait(Duration::from_secs(60));
    scene.login("alice", PASSWORD).await.unwrap();
    assert_eq!(scene.counts.of("right"), 2);
}

#[tokio::test]
async fn nothing_is_remembered_where_the_configuration_says_so() {
    let scene = Scene::new(", cache: 0s");
    for _ in 0..3 {
        scene.login("alice", PASSWORD).await.unwrap();
    }
    assert_eq!(scene.counts.of("right"), 3);
}

/// A known and an unknown name cost the same number of hashes, lock at the same attempt, and come back at the same time.
#[tokio::test]
async fn a_name_that_no_user_has_is_treated_as_one_that_has() {
    let scene = Scene::new("");
    let mut hashed = Vec::new();
    for (user, wrong) in [("alice", Reason::PasswordWrong), ("nobody", Reason::UserUnknown)] {
        let before = scene.counts.of("wrong");
        let mut said = Vec::new();
        for _ in 0..7 {
            said.push(scene.login(user, "wrong").await.unwrap_err());
        }
        assert_eq!(said, [vec![wrong; 5], vec![Reason::LockedOut; 2]].concat());
        scene.wait(Duration::from_secs(60));
        assert_eq!(scene.login(user, "wrong").await, Err(wrong));
        assert_eq!(scene.login(user, "wrong").await, Err(Reason::LockedOut));
        hashed.push(scene.counts.of("wrong") - before);
    }
    assert_eq!(hashed, [6, 6]);
    assert_eq!(scene.authenticator.locked_users(scene.clock.now()).collect::<Vec<_>>(), [("people", 2)]);
}

/// What is remembered would tell the right guess from the wrong ones, at no cost, to who may guess no more.
#[tokio::test]
async fn who_may_guess_no_more_learns_nothing_from_what_is_remembered() {
    let scene = Scene::new(", lockout: {per_address: 3/1h}");
    let stranger = "203.0.113.7";
    for user in ["x", "y", "z"] {
        assert_eq!(scene.from(stranger, user, "wrong").await, Err(Reason::UserUnknown));
    }
    scene.login("alice", PASSWORD).await.unwrap();
    for guess in ["one", "two", "three", "four", "five", "six", "seven", PASSWORD] {
        assert_eq!(scene.from(stranger, "alice", guess).await, Err(Reason::LockedOut), "{guess}");
    }
    scene.login("alice", PASSWORD).await.unwrap();
    assert_eq!(scene.counts.of("right"), 1, "the owner noticed nothing");

    let scene = Scene::new(", lockout: {per_user: 3/1h}");
    scene.login("alice", PASSWORD).await.unwrap();
    for host in 1..=3 {
        assert_eq!(scene.from(&format!("203.0.113.{host}"), "alice", "wrong").await, Err(Reason::PasswordWrong));
    }
    assert_eq!(scene.from("203.0.113.9", "alice", PASSWORD).await, Err(Reason::LockedOut));
    scene.login("alice", PASSWORD).await.unwrap();
}

/// Who shows a password that is remembered is at home there, too.
#[tokio::test]
async fn a_password_that_is_remembered_makes_an_address_familiar() {
    let scene = Scene::new(", lockout: {per_user: 3/1h}");
    scene.login("alice", PASSWORD).await.unwrap();
    scene.from("198.51.100.1", "alice", PASSWORD).await.unwrap();
    assert_eq!(scene.counts.of("right"), 1);
    for host in 1..=3 {
        assert_eq!(scene.from(&format!("203.0.113.{host}"), "alice", "wrong").await, Err(Reason::PasswordWrong));
    }
    scene.from("198.51.100.1", "alice", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_lock_holds_for_the_right_password_too_even_if_it_is_remembered() {
    let scene = Scene::new("");
    scene.login("alice", PASSWORD).await.unwrap();
    for _ in 0..5 {
        assert_eq!(scene.login("alice", "wrong").await, Err(Reason::PasswordWrong));
    }
    assert_eq!(scene.login("alice", PASSWORD).await, Err(Reason::LockedOut));
    scene.from("192.0.2.2", "alice", PASSWORD).await.unwrap();
    scene.wait(Duration::from_secs(60));
    scene.login("alice", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn the_same_password_many_times_at_once_is_hashed_once() {
    let scene = Scene::new("");
    let all = (0..50).map(|_| scene.login("alice", PASSWORD));
    let mut set: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        set.retain_mut(|one| match one.as_mut().poll(cx) {
            std::task::Poll::Ready(result) => {
                result.unwrap();
                false
            }
            std::task::Poll::Pending => true,
        });
        if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(scene.counts.of("right"), 1);
}

#[tokio::test]
async fn guessing_in_parallel_gains_nothing() {
    let scene = Scene::new("");
    let guesses: Vec<String> = (0..40).map(|number| format!("guess {number}")).collect();
    let mut set: Vec<_> = guesses.iter().map(|guess| Box::pin(scene.login("alice", guess))).collect();
    std::future::poll_fn(|cx| {
        set.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(scene.counts.of("wrong"), 5);
}

#[tokio::test]
async fn one_more_than_may_wait_is_told_to_come_back_and_is_not_counted() {
    let scene = Scene::new(", concurrent: 1, queue: 1");
    let users: Vec<String> = (0..10).map(|number| format!("user {number}")).collect();
    let mut set: Vec<_> = users.iter().map(|user| Box::pin(scene.login(user, "wrong"))).collect();
    let mut said = Vec::new();
    std::future::poll_fn(|cx| {
        set.retain_mut(|one| match one.as_mut().poll(cx) {
            std::task::Poll::Ready(result) => {
                said.push(result.unwrap_err());
                false
            }
            std::task::Poll::Pending => true,
        });
        if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(said.iter().filter(|reason| **reason == Reason::PasswordsBusy).count(), 8);
    assert_eq!((scene.counts.of("wrong"), scene.counts.of("busy")), (2, 8));
}

#[tokio::test]
async fn a_line_that_changes_changes_at_once_and_the_others_stay_known() {
    let mut scene = Scene::new("");
    scene.login("alice", PASSWORD).await.unwrap();
    scene.login("bob", PASSWORD).await.unwrap();
    for _ in 0..5 {
        scene.from("192.0.2.9", "alice", "wrong").await.unwrap_err();
        scene.from("192.0.2.9", "bob", "wrong").await.unwrap_err();
    }
    let other = StoredHash::fresh(b"another password").unwrap();
    scene.reload(&format!("alice:{other}\nbob:{ALICE}\n"));
    assert_eq!(scene.login("alice", PASSWORD).await, Err(Reason::PasswordWrong));
    let hashed = scene.counts.of("right");
    scene.login("bob", PASSWORD).await.unwrap();
    assert_eq!(scene.counts.of("right"), hashed, "bob's line is the same");
    assert_eq!(scene.from("192.0.2.9", "bob", PASSWORD).await, Err(Reason::LockedOut));
    let alice = scene.from("192.0.2.9", "alice", "another password").await.unwrap();
    assert_eq!(alice.scopes.len(), 1, "her scopes are gone with the line");
    scene.reload(&format!("bob:{ALICE}\n"));
    assert_eq!(scene.login("alice", "another password").await, Err(Reason::UserUnknown));
}

#[tokio::test]
async fn another_password_is_another_credential_and_the_same_one_stays_one() {
    let mut scene = Scene::new("");
    let first = scene.login("alice", PASSWORD).await.unwrap().marks.fingerprint;
    let bob = scene.login("bob", PASSWORD).await.unwrap().marks.fingerprint;
    assert!(first.is_some() && bob.is_some() && first != bob, "the same hash is another user's");
    scene.reload(&format!("alice:{ALICE}:admin\nbob:{ALICE}\n"));
    assert_eq!(
        scene.login("alice", PASSWORD).await.unwrap().marks.fingerprint,
        first,
        "her scopes are not her password"
    );
    let other = StoredHash::fresh(PASSWORD.as_bytes()).unwrap();
    scene.reload(&format!("alice:{other}\nbob:{ALICE}\n"));
    let second = scene.login("alice", PASSWORD).await.unwrap().marks.fingerprint;
    assert!(second.is_some() && second != first, "set anew, even if to the same");
}

#[tokio::test]
async fn without_tls_no_password_is_looked_at_unless_the_configuration_says_so() {
    let right = format!("Basic {}", STANDARD.encode(format!("alice:{PASSWORD}")));
    let scene = Scene::new("");
    let said = scene.ask(&right, "http", None, "127.0.0.1").await.credential;
    assert!(matches!(said, Credential::Invalid(Reason::PasswordCleartext)), "{said:?}");
    let scene = Scene::new(", danger_cleartext: true");
    let said = scene.ask(&right, "http", None, "192.0.2.1").await.credential;
    assert!(matches!(said, Credential::Valid(_)), "{said:?}");
}

#[tokio::test]
async fn what_is_not_in_form_is_wrong_and_never_absent() {
    let scene = Scene::new("");
    for wrong in ["Basic", "Basic ", "Basic !", "basic YTpi=", "BASIC YQ==", "Basic Og==", "Basic YTpi YTpi"] {
        let said = scene.ask(wrong, "https", None, "192.0.2.1").await.credential;
        assert!(matches!(said, Credential::Invalid(Reason::PasswordMalformed)), "{wrong}: {said:?}");
    }
}

#[tokio::test]
async fn the_first_source_that_has_the_user_decides() {
    let mut scene = Scene::new("");
    scene.yaml = "credentials: {one: {basic: {file: users}}, two: {basic: {file: more}}}".to_owned();
    let other = StoredHash::fresh(b"another password").unwrap();
    let more = format!("alice:{other}\neve:{ALICE}\n");
    scene.files.0.lock().unwrap().insert("more", more);
    scene.reload(&format!("alice:{ALICE}\n"));
    assert_eq!(&*scene.login("eve", PASSWORD).await.unwrap().issuer, "two");
    assert_eq!(&*scene.login("alice", PASSWORD).await.unwrap().issuer, "one");
    assert_eq!(scene.login("alice", "another password").await, Err(Reason::PasswordWrong));
    assert_eq!(scene.login("nobody", "x").await, Err(Reason::UserUnknown));
}

#[test]
fn a_file_with_faults_is_refused_with_all_its_lines() {
    let files = Files(Mutex::new(HashMap::from([("users", format!("alice\nbob:{ALICE}\neve:hunter2\n"))])));
    let config = config("credentials: {people: {basic: {file: users}}}");
    let said: Vec<String> = Passwords::check(&config, &files).into_iter().map(|problem| problem.message).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("/etc/users:1: ") && said[1].starts_with("/etc/users:3: "), "{said:?}");
    assert!(!said.concat().contains("hunter2"));
}
