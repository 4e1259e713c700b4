//! What goes wrong around the authority: rows that cannot be read, names that are no text, factors that are gone meanwhile.

use super::super::{
    Answered, End, Fault, Finished, Purpose, Right,
    testing::{Bench, START, at, code, principal, way},
};
use crate::{
    authority::Authority,
    store::{Batch, Table},
};

/// Puts rows where they stand first and last, which nobody can read.
async fn damage(authority: &Authority, table: Table, prefix: &str) {
    let batch = ["!", "~"].iter().fold(Batch::new(), |batch, end| {
        batch.insert(table, &format!("{prefix}{end}"), &"not what belongs here", None)
    });
    authority.store().commit(batch, at(START)).await.unwrap();
}

fn step_up() -> Purpose {
    Purpose::StepUp { level: "mfa".into() }
}

#[tokio::test]
async fn elevations_that_cannot_be_read_keep_no_gateway_from_starting_and_no_other_from_counting() {
    let bench = Bench::new();
    let (authority, ann) = (&bench.authority, bench.caller("ann", "t1"));
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let begun = authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let code = code(&secret, now);
    authority.finish(&ann, &begun.id, Answered::Code(&code), End::Elevate, way(1), at(now)).await.unwrap();
    damage(authority, Table::Elevations, "").await;
    let store = authority.store();
    // As a start at that moment would find them: `again` reads by the system's clock, which is another one.
    let read = super::super::elevation::Elevations::load(store, at(now)).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(bench.again().authority.elevations(&principal("ann", "t2"), at(now)).len(), 0);
}

#[tokio::test]
async fn a_ceremony_that_cannot_be_read_is_in_nobodys_way() {
    let bench = Bench::new();
    let (authority, ann) = (&bench.authority, bench.caller("ann", "t1"));
    let (secret, _) = bench.enrol_app(&ann, START).await;
    damage(authority, Table::Ceremonies, &authority.ceremony_prefix(&ann)).await;
    let now = START + 60;
    authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let code = code(&secret, now);
    let shown = authority.prove_in_request(&principal("ann", "t1").into(), way(1), code.as_bytes(), at(now)).await;
    assert!(shown.is_ok(), "{shown:?}");
}

#[tokio::test]
async fn an_operator_lifts_a_lock_that_cannot_be_read_and_lists_the_people_that_can() {
    let bench = Bench::new();
    let (authority, ann) = (&bench.authority, bench.caller("ann", "t1"));
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let owner = ann.owner();
    let lane = format!("lane/{}/home", owner.key(authority.store()));
    let batch = Batch::new().forget(Table::Guesses, &lane).insert(Table::Guesses, &lane, &"no lane", None);
    authority.store().commit(batch, at(START)).await.unwrap();
    let now = START + 60;
    let code = code(&secret, now);
    let who = principal("ann", "t1").into();
    assert!(authority.prove_in_request(&who, way(1), code.as_bytes(), at(now)).await.is_err(), "it fails closed");
    authority.unlock(&owner, "op", at(now)).await.unwrap();
    assert!(authority.prove_in_request(&who, way(1), code.as_bytes(), at(now)).await.is_ok());
    damage(authority, Table::Subjects, "").await;
    assert_eq!(authority.people(None, 10, at(now)).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn a_person_whose_name_has_control_characters_is_invited_enrolled_and_told_in_clean_lines() {
    let bench = Bench::new();
    let name = "ann\u{7}\r\nIssuer: https://evil.example/\u{202e}\u{2028}x";
    let ann = bench.caller(name, "t1");
    bench.enrol_app(&ann, START).await;
    bench.authority.reset(&ann.owner(), "olga\u{1b}[2J", at(START + 60)).await.unwrap();
    for kind in ["invited", "factor_enrolled", "factors_reset"] {
        let messages = bench.messages(kind).await;
        let text = messages[0]["text"].as_str().unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("Issuer: ")).count(), 1, "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{2028}']), "{text:?}");
        assert_eq!(messages[0]["data"]["subject"], name, "programs get it as it is");
    }
}

#[tokio::test]
async fn what_was_proved_by_a_factor_that_was_reset_since_is_good_for_nothing() {
    let bench = Bench::new();
    let (authority, ann) = (&bench.authority, bench.caller("ann", "t1"));
    let (secret, enrolled) = bench.enrol_app(&ann, START).await;
    let prove = async |purpose: Purpose, end, code: &str, secs| {
        let begun = authority.begin(&ann, purpose, None, way(1), at(secs)).await.unwrap();
        match authority.finish(&ann, &begun.id, Answered::Code(code), end, way(1), at(secs)).await.unwrap() {
            Finished::Proved { handover, .. } => (begun.id, handover),
            Finished::Pending => panic!(),
        }
    };
    let grant = Purpose::Grant { level: "mfa".into() };
    let (_, by_app) = prove(step_up(), End::Handover, &code(&secret, START + 60), START + 60).await;
    let (kept, _) = prove(grant.clone(), End::Keep, &code(&secret, START + 90), START + 90).await;
    let recovery = &enrolled.recovery_codes[0];
    let (_, by_recovery) = prove(step_up(), End::Handover, recovery, START + 91).await;
    let now = START + 100;
    authority.reset(&ann.owner(), "op", at(now)).await.unwrap();
    bench
        .enrol_app_by(
            &ann,
            Right::Invitation(&authority.invite(&ann.owner(), "op", None, at(now)).await.unwrap().code),
            now,
        )
        .await;
    for code in [by_app.unwrap(), by_recovery.unwrap()] {
        let got = authority.hand_over(&ann, &code, way(1), at(now + 1)).await;
        assert_eq!(got.err(), Some(Fault::Proof));
    }
    assert_eq!(authority.redeem(&ann, &kept, &grant, at(now + 1)).await.err(), Some(Fault::Proof));
    assert!(authority.elevations(&principal("ann", "t1"), at(now + 1)).is_empty());
}

#[tokio::test]
async fn neither_the_code_of_a_page_nor_an_address_is_in_what_is_printed() {
    let bench = Bench::new();
    let (authority, mut ann) = (&bench.authority, bench.caller("ann", "t1"));
    ann.mail = Some("ann@mail.example".into());
    let (secret, _) = bench.enrol_app(&ann, START).await;
    let now = START + 60;
    let begun = authority.begin(&ann, step_up(), None, way(1), at(now)).await.unwrap();
    let code = code(&secret, now);
    let done = authority.finish(&ann, &begun.id, Answered::Code(&code), End::Handover, way(1), at(now)).await.unwrap();
    let Finished::Proved { handover: Some(handover), .. } = &done else { panic!() };
    assert!(!format!("{done:?}").contains(handover));
    let person = authority.person(&ann, at(now)).await.unwrap().unwrap();
    assert_eq!(person.mail.as_deref(), Some("ann@mail.example"));
    assert!(!format!("{person:?}").contains("mail.example"));
}
