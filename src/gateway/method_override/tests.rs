//! What is taken for another method, and what is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use MethodOverride::{Form as FormWay, Header, Json, Query};
use http::header;

use super::*;

fn typed(content_type: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
}

fn seen(found: Result<Option<Override>, ConflictingOverride>) -> Result<Option<Method>, ConflictingOverride> {
    found.map(|found| found.map(|found| found.method))
}

fn resolve(
    honoured: &[MethodOverride],
    taken: &[OverrideHeader],
    query: Option<&str>,
) -> Result<Option<Method>, ConflictingOverride> {
    seen(super::resolve(&Method::POST, honoured, taken, query, None))
}

fn form(headers: &HeaderMap, body: &[u8]) -> Result<Option<Method>, ConflictingOverride> {
    in_body(&Method::POST, &[FormWay], headers, body).map(|found| found.map(|found| found.method))
}

fn in_body(
    said: &Method,
    honoured: &[MethodOverride],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<Override>, ConflictingOverride> {
    let form = form_kind(said, headers, honoured)?.map(|kind| Form { kind, body });
    super::resolve(said, honoured, &[], None, form.as_ref())
}

fn in_form(content_type: &str, body: &str) -> Result<Option<Method>, ConflictingOverride> {
    form(&typed(content_type), body.as_bytes())
}

#[test]
fn header_and_query_overrides_are_found_in_any_case() {
    let mut headers = HeaderMap::new();
    headers.insert("x-http-method", "delete".parse().unwrap());
    let taken = take_headers(&mut headers);
    assert!(headers.is_empty());
    assert_eq!(resolve(&[Header], &taken, None), Ok(Some(Method::DELETE)));
    assert_eq!(resolve(&[Query], &taken, None), Ok(None));
    for query in ["a=1&_method=delete", "_METHOD=Delete", "%5Fmethod=DELETE", "a=1;_method=delete", "_method[]=DELETE"]
    {
        assert_eq!(resolve(&[Query], &[], Some(query)), Ok(Some(Method::DELETE)), "{query}");
    }
    assert_eq!(resolve(&[Query], &[], Some("method=DELETE")), Ok(None));
}

#[test]
fn overrides_that_disagree_are_refused() {
    let header = (HEADERS[0].clone(), HeaderValue::from_static("PUT"));
    assert_eq!(resolve(&[Header, Query], &[header], Some("_method=DELETE")), Err(ConflictingOverride));
    assert_eq!(resolve(&[Query], &[], Some("_method=GET&_method=DELETE")), Err(ConflictingOverride));
    assert_eq!(resolve(&[Query], &[], Some("_method=a b")), Err(ConflictingOverride));
}

#[test]
fn forms_of_both_kinds_are_read() {
    let urlencoded = "application/x-www-form-urlencoded; charset=utf-8";
    assert_eq!(in_form(urlencoded, "a=b&_method=delete"), Ok(Some(Method::DELETE)));
    assert_eq!(in_form("application/json", "_method=delete"), Ok(None));
    for body in [
        "--x\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--x--\r\n",
        "--x\nContent-Disposition: form-data; name=_method\n\ndelete\n--x--\n",
        "--x\r\ncontent-disposition: form-data; NAME='_METHOD'\r\n\r\nDELETE\r\n--x--",
    ] {
        assert_eq!(in_form("multipart/form-data; boundary=\"x\"", body), Ok(Some(Method::DELETE)), "{body}");
    }
    let other = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n_method\r\n--x--\r\n";
    assert_eq!(in_form("multipart/form-data; boundary=x", other), Ok(None));
    assert_eq!(in_form("multipart/form-data", other), Err(ConflictingOverride));
    assert_eq!(in_form("multipart/form-data; boundary=a; boundary=b", other), Err(ConflictingOverride));
}

#[test]
fn a_form_that_frameworks_read_in_two_ways_is_never_taken_for_none() {
    let found = |result| assert_ne!(result, Ok(None));
    for content_type in [
        "application/x-www-form-urlencoded charset=utf-8",
        "application/x-www-form-urlencoded, text/plain",
        "APPLICATION/X-WWW-FORM-URLENCODED",
        "",
    ] {
        assert_eq!(in_form(content_type, "_method=DELETE"), Ok(Some(Method::DELETE)), "{content_type}");
    }
    assert_eq!(form(&HeaderMap::new(), b"_method=DELETE"), Ok(Some(Method::DELETE)));
    assert_eq!(form_kind(&Method::PUT, &HeaderMap::new(), &[FormWay]), Ok(None), "an upload without a type is no form");
    for charset in ["utf-16", "ibm037", "\"utf-7\"", "utf-8; charset=utf-16"] {
        found(in_form(&format!("application/x-www-form-urlencoded; charset={charset}"), "a=b"));
    }
    found(in_form("application/x-www-form-urlencoded; charset*=utf-8''utf-16", "a=b"));
    for name in ["content-encoding", "content_encoding"] {
        let mut headers = typed("application/x-www-form-urlencoded");
        headers.insert(name, HeaderValue::from_static("gzip"));
        found(form(&headers, b"a=b"));
    }
}

#[test]
fn a_boundary_that_parsers_read_in_two_ways_is_refused() {
    for parameters in ["boundary=x,y", "xboundary=x; boundary=y", "boundary= x", "boundary =x", "boundary=x y", ""] {
        assert_eq!(in_form(&format!("multipart/form-data; {parameters}"), ""), Err(ConflictingOverride));
    }
    for parameters in ["boundary=----WebKitFormBoundary7MA4YWxk", "boundary=\"----=_Part_0\"; charset=utf-8"] {
        assert_eq!(in_form(&format!("multipart/form-data; {parameters}"), ""), Ok(None), "{parameters}");
    }
}

#[test]
fn the_head_of_a_part_ends_where_any_parser_thinks_it_does() {
    for part in [
        "Content-Disposition: form-data; name=\"_method\"\n\r\nDELETE",
        "Content-Disposition: form-data; name=\"_method\"\r\n\nDELETE",
        "Content-Disposition: form-data; name=\"_method\"\n \nDELETE",
        "X: a\n\n\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE",
        "Content-Disposition: form-data; name=\"_met\\hod\"\r\n\r\nDELETE",
        "Content-Disposition: form-data; name=\"%5fm%65thod\"\r\n\r\nDELETE",
        "Content-Disposition: form-data; name=\"=?utf-8?q?=5Fmethod?=\"\r\n\r\nDELETE",
        "Content-Disposition: form-data; name*0=_met; name*1=hod\r\n\r\nDELETE",
        "Content-Disposition: form-data; name=\".method\"\r\n\r\nDELETE",
        "Content-Disposition: form-data; name=\"_method\"; x=\"--x\"\r\n\r\nDELETE",
        "Content-Disposition: form-data; name=\"_method\"\r\rDELETE",
    ] {
        let body = format!("--x\r\n{part}\r\n--x--\r\n");
        assert_ne!(in_form("multipart/form-data; boundary=x", &body), Ok(None), "{part:?}");
    }
    let file =
        "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"100%.txt\"\r\n\r\na _method\n\nb\r\n--x--";
    assert_eq!(in_form("multipart/form-data; boundary=x", file), Ok(None));
}

#[test]
fn a_name_that_some_service_takes_for_the_parameter_is_one() {
    let names =
        ["[_method]", "_method]", "[[_method", "][_method", "_method%00x", "%u005fmethod", "X-HTTP-Method-Override"];
    for name in names {
        let said = format!("a=b&{name}=DELETE");
        assert_eq!(resolve(&[Query], &[], Some(&said)), Ok(Some(Method::DELETE)), "{name} in a query");
        assert_eq!(in_form("application/x-www-form-urlencoded", &said), Ok(Some(Method::DELETE)), "{name} in a form");
        let part = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nDELETE\r\n--x--\r\n");
        if !name.contains("%u") {
            assert_eq!(in_form("multipart/form-data; boundary=x", &part), Ok(Some(Method::DELETE)), "{name} in a part");
        }
    }
}

#[test]
fn a_name_that_only_ends_like_the_parameter_is_another() {
    for name in ["payment_method", "shipping-_method", "_methods", "_method_of_payment", "a_x-http-method-override"] {
        assert_eq!(resolve(&[Query], &[], Some(&format!("{name}=card"))), Ok(None), "{name}");
        let part = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\ncard\r\n--x--\r\n");
        assert_eq!(in_form("multipart/form-data; boundary=x", &part), Ok(None), "{name}");
    }
    // The one does not hide the other, and what stands between letters is no letter to a reader that leaves it out.
    for name in ["a\\_method", "a\"_method", "a%20_method", "payment_method\"; name=\"_method", "_method\\a"] {
        let part = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nDELETE\r\n--x--\r\n");
        assert_eq!(in_form("multipart/form-data; boundary=x", &part), Ok(Some(Method::DELETE)), "{name}");
    }
}

#[test]
fn a_member_of_json_is_an_override_where_the_service_looks_there() {
    let json = |content_type: &str, body: &str| in_body(&Method::POST, &[Json], &typed(content_type), body.as_bytes());
    let found = |body: &str| json("application/json", body).map(|found| found.map(|found| found.method));
    for body in [
        r#"{"_method":"delete"}"#,
        r#" {"a": {"b": [1e999, "\\"]}, "_METHOD" : "DELETE"}"#,
        r#"{"\u005fmethod":"DELETE"}"#,
        r#"{"X-HTTP-Method-Override":"DELETE"}"#,
        r#"{"_method":"DELETE","_method":"DELETE"}"#,
    ] {
        assert_eq!(found(body), Ok(Some(Method::DELETE)), "{body}");
    }
    for body in
        ["", " ", "{}", "[]", "1", r#"["_method"]"#, r#"{"a":{"_method":"DELETE"}}"#, r#"{"payment_method":"card"}"#]
    {
        assert_eq!(found(body), Ok(None), "{body}");
    }
    for body in [
        r#"{"_method":"PUT","_method":"DELETE"}"#,
        r#"{"_method":["DELETE"]}"#,
        r#"{"_method":null}"#,
        r#"{"_method":"a b"}"#,
        "{'_method':'DELETE'}",
        r#"{"_method":"DELETE"} {}"#,
        r#"/**/{"_method":"DELETE"}"#,
        "\u{feff}{\"_method\":\"DELETE\"}",
        "{",
    ] {
        assert_eq!(found(body), Err(ConflictingOverride), "{body}");
    }
    assert_eq!(in_body(&Method::POST, &[Json], &typed("application/json"), b"{\"\xff\":1}"), Err(ConflictingOverride));
    for content_type in ["text/json", "application/vnd.api+json; charset=utf-8", "APPLICATION/JSON"] {
        assert!(json(content_type, r#"{"_method":"PUT"}"#).unwrap().is_some(), "{content_type}");
    }
    assert_eq!(json("application/json; charset=utf-16", "{}"), Err(ConflictingOverride));
    assert_eq!(json("application/x-www-form-urlencoded", "_method=DELETE"), Ok(None));
    let both = typed("application/json, application/x-www-form-urlencoded");
    assert_eq!(form_kind(&Method::POST, &both, &[FormWay, Json]), Err(ConflictingOverride));
}

#[test]
fn only_what_nobody_reads_otherwise_is_certain() {
    let certain = |said: &Method, query: &str| {
        super::resolve(said, &[Query], &[], Some(query), None).unwrap().unwrap().is_certain_for(&[Query])
    };
    assert!(certain(&Method::POST, "_method=delete") && certain(&Method::POST, "a=b&_method=PUT"));
    for query in [
        "_method=GET",
        "a;_method=PUT",
        "_METHOD=PUT",
        ".method=PUT",
        "_method[]=PUT",
        "_method=%20PUT",
        "X-HTTP-Method-Override=PUT",
    ] {
        assert!(!certain(&Method::POST, query), "{query}");
    }
    assert!(!certain(&Method::GET, "_method=DELETE"));
}

#[test]
fn a_header_is_certain_alone_and_by_its_usual_name() {
    let certain = |fields: &[(usize, &'static str)]| {
        let taken: Vec<_> =
            fields.iter().map(|(at, value)| (HEADERS[*at].clone(), HeaderValue::from_static(value))).collect();
        super::resolve(&Method::POST, &[Header], &taken, None, None).unwrap().unwrap().is_certain_for(&[Header])
    };
    assert!(certain(&[(0, "put")]));
    for fields in [&[(1, "PUT")][..], &[(2, "PUT")], &[(0, "PUT"), (0, "PUT")], &[(0, "PUT"), (1, "PUT")]] {
        assert!(!certain(fields), "{fields:?}");
    }
}

#[test]
fn a_form_is_certain_by_its_very_type() {
    let certain = |content_type: &str, body: &str| {
        let found = in_body(&Method::POST, &[FormWay, Json], &typed(content_type), body.as_bytes());
        found.unwrap().unwrap().is_certain_for(&[FormWay, Json])
    };
    let part = |head: &str| format!("--x\r\n{head}\r\n\r\nPUT\r\n--x--\r\n");
    let usual = part("Content-Disposition: form-data; name=\"_method\"");
    assert!(certain("application/x-www-form-urlencoded; charset=utf-8", "_method=PUT"));
    assert!(certain("multipart/form-data; boundary=x", &usual));
    for (content_type, body) in [
        ("application/x-urlencoded", "_method=PUT"),
        ("", "_method=PUT"),
        ("multipart/mixed; boundary=x", &usual),
        ("multipart/form-data; boundary=x", &part("Content-Disposition: form-data; name=\"_method\"; filename=\"a\"")),
        ("application/json", r#"{"_method":"PUT"}"#),
    ] {
        assert!(!certain(content_type, body), "{content_type} {body}");
    }
}

#[test]
fn what_is_certain_where_one_service_looks_is_not_for_one_that_looks_elsewhere() {
    let found = super::resolve(&Method::POST, &[Query], &[], Some("_method=PUT"), None).unwrap().unwrap();
    assert!(found.is_certain_for(&[Header, Query]) && !found.is_certain_for(&[Header]) && !found.is_certain_for(&[]));
}
