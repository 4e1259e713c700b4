//! Replay, guessing, mix-ups, stolen tokens, lost factors.

use std::sync::Arc;

use super::super::{
    Answered, Change, End, Fault, Finished, Holder, Occasion, Outcome, Purpose, ResetState, Right, Wanted, Way,
    testing::{Bench, START, at, code, load, principal, way},
};
use crate::{
    config::ElevationBy,
    policy::{Covers, Factor, Reason},
};

fn step_up() -> Purpose {
    Purpose::StepUp { level: "mfa".into() }
}

const DAY: u64 = 86_400;

fn elsewhere(last: u8) -> Way<'static> {
    Way { client: [198, 51, 100, last].into(), request_id: "test" }
}

#[tokio::test]
async fn an_elevation_is_the_tokens_that_asked_and_no_others_and_lasts_until_max_age() {
    let bench = Bench::new();
    let (authority, ann) = (&bench.authority, bench.caller("ann", "t1"));
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let begun = authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    assert!(begun.factors.contains(&Factor::Totp) && begun.factors.contains(&Factor::Recovery));
    let code = code(&secret, now);
    let finished =
        authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await.unwrap();
    let Finished::Proved { elevated_until, proof, .. } = finished else { panic!() };
    assert_eq!(elevated_until, Some(now + 300));
    assert_eq!(proof.amr, ["otp", "mfa"]);
    let own = authority.elevations(&principal("ann", "t1"), at(now + 299));
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].covers, Covers::Level("mfa".into()));
    assert_eq!(own[0].assurance.acr.as_deref(), Some("urn:example:acr:mfa"));
    assert_eq!(own[0].assurance.auth_time, Some(now as f64));
    assert!(authority.elevations(&principal("ann", "t1"), at(now + 300)).is_empty(), "expired");
    for (subject, token) in [("ann", "t2"), ("bob", "t1"), ("bob", "t2")] {
        assert!(authority.elevations(&principal(subject, token), at(now)).is_empty(), "{subject} {token}");
    }
    let mut other_client = principal("ann", "t1");
    other_client.client = Some("other".into());
    assert!(authority.elevations(&other_client, at(now)).is_empty());
    let mut other_issuer = principal("ann", "t1");
    other_issuer.issuer = "second".into();
    assert!(authority.elevations(&other_issuer, at(now)).is_empty(), "an issuer that is not served");
    // It survives a restart, and its end does, too.
    let again = bench.again();
    assert_eq!(again.authority.elevations(&principal("ann", "t1"), at(now + 1))[0].assurance.acr, own[0].assurance.acr);
    again.authority.step_down(&ann, way(1), at(now + 2)).await.unwrap();
    assert!(again.authority.elevations(&principal("ann", "t1"), at(now + 2)).is_empty());
    assert!(bench.again().authority.elevations(&principal("ann", "t1"), at(now + 3)).is_empty());
}

#[tokio::test]
async fn a_session_is_elevated_only_where_the_configuration_says_so() {
    let mut one = principal("ann", "t1");
    one.marks.session = Some("s".into());
    let mut two = principal("ann", "t2");
    two.marks.session = Some("s".into());
    assert_ne!(Holder::of(&one, ElevationBy::Credential), Holder::of(&two, ElevationBy::Credential));
    assert_eq!(Holder::of(&one, ElevationBy::Session), Holder::of(&two, ElevationBy::Session));
    two.marks.session = None;
    assert_ne!(Holder::of(&one, ElevationBy::Session), Holder::of(&two, ElevationBy::Session));
}

#[tokio::test]
async fn a_code_is_accepted_once_in_a_ceremony_in_a_request_and_after_a_restart() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let who = Arc::new(principal("ann", "t1"));
    // The code that confirmed the enrolment is used.
    let first = code(&secret, START);
    let refused = Err(Reason::CodeRefused);
    let client = way(1);
    assert_eq!(bench.authority.prove_in_request(&who, client, first.as_bytes(), at(START + 1)).await, refused);
    let now = START + 60;
    let next = code(&secret, now);
    let proof = bench.authority.prove_in_request(&who, client, next.as_bytes(), at(now)).await.unwrap();
    assert_eq!((proof.covers, proof.may_delete), (Covers::Request, true));
    assert_eq!(bench.authority.prove_in_request(&who, client, next.as_bytes(), at(now)).await, refused);
    let begun = bench.authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let replayed = bench.authority.finish(&ann, &begun.id, Answered::Code(&next), End::Elevate, way(1), at(now)).await;
    assert_eq!(replayed.unwrap_err(), Fault::Proof);
    let again = bench.again();
    assert_eq!(again.authority.prove_in_request(&who, client, next.as_bytes(), at(now)).await, refused);
    // Nor is one of an earlier step, though nobody used that.
    let earlier = code(&secret, now - 30);
    assert_eq!(again.authority.prove_in_request(&who, client, earlier.as_bytes(), at(now)).await, refused);
}

