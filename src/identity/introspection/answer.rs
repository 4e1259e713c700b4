//! What an issuer answered (RFC 7662 §2.2, RFC 9701 §5), read without belief and then judged like a token's claims. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{super::claims, Fault};
use crate::{
    clock::Now,
    config::Issuer,
    jose::{self, TimeClaims},
    policy::{Principal, Reason},
};

/// The media type of a signed answer, and with `application/` left out its `typ` (RFC 9701 §5).
pub(super) const SIGNED_TYPE: &str = "application/token-introspection+jwt";
/// How old a signed answer may be, besides the leeway: it is made for this question, and one that somebody recorded must
/// not bring a revoked token back to life.
const SIGNED_AGE_SECS: f64 = 60.0;

/// Reads a plain answer: the members of an active token; `None` for one that is not active.
pub(super) fn plain(body: &[u8]) -> Result<Option<Map<String, Value>>, Fault> {
    active(jose::object(body).ok_or(Fault::Format)?)
}

/// Whether this is the `typ` of a signed answer.
pub(super) fn is_signed_type(typ: Option<&str>) -> bool {
    let short = SIGNED_TYPE.strip_prefix("application/").unwrap_or(SIGNED_TYPE);
    typ.is_some_and(|typ| typ.eq_ignore_ascii_case(short) || typ.eq_ignore_ascii_case(SIGNED_TYPE))
}

/// Reads the claims of a signed answer, whose signature was verified: by whom, for whom, when.
pub(super) fn signed(
    mut claims: Map<String, Value>,
    issuer: &Issuer,
    client_id: &str,
    now: Now,
) -> Result<Option<Map<String, Value>>, Fault> {
    let for_us = match claims.get("aud") {
        Some(Value::String(name)) => name == client_id,
        Some(Value::Array(names)) => names.iter().any(|name| name == client_id),
        Some(_) | None => false,
    };
    if claims.get("iss").and_then(Value::as_str) != Some(&*issuer.url) || !for_us {
        return Err(Fault::SignedFor);
    }
    let (now, leeway) = (now.numeric_date(), issuer.leeway.as_secs_f64());
    let times = TimeClaims::read(&claims).map_err(|_| Fault::SignedTime)?;
    times.check(now, leeway).map_err(|_| Fault::SignedTime)?;
    if times.iat.is_none_or(|iat| iat < now - leeway - SIGNED_AGE_SECS) {
        return Err(Fault::SignedTime);
    }
    match claims.remove("token_introspection") {
        Some(Value::Object(answer)) => active(answer),
        Some(_) | None => Err(Fault::Format),
    }
}

/// `active` is a boolean, and nothing that merely looks like one.
fn active(mut answer: Map<String, Value>) -> Result<Option<Map<String, Value>>, Fault> {
    match answer.remove("active") {
        Some(Value::Bool(true)) => Ok(Some(answer)),
        Some(Value::Bool(false)) => Ok(None),
        Some(_) | None => Err(Fault::Format),
    }
}

/// Judges the answer for an active token, by an issuer whose `required` are those of the answer.
pub(super) fn judge(issuer: &Issuer, answer: Map<String, Value>, now: Now) -> Result<(Principal, TimeClaims), Reason> {
    // RFC 7662 §2.2: optional, but another issuer's token is not for this one to vouch for.
    match answer.get("iss") {
        None => {}
        Some(Value::String(url)) if **url == *issuer.url => {}
        Some(Value::String(_)) => return Err(Reason::TokenIssuerUnknown),
        Some(_) => return Err(Reason::TokenClaims),
    }
    let bound_by_dpop = access_token(&answer)?;
    let (principal, times) = claims::read(issuer, answer, now.numeric_date())?;
    // RFC 9449 §6.2: the key stands in `cnf`; without it nobody could prove anything, and anybody would pass.
    if bound_by_dpop && principal.binding.as_ref().is_none_or(|binding| binding.dpop.is_none()) {
        return Err(Reason::TokenClaims);
    }
    Ok((principal, times))
}

