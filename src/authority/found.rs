//! What somebody holds, and whether what is shown is one of it: each finding comes with the writes that use it up.

use super::{
    Authority, Caller, Change, Fault, Way,
    caller::actor,
    passkey::{PasskeyFault, PasskeyRecord, ProofState},
    proof::FactorShown,
    records::{FactorData, FactorRecord, Person},
    recovery::{self, RecoverySet},
    told::Notice,
    totp,
};
use crate::{
    clock::Now,
    policy::Factor,
    secret::Secret,
    store::{Batch, Table, Versioned},
};

/// What somebody holds.
pub(super) struct Holdings {
    pub(super) key: String,
    pub(super) person: Option<Versioned<Person>>,
    pub(super) recovery: Option<Versioned<RecoverySet>>,
}

/// What was shown, and the writes that use it up.
pub(super) struct Found {
    pub(super) shown: FactorShown,
    pub(super) batch: Batch,
}

impl Holdings {
    /// The factors of a kind that may be shown.
    pub(super) fn of(&self, kind: Factor) -> impl Iterator<Item = &FactorRecord> {
        self.person.iter().flat_map(move |person| person.value.of(kind))
    }

    /// How often all factors were taken away.
    pub(super) fn era(&self) -> u32 {
        self.person.as_ref().map_or(0, |person| person.value.era)
    }

    /// Whether what was proved still counts: [`Person::stands_by`].
    pub(super) fn stand_by(&self, factor_id: &str, era: u32) -> bool {
        self.person.as_ref().is_some_and(|person| person.value.stands_by(factor_id, era))
    }

    /// How many factors there are.
    pub(super) fn count(&self) -> usize {
        self.person.as_ref().map_or(0, |person| person.value.factors.len())
    }

    /// Adds the person's row to a commit, changed.
    pub(super) fn update(&self, batch: Batch, change: impl FnOnce(&mut Person)) -> Batch {
        let Some(row) = &self.person else { return batch };
        let mut person = row.value.clone();
        change(&mut person);
        batch.update(Table::Factors, &self.key, row.version, &person, None)
    }

    /// The same for one factor.
    fn update_factor(&self, id: &str, now: u64, change: impl FnOnce(&mut FactorRecord)) -> Batch {
        self.update(Batch::new(), |person| {
            if let Some(factor) = person.factors.iter_mut().find(|factor| factor.id == id) {
                factor.last_used = Some(now);
                change(factor);
            }
        })
    }
}

impl Authority {
    /// Reads what somebody holds.
    pub(super) async fn holdings(&self, caller: &Caller, now: Now) -> Result<Holdings, Fault> {
        self.holdings_of(&caller.owner(), now).await
    }

    /// The same by the person alone.
    pub(super) async fn holdings_of(&self, owner: &super::Owner, now: Now) -> Result<Holdings, Fault> {
        let key = owner.key(self.store());
        let person = self.store().get(Table::Factors, &key, now).await?;
        let recovery = self.store().get(Table::RecoveryCodes, &key, now).await?;
        Ok(Holdings { key, person, recovery })
    }

    /// Whether somebody holds a factor that the configuration takes.
    pub(super) fn holds(&self, holdings: &Holdings, factor: Factor) -> bool {
        let config = self.config();
        let any = || holdings.of(factor).next().is_some();
        match factor {
            Factor::Passkey => self.passkeys.is_some() && any(),
            Factor::Totp => config.totp.is_some() && any(),
            Factor::Email | Factor::Webhook | Factor::Push => self.sender(factor).is_some() && any(),
            Factor::Recovery => {
                config.recovery.is_some() && holdings.recovery.as_ref().is_some_and(|set| set.value.left() > 0)
            }
            Factor::Password => false,
        }
    }