#[tokio::test]
async fn a_ceremony_is_its_holders_alone_and_used_once() {
    let bench = Bench::new();
    let (ann, bob) = (bench.caller("ann", "t1"), bench.caller("bob", "t9"));
    let (annas, _) = bench.enrol_app(&ann, START).await;
    let (bobs, _) = bench.enrol_app(&bob, START).await;
    let now = START + 60;
    let begun = bench.authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let stolen = bench.caller("ann", "t2");
    // Bob with his own factor, in her ceremony; and another token of hers, with her factor.
    for (who, secret) in [(&bob, &bobs), (&stolen, &annas)] {
        let code = code(secret, now);
        let mixed = bench.authority.finish(who, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await;
        assert_eq!(mixed.unwrap_err(), Fault::Proof);
    }
    // Bob's code in her ceremony by her token.
    let bobs_code = code(&bobs, now);
    let wrong =
        bench.authority.finish(&ann, &begun.id, Answered::Code(&bobs_code), End::Elevate, way(1), at(now)).await;
    assert_eq!(wrong.unwrap_err(), Fault::Proof);
    let code = code(&annas, now);
    let right = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await;
    assert!(matches!(right, Ok(Finished::Proved { .. })));
    let again = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await;
    assert_eq!(again.unwrap_err(), Fault::Proof);
}

#[tokio::test]
async fn a_ceremony_ends_after_five_minutes_and_after_five_wrong_answers() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let begun = bench.authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let late = code(&secret, now + 300);
    let expired =
        bench.authority.finish(&ann, &begun.id, Answered::Code(&late), End::Elevate, way(1), at(now + 300)).await;
    assert_eq!(expired.unwrap_err(), Fault::Proof);
    let begun = bench.authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    for client in 10..15 {
        // Each from another address, so that no lock is in the way.
        let wrong = Answered::Code("000000");
        let wrong = bench.authority.finish(&ann, &begun.id, wrong, End::Elevate, way(client), at(now)).await;
        assert_eq!(wrong.unwrap_err(), Fault::Proof);
    }
    let code = code(&secret, now);
    let gone = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await;
    assert_eq!(gone.unwrap_err(), Fault::Proof);
}

#[tokio::test]
async fn many_ceremonies_push_out_the_oldest_and_never_fill_the_store() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    for number in 0..30 {
        bench.authority.begin(&ann, step_up(), None, way(1), at(START + number)).await.unwrap();
    }
    let store = bench.authority.store();
    let rows = store.page::<serde_json::Value>(crate::store::Table::Ceremonies, "", None, 100, at(START + 30)).await;
    assert_eq!(rows.unwrap().len(), super::super::ceremony::MOST_PENDING);
}

#[tokio::test]
async fn wrong_codes_lock_one_address_and_token_and_the_right_code_has_the_same_answer_then() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let (who, now) = (Arc::new(principal("ann", "t1")), START + 60);
    let nobody = Arc::new(principal("nobody", "t1"));
    let prove = async |who: &Arc<_>, last: u8, code: &str, secs: u64| {
        bench.authority.prove_in_request(who, way(last), code.as_bytes(), at(secs)).await
    };
    for _ in 0..5 {
        assert_eq!(prove(&who, 1, "000000", now).await, Err(Reason::CodeRefused));
        assert_eq!(prove(&nobody, 1, "000000", now).await, Err(Reason::CodeRefused), "no factor: the same answer");
    }
    let right = code(&secret, now);
    assert_eq!(prove(&who, 1, &right, now).await, Err(Reason::CodeRefused), "locked: the same answer");
    assert!(bench.ear.changes.lock().unwrap().contains(&Change::Locked));
    let last = *bench.ear.ceremonies.lock().unwrap().last().unwrap();
    assert_eq!(last, (Occasion::Request, Outcome::Locked, None), "the operator sees it");
    // The lock survives a restart.
    assert_eq!(
        bench.again().authority.prove_in_request(&who, way(1), right.as_bytes(), at(now)).await,
        Err(Reason::CodeRefused)
    );
    // From elsewhere, or by another token, the same code passes; and by this one, once the lock is over.
    assert!(prove(&who, 2, &right, now).await.is_ok());
    let later = code(&secret, now + 60);
    assert!(prove(&who, 1, &later, now + 60).await.is_ok());
}

