//! The room as a whole: files on a disk, sources of a configuration, and what becomes of a key.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{fs, io::Cursor, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    config::{self, Input, Materials},
    identity::{ApiKeyField, ApiKeyPlace, Authenticator, Field, Unobserved, testing},
    policy::{Kind, Principal},
    secret::Secret,
};

fn record(id: &str, key: &str) -> Record<'static> {
    Record {
        id: id.to_owned().into(),
        hash: written(&digest(key.as_bytes())).into(),
        owner: "acme".into(),
        created: "2026-01-01T00:00:00Z".into(),
        ..Record::default()
    }
}

fn lines(records: &[Record<'_>]) -> Vec<u8> {
    records.iter().flat_map(|record| record.line().unwrap()).collect()
}

fn read(bytes: &[u8]) -> Result<KeyTable, FileFault> {
    KeyTable::read(Cursor::new(bytes), bytes.len() as u64, &["per-key".into()].into())
}

#[test]
fn every_key_is_found_with_what_is_its_own_and_no_other_key_is() {
    let mut records: Vec<Record<'_>> = (0..3000).map(|n| record(&format!("id{n}"), &format!("key {n}"))).collect();
    for (n, record) in records.iter_mut().enumerate() {
        record.owner = format!("owner {}", n % 7).into();
        record.scopes = (0..n % 3).map(|n| format!("scope{n}").into()).collect();
        record.note = (n % 2 == 0).then(|| format!("note {n}").into());
    }
    let table = read(&lines(&records)).unwrap();
    assert_eq!((table.len(), table.has_imported()), (3000, false));
    for (n, record) in records.iter().enumerate() {
        let found = table.find(&digest(format!("key {n}").as_bytes())).unwrap();
        assert_eq!((found.id, found.owner), (&*record.id, &*record.owner));
        assert_eq!(found.note, record.note.as_ref().map_or("", |note| &note.0));
        assert_eq!(found.grant.scopes.len(), n % 3);
        assert!(!table.has(&digest(format!("kex {n}").as_bytes())));
    }
    assert!(!KeyTable::default().has(&digest(b"")) && !read(b"").unwrap().has(&digest(b"")));
}

#[test]
fn every_bad_line_is_told_and_one_is_enough_to_refuse_the_file() {
    let good = lines(&[record("a", "1")]);
    let mut file = good.clone();
    file.extend(b"\n{\"id\":\n");
    file.extend(lines(&[record("b", "1"), record("a", "2")]));
    file.extend(lines(&[Record { limits: vec!["none".to_owned().into()], ..record("c", "3") }]));
    let Err(FileFault::Lines { lines: faults, more }) = read(&file) else { panic!("it was taken") };
    let told: Vec<(u32, &str)> = faults.iter().map(|fault| (fault.line, &*fault.what)).collect();
    assert_eq!(
        (told, more),
        (
            vec![
                (3, "the line breaks off"),
                (4, "this key is on line 1 already"),
                (5, "this id is on line 1 already"),
                (6, "`limits[0]` is not the name of a limit of the configuration"),
            ],
            0
        )
    );
    let many = b"{}\n".repeat(150);
    let Err(FileFault::Lines { lines: faults, more }) = read(&many) else { panic!("it was taken") };
    assert_eq!((faults.len(), more), (100, 50));
    let long = format!("{{\"id\":\"{}\"}}\n", "x".repeat(70_000));
    let fault = read(long.as_bytes()).unwrap_err().to_string();
    assert!(fault.contains("line 1: it is longer than 64 KiB"), "{fault}");
}

#[test]
fn a_file_that_others_may_write_is_no_place_for_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let load =
        || KeyTable::load(&path, &Default::default()).map(|table| table.len()).map_err(|fault| fault.to_string());
    assert_eq!(load(), Err("there is no such file".to_owned()));
    fs::write(&path, lines(&[record("a", "1")])).unwrap();
    assert_eq!(load(), Ok(1));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(load().unwrap_err().contains("may write it"));
    assert!(KeyTable::load(folder.path(), &Default::default()).unwrap_err().to_string().contains("directory"));
    let pipe = folder.path().join("pipe");
    crate::files::make_pipe(&pipe);
    assert_eq!(KeyTable::load(&pipe, &Default::default()).unwrap_err().to_string(), "it is not a file");
}

