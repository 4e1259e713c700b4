//! The door with every kind of credential behind it: whatever a request carries, a credential that is wrong is never taken for
//! none, and nobody is let in who did not show one that is right.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{collections::HashMap, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::{
    Accepted, ApiKeyField, ApiKeyPlace, Authenticator, Field, Presented,
    testing::{self, Signer},
};
use crate::{
    config::{self, Input, Materials},
    jose::Algorithm,
    policy::Credential,
    secret::Secret,
};

const USERS: &str = "alice:$2b$10$abcdefghijklmnopqrstuuu3rHQ5lkF8Z8yUAFNa7vV8V7Tj6R9ea\n";

struct Files(HashMap<&'static str, String>);

impl Materials for Files {
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, String> {
        let name = path.file_name().unwrap().to_str().unwrap();
        self.0.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| "there is no such file".to_owned())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// What a request carries.
#[derive(Debug, Clone)]
struct Carried {
    authorization: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    proof: Option<Vec<u8>>,
    query: Option<String>,
}

struct Door {
    runtime: tokio::runtime::Runtime,
    authenticator: Authenticator,
    _folder: tempfile::TempDir,
}

impl Door {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys"), "").unwrap();
        let key = Signer::new(Algorithm::ES256, "k").jwk().to_string();
        let text = "
listeners: [{address: 127.0.0.1:1, tls: {danger_self_signed: true}}]
issuers:
  main: {issuer: https://idp.example/, audience: [a], keys: {public_key: {file: key}}, algorithms: [ES256]}
credentials:
  scripts: {api_keys: {file: keys}}
  people: {basic: {file: users}}
upstreams: {api: {targets: [http://127.0.0.1:9]}}
routes: [{path: /, upstream: api, auth: [main, scripts, people]}]
";
        let input = Input { file: Path::new("gateway.yaml"), text, base: folder.path(), env: &|_| None };
        let config = config::load(&input).unwrap_or_else(|problems| panic!("{problems}")).config;
        let files = Files(HashMap::from([("key", key), ("users", USERS.to_owned())]));
        let authenticator = runtime.block_on(async {
            let (services, _) = testing::services();
            Authenticator::compile(&config, &files, &services, None).unwrap()
        });
        Self { runtime, authenticator, _folder: folder }
    }

    fn accepted(&self, names: &[&str]) -> Accepted {
        self.authenticator.accepted(&names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>())
    }

    fn judge(&self, carried: &Carried, accepted: &Accepted) -> Credential {
        let place = ApiKeyPlace::Header("x-api-key".into());
        let keys: Vec<ApiKeyField> = carried
            .key
            .iter()
            .map(|key| ApiKeyField { place: place.clone(), value: Some(Secret::new(key.clone())) })
            .collect();
        let presented = Presented {
            authorization: carried.authorization.as_deref().map_or(Field::Absent, Field::One),
            keys: &keys,
            proof: carried.proof.as_deref().map_or(Field::Absent, Field::One),
            query: carried.query.as_deref(),
            method: &http::Method::GET,
            scheme: "https",
            authority: "api.example",
            path: "/",
            certificate: None,
            address: "192.0.2.7".parse().unwrap(),
            confidential: true,
        };
        self.runtime.block_on(self.authenticator.authenticate(&presented, accepted, testing::now())).credential
    }
}

/// Schemes in all sorts of spellings, those of ours first.
fn authorization() -> impl Strategy<Value = Vec<u8>> {
    let scheme = prop_oneof!["[Bb][Ee][Aa][Rr][Ee][Rr]", "[Dd][Pp][Oo][Pp]", "[Bb][Aa][Ss][Ii][Cc]", "[A-Za-z]{1,8}"];
    let gap = prop_oneof![Just(" "), Just("  "), Just("\t"), Just(","), Just("")];
    let rest = prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        "[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,20}".prop_map(String::into_bytes),
        "[a-z]{0,6}:[a-z]{0,6}".prop_map(|pair| STANDARD.encode(pair).into_bytes()),
    ];
    (scheme, gap, rest).prop_map(|(scheme, gap, rest)| [scheme.as_bytes(), gap.as_bytes(), &rest].concat())
}

fn carried() -> impl Strategy<Value = Carried> {
    (
        prop::option::of(authorization()),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
        prop::option::of("(access_token=)?[a-z=&]{0,12}"),
    )
        .prop_map(|(authorization, key, proof, query)| Carried { authorization, key, proof, query })
}

/// Whether the field names one of our schemes, however the rest is spelt.
fn names_ours(value: &[u8], schemes: &[&str]) -> bool {
    let end = value.iter().position(|byte| b" \t,".contains(byte)).unwrap_or(value.len());
    let (scheme, _) = value.split_at(end);
    schemes.iter().any(|ours| scheme.eq_ignore_ascii_case(ours.as_bytes()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_credential_that_is_wrong_is_never_taken_for_none_and_lets_nobody_in(all in prop::collection::vec(carried(), 20)) {
        let door = Door::new();
        let routes: [(&[&str], &[&str], bool); 5] = [
            (&["main"], &["bearer", "dpop"], false),
            (&["scripts"], &[], true),
            (&["people"], &["basic"], false),
            (&["main", "scripts"], &["bearer", "dpop"], true),
            (&["main", "scripts", "people"], &["bearer", "dpop", "basic"], true),
        ];
        for carried in &all {
            for (names, schemes, takes_keys) in routes {
                let credential = door.judge(carried, &door.accepted(names));
                prop_assert!(!matches!(credential, Credential::Valid(_)), "{names:?} {carried:?}");
                let shown = (takes_keys && carried.key.is_some())
                    || carried.authorization.as_deref().is_some_and(|value| names_ours(value, schemes));
                if shown {
                    prop_assert!(!matches!(credential, Credential::Absent), "{names:?} {carried:?}");
                }
            }
        }
    }
}
