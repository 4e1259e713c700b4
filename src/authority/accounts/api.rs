//! The JSON API of accounts, the token endpoint and the keys: one table, from which calls are dispatched and described.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use url::form_urlencoded;

use super::{
    Accounts,
    register::Wanted,
    second::SecondStep,
    sign_in::{Claimed, Step},
};
use crate::{
    authority::{Answer, Answered, Authority, Call, Fault, Way},
    policy::{Factor, Reason},
};

/// The JSON API, below `authority.path`.
pub(super) const PREFIX: &str = "/api/v1/accounts";

macro_rules! operations {
    ($($(#[doc = $doc:literal])+ $variant:ident: $method:ident $path:literal, $token:literal;)+) => {
        /// An operation. Each has one row in the table and one arm where it is run: the compiler sees to both.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[doc = $doc])+ $variant),+ }

        /// Every operation, below `/api/v1/accounts`.
        pub const TABLE: &[Operation] = &[$(Operation {
            kind: Kind::$variant, method: Method::$method, path: $path, token: $token, summary: concat!($($doc),+),
        }),+];
    };
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Which one.
    pub kind: Kind,
    /// The method.
    pub method: Method,
    /// The path; `{id}` stands for one segment.
    pub path: &'static str,
    /// Whether it needs an access token of an account.
    pub token: bool,
    /// A line for the description.
    pub summary: &'static str,
}

operations! {
    /// Registers by mail, or by an invitation.
    Register: POST "/registrations", false;
    /// Confirms a registration by the code that was mailed.
    Confirm: POST "/registrations/confirm", false;
    /// Signs in by name and password.
    SignIn: POST "/sign-in", false;
    /// Begins another challenge for a sign-in that waits for a second factor.
    Again: POST "/sign-in/challenges", false;
    /// Shows the second factor that a sign-in, a renewal or a recovery waits for.
    Verify: POST "/sign-in/verify", false;
    /// Redeems the code that a sign-in at the page ended in, by the verifier of its challenge (RFC 7636).
    Redeem: POST "/sign-in/redeem", false;
    /// Mails a code for a new password.
    Recover: POST "/recovery", false;
    /// Sets a new password by the code that was mailed.
    Recovered: POST "/recovery/confirm", false;
    /// The account.
    Account: GET "/me", true;
    /// The account's sessions.
    Sessions: GET "/sessions", true;
    /// Ends all of the account's sessions but this one.
    EndOthers: DELETE "/sessions", true;
    /// Ends one of the account's sessions.
    EndOne: DELETE "/sessions/{id}", true;
    /// Signs out: ends the session of the token.
    SignOut: DELETE "/session", true;
    /// Changes the password.
    Password: POST "/password", true;
    /// Mails a code to another address.
    NewMail: POST "/email", true;
    /// Puts the other address in place by the code that was mailed there.
    MailConfirmed: POST "/email/confirm", true;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    email: Option<Text<'a>>,
    password: Text<'a>,
    invitation: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation<'a> {
    #[serde(borrow)]
    registration: Text<'a>,
    code: Text<'a>,
    name: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    password: Text<'a>,
    scope: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Again<'a> {
    #[serde(borrow)]
    ticket: Text<'a>,
    factor: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verification<'a> {
    #[serde(borrow)]
    ticket: Text<'a>,
    id: Text<'a>,
    code: Option<Text<'a>>,
    #[serde(borrow)]
    credential: Option<&'a RawValue>,
    refresh_token: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redemption<'a> {
    #[serde(borrow)]
    code: Text<'a>,
    code_verifier: Text<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forgotten<'a> {
    #[serde(borrow)]
    email: Text<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recovery<'a> {
    #[serde(borrow)]
    recovery: Text<'a>,
    code: Text<'a>,
    password: Text<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordChange<'a> {
    #[serde(borrow)]
    current: Text<'a>,
    new: Text<'a>,
    proof: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MailChange<'a> {
    #[serde(borrow)]
    email: Text<'a>,
    password: Text<'a>,
    proof: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MailConfirmation<'a> {
    #[serde(borrow)]
    change: Text<'a>,
    code: Text<'a>,
}

/// A text, borrowed from the body where it has no escapes.
type Text<'a> = std::borrow::Cow<'a, str>;

impl Authority {
    /// Answers a call of the accounts' API, where there are accounts and the path is theirs.
    pub(in crate::authority) async fn accounts_api(&self, call: &Call<'_>) -> Option<Answer> {
        let accounts = self.accounts()?;
        if *call.method == Method::OPTIONS {
            let methods = methods(call.path.strip_prefix(PREFIX)?)?;
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            self.preflight(call, methods, response.headers_mut());
            self.allow_origin(call, response.headers_mut());
            return Some(Answer::served(response));
        }
        let mut answer = accounts.answer(self, call).await?;
        // What is for everybody says so already.
        if !answer.response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            self.allow_origin(call, answer.response.headers_mut());
        }
        Some(answer)
    }
}

impl Accounts {
    /// Answers a call, if its path is one of accounts'.
    pub(crate) async fn answer(&self, second: &impl SecondStep, call: &Call<'_>) -> Option<Answer> {
        if call.path == "/jwks.json" {
            return Some(self.get(call, || self.jwks(call.now)));
        }
        if call.path == "/token" && call.method == Method::POST {
            let form: Vec<(String, String)> = form_urlencoded::parse(call.body).into_owned().collect();
            // Another grant is another's.
            form.iter().find(|(name, grant)| name == "grant_type" && grant == "refresh_token")?;
            return Some(self.refresh(second, &form, call).await);
        }
        let path = call.path.strip_prefix(PREFIX).filter(|rest| rest.starts_with('/'))?;
        let answer = match find(call.method, path) {
            Ok(_) if !call.confidential => Err(Fault::Cleartext),
            Ok((kind, place)) => self.run(second, kind, place, call).await,
            Err(fault) => Err(fault),
        };
        Some(answer.unwrap_or_else(|fault| self.refused(&fault, call)))
    }

    fn refused(&self, fault: &Fault, call: &Call<'_>) -> Answer {
        if let Fault::Store(fault) = fault {
            tracing::error!(%fault, request_id = call.request_id, "the authority's store does not answer");
            self.means.observer.store_fault();
        }
        fault.answer()
    }

    /// Answers a call of the token endpoint whose `grant_type` is `refresh_token` (RFC 6749 §6): the members of its form.
    pub(crate) async fn refresh(&self, second: &impl SecondStep, form: &[(String, String)], call: &Call<'_>) -> Answer {
        match self.refreshed(second, form, call).await {
            Ok(answer) => answer,
            Err(fault) => self.refused(&fault, call),
        }
    }

    async fn refreshed(
        &self,
        second: &impl SecondStep,
        form: &[(String, String)],
        call: &Call<'_>,
    ) -> Result<Answer, Fault> {
        if !call.confidential {
            return Err(Fault::Cleartext);
        }
        let mut members = form.iter().filter(|(name, _)| name == "refresh_token");
        // RFC 6749 §3.2: no parameter twice.
        let (Some((_, token)), None) = (members.next(), members.next()) else {
            let mut answer = json_answer(StatusCode::BAD_REQUEST, &json!({"error": "invalid_request"}));
            answer.reason = Reason::CallRefused;
            return Ok(answer);
        };
        let scope = form.iter().find(|(name, _)| name == "scope").map(|(_, scope)| scope.as_str());
        let renewed = self.renew(second, token, scope, Way::of(call), call.now).await?;
        let (status, value) = self.token_answer(&renewed);
        let mut answer = json_answer(status, &value);
        if !renewed.is_good() {
            answer.reason = Reason::SignInRefused;
        }
        Ok(answer)
    }

    async fn run(&self, second: &impl SecondStep, kind: Kind, place: &str, call: &Call<'_>) -> Result<Answer, Fault> {
        let (way, now) = (Way::of(call), call.now);
        match kind {
            Kind::Register => {
                let body: Registration<'_> = body(call)?;
                let wanted =
                    Wanted { name: body.name.as_deref(), mail: body.email.as_deref(), password: &body.password };
                match &body.invitation {
                    Some(invitation) => created(&self.accept(invitation, wanted, way, now).await?),
                    None => accepted(&self.register(wanted, now).await?),
                }
            }
            Kind::Confirm => {
                let body: Confirmation<'_> = body(call)?;
                created(&self.confirm(&body.registration, &body.code, body.name.as_deref(), way, now).await?)
            }
            Kind::SignIn => {
                let body: Credentials<'_> = body(call)?;
                let claimed = Claimed {
                    name: &body.name,
                    password: &body.password,
                    scope: body.scope.as_deref(),
                    client: agent(call),
                };
                stepped(&self.sign_in(second, claimed, way, now).await?)
            }
            Kind::Again => {
                let body: Again<'_> = body(call)?;
                let factor = match &body.factor {
                    Some(name) => Some(Factor::from_name(name).ok_or(Fault::Call("`factor` is none that there is"))?),
                    None => None,
                };
                let begun = self.challenge_again(second, &body.ticket, factor, way, now).await?;
                served(&json!({ "challenge": begun }))
            }
            Kind::Verify => {
                let body: Verification<'_> = body(call)?;
                let shown = match (&body.code, body.credential) {
                    (Some(code), None) => Answered::Code(code),
                    (None, Some(credential)) => Answered::Credential(credential.get().as_bytes()),
                    (None, None) => Answered::Approval,
                    (Some(_), Some(_)) => return Err(Fault::Call("`code` or `credential`, not both")),
                };
                let refresh_token = body.refresh_token.as_deref();
                stepped(&self.second_step(second, &body.ticket, (&body.id, shown), refresh_token, way, now).await?)
            }
            Kind::Redeem => {
                let body: Redemption<'_> = body(call)?;
                served(&self.redeem_entry(second, (&body.code, &body.code_verifier), agent(call), now).await?)
            }
            Kind::Recover => {
                let body: Forgotten<'_> = body(call)?;
                accepted(&self.ask_recovery(&body.email, now).await?)
            }
            Kind::Recovered => {
                let body: Recovery<'_> = body(call)?;
                let by = (&*body.recovery, &*body.code, &*body.password);
                stepped(&self.recover_by(second, by, way, now).await?)
            }
            Kind::Account => served(&self.account(call).await?),
            Kind::Sessions => served(&self.sessions(call).await?),
            Kind::EndOthers => done(self.end_others(call).await?),
            Kind::EndOne => done(self.end_one(call, place).await?),
            Kind::SignOut => done(self.sign_out(call).await?),
            Kind::Password => {
                let body: PasswordChange<'_> = body(call)?;
                done(self.change_password(second, call, (&body.current, &body.new, body.proof.as_deref())).await?)
            }
            Kind::NewMail => {
                let body: MailChange<'_> = body(call)?;
                let wanted = (&*body.email, &*body.password, body.proof.as_deref());
                accepted(&self.ask_new_mail(second, call, wanted).await?)
            }
            Kind::MailConfirmed => {
                let body: MailConfirmation<'_> = body(call)?;
                done(self.confirm_new_mail(call, (&body.change, &body.code)).await?)
            }
        }
    }

    /// An answer that anybody may have and keep for a while.
    fn get(&self, call: &Call<'_>, value: impl FnOnce() -> Value) -> Answer {
        if call.method != Method::GET && call.method != Method::HEAD {
            return Fault::Method(&[Method::GET]).answer();
        }
        let mut answer = json_answer(StatusCode::OK, &value());
        let headers = answer.response.headers_mut();
        // Half of what a new key is published before it signs.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer
    }
}

/// What the client says it is.
pub(in crate::authority) fn agent<'a>(call: &Call<'a>) -> &'a str {
    call.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
}

