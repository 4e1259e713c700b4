//! What names stand for, as the process knows it. Each name has a task on the runtime of background work, which asks again when the
//! answer has lived its time, so that no request waits for a name server but the first one of all.
//!
//! ```text
//!  asked ──> answered ── its TTL, 1 s to 5 min ──> asked ...
//!    │           └── while nobody answers: the last good answer, for 5 minutes more
//!    └─> no answer ── what it says of itself, or 1 s, doubled up to 30 s ──> asked ...
//! ```

use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{
    fault::ConnectFault,
    resolver::{Answer, NoAnswer, Resolver, looks},
};

/// The shortest time between two questions for one name: an answer that is good for no time at all is still one.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time that an answer is believed, whatever it says of itself: those who move a service and forgot to shorten its
/// time before are found again.
const LONGEST: Duration = Duration::from_secs(300);
/// How long an old answer serves while there is no new one: a broken name server should not be a broken service.
const STALE: Duration = Duration::from_secs(300);
/// The longest pause after questions that brought no answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked whether the machine's files say other than before.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The addresses of a host.
    Addresses(Box<str>),
    /// The services of a name (RFC 2782).
    Services(Box<str>),
}

/// A place that a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ip: IpAddr,
    /// Where a service says it.
    pub(super) port: Option<u16>,
    /// As the answer has it, 0 included.
    pub(super) weight: u16,
    /// The largest weight of its priority.
    pub(super) heaviest: u16,
    /// The lowest first.
    pub(super) priority: u16,
}

/// A name, and what it stands for.
#[derive(Debug)]
pub(super) struct Name {
    question: Question,
    state: watch::Sender<State>,
    keeper: Mutex<Option<(Arc<Resolver>, AbortHandle)>>,
}

/// What is known of a name.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The last good answer, unless it is too old.
    pub(super) found: Option<Arc<[Found]>>,
    /// Why the last question brought none; `None` if it did, or if none was asked yet.
    pub(super) failing: Option<Arc<str>>,
}

impl State {
    /// Whether an answer came, or none will.
    pub(super) const fn is_known(&self) -> bool {
        self.found.is_some() || self.failing.is_some()
    }
}

impl Name {
    pub(super) fn new(question: Question) -> Arc<Self> {
        Arc::new(Self { question, state: watch::Sender::new(State::default()), keeper: Mutex::new(None) })
    }

    /// What is asked for.
    pub(super) const fn question(&self) -> &Question {
        &self.question
    }

    /// What is known, and word of what changes.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Whether the last question brought no answer.
    pub(super) fn is_failing(&self) -> bool {
        self.state.borrow().failing.is_some()
    }

    /// Its places; waits for the first answer of all, and no other.
    pub(super) async fn places(&self, deadline: Instant) -> Result<Arc<[Found]>, ConnectFault> {
        let mut state = self.state.subscribe();
        let known = timeout_at(deadline, state.wait_for(State::is_known)).await;
        let known = known.map_err(|_| ConnectFault::Timeout)?;
        let known = known.map_err(|_| ConnectFault::Resolve(io::ErrorKind::BrokenPipe.into()))?;
        known.found.clone().ok_or_else(|| {
            let why = known.failing.as_deref().unwrap_or("the name has no address").to_owned();
            ConnectFault::Resolve(io::Error::new(io::ErrorKind::NotFound, why))
        })
    }

    /// Has it asked for from now on, of `resolver`. Who asks already goes on.
    pub(super) fn keep(self: &Arc<Self>, background: &Handle, resolver: &Arc<Resolver>) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, task)) = &*keeper {
            if Arc::ptr_eq(before, resolver) {
                return;
            }
            task.abort();
        }
        let task = background.spawn(go_on(Arc::downgrade(self), Arc::clone(resolver)));
        *keeper = Some((Arc::clone(resolver), task.abort_handle()));
    }

    /// Notes an answer, or that there is none; gives when to ask again.
    fn note(&self, asked: Result<Answer, NoAnswer>, memory: &mut Memory, now: Instant) -> Duration {
        match asked {
            Ok(Answer { found, lasts }) => {
                let lasts = lasts.clamp(SHORTEST, LONGEST);
                memory.failures = 0;
                memory.good_until = now + lasts + STALE;
                if let Some(was) = &self.state.borrow().failing {
                    tracing::info!(name = self.question.name(), was = &**was, "name resolved again");
                }
                self.state.send_modify(|state| *state = State { found: Some(found.into()), failing: None });
                lasts
            }
            Err(NoAnswer { why, lasts }) => {
                let is_new = !self.is_failing();
                let is_over = now >= memory.good_until;
                if is_new {
                    tracing::warn!(
                        name = self.question.name(),
                        error = why,
                        "name not resolved: the last answer serves"
                    );
                }
                self.state.send_modify(|state| {
                    state.failing = Some(why.into());
                    if is_over {
                        state.found = None;
                    }
                });
                let pause = SHORTEST.saturating_mul(1 << memory.failures.min(8));
                memory.failures = memory.failures.saturating_add(1);
                lasts.unwrap_or(pause).clamp(SHORTEST, LONGEST_PAUSE)
            }
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some((_, task)) = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Question {
    /// The name, for logs.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Addresses(name) | Self::Services(name) => name,
        }
    }
}

