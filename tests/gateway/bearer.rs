//! Bearer tokens: every algorithm and every source of keys, what RFC 8725 and RFC 9068 want refused, and an identity
//! provider on its bad days.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Jwks, Mood, Signer, World, claims, encode, eventually, get, let_pass, unix_now};

const ROUTES: &str = "routes:\n  - {path: /**, upstream: api, auth: [main]}\n";

fn ask(gateway: &Gateway, token: &str) -> Answer {
    get("/x").bearer(token).send(gateway)
}

/// A configuration whose issuer `main` has these keys and settings.
fn issuer(settings: &str) -> String {
    format!(
        "issuers:\n  main:\n    issuer: https://idp.example/\n    audience: [https://api.example]\n{settings}{ROUTES}"
    )
}

fn fetched(jwks: &Jwks, more: &str) -> String {
    issuer(&format!("    keys: {{jwks_url: \"{}\"}}\n    algorithms: [ES256, RS256]\n{more}", jwks.url()))
}

#[track_caller]
fn assert_invalid(answer: &Answer) {
    assert_eq!(answer.problem(401), "invalid-token");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    assert!(challenge.contains("error=\"invalid_token\""), "RFC 6750 section 3.1: {challenge}");
}

// -- algorithms and sources of keys

fn algorithm_works(alg: &'static str) {
    let world = World::new();
    let signer = Signer::new(alg, "key");
    world.write("keys.json", signer.jwks().to_string());
    let gateway = world.start(&issuer(&format!("    keys: {{jwks_file: keys.json}}\n    algorithms: [{alg}]\n")));
    ask(&gateway, &signer.token(json!({}))).expect(200);
    let stranger = Signer::new(alg, "key");
    assert_invalid(&ask(&gateway, &stranger.token(json!({}))));
    assert_eq!(world.upstream.count(), 1);
}

macro_rules! algorithms {
    ($($name:ident: $alg:literal),* $(,)?) => {
        $(#[test] fn $name() { algorithm_works($alg); })*
    };
}

algorithms! {
    rs256_tokens_verify: "RS256",
    rs384_tokens_verify: "RS384",
    rs512_tokens_verify: "RS512",
    ps256_tokens_verify: "PS256",
    ps384_tokens_verify: "PS384",
    ps512_tokens_verify: "PS512",
    es256_tokens_verify: "ES256",
    es384_tokens_verify: "ES384",
    eddsa_tokens_verify: "EdDSA",
}

#[test]
fn a_shared_secret_is_read_in_each_encoding() {
    let secret = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let hex: String = secret.iter().map(|byte| format!("{byte:02X}")).collect();
    for (alg, encoding, text) in [
        ("HS256", "", format!("{}\n", String::from_utf8_lossy(secret))),
        ("HS384", ", encoding: base64url", encode(secret)),
        ("HS512", ", encoding: hex", hex),
    ] {
        let world = World::new();
        world.write("secret", text);
        let keys = format!("    keys: {{secret: {{file: secret}}{encoding}}}\n    algorithms: [{alg}]\n");
        let gateway = world.start(&issuer(&keys));
        let signer = Signer::shared(alg, secret);
        ask(&gateway, &signer.token(json!({}))).expect(200);
        assert_invalid(&ask(&gateway, &Signer::shared(alg, &[7; 64]).token(json!({}))));
    }
}

#[test]
fn a_public_key_alone_is_enough() {
    for alg in ["RS256", "ES256", "EdDSA"] {
        let world = World::new();
        let signer = Signer::new(alg, "any name");
        world.write("public.pem", signer.pem());
        let keys = format!("    keys: {{public_key: {{file: public.pem}}}}\n    algorithms: [{alg}]\n");
        let gateway = world.start(&issuer(&keys));
        ask(&gateway, &signer.token(json!({}))).expect(200);
        assert_invalid(&ask(&gateway, &Signer::new(alg, "any name").token(json!({}))));
    }
}

#[test]
fn keys_are_discovered_from_the_issuer_alone() {
    let world = World::new();
    let jwks = Jwks::new(world.signer().jwks());
    let gateway = world.start(&format!(
        "issuers:\n  main:\n    issuer: {}\n    audience: [https://api.example]\n    keys: {{discovery: true}}\n    algorithms: [ES256]\n{ROUTES}",
        jwks.issuer()
    ));
    ask(&gateway, &world.token(json!({"iss": jwks.issuer()}))).expect(200);
    assert_invalid(&ask(&gateway, &world.token(json!({}))));
}

#[test]
fn a_discovery_document_that_speaks_for_another_issuer_is_not_believed() {
    let world = World::new();
    let jwks = Jwks::new(world.signer().jwks());
    let body = json!({"issuer": "https://other.example/", "jwks_uri": jwks.url()}).to_string();
    jwks.set(Mood::Says(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )));
    let gateway = world.start_unready(&format!(
        "issuers:\n  main:\n    issuer: {}\n    audience: [https://api.example]\n    keys: {{discovery: true}}\n    algorithms: [ES256]\n{ROUTES}",
        jwks.issuer()
    ));
    eventually("the document to be fetched", || (jwks.hits() > 0).then_some(()));
    ask(&gateway, &world.token(json!({"iss": jwks.issuer()}))).problem(503);
    world.upstream.assert_untouched();
}

