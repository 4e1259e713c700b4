//! How requests are spread over an upstream's targets, and what bounds them.

use std::time::Duration;

use crate::config::{
    Balance, HashKey,
    decode::{At, Cx, Decode, FromText, NonEmpty, Refusal, section, words},
    quantity::{Count, Percent},
    shape::{Shape, TextShape},
    text::cookie_name,
    yaml::{Node, Value},
};

/// Which target a request goes to.
#[derive(Debug, Clone)]
pub(in crate::config) enum BalanceText {
    /// A word.
    Word(Balance),
    /// The same for the same key.
    Hash(Box<Hash>),
}

section! {
    /// Requests with the same key go to the same target. When a target leaves, only its own keys move; a request without the key
    /// takes turns.
    "a hash" Hash {
        /// What keeps requests together.
        hash: HashKey,
    }
}

section! {
    /// Targets are asked whether they are well. The first answer counts at once.
    "a health check" HealthCheck {
        /// What is asked for, by GET: a path, perhaps with a query.
        path: CheckPath = "/",
        /// What targets are told as `Host` instead of their own.
        host: Option<CheckHost>,
        /// From one question to the next, give or take a tenth.
        interval: At<Duration> = "10s",
        /// How long an answer may take, connecting included; at most `interval`.
        timeout: At<Duration> = "2s",
        /// Good answers in a row that make a target well.
        healthy: Count<1, 100> = "2",
        /// Bad ones in a row that make it unwell.
        unhealthy: Count<1, 100> = "3",
        /// Statuses of good answers.
        statuses: NonEmpty<At<StatusRange>> = "[200-299]",
    }
}

section! {
    /// A target is left out for a while after failures in a row: connections that cannot be made or break, answers that do not come
    /// in time, and the statuses 502, 503 and 504. Without this section only connections that cannot be made count, three in a
    /// row, for 5 s to 60 s.
    "ejection" Ejection {
        /// Failures in a row that eject.
        failures: Count<1, 1000> = "5",
        /// How long the first time; each time that follows soon is twice as long.
        base: At<Duration> = "10s",
        /// How long at most.
        max: At<Duration> = "5m",
        /// Below this share of targets that are well, all are used: a fault that they share is none of the target's. 0% asks for at
        /// least one.
        panic: Percent = "50%",
    }
}

section! {
    /// How many requests may be under way to a service at once, over all of its targets. Those beyond wait, and clients take
    /// turns, so that none is kept waiting by another's many.
    "concurrency" Concurrency {
        /// Under way, until the end of the answer, and over HTTP/1.1 of what is still sent of the request behind it.
        requests: Count<1, 1_000_000>,
        /// Waiting; one more is refused at once.
        queue: Count<0, 100_000> = "512",
        /// How long one may wait before it is refused.
        queue_timeout: Duration = "5s",
    }
}

section! {
    /// When a request is sent again, on another target if there is one. What certainly never reached a target may be anything; else it
    /// is a GET, HEAD or OPTIONS without a body that is no guarded operation.
    "retries" Retries {
        /// How often at most.
        attempts: Count<0, 10> = "2",
        /// When: `connect` (no connection could be made), `reset` (it broke before an answer), and statuses from 500 to 599.
        on: Vec<At<RetryOn>> = "[connect, reset]",
        /// How much of all requests may be repetitions, beside three a second. What never reached a target does not count.
        budget: Percent = "20%",
    }
}

words! { BalanceWord, "a way to choose a target":
    "round_robin" => Self::RoundRobin, "turns by weight";
    "least_requests" => Self::LeastRequests, "the one of two with fewer requests under way, by weight";
}

/// A word for a way to choose a target.
#[derive(Debug, Clone, Copy)]
enum BalanceWord {
    RoundRobin,
    LeastRequests,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(in crate::config) struct CheckPath(pub(in crate::config) String);

/// What is told as `Host`.
#[derive(Debug, Clone)]
pub(in crate::config) struct CheckHost(pub(in crate::config) String);

/// Statuses, from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct StatusRange(pub(in crate::config) u16, pub(in crate::config) u16);

/// When a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum RetryOn {
    Connect,
    Reset,
    Status(u16),
}

impl Decode for BalanceText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Hash::decode(node, cx).map(Box::new).map(Self::Hash),
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => {
                BalanceWord::decode(node, cx).map(|word| match word {
                    BalanceWord::RoundRobin => Self::Word(Balance::RoundRobin),
                    BalanceWord::LeastRequests => Self::Word(Balance::LeastRequests),
                })
            }
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<BalanceWord as Decode>::shape(), Hash::shape()])
    }
}

