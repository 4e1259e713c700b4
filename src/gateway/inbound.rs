//! Step 1: from the head on the wire to one that can be judged. Checks framing and routing fields, finds out who the
//! client is, and takes away every field that the client has no business to send.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version, header,
    request::Parts,
    uri::{Authority, Uri},
};

use super::{
    Refusal,
    forwarded::Origin,
    hygiene::{self, Te},
    ids::new_traceparent,
    key_fields,
    method_override::{self, OverrideHeader},
};
use crate::{body::ConnectionInfo, config::Server, identity::ApiKeyField, identity::Field, policy::Reason};

/// A request head that can be judged. Its header fields are those that will be forwarded.
#[derive(Debug)]
pub struct Inbound {
    /// The method of the request line.
    pub method: Method,
    /// The protocol that the client speaks.
    pub version: Version,
    /// `https` or `http`.
    pub scheme: &'static str,
    /// `Host` or `:authority` as the client sent it, port included; empty for an HTTP/1.0 client that sent none.
    pub authority: Arc<str>,
    /// The host for routing: lower case, without port and final dot.
    pub host: String,
    /// The request target.
    pub uri: Uri,
    /// The fields that are left.
    pub headers: HeaderMap,
    /// The method overrides that were there.
    pub overrides: Vec<OverrideHeader>,
    /// The one `Authorization` field.
    pub authorization: SoleField,
    /// What stood in fields of API keys.
    pub keys: Vec<ApiKeyField>,
    /// The one `DPoP` field, the proof beside a token (RFC 9449 §4.1).
    pub proof: SoleField,
    /// Where the request came from.
    pub origin: Origin,
    /// Whether the client takes trailers.
    pub te: Te,
    /// The identifier of the request, ours or a trusted proxy's.
    pub request_id: Arc<str>,
    /// The trace that it belongs to (W3C Trace Context), a valid one of the client's or a new one.
    pub traceparent: HeaderValue,
}

/// The proof beside a token (RFC 9449 §4.1).
pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// A nonce for proofs to come (RFC 9449 §8.1).
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// A field of which a request must have no more than one: `Authorization`, `DPoP`.
#[derive(Debug, Clone)]
pub enum SoleField {
    /// None.
    Absent,
    /// One.
    One(HeaderValue),
    /// Several, or one in a form that could be read in two ways.
    Several,
}

impl SoleField {
    /// As the room that looks into it has it.
    pub(super) fn field(&self) -> Field<'_> {
        match self {
            Self::Absent => Field::Absent,
            Self::One(value) => Field::One(value.as_bytes()),
            Self::Several => Field::Several,
        }
    }
}

impl Inbound {
    /// The query without `?`, byte for byte.
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// Reads a request head; `uri` is its target.
    pub fn parse(
        parts: Parts,
        uri: &Uri,
        info: &ConnectionInfo,
        server: &Server,
        fresh_id: Arc<str>,
    ) -> Result<Self, Refusal> {
        let Parts { method, version, mut headers, .. } = parts;
        check_limits(uri, &headers, server)?;
        let (authority, host) = routing_host(uri, &mut headers, version)?;
        let origin = Origin::read(info.peer.ip(), &headers, &server.client_ip_header, &server.trusted_proxies);
        let request_id = trusted_request_id(&headers, &origin).unwrap_or(fresh_id);
        let traceparent = traceparent(&mut headers, &request_id);
        let overrides = method_override::take_headers(&mut headers);
        // Before anything is dropped, by `Connection` too: a credential that is there is never overlooked.
        let mut uri = uri.clone();
        let keys = key_fields::take(&mut headers, &mut uri, server)?;
        let authorization = take_one(&mut headers, &header::AUTHORIZATION);
        let proof = take_one(&mut headers, &DPOP);
        let te = hygiene::drop_hop_by_hop(&mut headers);
        hygiene::drop_spoofable(&mut headers, &server.drop_headers);
        headers.remove(header::EXPECT);
        if version == Version::HTTP_2 {
            join_cookies(&mut headers);
        }
        let scheme = if info.tls.is_some() { "https" } else { "http" };
        Ok(Self {
            method,
            version,
            scheme,
            authority,
            host,
            uri,
            headers,
            overrides,
            authorization,
            keys,
            proof,
            origin,
            te,
            request_id,
            traceparent,
        })
    }
}

