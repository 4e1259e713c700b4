//! The PROXY protocol (HAProxy's, versions 1 and 2) towards a service: the first bytes of a connection say for whom it is.
//! Such a connection carries requests of that client alone, so it is never used for a second one.

use std::net::{IpAddr, SocketAddr};

use crate::config::ProxyVersion;

/// Before every header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Whom a connection is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduced {
    /// The client, as the gateway believes it; without a port (0) where only its address is known.
    pub client: SocketAddr,
    /// Where it reached the gateway.
    pub local: SocketAddr,
}

/// The header; `None` for a connection of the gateway's own. A client without an address is nobody, and never the gateway.
pub(super) fn header(version: ProxyVersion, introduced: Option<Introduced>) -> Vec<u8> {
    let ends = introduced.filter(|it| !it.client.ip().is_unspecified()).map(|it| of_one_family(it.client, it.local));
    match version {
        ProxyVersion::V1 => match ends {
            Some((client, local)) => {
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let (from, to) = (client.ip(), local.ip());
                format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), local.port()).into_bytes()
            }
            None => b"PROXY UNKNOWN\r\n".to_vec(),
        },
        ProxyVersion::V2 => {
            let mut header = SIGNATURE.to_vec();
            match ends {
                Some((client, local)) => {
                    let (family, length) = if client.is_ipv4() { (0x11, 12_u16) } else { (0x21, 36) };
                    header.extend([0x21, family]);
                    header.extend(length.to_be_bytes());
                    for end in [client, local] {
                        match end.ip() {
                            IpAddr::V4(address) => header.extend(address.octets()),
                            IpAddr::V6(address) => header.extend(address.octets()),
                        }
                    }
                    for end in [client, local] {
                        header.extend(end.port().to_be_bytes());
                    }
                }
                // PROXY for UNSPEC: for somebody else, of whom nothing is known.
                None if introduced.is_some() => header.extend([0x21, 0, 0, 0]),
                // LOCAL: for the sender itself.
                None => header.extend([0x20, 0, 0, 0]),
            }
            header
        }
    }
}

/// Both in one family: an IPv4 address beside an IPv6 one is mapped into it (RFC 4291 §2.5.5.2).
fn of_one_family(client: SocketAddr, local: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (client, local) = (canonical(client), canonical(local));
    if client.is_ipv4() == local.is_ipv4() {
        return (client, local);
    }
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (mapped(client), mapped(local))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    fn introduced(client: &str, local: &str) -> Option<Introduced> {
        Some(Introduced { client: client.parse().unwrap(), local: local.parse().unwrap() })
    }

    fn line(introduced: Option<Introduced>) -> String {
        String::from_utf8(header(ProxyVersion::V1, introduced)).unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        assert_eq!(
            line(introduced("192.0.2.1:4711", "198.51.100.2:443")),
            "PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"
        );
        assert_eq!(line(introduced("[2001:db8::1]:1", "[::1]:2")), "PROXY TCP6 2001:db8::1 ::1 1 2\r\n");
        assert_eq!(line(None), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let v4 = header(ProxyVersion::V2, introduced("192.0.2.1:4711", "198.51.100.2:443"));
        assert_eq!(v4, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x12\x67\x01\xbb");
        let v6 = header(ProxyVersion::V2, introduced("[2001:db8::1]:1", "[::1]:2"));
        assert_eq!(v6.len(), 16 + 36);
        assert_eq!(v6.get(12..16).unwrap(), b"\x21\x21\0\x24");
    }

    #[test]
    fn two_families_become_one() {
        assert_eq!(
            line(introduced("[2001:db8::1]:1", "192.0.2.9:443")),
            "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.9 1 443\r\n"
        );
        assert_eq!(
            line(introduced("[::ffff:192.0.2.1]:1", "192.0.2.9:443")),
            "PROXY TCP4 192.0.2.1 192.0.2.9 1 443\r\n"
        );
    }

    #[test]
    fn a_client_without_an_address_is_not_made_one() {
        assert_eq!(line(introduced("0.0.0.0:0", "192.0.2.9:443")), "PROXY UNKNOWN\r\n");
        for nobody in ["0.0.0.0:0", "[::]:0"] {
            let of_nobody = header(ProxyVersion::V2, introduced(nobody, "192.0.2.9:443"));
            assert_eq!(of_nobody.get(12..).unwrap(), b"\x21\0\0\0", "for somebody, and not for the gateway itself");
        }
        let local = header(ProxyVersion::V2, None);
        assert_eq!(local.get(12..).unwrap(), b"\x20\0\0\0");
    }
}
