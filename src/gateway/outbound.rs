//! Step 7: the request that the upstream gets. Everything that names the caller is put in here, last, after every field
//! of the client's that could have been taken for it is gone.

use std::fmt::Write;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{self, VIA},
    uri::PathAndQuery,
};

use super::{
    Refusal,
    hygiene::{self, Te},
    ids::{RequestId, TRACEPARENT, X_REQUEST_ID},
    inbound::{DPOP, Inbound, SoleField},
    page_cookie, shaping,
};
use crate::{
    config::{Assertion, MethodOverride, Rewrite, Upstream, UpstreamHost},
    policy::{Principal, Reason},
    route::{NormalPath, PathPattern},
};

/// The path that the upstream gets after a declared rewrite; `None` where it stays what it is.
pub(super) fn rewritten(
    path: &NormalPath<'_>,
    pattern: &PathPattern,
    rewrite: Option<&Rewrite>,
) -> Result<Option<String>, Refusal> {
    let (prefix, with) = match rewrite {
        None => return Ok(None),
        Some(Rewrite::Path(text)) => return judged_again(path, shaping::path(text, pattern, path)),
        Some(Rewrite::StripPrefix(prefix)) => (prefix, ""),
        Some(Rewrite::ReplacePrefix(prefix, with)) => (prefix, with.trim_end_matches('/')),
    };
    let whole = path;
    let path = path.as_str();
    let prefix = prefix.trim_end_matches('/');
    // Routes compare decoded segments, so the prefix may be spelt otherwise here: take away as many segments.
    let count = prefix.bytes().filter(|b| *b == b'/').count();
    let rest = path.match_indices('/').nth(count).map(|(at, _)| path.get(at..).unwrap_or("/"));
    let result = match rest {
        Some(rest) => format!("{with}{rest}"),
        None if with.is_empty() => "/".to_owned(),
        None => with.to_owned(),
    };
    judged_again(whole, result)
}

/// The result of a rewrite is judged as strictly as what came in.
fn judged_again(path: &NormalPath<'_>, result: String) -> Result<Option<String>, Refusal> {
    match NormalPath::parse(&result) {
        Ok(normal) if normal.as_str() == result => Ok((result != path.as_str()).then_some(result)),
        Ok(_) | Err(_) => Err(Refusal::of(Reason::AmbiguousPath)),
    }
}

/// A request head for the upstream.
#[derive(Debug)]
pub struct Outbound {
    /// The method of the client's request line; an override that the service honours travels as it came.
    pub method: Method,
    /// The target in origin form.
    pub uri: Uri,
    /// The fields.
    pub headers: HeaderMap,
}

/// Room for the fields that the gateway usually adds.
const OWN_FIELDS: usize = 16;

/// The upstream's own credential, ready to be sent.
pub(super) type Credential = (HeaderName, HeaderValue);

impl Outbound {
    /// Makes the head. `path` has been judged; `principal` is whoever the permit names.
    pub fn prepare(
        inbound: &mut Inbound,
        path: &str,
        principal: Option<&Principal>,
        upstream: &Upstream,
        target_host: &str,
        credential: Option<&Credential>,
        assert: impl FnOnce(&Assertion) -> Result<Option<HeaderValue>, Refusal>,
    ) -> Result<Self, Refusal> {
        let internal = |what: &str| Refusal::of(Reason::InternalFault).because(what);
        let mut headers = std::mem::take(&mut inbound.headers);
        page_cookie::hide(&mut headers);
        // What is added below, at once: growing step by step would place every field anew at each step.
        headers.reserve(OWN_FIELDS);
        match (upstream.host, &inbound.site.value) {
            (UpstreamHost::Preserve, Some(host)) => {
                headers.insert(header::HOST, host.clone());
            }
            (UpstreamHost::Preserve, None) => {
                let host = HeaderValue::from_str(target_host).map_err(|_| internal("the host is no header value"))?;
                headers.insert(header::HOST, host);
            }
            // Known when the target is chosen, and set there.
            (UpstreamHost::Target, _) => {}
        }
        if inbound.te == Te::Trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        // RFC 9110 §7.6.3: a gateway names itself in each request that it forwards, after those before it.
        headers.append(VIA, HeaderValue::from_static(via(inbound.version)));
        inbound.site.tell(&inbound.origin, &mut headers);
        if let Some(value) = inbound.request_id.to_value() {
            headers.insert(X_REQUEST_ID, value);
        }
        if let Some(value) = inbound.trace.to_value() {
            headers.insert(TRACEPARENT, value);
        }
        if upstream.method_override.contains(&MethodOverride::Header) {
            for (name, value) in inbound.overrides.drain(..) {
                headers.append(name, value);
            }
        }
        if let (true, SoleField::One(value)) = (upstream.forward_authorization, &inbound.authorization) {
            headers.insert(header::AUTHORIZATION, value.clone());
            // A bound token is worth nothing without its proof.
            if let SoleField::One(proof) = &inbound.proof {
                headers.insert(DPOP, proof.clone());
            }
        }
        if let Some((name, value)) = credential {
            hygiene::drop_aliases(&mut headers, name);
            headers.insert(name.clone(), value.clone());
        }
        if let (true, Some(principal)) = (upstream.identity_headers, principal) {
            for (name, value) in principal.told.get_or_make(|| identity(principal)) {
                headers.insert(name, value.clone());
            }
        }
        if let Some(assertion) = &upstream.assertion {
            // Also where there is nobody to speak of: what a client sends by that name is not ours.
            hygiene::drop_aliases(&mut headers, &assertion.header);
            if let Some(value) = assert(assertion)? {
                headers.insert(assertion.header.clone(), value);
            }
        }
        let uri = target(&mut inbound.uri, path).ok_or_else(|| Refusal::of(Reason::MalformedRequest))?;
        Ok(Self { method: inbound.method.clone(), uri, headers })
    }
}

