//! Every state that a small deletion can get into, by every command at every time, and what holds of each: an exhaustive search, and
//! long random walks of larger ones.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::super::{
    life::{Accept, Answer, Command, Due, Item, Tokens, Work, apply, next_due, tokens, work},
    record::{Erasure, Hold, HoldKind, Lease, Outcome, Party, State, StepState, Why},
    testing::{erasure, place_all, probe, step, terms},
};
use crate::config::Terms;

/// Those who may have the lease.
const HOLDERS: [u64; 2] = [1, 2];

fn operator() -> Party {
    Party::Operator { name: "o".into() }
}

/// Every command that somebody may give, wherever it is.
fn commands(terms: &Terms, at: u64) -> Vec<Command> {
    let mut all = vec![
        Command::Approve(operator()),
        Command::Hold(HoldKind::Legal, operator(), "".into()),
        Command::Cancel(Party::Owner),
        Command::Dispute(Party::Link),
    ];
    all.extend(HoldKind::ALL.map(|kind| Command::Release(kind, operator())));
    for holder in HOLDERS {
        all.push(Command::TakeLease(Lease { holder, until: at + 2 }));
        all.push(Command::EndLease(holder));
        all.extend([Command::Remind(holder), Command::Begin(holder)]);
        all.extend([Command::OwnDataGone(holder), Command::OwnDataUnnamed(holder)]);
        all.push(Command::Scrubbed(holder, 0));
        let answers = [
            Answer::Status(200, at + 1),
            Answer::Status(404, at + 1),
            Answer::Status(503, at + 1),
            Answer::Status(400, at + 1),
        ];
        for answer in answers {
            all.extend((0..terms.probes.len()).map(|place| Command::Probed(holder, place, answer)));
            all.extend((0..terms.steps.len()).map(|place| Command::Answered(holder, place, answer)));
        }
        all.extend((0..terms.steps.len()).map(|place| Command::Send(holder, place)));
    }
    let items = (0..terms.steps.len()).map(Item::Step).chain((0..terms.probes.len()).map(Item::Probe));
    for item in items.chain([Item::OwnData]) {
        all.extend([Accept::Again, Accept::AsItIs].map(|accept| Command::Retry(item, operator(), accept)));
    }
    all
}

fn is_begun(erasure: &Erasure) -> bool {
    erasure.begun_at.is_some()
}

