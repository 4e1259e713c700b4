//! Whose data a request is about: every way of asking for somebody else's.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::super::{
    RequestBody, RequestValues, Target, TargetFault,
    target::{MOST_BYTES, target},
    testing::{ISSUER, plan, principal, terms},
};
use crate::config::{ClaimPath, DeletionPlan, ValueSource};

fn account() -> DeletionPlan {
    plan(terms(0, 1, 0, &[0]))
}

fn by(subject: &str, scopes: &[&str], claims: Value) -> crate::policy::Principal {
    principal(subject, scopes, 0.0, claims)
}

fn ask(plan: &DeletionPlan, who: &crate::policy::Principal, path: &[(&str, &str)]) -> Result<Target, TargetFault> {
    let path: Vec<(&str, Cow<'_, str>)> = path.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))).collect();
    target(plan, None, who, &RequestValues { path: &path, ..RequestValues::default() })
}

#[test]
fn a_caller_has_their_own_data_erased_and_nobody_elses() {
    let (plan, alice) = (account(), by("alice", &[], json!({})));
    let own = ask(&plan, &alice, &[("id", "alice")]).unwrap();
    assert!(own.own && &*own.personal.subject == "alice" && &*own.issuer_url == ISSUER);
    assert_eq!(own.personal.values["path.id"], "alice".into());
    for other in
        ["bob", "Alice", "ALICE", "alice ", " alice", "alice%20", "%61lice", "alic", "alicee", "аlice", "alice\u{301}"]
    {
        assert_eq!(ask(&plan, &alice, &[("id", other)]).unwrap_err(), TargetFault::NotOwner, "{other}");
    }
    assert!(!format!("{own:?}").contains("alice"));
}

#[test]
fn a_scope_entitles_to_anybodys_and_says_so() {
    let (plan, admin) = (account(), by("root", &["admin:accounts"], json!({})));
    let theirs = ask(&plan, &admin, &[("id", "bob")]).unwrap();
    assert!(!theirs.own && theirs.personal.token_subject.is_none());
    assert!(ask(&plan, &admin, &[("id", "root")]).unwrap().own);
    for scopes in [&["admin:account"][..], &["admin:accounts:read"], &["ADMIN:ACCOUNTS"], &[]] {
        assert_eq!(ask(&plan, &by("root", scopes, json!({})), &[("id", "bob")]).unwrap_err(), TargetFault::NotOwner);
    }
}

#[test]
fn a_value_is_there_once_and_is_one_that_a_request_could_have() {
    let plan = account();
    let admin = by("root", &["admin:accounts"], json!({}));
    let missing = TargetFault::Missing(ValueSource::Path("id".into()));
    assert_eq!(ask(&plan, &admin, &[]).unwrap_err(), missing);
    assert_eq!(ask(&plan, &admin, &[("ID", "x")]).unwrap_err(), missing);
    assert_eq!(ask(&plan, &admin, &[("id", "a"), ("id", "a")]).unwrap_err(), TargetFault::Ambiguous);
    let (long, most) = ("x".repeat(MOST_BYTES + 1), "x".repeat(MOST_BYTES));
    for value in ["", ".", "..", "a\0", "a\r\nb", "\t", "\u{7f}", "\u{85}", &long] {
        assert_eq!(ask(&plan, &admin, &[("id", value)]).unwrap_err(), TargetFault::Ambiguous, "{value:?}");
    }
    assert!(ask(&plan, &admin, &[("id", &most)]).is_ok());
    // Also where a claim says the very same.
    assert_eq!(ask(&plan, &by("..", &[], json!({})), &[("id", "..")]).unwrap_err(), TargetFault::Ambiguous);
}

#[test]
fn a_query_and_a_form_have_their_value_once() {
    let mut plan = account();
    plan.subject = ValueSource::Query("user".into());
    let alice = by("alice", &[], json!({}));
    let ask = |query: Option<&str>| target(&plan, None, &alice, &RequestValues { query, ..RequestValues::default() });
    for good in ["user=alice", "x=1&user=alice", "user=%61lice", "user=alice&USER=bob"] {
        assert!(ask(Some(good)).is_ok(), "{good}");
    }
    for twice in ["user=alice&user=alice", "user=bob&user=alice", "user=alice&%75ser=bob", "user=alice%00", "user=%ff"]
    {
        assert_eq!(ask(Some(twice)).unwrap_err(), TargetFault::Ambiguous, "{twice}");
    }
    for none in [None, Some(""), Some("users=alice"), Some("user[]=alice")] {
        assert!(matches!(ask(none).unwrap_err(), TargetFault::Missing(_)), "{none:?}");
    }
    assert_eq!(ask(Some("user=bob")).unwrap_err(), TargetFault::NotOwner);
}

#[test]
fn a_body_has_its_value_once_as_a_string_or_a_whole_number() {
    let mut plan = account();
    plan.subject = ValueSource::Body("user".into());
    plan.owner = Some(ClaimPath::Name("uid".into()));
    let alice = by("alice", &[], json!({"uid": 42}));
    let ask = |body: RequestBody<'_>| {
        target(&plan, None, &alice, &RequestValues { body: Some(body), ..RequestValues::default() })
    };
    for good in [r#"{"user": 42}"#, r#"{"user": "42", "x": {"user": 43}}"#, "{\"\\u0075ser\": \"42\"}"] {
        assert!(ask(RequestBody::Json(good.as_bytes())).is_ok(), "{good}");
    }
    for doubtful in [
        r#"{"user": 42, "user": 42}"#,
        r#"{"user": 42, "\u0075ser": 43}"#,
        r#"{"user": 42.0}"#,
        r#"{"user": 4.2e1}"#,
        r#"{"user": [42]}"#,
        r#"{"user": {"id": 42}}"#,
        r#"{"user": null}"#,
        r#"{"user": true}"#,
        r#"[{"user": 42}]"#,
        r#"{"user": 42} {"user": 43}"#,
        r#"{"user": 42"#,
        "",
    ] {
        assert_eq!(ask(RequestBody::Json(doubtful.as_bytes())).unwrap_err(), TargetFault::Ambiguous, "{doubtful}");
    }
    for other in [r#"{"user": 43}"#, r#"{"user": "042"}"#, r#"{"user": " 42"}"#, r#"{"user": -42}"#] {
        assert_eq!(ask(RequestBody::Json(other.as_bytes())).unwrap_err(), TargetFault::NotOwner, "{other}");
    }
    assert!(ask(RequestBody::Form(b"user=42")).is_ok());
    assert_eq!(ask(RequestBody::Form(b"user=42&user=42")).unwrap_err(), TargetFault::Ambiguous);
    assert!(matches!(ask(RequestBody::Json(b"{}")).unwrap_err(), TargetFault::Missing(_)));
}