#[test]
fn a_key_file_that_changes_is_read_again_without_a_reload() {
    let world = World::new();
    let gateway = world.start(ROUTES);
    let next = Signer::new("ES256", "main-2");
    assert_invalid(&ask(&gateway, &next.token(json!({}))));
    world.write("jwks.json", next.jwks().to_string());
    eventually("the new key", || (ask(&gateway, &next.token(json!({}))).status == 200).then_some(()));
    assert_invalid(&ask(&gateway, &world.token(json!({}))));
}

// -- what a token must be (RFC 8725, RFC 9068, RFC 7519)

struct Tokens {
    world: World,
    gateway: Gateway,
}

fn tokens() -> Tokens {
    let world = World::new();
    let gateway = world.start(ROUTES);
    Tokens { world, gateway }
}

impl Tokens {
    /// Claims with these changes are refused as an invalid token, and nothing reaches the upstream.
    #[track_caller]
    fn refuse(&self, changes: Value) {
        let token = self.world.token(changes.clone());
        let answer = ask(&self.gateway, &token);
        assert_eq!(answer.status, 401, "{changes}");
        assert_invalid(&answer);
    }

    #[track_caller]
    fn refuse_head(&self, changes: Value) {
        let token = self.world.signer().sign(&self.world.signer().head(changes.clone()), &claims(json!({})));
        let answer = ask(&self.gateway, &token);
        assert_eq!(answer.status, 401, "{changes}");
        assert_invalid(&answer);
    }

    #[track_caller]
    fn take(&self, changes: Value) {
        let answer = ask(&self.gateway, &self.world.token(changes.clone()));
        assert_eq!(answer.status, 200, "{changes}: {}", answer.text());
    }
}

#[test]
fn expiry_counts_with_the_leeway_and_fractions() {
    let t = tokens();
    let now = unix_now();
    for exp in [json!(now - 31), json!(now as f64 - 31.5), json!(0), json!(-1)] {
        let answer = ask(&t.gateway, &t.world.token(json!({"exp": exp})));
        assert_eq!(answer.problem(401), "token-expired", "{exp}");
    }
    t.take(json!({"exp": now - 20}));
    t.take(json!({"exp": now as f64 + 0.25}));
}

#[test]
fn a_token_from_the_future_is_refused() {
    let t = tokens();
    let now = unix_now();
    t.refuse(json!({"nbf": now + 40}));
    t.refuse(json!({"iat": now + 40}));
    t.take(json!({"nbf": now + 20, "iat": now + 20}));
}

#[test]
fn an_expired_token_is_told_apart_but_nothing_else_is() {
    let t = tokens();
    let expired = ask(&t.gateway, &t.world.token(json!({"exp": unix_now() - 100})));
    assert_eq!(expired.problem(401), "token-expired");
    assert!(expired.header("www-authenticate").contains("error=\"invalid_token\""));
    let faults =
        [json!({"aud": "https://other.example"}), json!({"iss": "https://other.example/"}), json!({"sub": null})];
    let bodies: Vec<Value> = faults
        .into_iter()
        .map(|fault| {
            let mut problem = ask(&t.gateway, &t.world.token(fault)).json();
            problem.as_object_mut().unwrap().retain(|name, _| name != "request_id" && name != "instance");
            problem
        })
        .collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:#?}");
}

