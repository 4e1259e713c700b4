//! What is known in memory of each deletion that something is left to do for: when it is due, and what lists and counts ask for. About
//! a hundred bytes each; all else is read when it is needed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::Arc,
    time::Instant,
};

use super::{
    life::{Due, next_due},
    record::{HoldKind, Known, State},
    subject::short,
};

/// How long something is due before it counts as overdue, in seconds.
const OVERDUE_SECS: u64 = 600;

/// What is known of a deletion.
#[derive(Debug, Clone)]
struct Entry {
    /// When it is due; `u64::MAX`: it waits for a person, or for its evidence alone.
    due: u64,
    version: u64,
    plan: Arc<str>,
    /// The place of the state's name in [`State::NAMES`].
    state: u8,
    /// A bit for each kind of hold, in the order of [`HoldKind::ALL`].
    holds: u8,
    parked: bool,
    /// How many events are to be written to the audit chain.
    unplaced: u16,
    /// Until when it is left alone.
    rests_until: Option<Instant>,
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<u128, Entry>,
    due: BTreeSet<(u64, u128)>,
    unplaced: BTreeSet<u128>,
    /// Those that are left alone for a while, and until when: they are in neither of the two above, so that nobody passes over them.
    resting: BTreeSet<(Instant, u128)>,
    frozen: HashSet<u128>,
    /// Those that could not be read: they wait, and are shown as what they are.
    unreadable: BTreeSet<u128>,
    plans: HashSet<Arc<str>>,
}

/// How many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By plan and state.
    pub states: HashMap<(Arc<str>, &'static str), u64>,
    /// By kind of hold.
    pub holds: HashMap<&'static str, u64>,
    /// Those of which a step or a probe waits for a person.
    pub parked: u64,
    /// Those that should have gone on ten minutes ago, and did not.
    pub overdue: u64,
    /// Events that are to be written to the audit chain.
    pub unplaced: u64,
    /// People whose deletions are frozen.
    pub frozen: u64,
}

/// What is looked for among those that are open.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sought<'a> {
    pub(super) state: Option<&'a str>,
    pub(super) plan: Option<&'a str>,
    pub(super) hold: Option<HoldKind>,
    pub(super) parked: bool,
}

fn bit(kind: HoldKind) -> u8 {
    HoldKind::ALL
        .iter()
        .position(|known| *known == kind)
        .and_then(|place| 1_u8.checked_shl(u32::try_from(place).ok()?))
        .unwrap_or(0)
}

fn state_of(place: u8) -> &'static str {
    State::NAMES.get(usize::from(place)).copied().unwrap_or_default()
}

impl Index {
    /// Takes a deletion as it is now.
    pub(super) fn note(&mut self, known: &Known) {
        let Some(id) = short(&known.erasure.id) else { return };
        self.remove(id);
        let erasure = &known.erasure;
        if erasure.is_settled() {
            return;
        }
        let plan = match self.plans.get(&*erasure.plan) {
            Some(plan) => plan.clone(),
            None => {
                let plan: Arc<str> = (&*erasure.plan).into();
                self.plans.insert(plan.clone());
                plan
            }
        };
        let due = match next_due(erasure, &known.terms) {
            Due::At(at) => at,
            Due::Person | Due::Never => u64::MAX,
        };
        let state = State::NAMES.iter().position(|name| *name == erasure.state.name()).unwrap_or(0);
        let unplaced = u16::try_from(erasure.unplaced().count()).unwrap_or(u16::MAX);
        let entry = Entry {
            due,
            version: known.version,
            plan,
            state: u8::try_from(state).unwrap_or(0),
            holds: erasure.holds.iter().fold(0, |bits, hold| bits | bit(hold.kind)),
            parked: erasure.is_parked(),
            unplaced,
            rests_until: None,
        };
        self.line_up(id, &entry);
        self.entries.insert(id, entry);
    }

    fn line_up(&mut self, id: u128, entry: &Entry) {
        if entry.due != u64::MAX {
            self.due.insert((entry.due, id));
        }
        if entry.unplaced > 0 {
            self.unplaced.insert(id);
        }
    }

    /// Leaves a deletion alone until then, or until it changes.
    pub(super) fn rest(&mut self, id: &str, until: Instant) {
        let Some(id) = short(id) else { return };
        let Some(mut entry) = self.entries.remove(&id) else { return };
        self.take_out(id, &entry);
        entry.rests_until = Some(until);
        self.resting.insert((until, id));
        self.entries.insert(id, entry);
    }

