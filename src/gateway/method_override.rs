//! The method that the upstream will see. A service that honours overrides would otherwise be told DELETE by a request
//! that was judged as POST.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::hygiene;
use crate::config::MethodOverride;

/// The header fields that say another method; every framework that honours one honours one of these.
pub(super) const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// The form field and query parameter that do.
const PARAMETER: &str = "_method";

/// An override header that goes on to a service that honours it.
pub(super) type OverrideHeader = (HeaderName, HeaderValue);

/// Overrides that contradict each other, or that are no method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConflictingOverride;

/// Takes the override header out of a request's head. It is put back for a service that honours it.
pub(super) fn take_headers(headers: &mut HeaderMap) -> Vec<OverrideHeader> {
    let mut taken = Vec::new();
    for name in &HEADERS {
        if headers.contains_key(name) {
            taken.extend(headers.get_all(name).iter().map(|value| (name.clone(), value.clone())));
            headers.remove(name);
        }
    }
    taken
}

/// What overrides make of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The method that the service will see.
    pub method: Method,
    /// Whether every service that honours overrides honours this one: a POST that is to be a PUT, PATCH or DELETE, in
    /// the usual spelling. Others may take the request line at its word.
    pub certain: bool,
}

impl Override {
    fn new(said: &Method, method: Method, usual: bool) -> Self {
        let usual_methods = *said == Method::POST && [Method::PUT, Method::PATCH, Method::DELETE].contains(&method);
        Self { certain: usual && usual_methods, method }
    }
}

/// Whether an override stands where, and as, every framework looks for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Usual,
    Lax,
}

type Add<'a> = dyn FnMut(&[u8], Spelling) -> Result<(), ConflictingOverride> + 'a;

/// The overrides in header, query and form that a service honours, as one method; `None` where there is none. `said` is
/// the method of the request line.
pub(super) fn resolve(
    said: &Method,
    honoured: &[MethodOverride],
    taken: &[OverrideHeader],
    query: Option<&str>,
    form: Option<&Form<'_>>,
) -> Result<Option<Override>, ConflictingOverride> {
    let mut found: Option<(Method, bool)> = None;
    let mut add = |value: &[u8], spelling: Spelling| -> Result<(), ConflictingOverride> {
        let method = method(value)?;
        let usual = spelling == Spelling::Usual;
        match &mut found {
            Some((known, _)) if *known != method => return Err(ConflictingOverride),
            Some((_, before)) => *before |= usual,
            None => found = Some((method, usual)),
        }
        Ok(())
    };
    for way in honoured {
        match way {
            MethodOverride::Header => {
                taken.iter().try_for_each(|(_, value)| add(value.as_bytes(), Spelling::Usual))?;
            }
            MethodOverride::Query => parameters(query.unwrap_or_default().as_bytes(), &mut add)?,
            MethodOverride::Form => match form {
                Some(Form { kind: FormKind::UrlEncoded, body }) => parameters(body, &mut add)?,
                Some(Form { kind: FormKind::Multipart { boundary }, body }) => multipart(body, boundary, &mut add)?,
                None => {}
            },
        }
    }
    Ok(found.map(|(method, usual)| Override::new(said, method, usual)))
}

/// What a service that honours every override takes a request for; `None` where it contradicts itself and is refused. The request's path
/// takes the same steps one by one.
pub fn overridden(said: &Method, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Option<Method> {
    const ALL: [MethodOverride; 3] = [MethodOverride::Header, MethodOverride::Query, MethodOverride::Form];
    let taken = take_headers(&mut headers.clone());
    let form = form_kind(said, headers).ok()?.map(|kind| Form { kind, body });
    let found = resolve(said, &ALL, &taken, query, form.as_ref()).ok()?;
    Some(found.map_or_else(|| said.clone(), |found| found.method))
}

/// A form body, read whole.
#[derive(Debug)]
pub struct Form<'a> {
    /// How to read it.
    pub kind: FormKind,
    /// Its bytes.
    pub body: &'a [u8],
}

/// What kind of form a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormKind {
    /// `application/x-www-form-urlencoded`
    UrlEncoded,
    /// `multipart/form-data` (RFC 7578) and its kin.
    Multipart {
        /// The boundary, without its dashes.
        boundary: Vec<u8>,
    },
}