/// The target in origin form: the client's own, where that is one and its path did not change.
fn target(uri: &mut Uri, path: &str) -> Option<Uri> {
    // `http` takes `?x` for a target, where an absolute one may leave its path out: that of an origin is `/?x` (RFC 9112 §3.2.1).
    let same = uri.path_and_query().filter(|target| target.path() == path && target.as_str().starts_with(path));
    let target = match (same, uri.query()) {
        (Some(_), _) if uri.scheme().is_none() && uri.authority().is_none() => return Some(std::mem::take(uri)),
        (Some(target), _) => target.clone(),
        (None, Some(query)) => PathAndQuery::try_from(format!("{path}?{query}")).ok()?,
        (None, None) => PathAndQuery::try_from(path).ok()?,
    };
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).ok()
}

fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => "3.0 stepgate",
        Version::HTTP_2 => "2.0 stepgate",
        Version::HTTP_10 => "1.0 stepgate",
        _ => "1.1 stepgate",
    }
}

/// Who is calling and how that was proved. A fact that is not known has no field; nothing of the client's is left under
/// these names.
fn identity(principal: &Principal) -> Box<[(HeaderName, HeaderValue)]> {
    let mut fields = Vec::new();
    let mut add = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.push((HeaderName::from_static(name), value));
        }
    };
    // What parts them stands in none of them: one of two words would be read as two.
    let list = |values: &[std::sync::Arc<str>]| {
        values.iter().map(|value| encoded(value).replace(' ', "%20")).collect::<Vec<_>>().join(" ")
    };
    let assurance = &principal.assurance;
    if !principal.subject.is_empty() {
        add("x-auth-subject", &encoded(&principal.subject));
    }
    add("x-auth-issuer", &encoded(&principal.issuer_url));
    if !principal.scopes.is_empty() {
        add("x-auth-scopes", &list(&principal.scopes));
    }
    if let Some(acr) = &assurance.acr {
        add("x-auth-acr", &encoded(acr));
    }
    if !assurance.amr.is_empty() {
        add("x-auth-amr", &list(&assurance.amr));
    }
    if let Some(auth_time) = assurance.auth_time.filter(|time| time.is_finite() && *time >= 0.0) {
        add("x-auth-time", &format!("{}", auth_time.floor()));
    }
    fields.into()
}

