//! The life of a deletion: a record, a command and a time give the next record and what is to be told, or [`NotNow`]. There is no
//! clock in it, no store and no network.
//!
//! ```text
//!                 cancel (owner, operator, "this was not me")
//!      held ─────────────────────────────────────────────────────────────> cancelled
//!        │ begin: grace over, no hold, lease                                   ▲
//!        │                                      as long as no step was sent ───┘
//!        ▼
//!   carrying out ── probes see the data before ── steps, each after those that it waits for ─┐
//!        │   ▲ retry                                                                         │ all done
//!        │   └ parked: waits for a person <── refused, gave up, nothing there, still there ─┐│
//!        └──────────────────────────────────────────────────────────────────────────────────┘▼
//!                                                        verifying ── each look that counts: gone ──> scrubbing ──> erased
//!
//!   Any hold (approval, legal, breaker, dispute) stops all of it, but for the answers of what was sent before.
//! ```
//! What was sent and has no answer is sent again by whoever takes the lease next.

use std::collections::BTreeMap;

use thiserror::Error;

use super::record::{
    Erasure, Event, Hold, HoldKind, Lease, Look, Outcome, Party, Place, ProbeState, Seen, State, StepState, What, Why,
};
use crate::config::{Terms, WhileHeld};

/// From so many events on, whoever holds, releases or retries is refused: a row has a bound, and the gateway's own events must fit.
const MOST_EVENTS: usize = 600;
/// What the gateway's own data is called among steps.
pub const OWN_DATA: &str = "own_data";
/// The longest reason of a hold, in characters.
const REASON_CHARS: usize = 300;
/// How long before the end of the grace people are reminded at most, in seconds.
const REMIND_SECS: u64 = 3 * 86_400;

/// Something to be done to a deletion. Those with a holder are the work of whoever has the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A second person approves.
    Approve(Party),
    /// It is not to go on.
    Hold(HoldKind, Party, Box<str>),
    /// It may go on, as far as this hold is concerned.
    Release(HoldKind, Party),
    /// It is not to be.
    Cancel(Party),
    /// Somebody says that it was not them who asked: cancelled while that is possible, stopped else.
    Dispute(Party),
    /// Somebody wants to work on it.
    TakeLease(Lease),
    /// Whoever works on it needs longer.
    RenewLease(Lease),
    /// Whoever worked on it has done for now.
    EndLease(u64),
    /// People were reminded that the grace ends.
    Remind(u64),
    /// The grace is over.
    Begin(u64),
    /// A probe was answered, before the first step or after the last.
    Probed(u64, usize, Answer),
    /// A step is about to be sent.
    Send(u64, usize),
    /// The answer of a step that was sent has values, by their names, for what comes after it.
    Captured(u64, usize, BTreeMap<Box<str>, Box<str>>),
    /// A step was answered.
    Answered(u64, usize, Answer),
    /// The gateway's own data is gone.
    OwnDataGone(u64),
    /// Which of the gateway's own data is the person's is not known.
    OwnDataUnnamed(u64),
    /// A person has something done again, or accepts it as it is.
    Retry(Item, Party, Accept),
    /// The person was taken out of what is left, which had so many events.
    Scrubbed(u64, usize),
    /// Events were written to the audit chain.
    Placed(Vec<(u32, Place)>),
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A status; and when to try again, if it is one that time may mend.
    Status(u16, u64),
    /// None; and when to try again.
    None(u64),
    /// It could not be sent at all, and never can be as things are.
    Unsendable(Why),
}

/// A step or a probe, by its place in the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Item {
    /// A step.
    Step(usize),
    /// A probe.
    Probe(usize),
    /// The gateway's own data.
    OwnData,
}

/// What becomes of something parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// It is done again.
    Again,
    /// A step is as good as done; a probe that saw nothing does not count. What a probe still sees cannot be accepted.
    AsItIs,
}

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotNow {
    /// Something that erases was sent, or it is over.
    #[error("a step of it was sent")]
    TooLate,
    /// It is not held any more, or not yet so far.
    #[error("it is in another state")]
    State,
    /// It is so already.
    #[error("it is so already")]
    Already,
    /// Its time has not come.
    #[error("its time has not come")]
    Early,
    /// There is a hold.
    #[error("there is a hold on it")]
    OnHold,
    /// Somebody else works on it, or nobody does.
    #[error("the lease is another's")]
    Lease,
    /// There is nothing of that kind to do.
    #[error("there is no such thing to do")]
    Nothing,
    /// Whoever asked cannot be the one who approves.
    #[error("whoever asked cannot approve")]
    SamePerson,
    /// More was done to it than its row has room for.
    #[error("too much was done to it")]
    Full,
}

