//! Which of two services gets a request. The same caller goes to the same one, on every worker, after every restart and on every
//! machine: it is a hash of what stays together, without a key, since whoever chooses theirs chooses no more than a version.

use crate::{
    config::{Canary, SplitBy},
    gateway::{Inbound, affinity::cookie},
    policy::Principal,
    runtime::{CompiledRoute, Side},
    spread::Spread,
    subscriber::Subscriber,
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
    let hash = Spread::new().with(b"canary").with(canary.upstream.name.as_bytes());
    Some(
        match &canary.by {
            SplitBy::Request => hash.with(inbound.request_id.as_str().as_bytes()),
            SplitBy::Subject => match principal.filter(|principal| !principal.subject.is_empty()) {
                Some(principal) => hash.with(principal.issuer_url.as_bytes()).with(principal.subject.as_bytes()),
                None => hash.with(&Subscriber::of(inbound.origin.client).bytes()),
            },
            SplitBy::Ip => hash.with(&Subscriber::of(inbound.origin.client).bytes()),
            SplitBy::Header(name) => {
                let mut values = inbound.headers.get_all(name).iter().peekable();
                values.peek()?;
                values.fold(hash, |hash, value| hash.with(value.as_bytes()))
            }
            SplitBy::Cookie(name) => hash.with(cookie(&inbound.headers, name)?),
        }
        .finish(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;
    use crate::config::Share;

    #[test]
    fn points_are_even() {
        let half = Share::new(5_000).unwrap();
        let taken = (0..20_000)
            .filter(|n: &u32| half.has(Spread::new().with(b"canary").with(&n.to_le_bytes()).finish()))
            .count();
        assert!((9_700..10_300).contains(&taken), "{taken}");
    }
}
