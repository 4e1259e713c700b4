//! Targets that names stand for: every address of a name, or every service that it has (RFC 2782). A task of each service that has
//! such names publishes what they stand for at the moment; a place that stays keeps its target, and with it health, connections
//! and sessions.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{
    names::{Found, Name, Question, State},
    resolver::Resolver,
    service::Service,
    target::Target,
    target_set::Member,
};
use crate::config::{Reach, UpstreamTarget};

/// How often it is looked whether the places of the lowest priority still answer, where there are others.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The largest weight of a target: those of SRV go to 65,535, and are scaled down to it.
const LARGEST_WEIGHT: u32 = 1000;

/// Where targets of a service come from, in the order of the configuration.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Named as it is.
    Fixed(Member),
    /// What a name stands for.
    Named(Arc<Named>),
}

/// A target of the configuration that stands for several.
#[derive(Debug)]
pub(super) struct Named {
    /// What each of them is like, but for the place.
    prototype: Target,
    weight: u16,
    name: Arc<Name>,
}

impl Named {
    /// A source of targets like `prototype`. What is known of its name is taken over from one `before` that asks for the same.
    pub(super) fn new(prototype: Target, weight: u16, before: &[Source]) -> Self {
        let question = question(&prototype.config);
        let kept = before.iter().filter_map(Source::named).find(|named| *named.name.question() == question);
        let name = kept.map_or_else(|| Name::new(question.clone()), |named| Arc::clone(&named.name));
        Self { prototype, weight, name }
    }

    /// Whether its name was answered, or is known to have no answer.
    pub(super) fn is_known(&self) -> bool {
        self.name.watch().borrow().is_known()
    }

    /// Whether the last question for its name brought no answer.
    pub(super) fn is_failing(&self) -> bool {
        self.name.is_failing()
    }

    /// Its targets of the lowest priority that has one that answers, by what is known of the name.
    fn members(&self, found: &[Found], known: &[Member]) -> Vec<Member> {
        let mut priorities: Vec<u16> = found.iter().map(|found| found.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let mut members = Vec::new();
        for priority in priorities {
            let class: Vec<&Found> = found.iter().filter(|found| found.priority == priority).collect();
            let largest = class.iter().map(|found| u32::from(found.weight)).max().unwrap_or(0);
            let first = members.len();
            for found in class {
                let at = SocketAddr::new(found.ip, found.port.unwrap_or(self.prototype.config.address.port));
                let target = self.target(at, known);
                // SRV's weight 0 is a small share beside others (RFC 2782), and an equal one among its like.
                let weight = match self.prototype.config.reach {
                    Reach::Services(_) => scaled(found.weight, largest),
                    Reach::Host | Reach::EachAddress | Reach::Unix(_) => self.weight,
                };
                members.push(Member { target, weight });
            }
            // Others are used beside them where none of these answers: then it is found out when one does again.
            if members.iter().skip(first).any(|member: &Member| !member.target.is_out()) {
                break;
            }
        }
        members
    }

    fn target(&self, at: SocketAddr, known: &[Member]) -> Arc<Target> {
        let same = known.iter().find(|member| member.target.is_at(at) && member.target.is_like(&self.prototype));
        match same {
            Some(member) => Arc::clone(&member.target),
            None => Arc::new(self.prototype.at(at)),
        }
    }
}

fn question(target: &UpstreamTarget) -> Question {
    match &target.reach {
        Reach::Services(name) => Question::Services((&**name).into()),
        Reach::EachAddress | Reach::Host | Reach::Unix(_) => Question::Addresses((&*target.address.host).into()),
    }
}

fn scaled(weight: u16, largest: u32) -> u16 {
    if largest <= LARGEST_WEIGHT {
        return weight.max(1);
    }
    let share = u64::from(weight) * u64::from(LARGEST_WEIGHT) / u64::from(largest);
    u16::try_from(share).unwrap_or(u16::MAX).max(1)
}

/// The targets of all sources, by what is known of their names; targets in `known` are kept.
pub(super) fn members(sources: &[Source], known: &[Member]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for source in sources {
        match source {
            Source::Fixed(member) => members.push(member.clone()),
            Source::Named(named) => {
                let state = named.name.watch().borrow().clone();
                members.extend(named.members(state.found.as_deref().unwrap_or_default(), known));
            }
        }
    }
    // Two records, or two names, may lead to one place.
    let mut seen = HashMap::new();
    members.retain(|member| seen.insert(member.target.id, ()).is_none());
    members
}

/// Has a service's names asked for, and what they stand for published.
pub(super) fn put_in_force(service: &Arc<Service>, background: &Handle, resolver: &Arc<Resolver>) {
    for member in service.targets().iter() {
        member.target.keep_name(background, resolver);
    }
    let named: Vec<Arc<Named>> = service.sources().iter().filter_map(Source::named).cloned().collect();
    if named.is_empty() {
        return;
    }
    named.iter().for_each(|named| named.name.keep(background, resolver));
    background.spawn(go_on(Arc::downgrade(service), named.iter().map(|named| named.name.watch()).collect()));
}

impl Source {
    pub(super) const fn named(&self) -> Option<&Arc<Named>> {
        match self {
            Self::Named(named) => Some(named),
            Self::Fixed(_) => None,
        }
    }
}

/// Publishes whenever something changed, until the service is gone.
async fn go_on(service: Weak<Service>, mut names: Vec<watch::Receiver<State>>) {
    // What targets there were, as a place that is left out for its priority alone keeps its target as well.
    let mut known: Vec<Member> = Vec::new();
    loop {
        {
            let Some(service) = service.upgrade() else { return };
            let states: Vec<State> = names.iter_mut().map(|name| name.borrow_and_update().clone()).collect();
            let current = service.targets();
            for member in current.iter() {
                if !known.iter().any(|known| known.target.id == member.target.id) {
                    known.push(member.clone());
                }
            }
            let members = members(service.sources(), &known);
            let same =
                |(one, other): (&Member, &Member)| one.target.id == other.target.id && one.weight == other.weight;
            let is_same = members.len() == current.len() && members.iter().zip(current.iter()).all(same);
            // Said even if nothing is found, for those who wait for the first answer.
            if !is_same || !service.has_looked() && states.iter().all(State::is_known) {
                tracing::debug!(upstream = service.name(), targets = members.len(), "targets found");
                service.publish(members);
            }
            // Forgotten when no answer has it any more.
            known.retain(|known| states.iter().any(|state| state.has(&known.target)));
        }
        // The names' own tasks tell of changes; what answers is to be looked at.
        drop(timeout(LOOK_EVERY, any_changed(&mut names)).await);
    }
}

impl State {
    fn has(&self, target: &Target) -> bool {
        self.found.iter().flat_map(|found| found.iter()).any(|found| target.is_at_ip(found.ip))
    }
}

async fn any_changed(names: &mut [watch::Receiver<State>]) {
    let mut changed: Vec<_> = names.iter_mut().map(|name| Box::pin(name.changed())).collect();
    std::future::poll_fn(|cx| {
        for changed in &mut changed {
            match changed.as_mut().poll(cx) {
                std::task::Poll::Ready(Ok(())) => return std::task::Poll::Ready(()),
                // A name that is gone says nothing more.
                std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending => {}
            }
        }
        std::task::Poll::Pending
    })
    .await;
}
