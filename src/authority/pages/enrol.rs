//! A factor is added: chosen, with a right to it, and confirmed by itself.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::StatusCode;

use super::{
    Errand, Pages, Visit,
    frame::{self, NOT_ACCEPTED},
    prove::{answered, is_number},
    views::{Add, Address, Choice, Codes, Confirm, InvitationAsked, called},
};
use crate::{
    authority::{EnrolmentBegun, Fault, Person, Right, Wanted},
    config::Enrolment,
    endpoint::Answer,
    policy::{Factor, Reason},
};

/// What somebody has to bring before they may add a factor.
enum Way<'v> {
    /// They have it.
    Right(Right<'v>),
    /// A factor that they have.
    Proof,
    /// An invitation.
    Invitation,
}

impl Pages<'_> {
    /// The right that a session has to add a factor. Whether it is one is not decided here: the authority looks at it.
    fn right<'v>(&self, visit: &'v Visit<'_>, person: Option<&Person>) -> Way<'v> {
        if let Some(proof) = visit.open.fresh_proof(visit.call.now) {
            return Way::Right(Right::Proof(proof));
        }
        if person.is_some_and(|person| !person.factors.is_empty()) {
            return Way::Proof;
        }
        match &visit.open.session.invitation {
            Some(invitation) => Way::Right(Right::Invitation(invitation)),
            None if self.config().enrolment == Enrolment::Open && person.is_none() => Way::Right(Right::Nothing),
            None => Way::Invitation,
        }
    }

    /// The page that asks which factor it shall be.
    pub(super) async fn choices(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let person = self.authority.person(&visit.open.session.caller, visit.call.now).await?;
        match self.right(&visit, person.as_ref()) {
            Way::Proof => return Ok(self.see("/prove?then=/add")),
            Way::Invitation => return Ok(self.see("/invitation")),
            Way::Right(_) => {}
        }
        let choices = self.offered().into_iter().map(|(factor, needs_address)| Choice::of(factor, needs_address));
        let page = Add { frame: self.frame(Some(&visit.open), "factors"), choices: choices.collect() };
        Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed))
    }

    /// The factors that are on, the best first, and whether each takes an address.
    fn offered(&self) -> Vec<(Factor, bool)> {
        let config = self.config();
        let sent =
            |factor, sent: &Option<crate::config::SentCode>| sent.as_ref().map(|sent| (factor, sent.claim.is_none()));
        let offered = [
            config.passkey.as_ref().map(|_| (Factor::Passkey, false)),
            config.totp.as_ref().map(|_| (Factor::Totp, false)),
            sent(Factor::Push, &config.push),
            sent(Factor::Webhook, &config.webhook),
            sent(Factor::Email, &config.email),
        ];
        offered.into_iter().flatten().collect()
    }

    /// The page that asks where codes are to be sent.
    pub(super) async fn address(&self, visit: Visit<'_>, factor: Factor) -> Result<Answer, Fault> {
        let is_offered = self.offered().contains(&(factor, true));
        if !is_offered {
            return Ok(self.see("/add"));
        }
        let (title, _) = called(factor);
        let is_mail = factor == Factor::Email;
        let page = Address {
            frame: self.frame(Some(&visit.open), "factors"),
            title,
            factor: factor.name(),
            label: if is_mail { "Mail address" } else { "Phone number or device" },
            hint: if is_mail {
                "Codes are sent there."
            } else {
                "Where messages are to be sent, with the country code."
            },
            input: if is_mail { "email" } else { "text" },
            autocomplete: if is_mail { "email" } else { "tel" },
        };
        Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed))
    }

    /// The page that asks for an invitation, and what is typed there.
    pub(super) async fn invitation(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        if !visit.is_sent() {
            return Ok(self.invitation_page(&visit, None));
        }
        let (code, now) = (visit.fields.text("code").to_owned(), visit.call.now);
        if code.is_empty() || code.len() > 128 {
            return Ok(self.invitation_page(&visit, Some(NOT_INVITED)));
        }
        let mut open = visit.open;
        open.session.invitation = Some(code);
        self.save(&mut open, now).await?;
        Ok(self.see("/add"))
    }

    fn invitation_page(&self, visit: &Visit<'_>, problem: Option<&str>) -> Answer {
        let page = InvitationAsked { frame: frame::Frame { problem, ..self.frame(Some(&visit.open), "factors") } };
        let (status, reason) =
            problem.map_or((StatusCode::OK, Reason::Allowed), |_| (StatusCode::FORBIDDEN, Reason::EnrolmentRefused));
        self.html(&page, Some(&visit.open), status, reason)
    }

    /// Begins to add a factor.
    pub(super) async fn add(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let now = visit.call.now;
        let factor = Factor::from_name(visit.fields.text("factor"));
        let offered = factor.and_then(|factor| self.offered().into_iter().find(|(known, _)| *known == factor));
        let Some((factor, needs_address)) = offered else { return Ok(self.see("/add")) };
        let address = Some(visit.fields.text("address").to_owned()).filter(|_| needs_address);
        let caller = &visit.open.session.caller;
        let person = self.authority.person(caller, now).await?;
        let right = match self.right(&visit, person.as_ref()) {
            Way::Right(right) => right,
            Way::Proof => return Ok(self.see("/prove?then=/add")),
            Way::Invitation => return Ok(self.see("/invitation")),
        };
        let wanted = Wanted { factor, label: label(factor, person.as_ref()), address };
        let is_invited = matches!(right, Right::Invitation(_));
        match self.authority.begin_enrolment(caller, wanted, right, visit.way(), now).await {
            Ok(begun) => Ok(self.confirm_page(&visit, factor, &begun)),
            Err(Fault::Enrolment | Fault::Proof) if is_invited => {
                let Visit { call, fields, mut open } = visit;
                open.session.invitation = None;
                self.save(&mut open, now).await?;
                Ok(self.invitation_page(&Visit { call, fields, open }, Some(NOT_INVITED)))
            }
            Err(fault) => Err(fault),
        }
    }

    fn confirm_page(&self, visit: &Visit<'_>, factor: Factor, begun: &EnrolmentBegun) -> Answer {
        let page = Confirm {
            frame: self.frame(Some(&visit.open), "factors"),
            title: title(factor),
            ceremony: &begun.id,
            factor: factor.name(),
            passkey: begun.passkey.as_ref().map(ToString::to_string),
            qr: begun.qr_svg.as_ref().map(|svg| BASE64_STANDARD.encode(svg)),
            secret: begun.secret.as_deref(),
            sent_to: begun.sent_to.as_deref(),
            number: begun.number.as_deref(),
            hint: match &begun.sent_to {
                Some(to) => format!("We sent it to {to}. It may take a minute."),
                None => "The app shows it, and a new one every half minute.".to_owned(),
            },
        };
        self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed)
    }

    /// Confirms a factor that is added.
    pub(super) async fn confirm(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let now = visit.call.now;
        let (caller, ceremony) = (&visit.open.session.caller, visit.fields.text("ceremony"));
        let enrolled =
            self.authority.finish_enrolment(caller, ceremony, answered(visit.fields), visit.way(), now).await;
        let enrolled = match enrolled {
            Ok(enrolled) => enrolled,
            Err(Fault::Proof) => return Ok(self.confirm_again(&visit, ceremony)),
            Err(fault) => return Err(fault),
        };
        let mut open = visit.open;
        open.session.invitation = None;
        // Whoever has a factor may do more than who had none: the session goes on under another number.
        let open = self.renumber(open, now).await?;
        let next = match open.session.errand {
            Errand::StepUp { .. } | Errand::Grant { .. } => "/step-up",
            Errand::Enrol | Errand::Manage => "/?done=added",
        };
        let mut answer = if enrolled.recovery_codes.is_empty() {
            self.see(next)
        } else {
            let frame = frame::Frame { good: Some("It was added."), ..self.frame(Some(&open), "factors") };
            let page = Codes { frame, codes: &enrolled.recovery_codes, next };
            self.html(&page, Some(&open), StatusCode::OK, Reason::Allowed)
        };
        frame::set_cookie(&mut answer, &open.cookie(now));
        Ok(answer)
    }

    /// The page that asks once more. The QR code is not shown again: the app has the key by now, and it is kept sealed.
    fn confirm_again(&self, visit: &Visit<'_>, ceremony: &str) -> Answer {
        let factor = Factor::from_name(visit.fields.text("factor")).unwrap_or(Factor::Totp);
        if factor == Factor::Passkey {
            return self.fault_page(&Fault::Proof, Some(&visit.open), visit.call.request_id);
        }
        let page = Confirm {
            frame: frame::Frame { problem: Some(NOT_ACCEPTED), ..self.frame(Some(&visit.open), "factors") },
            title: title(factor),
            ceremony,
            factor: factor.name(),
            passkey: None,
            qr: None,
            secret: None,
            sent_to: None,
            number: Some(visit.fields.text("number")).filter(|number| is_number(number)),
            hint: "Type the newest one.".to_owned(),
        };
        self.html(&page, Some(&visit.open), StatusCode::FORBIDDEN, Reason::ProofRefused)
    }
}

const NOT_INVITED: &str = "This invitation is not one for you, was used, or is too old. Ask for a new one.";

fn title(factor: Factor) -> &'static str {
    match factor {
        Factor::Passkey => "Make a passkey",
        Factor::Totp => "Set up your authenticator app",
        Factor::Email | Factor::Webhook => "Type the code that we sent",
        Factor::Push => "Approve it on your other device",
        Factor::Password | Factor::Recovery => "Confirm it",
    }
}

/// What a new factor is called until its owner says otherwise.
fn label(factor: Factor, person: Option<&Person>) -> String {
    let (name, _) = called(factor);
    let taken = |label: &str| person.is_some_and(|person| person.factors.iter().any(|factor| factor.label == label));
    let numbered = (2..=21).map(|number| format!("{name} {number}"));
    [name.to_owned()].into_iter().chain(numbered).find(|label| !taken(label)).unwrap_or_else(|| name.to_owned())
}
