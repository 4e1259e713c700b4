//! The list against a plain model of it, and the file after every kind of end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    identity::testing::known,
};

/// The second at which tests revoke.
const NOW: u64 = 1_800_000_000;

/// A second on both clocks.
fn at(secs: u64) -> Now {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { unix_ms: secs * 1000, instant: *FIRST + Duration::from_secs(secs) }
}

/// A second on the wall clock, which has gone ahead of the other.
fn leaped(secs: u64, ahead: u64) -> Now {
    Now { unix_ms: (secs + ahead) * 1000, ..at(secs) }
}

#[test]
fn a_clock_that_leaps_ahead_and_back_lets_nothing_through() {
    let folder = TempDir::new().unwrap();
    let list = Revocations::open(folder.path(), at(NOW)).unwrap();
    let wanted = Revocation { expires: Some(NOW + 600), ..naming("main", TargetKind::Jti, "stolen") };
    list.revoke(&[wanted], at(NOW)).unwrap();
    list.sweep(leaped(NOW + 10, 100_000_000));
    assert_eq!(list.counts().iter().map(|(_, count)| count).sum::<usize>(), 1, "the clock is set right in a moment");
    list.sweep(at(NOW + 599));
    assert_eq!(list.counts().iter().map(|(_, count)| count).sum::<usize>(), 1);
    list.sweep(at(NOW + 600));
    assert_eq!(list.counts().iter().map(|(_, count)| count).sum::<usize>(), 0);
}

fn naming(source: &str, kind: TargetKind, value: &str) -> Revocation {
    Revocation {
        source: source.into(),
        kind,
        value: value.into(),
        issued_before: None,
        expires: None,
        reason: None,
        by: "test".into(),
    }
}

fn caller(source: &str, subject: &str) -> Principal {
    let mut principal = Principal::clone(&known(subject).principal);
    principal.issuer = source.into();
    principal.marks.issued_at = Some(NOW as f64);
    principal
}

fn open(folder: &TempDir) -> Result<Revocations, RevocationFault> {
    Revocations::open(folder.path(), at(NOW))
}

fn revoke(list: &Revocations, revocation: Revocation) -> Arc<Entry> {
    list.revoke(&[revocation], at(NOW)).unwrap()[0].entry().clone()
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join(FILE_NAME)
}

#[test]
fn each_kind_names_what_it_says_of_its_own_source_alone() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    let mut alice = caller("main", "alice");
    alice.marks.id = Some("token-1".into());
    alice.marks.session = Some("session-1".into());
    alice.marks.key = Some("key-1".into());
    alice.claims = json!({"sub": "pairwise-1"});
    for (kind, value) in [
        (TargetKind::Jti, "token-1"),
        (TargetKind::Subject, "alice"),
        (TargetKind::Subject, "pairwise-1"),
        (TargetKind::Session, "session-1"),
        (TargetKind::Key, "key-1"),
        (TargetKind::All, ""),
    ] {
        for source in ["main", "*"] {
            let entry = revoke(&list, naming(source, kind, value));
            assert!(list.names(&alice, at(NOW)), "{kind} {value} of {source}");
            list.remove(entry.id, "test", at(NOW)).unwrap().unwrap();
            assert!(!list.names(&alice, at(NOW)));
        }
        let entry = revoke(&list, naming("other", kind, value));
        assert!(!list.names(&alice, at(NOW)), "{kind} {value} of another source");
        list.remove(entry.id, "test", at(NOW)).unwrap().unwrap();
        if kind != TargetKind::All {
            let entry = revoke(&list, naming("main", kind, "Alice"));
            assert!(!list.names(&alice, at(NOW)), "names are compared exactly");
            list.remove(entry.id, "test", at(NOW)).unwrap().unwrap();
        }
    }
    assert_eq!(list.counts().map(|(_, count)| count), [0; 5]);
}

#[test]
fn an_api_key_is_named_by_its_id_as_a_key_too_and_a_token_is_not_named_by_another_tokens_key() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    revoke(&list, naming("keys", TargetKind::Key, "k7"));
    let mut key = caller("keys", "robot");
    key.marks.id = Some("k7".into());
    assert!(list.names(&key, at(NOW)));
    key.marks.key = Some("other".into());
    assert!(!list.names(&key, at(NOW)));
}