/// What must hold of every change.
fn judge(before: &Erasure, command: &Command, after: &Erasure, terms: &Terms, at: u64) {
    let said = || format!("{command:?} at {at}: {before:#?} -> {after:#?}");
    // Never a step without a beginning that was there before, and none but with the lease, without a hold, after the probes.
    if let Command::Send(holder, place) = command {
        assert!(before.state == State::CarryingOut && is_begun(before), "{}", said());
        assert!(before.holds.is_empty(), "{}", said());
        assert!(before.probes.iter().all(|probe| probe.before.is_some() && probe.parked.is_none()), "{}", said());
        assert!(before.lease.is_some_and(|lease| lease.holder == *holder && lease.until > at), "{}", said());
        assert!(terms.steps[*place].after.iter().all(|before_it| before.steps[*before_it].is_done()), "{}", said());
        assert!(before.steps[*place].outcome == Outcome::Waiting, "{}", said());
    }
    // Never anything after the end.
    assert!(!before.state.is_final(), "{}", said());
    // Cancelled, or something was sent.
    if after.state == State::Cancelled {
        assert!(after.steps.iter().all(|step| step.attempts == 0 && !step.is_done()), "{}", said());
        assert!(after.own_data.iter().all(|own| own.outcome == Outcome::Waiting), "{}", said());
    }
    if matches!(before.state, State::Held { .. }) && is_begun(after) {
        assert!(matches!(command, Command::Begin(_)) && before.holds.is_empty(), "{}", said());
        let State::Held { until } = before.state else { unreachable!() };
        assert!(until <= at, "{}", said());
    }
    if after.state != State::Cancelled {
        assert_eq!(is_begun(after), !matches!(after.state, State::Held { .. }), "{}", said());
    }
    // A hold stops everything but the answers of what was sent before.
    if !before.holds.is_empty() {
        let goes_on = matches!(
            command,
            Command::TakeLease(_)
                | Command::Remind(_)
                | Command::Begin(_)
                | Command::Send(..)
                | Command::Probed(..)
                | Command::OwnDataGone(_)
                | Command::OwnDataUnnamed(_)
                | Command::Scrubbed(..)
        );
        assert!(!goes_on, "{}", said());
        assert_eq!(work(before, terms, u64::MAX), [], "{}", said());
    }
    // Verified: every step done, and every probe that counts gone at every time that it was due.
    if matches!(after.state, State::Scrubbing | State::Erased) {
        assert!(after.steps.iter().chain(&after.own_data).all(StepState::is_done), "{}", said());
        for (probe, terms_of) in after.probes.iter().zip(&terms.probes) {
            if probe.counts {
                assert_eq!(probe.looks.len(), terms.verify_after_secs.len().max(1), "{}", said());
                assert!(probe.before.unwrap().there, "{}", said());
                let is_gone = |look: &super::super::record::Look| {
                    look.seen
                        .is_some_and(|seen| !seen.there && seen.at >= look.due && terms_of.gone.contains(&seen.status))
                };
                assert!(probe.looks.iter().all(is_gone), "{}", said());
            }
        }
        assert!(after.gone_at.is_some(), "{}", said());
    }
    // Never forgotten: at its end, due at some time, or waiting for a person who is told for what.
    match next_due(after, terms) {
        Due::Never => assert!(after.state.is_final(), "{}", said()),
        Due::Person => {
            assert!(!after.state.is_final() && (!after.holds.is_empty() || after.is_parked()), "{}", said());
        }
        Due::At(due) => assert!(due < u64::MAX && !after.state.is_final() && after.holds.is_empty(), "{}", said()),
    }
    // No token passes while data is being taken away.
    if after.state == State::CarryingOut && after.steps.iter().any(|step| step.attempts > 0) {
        assert_eq!(tokens(after, terms), Tokens::Refused, "{}", said());
    }
}

/// What is left when people do what is asked of them and services answer: it comes to its end, and in bounded time.
fn completes(erasure: &Erasure, terms: &Terms, at: u64) {
    let mut it = erasure.clone();
    let mut now = at;
    let holder = 9;
    let does = |it: &mut Erasure, command: Command, now: u64| {
        let changed = apply(it, terms, command.clone(), now);
        *it = changed.unwrap_or_else(|why| panic!("{command:?} at {now}: {why}: {it:#?}")).erasure;
    };
    for _ in 0..40 {
        if it.is_held_by(HoldKind::Approval) {
            does(&mut it, Command::Approve(operator()), now);
        }
        let holds: Vec<HoldKind> = it.holds.iter().map(|hold| hold.kind).collect();
        holds.into_iter().for_each(|kind| does(&mut it, Command::Release(kind, operator()), now));
        for place in 0..it.steps.len() {
            if matches!(it.steps[place].outcome, Outcome::Parked { .. }) {
                does(&mut it, Command::Retry(Item::Step(place), operator(), Accept::Again), now);
            }
        }
        for place in 0..it.probes.len() {
            if let Some((why, _)) = it.probes[place].parked {
                let accept = if why == Why::NothingThere { Accept::AsItIs } else { Accept::Again };
                does(&mut it, Command::Retry(Item::Probe(place), operator(), accept), now);
            }
        }
        if it.own_data.iter().any(|own| matches!(own.outcome, Outcome::Parked { .. })) {
            does(&mut it, Command::Retry(Item::OwnData, operator(), Accept::AsItIs), now);
        }
        match next_due(&it, terms) {
            Due::At(due) => now = now.max(due),
            Due::Person => panic!("it waits for a person who has done all: {it:#?}"),
            Due::Never => break,
        }
        if it.lease.is_none_or(|lease| lease.holder != holder || lease.until <= now) {
            does(&mut it, Command::TakeLease(Lease { holder, until: now + 60 }), now);
        }
        for work in work(&it, terms, now) {
            match work {
                Work::Remind => does(&mut it, Command::Remind(holder), now),
                Work::Begin => does(&mut it, Command::Begin(holder), now),
                Work::Probe(place) => {
                    let status = if it.state == State::Verifying { 404 } else { 200 };
                    does(&mut it, Command::Probed(holder, place, Answer::Status(status, 0)), now);
                }
                Work::Send(place) => {
                    does(&mut it, Command::Send(holder, place), now);
                    does(&mut it, Command::Answered(holder, place, Answer::Status(204, 0)), now);
                }
                Work::OwnData => does(&mut it, Command::OwnDataGone(holder), now),
                Work::Scrub => {
                    place_all(&mut it);
                    let events = it.events.len();
                    does(&mut it, Command::Scrubbed(holder, events), now);
                }
            }
        }
        if it.state != State::Erased {
            does(&mut it, Command::EndLease(holder), now);
        }
    }
    assert_eq!(it.state, State::Erased, "{it:#?}");
}

