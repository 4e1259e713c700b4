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

/// How often it is looked whether the service is still there, where its names say nothing new.
const LOOK_EVERY: Duration = Duration::from_secs(5);
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

    /// Its targets, by what is known of the name.
    fn members(&self, found: &[Found], known: &[Member]) -> Vec<Member> {
        let largest_of = |priority: u16| {
            let class = found.iter().filter(|found| found.priority == priority);
            class.map(|found| u32::from(found.weight)).max().unwrap_or(0)
        };
        let member = |found: &Found| {
            let at = SocketAddr::new(found.ip, found.port.unwrap_or(self.prototype.config.address.port));
            // SRV's weight 0 is a small share beside others (RFC 2782), and an equal one among its like.
            let weight = match self.prototype.config.reach {
                Reach::Services(_) => scaled(found.weight, largest_of(found.priority)),
                Reach::Host | Reach::EachAddress | Reach::Unix(_) => self.weight,
            };
            Member { target: self.target(at, known), weight, priority: found.priority }
        };
        found.iter().map(member).collect()
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
    loop {
        {
            let Some(service) = service.upgrade() else { return };
            let known = names.iter_mut().all(|name| name.borrow_and_update().is_known());
            let current = service.targets();
            let members = members(service.sources(), &current);
            let same = |(one, other): (&Member, &Member)| {
                one.target.id == other.target.id && one.weight == other.weight && one.priority == other.priority
            };
            let is_same = members.len() == current.len() && members.iter().zip(current.iter()).all(same);
            // Said even if nothing is found, for those who wait for the first answer.
            if !is_same || known && !service.has_looked() {
                tracing::debug!(upstream = service.name(), targets = members.len(), "targets found");
                service.publish(members);
            }
        }
        drop(timeout(LOOK_EVERY, any_changed(&mut names)).await);
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
