//! GraphQL over HTTP, in every form that services take: JSON, one request or several; the text itself (`application/graphql`); a form;
//! `?query=`. Each text of a request is judged, however it says which of them is meant.

use std::{borrow::Cow, sync::Arc};

use super::{
    Fault, Seen, document, is_idle,
    loose::{Loose, folded},
    text,
};

/// What a text is found under.
const QUERY: &str = "query";
/// What names a text that the service has stored, folded: it may be any.
const STORED: [&str; 13] = [
    "id",
    "docid",
    "documentid",
    "document",
    "doc",
    "queryid",
    "hash",
    "queryhash",
    "sha256hash",
    "persistedquery",
    "persistedqueryid",
    "operationid",
    "key",
];
/// The most requests in one.
const MAX_REQUESTS: usize = 100;

/// Refuses what reaches one of these fields at the root of a mutation.
pub(super) fn judge(fields: &[Arc<str>], seen: &Seen<'_>) -> Result<(), Fault> {
    if is_idle(seen) {
        return Ok(());
    }
    let (body, kind) = text(seen)?;
    // Whatever the type says, what is JSON is read as JSON, too: services differ in what they believe.
    let json = if body.is_empty() { None } else { Loose::read(body) };
    let mut texts: Vec<Cow<'_, str>> = Vec::new();
    if let Some(query) = seen.query {
        parameters(query, &mut texts)?;
    }
    let has = |words: &[&str]| words.iter().any(|word| kind.contains(word));
    if has(&["multipart"]) {
        return Err(Fault::Unreadable("it is in parts"));
    }
    if !body.is_empty() {
        let found_before = texts.len();
        if let Some(json) = &json {
            requests(json, &mut texts)?;
        }
        if has(&["graphql"]) && !has(&["json"]) {
            texts.push(body.into());
        } else if has(&["urlencoded", "url-encoded"]) || (kind.is_empty() && json.is_none()) {
            parameters(body, &mut texts)?;
        }
        if texts.len() == found_before {
            return Err(Fault::Unreadable("its body has no text of a query"));
        }
    }
    if texts.is_empty() {
        return Err(Fault::Unreadable("it has no text of a query"));
    }
    texts.iter().try_for_each(|text| document::judge(fields, text))
}

/// One request, or a list of them.
fn requests<'a>(json: &'a Loose, texts: &mut Vec<Cow<'a, str>>) -> Result<(), Fault> {
    match json {
        Loose::Object(members) => request(members, texts),
        Loose::Array(items) if items.len() <= MAX_REQUESTS => items.iter().try_for_each(|item| match item {
            Loose::Object(members) => request(members, texts),
            Loose::Array(_) | Loose::Text(_) | Loose::Other => {
                Err(Fault::Unreadable("one of its requests is no object"))
            }
        }),
        Loose::Array(_) => Err(Fault::Unreadable("it has more than a hundred requests")),
        Loose::Text(_) | Loose::Other => Err(Fault::Unreadable("its body is no request")),
    }
}

fn request<'a>(members: &'a [(String, Loose)], texts: &mut Vec<Cow<'a, str>>) -> Result<(), Fault> {
    let before = texts.len();
    for (name, value) in members {
        let name = folded(name);
        match value {
            Loose::Text(text) if name == QUERY => texts.push(text.as_str().into()),
            Loose::Object(_) | Loose::Array(_) if name == QUERY => {
                return Err(Fault::Unreadable("its query is no text"));
            }
            Loose::Other if name == QUERY => {}
            Loose::Object(_) | Loose::Array(_) | Loose::Text(_) if STORED.contains(&name.as_str()) => {
                return Err(Fault::Unreadable("it names a stored query"));
            }
            Loose::Object(_) | Loose::Array(_) | Loose::Text(_) | Loose::Other => {}
        }
    }
    if texts.len() == before {
        return Err(Fault::Unreadable("it has no text of a query"));
    }
    Ok(())
}

/// A query string, or a form. Some services end a parameter at `;`, too, so both readings count.
fn parameters<'a>(text: &'a str, texts: &mut Vec<Cow<'a, str>>) -> Result<(), Fault> {
    // `%u0064` is a letter to some.
    if text.contains("%u") || text.contains("%U") {
        return Err(Fault::Unreadable("it has an escape that is none of RFC 3986"));
    }
    take(text.as_bytes(), texts)?;
    if text.contains(';') {
        text.split(';').try_for_each(|part| take(part.as_bytes(), texts))?;
    }
    Ok(())
}

fn take<'a>(text: &'a [u8], texts: &mut Vec<Cow<'a, str>>) -> Result<(), Fault> {
    for (name, value) in url::form_urlencoded::parse(text) {
        // `query[]` is `query` to some.
        let name = folded(name.split('[').next().unwrap_or_default().trim_matches('\0'));
        if name == QUERY {
            texts.push(value);
        } else if STORED.contains(&name.as_str()) {
            return Err(Fault::Unreadable("it names a stored query"));
        }
    }
    Ok(())
}
