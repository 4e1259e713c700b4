//! Step 7: what a cleared request goes as, and where to. Whatever a route says besides is done here: which of its services it is for,
//! a copy for a mirror, header rules, gRPC, an upgrade; or a redirect in place of all that.

use std::sync::Arc;

use http::{HeaderValue, header};

use super::{
    Cleared, Exchange, Gateway, Held, Inbound, Matched, Passed, Refusal, RequestId,
    enforce::{Clearance, Enforcement},
    grpc,
    outbound::Outbound,
    shaping::{self, Known, mirror::Original},
};
use crate::{
    body::{ConnectionInfo, RequestBody},
    clock::Now,
    config::{Assertion, Redirect},
    policy::{Principal, Reason},
    route::NormalPath,
    runtime::{Goal, Snapshot},
};

impl Gateway {
    /// Makes of what was cleared what its upstream gets.
    pub(super) fn prepare<'s>(
        &self,
        (snapshot, info): (&Snapshot, &ConnectionInfo),
        exchange: &mut Exchange,
        clearance: Clearance,
        (inbound, path, matched, now): (&mut Inbound, &NormalPath<'_>, &Matched<'s>, Now),
        body: &mut RequestBody,
        held: Held<'s>,
    ) -> Result<Passed<'s>, Refusal> {
        let route = matched.route;
        let enforcement = Enforcement { inbound, path, matched, now };
        if let (Some(shaping), Some(shaped)) = (&route.shaping, &mut exchange.shaped) {
            let principal = clearance.principal().map(|principal| &**principal);
            shaped.learn(&shaping.rules.response_headers, &Known::of(&enforcement, principal));
            exchange.record.side = shaping::side(route, inbound, principal);
        }
        let backend = match &route.goal {
            Goal::Redirect(redirect) => return self.send_elsewhere(redirect, clearance, &enforcement),
            Goal::Backend(own) => route.backend(exchange.record.side).unwrap_or(own),
        };
        let target = matched.target_path.as_deref().unwrap_or(path.as_str());
        let mut request_rules = None;
        if let Some(shaping) = &route.shaping {
            let known = Known::of(&enforcement, clearance.principal().map(|principal| &**principal));
            if let (None, Some(right)) = (&held.handshake, clearance.copy_right(matched)) {
                let original = Original { inbound, target, known, now, backend };
                self.mirror((snapshot, info), shaping, (&clearance, right), original, body);
            }
            request_rules = shaping::request_values(&shaping.rules.request_headers, &known);
        }
        let outbound = Outbound::prepare(
            inbound,
            target,
            clearance.principal().map(|principal| &**principal),
            &backend.upstream,
            backend.service.default_host(),
            backend.service.credential(),
            |assertion| self.assert(snapshot, assertion, clearance.principal(), &exchange.record.request_id, now),
        );
        match outbound {
            Ok(mut outbound) => {
                if let (Some(shaping), Some(values)) = (&route.shaping, request_rules) {
                    shaping::change_request(&shaping.rules.request_headers, &values, &mut outbound.headers);
                }
                if let Some(dialect) = exchange.grpc {
                    exchange.is_translated =
                        grpc::prepare(dialect, inbound.version, matched.route, &mut outbound.headers, body);
                }
                if let Some(handshake) = &held.handshake {
                    handshake.dress(&mut outbound.headers);
                }
                Ok(Passed::Cleared(Cleared { clearance, outbound, backend, held }))
            }
            Err(refusal) => {
                clearance.give_up(refusal.reason);
                Err(refusal)
            }
        }
    }

    /// Answers with where the client is to go; what was cleared is done then.
    fn send_elsewhere<'s>(
        &self,
        redirect: &Redirect,
        clearance: Clearance,
        enforcement: &Enforcement<'_>,
    ) -> Result<Passed<'s>, Refusal> {
        let Enforcement { inbound, path, matched, .. } = enforcement;
        let answer = shaping::redirect(redirect, &matched.route.pattern, path, inbound.query());
        match (&answer, clearance.into_ticket()) {
            (Ok(answer), Some(ticket)) => ticket.answered(answer.status().as_u16()),
            (Err(refusal), Some(ticket)) => ticket.failed(refusal.reason),
            (_, None) => {}
        }
        answer.map(|answer| Passed::Answered(answer, Reason::Allowed))
    }

    /// The signed token that an upstream gets about the caller; `None` where there is nobody to speak of.
    pub(super) fn assert(
        &self,
        snapshot: &Snapshot,
        assertion: &Assertion,
        principal: Option<&Arc<Principal>>,
        request_id: &RequestId,
        now: Now,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let Some(principal) = principal else { return Ok(None) };
        let internal =
            || Refusal::of(Reason::InternalFault).because("the assertion for the upstream could not be signed");
        let about = (&*assertion.audience, assertion.ttl);
        let signer = snapshot.assertions.as_ref().ok_or_else(internal)?;
        let token =
            signer.sign(principal, about, (self.ids.next().as_str(), request_id.as_str()), now).ok_or_else(internal)?;
        let value = if assertion.header == header::AUTHORIZATION { format!("Bearer {token}") } else { token };
        let mut value = HeaderValue::try_from(value).map_err(|_| internal())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