#[tokio::test]
async fn strangers_from_many_addresses_slow_each_other_down_and_never_the_owner_at_home() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let mut now = START + 60;
    let mut looked_at = 0;
    for stranger in 0..150_u16 {
        now += 900;
        let who = Arc::new(principal("ann", &format!("stolen {stranger}")));
        let client = elsewhere(stranger as u8);
        let _ = bench.authority.prove_in_request(&who, client, b"000000", at(now)).await;
        if bench.ear.ceremonies.lock().unwrap().last().unwrap().1 == Outcome::Refused {
            looked_at += 1;
        }
    }
    let forgiven = (150 * 900) / super::super::guess::FORGIVEN_SECS + 1;
    assert!(looked_at <= 100 + forgiven, "{looked_at}");
    assert!(bench.ear.changes.lock().unwrap().contains(&Change::HardLocked));
    // A stranger who knew the code now would be turned away, as anybody at an unknown address.
    let right = code(&secret, now);
    let stranger = Arc::new(principal("ann", "stolen too"));
    let client = elsewhere(200);
    assert_eq!(
        bench.authority.prove_in_request(&stranger, client, right.as_bytes(), at(now)).await,
        Err(Reason::CodeRefused)
    );
    // The owner at home, where the factor was enrolled, notices nothing.
    let who = Arc::new(principal("ann", "t7"));
    assert!(bench.authority.prove_in_request(&who, way(1), right.as_bytes(), at(now)).await.is_ok());
    // And an operator lifts it for everybody.
    bench.authority.unlock(&ann.owner(), "op", at(now)).await.unwrap();
    let later = code(&secret, now + 60);
    assert!(bench.authority.prove_in_request(&stranger, client, later.as_bytes(), at(now + 60)).await.is_ok());
}

#[tokio::test]
async fn a_stolen_token_enrols_nothing() {
    let bench = Bench::new();
    let (thief, bob) = (bench.caller("ann", "stolen"), bench.caller("bob", "t9"));
    let wanted = || Wanted { factor: Factor::Totp, label: String::new(), address: None };
    let begin = async |caller: &_, right: Right<'_>| {
        bench.authority.begin_enrolment(caller, wanted(), right, way(9), at(START)).await.map(drop)
    };
    let refused = Err(Fault::Enrolment);
    assert_eq!(begin(&thief, Right::Nothing).await, refused);
    let invitation = bench.authority.invite(&bob.owner(), "op", None, at(START)).await.unwrap();
    assert_eq!(begin(&thief, Right::Invitation(&invitation.code)).await, refused, "another's invitation");
    assert_eq!(begin(&thief, Right::Invitation("0000-0000-0000-0000-0000-0000")).await, refused);
    // With factors there, neither a token alone nor a proof of somebody else's does.
    let ann = bench.caller("ann", "t1");
    let (_, enrolled) = bench.enrol_app(&ann, START).await;
    assert_eq!(enrolled.recovery_codes.len(), 10);
    assert_eq!(begin(&thief, Right::Nothing).await, refused);
}

#[tokio::test]
async fn an_invitation_is_used_once_expires_and_is_replaced_by_the_next() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let old = bench.authority.invite(&ann.owner(), "op", None, at(START)).await.unwrap();
    let new = bench.authority.invite(&ann.owner(), "op", None, at(START)).await.unwrap();
    let begin = async |code: &str, secs: u64| {
        let wanted = Wanted { factor: Factor::Totp, label: String::new(), address: None };
        bench.authority.begin_enrolment(&ann, wanted, Right::Invitation(code), way(1), at(secs)).await
    };
    assert_eq!(begin(&old.code, START).await.map(drop), Err(Fault::Enrolment));
    assert_eq!(begin(&new.code, new.expires_at).await.map(drop), Err(Fault::Enrolment));
    // Two enrolments begun by it: one is confirmed.
    let one = begin(&new.code, START).await.unwrap();
    let two = begin(&new.code.to_lowercase(), START).await.unwrap();
    let confirm = async |begun: &super::super::EnrolmentBegun| {
        let code = code(&super::super::testing::from_base32(begun.secret.as_ref().unwrap()), START);
        bench.authority.finish_enrolment(&ann, &begun.id, Answered::Code(&code), way(1), at(START)).await.map(drop)
    };
    assert_eq!(confirm(&one).await, Ok(()));
    assert_eq!(confirm(&two).await, Err(Fault::Enrolment));
    assert_eq!(begin(&new.code, START).await.map(drop), Err(Fault::Enrolment));
    assert_eq!(bench.messages("factor_enrolled").await.len(), 1);
}

#[tokio::test]
async fn open_enrolment_takes_the_first_who_comes_and_nobody_after_who_deletes_nothing_for_a_day() {
    let yaml = super::super::testing::YAML.replace("  return_to:", "  enrolment: open\n  return_to:");
    let bench = Bench::of(&yaml);
    let ann = bench.caller("ann", "t1");
    let (secret, enrolled) = bench.enrol_app_by(&ann, Right::Nothing, START).await;
    assert_eq!(enrolled.may_delete_from, Some(START + DAY));
    let who = Arc::new(principal("ann", "t1"));
    let prove = async |secs: u64| {
        let code = code(&secret, secs);
        bench.authority.prove_in_request(&who, way(1), code.as_bytes(), at(secs)).await.unwrap().may_delete
    };
    assert!(!prove(START + DAY - 1).await);
    assert!(prove(START + DAY + 60).await);
    // The last factor is removed: whoever has the token now needs an operator.
    let begun = bench.authority.begin(&ann, Purpose::Manage, None, way(1), at(START + 2 * DAY)).await.unwrap();
    let code = code(&secret, START + 2 * DAY);
    let now = at(START + 2 * DAY);
    let finished = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Nothing, way(1), now).await;
    let Ok(Finished::Proved { proof, .. }) = finished else { panic!() };
    assert_eq!(bench.authority.remove(&ann, &enrolled.id, &proof, way(1), now).await, Ok(0));
    let wanted = Wanted { factor: Factor::Totp, label: String::new(), address: None };
    let again = bench.authority.begin_enrolment(&ann, wanted, Right::Nothing, way(1), now).await;
    assert_eq!(again.map(drop), Err(Fault::Enrolment));
    assert_eq!(bench.authority.recovery_codes_left(&ann, now).await, Ok(0));
}

