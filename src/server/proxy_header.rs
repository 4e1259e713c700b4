//! The header of the PROXY protocol, versions 1 and 2: a relay in front says for whom it connects, before anything else.
//! Its form is haproxy's <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>; sections below are of that text.
//!
//! It is read to its last byte and no further: what follows is TLS or HTTP. What is not wholly understood is refused, since
//! whoever is taken for another client has that one's quotas and its place in the records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// How version 1 begins (§2.1).
const WORD: &[u8; 6] = b"PROXY ";

/// No header is shorter, of either version.
const LEAST_BYTES: usize = "PROXY UNKNOWN\r\n".len();

/// The longest header of version 1, its line's end included (§2.1).
const V1_BYTES: usize = 107;

/// What comes before the addresses of version 2.
const V2_HEAD_BYTES: usize = 16;

/// The longest rest of version 2 that is read. Addresses have at most 216 bytes; what relays add, names of certificates
/// and of endpoints among it, has some hundred.
const V2_REST_BYTES: usize = 4096;

/// Types of what version 2 adds (§2.2).
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
/// Whether the client spoke TLS with the relay (§2.2.5).
const SSL_CLIENT: u8 = 0x01;

/// What a relay said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// It connects for itself, as for a health check.
    Own,
    /// It connects for somebody of whom it gives no address.
    Unknown,
    /// It connects for a client.
    Client {
        /// The client's address.
        source: SocketAddr,
        /// Whether the client spoke TLS with the relay.
        tls: bool,
    },
}

/// Why there is no header to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderFault {
    /// The connection ended before there was one.
    #[error("the connection ended within the header of the PROXY protocol")]
    Ended,
    /// Something else was sent.
    #[error("what was sent is no header of the PROXY protocol")]
    Missing,
    /// It is not of the form that it should be.
    #[error("the header of the PROXY protocol is malformed")]
    Malformed,
    /// Its checksum is another.
    #[error("the header of the PROXY protocol has a wrong checksum")]
    Checksum,
}

use ProxyHeaderFault::{Malformed, Missing};

/// Reads the header, and not a byte that follows it.
///
/// # Errors
/// When there is none, or it is malformed; then nobody knows who is at the other end.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxyHeader, ProxyHeaderFault> {
    let mut header = Vec::with_capacity(V1_BYTES);
    loop {
        let more = missing(&header)?;
        if more == 0 {
            return parse(&header);
        }
        let mut next = (&mut *stream).take(more as u64);
        match next.read_buf(&mut header).await {
            Ok(0) | Err(_) => return Err(ProxyHeaderFault::Ended),
            Ok(_) => {}
        }
    }
}

/// How many bytes surely still belong to a header that begins like this; none when it is whole.
///
/// # Errors
/// When no header begins like this.
pub fn missing(header: &[u8]) -> Result<usize, ProxyHeaderFault> {
    if header.is_empty() {
        return Ok(LEAST_BYTES);
    }
    let is_begun = |whole: &[u8]| header.starts_with(whole) || whole.starts_with(header);
    if is_begun(SIGNATURE) {
        return match header.get(V2_HEAD_BYTES - 2..V2_HEAD_BYTES) {
            Some(&[high, low]) => {
                let rest = usize::from(u16::from_be_bytes([high, low]));
                if rest > V2_REST_BYTES {
                    return Err(Malformed);
                }
                Ok((V2_HEAD_BYTES + rest).saturating_sub(header.len()))
            }
            Some(_) | None => Ok(V2_HEAD_BYTES.saturating_sub(header.len())),
        };
    }
    if !is_begun(WORD) {
        return Err(Missing);
    }
    match header {
        [line @ .., b'\r', b'\n'] if is_printable(line) => Ok(0),
        [line @ .., b'\r'] if is_printable(line) && header.len() < V1_BYTES => Ok(1),
        line if is_printable(line) && header.len() + 2 <= V1_BYTES => {
            // However long the line becomes, its end is yet to come.
            Ok(LEAST_BYTES.saturating_sub(header.len()).max(2))
        }
        _ => Err(Malformed),
    }
}

