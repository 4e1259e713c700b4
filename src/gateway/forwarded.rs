//! Who the client is: the peer, or what a trusted proxy says of it. Without trusted proxies no header is believed.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, header};
use smallvec::SmallVec;

use crate::{body::Arrival, config::Peers};

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

    /// Reads where a request came from, from the right: what stands left of the client's address is the client's own say, and
    /// nothing that it writes there, malformed or not, changes who it is. Malformed before that means the peer.
    pub fn read(peer: IpAddr, arrival: Arrival, headers: &HeaderMap, header: &str, trusted: &Peers) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: &IpAddr| trusted.has(*address);
        let direct = |peer_trusted| Self { peer_trusted, ..Self::direct(peer) };
        if trusted.is_empty() {
            return direct(false);
        }
        // Nobody's address is in no network, whatever is trusted.
        let peer_trusted = match arrival {
            Arrival::Unix => trusted.unix,
            Arrival::Direct | Arrival::Relay { .. } => !peer.is_unspecified() && is_trusted(&peer),
        };
        if !peer_trusted {
            return direct(false);
        }
        let is_forwarded = header == header::FORWARDED.as_str();
        let mut hops: Vec<IpAddr> = [peer].into_iter().filter(|peer| !peer.is_unspecified()).collect();
        for line in headers.get_all(header).iter().rev() {
            let nodes = if is_forwarded { forwarded(line.as_bytes()) } else { address_list(line.as_bytes()) };
            for node in nodes {
                match node {
                    None => return direct(true),
                    Some(proxy) if is_trusted(&proxy) => hops.push(proxy),
                    Some(client) => {
                        hops.reverse();
                        return Self { client, hops, peer_trusted: true };
                    }
                }
            }
        }
        direct(true)
    }

    /// The value of `X-Forwarded-For` for the upstream: what was verified, and nothing else.
    pub fn x_forwarded_for(&self) -> String {
        let mut text = String::with_capacity(48);
        // Whoever has no address is left out: there is no word for it that every service reads.
        for address in [self.client].iter().chain(&self.hops).filter(|address| !address.is_unspecified()) {
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
                nobody if nobody.is_unspecified() => write!(text, "{separator}for=unknown"),
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

/// The addresses of a line of a list header such as `X-Forwarded-For`, the last first; `None`: it is none.
fn address_list(line: &[u8]) -> SmallVec<[Option<IpAddr>; 4]> {
    let item = |item: &[u8]| address(std::str::from_utf8(item).ok()?.trim());
    line.rsplit(|byte| *byte == b',').map(item).collect()
}

/// The `for` nodes of a line of `Forwarded` (RFC 7239 §5.2, §6), the last first; `None`: it is no address.
fn forwarded(line: &[u8]) -> SmallVec<[Option<IpAddr>; 4]> {
    match std::str::from_utf8(line).ok().and_then(|line| split_unquoted(line, ',')) {
        Some(elements) => elements.into_iter().rev().map(node).collect(),
        // A client's quote that is not closed swallows what proxies have added after it, and they close each of theirs.
        None => line.rsplit(|byte| *byte == b',').map(|element| node(std::str::from_utf8(element).ok()?)).collect(),
    }
}

/// The address of an element's one `for`.
fn node(element: &str) -> Option<IpAddr> {
    let mut node = None;
    for pair in split_unquoted(element, ';')? {
        let (name, value) = pair.trim().split_once('=')?;
        if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
            return None;
        }
    }
    let node = node?;
    address(match node.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\']))?,
        None => node,
    })
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

    use http::HeaderValue;

    use super::*;

    fn read(peer: &str, header: &str, lines: &[&str]) -> (String, usize, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(header::HeaderName::try_from(header).unwrap(), line);
        }
        let trusted = trusted(false);
        let origin = Origin::read(peer.parse().unwrap(), Arrival::Direct, &headers, header, &trusted);
        (origin.client.to_string(), origin.hops.len(), origin.peer_trusted)
    }

    fn trusted(unix: bool) -> Peers {
        Peers { networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], unix }
    }

    #[test]
    fn a_peer_without_an_address_is_believed_only_by_its_own_name() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("198.51.100.1"));
        let nobody: IpAddr = "::".parse().unwrap();
        let everywhere = Peers { networks: vec!["::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap()], unix: false };
        let relay = Arrival::Relay { address: None, tls: false };
        for (arrival, trusted, client) in [
            (Arrival::Unix, trusted(false), "::"),
            (Arrival::Unix, everywhere.clone(), "::"),
            (relay, everywhere, "::"),
            (relay, trusted(true), "::"),
            (Arrival::Unix, trusted(true), "198.51.100.1"),
        ] {
            let origin = Origin::read(nobody, arrival, &headers, "x-forwarded-for", &trusted);
            assert_eq!(origin.client.to_string(), client, "{arrival:?} {trusted:?}");
            assert!(origin.hops.is_empty());
        }
        let told = Origin::direct(nobody);
        assert_eq!(
            (told.x_forwarded_for().as_str(), &*told.forwarded("http", "a")),
            ("", "for=unknown;proto=http;host=\"a\"")
        );
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

    /// Whoever could become the peer would be within every network that the proxies are in.
    #[test]
    fn nothing_that_a_client_writes_makes_it_the_proxy() {
        for (header, own, added) in [
            ("x-forwarded-for", vec!["junk", ",", "", "unknown", "\u{e9}", "1.2.3", "\""], "198.51.100.1"),
            (
                "forwarded",
                vec!["junk", "for=_me", "for=\"", "for=\"6.6.6.6", "for=1;for=2", "\u{e9}", ";", "for=\"\\"],
                "for=198.51.100.1;proto=https",
            ),
        ] {
            for own in own {
                assert_eq!(
                    read("10.0.0.1", header, &[&format!("{own}, {added}")]).0,
                    "198.51.100.1",
                    "{header}: {own}"
                );
                assert_eq!(read("10.0.0.1", header, &[own, added]).0, "198.51.100.1", "{header}: {own}");
                let through = if header == "forwarded" { "for=10.0.0.2" } else { "10.0.0.2" };
                assert_eq!(read("10.0.0.1", header, &[own, added, through]).0, "198.51.100.1", "{header}: {own}");
            }
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
