//! What a million distinct keys weigh: `cargo bench --bench limit_memory`.
//!
//! Each form of quota runs in a process of its own, so that none lives on memory that another gave back. The figure is
//! the growth of the resident set; it covers the table, its spare room and what the allocator keeps.

use std::{
    env, fs,
    num::NonZeroU32,
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, Instant},
};

use stepgate::{
    config::{Limit, LimitKey, Rate, Span},
    limit::{QuotaKey, RateLimiter},
};

/// The allocator of the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u32 = 1_000_000;

/// What is measured: a name, a rate, and how many requests each key makes, a second apart.
const CASES: [(&str, Form, u32); 5] = [
    ("100/s, one request a key", Form::Second(100), 1),
    ("100/s, five requests a key", Form::Second(100), 5),
    ("5/minute, one request a key", Form::Minute(5), 1),
    ("5/minute, five requests a key", Form::Minute(5), 5),
    ("10000/day, ten requests a key", Form::Day(10_000), 10),
];

#[derive(Clone, Copy)]
enum Form {
    Second(u32),
    Minute(u32),
    Day(u32),
}

impl Form {
    fn rate(self) -> Option<Rate> {
        let per =
            |count, secs| Some(Rate::PerPeriod { count: NonZeroU32::new(count)?, period: Duration::from_secs(secs) });
        match self {
            Self::Second(count) => {
                let count = NonZeroU32::new(count)?;
                Some(Rate::PerSecond { count, burst: count })
            }
            Self::Minute(count) => per(count, 60),
            Self::Day(count) => per(count, 86_400),
        }
    }
}

fn main() -> ExitCode {
    if let Some(case) = env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok()) {
        return measure(case).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    println!("{KEYS} distinct keys{:25} {:>9} {:>11} {:>11}", "", "MB", "bytes/key", "ns/check");
    let me = env::current_exe();
    let all = (0..CASES.len()).all(|case| {
        me.as_ref().is_ok_and(|me| Command::new(me).arg(case.to_string()).status().is_ok_and(|status| status.success()))
    });
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Fills a quota and prints what that took; `None` where /proc does not tell.
fn measure(case: usize) -> Option<()> {
    let (name, form, requests) = *CASES.get(case)?;
    let limit = Limit { span: Span::default(), name: "bench".into(), key: LimitKey::Subject, rate: form.rate()? };
    let limiter = RateLimiter::compile(&[Arc::new(limit)], None);
    let quota = limiter.quota("bench")?;
    let (before, start) = (resident_bytes()?, Instant::now());
    for round in 0..requests {
        let now = start + Duration::from_secs(u64::from(round));
        for key in 0..KEYS {
            quota.check(QuotaKey::builder("bench").part(&key.to_be_bytes()).finish(), now);
        }
    }
    let took = start.elapsed().as_nanos() / u128::from(KEYS * requests);
    let grown = resident_bytes()?.saturating_sub(before);
    let (megabytes, each) = (grown as f64 / 1e6, grown / u64::from(KEYS));
    println!("{name:39} {megabytes:9.1} {each:11} {took:11}");
    (quota.live_keys() == usize::try_from(KEYS).ok()?).then_some(())
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
