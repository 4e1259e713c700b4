//! Ceremonies: a challenge that was given to one holder, kept on the server, for five minutes, used once.
//!
//! ```text
//!   begin ──> asked ── wrong, fewer than LOOKS ──> asked
//!               │ ── wrong for the last time, or five minutes ──> gone
//!               └── right ──> gone, and what it was for is done in the same commit
//!                         └─> proved (grant, manage): to be used once, by the same holder, until it expires
//! ```
//!
//! The key of a ceremony's row is made of its holder and its number: whoever knows the number alone finds nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Authority, Caller, Change, Fault, Occasion, Outcome, Proof, Way,
    caller::actor,
    elevation::{Elevation, of_person},
    enrol::Enrolling,
    found::{Found, Holdings},
    guessing::Guess,
    passkey::ProofState,
    proof::FactorShown,
    random, recovery,
    sent::{PushState, SentState},
    told::shortened,
};
use crate::{
    clock::Now,
    policy::Factor,
    store::{Batch, StoreFault, Table, Versioned},
};

/// How long a ceremony lives, in seconds.
pub(super) const LIFETIME_SECS: u64 = 300;
/// How often a ceremony may be answered wrongly.
pub(super) const LOOKS: u32 = 5;
/// How often a commit is tried again that others were before.
const TRIES: usize = 4;
/// How many ceremonies of one holder may be under way; a further one takes the place of the oldest.
pub(super) const MOST_PENDING: usize = 10;
/// How many are read: those that were begun at one moment may be more, until the next one is begun.
pub(super) const READ_PENDING: usize = 8 * MOST_PENDING;

/// What a proof is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "purpose")]
pub enum Purpose {
    /// A level of proof for the holder's credential.
    StepUp {
        /// Its name.
        level: String,
    },
    /// A grant, which is then asked for at the token endpoint.
    Grant {
        /// The name of the level.
        level: String,
    },
    /// A change of factors.
    Manage,
    /// An account that signs in or renews its session.
    SignIn,
}

/// What a client shows.
#[derive(Clone, Copy)]
pub enum Answered<'a> {
    /// A code.
    Code(&'a str),
    /// A passkey's response, JSON.
    Credential(&'a [u8]),
    /// Nothing: it asks whether the approval on the other device has come.
    Approval,
}

/// A ceremony that was begun.
#[derive(Clone, Serialize)]
pub struct Begun {
    /// Its number.
    pub id: String,
    /// When it ends, in seconds since the epoch.
    pub expires_at: u64,
    /// The factors that will do for what it is for, of those that the person has.
    #[serde(serialize_with = "names")]
    pub factors: Vec<Factor>,
    /// WebAuthn's options for `navigator.credentials.get`, where a passkey will do.
    pub passkey: Option<Value>,
    /// Where a code was sent, shortened.
    pub sent_to: Option<String>,
    /// The number to choose on the other device.
    pub number: Option<String>,
}

fn names<S: serde::Serializer>(factors: &[Factor], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(factors.iter().map(|factor| factor.name()))
}

/// What is to be done with a proof, in the commit that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The holder's credential is elevated.
    Elevate,
    /// A code is made that the holder must present: at the end of a page.
    Handover,
    /// The ceremony is kept as proved, to be used once, by its number.
    Keep,
    /// Nothing: whoever asked goes on with the proof.
    Nothing,
}

/// What became of a ceremony.
#[derive(Clone)]
pub enum Finished {
    /// The other device has not answered yet.
    Pending,
    /// It was proved.
    Proved {
        /// What was shown.
        proof: Proof,
        /// Until when the credential is elevated, in seconds since the epoch, where that was the end.
        elevated_until: Option<u64>,
        /// The code that the holder is to present, where that was the end.
        handover: Option<String>,
    },
}

/// The code is a secret.
impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pending => f.write_str("Pending"),
            Self::Proved { proof, elevated_until, .. } => {
                let mut shown = f.debug_struct("Proved");
                shown.field("proof", proof).field("elevated_until", elevated_until).finish_non_exhaustive()
            }
        }
    }
}

/// The row of a ceremony: a row of `Table::Ceremonies`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ceremony {
    pub(super) id: String,
    pub(super) made_at: u64,
    pub(super) looks: u32,
    pub(super) what: What,
}

