//! Reports with real keys, as the two specifications write them, and as nobody should.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    config::{Limit, LimitKey, Rate, SignOut, Span},
    identity::{
        Accepted, CacheLookup, RefreshOutcome,
        revocation::{Filter, TargetKind},
        testing::{ISSUER, Signer, claims as caller_claims, inline, issuer, now, start},
        tokens::Tokens,
    },
};

const CLIENT: &str = "gateway-client";
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const DISABLED: &str = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";

#[derive(Default)]
struct Told(Mutex<Vec<(EventKind, EventOutcome)>>);

impl IdentityObserver for Told {
    fn refresh(&self, _: &str, _: RefreshOutcome) {}
    fn verification(&self, _: Option<&str>, _: Result<(), Reason>) {}
    fn cache(&self, _: CacheLookup) {}
    fn event(&self, issuer: &str, kind: EventKind, outcome: EventOutcome) {
        assert_eq!(issuer, "main");
        self.0.lock().unwrap().push((kind, outcome));
    }
}

/// A receiver with all around it.
struct World {
    tokens: Tokens,
    signer: Signer,
    events: Events,
    revocations: Arc<Revocations>,
    told: Told,
    now: Now,
    _folder: TempDir,
}

fn events() -> Events {
    let rate = Rate::PerSecond { count: 1.try_into().unwrap(), burst: 1.try_into().unwrap() };
    Events {
        span: Span::default(),
        path: "/events".into(),
        audience: vec![CLIENT.into()],
        types: vec!["logout+jwt".into(), "secevent+jwt".into()],
        type_absent: false,
        sign_out: SignOut::Subject,
        keep: std::time::Duration::from_secs(3600),
        limit: Arc::new(Limit { span: Span::default(), name: "events main".into(), key: LimitKey::Ip, rate }),
    }
}

fn world() -> World {
    let signer = Signer::ed("key-1");
    let keys = crate::config::KeySource::PublicKey(inline(signer.jwk().to_string()));
    let folder = tempfile::tempdir().unwrap();
    let revocations = Arc::new(Revocations::open(folder.path(), now()).unwrap());
    let (tokens, _) = start(&[issuer("main", keys)]);
    World { tokens, signer, events: events(), revocations, told: Told::default(), now: now(), _folder: folder }
}

impl World {
    fn logout_claims(&self, changes: Value) -> Value {
        let secs = self.now.unix_secs();
        let claims = json!({"iss": ISSUER, "aud": CLIENT, "iat": secs, "exp": secs + 120, "jti": "log-1", "sub": "alice",
            "sid": "session-1", "events": {LOGOUT: {}}});
        changed(claims, changes)
    }

    fn set_claims(&self, events: Value, changes: Value) -> Value {
        let claims = json!({"iss": ISSUER, "aud": [CLIENT, "other"], "iat": self.now.unix_secs(), "jti": "set-1",
            "events": events, "sub_id": {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}});
        changed(claims, changes)
    }

    fn sign(&self, typ: Value, claims: &Value) -> String {
        let header = changed(json!({"alg": "EdDSA", "kid": "key-1"}), json!({ "typ": typ }));
        self.signer.token_with(&header, claims)
    }

    async fn receive(&self, content_type: &str, body: &[u8]) -> Receipt {
        let receiver = Receiver {
            verifier: self.tokens.named("main").unwrap(),
            events: &self.events,
            revocations: &self.revocations,
            observer: &self.told,
        };
        receiver.receive(Delivery { content_type: Some(content_type), body }, self.now).await
    }

    async fn post(&self, token: &str) -> Receipt {
        self.receive("application/x-www-form-urlencoded", format!("logout_token={token}").as_bytes()).await
    }

    async fn push(&self, token: &str) -> Receipt {
        self.receive("application/secevent+jwt", token.as_bytes()).await
    }

    async fn logout(&self, changes: Value) -> Receipt {
        self.post(&self.sign(json!("logout+jwt"), &self.logout_claims(changes))).await
    }

    async fn event(&self, events: Value, changes: Value) -> Receipt {
        self.push(&self.sign(json!("secevent+jwt"), &self.set_claims(events, changes))).await
    }