fn is_printable(line: &[u8]) -> bool {
    line.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// Reads a header that is whole.
///
/// # Errors
/// When it is malformed.
pub fn parse(header: &[u8]) -> Result<ProxyHeader, ProxyHeaderFault> {
    match header.strip_prefix(SIGNATURE) {
        Some(rest) => version_2(header, rest),
        None => {
            let line = header.strip_prefix(WORD).and_then(|line| line.strip_suffix(b"\r\n")).ok_or(Missing)?;
            version_1(std::str::from_utf8(line).map_err(|_| Malformed)?)
        }
    }
}

/// What stands between `PROXY ` and the line's end.
fn version_1(line: &str) -> Result<ProxyHeader, ProxyHeaderFault> {
    // Whatever follows this word is to be ignored.
    if line.strip_prefix("UNKNOWN").is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
        return Ok(ProxyHeader::Unknown);
    }
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Malformed);
    let (family, source, destination, source_port, destination_port) = (word()?, word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Malformed);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Malformed),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Malformed),
        _ => Err(Malformed),
    };
    let port = |text: &str| {
        let is_plain = text == "0" || !text.starts_with(['0', '+']);
        text.parse::<u16>().ok().filter(|_| is_plain).ok_or(Malformed)
    };
    address(destination)?;
    port(destination_port)?;
    Ok(ProxyHeader::Client { source: SocketAddr::new(address(source)?, port(source_port)?), tls: false })
}

/// `rest` is what follows the signature.
fn version_2(header: &[u8], rest: &[u8]) -> Result<ProxyHeader, ProxyHeaderFault> {
    let &[version_and_command, family, high, low, ref body @ ..] = rest else { return Err(Malformed) };
    if body.len() != usize::from(u16::from_be_bytes([high, low])) {
        return Err(Malformed);
    }
    match version_and_command {
        // Whatever follows is to be ignored.
        0x20 => return Ok(ProxyHeader::Own),
        0x21 => {}
        _ => return Err(Malformed),
    }
    let (source, added) = match family {
        0x00 => return Ok(ProxyHeader::Unknown),
        0x11 | 0x12 => {
            let (addresses, added) = body.split_first_chunk::<12>().ok_or(Malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let source = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
            (Some(source), added)
        }
        0x21 | 0x22 => {
            let (source, after) = body.split_first_chunk::<16>().ok_or(Malformed)?;
            let (_, after) = after.split_first_chunk::<16>().ok_or(Malformed)?;
            let (&[high, low, _, _], added) = after.split_first_chunk::<4>().ok_or(Malformed)?;
            (Some(SocketAddr::from((*source, u16::from_be_bytes([high, low])))), added)
        }
        0x31 | 0x32 => (None, body.split_first_chunk::<216>().ok_or(Malformed)?.1),
        _ => return Err(Malformed),
    };
    let tls = added_fields(header, added)?;
    Ok(source.map_or(ProxyHeader::Unknown, |source| ProxyHeader::Client { source, tls }))
}

/// Looks through what is added after the addresses; gives whether the client spoke TLS with the relay.
fn added_fields(header: &[u8], mut added: &[u8]) -> Result<bool, ProxyHeaderFault> {
    let (mut tls, mut checked) = (false, false);
    while !added.is_empty() {
        let (&[kind, high, low], after) = added.split_first_chunk::<3>().ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, after) = after.split_at_checked(length).ok_or(Malformed)?;
        match kind {
            CRC32C => {
                let told: &[u8; 4] = value.try_into().map_err(|_| Malformed)?;
                let end = header.len() - after.len();
                let (before, behind) = (header.get(..end - 4).ok_or(Malformed)?, after);
                if std::mem::replace(&mut checked, true) {
                    return Err(Malformed);
                }
                if crc32c([before, &[0; 4], behind]) != u32::from_be_bytes(*told) {
                    return Err(ProxyHeaderFault::Checksum);
                }
            }
            SSL => tls |= value.first().ok_or(Malformed)? & SSL_CLIENT != 0,
            _ => {}
        }
        added = after;
    }
    Ok(tls)
}

