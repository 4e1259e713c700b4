//! The audit log from end to end: real files, every tampering, every place at which a crash may cut.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    clock::Now,
    policy::{Assurance, Covers, Factor, Factors, Kind, Marks, Principal, SecondFactor},
    telemetry::Metrics,
};

/// 2026-11-22T02:40:17.120Z
pub(super) const START_MS: u64 = 1_795_315_217_120;

pub(super) struct TestClock {
    start: Instant,
    passed_ms: AtomicU64,
}

impl TestClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), passed_ms: AtomicU64::new(0) })
    }

    pub(super) fn pass(&self, by: Duration) {
        self.passed_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let passed = self.passed_ms.load(Ordering::SeqCst);
        Now { unix_ms: START_MS + passed, instant: self.start + Duration::from_millis(passed) }
    }
}

pub(super) fn files(folder: &Path) -> AuditFiles {
    AuditFiles {
        file: folder.join("audit.jsonl"),
        key: folder.join("audit.key"),
        head_interval: Duration::from_secs(60),
    }
}

pub(super) fn open_at(folder: &Path, clock: Arc<dyn Clock>) -> Result<AuditLog, AuditFault> {
    AuditLog::open(&files(folder), clock, Metrics::new().unwrap().audit())
}

pub(super) fn open(folder: &Path) -> AuditLog {
    open_at(folder, TestClock::new()).unwrap()
}

pub(super) fn attempt(reason: Reason) -> Attempt {
    let assurance = Assurance {
        acr: Some("urn:example:acr:mfa".into()),
        further_acr: Box::default(),
        amr: ["pwd".into(), "otp".into()].into(),
        auth_time: Some(1_795_315_157.5),
        ..Assurance::default()
    };
    let principal = Principal {
        issuer: "main".into(),
        issuer_url: "https://idp.example/".into(),
        subject: "ann".into(),
        client: Some("the-app".into()),
        scopes: Box::default(),
        assurance,
        expires_at: None,
        leeway_secs: 30.0,
        claims: Value::Null,
        kind: Kind::Person,
        marks: Marks::default(),
        binding: None,
        limits: Box::default(),
        told: crate::policy::Told::default(),
    };
    Attempt {
        possession: None,
        second_factors: Default::default(),
        grant: None,
        unix_ms: START_MS,
        principal: Arc::new(principal),
        address: "192.0.2.7".parse().unwrap(),
        method: "DELETE".into(),
        route: "/items/{id}".into(),
        upstream: None,
        operation: "DELETE /**".into(),
        path: "/items/forty-two".into(),
        path_params: vec![("id".into(), "forty-two".into())],
        request_id: "r-1".into(),
        reason,
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(super) fn intend(log: &AuditLog) -> IntentId {
    block_on(log.intent(attempt(Reason::Allowed))).unwrap()
}

pub(super) fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join("audit.jsonl")).unwrap()
}

pub(super) fn head(folder: &Path) -> Head {
    Head::parse(&fs::read_to_string(folder.join("audit.jsonl.head")).unwrap()).unwrap()
}

pub(super) fn key(folder: &Path) -> PublicKey {
    PublicKey::parse(&fs::read_to_string(folder.join("audit.jsonl.pub")).unwrap()).unwrap()
}

pub(super) fn records(folder: &Path) -> Vec<Value> {
    text(folder).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) fn kinds(folder: &Path) -> Vec<String> {
    records(folder).iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect()
}

/// A closed log with one record of each kind that a quiet day brings.
fn day() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let intent = intend(&log);
    log.outcome(intent, Outcome::Answered { status: 204 });
    log.refusal(attempt(Reason::AuthenticationTooOld));
    log.anonymous(Reason::TokenMissing, &"/items/{id}".into());
    log.anonymous(Reason::TokenMissing, &"/items/{id}".into());
    log.anonymous(Reason::TokenExpired, &"/items/{id}".into());
    assert!(log.close());
    folder
}

