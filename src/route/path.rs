//! The only path normaliser. What it accepts is judged and forwarded byte for byte; what it doubts, it refuses.
//!
//! Three forms of one path:
//!
//! - **normal**: the request's path with unreserved characters decoded and escapes in upper case (RFC 3986 §6.2.2).
//!   It is what routes match and what the upstream gets.
//! - **decoded**: a segment with its escapes taken away, for comparing; since no escape may hide a separator, that is
//!   unambiguous.
//! - **folded**: what a lax server may take a path for: any case, without `;params`, without trailing `/`, `.` or
//!   space, decoded until nothing changes. Guarded operations match this form.

use std::{borrow::Cow, iter};

use smallvec::SmallVec;
use thiserror::Error;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum PathFault {
    /// It does not start with `/`.
    #[error("it does not start with `/`")]
    NotAbsolute,
    /// An empty segment (`//`) before the end, or one that a lax server takes for empty.
    #[error("it has an empty segment (`//`)")]
    EmptySegment,
    /// A `.` or `..` segment, written out, encoded or with parameters (`..;`).
    #[error("it has a `.` or `..` segment")]
    DotSegment,
    /// An encoded `/` or `\`, or a plain `\`, at any depth of encoding.
    #[error("it has an encoded slash or a backslash")]
    HiddenSeparator,
    /// A `%` without two hexadecimal digits.
    #[error("it has a `%` without two hexadecimal digits")]
    BrokenEscape,
    /// A control character, plain or encoded.
    #[error("it has a control character")]
    Control,
    /// An over-long UTF-8 encoding of another character.
    #[error("it has an over-long UTF-8 sequence")]
    OverlongUtf8,
    /// A character that a path cannot hold (RFC 3986 §3.3).
    #[error("it has a character that a path cannot hold")]
    Character,
}

/// How often a path is decoded again when it is folded. A path that still changes after that is refused.
const MAX_DECODE_DEPTH: usize = 4;

/// A path that can be judged and forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    normal: Cow<'a, str>,
    /// `None` where the folded form is the normal one without its trailing slash.
    folded: Option<Box<str>>,
}

/// The decoded segments of a path.
pub(crate) type Segments<'a> = SmallVec<[Cow<'a, str>; 12]>;

impl<'a> NormalPath<'a> {
    /// Reads the path of a request target, without its query.
    pub fn parse(raw: &'a str) -> Result<Self, PathFault> {
        if !raw.starts_with('/') {
            return Err(PathFault::NotAbsolute);
        }
        let plain = scan(raw)?;
        if plain {
            return Ok(Self { normal: Cow::Borrowed(raw), folded: None });
        }
        let normal = normalise(raw)?;
        for segment in inner_segments(&normal) {
            if segment.is_empty() {
                return Err(PathFault::EmptySegment);
            }
        }
        let folded = fold(&normal)?;
        let same = folded == normal.strip_suffix('/').unwrap_or(&normal) || (folded == "/" && normal == "/");
        Ok(Self { normal, folded: (!same).then(|| folded.into()) })
    }

    /// The path as it is judged and forwarded.
    pub fn as_str(&self) -> &str {
        &self.normal
    }

    /// The path as a lax server may take it.
    pub fn folded(&self) -> &str {
        match &self.folded {
            Some(folded) => folded,
            None => match self.normal.strip_suffix('/') {
                Some("") | None => &self.normal,
                Some(rest) => rest,
            },
        }
    }

    /// Whether a lax server could take the path for another one.
    pub fn folds(&self) -> bool {
        self.folded.is_some() || (self.normal.len() > 1 && self.normal.ends_with('/'))
    }

    /// The decoded segments of the normal form; a trailing slash is a last, empty one.
    pub(crate) fn segments(&self) -> Segments<'_> {
        split(&self.normal).map(decode).collect()
    }

    /// The segments of the folded form.
    pub(crate) fn folded_segments(&self) -> Segments<'_> {
        split(self.folded()).map(Cow::Borrowed).collect()
    }
}

/// Splits an absolute path; `/` has no segments.
pub(crate) fn split(path: &str) -> impl Iterator<Item = &str> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let mut rest = (!rest.is_empty()).then_some(rest);
    iter::from_fn(move || {
        let text = rest?;
        // Segments are short: a search that is made for long texts takes longer to begin than this to end.
        let slash = text.bytes().position(|byte| byte == b'/');
        match slash.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) {
            Some((segment, after)) => {
                rest = Some(after);
                Some(segment)
            }
            None => rest.take(),
        }
    })
}

/// All segments but a trailing empty one.
fn inner_segments(path: &str) -> impl Iterator<Item = &str> {
    split(path.strip_suffix('/').unwrap_or(path))
}

