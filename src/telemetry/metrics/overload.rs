//! What is told of overload: what is in flight, how high the pressure is, what was refused for it.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{MetricsFault, catalogue, clamped, counters, gauge, gauges};

/// The metrics of overload.
#[derive(Debug, Clone)]
pub struct OverloadMetrics {
    refused: IntCounterVec,
    level: IntGaugeVec,
    in_flight: IntGauge,
}

impl OverloadMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsFault> {
        Ok(Self {
            refused: counters(registry, &catalogue::OVERLOAD_REFUSED)?,
            level: gauges(registry, &catalogue::OVERLOAD_LEVEL)?,
            in_flight: gauge(registry, &catalogue::REQUESTS_IN_FLIGHT)?,
        })
    }

    /// Counts a request that was refused so that the rest is answered.
    pub fn refused(&self, why: &'static str, priority: &'static str) {
        self.refused.with_label_values(&[why, priority]).inc();
    }

    /// Says how much of its work a worker refuses.
    pub fn level(&self, worker: usize, level: u8) {
        self.level.with_label_values(&[&*worker.to_string()]).set(i64::from(level));
    }

    /// Says how many requests are in flight.
    pub fn in_flight(&self, requests: u32) {
        self.in_flight.set(clamped(requests));
    }
}
