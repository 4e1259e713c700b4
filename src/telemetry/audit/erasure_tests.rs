//! Evidence of deletions, attacked: what is told in the chain, what a certificate says of it, and what is struck out of it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    erase::{Pass, strike_out},
    tests::{
        START_MS, TestClock, attempt, block_on, head, intend, key, kinds, open, open_at, rechained, records, text,
    },
    *,
};
use crate::policy::Principal;

const ISSUER: &str = "https://idp.example/";

fn event(id: &str, number: u32, event: &'static str) -> ErasureRecord {
    ErasureRecord {
        unix_ms: START_MS + u64::from(number),
        id: id.into(),
        plan: "account".into(),
        number,
        event,
        detail: "",
        call: None,
        by: ErasureParty::Gateway,
        subject: None,
        reason: None,
        request_id: None,
    }
}

/// The life of a deletion that an administrator asked for: whose it is, who did what, and a step.
fn life(id: &str) -> Vec<ErasureRecord> {
    let by = |name: &str| ErasureParty::Caller { issuer_url: ISSUER.into(), subject: name.into() };
    let call = ErasureCall {
        name: "primary".into(),
        upstream: "accounts".into(),
        method: "DELETE".into(),
        target: "/accounts/{subject}".into(),
        status: Some(204),
        attempt: 2,
    };
    vec![
        ErasureRecord {
            by: by("root"),
            subject: Some((ISSUER.into(), "ann".into())),
            request_id: Some("r-1".into()),
            ..event(id, 0, "requested")
        },
        ErasureRecord {
            by: ErasureParty::Operator("olga".into()),
            detail: "legal",
            reason: Some("ann sues us".into()),
            ..event(id, 1, "held")
        },
        event(id, 2, "begun"),
        ErasureRecord { call: Some(call), ..event(id, 3, "step_done") },
        event(id, 4, "erased"),
    ]
}

fn tell(log: &AuditLog, record: &ErasureRecord) -> Place {
    block_on(log.erasure(record.clone())).unwrap()
}

fn certificate(id: &str, events: &[(ErasureRecord, Place)]) -> Certificate {
    let named = |(record, place): &(ErasureRecord, Place)| CertifiedRecord {
        number: record.number,
        event: record.event.to_owned(),
        seq: place.seq,
        hash: place.hash.to_string(),
    };
    Certificate {
        v: 0,
        kind: CertificateKind::Certificate,
        id: id.to_owned(),
        plan: "account".to_owned(),
        operation: "DELETE /accounts/{id}".to_owned(),
        state: "erased".to_owned(),
        result: "erased".to_owned(),
        subject: CertifiedSubject {
            issuer_url: ISSUER.to_owned(),
            claim: "subject".to_owned(),
            hash: "0123".to_owned(),
        },
        requested_by: CertifiedParty {
            party: "caller".to_owned(),
            issuer_url: Some(ISSUER.to_owned()),
            name: Some("root".to_owned()),
        },
        proof: CertifiedProof::default(),
        times: [("requested".to_owned(), moment(1)), ("ended".to_owned(), moment(2))].into(),
        scope: CertifiedScope { summary: "All of it.".to_owned(), ..CertifiedScope::default() },
        terms: "00".to_owned(),
        decisions: Vec::new(),
        calls: Vec::new(),
        own_data: None,
        probes: Vec::new(),
        records: events.iter().map(named).collect(),
        unrecorded: 0,
        key: String::new(),
    }
}

/// A closed log with two whole deletions among other records, and the certificate of the first.
fn world() -> (TempDir, SignedCertificate) {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut told = Vec::new();
    for (one, other) in life("d-1").into_iter().zip(life("d-2")) {
        let intent = intend(&log);
        let place = tell(&log, &one);
        tell(&log, &other);
        log.outcome(intent, Outcome::Answered { status: 202 });
        told.push((one, place));
    }
    let signed = log.certify(certificate("d-1", &told)).unwrap();
    assert!(log.close());
    (folder, signed)
}

