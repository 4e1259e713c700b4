//! Pages of accounts for somebody who is not signed in: signing in, making an account, a forgotten password.
//!
//! Nothing of it is kept here until somebody is in. What a step knows of the one before (the app that asked, the number of a
//! registration, the ticket of a password that was right) goes along in the form, and is looked at anew each time; it is of use to
//! whoever has it and can do the next step alone. The cookie has a number that no session is behind yet: the forms' token is made of
//! it, so that another site can neither sign somebody in here nor out.

use http::{Method, StatusCode};

use super::{
    Pages,
    frame::{self, Frame, NOT_ACCEPTED},
    links,
    place::Place,
    prove::{answered, proving, waiting},
    session::{self, Errand, Mark, Open, SESSION_SECS, Session},
    views::{Ask, AskField, Explain, Prove},
};
use crate::{
    authority::{
        Fault, Way,
        accounts::{Accounts, Entrance, Entry, agent, is_challenge},
        random,
    },
    config::{self, Registration},
    endpoint::{self, Answer, Call, Fields},
    policy::{Factor, Reason},
};

/// There is no such page without accounts.
pub(super) const NO_ACCOUNTS: Fault = Fault::NotFound;
/// The one text for a name and password that let nobody in.
pub(super) const NOT_SIGNED_IN: &str = "The name or the password is not right, or too many wrong ones were tried. After several \
     it is best to wait a little.";
/// The one text for a code that was mailed.
const WRONG_CODE: &str =
    "That code is not right, or is too old, or too many wrong ones were tried. Take the newest mail, or begin again.";
/// The one text for an invitation.
const NOT_INVITED: &str = "This invitation is not one, was used, or is too old. Ask for a new one.";
/// How long the number of a form is kept by the browser.
const VISIT_SECS: u64 = 3600;
/// The longest `state` and `scope`.
const STATE_BYTES: usize = 512;

/// The app that wants somebody signed in, if one does.
struct Asking<'f> {
    return_to: &'f str,
    kept: Vec<(&'f str, &'f str)>,
}

impl<'f> Asking<'f> {
    /// Of a link's query, or of the form that carries it along: looked at each time.
    fn read(fields: &'f Fields<'_>, config: &config::Authority) -> Result<Self, Fault> {
        let names = ["return_to", "state", "scope", "code_challenge", "code_challenge_method"];
        let kept: Vec<_> = names.into_iter().map(|name| (name, fields.text(name))).collect();
        let return_to = fields.text("return_to");
        if return_to.is_empty() {
            return Ok(Self { return_to, kept: Vec::new() });
        }
        links::return_to(config, return_to)?;
        let is_bound = is_challenge(fields.text("code_challenge")) && fields.text("code_challenge_method") == "S256";
        let is_short = ["state", "scope"].into_iter().all(|name| fields.text(name).len() <= STATE_BYTES);
        if !is_bound || !is_short {
            return Err(Fault::Call("`code_challenge` and `code_challenge_method` are those of RFC 7636, by S256."));
        }
        Ok(Self { return_to, kept: kept.into_iter().filter(|(_, value)| !value.is_empty()).collect() })
    }

    fn app(&self) -> Option<String> {
        url::Url::parse(self.return_to).ok().map(|url| url.origin().ascii_serialization())
    }

    fn get(&self, name: &str) -> Option<&'f str> {
        self.kept.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// An address of ours that carries it along.
    fn link(&self, path: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(&self.kept).finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

/// Somebody who is not signed in, at one of these pages.
struct Outsider<'o> {
    accounts: &'o Accounts,
    call: &'o Call<'o>,
    fields: &'o Fields<'o>,
    asking: &'o Asking<'o>,
    /// What each form has in it.
    token: String,
}

impl<'o> Outsider<'o> {
    fn way(&self) -> Way<'o> {
        Way::of(self.call)
    }

    fn is_sent(&self) -> bool {
        self.call.method == Method::POST
    }
}

/// A page with fields.
struct Form<'f> {
    title: &'f str,
    lead: &'f str,
    action: &'f str,
    kept: &'f [(&'f str, &'f str)],
    fields: Vec<AskField<'f>>,
    button: &'f str,
    links: Vec<(&'f str, String)>,
}

fn field<'f>(name: &'f str, label: &'f str, autocomplete: &'f str) -> AskField<'f> {
    let kind = match name {
        "password" | "new" | "current" => "password",
        "email" => "email",
        _ => "text",
    };
    AskField { name, label, hint: "", kind, autocomplete, value: "", required: true, fixed: false }
}

