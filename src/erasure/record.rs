//! A deletion as it is kept: one row, sealed. What names the person is in one place, [`Personal`], so that it can go at the end; all
//! the rest may stay for as long as the evidence does.

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::config::{ClaimPath, Terms};
pub use crate::telemetry::audit::Place;

/// The form of the row. A row of a later form is not guessed at.
pub const FORM: u8 = 1;

/// A deletion.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The form of the row.
    pub v: u8,
    /// Its number: 128 random bits in 32 hexadecimal digits.
    pub id: Box<str>,
    /// The plan's name.
    pub plan: Box<str>,
    /// The hash of the terms that it is made under.
    pub terms: Box<str>,
    /// The operation that asked for it, as the plan writes it.
    pub operation: Box<str>,
    /// Whose data it is about; it names nobody.
    pub whose: Whose,
    /// Who asked for it.
    pub requester: Party,
    /// The keyed hash of who asked for it: issuer and subject of the token.
    pub requester_key: Box<str>,
    /// The issuer of the token that asked for it.
    pub requester_issuer: Box<str>,
    /// What they proved.
    pub proof: Shown,
    /// What names the person; `None` once it was taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<Personal>,
    /// Whether nobody knows which subject the person's tokens have: what the gateway keeps under it stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nameless: bool,
    /// When it was asked for; all times are in seconds since the epoch.
    pub requested_at: u64,
    /// Where it is.
    pub state: State,
    /// What keeps it from going on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// Whether people were reminded that the grace ends.
    pub reminded: bool,
    /// When it began to be carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<u64>,
    /// When the last step was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<u64>,
    /// When all that counts had been seen to be gone for the first time: tokens from before are refused from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<u64>,
    /// When it was erased or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// What became of each step of the terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepState>,
    /// What became of the gateway's own data, where that goes, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_data: Option<StepState>,
    /// What became of each probe of the terms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeState>,
    /// Who is at work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// What happened to it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// What is known of a deletion when it is asked for; the fields are those of [`Erasure`].
pub struct ErasureRequest {
    /// Its number.
    pub id: Box<str>,
    /// The plan's name.
    pub plan: Box<str>,
    /// The hash of the terms.
    pub terms: Box<str>,
    /// The operation.
    pub operation: Box<str>,
    /// Whose data it is about.
    pub whose: Whose,
    /// Who asks for it.
    pub requester: Party,
    /// The keyed hash of who asks.
    pub requester_key: Box<str>,
    /// The issuer of the token.
    pub requester_issuer: Box<str>,
    /// What they proved.
    pub proof: Shown,
    /// What names the person.
    pub personal: Personal,
    /// Whether it is unknown which subject tokens of the person have.
    pub nameless: bool,
    /// When it is asked for.
    pub requested_at: u64,
}

impl From<ErasureRequest> for Erasure {
    /// The record before anything has happened: `life::begin_with` is what happens first.
    fn from(asked: ErasureRequest) -> Self {
        Self {
            v: FORM,
            id: asked.id,
            plan: asked.plan,
            terms: asked.terms,
            operation: asked.operation,
            whose: asked.whose,
            requester: asked.requester,
            requester_key: asked.requester_key,
            requester_issuer: asked.requester_issuer,
            proof: asked.proof,
            personal: Some(asked.personal),
            nameless: asked.nameless,
            requested_at: asked.requested_at,
            state: State::Held { until: 0 },
            holds: Vec::new(),
            reminded: false,
            begun_at: None,
            done_at: None,
            gone_at: None,
            ended_at: None,
            steps: Vec::new(),
            own_data: None,
            probes: Vec::new(),
            lease: None,
            events: Vec::new(),
        }
    }
}

impl fmt::Debug for Erasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Erasure")
            .field("id", &self.id)
            .field("plan", &self.plan)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Whose data a deletion is about, without naming them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whose {
    /// Who vouches for them: the issuer's identifier.
    pub issuer_url: Box<str>,
    /// The claim that they are known by.
    pub claim: Selector,
    /// The keyed hash of both and the claim's value: the key of their row.
    pub key: Box<str>,
    /// Whether they asked themselves.
    pub own: bool,
}

/// The claim that a person is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// The token's subject, wherever the issuer has it.
    Subject,
    /// A member of the claims object.
    Name(Box<str>),
    /// A JSON pointer into the claims object.
    Pointer(Box<str>),
}

