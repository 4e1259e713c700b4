//! `/revocations` of the admin API. The command line asks the same of a file that no gateway holds.
//!
//! | call | does | answers |
//! |---|---|---|
//! | `POST /revocations` | revokes | 201 with the entry; 200 with the one that refuses all of it already |
//! | `GET /revocations` | lists, by `issuer`, `kind`, `value`, `after`, `limit` | 200 |
//! | `GET /revocations/ID` | shows one | 200, 404 |
//! | `DELETE /revocations/ID` | takes one back | 200 with the entry, 404 |

use std::{error::Error, sync::Arc};

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::answers::{bad, problem, read},
    clock::Now,
    config::Config,
    identity::revocation::{
        ANY_SOURCE, Filter, Page, Revocation, RevocationFault, Revocations, Revoked, TargetKind, target,
    },
    server::AdminAnswer,
};

/// The most entries on a page.
const PAGE: usize = 1000;

/// A revocation as it is asked for. Unknown members are refused: one that is misspelt would make it another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    issuer: String,
    jti: Option<String>,
    subject: Option<String>,
    session: Option<String>,
    key: Option<String>,
    #[serde(default)]
    all: bool,
    issued_before: Option<Moment>,
    expires: Option<Moment>,
    reason: Option<String>,
    by: Option<String>,
}

/// A moment: seconds since the epoch, RFC 3339, or `now`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(u64),
    Text(String),
}

/// Answers a call; `None` when it is none of ours.
pub(crate) fn call(
    revocations: &Revocations,
    config: &Config,
    now: Now,
    (method, path, query): (&Method, &str, Option<&str>),
    body: &[u8],
) -> Option<AdminAnswer> {
    let rest = path.strip_prefix("/revocations")?;
    let answer = match (method.as_str(), rest) {
        ("POST", "") => revoke(revocations, config, now, body),
        ("GET", "") => list(revocations, query.unwrap_or_default()),
        ("GET", id) => find(revocations, id.strip_prefix('/')?),
        ("DELETE", id) => remove(revocations, id.strip_prefix('/')?, now),
        _ => return None,
    };
    Some(answer.unwrap_or_else(|refusal| refusal))
}

fn revoke(revocations: &Revocations, config: &Config, now: Now, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
    let asked: Asked = read(body)?;
    let revocation = asked.revocation(config, now).map_err(|why| bad(&why))?;
    let kind = revocation.kind;
    let done = revocations.revoke(&[revocation], now).map_err(|fault| refused(&fault))?;
    let Some(done) = done.first() else { return Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "nothing was done")) };
    let entry = done.entry();
    let status = match done {
        Revoked::Added(_) => {
            tracing::info!(id = entry.id, kind = kind.name(), issuer = &*entry.revocation.source, "revoked");
            StatusCode::CREATED
        }
        Revoked::Covered(_) => StatusCode::OK,
    };
    Ok(AdminAnswer { status, body: json!(**entry) })
}

impl Asked {
    fn revocation(self, config: &Config, now: Now) -> Result<Revocation, String> {
        let names = [self.jti, self.subject, self.session, self.key].map(|name| name.map(Arc::from));
        let (kind, value) = target(names, self.all).map_err(|fault| fault.to_string())?;
        if !is_source(config, &self.issuer) {
            // A name that nothing has would refuse nothing, and look as if it did.
            return Err(format!(
                "`issuer`: no source of callers is named `{}`; `*` is any",
                self.issuer.escape_debug()
            ));
        }
        let at = |moment: Option<Moment>, what: &str| match moment {
            Some(moment) => moment.seconds(now).map(Some).ok_or(format!("`{what}` is no moment")),
            None => Ok(None),
        };
        let (issued_before, expires) = (at(self.issued_before, "issued_before")?, at(self.expires, "expires")?);
        if expires.is_some_and(|expires| expires <= now.unix_secs()) {
            return Err("`expires` has passed".to_owned());
        }
        let by = self.by.map_or_else(|| "admin".to_owned(), |by| format!("admin ({by})"));
        let reason = self.reason.map(Arc::from);
        let source = self.issuer.into();
        let revocation = Revocation { source, kind, value, issued_before, expires, reason, by: by.into() };
        revocation.check().map_err(|fault| fault.to_string())?;
        Ok(revocation)
    }
}

