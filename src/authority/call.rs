//! A call of one of the authority's endpoints, and its answer: no sockets, no hyper.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use super::Fault;
use crate::{
    clock::Now,
    policy::{Principal, Reason},
};

/// A call. Its head was normalised and its body bounded before it comes here; a bearer token on it was verified, and one that
/// did not verify was refused.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path below `authority.path`, beginning with `/`.
    pub path: &'a str,
    /// The query, without the question mark.
    pub query: Option<&'a str>,
    /// The host and port that were asked for, as the client sent them; empty for an HTTP/1.0 client that sent none.
    pub authority: &'a str,
    /// The headers, without credentials.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a Bytes,
    /// Whoever's credential came with it.
    pub principal: Option<&'a Arc<Principal>>,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client's way to us is confidential.
    pub confidential: bool,
    /// `X-Request-Id`.
    pub request_id: &'a str,
    /// The request's one moment.
    pub now: Now,
}

/// An answer, and why, for the records.
#[derive(Debug)]
pub struct Answer {
    /// What the client gets.
    pub response: Response<Bytes>,
    /// Why, for metrics and the access record.
    pub reason: Reason,
    /// Where it is a refusal in the house's form: the gateway writes the problem document, the status and the challenge that
    /// belong to `reason`, and keeps the headers of `response`.
    pub refusal: Option<Refused>,
}

/// What is said of a refusal besides its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For the caller, where the reason's own text does not say enough.
    pub detail: Option<&'static str>,
    /// Seconds to wait, for `Retry-After`.
    pub retry_after: Option<u64>,
    /// The methods that the path has, for `Allow`.
    pub allow: &'static [Method],
}

impl Answer {
    /// An answer that does what was asked.
    pub fn served(response: Response<Bytes>) -> Self {
        Self { response, reason: Reason::Allowed, refusal: None }
    }

    /// A refusal in the house's form.
    pub fn refused(fault: &Fault) -> Self {
        let detail = match fault {
            Fault::Call(detail) => Some(*detail),
            Fault::Cleartext => Some("Codes and tokens are taken over TLS alone, and this call came without."),
            Fault::Proof
            | Fault::Enrolment
            | Fault::Grant
            | Fault::Spent
            | Fault::SignIn
            | Fault::Sending(_)
            | Fault::Anonymous
            | Fault::NotFound
            | Fault::Method(_)
            | Fault::Store(_) => None,
        };
        let allow = if let Fault::Method(allow) = fault { *allow } else { &[] };
        let refusal = Some(Refused { detail, retry_after: fault.retry_after(), allow });
        Self { response: Response::new(Bytes::new()), reason: fault.reason(), refusal }
    }
}
