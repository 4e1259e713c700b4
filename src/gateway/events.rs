//! Endpoints for what identity providers report of sessions and accounts that have ended. Each has
//! a quota by address, and holds one bounded body.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Refusal, inbound::Inbound};
use crate::{
    clock::Now,
    identity::events::{BODY_BYTES, Delivery, Form, Receipt},
    limit::{KeyFacts, Outcome},
    policy::Reason,
    route::NormalPath,
    runtime::{EventEndpoint, Snapshot},
    telemetry::Metrics,
};

/// The longest body that is read.
pub(super) const MAX_BYTES: usize = BODY_BYTES;

/// The endpoint at a path.
pub(super) fn endpoint<'s>(snapshot: &'s Snapshot, path: &NormalPath<'_>) -> Option<&'s EventEndpoint> {
    snapshot.events.iter().find(|endpoint| *endpoint.path == *path.as_str())
}

/// Charges the endpoint's quota, before anything is read.
pub(super) fn charge(endpoint: &EventEndpoint, inbound: &Inbound, metrics: &Metrics, now: Now) -> Result<(), Refusal> {
    let facts =
        KeyFacts { principal: None, client: inbound.origin.client, headers: &inbound.headers, route: &endpoint.path };
    let verdict = endpoint.quota.check(endpoint.quota.key_of(&facts), now.instant);
    match verdict.outcome {
        Outcome::Admit => Ok(()),
        Outcome::Refuse => {
            metrics.quota_rejections(endpoint.quota.name()).inc();
            Err(Refusal::quota(endpoint.quota.name().into(), verdict.retry_after_secs))
        }
    }
}

/// Takes a body, and gives the answer with the reason for the records.
pub(super) async fn receive(
    snapshot: &Snapshot,
    endpoint: &EventEndpoint,
    headers: &HeaderMap,
    body: &[u8],
    now: Now,
) -> Result<(Response<Bytes>, Reason), Refusal> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let content_type = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok());
    let delivery = Delivery { content_type, body };
    let receipt = snapshot.authenticator.receive(&endpoint.issuer, delivery, now).await;
    match receipt.ok_or_else(|| Refusal::of(Reason::RouteNotFound))? {
        // Back-Channel Logout §2.8: never from a cache. RFC 8935 §2.2: no body.
        Receipt::Done(Form::Logout) => Ok((answer(StatusCode::OK, None), Reason::Allowed)),
        Receipt::Done(Form::Push) => Ok((answer(StatusCode::ACCEPTED, None), Reason::Allowed)),
        Receipt::Refused(form, reason) => Ok((answer(StatusCode::BAD_REQUEST, Some(fault(form, reason))), reason)),
        Receipt::Unavailable { reason, retry_after_secs } => {
            let mut refusal = Refusal::of(reason);
            refusal.retry_after = Some(retry_after_secs.into());
            Err(refusal)
        }
    }
}

fn answer(status: StatusCode, body: Option<Value>) -> Response<Bytes> {
    let text = body.as_ref().map(|body| format!("{body}\n")).unwrap_or_default();
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // RFC 8935 §2.3: the language of the description.
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    }
    response
}

/// What is wrong, as far as the sender may know: Back-Channel Logout §2.8 and RFC 8935 §2.4.
fn fault(form: Form, reason: Reason) -> Value {
    let (code, description) = push_fault(reason);
    match form {
        Form::Logout => json!({"error": "invalid_request", "error_description": description}),
        Form::Push => json!({"err": code, "description": description}),
    }
}

fn push_fault(reason: Reason) -> (&'static str, &'static str) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "any other reason is the token's own fault, and says no more")]
    match reason {
        Reason::TokenIssuerUnknown => ("invalid_issuer", "The issuer is not the one that reports here"),
        Reason::TokenAudience => ("invalid_audience", "The token is not made out for this receiver"),
        Reason::TokenKeyUnknown | Reason::TokenAlgorithm => {
            ("invalid_key", "The token's key or algorithm is not accepted")
        }
        Reason::TokenSignature => ("authentication_failed", "The token is not the issuer's"),
        _ => ("invalid_request", "The token is not one that is taken here"),
    }
}