#[tokio::test]
async fn a_recovery_code_proves_once_and_enrols_a_factor_that_waits() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (_, enrolled) = bench.enrol_app(&ann, START).await;
    let (who, codes) = (Arc::new(principal("ann", "t1")), enrolled.recovery_codes);
    let typed = codes[0].to_lowercase().replace('-', "");
    assert!(bench.authority.prove_in_request(&who, way(1), typed.as_bytes(), at(START)).await.is_ok());
    let again = bench.authority.prove_in_request(&who, way(1), codes[0].as_bytes(), at(START)).await;
    assert_eq!(again, Err(Reason::CodeRefused));
    assert_eq!(bench.authority.recovery_codes_left(&ann, at(START)).await, Ok(9));
    let (secret, second) = bench.enrol_app_by(&ann, Right::Recovery(&codes[1]), START).await;
    assert_eq!(second.may_delete_from, Some(START + DAY));
    assert!(second.recovery_codes.is_empty(), "only with the first factor");
    assert_eq!(bench.messages("recovery_code_used").await.len(), 2);
    // Another's recovery code is nobody's.
    let bob = Arc::new(principal("bob", "t9"));
    let mixed = bench.authority.prove_in_request(&bob, way(1), codes[2].as_bytes(), at(START)).await;
    assert_eq!(mixed, Err(Reason::CodeRefused));
    // What enrols by a factor on probation waits as well.
    let now = START + 60;
    let begun = bench.authority.begin(&ann, Purpose::Manage, None, way(1), at(now)).await.unwrap();
    let code = code(&secret, now);
    let finished = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Nothing, way(1), at(now)).await;
    let Ok(Finished::Proved { proof, .. }) = finished else { panic!() };
    assert!(!proof.may_delete);
    let codes = bench.authority.new_recovery_codes(&ann, &proof, way(1), at(now)).await.unwrap();
    let by_new = bench.authority.prove_in_request(&who, way(1), codes[0].as_bytes(), at(now)).await.unwrap();
    assert!(!by_new.may_delete);
}

#[tokio::test]
async fn a_reset_takes_everything_away_and_needs_two_where_it_is_said() {
    let yaml = super::super::testing::YAML.replace("  return_to:", "  four_eyes: true\n  return_to:");
    let bench = Bench::of(&yaml);
    let (ann, now) = (bench.caller("ann", "t1"), START + 60);
    let (secret, enrolled) = bench.enrol_app(&ann, START).await;
    let begun = bench.authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let code = code(&secret, now);
    bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await.unwrap();
    let ResetState::Waits { id, .. } = bench.authority.reset(&ann.owner(), "eve", at(now)).await.unwrap() else {
        panic!("it waits")
    };
    for same in ["eve", " EVE ", ""] {
        assert!(matches!(bench.authority.approve_reset(&id, same, at(now)).await, Err(Fault::Call(_))), "{same}");
    }
    assert_eq!(bench.authority.factors_of(&ann.owner(), at(now)).await.unwrap().len(), 1);
    let done = bench.authority.approve_reset(&id, "mal", at(now)).await;
    assert_eq!(done, Ok(ResetState::Done { factors: 1 }));
    assert_eq!(bench.authority.approve_reset(&id, "mal", at(now)).await, Err(Fault::NotFound), "once");
    assert!(bench.authority.elevations(&principal("ann", "t1"), at(now)).is_empty());
    let who = Arc::new(principal("ann", "t1"));
    let recovery = &enrolled.recovery_codes[0];
    assert!(bench.authority.prove_in_request(&who, way(1), recovery.as_bytes(), at(now)).await.is_err());
    assert_eq!(bench.messages("factors_reset").await.len(), 1);
    let (_, after) = bench.enrol_app(&ann, now).await;
    assert_eq!(after.may_delete_from, Some(now + DAY), "after a reset");
}

