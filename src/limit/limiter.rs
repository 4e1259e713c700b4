//! All quotas of a configuration, and what survives when it is replaced.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{Quota, quota::LIVE_KEYS};
use crate::config::Limit;

/// All quotas of a configuration. Routes keep the handles that they need; this is for looking them up and for upkeep.
#[derive(Debug, Default)]
pub struct RateLimiter {
    quotas: HashMap<Arc<str>, Arc<Quota>>,
}

impl RateLimiter {
    /// Makes the quotas of a configuration. One whose name, key and rate did not change goes on with its counters.
    pub fn compile(limits: &[Arc<Limit>], previous: Option<&Self>) -> Self {
        let quotas = limits.iter().map(|limit| {
            let kept = previous.and_then(|previous| previous.quotas.get(&limit.name)).filter(|kept| kept.serves(limit));
            (limit.name.clone(), kept.cloned().unwrap_or_else(|| Arc::new(Quota::new(limit, LIVE_KEYS))))
        });
        Self { quotas: quotas.collect() }
    }

    /// The quota of this name: looked up once, when routes are compiled.
    pub fn quota(&self, name: &str) -> Option<Arc<Quota>> {
        self.quotas.get(name).cloned()
    }

    /// Each quota's name and how many keys it holds.
    pub fn live_keys(&self) -> impl Iterator<Item = (&str, usize)> {
        self.quotas.values().map(|quota| (quota.name(), quota.live_keys()))
    }

