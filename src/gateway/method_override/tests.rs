//! What is taken for another method, and what is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

use MethodOverride::{Form as FormWay, Header, Json, Query};
use http::header;

use super::*;

/// With any text: [`plain`].
const UNREADABLE: ConflictingOverride = ConflictingOverride::Unreadable("");

fn plain<T>(result: Result<T, ConflictingOverride>) -> Result<T, ConflictingOverride> {
    result.map_err(|fault| match fault {
        ConflictingOverride::Unreadable(_) => UNREADABLE,
        ConflictingOverride::Differing | ConflictingOverride::NoMethod => fault,
    })
}

fn kind_of(
    said: &Method,
    headers: &HeaderMap,
    query: Option<&str>,
    honoured: &[MethodOverride],
) -> Result<Option<FormKind>, ConflictingOverride> {
    plain(form_kind(said, headers, query, honoured))
}

fn typed(content_type: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
}

fn resolve(
    honoured: &[MethodOverride],
    taken: &[OverrideHeader],
    query: Option<&str>,
) -> Result<Option<Method>, ConflictingOverride> {
    super::resolve(honoured, taken, query, None)
}

fn form(headers: &HeaderMap, body: &[u8]) -> Result<Option<Method>, ConflictingOverride> {
    in_body(&[FormWay], headers, body)
}

