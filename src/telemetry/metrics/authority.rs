//! What the authority, its store and the outbox count. Every label is a member of a closed list or a name of the
//! configuration; `none` stands for a factor that was not recognised.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{BUCKETS, clamped, counter, counters, gauge, gauges, opts};
use crate::telemetry::metrics::catalogue;

/// The metrics of the authority, its store and the outbox.
#[derive(Debug, Clone)]
pub struct AuthorityMetrics {
    ceremonies: IntCounterVec,
    changes: IntCounterVec,
    pub(super) codes_sent: IntCounterVec,
    subjects: IntGauge,
    elevations: IntGauge,
    store_faults: IntCounter,
    store_commits: Histogram,
    pub(super) messages: IntCounterVec,
    pub(super) messages_waiting: IntGaugeVec,
}

impl AuthorityMetrics {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let family = &catalogue::STORE_COMMITS;
        let buckets = HistogramOpts { common_opts: opts(family), buckets: BUCKETS.into() };
        let store_commits = Histogram::with_opts(buckets)?;
        r.register(Box::new(store_commits.clone()))?;
        Ok(Self {
            ceremonies: counters(r, &catalogue::CEREMONIES)?,
            changes: counters(r, &catalogue::AUTHORITY_CHANGES)?,
            codes_sent: counters(r, &catalogue::CODES_SENT)?,
            subjects: gauge(r, &catalogue::AUTHORITY_SUBJECTS)?,
            elevations: gauge(r, &catalogue::AUTHORITY_ELEVATIONS)?,
            store_faults: counter(r, &catalogue::STORE_FAULTS)?,
            store_commits,
            messages: counters(r, &catalogue::MESSAGES)?,
            messages_waiting: gauges(r, &catalogue::MESSAGES_WAITING)?,
        })
    }

    /// Counts a step of a ceremony; all three name members of closed lists.
    pub fn ceremony(&self, factor: Option<&'static str>, occasion: &'static str, outcome: &'static str) {
        self.ceremonies.with_label_values(&[factor.unwrap_or("none"), occasion, outcome]).inc();
    }

    /// Counts a change; it names a member of a closed list.
    pub fn changed(&self, change: &'static str) {
        self.changes.with_label_values(&[change]).inc();
    }

    /// Counts a code that was asked for, and whether it was sent.
    pub fn code_sent(&self, factor: &'static str, allowed: bool) {
        self.codes_sent.with_label_values(&[factor, if allowed { "sent" } else { "limited" }]).inc();
    }

    /// Says how many people have a factor, and how many elevations live.
    pub fn counts(&self, subjects: u64, elevations: u64) {
        self.subjects.set(clamped(subjects));
        self.elevations.set(clamped(elevations));
    }

    /// Counts a call of the store that was not answered.
    pub fn store_fault(&self) {
        self.store_faults.inc();
    }

    /// Notes how long a commit took to be durable.
    pub fn committed(&self, took: Duration) {
        self.store_commits.observe(took.as_secs_f64());
    }

    /// Counts what became of an attempt to deliver a message: `delivered`, `retried`, or why it is lost.
    pub fn message(&self, channel: &str, result: &'static str) {
        self.messages.with_label_values(&[channel, result]).inc();
    }

    /// Says how many messages wait.
    pub fn messages_waiting(&self, channel: &str, count: usize) {
        self.messages_waiting.with_label_values(&[channel]).set(clamped(count));
    }
}
