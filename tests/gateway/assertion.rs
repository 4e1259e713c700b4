//! The signed token that an upstream gets about the caller: verified here as an upstream would, by the published keys.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Gateway, World, eventually, get, stepgate, unix_now};

const SIGNED: &str = "assertions: {issuer: https://gateway.example}\n\
    upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], assertion: {audience: https://api.internal}}\n\
    routes:\n  - {path: /public/**, upstream: api, auth: none}\n  - {path: /**, upstream: api, auth: [main]}\n";

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// The claims of a token that one of the published keys verifies.
fn verified(gateway: &Gateway, token: &str) -> Value {
    let set = get("/.well-known/stepgate/jwks.json").send(gateway).expect(200);
    assert_eq!(set.header("content-type"), "application/jwk-set+json");
    let parts: Vec<&str> = token.split('.').collect();
    let head: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    assert_eq!(head["typ"], "stepgate-assertion+jwt");
    let keys = set.json();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == head["kid"]).unwrap().clone();
    assert_eq!(key["alg"], head["alg"]);
    assert!(key.get("d").is_none(), "a private key is published");
    let member = |name: &str| decode(key[name].as_str().unwrap());
    let (algorithm, public): (&dyn VerificationAlgorithm, _) = match key["kty"].as_str().unwrap() {
        "EC" => (&ECDSA_P256_SHA256_FIXED, [vec![4], member("x"), member("y")].concat()),
        _ => (&ED25519, member("x")),
    };
    let message = format!("{}.{}", parts[0], parts[1]);
    UnparsedPublicKey::new(algorithm, public).verify(message.as_bytes(), &decode(parts[2])).unwrap();
    serde_json::from_slice(&decode(parts[1])).unwrap()
}

#[test]
fn an_upstream_learns_who_calls_in_a_way_that_it_can_verify() {
    let world = World::new();
    let gateway = world.start(SIGNED);
    let token = world.fresh(10);
    get("/x").bearer(&token).send(&gateway).expect(200);
    let seen = world.upstream.last();
    let claims = verified(&gateway, seen.header("x-auth-assertion"));
    let now = unix_now();
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("https://gateway.example"), &json!("https://api.internal")));
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["sub_id"], json!({"format": "iss_sub", "iss": "https://idp.example/", "sub": "alice"}));
    assert_eq!((&claims["client_id"], &claims["scope"]), (&json!("app"), &json!("items:read")));
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("urn:example:acr:mfa"), &json!(["pwd", "otp", "mfa"])));
    assert!(claims["auth_time"].as_u64().unwrap().abs_diff(now - 10) <= 2);
    assert_eq!(claims["txn"], seen.header("x-request-id"));
    let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(exp == iat + 60 && now.abs_diff(iat) <= 2);

    get("/x").bearer(&token).send(&gateway).expect(200);
    let again = verified(&gateway, world.upstream.last().header("x-auth-assertion"));
    assert_ne!(claims["jti"], again["jti"], "each is for one request");
}

#[test]
fn a_client_can_send_no_assertion_of_its_own() {
    let world = World::new();
    let yaml = SIGNED.replace("https://api.internal}", "https://api.internal, header: x-signed-by-gateway}");
    let gateway = world.start(&yaml);
    for name in ["x-signed-by-gateway", "X_Signed_By_Gateway", "x-signed-by_gateway", "X-Auth-Assertion"] {
        get("/public/x").header(name, "forged").send(&gateway).expect(200);
        let seen = world.upstream.last();
        assert!(!seen.has(name) && !seen.has("x-signed-by-gateway"), "{name}");
        get("/x").header(name, "forged").bearer(&world.token(json!({}))).send(&gateway).expect(200);
        let seen = world.upstream.last();
        verified(&gateway, seen.header("x-signed-by-gateway"));
    }
}

