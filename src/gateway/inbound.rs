//! Step 1: from the head on the wire to one that can be judged. Checks framing and routing fields, finds out who the
//! client is, and takes away every field that the client has no business to send.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts, uri::Uri};

use super::{
    Refusal,
    census::{Census, Kind},
    forwarded::Origin,
    hygiene::{self, Te},
    ids::{RequestId, TRACEPARENT, Trace, X_REQUEST_ID},
    key_fields,
    method_override::{self, OverrideHeader},
    site::{Site, scheme},
    upgrade::Wish,
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
    /// The site that is asked for.
    pub site: Rc<Site>,
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
    /// The second factors that came with it; `None`: none did.
    pub shown: Option<Box<Shown>>,
    /// Where the request came from.
    pub origin: Origin,
    /// What it asks to be switched to.
    pub upgrade: Option<Box<Wish>>,
    /// Whether the client takes trailers.
    pub te: Te,
    /// The identifier of the request, ours or a trusted proxy's.
    pub request_id: RequestId,
    /// The trace that it belongs to (W3C Trace Context), a valid one of the client's or a new one.
    pub trace: Trace,
}

/// Second factors that came with a request: taken out of every request, looked at where assurance is all that is missing.
#[derive(Debug, Clone)]
pub struct Shown {
    /// `Stepgate-OTP`: a code.
    pub code: SoleField,
    /// `Stepgate-Grant`.
    pub grant: SoleField,
}

/// A code that a second factor made, for the request that it comes with.
const STEPGATE_OTP: HeaderName = HeaderName::from_static("stepgate-otp");
/// A grant of the authority.
const STEPGATE_GRANT: HeaderName = HeaderName::from_static("stepgate-grant");
/// The proof beside a token (RFC 9449 §4.1).
pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// A nonce for proofs to come (RFC 9449 §8.1).
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// A field of which a request must have no more than one: `Authorization`, `DPoP`, `Stepgate-OTP`.
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

    /// Reads a request head, and takes what it reads out of `parts`.
    pub fn parse(
        parts: &mut Parts,
        info: &ConnectionInfo,
        server: &Server,
        fresh_id: RequestId,
    ) -> Result<Self, Refusal> {
        let (version, mut uri) = (parts.version, std::mem::take(&mut parts.uri));
        let mut headers = std::mem::take(&mut parts.headers);
        let census = Census::of(&headers, &server.drop_headers);
        check_limits(&uri, &headers, &census, server)?;
        let site = routing_site(&uri, &mut headers, version, info)?;
        let origin =
            Origin::read(info.peer.ip(), info.arrival, &headers, &server.client_ip_header, &server.trusted_proxies);
        let request_id = match census.has(Kind::RequestId) {
            true => take_request_id(&mut headers, &origin).unwrap_or(fresh_id),
            false => fresh_id,
        };
        let trace = match census.has(Kind::Trace) {
            true => take_trace(&mut headers, &request_id),
            false => Trace::new(&request_id),
        };
        let overrides =
            if census.has(Kind::Override) { method_override::take_headers(&mut headers) } else { Vec::new() };
        // Before anything is dropped, by `Connection` too: a credential that is there is never overlooked.
        let keys = key_fields::take(&mut headers, &mut uri, server)?;
        let authorization = match census.has(Kind::Authorization) {
            true => take_one(&mut headers, &header::AUTHORIZATION),
            false => SoleField::Absent,
        };
        let proof = if census.has(Kind::Proof) { take_one(&mut headers, &DPOP) } else { SoleField::Absent };
        let shown = census.has(Kind::StepUp).then(|| {
            let (code, grant) = (take_one(&mut headers, &STEPGATE_OTP), take_one(&mut headers, &STEPGATE_GRANT));
            Box::new(Shown { code, grant })
        });
        // An extended CONNECT has its protocol beside the head (RFC 8441 §4), HTTP/1.1 among the fields that are dropped next.
        let upgrade = match parts.method == Method::CONNECT {
            true => Wish::take(parts),
            false if census.has(Kind::HopByHop) => Wish::of(version, &headers),
            false => None,
        };
        let te = if census.has(Kind::HopByHop) { hygiene::drop_hop_by_hop(&mut headers) } else { Te::None };
        if census.has(Kind::Spoofable) {
            hygiene::drop_spoofable(&mut headers, &server.drop_headers);
        }
        if census.has(Kind::Expect) {
            headers.remove(header::EXPECT);
        }
        if matches!(version, Version::HTTP_2 | Version::HTTP_3) {
            join_cookies(&mut headers);
        }
        Ok(Self {
            method: parts.method.clone(),
            version,
            scheme: scheme(info),
            site,
            uri,
            headers,
            overrides,
            authorization,
            keys,
            proof,
            shown,
            origin,
            upgrade,
            te,
            request_id,
            trace,
        })
    }
}