#[test]
fn an_outcome_that_comes_after_the_end_is_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new().unwrap();
    let log = AuditLog::open(&files(folder.path()), TestClock::new(), metrics.audit()).unwrap();
    let failures = || {
        let rendered = metrics.render(TestClock::new().now()).unwrap();
        let line = rendered.lines().find(|line| line.starts_with("stepgate_audit_failures_total"));
        line.and_then(|line| line.rsplit_once(' ')).unwrap().1.to_owned()
    };
    let (in_time, late) = (intend(&log), intend(&log));
    log.outcome(in_time, Outcome::Answered { status: 204 });
    assert!(log.close());
    assert_eq!(failures(), "0");
    log.outcome(late, Outcome::Answered { status: 204 });
    assert_eq!(failures(), "1");
}

#[test]
fn a_record_says_which_second_factor_it_rests_on_by_which_way_and_when() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let factors = Factors::NONE.with(Factor::Totp);
    let second = SecondFactor {
        assurance: Assurance {
            acr: Some("urn:example:acr:mfa".into()),
            amr: ["pwd".into(), "otp".into(), "mfa".into()].into(),
            auth_time: Some(1_795_315_210.0),
            factors,
            ..Assurance::default()
        },
        factors,
        categories: factors.iter().map(Factor::category).collect(),
        covers: Covers::Grant { level: "delete".into(), bound: true },
        may_delete: true,
    };
    let attempt = Attempt {
        second_factors: [Arc::new(second)].into_iter().collect(),
        grant: Some("g-1".into()),
        ..attempt(Reason::Allowed)
    };
    let intent = block_on(log.intent(attempt)).unwrap();
    log.outcome(intent, Outcome::Answered { status: 204 });
    assert!(log.close());
    let proof = &records(folder.path())[0]["proof"];
    let second = json!([{
        "way": "bound_grant", "level": "delete", "factors": ["totp"], "acr": "urn:example:acr:mfa",
        "amr": ["pwd", "otp", "mfa"], "auth_time": 1_795_315_210, "age_secs": 7,
    }]);
    assert_eq!((&proof["second_factors"], &proof["grant"]), (&second, &json!("g-1")));
    assert_eq!(proof["amr"], json!(["pwd", "otp"]), "the token's own beside it");
}

