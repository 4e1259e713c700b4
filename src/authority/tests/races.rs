//! Two of anything at once: one counts.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::{
    Answered, End, Fault, Finished, Occasion, Purpose,
    testing::{Bench, START, YAML, at, code, principal, way},
};
use crate::{policy::Reason, store::Batch};

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

#[tokio::test]
async fn an_elevation_that_was_under_way_when_all_were_ended_counts_for_nothing() {
    let bench = Bench::new();
    let (authority, ann, who) = (&bench.authority, bench.caller("ann", "t1"), principal("ann", "t1"));
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let proof =
        authority.prove_code(&who, code(&secret, now).as_bytes(), Occasion::StepUp, way(1), at(now)).await.unwrap();
    // Durable, and not in the map yet, when an operator takes everything away.
    let (batch, row) = authority.elevate(Batch::new(), &ann, "mfa", &proof, at(now));
    authority.store().commit(batch, at(now)).await.unwrap();
    let (batch, handover) = authority.handover(Batch::new(), &ann, "mfa", &proof, at(now)).unwrap();
    authority.store().commit(batch, at(now)).await.unwrap();
    authority.reset(&ann.owner(), "op", at(now)).await.unwrap();
    assert!(bench.again().authority.elevations(&who, at(now)).is_empty(), "not after a crash either");
    assert_eq!(authority.elevated_now(&ann, row, way(1), at(now)).await, Err(Fault::Proof));
    assert!(authority.elevations(&who, at(now)).is_empty());
    let handed = authority.hand_over(&ann, &handover, way(1), at(now)).await;
    assert_eq!(handed.map(drop), Err(Fault::Proof), "nor does the code at the end of a page");
    assert!(authority.elevations(&who, at(now)).is_empty());
}

#[tokio::test]
async fn a_reset_leaves_no_elevation_whoever_steps_up_at_that_moment() {
    let bench = Bench::new();
    let (ann, who) = (bench.caller("ann", "t1"), principal("ann", "t1"));
    let mut elevated = 0;
    for round in 0..12 {
        let now = START + 1000 * (round + 1);
        let (secret, _) = bench.enrol_app(&ann, now).await;
        let now = now + 60;
        let purpose = Purpose::StepUp { level: "mfa".into() };
        let begun = bench.authority.begin(&ann, purpose, None, way(1), at(now)).await.unwrap();
        let (authority, caller, code) = (bench.authority.clone(), ann.clone(), code(&secret, now));
        let stepping = tokio::spawn(async move {
            authority.finish(&caller, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await
        });
        // A commit that is in the way is answered with 503, and the operator asks again.
        while bench.authority.reset(&ann.owner(), "op", at(now)).await.is_err() {}
        elevated += u32::from(matches!(stepping.await.unwrap(), Ok(Finished::Proved { .. })));
        assert!(bench.authority.elevations(&who, at(now)).is_empty(), "round {round}, {elevated} before");
    }
    assert!(bench.again().authority.elevations(&who, at(START + 12_060)).is_empty());
}

#[tokio::test]
async fn of_two_cores_over_one_store_the_one_in_force_alone_delivers() {
    let bench = Bench::new();
    let yaml = YAML.replace("{key: {env: SEALING_KEY}}", "{key: {env: SECOND_KEY}, previous: [{env: SEALING_KEY}]}");
    let refused = Bench::over(&yaml, bench.folder.clone(), Some(&bench));
    let running = |bench: &Bench| {
        assert_eq!(bench.authority.core.is_running(), bench.state.is_running());
        bench.state.is_running()
    };
    assert!(running(&bench) && !running(&refused), "it may be refused yet");
    drop(refused);
    assert!(running(&bench));
    let reloaded = Bench::over(&yaml, bench.folder.clone(), Some(&bench));
    for _ in 0..2 {
        reloaded.put_in_force();
        assert!(running(&reloaded) && !running(&bench));
    }
    // Whoever still has the one before does not start it again.
    bench.put_in_force();
    assert!(running(&reloaded) && !running(&bench));
}