#[test]
fn claims_that_are_required_must_be_there_and_of_their_type() {
    let t = tokens();
    for changes in [
        json!({"exp": null}),
        json!({"exp": "1999999999"}),
        json!({"exp": true}),
        json!({"exp": {}}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": ["alice"]}),
        json!({"iss": null}),
        json!({"iss": 7}),
        json!({"iss": ["https://idp.example/"]}),
        json!({"aud": null}),
        json!({"aud": []}),
        json!({"aud": 7}),
        json!({"aud": {"0": "https://api.example"}}),
        json!({"nbf": "0"}),
        json!({"iat": "0"}),
        json!({"exp": null, "nbf": 0}),
    ] {
        t.refuse(changes);
    }
}

#[test]
fn the_issuer_and_the_audience_are_compared_exactly() {
    let t = tokens();
    for iss in [
        "https://idp.example",
        "https://IDP.example/",
        "https://idp.example/ ",
        "http://idp.example/",
        "https://idp.example/x",
    ] {
        t.refuse(json!({"iss": iss}));
    }
    for aud in [json!("https://api.example/"), json!("https://api"), json!(["x", "https://api.example.evil"])] {
        t.refuse(json!({"aud": aud}));
    }
    t.take(json!({"aud": ["x", "https://api.example"]}));
}

#[test]
fn the_type_is_one_of_those_accepted_in_any_case() {
    let t = tokens();
    for typ in [json!("at+jwt"), json!("AT+JWT"), json!("application/at+jwt"), json!("JWT"), json!("jwt"), json!(null)]
    {
        let token = t.world.signer().sign(&t.world.signer().head(json!({"typ": typ})), &claims(json!({})));
        assert_eq!(ask(&t.gateway, &token).status, 200, "{typ}");
    }
    for typ in [
        json!("dpop+jwt"),
        json!("logout+jwt"),
        json!("secevent+jwt"),
        json!("absent"),
        json!(""),
        json!(7),
        json!(["JWT"]),
    ] {
        t.refuse_head(json!({"typ": typ}));
    }
}

#[test]
fn a_strict_type_refuses_plain_jwt_and_none_at_all() {
    let world = World::new();
    let gateway =
        world.start(&issuer("    keys: {jwks_file: jwks.json}\n    algorithms: [ES256]\n    types: [at+jwt]\n"));
    ask(&gateway, &world.token(json!({}))).expect(200);
    for typ in [json!("JWT"), json!(null)] {
        let token = world.signer().sign(&world.signer().head(json!({"typ": typ})), &claims(json!({})));
        assert_invalid(&ask(&gateway, &token));
    }
}

#[test]
fn critical_extensions_are_refused() {
    let t = tokens();
    t.refuse_head(json!({"crit": ["exp"], "exp": 1}));
    t.refuse_head(json!({"crit": ["b64"], "b64": false}));
    t.refuse_head(json!({"crit": []}));
    t.refuse_head(json!({"b64": false}));
    t.refuse_head(json!({"zip": "DEF"}));
    t.refuse_head(json!({"enc": "A256GCM"}));
}

#[test]
fn keys_in_the_header_are_never_used_or_fetched() {
    let t = tokens();
    let attacker = Signer::new("ES256", "attacker");
    let fetched = Jwks::new(attacker.jwks());
    for head in [
        json!({"jwk": attacker.jwk(), "kid": "main-1"}),
        json!({"jwk": attacker.jwk(), "kid": null}),
        json!({"jku": fetched.url(), "kid": "attacker"}),
        json!({"x5u": fetched.url(), "kid": "attacker"}),
        json!({"x5c": [encode(b"no certificate")], "kid": "main-1"}),
    ] {
        let token = attacker.sign(&attacker.head(head.clone()), &claims(json!({})));
        let answer = ask(&t.gateway, &token);
        assert_eq!(answer.status, 401, "{head}");
    }
    assert_eq!(fetched.hits(), 0);
    t.world.upstream.assert_untouched();
}

#[test]
fn no_algorithm_is_no_signature() {
    let t = tokens();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let head = encode(json!({"typ": "at+jwt", "alg": alg, "kid": "main-1"}).to_string().as_bytes());
        let payload = encode(claims(json!({})).to_string().as_bytes());
        for token in [format!("{head}.{payload}."), format!("{head}.{payload}.AAAA")] {
            assert_eq!(ask(&t.gateway, &token).status, 401, "{alg:?}");
        }
    }
    t.world.upstream.assert_untouched();
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let world = World::new();
    let signer = Signer::new("RS256", "key");
    world.write("public.pem", signer.pem());
    let gateway = world.start(&issuer("    keys: {public_key: {file: public.pem}}\n    algorithms: [RS256]\n"));
    for secret in [signer.pem(), signer.pem().trim().to_owned(), signer.jwk().to_string()] {
        let forged = Signer::shared("HS256", secret.as_bytes());
        assert_invalid(&ask(&gateway, &forged.sign(&forged.head(json!({"kid": "key"})), &claims(json!({})))));
    }
}

