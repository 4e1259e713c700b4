//! The machine, sentence by sentence.

use super::super::{
    life::{Accept, Answer, Command, Due, Item, NotNow, Tokens, Told, Work, apply, next_due, tokens, work},
    record::{Erasure, HoldKind, Lease, Outcome, Party, State, What, Why, hash_of},
    testing::{erasure, place_all, probe, step, terms},
};
use crate::config::{Terms, WhileHeld};

const ME: u64 = 7;
const DAY: u64 = 86_400;

/// Does it, and takes what came of it.
fn does(erasure: &mut Erasure, terms: &Terms, command: Command, at: u64) -> Vec<Told> {
    let changed = apply(erasure, terms, command, at).unwrap();
    *erasure = changed.erasure;
    changed.told
}

fn refused(erasure: &Erasure, terms: &Terms, command: Command, at: u64) -> NotNow {
    apply(erasure, terms, command, at).unwrap_err()
}

fn lease(erasure: &mut Erasure, terms: &Terms, at: u64) {
    does(erasure, terms, Command::TakeLease(Lease { holder: ME, until: at + 60 }), at);
}

fn operator() -> Party {
    Party::Operator { name: "olga".into() }
}

/// One that was begun at a time, its probes having seen the data.
fn begun(terms: &Terms, at: u64) -> Erasure {
    let mut erasure = erasure(terms, false, at).erasure;
    let at = at + terms.grace_secs.unwrap_or(0);
    lease(&mut erasure, terms, at);
    does(&mut erasure, terms, Command::Begin(ME), at);
    for place in 0..terms.probes.len() {
        does(&mut erasure, terms, Command::Probed(ME, place, Answer::Status(200, 0)), at);
    }
    erasure
}

fn sent(erasure: &mut Erasure, terms: &Terms, place: usize, answer: Answer, at: u64) -> Vec<Told> {
    does(erasure, terms, Command::Send(ME, place), at);
    does(erasure, terms, Command::Answered(ME, place, answer), at)
}

