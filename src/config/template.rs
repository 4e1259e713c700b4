//! Templates of the requests that a deletion makes: `/accounts/{subject}`, `{captured.email}`, `{claims./tenant}`. What is written
//! here decides the form of a request, and a value never does: a target is cut into segments and query values by the text
//! alone, before any value is known, and what a value puts there is escaped by who fills it in.
//!
//! Nothing but names in braces is interpreted; `{{` and `}}` are braces.

use std::fmt;

use thiserror::Error;

use super::{ClaimPath, braces, decode::FromText, nearest};

/// The most values in one.
const MAX_VALUES: usize = 32;
/// The longest name of a parameter, member or captured value.
const MAX_NAME: usize = 64;
/// What a name begins with, or is.
const ROOTS: [&str; 7] = ["subject", "deletion", "path", "query", "body", "claims", "captured"];

/// Text with values in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is; never empty.
    Text(Box<str>),
    /// A value.
    Value(Placeholder),
}

/// Which value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placeholder {
    /// The data's subject.
    Subject,
    /// The deletion's number.
    Deletion,
    /// A parameter of the path that was asked for.
    Path(Box<str>),
    /// A parameter of its query.
    Query(Box<str>),
    /// A member of its body.
    Body(Box<str>),
    /// A claim of the caller.
    Claim(ClaimPath),
    /// What a lookup or an earlier step answered.
    Captured(Box<str>),
}

/// A request line's target with values in it. Its segments and its query's names are fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTemplate {
    /// The segments of the path, without slashes; the first has no value. A final slash is a last, empty segment.
    pub segments: Box<[Template]>,
    /// The query: names as they are sent, and values. `None` where there is no `=`.
    pub query: Box<[(Box<str>, Option<Template>)]>,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateFault {
    /// `{subject` and no `}`.
    #[error("a `{{` is not closed")]
    Unclosed,
    /// A `}` of its own.
    #[error("a `}}` closes nothing")]
    Unopened,
    /// A name that stands for nothing.
    #[error("`{{{shown}}}` stands for nothing")]
    Unknown {
        /// As it may be shown.
        shown: String,
        /// What was most likely meant.
        meant: Option<String>,
    },
    /// `{path.}`, or a name that none can have.
    #[error("`{{{0}}}` has no usable name behind the dot")]
    Name(String),
    /// Too much of it.
    #[error("it has more than 4096 bytes, or more than 32 values")]
    TooLarge,
    /// A target that does not begin with a slash.
    #[error("the target of a request begins with `/`")]
    NotAbsolute,
    /// A value that would choose what is called.
    #[error("the first segment of the path is fixed: no value may choose what is called")]
    FirstSegment,
    /// `//`, `/./` or `/../`.
    #[error("the path has an empty segment, or one of dots")]
    Dots,
    /// A character that a target cannot hold as it is.
    #[error("`{0}` cannot stand in a target as it is")]
    Character(char),
    /// A value in the name of a query's parameter.
    #[error("the name of a query's parameter is fixed")]
    QueryName,
    /// A character that no header holds.
    #[error("a header's value is visible ASCII, blanks within it included")]
    Header,
}

impl From<braces::Fault> for TemplateFault {
    fn from(fault: braces::Fault) -> Self {
        match fault {
            braces::Fault::Unclosed => Self::Unclosed,
            braces::Fault::Unopened => Self::Unopened,
            braces::Fault::TooLarge => Self::TooLarge,
        }
    }
}

impl TemplateFault {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unclosed | Self::Unopened => "write `{{` and `}}` for braces".into(),
            Self::Unknown { meant: Some(meant), .. } => format!("did you mean `{{{meant}}}`?"),
            Self::Unknown { meant: None, .. } | Self::Name(_) => {
                "there are {subject}, {deletion}, {path.NAME}, {query.NAME}, {body.NAME}, {claims.NAME}, {claims./pointer} and \
                 {captured.NAME}"
                    .into()
            }
            Self::TooLarge => "write less".into(),
            Self::NotAbsolute => "write `/accounts/{subject}`; the host is the upstream's".into(),
            Self::FirstSegment => "write `/accounts/{subject}`".into(),
            Self::Dots => "write the path as the upstream shall get it".into(),
            Self::Character(_) => "percent-encode it (RFC 3986 §2.1)".into(),
            Self::QueryName => "write `?name={captured.value}`".into(),
            Self::Header => "put into a header what is ASCII, the rest into the body".into(),
        }
    }
}

