//! Texts of a route with values of the request in them: header values, where a redirect leads, what a path is rewritten to.
//!
//! Nothing but names in braces is interpreted; `{{` and `}}` are braces. What a value may put into its place is for who
//! fills it in: here it is only known which values there are.

use std::{fmt, sync::Arc};

use thiserror::Error;

use super::{braces, nearest};

/// The most values in one.
const MAX_VALUES: usize = 16;

/// A text with values in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteText {
    pieces: Box<[Piece]>,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is; never empty.
    Text(Box<str>),
    /// A value of the request.
    Value(RouteValue),
}

/// A value of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteValue {
    /// Its identifier.
    RequestId,
    /// The client's address.
    ClientIp,
    /// The caller's subject.
    Subject,
    /// A parameter of the path.
    Path(Arc<str>),
    /// What `**` stands for in the path.
    Rest,
    /// The query.
    Query,
}

/// Where a text stands, which decides what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A header's value.
    Header,
    /// A path.
    Path,
    /// A query.
    Query,
}

impl Place {
    const fn values(self) -> &'static [&'static str] {
        match self {
            Self::Header => &["request_id", "client_ip", "subject", "path.NAME"],
            Self::Path => &["path.NAME", "rest"],
            Self::Query => &["path.NAME", "rest", "query"],
        }
    }
}

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteTextFault {
    /// `{subject` and no `}`.
    #[error("a `{{` is not closed")]
    Unclosed,
    /// A `}` of its own.
    #[error("a `}}` closes nothing")]
    Unopened,
    /// A name that stands for nothing here.
    #[error("`{{{shown}}}` stands for nothing here")]
    Unknown {
        /// As it may be shown.
        shown: String,
        /// What to write.
        help: String,
    },
    /// Too much of it.
    #[error("it has more than 4096 bytes, or more than 16 values")]
    TooLarge,
    /// A character that cannot stand there.
    #[error("it has a character that cannot stand here")]
    Character(Place),
}

impl From<braces::Fault> for RouteTextFault {
    fn from(fault: braces::Fault) -> Self {
        match fault {
            braces::Fault::Unclosed => Self::Unclosed,
            braces::Fault::Unopened => Self::Unopened,
            braces::Fault::TooLarge => Self::TooLarge,
        }
    }
}

impl RouteTextFault {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unclosed | Self::Unopened => "write `{{` and `}}` for braces".into(),
            Self::Unknown { help, .. } => help.clone(),
            Self::TooLarge => "write less".into(),
            Self::Character(Place::Header) => "a header's value is visible ASCII, blanks within it included".into(),
            Self::Character(Place::Path | Place::Query) => "percent-encode it (RFC 3986 §2.1)".into(),
        }
    }
}

