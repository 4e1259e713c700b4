//! Deletions carried out: a real store, real services, and everything that goes wrong with either.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should say where")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Carrier,
    testing::{Bench, PANICS, Service, answer, call, upstream},
};
use crate::{
    config::{Probe, Step, Terms},
    erasure::{
        fault::Fault,
        life::{Accept, Command, Item},
        record::{Erasure, HoldKind, Lease, Outcome, Party, Personal, State, What, Why},
        testing,
    },
};

/// A service that keeps something of everybody, and deletes it when told.
fn api() -> (Service, Arc<Mutex<Vec<String>>>) {
    let gone: Arc<Mutex<Vec<String>>> = Arc::default();
    let away = gone.clone();
    let service = Service::start(move |got| {
        let (method, target) = got.line.trim_end_matches(" HTTP/1.1").split_once(' ').unwrap();
        let mut away = away.lock().unwrap();
        match (method, away.iter().any(|known| known == target)) {
            ("GET", false) => answer(200, r#"{"email":"a@example.com"}"#),
            (_, true) => answer(404, ""),
            _ => {
                away.push(target.to_owned());
                answer(204, "")
            }
        }
    });
    (service, gone)
}

fn step(name: &str, request: &str, after: &[usize]) -> Step {
    let done = vec![200, 202, 204, 404, 410];
    Step { call: call(name, "api", request), done, after: after.to_vec() }
}

fn probe(request: &str) -> Probe {
    Probe { call: call("there", "api", request), there: vec![200], gone: vec![404, 410], optional: false }
}

/// One step, one probe, and looks at these times.
fn terms(looks: &[u64]) -> Terms {
    Terms {
        steps: vec![step("primary", "DELETE /accounts/{subject}", &[])],
        probes: vec![probe("GET /accounts/{subject}")],
        ..testing::terms(0, 0, 0, looks)
    }
}

fn outcome(erasure: &Erasure, step: usize) -> Outcome {
    erasure.steps[step].outcome
}

fn is_parked(erasure: &Erasure, step: usize, why: Why) -> bool {
    matches!(outcome(erasure, step), Outcome::Parked { why: found, .. } if found == why)
}

#[tokio::test]
async fn a_deletion_is_carried_out_in_its_order_verified_and_evidenced() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    let terms = Terms {
        steps: vec![
            step("primary", "DELETE /accounts/{subject}", &[]),
            step("search", "DELETE /documents/{subject}", &[0]),
            step("mail", "POST /unsubscribe/{subject}", &[]),
        ],
        own_data: true,
        ..terms(&[0, 3600])
    };
    let id = bench.ask("alice", &terms).await;
    bench.run();
    let looked = |erasure: &Erasure| erasure.probes[0].looks.first().is_some_and(|look| look.is_gone());
    let done = bench.until(&id, |erasure| looked(erasure) && erasure.lease.is_none()).await;
    assert_eq!(done.state, State::Verifying);
    bench.clock.pass(Duration::from_secs(3600));
    bench.wake();
    let erased =
        bench.until(&id, |erasure| erasure.state == State::Erased && erasure.unplaced().next().is_none()).await;
    assert!(erased.personal.is_none());
    let lines: Vec<_> = service.got().iter().map(|got| got.line.replace(" HTTP/1.1", "")).collect();
    let place = |line: &str| lines.iter().position(|found| found == line).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(place("GET /accounts/alice"), 0, "seen before the first step");
    assert!(place("DELETE /accounts/alice") < place("DELETE /documents/alice"));
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(bench.forgotten(), ["alice"]);
    let events: Vec<_> = erased.events.iter().map(|event| event.what.name()).collect();
    assert_eq!(bench.evidence(), events, "all of it is in the audit log, in its order");
    assert_eq!(events.first(), Some(&"requested"));
    assert_eq!(events.last(), Some(&"erased"));
    assert_eq!(bench.struck(), 1);
}