    /// The code of an app, or a recovery code. The same work is done for whoever has neither.
    pub(super) fn find_code(&self, holdings: &Holdings, code: &str, now: Now) -> Option<Found> {
        let secs = now.unix_secs();
        let code = code.get(..64).unwrap_or(code);
        let typed: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        let skew = self.config().totp.as_ref().map_or(0, |totp| totp.skew);
        let mut found = None;
        let nobody = Secret::new([0; 20]);
        let mut looked_at = 0;
        for factor in holdings.of(Factor::Totp) {
            let FactorData::Totp { secret, digits, last_step } = &factor.data else { continue };
            looked_at += 1;
            if let Some(step) = totp::step_of(&secret.0, *digits, skew, *last_step, &typed, secs)
                && found.is_none()
            {
                found = Some((factor, step));
            }
        }
        for _ in looked_at..super::records::MOST_APPS {
            let _ = std::hint::black_box(totp::step_of(&nobody, 6, skew, 0, &typed, secs));
        }
        if let Some((factor, step)) = found.filter(|_| self.config().totp.is_some()) {
            let batch = holdings.update_factor(&factor.id, secs, |factor| {
                if let FactorData::Totp { last_step, .. } = &mut factor.data {
                    *last_step = step;
                }
            });
            let shown = FactorShown::of(Factor::Totp, &factor.id, factor.may_delete(secs));
            return Some(Found { shown, batch });
        }
        let plain = recovery::plain(code)?;
        let row = holdings.recovery.as_ref().filter(|_| self.config().recovery.is_some());
        let mut set = row.map(|row| row.value.clone()).unwrap_or_default();
        let is_one = set.use_up(self.store(), &holdings.key, &plain);
        let row = row.filter(|_| is_one)?;
        let batch = Batch::new().update(Table::RecoveryCodes, &holdings.key, row.version, &set, None);
        let may_delete = set.may_delete_from.is_none_or(|from| from <= secs);
        Some(Found { shown: FactorShown::of(Factor::Recovery, "", may_delete), batch })
    }

    /// WebAuthn's options for whoever has passkeys.
    pub(super) fn ask_passkey(&self, holdings: &Holdings) -> Option<(serde_json::Value, ProofState)> {
        let known: Vec<PasskeyRecord> = passkeys(holdings).map(|(_, record)| record).collect();
        self.passkeys.as_ref()?.begin_proof(handle(&holdings.key), &known).ok()
    }

    /// A passkey's response.
    pub(super) async fn find_passkey(
        &self,
        caller: &Caller,
        holdings: &Holdings,
        state: &ProofState,
        response: &[u8],
        way: Way<'_>,
        now: Now,
    ) -> Result<Option<Found>, Fault> {
        let Some(party) = &self.passkeys else { return Ok(None) };
        let (ids, known): (Vec<String>, Vec<PasskeyRecord>) = passkeys(holdings).unzip();
        let factor_at = |index: usize| ids.get(index).and_then(|id| holdings.person.as_ref()?.value.factor(id));
        match party.finish_proof(state, &known, response) {
            Ok(proof) => {
                let Some(factor) = factor_at(proof.index) else { return Ok(None) };
                let credential = serde_json::to_value(&proof.record).map_err(|_| Fault::Proof)?;
                let batch = holdings.update_factor(&factor.id, now.unix_secs(), |factor| {
                    factor.data = FactorData::Passkey { credential };
                });
                let may_delete = factor.may_delete(now.unix_secs());
                let shown = FactorShown {
                    categories: proof.categories(),
                    amr: proof.amr().map(str::to_owned).collect(),
                    ..FactorShown::of(Factor::Passkey, &factor.id, may_delete)
                };
                Ok(Some(Found { shown, batch }))
            }
            Err(PasskeyFault::CounterWentBack { index }) => {
                let Some(factor) = factor_at(index) else { return Ok(None) };
                self.suspect(caller, holdings, factor, way, now).await?;
                Ok(None)
            }
            Err(
                PasskeyFault::Malformed
                | PasskeyFault::Refused(_)
                | PasskeyFault::NoneUsable
                | PasskeyFault::Configuration(_),
            ) => Ok(None),
        }
    }