/// Whether a request's body is a form to any framework, and must be read before the decision where a service honours
/// overrides in forms. An error where it is one and frameworks may read it in two ways.
pub(super) fn form_kind(said: &Method, headers: &HeaderMap) -> Result<Option<FormKind>, ConflictingOverride> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let first = types.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let lower = first.to_ascii_lowercase();
    let holds = |words: &[&str]| words.iter().any(|word| find(&lower, word.as_bytes()).is_some());
    // Some servers end the type at a space or a comma, so a word anywhere makes a form. Rack takes a POST without any
    // type for one.
    let multipart = holds(&["multipart/"]);
    let urlencoded = holds(&["urlencoded", "url-encoded"]) || (first.is_empty() && *said == Method::POST);
    if types.next().is_some() {
        return Err(ConflictingOverride);
    }
    if !multipart && !urlencoded {
        return Ok(None);
    }
    let lower = std::str::from_utf8(&lower).map_err(|_| ConflictingOverride)?;
    if (multipart && urlencoded) || is_encoded(headers) || !is_charset_plain(lower) {
        return Err(ConflictingOverride);
    }
    if urlencoded {
        return Ok(Some(FormKind::UrlEncoded));
    }
    let boundary = std::str::from_utf8(first).ok().and_then(boundary).ok_or(ConflictingOverride)?;
    Ok(Some(FormKind::Multipart { boundary }))
}

/// Whether a body is compressed: some frameworks unpack forms before they read them.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| {
        &*hygiene::fold(name.as_str()) == b"content-encoding" && !value.as_bytes().eq_ignore_ascii_case(b"identity")
    })
}

/// Whether every character set that a type names writes ASCII as ASCII. In EBCDIC or UTF-16, `_method` is other bytes.
pub(super) fn is_charset_plain(lower: &str) -> bool {
    const PLAIN: [&str; 8] =
        ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "latin1", "windows-1252"];
    lower.split("charset").skip(1).all(|rest| {
        let value = rest.trim_start().strip_prefix('=').map(str::trim_start).unwrap_or_default();
        let value = value.strip_prefix('"').unwrap_or(value);
        let end = value.find(['"', ';', ',', ' ', '\t']).unwrap_or(value.len());
        PLAIN.contains(&value.get(..end).unwrap_or_default())
    })
}

/// The boundary of a multipart type (RFC 2046 §5.1.1), if every parser reads the same out of it: some take the first
/// `boundary` wherever it stands, end it at a comma, or keep spaces.
fn boundary(content_type: &str) -> Option<Vec<u8>> {
    const NAME: &str = "boundary";
    let lower = content_type.to_ascii_lowercase();
    let at = lower.find(NAME)?;
    let before = content_type.get(..at)?.trim_end_matches([' ', '\t']);
    if !lower.starts_with("multipart/") || !before.ends_with(';') {
        return None;
    }
    let value = content_type.get(at + NAME.len()..)?.strip_prefix('=')?;
    let (value, after) = match value.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => value.split_at(value.find(';').unwrap_or(value.len())),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"'+_-./:=?".contains(&b);
    let once = (after.is_empty() || after.starts_with(';')) && !after.to_ascii_lowercase().contains(NAME);
    let fits = (1..=70).contains(&value.len()) && value.bytes().all(plain);
    (once && fits).then(|| value.as_bytes().to_vec())
}

/// Frameworks compare the value in any case.
fn method(value: &[u8]) -> Result<Method, ConflictingOverride> {
    const LONGEST: usize = 32;
    let value = value.trim_ascii();
    if value.len() > LONGEST {
        return Err(ConflictingOverride);
    }
    Method::from_bytes(&value.to_ascii_uppercase()).map_err(|_| ConflictingOverride)
}

fn parameters(text: &[u8], add: &mut Add<'_>) -> Result<(), ConflictingOverride> {
    // `;` separates parameters too for some servers.
    for (at, pair) in text.split(|b| *b == b'&').flat_map(|pair| pair.split(|b| *b == b';').enumerate()) {
        for (name, value) in url::form_urlencoded::parse(pair) {
            if is_parameter(&name) {
                let usual = at == 0 && name == PARAMETER && !text.contains(&b';');
                add(value.as_bytes(), if usual { Spelling::Usual } else { Spelling::Lax })?;
            }
        }
    }
    Ok(())
}

/// `_method`, also as PHP and Rails spell it inside brackets, and in any case.
fn is_parameter(name: &str) -> bool {
    let name = name.trim().trim_matches('\0');
    let bare = name.split('[').next().unwrap_or(name);
    bare.eq_ignore_ascii_case(PARAMETER) || bare.replace(['.', ' '], "_").eq_ignore_ascii_case(PARAMETER)
}

