//! Routes of the gateway's own, which stand before the configured ones: the documents that it publishes of itself, and the
//! endpoints that providers report to. They are public, and judged before they are served like any other.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};

use super::{Gateway, Passed, Refusal, events, inbound::Inbound, metadata};
use crate::{
    body::RequestBody,
    clock::Now,
    policy::{ConditionInput, Credential, Decision, Facts, Permit, Reason, decide},
    route::NormalPath,
    runtime::{EventEndpoint, Snapshot},
};

/// What a request is for, where it is for the gateway itself.
#[derive(Debug)]
pub enum Own<'a> {
    /// A document.
    Document(metadata::Document<'a>),
    /// What a provider reports.
    Events(&'a EventEndpoint),
}

/// The route of our own that a request is for.
pub fn find<'a>(snapshot: &'a Snapshot, inbound: &'a Inbound, path: &'a NormalPath<'_>) -> Option<Own<'a>> {
    let document = metadata::find(snapshot, inbound, path).map(Own::Document);
    document.or_else(|| events::endpoint(snapshot, path).map(Own::Events))
}

impl Own<'_> {
    /// A phrase for `explain`.
    pub fn describe(&self) -> String {
        match self {
            Self::Document(document) => document.describe().to_owned(),
            Self::Events(endpoint) => format!("where the provider of {} reports what ended", endpoint.issuer),
        }
    }

    /// Whether a method may be used on it.
    pub fn check_method(&self, method: &Method) -> Result<(), Refusal> {
        let takes: &[Method] = match self {
            Self::Document(_) => &[Method::GET, Method::HEAD],
            Self::Events(_) => &[Method::POST],
        };
        if takes.contains(method) { Ok(()) } else { Err(Refusal::method_not_allowed(takes.to_vec())) }
    }
}

impl Gateway {
    /// Serves a route of our own.
    pub(super) async fn serve_own(
        &self,
        snapshot: &Snapshot,
        own: Own<'_>,
        inbound: &Inbound,
        body: &mut RequestBody,
        now: Now,
    ) -> Result<Passed<'static>, Refusal> {
        own.check_method(&inbound.method)?;
        match own {
            Own::Document(document) => {
                let _permit = judge(inbound, inbound.uri.path(), now)?;
                Ok(Passed::Answered(publish(&document, now), Reason::Allowed))
            }
            Own::Events(endpoint) => {
                events::charge(endpoint, inbound, &self.services.metrics, now)?;
                let _permit = judge(inbound, &endpoint.path, now)?;
                let (bytes, _held) = self.forms.read(body, inbound.origin.client, events::MAX_BYTES).await?;
                let (answer, reason) = events::receive(snapshot, endpoint, &inbound.headers, &bytes, now).await?;
                Ok(Passed::Answered(answer, reason))
            }
        }
    }
}

fn publish(document: &metadata::Document<'_>, now: Now) -> Response<Bytes> {
    let (kind, text) = document.render(now);
    let mut response = Response::new(Bytes::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
    response
}

/// Judges a request by the policy of these routes, which asks for no credential.
fn judge(inbound: &Inbound, path: &str, now: Now) -> Result<Permit, Refusal> {
    let facts = Facts {
        credential: &Credential::Absent,
        possession: None,
        guarded: false,
        input: ConditionInput {
            method: inbound.method.as_str(),
            path,
            path_params: &[],
            query: None,
            headers: &inbound.headers,
            client_ip: inbound.origin.client,
            principal: None,
            now,
        },
    };
    match decide(&Default::default(), &facts) {
        Decision::Deny(denial) => Err(denial.into()),
        Decision::Allow(permit) => Ok(permit),
    }
}
