//! Requests that say another method than their first line does.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use stepgate::gateway::overridden;

const URL_ENCODED: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data; boundary=XX";

/// What a service that honours every override takes a POST for, if it is not refused.
fn taken_for(fields: &[(HeaderName, &[u8])], query: &str, body: &[u8]) -> Option<Method> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    overridden(&Method::POST, &headers, Some(query), body)
}

/// Whatever stands beside a field that makes a POST a DELETE, it is taken for one or refused: in a query, in forms of both kinds, in JSON,
/// in the fields of a head, and by types of bodies that are read as forms. What is plain is taken for one.
pub fn method_override(data: &[u8]) {
    beside_plain(data);
    beside_hostile(data);
}

/// Only letters stand beside the override, so nothing is refused.
fn beside_plain(data: &[u8]) {
    let word: String = data.iter().take(64).map(|byte| char::from(b'a' + byte % 26)).collect();
    let case =
        |at: usize, c: char| if data.get(at).is_some_and(|byte| byte & 32 != 0) { c.to_ascii_lowercase() } else { c };
    let delete: String = "DELETE".chars().enumerate().map(|(at, c)| case(at, c)).collect();
    let form = |kind: &str, body: String| taken_for(&[(header::CONTENT_TYPE, kind.as_bytes())], "", body.as_bytes());
    let part = |name: &str, content: &str| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    };
    let field = HeaderName::from_static("x-http-method-override");
    for found in [
        form(URL_ENCODED, format!("z{word}={word}&_method={delete}&z={word}")),
        form(MULTIPART, format!("{}{}{}--XX--", part("z", &word), part("_method", &delete), part("y", &word))),
        form(JSON, format!(r#"{{"z{word}":"{word}","_method":"{delete}","z":["{word}"]}}"#)),
        taken_for(&[(field, delete.as_bytes())], "", b""),
        taken_for(&[], &format!("z{word}={word}&_method={delete}"), word.as_bytes()),
    ] {
        assert_eq!(found, Some(Method::DELETE), "{word} {delete}");
    }
    for left in [
        form(URL_ENCODED, format!("z{word}={delete}")),
        form(MULTIPART, format!("{}--XX--", part(&format!("z{word}_method"), &delete))),
        form(JSON, format!(r#"{{"z{word}":{{"_method":"{delete}"}}}}"#)),
    ] {
        assert_eq!(left, Some(Method::POST), "{word} {delete}");
    }
}

fn beside_hostile(data: &[u8]) {
    let found = |method: Option<Method>, how: &str| {
        let refused = method.is_none() && !data.is_empty();
        assert!(refused || method == Some(Method::DELETE), "{method:?}: {how}");
    };
    let form = |kind: &str, body: &[u8]| taken_for(&[(header::CONTENT_TYPE, kind.as_bytes())], "", body);
    for kind in [URL_ENCODED, MULTIPART, "text/plain"] {
        form(kind, data);
    }
    let fits = |between: &[u8]| [data, between].concat();
    let then = |before: &[u8]| [before, data].concat();
    found(form(URL_ENCODED, &fits(b"&_method=DELETE")), "the last of a form");
    for name in [
        "[_method]",
        "][_method",
        "_method[]",
        "%5B_method",
        "_method%00x",
        "_method.0",
        "?_method",
        ".method",
        "%u005fmethod",
        "x-http-method-override",
    ] {
        let parameter = format!("&{name}=DELETE");
        found(form(URL_ENCODED, &fits(parameter.as_bytes())), name);
    }
    form(JSON, data);
    if !data.is_empty() {
        found(form(JSON, &[b"{\"a\":", data, b",\"_method\":\"DELETE\"}"].concat()), "the last member");
        found(form(JSON, &[b"{\"_method\":\"DELETE\",\"a\":", data, b"}"].concat()), "the first member");
    }
    found(form(URL_ENCODED, &then(b"_method=delete&")), "the first of a form");
    const PART: &[u8] = b"--XX\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--XX";
    found(form(MULTIPART, &fits(&[b"\r\n", PART, b"--\r\n"].concat())), "the last part");
    let (head, end) = (&b"\r\nA: b\r\n"[..], &b"\r\n--XX--"[..]);
    found(form(MULTIPART, &[PART, head, b"\r\n", data, end].concat()), "the part before another");
    found(form(MULTIPART, &[PART, head, data, b"\r\n\r\n", end].concat()), "the part before a head");
    let delete = b"_method=DELETE".as_slice();
    found(taken_for(&[(header::CONTENT_TYPE, &then(b"application/x-www-form-urlencoded;"))], "", delete), "a type");
    let field = HeaderName::from_static("x-http-method-override");
    let twice = taken_for(&[(field.clone(), data), (field, b"DELETE")], "", b"");
    assert!(twice.as_ref().is_none_or(|method| *method == Method::DELETE), "{twice:?}: a field");
    if let Ok(text) = std::str::from_utf8(data) {
        found(taken_for(&[], &format!("{text}&_method=DELETE"), b""), "the last of a query");
        found(taken_for(&[], &format!("_method=DELETE&{text}"), b""), "the first of a query");
    }
}
