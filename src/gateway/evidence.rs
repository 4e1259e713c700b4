//! Step 4: from what the request carries to facts. Verifies, and refuses nothing: that is for the policy.

use smallvec::SmallVec;

use super::{inbound::Authorization, matched::Matched};
use crate::{
    clock::Now,
    identity::Authenticator,
    policy::{Credential, IssuerName, Reason},
};

/// What the credentials of a request are worth on the routes that it may be for.
pub async fn gather(
    authenticator: &Authenticator,
    authorization: &Authorization,
    query: Option<&str>,
    matched: &Matched<'_>,
    now: Now,
) -> Credential {
    let guarded = matched.guarded();
    if !matched.all().any(|route| route.asks_for_token(guarded)) {
        return Credential::Absent;
    }
    let value = match authorization {
        Authorization::Absent => return Credential::Absent,
        Authorization::Ambiguous => return Credential::Invalid(Reason::InvalidCredentials),
        Authorization::One(value) => value,
    };
    let token = match bearer(value.as_bytes()) {
        Bearer::OtherScheme => return Credential::Absent,
        Bearer::Malformed => return Credential::Invalid(Reason::TokenMalformed),
        Bearer::Token(token) => token,
    };
    if query.is_some_and(has_query_token) {
        return Credential::Invalid(Reason::InvalidCredentials);
    }
    let several;
    let accepted = if matched.aliases.is_empty() {
        &*matched.route.policy.issuers
    } else {
        several = accepted(matched, guarded);
        several.as_slice()
    };
    authenticator.authenticate(token, accepted, now).await
}

/// The issuers that any of the routes takes; empty: all. Each route's own list is judged by the policy.
fn accepted(matched: &Matched<'_>, guarded: bool) -> SmallVec<[IssuerName; 4]> {
    let mut issuers = SmallVec::new();
    for route in matched.all().filter(|route| route.asks_for_token(guarded)) {
        if route.policy.issuers.is_empty() {
            return SmallVec::new();
        }
        issuers.extend(route.policy.issuers.iter().cloned());
    }
    issuers
}

enum Bearer<'a> {
    Token(&'a str),
    Malformed,
    OtherScheme,
}

/// RFC 6750 §2.1: the scheme in any case, then one b64token.
fn bearer(value: &[u8]) -> Bearer<'_> {
    let mut parts = value.splitn(2, |b| *b == b' ');
    let scheme = parts.next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Bearer::OtherScheme;
    }
    let token = parts.next().unwrap_or_default().trim_ascii();
    let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    match std::str::from_utf8(token) {
        Ok(token) if !token.is_empty() && token.as_bytes().iter().all(legal) => Bearer::Token(token),
        Ok(_) | Err(_) => Bearer::Malformed,
    }
}

/// RFC 6750 §2: a client uses one way a request, and the query is none of ours.
fn has_query_token(query: &str) -> bool {
    let named = |pair: &str| url::form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == "access_token");
    query.split(['&', ';']).any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_well_formed_bearer_token_is_a_token() {
        let token = |value: &'static str| match bearer(value.as_bytes()) {
            Bearer::Token(token) => Some(token),
            Bearer::Malformed => Some("malformed"),
            Bearer::OtherScheme => None,
        };
        assert_eq!(token("Bearer a.b.c"), Some("a.b.c"));
        assert_eq!(token("bearer  a.b.c "), Some("a.b.c"));
        assert_eq!(token("Basic YTpi"), None);
        assert_eq!(token("Bearer"), Some("malformed"));
        assert_eq!(token("Bearer a b"), Some("malformed"));
        assert_eq!(token("Bearer a,b"), Some("malformed"));
        assert_eq!(token("Bearertoken"), None);
    }

    #[test]
    fn a_token_in_the_query_is_seen() {
        assert!(has_query_token("a=1&access_token=x"));
        assert!(has_query_token("access_token"));
        assert!(has_query_token("%61ccess%5ftoken=x"));
        assert!(!has_query_token("my_access_token=1&b=access_token"));
    }
}