#[test]
fn last_uses_survive_a_new_file_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last-used");
    let file = lines(&[record("a", "1"), record("b", "2")]);
    let table = read(&file).unwrap();
    assert!(table.find(&digest(b"1")).unwrap().used(7) && !table.find(&digest(b"1")).unwrap().used(7));
    last_use::write(&path, &table).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a 7\n");

    let next = read(&lines(&[record("c", "3"), record("a", "1")])).unwrap();
    next.remember(&table);
    assert_eq!(next.last_uses().collect::<Vec<_>>(), [("a", 7)]);

    fs::write(&path, "a 9\nbroken\n\nx y\nb 5\n").unwrap();
    table.recall(&last_use::read(&path).unwrap());
    assert_eq!(table.last_uses().collect::<Vec<_>>(), [("a", 9), ("b", 5)]);
}

fn file(path: &Path) -> KeyFile {
    KeyFile::new(path, ["per-key".into()].into())
}

#[test]
fn an_edit_is_whole_and_keeps_what_it_does_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    file(&path).lock().unwrap().append(&record("a", "1")).unwrap();
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    // A line as a person would write it stays as it is.
    let by_hand = String::from_utf8(lines(&[record("b", "2")])).unwrap().replace(":\"", ": \"").replace('\n', "");
    fs::write(&path, [fs::read(&path).unwrap(), b"\n".to_vec(), by_hand.clone().into_bytes()].concat()).unwrap();
    file(&path).lock().unwrap().append(&record("c", "3")).unwrap();
    assert!(matches!(file(&path).lock().unwrap().append(&record("d", "1")), Err(EditFault::Known)));
    let wrong = Record { limits: vec!["none".to_owned().into()], ..record("e", "5") };
    assert!(matches!(file(&path).lock().unwrap().append(&wrong), Err(EditFault::Record(_))));

    let revoked = file(&path).lock().unwrap().revoke("a", "2026-02-01T00:00:00Z").unwrap().unwrap();
    assert_eq!(revoked.revoked.unwrap().0, "2026-02-01T00:00:00Z");
    let again = file(&path).lock().unwrap().revoke("a", "2026-03-01T00:00:00Z").unwrap().unwrap();
    assert_eq!(again.revoked.unwrap().0, "2026-02-01T00:00:00Z", "the first time counts");
    assert_eq!(file(&path).lock().unwrap().revoke("nobody", "2026-02-01T00:00:00Z").unwrap(), None);

    let text = fs::read_to_string(&path).unwrap();
    let mut ids = Vec::new();
    file(&path).each(|record| ids.push(record.id.clone().into_owned())).unwrap();
    assert_eq!((ids, mode()), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], 0o640));
    assert_eq!(text.lines().nth(1).unwrap(), by_hand);
    assert!(!folder.path().join("keys.next").exists());

    fs::write(&path, "broken\n").unwrap();
    assert!(matches!(file(&path).lock(), Err(EditFault::File(..))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "broken\n", "what is wrong is left as it is");
}

#[test]
fn writers_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::thread::scope(|scope| {
        for hand in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for n in 0..10 {
                    let key = format!("{hand} {n}");
                    file(path).lock().unwrap().append(&record(&format!("id{hand}-{n}"), &key)).unwrap();
                }
            });
        }
    });
    assert_eq!(KeyTable::load(&path, &Default::default()).unwrap().len(), 40);
}

/// Sources in a folder of their own: `strict` reads `X-Api-Key`, `loose` reads everything.
struct World {
    folder: TempDir,
    authenticator: Authenticator,
    key: String,
}

struct Nothing;

