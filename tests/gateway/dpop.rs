//! Proof of possession (RFC 9449), end to end: the twelve checks of §4.3 each broken once, replay, nonces, challenges,
//! and what a machine's key is worth in place of a second factor.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::harness::{
    Answer, Authority, Gateway, Request, Signer, Wire, World, delete, encode, eventually, get, h2::H2, idp::Idp, post,
    stepgate, unix_now,
};

const ROUTES: &str = "routes:
  - {path: /plain/**, upstream: api, auth: [main]}
  - {path: /public/**, upstream: api, auth: none}
";

/// The issuer `main` with a `dpop` section.
fn issuer(dpop: &str) -> String {
    format!(
        "issuers:
  main:
    issuer: https://idp.example/
    audience: [https://api.example]
    keys: {{jwks_file: jwks.json}}
    algorithms: [ES256]
    {dpop}
"
    )
}

/// Where the suites' clients ask, as a proof names it.
const HERE: &str = "http://gateway.example";

/// A client with a key of its own.
struct Client {
    key: Signer,
}

impl Client {
    fn new(algorithm: &'static str) -> Self {
        Self { key: Signer::new(algorithm, "client") }
    }

    /// The key as a proof shows it.
    fn jwk(&self) -> Value {
        let mut jwk = self.key.jwk();
        for name in ["kid", "use", "alg"] {
            jwk.as_object_mut().unwrap().remove(name);
        }
        jwk
    }

    /// RFC 7638.
    fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let member = |name: &str| format!("\"{name}\":{}", jwk[name]);
        let names: &[&str] = match jwk["kty"].as_str().unwrap() {
            "EC" => &["crv", "kty", "x", "y"],
            "OKP" => &["crv", "kty", "x"],
            _ => &["e", "kty", "n"],
        };
        let text = names.iter().map(|name| member(name)).collect::<Vec<_>>().join(",");
        encode(digest(&SHA256, format!("{{{text}}}").as_bytes()).as_ref())
    }

    /// A token of `main` that is bound to this key.
    fn token(&self, world: &World, changes: Value) -> String {
        let mut changes = changes;
        changes["cnf"] = json!({"jkt": self.thumbprint()});
        world.token(changes)
    }

    fn head(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": self.key.alg, "jwk": self.jwk()})
    }

    fn claims(token: &str, method: &str, htu: &str) -> Value {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        json!({
            "jti": format!("proof-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)),
            "htm": method, "htu": htu, "iat": unix_now(), "ath": encode(digest(&SHA256, token.as_bytes()).as_ref()),
        })
    }

    /// A proof for a request.
    fn proof(&self, token: &str, method: &str, htu: &str) -> String {
        self.key.sign(&self.head(), &Self::claims(token, method, htu))
    }

    /// A proof with changes of its header and its claims; a `null` takes a member out.
    fn odd_proof(&self, token: &str, head: Value, claims: Value) -> String {
        let laid_over = |mut whole: Value, changes: Value| {
            for (name, value) in changes.as_object().unwrap() {
                whole.as_object_mut().unwrap().remove(name);
                if !value.is_null() {
                    whole[name] = value.clone();
                }
            }
            whole
        };
        let claims = laid_over(Self::claims(token, "GET", &format!("{HERE}/plain/x")), claims);
        self.key.sign(&laid_over(self.head(), head), &claims)
    }
}

/// A request with a token by the DPoP scheme and its proof.
fn by_dpop(request: Request, token: &str, proof: &str) -> Request {
    crate::harness::remember_secret(token);
    request.header("Authorization", &format!("DPoP {token}")).header("DPoP", proof)
}

/// The number of decisions for a reason.
fn decided(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("stepgate_decisions_total", &[&format!("reason=\"{reason}\"")])
}

/// Checks a refusal for a reason that the caller is not told.
#[track_caller]
fn refused_for(gateway: &Gateway, request: &Request, reason: &str) -> Answer {
    let before = decided(gateway, reason);
    let answer = request.send(gateway);
    let type_name = answer.problem(401);
    assert!(["invalid-token", "dpop-nonce-required"].contains(&type_name.as_str()), "{type_name}");
    assert_eq!(decided(gateway, reason), before + 1.0, "{reason}: {answer:?}");
    answer
}

fn start(dpop: &str) -> (World, Gateway, Client, String) {
    let world = World::new();
    let gateway = world.start(&format!("{}{ROUTES}", issuer(dpop)));
    let client = Client::new("ES256");
    let token = client.token(&world, json!({}));
    (world, gateway, client, token)
}

#[test]
fn a_proof_by_each_algorithm_lets_its_own_token_in_once() {
    let (world, gateway, ..) = start("dpop: {}");
    for algorithm in ["ES256", "ES384", "EdDSA", "RS256", "PS256"] {
        let client = Client::new(algorithm);
        let token = client.token(&world, json!({}));
        let proof = client.proof(&token, "GET", &format!("{HERE}/plain/x"));
        let request = by_dpop(get("/plain/x?page=2"), &token, &proof);
        let answer = request.send(&gateway).expect(200);
        assert!(!answer.has("dpop-nonce") && !answer.has("www-authenticate"), "{answer:?}");
        refused_for(&gateway, &request, "dpop_replayed");
        // Another proof, another request.
        let proof = client.proof(&token, "POST", &format!("{HERE}/plain/y"));
        by_dpop(post("/plain/y", "x"), &token, &proof).send(&gateway).expect(200);
    }
    for request in world.upstream.requests() {
        assert!(!request.has("dpop") && !request.has("authorization"), "{request:?}");
    }
}

#[test]
fn each_check_of_rfc_9449_section_4_3_refuses_what_breaks_it() {
    let (world, gateway, client, token) = start("dpop: {}");
    let here = format!("{HERE}/plain/x");
    let good = client.proof(&token, "GET", &here);
    let other = Client::new("ES256");
    let rsa = Client::new("RS256");
    let odd = |head: Value, claims: Value| client.odd_proof(&token, head, claims);
    let mut private = client.jwk();
    private["d"] = json!(encode(&[1; 32]));
    let now = unix_now();
    let (head, _) = good.split_once('.').unwrap();
    let stolen = {
        // Another proof's signature under this one's header and claims.
        let (signed, _) = good.rsplit_once('.').unwrap();
        format!("{signed}.{}", client.proof(&token, "GET", &here).rsplit_once('.').unwrap().1)
    };
    let not_ours = |claims: Value| other.key.sign(&client.head(), &claims);
    let invalid = [
        // 2: one well-formed JWT.
        ("nothing", String::new()),
        ("no JWT", "proof".into()),
        ("four parts", format!("{good}.x")),
        ("two in one field", format!("{good},{good}")),
        ("no JSON", format!("{head}.e30.AA")),
        ("too long", odd(json!({"pad": "x".repeat(9000)}), json!({}))),
        (
            "a name twice",
            client.key.sign_text(
                &client.head().to_string().replacen('{', "{\"typ\":\"dpop+jwt\",", 1),
                &Client::claims(&token, "GET", &here).to_string(),
            ),
        ),
        // 3: all that is required.
        ("without jti", odd(json!({}), json!({"jti": null}))),
        ("with an empty jti", odd(json!({}), json!({"jti": ""}))),
        ("with a numeric jti", odd(json!({}), json!({"jti": 7}))),
        ("with a huge jti", odd(json!({}), json!({"jti": "j".repeat(600)}))),
        ("without htm", odd(json!({}), json!({"htm": null}))),
        ("without htu", odd(json!({}), json!({"htu": null}))),
        ("without iat", odd(json!({}), json!({"iat": null}))),
        ("with a textual iat", odd(json!({}), json!({"iat": now.to_string()}))),
        ("without ath", odd(json!({}), json!({"ath": null}))),
        // 4: typ.
        ("without typ", odd(json!({"typ": null}), json!({}))),
        ("of another typ", odd(json!({"typ": "JWT"}), json!({}))),
        ("of a typ in capitals", odd(json!({"typ": "DPOP+JWT"}), json!({}))),
        ("an access token", odd(json!({"typ": "at+jwt"}), json!({}))),
        // 5: alg.
        ("by none", odd(json!({"alg": "none"}), json!({}))),
        ("by HS256", odd(json!({"alg": "HS256"}), json!({}))),
        ("by another algorithm of the key's kind", odd(json!({"alg": "ES384"}), json!({}))),
        ("by RS512", rsa.odd_proof(&token, json!({"alg": "RS512", "jwk": client.jwk()}), json!({}))),
        // 6: the signature, by the key that is shown.
        ("signed by another key", not_ours(Client::claims(&token, "GET", &here))),
        ("with another's signature", stolen),
        ("without signature", format!("{}.", good.rsplit_once('.').unwrap().0)),
        // 7: a public key.
        ("without jwk", odd(json!({"jwk": null}), json!({}))),
        ("with a private jwk", odd(json!({"jwk": private}), json!({}))),
        ("with a shared secret", odd(json!({"jwk": {"kty": "oct", "k": encode(&[1; 32])}}), json!({}))),
        ("with a jwk as text", odd(json!({"jwk": client.jwk().to_string()}), json!({}))),
        // 8: htm.
        ("for another method", odd(json!({}), json!({"htm": "POST"}))),
        ("for a method in small letters", odd(json!({}), json!({"htm": "get"}))),
        // 9: htu.
        ("for another path", odd(json!({}), json!({"htu": format!("{HERE}/plain/y")}))),
        ("for another host", odd(json!({}), json!({"htu": "http://other.example/plain/x"}))),
        ("for another scheme", odd(json!({}), json!({"htu": "https://gateway.example/plain/x"}))),
        ("for another port", odd(json!({}), json!({"htu": "http://gateway.example:8080/plain/x"}))),
        ("for a path alone", odd(json!({}), json!({"htu": "/plain/x"}))),
        // 11: iat, and the times that are there besides.
        ("too old", odd(json!({}), json!({"iat": now - 95}))),
        ("from the future", odd(json!({}), json!({"iat": now + 40}))),
        ("from long ago", odd(json!({}), json!({"iat": -1e18}))),
        ("expired", odd(json!({}), json!({"exp": now - 40}))),
        ("not yet valid", odd(json!({}), json!({"nbf": now + 40}))),
        // 12: ath.
        ("for another token", odd(json!({}), json!({"ath": encode(digest(&SHA256, b"other").as_ref())}))),
        ("with the token itself", odd(json!({}), json!({"ath": token}))),
        // An extension that nobody understands (RFC 7515 §4.1.11).
        ("with crit", odd(json!({"crit": ["exp"]}), json!({}))),
    ];
    for (what, proof) in &invalid {
        let before = decided(&gateway, "dpop_invalid");
        let answer = by_dpop(get("/plain/x"), &token, proof).send(&gateway);
        assert_eq!(answer.problem(401), "invalid-token", "{what}");
        assert_eq!(decided(&gateway, "dpop_invalid"), before + 1.0, "{what}");
        assert!(
            answer.all("www-authenticate")[0].starts_with("DPoP error=\"invalid_dpop_proof\""),
            "{what}: {answer:?}"
        );
    }
    // 1: not more than one.
    let second = client.proof(&token, "GET", &here);
    refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &good).header("dpop", &second), "dpop_invalid");
    // 12: the key that the token is bound to.
    let others = other.proof(&token, "GET", &here);
    refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &others), "binding_mismatch");
    world.upstream.assert_untouched();
    // After all that, the proof is as good as it was.
    by_dpop(get("/plain/x"), &token, &good).send(&gateway).expect(200);
}

#[test]
fn a_bound_token_is_no_bearer_token_and_an_unbound_one_is_none_by_dpop() {
    let (world, gateway, client, token) = start("dpop: {}");
    let here = format!("{HERE}/plain/x");
    let answer = refused_for(&gateway, &get("/plain/x").bearer(&token), "binding_missing");
    assert!(answer.all("www-authenticate")[0].starts_with("Bearer error=\"invalid_token\""), "{answer:?}");
    assert!(answer.all("www-authenticate")[1].starts_with("DPoP algs=\""), "{answer:?}");
    // RFC 9449 §7.2: not even with a proof.
    let proof = client.proof(&token, "GET", &here);
    refused_for(&gateway, &get("/plain/x").bearer(&token).header("DPoP", &proof), "binding_missing");
    let without = get("/plain/x").header("Authorization", &format!("DPoP {token}"));
    refused_for(&gateway, &without, "binding_missing");
    let unbound = world.token(json!({}));
    let proof = client.proof(&unbound, "GET", &here);
    refused_for(&gateway, &by_dpop(get("/plain/x"), &unbound, &proof), "binding_required");
    // A confirmation by both needs both.
    let both = world.token(json!({"cnf": {"jkt": client.thumbprint(), "x5t#S256": encode(&[7; 32])}}));
    let proof = client.proof(&both, "GET", &here);
    refused_for(&gateway, &by_dpop(get("/plain/x"), &both, &proof), "binding_missing");
    world.upstream.assert_untouched();
    get("/plain/x").bearer(&unbound).send(&gateway).expect(200);
}

#[test]
fn a_binding_holds_where_no_section_says_so() {
    let (world, gateway, client, token) = start("");
    refused_for(&gateway, &get("/plain/x").bearer(&token), "binding_missing");
    let proof = client.proof(&token, "GET", &format!("{HERE}/plain/x"));
    by_dpop(get("/plain/x"), &token, &proof).send(&gateway).expect(200);
    // Nobody is told of a scheme that nobody configured, but for whoever used it.
    let answer = get("/plain/x").send(&gateway);
    assert_eq!(answer.all("www-authenticate").len(), 1);
    let answer = by_dpop(get("/plain/x"), &world.token(json!({})), &proof).send(&gateway).expect(401);
    assert!(answer.all("www-authenticate")[0].starts_with("DPoP "), "{answer:?}");
}

#[test]
fn spellings_of_the_same_url_are_the_same_url() {
    let (_world, gateway, client, token) = start("dpop: {}");
    for (htu, target) in [
        ("HTTP://Gateway.Example:80/plain/%78", "/plain/x"),
        ("http://gateway.example/plain/./y/../x#f", "/plain/x?q=1"),
        ("http://gateway.example/plain/caf%c3%a9", "/plain/caf%C3%A9"),
        ("http://gateway.example/plain/x", "/plain/%78"),
    ] {
        by_dpop(get(target), &token, &client.proof(&token, "GET", htu)).send(&gateway).expect(200);
    }
}

#[test]
fn the_method_of_the_request_line_counts_and_not_an_override() {
    let world = World::new();
    let upstreams = "upstreams:\n  api: {targets: [http://127.0.0.1:<upstream>], method_override: [header]}\n";
    let gateway =
        world.start(&format!("{}{upstreams}deletion_guard: {{danger_disabled: true}}\n{ROUTES}", issuer("dpop: {}")));
    let client = Client::new("ES256");
    let token = client.token(&world, json!({}));
    let here = format!("{HERE}/plain/x");
    let overridden = || post("/plain/x", "").header("X-HTTP-Method-Override", "PUT");
    refused_for(&gateway, &by_dpop(overridden(), &token, &client.proof(&token, "PUT", &here)), "dpop_invalid");
    by_dpop(overridden(), &token, &client.proof(&token, "POST", &here)).send(&gateway).expect(200);
}

#[test]
fn the_proof_crosses_only_where_the_token_does() {
    let world = World::new();
    let gateway = world.start(&format!(
        "{}upstreams:
  api: {{targets: [http://127.0.0.1:<upstream>]}}
  trusting: {{targets: [http://127.0.0.1:<upstream>], forward_authorization: true}}
routes:
  - {{path: /plain/**, upstream: api, auth: [main]}}
  - {{path: /public/**, upstream: api, auth: none}}
  - {{path: /through/**, upstream: trusting, auth: [main]}}
",
        issuer("dpop: {}")
    ));
    let client = Client::new("ES256");
    let token = client.token(&world, json!({}));
    let sent = |path: &str| {
        let proof = client.proof(&token, "GET", &format!("{HERE}{path}"));
        by_dpop(get(path), &token, &proof).send(&gateway).expect(200);
        let seen = world.upstream.requests().pop().unwrap();
        (seen.has("authorization"), seen.has("dpop"))
    };
    assert_eq!(sent("/plain/x"), (false, false));
    assert_eq!(sent("/public/x"), (false, false));
    assert_eq!(sent("/through/x"), (true, true));
}

#[test]
fn a_proof_is_good_once_for_all_workers_and_after_a_reload() {
    let world = World::new();
    let yaml = format!("server: {{workers: 4}}\n{}{ROUTES}", issuer("dpop: {}"));
    let gateway = world.start(&yaml);
    let client = Client::new("ES256");
    let token = client.token(&world, json!({}));
    let here = format!("{HERE}/plain/x");
    let requests: Vec<Request> =
        (0..20).map(|_| by_dpop(get("/plain/x"), &token, &client.proof(&token, "GET", &here))).collect();
    // Eight at once with each proof, on connections of their own.
    let allowed: usize = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| requests.iter().filter(|request| request.send(&gateway).status == 200).count()))
            .collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).sum()
    });
    assert_eq!(allowed, 20);
    let reloads = |gateway: &Gateway| gateway.metric("stepgate_config_reloads_total", &["result=\"ok\""]);
    world.configure(&format!("{yaml}access_log: off\n"));
    gateway.signal("HUP");
    eventually("the reload", || (reloads(&gateway) > 0.0).then_some(()));
    for request in &requests {
        refused_for(&gateway, request, "dpop_replayed");
    }
    assert_eq!(gateway.metric("stepgate_dpop_proofs", &[]), 20.0);
}

#[test]
fn the_same_jti_by_another_key_is_another_proof() {
    let (world, gateway, client, token) = start("dpop: {}");
    let second = Client::new("EdDSA");
    let seconds_token = second.token(&world, json!({}));
    for (client, token) in [(&client, &token), (&second, &seconds_token)] {
        let proof = client.odd_proof(token, json!({}), json!({"jti": "one-and-the-same"}));
        by_dpop(get("/plain/x"), token, &proof).send(&gateway).expect(200);
    }
    let again = client.odd_proof(&token, json!({}), json!({"jti": "one-and-the-same"}));
    refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &again), "dpop_replayed");
}

#[test]
fn a_nonce_is_asked_for_given_and_taken() {
    let (world, gateway, client, token) = start("dpop: {nonce: required}");
    let first = client.odd_proof(&token, json!({}), json!({}));
    let answer = refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &first), "dpop_nonce");
    assert!(
        answer.all("www-authenticate")[0].starts_with("DPoP error=\"use_dpop_nonce\""),
        "RFC 9449 section 9: {answer:?}"
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let nonce = answer.header("dpop-nonce").to_owned();
    let proof = client.odd_proof(&token, json!({}), json!({"nonce": nonce}));
    let answer = by_dpop(get("/plain/x"), &token, &proof).send(&gateway).expect(200);
    assert!(!answer.has("dpop-nonce") || answer.header("dpop-nonce") != nonce, "{answer:?}");
    refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &proof), "dpop_replayed");
    let mut changed = nonce.clone().into_bytes();
    changed[12] = if changed[12] == b'A' { b'B' } else { b'A' };
    for wrong in [json!(""), json!("nonce"), json!(String::from_utf8(changed).unwrap()), json!(nonce.to_lowercase())] {
        let proof = client.odd_proof(&token, json!({}), json!({"nonce": wrong}));
        let answer = refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &proof), "dpop_nonce");
        assert!(answer.has("dpop-nonce"));
    }
    let proof = client.odd_proof(&token, json!({}), json!({"nonce": 7}));
    refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &proof), "dpop_invalid");
    // Whoever does not even have the key is told nothing new.
    let proof = Client::new("ES256").proof(&token, "GET", &format!("{HERE}/plain/x"));
    let answer = refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &proof), "binding_mismatch");
    assert!(!answer.has("dpop-nonce"));
    // The nonces outlive a reload.
    world.configure(&format!("{}access_log: off\n{ROUTES}", issuer("dpop: {nonce: required}")));
    gateway.signal("HUP");
    eventually("the reload", || {
        (gateway.metric("stepgate_config_reloads_total", &["result=\"ok\""]) > 0.0).then_some(())
    });
    let proof = client.odd_proof(&token, json!({}), json!({"nonce": nonce}));
    by_dpop(get("/plain/x"), &token, &proof).send(&gateway).expect(200);
}

#[test]
fn a_proof_from_before_a_restart_has_no_nonce_any_more() {
    let (world, mut gateway, client, token) = start("dpop: {nonce: required}");
    let first = client.odd_proof(&token, json!({}), json!({}));
    let nonce = by_dpop(get("/plain/x"), &token, &first).send(&gateway).header("dpop-nonce").to_owned();
    let proof = client.odd_proof(&token, json!({}), json!({"nonce": nonce}));
    let request = by_dpop(get("/plain/x"), &token, &proof);
    request.send(&gateway).expect(200);
    gateway.kill();
    let gateway = world.restart().ready();
    refused_for(&gateway, &request, "dpop_nonce");
}

#[test]
fn challenges_and_metadata_tell_which_algorithms_proofs_may_use() {
    let (_world, gateway, client, token) = start("dpop: {algorithms: [ES256, EdDSA]}");
    let answer = get("/plain/x").send(&gateway);
    assert_eq!(answer.problem(401), "token-required");
    let challenges = answer.all("www-authenticate");
    assert!(challenges[0].starts_with("Bearer resource_metadata=\""), "{challenges:?}");
    assert_eq!(challenges[1..], ["DPoP algs=\"ES256 EdDSA\""]);
    // A deletion on a public route is asked for a token, too.
    assert_eq!(delete("/public/x").send(&gateway).all("www-authenticate").len(), 2);
    let metadata = get("/.well-known/oauth-protected-resource").send(&gateway).expect(200).json();
    assert_eq!(metadata["dpop_signing_alg_values_supported"], json!(["ES256", "EdDSA"]), "RFC 9728 section 2");
    let rsa = Client::new("RS256");
    let proof = rsa.proof(&token, "GET", &format!("{HERE}/plain/x"));
    refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &proof), "binding_mismatch");
    by_dpop(get("/plain/x"), &token, &client.proof(&token, "GET", &format!("{HERE}/plain/x")))
        .send(&gateway)
        .expect(200);
}

#[test]
fn an_issuer_whose_tokens_must_be_bound_takes_no_other_and_says_so() {
    let (world, gateway, client, token) = start("bound: dpop");
    let challenges = get("/plain/x").send(&gateway);
    assert_eq!(challenges.all("www-authenticate").len(), 2, "{challenges:?}");
    let metadata = get("/.well-known/oauth-protected-resource").send(&gateway).expect(200).json();
    assert_eq!(metadata["dpop_bound_access_tokens_required"], json!(true), "RFC 9728 section 2");
    refused_for(&gateway, &get("/plain/x").bearer(&world.token(json!({}))), "binding_required");
    let by_certificate = world.token(json!({"cnf": {"x5t#S256": encode(&[7; 32])}}));
    refused_for(&gateway, &get("/plain/x").bearer(&by_certificate), "binding_required");
    assert_eq!(ask(&gateway, &client, &token, "GET", "/plain/x").status, 200);
}

#[test]
fn an_algorithm_that_the_issuer_does_not_list_is_refused_with_the_right_key() {
    let (world, gateway, ..) = start("dpop: {algorithms: [ES256]}");
    let client = Client::new("RS256");
    let token = client.token(&world, json!({}));
    let proof = client.proof(&token, "GET", &format!("{HERE}/plain/x"));
    refused_for(&gateway, &by_dpop(get("/plain/x"), &token, &proof), "dpop_invalid");
}

#[test]
fn behind_something_that_ends_tls_the_declared_origins_are_ours() {
    let (_world, gateway, client, token) =
        start("dpop: {origins: [\"https://api.example\", \"https://old.example:8443\"]}");
    let ask = |htu: &str, host: &str| {
        by_dpop(get("/plain/x").host(host), &token, &client.proof(&token, "GET", htu)).send(&gateway).status
    };
    assert_eq!(ask("https://api.example/plain/x", "gateway.internal"), 200);
    assert_eq!(ask("https://api.example/plain/x", "api.example"), 200);
    assert_eq!(ask("http://gateway.internal/plain/x", "gateway.internal"), 401);
    assert_eq!(ask("https://old.example:8443/plain/x", "api.example"), 401);
    // Nothing that a client says of itself changes where it asked.
    let proof = client.proof(&token, "GET", "https://evil.example/plain/x");
    let request = by_dpop(get("/plain/x"), &token, &proof)
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.example");
    refused_for(&gateway, &request, "dpop_invalid");
}

#[test]
fn over_tls_in_both_versions_of_http_the_url_is_https() {
    let world = World::new();
    let servers = Authority::new("servers");
    servers.server(world.folder(), "server", &["gateway.example"]);
    let gateway = world.start(&format!(
        "listeners:\n  - {{address: 127.0.0.1:<tls>, tls: {{certificates: [{{cert: server.pem, key: server.key}}]}}}}\n{}{ROUTES}",
        issuer("dpop: {}")
    ));
    let client = Client::new("ES256");
    let token = client.token(&world, json!({}));
    let https = "https://gateway.example/plain/x";
    let one = |htu: &str| {
        let request = by_dpop(get("/plain/x"), &token, &client.proof(&token, "GET", htu));
        let mut wire = Wire::tls(gateway.tls, "gateway.example", &servers.client(&["http/1.1"])).unwrap();
        request.send_on(&mut wire).status
    };
    assert_eq!((one(https), one("http://gateway.example/plain/x")), (200, 401));
    let two = |proofs: &[&str]| {
        let authorization = format!("DPoP {token}");
        let mut fields = crate::harness::h2::get("/plain/x");
        fields.push(("authorization", &authorization));
        fields.extend(proofs.iter().map(|proof| ("dpop", *proof)));
        let mut h2 = H2::over(Wire::tls(gateway.tls, "gateway.example", &servers.client(&["h2"])).unwrap());
        h2.request(1, &fields).status(1)
    };
    use crate::harness::h2::Ending::Status;
    let proof = client.proof(&token, "GET", https);
    assert_eq!(two(&[&proof]), Status(200));
    assert_eq!(two(&[&proof]), Status(401), "replayed");
    let (first, second) = (client.proof(&token, "GET", https), client.proof(&token, "GET", https));
    assert_eq!(two(&[&first, &second]), Status(401), "two proofs");
    assert_eq!(two(&[&first]), Status(200));
    assert_eq!(one(https), 200);
}

// -- a machine's key in place of a second factor

const LEVELS: &str = "assurance:
  person: {acr: [urn:example:acr:mfa], max_age: 5m}
  either: {acr: [urn:example:acr:mfa], max_age: 5m, machines: {dpop: {algorithms: [ES256]}}}
deletion_guard: {assurance: either}
routes:
  - {path: /person/**, upstream: api, auth: [main], assurance: person}
  - {path: /either/**, upstream: api, auth: [main], assurance: either}
  - {path: /public/**, upstream: api, auth: none}
";

fn ask(gateway: &Gateway, client: &Client, token: &str, method: &str, path: &str) -> Answer {
    let proof = client.proof(token, method, &format!("{HERE}{path}"));
    by_dpop(Request::new(method, path), token, &proof).send(gateway)
}

#[test]
fn a_machine_passes_by_its_key_where_the_level_says_so_and_a_person_never() {
    let world = World::new();
    let gateway = world.start(&format!("{}{LEVELS}", issuer("dpop: {}")));
    let client = Client::new("ES256");
    let robot = client.token(&world, json!({"sub": "app", "client_id": "app"}));
    let alice = client.token(&world, json!({}));
    let rsa = Client::new("PS256");
    let weaker = rsa.token(&world, json!({"sub": "app", "client_id": "app"}));
    let unbound = world.token(json!({"sub": "app", "client_id": "app"}));
    assert_eq!(ask(&gateway, &client, &robot, "GET", "/either/x").status, 200);
    assert_eq!(ask(&gateway, &client, &robot, "DELETE", "/either/x").status, 200);
    assert_eq!(ask(&gateway, &client, &robot, "DELETE", "/public/x").status, 200);
    for (who, client, token) in [("alice", &client, &alice), ("a key of another class", &rsa, &weaker)] {
        for (method, path) in [("GET", "/either/x"), ("DELETE", "/either/x"), ("DELETE", "/public/x")] {
            let answer = ask(&gateway, client, token, method, path);
            assert_eq!(answer.problem(401), "insufficient-user-authentication", "{who} {method} {path}");
            assert!(answer.header("www-authenticate").starts_with("DPoP error=\"insufficient_user_authentication\""));
        }
    }
    assert_eq!(get("/either/x").bearer(&unbound).send(&gateway).problem(401), "insufficient-user-authentication");
    // Where the level does not say so, nobody profits; and where one of two does not, neither.
    assert_eq!(ask(&gateway, &client, &robot, "GET", "/person/x").status, 401);
    assert_eq!(ask(&gateway, &client, &robot, "DELETE", "/person/x").status, 401);
    // A person passes as ever.
    let fresh = client.token(&world, json!({"acr": "urn:example:acr:mfa", "auth_time": unix_now()}));
    assert_eq!(ask(&gateway, &client, &fresh, "DELETE", "/either/x").status, 200);
    let audit = eventually("the audit records", || Some(gateway.audit()).filter(|audit| !audit.is_empty()));
    // What stood in for the second factor stands in the trail.
    let by_key = |record: &&Value| record["kind"] == "intent" && record["proof"]["possession"] == "dpop:ES256";
    assert_eq!(audit.iter().filter(by_key).count(), 3, "{audit:?}");
}

#[test]
fn explain_tells_of_the_proof_and_what_it_stands_for() {
    let world = World::new();
    world.configure(&format!("{}{LEVELS}", issuer("dpop: {}")));
    let client = Client::new("ES256");
    let robot = client.token(&world, json!({"sub": "app", "client_id": "app"}));
    let proof = client.proof(&robot, "GET", "https://gateway.example/either/x");
    let arguments =
        ["explain", "GET", "https://gateway.example/either/x", "--token", robot.as_str(), "--dpop", proof.as_str()];
    let finished = stepgate(world.folder(), &arguments);
    assert_eq!(finished.code, 0, "{finished:?}");
    for line in [
        "credential the machine app of main",
        "possession dpop:ES256",
        "level      held: a machine's proof of possession stands in its place",
        "freshness  held: a machine's proof of possession stands in its place",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.stdout);
    }
    let other = client.proof(&robot, "POST", "https://gateway.example/either/x");
    let arguments =
        ["explain", "GET", "https://gateway.example/either/x", "--token", robot.as_str(), "--dpop", other.as_str()];
    let finished = stepgate(world.folder(), &arguments);
    assert!(finished.code == 1 && finished.stdout.contains("dpop_invalid"), "{finished:?}");
}

// -- with a provider that nobody here wrote

#[test]
fn a_real_providers_bound_token_passes_with_its_proof_alone() {
    let idp = Idp::start();
    let world = World::new();
    let gateway = world.start(&format!(
        "issuers:
  idp: {{issuer: \"{}\", audience: [https://api.example], keys: {{discovery: true}}, algorithms: [RS256], types: [at+jwt], dpop: {{nonce: required}}}}
{}",
        idp.issuer(),
        ROUTES.replace("[main]", "[idp]")
    ));
    let client = Client::new("ES256");
    let htu = format!("{}/token", idp.issuer());
    let proof = {
        let mut claims = Client::claims("", "POST", &htu);
        claims.as_object_mut().unwrap().remove("ath");
        client.key.sign(&client.head(), &claims)
    };
    let token = idp.bound_token("plain", &proof);
    let answer = ask(&gateway, &client, &token, "GET", "/plain/x");
    let nonce = answer.header("dpop-nonce").to_owned();
    let proof = client.odd_proof(&token, json!({}), json!({"nonce": nonce}));
    by_dpop(get("/plain/x"), &token, &proof).send(&gateway).expect(200);
    refused_for(&gateway, &get("/plain/x").bearer(&token), "binding_missing");
    // The provider's other tokens are bearer tokens as ever.
    get("/plain/x").bearer(&idp.machine_token("plain")).send(&gateway).expect(200);
}