#[test]
fn issued_before_spares_what_came_later_and_refuses_what_does_not_say_when_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    revoke(&list, Revocation { issued_before: Some(NOW), ..naming("main", TargetKind::Subject, "alice") });
    let mut alice = caller("main", "alice");
    for (issued_at, named) in [
        (Some(NOW as f64 - 1.0), true),
        (Some(NOW as f64 - 0.001), true),
        (Some(NOW as f64), false),
        (Some(f64::MAX), false),
        (Some(f64::NAN), true),
        (None, true),
    ] {
        alice.marks.issued_at = issued_at;
        assert_eq!(list.names(&alice, at(NOW)), named, "{issued_at:?}");
    }
}

#[test]
fn an_entry_ends_on_the_second_that_it_says_and_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    revoke(&list, Revocation { expires: Some(NOW + 10), ..naming("main", TargetKind::Subject, "alice") });
    let alice = caller("main", "alice");
    assert!(list.names(&alice, at(NOW + 9)));
    assert!(!list.names(&alice, at(NOW + 10)));
    list.sweep(at(NOW + 9));
    assert_eq!(list.page(&Filter { limit: 9, ..Filter::default() }).total, 1);
    list.sweep(at(NOW + 10));
    assert_eq!(list.page(&Filter { limit: 9, ..Filter::default() }).total, 0);
    drop(list);
    assert_eq!(Revocations::open(folder.path(), at(NOW)).unwrap().page(&Filter::default()).total, 1);
    assert_eq!(Revocations::open(folder.path(), at(NOW + 10)).unwrap().page(&Filter::default()).total, 0);
}

#[test]
fn what_is_refused_already_is_not_added_and_what_a_new_entry_covers_goes() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    let until =
        |before, expires| Revocation { issued_before: before, expires, ..naming("main", TargetKind::Subject, "alice") };
    let narrow = revoke(&list, until(Some(NOW), Some(NOW + 10)));
    let same = list.revoke(&[until(Some(NOW - 1), Some(NOW + 9))], at(NOW)).unwrap();
    assert_eq!(same, [Revoked::Covered(narrow.clone())]);
    let longer = revoke(&list, until(Some(NOW - 5), Some(NOW + 20)));
    assert_eq!(list.counts()[1].1, 2, "neither covers the other");
    let wide = list.revoke(&[until(None, None), until(Some(1), None)], at(NOW)).unwrap();
    assert!(matches!(&wide[..], [Revoked::Added(a), Revoked::Covered(b)] if a == b));
    assert_eq!(list.counts()[1].1, 1);
    assert!(list.entry(narrow.id).is_none() && list.entry(longer.id).is_none());
    drop(list);
    let list = open(&folder).unwrap();
    assert_eq!(list.page(&Filter { limit: 9, ..Filter::default() }).entries, [wide[0].entry().clone()]);
    // An entry for all sources covers one source's; one source's never covers another's.
    assert!(matches!(list.revoke(&[until(None, None)], at(NOW)).unwrap()[0], Revoked::Covered(_)));
    let other = Revocation { source: "other".into(), ..until(None, None) };
    assert!(matches!(list.revoke(&[other], at(NOW)).unwrap()[0], Revoked::Added(_)));
}

#[test]
fn what_cannot_be_meant_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    let good = naming("main", TargetKind::Subject, "alice");
    let long = "x".repeat(2049);
    for (bad, why) in [
        (naming("main", TargetKind::Subject, ""), EntryFault::Value),
        (naming("main", TargetKind::Subject, &long), EntryFault::Value),
        (naming("main", TargetKind::All, "x"), EntryFault::Value),
        (naming("", TargetKind::All, ""), EntryFault::Source),
        (Revocation { issued_before: Some(1), ..naming("main", TargetKind::Jti, "x") }, EntryFault::NeedlessTime),
        (Revocation { reason: Some(long.as_str().into()), ..good.clone() }, EntryFault::Text),
    ] {
        let fault = list.revoke(&[good.clone(), bad], at(NOW)).unwrap_err();
        assert!(matches!(&fault, RevocationFault::Entry(found) if *found == why), "{fault}");
    }
    assert!(!list.names(&caller("main", "alice"), at(NOW)));
}

