//! The JSON API and the token endpoint, as clients see them.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::super::{
    GRANT_TOKEN_TYPE, GrantBinding, Target,
    testing::{Bench, START, at, code, from_base32, principal},
};
use crate::policy::{Principal, Reason};

const FORM: &str = "application/x-www-form-urlencoded";

async fn enrolled(bench: &Bench, who: &Principal) -> crate::secret::Secret {
    let caller = bench.authority.caller(who).unwrap();
    let invitation = bench.authority.invite(&caller.owner(), "op", None, at(START)).await.unwrap();
    let body = json!({"kind": "totp", "label": "phone", "right": {"invitation": invitation.code}});
    let begun = bench.call(Method::POST, "/api/v1/factors", body, Some(who), START).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{begun:?}");
    assert!(begun.json["qr_svg"].as_str().unwrap().starts_with("<svg"));
    let secret = from_base32(begun.json["secret"].as_str().unwrap());
    let path = format!("/api/v1/factors/{}/confirm", begun.json["id"].as_str().unwrap());
    let confirmed = bench.call(Method::POST, &path, json!({"code": code(&secret, START)}), Some(who), START).await;
    assert_eq!(confirmed.status, StatusCode::CREATED, "{confirmed:?}");
    assert_eq!(confirmed.json["recovery_codes"].as_array().unwrap().len(), 10);
    secret
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

async fn exchange(
    bench: &Bench,
    who: &Principal,
    token: &str,
    more: &[(&str, &str)],
    secs: u64,
) -> super::super::testing::Got {
    let mut pairs = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("requested_token_type", GRANT_TOKEN_TYPE),
    ];
    pairs.extend_from_slice(more);
    bench.call_as(Method::POST, "/token", FORM, form(&pairs), Some(who), secs).await
}

#[tokio::test]
async fn an_app_enrols_steps_up_and_steps_down() {
    let bench = Bench::new();
    let who = principal("ann", "t1");
    let secret = enrolled(&bench, &who).await;
    let me = bench.call(Method::GET, "/api/v1/me", Value::Null, Some(&who), START).await;
    assert_eq!(me.json["factors"][0]["kind"], "totp");
    assert_eq!(me.json["recovery_codes_left"], 10);
    assert!(!me.json.to_string().contains("secret"), "{}", me.json);
    let now = START + 60;
    let begun = bench.call(Method::POST, "/api/v1/challenges", json!({"level": "mfa"}), Some(&who), now).await;
    let path = format!("/api/v1/challenges/{}/verify", begun.json["id"].as_str().unwrap());
    let wrong = bench.call(Method::POST, &path, json!({"code": "000000"}), Some(&who), now).await;
    assert!(wrong.refused && wrong.reason == Reason::ProofRefused);
    let done = bench.call(Method::POST, &path, json!({"code": code(&secret, now)}), Some(&who), now).await;
    assert_eq!((done.status, &done.json["elevated_until"]), (StatusCode::OK, &json!(now + 300)));
    assert_eq!(bench.authority.elevations(&who, at(now)).len(), 1);
    let listed = bench.call(Method::GET, "/api/v1/elevations", Value::Null, Some(&who), now).await;
    assert_eq!(listed.json["elevations"][0]["level"], "mfa");
    let down = bench.call(Method::DELETE, "/api/v1/elevations", Value::Null, Some(&who), now).await;
    assert_eq!(down.status, StatusCode::NO_CONTENT);
    assert!(bench.authority.elevations(&who, at(now)).is_empty());
}

#[tokio::test]
async fn factors_are_changed_by_a_fresh_proof_alone() {
    let bench = Bench::new();
    let who = principal("ann", "t1");
    let secret = enrolled(&bench, &who).await;
    let me = bench.call(Method::GET, "/api/v1/me", Value::Null, Some(&who), START).await;
    let path = format!("/api/v1/factors/{}", me.json["factors"][0]["id"].as_str().unwrap());
    for right in
        [json!({}), json!({"proof": "nobody's"}), json!({"otp": "000000"}), json!({"otp": code(&secret, START)})]
    {
        let body = json!({"label": "mine", "right": right});
        let refused = bench.call(Method::PATCH, &path, body.clone(), Some(&who), START).await;
        assert!(refused.refused, "{body}");
        assert!(bench.call(Method::DELETE, &path, body, Some(&who), START).await.refused);
    }
    // By a challenge: its number is good for one change.
    let now = START + 900;
    let begun = bench.call(Method::POST, "/api/v1/challenges", json!({"purpose": "manage"}), Some(&who), now).await;
    let id = begun.json["id"].as_str().unwrap();
    let verify = format!("/api/v1/challenges/{id}/verify");
    let done = bench.call(Method::POST, &verify, json!({"code": code(&secret, now)}), Some(&who), now).await;
    assert_eq!(done.json["proof"], id);
    let body = json!({"label": "mine", "right": {"proof": id}});
    let renamed = bench.call(Method::PATCH, &path, body.clone(), Some(&who), now).await;
    assert_eq!(renamed.status, StatusCode::NO_CONTENT, "{renamed:?}");
    assert!(bench.call(Method::PATCH, &path, body, Some(&who), now).await.refused, "once");
    // By a code.
    let body = json!({"right": {"otp": code(&secret, now + 60)}});
    let removed = bench.call(Method::DELETE, &path, body, Some(&who), now + 60).await;
    assert_eq!(removed.json, json!({"left": 0, "needs_invitation": true}), "{removed:?}");
    assert_eq!(bench.messages("factor_removed").await.len(), 1);
}

