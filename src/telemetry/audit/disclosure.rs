//! Salted commitments to identifying values, as SD-JWT makes them (RFC 9901 §4.2).
//!
//! The chain covers the digest of a disclosure; the disclosure itself, with its salt, stands beside it on the same
//! line. Once it is taken away, nobody can tell the value from the digest, and the chain still verifies.

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::telemetry::json::push_string;

/// 128 bits, as RFC 9901 §9.3 recommends.
const SALT_BYTES: usize = 16;

/// The disclosures of one record, and the digests that commit to them, in the same order.
#[derive(Debug, Default)]
pub(super) struct Commitments {
    pub(super) disclosures: Vec<String>,
    pub(super) digests: Vec<String>,
}

/// There were no random bytes for a salt, so nothing can be committed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoSalt;

impl Commitments {
    /// Commits to a value under a name.
    pub(super) fn commit(&mut self, name: &str, value: &str) -> Result<(), NoSalt> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(|_| NoSalt)?;
        let mut array = String::from("[");
        push_string(&mut array, &URL_SAFE_NO_PAD.encode(salt));
        array.push_str(", ");
        push_string(&mut array, name);
        array.push_str(", ");
        push_string(&mut array, value);
        array.push(']');
        let disclosure = URL_SAFE_NO_PAD.encode(array);
        self.digests.push(digest_of(&disclosure));
        self.disclosures.push(disclosure);
        Ok(())
    }
}

/// The digest that commits to a disclosure (RFC 9901 §4.2.3): over the base64url text, not over what it encodes.
pub(super) fn digest_of(disclosure: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, disclosure.as_bytes()))
}

/// Whether a disclosure was erased in its place: struck out, every character a `-`. That encodes no JSON.
pub(super) fn is_struck_out(disclosure: &str) -> bool {
    disclosure.bytes().all(|byte| byte == b'-')
}

/// The name and the value that a disclosure discloses; `None` if it is none.
pub(super) fn read(disclosure: &str) -> Option<(String, String)> {
    let array: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(disclosure).ok()?).ok()?;
    let [Value::String(_), Value::String(name), Value::String(value)] = array.as_array()?.as_slice() else {
        return None;
    };
    Some((name.clone(), value.clone()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_has_the_digest_of_the_rfc() {
        // RFC 9901 §4.2.3.
        let disclosure = "WyI2cU1RdlJMNWhhaiIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0";
        assert_eq!(digest_of(disclosure), "uutlBuYeMDyjLLTpf6Jxi7yNkEF35jdyWMn9U7b_RYY");
        assert_eq!(read(disclosure), Some(("family_name".into(), "Möbius".into())));
    }

    #[test]
    fn the_same_value_is_never_committed_to_alike() {
        let mut commitments = Commitments::default();
        commitments.commit("subject", "ann").unwrap();
        commitments.commit("subject", "ann").unwrap();
        assert_ne!(commitments.digests[0], commitments.digests[1]);
        assert_eq!(read(&commitments.disclosures[0]), Some(("subject".into(), "ann".into())));
        assert_eq!(digest_of(&commitments.disclosures[1]), commitments.digests[1]);
    }
}