fn in_body(
    honoured: &[MethodOverride],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<Method>, ConflictingOverride> {
    let form = kind_of(&Method::POST, headers, None, honoured)?.map(|kind| Form { kind, body });
    plain(super::resolve(honoured, &[], None, form.as_ref()))
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
    assert_eq!(resolve(&[Header, Query], &[header], Some("_method=DELETE")), Err(ConflictingOverride::Differing));
    assert_eq!(resolve(&[Query], &[], Some("_method=GET&_method=DELETE")), Err(ConflictingOverride::Differing));
    assert_eq!(resolve(&[Query], &[], Some("_method=a b")), Err(ConflictingOverride::NoMethod));
}

#[test]
fn forms_of_both_kinds_are_read() {
    let urlencoded = "application/x-www-form-urlencoded; charset=utf-8";
    assert_eq!(in_form(urlencoded, "a=b&_method=delete"), Ok(Some(Method::DELETE)));
    assert_eq!(in_form("application/json", "_method=delete"), Ok(None));
    for body in [
        "--x\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=_method\r\n\r\ndelete\r\n--x--\r\n",
        "\r\n--x\r\ncontent-disposition: form-data; NAME='_METHOD'\r\nX: y\r\n\r\nDELETE\r\n--x--",
    ] {
        assert_eq!(in_form("multipart/form-data; boundary=\"x\"", body), Ok(Some(Method::DELETE)), "{body}");
    }
    let other = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n_method\r\n--x--\r\n";
    assert_eq!(in_form("multipart/form-data; boundary=x", other), Ok(None));
    assert_eq!(in_form("multipart/form-data", other), Err(UNREADABLE));
    assert_eq!(in_form("multipart/form-data; boundary=a; boundary=b", other), Err(UNREADABLE));
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
    assert_eq!(
        form_kind(&Method::PUT, &HeaderMap::new(), None, &[FormWay]),
        Ok(None),
        "an upload without a type is no form"
    );
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
    for parameters in [
        "boundary=x,y",
        "xboundary=x; boundary=y",
        "boundary= x",
        "boundary =x",
        "boundary=x y",
        "boundary='x'",
        "boundary=\"=?utf-8?q?x?=\"",
        "",
    ] {
        assert_eq!(in_form(&format!("multipart/form-data; {parameters}"), ""), Err(UNREADABLE));
    }
    for content_type in ["multipart; boundary=x", "multipart", "x-multipart/form-data; boundary=x"] {
        assert_eq!(in_form(content_type, ""), Err(UNREADABLE), "{content_type}");
    }
    for parameters in ["boundary=----WebKitFormBoundary7MA4YWxk", "boundary=\"----=_Part_0\"; charset=utf-8"] {
        assert_eq!(in_form(&format!("multipart/form-data; {parameters}"), ""), Ok(None), "{parameters}");
    }
}

#[test]
fn a_part_that_parsers_take_apart_in_two_ways_is_refused() {
    const NAMED: &str = "Content-Disposition: form-data; name=\"_method\"";
    let refused = |body: &str| {
        assert_eq!(in_form("multipart/form-data; boundary=x", body), Err(UNREADABLE), "{body:?}");
    };
    for part in [
        format!("{NAMED}\n\r\nDELETE"),
        format!("{NAMED}\r\n\nDELETE"),
        format!("{NAMED}\n \nDELETE"),
        format!("{NAMED}\r\rDELETE"),
        format!("{NAMED}; x=\"--x\"\r\n\r\nDELETE"),
        NAMED.to_owned(),
        format!("{NAMED}\r\n"),
        format!("{NAMED}\0\r\n\r\nDELETE"),
        format!("X: a\n\n\r\n{NAMED}\r\n\r\nDELETE"),
        // Some take an empty line before a head away.
        format!("\r\n{NAMED}\r\n\r\nDELETE"),
        format!(" \r\n{NAMED}\r\n\r\nDELETE"),
        format!("X: a\r\n {NAMED}\r\n\r\nDELETE"),
        // Others cut off what is behind so many bytes.
        format!("{NAMED}; filename=\"{}\"\r\n\r\nDELETE", "a".repeat(4097 - NAMED.len() - 13)),
        format!("X: {}\r\n{NAMED}\r\n\r\nDELETE", "a".repeat(4096)),
        // And others look into the parts of a part.
        format!("Content-Type: Multipart/mixed; boundary=y\r\n\r\n--y\r\n{NAMED}\r\n\r\nDELETE\r\n--y--"),
        "Content-Disposition: form-data; name=\"=?utf-8?q?=5Fmethod?=\"\r\n\r\nDELETE".to_owned(),
        "Content-Disposition: form-data; name*0=_met; name*1=hod\r\n\r\nDELETE".to_owned(),
        "Content-Disposition: form-data; x=\"file\"name*=utf-8''%5fmethod\r\n\r\nDELETE".to_owned(),
    ] {
        refused(&format!("--x\r\n{part}\r\n--x--\r\n"));
    }
    let part = format!("--x\r\n{NAMED}\r\n\r\nDELETE\r\n");
    for body in [
        format!("a{part}--x--"),
        format!("a\r\n{part}--x--"),
        format!("--x--\r\n{part}--x--"),
        part.replace("\r\n", "\n"),
        part.clone(),
        format!("{part}--x"),
        format!("{part}--xy--"),
        format!("{}--x--", part.trim_end()),
        "x".to_owned(),
    ] {
        refused(&body);
    }
}

#[test]
fn a_name_is_found_however_it_is_escaped_and_a_file_may_be_called_what_it_likes() {
    let part = |field: &str, content: &str| {
        let body = format!("--x\r\nContent-Disposition: form-data; {field}\r\n\r\n{content}\r\n--x--\r\n");
        in_form("multipart/form-data; boundary=x", &body)
    };
    for name in ["_met\\hod", "%5fm%65thod", ".method", "_method.0"] {
        assert_eq!(part(&format!("name=\"{name}\""), "DELETE"), Ok(Some(Method::DELETE)), "{name}");
    }
    for field in [
        "name=\"f\"; filename=\"100%.txt\"",
        "name=\"f\"; filename=\"Who=?.txt\"",
        "name=\"f\"; filename=\"a.txt\"; filename*=UTF-8''%c3%a4.txt",
    ] {
        assert_eq!(part(field, "a _method\n\nb\r\n\r\n\r\r\0"), Ok(None), "{field}");
    }
}

#[test]
fn what_browsers_and_other_clients_send_is_read() {
    let field = "Content-Disposition: form-data; name=\"_method\"\r\n\r\nput\r\n";
    let long = format!("Content-Disposition: form-data; name=\"g\"; filename=\"{}\"", "a".repeat(4096 - 53));
    assert_eq!(long.len(), 4096);
    let files = [
        // Firefox, curl; .NET's HttpClient, which quotes the boundary and no names; Go; one without a type or content.
        "Content-Disposition: form-data; name=\"f\"; filename=\"\u{e4}%22.png\"\r\nContent-Type: image/png\r\n\r\n\u{1}\0\r\n\r\n\n-",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=f; filename=a.txt; filename*=utf-8''a.txt\r\n\r\n",
        "Content-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n--\r\n--y",
        "content-disposition: form-data; name=\"f\"; filename=\"\"\r\n\r\n",
        &format!("{long}\r\n\r\n"),
    ];
    for file in files {
        for (content_type, x) in
            [("boundary=----WebKitFormBoundary7MA4", "----WebKitFormBoundary7MA4"), ("boundary=\"x\"", "x")]
        {
            let body = format!("--{x}\r\n{file}\r\n--{x}\r\n{field}--{x}--\r\n");
            let found = in_form(&format!("multipart/form-data; {content_type}"), &body);
            assert_eq!(found, Ok(Some(Method::PUT)), "{body}");
        }
    }
}

#[test]
fn a_body_is_read_once_whatever_is_in_it() {
    // A reader that begins anew at each line, mark or part takes minutes for one of these, and the test does not end in time.
    const MANY: usize = 512 * 1024;
    let named = "--x\r\nContent-Disposition: form-data; name=\"_method\"";
    for body in [
        format!("{named}{}DELETE", "\n".repeat(MANY)),
        format!("{named}{}DELETE", "\r\n".repeat(MANY / 2)),
        format!("{named}\r\n\r\n{}", "\r\n".repeat(MANY / 2)),
        format!("--x\r\n{}", "a:\r\n".repeat(MANY / 4)),
        format!("--x\r\n{}", "\r\n".repeat(MANY / 2)),
    ] {
        assert_eq!(in_form("multipart/form-data; boundary=x", &body), Err(UNREADABLE));
    }
    let blanks = format!("{named}\r\n\r\n{}\r\n--x--", " ".repeat(MANY));
    assert_eq!(in_form("multipart/form-data; boundary=x", &blanks), Err(ConflictingOverride::NoMethod));
    let parts = "--x\r\nA: name=_method\r\n\r\nPUT\r\n".repeat(MANY / 32) + "--x--";
    assert_eq!(in_form("multipart/form-data; boundary=x", &parts), Ok(Some(Method::PUT)));
    let spaces = "+".repeat(MANY / 2);
    for piece in ["\0", "%", "%u", "[", "?", ".", "&", "_method", "_method=PUT&", "%20", "+"] {
        for before in ["", "[", &spaces] {
            let body = format!("{before}{}", piece.repeat(MANY / 2 / piece.len()));
            let found = in_form("application/x-www-form-urlencoded", &body);
            assert_eq!(found, Ok(Some(Method::PUT).filter(|_| piece.contains("PUT"))), "{piece}");
        }
    }
}

#[test]
fn a_character_set_that_hides_a_name_is_refused_wherever_the_name_may_be() {
    let kind = |content_type: &str, query: &'static str, honoured: &[MethodOverride]| {
        kind_of(&Method::POST, &typed(content_type), Some(query), honoured)
    };
    for content_type in ["text/plain; charset=utf-7", "application/xml; charset=ibm037", "a/b; charset=utf-16"] {
        assert_eq!(kind(content_type, "+AF8-method=DELETE", &[Query]), Err(UNREADABLE), "{content_type}");
        assert_eq!(kind(content_type, "", &[Query]), Ok(None), "{content_type}");
        assert_eq!(kind(content_type, "a=b", &[Header, FormWay, Json]), Ok(None), "{content_type}");
    }
    assert_eq!(kind("text/plain; charset=utf-8", "a=b", &[Query]), Ok(None));
    for mark in MARKS {
        let body = [mark, b"_method=DELETE"].concat();
        assert_eq!(form(&typed("application/x-www-form-urlencoded"), &body), Err(UNREADABLE));
    }
}