impl Materials for Nothing {
    fn read_file(&self, _: &Path) -> Result<Vec<u8>, String> {
        Err("there is no such file".to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

const SOURCES: &str = "
credentials:
  strict: {api_keys: {file: strict}}
  loose: {api_keys: {file: loose, header: X-Loose-Key, basic_username: true, danger_query: key, prefix: lk}}
limits: {per-key: {key: subject, rate: 5/1m}}
upstreams: {api: {targets: [http://127.0.0.1:9100]}}
routes: [{path: /**, upstream: api, auth: [strict, loose]}]
";

fn load(folder: &Path) -> Config {
    let input = Input { file: Path::new("gateway.yaml"), text: SOURCES, base: folder, env: &|_| None };
    config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config
}

impl World {
    fn new(change: impl FnOnce(&mut Record<'static>)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = make("sgk").unwrap();
        let mut one = record("one", &key);
        change(&mut one);
        let imported = Record { imported: true, ..record("old", "an-old-key-of-theirs") };
        fs::write(folder.path().join("strict"), lines(&[one])).unwrap();
        fs::write(folder.path().join("loose"), lines(&[imported, record("two", &key)])).unwrap();
        let (services, _) = testing::services();
        let services = SourceServices { observer: Arc::new(Unobserved), ..services };
        let authenticator = Authenticator::compile(&load(folder.path()), &Nothing, &services, None).unwrap();
        Self { folder, authenticator, key }
    }

    async fn judge(
        &self,
        names: &[&str],
        fields: &[(&str, Option<&str>)],
        basic: Option<&str>,
    ) -> Result<Arc<Principal>, Reason> {
        self.judge_from(names, fields, basic, (true, "192.0.2.1")).await
    }

    async fn judge_from(
        &self,
        names: &[&str],
        fields: &[(&str, Option<&str>)],
        basic: Option<&str>,
        (confidential, address): (bool, &str),
    ) -> Result<Arc<Principal>, Reason> {
        let place = |name: &str| match name.strip_prefix('?') {
            Some(name) => ApiKeyPlace::Parameter(name.into()),
            None => ApiKeyPlace::Header(name.into()),
        };
        let keys: Vec<ApiKeyField> = fields
            .iter()
            .map(|(name, value)| ApiKeyField { place: place(name), value: value.map(Secret::new) })
            .collect();
        let presented = Presented {
            authorization: basic.map_or(Field::Absent, |value| Field::One(value.as_bytes())),
            keys: &keys,
            proof: Field::Absent,
            query: None,
            method: &Method::GET,
            scheme: "https",
            authority: "",
            path: "/",
            certificate: None,
            address: address.parse().unwrap(),
            confidential,
        };
        let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
        let accepted = self.authenticator.accepted(&names);
        match self.authenticator.authenticate(&presented, &accepted, testing::now()).await.credential {
            Credential::Valid(principal) => Ok(principal),
            Credential::Invalid(reason) => Err(reason),
            Credential::Absent => Err(Reason::TokenMissing),
            Credential::Unavailable { .. } => panic!("a key is known or not"),
        }
    }
}

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(user))
}

#[tokio::test]
async fn a_key_is_a_principal_of_its_own_kind() {
    let world = World::new(|one| {
        one.scopes = vec!["read".to_owned().into()];
        one.limits = vec!["per-key".to_owned().into()];
        one.expires = Some("2100-01-01T00:00:00Z".to_owned().into());
        one.note = Some("nightly".to_owned().into());
    });
    let principal = world.judge(&["strict"], &[("x-api-key", Some(&world.key))], None).await.unwrap();
    assert_eq!((&*principal.subject, &*principal.issuer, principal.kind), ("acme", "strict", Kind::Machine));
    assert_eq!(&*principal.issuer_url, "urn:stepgate:credentials:strict");
    assert_eq!((principal.scopes.len(), principal.limits.len()), (1, 1));
    assert_eq!(principal.marks.id.as_deref(), Some("one"));
    assert_eq!(principal.marks.fingerprint, Some(digest(world.key.as_bytes())));
    assert_eq!((principal.marks.issued_at, principal.expires_at), (Some(1_767_225_600.0), Some(4_102_444_800.0)));
    assert_eq!(principal.claims, serde_json::json!({"key_id": "one", "owner": "acme", "note": "nightly"}));
    assert!(principal.assurance.acr.is_none() && principal.assurance.amr.is_empty());
    drop(world.folder);
}

#[tokio::test]
async fn each_wrong_key_has_its_reason() {
    let world = World::new(|_| {});
    let strict = async |key: &str| world.judge(&["strict"], &[("x-api-key", Some(key))], None).await.unwrap_err();
    assert_eq!(strict(&make("sgk").unwrap()).await, Reason::ApiKeyUnknown);
    for malformed in ["", "sgk_", "secret", &world.key[..52], &format!("{}x", world.key), "an-old-key-of-theirs"] {
        assert_eq!(strict(malformed).await, Reason::ApiKeyMalformed, "{malformed}");
    }
    for (change, address, reason) in [
        (("revoked", "2026-01-02T00:00:00Z"), "192.0.2.1", Reason::ApiKeyRevoked),
        // A time that is still to come revokes all the same.
        (("revoked", "2100-01-02T00:00:00Z"), "192.0.2.1", Reason::ApiKeyRevoked),
        (("expires", "2020-01-02T00:00:00Z"), "192.0.2.1", Reason::ApiKeyExpired),
        (("networks", "10.0.0.0/8"), "192.0.2.1", Reason::ApiKeyNetwork),
        (("networks", "10.0.0.0/8"), "::ffff:10.0.0.1", Reason::Allowed),
        (("networks", "::ffff:192.0.2.1"), "192.0.2.1", Reason::Allowed),
    ] {
        let text = || change.1.to_owned();
        let world = World::new(|one| match change.0 {
            "revoked" => one.revoked = Some(text().into()),
            "expires" => one.expires = Some(text().into()),
            _ => one.networks = vec![text().into()],
        });
        let judged = world.judge_from(&["strict"], &[("x-api-key", Some(&world.key))], None, (true, address)).await;
        assert_eq!(judged.err().unwrap_or(Reason::Allowed), reason, "{change:?} {address}");
    }
}

#[tokio::test]
async fn a_key_over_a_wire_that_others_read_is_refused_right_or_wrong() {
    let world = World::new(|_| {});
    for key in [&*world.key, "secret"] {
        let judged = world.judge_from(&["strict"], &[("x-api-key", Some(key))], None, (false, "192.0.2.1")).await;
        assert_eq!(judged.unwrap_err(), Reason::PasswordCleartext);
    }
}

#[tokio::test]
async fn keys_are_looked_for_where_the_routes_sources_look() {
    let world = World::new(|_| {});
    let key = &*world.key;
    let ok = |judged: Result<Arc<Principal>, Reason>| {
        judged.map(|principal| principal.marks.id.as_deref().unwrap().to_owned())
    };
    let strict = async |name: &str| world.judge(&["strict"], &[(name, Some(key))], None).await;
    assert_eq!(strict("x-loose-key").await.unwrap_err(), Reason::TokenMissing);
    assert_eq!(strict("?key").await.unwrap_err(), Reason::TokenMissing);
    assert_eq!(
        world.judge(&["strict"], &[], Some(&basic(&format!("{key}:")))).await.unwrap_err(),
        Reason::TokenMissing
    );
    // Where several sources look, the first that knows the key decides.
    let old = Some("an-old-key-of-theirs");
    assert_eq!(ok(world.judge(&["loose"], &[("x-loose-key", old)], None).await).unwrap(), "old");
    assert_eq!(ok(world.judge(&["loose"], &[("?key", old)], None).await).unwrap(), "old");
    assert_eq!(ok(world.judge(&["loose"], &[], Some(&basic("an-old-key-of-theirs:"))).await).unwrap(), "old");
    assert_eq!(ok(world.judge(&[], &[("x-api-key", Some(key))], None).await).unwrap(), "one");
}

#[tokio::test]
async fn two_credentials_are_none() {
    let world = World::new(|_| {});
    let key = Some(&*world.key);
    for (fields, authorization) in [
        (&[("x-api-key", None)][..], None),
        (&[("x-api-key", key), ("x-loose-key", key)], None),
        (&[("x-api-key", key), ("?key", key)], None),
        (&[("x-api-key", key)], Some(basic("an-old-key-of-theirs:"))),
        (&[("x-api-key", key)], Some(basic("user:password"))),
        (&[("x-api-key", key)], Some("Basic !".to_owned())),
    ] {
        let judged = world.judge(&["strict", "loose"], fields, authorization.as_deref()).await;
        assert_eq!(judged.unwrap_err(), Reason::InvalidCredentials, "{fields:?} {authorization:?}");
    }
    // What no source of the route takes is nothing to it.
    for beside in ["Bearer a.b.c", "Digest x"] {
        assert!(world.judge(&["strict", "loose"], &[("x-api-key", key)], Some(beside)).await.is_ok(), "{beside}");
    }
    assert!(world.judge(&["strict"], &[("x-api-key", key)], Some(&basic("user:password"))).await.is_ok());
}

#[tokio::test]
async fn basic_credentials_that_are_no_key_are_wrong_where_nobody_takes_passwords() {
    let world = World::new(|_| {});
    for wrong in [basic("user:password"), basic("nocolon"), basic(":"), "Basic".to_owned(), "Basic %".to_owned()] {
        let judged = world.judge(&["loose"], &[], Some(&wrong)).await;
        assert_eq!(judged.unwrap_err(), Reason::ApiKeyMalformed, "{wrong}");
    }
}

proptest! {
    #[test]
    fn whatever_the_file_is_it_is_read_or_refused_with_a_line(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(fault) = read(&bytes) {
            let has_a_line = matches!(fault, FileFault::Lines { ref lines, .. } if !lines.is_empty());
            prop_assert!(has_a_line);
        }
    }

    #[test]
    fn what_is_shown_as_a_key_is_never_taken_for_nothing(value in "[ -~]{0,60}", twice: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(|_| {});
            let fields = [("x-api-key", Some(&*value)), ("x-loose-key", Some(&*value))];
            let judged = world.judge(&["strict", "loose"], if twice { &fields } else { &fields[..1] }, None).await;
            let expected = if twice { Reason::InvalidCredentials } else { Reason::ApiKeyMalformed };
            assert_eq!(judged.unwrap_err(), expected);
        });
    }
}
