//! What account deletions count. Every label is a member of a closed list, or a name of the configuration: never a deletion, never
//! whose it is.

use std::collections::HashMap;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{clamped, counter, counters, gauge, gauges};
use crate::telemetry::metrics::catalogue;

/// The metrics of account deletions.
#[derive(Debug, Clone)]
pub struct ErasureMetrics {
    states: IntGaugeVec,
    holds: IntGaugeVec,
    events: IntCounterVec,
    pub(super) steps: IntCounterVec,
    looks: IntCounterVec,
    parked: IntGauge,
    overdue: IntGauge,
    unplaced: IntGauge,
    frozen: IntGauge,
    breaker: IntGauge,
    untold: IntCounter,
}

/// How many deletions there are, as the index of them says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasureCounts<'a> {
    /// By plan and state; the plans are those that deletions were made under.
    pub states: HashMap<(&'a str, &'static str), u64>,
    /// By kind of hold.
    pub holds: HashMap<&'static str, u64>,
    /// Those of which a step or a probe waits for a person.
    pub parked: u64,
    /// Those that should have gone on ten minutes ago, and did not.
    pub overdue: u64,
    /// Events without a place in the audit log yet.
    pub unplaced: u64,
    /// People whose deletions are frozen.
    pub frozen: u64,
    /// Whether the breaker is tripped.
    pub breaker: bool,
}

impl ErasureMetrics {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            states: gauges(r, &catalogue::ERASURES)?,
            holds: gauges(r, &catalogue::ERASURE_HOLDS)?,
            events: counters(r, &catalogue::ERASURE_EVENTS)?,
            steps: counters(r, &catalogue::ERASURE_STEPS)?,
            looks: counters(r, &catalogue::ERASURE_LOOKS)?,
            parked: gauge(r, &catalogue::ERASURES_PARKED)?,
            overdue: gauge(r, &catalogue::ERASURES_OVERDUE)?,
            unplaced: gauge(r, &catalogue::ERASURE_UNPLACED)?,
            frozen: gauge(r, &catalogue::ERASURE_FROZEN)?,
            breaker: gauge(r, &catalogue::ERASURE_BREAKER)?,
            untold: counter(r, &catalogue::ERASURE_UNTOLD)?,
        })
    }

    /// Begins to count for a plan: what has never happened is 0, so that the first time is seen to be a change.
    pub fn known(&self, plan: &str) {
        for event in ["requested", "disputed", "step_parked", "probe_parked", "erased", "cancelled"] {
            self.events.with_label_values(&[plan, event]);
        }
        for seen in ["gone", "there"] {
            self.looks.with_label_values(&[plan, seen]);
        }
    }

    /// Counts a change of a deletion; the event names a member of a closed list.
    pub fn happened(&self, plan: &str, event: &'static str) {
        self.events.with_label_values(&[plan, event]).inc();
    }

    /// Counts a request of a step, and what became of it: a member of a closed list.
    pub fn step(&self, upstream: &str, outcome: &'static str) {
        self.steps.with_label_values(&[upstream, outcome]).inc();
    }

    /// Counts a look at whether data is gone, and what was seen: a member of a closed list.
    pub fn looked(&self, plan: &str, seen: &'static str) {
        self.looks.with_label_values(&[plan, seen]).inc();
    }

    /// Counts a notice that cannot be sent to whom the plan names.
    pub fn untold(&self) {
        self.untold.inc();
    }

    /// Says how many there are; to be called when the metrics are asked for. What is no longer counted leaves the metrics.
    pub fn counts(&self, counts: &ErasureCounts<'_>) {
        self.states.reset();
        for ((plan, state), count) in &counts.states {
            self.states.with_label_values(&[plan, state]).set(clamped(*count));
        }
        self.holds.reset();
        for (kind, count) in &counts.holds {
            self.holds.with_label_values(&[kind]).set(clamped(*count));
        }
        self.parked.set(clamped(counts.parked));
        self.overdue.set(clamped(counts.overdue));
        self.unplaced.set(clamped(counts.unplaced));
        self.frozen.set(clamped(counts.frozen));
        self.breaker.set(i64::from(counts.breaker));
    }
}
