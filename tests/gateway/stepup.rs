//! Step-up authentication (RFC 9470): when it is asked for, how the challenge reads to the letter, and what satisfies it.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, World, get, unix_now};

const YAML: &str = "assurance:
  mfa: {acr: [urn:example:acr:mfa, urn:example:acr:phr]}
  recent-mfa: {acr: [urn:example:acr:mfa, urn:example:acr:phr], max_age: 5m}
  otp: {amr: [mfa, otp]}
  fresh: {max_age: 5m}
  everything: {acr: [urn:example:acr:mfa], amr: [mfa], max_age: 5m}
routes:
  - {path: /plain, upstream: api, auth: [main]}
  - {path: /mfa, upstream: api, auth: [main], assurance: mfa}
  - {path: /recent, upstream: api, auth: [main], assurance: recent-mfa}
  - {path: /otp, upstream: api, auth: [main], assurance: otp}
  - {path: /fresh, upstream: api, auth: [main], assurance: fresh}
  - {path: /everything, upstream: api, auth: [main], assurance: everything}
  - {path: /scoped, upstream: api, auth: [main], assurance: mfa, scopes: [items:write]}
";

fn start() -> (World, Gateway) {
    let world = World::new();
    let gateway = world.start(YAML);
    (world, gateway)
}

/// The scheme and parameters of a challenge: `name="value"`, comma-separated, each name once (RFC 9110 section 11.6.1).
fn challenge(answer: &Answer) -> Vec<(String, String)> {
    let header = answer.header("www-authenticate");
    let mut rest = header.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{header}"));
    let mut parameters: Vec<(String, String)> = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{header}"));
        let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("{header}"));
        assert!(
            !parameters.iter().any(|(known, _)| known == name),
            "RFC 6750 section 3: {name} appears twice in {header}"
        );
        parameters.push((name.to_owned(), value.to_owned()));
        rest = after.strip_prefix(", ").unwrap_or(after);
    }
    parameters
}

fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Asks with these claims and checks the challenge's `acr_values` and `max_age`.
#[track_caller]
fn challenged(
    world: &World,
    gateway: &Gateway,
    path: &str,
    changes: Value,
    acr_values: Option<&str>,
    max_age: Option<&str>,
) {
    let answer = get(path).bearer(&world.token(changes.clone())).send(gateway);
    assert_eq!(answer.problem(401), "insufficient-user-authentication", "{path} {changes}");
    let parameters = challenge(&answer);
    assert_eq!(parameter(&parameters, "error"), Some("insufficient_user_authentication"), "RFC 9470 section 3");
    assert!(parameter(&parameters, "error_description").is_some_and(|text| !text.is_empty()));
    assert_eq!(parameter(&parameters, "acr_values"), acr_values, "{path} {changes}");
    assert_eq!(parameter(&parameters, "max_age"), max_age, "{path} {changes}");
    assert!(parameter(&parameters, "resource_metadata").is_some(), "RFC 9728 section 5.1");
}

const BOTH: Option<&str> = Some("urn:example:acr:mfa urn:example:acr:phr");

#[test]
fn a_level_that_falls_short_is_challenged_with_every_level_that_would_do() {
    let (world, gateway) = start();
    for changes in [
        json!({}),
        json!({"acr": "urn:example:acr:pwd"}),
        json!({"acr": "URN:EXAMPLE:ACR:MFA"}),
        json!({"acr": ["urn:example:acr:pwd"]}),
        json!({"acr": ["urn:example:acr:mfa", 7]}),
        json!({"acr": "urn:example:acr:mfa urn:example:acr:phr"}),
    ] {
        challenged(&world, &gateway, "/mfa", changes, BOTH, None);
    }
    world.upstream.assert_untouched();
    for acr in ["urn:example:acr:mfa", "urn:example:acr:phr"] {
        get("/mfa").bearer(&world.token(json!({"acr": acr}))).send(&gateway).expect(200);
    }
}

#[test]
fn a_login_that_is_too_old_is_challenged_with_max_age_alone() {
    let (world, gateway) = start();
    let now = unix_now();
    challenged(
        &world,
        &gateway,
        "/recent",
        json!({"acr": "urn:example:acr:mfa", "auth_time": now - 400}),
        None,
        Some("300"),
    );
    challenged(&world, &gateway, "/fresh", json!({"auth_time": now - 400}), None, Some("300"));
    challenged(&world, &gateway, "/fresh", json!({}), None, Some("300"));
    world.upstream.assert_untouched();
    get("/fresh").bearer(&world.token(json!({"auth_time": now - 100}))).send(&gateway).expect(200);
    get("/fresh").bearer(&world.token(json!({"auth_time": (now - 100) as f64 + 0.5}))).send(&gateway).expect(200);
}