#[test]
fn a_key_serves_one_algorithm() {
    let world = World::new();
    let signer = Signer::new("PS256", "key");
    world.write("keys.json", signer.jwks().to_string());
    let gateway = world.start(&issuer("    keys: {jwks_file: keys.json}\n    algorithms: [RS256, PS256, ES256]\n"));
    ask(&gateway, &signer.token(json!({}))).expect(200);
    for alg in ["RS256", "ES256", "PS384"] {
        assert_invalid(&ask(&gateway, &signer.sign(&signer.head(json!({"alg": alg})), &claims(json!({})))));
    }
}

#[test]
fn what_is_not_a_compact_jws_is_refused() {
    let t = tokens();
    let good = t.world.token(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let (head, payload, signature) = (parts[0], parts[1], parts[2]);
    let mut last = signature.to_owned();
    // The last of 86 characters carries four bits that mean nothing; only one spelling of them is canonical.
    let end = last.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(end).unwrap();
    last.push(alphabet.as_bytes()[(at & !0xf) | ((at + 1) & 0xf)].into());
    for token in [
        format!("{head}.{payload}"),
        format!("{head}.{payload}.{signature}.{signature}"),
        format!(".{payload}.{signature}"),
        format!("{head}..{signature}"),
        format!("{head}.{payload}."),
        format!("{good}="),
        format!("{head}=.{payload}.{signature}"),
        format!("{head}.{payload}.{last}"),
        format!("{}.{payload}.{signature}", encode(b"[]")),
        format!("{}.{payload}.{signature}", encode(b"{\"alg\":\"ES256\"")),
        format!("{}.{payload}.{signature}", encode(b"\xff\xfe")),
        "a.b.c".to_owned(),
        "...".to_owned(),
        "not-a-token".to_owned(),
        "e30.e30.e30".to_owned(),
    ] {
        let answer = get("/x").header("Authorization", &format!("Bearer {token}")).send(&t.gateway);
        assert_eq!(answer.status, 401, "{token}");
    }
    t.world.upstream.assert_untouched();
    ask(&t.gateway, &good).expect(200);
}

#[test]
fn a_claim_said_twice_is_refused() {
    let t = tokens();
    let signer = t.world.signer();
    let now = unix_now();
    let head = signer.head(json!({})).to_string();
    for payload in [
        format!(
            r#"{{"iss":"https://idp.example/","aud":"https://api.example","sub":"alice","sub":"admin","exp":{}}}"#,
            now + 60
        ),
        format!(
            r#"{{"iss":"https://idp.example/","aud":"https://api.example","sub":"alice","exp":{},"exp":{}}}"#,
            now - 600,
            now + 60
        ),
        format!(
            r#"{{"iss":"https://idp.example/","aud":"https://api.example","sub":"alice","s\u0075b":"admin","exp":{}}}"#,
            now + 60
        ),
    ] {
        assert_eq!(ask(&t.gateway, &signer.sign_text(&head, &payload)).status, 401, "{payload}");
    }
    let twice = r#"{"typ":"at+jwt","alg":"none","alg":"ES256","kid":"main-1"}"#;
    assert_eq!(ask(&t.gateway, &signer.sign_text(twice, &claims(json!({})).to_string())).status, 401);
    t.world.upstream.assert_untouched();
}

#[test]
fn a_token_longer_than_the_limit_is_refused_before_it_is_read() {
    let t = tokens();
    t.take(json!({"padding": "x".repeat(4000)}));
    t.refuse(json!({"padding": "x".repeat(9000)}));
}

#[test]
fn a_payload_nested_without_end_is_refused() {
    let t = tokens();
    let deep = format!("{}{}", "[".repeat(2500), "]".repeat(2500));
    let payload = claims(json!({})).to_string().replacen('{', &format!("{{\"deep\":{deep},"), 1);
    let token = t.world.signer().sign_text(&t.world.signer().head(json!({})).to_string(), &payload);
    assert_invalid(&ask(&t.gateway, &token));
    t.take(json!({}));
}

// -- claims where each provider has them

#[test]
fn facts_are_found_where_each_provider_puts_them() {
    for (layout, claims, scopes) in [
        ("{scopes: /realm_access/roles}", json!({"realm_access": {"roles": ["a", "b"]}, "scope": null}), "a b"), // Keycloak
        ("{scopes: permissions}", json!({"permissions": ["a", "b"], "scope": null}), "a b"), // Auth0
        ("{scopes: \"https://app.example/roles\"}", json!({"https://app.example/roles": ["a", "b"]}), "a b"), // Auth0
        ("{scopes: scp}", json!({"scp": "a b", "scope": null}), "a b"),                      // Entra
        ("{scopes: scp}", json!({"scp": ["a", "b"], "scope": null}), "a b"),                 // Okta
    ] {
        let world = World::new();
        let settings = format!("    keys: {{jwks_file: jwks.json}}\n    algorithms: [ES256]\n    claims: {layout}\n");
        let yaml = issuer(&settings).replace("auth: [main]}", "auth: [main], scopes: [a, b]}");
        let gateway = world.start(&yaml.replace(
            "routes:",
            "upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], identity_headers: true}\nroutes:",
        ));
        ask(&gateway, &world.token(claims)).expect(200);
        assert_eq!(world.upstream.last().header("x-auth-scopes"), scopes);
        ask(&gateway, &world.token(json!({"scope": "a b"}))).problem(403);
    }
}

// -- the identity provider's bad days

#[test]
fn a_provider_that_is_down_at_start_means_503_until_it_is_up() {
    let world = World::new();
    let jwks = Jwks::down(world.signer().jwks());
    let yaml = fetched(&jwks, "").replace("routes:", "routes:\n  - {path: /open, upstream: api, auth: none}");
    let gateway = world.start_unready(&yaml);
    assert_eq!(gateway.readiness().status, 503, "fail closed, and say so");
    let token = world.token(json!({}));
    let answer = ask(&gateway, &token);
    answer.problem(503);
    assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
    get("/open").send(&gateway).expect(200);
    jwks.go_up();
    eventually("the keys", || (ask(&gateway, &token).status == 200).then_some(()));
    assert_eq!(gateway.readiness().status, 200);
}

#[test]
fn a_provider_that_goes_down_later_leaves_the_last_good_keys() {
    let world = World::new();
    let jwks = Jwks::new(json!(null));
    jwks.set(Mood::KeysFor(world.signer().jwks(), 1));
    let gateway = world.start(&fetched(&jwks, ""));
    ask(&gateway, &world.token(json!({}))).expect(200);
    jwks.go_down();
    let_pass(Duration::from_secs(2));
    ask(&gateway, &world.token(json!({"jti": "another"}))).expect(200);
}

#[test]
fn garbage_from_the_provider_leaves_the_last_good_keys() {
    for garbage in [
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"keys\":[]}",
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        let world = World::new();
        let jwks = Jwks::new(world.signer().jwks());
        let gateway = world.start(&fetched(&jwks, "    jwks_cooldown: 1s\n"));
        jwks.set(Mood::Says(garbage.to_owned()));
        let stranger = Signer::new("ES256", "unknown");
        let before = jwks.hits();
        eventually("a refetch", || {
            ask(&gateway, &stranger.token(json!({})));
            (jwks.hits() > before).then_some(())
        });
        ask(&gateway, &world.token(json!({"jti": "another"}))).expect(200);
        assert_eq!(gateway.readiness().status, 200);
    }
}

fn bad_at_start(mood: Mood) {
    let world = World::new();
    let jwks = Jwks::new(json!(null));
    jwks.set(mood);
    let gateway = world.start_unready(&fetched(&jwks, ""));
    eventually("a fetch", || (jwks.hits() > 0).then_some(()));
    let start = Instant::now();
    ask(&gateway, &world.token(json!({}))).problem(503);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    jwks.set(Mood::Keys(world.signer().jwks()));
    eventually("recovery", || (ask(&gateway, &world.token(json!({}))).status == 200).then_some(()));
}

#[test]
fn a_provider_that_never_answers_holds_up_nobody_for_long() {
    bad_at_start(Mood::Silent);
}

#[test]
fn a_provider_that_drips_holds_up_nobody_for_long() {
    bad_at_start(Mood::Drips);
}

#[test]
fn a_provider_that_answers_without_end_is_cut_off() {
    bad_at_start(Mood::Floods);
}

#[test]
fn a_rotated_key_is_found_by_its_unknown_kid_and_the_old_one_stops_working() {
    let world = World::new();
    let jwks = Jwks::new(world.signer().jwks());
    let gateway = world.start(&fetched(&jwks, "    jwks_cooldown: 1s\n"));
    let old = world.token(json!({}));
    ask(&gateway, &old).expect(200);
    let next = Signer::new("RS256", "main-2");
    jwks.set(Mood::Keys(next.jwks()));
    eventually("the new key", || (ask(&gateway, &next.token(json!({}))).status == 200).then_some(()));
    // The old token was verified and cached, and falls with its key all the same.
    assert_invalid(&ask(&gateway, &old));
}

#[test]
fn an_unknown_kid_is_asked_for_once_a_cooldown_however_many_come() {
    let world = World::new();
    let jwks = Jwks::new(world.signer().jwks());
    let gateway = world.start(&fetched(&jwks, "    jwks_cooldown: 60s\n"));
    let before = jwks.hits();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                for m in 0..5 {
                    let stranger = Signer::new("ES256", &format!("unknown-{n}-{m}"));
                    assert_invalid(&ask(gateway, &stranger.token(json!({}))));
                }
            });
        }
    });
    assert!(jwks.hits() <= before + 1, "{} fetches", jwks.hits() - before);
    ask(&gateway, &world.token(json!({}))).expect(200);
}

