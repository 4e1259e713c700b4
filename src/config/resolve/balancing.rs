//! How requests are spread over an upstream's targets, and what bounds them.

use super::Context;
use crate::config::{
    Balance, Balancing, Concurrency, Ejection, HealthCheck, Retries,
    decode::At,
    document::{self, BalanceText, RetryOn},
};

pub(super) fn balancing(written: &document::Upstream, to: &mut Context<'_>) -> Balancing {
    let health = written.health.as_ref().map(|section| health(section, to));
    Balancing {
        balance: match &written.balance {
            BalanceText::Word(balance) => balance.clone(),
            BalanceText::Hash(section) => Balance::Hash(section.hash.clone()),
        },
        ejection: match &written.ejection {
            Some(section) => ejection(section, to),
            // A check that fails everywhere is more likely to be wrong itself.
            None if health.is_some() => Ejection { panic: 50, ..Ejection::default() },
            None => Ejection::default(),
        },
        health,
        slow_start: written.slow_start,
        concurrency: written.concurrency.as_ref().map(|section| Concurrency {
            requests: number(section.requests.0),
            queue: number(section.queue.0),
            queue_timeout: section.queue_timeout,
        }),
        retries: written.retries.as_ref().map_or_else(Retries::default, |section| retries(section, to)),
    }
}

fn health(section: &document::HealthCheck, to: &mut Context<'_>) -> HealthCheck {
    if section.timeout.value > section.interval.value {
        let message = "`timeout` is longer than `interval`: the next question would come before the answer";
        to.error(&section.timeout.span, message);
    }
    HealthCheck {
        path: section.path.0.as_str().into(),
        host: section.host.as_ref().map(|host| host.0.as_str().into()),
        interval: section.interval.value,
        timeout: section.timeout.value,
        healthy: number(section.healthy.0),
        unhealthy: number(section.unhealthy.0),
        statuses: section.statuses.0.iter().map(|range| (range.value.0, range.value.1)).collect(),
    }
}

fn ejection(section: &document::Ejection, to: &mut Context<'_>) -> Ejection {
    if section.max.value < section.base.value {
        // A default stands in no file.
        let span = if section.max.span.line > 0 { &section.max.span } else { &section.base.span };
        to.error(span, "`base` is longer than `max`");
    }
    Ejection {
        failures: number(section.failures.0),
        base: section.base.value,
        max: section.max.value,
        panic: section.panic.0,
        answers: true,
    }
}

fn retries(section: &document::Retries, to: &mut Context<'_>) -> Retries {
    let mut retries = Retries {
        attempts: u8::try_from(section.attempts.0).unwrap_or(u8::MAX),
        connect: false,
        reset: false,
        statuses: Vec::new(),
        budget: Some(section.budget.0),
    };
    let mut seen: Vec<RetryOn> = Vec::new();
    for At { value, span, shown } in &section.on {
        if seen.contains(value) {
            to.error(span, format!("`{shown}` is listed twice"));
            continue;
        }
        seen.push(*value);
        match value {
            RetryOn::Connect => retries.connect = true,
            RetryOn::Reset => retries.reset = true,
            RetryOn::Status(status) => retries.statuses.push(*status),
        }
    }
    retries
}

/// A number that the document holds within the bounds of its key.
fn number(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
