//! What a provider reports of sessions and accounts that have ended: log-out tokens (OpenID Connect Back-Channel Logout
//! 1.0) and security event tokens (RFC 8417) pushed by RFC 8935. A report is believed only if the issuer's own keys
//! signed it for us, with a type that no caller's token has; what it names goes on the list of revocations before it is
//! acknowledged. A report that comes again changes nothing: what it asks for is in the list already.
//!
//! ```text
//!   body ── which form ── jose gate ── iss ── typ ── key, signature ── aud ── times ── jti ── events ──> revocations
//! ```

mod kind;
mod logout;
mod report;
mod set;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value};

pub use self::{
    kind::{EventKind, EventOutcome},
    report::{Finding, Report},
};
use super::{
    IdentityObserver, claims,
    revocation::{Revocation, RevocationFault, Revocations, Revoked},
    verifier::{Verifier, takes_type},
};
use crate::{
    clock::Now,
    config::Events,
    jose::{self, TimeClaims},
    policy::{Credential, Reason},
};

/// The longest body that is looked at.
pub const BODY_BYTES: usize = 64 << 10;

/// How a report was sent, which says how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A log-out token in a form (Back-Channel Logout §2.5).
    Logout,
    /// A security event token by push (RFC 8935 §2).
    Push,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// What it reports is in force, or asks for nothing.
    Done(Form),
    /// It is not to be believed, or not understood.
    Refused(Form, Reason),
    /// It could not be carried out now, and should be sent again.
    Unavailable {
        /// What is missing.
        reason: Reason,
        /// When to send it again.
        retry_after_secs: u32,
    },
}

/// A body as it came.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The one `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// The one token of a body, by what the body says it is.
    ///
    /// # Errors
    /// When there is none, or several; with the form of the answer.
    pub fn token(&self) -> Result<(Form, Cow<'a, str>), Form> {
        let kind = self.content_type.unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            // Back-Channel Logout §2.5: other parameters may stand beside it.
            let mut tokens = url::form_urlencoded::parse(self.body).filter(|(name, _)| name == "logout_token");
            return match (tokens.next(), tokens.next()) {
                (Some((_, token)), None) => Ok((Form::Logout, token)),
                (None, _) | (Some(_), Some(_)) => Err(Form::Logout),
            };
        }
        if kind.eq_ignore_ascii_case("application/secevent+jwt") {
            let text = std::str::from_utf8(self.body.trim_ascii()).map_err(|_| Form::Push)?;
            return Ok((Form::Push, text.into()));
        }
        Err(Form::Push)
    }
}

/// Takes one issuer's reports.
pub(super) struct Receiver<'a> {
    pub(super) verifier: &'a Verifier,
    pub(super) events: &'a Events,
    pub(super) revocations: &'a Arc<Revocations>,
    pub(super) observer: &'a dyn IdentityObserver,
}

