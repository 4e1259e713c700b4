//! The page that a notice's link leads to: it shows a deletion, and has one button that stops it.
//!
//! The link is the right. No credential is asked for: the account may be blocked by the very deletion, or be in the hands of whoever
//! asked for it. Looking changes nothing, whatever looks: programs that read mail follow links. Only the form does something, and it
//! can do no more than stop.

#[cfg(test)]
mod tests;
mod views;

use http::{HeaderValue, Method, StatusCode, header};

use self::views::{LinkPage, Stop};
use super::{
    Erasures, Fault,
    life::NotNow,
    record::{HoldKind, Known, State},
};
use crate::{
    endpoint::{self, Answer, At, Call, Fields, Frame, Look, Refused, STYLE, Said},
    policy::Reason,
};

/// What a page can be asked for with.
const LOOKS: [Method; 2] = [Method::GET, Method::HEAD];
/// What the page of a link can be asked for with.
const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

impl Erasures {
    /// The style that the pages ask for, which is there for anybody; `None`: it is none, or not looked at.
    pub fn asset(method: &Method, path: &str) -> Option<Answer> {
        let is_looked_at = LOOKS.contains(method) && path == STYLE.path;
        is_looked_at.then(|| STYLE.answer())
    }

    /// Answers a call of a page; `None`: the path is none of theirs.
    pub async fn page(&self, call: &Call<'_>) -> Option<Answer> {
        if call.path == STYLE.path {
            return Some(Self::asset(call.method, call.path).unwrap_or_else(|| not_with(&LOOKS)));
        }
        let id = call.path.strip_prefix("/link/")?;
        if !METHODS.contains(call.method) {
            return Some(not_with(&METHODS));
        }
        Some(self.link_page(id, call).await)
    }

    async fn link_page(&self, id: &str, call: &Call<'_>) -> Answer {
        if !call.confidential {
            return self.said(&CLEARTEXT, Reason::CallRefused, call);
        }
        let query = Fields::read(call.query.unwrap_or_default().as_bytes());
        let token = query.text("token");
        let before = match self.by_link(id, token, call.now).await {
            Ok(known) => known,
            Err(fault) => return self.fault_page(&fault, &LATER, call),
        };
        if *call.method != Method::POST {
            return self.shown_page(&before, token, (None, None));
        }
        if !endpoint::is_of_own_page(call.headers, &self.config().url) {
            return self.said(&FOREIGN, Reason::CallRefused, call);
        }
        let said = match self.dispute(id, token, call.now).await {
            Ok(()) => (Some(STOPPED), None),
            // Pressed twice, or in two windows.
            Err(Fault::NotNow(NotNow::Already)) => (Some(STOPPED), None),
            Err(Fault::NotNow(NotNow::TooLate | NotNow::State)) => (None, Some(TOO_LATE)),
            Err(fault) => return self.fault_page(&fault, &UNSEEN, call),
        };
        match self.by_link(id, token, call.now).await {
            Ok(now) => self.shown_page(&now, token, said),
            Err(fault) => self.fault_page(&fault, &UNSEEN, call),
        }
    }

    fn shown_page(&self, known: &Known, token: &str, said: (Option<&str>, Option<&str>)) -> Answer {
        let (erasure, terms) = (&known.erasure, &*known.terms);
        let disputed = erasure.is_held_by(HoldKind::Dispute);
        let (title, lead, state) = words(known);
        let mut times = Vec::new();
        match erasure.state {
            State::Held { until } if terms.grace_secs.is_some_and(|grace| grace > 0) => {
                times.push(("Begins", At::secs(until)));
            }
            State::Held { .. } | State::CarryingOut | State::Verifying | State::Scrubbing => {}
            State::Erased | State::Cancelled => times.extend(erasure.ended_at.map(|at| ("Ended", At::secs(at)))),
        }
        times.extend(erasure.begun_at.map(|at| ("Began", At::secs(at))));
        let by = erasure.erased_by(terms).filter(|_| !disputed && !erasure.state.is_final());
        times.extend(by.map(|at| ("Done by", At::secs(at))));
        let stop = (!erasure.state.is_final() && !disputed).then(|| Stop {
            action: format!("{}/link/{}?token={token}", self.config().path, erasure.id),
            says: if erasure.is_untouched() { STOPS } else { STOPS_THE_REST },
        });
        let (good, problem) = said;
        let page = LinkPage {
            frame: Frame { good, problem, ..self.frame() },
            title,
            lead,
            state,
            asked: At::secs(erasure.requested_at),
            times,
            id: &erasure.id,
            stop,
            scope: &terms.scope,
        };
        Answer::served(endpoint::page(&page, StatusCode::OK, Look::Secret))
    }

