//! How an upstream is reached: its protocol, TLS beside `ca`, the PROXY protocol, and `dns`.

use std::net::SocketAddr;

use super::Certificate;
use crate::config::{
    ProxyVersion, UpstreamProtocol,
    decode::{At, FromText, NonEmpty, Refusal, section, words},
    shape::{Shape, TextShape},
};

section! {
    /// How TLS is spoken with an upstream's https targets, beside `ca`.
    "TLS to an upstream" UpstreamTls {
        /// Whose certificate they must show, in place of the target's name; also what is asked for by SNI.
        server_name: Option<At<ServerNameText>>,
        /// What the gateway shows of itself, where they ask for a certificate. Read again when the files change.
        certificate: Option<Certificate>,
    }
}

section! {
    /// Who is asked for the addresses of upstreams' names. `/etc/hosts` goes before in any case.
    "dns" Dns {
        /// Name servers, in place of those of `/etc/resolv.conf`: `10.0.0.2:53`. Names are then asked for as they are
        /// written, without search domains.
        servers: Option<NonEmpty<At<NameServer>>>,
    }
}

words! { UpstreamProtocol, "a protocol":
    "http1" => Self::Http1, "HTTP/1.1";
    "http2" => Self::Http2, "HTTP/2 and nothing else: by ALPN over TLS, with prior knowledge without";
    "auto" => Self::Auto, "what the target chooses by ALPN; HTTP/1.1 without TLS";
}

words! { ProxyVersion, "a version of the PROXY protocol":
    "v1" => Self::V1, "a line of text";
    "v2" => Self::V2, "binary";
}

/// A name, or an address, that a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct ServerNameText(pub(in crate::config) String);

impl FromText for ServerNameText {
    const WHAT: &'static str = "a server's name";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        if text.contains('*') {
            return Err(Refusal::because("a certificate may be for a wildcard, a server has one name"));
        }
        host_name(text, false)?;
        Ok(Self(text.to_ascii_lowercase()))
    }

    fn shape() -> Shape {
        let about = "a name or an address, as certificates have it: `api.internal`";
        Shape::Text(TextShape { name: "server name", about, pattern: None })
    }
}

/// The address of a name server, with its port or 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct NameServer(pub(in crate::config) SocketAddr);

impl FromText for NameServer {
    const WHAT: &'static str = "a name server's address";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        let bare = || text.parse().ok().map(|address| SocketAddr::new(address, 53));
        with_port
            .or_else(bare)
            .map(Self)
            .ok_or_else(|| Refusal::advice("write `10.0.0.2:53`, `10.0.0.2` or `[2001:db8::1]:53`"))
    }

    fn shape() -> Shape {
        let about = "an IP address, with a port or 53";
        Shape::Text(TextShape { name: "name server", about, pattern: None })
    }
}

/// The name of services in the DNS (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct ServiceName(pub(in crate::config) String);

impl FromText for ServiceName {
    const WHAT: &'static str = "the name of a service";

    fn from_text(text: &str) -> Result<Self, Refusal> {
        host_name(text, true)?;
        let mut labels = text.trim_end_matches('.').split('.');
        let both = labels.next().is_some_and(is_symbolic) && labels.next().is_some_and(is_symbolic);
        if !both || labels.next().is_none() {
            return Err(Refusal::advice("write service, protocol and name: `_http._tcp.api.internal` (RFC 2782)"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    fn shape() -> Shape {
        let about = "a name that has SRV records: `_http._tcp.api.internal`";
        Shape::Text(TextShape { name: "service name", about, pattern: Some("_[^.]+\\._[^.]+\\..+") })
    }
}

fn is_symbolic(label: &str) -> bool {
    label.len() > 1 && label.starts_with('_')
}

/// Whether the DNS can be asked for a name (RFC 1035 §2.3.4), and a host can have it (RFC 1123 §2.1); underscores are in use.
pub(in crate::config) fn host_name(text: &str, underscores: bool) -> Result<(), Refusal> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() || name.len() > 253 {
        return Err(Refusal::because("a name has 1 to 253 characters"));
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(Refusal::because("between its dots a name has 1 to 63 characters"));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || (b == b'_' && underscores);
        if !label.bytes().all(allowed) || label.starts_with('-') || label.ends_with('-') {
            return Err(Refusal::because("a name has letters, digits and, not at an end, `-`"));
        }
    }
    Ok(())
}
