//! What a route does to requests and answers besides passing them on. Nothing here decides whether a request may pass: it
//! works on what was judged, or says to browsers what the route's file says.
//!
//! ```text
//! preflight ─ what a browser asks before it asks; answered from the route alone             cors.rs
//! Shaped    ─ begun once the route is known, so that refusals have their fields, too
//!   ├ limit   the longest body
//!   ├ side    which of two services                                                         split.rs
//!   ├ mirror  a copy, by a right that the clearance gives                                   mirror.rs
//!   ├ rules   the fields of the request, last                                               rules.rs
//!   └ answer  the fields of the answer, last: security, rules, CORS
//! ```

pub(super) mod cors;
mod fill;
pub(super) mod mirror;
mod redirect;
mod rules;
mod split;

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, header};

pub(super) use fill::path;
pub(super) use redirect::redirect;
pub(super) use split::side;

use self::cors::CorsAnswer;
use super::{Enforcement, Inbound, Matched, hygiene};
use crate::{
    config::{HeaderRules, SecurityHeaders, Shaping},
    policy::Principal,
    route::{NormalPath, PathPattern},
};

/// What is known of a request that the fields of its messages may need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pattern: &'a PathPattern,
    path: &'a NormalPath<'a>,
    request_id: &'a str,
    client: IpAddr,
    subject: Option<&'a str>,
}

impl<'a> Known<'a> {
    /// What is known of a request that was let through.
    pub(super) fn of(enforcement: &Enforcement<'a>, principal: Option<&'a Principal>) -> Self {
        let Enforcement { inbound, path, matched, .. } = *enforcement;
        Self {
            pattern: &matched.route.pattern,
            path,
            request_id: inbound.request_id.as_str(),
            client: inbound.origin.client,
            subject: principal.map(|principal| &*principal.subject).filter(|subject| !subject.is_empty()),
        }
    }
}

/// What rules put, in their order; `None`: nothing, as a value is not known.
pub(super) type RuleValues = Box<[Option<HeaderValue>]>;

/// What a route does to the answer of one request, whoever gives it.
#[derive(Debug)]
pub(super) struct Shaped {
    cors: CorsAnswer,
    is_tls: bool,
    values: RuleValues,
}

/// Who gives an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerOf {
    /// The upstream.
    Upstream,
    /// The gateway, as the route says.
    Route,
    /// The gateway, which refuses.
    Refusal,
}

impl Shaped {
    /// What is known once the route is.
    pub(super) fn begin(shaping: &Shaping, inbound: &Inbound, method: &Method) -> Self {
        let cors =
            shaping.cors.as_ref().map_or(CorsAnswer::Silent, |cors| cors::answer(cors, &inbound.headers, method));
        Self { cors, is_tls: inbound.scheme == "https", values: Box::default() }
    }

    /// Fills in what the rules for answers need, while it is known.
    pub(super) fn learn(&mut self, rules: &HeaderRules, known: &Known<'_>) {
        self.values = rules::values(rules, known);
    }

    /// Changes the head of an answer.
    pub(super) fn apply(&self, shaping: &Shaping, headers: &mut HeaderMap, of: AnswerOf) {
        if shaping.cors.is_some() && of == AnswerOf::Upstream {
            cors::take_out(headers);
        }
        if let Some(security) = &shaping.security_headers {
            self.secure(security, headers, of);
        }
        match of {
            AnswerOf::Upstream | AnswerOf::Route => {
                rules::apply_values(&shaping.response_headers, &self.values, headers)
            }
            AnswerOf::Refusal => {}
        }
        self.cors.apply(shaping.cors.as_ref(), headers);
    }

    fn secure(&self, security: &SecurityHeaders, headers: &mut HeaderMap, of: AnswerOf) {
        let hsts =
            security.hsts.as_ref().filter(|_| self.is_tls).map(|value| (header::STRICT_TRANSPORT_SECURITY, value));
        let fields = security.fields.iter().map(|(name, value)| (name.clone(), value)).chain(hsts);
        for (name, value) in fields {
            if security.overrides || of != AnswerOf::Upstream || !headers.contains_key(&name) {
                headers.insert(name, value.clone());
            }
        }
    }
}

/// What the rules for requests put, filled in while the request is known; `None` where there are none.
pub(super) fn request_values(rules: &HeaderRules, known: &Known<'_>) -> Option<RuleValues> {
    (!rules.is_empty()).then(|| rules::values(rules, known))
}

/// Puts a route's fields into a request, last of all but what switches protocols.
pub(super) fn change_request(rules: &HeaderRules, values: &RuleValues, headers: &mut HeaderMap) {
    rules::apply_values(rules, values, headers);
}

/// The longest body that a request may have: the least of what its routes allow; `usual` where one says nothing.
pub(super) fn body_limit(matched: &Matched<'_>, usual: u64) -> u64 {
    let of_route = |shaping: Option<&Shaping>| shaping.and_then(|shaping| shaping.body_bytes).unwrap_or(usual);
    matched.all().map(|route| of_route(route.shaping.as_deref().map(|shaping| &*shaping.rules))).min().unwrap_or(usual)
}

/// Drops every spelling of fields.
fn drop_all(headers: &mut HeaderMap, names: &[http::HeaderName]) {
    for name in names {
        hygiene::drop_aliases(headers, name);
    }
}
