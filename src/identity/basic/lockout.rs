//! Who may try a password now. Three bounds, each for another attacker:
//!
//! | bound | kept by | against | familiar users |
//! |---|---|---|---|
//! | [`SoftLock`] | user and address | guessing one user's password | too |
//! | [`Budget`] `per_user` | user | the same from many addresses | not slowed |
//! | [`Budget`] `per_address` | address | one password for many users, and filling the queue | not slowed |
//!
//! A stranger reaches only the first bound of addresses of his own, and the two budgets, from which a user is exempt where
//! the right password was shown before (or in the networks that the configuration names). Names that no user has are
//! counted the same, so that what is locked tells nobody who exists.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::{
    budget::{Budget, Rate},
    familiar::Familiar,
    keyed::{AddressGroup, Keyed},
    softlock::{LockRules, SoftLock},
    table::{Id, Key, Place, State, Table},
};
use crate::config;

/// How many pairs of user and address are kept apart; the rest shares. In about 12 MB.
const PAIRS: usize = 131_072;
/// How many users, and how many addresses. In about 6 MB each.
const BUDGETS: usize = 131_072;

impl State for SoftLock {
    fn is_idle(&self, now: Instant) -> bool {
        SoftLock::is_idle(self, now)
    }
}

impl State for Budget {
    fn is_idle(&self, now: Instant) -> bool {
        Budget::is_idle(self, now)
    }
}

/// What a source asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    lock: LockRules,
    per_user: Rate,
    per_address: Rate,
    familiar: Box<[IpNet]>,
}

impl Rules {
    /// As configured.
    pub(super) fn new(lockout: &config::Lockout) -> Self {
        let rate = |(count, period)| Rate { count, period };
        Self {
            lock: LockRules { failures: lockout.failures, first: lockout.first, longest: lockout.longest },
            per_user: rate(lockout.per_user),
            per_address: rate(lockout.per_address),
            familiar: lockout.familiar.as_slice().into(),
        }
    }
}

/// Who tries, as the tables know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pair: Key,
    user: Id,
    address: Id,
    ip: IpAddr,
}

impl Who {
    /// `line` is the user's stored hash, so that a new one begins anew; of a name that no user has, nothing.
    pub(super) fn new(keyed: &Keyed, user: &str, line: &[u8], ip: IpAddr) -> Self {
        let group = AddressGroup::of(ip);
        let address = keyed.id(&[b"address", group.as_bytes()]);
        let id = keyed.id(&[b"pair", user.as_bytes(), line, group.as_bytes()]);
        Self { pair: Key { id, group: address }, user: user_id(keyed, user), address, ip }
    }

    /// What tells this pair from others.
    pub(super) fn id(&self) -> &Id {
        &self.pair.id
    }
}

fn user_id(keyed: &Keyed, user: &str) -> Id {
    keyed.id(&[b"user", user.as_bytes()])
}

/// The state of one source. It survives a reload, whatever the new rules are.
#[derive(Debug)]
pub(super) struct Lockout {
    pairs: Table<SoftLock>,
    users: Table<Budget>,
    addresses: Table<Budget>,
    familiar: Familiar,
}