#[test]
fn each_record_says_who_what_and_why_and_names_nobody_in_the_chain() {
    let folder = day();
    let records = records(folder.path());
    assert_eq!(kinds(folder.path()), ["intent", "outcome", "refusal", "attempts"]);
    let intent = &records[0];
    assert_eq!(intent["time"], "2026-11-22T02:40:17.120Z");
    assert_eq!(intent["op"], json!({"method": "DELETE", "route": "/items/{id}", "guard": "DELETE /**"}));
    let proof =
        json!({"acr": "urn:example:acr:mfa", "amr": ["pwd", "otp"], "auth_time": 1_795_315_157.5, "age_secs": 59});
    assert_eq!(intent["proof"], proof);
    assert_eq!((&intent["decision"], &intent["reason"]), (&json!("allowed"), &json!("allowed")));
    assert_eq!((&records[1]["intent"], &records[1]["status"]), (&json!(1), &json!(204)));
    assert_eq!((&records[2]["decision"], &records[2]["reason"]), (&json!("refused"), &json!("authentication_too_old")));
    let counts = json!([
        {"reason": "token_missing", "route": "/items/{id}", "count": 2},
        {"reason": "token_expired", "route": "/items/{id}", "count": 1},
    ]);
    assert_eq!(records[3]["counts"], counts);
    let disclosed: Vec<_> = intent["disclosures"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
    let disclosed: Vec<_> = disclosed.into_iter().map(|d| disclosure::read(d).unwrap()).collect();
    let expected = [
        ("subject", "ann"),
        ("client", "the-app"),
        ("address", "192.0.2.7"),
        ("path", "/items/forty-two"),
        ("path_params.id", "forty-two"),
    ];
    assert_eq!(disclosed, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let written = text(folder.path());
    for secret in ["\"ann\"", "the-app", "192.0.2.7", "forty-two"] {
        assert!(!written.contains(secret), "{secret} stands in clear");
    }
}

/// A log of what the authority did.
fn ceremonies() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let record = AuthorityRecord {
        unix_ms: START_MS,
        happening: Happening::Ceremony { occasion: "step_up", outcome: "refused" },
        factor: Some("totp"),
        issuer_url: "https://idp.example/".into(),
        subject: "ann".into(),
        operator: None,
        address: Some("192.0.2.7".parse().unwrap()),
        request_id: Some("r-2".into()),
    };
    log.authority(record.clone());
    log.authority(AuthorityRecord {
        happening: Happening::Change { change: "reset", detail: "" },
        factor: None,
        operator: Some("olga".into()),
        address: None,
        request_id: None,
        ..record.clone()
    });
    log.authority(AuthorityRecord { subject: "x".repeat(1 << 17).into(), ..record });
    assert!(log.close());
    folder
}

#[test]
fn what_the_authority_does_is_recorded_names_nobody_in_the_chain_and_verifies() {
    let folder = ceremonies();
    let records = records(folder.path());
    assert_eq!(kinds(folder.path()), ["ceremony", "change"], "what no line could hold is lost and counted");
    let ceremony = &records[0];
    assert_eq!((&ceremony["occasion"], &ceremony["outcome"]), (&json!("step_up"), &json!("refused")));
    assert_eq!((&ceremony["factor"], &ceremony["request_id"]), (&json!("totp"), &json!("r-2")));
    assert_eq!(ceremony["who"], json!({"issuer_url": "https://idp.example/"}));
    let disclosed = |record: &Value| -> Vec<(String, String)> {
        let all = record["disclosures"].as_array().unwrap().iter();
        all.map(|one| disclosure::read(one.as_str().unwrap()).unwrap()).collect()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(disclosed(ceremony), [pair("subject", "ann"), pair("address", "192.0.2.7")]);
    assert_eq!((&records[1]["change"], records[1].get("detail")), (&json!("reset"), None));
    assert_eq!(disclosed(&records[1]), [pair("subject", "ann"), pair("operator", "olga")]);
    let written = text(folder.path());
    for name in ["\"ann\"", "192.0.2.7", "olga"] {
        assert!(!written.contains(name), "{name} stands in clear");
    }
    let verified = || verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), Some(&key(folder.path())));
    assert_eq!(verified().unwrap().records, 2);
    assert_eq!(
        erase(&folder.path().join("audit.jsonl"), |name, value| (name, value) == ("subject", "ann")).unwrap(),
        2
    );
    assert_eq!(verified().unwrap().erased, 2);
}

#[test]
fn what_was_written_verifies_under_its_head_and_key() {
    let folder = day();
    let (head, key) = (head(folder.path()), key(folder.path()));
    let report = verify(text(folder.path()).as_bytes(), Some(&head), Some(&key)).unwrap();
    assert_eq!((report.records, report.vouched, report.erased, report.open_intents), (4, 4, 0, 0));
    assert_eq!(report.hash, head.hash);
}

fn findings(text: &[u8], folder: &Path) -> Vec<Finding> {
    verify(text, Some(&head(folder)), Some(&key(folder))).unwrap_err()
}

#[test]
fn a_change_of_any_single_byte_is_found() {
    let folder = day();
    let good = text(folder.path()).into_bytes();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(!findings(&bad, folder.path()).is_empty(), "byte {at}");
    }
}

#[test]
fn removed_moved_repeated_and_inserted_lines_are_found_where_they_are() {
    let folder = day();
    let good = text(folder.path());
    let lines: Vec<&str> = good.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    for gone in 0..lines.len() {
        let mut bad = lines.clone();
        bad.remove(gone);
        let found = findings(joined(&bad).as_bytes(), folder.path());
        assert_eq!(found[0].line, gone as u64 + 1, "{found:?}");
    }
    for (one, other) in [(0, 1), (1, 2), (0, 3)] {
        let mut bad = lines.clone();
        bad.swap(one, other);
        assert_eq!(findings(joined(&bad).as_bytes(), folder.path())[0].line, one as u64 + 1);
    }
    for at in 0..lines.len() {
        let mut bad = lines.clone();
        bad.insert(at, lines[at]);
        assert_eq!(findings(joined(&bad).as_bytes(), folder.path())[0].line, at as u64 + 2);
    }
}

