//! What it costs to read a head, and to make one fit: for the service, and for the client.

use std::{net::SocketAddr, rc::Rc};

use criterion::{BatchSize, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Request, request::Parts};
use stepgate::{
    body::{Arrival, Bounds, ConnectionInfo, ConnectionWatch, Memory},
    gateway::{Inbound, Outbound, RequestId, clean_response},
    policy::Principal,
    runtime::{Side, Snapshot},
};

use crate::{decisions::caller, setup};

const YAML: &str = "
access_log: off
issuers: {main: {issuer: https://idp.example/, audience: [api], keys: {secret: '${KEY}'}, algorithms: [HS256]}}
upstreams: {api: {targets: [http://127.0.0.1:9]}}
routes: [{path: /**, upstream: api, auth: [main]}]
";

const BROWSER: Fields = &[
    ("host", "api.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("connection", "keep-alive"),
    ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "none"),
    ("sec-fetch-user", "?1"),
    ("priority", "u=0, i"),
];

/// A client of an API, with a token as long as one that RS256 signed.
const API: Fields = &[
    ("host", "api.example"),
    ("user-agent", "orders/4.2"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip"),
    ("authorization", "Bearer 0123456789"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
];

const ANSWER: Fields = &[
    ("content-type", "application/json"),
    ("content-length", "128"),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("cache-control", "private, max-age=60"),
    ("etag", "\"33a64df5\""),
    ("vary", "accept-encoding"),
    ("server", "api"),
];

/// Names and values.
type Fields = &'static [(&'static str, &'static str)];

/// Who sends them, and whether the caller is known.
const CASES: [(&str, Fields, bool); 2] = [("browser", BROWSER, false), ("API", API, true)];

pub(crate) fn parse(c: &mut Criterion) {
    let (snapshot, info) = (setup::snapshot(YAML), connection());
    let mut group = c.benchmark_group("parse");
    for (name, fields, _) in CASES {
        let parsed = |mut parts| inbound(&mut parts, &snapshot, &info);
        group.bench_function(name, |b| b.iter_batched(|| head(fields), parsed, BatchSize::SmallInput));
    }
    group.finish();
}

pub(crate) fn prepare(c: &mut Criterion) {
    let (snapshot, info, caller) = (setup::snapshot(YAML), connection(), caller(setup::now(), true));
    let mut group = c.benchmark_group("prepare");
    for (name, fields, is_verified) in CASES {
        let fresh = || inbound(&mut head(fields), &snapshot, &info);
        let principal = is_verified.then_some(&*caller);
        let prepared = |inbound: &mut Inbound| outbound(inbound, principal, &snapshot);
        group.bench_function(name, |b| b.iter_batched_ref(fresh, prepared, BatchSize::SmallInput));
    }
    group.finish();
}

pub(crate) fn clean(c: &mut Criterion) {
    c.bench_function("clean an answer", |b| {
        let id = RequestId::Ours(*b"0123456789abcdef0123456789abcdef");
        let cleaned = |headers: &mut HeaderMap| clean_response(headers, &id);
        b.iter_batched_ref(|| headers(ANSWER), cleaned, BatchSize::SmallInput);
    });
}

fn inbound(parts: &mut Parts, snapshot: &Snapshot, info: &ConnectionInfo) -> Inbound {
    let id = RequestId::Ours(*b"0123456789abcdef0123456789abcdef");
    Inbound::parse(parts, info, &snapshot.config.server, id).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

fn outbound(inbound: &mut Inbound, principal: Option<&Principal>, snapshot: &Snapshot) -> Outbound {
    let backend = snapshot.routes[0].backend(Side::Own).unwrap();
    let (host, credential) = (backend.service.default_host(), backend.service.credential());
    Outbound::prepare(inbound, "/items/4711", principal, &backend.upstream, host, credential, |_| Ok(None))
        .unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

fn head(fields: Fields) -> Parts {
    let mut request = Request::new(());
    *request.uri_mut() = http::Uri::from_static("/items/4711");
    *request.headers_mut() = headers(fields);
    request.into_parts().0
}

/// A field's value is bytes of the buffer that the head was read into, here one that is always there.
fn headers(fields: Fields) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

/// A connection in the clear from this machine.
fn connection() -> ConnectionInfo {
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    ConnectionInfo {
        peer,
        arrival: Arrival::Direct,
        local: peer,
        listener: "127.0.0.1:8080".into(),
        listener_index: 0,
        tls: None,
        watch: ConnectionWatch::new(Rc::new(Bounds::unlimited()), setup::now().instant),
        memory: Memory::default(),
        alternative: None,
    }
}
