//! What counts as one client where clients are counted, bounded and told apart: an address of version 4, or the /64 of one of
//! version 6, since that is what one subscriber gets (RFC 6177 §2) and it has 2^64 addresses in it.

use std::net::{IpAddr, Ipv6Addr};

use smallvec::SmallVec;

/// One client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscriber(IpAddr);

impl Subscriber {
    /// Whose an address is. One of version 4 is the same whether it is written in version 6 or not.
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => Self(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))),
        }
    }

    /// The first of its addresses.
    pub const fn address(self) -> IpAddr {
        self.0
    }

    /// A number of its own.
    pub fn number(self) -> u64 {
        match self.0 {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            // Never below 2^32: no part of ::/8 is anybody's, and what maps version 4 is of version 4.
            IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX),
        }
    }

    /// The bytes that its addresses have in common: four, or eight.
    pub fn bytes(self) -> SmallVec<[u8; 8]> {
        match self.0 {
            IpAddr::V4(address) => SmallVec::from_slice(&address.octets()),
            IpAddr::V6(_) => SmallVec::from_slice(&self.number().to_be_bytes()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that fails should panic")]
mod tests {
    use super::*;

    #[test]
    fn one_subscriber_is_one_client() {
        let of = |text: &str| Subscriber::of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.1").bytes().as_slice(), [192, 0, 2, 1]);
        assert_eq!(of("2001:db8:1:2:3::").bytes().as_slice(), [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2]);
        assert_eq!(of("2001:db8:1:2:3::").address(), "2001:db8:1:2::".parse::<IpAddr>().unwrap());
    }
}
