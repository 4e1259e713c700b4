//! Pages for people: a second factor is shown, enrolled, looked after. Rendered here, readable without a script; the one script
//! there is asks the browser for passkeys.
//!
//! ```text
//! call ── place ── method ── confidential? ── session? ── (a form: ours?) ── handler ── page or redirection
//! ```
//!
//! A handler does what the JSON API does, by the same functions of [`Authority`]; it holds no rule of its own on who may do what.

mod account;
mod assets;
mod enrol;
mod frame;
mod guard;
mod links;
mod manage;
mod outside;
mod place;
mod prove;
mod push;
mod session;
#[cfg(test)]
mod tests;
mod views;

use http::{Method, StatusCode};

pub use self::session::COOKIE;
use self::{frame::set_cookie, place::Place, session::Open};
pub(super) use self::{links::LinkWanted, session::Errand};
use super::{Authority, Fault, Way};
use crate::{
    config,
    endpoint::{self, Answer, Asset, Call, Fields},
    policy::Reason,
    store::Store,
};

/// The pages of an authority.
pub(super) struct Pages<'a> {
    authority: &'a Authority,
    store: &'a Store,
}

/// A call of a page by somebody with a session.
struct Visit<'v> {
    call: &'v Call<'v>,
    fields: &'v Fields<'v>,
    open: Open,
}

impl Visit<'_> {
    fn way(&self) -> Way<'_> {
        Way::of(self.call)
    }

    fn is_sent(&self) -> bool {
        self.call.method == Method::POST
    }
}

impl Authority {
    /// A file that pages ask for, which is there for anybody; `None`: it is none, or not looked at.
    pub fn asset(method: &Method, path: &str) -> Option<Answer> {
        let is_look = matches!(*method, Method::GET | Method::HEAD);
        assets::find(path).filter(|_| is_look).map(Asset::answer)
    }

    /// Answers a call of a page; `None`: the path is none of theirs.
    pub(super) async fn page(&self, call: &Call<'_>) -> Option<Answer> {
        if assets::find(call.path).is_some() {
            let refused = || Fault::Method(&[Method::GET, Method::HEAD]).answer();
            return Some(Self::asset(call.method, call.path).unwrap_or_else(refused));
        }
        let place = Place::of(call.path).filter(|place| !place.is_of_accounts() || self.accounts().is_some())?;
        if !place.methods().contains(call.method) {
            return Some(Fault::Method(place.methods()).answer());
        }
        let pages = Pages::of(self);
        let answer = pages.answer(place, call).await;
        Some(answer.unwrap_or_else(|fault| pages.fault_page(&fault, None, call.request_id)))
    }
}

impl<'a> Pages<'a> {
    /// The pages of an authority.
    pub(super) fn of(authority: &'a Authority) -> Self {
        Self { authority, store: authority.store() }
    }

    fn config(&self) -> &config::Authority {
        self.authority.config()
    }

    async fn answer(&self, place: Place<'_>, call: &Call<'_>) -> Result<Answer, Fault> {
        if !call.confidential {
            return Err(Fault::Cleartext);
        }
        if place == Place::Push {
            return self.push(call).await;
        }
        let before = self.session(call).await?;
        if place.is_outside() {
            return self.outside(place, call, before).await;
        }
        if place == Place::Open {
            return self.enter(call, before).await;
        }
        let Some(open) = before else {
            if place == Place::Home && *call.method != Method::POST && self.authority.accounts().is_some() {
                return Ok(self.see("/sign-in"));
            }
            let mut answer = self.closed();
            set_cookie(&mut answer, &session::no_cookie());
            return Ok(answer);
        };
        let fields = Fields::of_form(call.headers, call.body);
        if call.method == Method::POST && !guard::is_ours(call.headers, &self.config().url, &open, &fields) {
            return Ok(self.fault_page(&Fault::Call("The form is not one of ours."), Some(&open), call.request_id));
        }
        // The page that says what went wrong is shown within the session, but the handler may have ended it.
        match self.handle(place, Visit { call, fields: &fields, open }).await {
            Ok(answer) => Ok(answer),
            Err(fault) => {
                let open = self.session(call).await.ok().flatten();
                Ok(self.fault_page(&fault, open.as_ref(), call.request_id))
            }
        }
    }

    async fn handle(&self, place: Place<'_>, visit: Visit<'_>) -> Result<Answer, Fault> {
        match place {
            Place::Password => self.password(visit).await,
            Place::Sessions => self.sessions(visit).await,
            Place::EndSessions => self.end_sessions(visit).await,
            Place::Home
            | Place::Open
            | Place::Push
            | Place::SignIn
            | Place::Enter
            | Place::EnterAgain
            | Place::Register
            | Place::Registered
            | Place::Recover
            | Place::Recovered => self.factors(visit).await,
            Place::StepUp => self.ask(&visit, prove::STEP_UP, None, None).await,
            Place::Prove if visit.is_sent() => self.prove(visit).await,
            Place::Prove => {
                let query = Fields::read(visit.call.query.unwrap_or_default().as_bytes());
                self.ask(&visit, query.text("then"), None, None).await
            }
            Place::Send => self.send(visit).await,
            Place::Add if visit.is_sent() => self.add(visit).await,
            Place::Add => self.choices(visit).await,
            Place::AddAt(factor) => self.address(visit, factor).await,
            Place::Invitation => self.invitation(visit).await,
            Place::Confirm => self.confirm(visit).await,
            Place::Rename(id) => self.rename(visit, id).await,
            Place::Remove(id) => self.remove(visit, id).await,
            Place::RecoveryCodes => self.recovery_codes(visit).await,
            Place::Activity => self.activity(visit),
            Place::End => {
                self.authority.step_down(&visit.open.session.caller, visit.way(), visit.call.now).await?;
                Ok(self.see("/activity"))
            }
            Place::Leave => {
                self.leave(&visit.open, visit.call.now).await?;
                let mut answer = self.closed();
                *answer.response.status_mut() = StatusCode::OK;
                answer.reason = Reason::Allowed;
                set_cookie(&mut answer, &session::no_cookie());
                Ok(answer)
            }
        }
    }

    /// Lets a browser in that comes with a ticket.
    async fn enter(&self, call: &Call<'_>, before: Option<Open>) -> Result<Answer, Fault> {
        let query = Fields::read(call.query.unwrap_or_default().as_bytes());
        let ticket = query.text("ticket");
        if ticket.is_empty() || !endpoint::is_navigation(call.headers) {
            return Ok(self.closed());
        }
        let Some(open) = self.open(ticket, before, call.now).await? else { return Ok(self.closed()) };
        let place = match open.session.errand {
            Errand::StepUp { .. } | Errand::Grant { .. } => "/step-up",
            Errand::Enrol => "/add",
            Errand::Manage => "/",
        };
        let mut answer = self.see_url(&format!("{}{place}", self.config().path), "no-referrer");
        set_cookie(&mut answer, &open.cookie(call.now));
        Ok(answer)
    }
}