#[test]
fn a_truncated_file_is_found_by_its_head_and_a_torn_line_without() {
    let folder = day();
    let good = text(folder.path());
    let shorter: String = good.lines().take(3).map(|line| format!("{line}\n")).collect();
    assert!(verify(shorter.as_bytes(), None, None).is_ok());
    let found = findings(shorter.as_bytes(), folder.path());
    assert_eq!(
        found,
        [Finding { line: 4, offset: shorter.len() as u64, fault: Fault::Truncated { head: 4, records: 3 } }]
    );
    let torn = verify(&good.as_bytes()[..good.len() - 1], None, None).unwrap_err();
    assert_eq!((torn[0].line, &torn[0].fault), (4, &Fault::Torn));
}

/// The same records with `old` replaced by `new`, and every hash made anew, as a forger without the key would do it.
pub(super) fn rechained(text: &str, old: &str, new: &str) -> String {
    let mut forged = String::new();
    let mut prev = record::GENESIS.to_owned();
    for line in text.lines() {
        let split = record::Line::split(line.as_bytes()).unwrap();
        let body = String::from_utf8(split.body.to_vec()).unwrap().replace(old, new);
        let (front, _) = body.split_once(",\"prev\":").unwrap();
        let body = format!("{front},\"prev\":\"{prev}\"");
        prev = record::hash_of(body.as_bytes());
        let rest = line.split_once(split.hash).map(|(_, rest)| rest).unwrap();
        forged.push_str(&format!("{body},\"hash\":\"{prev}{rest}\n"));
    }
    forged
}

#[test]
fn a_chain_made_anew_is_found_by_the_head_and_no_other_key_can_sign_for_it() {
    let folder = day();
    let forged = rechained(&text(folder.path()), "\"status\":204", "\"status\":500");
    assert!(verify(forged.as_bytes(), None, None).is_ok());
    assert_eq!(findings(forged.as_bytes(), folder.path())[0].fault, Fault::Head);
    let own = head::Signer::load_or_create(&folder.path().join("own.key")).unwrap();
    let report = verify(forged.as_bytes(), None, None).unwrap();
    let signed = own.sign(report.records, &report.hash, "2026-11-22T02:40:17.120Z".into());
    assert!(verify(forged.as_bytes(), Some(&signed), None).is_ok());
    let found = verify(forged.as_bytes(), Some(&signed), Some(&key(folder.path()))).unwrap_err();
    assert_eq!(found[0].fault, Fault::HeadSignature);
    let altered = Head { count: 3, ..head(folder.path()) };
    assert_eq!(verify(forged.as_bytes(), Some(&altered), None).unwrap_err()[0].fault, Fault::HeadSignature);
}

#[test]
fn a_member_that_stands_twice_is_found_even_in_a_chain_made_anew() {
    let folder = day();
    let forged = rechained(&text(folder.path()), "\"status\":204", "\"status\":204,\"status\":500");
    let found = verify(forged.as_bytes(), None, None).unwrap_err();
    assert!(
        matches!(&found[0].fault, Fault::Content(text) if text.contains("\"status\" stands there twice")),
        "{found:?}"
    );
    let nested = rechained(&text(folder.path()), "\"acr\":", "\"acr\":\"x\",\"acr\":");
    assert!(verify(nested.as_bytes(), None, None).is_err());
    let behind = text(folder.path()).replacen("\"]}\n", "\"],\"kind\":\"refusal\"}\n", 1);
    assert_eq!(findings(behind.as_bytes(), folder.path())[0].fault, Fault::Form);
}

