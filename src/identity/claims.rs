//! Claims → facts: what an issuer requires of them, and where its provider puts the facts that policies speak of. What
//! is optional and malformed counts as not there, so that it can never satisfy a requirement.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    config::{AuthTimeFormat, Bound, ClaimPath, ClaimRule, Issuer, KeySource},
    jose::{TimeClaims, TokenFault},
    policy::{Assurance, Binding, Factor, Factors, Kind, Marks, Principal, Reason},
};

/// The claim of the gateway's own access tokens that names the factors that were shown.
const FACTORS: &str = "factors";
/// The one that says that a factor among them is too new to delete anything.
const PROBATION: &str = "probation";

/// Checks the claims of a token whose signature was verified, and reads the facts out of them.
pub(super) fn read(issuer: &Issuer, claims: Map<String, Value>, now: f64) -> Result<(Principal, TimeClaims), Reason> {
    for name in &issuer.required {
        if !is_there(&claims, name) {
            return Err(Reason::TokenClaims);
        }
    }
    audience(issuer, &claims)?;
    if !issuer.expect.iter().all(|rule| holds(rule, &claims)) {
        return Err(Reason::TokenClaims);
    }
    let leeway_secs = issuer.leeway.as_secs_f64();
    let times = TimeClaims::read(&claims).map_err(reason)?;
    times.check(now, leeway_secs).map_err(reason)?;
    let subject = subject(issuer, &claims)?;
    let layout = &issuer.claims;
    let client = match &layout.client {
        Some(path) => text(path.find(&claims)),
        None => text(claims.get("azp")).or_else(|| text(claims.get("client_id"))),
    };
    let mut acr = methods(layout.acr.find(&claims)).into_iter();
    let principal = Principal {
        issuer: issuer.name.clone(),
        issuer_url: issuer.url.clone(),
        subject,
        kind: kind(issuer, &claims, client.as_deref()),
        client,
        scopes: scopes(layout.scopes.find(&claims)),
        assurance: Assurance {
            acr: acr.next(),
            further_acr: acr.collect(),
            amr: methods(layout.amr.find(&claims)),
            auth_time: auth_time(layout.auth_time.find(&claims), issuer.auth_time_format),
            factors: factors(issuer, &claims),
            on_probation: issuer.keys == KeySource::Authority && claims.get(PROBATION) == Some(&Value::Bool(true)),
        },
        expires_at: times.exp,
        leeway_secs,
        marks: Marks {
            id: text(claims.get("jti")),
            issued_at: times.iat,
            session: text(claims.get("sid")),
            ..Marks::default()
        },
        binding: bound(binding(claims.get("cnf"))?, issuer.bound)?,
        limits: Box::default(),
        told: crate::policy::Told::default(),
        claims: Value::Object(claims),
    };
    Ok((principal, times))
}

/// What a fault of the gate is to the policy.
pub(super) fn reason(fault: TokenFault) -> Reason {
    match fault {
        TokenFault::TooLarge => Reason::TokenTooLarge,
        TokenFault::Malformed(_) => Reason::TokenMalformed,
        TokenFault::Algorithm => Reason::TokenAlgorithm,
        TokenFault::KeyMismatch => Reason::TokenKeyUnknown,
        TokenFault::Signature => Reason::TokenSignature,
        TokenFault::Claim(_) => Reason::TokenClaims,
        TokenFault::Expired => Reason::TokenExpired,
        TokenFault::NotYetValid => Reason::TokenNotYetValid,
        TokenFault::IssuedInFuture => Reason::TokenIssuedInFuture,
    }
}

/// Whether a required claim is there, with the type that it must have where that is known (RFC 7519 §4.1).
fn is_there(claims: &Map<String, Value>, name: &str) -> bool {
    let value = if name.starts_with('/') { pointer(claims, name) } else { claims.get(name) };
    match (name, value) {
        (_, None | Some(Value::Null)) => false,
        ("iss" | "sub" | "jti", Some(value)) => value.as_str().is_some_and(|text| !text.is_empty()),
        ("exp" | "nbf" | "iat", Some(value)) => value.is_number(),
        (_, Some(_)) => true,
    }
}

