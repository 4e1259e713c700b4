//! The method that the upstream will see. A service that honours overrides would otherwise be told DELETE by a request
//! that was judged as POST.

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

/// The ways in which a service honours overrides.
pub(super) type Ways = SmallVec<[MethodOverride; 4]>;

/// What overrides make of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The method that the service will see.
    pub method: Method,
    /// Where it is said so that every service that looks there honours it: a POST that is to be a PUT, PATCH or DELETE, in
    /// the usual spelling. Others may take the request line at its word.
    certain: Ways,
}

impl Override {
    fn new(said: &Method, method: Method, certain: Ways) -> Self {
        let is_usual = *said == Method::POST && [Method::PUT, Method::PATCH, Method::DELETE].contains(&method);
        Self { certain: if is_usual { certain } else { Ways::new() }, method }
    }

    /// Whether a service that honours overrides in these ways is sure to honour this one.
    pub(super) fn is_certain_for(&self, honoured: &[MethodOverride]) -> bool {
        self.certain.iter().any(|way| honoured.contains(way))
    }
}

/// Whether an override stands where, and as, every framework looks for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Usual,
    Lax,
}

impl Spelling {
    fn usual_if(usual: bool) -> Self {
        if usual { Self::Usual } else { Self::Lax }
    }
}

type Add<'a> = dyn FnMut(&[u8], Spelling) -> Result<(), ConflictingOverride> + 'a;

/// The overrides that a service honours in these ways, as one method; `None` where there is none. `said` is the method of the
/// request line, `form` the body where it has to be read.
pub(super) fn resolve(
    said: &Method,
    honoured: &[MethodOverride],
    taken: &[OverrideHeader],
    query: Option<&str>,
    form: Option<&Form<'_>>,
) -> Result<Option<Override>, ConflictingOverride> {
    let mut found: Option<(Method, Ways)> = None;
    for &way in honoured {
        let mut add = |value: &[u8], spelling: Spelling| -> Result<(), ConflictingOverride> {
            let (method, is_plain) = method(value)?;
            let (known, certain) = found.get_or_insert_with(|| (method.clone(), Ways::new()));
            if *known != method {
                return Err(ConflictingOverride);
            }
            if is_plain && spelling == Spelling::Usual && !certain.contains(&way) {
                certain.push(way);
            }
            Ok(())
        };
        match (way, form) {
            // Some look for the first of these names alone, and see a list where it is there twice.
            (MethodOverride::Header, _) => taken.iter().try_for_each(|(name, value)| {
                add(value.as_bytes(), Spelling::usual_if(taken.len() == 1 && *name == HEADERS[0]))
            })?,
            (MethodOverride::Query, _) => parameters(query.unwrap_or_default().as_bytes(), true, &mut add)?,
            (MethodOverride::Form, Some(Form { kind: FormKind::UrlEncoded { is_usual }, body })) => {
                parameters(body, *is_usual, &mut add)?;
            }
            (MethodOverride::Form, Some(Form { kind: FormKind::Multipart { boundary, is_usual }, body })) => {
                multipart::find(body, boundary, *is_usual, &mut add)?;
            }
            (MethodOverride::Json, Some(Form { kind: FormKind::Json, body })) => json::find(body, &mut add)?,
            (MethodOverride::Form | MethodOverride::Json, _) => {}
        }
    }
    Ok(found.map(|(method, certain)| Override::new(said, method, certain)))
}

/// What a service that honours every override takes a request for; `None` where it contradicts itself and is refused. The request's path
/// takes the same steps one by one.
pub fn overridden(said: &Method, headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Option<Method> {
    let taken = take_headers(&mut headers.clone());
    let form = form_kind(said, headers, &MethodOverride::ALL).ok()?.map(|kind| Form { kind, body });
    let found = resolve(said, &MethodOverride::ALL, &taken, query, form.as_ref()).ok()?;
    Some(found.map_or_else(|| said.clone(), |found| found.method))
}

/// Frameworks compare the value in any case, and some without the blanks around it. Whether there are none.
fn method(value: &[u8]) -> Result<(Method, bool), ConflictingOverride> {
    const LONGEST: usize = 32;
    let trimmed = value.trim_ascii();
    if trimmed.len() > LONGEST {
        return Err(ConflictingOverride);
    }
    let method = Method::from_bytes(&trimmed.to_ascii_uppercase()).map_err(|_| ConflictingOverride)?;
    Ok((method, trimmed.len() == value.len()))
}

/// Finds overrides among the parameters of a query, or of a form. `is_usual` says whether everybody takes it for one.
fn parameters(text: &[u8], is_usual: bool, add: &mut Add<'_>) -> Result<(), ConflictingOverride> {
    let is_usual = is_usual && !text.contains(&b';');
    // `;` separates parameters too for some servers.
    for pair in text.split(|b| matches!(b, b'&' | b';')) {
        for (name, value) in readings(pair) {
            if is_parameter(&name) {
                add(value.as_bytes(), Spelling::usual_if(is_usual && name == PARAMETERS[0]))?;
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