#[test]
fn erased_disclosures_leave_the_chain_whole_and_altered_ones_do_not() {
    let folder = day();
    let good = text(folder.path());
    let first = good.lines().next().unwrap();
    let disclosures: Vec<&str> = record::Line::split(first.as_bytes()).unwrap().disclosures;
    let (subject, client) = (disclosures[0], disclosures[1]);
    let without = good.replacen(&format!("\"{subject}\","), "", 1);
    let report = verify(without.as_bytes(), Some(&head(folder.path())), Some(&key(folder.path()))).unwrap();
    assert_eq!(report.erased, 1);
    let (start, _) = first.split_once(",\"disclosures\"").unwrap();
    for nothing in [format!("{start}}}"), format!("{start},\"disclosures\":[]}}")] {
        let report = verify(good.replacen(first, &nothing, 1).as_bytes(), Some(&head(folder.path())), None).unwrap();
        assert_eq!(report.erased, 5);
    }
    let mut other = disclosure::Commitments::default();
    other.commit("subject", "bob").unwrap();
    let altered = good.replacen(subject, &other.disclosures[0], 1);
    assert_eq!(findings(altered.as_bytes(), folder.path())[0].fault, Fault::Disclosure);
    let moved = good.replacen(&format!("\"{subject}\",\"{client}\""), &format!("\"{client}\",\"{subject}\""), 1);
    assert_eq!(findings(moved.as_bytes(), folder.path())[0].fault, Fault::Disclosure);
    let twice = good.replacen(&format!("\"{subject}\""), &format!("\"{subject}\",\"{subject}\""), 1);
    assert_eq!(findings(twice.as_bytes(), folder.path())[0].fault, Fault::Disclosure);
}

#[test]
fn a_crash_at_any_byte_loses_no_whole_record_and_the_log_goes_on() {
    let folder = day();
    let good = text(folder.path());
    let ends: Vec<usize> = good.match_indices('\n').map(|(at, _)| at + 1).collect();
    // Within the first line, at each line's end, and within the last but one.
    let cuts = (0..ends[0]).step_by(23).chain(ends.iter().copied()).chain((ends[1]..ends[2]).step_by(61));
    for cut in cuts.chain([1, ends[0] - 1, ends[0] + 1, ends[2] - 1]) {
        let crashed = tempfile::tempdir().unwrap();
        fs::copy(folder.path().join("audit.key"), crashed.path().join("audit.key")).unwrap();
        fs::write(crashed.path().join("audit.jsonl"), &good.as_bytes()[..cut]).unwrap();
        let log = open(crashed.path());
        let intent = intend(&log);
        log.outcome(intent, Outcome::Answered { status: 200 });
        assert!(log.close());
        let whole = ends.iter().copied().filter(|&end| end <= cut).max().unwrap_or(0);
        let now = text(crashed.path());
        assert_eq!(now[..whole], good[..whole], "cut at {cut}");
        let report = verify(now.as_bytes(), Some(&head(crashed.path())), Some(&key(crashed.path()))).unwrap();
        assert_eq!(report.open_intents, 0, "cut at {cut}");
        let aside = crashed.path().join(format!("audit.jsonl.torn-{}", START_MS / 1000));
        let torn = fs::read(&aside).unwrap_or_default();
        let body = |line: &[u8]| line.windows(8).position(|text| text == b"\"hash\":\"").unwrap_or(line.len());
        let cut_off = &good.as_bytes()[whole..cut];
        assert_eq!((torn.len(), &torn[..body(&torn)]), (cut_off.len(), &cut_off[..body(cut_off)]), "cut at {cut}");
        let said = torn.split(|byte| *byte == b'"').filter_map(|text| disclosure::read(str::from_utf8(text).ok()?));
        assert_eq!(said.count(), 0, "cut at {cut}: what lies aside names nobody");
        assert_eq!(kinds(crashed.path()).contains(&"recovered".to_owned()), cut > whole, "cut at {cut}");
    }
}