/// RFC 7519 §4.1.3: a string or an array of strings, of which one must be ours. Whether it must be there at all is for
/// `required` to say.
fn audience(issuer: &Issuer, claims: &Map<String, Value>) -> Result<(), Reason> {
    let is_ours = |name: &str| issuer.audience.iter().any(|ours| **ours == *name);
    let found = match issuer.claims.audience.find(claims) {
        None => return Ok(()),
        Some(Value::String(name)) => is_ours(name),
        Some(Value::Array(names)) => {
            let mut found = false;
            for name in names {
                found |= is_ours(name.as_str().ok_or(Reason::TokenClaims)?);
            }
            found
        }
        Some(_) => return Err(Reason::TokenClaims),
    };
    if found || issuer.audience.is_empty() { Ok(()) } else { Err(Reason::TokenAudience) }
}

/// The subject where the layout has it: never of another type, and never empty where `sub` is required.
fn subject(issuer: &Issuer, claims: &Map<String, Value>) -> Result<Arc<str>, Reason> {
    let required = issuer.required.iter().any(|name| **name == *"sub");
    match issuer.claims.subject.find(claims) {
        Some(Value::String(subject)) if !subject.is_empty() || !required => Ok(subject.as_str().into()),
        None | Some(Value::Null) if !required => Ok("".into()),
        Some(_) | None => Err(Reason::TokenClaims),
    }
}

/// RFC 9068 §2.2: where no resource owner takes part, `sub` is the client's own identifier. Other providers have other
/// signs. Without any, a person: more is asked of people.
fn kind(issuer: &Issuer, claims: &Map<String, Value>, client: Option<&str>) -> Kind {
    let own = client.is_some() && claims.get("sub").and_then(Value::as_str) == client;
    let told = || issuer.machine.iter().any(|rule| holds(rule, claims));
    if own || told() { Kind::Machine } else { Kind::Person }
}

