//! From a service with several targets to a connection with one of them: who may be chosen, whose turn it is, and who is next
//! when no connection can be made.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    balance::{Candidate, first_for, in_turn, less_loaded, turn_back},
    connect::Purpose,
    fault::{BoxError, UpstreamFault},
    health::{Admission, Standing, WHOLE_SHARE},
    observer::Repetition,
    pools::{Chosen, From, ServicePool, View},
    target::Target,
};
use crate::{config::Balance, spread::mix};

/// The targets that one request has been with, by their place in its view of the service.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// No connection could be made: not again.
    pub(super) unreachable: SmallVec<[usize; 4]>,
    /// It answered badly: another, if there is one.
    pub(super) disappointing: SmallVec<[usize; 4]>,
}

/// A target that is to be used, and why it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    /// Its place in the view.
    pub(super) at: usize,
    /// Why it may be.
    pub(super) admission: Admission,
}

/// A request that finds out whether a target is back. Dropped, it lets another do so, unless it has found out.
pub(super) struct Probing(Arc<Target>);

impl Probing {
    /// What is to be held by who was admitted so.
    pub(super) fn of(target: &Arc<Target>, admission: Admission) -> Option<Self> {
        (admission == Admission::Probe).then(|| Self(Arc::clone(target)))
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.health.give_back();
    }
}

impl<B> ServicePool<B> {
    /// Whose turn it is; `None` if every target has been found unreachable. First come targets that are well, then those among them
    /// that answered this request badly, then those that are left out: they may have been mistaken for unwell.
    fn pick(&self, view: &View<B>, tried: &Tried, hash: Option<u64>, now: std::time::Instant) -> Option<Pick> {
        let rules = &self.service.config().balancing;
        let mut standings: SmallVec<[Standing; 8]> =
            view.targets.iter().map(|pool| pool.target.health.standing(now)).collect();
        let well = standings.iter().filter(|standing| **standing != Standing::Out).count();
        // So many are unwell that the others could not bear it all, or that something else is wrong.
        let has_spares = view.has_spares;
        let panics = well * 100 < usize::from(rules.ejection.panic) * standings.len() && !(has_spares && well > 0);
        loop {
            let mut tiers: [SmallVec<[Candidate; 8]>; 3] = Default::default();
            for (at, ((pool, weight), standing)) in view.targets.iter().zip(&view.weights).zip(&standings).enumerate() {
                if tried.unreachable.contains(&at) {
                    continue;
                }
                let share =
                    rules.slow_start.map_or(WHOLE_SHARE, |slow_start| pool.target.health.share(slow_start, now));
                let candidate = Candidate { at, weight: u32::from(*weight).saturating_mul(share) };
                let is_disappointing = tried.disappointing.contains(&at);
                let [first, second, last] = &mut tiers;
                match (*standing == Standing::Out && !panics, is_disappointing) {
                    (false, false) => first.push(candidate),
                    (false, true) => second.push(candidate),
                    (true, _) => last.push(candidate),
                }
            }
            let candidates = tiers.iter_mut().find(|tier| !tier.is_empty())?;
            if has_spares {
                let priority = |candidate: &Candidate| view.priorities.get(candidate.at).copied();
                let first = candidates.iter().map(priority).min()?;
                candidates.retain(|candidate| priority(candidate) == first);
            }
            let candidates = &*candidates;
            let at = match (&rules.balance, hash) {
                (Balance::Hash(_), Some(key)) => {
                    first_for(key, candidates, |at: usize| view.targets.get(at).map_or(0, |pool| pool.target.seed))
                }
                (Balance::LeastRequests, _) => {
                    let load = |at: usize| view.targets.get(at).map_or(0, |pool| pool.target.under_way.load(Relaxed));
                    less_loaded(candidates, load, self.random())
                }
                (Balance::RoundRobin | Balance::Hash(_), _) => in_turn(&view.credits, candidates),
            }?;
            let health = &view.targets.get(at)?.target.health;
            let standing = standings.get_mut(at)?;
            let admission = match standing {
                Standing::Healthy => Admission::Healthy,
                Standing::Out => Admission::Ejected,
                Standing::ProbeDue => health.admit(now),
            };
            if admission == Admission::Ejected && *standing == Standing::ProbeDue {
                // Somebody else finds out.
                *standing = Standing::Out;
                continue;
            }
            return Some(Pick { at, admission });
        }
    }

