//! What the calls of the admin API have in common: reading what is asked, saying what is wrong with it, and waiting for what is done
//! on the runtime of background work.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, mpsc},
    time::Duration,
};

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;

use crate::{config::Config, identity, server::AdminAnswer};

/// How long the store may take, in its worst moment.
const PATIENCE: Duration = Duration::from_secs(25);
/// The longest name of an operator.
const NAME_BYTES: usize = 128;

/// What was asked cannot be understood.
pub(super) fn bad(why: &str) -> AdminAnswer {
    problem(StatusCode::BAD_REQUEST, why)
}

/// The members of RFC 9457, for operators.
pub(super) fn problem(status: StatusCode, detail: &str) -> AdminAnswer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    AdminAnswer { status, body }
}

/// A body, whose unknown members are refused by its type: one that is misspelt would make it another call.
pub(super) fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, AdminAnswer> {
    serde_json::from_slice(body).map_err(|error| bad(&error.to_string()))
}

/// The name of whoever asks.
pub(super) fn operator(by: Option<String>) -> Result<String, AdminAnswer> {
    let by = by.unwrap_or_else(|| "admin".to_owned());
    if by.is_empty() || by.len() > NAME_BYTES || by.chars().any(char::is_control) {
        return Err(bad("`by` is a name of up to 128 bytes"));
    }
    Ok(by)
}

/// What a source of callers calls itself, by its name.
pub(super) fn source_url(config: &Config, name: &str) -> Result<Arc<str>, AdminAnswer> {
    // A name that nothing has would do nothing, and look as if it had.
    let known = sources(config).find(|(known, _)| **known == *name);
    let missing = || bad(&format!("`issuer`: no source of callers is named `{}`", name.escape_debug()));
    known.map(|(_, url)| url).ok_or_else(missing)
}

/// The sources of callers: their names, and what they call themselves.
pub(super) fn sources(config: &Config) -> impl Iterator<Item = (Arc<str>, Arc<str>)> + '_ {
    let issuers = config.issuers.iter().map(|issuer| (issuer.name.clone(), issuer.url.clone()));
    issuers.chain(config.credentials.iter().map(|source| (source.name.clone(), identity::source_url(&source.name))))
}

/// Has something done on the runtime of background work, and waits for it.
pub(super) fn done<T, E, F>(handle: &Handle, work: F) -> Result<Result<T, E>, AdminAnswer>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let (answer, answered) = mpsc::sync_channel(1);
    // Boxed, so that the runtime has one kind of task for all of them.
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        // Whoever asked may have given up.
        let _ = answer.send(work.await);
    });
    handle.spawn(task);
    answered
        .recv_timeout(PATIENCE)
        .map_err(|_| problem(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer; it may be done all the same"))
}
