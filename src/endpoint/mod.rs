//! What the gateway's own endpoints are made of, whoever is behind them: a call and its answer, without sockets and hyper; forms, and
//! whether they are ours; the style and the head of pages. It knows no rule of who may do what.

mod asset;
mod form;
mod guard;
pub mod json;
mod number;
pub mod openapi;
mod page;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};

pub use self::{
    asset::{Asset, STYLE},
    form::{Fields, cookie},
    guard::{is_from_elsewhere, is_navigation, is_of_own_page, is_same_origin},
    number::{form_token, hidden, is_made},
    page::{At, Frame, Look, Said, page, see, set_cookie},
};
use crate::{
    clock::Now,
    policy::{Principal, Reason},
};

/// The cookie of the operators' pages. It is here for those who must not let it through.
pub const OPERATORS_COOKIE: &str = "stepgate-operator";

/// A call. Its head was normalised and its body bounded before it comes here; a bearer token on it was verified, and one that
/// did not verify was refused.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path below that of the endpoints, beginning with `/`.
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    pub fn refused(reason: Reason, refused: Refused) -> Self {
        Self { response: Response::new(Bytes::new()), reason, refusal: Some(refused) }
    }
}