/// Whether a claim is, or has among its values, one of those that a rule names.
fn holds(rule: &ClaimRule, claims: &Map<String, Value>) -> bool {
    let is_named = |value: &Value| match value {
        Value::String(text) => rule.values.iter().any(|named| **named == *text),
        Value::Number(_) | Value::Bool(_) => {
            let text = value.to_string();
            rule.values.iter().any(|named| **named == *text)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    match rule.claim.find(claims) {
        Some(Value::Array(values)) => values.iter().any(is_named),
        Some(value) => is_named(value),
        None => false,
    }
}

/// What the issuer's tokens must be bound to, they are; a proof is asked for wherever one is bound.
fn bound(binding: Option<Box<Binding>>, wanted: Bound) -> Result<Option<Box<Binding>>, Reason> {
    let certificate = binding.as_ref().is_some_and(|binding| binding.certificate.is_some());
    let dpop = binding.as_ref().is_some_and(|binding| binding.dpop.is_some());
    let is_bound = match wanted {
        Bound::None => true,
        Bound::Certificate => certificate,
        Bound::Dpop => dpop,
        Bound::Any => certificate || dpop,
    };
    if is_bound { Ok(binding) } else { Err(Reason::BindingRequired) }
}

/// RFC 7800 §3.1. A confirmation that is not understood binds to a key that nobody can prove to hold, so it is a fault.
fn binding(confirmation: Option<&Value>) -> Result<Option<Box<Binding>>, Reason> {
    let Some(confirmation) = confirmation else { return Ok(None) };
    let members = confirmation.as_object().ok_or(Reason::TokenClaims)?;
    let mut binding = Binding::default();
    for (name, value) in members {
        let place = match name.as_str() {
            "x5t#S256" => &mut binding.certificate,
            "jkt" => &mut binding.dpop,
            _ => return Err(Reason::TokenClaims),
        };
        *place = Some(thumbprint(value).ok_or(Reason::TokenClaims)?);
    }
    if binding == Binding::default() { Err(Reason::TokenClaims) } else { Ok(Some(Box::new(binding))) }
}

/// A SHA-256 digest in base64url without padding.
fn thumbprint(value: &Value) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(value.as_str()?).ok()?.try_into().ok()
}

fn text(value: Option<&Value>) -> Option<Arc<str>> {
    value?.as_str().filter(|text| !text.is_empty()).map(Arc::from)
}

/// RFC 6749 §3.3: one string, parted by spaces; several providers write an array instead.
fn scopes(value: Option<&Value>) -> Box<[Arc<str>]> {
    match value {
        Some(Value::String(text)) => text.split(' ').filter(|scope| !scope.is_empty()).map(Arc::from).collect(),
        other => strings(other),
    }
}

/// RFC 8176 §1: an array of strings; a single string is taken as one value.
fn methods(value: Option<&Value>) -> Box<[Arc<str>]> {
    match value {
        Some(Value::String(_)) => text(value).into_iter().collect(),
        other => strings(other),
    }
}

/// An array that holds anything but strings counts as empty.
fn strings(value: Option<&Value>) -> Box<[Arc<str>]> {
    let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().map(|item| item.as_str().map(Arc::from)).collect::<Option<_>>().unwrap_or_default()
}

fn auth_time(value: Option<&Value>, format: AuthTimeFormat) -> Option<f64> {
    let seconds = match (value?, format) {
        (Value::Number(number), _) => number.as_f64()?,
        (Value::String(digits), AuthTimeFormat::NumberOrString)
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            digits.parse().ok()?
        }
        _ => return None,
    };
    seconds.is_finite().then_some(seconds)
}

/// The factors that were shown to the gateway's own authority. From anybody else the claim means nothing: a provider that
/// could write it could give itself a passkey.
fn factors(issuer: &Issuer, claims: &Map<String, Value>) -> Factors {
    if issuer.keys != KeySource::Authority {
        return Factors::NONE;
    }
    strings(claims.get(FACTORS)).iter().filter_map(|name| Factor::from_name(name)).collect()
}

/// Where a claim stands.
trait Find {
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value>;
}

impl Find for ClaimPath {
    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        match self {
            Self::Name(name) => claims.get(&**name),
            Self::Pointer(path) => pointer(claims, path),
        }
    }
}

