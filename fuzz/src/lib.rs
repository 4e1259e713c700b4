//! What each fuzz target does with its bytes, and what must hold whatever they are. Besides "no panic", each body checks
//! the property that the gateway's safety rests on there.

mod authority;
mod covered;
mod overrides;

use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, LazyLock},
    time::Instant,
};

use bytes::Bytes;
use stepgate::{
    body::Arrival,
    clock::Now,
    config::{self, CertificateSubject, DpopRules, Input, Peers},
    gateway::{forwarded::Origin, key_fields},
    identity::{
        CertificateNames, apikey,
        basic::{self, UserPass},
        dpop::{self, proof::Expected, target::Place},
        events::{self, Delivery, EventKind, Form},
        judge_answer,
    },
    jose,
    password::{Cost, PASSWORD_BYTES},
    route::NormalPath,
    server::{
        ProxyHeaderFault, http3_frames, http3_head, http3_section, http3_trailers, parse_proxy_header,
        proxy_header_missing,
    },
    upstream::read_answer,
};

pub use authority::{accounts_call, accounts_file, authority_call, passkey_response, request_proof};
pub use covered::covered_request;
pub use overrides::method_override;

/// A configuration: any text gives a `Config` or problems with a place, which can be shown.
pub fn config_document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let env = |name: &str| (name == "SET").then(|| "value".to_owned());
    let input = Input { file: Path::new("gateway.yaml"), text, base: Path::new("/etc/stepgate"), env: &env };
    match config::load(&input) {
        Ok(loaded) => assert!(!loaded.config.routes.is_empty(), "a configuration without routes was taken"),
        Err(problems) => {
            assert!(!problems.list.is_empty(), "a refusal without a reason");
            assert!(!problems.to_string().is_empty());
        }
    }
}

/// A service's answer: read as the same however it is cut, with a body as its head says, and never more than was sent.
pub fn upstream_answer(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let asked = if how & 1 == 0 { http::Method::GET } else { http::Method::HEAD };
    let read = |size: usize| {
        read_answer(bytes.chunks(size), &asked)
            .map(|answer| (answer.head.status(), answer.head.headers().clone(), answer.body, answer.trailers))
            .map_err(|fault| fault.kind())
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(usize::from(how >> 1) + 1), "cut otherwise, it is another answer");
    let Ok((status, headers, body, trailers)) = whole else { return };
    assert!(body.len() <= bytes.len() && !status.is_informational(), "{status}");
    if let Some(length) = headers.get("content-length") {
        let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        assert!(length.is_some() && !headers.contains_key("transfer-encoding"), "{headers:?}");
        assert!(body.is_empty() || length == Some(body.len() as u64), "{headers:?}");
        assert_eq!(trailers, None);
    }
}

/// A path: what is taken is in normal form, holds no way up, and is taken again as it is.
pub fn path_normaliser(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = NormalPath::parse(text) else { return };
    let normal = path.as_str();
    assert!(normal.starts_with('/') && normal.bytes().all(|b| (b'!'..=b'~').contains(&b)), "{normal:?}");
    assert!(
        !normal.contains("//") && !normal.contains('\\') && !normal.contains('#') && !normal.contains('?'),
        "{normal:?}"
    );
    let lower = normal.to_ascii_lowercase();
    assert!(!lower.contains("%2f") && !lower.contains("%5c") && !lower.contains("%00"), "{normal:?}");
    assert!(normal.split('/').all(|segment| !matches!(segment.split(';').next(), Some("." | ".."))), "{normal:?}");
    let again =
        NormalPath::parse(normal).unwrap_or_else(|fault| panic!("{normal:?} was refused the second time: {fault}"));
    assert_eq!(again.as_str(), normal, "normalising twice is normalising once");
    assert_eq!(again.folded(), path.folded());
}

/// A request head as the parser under the gateway hands it on: target and fields, cut out of raw bytes.
pub fn request_head(data: &[u8]) {
    let head = String::from_utf8_lossy(data);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let _ = http::Method::from_bytes(method.as_bytes());
    let Ok(uri) = http::Uri::try_from(target) else { return };
    let mut headers = http::HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else { return };
        let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value.trim()))
        else {
            return;
        };
        headers.append(name, value);
    }
    if let Ok(path) = NormalPath::parse(uri.path()) {
        assert!(http::Uri::try_from(path.as_str()).is_ok_and(|again| again.path() == path.as_str()), "{path:?}");
    }
    for name in ["x-forwarded-for", "forwarded"] {
        origin(&headers, name);
    }
    for value in headers.get_all("authorization") {
        if let Some(token) = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")) {
            jose_token(token.as_bytes());
        }
    }
}

