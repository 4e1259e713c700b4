//! A factor is shown: for the level or grant that the browser was let in for, or so that factors may be changed.

use http::StatusCode;

use super::{
    Errand, Pages, Visit,
    frame::{self, Frame},
    links::handed_back,
    place::Place,
    views::{Choice, Done, Prove},
};
use crate::{
    authority::{Answered, Begun, End, Fault, Finished, Purpose},
    config::ElevationRule,
    endpoint::{Answer, Fields},
    policy::{Factor, Reason},
};

/// Where a proof for the errand goes on: to the end of it.
pub(super) const STEP_UP: &str = "/step-up";

impl Pages<'_> {
    /// The page that asks for a factor. `sent`: one for which something is sent.
    pub(super) async fn ask(
        &self,
        visit: &Visit<'_>,
        then: &str,
        sent: Option<Factor>,
        problem: Option<&str>,
    ) -> Result<Answer, Fault> {
        let then = if Place::follows(then) { then } else { "/" };
        let Some(purpose) = purpose(&visit.open.session.errand, then) else { return Ok(self.see("/")) };
        let session = &visit.open.session;
        let is_manage = purpose == Purpose::Manage;
        let begun = self.authority.begin(&session.caller, purpose, sent, visit.way(), visit.call.now).await?;
        let fits = |factor: Factor| begun.factors.contains(&factor);
        if !begun.factors.iter().any(|factor| *factor != Factor::Recovery) && !fits(Factor::Recovery) {
            return Ok(self.without_factors(visit));
        }
        let mut frame = self.frame(Some(&visit.open), "");
        frame.problem = problem;
        let page = Prove {
            title: if is_manage { "Show one of your factors" } else { "Confirm that it is you" },
            lead: if is_manage {
                "Your second factors are about to change, so that has to be you."
            } else {
                "Something important is to be done in your name. It takes a second factor."
            },
            asked: if is_manage { Vec::new() } else { asked(&session.errand, session.client.as_deref()) },
            kept: vec![("then", then)],
            ..proving(frame, &begun, sent)
        };
        let (status, reason) =
            problem.map_or((StatusCode::OK, Reason::Allowed), |_| (StatusCode::FORBIDDEN, Reason::ProofRefused));
        Ok(self.html(&page, Some(&visit.open), status, reason))
    }

    /// The page for somebody who has nothing to show.
    fn without_factors(&self, visit: &Visit<'_>) -> Answer {
        let page = super::views::Explain {
            frame: self.frame(Some(&visit.open), ""),
            title: "You need a second factor",
            lead: "What you want to do takes a second factor that will do for it, and you have none yet.",
            steps: &[
                "Add one now: a passkey or an authenticator app takes a minute.",
                "Then go on with what you wanted to do.",
            ],
            go: Some(("Add a factor", format!("{}/add", self.config().path))),
            request_id: "",
        };
        self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed)
    }

    /// Has a code sent, or an approval asked for.
    pub(super) async fn send(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let factor = Factor::from_name(visit.fields.text("factor"));
        let factor = factor.filter(|factor| matches!(factor, Factor::Email | Factor::Webhook | Factor::Push));
        let factor = factor.ok_or(Fault::Call("There is no such factor."))?;
        self.ask(&visit, visit.fields.text("then"), Some(factor), None).await
    }

    /// Looks at what was shown.
    pub(super) async fn prove(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let then = visit.fields.text("then");
        let then = if Place::follows(then) { then } else { "/" };
        let Some(purpose) = purpose(&visit.open.session.errand, then) else { return Ok(self.see("/")) };
        let end = match &purpose {
            Purpose::StepUp { .. } if self.config().elevation == ElevationRule::ByPage => End::Elevate,
            Purpose::StepUp { .. } => End::Handover,
            Purpose::Grant { .. } => End::Keep,
            Purpose::Manage | Purpose::SignIn => End::Nothing,
        };
        let (caller, ceremony, now) = (&visit.open.session.caller, visit.fields.text("ceremony"), visit.call.now);
        let answered = answered(visit.fields);
        match self.authority.finish(caller, ceremony, answered, end, visit.way(), now).await {
            Ok(Finished::Proved { proof, handover, .. }) => {
                let kept = matches!(purpose, Purpose::Grant { .. }).then(|| ceremony.to_owned());
                let Visit { call, fields, mut open } = visit;
                open.session.proof = Some(proof);
                // What the browser may do has changed: the number it was known by before is worth nothing from here on.
                let open = self.renumber(open, now).await?;
                let cookie = open.cookie(now);
                let visit = Visit { call, fields, open };
                let mut answer = match purpose {
                    Purpose::Manage | Purpose::SignIn => self.see(then),
                    Purpose::StepUp { .. } | Purpose::Grant { .. } => {
                        self.done(&visit, handover.as_deref(), kept.as_deref())
                    }
                };
                frame::set_cookie(&mut answer, &cookie);
                Ok(answer)
            }
            Ok(Finished::Pending) => self.pending(&visit, then, ceremony),
            Err(Fault::Proof) => self.ask(&visit, then, None, Some(frame::NOT_ACCEPTED)).await,
            Err(fault) => Err(fault),
        }
    }

    /// The page that waits for the other device.
    fn pending(&self, visit: &Visit<'_>, then: &str, ceremony: &str) -> Result<Answer, Fault> {
        let page = Prove {
            kept: vec![("then", then)],
            ..waiting(self.frame(Some(&visit.open), ""), ceremony, visit.fields.text("number"))
        };
        Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed))
    }

    /// The end of an errand: back to the app, or a page with the code for it.
    fn done(&self, visit: &Visit<'_>, handover: Option<&str>, kept: Option<&str>) -> Answer {
        let session = &visit.open.session;
        let (name, value) = match (handover, kept) {
            (Some(code), _) => ("stepgate_code", code),
            (None, Some(challenge)) => ("stepgate_challenge", challenge),
            (None, None) => ("stepgate_result", "elevated"),
        };
        if let Some(to) = &session.return_to
            && let Some(url) = handed_back(to, session.state.as_deref(), name, value)
        {
            return self.see_url(&url, "no-referrer");
        }
        let page = Done {
            frame: self.frame(Some(&visit.open), ""),
            title: "Thank you",
            lead: if handover.or(kept).is_some() {
                "It was you. One thing is left to do."
            } else {
                "It was you. Go back to the app, and go on where you were."
            },
            code: handover.or(kept),
        };
        self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed)
    }
}