#[test]
fn a_deletion_lives_from_the_request_to_the_last_look() {
    let terms = terms(30 * DAY, 2, 1, &[0, 3600, DAY]);
    let changed = erasure(&terms, false, 1000);
    let mut it = changed.erasure;
    assert_eq!((it.state, changed.told), (State::Held { until: 1000 + 30 * DAY }, vec![Told::Requested]));
    assert_eq!(tokens(&it, &terms), Tokens::Held(403));
    // Three days before its end people are reminded.
    assert_eq!(next_due(&it, &terms), Due::At(1000 + 27 * DAY));
    let at = 1000 + 27 * DAY;
    lease(&mut it, &terms, at);
    assert_eq!(does(&mut it, &terms, Command::Remind(ME), at), [Told::Reminder]);
    does(&mut it, &terms, Command::EndLease(ME), at);
    let at = 1000 + 30 * DAY;
    assert_eq!(next_due(&it, &terms), Due::At(at));
    lease(&mut it, &terms, at);
    assert_eq!(does(&mut it, &terms, Command::Begin(ME), at), [Told::Begun]);
    assert_eq!((tokens(&it, &terms), work(&it, &terms, at)), (Tokens::Held(403), vec![Work::Probe(0)]));
    does(&mut it, &terms, Command::Probed(ME, 0, Answer::Status(200, 0)), at);
    assert_eq!(work(&it, &terms, at), [Work::Send(0)]);
    sent(&mut it, &terms, 0, Answer::Status(204, 0), at);
    assert_eq!(work(&it, &terms, at), [Work::Send(1)]);
    sent(&mut it, &terms, 1, Answer::Status(404, 0), at);
    assert_eq!((it.state, tokens(&it, &terms)), (State::Verifying, Tokens::Refused));
    does(&mut it, &terms, Command::Probed(ME, 0, Answer::Status(404, 0)), at);
    assert_eq!(tokens(&it, &terms), Tokens::Before(at), "gone for the first time");
    does(&mut it, &terms, Command::EndLease(ME), at);
    for after in [3600, DAY] {
        assert_eq!(next_due(&it, &terms), Due::At(at + after));
        assert_eq!(work(&it, &terms, at + after - 1), []);
        lease(&mut it, &terms, at + after);
        does(&mut it, &terms, Command::Probed(ME, 0, Answer::Status(410, 0)), at + after);
        if after == 3600 {
            does(&mut it, &terms, Command::EndLease(ME), at + after);
        }
    }
    assert_eq!((it.state, work(&it, &terms, at + DAY)), (State::Scrubbing, vec![Work::Scrub]));
    assert!(it.personal.is_some());
    let events = it.events.len();
    assert_eq!(refused(&it, &terms, Command::Scrubbed(ME, events), at + DAY), NotNow::Early, "not all is in the chain");
    place_all(&mut it);
    // A hold and its release, with a reason that may name somebody, while the log was gone through.
    let mut late = it.clone();
    does(&mut late, &terms, Command::Hold(HoldKind::Legal, operator(), "about alice".into()), at + DAY);
    does(&mut late, &terms, Command::Release(HoldKind::Legal, operator()), at + DAY);
    place_all(&mut late);
    assert_eq!(refused(&late, &terms, Command::Scrubbed(ME, events), at + DAY), NotNow::Early, "it was not struck out");
    assert_eq!(does(&mut late, &terms, Command::Scrubbed(ME, events + 2), at + DAY), [Told::Erased]);
    assert_eq!(does(&mut it, &terms, Command::Scrubbed(ME, events), at + DAY), [Told::Erased]);
    assert_eq!((it.state, next_due(&it, &terms)), (State::Erased, Due::Never));
    assert_eq!((it.personal.as_ref(), tokens(&it, &terms)), (None, Tokens::Before(at)));
    let happened: Vec<&str> = it.events.iter().map(|event| event.what.name()).collect();
    let story = "requested begun seen step_done step_done all_done looked looked looked verified erased";
    assert_eq!(happened.join(" "), story);
    assert!(it.events.iter().enumerate().all(|(place, event)| event.number as usize == place));
}

#[test]
fn a_deletion_is_cancelled_or_sent_and_never_both() {
    let terms = terms(100, 1, 1, &[0]);
    let mut it = erasure(&terms, false, 0).erasure;
    lease(&mut it, &terms, 100);
    let mut cancelled = it.clone();
    assert_eq!(does(&mut cancelled, &terms, Command::Cancel(Party::Owner), 100), [Told::Cancelled]);
    assert_eq!(tokens(&cancelled, &terms), Tokens::Pass);
    assert_eq!(refused(&cancelled, &terms, Command::Begin(ME), 100), NotNow::Lease);
    assert_eq!(refused(&cancelled, &terms, Command::Cancel(Party::Owner), 101), NotNow::Already);
    assert_eq!(refused(&cancelled, &terms, Command::TakeLease(Lease { holder: ME, until: 999 }), 200), NotNow::State);
    does(&mut it, &terms, Command::Begin(ME), 100);
    // Probes only look: whoever wants it cancelled can have it so until the last moment, and gets as far as that.
    for seen in [200, 404] {
        let mut looked = it.clone();
        does(&mut looked, &terms, Command::Probed(ME, 0, Answer::Status(seen, 0)), 100);
        assert_eq!(tokens(&looked, &terms), Tokens::Held(403));
        let mut disputed = looked.clone();
        does(&mut disputed, &terms, Command::Dispute(Party::Link), 101);
        assert_eq!(does(&mut looked, &terms, Command::Cancel(Party::Owner), 101), [Told::Cancelled]);
        for it in [looked, disputed] {
            assert_eq!((it.state, tokens(&it, &terms)), (State::Cancelled, Tokens::Pass));
            assert_eq!(refused(&it, &terms, Command::Send(ME, 0), 101), NotNow::Lease);
        }
    }
    does(&mut it, &terms, Command::Probed(ME, 0, Answer::Status(200, 0)), 100);
    does(&mut it, &terms, Command::Send(ME, 0), 100);
    assert_eq!(tokens(&it, &terms), Tokens::Refused);
    assert_eq!(refused(&it, &terms, Command::Cancel(Party::Owner), 100), NotNow::TooLate);
    assert_eq!(refused(&it, &terms, Command::Cancel(operator()), 100), NotNow::TooLate);
}

