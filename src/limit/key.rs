//! What a quota counts by, as 128 bits under a secret of the process: a table never holds a subject, an address or an
//! API key, and nobody outside can choose two values that share a bucket or a shard.

use std::{
    fmt::Write as _,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    net::IpAddr,
    sync::LazyLock,
};

use http::HeaderMap;
use serde_json::Value;

use crate::{
    config::{ClaimPath, LimitKey},
    policy::Principal,
    subscriber::Subscriber,
};

/// The bucket of a quota that a request falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaKey([u64; 2]);

/// What of a request a key may be made from.
#[derive(Debug, Clone, Copy)]
pub struct KeyFacts<'a> {
    /// The verified caller, if there is one.
    pub principal: Option<&'a Principal>,
    /// The client's address.
    pub client: IpAddr,
    /// The request's headers, as the client sent them.
    pub headers: &'a HeaderMap,
    /// The route's name.
    pub route: &'a str,
}

/// The process's secret; a new one at every start.
static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl QuotaKey {
    /// Starts a key of several parts; `kind` keeps keys of different kinds apart.
    pub fn builder(kind: &str) -> QuotaKeyBuilder {
        // The same secret over two different prefixes: two independent halves of a keyed function.
        let mut halves = [SECRET.build_hasher(), SECRET.build_hasher()];
        for (at, half) in halves.iter_mut().enumerate() {
            half.write_usize(at);
        }
        QuotaKeyBuilder { halves }.part(kind.as_bytes())
    }

    /// The one bucket of all requests that lack what the quota counts by.
    pub fn shared() -> Self {
        Self::builder("shared").finish()
    }

    /// A client's address: IPv4 alone (mapped into IPv6 or not), IPv6 by /64, which is what one customer gets.
    pub fn ip(address: IpAddr) -> Self {
        Self::builder("ip").part(&Subscriber::of(address).bytes()).finish()
    }

    /// An issuer and a subject.
    pub fn subject(issuer: &str, subject: &str) -> Self {
        Self::builder("subject").part(issuer.as_bytes()).part(subject.as_bytes()).finish()
    }

    /// The key that `by` asks for, or the shared one if the request lacks it.
    pub fn of(by: &LimitKey, facts: &KeyFacts<'_>) -> Self {
        match by {
            LimitKey::Global => Some(Self::builder("global").finish()),
            LimitKey::Route => Some(Self::builder("route").part(facts.route.as_bytes()).finish()),
            LimitKey::Ip => Some(Self::ip(facts.client)),
            LimitKey::Header(name) => {
                let mut values = facts.headers.get_all(name).iter();
                // Two values name no one key: whoever sends both shares a bucket with those who send none.
                let only = values.next().filter(|value| !value.is_empty() && values.next().is_none());
                only.map(|value| Self::builder("header").part(value.as_bytes()).finish())
            }
            LimitKey::Subject => facts
                .principal
                .filter(|who| !who.subject.is_empty())
                .map(|who| Self(who.told.subject_key(|| Self::subject(&who.issuer, &who.subject).0))),
            LimitKey::Issuer => facts.principal.map(|who| Self::builder("issuer").part(who.issuer.as_bytes()).finish()),
            LimitKey::Client => facts.principal.and_then(|who| {
                let client = who.client.as_deref().filter(|client| !client.is_empty())?;
                Some(Self::builder("client").part(who.issuer.as_bytes()).part(client.as_bytes()).finish())
            }),
            LimitKey::Claim(path) => facts.principal.and_then(|who| {
                let value = claim(&who.claims, path).filter(|value| !value.is_null())?;
                Some(Self::builder("claim").part(who.issuer.as_bytes()).json(value).finish())
            }),
        }
        .unwrap_or_else(Self::shared)
    }

    /// Where the key belongs in a table: a shard's number before it is reduced, and the hash within the shard.
    pub(super) fn halves(self) -> [u64; 2] {
        self.0
    }
}

/// A key is a hash already: the half that does not choose the shard stands for it.
impl Hash for QuotaKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [_, half] = self.0;
        state.write_u64(half);
    }
}

fn claim<'a>(claims: &'a Value, path: &ClaimPath) -> Option<&'a Value> {
    match path {
        ClaimPath::Name(name) => claims.get(&**name),
        ClaimPath::Pointer(pointer) => claims.pointer(pointer),
    }
}

