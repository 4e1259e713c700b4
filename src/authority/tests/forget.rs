//! Of whoever is forgotten nothing is left, and of others everything.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::super::{
    Answered, Caller, Change, End, Finished, Purpose, ResetState, Right, Wanted,
    testing::{Bench, START, YAML, at, code, principal, way},
};
use crate::{
    policy::Factor,
    store::{Store, Table},
};

const ANN: &str = "ann-who-is-to-be-forgotten";
const ISSUER: &str = "https://idp.example/";
const NOW: u64 = START + 600;

fn step_up() -> Purpose {
    Purpose::StepUp { level: "mfa".into() }
}

/// Somebody with something in every table.
async fn with_everything(bench: &Bench, subject: &str) -> Caller {
    let (authority, ann, who) = (&bench.authority, bench.caller(subject, "t1"), Arc::new(principal(subject, "t1")));
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let proved = async |secs: u64, end: End| {
        let begun = authority.begin(&ann, step_up(), None, way(1), at(secs)).await.unwrap();
        let code = code(&secret, secs);
        authority.finish(&ann, &begun.id, Answered::Code(&code), end, way(1), at(secs)).await.unwrap()
    };
    assert!(matches!(proved(START + 60, End::Handover).await, Finished::Proved { handover: Some(_), .. }));
    proved(START + 120, End::Elevate).await;
    authority.invite(&ann.owner(), "op", None, at(START + 121)).await.unwrap();
    let manage = authority.begin(&ann, Purpose::Manage, None, way(1), at(START + 180)).await.unwrap();
    let digits = code(&secret, START + 180);
    let finished =
        authority.finish(&ann, &manage.id, Answered::Code(&digits), End::Keep, way(1), at(START + 180)).await.unwrap();
    let Finished::Proved { proof, .. } = finished else { panic!("it is right") };
    let wanted = Wanted { factor: Factor::Push, label: "hers".into(), address: Some("device-1".into()) };
    let begun = authority.begin_enrolment(&ann, wanted, Right::Proof(&proof), way(1), at(START + 181)).await;
    assert!(begun.is_ok());
    authority.begin(&ann, step_up(), None, way(1), at(START + 182)).await.unwrap();
    for guess in 0..2 {
        assert!(authority.prove_in_request(&who, way(guess), b"000000", at(START + 190)).await.is_err());
    }
    let body = json!({"purpose": "manage", "return_to": "https://app.example/"});
    let got = bench.call(Method::POST, "/api/v1/page-links", body, Some(&who), START + 200).await;
    assert_eq!(got.status, http::StatusCode::CREATED);
    let asked = authority.reset(&ann.owner(), "op", at(START + 210)).await.unwrap();
    assert!(matches!(asked, ResetState::Waits { .. }));
    ann
}

fn four_eyes() -> String {
    YAML.replace("  return_to:", "  four_eyes: true\n  return_to:")
}

/// Where somebody is named, or what is made of their name.
async fn traces(store: &Store, subject: &str) -> Vec<(Table, String)> {
    let owner = super::super::Owner { issuer: ISSUER.into(), subject: subject.into() };
    let words = [subject.to_owned(), owner.key(store)];
    let all = store.everything().await;
    let named = all.into_iter().filter(|(_, key, value)| {
        let value = value.to_string();
        words.iter().any(|word| key.contains(word) || value.contains(word))
    });
    named.map(|(table, key, _)| (table, key)).collect()
}

#[tokio::test]
async fn of_whoever_is_forgotten_no_row_is_left_and_of_others_every_one() {
    let bench = Bench::of(&four_eyes());
    with_everything(&bench, ANN).await;
    with_everything(&bench, "bob").await;
    let (store, authority) = (bench.authority.store(), &bench.authority);
    let before: Vec<Table> = traces(store, ANN).await.into_iter().map(|(table, _)| table).collect();
    for table in [
        Table::Subjects,
        Table::Factors,
        Table::RecoveryCodes,
        Table::Ceremonies,
        Table::Guesses,
        Table::Sent,
        Table::Invitations,
        Table::Resets,
        Table::Elevations,
        Table::Handovers,
        Table::PageSessions,
        Table::Outbox,
    ] {
        assert!(before.contains(&table), "{table:?} has something to forget: {before:?}");
    }
    let others = async || {
        let mut rows = store.everything().await;
        rows.retain(|(table, _, value)| *table != Table::Meta && !value.to_string().contains(ANN));
        rows.len()
    };
    let bobs = traces(store, "bob").await;
    authority.forget(ISSUER, ANN, at(NOW)).await.unwrap();
    assert_eq!(traces(store, ANN).await, []);
    assert_eq!(traces(store, "bob").await, bobs);
    // Nothing was left that does not say whose it is: there is as much as if she had never been there.
    let left = others().await;
    let only_bob = Bench::of(&four_eyes());
    with_everything(&only_bob, "bob").await;
    let mut expected = only_bob.authority.store().everything().await;
    expected.retain(|(table, ..)| *table != Table::Meta);
    assert_eq!(left, expected.len());
}