    /// A passkey may have been copied: it is taken no more, what it elevated ends, and its owner is told.
    async fn suspect(
        &self,
        caller: &Caller,
        holdings: &Holdings,
        factor: &FactorRecord,
        way: Way<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let (owner, id) = (caller.owner(), factor.id.clone());
        let batch = holdings.update_factor(&id, now.unix_secs(), |factor| factor.suspect = true);
        let batch = self.end_elevations(batch, &holdings.key, now).await?;
        let notice = Notice {
            kind: "passkey_suspect",
            subject: "One of your passkeys may have been copied",
            what: format!("The passkey “{}” answered with an old counter. It is not taken any more.", factor.label),
            data: serde_json::json!({"factor": "passkey", "id": id}),
            way: Some(way),
        };
        let batch = self.notices(batch, &owner, self.mail_of(caller, holdings).as_deref(), &notice, now)?;
        self.core.observer.change(actor(&owner, way), Change::CounterWentBack, Some(Factor::Passkey), "", now);
        match self.commit_told(batch, now).await {
            Ok(()) => {
                self.elevations_ended(&holdings.key);
                Ok(())
            }
            // Whoever changed the row meanwhile: the next such response is found as well.
            Err(crate::store::StoreFault::Conflict) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Where a factor that sends would send: the factor, and its address.
    pub(super) fn address_of(&self, caller: &Caller, holdings: &Holdings, kind: Factor) -> Option<(String, String)> {
        let factor = holdings.of(kind).next()?;
        let address = match &factor.data {
            FactorData::Email { address } | FactorData::Webhook { address } => address,
            FactorData::Push { device } => device,
            FactorData::Totp { .. } | FactorData::Passkey { .. } => return None,
        };
        // Where the provider says the address, it is the one that it says now.
        Some((factor.id.clone(), caller.address(kind).unwrap_or(address).to_owned()))
    }

    /// A factor that sends, whose code or approval was right.
    pub(super) fn found_address(&self, holdings: &Holdings, kind: Factor, factor_id: &str, now: Now) -> Option<Found> {
        let factor = holdings.of(kind).find(|factor| factor.id == factor_id)?;
        let batch = holdings.update_factor(factor_id, now.unix_secs(), |_| {});
        let shown = FactorShown::of(kind, factor_id, factor.may_delete(now.unix_secs()));
        Some(Found { shown, batch })
    }

    /// Where somebody is told of changes: where their credential says, else where it last said.
    pub(super) fn mail_of(&self, caller: &Caller, holdings: &Holdings) -> Option<String> {
        caller.mail.clone().or_else(|| holdings.person.as_ref()?.value.mail.clone())
    }

    /// Adds the notice that a recovery code was used, where one was.
    pub(super) fn recovery_told(
        &self,
        batch: Batch,
        caller: &Caller,
        shown: &FactorShown,
        holdings: &Holdings,
        way: Way<'_>,
        now: Now,
    ) -> Result<Batch, Fault> {
        if shown.factor != Factor::Recovery {
            return Ok(batch);
        }
        let left = holdings.recovery.as_ref().map_or(0, |set| set.value.left().saturating_sub(1));
        let notice = Notice {
            kind: "recovery_code_used",
            subject: "A recovery code was used",
            what: format!("One of your recovery codes was used. {left} are left."),
            data: serde_json::json!({"factor": "recovery", "left": left}),
            way: Some(way),
        };
        self.notices(batch, &caller.owner(), self.mail_of(caller, holdings).as_deref(), &notice, now)
    }
}

/// The passkeys that may be shown, with their factors' identifiers.
pub(super) fn passkeys(holdings: &Holdings) -> impl Iterator<Item = (String, PasskeyRecord)> {
    holdings.of(Factor::Passkey).filter_map(|factor| match &factor.data {
        FactorData::Passkey { credential } => {
            Some((factor.id.clone(), serde_json::from_value(credential.clone()).ok()?))
        }
        FactorData::Totp { .. } | FactorData::Email { .. } | FactorData::Webhook { .. } | FactorData::Push { .. } => {
            None
        }
    })
}

/// WebAuthn's user handle: the beginning of a key that names nobody.
pub(super) fn handle(owner_key: &str) -> [u8; 16] {
    let mut handle = [0; 16];
    for (byte, pair) in handle.iter_mut().zip(owner_key.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    handle
}