    /// The usual case with several targets: all are well, they take turns, and the one whose turn it is has an idle connection. If it is
    /// otherwise nothing has been done.
    pub(super) fn take_in_turn(&self, view: &View<B>, now: Instant) -> Option<Chosen<B>> {
        let rules = &self.service.config().balancing;
        let is_usual = matches!(rules.balance, Balance::RoundRobin) && rules.slow_start.is_none() && !view.has_spares;
        if !is_usual || view.targets.iter().any(|pool| pool.target.health.is_out()) {
            return None;
        }
        let candidate =
            |(at, weight): (usize, &u16)| Candidate { at, weight: u32::from(*weight).saturating_mul(WHOLE_SHARE) };
        let candidates: SmallVec<[Candidate; 8]> = view.weights.iter().enumerate().map(candidate).collect();
        let at = in_turn(&view.credits, &candidates)?;
        let pool = view.targets.get(at)?;
        let Some(line) = pool.take(now) else {
            turn_back(&view.credits, &candidates, at);
            return None;
        };
        self.observer.reused();
        Some(Chosen { line, pool: Rc::clone(pool), is_at_once: true })
    }

    /// The next number of a sequence that looks drawn; what it decides needs no more.
    fn random(&self) -> u64 {
        let next = self.draws.get().wrapping_add(1);
        self.draws.set(next);
        mix(next)
    }
}

impl<B> ServicePool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Gets a connection to the target whose turn it is, or to the next ones where that one takes none; and what is to be held until the
    /// target was judged, where nobody else finds out meanwhile.
    pub(super) async fn choose(
        &self,
        view: &View<B>,
        (tried, from): (&mut Tried, From),
        (hash, purpose): (Option<u64>, Purpose),
        now: Instant,
    ) -> Result<(Chosen<B>, Pick, Option<Probing>), UpstreamFault> {
        let budget = Budget { time: self.service.connect_timeout(), ends: Cell::new(None) };
        let goes_on = self.service.config().balancing.retries.connect;
        let mut now = now;
        let mut last = None;
        loop {
            let Some(pick) = self.pick(view, tried, hash, now.into_std()) else {
                return Err(last.unwrap_or_else(|| self.service.nowhere()));
            };
            let Some(pool) = view.targets.get(pick.at) else { return Err(self.service.nowhere()) };
            if last.is_some() {
                self.observer.retried(Repetition::Connect);
            }
            let probing = Probing::of(&pool.target, pick.admission);
            let left = if goes_on { view.targets.len().saturating_sub(tried.unreachable.len()) } else { 1 };
            match self.obtain(pool, pick.admission, (from, purpose), now, || budget.share(left)).await {
                Ok(chosen) => return Ok((chosen, pick, probing)),
                Err(fault) if !goes_on => return Err(fault),
                Err(fault) => last = Some(fault),
            }
            tried.unreachable.push(pick.at);
            now = Instant::now();
        }
    }
}

/// The time in which one request must have its connection, however many targets are tried for it.
pub(super) struct Budget {
    pub(super) time: Duration,
    /// Unknown until it is needed: a request that finds an idle connection reads no clock for it.
    pub(super) ends: Cell<Option<Instant>>,
}

impl Budget {
    /// When the next of `left` attempts must be done: each has an equal share of what is left, so that a target that
    /// swallows packets does not keep the others from being tried.
    pub(super) fn share(&self, left: usize) -> Instant {
        let now = Instant::now();
        let ends = self.ends.get().unwrap_or(now + self.time);
        self.ends.set(Some(ends));
        now + ends.saturating_duration_since(now) / u32::try_from(left.max(1)).unwrap_or(u32::MAX)
    }
}
