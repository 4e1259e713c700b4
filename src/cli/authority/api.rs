//! The authority's part of the admin API. The command line asks the same of a store that no gateway holds.
//!
//! | call | does | answers |
//! |---|---|---|
//! | `POST /invitations` | invites somebody to enrol a factor | 201 with the code, which is shown this once |
//! | `GET /subjects` | lists people with factors, by `after`, `limit` | 200 |
//! | `GET /subjects/factors` | shows somebody's factors, by `issuer`, `subject` | 200 |
//! | `DELETE /subjects/factors` | as `POST /resets`, by `issuer`, `subject`, `by` | 200, 202 |
//! | `POST /resets` | takes all factors of somebody's away | 200; 202 where another operator must approve it |
//! | `POST /resets/ID/approve` | approves that, `by` another | 200, 404 |
//! | `POST /unlock` | lifts the locks on guessing | 200 |
//!
//! `issuer` is a name of the configuration. Everybody with the admin token can say any name in `by`: four eyes keep operators
//! from slips, and from what they would not sign with a name, not from lying about it.

use std::{future::Future, sync::Arc};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::{
    authority::{Authority, FactorRecord, Fault, Listed, Owner, ResetState},
    cli::answers::{bad, done, operator, problem, read, source_url, sources},
    clock::Now,
    config::{self, Config},
    server::AdminAnswer,
    store::StoreFault,
};

/// The most people on a page.
const PAGE: usize = 500;

/// What a call is answered from.
pub(crate) struct Operators<'a> {
    pub(crate) authority: Option<&'a Arc<Authority>>,
    pub(crate) config: &'a Config,
    /// The runtime of background work; never the one that this thread runs.
    pub(crate) handle: &'a Handle,
    pub(crate) now: Now,
}

/// A person, and who asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    issuer: String,
    subject: String,
    by: Option<String>,
}

/// An invitation, as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    issuer: String,
    subject: String,
    by: Option<String>,
    ttl: Option<String>,
}

/// Who approves.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    by: Option<String>,
}

impl Operators<'_> {
    /// Answers a call; `None` when it is none of ours.
    pub(crate) fn call(
        &self,
        (method, path, query): (&Method, &str, Option<&str>),
        body: &[u8],
    ) -> Option<AdminAnswer> {
        let query = query.unwrap_or_default();
        let answer = match (method.as_str(), path) {
            ("POST", "/invitations") => self.invite(body),
            ("GET", "/subjects") => self.subjects(query),
            ("GET", "/subjects/factors") => self.factors(query),
            ("DELETE", "/subjects/factors") => asked_by_query(query).and_then(|asked| self.reset(&asked)),
            ("POST", "/resets") => read(body).and_then(|asked| self.reset(&asked)),
            ("POST", "/unlock") => self.unlock(body),
            ("POST", "/accounts/import") => self.import_accounts(body),
            ("POST", "/accounts/invitations") => self.invite_account(body),
            ("POST", path) => {
                let id = path.strip_prefix("/resets/")?.strip_suffix("/approve")?;
                self.approve(id, body)
            }
            _ => return None,
        };
        Some(answer.unwrap_or_else(|refusal| refusal))
    }

    fn invite(&self, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        let Invite { issuer, subject, by, ttl } = read(body)?;
        let owner = self.owner(&issuer, &subject)?;
        let by = operator(by)?;
        let ttl = match ttl {
            None => None,
            Some(ttl) => Some(config::duration(&ttl).ok_or_else(|| bad("`ttl` is a duration: 3d, 12h"))?),
        };
        let now = self.now;
        let invitation = self.done(move |authority| async move { authority.invite(&owner, &by, ttl, now).await })?;
        tracing::info!(issuer, "somebody was invited to enrol a factor");
        Ok(AdminAnswer { status: StatusCode::CREATED, body: json!(invitation) })
    }

    fn subjects(&self, query: &str) -> Result<AdminAnswer, AdminAnswer> {
        let (mut after, mut limit) = (None, 100);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "after" => after = Some(value.into_owned()),
                "limit" => {
                    let number = value.parse::<usize>().map_err(|_| bad("`limit` is not a whole number"))?;
                    limit = number.clamp(1, PAGE);
                }
                _ => return Err(bad("there are `after` and `limit` to choose by")),
            }
        }
        let now = self.now;
        let (people, next): (Vec<Listed>, Option<String>) =
            self.done(move |authority| async move { authority.people(after.as_deref(), limit, now).await })?;
        let people: Vec<Value> = people.iter().map(|person| self.named(person)).collect();
        Ok(AdminAnswer { status: StatusCode::OK, body: json!({"subjects": people, "next": next}) })
    }

    /// A person, with the issuer's name as the configuration has it.
    fn named(&self, person: &Listed) -> Value {
        let name = sources(self.config).find(|(_, url)| **url == *person.issuer).map(|(name, _)| name);
        json!({
            "issuer": name.as_deref(),
            "issuer_url": person.issuer,
            "subject": person.subject,
            "enrolled_at": person.enrolled_at,
            "factors": person.factors,
        })
    }

    fn factors(&self, query: &str) -> Result<AdminAnswer, AdminAnswer> {
        let asked = asked_by_query(query)?;
        let owner = self.owner(&asked.issuer, &asked.subject)?;
        let now = self.now;
        let factors = self.done(move |authority| async move { authority.factors_of(&owner, now).await })?;
        let factors: Vec<Value> = factors.iter().map(|factor| shown(factor, now)).collect();
        Ok(AdminAnswer { status: StatusCode::OK, body: json!({"factors": factors}) })
    }

    fn reset(&self, asked: &Asked) -> Result<AdminAnswer, AdminAnswer> {
        let owner = self.owner(&asked.issuer, &asked.subject)?;
        let by = self.named_operator(asked.by.clone())?;
        let now = self.now;
        let state = self.done(move |authority| async move { authority.reset(&owner, &by, now).await })?;
        tracing::info!(issuer = asked.issuer, "a reset of factors was asked for");
        Ok(reset_state(&state))
    }

    fn approve(&self, id: &str, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        let By { by } = if body.is_empty() { By::default() } else { read(body)? };
        let (id, by, now) = (id.to_owned(), self.named_operator(by)?, self.now);
        let state = self.done(move |authority| async move { authority.approve_reset(&id, &by, now).await })?;
        Ok(reset_state(&state))
    }

    fn unlock(&self, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        let Asked { issuer, subject, by } = read(body)?;
        let (owner, by, now) = (self.owner(&issuer, &subject)?, operator(by)?, self.now);
        self.done(move |authority| async move { authority.unlock(&owner, &by, now).await })?;
        Ok(AdminAnswer { status: StatusCode::OK, body: json!({"state": "unlocked"}) })
    }

    /// Whom a name and a subject mean.
    fn owner(&self, issuer: &str, subject: &str) -> Result<Owner, AdminAnswer> {
        if subject.is_empty() {
            return Err(bad("`subject` is empty"));
        }
        let url = source_url(self.config, issuer)?;
        Ok(Owner { issuer: url, subject: subject.into() })
    }

    /// Who says so; where another must approve, it has to be said.
    fn named_operator(&self, by: Option<String>) -> Result<String, AdminAnswer> {
        if by.is_none() && self.config.authority.as_ref().is_some_and(|authority| authority.four_eyes) {
            return Err(bad("`by`: a reset needs the names of two operators"));
        }
        operator(by)
    }

    /// Has the authority do something on the runtime of background work, and waits for it.
    pub(super) fn done<T, F>(&self, work: impl FnOnce(Arc<Authority>) -> F) -> Result<T, AdminAnswer>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let missing = || problem(StatusCode::NOT_FOUND, "there is no `authority` in the configuration");
        let authority = self.authority.ok_or_else(missing)?;
        done(self.handle, work(Arc::clone(authority)))?.map_err(|fault| refused(&fault))
    }
}