/// Whether a log bears a certificate out, as `stepgate audit verify --certificate` asks.
fn bears_out(text: &str, folder: &Path, certificate: &str) -> Result<(), String> {
    let key = key(folder);
    let signed = SignedCertificate::read(certificate, Some(&key)).map_err(|fault| fault.to_string())?;
    let mut sought = Sought::new(signed.certificate());
    verify_and_seek(text.as_bytes(), Some(&head(folder)), Some(&key), Some(&mut sought))
        .map_err(|findings| findings[0].to_string())?;
    sought.mismatches().first().map_or(Ok(()), |mismatch| Err(mismatch.to_string()))
}

#[test]
fn an_event_is_durable_when_its_place_is_known_and_names_nobody_in_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    for record in life("d-1") {
        let place = tell(&log, &record);
        let last = records(folder.path()).pop().unwrap();
        assert_eq!((&last["seq"], &last["hash"]), (&json!(place.seq), &json!(&*place.hash)), "in the file already");
    }
    assert!(log.close());
    let records = records(folder.path());
    let requested = &records[0];
    assert_eq!((&requested["erasure"], &requested["event"]), (&json!("d-1"), &json!("requested")));
    assert_eq!((&requested["number"], &requested["request_id"]), (&json!(0), &json!("r-1")));
    assert_eq!(requested["by"], json!({"party": "caller", "issuer_url": ISSUER}));
    assert_eq!(requested["who"], json!({"issuer_url": ISSUER}));
    assert_eq!((&records[1]["detail"], &records[1]["by"]), (&json!("legal"), &json!({"party": "operator"})));
    let call = json!({"name": "primary", "upstream": "accounts", "method": "DELETE", "target": "/accounts/{subject}",
        "status": 204, "attempt": 2});
    assert_eq!(records[3]["call"], call);
    let written = text(folder.path());
    for name in ["\"ann\"", "ann sues us", "root", "olga"] {
        assert!(!written.contains(name), "{name} stands in clear");
    }
    let report = verify(written.as_bytes(), Some(&head(folder.path())), Some(&key(folder.path()))).unwrap();
    assert_eq!((report.records, report.erased), (5, 0));
}

#[test]
fn an_event_that_cannot_be_written_is_refused_and_told_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let log = open_at(folder.path(), Arc::<TestClock>::clone(&clock)).unwrap();
    let record = event("d-1", 0, "requested");
    let (path, moved) = (folder.path().join("audit.jsonl"), folder.path().join("moved"));
    fs::rename(&path, &moved).unwrap();
    for _ in 0..2 {
        assert!(matches!(block_on(log.erasure(record.clone())), Err(AuditFault::Unwritable)));
    }
    fs::rename(&moved, &path).unwrap();
    clock.pass(Duration::from_secs(2));
    // Whatever is written first brings the log back.
    log.refusal(attempt(Reason::QuotaExceeded));
    let told = (0..1000).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        block_on(log.erasure(record.clone())).ok()
    });
    assert_eq!(told.unwrap().seq, records(folder.path()).len() as u64);
    let huge = ErasureRecord { reason: Some("x".repeat(1 << 17).into()), ..record };
    assert!(matches!(block_on(log.erasure(huge)), Err(AuditFault::TooLarge)));
}

#[test]
fn an_event_told_again_after_a_crash_is_the_same_one_and_told_otherwise_it_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let all = life("d-1");
    let first: Vec<Place> = all.iter().map(|record| tell(&log, record)).collect();
    // The crash came before the row knew the places, so all but the first are told again.
    let again: Vec<Place> = all[1..].iter().map(|record| tell(&log, record)).collect();
    let read = || text(folder.path());
    assert!(verify(read().as_bytes(), None, None).is_ok());
    // Whichever place the row has in the end, the certificate is borne out.
    for later in [&first[1..], &again] {
        let places = [&first[..1], later].concat();
        let told: Vec<_> = all.iter().cloned().zip(places).collect();
        let signed = log.certify(certificate("d-1", &told)).unwrap();
        let mut sought = Sought::new(signed.certificate());
        verify_and_seek(read().as_bytes(), None, None, Some(&mut sought)).unwrap();
        assert_eq!(sought.mismatches(), []);
    }
    let lie = ErasureRecord { event: "step_done", ..all[2].clone() };
    tell(&log, &lie);
    let found = verify(read().as_bytes(), None, None).unwrap_err();
    assert_eq!((found[0].line, &found[0].fault), (10, &Fault::Event { erasure: "d-1".into(), number: 2 }));
}

