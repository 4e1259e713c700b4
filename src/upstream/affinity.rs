//! What keeps requests together, as a number. The hash is the same in every process and release: several gateways in front of the
//! same targets agree, and so does a gateway with itself after a restart, or caches and sessions would go to waste. That whoever
//! chooses the key can choose the target is no loss: the same key again and again does so with any hash.

use std::net::IpAddr;

/// FNV-1a's, 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Hashes what keeps requests together. Parts are told apart: `a`, `bc` is not `ab`, `c`.
pub fn affinity_of(parts: &[&[u8]]) -> u64 {
    let mut hash = OFFSET;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    mix(hash)
}

/// Hashes a client's address: the whole of it in version 4, in version 6 the /64 that one subscriber gets (RFC 6177 §2).
pub fn affinity_of_address(address: IpAddr) -> u64 {
    mix(subscriber(address))
}

/// What counts as one client.
pub(super) fn subscriber(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        // Never below 2^32: no part of ::/8 is anybody's, and what maps version 4 is taken above.
        IpAddr::V6(address) => u64::try_from(u128::from(address) >> 64).unwrap_or(u64::MAX),
    }
}

/// Has every bit of the result depend on every bit of `value`: the end of SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "the first number of SplitMix64 with the seed 0");
        assert_eq!(affinity_of(&[b"tenant-1"]), affinity_of(&[b"tenant-1"]));
        // Written down: another release must not send everybody elsewhere.
        assert_eq!(affinity_of(&[b"https://idp.example/", b"u-1"]), WRITTEN);
    }
    const WRITTEN: u64 = 2_421_314_640_128_679_297;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(affinity_of(&[b"a", b"bc"]), affinity_of(&[b"ab", b"c"]));
        assert_ne!(affinity_of(&[b"a"]), affinity_of(&[b"a", b""]));
    }

    #[test]
    fn one_subscriber_is_one_client() {
        let of = |text: &str| affinity_of_address(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
