//! What the gateway asks of the authority while a request passes. Everything here is on the request's line: what does not say
//! that it waits is cheap, and what waits asks the store.

use std::sync::Arc;

use super::{
    Answer, Authority, Call, Fault, Grant, Holder, Occasion, Outcome, Proof, Way,
    caller::actor,
    ceremony::{Asked, Ceremony, What},
    found::Found,
    recovery,
};
use crate::{
    clock::Now,
    policy::{Covers, Factor, Principal, Reason, SecondFactor, SecondFactors},
    store::{StoreFault, Table},
};

/// How often a commit is tried again that others were before.
const TRIES: usize = 4;

impl Authority {
    /// The second factors that were shown before and still count for this caller: elevations of the holder, one look in a map.
    /// Nothing for a caller of an issuer that the authority does not serve.
    pub fn elevations(&self, principal: &Principal, now: Now) -> SecondFactors {
        // Most callers are not elevated, and while nobody is, nobody's digest is worked out.
        if self.core.elevations.is_empty() || !self.serves(principal) {
            return SecondFactors::new();
        }
        let holder = Holder::of(principal, self.config().elevation_by);
        holder.map_or_else(SecondFactors::new, |holder| self.core.elevations.of(&holder, now.unix_secs()))
    }

    /// Looks at a code that came in the request itself (`Stepgate-OTP`): it is used by that, and covers this request alone.
    ///
    /// [`Reason::CodeRefused`] is the one answer for a wrong code, a used one, none enrolled, too many guesses and a caller whom
    /// the authority does not serve; [`Reason::AuthorityUnavailable`]: the store could not be asked.
    pub async fn prove_in_request(
        &self,
        principal: &Arc<Principal>,
        way: Way<'_>,
        code: &[u8],
        now: Now,
    ) -> Result<SecondFactor, Reason> {
        match self.prove_code(principal, code, Occasion::Request, way, now).await {
            Ok(proof) => Ok(self.worth(&proof, Covers::Request)),
            Err(Fault::Store(fault)) => {
                tracing::error!(%fault, "a second factor cannot be looked at");
                self.core.observer.store_fault();
                Err(Reason::AuthorityUnavailable)
            }
            Err(_) => Err(Reason::CodeRefused),
        }
    }

    /// Looks at a code without a ceremony: one of an app, for recovery, or one that was sent to this holder before.
    pub(super) async fn prove_code(
        &self,
        principal: &Principal,
        code: &[u8],
        occasion: Occasion,
        way: Way<'_>,
        now: Now,
    ) -> Result<Proof, Fault> {
        let caller = self.caller(principal).ok_or(Fault::Proof)?;
        let code = std::str::from_utf8(code).map_err(|_| Fault::Proof)?.trim();
        let owner = caller.owner();
        let mut is_taken = true;
        let result = self.code_proved(&caller, code, &mut is_taken, way, now).await;
        let (outcome, factor) = match &result {
            Ok((_, factor)) => (Outcome::Proved, Some(*factor)),
            Err(Fault::Store(_)) => (Outcome::Unavailable, None),
            Err(_) if is_taken => (Outcome::Refused, None),
            Err(_) => (Outcome::Locked, None),
        };
        self.core.observer.ceremony(actor(&owner, way), factor, occasion, outcome, now);
        result.map(|(proof, _)| proof)
    }

    /// Counts the guess, and looks at the code where that says so.
    async fn code_proved(
        &self,
        caller: &super::Caller,
        code: &str,
        is_taken: &mut bool,
        way: Way<'_>,
        now: Now,
    ) -> Result<(Proof, Factor), Fault> {
        let long = recovery::plain(code).is_some();
        let guess = self.count_guess(&caller.owner(), &caller.credential, long, way, now).await?;
        *is_taken = guess.taken;
        for _ in 0..TRIES {
            let holdings = self.holdings(caller, now).await?;
            let by_app = self.find_code(&holdings, code, now);
            let by_sent = self.find_sent(caller, &holdings, code, now).await?;
            let Some(Found { shown, batch }) = by_app.or(by_sent).filter(|_| guess.taken) else { break };
            let batch = self.recovery_told(batch, caller, &shown, &holdings, way, now)?;
            match self.commit_told(batch, now).await {
                Ok(()) => {
                    self.guessed_right(&guess, now).await;
                    return Ok((Proof::new(caller, &shown, holdings.era(), now), shown.factor));
                }
                // Somebody used a factor at the same time: look again at what is left.
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(Fault::Proof)
    }

    /// A code that was sent in one of the holder's ceremonies, which ends by it.
    async fn find_sent(
        &self,
        caller: &super::Caller,
        holdings: &super::found::Holdings,
        code: &str,
        now: Now,
    ) -> Result<Option<Found>, Fault> {
        let prefix = self.ceremony_prefix(caller);
        let pending = super::ceremony::READ_PENDING;
        let page = self.store().readable::<Ceremony>(Table::Ceremonies, &prefix, None, pending, now).await?;
        let mut found = None;
        for row in page.rows {
            let What::Asked { asked: Asked::Sent { factor, state }, .. } = &row.value.what else { continue };
            let Some(factor) = Factor::from_name(factor) else { continue };
            if !self.is_sent_code(caller, &row.value.id, state, code, now) || found.is_some() {
                continue;
            }
            found = self
                .found_address(holdings, factor, &state.factor_id, now)
                .map(|found| Found { batch: found.batch.delete(Table::Ceremonies, &row.key, row.version), ..found });
        }
        Ok(found)
    }

    /// Reads a grant (`Stepgate-Grant`): that it is ours, has begun and not expired, and is this caller's (their [`Holder`]). What
    /// it is bound to is for [`Grant::fits`] to compare, once the request's body is known where that counts.
    ///
    /// [`Reason::GrantInvalid`] is the one answer for all that is wrong with it.
    ///
    /// [`Holder`]: super::Holder
    pub fn read_grant(&self, text: &[u8], principal: &Principal, now: Now) -> Result<Grant, Reason> {
        self.grant_read(text, principal, now).ok_or(Reason::GrantInvalid)
    }

    /// Uses a grant up, durably, before anything is forwarded on the strength of it.
    ///
    /// [`Reason::GrantSpent`]: somebody did so before; [`Reason::AuthorityUnavailable`]: nobody knows.
    pub async fn spend(&self, grant: &Grant, now: Now) -> Result<(), Reason> {
        self.grant_spent(grant, now).await.map_err(|fault| fault.reason())
    }

    /// Answers a call of one of its endpoints. Nothing is left open: what goes wrong is an answer as well.
    pub async fn answer(&self, call: Call<'_>) -> Answer {
        if let Some(answer) = self.accounts_api(&call).await {
            return answer;
        }
        if let Some(answer) = self.api(&call).await {
            return answer;
        }
        self.page(&call).await.unwrap_or_else(|| Fault::NotFound.answer())
    }
}