/// Finds `_method` among the parts of a multipart body. Whatever looks like one counts: a parser that is stricter than
/// the service's would miss what the service sees.
fn multipart(body: &[u8], boundary: &[u8], add: &mut Add<'_>) -> Result<(), ConflictingOverride> {
    let delimiter = [b"--", boundary].concat();
    for part in parts(body, &delimiter).skip(1) {
        // No parser looks for a head's end behind the first empty line that has both its characters.
        let end = find(part, b"\r\n\r\n").unwrap_or(part.len());
        let head = part.get(..end).unwrap_or_default();
        let Some(at) = names_parameter(head)? else { continue };
        let usual = find(&head.to_ascii_lowercase(), b"; name=\"_method\"").is_some();
        let mut nameless = true;
        for content in contents(part, at, end) {
            nameless = false;
            add(
                content.strip_suffix(b"\r\n").or_else(|| content.strip_suffix(b"\n")).unwrap_or(content),
                if usual { Spelling::Usual } else { Spelling::Lax },
            )?;
        }
        if nameless {
            return Err(ConflictingOverride);
        }
    }
    Ok(())
}

/// Where the head of a part has named `_method`, however it quotes, escapes or breaks the name. An error where the name
/// is in an encoding of its own (RFC 2231, RFC 2047).
fn names_parameter(head: &[u8]) -> Result<Option<usize>, ConflictingOverride> {
    let mut squeezed = Vec::with_capacity(head.len());
    let mut places = Vec::with_capacity(head.len());
    let mut at = 0;
    while let Some(&byte) = head.get(at) {
        let escaped = (byte == b'%').then(|| head.get(at + 1..at + 3)).flatten();
        let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        at += if decoded.is_some() { 3 } else { 1 };
        let byte = decoded.unwrap_or(byte).to_ascii_lowercase();
        if !matches!(byte, b'"' | b'\'' | b'\\' | b'\0') && !byte.is_ascii_whitespace() {
            // PHP makes a name's dots underscores.
            squeezed.push(if byte == b'.' { b'_' } else { byte });
            places.push(at);
        }
    }
    if [&b"name*"[..], b"=?"].iter().any(|strange| find(&squeezed, strange).is_some()) {
        return Err(ConflictingOverride);
    }
    let last = find(&squeezed, PARAMETER.as_bytes()).map(|at| at + PARAMETER.len() - 1);
    Ok(last.and_then(|last| places.get(last).copied()))
}

/// What stands behind each empty line that some parser may take for the end of a head, from `from` to `end`.
fn contents(part: &[u8], from: usize, end: usize) -> impl Iterator<Item = &[u8]> {
    let lines = part.iter().enumerate().skip(from).take_while(move |(at, _)| *at <= end + 1);
    lines.filter(|(_, byte)| **byte == b'\n').filter_map(|(at, _)| {
        let rest = part.get(at + 1..)?;
        let blank = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r'))?;
        (rest.get(blank) == Some(&b'\n')).then(|| rest.get(blank + 1..))?
    })
}

fn parts<'a>(body: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let body = rest?;
        match find(body, delimiter) {
            Some(at) => {
                rest = body.get(at + delimiter.len()..);
                body.get(..at)
            }
            None => rest.take(),
        }
    })
}

/// Where `needle` first stands in `hay`.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = hay.get(from..)?.iter().position(|b| *b == first) {
        if hay.get(from + at..)?.starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use MethodOverride::{Form as FormWay, Header, Query};

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
        let form = form_kind(&Method::POST, headers)?.map(|kind| Form { kind, body });
        seen(super::resolve(&Method::POST, &[FormWay], &[], None, form.as_ref()))
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
        for query in
            ["a=1&_method=delete", "_METHOD=Delete", "%5Fmethod=DELETE", "a=1;_method=delete", "_method[]=DELETE"]
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
        assert_eq!(form_kind(&Method::PUT, &HeaderMap::new()), Ok(None), "an upload without a type is no form");
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
        for parameters in ["boundary=x,y", "xboundary=x; boundary=y", "boundary= x", "boundary =x", "boundary=x y", ""]
        {
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
    fn only_a_post_that_is_to_change_something_is_certain_to_be_overridden() {
        let certain = |said: &Method, query: &str| {
            super::resolve(said, &[Query], &[], Some(query), None).unwrap().unwrap().certain
        };
        assert!(certain(&Method::POST, "_method=delete") && certain(&Method::POST, "a=b&_method=PUT"));
        for query in ["_method=GET", "a;_method=PUT", "_METHOD=PUT", ".method=PUT", "_method[]=PUT"] {
            assert!(!certain(&Method::POST, query), "{query}");
        }
        assert!(!certain(&Method::GET, "_method=DELETE"));
    }
}
