//! What systemd is told of the process (sd_notify(3)): nothing, where there is none. Being told is no condition of anything, so a word
//! that is lost is not an error.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, interval};

use crate::server::Server;

/// It serves; it is the main process of its unit, also where another one was before.
pub(super) fn ready(listening: &str) {
    let status = format!("serving on {listening}");
    let _ = sd_notify::notify(&[
        NotifyState::MainPid(std::process::id()),
        NotifyState::Status(&status),
        NotifyState::Ready,
    ]);
}

/// It reads its configuration again; the same call ends it.
pub(super) fn reloading<T>(reload: impl FnOnce() -> T) -> T {
    // `Type=notify-reload` asks for the time along with it, so that it knows which reload is meant.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
    }
    let done = reload();
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    done
}

/// It drains, and will end.
pub(super) fn stopping(timeout: Duration) {
    let status = format!("draining, for {} s at most", timeout.as_secs());
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

/// Tells systemd that the process lives, as often as it wants to hear it.
pub(super) struct Watchdog {
    tick: Option<Interval>,
    beats: Vec<u64>,
}

impl Watchdog {
    /// As systemd wants it: half of what it waits for (sd_watchdog_enabled(3)).
    pub(super) fn new() -> Self {
        let period = sd_notify::watchdog_enabled().map(|patience| patience / 2).filter(|period| !period.is_zero());
        Self { tick: period.map(interval), beats: Vec::new() }
    }

    /// Waits until it is due; for ever where nobody wants to hear it.
    pub(super) async fn due(&mut self) {
        match &mut self.tick {
            Some(tick) => drop(tick.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Says that the process lives, if every worker has done something since the last time.
    pub(super) fn tell(&mut self, server: &Server) {
        let beats = server.beats();
        let before = std::mem::replace(&mut self.beats, beats);
        let beats = &self.beats;
        let stands_still = before.len() == beats.len() && beats.iter().zip(&before).any(|(now, before)| now == before);
        if stands_still {
            tracing::error!("a worker stands still: systemd is not told that all is well");
        } else {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
