//! What becomes of account deletions.
//!
//! A [`DeletionPlan`] is what requests are judged by. Its [`Terms`] are what a deletion is made under: they are kept beside it, as
//! JSON, so that a plan that is changed or removed changes nothing for those that were asked for before.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use super::{ClaimPath, File, Limit, Span};
use crate::{
    policy::{IssuerName, Requirement},
    route::PathPattern,
};

/// The name under which a lookup captures the subject of the person's tokens, where whoever asks is not the person and the plan knows
/// people by another claim.
pub const TOKEN_SUBJECT: &str = "token_subject";

/// What becomes of account deletions.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletions {
    /// Where it stands in the file.
    pub span: Span,
    /// The public origin that people's links have, without a path.
    pub url: Url,
    /// The path, in normal form, below which status, cancelling, preview and pages are; no final slash.
    pub path: Arc<str>,
    /// When too many deletions at once are held for a person to look at.
    pub breaker: DeletionBreaker,
    /// Who is told of what waits for a person: parked steps, disputes, the breaker.
    pub operators: Vec<Recipient>,
    /// How long a certificate is kept; `None`: for good.
    pub evidence_for: Option<Duration>,
    /// How many calls and pages an address may ask for.
    pub limit: Arc<Limit>,
    /// Whether links and codes are taken where no TLS is spoken, as behind a proxy that ends TLS.
    pub danger_cleartext: bool,
    /// The plans, in the order of the file.
    pub plans: Vec<Arc<DeletionPlan>>,
    /// What proof each plan needs on each guarded route that its operations reach: the guard's, the route's and its own together.
    pub requirements: Vec<PlannedRequirement>,
}

/// The proof that the operations of a plan need on a route.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRequirement {
    /// The plan's name.
    pub plan: Arc<str>,
    /// The route's place in the list.
    pub route: usize,
    /// The proof.
    pub requirement: Requirement,
}

/// When too many deletions are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionBreaker {
    /// In all: so many in a period.
    pub total: (NonZeroU32, Duration),
    /// By one principal.
    pub by_principal: (NonZeroU32, Duration),
}

/// A plan, as requests are judged by it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletionPlan {
    /// Where it stands in the file.
    pub span: Span,
    /// Its name.
    pub name: Arc<str>,
    /// The operations that it takes over. Each is under the deletion guard, too.
    pub operations: Vec<PlannedOperation>,
    /// Other ways to the same deletion: they are refused.
    pub covers: Vec<CoveredOperation>,
    /// A description of the API that is checked for deletions that the plan does not cover.
    pub openapi: Option<File>,
    /// Where a request names the data's subject.
    pub subject: ValueSource,
    /// The claim that the subject is in a token: the caller's own must equal it. `None`: the token's subject.
    pub owner: Option<ClaimPath>,
    /// Who vouches for the data's subject, by the name in the configuration; `None`: whoever vouches for the caller, which is only where
    /// one issuer alone can.
    pub issuer: Option<IssuerName>,
    /// Scopes of which one entitles to somebody else's deletion; empty: nobody's but one's own.
    pub others: Vec<Arc<str>>,
    /// Further values of the request, each with the claim that must equal it.
    pub bind: Vec<(ValueSource, ClaimPath)>,
    /// The proof that it needs, besides the guard's and the route's.
    pub assurance: Option<Requirement>,
    /// The proof that cancelling needs.
    pub cancel_assurance: Option<Requirement>,
    /// Its quota, by issuer and subject.
    pub limit: Arc<Limit>,
    /// What a deletion is made under.
    pub terms: Arc<Terms>,
}

/// An operation that a plan takes over.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedOperation {
    /// Where it stands in the file.
    pub span: Span,
    /// As written: `DELETE /accounts/{id}`.
    pub text: Arc<str>,
    /// The method.
    pub method: http::Method,
    /// The path.
    pub path: PathPattern,
}

/// Another way to what a plan takes over.
#[derive(Debug, Clone, PartialEq)]
pub struct CoveredOperation {
    /// Where it stands in the file.
    pub span: Span,
    /// As written.
    pub text: Arc<str>,
    /// The method, or `None` for any.
    pub method: Option<http::Method>,
    /// The path, matched folded.
    pub path: PathPattern,
    /// What of it is refused.
    pub what: Covered,
}

