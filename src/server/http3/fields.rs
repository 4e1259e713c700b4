//! Heads and trailers: fields as HTTP/3 has them, and as the rest of the gateway has them (RFC 9114 §4.2, §4.3).
//!
//! A request that breaks a rule is malformed, and its stream is reset: what two readers could read in two ways is read by
//! nobody.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header,
    uri::{Authority, Parts, PathAndQuery, Scheme, Uri},
};

use super::qpack::{self, Name, SectionFault, Value};
use crate::server::settings::is_of_connection;

/// A request's head as it is read.
#[derive(Debug, Default)]
struct Reading {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    fields: Fields,
}

/// Fields, after those that begin with a colon.
#[derive(Debug, Default)]
struct Fields {
    map: HeaderMap,
    begun: bool,
}

/// Reads the head of a request, and what it says of the length of its body.
pub(super) fn read_head(section: Bytes, most: u64) -> Result<(Request<()>, Option<u64>), SectionFault> {
    let mut reading = Reading::default();
    qpack::read(section, most, |name, value| reading.take(&name, value))?;
    let length = declared_length(&reading.fields.map)?;
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_3;
    *request.uri_mut() = reading.uri().ok_or(SectionFault::Malformed)?;
    *request.method_mut() = reading.method.ok_or(SectionFault::Malformed)?;
    *request.headers_mut() = reading.fields.map;
    Ok((request, length))
}

/// Reads a trailer section.
pub(super) fn read_trailers(section: Bytes, most: u64) -> Result<HeaderMap, SectionFault> {
    let mut fields = Fields::default();
    qpack::read(section, most, |name, value| match is_pseudo(&name) {
        // RFC 9114 §4.3
        true => Err(SectionFault::Malformed),
        false => fields.take(&name, value),
    })?;
    Ok(fields.map)
}

fn is_pseudo(name: &Name) -> bool {
    name.as_bytes().first() == Some(&b':')
}

impl Reading {
    fn take(&mut self, name: &Name, value: Value) -> Result<(), SectionFault> {
        if !is_pseudo(name) {
            return self.fields.take(name, value);
        }
        // RFC 9114 §4.3: before all fields, each no more than once, and none that is not known.
        if self.fields.begun {
            return Err(SectionFault::Malformed);
        }
        match name.as_bytes() {
            b":method" => once(&mut self.method, Method::from_bytes(value.as_bytes()).ok()),
            b":scheme" => once(&mut self.scheme, Scheme::try_from(value.as_bytes()).ok()),
            // §4.3.1: nobody's name and password.
            b":authority" if value.as_bytes().contains(&b'@') => Err(SectionFault::Malformed),
            b":authority" => once(&mut self.authority, Authority::from_maybe_shared(value.into_bytes()).ok()),
            // The parser would drop a fragment, which is no part of a target (RFC 9110 §7.1).
            b":path" if value.as_bytes().is_empty() || value.as_bytes().contains(&b'#') => Err(SectionFault::Malformed),
            b":path" => once(&mut self.path, PathAndQuery::from_maybe_shared(value.into_bytes()).ok()),
            _ => Err(SectionFault::Malformed),
        }
    }

    fn uri(&mut self) -> Option<Uri> {
        let mut parts = Parts::default();
        let method = self.method.as_ref()?;
        let (scheme, authority, path) = (self.scheme.take(), self.authority.take(), self.path.take());
        if *method == Method::CONNECT {
            // RFC 9114 §4.4; the gateway refuses it in its own words.
            if scheme.is_some() || path.is_some() {
                return None;
            }
            parts.authority = Some(authority?);
            return Uri::from_parts(parts).ok();
        }
        let (scheme, path) = (scheme?, path?);
        let is_asterisk = path.as_str() == "*" && *method == Method::OPTIONS;
        if !is_asterisk && !path.as_str().starts_with('/') {
            return None;
        }
        if authority.is_some() {
            parts.scheme = Some(scheme);
            parts.authority = authority;
        } else if scheme != Scheme::HTTPS && scheme != Scheme::HTTP {
            // Without an authority there is no place for it in a `Uri`, and it must not be overlooked.
            return None;
        }
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }
}

