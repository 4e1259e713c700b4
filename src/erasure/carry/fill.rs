//! Values put in the places of templates. What a value may be depends on where it goes, and one that does not fit there makes no
//! request at all: what would be made of it is nothing that anybody asked for.

use serde_json::Value;
use thiserror::Error;

use crate::config::{Part, Placeholder, TargetTemplate, Template};

/// The longest value, in bytes.
pub const MAX_VALUE: usize = 512;
/// The longest text that is made of a template.
const MAX_FILLED: usize = 64 << 10;

/// Where values come from.
pub trait Values {
    /// The value of this name; `None`: there is none.
    fn value(&self, name: &Placeholder) -> Option<&str>;
}

/// Why a template could not be filled. None says the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfit {
    /// There is none.
    #[error("a value of it is missing")]
    Missing,
    /// It is empty.
    #[error("a value of it is empty")]
    Empty,
    /// It is longer than [`MAX_VALUE`], or all of it together is too long.
    #[error("a value of it is too long")]
    TooLong,
    /// It holds control characters.
    #[error("a value of it holds control characters")]
    Control,
    /// It is `.` or `..`, or has such a segment: some service would take it for a step to somewhere else.
    #[error("a value of it would lead to another path")]
    Traversal,
    /// A header holds visible ASCII alone.
    #[error("a value of it cannot stand in a header")]
    NotVisible,
    /// It is no template; the configuration has been checked, so these are terms of another version.
    #[error("it is no template")]
    NotATemplate,
}

/// The text with its values, where nobody interprets it: a string of JSON, an address, a sentence.
pub fn text(template: &Template, values: &impl Values) -> Result<String, Unfit> {
    fill(template, values, |value, text| {
        text.push_str(value);
        Ok(())
    })
}

/// The text with its values, for a header.
pub fn header(template: &Template, values: &impl Values) -> Result<String, Unfit> {
    fill(template, values, |value, text| {
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unfit::NotVisible);
        }
        text.push_str(value);
        Ok(())
    })
}

/// The target with its values: each is in its segment, or is one value of the query.
pub fn target(target: &TargetTemplate, values: &impl Values) -> Result<String, Unfit> {
    let mut made = String::new();
    for segment in &target.segments {
        // As whoever decodes it has it, together with what stands beside the value.
        if segment.fixed().is_none() && traverses(&text(segment, values)?) {
            return Err(Unfit::Traversal);
        }
        made.push('/');
        made.push_str(&encoded(segment, values)?);
    }
    for (at, (name, value)) in target.query.iter().enumerate() {
        made.push(if at == 0 { '?' } else { '&' });
        made.push_str(name);
        if let Some(value) = value {
            made.push('=');
            made.push_str(&encoded(value, values)?);
        }
    }
    if made.len() > MAX_FILLED { Err(Unfit::TooLong) } else { Ok(made) }
}