#[test]
fn numbers_are_never_used_again_not_even_after_the_file_was_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    for round in 0..700_u64 {
        let entry = revoke(&list, naming("main", TargetKind::Jti, &round.to_string()));
        assert_eq!(entry.id, round + 1);
        list.remove(entry.id, "test", at(NOW)).unwrap().unwrap();
    }
    let kept = revoke(&list, naming("main", TargetKind::Jti, "kept"));
    let lines = fs::read_to_string(file(&folder)).unwrap().lines().count();
    assert!(lines < 500, "{lines} lines for one entry");
    drop(list);
    fs::write(folder.path().join("revocations.jsonl.new"), "left behind by a crash").unwrap();
    let list = open(&folder).unwrap();
    assert_eq!(list.entry(kept.id).unwrap(), kept);
    assert_eq!(revoke(&list, naming("main", TargetKind::Jti, "next")).id, kept.id + 1);
}

/// Kill -9 at any instant leaves a prefix of what was written.
#[test]
fn whatever_was_acknowledged_is_there_wherever_the_file_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    let start = fs::metadata(file(&folder)).unwrap().len();
    let state = |list: &Revocations| list.page(&Filter { limit: 99, ..Filter::default() }).entries;
    let mut acknowledged = vec![(start, state(&list))];
    let subjects = ["alice", "bob \"the\nbuilder\"", "zo\u{eb}", "carol"];
    for subject in subjects {
        revoke(&list, Revocation { reason: Some("lost".into()), ..naming("main", TargetKind::Subject, subject) });
        acknowledged.push((fs::metadata(file(&folder)).unwrap().len(), state(&list)));
    }
    list.remove(2, "test", at(NOW)).unwrap().unwrap();
    acknowledged.push((fs::metadata(file(&folder)).unwrap().len(), state(&list)));
    drop(list);
    let whole = fs::read(file(&folder)).unwrap();
    for cut in 0..=whole.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(file(&copy), &whole[..cut]).unwrap();
        let reopened = open(&copy);
        if (cut as u64) < start - 1 {
            // The file appears under its name with its first line in it, so this is no crash of ours.
            assert!(matches!(reopened, Err(RevocationFault::Corrupt { line: 1, .. })), "{cut}");
            continue;
        }
        let reopened = reopened.unwrap_or_else(|fault| panic!("{cut}: {fault}"));
        let last = acknowledged.iter().rposition(|(end, _)| *end <= cut as u64).unwrap_or(0);
        let found = state(&reopened);
        // A change that was being written is there or is not; nothing before it is missing.
        let next = acknowledged.get(last + 1).map(|(_, state)| state);
        assert!(found == acknowledged[last].1 || Some(&found) == next, "{cut}: {found:?}");
        let added = revoke(&reopened, naming("main", TargetKind::Subject, "dave"));
        drop(reopened);
        let again = open(&copy).unwrap_or_else(|fault| panic!("{cut}, after a change: {fault}"));
        assert_eq!(state(&again), [found, vec![added]].concat(), "{cut}");
    }
}

#[test]
fn a_file_that_does_not_say_what_it_must_stops_the_start_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let form = r#"{"revocations":1,"next":5}"#;
    let alice = r#"{"add":{"id":1,"at":1,"issuer":"main","subject":"alice","by":"x"}}"#;
    for (text, line) in [
        (String::new(), 1),
        ("\n".to_owned(), 1),
        ("{\"revocations\":2,\"next\":5}\n".to_owned(), 1),
        (format!("{alice}\n"), 1),
        (format!("{form}\nnonsense\n{alice}\n"), 2),
        (format!("{form}\n{alice}\n\n"), 3),
        (format!("{form}\n{alice}\n{alice}\n"), 3),
        (format!("{form}\n{{\"remove\":9,\"at\":1,\"by\":\"x\"}}\n"), 2),
        (format!("{form}\n{}\n", alice.replace("\"by\"", "\"but_not\":\"bob\",\"by\"")), 2),
        (format!("{form}\n{}\n", alice.replace("\"subject\":\"alice\",", "")), 2),
        (format!("{form}\n{}\n", alice.replace("subject", "subjects")), 2),
        (format!("{form}\n{}\n", alice.replace("\"at\":1", "\"at\":1,\"jti\":\"j\"")), 2),
        (format!("{form}\n{}", "x".repeat(40_000)), 2),
    ] {
        fs::write(file(&folder), &text).unwrap();
        let fault = open(&folder).unwrap_err();
        assert!(matches!(&fault, RevocationFault::Corrupt { line: at, .. } if *at == line), "{text}: {fault}");
        assert!(fault.to_string().contains(&format!("revocations.jsonl:{line}: ")), "{fault}");
        assert!(Revocations::read(folder.path(), at(NOW)).is_err());
        assert_eq!(fs::read_to_string(file(&folder)).unwrap(), text, "nothing was repaired away");
    }
    // An editor that leaves out the last line's end takes nothing away.
    fs::write(file(&folder), format!("{form}\n{alice}")).unwrap();
    let list = open(&folder).unwrap();
    assert!(list.names(&caller("main", "alice"), at(NOW)));
    assert_eq!(revoke(&list, naming("main", TargetKind::Subject, "bob")).id, 5);
    drop(list);
    assert_eq!(open(&folder).unwrap().counts()[1].1, 2);
}