#[test]
fn an_acknowledged_intent_is_in_the_file_and_gets_an_unknown_outcome_after_a_crash() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(folder.path());
    let intent = intend(&log);
    // What a kill at this instant would leave.
    fs::copy(folder.path().join("audit.jsonl"), crashed.path().join("audit.jsonl")).unwrap();
    log.outcome(intent, Outcome::Answered { status: 204 });
    drop(log);
    drop(open(crashed.path()));
    let records = records(crashed.path());
    assert_eq!(kinds(crashed.path()), ["intent", "outcome"]);
    assert_eq!((&records[1]["intent"], &records[1]["result"]), (&json!(1), &json!("unknown")));
    assert_eq!(kinds(folder.path()), ["intent", "outcome"]);
}

#[test]
fn an_intent_that_is_dropped_records_that_nobody_knows() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    drop(intend(&log));
    log.close();
    assert_eq!(records(folder.path())[1]["result"], "unknown");
}

/// Says when a task is woken.
struct Woken(mpsc::Sender<()>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// Asks for an intent and leaves without looking for the answer again; what its outcome is to be.
fn leave(log: &AuditLog, meanwhile: impl FnOnce(&mpsc::Receiver<()>)) -> &'static str {
    let (told, answered) = mpsc::channel();
    let waker = Waker::from(Arc::new(Woken(told)));
    let mut asked = Box::pin(log.intent(attempt(Reason::Allowed)));
    match asked.as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Pending => {
            meanwhile(&answered);
            "failed"
        }
        // The disk was faster than the look.
        Poll::Ready(intent) => {
            drop(intent.unwrap());
            "unknown"
        }
    }
}

/// What became of each intent of a log under which nothing is under way any more.
fn outcomes(log: &AuditLog, folder: &Path) -> Vec<(Value, Value)> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while log.under_way() > 0 {
        assert!(Instant::now() < deadline, "{} are under way", log.under_way());
        thread::yield_now();
    }
    assert!(log.close());
    assert_eq!(log.under_way(), 0);
    let report = verify(text(folder).as_bytes(), Some(&head(folder)), None).unwrap();
    assert_eq!(report.open_intents, 0, "{:?}", kinds(folder));
    let records = records(folder).into_iter().filter(|record| record["kind"] == "outcome");
    records.map(|record| (record["result"].clone(), record["reason"].clone())).collect()
}

/// A result with the reason that belongs to it.
fn with_reason(result: &str) -> (Value, Value) {
    (json!(result), if result == "failed" { json!("client_gone") } else { Value::Null })
}

#[test]
fn a_client_that_leaves_while_its_intent_waits_is_counted_once_and_its_outcome_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut expected = Vec::new();
    for _ in 0..20 {
        // Keeps the disk busy.
        for _ in 0..50 {
            log.refusal(attempt(Reason::AcrInsufficient));
        }
        expected.push(with_reason(leave(&log, |_| ())));
        assert!(log.under_way() <= 20, "{}", log.under_way());
    }
    let mut told = outcomes(&log, folder.path());
    told.sort_by_key(|(result, _)| result.to_string());
    expected.sort_by_key(|(result, _)| result.to_string());
    assert_eq!(told, expected);
}

#[test]
fn a_client_that_leaves_before_it_has_seen_the_answer_is_counted_once_and_its_outcome_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let result = leave(&log, |answered| {
        answered.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(log.under_way(), 1, "nobody has taken it over yet");
    });
    assert_eq!(outcomes(&log, folder.path()), [with_reason(result)]);
}

#[test]
fn an_intent_that_waits_for_the_disk_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut asked = Box::pin(log.intent(attempt(Reason::Allowed)));
    let first = asked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(log.under_way(), 1);
    let intent = match first {
        Poll::Pending => block_on(asked),
        Poll::Ready(intent) => intent,
    };
    assert_eq!(log.under_way(), 1);
    log.outcome(intent.unwrap(), Outcome::Answered { status: 204 });
    assert_eq!(log.under_way(), 0);
    fs::rename(folder.path().join("audit.jsonl"), folder.path().join("moved")).unwrap();
    assert!(block_on(log.intent(attempt(Reason::Allowed))).is_err());
    assert!(block_on(log.intent(Attempt { path: "x".repeat(100_000).into(), ..attempt(Reason::Allowed) })).is_err());
    assert_eq!(log.under_way(), 0, "what is refused is not");
}