fn check_limits(uri: &Uri, headers: &HeaderMap, census: &Census, server: &Server) -> Result<(), Refusal> {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > server.limits.uri_bytes {
        return Err(Refusal::of(Reason::UriTooLong));
    }
    if headers.len() > server.limits.headers || census.bytes + target > server.limits.header_bytes {
        return Err(Refusal::of(Reason::HeadersTooLarge));
    }
    // RFC 9113 §8.2.1, RFC 9114 §4.2: malformed; in HTTP/1.1 it is no part of the value, and gone.
    if census.has_padding {
        return Err(Refusal::of(Reason::MalformedRequest));
    }
    // RFC 9112 §6.1: both framings at once is how requests are smuggled.
    if census.has(Kind::HopByHop)
        && headers.contains_key(header::TRANSFER_ENCODING)
        && headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err(Refusal::of(Reason::MalformedRequest).closing());
    }
    Ok(())
}

/// Exactly one host: `Host`, or the authority of the target, and never two that differ (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn routing_site(
    uri: &Uri,
    headers: &mut HeaderMap,
    version: Version,
    info: &ConnectionInfo,
) -> Result<Rc<Site>, Refusal> {
    let invalid = || Refusal::of(Reason::InvalidHost);
    let mut fields = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let (field, more) = (fields.next(), fields.next());
    if more.is_some() {
        return Err(invalid());
    }
    // An absolute target names the scheme by which we were asked (RFC 9112 §3.2.2); we gate no other.
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(invalid());
    }
    let authority = match (uri.authority().map(|authority| authority.as_str().as_bytes()), field) {
        (Some(target), Some(field)) if !target.eq_ignore_ascii_case(field) => return Err(invalid()),
        (Some(target), _) => target,
        (None, Some(field)) => field,
        (None, None) if version == Version::HTTP_10 => return Ok(Site::unnamed(info)),
        (None, None) => return Err(invalid()),
    };
    let site = Site::find(info, authority).ok_or_else(invalid)?;
    if field.is_some() {
        headers.remove(header::HOST);
    }
    Ok(site)
}

/// Takes a credential out of the head: it is for us, and for whoever we say.
fn take_one(headers: &mut HeaderMap, name: &HeaderName) -> SoleField {
    let mut fields = headers.get_all(name).iter();
    let found = match (fields.next(), fields.next()) {
        (None, _) => SoleField::Absent,
        (Some(value), None) => {
            let mut value = value.clone();
            value.set_sensitive(true);
            SoleField::One(value)
        }
        (Some(_), Some(_)) => SoleField::Several,
    };
    headers.remove(name);
    found
}

/// HTTP/2 and HTTP/3 may split `Cookie`; HTTP/1.1 may not (RFC 9113 §8.2.3, RFC 9114 §4.2.1).
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

/// Takes `X-Request-Id` out: a trusted proxy's is the request's, if it is a name that a log can hold.
fn take_request_id(headers: &mut HeaderMap, origin: &Origin) -> Option<RequestId> {
    let alone = headers.get_all(X_REQUEST_ID).iter().nth(1).is_none();
    let value = headers.remove(X_REQUEST_ID).filter(|_| alone && origin.peer_trusted)?;
    let id = value.to_str().ok()?;
    let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    (!id.is_empty() && id.len() <= 128 && id.bytes().all(clean)).then(|| RequestId::Given(id.into()))
}

/// Takes `traceparent` out: the request's trace if it is valid (W3C Trace Context §3.2.2), else that is a new one named
/// after the request.
fn take_trace(headers: &mut HeaderMap, request_id: &RequestId) -> Trace {
    let alone = headers.get_all(TRACEPARENT).iter().nth(1).is_none();
    let value = headers.remove(TRACEPARENT).filter(|value| alone && is_traceparent(value.as_bytes()));
    value.map(Trace::Continued).unwrap_or_else(|| {
        headers.remove("tracestate");
        Trace::new(request_id)
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
        let made = take_trace(&mut headers, &RequestId::Given(id.into()));
        assert!(is_traceparent(made.as_bytes()));
        assert_eq!(made.trace_id(), Some(id));
        assert!(headers.is_empty());
    }
}