/// Percent-encodes what a header value should not hold: control characters, everything but ASCII, and `%` itself, so
/// that the encoding can be undone; and a space at either end, which every reader takes away (RFC 9110 §5.5), so that
/// ` alice` would be alice.
pub(super) fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let first = value.len() - value.trim_start_matches(' ').len();
    let end = value.trim_end_matches(' ').len();
    for (at, byte) in value.bytes().enumerate() {
        let is_inner_space = byte == b' ' && (first..end).contains(&at);
        if (byte.is_ascii_graphic() && byte != b'%') || is_inner_space {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Makes an upstream's answer fit for the client: no hop-by-hop fields, our request identifier.
pub fn clean_response(headers: &mut HeaderMap, request_id: &RequestId) {
    hygiene::drop_hop_by_hop(headers);
    if let Some(value) = request_id.to_value() {
        headers.insert(X_REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

    use std::path::Path;

    use super::*;
    use crate::{
        config::{self, Input},
        gateway::tests::connection,
    };

    #[test]
    fn what_the_gateway_says_itself_is_gone_from_the_clients_fields() {
        let ours = [
            header::HOST,
            header::TE,
            header::CONNECTION,
            header::FORWARDED,
            X_REQUEST_ID,
            TRACEPARENT,
            HeaderName::from_static("x-forwarded-for"),
            HeaderName::from_static("x-forwarded-host"),
            HeaderName::from_static("x-forwarded-proto"),
            HeaderName::from_static("x-auth-subject"),
        ];
        let mut headers: HeaderMap =
            ours.iter().map(|name| (name.clone(), HeaderValue::from_static("forged"))).collect();
        headers.append("accept", HeaderValue::from_static("kept"));
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.headers = headers;
        let text = "upstreams: {api: {targets: ['http://127.0.0.1:9']}}\nlisteners: [{address: 127.0.0.1:0, cleartext: true}]\n\
                    routes: [{path: /**, upstream: api, auth: none}]\n";
        let input = Input { file: Path::new("p.yaml"), text, base: Path::new("/"), env: &|_| None };
        let server = config::load(&input).unwrap().config.server;
        let id = RequestId::Given("id".into());
        let inbound = Inbound::parse(&mut parts, &connection(), &server, id).unwrap();
        assert_eq!(inbound.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn a_service_gets_the_target_in_origin_form() {
        for (from, path, to) in [
            ("/a?b=/%20", "/a", "/a?b=/%20"),
            ("http://api.example/a?b", "/a", "/a?b"),
            ("http://api.example", "/", "/"),
            ("https://api.example/a?b=1", "/c", "/c?b=1"),
            ("/a?", "/c", "/c?"),
            ("/a", "/c", "/c"),
        ] {
            assert_eq!(target(&mut from.parse().unwrap(), path).unwrap(), to, "{from}");
        }
    }

    #[test]
    fn rewrites_take_whole_segments_and_are_judged_again() {
        let any = PathPattern::parse("/**").unwrap();
        let rewritten =
            |path: &str, rewrite: Option<&Rewrite>| rewritten(&NormalPath::parse(path).unwrap(), &any, rewrite);
        let strip = Rewrite::StripPrefix("/reports".into());
        for (path, expected) in
            [("/reports/2024", "/2024"), ("/reports", "/"), ("/reports/", "/"), ("/%72eports/a%2Bb", "/a%2Bb")]
        {
            assert_eq!(rewritten(path, Some(&strip)).unwrap().unwrap(), expected, "{path}");
        }
        let replace = Rewrite::ReplacePrefix("/v1/a".into(), "/legacy".into());
        assert_eq!(rewritten("/v1/a/b", Some(&replace)).unwrap().unwrap(), "/legacy/b");
        assert_eq!(rewritten("/v1/a", Some(&replace)).unwrap().unwrap(), "/legacy");
        assert_eq!(rewritten("/x", None).unwrap(), None);
        assert_eq!(rewritten("/a", Some(&Rewrite::ReplacePrefix("/a".into(), "/a".into()))).unwrap(), None);
        let root = Rewrite::ReplacePrefix("/v1".into(), "/".into());
        assert_eq!(rewritten("/v1/b", Some(&root)).unwrap().unwrap(), "/b");
    }

    #[test]
    fn identity_values_are_encoded_so_that_no_line_can_be_added() {
        assert_eq!(encoded("alice"), "alice");
        assert_eq!(encoded("a\r\nX-Auth-Acr: gold"), "a%0D%0AX-Auth-Acr: gold");
        assert_eq!(encoded("zoë 100%"), "zo%C3%AB 100%25");
    }

    #[test]
    fn no_space_makes_a_subject_anothers_or_two_scopes_of_one() {
        assert_eq!(encoded(" alice"), "%20alice");
        assert_eq!(encoded("alice smith  "), "alice smith%20%20");
        assert_eq!(encoded("  "), "%20%20");
        let scopes: Box<[std::sync::Arc<str>]> = Box::new(["read".into(), "not admin".into(), " write".into()]);
        let principal = Principal {
            issuer: "main".into(),
            issuer_url: "https://idp.example/".into(),
            subject: " alice".into(),
            client: None,
            scopes,
            assurance: crate::policy::Assurance::default(),
            expires_at: None,
            leeway_secs: 0.0,
            claims: serde_json::Value::Null,
            kind: crate::policy::Kind::Person,
            marks: crate::policy::Marks::default(),
            binding: None,
            limits: Box::default(),
            told: crate::policy::Told::default(),
        };
        let headers: HeaderMap = identity(&principal).into_iter().collect();
        assert_eq!(headers["x-auth-subject"], "%20alice");
        assert_eq!(headers["x-auth-scopes"], "read not%20admin %20write");
    }
}
