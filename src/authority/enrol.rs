//! Enrolling, renaming and removing factors: who may, and what is told of it. A stolen token gives no right to any of it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Answered, Authority, Caller, Change, Fault, Occasion, Outcome, Proof, Way,
    admin::{InvitationRow, Subject, invitation_tag},
    caller::{actor, is_address},
    ceremony::{What, contended},
    found::{Holdings, handle, passkeys},
    passkey::{self, EnrolmentState, PasskeyRecord},
    qr, random,
    records::{Bytes, EnrolledBy, FactorData, FactorRecord, MOST_APPS, MOST_FACTORS, MOST_LABEL, Person},
    recovery::{self, RecoverySet},
    sent::{PushState, SentState},
    told::{Notice, shortened},
    totp,
};
use crate::{
    clock::Now,
    policy::Factor,
    store::{Batch, StoreFault, Table},
};

/// How often a commit is tried again that others were before.
const TRIES: usize = 4;
/// How old a proof may be that gives the right to change factors, in milliseconds.
const FRESH_MS: u64 = 5 * 60 * 1000;

/// What somebody brings for the right to enrol a factor.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// An operator's invitation.
    Invitation(&'a str),
    /// A recovery code.
    Recovery(&'a str),
    /// A fresh proof by a factor that is there: one that was redeemed, or that a page's session has.
    Proof(&'a Proof),
    /// Nothing: will do where the configuration says `enrolment: open`, for who never had a factor.
    Nothing,
}

/// A factor that somebody wants to enrol.
#[derive(Clone)]
pub struct Wanted {
    /// Its kind.
    pub factor: Factor,
    /// What its owner will call it.
    pub label: String,
    /// Where codes are to be sent, for factors that send, where the configuration names no claim.
    pub address: Option<String>,
}

/// An enrolment that was begun: what its owner needs for the confirmation.
#[derive(Clone, Serialize)]
pub struct EnrolmentBegun {
    /// The number of the ceremony that confirms it.
    pub id: String,
    /// When it ends, in seconds since the epoch.
    pub expires_at: u64,
    /// For authenticator apps: the URL that the QR code holds.
    pub otpauth: Option<String>,
    /// The same secret, for typing.
    pub secret: Option<String>,
    /// The QR code, SVG.
    pub qr_svg: Option<String>,
    /// The QR code for a terminal.
    pub qr_text: Option<String>,
    /// For passkeys: WebAuthn's options for `navigator.credentials.create`.
    pub passkey: Option<Value>,
    /// For codes that are sent: where to, shortened.
    pub sent_to: Option<String>,
    /// For approvals: the number to choose on the device.
    pub number: Option<String>,
}

/// A factor that was enrolled.
#[derive(Clone, Serialize)]
pub struct Enrolled {
    /// Its identifier.
    pub id: String,
    /// From when on it may delete something, in seconds since the epoch; `None`: at once.
    pub may_delete_from: Option<u64>,
    /// The recovery codes that were made with the first factor, shown this once.
    pub recovery_codes: Vec<String>,
}

/// A factor that is being enrolled.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Enrolling {
    label: String,
    by: EnrolledBy,
    /// The invitation that is used up by it: the HMAC of its code.
    invitation: Option<String>,
    probation: bool,
    /// How often the person's factors had been taken away by then.
    #[serde(default)]
    era: u32,
    state: EnrollingState,
}

/// What confirms it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EnrollingState {
    Totp { secret: Bytes, digits: u32 },
    Passkey(Box<EnrolmentState>),
    Sent { factor: String, state: SentState },
    Push(PushState),
}

/// What a right turned out to be.
struct Given {
    by: EnrolledBy,
    invitation: Option<String>,
    probation: bool,
    batch: Batch,
    /// The guess that is given back once the enrolment has begun.
    guess: Option<super::guessing::Guess>,
}

/// A label as it is kept: one line, bounded.
fn label(text: &str, factor: Factor) -> Result<String, Fault> {
    let text = text.trim();
    if text.chars().count() > MOST_LABEL || text.chars().any(char::is_control) {
        return Err(Fault::Call("a label is one line of at most 60 characters"));
    }
    Ok(if text.is_empty() { factor.name().to_owned() } else { text.to_owned() })
}