#[test]
fn an_assertion_is_no_bearer_token() {
    let world = World::new();
    // Even where the gateway is configured to trust its own keys.
    let issuers = "issuers:\n  main: {issuer: https://idp.example/, audience: [https://api.example], keys: {jwks_file: jwks.json}, algorithms: [ES256]}\n  \
         own: {issuer: https://gateway.example, audience: [https://api.internal], keys: {jwks_url: \"http://127.0.0.1:<admin>/jwks.json\"}, algorithms: [ES256]}\n";
    let gateway = world.start(&format!("{issuers}{}", SIGNED.replace("[main]", "[main, own]")));
    get("/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    let assertion = world.upstream.last().header("x-auth-assertion").to_owned();
    assert_eq!(get("/x").bearer(&assertion).send(&gateway).problem(401), "invalid-token");
    let reason = gateway.access(|line| line["status"] == 401);
    assert_eq!(reason["reason"], "token_type");
}

#[test]
fn keys_outlive_a_restart_and_another_algorithm_brings_another_key() {
    let world = World::new();
    let mut gateway = world.start(SIGNED);
    let token = world.token(json!({}));
    get("/x").bearer(&token).send(&gateway).expect(200);
    let first = world.upstream.last().header("x-auth-assertion").to_owned();
    gateway.kill();
    let gateway = world.restart().ready();
    verified(&gateway, &first);

    world.configure(&SIGNED.replace("gateway.example}", "gateway.example, algorithm: EdDSA}"));
    eventually("the new key is published", || {
        let set = get("/.well-known/stepgate/jwks.json").send(&gateway).json();
        (set["keys"].as_array().unwrap().len() == 2).then_some(())
    });
    // Verifiers that keep the old set for a while do not know the new key yet.
    get("/x").bearer(&token).send(&gateway).expect(200);
    let still = world.upstream.last().header("x-auth-assertion").to_owned();
    assert_eq!(first.split('.').next(), still.split('.').next());
    verified(&gateway, &first);
}

#[test]
fn a_key_of_ones_own_signs_and_may_ride_in_authorization() {
    let world = World::new();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let body = base64::engine::general_purpose::STANDARD.encode(pair.as_ref());
    world.write("signing.pem", format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"));
    world.write("next.json", crate::harness::Signer::new("EdDSA", "next").jwks().to_string());
    let yaml = SIGNED
        .replace(
            "gateway.example}",
            "gateway.example, algorithm: EdDSA, key: {file: signing.pem}, publish: [next.json]}",
        )
        .replace("https://api.internal}", "https://api.internal, header: authorization, ttl: 30s}");
    let gateway = world.start(&yaml);
    get("/x").bearer(&world.token(json!({}))).send(&gateway).expect(200);
    let seen = world.upstream.last();
    let token = seen.header("authorization").strip_prefix("Bearer ").unwrap();
    let claims = verified(&gateway, token);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 30);
    let set = get("/.well-known/stepgate/jwks.json").send(&gateway).json();
    assert_eq!(set["keys"].as_array().unwrap().len(), 2);
    assert!(!world.folder().join("state/assertion-keys.json").exists());
}

#[test]
fn what_cannot_be_signed_or_carried_is_said_at_load() {
    let world = World::new();
    world.write("bad.pem", "no key");
    for (from, to, says) in [
        ("assertions: {issuer: https://gateway.example}\n", "", "nobody signs assertions"),
        ("gateway.example}", "gateway.example, key: {file: bad.pem}}", "is not one private key in PKCS#8 PEM"),
        ("gateway.example}", "gateway.example, key: {file: none.pem}}", "cannot read"),
        ("gateway.example}", "gateway.example, algorithm: HS256}", "an algorithm for assertions"),
        ("gateway.example}", "gateway.example, rotate: 1m}", "every 2h"),
        ("https://api.internal}", "https://api.internal, ttl: 1h}", "10m at most"),
        ("https://api.internal}", "\"\"}", "it is empty"),
        ("https://api.internal}", "https://api.internal, header: x-auth-subject}", "a fact about the caller"),
        ("https://api.internal}", "https://api.internal, header: x-forwarded-for}", "a fact about the request"),
        ("https://api.internal}", "https://api.internal, header: connection}", "belongs to the connection"),
        (
            "https://api.internal}",
            "https://api.internal, header: authorization}, forward_authorization: true",
            "the caller's own token",
        ),
    ] {
        world.configure(&SIGNED.replace(from, to));
        let found = stepgate(world.folder(), &["check", "gateway.yaml"]);
        assert_eq!(found.code, 78, "{to}");
        let said = format!("{}{}", found.stdout, found.stderr);
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(!world.folder().join("state").exists(), "`check` makes nothing");
}
