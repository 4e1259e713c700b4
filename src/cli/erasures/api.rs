//! The account deletions' part of the admin API. The command line asks the same of a store that no gateway holds, and the operators'
//! page shows it.
//!
//! | call | does | answers |
//! |---|---|---|
//! | `GET /erasures` | lists deletions, by `state`, `plan`, `issuer` and `subject`, `hold`, `parked`, `after`, `limit` | 200 |
//! | `GET /erasures/ID` | shows all that is known of one | 200, 404 |
//! | `GET /erasures/ID/report` | its certificate, signed, and what that says; a report until it is over | 200, 404 |
//! | `POST /erasures/ID/hold` | holds it for legal reasons, for a `reason` | 200, 404, 409 |
//! | `POST /erasures/ID/release` | takes a `hold` away, `legal` without it | 200, 404, 409 |
//! | `POST /erasures/ID/approve` | approves it, `by` another than asked | 200, 403, 404, 409 |
//! | `POST /erasures/ID/retry` | has an `item` that is parked done again, or all; `accept`: as it is | 200, 404, 409 |
//! | `POST /erasures/ID/cancel` | cancels it | 200, 404, 409 |
//! | `POST /erasures/unfreeze` | lets deletions of a person be asked for again | 200, 404 |
//! | `POST /erasures/readmit` | lets tokens of a person pass that are older than the erasure | 200, 404 |
//! | `GET /erasures/breaker` | whether the breaker is tripped, since when, and for whom | 200 |
//! | `POST /erasures/breaker/reset` | resets it | 200 |
//!
//! `issuer` is a name of the configuration. Everybody with the admin token can say any name in `by`: it keeps operators from slips, and
//! from what they would not sign with a name, not from lying about it.

use std::{future::Future, sync::Arc};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::told;
use crate::{
    cli::answers::{bad, done, operator, problem, read, source_url},
    clock::Now,
    config::Config,
    erasure::{
        Erasures, Fault, Filter, HoldKind, Known, Party, State,
        life::{Accept, Item, NotNow, OWN_DATA},
        record::{Outcome, StepState},
    },
    server::AdminAnswer,
    store::StoreFault,
    telemetry::audit::{AuditLog, AuthorityRecord, Happening},
};

/// The longest reason of a hold, in bytes.
const REASON_BYTES: usize = 300;

/// What a call is answered from.
pub(crate) struct Operators<'a> {
    pub(crate) erasures: Option<&'a Arc<Erasures>>,
    pub(crate) config: &'a Config,
    /// Where it is recorded what operators do that is no event of one deletion.
    pub(crate) audit: &'a AuditLog,
    /// The runtime of background work; never the one that this thread runs.
    pub(crate) handle: &'a Handle,
    pub(crate) now: Now,
}

/// What is said of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Said {
    by: Option<String>,
    reason: Option<String>,
    hold: Option<String>,
    item: Option<String>,
    accept: bool,
}

/// A person, and who asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    issuer: String,
    subject: String,
    by: Option<String>,
}

/// What is looked for.
#[derive(Debug, Default)]
struct Sought {
    state: Option<String>,
    plan: Option<String>,
    subject: Option<(Arc<str>, String)>,
    hold: Option<HoldKind>,
    parked: bool,
    after: Option<String>,
    limit: usize,
}

