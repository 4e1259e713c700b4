//! Step 4: from what the request carries to facts, with the second factors that its caller has shown before. Verifies, and
//! refuses nothing: that is for the policy.

use http::StatusCode;

use super::{inbound::Inbound, matched::Matched, refusal::HeldAccount};
use crate::{
    body::ConnectionInfo,
    clock::Now,
    erasure::Standing,
    identity::{Accepted, Presented},
    policy::{Credential, Evidence, Reason},
    runtime::{CompiledRoute, Snapshot},
};

/// What was found out of a request's caller.
#[derive(Debug)]
pub struct Gathered {
    /// What the credentials are worth.
    pub evidence: Evidence,
    /// The deletion that holds the caller's account. The credential is refused then, but for an operation of a deletion plan: asked
    /// for once more, it is the same deletion.
    pub held: Option<Box<HeldAccount>>,
}

/// What the credentials of a request are worth on the routes that it may be for.
pub async fn gather(
    snapshot: &Snapshot,
    inbound: &Inbound,
    info: &ConnectionInfo,
    matched: &Matched<'_>,
    now: Now,
) -> Gathered {
    let guarded = matched.guarded();
    if !matched.all().any(|route| route.asks_for_token(guarded)) {
        return Gathered { evidence: Credential::Absent.into(), held: None };
    }
    let (presented, authenticator) = (presented(inbound, info), &snapshot.authenticator);
    let mut evidence = if matched.aliases.is_empty() {
        authenticator.authenticate(&presented, &matched.route.accepted, now).await
    } else {
        // Each route's own list is judged by the policy.
        let asking = matched.all().filter(|route| route.asks_for_token(guarded));
        let any = Accepted::union(asking.map(|route| &route.accepted));
        authenticator.authenticate(&presented, &any, now).await
    };
    let held = stand(snapshot, matched, &mut evidence);
    if let (Some(authority), Credential::Valid(principal)) = (&snapshot.authority, &evidence.credential)
        && matched.all().any(|route| can_be_elevated(route, guarded))
    {
        evidence.second_factors = authority.elevations(principal, now);
    }
    Gathered { evidence, held }
}

/// Whether the caller's account stands: a credential of one that is held by a deletion is refused, and so is one of somebody whose
/// data was erased since, or is being erased. Nothing is looked up where no account is.
fn stand(snapshot: &Snapshot, matched: &Matched<'_>, evidence: &mut Evidence) -> Option<Box<HeldAccount>> {
    let (Some(erasures), Credential::Valid(principal)) = (&snapshot.erasures, &evidence.credential) else {
        return None;
    };
    match erasures.standing(principal) {
        Standing::Good => None,
        Standing::Erased => {
            evidence.credential = Credential::Invalid(Reason::SubjectErased);
            None
        }
        Standing::Held { status, id } => {
            if matched.planned.is_none() {
                evidence.credential = Credential::Invalid(Reason::SubjectHeld);
            }
            let status_url = erasures.status_url(&format!("{id:032x}"));
            let cancel_url = format!("{status_url}/cancel");
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
            Some(Box::new(HeldAccount { status, status_url, cancel_url }))
        }
    }
}

/// Whether an elevation could count here: never for a guarded operation, and only for a level.
fn can_be_elevated(route: &CompiledRoute, guarded: bool) -> bool {
    let is_guarded = guarded && route.policy.deletion.is_some();
    !is_guarded && route.policy.assurance.as_ref().is_some_and(|wanted| wanted.level.is_some())
}

/// Whether nobody reads on the way what a client sends us: TLS, or this machine.
pub(super) fn is_confidential(info: &ConnectionInfo) -> bool {
    info.is_confidential()
}

/// The credentials of a request, wherever it is for.
pub(super) fn presented<'a>(inbound: &'a Inbound, info: &'a ConnectionInfo) -> Presented<'a> {
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
        confidential: is_confidential(info),
    }
}

/// Refuses a credential of somebody whose data was erased since it was made, or is being erased.
pub(super) fn refuse_erased(snapshot: &Snapshot, evidence: &mut Evidence) {
    let (Some(erasures), Credential::Valid(principal)) = (&snapshot.erasures, &evidence.credential) else { return };
    if erasures.standing(principal) == Standing::Erased {
        evidence.credential = Credential::Invalid(Reason::SubjectErased);
    }
}