/// The operation of a call, and what stands in the place of its `{id}`.
fn find<'p>(method: &Method, path: &'p str) -> Result<(Kind, &'p str), Fault> {
    let found =
        TABLE.iter().filter(|row| row.method == *method).find_map(|row| Some((row.kind, place(row.path, path)?)));
    if let Some(found) = found {
        return Ok(found);
    }
    Err(methods(path).map_or(Fault::NotFound, Fault::Method))
}

/// What stands in the place of a pattern's `{id}`, if the path is the pattern's.
fn place<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    match pattern.strip_suffix("{id}") {
        Some(prefix) => path.strip_prefix(prefix).filter(|id| !id.is_empty() && !id.contains('/')),
        None => (pattern == path).then_some(""),
    }
}

/// The methods of a path, for `Allow`; `None`: no operation has it.
fn methods(path: &str) -> Option<&'static [Method]> {
    let row = TABLE.iter().find(|row| place(row.path, path).is_some())?;
    Some(match row.path {
        "/sessions" => &[Method::GET, Method::DELETE],
        "/sessions/{id}" | "/session" => &[Method::DELETE],
        "/me" => &[Method::GET],
        _ => &[Method::POST],
    })
}

fn body<'a, T: Deserialize<'a>>(call: &Call<'a>) -> Result<T, Fault> {
    // A browser sends this type across origins only after asking, which keeps other pages' forms out.
    let is_json = call.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        return Err(Fault::Call("the body is to be `application/json`"));
    }
    serde_json::from_slice(call.body).map_err(|_| Fault::Call("the body is not the JSON that this takes"))
}

