//! Renewing a session by its refresh token (RFC 6749 §6, RFC 9700 §4.14.2), and with a second factor where the operator asks for
//! one (`refresh.assurance`).

use serde_json::{Value, json};

use super::{
    Accounts, rows,
    second::{Aim, Challenge, SecondStep, Ticket},
    session::{self, Presented},
    sign_in::Step,
};
use crate::{
    authority::{Fault, Proof, Way},
    clock::Now,
    policy::Requirement,
    store::{Batch, StoreFault, Versioned},
};

/// Our own clock, here and when the factor was shown.
const LEEWAY_SECS: f64 = 5.0;

/// What became of a refresh token.
pub(super) enum Renewed {
    /// The next tokens.
    Tokens(Value),
    /// A second factor is needed first; the refresh token is still good.
    Challenge(Challenge),
    /// It is not good, or not any more (RFC 6749 §5.2 `invalid_grant`).
    Invalid,
    /// A scope was asked for that the session does not have (`invalid_scope`).
    Scope,
}

impl Accounts {
    /// Renews a session. Of two who present one token one gets tokens, and the session ends all the same: one of them stole it.
    pub(super) async fn renew(
        &self,
        second: &impl SecondStep,
        token: &str,
        scope: Option<&str>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Renewed, Fault> {
        let row = match session::present(self.store(), token, now).await? {
            Presented::Current(row) => row,
            Presented::Old(row) => {
                self.end_reused(&row.value, way, now).await?;
                return Ok(Renewed::Invalid);
            }
            Presented::Unknown => return Ok(Renewed::Invalid),
        };
        let account = rows::by_id(self.store(), &row.value.account, now).await?;
        let Some(account) = account.filter(|account| account.value.epoch == row.value.epoch) else {
            self.end_sessions(Batch::new(), vec![row.value.sid], now).await?;
            return Ok(Renewed::Invalid);
        };
        let Some(scopes) = Self::scopes(&row.value.scopes, scope) else { return Ok(Renewed::Scope) };
        if self.config.refresh_assurance.as_ref().is_some_and(|level| falls_short(second, level, &row.value.proof, now))
        {
            let aim = Aim::Renew { sid: row.value.sid, scopes };
            return Ok(Renewed::Challenge(self.challenge(second, &account.value, aim, way, now).await?));
        }
        let (session, refresh) = row.value.renewed(token, now)?;
        let tokens = self.tokens(second, &session, &refresh, &scopes, now)?;
        match self.store().commit(session::update(Batch::new(), &row, &session, self.lives()), now).await {
            Ok(()) => Ok(Renewed::Tokens(tokens)),
            Err(StoreFault::Conflict) => {
                // Somebody presented the same token at the same moment, and was first: this one is an old one now.
                self.end_reused(&row.value, way, now).await?;
                Ok(Renewed::Invalid)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Renews a session by what was shown for it: from here on `auth_time` is that moment.
    pub(super) async fn renew_stronger(
        &self,
        second: &impl SecondStep,
        ticket: &Versioned<Ticket>,
        (sid, token): (&str, &str),
        proof: Proof,
        scopes: &[String],
        now: Now,
    ) -> Result<Value, Fault> {
        let Presented::Current(row) = session::present(self.store(), token, now).await? else {
            return Err(Fault::SignIn);
        };
        if row.value.sid != sid || row.value.epoch != ticket.value.epoch {
            return Err(Fault::SignIn);
        }
        if self.config.refresh_assurance.as_ref().is_some_and(|level| falls_short(second, level, &proof, now)) {
            // What was shown is something, but not what the level takes.
            return Err(Fault::Proof);
        }
        let (mut session, refresh) = row.value.renewed(token, now)?;
        session.proof = proof;
        let tokens = self.tokens(second, &session, &refresh, scopes, now)?;
        let batch = Self::spend(session::update(Batch::new(), &row, &session, self.lives()), ticket);
        match self.store().commit(batch, now).await {
            Ok(()) => Ok(tokens),
            Err(StoreFault::Conflict) => Err(Fault::SignIn),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The answer of the token endpoint (RFC 6749 §5): status and content. A session that needs a second factor first says so by
    /// the error of RFC 9470, with what is needed to show one.
    pub(super) fn token_answer(&self, renewed: &Renewed) -> (http::StatusCode, Value) {
        let bad = http::StatusCode::BAD_REQUEST;
        match renewed {
            Renewed::Tokens(tokens) => (http::StatusCode::OK, tokens.clone()),
            Renewed::Invalid => (bad, json!({"error": "invalid_grant"})),
            Renewed::Scope => (bad, json!({"error": "invalid_scope"})),
            Renewed::Challenge(challenge) => {
                let level = self.config.refresh_assurance.as_ref();
                let acr = level.and_then(|level| level.acr.as_ref()).map(|acr| acr.join(" "));
                let max_age = level.and_then(|level| level.max_age).map(|age| age.as_secs());
                let mut answer = json!({
                    "error": "insufficient_user_authentication",
                    "error_description": "a second factor is to be shown before this session is renewed",
                    "ticket": challenge.ticket,
                    "challenge": challenge.begun,
                });
                if let Some(members) = answer.as_object_mut() {
                    members.extend(acr.map(|acr| ("acr_values".to_owned(), acr.into())));
                    members.extend(max_age.map(|age| ("max_age".to_owned(), age.into())));
                }
                (bad, answer)
            }
        }
    }
}

impl Renewed {
    /// Whether tokens came of it.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Tokens(_))
    }
}

impl Step {
    /// What its client is told, and by which status.
    pub(super) fn answer(&self) -> (http::StatusCode, Value) {
        match self {
            Self::Done(value) => (http::StatusCode::OK, value.clone()),
            Self::Challenge(challenge) => (http::StatusCode::OK, Accounts::shown(challenge)),
            Self::Pending => (http::StatusCode::ACCEPTED, json!({"status": "pending"})),
        }
    }
}

/// Whether what was shown for a session is not enough for a level, or not any more.
fn falls_short(second: &impl SecondStep, level: &Requirement, proof: &Proof, now: Now) -> bool {
    let assurance = second.assurance(proof);
    level.level_fault(&assurance).is_some()
        || level.freshness_fault(&assurance, LEEWAY_SECS, now).is_some()
        || level.factors.is_some_and(|rule| !rule.is_met(proof.factors(), proof.categories()))
}