impl FromText for HashKey {
    const WHAT: &'static str = "what keeps requests together";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match text.split_once(':') {
            Some(("header", name)) => return FromText::from_text(name).map(Self::Header),
            Some(("cookie", name)) => return cookie_name(name).map(|name| Self::Cookie(name.into())),
            Some(_) | None => {}
        }
        match text {
            "subject" => Ok(Self::Subject),
            "ip" => Ok(Self::Ip),
            _ => Err(Refusal::advice("write `header:NAME`, `cookie:NAME`, `subject` or `ip`")),
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "hash key",
            about: "`header:NAME`, `cookie:NAME`, `subject` (issuer and subject of the caller) or `ip`",
            pattern: Some("(header|cookie):.+|subject|ip"),
        })
    }
}

impl FromText for CheckPath {
    const WHAT: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if !text.starts_with('/') || text.len() > 1024 || text.contains('#') {
            return Err(Refusal::because("it must start with `/`, and have at most 1024 bytes and no fragment"));
        }
        text.parse::<http::uri::PathAndQuery>()
            .map(|_| Self(text.to_owned()))
            .map_err(|_| Refusal::because("it has characters that must be encoded (RFC 3986 §3.3)"))
    }

    fn shape() -> Shape {
        Shape::Text(TextShape { name: "check path", about: "a path, perhaps with a query", pattern: Some("/[^#]*") })
    }
}

impl FromText for CheckHost {
    const WHAT: &'static str = "a host";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match text.parse::<http::uri::Authority>() {
            Ok(authority) if !text.contains('@') && !authority.host().is_empty() => Ok(Self(text.to_owned())),
            Ok(_) | Err(_) => Err(Refusal::advice("write `HOST` or `HOST:PORT`")),
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape { name: "host", about: "`HOST` or `HOST:PORT`", pattern: None })
    }
}

impl FromText for StatusRange {
    const WHAT: &'static str = "a status or a range of them";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let help = || Refusal::advice("write a status or a range: `204`, `200-399`");
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (status(from), status(to)) {
            (Some(from), Some(to)) if from <= to => Ok(Self(from, to)),
            _ => Err(help()),
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "statuses",
            about: "a status or a range: `204`, `200-399`",
            pattern: Some("[1-5][0-9][0-9](-[1-5][0-9][0-9])?"),
        })
    }
}

impl FromText for RetryOn {
    const WHAT: &'static str = "a reason to send a request again";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        match (text, status(text)) {
            ("connect", _) => Ok(Self::Connect),
            ("reset", _) => Ok(Self::Reset),
            (_, Some(status)) if status >= 500 => Ok(Self::Status(status)),
            _ => Err(Refusal::advice("write `connect`, `reset`, or a status from 500 to 599")),
        }
    }

    fn shape() -> Shape {
        Shape::Text(TextShape {
            name: "reason to retry",
            about: "`connect`, `reset`, or a status from 500 to 599",
            pattern: Some("connect|reset|5[0-9][0-9]"),
        })
    }
}

/// A status that a final answer may have.
fn status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| digits && (200..=599).contains(status))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn statuses_are_one_or_a_range_that_goes_up() {
        assert_eq!(StatusRange::from_text("204").unwrap(), StatusRange(204, 204));
        assert_eq!(StatusRange::from_text("200-399").unwrap(), StatusRange(200, 399));
        for wrong in ["", "2", "20", "100", "600", "300-200", "200-", "-299", "+200", "200-299-300"] {
            assert!(StatusRange::from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_are_kept_together_by_what_is_there_to_be_looked_at() {
        assert_eq!(HashKey::from_text("header:X-Tenant").unwrap(), HashKey::Header("x-tenant".parse().unwrap()));
        assert_eq!(HashKey::from_text("cookie:sid").unwrap(), HashKey::Cookie("sid".into()));
        for wrong in ["", "header:", "cookie:", "cookie:a b", "cookie:a=b", "claim:x", "Subject"] {
            assert!(HashKey::from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_is_asked_for_in_origin_form() {
        for good in ["/", "/healthz?full=1", "/a%20b"] {
            assert!(CheckPath::from_text(good).is_ok(), "{good}");
        }
        for wrong in ["", "healthz", "http://a/", "/a b", "/a#b", "/a\r\nx: y"] {
            assert!(CheckPath::from_text(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "a@b", "a/b", "a b"] {
            assert!(CheckHost::from_text(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_sent_again_is_what_failed() {
        assert_eq!(RetryOn::from_text("503").unwrap(), RetryOn::Status(503));
        for wrong in ["", "404", "200", "timeout", "5xx"] {
            assert!(RetryOn::from_text(wrong).is_err(), "{wrong}");
        }
    }
}