#[tokio::test]
async fn a_sent_code_is_used_once_by_its_holder_and_no_more_than_three_are_sent() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let invitation = bench.authority.invite(&ann.owner(), "op", None, at(START)).await.unwrap();
    let wanted = Wanted { factor: Factor::Webhook, label: String::new(), address: Some("+49 1".into()) };
    let right = Right::Invitation(&invitation.code);
    let begun = bench.authority.begin_enrolment(&ann, wanted, right, way(1), at(START)).await.unwrap();
    let sent = bench.messages("code").await;
    let first = sent[0]["data"]["code"].as_str().unwrap().to_owned();
    bench.authority.finish_enrolment(&ann, &begun.id, Answered::Code(&first), way(1), at(START)).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let purpose = step_up();
        ids.push(bench.authority.begin(&ann, purpose, Some(Factor::Webhook), way(1), at(START)).await.unwrap().id);
    }
    let over = bench.authority.begin(&ann, step_up(), Some(Factor::Webhook), way(1), at(START + 100)).await;
    assert_eq!(over.map(drop), Err(Fault::Sending(500)));
    let later = bench.authority.begin(&ann, step_up(), Some(Factor::Webhook), way(1), at(START + 600)).await;
    assert!(later.is_ok());
    let codes = bench.messages("code").await;
    let known = [&first];
    let code = codes
        .iter()
        .map(|sent| sent["data"]["code"].as_str().unwrap())
        .find(|code| !known.contains(&&(*code).to_owned()));
    let code = code.unwrap().to_owned();
    // One of the two ceremonies has this code; the other takes it for a wrong one.
    let mut proved = 0;
    for id in ids.iter().chain(&ids) {
        let answered = Answered::Code(&code);
        proved += u32::from(bench.authority.finish(&ann, id, answered, End::Elevate, way(1), at(START)).await.is_ok());
    }
    assert!(proved <= 1, "once");
}

#[tokio::test]
async fn an_approval_takes_the_right_number_of_three_and_counts_once() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let invitation = bench.authority.invite(&ann.owner(), "op", None, at(START)).await.unwrap();
    let wanted = Wanted { factor: Factor::Push, label: String::new(), address: Some("device-1".into()) };
    let right = Right::Invitation(&invitation.code);
    let begun = bench.authority.begin_enrolment(&ann, wanted, right, way(1), at(START)).await.unwrap();
    let token = |message: &serde_json::Value| {
        let token = message["data"]["token"].as_str().unwrap().to_owned();
        let url = message["data"]["decide"].as_str().unwrap();
        assert!(!url.contains(&token), "a path stands in logs");
        token
    };
    let asked = bench.messages("push").await;
    let enrolling = token(&asked[0]);
    let shown = bench.authority.push_shown(&enrolling, at(START)).await.unwrap();
    assert_eq!(shown.numbers.len(), 3);
    assert_eq!(shown.details.client, "192.0.2.1");
    bench.authority.push_decide(&enrolling, begun.number.as_deref(), at(START)).await.unwrap();
    bench.authority.finish_enrolment(&ann, &begun.id, Answered::Approval, way(1), at(START)).await.unwrap();
    // A step-up: pending, then a wrong number is a refusal, which cannot be taken back.
    let begun = bench.authority.begin(&ann, step_up(), Some(Factor::Push), way(1), at(START)).await.unwrap();
    let finish =
        async |id: &str| bench.authority.finish(&ann, id, Answered::Approval, End::Elevate, way(1), at(START)).await;
    assert!(matches!(finish(&begun.id).await, Ok(Finished::Pending)));
    let token = bench.messages("push").await.iter().map(token).find(|token| *token != enrolling).unwrap();
    let number = begun.number.unwrap();
    let wrong = shown_wrong(&bench.authority.push_shown(&token, at(START)).await.unwrap().numbers, &number);
    assert_eq!(bench.authority.push_decide(&token, Some(&wrong), at(START)).await, Err(Fault::Proof));
    assert_eq!(bench.authority.push_decide(&token, Some(&number), at(START)).await, Err(Fault::Proof));
    assert_eq!(finish(&begun.id).await.map(drop), Err(Fault::Proof));
    assert_eq!(bench.authority.push_decide("nobody's", Some("00"), at(START)).await, Err(Fault::Proof));
}

fn shown_wrong(numbers: &[String], right: &str) -> String {
    numbers.iter().find(|number| *number != right).unwrap().clone()
}

#[tokio::test]
async fn a_handover_code_is_good_for_the_holder_who_asked_for_the_page_once_and_for_two_minutes() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let hand = async |secs: u64| {
        let begun = bench.authority.begin(&ann, step_up(), None, way(1), at(secs)).await.unwrap();
        let code = code(&secret, secs);
        let ended =
            bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Handover, way(1), at(secs)).await;
        let Ok(Finished::Proved { handover: Some(code), elevated_until: None, .. }) = ended else { panic!() };
        code
    };
    let one = hand(START + 60).await;
    assert!(bench.authority.elevations(&principal("ann", "t1"), at(START + 61)).is_empty(), "the page elevates nobody");
    let thief = bench.caller("ann", "t2");
    assert_eq!(bench.authority.hand_over(&thief, &one, way(1), at(START + 61)).await.map(drop), Err(Fault::Proof));
    assert!(bench.authority.hand_over(&ann, &one, way(1), at(START + 61)).await.is_ok());
    assert_eq!(bench.authority.elevations(&principal("ann", "t1"), at(START + 62)).len(), 1);
    assert_eq!(bench.authority.hand_over(&ann, &one, way(1), at(START + 61)).await.map(drop), Err(Fault::Proof));
    let two = hand(START + 120).await;
    assert_eq!(bench.authority.hand_over(&ann, &two, way(1), at(START + 240)).await.map(drop), Err(Fault::Proof));
}

