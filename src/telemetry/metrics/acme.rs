//! What is told of certificates that are ordered. The label is the first name of a certificate's entry in the configuration.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::{MetricsFault, catalogue, counters, gauges};

/// The metrics of certificates that are ordered.
#[derive(Debug, Clone)]
pub struct AcmeMetrics {
    orders: IntCounterVec,
    failing: IntGaugeVec,
}

impl AcmeMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsFault> {
        Ok(Self {
            orders: counters(registry, &catalogue::ACME_ORDERS)?,
            failing: gauges(registry, &catalogue::ACME_FAILING)?,
        })
    }

    /// Begins to count for these certificates, and forgets all others.
    pub fn known(&self, names: &[&str]) {
        let failing: Vec<_> = names.iter().map(|name| (name, self.failing.with_label_values(&[name]).get())).collect();
        self.failing.reset();
        for (name, before) in failing {
            self.failing.with_label_values(&[name]).set(before);
            // What has never happened is 0, so that the first time is seen to be a change.
            for result in ["ok", "failed"] {
                self.orders.with_label_values(&[name, result]);
            }
        }
    }

    /// Counts an order.
    pub fn ordered(&self, name: &str, well: bool) {
        self.orders.with_label_values(&[name, if well { "ok" } else { "failed" }]).inc();
        self.failing.with_label_values(&[name]).set(i64::from(!well));
    }
}
