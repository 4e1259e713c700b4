//! Names for requests: 128 bits, unique without any shared state, and no secret.

use std::{cell::Cell, sync::Arc};

use http::HeaderValue;

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
        let mut text = [0u8; 32];
        hex(u128::from(self.prefix | 1) << 64 | u128::from(count), &mut text);
        Arc::from(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The `traceparent` of a new trace (W3C Trace Context §3.2), not sampled: it is named after the request where that is
/// named by us, else after what hashes from its name.
pub(super) fn new_traceparent(request_id: &str) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let ours = u128::from_str_radix(request_id, 16).ok().filter(|_| request_id.len() == 32);
    let trace = ours.unwrap_or_else(|| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, request_id.as_bytes());
        digest.as_ref().iter().take(16).fold(0, |value, byte| value << 8 | u128::from(*byte))
    });
    if let Some(digits) = text.get_mut(3..35) {
        hex(trace.max(1), digits);
    }
    if let Some(digits) = text.get_mut(36..52) {
        // A span of its own, never zero.
        hex((trace ^ trace >> 64 | 1) & u128::from(u64::MAX), digits);
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Writes the lowest bits of a number, a digit for each place.
fn hex(value: u128, places: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (at, place) in places.iter_mut().rev().enumerate() {
        let nibble = (value >> (4 * at)) & 0xf;
        *place = DIGITS.get(nibble as usize).copied().unwrap_or(b'0');
    }
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // Names need no secrecy; if the system has no randomness, the process id tells instances apart enough.
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