#[test]
fn a_key_that_was_taken_out_stops_working_when_max_age_is_over() {
    let world = World::new();
    let jwks = Jwks::new(json!(null));
    let other = Signer::new("RS256", "other");
    jwks.set(Mood::KeysFor(json!({"keys": [world.signer().jwk(), other.jwk()]}), 1));
    let gateway = world.start(&fetched(&jwks, ""));
    let token = world.token(json!({}));
    ask(&gateway, &token).expect(200);
    jwks.set(Mood::KeysFor(other.jwks(), 1));
    eventually("the key to be gone", || (ask(&gateway, &token).status == 401).then_some(()));
    ask(&gateway, &other.token(json!({}))).expect(200);
}

#[test]
fn keys_older_than_max_stale_are_no_longer_believed() {
    let world = World::new();
    let jwks = Jwks::new(json!(null));
    jwks.set(Mood::KeysFor(world.signer().jwks(), 1));
    let gateway = world.start(&fetched(&jwks, "    jwks_max_stale: 2s\n"));
    let token = world.token(json!({}));
    ask(&gateway, &token).expect(200);
    jwks.go_down();
    eventually("the keys to be too old", || (ask(&gateway, &token).status == 503).then_some(()));
}

#[test]
fn one_bad_key_does_not_spoil_the_set() {
    let world = World::new();
    let keys = json!({"keys": [
        {"kty": "RSA", "kid": "small", "n": encode(&[0x81; 64]), "e": "AQAB"},
        {"kty": "oct", "kid": "secret", "k": encode(b"0123456789abcdef0123456789abcdef")},
        {"kty": "EC", "crv": "P-999", "kid": "odd", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "kid": "off the curve", "x": encode(&[1; 32]), "y": encode(&[1; 32])},
        7, null, {"kty": 3}, {},
        {"kty": "RSA", "kid": "main-1", "use": "enc", "n": encode(&[0x81; 256]), "e": "AQAB"},
        world.signer().jwk(),
    ]});
    let jwks = Jwks::new(keys);
    let gateway = world.start(&fetched(&jwks, ""));
    ask(&gateway, &world.token(json!({}))).expect(200);
    let oct = Signer::shared("HS256", b"0123456789abcdef0123456789abcdef");
    assert_invalid(&ask(&gateway, &oct.sign(&oct.head(json!({"kid": "secret"})), &claims(json!({})))));
}