/// Something that people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// It was asked for.
    Requested,
    /// A second person is to approve it.
    ApprovalWanted,
    /// A second person approved it.
    Approved,
    /// The grace ends soon.
    Reminder,
    /// It was cancelled.
    Cancelled,
    /// Somebody said that it was not them, and deletions of the account are frozen.
    Disputed,
    /// It began.
    Begun,
    /// Something waits for a person.
    Parked,
    /// Data that had been seen to be gone is there again, or still there.
    StillThere,
    /// A hold was put on it.
    Held(HoldKind),
    /// A hold was lifted.
    Released(HoldKind),
    /// It is held, as too many were asked for.
    Breaker,
    /// All is gone.
    Erased,
}

/// What a command makes of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The deletion as it is now.
    pub erasure: Erasure,
    /// What is to be told, in order.
    pub told: Vec<Told>,
}

/// When there is something to do for a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At that time, in seconds since the epoch.
    At(u64),
    /// When a person has done something.
    Person,
    /// Never again.
    Never,
}

/// Something that may be done for a deletion now, by whoever has the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Remind people.
    Remind,
    /// Begin.
    Begin,
    /// Ask a probe.
    Probe(usize),
    /// Send a step.
    Send(usize),
    /// Take the gateway's own data away.
    OwnData,
    /// Take the person out of what is left.
    Scrub,
}

/// What becomes of the tokens of a deletion's person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// They pass.
    Pass,
    /// They are told that the account is held, with this status.
    Held(u16),
    /// All are refused: the data is being taken away.
    Refused,
    /// Those from before are refused.
    Before(u64),
}

/// Whether time may mend what a status tells of.
pub const fn may_mend(status: u16) -> bool {
    matches!(status, 408 | 409 | 423 | 425 | 429 | 500..=599)
}

/// Does something to a deletion.
pub fn apply(erasure: &Erasure, terms: &Terms, command: Command, at: u64) -> Result<Changed, NotNow> {
    let mut turn = Turn { now: erasure.clone(), terms, at, told: Vec::new() };
    turn.take(command)?;
    Ok(Changed { erasure: turn.now, told: turn.told })
}

/// A deletion that was just asked for: the first events, and the state that it begins in.
pub fn begin_with(mut erasure: Erasure, terms: &Terms, is_tripped: bool, at: u64) -> Changed {
    erasure.state = State::Held { until: at.saturating_add(terms.grace_secs.unwrap_or(0)) };
    erasure.requested_at = at;
    erasure.steps = terms.steps.iter().map(|_| StepState::waiting(at)).collect();
    erasure.own_data = terms.own_data.then(|| StepState::waiting(at));
    let probe = |_| ProbeState {
        before: None,
        counts: true,
        looks: Vec::new(),
        attempts: 0,
        first_at: None,
        next_at: at,
        parked: None,
    };
    erasure.probes = terms.probes.iter().map(probe).collect();
    let by = erasure.requester.clone();
    let mut turn = Turn { now: erasure, terms, at, told: vec![Told::Requested] };
    turn.event(by, What::Requested);
    if terms.four_eyes {
        turn.put_hold(HoldKind::Approval, Party::Gateway, "");
        turn.told.push(Told::ApprovalWanted);
    }
    if is_tripped {
        turn.put_hold(HoldKind::Breaker, Party::Gateway, "");
        turn.told.push(Told::Breaker);
    }
    Changed { erasure: turn.now, told: turn.told }
}

/// When there is something to do for a deletion: always at some time, or for a person, unless it is at its end.
pub fn next_due(erasure: &Erasure, terms: &Terms) -> Due {
    if erasure.state.is_final() {
        return Due::Never;
    }
    let Some(due) = dues(erasure, terms).into_iter().map(|(at, _)| at).min() else { return Due::Person };
    // Whoever has the lease does what is due meanwhile; if they cannot, somebody else does after its end.
    Due::At(erasure.lease.map_or(due, |lease| due.max(lease.until)))
}

/// What may be done for a deletion now, whoever has the lease.
pub fn work(erasure: &Erasure, terms: &Terms, at: u64) -> Vec<Work> {
    let due: Vec<Work> = dues(erasure, terms).into_iter().filter(|(due, _)| *due <= at).map(|(_, work)| work).collect();
    // What begins now is not reminded of.
    if due.contains(&Work::Begin) { vec![Work::Begin] } else { due }
}

