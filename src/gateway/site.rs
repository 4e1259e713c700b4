//! The site that a client asks for, and what a service is told of who asks for it there. A connection asks for the same
//! site again and again, so it is worked out once and remembered with the connection.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

use super::forwarded::Origin;
use crate::body::ConnectionInfo;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A site, as one connection's client asks for it.
#[derive(Debug)]
pub struct Site {
    /// `Host` or `:authority` as the client sent it, port included; empty for an HTTP/1.0 client that sent none.
    pub authority: Arc<str>,
    /// The host for routing: lower case, without port and final dot.
    pub host: Box<str>,
    /// The authority as a field's value; `None` where it is empty.
    pub(super) value: Option<HeaderValue>,
    /// What the upstream is told when the peer is the client.
    direct: Told,
    peer: IpAddr,
    scheme: &'static str,
}

/// What depends on where a request came from.
#[derive(Debug)]
struct Told {
    x_forwarded_for: Option<HeaderValue>,
    forwarded: Option<HeaderValue>,
}

impl Site {
    /// The site of an authority. `None`: not a host with or without a port.
    pub(super) fn find(info: &ConnectionInfo, authority: &[u8]) -> Option<Rc<Self>> {
        // The rest of it depends on nothing but the connection.
        if let Some(known) = info.memory.recall::<Self>().filter(|known| known.authority.as_bytes() == authority) {
            return Some(known);
        }
        let authority = std::str::from_utf8(authority).ok()?;
        let site = Rc::new(Self::new(info, authority, host_name(authority)?.into()));
        info.memory.keep(Rc::clone(&site));
        Some(site)
    }

    /// The site of an HTTP/1.0 client that names none.
    pub(super) fn unnamed(info: &ConnectionInfo) -> Rc<Self> {
        Rc::new(Self::new(info, "", "".into()))
    }

    fn new(info: &ConnectionInfo, authority: &str, host: Box<str>) -> Self {
        let (origin, scheme) = (Origin::direct(info.peer.ip()), scheme(info));
        Self {
            authority: authority.into(),
            host,
            value: HeaderValue::from_str(authority).ok().filter(|value| !value.is_empty()),
            direct: Told::of(&origin, scheme, authority),
            peer: origin.client,
            scheme,
        }
    }

    /// Tells the upstream where a request came from.
    pub(super) fn tell(&self, origin: &Origin, headers: &mut HeaderMap) {
        if origin.client == self.peer && origin.hops.is_empty() {
            self.put(self.direct.x_forwarded_for.clone(), self.direct.forwarded.clone(), headers);
        } else {
            let told = Told::of(origin, self.scheme, &self.authority);
            self.put(told.x_forwarded_for, told.forwarded, headers);
        }
    }

    fn put(&self, x_forwarded_for: Option<HeaderValue>, forwarded: Option<HeaderValue>, headers: &mut HeaderMap) {
        if let Some(value) = x_forwarded_for {
            headers.insert(X_FORWARDED_FOR, value);
        }
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme));
        if let Some(value) = &self.value {
            headers.insert(X_FORWARDED_HOST, value.clone());
        }
        if let Some(value) = forwarded {
            headers.insert(FORWARDED, value);
        }
    }
}

impl Told {
    fn of(origin: &Origin, scheme: &str, authority: &str) -> Self {
        Self {
            x_forwarded_for: HeaderValue::try_from(origin.x_forwarded_for()).ok().filter(|value| !value.is_empty()),
            forwarded: HeaderValue::try_from(origin.forwarded(scheme, authority)).ok(),
        }
    }
}

/// `https` or `http`.
pub(super) fn scheme(info: &ConnectionInfo) -> &'static str {
    if info.tls.is_some() { "https" } else { "http" }
}

/// The host of an authority, for comparing. `None`: not a host with or without a port.
fn host_name(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            (authority.get(..inner.len() + 2)?, after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    if !port.is_empty() && (!port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()) {
        return None;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !host.starts_with('[') && (name.is_empty() || !name.bytes().all(clean)) {
        return None;
    }
    Some(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;
    use crate::gateway::tests::connection;

    #[test]
    fn hosts_are_compared_without_port_case_and_final_dot() {
        for (authority, host) in [
            ("API.Example", Some("api.example")),
            ("api.example.:8443", Some("api.example")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("127.0.0.1:9", Some("127.0.0.1")),
            ("", None),
            ("a b", None),
            ("a@b", None),
            ("a:b", None),
            ("a:99999", None),
            ("[::1", None),
            ("[::1]x", None),
            ("a/b", None),
        ] {
            assert_eq!(host_name(authority).as_deref(), host, "{authority}");
        }
    }

    #[test]
    fn a_site_is_remembered_by_every_byte_of_its_authority() {
        let info = connection();
        let first = Site::find(&info, b"A.example:80").unwrap();
        assert!(Rc::ptr_eq(&first, &Site::find(&info, b"A.example:80").unwrap()));
        for (other, host) in
            [("a.example:80", "a.example"), ("b.example:80", "b.example"), ("A.example:81", "a.example")]
        {
            let site = Site::find(&info, other.as_bytes()).unwrap();
            assert_eq!((&*site.authority, &*site.host), (other, host));
        }
        assert!(Site::find(&info, b"a/b").is_none() && Site::find(&info, b"a\xff").is_none());
    }

    #[test]
    fn what_was_remembered_is_told_only_of_the_peer_itself() {
        let info = connection();
        let site = Site::find(&info, b"a.example").unwrap();
        let told = |origin: &Origin| {
            let mut headers = HeaderMap::new();
            site.tell(origin, &mut headers);
            headers
        };
        let fresh = |origin: &Origin| {
            let mut headers = HeaderMap::new();
            let told = Told::of(origin, site.scheme, &site.authority);
            site.put(told.x_forwarded_for, told.forwarded, &mut headers);
            headers
        };
        let direct = Origin::direct(info.peer.ip());
        let behind =
            Origin { hops: vec!["127.0.0.1".parse().unwrap()], ..Origin::direct("192.0.2.1".parse().unwrap()) };
        let named_by_itself = Origin { hops: behind.hops.clone(), ..direct.clone() };
        let all = [direct, behind, named_by_itself].map(|origin| {
            assert_eq!(told(&origin), fresh(&origin));
            told(&origin)
        });
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    }
}