fn is_source(config: &Config, name: &str) -> bool {
    name == ANY_SOURCE
        || config.issuers.iter().any(|issuer| *issuer.name == *name)
        || config.credentials.iter().any(|source| *source.name == *name)
}

impl Moment {
    /// The second that has not begun by then: what was issued in the running one is before `now`, too.
    fn seconds(&self, now: Now) -> Option<u64> {
        match self {
            Self::Seconds(seconds) => Some(*seconds),
            Self::Text(text) if text == "now" => Some(now.unix_secs().saturating_add(1)),
            Self::Text(text) => {
                let moment: Timestamp = text.parse().ok()?;
                let whole = u64::try_from(moment.as_second()).ok()?;
                Some(if moment.subsec_nanosecond() > 0 { whole.saturating_add(1) } else { whole })
            }
        }
    }
}

fn list(revocations: &Revocations, query: &str) -> Result<AdminAnswer, AdminAnswer> {
    let mut filter = Filter { limit: 100, ..Filter::default() };
    let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    for (name, value) in &pairs {
        let number = || value.parse::<u64>().map_err(|_| bad(&format!("`{name}` is not a whole number")));
        match &**name {
            "issuer" => filter.source = Some(value),
            "kind" => {
                let kind = TargetKind::ALL.into_iter().find(|kind| *kind.name() == **value);
                filter.kind = Some(kind.ok_or_else(|| bad("`kind` is jti, subject, session, key or all"))?);
            }
            "value" => filter.value = Some(value),
            "after" => filter.after = number()?,
            "limit" => filter.limit = usize::try_from(number()?).unwrap_or(PAGE).clamp(1, PAGE),
            _ => return Err(bad("there are `issuer`, `kind`, `value`, `after` and `limit` to choose by")),
        }
    }
    let Page { entries, more, total } = revocations.page(&filter);
    let next = if more { entries.last().map(|entry| entry.id) } else { None };
    let entries: Vec<Value> = entries.iter().map(|entry| json!(**entry)).collect();
    Ok(AdminAnswer { status: StatusCode::OK, body: json!({"revocations": entries, "next": next, "total": total}) })
}

fn find(revocations: &Revocations, id: &str) -> Result<AdminAnswer, AdminAnswer> {
    let entry = id.parse().ok().and_then(|id| revocations.entry(id)).ok_or_else(nothing)?;
    Ok(AdminAnswer { status: StatusCode::OK, body: json!(*entry) })
}

fn remove(revocations: &Revocations, id: &str, now: Now) -> Result<AdminAnswer, AdminAnswer> {
    let id = id.parse().map_err(|_| nothing())?;
    let entry = revocations.remove(id, "admin", now).map_err(|fault| refused(&fault))?.ok_or_else(nothing)?;
    tracing::info!(id, kind = entry.revocation.kind.name(), "revocation taken back");
    Ok(AdminAnswer { status: StatusCode::OK, body: json!(*entry) })
}

fn refused(fault: &RevocationFault) -> AdminAnswer {
    match fault {
        RevocationFault::Entry(fault) => bad(&fault.to_string()),
        RevocationFault::Full => problem(StatusCode::INSUFFICIENT_STORAGE, &fault.to_string()),
        RevocationFault::Io { .. } | RevocationFault::Corrupt { .. } | RevocationFault::ReadOnly => {
            let cause = fault.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::error!(%fault, cause, "the list of revocations was not changed");
            problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{fault}{cause}: nothing was changed"))
        }
    }
}

fn nothing() -> AdminAnswer {
    problem(StatusCode::NOT_FOUND, "there is no revocation of this number")
}