impl Receiver<'_> {
    /// Takes a report. Returns once what it asks for is durable, or cannot be.
    pub(super) async fn receive(&self, delivery: Delivery<'_>, now: Now) -> Receipt {
        let (form, token) = match delivery.token() {
            Ok(found) => found,
            Err(form) => return self.refuse(form, Reason::TokenMalformed),
        };
        let claims = match self.believe(form, &token, now).await {
            Ok(claims) => claims,
            Err(Credential::Unavailable { reason, retry_after_secs }) => {
                self.tell(EventKind::Unread, EventOutcome::Unavailable);
                return Receipt::Unavailable { reason, retry_after_secs };
            }
            Err(Credential::Invalid(reason)) => return self.refuse(form, reason),
            Err(Credential::Absent | Credential::Valid(_)) => return self.refuse(form, Reason::TokenMalformed),
        };
        match read(form, &claims, &self.verifier.issuer.url) {
            Ok(report) => self.carry_out(form, report, now).await,
            Err(reason) => self.refuse(form, reason),
        }
    }

    /// Verifies that the issuer says so, to us, about now or before.
    async fn believe(&self, form: Form, token: &str, now: Now) -> Result<Map<String, Value>, Credential> {
        let issuer = &self.verifier.issuer;
        let fault = |fault| Credential::Invalid(claims::reason(fault));
        let jws = jose::inspect(token, BODY_BYTES).map_err(fault)?;
        if jws.issuer().map_err(fault)? != Some(&*issuer.url) {
            return Err(Credential::Invalid(Reason::TokenIssuerUnknown));
        }
        // Each form takes its own type, and the other's never.
        let other = match form {
            Form::Logout => "secevent+jwt",
            Form::Push => "logout+jwt",
        };
        let types: Vec<Arc<str>> = self.events.types.iter().filter(|typ| ***typ != *other).cloned().collect();
        if !takes_type(&types, self.events.type_absent, jws.typ()) {
            return Err(Credential::Invalid(Reason::TokenType));
        }
        let claims = self.verifier.vouch(jws, now).await?.claims;
        self.check(&claims, now).map_err(Credential::Invalid)?;
        Ok(claims)
    }

    /// What both kinds must say (Back-Channel Logout §2.4, RFC 8417 §2.2).
    fn check(&self, claims: &Map<String, Value>, now: Now) -> Result<(), Reason> {
        let times = TimeClaims::read(claims).map_err(claims::reason)?;
        // How old it is does not matter: one that was kept back by an outage tells of tokens that are as good as new.
        times.check(now.numeric_date(), self.verifier.issuer.leeway.as_secs_f64()).map_err(claims::reason)?;
        if times.iat.is_none_or(|iat| iat < 0.0) || text(claims, "jti").is_none() {
            return Err(Reason::TokenClaims);
        }
        let is_ours = |name: &str| self.events.audience.iter().any(|ours| **ours == *name);
        match claims.get("aud") {
            Some(Value::String(name)) if is_ours(name) => Ok(()),
            Some(Value::Array(names)) if names.iter().any(|name| name.as_str().is_some_and(is_ours)) => Ok(()),
            Some(_) => Err(Reason::TokenAudience),
            None => Err(Reason::TokenClaims),
        }
    }

    /// Revokes what a report names, all of it or nothing.
    async fn carry_out(&self, form: Form, report: Report, now: Now) -> Receipt {
        let wanted: Vec<Revocation> = report.revocations(&self.verifier.issuer.name, self.events, now);
        if wanted.iter().any(|revocation| revocation.check().is_err()) {
            return self.refuse(form, Reason::TokenClaims);
        }
        let asks = !wanted.is_empty();
        let result = if asks { revoke(self.revocations, wanted, now).await } else { Ok(false) };
        match result {
            Ok(added) => {
                for finding in &report.findings {
                    self.tell(finding.kind, outcome(finding, asks, added));
                }
                Receipt::Done(form)
            }
            Err(fault) => {
                let cause = std::error::Error::source(&fault).map(ToString::to_string).unwrap_or_default();
                tracing::error!(issuer = &*self.verifier.issuer.name, %fault, cause, "a security event was not carried out");
                report.findings.iter().for_each(|finding| self.tell(finding.kind, EventOutcome::Unavailable));
                Receipt::Unavailable { reason: Reason::RevocationUnavailable, retry_after_secs: 30 }
            }
        }
    }

    fn refuse(&self, form: Form, reason: Reason) -> Receipt {
        self.tell(EventKind::Unread, EventOutcome::Refused);
        Receipt::Refused(form, reason)
    }

    fn tell(&self, kind: EventKind, outcome: EventOutcome) {
        self.observer.event(&self.verifier.issuer.name, kind, outcome);
    }
}

fn outcome(finding: &Finding, asks: bool, added: bool) -> EventOutcome {
    match (finding.kind.ends_something(), finding.targets.is_empty()) {
        (false, _) => EventOutcome::Ignored,
        (true, true) => EventOutcome::Unmatched,
        (true, false) if !asks => EventOutcome::Outdated,
        (true, false) if added => EventOutcome::Applied,
        (true, false) => EventOutcome::Repeated,
    }
}

/// Waits for the disk on a thread that may; says whether anything is new.
async fn revoke(list: &Arc<Revocations>, wanted: Vec<Revocation>, now: Now) -> Result<bool, RevocationFault> {
    let list = Arc::clone(list);
    let done = tokio::task::spawn_blocking(move || list.revoke(&wanted, now)).await;
    let done = done.map_err(|_| RevocationFault::ReadOnly)??;
    Ok(done.iter().any(|one| matches!(one, Revoked::Added(_))))
}

/// Reads what a token of an issuer reports, and of whom. It says nothing of whether the token is to be believed.
///
/// # Errors
/// When the claims are not those of such a token.
pub fn read(form: Form, claims: &Map<String, Value>, issuer: &str) -> Result<Report, Reason> {
    match form {
        Form::Logout => logout::read(claims),
        Form::Push => set::read(claims, issuer),
    }
}

/// A claim that is a text with something in it.
fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name)?.as_str().filter(|text| !text.is_empty())
}
