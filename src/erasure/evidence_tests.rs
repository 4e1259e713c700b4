//! Evidence of deletions from end to end: a life by the machine, its events in a real audit log, its certificate, and the person struck
//! out: nothing of theirs is left anywhere, and everything still verifies.

use std::{fs, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    evidence::{certificate, entry},
    life::{self, Accept, Answer, Command, Item},
    record::{HoldKind, Known, Lease, Party, Place, Shown, State, What},
    scrub::struck,
    testing,
};
use crate::{
    clock::SystemClock,
    config::Terms,
    telemetry::{
        Metrics,
        audit::{AuditFiles, AuditLog, CertificateKind, SignedCertificate, Sought, verify_and_seek},
    },
};

const START: u64 = 1_790_000_000;
const ME: u64 = 7;
/// All that names the person anywhere in a record.
const THEIRS: [&str; 5] =
    ["alice.private", "alice@example.org", "her lawsuit", "tenant-of-alice", "/accounts/alice.private"];

/// A log in a folder of its own.
struct Bench {
    folder: TempDir,
    log: AuditLog,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = AuditFiles {
            file: folder.path().join("audit.jsonl"),
            key: folder.path().join("audit.key"),
            head_interval: Duration::from_secs(60),
        };
        let log = AuditLog::open(&files, Arc::new(SystemClock), Metrics::new().unwrap().audit()).unwrap();
        Self { folder, log }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap()
    }

    /// Writes what the chain does not have yet, as the carrier does.
    fn place(&self, known: &mut Known, at: u64) {
        let placed = known.erasure.unplaced().map(|event| {
            let place = block_on(self.log.erasure(entry(known, event))).unwrap();
            (event.number, Place { seq: place.seq, hash: place.hash })
        });
        let placed: Vec<_> = placed.collect();
        if !placed.is_empty() {
            does(known, Command::Placed(placed), at);
        }
    }

    fn signed(&self, known: &Known) -> SignedCertificate {
        self.log.certify(certificate(known, START + 999)).unwrap()
    }

    fn bears_out(&self, signed: &SignedCertificate) -> bool {
        let mut sought = Sought::new(signed.certificate());
        let text = self.text();
        verify_and_seek(text.as_bytes(), None, None, Some(&mut sought)).is_ok() && sought.mismatches().is_empty()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn does(known: &mut Known, command: Command, at: u64) {
    known.erasure = life::apply(&known.erasure, &known.terms, command, at).unwrap().erasure;
}

/// A deletion that was just asked for, by the person or by an administrator.
fn asked(terms: Terms, requester: Party) -> Known {
    let mut erasure = testing::erasure(&terms, false, START).erasure;
    let personal = erasure.personal.as_mut().unwrap();
    personal.subject = "alice.private".into();
    personal.token_subject = (requester == Party::Owner).then(|| "alice.private".into());
    personal.values.insert("captured.email".into(), "alice@example.org".into());
    personal.values.insert("path.tenant".into(), "tenant-of-alice".into());
    personal.under = Some("/accounts/alice.private".into());
    erasure.requester = requester.clone();
    erasure.events[0].by = requester;
    erasure.proof = Shown {
        acr: Some("urn:example:acr:mfa".into()),
        amr: vec!["pwd".into(), "otp".into()],
        factors: vec!["totp".into()],
        age_secs: Some(7),
        grant: Some("g-1".into()),
        request_id: Some("r-1".into()),
    };
    Known { erasure, terms: Arc::new(terms), version: 1 }
}

fn root() -> Party {
    Party::Caller { issuer_url: testing::ISSUER.into(), subject: "root".into() }
}

/// The rest of its life, each event in the chain before the next: held and released, tried twice, seen before and afterwards.
fn carried_out(bench: &Bench, known: &mut Known) {
    let olga = || Party::Operator { name: "olga".into() };
    let mut at = START + 1;
    let mut all = vec![
        Command::Hold(HoldKind::Legal, olga(), "her lawsuit".into()),
        Command::Release(HoldKind::Legal, olga()),
        Command::TakeLease(Lease { holder: ME, until: START + 1_000_000 }),
        Command::Begin(ME),
        Command::Probed(ME, 0, Answer::Status(200, 0)),
        Command::Send(ME, 0),
        Command::Answered(ME, 0, Answer::Status(503, START)),
        Command::Send(ME, 0),
        Command::Answered(ME, 0, Answer::Status(204, 0)),
        Command::Send(ME, 1),
        Command::Answered(ME, 1, Answer::Status(400, 0)),
        Command::Retry(Item::Step(1), olga(), Accept::AsItIs),
        Command::Probed(ME, 0, Answer::Status(404, 0)),
        Command::Probed(ME, 0, Answer::Status(410, 0)),
    ];
    for command in all.drain(..) {
        bench.place(known, at);
        at += 100;
        does(known, command, at);
    }
    bench.place(known, at);
    assert_eq!(known.erasure.state, State::Scrubbing, "{:?}", known.erasure.events);
}

fn ended(bench: &Bench, known: &mut Known) {
    if let Some(struck) = struck(&known.erasure) {
        block_on(bench.log.strike(vec![struck])).unwrap();
    }
    bench.place(known, START + 5000);
    does(known, Command::Scrubbed(ME, known.erasure.events.len()), START + 5000);
    bench.place(known, START + 5000);
}

fn terms() -> Terms {
    testing::terms(0, 2, 1, &[0, 100])
}

/// Every text that can be found in this one: in clear, and in what is encoded in it.
fn readable(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    let decoded = words.filter_map(|word| String::from_utf8(URL_SAFE_NO_PAD.decode(word).ok()?).ok());
    std::iter::once(text.to_owned()).chain(decoded).collect::<Vec<_>>().join("\n")
}

fn nothing_of_theirs(text: &str, what: &str) {
    let text = readable(text);
    for value in THEIRS {
        assert!(!text.contains(value), "{value} is left in {what}: {text}");
    }
}

#[test]
fn when_all_is_over_nothing_of_the_person_is_left_and_everything_verifies() {
    for requester in [Party::Owner, root()] {
        let bench = Bench::new();
        let mut known = asked(terms(), requester);
        carried_out(&bench, &mut known);
        assert!(readable(&bench.text()).contains("alice.private"), "what will be gone was there");
        ended(&bench, &mut known);
        nothing_of_theirs(&bench.text(), "the audit log");
        nothing_of_theirs(&serde_json::to_string(&known.erasure).unwrap(), "the record");
        let signed = bench.signed(&known);
        nothing_of_theirs(&signed.to_json(), "the certificate");
        nothing_of_theirs(signed.jws(), "the signed text");
        assert!(bench.bears_out(&signed));
        let pinned = bench.log.public_key();
        assert_eq!(SignedCertificate::read(&signed.to_json(), Some(pinned)), Ok(signed));
    }
}

#[test]
fn a_certificate_tells_who_when_by_which_proof_what_was_done_and_what_was_seen() {
    let bench = Bench::new();
    let mut known = asked(terms(), root());
    carried_out(&bench, &mut known);
    ended(&bench, &mut known);
    let told: Value = serde_json::to_value(bench.signed(&known).certificate()).unwrap();
    assert_eq!((&told["type"], &told["state"]), (&json!("certificate"), &json!("erased")));
    assert_eq!(told["requested_by"], json!({"party": "caller", "issuer_url": testing::ISSUER, "name": "root"}));
    assert_eq!(told["subject"]["hash"], json!("00".repeat(32)));
    let proof = json!({"acr": "urn:example:acr:mfa", "amr": ["pwd", "otp"], "factors": ["totp"], "age_secs": 7,
        "grant": "g-1", "request_id": "r-1"});
    assert_eq!(told["proof"], proof);
    assert_eq!(told["scope"]["summary"], "Your account");
    assert_eq!(told["terms"], json!(&*known.erasure.terms));
    let decisions: Vec<_> =
        told["decisions"].as_array().unwrap().iter().map(|one| (&one["event"], &one["by"]["name"])).collect();
    let olga = json!("olga");
    let (held, released, accepted) = (json!("held"), json!("released"), json!("step_accepted"));
    assert_eq!(decisions, [(&held, &olga), (&released, &olga), (&accepted, &olga)]);
    let calls: Vec<_> = told["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["outcome"], &one["status"], &one["attempts"]))
        .collect();
    assert_eq!(calls[0], (&json!("done"), &json!(204), &json!(2)));
    assert_eq!(calls[1].0, &json!("accepted"));
    assert_eq!(told["calls"][0]["target"], "/accounts/{subject}", "a template");
    let probe = &told["probes"][0];
    assert_eq!((&probe["before"]["there"], &probe["before"]["status"]), (&json!(true), &json!(200)));
    let looks: Vec<_> = probe["looks"].as_array().unwrap().iter().map(|look| &look["seen"]["status"]).collect();
    assert_eq!(looks, [&json!(404), &json!(410)]);
    assert_eq!(
        told["result"],
        "Every step was done, 1 of them by a person's word. 1 of 1 probes saw the data before, and none of these saw it afterwards."
    );
    assert_eq!(told["records"].as_array().unwrap().len(), known.erasure.events.len());
    assert!(
        told["times"]["begun"].is_string()
            && told["times"]["ended"].is_string()
            && told["times"].get("issued").is_none()
    );
    let own = asked(terms(), Party::Owner);
    let told = serde_json::to_value(certificate(&own, START)).unwrap();
    assert_eq!(told["requested_by"], json!({"party": "owner"}), "the erased person has no name in it");
}

#[test]
fn what_is_under_way_has_a_report_and_what_was_cancelled_a_certificate() {
    let bench = Bench::new();
    let mut known = asked(testing::terms(1000, 2, 1, &[0]), Party::Owner);
    let report = bench.signed(&known);
    let told = report.certificate();
    assert_eq!((told.kind, &*told.state, told.unrecorded), (CertificateKind::Report, "held", 1));
    assert_eq!(told.result, "It is held. Nothing was erased.");
    assert!(told.times.contains_key("issued") && told.times.contains_key("held_until"));
    assert!(SignedCertificate::read(report.jws(), None).is_ok());
    bench.place(&mut known, START);
    let report = bench.signed(&known);
    assert!(bench.bears_out(&report));
    does(&mut known, Command::Cancel(Party::Owner), START + 10);
    assert_eq!(bench.signed(&known).certificate().kind, CertificateKind::Report, "its end is not in the chain yet");
    bench.place(&mut known, START + 10);
    let signed = bench.signed(&known);
    let told = signed.certificate();
    assert_eq!((told.kind, &*told.state), (CertificateKind::Certificate, "cancelled"));
    assert_eq!(told.result, "It was cancelled before anything that erases was sent. Nothing was erased.");
    assert!(bench.bears_out(&signed) && bench.bears_out(&report), "an older report is still true");
    assert_eq!(bench.log.certify(certificate(&known, START + 77)).unwrap(), signed, "whenever it is asked for");
    nothing_of_theirs(&signed.to_json(), "the certificate");
    assert!(known.erasure.personal.is_none());
}

#[test]
fn what_was_not_seen_is_not_claimed() {
    let bench = Bench::new();
    let mut known = asked(testing::terms(0, 1, 0, &[]), Party::Owner);
    bench.place(&mut known, START);
    let begin = [
        Command::TakeLease(Lease { holder: ME, until: START + 100_000 }),
        Command::Begin(ME),
        Command::Send(ME, 0),
        Command::Answered(ME, 0, Answer::Status(404, 0)),
    ];
    for command in begin {
        does(&mut known, command, START + 1);
        bench.place(&mut known, START + 1);
    }
    ended(&bench, &mut known);
    let told = certificate(&known, START);
    assert_eq!(told.result, "Every step was done. Nothing verified it: no probe saw the data before.");
    assert_eq!(told.calls[0].status, Some(404));
}

#[test]
fn each_event_is_the_same_record_whenever_it_is_told() {
    let bench = Bench::new();
    let mut known = asked(terms(), root());
    let mut told: Vec<_> = Vec::new();
    let note = |known: &Known, told: &mut Vec<_>| {
        told.extend(known.erasure.unplaced().map(|event| (event.number, entry(known, event))));
    };
    note(&known, &mut told);
    bench.place(&mut known, START);
    does(&mut known, Command::Hold(HoldKind::Legal, root(), "her lawsuit".into()), START + 1);
    note(&known, &mut told);
    bench.place(&mut known, START + 1);
    does(&mut known, Command::Release(HoldKind::Legal, root()), START + 2);
    // A crash before their places were in the row: told once more, as things are by now.
    for (number, _) in &told {
        let event = &known.erasure.events[*number as usize];
        block_on(bench.log.erasure(entry(&known, event))).unwrap();
    }
    bench.place(&mut known, START + 2);
    assert!(bench.bears_out(&bench.signed(&known)));
    assert_eq!(told[1].1.reason.as_deref(), Some("her lawsuit"));
}

#[test]
fn every_kind_of_event_is_a_record_that_names_nobody_in_the_chain() {
    let bench = Bench::new();
    let mut known = asked(terms(), root());
    carried_out(&bench, &mut known);
    let all: Vec<What> = known.erasure.events.iter().map(|event| event.what.clone()).collect();
    assert!(all.iter().any(|what| matches!(what, What::StepParked { .. })));
    let chain: String =
        bench.text().lines().map(|line| line.split(",\"disclosures\"").next().unwrap().to_owned() + "\n").collect();
    for name in THEIRS.iter().chain(&["root", "olga"]) {
        assert!(!readable(&chain).contains(name), "{name} stands in the chain: {chain}");
    }
    for word in ["step0", "probe0", "\"status\":204", "\"attempt\":2", "\"detail\":\"refused\"", "/accounts/{subject}"]
    {
        assert!(chain.contains(word), "{word} is missing: {chain}");
    }
}

#[test]
fn nobody_is_struck_out_twice_nor_by_another_claim() {
    let mut known = asked(terms(), root());
    let whose = struck(&known.erasure).unwrap();
    assert_eq!(
        (&*whose.subjects, whose.under.as_deref()),
        (&["alice.private".into()][..], Some("/accounts/alice.private"))
    );
    assert_eq!(whose.request_ids, ["r-1".into()]);
    assert!(!format!("{whose:?}").contains("alice"));
    known.erasure.whose.claim = super::record::Selector::Name("account".into());
    assert!(struck(&known.erasure).unwrap().subjects.is_empty(), "the claim's value may be another person's subject");
    known.erasure.personal = None;
    assert_eq!(struck(&known.erasure), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]
    /// Whatever a person is called, it is nowhere afterwards.
    #[test]
    fn whatever_they_are_called_it_is_gone(name in "Zq[\\PC]{6,30}", other in "Zx[a-z\"\\\\{}]{6,20}") {
        let bench = Bench::new();
        let mut known = asked(terms(), Party::Owner);
        let personal = known.erasure.personal.as_mut().unwrap();
        personal.subject = name.as_str().into();
        personal.token_subject = Some(name.as_str().into());
        personal.values.insert("captured.x".into(), other.as_str().into());
        carried_out(&bench, &mut known);
        ended(&bench, &mut known);
        let signed = bench.signed(&known);
        prop_assert!(bench.bears_out(&signed));
        let escaped = |value: &str| serde_json::to_string(value).unwrap().trim_matches('"').to_owned();
        for text in [bench.text(), signed.to_json(), serde_json::to_string(&known.erasure).unwrap()] {
            let text = readable(&text);
            for value in [&name, &other] {
                prop_assert!(!text.contains(value.as_str()) && !text.contains(&escaped(value)));
            }
        }
    }
}

/// The record as it is kept, for its size: a certificate is made of it, and needs no place of its own there.
#[test]
fn a_record_with_all_the_events_that_it_may_have_makes_a_certificate() {
    let bench = Bench::new();
    let mut known = asked(terms(), root());
    let one = known.erasure.events[0].clone();
    known.erasure.events = (0..2000)
        .map(|number| super::record::Event {
            number,
            what: What::Held { kind: HoldKind::Legal },
            place: Some(Place { seq: u64::from(number) + 1, hash: "A".repeat(43).into() }),
            ..one.clone()
        })
        .collect::<Vec<_>>();
    let signed = bench.log.certify(certificate(&known, START)).unwrap();
    assert!(SignedCertificate::read(&signed.to_json(), None).is_ok());
}
