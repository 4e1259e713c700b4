//! The operators' pages of account deletions, on the admin listener. Whatever they show or do is a call of the admin API, with the name
//! that the operator gave when they signed in: no page can do what the API cannot, and each says what it said.
//!
//! | page | what |
//! |---|---|
//! | `GET /deletions` | deletions that are sought, the breaker, what can be taken back for a person |
//! | `GET /deletions/ID` | one: its steps, probes, events and holds, and what can be done with it |
//! | `GET /deletions/ID/certificate` | the certificate, as a file |
//! | `POST /deletions/ID/{hold,release,approve,retry,cancel}` | does that |
//! | `POST /deletions/{unfreeze,readmit,breaker}` | does that |

use askama::Template;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    config::Scope,
    endpoint::{self, At, Look},
    erasure::{HoldKind, State},
    server::{AdminAnswer, AdminFrame, AdminVisit},
};

/// How many deletions a page of the list has.
const PAGE: usize = 50;

/// The admin API: a method, a path, a query and a body.
pub(crate) type Api<'a> = dyn Fn(&Method, &str, &str, &Value) -> Option<AdminAnswer> + 'a;

/// Answers a call of a page; `None`: there is no such page.
pub(crate) fn page(visit: &AdminVisit<'_>, issuers: &[String], api: &Api<'_>) -> Option<Response<Bytes>> {
    let pages = Pages { visit, issuers, api };
    if visit.path == "/" {
        return Some(visit.see("/deletions"));
    }
    let rest = visit.path.strip_prefix("/deletions")?;
    let is_sent = *visit.method == Method::POST;
    match rest.strip_prefix('/').map(|rest| (rest, rest.split_once('/'))) {
        None if rest.is_empty() && !is_sent => Some(pages.list(None)),
        Some(("unfreeze" | "readmit", None)) if is_sent => Some(pages.person(rest)),
        Some(("breaker", None)) if is_sent => {
            let told = pages.done("/erasures/breaker/reset", json!({}));
            Some(pages.after(told, "/deletions?done=breaker", |problem| pages.list(Some(problem))))
        }
        Some((id, None)) if !is_sent => Some(pages.one(id, None)),
        Some((_, Some((id, "certificate")))) if !is_sent => Some(pages.certificate(id)),
        Some((_, Some((id, verb)))) if is_sent => pages.change(id, verb),
        Some(_) | None => None,
    }
}

/// What has just gone well, by the word in the address.
fn good(word: &str) -> Option<&'static str> {
    Some(match word {
        "hold" => "It is on hold.",
        "release" => "The hold was lifted.",
        "approve" => "It was approved.",
        "retry" => "It is done again.",
        "accept" => "It was accepted as it is.",
        "cancel" => "It was cancelled.",
        "unfreeze" => "Deletions of the person can be asked for again.",
        "readmit" => "Older tokens of the person pass again.",
        "breaker" => "The breaker was reset. What it holds stays held until that is released.",
        _ => return None,
    })
}

struct Pages<'a> {
    visit: &'a AdminVisit<'a>,
    issuers: &'a [String],
    api: &'a Api<'a>,
}