/// Whether a proof gives the right to change factors: fresh, and by a factor that is still there.
fn is_good(proof: &Proof, holdings: &Holdings, now: Now) -> bool {
    now.unix_ms.saturating_sub(proof.at_ms) <= FRESH_MS && holdings.stand_by(&proof.factor_id, proof.era)
}

impl Authority {
    /// Whether a factor can be enrolled here.
    pub fn offers(&self, factor: Factor) -> bool {
        match factor {
            Factor::Passkey => self.passkeys.is_some(),
            Factor::Totp => self.config().totp.is_some(),
            Factor::Email | Factor::Webhook | Factor::Push => self.sender(factor).is_some(),
            Factor::Password | Factor::Recovery => false,
        }
    }

    /// Finds out whether what somebody brings gives the right to enrol. Whoever has a factor needs one of their factors, a
    /// recovery code, or an operator's word; whoever has none an operator's word, or to be the first where that is enough.
    async fn given(
        &self,
        caller: &Caller,
        holdings: &Holdings,
        right: Right<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Given, Fault> {
        let given =
            |by, invitation, probation| Ok(Given { by, invitation, probation, batch: Batch::new(), guess: None });
        match right {
            // However a recovery code was shown, what it enrols was enrolled by a recovery code.
            Right::Proof(proof) if is_good(proof, holdings, now) && proof.factor_id.is_empty() => {
                given(EnrolledBy::Recovery, None, true)
            }
            Right::Proof(proof) if is_good(proof, holdings, now) => {
                // A proof by a factor that may not delete yet makes no factor that may.
                given(EnrolledBy::Factor(proof.factor_id.clone()), None, !proof.may_delete)
            }
            Right::Invitation(code) => {
                let row = self.store().get::<InvitationRow>(Table::Invitations, &holdings.key, now).await?;
                let tag = invitation_tag(self.store(), &holdings.key, code);
                let (Some(row), Some(tag)) = (row, tag) else { return Err(Fault::Enrolment) };
                if !row.value.is(&tag) {
                    return Err(Fault::Enrolment);
                }
                let after_reset = row.value.after_reset || holdings.person.is_some();
                let by = if after_reset { EnrolledBy::Reset } else { EnrolledBy::Invitation };
                given(by, Some(tag), after_reset)
            }
            Right::Recovery(code) => {
                if recovery::plain(code).is_none() {
                    return Err(Fault::Enrolment);
                }
                let guess = self.count_guess(&caller.owner(), &caller.credential, true, way, now).await?;
                let found = self.find_code(holdings, code, now).filter(|_| guess.taken);
                let found = found.filter(|found| found.shown.factor == Factor::Recovery).ok_or(Fault::Enrolment)?;
                let batch = self.recovery_told(found.batch, caller, &found.shown, holdings, way, now)?;
                let (by, guess) = (EnrolledBy::Recovery, Some(guess));
                Ok(Given { by, invitation: None, probation: true, batch, guess })
            }
            // Whoever had factors once, and has none now, needs an operator: else whoever has a token could wait for that.
            Right::Nothing
                if self.config().enrolment == crate::config::Enrolment::Open && holdings.person.is_none() =>
            {
                given(EnrolledBy::Open, None, true)
            }
            Right::Proof(_) | Right::Nothing => Err(Fault::Enrolment),
        }
    }

    /// Begins to enrol a factor.
    pub async fn begin_enrolment(
        &self,
        caller: &Caller,
        wanted: Wanted,
        right: Right<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<EnrolmentBegun, Fault> {
        let begun = self.enrolment_begun(caller, &wanted, right, way, now).await;
        let outcome = match &begun {
            Ok(_) => Outcome::Begun,
            Err(Fault::Store(_)) => Outcome::Unavailable,
            Err(_) => Outcome::Refused,
        };
        let owner = caller.owner();
        self.core.observer.ceremony(actor(&owner, way), Some(wanted.factor), Occasion::Enrol, outcome, now);
        begun
    }

    async fn enrolment_begun(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        right: Right<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<EnrolmentBegun, Fault> {
        let factor = wanted.factor;
        if !self.offers(factor) {
            return Err(Fault::Call("factors of this kind are not enrolled here"));
        }
        let label = label(&wanted.label, factor)?;
        let holdings = self.holdings(caller, now).await?;
        let given = self.given(caller, &holdings, right, way, now).await?;
        has_room(&holdings, factor)?;
        let id = random::id()?;
        let mut begun = EnrolmentBegun {
            id: id.clone(),
            expires_at: 0,
            otpauth: None,
            secret: None,
            qr_svg: None,
            qr_text: None,
            passkey: None,
            sent_to: None,
            number: None,
        };
        let Given { by, invitation, probation, mut batch, guess } = given;
        let state = match factor {
            Factor::Totp => {
                let config = self.config().totp.as_ref();
                let digits = config.map_or(6, |totp| totp.digits);
                let secret = totp::secret()?;
                let (url, typed) =
                    totp::otpauth(&secret, digits, config.map_or("", |totp| &totp.label), &caller.subject);
                begun.qr_svg = qr::svg(&url);
                begun.qr_text = qr::text(&url);
                (begun.otpauth, begun.secret) = (Some(url), Some(typed));
                EnrollingState::Totp { secret: Bytes(secret), digits }
            }
            Factor::Passkey => {
                let known: Vec<PasskeyRecord> = passkeys(&holdings).map(|(_, record)| record).collect();
                let party = self.passkeys.as_ref().ok_or(Fault::Enrolment)?;
                let person = passkey::Person { handle: handle(&holdings.key), name: &caller.subject };
                let (options, state) = party
                    .begin_enrolment(person, &known)
                    .map_err(|_| Fault::Call("a passkey cannot be enrolled for this person"))?;
                begun.passkey = Some(options);
                EnrollingState::Passkey(Box::new(state))
            }
            Factor::Email | Factor::Webhook | Factor::Push => {
                let said = self.sender(factor).and_then(|sent| sent.claim.as_ref());
                // Where the provider says the address, nobody else does.
                let address = match said {
                    Some(_) => caller.address(factor),
                    None => wanted.address.as_deref().map(str::trim),
                };
                let address = address.filter(|address| is_address(address));
                let address = address.ok_or(Fault::Call("no address to send to"))?.to_owned();
                if factor == Factor::Push {
                    let (asking, state, number) =
                        self.ask_device(batch, caller, ("", &address), None, way, now).await?;
                    batch = asking;
                    begun.number = Some(number);
                    EnrollingState::Push(state)
                } else {
                    let (sending, state) = self.send_code(batch, caller, (factor, "", &address), &id, way, now).await?;
                    batch = sending;
                    begun.sent_to = Some(shortened(&address));
                    EnrollingState::Sent { factor: factor.name().to_owned(), state }
                }
            }
            Factor::Password | Factor::Recovery => return Err(Fault::Enrolment),
        };
        let what = What::Enrolling(Enrolling { label, by, invitation, probation, era: holdings.era(), state });
        let (batch, expires_at) = self.add_ceremony(batch, caller, &id, what, now).await?;
        match self.commit_told(batch, now).await {
            Ok(()) => {}
            // The recovery code was used by somebody else at the same time.
            Err(StoreFault::Conflict) if guess.is_some() => return Err(Fault::Enrolment),
            Err(fault) => return Err(contended(fault)),
        }
        if let Some(guess) = &guess {
            self.guessed_right(guess, now).await;
        }
        Ok(EnrolmentBegun { expires_at, ..begun })
    }

    /// Confirms it, by the factor itself.
    pub async fn finish_enrolment(
        &self,
        caller: &Caller,
        id: &str,
        answered: Answered<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Enrolled, Fault> {
        let owner = caller.owner();
        let enrolled = self.enrolled(caller, id, answered, way, now).await;
        let (outcome, factor) = match &enrolled {
            Ok((_, factor)) => (Outcome::Proved, Some(*factor)),
            Err(Fault::Store(_)) => (Outcome::Unavailable, None),
            Err(_) => (Outcome::Refused, None),
        };
        self.core.observer.ceremony(actor(&owner, way), factor, Occasion::Enrol, outcome, now);
        let (enrolled, factor) = enrolled?;
        self.core.observer.change(actor(&owner, way), Change::Enrolled, Some(factor), "", now);
        self.is_at_home(&owner, way, now).await;
        Ok(enrolled)
    }

    async fn enrolled(
        &self,
        caller: &Caller,
        id: &str,
        answered: Answered<'_>,
        way: Way<'_>,
        now: Now,
    ) -> Result<(Enrolled, Factor), Fault> {
        let secs = now.unix_secs();
        for _ in 0..TRIES {
            let row = self.ceremony(caller, id, now).await?;
            let What::Enrolling(enrolling) = &row.value.what else { return Err(Fault::Proof) };
            let holdings = self.holdings(caller, now).await?;
            let (data, batch) = match (&enrolling.state, answered) {
                (EnrollingState::Totp { secret, digits }, Answered::Code(code)) => {
                    let typed: String = code.chars().filter(|c| !c.is_whitespace()).take(16).collect();
                    let skew = self.config().totp.as_ref().map_or(1, |totp| totp.skew);
                    let step = totp::step_of(&secret.0, *digits, skew, 0, &typed, secs);
                    let data = |last_step| FactorData::Totp { secret: secret.clone(), digits: *digits, last_step };
                    (step.map(data), Batch::new())
                }
                (EnrollingState::Passkey(state), Answered::Credential(response)) => {
                    let made = self.passkeys.as_ref().and_then(|party| party.finish_enrolment(state, response).ok());
                    let known = made.and_then(|record| serde_json::to_value(record).ok());
                    (known.map(|credential| FactorData::Passkey { credential }), Batch::new())
                }
                (EnrollingState::Sent { factor, state }, Answered::Code(code)) => {
                    let is_right = self.is_sent_code(caller, id, state, code.trim(), now);
                    let address = state.address.clone();
                    let data = match Factor::from_name(factor).filter(|_| is_right) {
                        Some(Factor::Email) => Some(FactorData::Email { address }),
                        Some(Factor::Webhook) => Some(FactorData::Webhook { address }),
                        Some(Factor::Password | Factor::Passkey | Factor::Totp | Factor::Push | Factor::Recovery)
                        | None => None,
                    };
                    (data, Batch::new())
                }
                (EnrollingState::Push(state), Answered::Approval) => {
                    match self.approval(Batch::new(), state, now).await {
                        Ok(Some(batch)) => (Some(FactorData::Push { device: state.device.clone() }), batch),
                        Ok(None) => return Err(Fault::Call("the approval has not come yet")),
                        Err(Fault::Proof) => (None, Batch::new()),
                        Err(fault) => return Err(fault),
                    }
                }
                (
                    EnrollingState::Totp { .. }
                    | EnrollingState::Passkey(_)
                    | EnrollingState::Sent { .. }
                    | EnrollingState::Push(_),
                    _,
                ) => return Err(Fault::Call("this is not what confirms the factor")),
            };
            let Some(data) = data else {
                self.wrong_answer(row, now).await?;
                return Err(Fault::Proof);
            };
            let enrolling = enrolling.clone();
            let batch = batch.delete(Table::Ceremonies, &row.key, row.version);
            let (batch, enrolled, kind) = self.add_factor(batch, caller, &holdings, enrolling, data, way, now).await?;
            match self.commit_told(batch, now).await {
                Ok(()) => return Ok((enrolled, kind)),
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(Fault::Enrolment)
    }

    /// Adds a factor to a commit, and what goes with it: the person's row, recovery codes with the first one, the end of the
    /// invitation, the notices.
    #[expect(clippy::too_many_arguments, reason = "all of them are what is enrolled")]
    async fn add_factor(
        &self,
        batch: Batch,
        caller: &Caller,
        holdings: &Holdings,
        enrolling: Enrolling,
        data: FactorData,
        way: Way<'_>,
        now: Now,
    ) -> Result<(Batch, Enrolled, Factor), Fault> {
        let (secs, kind) = (now.unix_secs(), data.kind());
        has_room(holdings, kind)?;
        // What gave the right must still hold: the invitation there, the factor not removed, nobody the first meanwhile.
        let mut batch = batch;
        if let Some(tag) = &enrolling.invitation {
            let row = self.store().get::<InvitationRow>(Table::Invitations, &holdings.key, now).await?;
            let row = row.filter(|row| row.value.is(tag)).ok_or(Fault::Enrolment)?;
            batch = batch.delete(Table::Invitations, &holdings.key, row.version);
        }
        let still_holds = match &enrolling.by {
            EnrolledBy::Factor(id) => holdings.stand_by(id, enrolling.era),
            EnrolledBy::Recovery => holdings.stand_by("", enrolling.era),
            EnrolledBy::Open => holdings.person.is_none(),
            EnrolledBy::Invitation | EnrolledBy::Reset => true,
        };
        if !still_holds {
            return Err(Fault::Enrolment);
        }
        let waits = enrolling.probation || enrolling.by.is_on_probation();
        let until = holdings.person.as_ref().map_or(0, |person| person.value.probation_until);
        // An account that was recovered may never have had a factor.
        let until = match &self.accounts {
            Some(accounts) => accounts.probation_until(&caller.owner(), now).await?.max(until),
            None => until,
        };
        let from = if waits { secs + self.config().probation.as_secs() } else { 0 }.max(until);
        let may_delete_from = Some(from).filter(|from| *from > secs);
        let factor = FactorRecord {
            id: random::id()?,
            label: enrolling.label,
            created_at: secs,
            enrolled_by: enrolling.by,
            may_delete_from,
            last_used: None,
            suspect: false,
            data,
        };
        let (id, shown_label) = (factor.id.clone(), factor.label.clone());
        let mail = self.mail_of(caller, holdings);
        let is_first = holdings.count() == 0;
        batch = match &holdings.person {
            Some(_) => holdings.update(batch, |person| {
                person.factors.push(factor);
                person.mail.clone_from(&mail);
            }),
            None => {
                let person = Person {
                    issuer: caller.issuer.clone(),
                    subject: caller.subject.clone(),
                    enrolled_at: secs,
                    factors: vec![factor],
                    mail: mail.clone(),
                    probation_until: until,
                    era: 0,
                };
                batch.insert(Table::Factors, &holdings.key, &person, None)
            }
        };
        let subject = Subject { issuer: caller.issuer.clone(), subject: caller.subject.clone(), enrolled_at: secs };
        if is_first {
            batch = batch.forget(Table::Subjects, &holdings.key).insert(Table::Subjects, &holdings.key, &subject, None);
        }
        let mut recovery_codes = Vec::new();
        if let Some(count) = self.config().recovery.filter(|_| is_first) {
            let (set, codes) = RecoverySet::make(self.store(), &holdings.key, count, may_delete_from, secs)?;
            let before = holdings.recovery.as_ref().map_or(0, |row| row.version);
            batch = batch.update(Table::RecoveryCodes, &holdings.key, before, &set, None);
            recovery_codes = codes;
        }
        let notice = Notice {
            kind: "factor_enrolled",
            subject: "A second factor was added to your account",
            what: format!("The factor “{shown_label}” ({}) was added to your account.", kind.name()),
            data: json!({"factor": kind.name(), "id": id, "label": shown_label, "may_delete_from": may_delete_from}),
            way: Some(way),
        };
        let batch = self.notices(batch, &caller.owner(), mail.as_deref(), &notice, now)?;
        Ok((batch, Enrolled { id, may_delete_from, recovery_codes }, kind))
    }

    /// The person behind a caller, if they ever had a factor.
    pub async fn person(&self, caller: &Caller, now: Now) -> Result<Option<Person>, Fault> {
        Ok(self.holdings(caller, now).await?.person.map(|row| row.value))
    }

    /// Gives a factor another label.
    pub async fn rename(
        &self,
        caller: &Caller,
        factor_id: &str,
        new: &str,
        proof: &Proof,
        way: Way<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let holdings = self.holdings(caller, now).await?;
        if !is_good(proof, &holdings, now) {
            return Err(Fault::Enrolment);
        }
        let person = holdings.person.as_ref().map(|row| &row.value);
        let kind = person.and_then(|person| person.factor(factor_id)).ok_or(Fault::NotFound)?.kind();
        let new = label(new, kind)?;
        let batch = holdings.update(Batch::new(), |person| {
            if let Some(factor) = person.factors.iter_mut().find(|factor| factor.id == factor_id) {
                factor.label.clone_from(&new);
            }
        });
        let notice = Notice {
            kind: "factor_renamed",
            subject: "A second factor of yours was renamed",
            what: format!("A factor of your account ({}) is called “{new}” now.", kind.name()),
            data: json!({"factor": kind.name(), "id": factor_id, "label": new}),
            way: Some(way),
        };
        let batch = self.notices(batch, &caller.owner(), self.mail_of(caller, &holdings).as_deref(), &notice, now)?;
        self.commit_told(batch, now).await.map_err(contended)?;
        self.core.observer.change(actor(&caller.owner(), way), Change::Renamed, Some(kind), "", now);
        Ok(())
    }

    /// Removes a factor; how many are left. Elevations of the person's end with it. Without any factor only an invitation
    /// enrols one again, and the recovery codes go with the last one.
    pub async fn remove(
        &self,
        caller: &Caller,
        factor_id: &str,
        proof: &Proof,
        way: Way<'_>,
        now: Now,
    ) -> Result<usize, Fault> {
        let holdings = self.holdings(caller, now).await?;
        if !is_good(proof, &holdings, now) {
            return Err(Fault::Enrolment);
        }
        let person = holdings.person.as_ref().map(|row| &row.value);
        let factor = person.and_then(|person| person.factor(factor_id)).ok_or(Fault::NotFound)?;
        let (kind, old) = (factor.kind(), factor.label.clone());
        let left = holdings.count().saturating_sub(1);
        let mut batch = holdings.update(Batch::new(), |person| person.factors.retain(|factor| factor.id != factor_id));
        if left == 0 {
            batch = batch.forget(Table::RecoveryCodes, &holdings.key).forget(Table::Subjects, &holdings.key);
        }
        let notice = Notice {
            kind: "factor_removed",
            subject: "A second factor was removed from your account",
            what: format!("The factor “{old}” ({}) was removed from your account. {left} are left.", kind.name()),
            data: json!({"factor": kind.name(), "id": factor_id, "label": old, "left": left}),
            way: Some(way),
        };
        let batch = self.notices(batch, &caller.owner(), self.mail_of(caller, &holdings).as_deref(), &notice, now)?;
        let batch = self.end_elevations(batch, &holdings.key, now).await?;
        self.commit_told(batch, now).await.map_err(contended)?;
        self.elevations_ended(&holdings.key);
        self.core.observer.change(actor(&caller.owner(), way), Change::Removed, Some(kind), "", now);
        Ok(left)
    }

    /// Makes a new set of recovery codes; the old ones are good for nothing any more.
    pub async fn new_recovery_codes(
        &self,
        caller: &Caller,
        proof: &Proof,
        way: Way<'_>,
        now: Now,
    ) -> Result<Vec<String>, Fault> {
        let count = self.config().recovery.ok_or(Fault::Call("there are no recovery codes here"))?;
        let holdings = self.holdings(caller, now).await?;
        // A recovery code makes no others: whoever found one would have ten.
        if !is_good(proof, &holdings, now) || proof.factor_id.is_empty() {
            return Err(Fault::Enrolment);
        }
        let secs = now.unix_secs();
        let from = (!proof.may_delete).then(|| secs + self.config().probation.as_secs());
        let (set, codes) = RecoverySet::make(self.store(), &holdings.key, count, from, secs)?;
        let before = holdings.recovery.as_ref().map_or(0, |row| row.version);
        let batch = Batch::new().update(Table::RecoveryCodes, &holdings.key, before, &set, None);
        let notice = Notice {
            kind: "recovery_codes_made",
            subject: "New recovery codes were made for your account",
            what: "New recovery codes were made for your account. The old ones are good for nothing any more."
                .to_owned(),
            data: json!({"factor": "recovery", "count": codes.len()}),
            way: Some(way),
        };
        let batch = self.notices(batch, &caller.owner(), self.mail_of(caller, &holdings).as_deref(), &notice, now)?;
        self.commit_told(batch, now).await.map_err(contended)?;
        let (owner, kind) = (caller.owner(), Some(Factor::Recovery));
        self.core.observer.change(actor(&owner, way), Change::RecoveryCodes, kind, "", now);
        Ok(codes)
    }

    /// How many recovery codes are left.
    pub async fn recovery_codes_left(&self, caller: &Caller, now: Now) -> Result<usize, Fault> {
        Ok(self.holdings(caller, now).await?.recovery.map_or(0, |row| row.value.left()))
    }
}

fn has_room(holdings: &Holdings, factor: Factor) -> Result<(), Fault> {
    if holdings.count() >= MOST_FACTORS {
        return Err(Fault::Call("a person has at most 20 factors"));
    }
    if factor == Factor::Totp && holdings.of(Factor::Totp).count() >= MOST_APPS {
        return Err(Fault::Call("a person has at most two authenticator apps"));
    }
    Ok(())
}