#[test]
fn nothing_begins_early_nor_without_the_lease_nor_while_there_is_a_hold() {
    let terms = terms(100, 1, 0, &[0]);
    let mut it = erasure(&terms, false, 0).erasure;
    assert_eq!(refused(&it, &terms, Command::Begin(ME), 100), NotNow::Lease);
    lease(&mut it, &terms, 99);
    assert_eq!(refused(&it, &terms, Command::Begin(ME), 99), NotNow::Early);
    assert_eq!(refused(&it, &terms, Command::Begin(ME + 1), 100), NotNow::Lease);
    assert_eq!(refused(&it, &terms, Command::Begin(ME), 99 + 60), NotNow::Lease, "its time is over");
    does(&mut it, &terms, Command::Hold(HoldKind::Legal, operator(), "court".into()), 100);
    assert_eq!(refused(&it, &terms, Command::Begin(ME), 100), NotNow::OnHold);
    assert_eq!((next_due(&it, &terms), work(&it, &terms, 100)), (Due::Person, vec![]));
    does(&mut it, &terms, Command::Release(HoldKind::Legal, operator()), 110);
    does(&mut it, &terms, Command::Begin(ME), 110);
}

#[test]
fn a_second_person_approves_and_the_first_cannot() {
    let mut terms = terms(0, 1, 0, &[0]);
    terms.four_eyes = true;
    let changed = erasure(&terms, false, 0);
    assert_eq!(changed.told, [Told::Requested, Told::ApprovalWanted]);
    let mut it = changed.erasure;
    // As long as nobody else wants it, it keeps nobody out.
    assert_eq!((tokens(&it, &terms), next_due(&it, &terms)), (Tokens::Pass, Due::Person));
    for one in [Party::Owner, Party::Link] {
        assert_eq!(refused(&it, &terms, Command::Approve(one), 1), NotNow::SamePerson);
    }
    let admin = |subject: &str| Party::Caller { issuer_url: "i".into(), subject: subject.into() };
    it.requester = admin("a");
    assert_eq!(refused(&it, &terms, Command::Approve(admin("a")), 1), NotNow::SamePerson);
    assert_eq!(refused(&it, &terms, Command::Release(HoldKind::Approval, operator()), 1), NotNow::Nothing);
    assert_eq!(does(&mut it, &terms, Command::Approve(admin("b")), 1), [Told::Approved]);
    assert_eq!((tokens(&it, &terms), next_due(&it, &terms)), (Tokens::Held(403), Due::At(0)));
    assert_eq!(refused(&it, &terms, Command::Approve(admin("b")), 1), NotNow::Already);
}

#[test]
fn whoever_says_that_it_was_not_them_cancels_what_is_held_and_stops_what_has_begun() {
    let terms = terms(10, 2, 1, &[0]);
    let mut held = erasure(&terms, false, 0).erasure;
    assert_eq!(does(&mut held, &terms, Command::Dispute(Party::Link), 5), [Told::Disputed, Told::Cancelled]);
    assert_eq!(held.state, State::Cancelled);
    let mut it = begun(&terms, 0);
    does(&mut it, &terms, Command::Send(ME, 0), 10);
    assert_eq!(does(&mut it, &terms, Command::Dispute(Party::Link), 10), [Told::Disputed]);
    // What was sent is answered, and nothing further is sent.
    does(&mut it, &terms, Command::Answered(ME, 0, Answer::Status(200, 0)), 11);
    assert_eq!(refused(&it, &terms, Command::Send(ME, 1), 11), NotNow::OnHold);
    assert_eq!((next_due(&it, &terms), tokens(&it, &terms)), (Due::Person, Tokens::Refused));
    does(&mut it, &terms, Command::Release(HoldKind::Dispute, operator()), 20);
    does(&mut it, &terms, Command::Send(ME, 1), 20);
}