#[test]
fn a_level_and_an_age_that_both_fall_short_are_challenged_together() {
    let (world, gateway) = start();
    challenged(&world, &gateway, "/recent", json!({"auth_time": unix_now() - 400}), BOTH, Some("300"));
    challenged(&world, &gateway, "/recent", json!({}), BOTH, Some("300"));
    // What already holds is not asked for again.
    challenged(&world, &gateway, "/recent", json!({"auth_time": unix_now()}), BOTH, None);
}

#[test]
fn the_leeway_counts_for_auth_time_too() {
    let (world, gateway) = start();
    let now = unix_now();
    get("/fresh").bearer(&world.token(json!({"auth_time": now - 310}))).send(&gateway).expect(200);
    challenged(&world, &gateway, "/fresh", json!({"auth_time": now - 340}), None, Some("300"));
    get("/fresh").bearer(&world.token(json!({"auth_time": now + 20}))).send(&gateway).expect(200);
}

#[test]
fn a_login_in_the_future_is_refused() {
    let (world, gateway) = start();
    for ahead in [60, 3600, 10_000_000_000] {
        challenged(&world, &gateway, "/fresh", json!({"auth_time": unix_now() + ahead}), None, Some("300"));
    }
    world.upstream.assert_untouched();
}

#[test]
fn an_auth_time_of_the_wrong_type_satisfies_nothing() {
    let (world, gateway) = start();
    for auth_time in [
        json!(unix_now().to_string()),
        json!(true),
        json!([unix_now()]),
        json!({"at": unix_now()}),
        json!(""),
        json!(-1),
        json!(0),
    ] {
        challenged(&world, &gateway, "/fresh", json!({"auth_time": auth_time}), None, Some("300"));
    }
}

