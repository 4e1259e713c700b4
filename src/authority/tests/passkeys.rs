//! Passkeys in the authority's ceremonies, by an authenticator in software.

use serde_json::json;

use super::super::{
    Answered, Caller, Change, End, Fault, Finished, Purpose, Right, Wanted,
    passkey::soft::SoftKey,
    testing::{Bench, START, YAML, at, principal, way},
};
use crate::policy::Factor;

fn phr() -> Purpose {
    Purpose::StepUp { level: "phr".into() }
}

fn key() -> SoftKey {
    SoftKey::new("api.example", "https://api.example")
}

async fn enrol(bench: &Bench, caller: &Caller, key: &mut SoftKey) {
    let invitation = bench.authority.invite(&caller.owner(), "op", None, at(START)).await.unwrap();
    let wanted = Wanted { factor: Factor::Passkey, label: "laptop".into(), address: None };
    let right = Right::Invitation(&invitation.code);
    let begun = bench.authority.begin_enrolment(caller, wanted, right, way(1), at(START)).await.unwrap();
    let response = key.create(&options(&begun.passkey.unwrap()));
    let answered = Answered::Credential(&response);
    bench.authority.finish_enrolment(caller, &begun.id, answered, way(1), at(START)).await.unwrap();
}

/// What a browser hands to the authenticator.
fn options(value: &serde_json::Value) -> serde_json::Value {
    value.get("publicKey").unwrap_or(value).clone()
}

async fn prove(bench: &Bench, caller: &Caller, key: &mut SoftKey, secs: u64) -> Result<Finished, Fault> {
    let begun = bench.authority.begin(caller, phr(), None, way(1), at(secs)).await.unwrap();
    let Some(asked) = &begun.passkey else { return Err(Fault::NotFound) };
    let response = key.get(&options(asked));
    bench.authority.finish(caller, &begun.id, Answered::Credential(&response), End::Elevate, way(1), at(secs)).await
}

#[tokio::test]
async fn a_passkey_steps_up_to_a_level_that_asks_for_phishing_resistance() {
    let bench = Bench::new();
    let (ann, mut key) = (bench.caller("ann", "t1"), key());
    enrol(&bench, &ann, &mut key).await;
    let Finished::Proved { proof, elevated_until, .. } = prove(&bench, &ann, &mut key, START + 1).await.unwrap() else {
        panic!()
    };
    assert_eq!((elevated_until, proof.may_delete), (Some(START + 301), true));
    assert!(proof.amr.contains(&"pop".to_owned()) && proof.amr.contains(&"mfa".to_owned()), "{:?}", proof.amr);
    let elevations = bench.authority.elevations(&principal("ann", "t1"), at(START + 2));
    let classes: Vec<_> = elevations[0].assurance.classes().map(|acr| acr.to_string()).collect();
    assert_eq!(classes, ["urn:example:acr:mfa", "urn:example:acr:phr"]);
}

#[tokio::test]
async fn one_persons_passkey_answers_nobody_elses_ceremony() {
    let bench = Bench::new();
    let (ann, bob) = (bench.caller("ann", "t1"), bench.caller("bob", "t2"));
    let (mut annas, mut bobs) = (key(), key());
    enrol(&bench, &ann, &mut annas).await;
    enrol(&bench, &bob, &mut bobs).await;
    assert_eq!(prove(&bench, &ann, &mut bobs, START + 1).await.map(drop), Err(Fault::Proof));
    // The response to her own ceremony, sent into his, and by another token of hers.
    let hers = bench.authority.begin(&ann, phr(), None, way(1), at(START + 1)).await.unwrap();
    let his = bench.authority.begin(&bob, phr(), None, way(1), at(START + 1)).await.unwrap();
    let response = annas.get(&options(hers.passkey.as_ref().unwrap()));
    let other = bench.caller("ann", "t3");
    for (who, id) in [(&bob, &his.id), (&bob, &hers.id), (&other, &hers.id)] {
        let answered = Answered::Credential(&response);
        let mixed = bench.authority.finish(who, id, answered, End::Elevate, way(1), at(START + 1)).await;
        assert_eq!(mixed.map(drop), Err(Fault::Proof));
    }
    let answered = Answered::Credential(&response);
    assert!(bench.authority.finish(&ann, &hers.id, answered, End::Elevate, way(1), at(START + 1)).await.is_ok());
    let again = bench.authority.finish(&ann, &hers.id, answered, End::Elevate, way(1), at(START + 1)).await;
    assert_eq!(again.map(drop), Err(Fault::Proof), "once");
}

#[tokio::test]
async fn a_counter_that_went_back_is_told_and_the_passkey_taken_no_more() {
    let bench = Bench::new();
    let (ann, mut key) = (bench.caller("ann", "t1"), key());
    enrol(&bench, &ann, &mut key).await;
    prove(&bench, &ann, &mut key, START + 1).await.unwrap();
    assert_eq!(bench.authority.elevations(&principal("ann", "t1"), at(START + 2)).len(), 1);
    key.counter -= 1;
    assert_eq!(prove(&bench, &ann, &mut key, START + 2).await.map(drop), Err(Fault::Proof));
    assert!(bench.authority.elevations(&principal("ann", "t1"), at(START + 2)).is_empty(), "perhaps not by its owner");
    assert!(bench.ear.changes.lock().unwrap().contains(&Change::CounterWentBack));
    assert_eq!(bench.messages("passkey_suspect").await.len(), 1);
    key.counter += 100;
    assert_eq!(prove(&bench, &ann, &mut key, START + 3).await.map(drop), Err(Fault::NotFound), "it is not asked for");
    let person = bench.authority.person(&ann, at(START)).await.unwrap().unwrap();
    assert!(person.factors[0].suspect);
}

#[tokio::test]
async fn locked_codes_lock_no_passkey() {
    let bench = Bench::new();
    let (ann, mut key) = (bench.caller("ann", "t1"), key());
    enrol(&bench, &ann, &mut key).await;
    let who = std::sync::Arc::new(principal("ann", "t1"));
    for round in 0..150 {
        let _ = bench.authority.prove_in_request(&who, way(1), b"000000", at(START + round * 900)).await;
    }
    assert!(bench.ear.changes.lock().unwrap().contains(&Change::HardLocked));
    assert!(prove(&bench, &ann, &mut key, START + 150 * 900).await.is_ok());
}

#[tokio::test]
async fn a_new_sealing_key_opens_what_the_old_one_sealed_without_a_restart() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    bench.enrol_app(&ann, START).await;
    let yaml = YAML.replace("{key: {env: SEALING_KEY}}", "{key: {env: SECOND_KEY}, previous: [{env: SEALING_KEY}]}");
    let reloaded = Bench::over(&yaml, bench.folder.clone(), Some(&bench));
    let person = reloaded.authority.person(&ann, at(START)).await.unwrap().unwrap();
    assert_eq!(person.factors.len(), 1);
    let token = reloaded.call(http::Method::GET, "/api/v1/me", json!(null), Some(&principal("ann", "t1")), START).await;
    assert_eq!(token.json["factors"].as_array().unwrap().len(), 1);
    reloaded.authority.invite(&ann.owner(), "op", None, at(START)).await.unwrap();
}