impl Selector {
    /// The selector of a plan.
    pub fn of(owner: Option<&ClaimPath>) -> Self {
        match owner {
            None => Self::Subject,
            Some(ClaimPath::Name(name)) => Self::Name((&**name).into()),
            Some(ClaimPath::Pointer(pointer)) => Self::Pointer((&**pointer).into()),
        }
    }

    /// Whether it is the subject of the token, whatever it is called.
    pub fn is_subject(&self) -> bool {
        match self {
            Self::Subject => true,
            Self::Name(name) => &**name == "sub",
            Self::Pointer(pointer) => &**pointer == "/sub",
        }
    }

    /// Two words that tell it from any other, for hashing.
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Subject => ("subject", ""),
            Self::Name(name) => ("name", name),
            Self::Pointer(pointer) => ("pointer", pointer),
        }
    }
}

/// What names the person: it goes when everything else of them is gone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    /// The person, as the API and the claim name them.
    pub subject: Box<str>,
    /// Values for templates by their names there: `path.tenant`, `claims./email`, `captured.customer`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<Box<str>, Box<str>>,
    /// The subject of the person's tokens, which need not be what the claim says: known where they asked themself, or a lookup said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_subject: Option<Box<str>>,
    /// The path that is theirs, `/accounts/42`: in the audit log it names them, whoever asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<Box<str>>,
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(…)")
    }
}

/// Who did something.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The data's subject, with a token of theirs.
    Owner,
    /// Somebody else, with a token.
    Caller {
        /// The issuer's identifier.
        issuer_url: Box<str>,
        /// The subject there.
        subject: Box<str>,
    },
    /// An operator.
    Operator {
        /// The name they gave.
        name: Box<str>,
    },
    /// Whoever had the link of a notice.
    Link,
    /// The gateway.
    Gateway,
}

impl Party {
    /// What kind of party it is, in one word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Caller { .. } => "caller",
            Self::Operator { .. } => "operator",
            Self::Link => "link",
            Self::Gateway => "gateway",
        }
    }
}

/// Names are not for logs.
impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// What whoever asked had proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The authentication context class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<Box<str>>,
    /// Methods (RFC 8176).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<Box<str>>,
    /// Factors that were shown to the gateway's own authority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<Box<str>>,
    /// How old the authentication was, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_secs: Option<u64>,
    /// The number of the grant that was used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Box<str>>,
    /// The number of the audit record of the request (`X-Request-Id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Box<str>>,
}

/// Where a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for.
    Held {
        /// When it begins at the earliest.
        until: u64,
    },
    /// Probes look, and steps are sent; until the first of these it can be cancelled.
    CarryingOut,
    /// All steps are done; it is looked whether the data is gone.
    Verifying,
    /// All is gone; the person is taken out of what is left here.
    Scrubbing,
    /// For good.
    Erased,
    /// Nothing that erases was ever sent.
    Cancelled,
}

impl State {
    /// Its name, in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::CarryingOut => "carrying_out",
            Self::Verifying => "verifying",
            Self::Scrubbing => "scrubbing",
            Self::Erased => "erased",
            Self::Cancelled => "cancelled",
        }
    }

    /// Every name.
    pub const NAMES: [&'static str; 6] = ["held", "carrying_out", "verifying", "scrubbing", "erased", "cancelled"];

    /// Whether nothing will ever change in it.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Erased | Self::Cancelled => true,
            Self::Held { .. } | Self::CarryingOut | Self::Verifying | Self::Scrubbing => false,
        }
    }
}

/// Something that keeps a deletion from going on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What.
    pub kind: HoldKind,
    /// By whom.
    pub by: Party,
    /// Since when.
    pub at: u64,
    /// Why, in an operator's words; taken out in the end.
    pub reason: Box<str>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What kind of hold it is. There is one of each kind at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// A second person has not approved it yet.
    Approval,
    /// The law wants the data kept.
    Legal,
    /// Too many deletions were asked for at once.
    Breaker,
    /// Somebody says that it was not them who asked.
    Dispute,
}

