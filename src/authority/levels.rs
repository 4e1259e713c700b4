//! The levels of proof that a configuration asks for anywhere, by their names: what an elevation or a grant can be made for.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::{Config, RouteDeletion},
    policy::{LevelName, Requirement},
};

/// Levels by their names. Two requirements of one name ask for the same but for their age and whether a grant must be bound;
/// here is the one with the longest age, as a proof that is too old for one may do for another, and the policy looks at that.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Levels(BTreeMap<LevelName, Requirement>);

impl Levels {
    /// All that routes, the deletion guard, deletion plans and renewals ask for.
    pub fn of(config: &Config) -> Self {
        let routes = config.routes.iter().flat_map(|route| {
            let deletion = match &route.deletion {
                RouteDeletion::Guarded { requirement, .. } => Some(requirement),
                RouteDeletion::Unguarded => None,
            };
            route.assurance.iter().chain(deletion)
        });
        let accounts = config.authority.as_ref().and_then(|authority| authority.accounts.as_ref());
        let renewal = accounts.and_then(|accounts| accounts.refresh_assurance.as_ref());
        let deletions = config.deletions.as_deref();
        let plans = deletions.into_iter().flat_map(|deletions| {
            let cancelling = deletions.plans.iter().filter_map(|plan| plan.cancel_assurance.as_ref());
            deletions.requirements.iter().map(|planned| &planned.requirement).chain(cancelling)
        });
        // Where a plan does not say what cancelling needs, it is what the guard asks for.
        let guard = deletions.map(|_| &config.deletion_guard.assurance);
        routes.chain(renewal).chain(plans).chain(guard).cloned().collect()
    }

    /// A level by its name.
    pub fn get(&self, name: &str) -> Option<&Requirement> {
        self.0.get(name)
    }

    /// Every level, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&LevelName, &Requirement)> {
        self.0.iter()
    }
}

impl FromIterator<Requirement> for Levels {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        let mut levels = BTreeMap::new();
        for requirement in requirements {
            let Some(name) = requirement.level.clone() else { continue };
            levels
                .entry(name)
                .and_modify(|known: &mut Requirement| {
                    known.max_age = longer(known.max_age, requirement.max_age);
                    known.bind |= requirement.bind;
                })
                .or_insert(requirement);
        }
        Self(levels)
    }
}

/// The longer of two ages; none at all is the longest.
fn longer(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    Some(one?.max(other?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_lives_as_long_as_whoever_asks_for_it_for_the_longest() {
        let level = |name: &str, secs: Option<u64>, bind| Requirement {
            level: Some(name.into()),
            max_age: secs.map(Duration::from_secs),
            bind,
            ..Requirement::default()
        };
        let all =
            [level("a", Some(60), false), level("b", None, false), level("a", Some(300), true), Requirement::default()];
        let levels: Levels = all.into_iter().collect();
        assert_eq!(levels.iter().count(), 2);
        assert_eq!(levels.get("a"), Some(&level("a", Some(300), true)));
        assert_eq!(levels.get("b"), Some(&level("b", None, false)));
        let levels: Levels = [level("a", Some(60), false), level("a", None, false)].into_iter().collect();
        assert_eq!(levels.get("a"), Some(&level("a", None, false)));
    }
}