/// What a ceremony is about.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// A factor is to be shown.
    Asked { purpose: Purpose, asked: Asked },
    /// It was shown, and waits to be used.
    Proved { purpose: Purpose, proof: Proof },
    /// A factor is being enrolled.
    Enrolling(Enrolling),
}

/// What a ceremony waits for.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    /// A code of an app or for recovery, or a passkey, where there is one.
    Any(Option<ProofState>),
    /// The code that was sent.
    Sent { factor: String, state: SentState },
    /// An approval.
    Push(PushState),
}

impl Purpose {
    /// What it is called in records.
    pub fn occasion(&self) -> Occasion {
        match self {
            Self::StepUp { .. } => Occasion::StepUp,
            Self::Grant { .. } => Occasion::Grant,
            Self::Manage => Occasion::Manage,
            Self::SignIn => Occasion::SignIn,
        }
    }

    fn level(&self) -> Option<&str> {
        match self {
            Self::StepUp { level } | Self::Grant { level } => Some(level),
            Self::Manage | Self::SignIn => None,
        }
    }
}

/// What was done with a proof in its commit, to be finished once that is durable.
struct Ended {
    elevation: Option<Elevation>,
    handover: Option<String>,
}

impl Authority {
    /// What the rows of a holder's ceremonies begin with: first of all, whose they are.
    pub(super) fn ceremony_prefix(&self, caller: &Caller) -> String {
        let store = self.store();
        format!("{}{}/", of_person(&caller.owner().key(store)), store.index("ceremonies", &[&caller.holder]))
    }

    /// Adds a ceremony's row to a commit; where there are too many of the holder's, the oldest goes.
    pub(super) async fn add_ceremony(
        &self,
        batch: Batch,
        caller: &Caller,
        id: &str,
        what: What,
        now: Now,
    ) -> Result<(Batch, u64), Fault> {
        let (prefix, secs) = (self.ceremony_prefix(caller), now.unix_secs());
        let page = self.store().readable::<Ceremony>(Table::Ceremonies, &prefix, None, READ_PENDING, now).await?;
        // What nobody can read goes first: it proves nothing, and would stand in the way.
        let mut pending: Vec<(u64, String)> = page.unreadable.into_iter().map(|key| (0, key)).collect();
        pending.extend(page.rows.into_iter().map(|row| (row.value.made_at, row.key)));
        pending.sort_unstable();
        let over = (pending.len() + 1).saturating_sub(MOST_PENDING);
        let batch = pending.iter().take(over).fold(batch, |batch, (_, key)| batch.forget(Table::Ceremonies, key));
        let expires_at = secs + LIFETIME_SECS;
        let row = Ceremony { id: id.to_owned(), made_at: secs, looks: 0, what };
        Ok((batch.insert(Table::Ceremonies, &format!("{prefix}{id}"), &row, Some(expires_at)), expires_at))
    }

    /// A ceremony of this caller's. Another's is not found, whatever its number.
    pub(super) async fn ceremony(&self, caller: &Caller, id: &str, now: Now) -> Result<Versioned<Ceremony>, Fault> {
        let is_number = id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !is_number {
            return Err(Fault::Proof);
        }
        let key = format!("{}{id}", self.ceremony_prefix(caller));
        self.store().get(Table::Ceremonies, &key, now).await?.ok_or(Fault::Proof)
    }