#[test]
fn many_intents_at_once_are_all_durable_and_numbered_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path()));
    thread::scope(|scope| {
        for _ in 0..4 {
            let log = Arc::clone(&log);
            scope.spawn(move || {
                for _ in 0..25 {
                    let intent = intend(&log);
                    log.outcome(intent, Outcome::Failed { reason: Reason::UpstreamReset });
                }
            });
        }
    });
    log.close();
    let report = verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), None).unwrap();
    assert_eq!((report.records, report.open_intents), (200, 0));
}

#[test]
fn while_the_file_is_gone_intents_are_refused_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let metrics = Metrics::new().unwrap();
    let log = AuditLog::open(&files(folder.path()), Arc::<TestClock>::clone(&clock), metrics.audit()).unwrap();
    let (path, moved) = (folder.path().join("audit.jsonl"), folder.path().join("moved"));
    let before = intend(&log);
    fs::rename(&path, &moved).unwrap();
    for _ in 0..2 {
        let refused = block_on(log.intent(attempt(Reason::Allowed))).unwrap_err();
        assert!(matches!(refused, AuditFault::Unwritable));
        assert!(!log.is_writable());
    }
    log.outcome(before, Outcome::Answered { status: 204 });
    log.refusal(attempt(Reason::QuotaExceeded));
    fs::rename(&moved, &path).unwrap();
    clock.pass(Duration::from_secs(2));
    log.refusal(attempt(Reason::AcrInsufficient));
    assert!(log.close());
    assert!(log.is_writable());
    assert_eq!(kinds(folder.path()), ["intent", "recovered", "outcome", "refusal", "refusal"]);
    assert_eq!(records(folder.path())[1]["unwritable_from"], "2026-11-22T02:40:17.120Z");
    assert!(verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), None).is_ok());
    let rendered = metrics.render(clock.now()).unwrap();
    assert!(rendered.contains("stepgate_audit_failures_total 2"), "{rendered}");
}

#[test]
fn a_second_process_and_a_file_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    assert!(matches!(open_at(folder.path(), TestClock::new()), Err(AuditFault::Locked { .. })));
    drop(log);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("audit.jsonl"), "to my wife\n").unwrap();
    assert!(matches!(open_at(other.path(), TestClock::new()), Err(AuditFault::Foreign { .. })));
    assert_eq!(text(other.path()), "to my wife\n");
}

#[test]
fn a_file_that_lost_records_while_nobody_looked_says_so_itself() {
    let folder = day();
    let good = text(folder.path());
    let shorter: String = good.lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(folder.path().join("audit.jsonl"), shorter).unwrap();
    drop(open(folder.path()));
    let records = records(folder.path());
    assert_eq!((&records[2]["kind"], &records[2]["head_count"]), (&json!("recovered"), &json!(4)));
    let kept = fs::read_to_string(folder.path().join(records[2]["head_file"].as_str().unwrap())).unwrap();
    assert_eq!(Head::parse(&kept).unwrap().count, 4);
}

#[test]
fn the_head_is_signed_at_intervals() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let log = open_at(folder.path(), Arc::<TestClock>::clone(&clock)).unwrap();
    let first = intend(&log);
    let second = intend(&log);
    clock.pass(Duration::from_secs(61));
    let third = intend(&log);
    // An answer is given before the head is written; the one to the fourth comes after the head behind the third.
    let fourth = intend(&log);
    assert!(head(folder.path()).count >= 3);
    drop((first, second, third, fourth));
}

