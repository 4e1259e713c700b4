//! Names for requests and their traces: 128 bits, unique without any shared state, and no secret.

use std::{cell::Cell, sync::Arc};

use http::{HeaderName, HeaderValue};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The identifier of a request. Ours is kept in place: most are made, sent on and forgotten.
#[derive(Debug, Clone)]
pub enum RequestId {
    /// Ours: 32 hexadecimal digits in lower case, never all zero, so that it can name a trace as well.
    Ours([u8; 32]),
    /// A trusted proxy's.
    Given(Arc<str>),
}

impl RequestId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        match self {
            // The digits are ASCII.
            Self::Ours(digits) => std::str::from_utf8(digits).unwrap_or_default(),
            Self::Given(text) => text,
        }
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ours(digits) => digits,
            Self::Given(text) => text.as_bytes(),
        }
    }

    /// As the value of `X-Request-Id`.
    pub(super) fn to_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.as_bytes()).ok().map(never_again)
    }
}

/// A value that no other message will have. HPACK's table must not take it (RFC 7541 §7.1.3): it would push out what comes again, and
/// each new one would be compared with all those before it.
fn never_again(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// One worker's source of names: a random half of its own, and a count.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: [u8; 16],
    count: Cell<u64>,
}

impl RequestIds {
    /// A source with a fresh random half.
    pub(super) fn new() -> Self {
        Self { prefix: hex(random() | 1), count: Cell::new(random()) }
    }

    /// The next name.
    pub(super) fn next(&self) -> RequestId {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        let mut digits = [0; 32];
        let (prefix, rest) = digits.split_at_mut(16);
        prefix.copy_from_slice(&self.prefix);
        rest.copy_from_slice(&hex(count));
        RequestId::Ours(digits)
    }
}

/// The trace that a request belongs to, as a `traceparent` has it (W3C Trace Context §3.2).
#[derive(Debug, Clone)]
pub enum Trace {
    /// The client's, valid.
    Continued(HeaderValue),
    /// A new one.
    New([u8; TRACEPARENT_BYTES]),
}

const TRACEPARENT_BYTES: usize = 55;

impl Trace {
    /// A new trace, not sampled: it is named after the request where that is named as we do it, else after what hashes
    /// from its name.
    pub(super) fn new(request_id: &RequestId) -> Self {
        let trace = match request_id {
            RequestId::Ours(digits) => *digits,
            RequestId::Given(text) => digits_of(text).unwrap_or_else(|| hashed(text)),
        };
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        if let Some(place) = text.get_mut(3..35) {
            place.copy_from_slice(&trace);
        }
        if let (Some(place), Some(low)) = (text.get_mut(36..52), trace.get(16..)) {
            place.copy_from_slice(low);
            // A span of its own, never zero.
            if let Some(last) = place.last_mut().filter(|last| **last == b'0') {
                *last = b'1';
            }
        }
        Self::New(text)
    }

    /// As the value of `traceparent`.
    pub(super) fn to_value(&self) -> Option<HeaderValue> {
        match self {
            Self::Continued(value) => Some(value.clone()),
            Self::New(text) => HeaderValue::from_bytes(text).ok().map(never_again),
        }
    }

    /// Its text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Continued(value) => value.as_bytes(),
            Self::New(text) => text,
        }
    }

    /// The identifier of the trace: the second field.
    pub fn trace_id(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes().get(3..35)?).ok()
    }
}

/// A name that can be a trace's as it is.
fn digits_of(name: &str) -> Option<[u8; 32]> {
    let digits: [u8; 32] = name.to_ascii_lowercase().as_bytes().try_into().ok()?;
    (digits.iter().all(u8::is_ascii_hexdigit) && digits.iter().any(|digit| *digit != b'0')).then_some(digits)
}

/// A trace's name for any other.
fn hashed(name: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let number = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok()).map_or(1, u64::from_be_bytes);
    let mut digits = [0; 32];
    let (high, low) = digits.split_at_mut(16);
    high.copy_from_slice(&hex(number(digest.as_ref().get(..8)).max(1)));
    low.copy_from_slice(&hex(number(digest.as_ref().get(8..16))));
    digits
}

/// The digits of a number.
fn hex(value: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [b'0'; 16];
    for (place, byte) in digits.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        let pair = [byte >> 4, byte & 0xf].map(|nibble| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
        place.copy_from_slice(&pair);
    }
    digits
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
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn names_differ_and_are_hexadecimal() {
        let (one, two) = (RequestIds::new(), RequestIds::new());
        let names = [one.next(), one.next(), two.next()].map(|name| name.as_str().to_owned());
        assert!(names.iter().all(|name| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())));
        assert!(names[0] != names[1] && names[1] != names[2]);
        assert_eq!(hex(0x0123_4567_89ab_cdef), *b"0123456789abcdef");
    }

    #[test]
    fn a_new_trace_is_named_after_its_request_and_its_span_is_never_zero() {
        for id in [RequestIds::new().next(), RequestId::Ours(*b"10000000000000000000000000000000")] {
            let trace = Trace::new(&id);
            assert_eq!(trace.trace_id().unwrap(), id.as_str());
            let span = trace.as_bytes().get(36..52).unwrap();
            assert!(span.iter().any(|b| *b != b'0'), "{span:?}");
        }
        let trace = |name: &str| Trace::new(&RequestId::Given(name.into())).trace_id().unwrap().to_owned();
        assert_eq!(trace("ABCDEF00000000000000000000000000"), "abcdef00000000000000000000000000");
        assert_eq!(trace("abc"), trace("abc"));
        assert_ne!(trace("abc"), trace("abd"));
    }
}
