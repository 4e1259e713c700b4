//! `redirect`: where clients are sent, in place of an upstream.

use http::StatusCode;
use url::Url;

use crate::config::{
    decode::{At, FromText, Refusal, section},
    route_text::{Place, RouteText, RouteTextFault},
    shape::{Shape, TextShape},
};

section! {
    /// Where clients are sent, in place of an upstream. Who may be sent is judged as for any other route.
    "redirect" Redirect {
        /// A URL whose host is written out, or a path of the host that was asked: `https://new.example/{rest}?{query}`.
        to: At<RedirectTarget>,
        /// 308 and 307 keep the method, 301 and 302 may make it GET, 303 does.
        status: RedirectStatus = "308",
    }
}

/// Where a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct RedirectTarget {
    pub(in crate::config) origin: Option<String>,
    pub(in crate::config) path: RouteText,
    pub(in crate::config) query: Option<RouteText>,
    pub(in crate::config) fragment: Option<String>,
}

impl FromText for RedirectTarget {
    const WHAT: &'static str = "where to redirect to";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        const HELP: &str = "write `https://new.example/{rest}`, or `/new/{rest}` for the host that was asked";
        let fault = |fault: RouteTextFault| Refusal::because(fault.to_string()).help(fault.help());
        let (origin, rest) = match text.split_once("://") {
            Some((scheme @ ("https" | "http"), rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                if authority.contains(['{', '}']) {
                    return Err(Refusal::because(
                        "its host is written out: no value may choose whom clients are sent to",
                    ));
                }
                (Some(origin(scheme, authority)?), rest)
            }
            Some(_) | None if !text.starts_with('/') => return Err(Refusal::advice(HELP)),
            Some(_) | None => (None, text),
        };
        let (rest, fragment) = match rest.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (rest, None),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // RFC 3986 §4.2: what begins with two slashes names a host; browsers take a backslash for one.
        if path.starts_with("//") {
            return Err(Refusal::because("a path that begins with `//` is another host").help(HELP));
        }
        let fragment = match fragment {
            Some(text) => {
                let parsed = RouteText::parse(text, Place::Query).map_err(fault)?;
                if parsed.fixed().is_none() {
                    return Err(Refusal::because("what stands behind `#` is fixed"));
                }
                Some(text.to_owned())
            }
            None => None,
        };
        Ok(Self {
            origin,
            path: RouteText::parse(if path.is_empty() { "/" } else { path }, Place::Path).map_err(fault)?,
            query: query.map(|query| RouteText::parse(query, Place::Query)).transpose().map_err(fault)?,
            fragment,
        })
    }

    fn shape() -> Shape {
        let about = "`https://HOST/…`, or `/…` for the host that was asked; `{path.NAME}`, `{rest}` and, in the query, `{query}` \
                     stand for parts of the request's";
        Shape::Text(TextShape { name: "redirect target", about, pattern: Some("(https?://[^/?#{}@]+)?([/?#].*)?") })
    }
}

fn origin(scheme: &str, authority: &str) -> Result<String, Refusal> {
    let url = Url::parse(&format!("{scheme}://{authority}/")).map_err(|error| Refusal::because(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return Err(Refusal::because("it must not hold a user name or password"));
    }
    if url.path() != "/" || authority.contains('\\') {
        return Err(Refusal::because("it has a backslash"));
    }
    Ok(url.origin().ascii_serialization())
}

/// How a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct RedirectStatus(pub(in crate::config) StatusCode);

impl FromText for RedirectStatus {
    const WHAT: &'static str = "the status of a redirect";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        Ok(Self(match text {
            "301" => StatusCode::MOVED_PERMANENTLY,
            "302" => StatusCode::FOUND,
            "303" => StatusCode::SEE_OTHER,
            "307" => StatusCode::TEMPORARY_REDIRECT,
            "308" => StatusCode::PERMANENT_REDIRECT,
            _ => return Err(Refusal::advice("write 301, 302, 303, 307 or 308")),
        }))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "redirect status",
            about: "301, 302, 303, 307 or 308",
            pattern: Some("30[12378]"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_redirect_has_a_host_of_the_file_or_none() {
        let read = |text: &str| {
            let RedirectTarget { origin, path, query, fragment } = RedirectTarget::from_text(text).unwrap();
            (origin.unwrap_or_default(), path.to_string(), query.map(|query| query.to_string()), fragment)
        };
        assert_eq!(
            read("https://New.Example:443/a/{rest}?b={path.id}&{query}#top"),
            ("https://new.example".into(), "/a/{rest}".into(), Some("b={path.id}&{query}".into()), Some("top".into()))
        );
        assert_eq!(read("https://new.example"), ("https://new.example".into(), "/".into(), None, None));
        assert_eq!(read("/x/{rest}"), (String::new(), "/x/{rest}".into(), None, None));
        for wrong in [
            "",
            "x",
            "//evil.example",
            "/\\evil.example",
            "https://{path.host}/",
            "https://a{rest}/",
            "https://u:p@a.example/",
            "https:///x",
            "https://a.example\\@b/",
            "javascript:alert(1)",
            "ftp://a.example/",
            "/a b",
            "/a\r\nSet-Cookie: x",
            "/a#{rest}",
            "/{query}",
            "https://a.example//b",
        ] {
            assert!(RedirectTarget::from_text(wrong).is_err(), "{wrong:?}");
        }
    }
}
