//! The task that keeps one issuer's keys fresh: it reads them at once, again before they grow old, soon after a failure,
//! and whenever a request meets a `kid` that it does not know. The last good keys stay until there are better ones.

use std::{sync::Arc, time::Duration};

use super::{
    IdentityObserver, RefreshOutcome,
    key_place::{FILE_POLL, KeyPlace, ReadFault},
    keys::Shelf,
};
use crate::{
    client::Fetcher,
    clock::Clock,
    jose::{JwkSet, PublishedKeys},
    policy::IssuerName,
};

/// How long an attempt may take, metadata and keys together.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long keys are good for when their answer does not say: long enough to spare the provider, short enough for a key
/// that was taken out.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The longest that an answer is believed without asking again.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest time between two scheduled attempts, whatever the answer says.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);
/// How long an answer counts that says not to keep it: it cannot be fetched for every request.
const UNCACHED_LIFETIME: Duration = Duration::from_secs(10);
/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// All that the task needs.
pub(super) struct Refresh {
    pub(super) issuer: IssuerName,
    pub(super) place: KeyPlace,
    pub(super) fetcher: Fetcher,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn IdentityObserver>,
    /// The keys of the gateway's own authority.
    pub(super) own: PublishedKeys,
    pub(super) shelf: Arc<Shelf>,
}

impl Refresh {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut failures = 0;
        let mut last_fault: Option<Arc<str>> = None;
        let mut last_keys = None;
        loop {
            self.shelf.begin();
            let result = match tokio::time::timeout(ATTEMPT_TIMEOUT, self.place.read(&self.fetcher, &self.own)).await {
                Ok(result) => result,
                Err(_) => Err(ReadFault::Timeout),
            };
            let now = self.clock.now();
            let (pause, fault) = match result {
                Ok(reading) => {
                    let lifetime = lifetime(reading.lifetime, &self.place);
                    let changed = last_keys.as_ref() != Some(&reading.set.keys);
                    last_keys = Some(reading.set.keys.clone());
                    self.shelf.publish(reading.set.keys.clone(), now.instant, Some(lifetime));
                    if changed {
                        self.log_keys(&reading.set);
                    }
                    if changed || failures > 0 || !self.is_local() {
                        let (keys, left_aside) = (reading.set.keys.len(), reading.set.left_aside.len());
                        self.observer.refresh(&self.issuer, RefreshOutcome::Refreshed { keys, left_aside });
                    }
                    failures = 0;
                    // Before they grow old, the fetch's own time included, and not when every other gateway does.
                    (lifetime.mul_f64(0.8 + 0.1 * random()), None)
                }
                Err(fault) => {
                    failures += 1;
                    let text: Arc<str> = fault.to_string().into();
                    if last_fault.as_ref() != Some(&text) {
                        tracing::warn!(issuer = %self.issuer, fault = %text, "keys could not be read; the last good ones stay");
                    }
                    self.observer.refresh(&self.issuer, RefreshOutcome::Failed);
                    (self.pause_after(failures), Some(text))
                }
            };
            last_fault.clone_from(&fault);
            self.shelf.end(fault, now.instant.checked_add(pause));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shelf.called() => {}
            }
        }
    }

    fn is_local(&self) -> bool {
        matches!(self.place, KeyPlace::Authority | KeyPlace::File(_))
    }

    fn pause_after(&self, failures: u32) -> Duration {
        if self.is_local() {
            return FILE_POLL;
        }
        let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_PAUSE);
        pause.mul_f64(0.8 + 0.2 * random())
    }

    fn log_keys(&self, set: &JwkSet) {
        tracing::info!(issuer = %self.issuer, keys = set.keys.len(), left_aside = set.left_aside.len(), "keys read");
        for aside in &set.left_aside {
            let kid = aside.kid.as_deref().unwrap_or_default();
            tracing::debug!(issuer = %self.issuer, kid, fault = %aside.fault, "a key of the set is left aside");
        }
    }
}

/// How long an answer is believed.
fn lifetime(said: Option<Duration>, place: &KeyPlace) -> Duration {
    if matches!(place, KeyPlace::Authority | KeyPlace::File(_)) {
        return FILE_POLL;
    }
    match said {
        None => DEFAULT_LIFETIME,
        Some(Duration::ZERO) => UNCACHED_LIFETIME,
        Some(lifetime) => lifetime.clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME),
    }
}

/// A number from 0 to 1; without a source of randomness, the middle.
fn random() -> f64 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX),
        Err(_) => 0.5,
    }
}