#[test]
fn a_probe_that_saw_nothing_stops_the_deletion_unless_it_is_optional_or_a_person_accepts_that() {
    let mut terms = terms(0, 1, 0, &[0, 10]);
    terms.probes = vec![probe("must", false), probe("may", true)];
    let mut it = erasure(&terms, false, 0).erasure;
    lease(&mut it, &terms, 0);
    does(&mut it, &terms, Command::Begin(ME), 0);
    assert_eq!(refused(&it, &terms, Command::Send(ME, 0), 0), NotNow::Nothing, "first it is looked");
    assert_eq!(does(&mut it, &terms, Command::Probed(ME, 1, Answer::Status(404, 0)), 0), []);
    assert_eq!(does(&mut it, &terms, Command::Probed(ME, 0, Answer::Status(410, 0)), 0), [Told::Parked]);
    assert!(it.events.iter().any(|event| matches!(event.what, What::Seen { counts: false, .. })));
    assert_eq!(refused(&it, &terms, Command::Send(ME, 0), 0), NotNow::Nothing);
    assert_eq!(next_due(&it, &terms), Due::Person);
    let mut again = it.clone();
    does(&mut again, &terms, Command::Retry(Item::Probe(0), operator(), Accept::Again), 1);
    assert_eq!(work(&again, &terms, 1), [Work::Probe(0)]);
    does(&mut it, &terms, Command::Retry(Item::Probe(0), operator(), Accept::AsItIs), 1);
    sent(&mut it, &terms, 0, Answer::Status(200, 0), 1);
    // Neither counts, so there is nothing to look at; the evidence says so.
    assert_eq!(it.state, State::Scrubbing);
    assert!(it.probes.iter().all(|probe| !probe.counts));
}

#[test]
fn what_time_may_mend_is_tried_until_it_is_given_up_and_anything_else_is_parked_at_once() {
    let terms = terms(0, 1, 0, &[0]);
    let mut it = begun(&terms, 0);
    for status in [408, 409, 423, 425, 429, 500, 502, 503, 504] {
        assert_eq!(sent(&mut it.clone(), &terms, 0, Answer::Status(status, 5), 0), [], "{status}");
    }
    for status in [301, 302, 400, 401, 403, 405, 422, 101, 299] {
        assert_eq!(sent(&mut it.clone(), &terms, 0, Answer::Status(status, 5), 0), [Told::Parked], "{status}");
    }
    sent(&mut it, &terms, 0, Answer::None(30), 0);
    assert_eq!((next_due(&it, &terms), it.steps[0].outcome), (Due::At(60), Outcome::Waiting));
    does(&mut it, &terms, Command::EndLease(ME), 1);
    assert_eq!(next_due(&it, &terms), Due::At(30));
    lease(&mut it, &terms, 29);
    assert_eq!(refused(&it, &terms, Command::Send(ME, 0), 29), NotNow::Early);
    assert_eq!(sent(&mut it, &terms, 0, Answer::Status(503, 3600), 30), []);
    lease(&mut it, &terms, 3600);
    assert_eq!(sent(&mut it, &terms, 0, Answer::Status(503, 7200), 3600), [Told::Parked]);
    assert!(matches!(it.steps[0].outcome, Outcome::Parked { why: Why::GaveUp, .. }));
    assert_eq!(next_due(&it, &terms), Due::Person);
    // A person has it tried for as long once more.
    does(&mut it, &terms, Command::Retry(Item::Step(0), operator(), Accept::Again), 9000);
    lease(&mut it, &terms, 9000);
    assert_eq!(sent(&mut it, &terms, 0, Answer::Status(503, 9001), 9000), []);
    assert_eq!(it.steps[0].attempts, 4);
}

