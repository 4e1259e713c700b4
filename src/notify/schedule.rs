//! When each message is tried: pure, with the time as an argument. It knows numbers and moments, no contents.
//!
//! ```text
//!             enqueue                 its row is there            due, and a slot is free
//!   (nothing) ───────> Hoped ────────────────────────> Waiting ──────────────────────────> UnderWay
//!                        │ no row after 30 s              ▲ └── at the start: rows that are there   │
//!                        ▼                                └──────── later ─────────────────────────┤
//!                    forgotten                                                            finished ▼ forgotten
//! ```
//! Attempts are counted here and not in the store: after a restart the first one comes at once, which is what somebody who
//! restarts the gateway, or mends what was broken, wants.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// A message's number.
pub(super) type Key = Arc<str>;

/// How many messages that are of use for minutes may wait for one channel: somebody asks for each of them, and who asks need
/// not be anybody.
pub(super) const MOST_PASSING: usize = 5_000;
/// How many others may wait for one channel: some days of a large estate's changes.
pub(super) const MOST_LASTING: usize = 10_000;
/// How many deliveries may be under way to one channel, and how many of them for messages that can wait: so a backlog never
/// stands before a code that somebody looks at their telephone for.
const SLOTS: usize = 4;
const SLOTS_LASTING: usize = 2;
/// The first pause after a failure, and the longest; half of each is left to chance.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);
/// How long a row may take to appear: the commit was given up, or failed.
const HOPE: Duration = Duration::from_secs(30);
/// When a row is looked for whose writer never says that it was committed, and how often then.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// What is known of a message without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outline {
    /// The channel that it waits for.
    pub(super) lane: Arc<str>,
    /// Whether it is of use for a short time only.
    pub(super) passing: bool,
    /// From when on it is of no use, in seconds since the epoch.
    pub(super) expires_at: u64,
}

#[derive(Debug)]
struct Entry {
    outline: Outline,
    attempts: u32,
    /// Whether nothing is left to do but to take its row away.
    settled: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Hoped { until: Instant, look: Instant, looks: u32 },
    Waiting { due: Instant },
    UnderWay,
}

/// One channel's messages.
#[derive(Debug, Default)]
struct Lane {
    passing: Queue,
    lasting: Queue,
    /// Whether the last attempt failed.
    failing: bool,
    /// The number that was told last.
    told: Option<usize>,
}

#[derive(Debug, Default)]
struct Queue {
    due: BTreeSet<(Instant, Key)>,
    under_way: usize,
    /// Hoped for, waiting and under way.
    held: usize,
}

impl Lane {
    fn queue(&mut self, passing: bool) -> &mut Queue {
        if passing { &mut self.passing } else { &mut self.lasting }
    }

    fn free(&self, passing: bool) -> bool {
        self.passing.under_way + self.lasting.under_way < SLOTS && (passing || self.lasting.under_way < SLOTS_LASTING)
    }

    fn held(&self) -> usize {
        self.passing.held + self.lasting.held
    }
}

/// When each message is tried.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    lanes: HashMap<Arc<str>, Lane>,
    entries: HashMap<Key, Entry>,
    hopes: BTreeSet<(Instant, Key)>,
    /// Those that were hoped for since the last poke.
    fresh: Vec<Key>,
}

/// A message whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) key: Key,
    /// Whether nothing is left to do but to take its row away.
    pub(super) settled: bool,
}

impl Schedule {
    /// Whether another message of this kind may wait.
    pub(super) fn has_room(&self, outline: &Outline) -> bool {
        let Some(lane) = self.lanes.get(&outline.lane) else { return true };
        if outline.passing { lane.passing.held < MOST_PASSING } else { lane.lasting.held < MOST_LASTING }
    }

    /// Keeps a place for a message whose row is about to be written.
    pub(super) fn hope(&mut self, key: Key, outline: Outline, now: Instant) {
        if self.entries.contains_key(&key) {
            return; // a commit that is tried again
        }
        let state = State::Hoped { until: now + HOPE, look: now + FIRST_LOOK, looks: 0 };
        self.hopes.insert((now + FIRST_LOOK, Arc::clone(&key)));
        self.fresh.push(Arc::clone(&key));
        self.insert(key, outline, state);
    }