#[tokio::test]
async fn a_challenge_for_a_grant_elevates_nothing_neither_at_once_nor_by_a_code() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let code = code(&secret, now);
    for end in [End::Elevate, End::Handover] {
        let purpose = Purpose::Grant { level: "mfa".into() };
        let begun = bench.authority.begin(&ann, purpose, None, way(1), at(now)).await.unwrap();
        let ended = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), end, way(1), at(now)).await;
        assert!(matches!(ended, Err(Fault::Call(_))), "{ended:?}");
    }
    assert!(bench.authority.elevations(&principal("ann", "t1"), at(now)).is_empty());
}

#[tokio::test]
async fn a_level_that_a_factor_does_not_reach_is_not_offered_it_and_uses_none_up() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let purpose = Purpose::StepUp { level: "phr".into() };
    let begun = bench.authority.begin(&ann, purpose.clone(), None, way(1), at(now)).await.unwrap();
    assert!(begun.factors.is_empty());
    let code = code(&secret, now);
    let refused = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await;
    assert_eq!(refused.map(drop), Err(Fault::Proof));
    let who = Arc::new(principal("ann", "t1"));
    assert!(bench.authority.prove_in_request(&who, way(1), code.as_bytes(), at(now)).await.is_ok(), "not used up");
    let asked = bench.authority.begin(&ann, purpose, Some(Factor::Totp), way(1), at(now)).await;
    assert!(matches!(asked, Err(Fault::Call(_))));
    let unknown = Purpose::StepUp { level: "nobody's".into() };
    assert!(matches!(bench.authority.begin(&ann, unknown, None, way(1), at(now)).await, Err(Fault::Call(_))));
}

#[tokio::test]
async fn a_reload_keeps_the_store_open_and_weighs_elevations_anew_once_it_is_in_force() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let begun = bench.authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let code = code(&secret, now);
    bench.authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await.unwrap();
    let stricter = super::super::testing::YAML.replace("{categories: 2}", "{factors: [passkey]}");
    assert!(load(&stricter).authority.is_some());
    let reloaded = Bench::over(&stricter, bench.folder.clone(), Some(&bench));
    assert!(Arc::ptr_eq(reloaded.authority.store(), bench.authority.store()));
    let acr = || reloaded.authority.elevations(&principal("ann", "t1"), at(now + 1))[0].assurance.acr.clone();
    assert_eq!(
        acr().as_deref(),
        Some("urn:example:acr:mfa"),
        "the configuration may be refused yet, for another reason"
    );
    reloaded.put_in_force();
    assert_eq!(acr(), None, "an app is not worth it any more");
}

#[tokio::test]
async fn nothing_that_is_kept_in_memory_or_said_shows_a_secret() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (_, enrolled) = bench.enrol_app(&ann, START).await;
    let person = bench.authority.person(&ann, at(START)).await.unwrap().unwrap();
    for shown in [format!("{person:?}"), format!("{ann:?}"), format!("{:?}", bench.authority)] {
        for code in &enrolled.recovery_codes {
            assert!(!shown.contains(code), "{shown}");
        }
        assert!(!shown.contains("secret: \"") && !shown.contains("QUFB"), "{shown}");
    }
}

#[tokio::test]
async fn a_recovery_code_in_a_proofs_clothes_enrols_a_factor_that_waits_all_the_same() {
    let bench = Bench::new();
    let (ann, who) = (bench.caller("ann", "t1"), Arc::new(principal("ann", "t1")));
    let (_, enrolled) = bench.enrol_app(&ann, START).await;
    // A code in the place of an app's, and one in a challenge.
    let [first, second] = [&enrolled.recovery_codes[0], &enrolled.recovery_codes[1]];
    let by_code =
        bench.authority.prove_code(&who, first.as_bytes(), Occasion::Manage, way(1), at(START)).await.unwrap();
    let begun = bench.authority.begin(&ann, Purpose::Manage, None, way(1), at(START)).await.unwrap();
    let answered = Answered::Code(second);
    let finished = bench.authority.finish(&ann, &begun.id, answered, End::Nothing, way(1), at(START)).await;
    let Ok(Finished::Proved { proof: by_challenge, .. }) = finished else { panic!() };
    let (_, new) = bench.enrol_app_by(&ann, Right::Proof(&by_code), START).await;
    assert_eq!(new.may_delete_from, Some(START + DAY));
    let id = new.id;
    assert_eq!(bench.authority.remove(&ann, &id, &by_challenge, way(1), at(START)).await, Ok(1));
    let (_, new) = bench.enrol_app_by(&ann, Right::Proof(&by_challenge), START).await;
    assert_eq!(new.may_delete_from, Some(START + DAY));
}