/// CRC-32C (RFC 9260, appendix A), bit by bit: once a connection, over some dozen bytes.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.into_iter().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn client(source: &str) -> Result<ProxyHeader, ProxyHeaderFault> {
        Ok(ProxyHeader::Client { source: source.parse().unwrap(), tls: false })
    }

    /// Reads what a relay sends, one piece after the other; gives what is left for whoever comes next.
    fn receive(sent: &[u8]) -> (Result<ProxyHeader, ProxyHeaderFault>, Vec<u8>) {
        let mut left = sent;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(&mut left));
        (read, left.to_vec())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn v2_tcp4(added: &[u8]) -> Vec<u8> {
        v2(0x21, 0x11, &[&[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80][..], added].concat())
    }

    #[test]
    fn both_versions_are_read_and_not_a_byte_that_follows() {
        let six = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 80, 0, 81]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(), client("192.0.2.1:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n".to_vec(), client("[2001:db8::1]:0")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(ProxyHeader::Unknown)),
            (b"PROXY UNKNOWN ffff:: whatever 1 2\r\n".to_vec(), Ok(ProxyHeader::Unknown)),
            (v2_tcp4(&[]), client("192.0.2.1:4660")),
            (v2(0x21, 0x21, &six), client("[2001:db8::1]:80")),
            (v2(0x21, 0x22, &six), client("[2001:db8::1]:80")),
            (v2(0x21, 0x31, &[7; 216]), Ok(ProxyHeader::Unknown)),
            (v2(0x21, 0x00, b"anything"), Ok(ProxyHeader::Unknown)),
            (v2(0x20, 0x00, &[]), Ok(ProxyHeader::Own)),
            (v2(0x20, 0x11, b"anything"), Ok(ProxyHeader::Own)),
            (v2_tcp4(&[0xe0, 0, 2, 1, 2, 0x04, 0, 0]), client("192.0.2.1:4660")),
        ] {
            for after in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"] {
                let sent = [&header[..], after].concat();
                assert_eq!(receive(&sent), (expected, after.to_vec()), "{:?}", String::from_utf8_lossy(&header));
            }
            for cut in 0..header.len() {
                assert_eq!(receive(header.get(..cut).unwrap()).0, Err(ProxyHeaderFault::Ended), "{cut} of {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_found_out_at_its_first_bytes() {
        for sent in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x02\x00",
            b"PROXY-",
            b"PRI * HTTP/2.0",
            b"\r\n\r\n\0\r\nQUIX",
            b" ",
        ] {
            assert_eq!(receive(sent).0, Err(Missing), "{sent:?}");
        }
    }

    #[test]
    fn what_is_not_wholly_understood_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES));
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES - 16));
        assert_eq!(receive(longest.as_bytes()).0, Ok(ProxyHeader::Unknown));
        for line in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 4660 80 9\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 4660 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 04660 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +4660 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.01 10.0.0.1 1 80\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY unknown\r\n\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n\r\n",
            "PROXY TCP4 192.0.2.1\r10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\0\r\n",
            &long,
        ] {
            assert_eq!(receive(line.as_bytes()).0, Err(Malformed), "{line:?}");
        }
        for header in [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x13, &[0; 40]),
            v2(0x21, 0x41, &[0; 40]),
            v2_tcp4(&[4]),
            v2_tcp4(&[4, 0, 1]),
            v2_tcp4(&[4, 0, 2, 1]),
            v2_tcp4(&[CRC32C, 0, 3, 1, 2, 3]),
            v2_tcp4(&[SSL, 0, 0]),
            v2(0x21, 0x11, &[0; V2_REST_BYTES + 1]),
        ] {
            assert_eq!(receive(&header).0, Err(Malformed), "{header:?}");
        }
    }

    #[test]
    fn a_checksum_is_verified_where_there_is_one() {
        assert_eq!(crc32c([b"123", b"456", b"789"]), 0xe306_9283);
        let mut header = v2_tcp4(&[0x04, 0, 0, CRC32C, 0, 4, 0, 0, 0, 0, 0xe0, 0, 1, 7]);
        let sum = crc32c([&header, &[], &[]]).to_be_bytes();
        let at = header.len() - 8;
        header.get_mut(at..at + 4).unwrap().copy_from_slice(&sum);
        assert_eq!(receive(&header).0, client("192.0.2.1:4660"));
        for place in [20, at, header.len() - 1] {
            let mut other = header.clone();
            *other.get_mut(place).unwrap() ^= 1;
            assert_eq!(receive(&other).0, Err(ProxyHeaderFault::Checksum), "{place}");
        }
    }

    #[test]
    fn a_relay_tells_whether_its_client_spoke_tls() {
        for (flags, expected) in [(0, false), (1, true), (6, false), (7, true)] {
            let header = v2_tcp4(&[SSL, 0, 5, flags, 0, 0, 0, 0]);
            let Ok(ProxyHeader::Client { tls, .. }) = receive(&header).0 else { panic!("{flags}") };
            assert_eq!(tls, expected);
        }
    }
}
