//! What the sockets report, turned into metrics and events.

use std::{
    error::Error,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    body::Verdict,
    server::{EdgeObserver, Handshake, Refused, TlsError},
    telemetry::{Metrics, metrics::ListenerMetrics},
};

/// Counts what happens to connections.
pub(crate) struct EdgeMetrics {
    metrics: Arc<Metrics>,
}

impl EdgeMetrics {
    /// An observer that counts in `metrics`.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    /// Looked up each time: connections are few beside requests, and a listener that is removed and comes back must not
    /// count in a series that has left with it.
    fn listener(&self, name: &str) -> ListenerMetrics {
        self.metrics.listener(name)
    }
}

impl EdgeObserver for EdgeMetrics {
    fn handshake(&self, listener: &str, outcome: Handshake) {
        self.listener(listener).handshake(match outcome {
            Handshake::Done => "ok",
            Handshake::Failed => "failed",
            Handshake::TimedOut => "timeout",
        });
    }

    fn connection_opened(&self, listener: &str) {
        self.listener(listener).accepted();
    }

    fn connection_closed(&self, listener: &str, verdict: Option<Verdict>) {
        self.listener(listener).closed();
        if let Some(verdict) = verdict {
            tracing::debug!(listener, verdict = ?verdict, "connection ended by the gateway");
        }
    }

    fn connection_refused(&self, listener: &str, why: Refused) {
        self.listener(listener).refused(match why {
            Refused::TooMany => "connections",
            Refused::TooManyFromAddress => "connections_per_ip",
            Refused::ProxyHeader => "proxy_header",
        });
    }

    fn certificate(&self, listener: &str, file: &Path, not_after: SystemTime) {
        let secs = not_after.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let secs = i64::try_from(secs).unwrap_or(i64::MAX);
        self.listener(listener).certificate_not_after(&file.to_string_lossy(), secs);
    }

    fn certificates_reloaded(&self, listener: &str, result: Result<(), &TlsError>) {
        match result {
            Ok(()) => tracing::info!(listener, "certificates reloaded"),
            Err(error) => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                tracing::error!(listener, %error, cause, "certificates not reloaded: the old ones stay in use");
            }
        }
    }
}