fn shown(factor: &FactorRecord, now: Now) -> Value {
    json!({
        "id": factor.id,
        "factor": factor.kind().name(),
        "label": factor.label,
        "created_at": factor.created_at,
        "enrolled_by": factor.enrolled_by.name(),
        "last_used": factor.last_used,
        "may_delete": factor.may_delete(now.unix_secs()),
        "suspect": factor.suspect,
    })
}

fn reset_state(state: &ResetState) -> AdminAnswer {
    let status = match state {
        ResetState::Done { .. } => StatusCode::OK,
        ResetState::Waits { .. } => StatusCode::ACCEPTED,
    };
    AdminAnswer { status, body: json!(state) }
}

fn asked_by_query(query: &str) -> Result<Asked, AdminAnswer> {
    let (mut issuer, mut subject, mut by) = (None, None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "issuer" => issuer = Some(value.into_owned()),
            "subject" => subject = Some(value.into_owned()),
            "by" => by = Some(value.into_owned()),
            _ => return Err(bad("there are `issuer`, `subject` and `by`")),
        }
    }
    match (issuer, subject) {
        (Some(issuer), Some(subject)) => Ok(Asked { issuer, subject, by }),
        _ => Err(bad("`issuer` and `subject` say who is meant")),
    }
}

fn refused(fault: &Fault) -> AdminAnswer {
    match fault {
        Fault::NotFound => problem(StatusCode::NOT_FOUND, "there is no such person or reset"),
        Fault::Store(StoreFault::Conflict) => problem(StatusCode::CONFLICT, "somebody changed it meanwhile: try again"),
        Fault::Store(fault) => {
            tracing::error!(%fault, "the authority's store was not changed");
            problem(StatusCode::SERVICE_UNAVAILABLE, &format!("the store: {fault}"))
        }
        Fault::Call(why) => bad(why),
        Fault::Proof | Fault::Enrolment => {
            problem(StatusCode::FORBIDDEN, "refused: who asked for a reset cannot approve it")
        }
        Fault::Grant
        | Fault::Spent
        | Fault::SignIn
        | Fault::Sending(_)
        | Fault::Anonymous
        | Fault::Cleartext
        | Fault::Method(_) => bad(&fault.to_string()),
    }
}