impl Pages<'_> {
    fn frame<'s>(&'s self, problem: Option<&'s str>) -> AdminFrame<'s> {
        let good = good(self.visit.fields.text("done")).filter(|_| problem.is_none());
        AdminFrame { problem, good, ..self.visit.frame() }
    }

    /// Reads by a call of the API.
    fn read<T: DeserializeOwned>(&self, path: &str, query: &str) -> Result<T, (StatusCode, String)> {
        let answer = said((self.api)(&Method::GET, path, query, &Value::Null))?;
        serde_json::from_value(answer).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// Does something by a call of the API, in the operator's name.
    fn done(&self, path: &str, mut body: Value) -> Result<(), (StatusCode, String)> {
        if let Some(body) = body.as_object_mut() {
            body.insert("by".to_owned(), self.visit.name.into());
        }
        said((self.api)(&Method::POST, path, "", &body)).map(drop)
    }

    /// Goes on to another page, so that loading it again does nothing again; or shows what went wrong.
    fn after(
        &self,
        told: Result<(), (StatusCode, String)>,
        place: &str,
        wrong: impl FnOnce(&str) -> Response<Bytes>,
    ) -> Response<Bytes> {
        match told {
            Ok(()) => self.visit.see(place),
            Err((status, problem)) => {
                let mut response = wrong(&problem);
                *response.status_mut() = status;
                response
            }
        }
    }

    fn list(&self, problem: Option<&str>) -> Response<Bytes> {
        let field = |name| if *self.visit.method == Method::POST { "" } else { self.visit.fields.text(name) };
        let sought = Sought {
            state: field("state"),
            plan: field("plan"),
            issuer: field("issuer"),
            subject: field("subject"),
            waits: field("waits"),
        };
        let found = self.read::<Listed>("/erasures", &sought.query(field("after")));
        let breaker = self.read::<Breaker>("/erasures/breaker", "").unwrap_or_default();
        let (status, wrong, listed) = match found {
            Ok(listed) => (StatusCode::OK, None, listed),
            Err((status, wrong)) => (status, Some(wrong), Listed::default()),
        };
        let page = ListPage {
            frame: self.frame(problem.or(wrong.as_deref())),
            next: listed.next.as_deref().map(|next| sought.link(self.visit.frame().base, next)),
            is_first: field("after").is_empty(),
            sought,
            issuers: self.issuers,
            states: &State::NAMES,
            waits: &WAITS,
            items: listed.erasures,
            unreadable: listed.unreadable,
            tripped: breaker.tripped_at.as_deref().map(At::read),
            held: breaker.held,
        };
        endpoint::page(&page, status, Look::Still)
    }

    fn person(&self, rest: &str) -> Response<Bytes> {
        let fields = self.visit.fields;
        let body = json!({"issuer": fields.text("issuer"), "subject": fields.text("subject")});
        let told = self.done(&format!("/erasures{rest}"), body);
        let word = rest.trim_start_matches('/');
        self.after(told, &format!("/deletions?done={word}"), |problem| self.list(Some(problem)))
    }

    fn one(&self, id: &str, problem: Option<&str>) -> Response<Bytes> {
        let one = match self.read::<One>(&format!("/erasures/{}", segment(id)), "") {
            Ok(one) => one,
            Err((status, wrong)) => {
                let mut response = self.list(Some(&wrong));
                *response.status_mut() = status;
                return response;
            }
        };
        let page = OnePage { frame: self.frame(problem), one: &one, releases: releases(&one) };
        endpoint::page(&page, StatusCode::OK, Look::Still)
    }

    fn change(&self, id: &str, verb: &str) -> Option<Response<Bytes>> {
        let fields = self.visit.fields;
        let body = match verb {
            "hold" => json!({"reason": fields.text("reason")}),
            "release" => json!({"hold": fields.text("hold")}),
            "approve" | "cancel" => json!({}),
            "retry" => json!({"item": fields.text("item")}),
            "accept" => json!({"item": fields.text("item"), "accept": true}),
            _ => return None,
        };
        let call = if verb == "accept" { "retry" } else { verb };
        let told = self.done(&format!("/erasures/{}/{call}", segment(id)), body);
        let place = format!("/deletions/{}?done={verb}", segment(id));
        Some(self.after(told, &place, |problem| self.one(id, Some(problem))))
    }

    fn certificate(&self, id: &str) -> Response<Bytes> {
        #[derive(Deserialize)]
        struct Report {
            certificate: String,
        }
        match self.read::<Report>(&format!("/erasures/{}/report", segment(id)), "") {
            Ok(report) => {
                let mut response = Response::new(Bytes::from(report.certificate));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jose"));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                let name = format!("attachment; filename=\"deletion-{}.jws\"", segment(id));
                if let Ok(name) = HeaderValue::from_str(&name) {
                    headers.insert(header::CONTENT_DISPOSITION, name);
                }
                response
            }
            Err((status, wrong)) => {
                let mut response = self.one(id, Some(&wrong));
                *response.status_mut() = status;
                response
            }
        }
    }
}

/// What the API said: its content, or its status and what was wrong.
fn said(answer: Option<AdminAnswer>) -> Result<Value, (StatusCode, String)> {
    match answer {
        Some(answer) if answer.status.is_success() => Ok(answer.body),
        Some(AdminAnswer { status, body }) => {
            let detail = body.get("detail").or_else(|| body.get("title")).and_then(Value::as_str);
            Err((status, detail.unwrap_or("it was refused").to_owned()))
        }
        None => Err((StatusCode::NOT_FOUND, "there is no such deletion".to_owned())),
    }
}

/// A number as one segment of a path: of anything else nothing is left.
fn segment(id: &str) -> &str {
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) { id } else { "-" }
}

/// The holds that can be lifted here: approving is another thing.
fn releases(one: &One) -> Vec<&str> {
    let holds = one.holds.iter().map(|hold| &*hold.hold);
    holds.filter(|hold| *hold != HoldKind::Approval.name()).collect()
}

/// What a deletion may wait for: the word, and for people.
const WAITS: [(&str, &str); 5] = [
    ("parked", "a person, as it is parked"),
    ("approval", "a second person"),
    ("legal", "a legal hold"),
    ("breaker", "the breaker"),
    ("dispute", "a dispute"),
];

/// What is looked for.
struct Sought<'a> {
    state: &'a str,
    plan: &'a str,
    issuer: &'a str,
    subject: &'a str,
    waits: &'a str,
}

impl Sought<'_> {
    /// The query of the API.
    fn query(&self, after: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &PAGE.to_string());
        // The person is meant where one is named: an issuer alone, as the form always sends, says nothing.
        let issuer = if self.subject.is_empty() { "" } else { self.issuer };
        let hold = if self.waits == "parked" { "" } else { self.waits };
        let parked = if self.waits == "parked" { "true" } else { "" };
        for (name, value) in [
            ("state", self.state),
            ("plan", self.plan),
            ("issuer", issuer),
            ("subject", self.subject),
            ("hold", hold),
            ("parked", parked),
            ("after", after),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }

    /// The address of the page that begins there.
    fn link(&self, base: &str, after: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [
            ("state", self.state),
            ("plan", self.plan),
            ("issuer", self.issuer),
            ("subject", self.subject),
            ("waits", self.waits),
            ("after", after),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        format!("{base}/deletions?{}", query.finish())
    }
}