    /// Counts a wrong answer; after the last one the ceremony is gone. A conflict means that another answer was counted.
    pub(super) async fn wrong_answer(&self, row: Versioned<Ceremony>, now: Now) -> Result<(), Fault> {
        let mut ceremony = row.value;
        ceremony.looks += 1;
        let batch = if ceremony.looks >= LOOKS {
            Batch::new().delete(Table::Ceremonies, &row.key, row.version)
        } else {
            Batch::new().update(Table::Ceremonies, &row.key, row.version, &ceremony, row.expires_at)
        };
        match self.store().commit(batch, now).await {
            Ok(()) | Err(StoreFault::Conflict) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Begins a ceremony. `factor` says which one the person wants to show; without it whatever needs nothing to be sent.
    ///
    /// Somebody without factors gets a ceremony like anybody else, which nothing proves.
    pub async fn begin(
        &self,
        caller: &Caller,
        purpose: Purpose,
        factor: Option<Factor>,
        way: Way<'_>,
        now: Now,
    ) -> Result<Begun, Fault> {
        if purpose.level().is_some_and(|level| self.levels().get(level).is_none()) {
            return Err(Fault::Call("no route asks for a level of this name"));
        }
        let holdings = self.holdings(caller, now).await?;
        let mut factors = self.usable(&holdings);
        if let Some(level) = purpose.level().and_then(|level| self.levels().get(level)) {
            factors.retain(|factor| self.would_reach(caller, *factor, level, now));
        }
        if factor.is_some_and(|factor| !factors.contains(&factor)) {
            return Err(Fault::Call("no factor of this kind would do"));
        }
        let id = random::id()?;
        let mut begun = Begun { id: id.clone(), expires_at: 0, factors, passkey: None, sent_to: None, number: None };
        let mut batch = Batch::new();
        let asked = match factor {
            Some(factor @ (Factor::Email | Factor::Webhook)) => {
                let (factor_id, address) = self.address_of(caller, &holdings, factor).ok_or(Fault::Proof)?;
                let (sending, state) =
                    self.send_code(batch, caller, (factor, &factor_id, &address), &id, way, now).await?;
                batch = sending;
                begun.sent_to = Some(shortened(&address));
                Asked::Sent { factor: factor.name().to_owned(), state }
            }
            Some(Factor::Push) => {
                let (factor_id, device) = self.address_of(caller, &holdings, Factor::Push).ok_or(Fault::Proof)?;
                let (asking, state, number) =
                    self.ask_device(batch, caller, (&factor_id, &device), Some(&purpose), way, now).await?;
                batch = asking;
                begun.number = Some(number);
                Asked::Push(state)
            }
            Some(Factor::Totp | Factor::Recovery) => Asked::Any(None),
            Some(Factor::Passkey) | None => match self.ask_passkey(&holdings) {
                Some((options, state)) if begun.factors.contains(&Factor::Passkey) => {
                    begun.passkey = Some(options);
                    Asked::Any(Some(state))
                }
                Some(_) | None => Asked::Any(None),
            },
            Some(Factor::Password) => return Err(Fault::Call("a password is not shown here")),
        };
        let occasion = purpose.occasion();
        let what = What::Asked { purpose, asked };
        let (batch, expires_at) = self.add_ceremony(batch, caller, &id, what, now).await?;
        self.commit_told(batch, now).await.map_err(contended)?;
        if let Some(factor @ (Factor::Email | Factor::Webhook)) = factor {
            self.core.observer.sent(factor, true);
        }
        self.core.observer.ceremony(actor(&caller.owner(), way), factor, occasion, Outcome::Begun, now);
        Ok(Begun { expires_at, ..begun })
    }

    /// Looks at what is shown in a ceremony of this caller's.
    pub async fn finish(
        &self,
        caller: &Caller,
        id: &str,
        answered: Answered<'_>,
        end: End,
        way: Way<'_>,
        now: Now,
    ) -> Result<Finished, Fault> {
        let owner = caller.owner();
        // Counted before anything is looked at, the ceremony included.
        let guess = match answered {
            Answered::Code(code) => {
                let long = recovery::plain(code).is_some();
                Some(self.count_guess(&owner, &caller.credential, long, way, now).await?)
            }
            Answered::Credential(_) | Answered::Approval => None,
        };
        let mut occasion = Occasion::StepUp;
        let looked = self.look(caller, id, answered, end, (guess.as_ref(), &mut occasion), way, now).await;
        let (outcome, factor) = match &looked {
            Ok(Some((shown, ..))) => (Outcome::Proved, Some(shown.factor)),
            Ok(None) => return Ok(Finished::Pending),
            Err(Fault::Store(_)) => (Outcome::Unavailable, None),
            Err(_) if guess.as_ref().is_some_and(|guess| !guess.taken) => (Outcome::Locked, None),
            Err(_) => (Outcome::Refused, None),
        };
        self.core.observer.ceremony(actor(&owner, way), factor, occasion, outcome, now);
        let Some((shown, proof, ended)) = looked? else { return Ok(Finished::Pending) };
        match &guess {
            Some(guess) => self.guessed_right(guess, now).await,
            None if shown.factor == Factor::Passkey => self.is_at_home(&owner, way, now).await,
            None => {}
        }
        let elevated_until = match ended.elevation {
            Some(row) => Some(self.elevated_now(caller, row, way, now).await?),
            None => None,
        };
        Ok(Finished::Proved { proof, elevated_until, handover: ended.handover })
    }

    /// Looks, and in one commit uses up what was shown, ends the ceremony and does what it was for.
    #[expect(clippy::too_many_arguments, reason = "all of them are what is looked at")]
    async fn look(
        &self,
        caller: &Caller,
        id: &str,
        answered: Answered<'_>,
        end: End,
        (guess, occasion): (Option<&Guess>, &mut Occasion),
        way: Way<'_>,
        now: Now,
    ) -> Result<Option<(FactorShown, Proof, Ended)>, Fault> {
        for _ in 0..TRIES {
            let row = self.ceremony(caller, id, now).await?;
            let What::Asked { purpose, asked } = &row.value.what else { return Err(Fault::Proof) };
            *occasion = purpose.occasion();
            let holdings = self.holdings(caller, now).await?;
            let found = match (asked, answered) {
                (Asked::Any(_), Answered::Code(code)) => self.find_code(&holdings, code, now),
                (Asked::Any(Some(state)), Answered::Credential(response)) => {
                    self.find_passkey(caller, &holdings, state, response, way, now).await?
                }
                (Asked::Sent { factor, state }, Answered::Code(code)) => {
                    let is_right = self.is_sent_code(caller, id, state, code, now);
                    let factor = Factor::from_name(factor).filter(|_| is_right);
                    factor.and_then(|factor| self.found_address(&holdings, factor, &state.factor_id, now))
                }
                (Asked::Push(state), Answered::Approval) => match self.approval(Batch::new(), state, now).await {
                    Ok(None) => return Ok(None),
                    Ok(Some(batch)) => self
                        .found_address(&holdings, Factor::Push, &state.factor_id, now)
                        .map(|found| Found { batch, ..found }),
                    Err(Fault::Proof) => None,
                    Err(fault) => return Err(fault),
                },
                (Asked::Any(_) | Asked::Sent { .. } | Asked::Push(_), _) => {
                    return Err(Fault::Call("this is not what the challenge asked for"));
                }
            };
            let is_looked_at = guess.is_none_or(|guess| guess.taken);
            let Some(Found { shown, batch }) = found.filter(|_| is_looked_at) else {
                self.wrong_answer(row, now).await?;
                return Err(Fault::Proof);
            };
            let proof = Proof::new(caller, &shown, holdings.era(), now);
            // What would not reach the level is not used up for it.
            let level = purpose.level().and_then(|level| self.levels().get(level));
            if level.is_some_and(|level| !self.reaches(caller, &proof, level, now)) {
                self.wrong_answer(row, now).await?;
                return Err(Fault::Proof);
            }
            let batch = self.recovery_told(batch, caller, &shown, &holdings, way, now)?;
            let (batch, ended) = self.end(batch, caller, (&row, purpose), (end, &proof), now)?;
            match self.commit_told(batch, now).await {
                Ok(()) => {
                    if shown.factor == Factor::Recovery {
                        let change = Change::RecoveryUsed;
                        self.core.observer.change(actor(&caller.owner(), way), change, Some(shown.factor), "", now);
                    }
                    return Ok(Some((shown, proof, ended)));
                }
                // Somebody used the factor, or answered this ceremony, at the same time: look again at what there is now.
                Err(StoreFault::Conflict) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(Fault::Proof)
    }

    fn end(
        &self,
        batch: Batch,
        caller: &Caller,
        (ceremony, purpose): (&Versioned<Ceremony>, &Purpose),
        (end, proof): (End, &Proof),
        now: Now,
    ) -> Result<(Batch, Ended), Fault> {
        let batch = match end {
            End::Keep => batch,
            End::Elevate | End::Handover | End::Nothing => {
                batch.delete(Table::Ceremonies, &ceremony.key, ceremony.version)
            }
        };
        let nothing = Ended { elevation: None, handover: None };
        // A challenge for a grant elevates nothing, at once or by a code: its holder chose the narrower way.
        let level = || match purpose {
            Purpose::StepUp { level } => Ok(level),
            Purpose::Grant { .. } | Purpose::Manage | Purpose::SignIn => {
                Err(Fault::Call("this challenge is not for a level"))
            }
        };
        match end {
            End::Nothing => Ok((batch, nothing)),
            End::Elevate => {
                let (batch, row) = self.elevate(batch, caller, level()?, proof, now);
                Ok((batch, Ended { elevation: Some(row), ..nothing }))
            }
            End::Handover => {
                let (batch, code) = self.handover(batch, caller, level()?, proof, now)?;
                Ok((batch, Ended { handover: Some(code), ..nothing }))
            }
            End::Keep => {
                let what = What::Proved { purpose: purpose.clone(), proof: proof.clone() };
                let row = Ceremony { made_at: now.unix_secs(), looks: 0, what, ..ceremony.value.clone() };
                let expires_at = Some(now.unix_secs() + LIFETIME_SECS);
                Ok((batch.update(Table::Ceremonies, &ceremony.key, ceremony.version, &row, expires_at), nothing))
            }
        }
    }

    /// Uses up a ceremony that was kept as proved, for what it was for.
    pub async fn redeem(&self, caller: &Caller, id: &str, purpose: &Purpose, now: Now) -> Result<Proof, Fault> {
        let row = self.ceremony(caller, id, now).await?;
        let What::Proved { purpose: proved, proof } = row.value.what else { return Err(Fault::Proof) };
        let stands = self.holdings(caller, now).await?.stand_by(&proof.factor_id, proof.era);
        if proved != *purpose || !stands {
            return Err(Fault::Proof);
        }
        match self.store().commit(Batch::new().delete(Table::Ceremonies, &row.key, row.version), now).await {
            Ok(()) => Ok(proof),
            Err(StoreFault::Conflict) => Err(Fault::Proof),
            Err(fault) => Err(fault.into()),
        }
    }

    /// What a ceremony that waits is for; `None`: there is none of this caller's, or it waits for nothing.
    pub(super) async fn asked_for(&self, caller: &Caller, id: &str, now: Now) -> Result<Option<Purpose>, Fault> {
        match self.ceremony(caller, id, now).await {
            Ok(row) => match row.value.what {
                What::Asked { purpose, .. } => Ok(Some(purpose)),
                What::Proved { .. } | What::Enrolling(_) => Ok(None),
            },
            Err(Fault::Proof) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// What a ceremony that was kept as proved is for.
    pub(super) async fn proved_for(&self, caller: &Caller, id: &str, now: Now) -> Result<Purpose, Fault> {
        match self.ceremony(caller, id, now).await?.value.what {
            What::Proved { purpose, .. } => Ok(purpose),
            What::Asked { .. } | What::Enrolling(_) => Err(Fault::Proof),
        }
    }

    /// Whether the factors that somebody holds would do, as far as can be known before one is shown.
    fn would_reach(&self, caller: &Caller, factor: Factor, level: &crate::policy::Requirement, now: Now) -> bool {
        let mut shown = FactorShown::of(factor, "", true);
        if factor == Factor::Passkey && self.config().passkey.as_ref().is_some_and(|passkey| passkey.user_verification)
        {
            shown.categories = shown.categories.with(crate::policy::Category::Knowledge);
        }
        self.reaches(caller, &Proof::new(caller, &shown, 0, now), level, now)
    }

    /// What somebody holds, of what the configuration takes.
    fn usable(&self, holdings: &Holdings) -> Vec<Factor> {
        Factor::ALL.into_iter().filter(|factor| self.holds(holdings, *factor)).collect()
    }
}

/// A commit that others were before, for which nothing can be looked at again: the caller repeats the call.
pub(super) fn contended(fault: StoreFault) -> Fault {
    match fault {
        StoreFault::Conflict => Fault::Store(StoreFault::Busy),
        StoreFault::Unavailable(_) | StoreFault::Unreadable(_) | StoreFault::Busy => fault.into(),
    }
}