impl RouteText {
    /// Reads a text for a place.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, place: Place) -> Result<Self, RouteTextFault> {
        let pieces = braces::pieces(text, MAX_VALUES).map(|piece| {
            Ok(match piece? {
                braces::Piece::Text(text) => Piece::Text(text),
                braces::Piece::Name(name) => Piece::Value(value(name, place)?),
            })
        });
        let pieces = pieces.collect::<Result<Vec<_>, RouteTextFault>>()?;
        let text = Self { pieces: pieces.into() };
        if text.fits(place) { Ok(text) } else { Err(RouteTextFault::Character(place)) }
    }

    fn fits(&self, place: Place) -> bool {
        let fixed =
            || self.pieces.iter().filter_map(|piece| if let Piece::Text(text) = piece { Some(text) } else { None });
        match place {
            Place::Header => {
                let is_blank = |piece: Option<&Piece>, at_end: bool| match piece {
                    Some(Piece::Text(text)) if at_end => text.ends_with(' '),
                    Some(Piece::Text(text)) => text.starts_with(' '),
                    Some(Piece::Value(_)) | None => false,
                };
                fixed().all(|text| text.bytes().all(|b| b.is_ascii_graphic() || b == b' '))
                    && !is_blank(self.pieces.first(), false)
                    && !is_blank(self.pieces.last(), true)
            }
            // RFC 3986 §3.3, §3.4: what needs no escape, and escapes.
            Place::Path | Place::Query => fixed().all(|text| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
                text.bytes().all(|b| plain(b) || (place == Place::Query && b == b'?')) && escapes_are_whole(text)
            }),
        }
    }

    /// Its pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The values that it needs.
    pub fn values(&self) -> impl Iterator<Item = &RouteValue> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(value) => Some(value),
            Piece::Text(_) => None,
        })
    }

    /// Its text where it has no values.
    pub fn fixed(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

fn value(name: &str, place: Place) -> Result<RouteValue, RouteTextFault> {
    let known = place.values();
    let found = match name.split_once('.') {
        Some(("path", parameter)) if is_parameter(parameter) => Some(RouteValue::Path(parameter.into())),
        Some(_) => None,
        None => match name {
            "request_id" => Some(RouteValue::RequestId),
            "client_ip" => Some(RouteValue::ClientIp),
            "subject" => Some(RouteValue::Subject),
            "rest" => Some(RouteValue::Rest),
            "query" => Some(RouteValue::Query),
            _ => None,
        },
    };
    let is_here = |value: &RouteValue| matches!(value, RouteValue::Path(_)) || known.contains(&name);
    found.filter(is_here).ok_or_else(|| {
        let all: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
        let help = match nearest::nearest(name, known.iter().copied()).filter(|meant| *meant != name) {
            Some(meant) if meant != "path.NAME" => format!("did you mean `{{{meant}}}`?"),
            Some(_) | None => format!("there are {}, and `{{{{` for a brace", all.join(", ")),
        };
        RouteTextFault::Unknown { shown: nearest::short(name), help }
    })
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl fmt::Display for RouteValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestId => f.write_str("request_id"),
            Self::ClientIp => f.write_str("client_ip"),
            Self::Subject => f.write_str("subject"),
            Self::Path(name) => write!(f, "path.{name}"),
            Self::Rest => f.write_str("rest"),
            Self::Query => f.write_str("query"),
        }
    }
}

impl fmt::Display for RouteText {
    /// As it is written in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Value(value) => write!(f, "{{{value}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_read_and_written_back() {
        for (text, place) in [
            ("plain, with a blank", Place::Header),
            ("{{\"a\": 1}} {request_id}-{client_ip}-{subject}-{path.id}", Place::Header),
            ("/v2/{path.id}/{rest}", Place::Path),
            ("a={path.id}&{query}&b=%20?", Place::Query),
            ("", Place::Query),
        ] {
            assert_eq!(RouteText::parse(text, place).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_stands_for_nothing_or_cannot_stand_there_is_refused() {
        for (text, place) in [
            ("{subject", Place::Header),
            ("subject}", Place::Header),
            ("{sub}", Place::Header),
            ("{rest}", Place::Header),
            ("{query}", Place::Header),
            ("{path.}", Place::Header),
            ("{path.a b}", Place::Header),
            ("{claims.sub}", Place::Header),
            ("a\r\nb", Place::Header),
            ("a\tb", Place::Header),
            (" a", Place::Header),
            ("a ", Place::Header),
            ("é", Place::Header),
            ("/{query}", Place::Path),
            ("/{subject}", Place::Path),
            ("/{id}", Place::Path),
            ("/a b", Place::Path),
            ("/a\\b", Place::Path),
            ("/a%2", Place::Path),
            ("/a%zz", Place::Path),
            ("/a?b", Place::Path),
            ("/a#b", Place::Path),
            ("a#b", Place::Query),
        ] {
            assert!(RouteText::parse(text, place).is_err(), "{text:?}");
        }
        let help = |text, place| RouteText::parse(text, place).unwrap_err().help();
        assert_eq!(help("{subjekt}", Place::Header), "did you mean `{subject}`?");
        assert_eq!(help("{id}", Place::Path), "there are {path.NAME}, {rest}, and `{{` for a brace");
    }
}
