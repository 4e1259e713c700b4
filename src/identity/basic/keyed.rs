//! Digests under a secret of this process: what is kept in memory of users, addresses and passwords, and of nobody can be
//! made outside. A new secret at every start.

use std::net::IpAddr;

use aws_lc_rs::{hmac, rand::SystemRandom};
use smallvec::SmallVec;

use super::table::Id;
use crate::subscriber::Subscriber;

/// What identifies a password that was tried, or that was right.
pub(super) type Proof = [u8; 32];

/// The secret.
pub(super) struct Keyed(hmac::Key);

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed(…)")
    }
}

impl Keyed {
    /// A new one; `None`: the system has no randomness.
    pub(super) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// The digest of several parts, which never runs one into the other.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> Proof {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    /// Half of it, where only somebody who knows the secret could make two that are the same.
    pub(super) fn id(&self, parts: &[&[u8]]) -> Id {
        let mut id = [0; 16];
        let digest = self.digest(parts);
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        id
    }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 one, which is what one customer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddressGroup(SmallVec<[u8; 8]>);

impl AddressGroup {
    /// The group of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        Self(Subscriber::of(address).bytes())
    }

    /// As a part of a digest.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let keyed = Keyed::new().unwrap();
        assert_eq!(keyed.digest(&[b"a", b"bc"]), keyed.digest(&[b"a", b"bc"]));
        assert_ne!(keyed.digest(&[b"a", b"bc"]), keyed.digest(&[b"ab", b"c"]));
        assert_ne!(keyed.digest(&[b"a"]), Keyed::new().unwrap().digest(&[b"a"]));
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64_and_a_mapped_one_as_ipv4() {
        let group = |address: &str| AddressGroup::of(address.parse().unwrap());
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1:2:3"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(group("::ffff:192.0.2.1"), group("192.0.2.1"));
        assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
    }
}
