//! What is taken from a provider that reports what has ended.

use std::{sync::Arc, time::Duration};

use super::{Limit, Span};

/// Where a provider reports sessions and accounts that have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Where it stands in the file.
    pub span: Span,
    /// The path of the endpoint, in normal form.
    pub path: Arc<str>,
    /// The audiences of which a token's `aud` must hold one, never empty.
    pub audience: Vec<Arc<str>>,
    /// The accepted values of `typ`, lower case and without `application/`.
    pub types: Vec<Arc<str>>,
    /// Whether a token without `typ` is accepted.
    pub type_absent: bool,
    /// What ends when a session does.
    pub sign_out: SignOut,
    /// How long what was revoked stays so.
    pub keep: Duration,
    /// How many an address may send.
    pub limit: Arc<Limit>,
}

/// What ends when a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOut {
    /// The session, and every token of its subject that was issued before.
    Subject,
    /// The session alone, where the event names one.
    Session,
}