/// Without what makes no difference to what may be done: two of which that is alike are one.
fn essence(mut it: Erasure) -> Erasure {
    it.events.clear();
    let plain = |hold: Hold| Hold { at: 0, by: Party::Gateway, ..hold };
    it.holds = it.holds.into_iter().map(plain).collect();
    it.holds.sort_by_key(|hold| hold.kind);
    it.begun_at = it.begun_at.map(|_| 0);
    it.done_at = it.done_at.map(|_| 0);
    it.gone_at = it.gone_at.map(|_| 0);
    for step in it.steps.iter_mut().chain(&mut it.own_data) {
        step.status = None;
        step.attempts = step.attempts.min(1);
        step.again = 0;
        step.outcome = match step.outcome {
            Outcome::Done { .. } | Outcome::Accepted { .. } => Outcome::Accepted { at: 0 },
            Outcome::Parked { .. } => Outcome::Parked { why: Why::Refused, at: 0 },
            other => other,
        };
        if step.is_done() || matches!(step.outcome, Outcome::Parked { .. }) {
            (step.next_at, step.first_at) = (0, None);
        }
    }
    for probe in &mut it.probes {
        probe.attempts = 0;
        probe.before = probe.before.map(|seen| super::super::record::Seen { at: 0, status: 0, ..seen });
        probe.parked = probe.parked.map(|(why, _)| (why, 0));
    }
    it
}

fn explore(terms: &Terms, is_tripped: bool, last: u64) -> usize {
    let mut start = essence(erasure(terms, is_tripped, 0).erasure);
    // What is not looked at costs time a hundred thousand times.
    (start.id, start.plan, start.terms, start.operation) = Default::default();
    (start.whose.key, start.requester_key, start.requester_issuer) = Default::default();
    start.personal = None;
    let mut seen: HashSet<u64> = HashSet::new();
    let mut queue = VecDeque::from([(start, 0_u64)]);
    while let Some((it, at)) = queue.pop_front() {
        if !it.state.is_final() {
            completes(&it, terms, at);
        }
        // Time goes on, stands still, and is set back.
        for now in [at, at + 1, at.saturating_sub(1)].into_iter().filter(|now| *now <= last) {
            for command in commands(terms, now) {
                let Ok(changed) = apply(&it, terms, command.clone(), now) else { continue };
                judge(&it, &command, &changed.erasure, terms, now);
                let after = essence(changed.erasure);
                let mut hash = DefaultHasher::new();
                (serde_json::to_vec(&after).unwrap(), now).hash(&mut hash);
                if seen.insert(hash.finish()) && !after.state.is_final() {
                    queue.push_back((after, now));
                }
            }
        }
    }
    seen.len()
}