    fn frame(&self) -> Frame<'_> {
        let config = self.config();
        Frame::new(&config.path, config.url.host_str().unwrap_or_default())
    }

    /// One page for a number that there is not, a token that is wrong, and a link that is too old; and another for whatever may be better
    /// in a moment.
    fn fault_page(&self, fault: &Fault, later: &What, call: &Call<'_>) -> Answer {
        match fault {
            Fault::NotFound => self.said(&NO_LINK, Reason::RouteNotFound, call),
            Fault::Store(_)
            | Fault::Untold
            | Fault::NotNow(_)
            | Fault::Frozen
            | Fault::AnotherOpen
            | Fault::Absent
            | Fault::Lookup => {
                let mut answer = self.said(later, Reason::ErasureUnavailable, call);
                answer.response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                answer
            }
        }
    }

    fn said(&self, what: &What, reason: Reason, call: &Call<'_>) -> Answer {
        let page = Said {
            frame: self.frame(),
            title: what.title,
            lead: what.lead,
            steps: what.steps,
            go: None,
            request_id: call.request_id,
        };
        let response = endpoint::page(&page, what.status, Look::Secret);
        Answer { response, reason, refusal: None }
    }
}

/// A page that says what is the matter.
struct What {
    status: StatusCode,
    title: &'static str,
    lead: &'static str,
    steps: &'static [&'static str],
}

const NO_LINK: What = What {
    status: StatusCode::NOT_FOUND,
    title: "This link leads nowhere",
    lead: "There is no deletion that it belongs to, or there is none any more.",
    steps: &[
        "Open the link again from the message, whole: some programs cut long lines.",
        "If somebody may be deleting your data, tell whoever runs the service at once.",
    ],
};
const CLEARTEXT: What = What {
    status: StatusCode::FORBIDDEN,
    title: "This connection is not safe",
    lead: "This page is for encrypted connections alone.",
    steps: &["Open the page by its https:// address."],
};
const FOREIGN: What = What {
    status: StatusCode::BAD_REQUEST,
    title: "That did not come from this page",
    lead: "The button was not the one of our page. Nothing was changed.",
    steps: &["Open the link from the message, and press the button there."],
};
const LATER: What = What {
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "Not now",
    lead: "This service cannot look that up at the moment. Nothing was changed.",
    steps: &["Try again in a minute.", "If it is urgent, tell whoever runs the service."],
};
/// The button was pressed, and what came of it is not known: the commit may have been made, and its answer lost.
const UNSEEN: What = What {
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "Look again",
    lead: "It could not be seen whether the deletion was stopped.",
    steps: &[
        "Open the link from the message again in a minute: the page says what is so. If it is not stopped, press the button again.",
        "If it is urgent, tell whoever runs the service.",
    ],
};

const STOPPED: &str =
    "It was stopped, and whoever runs the service was told. No further deletion can be asked for until they lift that.";
const TOO_LATE: &str = "It is too late to stop it: nothing of it is left to do.";
const STOPS: &str = "This button cancels the deletion: nothing is deleted. Nobody can ask for another one until whoever runs the service has \
     looked at it, and they are told now.";
const STOPS_THE_REST: &str = "It has begun, so what is deleted already cannot be brought back here. This button stops whatever is left of \
     it. Nobody can ask for another deletion until whoever runs the service has looked at it, and they are told now.";

/// Title, lead and state, for people.
fn words(known: &Known) -> (&'static str, &'static str, &'static str) {
    let erasure = &known.erasure;
    let has = |kind| erasure.is_held_by(kind);
    match erasure.state {
        State::Held { .. } => (
            "A deletion was asked for",
            "Nothing is deleted yet.",
            match () {
                () if has(HoldKind::Approval) => "Waits until a second person approves it",
                () if erasure.open_holds().next().is_some() => "Waits until somebody has looked at it",
                () => "Waits until its day",
            },
        ),
        State::CarryingOut if has(HoldKind::Dispute) => (
            "This deletion was stopped",
            "It had begun: what was deleted until then cannot be brought back here. Whoever runs the service looks at it.",
            "Stopped on the way",
        ),
        State::CarryingOut if erasure.is_untouched() => {
            ("This deletion has begun", "Nothing is deleted yet: it is looked what is there.", "Under way")
        }
        State::CarryingOut => ("This deletion has begun", "It is being carried out.", "Under way"),
        State::Verifying | State::Scrubbing if has(HoldKind::Dispute) => (
            "This deletion was carried out",
            "Its steps were done before it was stopped. Whoever runs the service looks at it.",
            "Stopped while it was verified",
        ),
        State::Verifying | State::Scrubbing => (
            "This deletion was carried out",
            "Its steps are done. It is looked, several times, whether all is gone.",
            "Being verified",
        ),
        State::Erased => (
            "This deletion is done",
            "The data is gone, and that was verified. If it was not you who asked for it, tell whoever runs the service, with the number \
             below.",
            "Erased",
        ),
        State::Cancelled => ("This deletion was cancelled", "Nothing was deleted.", "Cancelled"),
    }
}

/// There is the path, but not with this method.
fn not_with(allow: &'static [Method]) -> Answer {
    Answer::refused(Reason::MethodNotAllowed, Refused { detail: None, retry_after: None, allow })
}
