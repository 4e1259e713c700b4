//! Randomness: identifiers, codes, secrets. Where the system gives none, nothing is made.

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Fault;
use crate::store::StoreFault;

/// Random bytes.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    let none = |_| Fault::Store(StoreFault::Unavailable("the system gives no randomness".to_owned()));
    rand::fill(&mut bytes).map_err(none)?;
    Ok(bytes)
}

/// An identifier of 128 bits, or a secret that is as hard to guess, in 22 characters of base64url.
pub(super) fn id() -> Result<String, Fault> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<16>()?))
}

/// A code that is handed on by whoever was given it: 256 bits in 43 characters of base64url.
pub(super) fn token() -> Result<String, Fault> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<32>()?))
}

/// A number below `bound`, each as likely as any other: what would make the first ones likelier is thrown again.
pub(super) fn below(bound: u32) -> Result<u32, Fault> {
    let bound = bound.max(1);
    let fair = u32::MAX - u32::MAX % bound;
    loop {
        let number = u32::from_be_bytes(bytes::<4>()?);
        if number < fair {
            return Ok(number % bound);
        }
    }
}

/// A code of six decimal digits.
pub(super) fn digits() -> Result<String, Fault> {
    Ok(format!("{:06}", below(1_000_000)?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_as_likely_as_any_other() {
        let mut seen = [[0_u32; 10]; 6];
        for _ in 0..10_000 {
            let code = digits().unwrap();
            assert_eq!(code.len(), 6);
            for (place, digit) in code.bytes().enumerate() {
                seen[place][usize::from(digit - b'0')] += 1;
            }
        }
        // 1000 are expected of each; six standard deviations are 180.
        assert!(seen.iter().flatten().all(|count| (820..1180).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_number_is_below_its_bound() {
        for bound in [0, 1, 2, 3, 7, u32::MAX] {
            for _ in 0..100 {
                assert!(below(bound).unwrap() < bound.max(1));
            }
        }
    }
}
