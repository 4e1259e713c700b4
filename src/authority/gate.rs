//! What the gateway asks of the authority while a request passes. Everything here is on the request's line: what does not say
//! that it waits is cheap, and what waits asks the store.

use std::{net::IpAddr, sync::Arc};

use super::{Answer, Authority, Call, Grant};
use crate::{
    clock::Now,
    policy::{Principal, Reason, SecondFactor, SecondFactors},
};

impl Authority {
    /// The second factors that were shown before and still count for this caller: elevations of the holder, one look in a map.
    /// Nothing for a caller of an issuer that the authority does not serve.
    pub fn elevations(&self, _principal: &Principal, _now: Now) -> SecondFactors {
        SecondFactors::new()
    }

    /// Looks at a code that came in the request itself (`Stepgate-OTP`): it is used by that, and covers this request alone.
    ///
    /// [`Reason::CodeRefused`] is the one answer for a wrong code, a used one, none enrolled, too many guesses and a caller whom
    /// the authority does not serve; [`Reason::AuthorityUnavailable`]: the store could not be asked.
    pub async fn prove_in_request(
        &self,
        _principal: &Arc<Principal>,
        _client: IpAddr,
        _code: &[u8],
        _now: Now,
    ) -> Result<SecondFactor, Reason> {
        Err(Reason::AuthorityUnavailable)
    }

    /// Reads a grant (`Stepgate-Grant`): that it is ours, has begun and not expired, and is this caller's (their [`Holder`]). What
    /// it is bound to is for [`Grant::fits`] to compare, once the request's body is known where that counts.
    ///
    /// [`Reason::GrantInvalid`] is the one answer for all that is wrong with it.
    ///
    /// [`Holder`]: super::Holder
    pub fn read_grant(&self, _text: &[u8], _principal: &Principal, _now: Now) -> Result<Grant, Reason> {
        Err(Reason::GrantInvalid)
    }

    /// Uses a grant up, durably, before anything is forwarded on the strength of it.
    ///
    /// [`Reason::GrantSpent`]: somebody did so before; [`Reason::AuthorityUnavailable`]: nobody knows.
    pub async fn spend(&self, _grant: &Grant, _now: Now) -> Result<(), Reason> {
        Err(Reason::AuthorityUnavailable)
    }

    /// Answers a call of one of its endpoints. Nothing is left open: what goes wrong is an answer as well.
    pub async fn answer(&self, call: Call<'_>) -> Answer {
        match self.api(&call).await {
            Some(answer) => answer,
            None => Answer::refused(&super::Fault::NotFound),
        }
    }
}
