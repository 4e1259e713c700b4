//! Writing JSON by hand where a record is written for every request: no tree, no allocation but the line itself.

use std::fmt::Write as _;

/// Writes the members of one JSON object in the order in which they are given.
#[derive(Debug)]
pub(super) struct Object<'a> {
    text: &'a mut String,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object at the end of `text`.
    pub(super) fn open(text: &'a mut String) -> Self {
        text.push('{');
        Self { text, empty: true }
    }

    /// Closes the object.
    pub(super) fn close(self) {
        self.text.push('}');
    }

    /// Writes a member's name, which needs no escapes; its value is for the caller to append.
    pub(super) fn member(&mut self, name: &str) -> &mut String {
        self.text.push_str(if self.empty { "\"" } else { ",\"" });
        self.empty = false;
        self.text.push_str(name);
        self.text.push_str("\":");
        self.text
    }

    /// Writes a string.
    pub(super) fn string(&mut self, name: &str, value: &str) {
        push_string(self.member(name), value);
    }

    /// Writes a string that may be missing.
    pub(super) fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(name, value);
        }
    }

    /// Writes a number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.member(name).push_str(itoa::Buffer::new().format(value));
    }

    /// Writes a list of strings.
    pub(super) fn strings<T: AsRef<str>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        let text = self.member(name);
        text.push('[');
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            push_string(text, value.as_ref());
        }
        text.push(']');
    }
}

/// Whether all bytes stand in a string as they are. There is no way out in the middle, so that the compiler looks at many at once.
fn is_plain(value: &str) -> bool {
    value.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\') & (byte != 0x7f))
}

/// Appends a JSON string (RFC 8259 §7).
pub(super) fn push_string(text: &mut String, value: &str) {
    text.push('"');
    if is_plain(value) {
        text.push_str(value);
    } else {
        for letter in value.chars() {
            match letter {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                // The delete character is legal, and no terminal should see it.
                '\0'..=' ' | '\u{7f}' if letter != ' ' => {
                    let _ = write!(text, "\\u{:04x}", u32::from(letter));
                }
                _ => text.push(letter),
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_string_is_read_back_as_it_was(value in any::<String>()) {
            let mut text = String::new();
            push_string(&mut text, &value);
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
            prop_assert!(!text.bytes().any(|byte| byte < b' ' || byte == 0x7f));
        }
    }

    #[test]
    fn every_control_character_is_escaped_wherever_it_stands() {
        for letter in '\0'..='\u{80}' {
            for value in
                [letter.to_string(), format!("{letter}{0}", "a".repeat(40)), format!("{0}{letter}b", "a".repeat(40))]
            {
                let mut text = String::new();
                push_string(&mut text, &value);
                assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
                assert!(!text.bytes().any(|byte| byte < b' ' || byte == 0x7f), "{letter:?}");
            }
        }
    }

    #[test]
    fn an_object_is_what_a_parser_expects() {
        let mut text = String::new();
        let mut object = Object::open(&mut text);
        object.string("a", "x\"y");
        object.maybe("none", None);
        object.number("n", 7);
        object.strings("l", ["p", "q"]);
        object.close();
        assert_eq!(text, r#"{"a":"x\"y","n":7,"l":["p","q"]}"#);
    }
}