impl HoldKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Approval, Self::Legal, Self::Breaker, Self::Dispute];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Legal => "legal",
            Self::Breaker => "breaker",
            Self::Dispute => "dispute",
        }
    }

    /// The kind with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    /// How often it was sent.
    pub attempts: u32,
    /// When it was first sent, or first again after a person had it retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<u64>,
    /// When it may be sent.
    pub next_at: u64,
    /// The last status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What became of it.
    pub outcome: Outcome,
    /// How often a person had it done again: each time is a request of its own, with a key of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub again: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl StepState {
    /// One that may be sent from then on.
    pub const fn waiting(next_at: u64) -> Self {
        Self { attempts: 0, first_at: None, next_at, status: None, outcome: Outcome::Waiting, again: 0 }
    }

    /// The same step, once more, because a person wants it. An answer that a service keeps by the key of before is none to this.
    #[must_use]
    pub const fn once_more(&self, next_at: u64) -> Self {
        Self { attempts: self.attempts, again: self.again.saturating_add(1), ..Self::waiting(next_at) }
    }

    /// Whether nothing is left to do.
    pub const fn is_done(&self) -> bool {
        match self.outcome {
            Outcome::Done { .. } | Outcome::Accepted { .. } => true,
            Outcome::Waiting | Outcome::Sent | Outcome::Parked { .. } => false,
        }
    }
}

/// What became of the last attempt at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is to be sent.
    Waiting,
    /// It was sent, and the answer is not known yet, or never will be.
    Sent,
    /// The upstream did it.
    Done {
        /// Its answer.
        status: u16,
        /// When.
        at: u64,
    },
    /// A person says that it is done.
    Accepted {
        /// When.
        at: u64,
    },
    /// It waits for a person.
    Parked {
        /// Why.
        why: Why,
        /// Since when.
        at: u64,
    },
}

/// Why something waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The upstream answered with a status that time does not mend.
    Refused,
    /// It failed for longer than it is tried.
    GaveUp,
    /// A value makes no request that could be sent.
    Unsendable,
    /// The configuration has no such upstream any more.
    NoUpstream,
    /// A step is done, but its answer has not the values that later ones need.
    NoValue,
    /// It is not known which subject the person's tokens have: nothing here can be found by it.
    NoSubject,
    /// A probe that counts saw no data before the first step.
    NothingThere,
    /// A probe saw the data after the last step.
    StillThere,
}

impl Why {
    /// Its name, in the API, in metrics and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
            Self::Unsendable => "unsendable",
            Self::NoUpstream => "no_upstream",
            Self::NoValue => "no_value",
            Self::NoSubject => "no_subject",
            Self::NothingThere => "nothing_there",
            Self::StillThere => "still_there",
        }
    }
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeState {
    /// What it saw before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seen>,
    /// Whether what it sees afterwards counts: it does if it saw the data before.
    pub counts: bool,
    /// What it saw, or is to see, afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<Look>,
    /// How often the present look was tried without an answer that says anything.
    pub attempts: u32,
    /// When that was first tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<u64>,
    /// When it may be tried.
    pub next_at: u64,
    /// Since when it waits for a person, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<(Why, u64)>,
}

/// What a probe saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The status.
    pub status: u16,
    /// When.
    pub at: u64,
    /// Whether the data is there.
    pub there: bool,
}

/// A look at what should be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// When it is due.
    pub due: u64,
    /// What it saw.
    pub seen: Option<Seen>,
}

impl Look {
    /// Whether it saw that the data is gone.
    pub fn is_gone(&self) -> bool {
        self.seen.is_some_and(|seen| !seen.there)
    }
}

/// Who is at work on a deletion, and until when nobody else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// A random number that each process draws when it starts.
    pub holder: u64,
    /// Until when.
    pub until: u64,
}

/// Something that happened to a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place among the deletion's, from 0.
    pub number: u32,
    /// When.
    pub at: u64,
    /// By whom.
    pub by: Party,
    /// What.
    pub what: What,
    /// Where it is in the audit chain; `None`: it is still to be written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// What happened. It names nobody: steps and probes have the names that the configuration gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is named after what happened, and its fields after what it happened to")]