/// The usual forms are for every run; `STEPGATE_SEEDS` asks for the long ones.
#[test]
fn in_every_state_of_a_small_deletion_all_that_is_promised_holds() {
    let long = u64::from(std::env::var_os("STEPGATE_SEEDS").is_some());
    let mut one = terms(1, 1, 1, &[0, 1]);
    one.give_up_secs = 1;
    let mut two = terms(0, 0, 0, &[]);
    two.steps = vec![step("a", &[]), step("b", &[])];
    (two.give_up_secs, two.own_data) = (1, true);
    let mut three = terms(0, 1, 0, &[0]);
    (three.four_eyes, three.give_up_secs) = (true, 1);
    three.probes = vec![probe("may", true)];
    let states = [explore(&one, false, 1 + long), explore(&two, true, long), explore(&three, false, 1)];
    assert!(states.iter().all(|states| *states > 500), "{states:?}");
}

/// Numbers that are the same for the same seed (xorshift64*).
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }

    pub(super) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// Large terms of some form.
fn some_terms(chance: &mut Chance) -> Terms {
    let looks = [vec![], vec![0], vec![0, 3], vec![1, 5, 50]][chance.below(4)].clone();
    let mut terms = terms([0, 5, 40][chance.below(3)], 0, 0, &looks);
    for place in 0..1 + chance.below(4) {
        let after: Vec<usize> = (0..place).filter(|_| chance.one_in(2)).collect();
        terms.steps.push(step(&format!("step{place}"), &after));
    }
    terms.probes = (0..chance.below(4)).map(|place| probe(&format!("probe{place}"), chance.one_in(3))).collect();
    terms.four_eyes = chance.one_in(3);
    terms.own_data = chance.one_in(2);
    terms.give_up_secs = [0, 3, 100][chance.below(3)];
    terms
}

#[test]
fn on_long_ways_through_large_deletions_all_that_is_promised_holds() {
    let (mut ended, mut stopped) = (0, 0);
    for seed in 0..3_000 {
        let mut chance = Chance::new(seed);
        let terms = some_terms(&mut chance);
        let mut it = erasure(&terms, chance.one_in(4), 100).erasure;
        let mut at = 100_u64;
        for _ in 0..150 {
            // Mostly what somebody at work would do, and else whatever comes.
            let holder = it.lease.filter(|lease| lease.until > at).map_or(1, |lease| lease.holder);
            let useful = work(&it, &terms, at);
            let command = match useful.get(chance.below(useful.len().max(1) + 1)) {
                Some(_) if it.lease.is_none() => Command::TakeLease(Lease { holder: 1, until: at + 20 }),
                Some(Work::Begin) => Command::Begin(holder),
                Some(Work::Send(place)) => Command::Send(holder, *place),
                Some(Work::OwnData) => Command::OwnDataGone(holder),
                Some(Work::Scrub) => {
                    place_all(&mut it);
                    Command::Scrubbed(holder, it.events.len())
                }
                Some(Work::Probe(place)) => {
                    let usual = if it.state == State::Verifying { 404 } else { 200 };
                    let status = if chance.one_in(6) { [200, 404, 503, 400][chance.below(4)] } else { usual };
                    Command::Probed(holder, *place, Answer::Status(status, at + 2))
                }
                Some(Work::Remind) | None => {
                    let all = commands(&terms, at);
                    all[chance.below(all.len())].clone()
                }
            };
            if let Ok(changed) = apply(&it, &terms, command.clone(), at) {
                judge(&it, &command, &changed.erasure, &terms, at);
                it = changed.erasure;
            }
            if it.state.is_final() {
                ended += 1;
                break;
            }
            let leap = chance.below(40);
            at = if leap == 0 {
                at.saturating_sub(30)
            } else if leap == 1 {
                at + 60
            } else {
                at + (leap as u64 % 3)
            };
        }
        if !it.state.is_final() {
            stopped += 1;
            completes(&it, &terms, at);
        }
    }
    assert!(ended > 300 && stopped > 300, "{ended} {stopped}");
}
