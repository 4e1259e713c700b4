//! Routes of the gateway's own, which stand before the configured ones: the documents that it publishes of itself, the
//! endpoints that providers report to, and the second-factor authority's and the deletions'. They are public, and judged before they are served like
//! any other; a credential that these two are shown is verified, and refused if it is wrong.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};

use super::{
    Exchange, Gateway, Passed, Refusal, authority, erasure_api, events, inbound::Inbound, known_method, metadata,
};
use crate::{
    body::{ConnectionInfo, RequestBody},
    clock::Now,
    policy::{AccessPolicy, ConditionInput, Credential, Decision, Evidence, Facts, Permit, Reason, decide},
    route::NormalPath,
    runtime::{AuthorityEndpoint, ErasureEndpoint, EventEndpoint, Snapshot},
};

/// What a request is for, where it is for the gateway itself.
#[derive(Debug)]
pub enum Own<'a> {
    /// A document.
    Document(metadata::Document<'a>),
    /// What a provider reports.
    Events(&'a EventEndpoint),
    /// The authority's, and the path below its own.
    Authority(&'a AuthorityEndpoint, &'a str),
    /// The deletions', and the path below their own.
    Erasure(&'a ErasureEndpoint, &'a str),
}

/// The path of a request, where its method may be used at all: the authority's endpoints and the deletions' bring methods of their own.
pub fn path<'a>(snapshot: &Snapshot, inbound: &Inbound, raw: &'a str) -> Result<NormalPath<'a>, Refusal> {
    let path = NormalPath::parse(raw).map_err(|fault| Refusal::of(Reason::AmbiguousPath).because(fault.to_string()));
    let brings_methods = path.as_ref().is_ok_and(|path| {
        authority::endpoint(snapshot, path).is_some() && authority::METHODS.contains(&inbound.method)
            || erasure_api::endpoint(snapshot, path).is_some() && erasure_api::METHODS.contains(&inbound.method)
    });
    if !brings_methods {
        known_method(&inbound.method, &snapshot.config.server.methods)?;
    }
    path
}

/// The route of our own that a request is for.
pub fn find<'a>(snapshot: &'a Snapshot, inbound: &'a Inbound, path: &'a NormalPath<'_>) -> Option<Own<'a>> {
    let authority = authority::endpoint(snapshot, path).map(|(endpoint, rest)| Own::Authority(endpoint, rest));
    let erasure = || erasure_api::endpoint(snapshot, path).map(|(endpoint, rest)| Own::Erasure(endpoint, rest));
    let document = || metadata::find(snapshot, inbound, path).map(Own::Document);
    authority.or_else(erasure).or_else(document).or_else(|| events::endpoint(snapshot, path).map(Own::Events))
}

impl Own<'_> {
    /// A phrase for `explain`.
    pub fn describe(&self) -> String {
        match self {
            Self::Document(document) => document.describe().to_owned(),
            Self::Events(endpoint) => format!("where the provider of {} reports what ended", endpoint.issuer),
            Self::Authority(..) => "the gateway's own second-factor authority".to_owned(),
            Self::Erasure(..) => "where deletions are seen, cancelled and approved".to_owned(),
        }
    }

    /// Whether a method may be used on it.
    pub fn check_method(&self, method: &Method) -> Result<(), Refusal> {
        let takes: &[Method] = match self {
            Self::Document(_) => &[Method::GET, Method::HEAD],
            Self::Events(_) => &[Method::POST],
            // Each of its endpoints has some of these, and says so itself.
            Self::Authority(..) => &authority::METHODS,
            Self::Erasure(..) => &erasure_api::METHODS,
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
        exchange: &mut Exchange,
        (inbound, info, path): (&Inbound, &ConnectionInfo, &NormalPath<'_>),
        body: &mut RequestBody,
        now: Now,
    ) -> Result<Passed<'static>, Refusal> {
        own.check_method(&inbound.method)?;
        match own {
            Own::Document(document) => {
                let _permit = judge(&AccessPolicy::default(), inbound, inbound.uri.path(), &stranger(), now)?;
                Ok(Passed::Answered(publish(&document, now), Reason::Allowed))
            }
            Own::Events(endpoint) => {
                events::charge(endpoint, inbound, &self.services.metrics, now)?;
                let _permit = judge(&AccessPolicy::default(), inbound, &endpoint.path, &stranger(), now)?;
                let held = self.forms.read(body, inbound.origin.client, events::MAX_BYTES).await?;
                let answer = events::receive(snapshot, endpoint, &inbound.headers, held.content(), now).await;
                let (answer, reason) = answer?;
                Ok(Passed::Answered(answer, reason))
            }
            Own::Authority(endpoint, rest) => {
                self.serve_authority(snapshot, (endpoint, rest), exchange, (inbound, info), body, now).await
            }
            Own::Erasure(endpoint, rest) => {
                self.serve_erasure(snapshot, (endpoint, rest), exchange, (inbound, info, path), body, now).await
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

/// What is known of who calls where no credential is looked at.
pub(super) fn stranger() -> Evidence {
    Credential::Absent.into()
}

/// Judges a request for one of these routes.
pub(super) fn judge(
    policy: &AccessPolicy,
    inbound: &Inbound,
    path: &str,
    evidence: &Evidence,
    now: Now,
) -> Result<Permit, Refusal> {
    match decide(policy, &facts(inbound, path, evidence, now)) {
        Decision::Deny(denial) => Err(denial.into()),
        Decision::Allow(permit) => Ok(permit),
    }
}

/// What is known of a request for one of these routes.
pub(super) fn facts<'a>(inbound: &'a Inbound, path: &'a str, evidence: &'a Evidence, now: Now) -> Facts<'a> {
    Facts {
        credential: &evidence.credential,
        possession: evidence.possession,
        second_factors: &evidence.second_factors,
        guarded: false,
        planned: None,
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
    }
}