impl Operators<'_> {
    /// Answers a call; `None` when it is none of ours.
    pub(crate) fn call(
        &self,
        (method, path, query): (&Method, &str, Option<&str>),
        body: &[u8],
    ) -> Option<AdminAnswer> {
        let rest = path.strip_prefix("/erasures")?;
        let answer = match (method.as_str(), rest) {
            ("GET", "") => self.list(query.unwrap_or_default()),
            ("GET", "/breaker") => self.breaker(),
            ("POST", "/breaker/reset") => self.reset_breaker(body),
            ("POST", "/unfreeze") => self.unfreeze(body),
            ("POST", "/readmit") => self.readmit(body),
            (method, rest) => {
                let rest = rest.strip_prefix('/')?;
                match (method, rest.split_once('/')) {
                    ("GET", None) => self.show(rest),
                    ("GET", Some((id, "report"))) => self.report(id),
                    ("POST", Some((id, verb))) => self.change(id, verb, body)?,
                    _ => return None,
                }
            }
        };
        Some(answer.unwrap_or_else(|refusal| refusal))
    }

    fn list(&self, query: &str) -> Result<AdminAnswer, AdminAnswer> {
        let sought = self.sought(query)?;
        let now = self.now;
        let page = self.done(move |erasures| async move {
            let subject = sought.subject.as_ref().map(|(issuer, subject)| (&**issuer, subject.as_str()));
            let filter = Filter {
                state: sought.state.as_deref(),
                plan: sought.plan.as_deref(),
                subject,
                hold: sought.hold,
                parked: sought.parked,
                after: sought.after.as_deref(),
                limit: sought.limit,
            };
            erasures.list(&filter, now).await
        })?;
        let erasures: Vec<Value> = page.items.iter().map(|known| told::line(known, self.config)).collect();
        Ok(ok(json!({"erasures": erasures, "unreadable": page.unreadable, "next": page.next})))
    }

    fn sought(&self, query: &str) -> Result<Sought, AdminAnswer> {
        let mut sought = Sought { limit: 100, ..Sought::default() };
        let (mut issuer, mut subject) = (None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match &*name {
                "state" if State::NAMES.contains(&value.as_str()) => sought.state = Some(value),
                "state" => return Err(bad(&format!("`state` is one of {}", State::NAMES.join(", ")))),
                "plan" => sought.plan = Some(value),
                "issuer" => issuer = Some(source_url(self.config, &value)?),
                "subject" => subject = Some(value),
                "hold" => sought.hold = Some(hold_kind(&value)?),
                "parked" => sought.parked = value == "true",
                "after" => sought.after = Some(value),
                "limit" => sought.limit = value.parse().map_err(|_| bad("`limit` is not a whole number"))?,
                _ => {
                    let known = "`state`, `plan`, `issuer`, `subject`, `hold`, `parked`, `after` and `limit`";
                    return Err(bad(&format!("there are {known} to choose by")));
                }
            }
        }
        sought.subject = match (issuer, subject) {
            (None, None) => None,
            (Some(issuer), Some(subject)) => Some((issuer, subject)),
            (None, Some(_)) | (Some(_), None) => return Err(bad("`issuer` and `subject` say together who is meant")),
        };
        Ok(sought)
    }

    fn show(&self, id: &str) -> Result<AdminAnswer, AdminAnswer> {
        Ok(ok(told::whole(&self.known(id)?, self.config)))
    }

    fn known(&self, id: &str) -> Result<Known, AdminAnswer> {
        let (id, now) = (id.to_owned(), self.now);
        self.done(move |erasures| async move {
            let viewer = crate::erasure::Viewer::Operator("");
            Ok(erasures.shown(&id, viewer, now).await?.known)
        })
    }

    fn report(&self, id: &str) -> Result<AdminAnswer, AdminAnswer> {
        let (id, now) = (id.to_owned(), self.now);
        let signed = self.done(move |erasures| async move { erasures.certificate(&id, now).await })?;
        Ok(ok(json!({"certificate": signed.jws(), "says": signed.certificate()})))
    }

    /// Does something to one deletion; `None`: there is no such thing to do.
    fn change(&self, id: &str, verb: &str, body: &[u8]) -> Option<Result<AdminAnswer, AdminAnswer>> {
        let change = match verb {
            "hold" => Self::hold,
            "release" => Self::release,
            "approve" => Self::approve,
            "retry" => Self::retry,
            "cancel" => Self::cancel,
            _ => return None,
        };
        let said: Result<Said, _> = if body.is_empty() { Ok(Said::default()) } else { read(body) };
        let answer = said.and_then(|said| change(self, id, said)).map(|known| {
            tracing::info!(id, plan = &*known.erasure.plan, verb, "an operator changed an account deletion");
            ok(told::line(&known, self.config))
        });
        Some(answer)
    }

    fn hold(&self, id: &str, said: Said) -> Result<Known, AdminAnswer> {
        said.has(&["reason"])?;
        let by = party(said.by)?;
        let reason = said.reason.filter(|reason| !reason.trim().is_empty() && reason.len() <= REASON_BYTES);
        let reason = reason.ok_or_else(|| bad("`reason` says in up to 300 bytes why it is held"))?;
        let (id, now) = (id.to_owned(), self.now);
        self.done(move |erasures| async move { erasures.hold(&id, by, &reason, now).await })
    }

    fn release(&self, id: &str, said: Said) -> Result<Known, AdminAnswer> {
        said.has(&["hold"])?;
        let (by, kind) = (party(said.by)?, said.hold.map_or(Ok(HoldKind::Legal), |kind| hold_kind(&kind))?);
        if kind == HoldKind::Approval {
            return Err(bad("`hold`: what waits for a second person is approved, not released"));
        }
        let (id, now) = (id.to_owned(), self.now);
        self.done(move |erasures| async move { erasures.release(&id, kind, by, now).await })
    }

    fn approve(&self, id: &str, said: Said) -> Result<Known, AdminAnswer> {
        said.has(&[])?;
        let by = said.by.ok_or_else(|| bad("`by`: who approves says their name"))?;
        let (by, id, now) = (party(Some(by))?, id.to_owned(), self.now);
        self.done(move |erasures| async move { erasures.approve(&id, by, now).await })
    }

    fn cancel(&self, id: &str, said: Said) -> Result<Known, AdminAnswer> {
        said.has(&[])?;
        let (by, id, now) = (party(said.by)?, id.to_owned(), self.now);
        self.done(move |erasures| async move { erasures.cancel(&id, by, now).await })
    }

    fn retry(&self, id: &str, said: Said) -> Result<Known, AdminAnswer> {
        said.has(&["item", "accept"])?;
        let by = party(said.by)?;
        let accept = if said.accept { Accept::AsItIs } else { Accept::Again };
        if said.accept && said.item.is_none() {
            return Err(bad("`item` says which step or probe is accepted as it is"));
        }
        let known = self.known(id)?;
        let items = items(&known, said.item.as_deref());
        if items.is_empty() {
            let nothing = "nothing of it is parked, or there is no step or probe of this name";
            return Err(problem(StatusCode::CONFLICT, nothing));
        }
        let (id, now) = (id.to_owned(), self.now);
        self.done(move |erasures| async move {
            let mut last = known;
            for item in items {
                last = erasures.retry(&id, item, by.clone(), accept, now).await?;
            }
            Ok(last)
        })
    }

    fn unfreeze(&self, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        self.of_person(body, "deletions_unfrozen", |erasures, issuer, subject, now| async move {
            erasures.unfreeze(&issuer, &subject, now).await
        })
    }

    fn readmit(&self, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        self.of_person(body, "readmitted", |erasures, issuer, subject, now| async move {
            erasures.readmit(&issuer, &subject, now).await
        })
    }

    fn of_person<F>(
        &self,
        body: &[u8],
        change: &'static str,
        work: impl FnOnce(Arc<Erasures>, Arc<str>, String, Now) -> F,
    ) -> Result<AdminAnswer, AdminAnswer>
    where
        F: Future<Output = Result<bool, Fault>> + Send + 'static,
    {
        let Person { issuer, subject, by } = read(body)?;
        if subject.is_empty() {
            return Err(bad("`subject` is empty"));
        }
        let (url, by, now) = (source_url(self.config, &issuer)?, operator(by)?, self.now);
        let of = (url.clone(), subject.clone());
        if !self.done(move |erasures| work(erasures, of.0, of.1, now))? {
            return Err(problem(StatusCode::NOT_FOUND, "there is nothing of this person to take back"));
        }
        self.record(change, url, subject.into(), &by);
        tracing::info!(issuer, change, "an operator changed what becomes of a person's deletions");
        Ok(ok(json!({"state": change})))
    }

    fn breaker(&self) -> Result<AdminAnswer, AdminAnswer> {
        let erasures = self.erasures()?;
        let tripped = erasures.breaker();
        let held = erasures.counts(self.now.unix_secs()).holds.get(HoldKind::Breaker.name()).copied().unwrap_or(0);
        let since = tripped.iter().map(|tripped| tripped.at).min().map(told::moment);
        let tripped: Vec<Value> = tripped
            .iter()
            .map(|tripped| json!({"at": told::moment(tripped.at), "for": if tripped.by.is_some() { "one" } else { "all" }}))
            .collect();
        Ok(ok(json!({"tripped_at": since, "tripped": tripped, "held": held})))
    }

    fn reset_breaker(&self, body: &[u8]) -> Result<AdminAnswer, AdminAnswer> {
        let said: Said = if body.is_empty() { Said::default() } else { read(body)? };
        said.has(&[])?;
        let (by, now) = (operator(said.by)?, self.now);
        if self.done(move |erasures| async move { erasures.reset_breaker(now).await })? {
            self.record("breaker_reset", "".into(), "".into(), &by);
            tracing::info!("the breaker of mass deletions was reset");
        }
        self.breaker()
    }

    /// Records what is no event of one deletion, with the name of who did it.
    fn record(&self, change: &'static str, issuer_url: Arc<str>, subject: Arc<str>, by: &str) {
        self.audit.authority(AuthorityRecord {
            unix_ms: self.now.unix_ms,
            happening: Happening::Change { change, detail: "" },
            factor: None,
            issuer_url,
            subject,
            operator: Some(by.into()),
            address: None,
            request_id: None,
        });
    }

    fn erasures(&self) -> Result<&Arc<Erasures>, AdminAnswer> {
        let missing = || problem(StatusCode::NOT_FOUND, "there is no `deletions` in the configuration");
        self.erasures.ok_or_else(missing)
    }

    fn done<T, F>(&self, work: impl FnOnce(Arc<Erasures>) -> F) -> Result<T, AdminAnswer>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let erasures = self.erasures()?;
        done(self.handle, work(Arc::clone(erasures)))?.map_err(|fault| refused(&fault))
    }
}

