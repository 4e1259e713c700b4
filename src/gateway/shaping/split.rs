//! Which of two services gets a request. The same caller goes to the same one, on every worker, after every restart and on every
//! machine: it is a hash of what stays together, without a key, since whoever chooses theirs chooses no more than a version.

use std::net::IpAddr;

use http::{HeaderMap, header};

use crate::{
    config::{Canary, SplitBy},
    gateway::Inbound,
    policy::Principal,
    runtime::{CompiledRoute, Side},
};

/// The side that a request goes to.
pub(in crate::gateway) fn side(route: &CompiledRoute, inbound: &Inbound, principal: Option<&Principal>) -> Side {
    let Some(canary) = route.shaping.as_ref().and_then(|shaping| shaping.rules.canary.as_ref()) else {
        return Side::Own;
    };
    match point(canary, inbound, principal) {
        Some(point) if canary.share.has(point) => Side::Canary,
        Some(_) | None => Side::Own,
    }
}

/// Where a request lies among all; `None` where it has nothing of what stays together.
fn point(canary: &Canary, inbound: &Inbound, principal: Option<&Principal>) -> Option<u64> {
    // By the canary's name, so that a caller is on the same side of all routes that have it.
    let hash = Hash::new(b"canary").with(canary.upstream.name.as_bytes());
    Some(
        match &canary.by {
            SplitBy::Request => hash.with(inbound.request_id.as_str().as_bytes()),
            SplitBy::Subject => match principal.filter(|principal| !principal.subject.is_empty()) {
                Some(principal) => hash.with(principal.issuer_url.as_bytes()).with(principal.subject.as_bytes()),
                None => hash.with_address(inbound.origin.client),
            },
            SplitBy::Ip => hash.with_address(inbound.origin.client),
            SplitBy::Header(name) => {
                let mut values = inbound.headers.get_all(name).iter().peekable();
                values.peek()?;
                values.fold(hash, |hash, value| hash.with(value.as_bytes()))
            }
            SplitBy::Cookie(name) => hash.with(cookie(&inbound.headers, name)?),
        }
        .point(),
    )
}

/// The value of the first cookie of a name.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// FNV-1a with a final mix (that of MurmurHash3), so that the upper bits are as good as the lower ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hash(u64);

impl Hash {
    /// What it is for.
    pub(super) fn new(purpose: &[u8]) -> Self {
        Self(0xcbf2_9ce4_8422_2325).with(purpose)
    }

    /// With a part more, told from its neighbours.
    pub(super) fn with(self, part: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = part.iter().fold(self.0, step);
        Self((part.len() as u64).to_le_bytes().iter().fold(hash, step))
    }

    fn with_address(self, address: IpAddr) -> Self {
        // A subscriber gets an IPv6 /64 (RFC 6177 §2).
        match address.to_canonical() {
            IpAddr::V4(address) => self.with(&address.octets()),
            IpAddr::V6(address) => self.with(address.octets().get(..8).unwrap_or_default()),
        }
    }

    /// The place on the circle.
    pub(super) fn point(self) -> u64 {
        let mut hash = self.0;
        for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
            hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
        }
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;
    use crate::config::Share;

    #[test]
    fn points_are_even_and_stay_where_they_are() {
        let half = Share::new(5_000).unwrap();
        let taken = (0..20_000).filter(|n: &u32| half.has(Hash::new(b"canary").with(&n.to_le_bytes()).point())).count();
        assert!((9_700..10_300).contains(&taken), "{taken}");
        // A release that moved everybody to the other side would be seen here.
        assert_eq!(Hash::new(b"canary").with(b"next").with(b"alice").point(), 9_533_261_823_869_285_205);
        assert_ne!(Hash::new(b"a").with(b"b").with(b"").point(), Hash::new(b"a").with(b"").with(b"b").point());
    }

    #[test]
    fn one_cookie_of_many_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "xsid=1; sid=2;sid=3".parse().unwrap());
        assert_eq!(cookie(&headers, "sid"), Some(&b"2"[..]));
        assert_eq!(cookie(&headers, "si"), None);
    }
}
