//! The method that the upstream will see. A service that honours overrides would otherwise be told DELETE by a request
//! that was judged as POST.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::config::MethodOverride;

/// The header fields that say another method; every framework that honours one honours one of these.
const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// The form field and query parameter that do.
const PARAMETER: &str = "_method";

/// An override header that goes on to a service that honours it.
pub type OverrideHeader = (HeaderName, HeaderValue);

/// Overrides that contradict each other, or that are no method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictingOverride;

/// Takes the override header out of a request's head. It is put back for a service that honours it.
pub fn take_headers(headers: &mut HeaderMap) -> Vec<OverrideHeader> {
    let mut taken = Vec::new();
    for name in &HEADERS {
        if headers.contains_key(name) {
            taken.extend(headers.get_all(name).iter().map(|value| (name.clone(), value.clone())));
            headers.remove(name);
        }
    }
    taken
}

/// The overrides in header, query and form that a service honours, as one method; `None` where there is none.
pub fn resolve(
    honoured: &[MethodOverride],
    taken: &[OverrideHeader],
    query: Option<&str>,
    form: Option<&Form<'_>>,
) -> Result<Option<Method>, ConflictingOverride> {
    let mut found: Option<Method> = None;
    let mut add = |value: &[u8]| -> Result<(), ConflictingOverride> {
        let method = method(value)?;
        match &found {
            Some(known) if *known != method => Err(ConflictingOverride),
            _ => {
                found = Some(method);
                Ok(())
            }
        }
    };
    for way in honoured {
        match way {
            MethodOverride::Header => taken.iter().try_for_each(|(_, value)| add(value.as_bytes()))?,
            MethodOverride::Query => parameters(query.unwrap_or_default().as_bytes(), &mut add)?,
            MethodOverride::Form => match form {
                Some(Form::UrlEncoded(body)) => parameters(body, &mut add)?,
                Some(Form::Multipart { body, boundary }) => multipart(body, boundary, &mut add)?,
                None => {}
            },
        }
    }
    Ok(found)
}

/// Whether a request's body is a form, and must be read before the decision where a service honours overrides in forms.
pub fn is_form(headers: &HeaderMap) -> bool {
    // Several content types, or one that cannot be read, may look like a form to the service.
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(first) = types.next() else { return false };
    types.next().is_some() || media_type(first) != MediaType::Other
}

/// A form body, read whole.
#[derive(Debug)]
pub enum Form<'a> {
    /// `application/x-www-form-urlencoded`
    UrlEncoded(&'a [u8]),
    /// `multipart/form-data` (RFC 7578)
    Multipart {
        /// The body.
        body: &'a [u8],
        /// The boundary, without its dashes.
        boundary: Vec<u8>,
    },
}

impl<'a> Form<'a> {
    /// The form in a body, by its content type. An error where the type is a form's and cannot be read without doubt.
    pub fn read(headers: &HeaderMap, body: &'a [u8]) -> Result<Option<Self>, ConflictingOverride> {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let Some(value) = types.next() else { return Ok(None) };
        if types.next().is_some() {
            return Err(ConflictingOverride);
        }
        match media_type(value) {
            MediaType::UrlEncoded => Ok(Some(Self::UrlEncoded(body))),
            MediaType::Multipart => {
                let boundary = boundary(value.as_bytes()).ok_or(ConflictingOverride)?;
                Ok(Some(Self::Multipart { body, boundary }))
            }
            MediaType::Other => Ok(None),
        }
    }
}

#[derive(PartialEq, Eq)]
enum MediaType {
    UrlEncoded,
    Multipart,
    Other,
}

fn media_type(value: &HeaderValue) -> MediaType {
    let essence = value.as_bytes().split(|b| matches!(b, b';' | b',')).next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        MediaType::UrlEncoded
    } else if essence.len() >= 10 && essence.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/")) {
        MediaType::Multipart
    } else {
        MediaType::Other
    }
}

fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type).ok()?;
    let mut found = None;
    for parameter in text.split(';').skip(1) {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("boundary") {
            let value = value.trim();
            let value = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
            if value.is_empty() || value.contains(['"', '\\']) || found.replace(value).is_some() {
                return None;
            }
        }
    }
    found.map(|value| value.as_bytes().to_vec())
}

/// Frameworks compare the value in any case.
fn method(value: &[u8]) -> Result<Method, ConflictingOverride> {
    Method::from_bytes(&value.trim_ascii().to_ascii_uppercase()).map_err(|_| ConflictingOverride)
}

fn parameters(
    text: &[u8],
    add: &mut impl FnMut(&[u8]) -> Result<(), ConflictingOverride>,
) -> Result<(), ConflictingOverride> {
    // `;` separates parameters too for some servers.
    for part in text.split(|b| *b == b';') {
        for (name, value) in url::form_urlencoded::parse(part) {
            if is_parameter(&name) {
                add(value.as_bytes())?;
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
fn multipart(
    body: &[u8],
    boundary: &[u8],
    add: &mut impl FnMut(&[u8]) -> Result<(), ConflictingOverride>,
) -> Result<(), ConflictingOverride> {
    let delimiter = [b"--", boundary].concat();
    for part in parts(body, &delimiter).skip(1) {
        let (head, content) = match (find(part, b"\r\n\r\n"), find(part, b"\n\n")) {
            (Some(crlf), Some(lf)) if lf < crlf => (part.get(..lf), part.get(lf + 2..)),
            (Some(crlf), _) => (part.get(..crlf), part.get(crlf + 4..)),
            (None, Some(lf)) => (part.get(..lf), part.get(lf + 2..)),
            (None, None) => continue,
        };
        let head = head.unwrap_or_default().to_ascii_lowercase();
        if find(&head, PARAMETER.as_bytes()).is_some() || find(&head, b"name*").is_some() {
            let content = content.unwrap_or_default();
            add(content.strip_suffix(b"\r\n").or_else(|| content.strip_suffix(b"\n")).unwrap_or(content))?;
        }
    }
    Ok(())
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

    fn in_form(content_type: &str, body: &str) -> Result<Option<Method>, ConflictingOverride> {
        let form = Form::read(&typed(content_type), body.as_bytes())?;
        resolve(&[FormWay], &[], None, form.as_ref())
    }

    #[test]
    fn header_and_query_overrides_are_found_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.insert("x-http-method", "delete".parse().unwrap());
        let taken = take_headers(&mut headers);
        assert!(headers.is_empty());
        assert_eq!(resolve(&[Header], &taken, None, None), Ok(Some(Method::DELETE)));
        assert_eq!(resolve(&[Query], &taken, None, None), Ok(None));
        for query in
            ["a=1&_method=delete", "_METHOD=Delete", "%5Fmethod=DELETE", "a=1;_method=delete", "_method[]=DELETE"]
        {
            assert_eq!(resolve(&[Query], &[], Some(query), None), Ok(Some(Method::DELETE)), "{query}");
        }
        assert_eq!(resolve(&[Query], &[], Some("method=DELETE"), None), Ok(None));
    }

    #[test]
    fn overrides_that_disagree_are_refused() {
        let header = (HEADERS[0].clone(), HeaderValue::from_static("PUT"));
        assert_eq!(resolve(&[Header, Query], &[header], Some("_method=DELETE"), None), Err(ConflictingOverride));
        assert_eq!(resolve(&[Query], &[], Some("_method=GET&_method=DELETE"), None), Err(ConflictingOverride));
        assert_eq!(resolve(&[Query], &[], Some("_method=a b"), None), Err(ConflictingOverride));
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
}