#[test]
fn a_certificate_is_borne_out_by_the_log_that_it_was_made_from() {
    let (folder, signed) = world();
    for form in [signed.jws().to_owned(), signed.to_json(), format!("{}\n", signed.jws())] {
        assert_eq!(bears_out(&text(folder.path()), folder.path(), &form), Ok(()));
    }
    let read = SignedCertificate::read(&signed.to_json(), None).unwrap();
    assert_eq!(read, signed);
    assert_eq!((read.certificate().v, &*read.certificate().key), (1, &*key(folder.path()).to_text()));
}

#[test]
fn a_certificate_is_the_same_bytes_whenever_it_is_made() {
    let (folder, signed) = world();
    let log = open(folder.path());
    assert_eq!(log.certify(signed.certificate().clone()).unwrap().jws(), signed.jws());
}

#[test]
fn no_letter_of_a_certificate_can_be_changed() {
    let (folder, signed) = world();
    let key = key(folder.path());
    let jws = signed.jws();
    for at in 0..jws.len() {
        for other in ["A", "-", ".", "="] {
            let altered = format!("{}{other}{}", &jws[..at], &jws[at + 1..]);
            let read = SignedCertificate::read(&altered, Some(&key));
            assert!(altered == jws || read.is_err(), "{at} {other}");
        }
    }
    let json = signed.to_json();
    let altered = json.replacen("\"erased\"", "\"cancelled\"", 1);
    assert_eq!(SignedCertificate::read(&altered, Some(&key)), Err(CertificateFault::Readable));
    let twice = json.replacen("{", "{\"jws\": \"x\",", 1);
    assert_eq!(SignedCertificate::read(&twice, Some(&key)), Err(CertificateFault::Form));
}

