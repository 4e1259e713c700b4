//! What account deletions report, turned into metrics and events. Each event of a deletion is in the audit log by another way, which
//! loses none.

use crate::{
    erasure::{ErasureObserver, Tally, Tripped},
    telemetry::metrics::{AuthorityMetrics, ErasureCounts, ErasureMetrics},
};

/// Counts what becomes of deletions.
#[derive(Debug, Clone)]
pub struct ErasureTeller {
    metrics: ErasureMetrics,
    /// Those of the store, which both share.
    store: AuthorityMetrics,
}

impl ErasureTeller {
    /// An observer that counts in these metrics.
    pub fn new(metrics: ErasureMetrics, store: AuthorityMetrics) -> Self {
        Self { metrics, store }
    }
}

impl ErasureObserver for ErasureTeller {
    fn happened(&self, plan: &str, event: &'static str) {
        match event {
            "disputed" => tracing::warn!(plan, "somebody says of an account deletion that it was not them who asked"),
            "step_parked" | "probe_parked" => tracing::warn!(plan, event, "an account deletion waits for a person"),
            _ => tracing::debug!(plan, event, "account deletion"),
        }
        self.metrics.happened(plan, event);
    }

    fn step(&self, upstream: &str, outcome: &'static str) {
        self.metrics.step(upstream, outcome);
    }

    fn looked(&self, plan: &str, seen: &'static str) {
        self.metrics.looked(plan, seen);
    }

    fn breaker(&self, tripped: bool) {
        if tripped {
            tracing::error!("more account deletions are asked for than the breaker allows: further ones are held");
        } else {
            tracing::info!("the breaker of account deletions is reset");
        }
    }

    fn untold(&self) {
        self.metrics.untold();
    }

    fn store_fault(&self) {
        self.store.store_fault();
    }
}

/// Tells how many deletions there are; to be called when the metrics are asked for.
pub fn tell_erasures(metrics: &ErasureMetrics, tally: &Tally, tripped: &[Tripped]) {
    let states = tally.states.iter().map(|((plan, state), count)| ((&**plan, *state), *count)).collect();
    metrics.counts(&ErasureCounts {
        states,
        holds: tally.holds.clone(),
        parked: tally.parked,
        overdue: tally.overdue,
        unplaced: tally.unplaced,
        frozen: tally.frozen,
        breaker: !tripped.is_empty(),
    });
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{clock::Now, telemetry::Metrics};

    #[test]
    fn what_becomes_of_deletions_is_counted_by_plan_and_names_no_deletion() {
        let metrics = Metrics::new().unwrap();
        let teller = ErasureTeller::new(metrics.erasure(), metrics.authority());
        teller.happened("account", "requested");
        teller.happened("account", "disputed");
        teller.step("search", "retried");
        teller.looked("account", "there");
        teller.untold();
        let mut tally = Tally { parked: 1, unplaced: 3, ..Tally::default() };
        tally.states.insert(("account".into(), "held"), 2);
        tell_erasures(&metrics.erasure(), &tally, &[Tripped { at: 1, by: None }]);
        let text = metrics.render(Now { unix_ms: 0, instant: Instant::now() }).unwrap();
        for line in [
            r#"stepgate_erasure_events_total{event="disputed",plan="account"} 1"#,
            r#"stepgate_erasure_steps_total{outcome="retried",upstream="search"} 1"#,
            r#"stepgate_erasure_probes_total{plan="account",seen="there"} 1"#,
            r#"stepgate_erasures{plan="account",state="held"} 2"#,
            "stepgate_erasures_parked 1",
            "stepgate_erasure_evidence_unplaced 3",
            "stepgate_erasure_breaker_tripped 1",
            "stepgate_erasure_notices_lost_total 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        tell_erasures(&metrics.erasure(), &Tally::default(), &[]);
        let text = metrics.render(Now { unix_ms: 0, instant: Instant::now() }).unwrap();
        assert!(text.contains("stepgate_erasure_breaker_tripped 0") && !text.contains("stepgate_erasures{"), "{text}");
    }
}