/// What is remembered from one question to the next.
struct Memory {
    failures: u32,
    good_until: Instant,
}

async fn go_on(name: Weak<Name>, resolver: Arc<Resolver>) {
    let mut memory = Memory { failures: 0, good_until: Instant::now() };
    loop {
        let before = looks();
        let Some(question) = name.upgrade().map(|name| name.question.clone()) else { return };
        let asked = resolver.ask(&question).await;
        let Some(pause) = name.upgrade().map(|name| name.note(asked, &mut memory, Instant::now())) else { return };
        let due = Instant::now() + pause;
        while Instant::now() < due {
            sleep(LOOK_EVERY.min(due.saturating_duration_since(Instant::now()))).await;
            if looks() != before {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    fn name() -> Arc<Name> {
        Name::new(Question::Addresses("api.internal".into()))
    }

    fn answer(address: &str, lasts: u64) -> Result<Answer, NoAnswer> {
        let found = vec![Found { ip: address.parse().unwrap(), port: None, weight: 1, heaviest: 1, priority: 0 }];
        Ok(Answer { found, lasts: Duration::from_secs(lasts) })
    }

    fn none(lasts: Option<u64>) -> Result<Answer, NoAnswer> {
        Err(NoAnswer { why: "nobody answers".into(), lasts: lasts.map(Duration::from_secs) })
    }

    #[test]
    fn answers_live_as_long_as_they_say_within_bounds() {
        let (name, now) = (name(), Instant::now());
        let mut memory = Memory { failures: 0, good_until: now };
        for (says, lasts) in [(0, 1), (1, 1), (60, 60), (86_400, 300)] {
            assert_eq!(name.note(answer("192.0.2.1", says), &mut memory, now), Duration::from_secs(lasts));
        }
    }

    #[test]
    fn the_last_good_answer_serves_for_five_minutes_more() {
        let (name, start) = (name(), Instant::now());
        let mut memory = Memory { failures: 0, good_until: start };
        name.note(answer("192.0.2.1", 10), &mut memory, start);
        name.note(none(None), &mut memory, start + Duration::from_secs(309));
        assert!(name.state.borrow().found.is_some() && name.is_failing());
        name.note(none(None), &mut memory, start + Duration::from_secs(310));
        assert!(name.state.borrow().found.is_none());
        name.note(answer("192.0.2.2", 10), &mut memory, start + Duration::from_secs(311));
        assert!(name.state.borrow().found.is_some() && !name.is_failing());
    }

    #[test]
    fn the_pause_doubles_while_nobody_answers_and_a_negative_answer_says_its_own() {
        let (name, now) = (name(), Instant::now());
        let mut memory = Memory { failures: 0, good_until: now };
        for secs in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(name.note(none(None), &mut memory, now), Duration::from_secs(secs));
        }
        assert_eq!(name.note(none(Some(3)), &mut memory, now), Duration::from_secs(3));
        assert_eq!(name.note(none(Some(3600)), &mut memory, now), LONGEST_PAUSE);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_first_need_waits_and_no_other_does() {
        let name = name();
        let soon = || Instant::now() + Duration::from_millis(20);
        assert!(matches!(name.places(soon()).await, Err(ConnectFault::Timeout)));
        let mut memory = Memory { failures: 0, good_until: Instant::now() };
        name.note(none(None), &mut memory, Instant::now());
        assert!(matches!(name.places(soon()).await, Err(ConnectFault::Resolve(_))));
        name.note(answer("192.0.2.1", 1), &mut memory, Instant::now());
        assert_eq!(name.places(soon()).await.unwrap().len(), 1);
    }
}