    /// Somebody has committed something: rows that were not looked for yet are looked for now.
    pub(super) fn poke(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.fresh) {
            let Some(Entry { state: State::Hoped { look, looks: 0, .. }, .. }) = self.entries.get_mut(&key) else {
                continue;
            };
            self.hopes.remove(&(*look, Arc::clone(&key)));
            *look = now;
            self.hopes.insert((now, key));
        }
    }

    /// The messages whose rows are to be looked for now.
    pub(super) fn to_look_for(&self, now: Instant) -> Vec<Key> {
        self.hopes.iter().take_while(|(look, _)| *look <= now).map(|(_, key)| Arc::clone(key)).collect()
    }

    /// There is no such row, yet or ever.
    pub(super) fn missing(&mut self, key: &Key, now: Instant) {
        let Some(Entry { state: State::Hoped { until, look, looks }, .. }) = self.entries.get_mut(key) else { return };
        self.hopes.remove(&(*look, Arc::clone(key)));
        if now >= *until {
            self.finish(key);
            return;
        }
        *looks = looks.saturating_add(1);
        *look = now + LONGEST_LOOK.min(FIRST_LOOK * 2_u32.saturating_pow(looks.saturating_sub(1)) / 4);
        self.hopes.insert((*look, Arc::clone(key)));
    }

    /// The message's row is there: its turn is now.
    pub(super) fn found(&mut self, key: Key, outline: Outline, now: Instant) {
        match self.entries.get(&key).map(|entry| entry.state) {
            Some(State::Waiting { .. } | State::UnderWay) => return,
            Some(State::Hoped { look, .. }) => {
                self.hopes.remove(&(look, Arc::clone(&key)));
                self.finish(&key);
            }
            None => {}
        }
        self.lane(&outline.lane).queue(outline.passing).due.insert((now, Arc::clone(&key)));
        self.insert(key, outline, State::Waiting { due: now });
    }

    /// Whose turn it is, as far as there are slots; they are under way from here on.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Turn> {
        let mut turns = Vec::new();
        for lane in self.lanes.values_mut() {
            for passing in [true, false] {
                while lane.free(passing) {
                    let queue = lane.queue(passing);
                    let Some((due, key)) = queue.due.pop_first() else { break };
                    if due > now {
                        queue.due.insert((due, key));
                        break;
                    }
                    queue.under_way += 1;
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.state = State::UnderWay;
                        turns.push(Turn { key, settled: entry.settled });
                    }
                }
            }
        }
        turns
    }

    /// A message under way is tried again later, sooner the less time is left to it. `chance` spreads those that failed
    /// together.
    pub(super) fn later(&mut self, key: &Key, now: Instant, now_secs: u64, chance: u32) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.state == State::UnderWay) else { return };
        let left = Duration::from_secs(entry.outline.expires_at.saturating_sub(now_secs));
        let due = now + pause(entry.attempts, left, chance);
        entry.attempts = entry.attempts.saturating_add(1);
        entry.state = State::Waiting { due };
        let Outline { lane, passing, .. } = entry.outline.clone();
        let queue = self.lane(&lane).queue(passing);
        queue.under_way = queue.under_way.saturating_sub(1);
        queue.due.insert((due, Arc::clone(key)));
    }

    /// Nothing is left to do for a message but to take its row away.
    pub(super) fn settle(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.settled = true;
        }
    }

    /// Forgets a message.
    pub(super) fn finish(&mut self, key: &Key) {
        let Some(Entry { outline, state, .. }) = self.entries.remove(key) else { return };
        let queue = self.lane(&outline.lane).queue(outline.passing);
        queue.held = queue.held.saturating_sub(1);
        match state {
            State::UnderWay => queue.under_way = queue.under_way.saturating_sub(1),
            State::Waiting { due } => drop(queue.due.remove(&(due, Arc::clone(key)))),
            State::Hoped { look, .. } => drop(self.hopes.remove(&(look, Arc::clone(key)))),
        }
    }

    /// Everything that waits is tried now: the channels are others.
    pub(super) fn hurry(&mut self, now: Instant) {
        for lane in self.lanes.values_mut() {
            for queue in [&mut lane.passing, &mut lane.lasting] {
                for (due, key) in std::mem::take(&mut queue.due) {
                    let due = due.min(now);
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.state = State::Waiting { due };
                        entry.attempts = 0;
                    }
                    queue.due.insert((due, key));
                }
            }
        }
    }

    /// When there is something to do next, slots that become free apart.
    pub(super) fn next(&self) -> Option<Instant> {
        let first = |queue: &Queue| queue.due.first().map(|(due, _)| *due);
        let lanes = self.lanes.values().flat_map(|lane| {
            [lane.free(true).then(|| first(&lane.passing)), lane.free(false).then(|| first(&lane.lasting))]
        });
        lanes.flatten().flatten().chain(self.hopes.first().map(|(look, _)| *look)).min()
    }

    /// Notes whether an attempt failed; whether that is news.
    pub(super) fn is_news(&mut self, lane: &Arc<str>, failing: bool) -> bool {
        std::mem::replace(&mut self.lane(lane).failing, failing) != failing
    }

    /// The channels whose numbers of waiting messages are others than were told last.
    pub(super) fn take_news(&mut self) -> Vec<(Arc<str>, usize)> {
        let mut changed = Vec::new();
        for (name, lane) in &mut self.lanes {
            let held = lane.held();
            if lane.told.replace(held) != Some(held) {
                changed.push((Arc::clone(name), held));
            }
        }
        changed
    }

    fn insert(&mut self, key: Key, outline: Outline, state: State) {
        let entry = Entry { outline, attempts: 0, settled: false, state };
        let queue = self.lane(&entry.outline.lane).queue(entry.outline.passing);
        queue.held += 1;
        self.entries.insert(key, entry);
    }

    fn lane(&mut self, name: &Arc<str>) -> &mut Lane {
        self.lanes.entry(Arc::clone(name)).or_default()
    }
}