#[tokio::test]
async fn elevations_end_with_everything_else_also_after_a_restart_and_it_is_told_once_and_of_nobody() {
    let bench = Bench::of(&four_eyes());
    let ann = with_everything(&bench, ANN).await;
    let who = principal(ANN, "t1");
    assert_eq!(bench.authority.elevations(&who, at(START + 130)).len(), 1);
    bench.authority.forget(ISSUER, ANN, at(START + 130)).await.unwrap();
    assert!(bench.authority.elevations(&who, at(START + 130)).is_empty());
    assert!(bench.again().authority.elevations(&who, at(START + 130)).is_empty());
    assert_eq!(bench.authority.factors_of(&ann.owner(), at(NOW)).await.unwrap().len(), 0);
    bench.authority.forget(ISSUER, ANN, at(NOW)).await.unwrap();
    bench.authority.forget(ISSUER, "nobody", at(NOW)).await.unwrap();
    let told = bench.ear.changes.lock().unwrap().iter().filter(|change| **change == Change::Forgotten).count();
    assert_eq!(told, 1);
    assert!(!bench.ear.forgotten.lock().unwrap().contains(ANN), "the record of it names nobody");
}

#[tokio::test]
async fn wherever_it_is_cut_off_it_is_finished_by_saying_it_again() {
    let (mut commits, mut is_whole) = (0, false);
    while !is_whole {
        let (bench, breaker) = Bench::breakable_of(&four_eyes());
        with_everything(&bench, ANN).await;
        breaker.break_after(commits);
        is_whole = bench.authority.forget(ISSUER, ANN, at(NOW)).await.is_ok();
        breaker.mend();
        assert_eq!(traces(bench.authority.store(), ANN).await.is_empty(), is_whole || commits > 20, "after {commits}");
        bench.authority.forget(ISSUER, ANN, at(NOW)).await.unwrap();
        assert_eq!(traces(bench.authority.store(), ANN).await, [], "after {commits} commits");
        commits += 1;
    }
    assert!(commits > 10, "{commits}");
}

#[tokio::test]
async fn what_was_kept_goes_where_no_authority_is_configured_any_more() {
    let bench = Bench::of(&four_eyes());
    with_everything(&bench, ANN).await;
    super::super::forget_rows(bench.authority.store(), ISSUER, ANN, at(NOW)).await.unwrap();
    assert_eq!(traces(bench.authority.store(), ANN).await, []);
}

#[tokio::test]
async fn whoever_enrols_at_that_moment_has_no_factor_afterwards() {
    let bench = Bench::new();
    let mut enrolled = 0;
    for round in 0..24 {
        let ann = bench.caller(ANN, "t1");
        let invitation = bench.authority.invite(&ann.owner(), "op", None, at(START)).await.unwrap();
        let wanted = Wanted { factor: Factor::Totp, label: "phone".into(), address: None };
        let right = Right::Invitation(&invitation.code);
        let begun = bench.authority.begin_enrolment(&ann, wanted, right, way(1), at(START)).await.unwrap();
        let digits = code(&super::super::testing::from_base32(&begun.secret.unwrap()), START);
        let (authority, caller) = (bench.authority.clone(), ann.clone());
        let enrolling = tokio::spawn(async move {
            let answered = Answered::Code(&digits);
            authority.finish_enrolment(&caller, &begun.id, answered, way(1), at(START)).await
        });
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        bench.authority.forget(ISSUER, ANN, at(START)).await.unwrap();
        enrolled += u32::from(enrolling.await.unwrap().is_ok());
        let left = traces(bench.authority.store(), ANN).await;
        assert!(left.iter().all(|(table, _)| *table == Table::Guesses), "round {round}: {left:?}");
        bench.authority.forget(ISSUER, ANN, at(START)).await.unwrap();
    }
    assert!(enrolled < 24, "some were too late");
}
