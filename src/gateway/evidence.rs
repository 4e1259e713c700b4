//! Step 4: from what the request carries to facts. Verifies, and refuses nothing: that is for the policy.

use super::{inbound::Inbound, matched::Matched};
use crate::{
    body::ConnectionInfo,
    clock::Now,
    identity::{Accepted, Authenticator, Presented},
    policy::{Credential, Evidence},
};

/// What the credentials of a request are worth on the routes that it may be for.
pub async fn gather(
    authenticator: &Authenticator,
    inbound: &Inbound,
    info: &ConnectionInfo,
    matched: &Matched<'_>,
    now: Now,
) -> Evidence {
    let guarded = matched.guarded();
    if !matched.all().any(|route| route.asks_for_token(guarded)) {
        return Credential::Absent.into();
    }
    let presented = presented(inbound, info);
    if matched.aliases.is_empty() {
        return authenticator.authenticate(&presented, &matched.route.accepted, now).await;
    }
    // Each route's own list is judged by the policy.
    let asking = matched.all().filter(|route| route.asks_for_token(guarded));
    let any = Accepted::union(asking.map(|route| &route.accepted));
    authenticator.authenticate(&presented, &any, now).await
}

fn presented<'a>(inbound: &'a Inbound, info: &'a ConnectionInfo) -> Presented<'a> {
    Presented {
        authorization: inbound.authorization.field(),
        keys: &inbound.keys,
        proof: inbound.proof.field(),
        query: inbound.query(),
        method: &inbound.method,
        scheme: inbound.scheme,
        authority: &inbound.site.authority,
        path: inbound.uri.path(),
        certificate: info.tls.as_ref().and_then(|tls| tls.client_certificate.as_ref()),
        address: inbound.origin.client,
        // Beyond a proxy on this machine the way is the proxy's to guard.
        confidential: info.tls.is_some() || info.peer.ip().to_canonical().is_loopback(),
    }
}
