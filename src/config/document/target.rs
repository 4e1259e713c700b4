//! A target of an upstream: its address alone, or a section that says more of it.

use super::super::{
    Target,
    decode::{At, Cx, Decode, FromText, Refusal, section, words},
    quantity::Count,
    shape::{Shape, TextShape},
    yaml::{Node, Value},
};
use super::reach::{ServiceName, host_name};

/// More than this relation between two targets is a canary's business, and sums of weights stay far from overflowing.
pub(in crate::config) type Weight = Count<1, 1000>;

section! {
    /// A target with its share of the requests, or targets that a name stands for: exactly one of `url` and `srv`.
    "a target" TargetSection {
        /// Where it answers.
        url: Option<At<TargetUrl>>,
        /// A name whose SRV records (RFC 2782) are the targets: those of the lowest priority that answer, by their weights.
        srv: Option<At<ServiceName>>,
        /// How the targets of `srv` are spoken with.
        scheme: Option<At<Scheme>>,
        /// Whether each address of the name in `url` is a target of its own.
        expand: At<bool> = "false",
        /// Its share of the requests, in relation to the other targets'; with `expand`, that of each address.
        weight: At<Weight> = "1",
    }
}

/// A target, by its address alone or written out.
#[derive(Debug, Clone)]
pub(in crate::config) enum TargetText {
    /// Its address.
    Address(At<TargetUrl>),
    /// A section.
    Section(Box<TargetSection>),
}

/// Where a target answers.
#[derive(Debug, Clone)]
pub(in crate::config) enum TargetUrl {
    /// At a name or an address.
    Host(Target),
    /// At a socket in the file system.
    Unix(String),
}

/// Whether TLS is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Scheme {
    /// It is not.
    Http,
    /// It is.
    Https,
}

words! { Scheme, "a scheme":
    "http" => Self::Http, "without TLS";
    "https" => Self::Https, "with TLS, for the name behind the service and its protocol, or `tls.server_name`";
}

impl FromText for TargetUrl {
    const WHAT: &'static str = "an upstream's address";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            // What a socket's address holds on every system (`sun_path`), with its end.
            if path.is_empty() || path.len() > 100 || path.chars().any(char::is_control) {
                return Err(Refusal::advice("write `unix:/path/to/socket`, at most 100 bytes"));
            }
            return Ok(Self::Unix(path.to_owned()));
        }
        let target = Target::from_text(text)?;
        let is_address = target.host.starts_with('[') || target.host.parse::<std::net::Ipv4Addr>().is_ok();
        if !is_address {
            host_name(&target.host, true)?;
        }
        Ok(Self::Host(target))
    }

    fn shape() -> Shape {
        let about = "`http://HOST:PORT` or `https://HOST`, without a path; or `unix:/path`";
        Shape::Text(TextShape { name: "target", about, pattern: Some("https?://[^/]+/?|unix:.+") })
    }
}

impl Decode for TargetText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => TargetSection::decode(node, cx).map(Box::new).map(Self::Section),
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => At::decode(node, cx).map(Self::Address),
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<TargetUrl as Decode>::shape(), TargetSection::shape()])
    }
}
