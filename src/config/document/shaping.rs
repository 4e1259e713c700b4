//! What a route does besides passing requests on: header rules, limits of its own, copies, canaries.

use std::time::Duration;

use http::HeaderName;

use crate::config::{
    Problem, Share, SplitBy,
    decode::{At, Cx, Decode, FromText, Refusal, section, unknown_word},
    nearest,
    quantity::Size,
    route_text::{Place, RouteText},
    shape::{Shape, TextShape},
    text::Name,
    yaml::{Entry, Node, Value},
};

section! {
    /// What changes in header fields: what is removed goes first, then comes what is set, then what is added. Values may hold
    /// `{request_id}`, `{client_ip}`, `{subject}` and `{path.NAME}`; a field whose value is not known is left out.
    "header rules" HeaderRules {
        /// Fields in the place of all of that name.
        set: HeaderFields = "{}",
        /// Fields beside those of that name.
        add: HeaderFields = "{}",
        /// Fields of which none is left, in any spelling.
        remove: Vec<At<HeaderName>> = "[]",
    }
}

section! {
    /// Limits of time of a route, in place of its upstream's.
    "a route's timeouts" RouteTimeouts {
        /// Until the head of the answer is there, once the request was sent.
        response: Option<Duration>,
        /// From the first byte to the upstream to the last of its answer.
        request: Option<Duration>,
    }
}

section! {
    /// Who gets a copy of requests that were let through, and whose answers nobody sees. The client's credentials do not go along;
    /// guarded operations are never copied.
    "a mirror" Mirror {
        /// The upstream's name. It honours the same method overrides as the route's own.
        upstream: At<Name>,
        /// Of how many requests, in percent.
        percent: Share = "100",
        /// The longest body that is copied; a request with a longer one is not.
        body_bytes: Size<0, 16_777_216> = "1MiB",
        /// Whether the client's cookies go along.
        cookies: bool = "false",
    }
}

section! {
    /// A service that gets a share of the requests in the place of the route's own upstream.
    "a canary" Canary {
        /// The upstream's name. It honours the same method overrides as the route's own.
        upstream: At<Name>,
        /// The share, in percent.
        percent: Share,
        /// What stays together.
        by: SplitBy = "subject",
    }
}

/// Header fields with their values, in the order of the file.
#[derive(Debug, Clone)]
pub(in crate::config) struct HeaderFields(pub(in crate::config) Vec<(At<HeaderName>, At<HeaderText>)>);

/// A header's value, with values of the request in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct HeaderText(pub(in crate::config) RouteText);

impl HeaderRules {
    /// Whether nothing is written in it, readable or not.
    pub(in crate::config) fn is_bare(&self) -> bool {
        self.set.0.is_empty() && self.add.0.is_empty() && self.remove.is_empty()
    }
}

impl FromText for HeaderText {
    const WHAT: &'static str = "a header's value";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        RouteText::parse(text, Place::Header)
            .map(Self)
            .map_err(|fault| Refusal::because(fault.to_string()).help(fault.help()))
    }

    fn shape() -> Shape {
        let about = "a header's value; `{request_id}`, `{client_ip}`, `{subject}` and `{path.NAME}` stand for values of the request";
        Shape::Text(TextShape { name: "header value", about, pattern: None })
    }
}

impl Decode for HeaderFields {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let span = cx.span(node.place);
            if !matches!(node.value, Value::Faulty) {
                let problem = Problem::error(&span, "header fields with their values are expected here");
                cx.report(problem.with_help("write {x-name: value}"));
            }
            return None;
        };
        let mut fields = Vec::with_capacity(entries.len());
        for Entry { key, place, node, .. } in entries {
            let read = cx.within(key, |cx| {
                let span = cx.span(*place);
                let text = At::<HeaderText>::decode(node, cx);
                match HeaderName::from_text(key) {
                    Ok(value) => Some((At { value, span, shown: nearest::short(key).into() }, text?)),
                    Err(refusal) => {
                        let message = format!("`{}` is not a header's name", nearest::key(key));
                        cx.report(Problem { help: refusal.why, ..Problem::error(&span, message) });
                        None
                    }
                }
            });
            fields.extend(read);
        }
        Some(Self(fields))
    }

    fn substitute() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn shape() -> Shape {
        let key = Box::new(<HeaderName as FromText>::shape());
        Shape::Keyed { key, item: Box::new(<HeaderText as FromText>::shape()) }
    }
}

impl FromText for Share {
    const WHAT: &'static str = "a share in percent";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let refusal = || Refusal::advice("write a number from 0 to 100, with two decimals at most: `5`, `0.25`");
        let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 3) || !digits(rest, 2) {
            return Err(refusal());
        }
        let hundredths = format!("{whole}{rest:0<2}").parse().ok();
        hundredths.and_then(Self::new).ok_or_else(refusal)
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "percent",
            about: "a number from 0 to 100, with two decimals at most: `5`, `0.25`",
            pattern: Some("[0-9]{1,3}([.][0-9]{1,2})?"),
        })
    }
}

impl FromText for SplitBy {
    const WHAT: &'static str = "what stays together";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match text.split_once(':') {
            Some(("header", name)) => return Ok(Self::Header(HeaderName::from_text(name)?)),
            Some(("cookie", name)) => {
                let token = HeaderName::from_bytes(name.as_bytes()).is_ok();
                return match token {
                    true => Ok(Self::Cookie(name.into())),
                    false => Err(Refusal::because("the name of a cookie is a token (RFC 6265 §4.1.1)")),
                };
            }
            Some(_) | None => {}
        }
        match text {
            "request" => Ok(Self::Request),
            "subject" => Ok(Self::Subject),
            "ip" => Ok(Self::Ip),
            _ => Err(unknown_word(text, &["subject", "ip", "request", "header:NAME", "cookie:NAME"])),
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "split",
            about: "`subject` (issuer and subject, else the address), `ip` (IPv6 by /64), `request`, `header:NAME` or `cookie:NAME` \
                    (what lacks it stays with the route's own upstream)",
            pattern: Some("(subject|ip|request|(header|cookie):.+)"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_are_exact() {
        let share = |text: &str| Share::from_text(text).map(|share| share.to_string());
        for (text, shown) in
            [("0", "0 %"), ("100", "100 %"), ("5", "5 %"), ("0.25", "0.25 %"), ("0.5", "0.5 %"), ("12.50", "12.5 %")]
        {
            assert_eq!(share(text).unwrap(), shown);
        }
        for wrong in ["", "101", "100.01", "-1", "5%", ".5", "5.", "1.234", "1000", "a"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