fn check_limits(uri: &Uri, headers: &HeaderMap, server: &Server) -> Result<(), Refusal> {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > server.limits.uri_bytes {
        return Err(Refusal::of(Reason::UriTooLong));
    }
    if headers.len() > server.limits.headers {
        return Err(Refusal::of(Reason::HeadersTooLarge));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes + target > server.limits.header_bytes {
        return Err(Refusal::of(Reason::HeadersTooLarge));
    }
    // RFC 9112 §6.1: both framings at once is how requests are smuggled.
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Refusal::of(Reason::MalformedRequest).closing());
    }
    Ok(())
}

/// Exactly one host: `Host`, or the authority of the target, and never two that differ (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn routing_host(uri: &Uri, headers: &mut HeaderMap, version: Version) -> Result<(Arc<str>, String), Refusal> {
    let invalid = || Refusal::of(Reason::InvalidHost);
    let mut fields = headers.get_all(header::HOST).iter();
    let (field, more) = (fields.next(), fields.next());
    if more.is_some() {
        return Err(invalid());
    }
    let field = field.map(|value| value.to_str().map(str::to_owned).map_err(|_| invalid())).transpose()?;
    // An absolute target names the scheme by which we were asked (RFC 9112 §3.2.2); we gate no other.
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(invalid());
    }
    let authority = match (uri.authority().map(Authority::as_str), field.as_deref()) {
        (Some(target), Some(field)) if !target.eq_ignore_ascii_case(field) => return Err(invalid()),
        (Some(target), _) => target,
        (None, Some(field)) => field,
        (None, None) if version == Version::HTTP_10 => return Ok((Arc::from(""), String::new())),
        (None, None) => return Err(invalid()),
    };
    let host = host_name(authority).ok_or_else(invalid)?;
    let authority: Arc<str> = authority.into();
    headers.remove(header::HOST);
    Ok((authority, host))
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

/// Takes a credential out of the head: it is for us, and for whoever we say.
fn take_one(headers: &mut HeaderMap, name: &HeaderName) -> SoleField {
    let mut fields = headers.get_all(name).iter();
    let found = match (fields.next(), fields.next()) {
        (None, _) => SoleField::Absent,
        (Some(value), None) => SoleField::One(value.clone()),
        (Some(_), Some(_)) => SoleField::Several,
    };
    headers.remove(name);
    found
}

/// HTTP/2 may split `Cookie`; HTTP/1.1 may not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = cookies.join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// A trusted proxy's `X-Request-Id`, if it is a name that a log can hold.
fn trusted_request_id(headers: &HeaderMap, origin: &Origin) -> Option<Arc<str>> {
    let mut fields = headers.get_all("x-request-id").iter();
    let id = fields.next().filter(|_| origin.peer_trusted)?.to_str().ok()?;
    let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    (fields.next().is_none() && !id.is_empty() && id.len() <= 128 && id.bytes().all(clean)).then(|| id.into())
}

/// The client's `traceparent` if it is valid (W3C Trace Context §3.2.2), else a new trace named after the request.
fn traceparent(headers: &mut HeaderMap, request_id: &str) -> HeaderValue {
    let mut fields = headers.get_all("traceparent").iter();
    let valid = match (fields.next(), fields.next()) {
        (Some(value), None) if is_traceparent(value.as_bytes()) => Some(value.clone()),
        _ => None,
    };
    valid.unwrap_or_else(|| {
        headers.remove("traceparent");
        headers.remove("tracestate");
        new_traceparent(request_id)
    })
}

fn is_traceparent(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b'-');
    let lengths = [2usize, 32, 16, 2];
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut all = lengths.iter().map(|length| parts.next().filter(|part| part.len() == *length && hex(part)));
    let (version, trace, span, flags) = (all.next(), all.next(), all.next(), all.next());
    let some = |part: Option<Option<&[u8]>>, bad: &[u8]| part.flatten().is_some_and(|part| part != bad);
    some(version, b"ff")
        && some(trace, &[b'0'; 32])
        && some(span, &[b'0'; 16])
        && some(flags, b"")
        // Version 00 has exactly these four; a later one may append fields.
        && (value.starts_with(b"00-") && value.len() == 55 || !value.starts_with(b"00-"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

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
    fn a_trace_is_continued_only_if_it_is_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, valid) in [
            (good, true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", true),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false),
            ("", false),
        ] {
            assert_eq!(is_traceparent(value.as_bytes()), valid, "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("tracestate", "a=b".parse().unwrap());
        let id = "0123456789abcdef0123456789abcdef";
        let made = traceparent(&mut headers, id);
        assert!(is_traceparent(made.as_bytes()) && made.to_str().unwrap().contains(id));
        assert!(headers.is_empty());
    }
}