/// A JWS of any header and payload, signed by a key.
fn forged(signer: &head::Signer, header: &str, payload: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = signer.signature(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn another_key_another_purpose_and_another_header_sign_no_certificate() {
    let (folder, signed) = world();
    let own = head::Signer::load_or_create(&folder.path().join("own.key")).unwrap();
    let theirs = SignedCertificate::sign(signed.certificate().clone(), &own).unwrap();
    assert!(SignedCertificate::read(theirs.jws(), None).is_ok(), "without a pinned key it is one");
    let text_of = text(folder.path());
    assert!(bears_out(&text_of, folder.path(), theirs.jws()).unwrap_err().contains("is not the one"), "swapped key");
    // The log's key, and a payload that is right, below headers that are not.
    let audit = head::Signer::load_or_create(&folder.path().join("audit.key")).unwrap();
    let kid = key(folder.path()).to_text();
    let payload = serde_json::to_vec(signed.certificate()).unwrap();
    let typ = "stepgate-erasure-certificate";
    let good = format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{kid}"}}"#);
    assert!(SignedCertificate::read(&forged(&audit, &good, &payload), None).is_ok());
    for header in [
        format!(r#"{{"alg":"none","typ":"{typ}","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{kid}","crit":["b64"],"b64":false}}"#),
        format!(r#"{{"typ":"{typ}","alg":"EdDSA","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"EdDSA","typ":"{typ}"}}"#),
        String::new(),
    ] {
        let fault = SignedCertificate::read(&forged(&audit, &header, &payload), None).unwrap_err();
        assert_eq!(fault, CertificateFault::Form, "{header}");
    }
    // A signature over a head is none over a certificate, and a certificate's none over a head.
    let signed_head = head(folder.path());
    let message = jws_message(signed.jws());
    let grafted = format!("{message}.{}", signed_head.sig);
    assert_eq!(SignedCertificate::read(&grafted, None), Err(CertificateFault::Signature));
    let grafted = Head { sig: signed.jws().rsplit('.').next().unwrap().to_owned(), ..signed_head };
    assert!(!grafted.is_signed_by(None));
}

fn jws_message(jws: &str) -> &str {
    jws.rsplit_once('.').unwrap().0
}

#[test]
fn what_the_right_key_signed_is_still_no_certificate_if_it_makes_no_sense() {
    let (folder, signed) = world();
    let audit = head::Signer::load_or_create(&folder.path().join("audit.key")).unwrap();
    let read = |change: &dyn Fn(&mut Certificate)| {
        let mut certificate = signed.certificate().clone();
        change(&mut certificate);
        let signed = SignedCertificate::sign(certificate, &audit).unwrap();
        SignedCertificate::read(signed.jws(), None).map(|_| ())
    };
    assert_eq!(read(&|_| ()), Ok(()));
    assert_eq!(read(&|certificate| certificate.unrecorded = 1), Err(CertificateFault::Records));
    assert_eq!(read(&|certificate| certificate.records.clear()), Err(CertificateFault::Records));
    assert_eq!(read(&|certificate| certificate.records.swap(0, 1)), Err(CertificateFault::Records));
    let unfinished = |certificate: &mut Certificate| {
        certificate.kind = CertificateKind::Report;
        certificate.unrecorded = 1;
    };
    assert_eq!(read(&unfinished), Ok(()));
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(signed.jws().split('.').next().unwrap()).unwrap()).unwrap();
    let payload = serde_json::to_string(signed.certificate()).unwrap();
    for odd in [
        payload.replacen("{", "{\"v\":1,", 1),
        payload.replacen("\"v\":1", "\"v\":2", 1),
        payload.replacen("{", "{\"more\":1,", 1),
    ] {
        let read = SignedCertificate::read(&forged(&audit, &header, odd.as_bytes()), None);
        assert!(matches!(read, Err(CertificateFault::Content(_))), "{odd}");
    }
    let large = Certificate { result: "x".repeat(MAX_CERTIFICATE), ..signed.certificate().clone() };
    assert_eq!(SignedCertificate::sign(large, &audit), Err(CertificateFault::TooLarge));
}

#[test]
fn a_certificate_of_another_deletion_or_of_fewer_events_is_not_borne_out() {
    let (folder, signed) = world();
    let log_text = text(folder.path());
    let log = open(folder.path());
    let against = |change: &dyn Fn(&mut Certificate)| {
        let mut certificate = signed.certificate().clone();
        change(&mut certificate);
        let signed = log.certify(certificate).unwrap();
        let mut sought = Sought::new(signed.certificate());
        verify_and_seek(log_text.as_bytes(), None, None, Some(&mut sought)).unwrap();
        sought.mismatches()
    };
    assert_eq!(against(&|_| ()), []);
    // It takes the records of another one for its own.
    let other = against(&|certificate| certificate.id = "d-2".to_owned());
    assert!(matches!(other[0], Mismatch::Other { number: 0, .. }) && other.len() == 5, "{other:?}");
    let nobody = against(&|certificate| certificate.id = "d-3".to_owned());
    assert!(matches!(nobody[0], Mismatch::Missing { number: 0, .. }), "{nobody:?}");
    let plan = against(&|certificate| certificate.plan = "other".to_owned());
    assert!(matches!(plan[0], Mismatch::Missing { number: 0, .. }), "{plan:?}");
    let fewer = against(&|certificate| certificate.records.truncate(3));
    assert_eq!(fewer.len(), 2);
    assert!(matches!(&fewer[0], Mismatch::Omitted { number: 3, event } if event == "step_done"), "{fewer:?}");
    let renamed = against(&|certificate| certificate.records[1].event = "approved".to_owned());
    assert!(matches!(renamed[..], [Mismatch::Other { number: 1, .. }]), "{renamed:?}");
    let elsewhere = against(&|certificate| certificate.records[1].seq += 1);
    assert!(matches!(elsewhere[..], [Mismatch::Other { number: 1, .. }]), "{elsewhere:?}");
    let edited = against(&|certificate| certificate.records[1].hash = certificate.records[2].hash.clone());
    assert!(matches!(edited[..], [Mismatch::Other { number: 1, .. }]), "{edited:?}");
    // A report is of what there was when it was made.
    let report = Certificate { kind: CertificateKind::Report, ..signed.certificate().clone() };
    let report = Certificate { records: report.records[..2].to_vec(), ..report };
    let mut sought = Sought::new(&report);
    verify_and_seek(log_text.as_bytes(), None, None, Some(&mut sought)).unwrap();
    assert_eq!((sought.mismatches(), sought.further().count()), (vec![], 3));
}

#[test]
fn a_deletion_whose_records_are_in_two_logs_is_borne_out_by_both_and_by_neither_alone() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (open(old.path()), open(new.path()));
    drop(intend(&other));
    let all = life("d-1");
    let told = |log: &AuditLog, some: &[ErasureRecord]| -> Vec<_> {
        some.iter().map(|record| (record.clone(), tell(log, record))).collect()
    };
    let events = [told(&one, &all[..2]), told(&other, &all[2..])].concat();
    let signed = other.certify(certificate("d-1", &events)).unwrap();
    let found = |folders: &[&Path]| {
        let mut sought = Sought::new(signed.certificate());
        for folder in folders {
            verify_and_seek(text(folder).as_bytes(), None, None, Some(&mut sought)).unwrap();
            sought.next_log();
        }
        sought.mismatches().len()
    };
    assert_eq!(found(&[old.path(), new.path()]), 0);
    assert_eq!(found(&[new.path(), old.path()]), 0, "in whichever order");
    assert_eq!((found(&[old.path()]), found(&[new.path()])), (3, 2));
}

#[test]
fn every_change_of_the_log_that_touches_a_deletion_is_found() {
    let (folder, signed) = world();
    let good = text(folder.path());
    let lines: Vec<&str> = good.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let is_found = |text: &str, what: &str| {
        assert_ne!(text, good, "{what}");
        assert!(bears_out(text, folder.path(), signed.jws()).is_err(), "{what}");
    };
    is_found(&good.replacen("\"event\":\"begun\"", "\"event\":\"erased\"", 1), "edited");
    is_found(&rechained(&good, "\"status\":204", "\"status\":404"), "edited, and every hash made anew");
    let place = lines.iter().position(|line| line.contains("\"event\":\"held\"")).unwrap();
    let mut removed = lines.clone();
    removed.remove(place);
    is_found(&joined(&removed), "removed");
    is_found(&rechained(&joined(&removed), "", ""), "removed, and every hash made anew");
    let mut moved = lines.clone();
    moved.swap(place, place + 1);
    is_found(&joined(&moved), "moved");
    let mut doubled = lines.clone();
    doubled.insert(place, lines[place]);
    is_found(&joined(&doubled), "doubled");
    is_found(&joined(&lines[..lines.len() - 3]), "truncated");
    let (elsewhere, _) = world();
    let other = text(elsewhere.path());
    let other: Vec<&str> = other.lines().collect();
    let mut spliced = lines.clone();
    spliced[place] = other[place];
    is_found(&joined(&spliced), "spliced from another log");
    is_found(&joined(&[&lines[..place], &other[place..]].concat()), "continued with another log");
    assert!(bears_out(&joined(&other), elsewhere.path(), signed.jws()).is_err(), "another log and its key");
}

fn of(subject: &str, path: &str, request_id: &str) -> Attempt {
    let attempt = attempt(Reason::Allowed);
    let principal = Principal { subject: subject.into(), ..(*attempt.principal).clone() };
    Attempt {
        principal: Arc::new(principal),
        path: path.into(),
        path_params: vec![("id".into(), path.rsplit('/').next().unwrap().into())],
        request_id: request_id.into(),
        ..attempt
    }
}

fn whose() -> Vec<Struck> {
    vec![Struck {
        id: "d-1".into(),
        issuer_url: ISSUER.into(),
        subjects: vec!["ann".into()],
        request_ids: vec!["r-1".into()],
        under: Some("/accounts/42".into()),
        until: None,
    }]
}

/// What is disclosed in the log: record, name, value.
fn disclosed(folder: &Path) -> Vec<(u64, String, String)> {
    let of = |record: &Value| {
        let seq = record["seq"].as_u64().unwrap();
        let all = record["disclosures"].as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned());
        all.filter_map(|one| disclosure::read(&one)).map(|(name, value)| (seq, name, value)).collect::<Vec<_>>()
    };
    records(folder).iter().flat_map(of).collect()
}

/// Ann's own records, an administrator's about her, others' about others, her deletion and somebody else's.
fn people(log: &AuditLog) {
    log.refusal(of("ann", "/items/7", "r-0"));
    log.refusal(of("root", "/by-number/42", "r-1"));
    log.refusal(of("root", "/accounts/42", "r-2"));
    log.refusal(of("root", "/accounts/42/photos", "r-3"));
    log.refusal(of("root", "/accounts/421", "r-4"));
    log.refusal(of("bob", "/accounts/9", "r-5"));
    log.authority(AuthorityRecord {
        unix_ms: START_MS,
        happening: Happening::Change { change: "reset", detail: "" },
        factor: None,
        issuer_url: ISSUER.into(),
        subject: "ann".into(),
        operator: Some("olga".into()),
        address: Some("192.0.2.9".parse().unwrap()),
        request_id: None,
    });
    log.authority(AuthorityRecord {
        unix_ms: START_MS,
        happening: Happening::Change { change: "reset", detail: "" },
        factor: None,
        issuer_url: "https://other.example/".into(),
        subject: "ann".into(),
        operator: None,
        address: None,
        request_id: None,
    });
    for record in life("d-1") {
        tell(log, &record);
    }
    let acted = ErasureParty::Caller { issuer_url: ISSUER.into(), subject: "ann".into() };
    let subject = Some((ISSUER.into(), "bob".into()));
    tell(log, &ErasureRecord { by: acted, subject, ..event("d-2", 0, "requested") });
}

#[test]
fn a_person_leaves_the_log_wholly_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    people(&log);
    let before = disclosed(folder.path());
    let struck = block_on(log.strike(whose())).unwrap();
    assert_eq!(block_on(log.strike(whose())).unwrap(), 0, "nothing is left to strike out");
    assert!(log.close());
    let after = disclosed(folder.path());
    assert_eq!(before.len() - after.len(), struck as usize);
    let left = |seq: u64| -> Vec<String> {
        after.iter().filter(|one| one.0 == seq).map(|(_, name, value)| format!("{name}={value}")).collect()
    };
    assert_eq!(left(1), [""; 0], "her own: all");
    let root = ["subject=root", "client=the-app", "address=192.0.2.7"];
    for seq in 2..=4 {
        assert_eq!(left(seq), root, "another's about her: {seq}");
    }
    assert!(left(5).contains(&"path=/accounts/421".to_owned()), "no beginning of a name is the name");
    assert_eq!(left(6).len(), 5, "bob's");
    assert_eq!(left(7), ["operator=olga"], "who did it stays");
    assert_eq!(left(8), ["subject=ann"], "another issuer's ann is another person");
    assert_eq!(left(9), ["caller=root"]);
    assert_eq!(left(10), ["operator=olga"], "a reason may name anybody");
    assert_eq!(left(14), ["subject=bob"], "what she did to others names them, and her no longer");
    assert_eq!(kinds(folder.path()).last().unwrap(), "struck", "and the chain says so");
    let report = verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), Some(&key(folder.path()))).unwrap();
    assert_eq!((report.erased, report.erased_unnamed, report.unerased), (struck, 0, 0));
}

