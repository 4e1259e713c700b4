//! Access tokens (RFC 9068): what they say, and what a client gets with them.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Accounts, second::SecondStep, session::Session};
use crate::{
    authority::{Fault, Proof, random},
    clock::Now,
    policy::{Factor, Factors},
    secret::Secret,
    store::StoreFault,
};

/// The `typ` of access tokens (RFC 9068 §2.1).
const TYPE: &str = "at+jwt";
/// The client of every session (RFC 9068 §2.2 wants one): there are no others' clients here.
const CLIENT: &str = "stepgate-accounts";

/// RFC 9068 §2.2; `sid` as in OpenID Connect; `factors`, `acrs` and `probation` are for the gateway itself.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    client_id: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    sid: &'a str,
    auth_time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acrs: Vec<&'a str>,
    amr: Vec<&'a str>,
    factors: Vec<&'static str>,
    /// That a factor which was shown may delete nothing yet; the gateway's deletion guard heeds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    probation: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
}

impl Accounts {
    /// An access token of a session.
    fn access_token(
        &self,
        second: &impl SecondStep,
        session: &Session,
        scopes: &[String],
        now: Now,
    ) -> Result<String, Fault> {
        let assurance = second.assurance(&session.proof);
        let iat = now.unix_secs();
        let claims = Claims {
            iss: &self.issuer,
            sub: &session.account,
            aud: &self.config.audience,
            client_id: CLIENT,
            iat,
            exp: iat.saturating_add(self.access_secs(session, now)),
            jti: random::id()?,
            sid: &session.sid,
            auth_time: session.proof.at(),
            acr: assurance.acr.as_deref(),
            acrs: assurance.classes().map(|class| &**class).collect(),
            amr: assurance.amr.iter().map(|method| &**method).collect(),
            factors: assurance.factors.iter().map(Factor::name).collect(),
            probation: is_on_probation(&session.proof).then_some(true),
            scope: scopes.join(" "),
        };
        let unsigned = || Fault::Store(StoreFault::Unavailable("there is no key for access tokens yet".to_owned()));
        self.means.keys.sign(TYPE, &claims, now).ok_or_else(unsigned)
    }

    /// For how long an access token is good: never longer than its session could live.
    fn access_secs(&self, session: &Session, now: Now) -> u64 {
        let left = session.expires_at(self.lives()).saturating_sub(now.unix_secs());
        self.config.access_ttl.as_secs().min(left)
    }

    /// What a client gets (RFC 6749 §5.1).
    pub(super) fn tokens(
        &self,
        second: &impl SecondStep,
        session: &Session,
        refresh: &Secret,
        scopes: &[String],
        now: Now,
    ) -> Result<Value, Fault> {
        Ok(json!({
            "access_token": self.access_token(second, session, scopes, now)?,
            "token_type": "Bearer",
            "expires_in": self.access_secs(session, now),
            "refresh_token": String::from_utf8_lossy(refresh.expose()),
            "refresh_expires_at": session.expires_at(self.lives()),
            "scope": scopes.join(" "),
        }))
    }

    /// The scopes of a request for tokens: those that were asked for, or all; `None`: one that nobody here has.
    pub(super) fn scopes(granted: &[String], wanted: Option<&str>) -> Option<Vec<String>> {
        let Some(wanted) = wanted else { return Some(granted.to_vec()) };
        let wanted: Vec<String> = wanted.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        wanted.iter().all(|scope| granted.contains(scope)).then_some(wanted)
    }
}

/// Whether a factor was shown, beside the password, that may delete nothing yet. A password alone is on no probation: it proves
/// less than the guard asks for, and that is what its holder is to be told.
fn is_on_probation(proof: &Proof) -> bool {
    !proof.may_delete && proof.factors() != Factors::NONE.with(Factor::Password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_on_probation_by_a_factor_that_is_and_never_by_a_password_alone() {
        let of = |factors: &[Factor], may_delete| Proof {
            factors: factors.iter().map(|factor| factor.name().to_owned()).collect(),
            categories: Vec::new(),
            amr: Vec::new(),
            factor_id: String::new(),
            at_ms: 0,
            may_delete,
            era: 0,
        };
        assert!(is_on_probation(&of(&[Factor::Password, Factor::Totp], false)));
        assert!(is_on_probation(&of(&[Factor::Password, Factor::Recovery], false)));
        assert!(!is_on_probation(&of(&[Factor::Password, Factor::Totp], true)));
        assert!(!is_on_probation(&of(&[Factor::Password], false)));
    }
}
