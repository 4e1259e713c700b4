//! The method that overrides make of a request, and that the upstream may act on. A service that honours them would otherwise be told
//! DELETE by a request that was judged as POST.

mod body;
mod json;
mod multipart;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

pub use self::body::{Form, FormKind};
pub(super) use self::body::{form_kind, is_charset_plain, is_encoded};
use super::parameter::{is_called, readings};
use crate::config::MethodOverride;

/// The header fields that say another method; every framework that honours one honours one of these.
pub(super) const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// The form fields, query parameters and members of JSON that do. The second is ASP.NET's.
const PARAMETERS: [&str; 2] = ["_method", "x-http-method-override"];

/// What a text may begin with to say how it is encoded: UTF-8, or UTF-16 in either order (Unicode, byte order mark).
const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// An override header that goes on to a service that honours it.
pub(super) type OverrideHeader = (HeaderName, HeaderValue);

/// Why nobody can say which method a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConflictingOverride {
    /// Overrides that contradict each other.
    #[error("two overrides differ")]
    Differing,
    /// An override that is no method.
    #[error("an override is no method")]
    NoMethod,
    /// A body, or a query by its character set, that services read in two ways, so that one could hide in it.
    #[error("an override could hide: {0}")]
    Unreadable(&'static str),
}

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

/// The ways in which a service honours overrides.
pub(super) type Ways = SmallVec<[MethodOverride; 4]>;

/// Takes note of what an override says.
type Add<'a> = dyn FnMut(&[u8]) -> Result<(), ConflictingOverride> + 'a;

/// The overrides that a service honours in these ways, as one method; `None` where there is none. `form` is the body where it has to be
/// read.
pub(super) fn resolve(
    honoured: &[MethodOverride],
    taken: &[OverrideHeader],
    query: Option<&str>,
    form: Option<&Form<'_>>,
) -> Result<Option<Method>, ConflictingOverride> {
    let mut found: Option<Method> = None;
    let mut add = |value: &[u8]| {
        let method = method(value)?;
        if *found.get_or_insert_with(|| method.clone()) != method {
            return Err(ConflictingOverride::Differing);
        }
        Ok(())
    };
    for &way in honoured {
        match (way, form) {
            (MethodOverride::Header, _) => taken.iter().try_for_each(|(_, value)| add(value.as_bytes()))?,
            (MethodOverride::Query, _) => parameters(query.unwrap_or_default().as_bytes(), &mut add)?,
            (MethodOverride::Form, Some(Form { kind: FormKind::UrlEncoded, body })) => {
                // Some take a mark of an encoding away, and read what is behind it by that.
                if MARKS.iter().any(|mark| body.starts_with(mark)) {
                    return Err(ConflictingOverride::Unreadable("a form begins with a byte order mark"));
                }
                parameters(body, &mut add)?;
            }
            (MethodOverride::Form, Some(Form { kind: FormKind::Multipart { boundary }, body })) => {
                multipart::find(body, boundary, &mut add)?;
            }
            (MethodOverride::Json, Some(Form { kind: FormKind::Json, body })) => json::find(body, &mut add)?,
            (MethodOverride::Form | MethodOverride::Json, _) => {}
        }
    }
    Ok(found)
}

/// Whether there is at most one override header, by the usual name and without blanks.
pub(super) fn is_usual(taken: &[OverrideHeader]) -> bool {
    match taken {
        [] => true,
        [(name, value)] => *name == HEADERS[0] && value.as_bytes().trim_ascii() == value.as_bytes(),
        _ => false,
    }
}

/// What a service that honours every override takes a request for; `None` where it contradicts itself and is refused. The request's path
/// takes the same steps one by one.
pub fn overridden(said: &Method, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Option<Method> {
    let taken = take_headers(&mut headers.clone());
    let form = form_kind(said, headers, query, &MethodOverride::ALL).ok()?.map(|kind| Form { kind, body });
    let found = resolve(&MethodOverride::ALL, &taken, query, form.as_ref()).ok()?;
    Some(found.unwrap_or_else(|| said.clone()))
}

/// Frameworks compare the value in any case, and some without the blanks around it.
fn method(value: &[u8]) -> Result<Method, ConflictingOverride> {
    const LONGEST: usize = 32;
    let value = value.trim_ascii();
    if value.len() > LONGEST {
        return Err(ConflictingOverride::NoMethod);
    }
    Method::from_bytes(&value.to_ascii_uppercase()).map_err(|_| ConflictingOverride::NoMethod)
}

/// Finds overrides among the parameters of a query, or of a form.
fn parameters(text: &[u8], add: &mut Add<'_>) -> Result<(), ConflictingOverride> {
    // `;` separates parameters too for some servers.
    for pair in text.split(|b| matches!(b, b'&' | b';')) {
        for (name, value) in readings(pair) {
            if is_parameter(&name) {
                add(value.as_bytes())?;
            }
        }
    }
    Ok(())
}

fn is_parameter(name: &str) -> bool {
    PARAMETERS.iter().any(|parameter| is_called(name, parameter))
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
mod tests;
