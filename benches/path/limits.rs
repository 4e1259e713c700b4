//! What a quota costs: a key that is asked for again and again, and many in turn. The key is made anew each time, as for a request.

use std::{hint::black_box, num::NonZeroU32, sync::Arc, time::Duration};

use criterion::Criterion;
use stepgate::{
    config::{Limit, LimitKey, Rate, Span},
    limit::{Outcome, QuotaKey, RateLimiter},
};

use crate::setup;

const MANY: usize = 100_000;

pub(crate) fn check(c: &mut Criterion) {
    let count = NonZeroU32::new(1_000_000_000).unwrap();
    let forms = [
        ("a second", Rate::PerSecond { count, burst: count }),
        ("a minute", Rate::PerPeriod { count, period: Duration::from_secs(60) }),
    ];
    let subjects: Vec<String> = (0..MANY).map(|number| format!("user-{number}")).collect();
    let now = setup::now().instant;
    let mut group = c.benchmark_group("quota");
    for (form, rate) in forms {
        for (name, subjects) in [("one key", &subjects[..1]), ("100000 keys", &subjects[..])] {
            let limit = Limit { span: Span::default(), name: "bench".into(), key: LimitKey::Subject, rate };
            let quota = RateLimiter::compile(&[Arc::new(limit)], None).quota("bench").unwrap();
            let check = |subject: &str| {
                quota.check(QuotaKey::subject("main", black_box(subject)), now).outcome == Outcome::Admit
            };
            assert!(subjects.iter().all(|subject| check(subject)), "there is enough for all");
            let mut turn = subjects.iter().cycle();
            group.bench_function(format!("{name}, by {form}"), |b| b.iter(|| check(turn.next().unwrap())));
        }
    }
    group.finish();
}
