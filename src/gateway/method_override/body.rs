//! Bodies in which a method may stand, and how they are read.

use http::{HeaderMap, HeaderValue, Method, header};

use super::{
    ConflictingOverride::{self, Unreadable},
    find,
};
use crate::{config::MethodOverride, gateway::hygiene};

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
    /// `application/x-www-form-urlencoded` and its kin.
    UrlEncoded,
    /// `multipart/form-data` (RFC 7578) and its kin.
    Multipart {
        /// The boundary, without its dashes.
        boundary: Vec<u8>,
    },
    /// JSON (RFC 8259): to some frameworks its members are what a form's fields are.
    Json,
}

/// Whether a request's body may say a method to a service that honours overrides in these ways, so that it must be read before the
/// decision. An error where it may, and services may read it in two ways, or where they may so read the query, by the body's character set.
pub(in crate::gateway) fn form_kind(
    said: &Method,
    headers: &HeaderMap,
    query: Option<&str>,
    honoured: &[MethodOverride],
) -> Result<Option<FormKind>, ConflictingOverride> {
    let looks_into = |way| honoured.contains(&way);
    let (forms, json) = (looks_into(MethodOverride::Form), looks_into(MethodOverride::Json));
    // Some services read the query by the character set of the body.
    let query = looks_into(MethodOverride::Query) && query.is_some_and(|query| !query.is_empty());
    if !forms && !json && !query {
        return Ok(None);
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let first = types.next().map(HeaderValue::as_bytes).unwrap_or_default();
    if types.next().is_some() {
        return Err(Unreadable("there are two Content-Type fields"));
    }
    let lower = first.to_ascii_lowercase();
    let holds = |words: &[&str]| words.iter().any(|word| find(&lower, word.as_bytes()).is_some());
    // Some servers end the type at a space or a comma, so a word anywhere makes a form. Rack takes a POST without any
    // type for one.
    let multipart = forms && holds(&["multipart"]);
    let urlencoded = forms && (holds(&["urlencoded", "url-encoded"]) || (first.is_empty() && *said == Method::POST));
    let json = json && holds(&["json"]);
    let kinds = [multipart, urlencoded, json].into_iter().filter(|it| *it).count();
    if kinds == 0 && !query {
        return Ok(None);
    }
    let lower = std::str::from_utf8(&lower).map_err(|_| Unreadable("the body's type is no text"))?;
    if !is_charset_plain(lower) {
        return Err(Unreadable("the body is in a character set that may write names otherwise"));
    }
    if kinds == 0 {
        return Ok(None);
    }
    if kinds > 1 {
        return Err(Unreadable("the body's type is two kinds of form"));
    }
    if is_encoded(headers) {
        return Err(Unreadable("the form is compressed"));
    }
    Ok(Some(if json {
        FormKind::Json
    } else if urlencoded {
        FormKind::UrlEncoded
    } else {
        let boundary = std::str::from_utf8(first).ok().and_then(boundary);
        FormKind::Multipart {
            boundary: boundary.ok_or(Unreadable("the type has no boundary that every parser reads alike"))?,
        }
    }))
}

/// Whether a body is compressed: some frameworks unpack forms before they read them.
pub(in crate::gateway) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| {
        &*hygiene::fold(name.as_str()) == b"content-encoding" && !value.as_bytes().eq_ignore_ascii_case(b"identity")
    })
}

/// Whether every character set that a type names writes ASCII as ASCII. In EBCDIC or UTF-16, `_method` is other bytes.
pub(in crate::gateway) fn is_charset_plain(lower: &str) -> bool {
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
/// `boundary` wherever it stands, end it at a comma, keep spaces, take quotes away, or decode words (RFC 2047).
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
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+_-./:=".contains(&b);
    let once = (after.is_empty() || after.starts_with(';')) && !after.to_ascii_lowercase().contains(NAME);
    let fits = (1..=70).contains(&value.len()) && value.bytes().all(plain);
    (once && fits).then(|| value.as_bytes().to_vec())
}