/// What of an operation is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covered {
    /// All of it.
    Whole,
    /// GraphQL requests (GraphQL over HTTP) that name one of these fields at the root of a mutation.
    Mutations(Vec<Arc<str>>),
    /// Batches of requests (JSON) of which one is an operation of the plan, or otherwise covered.
    Batch,
}

/// Where a value is in a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// The caller itself: the value of the claim that `owner` names.
    Caller,
    /// A parameter of the path.
    Path(Box<str>),
    /// A parameter of the query; it must be there once.
    Query(Box<str>),
    /// A member of a JSON object in the body, or a field of a form; it must be there once.
    Body(Box<str>),
}

/// What a deletion is made under, from when it is asked for to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The plan's name.
    pub plan: Box<str>,
    /// What is told to the caller, and kept as evidence.
    pub scope: Scope,
    /// How long it is held; `None`: it begins at once.
    pub grace_secs: Option<u64>,
    /// What becomes of the subject's tokens meanwhile.
    pub while_held: WhileHeld,
    /// Whether a second person must approve it.
    pub four_eyes: bool,
    /// Scopes of which one entitles to see other people's deletions.
    pub may_see: Vec<Box<str>>,
    /// The same for cancelling.
    pub may_cancel: Vec<Box<str>>,
    /// The same for approving.
    pub may_approve: Vec<Box<str>>,
    /// What is asked when the deletion is requested, for values that templates and notices need.
    pub lookups: Vec<Call>,
    /// What erases, in the order of the file.
    pub steps: Vec<Step>,
    /// How it is verified.
    pub probes: Vec<Probe>,
    /// When, in seconds after the last step; ascending.
    pub verify_after_secs: Vec<u64>,
    /// How long a step is tried again before a person is asked.
    pub give_up_secs: u64,
    /// Who is told of each change.
    pub notify: Vec<Recipient>,
    /// Whether the gateway's own data of the person goes, too: factors, elevations, account, sessions.
    pub own_data: bool,
}

/// What goes and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// In words.
    pub summary: Box<str>,
    /// What goes.
    pub erased: Vec<Box<str>>,
    /// What stays.
    pub kept: Vec<Kept>,
}

/// What stays, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What.
    pub what: Box<str>,
    /// Why: the law, say.
    pub why: Box<str>,
    /// For how long.
    pub how_long: Box<str>,
}

/// What becomes of the subject's tokens while a deletion is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhileHeld {
    /// They are refused, with this status: 403 or 410.
    Block(u16),
    /// They pass.
    Allow,
}

/// A request to an upstream, with templates: `{subject}`, `{path.tenant}`, `{claims./email}`, `{captured.customer}`, `{deletion}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name, in evidence and metrics.
    pub name: Box<str>,
    /// The upstream's name. Its address and credential are those of the configuration that is in force when it is sent.
    pub upstream: Box<str>,
    /// The method.
    pub method: Box<str>,
    /// Path and query, a template. What it puts into the path is one segment, whatever it has; into the query, one value.
    pub target: Box<str>,
    /// Further headers: templates.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The body: JSON whose strings are templates.
    pub body: Option<serde_json::Value>,
    /// Values of its JSON answer, by JSON pointer.
    pub capture: BTreeMap<Box<str>, Box<str>>,
    /// How long it may take.
    pub timeout_secs: u64,
}

/// A step of the hard deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The request.
    pub call: Call,
    /// Statuses that mean that it is done.
    pub done: Vec<u16>,
    /// Places of the steps that must be done before.
    pub after: Vec<usize>,
}

/// How it is verified that something is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The request.
    pub call: Call,
    /// Statuses that mean that the data is there.
    pub there: Vec<u16>,
    /// Statuses that mean that it is gone.
    pub gone: Vec<u16>,
    /// Whether the deletion goes on where it saw no data before; it is recorded as not counted then.
    pub optional: bool,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// Mail to an address: a template, or a fixed one.
    Mail(Box<str>),
    /// A webhook, by its name under `notify.webhooks`.
    Webhook(Box<str>),
}