/// Refuses what says that it is no access token: endpoints answer for refresh tokens as well (RFC 7662 §2.1), and these
/// live long. Says whether it is one that DPoP binds.
fn access_token(answer: &Map<String, Value>) -> Result<bool, Reason> {
    let is = |name: &str, known: &[&str]| match answer.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(known.iter().any(|known| text.eq_ignore_ascii_case(known)))),
        Some(_) => Err(Reason::TokenClaims),
    };
    // Ory and Cognito say `token_use`; Keycloak writes the kind of a token into `typ`.
    let wrong = is("token_type", &["bearer", "dpop", "access_token"])? == Some(false)
        || is("token_use", &["access_token", "access"])? == Some(false)
        || is("typ", &["refresh", "offline", "id", "logout"])? == Some(true);
    if wrong { Err(Reason::TokenType) } else { Ok(is("token_type", &["dpop"])? == Some(true)) }
}

/// An issuer as answers are judged by it: with what an answer must have in the place of what a token must have.
pub(super) fn judging(issuer: &Issuer, required: &[Arc<str>]) -> Issuer {
    Issuer { required: required.to_vec(), ..issuer.clone() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        config::KeySource,
        identity::testing::{self, AUDIENCE, ISSUER},
    };

    fn judged(extra: &Value) -> Result<Principal, Reason> {
        let now = testing::now();
        let mut answer = json!({"active": true, "aud": AUDIENCE, "exp": now.unix_secs() + 300});
        for (name, value) in extra.as_object().unwrap() {
            let members = answer.as_object_mut().unwrap();
            if value.is_null() {
                members.remove(name)
            } else {
                members.insert(name.clone(), value.clone())
            };
        }
        let issuer = judging(&testing::issuer("main", KeySource::Absent), &["aud".into(), "exp".into()]);
        let answer = plain(answer.to_string().as_bytes()).unwrap().unwrap();
        judge(&issuer, answer, now).map(|(principal, _)| principal)
    }

    #[test]
    fn active_is_exactly_true() {
        assert!(plain(br#"{"active":true}"#).unwrap().is_some());
        assert!(plain(br#"{"active":false,"sub":"alice"}"#).unwrap().is_none());
        for garbage in [
            "",
            "true",
            "[]",
            "{}",
            "<html>busy</html>",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"active":[true]}"#,
            r#"{"Active":true}"#,
            r#"{"active":false,"active":true}"#,
            r#"{"active":true}{"active":true}"#,
        ] {
            assert!(matches!(plain(garbage.as_bytes()), Err(Fault::Format)), "{garbage}");
        }
    }

    #[test]
    fn the_members_of_rfc_7662_become_facts() {
        let principal = judged(&json!({
            "scope": "read write", "client_id": "app", "username": "alice@example", "token_type": "Bearer", "sub": "alice",
            "iss": ISSUER, "jti": "t1", "iat": 1_700_000_000, "acr": "urn:mfa", "amr": ["otp"], "auth_time": 1_700_000_000,
        }))
        .unwrap();
        assert_eq!((&*principal.subject, principal.client.as_deref()), ("alice", Some("app")));
        assert_eq!(principal.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["read", "write"]);
        assert_eq!(principal.assurance.acr.as_deref(), Some("urn:mfa"));
        assert_eq!(principal.assurance.auth_time, Some(1_700_000_000.0));
        assert_eq!(principal.marks.id.as_deref(), Some("t1"));
        assert_eq!(principal.claims.get("username"), Some(&json!("alice@example")));
        assert_eq!(principal.claims.get("active"), None);
        assert_eq!(&*judged(&json!({})).unwrap().subject, "", "a machine's token may have no subject");
    }

    #[test]
    fn an_active_token_that_is_not_for_us_is_refused_for_its_reason() {
        for (extra, reason) in [
            (json!({"aud": null}), Reason::TokenClaims),
            (json!({"aud": "https://other.example"}), Reason::TokenAudience),
            (json!({"exp": null}), Reason::TokenClaims),
            (json!({"exp": 1}), Reason::TokenExpired),
            (json!({"exp": "soon"}), Reason::TokenClaims),
            (json!({"nbf": 99_999_999_999_u64}), Reason::TokenNotYetValid),
            (json!({"iat": 99_999_999_999_u64}), Reason::TokenIssuedInFuture),
            (json!({"iss": "https://idp.example"}), Reason::TokenIssuerUnknown),
            (json!({"iss": 7}), Reason::TokenClaims),
            (json!({"sub": 7}), Reason::TokenClaims),
            (json!({"cnf": {"kid": "x"}}), Reason::TokenClaims),
            (json!({"token_type": "DPoP"}), Reason::TokenClaims),
            (json!({"token_type": "DPoP", "cnf": {"x5t#S256": "A".repeat(43)}}), Reason::TokenClaims),
            (json!({"token_type": 7}), Reason::TokenClaims),
        ] {
            assert_eq!(judged(&extra).unwrap_err(), reason, "{extra}");
        }
        let bound = judged(&json!({"token_type": "dpop", "cnf": {"jkt": "A".repeat(43)}})).unwrap();
        assert_eq!(bound.binding.unwrap().dpop, Some([0; 32]));
    }

    #[test]
    fn what_says_that_it_is_no_access_token_is_none() {
        for extra in [
            json!({"token_type": "refresh_token"}),
            json!({"token_type": "N_A"}),
            json!({"token_use": "refresh_token"}),
            json!({"token_use": "id"}),
            json!({"typ": "Refresh"}),
            json!({"typ": "Offline"}),
            json!({"typ": "ID"}),
        ] {
            assert_eq!(judged(&extra).unwrap_err(), Reason::TokenType, "{extra}");
        }
        for extra in [json!({"token_use": "access"}), json!({"typ": "Bearer"}), json!({"token_type": "access_token"})] {
            assert!(judged(&extra).is_ok(), "{extra}");
        }
    }

    fn signed_with(extra: &Value) -> Result<Option<Map<String, Value>>, Fault> {
        let now = testing::now();
        let mut claims = json!({"iss": ISSUER, "aud": "gateway", "iat": now.unix_secs(),
            "token_introspection": {"active": true, "sub": "alice"}});
        for (name, value) in extra.as_object().unwrap() {
            claims.as_object_mut().unwrap().insert(name.clone(), value.clone());
        }
        let issuer = testing::issuer("main", KeySource::Discovery);
        signed(claims.as_object().unwrap().clone(), &issuer, "gateway", now)
    }

    #[test]
    fn a_signed_answer_is_of_this_issuer_for_us_and_of_now() {
        assert_eq!(signed_with(&json!({})).unwrap().unwrap().get("sub"), Some(&json!("alice")));
        assert!(signed_with(&json!({"aud": ["other", "gateway"]})).unwrap().is_some());
        assert!(signed_with(&json!({"token_introspection": {"active": false}})).unwrap().is_none());
        let old = testing::now().unix_secs() - 120;
        for extra in [
            json!({"iss": "https://other.example/"}),
            json!({"iss": null}),
            json!({"aud": "another gateway"}),
            json!({"aud": null}),
            json!({"iat": null}),
            json!({"iat": old}),
            json!({"iat": old + 400}),
            json!({"exp": old}),
            json!({"token_introspection": null, "active": true}),
            json!({"token_introspection": "eyJ"}),
            json!({"token_introspection": {"sub": "alice"}}),
        ] {
            assert!(signed_with(&extra).is_err(), "{extra}");
        }
        assert!(is_signed_type(Some("Token-Introspection+JWT")) && is_signed_type(Some(SIGNED_TYPE)));
        assert!(!is_signed_type(None) && !is_signed_type(Some("JWT")) && !is_signed_type(Some("at+jwt")));
    }

    proptest! {
        #[test]
        fn whatever_an_endpoint_says_only_a_true_active_passes(body in "\\PC{0,80}", active in "\\PC{0,12}") {
            prop_assert!(!matches!(plain(body.as_bytes()), Ok(Some(_))) || body.contains("true"));
            let text = json!({"active": active, "aud": AUDIENCE}).to_string();
            prop_assert!(plain(text.as_bytes()).is_err());
        }
    }
}
