//! Which header fields never cross the gateway: hop-by-hop fields, and whatever an upstream might take for the gateway's
//! own word on who is calling, what method is meant, or where the request came from.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

/// Whether a field is hop-by-hop (RFC 9110 §7.6.1): dropped whether `Connection` lists it or not. So is a service's
/// `Alt-Svc`: the port that it names is not one of ours (RFC 7838 §3).
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "alt-svc"
            | "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Requests fields that are the gateway's to say, folded: lower case, `-` for anything but letters and digits.
/// Sorted, for binary search.
const SPOOFABLE: [&str; 39] = [
    "cf-connecting-ip",
    // RFC 9440 §4: what a proxy in front of the service would say of a client certificate.
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "proxy",
    "proxy-client-ip",
    "remote-user",
    "stepgate-grant",
    "stepgate-otp",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-authenticated-user",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-cert",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-forwarded",
    "x-forwarded-user",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-url",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    "x-rewrite-url",
    // ASP.NET reads what is sent by the character set that it names.
    "x-up-devcap-post-charset",
];

/// Fields that frame a message or say what it is. Another spelling of one (`Content_Length`) is nothing to us and may be
/// the thing itself to a service that folds names.
const FRAMING: [&str; 4] = ["content-length", "content-type", "transfer-encoding", "x-request-id"];

/// Prefixes of the same.
const SPOOFABLE_PREFIXES: [&str; 6] =
    ["ssl-client-", "x-auth-", "x-forwarded-", "x-ssl-client-", "x-stepgate-", "x-webauth-"];

/// What framing and routing stand on: `Connection` cannot take them away.
const PROTECTED: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE];

/// A header name as lax servers compare it (CGI and its heirs know one separator).
pub(super) fn fold(name: &str) -> SmallVec<[u8; 48]> {
    name.bytes().map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' }).collect()
}

/// Whether a request field is the gateway's to say. `extra` is `server.drop_headers`, folded.
pub fn is_spoofable(name: &str, extra: &[std::sync::Arc<str>]) -> bool {
    // Most fields of most requests are told apart by their first letter.
    let first = name.as_bytes().first().copied().unwrap_or_default();
    if extra.is_empty() && !matches!(first, b'c' | b'f' | b'p' | b'r' | b's' | b't' | b'w' | b'x') {
        return false;
    }
    // Most of the rest are folded as they are.
    if name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return is_ours(name, extra);
    }
    let folded = fold(name);
    let Ok(folded) = std::str::from_utf8(&folded) else { return true };
    is_ours(folded, extra) || (FRAMING.contains(&folded) && !name.eq_ignore_ascii_case(folded))
}

fn is_ours(folded: &str, extra: &[std::sync::Arc<str>]) -> bool {
    SPOOFABLE.binary_search(&folded).is_ok()
        || SPOOFABLE_PREFIXES.iter().any(|prefix| folded.starts_with(prefix))
        || extra.iter().any(|dropped| **dropped == *folded)
}

/// Drops hop-by-hop fields of a message: what `Connection` lists in every occurrence, then the known ones. `te` says
/// whether the peer takes trailers, which is all of `TE` that is understood.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) -> Te {
    let (mut te, mut lists_others) = (Te::None, false);
    let mut found: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_hop_by_hop(name)) {
        if *name == header::TE && lists_trailers(value) {
            te = Te::Trailers;
        }
        // What nearly every answer says lists nothing but what goes anyway.
        lists_others |= *name == header::CONNECTION && !value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
        found.push(name.clone());
    }
    if lists_others {
        let lines = headers.get_all(header::CONNECTION).iter();
        let listed = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
        let names = listed.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        found.extend(names.filter(|name| !PROTECTED.contains(name)));
    }
    for name in found {
        headers.remove(name);
    }
    te
}

/// Whether a peer takes trailers (RFC 9110 §10.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Te {
    /// It said so.
    Trailers,
    /// It did not.
    None,
}