impl Lockout {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        Self::with_room_for(PAIRS)
    }

    fn with_room_for(pairs: usize) -> Self {
        Self {
            pairs: Table::new(pairs),
            users: Table::new(BUDGETS),
            addresses: Table::new(BUDGETS),
            familiar: Familiar::default(),
        }
    }

    /// Whether nothing of this user is looked at from there.
    pub(super) fn is_locked(&self, who: &Who, now: Instant) -> bool {
        self.pairs.look(&who.pair).is_locked(now)
    }

    /// Whether a password of this user would be looked at from there, without taking one. What is remembered may be compared
    /// only then: a comparison tells right from wrong as well as hashing does, and would be a guess that nobody counts.
    pub(super) fn would_take(&self, who: &Who, rules: &Rules, now: Instant) -> bool {
        let is_left = |table: &Table<Budget>, id, rate| table.look(&Key { id, group: id }).take(rate, now);
        let budgets = || {
            is_left(&self.users, who.user, &rules.per_user) && is_left(&self.addresses, who.address, &rules.per_address)
        };
        self.pairs.look(&who.pair).take(&rules.lock, now) && (self.is_familiar(who, rules, now) || budgets())
    }

    /// Notes that a user showed the right password there once more, without its being looked at.
    pub(super) fn shown_again(&self, who: &Who, now: Instant) {
        if !self.familiar.has(&who.user, &who.address, now) {
            self.familiar.note(who.user, who.address, now);
        }
    }

    /// Takes a password to be looked at; `None`: not now.
    pub(super) fn take(self: &Arc<Self>, who: Who, rules: &Arc<Rules>, now: Instant) -> Option<Attempt> {
        let (taken, pair) = self.pairs.with(&who.pair, now, |lock| lock.take(&rules.lock, now));
        if !taken {
            return None;
        }
        // From here on, dropping it gives back what was taken.
        let mut attempt = Attempt {
            lockout: Arc::clone(self),
            rules: Arc::clone(rules),
            who,
            pair: Some(pair),
            user: None,
            address: None,
            taken: now,
            is_looked_at: false,
        };
        if !self.is_familiar(&who, rules, now) {
            attempt.user = Some(spend(&self.users, who.user, &rules.per_user, now)?);
            attempt.address = Some(spend(&self.addresses, who.address, &rules.per_address, now)?);
        }
        Some(attempt)
    }

    fn is_familiar(&self, who: &Who, rules: &Rules, now: Instant) -> bool {
        let ip = who.ip.to_canonical();
        rules.familiar.iter().any(|network| network.contains(&ip)) || self.familiar.has(&who.user, &who.address, now)
    }

    /// Lets go of what says nothing any more, and of where users were who are none any more.
    pub(super) fn sweep<'a>(&self, keyed: &Keyed, users: impl Iterator<Item = &'a str>, now: Instant) {
        self.pairs.sweep(now);
        self.users.sweep(now);
        self.addresses.sweep(now);
        let users: HashSet<Id> = users.map(|user| user_id(keyed, user)).collect();
        self.familiar.retain(|user| users.contains(user));
    }

    /// How many pairs are locked.
    pub(super) fn locked(&self, now: Instant) -> usize {
        self.pairs.count_of(|lock| lock.is_locked(now))
    }
}

fn spend(table: &Table<Budget>, id: Id, rate: &Rate, now: Instant) -> Option<Place> {
    let (taken, place) = table.with(&Key { id, group: id }, now, |budget| budget.take(rate, now));
    taken.then_some(place)
}

/// A password that may be looked at. It counts as wrong until it is known to be right; what is dropped before it was looked
/// at does not count.
#[derive(Debug)]
pub(super) struct Attempt {
    lockout: Arc<Lockout>,
    rules: Arc<Rules>,
    who: Who,
    /// `None` once it is settled.
    pair: Option<Place>,
    user: Option<Place>,
    address: Option<Place>,
    taken: Instant,
    is_looked_at: bool,
}

impl Attempt {
    /// From now on it counts whatever happens.
    pub(super) fn look_at(&mut self) {
        self.is_looked_at = true;
    }

    /// It was right.
    pub(super) fn right(mut self, now: Instant) {
        if let Some(pair) = self.pair.take() {
            // Who shares a state with strangers has proved nothing for them.
            let settle = if let Place::Own(_) = pair { SoftLock::right } else { SoftLock::give_back };
            self.lockout.pairs.at(pair, settle);
            self.give_budgets_back();
            self.lockout.familiar.note(self.who.user, self.who.address, now);
        }
    }

    /// It was wrong. How long the lock is that it led to, if it did.
    pub(super) fn wrong(mut self, now: Instant) -> Option<Duration> {
        self.settle_as_wrong(now)
    }

    fn settle_as_wrong(&mut self, now: Instant) -> Option<Duration> {
        let pair = self.pair.take()?;
        self.lockout.pairs.at(pair, |lock| lock.wrong(&self.rules.lock, now)).flatten()
    }