pub enum What {
    Requested,
    Approved,
    Held { kind: HoldKind },
    Released { kind: HoldKind },
    Cancelled,
    Disputed,
    Begun,
    Seen { probe: Box<str>, status: u16, there: bool, counts: bool },
    StepDone { step: Box<str>, status: u16, attempts: u32 },
    StepAccepted { step: Box<str> },
    StepParked { step: Box<str>, why: Why, status: Option<u16>, attempts: u32 },
    StepRetried { step: Box<str> },
    OwnDataGone,
    AllDone,
    Looked { probe: Box<str>, due: u64, status: u16, there: bool },
    ProbeParked { probe: Box<str>, why: Why },
    ProbeRetried { probe: Box<str> },
    ProbeNotCounted { probe: Box<str> },
    Verified,
    Erased,
}

impl What {
    /// Its name, in records.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Held { .. } => "held",
            Self::Released { .. } => "released",
            Self::Cancelled => "cancelled",
            Self::Disputed => "disputed",
            Self::Begun => "begun",
            Self::Seen { .. } => "seen",
            Self::StepDone { .. } => "step_done",
            Self::StepAccepted { .. } => "step_accepted",
            Self::StepParked { .. } => "step_parked",
            Self::StepRetried { .. } => "step_retried",
            Self::OwnDataGone => "own_data_gone",
            Self::AllDone => "all_done",
            Self::Looked { .. } => "looked",
            Self::ProbeParked { .. } => "probe_parked",
            Self::ProbeRetried { .. } => "probe_retried",
            Self::ProbeNotCounted { .. } => "probe_not_counted",
            Self::Verified => "verified",
            Self::Erased => "erased",
        }
    }
}

impl Erasure {
    /// Whether a hold of this kind is on it.
    pub fn is_held_by(&self, kind: HoldKind) -> bool {
        self.holds.iter().any(|hold| hold.kind == kind)
    }

    /// The holds that people may know of: not those of the law, which may want them not to be told.
    pub fn open_holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(|hold| hold.kind != HoldKind::Legal)
    }

    /// Whether nothing was sent yet that erases anything: probes only look. So long it can be cancelled; who cancels and who sends
    /// compete for the same row.
    pub fn is_untouched(&self) -> bool {
        let untouched = |step: &StepState| step.attempts == 0 && !step.is_done();
        match self.state {
            State::Held { .. } => true,
            // Without steps the gateway's own data would be the first.
            State::CarryingOut => !self.steps.is_empty() && self.steps.iter().chain(&self.own_data).all(untouched),
            State::Verifying | State::Scrubbing | State::Erased | State::Cancelled => false,
        }
    }

    /// Whether something in it waits for a person.
    pub fn is_parked(&self) -> bool {
        let step = |step: &StepState| matches!(step.outcome, Outcome::Parked { .. });
        self.steps.iter().chain(&self.own_data).any(step) || self.probes.iter().any(|probe| probe.parked.is_some())
    }

    /// The events that are still to be written to the audit chain.
    pub fn unplaced(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.place.is_none())
    }

    /// When the last look is due, if all goes well from now on.
    pub fn erased_by(&self, terms: &Terms) -> Option<u64> {
        let last = || terms.verify_after_secs.last().copied().unwrap_or(0);
        match self.state {
            State::Held { until } => Some(until.saturating_add(last())),
            State::CarryingOut => self.begun_at.map(|at| at.saturating_add(last())),
            State::Verifying | State::Scrubbing => self.done_at.map(|at| at.saturating_add(last())),
            State::Erased => self.ended_at,
            State::Cancelled => None,
        }
    }
}

impl Erasure {
    /// Whether it is at its end, and the evidence of it as well: nothing is left to do for it.
    pub fn is_settled(&self) -> bool {
        self.state.is_final() && self.unplaced().next().is_none()
    }
}

/// What terms are called: the SHA-256 of their JSON as this version writes it.
pub fn hash_of(terms: &Terms) -> Option<Box<str>> {
    Some(hash_of_json(&serde_json::to_string(terms).ok()?))
}

/// What terms are called that are kept as this text. It is the text that counts: another version writes the same terms otherwise.
pub(super) fn hash_of_json(json: &str) -> Box<str> {
    let hash = digest::digest(&digest::SHA256, json.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// A deletion with the terms that it is made under.
#[derive(Debug, Clone)]
pub struct Known {
    /// The deletion.
    pub erasure: Erasure,
    /// Its terms.
    pub terms: Arc<Terms>,
    /// The version of its row.
    pub version: u64,
}