/// What becomes of the tokens of the deletion's person.
pub fn tokens(erasure: &Erasure, terms: &Terms) -> Tokens {
    // Whoever may still cancel it must get as far as that.
    if erasure.is_untouched() {
        return match terms.while_held {
            // As long as it may be nobody's wish, nobody is kept out by it.
            _ if erasure.is_held_by(HoldKind::Approval) || erasure.is_held_by(HoldKind::Breaker) => Tokens::Pass,
            WhileHeld::Block(status) => Tokens::Held(status),
            WhileHeld::Allow => Tokens::Pass,
        };
    }
    match erasure.state {
        State::CarryingOut | State::Verifying | State::Scrubbing | State::Erased => {
            erasure.gone_at.map_or(Tokens::Refused, Tokens::Before)
        }
        State::Held { .. } | State::Cancelled => Tokens::Pass,
    }
}

/// When people are reminded that a grace ends: a tenth of it before, at most three days.
fn remind_at(until: u64, grace: u64) -> u64 {
    until.saturating_sub((grace / 10).min(REMIND_SECS))
}

/// Everything that is to be done for a deletion, with its time, as far as nothing else comes before.
fn dues(erasure: &Erasure, terms: &Terms) -> Vec<(u64, Work)> {
    if !erasure.holds.is_empty() {
        return Vec::new();
    }
    match erasure.state {
        State::Held { until } => {
            let mut dues = vec![(until, Work::Begin)];
            if let (Some(grace), false) = (terms.grace_secs.filter(|grace| *grace > 0), erasure.reminded) {
                dues.push((remind_at(until, grace), Work::Remind));
            }
            dues
        }
        State::CarryingOut => carrying_out(erasure, terms),
        State::Verifying => {
            let looks = erasure.probes.iter().enumerate().filter(|(_, probe)| probe.parked.is_none());
            looks.filter_map(|(place, probe)| Some((probe.due()?, Work::Probe(place)))).collect()
        }
        State::Scrubbing => vec![(erasure.done_at.unwrap_or(0), Work::Scrub)],
        State::Erased | State::Cancelled => Vec::new(),
    }
}

fn carrying_out(erasure: &Erasure, terms: &Terms) -> Vec<(u64, Work)> {
    if erasure.probes.iter().any(|probe| probe.before.is_none()) {
        let probes = erasure.probes.iter().enumerate();
        let probes = probes.filter(|(_, probe)| probe.before.is_none() && probe.parked.is_none());
        return probes.map(|(place, probe)| (probe.next_at, Work::Probe(place))).collect();
    }
    if erasure.probes.iter().any(|probe| probe.parked.is_some()) {
        return Vec::new();
    }
    if erasure.steps.iter().all(StepState::is_done) {
        let own = erasure.own_data.iter().filter(|own| own.outcome == Outcome::Waiting);
        return own.map(|own| (own.next_at, Work::OwnData)).collect();
    }
    let is_ready = |place: usize| {
        let after = terms.steps.get(place).map_or(&[][..], |step| &step.after);
        after.iter().all(|before| erasure.steps.get(*before).is_some_and(StepState::is_done))
    };
    let steps = erasure.steps.iter().enumerate();
    steps
        .filter_map(|(place, step)| match step.outcome {
            Outcome::Waiting if is_ready(place) => Some((step.next_at, Work::Send(place))),
            // Its answer is awaited, or lost: then the next one with a lease sends it again.
            Outcome::Sent => Some((u64::MAX, Work::Send(place))),
            Outcome::Waiting | Outcome::Done { .. } | Outcome::Accepted { .. } | Outcome::Parked { .. } => None,
        })
        .map(|(due, work)| match erasure.lease {
            Some(lease) if due == u64::MAX => (lease.until, work),
            None if due == u64::MAX => (0, work),
            Some(_) | None => (due, work),
        })
        .collect()
}

impl ProbeState {
    /// The look that is to be done next, with its place.
    pub fn next_look(&self) -> Option<(usize, Look)> {
        self.looks.iter().copied().enumerate().find(|(_, look)| look.seen.is_none()).filter(|_| self.counts)
    }

    fn due(&self) -> Option<u64> {
        self.next_look().map(|(_, look)| look.due.max(self.next_at))
    }
}

/// A command that is being done.
struct Turn<'a> {
    now: Erasure,
    terms: &'a Terms,
    at: u64,
    told: Vec<Told>,
}

