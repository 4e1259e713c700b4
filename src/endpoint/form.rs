//! What a browser sends: a form's fields, and a query's. Each name counts once; what is there twice is as if it were not there.

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, header};
use url::form_urlencoded;

/// The most fields that are read.
const FIELDS: usize = 32;

/// Fields by their names.
#[derive(Default)]
pub struct Fields<'a>(BTreeMap<Cow<'a, str>, Option<Cow<'a, str>>>);

impl<'a> Fields<'a> {
    /// Of `application/x-www-form-urlencoded` text.
    pub fn read(text: &'a [u8]) -> Self {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text).take(FIELDS) {
            fields.entry(name).and_modify(|known| *known = None).or_insert(Some(value));
        }
        Self(fields)
    }

    /// Of a form that was sent; none of a body of another kind.
    pub fn of_form(headers: &HeaderMap, body: &'a [u8]) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") { Self::read(body) } else { Self::default() }
    }

    /// A field; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.whole(name).trim()
    }

    /// A field with the spaces around it, which belong to a password.
    pub fn whole(&self, name: &str) -> &str {
        self.0.get(name).and_then(Option::as_deref).unwrap_or_default()
    }
}

/// The value of a cookie (RFC 6265 §4.2); `None` where it is not there exactly once.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let fields = headers.get_all(header::COOKIE).into_iter().filter_map(|field| field.to_str().ok());
    let mut found = fields.flat_map(|field| field.split(';')).filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    });
    let value = found.next()?;
    found.next().is_none().then_some(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_there_twice_counts_as_none() {
        let fields = Fields::read(b"a=1&b=+x%20&a=2");
        assert_eq!((fields.text("a"), fields.text("b"), fields.text("c")), ("", "x", ""));
    }

    #[test]
    fn a_form_is_read_of_its_own_kind_alone() {
        let mut headers = HeaderMap::new();
        assert_eq!(Fields::of_form(&headers, b"a=1").text("a"), "");
        headers.insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(Fields::of_form(&headers, b"a=1").text("a"), "");
        headers.insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8".parse().unwrap());
        assert_eq!(Fields::of_form(&headers, b"a=1").text("a"), "1");
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_none() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "x=1; __Host-stepgate=abc; y=2".parse().unwrap());
        assert_eq!(cookie(&headers, "__Host-stepgate"), Some("abc"));
        headers.append(header::COOKIE, "__Host-stepgate=def".parse().unwrap());
        assert_eq!(cookie(&headers, "__Host-stepgate"), None);
    }
}