fn served(value: &Value) -> Result<Answer, Fault> {
    Ok(json_answer(StatusCode::OK, value))
}

fn created(value: &Value) -> Result<Answer, Fault> {
    Ok(json_answer(StatusCode::CREATED, value))
}

fn accepted(value: &Value) -> Result<Answer, Fault> {
    Ok(json_answer(StatusCode::ACCEPTED, value))
}

fn done(_: ()) -> Result<Answer, Fault> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Answer::served(response))
}

fn stepped(step: &Step) -> Result<Answer, Fault> {
    let (status, value) = step.answer();
    Ok(json_answer(status, &value))
}

/// JSON that nobody keeps (RFC 6749 §5.1).
fn json_answer(status: StatusCode, value: &Value) -> Answer {
    crate::authority::api::json(status, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_method_and_no_other_is() {
        for row in TABLE {
            let path = row.path.replace("{id}", "abc");
            let (kind, place) = find(&row.method, &path).ok().unzip();
            assert_eq!(kind, Some(row.kind));
            assert!(methods(&path).is_some_and(|methods| methods.contains(&row.method)));
            assert_eq!(place, Some(if row.path.contains("{id}") { "abc" } else { "" }));
            assert!(matches!(find(&Method::PUT, &path), Err(Fault::Method(_))));
        }
        for path in ["", "/", "/sessions/", "/sessions/a/b", "/sign-in/", "/nothing"] {
            assert!(matches!(find(&Method::POST, path), Err(Fault::NotFound)), "{path}");
        }
    }
}
