//! What is the same stays together, and what differs is spread evenly: a hash that is the same in every process and release. Several
//! gateways agree, and so does a gateway with itself after a restart. It keeps nobody from finding two inputs that meet.

/// FNV-1a's, 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Hashes parts. They are told apart: `a`, `bc` is not `ab`, `c`.
#[derive(Debug, Clone, Copy)]
pub struct Spread(u64);

impl Spread {
    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(OFFSET)
    }

    /// With another part.
    #[must_use]
    pub fn with(self, part: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        let hash = part.iter().fold(self.0, step);
        // Its length ends it: no byte could, which any part may have.
        Self((part.len() as u64).to_le_bytes().iter().fold(hash, step))
    }

    /// The number, every bit of which depends on every part.
    pub const fn finish(self) -> u64 {
        mix(self.0)
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self::new()
    }
}

/// Has every bit of the result depend on every bit of `value`: the end of SplitMix64 (Steele, Lea and Flood, 2014).
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> u64 {
        parts.iter().fold(Spread::new(), |spread, part| spread.with(part)).finish()
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "the first number of SplitMix64 with the seed 0");
        // Written down: another release must not send everybody elsewhere.
        assert_eq!(of(&[b"https://idp.example/", b"u-1"]), WRITTEN);
    }
    const WRITTEN: u64 = 17_249_473_795_855_251_582;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(of(&[b"a", b"bc"]), of(&[b"ab", b"c"]));
        assert_ne!(of(&[b"a"]), of(&[b"a", b""]));
        assert_ne!(of(&[b"a\xff"]), of(&[b"a", b""]));
    }
}