#[test]
fn what_is_struck_out_by_no_deletion_is_told_from_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    people(&log);
    let copy = text(folder.path());
    let struck = block_on(log.strike(whose())).unwrap();
    assert!(log.close());
    let path = folder.path().join("audit.jsonl");
    // An administrator hides who deleted whom, in records that are named by the chain and in others.
    let hidden = erase(&path, |name, value| (name, value) == ("subject", "root")).unwrap();
    let report = verify(text(folder.path()).as_bytes(), None, None).unwrap();
    assert_eq!((report.erased, report.erased_unnamed), (struck + hidden, hidden));
    // Disclosures that are taken away altogether are no different.
    let gone = text(folder.path()).replacen(",\"disclosures\":[", ",\"disclosures\":[]}\n#", 1);
    let line = gone.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect::<String>();
    assert_eq!(verify(line.as_bytes(), None, None).unwrap().erased_unnamed, hidden);
    // An older copy brings a person back: the chain that goes on knows.
    let now = text(folder.path());
    let revived = format!("{copy}{}", now.get(copy.len()..).unwrap());
    let report = verify(revived.as_bytes(), None, None).unwrap();
    assert_eq!((report.erased, report.unerased), (0, struck));
    // Nobody can say so beforehand, or of what is to come.
    for (old, new) in
        [("\"records\":\"1:", "\"records\":\"99:"), ("\"records\":\"", "\"records\":\"x"), ("\"records\"", "\"rec\"")]
    {
        assert!(verify(rechained(&now, old, new).as_bytes(), None, None).is_err(), "{new}");
    }
}