#[test]
fn what_cannot_be_made_durable_is_not_in_force_and_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    revoke(&list, naming("main", TargetKind::Subject, "alice"));
    fs::rename(file(&folder), folder.path().join("moved")).unwrap();
    let bob = naming("main", TargetKind::Subject, "bob");
    assert!(matches!(list.revoke(std::slice::from_ref(&bob), at(NOW)), Err(RevocationFault::Io { .. })));
    assert!(matches!(list.remove(1, "test", at(NOW)), Err(RevocationFault::Io { .. })));
    assert!(list.names(&caller("main", "alice"), at(NOW)) && !list.names(&caller("main", "bob"), at(NOW)));
    fs::rename(folder.path().join("moved"), file(&folder)).unwrap();
    revoke(&list, bob.clone());
    assert!(list.names(&caller("main", "bob"), at(NOW)));
    // For reading alone nothing can be changed.
    let reader = Revocations::read(folder.path(), at(NOW)).unwrap();
    assert!(reader.names(&caller("main", "bob"), at(NOW)));
    let carol = naming("main", TargetKind::Subject, "carol");
    assert!(matches!(reader.revoke(&[carol], at(NOW)), Err(RevocationFault::ReadOnly)));
    assert!(Revocations::read(&folder.path().join("nowhere"), at(NOW)).is_ok());
}

#[test]
fn a_change_is_seen_by_all_threads_once_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let list = Arc::new(open(&folder).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let list = &list;
            scope.spawn(move || {
                for round in 0..50 {
                    let subject = format!("{thread}-{round}");
                    let entry = revoke(list, naming("main", TargetKind::Subject, &subject));
                    let seen = std::thread::scope(|other| {
                        other.spawn(|| list.names(&caller("main", &subject), at(NOW))).join().unwrap()
                    });
                    assert!(seen);
                    list.remove(entry.id, "test", at(NOW)).unwrap();
                    assert!(!list.names(&caller("main", &subject), at(NOW)));
                }
            });
        }
    });
    assert_eq!(list.counts()[1].1, 0);
}

#[test]
fn pages_show_everything_once_and_choose() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    for number in 0..25 {
        revoke(&list, naming(["main", "other", "*"][number % 3], TargetKind::Jti, &number.to_string()));
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = list.page(&Filter { after, limit: 10, ..Filter::default() });
        assert_eq!(page.total, 25);
        seen.extend(page.entries.iter().map(|entry| entry.id));
        after = *seen.last().unwrap();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    let main = list.page(&Filter { source: Some("main"), limit: 99, ..Filter::default() });
    assert_eq!(main.entries.len(), 17, "its own, and those of any");
    let one = list.page(&Filter { kind: Some(TargetKind::Jti), value: Some("7"), limit: 99, ..Filter::default() });
    assert_eq!(one.entries.len(), 1);
    assert!(list.page(&Filter { kind: Some(TargetKind::Key), limit: 99, ..Filter::default() }).entries.is_empty());
}

/// What an entry refuses, said as plainly as can be.
fn plainly_names(revocation: &Revocation, caller: &Principal, now: u64) -> bool {
    let value = Some(&revocation.value);
    let named = match revocation.kind {
        TargetKind::Jti => caller.marks.id.as_ref() == value,
        TargetKind::Subject => {
            *caller.subject == *revocation.value || caller.claims.get("sub") == Some(&json!(&*revocation.value))
        }
        TargetKind::Session => caller.marks.session.as_ref() == value,
        TargetKind::Key => caller.marks.key.as_ref().or(caller.marks.id.as_ref()) == value,
        TargetKind::All => true,
    };
    named
        && (*revocation.source == *"*" || revocation.source == caller.issuer)
        && revocation.expires.is_none_or(|expires| expires > now)
        && match (revocation.issued_before, caller.marks.issued_at) {
            (Some(before), Some(issued)) => issued < before as f64,
            (Some(_), None) | (None, _) => true,
        }
}

