//! The fields that carry API keys: taken out of every request, whatever its route, in every spelling that a service could
//! take for them, so that no key ever reaches a service or a condition. What they are worth is found out later.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName,
    uri::{PathAndQuery, Uri},
};
use smallvec::SmallVec;

use super::{
    Refusal,
    hygiene::fold,
    parameter::{is_called, readings},
};
use crate::{
    config::Server,
    identity::{ApiKeyField, ApiKeyPlace},
    policy::Reason,
    secret::Secret,
};

/// Takes the fields out of a head; its target is changed where one stood in the query.
pub(super) fn take(headers: &mut HeaderMap, uri: &mut Uri, server: &Server) -> Result<Vec<ApiKeyField>, Refusal> {
    let mut found = Vec::new();
    for name in &server.key_headers {
        found.extend(take_header(headers, name));
    }
    if let (false, Some(query)) = (server.key_parameters.is_empty(), uri.query()) {
        let mut rest = query.to_owned();
        for name in &server.key_parameters {
            let (left, field) = split_query(&rest, name);
            if let Some(field) = field {
                rest = left;
                found.push(field);
            }
        }
        if rest.len() != query.len() {
            *uri = with_query(uri, &rest).ok_or_else(|| Refusal::of(Reason::MalformedRequest))?;
        }
    }
    Ok(found)
}

fn take_header(headers: &mut HeaderMap, name: &Arc<str>) -> Option<ApiKeyField> {
    let is_it = |other: &&HeaderName| other.as_str().len() == name.len() && *fold(other.as_str()) == *name.as_bytes();
    let names: SmallVec<[HeaderName; 1]> = headers.keys().filter(is_it).cloned().collect();
    let mut values = names.iter().flat_map(|name| headers.get_all(name));
    let first = values.next()?;
    let value = values.next().is_none().then(|| Secret::new(first.as_bytes()));
    for name in &names {
        headers.remove(name);
    }
    Some(ApiKeyField { place: ApiKeyPlace::Header(name.clone()), value })
}

/// Takes a parameter out of a query: what is left of it, byte for byte, and what was found. Some services split at `;` as
/// well, so that a parameter found only so is taken out, too, and counts as one that can be read in two ways.
pub fn split_query(query: &str, name: &Arc<str>) -> (String, Option<ApiKeyField>) {
    let mut rest = String::with_capacity(query.len());
    let (mut count, mut value) = (0_usize, None);
    for pair in query.split('&') {
        let mut kept = String::new();
        let (mut pieces, mut is_first, mut is_hit) = (0, true, false);
        for piece in pair.split(';') {
            pieces += 1;
            if let Some(found) = value_of(piece, name) {
                count += 1;
                is_hit = true;
                value = Some(found);
                continue;
            }
            if !is_first {
                kept.push(';');
            }
            kept.push_str(piece);
            is_first = false;
        }
        if is_hit && pieces > 1 {
            count += 1;
        }
        if is_hit && is_first {
            continue;
        }
        if !rest.is_empty() {
            rest.push('&');
        }
        rest.push_str(&kept);
    }
    if count == 0 {
        return (query.to_owned(), None);
    }
    let value = value.filter(|_| count == 1).map(Secret::new);
    (rest, Some(ApiKeyField { place: ApiKeyPlace::Parameter(name.clone()), value }))
}

/// The value of a piece, if it is the parameter in any spelling that services take for it.
fn value_of(piece: &str, name: &str) -> Option<Vec<u8>> {
    let mut readings = readings(piece.as_bytes()).into_iter();
    readings.find_map(|(found, value)| is_called(&found, name).then(|| value.into_owned().into_bytes()))
}

fn with_query(uri: &Uri, query: &str) -> Option<Uri> {
    let target = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

    use proptest::prelude::*;

    use super::*;

    fn split(query: &str) -> (String, Option<Option<String>>) {
        let (rest, field) = split_query(query, &"api_key".into());
        let text = |value: &Secret| String::from_utf8(value.expose().to_vec()).unwrap();
        (rest, field.map(|field| field.value.as_ref().map(text)))
    }

    #[test]
    fn one_parameter_is_taken_out_and_the_others_stay_as_they_were() {
        for (query, rest, value) in [
            ("api_key=k", "", "k"),
            ("a=1&api_key=k%2B1&b=%7e;c", "a=1&b=%7e;c", "k+1"),
            ("API-Key=k&a", "a", "k"),
            ("a&api.key[]=k", "a", "k"),
            ("api%5Fkey=k", "", "k"),
            ("api_key", "", ""),
            ("+api_key=k", "", "k"),
        ] {
            assert_eq!(split(query), (rest.to_owned(), Some(Some(value.to_owned()))), "{query}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_taken_out_and_is_no_value() {
        for (query, rest) in [
            ("api_key=k&api_key=k", ""),
            ("api_key=k&a=1&Api_Key=l", "a=1"),
            ("a=1;api_key=k", "a=1"),
            ("api_key=k;a=1&b", "a=1&b"),
            ("api_key[x]=k&api_key[y]=l", ""),
        ] {
            assert_eq!(split(query), (rest.to_owned(), Some(None)), "{query}");
        }
    }

    #[test]
    fn no_spelling_hides_a_parameter() {
        for query in [
            "api_key[]=k",
            "[api_key]=k",
            "%5Bapi.key%5D=k",
            "[[api_key]]=k",
            "api[key=k",
            "api_key]=k",
            "]api_key=k",
            "api_key%00x=k",
            "api%u005fkey=k",
            "api_key.0=k",
            "[api.key.x]=k",
            "?api_key=k",
        ] {
            assert_eq!(split(query), (String::new(), Some(Some("k".to_owned()))), "{query}");
        }
    }

    #[test]
    fn other_queries_are_left_alone() {
        for query in ["", "a=1", "my_api_key=1", "api_keys=1", "a=api_key", "&&", ";", "a=1&;&b"] {
            assert_eq!(split(query), (query.to_owned(), None), "{query}");
        }
    }

    #[test]
    fn headers_are_taken_out_in_every_spelling() {
        let take = |lines: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            let field = take_header(&mut headers, &"x-api-key".into());
            (headers.len(), field.map(|field| field.value.map(|value| value.expose().to_vec())))
        };
        assert_eq!(take(&[("x-api-key", "k"), ("x-api-keys", "l")]), (1, Some(Some(b"k".to_vec()))));
        assert_eq!(take(&[("x_api.key", "k")]), (0, Some(Some(b"k".to_vec()))));
        assert_eq!(take(&[("x-api-key", "")]), (0, Some(Some(Vec::new()))));
        assert_eq!(take(&[("x-api-key", "k"), ("x-api-key", "k")]), (0, Some(None)));
        assert_eq!(take(&[("x-api-key", "k"), ("x_api_key", "l")]), (0, Some(None)));
        assert_eq!(take(&[("accept", "k")]), (1, None));
    }

    proptest! {
        #[test]
        fn nothing_that_is_taken_out_is_left(query in "(api_key|api%5fkey|a|[&;=+.\\[%]|[0-9]){0,12}") {
            let (rest, found) = split(&query);
            if found.is_some() {
                prop_assert_eq!(split(&rest).1, None, "{}", rest);
            } else {
                prop_assert_eq!(rest, query);
            }
        }
    }
}