/// A key under construction. Each part is framed by its length, so that no two lists of parts are alike.
#[derive(Debug, Clone)]
pub struct QuotaKeyBuilder {
    halves: [DefaultHasher; 2],
}

impl QuotaKeyBuilder {
    /// Adds a part.
    #[must_use]
    pub fn part(mut self, bytes: &[u8]) -> Self {
        for half in &mut self.halves {
            half.write_usize(bytes.len());
            half.write(bytes);
        }
        self
    }

    /// Adds a value by its JSON text, so that the string `1` and the number 1 differ.
    fn json(self, value: &Value) -> Self {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{value}");
        self.part(text.as_bytes())
    }

    /// The key.
    pub fn finish(self) -> QuotaKey {
        QuotaKey(self.halves.map(|half| half.finish()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use http::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;
    use crate::policy::{Assurance, Kind, Marks};

    fn ip(text: &str) -> QuotaKey {
        QuotaKey::ip(text.parse().unwrap())
    }

    fn principal(claims: Value) -> Principal {
        Principal {
            issuer: "main".into(),
            issuer_url: "https://idp.example/".into(),
            subject: "ann".into(),
            client: None,
            scopes: Box::default(),
            assurance: Assurance::default(),
            expires_at: None,
            leeway_secs: 30.0,
            claims,
            kind: Kind::Person,
            marks: Marks::default(),
            binding: None,
            limits: Box::default(),
            told: crate::policy::Told::default(),
        }
    }

    fn of(by: &LimitKey, principal: Option<&Principal>, headers: &HeaderMap) -> QuotaKey {
        QuotaKey::of(by, &KeyFacts { principal, client: "192.0.2.1".parse().unwrap(), headers, route: "/x" })
    }

    #[test]
    fn addresses_count_by_what_one_customer_holds() {
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:ffff:1:2"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("192.0.2.1"), ip("::ffff:192.0.2.1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
    }

    #[test]
    fn parts_are_framed_so_that_moving_a_letter_makes_another_key() {
        assert_ne!(QuotaKey::subject("ab", "c"), QuotaKey::subject("a", "bc"));
        assert_ne!(QuotaKey::builder("a").part(b"").finish(), QuotaKey::builder("a").finish());
        assert_ne!(QuotaKey::builder("ip").part(b"x").finish(), QuotaKey::builder("route").part(b"x").finish());
    }

    #[test]
    fn requests_without_the_key_share_one_bucket() {
        let none = HeaderMap::new();
        let nobody = Principal { subject: "".into(), ..principal(json!({"team": null})) };
        for by in [LimitKey::Subject, LimitKey::Issuer, LimitKey::Client, LimitKey::Claim(ClaimPath::Name("a".into()))]
        {
            assert_eq!(of(&by, None, &none), QuotaKey::shared(), "{by:?}");
        }
        let team = LimitKey::Claim(ClaimPath::Name("team".into()));
        for by in [LimitKey::Subject, LimitKey::Client, team] {
            assert_eq!(of(&by, Some(&nobody), &none), QuotaKey::shared(), "{by:?}");
        }
    }

    #[test]
    fn a_header_counts_only_when_there_is_exactly_one() {
        let name = HeaderName::from_static("x-api-key");
        let by = LimitKey::Header(name.clone());
        let mut headers = HeaderMap::new();
        assert_eq!(of(&by, None, &headers), QuotaKey::shared());
        headers.append(&name, HeaderValue::from_static("one"));
        assert_ne!(of(&by, None, &headers), QuotaKey::shared());
        headers.append(&name, HeaderValue::from_static("two"));
        assert_eq!(of(&by, None, &headers), QuotaKey::shared());
    }

    #[test]
    fn a_claim_counts_by_issuer_place_and_type() {
        let none = HeaderMap::new();
        let by = LimitKey::Claim(ClaimPath::Pointer("/org/team".into()));
        let one = of(&by, Some(&principal(json!({"org": {"team": "1"}}))), &none);
        let number = of(&by, Some(&principal(json!({"org": {"team": 1}}))), &none);
        let other = Principal { issuer: "other".into(), ..principal(json!({"org": {"team": "1"}})) };
        assert_ne!(one, number);
        assert_ne!(one, of(&by, Some(&other), &none));
        assert_eq!(one, of(&by, Some(&principal(json!({"x": 0, "org": {"team": "1"}}))), &none));
    }
}