impl Pages<'_> {
    /// Answers a call of one of these pages.
    pub(super) async fn outside(
        &self,
        place: Place<'_>,
        call: &Call<'_>,
        before: Option<Open>,
    ) -> Result<Answer, Fault> {
        let accounts = self.authority.accounts().ok_or(NO_ACCOUNTS)?;
        let known = session::number(call);
        let fields = match *call.method {
            Method::POST => Fields::of_form(call.headers, call.body),
            _ => Fields::read(call.query.unwrap_or_default().as_bytes()),
        };
        if call.method == Method::POST {
            let is_made = known.is_some_and(|id| endpoint::is_made(id, fields.text("token")));
            if !is_made || !endpoint::is_same_origin(call.headers, &self.config().url) {
                return Ok(self.fault_page(&Fault::Call("The form is not one of ours."), None, call.request_id));
            }
        }
        let fresh = if known.is_none() { Some(random::token()?) } else { None };
        let token = endpoint::form_token(known.or(fresh.as_deref()).unwrap_or_default());
        let Ok(asking) = Asking::read(&fields, self.config()) else { return Ok(self.bad_link(call)) };
        let outsider = Outsider { accounts, call, fields: &fields, asking: &asking, token };
        let mut answer = match place {
            Place::Enter => self.enter_by_factor(&outsider, before).await?,
            Place::EnterAgain => self.another_factor(&outsider).await?,
            Place::Register if outsider.is_sent() => self.register(&outsider).await?,
            Place::Register => self.register_page(&outsider, None),
            Place::Registered => self.registered(&outsider).await?,
            Place::Recover if outsider.is_sent() => self.recover(&outsider).await?,
            Place::Recover => self.recover_page(&outsider, None),
            Place::Recovered => self.recovered(&outsider).await?,
            // Wherever one wanted to go: it takes somebody who is signed in.
            Place::Home
            | Place::Open
            | Place::StepUp
            | Place::Prove
            | Place::Send
            | Place::Add
            | Place::AddAt(_)
            | Place::Invitation
            | Place::Confirm
            | Place::Rename(_)
            | Place::Remove(_)
            | Place::RecoveryCodes
            | Place::Activity
            | Place::End
            | Place::Leave
            | Place::Push
            | Place::SignIn
            | Place::Password
            | Place::Sessions
            | Place::EndSessions => match outsider.is_sent() {
                true => self.sign_in(&outsider, before).await?,
                false => self.sign_in_page(&outsider, None),
            },
        };
        if let Some(id) = fresh {
            frame::set_cookie(&mut answer, &session::cookie(&id, VISIT_SECS));
        }
        Ok(answer)
    }

    fn outside_frame<'s>(&'s self, outsider: &Outsider<'_>, problem: Option<&'s str>) -> Frame<'s> {
        Frame { problem, token: outsider.token.clone(), ..self.frame(None, "") }
    }

    fn form_page(&self, outsider: &Outsider<'_>, form: Form<'_>, problem: Option<&str>) -> Answer {
        let app = outsider.asking.app();
        let page = Ask {
            frame: Frame { problem, token: outsider.token.clone(), ..self.frame(None, "") },
            title: form.title,
            lead: form.lead,
            asked: app.as_deref(),
            action: form.action,
            kept: outsider.asking.kept.iter().chain(form.kept).copied().collect(),
            focus: form.fields.first().map(|field| field.name).unwrap_or_default(),
            fields: form.fields,
            button: form.button,
            links: form.links,
        };
        let (status, reason) =
            problem.map_or((StatusCode::OK, Reason::Allowed), |_| (StatusCode::FORBIDDEN, Reason::SignInRefused));
        self.html_back(&page, back(outsider), status, reason)
    }

    /// A page that says what has come of it.
    fn said_page(&self, outsider: &Outsider<'_>, title: &str, lead: &str) -> Answer {
        let go = Some(("Sign in", format!("{}{}", self.config().path, outsider.asking.link("/sign-in"))));
        let page =
            Explain { frame: self.frame(None, ""), title, lead, steps: &["Sign in to go on."], go, request_id: "" };
        self.html(&page, None, StatusCode::OK, Reason::Allowed)
    }

    fn bad_link(&self, call: &Call<'_>) -> Answer {
        let page = Explain {
            frame: self.frame(None, ""),
            title: "This link is not right",
            lead: "The app that sent you here asked for something that it may not have. Nothing has happened.",
            steps: &["Go back to the app. If it sends you here again, tell whoever makes it."],
            go: None,
            request_id: call.request_id,
        };
        self.html(&page, None, StatusCode::BAD_REQUEST, Reason::CallRefused)
    }

    fn sign_in_page(&self, outsider: &Outsider<'_>, problem: Option<&str>) -> Answer {
        let mut links = vec![("Forgot your password?", outsider.asking.link("/recover"))];
        if outsider.accounts.registration() != Registration::Closed {
            links.push(("Make an account", outsider.asking.link("/register")));
        }
        let name = if outsider.is_sent() { outsider.fields.text("name") } else { "" };
        let form = Form {
            title: "Sign in",
            lead: "With the name or the mail address of your account.",
            action: "/sign-in",
            kept: &[],
            fields: vec![
                AskField { value: name, ..field("name", "Name or mail address", "username") },
                field("password", "Password", "current-password"),
            ],
            button: "Sign in",
            links,
        };
        self.form_page(outsider, form, problem)
    }

    async fn sign_in(&self, outsider: &Outsider<'_>, before: Option<Open>) -> Result<Answer, Fault> {
        let (fields, call) = (outsider.fields, outsider.call);
        let claimed = (fields.text("name"), fields.whole("password"), outsider.asking.get("scope"));
        let entry = outsider.accounts.enter(self.authority, claimed, agent(call), outsider.way(), call.now).await;
        match entry {
            Ok(entry) => self.on(outsider, entry, before).await,
            Err(Fault::SignIn) => Ok(self.sign_in_page(outsider, Some(NOT_SIGNED_IN))),
            Err(Fault::Call(why)) => Ok(self.sign_in_page(outsider, Some(&said(why)))),
            Err(fault) => Err(fault),
        }
    }

    /// Where a step leads.
    async fn on(&self, outsider: &Outsider<'_>, entry: Entry, before: Option<Open>) -> Result<Answer, Fault> {
        match entry {
            Entry::In(entrance) => self.let_in(outsider, &entrance, before).await,
            Entry::Asked(asked) => {
                let page = proving(self.outside_frame(outsider, None), &asked.begun, None);
                Ok(self.factor_page(outsider, page, &asked.ticket))
            }
            Entry::Pending => {
                let frame = self.outside_frame(outsider, None);
                let page = waiting(frame, outsider.fields.text("ceremony"), outsider.fields.text("number"));
                Ok(self.factor_page(outsider, page, outsider.fields.text("ticket")))
            }
            Entry::Recovered => {
                let lead = "You have a new password, and are signed out everywhere.";
                Ok(self.said_page(outsider, "Your password was changed", lead))
            }
        }
    }

    /// Back to the app with a code for it, or into a session of these pages.
    async fn let_in(
        &self,
        outsider: &Outsider<'_>,
        entrance: &Entrance,
        before: Option<Open>,
    ) -> Result<Answer, Fault> {
        let (now, asking) = (outsider.call.now, outsider.asking);
        if let Some(challenge) = asking.get("code_challenge") {
            let code = outsider.accounts.entry_code(entrance, challenge, now).await?;
            let url = links::handed_back(asking.return_to, asking.get("state"), "stepgate_sign_in", &code);
            return Ok(self.see_url(&url.ok_or(NO_ACCOUNTS)?, "no-referrer"));
        }
        let account = &entrance.account;
        let session = Session {
            caller: outsider.accounts.page_caller(account)?,
            errand: Errand::Manage,
            return_to: None,
            state: None,
            client: None,
            invitation: None,
            proof: entrance.factor.clone(),
            account: Some(Mark { id: account.id.clone(), epoch: account.epoch, name: account.name.clone() }),
            until: now.unix_secs().saturating_add(SESSION_SECS),
        };
        let (open, batch) = self.begin(session, before)?;
        outsider.accounts.let_in(entrance, batch, now).await?;
        let mut answer = self.see("/");
        frame::set_cookie(&mut answer, &open.cookie(now));
        Ok(answer)
    }

    fn factor_page(&self, outsider: &Outsider<'_>, page: Prove<'_>, ticket: &str) -> Answer {
        let is_problem = page.frame.problem.is_some();
        let (status, reason) =
            if is_problem { (StatusCode::FORBIDDEN, Reason::ProofRefused) } else { (StatusCode::OK, Reason::Allowed) };
        let app = outsider.asking.app();
        let page = Prove {
            lead: "One of your second factors is needed as well.",
            asked: app.into_iter().map(|app| ("Asked by", app)).collect(),
            action: "/sign-in/factor",
            send: "/sign-in/send",
            kept: outsider.asking.kept.iter().copied().chain([("ticket", ticket)]).collect(),
            ..page
        };
        self.html_back(&page, back(outsider), status, reason)
    }

    async fn enter_by_factor(&self, outsider: &Outsider<'_>, before: Option<Open>) -> Result<Answer, Fault> {
        let (fields, now) = (outsider.fields, outsider.call.now);
        let (ticket, shown) = (fields.text("ticket"), (fields.text("ceremony"), answered(fields)));
        let entry = outsider.accounts.enter_by_factor(self.authority, ticket, shown, outsider.way(), now).await;
        match entry {
            Ok(entry) => self.on(outsider, entry, before).await,
            Err(Fault::Proof) => self.ask_factor(outsider, None, Some(NOT_ACCEPTED)).await,
            Err(fault) => Err(fault),
        }
    }

    async fn another_factor(&self, outsider: &Outsider<'_>) -> Result<Answer, Fault> {
        let factor = Factor::from_name(outsider.fields.text("factor"));
        let factor = factor.filter(|factor| matches!(factor, Factor::Email | Factor::Webhook | Factor::Push));
        let factor = factor.ok_or(Fault::Call("There is no such factor."))?;
        self.ask_factor(outsider, Some(factor), None).await
    }

    async fn ask_factor(
        &self,
        outsider: &Outsider<'_>,
        sent: Option<Factor>,
        problem: Option<&str>,
    ) -> Result<Answer, Fault> {
        let ticket = outsider.fields.text("ticket");
        let begun =
            outsider.accounts.ask_again(self.authority, ticket, sent, outsider.way(), outsider.call.now).await?;
        let frame = Frame { problem, token: outsider.token.clone(), ..self.frame(None, "") };
        Ok(self.factor_page(outsider, proving(frame, &begun, sent), ticket))
    }

    fn register_page(&self, outsider: &Outsider<'_>, problem: Option<&str>) -> Answer {
        let hint = self.length_hint();
        let registration = outsider.accounts.registration();
        if registration == Registration::Closed {
            let page = Explain {
                frame: self.frame(None, ""),
                title: "Accounts are not made here",
                lead: "Whoever runs this service makes them.",
                steps: &["Ask them for one."],
                go: Some(("Sign in", format!("{}/sign-in", self.config().path))),
                request_id: "",
            };
            return self.html(&page, None, StatusCode::FORBIDDEN, Reason::EnrolmentRefused);
        }
        let is_invited = registration == Registration::Invitation || outsider.fields.text("by") == "invitation";
        let typed = |name| if outsider.is_sent() { outsider.fields.text(name) } else { "" };
        let password = AskField { hint: &hint, ..field("password", "Password", "new-password") };
        let sign_in = ("You have an account? Sign in", outsider.asking.link("/sign-in"));
        let form = if is_invited {
            Form {
                title: "Make an account",
                lead: "It takes an invitation.",
                action: "/register",
                kept: &[("by", "invitation")],
                fields: vec![
                    AskField {
                        hint: "Whoever runs this service gave it to you. It works once.",
                        value: typed("invitation"),
                        ..field("invitation", "Invitation code", "off")
                    },
                    AskField {
                        hint: "Letters, digits and . _ - are good. Leave it empty to use the address that the invitation is for.",
                        value: typed("name"),
                        required: false,
                        ..field("name", "Name", "username")
                    },
                    password,
                ],
                button: "Make it",
                links: vec![sign_in],
            }
        } else {
            let link = outsider.asking.link("/register");
            let mark = if link.contains('?') { '&' } else { '?' };
            Form {
                title: "Make an account",
                lead: "We send a code to your mail address, to see that it is yours.",
                action: "/register",
                kept: &[],
                fields: vec![
                    AskField { value: typed("email"), ..field("email", "Mail address", "username") },
                    password,
                ],
                button: "Send the code",
                links: vec![sign_in, ("You have an invitation?", format!("{link}{mark}by=invitation"))],
            }
        };
        self.form_page(outsider, form, problem)
    }

    async fn register(&self, outsider: &Outsider<'_>) -> Result<Answer, Fault> {
        let (fields, now) = (outsider.fields, outsider.call.now);
        let password = fields.whole("password");
        if fields.text("by") == "invitation" {
            let name = Some(fields.text("name")).filter(|name| !name.is_empty());
            let (invitation, way) = (fields.text("invitation"), outsider.way());
            return match outsider.accounts.register_invited(invitation, (name, password), way, now).await {
                Ok(()) => Ok(self.said_page(outsider, "Welcome", "Your account is made.")),
                Err(Fault::Enrolment | Fault::SignIn) => Ok(self.register_page(outsider, Some(NOT_INVITED))),
                Err(Fault::Call(why)) => Ok(self.register_page(outsider, Some(&said(why)))),
                Err(fault) => Err(fault),
            };
        }
        match outsider.accounts.begin_registration((fields.text("email"), password), now).await {
            Ok(id) => Ok(self.registration_code_page(outsider, &id, None)),
            Err(Fault::Enrolment) => Ok(self.register_page(outsider, Some(NOT_INVITED))),
            Err(Fault::Call(why)) => Ok(self.register_page(outsider, Some(&said(why)))),
            Err(fault) => Err(fault),
        }
    }

    fn registration_code_page(&self, outsider: &Outsider<'_>, id: &str, problem: Option<&str>) -> Answer {
        let form = Form {
            title: "Look at your mail",
            lead: "There is a code in it, or a word on the account that you have. It may take a minute.",
            action: "/register/code",
            kept: &[("registration", id)],
            fields: vec![AskField {
                hint: "Ten letters and digits; it works for a quarter of an hour.",
                ..field("code", "Code from the mail", "one-time-code")
            }],
            button: "Make the account",
            links: vec![("Begin again", outsider.asking.link("/register"))],
        };
        self.form_page(outsider, form, problem)
    }

    async fn registered(&self, outsider: &Outsider<'_>) -> Result<Answer, Fault> {
        let (fields, now) = (outsider.fields, outsider.call.now);
        let id = fields.text("registration");
        match outsider.accounts.finish_registration((id, fields.text("code")), outsider.way(), now).await {
            Ok(()) => Ok(self.said_page(outsider, "Welcome", "Your account is made.")),
            Err(Fault::SignIn) => Ok(self.registration_code_page(outsider, id, Some(WRONG_CODE))),
            Err(fault) => Err(fault),
        }
    }

    fn recover_page(&self, outsider: &Outsider<'_>, problem: Option<&str>) -> Answer {
        let form = Form {
            title: "A new password",
            lead: "We send a code to the mail address of your account.",
            action: "/recover",
            kept: &[],
            fields: vec![field("email", "Mail address", "username")],
            button: "Send the code",
            links: vec![("Back to signing in", outsider.asking.link("/sign-in"))],
        };
        self.form_page(outsider, form, problem)
    }

    async fn recover(&self, outsider: &Outsider<'_>) -> Result<Answer, Fault> {
        match outsider.accounts.begin_recovery(outsider.fields.text("email"), outsider.call.now).await {
            Ok(id) => Ok(self.recovery_code_page(outsider, &id, None)),
            Err(Fault::Call(why)) => Ok(self.recover_page(outsider, Some(&said(why)))),
            Err(fault) => Err(fault),
        }
    }

    fn recovery_code_page(&self, outsider: &Outsider<'_>, id: &str, problem: Option<&str>) -> Answer {
        let hint = self.length_hint();
        let form = Form {
            title: "Look at your mail",
            lead: "If there is an account for the address, a code was sent to it. It may take a minute.",
            action: "/recover/code",
            kept: &[("recovery", id)],
            fields: vec![
                AskField {
                    hint: "Ten letters and digits; it works for a quarter of an hour.",
                    ..field("code", "Code from the mail", "one-time-code")
                },
                AskField { hint: &hint, ..field("password", "New password", "new-password") },
            ],
            button: "Change the password",
            links: vec![("Begin again", outsider.asking.link("/recover"))],
        };
        self.form_page(outsider, form, problem)
    }

    async fn recovered(&self, outsider: &Outsider<'_>) -> Result<Answer, Fault> {
        let (fields, now) = (outsider.fields, outsider.call.now);
        let id = fields.text("recovery");
        let by = (id, fields.text("code"), fields.whole("password"));
        match outsider.accounts.finish_recovery(self.authority, by, outsider.way(), now).await {
            Ok(entry) => self.on(outsider, entry, None).await,
            Err(Fault::SignIn) => Ok(self.recovery_code_page(outsider, id, Some(WRONG_CODE))),
            Err(Fault::Call(why)) => Ok(self.recovery_code_page(outsider, id, Some(&said(why)))),
            Err(fault) => Err(fault),
        }
    }
}

/// Where the form may lead in the end: its origin belongs in the page's content security policy.
fn back<'o>(outsider: &Outsider<'o>) -> Option<&'o str> {
    Some(outsider.asking.return_to).filter(|to| !to.is_empty())
}

/// What the API says of a field, as a sentence for people.
pub(super) fn said(why: &str) -> String {
    let why = why.replace('`', "");
    let mut letters = why.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}
