//! Whoever has signed in to an account looks after it: the password, and where else it is signed in.

use http::StatusCode;

use super::{
    Pages, Visit,
    frame::{self, Frame},
    outside::{NO_ACCOUNTS, NOT_SIGNED_IN, said},
    session::Mark,
    views::{Ask, AskField, SessionRow, Sessions},
};
use crate::{
    authority::Fault,
    endpoint::{self, Answer, At, Fields},
    policy::Reason,
};

impl Pages<'_> {
    /// Another password: by the one that is, and by a factor where there is one.
    pub(super) async fn password(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let Some(mark) = visit.open.session.account.clone() else { return Ok(self.see("/sign-in")) };
        let accounts = self.authority.accounts().ok_or(NO_ACCOUNTS)?;
        let now = visit.call.now;
        let person = self.authority.person(&visit.open.session.caller, now).await?;
        let has_factors = person.is_some_and(|person| !person.factors.is_empty());
        if has_factors && visit.open.fresh_proof(now).is_none() {
            return Ok(self.see("/prove?then=/password"));
        }
        if !visit.is_sent() {
            return Ok(self.password_page(&visit, &mark, None));
        }
        let words = (visit.fields.whole("current"), visit.fields.whole("new"));
        let epoch = match accounts.new_password(&mark.id, words, visit.way(), now).await {
            Ok(epoch) => epoch,
            Err(Fault::SignIn) => return Ok(self.password_page(&visit, &mark, Some(NOT_SIGNED_IN))),
            Err(Fault::Call(why)) => return Ok(self.password_page(&visit, &mark, Some(&said(why)))),
            Err(fault) => return Err(fault),
        };
        // Every other session has ended by it, this one's number with them.
        let mut open = visit.open;
        open.session.account = Some(Mark { epoch, ..mark });
        let open = self.renumber(open, now).await?;
        let mut answer = self.see("/sessions?done=password");
        frame::set_cookie(&mut answer, &open.cookie(now));
        Ok(answer)
    }

    fn password_page(&self, visit: &Visit<'_>, mark: &Mark, problem: Option<&str>) -> Answer {
        let hint = self.length_hint();
        let field = |name, label, hint, autocomplete| AskField {
            name,
            label,
            hint,
            kind: "password",
            autocomplete,
            value: "",
            required: true,
            fixed: false,
        };
        let page = Ask {
            frame: Frame { problem, ..self.frame(Some(&visit.open), "password") },
            title: "Change your password",
            lead: "You are signed out everywhere else by it.",
            asked: None,
            action: "/password",
            kept: Vec::new(),
            fields: vec![
                // For whatever keeps passwords, so that it knows whose it is; what is sent is not read.
                AskField {
                    kind: "text",
                    value: &mark.name,
                    required: false,
                    fixed: true,
                    ..field("name", "Account", "", "username")
                },
                field("current", "Current password", "", "current-password"),
                field("new", "New password", &hint, "new-password"),
            ],
            focus: "current",
            button: "Change it",
            links: Vec::new(),
        };
        let (status, reason) =
            problem.map_or((StatusCode::OK, Reason::Allowed), |_| (StatusCode::FORBIDDEN, Reason::SignInRefused));
        self.html(&page, Some(&visit.open), status, reason)
    }

    /// What a new password must be.
    pub(super) fn length_hint(&self) -> String {
        let chars = self.authority.accounts().map_or(0, |accounts| accounts.password_chars());
        format!("At least {chars} characters. A few words in a row are good; it need not have digits or signs.")
    }

    /// Where the account is signed in.
    pub(super) async fn sessions(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let Some(mark) = &visit.open.session.account else { return Ok(self.see("/sign-in")) };
        let accounts = self.authority.accounts().ok_or(NO_ACCOUNTS)?;
        let sessions = accounts.sessions_of(&mark.id, mark.epoch, visit.call.now).await?;
        let rows = sessions.iter().map(|session| SessionRow {
            sid: &session.sid,
            client: &session.client,
            created: At::secs(session.created_at),
            renewed: At::secs(session.renewed_at),
            until: At::secs(session.expires_at),
        });
        let good = match Fields::read(visit.call.query.unwrap_or_default().as_bytes()).text("done") {
            _ if endpoint::is_from_elsewhere(visit.call.headers) => None,
            "password" => Some("Your password was changed, and every session was ended."),
            "ended" => Some("It was ended."),
            _ => None,
        };
        let frame = Frame { good, ..self.frame(Some(&visit.open), "sessions") };
        let page = Sessions { frame, sessions: rows.collect() };
        Ok(self.html(&page, Some(&visit.open), StatusCode::OK, Reason::Allowed))
    }

    /// Ends one of them, or all.
    pub(super) async fn end_sessions(&self, visit: Visit<'_>) -> Result<Answer, Fault> {
        let Some(mark) = &visit.open.session.account else { return Ok(self.see("/sign-in")) };
        let accounts = self.authority.accounts().ok_or(NO_ACCOUNTS)?;
        let sid = Some(visit.fields.text("session")).filter(|sid| *sid != "all");
        accounts.end_sessions_of(&mark.id, sid, visit.call.now).await?;
        Ok(self.see("/sessions?done=ended"))
    }
}
