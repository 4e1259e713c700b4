//! What keeps a request together with others at the same target of a service, where the service wants that.

use std::net::IpAddr;

use http::{HeaderMap, header};

use crate::{
    config::{Balance, HashKey},
    policy::Principal,
    spread::Spread,
    subscriber::Subscriber,
};

/// Hashes what keeps a request together with others; `None` where nothing does, or the request has none of it.
pub(super) fn of(balance: &Balance, headers: &HeaderMap, principal: Option<&Principal>, client: IpAddr) -> Option<u64> {
    let Balance::Hash(key) = balance else { return None };
    let hash = Spread::new();
    match key {
        HashKey::Header(name) => {
            let mut values = headers.get_all(name).iter().map(|value| value.as_bytes()).peekable();
            values.peek()?;
            Some(values.fold(hash, Spread::with))
        }
        HashKey::Cookie(name) => cookie(headers, name).map(|value| hash.with(value)),
        HashKey::Subject => {
            principal.map(|principal| hash.with(principal.issuer_url.as_bytes()).with(principal.subject.as_bytes()))
        }
        HashKey::Ip => Some(hash.with(&Subscriber::of(client).bytes())),
    }
    .map(Spread::finish)
}

/// The first cookie of this name, as servers take it (RFC 6265 §5.4 has the most specific one first).
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    }

    fn by_cookie(field: &str) -> Option<u64> {
        let balance = Balance::Hash(HashKey::Cookie("sid".into()));
        of(&balance, &headers(&[("cookie", field)]), None, CLIENT)
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_only_its_value_counts() {
        assert!(by_cookie("sid=1").is_some());
        assert_eq!(by_cookie("sid=1"), by_cookie("a=b; sid=1;c=d"));
        assert_eq!(by_cookie("sid=1"), by_cookie("sid=1; sid=2"));
        assert_ne!(by_cookie("sid=1"), by_cookie("sid=2"));
        for without in ["xsid=1", "sid", "sidx=1", "a=sid=1", ""] {
            assert_eq!(by_cookie(without), None, "{without}");
        }
    }

    #[test]
    fn a_header_counts_with_all_of_its_values() {
        let of = |fields: &[(&'static str, &str)]| {
            of(&Balance::Hash(HashKey::Header("x-tenant".parse().unwrap())), &headers(fields), None, CLIENT)
        };
        assert_eq!(of(&[("x-other", "a")]), None);
        assert_eq!(of(&[("x-tenant", "a"), ("x-other", "b")]), of(&[("x-tenant", "a")]));
        assert_ne!(of(&[("x-tenant", "a")]), of(&[("x-tenant", "b")]));
    }

    #[test]
    fn nobody_in_particular_has_no_key() {
        assert_eq!(of(&Balance::Hash(HashKey::Subject), &headers(&[]), None, CLIENT), None);
        assert_eq!(of(&Balance::RoundRobin, &headers(&[]), None, CLIENT), None);
        assert!(of(&Balance::Hash(HashKey::Ip), &headers(&[]), None, CLIENT).is_some());
    }
}