fn a_revocation() -> impl Strategy<Value = Revocation> {
    let names = prop::sample::select(vec!["a", "b"]);
    let sources = prop::sample::select(vec!["main", "other", "*"]);
    let kinds = prop::sample::select(TargetKind::ALL.to_vec());
    let times = || prop::option::of(NOW - 3..NOW + 4);
    (sources, kinds, names, times(), times()).prop_map(|(source, kind, value, issued_before, expires)| {
        let value = if kind == TargetKind::All { "" } else { value };
        let issued_before = issued_before.filter(|_| kind != TargetKind::Jti);
        Revocation { issued_before, expires, ..naming(source, kind, value) }
    })
}

fn a_caller() -> impl Strategy<Value = Principal> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let mark = move || prop::option::of(name());
    let issued = prop::option::of((NOW - 4..NOW + 5).prop_map(|secs| secs as f64));
    let source = prop::sample::select(vec!["main", "other", "third"]);
    (source, name(), mark(), mark(), mark(), mark(), issued).prop_map(|(source, subject, id, sid, kid, sub, issued)| {
        let mut caller = caller(source, subject);
        caller.claims = sub.map_or(json!({}), |sub| json!({ "sub": sub }));
        caller.marks.id = id.map(Arc::from);
        caller.marks.session = sid.map(Arc::from);
        caller.marks.key = kid.map(Arc::from);
        caller.marks.issued_at = issued;
        caller
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_revoked_credential_passes_and_no_other_is_refused(
        revocations in prop::collection::vec(a_revocation(), 0..12),
        callers in prop::collection::vec(a_caller(), 1..12),
        later in 0..6_u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let list = Revocations::open(folder.path(), at(NOW - 4)).unwrap();
        for revocation in &revocations {
            list.revoke(std::slice::from_ref(revocation), at(NOW - 4)).unwrap();
        }
        let then = NOW - 4 + later;
        let check = |list: &Revocations, when: &str| {
            for caller in &callers {
                let named = revocations.iter().any(|revocation| plainly_names(revocation, caller, then));
                assert_eq!(list.names(caller, at(then)), named, "{when}: {caller:?}");
            }
        };
        check(&list, "as it was made");
        list.sweep(at(then));
        check(&list, "swept");
        drop(list);
        check(&Revocations::open(folder.path(), at(then)).unwrap(), "opened again");
    }

    #[test]
    fn any_bytes_behind_the_first_line_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(&folder), [b"{\"revocations\":1,\"next\":1}\n".to_vec(), bytes].concat()).unwrap();
        let _ = Revocations::read(folder.path(), at(NOW));
    }
}

/// `cargo test --lib -- --ignored --nocapture revocation::tests::a_million`: what a full list costs.
#[test]
#[ignore = "a measurement, not a test"]
fn a_million_entries_load_and_are_asked() {
    let folder = tempfile::tempdir().unwrap();
    let list = open(&folder).unwrap();
    let start = SystemClock.now().instant;
    for block in 0..1000_u64 {
        let of = |number| {
            naming("main", TargetKind::Subject, &format!("00000000-0000-0000-0000-{:012}", block * 1000 + number))
        };
        let all: Vec<_> = (0..1000)
            .map(|number| Revocation { issued_before: Some(NOW), expires: Some(NOW + 9), ..of(number) })
            .collect();
        list.revoke(&all, at(NOW)).unwrap();
    }
    println!("added in {:?}; {} MB", start.elapsed(), fs::metadata(file(&folder)).unwrap().len() >> 20);
    assert!(matches!(list.revoke(&[naming("main", TargetKind::Jti, "more")], at(NOW)), Err(RevocationFault::Full)));
    drop(list);
    let start = SystemClock.now().instant;
    let list = open(&folder).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("loaded in {:?}; {memory}", start.elapsed());
    let alice = caller("main", "alice");
    let start = SystemClock.now().instant;
    for _ in 0..1_000_000 {
        assert!(!list.names(std::hint::black_box(&alice), at(NOW)));
    }
    println!("asked in {:?} each", start.elapsed() / 1_000_000 - Duration::ZERO);
}