    /// Those that were left alone for long enough are not any more. When the next one is.
    pub(super) fn wake(&mut self, now: Instant) -> Option<Instant> {
        while let Some(&(until, id)) = self.resting.first() {
            if until > now {
                return Some(until);
            }
            self.resting.pop_first();
            if let Some(mut entry) = self.entries.remove(&id) {
                entry.rests_until = None;
                self.line_up(id, &entry);
                self.entries.insert(id, entry);
            }
        }
        None
    }

    /// Whether something is left to do for any.
    pub(super) fn is_any(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whether something is left to do for a deletion.
    pub(super) fn has(&self, id: &str) -> bool {
        short(id).is_some_and(|id| self.entries.contains_key(&id))
    }

    /// Takes that a deletion cannot be read; what was known of it stays so.
    pub(super) fn note_unreadable(&mut self, id: &str) {
        self.unreadable.extend(short(id));
    }

    /// Those that cannot be read.
    pub(super) fn unreadable(&self) -> Vec<Box<str>> {
        self.unreadable.iter().map(|id| text(*id)).collect()
    }

    /// Forgets a deletion.
    pub(super) fn forget(&mut self, id: &str) {
        if let Some(id) = short(id) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u128) {
        self.unreadable.remove(&id);
        if let Some(entry) = self.entries.remove(&id) {
            self.take_out(id, &entry);
        }
    }

    fn take_out(&mut self, id: u128, entry: &Entry) {
        self.due.remove(&(entry.due, id));
        self.unplaced.remove(&id);
        if let Some(until) = entry.rests_until {
            self.resting.remove(&(until, id));
        }
    }

    /// Takes whether a person's deletions are frozen.
    pub(super) fn freeze(&mut self, key: &str, is_frozen: bool) {
        let Some(key) = short(key) else { return };
        if is_frozen {
            self.frozen.insert(key);
        } else {
            self.frozen.remove(&key);
        }
    }

    /// The version of a deletion's row.
    pub(super) fn version(&self, id: u128) -> Option<u64> {
        self.entries.get(&id).map(|entry| entry.version)
    }

    /// Those that are not among these.
    pub(super) fn others(&self, seen: &HashSet<u128>) -> Vec<u128> {
        self.entries.keys().filter(|id| !seen.contains(id)).copied().collect()
    }

    /// Those that are due and not left alone, the longest first.
    pub(super) fn due(&self, at: u64, most: usize) -> Vec<Box<str>> {
        self.due.iter().take_while(|(due, _)| *due <= at).take(most).map(|(_, id)| text(*id)).collect()
    }

    /// When the next one is due after a time.
    pub(super) fn due_after(&self, at: u64) -> Option<u64> {
        self.due.range((at.saturating_add(1), 0)..).next().map(|(due, _)| *due)
    }

    /// Those of which events are to be written to the audit chain.
    pub(super) fn unplaced(&self, most: usize) -> Vec<Box<str>> {
        self.unplaced.iter().take(most).map(|id| text(*id)).collect()
    }

    /// Those that are sought, after a number, in the order of the numbers.
    pub(super) fn page(&self, sought: Sought<'_>, after: Option<&str>, most: usize) -> Vec<Box<str>> {
        let from = after.and_then(short).map_or(Bound::Unbounded, Bound::Excluded);
        let is_sought = |entry: &Entry| {
            sought.state.is_none_or(|state| state_of(entry.state) == state)
                && sought.plan.is_none_or(|plan| &*entry.plan == plan)
                && sought.hold.is_none_or(|kind| entry.holds & bit(kind) != 0)
                && (!sought.parked || entry.parked)
        };
        let found = self.entries.range((from, Bound::Unbounded)).filter(|(_, entry)| is_sought(entry));
        found.take(most).map(|(id, _)| text(*id)).collect()
    }

    /// How many there are, at a time.
    pub(super) fn tally(&self, at: u64) -> Tally {
        let mut tally = Tally { frozen: self.frozen.len() as u64, ..Tally::default() };
        for entry in self.entries.values() {
            *tally.states.entry((entry.plan.clone(), state_of(entry.state))).or_default() += 1;
            for kind in HoldKind::ALL.into_iter().filter(|kind| entry.holds & bit(*kind) != 0) {
                *tally.holds.entry(kind.name()).or_default() += 1;
            }
            tally.parked += u64::from(entry.parked);
            tally.overdue += u64::from(entry.due.saturating_add(OVERDUE_SECS) < at);
            tally.unplaced += u64::from(entry.unplaced);
        }
        tally
    }
}

fn text(id: u128) -> Box<str> {
    format!("{id:032x}").into()
}
