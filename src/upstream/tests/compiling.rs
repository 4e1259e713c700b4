//! From a configuration to services: credentials, certificates, and what is wrong with them.

use config::{File, Problem, Source, UpstreamCredential};

use super::*;
use crate::secret::Secret;

fn with_credential(credential: UpstreamCredential, files: &Files) -> Result<Arc<Service>, Vec<Problem>> {
    let mut config = config_of(vec![target(false, "localhost", 80)]);
    config.credential = Some(credential);
    compile(config, files)
}

fn file(path: &str) -> File {
    File { span: Span { line: 7, column: 3, key: "upstreams.api".into() }, path: path.into() }
}

fn inline(value: &str) -> Source {
    Source::Inline { span: Span::default(), value: Secret::new(value) }
}

fn basic(password: Source) -> UpstreamCredential {
    UpstreamCredential::Basic { username: "Aladdin".into(), password }
}

#[test]
fn a_basic_credential_is_the_one_of_rfc_7617() {
    let service = with_credential(basic(inline("open sesame")), &Files::default()).unwrap();
    let (name, value) = service.credential().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    assert!(value.is_sensitive());
}

#[test]
fn a_credential_comes_from_a_file_without_its_newline_or_from_the_environment() {
    let mut files = Files::default();
    files.files.insert("key".into(), b"k-123\r\n".to_vec());
    files.variables.insert("KEY".into(), "k-123".into());
    for value in [Source::File(file("key")), Source::Env { span: Span::default(), name: "KEY".into() }] {
        let name = http::HeaderName::from_static("x-api-key");
        let service = with_credential(UpstreamCredential::Header { name, value }, &files).unwrap();
        assert_eq!(service.credential().unwrap().1.as_bytes(), b"k-123");
        assert!(!format!("{service:?}").contains("k-123"));
    }
}

#[test]
fn a_credential_that_can_not_be_read_or_sent_is_a_problem_that_does_not_quote_it() {
    let mut files = Files::default();
    files.files.insert("empty".into(), b"\n".to_vec());
    files.files.insert("split".into(), b"secret\r\nx-evil: 1".to_vec());
    let absent = Source::Env { span: Span::default(), name: "ABSENT".into() };
    for source in [Source::File(file("absent")), Source::File(file("empty")), Source::File(file("split")), absent] {
        let name = http::HeaderName::from_static("x-api-key");
        for credential in [basic(source.clone()), UpstreamCredential::Header { name, value: source.clone() }] {
            let problems = with_credential(credential, &files).unwrap_err();
            assert_eq!(problems.len(), 1);
            assert!(!format!("{problems:?}").contains("evil"));
        }
    }
}

#[test]
fn every_problem_is_found_and_says_where() {
    let mut first = config_of(vec![target(true, "localhost", 443)]);
    first.ca = Some(file("absent.pem"));
    first.credential = Some(basic(Source::File(file("absent"))));
    let mut second = config_of(vec![target(false, "localhost", 80)]);
    second.name = "second".into();
    second.ca = Some(file("noise.pem"));
    let mut files = Files::default();
    files.files.insert("noise.pem".into(), b"no certificate".to_vec());
    let problems = Upstreams::compile(&[Arc::new(first), Arc::new(second)], &files, None).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.span.line == 7));
}

#[test]
fn targets_that_did_not_change_are_the_same_and_others_are_not() {
    let pem = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem().into_bytes();
    let config = |port| {
        let mut config = config_of(vec![target(true, "localhost", 443), target(true, "localhost", port)]);
        config.ca = Some(file("ca.pem"));
        [Arc::new(config)]
    };
    let mut files = Files::default();
    files.files.insert("ca.pem".into(), pem("one"));
    let before = Upstreams::compile(&config(444), &files, None).unwrap();
    let after = Upstreams::compile(&config(445), &files, Some(&before)).unwrap();
    let same = |one: &Upstreams, other: &Upstreams, index: usize| {
        Arc::ptr_eq(
            &one.get("api").unwrap().targets()[index].target,
            &other.get("api").unwrap().targets()[index].target,
        )
    };
    assert!(same(&before, &after, 0));
    assert!(!same(&before, &after, 1));

    files.files.insert("ca.pem".into(), pem("two"));
    let renewed = Upstreams::compile(&config(445), &files, Some(&after)).unwrap();
    assert!(!same(&after, &renewed, 0) && !same(&after, &renewed, 1));
}

#[test]
fn what_workers_share_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Upstreams>();
    shared::<Arc<Service>>();
}