#[test]
fn a_step_that_a_person_accepts_is_done_and_the_evidence_says_by_whom() {
    let terms = terms(0, 1, 1, &[0]);
    let mut it = begun(&terms, 0);
    assert_eq!(
        refused(&it, &terms, Command::Retry(Item::Step(0), operator(), Accept::AsItIs), 1),
        NotNow::Nothing,
        "nothing is accepted that was not tried"
    );
    sent(&mut it, &terms, 0, Answer::Unsendable(Why::NoUpstream), 0);
    does(&mut it, &terms, Command::Retry(Item::Step(0), operator(), Accept::AsItIs), 1);
    assert_eq!(it.state, State::Verifying);
    let event = it.events.iter().find(|event| matches!(event.what, What::StepAccepted { .. })).unwrap();
    assert_eq!(event.by, operator());
}

#[test]
fn what_was_sent_without_an_answer_is_sent_again_by_whoever_has_the_lease_next() {
    let terms = terms(0, 1, 0, &[0]);
    let mut it = begun(&terms, 0);
    does(&mut it, &terms, Command::Send(ME, 0), 0);
    assert_eq!(refused(&it, &terms, Command::Send(ME, 0), 1), NotNow::Already, "not twice by the same one");
    let other = Lease { holder: 8, until: 200 };
    assert_eq!(refused(&it, &terms, Command::TakeLease(other), 59), NotNow::Lease);
    assert_eq!(next_due(&it, &terms), Due::At(60));
    does(&mut it, &terms, Command::TakeLease(other), 60);
    for late in [Command::Answered(ME, 0, Answer::Status(200, 0)), Command::Send(ME, 0), Command::EndLease(ME)] {
        assert_eq!(refused(&it, &terms, late, 61), NotNow::Lease);
    }
    does(&mut it, &terms, Command::Send(8, 0), 61);
    assert_eq!(it.steps[0].attempts, 2);
}

#[test]
fn data_that_comes_back_is_never_accepted() {
    let terms = terms(0, 2, 1, &[0, 100]);
    let mut it = begun(&terms, 0);
    for place in 0..2 {
        sent(&mut it, &terms, place, Answer::Status(200, 0), 0);
    }
    does(&mut it, &terms, Command::Probed(ME, 0, Answer::Status(404, 0)), 0);
    lease(&mut it, &terms, 100);
    assert_eq!(does(&mut it, &terms, Command::Probed(ME, 0, Answer::Status(200, 0)), 100), [Told::StillThere]);
    assert_eq!(next_due(&it, &terms), Due::Person);
    assert_eq!(refused(&it, &terms, Command::Retry(Item::Probe(0), operator(), Accept::AsItIs), 101), NotNow::Nothing);
    // Looked at again, or the step is sent again and all is verified anew.
    let mut looked = it.clone();
    does(&mut looked, &terms, Command::Retry(Item::Probe(0), operator(), Accept::Again), 101);
    does(&mut looked, &terms, Command::Probed(ME, 0, Answer::Status(404, 0)), 101);
    assert_eq!(looked.state, State::Scrubbing);
    does(&mut it, &terms, Command::Retry(Item::Step(1), operator(), Accept::Again), 101);
    assert_eq!((it.state, tokens(&it, &terms)), (State::CarryingOut, Tokens::Refused));
    sent(&mut it, &terms, 1, Answer::Status(200, 0), 102);
    assert_eq!(it.probes[0].looks.iter().map(|look| look.due).collect::<Vec<_>>(), [102, 202]);
    assert!(it.probes[0].looks.iter().all(|look| look.seen.is_none()));
}

