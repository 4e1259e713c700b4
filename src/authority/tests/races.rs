//! Two of anything at once: one counts.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::{
    Answered, End, Purpose,
    testing::{Bench, START, at, code, principal, way},
};
use crate::policy::Reason;

#[tokio::test]
async fn of_many_uses_of_one_code_at_once_one_counts() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, enrolled) = bench.enrol_app(&ann, START).await;
    for (round, code) in [code(&secret, START + 60), enrolled.recovery_codes[0].clone()].into_iter().enumerate() {
        let now = START + 60;
        let mut tasks = JoinSet::new();
        for task in 0..8_u8 {
            // Each by a token and from an address of its own, so that only the code itself is in the way.
            let (authority, code) = (bench.authority.clone(), code.clone());
            let who = Arc::new(principal("ann", &format!("t{task}")));
            let client = way(10 + task + 8 * round as u8);
            tasks.spawn(async move { authority.prove_in_request(&who, client, code.as_bytes(), at(now)).await });
        }
        let results = tasks.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert!(results.iter().all(|result| result.is_ok() || *result == Err(Reason::CodeRefused)), "{results:?}");
    }
}

#[tokio::test]
async fn of_many_answers_to_one_ceremony_at_once_one_counts() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let begun = bench.authority.begin(&ann, Purpose::Manage, None, way(1), at(now)).await.unwrap();
    let code = code(&secret, now);
    let mut tasks = JoinSet::new();
    for task in 0..4_u8 {
        let (authority, ann, id, code) = (bench.authority.clone(), ann.clone(), begun.id.clone(), code.clone());
        tasks.spawn(async move {
            authority.finish(&ann, &id, Answered::Code(&code), End::Keep, way(20 + task), at(now)).await.is_ok()
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|good| *good).count(), 1);
    // What was kept as proved is used once as well.
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (authority, ann, id) = (bench.authority.clone(), ann.clone(), begun.id.clone());
        tasks.spawn(async move { authority.redeem(&ann, &id, &Purpose::Manage, at(now)).await.is_ok() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|good| *good).count(), 1);
}

#[tokio::test]
async fn of_many_uses_of_one_grant_at_once_one_counts() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let (who, now) = (principal("ann", "t1"), START + 60);
    let code = code(&secret, now);
    let occasion = super::super::Occasion::Grant;
    let proof = bench.authority.prove_code(&who, code.as_bytes(), occasion, way(1), at(now)).await.unwrap();
    let granted = bench.authority.grant(&ann, "mfa", &proof, None, way(1), at(now)).unwrap();
    let grant = bench.authority.read_grant(granted.token.as_bytes(), &who, at(now)).unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (authority, grant) = (bench.authority.clone(), grant.clone());
        tasks.spawn(async move { authority.spend(&grant, at(now)).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| result.is_ok() || *result == Err(Reason::GrantSpent)), "{results:?}");
    assert_eq!(bench.again().authority.spend(&grant, at(now)).await, Err(Reason::GrantSpent), "after a restart");
}

#[tokio::test]
async fn guesses_in_parallel_gain_nothing() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    bench.enrol_app(&ann, START).await;
    let who = Arc::new(principal("ann", "t1"));
    let mut tasks = JoinSet::new();
    for _ in 0..24 {
        let (authority, who) = (bench.authority.clone(), who.clone());
        tasks.spawn(async move { authority.prove_in_request(&who, way(1), b"000000", at(START + 60)).await });
    }
    tasks.join_all().await;
    let said = bench.ear.ceremonies.lock().unwrap().clone();
    let looked_at = said.iter().filter(|(_, outcome, _)| *outcome == super::super::Outcome::Refused).count();
    assert_eq!(looked_at, 5);
}