/// A proof by an app, kept for what comes.
async fn kept(
    bench: &Bench,
    purpose: Purpose,
    secret: &crate::secret::Secret,
    end: End,
    now: u64,
) -> (String, Finished) {
    let ann = bench.caller("ann", "t1");
    let begun = bench.authority.begin(&ann, purpose, None, way(1), at(now)).await.unwrap();
    let code = code(secret, now);
    let finished = bench.authority.finish(&ann, &begun.id, Answered::Code(&code), end, way(1), at(now)).await.unwrap();
    (begun.id, finished)
}

#[tokio::test]
async fn what_was_proved_by_a_factor_is_worth_nothing_once_that_is_gone() {
    for by_reset in [true, false] {
        let bench = Bench::new();
        let ann = bench.caller("ann", "t1");
        let (stolen, old) = bench.enrol_app(&ann, START).await;
        let now = START + 600;
        let (_, page) = kept(&bench, step_up(), &stolen, End::Handover, now - 120).await;
        let Finished::Proved { handover: Some(handover), .. } = page else { panic!() };
        let (_, managing) = kept(&bench, Purpose::Manage, &stolen, End::Nothing, now - 90).await;
        let Finished::Proved { proof: managing, .. } = managing else { panic!() };
        let grant = Purpose::Grant { level: "mfa".into() };
        let (id, _) = kept(&bench, grant.clone(), &stolen, End::Keep, now - 60).await;
        let (_, proved) = kept(&bench, grant.clone(), &stolen, End::Nothing, now - 30).await;
        let Finished::Proved { proof, .. } = proved else { panic!() };
        let granted = bench.authority.grant(&ann, "mfa", &proof, None, way(1), at(now - 30)).unwrap();
        if by_reset {
            bench.authority.reset(&ann.owner(), "op", at(now - 10)).await.unwrap();
            bench.enrol_app(&ann, now - 10).await;
        } else {
            let (_, new) = bench.enrol_app_by(&ann, Right::Proof(&proof), now - 10).await;
            bench.authority.remove(&ann, &old.id, &proof, way(1), at(now - 10)).await.unwrap();
            assert_eq!(new.may_delete_from, None);
        }
        let handed = bench.authority.hand_over(&ann, &handover, way(1), at(now - 5)).await;
        assert_eq!(handed.map(drop), Err(Fault::Proof));
        assert!(bench.authority.elevations(&principal("ann", "t1"), at(now)).is_empty());
        assert_eq!(bench.authority.redeem(&ann, &id, &grant, at(now - 5)).await.map(drop), Err(Fault::Proof));
        let read = bench.authority.read_grant(granted.token.as_bytes(), &principal("ann", "t1"), at(now - 5));
        assert!(bench.authority.spend(&read.unwrap(), at(now - 5)).await.is_err());
        let wanted = Wanted { factor: Factor::Totp, label: String::new(), address: None };
        let begun = bench.authority.begin_enrolment(&ann, wanted, Right::Proof(&managing), way(1), at(now - 5)).await;
        assert_eq!(begun.map(drop), Err(Fault::Enrolment));
        assert!(bench.authority.new_recovery_codes(&ann, &managing, way(1), at(now - 5)).await.is_err());
    }
}

#[tokio::test]
async fn an_enrolment_that_a_recovery_code_began_ends_with_a_reset() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (_, enrolled) = bench.enrol_app(&ann, START).await;
    let wanted = Wanted { factor: Factor::Totp, label: String::new(), address: None };
    let right = Right::Recovery(&enrolled.recovery_codes[0]);
    let begun = bench.authority.begin_enrolment(&ann, wanted, right, way(1), at(START)).await.unwrap();
    bench.authority.reset(&ann.owner(), "op", at(START)).await.unwrap();
    let code = code(&super::super::testing::from_base32(&begun.secret.unwrap()), START);
    let confirmed = bench.authority.finish_enrolment(&ann, &begun.id, Answered::Code(&code), way(1), at(START)).await;
    assert_eq!(confirmed.map(drop), Err(Fault::Enrolment));
}

