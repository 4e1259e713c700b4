//! Targets that names stand for: every address of a name, or every service that it has (RFC 2782). A task of each service that has
//! such names publishes what they stand for at the moment; a place that stays keeps its target, and with it health, connections
//! and sessions.

use std::{
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
const LARGEST_WEIGHT: u16 = 1000;

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

    /// Adds its targets, by what is known of the name.
    fn add(&self, members: &mut Vec<Member>, found: &[Found], known: &[Member]) {
        for found in found {
            let at = SocketAddr::new(found.ip, found.port.unwrap_or(self.prototype.config.address.port));
            let is_it = |member: &&Member| member.target.is_at(at) && member.target.is_like(&self.prototype);
            if members.iter().any(|member| is_it(&member)) {
                continue; // two records may lead to one place
            }
            let target = match known.iter().find(is_it) {
                Some(member) => Arc::clone(&member.target),
                None => Arc::new(self.prototype.at(at)),
            };
            members.push(Member { target, weight: self.weight_of(found), priority: found.priority });
        }
    }

    /// SRV's weight 0 is a small share beside others (RFC 2782), and an equal one among its like.
    fn weight_of(&self, found: &Found) -> u16 {
        match self.prototype.config.reach {
            Reach::Services(_) => scaled(found.weight, found.heaviest),
            Reach::Host | Reach::EachAddress | Reach::Unix(_) => self.weight,
        }
    }
}

fn question(target: &UpstreamTarget) -> Question {
    match &target.reach {
        Reach::Services(name) => Question::Services((&**name).into()),
        Reach::EachAddress | Reach::Host | Reach::Unix(_) => Question::Addresses((&*target.address.host).into()),
    }
}

fn scaled(weight: u16, heaviest: u16) -> u16 {
    if heaviest <= LARGEST_WEIGHT {
        return weight.max(1);
    }
    let share = u32::from(weight) * u32::from(LARGEST_WEIGHT) / u32::from(heaviest);
    u16::try_from(share).unwrap_or(LARGEST_WEIGHT).max(1)
}

/// The targets of all sources, by what is known of their names; targets in `known` are kept.
pub(super) fn members(sources: &[Source], known: &[Member]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for source in sources {
        match source {
            Source::Fixed(member) => members.push(member.clone()),
            Source::Named(named) => {
                let state = named.name.watch().borrow().clone();
                named.add(&mut members, state.found.as_deref().unwrap_or_default(), known);
            }
        }
    }
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
            // Of every one, or what is not looked at would count as changed for ever.
            let unknown =
                names.iter_mut().filter_map(|name| (!name.borrow_and_update().is_known()).then_some(())).count();
            let current = service.targets();
            let members = members(service.sources(), &current);
            let same = |(one, other): (&Member, &Member)| {
                one.target.id == other.target.id && one.weight == other.weight && one.priority == other.priority
            };
            let is_same = members.len() == current.len() && members.iter().zip(current.iter()).all(same);
            // Said even if nothing is found, for those who wait for the first answer.
            if !is_same || unknown == 0 && !service.has_looked() {
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
                // A name that is gone had a service that is gone.
                std::task::Poll::Ready(_) => return std::task::Poll::Ready(()),
                std::task::Poll::Pending => {}
            }
        }
        std::task::Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_records_keep_their_relation_and_none_is_nothing() {
        assert_eq!(
            [(0, 0), (0, 10), (3, 10), (1000, 1000)].map(|(weight, most)| scaled(weight, most)),
            [1, 1, 3, 1000]
        );
        assert_eq!([65_535, 32_768, 1, 0].map(|weight| scaled(weight, 65_535)), [1000, 500, 1, 1]);
    }
}