#[tokio::test]
async fn a_grant_is_bound_to_its_request_and_its_holder() {
    let bench = Bench::new();
    let who = principal("ann", "t1");
    let secret = enrolled(&bench, &who).await;
    let now = START + 60;
    let digest = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    let otp = code(&secret, now);
    let bind = [
        ("otp", &*otp),
        ("level", "mfa"),
        ("method", "DELETE"),
        ("target", "https://api.example/mfa/1?x"),
        ("body_digest", digest),
    ];
    let granted = exchange(&bench, &who, "t1", &bind, now).await;
    assert_eq!(granted.status, StatusCode::OK, "{granted:?}");
    assert_eq!(granted.json["issued_token_type"], GRANT_TOKEN_TYPE);
    assert_eq!(granted.json["token_type"], "N_A");
    let token = granted.json["access_token"].as_str().unwrap();
    let grant = bench.authority.read_grant(token.as_bytes(), &who, at(now)).unwrap();
    let request = |method: &str, target: &str, body: &[u8]| GrantBinding {
        method: method.parse().unwrap(),
        target: Target::parse(target, "api.example").unwrap(),
        body: GrantBinding::digest(body),
    };
    assert!(grant.fits(&request("DELETE", "/mfa/1?x", b"{\"hello\": \"world\"}\n")));
    assert!(!grant.fits(&request("DELETE", "/mfa/1?x", b"{\"hello\": \"world\"} ")), "a byte differs");
    assert!(!grant.fits(&request("DELETE", "/mfa/2?x", b"{\"hello\": \"world\"}\n")));
    // Another holder's, another issuer's, later, or changed: nothing.
    for other in [principal("ann", "t2"), principal("bob", "t1")] {
        assert_eq!(bench.authority.read_grant(token.as_bytes(), &other, at(now)), Err(Reason::GrantInvalid));
    }
    let late = bench.authority.read_grant(token.as_bytes(), &who, at(now + 3600));
    assert_eq!(late, Err(Reason::GrantInvalid));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let unsigned = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    for bad in [unsigned.as_str(), "", "a.b.c", &format!("{token}x")] {
        assert_eq!(bench.authority.read_grant(bad.as_bytes(), &who, at(now)), Err(Reason::GrantInvalid), "{bad}");
    }
    // It is of this installation: the same text is nothing to another one.
    let elsewhere = Bench::new();
    assert_eq!(elsewhere.authority.read_grant(token.as_bytes(), &who, at(now)), Err(Reason::GrantInvalid));
    assert!(bench.again().authority.read_grant(token.as_bytes(), &who, at(now)).is_ok(), "and survives a restart");
}

