//! The endpoints of the gateway's own second-factor authority: every path below `authority.path`, on every listener and for every
//! host. A credential is looked at where one comes, by the sources whose callers the authority serves, and a wrong one is refused;
//! whether an endpoint needs one is the authority's to say. Each address has a quota, before anything is looked at; what the pages load is not
//! counted.

use http::{Method, StatusCode};

use super::{Exchange, Gateway, Passed, Refusal, evidence, inbound::Inbound, own, step_up::refusal};
use crate::{
    authority::Authority,
    body::{ConnectionInfo, RequestBody},
    clock::Now,
    endpoint::{Answer, Call, Refused},
    limit::{KeyFacts, Outcome, Quota},
    policy::{AccessPolicy, Challenge, Credential, Reason},
    route::NormalPath,
    runtime::{AuthorityEndpoint, Snapshot},
};

/// The longest body that is read: a passkey's attestation, with its certificates, has a few KiB.
const MAX_BYTES: usize = 64 << 10;

/// The methods that endpoints have, whatever `server.methods` says: that is for the services behind.
pub(super) const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The authority, where a path is one of its own, and the path below.
pub(super) fn endpoint<'a>(
    snapshot: &'a Snapshot,
    path: &'a NormalPath<'_>,
) -> Option<(&'a AuthorityEndpoint, &'a str)> {
    let endpoint = snapshot.authority_endpoint.as_ref()?;
    match path.as_str().strip_prefix(&*endpoint.path)? {
        "" => Some((endpoint, "/")),
        rest => rest.starts_with('/').then_some((endpoint, rest)),
    }
}

/// A refusal of our own endpoints. RFC 9110 §15.5.2 wants a challenge of every 401.
fn refused_call(reason: Reason, refused: Refused) -> Refusal {
    let Refused { detail, retry_after, allow } = refused;
    let refusal = Refusal { said: detail, retry_after, allow: allow.into(), ..Refusal::of(reason) };
    let is_unauthorized = refusal.problem().status == StatusCode::UNAUTHORIZED;
    Refusal { challenge: if is_unauthorized { Challenge::Token } else { Challenge::Nothing }, ..refusal }
}

impl Exchange {
    /// Takes the answer of an endpoint of the gateway's own.
    pub(super) fn called(&mut self, answer: Answer) -> Result<Passed<'static>, Refusal> {
        let Answer { response, reason, refusal } = answer;
        match refusal {
            None => Ok(Passed::Answered(response, reason)),
            Some(refused) => {
                // Whatever is to be said besides, such as which origins may read it.
                self.own_headers = Some(Box::new(response.into_parts().0.headers));
                Err(refused_call(reason, refused))
            }
        }
    }
}

impl Gateway {
    /// Serves a call of the authority.
    pub(super) async fn serve_authority(
        &self,
        snapshot: &Snapshot,
        (endpoint, rest): (&AuthorityEndpoint, &str),
        exchange: &mut Exchange,
        (inbound, info): (&Inbound, &ConnectionInfo),
        body: &mut RequestBody,
        now: Now,
    ) -> Result<Passed<'static>, Refusal> {
        let authority = snapshot.authority.as_ref().ok_or_else(|| refusal(Reason::AuthorityUnavailable))?;
        // What the pages load is the same for all: no credential is looked at for it, and it does not count.
        if let Some(Answer { response, reason, .. }) = Authority::asset(&inbound.method, rest) {
            let _permit = own::judge(&AccessPolicy::default(), inbound, &endpoint.path, &own::stranger(), now)?;
            return Ok(Passed::Answered(response, reason));
        }
        self.charge_call(&endpoint.quota, &endpoint.path, inbound, now)?;
        let presented = evidence::presented(inbound, info);
        let mut evidence = snapshot.authenticator.authenticate(&presented, &endpoint.accepted, now).await;
        exchange.fresh_nonce = evidence.fresh_nonce.take();
        // Whose account is held needs a second factor to have it back; whose data was erased is nobody here any more.
        evidence::refuse_erased(snapshot, &mut evidence);
        // Without a credential there is nothing to be wrong with it.
        let public = AccessPolicy::default();
        let policy = if matches!(evidence.credential, Credential::Absent) { &public } else { &endpoint.policy };
        let permit = own::judge(policy, inbound, &endpoint.path, &evidence, now)?;
        exchange.record.principal = permit.principal().cloned();
        let held = self.forms.read(body, inbound.origin.client, MAX_BYTES).await?;
        let call = Call {
            method: &inbound.method,
            path: rest,
            query: inbound.query(),
            authority: &inbound.site.authority,
            headers: &inbound.headers,
            body: held.content(),
            principal: permit.principal(),
            client: inbound.origin.client,
            // Behind a proxy that ends TLS the operator says so.
            confidential: presented.confidential || authority.config().danger_cleartext,
            request_id: exchange.record.request_id.as_str(),
            now,
        };
        exchange.called(authority.answer(call).await)
    }

    /// Charges a call of our own endpoints to its address.
    pub(super) fn charge_call(&self, quota: &Quota, path: &str, inbound: &Inbound, now: Now) -> Result<(), Refusal> {
        let (client, headers) = (inbound.origin.client, &inbound.headers);
        let facts = KeyFacts { principal: None, client, headers, route: path };
        let verdict = quota.check(quota.key_of(&facts), now.instant);
        match verdict.outcome {
            Outcome::Admit => Ok(()),
            Outcome::Refuse => {
                self.services.metrics.quota_rejections(quota.name()).inc();
                Err(Refusal::quota(quota.name().into(), verdict.retry_after_secs))
            }
        }
    }
}