#[test]
fn every_bound_value_is_the_callers_whatever_the_scope() {
    let mut plan = account();
    plan.bind = vec![(ValueSource::Path("tenant".into()), ClaimPath::Pointer("/org/id".into()))];
    let in_one = json!({"org": {"id": "one"}});
    let alice = by("alice", &[], in_one.clone());
    let bound = ask(&plan, &alice, &[("id", "alice"), ("tenant", "one")]).unwrap();
    assert_eq!(bound.personal.values["path.tenant"], "one".into());
    assert_eq!(ask(&plan, &alice, &[("id", "alice"), ("tenant", "two")]).unwrap_err(), TargetFault::NotOwner);
    let admin = by("root", &["admin:accounts"], in_one);
    assert!(ask(&plan, &admin, &[("id", "bob"), ("tenant", "one")]).is_ok());
    assert_eq!(ask(&plan, &admin, &[("id", "bob"), ("tenant", "two")]).unwrap_err(), TargetFault::NotOwner);
    let nowhere = by("root", &["admin:accounts"], json!({}));
    assert_eq!(ask(&plan, &nowhere, &[("id", "bob"), ("tenant", "one")]).unwrap_err(), TargetFault::NotOwner);
}

#[test]
fn a_claim_is_worth_what_its_issuer_is() {
    let plan = account();
    let alice = by("alice", &[], json!({}));
    let path = [("id", Cow::Borrowed("alice"))];
    let values = RequestValues { path: &path, ..RequestValues::default() };
    assert!(target(&plan, Some(ISSUER), &alice, &values).unwrap().own);
    let elsewhere = Some("https://other.example/");
    assert_eq!(target(&plan, elsewhere, &alice, &values).unwrap_err(), TargetFault::NotOwner);
    // An administrator of another issuer asks for the person whom the plan's issuer knows by that name.
    let admin = by("alice", &["admin:accounts"], json!({}));
    let theirs = target(&plan, elsewhere, &admin, &values).unwrap();
    assert!(!theirs.own && &*theirs.issuer_url == "https://other.example/");
    let mut own = account();
    own.subject = ValueSource::Caller;
    assert_eq!(target(&own, elsewhere, &admin, &values).unwrap_err(), TargetFault::NotOwner);
    assert!(target(&own, None, &alice, &RequestValues::default()).unwrap().own);
}

#[test]
fn whoever_is_nobody_owns_nothing() {
    let mut plan = account();
    assert_eq!(ask(&plan, &by("", &[], json!({})), &[("id", "")]).unwrap_err(), TargetFault::Ambiguous);
    assert_eq!(ask(&plan, &by("", &[], json!({})), &[("id", "x")]).unwrap_err(), TargetFault::NotOwner);
    plan.owner = Some(ClaimPath::Pointer("/id".into()));
    for claim in [json!(null), json!(""), json!([1]), json!({"a": 1}), json!(true), json!(1.5)] {
        let who = by("alice", &[], json!({"id": claim}));
        for value in ["alice", "null", "true", "1.5", "1"] {
            assert_eq!(ask(&plan, &who, &[("id", value)]).unwrap_err(), TargetFault::NotOwner, "{claim} {value}");
        }
    }
}

#[test]
fn claims_that_calls_need_are_taken_along_and_only_the_persons_own() {
    let mut terms = terms(0, 1, 0, &[0]);
    terms.steps[0].call.target = "/lists/{claims./email}".into();
    terms.notify = vec![crate::config::Recipient::Mail("{claims.phone}@sms.example".into())];
    let mut plan = plan(terms);
    plan.others.clear();
    let alice = by("alice", &[], json!({"email": "a@example.com"}));
    let own = ask(&plan, &alice, &[("id", "alice")]).unwrap();
    assert_eq!(own.personal.values["claims./email"], "a@example.com".into());
    assert!(!own.personal.values.contains_key("claims.phone"));
    assert!(matches!(
        ask(&plan, &by("alice", &[], json!({})), &[("id", "alice")]).unwrap_err(),
        TargetFault::Missing(_)
    ));
    plan.others = vec!["admin".into()];
    let admin = by("root", &["admin"], json!({"email": "root@example.com"}));
    assert!(ask(&plan, &admin, &[("id", "bob")]).unwrap().personal.values.keys().all(|name| &**name == "path.id"));
}