#[tokio::test]
async fn a_grant_by_a_challenge_is_made_once() {
    let bench = Bench::new();
    let who = principal("ann", "t1");
    let secret = enrolled(&bench, &who).await;
    let now = START + 60;
    let body = json!({"purpose": "grant", "level": "mfa"});
    let begun = bench.call(Method::POST, "/api/v1/challenges", body, Some(&who), now).await;
    let id = begun.json["id"].as_str().unwrap();
    let early = exchange(&bench, &who, "t1", &[("challenge", id)], now).await;
    assert_eq!((early.status, &early.json["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    let verify = format!("/api/v1/challenges/{id}/verify");
    bench.call(Method::POST, &verify, json!({"code": code(&secret, now)}), Some(&who), now).await;
    assert!(bench.authority.elevations(&who, at(now)).is_empty(), "a grant elevates nothing");
    let first = exchange(&bench, &who, "t1", &[("challenge", id)], now).await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    let second = exchange(&bench, &who, "t1", &[("challenge", id)], now).await;
    assert_eq!(second.json["error"], "invalid_grant");
}

#[tokio::test]
async fn what_token_exchange_refuses_is_said_as_the_rfcs_have_it() {
    let bench = Bench::new();
    let who = principal("ann", "t1");
    let otp = [("otp", "000000"), ("level", "mfa")];
    let with = |more: &[(&'static str, &'static str)]| [&otp[..], more].concat();
    for (token, more, error) in [
        ("t2", with(&[]), "invalid_request"),
        ("t1", vec![], "invalid_request"),
        ("t1", vec![("otp", "000000"), ("level", "nobody's")], "invalid_request"),
        ("t1", with(&[("challenge", "x")]), "invalid_request"),
        ("t1", with(&[("otp", "111111")]), "invalid_request"),
        ("t1", with(&[("method", "DELETE")]), "invalid_request"),
        ("t1", with(&[("method", "DELETE"), ("target", "nowhere")]), "invalid_target"),
        ("t1", with(&[("method", "DELETE"), ("target", "/a"), ("body_digest", "md5=:AA==:")]), "invalid_request"),
        ("t1", with(&[("body-digest", "sha-256=:AA==:")]), "invalid_request"),
        ("t1", with(&[]), "invalid_grant"),
    ] {
        let got = exchange(&bench, &who, token, &more, START).await;
        assert_eq!((got.status, &got.json["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{more:?}");
        assert_eq!(got.headers[header::CACHE_CONTROL], "no-store");
    }
    let body = form(&[("grant_type", "password")]);
    let got = bench.call_as(Method::POST, "/token", FORM, body, Some(&who), START).await;
    assert_eq!(got.json["error"], "unsupported_grant_type");
}

#[tokio::test]
async fn without_a_credential_or_in_another_form_nothing_is_done() {
    let bench = Bench::new();
    let who = principal("ann", "t1");
    for row in super::super::api::TABLE {
        let path = row.path.replace("{id}", "x");
        let got = bench.call(row.method.clone(), &path, json!({}), None, START).await;
        if row.needs == super::super::api::Needs::Credential {
            assert_eq!((got.refused, got.reason), (true, Reason::TokenMissing), "{path}");
        }
    }
    let plain = bench.call_as(Method::POST, "/api/v1/challenges", "text/plain", "{}".into(), Some(&who), START).await;
    assert_eq!((plain.refused, plain.reason), (true, Reason::CallRefused));
    for body in ["", "[]", "{\"level\": 1}", "{\"level\":\"mfa\",\"level\":\"phr\"}", "{\"levels\":\"mfa\"}"] {
        let kind = "application/json";
        let got = bench.call_as(Method::POST, "/api/v1/challenges", kind, body.into(), Some(&who), START).await;
        assert_eq!((got.refused, got.reason), (true, Reason::CallRefused), "{body}");
    }
    let mut other = principal("ann", "t1");
    other.issuer = "second".into();
    let got = bench.call(Method::GET, "/api/v1/me", Value::Null, Some(&other), START).await;
    assert!(got.refused, "an issuer that is not served");
}

#[tokio::test]
async fn only_pages_of_configured_origins_may_call() {
    let bench = Bench::new();
    let allowed = bench.call(Method::OPTIONS, "/api/v1/me", Value::Null, None, START).await;
    assert_eq!(allowed.status, StatusCode::NO_CONTENT);
    assert_eq!(allowed.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
    assert_eq!(allowed.headers[header::ACCESS_CONTROL_ALLOW_METHODS], "GET");
    assert!(!allowed.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    let yaml = super::super::testing::YAML.replace("https://app.example", "https://app.example.evil");
    let refused = Bench::of(&yaml).call(Method::OPTIONS, "/api/v1/me", Value::Null, None, START).await;
    assert!(!refused.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{refused:?}");
    assert_eq!(refused.headers[header::VARY], "Origin");
}

#[tokio::test]
async fn the_document_describes_every_operation_and_no_other() {
    let bench = Bench::new();
    let got = bench.call(Method::GET, "/openapi.json", Value::Null, None, START).await;
    let paths = got.json["paths"].as_object().unwrap();
    let said: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(said, super::super::api::TABLE.len());
    for row in super::super::api::TABLE {
        let operation = &paths[row.path][row.method.as_str().to_ascii_lowercase()];
        assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 10), "{}", row.path);
        let has_body = row.method != Method::GET && !row.path.ends_with("/elevations");
        assert!(!has_body || operation["requestBody"].is_object(), "{}", row.path);
    }
    assert_eq!(got.json["servers"][0]["url"], "https://api.example/stepgate");
}