    fn give_budgets_back(&mut self) {
        let (users, addresses) = (&self.lockout.users, &self.lockout.addresses);
        for (table, place, rate) in
            [(users, self.user.take(), &self.rules.per_user), (addresses, self.address.take(), &self.rules.per_address)]
        {
            place.map(|place| table.at(place, |budget| budget.give_back(rate)));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_looked_at {
            let _ = self.settle_as_wrong(self.taken);
        } else if let Some(pair) = self.pair.take() {
            self.lockout.pairs.at(pair, SoftLock::give_back);
            self.give_budgets_back();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    struct Scene {
        keyed: Keyed,
        lockout: Arc<Lockout>,
        rules: Arc<Rules>,
        now: Instant,
    }

    fn scene() -> Scene {
        let rate = |count, secs| (NonZeroU32::new(count).unwrap(), Duration::from_secs(secs));
        let rules = config::Lockout {
            failures: 5,
            first: Duration::from_secs(60),
            longest: Duration::from_secs(3600),
            per_user: rate(20, 2000),
            per_address: rate(50, 5000),
            familiar: vec!["10.0.0.0/8".parse().unwrap()],
        };
        Scene {
            keyed: Keyed::new().unwrap(),
            lockout: Arc::new(Lockout::new()),
            rules: Arc::new(Rules::new(&rules)),
            now: Instant::now(),
        }
    }

    impl Scene {
        fn who(&self, user: &str, ip: &str) -> Who {
            Who::new(&self.keyed, user, b"", ip.parse().unwrap())
        }

        fn take(&self, user: &str, ip: &str) -> Option<Attempt> {
            self.lockout.take(self.who(user, ip), &self.rules, self.now)
        }

        /// Whether a wrong password was looked at.
        fn wrong(&self, user: &str, ip: &str) -> bool {
            let Some(mut attempt) = self.take(user, ip) else { return false };
            attempt.look_at();
            let _ = attempt.wrong(self.now);
            true
        }

        fn right(&self, user: &str, ip: &str) -> bool {
            let Some(mut attempt) = self.take(user, ip) else { return false };
            attempt.look_at();
            attempt.right(self.now);
            true
        }
    }

    #[test]
    fn five_failures_lock_the_user_there_and_nowhere_else() {
        let scene = scene();
        assert!((0..5).all(|_| scene.wrong("alice", "192.0.2.1")));
        assert!(!scene.right("alice", "192.0.2.1"), "not even the right one is looked at");
        assert!(scene.lockout.is_locked(&scene.who("alice", "192.0.2.1"), scene.now));
        assert!(scene.right("alice", "192.0.2.2"));
        assert!(scene.right("bob", "192.0.2.1"));
        assert_eq!(scene.lockout.locked(scene.now), 1);
    }

    #[test]
    fn neighbours_in_a_64_are_one() {
        let scene = scene();
        for host in 1..=5 {
            assert!(scene.wrong("alice", &format!("2001:db8::{host}")));
        }
        assert!(!scene.wrong("alice", "2001:db8::6"));
        assert!(scene.wrong("alice", "2001:db8:0:1::1"));
    }

    #[test]
    fn many_addresses_are_slowed_and_the_owner_is_not() {
        let mut scene = scene();
        assert!(scene.right("alice", "198.51.100.1"));
        let tried = (0..200).filter(|host| scene.wrong("alice", &format!("192.0.2.{host}"))).count();
        assert_eq!(tried, 20);
        assert!(!scene.right("alice", "203.0.113.1"), "a new address shares what is left with the strangers");
        assert!(scene.right("alice", "198.51.100.1"), "where the owner was before, nothing has changed");
        assert!(scene.right("alice", "10.1.2.3"), "nor where the configuration says so");
        assert!(scene.right("bob", "203.0.113.1"));
        scene.now += Duration::from_secs(100);
        assert!(scene.right("alice", "203.0.113.1"), "one more every hundred seconds");
    }

    #[test]
    fn one_address_cannot_try_many_users() {
        let scene = scene();
        assert!(scene.right("alice", "192.0.2.1"));
        let tried = (0..200).filter(|number| scene.wrong(&format!("user{number}"), "192.0.2.1")).count();
        assert_eq!(tried, 50);
        assert!(scene.right("alice", "192.0.2.1"), "who is familiar there is not slowed");
        assert!(!scene.right("bob", "192.0.2.1"));
    }

    #[test]
    fn what_would_not_be_taken_may_not_be_compared_either() {
        let scene = scene();
        let would = |user, ip| scene.lockout.would_take(&scene.who(user, ip), &scene.rules, scene.now);
        let under_way: Vec<_> = (0..5).map(|_| scene.take("alice", "192.0.2.1").unwrap()).collect();
        assert!(!would("alice", "192.0.2.1"), "as many are looked at as may be wrong");
        assert!(would("alice", "192.0.2.2"));
        drop(under_way);
        assert!(would("alice", "192.0.2.1") && would("alice", "192.0.2.1"), "asking takes nothing");

        assert!(scene.right("alice", "198.51.100.1"));
        for number in 0..50 {
            assert!(scene.wrong(&format!("user{number}"), "192.0.2.9"));
        }
        assert!(!would("alice", "192.0.2.9"), "the address has used up what it may guess");
        for host in 10..30 {
            assert!(scene.wrong("alice", &format!("192.0.2.{host}")));
        }
        assert!(!would("alice", "203.0.113.1"), "strangers have used up what they may guess");
        assert!(would("alice", "198.51.100.1") && would("alice", "10.1.2.3"), "the owner is no stranger");
    }

    #[test]
    fn what_was_not_looked_at_does_not_count_and_what_was_does() {
        let scene = scene();
        for _ in 0..500 {
            drop(scene.take("alice", "192.0.2.1").unwrap());
        }
        for _ in 0..5 {
            let mut attempt = scene.take("alice", "192.0.2.1").unwrap();
            attempt.look_at();
            drop(attempt);
        }
        assert!(scene.take("alice", "192.0.2.1").is_none(), "going away while it is looked at gains nothing");
    }

    #[test]
    fn right_passwords_cost_no_budget() {
        let scene = scene();
        for host in 0..200 {
            assert!(scene.right("alice", &format!("192.0.2.{host}")));
        }
    }

    #[test]
    fn where_states_are_shared_a_right_password_excuses_no_stranger() {
        let scene = Scene { lockout: Arc::new(Lockout::with_room_for(1)), ..scene() };
        assert!(scene.wrong("first", "203.0.113.1"));
        assert!((0..4).all(|number| scene.wrong(&format!("user{number}"), "192.0.2.1")));
        assert!(scene.right("mallory", "192.0.2.1"));
        assert!(scene.wrong("alice", "192.0.2.1"));
        assert!(!scene.wrong("bob", "192.0.2.1"), "the fifth wrong one was the last");
        assert!(scene.right("bob", "192.0.2.2"));
    }

    #[test]
    fn who_is_no_user_any_more_is_familiar_nowhere() {
        let scene = scene();
        assert!(scene.right("alice", "192.0.2.1") && scene.right("bob", "192.0.2.1"));
        scene.lockout.sweep(&scene.keyed, ["bob"].into_iter(), scene.now);
        let is_familiar = |user| scene.lockout.is_familiar(&scene.who(user, "192.0.2.1"), &scene.rules, scene.now);
        assert!(!is_familiar("alice") && is_familiar("bob"));
    }

    #[test]
    fn a_new_password_begins_anew() {
        let scene = scene();
        let who = |line: &[u8]| Who::new(&scene.keyed, "alice", line, "192.0.2.1".parse().unwrap());
        for _ in 0..5 {
            let mut attempt = scene.lockout.take(who(b"old"), &scene.rules, scene.now).unwrap();
            attempt.look_at();
            let _ = attempt.wrong(scene.now);
        }
        assert!(scene.lockout.take(who(b"old"), &scene.rules, scene.now).is_none());
        assert!(scene.lockout.take(who(b"new"), &scene.rules, scene.now).is_some());
    }
}