fn once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), SectionFault> {
    if slot.is_some() || value.is_none() {
        return Err(SectionFault::Malformed);
    }
    *slot = value;
    Ok(())
}

impl Fields {
    fn take(&mut self, name: &Name, value: Value) -> Result<(), SectionFault> {
        self.begun = true;
        let malformed = || SectionFault::Malformed;
        // RFC 9114 §4.2: no upper case.
        let name = HeaderName::from_lowercase(name.as_bytes()).map_err(|_| malformed())?;
        let is_trailers = name == header::TE && value.as_bytes().eq_ignore_ascii_case(b"trailers");
        if is_of_connection(&name) && !is_trailers {
            return Err(malformed());
        }
        // RFC 9114 §4.2 with RFC 9110 §5.5: spaces around a value are no part of it, and HTTP/1.1 would lose them.
        if matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return Err(malformed());
        }
        let value = HeaderValue::from_maybe_shared(value.into_bytes()).map_err(|_| malformed())?;
        // It has no room for more than 32,768 names.
        self.map.try_append(name, value).map(|_| ()).map_err(|_| SectionFault::TooLarge)
    }
}

/// What `Content-Length` says; there is one, or none, and it is a number and nothing else.
fn declared_length(fields: &HeaderMap) -> Result<Option<u64>, SectionFault> {
    let mut values = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        (None, _) | (_, Some(_)) => Err(SectionFault::Malformed),
    }
}

/// The field section of an answer's head.
pub(super) fn write_head(status: StatusCode, fields: &HeaderMap) -> BytesMut {
    let mut section = begin(fields);
    qpack::write(&mut section, ":status", status.as_str().as_bytes(), false);
    write_fields(&mut section, fields);
    section
}

/// A trailer section.
pub(super) fn write_trailers(fields: &HeaderMap) -> BytesMut {
    let mut section = begin(fields);
    write_fields(&mut section, fields);
    section
}

fn begin(fields: &HeaderMap) -> BytesMut {
    let mut section = BytesMut::with_capacity(64 + fields.len() * 48);
    qpack::begin(&mut section);
    section
}