// -- the cache of verified tokens

#[test]
fn a_cached_token_still_expires_on_time() {
    let world = World::new();
    let gateway = world.start(&issuer("    keys: {jwks_file: jwks.json}\n    algorithms: [ES256]\n    leeway: 0s\n"));
    let exp = unix_now() + 3;
    let token = world.token(json!({"exp": exp}));
    ask(&gateway, &token).expect(200);
    ask(&gateway, &token).expect(200);
    assert!(gateway.metric("stepgate_token_cache_total", &["result=\"hit\""]) >= 1.0);
    let end = eventually("expiry", || (ask(&gateway, &token).status == 401).then(unix_now));
    // A token that lived on with its cache entry would do so for minutes; the rest is for a machine that is busy.
    assert!((exp..exp + 10).contains(&end), "ended at {end}, {exp} was said");
    assert_eq!(ask(&gateway, &token).problem(401), "token-expired");
}

#[test]
fn the_cache_goes_by_the_whole_token_and_by_the_route() {
    let world = World::new();
    let other = Signer::shared("HS256", b"0123456789abcdef0123456789abcdef");
    world.write("secret", "0123456789abcdef0123456789abcdef");
    let gateway = world.start(
        "issuers:
  main: {issuer: https://idp.example/, audience: [https://api.example], keys: {jwks_file: jwks.json}, algorithms: [ES256]}
  second: {issuer: https://second.example/, audience: [https://api.example], keys: {secret: {file: secret}}, algorithms: [HS256]}
routes:
  - {path: /a, upstream: api, auth: [main]}
  - {path: /b, upstream: api, auth: [second]}
",
    );
    let token = world.token(json!({}));
    let second = other.token(json!({"iss": "https://second.example/"}));
    for _ in 0..2 {
        get("/a").bearer(&token).send(&gateway).expect(200);
        assert_invalid(&get("/b").bearer(&token).send(&gateway));
        get("/b").bearer(&second).send(&gateway).expect(200);
        assert_invalid(&get("/a").bearer(&second).send(&gateway));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let forged =
        format!("{}.{}.{}", parts[0], encode(claims(json!({"sub": "admin"})).to_string().as_bytes()), parts[2]);
    assert_invalid(&get("/a").bearer(&forged).send(&gateway));
    assert_eq!(world.upstream.count(), 4);
}

// -- how a token may be sent (RFC 6750 section 2)

#[test]
fn no_token_is_a_challenge_without_an_error_code() {
    let t = tokens();
    let answer = get("/x").send(&t.gateway);
    assert_eq!(answer.problem(401), "token-required");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer") && !challenge.contains("error"), "RFC 6750 section 3.1: {challenge}");
}

#[test]
fn the_scheme_is_read_in_any_case() {
    let t = tokens();
    for scheme in ["bearer", "BEARER", "bEaReR"] {
        get("/x")
            .header("Authorization", &format!("{scheme} {}", t.world.token(json!({}))))
            .send(&t.gateway)
            .expect(200);
    }
}

#[test]
fn a_token_in_the_query_or_in_a_form_is_no_token() {
    let t = tokens();
    let token = t.world.token(json!({}));
    get(&format!("/x?access_token={token}")).send(&t.gateway).problem(401);
    let form = crate::harness::post("/x", &format!("access_token={token}"))
        .header("Content-Type", "application/x-www-form-urlencoded");
    form.send(&t.gateway).problem(401);
    get("/x").header("Cookie", &format!("access_token={token}")).send(&t.gateway).problem(401);
    t.world.upstream.assert_untouched();
}

#[test]
fn two_credentials_are_a_bad_request() {
    let t = tokens();
    let token = t.world.token(json!({}));
    let twice = get("/x").bearer(&token).bearer(&token).send(&t.gateway);
    twice.problem(400);
    t.world.upstream.assert_untouched();
}

#[test]
fn other_schemes_and_broken_credentials_are_refused() {
    let t = tokens();
    for value in [
        "Basic YWxpY2U6c2VjcmV0",
        "Bearer",
        "Bearer ",
        "Digest username=\"alice\"",
        "Negotiate AAAA",
        "Bearer a b",
        "Bearer a, Bearer b",
        "Bearer\u{a0}x",
        "",
    ] {
        let answer = get("/x").header("Authorization", value).send(&t.gateway);
        assert!([400, 401].contains(&answer.status), "{value:?}: {}", answer.status);
    }
    t.world.upstream.assert_untouched();
}