/// How long to wait after so many failures before: twice as long each time, but never longer than a tenth of what is left.
fn pause(failures: u32, left: Duration, chance: u32) -> Duration {
    let longest = (left / 10).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    let half = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(longest) / 2;
    half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const NOW_SECS: u64 = 1_000_000;

    fn lasting(lane: &str) -> Outline {
        Outline { lane: lane.into(), passing: false, expires_at: NOW_SECS + 3 * 86_400 }
    }

    fn passing(lane: &str) -> Outline {
        Outline { lane: lane.into(), passing: true, expires_at: NOW_SECS + 300 }
    }

    fn started(schedule: &mut Schedule, now: Instant) -> Vec<String> {
        let mut keys: Vec<String> = schedule.start(now).into_iter().map(|turn| turn.key.to_string()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn pauses_grow_from_a_second_to_ten_minutes_and_are_left_to_chance() {
        let days = Duration::from_secs(3 * 86_400);
        assert_eq!(pause(0, days, 0), Duration::from_secs(1));
        assert_eq!(pause(0, days, u32::MAX), Duration::from_secs(2));
        assert_eq!(pause(3, days, u32::MAX), Duration::from_secs(16));
        for failures in [20, 64, u32::MAX] {
            assert_eq!(pause(failures, days, 0), Duration::from_secs(300));
            assert_eq!(pause(failures, days, u32::MAX), Duration::from_secs(600));
        }
    }

    #[test]
    fn a_code_is_never_put_off_for_long() {
        let code = Duration::from_secs(300);
        assert_eq!(pause(20, code, u32::MAX), Duration::from_secs(30));
        assert_eq!(pause(20, Duration::from_secs(20), u32::MAX), Duration::from_secs(2));
        assert_eq!(pause(20, Duration::ZERO, u32::MAX), Duration::from_secs(2));
    }

    #[test]
    fn a_message_is_hoped_for_until_its_row_is_there() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.hope("a".into(), lasting("x"), start);
        assert!(schedule.to_look_for(start).is_empty());
        schedule.poke(start);
        assert_eq!(schedule.to_look_for(start), ["a".into()]);
        schedule.missing(&"a".into(), start);
        schedule.poke(start);
        assert!(schedule.to_look_for(start).is_empty(), "it was looked for just now");
        let next = schedule.next().unwrap();
        assert!(next > start && next <= start + FIRST_LOOK, "{:?}", next - start);
        schedule.found("a".into(), lasting("x"), next);
        assert_eq!(started(&mut schedule, next), ["a"]);
        schedule.found("a".into(), lasting("x"), next);
        assert!(started(&mut schedule, next).is_empty(), "it is under way");
        schedule.finish(&"a".into());
        assert_eq!(schedule.next(), None);
        assert!(schedule.entries.is_empty() && schedule.lanes["x"].held() == 0);
    }

    #[test]
    fn a_commit_that_never_comes_holds_no_place_for_ever() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.hope("a".into(), lasting("x"), start);
        let mut looks = 0;
        while let Some(next) = schedule.next() {
            looks += 1;
            assert!(looks < 50 && next <= start + HOPE + LONGEST_LOOK);
            for key in schedule.to_look_for(next) {
                schedule.missing(&key, next);
            }
        }
        assert!(looks > 10 && schedule.entries.is_empty() && schedule.lanes["x"].held() == 0, "{looks}");
    }

    #[test]
    fn a_backlog_never_stands_before_a_code_and_a_dead_channel_before_no_other() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for n in 0..10 {
            schedule.found(format!("old{n}").into(), lasting("x"), now);
        }
        assert_eq!(started(&mut schedule, now), ["old0", "old1"]);
        for n in 0..3 {
            schedule.found(format!("code{n}").into(), passing("x"), now);
        }
        schedule.found("other".into(), lasting("y"), now);
        assert_eq!(started(&mut schedule, now), ["code0", "code1", "other"]);
        assert_eq!(schedule.next(), None, "all slots are taken");
        schedule.finish(&"code0".into());
        assert_eq!(started(&mut schedule, now), ["code2"]);
        schedule.later(&"old0".into(), now, NOW_SECS, 0);
        assert_eq!(started(&mut schedule, now), ["old2"]);
        let due = now + Duration::from_secs(1);
        ["old1", "old2"].iter().for_each(|key| schedule.finish(&Key::from(*key)));
        assert_eq!(started(&mut schedule, due), ["old3", "old4"], "those that never had a turn come first");
    }

    #[test]
    fn each_channel_holds_so_many_of_each_kind_and_no_more() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for n in 0..MOST_PASSING {
            assert!(schedule.has_room(&passing("x")));
            schedule.hope(n.to_string().into(), passing("x"), now);
        }
        assert!(!schedule.has_room(&passing("x")));
        assert!(schedule.has_room(&lasting("x")), "codes that anybody asks for leave room for changes");
        assert!(schedule.has_room(&passing("y")));
        schedule.finish(&"7".into());
        assert!(schedule.has_room(&passing("x")));
    }

    #[test]
    fn other_channels_are_a_reason_to_try_everything_at_once() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.found("a".into(), lasting("x"), now);
        for _ in 0..20 {
            let due = schedule.next().unwrap();
            assert_eq!(started(&mut schedule, due), ["a"]);
            schedule.later(&"a".into(), due, NOW_SECS, 0);
        }
        assert!(schedule.next().unwrap() >= now + Duration::from_secs(300));
        schedule.hurry(now);
        assert_eq!(started(&mut schedule, now), ["a"]);
    }

    #[test]
    fn what_is_settled_stays_so_until_its_row_is_gone() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.found("a".into(), lasting("x"), now);
        assert_eq!(schedule.start(now), [Turn { key: "a".into(), settled: false }]);
        schedule.settle(&"a".into());
        schedule.later(&"a".into(), now, NOW_SECS, 0);
        schedule.found("a".into(), lasting("x"), now);
        let due = schedule.next().unwrap();
        assert_eq!(schedule.start(due), [Turn { key: "a".into(), settled: true }]);
    }
}
