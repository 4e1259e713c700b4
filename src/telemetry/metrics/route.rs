//! The metrics of one route, resolved before requests come: counting one hashes no label and takes no lock.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

/// The classes of methods in labels; a client can invent methods, but no labels.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"];
/// The classes of statuses in labels.
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics of one route. A series is made when it is first counted, so ten thousand quiet routes cost little.
#[derive(Debug)]
pub struct RouteMetrics {
    route: Box<str>,
    requests: IntCounterVec,
    durations: HistogramVec,
    counters: [[OnceLock<IntCounter>; STATUSES.len()]; METHODS.len()],
    duration: OnceLock<Histogram>,
    /// The route has left the configuration: requests that still run make no new series.
    retired: AtomicBool,
}

impl RouteMetrics {
    pub(super) fn new(route: &str, requests: IntCounterVec, durations: HistogramVec) -> Self {
        Self {
            route: route.into(),
            requests,
            durations,
            counters: Default::default(),
            duration: OnceLock::new(),
            retired: AtomicBool::new(false),
        }
    }

    /// Counts an answered request.
    pub fn answered(&self, method: &Method, status: u16, took: Duration) {
        if self.retired.load(Ordering::Relaxed) {
            return;
        }
        let method_class = METHODS.iter().position(|class| *class == method.as_str()).unwrap_or(METHODS.len() - 1);
        let status_class = usize::from(status / 100).clamp(1, STATUSES.len()) - 1;
        let (method, status) = (METHODS.get(method_class), STATUSES.get(status_class));
        let counter = self.counters.get(method_class).and_then(|row| row.get(status_class));
        if let (Some(counter), Some(method), Some(status)) = (counter, method, status) {
            counter.get_or_init(|| self.requests.with_label_values(&[&*self.route, method, status])).inc();
        }
        self.duration.get_or_init(|| self.durations.with_label_values(&[&*self.route])).observe(took.as_secs_f64());
    }

    /// Stops counting for good.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}