impl Template {
    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let parts = braces::pieces(text, MAX_VALUES).map(|piece| {
            Ok(match piece? {
                braces::Piece::Text(text) => Part::Text(text),
                braces::Piece::Name(name) => Part::Value(Placeholder::parse(name)?),
            })
        });
        Ok(Self { parts: parts.collect::<Result<_, TemplateFault>>()? })
    }

    /// Reads the value of a header.
    pub fn parse_header(text: &str) -> Result<Self, TemplateFault> {
        let template = Self::parse(text)?;
        let blank = |c: char| c == ' ';
        if text.starts_with(blank) || text.ends_with(blank) || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            return Err(TemplateFault::Header);
        }
        Ok(template)
    }

    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The values that it needs.
    pub fn values(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) => None,
        })
    }

    /// Its text where it has no values.
    pub fn fixed(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    fn is_dots(&self) -> bool {
        self.fixed().is_some_and(is_dots)
    }
}

/// Whether a segment is `.` or `..`, encoded or not.
fn is_dots(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

impl Placeholder {
    /// Reads what stands in braces.
    fn parse(name: &str) -> Result<Self, TemplateFault> {
        let shown = nearest::short(name);
        let (root, rest) = match name.split_once('.') {
            Some((root, rest)) => (root, Some(rest)),
            None => (name, None),
        };
        let named = |rest: &str| {
            let usable = is_value_name(rest);
            if usable { Ok(Box::from(rest)) } else { Err(TemplateFault::Name(shown.clone())) }
        };
        match (root, rest) {
            ("subject", None) => Ok(Self::Subject),
            ("deletion", None) => Ok(Self::Deletion),
            ("path", Some(rest)) => named(rest).map(Self::Path),
            ("query", Some(rest)) => named(rest).map(Self::Query),
            ("body", Some(rest)) => named(rest).map(Self::Body),
            ("captured", Some(rest)) => named(rest).map(Self::Captured),
            ("claims", Some(rest)) => {
                ClaimPath::from_text(rest).map(Self::Claim).map_err(|_| TemplateFault::Name(shown.clone()))
            }
            ("path" | "query" | "body" | "claims" | "captured", None) => Err(TemplateFault::Name(shown)),
            (_, rest) => {
                let meant = nearest::nearest(root, ROOTS).filter(|root| *root != name);
                let meant = meant.map(|root| match rest {
                    Some(rest) if !matches!(root, "subject" | "deletion") => format!("{root}.{}", nearest::short(rest)),
                    Some(_) | None => root.to_owned(),
                });
                Err(TemplateFault::Unknown { shown, meant })
            }
        }
    }
}

/// Whether a parameter, a member or a captured value can have this name.
pub(super) fn is_value_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':' | b'$');
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain)
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject => f.write_str("subject"),
            Self::Deletion => f.write_str("deletion"),
            Self::Path(name) => write!(f, "path.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Body(name) => write!(f, "body.{name}"),
            Self::Claim(ClaimPath::Name(claim) | ClaimPath::Pointer(claim)) => write!(f, "claims.{claim}"),
            Self::Captured(name) => write!(f, "captured.{name}"),
        }
    }
}

