//! Fills values of a request into the texts of a route. What stands in a path stays byte for byte what it was in the request's,
//! in a query it is escaped, and in a header it can add no line.

use std::fmt::Write;

use crate::{
    config::{Piece, RouteText, RouteValue},
    route::{NormalPath, PathPattern},
};

/// A path, made of parts of another in normal form. It is for its reader to judge the result.
pub(in crate::gateway) fn path(text: &RouteText, pattern: &PathPattern, path: &NormalPath<'_>) -> String {
    let mut out = String::with_capacity(path.as_str().len());
    for piece in text.pieces() {
        out.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Value(value) => part(value, pattern, path),
        });
    }
    out
}

/// A query; the request's own is in it where the text says so.
pub(super) fn query(text: &RouteText, pattern: &PathPattern, path: &NormalPath<'_>, asked: Option<&str>) -> String {
    let mut out = String::new();
    for piece in text.pieces() {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Value(RouteValue::Query) => push_query(&mut out, asked.unwrap_or_default()),
            Piece::Value(value) => push_parameter(&mut out, part(value, pattern, path)),
        }
    }
    // Where the request had no query, none of what joins it to others is left.
    let is_joint = |c: char| c == '&';
    let trimmed = out.trim_matches(is_joint);
    if trimmed.len() == out.len() { out } else { trimmed.to_owned() }
}

fn part<'p>(value: &RouteValue, pattern: &PathPattern, path: &'p NormalPath<'_>) -> &'p str {
    match value {
        RouteValue::Path(name) => pattern.segment(path, name).unwrap_or_default(),
        RouteValue::Rest => pattern.rest(path).unwrap_or_default(),
        // No text for a path has these.
        RouteValue::RequestId | RouteValue::ClientIp | RouteValue::Subject | RouteValue::Query => "",
    }
}

/// A query as it came, with escapes for what no URI may hold.
fn push_query(out: &mut String, query: &str) {
    for byte in query.bytes() {
        match byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte) {
            true => out.push(char::from(byte)),
            false => push_escape(out, byte),
        }
    }
}

/// A part of a path as the value of a parameter: what would end the value is escaped; escapes stay what they are.
fn push_parameter(out: &mut String, part: &str) {
    for byte in part.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~!$'()*,:@/%".contains(&byte) {
            true => out.push(char::from(byte)),
            false => push_escape(out, byte),
        }
    }
}

fn push_escape(out: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(out, "%{byte:02X}");
}