#[derive(Default, Deserialize)]
struct Listed {
    erasures: Vec<Line>,
    #[serde(default)]
    unreadable: Vec<String>,
    next: Option<String>,
}

#[derive(Default, Deserialize)]
struct Breaker {
    tripped_at: Option<String>,
    held: u64,
}

/// A deletion in the list.
#[derive(Deserialize)]
struct Line {
    id: String,
    plan: String,
    state: String,
    holds: Vec<String>,
    parked: bool,
    issuer: Option<String>,
    issuer_url: String,
    subject: Option<String>,
    requested_at: Moment,
    held_until: Option<Moment>,
    ended_at: Option<Moment>,
}

impl Line {
    fn issuer(&self) -> &str {
        self.issuer.as_deref().unwrap_or(&self.issuer_url)
    }
}

/// A moment, as the API writes it.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Moment(At);

impl From<String> for Moment {
    fn from(text: String) -> Self {
        Self(At::read(&text))
    }
}

/// Who did something.
#[derive(Deserialize)]
struct By {
    party: String,
    name: Option<String>,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name}", self.party),
            None => f.write_str(&self.party),
        }
    }
}

/// All of a deletion.
#[derive(Deserialize)]
struct One {
    id: String,
    plan: String,
    state: String,
    parked: bool,
    issuer: Option<String>,
    issuer_url: String,
    subject: Option<String>,
    operation: String,
    scope: Scope,
    requested_by: By,
    requested_at: Moment,
    can_be_cancelled: bool,
    held_until: Option<Moment>,
    begun_at: Option<Moment>,
    erased_by: Option<Moment>,
    ended_at: Option<Moment>,
    holds: Vec<HoldSaid>,
    steps: Vec<StepSaid>,
    probes: Vec<ProbeSaid>,
    events: Vec<EventSaid>,
}

impl One {
    fn issuer(&self) -> &str {
        self.issuer.as_deref().unwrap_or(&self.issuer_url)
    }

    fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "erased" | "cancelled")
    }

    fn has(&self, kind: &str) -> bool {
        self.holds.iter().any(|hold| hold.hold == kind)
    }

    fn can_be_held(&self) -> bool {
        !self.is_over() && !self.has(HoldKind::Legal.name())
    }

    fn wants_approval(&self) -> bool {
        !self.is_over() && self.has(HoldKind::Approval.name())
    }
}

#[derive(Deserialize)]
struct HoldSaid {
    hold: String,
    at: Moment,
    by: By,
    reason: String,
}

#[derive(Deserialize)]
struct StepSaid {
    name: String,
    upstream: Option<String>,
    method: Option<String>,
    target: Option<String>,
    state: String,
    status: Option<u16>,
    attempts: u32,
    at: Option<Moment>,
    why: Option<String>,
}

impl StepSaid {
    fn is_parked(&self) -> bool {
        self.state == "parked"
    }

    fn call(&self) -> Option<String> {
        Some(format!("{}: {} {}", self.upstream.as_ref()?, self.method.as_ref()?, self.target.as_ref()?))
    }
}

#[derive(Deserialize)]
struct ProbeSaid {
    name: String,
    upstream: String,
    method: String,
    target: String,
    before: Option<SeenSaid>,
    counts: bool,
    looks: Vec<LookSaid>,
    parked: bool,
    why: Option<String>,
}

#[derive(Deserialize)]
struct LookSaid {
    due: Moment,
    seen: Option<SeenSaid>,
}

#[derive(Deserialize)]
struct SeenSaid {
    status: u16,
    at: Moment,
    there: bool,
}

impl SeenSaid {
    fn words(&self) -> &'static str {
        if self.there { "there" } else { "gone" }
    }
}

#[derive(Deserialize)]
struct EventSaid {
    at: Moment,
    event: String,
    detail: Option<String>,
    by: By,
    seq: Option<u64>,
}

#[derive(Template)]
#[template(path = "operator-deletions.html")]
struct ListPage<'a> {
    frame: AdminFrame<'a>,
    sought: Sought<'a>,
    issuers: &'a [String],
    states: &'a [&'static str],
    waits: &'a [(&'static str, &'static str)],
    items: Vec<Line>,
    unreadable: Vec<String>,
    next: Option<String>,
    is_first: bool,
    tripped: Option<At>,
    held: u64,
}

#[derive(Template)]
#[template(path = "operator-deletion.html")]
struct OnePage<'a> {
    frame: AdminFrame<'a>,
    one: &'a One,
    releases: Vec<&'a str>,
}

/// A name of the API's, for people.
fn words(name: &str) -> String {
    name.replace('_', " ")
}