impl TargetTemplate {
    /// Reads a path and a query.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let whole = Template::parse(text)?;
        if !matches!(whole.parts().first(), Some(Part::Text(text)) if text.starts_with('/')) {
            return Err(TemplateFault::NotAbsolute);
        }
        for part in whole.parts() {
            if let Part::Text(text) = part {
                check_target_text(text)?;
            }
        }
        let (path, query) = split_at_first(whole.parts(), '?');
        let segments: Vec<Template> = split(&path, '/').into_iter().skip(1).map(template).collect();
        let last = segments.len().saturating_sub(1);
        for (at, segment) in segments.iter().enumerate() {
            if segment.is_dots() || (segment.parts().is_empty() && (at < last || last == 0)) {
                return Err(TemplateFault::Dots);
            }
        }
        // With one segment of text alone before them, values stay below what the operator chose.
        if segments.first().is_none_or(|first| first.fixed().is_none()) {
            return Err(TemplateFault::FirstSegment);
        }
        let query = match query {
            None => Vec::new(),
            Some(query) => split(&query, '&').into_iter().map(|pair| parameter(&pair)).collect::<Result<_, _>>()?,
        };
        Ok(Self { segments: segments.into(), query: query.into() })
    }

    /// The values that it needs.
    pub fn values(&self) -> impl Iterator<Item = &Placeholder> {
        let query = self.query.iter().filter_map(|(_, value)| value.as_ref());
        self.segments.iter().chain(query).flat_map(Template::values)
    }
}

fn template(parts: Vec<Part>) -> Template {
    Template { parts: parts.into() }
}

fn parameter(pair: &[Part]) -> Result<(Box<str>, Option<Template>), TemplateFault> {
    let (name, value) = split_at_first(pair, '=');
    let name = template(name);
    let name = name.fixed().filter(|name| !name.is_empty()).ok_or(TemplateFault::QueryName)?;
    Ok((name.into(), value.map(template)))
}

/// What stands in a target as text is sent as it is, so it must be what a target can hold (RFC 3986 §3.3, §3.4).
fn check_target_text(text: &str) -> Result<(), TemplateFault> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let allowed = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte);
        if allowed {
            continue;
        }
        let escaped =
            byte == b'%' && [bytes.next(), bytes.next()].iter().all(|b| b.is_some_and(|b| b.is_ascii_hexdigit()));
        if !escaped {
            let known = |c: &char| !c.is_ascii_alphanumeric() && !"-._~!$&'()*+,;=:@/?".contains(*c);
            return Err(TemplateFault::Character(text.chars().find(known).unwrap_or('%')));
        }
    }
    Ok(())
}

/// Cuts at the first such character of the text; values are never looked into.
fn split_at_first(parts: &[Part], at: char) -> (Vec<Part>, Option<Vec<Part>>) {
    let mut pieces = split_up_to(parts, at, 2).into_iter();
    (pieces.next().unwrap_or_default(), pieces.next())
}

fn split(parts: &[Part], at: char) -> Vec<Vec<Part>> {
    split_up_to(parts, at, usize::MAX)
}

