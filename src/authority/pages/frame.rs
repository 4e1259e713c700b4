//! What stands around every page, and what goes wrong.

use askama::Template;
use http::{HeaderValue, StatusCode, header};

use super::{Pages, assets::SCRIPT, session::Open, views::Explain};
use crate::{
    authority::Fault,
    endpoint::{self, Answer, Asset, Look, STYLE},
    policy::Reason,
};

/// What every page shows around its content.
#[derive(Debug, Clone)]
pub(super) struct Frame<'a> {
    /// The path below which all pages are.
    pub(super) base: &'a str,
    /// What the service is called.
    pub(super) service: &'a str,
    /// Whom the pages are open for.
    pub(super) who: Option<&'a str>,
    /// Whether whoever it is has signed in here, to an account.
    pub(super) account: bool,
    /// What each form has in it.
    pub(super) token: String,
    /// Which place of the navigation this is.
    pub(super) here: &'static str,
    /// What went wrong just before.
    pub(super) problem: Option<&'a str>,
    /// What went well just before.
    pub(super) good: Option<&'static str>,
    /// The style.
    pub(super) style: &'static Asset,
    /// The script.
    pub(super) script: &'static Asset,
}

/// The one text for a proof that was not accepted, whatever was wrong with it.
pub(super) const NOT_ACCEPTED: &str = "That was not accepted. A code works once, and for a short time: take the newest one. \
     After several wrong ones it is best to wait a little.";

impl Pages<'_> {
    /// The frame of a page.
    pub(super) fn frame<'s>(&'s self, open: Option<&'s Open>, here: &'static str) -> Frame<'s> {
        let config = self.config();
        let host = config.url.host_str().unwrap_or_default();
        Frame {
            base: &config.path,
            service: config.passkey.as_ref().map_or(host, |passkey| &passkey.rp_name),
            who: open.map(|open| match &open.session.account {
                Some(mark) => mark.name.as_str(),
                None => open.session.caller.subject.as_str(),
            }),
            account: open.is_some_and(|open| open.session.account.is_some()),
            token: open.map(Open::token).unwrap_or_default(),
            here,
            problem: None,
            good: None,
            style: &STYLE,
            script: &SCRIPT,
        }
    }

    /// A page.
    pub(super) fn html(&self, page: &impl Template, open: Option<&Open>, status: StatusCode, reason: Reason) -> Answer {
        self.html_back(page, open.and_then(|open| open.session.return_to.as_deref()), status, reason)
    }

    /// A page from which a form may lead to an app in the end.
    pub(super) fn html_back(
        &self,
        page: &impl Template,
        back: Option<&str>,
        status: StatusCode,
        reason: Reason,
    ) -> Answer {
        Answer { response: endpoint::page(page, status, Look::Scripted { back }), reason, refusal: None }
    }

    /// Sends the browser to another page of ours.
    pub(super) fn see(&self, place: &str) -> Answer {
        self.see_url(&format!("{}{place}", self.config().path), "same-origin")
    }

    /// Sends the browser away.
    pub(super) fn see_url(&self, url: &str, referrer: &'static str) -> Answer {
        Answer::served(endpoint::see(url, referrer))
    }

    /// A page for somebody without a session.
    pub(super) fn closed(&self) -> Answer {
        if self.authority.accounts().is_some() {
            let page = Explain {
                frame: self.frame(None, ""),
                title: "You are not signed in",
                lead: "These pages were open for a quarter of an hour, or until your password was changed, or were never.",
                steps: &[
                    "Sign in to look after your account.",
                    "Or go back to the app that sent you here, and try again.",
                ],
                go: Some(("Sign in", format!("{}/sign-in", self.config().path))),
                request_id: "",
            };
            return self.html(&page, None, StatusCode::FORBIDDEN, Reason::TokenMissing);
        }
        let page = Explain {
            frame: self.frame(None, ""),
            title: "Open this from your app",
            lead: "These pages open from the app or service that needs a second factor of you. There is nothing to sign in \
                   to here, and a link to them works once, for a minute.",
            steps: &[
                "Go back to the app that sent you here, and try again what you wanted to do.",
                "It opens a fresh page, where you can show or manage your second factor.",
                "If you did not want to do anything, you can close this page. Nothing has happened.",
            ],
            go: None,
            request_id: "",
        };
        self.html(&page, None, StatusCode::FORBIDDEN, Reason::TokenMissing)
    }

    /// A page that says that something did not work, and what to do.
    pub(super) fn fault_page(&self, fault: &Fault, open: Option<&Open>, request_id: &str) -> Answer {
        let (status, title, lead, steps): (_, _, _, &[&str]) = match fault {
            Fault::SignIn => (
                StatusCode::FORBIDDEN,
                "Not accepted",
                "It was begun too long ago, used already, or ended by something else. Nothing was changed.",
                &["Begin again."],
            ),
            Fault::Proof | Fault::Grant | Fault::Spent => {
                (StatusCode::FORBIDDEN, "Not accepted", NOT_ACCEPTED, &["Go back, and try again or take another way."])
            }
            Fault::Enrolment => (
                StatusCode::FORBIDDEN,
                "It could not be changed",
                "Factors are added with an invitation, or with a factor that you have, shown a moment ago.",
                &[
                    "Try again: you are asked for one of your factors first.",
                    "If you have none, ask whoever runs this service for an invitation.",
                ],
            ),
            Fault::Call(_) | Fault::Method(_) | Fault::NotFound | Fault::Anonymous => (
                StatusCode::BAD_REQUEST,
                "That did not come from this page",
                "The form was not one of ours, was sent twice, or is too old. Nothing was changed.",
                &["Go back to the start, and do it again from there."],
            ),
            Fault::Sending(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many codes",
                "Several codes were sent to you already, and no more are for a while.",
                &["Look for the newest one, or wait ten minutes.", "Or take another factor."],
            ),
            Fault::Cleartext => (
                StatusCode::FORBIDDEN,
                "This connection is not safe",
                "These pages are for encrypted connections alone.",
                &["Open the page by its https:// address."],
            ),
            Fault::Store(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not now",
                "This service cannot look that up at the moment. Nothing was changed.",
                &["Try again in a minute."],
            ),
        };
        let go = open.map(|_| ("Back to the start", format!("{}/", self.config().path)));
        let page = Explain { frame: self.frame(open, ""), title, lead, steps, go, request_id };
        let mut answer = self.html(&page, open, status, fault.reason());
        if let Some(secs) = fault.retry_after() {
            answer.response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        answer
    }
}

/// Adds a cookie to an answer.
pub(super) fn set_cookie(answer: &mut Answer, cookie: &str) {
    endpoint::set_cookie(&mut answer.response, cookie);
}
