//! What a token costs that was seen before, and one that was not.

use std::{
    hint::black_box,
    net::Ipv4Addr,
    pin::pin,
    task::{Context, Poll, Waker},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use criterion::{BatchSize, Criterion};
use serde_json::json;
use stepgate::{
    clock::Now,
    identity::{Accepted, Authenticator, Field, Presented},
    policy::Credential,
    runtime::DiskMaterials,
};

use crate::setup;

const YAML: &str = "
issuers: {main: {issuer: https://idp.example/, audience: [api], keys: {public_key: '${KEY}'}, algorithms: [RS256]}}
upstreams: {api: {targets: [http://127.0.0.1:9]}}
routes: [{path: /**, upstream: api, auth: [main]}]
";

/// A key, and a token that it signed.
struct Issued {
    public: String,
    field: String,
}

pub(crate) fn seen(c: &mut Criterion) {
    let (issued, now) = (issue(), setup::now());
    let authenticator = authenticator(&issued.public);
    // A route has this ready.
    let accepted = authenticator.accepted(&[]);
    assert!(is_taken((&authenticator, &accepted), &issued.field, now));
    c.bench_function("token/RS256, seen before", |b| {
        b.iter(|| assert!(is_taken((&authenticator, &accepted), black_box(&issued.field), now)));
    });
}

pub(crate) fn unseen(c: &mut Criterion) {
    let (issued, now) = (issue(), setup::now());
    c.bench_function("token/RS256, not seen before", |b| {
        let fresh = || {
            let new = authenticator(&issued.public);
            let accepted = new.accepted(&[]);
            (new, accepted)
        };
        let take = |(new, accepted): &mut (Authenticator, Accepted)| {
            assert!(is_taken((new, accepted), black_box(&issued.field), now));
        };
        b.iter_batched_ref(fresh, take, BatchSize::PerIteration);
    });
}

/// Through the one door that requests go through. With keys at hand it waits for nothing.
fn is_taken((authenticator, accepted): (&Authenticator, &Accepted), field: &str, now: Now) -> bool {
    let presented = Presented {
        keys: &[],
        confidential: true,
        proof: Field::Absent,
        authorization: Field::One(field.as_bytes()),
        query: None,
        method: &http::Method::GET,
        scheme: "https",
        authority: "api.example",
        path: "/",
        certificate: None,
        address: Ipv4Addr::LOCALHOST.into(),
    };
    let judged = pin!(authenticator.authenticate(&presented, accepted, now));
    match judged.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(evidence) => matches!(evidence.credential, Credential::Valid(_)),
        Poll::Pending => panic!("a key that is at hand was waited for"),
    }
}

fn authenticator(public: &str) -> Authenticator {
    Authenticator::compile(&setup::config(YAML, public), &DiskMaterials, &setup::services(), None)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn issue() -> Issued {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = pair.public_key().as_der().unwrap();
    let public = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()));
    let now = setup::now().unix_secs();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iss": "https://idp.example/", "aud": "api", "sub": "alice", "exp": now + 3600, "iat": now,
        "client_id": "app", "scope": "items:read items:write", "acr": "urn:example:acr:mfa", "amr": ["pwd", "otp"],
        "jti": "0123456789abcdef0123456789abcdef"});
    let signed = format!("{}.{}", part(json!({"alg": "RS256", "typ": "at+jwt"})), part(claims));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    Issued { public, field: format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(signature)) }
}