#[test]
fn a_provider_that_writes_auth_time_as_a_string_is_a_setting() {
    let world = World::new();
    let gateway = world.start(
        "issuers:
  main: {issuer: https://idp.example/, audience: [https://api.example], keys: {jwks_file: jwks.json}, algorithms: [ES256], auth_time_format: number_or_string}
routes:
  - {path: /fresh, upstream: api, auth: [main], assurance: {max_age: 5m}}
",
    );
    get("/fresh").bearer(&world.token(json!({"auth_time": unix_now().to_string()}))).send(&gateway).expect(200);
    get("/fresh").bearer(&world.token(json!({"auth_time": unix_now()}))).send(&gateway).expect(200);
    for auth_time in ["yesterday", "", "1e99", "-5", "0x7fffffff", " "] {
        get("/fresh").bearer(&world.token(json!({"auth_time": auth_time}))).send(&gateway).problem(401);
    }
}

#[test]
fn methods_are_compared_to_the_letter() {
    let (world, gateway) = start();
    for amr in [json!(["pwd"]), json!(["MFA"]), json!([]), json!(["mfa2"]), json!(["pwd mfa"]), json!(7)] {
        challenged(&world, &gateway, "/otp", json!({"amr": amr}), None, None);
    }
    for amr in [json!(["pwd", "mfa"]), json!(["otp"])] {
        get("/otp").bearer(&world.token(json!({"amr": amr}))).send(&gateway).expect(200);
    }
}

#[test]
fn every_key_of_a_level_must_hold() {
    let (world, gateway) = start();
    let now = unix_now();
    let whole = json!({"acr": "urn:example:acr:mfa", "amr": ["mfa"], "auth_time": now});
    get("/everything").bearer(&world.token(whole.clone())).send(&gateway).expect(200);
    for (name, value) in [("acr", json!("x")), ("amr", json!(["pwd"])), ("auth_time", json!(now - 1000))] {
        let mut less = whole.clone();
        less[name] = value;
        assert_eq!(
            get("/everything").bearer(&world.token(less)).send(&gateway).problem(401),
            "insufficient-user-authentication",
            "{name}"
        );
    }
}

#[test]
fn step_up_is_asked_for_only_of_a_token_that_is_valid() {
    let (world, gateway) = start();
    let expired = get("/mfa").bearer(&world.token(json!({"exp": unix_now() - 100}))).send(&gateway);
    assert_eq!(expired.problem(401), "token-expired");
    assert_eq!(parameter(&challenge(&expired), "acr_values"), None, "RFC 9470 section 9");
    let absent = get("/mfa").send(&gateway);
    assert_eq!(absent.problem(401), "token-required");
    assert_eq!(parameter(&challenge(&absent), "error"), None);
    assert_eq!(parameter(&challenge(&absent), "acr_values"), None);
}

#[test]
fn scopes_come_before_step_up() {
    let (world, gateway) = start();
    let answer = get("/scoped").bearer(&world.token(json!({}))).send(&gateway);
    assert_eq!(answer.problem(403), "insufficient-scope");
    let parameters = challenge(&answer);
    assert_eq!(parameter(&parameters, "error"), Some("insufficient_scope"), "RFC 6750 section 3.1");
    assert_eq!(parameter(&parameters, "scope"), Some("items:write"));
    challenged(&world, &gateway, "/scoped", json!({"scope": "items:write"}), BOTH, None);
}

#[test]
fn the_problem_tells_a_developer_what_to_do_next() {
    let (world, gateway) = start();
    let problem = get("/recent").bearer(&world.token(json!({}))).send(&gateway).json();
    assert_eq!(problem["authorization_request"], json!({"acr_values": BOTH.unwrap(), "max_age": 300}), "{problem}");
    assert_eq!(problem["authorization_servers"], json!(["https://idp.example/"]));
    assert!(problem["detail"].as_str().unwrap().len() > 40);
}

#[test]
fn a_caller_is_sent_to_the_issuer_of_their_own_token() {
    let world = World::new();
    let issuers: String = [("main", "idp"), ("other", "hs")]
        .map(|(name, host)| {
            format!("  {name}: {{issuer: https://{host}.example/, audience: [https://api.example], keys: {{jwks_file: jwks.json}}, algorithms: [ES256]}}\n")
        })
        .concat();
    let gateway = world.start(&format!(
        "issuers:\n{issuers}assurance:\n  mfa: {{amr: [mfa]}}\nroutes:\n  - {{path: /mfa, upstream: api, auth: [main, other], assurance: mfa}}\n"
    ));
    for issuer in ["https://idp.example/", "https://hs.example/"] {
        let problem = get("/mfa").bearer(&world.token(json!({"iss": issuer}))).send(&gateway).json();
        assert_eq!(problem["authorization_servers"], json!([issuer]), "{problem}");
    }
}

#[test]
fn the_metadata_that_a_challenge_points_to_is_served() {
    let (_world, gateway) = start();
    let answer = get("/plain").send(&gateway);
    let parameters = challenge(&answer);
    let url = parameter(&parameters, "resource_metadata").unwrap();
    let path = url.strip_prefix("http://gateway.example").unwrap_or_else(|| panic!("{url}"));
    assert!(path.starts_with("/.well-known/oauth-protected-resource"), "RFC 9728 section 3.1: {path}");
    let metadata = get(path).send(&gateway).expect(200);
    assert_eq!(metadata.header("content-type"), "application/json", "RFC 9728 section 3.2");
    let metadata = metadata.json();
    assert_eq!(metadata["authorization_servers"], json!(["https://idp.example/"]));
    assert_eq!(metadata["bearer_methods_supported"], json!(["header"]), "RFC 6750 section 2");
    assert!(metadata["resource"].is_string(), "RFC 9728 section 2");
}

#[test]
fn after_step_up_the_same_request_passes() {
    let (world, gateway) = start();
    let before = get("/recent")
        .bearer(&world.token(json!({"acr": "urn:example:acr:pwd", "auth_time": unix_now() - 5})))
        .send(&gateway);
    before.problem(401);
    get("/recent").bearer(&world.fresh(1)).send(&gateway).expect(200);
    assert_eq!(world.upstream.count(), 1);
}

#[test]
fn a_cached_token_grows_old_like_any_other() {
    let world = World::new();
    let gateway = world.start(
        "issuers:
  main: {issuer: https://idp.example/, audience: [https://api.example], keys: {jwks_file: jwks.json}, algorithms: [ES256], leeway: 0s}
routes:
  - {path: /fresh, upstream: api, auth: [main], assurance: {max_age: 3s}}
",
    );
    let token = world.token(json!({"auth_time": unix_now()}));
    get("/fresh").bearer(&token).send(&gateway).expect(200);
    crate::harness::eventually("the login to be too old", || {
        (get("/fresh").bearer(&token).send(&gateway).status == 401).then_some(())
    });
}