fn split_up_to(parts: &[Part], at: char, most: usize) -> Vec<Vec<Part>> {
    let (mut pieces, mut piece) = (Vec::new(), Vec::new());
    for part in parts {
        let Part::Text(text) = part else {
            piece.push(part.clone());
            continue;
        };
        let mut rest: &str = text;
        while let Some((before, after)) = rest.split_once(at).filter(|_| pieces.len().saturating_add(1) < most) {
            if !before.is_empty() {
                piece.push(Part::Text(before.into()));
            }
            pieces.push(std::mem::take(&mut piece));
            rest = after;
        }
        if !rest.is_empty() {
            piece.push(Part::Text(rest.into()));
        }
    }
    pieces.push(piece);
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn values(text: &str) -> Vec<String> {
        Template::parse(text).unwrap().values().map(ToString::to_string).collect()
    }

    #[test]
    fn names_in_braces_are_values_and_nothing_else_is_interpreted() {
        let all =
            "{subject}{deletion}{path.id}{query.q}{body.user_id}{claims./a/b}{claims.https://x/y}{captured.email}";
        let named = [
            "subject",
            "deletion",
            "path.id",
            "query.q",
            "body.user_id",
            "claims./a/b",
            "claims.https://x/y",
            "captured.email",
        ];
        assert_eq!(values(all), named);
        for plain in ["", "$x ${{y}} %7B \\{{n}} {{{{", "a{{subject}}b"] {
            assert!(Template::parse(plain).unwrap().fixed().is_some(), "{plain}");
        }
        assert_eq!(Template::parse("{{{subject}}}").unwrap().parts().len(), 3);
        assert_eq!(Template::parse("a{{b}}").unwrap().fixed(), Some("a{b}"));
    }

    #[test]
    fn what_is_not_a_name_is_refused_with_the_nearest_one() {
        for (wrong, meant) in [
            ("{subjet}", Some("subject")),
            ("{capture.email}", Some("captured.email")),
            ("{claim./email}", Some("claims./email")),
            ("{Subject}", Some("subject")),
            ("{subject.id}", Some("subject")),
            ("{password}", None),
            ("{}", None),
            ("{ subject }", Some("subject")),
        ] {
            let Err(TemplateFault::Unknown { meant: found, .. }) = Template::parse(wrong) else {
                assert_eq!(meant, None, "{wrong}");
                continue;
            };
            assert_eq!(found.as_deref(), meant, "{wrong}");
        }
        for (wrong, fault) in [
            ("{subject", TemplateFault::Unclosed),
            ("subject}", TemplateFault::Unopened),
            ("{path}", TemplateFault::Name("path".into())),
            ("{path.}", TemplateFault::Name("path.".into())),
            ("{path.a b}", TemplateFault::Name("path.a b".into())),
            ("{captured.a/b}", TemplateFault::Name("captured.a/b".into())),
        ] {
            assert_eq!(Template::parse(wrong), Err(fault), "{wrong}");
        }
        assert_eq!(Template::parse(&"{subject}".repeat(33)), Err(TemplateFault::TooLarge));
        assert_eq!(Template::parse(&"x".repeat(4_097)), Err(TemplateFault::TooLarge));
    }

    #[test]
    fn a_target_is_cut_by_its_text_and_never_by_a_value() {
        let target = TargetTemplate::parse("/accounts/{claims./a/b}/x-{subject}.json?q={captured.a}&r=1&flag").unwrap();
        assert_eq!(target.segments.len(), 3);
        assert_eq!(target.segments[1].values().count(), 1);
        let query: Vec<_> = target.query.iter().map(|(name, value)| (&**name, value.is_some())).collect();
        assert_eq!(query, [("q", true), ("r", true), ("flag", false)]);
        assert_eq!(target.values().count(), 3);
        assert_eq!(TargetTemplate::parse("/a?x={subject}?y=z").unwrap().query.len(), 1);
        assert_eq!(TargetTemplate::parse("/a/{subject}/").unwrap().segments.len(), 3);
        assert_eq!(TargetTemplate::parse("/a%20b/{subject}").unwrap().segments[0].fixed(), Some("a%20b"));
    }

    #[test]
    fn a_target_cannot_be_led_elsewhere() {
        for (wrong, fault) in [
            ("{subject}", TemplateFault::NotAbsolute),
            ("https://x/{subject}", TemplateFault::NotAbsolute),
            ("", TemplateFault::NotAbsolute),
            ("/{subject}", TemplateFault::FirstSegment),
            ("/x-{subject}/a", TemplateFault::FirstSegment),
            ("//{subject}", TemplateFault::Dots),
            ("//host/a", TemplateFault::Dots),
            ("/", TemplateFault::Dots),
            ("/a//{subject}", TemplateFault::Dots),
            ("/a/../{subject}", TemplateFault::Dots),
            ("/a/%2e%2E/{subject}", TemplateFault::Dots),
            ("/a/./x", TemplateFault::Dots),
            ("/a b", TemplateFault::Character(' ')),
            ("/a\\b", TemplateFault::Character('\\')),
            ("/a#b", TemplateFault::Character('#')),
            ("/a/ü", TemplateFault::Character('ü')),
            ("/a/%zz", TemplateFault::Character('%')),
            ("/a/%2", TemplateFault::Character('%')),
            ("/a/{{x}}", TemplateFault::Character('{')),
            ("/a?{subject}=1", TemplateFault::QueryName),
            ("/a?=1", TemplateFault::QueryName),
            ("/a?", TemplateFault::QueryName),
        ] {
            assert_eq!(TargetTemplate::parse(wrong), Err(fault), "{wrong}");
        }
    }

    #[test]
    fn a_header_holds_visible_ascii() {
        assert!(Template::parse_header("Account {subject}").is_ok());
        for wrong in [" x", "x ", "a\r\nb: c", "a\tb", "ü", "\u{7f}"] {
            assert_eq!(Template::parse_header(wrong), Err(TemplateFault::Header), "{wrong:?}");
        }
    }
}
