//! Other ways to a deletion that a plan takes over: another path, a GraphQL mutation, a request within a batch. They are refused, since
//! a deletion that goes by them would have none of what the plan gives it. What cannot be read without doubt is refused as well: it
//! could be one.
//!
//! This knows nothing of callers, and decides nothing but that.

mod batch;
mod document;
mod graphql;
mod loose;

use http::{HeaderMap, HeaderValue, Method, header};

use super::{Enforcement, Gateway, Refusal, forms::HeldForm, method_override};
use crate::{
    body::RequestBody,
    config::{Covered, CoveredOperation, Deletions},
    policy::Reason,
    route::NormalPath,
    runtime::Snapshot,
};

/// The longest body that is read to be judged.
pub const BODY_BYTES: usize = 1 << 20;

/// The covered operations that a request is, or may be taken for.
pub type Covers<'c> = Vec<&'c CoveredOperation>;

/// A request, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The method of the request line.
    pub method: &'a Method,
    /// The path in normal form.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// Why a request is refused: constant texts, for the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is a covered operation.
    #[error("the operation is another way to what a deletion plan takes over")]
    Whole,
    /// It names a covered field.
    #[error("the GraphQL document reaches a mutation that is another way to what a deletion plan takes over")]
    Mutation,
    /// It holds a request that is an operation of a plan, or covered.
    #[error("a request of the batch is, or may be, one that a deletion plan takes over or covers")]
    Batched,
    /// It could be anything.
    #[error("what the request asks for cannot be read without doubt: {0}")]
    Unreadable(&'static str),
}

/// The covered operations that a request may be, by any of its paths and methods; folded, as the deletion guard matches.
pub fn find<'c>(deletions: &'c Deletions, paths: &[&NormalPath<'_>], methods: [&Method; 2]) -> Covers<'c> {
    let all = deletions.plans.iter().flat_map(|plan| &plan.covers);
    all.filter(|cover| {
        let is_method = |seen: &Method| match &cover.method {
            None => true,
            // A service answers a HEAD by what it has for a GET (RFC 9110 §9.3.2).
            Some(method) => method == seen || (*method == Method::GET && *seen == Method::HEAD),
        };
        methods.iter().any(|seen| is_method(seen)) && paths.iter().any(|path| cover.path.matches_folded(path))
    })
    .collect()
}

/// Whether the body must be read before the request can be judged.
pub fn needs_body(covers: &[&CoveredOperation]) -> bool {
    covers.iter().all(|cover| cover.what != Covered::Whole) && !covers.is_empty()
}

/// Judges a request by each operation that it may be.
pub fn judge(deletions: &Deletions, covers: &[&CoveredOperation], seen: &Seen<'_>) -> Result<(), Fault> {
    covers.iter().try_for_each(|cover| match &cover.what {
        Covered::Whole => Err(Fault::Whole),
        Covered::Mutations(fields) => graphql::judge(fields, seen),
        Covered::Batch => batch::judge(deletions, seen),
    })
}

impl Gateway {
    /// Refuses a request that is another way to what a deletion plan takes over. Its body is read where that tells, and held in `form`.
    pub(super) async fn refuse_covered<'g>(
        &'g self,
        snapshot: &Snapshot,
        enforcement: &Enforcement<'_>,
        body: &mut RequestBody,
        form: &mut Option<Box<HeldForm<'g>>>,
    ) -> Result<(), Refusal> {
        let Enforcement { inbound, path, matched, .. } = *enforcement;
        let Some(deletions) = &snapshot.config.deletions else { return Ok(()) };
        if needs_body(&matched.covered) && form.is_none() {
            *form = Some(Box::new(self.forms.read(body, inbound.origin.client, BODY_BYTES).await?));
        }
        let body: &[u8] = form.as_ref().map_or(&[], |held| held.content());
        let seen = Seen {
            method: &inbound.method,
            path: matched.target_path.as_deref().unwrap_or(path.as_str()),
            query: inbound.query(),
            headers: &inbound.headers,
            body,
        };
        judge(deletions, &matched.covered, &seen)
            .map_err(|fault| Refusal::of(Reason::DeletionCovered).because(fault.to_string()))
    }
}

/// The body as text, and its type in lower case, where every service reads the same text out of it.
fn text<'a>(seen: &Seen<'a>) -> Result<(&'a str, String), Fault> {
    let mut types = seen.headers.get_all(header::CONTENT_TYPE).iter();
    let first = types.next().map(HeaderValue::as_bytes).unwrap_or_default();
    if types.next().is_some() {
        return Err(Fault::Unreadable("it has two types"));
    }
    if method_override::is_encoded(seen.headers) {
        return Err(Fault::Unreadable("its body is compressed"));
    }
    let lower = std::str::from_utf8(first)
        .map(str::to_ascii_lowercase)
        .map_err(|_| Fault::Unreadable("its type is no text"))?;
    if !method_override::is_charset_plain(&lower) {
        return Err(Fault::Unreadable("its body is in another character set"));
    }
    let body = seen.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(seen.body);
    let body = std::str::from_utf8(body).map_err(|_| Fault::Unreadable("its body is no UTF-8"))?;
    Ok((body, lower))
}

/// Whether a request without a body asks for nothing that could change anything: a preflight, a page to explore with.
fn is_idle(seen: &Seen<'_>) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(seen.method);
    safe && seen.body.is_empty() && seen.query.is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests;