    /// What the list names, in order: kind, value, seconds of `issued_before` from now.
    fn listed(&self) -> Vec<(TargetKind, String, Option<i64>)> {
        let page = self.revocations.page(&Filter { limit: 100, ..Filter::default() });
        let now = i64::try_from(self.now.unix_secs()).unwrap();
        let one = |entry: &Arc<crate::identity::revocation::Entry>| {
            let revocation = &entry.revocation;
            assert_eq!((&*revocation.source, &*revocation.by), ("main", "events of main"));
            assert!(revocation.expires.is_some());
            let before = revocation.issued_before.map(|before| i64::try_from(before).unwrap() - now);
            (revocation.kind, revocation.value.to_string(), before)
        };
        page.entries.iter().map(one).collect()
    }

    fn told(&self) -> Vec<(EventKind, EventOutcome)> {
        std::mem::take(&mut self.told.0.lock().unwrap())
    }

    async fn judge(&self, token: &str) -> Credential {
        self.tokens.authenticate(token.as_bytes(), &Accepted::default(), self.now).await
    }
}

fn changed(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn subject(before: i64) -> (TargetKind, String, Option<i64>) {
    (TargetKind::Subject, "alice".into(), Some(before))
}

fn session() -> (TargetKind, String, Option<i64>) {
    (TargetKind::Session, "session-1".into(), None)
}

#[tokio::test]
async fn a_log_out_ends_the_session_and_what_its_subject_got_before() {
    let world = world();
    assert_eq!(world.logout(json!({})).await, Receipt::Done(Form::Logout));
    assert_eq!(world.listed(), [subject(1), session()]);
    assert_eq!(world.told(), [(EventKind::Logout, EventOutcome::Applied)]);
    assert_eq!(world.logout(json!({})).await, Receipt::Done(Form::Logout));
    assert_eq!(world.told(), [(EventKind::Logout, EventOutcome::Repeated)]);
    assert_eq!(world.listed().len(), 2, "a report that comes again adds nothing");
}

#[tokio::test]
async fn where_tokens_carry_their_session_the_others_of_the_subject_go_on() {
    let mut world = world();
    world.events.sign_out = SignOut::Session;
    assert_eq!(world.logout(json!({})).await, Receipt::Done(Form::Logout));
    assert_eq!(world.listed(), [session()]);
    assert_eq!(world.logout(json!({"sid": null})).await, Receipt::Done(Form::Logout));
    assert_eq!(world.listed(), [session(), subject(1)], "without a session all of them are meant (§2.4)");
}

#[tokio::test]
async fn a_log_out_token_that_is_not_one_to_the_letter_is_refused() {
    let world = world();
    let secs = world.now.unix_secs();
    for (changes, reason) in [
        (json!({"events": null}), Reason::TokenClaims),
        (json!({"events": {}}), Reason::TokenClaims),
        (json!({"events": [LOGOUT]}), Reason::TokenClaims),
        (json!({"events": {LOGOUT: null}}), Reason::TokenClaims),
        (json!({"events": {LOGOUT: {}, REVOKED: {}}}), Reason::TokenClaims),
        (json!({"events": {REVOKED: {}}}), Reason::TokenClaims),
        (json!({"nonce": "n"}), Reason::TokenClaims),
        (json!({"sub": null, "sid": null}), Reason::TokenClaims),
        (json!({"sub": ""}), Reason::TokenClaims),
        (json!({"sid": 7}), Reason::TokenClaims),
        (json!({"sub": "x".repeat(3000)}), Reason::TokenClaims),
        (json!({"iat": null}), Reason::TokenClaims),
        (json!({"iat": -5}), Reason::TokenClaims),
        (json!({"iat": "now"}), Reason::TokenClaims),
        (json!({"jti": null}), Reason::TokenClaims),
        (json!({"jti": 7}), Reason::TokenClaims),
        (json!({"aud": null}), Reason::TokenClaims),
        (json!({"aud": "another-client"}), Reason::TokenAudience),
        (json!({"aud": []}), Reason::TokenAudience),
        (json!({"iss": "https://other.example/"}), Reason::TokenIssuerUnknown),
        (json!({"iss": null}), Reason::TokenIssuerUnknown),
        (json!({"exp": secs - 31}), Reason::TokenExpired),
        (json!({"iat": secs + 31}), Reason::TokenIssuedInFuture),
    ] {
        assert_eq!(world.logout(changes.clone()).await, Receipt::Refused(Form::Logout, reason), "{changes}");
        assert_eq!(world.told(), [(EventKind::Unread, EventOutcome::Refused)]);
    }
    assert!(world.listed().is_empty());
}

#[tokio::test]
async fn only_the_issuers_own_keys_report() {
    let world = world();
    let claims = world.logout_claims(json!({}));
    let header = json!({"alg": "EdDSA", "kid": "key-1", "typ": "logout+jwt"});
    let stranger = Signer::ed("key-1").token_with(&header, &claims);
    assert_eq!(world.post(&stranger).await, Receipt::Refused(Form::Logout, Reason::TokenSignature));
    let good = world.sign(json!("logout+jwt"), &claims);
    let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
    assert_eq!(world.post(&unsigned).await, Receipt::Refused(Form::Logout, Reason::TokenSignature));
    let other = world.signer.token_with(&json!({"alg": "none", "typ": "logout+jwt"}), &claims);
    assert_eq!(world.post(&other).await, Receipt::Refused(Form::Logout, Reason::TokenAlgorithm));
    let named = changed(header.clone(), json!({"kid": "key-2"}));
    assert_eq!(
        world.post(&world.signer.token_with(&named, &claims)).await,
        Receipt::Refused(Form::Logout, Reason::TokenKeyUnknown)
    );
    assert!(world.listed().is_empty());
}

#[tokio::test]
async fn a_body_holds_exactly_one_token_of_the_form_that_it_says() {
    let world = world();
    let token = world.sign(json!("logout+jwt"), &world.logout_claims(json!({})));
    let form = "application/x-www-form-urlencoded";
    for (kind, body, of) in [
        (form, String::new(), Form::Logout),
        (form, format!("token={token}"), Form::Logout),
        (form, format!("logout_token={token}&logout_token={token}"), Form::Logout),
        (form, "logout_token=x".to_owned(), Form::Logout),
        ("application/secevent+jwt", String::new(), Form::Push),
        ("application/json", format!("{{\"logout_token\":\"{token}\"}}"), Form::Push),
        ("", token.clone(), Form::Push),
    ] {
        let receipt = world.receive(kind, body.as_bytes()).await;
        assert_eq!(receipt, Receipt::Refused(of, Reason::TokenMalformed), "{kind} {body}");
    }
    assert_eq!(
        world.receive("application/secevent+jwt", b"\xff\xfe").await,
        Receipt::Refused(Form::Push, Reason::TokenMalformed)
    );
    let kind = "Application/X-WWW-Form-Urlencoded; charset=utf-8";
    let body = format!("extra=1&logout_token={token}");
    assert_eq!(world.receive(kind, body.as_bytes()).await, Receipt::Done(Form::Logout));
}

#[tokio::test]
async fn no_kind_of_token_is_taken_for_another() {
    let mut world = world();
    let logout = world.logout_claims(json!({}));
    let set = world.set_claims(json!({REVOKED: {}}), json!({}));
    let caller = caller_claims(world.now);
    for (typ, claims) in [
        (json!("at+jwt"), &logout),
        (json!("JWT"), &logout),
        (json!(null), &logout),
        (json!("secevent+jwt"), &logout),
        (json!("at+jwt"), &caller),
        (json!("logout+jwt"), &caller),
        (json!("secevent+jwt"), &set),
    ] {
        let receipt = world.post(&world.sign(typ.clone(), claims)).await;
        assert!(matches!(receipt, Receipt::Refused(Form::Logout, _)), "{typ} {claims}");
    }
    for (typ, claims) in [
        (json!("logout+jwt"), &set),
        (json!("JWT"), &set),
        (json!(null), &set),
        (json!("at+jwt"), &caller),
        (json!("secevent+jwt"), &caller),
    ] {
        let receipt = world.push(&world.sign(typ.clone(), claims)).await;
        assert!(matches!(receipt, Receipt::Refused(Form::Push, _)), "{typ} {claims}");
    }
    assert!(world.listed().is_empty());
    // The other way about: with every claim that a caller's token needs, and with the types that callers' tokens have.
    let api = json!({"aud": crate::identity::testing::AUDIENCE, "sub": "alice", "exp": world.now.unix_secs() + 60});
    for claims in [changed(logout.clone(), api.clone()), changed(set.clone(), api)] {
        for typ in [json!("logout+jwt"), json!("secevent+jwt"), json!("at+jwt"), json!("JWT"), json!(null)] {
            let judged = world.judge(&world.sign(typ.clone(), &claims)).await;
            assert!(matches!(judged, Credential::Invalid(Reason::TokenType)), "{typ} {claims}: {judged:?}");
        }
    }
    let own = changed(caller, json!({"events": {"https://events.example/concert": {}}}));
    let judged = world.judge(&world.sign(json!("at+jwt"), &own)).await;
    assert!(matches!(judged, Credential::Valid(_)), "a claim of somebody's own: {judged:?}");
    // A provider that does not type its log-outs can be taken as it is, and is still told apart by its claims.
    world.events.types.push("jwt".into());
    world.events.type_absent = true;
    for typ in [json!("JWT"), json!(null)] {
        assert_eq!(world.post(&world.sign(typ.clone(), &logout)).await, Receipt::Done(Form::Logout));
        let receipt = world.post(&world.sign(typ, &caller_claims(world.now))).await;
        assert!(matches!(receipt, Receipt::Refused(..)));
    }
}

#[tokio::test]
async fn security_events_name_their_subject_in_every_way_that_is_understood() {
    let iss_sub = json!({"format": "iss_sub", "iss": ISSUER, "sub": "alice"});
    let opaque = |id: &str| json!({"format": "opaque", "id": id});
    let alias = json!({"format": "aliases", "identifiers": [{"format": "email", "email": "a@example"}, iss_sub]});
    let both = json!({"format": "complex", "user": iss_sub, "session": opaque("session-1")});
    let early = json!({"user": iss_sub, "session": opaque("session-1")});
    let jti = (TargetKind::Jti, "token-1".to_owned(), None);
    for (uri, identifier, listed) in [
        (REVOKED, iss_sub.clone(), vec![subject(1)]),
        (DISABLED, iss_sub.clone(), vec![subject(1)]),
        (DISABLED, opaque("alice"), vec![subject(1)]),
        (REVOKED, opaque("alice"), vec![subject(1), (TargetKind::Session, "alice".into(), None)]),
        (REVOKED, both.clone(), vec![subject(1), session()]),
        (REVOKED, early, vec![subject(1), session()]),
        (DISABLED, alias, vec![subject(1)]),
        (REVOKED, json!({"format": "jwt_id", "iss": ISSUER, "jti": "token-1"}), vec![jti]),
        (DISABLED, json!({"format": "iss_sub", "iss": "https://other.example/", "sub": "alice"}), vec![]),
        (DISABLED, json!({"format": "email", "email": "alice@example.com"}), vec![]),
        (DISABLED, json!({"format": "iss_sub", "sub": "alice"}), vec![]),
        (DISABLED, json!({}), vec![]),
    ] {
        for in_event in [true, false] {
            let world = world();
            let (event, changes) = match in_event {
                true => (json!({uri: {"subject": identifier}}), json!({"sub_id": null})),
                false => (json!({uri: {"event_timestamp": 1}}), json!({"sub_id": identifier})),
            };
            assert_eq!(world.event(event, changes).await, Receipt::Done(Form::Push), "{identifier}");
            assert_eq!(world.listed(), listed, "{uri} {identifier}");
            let outcome = if listed.is_empty() { EventOutcome::Unmatched } else { EventOutcome::Applied };
            assert_eq!(world.told()[0].1, outcome);
        }
    }
    let mut world = world();
    world.events.sign_out = SignOut::Session;
    assert_eq!(world.event(json!({REVOKED: {}}), json!({"sub_id": both})).await, Receipt::Done(Form::Push));
    assert_eq!(world.listed(), [session()]);
    assert_eq!(world.event(json!({DISABLED: {}}), json!({"sub_id": both})).await, Receipt::Done(Form::Push));
    assert_eq!(world.listed(), [session(), subject(1)], "an account that is disabled ends everywhere");
}

#[tokio::test]
async fn every_event_that_ends_something_does_and_the_rest_is_acknowledged() {
    let base = "https://schemas.openid.net/secevent/";
    for (uri, kind, outcome) in [
        ("caep/event-type/session-revoked", EventKind::SessionRevoked, EventOutcome::Applied),
        ("risc/event-type/sessions-revoked", EventKind::SessionsRevoked, EventOutcome::Applied),
        ("oauth/event-type/tokens-revoked", EventKind::TokensRevoked, EventOutcome::Applied),
        ("risc/event-type/account-disabled", EventKind::AccountDisabled, EventOutcome::Applied),
        ("risc/event-type/account-purged", EventKind::AccountPurged, EventOutcome::Applied),
        (
            "risc/event-type/account-credential-change-required",
            EventKind::CredentialChangeRequired,
            EventOutcome::Applied,
        ),
        ("risc/event-type/credential-compromise", EventKind::CredentialCompromise, EventOutcome::Applied),
        ("ssf/event-type/verification", EventKind::Verification, EventOutcome::Ignored),
        ("caep/event-type/credential-change", EventKind::Other, EventOutcome::Ignored),
        ("risc/event-type/account-enabled", EventKind::Other, EventOutcome::Ignored),
        ("caep/event-type/session-revoked/", EventKind::Other, EventOutcome::Ignored),
    ] {
        let world = world();
        assert_eq!(world.event(json!({format!("{base}{uri}"): {}}), json!({})).await, Receipt::Done(Form::Push));
        assert_eq!(world.told(), [(kind, outcome)], "{uri}");
        assert_eq!(world.listed().len(), usize::from(outcome == EventOutcome::Applied));
    }
}

#[tokio::test]
async fn an_event_token_that_is_malformed_is_refused_whole() {
    let world = world();
    let many: Map<String, Value> = (0..17).map(|n| (format!("https://e.example/{n}"), json!({}))).collect();
    for (events, changes) in [
        (json!({}), json!({})),
        (json!(null), json!({})),
        (json!([]), json!({})),
        (json!({REVOKED: 7}), json!({})),
        (json!({DISABLED: {}, REVOKED: null}), json!({})),
        (json!({DISABLED: {"subject": "alice"}}), json!({})),
        (Value::Object(many), json!({})),
        (json!({DISABLED: {}}), json!({"iat": null})),
        (json!({DISABLED: {}}), json!({"jti": null})),
    ] {
        let receipt = world.event(events.clone(), changes).await;
        assert!(matches!(receipt, Receipt::Refused(Form::Push, Reason::TokenClaims)), "{events}: {receipt:?}");
    }
    assert!(world.listed().is_empty());
}

#[tokio::test]
async fn an_old_event_still_counts_until_no_token_of_then_can_be_good() {
    let world = world();
    let secs = world.now.unix_secs();
    assert_eq!(world.event(json!({DISABLED: {}}), json!({"iat": secs - 3000})).await, Receipt::Done(Form::Push));
    assert_eq!(world.listed(), [subject(-2999)]);
    assert_eq!(world.told(), [(EventKind::AccountDisabled, EventOutcome::Applied)]);
    assert_eq!(world.event(json!({DISABLED: {}}), json!({"iat": secs - 3601})).await, Receipt::Done(Form::Push));
    assert_eq!(world.told(), [(EventKind::AccountDisabled, EventOutcome::Outdated)]);
    assert_eq!(world.listed().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_made_durable_is_not_acknowledged() {
    let mut world = world();
    world.revocations = Arc::new(Revocations::default());
    let receipt = world.logout(json!({})).await;
    assert!(matches!(receipt, Receipt::Unavailable { reason: Reason::RevocationUnavailable, .. }), "{receipt:?}");
    assert_eq!(world.told(), [(EventKind::Logout, EventOutcome::Unavailable)]);
}

#[tokio::test]
async fn a_stolen_key_is_named_by_its_own_name_whatever_a_header_says() {
    let signer = Signer::ed("stolen");
    let keys = crate::config::KeySource::PublicKey(inline(signer.jwk().to_string()));
    let (tokens, _) = start(&[issuer("main", keys)]);
    let claims = caller_claims(now());
    for kid in [json!("stolen"), json!(null)] {
        let header = changed(json!({"alg": "EdDSA", "typ": "at+jwt"}), json!({ "kid": kid }));
        let judged =
            tokens.authenticate(signer.token_with(&header, &claims).as_bytes(), &Accepted::default(), now()).await;
        let Credential::Valid(principal) = judged else { panic!("{judged:?}") };
        assert_eq!(principal.marks.key.as_deref(), Some("stolen"), "{header}");
    }
}

proptest! {
    #[test]
    fn any_claims_are_read_or_refused(text in "\\PC{0,40}", names in prop::collection::vec("(subject|format|user|session|id|sub|iss|identifiers|events)", 0..6)) {
        let nested = names.iter().fold(json!(text), |inner, name| json!({ name.as_str(): inner }));
        for claims in [json!({"iat": 1, "events": nested}), json!({"iat": 1, "events": {REVOKED: nested}}), json!({"iat": 1, "events": {DISABLED: {}}, "sub_id": nested})] {
            let claims = claims.as_object().unwrap();
            let _ = logout::read(claims);
            if let Ok(report) = set::read(claims, ISSUER) {
                prop_assert!(report.findings.iter().all(|finding| finding.targets.iter().all(|(_, name)| !name.is_empty())));
            }
        }
    }
}
