//! Cross-origin requests (WHATWG Fetch §3.2). A preflight asks for no credentials by its nature, so it is answered before the
//! decision, after the address's quota and from the route alone: it says what the file says of the route, and whether a request
//! that follows may pass is judged then.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

use crate::{
    clock::Now,
    config::{Cors, CorsOrigins},
    gateway::{
        Exchange, Gateway, Inbound, Matched, Passed, Refusal, SoleField,
        enforce::{self, Enforcement},
        own,
    },
    policy::Reason,
    route::{Found, NormalPath},
    runtime::{CompiledRoute, Snapshot},
};

/// What a preflight asks for.
struct Asked<'a> {
    origin: &'a str,
    method: Method,
    /// In the form of the wire.
    headers: Vec<&'a str>,
}

/// A preflight that is answered from its route's `cors`.
struct Preflight<'s, 'r> {
    path: NormalPath<'r>,
    route: &'s CompiledRoute,
    cors: &'s Cors,
    asked: Asked<'r>,
}

/// What is said of CORS in an answer.
#[derive(Debug)]
pub(super) enum CorsAnswer {
    /// Nothing: the route has no `cors`.
    Silent,
    /// That it depends on the origin, which may not read it, or is none.
    Closed,
    /// That this origin may read it, which is `*` where every one may.
    Open(HeaderValue),
}

impl Gateway {
    /// Answers a preflight; `None` where a request is none, or its route has no `cors`: then it is one like any other.
    pub(in crate::gateway) fn preflight<'s>(
        &self,
        snapshot: &Snapshot,
        exchange: &mut Exchange,
        (inbound, raw): (&Inbound, &str),
        now: Now,
    ) -> Option<Result<Passed<'s>, Refusal>> {
        let preflight = Preflight::find(snapshot, inbound, raw)?;
        let Preflight { path, route, .. } = &preflight;
        exchange.record.route = Some(route.number);
        let matched = Matched::alone(route, inbound.method.clone());
        let enforcement = Enforcement { inbound, path, matched: &matched, now };
        if let Err(refusal) = self.admit(snapshot, (&route.holders, route.priority), &mut exchange.record) {
            return Some(Err(refusal));
        }
        let (rates, charged) = enforce::charge_early(&enforcement, &self.services.metrics);
        exchange.rates = rates;
        if let Err(refusal) = charged {
            return Some(Err(refusal));
        }
        Some(preflight.answer(snapshot).map(|answer| Passed::Answered(answer, Reason::Allowed)))
    }
}

impl Inbound {
    /// The status that a preflight is answered with, and from which route; `None` where a request is none, or its route has no
    /// `cors`. For `explain`, which charges nothing.
    pub fn preflight<'s>(
        &self,
        snapshot: &'s Snapshot,
        raw: &str,
    ) -> Option<(&'s CompiledRoute, Result<StatusCode, Refusal>)> {
        let preflight = Preflight::find(snapshot, self, raw)?;
        let answer = preflight.answer(snapshot);
        Some((preflight.route, answer.map(|answer| answer.status())))
    }
}

impl<'s, 'r> Preflight<'s, 'r> {
    /// `None` where a request is none, or its route has no `cors`.
    fn find(snapshot: &'s Snapshot, inbound: &'r Inbound, raw: &'r str) -> Option<Self> {
        let asked = asked(snapshot, inbound)?;
        let path = NormalPath::parse(raw).ok()?;
        if own::find(snapshot, inbound, &path).is_some() {
            return None;
        }
        let (route, cors) = route_of(snapshot, inbound, &path, &asked)?;
        Some(Self { path, route, cors, asked })
    }

    /// What it is told.
    fn answer(&self, snapshot: &Snapshot) -> Result<Response<Bytes>, Refusal> {
        let Self { cors, asked, .. } = self;
        let known = snapshot.config.server.methods.contains(&asked.method);
        match refused(cors, asked, known) {
            Some(why) => Err(Refusal::of(Reason::CorsRefused).because(why)),
            None => Ok(answer_to(cors, asked)),
        }
    }
}