impl Turn<'_> {
    fn take(&mut self, command: Command) -> Result<(), NotNow> {
        match command {
            Command::Approve(by) => self.approve(by),
            Command::Hold(kind, by, reason) => self.hold(kind, by, &reason),
            Command::Release(kind, by) => self.release(kind, by),
            Command::Cancel(by) => self.cancel(by),
            Command::Dispute(by) => self.dispute(by),
            Command::TakeLease(lease) => self.take_lease(lease),
            Command::RenewLease(lease) => {
                self.hold_lease(lease.holder)?;
                self.now.lease = Some(lease);
                Ok(())
            }
            Command::EndLease(holder) => {
                self.hold_lease(holder)?;
                self.now.lease = None;
                Ok(())
            }
            Command::Remind(holder) => self.remind(holder),
            Command::Begin(holder) => self.begin(holder),
            Command::Probed(holder, place, answer) => self.probed(holder, place, answer),
            Command::Send(holder, place) => self.send(holder, place),
            Command::Captured(holder, place, values) => self.captured(holder, place, values),
            Command::Answered(holder, place, answer) => self.answered(holder, place, answer),
            Command::OwnDataGone(holder) => self.own_data_gone(holder),
            Command::OwnDataUnnamed(holder) => self.own_data_unnamed(holder),
            Command::Retry(item, by, accept) => self.retry(item, by, accept),
            Command::Scrubbed(holder, events) => self.scrubbed(holder, events),
            Command::Placed(places) => self.placed(places),
        }
    }

    fn event(&mut self, by: Party, what: What) {
        let number = u32::try_from(self.now.events.len()).unwrap_or(u32::MAX);
        self.now.events.push(Event { number, at: self.at, by, what, place: None });
    }

    /// For what people may do as often as they like.
    fn has_room(&self) -> Result<(), NotNow> {
        if self.now.events.len() < MOST_EVENTS { Ok(()) } else { Err(NotNow::Full) }
    }

    fn put_hold(&mut self, kind: HoldKind, by: Party, reason: &str) {
        let reason = reason.chars().take(REASON_CHARS).collect::<String>().into();
        self.now.holds.push(Hold { kind, by: by.clone(), at: self.at, reason });
        self.event(by, What::Held { kind });
    }

    // ── people ──

    fn approve(&mut self, by: Party) -> Result<(), NotNow> {
        if self.now.state.is_final() {
            return Err(NotNow::State);
        }
        if !self.now.is_held_by(HoldKind::Approval) {
            return Err(NotNow::Already);
        }
        // The person themself asked, or else it is whoever asked for them: neither can be the second.
        if by == self.now.requester || by == Party::Owner || by == Party::Link {
            return Err(NotNow::SamePerson);
        }
        self.now.holds.retain(|hold| hold.kind != HoldKind::Approval);
        self.event(by, What::Approved);
        self.told.push(Told::Approved);
        Ok(())
    }

    fn hold(&mut self, kind: HoldKind, by: Party, reason: &str) -> Result<(), NotNow> {
        if self.now.state.is_final() {
            return Err(NotNow::State);
        }
        if self.now.is_held_by(kind) {
            return Err(NotNow::Already);
        }
        self.has_room()?;
        self.put_hold(kind, by, reason);
        self.told.push(Told::Held(kind));
        Ok(())
    }

    fn release(&mut self, kind: HoldKind, by: Party) -> Result<(), NotNow> {
        if !self.now.is_held_by(kind) {
            return Err(NotNow::Already);
        }
        // That takes a second person: see `approve`.
        if kind == HoldKind::Approval {
            return Err(NotNow::Nothing);
        }
        self.now.holds.retain(|hold| hold.kind != kind);
        self.event(by, What::Released { kind });
        self.told.push(Told::Released(kind));
        Ok(())
    }

    fn cancel(&mut self, by: Party) -> Result<(), NotNow> {
        if self.now.state == State::Cancelled {
            return Err(NotNow::Already);
        }
        if !self.now.is_untouched() {
            return Err(NotNow::TooLate);
        }
        self.now.state = State::Cancelled;
        self.now.ended_at = Some(self.at);
        self.now.lease = None;
        self.event(by, What::Cancelled);
        self.told.push(Told::Cancelled);
        Ok(())
    }

    fn dispute(&mut self, by: Party) -> Result<(), NotNow> {
        if self.now.is_untouched() {
            self.event(by.clone(), What::Disputed);
            self.told.push(Told::Disputed);
            return self.cancel(by);
        }
        match self.now.state {
            State::Held { .. } | State::CarryingOut | State::Verifying | State::Scrubbing => {
                if self.now.is_held_by(HoldKind::Dispute) {
                    return Err(NotNow::Already);
                }
                self.has_room()?;
                self.event(by.clone(), What::Disputed);
                self.put_hold(HoldKind::Dispute, by, "");
                self.told.push(Told::Disputed);
                Ok(())
            }
            State::Cancelled => Err(NotNow::Already),
            State::Erased => Err(NotNow::TooLate),
        }
    }

    fn retry(&mut self, item: Item, by: Party, accept: Accept) -> Result<(), NotNow> {
        if self.now.state.is_final() {
            return Err(NotNow::State);
        }
        self.has_room()?;
        match item {
            Item::Step(place) => self.retry_step(place, by, accept),
            Item::Probe(place) => self.retry_probe(place, by, accept),
            Item::OwnData => self.retry_own_data(by, accept),
        }
    }

    fn retry_step(&mut self, place: usize, by: Party, accept: Accept) -> Result<(), NotNow> {
        let at = self.at;
        let name = self.step_name(place);
        let verifying = self.now.state == State::Verifying;
        let step = self.now.steps.get_mut(place).ok_or(NotNow::Nothing)?;
        match (step.outcome, accept) {
            (Outcome::Parked { .. }, Accept::Again) => {
                *step = step.once_more(at);
            }
            (Outcome::Parked { .. }, Accept::AsItIs) => {
                step.outcome = Outcome::Accepted { at };
                self.event(by, What::StepAccepted { step: name });
                self.steps_done();
                return Ok(());
            }
            // What is still there although all was done: the step is sent once more, and all is verified anew.
            (Outcome::Done { .. } | Outcome::Accepted { .. }, Accept::Again)
                if verifying && self.now.probes.iter().any(|probe| probe.parked.is_some()) =>
            {
                *step = step.once_more(at);
                self.now.state = State::CarryingOut;
                (self.now.done_at, self.now.gone_at) = (None, None);
                for probe in &mut self.now.probes {
                    probe.looks.clear();
                    probe.parked = None;
                    (probe.attempts, probe.first_at, probe.next_at) = (0, None, at);
                }
            }
            (Outcome::Waiting | Outcome::Sent | Outcome::Done { .. } | Outcome::Accepted { .. }, _) => {
                return Err(NotNow::Nothing);
            }
        }
        self.event(by, What::StepRetried { step: name });
        Ok(())
    }

    fn retry_own_data(&mut self, by: Party, accept: Accept) -> Result<(), NotNow> {
        let at = self.at;
        let parked = |own: &&mut StepState| matches!(own.outcome, Outcome::Parked { .. });
        let own = self.now.own_data.as_mut().filter(parked).ok_or(NotNow::Nothing)?;
        match accept {
            Accept::Again => {
                *own = own.once_more(at);
                self.event(by, What::StepRetried { step: OWN_DATA.into() });
            }
            // Nothing is touched; the evidence says so.
            Accept::AsItIs => {
                own.outcome = Outcome::Accepted { at };
                self.event(by, What::StepAccepted { step: OWN_DATA.into() });
                self.steps_done();
            }
        }
        Ok(())
    }

    fn retry_probe(&mut self, place: usize, by: Party, accept: Accept) -> Result<(), NotNow> {
        let at = self.at;
        let name = self.probe_name(place);
        let before = self.now.state == State::CarryingOut;
        let probe = self.now.probes.get_mut(place).ok_or(NotNow::Nothing)?;
        let (why, _) = probe.parked.ok_or(NotNow::Nothing)?;
        match accept {
            Accept::Again => {
                probe.parked = None;
                (probe.attempts, probe.first_at, probe.next_at) = (0, None, at);
                if before {
                    probe.before = None;
                } else if let Some(look) = probe.looks.iter_mut().find(|look| look.seen.is_some_and(|seen| seen.there))
                {
                    look.seen = None;
                }
                self.event(by, What::ProbeRetried { probe: name });
            }
            // Before the first step nothing is claimed yet: the evidence will say that this probe did not count.
            Accept::AsItIs if before && why != Why::StillThere => {
                let seen = probe.before.unwrap_or(Seen { status: 0, at, there: false });
                (probe.before, probe.counts, probe.parked) = (Some(seen), false, None);
                self.event(by, What::ProbeNotCounted { probe: name });
            }
            Accept::AsItIs => return Err(NotNow::Nothing),
        }
        Ok(())
    }

    // ── whoever has the lease ──

    fn hold_lease(&self, holder: u64) -> Result<(), NotNow> {
        if self.now.lease.is_some_and(|lease| lease.holder == holder) { Ok(()) } else { Err(NotNow::Lease) }
    }

    /// For what must not be done by somebody whose time is over, even if nobody has taken the lease yet.
    fn hold_live_lease(&self, holder: u64) -> Result<(), NotNow> {
        let is_live = self.now.lease.is_some_and(|lease| lease.holder == holder && lease.until > self.at);
        if is_live { Ok(()) } else { Err(NotNow::Lease) }
    }

    fn is_free(&self) -> Result<(), NotNow> {
        if self.now.holds.is_empty() { Ok(()) } else { Err(NotNow::OnHold) }
    }

    fn take_lease(&mut self, lease: Lease) -> Result<(), NotNow> {
        if self.now.state.is_final() {
            return Err(NotNow::State);
        }
        self.is_free()?;
        if self.now.lease.is_some_and(|taken| taken.until > self.at) {
            return Err(NotNow::Lease);
        }
        // Nobody awaits the answers any more.
        for step in &mut self.now.steps {
            if step.outcome == Outcome::Sent {
                (step.outcome, step.next_at) = (Outcome::Waiting, self.at);
            }
        }
        self.now.lease = Some(lease);
        Ok(())
    }

    fn remind(&mut self, holder: u64) -> Result<(), NotNow> {
        self.hold_live_lease(holder)?;
        self.is_free()?;
        let State::Held { until } = self.now.state else { return Err(NotNow::State) };
        if self.now.reminded {
            return Err(NotNow::Already);
        }
        if remind_at(until, self.terms.grace_secs.unwrap_or(0)) > self.at {
            return Err(NotNow::Early);
        }
        self.now.reminded = true;
        if until > self.at {
            self.told.push(Told::Reminder);
        }
        Ok(())
    }

    fn begin(&mut self, holder: u64) -> Result<(), NotNow> {
        self.hold_live_lease(holder)?;
        let State::Held { until } = self.now.state else { return Err(NotNow::State) };
        self.is_free()?;
        if until > self.at {
            return Err(NotNow::Early);
        }
        self.now.state = State::CarryingOut;
        self.now.begun_at = Some(self.at);
        self.event(Party::Gateway, What::Begun);
        self.told.push(Told::Begun);
        // A plan without steps makes no sense, and yet must not be forgotten.
        self.steps_done();
        Ok(())
    }

    fn send(&mut self, holder: u64, place: usize) -> Result<(), NotNow> {
        self.hold_live_lease(holder)?;
        self.is_free()?;
        if self.now.state != State::CarryingOut {
            return Err(NotNow::State);
        }
        let at = self.at;
        let due = carrying_out(&self.now, self.terms).into_iter().find(|(_, work)| *work == Work::Send(place));
        let (due, _) = due.ok_or(NotNow::Nothing)?;
        let step = self.now.steps.get_mut(place).ok_or(NotNow::Nothing)?;
        if step.outcome != Outcome::Waiting {
            return Err(NotNow::Already);
        }
        if due > at {
            return Err(NotNow::Early);
        }
        step.outcome = Outcome::Sent;
        step.attempts = step.attempts.saturating_add(1);
        step.first_at.get_or_insert(at);
        Ok(())
    }

    fn captured(&mut self, holder: u64, place: usize, values: BTreeMap<Box<str>, Box<str>>) -> Result<(), NotNow> {
        self.hold_lease(holder)?;
        if self.now.steps.get(place).is_none_or(|step| step.outcome != Outcome::Sent) {
            return Err(NotNow::Nothing);
        }
        let personal = self.now.personal.as_mut().ok_or(NotNow::Nothing)?;
        personal.values.extend(values.into_iter().map(|(name, value)| (format!("captured.{name}").into(), value)));
        Ok(())
    }

    fn answered(&mut self, holder: u64, place: usize, answer: Answer) -> Result<(), NotNow> {
        self.hold_lease(holder)?;
        let at = self.at;
        let name = self.step_name(place);
        let done = self.terms.steps.get(place).map_or(&[][..], |step| &step.done);
        let give_up = self.terms.give_up_secs;
        let step = self.now.steps.get_mut(place).ok_or(NotNow::Nothing)?;
        if step.outcome != Outcome::Sent {
            return Err(NotNow::Nothing);
        }
        let gives_up = at.saturating_sub(step.first_at.unwrap_or(at)) >= give_up;
        let (why, again) = match answer {
            Answer::Status(status, _) if done.contains(&status) => {
                step.status = Some(status);
                step.outcome = Outcome::Done { status, at };
                let attempts = step.attempts;
                self.event(Party::Gateway, What::StepDone { step: name, status, attempts });
                self.steps_done();
                return Ok(());
            }
            Answer::Status(status, again) => {
                step.status = Some(status);
                (if may_mend(status) { None } else { Some(Why::Refused) }, again)
            }
            Answer::None(again) => {
                step.status = None;
                (None, again)
            }
            Answer::Unsendable(why) => (Some(why), at),
        };
        match why.or(gives_up.then_some(Why::GaveUp)) {
            None => (step.outcome, step.next_at) = (Outcome::Waiting, again.max(at)),
            Some(why) => {
                step.outcome = Outcome::Parked { why, at };
                let (status, attempts) = (step.status, step.attempts);
                self.event(Party::Gateway, What::StepParked { step: name, why, status, attempts });
                self.told.push(Told::Parked);
            }
        }
        Ok(())
    }

    /// The gateway's own data, if its turn has come.
    fn own_data(&mut self, holder: u64) -> Result<&mut StepState, NotNow> {
        self.hold_live_lease(holder)?;
        self.is_free()?;
        if self.now.state != State::CarryingOut || !self.now.steps.iter().all(StepState::is_done) {
            return Err(NotNow::State);
        }
        self.now.own_data.as_mut().filter(|own| own.outcome == Outcome::Waiting).ok_or(NotNow::Nothing)
    }

    fn own_data_gone(&mut self, holder: u64) -> Result<(), NotNow> {
        let at = self.at;
        self.own_data(holder)?.outcome = Outcome::Done { status: 0, at };
        self.event(Party::Gateway, What::OwnDataGone);
        self.steps_done();
        Ok(())
    }

    fn own_data_unnamed(&mut self, holder: u64) -> Result<(), NotNow> {
        let (at, why) = (self.at, Why::NoSubject);
        self.own_data(holder)?.outcome = Outcome::Parked { why, at };
        self.event(Party::Gateway, What::StepParked { step: OWN_DATA.into(), why, status: None, attempts: 0 });
        self.told.push(Told::Parked);
        Ok(())
    }

    /// Goes on to verifying once the last step is done.
    fn steps_done(&mut self) {
        let all = self.now.steps.iter().chain(&self.now.own_data).all(StepState::is_done);
        let seen = self.now.probes.iter().all(|probe| probe.before.is_some() && probe.parked.is_none());
        if self.now.state != State::CarryingOut || !all || !seen {
            return;
        }
        self.now.state = State::Verifying;
        self.now.done_at = Some(self.at);
        let at = self.at;
        let after = if self.terms.verify_after_secs.is_empty() { &[0][..] } else { &self.terms.verify_after_secs };
        for probe in &mut self.now.probes {
            (probe.attempts, probe.first_at, probe.next_at) = (0, None, at);
            probe.looks = after.iter().map(|after| Look { due: at.saturating_add(*after), seen: None }).collect();
        }
        self.event(Party::Gateway, What::AllDone);
        self.looks_done();
    }

    fn probed(&mut self, holder: u64, place: usize, answer: Answer) -> Result<(), NotNow> {
        self.hold_lease(holder)?;
        self.is_free()?;
        let at = self.at;
        let terms = self.terms.probes.get(place).ok_or(NotNow::Nothing)?;
        let probe = self.now.probes.get_mut(place).ok_or(NotNow::Nothing)?;
        if probe.parked.is_some() {
            return Err(NotNow::Nothing);
        }
        let is_look = match self.now.state {
            State::CarryingOut if probe.before.is_none() => false,
            State::Verifying if probe.due().is_some_and(|due| due <= at) => true,
            State::Verifying | State::CarryingOut => return Err(NotNow::Nothing),
            State::Held { .. } | State::Scrubbing | State::Erased | State::Cancelled => return Err(NotNow::State),
        };
        let first_at = *probe.first_at.get_or_insert(at);
        probe.attempts = probe.attempts.saturating_add(1);
        let (why, again) = match answer {
            Answer::Status(status, _) if terms.gone.contains(&status) => {
                self.saw(place, Seen { status, at, there: false }, is_look, terms.optional);
                return Ok(());
            }
            Answer::Status(status, _) if terms.there.contains(&status) => {
                self.saw(place, Seen { status, at, there: true }, is_look, terms.optional);
                return Ok(());
            }
            Answer::Status(status, again) => (if may_mend(status) { None } else { Some(Why::Refused) }, again),
            Answer::None(again) => (None, again),
            Answer::Unsendable(why) => (Some(why), at),
        };
        let gives_up = at.saturating_sub(first_at) >= self.terms.give_up_secs;
        match why.or(gives_up.then_some(Why::GaveUp)) {
            None => probe.next_at = again.max(at),
            Some(why) => self.park_probe(place, why),
        }
        Ok(())
    }

    fn saw(&mut self, place: usize, seen: Seen, is_look: bool, optional: bool) {
        let name = self.probe_name(place);
        let Some(probe) = self.now.probes.get_mut(place) else { return };
        (probe.attempts, probe.first_at) = (0, None);
        let Seen { status, there, .. } = seen;
        if is_look {
            let Some(look) = probe.looks.iter_mut().find(|look| look.seen.is_none()) else { return };
            look.seen = Some(seen);
            let due = look.due;
            self.event(Party::Gateway, What::Looked { probe: name, due, status, there });
            if there {
                self.park_probe(place, Why::StillThere);
            }
            self.looks_done();
            return;
        }
        let counts = there || !optional;
        (probe.before, probe.counts) = (Some(seen), counts);
        self.event(Party::Gateway, What::Seen { probe: name, status, there, counts });
        if !there && !optional {
            self.park_probe(place, Why::NothingThere);
        }
    }

    fn park_probe(&mut self, place: usize, why: Why) {
        let name = self.probe_name(place);
        let at = self.at;
        if let Some(probe) = self.now.probes.get_mut(place) {
            probe.parked = Some((why, at));
        }
        self.event(Party::Gateway, What::ProbeParked { probe: name, why });
        self.told.push(if why == Why::StillThere { Told::StillThere } else { Told::Parked });
    }

    /// Notes when all was gone for the first time, and goes on once every look has seen so.
    fn looks_done(&mut self) {
        let counting = || self.now.probes.iter().filter(|probe| probe.counts);
        let is_first = counting().all(|probe| probe.looks.first().is_some_and(Look::is_gone));
        let is_last = counting().all(|probe| probe.looks.iter().all(Look::is_gone) && probe.parked.is_none());
        if is_first && self.now.gone_at.is_none() {
            self.now.gone_at = Some(self.at);
        }
        if is_last {
            self.now.state = State::Scrubbing;
            self.event(Party::Gateway, What::Verified);
        }
    }

    fn scrubbed(&mut self, holder: u64, events: usize) -> Result<(), NotNow> {
        self.hold_live_lease(holder)?;
        if self.now.state != State::Scrubbing {
            return Err(NotNow::State);
        }
        self.is_free()?;
        // What came meanwhile, such as the reason of a hold, was not struck out; nor is what is still to be written.
        if self.now.events.len() != events || self.now.unplaced().next().is_some() {
            return Err(NotNow::Early);
        }
        self.now.state = State::Erased;
        self.now.ended_at = Some(self.at);
        self.now.lease = None;
        self.forget_person();
        self.event(Party::Gateway, What::Erased);
        self.told.push(Told::Erased);
        Ok(())
    }

    // ── the evidence ──

    fn placed(&mut self, places: Vec<(u32, Place)>) -> Result<(), NotNow> {
        let mut is_new = false;
        for (number, place) in places {
            let event = self.now.events.iter_mut().find(|event| event.number == number && event.place.is_none());
            if let Some(event) = event {
                event.place = Some(place);
                is_new = true;
            }
        }
        if !is_new {
            return Err(NotNow::Already);
        }
        if self.now.state == State::Cancelled && self.now.is_settled() {
            self.forget_person();
        }
        Ok(())
    }

    /// Nothing needs to know any more whom it was about.
    fn forget_person(&mut self) {
        self.now.personal = None;
        self.now.holds.clear();
    }

    fn step_name(&self, place: usize) -> Box<str> {
        self.terms.steps.get(place).map(|step| step.call.name.clone()).unwrap_or_default()
    }

    fn probe_name(&self, place: usize) -> Box<str> {
        self.terms.probes.get(place).map(|probe| probe.call.name.clone()).unwrap_or_default()
    }
}