/// Looks at every byte once. `true`: the path is its own normal and (but for a trailing slash) folded form.
fn scan(raw: &str) -> Result<bool, PathFault> {
    let mut plain = true;
    let mut previous = b'/';
    for (at, byte) in raw.bytes().enumerate() {
        match byte {
            b'/' => {
                if previous == b'/' && at > 0 {
                    return Err(PathFault::EmptySegment);
                }
                // A dot before a slash: a dot segment, or a trailing dot that folds.
                plain &= previous != b'.';
            }
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {}
            // Legal only when escaped, but harmless, and old clients send them.
            b'[' | b']' | b'{' | b'}' | b'|' | b'^' => {}
            b'A'..=b'Z' | b'%' | b';' => plain = false,
            b'\\' => return Err(PathFault::HiddenSeparator),
            0..=0x1f | 0x7f => return Err(PathFault::Control),
            _ => return Err(PathFault::Character),
        }
        previous = byte;
    }
    Ok(plain && previous != b'.')
}

fn hex(byte: Option<u8>) -> Option<u8> {
    match byte? {
        b @ b'0'..=b'9' => Some(b - b'0'),
        b @ b'a'..=b'f' => Some(b - b'a' + 10),
        b @ b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The byte that an escape at the start of `text` stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let (high, low) = (hex(text.get(1).copied())?, hex(text.get(2).copied())?);
    Some(high << 4 | low)
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Decodes unreserved characters and refuses escapes that hide something.
fn normalise(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    let mut previous = 0u8;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let byte = escape(from.as_bytes()).ok_or(PathFault::BrokenEscape)?;
        match byte {
            b'/' | b'\\' => return Err(PathFault::HiddenSeparator),
            0..=0x1f | 0x7f => return Err(PathFault::Control),
            _ => {}
        }
        if !before.is_empty() {
            previous = 0;
        }
        if overlong(previous, byte) {
            return Err(PathFault::OverlongUtf8);
        }
        previous = byte;
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&from.get(1..3).unwrap_or_default().to_ascii_uppercase());
        }
        rest = from.get(3..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// Whether two bytes begin an over-long UTF-8 sequence (RFC 3629 §3).
const fn overlong(first: u8, second: u8) -> bool {
    let continues = second & 0xc0 == 0x80;
    continues && (matches!(first, 0xc0 | 0xc1) || (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90))
}

/// Takes the escapes of a normal segment away; what is not UTF-8 stays escaped.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match (first == b'%').then(|| escape(rest)).flatten() {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned)
}

/// The folded form of a normal path.
fn fold(normal: &str) -> Result<String, PathFault> {
    let mut out = String::with_capacity(normal.len());
    for segment in inner_segments(normal) {
        let segment = fold_segment(segment)?;
        out.push('/');
        out.push_str(&segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

/// One segment as a lax server may take it; refuses one that it may take for none, or for another place.
pub(crate) fn fold_segment(segment: &str) -> Result<String, PathFault> {
    let mut text = segment.to_owned();
    let mut depth = 0;
    loop {
        if text.contains(['/', '\\']) {
            return Err(PathFault::HiddenSeparator);
        }
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err(PathFault::Control);
        }
        let kept = text.split(';').next().unwrap_or_default();
        match kept.trim_end_matches(' ') {
            "." | ".." => return Err(PathFault::DotSegment),
            _ => {}
        }
        let next = decode(&text);
        if next == text {
            break;
        }
        let next = next.into_owned();
        depth += 1;
        if depth > MAX_DECODE_DEPTH {
            return Err(PathFault::HiddenSeparator);
        }
        text = next;
    }
    let kept = text.split(';').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    if kept.is_empty() {
        return Err(PathFault::EmptySegment);
    }
    // Upper case first: some characters (ſ, K) meet an ASCII letter only there.
    Ok(kept.to_uppercase().to_lowercase())
}

/// Brings one literal segment of a pattern into the decoded form that paths are compared in; only the last may be
/// empty.
pub(super) fn normal_literal(segment: &str, last: bool) -> Result<String, PathFault> {
    if segment.is_empty() {
        return if last { Ok(String::new()) } else { Err(PathFault::EmptySegment) };
    }
    if segment.contains('?') || segment.contains('#') || segment.contains(char::is_whitespace) {
        return Err(PathFault::Character);
    }
    let ascii: String = segment
        .chars()
        .map(
            |c| if c.is_ascii() { c.to_string() } else { c.to_string().bytes().map(|b| format!("%{b:02X}")).collect() },
        )
        .collect();
    scan(&format!("/{ascii}"))?;
    let normal = normalise(&ascii)?;
    fold_segment(&normal)?;
    Ok(decode(&normal).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use proptest::prelude::*;

    use super::*;

    fn parse(raw: &str) -> Result<NormalPath<'_>, PathFault> {
        NormalPath::parse(raw)
    }

    #[test]
    fn a_plain_path_is_its_own_normal_and_folded_form() {
        for raw in ["/", "/a", "/a/b.c/d-e_f~", "/a:b/@me/x=1,2", "/a/b/"] {
            let path = parse(raw).unwrap();
            assert_eq!(path.as_str(), raw);
            assert!(path.folded.is_none(), "{raw}");
        }
        assert_eq!(parse("/a/b/").unwrap().folded(), "/a/b");
        assert_eq!(parse("/").unwrap().folded(), "/");
    }

    #[test]
    fn unreserved_escapes_are_decoded_and_the_rest_is_upper_cased() {
        assert_eq!(parse("/%61dmin/%7e/%c3%a9%2b").unwrap().as_str(), "/admin/~/%C3%A9%2B");
    }

    #[test]
    fn doubtful_paths_are_refused() {
        use PathFault::*;
        for (raw, fault) in [
            ("a", NotAbsolute),
            ("", NotAbsolute),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/a/./b", DotSegment),
            ("/a/..", DotSegment),
            ("/..", DotSegment),
            ("/a/%2e%2e/b", DotSegment),
            ("/a/.%2E/b", DotSegment),
            ("/a/..;/b", DotSegment),
            ("/a/..;x=1/b", DotSegment),
            ("/a/..%3b/b", DotSegment),
            ("/a/..%20/b", DotSegment),
            ("/a/%252e%252e/b", DotSegment),
            ("/a%2fb", HiddenSeparator),
            ("/a%2Fb", HiddenSeparator),
            ("/a%5cb", HiddenSeparator),
            ("/a\\b", HiddenSeparator),
            ("/a%252fb", HiddenSeparator),
            ("/a%25252fb", HiddenSeparator),
            ("/a%255cb", HiddenSeparator),
            ("/a%", BrokenEscape),
            ("/a%2", BrokenEscape),
            ("/a%zz", BrokenEscape),
            ("/a%00", Control),
            ("/a%0d%0a", Control),
            ("/a%7f", Control),
            ("/a%2500", Control),
            ("/a%c0%ae", OverlongUtf8),
            ("/a%c0%afb", OverlongUtf8),
            ("/a%e0%80%af", OverlongUtf8),
            ("/a/;x/b", EmptySegment),
            ("/a/%20/b", EmptySegment),
            ("/a/.../b", EmptySegment),
            ("/a b", Character),
            ("/é", Character),
            ("/a#b", Character),
        ] {
            assert_eq!(parse(raw).map(|p| p.as_str().to_owned()), Err(fault), "{raw}");
        }
    }

    #[test]
    fn latin_1_and_literal_percent_signs_of_old_apis_pass() {
        assert_eq!(parse("/caf%e9").unwrap().as_str(), "/caf%E9");
        assert_eq!(parse("/100%25").unwrap().as_str(), "/100%25");
        assert_eq!(parse("/a;v=1/b").unwrap().as_str(), "/a;v=1/b");
    }

    #[test]
    fn folding_undoes_what_lax_servers_undo() {
        for (raw, folded) in [
            ("/Account/DELETE", "/account/delete"),
            ("/account/delete;jsessionid=1", "/account/delete"),
            ("/account;a=b/delete/", "/account/delete"),
            ("/account/delete.", "/account/delete"),
            ("/account/delete..%20", "/account/delete"),
            ("/account/delete%3Bx", "/account/delete"),
            ("/account/%64elete", "/account/delete"),
            ("/account/%2564elete", "/account/delete"),
            ("/account/delete%20/", "/account/delete"),
            ("/account/%C5%BFave", "/account/save"),
        ] {
            assert_eq!(parse(raw).unwrap().folded(), folded, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics_and_an_accepted_one_is_stable(raw in "\\PC{0,40}") {
            if let Ok(path) = parse(&raw) {
                let again = NormalPath::parse(path.as_str()).unwrap();
                prop_assert_eq!(again.as_str(), path.as_str());
                prop_assert_eq!(again.folded(), path.folded());
            }
        }

        #[test]
        fn an_accepted_path_hides_no_separator_or_dot_segment(raw in "/([a-zA-Z./%;\\\\ ]|%2[eEfF5]|%5[cC]){0,24}") {
            if let Ok(path) = parse(&raw) {
                for segment in path.segments() {
                    prop_assert!(segment != "." && segment != ".." && !segment.contains(['/', '\\']));
                }
                for segment in path.folded_segments() {
                    prop_assert!(segment != "." && segment != ".." && !segment.contains(['/', '\\']));
                }
            }
        }
    }
}