#[test]
fn attempts_without_a_principal_are_written_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let log = open_at(folder.path(), Arc::<TestClock>::clone(&clock)).unwrap();
    for _ in 0..1000 {
        log.anonymous(Reason::TokenMissing, &"/x".into());
    }
    drop(intend(&log));
    clock.pass(Duration::from_secs(60));
    drop(intend(&log));
    drop(intend(&log));
    log.close();
    let (kinds, records) = (kinds(folder.path()), records(folder.path()));
    let counted: Vec<usize> = (0..kinds.len()).filter(|&at| kinds[at] == "attempts").collect();
    let last_intent = kinds.iter().rposition(|kind| kind == "intent").unwrap();
    assert!(matches!(counted[..], [at] if at > 0 && at < last_intent), "{kinds:?}");
    assert_eq!(records[counted[0]]["counts"][0]["count"], 1000);
}

#[test]
fn an_attempt_that_no_line_could_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let huge = Attempt { path: "x".repeat(100_000).into(), ..attempt(Reason::Allowed) };
    assert!(matches!(block_on(log.intent(huge)), Err(AuditFault::TooLarge)));
    let large = Attempt { path: "\u{1}".repeat(90_000).into(), ..attempt(Reason::Allowed) };
    drop(block_on(log.intent(large)).unwrap());
    drop(log);
    assert!(verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), None).is_ok());
    drop(open(folder.path()));
    assert_eq!(kinds(folder.path()), ["intent", "outcome"]);
}

#[test]
fn a_person_is_erased_while_the_log_is_written_and_the_chain_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let before = intend(&log);
    let path = folder.path().join("audit.jsonl");
    assert_eq!(erase(&path, |name, value| name == "subject" && value == "bob").unwrap(), 0);
    assert_eq!(erase(&path, |name, value| name == "subject" && value == "ann").unwrap(), 1);
    assert_eq!(erase(&path, |name, _| name.starts_with("path")).unwrap(), 2);
    let after = intend(&log);
    log.outcome(before, Outcome::Answered { status: 204 });
    log.outcome(after, Outcome::Answered { status: 204 });
    assert!(log.close());
    let report = verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), None).unwrap();
    assert_eq!((report.records, report.erased), (4, 3));
    assert!(erase(&path, |_, _| true).unwrap() == 7 && erase(&path, |_, _| true).unwrap() == 0);
    drop(open(folder.path()));
    assert_eq!(verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), None).unwrap().erased, 10);
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange_for_the_verifier(lines in proptest::collection::vec(
        proptest::prop_oneof![".*", r#"\{"v":1,"seq":[0-9]{1,3},"prev":"x","hash":"[A-Z]{43}"(,"disclosures":\[("[-a]*",?)*\])?\}"#], 0..4,
    )) {
        proptest::prop_assert!(lines.is_empty() || verify(lines.join("\n").as_bytes(), None, None).is_err() || lines == [""]);
    }
}

/// Says to the test's second self where to write; the first has it killed.
const CHILD: &str = "STEPGATE_AUDIT_TEST_CHILD";

/// What the second self does: writes intents for ever, and says of each that it is durable.
fn write_until_killed(folder: &Path) {
    let log = open_at(folder, Arc::new(crate::clock::SystemClock)).unwrap();
    for n in 1.. {
        let intent = intend(&log);
        println!("\ndurable");
        if n % 2 == 0 {
            log.outcome(intent, Outcome::Answered { status: 204 });
        } else {
            std::mem::forget(intent);
        }
    }
}

#[test]
fn a_kill_at_any_instant_loses_no_acknowledged_intent() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return write_until_killed(Path::new(&folder));
    }
    let name = "telemetry::audit::tests::a_kill_at_any_instant_loses_no_acknowledged_intent";
    for acknowledged in [1, 2, 7, 50] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name, "--nocapture"]).env(CHILD, folder.path());
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = said.map_while(Result::ok).filter(|line| line == "durable").take(acknowledged).count();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(open(folder.path()));
        let report = verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), None).unwrap();
        let intents = kinds(folder.path()).iter().filter(|kind| *kind == "intent").count();
        assert!(intents >= said && said == acknowledged, "{intents} of {acknowledged}");
        assert_eq!(report.open_intents, 0);
    }
}