#[tokio::test]
async fn what_time_may_mend_is_tried_again_with_the_same_key_and_what_it_does_not_mend_waits_for_a_person() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let service = Service::start(move |got| match &*got.line {
        line if line.contains("/flaky") => match count.fetch_add(1, Ordering::SeqCst) {
            0 => answer(503, ""),
            1 => String::new(),
            _ => answer(200, ""),
        },
        line if line.contains("/refused") => answer(400, ""),
        _ => answer(200, ""),
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    let terms = Terms {
        steps: vec![step("flaky", "DELETE /flaky/{subject}", &[]), step("refused", "DELETE /refused/{subject}", &[])],
        ..testing::terms(0, 0, 0, &[0])
    };
    let id = bench.ask("alice", &terms).await;
    bench.run();
    let stuck = bench.until(&id, |erasure| erasure.steps[0].is_done() && is_parked(erasure, 1, Why::Refused)).await;
    assert_eq!((stuck.steps[0].attempts, stuck.steps[1].attempts), (3, 1));
    assert_eq!(stuck.steps[1].status, Some(400));
    let keys: Vec<_> = service.got().iter().map(|got| got.fields["idempotency-key"].clone()).collect();
    assert_eq!(keys.iter().filter(|key| **key == format!("\"{id}-flaky\"")).count(), 3);
    assert_eq!(keys.len(), 4);
    bench.quiet().await;
    bench.change(&id, Command::Retry(Item::Step(1), operator(), Accept::AsItIs)).await;
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
}

#[tokio::test]
async fn what_a_person_has_sent_again_is_not_answered_with_what_the_service_keeps_of_the_first_time() {
    let (kept, mended) = (Mutex::new(HashMap::<String, String>::new()), Arc::new(AtomicBool::new(false)));
    let is_mended = mended.clone();
    // It does what it is asked once for each key, and gives the stored answer from then on.
    let service = Service::start(move |got| {
        let first = || answer(if is_mended.load(Ordering::SeqCst) { 204 } else { 403 }, "");
        kept.lock().unwrap().entry(got.fields["idempotency-key"].clone()).or_insert_with(first).clone()
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    let id = bench.ask("alice", &Terms { probes: Vec::new(), ..terms(&[0]) }).await;
    bench.run();
    bench.until(&id, |erasure| is_parked(erasure, 0, Why::Refused)).await;
    mended.store(true, Ordering::SeqCst);
    bench.change(&id, Command::Retry(Item::Step(0), operator(), Accept::Again)).await;
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
    let keys: Vec<_> = service.got().iter().map(|got| got.fields["idempotency-key"].clone()).collect();
    assert_eq!(keys, [format!("\"{id}-primary\""), format!("\"{id}-primary:2\"")]);
}

fn operator() -> Party {
    Party::Operator { name: "op".into() }
}

#[tokio::test]
async fn a_step_that_fails_for_longer_than_it_is_tried_waits_for_a_person() {
    let service = Service::start(|_| answer(503, ""));
    let bench = Bench::new(vec![service.upstream("api")]);
    let terms = Terms { probes: Vec::new(), give_up_secs: 60, ..terms(&[0]) };
    let id = bench.ask("alice", &terms).await;
    bench.run();
    bench.until(&id, |erasure| erasure.steps[0].attempts == 1 && erasure.lease.is_none()).await;
    bench.clock.pass(Duration::from_secs(61));
    bench.wake();
    bench.until(&id, |erasure| is_parked(erasure, 0, Why::GaveUp)).await;
    assert_eq!(service.got().len(), 2);
}

#[tokio::test]
async fn a_service_that_is_down_is_called_again_until_it_is_up() {
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let bench = Bench::new(vec![upstream("api", &[closed])]);
    let id = bench.ask("alice", &Terms { probes: Vec::new(), ..terms(&[0]) }).await;
    bench.run();
    bench.until(&id, |erasure| erasure.steps[0].attempts >= 1 && outcome(erasure, 0) == Outcome::Waiting).await;
    let service = Service::at(closed, |_| answer(204, ""));
    let erased = bench.until(&id, |erasure| erasure.state == State::Erased).await;
    assert_eq!(service.got().len(), 1);
    assert!(erased.steps[0].attempts >= 2);
}

#[tokio::test]
async fn a_service_that_the_configuration_lost_is_waited_for_by_a_person_and_called_once_it_is_back() {
    let (service, _) = api();
    let bench = Bench::new(Vec::new());
    let terms = Terms { probes: Vec::new(), ..terms(&[0]) };
    let id = bench.ask("alice", &terms).await;
    bench.run();
    bench.until(&id, |erasure| is_parked(erasure, 0, Why::NoUpstream)).await;
    bench.replace(vec![service.upstream("api")]);
    bench.change(&id, Command::Retry(Item::Step(0), operator(), Accept::Again)).await;
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
    assert_eq!(service.got().len(), 1);
}

#[tokio::test]
async fn a_value_that_fits_in_no_request_is_never_sent() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    let terms = Terms { probes: Vec::new(), ..terms(&[0]) };
    let id = bench.ask("../admin", &terms).await;
    bench.run();
    bench.until(&id, |erasure| is_parked(erasure, 0, Why::Unsendable)).await;
    assert!(service.got().is_empty());
}

#[tokio::test]
async fn later_steps_have_what_earlier_ones_captured_and_a_value_that_is_missing_stops_them() {
    let service = Service::start(|got| match got.line.contains("/accounts/bob") {
        true => answer(200, "{}"),
        false => answer(200, r#"{"orders": 7}"#),
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    let mut first = step("primary", "DELETE /accounts/{subject}", &[]);
    first.call.capture = BTreeMap::from([("orders".into(), "/orders".into())]);
    let steps = vec![first, step("orders", "DELETE /orders/{captured.orders}", &[0])];
    let terms = Terms { steps, ..testing::terms(0, 0, 0, &[0]) };
    let (alice, bob) = (bench.ask("alice", &terms).await, bench.ask("bob", &terms).await);
    bench.run();
    bench.until(&alice, |erasure| erasure.state == State::Erased).await;
    assert!(service.got().iter().any(|got| got.line.starts_with("DELETE /orders/7 ")));
    bench.until(&bob, |erasure| is_parked(erasure, 0, Why::NoValue)).await;
    assert_eq!(service.got().len(), 3);
}

#[tokio::test]
async fn nothing_is_deleted_while_no_evidence_can_be_written() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    bench.evidence_fails(true);
    let id = bench.ask("alice", &terms(&[0])).await;
    bench.run();
    bench.until_evidence_failed().await;
    bench.quiet().await;
    assert!(service.got().is_empty(), "not even a probe");
    bench.evidence_fails(false);
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
}

#[tokio::test]
async fn nothing_is_sent_while_the_store_is_broken_and_what_was_answered_meanwhile_is_not_sent_again() {
    let broken = Arc::new(Mutex::new(None::<crate::store::testing::Breaker>));
    let switch = broken.clone();
    let service = Service::start(move |got| {
        if got.line.starts_with("DELETE /accounts") {
            // As it deletes, the disk breaks.
            switch.lock().unwrap().as_ref().unwrap().break_it();
        }
        answer(if got.line.starts_with("GET") { 200 } else { 204 }, "")
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    *broken.lock().unwrap() = Some(bench.breaker.clone());
    let steps = vec![step("primary", "DELETE /accounts/{subject}", &[]), step("next", "DELETE /next/{subject}", &[0])];
    let id = bench.ask("alice", &Terms { steps, ..testing::terms(0, 0, 0, &[0]) }).await;
    bench.run();
    service.until(1).await;
    bench.quiet().await;
    assert_eq!(service.got().len(), 1, "nothing without a row that says so");
    bench.breaker.mend();
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
    assert_eq!(service.got().len(), 2, "its answer was kept meanwhile");
}

#[tokio::test]
async fn a_service_that_takes_longer_than_a_lease_is_called_once() {
    let service = Service::start(|_| {
        std::thread::park_timeout(Duration::from_millis(4500));
        answer(200, "")
    });
    let bench = Bench::new(vec![service.upstream("api")]).with_pace(3, Duration::from_millis(250));
    let id = bench.ask("alice", &Terms { probes: Vec::new(), ..terms(&[0]) }).await;
    bench.run();
    // Another process that would take it over as soon as it may.
    let other = bench.another();
    tokio::spawn(other.run());
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
    assert_eq!(service.got().len(), 1);
}

#[tokio::test]
async fn what_a_process_that_died_had_in_hand_is_done_again_with_the_same_key_once_its_lease_is_over() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    let id = bench.ask("alice", &Terms { probes: Vec::new(), ..terms(&[0]) }).await;
    let until = bench.now_secs() + 30;
    bench.change(&id, Command::TakeLease(Lease { holder: 7, until })).await;
    bench.change(&id, Command::Begin(7)).await;
    bench.change(&id, Command::Send(7, 0)).await;
    bench.run();
    bench.quiet().await;
    assert!(service.got().is_empty(), "it may be on its way yet");
    bench.clock.pass(Duration::from_secs(31));
    bench.wake();
    let erased = bench.until(&id, |erasure| erasure.state == State::Erased).await;
    assert_eq!(erased.steps[0].attempts, 2);
    assert_eq!(service.got()[0].fields["idempotency-key"], format!("\"{id}-primary\""));
}

#[tokio::test]
async fn two_processes_over_one_store_send_each_step_once() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    let terms = Terms { probes: Vec::new(), ..terms(&[0]) };
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(bench.ask(&format!("p{number}"), &terms).await);
    }
    let other = bench.another();
    other.ledger.rescan(bench.now()).await.unwrap();
    bench.run();
    tokio::spawn(other.run());
    for id in &ids {
        bench.until(id, |erasure| erasure.state == State::Erased).await;
    }
    let mut sent = HashMap::<String, usize>::new();
    for got in service.got() {
        *sent.entry(got.fields["idempotency-key"].clone()).or_default() += 1;
    }
    assert_eq!(sent.len(), ids.len());
    assert!(sent.values().all(|count| *count == 1), "{sent:?}");
}

#[tokio::test]
async fn a_service_sees_few_requests_at_a_time_however_many_are_due() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (here, peak) = (now.clone(), most.clone());
    let service = Service::start(move |_| {
        peak.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::park_timeout(Duration::from_millis(10));
        here.fetch_sub(1, Ordering::SeqCst);
        answer(200, "")
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    let steps = (0..6).map(|number| step(&format!("s{number}"), "DELETE /accounts/{subject}", &[])).collect();
    let terms = Terms { steps, ..testing::terms(0, 0, 0, &[0]) };
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(bench.ask(&format!("p{number}"), &terms).await);
    }
    bench.run();
    for id in &ids {
        bench.until(id, |erasure| erasure.state == State::Erased).await;
    }
    assert_eq!(service.got().len(), 120);
    assert!((2..=8).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[tokio::test]
async fn a_service_that_hangs_stops_no_deletion_that_does_not_need_it() {
    let (service, _) = api();
    let hangs = Service::start(|_| {
        std::thread::park_timeout(Duration::from_secs(120));
        String::new()
    });
    let bench = Bench::new(vec![service.upstream("api"), hangs.upstream("hangs")]);
    let mut slow = step("primary", "DELETE /accounts/{subject}", &[]);
    (slow.call.upstream, slow.call.timeout_secs) = ("hangs".into(), 120);
    let slow = Terms { steps: vec![slow], ..testing::terms(0, 0, 0, &[0]) };
    // More than are in hand at once.
    for number in 0..200 {
        bench.ask(&format!("p{number}"), &slow).await;
    }
    bench.run();
    hangs.until(8).await;
    let id = bench.ask("alice", &terms(&[0])).await;
    bench.wake();
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
    assert_eq!(hangs.got().len(), 8, "and it sees no more at a time than ever");
}

#[tokio::test]
async fn a_panic_in_one_deletion_stops_no_other_and_is_got_over() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    let terms = Terms { probes: Vec::new(), own_data: true, ..terms(&[0]) };
    let panics = bench.ask(PANICS, &terms).await;
    let ids = [bench.ask("alice", &terms).await, bench.ask("bob", &terms).await];
    bench.run();
    for id in &ids {
        bench.until(id, |erasure| erasure.state == State::Erased).await;
    }
    bench.until(&panics, |erasure| erasure.state == State::CarryingOut && erasure.lease.is_none()).await;
    bench.panics.store(false, Ordering::SeqCst);
    bench.until(&panics, |erasure| erasure.state == State::Erased).await;
}

#[tokio::test]
async fn a_hold_between_two_steps_stops_the_second_and_a_cancelled_deletion_is_never_begun() {
    let let_go = Arc::new(AtomicBool::new(false));
    let may_answer = let_go.clone();
    let service = Service::start(move |_| {
        while !may_answer.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        answer(200, "")
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    let steps = vec![step("first", "DELETE /first/{subject}", &[]), step("next", "DELETE /next/{subject}", &[0])];
    let terms = Terms { steps, ..testing::terms(0, 0, 0, &[0]) };
    let held = bench.ask("alice", &Terms { grace_secs: Some(60), ..terms.clone() }).await;
    let stopped = bench.ask("bob", &terms).await;
    bench.change(&held, Command::Cancel(Party::Owner)).await;
    bench.run();
    service.until(1).await;
    bench.change(&stopped, Command::Hold(HoldKind::Legal, operator(), "a court".into())).await;
    let_go.store(true, Ordering::SeqCst);
    bench.until(&stopped, |erasure| erasure.steps[0].is_done()).await;
    bench.clock.pass(Duration::from_secs(120));
    bench.wake();
    bench.quiet().await;
    assert_eq!(service.got().len(), 1, "what was on its way is noted, and nothing follows");
    bench.change(&stopped, Command::Release(HoldKind::Legal, operator())).await;
    bench.until(&stopped, |erasure| erasure.state == State::Erased).await;
    assert!(service.got().iter().all(|got| !got.line.contains("alice")));
}

#[tokio::test]
async fn a_probe_that_sees_the_data_again_stops_the_end_and_one_that_sees_nothing_the_beginning() {
    let service = Service::start(|got| match got.line.starts_with("GET /accounts/bob") {
        true => answer(404, ""),
        // It says that it deletes, and does not.
        false => answer(200, ""),
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    let (alice, bob) = (bench.ask("alice", &terms(&[0])).await, bench.ask("bob", &terms(&[0])).await);
    bench.run();
    bench.until(&alice, |erasure| erasure.probes[0].parked.is_some_and(|(why, _)| why == Why::StillThere)).await;
    bench.until(&bob, |erasure| erasure.probes[0].parked.is_some_and(|(why, _)| why == Why::NothingThere)).await;
    assert!(service.got().iter().all(|got| !got.line.starts_with("DELETE /accounts/bob")));
}

#[tokio::test]
async fn what_is_asked_before_a_deletion_is_taken_on_must_be_answered() {
    let service = Service::start(|got| match &*got.line {
        line if line.contains("/alice") => answer(200, r#"{"email":"a@example.com"}"#),
        line if line.contains("/bob") => answer(404, ""),
        line if line.contains("/carol") => answer(200, "{}"),
        _ => answer(500, ""),
    });
    let bench = Bench::new(vec![service.upstream("api")]);
    let mut contact = call("contact", "api", "GET /accounts/{subject}");
    contact.capture = BTreeMap::from([("email".into(), "/email".into())]);
    let terms = Terms { lookups: vec![contact], ..terms(&[0]) };
    let look_up = async |subject: &str| {
        let mut personal =
            Personal { subject: subject.into(), values: BTreeMap::new(), token_subject: None, under: None };
        bench.carrier.look_up(&terms, "00", &mut personal).await.map(|()| personal.values)
    };
    assert_eq!(&*look_up("alice").await.unwrap()["captured.email"], "a@example.com");
    assert_eq!(look_up("bob").await, Err(Fault::Absent));
    assert_eq!(look_up("carol").await, Err(Fault::Lookup));
    assert_eq!(look_up("dave").await, Err(Fault::Lookup));
    bench.replace(Vec::new());
    assert_eq!(look_up("alice").await, Err(Fault::Lookup));
}

#[tokio::test]
async fn a_full_disk_takes_no_deletion_on_and_begins_none() {
    let (service, _) = api();
    let bench = Bench::of_size(vec![service.upstream("api")], 220 << 10);
    let terms = Terms { probes: Vec::new(), grace_secs: Some(3600), ..terms(&[0]) };
    let (mut ids, start) = (Vec::new(), Instant::now());
    let fault = loop {
        assert!(start.elapsed() < Duration::from_secs(60), "it never fills");
        match bench.try_ask(&format!("p{}", ids.len()), &terms).await {
            Ok(id) => ids.push(id),
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, Fault::Store(_)), "{fault:?}");
    assert!(ids.len() > 3);
    bench.run();
    bench.clock.pass(Duration::from_secs(3600));
    bench.wake();
    bench.quiet().await;
    // What was sent has a row that says so; nothing else was.
    let mut sent = 0;
    for id in &ids {
        sent += bench.get(id).await.steps.iter().map(|step| step.attempts as usize).sum::<usize>();
    }
    assert!(service.got().len() <= sent, "{} without a row", service.got().len());
    // With room again, as on a larger disk, all of them are.
    let bench = bench.reopened(64 << 20);
    bench.run();
    for id in &ids {
        bench.until(id, |erasure| erasure.state == State::Erased).await;
    }
    assert!(matches!(bench.get(&ids[0]).await.events.last().unwrap().what, What::Erased));
}

/// The carrier is what the house runs: it must be one that can go to the runtime of background work.
#[test]
fn a_carrier_can_be_shared() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<Carrier>();
}

#[tokio::test]
async fn after_a_start_far_ahead_of_the_last_known_time_nothing_is_begun_for_a_quarter_of_an_hour() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    let id = bench.ask("alice", &Terms { probes: Vec::new(), grace_secs: Some(2 * 86_400), ..terms(&[0]) }).await;
    bench.carrier.ledger.keep_clock(bench.now()).await.unwrap();
    bench.clock.pass(Duration::from_secs(3 * 86_400));
    let other = bench.another();
    let running = tokio::spawn(other.clone().run());
    bench.quiet().await;
    assert!(matches!(bench.get(&id).await.state, State::Held { .. }));
    bench.clock.pass(Duration::from_secs(15 * 60));
    other.ledger.kept.wake.notify_one();
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
    running.abort();
}

#[tokio::test]
async fn the_time_is_kept_while_anything_is_open_and_a_short_stop_puts_nothing_off() {
    let (service, _) = api();
    let bench = Bench::new(vec![service.upstream("api")]);
    let id = bench.ask("alice", &Terms { probes: Vec::new(), grace_secs: Some(5 * 86_400), ..terms(&[0]) }).await;
    bench.run();
    bench.quiet().await;
    bench.clock.pass(Duration::from_secs(4 * 86_400 + 43_200));
    bench.wake();
    bench.quiet().await;
    bench.clock.pass(Duration::from_secs(43_200));
    let other = bench.another();
    assert!(!other.ledger.kept.settled.is_in_doubt(bench.now()), "half a day after the last time that was kept");
    bench.wake();
    bench.until(&id, |erasure| erasure.state == State::Erased).await;
}

#[tokio::test]
async fn what_is_left_alone_stands_before_nobody_and_is_forgotten_with_the_deletion() {
    let bench = Bench::new(Vec::new());
    let id = bench.ask("alice", &Terms { grace_secs: Some(1), ..terms(&[0]) }).await;
    let ledger = &bench.carrier.ledger;
    let (later, start) = (bench.now_secs() + 60, Instant::now());
    assert_eq!((ledger.due(later, 9), ledger.unplaced(9)), (vec![id.clone()], vec![id.clone()]));
    let until = start + Duration::from_secs(30);
    ledger.rest(&id, until);
    assert_eq!((ledger.due(later, 9).len(), ledger.unplaced(9).len()), (0, 0));
    assert_eq!(ledger.wake(start), Some(until));
    assert_eq!(ledger.wake(until), None);
    assert_eq!((ledger.due(later, 9).len(), ledger.unplaced(9).len()), (1, 1));
    ledger.rest(&id, until);
    bench.change(&id, Command::Cancel(Party::Owner)).await;
    assert_eq!(ledger.wake(start), None, "a change ends it");
    assert_eq!(super::turn::Ended::from(Fault::Untold), super::turn::Ended::Later, "a fault of one alone");
}