    /// Forgets keys that are back to full; to be called every few seconds, off the workers.
    pub fn sweep(&self, now: Instant) {
        for quota in self.quotas.values() {
            quota.sweep(now);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        num::NonZeroU32,
        sync::atomic::{AtomicU32, Ordering},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::{
        config::{LimitKey, Rate, Span},
        limit::{Outcome, QuotaKey, check_all},
    };

    fn per_period(name: &str, count: u32, period: Duration) -> Arc<Limit> {
        let rate = Rate::PerPeriod { count: NonZeroU32::new(count).unwrap(), period };
        Arc::new(Limit { span: Span::default(), name: name.into(), key: LimitKey::Subject, rate })
    }

    fn per_second(name: &str, count: u32, burst: u32) -> Arc<Limit> {
        let rate = Rate::PerSecond { count: NonZeroU32::new(count).unwrap(), burst: NonZeroU32::new(burst).unwrap() };
        Arc::new(Limit { span: Span::default(), name: name.into(), key: LimitKey::Ip, rate })
    }

    fn key(n: u32) -> QuotaKey {
        QuotaKey::builder("test").part(&n.to_be_bytes()).finish()
    }

    fn quota(limit: &Limit, cap: usize) -> Quota {
        Quota::new(limit, cap)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn threads_together_are_admitted_exactly_as_often_as_the_quota_says() {
        for limit in [per_period("a", 1000, MINUTE), per_second("b", 1000, 1000)] {
            let (quota, now, admitted) = (quota(&limit, 10), Instant::now(), AtomicU32::new(0));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..1000 {
                            if quota.check(key(1), now).outcome == Outcome::Admit {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.load(Ordering::Relaxed), 1000);
        }
    }

    #[test]
    fn several_quotas_are_charged_together_or_not_at_all_under_concurrency() {
        let limits = [per_period("wide", 700, MINUTE), per_second("narrow", 300, 300), per_period("n", 500, MINUTE)];
        let quotas: Vec<Quota> = limits.iter().map(|limit| quota(limit, 10)).collect();
        let [wide, narrow, middle] = quotas.as_slice() else { unreachable!() };
        let (now, admitted) = (Instant::now(), AtomicU32::new(0));
        thread::scope(|scope| {
            for turn in 0..4 {
                let (quotas, admitted) = (if turn % 2 == 0 { [wide, narrow] } else { [narrow, wide] }, &admitted);
                scope.spawn(move || {
                    for _ in 0..500 {
                        let charges = quotas.map(|quota| (quota, key(1)));
                        if check_all(&charges, now).outcome == Outcome::Admit {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 300);
        assert_eq!(wide.check(key(1), now).remaining, 399);
        let both = check_all(&[(middle, key(1)), (narrow, key(1)), (middle, key(1))], now);
        assert_eq!(both.outcome, Outcome::Refuse);
        assert_eq!(both.refusing().map(|verdict| verdict.quota.name()).collect::<Vec<_>>(), ["narrow"]);
        assert_eq!(middle.check(key(1), now).remaining, 499);
    }

    /// The first key alone was charged: whoever had used that one up came through by another spelling of its path, whose route is
    /// another one and comes first.
    #[test]
    fn a_request_in_several_buckets_of_a_quota_is_charged_in_each_once_or_in_none() {
        for limit in [per_period("a", 3, MINUTE), per_second("b", 3, 3)] {
            let (quota, now) = (quota(&limit, 10), Instant::now());
            assert_eq!(quota.check(key(1), now).remaining, 2);
            let charges = [key(2), key(1), key(2)].map(|key| (&quota, key));
            for left in [1, 0] {
                let both = check_all(&charges, now);
                let told: Vec<u32> = both.verdicts.iter().map(|verdict| verdict.remaining).collect();
                assert_eq!((both.outcome, told), (Outcome::Admit, vec![left]), "one verdict, the tighter");
            }
            let refused = check_all(&charges, now);
            assert_eq!((refused.outcome, refused.verdicts.len()), (Outcome::Refuse, 1));
            assert!(refused.retry_after_secs() >= 1);
            let last = quota.check(key(2), now);
            assert_eq!((last.outcome, last.remaining), (Outcome::Admit, 0));
        }
    }

    #[test]
    fn threads_that_charge_several_keys_of_a_quota_are_counted_exactly_and_never_wait_for_each_other_in_a_circle() {
        // Without room for new keys, with a little and with enough: the overflow is locked after the shards, and counts once.
        for cap in [0, 1, 100_000] {
            let (quota, now, admitted) = (quota(&per_period("p", 300, MINUTE), cap), Instant::now(), AtomicU32::new(0));
            thread::scope(|scope| {
                for turn in 0..4 {
                    let (quota, admitted) = (&quota, &admitted);
                    scope.spawn(move || {
                        for n in 0..500 {
                            let mut keys = [key(0), key(1 + n), key(1000 + (n * 7 + turn) % 500)];
                            if turn % 2 == 0 {
                                keys.reverse();
                            }
                            if check_all(&keys.map(|key| (quota, key)), now).outcome == Outcome::Admit {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.load(Ordering::Relaxed), 300, "room for {cap}");
        }
    }

    #[test]
    fn a_reload_keeps_the_counters_of_what_did_not_change() {
        let now = Instant::now();
        let before = RateLimiter::compile(&[per_period("same", 2, MINUTE), per_period("rate", 2, MINUTE)], None);
        for name in ["same", "rate"] {
            before.quota(name).unwrap().check(key(1), now);
        }
        let limits = [per_period("same", 2, MINUTE), per_period("rate", 3, MINUTE)];
        let after = RateLimiter::compile(&limits, Some(&before));
        assert_eq!(after.quota("same").unwrap().check(key(1), now).remaining, 0);
        assert_eq!(after.quota("rate").unwrap().check(key(1), now).remaining, 2);
        assert!(after.quota("gone").is_none());
    }

    #[test]
    fn only_keys_that_are_back_to_full_are_forgotten() {
        let limiter = RateLimiter::compile(&[per_period("p", 2, MINUTE), per_second("s", 1, 10)], None);
        let (now, quota) = (Instant::now(), limiter.quota("p").unwrap());
        let second = limiter.quota("s").unwrap();
        quota.check(key(1), now);
        quota.check(key(2), now + Duration::from_secs(30));
        for _ in 0..10 {
            second.check(key(1), now);
        }
        second.check(key(2), now);
        limiter.sweep(now + Duration::from_secs(5));
        assert_eq!((quota.live_keys(), second.live_keys()), (2, 1));
        limiter.sweep(now + MINUTE);
        assert_eq!((quota.live_keys(), second.live_keys()), (1, 0));
        assert_eq!(quota.check(key(2), now + MINUTE).remaining, 0);
    }

    #[test]
    fn a_flood_of_keys_resets_nobody_and_shares_one_bucket() {
        let (quota, now) = (quota(&per_period("p", 5, MINUTE), 100), Instant::now());
        for n in 0..100 {
            quota.check(key(n), now);
        }
        let admitted = (100..10_000).filter(|&n| quota.check(key(n), now).outcome == Outcome::Admit).count();
        assert_eq!((admitted, quota.live_keys()), (5, 100));
        assert_eq!(quota.check(key(0), now).remaining, 3);
    }

    #[test]
    fn a_key_that_leaves_the_overflow_takes_along_what_the_overflow_used() {
        let (quota, now) = (quota(&per_period("p", 2, MINUTE), 1), Instant::now());
        quota.check(key(1), now);
        let late = now + Duration::from_secs(30);
        for _ in 0..2 {
            assert_eq!(quota.check(key(2), late).outcome, Outcome::Admit);
        }
        // The first key goes, so there is room for the second: but not for two more requests of it.
        quota.sweep(now + MINUTE);
        assert_eq!(quota.live_keys(), 0);
        assert_eq!(quota.check(key(2), now + MINUTE).outcome, Outcome::Refuse);
        assert_eq!(quota.check(key(2), late + MINUTE).outcome, Outcome::Admit);
        assert_eq!(quota.live_keys(), 1);
    }
}
