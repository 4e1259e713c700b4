//! What a decision costs, by what the route asks for.

use std::{hint::black_box, net::Ipv4Addr, sync::Arc};

use criterion::Criterion;
use http::HeaderMap;
use serde_json::json;
use stepgate::{
    clock::Now,
    policy::{AccessPolicy, Assurance, ConditionInput, Credential, Decision, Facts, Kind, Marks, Principal, decide},
};

use crate::setup;

const YAML: &str = "
access_log: off
issuers: {main: {issuer: https://idp.example/, audience: [api], keys: {secret: '${KEY}'}, algorithms: [HS256]}}
assurance: {mfa: {acr: [urn:example:acr:mfa], max_age: 5m}}
upstreams: {api: {targets: [http://127.0.0.1:9]}}
deletion_guard: {operations: ['DELETE /**'], assurance: mfa}
routes:
  - {path: /open, upstream: api, auth: none}
  - {path: /scoped, upstream: api, auth: [main], scopes: ['items:read', 'items:write']}
  - {path: /strong, upstream: api, auth: [main], assurance: mfa}
  - {path: /when, upstream: api, auth: [main], when: 'claims.department == \"finance\"'}
";

pub(crate) fn judge(c: &mut Criterion) {
    let snapshot = setup::snapshot(YAML);
    let policy = |path: &str| -> &AccessPolicy {
        &snapshot.routes.iter().find(|route| route.pattern.as_str() == path).unwrap().policy
    };
    let (now, headers) = (setup::now(), HeaderMap::new());
    let (strong, weak) = (Credential::Valid(caller(now, true)), Credential::Valid(caller(now, false)));
    let cases = [
        ("open", policy("/open"), &Credential::Absent, false, true),
        ("scopes", policy("/scoped"), &weak, false, true),
        ("condition", policy("/when"), &weak, false, true),
        ("level, met", policy("/strong"), &strong, false, true),
        ("level, not met", policy("/strong"), &weak, false, false),
        ("guarded deletion, met", policy("/scoped"), &strong, true, true),
        ("guarded deletion, not met", policy("/scoped"), &weak, true, false),
    ];
    let mut group = c.benchmark_group("decide");
    for (name, policy, credential, guarded, is_allowed) in cases {
        let facts = facts(credential, guarded, &headers, now);
        assert_eq!(matches!(decide(policy, &facts), Decision::Allow(_)), is_allowed, "{name}");
        group.bench_function(name, |b| b.iter(|| decide(black_box(policy), black_box(&facts))));
    }
    group.finish();
}

fn facts<'a>(credential: &'a Credential, guarded: bool, headers: &'a HeaderMap, now: Now) -> Facts<'a> {
    let principal = match credential {
        Credential::Valid(principal) => Some(&**principal),
        Credential::Absent | Credential::Invalid(_) | Credential::Unavailable { .. } => None,
    };
    let input = ConditionInput {
        method: if guarded { "DELETE" } else { "GET" },
        path: "/items/4711",
        path_params: &[],
        query: None,
        headers,
        client_ip: Ipv4Addr::LOCALHOST.into(),
        principal,
        now,
    };
    Facts { credential, possession: None, second_factors: &[], guarded, planned: None, input }
}

/// A caller; `strong`: who has just shown a second factor to the provider.
pub(crate) fn caller(now: Now, strong: bool) -> Arc<Principal> {
    let acr = if strong { "urn:example:acr:mfa" } else { "urn:example:acr:pwd" };
    Arc::new(Principal {
        issuer: "main".into(),
        issuer_url: "https://idp.example/".into(),
        subject: "alice".into(),
        client: Some("app".into()),
        scopes: ["items:read", "items:write", "orders:read"].map(Arc::from).into(),
        assurance: Assurance {
            acr: Some(acr.into()),
            amr: ["pwd", "otp"].map(Arc::from).into(),
            auth_time: Some(now.numeric_date() - 10.0),
            ..Assurance::default()
        },
        expires_at: Some(now.numeric_date() + 600.0),
        leeway_secs: 0.0,
        claims: json!({"sub": "alice", "department": "finance", "groups": ["a", "b", "c"]}),
        kind: Kind::Person,
        marks: Marks::default(),
        binding: None,
        limits: Box::default(),
        told: stepgate::policy::Told::default(),
    })
}