fn lists_trailers(line: &HeaderValue) -> bool {
    line.as_bytes().split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Drops request fields that are the gateway's to say.
pub(super) fn drop_spoofable(headers: &mut HeaderMap, extra: &[std::sync::Arc<str>]) {
    let found: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| is_spoofable(name.as_str(), extra)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Drops every spelling of a field that the gateway is about to set: the service may fold names and read another's.
pub(super) fn drop_aliases(headers: &mut HeaderMap, name: &HeaderName) {
    let ours = fold(name.as_str());
    let found: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|other| fold(other.as_str()) == ours).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Drops from a trailer section what would have meant something as a header: framing, routing, credentials and the
/// gateway's own fields (RFC 9110 §6.5.1). `withheld` are names that a configuration adds to these, folded.
pub(super) fn clean_trailers(trailers: &mut HeaderMap, withheld: &[std::sync::Arc<str>]) {
    let doubtful: SmallVec<[HeaderName; 4]> =
        trailers.keys().filter(|name| is_unfit_for_trailers(name, withheld)).cloned().collect();
    for name in doubtful {
        trailers.remove(name);
    }
}

/// Whether a field may not stand in a trailer section.
fn is_unfit_for_trailers(name: &HeaderName, withheld: &[std::sync::Arc<str>]) -> bool {
    const UNFIT: [HeaderName; 25] = [
        header::AUTHORIZATION,
        HeaderName::from_static("dpop"),
        HeaderName::from_static("dpop-nonce"),
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::DATE,
        header::EXPECT,
        header::EXPIRES,
        header::HOST,
        header::LOCATION,
        header::MAX_FORWARDS,
        header::PRAGMA,
        header::PROXY_AUTHENTICATE,
        header::RANGE,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::TRAILER,
        header::VARY,
        header::WWW_AUTHENTICATE,
        header::VIA,
        HeaderName::from_static("x-api-key"),
    ];
    let folded = fold(name.as_str());
    UNFIT.iter().any(|unfit| *folded == *unfit.as_str().as_bytes())
        || is_hop_by_hop(name)
        || is_spoofable(name.as_str(), withheld)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may")]

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        map
    }

    #[test]
    fn the_list_is_sorted_for_the_search() {
        assert!(SPOOFABLE.is_sorted());
        assert!(SPOOFABLE.iter().all(|name| b"cfprstwx".contains(&name.as_bytes()[0])));
    }

    #[test]
    fn spoofable_names_are_known_in_every_spelling() {
        for name in [
            "X-Auth-Subject",
            "x_auth_subject",
            "x.auth.subject",
            "X-AUTH_scopes",
            "remote_user",
            "Remote-User",
            "X-Forwarded-For",
            "x_forwarded_proto",
            "Forwarded",
            "X-HTTP-Method-Override",
            "x_http_method",
            "X-Original-URL",
            "x-rewrite_url",
            "X-Envoy-Original-Path",
            "X-Real-IP",
            "Proxy",
            "x~auth~subject",
            "Stepgate-OTP",
            "stepgate_otp",
            "Stepgate-Grant",
            "stepgate.grant",
            "Client-IP",
            "client_ip",
            "WL-Proxy-Client-IP",
            "Client-Cert",
            "SSL-Client-Verify",
            "X-SSL-Client-S-DN",
            "X-WebAuth-User",
            "content_length",
            "transfer.encoding",
            "x_request_id",
        ] {
            assert!(is_spoofable(&name.to_ascii_lowercase(), &[]), "{name}");
        }
        for name in [
            "x-request-id",
            "content-length",
            "content-type",
            "accept",
            "x-author",
            "referer",
            "x-api-key",
            "cookie",
            "te",
        ] {
            assert!(!is_spoofable(name, &[]), "{name}");
        }
        assert!(is_spoofable("a_tenant", &["a-tenant".into()]));
    }

    #[test]
    fn connection_takes_what_it_lists_but_not_what_framing_stands_on() {
        let mut map = headers(&[
            ("connection", "close, X-One"),
            ("connection", "x-two, host, content-length"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("host", "a"),
            ("content-length", "3"),
            ("te", "gzip, Trailers"),
            ("keep-alive", "5"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "x"),
            ("kept", "yes"),
        ]);
        assert_eq!(drop_hop_by_hop(&mut map), Te::Trailers);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "kept"]);
    }

    #[test]
    fn no_spelling_of_what_the_gateway_says_itself_is_left() {
        let mut map =
            headers(&[("x_legacy_key", "1"), ("x-legacy-key", "2"), ("x.legacy.key", "3"), ("x-legacy", "4")]);
        drop_aliases(&mut map, &HeaderName::from_static("x-legacy-key"));
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-legacy"]);
    }

    #[test]
    fn trailers_lose_what_would_have_meant_something_as_a_header() {
        let mut map = headers(&[
            ("x-checksum", "1"),
            ("authorization", "x"),
            ("x-api-key", "x"),
            ("x_api_key", "x"),
            ("x_auth_subject", "root"),
            ("stepgate-otp", "1"),
            ("stepgate_grant", "1"),
            ("host", "b"),
            ("x_tenant", "other"),
        ]);
        clean_trailers(&mut map, &["x-tenant".into()]);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-checksum"]);
    }
}