/// What a preflight asks for, if a request is one: no browser sends one with a credential.
fn asked<'a>(snapshot: &Snapshot, inbound: &'a Inbound) -> Option<Asked<'a>> {
    let has_credential = !matches!(inbound.authorization, SoleField::Absent)
        || !matches!(inbound.proof, SoleField::Absent)
        || !inbound.keys.is_empty()
        || inbound.shown.is_some();
    if !snapshot.has_cors || inbound.method != Method::OPTIONS || has_credential || inbound.upgrade.is_some() {
        return None;
    }
    let method = Method::from_bytes(sole(&inbound.headers, &ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()?;
    let lines = inbound.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let lists: Option<Vec<&str>> = lines.map(|line| line.to_str().ok()).collect();
    let names = lists?.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    Some(Asked { origin: sole(&inbound.headers, &ORIGIN)?, method, headers: names.collect() })
}

fn sole<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut fields = headers.get_all(name).iter();
    let first = fields.next()?;
    if fields.next().is_some() { None } else { first.to_str().ok() }
}

/// The route of the method that is asked for, where it has `cors`.
fn route_of<'s>(
    snapshot: &'s Snapshot,
    inbound: &Inbound,
    path: &NormalPath<'_>,
    asked: &Asked<'_>,
) -> Option<(&'s CompiledRoute, &'s Cors)> {
    let Found::Route(number) = snapshot.table.routes_at(&inbound.site.host, path).choose(&asked.method) else {
        return None;
    };
    let route = snapshot.route(number)?;
    Some((route, route.shaping.as_ref()?.rules.cors.as_ref()?))
}

/// Why a page may not ask what it asks for; for the operator.
fn refused(cors: &Cors, asked: &Asked<'_>, known: bool) -> Option<String> {
    if allowed_origin(cors, asked.origin).is_none() {
        return Some("the origin is not among `cors.origins`".to_owned());
    }
    if !known || !allows_method(cors, &asked.method) {
        return Some("the method is not among `cors.methods`".to_owned());
    }
    let is_allowed = |name: &&str| cors.headers.iter().any(|known| known.as_str().eq_ignore_ascii_case(name));
    let more = asked.headers.iter().find(|name| !is_allowed(name))?;
    // Only what is a field's name is repeated.
    let shown =
        HeaderName::from_bytes(more.as_bytes()).map_or_else(|_| "a field".to_owned(), |name| format!("`{name}`"));
    Some(format!("{shown} is not among `cors.headers`"))
}

fn answer_to(cors: &Cors, asked: &Asked<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    let methods = match &cors.methods {
        Some(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
        None => asked.method.to_string(),
    };
    put(ACCESS_CONTROL_ALLOW_METHODS, methods);
    if !cors.headers.is_empty() {
        put(ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", "));
    }
    put(ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs().to_string());
    if cors.credentials {
        put(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned());
    }
    if let Some(origin) = allowed_origin(cors, asked.origin) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    // Whatever keeps answers to OPTIONS, which nothing should (RFC 9110 §9.3.7), keeps each apart.
    let vary = "origin, access-control-request-method, access-control-request-headers";
    headers.insert(VARY, HeaderValue::from_static(vary));
    response
}

/// What is said of CORS in the answer to a request that is no preflight.
pub(super) fn answer(cors: &Cors, headers: &HeaderMap, method: &Method) -> CorsAnswer {
    if !allows_method(cors, method) {
        return CorsAnswer::Closed;
    }
    match (&cors.origins, sole(headers, &ORIGIN)) {
        (CorsOrigins::Any, _) => CorsAnswer::Open(HeaderValue::from_static("*")),
        (CorsOrigins::Listed(_), Some(origin)) => {
            allowed_origin(cors, origin).map_or(CorsAnswer::Closed, CorsAnswer::Open)
        }
        (CorsOrigins::Listed(_), None) => CorsAnswer::Closed,
    }
}

impl CorsAnswer {
    /// Says it.
    pub(super) fn apply(&self, cors: Option<&Cors>, headers: &mut HeaderMap) {
        let Some(cors) = cors else { return };
        if cors.origins != CorsOrigins::Any {
            vary_by_origin(headers);
        }
        match self {
            Self::Silent | Self::Closed => {}
            Self::Open(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, cors.expose.clone());
                if cors.credentials {
                    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                }
            }
        }
    }
}

/// Takes out what an upstream says of CORS: two voices would be one too many for a browser.
pub(super) fn take_out(headers: &mut HeaderMap) {
    const SAID: [HeaderName; 6] = [
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ];
    for name in SAID {
        headers.remove(name);
    }
    headers.remove("access-control-allow-private-network");
}