/// The page that asks for one of the factors that will do. `sent`: one for which something was sent.
pub(super) fn proving<'a>(frame: Frame<'a>, begun: &'a Begun, sent: Option<Factor>) -> Prove<'a> {
    let fits = |factor: Factor| begun.factors.contains(&factor);
    let is_sent = matches!(sent, Some(Factor::Email | Factor::Webhook));
    let others = [Factor::Email, Factor::Webhook, Factor::Push].into_iter();
    let others = others.filter(|factor| fits(*factor) && sent != Some(*factor)).map(|factor| Choice::of(factor, false));
    Prove {
        frame,
        title: "Confirm that it is you",
        lead: "",
        asked: Vec::new(),
        ceremony: &begun.id,
        action: "/prove",
        send: "/prove/send",
        kept: Vec::new(),
        passkey: begun.passkey.as_ref().filter(|_| sent.is_none()).map(ToString::to_string),
        code: is_sent || (sent.is_none() && fits(Factor::Totp)),
        code_label: if is_sent { "Code" } else { "Code from your authenticator app" },
        code_hint: hint(begun, is_sent),
        sent_to: begun.sent_to.as_deref(),
        number: begun.number.as_deref(),
        others: others.collect(),
        recovery: fits(Factor::Recovery) && sent.is_none(),
    }
}

/// The page that waits for the other device.
pub(super) fn waiting<'a>(frame: Frame<'a>, ceremony: &'a str, number: &'a str) -> Prove<'a> {
    let good = Some("Nothing was approved yet. Choose the number on your other device, then go on here.");
    Prove {
        frame: Frame { good, ..frame },
        title: "Waiting for your other device",
        lead: "It can take a moment until the request is there.",
        asked: Vec::new(),
        ceremony,
        action: "/prove",
        send: "/prove/send",
        kept: Vec::new(),
        passkey: None,
        code: false,
        code_label: "",
        code_hint: String::new(),
        sent_to: None,
        number: Some(number).filter(|number| is_number(number)),
        others: Vec::new(),
        recovery: false,
    }
}

/// What a proof is for. `None`: the browser was let in for something that takes none.
fn purpose(errand: &Errand, then: &str) -> Option<Purpose> {
    if then != STEP_UP {
        return Some(Purpose::Manage);
    }
    match errand {
        Errand::StepUp { level } => Some(Purpose::StepUp { level: level.clone() }),
        Errand::Grant { level } => Some(Purpose::Grant { level: level.clone() }),
        Errand::Enrol | Errand::Manage => None,
    }
}

/// What a form shows.
pub(super) fn answered<'v>(fields: &'v Fields<'_>) -> Answered<'v> {
    match fields.text("way") {
        "passkey" => Answered::Credential(fields.text("credential").as_bytes()),
        "approval" => Answered::Approval,
        _ => Answered::Code(fields.text("code")),
    }
}

/// Who asks and what for: so that somebody who was sent here by a stranger may notice.
fn asked<'e>(errand: &'e Errand, client: Option<&'e str>) -> Vec<(&'e str, String)> {
    let mut asked = Vec::new();
    if let Some(client) = client {
        asked.push(("Asked by", client.to_owned()));
    }
    if let Errand::StepUp { level } | Errand::Grant { level } = errand {
        asked.push(("For", level.clone()));
    }
    asked
}

fn hint(begun: &Begun, is_sent: bool) -> String {
    match &begun.sent_to {
        Some(to) => format!("We sent it to {to}. It may take a minute."),
        None if is_sent => "If we know where to send one, it is on its way.".to_owned(),
        None => "The app shows it; it changes every half minute.".to_owned(),
    }
}

/// A number of those that are shown for an approval, when a form brings it back.
pub(super) fn is_number(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}