/// RFC 6901, from the claims object on. `Value::pointer` wants a `Value`, and the claims are a map.
fn pointer<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    let path = path.strip_prefix('/')?;
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        None => Some(value),
        Some(rest) => value.pointer(&format!("/{rest}")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        config::{ClaimLayout, KeySource},
        identity::testing::issuer,
    };

    const NOW: f64 = 1_700_000_000.0;

    fn claims(extra: Value) -> Value {
        let mut claims = json!({
            "iss": "https://idp.example/", "aud": "https://api.example", "sub": "alice", "exp": NOW + 300.0, "iat": NOW,
        });
        for (name, value) in extra.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    fn read_with(issuer: &Issuer, extra: Value) -> Result<Principal, Reason> {
        read(issuer, claims(extra).as_object().unwrap().clone(), NOW).map(|(principal, _)| principal)
    }

    fn read_one(extra: Value) -> Result<Principal, Reason> {
        read_with(&issuer("main", KeySource::Discovery), extra)
    }

    fn list(values: &[Arc<str>]) -> Vec<&str> {
        values.iter().map(|value| &**value).collect()
    }

    #[test]
    fn an_ordinary_token_gives_its_facts() {
        let principal = read_one(json!({
            "scope": "a b", "acr": "urn:mfa", "amr": ["pwd", "otp"], "auth_time": NOW - 10.5, "azp": "app", "client_id": "other",
        }))
        .unwrap();
        assert_eq!((&*principal.issuer, &*principal.subject), ("main", "alice"));
        assert_eq!(list(&principal.scopes), ["a", "b"]);
        assert_eq!(principal.assurance.acr.as_deref(), Some("urn:mfa"));
        assert_eq!(list(&principal.assurance.amr), ["pwd", "otp"]);
        assert_eq!(principal.assurance.auth_time, Some(NOW - 10.5));
        assert_eq!(principal.client.as_deref(), Some("app"));
        assert_eq!((principal.expires_at, principal.leeway_secs), (Some(NOW + 300.0), 30.0));
        assert_eq!(principal.claims["aud"], "https://api.example");
    }

    #[test]
    fn factors_are_believed_of_the_authority_alone() {
        let told = json!({"factors": ["password", "passkey", "laser"], "amr": ["pwd"], "probation": true});
        let own = read_with(&issuer("authority", KeySource::Authority), told.clone()).unwrap();
        assert_eq!(own.assurance.factors, [Factor::Password, Factor::Passkey].into_iter().collect());
        assert!(own.assurance.on_probation);
        let other = read_one(told).unwrap();
        assert!(!other.assurance.on_probation);
        assert_eq!(other.assurance.factors, Factors::NONE, "a provider that writes the claim gains nothing by it");
        assert_eq!(list(&other.assurance.amr), ["pwd"]);
        for malformed in [json!("passkey"), json!(["passkey", 7]), json!({"passkey": true})] {
            let own = read_with(&issuer("authority", KeySource::Authority), json!({"factors": malformed})).unwrap();
            assert_eq!(own.assurance.factors, Factors::NONE);
        }
    }

    #[test]
    fn a_required_claim_that_is_missing_or_of_another_type_is_refused() {
        for extra in [
            json!({"sub": null}),
            json!({"sub": ""}),
            json!({"sub": 7}),
            json!({"exp": null}),
            json!({"exp": "1700000300"}),
            json!({"aud": null}),
            json!({"aud": 7}),
            json!({"aud": ["https://api.example", 7]}),
            json!({"nbf": "soon"}),
            json!({"iat": [1]}),
        ] {
            assert_eq!(read_one(extra.clone()).unwrap_err(), Reason::TokenClaims, "{extra}");
        }
    }

    #[test]
    fn the_audience_must_name_us_exactly() {
        assert!(read_one(json!({"aud": ["other", "https://api.example"]})).is_ok());
        for aud in [json!("https://api.example/"), json!("HTTPS://API.EXAMPLE"), json!([]), json!(["other"]), json!("")]
        {
            assert_eq!(read_one(json!({"aud": aud.clone()})).unwrap_err(), Reason::TokenAudience, "{aud}");
        }
        let mut lenient = issuer("main", KeySource::Discovery);
        lenient.required = vec!["exp".into()];
        assert!(read_with(&lenient, json!({"aud": null})).is_ok());
        assert_eq!(read_with(&lenient, json!({"aud": "other"})).unwrap_err(), Reason::TokenAudience);
        lenient.audience.clear();
        assert!(read_with(&lenient, json!({"aud": null})).is_ok());
        assert!(read_with(&lenient, json!({"aud": "anything"})).is_ok());
    }

    #[test]
    fn times_are_checked_even_if_nobody_requires_them() {
        let mut lenient = issuer("main", KeySource::Discovery);
        lenient.required.clear();
        assert_eq!(read_with(&lenient, json!({"exp": null})).unwrap().expires_at, None);
        assert_eq!(read_with(&lenient, json!({"exp": NOW - 30.0})).unwrap_err(), Reason::TokenExpired);
        assert_eq!(read_with(&lenient, json!({"nbf": NOW + 31.0})).unwrap_err(), Reason::TokenNotYetValid);
        assert_eq!(read_with(&lenient, json!({"iat": NOW + 31.0})).unwrap_err(), Reason::TokenIssuedInFuture);
        assert!(read_with(&lenient, json!({"iat": NOW + 30.0, "nbf": NOW + 30.0, "exp": NOW - 29.0})).is_ok());
    }

    #[test]
    fn a_subject_that_is_not_required_may_be_missing_but_never_of_another_type() {
        let mut lenient = issuer("main", KeySource::Discovery);
        lenient.required = vec!["exp".into()];
        assert_eq!(&*read_with(&lenient, json!({"sub": null})).unwrap().subject, "");
        assert_eq!(read_with(&lenient, json!({"sub": {"id": 1}})).unwrap_err(), Reason::TokenClaims);
    }

    #[test]
    fn a_machine_is_told_by_its_subject_or_by_a_rule_and_anybody_else_is_a_person() {
        let mut ruled = issuer("main", KeySource::Discovery);
        let rule = |claim: &str, value: &str| ClaimRule {
            claim: ClaimPath::Name(claim.into()),
            values: Box::new([value.into()]),
        };
        ruled.machine = vec![rule("idtyp", "app"), rule("gty", "client-credentials")];
        let kind = |issuer: &Issuer, extra: Value| read_with(issuer, extra).unwrap().kind;
        assert_eq!(kind(&ruled, json!({"client_id": "alice"})), Kind::Machine);
        assert_eq!(kind(&ruled, json!({"idtyp": "app"})), Kind::Machine);
        assert_eq!(kind(&ruled, json!({"gty": ["client-credentials"]})), Kind::Machine);
        for person in
            [json!({}), json!({"client_id": "app"}), json!({"idtyp": "user"}), json!({"idtyp": {"app": true}})]
        {
            assert_eq!(kind(&ruled, person.clone()), Kind::Person, "{person}");
        }
        let plain = issuer("main", KeySource::Discovery);
        assert_eq!(kind(&plain, json!({"idtyp": "app"})), Kind::Person);
    }

    #[test]
    fn optional_facts_that_are_malformed_count_as_not_there() {
        let principal =
            read_one(json!({"scope": 7, "acr": {"x": 1}, "amr": ["pwd", 7], "auth_time": "1700000000", "azp": 1}))
                .unwrap();
        assert_eq!(principal.assurance, Assurance::default());
        assert!(principal.scopes.is_empty() && principal.client.is_none());
        assert_eq!(list(&read_one(json!({"amr": "mfa"})).unwrap().assurance.amr), ["mfa"]);
        assert_eq!(list(&read_one(json!({"scope": " a  b "})).unwrap().scopes), ["a", "b"]);
    }

    #[test]
    fn auth_time_as_a_string_is_believed_only_where_the_issuer_says_so() {
        let mut loose = issuer("main", KeySource::Discovery);
        loose.auth_time_format = AuthTimeFormat::NumberOrString;
        let read = |value: Value| read_with(&loose, json!({ "auth_time": value })).unwrap().assurance.auth_time;
        assert_eq!(read(json!("1700000000")), Some(NOW));
        assert_eq!(read(json!(1_700_000_000)), Some(NOW));
        for bad in ["", "-1", "+1", "1e9", "inf", "NaN", " 1", "0x10", "1.5"] {
            assert_eq!(read(json!(bad)), None, "{bad}");
        }
        assert_eq!(read(json!("9".repeat(400))), None);
    }

    fn laid_out(layout: &[(&str, &str)]) -> Issuer {
        let path = |text: &str| match text.starts_with('/') {
            true => ClaimPath::Pointer(text.into()),
            false => ClaimPath::Name(text.into()),
        };
        let place = |fact: &str| layout.iter().find(|(name, _)| *name == fact).map(|(_, text)| path(text));
        let mut issuer = issuer("main", KeySource::Discovery);
        issuer.claims = ClaimLayout {
            audience: path("aud"),
            subject: place("subject").unwrap_or(path("sub")),
            scopes: place("scopes").unwrap_or(path("scope")),
            acr: place("acr").unwrap_or(path("acr")),
            amr: place("amr").unwrap_or(path("amr")),
            auth_time: place("auth_time").unwrap_or(path("auth_time")),
            client: place("client"),
        };
        issuer
    }

    #[test]
    fn keycloak_puts_roles_into_objects() {
        let principal = read_with(
            &laid_out(&[("scopes", "/realm_access/roles"), ("amr", "/ext/amr~1values")]),
            json!({
                "typ": "Bearer", "azp": "web", "acr": "1", "sid": "x", "scope": "openid profile",
                "realm_access": {"roles": ["offline_access", "admin"]}, "ext": {"amr/values": ["otp"]},
                "resource_access": {"account": {"roles": ["view-profile"]}},
            }),
        )
        .unwrap();
        assert_eq!(list(&principal.scopes), ["offline_access", "admin"]);
        assert_eq!(list(&principal.assurance.amr), ["otp"]);
        assert_eq!((principal.client.as_deref(), principal.assurance.acr.as_deref()), (Some("web"), Some("1")));
    }

    #[test]
    fn auth0_names_its_claims_with_urls() {
        let principal = read_with(
            &laid_out(&[("acr", "https://app.example/acr"), ("amr", "/https:~1~1app.example~1amr")]),
            json!({
                "aud": ["https://api.example", "https://tenant.eu.auth0.com/userinfo"], "azp": "cid",
                "scope": "read:items", "permissions": ["read:items"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
                "https://app.example/acr": "urn:mfa", "https://app.example/amr": ["mfa"],
            }),
        )
        .unwrap();
        assert_eq!(principal.assurance.acr.as_deref(), Some("urn:mfa"));
        assert_eq!(list(&principal.assurance.amr), ["mfa"]);
        assert_eq!(&*principal.subject, "auth0|5f7c8ec7c33c6c004bbafe82");
    }

    #[test]
    fn entra_writes_scp_as_a_string_and_names_people_by_oid() {
        let principal = read_with(
            &laid_out(&[("scopes", "scp"), ("subject", "oid"), ("client", "appid")]),
            json!({
                "ver": "1.0", "tid": "t", "oid": "00000000-0000-0000-66f3-3332eca7ea81", "scp": "Items.Read Items.Write",
                "amr": ["pwd", "mfa"], "acr": "1", "appid": "6e74172b", "uti": "u", "xms_st": {"sub": "x"},
            }),
        )
        .unwrap();
        assert_eq!(list(&principal.scopes), ["Items.Read", "Items.Write"]);
        assert_eq!(&*principal.subject, "00000000-0000-0000-66f3-3332eca7ea81");
        assert_eq!(principal.client.as_deref(), Some("6e74172b"));
    }

    #[test]
    fn okta_writes_scp_as_an_array_and_the_client_as_cid() {
        let principal = read_with(
            &laid_out(&[("scopes", "scp"), ("client", "cid")]),
            json!({"ver": 1, "jti": "AT.x", "cid": "0oa", "uid": "00u", "scp": ["openid", "items:write"], "auth_time": NOW}),
        )
        .unwrap();
        assert_eq!(list(&principal.scopes), ["openid", "items:write"]);
        assert_eq!(principal.client.as_deref(), Some("0oa"));
        assert_eq!(principal.assurance.auth_time, Some(NOW));
    }

    #[test]
    fn a_pointer_that_leads_nowhere_finds_nothing() {
        for path in ["/", "/x", "/sub/x", "/aud/0", "//", "/~", "/realm/99999999999999999999"] {
            let principal = read_with(&laid_out(&[("acr", path)]), json!({"realm": ["x"]})).unwrap();
            assert_eq!(principal.assurance.acr, None, "{path}");
        }
        let principal = read_with(&laid_out(&[("acr", "/realm/0")]), json!({"realm": ["x"]})).unwrap();
        assert_eq!(principal.assurance.acr.as_deref(), Some("x"));
    }
}
