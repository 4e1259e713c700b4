//! Names for requests: 128 bits, unique without any shared state, and no secret.

use std::{cell::Cell, sync::Arc};

/// One worker's source of names: a random half of its own, and a count.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: u64,
    count: Cell<u64>,
}

impl RequestIds {
    /// A source with a fresh random half.
    pub(super) fn new() -> Self {
        Self { prefix: random(), count: Cell::new(random()) }
    }

    /// The next name: 32 hexadecimal digits, never all zero, so that it can name a trace as well.
    pub(super) fn next(&self) -> Arc<str> {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let value = u128::from(self.prefix | 1) << 64 | u128::from(count);
        let mut text = [0u8; 32];
        for (at, digit) in text.iter_mut().enumerate() {
            let nibble = (value >> (124 - 4 * at)) & 0xf;
            *digit = DIGITS.get(nibble as usize).copied().unwrap_or(b'0');
        }
        Arc::from(std::str::from_utf8(&text).unwrap_or_default())
    }
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // Names need no secrecy; if the system has no randomness, the address of a local tells processes apart enough.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bytes = (std::process::id() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    }
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_hexadecimal() {
        let (one, two) = (RequestIds::new(), RequestIds::new());
        let names = [one.next(), one.next(), two.next()];
        assert!(names.iter().all(|name| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())));
        assert!(names[0] != names[1] && names[1] != names[2]);
    }
}