#[test]
fn a_crash_at_any_point_of_a_strike_leaves_what_the_next_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    people(&log);
    assert!(log.close());
    let (path, whole) = (folder.path().join("audit.jsonl"), text(folder.path()));
    forget(&path, &whose()).unwrap();
    let done = text(folder.path());
    let places: Vec<usize> = (0..whole.len()).filter(|&at| whole.as_bytes()[at] != done.as_bytes()[at]).collect();
    assert!(!places.is_empty());
    // Everything that may be on the disk after a crash: the turns before wholly, any part of the present one.
    for turn in 0..3 {
        for part in 0..6_u32 {
            fs::write(&path, &whole).unwrap();
            let whose = whose();
            let people = strike::People::new(&whose);
            let mut pass = Pass::over(&path, u64::MAX, None).unwrap();
            let found = pass.next(&|outline, disclosed| people.judge(outline, disclosed)).unwrap();
            let found = erase::as_after_a_crash(found, turn, part);
            strike_out(&path, &found).unwrap();
            forget(&path, &whose).unwrap();
            assert_eq!(text(folder.path()), done, "turn {turn}, part {part}");
        }
    }
}

#[test]
fn people_are_struck_out_while_the_log_is_written_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path()));
    for n in 0..200 {
        log.refusal(of("ann", &format!("/items/{n}"), "r-0"));
    }
    let (stop, written) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Bounded: a log that grows faster than it is read would never have been read.
                for _ in (0..2000).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let intent = block_on(log.intent(of("bob", "/accounts/9", "r-5"))).unwrap();
                    log.outcome(intent, Outcome::Answered { status: 204 });
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            // Many who ask at once share their passes.
            let asked: Vec<_> = (0..20).map(|_| log.strike(whose())).collect();
            runtime.block_on(async {
                for asked in asked {
                    asked.await.unwrap();
                }
            });
            for n in 0..20 {
                log.refusal(of("ann", &format!("/more/{n}"), "r-0"));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // What is durable is struck out, and refusals are not waited for: an intent is, and comes after them.
    let intent = block_on(log.intent(of("bob", "/accounts/9", "r-5"))).unwrap();
    log.outcome(intent, Outcome::Answered { status: 204 });
    written.fetch_add(1, Ordering::Relaxed);
    block_on(log.strike(whose())).unwrap();
    assert!(log.close() && log.is_writable());
    let report = verify(text(folder.path()).as_bytes(), Some(&head(folder.path())), Some(&key(folder.path()))).unwrap();
    assert_eq!((report.open_intents, report.erased_unnamed, report.unerased), (0, 0, 0));
    assert_eq!(report.erased, 300 * 5, "all of hers");
    let after = disclosed(folder.path());
    assert!(!after.iter().any(|(_, _, value)| value == "ann"));
    let bobs = after.iter().filter(|(_, name, value)| name == "subject" && value == "bob").count();
    assert_eq!(bobs as u64, written.load(Ordering::Relaxed), "all of his");
}