#[test]
fn a_name_that_some_service_takes_for_the_parameter_is_one() {
    let names = [
        "[_method]",
        "_method]",
        "[[_method",
        "][_method",
        "_method%00x",
        "_method.0",
        "?_method",
        "%u005fmethod",
        "X-HTTP-Method-Override",
    ];
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
    let json = |content_type: &str, body: &str| in_body(&[Json], &typed(content_type), body.as_bytes());
    let found = |body: &str| json("application/json", body);
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
    assert_eq!(found(r#"{"_method":"PUT","_method":"DELETE"}"#), Err(ConflictingOverride::Differing));
    for body in [r#"{"_method":["DELETE"]}"#, r#"{"_method":null}"#, r#"{"_method":"a b"}"#] {
        assert_eq!(found(body), Err(ConflictingOverride::NoMethod), "{body}");
    }
    for body in [
        "{'_method':'DELETE'}",
        r#"{"_method":"DELETE"} {}"#,
        r#"/**/{"_method":"DELETE"}"#,
        "\u{feff}{\"_method\":\"DELETE\"}",
        "{",
    ] {
        assert_eq!(found(body), Err(UNREADABLE), "{body}");
    }
    assert_eq!(in_body(&[Json], &typed("application/json"), b"{\"\xff\":1}"), Err(UNREADABLE));
    for content_type in ["text/json", "application/vnd.api+json; charset=utf-8", "APPLICATION/JSON"] {
        assert!(json(content_type, r#"{"_method":"PUT"}"#).unwrap().is_some(), "{content_type}");
    }
    assert_eq!(json("application/json; charset=utf-16", "{}"), Err(UNREADABLE));
    assert_eq!(json("application/x-www-form-urlencoded", "_method=DELETE"), Ok(None));
    let both = typed("application/json, application/x-www-form-urlencoded");
    assert_eq!(kind_of(&Method::POST, &both, None, &[FormWay, Json]), Err(UNREADABLE));
}

#[test]
fn a_header_is_usual_alone_by_its_first_name_and_without_blanks() {
    let usual = |fields: &[(usize, &'static str)]| {
        let taken: Vec<_> =
            fields.iter().map(|(at, value)| (HEADERS[*at].clone(), HeaderValue::from_static(value))).collect();
        is_usual(&taken)
    };
    assert!(usual(&[]) && usual(&[(0, "put")]));
    for fields in
        [&[(1, "PUT")][..], &[(2, "PUT")], &[(0, "PUT"), (0, "PUT")], &[(0, "PUT"), (1, "PUT")], &[(0, " PUT")]]
    {
        assert!(!usual(fields), "{fields:?}");
    }
}