/// A request's stream in HTTP/3: it comes apart in the same way however it is cut, and what is taken for a head can be read in one way
/// alone, here and by a service that speaks HTTP/1.1.
pub fn http3_stream(data: &[u8]) {
    const MOST: u64 = 16 * 1024;
    let Some((step, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    let whole = http3_frames(&bytes, usize::MAX);
    assert_eq!(http3_frames(&bytes, usize::from(*step)), whole, "it matters where it is cut");
    for (_, section) in whole.0.into_iter().filter(|(kind, _)| *kind == 1) {
        let section = section.freeze();
        if let Some((request, length)) = http3_head(section.clone(), MOST) {
            let (uri, target) = (request.uri(), request.uri().path_and_query().map_or("", |target| target.as_str()));
            let is_target = match request.method().as_str() {
                "CONNECT" => uri.authority().is_some() && target.is_empty(),
                "OPTIONS" if target == "*" => true,
                _ => target.starts_with('/'),
            };
            assert!(is_target && !target.contains(['#', ' ']), "{uri:?}");
            assert!(uri.authority().is_none_or(|authority| !authority.as_str().contains('@')), "{uri:?}");
            let said = request.headers().get("content-length").map(|value| value.to_str().unwrap().parse().unwrap());
            assert_eq!(length, said);
            http3_fields(request.headers(), MOST);
        }
        if let Some(trailers) = http3_trailers(section, MOST) {
            http3_fields(&trailers, MOST);
        }
    }
}

fn http3_fields(fields: &http::HeaderMap, most: u64) {
    let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size as u64 <= most, "{size}");
    for (name, value) in fields {
        let of_connection = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
        assert!(!of_connection.contains(&name.as_str()), "{name}");
        assert!(name != "te" || value.as_bytes().eq_ignore_ascii_case(b"trailers"), "{value:?}");
        let value = value.as_bytes();
        assert!(value.trim_ascii() == value && !value.iter().any(|byte| b"\r\n\0".contains(byte)), "{value:?}");
    }
    let mut fields = fields.clone();
    fields.remove("te");
    assert_eq!(http3_trailers(http3_section(&fields), u64::MAX), Some(fields), "what is written is not what is read");
}

/// A token: whatever it is, taking it apart ends, and nothing longer than the limit is looked at.
pub fn jose_token(data: &[u8]) {
    let Ok(token) = std::str::from_utf8(data) else { return };
    if jose::inspect(token, 8 * 1024).is_ok() {
        let parts: Vec<&str> = token.split('.').collect();
        assert!(token.len() <= 8 * 1024 && parts.len() == 3, "{token:?}");
        // The signature is decoded when it is verified.
        let canonical = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        assert!(parts.iter().take(2).all(|part| canonical(part)), "RFC 7515 section 2: {token:?}");
    }
    let _ = jose::JwkSet::parse(data);
}

/// An introspection answer: whatever it is, a token passes by it only if it says, once and to the letter, that the token is
/// active, for us, and not over.
pub fn introspection_answer(data: &[u8]) {
    static ISSUER: LazyLock<Arc<config::Issuer>> = LazyLock::new(issuer);
    let now = Now { unix_ms: 1_800_000_000_000, instant: Instant::now() };
    let Some(Ok(principal)) = judge_answer(&ISSUER, data, now) else { return };
    let answer: serde_json::Value = serde_json::from_slice(data).expect("what passed is JSON");
    assert_eq!(answer.get("active"), Some(&true.into()), "{answer}");
    let named = |name: &serde_json::Value| name == "api";
    assert!(answer.get("aud").is_some_and(|aud| named(aud) || aud.as_array().is_some_and(|all| all.iter().any(named))));
    assert!(answer.get("exp").and_then(serde_json::Value::as_f64).is_some_and(|exp| exp > 1_799_999_000.0), "{answer}");
    assert!(answer.get("iss").is_none_or(|iss| iss == "https://idp.example/"), "{answer}");
    assert_eq!(principal.binding.is_some(), answer.get("cnf").is_some(), "a bound token passed unbound: {answer}");
}

fn issuer() -> Arc<config::Issuer> {
    let text = "issuers:
  main:
    issuer: https://idp.example/
    audience: [api]
    introspection: {discovery: true, client_id: gateway, client_secret: '${SECRET}'}
upstreams: {api: {targets: [http://127.0.0.1:1]}}
routes: [{path: /**, upstream: api}]
";
    let env = |_: &str| Some("value".to_owned());
    let input = Input { file: Path::new("gateway.yaml"), text, base: Path::new("/etc/stepgate"), env: &env };
    config::load(&input).expect("a valid configuration").config.issuers.remove(0)
}

/// A provider's report: the type on the first line, then the body. What comes out is one token, or nothing; and whatever
/// the claims are, what they name has a name, and a second reading names the same.
pub fn security_event(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let content_type = std::str::from_utf8(parts.next().unwrap_or_default()).ok();
    let body = parts.next().unwrap_or_default();
    if let Ok((_, token)) = (Delivery { content_type, body }).token() {
        jose_token(token.as_bytes());
    }
    let Ok(serde_json::Value::Object(claims)) = serde_json::from_slice(body) else { return };
    for form in [Form::Logout, Form::Push] {
        let Ok(report) = events::read(form, &claims, "https://idp.example/") else { continue };
        assert!(!report.findings.is_empty() && report.issued_at.is_finite());
        for finding in &report.findings {
            assert!(finding.targets.len() <= 17, "{finding:?}");
            assert!(finding.targets.iter().all(|(_, name)| !name.is_empty()), "{finding:?}");
            assert!(form == Form::Push || finding.kind == EventKind::Logout, "{finding:?}");
        }
        assert_eq!(events::read(form, &claims, "https://idp.example/").as_ref(), Ok(&report));
    }
}

/// A DPoP proof, then a line with a path: what passes as the proof of RFC 9449 §7.1 is that proof, and a URL names what
/// it is a URL of.
pub fn dpop_proof(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (proof, path) = text.split_once('\n').unwrap_or((text, "/protectedresource"));
    let rules = DpopRules::default();
    let expected = Expected {
        bound_to: &RFC_9449_KEY,
        method: "GET",
        place: Place { scheme: "https", authority: "resource.example.org", path },
        token_digest: &RFC_9449_TOKEN_DIGEST,
        rules: &rules,
        leeway_secs: 30.0,
        now: 1_562_262_618.0,
    };
    if let Ok(found) = dpop::proof::check(proof, &expected) {
        assert_eq!(found.jti, "e1j3V_bKic8-LAEB", "another proof passed: {proof:?}");
        assert_eq!(proof.trim_end_matches('\r'), RFC_9449_PROOF.trim_end(), "another text passed for the proof");
        if let Ok(normal) = NormalPath::parse(path) {
            assert_eq!(normal.as_str(), "/protectedresource", "a proof for one path passed for another: {path:?}");
        }
    }
}

const RFC_9449_PROOF: &str = include_str!("../seeds/dpop_proof/rfc9449-7.1");
/// The thumbprint of the RFC's key (§6.1), and SHA-256 of its token (§7.1).
const RFC_9449_KEY: [u8; 32] = [
    0xd1, 0x97, 0x0e, 0x08, 0xe4, 0x59, 0x35, 0x8c, 0xbe, 0x0d, 0x6a, 0x6a, 0xab, 0x7d, 0x23, 0x67, 0x22, 0x46, 0x1d,
    0x33, 0x74, 0x77, 0x61, 0xe0, 0x94, 0x15, 0x77, 0xba, 0x28, 0x2e, 0x03, 0x82,
];
const RFC_9449_TOKEN_DIGEST: [u8; 32] = [
    0x7d, 0x41, 0xf2, 0x3b, 0x6a, 0xf6, 0x67, 0x70, 0xd9, 0xe7, 0x71, 0x2c, 0x36, 0xb5, 0x81, 0x6f, 0x4c, 0x56, 0x5e,
    0x86, 0x8d, 0xcb, 0x9f, 0x48, 0x88, 0xa0, 0x80, 0xaa, 0x4b, 0x26, 0x40, 0x4a,
];

/// A client certificate: what is read of it names somebody in one way, in text that a header field and a log can hold.
pub fn client_certificate(data: &[u8]) {
    let Some(names) = CertificateNames::read(data) else { return };
    let common = names.common.iter().flatten();
    let texts = [&names.subject_dn, &names.issuer_dn, &names.serial].into_iter().chain(common);
    let texts = texts.chain(&names.dns).chain(&names.uri).chain(&names.email);
    for text in texts {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    for place in [
        CertificateSubject::SubjectDn,
        CertificateSubject::CommonName,
        CertificateSubject::SanDns,
        CertificateSubject::SanUri,
        CertificateSubject::SanEmail,
    ] {
        let subject = names.subject(place);
        assert!(subject.is_none_or(|subject| !subject.is_empty() && subject.len() <= 1024), "{subject:?}");
    }
    assert!(names.dns.len() < 2 || names.subject(CertificateSubject::SanDns).is_none(), "{names:?}");
}

/// Forwarding headers: without a trusted peer none is believed; with one, what comes out is an address or the peer.
pub fn forwarded_headers(data: &[u8]) {
    let mut headers = http::HeaderMap::new();
    for line in data.split(|b| *b == b'\n').take(8) {
        let Ok(value) = http::HeaderValue::from_bytes(line) else { return };
        headers.append("x-forwarded-for", value.clone());
        headers.append("forwarded", value);
    }
    for name in ["x-forwarded-for", "forwarded"] {
        origin(&headers, name);
    }
}

/// A key, as one may stand in a query or by itself: what is taken out of a query is gone from it, and no bytes that nobody made
/// have the form of ours.
pub fn api_key(data: &[u8]) {
    let form = apikey::form("sgk", data);
    assert_eq!(form == apikey::Form::Foreign, !data.starts_with(b"sgk_"));
    let Ok(query) = std::str::from_utf8(data) else { return };
    let name = "api_key".into();
    let (rest, found) = key_fields::split_query(query, &name);
    match found {
        Some(_) => {
            assert!(rest.len() < query.len(), "{query:?}");
            assert!(key_fields::split_query(&rest, &name).1.is_none(), "{query:?} leaves {rest:?}");
        }
        None => assert_eq!(rest, query),
    }
}

/// A file of keys: whatever it holds, it is read or refused with the line that is wrong; what was read is found.
pub fn api_key_file(data: &[u8]) {
    let limits = ["per-key".into()].into();
    match apikey::KeyTable::read(data, data.len() as u64, &limits) {
        Err(fault) => assert!(!fault.to_string().is_empty()),
        Ok(table) => {
            let records = data.split(|b| *b == b'\n').filter_map(|line| apikey::Record::parse(line.trim_ascii()).ok());
            assert_eq!(table.len(), records.count());
        }
    }
}

fn origin(headers: &http::HeaderMap, name: &str) {
    let trusted = Peers { networks: vec![ipnet::IpNet::from(IpAddr::from([10, 0, 0, 1]))], unix: false };
    let read = |peer, trusted: &Peers| Origin::read(peer, Arrival::Direct, headers, name, trusted);
    let stranger = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(read(stranger, &trusted).client, stranger, "a stranger's header was believed");
    assert_eq!(read(stranger, &Peers::default()).client, stranger, "a header was believed with no proxy trusted");
    let origin = read(IpAddr::from([10, 0, 0, 1]), &trusted);
    let told = origin.x_forwarded_for();
    assert!(told.split(", ").all(|address| address.parse::<IpAddr>().is_ok()), "{told:?}");
}

/// Basic credentials: what is read can be written in one way alone, and holds nothing that could end a line or a name.
pub fn basic_credentials(data: &[u8]) {
    let Some(read) = UserPass::parse(data) else { return };
    let password = std::str::from_utf8(read.password.expose()).expect("a password is UTF-8");
    assert!(!read.user.is_empty() && read.user.len() <= 255 && !read.user.contains(':'), "{:?}", read.user);
    assert!(!password.is_empty() && password.len() <= PASSWORD_BYTES);
    assert!(!read.user.chars().chain(password.chars()).any(char::is_control));
    // The length says the rest: canonical base64 has one form.
    assert_eq!(data.len(), (read.user.len() + 1 + password.len()).div_ceil(3) * 4);
}

/// A file of users: no line that is taken costs more than the bounds, names are unique, and a fault shows nothing of it.
pub fn users_file(data: &[u8]) {
    match basic::read(data) {
        Ok(users) => {
            let mut names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), users.len(), "a name twice");
            for user in &users {
                match user.hash.cost() {
                    Cost::Argon2id { memory, passes, lanes, .. } => {
                        assert!(memory <= 256 * 1024 && passes <= 10 && lanes <= 16, "{memory} {passes} {lanes}");
                    }
                    Cost::Bcrypt(cost) => assert!((10..=14).contains(&cost), "{cost}"),
                }
                let text = std::str::from_utf8(data).expect("what is taken is UTF-8");
                let without = basic::without_line(text, &user.name).expect("a user who is there can be removed");
                assert_eq!(basic::read(without.as_bytes()).map(|users| users.len()), Ok(users.len() - 1));
            }
        }
        Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|fault| fault.line > 0)),
    }
}

/// What a relay sends first: a header is read to its last byte and no further, whatever follows it, and within a bound.
pub fn proxy_header(data: &[u8]) {
    let read = |data: &[u8]| {
        let mut taken = 0;
        loop {
            match proxy_header_missing(&data[..taken]) {
                Err(fault) => return (taken, Err(fault)),
                Ok(0) => return (taken, parse_proxy_header(&data[..taken])),
                Ok(more) if taken + more <= data.len() => taken += more,
                Ok(_) => return (taken, Err(ProxyHeaderFault::Ended)),
            }
        }
    };
    let (taken, header) = read(data);
    assert!(taken <= 16 + 4096, "{taken} bytes were read");
    if header == Err(ProxyHeaderFault::Ended) {
        return;
    }
    let other = [&data[..taken], &b"GET / HTTP/1.1\r\n\r\n"[..]].concat();
    assert_eq!(read(&other), (taken, header), "what follows a header changed what it says");
}