#[test]
fn nothing_is_struck_out_that_the_chain_cannot_be_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    people(&log);
    let before = text(folder.path());
    assert!(log.close());
    assert!(block_on(log.strike(whose())).is_err());
    assert_eq!(text(folder.path()), before);
}

#[test]
fn nobody_is_taken_for_struck_out_while_the_log_is_elsewhere_or_shorter_than_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    people(&log);
    let (path, aside) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
    let whole = text(folder.path());
    fs::rename(&path, &aside).unwrap();
    assert!(block_on(log.strike(whose())).is_err(), "there is none");
    for other in ["", &whole] {
        fs::write(&path, other).unwrap();
        assert!(block_on(log.strike(whose())).is_err(), "another one");
    }
    fs::rename(&aside, &path).unwrap();
    let end = whole.match_indices('\n').next().unwrap().0 + 1;
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end as u64).unwrap();
    assert!(block_on(log.strike(vec![Struck { subjects: vec!["nobody".into()], ..whose().remove(0) }])).is_err());
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert!(block_on(log.strike(whose())).is_err(), "its end is not there");
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, whole.as_bytes()).unwrap();
    assert!(block_on(log.strike(whose())).unwrap() > 0);
}

/// What somebody may do to a log with the file in their hands.
#[derive(Debug, Clone)]
enum Tampering {
    Flip { at: usize, bit: u8 },
    Remove { at: usize },
    Swap { one: usize, other: usize },
    Double { from: usize, to: usize },
    Cut { at: usize },
    Rechain { at: usize },
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Tampering::Flip { at, bit }),
        any::<usize>().prop_map(|at| Tampering::Remove { at }),
        (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Tampering::Swap { one, other }),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Tampering::Double { from, to }),
        any::<usize>().prop_map(|at| Tampering::Cut { at }),
        any::<usize>().prop_map(|at| Tampering::Rechain { at }),
    ]
}