fn write_fields(section: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields.iter().filter(|(name, _)| !is_of_connection(name)) {
        let secret = value.is_sensitive() || *name == header::SET_COOKIE;
        qpack::write(section, name.as_str(), value.as_bytes(), secret);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "api.example"), (":path", "/a?b=c")];

    fn section(fields: &[(&str, &str)]) -> Bytes {
        let mut section = BytesMut::new();
        qpack::begin(&mut section);
        fields.iter().for_each(|(name, value)| qpack::write(&mut section, name, value.as_bytes(), false));
        section.freeze()
    }

    fn head(fields: &[(&str, &str)]) -> Result<(Request<()>, Option<u64>), SectionFault> {
        read_head(section(fields), 1 << 14)
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        GET.into_iter().filter(|(other, _)| *other != name).collect()
    }

    #[test]
    fn a_request_is_what_it_would_be_in_http2() {
        let (request, length) =
            head(&[&GET[..], &[("x-a", "1"), ("x-a", "2"), ("content-length", "7")]].concat()).unwrap();
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_3));
        assert_eq!(request.uri(), "https://api.example/a?b=c");
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(length, Some(7));
    }

    #[test]
    fn pseudo_header_fields_come_once_first_and_all() {
        for name in [":method", ":scheme", ":path"] {
            assert_eq!(head(&without(name)).unwrap_err(), SectionFault::Malformed, "without {name}");
        }
        for twice in GET {
            assert_eq!(head(&[&GET[..], &[twice]].concat()).unwrap_err(), SectionFault::Malformed, "{twice:?} twice");
            let last = [&without(twice.0)[..], &[("x-a", "1"), twice]].concat();
            assert_eq!(head(&last).unwrap_err(), SectionFault::Malformed, "{twice:?} last");
        }
        for unknown in [(":status", "200"), (":protocol", "websocket"), (":", ""), (":other", "")] {
            assert_eq!(head(&[&GET[..], &[unknown]].concat()).unwrap_err(), SectionFault::Malformed, "{unknown:?}");
        }
    }

    #[test]
    fn a_host_may_stand_in_for_the_authority() {
        let (request, _) = head(&[&without(":authority")[..], &[("host", "api.example")]].concat()).unwrap();
        assert_eq!(
            (request.uri().to_string(), &request.headers()["host"]),
            ("/a?b=c".into(), &"api.example".parse().unwrap())
        );
    }

    #[test]
    fn targets_that_could_be_read_otherwise_are_malformed() {
        for path in ["", "a", "/a#b", "http://other/", "*", "/a b", "/\u{7f}"] {
            let fields = [&without(":path")[..], &[(":path", path)]].concat();
            assert_eq!(head(&fields).unwrap_err(), SectionFault::Malformed, "{path:?}");
        }
        for authority in ["", "user@api.example", "user:word@api.example", "a b", "api.example/"] {
            let fields = [&without(":authority")[..], &[(":authority", authority)]].concat();
            assert_eq!(head(&fields).unwrap_err(), SectionFault::Malformed, "{authority:?}");
        }
    }

    #[test]
    fn the_asterisk_is_for_options_alone() {
        let fields = [(":method", "OPTIONS"), (":scheme", "https"), (":authority", "api.example"), (":path", "*")];
        assert_eq!(head(&fields).unwrap().0.uri().path(), "*");
    }

    #[test]
    fn connect_has_an_authority_and_nothing_else() {
        let (request, _) = head(&[(":method", "CONNECT"), (":authority", "api.example:443")]).unwrap();
        assert_eq!(request.uri(), "api.example:443");
        assert_eq!(head(&[(":method", "CONNECT")]).unwrap_err(), SectionFault::Malformed);
        let full = [&without(":method")[..], &[(":method", "CONNECT")]].concat();
        assert_eq!(head(&full).unwrap_err(), SectionFault::Malformed);
    }

    #[test]
    fn fields_of_a_connection_upper_case_and_line_ends_are_malformed() {
        for field in [
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("X-Upper", "1"),
            ("x-a b", "1"),
            ("", "1"),
            ("x-a", "1\r\nx-b: 2"),
            ("x-a", "\0"),
            ("x-a", " 1"),
            ("x-a", "1\t"),
            ("x-a", " "),
        ] {
            assert_eq!(head(&[&GET[..], &[field]].concat()).unwrap_err(), SectionFault::Malformed, "{field:?}");
        }
        assert!(head(&[&GET[..], &[("te", "trailers")]].concat()).is_ok());
    }

    #[test]
    fn a_length_is_one_number() {
        for lengths in [
            &["1", "1"][..],
            &["1", "2"],
            &["1, 1"],
            &[""],
            &["+1"],
            &["-1"],
            &[" 1"],
            &["0x1"],
            &["99999999999999999999"],
        ] {
            let fields: Vec<_> =
                GET.into_iter().chain(lengths.iter().map(|length| ("content-length", *length))).collect();
            assert_eq!(head(&fields).unwrap_err(), SectionFault::Malformed, "{lengths:?}");
        }
    }

    #[test]
    fn trailers_have_no_pseudo_header_fields() {
        let trailers = read_trailers(section(&[("x-sum", "1")]), 1 << 14).unwrap();
        assert_eq!(trailers.get("x-sum").unwrap(), "1");
        for field in [(":path", "/"), (":status", "200"), ("connection", "close")] {
            assert_eq!(read_trailers(section(&[field]), 1 << 14).unwrap_err(), SectionFault::Malformed);
        }
    }

    #[test]
    fn an_answer_has_no_fields_of_a_connection() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("connection", "close"), ("transfer-encoding", "chunked"), ("x-a", "1")] {
            fields.insert(name, value.parse().unwrap());
        }
        let mut names = Vec::new();
        qpack::read(write_head(StatusCode::OK, &fields).freeze(), 1 << 14, |name, _| {
            names.push(String::from_utf8(name.as_bytes().to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(names, [":status", "x-a"]);
    }
}