/// Adds `Origin` to `Vary`, unless it is there.
fn vary_by_origin(headers: &mut HeaderMap) {
    let lists = headers.get_all(VARY).iter();
    let mut names = lists.flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    if !names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin")) {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

fn allows_method(cors: &Cors, method: &Method) -> bool {
    let is_get = |methods: &[Method]| *method == Method::HEAD && methods.contains(&Method::GET);
    cors.methods.as_deref().is_none_or(|methods| methods.contains(method) || is_get(methods))
}

fn allowed_origin(cors: &Cors, origin: &str) -> Option<HeaderValue> {
    match &cors.origins {
        CorsOrigins::Any => Some(HeaderValue::from_static("*")),
        CorsOrigins::Listed(patterns) => {
            let is_listed = patterns.iter().any(|pattern| pattern.matches(origin));
            is_listed.then(|| HeaderValue::from_str(origin).ok()).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

    use std::time::Duration;

    use http::header;

    use super::*;
    use crate::config::OriginPattern;

    fn cors(origins: CorsOrigins) -> Cors {
        Cors {
            origins,
            methods: Some([Method::GET, Method::PUT].into()),
            headers: [header::AUTHORIZATION].into(),
            expose: HeaderValue::from_static("x-total"),
            credentials: true,
            max_age: Duration::from_secs(60),
        }
    }

    fn listed() -> Cors {
        let exact = OriginPattern::Exact("https://app.example".into());
        cors(CorsOrigins::Listed([exact, OriginPattern::Below("https://".into(), ".app.example".into())].into()))
    }

    fn said(cors: &Cors, origins: &[&'static str], method: &Method) -> HeaderMap {
        let mut request = HeaderMap::new();
        for origin in origins {
            request.append(ORIGIN, HeaderValue::from_static(origin));
        }
        let mut headers = HeaderMap::new();
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        answer(cors, &request, method).apply(Some(cors), &mut headers);
        headers
    }

    #[test]
    fn an_origin_of_the_list_may_read_and_every_answer_says_that_it_depends_on_it() {
        for (origins, method, open) in [
            (&["https://app.example"][..], Method::GET, true),
            (&["https://a.app.example"], Method::HEAD, true),
            (&["https://app.example"], Method::DELETE, false),
            (&["https://evil.example"], Method::GET, false),
            (&["null"], Method::GET, false),
            (&["https://app.example", "https://app.example"], Method::GET, false),
            (&[], Method::GET, false),
        ] {
            let headers = said(&listed(), origins, &method);
            assert_eq!(headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), open, "{origins:?} {method}");
            assert_eq!(headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), open);
            assert_eq!(headers.get_all(VARY).iter().count(), 2, "{origins:?}");
        }
        let headers = said(&listed(), &["https://a.app.example"], &Method::GET);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.app.example");
    }

    #[test]
    fn every_origin_is_said_by_a_star_and_depends_on_nothing() {
        let any = Cors { credentials: false, ..cors(CorsOrigins::Any) };
        let headers = said(&any, &[], &Method::GET);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert_eq!(headers[VARY], "Accept-Encoding");
    }

    #[test]
    fn what_a_preflight_asks_for_must_be_listed() {
        let asks = |origin, method: &str, headers: &[&'static str]| {
            let asked = Asked { origin, method: method.parse().unwrap(), headers: headers.to_vec() };
            refused(&listed(), &asked, true)
        };
        assert_eq!(asks("https://app.example", "PUT", &["Authorization"]), None);
        assert!(asks("https://evil.example", "PUT", &[]).unwrap().contains("origins"));
        assert!(asks("https://app.example", "DELETE", &[]).unwrap().contains("methods"));
        assert!(asks("https://app.example", "put", &[]).unwrap().contains("methods"), "methods are case-sensitive");
        assert!(asks("https://app.example", "PUT", &["x-other"]).unwrap().contains("`x-other`"));
        assert!(!asks("https://app.example", "PUT", &["a b\"c"]).unwrap().contains('"'));
    }

    #[test]
    fn vary_has_the_origin_once() {
        for (said, count) in [("Origin", 1), ("Accept, origin", 1), ("*", 1), ("Accept", 2)] {
            let mut headers = HeaderMap::new();
            headers.insert(VARY, HeaderValue::from_static(said));
            vary_by_origin(&mut headers);
            assert_eq!(headers.get_all(VARY).iter().count(), count, "{said}");
        }
    }
}
