//! `cors`: which pages of other origins may ask.

use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use crate::config::{
    OriginPattern,
    decode::{At, FromText, NonEmpty, Refusal, section},
    shape::{Shape, TextShape},
};

section! {
    /// Which pages of other origins may ask (CORS). The gateway answers preflights, and what the upstream says of CORS is taken out of
    /// its answers.
    "cors" Cors {
        /// The origins: `https://app.example`, `https://*.app.example` for those below, or `"*"` for every one.
        origins: At<NonEmpty<At<OriginText>>>,
        /// The methods; without this key all that the route takes.
        methods: Option<NonEmpty<At<Method>>>,
        /// The fields that a page may set, besides those that it always may.
        headers: Vec<At<HeaderName>> = "[authorization, content-type]",
        /// The fields of answers that a page may read, besides those that it always may and those by which the gateway refuses.
        expose: Vec<At<HeaderName>> = "[]",
        /// Whether cookies and client certificates go along.
        credentials: At<bool> = "false",
        /// How long a browser may remember the answer to a preflight.
        max_age: Duration = "10m",
    }
}

/// An origin, those below one, or any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum OriginText {
    Any,
    Pattern(OriginPattern),
}

impl FromText for OriginText {
    const WHAT: &'static str = "an origin";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        const HELP: &str = "write `https://app.example`, `https://*.app.example`, or `\"*\"`";
        match text {
            "*" => return Ok(Self::Any),
            "null" => {
                let why = "every sandboxed frame and every local file has it";
                return Err(Refusal::because(why).help(HELP));
            }
            _ => {}
        }
        let (scheme, authority) = text.split_once("://").ok_or_else(|| Refusal::advice(HELP))?;
        let is_web = matches!(scheme, "https" | "http");
        let (below, host) = match authority.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, authority),
        };
        let is_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        if host.is_empty() || host.contains('*') || scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return Err(Refusal::advice(HELP));
        }
        let plain = format!("{scheme}://{host}");
        if is_web {
            let url = Url::parse(&plain).map_err(|error| Refusal::because(error.to_string()).help(HELP))?;
            let origin = url.origin().ascii_serialization();
            if origin != plain {
                let why = "this is not how a browser writes it";
                let star = if below { origin.replacen("://", "://*.", 1) } else { origin };
                return Err(Refusal::because(why).help(format!("did you mean `{star}`?")));
            }
        } else if below || !host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\".contains(&b)) {
            // Those of applications and extensions are compared as they are.
            return Err(Refusal::advice(HELP));
        }
        Ok(Self::Pattern(match below {
            true => OriginPattern::Below(format!("{scheme}://").into(), format!(".{host}").into()),
            false => OriginPattern::Exact(plain.into()),
        }))
    }

    fn shape() -> Shape {
        let about = "`https://app.example`, `https://*.app.example` for every host below, or `*`";
        Shape::Text(TextShape { name: "origin pattern", about, pattern: Some("[*]|[a-z][a-z0-9+.-]*://.+") })
    }
}

impl OriginText {
    /// Whether pages of it can be changed on their way to the browser.
    pub(in crate::config) fn is_cleartext(&self) -> bool {
        let Self::Pattern(OriginPattern::Exact(text) | OriginPattern::Below(text, _)) = self else { return false };
        let is_loopback = ["http://localhost", "http://127.0.0.1", "http://[::1]"]
            .iter()
            .any(|local| text.strip_prefix(local).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')));
        text.starts_with("http://") && !is_loopback
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        for good in [
            "*",
            "https://app.example",
            "https://app.example:8443",
            "https://*.app.example",
            "http://localhost:3000",
            "http://[::1]:80000".strip_suffix('0').unwrap(),
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(OriginText::from_text(good).is_ok(), "{good}");
        }
        for wrong in [
            "null",
            "",
            "app.example",
            "https://app.example/",
            "https://app.example:443",
            "https://App.example",
            "https://*",
            "https://*.",
            "https://a*.example",
            "https://*.*.example",
            "https://u@app.example",
            "https://app.example/path",
            "https://bücher.example",
            "capacitor://*.x",
            "https:app.example",
        ] {
            assert!(OriginText::from_text(wrong).is_err(), "{wrong}");
        }
        let cleartext = |text: &str| OriginText::from_text(text).unwrap().is_cleartext();
        assert!(cleartext("http://app.example") && cleartext("http://*.app.example"));
        assert!(!cleartext("https://app.example") && !cleartext("http://localhost:3000") && !cleartext("*"));
        assert!(cleartext("http://localhost.evil.example"));
    }
}