impl Said {
    /// Refuses what another call would understand: nobody is to think that it did something.
    fn has(&self, known: &[&str]) -> Result<(), AdminAnswer> {
        let said = [
            ("reason", self.reason.is_some()),
            ("hold", self.hold.is_some()),
            ("item", self.item.is_some()),
            ("accept", self.accept),
        ];
        match said.iter().find(|(name, is_said)| *is_said && !known.contains(name)) {
            Some((name, _)) => Err(bad(&format!("`{name}` says nothing here"))),
            None => Ok(()),
        }
    }
}

/// All that is parked, or what has this name: a step that is done may be sent again where the data is still there.
fn items(known: &Known, name: Option<&str>) -> Vec<Item> {
    let (erasure, terms) = (&known.erasure, &known.terms);
    let is_parked = |state: &StepState| matches!(state.outcome, Outcome::Parked { .. });
    let steps = terms.steps.iter().zip(&erasure.steps).enumerate();
    let steps = steps.map(|(place, (step, state))| (&*step.call.name, Item::Step(place), is_parked(state)));
    let probes = terms.probes.iter().zip(&erasure.probes).enumerate();
    let probes = probes.map(|(place, (probe, state))| (&*probe.call.name, Item::Probe(place), state.parked.is_some()));
    let is_meant = |own: &str, is_parked: bool| name.map_or(is_parked, |name| name == own);
    let own = erasure.own_data.iter().map(|own| (OWN_DATA, Item::OwnData, is_parked(own)));
    steps
        .chain(probes)
        .chain(own)
        .filter(|(own, _, is_parked)| is_meant(own, *is_parked))
        .map(|(_, item, _)| item)
        .collect()
}

