//! A call of one of the authority's endpoints, and its answer: no sockets, no hyper.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use crate::{
    clock::Now,
    policy::{Principal, Reason},
};

/// A call. Its head was normalised and its body bounded before it comes here; a bearer token on it was verified, and one that
/// did not verify was refused.
#[derive(Debug, Clone, Copy)]
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
}