/// The JSON with values in its strings, by structure: whatever a value has, it is within one string.
pub fn json(body: &Value, values: &impl Values) -> Result<Value, Unfit> {
    Ok(match body {
        Value::String(string) => {
            Value::String(text(&Template::parse(string).map_err(|_| Unfit::NotATemplate)?, values)?)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| json(item, values)).collect::<Result<_, _>>()?),
        Value::Object(members) => {
            let filled = members.iter().map(|(name, value)| Ok((name.clone(), json(value, values)?)));
            Value::Object(filled.collect::<Result<_, Unfit>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => body.clone(),
    })
}

/// The text with each value percent-encoded; what stands in it as text is sent as it is.
fn encoded(template: &Template, values: &impl Values) -> Result<String, Unfit> {
    fill(template, values, |value, text| {
        encode(value, text);
        Ok(())
    })
}

fn fill(
    template: &Template,
    values: &impl Values,
    put: impl Fn(&str, &mut String) -> Result<(), Unfit>,
) -> Result<String, Unfit> {
    let mut filled = String::new();
    for part in template.parts() {
        match part {
            Part::Text(fixed) => filled.push_str(fixed),
            Part::Value(name) => put(usable(values.value(name).ok_or(Unfit::Missing)?)?, &mut filled)?,
        }
        if filled.len() > MAX_FILLED {
            return Err(Unfit::TooLong);
        }
    }
    Ok(filled)
}

/// What holds for values wherever they go.
pub(in crate::erasure) fn usable(value: &str) -> Result<&str, Unfit> {
    match value {
        "" => Err(Unfit::Empty),
        // Nowhere: where no template takes it for a segment, the service may.
        "." | ".." => Err(Unfit::Traversal),
        _ if value.len() > MAX_VALUE => Err(Unfit::TooLong),
        _ if value.chars().any(char::is_control) => Err(Unfit::Control),
        _ => Ok(value),
    }
}

/// RFC 3986 §2.3: all but unreserved characters, so that nothing of a value is a delimiter.
fn encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase();
            text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Whether a service that decodes more often than it should, takes `\` for `/`, or cuts parameters off, would find a `.` or `..`
/// among the segments.
fn traverses(value: &str) -> bool {
    let mut bytes = value.as_bytes().to_vec();
    // What is still encoded after so many rounds is nothing that a service decodes.
    for _ in 0..4 {
        let dots = |segment: &[u8]| {
            let bare = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            matches!(bare, b"." | b"..")
        };
        if bytes.split(|byte| matches!(byte, b'/' | b'\\')).any(dots) {
            return true;
        }
        let decoded = decode(&bytes);
        if decoded == bytes {
            return false;
        }
        bytes = decoded;
    }
    true
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let [first, after @ ..] = rest {
        rest = after;
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        if let (b'%', [high, low, after @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push((high << 4) | low);
            rest = after;
        } else {
            decoded.push(*first);
        }
    }
    decoded
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// One value for every name.
    struct One<'a>(&'a str);

    impl Values for One<'_> {
        fn value(&self, _: &Placeholder) -> Option<&str> {
            Some(self.0)
        }
    }

    struct Nothing;

    impl Values for Nothing {
        fn value(&self, _: &Placeholder) -> Option<&str> {
            None
        }
    }

    fn made(template: &str, value: &str) -> Result<String, Unfit> {
        target(&TargetTemplate::parse(template).unwrap(), &One(value))
    }

    #[test]
    fn a_value_stays_in_its_segment_and_in_its_part_of_the_query() {
        for (value, path, query) in [
            ("42", "/accounts/42/x", "/a?id=42&z=1&f"),
            ("a b", "/accounts/a%20b/x", "/a?id=a%20b&z=1&f"),
            ("a/b", "/accounts/a%2Fb/x", "/a?id=a%2Fb&z=1&f"),
            ("a?b#c", "/accounts/a%3Fb%23c/x", "/a?id=a%3Fb%23c&z=1&f"),
            ("a&admin=1", "/accounts/a%26admin%3D1/x", "/a?id=a%26admin%3D1&z=1&f"),
            ("a;b", "/accounts/a%3Bb/x", "/a?id=a%3Bb&z=1&f"),
            ("auth0|é", "/accounts/auth0%7C%C3%A9/x", "/a?id=auth0%7C%C3%A9&z=1&f"),
            ("{subject}", "/accounts/%7Bsubject%7D/x", "/a?id=%7Bsubject%7D&z=1&f"),
            ("a\\b", "/accounts/a%5Cb/x", "/a?id=a%5Cb&z=1&f"),
            ("...", "/accounts/.../x", "/a?id=...&z=1&f"),
            ("a+b", "/accounts/a%2Bb/x", "/a?id=a%2Bb&z=1&f"),
            ("h://i/4", "/accounts/h%3A%2F%2Fi%2F4/x", "/a?id=h%3A%2F%2Fi%2F4&z=1&f"),
        ] {
            assert_eq!(made("/accounts/{subject}/x", value).unwrap(), path);
            assert_eq!(made("/a?id={subject}&z=1&f", value).unwrap(), query);
        }
    }

    #[test]
    fn a_value_that_is_nothing_or_leads_elsewhere_makes_no_request() {
        let long = "x".repeat(MAX_VALUE + 1);
        for (value, why) in [
            ("", Unfit::Empty),
            (".", Unfit::Traversal),
            ("..", Unfit::Traversal),
            ("a/../b", Unfit::Traversal),
            ("a/..", Unfit::Traversal),
            ("..\\b", Unfit::Traversal),
            ("..;x/b", Unfit::Traversal),
            ("%2e%2E", Unfit::Traversal),
            ("%2e%2e%2fb", Unfit::Traversal),
            ("%252e%252e%252fb", Unfit::Traversal),
            ("a\nb", Unfit::Control),
            ("a\u{0}", Unfit::Control),
            ("a\u{85}", Unfit::Control),
            (&long, Unfit::TooLong),
        ] {
            assert_eq!(made("/accounts/{subject}", value), Err(why), "{value:?}");
        }
        for value in ["", ".", "..", "a\nb", &long] {
            assert!(made("/accounts?id={subject}", value).is_err(), "{value:?}");
            assert!(json(&json!({"id": "{subject}"}), &One(value)).is_err(), "{value:?}");
        }
        assert_eq!(made("/accounts/.{subject}", "%2e"), Err(Unfit::Traversal), "together with its neighbour");
        assert_eq!(target(&TargetTemplate::parse("/a/{subject}").unwrap(), &Nothing), Err(Unfit::Missing));
    }

    #[test]
    fn a_header_takes_visible_ascii_alone() {
        let template = Template::parse_header("Account {subject}").unwrap();
        assert_eq!(header(&template, &One("42")).unwrap(), "Account 42");
        for value in ["a b", "é", "a\u{7f}", "a\r\nX: y", "a\tb"] {
            assert!(header(&template, &One(value)).is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_value_in_json_is_within_one_string_whatever_it_has() {
        let body = json!({"id": "{subject}", "deep": [{"text": "account {subject} {{}}"}, 1, null, true]});
        let value = "\", \"admin\": true, \"x\": \"{deletion}";
        let filled = json(&body, &One(value)).unwrap();
        assert_eq!(filled, json!({"id": value, "deep": [{"text": format!("account {value} {{}}")}, 1, null, true]}));
        assert_eq!(json(&json!("{subject"), &One("x")), Err(Unfit::NotATemplate));
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_segment(any in any::<String>(), plain in "[ -~]{0,12}", dots in "[./%2eE5cC;\\\\]{0,9}") {
            for value in [any, plain, dots] {
                let Ok(made) = made("/accounts/{subject}/data?id={subject}&z=1", &value) else { continue };
                let url = url::Url::parse(&format!("http://host{made}")).unwrap();
                let segments: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!(segments.len(), 3);
                prop_assert_eq!((segments[0], segments[2]), ("accounts", "data"));
                let query: Vec<_> = url.query_pairs().collect();
                prop_assert_eq!(query, [("id".into(), value.as_str().into()), ("z".into(), "1".into())]);
                prop_assert!(url.fragment().is_none());
                prop_assert!(made.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(!traverses(made.split('?').next().unwrap()), "a service that decodes twice");
            }
        }

        #[test]
        fn no_value_becomes_structure(value in any::<String>()) {
            if let Ok(filled) = json(&json!({"a": {"b": "{subject}"}}), &One(&value)) {
                let text = serde_json::to_string(&filled).unwrap();
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"a": {"b": value}}));
            }
        }
    }
}
