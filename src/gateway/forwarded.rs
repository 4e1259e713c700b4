//! Who the client is: the peer, or what a trusted proxy says of it. Without trusted proxies no header is believed.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, header};
use ipnet::IpNet;

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, IPv4-mapped IPv6 as IPv4.
    pub client: IpAddr,
    /// The trusted proxies between the client and us, the nearest last; empty without them.
    pub hops: Vec<IpAddr>,
    /// Whether the peer is a trusted proxy.
    pub peer_trusted: bool,
}

impl Origin {
    /// A request that comes from the peer itself.
    pub fn direct(peer: IpAddr) -> Self {
        Self { client: peer.to_canonical(), hops: Vec::new(), peer_trusted: false }
    }

    /// Reads where a request came from. A malformed header means the peer.
    pub fn read(peer: IpAddr, headers: &HeaderMap, header: &str, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let direct = |peer_trusted| Self { peer_trusted, ..Self::direct(peer) };
        if trusted.is_empty() || !is_trusted(&peer) {
            return direct(false);
        }
        let parsed =
            if header == header::FORWARDED.as_str() { forwarded(headers) } else { address_list(headers, header) };
        let Some(addresses) = parsed else { return direct(true) };
        // The rightmost address that is not a trusted proxy is the client; what stands left of it is its own say.
        let Some(at) = addresses.iter().rposition(|address| !is_trusted(address)) else { return direct(true) };
        let (client, proxies) = match addresses.get(at..).and_then(<[IpAddr]>::split_first) {
            Some((client, proxies)) => (*client, proxies),
            None => return direct(true),
        };
        let hops = proxies.iter().copied().chain([peer]).collect();
        Self { client, hops, peer_trusted: true }
    }

    /// The value of `X-Forwarded-For` for the upstream: what was verified, and nothing else.
    pub fn x_forwarded_for(&self) -> String {
        let mut text = String::with_capacity(48);
        for address in [self.client].iter().chain(&self.hops) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{address}", if text.is_empty() { "" } else { ", " });
        }
        text
    }

    /// The value of `Forwarded` (RFC 7239 §4) for the upstream.
    pub fn forwarded(&self, scheme: &str, host: &str) -> String {
        let mut text = String::with_capacity(96);
        for address in [self.client].iter().chain(&self.hops) {
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = match address {
                IpAddr::V4(address) => write!(text, "{separator}for={address}"),
                IpAddr::V6(address) => write!(text, "{separator}for=\"[{address}]\""),
            };
        }
        text.push_str(";proto=");
        text.push_str(scheme);
        if !host.is_empty() {
            text.push_str(";host=\"");
            text.push_str(host);
            text.push('"');
        }
        text
    }
}

/// The addresses of a list header such as `X-Forwarded-For`, all its lines in order. `None`: not there, or malformed.
pub fn address_list(headers: &HeaderMap, name: &str) -> Option<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for line in headers.get_all(name) {
        for item in line.to_str().ok()?.split(',') {
            addresses.push(address(item.trim())?);
        }
    }
    (!addresses.is_empty()).then_some(addresses)
}

/// The `for` nodes of `Forwarded` (RFC 7239 §5.2, §6). `None`: not there, malformed, or a node that is no address.
pub fn forwarded(headers: &HeaderMap) -> Option<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        for element in split_unquoted(line.to_str().ok()?, ',')? {
            let mut node = None;
            for pair in split_unquoted(element, ';')? {
                let (name, value) = pair.trim().split_once('=')?;
                if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
                    return None;
                }
            }
            let node = node?;
            let bare = match node.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\']))?,
                None => node,
            };
            addresses.push(address(bare)?);
        }
    }
    (!addresses.is_empty()).then_some(addresses)
}

/// Splits outside quoted strings. `None`: a quote is not closed.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut quoted, mut escaped, mut start) = (Vec::new(), false, false, 0);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(text.get(start..at)?);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    (!quoted).then_some(parts)
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let parsed: Option<IpAddr> = match bare {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip())),
    };
    parsed.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    fn read(peer: &str, header: &str, lines: &[&str]) -> (String, usize, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::HeaderName::try_from(header).unwrap(), line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let origin = Origin::read(peer.parse().unwrap(), &headers, header, &trusted);
        (origin.client.to_string(), origin.hops.len(), origin.peer_trusted)
    }

    #[test]
    fn only_a_trusted_peer_is_believed_and_only_from_the_right() {
        let xff = "x-forwarded-for";
        for (peer, lines, client, hops) in [
            ("192.0.2.9", vec!["198.51.100.1"], "192.0.2.9", 0),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1", 1),
            ("10.0.0.1", vec!["6.6.6.6, 198.51.100.1, 10.9.9.9"], "198.51.100.1", 2),
            ("10.0.0.1", vec!["6.6.6.6", "198.51.100.1"], "198.51.100.1", 1),
            ("10.0.0.1", vec!["198.51.100.1:4711"], "198.51.100.1", 1),
            ("10.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1", 1),
            ("::ffff:10.0.0.1", vec!["::ffff:198.51.100.1"], "198.51.100.1", 1),
            ("10.0.0.1", vec!["198.51.100.1, unknown"], "10.0.0.1", 0),
            ("10.0.0.1", vec!["198.51.100.1,"], "10.0.0.1", 0),
            ("10.0.0.1", vec!["10.0.0.2, 10.0.0.3"], "10.0.0.1", 0),
            ("10.0.0.1", vec![], "10.0.0.1", 0),
        ] {
            let (found, count, _) = read(peer, xff, &lines);
            assert_eq!((found.as_str(), count), (client, hops), "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_forwarded_header_is_read_by_its_grammar() {
        for (line, client) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("For=\"[2001:db8::1]:80\";proto=https", "2001:db8::1"),
            ("for=6.6.6.6, for=198.51.100.1;by=10.0.0.1", "198.51.100.1"),
            ("for=\"6.6.6.6, for=198.51.100.1\"", "10.0.0.1"),
            ("for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("for=198.51.100.1;for=6.6.6.6", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("for=\"198.51.100.1", "10.0.0.1"),
        ] {
            assert_eq!(read("10.0.0.1", "forwarded", &[line]).0, client, "{line}");
        }
    }

    #[test]
    fn what_the_upstream_is_told_is_what_was_verified() {
        let origin = Origin {
            client: "2001:db8::1".parse().unwrap(),
            hops: vec!["10.0.0.1".parse().unwrap()],
            peer_trusted: true,
        };
        assert_eq!(origin.x_forwarded_for(), "2001:db8::1, 10.0.0.1");
        assert_eq!(
            origin.forwarded("https", "api.example:8443"),
            "for=\"[2001:db8::1]\", for=10.0.0.1;proto=https;host=\"api.example:8443\""
        );
    }
}