fn tampered(good: &[u8], how: &Tampering) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = good.split_inclusive(|&byte| byte == b'\n').collect();
    let count = lines.len();
    match *how {
        Tampering::Flip { at, bit } => {
            let mut bytes = good.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            return bytes;
        }
        Tampering::Remove { at } => drop(lines.remove(at % count)),
        Tampering::Swap { one, other } => lines.swap(one % count, other % count),
        Tampering::Double { from, to } => lines.insert(to % count, lines[from % count]),
        Tampering::Cut { at } => return good[..at % good.len()].to_vec(),
        Tampering::Rechain { at } => {
            lines.remove(at % count);
            // What is no record any more stays away from whoever makes the chain anew.
            let is_sound = |line: &&[u8]| {
                let line = line.strip_suffix(b"\n").and_then(record::Line::split);
                line.is_some_and(|line| line.is_sound())
            };
            lines.retain(is_sound);
            let text: String = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
            return rechained(&text, "", "").into_bytes();
        }
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_to_a_log_is_found(hows in proptest::collection::vec(tampering(), 1..4)) {
        let (folder, signed) = world();
        let good = text(folder.path());
        let bad = hows.iter().fold(good.clone().into_bytes(), |bytes, how| {
            if bytes.is_empty() || std::str::from_utf8(&bytes).is_err() { bytes } else { tampered(&bytes, how) }
        });
        prop_assume!(bad != good.as_bytes());
        let key = key(folder.path());
        let mut sought = Sought::new(signed.certificate());
        let verified = verify_and_seek(&*bad, Some(&head(folder.path())), Some(&key), Some(&mut sought));
        prop_assert!(verified.is_err() || !sought.mismatches().is_empty(), "{hows:?}");
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused_as_a_certificate(text in prop_oneof![
        ".*", "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}", r#"\{"certificate":[0-9]{1,3},"jws":".{0,20}"\}"#,
    ]) {
        prop_assert!(SignedCertificate::read(&text, None).is_err());
    }
}
