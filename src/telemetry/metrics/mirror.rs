//! What is told of mirrors: how many requests were copied, and why some were not.

use prometheus::{IntCounterVec, Registry};

use super::{MetricsFault, catalogue, counters};

/// The metrics of mirrors.
#[derive(Debug, Clone)]
pub struct MirrorMetrics {
    pub(super) requests: IntCounterVec,
}

impl MirrorMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsFault> {
        Ok(Self { requests: counters(registry, &catalogue::MIRRORED)? })
    }

    /// Counts a request that was to be copied to an upstream, and what became of the copy.
    pub fn copied(&self, upstream: &str, outcome: &'static str) {
        self.requests.with_label_values(&[upstream, outcome]).inc();
    }
}