fn hold_kind(name: &str) -> Result<HoldKind, AdminAnswer> {
    let names = HoldKind::ALL.map(HoldKind::name).join(", ");
    HoldKind::from_name(name).ok_or_else(|| bad(&format!("`hold` is one of {names}")))
}

fn party(by: Option<String>) -> Result<Party, AdminAnswer> {
    Ok(Party::Operator { name: operator(by)?.into() })
}

fn ok(body: Value) -> AdminAnswer {
    AdminAnswer { status: StatusCode::OK, body }
}

fn refused(fault: &Fault) -> AdminAnswer {
    match fault {
        Fault::NotFound => problem(StatusCode::NOT_FOUND, "there is no such deletion"),
        Fault::NotNow(NotNow::SamePerson) => {
            problem(StatusCode::FORBIDDEN, "refused: who asked for it cannot approve it")
        }
        Fault::NotNow(why) => problem(StatusCode::CONFLICT, &format!("not now: {why}")),
        Fault::Store(StoreFault::Conflict) => problem(StatusCode::CONFLICT, "somebody changed it meanwhile: try again"),
        Fault::Store(fault) => {
            tracing::error!(%fault, "the store of account deletions was not changed");
            problem(StatusCode::SERVICE_UNAVAILABLE, &format!("the store: {fault}"))
        }
        Fault::Untold => problem(StatusCode::SERVICE_UNAVAILABLE, &fault.to_string()),
        Fault::Frozen | Fault::AnotherOpen | Fault::Absent | Fault::Lookup => {
            problem(StatusCode::CONFLICT, &fault.to_string())
        }
    }
}