#[tokio::test]
async fn a_reset_ends_every_elevation_however_many_there_are() {
    let bench = Bench::new();
    let ann = bench.caller("ann", "t1");
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let (_, proved) = kept(&bench, step_up(), &secret, End::Nothing, now).await;
    let Finished::Proved { proof, .. } = proved else { panic!() };
    let tokens: Vec<String> = (0..250).map(|number| format!("t{number}")).collect();
    for token in &tokens {
        let caller = bench.caller("ann", token);
        let (batch, row) = bench.authority.elevate(crate::store::Batch::new(), &caller, "mfa", &proof, at(now));
        bench.authority.store().commit(batch, at(now)).await.unwrap();
        bench.authority.elevated_now(&caller, row, way(1), at(now)).await.unwrap();
    }
    bench.authority.reset(&ann.owner(), "op", at(now)).await.unwrap();
    let again = bench.again();
    for token in &tokens {
        for authority in [&bench.authority, &again.authority] {
            assert!(authority.elevations(&principal("ann", token), at(now)).is_empty(), "{token}");
        }
    }
    // One whose commit came first, and that is told after.
    let caller = bench.caller("ann", "late");
    let (batch, row) = bench.authority.elevate(crate::store::Batch::new(), &caller, "mfa", &proof, at(now));
    bench.authority.store().commit(batch, at(now)).await.unwrap();
    assert!(bench.again().authority.elevations(&principal("ann", "late"), at(now)).is_empty(), "nor after a crash");
    assert_eq!(bench.authority.elevated_now(&caller, row, way(1), at(now)).await, Err(Fault::Proof));
    assert!(bench.authority.elevations(&principal("ann", "late"), at(now)).is_empty());
    assert!(bench.again().authority.elevations(&principal("ann", "late"), at(now)).is_empty());
}

#[tokio::test]
async fn a_weak_factor_makes_no_strong_one_of_the_token_fresh_again() {
    let yaml =
        super::super::testing::YAML.replace("assurance:\n", "assurance:\n  keys: {factors: [passkey], max_age: 5m}\n");
    let yaml =
        yaml.replace("routes:\n", "routes:\n  - {path: /keys/**, upstream: api, auth: [main], assurance: keys}\n");
    let bench = Bench::of(&yaml);
    let (secret, _) = bench.enrol_app(&bench.caller("ann", "t1"), START).await;
    let now = START + 36_000;
    // Signed in by a passkey, ten hours ago.
    let mut old = principal("ann", "t1");
    old.assurance.factors = [Factor::Password, Factor::Passkey].into_iter().collect();
    old.assurance.amr = ["pwd", "hwk", "mfa"].into_iter().map(Arc::from).collect();
    old.assurance.auth_time = Some(START as f64);
    let (old, code) = (Arc::new(old), code(&secret, now));
    let second = bench.authority.prove_in_request(&old, way(1), code.as_bytes(), at(now)).await.unwrap();
    let level = bench.authority.levels().get("keys").unwrap().clone();
    let policy = crate::policy::AccessPolicy {
        issuers: Box::new(["main".into()]),
        assurance: Some(level.clone()),
        ..Default::default()
    };
    let hwk = crate::policy::AccessPolicy {
        assurance: Some(crate::policy::Requirement { amr: Some(Box::new(["hwk".into()])), factors: None, ..level }),
        issuers: policy.issuers.clone(),
        ..Default::default()
    };
    let any = crate::policy::AccessPolicy {
        assurance: Some(crate::policy::Requirement { max_age: None, ..hwk.assurance.clone().unwrap() }),
        issuers: policy.issuers.clone(),
        ..Default::default()
    };
    let headers = http::HeaderMap::new();
    let credential = crate::policy::Credential::Valid(old.clone());
    let seconds = [Arc::new(second)];
    let is_allowed = |policy: &crate::policy::AccessPolicy| {
        let input = crate::policy::ConditionInput {
            method: "GET",
            path: "/",
            path_params: &[],
            query: None,
            headers: &headers,
            client_ip: [192, 0, 2, 1].into(),
            principal: None,
            now: at(now),
        };
        let facts = crate::policy::Facts {
            credential: &credential,
            possession: None,
            second_factors: &seconds,
            guarded: false,
            planned: None,
            input,
        };
        matches!(crate::policy::decide(policy, &facts), crate::policy::Decision::Allow(_))
    };
    assert!(!is_allowed(&policy), "the passkey is ten hours old");
    assert!(!is_allowed(&hwk), "so is the key");
    assert!(is_allowed(&any), "which is no matter where no age is asked for");
}

#[tokio::test]
async fn a_code_that_cannot_be_looked_at_for_want_of_the_store_is_said_to_be_neither_wrong_nor_right() {
    let (bench, breaker) = Bench::breakable();
    breaker.break_it();
    let who = Arc::new(principal("ann", "t1"));
    let proved = bench.authority.prove_in_request(&who, way(1), b"123456", at(START)).await;
    assert_eq!(proved.map(drop), Err(Reason::AuthorityUnavailable));
    assert_eq!(*bench.ear.ceremonies.lock().unwrap(), [(Occasion::Request, Outcome::Unavailable, None)]);
    breaker.mend();
    let proved = bench.authority.prove_in_request(&who, way(1), b"123456", at(START)).await;
    assert_eq!(proved.map(drop), Err(Reason::CodeRefused));
}