#[test]
fn steps_that_wait_for_nothing_are_ready_together() {
    let mut terms = terms(0, 0, 0, &[0]);
    terms.steps = vec![step("a", &[]), step("b", &[]), step("c", &[0, 1])];
    let mut it = begun(&terms, 0);
    assert_eq!(work(&it, &terms, 0), [Work::Send(0), Work::Send(1)]);
    sent(&mut it, &terms, 1, Answer::Status(200, 0), 0);
    assert_eq!(refused(&it, &terms, Command::Send(ME, 2), 0), NotNow::Nothing);
    sent(&mut it, &terms, 0, Answer::Status(400, 0), 0);
    // One that is parked keeps those back that wait for it.
    assert_eq!((work(&it, &terms, 0), next_due(&it, &terms)), (vec![], Due::Person));
}

#[test]
fn own_data_goes_after_the_last_step_and_before_it_is_verified() {
    let mut terms = terms(0, 1, 0, &[0]);
    terms.own_data = true;
    let mut it = begun(&terms, 0);
    assert_eq!(refused(&it, &terms, Command::OwnDataGone(ME), 0), NotNow::State);
    sent(&mut it, &terms, 0, Answer::Status(200, 0), 0);
    assert_eq!((it.state, work(&it, &terms, 0)), (State::CarryingOut, vec![Work::OwnData]));
    does(&mut it, &terms, Command::OwnDataGone(ME), 0);
    assert_eq!(it.state, State::Scrubbing);
}

#[test]
fn tokens_pass_while_a_plan_allows_it_or_the_breaker_holds() {
    let mut terms = terms(10, 1, 0, &[0]);
    assert_eq!(tokens(&erasure(&terms, true, 0).erasure, &terms), Tokens::Pass);
    terms.while_held = WhileHeld::Block(410);
    assert_eq!(tokens(&erasure(&terms, false, 0).erasure, &terms), Tokens::Held(410));
    terms.while_held = WhileHeld::Allow;
    assert_eq!(tokens(&erasure(&terms, false, 0).erasure, &terms), Tokens::Pass);
}

#[test]
fn a_row_never_grows_beyond_what_the_store_takes_whatever_people_do() {
    let terms = terms(0, 1, 0, &[0]);
    let mut it = begun(&terms, 0);
    let mut rounds = 0;
    let fault = loop {
        let hold = Command::Hold(HoldKind::Legal, operator(), "x".repeat(10_000).into());
        match apply(&it, &terms, hold, 1) {
            Ok(changed) => it = changed.erasure,
            Err(fault) => break fault,
        }
        does(&mut it, &terms, Command::Release(HoldKind::Legal, operator()), 1);
        rounds += 1;
    };
    assert_eq!(fault, NotNow::Full);
    assert!(rounds > 100, "{rounds}");
    assert!(serde_json::to_vec(&it).unwrap().len() < 200_000);
    // What is left to do is done all the same.
    lease(&mut it, &terms, 100);
    sent(&mut it, &terms, 0, Answer::Status(200, 0), 100);
    assert_eq!(it.state, State::Scrubbing);
}

#[test]
fn a_record_and_its_terms_are_the_same_after_they_were_kept() {
    let mut terms = terms(5, 2, 2, &[0, 1]);
    terms.steps[0].call.body = Some(serde_json::json!({"z": 1, "a": ["{subject}", null]}));
    let it = begun(&terms, 0);
    let text = serde_json::to_string(&it).unwrap();
    assert_eq!(serde_json::from_str::<Erasure>(&text).unwrap(), it);
    let again: Terms = serde_json::from_str(&serde_json::to_string(&terms).unwrap()).unwrap();
    assert_eq!(hash_of(&again), hash_of(&terms));
    let mut other = terms.clone();
    other.steps[0].done.push(299);
    assert_ne!(hash_of(&other), hash_of(&terms));
    // Nothing personal is shown by accident.
    assert!(!format!("{it:?}{:?}", it.events).contains("alice"));
}
